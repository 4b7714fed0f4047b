"""Coordinate reference systems: zones, points there and back, and what goes around the Earth."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hloc_ext.errors import InputError
from hloc_ext.gis.crs import WGS84, parse_crs, period, transform_points, unwrap, utm_crs, working_crs
from hloc_ext.gis.grid import crs_name

MERCATOR = pyproj.CRS.from_epsg(3857)


@pytest.mark.parametrize(
    ("longitude", "latitude", "epsg"),
    [
        (24.7, 59.4, 32635),
        (24.7, -59.4, 32735),
        (179.999, 1, 32660),
        (180.001, 1, 32601),
        (-180, -17, 32701),
        (10, 85, 5041),
        (10, -85, 5042),
    ],
)
def test_zones(longitude: float, latitude: float, epsg: int) -> None:
    assert utm_crs(longitude, latitude) == pyproj.CRS.from_epsg(epsg)
    with pytest.raises(InputError, match="not a place"):
        utm_crs(longitude, 91)


def test_the_crs_to_work_in() -> None:
    nad83 = pyproj.CRS.from_epsg(26914)
    assert working_crs(nad83, [621_000, 3_349_000]) == nad83
    assert working_crs(WGS84, [30.001, 58]) == pyproj.CRS.from_epsg(32636)
    assert working_crs(WGS84, [180.001, -17]) == pyproj.CRS.from_epsg(32701)
    # Over the border of its zone an image stays in it, far beyond it does not; feet are no metres.
    utm = pyproj.CRS.from_epsg(32635)
    for longitude, epsg in ((31.0, 32635), (39.0, 32637)):
        center = transform_points(WGS84, utm, [[longitude, 58]])[0]
        assert working_crs(utm, center) == pyproj.CRS.from_epsg(epsg)
    feet = pyproj.CRS.from_epsg(2277)
    center = transform_points(WGS84, feet, [[-97.7, 30.3]])[0]
    assert working_crs(feet, center) == pyproj.CRS.from_epsg(32614)
    with pytest.raises(InputError, match="outside"):
        working_crs(MERCATOR, [np.inf, 0])


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([4326, 3857, 4269, 25832, 2277]), st.floats(-2.9, 2.9), st.floats(-70, 70))
def test_points_there_and_back(epsg: int, longitude: float, latitude: float) -> None:
    crs = pyproj.CRS.from_epsg(epsg)
    utm = utm_crs(9 + longitude, latitude)
    metres = transform_points(WGS84, utm, [[9 + longitude, latitude]])
    back = transform_points(crs, utm, transform_points(utm, crs, metres))
    if np.isfinite(back).all():  # 2277 ends long before Europe
        np.testing.assert_allclose(back, metres, atol=1e-6)


def test_what_has_no_place_is_infinite() -> None:
    points = transform_points(WGS84, MERCATOR, np.array([[0, 0], [np.inf, 3], [0, 95]]))
    assert np.isfinite(points[0]).all() and np.isinf(points[1:]).all()


def test_full_circles() -> None:
    assert period(WGS84) == pytest.approx(360)
    assert period(MERCATOR) == pytest.approx(2 * np.pi * 6378137)
    assert period(pyproj.CRS.from_epsg(3832)) == pytest.approx(2 * np.pi * 6378137, rel=1e-9)
    assert period(utm_crs(0, 0)) is None
    np.testing.assert_allclose(unwrap([-179.5, 170, 10], 179.9, WGS84), [180.5, 170, 10])
    np.testing.assert_allclose(unwrap([-179.5], 179.9, None), [-179.5])


def test_descriptions_of_crss() -> None:
    assert parse_crs("EPSG:4326", "a") == WGS84
    assert parse_crs(4979, "a").is_geographic
    compound = parse_crs("EPSG:32635+5773", "a")
    assert compound == pyproj.CRS.from_epsg(32635) and crs_name(compound) == "EPSG:32635"
    local = 'LOCAL_CS["plan",UNIT["metre",1]]'
    for text, message in (("EPSG:999999", "not understood"), (local, "cannot be placed")):
        with pytest.raises(InputError, match=rf"(?s)map\.tif.*EPSG:NUMBER|{message}"):
            parse_crs(text, "map.tif")
