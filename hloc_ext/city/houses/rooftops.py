"""What stands on roofs: chimneys, dormers, skylights, vents, machines, solar panels."""

from __future__ import annotations

import numpy as np
import shapely

from ..mesh import FIT
from ..plan import Building
from .facade_style import Style, one, wall_material
from .roof_shapes import Envelope, Floats
from .surfaces import SCENE, Frame, Material, Surfaces

_SIDES = ("front", "back", "left", "right", "top")


def _axis(ring: Floats) -> Floats:
    """Direction of the longest edge of a ring, (2,)."""
    along = np.roll(ring, -1, axis=0) - ring
    longest = along[int(np.argmax(np.hypot(*along.T)))]
    return longest / np.hypot(*longest)


def _spots(
    rng: np.random.Generator, ring: Floats, count: int, room: float, taken: list[tuple[float, float, float]]
) -> list[Floats]:
    """Up to `count` points at least `room` inside a ring and away from what is there already."""
    area = shapely.Polygon(ring).buffer(-room)
    if area.is_empty or count == 0:
        return []
    low_x, low_y, high_x, high_y = area.bounds
    points = rng.uniform((low_x, low_y), (high_x, high_y), (6 * count, 2))
    spots: list[Floats] = []
    for point in points[shapely.contains_xy(area, points)]:
        if len(spots) < count and all(np.hypot(point[0] - x, point[1] - y) > room + r for x, y, r in taken):
            spots.append(point)
            taken.append((float(point[0]), float(point[1]), room))
    return spots


def _frame_at(point: Floats, axis: Floats) -> Frame:
    return Frame(point, axis, np.array([axis[1], -axis[0]]))


def _add_block(
    surfaces: Surfaces, frame: Frame, size: tuple[float, float], low: float, high: float, material: Material
) -> None:
    """A box that is centred on the origin of a frame."""
    half_s, half_d = size[0] / 2, size[1] / 2
    surfaces.box(frame, (-half_s, -half_d, low), (half_s, half_d, high), material, _SIDES)


def add_flat_clutter(
    surfaces: Surfaces, rng: np.random.Generator, ring: Floats, z: float, style: Style, floors: int
) -> None:
    """Add what stands on a flat roof.

    Args:
        surfaces: where it is added.
        rng: source of all choices.
        ring: inner side of the parapet, (N, 2).
        z: height of the roof.
        style: of the building.
        floors: of the building; high ones have a stair house.
    """
    axis = _axis(ring)
    area = float(shapely.Polygon(ring).area)
    taken: list[tuple[float, float, float]] = []
    metal = style.metal.shaded(1.4)
    if floors >= 3 and area > 90:
        for point in _spots(rng, ring, 1 if area < 500 else 2, 2.2, taken):
            frame = _frame_at(point, axis)
            height = z + rng.uniform(2.3, 3.0)
            size = (rng.uniform(2.6, 4.0), rng.uniform(2.4, 3.2))
            _add_block(surfaces, frame, size, z, height, style.yard)
            _add_block(surfaces, frame, (size[0] + 0.2, size[1] + 0.2), height, height + 0.12, metal)
            door = [[(-0.5, size[1] / 2 + 0.02, z + 2.1), (0.5, size[1] / 2 + 0.02, z + 2.1),
                     (0.5, size[1] / 2 + 0.02, z + 0.1), (-0.5, size[1] / 2 + 0.02, z + 0.1)]]  # fmt: skip
            surfaces.quads(frame, door, style.doors[0], uv=FIT)
    if area > 60 and rng.random() < 0.15:
        _add_solar_rows(surfaces, rng, ring, z, taken)
    glass = Material(one(rng, surfaces.textures, "glass"), (190, 205, 215))
    for point in _spots(rng, ring, int(rng.integers(0, 4)), 1.3, taken):
        frame = _frame_at(point, axis)
        size = (rng.uniform(0.9, 1.8), rng.uniform(0.9, 1.4))
        _add_block(surfaces, frame, size, z, z + 0.3, metal)
        _add_block(surfaces, frame, (size[0] - 0.15, size[1] - 0.15), z + 0.3, z + 0.36, glass)
    for point in _spots(rng, ring, int(area / 110 * rng.uniform(0.3, 1.6)) + 1, 0.9, taken):
        frame = _frame_at(point, axis)
        size = (rng.uniform(0.7, 1.8), rng.uniform(0.6, 1.1))
        high = z + rng.uniform(0.6, 1.5)
        _add_block(surfaces, frame, size, z + 0.12, high, metal.shaded(rng.uniform(0.8, 1.2)))
        _add_block(surfaces, frame, (0.6 * size[0], 0.6 * size[1]), z, z + 0.12, metal)
        _add_block(surfaces, frame, (0.5 * size[0], 0.5 * size[1]), high, high + 0.06, metal.shaded(0.4))
    for point in _spots(rng, ring, int(area / 60) + 1, 0.45, taken):
        _add_pipe(surfaces, point, rng.uniform(0.06, 0.16), z, z + rng.uniform(0.4, 1.1), metal)
    brick = wall_material(rng, surfaces.textures, "brick")
    if style.character in ("historic", "brick", "modern", "cottage"):
        for point in _spots(rng, ring, int(rng.integers(0, 4)), 0.7, taken):
            add_chimney(surfaces, rng, _frame_at(point, axis), z, z + rng.uniform(1.0, 2.2), brick, style)


