"""Scenes of city views: what pictures share agrees with depth, by day and by night."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from hloc_ext.datasets.city_scenes import LEAST_DISTANCE, SPACING, render_scene, scene_model, write_scene
from hloc_ext.datasets.city_views import read_views
from hloc_ext.datasets.depth_geometry import overlap
from hloc_ext.errors import CorruptFileError
from hloc_ext.formats.colmap import read_model
from tests.datasets.test_city_pairs import HEIGHT, WIDTH, write_views


@pytest.fixture(scope="module")
def views_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_views(tmp_path_factory.mktemp("scenes") / "views")


@pytest.fixture(scope="module")
def model(views_folder: Path) -> pycolmap.Reconstruction:
    return scene_model(read_views(views_folder), seed=1)


def seen_points(model: pycolmap.Reconstruction, name: str) -> dict[int, np.ndarray]:
    """Keypoints of a picture by their points."""
    image = next(image for image in model.images.values() if image.name == name)
    return {point.point3D_id: point.xy for point in image.points2D if point.has_point3D()}


def test_pictures_have_the_cameras_of_their_views(views_folder: Path, model: pycolmap.Reconstruction) -> None:
    views = read_views(views_folder)
    assert [model.images[i].name for i in sorted(model.images)] == [
        f"{index:04d}_{condition}.jpg" for index in range(3) for condition in ("day", "night")
    ]
    for image in model.images.values():
        index = int(image.name[:4])
        np.testing.assert_allclose(image.cam_from_world().matrix(), views.cam_from_world[index])
        camera = model.cameras[image.camera_id]
        assert (camera.width, camera.height) == (WIDTH, HEIGHT)
        expected = views.calibration[index] + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        np.testing.assert_allclose(camera.calibration_matrix(), expected)


def test_observations_are_projections_of_points_on_the_wall(model: pycolmap.Reconstruction) -> None:
    xyz = np.array([point.xyz for point in model.points3D.values()])
    # Depth is stored in steps, and interpolated.
    np.testing.assert_allclose(xyz[:, 2], 6 + 0.2 * xyz[:, 0], atol=2e-3)
    for image in model.images.values():
        for identity, xy in seen_points(model, image.name).items():
            np.testing.assert_allclose(image.project_point(model.points3D[identity].xyz), xy, atol=1e-6)


def test_points_cover_the_pictures_and_keep_a_distance(model: pycolmap.Reconstruction) -> None:
    for index in range(3):
        pixels = np.array(list(seen_points(model, f"{index:04d}_night.jpg").values())) - 0.5
        squares = {(int(x), int(y)) for x, y in pixels // SPACING}
        assert len(squares) > 0.9 * (WIDTH // SPACING) * (HEIGHT // SPACING)
        assert len({(int(x), int(y)) for x, y in pixels // LEAST_DISTANCE}) == len(pixels)


def test_night_sees_the_points_of_day_but_for_those_behind_cars(model: pycolmap.Reconstruction) -> None:
    for index in (1, 2):
        day, night = (seen_points(model, f"{index:04d}_{condition}.jpg") for condition in ("day", "night"))
        assert day.keys() == night.keys()
    # The first view has a car by day.
    day, night = (seen_points(model, f"0000_{condition}.jpg") for condition in ("day", "night"))
    assert day.keys() < night.keys()
    for identity in night.keys() - day.keys():
        x, y = night[identity] - 0.5
        assert 28 < x < 71
        assert 38 < y < 81


def test_shared_points_grow_with_the_overlap_of_the_views(
    views_folder: Path, model: pycolmap.Reconstruction
) -> None:
    views = read_views(views_folder)
    seen = [seen_points(model, f"{index:04d}_night.jpg").keys() for index in range(3)]
    for i, j in itertools.permutations(range(3), 2):
        share = len(seen[i] & seen[j]) / len(seen[i])
        expected = overlap(views.depth_view(i, "night"), views.depth_view(j, "night"), step=4)
        assert share == pytest.approx(expected, abs=0.15)


def test_scene_is_complete_and_kept(views_folder: Path, tmp_path: Path) -> None:
    views = read_views(views_folder)
    sparse = write_scene(views, tmp_path, seed=1)
    assert sparse == tmp_path / "sparse"
    written = read_model(sparse)
    for image in written.images.values():
        source, copy = views_folder / image.name, tmp_path / "images" / image.name
        assert copy.read_bytes() == source.read_bytes()
    stamps = {file: file.stat().st_mtime_ns for file in sparse.iterdir()}
    write_scene(views, tmp_path, seed=1)
    assert {file: file.stat().st_mtime_ns for file in sparse.iterdir()} == stamps
    for seed, same in ((1, True), (2, False)):
        again = write_scene(views, tmp_path / str(seed), seed)
        assert ((again / "points3D.bin").read_bytes() == (sparse / "points3D.bin").read_bytes()) is same


def test_pictures_are_copied_where_there_are_no_links(
    views_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("no links")

    monkeypatch.setattr(os, "link", refuse)
    write_scene(read_views(views_folder), tmp_path, seed=1)
    copy = tmp_path / "images" / "0000_day.jpg"
    assert copy.read_bytes() == (views_folder / "0000_day.jpg").read_bytes()


def test_views_that_are_rendered_are_used(tmp_path: Path) -> None:
    write_views(tmp_path / "views")
    model = read_model(render_scene(tmp_path, count=3, seed=1))
    assert model.num_images() == 6


def test_damaged_views_are_named(tmp_path: Path) -> None:
    folder = write_views(tmp_path / "views")
    (folder / "0001_depth.png").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"0001_depth\.png"):
        write_scene(read_views(folder), tmp_path / "scene", seed=1)
    assert not (tmp_path / "scene" / "sparse").exists()
