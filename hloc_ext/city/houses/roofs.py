"""Roofs: flat with a parapet, gable, hip and mansard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from ..plan import Building
from ..streets.flat import at_height, triangulate
from .facade_style import Style, colored, one, varied
from .roof_shapes import Envelope, Floats, edge_normals, offset_ring
from .rooftops import add_chimneys, add_dormers, add_flat_clutter, add_roof_windows
from .surfaces import SCENE, Frame, Material, Surfaces

#: Thickness of sloping roofs.
_SLAB = 0.14


@dataclass(frozen=True)
class Roof:
    """Shape of a roof; metres.

    Attributes:
        kind: ``flat``, ``gable``, ``hip`` or ``mansard``; ``flat`` where the footprint allows no other.
        parapet: height of the walls around a flat roof, else 0.
        overhang: of sloping roofs over the walls, else 0.
        slope: rise per metre.
        inset: of the upper edge of a mansard.
    """

    kind: str
    parapet: float = 0.0
    overhang: float = 0.0
    slope: float = 0.0
    inset: float = 0.0


def plan_roof(rng: np.random.Generator, building: Building) -> Roof:
    """Choose the measures of a building's roof."""
    ring = ring_of(building)
    free = np.array([face != "party" for face in building.faces])
    footprint = building.footprint
    convex = footprint.convex_hull.area < 1.002 * footprint.area
    parapet = float(rng.uniform(0.3, 1.0))
    slope = float(rng.uniform(0.6, 1.05) if building.use == "house" else rng.uniform(0.4, 0.85))
    if building.use == "industrial":
        slope *= 0.5
    overhang = float(rng.uniform(0.12, 0.24))
    inset = float(rng.uniform(0.9, 1.5))
    sloping = convex and (
        building.roof == "gable"
        or (building.roof == "hip" and free.sum() >= 2 and not _is_lean_to(ring, free))
    )
    if sloping and offset_ring(ring, np.where(free, overhang, 0.0)) is not None:
        return Roof(building.roof, overhang=overhang, slope=slope)
    if building.roof == "mansard" and offset_ring(ring, np.where(free, -inset, 0.0)) is not None:
        return Roof("mansard", overhang=0.16, slope=float(rng.uniform(1.7, 2.6)), inset=inset)
    return Roof("flat", parapet=parapet)


def ring_of(building: Building) -> Floats:
    """Corners of the footprint, counter-clockwise, (N, 2)."""
    return np.asarray(building.footprint.exterior.coords, np.float64)[:-1, :2]


def add_roof(
    surfaces: Surfaces, rng: np.random.Generator, building: Building, roof: Roof, style: Style
) -> None:
    """Add the roof of a building."""
    ring = ring_of(building)
    free = np.array([face != "party" for face in building.faces])
    if roof.kind == "flat":
        _add_flat(surfaces, rng, building, roof, style, ring, free)
    elif roof.kind == "mansard":
        _add_mansard(surfaces, rng, building, roof, style, ring, free)
    else:
        _add_sloping(surfaces, rng, building, roof, style, ring, free)


def _is_lean_to(ring: Floats, free: np.ndarray) -> bool:
    """Whether planes that rise from the free edges alone would not close over a ring."""
    normals = edge_normals(ring)[free]
    angles = np.sort(np.arctan2(normals[:, 1], normals[:, 0]))
    gaps = np.diff(np.concatenate([angles, [angles[0] + 2 * np.pi]]))
    return bool(gaps.max() > np.pi + 0.2)


def _add_ring_quads(
    surfaces: Surfaces, lower: tuple[Floats, float], upper: tuple[Floats, float], material: Material
) -> None:
    """Quads between two rings (N, 2) at two heights."""
    (a, low), (b, high) = lower, upper
    following_a, following_b = np.roll(a, -1, axis=0), np.roll(b, -1, axis=0)
    corners = np.stack([b, following_b, following_a, a], axis=1)
    corners = np.concatenate([corners, np.empty((len(a), 4, 1))], axis=2)
    corners[:, :2, 2], corners[:, 2:, 2] = high, low
    length = np.hypot(*(following_a - a).T)
    rise = np.hypot(np.hypot(*(b - a).T), high - low)
    width, height = surfaces.textures.size(material.texture)
    begin = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    uv = np.zeros((len(a), 4, 2))
    uv[:, [0, 3], 0] = begin[:, None] / width
    uv[:, 1:3, 0] = (begin + length)[:, None] / width
    uv[:, 2:, 1] = rise[:, None] / height
    surfaces.quads(SCENE, corners, material.texture, material.tint, uv=uv)


