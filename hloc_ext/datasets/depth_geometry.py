"""Where pixels of one view lie in another, from depth and poses, and whether something hides them there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: Inverse depths that differ by more than this part of them belong to different surfaces.
TOLERANCE = 0.03
#: So much the inverse depth of neighbouring pixels may differ, as part of the larger one, on one surface.
_CONTINUOUS = 0.15


@dataclass(frozen=True)
class DepthView:
    """A pinhole camera with the depth that it sees.

    Attributes:
        inverse_depth: (H, W) float32, 1/z in the camera frame at the centres of the pixels, 1/metres; 0 where
            it is unknown: sky, and things that move.
        calibration: (3, 3), pixels; the centre of the top-left pixel is (0, 0).
        cam_from_world: (3, 4) pose, camera axes: x right, y down, z ahead.
    """

    inverse_depth: npt.NDArray[np.float32]
    calibration: Floats
    cam_from_world: Floats


def transfer(
    first: DepthView, second: DepthView, pixels: Floats, tolerance: float = TOLERANCE
) -> tuple[Floats, Flags]:
    """Where points of one view lie in another.

    Args:
        first: view of the points.
        second: the other one.
        pixels: (N, 2) in the first view, any fractions.
        tolerance: the point is visible if its inverse depth in the second view is what is seen there, within
            this part of it.

    Returns:
        Pixels in the second view, (N, 2), and whether depth is known at both ends, the point lies inside of
        the second view and nothing hides it, (N,) bool. Of points without depth the pixel is (0, 0).
    """
    world, known = lift(first, pixels)
    points, visible = locate(second, world, tolerance)
    return np.where(known[:, None], points, 0.0), known & visible


def lift(view: DepthView, pixels: Floats) -> tuple[Floats, Flags]:
    """Points of the world that a view sees.

    Args:
        view: of the pixels.
        pixels: (N, 2), any fractions.

    Returns:
        Points (N, 3), and whether their depth is known, (N,); others lie at a depth of 1.
    """
    inverse, known = inverse_depth_at(view.inverse_depth, pixels)
    depth = 1 / np.where(known, inverse, 1.0)
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(view.calibration).T
    rotation, translation = view.cam_from_world[:, :3], view.cam_from_world[:, 3]
    return (rays * depth[:, None] - translation) @ rotation, known


def locate(view: DepthView, world: Floats, tolerance: float = TOLERANCE) -> tuple[Floats, Flags]:
    """Where points of the world lie in a view.

    Args:
        view: that may see them.
        world: (N, 3).
        tolerance: see :func:`transfer`.

    Returns:
        Pixels (N, 2), (0, 0) of points that are not ahead, and whether the point is seen there, (N,).
    """
    seen = world @ view.cam_from_world[:, :3].T + view.cam_from_world[:, 3]
    ahead = seen[:, 2] > 1e-3
    z = np.where(ahead, seen[:, 2], 1.0)
    points = np.where(ahead[:, None], (seen @ view.calibration.T)[:, :2] / z[:, None], 0.0)
    expected = 1 / z
    found, visible = inverse_depth_at(view.inverse_depth, points)
    return points, ahead & visible & (np.abs(found - expected) <= tolerance * expected)


def inverse_depth_at(inverse_depth: npt.NDArray[np.float32], pixels: Floats) -> tuple[Floats, Flags]:
    """Inverse depth between pixels: bilinear, which is exact on planes.

    Args:
        inverse_depth: (H, W), 0 where unknown.
        pixels: (N, 2).

    Returns:
        (N,) values, and whether they are known: inside of the picture, the pixels around known, and no step
        in depth between them.
    """
    height, width = inverse_depth.shape
    limit = np.array([width - 1, height - 1])
    inside = np.all((pixels >= 0) & (pixels <= limit), axis=1)
    pixels = np.where(inside[:, None], pixels, 0.0)
    corner = np.minimum(np.floor(pixels).astype(int), limit - 1)
    fx, fy = (pixels - corner).T
    x, y = corner.T
    around = np.stack(
        [inverse_depth[y, x], inverse_depth[y, x + 1], inverse_depth[y + 1, x], inverse_depth[y + 1, x + 1]]
    ).astype(np.float64)
    weights = np.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])
    largest, least = around.max(axis=0), around.min(axis=0)
    known = inside & (least > 0) & (largest - least <= _CONTINUOUS * largest)
    return (weights * around).sum(axis=0), known


def overlap(first: DepthView, second: DepthView, step: int = 16) -> float:
    """Share of the points of a grid on the first view that are visible in the second.

    Args:
        first: view of the grid; points without depth do not count.
        second: the other view.
        step: pixels between the points.
    """
    height, width = first.inverse_depth.shape
    x, y = np.meshgrid(np.arange(step // 2, width, step), np.arange(step // 2, height, step))
    pixels = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
    _, known = inverse_depth_at(first.inverse_depth, pixels)
    _, valid = transfer(first, second, pixels, tolerance=2 * TOLERANCE)
    return float(valid.sum() / max(1, known.sum()))
