"""What is laid over everything: weathering, and the clouds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .noise import cracks, fractal, patches, specks, step, wrapped_blur


def weathering(rng: np.random.Generator, side: int = 2048) -> npt.NDArray[np.uint8]:
    """Blotches at all scales, streaks, specks, stains with sharp edges and cracks around 128; tileable.

    Returns:
        (side, side) uint8; made for about 2 cm per pixel.
    """
    shape = (side, side)
    field = 1.0 * fractal(rng, shape, 1.0)
    blotches = fractal(rng, shape, 1.3)
    for level, sign in ((0.9, -1.0), (-1.1, 0.7)):
        edge = (blotches - level) * np.sign(level)
        field += sign * (0.55 * step(edge, 0, 0.05) + 0.5 * np.exp(-((edge / 0.03) ** 2)))
    small = fractal(rng, shape, 1.0, longest=70)
    field -= 0.9 * patches(small, 0.07, 0.1)
    field += 0.8 * patches(-small, 0.05, 0.08)
    streaks = fractal(rng, shape, 0.8, longest=60, stretch=(1, 9))
    where = patches(fractal(rng, shape, 1.2), 0.35, 0.4)
    field -= 0.55 * where * step(streaks, 0.3, 2.0)
    field -= 1.3 * specks(rng, shape, 9000, (0.6, 3.2))
    field += 1.0 * specks(rng, shape, 5000, (0.6, 2.4))
    field -= 0.9 * cracks(rng, shape, 70, 160)
    field += 0.3 * fractal(rng, shape, 0.2)
    local = wrapped_blur(field, 40)
    spread = np.sqrt(wrapped_blur((field - local) ** 2, 60))
    field = 0.55 * (local - local.mean()) + (field - local) / (0.35 + 0.65 * spread / spread.mean())
    field = 128 + 21 * (field - field.mean()) / field.std()
    field = np.clip(field, 40, 205)
    return np.rint(np.clip(field + 128 - field.mean(), 0, 255)).astype(np.uint8)


def clouds(rng: np.random.Generator, side: int = 1024) -> npt.NDArray[np.uint8]:
    """Cover of the sky by cumulus-like clouds; tileable.

    Returns:
        (side, side) uint8: 0 blue to 255 cloud.
    """
    shape = (side, side)
    large = fractal(rng, shape, 1.6, longest=420)
    billows = -np.abs(fractal(rng, shape, 1.3, longest=200)) - 0.5 * np.abs(
        fractal(rng, shape, 1.2, longest=80)
    )
    billows -= billows.mean()
    cover = large + 0.45 * billows + 0.08 * fractal(rng, shape, 1.2)
    cover = 0.45 + 0.3 * (cover - cover.mean()) / cover.std()
    return np.rint(255 * np.clip(cover, 0, 1)).astype(np.uint8)
