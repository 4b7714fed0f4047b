"""Models read record by record equal those that pycolmap reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from hloc_ext.errors import CorruptFileError, MissingInputError
from hloc_ext.formats.colmap_stream import ModelStream


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    """Two rigs of two cameras with distortion; one frame has no pose, and one image a blank in its name."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 2, 3
    options.num_points3D = 30
    options.camera_model_id = pycolmap.CameraModelId.OPENCV
    options.camera_params = [900.0, 910.0, 500.0, 380.0, -0.1, 0.02, 0.001, -0.002]
    pycolmap.set_random_seed(1)
    model = pycolmap.synthesize_dataset(options)
    model.deregister_frame(sorted(model.frames)[1])
    model.images[model.reg_image_ids()[0]].name = "a folder/an image.png"
    return model


@pytest.fixture(params=["binary", "text"])
def folder(request: pytest.FixtureRequest, model: pycolmap.Reconstruction, tmp_path: Path) -> Path:
    model.write_binary(tmp_path) if request.param == "binary" else model.write_text(tmp_path)
    return tmp_path


def test_cameras(folder: Path, model: pycolmap.Reconstruction) -> None:
    cameras = ModelStream(folder).cameras()
    assert sorted(cameras) == sorted(model.cameras)
    for camera_id, camera in cameras.items():
        expected = model.cameras[camera_id]
        assert (camera.model, camera.width, camera.height) == (
            expected.model,
            expected.width,
            expected.height,
        )
        np.testing.assert_array_equal(camera.params, expected.params)


def test_images(folder: Path, model: pycolmap.Reconstruction) -> None:
    images = {image.image_id: image for image in ModelStream(folder).images()}
    assert sorted(images) == sorted(model.reg_image_ids())
    assert len(images) == model.num_images() - 2
    for image_id, image in images.items():
        expected = model.images[image_id]
        assert (image.name, image.camera_id) == (expected.name, expected.camera_id)
        np.testing.assert_allclose(image.cam_from_world, expected.cam_from_world().matrix(), atol=1e-12)
        np.testing.assert_allclose(image.xy, [point.xy for point in expected.points2D], atol=1e-12)
        ids = [point.point3D_id if point.has_point3D() else -1 for point in expected.points2D]
        np.testing.assert_array_equal(image.point_ids, ids)


def test_points(folder: Path, model: pycolmap.Reconstruction) -> None:
    ids, xyz = ModelStream(folder).points()
    assert ids.tolist() == sorted(model.points3D)
    np.testing.assert_allclose(xyz, [model.points3D[number].xyz for number in ids.tolist()], atol=1e-15)


def test_more_points_than_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hloc_ext.formats.colmap_stream._POINT_BLOCK", 4)
    model = pycolmap.Reconstruction()
    for number in range(10):
        model.add_point3D(np.array([number, 2.0 * number, -1.0]), pycolmap.Track(), np.zeros(3, np.uint8))
    model.write_binary(tmp_path)
    ids, xyz = ModelStream(tmp_path).points()
    np.testing.assert_array_equal(ids, np.arange(1, 11))
    np.testing.assert_array_equal(xyz[:, 1], 2.0 * np.arange(10))


def test_no_observation_written_as_the_largest_number(tmp_path: Path, model: pycolmap.Reconstruction) -> None:
    model.write_text(tmp_path)
    file = tmp_path / "images.txt"
    file.write_text(file.read_text().replace(" -1 ", " 18446744073709551615 "))
    first = next(ModelStream(tmp_path).images())
    expected = model.images[first.image_id]
    np.testing.assert_array_equal(first.point_ids >= 0, [point.has_point3D() for point in expected.points2D])


def test_damaged_files_are_named(tmp_path: Path, model: pycolmap.Reconstruction) -> None:
    with pytest.raises(MissingInputError, match="No COLMAP model"):
        ModelStream(tmp_path)
    model.write_binary(tmp_path)
    whole = (tmp_path / "images.bin").read_bytes()
    (tmp_path / "images.bin").write_bytes(whole[:-10])
    with pytest.raises(CorruptFileError, match=r"images\.bin is truncated"):
        ModelStream(tmp_path)


@pytest.mark.parametrize("stem", ["cameras", "images", "points3D"])
def test_damaged_text_is_named(tmp_path: Path, model: pycolmap.Reconstruction, stem: str) -> None:
    model.write_text(tmp_path)
    file = tmp_path / f"{stem}.txt"
    lines = file.read_text().splitlines(keepends=True)
    records = [number for number, line in enumerate(lines) if not line.startswith("#")]

    def read_all() -> None:
        stream = ModelStream(tmp_path)
        stream.cameras()
        list(stream.images())
        stream.points()

    last_record = records[-2] if stem == "images" else records[-1]
    file.write_text("".join(lines[:last_record]))
    with pytest.raises(CorruptFileError, match=rf"{stem}\.txt is truncated"):
        read_all()
    damaged = list(lines)
    damaged[last_record] = damaged[last_record].replace(".", "x", 1)
    file.write_text("".join(damaged))
    with pytest.raises(CorruptFileError, match=rf"{stem}\.txt, line {last_record + 1}:"):
        read_all()
