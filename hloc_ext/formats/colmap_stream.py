"""Records of a COLMAP model one after the other, for models that are too large to hold in pycolmap.

Pixels are COLMAP's: the centre of the top-left one is (0.5, 0.5). Poses are read from the list of images,
where COLMAP repeats those of its frames and leaves out images without one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn, TextIO

import numpy as np
import numpy.typing as npt
import pycolmap

from ..errors import CorruptFileError, MissingInputError
from .colmap import check_binary_model, model_files

_POSED_IMAGE = struct.Struct("<I7dI")
# The start of a point, before its track.
_POINT = np.dtype(
    [("id", "<i8"), ("xyz", "<f8", 3), ("color", "u1", 3), ("error", "<f8"), ("track_length", "<u8")]
)
_POINT_BLOCK = 1 << 17
_OBSERVATION = np.dtype([("xy", "<f8", 2), ("point_id", "<i8")])


class StoredImage(NamedTuple):
    """A registered image of the model.

    Attributes:
        image_id, camera_id: of the model.
        name: of the image.
        cam_from_world: (3, 4).
        xy: (M, 2) of its keypoints, pixels.
        point_ids: (M,) int64, the points that they observe, -1 for none.
    """

    image_id: int
    camera_id: int
    name: str
    cam_from_world: npt.NDArray[np.float64]
    xy: npt.NDArray[np.float64]
    point_ids: npt.NDArray[np.int64]


class ModelStream:
    """A COLMAP model on disk, binary or text.

    Args:
        path: folder of the model; binary is preferred where it holds both.

    Raises:
        MissingInputError: the folder holds no complete model.
        CorruptFileError: a binary file is truncated.
    """

    def __init__(self, path: Path) -> None:
        files = model_files(Path(path))
        if not files:
            raise MissingInputError(
                f"No COLMAP model in {path}: expected cameras, images and points3D, as .bin or .txt."
            )
        self.camera_file, self.image_file, self.point_file = files
        self.binary = self.camera_file.suffix == ".bin"
        if self.binary:
            check_binary_model(Path(path))

    def cameras(self) -> dict[int, pycolmap.Camera]:
        """All cameras by id.

        Raises:
            CorruptFileError: a line of a text file cannot be parsed.
        """
        if self.binary:
            with open(self.camera_file, "rb") as file:
                return dict(_binary_camera(file) for _ in range(_count(file)))
        cameras = {}
        for number, line in _text_lines(self.camera_file):
            try:
                camera_id, model, width, height, *params = line.split()
                cameras[int(camera_id)] = pycolmap.Camera(
                    camera_id=int(camera_id),
                    model=model,
                    width=int(width),
                    height=int(height),
                    params=[float(value) for value in params],
                )
                if not cameras[int(camera_id)].verify_params():
                    raise ValueError
            except (ValueError, KeyError, TypeError, RuntimeError):
                _refuse(self.camera_file, number, "ID MODEL WIDTH HEIGHT PARAMS", line)
        _check_count(self.camera_file, len(cameras))
        return cameras

    def images(self) -> Iterator[StoredImage]:
        """The registered images in the order of the file, one at a time.

        Raises:
            CorruptFileError: a line of a text file cannot be parsed, or lines are missing.
        """
        if self.binary:
            with open(self.image_file, "rb") as file:
                for _ in range(_count(file)):
                    yield _binary_image(file)
            return
        count = 0
        with open(self.image_file, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.isspace() or line.startswith("#"):
                    continue
                try:
                    yield _text_image(line, file)
                except (ValueError, StopIteration):
                    _refuse(self.image_file, number + count, "an image and a line of its keypoints", line)
                count += 1
        _check_count(self.image_file, count)

    def points(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Ids (P,), ascending, and positions (P, 3) in the world frame of all points.

        Raises:
            CorruptFileError: a line of a text file cannot be parsed, or lines are missing.
        """
        ids, xyz = self._binary_points() if self.binary else self._text_points()
        order = np.argsort(ids)
        return ids[order], xyz[order]

    def _binary_points(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        with open(self.point_file, "rb") as file:
            count = _count(file)
            ids, xyz = np.empty(count, np.int64), np.empty((count, 3))
            for start in range(0, count, _POINT_BLOCK):
                rows = slice(start, min(start + _POINT_BLOCK, count))
                block = np.frombuffer(b"".join(_point_starts(file, rows.stop - start)), _POINT)
                ids[rows], xyz[rows] = block["id"], block["xyz"]
        return ids, xyz

    def _text_points(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        ids, xyz = [], []
        for number, line in _text_lines(self.point_file):
            fields = line.split(maxsplit=8)
            try:
                ids.append(int(fields[0]))
                xyz.append(np.array(fields[1:4], np.float64))
                if len(fields) < 8:
                    raise ValueError
            except (ValueError, IndexError):
                _refuse(self.point_file, number, "ID X Y Z R G B ERROR TRACK", line)
        _check_count(self.point_file, len(ids))
        return np.array(ids, np.int64), np.array(xyz, np.float64).reshape(-1, 3)


def _count(file: BinaryIO) -> int:
    return int(struct.unpack("<Q", file.read(8))[0])


def _binary_camera(file: BinaryIO) -> tuple[int, pycolmap.Camera]:
    camera_id, model, width, height = struct.unpack("<IiQQ", file.read(24))
    camera = pycolmap.Camera.create_from_model_id(
        camera_id, pycolmap.CameraModelId(model), 1.0, width, height
    )
    camera.params = np.frombuffer(file.read(8 * len(camera.params)), "<f8").tolist()
    return camera_id, camera


def _point_starts(file: BinaryIO, count: int) -> Iterator[bytes]:
    size = _POINT.itemsize
    for _ in range(count):
        start = file.read(size)
        file.seek(8 * int.from_bytes(start[-8:], "little"), 1)
        yield start


def _binary_image(file: BinaryIO) -> StoredImage:
    image_id, *pose, camera_id = _POSED_IMAGE.unpack(file.read(_POSED_IMAGE.size))
    name = b"".join(iter(lambda: file.read(1), b"\0")).decode()
    observed = np.frombuffer(file.read(_OBSERVATION.itemsize * _count(file)), _OBSERVATION)
    return StoredImage(image_id, camera_id, name, _pose(pose), observed["xy"], observed["point_id"])


def _text_image(line: str, file: TextIO) -> StoredImage:
    image_id, *pose, camera_id, name = line.strip().split(maxsplit=9)
    values = np.array(next(file).split(), np.float64).reshape(-1, 3)
    # Old versions of COLMAP write the largest unsigned number where no point is observed.
    ids = np.where(values[:, 2] < 2.0**62, values[:, 2], -1).astype(np.int64)
    numbers = [float(value) for value in pose]
    return StoredImage(int(image_id), int(camera_id), name, _pose(numbers), values[:, :2], ids)


def _pose(values: list[float]) -> npt.NDArray[np.float64]:
    """(3, 4) of the quaternion (w, x, y, z) and the translation."""
    w, x, y, z, *translation = values
    rotation = pycolmap.Rotation3d(np.array([x, y, z, w]))
    rotation.normalize()
    return np.column_stack([rotation.matrix(), translation])


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.isspace() and not line.startswith("#"):
                yield number, line


def _check_count(path: Path, found: int) -> None:
    """The comments at the start of COLMAP's text files announce the number of records."""
    with open(path, encoding="utf-8") as file:
        header = "".join(line for _, line in zip(range(5), file, strict=False) if line.startswith("#"))
    announced = re.search(r"Number of \w+: (\d+)", header)
    if announced and int(announced[1]) != found:
        raise CorruptFileError(
            f"{path} is truncated: its header announces {announced[1]} records, found {found}. Run again the"
            " stage that writes it, or copy it again."
        )


def _refuse(path: Path, number: int, expected: str, line: str) -> NoReturn:
    raise CorruptFileError(
        f"{path}, line {number}: expected {expected}, found {line.strip()[:80]!r}. Run again the stage that"
        " writes it, or copy it again."
    )
