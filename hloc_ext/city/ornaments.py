"""What is fixed to a facade: cornices, quoins, pilasters, balconies, pipes, signs, posters and boxes."""

from __future__ import annotations

import numpy as np

from .facade_layout import BASE, Balcony, Facade, Floats, Opening
from .facade_style import Style, one
from .mesh import FIT
from .openings import awning_colors
from .surfaces import Material, Surfaces

_WALL_FACES = ("front", "left", "right")
#: Nothing that reaches out further than 0.35 m is lower.
_HEADROOM = 2.32
#: Nothing reaches out further.
_REACH = 1.18


def add_band(
    surfaces: Surfaces,
    facade: Facade,
    low: float,
    high: float,
    reach: float,
    material: Material,
    interrupted: bool = False,
) -> None:
    """Add a band along a facade: it follows the sections, meets those of the next walls and ends at openings.

    Args:
        surfaces: where it is added.
        facade: the wall.
        low, high: metres above the roads.
        reach: by which it protrudes.
        material: of all its faces.
        interrupted: whether openings interrupt it.
    """
    floor = min(max(int(np.searchsorted(facade.levels, low + 1e-6, side="right")) - 1, 0), facade.floors - 1)
    depth = facade.depth[floor]
    lower, upper, mitres = [], [], []
    for start, end, d in _runs(facade.breaks, depth):
        first, last = start == 0, end == facade.length
        left = start if first or _depth_left(facade, depth, start) > d else start - reach
        right = end if last or _depth_right(facade, depth, end) > d else end + reach
        pieces = [(left, right)]
        if interrupted:
            pieces = _without(pieces, facade.openings, low, high)
        for a, b in pieces:
            lower.append((a, d, low))
            upper.append((b, min(d + reach, _REACH), high))
            mitres.append(
                (
                    facade.mitres[0] * reach if a == 0 else 0.0,
                    facade.mitres[1] * reach if b == facade.length else 0.0,
                )
            )
    surfaces.prisms(facade.frame, lower, upper, material.texture, material.tint, mitre=mitres)


def _runs(breaks: Floats, depth: Floats) -> list[tuple[float, float, float]]:
    """Neighbouring sections of one depth: (start, end, depth)."""
    runs: list[tuple[float, float, float]] = []
    for k, d in enumerate(depth):
        if runs and abs(runs[-1][2] - d) < 1e-9:
            runs[-1] = (runs[-1][0], float(breaks[k + 1]), float(d))
        else:
            runs.append((float(breaks[k]), float(breaks[k + 1]), float(d)))
    return runs


def _depth_left(facade: Facade, depth: Floats, s: float) -> float:
    return float(depth[np.searchsorted(facade.breaks, s - 1e-6) - 1])


def _depth_right(facade: Facade, depth: Floats, s: float) -> float:
    return float(depth[np.searchsorted(facade.breaks, s + 1e-6) - 1])


def _without(
    pieces: list[tuple[float, float]], openings: list[Opening], low: float, high: float
) -> list[tuple[float, float]]:
    """Intervals without those of the openings between two heights."""
    for opening in openings:
        if opening.low < high and opening.high > low:
            cut = []
            for a, b in pieces:
                if opening.right <= a or opening.left >= b:
                    cut.append((a, b))
                    continue
                if opening.left - a > 0.02:
                    cut.append((a, opening.left))
                if b - opening.right > 0.02:
                    cut.append((opening.right, b))
            pieces = cut
    return pieces


def add_bands(surfaces: Surfaces, facade: Facade, style: Style, eaves: float, overhang: float) -> None:
    """Add plinth, string courses, and the cornice under the eaves."""
    if style.plinth_height:
        add_band(surfaces, facade, BASE, style.plinth_height, 0.05, style.plinth, interrupted=True)
    if facade.face != "street":
        return
    storeys = [float(z) for z in facade.levels[1:-1] if z < eaves - 0.5]
    if style.string_courses == "ground":
        storeys = storeys[:1]
    if style.string_courses != "none":
        for k, z in enumerate(storeys):
            reach, height = (0.12, 0.22) if k == 0 else (0.06, 0.14)
            add_band(surfaces, facade, z - height, z, reach, style.accent, interrupted=True)
            if k == 0 and style.cornice:
                add_band(surfaces, facade, z - height - 0.1, z - height, 0.06, style.accent, interrupted=True)
    if style.cornice:
        reach, top = style.cornice, eaves
        if overhang:
            reach, top = min(reach, overhang - 0.04), eaves - 0.15
        for part, low, high in ((1.0, 0.14, 0.02), (0.7, 0.26, 0.14), (0.25, 0.42, 0.26)):
            if reach * part > 0.03:
                add_band(
                    surfaces, facade, top - low, top - high, reach * part, style.accent, interrupted=True
                )