def _add_pipe(
    surfaces: Surfaces, point: Floats, radius: float, low: float, high: float, material: Material
) -> None:
    """An upright pipe with five sides and a cap."""
    angle = np.arange(5) * 0.4 * np.pi
    circle = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1) + point
    quads = np.empty((5, 4, 3))
    quads[:, [0, 3], :2], quads[:, 1:3, :2] = circle[:, None], np.roll(circle, -1, axis=0)[:, None]
    quads[:, :2, 2], quads[:, 2:, 2] = high, low
    surfaces.quads(SCENE, quads, material.texture, material.tint)
    cap = np.full((3, 3, 3), high)
    cap[:, 0, :2], cap[:, 1, :2], cap[:, 2, :2] = circle[0], circle[1:4], circle[2:5]
    surfaces.triangles(SCENE, cap, material.texture, material.shaded(0.5).tint)


def _add_solar_rows(
    surfaces: Surfaces,
    rng: np.random.Generator,
    ring: Floats,
    z: float,
    taken: list[tuple[float, float, float]],
) -> None:
    """Rows of tilted panels that face south."""
    spots = _spots(rng, ring, 1, 2.6, taken)
    if not spots:
        return
    material = Material(one(rng, surfaces.textures, "glass"), (70, 84, 130))
    frame = Frame(spots[0], np.array([1.0, 0.0]), np.array([0.0, -1.0]))
    quads = []
    for d in (-1.4, 0.2):
        for s in (-1.7, -0.55, 0.6):
            quads.append(
                [
                    (s, d, z + 0.75),
                    (s + 1.05, d, z + 0.75),
                    (s + 1.05, d + 1.2, z + 0.15),
                    (s, d + 1.2, z + 0.15),
                ]
            )
    surfaces.quads(frame, quads, material.texture, material.tint, uv=FIT)


def add_chimney(
    surfaces: Surfaces,
    rng: np.random.Generator,
    frame: Frame,
    low: float,
    high: float,
    brick: Material,
    style: Style,
) -> None:
    """Add a chimney with a cap and dark pots."""
    size = (rng.uniform(0.5, 1.3), rng.uniform(0.45, 0.65))
    _add_block(surfaces, frame, size, low, high, brick)
    _add_block(surfaces, frame, (size[0] + 0.12, size[1] + 0.12), high, high + 0.1, style.plinth)
    for s in np.arange(-size[0] / 2 + 0.25, size[0] / 2 - 0.15, 0.4):
        at = frame.origin + s * frame.along
        _add_pipe(surfaces, at, 0.11, high + 0.1, high + rng.uniform(0.3, 0.6), brick.shaded(0.55))


