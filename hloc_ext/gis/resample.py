"""Rasters on other grids, in windows: whatever their CRS, rotation or perspective."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .crs import transform_points, unwrap
from .grid import Floats, Grid, apply_homography
from .raster import Flags, Pixels, Raster

# Positions are computed for every so many pixels, and linearly in between.
_STEP = 16
# Side of the windows, pixels.
_SIDE = 1024
# Coarser pixels than this many of the raster are averaged while reading.
_AVERAGED = 1.5
# Pixels that are read around what is needed.
_BORDER = 3


@dataclass(frozen=True, eq=False)
class _Part:
    """A window of a grid, and where its pixels are in a raster.

    Attributes:
        rows, columns: of the grid.
        box: (column, row, width, height) of what of the raster is needed.
        x, y: (H, W) positions of the centres of the grid's pixels in the box, whose upper left corner is
            (0, 0).
        inside: (H, W), which of them are in the raster.
    """

    rows: slice
    columns: slice
    box: tuple[int, int, int, int]
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    inside: Flags

    @property
    def coarseness(self) -> float:
        """How many pixels of the raster a pixel of the grid is wide, in the middle."""
        height, width = self.x.shape
        if min(height, width) < 2:
            return 1.0
        i, j = min(height // 2, height - 2), min(width // 2, width - 2)
        (a, b), (c, d) = ((v[i, j + 1] - v[i, j], v[i + 1, j] - v[i, j]) for v in (self.x, self.y))
        area = float(abs(a * d - b * c))
        return area**0.5 if np.isfinite(area) else 1.0


def resample(raster: Raster, grid: Grid) -> tuple[Pixels, Flags]:
    """A raster's picture on a grid: bilinear, averaged where the grid is coarser.

    Args:
        raster: the raster.
        grid: of the same frame: both with a CRS, or both without.

    Returns:
        (H, W) grey or (H, W, 3) RGB; and (H, W), which pixels are valid. Others are 0.

    Raises:
        InputError: only one of the two has a CRS.
        CorruptFileError: the raster is damaged.
    """
    shape = (grid.height, grid.width)
    color = len(raster.bands) == 3 or raster.palette is not None
    picture, valid = np.zeros((*shape, 3) if color else shape, np.uint8), np.zeros(shape, bool)
    for part in _parts(raster, grid):
        width, height = part.box[2:]
        factor = part.coarseness if part.coarseness > _AVERAGED else 1.0
        size = max(round(width / factor), 1), max(round(height / factor), 1)
        source, good = raster.read(part.box, size)
        # From corners of the raster's pixels to centres of those read.
        x = part.x * np.float32(size[0] / width) - np.float32(0.5)
        y = part.y * np.float32(size[1] / height) - np.float32(0.5)
        seen = cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = part.inside
        if not good.all():
            weight = cv2.remap(
                good.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            inside = inside & (weight > 0.999)
        picture[part.rows, part.columns] = np.where(inside[..., None] if color else inside, seen, 0)
        valid[part.rows, part.columns] = inside
    return picture, valid


def resample_values(raster: Raster, grid: Grid) -> tuple[npt.NDArray[Any], Flags]:
    """The values of a raster's first band at the centres of a grid's pixels: for pictures of classes.

    Args:
        raster: the raster.
        grid: of the same frame: both with a CRS, or both without.

    Returns:
        (H, W) values, 0 where invalid; and (H, W), which pixels are valid.

    Raises:
        InputError: only one of the two has a CRS.
        CorruptFileError: the raster is damaged.
    """
    shape = (grid.height, grid.width)
    values, valid = np.zeros(shape, raster.dtype), np.zeros(shape, bool)
    for part in _parts(raster, grid):
        source, good = raster.read_values(part.box)
        inside = part.inside.copy()
        # Rounding to 32 bits may reach the far border of the box.
        row = np.minimum(part.y[inside].astype(np.int64), part.box[3] - 1)
        column = np.minimum(part.x[inside].astype(np.int64), part.box[2] - 1)
        seen = good[row, column]
        inside[inside] = seen
        values[part.rows, part.columns][inside] = source[row, column][seen]
        valid[part.rows, part.columns] = inside
    return values, valid


def _parts(raster: Raster, grid: Grid) -> Iterator[_Part]:
    """Windows of a grid that a raster has something to show in."""
    if (raster.crs is None) != (grid.crs is None):
        raise InputError(f"{raster.path} and the grid to show it on must both have a CRS, or neither.")
    for column, row, window in grid.windows(_SIDE):
        rows, columns = slice(row, row + window.height), slice(column, column + window.width)
        part = _part(raster, window, rows, columns, _STEP)
        if part is not None:
            yield part


def _part(raster: Raster, window: Grid, rows: slice, columns: slice, step: int) -> _Part | None:
    """A window that is seen through a raster; None if the raster is elsewhere."""
    at_x, at_y = _nodes(window.width, step), _nodes(window.height, step)
    nodes = _positions(raster, window, at_x, at_y)
    finite = np.asarray(np.isfinite(nodes).all(axis=2))
    if step > 1 and not finite.all():  # the horizon, or the end of the CRS: nothing to interpolate between
        return _part(raster, window, rows, columns, 1)
    size = np.array((raster.width, raster.height))
    if not finite.any():
        return None
    low = np.maximum(np.floor(nodes[finite].min(axis=0)) - _BORDER, 0)
    high = np.minimum(np.ceil(nodes[finite].max(axis=0)) + _BORDER, size)
    if (high <= low).any():
        return None
    local = np.where(finite[..., None], nodes - low, -1.0).astype(np.float32)
    x, y = local[..., 0], local[..., 1]
    if step > 1:
        down, across = _weights(at_y, window.height), _weights(at_x, window.width)
        x, y = (np.asarray(down @ v @ across.T, np.float32) for v in (x, y))
    width, height = size - low
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    box = int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
    return _Part(rows, columns, box, x, y, inside)


def _positions(
    raster: Raster, grid: Grid, columns: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> Floats:
    """Where the centres of some of a grid's pixels are in a raster, (rows, columns, 2); corner convention."""
    x, y = np.meshgrid(columns + 0.5, rows + 0.5)
    points = apply_homography(grid.crs_from_pixel, np.column_stack([x.ravel(), y.ravel()]))
    own = raster.grid
    if grid.crs is not None and raster.crs is not None:
        points = transform_points(grid.crs, raster.crs, points)
        points[:, 0] = unwrap(points[:, 0], own.center[0], raster.crs)
    return apply_homography(own.pixel_from_crs, points).reshape(len(rows), len(columns), 2)


def _nodes(length: int, step: int) -> npt.NDArray[np.int64]:
    return np.unique(np.append(np.arange(0, length, step), length - 1))


def _weights(nodes: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.float32]:
    """(length, nodes): linear interpolation between nodes."""
    units = np.eye(len(nodes))
    weights = np.column_stack([np.interp(np.arange(length), nodes, unit) for unit in units])
    return np.asarray(weights, np.float32)
