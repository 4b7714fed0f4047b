"""Cars and people of one moment: what differs between two pictures of the same place."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from ..mesh import Mesh
from ..plan import CityPlan, Street
from ..textures import TextureSet
from .car_bodies import BODIES, BODY_SHARES, FOOTPRINTS, PAINT_SHARES, PAINTS
from .cars import make_car
from .flat import GRASS_HEIGHT, SIDEWALK_HEIGHT
from .markings import LANE_WIDTH
from .people import make_person, people_colors
from .solids import Prototype

Floats = npt.NDArray[np.float64]

#: Object ids of cars and people begin here.
FIRST_MOVING_ID = 1_000_000
#: Share of the parking slots that are taken.
_PARKED = 0.6
#: Metres of lane for each driving car, and of sidewalk for each person.
_LANE_PER_CAR, _SIDEWALK_PER_PERSON = 55.0, 28.0
_PLAZA_PER_PERSON, _PARK_PER_PERSON = 110.0, 500.0
#: Different people, of whom copies in other clothes are placed.
_PEOPLE = 24

#: Radius that items take up, as a share of their size; 0.2 m at least.
_ITEM_RADIUS = {
    "tree": 0.04,
    "bush": 0.6,
    "bench": 1.2,
    "bin": 0.45,
    "bus_stop": 0.95,
    "advertising_column": 0.25,
    "kiosk": 0.85,
    "rock": 1.4,
}


@dataclass
class _Things:
    """Candidates of one kind.

    Attributes:
        place: (N, 4) x, y, z, heading.
        size: (N, 2) length and width on the ground, metres.
        kind: (N,) index of the prototype.
        identity: (N,) numbers that do not depend on what is near.
    """

    place: Floats
    size: Floats
    kind: npt.NDArray[np.int64]
    identity: npt.NDArray[np.int64]

    @classmethod
    def join(cls, several: Sequence[_Things]) -> _Things:
        """All of several, one after the other."""
        parts = [
            np.concatenate(values) for values in zip(*(vars(one).values() for one in several), strict=True)
        ]
        return cls(*parts)

    def __getitem__(self, chosen: npt.NDArray[np.generic]) -> _Things:
        return _Things(*(value[chosen] for value in vars(self).values()))

    def shapes(self, margin: float) -> npt.NDArray[np.object_]:
        """Rectangles on the ground, widened by a margin on each side."""
        half = self.size / 2 + margin
        cos, sin = np.cos(self.place[:, 3]), np.sin(self.place[:, 3])
        along = half[:, :1] * np.stack([cos, sin], axis=1)
        left = half[:, 1:] * np.stack([-sin, cos], axis=1)
        center = self.place[:, :2]
        corners = np.stack(
            [center + along + left, center + along - left, center - along - left, center - along + left], 1
        )
        return shapely.polygons(corners)


def moving_mesh(
    plan: CityPlan,
    textures: TextureSet,
    seed: int,
    near: tuple[float, float] | None = None,
    radius: float = 90.0,
    keep_clear: Sequence[tuple[float, float, float]] = (),
) -> Mesh:
    """Cars and people of one moment; none overlaps another, a building or an item.

    Parked cars fill about 60 % of the slots; others drive on the right; people walk on sidewalks,
    crossings and plazas, and stand at bus stops. Labels are ``VEHICLE`` and ``PERSON``, object ids begin at
    :data:`FIRST_MOVING_ID`.

    Args:
        plan: of the city.
        textures: pictures.
        seed: the moment; the same one has the same things at the same places, whatever is asked for.
        near: centre of the circle that is filled, (x, y); None: the whole city.
        radius: of that circle, metres.
        keep_clear: places (x, y, radius) where nothing is put, for cameras.
    """
    crowd = _Crowd(plan, seed, near, radius)
    cars = _Things.join([crowd.parked(), crowd.driving()])
    people = crowd.people()
    obstacles = _obstacles(plan, near, radius + 10, keep_clear)
    shapes = np.concatenate([cars.shapes(0.1), people.shapes(0.05)])
    kept = _apart(shapes, obstacles)
    cars, people = cars[kept[: len(cars.kind)]], people[kept[len(cars.kind) :]]
    vehicles, walkers = _prototypes(textures)
    paint = _colors_of(cars.identity, seed)[:, None]
    dressed = people_colors(np.random.default_rng([seed, 66]), _PEOPLE * 6)[people.identity % (_PEOPLE * 6)]
    heights = 1.55 + 0.35 * (people.identity * 0.618034 % 1)
    return Mesh.concatenate(
        [
            *_copies(cars, vehicles, np.ones(len(cars.kind)), paint),
            *_copies(people, walkers, heights, dressed),
        ]
    )


#: Prototypes that were made, and for which pictures: making them takes longer than placing them.
_made: list[tuple[weakref.ref[TextureSet], tuple[list[Prototype], list[Prototype]]]] = []


def _prototypes(textures: TextureSet) -> tuple[list[Prototype], list[Prototype]]:
    """Vehicles and people, the same ones as long as the pictures are the same."""
    for pictures, made in _made:
        if pictures() is textures:
            return made
    rng = np.random.default_rng(60)
    vehicles = [make_car(body, textures, rng) for body in BODIES]
    walkers = [make_person(textures, rng) for _ in range(_PEOPLE)]
    _made[:] = [*_made[-3:], (weakref.ref(textures), (vehicles, walkers))]
    return vehicles, walkers


def _copies(
    things: _Things, prototypes: Sequence[Prototype], scales: npt.NDArray[np.floating], colors: Floats
) -> list[Mesh]:
    return [
        prototype.copies(
            things.place[chosen, :3],
            things.place[chosen, 3],
            scales[chosen],
            things.identity[chosen] + FIRST_MOVING_ID,
            colors[chosen],
        )
        for kind, prototype in enumerate(prototypes)
        if (chosen := things.kind == kind).any()
    ]


def _colors_of(identity: npt.NDArray[np.int64], seed: int) -> Floats:
    """Paint of cars, (N, 3), by their numbers."""
    rng = np.random.default_rng([seed, 65])
    table = PAINTS[rng.choice(len(PAINTS), 997, p=PAINT_SHARES / PAINT_SHARES.sum())]
    table = np.clip(table * rng.uniform(0.85, 1.1, (997, 1)) * rng.uniform(0.96, 1.04, (997, 3)), 0, 255)
    return table[identity % 997]


def _obstacles(
    plan: CityPlan,
    near: tuple[float, float] | None,
    radius: float,
    keep_clear: Sequence[tuple[float, float, float]],
) -> npt.NDArray[np.object_]:
    """Buildings, items and what is to be kept clear, as polygons."""
    buildings = np.array([building.footprint for building in plan.buildings], dtype=object)
    items = np.array(
        [(item.x, item.y, max(0.2, _ITEM_RADIUS.get(item.kind, 0.0) * item.size)) for item in plan.items]
    ).reshape(-1, 3)
    if near is not None:
        items = items[np.linalg.norm(items[:, :2] - near, axis=1) < radius]
        if len(buildings):
            buildings = buildings[shapely.distance(shapely.Point(near), buildings) < radius]
    discs = np.concatenate([items, np.array(keep_clear, float).reshape(-1, 3)])
    return np.concatenate([buildings, shapely.buffer(shapely.points(discs[:, :2]), discs[:, 2], quad_segs=3)])


def _apart(shapes: npt.NDArray[np.object_], obstacles: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Which shapes meet no obstacle and none of those kept before them, (N,)."""
    kept = np.ones(len(shapes), bool)
    kept[shapely.STRtree(obstacles).query(shapes, predicate="intersects")[0]] = False
    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    order = np.lexsort((second, first))
    for later, earlier in zip(first[order], second[order], strict=True):
        if earlier < later and kept[earlier]:
            kept[later] = False
    return kept