def _add_level(surfaces: Surfaces, ring: Floats, z: float, material: Material) -> None:
    """A flat polygon."""
    triangles, _ = triangulate([shapely.Polygon(ring)])
    surfaces.triangles(SCENE, at_height(triangles, z), material.texture, material.tint)


def _add_flat(
    surfaces: Surfaces,
    rng: np.random.Generator,
    building: Building,
    roof: Roof,
    style: Style,
    ring: Floats,
    free: np.ndarray,
) -> None:
    eaves, top = building.eaves, building.eaves + roof.parapet
    group = "gravel" if rng.random() < 0.4 else "bitumen"
    cover = Material(one(rng, surfaces.textures, group)).shaded(rng.uniform(0.75, 1.0))
    _add_level(surfaces, ring, eaves, cover)
    inner = offset_ring(ring, -0.25)
    if inner is None:
        return
    wall = style.yard.shaded(0.85)
    _add_ring_quads(surfaces, (inner, eaves), (inner, top), wall)
    coping = style.metal if rng.random() < 0.6 else style.accent
    outer = offset_ring(ring, np.where(free, 0.05, 0.0))
    inner_edge = offset_ring(ring, -0.29)
    if outer is None or inner_edge is None:
        _add_ring_quads(surfaces, (ring, top), (inner, top), coping)
    else:
        _add_ring_quads(surfaces, (outer, top - 0.04), (outer, top + 0.03), coping)
        _add_ring_quads(surfaces, (outer, top + 0.03), (inner_edge, top + 0.03), coping)
        _add_ring_quads(surfaces, (inner_edge, top - 0.04), (inner_edge, top + 0.03), coping)
        _add_ring_quads(surfaces, (ring, top - 0.04), (outer, top - 0.04), coping)
    add_flat_clutter(surfaces, rng, inner, eaves, style, building.floors)


def roof_cover(surfaces: Surfaces, rng: np.random.Generator, building: Building) -> Material:
    """Tiles, or metal sheets."""
    textures = surfaces.textures
    metal = {"industrial": 0.85, "house": 0.12}.get(building.use, 0.25)
    if rng.random() < metal:
        shades = ((120, 124, 126), (96, 122, 108), (120, 72, 58), (150, 152, 150))
        shade = shades[int(rng.integers(len(shades)))]
        return colored(textures, one(rng, textures, "metal_roof"), varied(rng, shade))
    tint = np.clip(225 * np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.05, 3)), 120, 255)
    r, g, b = (int(value) for value in tint)
    return Material(one(rng, textures, "roof_tile"), (r, g, b))


def envelope_of(building: Building, roof: Roof, ring: Floats, free: np.ndarray) -> Envelope:
    """Planes of a gable or hip roof; they rise from the edge of the overhang, which is at the eaves."""
    if roof.kind == "gable":
        corners = np.asarray(building.footprint.minimum_rotated_rectangle.exterior.coords)[:4, :2]
        corners = corners if shapely.LinearRing(corners).is_ccw else corners[::-1]
        lengths = np.hypot(*(np.roll(corners, -1, axis=0) - corners).T)
        first = int(lengths[1] > lengths[0])
        normals, points = edge_normals(corners)[first::2], corners[first::2]
        span = float(lengths[1 - first])
    else:
        normals, points = edge_normals(ring)[free], ring[free]
        reach = (normals * points).sum(axis=1)[:, None] - normals @ ring.T
        span = 2 * float(reach.max(axis=1).min()) if free.all() else float(reach.max(axis=1).min())
    slope = min(roof.slope, 11.0 / max(span, 1.0))
    return Envelope.of_edges(points + roof.overhang * normals, normals, slope, building.eaves)