def add_chimneys(
    surfaces: Surfaces,
    rng: np.random.Generator,
    envelope: Envelope,
    ring: Floats,
    style: Style,
    taken: list[tuple[float, float, float]],
) -> None:
    """Add chimneys near the ridge of a sloping roof."""
    brick = wall_material(rng, surfaces.textures, "brick")
    axis = _axis(ring)
    ridge = float(envelope.at(np.concatenate([ring, ring.mean(axis=0)[None]])).max())
    floor = float(envelope.at(ring).min())
    for point in _spots(rng, ring, int(rng.integers(1, 4)), 1.0, taken):
        height = float(envelope.at(point))
        if height > floor + 0.45 * (ridge - floor):
            top = max(height + 1.0, min(ridge, height + 2.0) + 0.5)
            add_chimney(surfaces, rng, _frame_at(point, axis), height - 0.8, top, brick, style)


def add_roof_windows(
    surfaces: Surfaces, rng: np.random.Generator, envelope: Envelope, ring: Floats, eaves: float
) -> None:
    """Add skylights, or solar panels, that lie in sloping roofs."""
    area = shapely.Polygon(ring)
    metal = Material(one(rng, surfaces.textures, "metal"), (110, 110, 112))
    glass = one(rng, surfaces.textures, "glass")
    for i, gradient in enumerate(envelope.gradients):
        slope = float(np.hypot(*gradient))
        if slope < 0.3:
            continue
        uphill = gradient / slope
        along = np.array([uphill[1], -uphill[0]])
        solar = rng.random() < 0.12
        for _ in range(int(rng.integers(0, 4))):
            low_x, low_y, high_x, high_y = area.bounds
            center = rng.uniform((low_x, low_y), (high_x, high_y))
            size = (rng.uniform(2.5, 5.0), 1.6) if solar else (rng.uniform(0.7, 1.0), rng.uniform(0.8, 1.1))
            plan = center + np.array([(-1, 1), (1, 1), (1, -1), (-1, -1)]) * 0.5 @ (
                np.diag(size) @ np.stack([along, uphill])
            )
            planes = envelope.planes(plan)
            if (planes.argmin(axis=1) != i).any() or planes[:, i].min() < eaves + 0.6:
                continue
            if not shapely.contains_xy(area, plan).all():
                continue
            corners = np.concatenate([plan, planes[:, i : i + 1]], axis=1)
            middle = corners.mean(axis=0)
            if not solar:
                rim = middle + (corners - middle) * 1.14
                surfaces.quads(SCENE, rim[None] + np.array([0, 0, 0.05]), metal.texture, metal.tint)
            tint = (70, 84, 130) if solar else (200, 210, 220)
            surfaces.quads(SCENE, corners[None] + np.array([0, 0, 0.09]), glass, tint, uv=FIT)


