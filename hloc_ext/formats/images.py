"""Reading images as COLMAP sees them.

The EXIF orientation tag is ignored (COLMAP and HLOC do the same), so that pixel coordinates agree
with COLMAP's; images with such a tag are reported once, because a rotated photo matches poorly.
"""

from __future__ import annotations

import io
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from ..errors import CorruptFileError, InputError, MissingInputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

Item = TypeVar("Item")
Value = TypeVar("Value")


def list_images(root: Path) -> list[str]:
    """Names of all images below `root`, relative and with forward slashes, sorted.

    Raises:
        MissingInputError: no such folder, or no image in it.
        InputError: a name is not UTF-8, which lists and HDF5 files cannot hold.
    """
    root = Path(root)
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise MissingInputError(f"Image folder {root} {problem}.")
    names = sorted(
        (Path(folder) / file).relative_to(root).as_posix()
        for folder, _, files in os.walk(root, followlinks=True)
        for file in files
        if file.lower().endswith(SUFFIXES) and not file.startswith(".")
    )
    if not names:
        raise MissingInputError(f"No image in {root}: expected files ending in {', '.join(SUFFIXES)}.")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(f"The name of image {name!r} in {root} is not UTF-8: rename the file.") from None
    return names


def read_image(path: Path, grayscale: bool = False, least_side: int | None = None) -> np.ndarray:
    """Read an image of any bit depth and colour model as 8 bits.

    Args:
        path: image file; any name the file system allows.
        grayscale: return H×W instead of H×W×3 (RGB).
        least_side: decode a half, a quarter or an eighth of the size if its shorter side still has so many
            pixels; of JPEG that is quick. None: decode all.

    Returns:
        uint8 array. EXIF orientation is ignored.

    Raises:
        MissingInputError: no such file.
        CorruptFileError: the file is empty, truncated, too large for OpenCV, or no image.
    """
    path = Path(path)
    try:
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open non-ASCII names everywhere
    except FileNotFoundError:
        raise MissingInputError(f"Image {path} does not exist.") from None
    except OSError as error:
        raise CorruptFileError(f"Image {path} cannot be read: {error.strerror or error}.") from error
    if data.size == 0:
        raise CorruptFileError(f"Image {path} is empty (0 bytes): replace or remove it.")
    mode = _MODES[1 if least_side is None else _reduction(data, least_side)][grayscale]
    try:
        image = cv2.imdecode(data, mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if "MAX_IMAGE" in str(error) or "pixels" in str(error).lower():
            raise CorruptFileError(
                f"Image {path} is too large for OpenCV. Reduce it, or set the environment variable"
                " OPENCV_IO_MAX_IMAGE_PIXELS."
            ) from error
        raise CorruptFileError(f"Image {path} cannot be decoded: {error}. Replace or remove it.") from error
    if image is None:
        raise CorruptFileError(
            f"Image {path} cannot be decoded (truncated, or no image): replace or remove it."
        )
    return image if grayscale else np.ascontiguousarray(image[:, :, ::-1])


_MODES = {
    1: (cv2.IMREAD_COLOR, cv2.IMREAD_GRAYSCALE),
    2: (cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
    4: (cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    8: (cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
}


def open_image(image: Path | str | np.ndarray, grayscale: bool = False) -> np.ndarray:
    """Pixels of a file (:func:`read_image`), or of an array of either kind.

    Args:
        image: file, or uint8 array H×W (grey) or H×W×3 (RGB).
        grayscale: return H×W instead of H×W×3 (RGB).

    Raises:
        MissingInputError, CorruptFileError: the file cannot be read.
        InputError: the array is no such image.
    """
    if isinstance(image, (str, Path)):
        return read_image(Path(image), grayscale)
    if image.dtype != np.uint8 or image.ndim < 2 or image.shape[2:] not in ((), (3,)) or not image.size:
        raise InputError(f"Expected an H×W×3 or H×W array of uint8, got {image.shape} of {image.dtype}.")
    if grayscale and image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return image if grayscale or image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)


def _reduction(data: np.ndarray, least_side: int) -> int:
    """Greatest factor by which the decoder may reduce an image; 1 if the size cannot be told beforehand."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data.tobytes())) as image:
            shorter = min(image.size)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return 1
    return max(factor for factor in _MODES if factor == 1 or shorter // factor >= least_side)


def exif_orientation(path: Path) -> int:
    """EXIF orientation tag of an image, 1 (upright) where there is none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(0x0112, 1)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return 1  # unreadable metadata, or an image so large that Pillow refuses it
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def resize_image(image: np.ndarray, size: tuple[int, int], interpolation: str = "cv2_area") -> np.ndarray:
    """Resize an image as HLOC does.

    Args:
        image: H×W or H×W×C.
        size: (width, height) in pixels.
        interpolation: ``cv2_area`` (``cv2_linear`` where it enlarges), another ``cv2_*``, or ``pil_*``.

    Raises:
        InputError: unknown interpolation.
    """
    library, _, method = interpolation.partition("_")
    if library == "cv2" and hasattr(cv2, f"INTER_{method.upper()}"):
        flag = getattr(cv2, f"INTER_{method.upper()}")
        height, width = image.shape[:2]
        if flag == cv2.INTER_AREA and (width < size[0] or height < size[1]):
            flag = cv2.INTER_LINEAR
        return cv2.resize(image, size, interpolation=flag)
    if library == "pil":
        from PIL import Image

        if method.upper() in Image.Resampling.__members__:
            resized = Image.fromarray(image.astype(np.uint8)).resize(size, Image.Resampling[method.upper()])
            return np.asarray(resized, image.dtype)
    raise InputError(f"Unknown interpolation '{interpolation}': use cv2_area, cv2_linear, pil_linear, …")


def prefetch(
    function: Callable[[Item], Value], items: Iterable[Item], num_workers: int = 2, ahead: int = 4
) -> Iterator[Value]:
    """Apply `function` to `items` in threads and yield the results in order, at most `ahead` early."""
    with ThreadPoolExecutor(max(num_workers, 1)) as pool:
        pending: deque[Future[Value]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= max(ahead, num_workers, 1):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
