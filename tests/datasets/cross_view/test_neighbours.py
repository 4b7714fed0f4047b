"""Neighbours are the true ones, on the ground and among descriptors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from hloc_ext.datasets.cross_view.geography import earth_centred
from hloc_ext.datasets.cross_view.neighbours import near_tiles, nearest, similar_tiles
from hloc_ext.errors import InputError
from tests.datasets.cross_view.small_sets import made_set


@given(seed=st.integers(0, 10**6), count=st.integers(2, 40), k=st.integers(1, 12), grid=st.booleans())
@settings(max_examples=60, deadline=None)
def test_nearest_are_truly_nearest(seed: int, count: int, k: int, grid: bool) -> None:
    rng = np.random.default_rng(seed)
    # On a coarse grid many places coincide.
    positions = rng.integers(0, 4, (count, 2)).astype(float) if grid else rng.uniform(0, 1e3, (count, 2))
    found = nearest(positions, k)
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    wanted = min(k, count - 1)
    assert (found[:, wanted:] == -1).all()
    for row in range(count):
        chosen = found[row, :wanted]
        assert len(set(chosen)) == wanted and row not in chosen
        np.testing.assert_allclose(distances[row, chosen], np.sort(distances[row])[:wanted])


def test_unknown_places_have_no_neighbours_and_are_none() -> None:
    positions = np.array([[0.0, 0.0], [np.nan, 0.0], [1.0, 0.0], [5.0, 0.0]])
    assert nearest(positions, 2).tolist() == [[2, 3], [-1, -1], [0, 3], [2, 0]]
    with pytest.raises(InputError, match="No place is known"):
        nearest(np.full((3, 2), np.nan), 1)


def test_neighbours_across_a_continent_are_those_on_the_ellipsoid() -> None:
    """Of Sample4Geo's, which gave degrees to a function of radians, 1.5 % were."""
    rng = np.random.default_rng(1)
    places = np.column_stack([rng.uniform(25, 49, 150), rng.uniform(-124, -67, 150)])
    found = nearest(earth_centred(places), 5)
    geod = Geod(ellps="WGS84")
    for row in range(0, 150, 10):
        here = np.broadcast_to(places[row], places.shape)
        _, _, metres = geod.inv(here[:, 1], here[:, 0], places[:, 1], places[:, 0])
        assert set(np.argsort(metres)[1:6]) == set(found[row])


def test_near_tiles_are_without_those_of_the_panorama() -> None:
    latlon = np.column_stack([np.full(6, 40.0), -75 + 1e-3 * np.arange(6) ** 1.02])
    # Tile 2 is nobody's positive one.
    pairs = made_set([0, 1, 1, 3, 4, 5], 6, [[1], [0], [3], [-1], [5], [-1]], aerial_latlon=latlon)
    found = near_tiles(pairs, 3)
    assert found.tolist() == [[3, 4, 5], [3, 4, 5], [0, 4, 5], [4, 1, 5], [3, 1, 0], [4, 3, 1]]


def test_similar_tiles_keep_panoramas_of_one_tile_apart() -> None:
    """Sample4Geo kept the truth in a dictionary by tile: of several panoramas only the last one had any."""
    aerials = np.eye(4, dtype=np.float32)
    grounds = np.array([[4, 3, 2, 1], [1, 2, 3, 4], [4, 3, 2, 1]], np.float32)
    pairs = made_set([0, 0, 3], 4, [[-1], [-1], [0]])
    # Of the tiles 0 and 3 only: nobody's positive tiles cannot be drawn.
    assert similar_tiles(pairs, grounds, aerials, 2).tolist() == [[3, -1], [3, -1], [-1, -1]]
    pairs = made_set([0, 0, 3, 1, 2], 4, [[-1], [2], [0], [-1], [-1]])
    grounds = np.concatenate([grounds, grounds[:2]])
    assert similar_tiles(pairs, grounds, aerials, 2).tolist() == [[1, 2], [3, 1], [1, 2], [0, 2], [3, 1]]
    with pytest.raises(InputError, match="expected one each"):
        similar_tiles(pairs, grounds[:1], aerials, 2)
