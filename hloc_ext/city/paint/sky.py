"""What is laid over everything: weathering, and the clouds."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .noise import Field, cracks, fractal, patches, specks, step, wrapped_blur


def weathering(rng: np.random.Generator, side: int = 2048) -> npt.NDArray[np.uint8]:
    """Blotches at all scales, streaks, specks, stains with sharp edges and cracks around 128; tileable.

    Returns:
        (side, side) uint8; made for about 2 cm per pixel.
    """
    shape = (side, side)
    field = 0.55 * fractal(rng, shape, 1.15) + 0.16 * fractal(rng, shape, 0.3)
    field += _stains(rng, shape)
    streaks = fractal(rng, shape, 1.0, longest=70, shortest=2, stretch=(1, 10))
    where = patches(_smooth(rng, shape, 1.3, 500), 0.3, 0.3)
    field -= 0.75 * where * step(streaks, 0.2, 1.8)
    field -= 1.3 * specks(rng, shape, 3500, (0.5, 2.3)) * np.clip(0.6 + field, 0, 1.4)
    field += 0.9 * specks(rng, shape, 1500, (0.5, 1.9))
    field -= 0.75 * cracks(rng, shape, 50, 150)
    local = wrapped_blur(field, 45)
    spread = np.sqrt(wrapped_blur((field - local) ** 2, 60))
    field = 0.75 * (local - local.mean()) + (field - local) / (0.4 + 0.6 * spread / spread.mean())
    field = 128 + 21 * (field - field.mean()) / field.std()
    field = np.clip(field, 40, 200)
    return np.rint(np.clip(field + 128 - field.mean(), 0, 255)).astype(np.uint8)


def _smooth(rng: np.random.Generator, shape: tuple[int, int], slope: float, longest: float) -> Field:
    """Tileable noise without the finest detail: made at half the size."""
    half = fractal(rng, (shape[0] // 2, shape[1] // 2), slope, longest=longest / 2, shortest=1)
    padded = cv2.copyMakeBorder(half, 4, 4, 4, 4, cv2.BORDER_WRAP)
    large = cv2.resize(padded, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)[8:-8, 8:-8]


def _stains(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Stains with sharp edges, some darker at the rim as where water has dried, at three scales; around 0."""
    field = np.zeros(shape, np.float32)
    for longest, amount, edge in ((700, 0.5, 0.02), (220, 0.55, 0.03), (70, 0.7, 0.06)):
        noise = _smooth(rng, shape, 1.4, longest)
        high, low = (float(np.quantile(noise[::8, ::8], q)) for q in (0.86, 0.12))
        field -= amount * (
            0.8 * step(noise, high, high + edge) + 0.7 * np.exp(-(((noise - high) / (1.5 * edge)) ** 2))
        )
        field += 0.8 * amount * step(-noise, -low, -low + edge)
    return field


def clouds(rng: np.random.Generator, side: int = 1024) -> npt.NDArray[np.uint8]:
    """Cover of the sky by cumulus-like clouds; tileable.

    Returns:
        (side, side) uint8: 0 blue to 255 cloud.
    """
    shape = (side, side)
    large = fractal(rng, shape, 1.7, longest=360)
    billows = np.abs(fractal(rng, shape, 1.8, longest=200)) + 0.45 * np.abs(
        fractal(rng, shape, 1.8, longest=70)
    )
    billows = (billows - billows.mean()) / billows.std()
    cover = large + 0.42 * billows + 0.05 * fractal(rng, shape, 1.3)
    cover = (cover - cover.mean()) / cover.std()
    cover = 0.42 + 0.27 * cover
    return np.rint(255 * np.clip(cover, 0, 1)).astype(np.uint8)
