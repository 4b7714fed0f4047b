"""Tileable noise, stains, cracks and cells: what irregular surfaces are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

Field = npt.NDArray[np.floating[Any]]
Color = tuple[float, float, float]
Shape = tuple[int, int]


class Picture(NamedTuple):
    """A painted picture.

    Attributes:
        pixels: (H, W, 3) uint8, sRGB.
        size: metres that it covers, (width, height).
    """

    pixels: npt.NDArray[np.uint8]
    size: tuple[float, float]


def finish(picture: npt.NDArray[np.floating], size: tuple[float, float]) -> Picture:
    """Round to bytes; nothing real is quite black or quite white."""
    return Picture(np.rint(np.clip(picture, 7, 246)).astype(np.uint8), size)


@lru_cache(maxsize=16)
def _amplitude(
    shape: Shape, slope: float, longest: float, shortest: float, stretch: tuple[float, float]
) -> Field:
    """Amplitudes of the frequencies of :func:`fractal`."""
    fy = np.fft.fftfreq(shape[0])[:, None] * stretch[1]
    fx = np.fft.rfftfreq(shape[1])[None] * stretch[0]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = 1
    amplitude = frequency**-slope
    if longest > 0:
        amplitude *= 1 - np.exp(-((frequency * longest) ** 2))
    if shortest > 0:
        amplitude *= np.exp(-((frequency * shortest) ** 2))
    amplitude[0, 0] = 0
    return amplitude.astype(np.float32)


def fractal(
    rng: np.random.Generator,
    shape: Shape,
    slope: float = 1.0,
    longest: float = 0.0,
    shortest: float = 0.0,
    stretch: tuple[float, float] = (1.0, 1.0),
) -> Field:
    """Tileable noise whose amplitude falls with the frequency, as in photographs (Field, JOSA A 1987).

    Args:
        rng: random generator.
        shape: (H, W).
        slope: amplitude is frequency to the power of −slope; 0 is white, 1 as in photographs.
        longest, shortest: wavelengths, in pixels, beyond which there is nothing (0: no limit).
        stretch: how much longer its blotches are along x and along y.

    Returns:
        (H, W) float32 with mean 0 and standard deviation 1.
    """
    half = (shape[0], shape[1] // 2 + 1)
    white = (rng.random((*half, 2), np.float32) - np.float32(0.5)).view(np.complex64)[..., 0]
    field = scipy.fft.irfft2(white * _amplitude(shape, slope, longest, shortest, stretch), s=shape)
    field -= field.mean()
    return field / field.std()


def ripples(
    rng: np.random.Generator,
    shape: Shape,
    amount: float,
    slope: float = 1.0,
    longest: float = 0.0,
    shortest: float = 6.0,
) -> tuple[Field, Field]:
    """Tileable displacements in x and y, of `amount` pixels (standard deviation), as of uneven joints."""
    first = fractal(rng, shape, slope, longest, shortest)
    return amount * first, amount * fractal(rng, shape, slope, longest, shortest)


def step(values: npt.NDArray[np.floating], low: float, high: float) -> Field:
    """0 up to `low`, 1 from `high` on, smooth between."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def patches(field: Field, cover: float, softness: float = 0.15) -> Field:
    """Mask, 0 to 1, of the highest parts of a noise, which cover a share of it; `softness` of their edges."""
    threshold = float(np.quantile(field[::4, ::4], 1 - cover))
    return step(field, threshold - softness, threshold + softness)


