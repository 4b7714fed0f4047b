"""Batches keep the pairs, and hold no false negatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hloc_ext.datasets.cross_view.layout import CrossViewSet
from hloc_ext.datasets.cross_view.neighbours import near_tiles
from hloc_ext.datasets.cross_view.sampler import NeighbourBatches
from hloc_ext.errors import InputError
from tests.datasets.cross_view.small_sets import made_set


def grid_set(rng: np.random.Generator, side: int, panoramas: int) -> CrossViewSet:
    """Overlapping tiles on a grid; panoramas anywhere, with three semi-positive tiles each."""
    rows, columns = rng.integers(0, side - 1, (2, panoramas))
    tiles = [
        [
            row * side + column,
            row * side + column + 1,
            (row + 1) * side + column,
            (row + 1) * side + column + 1,
        ]
        for row, column in zip(rows, columns, strict=True)
    ]
    chosen = np.array([rng.permutation(four) for four in tiles])
    y, x = np.divmod(np.arange(side**2), side)
    latlon = np.column_stack([40 - 3e-4 * y, -75 + 4e-4 * x])
    return made_set(chosen[:, 0].tolist(), side**2, chosen[:, 1:].tolist(), aerial_latlon=latlon)


def check(pairs: CrossViewSet, batches: np.ndarray, batch_size: int) -> None:
    """At most once, and no tile of a batch shows the place of another one's panorama."""
    assert batches.shape[1] == batch_size and batches.dtype == np.int64
    assert len(np.unique(batches)) == batches.size
    for batch in batches:
        tiles = pairs.positives[batch]
        assert len(np.unique(tiles)) == len(tiles)
        assert not np.isin(tiles, pairs.semi_positives[batch]).any()


@given(seed=st.integers(0, 10**6), mined=st.booleans(), batch_size=st.sampled_from([4, 8, 16]))
@settings(max_examples=30, deadline=None)
def test_no_pair_twice_and_no_false_negative(seed: int, mined: bool, batch_size: int) -> None:
    """Sample4Geo's batches had semi-positive tiles as negatives, and SSA's two panoramas of a tile."""
    rng = np.random.default_rng(seed)
    pairs = grid_set(rng, int(rng.integers(16, 22)), int(rng.integers(60, 200)))
    neighbours = near_tiles(pairs, 20) if mined else None
    batches = NeighbourBatches(pairs, batch_size, neighbours, seed=seed).epoch(int(rng.integers(9)))
    check(pairs, batches, batch_size)
    assert batches.size >= 0.9 * len(pairs) - batch_size


@pytest.mark.parametrize("mined", [True, False])
@pytest.mark.parametrize("kind", ["one to one", "many to one"])
def test_of_all_pairs_hardly_any_is_lost(kind: str, mined: bool) -> None:
    """SSA's sampler kept 640 to 1,920 of 20,000 pairs, or none."""
    rng = np.random.default_rng(2)
    if kind == "one to one":
        latlon = np.column_stack([rng.uniform(39, 40, 3200), rng.uniform(-93, -92, 3200)])
        pairs = made_set([*range(3200)], 3200, aerial_latlon=latlon)
    else:
        pairs = grid_set(rng, 40, 3200)
    sampler = NeighbourBatches(pairs, 32, near_tiles(pairs, 64) if mined else None, seed=3)
    for epoch in range(2):
        batches = sampler.epoch(epoch)
        check(pairs, batches, 32)
        assert batches.size >= 0.99 * len(pairs)
    if kind == "one to one":
        assert len(batches) == len(sampler) == 100


def test_batches_are_of_neighbours() -> None:
    rng = np.random.default_rng(4)
    latlon = np.column_stack([rng.uniform(39, 39.1, 400), rng.uniform(-93, -92.9, 400)])
    pairs = made_set([*range(400)], 400, aerial_latlon=latlon)
    near = near_tiles(pairs, 32)

    def share(batches: np.ndarray) -> float:
        """Of each batch's pairs, those that have one of their eight nearest ones with them."""
        return float(np.mean([np.isin(near[pair, :8], batch).any() for batch in batches for pair in batch]))

    mined = NeighbourBatches(pairs, 16, near, seed=1).epoch(0)
    random = NeighbourBatches(pairs, 16, seed=1).epoch(0)
    assert share(mined) > 0.7 > 0.4 > share(random)


def test_the_head_of_the_list_and_some_of_the_rest_join() -> None:
    pairs = made_set([*range(100)], 100)
    neighbours = np.array([[(pair + step) % 100 for step in range(1, 41)] for pair in range(100)])
    # Only one batch is possible, so that its first pair is the only one that is drawn.
    batch = (
        NeighbourBatches(pairs, 51, np.hstack([neighbours, neighbours + 0]), select=50).epoch(0)[0].tolist()
    )
    first = batch[0]
    assert batch[1:26] == [(first + step) % 100 for step in range(1, 26)]
    steps = [(pair - first) % 100 for pair in batch[26:]]
    assert min(steps) > 25 and steps != sorted(steps)


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    pairs = grid_set(np.random.default_rng(5), 12, 200)
    near = near_tiles(pairs, 16)
    first = NeighbourBatches(pairs, 8, near, seed=1)
    np.testing.assert_array_equal(first.epoch(3), NeighbourBatches(pairs, 8, near, seed=1).epoch(3))
    assert not np.array_equal(first.epoch(3)[:5], first.epoch(4)[:5])
    assert not np.array_equal(first.epoch(3)[:5], NeighbourBatches(pairs, 8, near, seed=2).epoch(3)[:5])


def test_what_cannot_be_sampled() -> None:
    with pytest.raises(InputError, match="Batches of 8 cannot be made of 4 pairs"):
        NeighbourBatches(made_set([0, 1, 2, 3], 4), 8)
    with pytest.raises(InputError, match="3 lists of neighbours for 4 pairs"):
        NeighbourBatches(made_set([0, 1, 2, 3], 4), 2, np.zeros((3, 5), np.int64))
    with pytest.raises(InputError, match="1 photos of nowhere have no tile"):
        NeighbourBatches(made_set([0, -1, 2, 3], 4), 2)
    # All panoramas of one tile: no batch of two is possible.
    assert NeighbourBatches(made_set([0, 0, 0, 0], 1), 2).epoch(0).shape == (0, 2)
