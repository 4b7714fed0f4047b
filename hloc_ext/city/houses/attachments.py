"""What is fixed to a facade: balconies, shop signs and awnings, pipes, posters, boxes and plants."""

from __future__ import annotations

import numpy as np

from ..mesh import FIT
from .facade_layout import Balcony, Facade, Floats, Opening
from .facade_style import Style, one
from .openings import awning_colors
from .surfaces import Material, Surfaces

#: Nothing that reaches out further than 0.35 m is lower.
_HEADROOM = 2.32


def add_balconies(surfaces: Surfaces, facade: Facade, style: Style, rng: np.random.Generator) -> None:
    """Add slabs and railings: bars, or panels."""
    solid = rng.random() < (0.6 if style.character in ("modern", "office") else 0.15)
    panel = style.second if rng.random() < 0.6 else Material(one(rng, surfaces.textures, "panel"))
    pitch = rng.uniform(0.15, 0.22)
    for balcony in facade.balconies:
        _add_balcony(surfaces, facade, style, balcony, panel if solid else None, pitch)


def _add_balcony(
    surfaces: Surfaces, facade: Facade, style: Style, balcony: Balcony, panel: Material | None, pitch: float
) -> None:
    frame, left, right, back, front, z = facade.frame, *vars(balcony).values()
    recessed = back < -0.5
    if not recessed:
        surfaces.box(frame, (left, back, z - 0.16), (right, front, z), style.accent)
        if style.character in ("historic", "brick"):
            for s in (left + 0.15, right - 0.35):
                surfaces.box(
                    frame, (s, back, z - 0.4), (s + 0.2, back + 0.55 * (front - back), z - 0.16), style.accent
                )
    inner = (back if not recessed else 0.0) + 0.01
    start, end, outer = (left + 0.03, right - 0.03, front - 0.04)
    rail = style.metal
    top = z + 1.02
    if panel is not None:
        surfaces.box(
            frame,
            (start, outer - 0.05, z + 0.06),
            (end, outer, top - 0.06),
            panel,
            ("front", "top", "bottom", "back"),
        )
        if not recessed:
            for s in (start, end - 0.05):
                surfaces.box(
                    frame,
                    (s, inner, z + 0.06),
                    (s + 0.05, outer, top - 0.06),
                    panel,
                    ("left", "right", "top", "bottom"),
                )
    surfaces.box(frame, (start, outer - 0.05, top - 0.05), (end, outer, top), rail)
    if not recessed:
        for s in (start, end - 0.05):
            surfaces.box(frame, (s, inner, top - 0.05), (s + 0.05, outer - 0.05, top), rail)
    if panel is not None:
        return
    s = np.arange(start + 0.02, end - 0.02, pitch)
    quads = [_bars(s, np.full(len(s), outer - 0.025), z, top - 0.05, (0.024, 0.0))]
    if not recessed:
        d = np.arange(inner + 0.1, outer - 0.1, pitch)
        quads += [
            _bars(np.full(len(d), side), d, z, top - 0.05, (0.0, 0.024))
            for side in (start + 0.02, end - 0.02)
        ]
    surfaces.quads(frame, np.concatenate(quads), rail.texture, rail.tint)


def _bars(s: Floats, d: Floats, low: float, high: float, size: tuple[float, float]) -> Floats:
    """Upright strips (N, 4, 3) at (s, d)."""
    corners = np.empty((len(s), 4, 3))
    corners[:, :, 0] = s[:, None] + np.array([0, size[0], size[0], 0])
    corners[:, :, 1] = d[:, None] + np.array([0, size[1], size[1], 0])
    corners[:, :, 2] = (high, high, low, low)
    return corners


