"""Keypoints from semi-dense matches, by HLOC's rules, on whole arrays.

A semi-dense matcher returns other positions for every pair. Per image, the positions of all its pairs
are rounded to cells, at most one keypoint per cell, and inside a cell to bins; the bin with the largest
sum of match scores becomes the keypoint of the cell, the cells with the largest sums are kept. Each match
is then attached to the nearest keypoint of either image.

All positions are pixels of the original image, with the centre of the top-left pixel at (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Observations:
    """Positions that one pair contributes to an image.

    Attributes:
        keypoints: M×2 float32, pixels.
        scores: M, at least 0.
        cell_size: side of the cells, pixels; 0 makes every distinct position a cell of its own.
        bin_size: side of the bins, pixels; 0 makes every distinct position a bin of its own.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    cell_size: float
    bin_size: float


def cell_and_bin_size(max_error: float, cell_size: float | None) -> tuple[float, float]:
    """Sides of cells and bins in pixels, from the ``max_error`` and ``cell_size`` of a configuration."""
    return max(max_error if cell_size is None else cell_size, max_error), int(max_error)


def quantize(keypoints: np.ndarray, size: float) -> np.ndarray:
    """Centre of the square of side `size` that holds each position, in float32 as in HLOC.

    Args:
        keypoints: N×2, pixels.
        size: pixels; positions are returned unchanged where it is 0.

    Returns:
        N×2 float32, rounded to a hundredth of a pixel.
    """
    keypoints = np.asarray(keypoints, np.float32)
    if size > 0:
        keypoints = np.round(np.round((keypoints + 0.5) / size) * size - 0.5, 2).astype(np.float32)
    return keypoints + np.float32(0)  # −0 becomes 0, so that equal positions have equal bits


def _to_keys(positions: np.ndarray) -> np.ndarray:
    """One int64 per float32 position; equal positions have equal keys."""
    return np.ascontiguousarray(positions).view(np.int64)[:, 0]


def aggregate(
    observations: Sequence[Observations], max_keypoints: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of one image from the matches of all its pairs.

    The bin with the largest sum of scores represents its cell; among equal sums the bin that is observed
    first. With `max_keypoints` the cells come in order of decreasing score, equal scores in the order in
    which the cells are observed; without it in the order in which they are observed.

    Args:
        observations: of each pair, in a fixed order.
        max_keypoints: keep the best ones; None or 0 keeps all.

    Returns:
        Keypoints N×2 float32, pixels, and scores N float32 (sums of match scores).
    """
    cells = [_to_keys(quantize(o.keypoints, o.cell_size)) for o in observations if len(o.keypoints)]
    if not cells:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
    bins = [_to_keys(quantize(o.keypoints, o.bin_size)) for o in observations if len(o.keypoints)]
    cell, bin_ = np.concatenate(cells), np.concatenate(bins)
    scores = np.concatenate([np.asarray(o.scores, np.float64) for o in observations if len(o.keypoints)])

    # Groups of equal (cell, bin). Sorting one key of two ranks is much faster than a sort by two keys.
    _, cell = np.unique(cell, return_inverse=True)
    positions, bin_ = np.unique(bin_, return_inverse=True)
    group = cell * len(positions) + bin_
    order = np.argsort(group)
    group = group[order]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    sums = np.add.reduceat(scores[order], starts)  # sums of float32 are exact here, whatever the order
    first = np.minimum.reduceat(order, starts)
    cell, bin_ = np.divmod(group[starts], len(positions))

    # The best group of each cell: the largest sum, then the first observation.
    cell_starts = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]])
    is_best = sums == np.maximum.reduceat(sums, cell_starts)[cell]
    first_best = np.minimum.reduceat(np.where(is_best, first, len(scores)), cell_starts)
    best = np.flatnonzero(first == first_best[cell])

    cell_first = np.minimum.reduceat(first, cell_starts)
    rank = np.lexsort((cell_first, -sums[best]))[:max_keypoints] if max_keypoints else np.argsort(cell_first)
    chosen = best[rank]
    keypoints = positions[bin_[chosen]].view(np.float32).reshape(-1, 2)
    return keypoints, sums[chosen].astype(np.float32)


def nearest_keypoints(tree: cKDTree, positions: np.ndarray, max_error: float) -> np.ndarray:
    """Index of the nearest keypoint of each position, or −1 beyond `max_error` pixels.

    Args:
        tree: of the keypoints of an image.
        positions: M×2, pixels.
        max_error: largest distance, inclusive, pixels.

    Returns:
        M int64.
    """
    if tree.n == 0 or len(positions) == 0:
        return np.full(len(positions), -1)
    # The bound excludes its own value and only prunes the search.
    distance, index = tree.query(positions, distance_upper_bound=max_error * (1 + 1e-6) + 1e-6)
    return np.where(distance <= max_error, index, -1)


def _best_of_each(index: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Mask of the entry with the largest score for each value of `index`; the first among equals."""
    best = np.zeros(len(index), bool)
    if len(index):
        order = np.lexsort((-scores, index))
        is_first = np.r_[True, index[order][1:] != index[order][:-1]]
        best[order[is_first]] = True
    return best


def assign(
    index0: np.ndarray, index1: np.ndarray, scores: np.ndarray, num_keypoints0: int
) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one matches between keypoints from matches between positions.

    A match is kept if it has the largest score among those of its keypoint in both images; the first of
    equal scores.

    Args:
        index0, index1: M keypoint indices of the two ends, −1 for none.
        scores: M.
        num_keypoints0: number of keypoints of image 0.

    Returns:
        ``matches0`` int32 and ``matching_scores0`` float16, one per keypoint of image 0.
    """
    valid = (index0 >= 0) & (index1 >= 0)
    index0, index1, scores = index0[valid], index1[valid], scores[valid]
    keep = _best_of_each(index0, scores) & _best_of_each(index1, scores)
    matches0 = np.full(num_keypoints0, -1, np.int32)
    matching_scores0 = np.zeros(num_keypoints0, np.float16)
    matches0[index0[keep]] = index1[keep]
    matching_scores0[index0[keep]] = scores[keep]
    return matches0, matching_scores0
