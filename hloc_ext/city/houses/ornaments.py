"""Masonry that stands out of a facade: bands, cornices, corner stones, pilasters, and small gables."""

from __future__ import annotations

import numpy as np

from .facade_layout import BASE, Facade, Floats, Opening
from .facade_style import Style
from .surfaces import Material, Surfaces

_WALL_FACES = ("front", "left", "right")
#: Nothing reaches out further.
_REACH = 1.18
_QUOIN_HEIGHT = 0.32


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
    """Add quoins at the ends of the wall, and pilasters between the windows, where the style has them."""
    low, high = style.plinth_height + 0.02, eaves - 0.45
    if style.quoins and high - low > 2:
        _add_quoins(surfaces, facade, style, np.arange(low, high - _QUOIN_HEIGHT, _QUOIN_HEIGHT))
    if style.pilasters:
        if style.character == "historic":
            low = float(facade.levels[1])
        _add_pilasters(surfaces, facade, style, low, high)


def _add_quoins(surfaces: Surfaces, facade: Facade, style: Style, lows: Floats) -> None:
    """Long and short stones by turns at the salient corners."""
    count, reach = len(lows), 0.04
    widths = np.where(np.arange(count) % 2 == 0, 0.42, 0.26)
    for at_left, mitre in ((True, facade.mitres[0]), (False, facade.mitres[1])):
        if mitre <= 0:
            continue
        start = np.zeros(count) if at_left else facade.length - widths
        clear = [
            facade.is_free(s, s + width, z, z + _QUOIN_HEIGHT, 0.02)
            for s, width, z in zip(start, widths, lows, strict=True)
        ]
        lower = np.stack([start, np.zeros(count), lows], axis=1)[clear]
        upper = np.stack([start + widths, np.full(count, reach), lows + _QUOIN_HEIGHT - 0.025], axis=1)[clear]
        surfaces.prisms(
            facade.frame,
            lower,
            upper,
            style.accent.texture,
            style.accent.tint,
            mitre=(reach * mitre, 0.0) if at_left else (0.0, reach * mitre),
            faces=("front", "top", "bottom", "right" if at_left else "left"),
        )


def _add_pilasters(surfaces: Surfaces, facade: Facade, style: Style, low: float, high: float) -> None:
    """Flat columns with a foot and a head."""
    frame = facade.frame
    for middle, room in _gaps(facade):
        half = min(0.3 * room, 0.25)
        if half < 0.09 or not facade.is_free(middle - half, middle + half, low, high, 0.0):
            continue
        depth = facade.depth_at(middle, high)
        lower, upper = (middle - half, depth, low), (middle + half, depth + 0.09, high)
        surfaces.box(frame, lower, upper, style.accent, _WALL_FACES)
        for z, height in ((low, 0.25), (high - 0.2, 0.2)):
            lower, upper = (middle - half - 0.05, depth, z), (middle + half + 0.05, depth + 0.14, z + height)
            surfaces.box(frame, lower, upper, style.accent)


def _gaps(facade: Facade) -> list[tuple[float, float]]:
    """Middle and width of the gaps between the windows of the storey above the ground floor."""
    row = min(1, facade.floors - 1)
    low, high = facade.levels[row], facade.levels[row + 1]
    spans = sorted((o.left, o.right) for o in facade.openings if o.low >= low and o.high <= high)
    edges: list[float] = [0.0, *(value for span in spans for value in span), facade.length]
    return [((a + b) / 2, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 0.3]


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
