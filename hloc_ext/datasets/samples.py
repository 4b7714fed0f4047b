"""What the training pairs of a matcher have in common: their size, views, and samples.

Pixels: the centre of the top-left one is (0, 0), x to the right, y down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError
from .homography import CELL

Matrix = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
#: Where points lie in another picture, (N, 2) pixels, and whether that is known and they do, (N,).
Matches = tuple[Matrix, Flags]
#: Change a grey photo (H, W) uint8 as another camera, light or weather would.
PhotoChange = Callable[[Pixels, np.random.Generator], Pixels]


def checked_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of samples, of the side of a square or both.

    Raises:
        InputError: not multiples of :data:`CELL`.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < CELL or height % CELL or width % CELL:
        raise InputError(f"Size {height}x{width} of the samples: expected multiples of {CELL}.")
    return height, width


def changed(picture: Pixels, change: PhotoChange | None, rng: np.random.Generator) -> Pixels:
    """The picture as `change` makes it, or as it is."""
    return picture if change is None else change(picture, rng)


def view(picture: Pixels, transform: Matrix, size: tuple[int, int], fill: int = 0) -> Pixels:
    """A view of a picture, smooth where its pixels are larger than those of the picture.

    Args:
        picture: (H, W).
        transform: (3, 3) pixel of the view → pixel of the picture.
        size: (height, width) of the view.
        fill: value outside of the picture.
    """
    pixel = math.sqrt(abs(np.linalg.det(transform[:2, :2])))
    if pixel > 1.2:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.5 * math.sqrt(pixel**2 - 1)).astype(np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(picture, transform[:2], size[::-1], flags=flags, borderValue=float(fill))
    return np.asarray(seen, np.uint8)


def as_sample(
    images: Sequence[Pixels],
    clean: Sequence[Pixels],
    matches: Sequence[Matches],
) -> dict[str, torch.Tensor]:
    """Training sample of a matcher.

    Args:
        images: two (H, W) pictures, changed.
        clean: the same without the changes.
        matches: of the cells of each picture in the other one.

    Returns:
        image0, image1, clean0, clean1: (1, H, W) float32 in [0, 1]; points1, valid1: (N, 2) float32 pixels
        and (N,) bool, where the centres of the cells of image 0 lie in image 1, and whether that is known,
        inside of image 1 and not hidden; points0, valid0: the reverse.
    """
    arrays = {"image0": images[0], "image1": images[1], "clean0": clean[0], "clean1": clean[1]}
    sample = {
        name: torch.from_numpy(np.asarray(array, np.float32)[None] / np.float32(255))
        for name, array in arrays.items()
    }
    for other, (points, valid) in zip((1, 0), matches, strict=True):
        sample[f"points{other}"] = torch.from_numpy(points.astype(np.float32))
        sample[f"valid{other}"] = torch.from_numpy(valid)
    return sample


def shared_crops(
    shapes: Sequence[tuple[int, ...]],
    shared: tuple[Matrix, Matrix],
    size: tuple[int, int],
    rng: np.random.Generator,
    zoom: float = 1.4,
) -> list[Matrix]:
    """Crops of two pictures around a point that both show.

    Args:
        shapes: (height, width) of the pictures.
        shared: points that both show, (N, 2) pixels in each; none: the crops are about the middles.
        size: (height, width) of the crops.
        rng: source of the choices.
        zoom: a crop shows at least 1/zoom of the largest extent of its shape in the picture.

    Returns:
        (3, 3) each, without rotation: pixel of the crop → pixel of the picture. Crops lie inside of the
        pictures.
    """
    extents = [np.array([shape[1], shape[0]], np.float64) for shape in shapes]
    centers = [extent / 2 for extent in extents]
    if len(shared[0]):
        # Between the middle of what both show and any point of it.
        weight = rng.uniform(0, 0.7)
        any_point = shared[0][rng.integers(len(shared[0]))]
        wanted = (1 - weight) * np.median(shared[0], axis=0) + weight * any_point
        nearest = np.argmin(np.linalg.norm(shared[0] - wanted, axis=1))
        centers = [points[nearest] for points in shared]
    crops = []
    for center, extent in zip(centers, extents, strict=True):
        steps = np.array([size[1] - 1, size[0] - 1])
        pixel = float(((extent - 1) / steps).min()) * math.exp(rng.uniform(-math.log(zoom), 0))
        corner = center - pixel * steps / 2 + rng.uniform(-0.1, 0.1, 2) * pixel * steps
        corner = np.clip(corner, 0, np.maximum(extent - 1 - pixel * steps, 0))
        crops.append(np.array([[pixel, 0, corner[0]], [0, pixel, corner[1]], [0, 0, 1]]))
    return crops
