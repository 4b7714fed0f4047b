"""Zebra crossings and stop lines."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from .parts import Crossing, Street
from .streets import Network, along, street_length

Points = npt.NDArray[np.float64]


def make_crossings(
    network: Network, roads: shapely.Geometry, rng: np.random.Generator
) -> tuple[list[Crossing], Points]:
    """Zebra crossings at most junctions of larger streets and at a few others, and stop lines.

    Args:
        network: the streets.
        roads: their carriageways within the bounds.
        rng: what is drawn: which arms of junctions have them, and the distances from the junction.

    Returns:
        The crossings, and stop lines (N, 2, 2) from the middle of the road to the kerb on the right.
    """
    crossings: list[Crossing] = []
    stops: list[list[Points]] = []
    for arms in _junctions(network):
        large = any(network.arcs[number].kind == "main" for number, _ in arms)
        for number, side in arms:
            arc = network.arcs[number]
            chance = {"main": 0.92, "residential": 0.8 if large else 0.25, "lane": 0.15}[arc.kind]
            crosses, stop = rng.random() < chance, rng.random() < (0.9 if large else 0.3)
            depth, start = rng.uniform(3.0, 4.0), arc.reach[side] + rng.uniform(0.4, 1.4)
            if street_length(arc.street) - sum(arc.reach) < 2 * depth + 8:
                continue
            if crosses:
                crossings.append(_crossing(arc.street, side, start, depth))
                start += depth + 1.1
            if stop and (crosses or arc.kind != "lane"):
                point, tangent = _station(arc.street, side, start)
                left = np.array([-tangent[1], tangent[0]])
                stops.append([point + 0.15 * left, point + (arc.street.width / 2 - 0.25) * left])
    lines = np.array(stops).reshape(-1, 2, 2)
    return (
        [crossing for crossing in crossings if shapely.covers(roads, crossing.area)],
        lines[shapely.covers(roads, shapely.linestrings(lines))],
    )


def _junctions(network: Network) -> list[list[tuple[int, int]]]:
    """Arms of each junction of three or more: (index of the street, 0 for its start or 1 for its end)."""
    arms: dict[int, list[tuple[int, int]]] = {}
    for number, arc in enumerate(network.arcs):
        for side in (0, 1):
            if arc.nodes[side] >= 0:
                arms.setdefault(arc.nodes[side], []).append((number, side))
    return [members for members in arms.values() if len(members) > 2]


def _station(street: Street, side: int, distance: float) -> tuple[Points, Points]:
    """Point at a distance from the start (side 0) or end (1) and the unit vector away from there."""
    points, tangents = along(street, [distance if side == 0 else street_length(street) - distance])
    return points[0], tangents[0] if side == 0 else -tangents[0]


def _crossing(street: Street, side: int, start: float, depth: float) -> Crossing:
    """A crossing from kerb to kerb (less 5 cm), from `start` on."""
    point, tangent = _station(street, side, start + depth / 2)
    across = np.array([-tangent[1], tangent[0]]) * (street.width / 2 - 0.05)
    ahead = tangent * depth / 2
    corners = [point - ahead - across, point + ahead - across, point + ahead + across, point - ahead + across]
    return Crossing(shapely.Polygon(corners), float(np.arctan2(tangent[1], tangent[0])))
