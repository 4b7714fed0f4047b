"""Shopfronts: panes with displays, a door, lettering, posters, lamps."""

from __future__ import annotations

import numpy as np

from . import rooms, signs
from .canvas import Canvas, Overlay, blurred, ramp, random_color, shifted
from .glyphs import Script, emblem, lines_of_text, word, write
from .noise import Field, Picture, blend, finish, fractal, patches, specks
from .openings import Box, bevelled

_SIZE = (4.0, 3.0)
_LETTERS = ((228, 224, 212), (214, 176, 60), (178, 44, 40), (40, 44, 60))
_DISPLAYS = ("shelves", "mannequins", "crates", "cafe", "pictures", "lamps", "books", "mixed")


def shopfront(rng: np.random.Generator, number: int) -> Picture:
    """Shop window with its door, about 4 m x 3 m; some are closed by a shutter."""
    shape = (512, 512) if number % 4 == 0 else (256, 512)
    color = random_color(rng, 0.6, (0.16, 0.6))
    if rng.random() < 0.3:
        color = np.array(((62, 62, 64), (150, 150, 148), (196, 192, 184))[rng.integers(0, 3)], float)
    canvas, glass = Canvas(shape, _SIZE, color), Canvas(shape, _SIZE, 0.0)
    bevelled(canvas, (0, 0, *_SIZE), color, 0.02)
    panes, door = _layout(rng, canvas, glass, color)
    inside = Canvas(shape, _SIZE, random_color(rng, 0.35, (0.14, 0.4)))
    _interior(rng, inside)
    for box in panes:
        _display(rng, inside, box, _DISPLAYS[(number + int(rng.integers(0, 2)) * 3) % len(_DISPLAYS)])
    view = _lit(rng, inside.reduced())
    mask = glass.mask()
    view *= (1 - 0.45 * blurred(shifted(1 - mask, 4, 7), 3.5))[..., None]
    strength = rng.uniform(0.1, 0.34) * ramp(shape, 1.2, 0.8)
    mirrored = rooms.reflection(rng, shape, (4.0, 3.0))
    view = view * (1 - strength)[..., None] + mirrored * strength[..., None]
    stickers = Overlay(shape, _SIZE)
    _on_glass(rng, stickers, panes, door)
    view = stickers.over(view)
    picture = blend(canvas.reduced(), view, mask)
    if number % 12 == 7:
        picture = _shutter(rng, picture, [*panes, door])
    elif number % 12 == 10:
        picture = _shutter(rng, picture, panes[:1])
    grime = patches(fractal(rng, shape, 1.4) + ramp(shape, -1.3, 1.2), 0.15, 0.7)
    picture = blend(picture, (92, 87, 80), 0.35 * grime * (1 - 0.7 * mask))
    picture *= (1 - 0.15 * specks(rng, shape, 50, (0.5, 1.5)) + 0.015 * fractal(rng, shape, 0.5))[..., None]
    picture *= (1 - 0.4 * np.exp(-ramp(shape, 0, 3) / 0.1))[..., None]
    return finish(picture, _SIZE)


def _lit(rng: np.random.Generator, view: Field) -> Field:
    """Light a flat drawing of a room as if things were solid: bright edges above, shadows, pools of light."""
    shape = (view.shape[0], view.shape[1])
    grey = blurred(view.mean(2), 0.7)
    edges = np.clip(grey - shifted(grey, 2, 3), -40, 40)
    cast = blurred(np.clip(shifted(grey, 4, 6) - grey, 0, 50), 3.0)
    pools = ramp(shape, 1.3, 0.85) * (1 + 0.12 * fractal(rng, shape, 2.2, longest=220))
    view = blurred(view + (0.25 * edges - 0.5 * cast)[..., None], 0.55)
    return np.clip(view, 5, 245) * (pools * (1 + 0.03 * fractal(rng, shape, 1.0)))[..., None]


