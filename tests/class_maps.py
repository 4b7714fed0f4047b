"""Class maps of tests: how well two of them agree, and invented ones."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter

IGNORE = 255


def agreement(bev: np.ndarray, tile: np.ndarray, where: np.ndarray) -> tuple[float, float, float]:
    """Share of the cells of `where` that are seen (not 255); of those: share of equal class, and share
    whose class the tile has within one pixel, diagonals included.
    """
    seen = (bev != IGNORE) & where
    near = np.zeros(bev.shape, bool)
    for value in np.unique(tile):
        near |= maximum_filter((tile == value).astype(np.uint8), 3).astype(bool) & (bev == value)
    return seen.sum() / where.sum(), (bev == tile)[seen].mean(), near[seen].mean()


def town(size: int, seed: int) -> np.ndarray:
    """(size, size) classes of a made-up town: roads with sidewalks, buildings, gardens, a pond;
    there are roads in its middle."""
    rng = np.random.default_rng([seed, 17])
    labels = np.zeros((size, size), np.uint8)

    def rectangles(count: int, value: int, low: float, high: float) -> None:
        for _ in range(count):
            row, column = rng.integers(0, size, 2)
            height, width = (rng.uniform(low, high, 2) * size).astype(int)
            labels[row : row + height, column : column + width] = value

    rectangles(25, 4, 0.05, 0.15)
    rectangles(2, 5, 0.05, 0.1)
    rectangles(40, 3, 0.04, 0.1)
    for along in range(2):
        for at in rng.uniform(0.05, 0.95, 4) * size:
            turned = labels.T if along else labels
            road = int(0.025 * size)
            turned[max(0, int(at) - road - 3) : int(at) + road + 3] = 2
        for at in np.append(rng.uniform(0.05, 0.95, 2), 0.48) * size:
            turned = labels.T if along else labels
            turned[max(0, int(at) - int(0.025 * size)) : int(at) + int(0.025 * size)] = 1
    return labels
