"""Parks and squares: paths, ponds, beds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from .site import Block

Points = npt.NDArray[np.float64]


def lay_out_park(block: Block, rng: np.random.Generator) -> None:
    """Paths from the sides of the block to a round place, a path around, a pond, and grass between them."""
    ring = block.ring
    block.parks.append(ring)
    circle = shapely.maximum_inscribed_circle(ring)
    center = shapely.get_coordinates(circle)[0]
    radius = circle.length
    hub = center + rng.uniform(-0.25, 0.25, 2) * radius
    for side in block.sides:
        if not side.street or side.length < 12:
            continue
        gate = side.at([side.length * rng.uniform(0.3, 0.7)])[0]
        _add_path(block, _winding(gate, hub, rng), rng.uniform(1.8, 2.8))
    block.plazas.append(shapely.Point(hub).buffer(rng.uniform(3.0, 5.0)))
    if radius > 14:
        around = shapely.buffer(ring, -rng.uniform(0.28, 0.4) * radius).exterior
        _add_path(block, shapely.get_coordinates(_smooth(shapely.Polygon(around)).exterior), 2.2)
    for _ in range(24):
        basin = pond(center + rng.uniform(-0.7, 0.7, 2) * radius, rng.uniform(0.2, 0.42) * radius, rng)
        paved = shapely.union_all(block.plazas)
        shore = shapely.difference(
            shapely.intersection(basin, shapely.buffer(ring, -3)), shapely.buffer(paved, 1.0)
        )
        largest = max(shapely.get_parts(shore), key=shapely.area, default=shapely.Polygon())
        if largest.area > max(18.0, 0.6 * basin.area):
            block.waters.append(shapely.buffer(shapely.buffer(largest, -0.8), 0.8, quad_segs=5))
            break


def lay_out_square(block: Block, rng: np.random.Generator) -> None:
    """Paving with a few beds of grass, and a fountain if there is room."""
    block.plazas.append(block.ring)
    inner = shapely.buffer(block.ring, -3.5)
    built = shapely.buffer(shapely.union_all(block.footprints), 4.0)
    room = shapely.difference(inner, built)
    if room.is_empty:
        return
    basins: list[shapely.Polygon] = []
    beds: list[shapely.Polygon] = []
    bounds = np.array(room.bounds)
    for _ in range(40):
        center, radius = rng.uniform(bounds[:2], bounds[2:]), rng.uniform(2.0, 4.5)
        taken = [*basins, *beds]
        if taken and shapely.distance(shapely.Point(center), np.array(taken)).min() < radius + 5:
            continue
        shape = shapely.Point(center).buffer(radius, quad_segs=8)
        if shapely.covers(room, shape) and len(taken) < 6:
            (basins if not basins else beds).append(shape)
    block.waters += basins
    block.lawns += beds
    block.plazas = [shapely.difference(block.ring, shapely.union_all([*basins, *beds]))]


def pond(center: Points, radius: float, rng: np.random.Generator) -> shapely.Polygon:
    """An irregular round shape."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    amplitudes, phases = rng.uniform(0.05, 0.16, 3), rng.uniform(0, 2 * np.pi, 3)
    waves = sum(a * np.cos(k * angles + p) for k, a, p in zip((2, 3, 5), amplitudes, phases, strict=True))
    reach = radius * (1 + waves)
    return shapely.Polygon(center + np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1))


def _add_path(block: Block, points: Points, width: float) -> None:
    line = shapely.LineString(points)
    block.plazas.append(shapely.buffer(line, width / 2, quad_segs=3))
    block.paths.append(line)


def _winding(start: Points, end: Points, rng: np.random.Generator) -> Points:
    """A bent line between two points."""
    t = np.linspace(0, 1, 14)[:, None]
    normal = np.array([start[1] - end[1], end[0] - start[0]])
    bend = np.sin(np.pi * t) * rng.uniform(-0.18, 0.18) + np.sin(2 * np.pi * t) * rng.uniform(-0.08, 0.08)
    return start + t * (end - start) + bend * normal


def _smooth(area: shapely.Polygon) -> shapely.Polygon:
    """The area with round corners."""
    return shapely.buffer(shapely.buffer(area, -4.0), 4.0, quad_segs=6)