def add_shops(surfaces: Surfaces, facade: Facade, rng: np.random.Generator) -> None:
    """Add signs and awnings over shop windows, and signs that stand out from the wall."""
    colors = awning_colors(rng, surfaces.textures)
    metal = Material(one(rng, surfaces.textures, "metal"), (90, 90, 92))
    ceiling = float(facade.levels[1])
    for shop in facade.openings:
        if shop.kind != "shopfront":
            continue
        low, high = shop.high + 0.1, min(shop.high + rng.uniform(0.5, 0.8), ceiling - 0.2)
        if rng.random() < 0.85 and high - low > 0.25:
            inset = rng.uniform(0.0, 0.15) * shop.width
            left, right, front = shop.left + inset, shop.right - inset, rng.uniform(0.08, 0.2)
            surfaces.box(
                facade.frame,
                (left, 0.0, low),
                (right, front, high),
                metal,
                ("left", "right", "top", "bottom"),
            )
            _add_picture(surfaces, facade, "sign", rng, (left, right, low, high), front, lit=0.55)
        if rng.random() < 0.35 and shop.high > 2.72:
            _add_awning(surfaces, facade, shop, rng.uniform(0.7, 1.15), colors)
        if rng.random() < 0.25 and ceiling > 3.4:
            s = shop.right + 0.12
            surfaces.box(
                facade.frame, (s, 0.05, 2.55), (s + 0.1, 0.8, 3.25), metal, ("front", "top", "bottom", "back")
            )
            picture = one(rng, surfaces.textures, "sign")
            glow = int(rng.integers(150, 256)) if rng.random() < 0.5 else 0
            for at in (s, s + 0.1):
                quad = [[(at, 0.05, 3.25), (at, 0.8, 3.25), (at, 0.8, 2.55), (at, 0.05, 2.55)]]
                surfaces.quads(
                    facade.frame, quad, picture, glow=glow, uv=FIT if at == s else FIT[[1, 0, 3, 2]]
                )


def _add_awning(
    surfaces: Surfaces, facade: Facade, shop: Opening, reach: float, colors: tuple[Material, Material]
) -> None:
    """Striped cloth: sloping strips and a valance."""
    count = max(int(shop.width / 0.35), 2)
    edges = np.linspace(shop.left - 0.05, shop.right + 0.05, count + 1)
    high, low = shop.high + 0.07, max(shop.high - 0.35 * reach, _HEADROOM + 0.2)
    corners = np.empty((count, 2, 4, 3))
    corners[..., 0] = np.stack([edges[:-1], edges[1:], edges[1:], edges[:-1]], axis=1)[:, None]
    corners[:, 0, :, 1:] = [(0.03, high), (0.03, high), (reach, low), (reach, low)]
    corners[:, 1, :, 1:] = [(reach, low), (reach, low), (reach, low - 0.2), (reach, low - 0.2)]
    for k, material in enumerate(colors):
        surfaces.quads(facade.frame, corners[k::2].reshape(-1, 4, 3), material.texture, material.tint)
    sides = [
        [(s, 0.03, high), (s, reach, low), (s, 0.03, low)] for s in (shop.left - 0.05, shop.right + 0.05)
    ]
    surfaces.triangles(facade.frame, sides, colors[0].texture, colors[0].tint, uv=FIT[:3])


def _add_picture(
    surfaces: Surfaces,
    facade: Facade,
    group: str,
    rng: np.random.Generator,
    rect: tuple[float, float, float, float],
    depth: float,
    lit: float = 0.0,
    tint: int = 255,
) -> None:
    """Add a whole picture of a group in a rectangle (left, right, low, high) parallel to the wall."""
    left, right, low, high = rect
    glow = int(rng.integers(150, 256)) if rng.random() < lit else 0
    quad = [[(left, depth, high), (right, depth, high), (right, depth, low), (left, depth, low)]]
    surfaces.quads(facade.frame, quad, one(rng, surfaces.textures, group), tint, glow, FIT)


def add_clutter(
    surfaces: Surfaces, facade: Facade, style: Style, rng: np.random.Generator, eaves: float
) -> None:
    """Add drainpipes, posters, graffiti, vents, boxes, dishes, flower boxes and cables."""
    _add_drainpipes(surfaces, facade, style, rng, eaves)
    _add_posters(surfaces, facade, rng)
    light = int(rng.integers(150, 256))
    grey = Material(style.metal.texture, (light, light, int(0.97 * light)))
    for low in facade.levels[1:-1]:
        for _ in range(max(int(facade.length / 3), 1)):
            if rng.random() > style.lived_in:
                continue
            s, z = rng.uniform(0.3, max(facade.length - 1.0, 0.4)), low + rng.uniform(0.2, 0.6)
            width, height, reach = ((0.8, 0.55, 0.3), (0.25, 0.25, 0.04), (0.35, 0.35, 0.12))[
                int(rng.integers(3))
            ]
            if z + height < eaves - 0.5 and facade.is_free(s, s + width, z, z + height):
                d = facade.depth_at(s, z)
                surfaces.box(facade.frame, (s, d + 0.03, z), (s + width, d + 0.03 + reach, z + height), grey)
    leaves = Material(one(rng, surfaces.textures, "leaves"))
    for opening in facade.openings:
        if opening.kind == "window" and opening.low > 2.4 and rng.random() < 0.3 * style.lived_in:
            left, right, z, d = opening.left + 0.05, opening.right - 0.05, opening.low, opening.depth + 0.02
            surfaces.box(facade.frame, (left, d, z - 0.02), (right, d + 0.2, z + 0.16), style.wood)
            surfaces.box(facade.frame, (left, d, z + 0.16), (right, d + 0.22, z + 0.32), leaves)
    if rng.random() < 0.3 and facade.length > 4:
        z = float(facade.levels[1]) - rng.uniform(0.25, 0.45)
        if facade.is_free(0.3, facade.length - 0.3, z, z + 0.03, 0.0):
            surfaces.box(facade.frame, (0.3, 0.0, z), (facade.length - 0.3, 0.03, z + 0.025), style.metal)


