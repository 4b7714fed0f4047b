"""Places in metres, compared with PROJ and with distances on the ellipsoid."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod, Transformer

from hloc_ext.datasets.cross_view.geography import (
    OWN_ZONES,
    earth_centred,
    latlon_of_mercator,
    latlon_of_utm,
    mercator,
    utm,
    web_pixel_size,
)
from hloc_ext.errors import InputError


@pytest.mark.parametrize(("latitude", "longitude", "epsg"), [(39.0, -93.2, 32615), (-35.3, 149.1, 32755)])
def test_utm_is_that_of_proj(latitude: float, longitude: float, epsg: int) -> None:
    rng = np.random.default_rng(0)
    places = np.array([latitude, longitude]) + rng.uniform(-0.3, 0.3, (20, 2))
    places[3] = np.nan
    positions, crs = utm(places)
    assert crs == f"EPSG:{epsg}"
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(places[:, 1], places[:, 0])
    known = np.arange(20) != 3
    np.testing.assert_allclose(positions[known], np.column_stack([x, y])[known], atol=1e-3)
    assert np.isnan(positions[3]).all()
    back = latlon_of_utm(positions[known], epsg % 100, epsg < 32700)
    np.testing.assert_allclose(back, places[known], atol=1e-9)


def test_places_of_a_continent_are_in_their_own_zones() -> None:
    positions, crs = utm(np.array([[41.85, -87.6], [40.75, -74.0], [np.nan, np.nan], [47.6, -122.3]]))
    assert crs == OWN_ZONES
    for row, (zone, place) in {
        0: (16, (41.85, -87.6)),
        1: (18, (40.75, -74.0)),
        3: (10, (47.6, -122.3)),
    }.items():
        transformer = Transformer.from_crs("EPSG:4326", f"EPSG:326{zone}", always_xy=True)
        np.testing.assert_allclose(positions[row], transformer.transform(place[1], place[0]), atol=1e-3)


def test_distances_do_not_depend_on_degrees() -> None:
    """Sample4Geo gave degrees to a haversine of radians: places 2π degrees apart fell onto each other."""
    places = np.array([[40.0, -75.0], [40.0, -75.0 - np.degrees(2 * np.pi) / 57.29577951], [40.0, -75.01]])
    x, y, z = earth_centred(places)
    _, _, truth = Geod(ellps="WGS84").inv(-75.0, 40.0, -75.01, 40.0)
    assert abs(np.linalg.norm(x - z) - truth) < 0.01
    assert np.linalg.norm(x - y) > 80_000


def test_mercator_is_that_of_proj() -> None:
    places = np.array([[39.0, -93.0], [-35.3, 149.1]])
    points = mercator(places)
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(
        places[:, 1], places[:, 0]
    )
    np.testing.assert_allclose(points, np.column_stack([x, y]), atol=1e-3)
    np.testing.assert_allclose(latlon_of_mercator(points), places, atol=1e-12)
    assert web_pixel_size(0.0, 0) == pytest.approx(156543.03392)


def test_swapped_degrees_are_an_error() -> None:
    with pytest.raises(InputError, match=r"Place 1 has latitude -93"):
        utm(np.array([[39.0, -93.0], [-93.0, 39.0]]))
