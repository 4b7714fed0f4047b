"""Windows, doors, shop windows and garages of a facade: recessed panes with all that is around them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..mesh import FIT
from ..textures import TextureSet
from .facade_layout import Facade, Floats, Opening
from .facade_style import VIVID, Style, colored, one, varied
from .surfaces import OPEN_FACES, Frame, Material, Surfaces

#: A picture mirrored left to right.
_MIRRORED = FIT[[1, 0, 3, 2]]
#: Above this height small things have fewer faces.
_NEAR = 7.5
_WINDOWS = ("window", "wide", "french")


def add_openings(surfaces: Surfaces, facade: Facade, style: Style, rng: np.random.Generator) -> None:
    """Add the openings of a facade and what belongs to each."""
    openings = facade.openings
    if not openings:
        return
    frame = facade.frame
    kinds = np.array([opening.kind for opening in openings])
    rects = np.array([(o.left, o.right, o.low, o.high, o.depth) for o in openings])
    is_window = np.isin(kinds, _WINDOWS)
    recess = np.where(is_window, style.recess, style.recess + 0.05)
    recess[kinds == "blind"] = rng.uniform(0.08, 0.14)
    reveal = style.accent if style.surround != "none" else _wall_of(facade, style)
    _add_reveals(surfaces, frame, rects, recess, reveal)
    _add_panes(surfaces, facade, style, rng, kinds, rects, recess)
    windows = rects[is_window]
    if facade.face == "street" or style.character == "cottage":
        raised = windows[kinds[is_window] != "french"]
        _add_sills(surfaces, frame, style, raised)
    if facade.face == "street":
        _add_surrounds(surfaces, frame, style, windows)
        _add_shutters(surfaces, facade, style, windows)
    _add_blinds(surfaces, frame, style, rng, windows)
    for opening in openings:
        if opening.kind == "door":
            _add_entrance(surfaces, facade, style, rng, opening)


def _wall_of(facade: Facade, style: Style) -> Material:
    return style.wall if facade.face == "street" else style.yard


def _add_reveals(surfaces: Surfaces, frame: Frame, rects: Floats, recess: Floats, material: Material) -> None:
    """The four inner sides of each opening."""
    left, right, low, high, depth = rects.T
    back = depth - recess
    corners = np.empty((len(rects), 4, 4, 3))
    #: (s, d, z) of each side: left, right, head, sill.
    corners[:, 0] = _stack((left, depth, high), (left, back, high), (left, back, low), (left, depth, low))
    corners[:, 1] = _stack((right, back, high), (right, depth, high), (right, depth, low), (right, back, low))
    corners[:, 2] = _stack((left, depth, high), (right, depth, high), (right, back, high), (left, back, high))
    corners[:, 3] = _stack((left, back, low), (right, back, low), (right, depth, low), (left, depth, low))
    surfaces.quads(frame, corners.reshape(-1, 4, 3), material.texture, material.tint)


def _stack(*corners: tuple[Floats, Floats, Floats]) -> Floats:
    """(N, 4, 3) from four corners, each three arrays (N,)."""
    return np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)


def _upright(left: Floats, right: Floats, low: Floats, high: Floats, depth: Floats) -> Floats:
    """Quads (N, 4, 3) parallel to the wall."""
    return _stack((left, depth, high), (right, depth, high), (right, depth, low), (left, depth, low))


def _add_panes(
    surfaces: Surfaces,
    facade: Facade,
    style: Style,
    rng: np.random.Generator,
    kinds: npt.NDArray[np.str_],
    rects: Floats,
    recess: Floats,
) -> None:
    count = len(kinds)
    left, right, low, high, depth = rects.T
    corners = _upright(left, right, low, high, depth - recess)
    picture = np.zeros(count, np.int16)
    for kind, choices in (
        ("window", style.windows),
        ("french", style.windows),
        ("wide", style.wide_windows),
        ("door", style.doors),
        ("shopfront", style.shopfronts),
        ("garage", style.garages),
    ):
        chosen = np.flatnonzero(kinds == kind)
        # The first picture is the most frequent one.
        rank = np.minimum(rng.geometric(0.5, len(chosen)) - 1, len(choices) - 1)
        if kind in ("door", "shopfront", "garage"):
            rank = rng.integers(0, len(choices), len(chosen))
        picture[chosen] = np.array(choices)[rank]
    bright = 255 * np.clip(1 - np.abs(rng.normal(0, 0.1, count)), 0.7, 1)
    tint = bright[:, None] * np.clip(1 - np.abs(rng.normal(0, 0.03, (count, 3))), 0.85, 1)
    glow = np.where(rng.random(count) < 0.3, rng.uniform(60, 200, count), 0)
    shops = kinds == "shopfront"
    glow[shops] = np.where(rng.random(shops.sum()) < 0.7, rng.uniform(120, 255, shops.sum()), 0)
    glow[np.isin(kinds, ("door", "garage"))] = 0
    warm = glow > 0
    tint[warm] *= np.stack(
        [np.ones(warm.sum()), rng.uniform(0.84, 1, warm.sum()), rng.uniform(0.66, 1, warm.sum())], 1
    )
    uv = np.where((rng.random(count) < 0.5)[:, None, None] & ~shops[:, None, None], _MIRRORED, FIT)
    glazed = kinds != "blind"
    surfaces.quads(facade.frame, corners[glazed], picture[glazed], tint[glazed], glow[glazed], uv[glazed])
    filling = _wall_of(facade, style).shaded(0.92)
    surfaces.quads(facade.frame, corners[~glazed], filling.texture, filling.tint)


def _add_sills(surfaces: Surfaces, frame: Frame, style: Style, rects: Floats) -> None:
    if not style.sill_depth:
        return
    left, right, low, _, depth = rects.T
    lower = np.stack([left - 0.07, depth, low - 0.07], axis=1)
    upper = np.stack([right + 0.07, depth + style.sill_depth, low - 0.005], axis=1)
    material = style.metal if style.character in ("modern", "office") else style.accent
    _add_slabs(surfaces, frame, lower, upper, material, ("front", "top", "bottom"))


def _add_slabs(
    surfaces: Surfaces,
    frame: Frame,
    lower: Floats,
    upper: Floats,
    material: Material,
    far_faces: tuple[str, ...],
) -> None:
    """Boxes; of those far above the street only some faces."""
    near = lower[:, 2] < _NEAR
    for chosen, faces in ((near, OPEN_FACES), (~near, far_faces)):
        surfaces.prisms(frame, lower[chosen], upper[chosen], material.texture, material.tint, faces=faces)


def _add_surrounds(surfaces: Surfaces, frame: Frame, style: Style, rects: Floats) -> None:
    """Lintels, frames, hoods and small gables around windows."""
    if style.surround == "none" or not len(rects):
        return
    left, right, low, high, depth = rects.T
    width = min(max(0.12 * style.window_width, 0.1), 0.2)
    reach = 0.035
    over = width if style.surround != "lintel" else 0.14
    top = high + min(width * 1.2, 0.26)
    lower = np.stack([left - over, depth, high], axis=1)
    upper = np.stack([right + over, depth + reach, top], axis=1)
    _add_slabs(surfaces, frame, lower, upper, style.accent, ("front", "bottom"))
    if style.surround == "lintel":
        return
    for start, end in ((left - width, left), (right, right + width)):
        lower = np.stack([start, depth, low - 0.005], axis=1)
        upper = np.stack([end, depth + reach, high], axis=1)
        _add_slabs(surfaces, frame, lower, upper, style.accent, ("front",))
    if style.surround == "frame":
        return
    ledge = 0.14
    lower = np.stack([left - width - 0.06, depth, top], axis=1)
    upper = np.stack([right + width + 0.06, depth + ledge, top + 0.07], axis=1)
    _add_slabs(surfaces, frame, lower, upper, style.accent, ("front", "top", "bottom"))
    if style.surround == "pediment":
        _add_pediments(surfaces, frame, style, rects, width + 0.06, top + 0.07, ledge)


def _add_pediments(
    surfaces: Surfaces, frame: Frame, style: Style, rects: Floats, over: float, base: Floats, reach: float
) -> None:
    """Flat gables on the ledges over windows, as far as there is room."""
    left, right, _, _, depth = rects.T
    rise = min(0.2 * style.window_width, style.head - 0.35)
    if rise < 0.08:
        return
    left, right = left - over, right + over
    middle, front, top = (left + right) / 2, depth + 0.8 * reach, base + rise
    texture, tint = style.accent.texture, style.accent.tint
    face = np.stack(
        [np.stack(c, axis=1) for c in ((middle, front, top), (right, front, base), (left, front, base))],
        axis=1,
    )
    surfaces.triangles(frame, face, texture, tint, uv=_metric(surfaces, face, texture))
    for end in (left, right):
        slope = _stack((end, depth, base), (middle, depth, top), (middle, front, top), (end, front, base))
        surfaces.quads(frame, slope, texture, tint)


def _metric(surfaces: Surfaces, corners: Floats, texture: int) -> Floats:
    return np.stack([corners[..., 0], -corners[..., 2]], axis=-1) / surfaces.textures.size(texture)


def _add_shutters(surfaces: Surfaces, facade: Facade, style: Style, rects: Floats) -> None:
    """Open shutters on both sides, where there is room."""
    if not style.shutters:
        return
    for left, right, low, high, depth in rects:
        width = (right - left) / 2
        for start, end in ((left - width - 0.02, left - 0.02), (right + 0.02, right + width + 0.02)):
            if facade.is_free(start + 0.04, end - 0.04, low, high, 0.0) and width < 0.9:
                surfaces.box(
                    facade.frame,
                    (start, depth + 0.04, low),
                    (end, depth + 0.08, high),
                    style.wood.shaded(0.9 + 0.1 * low % 0.1),
                )


def _add_blinds(
    surfaces: Surfaces, frame: Frame, style: Style, rng: np.random.Generator, rects: Floats
) -> None:
    """Lowered roller blinds in front of some panes."""
    chosen = rects[rng.random(len(rects)) < style.blinds]
    if not len(chosen):
        return
    left, right, low, high, depth = chosen.T
    end = high - (high - low) * rng.uniform(0.2, 1.0, len(chosen))
    corners = _upright(left + 0.01, right - 0.01, end, high - 0.01, depth - style.recess + 0.04)
    texture = one(rng, surfaces.textures, "siding")
    slats = colored(surfaces.textures, texture, varied(rng, (186, 182, 172)))
    uv = np.stack([corners[..., 0], -corners[..., 2]], axis=-1) * 3 / surfaces.textures.size(texture)
    tint = np.array(slats.tint) * rng.uniform(0.85, 1.0, (len(chosen), 1))
    surfaces.quads(frame, corners, texture, tint, uv=uv)


def _add_entrance(
    surfaces: Surfaces, facade: Facade, style: Style, rng: np.random.Generator, door: Opening
) -> None:
    """A step, a canopy and a lamp."""
    frame, depth = facade.frame, door.depth
    surfaces.box(
        frame,
        (door.left - 0.12, depth, -0.05),
        (door.right + 0.12, min(depth + 0.3, 0.34), door.low - 0.02),
        style.plinth,
    )
    canopy = door.high + 0.12
    if (
        canopy > 2.4
        and rng.random() < 0.35
        and facade.is_free(door.left, door.right, canopy, canopy + 0.2, 0.02)
    ):
        surfaces.box(
            frame,
            (door.left - 0.25, depth, canopy),
            (door.right + 0.25, depth + rng.uniform(0.5, 0.9), canopy + rng.uniform(0.06, 0.15)),
            style.metal if rng.random() < 0.5 else style.accent,
        )
    elif facade.is_free(door.left - 0.02, door.right + 0.02, door.high + 0.02, door.high + 0.15, 0.0):
        width = rng.uniform(0.12, 0.22)
        for start, end in ((door.left - width, door.left), (door.right, door.right + width)):
            surfaces.box(frame, (start, depth, -0.1), (end, depth + 0.075, door.high), style.accent)
        surfaces.box(
            frame,
            (door.left - width, depth, door.high),
            (door.right + width, depth + 0.085, door.high + width),
            style.accent,
        )
    side = door.left - 0.45
    if rng.random() < 0.6 and facade.is_free(side, side + 0.16, 2.3, 2.6):
        lamp = Material(one(rng, surfaces.textures, "lamp_glass"))
        glow = int(rng.integers(180, 256))
        surfaces.box(frame, (side, depth + 0.02, 2.35), (side + 0.14, depth + 0.16, 2.55), lamp, glow=glow)


def awning_colors(rng: np.random.Generator, textures: TextureSet) -> tuple[Material, Material]:
    """Two colours of cloth that alternate on an awning; sometimes the same."""
    texture = one(rng, textures, "cloth")
    color = varied(rng, VIVID[int(rng.integers(len(VIVID)))], 0.2)
    first = colored(textures, texture, color)
    if rng.random() < 0.4:
        return first, first
    return first, colored(textures, texture, varied(rng, (206, 200, 188)))
