"""Walls: brick, plaster, stone, concrete, panels, boards."""

from __future__ import annotations

import numpy as np

from .noise import (
    Cells,
    Color,
    Field,
    Picture,
    Shape,
    blend,
    colored,
    cracks,
    finish,
    fractal,
    jittered,
    masonry,
    patches,
    relief,
    ripples,
    specks,
    step,
    voronoi,
)

#: Colours of bricks: (most of them, the odd ones, mortar).
_BRICKS: tuple[tuple[Color, Color, Color], ...] = (
    ((150, 100, 80), (110, 76, 66), (170, 162, 150)),
    ((164, 114, 88), (188, 146, 114), (178, 170, 156)),
    ((130, 84, 70), (86, 68, 64), (140, 134, 126)),
    ((176, 156, 122), (150, 126, 96), (168, 160, 146)),
    ((146, 98, 82), (122, 100, 92), (112, 108, 104)),
    ((192, 181, 162), (170, 152, 130), (188, 182, 172)),
)


def _brick_bond(rng: np.random.Generator, shape: Shape, size: tuple[float, float], wobble: float) -> Cells:
    """Bricks of 25 cm x 7.5 cm with joints, in one of four bonds."""
    height, width = shape
    per_row = round(size[0] / 0.25)
    count = 2 * round(size[1] / 0.15)
    long = width / per_row
    rows = np.arange(count) * (height / count)
    bond = rng.choice(["stretcher", "flemish", "english", "third"])
    joints, offsets = [], []
    for row in range(count):
        stretchers = np.arange(per_row) * long
        headers = np.arange(2 * per_row) * long / 2
        if bond == "flemish":
            pairs = np.arange(round(per_row / 1.5)) * (width / round(per_row / 1.5))
            joints.append(np.sort(np.concatenate([pairs, pairs + width / round(per_row / 1.5) * 2 / 3])))
            offsets.append((row % 2) * width / round(per_row / 1.5) / 2)
        elif bond == "english":
            joints.append(stretchers if row % 2 else headers)
            offsets.append(0.0 if row % 2 else long / 4)
        else:
            joints.append(stretchers)
            offsets.append((row % 2) * long / (2 if bond == "stretcher" else 3))
    for row in range(count):
        joints[row] = joints[row] + rng.normal(0, long * 0.008, len(joints[row]))
        joints[row][0] = 0
        offsets[row] += rng.normal(0, long * 0.01)
    warp = ripples(rng, shape, wobble, 1.1, longest=200, shortest=9)
    return masonry(rows, joints, offsets, shape, warp, 3.0)


def brick(rng: np.random.Generator, number: int) -> Picture:
    """Bonded bricks of one colour scheme, 4 m x 2 m."""
    shape, size = (512, 1024), (4.0, 2.0)
    usual, odd, mortar = _BRICKS[number % len(_BRICKS)]
    cells = _brick_bond(rng, shape, size, rng.uniform(0.5, 0.9))
    kind = np.clip(rng.normal(rng.uniform(-0.1, 0.3), 0.4, cells.count), 0, 1)[:, None]
    bricks = np.array(usual) * (1 - kind) + np.array(odd) * kind
    bricks = bricks * np.exp(rng.normal(0, 0.1, (cells.count, 1)))
    bricks += rng.normal(0, 4, (cells.count, 1)) * (1.0, 0.1, -0.7)
    rare = rng.random(cells.count) < rng.uniform(0.01, 0.08)
    bricks[rare] *= rng.uniform(0.55, 0.8)
    grain = fractal(rng, shape, 0.5)
    coarse = fractal(rng, shape, 1.0, longest=60)
    picture = bricks[cells.index].astype(np.float32)
    picture *= (1 + 0.055 * grain + 0.05 * coarse)[..., None]
    joint = 1 - step(cells.edge + 0.15 * grain + 0.3 * coarse, 0.8, 2.3)
    bed = colored(shape, mortar) * (1 + 0.07 * fractal(rng, shape, 0.4))[..., None] * 0.93
    picture = blend(picture, bed, joint)
    height = step(cells.edge, 0.5, 4.0) * 1.0 + 0.06 * grain
    picture *= (1 + np.clip(relief(height, 0.55), -0.45, 0.3))[..., None]
    chips = patches(fractal(rng, shape, 1.0, longest=20, shortest=3), 0.012, 0.1) * (1 - joint)
    picture = blend(picture, np.array(usual) * rng.choice([0.7, 1.25]), 0.7 * chips)
    bloom = patches(fractal(rng, shape, 1.3), 0.1, 0.6) * np.clip(0.5 + 0.4 * grain, 0, 1)
    picture = blend(picture, (205, 200, 190), rng.uniform(0.05, 0.25) * bloom)
    soot = patches(fractal(rng, shape, 1.2), 0.3, 0.9)
    return finish(picture * (1 - rng.uniform(0.05, 0.2) * soot)[..., None], size)


