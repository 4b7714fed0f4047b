"""Trees and street furniture: along the streets, on squares, in parks and gardens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely

from .parts import CityPlan, Item
from .placer import Placer, thinned
from .site import Block
from .streets import Arc, Network, along, street_length

Points = npt.NDArray[np.float64]


def make_items(
    plan: CityPlan, network: Network, blocks: Sequence[Block], halts: Points, rng: np.random.Generator
) -> list[Item]:
    """Place trees and furniture.

    Args:
        plan: the city without items.
        network: its streets.
        blocks: its blocks.
        halts: bus stops, (N, 3): x, y on the kerb, heading towards the road.
        rng: what positions and sizes are drawn from.
    """
    placer = Placer(plan)
    for x, y, heading in halts:
        _add_bus_stop(placer, np.array([x, y]), heading, rng)
    for block in blocks:
        if block.kind in ("square", "civic", "offices"):
            _furnish_square(placer, block, rng)
        elif block.kind == "park":
            _furnish_paths(placer, block, rng)
    for arc in network.arcs:
        _furnish_street(placer, arc, rng)
    for block in blocks:
        _plant(placer, block, rng)
    hectares = (plan.bounds[2] - plan.bounds[0]) * (plan.bounds[3] - plan.bounds[1]) / 10_000
    # Leaves are most of a city's triangles.
    return thinned(placer.items, {"tree": int(220 + 30 * hectares), "bush": int(200 + 12 * hectares)}, rng)


def _add_bus_stop(placer: Placer, kerb: Points, heading: float, rng: np.random.Generator) -> None:
    """A shelter that is open to the road, with a bin beside it."""
    ahead, aside = _axes(heading)
    if placer.add("bus_stop", kerb - 1.5 * ahead, heading, 2.5).any():
        placer.add("bin", kerb - 0.9 * ahead + 3.2 * aside * rng.choice([-1, 1]), heading, 0.95)


def _furnish_street(placer: Placer, arc: Arc, rng: np.random.Generator) -> None:
    """Signs, lamps, columns, trees, bollards, hydrants, bins and benches on both sidewalks."""
    first = arc.reach[0] + 1.5 if arc.nodes[0] >= 0 else 1.0
    last = street_length(arc.street) - (arc.reach[1] + 1.5 if arc.nodes[1] >= 0 else 1.0)
    if last - first < 4:
        return
    _add_signs(placer, arc, first, last, rng)
    _add_lamps(placer, arc, first, last, rng)
    wide = arc.street.sidewalk > 3.0
    size = min(rng.uniform(6.0, 10.0), (arc.street.sidewalk - 0.85) / 0.3 + 0.5)
    spacing = rng.uniform(7.5, 11.0)
    planted = rng.random() < {"main": 0.75, "residential": 0.55, "lane": 0.0}[arc.kind]
    for side in (-1, 1):
        kerb = _Kerb(arc, side, first, last)
        if wide and rng.random() < 0.25:
            kerb.add(placer, "advertising_column", kerb.random(1, rng), 1.1, rng.uniform(3.0, 3.6))
        if arc.street.sidewalk > 2.8 and planted and rng.random() < 0.85:
            stations = kerb.every(spacing, rng)
            stations = (stations + rng.normal(0, 0.25, len(stations)))[rng.random(len(stations)) > 0.08]
            kerb.add(placer, "tree", stations, 0.85, size * rng.uniform(0.85, 1.1, len(stations)))
            between = stations[rng.random(len(stations)) < 0.15] + spacing / 2
            kerb.add(placer, "bench", between, 1.0, 0.85, away=True)
        _add_small(placer, kerb, arc.kind, rng)


def _add_small(placer: Placer, kerb: _Kerb, kind: str, rng: np.random.Generator) -> None:
    """Hydrants, bins and rows of bollards."""
    if rng.random() < 0.25:
        kerb.add(placer, "hydrant", kerb.random(1, rng), 0.5, rng.uniform(0.65, 0.8))
    kerb.add(placer, "bin", kerb.random(int(rng.random() < 0.7), rng), 0.55, rng.uniform(0.8, 1.0))
    if rng.random() < {"main": 0.25, "residential": 0.15, "lane": 0.5}[kind]:
        row = np.arange(int(rng.integers(3, 9))) * rng.uniform(1.3, 1.9)
        start = kerb.first if rng.random() < 0.5 else kerb.last - row[-1]
        kerb.add(placer, "bollard", start + row, 0.35, rng.uniform(0.8, 1.0))


def _add_signs(placer: Placer, arc: Arc, first: float, last: float, rng: np.random.Generator) -> None:
    """Signs before junctions, and now and then between them, on the right and facing the drivers."""
    for side in (0, 1):
        if arc.nodes[side] >= 0 and rng.random() < 0.65:
            distance = rng.uniform(0.5, 7.5)
            station = first + distance if side == 0 else last - distance
            _add_sign(placer, arc, station, 1 if side == 0 else -1, rng)
    if rng.random() < 0.45:
        _add_sign(placer, arc, rng.uniform(first, last), int(rng.choice([-1, 1])), rng)


def _add_sign(placer: Placer, arc: Arc, station: float, side: int, rng: np.random.Generator) -> None:
    """A sign on the left (side 1) or right (−1) for those who drive against or along the street."""
    points, tangents = along(arc.street, [station])
    left = np.array([-tangents[0, 1], tangents[0, 0]])
    facing = side * tangents[0]
    heading = float(np.arctan2(facing[1], facing[0]) + rng.normal(0, 0.06))
    position = points[0] + side * left * (arc.street.width / 2 + 0.5)
    placer.add("traffic_sign", position, heading, rng.uniform(2.4, 3.0))


def _add_lamps(placer: Placer, arc: Arc, first: float, last: float, rng: np.random.Generator) -> None:
    """Lamps about every 25 m: on both sides of main streets, else on one."""
    size = {
        "main": rng.uniform(7.5, 9.0),
        "residential": rng.uniform(5.0, 6.8),
        "lane": rng.uniform(4.0, 4.6),
    }[arc.kind]
    one = int(rng.choice([-1, 1]))
    for side in (-1, 1):
        if arc.kind == "main" or side == one:
            kerb = _Kerb(arc, side, first, last)
            count = max(1, round((last - first) / 25))
            stations = first + (np.arange(count) + (0.5 if side == one else 0.25)) / count * (last - first)
            for station in stations:
                # Where something is in the way a lamp moves along the street.
                for shift in (0.0, 1.2, -1.2, 2.4, -2.4):
                    if kerb.add(placer, "lamp", [station + shift], 0.5, size).any():
                        break


class _Kerb:
    """One side of a street between its junctions."""

    def __init__(self, arc: Arc, side: int, first: float, last: float) -> None:
        self._arc, self._side, self.first, self.last = arc, side, first, last

    def every(self, spacing: float, rng: np.random.Generator) -> Points:
        """Stations at a regular distance."""
        count = int((self.last - self.first) / spacing)
        return np.array([self.first + rng.uniform(0, spacing) + step * spacing for step in range(count)])

    def random(self, count: int, rng: np.random.Generator) -> Points:
        """Random stations."""
        return rng.uniform(self.first, self.last, count)

    def add(
        self,
        placer: Placer,
        kind: str,
        stations: npt.ArrayLike,
        offset: float,
        sizes: npt.ArrayLike,
        away: bool = False,
    ) -> npt.NDArray[np.bool_]:
        """Place things `offset` metres from the kerb, facing the road or the houses."""
        points, tangents = along(self._arc.street, np.clip(stations, self.first, self.last))
        outward = self._side * np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)
        facing = outward if away else -outward
        position = points + outward * (self._arc.street.width / 2 + offset)
        return placer.add(kind, position, np.arctan2(facing[:, 1], facing[:, 0]), sizes)


def _furnish_square(placer: Placer, block: Block, rng: np.random.Generator) -> None:
    """A kiosk, a column, lamps, rows of trees, benches and bollards."""
    center = shapely.get_coordinates(shapely.centroid(block.ring))[0]
    inner = shapely.buffer(block.ring, -4.5, join_style="mitre")
    if inner.is_empty or inner.geom_type != "Polygon":
        return
    chance = 0.75 if block.kind == "square" else 0.3
    for kind, size in (("kiosk", 2.8), ("advertising_column", 3.3)):
        points = _spread(inner, int(rng.random() < chance), rng)
        placer.add(kind, points, rng.uniform(0, 2 * np.pi, len(points)), size)
    line = inner.exterior
    lamps = _line_points(line, 22.0, rng)
    placer.add("lamp", lamps, _towards(lamps, center), rng.uniform(4.0, 4.8))
    for water in block.waters:
        seats = _line_points(water.buffer(2.4).exterior, 4.0, rng)
        placer.add("bench", seats, _towards(seats, shapely.get_coordinates(shapely.centroid(water))[0]), 0.85)
    trees = _line_points(line, rng.uniform(6.5, 8.5), rng)
    placer.add("tree", trees[rng.random(len(trees)) < 0.8], 0.0, rng.uniform(6.0, 9.0))
    seats = _line_points(shapely.buffer(inner, -1.6).boundary, 11.0, rng)
    placer.add("bench", seats, _towards(seats, center), 0.85)
    placer.add("bin", seats + rng.choice([-1.7, 1.7], seats.shape), 0.0, 0.95)
    for side in block.sides:
        if side.street and rng.random() < 0.3:
            stations = np.arange(3.0, side.length - 3.0, 2.6)
            posts = side.at(stations) + 0.5 * side.normals(stations) if len(stations) else np.empty((0, 2))
            placer.add("bollard", posts, 0.0, 0.9)


def _furnish_paths(placer: Placer, block: Block, rng: np.random.Generator) -> None:
    """Lamps, benches and bins beside the paths of a park; a kiosk."""
    ring = shapely.buffer(block.ring, -2.0)
    paved = shapely.union_all(block.plazas)
    for path in block.paths:
        for kind, spacing, offset, size in (
            ("lamp", 24.0, 1.7, 3.9),
            ("bench", 17.0, 1.9, 0.85),
            ("bin", 40.0, 1.8, 0.9),
        ):
            stations = np.arange(rng.uniform(3, spacing), path.length - 3, spacing)
            points = shapely.get_coordinates(shapely.line_interpolate_point(path, stations))
            step = (
                shapely.get_coordinates(
                    shapely.line_interpolate_point(path, np.minimum(stations + 0.5, path.length))
                )
                - points
            )
            normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.linalg.norm(step, axis=1)[:, None]
            side = rng.choice([-1.0, 1.0], (len(stations), 1))
            spots = points + side * normal * offset
            clear = shapely.contains_xy(ring, spots) & ~shapely.contains_xy(paved, spots)
            facing = -side * normal
            placer.add(kind, spots[clear], np.arctan2(facing[:, 1], facing[:, 0])[clear], size)
    if rng.random() < 0.4:
        points = _spread(shapely.difference(ring, shapely.buffer(paved, 2.2)), 1, rng)
        placer.add("kiosk", points, _towards(points, shapely.get_coordinates(shapely.centroid(ring))[0]), 2.8)


def _plant(placer: Placer, block: Block, rng: np.random.Generator) -> None:
    """Trees, bushes and rocks where the ground is grass or soil."""
    if block.kind == "square":
        return
    per_tree, per_bush = {
        "park": (45.0, 120.0),
        "pocket": (60.0, 60.0),
        "detached": (85.0, 60.0),
        "terraces": (100.0, 70.0),
        "slabs": (90.0, 90.0),
        "perimeter": (130.0, 110.0),
        "offices": (130.0, 120.0),
        "industrial": (500.0, 300.0),
        "civic": (400.0, 400.0),
    }[block.kind]
    paved = shapely.buffer(shapely.union_all([*block.plazas, *block.waters]), 0.7, quad_segs=2)
    ground = shapely.difference(shapely.buffer(block.ring, -1.0), paved)
    if block.footprints:
        ground = shapely.difference(
            ground, shapely.buffer(shapely.union_all(block.footprints), 0.8, quad_segs=2)
        )
    if ground.is_empty:
        return
    low, high = {"park": (6.0, 14.0), "slabs": (5.0, 12.0)}.get(block.kind, (3.5, 9.0))
    points = _clumped(ground, int(ground.area / per_tree + rng.random()), rng)
    placer.add("tree", points, 0.0, low + (high - low) * rng.beta(2, 2.2, len(points)))
    if block.kind in ("detached", "terraces"):
        _add_hedges(placer, block, paved, rng)
    points = _clumped(ground, int(ground.area / per_bush + rng.random()), rng)
    placer.add("bush", points, rng.uniform(0, 2 * np.pi, len(points)), rng.uniform(0.7, 2.0, len(points)))
    points = _spread(ground, int(ground.area / 1400 + rng.random()), rng)
    placer.add("rock", points, rng.uniform(0, 2 * np.pi, len(points)), rng.uniform(0.35, 1.1, len(points)))


def _add_hedges(placer: Placer, block: Block, paved: shapely.Geometry, rng: np.random.Generator) -> None:
    """Rows of bushes along some fronts."""
    for side in block.sides:
        start = rng.uniform(1.0, max(1.0, side.length - 12))
        length = rng.uniform(8, 26)
        if rng.random() < 0.45:
            stations = np.arange(start, min(start + length, side.length - 1), 1.25)
            if len(stations):
                points = side.at(stations) + 0.9 * side.normals(stations)
                points = points[~shapely.contains_xy(paved, points)]
                placer.add("bush", points, 0.0, rng.uniform(0.9, 1.4) * rng.uniform(0.9, 1.1, len(points)))


def _axes(heading: float) -> tuple[Points, Points]:
    return np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])


def _towards(points: Points, target: Points) -> Points:
    """Headings from points to a target, (N,)."""
    gap = target - points
    return np.arctan2(gap[:, 1], gap[:, 0])


def _line_points(line: shapely.Geometry, spacing: float, rng: np.random.Generator) -> Points:
    """Points along a closed line."""
    count = int(line.length / spacing)
    stations = (np.arange(count) + rng.random()) / max(count, 1) * line.length
    return shapely.get_coordinates(shapely.line_interpolate_point(line, stations)).reshape(-1, 2)


def _spread(area: shapely.Geometry, count: int, rng: np.random.Generator) -> Points:
    """Random points in an area, about as many as wanted."""
    if area.is_empty or count < 1:
        return np.empty((0, 2))
    bounds = np.array(area.bounds)
    share = area.area / max(np.prod(bounds[2:] - bounds[:2]), 1e-9)
    points = rng.uniform(bounds[:2], bounds[2:], (int(1.3 * count / max(share, 0.02)) + 4, 2))
    return points[shapely.contains_xy(area, points)][:count]


def _clumped(area: shapely.Geometry, count: int, rng: np.random.Generator) -> Points:
    """Random points in an area, in groups rather than evenly."""
    seeds = _spread(area, -(-count // 2), rng)
    if not len(seeds):
        return seeds
    around = seeds[rng.integers(0, len(seeds), count - len(seeds))]
    around = around + rng.normal(0, 4.0, around.shape)
    return np.concatenate([seeds, around[shapely.contains_xy(area, around)]])
