"""Lists of images, with or without intrinsics (``name MODEL width height params…``)."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pycolmap

from ..errors import InputError, MissingInputError
from .atomic import read_text, write_text
from .pairs import check_name

CAMERA_MODELS = tuple(name for name in pycolmap.CameraModelId.__members__ if name != "INVALID")


def parse_camera(fields: list[str], where: str) -> pycolmap.Camera:
    """Make a camera from ``MODEL width height params…``.

    Args:
        fields: the words of the line after the image name.
        where: file and line, for the error.

    Raises:
        InputError: unknown model, wrong number of parameters, or a value that is not a finite number.
    """
    if len(fields) < 4:
        raise InputError(
            f"{where}: no intrinsics. Expected `name MODEL width height params…`, for instance"
            " `query.jpg SIMPLE_RADIAL 1024 768 853.2 512 384 -0.02`."
        )
    model, width, height, *params = fields
    if model not in CAMERA_MODELS:
        raise InputError(f"{where}: unknown camera model '{model}'; COLMAP has {', '.join(CAMERA_MODELS)}.")
    try:
        values = np.array(params, float)
        size = int(float(width)), int(float(height))
    except (ValueError, OverflowError):
        raise InputError(f"{where}: width, height and parameters must be numbers.") from None
    if min(size) <= 0 or not np.isfinite(values).all():
        raise InputError(f"{where}: width and height must be positive, parameters finite.")
    camera = pycolmap.Camera(model=model, width=size[0], height=size[1], params=values)
    if not camera.verify_params():
        raise InputError(
            f"{where}: {model} takes the parameters ({camera.params_info}), found {len(values)} numbers."
        )
    if (values[list(camera.focal_length_idxs())] <= 0).any():
        raise InputError(f"{where}: the focal length must be positive.")
    return camera


def _lines(path: Path) -> list[tuple[str, list[str]]]:
    lines = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if fields and not fields[0].startswith("#"):
            lines.append((f"{path}, line {number}", fields))
    return lines


def _expand(path: Path) -> list[Path]:
    if Path(path).is_file():  # its name may hold characters that mean something in a pattern
        return [Path(path)]
    files = sorted(Path(p) for p in glob.glob(str(path)))
    if not files:
        raise MissingInputError(f"Image list {path} does not exist.")
    return files


def read_image_list(path: Path) -> list[str]:
    """Read the image names of one list, or of all lists that match a pattern; `#` starts a comment.

    Raises:
        MissingInputError: no file matches.
        InputError: no name in it, a name occurs twice, or a name seems to hold a blank.
    """
    entries = [(where, fields) for file in _expand(path) for where, fields in _lines(file)]
    for where, fields in entries:
        if len(fields) > 1 and fields[1] not in CAMERA_MODELS and not _is_number(fields[1]):
            raise InputError(
                f"{where}: expected one image name, found {' '.join(fields)!r}. Lists cannot hold names"
                " with blanks: rename the file. Intrinsics begin with a camera model, such as PINHOLE."
            )
    return _names([(where, fields[0]) for where, fields in entries], path)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _names(entries: list[tuple[str, str]], path: Path) -> list[str]:
    seen: dict[str, str] = {}
    for where, name in entries:
        if name in seen:
            raise InputError(f"{where}: image '{name}' is listed already ({seen[name]}): remove one.")
        seen[name] = where
    if not seen:
        raise InputError(f"{path} lists no image.")
    return list(seen)


def read_query_list(path: Path) -> list[tuple[str, pycolmap.Camera]]:
    """Read names and cameras of one list, or of all lists that match a pattern.

    Raises:
        MissingInputError: no file matches.
        InputError: empty list, repeated name, missing or wrong intrinsics; names file and line.
    """
    entries = [(where, fields) for file in _expand(path) for where, fields in _lines(file)]
    names = _names([(where, fields[0]) for where, fields in entries], path)
    cameras = [parse_camera(fields[1:], where) for where, fields in entries]
    return list(zip(names, cameras, strict=True))


read_intrinsics = read_query_list


def format_camera(camera: pycolmap.Camera) -> str:
    """``MODEL width height params…`` of a camera, without loss of precision."""
    params = " ".join(repr(float(p)) for p in camera.params)
    return f"{camera.model.name} {camera.width} {camera.height} {params}"


def write_query_list(
    path: Path, queries: Mapping[str, pycolmap.Camera] | Iterable[tuple[str, pycolmap.Camera]]
) -> None:
    """Write names with intrinsics.

    Raises:
        InputError: a name contains white space or starts with `#`.
    """
    items = list(queries.items() if isinstance(queries, Mapping) else queries)
    for name, _ in items:
        _check_list_name(name)
    write_text(path, "".join(f"{name} {format_camera(camera)}\n" for name, camera in items))


def write_image_list(path: Path, names: Iterable[str]) -> None:
    """Write one image name per line; names are checked as in :func:`write_query_list`."""
    names = list(names)
    for name in names:
        _check_list_name(name)
    write_text(path, "".join(f"{name}\n" for name in names))


def _check_list_name(name: str) -> None:
    check_name(name)
    if name.startswith("#"):
        raise InputError(f"Image name {name!r} would be read as a comment: rename the file.")