def wrapped_blur(field: npt.NDArray[np.floating], sigma: float) -> Field:
    """Gaussian blur of a tileable picture with sides of a multiple of 8; computed at 1/8 of its size."""
    small = cv2.resize(field.astype(np.float32), None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    pad = int(3 * sigma / 8) + 2
    padded = cv2.copyMakeBorder(small, pad, pad, pad, pad, cv2.BORDER_WRAP)
    blurred = cv2.GaussianBlur(padded, (0, 0), sigma / 8)
    large = cv2.resize(blurred, None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)[8 * pad : -8 * pad, 8 * pad : -8 * pad]


def relief(height: Field, strength: float = 1.0) -> Field:
    """Light on a rough surface, lit from the upper left: a tileable field around 0."""
    slope = (np.roll(height, 1, 1) - height) * 0.6 + (np.roll(height, 1, 0) - height)
    return (-strength * slope).astype(np.float32)


def blend(picture: Field, color: npt.ArrayLike, mask: Field) -> Field:
    """Paint a colour, or a picture, over a picture where the mask (H, W) is 1."""
    return picture + (np.asarray(color, np.float32) - picture) * mask[..., None]


def colored(shape: Shape, color: Color) -> Field:
    """An even picture, (H, W, 3)."""
    return np.broadcast_to(np.array(color, np.float32), (*shape, 3)).copy()


def spread(image: npt.NDArray[Any], points: npt.NDArray[np.integer], value: npt.ArrayLike) -> None:
    """Set pixels at integer points (N, 2), which wrap around."""
    image[points[:, 1] % image.shape[0], points[:, 0] % image.shape[1]] = value


def wander(
    rng: np.random.Generator, start: npt.ArrayLike, length: float, pace: float, turn: float, heading: float
) -> npt.NDArray[np.float64]:
    """A random path, (N, 2): steps of `pace` whose heading changes by about `turn` radians each."""
    count = max(int(length / pace), 2)
    headings = heading + np.cumsum(rng.normal(0, turn, count)) * 0.5 + rng.normal(0, turn, count)
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * pace
    return np.asarray(start, float) + np.cumsum(steps, axis=0)


def wrapped_lines(shape: Shape, lines: list[npt.NDArray[np.float64]], thickness: npt.ArrayLike = 1) -> Field:
    """Mask, 0 to 1, of antialiased polylines (N, 2), pixels, that wrap around the picture."""
    mask = np.zeros(shape, np.uint8)
    height, width = shape
    for line, wide in zip(lines, np.broadcast_to(np.asarray(thickness, int), (len(lines),)), strict=True):
        low = np.floor(line.min(0) / (width, height)).astype(int)
        high = np.floor(line.max(0) / (width, height)).astype(int)
        for row in range(low[1], high[1] + 1):
            for column in range(low[0], high[0] + 1):
                points = np.rint((line - (column * width, row * height)) * 8).astype(np.int32)
                cv2.polylines(mask, [points], False, 255, int(wide), cv2.LINE_AA, 3)
    return mask.astype(np.float32) / 255


def cracks(rng: np.random.Generator, shape: Shape, count: int, length: float, thickness: int = 1) -> Field:
    """Mask of wandering cracks, about `length` pixels long, some of which fork."""
    lines = []
    for _ in range(count):
        heading = rng.uniform(0, 2 * np.pi)
        line = wander(
            rng, rng.uniform(0, 1, 2) * shape[::-1], length * rng.uniform(0.4, 1.6), 5, 0.35, heading
        )
        lines.append(line)
        if rng.random() < 0.5:
            middle = line[len(line) // 2]
            lines.append(wander(rng, middle, length * 0.4, 5, 0.35, heading + rng.choice([-0.9, 0.9])))
    return wrapped_lines(shape, lines, thickness)


def specks(rng: np.random.Generator, shape: Shape, count: int, radius: tuple[float, float]) -> Field:
    """Mask of small round spots with radii, in pixels, between two."""
    mask = np.zeros(shape, np.uint8)
    margin = int(np.ceil(radius[1])) + 1
    centers = rng.uniform(0, 1, (count, 2)) * (shape[1] - 2 * margin, shape[0] - 2 * margin) + margin
    radii = rng.uniform(radius[0] ** 0.5, radius[1] ** 0.5, count) ** 2
    for (x, y), r in zip(np.rint(centers * 8).astype(int), np.rint(radii * 8).astype(int), strict=True):
        cv2.circle(mask, (int(x), int(y)), int(r), 255, -1, cv2.LINE_AA, 3)
    return np.roll(mask, rng.integers(0, shape[0], 2), (0, 1)).astype(np.float32) / 255


@dataclass(frozen=True)
class Cells:
    """A tileable picture cut into cells.

    Attributes:
        index: (H, W) int, the cell of each pixel.
        edge: (H, W) float32, distance to the border of the cell, in pixels.
        count: number of cells.
    """

    index: npt.NDArray[np.int32]
    edge: Field
    count: int


def voronoi(points: npt.NDArray[np.floating], shape: Shape) -> Cells:
    """Cells of the pixels that are closest to each of N points (N, 2), in pixels; tileable."""
    height, width = shape
    pad = int(min(2.5 * np.sqrt(height * width / len(points)), min(shape) / 2)) + 2
    seeds = np.full(shape, 255, np.uint8)
    owner = np.zeros(shape, np.int32)
    whole = np.floor(points).astype(int)
    spread(seeds, whole, 0)
    spread(owner, whole, np.arange(len(points)))
    padded = cv2.copyMakeBorder(seeds, pad, pad, pad, pad, cv2.BORDER_WRAP)
    owners = cv2.copyMakeBorder(owner, pad, pad, pad, pad, cv2.BORDER_WRAP)
    _, labels = cv2.distanceTransformWithLabels(padded, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    owner_of_label = np.zeros(int(labels.max()) + 1, np.int32)
    at_seeds = padded == 0
    owner_of_label[labels[at_seeds]] = owners[at_seeds]
    index = owner_of_label[labels]
    inner = np.ones(index.shape, np.uint8)
    inner[:, :-1] &= index[:, :-1] == index[:, 1:]
    inner[:-1] &= index[:-1] == index[1:]
    edge = np.asarray(cv2.distanceTransform(inner, cv2.DIST_L2, 5), np.float32)
    return Cells(index[pad:-pad, pad:-pad], edge[pad:-pad, pad:-pad], len(points))


def jittered(
    rng: np.random.Generator, shape: Shape, columns: int, rows: int, jitter: float, stagger: float = 0.5
) -> npt.NDArray[np.float64]:
    """Points (N, 2) of a grid that is disturbed by a share of its cells; every other row is shifted."""
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    points = np.stack([x + stagger * (y % 2) + 0.5, y + 0.5], axis=-1).reshape(-1, 2)
    points += rng.uniform(-jitter, jitter, points.shape) * 0.5
    return points * (shape[1] / columns, shape[0] / rows)


def masonry(
    rows: npt.NDArray[np.floating],
    joints: Sequence[Field],
    offsets: npt.ArrayLike,
    shape: Shape,
    warp: tuple[Field, Field] | None = None,
    rounding: float = 2.0,
) -> Cells:
    """Courses of stones, tileable.

    Args:
        rows: upper edges of the courses, ascending from 0, pixels.
        joints: for each course the left edges of its stones, ascending from 0, pixels.
        offsets: shift of each course, pixels.
        shape: (H, W).
        warp: tileable displacements in x and y, pixels: makes joints uneven.
        rounding: radius of the corners, pixels.
    """
    height, width = shape
    x = np.arange(width, dtype=np.float32)[None] + 0.5
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    if warp is not None:
        x, y = x + warp[0], (y + warp[1]) % height
    x, y = np.broadcast_arrays(x, y)
    row_edges = np.append(rows, height).astype(np.float32)
    row = np.searchsorted(row_edges, y, side="right") - 1
    row = np.clip(row, 0, len(rows) - 1)
    x = (x - np.asarray(offsets, np.float32)[row]) % width
    lefts = np.concatenate(joints).astype(np.float32)
    course = np.repeat(np.arange(len(joints)), [len(edges) for edges in joints])
    rights = np.append(lefts[1:], width).astype(np.float32)
    rights[np.append(course[1:] != course[:-1], True)] = width
    keys = (course * (2.0 * width) + lefts).astype(np.float32)
    index = np.searchsorted(keys, row.astype(np.float32) * (2 * width) + x, side="right") - 1
    dx = np.minimum(x - lefts[index], rights[index] - x)
    dy = np.minimum(y - row_edges[row], row_edges[row + 1] - y)
    if rounding > 0:
        corner = np.hypot(np.maximum(rounding - dx, 0), np.maximum(rounding - dy, 0))
        edge = np.where((dx < rounding) & (dy < rounding), rounding - corner, np.minimum(dx, dy))
    else:
        edge = np.minimum(dx, dy)
    return Cells(index.astype(np.int32), edge.astype(np.float32), len(lefts))