def plaster(rng: np.random.Generator, number: int) -> Picture:
    """Rendered wall: smooth, floated or roughcast; 4 m x 4 m, or twice as wide."""
    wide = number < 2
    shape, size = ((512, 1024), (8.0, 4.0)) if wide else ((512, 512), (4.0, 4.0))
    warmth = rng.uniform(-1, 10)
    level = rng.uniform(176, 206)
    picture = colored(shape, (level + warmth, level + 0.4 * warmth, level - warmth))
    rough = (0.35, 1.0, 1.9, 0.6, 1.4, 0.8)[number % 6]
    if number % 3 == 1:
        grain = fractal(rng, shape, 0.7, shortest=1.5, stretch=(2.5, 1.0))
    else:
        grain = fractal(rng, shape, 0.3, shortest=1.2)
    picture *= (1 + 0.012 * rough * relief(grain, 1.0) + 0.012 * rough * grain)[..., None]
    clouds = fractal(rng, shape, 1.1)
    picture *= (1 + 0.035 * clouds)[..., None]
    trowel = fractal(rng, shape, 1.0, longest=50, shortest=4, stretch=(2.0, 1.0))
    picture *= (1 + rng.uniform(0.001, 0.009) * np.clip(relief(trowel, 8.0), -2, 2))[..., None]
    repaired = patches(fractal(rng, shape, 1.4), 0.05, 0.03)
    picture *= (1 + rng.uniform(-0.07, 0.05) * repaired)[..., None]
    lines = cracks(rng, shape, int(rng.integers(3, 7)) * (2 if wide else 1), 110)
    picture = blend(picture, picture * 0.62, lines * (0.5 + 0.4 * np.clip(clouds, -1, 1)))
    lost = patches(fractal(rng, shape, 1.2, shortest=3), rng.uniform(0, 0.006), 0.05)
    picture = blend(picture, np.array((150, 138, 124)) * (1 + 0.05 * grain[..., None]), lost)
    picture *= (1 - 0.18 * specks(rng, shape, 140, (0.5, 1.6)))[..., None]
    return finish(picture, size)


def stone(rng: np.random.Generator, number: int) -> Picture:
    """Ashlar in courses of unequal height, or rubble; 6 m x 3 m or 3 m x 3 m."""
    shape, size = ((512, 1024), (6.0, 3.0)) if number < 2 else ((512, 512), (3.0, 3.0))
    tone = ((186, 176, 156), (160, 156, 150), (176, 158, 130), (138, 128, 116))[number % 4]
    rubble = number % 4 == 3 or number % 4 == 1
    warp = ripples(rng, shape, 3.0 if rubble else 0.6, 1.4, longest=90, shortest=12)
    pixel = shape[0] / size[1]
    if number % 4 == 3:
        cells = voronoi(jittered(rng, shape, 11, 15, 0.9), shape)
        pick = (np.indices(shape)[::-1] + np.stack(warp)).astype(int)
        at = (pick[1] % shape[0], pick[0] % shape[1])
        cells = Cells(cells.index[at], cells.edge[at], cells.count)
    else:
        heights = rng.uniform(0.17, 0.24, 16) if rubble else rng.choice([0.3, 0.35, 0.45], 16)
        count = int(np.searchsorted(np.cumsum(heights), size[1]))
        heights = heights[:count] / heights[:count].sum() * shape[0]
        rows = np.concatenate([[0], np.cumsum(heights)[:-1]])
        joints = [
            _cuts(rng, shape[1], (0.2 if rubble else 0.45) * pixel, (0.5 if rubble else 0.95) * pixel)
            for _ in rows
        ]
        cells = masonry(rows, joints, rng.uniform(0, shape[1], count), shape, warp, 8.0 if rubble else 2.0)
    return finish(_stones(rng, cells, tone, shape, rubble), size)


def _cuts(rng: np.random.Generator, length: float, low: float, high: float) -> Field:
    """Left edges, from 0, of pieces of random length that fill a length."""
    pieces = rng.uniform(low, high, int(length / low) + 2)
    count = max(int(np.searchsorted(np.cumsum(pieces), length)), 1)
    edges = np.concatenate([[0], np.cumsum(pieces[:count])])
    return (edges[:-1] * (length / edges[-1])).astype(np.float32)


