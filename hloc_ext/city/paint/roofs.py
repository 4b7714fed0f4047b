"""Roofs: tiles, felt, gravel, metal sheets."""

from __future__ import annotations

import numpy as np

from .noise import (
    Picture,
    blend,
    colored,
    finish,
    fractal,
    masonry,
    patches,
    relief,
    ripples,
    specks,
    step,
    voronoi,
)

_TILES = ((148, 94, 74), (114, 76, 64), (96, 93, 91), (160, 112, 86))


def roof_tile(rng: np.random.Generator, number: int) -> Picture:
    """Pantiles, plain tiles or slates with moss; 4 m x 4 m, v down the slope."""
    shape, size = (512, 512), (4.0, 4.0)
    profile = number % 4
    columns, count = ((16, 12), (24, 26), (14, 20), (20, 14))[profile]
    wide, tall = 512 / columns, 512 / count
    staggered = profile in (1, 2)
    offsets = np.array([(row % 2) * wide / 2 if staggered else 0.0 for row in range(count)])
    offsets += rng.normal(0, wide * 0.02, count)
    joints = [np.arange(columns) * wide for _ in range(count)]
    warp = ripples(rng, shape, 0.8, 0.9, shortest=5)
    cells = masonry(np.arange(count) * tall, joints, offsets, shape, warp, 2.0)
    each = np.array(_TILES[profile]) * np.exp(rng.normal(0, 0.12, (cells.count, 1)))
    each = each + rng.normal(0, 5, (cells.count, 1)) * (1.0, 0.2, -0.6)
    grain, coarse = fractal(rng, shape, 0.6), fractal(rng, shape, 1.2)
    picture = each[cells.index].astype(np.float32) * (1 + 0.05 * grain + 0.07 * coarse)[..., None]
    down = ((np.arange(512, dtype=np.float32)[:, None] + 0.5 + warp[1]) % tall) / tall
    picture *= (0.55 + 0.45 * step(down, 0.0, 0.22) + 0.12 * step(down, 0.8, 1.0))[..., None]
    if profile in (0, 3):
        across = ((np.arange(512, dtype=np.float32)[None] + 0.5 + warp[0]) % wide) / wide
        picture *= (0.82 + 0.25 * np.sin(np.pi * across) ** 0.7 - 0.14 * step(across, 0.6, 1.0))[..., None]
    else:
        picture = blend(picture, picture * 0.5, 1 - step(cells.edge, 0.4, 1.7))
    moss = patches(fractal(rng, shape, 1.1) + 0.5 * (1 - down), rng.uniform(0.03, 0.12), 0.25)
    picture = blend(picture, np.array((92, 100, 58)) * (1 + 0.15 * grain[..., None]), 0.75 * moss)
    lichen = specks(rng, shape, 260, (0.6, 3.0)) * np.clip(0.6 + 0.4 * coarse, 0, 1)
    return finish(blend(picture, (182, 180, 164), 0.45 * lichen), size)


def bitumen(rng: np.random.Generator, number: int) -> Picture:
    """Felt sheets, 1 m wide, with overlaps, blisters and puddle stains; 5 m x 5 m."""
    shape, size = (256, 256), (5.0, 5.0)
    cells = masonry(
        np.arange(5) * 51.2,
        [np.array([0.0, rng.uniform(90, 170)]) for _ in range(5)],
        rng.uniform(0, 256, 5),
        shape,
        (0.5 * fractal(rng, shape, 1.2), 0.6 * fractal(rng, shape, 1.2, stretch=(6, 1))),
    )
    tone = ((88, 88, 90), (112, 104, 98))[number % 2]
    each = np.exp(rng.normal(0, 0.07, (cells.count, 1))) * np.array(tone)
    stains, grain = fractal(rng, shape, 1.2), fractal(rng, shape, 0.2)
    picture = each[cells.index].astype(np.float32) * (1 + 0.1 * stains + 0.07 * grain)[..., None]
    picture = blend(picture, (48, 47, 47), 0.75 * (1 - step(cells.edge + 0.4 * grain, 0.5, 2.2)))
    puddle = fractal(rng, shape, 1.5)
    rim = np.exp(-((puddle - 0.9) ** 2) / 0.02)
    picture = blend(picture, (150, 144, 134), 0.3 * rim)
    picture *= (1 - 0.14 * step(puddle, 0.9, 1.0))[..., None]
    tar = patches(fractal(rng, shape, 1.1, longest=50), 0.02, 0.08)
    return finish(blend(picture, (50, 49, 50), 0.7 * tar), size)


def gravel(rng: np.random.Generator, number: int) -> Picture:
    """Gravel on a flat roof; 3 m x 3 m."""
    shape = (256, 256)
    cells = voronoi(rng.uniform(0, 256, (4200, 2)), shape)
    tone = ((150, 144, 134), (128, 124, 120))[number % 2]
    each = np.array(tone) * np.exp(rng.normal(0, 0.2, (cells.count, 1))) + rng.normal(0, 5, (cells.count, 3))
    picture = each[cells.index].astype(np.float32)
    picture *= (0.6 + 0.4 * step(cells.edge, 0.2, 2.0))[..., None]
    moss = patches(fractal(rng, shape, 1.3), 0.12, 0.5)
    picture = blend(picture, (96, 98, 70), 0.5 * moss)
    return finish(picture * (1 + 0.07 * fractal(rng, shape, 1.2))[..., None], (3.0, 3.0))


def metal_roof(rng: np.random.Generator, number: int) -> Picture:
    """Sheets with standing seams, 55 cm apart, down the slope; 4.4 m x 4.4 m."""
    shape, size = (256, 256), (4.4, 4.4)
    rows = 2
    cells = masonry(
        np.arange(rows) * 128.0,
        [np.arange(8) * 32.0] * rows,
        np.zeros(rows),
        shape,
        (
            np.zeros(shape, np.float32),
            rng.uniform(-20, 20, 8).astype(np.float32).repeat(32)[None] * np.ones((256, 1)),
        ),
        0.0,
    )
    tone = ((146, 152, 156), (112, 138, 124))[number % 2]
    each = np.exp(rng.normal(0, 0.05, (cells.count, 1))) * np.array(tone)
    picture = each[cells.index].astype(np.float32)
    x = (np.arange(256, dtype=np.float32)[None] + 0.5) % 32
    seam = np.exp(-((x - 2.0) ** 2) / 1.2) * 0.28 - np.exp(-((x - 4.5) ** 2) / 2.5) * 0.38
    buckle = fractal(rng, shape, 1.1, longest=90, stretch=(1, 3))
    runs = fractal(rng, shape, 0.9, longest=120, stretch=(1, 12))
    picture *= (1 + seam + 0.05 * buckle - 0.08 * step(runs, 0.3, 2))[..., None]
    picture *= (1 + np.clip(relief(step(cells.edge, 0, 2), 0.2), -0.2, 0.1))[..., None]
    rust = patches(fractal(rng, shape, 1.2), rng.uniform(0.01, 0.06), 0.2)
    return finish(blend(picture, colored(shape, (126, 82, 56)), 0.6 * rust), size)
