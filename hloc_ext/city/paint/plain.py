"""Plain materials: bark, leaves, wood, metal, car paint, glass, rubber, cloth, skin, lamps."""

from __future__ import annotations

import cv2
import numpy as np

from .noise import Picture, Shape, blend, colored, finish, fractal, masonry, patches, specks, step


def bark(rng: np.random.Generator, number: int) -> Picture:
    """Bark with upright furrows; 0.6 m x 1.2 m."""
    shape = (256, 128)
    furrows = fractal(rng, shape, 1.0, longest=40, stretch=(1, 4))
    tone = ((112, 98, 82), (144, 138, 126))[number % 2]
    picture = colored(shape, tone) * (1 + 0.22 * furrows + 0.08 * fractal(rng, shape, 0.4))[..., None]
    picture *= (1 - 0.45 * patches(-np.abs(furrows - 0.2), 0.16, 0.1))[..., None]
    moss = patches(fractal(rng, shape, 1.2), 0.12, 0.4)
    return finish(blend(picture, (98, 106, 70), 0.5 * moss), (0.6, 1.2))


_LEAVES = ((76, 98, 44), (92, 112, 52), (64, 88, 50), (108, 112, 54), (134, 104, 48), (70, 90, 48))


def leaves(rng: np.random.Generator, number: int) -> Picture:
    """Foliage seen from close: leaves of many greens over each other, with gaps; 1 m."""
    side, scale = 256, 2
    big = side * scale
    tone = np.array(_LEAVES[number % len(_LEAVES)], float)
    layer = np.empty((big, big, 3), np.uint8)
    layer[:] = tone * 0.5
    count = 1500
    depth = np.sort(rng.uniform(0, 1, count))
    length = rng.uniform(0.026, 0.05, count) * big * (0.8, 1.0, 0.6, 1.1, 1.0, 0.45)[number % 6]
    for k in range(count):
        color = tone * (0.6 + 0.75 * depth[k]) * np.exp(rng.normal(0, 0.13)) + rng.normal(0, 6, 3) * (
            1,
            0.7,
            0.4,
        )
        x, y = rng.integers(0, big, 2)
        axes = (int(length[k]), int(length[k] * rng.uniform(0.3, 0.6)))
        angle = rng.uniform(0, 360)
        vein = color * 1.16
        for dx in (0, -big if x > big // 2 else big):
            for dy in (0, -big if y > big // 2 else big):
                at = (int(x + dx), int(y + dy))
                if not (-60 < at[0] < big + 60 and -60 < at[1] < big + 60):
                    continue
                cv2.ellipse(layer, at, axes, angle, 0, 360, np.clip(color, 8, 240), -1)
                tip = np.array((np.cos(np.radians(angle)), np.sin(np.radians(angle)))) * axes[0] * 0.8
                start, end = (np.array(at) - tip).astype(int), (np.array(at) + tip).astype(int)
                cv2.line(layer, start.tolist(), end.tolist(), np.clip(vein, 8, 240), 1)
    picture = cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    return finish(picture * (1 + 0.08 * fractal(rng, (side, side), 0.8))[..., None], (1.0, 1.0))


def wood(rng: np.random.Generator, number: int) -> Picture:
    """Upright planks with knots and nails; 1 m."""
    shape = (128, 128)
    cells = masonry(np.zeros(1), [np.arange(8) * 16.0], np.zeros(1), shape, None, 0.0)
    x = (np.arange(128, dtype=np.float32) + 0.5) % 16
    grain = fractal(rng, shape, 0.9, longest=30, stretch=(1, 12))
    each = np.exp(rng.normal(0, 0.1, 8)).astype(np.float32)[cells.index]
    tone = ((168, 138, 104), (176, 170, 158))[number % 2]
    picture = colored(shape, tone) * (each * (1 + 0.09 * grain))[..., None]
    picture *= (1 - 0.65 * (1 - step(np.minimum(x, 16 - x), 0.3, 1.3)))[None, :, None]
    picture = blend(picture, (84, 62, 44), 0.7 * specks(rng, shape, 14, (0.6, 2.2)))
    return finish(picture, (1.0, 1.0))


def metal(rng: np.random.Generator, number: int) -> Picture:
    """Galvanized or painted metal with scratches, dirt and rust; 1 m."""
    shape = (128, 128)
    level = (158, 184, 196)[number % 3]
    stains = fractal(rng, shape, 1.1)
    picture = colored(shape, (level, level + 1, level + 2)) * (1 + 0.05 * stains)[..., None]
    if number % 3 == 0:
        spangle = fractal(rng, shape, 0.2, longest=16, shortest=3)
        picture *= (1 + 0.05 * spangle)[..., None]
    rust = patches(fractal(rng, shape, 1.0), (0.02, 0.06, 0.03)[number % 3], 0.2)
    picture = blend(picture, (124, 80, 54), 0.75 * rust)
    return finish(picture * (1 - 0.3 * specks(rng, shape, 40, (0.4, 1.4)))[..., None], (1.0, 1.0))


def car_paint(rng: np.random.Generator, number: int) -> Picture:
    """Body of a car: even, with a little dirt; 1 m."""
    shape = (128, 128)
    picture = colored(shape, (214, 214, 214)) * (1 + 0.025 * fractal(rng, shape, 1.2))[..., None]
    return finish(picture * (1 - 0.1 * specks(rng, shape, 60, (0.4, 1.0)))[..., None], (1.0, 1.0))


def glass(rng: np.random.Generator, number: int) -> Picture:
    """Dark glass of cars and roofs; 1 m."""
    shape = (128, 128)
    return finish(colored(shape, (38, 44, 48)) * (1 + 0.12 * fractal(rng, shape, 1.3))[..., None], (1.0, 1.0))


def rubber(rng: np.random.Generator, number: int) -> Picture:
    """Tyres; 0.5 m."""
    shape = (128, 128)
    picture = colored(shape, (40, 40, 41)) * (1 + 0.1 * fractal(rng, shape, 0.7))[..., None]
    rows = (np.arange(128) % 16 < 2)[:, None, None]
    return finish(np.where(rows, picture * 0.7, picture), (0.5, 0.5))


def _woven(rng: np.random.Generator, shape: Shape, kind: int) -> np.ndarray:
    """Pattern of a cloth, around 1: plain, stripes, checks, print."""
    yy, xx = np.indices(shape)
    if kind == 1:
        return 1 + 0.22 * np.sign(np.sin(2 * np.pi * yy / 16))
    if kind == 2:
        return 1 + 0.12 * np.sign(np.sin(2 * np.pi * yy / 32)) + 0.12 * np.sign(np.sin(2 * np.pi * xx / 32))
    if kind == 3:
        return 1 - 0.4 * specks(rng, shape, 70, (2.0, 6.0))
    if kind == 4:
        return 1 + 0.1 * np.sin(2 * np.pi * (xx + yy) / 8)
    return np.ones(shape)


def cloth(rng: np.random.Generator, number: int) -> Picture:
    """Clothes: folds over plain, striped, checked or printed cloth; 0.6 m."""
    shape = (128, 128)
    folds = fractal(rng, shape, 1.2, longest=70, stretch=(1, 2.5))
    shade = (1 + 0.07 * folds + 0.05 * fractal(rng, shape, 0.2)) * _woven(rng, shape, number % 6)
    return finish(colored(shape, (188, 187, 185)) * shade[..., None], (0.6, 0.6))


def skin(rng: np.random.Generator, number: int) -> Picture:
    """Faces and hands; 0.3 m."""
    shape = (128, 128)
    tone = ((206, 160, 134), (128, 86, 64))[number % 2]
    return finish(colored(shape, tone) * (1 + 0.05 * fractal(rng, shape, 1.2))[..., None], (0.3, 0.3))


def lamp_glass(rng: np.random.Generator, number: int) -> Picture:
    """Glass of a lamp; 0.4 m."""
    shape = (128, 128)
    return finish(
        colored(shape, (236, 230, 214)) * (1 + 0.02 * fractal(rng, shape, 1.2))[..., None], (0.4, 0.4)
    )
