"""Paint on the roads: lane lines, zebra stripes, stop lines, arrows, parking slots. All of it is worn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree

from ..labels import Label
from ..mesh import MeshBuilder
from ..plan import CityPlan, Street
from ..textures import TextureSet
from .flat import SIDEWALK_HEIGHT, Floats, Paint, add_quads, add_rectangles, distance_to, nearby_union

#: Heights of paint begin and end here; each piece has its own, so that no two lie in one plane.
_HEIGHTS = (0.0055, 0.0068)
_LINE_WIDTH = 0.13
#: Length and width of a parking slot at the kerb, and of one of those side by side.
_SLOT, _BAY = (6.0, 2.2), (5.2, 2.7)
#: No lane for cars is wider; the rest of a street is for parking.
LANE_WIDTH = 3.3

#: Arrows that point along +x, as quads, metres: straight on, to the left, straight on or to the left.
_SHAFT = [(-1.6, 0.08), (0.5, 0.08), (0.5, -0.08), (-1.6, -0.08)]
_TIP = [(0.5, 0.3), (1.6, 0.0), (1.6, 0.0), (0.5, -0.3)]
_TURN = [
    [(-0.5, 0.08), (0.2, 0.6), (0.32, 0.48), (-0.3, -0.02)],
    [(0.0, 0.85), (0.75, 0.95), (0.75, 0.95), (0.5, 0.2)],
]
_LONG_SHAFT = [(-1.6, 0.08), (-0.4, 0.08), (-0.4, -0.08), (-1.6, -0.08)]
_ARROWS = (np.array([_SHAFT, _TIP]), np.array([_LONG_SHAFT, *_TURN]), np.array([_SHAFT, _TIP, *_TURN]))


def add_markings(
    builder: MeshBuilder, plan: CityPlan, textures: TextureSet, rng: np.random.Generator
) -> None:
    """Add the paint of all streets; zebra stripes are ``CROSSING``, everything else is ``ROAD``."""
    painter = _Painter(builder, plan, textures, rng)
    painter.lanes()
    painter.crossings()
    painter.stop_lines()
    painter.parking()


class _Painter:
    def __init__(
        self, builder: MeshBuilder, plan: CityPlan, textures: TextureSet, rng: np.random.Generator
    ) -> None:
        self._builder, self._plan, self._textures, self._rng = builder, plan, textures, rng
        self._pictures = np.array(textures.group("marking"))

    def _paint(self, count: int, label: Label = Label.ROAD, height: float = 0.0) -> Paint:
        """Worn white paint for so many pieces on ground of this height."""
        rng = self._rng
        tint = rng.uniform(175, 255, (count, 1)) * rng.uniform(0.95, 1.0, (count, 3))
        return Paint(
            rng.choice(self._pictures, count), height + rng.uniform(*_HEIGHTS, count), label, tint=tint
        )

    def _rectangles(
        self,
        centers: Floats,
        headings: npt.ArrayLike,
        lengths: npt.ArrayLike,
        widths: npt.ArrayLike,
        label: Label = Label.ROAD,
        height: float = 0.0,
    ) -> None:
        paint = self._paint(len(centers), label, height)
        add_rectangles(self._builder, self._textures, centers, headings, lengths, widths, paint)

    def lanes(self) -> None:
        """Lines between the lanes, and at the edges of wide streets, away from junctions and crossings."""
        streets = self._plan.streets
        lines = np.array([shapely.LineString(street.centreline) for street in streets], dtype=object)
        zones = shapely.buffer(lines, [street.width / 2 + 1.5 for street in streets], cap_style="flat")
        crossings = [shapely.buffer(crossing.area, 1.2) for crossing in self._plan.crossings]
        stops = shapely.buffer(shapely.linestrings(self._plan.stop_lines), 0.8)
        blocked = nearby_union(zones, np.array([*zones, *crossings, *stops], dtype=object), skip_own=True)
        for street, centre, junctions in zip(streets, lines, blocked, strict=True):
            for offset, dashed in _lines(street):
                line = centre.offset_curve(offset) if offset else centre
                for part in shapely.get_parts(shapely.difference(line, junctions)):
                    if part.length > 4:
                        self._line(part, dashed)

    def _line(self, line: shapely.LineString, dashed: bool) -> None:
        """A line along a line: dashes of 3 m, or one that is a little worn through in places."""
        rng = self._rng
        step, length = (7.5, 3.0) if dashed else (2.5, 2.5)
        count = int((line.length - length) / step) + 1
        starts = rng.uniform(0, 0.4) + np.arange(count) * step
        ends = np.minimum(starts + length * (rng.uniform(0.9, 1.0, count) if dashed else 1.0), line.length)
        kept = rng.random(count) > 0.04
        first = shapely.get_coordinates(shapely.line_interpolate_point(line, starts[kept]))
        last = shapely.get_coordinates(shapely.line_interpolate_point(line, ends[kept]))
        along = last - first
        heading = np.arctan2(along[:, 1], along[:, 0])
        width = _LINE_WIDTH * rng.uniform(0.85, 1.1, kept.sum())
        self._rectangles((first + last) / 2, heading, np.linalg.norm(along, axis=1), width)

    def crossings(self) -> None:
        """Stripes of zebra crossings, parallel to the traffic, 0.5 m wide, 0.5 m apart."""
        for crossing in self._plan.crossings:
            corners = shapely.get_coordinates(crossing.area)[:-1]
            along = np.array([np.cos(crossing.heading), np.sin(crossing.heading)])
            across = np.array([-along[1], along[0]])
            middle = corners.mean(axis=0)
            length, width = np.ptp((corners - middle) @ along), np.ptp((corners - middle) @ across)
            count = max(1, int(width - 0.3))
            offsets = np.arange(count) - (count - 1) / 2 + self._rng.uniform(-0.03, 0.03, count)
            widths = 0.5 * self._rng.uniform(0.9, 1.06, count)
            lengths = (length - 0.15) * self._rng.uniform(0.96, 1.0, count)
            centers = middle + offsets[:, None] * across
            # Two halves each, worn differently.
            for side in (-0.25, 0.25):
                shifted = centers + side * lengths[:, None] * along
                self._rectangles(shifted, crossing.heading, lengths / 2, widths, Label.CROSSING)

    def stop_lines(self) -> None:
        """Stop lines, and arrows before most of them."""
        ends = self._plan.stop_lines
        if len(ends) == 0:
            return
        along = ends[:, 1] - ends[:, 0]
        middle = ends.mean(axis=1)
        heading = np.arctan2(along[:, 1], along[:, 0])
        self._rectangles(middle, heading, np.linalg.norm(along, axis=1), 0.4)
        lines = [shapely.LineString(street.centreline) for street in self._plan.streets]
        _, nearest = shapely.STRtree(lines).query_nearest(shapely.points(middle), all_matches=False)
        for point, index in zip(middle, nearest, strict=True):
            street, line = self._plan.streets[index], lines[index]
            place = line.project(shapely.Point(point))
            onwards = 1.0 if place > line.length / 2 else -1.0
            if street.lanes < 2 or line.length < 30 or self._rng.random() < 0.25:
                continue
            self._arrow(line, place - onwards * self._rng.uniform(4, 9), onwards, street)

    def _arrow(self, line: shapely.LineString, place: float, onwards: float, street: Street) -> None:
        """An arrow on the right half of a street, `onwards` (1 or −1) along its centreline."""
        x, y = line.interpolate(place).coords[0]
        nx, ny = line.interpolate(place + onwards).coords[0]
        heading = np.arctan2(ny - y, nx - x)
        cos, sin = np.cos(heading), np.sin(heading)
        right = min(street.width / street.lanes, LANE_WIDTH) * (
            0.5 + int(self._rng.integers(max(street.lanes // 2, 1)))
        )
        shape = _ARROWS[self._rng.integers(len(_ARROWS))] * (1.0, self._rng.choice([-1.0, 1.0]))
        corners = shape @ np.array([(cos, sin), (-sin, cos)]) + (x + right * sin, y - right * cos)
        headings = np.full(len(corners), heading)
        add_quads(self._builder, self._textures, corners, headings, self._paint(len(corners)))

    def parking(self) -> None:
        """Lines around parking slots at the kerbs, and between those side by side on paved ground."""
        slots = self._plan.parking.reshape(-1, 3)
        on_road = shapely.contains_xy(self._plan.roads, slots[:, 0], slots[:, 1])
        self._kerb_slots(slots[on_road])
        paved = shapely.contains_xy(self._plan.plazas, slots[:, 0], slots[:, 1])
        x, y, heading = slots[paved & ~on_road].T
        left = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
        for side in (-0.5, 0.5):
            centers = np.stack([x, y], axis=1) + side * _BAY[1] * left
            inner = distance_to(self._plan.plazas, centers) > 0.1
            self._rectangles(centers[inner], heading[inner], _BAY[0], 0.1, Label.SIDEWALK, SIDEWALK_HEIGHT)

    def _kerb_slots(self, slots: Floats) -> None:
        """Lines around slots along a kerb; neighbours share one."""
        if len(slots) == 0:
            return
        heading = slots[:, 2]
        center = slots[:, :2]
        along = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        left = np.stack([-along[:, 1], along[:, 0]], axis=1)
        # The kerb is on one side; the line along the slots is on the other.
        to_kerb = distance_to(self._plan.roads, center + left) < distance_to(self._plan.roads, center - left)
        inner = np.where(to_kerb, -1.0, 1.0)[:, None] * left
        self._rectangles(center + _SLOT[1] / 2 * inner, heading, _SLOT[0], 0.1)
        self._rectangles(center - _SLOT[0] / 2 * along, heading + np.pi / 2, _SLOT[1], 0.1)
        gap, _ = cKDTree(center).query(center + _SLOT[0] * along)
        last = gap > 1.0
        self._rectangles((center + _SLOT[0] / 2 * along)[last], heading[last] + np.pi / 2, _SLOT[1], 0.1)


def _lines(street: Street) -> list[tuple[float, bool]]:
    """Distance from the centreline of each line of a street, and whether it is dashed."""
    if street.lanes < 2:
        return []
    lane = street.width / street.lanes
    if street.lanes == 2:
        return [(0.0, True)]
    half = street.lanes // 2
    sides = [(sign * lane * k, True) for k in range(1, half) for sign in (-1, 1)]
    return [(-0.12, False), (0.12, False), *sides]
