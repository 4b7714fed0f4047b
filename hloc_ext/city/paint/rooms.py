"""What is seen in window panes: rooms, curtains and blinds, plants, and the reflection of the street."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import Canvas, blurred, ramp, random_color
from .noise import Field, Shape, blend, fractal, patches, ripples, step

Size = tuple[float, float]


def room(rng: np.random.Generator, shape: Shape, size: Size) -> Field:
    """A dim room behind glass, (H, W, 3): back wall, furniture, pictures, books, a lamp."""
    width, height = size
    level = rng.uniform(26, 62)
    wall = random_color(rng, 0.35, (0.6, 1.0)) / 255
    canvas = Canvas(shape, size, level * 0.75 * wall)
    left, right = sorted(rng.uniform(0.0, 1.0, 2) * width)
    canvas.rect(left, 0, right, height * rng.uniform(0.6, 0.9), level * 1.25 * wall)
    for _ in range(int(rng.integers(2, 6))):
        x, y = rng.uniform(0, width), rng.uniform(0.1, 0.6) * height
        w, h = rng.uniform(0.08, 0.3, 2)
        canvas.rect(x, y, x + w, y + h, level * rng.uniform(0.5, 2.4) * wall)
        canvas.rect(x + 0.02, y + 0.02, x + w - 0.02, y + h - 0.02, random_color(rng, 0.7) * level / 70)
    if rng.random() < 0.5:
        _books(rng, canvas, level)
    for _ in range(int(rng.integers(1, 4))):
        x, w = rng.uniform(-0.2, width), rng.uniform(0.3, 0.9)
        y = height * rng.uniform(0.6, 0.92)
        canvas.rect(x, y, x + w, height, random_color(rng, 0.5) * level / 110)
    if rng.random() < 0.4:
        x, y = rng.uniform(0.15, 0.85) * width, rng.uniform(0.1, 0.45) * height
        canvas.line([[x, 0], [x, y]], (20, 20, 20), 0.01)
        canvas.polygon(
            [[x - 0.05, y - 0.05], [x + 0.05, y - 0.05], [x + 0.14, y + 0.1], [x - 0.14, y + 0.1]],
            (196, 172, 124),
        )
    picture = blurred(canvas.reduced(), rng.uniform(0.7, 1.8))
    return picture * ramp(shape, rng.uniform(0.7, 1.3), rng.uniform(0.6, 1.1))[..., None]


def _books(rng: np.random.Generator, canvas: Canvas, level: float) -> None:
    """Shelves with upright books of many colours."""
    x0 = rng.uniform(-0.2, 0.6) * canvas.size[0]
    wide, shelves = rng.uniform(0.4, 0.9), int(rng.integers(2, 5))
    top = rng.uniform(0.15, 0.4) * canvas.size[1]
    for shelf in range(shelves):
        base = top + 0.3 * (shelf + 1)
        canvas.rect(x0, base, x0 + wide, base + 0.03, np.array((110, 84, 60)) * level / 70)
        x = x0
        while x < x0 + wide - 0.05:
            thick = rng.uniform(0.02, 0.07)
            color = random_color(rng, 0.8, (0.3, 1.0)) * level / 75
            canvas.rect(x, base - rng.uniform(0.14, 0.26), x + thick - 0.006, base, color)
            x += thick if rng.random() < 0.92 else 0.15


def reflection(rng: np.random.Generator, shape: Shape, size: Size) -> Field:
    """What a pane mirrors, (H, W, 3): the sky over the roofs, facades and trees across the street."""
    sky = np.array(((150, 172, 196), (186, 192, 198), (120, 148, 182))[rng.integers(0, 3)])
    canvas = Canvas(shape, size, 0.0 * sky)
    canvas.pixels[:] = (np.linspace(1.05, 0.8, len(canvas.pixels))[:, None, None] * sky).astype(np.uint8)
    width, height = size
    x = -rng.uniform(0, width)
    while x < width:
        w, top = rng.uniform(0.5, 1.4) * width, rng.uniform(0.25, 0.95) * height
        color = random_color(rng, 0.25, (0.16, 0.42))
        ridge = top - rng.uniform(0, 0.25) * height
        canvas.polygon([[x, height], [x, top], [x + 0.5 * w, ridge], [x + w, top], [x + w, height]], color)
        pitch = w / rng.integers(4, 8)
        for column in np.arange(x + 0.3 * pitch, x + w - 0.5 * pitch, pitch):
            for row in np.arange(top + 0.5 * pitch, height, 1.4 * pitch):
                canvas.rect(
                    column, row, column + 0.45 * pitch, row + 0.8 * pitch, color * rng.uniform(0.5, 1.5)
                )
        x += w
    if rng.random() < 0.5:
        cx, cy = rng.uniform(0, 1, 2) * (width, height) + (0, 0.3 * height)
        for _ in range(90):
            dx, dy = rng.normal(0, 0.13, 2) * height
            canvas.ellipse(
                cx + dx * 0.7, cy + dy, 0.045, 0.045, np.array((46, 56, 40)) * rng.uniform(0.7, 1.4)
            )
    picture = blurred(canvas.reduced(), rng.uniform(0.8, 2.2))
    waves = ripples(rng, shape, 1.6, 1.4, shortest=10)
    xx, yy = np.meshgrid(np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32))
    columns, rows = (xx + waves[0]).astype(np.float32), (yy + waves[1]).astype(np.float32)
    bent = cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(bent, np.float32)


def folds(rng: np.random.Generator, shape: Shape, size: Size, pitch: float) -> Field:
    """Shading of hanging cloth around 1, folds about `pitch` metres apart."""
    pixels = pitch * shape[1] / size[0]
    noise = fractal(rng, shape, 1.0, longest=1.6 * pixels, shortest=0.6 * pixels, stretch=(1, 18))
    return 1 + 0.14 * np.clip(noise, -2.2, 2.2)


def _weave(rng: np.random.Generator, shape: Shape, size: Size, color: np.ndarray) -> Field:
    """Cloth: plain, striped, dotted or flowered, (H, W, 3)."""
    canvas = Canvas(shape, size, color)
    kind = rng.integers(0, 5)
    second = np.clip(color * rng.uniform(0.55, 1.25) + rng.normal(0, 14, 3), 10, 235)
    if kind == 1:
        pitch = rng.uniform(0.04, 0.14)
        for x in np.arange(0, size[0], pitch):
            canvas.rect(x, 0, x + pitch * 0.4, size[1], second)
    elif kind == 2:
        for _ in range(int(rng.integers(40, 120))):
            x, y = rng.uniform(0, 1, 2) * size
            canvas.ellipse(x, y, 0.035, 0.035, second)
            canvas.ellipse(x, y, 0.014, 0.014, color)
    elif kind == 3:
        pitch = rng.uniform(0.12, 0.3)
        for y in np.arange(rng.uniform(0, pitch), size[1], pitch):
            canvas.rect(0, y, size[0], y + pitch * 0.3, second)
    return canvas.reduced()


def _net(rng: np.random.Generator, picture: Field, size: Size, start: float, hem: float) -> Field:
    """Hang a white, half transparent curtain from one level to another."""
    shape, (width, height) = _shape(picture), size
    xx, yy = _metres(shape, size)
    low = hem + 0.05 * np.abs(np.sin(xx * rng.uniform(6, 20))) * (rng.random() < 0.6)
    cover = (yy > start) & (yy < low)
    gap = abs(xx - rng.uniform(0.3, 0.7) * width) > rng.uniform(-0.1, 0.12) * (0.4 + yy / height)
    white = np.array((176, 174, 168)) * rng.uniform(0.75, 1.05)
    cloth = white * folds(rng, shape, size, rng.uniform(0.04, 0.1))[..., None]
    lace = patches(fractal(rng, shape, 0.3, longest=14, shortest=3), 0.4, 0.3)
    return blend(picture, cloth, (cover & gap) * (rng.uniform(0.55, 0.85) + 0.06 * lace))


def _drapes(rng: np.random.Generator, picture: Field, size: Size, color: np.ndarray) -> Field:
    """Hang a curtain at each side, straight or tied back."""
    shape, (width, height) = _shape(picture), size
    xx, yy = _metres(shape, size)
    shade = folds(rng, shape, size, rng.uniform(0.06, 0.14))
    cloth = _weave(rng, shape, size, color * 0.8) * shade[..., None]
    inner = rng.uniform(0.12, 0.34, 2) * width
    tied = np.exp(-(((yy / height) - rng.uniform(0.5, 0.7)) ** 2) / 0.05) * (rng.random() < 0.5)
    cover = (xx < inner[0] * (1 - 0.35 * tied)) | (xx > width - inner[1] * (1 - 0.35 * tied))
    return blend(picture, cloth, cover.astype(np.float32))


def _roller(rng: np.random.Generator, picture: Field, size: Size, color: np.ndarray) -> Field:
    """Let down a roller blind to some level."""
    shape = _shape(picture)
    _, yy = _metres(shape, size)
    low = rng.uniform(0.2, 0.95) * size[1]
    cloth = _weave(rng, shape, size, np.clip(color * 1.1, 0, 215))
    cloth = cloth * (1 + 0.02 * fractal(rng, shape, 0.8))[..., None]
    rim = np.broadcast_to((yy > low - 0.04) & (yy < low), shape)
    picture = blend(picture, cloth, np.broadcast_to(yy < low, shape).astype(np.float32))
    return blend(picture, cloth * 0.75, rim.astype(np.float32))


def _venetian(rng: np.random.Generator, picture: Field, size: Size) -> Field:
    """Let down a blind of slats to some level."""
    shape, (width, height) = _shape(picture), size
    xx, yy = _metres(shape, size)
    low, pitch = rng.uniform(0.4, 1.05) * height, rng.uniform(0.028, 0.05)
    phase = ((yy + 0.004 * np.sin(xx * 3 + rng.uniform(0, 6))) % pitch) / pitch
    slats = np.broadcast_to(0.35 + 0.65 * step(phase, 0.0, 0.35) * (1 - step(phase, 0.75, 1.0)), shape)
    cords = np.abs(xx - 0.2 * width) < 0.008
    cords |= np.abs(xx - 0.8 * width) < 0.008
    cloth = np.array((178, 176, 170)) * rng.uniform(0.7, 1.0) * (slats * (1 - 0.3 * cords))[..., None]
    return blend(picture, cloth, (yy < low).astype(np.float32) * np.clip(slats * 1.3, 0, 1))


def _lamellas(rng: np.random.Generator, picture: Field, size: Size, color: np.ndarray) -> Field:
    """Hang upright strips, of which some are missing."""
    shape = _shape(picture)
    xx, _ = _metres(shape, size)
    strip = (xx / 0.11).astype(int)
    tones = rng.uniform(0.72, 1.05, strip.max() + 1)[strip] * (0.85 + 0.3 * (xx / 0.11 % 1))
    there = rng.random(strip.max() + 1)[strip] > 0.12
    cloth = color * 0.9 * np.broadcast_to(tones, shape)[..., None]
    return blend(picture, cloth, np.broadcast_to(there, shape).astype(np.float32))


def _shape(picture: Field) -> Shape:
    """Height and width, in pixels."""
    return picture.shape[0], picture.shape[1]


def _metres(shape: Shape, size: Size) -> tuple[Field, Field]:
    """x (1, W) and y (H, 1) of the pixels, metres."""
    xx = (np.arange(shape[1], dtype=np.float32)[None] + 0.5) * np.float32(size[0] / shape[1])
    yy = (np.arange(shape[0], dtype=np.float32)[:, None] + 0.5) * np.float32(size[1] / shape[0])
    return xx, yy


def dress(rng: np.random.Generator, picture: Field, size: Size, kind: str) -> Field:
    """Hang curtains or blinds into a window, behind the glass.

    Args:
        rng: random generator.
        picture: the room, (H, W, 3).
        size: of the window, metres.
        kind: ``none``, ``net``, ``cafe``, ``drapes``, ``roller``, ``venetian`` or ``vertical``.
    """
    color = random_color(rng, 0.6 if rng.random() < 0.5 else 0.12, (0.5, 0.85))
    height = size[1]
    if kind == "net":
        return _net(rng, picture, size, 0.0, height * (rng.uniform(0.45, 0.8) if rng.random() < 0.4 else 1.1))
    if kind == "cafe":
        return _net(rng, picture, size, rng.uniform(0.4, 0.55) * height, 1.1 * height)
    if kind == "drapes":
        return _drapes(rng, picture, size, color)
    if kind == "roller":
        return _roller(rng, picture, size, color)
    if kind == "venetian":
        return _venetian(rng, picture, size)
    return _lamellas(rng, picture, size, color) if kind == "vertical" else picture


def sill_things(rng: np.random.Generator, canvas: Canvas, base: float) -> None:
    """Draw plants, vases, books and figures that stand at the level `base`, on the sill inside."""
    for _ in range(int(rng.integers(1, 5))):
        x = rng.uniform(0.06, 0.94) * canvas.size[0]
        kind = rng.integers(0, 4)
        color = random_color(rng, 0.7, (0.25, 0.75))
        if kind <= 1:
            wide, tall = rng.uniform(0.05, 0.09), rng.uniform(0.08, 0.14)
            low, high = 0.7 * wide, base - tall
            canvas.polygon([[x - wide, high], [x + wide, high], [x + low, base], [x - low, base]], color)
            plant(rng, canvas, x, high)
        elif kind == 2:
            rx, ry = rng.uniform(0.03, 0.08), rng.uniform(0.06, 0.16)
            canvas.ellipse(x, base - ry, rx, ry, color)
            canvas.rect(x - rx * 0.4, base - 2.3 * ry, x + rx * 0.4, base - 1.6 * ry, color)
            canvas.ellipse(x - 0.3 * rx, base - 1.2 * ry, 0.25 * rx, 0.5 * ry, np.minimum(color * 1.5, 230))
        else:
            for k in range(int(rng.integers(2, 7))):
                left = x + 0.035 * k
                spine = random_color(rng, 0.8, (0.25, 0.8))
                canvas.rect(left, base - rng.uniform(0.12, 0.25), left + 0.03, base, spine)


def plant(rng: np.random.Generator, canvas: Canvas, x: float, y: float) -> None:
    """Draw leaves, and perhaps flowers, that grow from a point."""
    green = np.array((62, 92, 46)) * rng.uniform(0.7, 1.3) + rng.normal(0, 8, 3)
    width, tall = rng.uniform(0.4, 1.1), rng.uniform(0.12, 0.42)
    flower = random_color(rng, 0.9, (0.6, 0.9)) if rng.random() < 0.5 else None
    for _ in range(int(rng.integers(9, 26))):
        angle = -np.pi / 2 + rng.normal(0, 0.5 * width)
        length = tall * rng.uniform(0.4, 1.0)
        tip_x, tip_y = x + length * np.cos(angle), y + length * np.sin(angle)
        shade = green * rng.uniform(0.6, 1.35)
        size, turn = rng.uniform(0.015, 0.05), float(np.degrees(angle) + rng.normal(0, 30))
        canvas.line([[x, y], [tip_x, tip_y]], shade, 0.006)
        canvas.ellipse(tip_x, tip_y, size, 0.45 * size, shade, turn)
        if flower is not None and rng.random() < 0.4:
            canvas.ellipse(tip_x, tip_y, 0.022, 0.022, flower)
