"""From retrieved tiles and poses to places on the map."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hloc_ext.cross_view import localization
from hloc_ext.cross_view.descriptors import Condition, CrossViewNetworks
from hloc_ext.cross_view.index import Retrieved, TileTable
from hloc_ext.cross_view.localization import (
    build_index,
    distance,
    estimate_poses,
    localize,
    moved,
    pose_errors,
    table_of,
)
from hloc_ext.cross_view.pose import GroundPose, PoseSearch, estimate_pose
from hloc_ext.datasets.cross_view.layout import CrossViewSet, open_set
from hloc_ext.datasets.cross_view.photos import open_photos
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from tests.class_maps import town
from tests.cross_view_weights import DIM, write_random_weights
from tests.datasets.cross_view.small_sets import made_set, write_cvusa, write_picture

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

PLACE = np.array([38.9994, -92.9995])
SIDE = 16  # cells of the class maps that the small network draws


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> CrossViewSet:
    root = tmp_path_factory.mktemp("cvusa")
    write_cvusa(root, 24)
    for number in range(19, 25):
        label = root / "tile_labels" / "bingmap" / "19" / f"{number:07d}.png"
        label.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(label), town(75, number))
    return open_set(root, "test")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> CrossViewNetworks:
    return CrossViewNetworks(
        [write_random_weights(tmp_path_factory.mktemp("weights") / "ssa.safetensors", "ssa", "polar")]
    )


def pose(east: float, north: float, heading: float) -> GroundPose:
    labels = town(48, 0)
    certain = np.stack([(labels == k) for k in range(6)]).astype(np.float32)
    found = estimate_pose(certain, labels, 72.0, PoseSearch(headings=12, max_shift=0.1))
    return dataclasses.replace(
        found, east=east, north=north, heading=heading, covariance=np.diag([4.0, 1.0, 9.0])
    )


@pytest.mark.parametrize(("latitude", "longitude"), [(39.0, -93.0), (-35.3, 149.1), (60.0, 25.0)])
def test_metres_become_degrees_of_the_ellipsoid(latitude, longitude):
    start = np.array([latitude, longitude])
    for east, north in ((30.0, 0.0), (0.0, 30.0), (-20.0, 15.0)):
        end = moved(start, east, north)
        assert distance(start, end) == pytest.approx(np.hypot(east, north), abs=1e-3)
        assert np.sign(end - start).tolist() == [np.sign(north), np.sign(east)]
    assert np.isnan(distance(start, [np.nan, 0]))


def make_table(number: int) -> TileTable:
    latlon = np.array([moved(PLACE, 50.0 * i, 0) for i in range(number)])
    return TileTable(
        [f"{i}.jpg" for i in range(number)], latlon, np.full(number, 72.0), [None] * number, Path()
    )


def queries(number: int, **others) -> CrossViewSet:
    where = np.array([moved(PLACE, 50.0 * i + 3, 4) for i in range(number)])
    return made_set([-1] * number, 0, ground_latlon=where, root=Path("."), **others)


def test_the_best_tile_is_the_place_and_its_turn_the_heading():
    retrieved = Retrieved(
        np.array([[1, 0], [1, 2]]), np.float32([[0.9, 0.8], [0.7, 0.6]]), np.array([[2, 0], [0, 0]])
    )
    headings = np.array([[0.0, 90, 180, 270], [45, 45, 45, 45]])
    given = np.array([np.nan, 45.0])
    found = localize(queries(2), retrieved, headings, given, make_table(3))
    assert [f.heading for f in found] == [180, 45]
    assert [f.heading_from for f in found] == ["retrieval", "given"]
    assert [f.error for f in found] == pytest.approx([np.hypot(47, 4), 5], abs=1e-3)
    feature = found[1].feature()
    longitude, latitude = feature["geometry"]["coordinates"]
    assert (latitude, longitude) == pytest.approx(tuple(make_table(3).latlon[1]), abs=1e-7)
    properties = feature["properties"]
    assert (properties["query"], properties["tile"], properties["position_from"]) == (
        "g1.jpg",
        "1.jpg",
        "tile",
    )
    assert [c["tile"] for c in properties["candidates"]] == ["1.jpg", "2.jpg"]
    assert properties["deviation_m"] is None and properties["score"] == pytest.approx(0.7)


def test_a_pose_moves_the_place_within_the_tile():
    retrieved = Retrieved(np.array([[0], [1]]), np.ones((2, 1), np.float32), np.zeros((2, 1), int))
    nothing = np.full((2, 1), np.nan)
    found = localize(
        queries(2), retrieved, nothing, nothing[:, 0], make_table(2), [pose(3.0, 4.0, 77.0), None]
    )
    assert found[0].error == pytest.approx(0, abs=1e-3) and found[1].error == pytest.approx(5, abs=1e-3)
    assert (found[0].heading, found[0].heading_from) == (77, "pose")
    assert found[0].deviation == pytest.approx(2)
    assert found[0].feature()["properties"]["position_from"] == "pose"
    assert found[1].heading_from == "" and found[1].feature()["properties"]["heading"] is None


def test_pose_errors():
    poses = [pose(3.0, 4.0, 350.0), None, pose(0.0, -36.0, 10.0)]
    # 0.5 of 72 m to the south, and 5 m away at (3, 4).
    errors = pose_errors(poses, [[0, 0], [0, 0], [0, 0.5]], [72.0] * 3, [10.0, 0, 10])
    np.testing.assert_allclose(errors.metres, [5, np.nan, 0], atol=1e-9)
    np.testing.assert_allclose(errors.degrees, [20, np.nan, 0], atol=1e-9)
    np.testing.assert_allclose(errors.normalised[[0, 2]], [9 / 4 + 16, 0], atol=1e-9)
    row = errors.row()
    assert row["poses"] == 2 and row["median m"] == 2.5 and row["within 1 m"] == 50
    assert pose_errors([None], [[0, 0]], [72.0], [0.0]).row() == {"poses": 0}


@needs_timm
def test_poses_come_from_what_the_network_draws(networks, pairs, monkeypatch):
    """A network that draws exactly what the tile shows puts the camera where it stands: in its centre."""
    table = table_of(pairs)
    network = networks.models["ground"].net
    rows = iter(range(6))

    def exact(ground: torch.Tensor) -> torch.Tensor:
        label = localization.read_tile_label(table, int(pairs.positives[next(rows)]), SIDE)
        return (
            20 * torch.nn.functional.one_hot(torch.from_numpy(label).long(), 6).permute(2, 0, 1)[None].float()
        )

    monkeypatch.setattr(network, "bev", exact)
    search = PoseSearch(headings=36, temperature=1.0)
    found = estimate_poses(networks, pairs, pairs.positives, table, search=search)
    errors = pose_errors(found, pairs.offsets, pairs.tile_size[pairs.positives], np.zeros(6))
    assert errors.row()["poses"] == 6
    assert errors.metres.max() < pairs.tile_size[0] / SIDE / 2  # half a cell
    assert errors.degrees.max() < 10
    for place in found:
        assert place.scores.headings.size < 36  # a known heading narrows the search
    rows = iter(range(6))
    wide = estimate_poses(networks, pairs, pairs.positives, table, Condition(360, False), search)
    assert wide[0].scores.headings.size == 36


@needs_timm
def test_tiles_without_class_map_or_size_have_no_pose(networks, pairs):
    table = table_of(pairs)
    some = dataclasses.replace(
        table, labels=[None, *table.labels[1:]], size=np.array([70, np.nan, 70, 70, 70, 70])
    )
    found = estimate_poses(networks, pairs, np.arange(6), some, search=PoseSearch(headings=4))
    assert [pose is None for pose in found] == [True, True, False, False, False, False]
    with pytest.raises(MissingInputError, match="spatial_priors"):
        estimate_poses(networks, pairs, np.arange(6), dataclasses.replace(table, labels=[None] * 6))


@needs_timm
def test_a_class_map_of_another_shape_is_named(networks, pairs, tmp_path):
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((40, 80), np.uint8))
    table = dataclasses.replace(table_of(pairs), labels=[str(tmp_path / "wide.png")] * 6)
    with pytest.raises(CorruptFileError, match="another shape than its tile"):
        estimate_poses(networks, pairs, np.arange(6), table)


@needs_timm
def test_networks_that_draw_nothing_have_no_poses(pairs, tmp_path):
    students = CrossViewNetworks([write_random_weights(tmp_path / "a.safetensors")])
    with pytest.raises(InputError, match="need a network that draws bird's-eye views"):
        estimate_poses(students, pairs, np.arange(6), table_of(pairs))


@needs_timm
def test_an_index_of_a_data_set(networks, pairs, tmp_path):
    index = build_index(networks, pairs)
    assert index.dim == DIM and len(index) == 6
    assert index.table.names[0] == "bingmap/19/0000019.jpg"
    assert index.table.labels[0] == "tile_labels/bingmap/19/0000019.png"
    assert index.table.about == networks.about
    np.testing.assert_allclose(index.descriptors(), networks.describe_tiles(pairs), atol=1e-6)


def test_photos_alone(tmp_path):
    for number in range(2):
        write_picture(tmp_path / "photos" / "a" / f"{number}.jpg", 64, 32 if number else 48, number)
    (tmp_path / "places.csv").write_text("name,lat,lon,heading\na/0.jpg,38.9,-93.1,120\n")
    photos = open_photos(tmp_path / "photos", tmp_path / "places.csv")
    assert [p.name for p in photos.grounds] == ["0.jpg", "1.jpg"] and len(photos.aerials) == 0
    np.testing.assert_array_equal(photos.positives, [-1, -1])
    np.testing.assert_array_equal(photos.headings, [120, np.nan])
    np.testing.assert_array_equal(photos.fields_of_view, [np.nan, 360])
    np.testing.assert_array_equal(photos.ground_latlon[0], [38.9, -93.1])
    assert np.isnan(open_photos(tmp_path / "photos").headings).all()
    with pytest.raises(MissingInputError):
        open_photos(tmp_path / "nowhere")
