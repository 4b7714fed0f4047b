"""COLMAP models, read and written by pycolmap (binary or text, with the rigs and frames of 4.x).

pycolmap neither notices that a disk is full nor that a binary file is truncated: it reads random
numbers then, or never returns. The length of each binary file is therefore checked against its
records, before reading and after writing.
"""

from __future__ import annotations

import mmap
import re
import shutil
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pycolmap

from ..errors import CorruptFileError, MissingInputError
from .atomic import DiskFullError, explaining, make_dir

MODEL_FILES = ("cameras", "images", "points3D")
OPTIONAL_FILES = ("rigs", "frames")


def model_files(path: Path) -> list[Path]:
    """Files of the model in folder `path`, binary preferred as in COLMAP; empty if incomplete."""
    for suffix in (".bin", ".txt"):
        files = [Path(path) / f"{stem}{suffix}" for stem in MODEL_FILES]
        if all(file.exists() for file in files):
            return files
    return []


def read_model(path: Path) -> pycolmap.Reconstruction:
    """Read the model in folder `path`.

    Raises:
        MissingInputError: the folder holds no complete model.
        CorruptFileError: a file is truncated or cannot be parsed.
    """
    path = Path(path)
    files = model_files(path)
    if not files:
        raise MissingInputError(
            f"No COLMAP model in {path}: expected cameras, images and points3D, as .bin or .txt."
        )
    binary = files[0].suffix == ".bin"
    if binary:
        check_binary_model(path)
    try:
        model = pycolmap.Reconstruction(path)
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        raise CorruptFileError(f"The COLMAP model in {path} cannot be read: {error}") from error
    if not binary:
        _check_text_counts(model, files)
    return model


def write_model(model: pycolmap.Reconstruction, path: Path) -> None:
    """Write a binary model to folder `path`; files that are there already are replaced when all is written.

    Raises:
        DiskFullError, UnwritableError: the previous model, if there is one, is kept.
    """
    path = make_dir(Path(path))
    with explaining(path):
        temporary = Path(tempfile.mkdtemp(dir=path, prefix=".model.", suffix=".tmp"))
    try:
        model.write(temporary)
        try:
            check_binary_model(temporary)
        except CorruptFileError as error:
            raise DiskFullError(
                f"The COLMAP model could not be written completely to {path}: free some space and run the"
                " same command again, it resumes where it stopped."
            ) from error
        with explaining(path):
            for file in sorted(temporary.iterdir()):
                file.replace(path / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_binary_model(path: Path) -> None:
    """Check that each binary file of the model in folder `path` ends where its last record ends.

    Raises:
        CorruptFileError: naming the file.
    """
    for stem in MODEL_FILES + OPTIONAL_FILES:
        file = Path(path) / f"{stem}.bin"
        if not file.exists():
            continue
        with open(file, "rb") as fd:
            size = file.stat().st_size
            try:
                with mmap.mmap(fd.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    end = _RECORD_ENDS[stem](data, *struct.unpack_from("<Q", data, 0))
            except (
                struct.error,
                ValueError,
                KeyError,
            ):  # beyond the end, an empty file, no such camera model
                end = -1
        if end != size:
            raise CorruptFileError(
                f"{file} is truncated or damaged ({size} bytes): its records do not end where the file ends."
                " Run again the stage that writes it, or copy it again."
            )


def _end_of_cameras(data: mmap.mmap, count: int) -> int:
    position = 8
    for _ in range(count):
        (model,) = struct.unpack_from("<i", data, position + 4)
        position += 24 + 8 * _NUM_PARAMS[model]
    return position


def _end_of_images(data: mmap.mmap, count: int) -> int:
    position = 8
    for _ in range(count):
        position = data.find(b"\0", position + 64) + 1  # id, pose and camera, then the name
        if position == 0:
            raise ValueError("unterminated name")
        (num_points2D,) = struct.unpack_from("<Q", data, position)
        position += 8 + 24 * num_points2D
    return position


def _end_of_points(data: mmap.mmap, count: int) -> int:
    position = 8
    unpack = struct.Struct("<Q").unpack_from
    for _ in range(count):
        position += 51 + 8 * unpack(data, position + 43)[0]
    return position


def _end_of_frames(data: mmap.mmap, count: int) -> int:
    position = 8
    for _ in range(count):
        (num_data,) = struct.unpack_from("<I", data, position + 64)
        position += 68 + 16 * num_data
    return position


def _end_of_rigs(data: mmap.mmap, count: int) -> int:
    position = 8
    for _ in range(count):
        (num_sensors,) = struct.unpack_from("<I", data, position + 4)
        position += 16 if num_sensors else 8
        for _ in range(num_sensors - 1):
            (has_pose,) = struct.unpack_from("<B", data, position + 8)
            position += 9 + (56 if has_pose else 0)
    return position


_RECORD_ENDS = {
    "cameras": _end_of_cameras,
    "images": _end_of_images,
    "points3D": _end_of_points,
    "rigs": _end_of_rigs,
    "frames": _end_of_frames,
}
_NUM_PARAMS = {
    int(model): len(pycolmap.Camera.create_from_model_id(1, model, 1.0, 1, 1).params)
    for name, model in pycolmap.CameraModelId.__members__.items()
    if name != "INVALID"
}


def _check_text_counts(model: pycolmap.Reconstruction, files: list[Path]) -> None:
    """COLMAP's text files state the number of their records in a comment; a truncated file has fewer."""
    counts = (model.num_cameras(), model.num_images(), model.num_points3D())
    for file, found in zip(files, counts, strict=True):
        with open(file, encoding="utf-8", errors="replace") as lines:
            header = "".join(line for _, line in zip(range(5), lines, strict=False) if line.startswith("#"))
        stated = re.search(r"Number of \w+: (\d+)", header)
        if stated and int(stated[1]) != found:
            raise CorruptFileError(
                f"{file} is truncated: its header announces {stated[1]} records, found {found}."
                " Run again the stage that writes it, or copy it again."
            )


def image_ids(model: pycolmap.Reconstruction) -> dict[str, int]:
    """Map image names to ids, in order of the ids."""
    return {model.images[i].name: i for i in sorted(model.images)}


def registered_poses(model: pycolmap.Reconstruction) -> dict[str, pycolmap.Rigid3d]:
    """Poses (world→camera) of the registered images by name, in order of the ids."""
    return {
        model.images[i].name: model.images[i].cam_from_world()
        for i in sorted(model.images)
        if model.images[i].has_pose
    }


def projection_centers(poses: dict[str, pycolmap.Rigid3d]) -> np.ndarray:
    """Camera centres, N×3, world frame."""
    return np.array([pose.inverse().translation for pose in poses.values()]).reshape(-1, 3)


def subset(model: pycolmap.Reconstruction, names: Iterable[str]) -> pycolmap.Reconstruction:
    """Poses and cameras of some images, without points; rigs become one trivial rig per camera.

    Args:
        model: a reconstruction.
        names: images to keep; those that the model lacks, or without a pose, are left out.
    """
    kept = pycolmap.Reconstruction()
    wanted = set(names)
    for image_id in sorted(model.images):
        image = model.images[image_id]
        if image.name not in wanted or not image.has_pose:
            continue
        if image.camera_id not in kept.cameras:
            kept.add_camera_with_trivial_rig(model.cameras[image.camera_id])
        copy = pycolmap.Image(name=image.name, camera_id=image.camera_id, image_id=image_id)
        kept.add_image_with_trivial_frame(copy, image.cam_from_world())
    return kept
