"""Flat things with letters and pictures: shop signs, posters, graffiti, traffic signs."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .canvas import Canvas, ramp, random_color
from .glyphs import Script, emblem, lines_of_text, word, write
from .noise import Color, Field, Picture, blend, finish, fractal, patches, specks, step

Box = tuple[float, float, float, float]
Floats = npt.NDArray[np.floating]


def _contrasting(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """A colour that can be read on another."""
    light = float(ground.mean()) > 115
    if rng.random() < 0.5:
        return np.array((36, 34, 36) if light else (228, 224, 212)) + rng.normal(0, 6, 3)
    return random_color(rng, 0.9, (0.12, 0.42) if light else (0.75, 0.95))


def _weathered(rng: np.random.Generator, picture: Field, strength: float) -> Field:
    """Fading, dirt from the edges, drips, scratches and lost paint."""
    shape = picture.shape[:2]
    fade = patches(fractal(rng, shape, 1.2), 0.35, 0.7)
    picture = blend(picture, picture.mean() * 0.6 + 70, 0.22 * strength * fade)
    runs = fractal(rng, shape, 0.9, longest=60, stretch=(1, 8))
    picture = picture * (1 - 0.16 * strength * step(runs, 0.2, 2.0))[..., None]
    lost = patches(fractal(rng, shape, 1.0, longest=40), 0.003 * strength, 0.12)
    picture = blend(picture, (124, 104, 86), 0.8 * lost)
    picture = picture * (1 - 0.2 * specks(rng, shape, shape[0] // 3, (0.4, 1.4)))[..., None]
    return picture * (1 + 0.02 * fractal(rng, shape, 0.6))[..., None]


def sign(rng: np.random.Generator, number: int) -> Picture:
    """Shop sign: fascia with letters, emblem and border; about 4 m x 0.5 m, or twice as high."""
    tall = number % 6 == 5
    shape, size = ((128, 512), (4.0, 1.0)) if tall else ((64, 512), (4.0, 0.55))
    width, height = size
    ground = random_color(rng, 0.75, (0.12, 0.85))
    color = _contrasting(rng, ground)
    canvas = Canvas(shape, size, ground)
    _ground(rng, canvas, ground)
    inner = 0.06 * height
    if rng.random() < 0.45:
        tone = _contrasting(rng, ground) if rng.random() < 0.6 else color
        corners = np.array(
            [[inner, inner], [width - inner, inner], [width - inner, height - inner], [inner, height - inner]]
        )
        canvas.line(corners, tone, rng.uniform(0.012, 0.04), closed=True)
    x0, x1 = 0.12, width - 0.12
    for side in (0, 1):
        if rng.random() < (0.5 if side == 0 else 0.25):
            radius = 0.36 * height
            x = x0 + radius if side == 0 else x1 - radius
            emblem(canvas, rng, x, height / 2, radius, _contrasting(rng, ground), ground)
            x0, x1 = (x + 1.3 * radius, x1) if side == 0 else (x0, x - 1.3 * radius)
    text = " ".join(word(rng) for _ in range(int(rng.choice([1, 2, 2, 3]))))
    main = (x0, 0.16 * height, x1, 0.84 * height)
    if tall or rng.random() < 0.35:
        cut = rng.uniform(0.58, 0.7) * height
        main = (x0, 0.1 * height, x1, cut)
        second = " ".join(word(rng) for _ in range(int(rng.integers(2, 5))))
        write(
            canvas,
            Script(rng),
            second,
            (x0, cut + 0.05 * height, x1, 0.92 * height),
            _contrasting(rng, ground),
        )
    script, align = Script(rng), float(rng.choice([0.0, 0.5, 0.5, 1.0]))
    if rng.random() < 0.55:
        depth = rng.uniform(0.02, 0.05) * height
        shadow = (main[0] + depth, main[1] + depth, main[2] + depth, main[3] + depth)
        write(canvas, script, text, shadow, ground * 0.45, align)
    write(canvas, script, text, main, color, align)
    picture = canvas.reduced()
    picture *= ramp(shape, rng.uniform(0.98, 1.1), rng.uniform(0.82, 0.98))[..., None]
    return finish(_weathered(rng, picture, rng.uniform(0.3, 1.6)), size)


def _ground(rng: np.random.Generator, canvas: Canvas, ground: np.ndarray) -> None:
    """Draw the ground of a sign: even, boards, bands, a lit box or plates."""
    width, height = canvas.size
    kind = rng.integers(0, 6)
    if kind == 0:
        for y in np.arange(0, height, 0.1):
            canvas.rect(0, y, width, y + 0.012, ground * 0.7)
    elif kind == 1:
        band = random_color(rng, 0.8, (0.2, 0.85))
        canvas.rect(0, rng.choice([0.0, 0.82]) * height, width, height, band)
        canvas.rect(0, 0.1 * height, width, 0.86 * height, ground)
    elif kind == 2:
        band = random_color(rng, 0.8, (0.2, 0.85))
        x = rng.uniform(0.0, 0.8) * width
        canvas.polygon(
            [[x, 0], [x + 0.9, 0], [x + 0.5, height], [x - 0.4, height]], 0.6 * ground + 0.4 * band
        )
    elif kind == 3:
        for x in np.arange(0, width, rng.uniform(0.5, 1.3)):
            canvas.rect(x, 0, x + 0.012, height, ground * 0.6)
            canvas.ellipse(x + 0.05, 0.06, 0.012, 0.012, ground * 0.5)
            canvas.ellipse(x + 0.05, height - 0.06, 0.012, 0.012, ground * 0.5)


def _landscape(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """A view as in a photograph, made of noise: sky, hills, water or a field, a sun."""
    sky = random_color(rng, 0.6, (0.6, 0.9))
    low = random_color(rng, 0.4, (0.75, 0.92))
    blend_down = ramp(shape, 0, 1)[..., None]
    picture = (sky * (1 - blend_down) + low * blend_down).astype(np.float32)
    clouds = patches(fractal(rng, shape, 1.3, stretch=(2, 1)), 0.3, 0.5)
    picture = blend(picture, (232, 230, 226), 0.7 * clouds)
    yy = np.arange(shape[0], dtype=np.float32)[:, None] / shape[0]
    near = rng.uniform(0.3, 0.5)
    tone = random_color(rng, 0.5, (0.3, 0.5))
    for layer in range(int(rng.integers(2, 5))):
        ridge = near + 0.07 * fractal(rng, (1, shape[1]), 1.4)[0][None] * (1 + layer)
        hill = tone * (1.2 - 0.25 * layer) * (1 + 0.2 * fractal(rng, shape, 0.9))[..., None]
        picture = blend(picture, hill, step(yy - ridge, 0, 0.01))
        near += rng.uniform(0.1, 0.22)
    return picture


def _compose(rng: np.random.Generator, canvas: Canvas, box: Box, ground: np.ndarray) -> None:
    """Draw random shapes into a box: rays, circles, bars, a figure, an emblem, a pattern."""
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    kind = rng.integers(0, 6)
    if kind == 0:
        cx, cy, count = (
            x0 + rng.uniform(0.2, 0.8) * w,
            y0 + rng.uniform(0.2, 0.8) * h,
            int(rng.integers(7, 16)),
        )
        color = random_color(rng, 0.9, (0.3, 0.92))
        for k in range(count):
            a, b = 2 * np.pi * k / count, 2 * np.pi * (k + 0.5) / count
            far = w + h
            canvas.polygon(
                [
                    [cx, cy],
                    [cx + far * np.cos(a), cy + far * np.sin(a)],
                    [cx + far * np.cos(b), cy + far * np.sin(b)],
                ],
                color,
            )
    elif kind == 1:
        for _ in range(int(rng.integers(5, 16))):
            r = rng.uniform(0.04, 0.3) * w
            x, y = x0 + rng.uniform(0, 1) * w, y0 + rng.uniform(0, 1) * h
            canvas.ellipse(x, y, r, r, random_color(rng, 0.9, (0.25, 0.92)))
    elif kind == 2:
        for _ in range(int(rng.integers(5, 12))):
            corners = rng.uniform(0, 1, (int(rng.integers(3, 6)), 2)) * (w, h) + (x0, y0)
            canvas.polygon(corners, random_color(rng, 0.9, (0.2, 0.92)))
    elif kind == 3:
        count = int(rng.integers(4, 9))
        for k in range(count):
            for j in range(int(count * h / w)):
                color = random_color(rng, 0.8, (0.2, 0.92))
                cell = w / count
                emblem(canvas, rng, x0 + (k + 0.5) * cell, y0 + (j + 0.5) * cell, 0.42 * cell, color, ground)
    elif kind == 4:
        _portrait(rng, canvas, box)
    else:
        for _ in range(3):
            r = rng.uniform(0.15, 0.4) * w
            x, y = x0 + rng.uniform(0.2, 0.8) * w, y0 + rng.uniform(0.2, 0.8) * h
            emblem(canvas, rng, x, y, r, random_color(rng, 0.9, (0.2, 0.92)), ground)


def _portrait(rng: np.random.Generator, canvas: Canvas, box: Box) -> None:
    """Draw head and shoulders."""
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    skin = np.array(((212, 168, 140), (146, 102, 78), (92, 64, 50), (190, 190, 188))[rng.integers(0, 4)])
    x, y, r = x0 + rng.uniform(0.35, 0.65) * w, y0 + rng.uniform(0.35, 0.5) * h, rng.uniform(0.15, 0.24) * w
    hair = random_color(rng, 0.6, (0.08, 0.6))
    canvas.ellipse(x, y - 0.2 * r, 1.25 * r, (1.5 if rng.random() < 0.5 else 2.1) * r, hair)
    canvas.ellipse(x, y1 + 0.1 * h, 2.6 * r, 0.1 * h + (y1 - y) - 1.8 * r, random_color(rng, 0.8, (0.2, 0.8)))
    canvas.rect(x - 0.4 * r, y, x + 0.4 * r, y + 1.9 * r, skin * 0.8)
    canvas.ellipse(x, y, r, 1.35 * r, skin)
    canvas.ellipse(x - 0.25 * r, y + 0.1 * r, 0.72 * r, 1.1 * r, np.minimum(skin * 1.08, 235))
    for side in (-1, 1):
        ex = x + side * 0.4 * r
        canvas.ellipse(ex, y - 0.15 * r, 0.2 * r, 0.11 * r, (228, 226, 222))
        canvas.ellipse(ex, y - 0.15 * r, 0.1 * r, 0.1 * r, (40, 34, 32))
        canvas.line([[ex - 0.24 * r, y - 0.42 * r], [ex + 0.24 * r, y - 0.46 * r]], hair, 0.1 * r)
    canvas.line(
        [[x, y - 0.1 * r], [x + 0.14 * r, y + 0.3 * r], [x - 0.05 * r, y + 0.34 * r]], skin * 0.72, 0.06 * r
    )
    canvas.ellipse(x, y + 0.68 * r, 0.32 * r, rng.uniform(0.05, 0.16) * r, (162, 66, 64))
    canvas.ellipse(x, y - 1.0 * r, 1.1 * r, 0.5 * r, hair)


def _fill_poster(rng: np.random.Generator, canvas: Canvas, style: int, ground: Floats, cut: float) -> None:
    """Draw what a poster shows, down to the level `cut` or all over: a view, notes, or shapes."""
    width, height = canvas.size
    if style in (0, 3):
        view = np.clip(_landscape(rng, canvas.shape), 0, 255).astype(np.uint8)
        photo = cv2.resize(view, canvas.pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        rows = int(cut * canvas.scale[1]) if rng.random() < 0.5 else len(photo)
        canvas.pixels[:rows] = photo[:rows]
        if style == 3 and rng.random() < 0.5:
            _portrait(rng, canvas, (0, 0.1 * height, width, cut))
    elif style == 4 and rng.random() < 0.6:
        for _ in range(int(rng.integers(8, 16))):
            w, h = rng.uniform(0.15, 0.5), rng.uniform(0.1, 0.4)
            x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
            paper = random_color(rng, 0.5, (0.5, 0.92))
            canvas.rect(x, y, x + w, y + h, paper)
            inner = (x + 0.02, y + 0.02, x + w - 0.02, y + h - 0.02)
            lines_of_text(canvas, rng, inner, rng.uniform(0.03, 0.07), _contrasting(rng, paper))
    else:
        margin = rng.uniform(0.0, 0.1)
        _compose(rng, canvas, (margin, margin, width - margin, cut), ground)


def poster(rng: np.random.Generator, number: int) -> Picture:
    """Poster or advertisement, about 1.2 m x 1.8 m."""
    shape, size = ((512, 256) if number % 6 == 0 else (256, 128)), (1.2, 1.8)
    width, height = size
    ground = random_color(rng, 0.8, (0.15, 0.92))
    canvas = Canvas(shape, size, ground)
    cut, title = rng.uniform(0.5, 0.75) * height, rng.uniform(0.12, 0.28)
    _fill_poster(rng, canvas, number % 5, ground, cut)
    top = rng.choice([0.05, cut])
    if rng.random() < 0.5:
        canvas.rect(0, top - 0.02, width, top + title + 0.02, random_color(rng, 0.8, (0.1, 0.9)))
    under = canvas.pixels[int((top + title / 2) * canvas.scale[1])].mean(0)
    text = " ".join(word(rng) for _ in range(int(rng.integers(1, 3))))
    write(canvas, Script(rng), text, (0.06, top, width - 0.06, top + title), _contrasting(rng, under))
    under = canvas.pixels[int(0.9 * canvas.pixels.shape[0])].mean(0)
    box = (0.08, cut + title + 0.06, width * rng.uniform(0.55, 0.95), height - 0.06)
    lines_of_text(canvas, rng, box, rng.uniform(0.04, 0.08), _contrasting(rng, under))
    if rng.random() < 0.5:
        emblem(canvas, rng, width - 0.17, height - 0.17, 0.11, _contrasting(rng, under), under)
    picture = canvas.reduced()
    creases = fractal(rng, shape, 1.1, longest=60)
    picture *= (1 + np.clip(0.08 * (creases - np.roll(creases, 1, 1)), -0.05, 0.05))[..., None]
    if rng.random() < 0.35:
        torn = patches(fractal(rng, shape, 1.1), rng.uniform(0.01, 0.06), 0.03)
        picture = blend(picture, np.array((206, 198, 184)) * (1 + 0.06 * creases[..., None]), torn)
    return finish(_weathered(rng, picture, rng.uniform(0.2, 1.0)), size)


def miniature(rng: np.random.Generator, canvas: Canvas, box: Box) -> None:
    """Draw a small poster or picture into a box."""
    ground = random_color(rng, 0.7, (0.3, 0.92))
    x0, y0, x1, y1 = box
    canvas.rect(*box, ground)
    part = Canvas(
        (max(int((y1 - y0) * canvas.scale[1] / 2), 4), max(int((x1 - x0) * canvas.scale[0] / 2), 4)),
        (x1 - x0, y1 - y0),
        ground,
    )
    w, h = part.size
    if rng.random() < 0.75:
        _compose(rng, part, (0, 0, w, 0.7 * h), ground)
    if rng.random() < 0.7:
        write(
            part,
            Script(rng),
            word(rng),
            (0.08 * w, 0.72 * h, 0.92 * w, 0.9 * h),
            _contrasting(rng, ground),
        )
    else:
        lines_of_text(part, rng, (0.1 * w, 0.55 * h, 0.9 * w, 0.95 * h), 0.08 * h, _contrasting(rng, ground))
    low = np.rint(np.array((x0, y0)) * canvas.scale).astype(int)
    target = canvas.pixels[
        max(low[1], 0) : low[1] + part.pixels.shape[0], max(low[0], 0) : low[0] + part.pixels.shape[1]
    ]
    target[:] = part.pixels[: target.shape[0], : target.shape[1]]


def tag(rng: np.random.Generator, canvas: Canvas, x: float, y: float, length: float) -> None:
    """Draw a sprayed signature: one looping line."""
    count = int(rng.integers(4, 8))
    t = np.linspace(0, 1, 16 * count)
    phase = rng.uniform(0, 6.3, 3)
    px = x + length * t + 0.3 * length / count * np.sin(2 * np.pi * count * t + phase[0])
    py = y + 0.16 * length * np.sin(2 * np.pi * count * t * rng.uniform(0.8, 1.3) + phase[1])
    py += 0.1 * length * np.sin(5 * t + phase[2])
    canvas.line(np.stack([px, py], 1), random_color(rng, 0.9, (0.08, 0.6)), rng.uniform(0.02, 0.05))


def graffiti(rng: np.random.Generator, number: int) -> Picture:
    """A painted piece on a light wall: fat letters with outlines and fillings, and tags; 3 m x 1.5 m."""
    shape, size = ((256, 512), (3.0, 1.5)) if number % 2 == 0 else ((128, 256), (3.0, 1.5))
    canvas = Canvas(shape, size, (186, 182, 172))
    back = random_color(rng, 0.9, (0.3, 0.9))
    for _ in range(int(rng.integers(5, 12))):
        x, y = rng.uniform(0.3, 2.7), rng.uniform(0.4, 1.1)
        canvas.ellipse(x, y, rng.uniform(0.15, 0.5), rng.uniform(0.12, 0.35), back * rng.uniform(0.8, 1.15))
    count = int(rng.integers(3, 6))
    fill, line = random_color(rng, 1.0, (0.5, 0.95)), random_color(rng, 0.5, (0.06, 0.3))
    script, strokes = Script(rng), []
    for k in range(count):
        tall = rng.uniform(0.6, 0.9)
        for stroke in script.letters[k % 18] if script.invented else _fat(rng):
            corner = np.array((0.4 + k * 2.25 / count, 0.75 - tall / 2)) + rng.normal(0, 0.03, 2)
            strokes.append(stroke * (2.1 / count, tall) + corner)
    halo = np.minimum(fill * 1.3 + 40, 240)
    for width, color, lift in ((0.34, line, 0.03), (0.27, halo, 0.0), (0.22, line, 0.0), (0.17, fill, 0.0)):
        for stroke in strokes:
            canvas.line(stroke + lift, color, width)
    for _ in range(int(rng.integers(2, 5))):
        tag(rng, canvas, rng.uniform(0.05, 2.2), rng.uniform(0.2, 1.35), rng.uniform(0.4, 0.8))
    picture = canvas.reduced()
    wall = fractal(rng, shape, 0.9)
    picture *= (1 + 0.04 * wall)[..., None]
    worn = patches(wall + 0.4 * fractal(rng, shape, 0.4), 0.05, 0.3)
    return finish(_weathered(rng, blend(picture, (178, 172, 160), 0.7 * worn), 0.6), size)


def _fat(rng: np.random.Generator) -> list[np.ndarray]:
    """Strokes of a letter for graffiti, in the unit square."""
    points = np.array(
        [[0.1, 0.9], [rng.uniform(0, 0.4), 0.05], [0.9, rng.uniform(0, 0.5)], [0.6, 0.55], [0.95, 0.95]]
    )
    return [points[: int(rng.integers(3, 6))], np.array([[0.1, 0.5], [0.8, rng.uniform(0.3, 0.7)]])]


_TRAFFIC: tuple[tuple[str, Color, Color, Color], ...] = (
    ("round", (232, 230, 226), (176, 34, 38), (36, 36, 38)),
    ("round", (38, 78, 150), (38, 78, 150), (232, 230, 226)),
    ("triangle", (234, 230, 220), (178, 36, 38), (36, 36, 38)),
    ("square", (40, 80, 152), (228, 228, 226), (232, 230, 226)),
    ("diamond", (222, 176, 44), (230, 228, 222), (38, 38, 36)),
    ("octagon", (170, 34, 36), (228, 226, 222), (232, 230, 226)),
    ("square", (232, 230, 224), (44, 44, 46), (40, 110, 66)),
)


def traffic_sign(rng: np.random.Generator, number: int) -> Picture:
    """Round, triangular, square or octagonal sign with an invented pictogram; 0.7 m."""
    shape, size = (128, 128), (0.7, 0.7)
    outline, ground, border, color = _TRAFFIC[number % len(_TRAFFIC)]
    canvas = Canvas(shape, size, (148, 150, 150))
    for scale, paint in ((0.345, border), (0.345 - (0.05 if border != ground else 0.0), ground)):
        if outline == "round":
            canvas.ellipse(0.35, 0.35, scale, scale, paint)
        else:
            sides, turn = {
                "triangle": (3, -np.pi / 2),
                "square": (4, np.pi / 4),
                "diamond": (4, 0.0),
                "octagon": (8, np.pi / 8),
            }[outline]
            angles = turn + 2 * np.pi * np.arange(sides) / sides
            radius = scale * (1.35 if outline == "square" else 1.0)
            middle = 0.35 + (0.06 if outline == "triangle" else 0)
            canvas.polygon(
                np.stack([0.35 + radius * np.cos(angles), middle + radius * np.sin(angles)], 1), paint
            )
    middle = 0.42 if outline == "triangle" else 0.35
    if number % 3 == 0:
        text = str(int(rng.integers(1, 12)) * 10) if rng.random() < 0.5 else word(rng, 1)[:3]
        write(canvas, Script(rng), text, (0.18, middle - 0.1, 0.52, middle + 0.1), color)
    else:
        emblem(canvas, rng, 0.35, middle, 0.15, color, ground)
    if rng.random() < 0.25:
        canvas.line([[0.14, 0.56], [0.56, 0.14]], border, 0.04)
    return finish(_weathered(rng, canvas.reduced(), rng.uniform(0.2, 1.2)), size)
