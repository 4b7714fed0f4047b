"""Footprints of buildings that stand alone, and what buildings are like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from .parts import Building

Points = npt.NDArray[np.float64]

#: By the role of a building: least and most floors, heights of the ground floor and of the others, roofs.
_ROLES: dict[str, tuple[tuple[int, int], tuple[float, float], tuple[float, float], dict[str, float]]] = {
    "shops": ((3, 6), (3.7, 4.8), (3.0, 3.6), {"gable": 0.45, "mansard": 0.3, "hip": 0.05, "flat": 0.2}),
    "apartments": ((2, 5), (3.0, 3.8), (2.8, 3.3), {"gable": 0.5, "mansard": 0.2, "hip": 0.05, "flat": 0.25}),
    "rear": ((2, 4), (2.9, 3.4), (2.8, 3.1), {"gable": 0.5, "flat": 0.4, "hip": 0.1}),
    "slab": ((4, 8), (2.9, 3.3), (2.7, 2.9), {"flat": 1.0}),
    "house": ((1, 3), (2.8, 3.3), (2.6, 3.0), {"gable": 0.6, "hip": 0.25, "flat": 0.1, "mansard": 0.05}),
    "terrace": ((2, 3), (2.8, 3.1), (2.6, 2.9), {"gable": 0.85, "flat": 0.15}),
    "shed": ((1, 1), (2.4, 3.4), (2.6, 2.8), {"gable": 0.5, "flat": 0.5}),
    "office": ((4, 8), (4.0, 5.0), (3.2, 3.8), {"flat": 1.0}),
    "industrial": ((1, 2), (5.0, 7.5), (3.6, 4.5), {"flat": 0.55, "gable": 0.45}),
    "nave": ((1, 1), (9.0, 12.0), (3.5, 4.0), {"gable": 1.0}),
    "tower": ((5, 7), (5.0, 6.0), (4.0, 4.6), {"hip": 1.0}),
    "hall": ((2, 3), (4.5, 5.5), (3.8, 4.4), {"hip": 0.6, "mansard": 0.4}),
}
_USES = {
    "rear": "apartments",
    "slab": "apartments",
    "terrace": "house",
    "shed": "house",
    "nave": "civic",
    "tower": "civic",
    "hall": "civic",
}


def describe(index: int, footprint: shapely.Polygon, role: str, rng: np.random.Generator) -> Building:
    """A building of a role; its faces are not known yet (``street`` all around).

    Args:
        index: of the building.
        footprint: counter-clockwise.
        role: a key of the table above: what it is, more finely than its use.
        rng: what floors, heights and the roof are drawn from.
    """
    floors, ground, upper, roofs = _ROLES[role]
    shape = _plain(footprint)
    rectangular = footprint.area / footprint.minimum_rotated_rectangle.area
    convex = footprint.area / footprint.convex_hull.area > 1 - 1e-9
    possible = {
        "flat": True,
        "gable": len(shape) == 4 and rectangular > 0.86,
        "hip": convex and len(shape) == 4 and footprint.area < 700,
        "mansard": convex and footprint.area > 70,
    }
    weights = {roof: weight for roof, weight in roofs.items() if possible[roof]} or {"flat": 1.0}
    share = np.array([*weights.values()])
    roof = str(rng.choice([*weights], p=share / share.sum()))
    return Building(
        index=index,
        footprint=footprint,
        floors=int(rng.integers(floors[0], floors[1] + 1)),
        floor_height=float(rng.uniform(*upper)),
        ground_height=float(rng.uniform(*ground)),
        roof=roof,
        use=_USES.get(role, role),
        faces=("street",) * (len(footprint.exterior.coords) - 1),
    )


def _plain(footprint: shapely.Polygon) -> Points:
    """Corners without those on straight walls."""
    points = np.array(footprint.exterior.coords)[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return points[np.abs(cross) > 1e-6 * np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)]


def detached_shape(width: float, depth: float, rng: np.random.Generator) -> Points:
    """Corners of a rectangle, an L, T or U or a rectangle with a cut corner around (0, 0).

    Args:
        width: along x, metres.
        depth: along y; wings point to +y.
        rng: what shape and proportions are drawn from.
    """
    x, y = width / 2, depth / 2
    kind = str(rng.choice(["rectangle", "ell", "tee", "you", "cut"], p=[0.42, 0.26, 0.12, 0.08, 0.12]))
    body = y - depth * rng.uniform(0.3, 0.45)
    a, b = rng.uniform(0.28, 0.42, 2) * width
    corners = {
        "rectangle": [(-x, -y), (x, -y), (x, y), (-x, y)],
        "ell": [(-x, -y), (x, -y), (x, body), (-x + a + 1, body), (-x + a + 1, y), (-x, y)],
        "tee": [
            (-x, -y),
            (x, -y),
            (x, body),
            (x - a, body),
            (x - a, y),
            (b - x, y),
            (b - x, body),
            (-x, body),
        ],
        "you": [(-x, -y), (x, -y), (x, y), (x - a, y), (x - a, body), (b - x, body), (b - x, y), (-x, y)],
        "cut": [(-x, -y), (x, -y), (x, y - a / 2), (x - a / 2, y), (-x, y)],
    }[kind]
    points = np.array(corners)
    if kind == "rectangle" and rng.random() < 0.4:
        points = points + rng.uniform(-0.02, 0.02, points.shape) * np.array([width, depth])
    return points * (rng.choice([-1, 1]), 1) if kind != "rectangle" else points


def placed(points: Points, center: Points, heading: float) -> shapely.Polygon:
    """Polygon of corners that are turned and shifted; counter-clockwise."""
    cos, sin = np.cos(heading), np.sin(heading)
    return shapely.orient_polygons(shapely.Polygon(points @ np.array([[cos, sin], [-sin, cos]]) + center))
