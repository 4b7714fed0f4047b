"""Maps drawn from class masks: flat colours, outlines, hatching and lettering, or painted textures.

Classes are those of the masks of the aerial training images: 0 other, 1 road, 2 sidewalk, 3 building,
4 vegetation, 5 water. Everything is drawn in place: a pixel of the map shows the class of the same pixel of
the mask, but for smoothed or wobbling borders (:attr:`MapStyle.smoothing`, :attr:`MapStyle.wobble`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from .map_palettes import LUMINANCE, NUM_CLASSES, random_palette

OTHER, ROAD, SIDEWALK, BUILDING, VEGETATION, WATER = range(NUM_CLASSES)

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

_LETTERS = np.array(list("ABCDEFGHIKLMNOPRSTUVWabcdefghiklmnoprstuvw0123456789"))
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX_SMALL)


@dataclass(frozen=True)
class MapStyle:
    """How a map is drawn. Lengths are in pixels of the map, colours from 0 to 255.

    Attributes:
        colors: (6, C) fill colours of the classes; C = 1 draws a grey map, C = 3 an RGB one.
        line_colors: (6, C) of the outlines.
        line_widths: (6,) of the outlines, 0 for none. The outline of a road is its casing.
        dashed: (6,) bool, whether the outline is broken.
        filled: (6,) bool, whether the class is filled; else only its outline is drawn, on the background.
        merged: (6,) class as which each class is drawn; ``OTHER`` leaves it out.
        smoothing: standard deviation of the window in which the most frequent class wins.
        polygons: outlines of buildings become polygons at most this far from the mask; 0 keeps the mask.
        hatched: class that is hatched, -1 for none.
        hatch_period, hatch_angle, hatch_strength: pixels, radians, and part of the line colour in the lines.
        labels: number of words and symbols.
        softness: standard deviation of the final blur.
        painted: whether the classes are painted with textures, as a generative model does.
        wobble: largest displacement of painted borders.
        texture: (6,) standard deviation of the textures of a painted map, grey values.
        grain: side of the largest texture elements.
    """

    colors: Floats
    line_colors: Floats
    line_widths: tuple[int, ...] = (0,) * NUM_CLASSES
    dashed: tuple[bool, ...] = (False,) * NUM_CLASSES
    filled: tuple[bool, ...] = (True,) * NUM_CLASSES
    merged: tuple[int, ...] = tuple(range(NUM_CLASSES))
    smoothing: float = 0.0
    polygons: float = 0.0
    hatched: int = -1
    hatch_period: float = 6.0
    hatch_angle: float = 0.0
    hatch_strength: float = 0.5
    labels: int = 0
    softness: float = 0.5
    painted: bool = False
    wobble: float = 0.0
    texture: tuple[float, ...] = (0.0,) * NUM_CLASSES
    grain: float = 16.0

    def grey(self) -> MapStyle:
        """The same style in shades of grey (luminance of the colours), C = 1."""
        if self.colors.shape[1] == 1:
            return self
        weights = LUMINANCE[:, None]
        return replace(self, colors=self.colors @ weights, line_colors=self.line_colors @ weights)


def random_style(
    rng: np.random.Generator, painted: float = 0.35, drawn: tuple[int, ...] = (1, 2, 3, 4, 5)
) -> MapStyle:
    """Draw a style.

    Args:
        rng: source of all random choices.
        painted: share of the styles with textures.
        drawn: classes that may be drawn; the others are always left out.
    """
    is_painted = bool(rng.random() < painted)
    merged = _random_merging(rng, drawn)
    colors, line_colors = random_palette(rng, natural=is_painted and rng.random() < 0.5, merged=merged)
    line_widths, dashed, filled = _random_lines(rng, is_painted)
    style = MapStyle(
        colors=colors,
        line_colors=line_colors,
        line_widths=line_widths,
        dashed=dashed,
        filled=filled,
        merged=merged,
        smoothing=float(rng.choice([0.0, 0.8, rng.uniform(0.8, 2.5)])),
        polygons=float(rng.choice([0.0, rng.uniform(0.7, 2.5)])),
        softness=float(rng.choice([0.5, rng.uniform(0.3, 1.0)])),
    )
    if is_painted:
        # Textures hide no border: they are weaker than the differences between the classes.
        spread = float((colors @ LUMINANCE)[list(set(merged))].std())
        largest = min(rng.uniform(3, 20), 0.7 * spread)
        strength = np.asarray(largest * rng.uniform(0.4, 1.6, (NUM_CLASSES,)))
        return replace(
            style,
            painted=True,
            wobble=float(rng.uniform(0.5, 3.0)),
            texture=tuple(strength.tolist()),
            grain=float(rng.uniform(8, 40)),
            softness=float(rng.uniform(0.6, 1.5)),
        )
    return replace(
        style,
        hatched=int(rng.choice([1, 3, 4, 5])) if rng.random() < 0.25 else -1,
        hatch_period=float(rng.uniform(4, 12)),
        hatch_angle=float(rng.uniform(0, math.pi)),
        hatch_strength=float(rng.uniform(0.2, 0.8)),
        labels=int(rng.integers(1, 9)) if rng.random() < 0.4 else 0,
    )


def render_map(label: Pixels, rng: np.random.Generator, style: MapStyle) -> Pixels:
    """Draw a map of a class mask.

    Args:
        label: (H, W) classes 0 to 5.
        rng: of the textures and the lettering.
        style: how it is drawn.

    Returns:
        (H, W) uint8 for a style in shades of grey, (H, W, 3) for one in colour.
    """
    label = np.array(style.merged, np.uint8)[label]
    if style.smoothing > 0:
        label = smooth_label(label, style.smoothing)
    if style.polygons > 0:
        label = _simplify(label, BUILDING, style.polygons)
    if style.wobble > 0:
        label = _wobble(label, style.wobble, rng)
    filled = np.where(np.array(style.filled), np.arange(NUM_CLASSES), OTHER)
    canvas: Floats = style.colors[filled[label]]  # (H, W, C)
    if style.painted:
        _paint(canvas, label, style, rng)
    if style.hatched >= 0:
        _hatch(canvas, label == style.hatched, style)
    for index in np.flatnonzero(style.line_widths):
        _draw_outline(canvas, label == index, int(index), style)
    if style.softness > 0:
        blurred = np.asarray(cv2.GaussianBlur(canvas, (0, 0), style.softness), np.float32)
        canvas = blurred.reshape(canvas.shape)
    if style.labels:
        canvas = _write_labels(canvas, style, rng)
    drawn = np.clip(np.round(canvas), 0, 255).astype(np.uint8)
    return drawn[..., 0] if drawn.shape[2] == 1 else drawn


def smooth_label(label: Pixels, sigma: float) -> Pixels:
    """The class that is most frequent in a Gaussian window around each pixel.

    Args:
        label: (H, W) classes.
        sigma: standard deviation of the window, pixels.
    """
    best = np.zeros(label.shape, np.uint8)
    smooth = np.zeros_like(label)
    for index in np.unique(label):
        share = cv2.GaussianBlur((label == index) * np.uint8(255), (0, 0), sigma)
        smooth[share > best] = index
        np.maximum(best, share, out=best)
    return smooth


def noise(shape: tuple[int, int], grain: float, rng: np.random.Generator) -> Floats:
    """Smooth noise of about unit variance.

    Args:
        shape: (H, W).
        grain: pixels between two independent values.
        rng: its source.
    """
    rows, columns = (max(2, math.ceil(side / grain) + 1) for side in shape)
    coarse = rng.standard_normal((rows, columns), np.float32)
    if grain <= 1:
        return coarse[: shape[0], : shape[1]]
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _random_merging(rng: np.random.Generator, drawn: tuple[int, ...]) -> tuple[int, ...]:
    """Class as which each is drawn; at least roads or buildings stay."""
    merged = [index if index in drawn else OTHER for index in range(NUM_CLASSES)]
    if SIDEWALK in drawn and rng.random() < 0.4:
        merged[SIDEWALK] = ROAD if ROAD in drawn else OTHER
    choice = rng.random()
    left_out: tuple[int, ...] = ()
    if choice < 0.12:
        left_out = (VEGETATION,)
    elif choice < 0.18:
        left_out = (VEGETATION, WATER)
    elif choice < 0.23 and ROAD in drawn:
        left_out = (BUILDING,)
    elif choice < 0.28 and BUILDING in drawn:
        left_out = (ROAD, SIDEWALK)
    for index in left_out:
        merged[index] = OTHER
    return tuple(merged)


def _random_lines(
    rng: np.random.Generator, painted: bool
) -> tuple[tuple[int, ...], tuple[bool, ...], tuple[bool, ...]]:
    """Widths of the outlines, whether they are dashed, and which classes are filled."""
    outlined = rng.random(NUM_CLASSES) < (0.12 if painted else np.array([0, 0.4, 0.3, 0.55, 0.15, 0.3]))
    outlined[OTHER] = False
    widths = np.where(outlined, rng.integers(1, 4, NUM_CLASSES), 0)
    dashed = outlined & (rng.random(NUM_CLASSES) < 0.15)
    filled = ~(outlined & (rng.random(NUM_CLASSES) < 0.2)) | painted
    return (
        tuple(int(width) for width in widths),
        tuple(bool(value) for value in dashed),
        tuple(bool(value) for value in filled),
    )


def _simplify(label: Pixels, index: int, tolerance: float) -> Pixels:
    """Replace the regions of a class by polygons; what they uncover becomes background."""
    mask = (label == index).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [cv2.approxPolyDP(contour, tolerance, True) for contour in contours if len(contour) > 3]
    drawn = np.zeros_like(mask)
    if polygons:
        cv2.fillPoly(drawn, polygons, 1)
    simple = np.where(mask > drawn, OTHER, label)
    return np.where(drawn > 0, index, simple).astype(np.uint8)


def _wobble(label: Pixels, reach: float, rng: np.random.Generator) -> Pixels:
    """Move the borders of the classes to and fro."""
    height, width = label.shape
    grain = rng.uniform(6, 24)
    dx, dy = (np.clip(0.45 * reach * noise(label.shape, grain, rng), -reach, reach) for _ in range(2))
    x = dx + np.arange(width, dtype=np.float32)
    y = dy + np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(label, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _paint(canvas: Floats, label: Pixels, style: MapStyle, rng: np.random.Generator) -> None:
    """Textures of several scales for each class, a shade of its own for each building, and shadows."""
    shape = label.shape
    fine = noise(shape, rng.uniform(1, 3), rng)
    middle = noise(shape, max(2.0, style.grain / 4), rng)
    coarse = noise(shape, style.grain, rng)
    mixture = rng.dirichlet(np.ones(3), NUM_CLASSES).astype(np.float32)
    mixture /= np.linalg.norm(mixture, axis=1, keepdims=True)
    # Crowns of trees: rounded bumps instead of noise without structure.
    bumps = np.abs(middle) * 2 - 1.6
    strength = np.array(style.texture, np.float32)[:, None] * mixture
    weights = strength[label]  # (H, W, 3)
    texture = weights[..., 0] * fine + weights[..., 2] * coarse
    texture += weights[..., 1] * np.where(label == VEGETATION, bumps, middle)
    buildings = (label == BUILDING).astype(np.uint8)
    if buildings.any():
        count, parts = cv2.connectedComponents(buildings, connectivity=4, ltype=cv2.CV_16U)
        shades = (2 * style.texture[BUILDING] * rng.standard_normal((count,))).astype(np.float32)
        shades[0] = 0
        texture += shades[parts]
        if rng.random() < 0.4:
            angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(1, 4)
            shift = np.array([[1, 0, length * math.cos(angle)], [0, 1, length * math.sin(angle)]])
            shadow = cv2.warpAffine(buildings, shift, shape[::-1], flags=cv2.INTER_NEAREST)
            canvas[shadow > buildings] *= rng.uniform(0.4, 0.8)
    canvas += texture[..., None]


def _hatch(canvas: Floats, mask: npt.NDArray[np.bool_], style: MapStyle) -> None:
    """Parallel lines on a class."""
    height, width = mask.shape
    step = 2 * math.pi / style.hatch_period
    x = step * math.cos(style.hatch_angle) * np.arange(width, dtype=np.float32)
    y = step * math.sin(style.hatch_angle) * np.arange(height, dtype=np.float32)
    lines = mask & (np.sin(x + y[:, None]) > 0.5)
    canvas[lines] += style.hatch_strength * (style.line_colors[style.hatched] - canvas[lines])


def _draw_outline(canvas: Floats, mask: npt.NDArray[np.bool_], index: int, style: MapStyle) -> None:
    """Outline of a class, half of it inside: the middle of the line is the border."""
    region = mask.astype(np.uint8)
    if not mask.any():
        return
    width = style.line_widths[index]
    # A line of odd width has its extra pixel outside.
    inner = np.ones((width // 2 * 2 + 1,) * 2, np.uint8)
    outer = np.ones(((width + 1) // 2 * 2 + 1,) * 2, np.uint8)
    line = cv2.dilate(region, outer) > cv2.erode(region, inner)
    if style.dashed[index]:
        rows, columns = np.indices(mask.shape, np.int32)
        line &= ((rows + columns) // 6 + (rows - columns) // 6) % 2 == 0
    canvas[line] = style.line_colors[index]


def _write_labels(canvas: Floats, style: MapStyle, rng: np.random.Generator) -> Floats:
    """Words and symbols; they cover the map, but do not hide its structure."""
    height, width, channels = canvas.shape
    for _ in range(style.labels):
        color = tuple(float(value) for value in rng.uniform(0, 255, (channels,)))
        halo = tuple(np.full(channels, 255.0 - np.mean(color)).tolist())
        x, y = int(rng.integers(-10, width)), int(rng.integers(0, height))
        if rng.random() < 0.2:
            radius = int(rng.integers(2, 6))
            cv2.circle(canvas, (x, y), radius, color, -1 if rng.random() < 0.5 else 1, cv2.LINE_AA)
            continue
        word = "".join(rng.choice(_LETTERS, rng.integers(2, 11)))
        font, size = int(rng.choice(_FONTS)), float(rng.uniform(0.25, 0.6))
        if rng.random() < 0.5:
            cv2.putText(canvas, word, (x, y), font, size, halo, 3, cv2.LINE_AA)
        cv2.putText(canvas, word, (x, y), font, size, color, 1, cv2.LINE_AA)
    return canvas
