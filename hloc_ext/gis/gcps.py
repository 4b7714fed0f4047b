"""Placement by ground control points."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .grid import Floats, Matrix, apply_homography

# A homography is taken where an affine map leaves more than this, pixels.
_AFFINE = 0.05
# Points that leave more than this part of the diagonal, and more than these pixels, bend the image.
_BENT, _BENT_PIXELS = 0.01, 5.0


def fit_gcps(pixels: npt.ArrayLike, points: npt.ArrayLike, path: Path) -> Matrix:
    """The map of pixels to coordinates that ground control points state: affine, or else a homography.

    Args:
        pixels: (N, 2) columns and rows; the upper left corner of the image is (0, 0).
        points: (N, 2) coordinates.
        path: the image, for messages.

    Returns:
        (3, 3) coordinates ← pixel.

    Raises:
        InputError: fewer than three points, points on a line, or points that no homography explains.
    """
    pixels, points = np.asarray(pixels, np.float64), np.asarray(points, np.float64)
    middle = points.mean(axis=0)
    offsets = points - middle
    if np.linalg.matrix_rank(_homogeneous(pixels), tol=1e-6 * (1 + np.abs(pixels).max())) < 3:
        raise InputError(f"The ground control points of {path} are fewer than three or on a line.")
    matrix = np.eye(3)
    matrix[:2] = np.linalg.lstsq(_homogeneous(pixels), offsets, rcond=None)[0].T
    if abs(np.linalg.det(matrix)) < 1e-12:
        raise InputError(f"The ground control points of {path} lie on a line.")
    residual = _residual(matrix, pixels, offsets)
    if residual > _AFFINE and len(points) >= 5:
        found, _ = cv2.findHomography(pixels, offsets, 0)
        if found is not None:
            projective = np.asarray(found, np.float64)
            if (better := _residual(projective, pixels, offsets)) < residual:
                matrix, residual = projective, better
    if residual > max(_BENT_PIXELS, _BENT * float(np.linalg.norm(np.ptp(pixels, axis=0)))):
        raise InputError(
            f"The ground control points of {path} bend the image by {residual:.0f} pixels, more than a"
            " homography can: straighten it first (gdalwarp -tps)."
        )
    there = np.array([[1, 0, middle[0]], [0, 1, middle[1]], [0, 0, 1]])
    return np.asarray(there @ matrix, np.float64)


def _homogeneous(points: Floats) -> Floats:
    return np.column_stack([points, np.ones(len(points))])


def _residual(matrix: Matrix, pixels: Floats, offsets: Floats) -> float:
    """Largest distance between points and their images, pixels."""
    back = apply_homography(np.asarray(np.linalg.inv(matrix), np.float64), offsets)
    return float(np.linalg.norm(back - pixels, axis=1).max())