def add_corners(surfaces: Surfaces, facade: Facade, style: Style, eaves: float) -> None:
    """Add quoins at the ends of the wall, and pilasters between the sections."""
    base = style.plinth_height + 0.02
    top = eaves - 0.45
    if style.quoins and top - base > 2:
        height = 0.32
        lows = np.arange(base, top - height, height)
        for at_left, mitre in ((True, facade.mitres[0]), (False, facade.mitres[1])):
            if mitre <= 0:
                continue
            width = np.where(np.arange(len(lows)) % 2 == 0, 0.42, 0.26)
            start = np.zeros(len(lows)) if at_left else facade.length - width
            clear = [
                facade.is_free(s, s + w, z, z + height, 0.02)
                for s, w, z in zip(start, width, lows, strict=True)
            ]
            lower = np.stack([start, np.zeros(len(lows)), lows], axis=1)[clear]
            upper = np.stack([start + width, np.full(len(lows), 0.04), lows + height - 0.025], axis=1)[clear]
            ends = (0.04 * mitre, 0.0) if at_left else (0.0, 0.04 * mitre)
            surfaces.prisms(
                facade.frame, lower, upper, style.accent.texture, style.accent.tint, mitre=ends,
                faces=("front", "top", "bottom", "right" if at_left else "left"),
            )  # fmt: skip
    if not style.pilasters:
        return
    first = float(facade.levels[1]) if style.character == "historic" else base
    gaps = _gaps(facade)
    for middle, room in gaps:
        width = min(0.6 * room, 0.5)
        low, high = first, top
        if width < 0.18 or not facade.is_free(middle - width / 2, middle + width / 2, low, high, 0.0):
            continue
        depth = facade.depth_at(middle, high)
        surfaces.box(
            facade.frame,
            (middle - width / 2, depth, low),
            (middle + width / 2, depth + 0.09, high),
            style.accent,
            _WALL_FACES,
        )
        for z, height in ((low, 0.25), (high - 0.2, 0.2)):
            surfaces.box(
                facade.frame,
                (middle - width / 2 - 0.05, depth, z),
                (middle + width / 2 + 0.05, depth + 0.14, z + height),
                style.accent,
            )


def _gaps(facade: Facade) -> list[tuple[float, float]]:
    """Middle and width of the gaps between the windows of the storey above the ground floor."""
    row = min(1, facade.floors - 1)
    low, high = facade.levels[row], facade.levels[row + 1]
    spans = sorted((o.left, o.right) for o in facade.openings if o.low >= low and o.high <= high)
    edges = [0.0, *(value for span in spans for value in span), facade.length]
    return [((a + b) / 2, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 0.3]


def add_balconies(surfaces: Surfaces, facade: Facade, style: Style, rng: np.random.Generator) -> None:
    """Add slabs and railings: bars, or panels."""
    solid = rng.random() < (0.6 if style.character in ("modern", "office") else 0.15)
    panel = style.second if rng.random() < 0.6 else Material(one(rng, surfaces.textures, "panel"))
    pitch = rng.uniform(0.13, 0.18)
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
    for at_left in (True, False):
        s = rng.uniform(0.12, 0.25) if at_left else facade.length - rng.uniform(0.22, 0.35)
        low, high = 0.1, eaves - 0.1
        if rng.random() < 0.55 and facade.is_free(s, s + 0.1, low, high, 0.02):
            ring = np.array([(0.02, 0.06), (0.0, 0.115), (0.05, 0.16), (0.1, 0.115), (0.08, 0.06)])
            top = np.column_stack([ring[:, 0] + s, ring[:, 1], np.full(5, high)])
            bottom = np.column_stack([top[:, :2], np.full(5, low)])
            quads = np.stack([top[:-1], top[1:], bottom[1:], bottom[:-1]], axis=1)
            surfaces.quads(facade.frame, quads, style.metal.texture, style.metal.tint)
            for z in np.arange(1.8, high, 2.4):
                surfaces.box(
                    facade.frame, (s - 0.02, 0.0, z), (s + 0.12, 0.17, z + 0.04), style.metal.shaded(0.8)
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


def add_rustication(surfaces: Surfaces, facade: Facade, style: Style, rng: np.random.Generator) -> None:
    """Add courses with deep joints to the ground floor."""
    height, low = rng.uniform(0.32, 0.48), max(style.plinth_height, 0.3) + 0.03
    for z in np.arange(low, facade.levels[1] - height - 0.3, height):
        add_band(surfaces, facade, z, z + height - 0.045, 0.035, style.ground, interrupted=True)


def add_gablets(surfaces: Surfaces, facade: Facade, style: Style, rng: np.random.Generator) -> None:
    """Crown the parts that project under the eaves: small gables, plain or stepped."""
    stepped = rng.random() < 0.4
    top = float(facade.levels[-1])
    for left, right, depth in _runs(facade.breaks, facade.depth[-1]):
        if depth <= 0 or right - left > 9:
            continue
        half, middle = (right - left) / 2, (left + right) / 2
        rise = min(half * rng.uniform(0.5, 1.0), 3.2)
        if stepped:
            for k, part in enumerate((1.0, 0.66, 0.33)):
                low, high = top + rise * k / 3, top + rise * (k + 1) / 3
                lower, upper = (middle - part * half, -0.4, low), (middle + part * half, depth, high)
                surfaces.box(facade.frame, lower, upper, style.second, ("front", "back", "left", "right"))
                lower, upper = (lower[0] - 0.05, -0.45, high), (upper[0] + 0.05, depth + 0.06, high + 0.08)
                surfaces.box(facade.frame, lower, upper, style.accent)
            continue
        peak = top + rise
        for d in (depth, -0.4):
            face = [[(middle, d, peak), (right, d, top), (left, d, top)]]
            uv = np.array([(middle, -peak), (right, -top), (left, -top)]) / surfaces.textures.size(
                style.second.texture
            )
            surfaces.triangles(facade.frame, face, style.second.texture, style.second.tint, uv=uv)
        for end, over in ((left, -0.12), (right, 0.12)):
            drop = 0.12 * rise / half
            slope = [
                [(middle, -0.5, peak + lift), (middle, depth + 0.12, peak + lift),
                 (end + over, depth + 0.12, top + lift - drop), (end + over, -0.5, top + lift - drop)]
                for lift in (0.02, 0.16)
            ]  # fmt: skip
            surfaces.quads(facade.frame, slope, style.metal.texture, style.metal.tint)
            edge = [[slope[1][1], slope[1][2], slope[0][2], slope[0][1]]]
            surfaces.quads(facade.frame, edge, style.accent.texture, style.accent.tint)
