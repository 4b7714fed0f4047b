"""Things are placed one after another, each where it is in the way of nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import shapely

from .parking import car_outlines
from .parts import CityPlan, Item

Points = npt.NDArray[np.float64]

#: Room that things need around them, and their least distance from carriageways and walls, metres.
_ROOM: dict[str, tuple[float, float, float]] = {
    "tree": (0.9, 0.55, 2.0),
    "bush": (0.6, 0.6, 0.7),
    "lamp": (0.35, 0.3, 0.5),
    "traffic_sign": (0.4, 0.3, 0.5),
    "bench": (0.95, 0.5, 0.6),
    "bin": (0.35, 0.3, 0.4),
    "bollard": (0.3, 0.2, 0.5),
    "bus_stop": (2.4, 1.1, 1.0),
    "advertising_column": (0.8, 0.75, 1.0),
    "kiosk": (1.9, 1.7, 2.0),
    "hydrant": (0.35, 0.3, 0.4),
    "rock": (0.6, 0.6, 0.8),
}
_FROM_CROSSING = 0.8
_FROM_CARS = 0.25
_CELL = 5.0


class Placer:
    """Collects items that stand free: of each other, roads, crossings, buildings, water and parked cars."""

    def __init__(self, plan: CityPlan) -> None:
        """Start without items.

        Args:
            plan: its roads, crossings, buildings, waters and parking are kept clear.
        """
        self.items: list[Item] = []
        self._bounds = plan.bounds
        self._roads = shapely.STRtree(_tiles(plan.roads, plan.bounds))
        self._walls = shapely.STRtree([building.footprint for building in plan.buildings])
        self._crossings = shapely.STRtree([crossing.area for crossing in plan.crossings])
        self._waters = shapely.STRtree([*plan.waters.geoms])
        self._cars = shapely.STRtree([*car_outlines(plan.parking)])
        self._taken: dict[tuple[int, int], list[tuple[float, float, float]]] = {}

    def add(
        self, kind: str, points: npt.ArrayLike, headings: npt.ArrayLike, sizes: npt.ArrayLike
    ) -> npt.NDArray[np.bool_]:
        """Place items of a kind, those that can be, the first before the next.

        Args:
            kind: see :class:`~hloc_ext.city.planning.parts.Item`.
            points: (N, 2).
            headings, sizes: (N,) or one for all.

        Returns:
            Which of them were placed, (N,).
        """
        points = np.asarray(points, np.float64).reshape(-1, 2)
        headings, sizes = (
            np.broadcast_to(np.asarray(v, np.float64), (len(points),)) for v in (headings, sizes)
        )
        radius, road, wall = _ROOM[kind]
        free = self._inside(points)
        for tree, distance in (
            (self._roads, road),
            (self._walls, wall),
            (self._crossings, _FROM_CROSSING + radius),
            (self._waters, radius),
            (self._cars, radius / 2 + _FROM_CARS),
        ):
            near = tree.query(shapely.points(points), predicate="dwithin", distance=distance)[0]
            free[near] = False
        for index in np.flatnonzero(free):
            x, y = float(points[index, 0]), float(points[index, 1])
            free[index] = self._claim(x, y, radius)
            if free[index]:
                self.items.append(Item(kind, x, y, float(headings[index]), float(sizes[index])))
        return free

    def _inside(self, points: Points) -> npt.NDArray[np.bool_]:
        low, high = np.array(self._bounds[:2]) + 0.6, np.array(self._bounds[2:]) - 0.6
        return np.asarray(((points > low) & (points < high)).all(axis=1))

    def _claim(self, x: float, y: float, radius: float) -> bool:
        """Take a circle of ground if nobody has any of it."""
        column, row = int(x // _CELL), int(y // _CELL)
        for i in (column - 1, column, column + 1):
            for j in (row - 1, row, row + 1):
                for other_x, other_y, other in self._taken.get((i, j), ()):
                    if (x - other_x) ** 2 + (y - other_y) ** 2 < (radius + other) ** 2:
                        return False
        self._taken.setdefault((column, row), []).append((x, y, radius))
        return True


def thinned(items: list[Item], limits: dict[str, int], rng: np.random.Generator) -> list[Item]:
    """The items in their order, with at most so many of a kind; which ones is drawn."""
    kinds = np.array([item.kind for item in items], dtype=str)
    keep = np.ones(len(items), bool)
    for kind, limit in limits.items():
        members = np.flatnonzero(kinds == kind)
        if len(members) > limit:
            keep[rng.permutation(members)[limit:]] = False
    return [item for item, kept in zip(items, keep, strict=True) if kept]


def _tiles(area: shapely.Geometry, bounds: tuple[float, float, float, float]) -> list[shapely.Geometry]:
    """The area cut into squares of 60 m, so that a tree finds things in it fast."""
    steps = [np.append(np.arange(bounds[axis], bounds[axis + 2], 60.0), bounds[axis + 2]) for axis in (0, 1)]
    return [
        tile
        for x0, x1 in zip(steps[0][:-1], steps[0][1:], strict=True)
        for tile in _strips(shapely.clip_by_rect(area, x0, bounds[1], x1, bounds[3]), x0, x1, steps[1])
    ]


def _strips(area: shapely.Geometry, x0: float, x1: float, steps: Points) -> list[shapely.Geometry]:
    return [shapely.clip_by_rect(area, x0, y0, x1, y1) for y0, y1 in pairwise(steps)]
