"""Rasters on other grids, in windows: whatever their CRS, rotation or perspective."""

from __future__ import annotations

from collections.abc import Callable
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

    def fill(rows: slice, columns: slice, positions: Floats) -> None:
        box = _box(raster, positions)
        if box is None:
            return
        factor = _coarseness(positions)
        factor = factor if factor > _AVERAGED else 1.0
        size = max(round(box[2] / factor), 1), max(round(box[3] / factor), 1)
        part, good = raster.read(box, size)
        # From corners of the raster's pixels to centres of those read.
        scaled = (positions - box[:2]) * (size[0] / box[2], size[1] / box[3]) - 0.5
        x, y = np.moveaxis(scaled.astype(np.float32), 2, 0)
        seen = cv2.remap(part, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        weight = np.where(good, np.float32(1), np.float32(0))
        all_good = cv2.remap(weight, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) > 0.999
        inside = all_good & _inside(raster, positions)
        picture[rows, columns][inside] = seen[inside]
        valid[rows, columns] = inside

    _in_windows(raster, grid, fill)
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

    def fill(rows: slice, columns: slice, positions: Floats) -> None:
        box = _box(raster, positions)
        if box is None:
            return
        part, good = raster.read_values(box)
        inside = _inside(raster, positions)
        column, row = np.floor(positions[inside]).astype(np.int64).T - np.array(box[:2])[:, None]
        inside[inside] = good[row, column]
        values[rows, columns][inside] = part[row, column][good[row, column]]
        valid[rows, columns] = inside

    _in_windows(raster, grid, fill)
    return values, valid


def _in_windows(raster: Raster, grid: Grid, fill: Callable[[slice, slice, Floats], None]) -> None:
    """Call a function with each window of a grid and the places (H, W, 2) of its pixels in the raster."""
    if (raster.crs is None) != (grid.crs is None):
        raise InputError(f"{raster.path} and the grid to show it on must both have a CRS, or neither.")
    for column, row, window in grid.windows(_SIDE):
        rows, columns = slice(row, row + window.height), slice(column, column + window.width)
        fill(rows, columns, _positions(raster, window))


def _positions(raster: Raster, grid: Grid, step: int = _STEP) -> Floats:
    """Where the centres of a grid's pixels are in a raster, (H, W, 2); its upper left corner is (0, 0)."""
    columns, rows = _nodes(grid.width, step), _nodes(grid.height, step)
    x, y = np.meshgrid(columns + 0.5, rows + 0.5)
    points = apply_homography(grid.crs_from_pixel, np.column_stack([x.ravel(), y.ravel()]))
    own = raster.grid
    if grid.crs is not None and raster.crs is not None:
        points = transform_points(grid.crs, raster.crs, points)
        points[:, 0] = unwrap(points[:, 0], own.center[0], raster.crs)
    nodes = apply_homography(own.pixel_from_crs, points).reshape(len(rows), len(columns), 2)
    if step == 1:
        return nodes
    if not np.isfinite(nodes).all():  # the horizon, or the end of the CRS: nothing to interpolate between
        return _positions(raster, grid, 1)
    down, across = _weights(rows, grid.height), _weights(columns, grid.width)
    return np.stack([down @ nodes[..., i] @ across.T for i in (0, 1)], axis=-1)


def _nodes(length: int, step: int) -> npt.NDArray[np.int64]:
    return np.unique(np.append(np.arange(0, length, step), length - 1))


def _weights(nodes: npt.NDArray[np.int64], length: int) -> Floats:
    """(length, nodes): linear interpolation between nodes."""
    return np.column_stack([np.interp(np.arange(length), nodes, unit) for unit in np.eye(len(nodes))])


def _inside(raster: Raster, positions: Floats) -> Flags:
    return np.asarray(((positions >= 0) & (positions < (raster.width, raster.height))).all(axis=2))


def _box(raster: Raster, positions: Floats) -> tuple[int, int, int, int] | None:
    """(column, row, width, height) of the part of a raster that holds `positions`; None for nothing."""
    inside = _inside(raster, positions)
    if not inside.any():
        return None
    needed = positions[inside]
    low = np.maximum(np.floor(needed.min(axis=0)) - _BORDER, 0).astype(int)
    high = np.minimum(np.ceil(needed.max(axis=0)) + _BORDER, (raster.width, raster.height)).astype(int)
    return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])


def _coarseness(positions: Floats) -> float:
    """How many pixels of the raster a pixel of the grid is wide, in the middle."""
    height, width = positions.shape[:2]
    if min(height, width) < 2:
        return 1.0
    row, column = min(height // 2, height - 2), min(width // 2, width - 2)
    origin = positions[row, column]
    (a, b), (c, d) = positions[row, column + 1] - origin, positions[row + 1, column] - origin
    return float(np.sqrt(abs(a * d - b * c)))
