"""Which tiles are hard to tell from the right one: those near it, and those that look like it.

Sample4Geo (Deuser et al., ICCV 2023) learns from batches of neighbours: first of places on the ground, later
of the descriptors that the network has learnt so far ("dynamic similarity sampling").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from ...errors import InputError
from ...search import Restriction, top_k
from .geography import earth_centred
from .layout import CrossViewSet

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def nearest(positions: Floats, k: int) -> Indices:
    """The `k` places nearest to each place, by a KD-tree.

    Args:
        positions: (N, D) metres, NaN unknown.
        k: number of neighbours.

    Returns:
        (N, k) numbers of places, the nearest first, never the place itself; −1 where there are fewer, and for
        places that are unknown.

    Raises:
        InputError: `k` is less than 1, or no place is known.
    """
    if k < 1:
        raise InputError(f"The number of neighbours must be at least 1, got {k}.")
    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    if not len(known):
        raise InputError("No place is known: without positions there are no neighbours on the ground.")
    found = np.full((len(positions), k), -1, np.int64)
    wanted = min(k + 1, len(known))
    _, rows = cKDTree(positions[known]).query(positions[known], k=[*range(1, wanted + 1)])
    itself = rows == np.arange(len(known))[:, None]
    # Among more than k places at one point the place itself may not be found: then the last one goes.
    itself[~itself.any(axis=1), -1] = True
    others = rows[~itself].reshape(len(known), wanted - 1)
    found[known, : wanted - 1] = known[others]
    return found


def similar(
    queries: npt.NDArray[np.float32],
    references: npt.NDArray[np.float32],
    k: int,
    exclude: Indices,
) -> Indices:
    """The `k` references with the largest dot product for each query, in blocks of bounded memory.

    Args:
        queries: (Q, D) descriptors.
        references: (R, D) descriptors.
        k: number of references.
        exclude: (Q, E) references that are not wanted, −1 for none.

    Returns:
        (Q, k) numbers of references, best first, −1 where there are fewer.
    """
    found, _ = top_k(queries, references, min(k, len(references)), restriction=Restriction(excluded=exclude))
    padded = np.full((len(queries), k), -1, np.int64)
    padded[:, : found.shape[1]] = found
    return padded


def near_tiles(pairs: CrossViewSet, k: int) -> Indices:
    """The `k` tiles nearest to that of each panorama, among the positive tiles of panoramas.

    Args:
        pairs: of training.
        k: number of tiles.

    Returns:
        (N, k) numbers of tiles, the nearest first; without the panorama's own and its semi-positive ones; −1
        where there are fewer.

    Raises:
        InputError: no place is known.
    """
    tiles = used_tiles(pairs)
    spare = pairs.semi_positives.shape[1]
    neighbours = nearest(earth_centred(pairs.aerial_latlon[tiles]), k + spare)
    place = np.full(len(pairs.aerials), -1, np.int64)
    place[tiles] = np.arange(len(tiles))
    rows = neighbours[place[pairs.positives]]
    return _without(np.where(rows >= 0, tiles[rows], -1), pairs.semi_positives)[:, :k]


def similar_tiles(
    pairs: CrossViewSet,
    grounds: npt.NDArray[np.float32],
    aerials: npt.NDArray[np.float32],
    k: int,
) -> Indices:
    """The `k` tiles that look most like each panorama, among the positive tiles of panoramas.

    Args:
        pairs: of training.
        grounds: (N, D) descriptors of the panoramas.
        aerials: (M, D) descriptors of the tiles.
        k: number of tiles.

    Returns:
        As :func:`near_tiles`, the most similar first.

    Raises:
        InputError: another number of descriptors.
    """
    if len(grounds) != len(pairs.grounds) or len(aerials) != len(pairs.aerials):
        raise InputError(
            f"{len(grounds)} and {len(aerials)} descriptors for {len(pairs.grounds)} panoramas and"
            f" {len(pairs.aerials)} tiles: expected one each."
        )
    tiles = used_tiles(pairs)
    place = np.full(len(pairs.aerials) + 1, -1, np.int64)  # the last entry is that of −1
    place[tiles] = np.arange(len(tiles))
    own = place[np.column_stack([pairs.positives, pairs.semi_positives])]
    rows = similar(grounds, aerials[tiles], k, own)
    return np.where(rows >= 0, tiles[rows], -1)


def used_tiles(pairs: CrossViewSet) -> Indices:
    """Numbers of the tiles that are the positive one of a panorama, sorted."""
    if (pairs.positives < 0).any():
        raise InputError(
            f"{int((pairs.positives < 0).sum())} photos of {pairs.root} have no tile: train with the split"
            " 'train', which leaves them out."
        )
    return np.unique(pairs.positives)


def _without(rows: Indices, excluded: Indices) -> Indices:
    """Rows without the entries of `excluded`, of the same length, with −1 at the end."""
    dropped = (rows[:, :, None] == excluded[:, None, :]).any(axis=2) | (rows < 0)
    order = np.argsort(dropped, axis=1, kind="stable")
    return np.take_along_axis(np.where(dropped, -1, rows), order, axis=1)