def _layout(
    rng: np.random.Generator, canvas: Canvas, glass: Canvas, color: np.ndarray
) -> tuple[list[Box], Box]:
    """Draw the frame; the display panes and the door pane."""
    base, top = 3.0 - rng.uniform(0.25, 0.7), rng.uniform(0.08, 0.25)
    post = rng.uniform(0.05, 0.1)
    wide = rng.uniform(0.85, 1.05)
    left = rng.choice([post, 4.0 - wide - post, rng.uniform(1.2, 2.0)])
    door: Box = (left, max(top, rng.uniform(0.2, 0.75)), left + wide, 2.9)
    spans = [(post, door[0] - post), (door[2] + post, 4.0 - post)]
    panes: list[Box] = []
    transom = top + rng.uniform(0.35, 0.55) if rng.random() < 0.5 else 0.0
    for x0, x1 in spans:
        if x1 - x0 < 0.35:
            continue
        count = max(1, round((x1 - x0) / rng.uniform(1.0, 2.2)))
        cuts = np.linspace(x0, x1 + 0.05, count + 1)
        for k in range(count):
            box = (cuts[k], top, cuts[k + 1] - 0.05, base)
            canvas.rect(box[0] - 0.02, box[1] - 0.02, box[2] + 0.02, box[3] + 0.02, color * 0.6)
            glass.rect(*box, 255)
            if transom:
                glass.rect(box[0], transom, box[2], transom + 0.05, 0)
                canvas.rect(box[0], transom, box[2], transom + 0.05, color)
                for x in np.arange(box[0] + 0.4, box[2], 0.4):
                    glass.rect(x, top, x + 0.025, transom, 0)
            panes.append((box[0], max(top, transom + 0.05), box[2], base))
        _riser(rng, canvas, (x0, base + 0.06, x1, 2.96), color)
    canvas.rect(door[0] - 0.03, door[1] - 0.03, door[2] + 0.03, 3.0, color * 0.5)
    bevelled(canvas, (door[0], door[1], door[2], 2.95), color * rng.uniform(0.8, 1.2), 0.015)
    low = rng.choice([2.75, 1.9])
    inner: Box = (door[0] + 0.12, door[1] + 0.12, door[2] - 0.12, low)
    glass.rect(*inner, 255)
    if low < 2:
        bevelled(canvas, (door[0] + 0.12, 2.05, door[2] - 0.12, 2.75), color * 0.95, 0.02)
    if door[1] > top + 0.25:
        glass.rect(door[0], top, door[2], door[1] - 0.08, 255)
    handle = door[2] - 0.07
    canvas.rect(handle - 0.02, 1.7, handle + 0.02, 2.15, (172, 168, 160))
    return panes or [inner], inner


def _riser(rng: np.random.Generator, canvas: Canvas, box: Box, color: np.ndarray) -> None:
    """Draw what is below the panes: panels, tiles, boards or stone."""
    kind = rng.integers(0, 4)
    x0, y0, x1, y1 = box
    if kind == 0:
        for x in np.arange(x0, x1 - 0.1, 0.7):
            bevelled(canvas, (x + 0.04, y0 + 0.03, min(x + 0.66, x1), y1 - 0.05), color * 0.95, 0.018)
    elif kind == 1:
        tile = random_color(rng, 0.5, (0.3, 0.8))
        for y in np.arange(y0, y1, 0.1):
            for x in np.arange(x0, x1, 0.1):
                canvas.rect(x, y, min(x + 0.092, x1), y + 0.092, tile * rng.uniform(0.8, 1.15))
    elif kind == 2:
        for x in np.arange(x0, x1, 0.11):
            canvas.rect(x, y0, x + 0.012, y1, color * 0.6)
    else:
        stone = np.array((120, 114, 108)) * rng.uniform(0.6, 1.3)
        for x in np.arange(x0, x1, 0.8):
            canvas.rect(x, y0, min(x + 0.785, x1), y1, stone * rng.uniform(0.9, 1.1))


