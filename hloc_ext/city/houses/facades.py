"""Buildings: their facades with everything on them; the roofs are in :mod:`hloc_ext.city.houses.roofs`."""

from __future__ import annotations

import numpy as np

from ..mesh import Mesh
from ..plan import Building, CityPlan
from ..textures import TextureSet
from .attachments import add_advertisement, add_balconies, add_clutter, add_shops
from .facade_layout import BASE, Facade, Floats, blank_facade, make_facade
from .facade_style import Style, make_style
from .openings import add_openings
from .ornaments import add_bands, add_corners, add_gablets, add_rustication
from .roofs import add_roof, plan_roof
from .surfaces import Frame, Material, Surfaces

#: `object_id` of building 0; the others follow.
FIRST_BUILDING_ID = 1000


def buildings_mesh(plan: CityPlan, textures: TextureSet, seed: int) -> Mesh:
    """All buildings of a plan; see :func:`building_mesh`."""
    return Mesh.concatenate([building_mesh(building, textures, seed) for building in plan.buildings])


def building_mesh(building: Building, textures: TextureSet, seed: int) -> Mesh:
    """A building: walls with recessed openings, what is fixed to them, and the roof.

    Args:
        building: what it is like.
        textures: pictures of its surfaces.
        seed: of the city; what is random about the building depends on it and on `building.index` alone.

    Returns:
        Triangles in the scene frame. Nothing reaches further than 1.2 m out of the footprint, and below 2.3 m
        nothing further than 0.35 m.
    """
    rng = np.random.default_rng([seed, 4100, building.index])
    style = make_style(rng, textures, building)
    surfaces = Surfaces(textures, FIRST_BUILDING_ID + building.index, rng.uniform(0, 8, 2))
    roof = plan_roof(rng, building)
    ring = np.asarray(building.footprint.exterior.coords)[:-1, :2]
    mitres = corner_mitres(ring, building.faces)
    levels = storey_levels(building)
    if roof.parapet:
        levels = np.append(levels, building.eaves + roof.parapet)
    entrance = main_edge(ring, building.faces)
    for i, face in enumerate(building.faces):
        start, end = ring[i], ring[(i + 1) % len(ring)]
        length = float(np.hypot(*(end - start)))
        if length < 1e-3:
            continue
        ends = (mitres[i], mitres[(i + 1) % len(ring)])
        frame = Frame.of_edge(start, end)
        if face == "party":
            facade = blank_facade(frame, length, face, ends, levels)
        else:
            facade = make_facade(rng, style, building.use, frame, length, face, ends, levels, i == entrance)
        _add_facade(surfaces, facade, style, rng, building.eaves, roof.overhang)
    add_roof(surfaces, rng, building, roof, style)
    return surfaces.build()


def storey_levels(building: Building) -> Floats:
    """Heights between rows of windows, from below the ground to the eaves; high ground floors have two."""
    upper = building.ground_height + building.floor_height * np.arange(building.floors)
    gallery = [0.5 * building.ground_height] if building.ground_height > 6 else []
    return np.array([BASE, *gallery, *upper])


def main_edge(ring: Floats, faces: tuple[str, ...]) -> int:
    """The longest edge of a ring (N, 2) that is seen from a street, or from a yard if none is."""
    lengths = np.hypot(*(np.roll(ring, -1, axis=0) - ring).T)
    rank = np.array([{"street": 2, "yard": 1}.get(face, 0) for face in faces])
    return int(np.argmax(np.where(rank == rank.max(), lengths, -1.0)))


def corner_mitres(ring: Floats, faces: tuple[str, ...]) -> list[float]:
    """For each corner of a ring (N, 2): how much further a band must reach, per metre that it protrudes.

    0 beside a party wall, where the neighbour's begins.
    """
    along = np.roll(ring, -1, axis=0) - ring
    along = along / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    before = np.roll(along, 1, axis=0)
    turn = np.arctan2(before[:, 0] * along[:, 1] - before[:, 1] * along[:, 0], (before * along).sum(axis=1))
    mitre = np.clip(np.tan(turn / 2), -1.2, 1.2)
    return [0.0 if "party" in (faces[i - 1], faces[i]) else float(mitre[i]) for i in range(len(ring))]


def _add_facade(
    surfaces: Surfaces, facade: Facade, style: Style, rng: np.random.Generator, eaves: float, overhang: float
) -> None:
    if facade.face == "party":
        _add_wall(surfaces, facade, style.party, style.party, style.party)
        if rng.random() < 0.25 and facade.levels[-1] > 10:
            add_advertisement(surfaces, facade, rng)
        return
    if facade.face == "yard":
        _add_wall(surfaces, facade, style.yard, style.yard, style.yard.shaded(0.9))
    else:
        _add_wall(surfaces, facade, style.ground, style.wall, style.second)
        add_corners(surfaces, facade, style, eaves)
        if style.rusticated and not any(opening.kind == "shopfront" for opening in facade.openings):
            add_rustication(surfaces, facade, style, rng)
        if style.gablets:
            add_gablets(surfaces, facade, style, rng)
    add_openings(surfaces, facade, style, rng)
    add_bands(surfaces, facade, style, eaves, overhang)
    add_balconies(surfaces, facade, style, rng)
    add_shops(surfaces, facade, rng)
    add_clutter(surfaces, facade, style, rng, eaves)


