"""VisualSFM models (``NVM_V3``), the form in which Aachen Day-Night v1.0 publishes its map.

A camera line holds ``name focal qw qx qy qz cx cy cz radial 0``: the quaternion rotates world→camera,
``c`` is the camera CENTRE in the world (t = −R c). A point line holds ``x y z r g b n`` and n times
``image_index keypoint_index x y``. The focal length and the radial distortion are VisualSFM's own;
benchmarks give the intrinsics to use in a separate list.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import pycolmap

from ..errors import InputError, MissingInputError
from .atomic import replacing
from .lists import format_camera

KEYPOINT_ORIGINS = ("corner", "principal_point")
CHUNK_LINES = 20_000  # point lines parsed at once: about 50 MB
MAX_KEYPOINT_INDEX = 10**7  # an image gets as many 2D points as its largest index says


@dataclass
class NvmModel:
    """The first model of an NVM file, as stored.

    Attributes:
        names: N image names.
        focal_lengths: N, pixels.
        quaternions: N×4 (w, x, y, z), world→camera, not necessarily of unit length.
        centers: N×3 camera centres, world frame.
        radial_distortions: N.
        xyz: P×3 points, world frame.
        colors: P×3 uint8, RGB.
        track_lengths: P, observations of each point; they follow each other in the next three arrays.
        image_indices: O, rows of `names`.
        keypoint_indices: O, index of the keypoint in its image.
        keypoints: O×2 pixels; the origin differs between writers, see :func:`model_from_nvm`.
        path: the file that was read.
    """

    names: list[str]
    focal_lengths: np.ndarray
    quaternions: np.ndarray
    centers: np.ndarray
    radial_distortions: np.ndarray
    xyz: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    track_lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    image_indices: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    keypoint_indices: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    keypoints: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    path: Path = Path("model.nvm")


class _Lines:
    """Lines that are neither blank nor comments, with their numbers."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.path = path
        self.number = 0
        self._file = file

    def _useful(self) -> Iterator[tuple[int, str]]:
        for line in self._file:
            self.number += 1
            if not line.isspace() and not line.startswith("#"):
                yield self.number, line

    def take(self, count: int, what: str) -> list[tuple[int, str]]:
        """The next `count` lines; `what` they are, for the error at the end of the file."""
        lines = list(islice(self._useful(), count))
        if len(lines) < count:
            raise InputError(
                f"{self.path} ends after line {self.number}, where {what} should follow: the file is"
                " truncated. Download or copy it again."
            )
        return lines

    def take_count(self, what: str) -> int:
        number, line = self.take(1, f"the number of {what}")[0]
        try:
            count = int(line)
            if count < 0:
                raise ValueError
        except ValueError:
            raise InputError(
                f"{self.path}, line {number}: expected the number of {what}, found {line.strip()[:80]!r}. A"
                " count before it does not agree with the lines that follow."
            ) from None
        return count