def add_dormers(
    surfaces: Surfaces,
    rng: np.random.Generator,
    envelope: Envelope,
    ring: Floats,
    building: Building,
    style: Style,
    limit: float | None = None,
) -> list[tuple[float, float, float]]:
    """Add dormers above the walls to streets and yards.

    Args:
        surfaces: where they are added.
        rng: source of all choices.
        envelope: the roof.
        ring: the footprint, (N, 2).
        building: the building.
        style: its style.
        limit: height that they do not exceed; None: 0.3 m below the ridge.

    Returns:
        x, y and radius of the places taken.
    """
    spacing = max(style.bay * float(rng.choice([1.0, 1.0, 2.0])), 2.2)
    width, height = float(rng.uniform(1.0, 1.5)), float(rng.uniform(1.2, 1.5))
    setback = float(rng.uniform(0.25, 0.9))
    gabled = rng.random() < 0.5
    area = shapely.Polygon(ring)
    taken: list[tuple[float, float, float]] = []
    for i, face in enumerate(building.faces):
        start, end = ring[i], ring[(i + 1) % len(ring)]
        length = float(np.hypot(*(end - start)))
        if face == "party" or length < 4.5 or (face == "yard" and rng.random() < 0.5):
            continue
        frame = Frame.of_edge(start, end)
        plane = int(np.argmax(-(envelope.gradients @ frame.out)))
        slope = float(-(envelope.gradients[plane] @ frame.out))
        if slope < 0.55:
            continue
        count = int((length - 2.4) / spacing) + 1
        middles = length / 2 + (np.arange(count) - (count - 1) / 2) * spacing
        back = setback + height / slope
        for s in middles:
            base = frame.world(np.array([[s, -setback, 0.0]]))[0, :2]
            low = float(envelope.planes(base)[plane])
            corners = np.array([(s + t * width / 2, -d, 0.0) for t in (-1.3, 1.3) for d in (setback, back)])
            plan = frame.world(corners)[:, :2]
            heights = envelope.planes(plan)
            if abs(low - building.eaves - slope * setback) > 0.8 or not shapely.contains_xy(area, plan).all():
                continue
            if limit is None and (heights.argmin(axis=1) != plane).any():
                continue
            if limit is not None and low + height > limit - 0.05:
                height = limit - 0.1 - low
                if height < 0.8:
                    continue
            _add_dormer(surfaces, rng, frame, (s, setback, low), (width, height), slope, gabled, style)
            x, y = plan.mean(axis=0)
            taken.append((float(x), float(y), 0.6 * (back - setback) + 0.5))
    return taken


def _add_dormer(
    surfaces: Surfaces,
    rng: np.random.Generator,
    frame: Frame,
    position: tuple[float, float, float],
    size: tuple[float, float],
    slope: float,
    gabled: bool,
    style: Style,
) -> None:
    """A window with cheeks and a small roof; `position` is the middle of its foot (s, setback, z)."""
    s, setback, low = position
    left, right, high = s - size[0] / 2, s + size[0] / 2, low + size[1]
    front, back = -setback, -setback - size[1] / slope
    quad = [[(left, front, high), (right, front, high), (right, front, low - 0.3), (left, front, low - 0.3)]]
    surfaces.quads(frame, quad, style.wood.texture, style.accent.tint)
    cheeks = [[(at, front, high), (at, back, high), (at, front, low)] for at in (left, right)]
    surfaces.triangles(frame, cheeks, style.metal.texture, style.metal.tint)
    pane = [[(left + 0.12, front + 0.025, high - 0.1), (right - 0.12, front + 0.025, high - 0.1),
             (right - 0.12, front + 0.025, low + 0.1), (left + 0.12, front + 0.025, low + 0.1)]]  # fmt: skip
    picture = style.windows[int(rng.integers(len(style.windows)))]
    glow = int(rng.uniform(60, 200)) if rng.random() < 0.3 else 0
    surfaces.quads(frame, pane, picture, glow=glow, uv=FIT)
    over = 0.12
    if not gabled:
        surfaces.box(
            frame,
            (left - over, back - 0.2, high),
            (right + over, front + over, high + 0.09),
            style.metal,
            ("front", "left", "right", "top", "bottom"),
        )
        return
    rise = 0.42 * size[0]
    ridge = -setback - (size[1] + rise) / slope
    peak = (s, front + over, high + rise)
    roof = [
        [
            (s, ridge, high + rise),
            peak,
            (left - over, front + over, high - 0.03),
            (left - over, back - 0.1, high - 0.03),
        ],
        [
            peak,
            (s, ridge, high + rise),
            (right + over, back - 0.1, high - 0.03),
            (right + over, front + over, high - 0.03),
        ],
    ]
    surfaces.quads(frame, roof, style.metal.texture, style.metal.tint)
    gable = [[(s, front, high + rise - 0.02), (right, front, high), (left, front, high)]]
    surfaces.triangles(frame, gable, style.wood.texture, style.accent.tint)