def _stones(rng: np.random.Generator, cells: Cells, tone: Color, shape: Shape, rubble: bool) -> Field:
    """Colour, joints and hewn faces of stones."""
    each = np.array(tone) * np.exp(rng.normal(0, 0.13 if rubble else 0.06, (cells.count, 1)))
    each = each + rng.normal(0, 4 if rubble else 3, (cells.count, 1)) * (1.0, 0.3, -0.9)
    picture = each[cells.index].astype(np.float32)
    grain, coarse = fractal(rng, shape, 0.6), fractal(rng, shape, 1.1, longest=120)
    picture *= (1 + 0.05 * grain + 0.06 * coarse)[..., None]
    tilt = rng.normal(0, 1, (cells.count, 1)).astype(np.float32)[cells.index, 0]
    width = 3.2 if rubble else 1.6
    joint = 1 - step(cells.edge + 0.5 * coarse, width * 0.5, width * 1.6)
    height = 1.6 * step(cells.edge, 0, 9 if rubble else 3) + (0.3 if rubble else 0.16) * coarse + 0.1 * grain
    picture *= (1 + np.clip(relief(height, 0.45), -0.5, 0.35) + 0.03 * tilt)[..., None]
    mortar = colored(shape, (150, 145, 135)) * (0.82 + 0.05 * grain)[..., None]
    picture = blend(picture, mortar, 0.9 * joint)
    pits = patches(fractal(rng, shape, 0.6, longest=14, shortest=2), 0.03, 0.2)
    picture *= (1 - 0.25 * pits)[..., None]
    grime = patches(fractal(rng, shape, 1.3), 0.25, 0.8)
    return blend(picture, (70, 66, 60), 0.22 * grime)


def concrete(rng: np.random.Generator, number: int) -> Picture:
    """Exposed concrete with joints of the formwork, tie holes and air bubbles; 4 m x 4 m."""
    shape, size = (512, 512), (4.0, 4.0)
    level = rng.uniform(138, 168)
    picture = colored(shape, (level + 2, level, level - 5))
    boards = number % 3 == 1
    columns, rows = ((2, 16), (2, 2), (3, 4))[(1, 0, 2)[number % 3]]
    cells = masonry(
        np.arange(rows) * (512 / rows),
        [np.arange(columns) * (512 / columns)] * rows,
        rng.uniform(0, 512, rows) if boards else np.zeros(rows),
        shape,
        None,
        0.0,
    )
    each = rng.normal(0, 6 if boards else 4, cells.count).astype(np.float32)
    picture += each[cells.index][..., None]
    stains, grain = fractal(rng, shape, 1.2), fractal(rng, shape, 0.5)
    picture *= (1 + 0.07 * stains + 0.025 * grain)[..., None]
    if boards:
        wood = fractal(rng, shape, 0.9, longest=40, stretch=(14, 1))
        picture *= (1 + 0.03 * wood)[..., None]
    runs = fractal(rng, shape, 1.0, longest=120, stretch=(1, 10))
    picture *= (1 - 0.06 * step(runs, 0.4, 2.0))[..., None]
    line = 1 - step(cells.edge + 0.3 * grain, 0.4, 1.8)
    picture = blend(picture, picture * 0.6, line * (0.5 if boards else 0.9))
    bubbles = specks(rng, shape, 700, (0.4, 1.8))
    picture *= (1 - 0.4 * bubbles)[..., None]
    if not boards:
        holes = np.zeros(shape, np.float32)
        grid = (np.arange(4) * 128 + 64, np.arange(4) * 128 + 64)
        yy, xx = np.indices(shape)
        for x in grid[0]:
            for y in grid[1]:
                holes = np.maximum(holes, 1 - step(np.hypot(xx - x, yy - y), 2.2, 3.6))
        picture = blend(picture, picture * 0.45, holes)
    lines = cracks(rng, shape, 4, 160)
    return finish(blend(picture, picture * 0.55, lines * 0.7), size)