def read_nvm(path: Path, skip_points: bool = False) -> NvmModel:
    """Read the first model of an NVM file.

    Args:
        path: the file.
        skip_points: read the images only.

    Raises:
        MissingInputError: no such file.
        InputError: the file is truncated, a count is wrong, or a line is malformed; names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"NVM file {path} does not exist.")
    with open(path, encoding="utf-8") as file:
        lines = _Lines(file, path)
        try:
            number, header = lines.take(1, "the header NVM_V3")[0]
            if header.split()[0] != "NVM_V3":
                raise InputError(
                    f"{path}, line {number}: expected NVM_V3, this is not an NVM file of version 3."
                )
            model = _read_images(lines)
            if not skip_points:
                _read_points(lines, model)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, after line {lines.number}: not UTF-8 text ({error.reason}), so damaged or no NVM."
            ) from error
    return model


def _read_images(lines: _Lines) -> NvmModel:
    count = lines.take_count("images")
    names, values = [], np.zeros((count, 10))
    for row, (number, line) in enumerate(lines.take(count, f"{count} images")):
        # A name may hold blanks (VisualSFM writes them as double quotes); the ten numbers may not.
        name, *numbers = line.rsplit(maxsplit=10)
        try:
            values[row] = [float(v) for v in numbers]
            if len(numbers) != 10 or not np.isfinite(values[row]).all() or not values[row, 1:5].any():
                raise ValueError
        except ValueError:
            raise InputError(
                f"{lines.path}, line {number}: expected `name focal qw qx qy qz cx cy cz radial 0`, found"
                f" {line.strip()[:120]!r}."
            ) from None
        names.append(name.strip().replace('"', " "))
    return NvmModel(names, values[:, 0], values[:, 1:5], values[:, 5:8], values[:, 8], path=lines.path)


def _read_points(lines: _Lines, model: NvmModel) -> None:
    count = lines.take_count("points")
    chunks = []
    for start in range(0, count, CHUNK_LINES):
        numbered = lines.take(min(CHUNK_LINES, count - start), f"points {start} to {count} of {count}")
        chunks.append(_parse_points(numbered, len(model.names), lines.path))
    if not chunks:
        return
    points, lengths, observations = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    model.xyz, model.colors = points[:, :3], points[:, 3:6].astype(np.uint8)
    model.track_lengths = lengths
    model.image_indices, model.keypoint_indices = observations[:, :2].astype(np.int64).T
    model.keypoints = observations[:, 2:]


def _parse_points(
    numbered: list[tuple[int, str]], num_images: int, path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n×7), their track lengths (n) and observations (o×4); one conversion for all lines."""
    try:
        lengths = np.array([int(line.split(maxsplit=7)[6]) for _, line in numbered], np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's way to report a word in the numbers
            values = np.fromstring("".join(line for _, line in numbered), sep=" ")
        ends = np.cumsum(7 + 4 * lengths)
        starts = ends - 7 - 4 * lengths
        valid = (
            lengths.min() >= 0
            and values.size == ends[-1]
            and np.array_equal(values[starts + 6], lengths)
            and np.isfinite(values).all()
        )
        if valid:
            points = values[starts[:, None] + np.arange(7)]
            is_observation = np.ones(values.size, bool)
            is_observation[starts[:, None] + np.arange(7)] = False
            observations = values[is_observation].reshape(-1, 4)
            valid = _in_range(points, observations, num_images)
    except (ValueError, IndexError, OverflowError, DeprecationWarning):
        valid = False
    if not valid:
        raise _point_error(numbered, num_images, path)
    return points, lengths, observations


def _in_range(points: np.ndarray, observations: np.ndarray, num_images: int) -> bool:
    indices, colors = observations[:, :2], points[:, 3:6]
    return bool(
        (indices >= 0).all()
        and (indices == np.floor(indices)).all()
        and (indices[:, 0] < num_images).all()
        and (indices[:, 1] <= MAX_KEYPOINT_INDEX).all()
        and (colors >= 0).all()
        and (colors < 256).all()
    )


def _point_error(numbered: list[tuple[int, str]], num_images: int, path: Path) -> InputError:
    """The error of the first wrong line of a chunk that could not be parsed at once."""
    number, line = next((entry for entry in numbered if not _is_point(entry[1], num_images)), numbered[0])
    return InputError(
        f"{path}, line {number}: expected `x y z r g b n` and n times `image_index keypoint_index x y` with"
        f" image_index < {num_images}, found {line.strip()[:120]!r}. The line is truncated, or a count before"
        " it is wrong."
    )


def _is_point(line: str, num_images: int) -> bool:
    fields = line.split()
    try:
        values = np.array(fields, float)
        complete = len(fields) >= 7 and len(fields) == 7 + 4 * int(fields[6])
    except ValueError:
        return False
    return (
        complete
        and bool(np.isfinite(values).all())
        and _in_range(values[None, :7], values[7:].reshape(-1, 4), num_images)
    )


def write_nvm(path: Path, model: NvmModel) -> None:
    """Write one model; blanks in names become double quotes, as VisualSFM does."""
    ends = np.cumsum(model.track_lengths)
    with replacing(Path(path)) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(f"NVM_V3 \n\n{len(model.names)}\n")
        for row, name in enumerate(model.names):
            numbers = [
                model.focal_lengths[row],
                *model.quaternions[row],
                *model.centers[row],
                model.radial_distortions[row],
            ]
            quoted = name.replace(" ", '"')
            file.write(f"{quoted} {' '.join(repr(float(v)) for v in numbers)} 0\n")
        file.write(f"\n{len(model.xyz)}\n")
        for row, end in enumerate(ends):
            file.write(_format_point(model, row, slice(end - model.track_lengths[row], end)))
        file.write("\n0\n")


def _format_point(model: NvmModel, row: int, track: slice) -> str:
    words = [repr(float(v)) for v in model.xyz[row]] + [str(int(v)) for v in model.colors[row]]
    words.append(str(int(model.track_lengths[row])))
    for image, index, (x, y) in zip(
        model.image_indices[track], model.keypoint_indices[track], model.keypoints[track], strict=True
    ):
        words += [str(int(image)), str(int(index)), repr(float(x)), repr(float(y))]
    return " ".join(words) + "\n"


def nvm_from_model(model: pycolmap.Reconstruction) -> NvmModel:
    """Describe the registered images and the points of a COLMAP model, keypoints from the image corner.

    The intrinsics are reduced to the mean focal length; write them with
    :func:`hloc_ext.formats.lists.write_query_list`.
    """
    images = [model.images[i] for i in sorted(model.images) if model.images[i].has_pose]
    row_of = {image.image_id: row for row, image in enumerate(images)}
    poses = [image.cam_from_world() for image in images]
    points = [model.points3D[i] for i in sorted(model.points3D)]
    tracks = [[e for e in point.track.elements if e.image_id in row_of] for point in points]
    observed = [e for track in tracks for e in track]
    xy = [model.images[e.image_id].points2D[e.point2D_idx].xy for e in observed]
    return NvmModel(
        names=[image.name for image in images],
        focal_lengths=np.array([model.cameras[image.camera_id].mean_focal_length() for image in images]),
        quaternions=np.array([np.roll(pose.rotation.quat, 1) for pose in poses]).reshape(-1, 4),
        centers=np.array([pose.inverse().translation for pose in poses]).reshape(-1, 3),
        radial_distortions=np.zeros(len(images)),
        xyz=np.array([point.xyz for point in points]).reshape(-1, 3),
        colors=np.array([point.color for point in points], np.uint8).reshape(-1, 3),
        track_lengths=np.array([len(track) for track in tracks], np.int64),
        image_indices=np.array([row_of[e.image_id] for e in observed], np.int64),
        keypoint_indices=np.array([e.point2D_idx for e in observed], np.int64),
        keypoints=np.array(xy, float).reshape(-1, 2),
    )


def match_names(names: list[str], listed: Mapping[str, object], where: str) -> list[str]:
    """Find the names of NVM images in a list, where they may lack ``./`` or the folders before them.

    Args:
        names: names of an NVM file: relative, ``./`` or absolute, with slashes or backslashes.
        listed: names of the intrinsics list, relative to the image folder.
        where: the files, for the error.

    Returns:
        The listed name of each image: the longest ending of its path that is listed.

    Raises:
        InputError: an image is not listed, or two images have the same listed name.
    """
    found: dict[str, str] = {}
    missing = []
    for name in names:
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        endings = ("/".join(parts[first:]) for first in range(len(parts)))
        match = name if name in listed else next((ending for ending in endings if ending in listed), None)
        if match is None:
            missing.append(name)
        elif match in found:
            raise InputError(f"{where}: images '{found[match]}' and '{name}' are both '{match}' of the list.")
        else:
            found[match] = name
    if missing:
        raise InputError(
            f"{where}: {len(missing)} of {len(names)} images are not in the list, for instance"
            f" {', '.join(missing[:3])}. Give the list that belongs to this model."
        )
    return list(found)


def model_from_nvm(
    nvm: NvmModel,
    intrinsics: Mapping[str, pycolmap.Camera],
    image_ids: Mapping[str, int] | None = None,
    camera_ids: Mapping[str, int] | None = None,
    keypoint_origin: str = "corner",
) -> pycolmap.Reconstruction:
    """Make a COLMAP model, one rig and one frame per image.

    Args:
        nvm: as read.
        intrinsics: camera of each image, by its name relative to the image folder; more are ignored.
        image_ids: id of each image; without it 1, 2, … in the order of the NVM file.
        camera_ids: likewise; without it the id of the image.
        keypoint_origin: what the NVM's keypoint coordinates are relative to: ``corner`` of the image
            (stored as they are, as HLOC does for Aachen), or ``principal_point`` (VisualSFM's habit).

    Returns:
        The model. NVM lists triangulated keypoints only: the others of an image are (0, 0) placeholders
        without a point. A keypoint that several points claim belongs to the first; points without an
        observation are left out.

    Raises:
        InputError: an image without intrinsics or id, or a camera shared by unequal intrinsics.
    """
    if keypoint_origin not in KEYPOINT_ORIGINS:
        raise InputError(
            f"keypoint_origin '{keypoint_origin}' is unknown: use {' or '.join(KEYPOINT_ORIGINS)}."
        )
    names = match_names(nvm.names, intrinsics, f"{nvm.path} and its intrinsics")
    if image_ids is None:
        image_ids = {name: number for number, name in enumerate(names, 1)}
    camera_ids = image_ids if camera_ids is None else camera_ids
    unknown = [name for name in names if name not in image_ids or name not in camera_ids]
    if unknown:
        raise InputError(
            f"{nvm.path}: {len(unknown)} of {len(names)} images have no id in the database, for instance"
            f" {', '.join(unknown[:3])}."
        )
    model = pycolmap.Reconstruction()
    origins = np.zeros((len(names), 2))
    if keypoint_origin == "principal_point":
        cameras = [intrinsics[name] for name in names]
        origins = np.array([(camera.principal_point_x, camera.principal_point_y) for camera in cameras])
    keypoints = _keypoints_per_image(nvm, origins)
    for row, name in enumerate(names):
        _add_camera(model, intrinsics[name], camera_ids[name], name)
        image = pycolmap.Image(
            name=name, keypoints=keypoints[row], camera_id=camera_ids[name], image_id=image_ids[name]
        )
        w, x, y, z = nvm.quaternions[row] / np.linalg.norm(nvm.quaternions[row])
        rotation = pycolmap.Rotation3d(np.array([x, y, z, w]))
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(rotation, -(rotation * nvm.centers[row])))
    _add_points(model, nvm, np.array([image_ids[name] for name in names], np.int64))
    return model


