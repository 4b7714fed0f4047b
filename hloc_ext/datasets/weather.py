"""Fog, rain and snow in front of a picture, (H, W) float32 in [0, 1]; none of them moves a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float32]


def smooth_field(shape: tuple[int, ...], rng: np.random.Generator, knots: int) -> Grey:
    """Smooth random numbers of mean 0 and standard deviation 1.

    Args:
        shape: (height, width) of the field.
        rng: source of the numbers.
        knots: how many it goes through along each side.
    """
    values = rng.standard_normal((knots, knots), np.float32)
    values = (values - values.mean()) / max(float(values.std()), 1e-3)
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def for_each_color(field: Grey, picture: Grey) -> Grey:
    """A field (H, W) in the form to be multiplied with a picture, (H, W) or (H, W, 3)."""
    return field if picture.ndim == 2 else field[..., None]


def add_fog(picture: Grey, rng: np.random.Generator, strength: float) -> Grey:
    """Light scattered in front of the scene, more of it at the top, where things are far.

    Args:
        picture: (H, W), or (H, W, 3); fog has no colour.
        rng: source of the brightness and density of the fog.
        strength: share of the light of the scene that it hides in the middle, 0 to 1.
    """
    height = picture.shape[0]
    far = np.linspace(1.6, 0.4, height, dtype=np.float32)[:, None]
    depth = far + np.float32(0.25) * smooth_field(picture.shape, rng, 4)
    density = -np.log(max(1 - strength, 0.05))
    seen = np.asarray(cv2.exp(np.float32(-density) * np.maximum(depth, 0)), np.float32)
    air = np.float32(rng.uniform(0.55, 0.95))
    return air + for_each_color(seen, picture) * (picture - air)


def add_rain(picture: Grey, rng: np.random.Generator, strength: float) -> Grey:
    """Bright streaks of one direction, and a little haze.

    Args:
        picture: (H, W).
        rng: source of the drops.
        strength: 0 to 1: more and brighter streaks.
    """
    height, width = picture.shape
    count = int(strength * rng.uniform(100, 300))
    length = min(height, width) * rng.uniform(0.03, 0.12)
    slant = rng.normal(0, 0.25)
    starts = rng.uniform(-0.1, 1, (count, 2)) * (width, height)
    lengths = length * rng.uniform(0.6, 1.4, (count, 1))
    ends = starts + lengths * np.array([np.sin(slant), np.cos(slant)])
    streaks = np.zeros(picture.shape, np.uint8)
    lines = np.round(np.stack([starts, ends], 1) * 16).astype(np.int32)
    cv2.polylines(streaks, list(lines), False, 255, 1, cv2.LINE_AA, 4)
    veil = np.float32(rng.uniform(0.2, 0.6) / 255) * streaks
    hazy = picture + np.float32(0.3 * strength) * (np.float32(0.6) - picture)
    return hazy + veil * (1 - hazy)


def add_snow(picture: Grey, rng: np.random.Generator, strength: float) -> Grey:
    """Flakes of several sizes in the air, a little blurred.

    Args:
        picture: (H, W).
        rng: source of the flakes.
        strength: 0 to 1: more flakes.
    """
    height, width = picture.shape
    flakes = np.zeros(picture.shape, np.uint8)
    unit = min(height, width) / 256
    for radius in (0.8, 1.5, 2.6):
        count = int(strength * rng.uniform(40, 160) / radius)
        for x, y in (rng.uniform(0, 1, (count, 2)) * (width, height) * 16).astype(int).tolist():
            cv2.circle(flakes, (x, y), int(16 * radius * unit), 255, -1, cv2.LINE_AA, 4)
    veil = np.asarray(cv2.GaussianBlur(flakes, (0, 0), 0.8 * unit)).astype(np.float32)
    veil *= np.float32(rng.uniform(0.5, 0.95) / 255)
    return picture + veil * (1 - picture)