class _Crowd:
    """Where cars and people may be; every street has random numbers of its own, whatever is near."""

    def __init__(self, plan: CityPlan, seed: int, near: tuple[float, float] | None, radius: float) -> None:
        self._plan, self._seed, self._near, self._radius = plan, seed, near, radius
        lines = [shapely.LineString(street.centreline) for street in plan.streets]
        self._lines = np.array(lines, dtype=object)
        chosen = np.arange(len(lines))
        if near is not None and len(lines):
            chosen = chosen[shapely.distance(shapely.Point(near), self._lines) < radius + 15]
        self._streets = chosen

    def _close(self, points: Floats) -> npt.NDArray[np.bool_]:
        if self._near is None:
            return np.ones(len(points), bool)
        return np.linalg.norm(points[:, :2] - self._near, axis=1) < self._radius

    def parked(self) -> _Things:
        """Cars in the parking slots."""
        rng = np.random.default_rng([self._seed, 61])
        slots = self._plan.parking.reshape(-1, 3)
        count = len(slots)
        kind = rng.choice(len(BODIES), count, p=BODY_SHARES)
        shift, turn = rng.normal(0, (0.15, 0.05), (count, 2)), rng.normal(0, 0.015, count)
        heading = slots[:, 2] + np.where(rng.random(count) < 0.2, np.pi, 0.0) + turn
        kept = (rng.random(count) < _PARKED) & self._close(slots)
        cos, sin = np.cos(slots[:, 2]), np.sin(slots[:, 2])
        x = slots[:, 0] + shift[:, 0] * cos - shift[:, 1] * sin
        y = slots[:, 1] + shift[:, 0] * sin + shift[:, 1] * cos
        kind[kind == len(BODIES) - 1] = 0
        z = np.full(count, GRASS_HEIGHT)
        z[shapely.contains_xy(self._plan.plazas, x, y)] = SIDEWALK_HEIGHT
        z[shapely.contains_xy(self._plan.roads, x, y)] = 0.0
        return _Things(np.stack([x, y, z, heading], axis=1), FOOTPRINTS[kind], kind, np.arange(count))[kept]

    def driving(self) -> _Things:
        """Cars on the lanes, on the right."""
        parts = [self._on_lanes(int(index)) for index in self._streets]
        return _Things.join([*parts, _none()])

    def _on_lanes(self, index: int) -> _Things:
        street, line = self._plan.streets[index], self._lines[index]
        rng = np.random.default_rng([self._seed, 62, index])
        count = rng.poisson(line.length * max(street.lanes, 1) / _LANE_PER_CAR)
        along = np.sort(rng.uniform(4, max(line.length - 4, 5), count))
        lane = rng.integers(0, max(street.lanes, 1), count)
        kind = rng.choice(len(BODIES), count, p=BODY_SHARES)
        drift = rng.normal(0, 0.15, count)
        offset = (lane + 0.5 - street.lanes / 2) * min(street.width / max(street.lanes, 1), LANE_WIDTH)
        if street.lanes <= 1:
            offset = np.full(count, -0.3)
        offset = offset + drift
        place = _beside(line, along, offset, np.where(offset < 0, 0.0, np.pi), 0.0)
        inside = self._close(place)
        identity = 100_000 + 1000 * index + np.arange(count)
        return _Things(place, FOOTPRINTS[kind], kind, identity)[inside]

    def people(self) -> _Things:
        """People on sidewalks, crossings, plazas and in parks, and at bus stops."""
        parts = [self._on_sidewalks(int(index)) for index in self._streets]
        parts += [self._on_crossings(), self._at_stops()]
        areas = [
            (self._plan.plazas, _PLAZA_PER_PERSON, SIDEWALK_HEIGHT),
            (self._plan.parks, _PARK_PER_PERSON, GRASS_HEIGHT),
        ]
        parts += [self._in_area(number, *area) for number, area in enumerate(areas)]
        people = _Things.join(parts)
        return people[self._close(people.place)]

    def _on_sidewalks(self, index: int) -> _Things:
        """Walkers on both sides of a street, some of them in pairs."""
        street, line = self._plan.streets[index], self._lines[index]
        rng = np.random.default_rng([self._seed, 63, index])
        count = rng.poisson(2 * line.length / _SIDEWALK_PER_PERSON)
        along, side = rng.uniform(0, line.length, count), rng.choice([-1.0, 1.0], count)
        offset = side * (street.width / 2 + 0.55 + rng.uniform(0, max(street.sidewalk - 1.1, 0.05), count))
        facing = np.where(rng.random(count) < 0.5, 0.0, np.pi)
        pairs = rng.random(count) < 0.25
        along = np.concatenate([along, along[pairs] + rng.normal(0, 0.15, pairs.sum())])
        offset = np.concatenate(
            [offset, offset[pairs] + 0.65 * np.where(rng.random(pairs.sum()) < 0.5, -1, 1)]
        )
        facing = np.concatenate([facing, facing[pairs]]) + rng.normal(0, 0.12, len(along))
        place = _beside(line, along, offset, facing, SIDEWALK_HEIGHT)
        kept = _on_side(street, offset) & shapely.contains_xy(self._plan.sidewalks, place[:, 0], place[:, 1])
        return _people(place, rng, 1000 * index)[kept]

    def _on_crossings(self) -> _Things:
        rng = np.random.default_rng([self._seed, 64])
        places = []
        for crossing in self._plan.crossings:
            shares, jitter = rng.uniform(0.1, 0.9, 2), rng.uniform(-0.8, 0.8, 2)
            taken, facing = rng.random(2) < (0.4, 0.25), rng.choice([-np.pi / 2, np.pi / 2], 2)
            center = shapely.centroid(crossing.area)
            corners = shapely.get_coordinates(crossing.area) - (center.x, center.y)
            cos, sin = np.cos(crossing.heading), np.sin(crossing.heading)
            width = np.ptp(corners @ (-sin, cos))
            for share, shift, turn in zip(shares[taken], jitter[taken], facing[taken], strict=True):
                across = (share - 0.5) * width
                x, y = center.x + shift * cos - across * sin, center.y + shift * sin + across * cos
                places.append((x, y, 0.0, crossing.heading + turn))
        return _people(np.array(places).reshape(-1, 4), rng, 800_000)

    def _at_stops(self) -> _Things:
        """Up to four people who wait at each bus stop."""
        rng = np.random.default_rng([self._seed, 67])
        places = []
        for stop in (item for item in self._plan.items if item.kind == "bus_stop"):
            count = int(rng.integers(0, 5))
            ahead, aside = (
                rng.uniform(-0.2, 1.6, count),
                rng.choice([-1, 1], count) * rng.uniform(2.5, 4.0, count),
            )
            cos, sin = np.cos(stop.heading), np.sin(stop.heading)
            x, y = stop.x + ahead * cos - aside * sin, stop.y + ahead * sin + aside * cos
            facing = stop.heading + rng.normal(0, 0.8, count)
            kept = shapely.contains_xy(self._plan.sidewalks, x, y)
            places.append(np.stack([x, y, np.full(count, SIDEWALK_HEIGHT), facing], axis=1)[kept])
        return _people(np.concatenate([np.empty((0, 4)), *places]), rng, 810_000)

    def _in_area(self, number: int, area: shapely.Geometry, per_person: float, height: float) -> _Things:
        """People anywhere in an area."""
        rng = np.random.default_rng([self._seed, 68, number])
        if area.is_empty:
            return _none()
        parts = shapely.get_parts(area)
        places = []
        for part in parts:
            min_x, min_y, max_x, max_y = part.bounds
            count = rng.poisson((max_x - min_x) * (max_y - min_y) / per_person)
            xy = rng.uniform((min_x, min_y), (max_x, max_y), (count, 2))
            inside = shapely.contains_xy(part, xy[:, 0], xy[:, 1])
            facing = rng.uniform(0, 2 * np.pi, (count, 1))
            places.append(np.concatenate([xy, np.full((count, 1), height), facing], axis=1)[inside])
        return _people(np.concatenate(places), rng, 820_000 + 50_000 * number)


