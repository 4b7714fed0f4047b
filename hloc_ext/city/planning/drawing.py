"""Pictures of a plan, like a city map."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import shapely

from ..labels import COLORS, Label
from .parts import CityPlan

_SHIFT = 4
_OUTLINE = (150, 92, 40)
_PATH, _CAR, _TREE, _ITEM = (214, 204, 186), COLORS[Label.VEHICLE], (62, 140, 62), COLORS[Label.POLE]


def plan_to_pixel(plan: CityPlan, xy: npt.ArrayLike, pixel_size: float) -> npt.NDArray[np.float64]:
    """Pixel coordinates in :func:`draw_plan`'s picture, (…, 2) metres in the scene frame → (…, 2) x, y.

    The centre of the top left pixel is (0.5, 0.5); (0, 0) is the north-west corner of the bounds.
    """
    xy = np.asarray(xy, np.float64)
    return np.stack([xy[..., 0] - plan.bounds[0], plan.bounds[3] - xy[..., 1]], axis=-1) / pixel_size


def draw_plan(plan: CityPlan, pixel_size: float) -> npt.NDArray[np.uint8]:
    """Draw a plan, north up, in the colours of the classes.

    Args:
        plan: the city.
        pixel_size: metres.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    width = round((plan.bounds[2] - plan.bounds[0]) / pixel_size)
    height = round((plan.bounds[3] - plan.bounds[1]) / pixel_size)
    picture = np.full((height, width, 3), COLORS[Label.OTHER], np.uint8)
    lighter = tuple(int(0.6 * value + 0.4 * 255) for value in COLORS[Label.VEGETATION])
    layers = [
        (plan.roads, COLORS[Label.ROAD]),
        (plan.sidewalks, COLORS[Label.SIDEWALK]),
        (plan.parks, COLORS[Label.VEGETATION]),
        (plan.lawns, lighter),
        (plan.plazas, _PATH),
        (plan.waters, COLORS[Label.WATER]),
    ]
    for area, color in layers:
        _fill(picture, plan, area, color, pixel_size)
    for crossing in plan.crossings:
        _fill(picture, plan, crossing.area, COLORS[Label.CROSSING], pixel_size)
    for line in plan.stop_lines:
        cv2.polylines(
            picture, [_fixed(plan, line, pixel_size)], False, (255, 255, 255), 1, cv2.LINE_AA, _SHIFT
        )
    for x, y, heading in plan.parking:
        car = np.array([(-2.2, -0.9), (2.2, -0.9), (2.2, 0.9), (-2.2, 0.9)])
        cos, sin = np.cos(heading), np.sin(heading)
        corners = car @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
        cv2.fillPoly(picture, [_fixed(plan, corners, pixel_size)], _CAR, cv2.LINE_AA, _SHIFT)
    for building in plan.buildings:
        shade = 1.08 - 0.04 * building.floors
        color = tuple(int(min(255, value * shade)) for value in COLORS[Label.BUILDING])
        _fill(picture, plan, building.footprint, color, pixel_size)
        outline = _fixed(plan, shapely.get_coordinates(building.footprint), pixel_size)
        cv2.polylines(picture, [outline], True, _OUTLINE, 1, cv2.LINE_AA, _SHIFT)
    _draw_items(picture, plan, pixel_size)
    return picture


def _draw_items(picture: npt.NDArray[np.uint8], plan: CityPlan, pixel_size: float) -> None:
    """Dots for furniture, discs for trees (0.3 of their height, as their crowns)."""
    for item in plan.items:
        x, y = _fixed(plan, np.array([[item.x, item.y]]), pixel_size)[0]
        leafy = item.kind in ("tree", "bush")
        radius = max(0.3 * item.size if leafy else 0.35, 0.5 * pixel_size)
        scaled = int(radius / pixel_size * 2**_SHIFT)
        cv2.circle(picture, (int(x), int(y)), scaled, _TREE if leafy else _ITEM, -1, cv2.LINE_AA, _SHIFT)


def _fill(
    picture: npt.NDArray[np.uint8],
    plan: CityPlan,
    area: shapely.Geometry,
    color: tuple[int, ...],
    pixel_size: float,
) -> None:
    for polygon in shapely.get_parts(area):
        rings = [polygon.exterior, *polygon.interiors]
        corners = [_fixed(plan, shapely.get_coordinates(ring), pixel_size) for ring in rings]
        cv2.fillPoly(picture, corners, color, cv2.LINE_AA, _SHIFT)


def _fixed(plan: CityPlan, xy: npt.NDArray[np.float64], pixel_size: float) -> npt.NDArray[np.int32]:
    """Coordinates for OpenCV: fixed point, (0, 0) at the centre of the top left pixel."""
    return np.round((plan_to_pixel(plan, xy, pixel_size) - 0.5) * 2**_SHIFT).astype(np.int32)
