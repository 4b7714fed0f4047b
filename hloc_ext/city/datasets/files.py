"""Pictures and tables on disk: whole or absent, the same bytes for the same content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from ...errors import CorruptFileError
from ...formats.atomic import write_bytes, write_text

Pixels = npt.NDArray[np.uint8]

#: Quality of the JPEG pictures.
JPEG_QUALITY = 90


def write_jpeg(path: Path, rgb: Pixels, exif: bytes = b"") -> None:
    """Write an (H, W, 3) RGB picture, with EXIF tags if they are given (see :func:`camera_exif`)."""
    data = _encode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if exif:
        segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        data = data[:2] + segment + data[2:]
    write_bytes(path, data)


def camera_exif(make: str, model: str, focal_length: float) -> bytes:
    """EXIF tags of a camera.

    Args:
        make, model: its names.
        focal_length: 35 mm equivalent, by the diagonal of the picture; written in whole millimetres, as the
            standard has it.
    """
    tags = Image.Exif()
    tags[ExifTags.Base.Make], tags[ExifTags.Base.Model] = make, model
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = round(focal_length)
    return tags.tobytes()


def write_png(path: Path, picture: Pixels) -> None:
    """Write an (H, W, 3) RGB picture or (H, W) grey values or classes, without loss."""
    write_bytes(path, _encode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3]))


def read_png(path: Path) -> Pixels:
    """Read what :func:`write_png` wrote.

    Raises:
        CorruptFileError: the file is damaged.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise CorruptFileError(f"{path} cannot be read: delete it and run the same command again.")
    return np.asarray(picture[..., ::-1] if picture.ndim == 3 else picture, np.uint8)


def write_rows(path: Path, rows: Iterable[Sequence[object]], separator: str = ",") -> None:
    """Write a table without a header, one line for each row; numbers in full precision."""
    write_text(path, "".join(separator.join(str(value) for value in row) + "\n" for row in rows))


def exist(paths: Iterable[Path]) -> bool:
    """Whether all files are there; none of this package's is ever there in part."""
    return all(path.exists() for path in paths)


def _encode(extension: str, picture: Pixels, options: list[int]) -> bytes:
    ordered = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    done, data = cv2.imencode(extension, ordered, options)
    assert done, f"OpenCV cannot encode {extension}"
    return data.tobytes()
