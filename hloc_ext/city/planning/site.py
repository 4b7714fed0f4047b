"""A block while it is filled: its border, buildings and grounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import shapely

from .frontage import Side
from .rows import LEAST_GAP
from .shapes import placed

Points = npt.NDArray[np.float64]

#: Corners of a square of side 1 around (0, 0).
RECTANGLE = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])


@dataclass
class Block:
    """A block between streets.

    Attributes:
        ring: its border; sidewalks begin there.
        kind: ``perimeter``, ``terraces``, ``detached``, ``slabs``, ``offices``, ``industrial``, ``civic``,
            ``park``, ``square`` or ``pocket``.
        sides: of the border.
        footprints, roles: buildings, see :func:`~hloc_ext.city.planning.shapes.describe`.
        parks, lawns, plazas, waters: areas; they may overlap, and overlap buildings (see :func:`areas`).
        paths: lines that benches and lamps stand along.
        parking: x, y, heading of slots.
    """

    ring: shapely.Polygon
    kind: str
    sides: list[Side] = field(default_factory=list)
    footprints: list[shapely.Polygon] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    parks: list[shapely.Geometry] = field(default_factory=list)
    lawns: list[shapely.Geometry] = field(default_factory=list)
    plazas: list[shapely.Geometry] = field(default_factory=list)
    waters: list[shapely.Geometry] = field(default_factory=list)
    paths: list[shapely.Geometry] = field(default_factory=list)
    parking: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, footprint: shapely.Polygon, role: str, gap: float = LEAST_GAP) -> bool:
        """Add a building, unless it reaches out of the block or is too close to another; whether it was."""
        if not footprint.is_valid or not shapely.covers(self.ring, footprint):
            return False
        if self.footprints and shapely.distance(footprint, np.array(self.footprints)).min() < gap:
            return False
        self.footprints.append(footprint)
        self.roles.append(role)
        return True

    def areas(self) -> dict[str, list[shapely.Polygon]]:
        """Parks, lawns, plazas and waters without buildings and without each other, within the ring."""
        taken = shapely.union_all(self.footprints)
        found = {}
        for name in ("waters", "plazas", "parks", "lawns"):
            area = shapely.intersection(shapely.union_all(getattr(self, name)), self.ring)
            area = shapely.difference(area, taken)
            parts = shapely.get_parts(area)
            parts = parts[shapely.get_type_id(parts) == 3]
            found[name] = [*parts[shapely.area(parts) > 0.05]]
            taken = shapely.union_all([taken, *found[name]])
        return found


def path_between(start: Points, end: Points, width: float) -> shapely.Polygon:
    """A straight strip."""
    return shapely.LineString([start, end]).buffer(width / 2, cap_style="flat")


def add_path_to(block: Block, footprint: shapely.Polygon, rng: np.random.Generator) -> None:
    """Paving from the sidewalk to a house."""
    points = shapely.get_coordinates(footprint)[:-1]
    middles = (points + np.roll(points, -1, axis=0)) / 2
    exterior = block.ring.exterior
    gaps = shapely.distance(exterior, shapely.points(middles))
    wall = int(np.argmin(gaps))
    start = points[wall] + rng.uniform(0.3, 0.7) * (np.roll(points, -1, axis=0)[wall] - points[wall])
    end = shapely.get_coordinates(exterior.interpolate(exterior.project(shapely.Point(start))))[0]
    if np.linalg.norm(end - start) > 0.5:
        block.plazas.append(path_between(start, end, rng.uniform(1.0, 1.5)))


def add_parking(
    block: Block, part: shapely.Geometry, heading: float, count: int, rng: np.random.Generator
) -> None:
    """Cars side by side on a paved strip, if it fits."""
    center = point_in(part, rng)
    across = np.array([np.cos(heading), np.sin(heading)])
    pad = placed(RECTANGLE * (2.7 * count + 0.6, 5.6), center, heading)
    others = [*block.footprints, *block.plazas]
    if not shapely.covers(part, pad) or (others and shapely.distance(pad, np.array(others)).min() < 0.6):
        return
    block.plazas.append(pad)
    for number in range(count):
        x, y = center + across * 2.7 * (number - (count - 1) / 2)
        turn = np.pi / 2 if rng.random() < 0.7 else -np.pi / 2
        block.parking.append((float(x), float(y), heading + turn))


def free_area(block: Block, margin: float, gap: float) -> shapely.Geometry:
    """The block without a margin, buildings and paving."""
    built = shapely.buffer(shapely.union_all(block.footprints), gap, quad_segs=2)
    inner = shapely.buffer(block.ring, -margin, join_style="mitre")
    paved = shapely.union_all(block.plazas)
    return shapely.difference(shapely.difference(inner, built), paved)


def axes(heading: float) -> tuple[Points, Points]:
    """Unit vectors along a heading and to its left."""
    return np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])


def main_heading(area: shapely.Polygon) -> float:
    """Direction of the longer side of the smallest rectangle around an area."""
    corners = shapely.get_coordinates(shapely.oriented_envelope(area))
    steps = np.diff(corners[:3], axis=0)
    step = steps[np.argmax(np.linalg.norm(steps, axis=1))]
    return float(np.arctan2(step[1], step[0]))


def point_in(area: shapely.Geometry, rng: np.random.Generator) -> Points:
    """A random point of the bounding box, inside the area if one of 8 is."""
    bounds = np.array(area.bounds)
    if len(bounds) == 0 or np.isnan(bounds).any():
        return np.full(2, 1e9)
    points = rng.uniform(bounds[:2], bounds[2:], (8, 2))
    inside = shapely.contains_xy(area, points)
    return points[int(np.argmax(inside))]


def widths(areas: npt.NDArray[np.object_]) -> Points:
    """Short sides of the smallest rectangles around areas, (N,)."""
    envelopes = shapely.oriented_envelope(areas)
    corners = np.stack([shapely.get_coordinates(envelope)[:3] for envelope in envelopes])
    return np.linalg.norm(np.diff(corners, axis=1), axis=2).min(axis=1)
