"""Aachen's layout of a toy city: what the pipeline finds in it, and that its reference model is exact."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pycolmap
import pytest

from hloc_ext import colmap_from_nvm
from hloc_ext.city.datasets import aachen
from hloc_ext.city.labels import Label
from hloc_ext.formats.colmap import read_model, registered_poses
from pipelines.aachen import find_layout, read_queries
from tests.city.toy_city import use_toy_city

SEED = 5


def small(camera: pycolmap.Camera) -> pycolmap.Camera:
    """The same camera with a quarter of the pixels in each direction."""
    copy = pycolmap.Camera(camera.todict())
    copy.rescale(0.25)
    return copy


@pytest.fixture(scope="module")
def write(request: pytest.FixtureRequest):
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    use_toy_city(patch)
    patch.setitem(aachen.SIZES, "small", (220.0, 7, 3, 2))
    patch.setattr(aachen, "PHOTOS_PER_MOMENT", 4)
    patch.setattr(aachen, "MAP_CAMERAS", tuple(map(small, aachen.MAP_CAMERAS)))
    cameras = {name: small(camera) for name, camera in aachen.QUERY_CAMERAS.items()}
    patch.setattr(aachen, "QUERY_CAMERAS", cameras)
    return lambda output, **options: aachen.write(output, "small", SEED, **options)


@pytest.fixture(scope="module")
def dataset(write, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aachen")
    write(folder, workers=2, depth=True)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_the_pipeline_finds_all(dataset: Path, version: str) -> None:
    layout = find_layout(dataset, version)
    queries = read_queries(layout, None)
    assert {condition: len(listed) for condition, listed in queries.items()} == {"day": 3, "night": 2}
    folders = {str(Path(name).parent) for listed in queries.values() for name, _ in listed}
    assert folders == set(aachen.QUERY_CAMERAS)
    truth = read_model(dataset / "ground_truth")
    assert truth.num_images() == 12
    cameras = {image.name: image.camera for image in truth.images.values()}
    for name, camera in (query for listed in queries.values() for query in listed):
        assert camera.model.name == "SIMPLE_RADIAL" and camera.params[3] != 0
        np.testing.assert_array_equal(camera.params, cameras[name].params)
        image = cv2.imread(str(layout.images / name))
        assert image.shape == (camera.height, camera.width, 3) and image.std() > 1


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_reference_is_exact(dataset: Path, version: str, tmp_path: Path) -> None:
    layout, folder = find_layout(dataset, version), dataset / "3D-models" / "aachen_v_1_1"
    if version == "v1.0":
        folder = tmp_path / "converted"
        colmap_from_nvm.main(layout.nvm, layout.intrinsics, layout.database, folder)
    model, truth = read_model(folder), registered_poses(read_model(dataset / "ground_truth"))
    assert {image.name for image in model.images.values()} == {f"db/{i}.jpg" for i in range(1, 8)}
    for name, pose in registered_poses(model).items():
        np.testing.assert_allclose(pose.matrix(), truth[name].matrix(), atol=1e-9)
    assert model.num_points3D() > 30
    for point in model.points3D.values():
        assert point.track.length() >= 2
        for element in point.track.elements:
            image = model.images[element.image_id]
            error = image.project_point(point.xyz) - image.points2D[element.point2D_idx].xy
            assert np.linalg.norm(error) < 1e-6


def test_points_are_on_surfaces(dataset: Path) -> None:
    """The depth of a photo is that of the points that it sees."""
    model = read_model(dataset / "3D-models" / "aachen_v_1_1")
    differences = []
    for image in model.images.values():
        with h5py.File(dataset / "depth" / f"{image.name}.h5") as file:
            depth = file["depth"][:]
        labels = cv2.imread(str(dataset / "labels" / f"{image.name}.png"), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.float32 and depth.shape == labels.shape == (
            image.camera.height,
            image.camera.width,
        )
        np.testing.assert_array_equal(depth == 0, labels == Label.SKY)
        for point in image.get_observation_points2D():
            column, row = point.xy.astype(int)
            z = (image.cam_from_world() * model.points3D[point.point3D_id].xyz)[2]
            differences.append(abs(depth[row, column] / z - 1))
    assert np.median(differences) < 0.005


def test_same_seed_same_bytes_and_resumed(write, dataset: Path, tmp_path: Path) -> None:
    """An interrupted folder is completed with one process to the same bytes."""
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    removed = ["images_upright/db/3.jpg", "depth/db/3.jpg.h5", "labels/db/5.jpg.png"]
    for name in removed:
        (copy / name).unlink()
    for folder in ("ground_truth", "3D-models", "queries"):
        shutil.rmtree(copy / folder)
    kept = {path: path.stat().st_mtime_ns for path in (copy / "images_upright" / "query").rglob("*.jpg")}
    write(copy, workers=1, depth=True)
    before, after = files(dataset), files(copy)
    databases = before.pop("aachen.db"), after.pop("aachen.db")
    assert all(databases) and after == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    times = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    write(copy, workers=1)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == times


def test_photos_of_all_sizes() -> None:
    for size, (_, *counts) in aachen.SIZES.items():
        photos = aachen.list_photos(size)
        conditions = [photo.condition for photo in photos]
        assert [conditions.count(c) for c in ("map", "day", "night")] == counts
        assert len({Path(photo.name).name for photo in photos}) == len(photos)
        queries = [photo.moment for photo in photos if photo.condition != "map"]
        assert len(set(queries)) == len(queries) and min(queries) > max(p.moment for p in photos[: counts[0]])
