"""Viewpoints on streets, names of panoramas, pixel sizes of web maps, and pictures cut out of imagery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from scipy.spatial import cKDTree

from hloc_ext.city.datasets.imagery import Mosaic, north_up, vary
from hloc_ext.city.datasets.misregistration import apply
from hloc_ext.city.datasets.place import (
    enlarged,
    northernmost,
    pano_ids,
    street_viewpoints,
    web_pixel_size,
)
from hloc_ext.errors import InputError
from tests.city.toy_city import toy_plan

REGION = (-90.0, -90.0, 90.0, 70.0)


def test_viewpoints_are_on_the_lanes_and_apart() -> None:
    plan = toy_plan(220.0, 0, "EPSG:32635", (0.0, 0.0))
    points = street_viewpoints(plan, 60, REGION, seed=1)
    assert points.shape == (60, 2)
    assert (points >= REGION[:2]).all() and (points < REGION[2:]).all()
    assert shapely.contains_xy(plan.roads, *points.T).all()
    axes = np.array(
        [np.abs(points - street.centreline[0])[:, i % 2] for i, street in enumerate(plan.streets)]
    )
    assert np.abs(axes - 2.0).min(axis=0).max() < 0.31
    nearest = cKDTree(points).query(points, 2)[0][:, 1]
    assert np.percentile(nearest, 25) > 8
    np.testing.assert_array_equal(points, street_viewpoints(plan, 60, REGION, seed=1))


def test_too_little_street_is_an_error() -> None:
    plan = toy_plan(220.0, 0, "EPSG:32635", (0.0, 0.0))
    with pytest.raises(InputError, match="no room for 50 panoramas: try another seed"):
        street_viewpoints(plan, 50, (-10, -10, 10, 10), seed=1)


def test_names_are_unique_and_do_not_look_like_options() -> None:
    names = pano_ids(500, seed=3)
    assert len(set(names)) == 500
    assert {len(name) for name in names} == {22}
    assert not any(name.startswith(("-", "_")) for name in names)
    assert pano_ids(500, seed=3) == names != pano_ids(500, seed=4)


def test_pixels_of_web_maps() -> None:
    assert web_pixel_size(0.0, 0) == 156543.03392
    assert web_pixel_size(60.0, 19) == pytest.approx(0.149291, abs=1e-6)


def test_northernmost() -> None:
    points = np.array([[0, 1], [0, 5], [0, 3], [0, 4.0]])
    assert northernmost(points, 0.5).tolist() == [False, True, False, True]


def test_enlarging_keeps_the_size_if_it_is_right() -> None:
    picture = np.arange(8 * 16 * 3, dtype=np.uint8).reshape(8, 16, 3)
    assert enlarged(picture, (16, 8)) is picture
    assert enlarged(picture, (32, 16)).shape == (16, 32, 3)


@pytest.fixture
def mosaic(tmp_path: Path) -> Mosaic:
    """Imagery whose red and green are the column and the row of the pixel, in quarters."""
    rows, columns = np.indices((400, 600), np.float32)
    picture = np.stack([columns / 4, rows / 4, np.full_like(rows, 7)]).astype(np.uint8)
    profile = {"driver": "GTiff", "width": 600, "height": 400, "dtype": "uint8", "crs": "EPSG:32635"}
    transform = rasterio.Affine(0.1, 0, -30, 0, -0.1, 20)
    for name, bands in (("ortho", picture), ("labels", picture[:1] // 50)):
        path = tmp_path / f"{name}.tif"
        with rasterio.open(path, "w", count=len(bands), transform=transform, **profile) as target:
            target.write(bands)
    return Mosaic(tmp_path / "ortho.tif", tmp_path / "labels.tif", (-30.0, -20.0, 30.0, 20.0), 0.1, 600, 400)


@pytest.mark.parametrize("pixel_size", [0.1, 0.23])
def test_a_warped_picture_shows_the_places_that_its_homography_states(
    mosaic: Mosaic, pixel_size: float
) -> None:
    turn = np.array([[0.96, -0.28, 1.5], [0.28, 0.96, -0.7], [0, 0, 1]])
    scene_from_pixel = turn @ north_up((2.0, 1.0), pixel_size, 100, 80)
    assert mosaic.covers(scene_from_pixel, 100, 80)
    picture = mosaic.warp(scene_from_pixel, 100, 80)
    rows, columns = np.indices((80, 100)).reshape(2, -1)
    expected = apply(
        mosaic.pixel_from_scene @ scene_from_pixel, np.stack([columns + 0.5, rows + 0.5], axis=1)
    )
    # A pixel is in its integer part; its value is a quarter of that, rounded down.
    found = 4 * picture[rows, columns, :2].astype(float) + 2
    assert np.abs(np.mean(found - expected, axis=0)).max() < 0.3
    assert np.abs(found - expected).max() < 5
    labels = mosaic.warp_labels(scene_from_pixel, 100, 80)
    np.testing.assert_array_equal(labels.ravel(), np.floor(expected[:, 0]).astype(int) // 4 // 50)


def test_a_picture_that_leaves_the_city_is_not_covered(mosaic: Mosaic) -> None:
    assert mosaic.covers(north_up((0, 0), 0.1, 580, 380), 580, 380)
    assert not mosaic.covers(north_up((0, 0), 0.1, 590, 380), 590, 380)
    assert not mosaic.covers(north_up((25, 0), 0.1, 100, 100), 100, 100)


def test_pictures_vary_a_little() -> None:
    picture = np.full((4, 4, 3), (90, 120, 100), np.uint8)
    varied = np.array([vary(picture, 1, index)[0, 0] for index in range(60)], float)
    np.testing.assert_allclose(varied.mean(axis=0), (90, 120, 100), atol=4)
    assert (varied.std(axis=0) > 2).all() and (varied.std(axis=0) < 15).all()
    np.testing.assert_array_equal(vary(picture, 1, 5), vary(picture, 1, 5))