def panel(rng: np.random.Generator, number: int) -> Picture:
    """Prefabricated slabs with sealed joints, or metal cassettes or corrugated sheets; about 4 m."""
    shape = (512, 512)
    if number % 3 == 1:
        return _corrugated(rng)
    columns, rows, size = ((1, 1, (3.2, 2.8)), (1, 1, (1, 1)), (3, 4, (4.2, 2.8)))[number % 3]
    level = rng.uniform(160, 195)
    picture = colored(shape, (level + 3, level, level - 6))
    cells = masonry(
        np.arange(rows) * (512 / rows), [np.arange(columns) * (512 / columns)] * rows, np.zeros(rows), shape
    )
    grain, stains = fractal(rng, shape, 0.3), fractal(rng, shape, 1.2)
    each = rng.normal(0, 5, cells.count).astype(np.float32)
    picture += each[cells.index][..., None]
    if number % 3 == 0:
        pebbles = voronoi(rng.uniform(0, 512, (9000, 2)), shape)
        tone = rng.normal(0, 0.12, pebbles.count).astype(np.float32)
        picture *= (1 + tone[pebbles.index] * step(pebbles.edge, 0, 1.5))[..., None]
    picture *= (1 + 0.045 * stains + 0.02 * grain)[..., None]
    rim = step(cells.edge, 0, 14)
    picture *= (0.93 + 0.07 * rim)[..., None]
    picture *= (1 + np.clip(relief(step(cells.edge, 2, 7), 1.1), -0.35, 0.25))[..., None]
    picture = blend(picture, (92, 90, 86), 1 - step(cells.edge + 0.3 * grain, 2.0, 3.6))
    drips = fractal(rng, shape, 0.9, longest=100, stretch=(1, 12))
    return finish(picture * (1 - 0.08 * step(drips, 0.5, 2.0))[..., None], size)


def _corrugated(rng: np.random.Generator) -> Picture:
    """Trapezoidal sheet metal, upright, with screws and rust."""
    shape = (512, 512)
    x = np.arange(512, dtype=np.float32)[None] / 512
    wave = np.clip(1.6 * np.sin(2 * np.pi * 16 * x), -1, 1)
    shade = 0.11 * (np.roll(wave, 3, 1) - np.roll(wave, -3, 1)) + 0.03 * wave
    picture: Field = colored(shape, (182, 184, 186)) * (1 + np.broadcast_to(shade, shape))[..., None]
    dirt = fractal(rng, shape, 1.2)
    runs = fractal(rng, shape, 1.0, longest=150, stretch=(1, 14))
    picture *= (1 + 0.04 * dirt - 0.09 * step(runs, 0.3, 2.2))[..., None]
    yy, xx = np.indices(shape, np.float32)
    screws = np.hypot((xx - 8) % 32 - 16, (yy - 40) % 256 - 128)
    picture = blend(picture, (96, 94, 92), 1 - step(screws, 1.2, 2.6))
    lap = np.abs(yy - 250)
    picture *= (1 - 0.4 * (1 - step(lap, 0.5, 2.5)))[..., None]
    rust = patches(fractal(rng, shape, 1.1, longest=60), 0.015, 0.2)
    return finish(blend(picture, (128, 84, 58), 0.7 * rust), (4.0, 4.0))


def siding(rng: np.random.Generator, number: int) -> Picture:
    """Horizontal boards, overlapping or tongue and groove, with butt joints and nails; 4 m x 4 m."""
    shape, size = (512, 512), (4.0, 4.0)
    count = (26, 34)[number % 2]
    rows = np.arange(count) * (512 / count)
    joints = [_cuts(rng, 512, 190, 420) for _ in rows]
    warp = (np.zeros(shape, np.float32), 0.5 * fractal(rng, shape, 1.2, stretch=(12, 1)))
    cells = masonry(rows, joints, rng.uniform(0, 512, count), shape, warp, 0.0)
    picture = colored(shape, (196, 194, 188))
    each = rng.normal(0, 0.045, cells.count).astype(np.float32)
    wood = fractal(rng, shape, 0.9, longest=30, stretch=(16, 1))
    wear = fractal(rng, shape, 1.2)
    picture *= (1 + each[cells.index] + 0.03 * wood + 0.03 * wear)[..., None]
    lap = (np.arange(512, dtype=np.float32)[:, None] + 0.5 + warp[1]) % (512 / count) / (512 / count)
    picture *= (0.62 + 0.38 * step(lap, 0.02, 0.22) + 0.05 * step(lap, 0.7, 0.97))[..., None]
    picture = blend(picture, picture * 0.6, 0.8 * (1 - step(cells.edge, 0.3, 1.3)))
    peeled = patches(fractal(rng, shape, 1.0, longest=70, stretch=(4, 1)), 0.025, 0.12)
    picture = blend(picture, np.array((140, 124, 104)) * (1 + 0.1 * wood[..., None]), 0.8 * peeled)
    return finish(picture * (1 - 0.4 * specks(rng, shape, 120, (0.6, 1.3)))[..., None], size)
