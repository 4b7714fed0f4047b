"""Borders of a block: its corners and its sides between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

Points = npt.NDArray[np.float64]

_SHARP = np.radians(17)
_CORNER = np.radians(32)
_CLUSTER = 5.0


@dataclass(frozen=True)
class Side:
    """A side of a block between two corners; the block is on its left.

    Attributes:
        points: polyline, (N, 2).
        street: whether it lies at a street (and not at the bounds of the city).
    """

    points: Points
    street: bool

    @property
    def length(self) -> float:
        """Metres."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())

    def at(self, distances: npt.ArrayLike) -> Points:
        """Points at distances from the start, (N,) → (N, 2)."""
        steps = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        position = np.concatenate([[0], np.cumsum(steps)])
        distances = np.asarray(distances, np.float64)
        return np.stack([np.interp(distances, position, axis) for axis in self.points.T], axis=1)

    def normals(self, distances: npt.ArrayLike) -> Points:
        """Inward unit normals, smoothed over 8 m, (N,) → (N, 2)."""
        distances = np.asarray(distances, np.float64)
        ahead = self.at(np.minimum(distances + 4, self.length)) - self.at(np.maximum(distances - 4, 0))
        return np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) / np.linalg.norm(ahead, axis=1)[:, None]


@dataclass(frozen=True)
class Corner:
    """A corner of a block, before the side of the same index.

    Attributes:
        points: its vertices, (N, 2); the first ends the side before, the last starts the side after.
        apex: where the two sides meet when they are prolonged, (2,).
        angle: inside the block, radians; more than π where the block is concave.
    """

    points: Points
    apex: Points
    angle: float


def frontage(
    block: shapely.Polygon, bounds: tuple[float, float, float, float]
) -> tuple[list[Corner], list[Side]]:
    """Corners and sides of a block, counter-clockwise; side i leads from corner i to corner i + 1.

    A block without three corners has none, and no sides.
    """
    ring = shapely.get_coordinates(shapely.simplify(shapely.normalize(block), 0.12).exterior)[:-1]
    if not shapely.is_ccw(shapely.LinearRing(ring)):
        ring = ring[::-1]
    ring = ring[np.linalg.norm(ring - np.roll(ring, 1, axis=0), axis=1) > 1e-6]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = _turn(before, after)
    groups = _clusters(ring, turn)
    if len(groups) < 3:
        return [], []
    corners, sides = [], []
    for number, group in enumerate(groups):
        following = groups[(number + 1) % len(groups)]
        count = (following[0] - group[-1]) % len(ring)
        points = ring[(group[-1] + np.arange(count + 1)) % len(ring)]
        sides.append(Side(points, not _on_border(points, bounds)))
        corners.append(_corner(ring[group], before[group[0]], after[group[-1]], float(turn[group].sum())))
    return corners, sides


def _turn(before: Points, after: Points) -> Points:
    """Angles from one step to the next, counter-clockwise, (N,)."""
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.arctan2(cross, (before * after).sum(axis=1))


def _clusters(ring: Points, turn: Points) -> list[npt.NDArray[np.int64]]:
    """Indices of the vertices of each corner: sharp bends closer than 5 m together belong to one."""
    sharp = np.flatnonzero(np.abs(turn) > _SHARP)
    if not len(sharp):
        return []
    gaps = np.linalg.norm(ring[sharp] - ring[np.roll(sharp, 1)], axis=1)
    starts = np.flatnonzero(gaps > _CLUSTER)
    if not len(starts):
        return []
    sharp = np.roll(sharp, -starts[0])
    groups = np.split(sharp, starts[1:] - starts[0])
    filled = []
    for group in groups:
        span = (group[-1] - group[0]) % len(ring)
        filled.append((group[0] + np.arange(span + 1)) % len(ring))
    return [group for group in filled if abs(turn[group].sum()) > _CORNER]


def _corner(points: Points, incoming: Points, outgoing: Points, turn: float) -> Corner:
    if len(points) == 1:
        return Corner(points, points[0], float(np.pi - turn))
    first, last = points[0], points[-1]
    cross = incoming[0] * outgoing[1] - incoming[1] * outgoing[0]
    gap = last - first
    apex = (first + last) / 2
    if abs(cross) > 1e-3 * np.linalg.norm(incoming) * np.linalg.norm(outgoing):
        apex = first + (gap[0] * outgoing[1] - gap[1] * outgoing[0]) / cross * incoming
    return Corner(points, apex, float(np.pi - turn))


def _on_border(points: Points, bounds: tuple[float, float, float, float]) -> bool:
    """Whether all points lie on one edge of the bounds."""
    min_x, min_y, max_x, max_y = bounds
    edges = (points[:, 0] - min_x, points[:, 0] - max_x, points[:, 1] - min_y, points[:, 1] - max_y)
    return any(bool((np.abs(offset) < 1e-6).all()) for offset in edges)