def _add_sloping(
    surfaces: Surfaces,
    rng: np.random.Generator,
    building: Building,
    roof: Roof,
    style: Style,
    ring: Floats,
    free: np.ndarray,
) -> None:
    outer = offset_ring(ring, np.where(free, roof.overhang, 0.0))
    if outer is None:
        outer = ring
    envelope = envelope_of(building, roof, ring, free)
    cover = roof_cover(surfaces, rng, building)
    _add_faces(surfaces, envelope, outer, cover, style)
    for i, face in enumerate(building.faces):
        start, end = ring[i], ring[(i + 1) % len(ring)]
        wall = {"street": style.wall, "yard": style.yard}.get(face, style.party)
        _add_wall_under_roof(surfaces, envelope, start, end, building.eaves, wall, style, face, rng)
    _add_verges(surfaces, envelope, outer, style, building.eaves, free)
    add_roof_windows(surfaces, rng, envelope, ring, building.eaves)
    if building.use != "industrial":
        spots = add_dormers(surfaces, rng, envelope, ring, building, style) if rng.random() < 0.45 else []
        add_chimneys(surfaces, rng, envelope, ring, style, spots)


def _add_faces(surfaces: Surfaces, envelope: Envelope, outer: Floats, cover: Material, style: Style) -> None:
    """Upper and lower faces of the roof, and the tiles on its ridges."""
    ridges: list[Floats] = []
    for gradient, face in zip(envelope.gradients, envelope.faces(outer), strict=True):
        if len(face) < 3:
            continue
        fan = np.stack([np.broadcast_to(face[0], (len(face) - 2, 3)), face[1:-1], face[2:]], axis=1)
        slope = float(np.hypot(*gradient))
        uphill = gradient / max(slope, 1e-9)
        along = np.array([uphill[1], -uphill[0]])
        uv = np.stack([fan[..., :2] @ along, -(fan[..., :2] @ uphill) * np.hypot(1.0, slope)], axis=-1)
        uv = uv / surfaces.textures.size(cover.texture)
        surfaces.triangles(SCENE, fan, cover.texture, cover.tint, uv=uv)
        surfaces.triangles(SCENE, fan - np.array([0.0, 0.0, _SLAB]), style.wood.texture, style.accent.tint)
        following = np.roll(face, -1, axis=0)
        middle = (face + following)[:, :2] / 2
        planes = np.sort(envelope.planes(middle), axis=1)
        shared = planes[:, 1] - planes[:, 0] < 1e-4
        ridges.extend(np.stack([face[shared], following[shared]], axis=1))
    for start, end in ridges:
        run = (end - start)[:2]
        length = float(np.hypot(*run))
        if length < 0.3:
            continue
        side = 0.13 * np.array([-run[1], run[0]]) / length
        # Each ridge belongs to two faces, each of which adds the side that is on its left.
        low = np.stack([start[:2] + side, end[:2] + side])
        low = np.concatenate([low, envelope.at(low)[:, None] + 0.025], axis=1)
        high = np.stack([start, end]) + np.array([0.0, 0.0, 0.07])
        quad = np.array([[high[0], high[1], low[1], low[0]]])
        tint = cover.shaded(0.85).tint
        surfaces.quads(SCENE, quad, cover.texture, tint)


def _add_wall_under_roof(
    surfaces: Surfaces,
    envelope: Envelope,
    start: Floats,
    end: Floats,
    eaves: float,
    wall: Material,
    style: Style,
    face: str,
    rng: np.random.Generator,
) -> None:
    """The wall between the eaves and the roof: gables; a window in some."""
    frame = Frame.of_edge(start, end)
    fractions, heights = envelope.profile(start, end)
    s = fractions * np.hypot(*(end - start))
    tops = np.maximum(heights - 0.05, eaves)
    corners = np.zeros((len(s) - 1, 4, 3))
    corners[:, [0, 3], 0], corners[:, 1:3, 0] = s[:-1, None], s[1:, None]
    corners[:, 0, 2], corners[:, 1, 2], corners[:, 2:, 2] = tops[:-1], tops[1:], eaves
    surfaces.quads(frame, corners, wall.texture, wall.tint)
    middle = float(s[np.argmax(heights)])
    if face != "party" and heights.max() - eaves > 2.6 and len(s) > 2 and rng.random() < 0.75:
        half, low = 0.45, eaves + 0.35
        high = low + min(1.3, heights.max() - eaves - 1.5)
        quad = [
            [
                (middle - half, 0.03, high),
                (middle + half, 0.03, high),
                (middle + half, 0.03, low),
                (middle - half, 0.03, low),
            ]
        ]
        picture = style.windows[int(rng.integers(len(style.windows)))]
        glow = int(rng.uniform(60, 200)) if rng.random() < 0.3 else 0
        surfaces.quads(frame, quad, picture, glow=glow, uv=[(0, 0), (1, 0), (1, 1), (0, 1)])
        lower = [
            (middle - half - 0.1, 0.0, low - 0.08),
            (middle - half - 0.1, 0.0, high),
            (middle - half - 0.1, 0.0, low),
            (middle + half, 0.0, low),
        ]
        upper = [
            (middle + half + 0.1, 0.12, low),
            (middle + half + 0.1, 0.07, high + 0.1),
            (middle - half, 0.06, high),
            (middle + half + 0.1, 0.06, high),
        ]
        surfaces.prisms(frame, lower, upper, style.accent.texture, style.accent.tint)


