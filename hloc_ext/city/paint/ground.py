"""Ground: asphalt, paving, cobbles, grass, soil, kerbs, water, road paint, covers, patches."""

from __future__ import annotations

import cv2
import numpy as np

from .noise import (
    Cells,
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
    wander,
    wrapped_lines,
)


def _aggregate(rng: np.random.Generator, shape: Shape, level: float, contrast: float) -> Field:
    """Asphalt: light and dark stones in bitumen."""
    grain = fractal(rng, shape, 0.15, longest=12)
    stones = np.sign(grain) * np.abs(grain) ** 1.4
    picture = colored(shape, (level + 1.5, level, level - 2.0))
    picture *= (1 + contrast * stones)[..., None]
    chips = specks(rng, shape, shape[0] * shape[1] // 220, (0.5, 1.3))
    tones = fractal(rng, shape, 0.0, shortest=4)
    return blend(picture, (150, 144, 134), 0.4 * chips * step(tones, -0.5, 1.0))


def asphalt(rng: np.random.Generator, number: int) -> Picture:
    """Worn asphalt with cracks, sealed joints, oil and polished stones; 6 m x 3 m."""
    shape, size = (512, 1024), (6.0, 3.0)
    picture = _aggregate(rng, shape, (92, 104, 84)[number % 3] + rng.uniform(-4, 4), 0.13)
    wear = fractal(rng, shape, 1.1)
    picture *= (1 + 0.07 * wear)[..., None]
    picture *= (1 - 0.16 * patches(fractal(rng, shape, 1.2), 0.06, 0.4))[..., None]
    lines = cracks(rng, shape, (5, 9, 3)[number % 3], 150)
    picture = blend(picture, (46, 45, 44), 0.8 * lines * step(wear, -1.5, 0.5))
    net = voronoi(jittered(rng, shape, 44, 22, 1.0), shape)
    crazed = patches(fractal(rng, shape, 1.3), 0.05, 0.2)
    picture = blend(picture, (50, 49, 48), 0.7 * crazed * (1 - step(net.edge, 0.3, 1.6)))
    gum = specks(rng, shape, 50, (0.8, 2.2))
    picture = blend(picture, (62, 60, 58), 0.6 * gum)
    if number % 3 == 1:
        line = wander(rng, rng.uniform(0, 1, 2) * (1024, 512), 500, 12, 0.06, rng.uniform(0, 6.3))
        picture = blend(picture, (52, 51, 52), 0.8 * wrapped_lines(shape, [line], 5))
    return finish(picture, size)


def patch(rng: np.random.Generator, number: int) -> Picture:
    """Repaired asphalt, newer and darker or older and lighter; 4 m."""
    shape = (256, 256)
    picture = _aggregate(rng, shape, (66, 78, 112, 72)[number % 4], 0.12)
    picture *= (1 + 0.06 * fractal(rng, shape, 1.1))[..., None]
    lines = cracks(rng, shape, (0, 2, 5, 1)[number % 4], 90)
    return finish(blend(picture, (44, 43, 43), 0.7 * lines), (4.0, 4.0))


def paving(rng: np.random.Generator, number: int) -> Picture:
    """Slabs, small slabs, interlocking or herringbone bricks, old granite slabs; 3 to 4 m."""
    shape = (512, 512)
    kind = number % 5
    size = (4.0, 4.0) if kind in (0, 4) else (3.2, 3.2)
    cells = (_slabs, _running, _herringbone, _running, _granite)[kind](rng, shape, kind)
    tone = ((158, 154, 146), (146, 140, 132), (140, 106, 90), (130, 126, 122), (148, 142, 138))[kind]
    each = np.array(tone) * np.exp(rng.normal(0, (0.05, 0.07, 0.12, 0.1, 0.09)[kind], (cells.count, 1)))
    each = each + rng.normal(0, 3, (cells.count, 1)) * (1.0, 0.2, -0.8)
    odd = rng.random(cells.count) < 0.03
    each[odd] *= rng.uniform(0.75, 1.15, (int(odd.sum()), 1))
    grain, coarse = fractal(rng, shape, 0.35), fractal(rng, shape, 1.2)
    picture = each[cells.index].astype(np.float32)
    picture *= (1 + 0.05 * grain + 0.045 * coarse)[..., None]
    gap = (1.3, 1.0, 0.9, 1.1, 1.5)[kind]
    picture *= (1 + np.clip(relief(step(cells.edge, 0, 3.5), 0.4), -0.3, 0.2))[..., None]
    joint = 1 - step(cells.edge + 0.25 * grain + 0.3 * coarse, gap * 0.5, gap * 1.7)
    picture = blend(picture, np.array((84, 78, 70)) * (1 + 0.12 * grain[..., None]), 0.9 * joint)
    weeds = joint * patches(fractal(rng, shape, 1.2), 0.14, 0.2)
    picture = blend(picture, (84, 100, 54), 0.8 * weeds)
    broken = cracks(rng, shape, 5, 60)
    picture = blend(picture, (70, 66, 62), 0.7 * broken)
    picture = blend(picture, (78, 74, 70), 0.55 * specks(rng, shape, 90, (0.7, 2.4)))
    stains = patches(fractal(rng, shape, 1.3), 0.08, 0.3)
    return finish(picture * (1 - 0.13 * stains)[..., None], size)


def _slabs(rng: np.random.Generator, shape: Shape, kind: int) -> Cells:
    """Square slabs of 50 cm, staggered."""
    warp = ripples(rng, shape, 0.5, shortest=8)
    offsets = np.arange(8) % 2 * 32 + rng.normal(0, 0.7, 8)
    return masonry(np.arange(8) * 64.0, [np.arange(8) * 64.0] * 8, offsets, shape, warp, 2.0)


def _running(rng: np.random.Generator, shape: Shape, kind: int) -> Cells:
    """Blocks of 20 cm x 10 cm, or 40 cm x 20 cm, in running bond."""
    columns, rows = (8, 16) if kind == 1 else (16, 32)
    warp = ripples(rng, shape, 0.5)
    wide = 512 / columns
    joints = []
    for _ in range(rows):
        edges = np.arange(columns) * wide + rng.normal(0, 0.4, columns)
        edges[0] = 0
        joints.append(edges)
    offsets = np.arange(rows) % 2 * wide / 2 + rng.normal(0, 0.8, rows)
    return masonry(np.arange(rows) * (512 / rows), joints, offsets, shape, warp, 2.0)


def _herringbone(rng: np.random.Generator, shape: Shape, kind: int) -> Cells:
    """Bricks of 20 cm x 10 cm, at right angles to each other."""
    unit = 16
    warp = ripples(rng, shape, 0.4)
    yy, xx = np.indices(shape, dtype=np.float32)
    x, y = (xx + 0.5 + warp[0]) % shape[1], (yy + 0.5 + warp[1]) % shape[0]
    column, row = (x // unit).astype(int), (y // unit).astype(int)
    phase = (column - row) % 4
    lying = phase < 2
    left = np.where(lying, column - phase, column)
    top = np.where(lying, row, row - (3 - phase))
    fx = x - left * unit
    fy = y - top * unit
    edge = np.minimum(
        np.minimum(fx, np.where(lying, 2 * unit, unit) - fx),
        np.minimum(fy, np.where(lying, unit, 2 * unit) - fy),
    )
    cells = shape[1] // unit
    index = (top % cells) * cells + left % cells
    return Cells(index.astype(np.int32), edge.astype(np.float32), cells * cells)


def _granite(rng: np.random.Generator, shape: Shape, kind: int) -> Cells:
    """Old slabs of unequal length in courses."""
    rows = np.concatenate([[0], np.cumsum(rng.uniform(48, 80, 7))])
    rows = rows[:-1] * (512 / rows[-1])
    joints = []
    for _ in rows:
        edges = np.concatenate([[0], np.cumsum(rng.uniform(60, 130, 5))])
        joints.append(edges[:-1] * (512 / edges[-1]))
    warp = ripples(rng, shape, 1.2, shortest=8)
    return masonry(rows, joints, rng.uniform(0, 512, len(rows)), shape, warp, 4.0)


def cobble(rng: np.random.Generator, number: int) -> Picture:
    """Cobblestones, in rows or in loose arches; 2.6 m."""
    shape = (512, 512)
    if number % 2:
        cells = voronoi(jittered(rng, shape, 24, 24, 0.35), shape)
    else:
        rows = np.arange(22) * (512 / 22)
        joints = []
        for _ in rows:
            edges = np.concatenate([[0], np.cumsum(rng.uniform(18, 34, 19))])
            joints.append(edges[:-1] * (512 / edges[-1]))
        warp = ripples(rng, shape, 1.6, longest=200)
        cells = masonry(rows, joints, rng.uniform(0, 512, 22), shape, warp, 7.0)
    each = np.array((128, 122, 118)) * np.exp(rng.normal(0, 0.15, (cells.count, 1)))
    each = each + rng.normal(0, 5, (cells.count, 1)) * (1.0, 0.1, -0.9)
    grain, coarse = fractal(rng, shape, 0.5), fractal(rng, shape, 1.2)
    picture = each[cells.index].astype(np.float32) * (1 + 0.07 * grain + 0.05 * coarse)[..., None]
    dome = np.sqrt(np.clip(cells.edge / 10, 0, 1))
    picture *= (0.75 + 0.3 * dome + np.clip(relief(dome * 2, 0.4), -0.3, 0.3))[..., None]
    joint = 1 - step(cells.edge + 0.5 * coarse, 1.0, 3.4)
    picture = blend(picture, np.array((80, 72, 62)) * (1 + 0.15 * grain[..., None]), joint)
    weeds = joint * patches(fractal(rng, shape, 1.2), 0.12, 0.3)
    return finish(blend(picture, (80, 94, 52), 0.8 * weeds), (2.6, 2.6))


def grass(rng: np.random.Generator, number: int) -> Picture:
    """Lawn, meadow with dry patches, or trodden grass with bare soil; 4 m."""
    shape = (512, 512)
    tone = ((88, 103, 60), (104, 108, 66), (93, 100, 62))[number % 3]
    tufts, blades = fractal(rng, shape, 1.0), fractal(rng, shape, 0.2, longest=14, stretch=(1, 2))
    picture = colored(shape, tone) * (1 + 0.12 * tufts + 0.17 * blades)[..., None]
    dry = patches(fractal(rng, shape, 1.2) + 0.15 * blades, (0.1, 0.3, 0.2)[number % 3], 0.4)
    picture = blend(picture, np.array((144, 132, 88)) * (1 + 0.12 * blades[..., None]), 0.6 * dry)
    clover = patches(fractal(rng, shape, 1.0, longest=100), 0.12, 0.2)
    picture = blend(picture, np.array((60, 86, 46)) * (1 + 0.15 * blades[..., None]), 0.6 * clover)
    if number % 3 == 2:
        bare = patches(fractal(rng, shape, 1.2) + 0.2 * blades, 0.14, 0.2)
        picture = blend(picture, np.array((118, 100, 78)) * (1 + 0.1 * blades[..., None]), 0.85 * bare)
    flowers = specks(rng, shape, (40, 220, 60)[number % 3], (0.6, 1.5))
    picture = blend(picture, ((224, 222, 206), (218, 190, 60), (204, 200, 180))[number % 3], flowers)
    litter = specks(rng, shape, 90, (0.6, 1.6)) * step(tufts, -0.5, 0.5)
    return finish(blend(picture, (136, 98, 56), 0.7 * litter), (4.0, 4.0))


def soil(rng: np.random.Generator, number: int) -> Picture:
    """Earth, sand or a gravel path; 4 m."""
    shape = (512, 512)
    tone = ((110, 92, 72), (176, 158, 126), (146, 136, 120))[number % 3]
    grain, coarse = fractal(rng, shape, 0.5), fractal(rng, shape, 1.2)
    picture = colored(shape, tone) * (1 + 0.09 * grain + 0.08 * coarse)[..., None]
    picture *= (1 + np.clip(relief(fractal(rng, shape, 1.0, longest=80), 0.2), -0.2, 0.2))[..., None]
    if number % 3 == 2:
        cells = voronoi(rng.uniform(0, 512, (14000, 2)), shape)
        each = rng.normal(0, 0.15, cells.count).astype(np.float32)[cells.index]
        picture *= ((1 + each) * (0.72 + 0.28 * step(cells.edge, 0, 1.8)))[..., None]
    stones = specks(rng, shape, 500, (0.7, 3.0))
    picture = blend(picture, np.array((150, 144, 136)) * (1 + 0.12 * grain[..., None]), 0.7 * stones)
    weeds = patches(fractal(rng, shape, 1.1) + 0.2 * grain, 0.06, 0.15)
    return finish(blend(picture, (84, 94, 52), 0.6 * weeds), (4.0, 4.0))


def kerb(rng: np.random.Generator, number: int) -> Picture:
    """Kerb stones of about 1 m along u; 4 m x 0.25 m."""
    shape = (32, 512)
    edges = np.array([0, 126, 259, 383]) + rng.normal(0, 4, 4)
    edges[0] = 0
    warp = (0.6 * fractal(rng, shape, 1.0, shortest=4), np.zeros(shape, np.float32))
    cells = masonry(np.zeros(1), [edges], np.zeros(1), shape, warp, 0.0)
    x_edge = cells.edge + 0
    each = np.array((150, 147, 142)) * np.exp(rng.normal(0, 0.08, (4, 1)))
    picture = each[cells.index].astype(np.float32)
    picture *= (1 + 0.06 * fractal(rng, shape, 0.4) + 0.05 * fractal(rng, shape, 1.1))[..., None]
    gaps = np.min(np.abs((np.arange(512)[None] - edges[:, None] + 256) % 512 - 256), axis=0)
    picture = blend(picture, (70, 66, 62), np.broadcast_to(1 - step(gaps, 0.8, 2.4), shape))
    scuffs = patches(fractal(rng, shape, 1.0, stretch=(6, 1)), 0.1, 0.2) * step(x_edge, 0, 2)
    return finish(blend(picture, (60, 58, 57), 0.5 * scuffs), (4.0, 0.25))


def water(rng: np.random.Generator, number: int) -> Picture:
    """Water of a pond: dark, rippled, with floating leaves; 5 m."""
    shape = (256, 256)
    ripples = fractal(rng, shape, 1.2, longest=40, shortest=4, stretch=(2.5, 1))
    picture = colored(shape, (58, 72, 66)) * (1 + 0.12 * ripples + 0.08 * fractal(rng, shape, 1.3))[..., None]
    return finish(blend(picture, (110, 116, 66), 0.7 * specks(rng, shape, 60, (0.6, 1.6))), (5.0, 5.0))


def marking(rng: np.random.Generator, number: int) -> Picture:
    """Worn white road paint; 1 m."""
    shape = (256, 256)
    grain, wear = fractal(rng, shape, 0.3, longest=16), fractal(rng, shape, 1.1)
    picture = colored(shape, (204, 203, 197)) * (1 + 0.05 * grain + 0.05 * wear)[..., None]
    lost = patches(wear + 0.8 * grain, (0.03, 0.08, 0.17)[number % 3], 0.25)
    road = _aggregate(rng, shape, 98, 0.1)
    picture = blend(picture, road, lost)
    return finish(blend(picture, (96, 94, 92), 0.7 * cracks(rng, shape, 4, 90)), (1.0, 1.0))


def manhole(rng: np.random.Generator, number: int) -> Picture:
    """Cast-iron cover with a pattern of studs in its frame; 0.8 m, surrounded by asphalt."""
    side, shape = 512, (128, 128)
    mask = np.full((side, side), 60, np.uint8)
    center = (side // 2, side // 2)
    cv2.circle(mask, center, 250, 105, -1)
    cv2.circle(mask, center, 226, 40, 8)
    cv2.circle(mask, center, 218, 92, -1)
    if number % 3 == 0:
        for y in range(40, side, 36):
            for x in range(40 + (y // 36 % 2) * 18, side, 36):
                if np.hypot(x - 256, y - 256) < 196:
                    cv2.rectangle(mask, (x - 10, y - 10), (x + 10, y + 10), 138, -1)
    else:
        for ring in range(1, 6):
            for k in range(4 + 6 * ring):
                angle = 2 * np.pi * k / (4 + 6 * ring) + (ring % 2) * 0.2
                x, y = 256 + 34 * ring * np.cos(angle), 256 + 34 * ring * np.sin(angle)
                if number % 3 == 1:
                    cv2.circle(mask, (int(x), int(y)), 11, 136, -1)
                else:
                    end = (int(x + 22 * np.sin(angle)), int(y - 22 * np.cos(angle)))
                    cv2.line(mask, (int(x), int(y)), end, 136, 9)
    for _ in range(6):
        x, y = rng.integers(120, 392, 2)
        cv2.putText(mask, chr(65 + int(rng.integers(0, 26))), (int(x), int(y)), 0, 1.4, 150, 6)
    cv2.rectangle(mask, (246, 60), (266, 84), 25, -1)
    grey = cv2.resize(mask, shape, interpolation=cv2.INTER_AREA).astype(np.float32)
    yy, xx = np.indices(shape)
    iron = 1 - step(np.hypot(xx - 63.5, yy - 63.5), 61.0, 63.0)
    picture = grey[..., None] * np.array((1.03, 1.0, 0.96), np.float32)
    picture *= (1 + 0.08 * fractal(rng, shape, 0.6))[..., None]
    rust = patches(fractal(rng, shape, 1.1), 0.2, 0.3)
    picture = blend(picture, (116, 80, 58), 0.22 * rust)
    return finish(blend(_aggregate(rng, shape, 86, 0.1), picture, iron), (0.8, 0.8))