def _on_side(street: Street, offset: Floats) -> npt.NDArray[np.bool_]:
    """Whether an offset from the centreline is on the sidewalk, with room for a person."""
    reach = np.abs(offset) - street.width / 2
    return (reach > 0.4) & (reach < street.sidewalk - 0.3)


def _beside(
    line: shapely.LineString, along: Floats, offset: Floats, facing: npt.ArrayLike, z: float
) -> Floats:
    """Places (N, 4) at lengths along a line, so far to its left; headings relative to the line."""
    here = shapely.get_coordinates(shapely.line_interpolate_point(line, along))
    back = shapely.get_coordinates(shapely.line_interpolate_point(line, np.maximum(along - 1.0, 0.0)))
    ahead = shapely.get_coordinates(
        shapely.line_interpolate_point(line, np.minimum(along + 1.0, line.length))
    )
    heading = np.arctan2(*(ahead - back).T[::-1])
    x = here[:, 0] - offset * np.sin(heading)
    y = here[:, 1] + offset * np.cos(heading)
    return np.stack([x, y, np.full(len(x), z), heading + np.asarray(facing)], axis=1)


def _people(place: Floats, rng: np.random.Generator, first: int) -> _Things:
    count = len(place)
    size = np.broadcast_to(np.array([0.55, 0.5]), (count, 2))
    return _Things(place, size, rng.integers(0, _PEOPLE, count), 1_000_000 + first + np.arange(count))


def _none() -> _Things:
    return _people(np.empty((0, 4)), np.random.default_rng(0), 0)