def _add_drainpipes(
    surfaces: Surfaces, facade: Facade, style: Style, rng: np.random.Generator, eaves: float
) -> None:
    """Pipes near one or both ends of the wall, from the eaves to the ground."""
    chance = 0.55 if facade.face == "street" else 0.3
    for at_left in (True, False):
        s = rng.uniform(0.12, 0.25) if at_left else facade.length - rng.uniform(0.22, 0.35)
        low, high = 0.1, eaves - 0.1
        if rng.random() < chance and facade.is_free(s, s + 0.1, low, high, 0.02):
            ring = np.array([(0.02, 0.06), (0.0, 0.115), (0.05, 0.16), (0.1, 0.115), (0.08, 0.06)])
            top = np.column_stack([ring[:, 0] + s, ring[:, 1], np.full(5, high)])
            bottom = np.column_stack([top[:, :2], np.full(5, low)])
            quads = np.stack([top[:-1], top[1:], bottom[1:], bottom[:-1]], axis=1)
            surfaces.quads(facade.frame, quads, style.metal.texture, style.metal.tint)
            z = np.arange(1.8, high, 2.4)
            lower = np.stack([np.full(len(z), s - 0.02), np.full(len(z), 0.0), z], axis=1)
            surfaces.prisms(
                facade.frame,
                lower,
                lower + np.array([0.14, 0.17, 0.04]),
                style.metal.texture,
                style.metal.shaded(0.8).tint,
                faces=("front", "bottom"),
            )


def _add_posters(surfaces: Surfaces, facade: Facade, rng: np.random.Generator) -> None:
    """Posters and graffiti on the lower part of the wall, number plates and boxes beside doors."""
    for _ in range(int(facade.length / 6) + 1):
        kind = rng.random()
        s = rng.uniform(0.2, max(facade.length - 1.0, 0.3))
        if kind < 0.16:
            width, height, low = rng.uniform(1.4, 3.4), rng.uniform(0.7, 1.5), rng.uniform(0.25, 0.5)
            rect = (s, min(s + width, facade.length - 0.1), low, low + height)
            if rect[1] - rect[0] > 0.8 and facade.is_free(rect[0], rect[1], low, low + height, 0.05):
                _add_picture(
                    surfaces, facade, "graffiti", rng, rect, facade.depth_at(s, low) + 0.056, tint=225
                )
        elif kind < 0.36:
            width = rng.uniform(0.5, 1.0)
            low = rng.uniform(0.9, 1.4)
            for k in range(int(rng.integers(1, 5))):
                left = s + k * (width + 0.04)
                rect = (left, left + width, low, low + 1.42 * width)
                if facade.is_free(rect[0], rect[1], low, rect[3], 0.05):
                    _add_picture(surfaces, facade, "poster", rng, rect, facade.depth_at(left, low) + 0.058)
    for door in facade.openings:
        left = door.right + 0.3
        if door.kind == "door" and facade.is_free(left, left + 0.3, 1.5, 1.9):
            rect = (left, left + rng.uniform(0.2, 0.3), 1.6, 1.6 + rng.uniform(0.15, 0.25))
            _add_picture(surfaces, facade, "sign", rng, rect, door.depth + 0.065)


def add_advertisement(surfaces: Surfaces, facade: Facade, rng: np.random.Generator) -> None:
    """Add a large painted advertisement to the upper part of a blank wall."""
    low, high = float(facade.levels[0]), float(facade.levels[-1])
    height = min(rng.uniform(0.35, 0.55) * (high - low), 9.0)
    width = min(height * rng.uniform(0.6, 0.8), facade.length - 1.2)
    if width < 1.5:
        return
    left = rng.uniform(0.5, facade.length - width - 0.5)
    top = high - rng.uniform(0.6, 1.2)
    _add_picture(surfaces, facade, "poster", rng, (left, left + width, top - height, top), 0.025, tint=215)
