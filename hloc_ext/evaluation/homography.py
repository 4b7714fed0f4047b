"""Errors of homographies and similarity transforms between two images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Floats = npt.NDArray[np.floating]


def transform_points(matrix: Floats, points: Floats) -> npt.NDArray[np.float64]:
    """Apply a homography.

    Args:
        matrix: 3×3, or 2×3 for an affine map.
        points: N×2, pixels (x, y).

    Returns:
        N×2; infinite where a point goes to infinity.
    """
    matrix = np.vstack([matrix, (0, 0, 1)]) if len(matrix) == 2 else np.asarray(matrix)
    mapped = np.asarray(points, float) @ matrix[:, :2].T + matrix[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        points = mapped[:, :2] / mapped[:, 2:]
    return np.where(np.isfinite(points), points, np.inf)


def corner_error(estimated: Floats | None, true: Floats, size: tuple[int, int]) -> float:
    """Mean distance of the four corners of image 0 under the estimated and the true transform.

    The accuracy of homographies on HPatches (DeTone et al., SuperPoint, CVPRW 2018), in pixels of image 1.

    Args:
        estimated: 3×3 or 2×3, pixels of image 0 → pixels of image 1; None where none was found.
        true: 3×3 or 2×3.
        size: width and height of image 0, pixels. The corners are the centres of its corner pixels.

    Returns:
        Pixels; infinite without an estimate.

    Raises:
        InputError: the true transform sends a corner to infinity.
    """
    width, height = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float)
    expected = transform_points(true, corners)
    if not np.isfinite(expected).all():
        raise InputError(f"The true homography {np.asarray(true).tolist()} sends a corner to infinity.")
    if estimated is None or not np.isfinite(estimated).all():
        return float("inf")
    return float(np.linalg.norm(transform_points(estimated, corners) - expected, axis=1).mean())
