"""A plan and its parts: streets, buildings, what stands in the streets; geometry in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from shapely.geometry import MultiPolygon, Polygon


@dataclass(frozen=True)
class Street:
    """A street between two junctions.

    Attributes:
        centreline: (N, 2), finely sampled where it bends.
        width: between the kerbs.
        sidewalk: width of the sidewalk on each side.
        lanes: marked lanes, both directions together (1: no centre line).
        name: unique within the city.
    """

    centreline: npt.NDArray[np.float64]
    width: float
    sidewalk: float
    lanes: int
    name: str


@dataclass(frozen=True)
class Building:
    """A building.

    Attributes:
        index: 0, 1, …; unique.
        footprint: without holes; the exterior is counter-clockwise.
        floors: number of storeys, with the ground floor.
        floor_height: of the storeys above the ground floor.
        ground_height: of the ground floor.
        roof: ``flat``, ``gable``, ``hip`` or ``mansard``. ``gable`` only for footprints close to a rectangle,
            ``hip`` and ``mansard`` only for convex ones.
        use: ``house``, ``apartments``, ``shops`` (apartments over shops), ``office``, ``industrial`` or
            ``civic``.
        faces: for each edge of the exterior (corner i to i + 1): ``street`` (seen from a street or park),
            ``yard`` (seen from a court or garden) or ``party`` (shared with a neighbour: blank). Where walls
            of neighbours differ in length, the longer one has a vertex at the end of the shorter one.
    """

    index: int
    footprint: Polygon
    floors: int
    floor_height: float
    ground_height: float
    roof: str
    use: str
    faces: tuple[str, ...]

    @property
    def eaves(self) -> float:
        """Height of the walls."""
        return self.ground_height + (self.floors - 1) * self.floor_height


@dataclass(frozen=True)
class Item:
    """Something that stands at a point.

    Attributes:
        kind: ``tree``, ``bush``, ``lamp``, ``traffic_sign``, ``bench``, ``bin``, ``bollard``, ``bus_stop``,
            ``advertising_column``, ``kiosk``, ``hydrant``, ``rock``.
        x, y: position.
        heading: direction it faces, radians counter-clockwise from east.
        size: height in metres.
    """

    kind: str
    x: float
    y: float
    heading: float
    size: float


@dataclass(frozen=True)
class Crossing:
    """A zebra crossing.

    Attributes:
        area: rectangle on the road.
        heading: direction of the traffic that it crosses (stripes are parallel to it), radians.
    """

    area: Polygon
    heading: float


@dataclass(frozen=True)
class CityPlan:
    """A city in the scene frame.

    Attributes:
        seed: what it was made from.
        crs: ``EPSG:…`` of a UTM zone.
        origin: easting and northing of the scene frame's origin.
        bounds: (min x, min y, max x, max y); everything lies inside, and streets run out of it.
        streets: between junctions.
        roads: all carriageways, with junctions.
        sidewalks: on both sides of the roads; disjoint from them.
        crossings: on the roads.
        stop_lines: (N, 2, 2) segments on the roads.
        parks, lawns, plazas, waters: what covers the blocks between the buildings; pairwise disjoint, and
            disjoint from roads, sidewalks and buildings. What none of them covers is yard (soil and grass).
        buildings: disjoint footprints (neighbours may share walls).
        items: street furniture and trees; none stands on a road, a crossing or in a building.
        parking: (N, 3) x, y, heading of parking slots at the kerbs and in yards.
    """

    seed: int
    crs: str
    origin: tuple[float, float]
    bounds: tuple[float, float, float, float]
    streets: list[Street]
    roads: MultiPolygon
    sidewalks: MultiPolygon
    crossings: list[Crossing]
    stop_lines: npt.NDArray[np.float64]
    parks: MultiPolygon
    lawns: MultiPolygon
    plazas: MultiPolygon
    waters: MultiPolygon
    buildings: list[Building]
    items: list[Item]
    parking: npt.NDArray[np.float64]
