"""Pairs of the photos of a COLMAP model, with matches from its triangulated points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pycolmap
import torch
from scipy.spatial import Delaunay, QhullError
from torch.utils.data import Dataset

from ..errors import InputError
from ..formats.colmap import read_model
from ..formats.images import read_image
from .homography import cell_centers, inside
from .photometric import PhotometricChange
from .samples import (
    Flags,
    Matches,
    Matrix,
    PhotoChange,
    Pixels,
    as_sample,
    changed,
    checked_size,
    shared_crops,
    view,
)

#: Default change of the photos, which differ already.
PICTURE_CHANGE = PhotometricChange("mild")
#: Triangles of points span a surface when none of their sides is longer (pixels of the sample, in both
#: pictures), and the depths of their corners differ by at most this factor.
LONGEST_SIDE, DEPTH_RATIO = 40.0, 1.1
#: Observations farther from the projection of their point are left out, pixels of the photo.
MAX_ERROR = 2.0
#: A triangle may be so much larger in one picture than in the other: more is seen at a glancing angle.
_AREA_RATIO = 8.0

# First word of the seeds of what this module draws.
_SFM_PAIRS = 661


@dataclass(frozen=True)
class _Observations:
    """Points that an image of the model sees.

    Attributes:
        name: of the image.
        ids: (M,) of the points, ascending.
        pixels: (M, 2) in the photo as it is loaded; the centre of the top-left pixel is (0, 0).
        depths: (M,) in the camera frame.
    """

    name: str
    ids: npt.NDArray[np.int64]
    pixels: Matrix
    depths: Matrix


class SfmPairs(Dataset[dict[str, torch.Tensor]]):
    """Photos that share points of a model.

    Samples are those of :func:`~hloc_ext.datasets.samples.as_sample`. Matches are sparse: a cell is valid
    where its centre lies in a small triangle of points that both photos observe and whose corners are at
    nearly the same depth; its match is interpolated in the triangle.

    Args:
        model_dir: COLMAP model, binary or text, or in memory.
        image_dir: folder of its images.
        size: (height, width) of the samples, multiples of 8, or the side of a square: crops around what both
            photos show.
        seed: of all samples.
        length: number of samples.
        overlap: least and greatest share of the points of the image with fewer of them that both observe.
        min_points: least number of points that both observe.
        longest_side: photos are reduced to this many pixels and kept in memory.
        photo_change: change of each photo; None shows it as it is.

    Raises:
        MissingInputError, CorruptFileError: the model or an image cannot be read.
        InputError: no two images share enough points, or the size cannot be used.
    """

    def __init__(
        self,
        model_dir: Path | pycolmap.Reconstruction,
        image_dir: Path,
        size: int | tuple[int, int] = 256,
        seed: int = 0,
        length: int = 10_000,
        overlap: tuple[float, float] = (0.1, 0.7),
        min_points: int = 30,
        longest_side: int = 800,
        photo_change: PhotoChange | None = PICTURE_CHANGE,
    ) -> None:
        model = model_dir if isinstance(model_dir, pycolmap.Reconstruction) else read_model(Path(model_dir))
        self.size = checked_size(size)
        self.image_dir, self.longest_side = Path(image_dir), longest_side
        self.seed, self.length, self.photo_change = seed, length, photo_change
        self.images = [_observations(model, image_id, longest_side) for image_id in model.reg_image_ids()]
        self.pairs = _covisible_pairs(self.images, overlap, min_points)
        if not self.pairs:
            raise InputError(
                f"None of the {len(self.images)} images of the model shares {min_points} points, and from"
                f" {overlap[0]:g} to {overlap[1]:g} of them, with another: triangulate more points, or widen"
                " the range."
            )
        self._loaded: dict[str, Pixels] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, _SFM_PAIRS, index])
        pair = self.pairs[rng.integers(len(self.pairs))]
        chosen = [self.images[pair[i]] for i in rng.permutation(2)]
        _, *rows = np.intersect1d(chosen[0].ids, chosen[1].ids, assume_unique=True, return_indices=True)
        first, second = (seen.pixels[kept] for seen, kept in zip(chosen, rows, strict=True))
        depths = [seen.depths[kept] for seen, kept in zip(chosen, rows, strict=True)]
        photos = [self.photo(seen.name) for seen in chosen]
        crops = shared_crops([photo.shape for photo in photos], (first, second), self.size, rng)
        clean = [view(photo, crop, self.size) for photo, crop in zip(photos, crops, strict=True)]
        images = [changed(picture, self.photo_change, rng) for picture in clean]
        pixels = [
            (points - crop[:2, 2]) / crop[0, 0] for points, crop in zip((first, second), crops, strict=True)
        ]
        matches = [interpolated_matches(pixels[i], pixels[1 - i], depths[i], self.size) for i in (0, 1)]
        return as_sample(images, clean, matches)

    def photo(self, name: str) -> Pixels:
        """A photo of the model in grey, (H, W), reduced to `longest_side`.

        Raises:
            MissingInputError, CorruptFileError: it cannot be read.
        """
        if name not in self._loaded:
            photo = read_image(self.image_dir / name, grayscale=True)
            factor = self.longest_side / max(photo.shape)
            if factor < 1:
                size = (round(photo.shape[1] * factor), round(photo.shape[0] * factor))
                photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
            self._loaded[name] = photo
        return self._loaded[name]


def interpolated_matches(
    first: Matrix, second: Matrix, depths: Matrix, size: tuple[int, int], longest_side: float = LONGEST_SIDE
) -> Matches:
    """Where the cells of one picture lie in another, of points that are seen in both.

    Args:
        first, second: (M, 2) pixels of the points in the two pictures; some may lie outside.
        depths: (M,) of the points in the first.
        size: (height, width) of both pictures.
        longest_side: of the triangles, pixels.

    Returns:
        (N, 2) pixels in the second picture, (0, 0) if unknown; and whether they are known and inside, (N,).
    """
    centers = cell_centers(size)
    points, valid = np.zeros_like(centers), np.zeros(len(centers), bool)
    margin = round(longest_side)
    near = inside(first + margin, (size[0] + 2 * margin, size[1] + 2 * margin))
    first, second, depths = first[near], second[near], depths[near]
    try:
        triangulation = Delaunay(first)
    except (QhullError, ValueError):  # fewer than three points, or all on one line
        return points, valid
    simplices = triangulation.simplices
    good = _on_a_surface(first[simplices], second[simplices], depths[simplices], longest_side)
    found = triangulation.find_simplex(centers)
    cells = np.flatnonzero((found >= 0) & good[found])
    affine = triangulation.transform[found[cells]]  # (K, 3, 2)
    weights = np.einsum("kij,kj->ki", affine[:, :2], centers[cells] - affine[:, 2])
    weights = np.column_stack([weights, 1 - weights.sum(axis=1)])
    points[cells] = np.einsum("ki,kij->kj", weights, second[simplices[found[cells]]])
    valid[cells] = inside(points[cells], size)
    return points, valid


def _on_a_surface(first: Matrix, second: Matrix, depths: Matrix, longest_side: float) -> Flags:
    """Which triangles, (T, 3, 2) in each picture and (T, 3) depths, are small parts of one surface."""
    longest, area = [], []
    for corners in (first, second):
        sides = corners - np.roll(corners, 1, axis=1)
        longest.append(np.linalg.norm(sides, axis=2).max(axis=1))
        area.append(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0])
    # Seen from the same side in both, and not from its edge.
    ratio = area[1] / np.where(area[0] == 0, np.inf, area[0])
    good = (ratio > 1 / _AREA_RATIO) & (ratio < _AREA_RATIO)
    good &= np.maximum(*longest) <= longest_side
    return np.asarray(good & (depths.max(axis=1) <= DEPTH_RATIO * depths.min(axis=1)))


def _observations(model: pycolmap.Reconstruction, image_id: int, longest_side: int) -> _Observations:
    image = model.images[image_id]
    camera = model.cameras[image.camera_id]
    observed = [point for point in image.points2D if point.has_point3D()]
    ids = np.array([point.point3D_id for point in observed], np.int64)
    xy = np.array([point.xy for point in observed], np.float64).reshape(-1, 2)
    xyz = np.array([model.points3D[int(number)].xyz for number in ids]).reshape(-1, 3)
    in_camera = xyz @ image.cam_from_world().matrix()[:, :3].T + image.cam_from_world().matrix()[:, 3]
    kept = in_camera[:, 2] > 0
    projected = np.full_like(xy, np.inf)
    if kept.any():
        projected[kept] = camera.img_from_cam(in_camera[kept])
    kept &= np.linalg.norm(projected - xy, axis=1) <= MAX_ERROR
    # A point that an image observes twice counts once.
    ids, rows = np.unique(ids[kept], return_index=True)
    factor = min(1.0, longest_side / max(camera.width, camera.height))
    size = np.array([camera.width, camera.height])
    scale = np.round(size * factor) / size if factor < 1 else np.ones(2)
    return _Observations(image.name, ids, xy[kept][rows] * scale - 0.5, in_camera[kept, 2][rows])


def _covisible_pairs(
    images: Sequence[_Observations], limits: tuple[float, float], min_points: int
) -> list[tuple[int, int]]:
    """Pairs of images with a share of common points within the limits."""
    pairs = []
    for i, first in enumerate(images):
        for j, second in enumerate(images[:i]):
            shared = len(np.intersect1d(first.ids, second.ids, assume_unique=True))
            fewer = min(len(first.ids), len(second.ids))
            if shared >= max(min_points, 1) and limits[0] <= shared / fewer <= limits[1]:
                pairs.append((j, i))
    return pairs