def _interior(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw the back of the shop: ceiling with lamps, walls with shelves and pictures, a counter, people."""
    ground = canvas.pixels[0, 0].astype(float)
    canvas.rect(0, 0, 4, rng.uniform(0.3, 0.6), ground * 0.6)
    for x in np.arange(rng.uniform(0.1, 0.5), 4, rng.uniform(0.5, 1.0)):
        y = rng.uniform(0.3, 0.5)
        canvas.ellipse(x, y, 0.07, 0.05, (240, 226, 190))
    canvas.rect(0, 2.2, 4, 3.0, ground * 0.7)
    for _ in range(int(rng.integers(3, 7))):
        x, y = rng.uniform(0, 3.8), rng.uniform(0.6, 1.7)
        w, h = rng.uniform(0.3, 1.0), rng.uniform(0.3, 0.8)
        canvas.rect(x, y, x + w, y + h, random_color(rng, 0.6, (0.2, 0.6)))
        for _ in range(int(rng.integers(2, 9))):
            bx, by = x + rng.uniform(0, w - 0.1), y + rng.uniform(0, h - 0.1)
            canvas.rect(bx, by, bx + 0.1, by + rng.uniform(0.06, 0.16), random_color(rng, 0.8, (0.3, 0.8)))
    for _ in range(int(rng.integers(0, 3))):
        _figure(rng, canvas, rng.uniform(0.3, 3.7), 2.3, 1.5, random_color(rng, 0.6, (0.15, 0.5)))


def _figure(
    rng: np.random.Generator, canvas: Canvas, x: float, base: float, tall: float, color: np.ndarray
) -> None:
    """Draw a person or a mannequin in clothes, standing."""
    skin = np.array(((196, 160, 136), (214, 206, 196), (98, 74, 60), (60, 60, 62))[rng.integers(0, 4)])
    head, hip, shoulder = base - tall * 0.93, base - tall * 0.48, base - tall * 0.82
    second = random_color(rng, 0.7, (0.15, 0.75))
    half, lean = tall * 0.13, rng.uniform(-0.04, 0.04)
    if rng.random() < 0.4:
        flare = half * rng.uniform(1.2, 2.2)
        hem = base - tall * rng.uniform(0.15, 0.3)
        canvas.line([[x, hip], [x - 0.04, base]], skin, 0.06)
        canvas.line([[x, hip], [x + 0.05, base]], skin, 0.06)
        canvas.polygon(
            [[x - 0.7 * half, hip], [x + 0.7 * half, hip], [x + flare, hem], [x - flare, hem]], second
        )
    else:
        for side in (-1, 1):
            foot = x + side * half * rng.uniform(0.5, 1.0)
            canvas.line([[x + side * 0.4 * half, hip], [foot, base]], second, 0.11)
    canvas.polygon(
        [
            [x - half, shoulder],
            [x + half, shoulder],
            [x + 0.7 * half, hip + 0.05],
            [x - 0.7 * half, hip + 0.05],
        ],
        color,
    )
    for side in (-1, 1):
        elbow = [x + side * half * rng.uniform(1.1, 1.9), shoulder + 0.25 * tall * rng.uniform(0.6, 1.0)]
        hand = [elbow[0] - side * rng.uniform(-0.12, 0.15), elbow[1] + rng.uniform(-0.2, 0.22)]
        canvas.line([[x + side * half * 0.9, shoulder + 0.04], elbow], color * 0.9, 0.08)
        canvas.line([elbow, hand], skin if rng.random() < 0.5 else color * 0.9, 0.06)
    if rng.random() < 0.6:
        for y in np.arange(shoulder + 0.05, hip, rng.uniform(0.05, 0.14)):
            canvas.line([[x - 0.8 * half, y], [x + 0.8 * half, y]], second, 0.02)
    canvas.line([[x, shoulder], [x + lean, head]], skin, 0.06)
    canvas.ellipse(x + lean, head, tall * 0.05, tall * 0.07, skin)
    if rng.random() < 0.6:
        canvas.ellipse(
            x + lean,
            head - tall * 0.035,
            tall * 0.056,
            tall * 0.045,
            random_color(rng, 0.4, (0.1, 0.5)),
        )


def _display(rng: np.random.Generator, canvas: Canvas, box: Box, kind: str) -> None:
    """Arrange goods behind a pane."""
    x0, y0, x1, y1 = box
    if kind == "mixed":
        kind = _DISPLAYS[rng.integers(0, len(_DISPLAYS) - 1)]
    if kind in ("mannequins", "lamps", "pictures") and rng.random() < 0.7:
        back = random_color(rng, 0.5, (0.25, 0.75))
        canvas.rect(x0, y0 + rng.uniform(0, 0.5), x1, y1, back)
    if kind in ("shelves", "books"):
        _shelves(rng, canvas, box, upright=kind == "books")
    elif kind == "mannequins":
        x = x0 + 0.3
        while x < x1 - 0.2:
            color = random_color(rng, 0.8, (0.2, 0.85))
            _figure(rng, canvas, x, y1 - 0.08, rng.uniform(1.45, 1.75), color)
            x += rng.uniform(0.5, 0.9)
    elif kind == "crates":
        _crates(rng, canvas, box)
    elif kind == "cafe":
        _tables(rng, canvas, box)
    elif kind == "pictures":
        for _ in range(int(6 * (x1 - x0)) + 2):
            w, h = rng.uniform(0.2, 0.6, 2)
            x, y = rng.uniform(x0, max(x1 - w, x0 + 0.01)), rng.uniform(y0, y1 - h)
            canvas.rect(x, y, x + w, y + h, random_color(rng, 0.4, (0.2, 0.7)))
            signs.miniature(rng, canvas, (x + 0.03, y + 0.03, x + w - 0.03, y + h - 0.03))
    else:
        for _ in range(int(5 * (x1 - x0)) + 2):
            x, y = rng.uniform(x0, x1), rng.uniform(y0 + 0.3, y1 - 0.5)
            color = random_color(rng, 0.5, (0.6, 0.92))
            r = rng.uniform(0.08, 0.22)
            canvas.line([[x, y0], [x, y]], (40, 40, 40), 0.012)
            canvas.polygon([[x - 0.4 * r, y], [x + 0.4 * r, y], [x + r, y + r], [x - r, y + r]], color)
            canvas.ellipse(x, y + r, 0.5 * r, 0.25 * r, (244, 234, 205))
    x = x0 + rng.uniform(0, 0.3)
    while x < x1 - 0.1:
        w = rng.uniform(0.12, 0.4)
        _thing(rng, canvas, x, y1, w)
        x += w + rng.uniform(0.02, 0.25)


def _thing(rng: np.random.Generator, canvas: Canvas, x: float, base: float, w: float) -> None:
    """Draw a box, a bottle, a vase, a bag or a card with a price, standing at `base`."""
    kind, color = rng.integers(0, 5), random_color(rng, 0.85, (0.25, 0.9))
    h = rng.uniform(0.12, 0.4)
    if kind == 0:
        canvas.rect(x, base - h, x + w, base, color)
        canvas.rect(x + 0.75 * w, base - h, x + w, base, color * 0.7)
        emblem(canvas, rng, x + 0.38 * w, base - 0.5 * h, 0.3 * min(w, h), random_color(rng), color)
    elif kind == 1:
        for k in range(max(int(w / 0.08), 1)):
            bx, tall = x + 0.08 * k + 0.035, h * rng.uniform(0.7, 1.1)
            tone = random_color(rng, 0.8, (0.2, 0.8))
            canvas.rect(bx - 0.028, base - 0.65 * tall, bx + 0.028, base, tone)
            canvas.rect(bx - 0.01, base - tall, bx + 0.01, base - 0.6 * tall, tone * 0.8)
            canvas.rect(bx - 0.026, base - 0.45 * tall, bx + 0.026, base - 0.2 * tall, (222, 214, 196))
    elif kind == 2:
        canvas.ellipse(x + w / 2, base - 0.35 * h, 0.4 * w, 0.36 * h, color)
        canvas.ellipse(x + 0.4 * w, base - 0.45 * h, 0.08 * w, 0.14 * h, np.minimum(color * 1.5 + 30, 238))
        canvas.rect(x + 0.35 * w, base - h, x + 0.65 * w, base - 0.6 * h, color * 0.85)
    elif kind == 3:
        canvas.polygon(
            [[x, base - 0.8 * h], [x + w, base - 0.8 * h], [x + 0.9 * w, base], [x + 0.1 * w, base]], color
        )
        canvas.ellipse(x + w / 2, base - 0.8 * h, 0.25 * w, 0.25 * h, color * 0.6, 0, (180, 360), 0.018)
    else:
        canvas.rect(x, base - 0.6 * h, x + w, base, (226, 222, 208))
        lines_of_text(canvas, rng, (x + 0.02, base - 0.55 * h, x + w - 0.02, base - 0.02), 0.06, color * 0.6)


def _shelves(rng: np.random.Generator, canvas: Canvas, box: Box, upright: bool) -> None:
    """Draw shelves full of things."""
    x0, y0, x1, y1 = box
    plank = random_color(rng, 0.4, (0.3, 0.8))
    pitch = rng.uniform(0.3, 0.48)
    canvas.rect(x0, y0, x1, y1, plank * rng.uniform(0.3, 0.6))
    for y in np.arange(y1 - pitch, y0 + 0.15, -pitch):
        canvas.rect(x0, y + 0.03, x1, y + 0.09, plank * 0.25)
        canvas.rect(x0, y, x1, y + 0.03, plank)
        x = x0 + rng.uniform(0, 0.1)
        while x < x1 - 0.05:
            if upright:
                w, tall = rng.uniform(0.03, 0.07), rng.uniform(0.5, 0.85) * pitch
                color = random_color(rng, 0.8, (0.2, 0.9))
                canvas.rect(x, y - tall, x + w, y, color)
                canvas.rect(x + 0.2 * w, y - 0.8 * tall, x + 0.8 * w, y - 0.6 * tall, 235 - color * 0.7)
                x += w + (0.2 if rng.random() < 0.08 else 0.004)
            else:
                w = rng.uniform(0.08, 0.24)
                _thing(rng, canvas, x, y, w)
                x += w + rng.uniform(0.01, 0.12)


def _crates(rng: np.random.Generator, canvas: Canvas, box: Box) -> None:
    """Draw rising crates of fruit with price cards."""
    x0, _, x1, y1 = box
    for row in range(4):
        y = y1 - 0.3 * (3 - row) - 0.55 + 0.3
        x = x0
        while x < x1 - 0.2:
            w = rng.uniform(0.35, 0.55)
            color = random_color(rng, 0.9, (0.45, 0.9))
            canvas.rect(x, y, x + w - 0.02, y + 0.25, (138, 108, 74))
            for _ in range(34):
                fx, fy = x + rng.uniform(0.03, w - 0.05), y + rng.uniform(-0.02, 0.14)
                canvas.ellipse(fx, fy, 0.032, 0.032, color * rng.uniform(0.6, 1.15))
            canvas.rect(
                x, y + 0.14, x + w - 0.02, y + 0.25, np.array((150, 116, 80)) * rng.uniform(0.8, 1.15)
            )
            if rng.random() < 0.6:
                canvas.rect(x + 0.1, y - 0.1, x + 0.28, y + 0.03, (232, 226, 196))
                lines_of_text(canvas, rng, (x + 0.11, y - 0.09, x + 0.27, y + 0.02), 0.07, (170, 40, 36))
            x += w


def _tables(rng: np.random.Generator, canvas: Canvas, box: Box) -> None:
    """Draw guests at tables, bottles and hanging lamps."""
    x0, y0, x1, y1 = box
    _shelves(rng, canvas, (x0, y0, x1, y0 + 0.55 * (y1 - y0)), upright=False)
    for x in np.arange(x0 + 0.35, x1, rng.uniform(0.7, 1.0)):
        if rng.random() < 0.6:
            _figure(rng, canvas, x - 0.3, y1 + 0.35, 1.5, random_color(rng, 0.7, (0.2, 0.7)))
        canvas.line([[x, y1 - 0.55], [x, y1]], (50, 46, 42), 0.04)
        canvas.ellipse(x, y1 - 0.55, 0.32, 0.05, (132, 98, 66))
        for _ in range(3):
            _thing(rng, canvas, x + rng.uniform(-0.25, 0.15), y1 - 0.56, 0.08)
        canvas.line([[x, y0], [x, y0 + 0.4]], (30, 30, 30), 0.014)
        canvas.ellipse(x, y0 + 0.42, 0.12, 0.09, (238, 214, 160))


def _on_glass(rng: np.random.Generator, canvas: Canvas, panes: list[Box], door: Box) -> None:
    """Draw letters, posters and stickers on the panes."""
    for x0, y0, x1, y1 in panes:
        if rng.random() < 0.6:
            color = _LETTERS[rng.integers(0, len(_LETTERS))]
            y = rng.uniform(y0 + 0.08, y0 + 0.6 * (y1 - y0))
            box = (x0 + 0.08, y, x1 - 0.08, y + rng.uniform(0.16, 0.42))
            write(canvas, Script(rng), word(rng), box, color)
        for _ in range(int(rng.integers(0, 3))):
            w = rng.uniform(0.25, 0.5)
            x = rng.uniform(x0, max(x1 - w, x0 + 0.02))
            y = rng.uniform(y0, max(y1 - 1.4 * w, y0 + 0.02))
            signs.miniature(rng, canvas, (x, y, x + w, y + 1.35 * w))
    for _ in range(int(rng.integers(2, 6))):
        w = rng.uniform(0.08, 0.2)
        x, y = rng.uniform(door[0], max(door[2] - w, door[0] + 0.01)), rng.uniform(door[1] + 0.4, 1.8)
        paper = random_color(rng, 0.7, (0.5, 0.9))
        canvas.rect(x, y, x + w, y + w, paper)
        emblem(canvas, rng, x + w / 2, y + w / 2, 0.4 * w, 235 - paper, paper)


def _shutter(rng: np.random.Generator, picture: Field, boxes: list[Box]) -> Field:
    """Close boxes by a roller shutter with tags sprayed on it."""
    shape = picture.shape[:2]
    cover, layer = (
        Canvas(shape, _SIZE, 0.0),
        Canvas(shape, _SIZE, random_color(rng, 0.2, (0.45, 0.7))),
    )
    ground = layer.pixels[0, 0].astype(float)
    for y in np.arange(0, 3, 0.075):
        layer.rect(0, y, 4, y + 0.02, ground * 0.66)
        layer.rect(0, y + 0.02, 4, y + 0.035, np.minimum(ground * 1.12, 230))
    for x0, y0, x1, _ in boxes:
        cover.rect(x0 - 0.05, y0 - 0.1, x1 + 0.05, 2.93, 255)
    for _ in range(int(rng.integers(2, 5))):
        signs.tag(rng, layer, rng.uniform(0.3, 3.2), rng.uniform(0.9, 2.4), rng.uniform(0.5, 1.1))
    rust = patches(fractal(rng, shape, 1.1), 0.02, 0.3)
    return blend(picture, blend(layer.reduced(), (124, 92, 66), 0.5 * rust), cover.mask())
