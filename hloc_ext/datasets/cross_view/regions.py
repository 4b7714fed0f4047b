"""Division of training pairs into training and validation by region."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ...errors import InputError

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


#: Tiles are taken to be so much wider, because those of a map projection are not quite squares.
MARGIN = 1.01


def hold_out(
    tiles: Floats, widths: Floats, groups: Indices, share: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Hold the pairs of a corner of each group out for validation, and leave out those that overlap them.

    A corner is the part of a group with the smallest of max(rank by x, rank by y), or the same with one or
    both axes turned. Of the four the one is taken that leaves the most pairs for training.

    Args:
        tiles: (N, T, 2) centres of the tiles that belong to each of N panoramas, the positive one first, NaN
            for none; in coordinates along the sides of the tiles.
        widths: (N,) of the tiles, same unit.
        groups: (N,) a corner of each is held out.
        share: of each group that is held out, at least one pair.

    Returns:
        (N,) held out; (N,) for training: the positive tile overlaps no tile of those held out.

    Raises:
        InputError: a place is unknown, or nothing is left.
    """
    known = np.isfinite(tiles[:, 0]).all(axis=1) & np.isfinite(widths)
    if not known.all():
        raise InputError(
            f"{int((~known).sum())} of {len(known)} pairs have no position, by which pairs are held out for"
            " validation: complete the positions, or train with all pairs (val_share=0)."
        )
    held = np.zeros(len(tiles), bool)
    stays = np.ones(len(tiles), bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        if len(rows) < 2:
            continue
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        options = [
            _corner(tiles[rows], widths[rows], count, np.array(signs))
            for signs in itertools.product((1, -1), (1, -1))
        ]
        held[rows], stays[rows] = max(options, key=lambda option: int(option[1].sum()))
    if not held.any() or not stays.any():
        raise InputError(
            f"{len(tiles)} training pairs are too few, or too close to each other, to hold {share:.0%} of"
            " them out for validation: use a larger data set, or train with all pairs (val_share=0)."
        )
    return held, stays


def _corner(
    tiles: Floats, widths: Floats, count: int, signs: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The `count` pairs nearest to a corner, and those that overlap none of them."""
    centers = tiles[:, 0]
    ranks = np.argsort(np.argsort(centers * signs, axis=0, kind="stable"), axis=0, kind="stable")
    held = np.zeros(len(tiles), bool)
    held[np.argsort(ranks.max(axis=1), kind="stable")[:count]] = True
    taken = tiles[held].reshape(-1, 2)
    taken = taken[np.isfinite(taken).all(axis=1)]
    gap, _ = cKDTree(taken).query(centers, p=np.inf)
    least = MARGIN * np.maximum(widths, widths[held].max())
    return held, ~held & (gap >= least)
