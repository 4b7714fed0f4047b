"""Maps painted the way a generative model paints them: plausible from afar, inconsistent from close.

Nothing of it is learned, and it does not look like one model in particular: it has the properties that make
generated imagery hard to match. Colours and textures belong to classes, borders wobble, small things are
missing or invented, and shadows do not agree.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from ..labels import Label

Picture = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

#: Base colours, RGB of 255; a scene shifts all of them.
_COLORS = {
    Label.OTHER: (141, 133, 108),
    Label.ROAD: (104, 104, 108),
    Label.SIDEWALK: (158, 153, 146),
    Label.VEGETATION: (78, 98, 58),
    Label.WATER: (58, 84, 96),
    Label.CROSSING: (150, 150, 148),
}
_ROOFS = ((142, 84, 66), (120, 108, 100), (168, 160, 150), (96, 92, 94), (150, 116, 86), (128, 72, 62))
#: Share of the things of at most `_SMALL` square metres that are left out.
_LEFT_OUT = 0.25
_SMALL = 60.0


def leave_out(areas: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which things are painted, (N,): of the small ones some are forgotten.

    Args:
        areas: (N,) square metres.
        rng: decides.
    """
    return (areas > _SMALL) | (rng.random(len(areas)) > _LEFT_OUT)


def paint(labels: Labels, buildings: npt.NDArray[np.int32], rng: np.random.Generator) -> Labels:
    """Paint a map.

    Args:
        labels: (H, W) classes, :class:`~hloc_ext.city.labels.Label`.
        buildings: (H, W) number of the building, from 1; 0 elsewhere.
        rng: of all that is random.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shape = (labels.shape[0], labels.shape[1])
    labels = _invent(labels.copy(), rng)
    shift = _wobble(shape, 9.0, 1.3, rng)
    labels = _moved(labels, shift, cv2.INTER_NEAREST)
    numbers = _moved(buildings.astype(np.float32), shift, cv2.INTER_NEAREST).astype(np.int32)
    numbers[labels != Label.BUILDING] = 0
    picture = np.zeros((*shape, 3), np.float32)
    weight = np.zeros(shape, np.float32)
    softness = rng.uniform(0.8, 1.4)
    mood = np.exp(rng.normal(0, 0.10) + rng.normal(0, 0.025, 3))
    for label in [*_COLORS, Label.BUILDING]:
        mask = cv2.GaussianBlur((labels == label).astype(np.float32), (0, 0), softness)
        if not mask.any():
            continue
        texture = _roofs(numbers, rng) if label is Label.BUILDING else _texture(label, shape, rng)
        picture += mask[..., None] * texture
        weight += mask
    picture /= np.maximum(weight, 1e-3)[..., None]
    picture *= _shadows(labels, rng)[..., None]
    picture = _moved(picture, _wobble(shape, 2.5, 0.5, rng), cv2.INTER_LINEAR)
    picture *= (mood + 0.05 * _noise(shape, 60, rng)[..., None]).astype(np.float32)
    smooth = cv2.bilateralFilter(np.clip(picture, 0, 255), 5, 28, 2.0)
    return np.round(np.clip(smooth, 0, 255)).astype(np.uint8)


def _texture(label: Label, shape: tuple[int, int], rng: np.random.Generator) -> Picture:
    """Texture of a class, (H, W, 3)."""
    color = np.array(_COLORS[label], np.float32) * np.exp(
        rng.normal(0, 0.08) + rng.normal(0, 0.03, 3)
    ).astype(np.float32)
    coarse, middle, fine = (_noise(shape, size, rng) for size in (24, 6, 1.6))
    if label is Label.VEGETATION:
        crowns = _relief(0.6 * _noise(shape, 8, rng) + 0.4 * middle, rng, 7.0)
        value = 1 + 0.14 * coarse + 0.32 * crowns + 0.08 * fine
    elif label is Label.CROSSING:
        angle = rng.uniform(0, math.pi)
        rows, columns = np.indices(shape, np.float32)
        phase = columns * math.cos(angle) + rows * math.sin(angle) + 1.5 * middle
        value = 1 + 0.22 * np.sin(phase * (2 * math.pi / 4.0)) + 0.05 * fine
    elif label is Label.OTHER:
        lawn = 1 / (1 + np.exp(-4 * coarse[..., None]))
        green = np.array((104, 116, 72), np.float32)
        color = np.asarray(lawn * green + (1 - lawn) * color, np.float32)
        value = 1 + 0.12 * middle + 0.06 * fine
    else:
        value = 1 + 0.07 * coarse + 0.05 * middle + 0.03 * fine
    return np.asarray(color * np.asarray(value)[..., None], np.float32)


def _roofs(numbers: npt.NDArray[np.int32], rng: np.random.Generator) -> Picture:
    """Roofs, (H, W, 3): a colour for each building, faces that are lit by their slope, invented details."""
    shape = (numbers.shape[0], numbers.shape[1])
    count = int(numbers.max()) + 1
    palette = np.array(_ROOFS, np.float32)[rng.integers(0, len(_ROOFS), count)]
    palette *= np.exp(rng.normal(0, 0.12, (count, 1))).astype(np.float32)
    edges = cv2.morphologyEx(numbers.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    height = cv2.distanceTransform((~edges & (numbers > 0)).astype(np.uint8), cv2.DIST_L2, 5)
    is_flat = rng.random(count) < 0.35
    slope = _relief(np.asarray(cv2.GaussianBlur(height, (0, 0), 1.6), np.float32), rng, 1.2)
    slope[is_flat[numbers]] *= 0.15
    value = 1 + 0.22 * slope + 0.06 * _noise(shape, 5, rng) + 0.04 * _noise(shape, 1.5, rng)
    details = _noise(shape, 3, rng) > 2.3
    value -= 0.25 * cv2.GaussianBlur(details.astype(np.float32), (0, 0), 0.8)
    return np.asarray(palette[numbers] * value[..., None], np.float32)


def _shadows(labels: Labels, rng: np.random.Generator) -> Picture:
    """Factor of shadows, (H, W): their direction drifts across the picture."""
    shape = (labels.shape[0], labels.shape[1])
    rows, columns = np.indices(shape, np.float32)
    angle = rng.uniform(0, 2 * math.pi) + 0.5 * _noise(shape, 80, rng)
    length = rng.uniform(4, 12) * (1 + 0.3 * _noise(shape, 40, rng))
    high = np.where(labels == Label.BUILDING, 1.0, np.where(labels == Label.VEGETATION, 0.45, 0.0))
    high = cv2.GaussianBlur(high.astype(np.float32), (0, 0), 1.5)
    maps = (columns + length * np.cos(angle), rows + length * np.sin(angle))
    shifted = _moved(high, maps, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    return np.asarray(1 - 0.38 * np.maximum(shifted - high, 0), np.float32)


def _invent(labels: Labels, rng: np.random.Generator) -> Labels:
    """Add small things that are not there: cars on roads, bushes and sheds on the ground."""
    height, width = labels.shape
    for label, ground, count in (
        (Label.VEGETATION, (Label.OTHER, Label.SIDEWALK), 14),
        (Label.BUILDING, (Label.OTHER,), 4),
        (Label.SIDEWALK, (Label.ROAD,), 10),
        (Label.OTHER, (Label.ROAD, Label.VEGETATION), 8),
    ):
        for _ in range(int(rng.poisson(count))):
            center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
            size = tuple(int(v) for v in rng.integers(3, 9, 2))
            if labels[center[1], center[0]] in ground:
                cv2.ellipse(labels, center, size, float(rng.uniform(0, 180)), 0, 360, int(label), -1)
    return labels


def _relief(height: Picture, rng: np.random.Generator, gain: float = 4.0) -> Picture:
    """How brightly light from one side meets a height field, (H, W), −1 to 1."""
    angle = rng.uniform(0, 2 * math.pi)
    x, y = (cv2.Sobel(height, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return np.tanh(gain * (x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))))


def _noise(shape: tuple[int, int], size: float, rng: np.random.Generator) -> Picture:
    """Smooth noise of mean 0 and standard deviation 1, (H, W); `size`: radius of its blobs in pixels."""
    step = max(1.0, size / 2)
    small = (max(4, round(shape[0] / step)), max(4, round(shape[1] / step)))
    noise = cv2.GaussianBlur(rng.standard_normal(small, np.float32), (0, 0), max(size / step, 0.6))
    noise = cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return (noise - noise.mean()) / max(float(noise.std()), 1e-6)


def _wobble(
    shape: tuple[int, int], size: float, amount: float, rng: np.random.Generator
) -> tuple[Picture, Picture]:
    """Columns and rows to look at instead: off by `amount` pixels (standard deviation)."""
    rows, columns = np.indices(shape, np.float32)
    return columns + amount * _noise(shape, size, rng), rows + amount * _noise(shape, size, rng)


def _moved(
    picture: npt.NDArray, maps: tuple[Picture, Picture], interpolation: int, border: int = cv2.BORDER_REFLECT
) -> npt.NDArray:
    return cv2.remap(picture, *maps, interpolation, borderMode=border)
