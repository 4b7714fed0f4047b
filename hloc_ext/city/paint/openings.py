"""Windows, doors and garage doors."""

from __future__ import annotations

import numpy as np

from . import rooms
from .canvas import Canvas, Overlay, blurred, ramp, random_color, shifted
from .glyphs import lines_of_text
from .noise import Color, Field, Picture, Shape, blend, finish, fractal, patches, specks, step

Box = tuple[float, float, float, float]

_FRAMES: tuple[Color, ...] = (
    (214, 213, 208),
    (200, 196, 184),
    (112, 76, 52),
    (76, 58, 48),
    (86, 104, 84),
    (92, 96, 102),
    (58, 60, 64),
    (168, 156, 128),
    (126, 58, 50),
    (70, 84, 104),
)


def bevelled(canvas: Canvas, box: Box, color: np.ndarray, depth: float) -> None:
    """Draw a board whose edges catch the light: bright above and left, dark below and right."""
    x0, y0, x1, y1 = box
    canvas.rect(x0, y0, x1, y1, color)
    canvas.rect(x0, y0, x1, y0 + depth, np.minimum(color * 1.12, 232))
    canvas.rect(x0, y0, x0 + depth, y1, np.minimum(color * 1.06, 230))
    canvas.rect(x0, y1 - depth, x1, y1, color * 0.72)
    canvas.rect(x1 - depth, y0, x1, y1, color * 0.8)


def _sashes(rng: np.random.Generator, width: float, height: float) -> list[tuple[Box, tuple[int, int]]]:
    """Sashes of a window as boxes, each with its number of panes across and down."""
    outer, post = rng.uniform(0.035, 0.07), rng.uniform(0.03, 0.06)
    x0, x1, y0, y1 = outer, width - outer, outer, height - outer * 1.6
    columns = max(1, round(width / rng.uniform(0.55, 1.0)))
    layout = rng.integers(0, 6)
    rows = [(y0, y1)]
    if layout in (1, 2):
        cut = y0 + rng.uniform(0.2, 0.36) * (y1 - y0)
        rows = [(y0, cut - post / 2), (cut + post / 2, y1)]
    elif layout == 3:
        cut = y0 + rng.uniform(0.45, 0.55) * (y1 - y0)
        rows = [(y0, cut - post / 2), (cut + post / 2, y1)]
    elif layout == 4:
        cut = y0 + rng.uniform(0.62, 0.72) * (y1 - y0)
        rows = [(y0, cut - post / 2), (cut + post / 2, y1)]
    grid = ((1, 1), (1, 1), (1, 2), (1, 3), (2, 2), (2, 3))[rng.integers(0, 6)]
    sashes = []
    for number, (top, bottom) in enumerate(rows):
        across = 1 if (layout in (2, 3) and number == 0) else columns
        cuts = np.linspace(x0, x1, across + 1)
        if layout == 5 and across == 2:
            cuts[1] = x0 + rng.choice([0.36, 0.64]) * (x1 - x0)
        for k in range(across):
            left = cuts[k] + (post / 2 if k else 0)
            right = cuts[k + 1] - (post / 2 if k < across - 1 else 0)
            panes = grid if bottom - top > 0.5 * height else (grid[0] + (across < columns), 1)
            sashes.append(((left, top, right, bottom), panes))
    return sashes


def glazed(
    rng: np.random.Generator, shape: Shape, size: tuple[float, float], kind: str, clutter: float
) -> Field:
    """The view into a window pane: a room with curtains, things on the sill, and the reflection."""
    picture = rooms.dress(rng, rooms.room(rng, shape, size), size, kind)
    if kind == "drapes" and rng.random() < 0.5:
        picture = rooms.dress(rng, picture, size, "net")
    if rng.random() < clutter:
        things = Overlay(shape, size)
        rooms.sill_things(rng, things, size[1] * 0.96)
        picture = things.over(picture, 0.8)
    strength = rng.uniform(0.08, 0.42) * ramp(shape, 1.25, 0.75)
    mirrored = rooms.reflection(rng, shape, size)
    picture = picture * 0.86 * (1 - strength)[..., None] + mirrored * strength[..., None]
    dirt = patches(fractal(rng, shape, 1.2), 0.3, 0.6)
    return blend(picture, (138, 132, 122), 0.09 * dirt)


