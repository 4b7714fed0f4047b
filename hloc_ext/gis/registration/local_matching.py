"""Correspondences between two pictures that are almost registered: correlation of patches of their fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...evaluation.homography import transform_points
from .gradient_fields import Fields, Picture, gradient_fields

Matrix = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]

#: Least correlation of a patch, least ratio of the curvatures of its peak, and how much better its peak is
#: than the best one elsewhere.
LEAST_CORRELATION, LEAST_RATIO, LEAST_LEAD = 0.12, 0.12, 1.03
#: Patches that exist, and are not flat, to this share.
_LEAST_EXISTING, _LEAST_ENERGY = 0.7, 0.15
#: Patches that are correlated at once.
_BATCH = 64
#: Pixels around a peak that are not another one.
_PEAK = 3


class LocalMatches(NamedTuple):
    """Correspondences of patches.

    Attributes:
        points0, points1: M×2 pixels of the full pictures.
        weights: M, squared correlations.
        tried: number of patches with structure; those without a clear peak have no correspondence.
    """

    points0: Floats
    points1: Floats
    weights: Floats
    tried: int


class Registered(NamedTuple):
    """Fields of both pictures in the frame of image 1, reduced.

    Attributes:
        fields0, fields1: of the same size.
        factor: of the reduction of image 1.
    """

    fields0: Fields
    fields1: Fields
    factor: float


def scale_of(matrix: Matrix, shape: tuple[int, int]) -> float:
    """Pixels of image 1 per pixel of image 0 in the middle of image 0, (height, width)."""
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    w = float(matrix[2] @ (x, y, 1))
    return math.sqrt(max(abs(float(np.linalg.det(matrix)) / w**3), 1e-12))


def resizing(from_shape: tuple[int, int], to_shape: tuple[int, int]) -> Matrix:
    """3×3: pixel of a picture of (height, width) → pixel of the same picture resized."""
    scale = np.array(to_shape[::-1], float) / np.array(from_shape[::-1], float)
    matrix = np.diag([*scale, 1.0])
    matrix[:2, 2] = (scale - 1) / 2
    return matrix


def registered_fields(picture0: Picture, picture1: Picture, matrix: Matrix, size: int) -> Registered:
    """Fields of both pictures in the frame of image 1, at about the resolution of the coarser one.

    Args:
        picture0, picture1: the pictures.
        matrix: 3×3, pixel of image 0 → pixel of image 1.
        size: longest side of what image 0 or image 1 covers, pixels of the reduced frame.
    """
    scale = scale_of(matrix, picture0.shape)
    factor = min(1.0, 1.0 / scale, size / min(max(picture0.shape) * scale, max(picture1.shape)))
    small0, small1 = picture0.resized(min(factor * scale, 1.0)), picture1.resized(factor)
    from_small = np.linalg.inv(resizing(picture0.shape, small0.shape))
    placed = resizing(picture1.shape, small1.shape) @ matrix @ from_small
    warped = small0.warped(placed, small1.shape)
    return Registered(gradient_fields(warped), gradient_fields(small1), factor)


def match_patches(
    picture0: Picture, picture1: Picture, matrix: Matrix, size: int, patch: int = 56, reach: int = 8
) -> LocalMatches:
    """Find where the patches of image 0 are in image 1, near where a transform puts them.

    Args:
        picture0, picture1: the pictures.
        matrix: 3×3, pixel of image 0 → pixel of image 1.
        size: longest side at which they are compared, pixels.
        patch: side of a patch, pixels at this size; patches overlap by half.
        reach: largest displacement in x and y that is found, pixels at this size.
    """
    both = registered_fields(picture0, picture1, matrix, size)
    height, width = both.fields1.mask.shape
    exists = both.fields0.mask * both.fields1.mask
    energy = (both.fields0.values**2).sum(2) * both.fields0.mask
    mean_energy = float(energy.sum() / max(float(both.fields0.mask.sum()), 1.0))
    patch = min(patch, height, width)
    corners = [
        (top, left)
        for top in range(0, height - patch + 1, max(patch // 2, 1))
        for left in range(0, width - patch + 1, max(patch // 2, 1))
        if exists[top : top + patch, left : left + patch].mean() >= _LEAST_EXISTING
        and energy[top : top + patch, left : left + patch].mean() >= _LEAST_ENERGY * mean_energy
    ]
    centers, found, weights, tried = [], [], [], len(corners)
    for start in range(0, tried, _BATCH):
        part = corners[start : start + _BATCH]
        maps = _correlations(both.fields0.values, both.fields1.values, part, patch, reach)
        for (top, left), correlation in zip(part, maps, strict=True):
            peak = _peak(correlation, reach)
            if peak is not None:
                centers.append((left + (patch - 1) / 2, top + (patch - 1) / 2))
                found.append(peak[:2])
                weights.append(peak[2] ** 2)
    if not centers:
        return LocalMatches(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), tried)
    small = (height, width)
    to_full = np.linalg.inv(resizing(picture1.shape, small))
    points = np.array(centers, float)
    points0 = transform_points(np.linalg.inv(matrix) @ to_full, points)
    points1 = transform_points(to_full, points + np.array(found, float))
    return LocalMatches(points0, points1, np.array(weights, float), tried)


def _correlations(
    values0: npt.NDArray[np.float32],
    values1: npt.NDArray[np.float32],
    corners: Sequence[tuple[int, int]],
    patch: int,
    reach: int,
) -> npt.NDArray[np.float32]:
    """Normalised correlation of patches of field 0 with field 1, for all displacements.

    Args:
        values0, values1: (H, W, 2).
        corners: top and left of B patches.
        patch, reach: pixels.

    Returns:
        (B, 2 reach + 1, 2 reach + 1): rows, columns; beyond the border of field 1 there is nothing.
    """
    side, count = patch + 2 * reach, 2 * reach + 1
    border = (reach, reach, reach, reach, cv2.BORDER_CONSTANT)
    padded = cv2.copyMakeBorder(values1, *border, value=(0.0, 0.0))
    # Energy of field 1 in the window of each displacement: from its top left corner on.
    squares = cv2.boxFilter(
        (padded**2).sum(2), -1, (patch, patch), anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    templates = np.stack([values0[t : t + patch, f : f + patch] for t, f in corners])
    regions = np.stack([padded[t : t + side, f : f + side] for t, f in corners])
    energies = np.stack([squares[t : t + count, f : f + count] for t, f in corners])
    size = cv2.getOptimalDFTSize(side)
    spectra = [
        torch.fft.rfft2(torch.from_numpy(a).permute(0, 3, 1, 2), s=(size, size)) for a in (templates, regions)
    ]
    products = (spectra[0].conj() * spectra[1]).sum(1)
    covariance = torch.fft.irfft2(products, s=(size, size))[:, :count, :count].numpy()
    own = (templates**2).sum((1, 2, 3))[:, None, None]
    return np.asarray(covariance / np.sqrt(own * np.maximum(energies, 0) + 1e-3), np.float32)


def _peak(correlation: npt.NDArray[Any], reach: int) -> tuple[float, float, float] | None:
    """Displacement (x, y) to a fraction of a pixel, and height, of a clear peak; None without one."""
    row, column = divmod(int(correlation.argmax()), correlation.shape[1])
    value = float(correlation[row, column])
    if value < LEAST_CORRELATION or not (0 < row < 2 * reach and 0 < column < 2 * reach):
        return None
    others = correlation.copy()
    others[max(row - _PEAK, 0) : row + _PEAK + 1, max(column - _PEAK, 0) : column + _PEAK + 1] = 0
    if value < LEAST_LEAD * float(others.max()):
        return None
    c = correlation[row - 1 : row + 2, column - 1 : column + 2].astype(float)
    gradient = np.array([c[1, 2] - c[1, 0], c[2, 1] - c[0, 1]]) / 2
    xx, yy = c[1, 2] - 2 * c[1, 1] + c[1, 0], c[2, 1] - 2 * c[1, 1] + c[0, 1]
    xy = (c[2, 2] - c[2, 0] - c[0, 2] + c[0, 0]) / 4
    hessian = np.array([[xx, xy], [xy, yy]])
    low, high = np.linalg.eigvalsh(-hessian)
    if low <= LEAST_RATIO * high:  # along a straight border any place is as good
        return None
    step = np.clip(-np.linalg.solve(hessian, gradient), -1, 1)
    return column - reach + float(step[0]), row - reach + float(step[1]), value
