"""Alignments: geometries there and back, pixels, covariance, files."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.gis.crs import WGS84, transform_points, utm_crs
from hloc_ext.gis.grid import Grid
from hloc_ext.gis.transform import MODELS, Alignment, move

UTM = pyproj.CRS.from_epsg(32635)
ANCHOR = np.array([487_000.0, 6_470_000.0])


def matrix_of(model: str, rng: np.random.Generator) -> np.ndarray:
    """A correction of up to 300 m, 180 degrees and a factor of 2; perspective of a part of it over 1 km."""
    angle, scale = rng.uniform(-np.pi, np.pi), np.exp(rng.uniform(-0.69, 0.69))
    matrix = np.eye(3)
    matrix[:2, 2] = rng.uniform(-300, 300, 2)
    if model != "translation":
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        matrix[:2, :2] = [[c, -s], [s, c]]
    if model in ("affine", "homography"):
        matrix[:2, :2] = matrix[:2, :2] @ [[1.1, 0.1], [-0.05, 0.9]]
    if model == "homography":
        matrix[2, :2] = rng.uniform(-1e-4, 1e-4, 2)
    return matrix


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    epsg=st.sampled_from([32635, 4326, 3857, 3301, 25835, 4258]),
    longitude=st.floats(22.0, 28.0),
    latitude=st.floats(57.6, 59.6),
    seed=st.integers(0, 2**31),
)
def test_there_and_back_leaves_every_geometry_within_a_micrometre(
    model: str, epsg: int, longitude: float, latitude: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    center = transform_points(WGS84, UTM, [[longitude, latitude]])[0]
    alignment = Alignment(matrix_of(model, rng), model, UTM, center)
    metres = [
        shapely.box(*(center - 100), *(center + 200)),
        shapely.LineString(center + rng.uniform(-900, 900, (5, 2))),
        shapely.MultiPoint(center + rng.uniform(-900, 900, (5, 2))),
    ]
    crs = pyproj.CRS.from_epsg(epsg)
    geometries = gpd.GeoSeries(metres, crs=UTM).to_crs(crs).to_numpy()
    back = alignment.inverse().apply(alignment.apply(geometries, crs), crs)
    before, after = (transform_points(crs, UTM, shapely.get_coordinates(g)) for g in (geometries, back))
    assert np.abs(before - after).max() < 1e-6


def test_a_correction_moves_by_metres_on_the_ground_whatever_the_crs() -> None:
    alignment = Alignment(np.array([[1, 0, 30], [0, 1, -40], [0, 0, 1.0]]), "translation", UTM, ANCHOR)
    for epsg in (4326, 3857):
        crs = pyproj.CRS.from_epsg(epsg)
        point = gpd.GeoSeries([shapely.Point(ANCHOR + 100)], crs=UTM).to_crs(crs)
        moved = gpd.GeoSeries(alignment.apply(point.to_numpy(), crs), crs=crs).to_crs(UTM)
        np.testing.assert_allclose(shapely.get_coordinates(moved)[0], np.add(ANCHOR, (130, 60)), atol=1e-6)


def test_rotation_is_counter_clockwise_about_the_anchor() -> None:
    turned = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    alignment = Alignment(turned, "similarity", UTM, ANCHOR)
    np.testing.assert_allclose(alignment.map_points([np.add(ANCHOR, (10, 0))])[0], np.add(ANCHOR, (0, 10)))
    assert alignment.parameters() == pytest.approx(
        {"east": 0, "north": 0, "rotation": 90, "scale": 1, "anisotropy": 1}
    )


def test_heights_missing_and_empty_geometries_stay() -> None:
    alignment = Alignment(np.array([[1, 0, 5], [0, 1, 0], [0, 0, 1.0]]), "translation", None, np.zeros(2))
    moved = alignment.apply(
        [
            shapely.Point(1, 2, 3),
            shapely.Point(1, 2),
            None,
            shapely.Polygon(),
            shapely.from_wkt("POINT EMPTY"),
        ],
        None,
    )
    assert moved[0].wkt == "POINT Z (6 2 3)"
    assert moved[1].wkt == "POINT (6 2)"
    assert moved[2] is None
    assert moved[3].is_empty and moved[4].is_empty


@pytest.mark.parametrize("longitude", [179.9995, -179.9995, 180.0005])
def test_across_the_antimeridian_a_vertex_keeps_its_way_of_writing(longitude: float) -> None:
    crs = utm_crs(longitude, -17.0)
    anchor = transform_points(WGS84, crs, [[180.0, -17.0]])[0]
    alignment = Alignment(np.array([[1, 0, 200], [0, 1, 0], [0, 0, 1.0]]), "translation", crs, anchor)
    moved = alignment.apply([shapely.Point(longitude, -17.0)], WGS84)[0]
    assert moved.x - longitude == pytest.approx(200 / 106_500, rel=0.01)
    back = alignment.inverse().apply([moved], WGS84)[0]
    assert abs(back.x - longitude) * 106_500 < 1e-6


def test_beyond_the_zone_and_behind_the_horizon_are_errors() -> None:
    perspective = Alignment(np.array([[1, 0, 0], [0, 1, 0], [1e-3, 0, 1.0]]), "homography", UTM, ANCHOR)
    with pytest.raises(InputError, match="1 of 2 vertices"):
        perspective.apply([shapely.LineString([ANCHOR, np.subtract(ANCHOR, (2000, 0))])], UTM)
    with pytest.raises(InputError, match="state their CRS"):
        perspective.apply([shapely.Point(0, 0)], None)
    with pytest.raises(InputError, match="too far"):
        move([shapely.Point(1e9, 0)], pyproj.CRS.from_epsg(3301), UTM, lambda points: points * np.inf)


@pytest.mark.parametrize("model", MODELS)
def test_pixels_and_metres_say_the_same(model: str) -> None:
    rng = np.random.default_rng(5)
    image = Grid.north_up(UTM, ANCHOR[0] - 100, ANCHOR[1] + 80, 0.5, 400, 320)
    layers = Grid.north_up(UTM, ANCHOR[0] - 400, ANCHOR[1] + 380, 0.25, 3000, 2900)
    alignment = Alignment(matrix_of(model, rng), model, UTM, ANCHOR)
    homography = alignment.to_pixels(image, layers)
    # A corner of a layer, where it claims to be, and the pixel of the image that shows it.
    claimed = np.array([np.add(ANCHOR, (33, -12))])
    in_layers = (claimed - layers.crs_from_center[:2, 2]) / np.diag(layers.crs_from_center)[:2]
    corrected = alignment.map_points(claimed)
    in_image = (corrected - image.crs_from_center[:2, 2]) / np.diag(image.crs_from_center)[:2]
    seen = homography @ [*in_image[0], 1]
    np.testing.assert_allclose(seen[:2] / seen[2], in_layers[0], atol=1e-6)
    again = Alignment.from_pixels(homography, image, layers, model)
    np.testing.assert_allclose(again.map_points(claimed), corrected, atol=1e-6)
    np.testing.assert_allclose(again.anchor, image.center)


def test_alignments_follow_each_other() -> None:
    rng = np.random.default_rng(6)
    first = Alignment(matrix_of("affine", rng), "affine", UTM, ANCHOR)
    second = Alignment(matrix_of("homography", rng), "homography", UTM, np.add(ANCHOR, (50, -20)))
    points = ANCHOR + rng.uniform(-100, 100, (4, 2))
    both = first.then(second)
    assert both.model == "homography"
    np.testing.assert_allclose(
        both.map_points(points), second.map_points(first.map_points(points)), atol=1e-6
    )


def test_covariance_of_positions_is_that_of_samples() -> None:
    rng = np.random.default_rng(7)
    root = rng.normal(size=(8, 8)) * np.array([1e-5, 1e-5, 0.1, 1e-5, 1e-5, 0.1, 1e-8, 1e-8])[:, None]
    matrix = matrix_of("homography", rng)
    alignment = Alignment(matrix, "homography", UTM, ANCHOR, root @ root.T)
    points = np.add(ANCHOR, (200, 100))
    for one in (alignment, alignment.inverse()):
        stated = one.position_covariance([points])
        samples = []
        for _ in range(4000):
            drawn = matrix.copy()
            drawn.ravel()[:8] += root @ rng.normal(size=8)
            sample = Alignment(drawn, "homography", UTM, ANCHOR)
            samples.append((sample if one is alignment else sample.inverse()).map_points([points])[0])
        assert stated is not None
        np.testing.assert_allclose(np.cov(np.array(samples).T), stated[0], atol=0.05 * stated[0].max())


def test_file_there_and_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    alignment = Alignment(matrix_of("similarity", rng), "similarity", UTM, ANCHOR, np.eye(8))
    alignment.save(tmp_path / "a.json")
    read = Alignment.load(tmp_path / "a.json")
    assert (read.model, read.crs) == ("similarity", UTM)
    np.testing.assert_array_equal(read.matrix, alignment.matrix)
    np.testing.assert_array_equal(read.anchor, ANCHOR)
    assert json.loads((tmp_path / "a.json").read_text())["crs"] == "EPSG:32635"
    (tmp_path / "b.json").write_text('{"format": "other"}')
    with pytest.raises(CorruptFileError, match=r"b\.json"):
        Alignment.load(tmp_path / "b.json")
    with pytest.raises(MissingInputError):
        Alignment.load(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("matrix", "model", "message"),
    [
        (np.diag([-1.0, 1, 1]), "affine", "mirrors"),
        (np.array([[1, 0, 0], [0, 1, 0], [1e-4, 0, 1.0]]), "affine", "perspective"),
        (np.full((3, 3), np.nan), "affine", "finite"),
        (np.eye(3), "polynomial", "Unknown model"),
        (np.eye(2), "affine", "3×3"),
    ],
)
def test_what_is_no_alignment(matrix: np.ndarray, model: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Alignment(matrix, model, UTM, ANCHOR)
