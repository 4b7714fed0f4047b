"""COLMAP models are complete or refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from hloc_ext.errors import CorruptFileError, MissingInputError
from hloc_ext.formats.atomic import DiskFullError, UnwritableError
from hloc_ext.formats.colmap import (
    check_binary_model,
    image_ids,
    model_files,
    projection_centers,
    read_model,
    registered_poses,
    subset,
    write_model,
)

STEMS = ("cameras", "images", "points3D", "rigs", "frames")


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    """Two rigs of three cameras (of which two have a pose in the rig), four frames each."""
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = 2
    options.num_cameras_per_rig = 3
    options.num_frames_per_rig = 4
    options.num_points3D = 50
    return pycolmap.synthesize_dataset(options)


def test_round_trip(tmp_path: Path, model: pycolmap.Reconstruction) -> None:
    write_model(model, tmp_path / "sfm")
    assert sorted(os.listdir(tmp_path / "sfm")) == sorted(f"{stem}.bin" for stem in STEMS)
    found = read_model(tmp_path / "sfm")
    assert found.summary() == model.summary()
    assert found.num_rigs() == 2
    assert image_ids(found) == {image.name: i for i, image in model.images.items()}
    assert list(image_ids(found).values()) == sorted(model.images)
    poses = registered_poses(found)
    assert len(poses) == 24
    for image in model.images.values():
        assert np.allclose(poses[image.name].matrix(), image.cam_from_world().matrix(), atol=1e-12)
    centers = projection_centers(poses)
    assert np.allclose(centers[3], found.images[sorted(found.images)[3]].projection_center())
    assert projection_centers({}).shape == (0, 3)


def test_images_without_a_pose_are_left_out(model: pycolmap.Reconstruction, tmp_path: Path) -> None:
    write_model(model, tmp_path)
    part = read_model(tmp_path)
    frame_id = min(part.frames)
    part.deregister_frame(frame_id)
    gone = {part.images[data.id].name for data in part.frames[frame_id].data_ids}
    assert set(registered_poses(part)) == set(image_ids(part)) - gone
    assert len(gone) == 3


def test_subset_keeps_poses_cameras_and_ids(tmp_path: Path, model: pycolmap.Reconstruction) -> None:
    write_model(model, tmp_path)
    source = read_model(tmp_path)
    source.deregister_frame(min(source.frames))
    poses = registered_poses(source)
    without_pose = sorted(set(image_ids(source)) - set(poses))
    chosen = sorted(poses)[::3]
    kept = subset(source, [*chosen, *without_pose, "unknown.jpg"])
    assert sorted(image_ids(kept)) == chosen
    assert kept.num_points3D() == 0
    for name in chosen:
        image, original = kept.image(image_ids(kept)[name]), source.image(image_ids(source)[name])
        assert image.image_id == original.image_id
        assert image.camera.params.tolist() == original.camera.params.tolist()
        assert np.allclose(image.cam_from_world().matrix(), original.cam_from_world().matrix())
    write_model(kept, tmp_path / "subset")
    assert registered_poses(read_model(tmp_path / "subset")).keys() == registered_poses(kept).keys()


def test_binary_is_preferred_and_text_is_read(tmp_path: Path, model: pycolmap.Reconstruction) -> None:
    model.write_text(tmp_path)
    assert [file.name for file in model_files(tmp_path)] == ["cameras.txt", "images.txt", "points3D.txt"]
    assert read_model(tmp_path).num_points3D() == 50
    (tmp_path / "cameras.bin").touch()
    assert model_files(tmp_path)[0].suffix == ".txt"
    write_model(model, tmp_path)
    assert {file.suffix for file in model_files(tmp_path)} == {".bin"}


def test_a_missing_or_incomplete_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "cameras.bin").touch()
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(MissingInputError, match=f"No COLMAP model in {path}"):
            read_model(path)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("part", [0, 0.4, 0.9, -1])
def test_a_truncated_binary_file_is_named(
    tmp_path: Path, model: pycolmap.Reconstruction, stem: str, part: float
) -> None:
    write_model(model, tmp_path)
    file = tmp_path / f"{stem}.bin"
    content = file.read_bytes()
    file.write_bytes(content[:-1] if part == -1 else content[: int(part * len(content))])
    with pytest.raises(CorruptFileError, match=rf"{stem}\.bin is truncated or damaged"):
        read_model(tmp_path)


def test_a_damaged_binary_file_is_named(tmp_path: Path, model: pycolmap.Reconstruction) -> None:
    write_model(model, tmp_path)
    file = tmp_path / "cameras.bin"
    content = file.read_bytes()
    file.write_bytes(
        content[:12] + (250).to_bytes(4, "little") + content[16:]
    )  # a camera model of the future
    with pytest.raises(CorruptFileError, match=r"cameras\.bin is truncated or damaged"):
        read_model(tmp_path)
    file.write_bytes(content + b"\0")
    with pytest.raises(CorruptFileError, match=r"cameras\.bin is truncated or damaged"):
        check_binary_model(tmp_path)


def test_contradicting_files_are_named(tmp_path: Path, model: pycolmap.Reconstruction) -> None:
    write_model(model, tmp_path)
    (tmp_path / "points3D.bin").write_bytes(bytes(8))
    (tmp_path / "cameras.bin").write_bytes(bytes(8))
    with pytest.raises(CorruptFileError, match=f"The COLMAP model in {tmp_path} cannot be read"):
        read_model(tmp_path)


def test_models_of_old_versions_have_no_rigs(tmp_path: Path) -> None:
    pycolmap.set_random_seed(0)
    write_model(pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(num_points3D=9)), tmp_path)
    expected = registered_poses(read_model(tmp_path))
    (tmp_path / "rigs.bin").unlink()
    (tmp_path / "frames.bin").unlink()
    found = registered_poses(read_model(tmp_path))
    assert list(found) == list(expected)
    assert all(np.allclose(found[name].matrix(), expected[name].matrix()) for name in found)


def test_a_text_file_that_lacks_records_is_named(tmp_path: Path, model: pycolmap.Reconstruction) -> None:
    model.write_text(tmp_path)
    file = tmp_path / "points3D.txt"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-20]))
    with pytest.raises(
        CorruptFileError, match=r"points3D\.txt is truncated: its header announces 50 .* found 30"
    ):
        read_model(tmp_path)
    file.write_text("")  # how COLMAP's manual describes a model with known poses only
    assert read_model(tmp_path).num_points3D() == 0


def test_a_failed_write_keeps_the_previous_model(tmp_path: Path, model, monkeypatch) -> None:
    write_model(model, tmp_path)

    class Unfinished:
        def write(self, path: Path) -> None:
            model.write(path)
            os.truncate(path / "images.bin", 1000)

    with pytest.raises(DiskFullError, match=f"could not be written completely to {tmp_path}"):
        write_model(Unfinished(), tmp_path)
    assert read_model(tmp_path).summary() == model.summary()
    assert sorted(os.listdir(tmp_path)) == sorted(f"{stem}.bin" for stem in STEMS)


def test_a_full_disk_is_noticed(small_disk: Path, model: pycolmap.Reconstruction) -> None:
    (small_disk / "ballast").write_bytes(bytes(1_010_000))
    with pytest.raises(DiskFullError, match="sfm"):
        write_model(model, small_disk / "sfm")
    assert os.listdir(small_disk / "sfm") == []
    (small_disk / "ballast").unlink()
    write_model(model, small_disk / "sfm")
    assert read_model(small_disk / "sfm").summary() == model.summary()


def test_a_read_only_folder_is_named(read_only_folder: Path, model: pycolmap.Reconstruction) -> None:
    with pytest.raises(UnwritableError, match="Read-only file system"):
        write_model(model, read_only_folder / "sfm")
    with pytest.raises(UnwritableError, match="Read-only file system"):
        write_model(model, read_only_folder)
