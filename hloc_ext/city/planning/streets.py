"""The street network: a grid that is jittered, bent and turned, with streets left out and lanes added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from .parts import Street

Points = npt.NDArray[np.float64]

#: Radius of the kerbs at the corners of junctions, metres.
KERB_RADIUS = 4.5
#: Sidewalks are nowhere narrower than this, metres.
LEAST_SIDEWALK = 1.6

# fmt: off
_NAMES = (
    "Linden", "Oak", "Mill", "Church", "Station", "Market", "Garden", "Castle", "Harbour", "School",
    "Bridge", "River", "Park", "Meadow", "Orchard", "Tower", "Abbey", "Chapel", "Foundry", "Weaver",
    "Cooper", "Potter", "Tanner", "Baker", "Glazier", "Saddler", "Miller", "Fisher", "Hunter", "Falcon",
    "Heron", "Swallow", "Maple", "Birch", "Willow", "Chestnut", "Hazel", "Elm", "Rowan", "Juniper", "Cedar",
    "Rose", "Lily", "Violet", "Clover", "Thistle", "Barley", "Amber", "Copper", "Silver",
)
# fmt: on


@dataclass(frozen=True)
class Arc:
    """A street of the network.

    Attributes:
        street: its geometry, clipped to the bounds.
        kind: ``main``, ``residential`` or ``lane``.
        nodes: junctions at the start and the end, −1 where it leaves the bounds.
        reach: how far the junctions at its start and end reach into it, metres along the centreline.
    """

    street: Street
    kind: str
    nodes: tuple[int, int]
    reach: tuple[float, float]


@dataclass(frozen=True)
class Network:
    """Streets and junctions.

    Attributes:
        arcs: the streets.
        nodes: junctions, (N, 2).
        roads: carriageways, beyond the bounds too.
        fronts: carriageways and sidewalks, beyond the bounds too; between them lie the blocks.
    """

    arcs: list[Arc]
    nodes: Points
    roads: shapely.Geometry
    fronts: shapely.Geometry


@dataclass
class _Stretch:
    """A street before junctions are known: a polyline between two nodes of one line of the grid."""

    points: Points
    ends: tuple[int, int]
    line: int


@dataclass(frozen=True)
class _Line:
    """What all streets along one line of the grid share."""

    kind: str
    width: float
    sidewalk: float
    lanes: int
    name: str


def make_network(bounds: tuple[float, float, float, float], rng: np.random.Generator) -> Network:
    """Lay out streets.

    Args:
        bounds: (min x, min y, max x, max y) of a square around the origin.
        rng: what they are drawn from.
    """
    stretches, nodes, lines = _Grid(bounds[2] - bounds[0], rng).stretches()
    box = shapely.box(*bounds)
    near = shapely.dwithin([shapely.LineString(s.points) for s in stretches], box, 40.0)
    stretches = [stretch for stretch, keep in zip(stretches, near, strict=True) if keep]
    roads, fronts = _areas(stretches, lines)
    return Network(_arcs(stretches, nodes, lines, box), nodes, roads, fronts)


class _Grid:
    """Lines i of constant u and lines j of constant v, bent into streets."""

    def __init__(self, extent: float, rng: np.random.Generator) -> None:
        self._rng = rng
        self._small = extent < 300
        mean = float(np.clip(extent / 3.15, 46.0, 84.0))
        spread = float(np.interp(extent, (200, 400), (0.07, 0.27)))
        reach = extent * 0.5**0.5 + 60
        self._u, self._v = (_spaced(reach, mean, spread, rng) for _ in range(2))
        jitter = rng.uniform(-1, 1, (len(self._u), len(self._v), 2)) * 0.055 * mean
        self._vertices = np.stack(np.meshgrid(self._u, self._v, indexing="ij"), axis=2) + jitter
        self._angle = rng.uniform(-0.45, 0.45)
        length = rng.uniform(220, 600, 4)
        direction = rng.uniform(0, 2 * np.pi, (2, 4))
        self._waves = 2 * np.pi / length * np.stack([np.cos(direction[0]), np.sin(direction[0])])
        self._shifts = 0.15 * length / (2 * np.pi) * np.stack([np.cos(direction[1]), np.sin(direction[1])])
        self._phases = rng.uniform(0, 2 * np.pi, 4)
        # Which edges are streets: (i, j) → (i, j + 1) along lines of constant u, and (i, j) → (i + 1, j).
        self._upright = np.ones((len(self._u), len(self._v) - 1), bool)
        self._level = np.ones((len(self._u) - 1, len(self._v)), bool)
        self._merged = np.zeros((len(self._u) - 1, len(self._v) - 1), bool)

    def stretches(self) -> tuple[list[_Stretch], Points, list[_Line]]:
        """Streets between nodes, nodes (N, 2) and lines."""
        lines = self._lines()
        self._remove(lines)
        nodes = [*self._bent(self._vertices.reshape(-1, 2))]
        edges: dict[tuple[int, int, int], Points] = {}
        for i, j in np.argwhere(self._upright):
            edges[0, i, j] = self._bent(_spline(self._vertices[i], j))
        for i, j in np.argwhere(self._level):
            edges[1, i, j] = self._bent(_spline(self._vertices[:, j], i))
        cuts, lanes = self._passages(edges, nodes, lines)
        made: list[_Stretch] = []
        for (axis, i, j), points in edges.items():
            line = int(i if axis == 0 else len(self._u) + j)
            first = int(i * len(self._v) + j)
            last = first + (1 if axis == 0 else len(self._v))
            made += _cut(points, (first, last), line, cuts.get((axis, i, j), []))
        return [*made, *lanes], np.array(nodes), lines

    def _lines(self) -> list[_Line]:
        """Kinds and widths of the lines of constant u, then of those of constant v."""
        rng, main = self._rng, set()
        for axis, positions in enumerate((self._u, self._v)):
            middle = int(np.searchsorted(positions, 0.0)) - int(rng.integers(0, 2))
            if axis == 0 or not self._small or rng.random() < 0.5:
                main |= {(axis, int(index)) for index in _every(middle, len(positions), rng)}
        lines: list[_Line] = []
        names = rng.permutation(len(_NAMES))
        for axis, positions in enumerate((self._u, self._v)):
            for index in range(len(positions)):
                number = len(lines)
                kind = "main" if (axis, index) in main else "lane" if rng.random() < 0.14 else "residential"
                suffix = {"main": "Avenue", "residential": "Street", "lane": "Lane"}[kind]
                name = f"{_NAMES[names[number % len(_NAMES)]]} {suffix}"
                lines.append(
                    _line(kind, name if number < len(_NAMES) else f"{name} {number // len(_NAMES) + 1}", rng)
                )
        return lines

    def _remove(self, lines: list[_Line]) -> None:
        """Leave out some edges: at most one of each cell, and so that no street ends blind or at an angle."""
        rng, columns, rows = self._rng, len(self._u), len(self._v)
        edges = [(0, i, j) for i in range(1, columns - 1) for j in range(rows - 1)]
        edges += [(1, i, j) for i in range(columns - 1) for j in range(1, rows - 1)]
        wanted = round(len(edges) * (0.08 if self._small else 0.13))
        center = (int(np.searchsorted(self._u, 0.0)) - 1, int(np.searchsorted(self._v, 0.0)) - 1)
        for number in rng.permutation(len(edges)):
            axis, i, j = edges[number]
            cells = [(i - 1, j), (i, j)] if axis == 0 else [(i, j - 1), (i, j)]
            if wanted <= 0 or lines[i if axis == 0 else columns + j].kind == "main":
                continue
            steps = np.diff(self._u if axis == 0 else self._v)
            at = i if axis == 0 else j
            if (
                steps[at - 1] + steps[at] > 168
                or any(self._merged[cell] for cell in cells)
                or (self._small and center in cells)
            ):
                continue
            ends = [(i, j), (i, j + 1)] if axis == 0 else [(i, j), (i + 1, j)]
            if all(self._through(end, 1 - axis) for end in ends):
                (self._upright if axis == 0 else self._level)[i, j] = False
                for cell in cells:
                    self._merged[cell] = True
                wanted -= 1

    def _through(self, vertex: tuple[int, int], axis: int) -> bool:
        """Whether both edges along an axis at a vertex are streets."""
        i, j = vertex
        if axis == 0:
            return 0 < j < len(self._v) - 1 and bool(self._upright[i, j - 1 : j + 1].all())
        return 0 < i < len(self._u) - 1 and bool(self._level[i - 1 : i + 1, j].all())

    def _passages(
        self, edges: dict[tuple[int, int, int], Points], nodes: list[Points], lines: list[_Line]
    ) -> tuple[dict[tuple[int, int, int], list[tuple[int, int]]], list[_Stretch]]:
        """Lanes through the middle of long cells: cuts of edges (index of the point, node) and the lanes."""
        rng = self._rng
        cuts: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        lanes: list[_Stretch] = []
        for i, j in np.argwhere(~self._merged):
            sides = float(np.diff(self._u)[i]), float(np.diff(self._v)[j])
            axis = int(sides[1] > sides[0])
            pair = [(0, i, j), (0, i + 1, j)] if axis == 1 else [(1, i, j), (1, i, j + 1)]
            if max(sides) < 80 or rng.random() > 0.55 or not all(edge in edges for edge in pair):
                continue
            ends = []
            for edge in pair:
                points = edges[edge]
                at = round(len(points) * rng.uniform(0.42, 0.58))
                if edge in cuts:
                    at = cuts[edge][0][0]
                    ends.append((points[at], cuts[edge][0][1]))
                else:
                    nodes.append(points[at])
                    cuts[edge] = [(at, len(nodes) - 1)]
                    ends.append((points[at], len(nodes) - 1))
            kind = "lane" if rng.random() < 0.75 else "residential"
            lines.append(_line(kind, f"Passage {len(lanes) + 1}", rng))
            lanes.append(
                _Stretch(_bow(ends[0][0], ends[1][0], rng), (ends[0][1], ends[1][1]), len(lines) - 1)
            )
        return cuts, lanes

    def _bent(self, points: Points) -> Points:
        """Points of the grid in the scene frame, (N, 2) → (N, 2)."""
        shifted = points + np.sin(points @ self._waves + self._phases) @ self._shifts.T
        cos, sin = np.cos(self._angle), np.sin(self._angle)
        return shifted @ np.array([[cos, sin], [-sin, cos]])


def _spaced(reach: float, mean: float, spread: float, rng: np.random.Generator) -> Points:
    """Positions of lines from −reach to reach; the middle of a cell is near 0."""
    count = int(np.ceil(reach / (mean * (1 - spread)))) + 1
    steps = mean * (1 + rng.uniform(-spread, spread, (2, count)))
    first = steps[:, 0].mean()
    right = first / 2 + np.concatenate([[0], np.cumsum(steps[0, 1:])])
    left = -first / 2 - np.concatenate([[0], np.cumsum(steps[1, 1:])])
    return np.concatenate([left[::-1], right])


def _every(middle: int, count: int, rng: np.random.Generator) -> list[int]:
    """Indices of main lines: `middle`, and every third to fifth line from there."""
    chosen = [middle]
    for direction in (-1, 1):
        index = middle + direction * int(rng.integers(3, 6))
        while 0 <= index < count:
            chosen.append(index)
            index += direction * int(rng.integers(3, 6))
    return chosen


def _line(kind: str, name: str, rng: np.random.Generator) -> _Line:
    if kind == "main":
        width = float(rng.choice([12.0, 12.5, 13.0, 15.0, 16.0]))
        return _Line(kind, width, float(rng.uniform(3.2, 4.0)), 4 if width >= 15 else 2, name)
    if kind == "residential":
        width = float(rng.choice([7.0, 7.5, 8.0, 8.5, 9.0]))
        return _Line(kind, width, float(rng.uniform(2.2, 3.7)), 2 if rng.random() < 0.6 else 1, name)
    return _Line(kind, 5.0, float(rng.uniform(2.0, 2.3)), 1, name)


def _spline(vertices: Points, index: int) -> Points:
    """Catmull-Rom curve through vertices (N, 2), from `index` to the next one, a point about every 4 m."""
    count = len(vertices)
    before, start, end, after = (vertices[np.clip(index + k, 0, count - 1)] for k in (-1, 0, 1, 2))
    t = np.linspace(0, 1, max(3, int(np.linalg.norm(end - start) / 4) + 1))[:, None]
    a, b = (end - before) / 2, (after - start) / 2
    return (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * a
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - t**2) * b
    )


def _bow(start: Points, end: Points, rng: np.random.Generator) -> Points:
    """A slightly bent line between two points."""
    t = np.linspace(0, 1, max(5, int(np.linalg.norm(end - start) / 5)))[:, None]
    normal = np.array([start[1] - end[1], end[0] - start[0]])
    return start + t * (end - start) + np.sin(np.pi * t) * normal * rng.uniform(-0.06, 0.06)


def _cut(points: Points, ends: tuple[int, int], line: int, cuts: list[tuple[int, int]]) -> list[_Stretch]:
    """Stretches of an edge that is cut at points."""
    made, first, node = [], 0, ends[0]
    for at, new in [*cuts, (len(points) - 1, ends[1])]:
        made.append(_Stretch(points[first : at + 1], (node, new), line))
        first, node = at, new
    return made


def _areas(stretches: list[_Stretch], lines: list[_Line]) -> tuple[shapely.Geometry, shapely.Geometry]:
    """Carriageways with rounded corners, and the same with sidewalks."""
    strokes = []
    owners = []
    for line in range(len(lines)):
        parts = [shapely.LineString(s.points) for s in stretches if s.line == line]
        merged = shapely.get_parts(shapely.line_merge(shapely.MultiLineString(parts))) if parts else []
        strokes += [*merged]
        owners += [line] * len(merged)
    half = np.array([lines[line].width / 2 for line in owners])
    sidewalk = np.array([lines[line].sidewalk for line in owners])
    sharp = shapely.union_all(shapely.buffer(strokes, half, cap_style="flat", quad_segs=6))
    closed = shapely.buffer(shapely.buffer(sharp, KERB_RADIUS, quad_segs=6), -KERB_RADIUS, quad_segs=6)
    roads = shapely.simplify(shapely.union(closed, sharp), 0.015)
    wide = shapely.buffer(strokes, half + sidewalk, cap_style="flat", quad_segs=6)
    return roads, shapely.union_all([*wide, shapely.buffer(roads, LEAST_SIDEWALK, quad_segs=3)])


def _arcs(stretches: list[_Stretch], nodes: Points, lines: list[_Line], box: shapely.Geometry) -> list[Arc]:
    """Streets with what their junctions take from them, clipped to the bounds."""
    arms: dict[int, list[tuple[int, int]]] = {}
    for number, stretch in enumerate(stretches):
        for side in (0, 1):
            arms.setdefault(stretch.ends[side], []).append((number, side))
    inside = shapely.contains_xy(box, nodes)
    counts: dict[int, int] = {}
    arcs = []
    for number, stretch in enumerate(stretches):
        line = lines[stretch.line]
        clipped = shapely.intersection(shapely.LineString(stretch.points), box)
        for part in shapely.get_parts(clipped):
            if part.length < 1:
                continue
            points = shapely.get_coordinates(part)
            reach, ends = [0.0, 0.0], [-1, -1]
            for side, end in enumerate(stretch.ends):
                if inside[end] and np.allclose(points[-side], nodes[end]):
                    ends[side] = end
                    reach[side] = _reach(number, side, arms[end], stretches, lines)
            counts[stretch.line] = counts.get(stretch.line, 0) + 1
            name = f"{line.name} ({counts[stretch.line]})"
            street = Street(points, line.width, line.sidewalk, line.lanes, name)
            arcs.append(Arc(street, line.kind, (ends[0], ends[1]), (reach[0], reach[1])))
    return arcs


def _reach(
    number: int, side: int, arms: list[tuple[int, int]], stretches: list[_Stretch], lines: list[_Line]
) -> float:
    """How far a junction reaches into one of its streets: to the end of the rounded kerbs."""
    own = _direction(stretches[number], side)
    half = lines[stretches[number].line].width / 2
    reach = 0.0
    for other, other_side in arms:
        if (other, other_side) == (number, side):
            continue
        away = _direction(stretches[other], other_side)
        angle = float(np.arccos(np.clip(own @ away, -1, 1)))
        if angle < np.radians(160):
            other_half = lines[stretches[other].line].width / 2
            kerbs = (other_half + half * np.cos(angle)) / np.sin(angle)
            reach = max(reach, kerbs + KERB_RADIUS / np.tan(angle / 2))
    return reach


def _direction(stretch: _Stretch, side: int) -> Points:
    """Unit vector along a street, away from its start (side 0) or end (1)."""
    points = stretch.points if side == 0 else stretch.points[::-1]
    step = points[min(2, len(points) - 1)] - points[0]
    return step / np.linalg.norm(step)


def along(street: Street, distances: npt.ArrayLike) -> tuple[Points, Points]:
    """Points of the centreline and unit tangents at distances from its start: (N,) → (N, 2), (N, 2)."""
    distances = np.asarray(distances, np.float64)
    steps = np.diff(street.centreline, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    index = np.clip(np.searchsorted(starts, distances, side="right") - 1, 0, len(steps) - 1)
    tangents = steps[index] / lengths[index, None]
    return street.centreline[index] + (distances - starts[index])[:, None] * tangents, tangents


def street_length(street: Street) -> float:
    """Length of the centreline, metres."""
    return float(np.linalg.norm(np.diff(street.centreline, axis=0), axis=1).sum())
