"""Grids of pixels on the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .extra import naming_extra

with naming_extra():
    import pyproj

Floats = npt.NDArray[np.float64]
#: (3, 3) homography of column vectors (x, y, 1).
Matrix = npt.NDArray[np.float64]

_CORNER_FROM_CENTER = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])


def apply_homography(matrix: Matrix, points: npt.ArrayLike) -> Floats:
    """Map points (N, 2) by a homography (3, 3); infinite at and behind the horizon."""
    points = np.asarray(points, np.float64)
    mapped = points @ matrix[:2, :2].T + matrix[:2, 2]
    weight = points @ matrix[2, :2] + matrix[2, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        mapped = mapped / weight[:, None]
    return np.where((weight > 0)[:, None] & np.isfinite(mapped), mapped, np.inf)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the pixels of a picture are.

    Attributes:
        crs: of the coordinates; None for the frame of a picture without placement (x right, y up, pixels).
        crs_from_pixel: (3, 3), pixel → coordinates. The upper left corner of the first pixel is (0, 0).
        width, height: pixels.
    """

    crs: pyproj.CRS | None
    crs_from_pixel: Matrix
    width: int
    height: int

    @staticmethod
    def north_up(
        crs: pyproj.CRS | None, left: float, top: float, pixel_size: float, width: int, height: int
    ) -> Grid:
        """Grid of square pixels with rows from west to east.

        Args:
            crs: metric, or None.
            left, top: coordinates of the upper left corner.
            pixel_size: metres.
            width, height: pixels.
        """
        matrix = np.array([[pixel_size, 0, left], [0, -pixel_size, top], [0, 0, 1]], np.float64)
        return Grid(crs, matrix, width, height)

    @staticmethod
    def around(crs: pyproj.CRS | None, points: npt.ArrayLike, pixel_size: float) -> Grid:
        """The smallest north-up grid that holds all `points` (N, 2), from their north-western corner.

        Raises:
            InputError: a point is infinite.
        """
        points = np.asarray(points, np.float64)
        if not np.isfinite(points).all():
            raise InputError("A corner of the image has no place in the CRS that is worked in.")
        low, high = points.min(axis=0), points.max(axis=0)
        width, height = (max(math.ceil(v - 1e-3), 1) for v in (high - low) / pixel_size)
        return Grid.north_up(crs, low[0], high[1], pixel_size, width, height)

    @cached_property
    def pixel_from_crs(self) -> Matrix:
        """(3, 3), coordinates → pixel; corner convention."""
        return np.asarray(np.linalg.inv(self.crs_from_pixel), np.float64)

    @property
    def crs_from_center(self) -> Matrix:
        """(3, 3), pixel → coordinates; the centre of the first pixel is (0, 0), as in matching."""
        return np.asarray(self.crs_from_pixel @ _CORNER_FROM_CENTER, np.float64)

    @property
    def pixel_size(self) -> float:
        """Side of a pixel in the middle of the grid (root of its area), in units of the CRS."""
        column, row = self.width / 2, self.height / 2
        around = np.array([[column, row], [column + 0.5, row], [column, row + 0.5]])
        origin, right, down = apply_homography(self.crs_from_pixel, around)
        (a, b), (c, d) = right - origin, down - origin
        return 2 * math.sqrt(abs(a * d - b * c))

    @property
    def is_north_up(self) -> bool:
        """Whether the pixels are squares in rows from west to east."""
        (a, b, _), (d, e, _), last = self.crs_from_pixel
        return bool(b == d == 0 and a > 0 and abs(a + e) < 1e-9 * a and tuple(last) == (0, 0, 1))

    @property
    def corners(self) -> Floats:
        """(4, 2) coordinates: upper left, upper right, lower right, lower left."""
        w, h = self.width, self.height
        return apply_homography(self.crs_from_pixel, [[0, 0], [w, 0], [w, h], [0, h]])

    @property
    def center(self) -> Floats:
        """(2,) coordinates of the middle."""
        return apply_homography(self.crs_from_pixel, [[self.width / 2, self.height / 2]])[0]

    def outline(self, steps: int = 16) -> Floats:
        """(4 × `steps`, 2) coordinates along the border, from the upper left corner clockwise."""
        t = np.arange(steps) / steps
        zero, one = np.zeros(steps), np.ones(steps)
        unit = [(t, zero), (one, t), (1 - t, one), (zero, 1 - t)]
        pixels = np.concatenate([np.column_stack(side) for side in unit]) * (self.width, self.height)
        return apply_homography(self.crs_from_pixel, pixels)

    def window(self, column: int, row: int, width: int, height: int) -> Grid:
        """Part of the grid, which may reach beyond it."""
        moved = self.crs_from_pixel @ np.array([[1, 0, column], [0, 1, row], [0, 0, 1]])
        return Grid(self.crs, moved, width, height)

    def windows(self, side: int, overlap: int = 0) -> list[tuple[int, int, Grid]]:
        """Windows of at most `side` pixels that cover the grid, as (column, row, window).

        Args:
            side: pixels, of each window.
            overlap: by how many pixels neighbours overlap.

        Raises:
            InputError: the overlap is not smaller than the side.
        """
        if not 0 <= overlap < side:
            raise InputError(f"Windows of {side} pixels cannot overlap by {overlap}.")
        step = side - overlap
        rows = range(0, max(self.height - overlap, 1), step)
        columns = range(0, max(self.width - overlap, 1), step)
        return [
            (c, r, self.window(c, r, min(side, self.width - c), min(side, self.height - r)))
            for r in rows
            for c in columns
        ]

    def resized(self, width: int, height: int) -> Grid:
        """The same ground with other pixels."""
        scale = np.diag([self.width / width, self.height / height, 1.0])
        return Grid(self.crs, self.crs_from_pixel @ scale, width, height)

    def with_pixel_size(self, pixel_size: float) -> Grid:
        """The same ground with pixels of about `pixel_size`."""
        factor = self.pixel_size / pixel_size
        return self.resized(max(round(self.width * factor), 1), max(round(self.height * factor), 1))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "crs": None if self.crs is None else crs_name(self.crs),
            "crs_from_pixel": self.crs_from_pixel.tolist(),
            "width": self.width,
            "height": self.height,
        }


def crs_name(crs: pyproj.CRS) -> str:
    """``EPSG:NUMBER`` where there is one, else WKT."""
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else crs.to_wkt()