def _add_verges(
    surfaces: Surfaces, envelope: Envelope, outer: Floats, style: Style, eaves: float, free: np.ndarray
) -> None:
    """The edges of the roof, and gutters along those that are level."""
    for i in range(len(outer)):
        start, end = outer[i], outer[(i + 1) % len(outer)]
        frame = Frame.of_edge(start, end)
        fractions, heights = envelope.profile(start, end)
        s = fractions * np.hypot(*(end - start))
        corners = np.zeros((len(s) - 1, 4, 3))
        corners[:, [0, 3], 0], corners[:, 1:3, 0] = s[:-1, None], s[1:, None]
        corners[:, 0, 2], corners[:, 1, 2] = heights[:-1], heights[1:]
        corners[:, 2:, 2] = corners[:, [1, 0], 2] - _SLAB
        surfaces.quads(frame, corners, style.wood.texture, style.accent.tint)
        if free[i] and np.ptp(heights) < 0.3 and heights.max() < eaves + 0.3 and s[-1] > 1:
            surfaces.box(
                frame,
                (0.02, 0.0, heights.min() - 0.12),
                (s[-1] - 0.02, 0.11, heights.min() + 0.005),
                style.metal,
            )


def _add_mansard(
    surfaces: Surfaces,
    rng: np.random.Generator,
    building: Building,
    roof: Roof,
    style: Style,
    ring: Floats,
    free: np.ndarray,
) -> None:
    """Steep faces on a narrow ledge, with dormers, and a flat top."""
    inset = np.where(free, -roof.inset, 0.0)
    upper = offset_ring(ring, inset)
    outer = offset_ring(ring, np.where(free, roof.overhang, 0.0))
    if upper is None:
        raise AssertionError("plan_roof chose a mansard for a footprint that has none")
    base, top = building.eaves, building.eaves + roof.slope * roof.inset
    cover = roof_cover(surfaces, rng, building)
    if outer is not None:
        _add_ring_quads(surfaces, (outer, base - 0.02), (ring, base + 0.02), style.metal)
        _add_ring_quads(surfaces, (outer, base - _SLAB), (outer, base - 0.02), style.accent)
        _add_ring_quads(surfaces, (ring, base - _SLAB), (outer, base - _SLAB), style.accent)
    following = np.roll(np.arange(len(ring)), -1)
    for materials, chosen in ((cover, np.flatnonzero(free)), (style.party, np.flatnonzero(~free))):
        for i in chosen:
            j = following[i]
            frame = Frame.of_edge(ring[i], ring[j])
            points = np.stack([upper[i], upper[j], ring[j], ring[i]])
            s, d = (points - frame.origin) @ frame.along, (points - frame.origin) @ frame.out
            z = np.array([top, top, base, base])
            uv = np.stack([s, -d - z], axis=1) / surfaces.textures.size(materials.texture)
            surfaces.quads(frame, np.stack([s, d, z], axis=1)[None], materials.texture, materials.tint, uv=uv)
    flat = Material(one(rng, surfaces.textures, "bitumen" if rng.random() < 0.5 else "metal_roof"))
    _add_level(surfaces, upper, top, flat)
    rim = offset_ring(ring, np.where(free, 0.09 - roof.inset, 0.0))
    inner = offset_ring(ring, np.where(free, -0.12 - roof.inset, -0.1))
    if rim is not None and inner is not None:
        _add_ring_quads(surfaces, (rim, top - 0.1), (rim, top + 0.12), style.metal)
        _add_ring_quads(surfaces, (rim, top + 0.12), (inner, top + 0.12), style.metal)
        _add_ring_quads(surfaces, (inner, top), (inner, top + 0.12), style.metal)
        add_flat_clutter(surfaces, rng, inner, top, style, 2)
    normals = edge_normals(ring)[free]
    planes = Envelope.of_edges(ring[free], normals, roof.slope, base)
    add_dormers(surfaces, rng, planes, ring, building, style, limit=top)
