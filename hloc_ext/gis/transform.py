"""Corrections of layers: a map of metres, what is known of its error, and how geometries are moved by it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorruptFileError, InputError, MissingInputError
from ..formats.atomic import read_text, write_text
from .crs import parse_crs, transform_points, unwrap
from .extra import naming_extra
from .grid import Floats, Grid, Matrix, apply_homography, crs_name

with naming_extra():
    import pyproj
    import shapely

Geometries = npt.NDArray[np.object_]

#: Models of a correction, each of which holds those before it.
MODELS = ("translation", "similarity", "affine", "homography")
_FORMAT = "hloc_ext alignment 1"


@dataclass(frozen=True, eq=False)
class Alignment:
    """Correction of layers: where they claim to be → where they fit the image.

    An image is corrected by the inverse (:meth:`inverse`). With a CRS, lengths are metres of it; without one
    (picture and mask of unknown placement) they are pixels of the picture, x right, y up.

    Attributes:
        matrix: (3, 3) float64, corrected ← claimed: offsets (east, north, 1) from `anchor`, scaled so that
            its last element is 1.
        model: of :data:`MODELS`.
        crs: metric CRS, or None.
        anchor: (2,) easting and northing of the point that offsets count from, the image's centre.
        covariance: (8, 8) of the first eight elements of `matrix`, row by row; zero for those that the model
            fixes. None where unknown.

    Raises:
        InputError: the matrix is not of the model, or not a map that keeps left and right.
    """

    matrix: Matrix
    model: str
    crs: pyproj.CRS | None
    anchor: Floats
    covariance: Floats | None = None

    def __post_init__(self) -> None:
        matrix, anchor = np.asarray(self.matrix, np.float64), np.asarray(self.anchor, np.float64)
        if matrix.shape != (3, 3) or anchor.shape != (2,):
            raise InputError(f"An alignment is 3×3 about a point: got {matrix.shape} and {anchor.shape}.")
        if self.model not in MODELS:
            raise InputError(f"Unknown model '{self.model}': use {', '.join(MODELS)}.")
        if not (np.isfinite(matrix).all() and np.isfinite(anchor).all() and matrix[2, 2] > 0):
            raise InputError(f"The alignment {matrix.tolist()} about {anchor.tolist()} is not finite.")
        matrix = matrix / matrix[2, 2]
        if np.linalg.det(matrix) <= 0:
            raise InputError(f"The alignment {matrix.tolist()} mirrors or flattens the layers.")
        if self.model != "homography" and np.abs(matrix[2, :2]).max() > 1e-12:
            raise InputError(f"{matrix.tolist()} has perspective, which the model '{self.model}' has not.")
        if self.covariance is not None and np.shape(self.covariance) != (8, 8):
            raise InputError(f"The covariance of an alignment is 8×8: got {np.shape(self.covariance)}.")
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "anchor", anchor)

    @staticmethod
    def identity(crs: pyproj.CRS | None, anchor: npt.ArrayLike) -> Alignment:
        """The alignment that leaves everything in place."""
        return Alignment(np.eye(3), "translation", crs, np.asarray(anchor, np.float64))

    @staticmethod
    def from_pixels(
        map_from_image: npt.ArrayLike,
        image: Grid,
        layers: Grid,
        model: str,
        covariance: npt.ArrayLike | None = None,
    ) -> Alignment:
        """The alignment that a registration of an image to a picture of the layers implies.

        What the layers show at pixel ``map_from_image @ p`` belongs to pixel ``p`` of the image.

        Args:
            map_from_image: (3, 3), pixel of the picture of the layers ← pixel of the image; the centre of the
                first pixel is (0, 0) in both, as in matching.
            image: grid of the image as it claims to be.
            layers: grid that the layers were drawn on; of the same CRS.
            model: of :data:`MODELS`. All but ``homography`` and ``affine`` want grids of square pixels.
            covariance: (8, 8) of the first eight elements of `map_from_image`, row by row, after scaling its
                last element to 1; it is propagated (first order).

        Raises:
            InputError: the grids are of different CRSs, or the result is not an alignment.
        """
        if image.crs != layers.crs:
            raise InputError("The image and the picture of the layers are on grids of different CRSs.")
        homography = np.asarray(map_from_image, np.float64)
        if abs(np.linalg.det(homography)) < 1e-12 or homography[2, 2] == 0:
            raise InputError(f"The registration {homography.tolist()} cannot be inverted.")
        homography = homography / homography[2, 2]
        anchor = image.center
        left = _shift(-anchor) @ image.crs_from_center
        right = np.asarray(np.linalg.inv(_shift(-anchor) @ layers.crs_from_center), np.float64)
        matrix, jacobian = _inverse_between(left, homography, right)
        if np.abs(homography[2, :2]).max() < 1e-15:
            matrix[2] = 0, 0, 1
        return Alignment(matrix, model, image.crs, anchor, _propagated(covariance, jacobian))

    def to_pixels(self, image: Grid, layers: Grid) -> Matrix:
        """The inverse of :meth:`from_pixels`: (3, 3), pixel of the layers' picture ← pixel of the image."""
        offset_from_image = _shift(-self.anchor) @ image.crs_from_center
        offset_from_layers = _shift(-self.anchor) @ layers.crs_from_center
        homography = np.linalg.inv(self.matrix @ offset_from_layers) @ offset_from_image
        return np.asarray(homography / homography[2, 2], np.float64)

    def inverse(self) -> Alignment:
        """Claimed ← corrected: what moves the image onto the layers."""
        matrix, jacobian = _inverse_between(np.eye(3), self.matrix, np.eye(3))
        return Alignment(matrix, self.model, self.crs, self.anchor, _propagated(self.covariance, jacobian))

    def then(self, later: Alignment) -> Alignment:
        """This alignment and after it another one of the same CRS; the covariance is not kept.

        Raises:
            InputError: they are of different CRSs.
        """
        if self.crs != later.crs:
            raise InputError("Alignments of different CRSs cannot follow each other.")
        between = _shift(later.anchor - self.anchor)
        matrix = between @ later.matrix @ np.linalg.inv(between) @ self.matrix
        model = max(self.model, later.model, key=MODELS.index)
        if model != "homography":
            matrix[2] = 0, 0, 1
        return Alignment(matrix, model, self.crs, self.anchor)

    def map_points(self, points: npt.ArrayLike) -> Floats:
        """Corrected points (N, 2) of claimed ones (N, 2) in `crs`; infinite behind the horizon."""
        offsets = np.asarray(points, np.float64) - self.anchor
        return apply_homography(self.matrix, offsets) + self.anchor

    def claimed_grid(self, grid: Grid) -> Grid:
        """Where the layers claim to be what they show, once corrected, at the pixels of a grid.

        Drawing layers on it as they are shows on `grid` the corrected ones.

        Args:
            grid: of the same CRS.
        """
        back = _shift(self.anchor) @ np.linalg.inv(self.matrix) @ _shift(-self.anchor)
        matrix = back @ grid.crs_from_pixel
        if self.model != "homography" and not np.any(grid.crs_from_pixel[2, :2]):
            matrix[2] = 0, 0, 1
        return Grid(grid.crs, matrix, grid.width, grid.height)

    def apply(self, geometries: Any, crs: pyproj.CRS | None) -> Geometries:
        """Correct geometries of any CRS; see :func:`move`."""
        return move(geometries, crs, self.crs, self.map_points)

    def parameters(self) -> dict[str, float]:
        """What the alignment does at its anchor.

        Returns:
            ``east`` and ``north`` (metres), ``rotation`` (degrees, counter-clockwise), ``scale`` (root of the
            ratio of areas), ``anisotropy`` (ratio of the largest to the smallest scale, at least 1).
        """
        shift = self.matrix[:2, 2]
        linear = self.matrix[:2, :2] - np.outer(shift, self.matrix[2, :2])
        largest, smallest = np.linalg.svd(linear, compute_uv=False)
        rotation = math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])
        return {
            "east": float(shift[0]),
            "north": float(shift[1]),
            "rotation": math.degrees(rotation),
            "scale": float(math.sqrt(largest * smallest)),
            "anisotropy": float(largest / smallest),
        }

    def position_covariance(self, points: npt.ArrayLike) -> Floats | None:
        """Covariance (N, 2, 2) of corrected positions, square metres; None where that of the matrix is.

        Args:
            points: (N, 2) claimed positions in `crs`.
        """
        if self.covariance is None:
            return None
        offsets = np.asarray(points, np.float64) - self.anchor
        homogeneous = np.column_stack([offsets, np.ones(len(offsets))])
        mapped = homogeneous @ self.matrix.T
        x, y = mapped[:, 0] / mapped[:, 2], mapped[:, 1] / mapped[:, 2]
        zero = np.zeros_like(homogeneous)
        rows = [
            np.hstack([homogeneous, zero, -x[:, None] * offsets]),
            np.hstack([zero, homogeneous, -y[:, None] * offsets]),
        ]
        jacobian = np.stack(rows, axis=1) / mapped[:, 2, None, None]
        return np.asarray(jacobian @ self.covariance @ jacobian.transpose(0, 2, 1), np.float64)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``parameters`` are for the reader and are not read again."""
        return {
            "format": _FORMAT,
            "model": self.model,
            "crs": None if self.crs is None else crs_name(self.crs),
            "anchor": self.anchor.tolist(),
            "corrected_offset_from_claimed_offset": self.matrix.tolist(),
            "covariance": None if self.covariance is None else np.asarray(self.covariance).tolist(),
            "parameters": self.parameters(),
        }

    @staticmethod
    def from_dict(record: dict[str, Any], source: str = "the alignment") -> Alignment:
        """What :meth:`as_dict` wrote.

        Raises:
            CorruptFileError: it is something else; names `source`.
        """
        try:
            if record["format"] != _FORMAT:
                raise InputError(f"format {record['format']!r}, not {_FORMAT!r}")
            covariance = record["covariance"]
            return Alignment(
                np.array(record["corrected_offset_from_claimed_offset"], np.float64),
                record["model"],
                None if record["crs"] is None else parse_crs(record["crs"], source),
                np.array(record["anchor"], np.float64),
                None if covariance is None else np.array(covariance, np.float64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(
                f"{source} does not hold an alignment ({error}): write it again."
            ) from error

    def save(self, path: Path) -> None:
        """Write a JSON file, atomically."""
        write_text(Path(path), json.dumps(self.as_dict(), indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> Alignment:
        """Read what :meth:`save` wrote.

        Raises:
            MissingInputError: no such file.
            CorruptFileError: it holds something else.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingInputError(f"Alignment {path} does not exist.")
        try:
            record = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise CorruptFileError(f"{path} is not JSON ({error}): write it again.") from error
        return Alignment.from_dict(record, str(path))


