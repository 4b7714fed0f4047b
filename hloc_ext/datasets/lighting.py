"""Other light on a picture: uneven, with shadows, or at night.

Pictures are (H, W) float32 in [0, 1]; shade and shadows do for (H, W, 3) as well.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .weather import for_each_color, smooth_field

Grey = npt.NDArray[np.float32]
Range = tuple[float, float]


def shade(picture: Grey, rng: np.random.Generator, strength: float) -> Grey:
    """Smoothly uneven light; `strength` is the standard deviation of its logarithm."""
    field = smooth_field(picture.shape, rng, int(rng.integers(2, 6)))
    light = np.asarray(cv2.exp(np.float32(strength) * field), np.float32)
    return np.minimum(picture * for_each_color(light, picture), np.float32(1))


def cast_shadow(picture: Grey, rng: np.random.Generator, depth: float) -> Grey:
    """One to three shadows with straight, sharp edges; `depth` is the share of the light that they take."""
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        corners = rng.uniform(-0.3, 1.3, (int(rng.integers(3, 5)), 2)) * (width, height)
        cv2.fillPoly(mask, [cv2.convexHull(corners.astype(np.int32))], 255, lineType=cv2.LINE_AA)
    return picture * for_each_color(1 - np.float32(depth / 255) * mask, picture)


def make_night(picture: Grey, rng: np.random.Generator, brightness: Range = (0.08, 0.3)) -> Grey:
    """Night: little light but that of lamps, windows lit, the sky dark; auto-exposed.

    Args:
        picture: by day.
        rng: source of the lamps and windows.
        brightness: range of the mean, before lamps and windows themselves are added.
    """
    height, width = picture.shape
    small = (max(width // 4, 4), max(height // 4, 4))
    # Large bright areas are sky, or lit by it.
    coarse = cv2.blur(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), (5, 5))
    sky = np.clip((coarse - 0.55) / 0.3, 0, 1) * rng.uniform(0.3, 1.0)
    light = rng.uniform(0.1, 0.6) * (1 - 0.9 * sky)
    glare = np.zeros_like(light)
    rows, columns = np.mgrid[: small[1], : small[0]].astype(np.float32)
    for _ in range(int(rng.integers(1, 7))):
        x, y = rng.uniform(0, 1, 2) * small
        distance = (columns - x) ** 2 + (rows - y) ** 2
        reach = min(small) * rng.uniform(0.08, 0.45)
        light += rng.uniform(0.3, 1.2) / (1 + distance / reach**2)
        if rng.random() < 0.6:
            bulb = min(small) * rng.uniform(0.008, 0.03)
            glare += np.exp(-distance / (2 * bulb**2)) + 0.15 / (1 + distance / (4 * bulb) ** 2)
    night = picture * cv2.resize(light.astype(np.float32), (width, height))
    night *= np.float32(rng.uniform(*brightness) / max(float(night.mean()), 1e-3))
    light_windows(night, picture, rng)
    night = np.asarray(cv2.pow(np.minimum(night, 1), float(rng.uniform(0.8, 1.25))))
    return np.minimum(night + cv2.resize(glare.astype(np.float32), (width, height)), np.float32(1))


def light_windows(night: Grey, day: Grey, rng: np.random.Generator) -> None:
    """Light what was dark by day in up to a dozen small boxes, as windows are; changes `night`."""
    height, width = day.shape
    for _ in range(int(rng.integers(0, 13))):
        h, w = (rng.uniform(0.02, 0.1, 2) * min(height, width)).astype(int) + 2
        y, x = int(rng.integers(0, max(height - h, 1))), int(rng.integers(0, max(width - w, 1)))
        box = day[y : y + h, x : x + w]
        darkest, middle = float(box.min()), float(box.mean())
        if middle < 0.5 and middle - darkest > 0.04:
            lit = np.clip((middle - box) / (middle - darkest), 0, 1)
            night[y : y + h, x : x + w] += np.float32(rng.uniform(0.2, 1.0)) * lit