def _window(rng: np.random.Generator, shape: Shape, size: tuple[float, float], kind: str) -> Picture:
    """Frame, sashes, panes, and what stands before and behind them."""
    width, height = size
    color = np.array(_FRAMES[rng.integers(0, len(_FRAMES)) if rng.random() < 0.6 else 0]) + rng.normal(0, 6)
    frame, glass = Canvas(shape, size, color * 0.9), Canvas(shape, size, 0.0)
    edge = 0.012
    bevelled(frame, (0, 0, width, height), color * 0.95, edge)
    rail = rng.uniform(0.035, 0.075)
    shift = Canvas(shape, size, 0.0)
    for (x0, y0, x1, y1), (across, down) in _sashes(rng, width, height):
        bevelled(frame, (x0, y0, x1, y1), color * rng.uniform(0.97, 1.03), edge)
        bar = rng.uniform(0.018, 0.032)
        gx, gy = (
            np.linspace(x0 + rail, x1 - rail + bar, across + 1),
            np.linspace(y0 + rail, y1 - rail + bar, down + 1),
        )
        tilt = rng.uniform(60, 195)
        for i in range(across):
            for j in range(down):
                box = (gx[i], gy[j], gx[i + 1] - bar, gy[j + 1] - bar)
                frame.rect(box[0] - edge, box[1] - edge, box[2] + edge, box[3] + edge, color * 0.6)
                glass.rect(*box, 255)
                shift.rect(*box, tilt + rng.uniform(-22, 22))
        if rng.random() < 0.7:
            side = x1 - 0.5 * rail if rng.random() < 0.5 else x0 + 0.5 * rail
            y = y0 + rng.uniform(0.5, 0.62) * (y1 - y0)
            frame.rect(side - 0.009, y - 0.05, side + 0.009, y + 0.05, color * 0.45)
    panes = glass.mask()
    view = glazed(rng, shape, size, kind, 0.55)
    view = view * (1 + 0.35 * (shift.reduced() / 128 - 1))[..., None]
    shadow = blurred(shifted(1 - panes, 3, 6), 2.5) * 0.55
    picture = blend(frame.reduced(), view * (1 - shadow)[..., None], panes)
    grain = fractal(rng, shape, 0.8)
    picture *= (1 + 0.025 * grain)[..., None]
    worn = patches(fractal(rng, shape, 1.0, longest=50), rng.uniform(0, 0.28) ** 3, 0.15) * (1 - panes)
    picture = blend(picture, (132, 114, 92), 0.7 * worn)
    picture *= (1 - 0.5 * np.exp(-ramp(shape, 0, height) / 0.07))[..., None]
    return finish(_front(rng, picture, size), size)


def _front(rng: np.random.Generator, picture: Field, size: tuple[float, float]) -> Field:
    """Add a sill and, to some windows, a flower box, a grating or a fan before them."""
    width, height = size
    layer = Overlay((picture.shape[0], picture.shape[1]), size)
    sill = np.array(((156, 150, 140), (176, 172, 164), (120, 96, 84), (110, 116, 122))[rng.integers(0, 4)])
    bevelled(layer, (0, height - 0.07, width, height), sill, 0.014)
    chance = rng.random()
    if chance < 0.1:
        top = height - rng.uniform(0.2, 0.26)
        box = random_color(rng, 0.5, (0.25, 0.65))
        bevelled(layer, (0.08 * width, top, 0.92 * width, height - 0.03), box, 0.014)
        for _ in range(int(rng.integers(8, 14) * max(width, 1))):
            rooms.plant(rng, layer, rng.uniform(0.1, 0.9) * width, top)
    elif chance < 0.16:
        pitch = rng.uniform(0.1, 0.16)
        for x in np.arange(pitch / 2, width, pitch):
            layer.rect(x, 0, x + 0.016, height, (58, 57, 56))
        for y in (0.15 * height, 0.5 * height, 0.85 * height):
            layer.rect(0, y, width, y + 0.02, (66, 64, 62))
    shadow = blurred(shifted(layer.drawn.mask(), 3, 5), 2.0)
    return layer.over(picture * (1 - 0.4 * shadow)[..., None])