def move(
    geometries: Any,
    crs: pyproj.CRS | None,
    metric_crs: pyproj.CRS | None,
    map_points: Callable[[Floats], Floats],
) -> Geometries:
    """Move the vertices of geometries by a map of metres.

    Heights stay as they are, so do missing and empty geometries and, for geographic coordinates, the side of
    the antimeridian on which a vertex is written (180.1 becomes 180.2, not -179.8).

    Args:
        geometries: shapely geometries, of any shape.
        crs: theirs.
        metric_crs: that of `map_points`.
        map_points: (N, 2) → (N, 2), infinite where it does not work.

    Returns:
        New geometries, of the same shape.

    Raises:
        InputError: only one of the CRSs is known, or vertices have no place in the metric CRS or in the map.
    """
    if (crs is None) != (metric_crs is None):
        raise InputError("Geometries without a CRS cannot be moved by metres on the ground: state their CRS.")

    def moved(points: Floats) -> Floats:
        metres = points if crs is None or metric_crs is None else transform_points(crs, metric_crs, points)
        result = np.full_like(metres, np.inf)
        known = np.isfinite(metres).all(axis=1)
        result[known] = map_points(metres[known])
        if crs is not None and metric_crs is not None:
            result = transform_points(metric_crs, crs, result)
            result[:, 0] = unwrap(result[:, 0], points[:, 0], crs)
        # What is not finite already is no vertex that could be lost (POINT EMPTY has one of NaN).
        lost = np.isfinite(points).all(axis=1) & ~np.isfinite(result).all(axis=1)
        if lost.any():
            example = points[np.flatnonzero(lost)[0]].tolist()
            raise InputError(
                f"{lost.sum()} of {len(points)} vertices, such as {example}, are too far from the image to be"
                " corrected with it: leave them out."
            )
        return result

    def moved_with_heights(points: Floats) -> Floats:
        return np.column_stack([moved(points[:, :2]), points[:, 2]])

    array = np.asarray(geometries, dtype=object)
    flat, result = array.ravel(), np.empty(array.size, dtype=object)
    high = np.asarray(shapely.has_z(flat), bool)
    result[~high] = shapely.transform(flat[~high], moved)
    result[high] = shapely.transform(flat[high], moved_with_heights, include_z=True)
    return result.reshape(array.shape)


def _shift(offset: npt.ArrayLike) -> Matrix:
    x, y = np.asarray(offset, np.float64)
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _inverse_between(left: Matrix, matrix: Matrix, right: Matrix) -> tuple[Matrix, Floats]:
    """``left @ inverse(matrix) @ right``, its last element made 1, and how its elements follow the matrix's.

    The Jacobian is (8, 8), of the first eight elements by the first eight, row by row.
    """
    inverse = np.linalg.inv(matrix)
    product = left @ inverse @ right
    jacobian = -np.kron(left @ inverse, (inverse @ right).T)  # (9, 9)
    last = product[2, 2]
    jacobian = jacobian / last - np.outer(product.ravel(), jacobian[8]) / last**2
    return np.asarray(product / last, np.float64), np.asarray(jacobian[:8, :8], np.float64)


def _propagated(covariance: npt.ArrayLike | None, jacobian: Floats) -> Floats | None:
    if covariance is None:
        return None
    return np.asarray(jacobian @ np.asarray(covariance, np.float64) @ jacobian.T, np.float64)
