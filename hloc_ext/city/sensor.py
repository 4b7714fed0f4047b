"""From light to a picture: exposure, vignetting, motion blur, noise and tone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .light import Light
from .pyramids import linear_to_srgb


@dataclass(frozen=True)
class Sensor:
    """Imperfections of a camera.

    Attributes:
        shot_noise: standard deviation of the noise of a white pixel, of 1 = white; it goes with the square
            root.
        read_noise: noise of a black pixel.
        vignetting: share of the light that the corners lose.
        sharpness: of the lens: standard deviation of its blur, pixels.
        motion: (x, y) length of the blur in pixels; its middle is the stated pose.
    """

    shot_noise: float = 0.012
    read_noise: float = 0.002
    vignetting: float = 0.15
    sharpness: float = 0.4
    motion: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def by_day(cls, rng: np.random.Generator) -> Sensor:
        """A steady camera in good light."""
        return cls(rng.uniform(0.006, 0.018), rng.uniform(0.001, 0.003), rng.uniform(0.0, 0.25))

    @classmethod
    def by_night(cls, rng: np.random.Generator) -> Sensor:
        """High gain, and a shaken hand."""
        angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 4.0)
        return cls(
            rng.uniform(0.02, 0.05),
            rng.uniform(0.003, 0.008),
            rng.uniform(0.1, 0.3),
            rng.uniform(0.4, 0.7),
            (length * math.cos(angle), length * math.sin(angle)),
        )


def exposure(radiance: npt.NDArray[np.float32], light: Light) -> float:
    """Factor that a camera's exposure meter would choose; at night not all that is missing.

    Args:
        radiance: (H, W, 3) float32, linear.
        light: its `exposure` multiplies the result.
    """
    luminance = radiance.reshape(-1, 3)[::7] @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    middle = math.exp(float(np.mean(np.log(np.maximum(luminance, 1e-4)))))
    if light.is_night:
        return min(0.08 / middle, 12.0) * light.exposure
    bright = float(np.percentile(luminance, 97))
    return min(0.17 / middle, 1.6 / max(bright, 1e-4)) * light.exposure


def develop(
    radiance: npt.NDArray[np.float32],
    light: Light,
    factor: float,
    sensor: Sensor | None,
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """Picture of light.

    Args:
        radiance: (H, W, 3) float32, linear.
        light: its white balance is applied.
        factor: exposure.
        sensor: None draws a picture without noise, blur and vignetting.
        rng: of the noise.

    Returns:
        (H, W, 3) uint8, sRGB.
    """
    picture = radiance * (np.array(light.white_balance, np.float32) * np.float32(factor))
    if sensor is not None:
        height, width = picture.shape[:2]
        picture = np.minimum(picture, 4.0)
        if any(sensor.motion):
            picture = _motion_blur(picture, sensor.motion)
        if sensor.sharpness > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), sensor.sharpness)
        if sensor.vignetting > 0:
            x = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
            y = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
            square = (x[None, :] ** 2 + y[:, None] ** 2) / 0.5
            picture = picture * (1 - sensor.vignetting * square)[..., None]
        noise = rng.standard_normal(picture.shape, np.float32)
        noise *= np.sqrt(sensor.shot_noise**2 * np.maximum(picture, 0) + sensor.read_noise**2)
        picture = picture + noise
    return np.round(_encode(picture) * 255).astype(np.uint8)


def _encode(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Tone curve: linear up to 0.6, then a shoulder that ends at white for 2.5; and sRGB."""
    over = np.maximum(picture - 0.6, 0)
    toned = np.minimum(picture, 0.6) + 0.4 * (1 - np.exp(-over / 0.55))
    return linear_to_srgb(toned)


def _motion_blur(picture: npt.NDArray[np.float32], motion: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Average along a line whose middle is the pixel."""
    length = math.hypot(*motion)
    size = 2 * math.ceil(length / 2) + 3
    kernel = np.zeros((size, size), np.float32)
    steps = np.linspace(-0.5, 0.5, 8 * size)
    for x, y in zip(size // 2 + steps * motion[0], size // 2 + steps * motion[1], strict=True):
        x0, y0 = math.floor(x), math.floor(y)
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            kernel[y0 + dy, x0 + dx] += (1 - abs(x - x0 - dx)) * (1 - abs(y - y0 - dy))
    blurred = cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)