def window(rng: np.random.Generator, number: int) -> Picture:
    """Window of a flat or house, about 1.2 m x 1.7 m."""
    shape = (512, 256) if number % 2 == 0 else (256, 256)
    size = (1.2, 1.75) if number % 2 == 0 else (1.2, 1.4)
    kinds = ("none", "net", "drapes", "roller", "venetian", "drapes", "cafe", "none")
    return _window(rng, shape, size, kinds[(number // 2 + number) % len(kinds)])


def window_wide(rng: np.random.Generator, number: int) -> Picture:
    """Window of an office or a modern building, about 2.4 m x 1.7 m."""
    kinds = ("venetian", "none", "vertical", "roller", "none", "net")
    return _window(rng, (256, 512), (2.4, 1.7), kinds[number % len(kinds)])


def _panelled(rng: np.random.Generator, canvas: Canvas, glass: Canvas, box: Box, color: np.ndarray) -> None:
    """Draw a door leaf: panels, boards, or a steel frame; some have panes."""
    x0, y0, x1, y1 = box
    bevelled(canvas, box, color, 0.01)
    kind = rng.integers(0, 4)
    inset = 0.11 * (x1 - x0) + 0.02
    if kind == 3:
        for x in np.arange(x0, x1, 0.09):
            canvas.rect(x, y0, x + 0.008, y1, color * 0.62)
        for y in (0.2, 0.8):
            level = y0 + y * (y1 - y0)
            canvas.rect(x0 + 0.03, level, x0 + 0.6 * (x1 - x0), level + 0.04, (52, 50, 48))
        return
    cuts = np.array((0.0, 0.42, 0.58, 1.0)) if kind == 0 else np.linspace(0, 1, int(rng.integers(2, 6)))
    across = int(rng.integers(1, 3)) if x1 - x0 > 0.6 else 1
    glazed_rows = rng.integers(0, len(cuts) - 1) if rng.random() < 0.75 else 0
    for row in range(len(cuts) - 1):
        top = y0 + inset + cuts[row] * (y1 - y0 - 2 * inset)
        bottom = y0 + inset + cuts[row + 1] * (y1 - y0 - 2 * inset) - 0.05
        for column in range(across):
            left = x0 + inset + column * (x1 - x0 - 2 * inset) / across
            right = left + (x1 - x0 - 2 * inset) / across - (0.05 if column < across - 1 else 0)
            canvas.rect(left - 0.014, top - 0.014, right + 0.014, bottom + 0.014, color * 0.55)
            if row < glazed_rows:
                glass.rect(left, top, right, bottom, 255)
                continue
            bevelled(canvas, (left, top, right, bottom), color * rng.uniform(0.93, 1.04), 0.012)
            canvas.rect(left + 0.04, top + 0.04, right - 0.04, bottom - 0.04, np.minimum(color * 1.07, 225))
            canvas.rect(left + 0.04, bottom - 0.048, right - 0.04, bottom - 0.04, color * 0.7)


def door(rng: np.random.Generator, number: int) -> Picture:
    """Entrance: one or two leaves, fanlight, handle, letter box, house number, doorbells; 1.2 m x 2.3 m."""
    shape, size = (512, 256), (1.2, 2.3)
    width, height = size
    color = random_color(rng, 0.6, (0.25, 0.6))
    if number % 3 == 0:
        color = np.array((116, 80, 54)) * rng.uniform(0.6, 1.2)
    frame_color = color * 0.85 if rng.random() < 0.5 else np.array(_FRAMES[rng.integers(0, len(_FRAMES))])
    canvas, glass = Canvas(shape, size, frame_color), Canvas(shape, size, 0.0)
    bevelled(canvas, (0, 0, width, height), frame_color, 0.014)
    top, side = 0.09, rng.uniform(0.06, 0.1)
    if rng.random() < 0.6:
        low = top + rng.uniform(0.22, 0.42)
        bars = int(rng.integers(1, 5))
        for k in range(bars):
            left = side + k * (width - 2 * side) / bars
            box = (left, top, left + (width - 2 * side) / bars - 0.03, low - 0.04)
            canvas.rect(box[0] - 0.012, box[1] - 0.012, box[2] + 0.012, box[3] + 0.012, frame_color * 0.55)
            glass.rect(*box, 255)
        top = low + 0.03
    leaves = 2 if rng.random() < 0.4 else 1
    bottom = height - 0.05
    cut = side + (width - 2 * side) * (0.5 if rng.random() < 0.6 else 0.66)
    boxes = [(side, top, cut - 0.005, bottom), (cut + 0.005, top, width - side, bottom)]
    leaf = int(rng.integers(0, 2**31))
    for box in boxes if leaves == 2 else [(side, top, width - side, bottom)]:
        canvas.rect(box[0] - 0.01, box[1] - 0.01, box[2] + 0.01, box[3], color * 0.35)
        _panelled(np.random.default_rng(leaf), canvas, glass, box, color)
    _fittings(rng, canvas, cut - 0.06 if leaves == 2 else width - side - 0.1, width, bottom)
    canvas.rect(0, bottom, width, height, (104, 100, 96))
    panes = glass.mask()
    view = glazed(rng, shape, size, ("none", "net", "venetian")[rng.integers(0, 3)], 0.0) * 0.75
    picture = blend(canvas.reduced(), view, panes)
    wood = fractal(rng, shape, 0.9, longest=40, stretch=(1, 10))
    picture *= (1 + (0.05 if number % 3 == 0 else 0.022) * wood * (1 - panes))[..., None]
    scuffs = patches(fractal(rng, shape, 1.4) + ramp(shape, -1.2, 1.2), 0.12, 0.6) * (1 - panes)
    picture = blend(picture, picture * 0.6 + (34, 31, 28), 0.5 * scuffs)
    picture *= (1 - 0.12 * specks(rng, shape, 40, (0.5, 1.6)))[..., None]
    picture *= (1 - 0.55 * np.exp(-ramp(shape, 0, height) / 0.12))[..., None]
    return finish(picture, size)


def _fittings(rng: np.random.Generator, canvas: Canvas, x: float, width: float, bottom: float) -> None:
    """Draw a handle, a letter box, notices, a number and bells."""
    steel = np.array(((178, 172, 160), (168, 140, 84), (60, 58, 56))[rng.integers(0, 3)])
    y = bottom - 1.02
    canvas.rect(x - 0.022, y - 0.11, x + 0.022, y + 0.13, steel * 0.8)
    canvas.rect(x - 0.09, y - 0.012, x + 0.015, y + 0.012, steel)
    canvas.ellipse(x, y + 0.08, 0.01, 0.01, (20, 20, 20))
    if rng.random() < 0.6:
        lx, ly = rng.uniform(0.3, 0.5) * width, bottom - rng.uniform(0.75, 1.2)
        bevelled(canvas, (lx, ly, lx + 0.26, ly + 0.07), steel, 0.008)
        canvas.rect(lx + 0.03, ly + 0.028, lx + 0.23, ly + 0.042, (24, 24, 24))
    if rng.random() < 0.7:
        nx, ny = rng.uniform(0.2, 0.7) * width, bottom - rng.uniform(1.35, 1.6)
        plate = np.array(((226, 224, 214), (38, 60, 120), (36, 36, 38))[rng.integers(0, 3)])
        canvas.rect(nx, ny, nx + 0.15, ny + 0.11, plate)
        lines_of_text(canvas, rng, (nx + 0.02, ny + 0.02, nx + 0.13, ny + 0.1), 0.07, 255 - plate)
    for _ in range(int(rng.choice([0, 0, 0, 1, 2]))):
        px, py = rng.uniform(0.12, 0.7) * width, bottom - rng.uniform(0.5, 1.6)
        paper = random_color(rng, 0.3, (0.65, 0.9))
        w, h = rng.uniform(0.07, 0.2, 2)
        canvas.rect(px, py, px + w, py + h, paper)
        lines_of_text(canvas, rng, (px + 0.01, py + 0.01, px + w - 0.01, py + h - 0.01), 0.022, (50, 48, 52))
    if rng.random() < 0.5:
        bx, by = width - 0.075, bottom - 1.35
        canvas.rect(bx, by, bx + 0.065, by + 0.24, (150, 148, 144))
        for k in range(5):
            canvas.rect(bx + 0.008, by + 0.015 + 0.045 * k, bx + 0.04, by + 0.04 + 0.045 * k, (214, 210, 190))
            canvas.ellipse(bx + 0.052, by + 0.028 + 0.045 * k, 0.007, 0.007, (50, 50, 52))


def garage(rng: np.random.Generator, number: int) -> Picture:
    """Garage door or gate: ribbed, boarded, cassettes or roller shutter; 2.6 m x 2.4 m."""
    shape, size = (256, 256), (2.6, 2.4)
    color = random_color(rng, 0.35, (0.35, 0.75))
    canvas = Canvas(shape, size, color * 0.7)
    inner: Box = (0.08, 0.08, 2.52, 2.38)
    bevelled(canvas, inner, color, 0.016)
    if number % 4 == 0:
        for y in np.arange(0.1, 2.36, 0.12):
            canvas.rect(0.09, y, 2.51, y + 0.03, color * 0.78)
    elif number % 4 == 1:
        for x in np.arange(0.09, 2.5, 0.12):
            canvas.rect(x, 0.09, x + 0.014, 2.37, color * 0.6)
    elif number % 4 == 2:
        for y in np.arange(0.14, 2.2, 0.56):
            for x in np.arange(0.16, 2.4, 0.59):
                bevelled(canvas, (x, y, x + 0.5, y + 0.46), color * rng.uniform(0.95, 1.05), 0.02)
    else:
        for y in np.arange(0.09, 2.36, 0.05):
            canvas.rect(0.09, y, 2.51, y + 0.018, color * 0.68)
    canvas.rect(1.2, 1.25, 1.4, 1.29, (60, 58, 56))
    if rng.random() < 0.7:
        x, y = rng.uniform(0.4, 1.6), rng.uniform(0.4, 1.0)
        canvas.rect(x, y, x + 0.5, y + 0.34, (216, 212, 198))
        lines_of_text(canvas, rng, (x + 0.04, y + 0.04, x + 0.46, y + 0.32), 0.07, (150, 44, 40), 0.5)
    picture = canvas.reduced()
    runs = fractal(rng, shape, 1.0, longest=120, stretch=(1, 8))
    picture *= (1 + 0.03 * fractal(rng, shape, 0.8) - 0.09 * step(runs, 0.3, 2.0))[..., None]
    rust = patches(fractal(rng, shape, 1.1) + ramp(shape, -1, 1), 0.06, 0.2)
    return finish(blend(picture, (118, 84, 60), 0.6 * rust), size)
