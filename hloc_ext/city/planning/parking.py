"""Where cars may stand at the kerbs, and where buses halt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from .parts import Crossing
from .streets import Arc, Network, along, street_length

Points = npt.NDArray[np.float64]

#: Length of a slot, distance of a car's middle from the kerb, and from junctions, metres.
SLOT, FROM_KERB, FROM_JUNCTION = 6.0, 1.1, 6.0
_BUS_BAY = 14.0


def kerb_parking(
    network: Network, roads: shapely.Geometry, crossings: list[Crossing], rng: np.random.Generator
) -> tuple[Points, Points]:
    """Slots along the kerbs, parallel to them, in the direction of traffic, which keeps to the right.

    Args:
        network: the streets.
        roads: their carriageways within the bounds.
        crossings: kept clear.
        rng: what is drawn: which sides have slots, where they begin, and bus stops.

    Returns:
        Slots (N, 3) and bus stops (M, 3): x, y on the kerb, heading across the sidewalk's edge to the road.
    """
    slots, stops = [np.empty((0, 3))], []
    for arc in network.arcs:
        length = street_length(arc.street)
        # Streets leave the bounds at an angle.
        border = SLOT / 2 + arc.street.width / 2
        first = arc.reach[0] + FROM_JUNCTION if arc.nodes[0] >= 0 else border
        last = length - (arc.reach[1] + FROM_JUNCTION if arc.nodes[1] >= 0 else border)
        for side, chance in zip((-1, 1), _chances(arc, rng), strict=True):
            count = int((last - first) // SLOT)
            stop = (
                rng.uniform(first + 4, max(first + 4, last - 4))
                if _has_stop(arc, last - first, rng)
                else None
            )
            if stop is not None:
                point, tangent = along(arc.street, [stop])
                left = np.array([-tangent[0, 1], tangent[0, 0]])
                x, y = point[0] + side * left * arc.street.width / 2
                stops.append((x, y, float(np.arctan2(*(-side * left)[::-1]))))
            if count < 1 or rng.random() > chance:
                continue
            begin = first + rng.uniform(0, last - first - count * SLOT)
            stations = np.array([begin + (number + 0.5) * SLOT for number in range(count)])
            if stop is not None:
                stations = stations[np.abs(stations - stop) > _BUS_BAY]
            slots.append(_slots(arc, stations, side))
    free = _off_crossings(np.concatenate(slots), crossings)
    shapely.prepare(roads)
    free = free[shapely.covers(roads, car_outlines(free))]
    return free, np.array(stops).reshape(-1, 3)


def _chances(arc: Arc, rng: np.random.Generator) -> tuple[float, float]:
    """How likely cars stand on the right and the left."""
    if arc.kind == "main":
        return (0.85, 0.85) if arc.street.lanes == 2 else (0.0, 0.0)
    if arc.kind == "lane" or arc.street.width < 7.4:
        return (0.0, 0.0)
    if arc.street.width >= 8.5 and arc.street.lanes == 1:
        return (0.85, 0.85)
    return (0.8, 0.0) if rng.random() < 0.5 else (0.0, 0.8)


def _has_stop(arc: Arc, length: float, rng: np.random.Generator) -> bool:
    return arc.kind == "main" and arc.street.sidewalk > 3.1 and length > 20 and rng.random() < 0.3


def _slots(arc: Arc, stations: Points, side: int) -> Points:
    """Slots at stations on the left (side 1) or the right (−1) of a street."""
    points, tangents = along(arc.street, stations)
    left = np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)
    points = points + side * (arc.street.width / 2 - FROM_KERB) * left
    headings = np.arctan2(*(-side * tangents).T[::-1])
    return np.column_stack([points, headings])


def car_outlines(slots: Points) -> npt.NDArray[np.object_]:
    """Rectangles of 4.6 m by 1.9 m on slots, (N, 3) → (N,)."""
    ahead = np.stack([np.cos(slots[:, 2]), np.sin(slots[:, 2])], axis=1) * 2.3
    aside = np.stack([-np.sin(slots[:, 2]), np.cos(slots[:, 2])], axis=1) * 0.95
    center = slots[:, :2]
    corners = [center + ahead + aside, center - ahead + aside, center - ahead - aside, center + ahead - aside]
    return shapely.polygons(np.stack(corners, axis=1))


def _off_crossings(slots: Points, crossings: list[Crossing]) -> Points:
    """Slots farther than 3.5 m from all crossings."""
    if not crossings or not len(slots):
        return slots
    tree = shapely.STRtree([crossing.area for crossing in crossings])
    near, _ = tree.query(shapely.points(slots[:, :2]), predicate="dwithin", distance=3.5)
    keep = np.ones(len(slots), bool)
    keep[near] = False
    return slots[keep]