def _add_camera(
    model: pycolmap.Reconstruction, intrinsics: pycolmap.Camera, camera_id: int, name: str
) -> None:
    camera = pycolmap.Camera(intrinsics.todict())
    camera.camera_id = camera_id
    camera.has_prior_focal_length = True
    if not model.exists_camera(camera_id):
        model.add_camera_with_trivial_rig(camera)
    elif format_camera(model.cameras[camera_id]) != format_camera(camera):
        raise InputError(f"Image '{name}' shares camera {camera_id} of the database, but not its intrinsics.")


def _keypoints_per_image(nvm: NvmModel, origins: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(nvm.image_indices, kind="stable")
    bounds = np.searchsorted(nvm.image_indices[order], np.arange(len(nvm.names) + 1))
    keypoints = []
    for row in range(len(nvm.names)):
        chosen = order[bounds[row] : bounds[row + 1]][::-1]  # the first of several observations is set last
        indices = nvm.keypoint_indices[chosen]
        xy = np.zeros((indices.max(initial=-1) + 1, 2))
        xy[indices] = nvm.keypoints[chosen] + origins[row]
        keypoints.append(xy)
    return keypoints


def _add_points(model: pycolmap.Reconstruction, nvm: NvmModel, image_ids: np.ndarray) -> None:
    identity = nvm.image_indices * (MAX_KEYPOINT_INDEX + 1) + nvm.keypoint_indices
    is_first = np.zeros(len(identity), bool)
    is_first[np.unique(identity, return_index=True)[1]] = True
    ends = np.cumsum(nvm.track_lengths)
    kept_until = np.concatenate([[0], np.cumsum(is_first)])
    begins, ends = kept_until[ends - nvm.track_lengths].tolist(), kept_until[ends].tolist()
    ids = image_ids[nvm.image_indices[is_first]].tolist() if len(identity) else []
    indices = nvm.keypoint_indices[is_first].tolist()
    for xyz, color, begin, end in zip(nvm.xyz, nvm.colors, begins, ends, strict=True):
        if begin == end:
            continue
        track = pycolmap.Track()
        for k in range(begin, end):
            track.add_element(ids[k], indices[k])
        model.add_point3D(xyz, track, color)