def _add_wall(surfaces: Surfaces, facade: Facade, ground: Material, wall: Material, second: Material) -> None:
    """The wall between the openings, and the steps between sections of different depth."""
    for materials, quads in zip((ground, wall, second), _wall_quads(facade), strict=True):
        rects = np.array(quads).reshape(-1, 5)
        left, right, low, high, depth = rects.T
        corners = np.empty((len(rects), 4, 3))
        corners[:, :, 0] = np.stack([left, right, right, left], axis=1)
        corners[:, :, 1] = depth[:, None]
        corners[:, :, 2] = np.stack([high, high, low, low], axis=1)
        surfaces.quads(facade.frame, corners, materials.texture, materials.tint)
    steps = np.array(_step_quads(facade)).reshape(-1, 4, 3)
    surfaces.quads(facade.frame, steps, wall.texture, wall.tint)


def _wall_quads(facade: Facade) -> tuple[list[tuple[float, ...]], ...]:
    """Rectangles (left, right, low, high, depth): ground floor, walls above, accented walls."""
    groups: tuple[list[tuple[float, ...]], ...] = ([], [], [])
    middles = np.array([((o.left + o.right) / 2, (o.low + o.high) / 2) for o in facade.openings]).reshape(
        -1, 2
    )
    rows = np.searchsorted(facade.levels, middles[:, 1]) - 1
    for floor in range(facade.floors):
        low, high = float(facade.levels[floor]), float(facade.levels[floor + 1])
        section = 0
        while section < len(facade.breaks) - 1:
            first = section
            state = (facade.depth[floor, first], facade.accented[floor, first])
            while (
                section < len(facade.breaks) - 1
                and (facade.depth[floor, section], facade.accented[floor, section]) == state
            ):
                section += 1
            left, right = float(facade.breaks[first]), float(facade.breaks[section])
            inside = (rows == floor) & (middles[:, 0] > left) & (middles[:, 0] < right)
            group = 0 if floor == 0 else 2 if state[1] else 1
            groups[group].extend(_cell(facade, inside, left, right, low, high, float(state[0])))
    return groups


def _cell(
    facade: Facade, inside: np.ndarray, left: float, right: float, low: float, high: float, depth: float
) -> list[tuple[float, ...]]:
    """Rectangles of a part of the wall, less its openings."""
    openings = sorted((facade.openings[i] for i in np.flatnonzero(inside)), key=lambda o: o.left)
    if not openings:
        return [(left, right, low, high, depth)]
    rects: list[tuple[float, ...]] = []
    bottoms, tops = {o.low for o in openings}, {o.high for o in openings}
    floor, ceiling = low, high
    if len(bottoms) == 1:
        floor = openings[0].low
        rects.append((left, right, low, floor, depth))
    if len(tops) == 1:
        ceiling = openings[0].high
        rects.append((left, right, ceiling, high, depth))
    s = left
    for opening in openings:
        rects.append((s, opening.left, floor, ceiling, depth))
        if opening.low > floor:
            rects.append((opening.left, opening.right, floor, opening.low, depth))
        if opening.high < ceiling:
            rects.append((opening.left, opening.right, opening.high, ceiling, depth))
        s = opening.right
    rects.append((s, right, floor, ceiling, depth))
    return rects


def _step_quads(facade: Facade) -> list[list[tuple[float, float, float]]]:
    """Sides, tops and undersides of sections that project or recede."""
    quads = []
    depth, levels, breaks = facade.depth, facade.levels, facade.breaks
    for floor, section in zip(*np.nonzero(np.diff(depth, axis=1)), strict=True):
        s, a, b = breaks[section + 1], depth[floor, section], depth[floor, section + 1]
        low, high = levels[floor], levels[floor + 1]
        quads.append([(s, a, high), (s, b, high), (s, b, low), (s, a, low)])
    closed = np.concatenate([depth, np.zeros((1, depth.shape[1]))])
    for floor, section in zip(*np.nonzero(np.diff(closed, axis=0)), strict=True):
        z, a, b = levels[floor + 1], closed[floor, section], closed[floor + 1, section]
        left, right = breaks[section], breaks[section + 1]
        quads.append([(left, a, z), (right, a, z), (right, b, z), (left, b, z)])
    return quads
