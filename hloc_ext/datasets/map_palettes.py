"""Random colours for maps."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt

#: 0 other, 1 road, 2 sidewalk, 3 building, 4 vegetation, 5 water.
NUM_CLASSES = 6

#: Colours as printed maps, dark maps and photographs have them, RGB in the order of the classes.
_LIGHT = (
    (242, 239, 233),
    (255, 255, 255),
    (225, 222, 215),
    (214, 204, 194),
    (200, 223, 178),
    (170, 208, 225),
)
_DARK = ((38, 40, 44), (84, 88, 96), (60, 63, 70), (55, 57, 62), (34, 56, 44), (16, 28, 48))
_NATURAL = ((150, 140, 120), (125, 125, 128), (165, 160, 155), (165, 110, 90), (75, 95, 50), (45, 75, 85))
#: Weights of red, green and blue in grey (Rec. 601).
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
#: Least standard deviation of the luminance of the classes that are drawn.
_LEAST_SPREAD = 14.0

Floats = npt.NDArray[np.float32]


def random_palette(
    rng: np.random.Generator, natural: bool = False, merged: tuple[int, ...] = tuple(range(NUM_CLASSES))
) -> tuple[Floats, Floats]:
    """Colours of the classes and of their outlines.

    Args:
        rng: source of the choices.
        natural: colours as in a photograph from above; else those of light, dark, coloured and grey maps.
        merged: class as which each class is drawn; what is drawn differs in brightness.

    Returns:
        Fill and line colours, (6, 3) float32 each, RGB from 0 to 255.
    """
    if natural:
        colors = np.array(_NATURAL) + rng.normal(0, 22, (NUM_CLASSES, 3)) + rng.normal(0, 15)
    else:
        colors = _themes[rng.integers(len(_themes))](rng)
    if rng.random() < 0.15:
        middle = colors.mean(axis=0)
        colors = middle + rng.uniform(0.25, 0.6) * (colors - middle)
    colors = _with_spread(colors, sorted(set(merged)), rng)
    return colors.astype(np.float32), _line_colors(colors, rng).astype(np.float32)


def _light(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    colors = np.array(_LIGHT) + rng.normal(0, 10, (NUM_CLASSES, 3))
    if rng.random() < 0.3:
        colors[1] = rng.uniform((230, 150, 60), (255, 230, 160))
    if rng.random() < 0.4:
        colors[3] = rng.uniform(90, 190) + rng.normal(0, 15, 3)
    return colors


def _dark(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    colors = np.array(_DARK) + rng.normal(0, 8, (NUM_CLASSES, 3))
    if rng.random() < 0.5:
        colors[1] = rng.uniform(110, 230) + rng.normal(0, 12, 3)
    if rng.random() < 0.5:
        colors[3] = rng.uniform(70, 170) + rng.normal(0, 12, 3)
    return colors


def _colored(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    hues = (rng.permutation(NUM_CLASSES) + rng.uniform(0, 1)) / NUM_CLASSES
    saturation, value = rng.uniform(0.2, 1.0, NUM_CLASSES), rng.uniform(0.25, 1.0, NUM_CLASSES)
    return 255 * np.array(
        [colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in zip(hues, saturation, value, strict=True)]
    )


def _grey(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    levels = np.linspace(rng.uniform(0, 70), rng.uniform(180, 255), NUM_CLASSES)
    return np.repeat(rng.permutation(levels)[:, None], 3, axis=1)


def _figure_ground(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Only roads, or only buildings, stand out."""
    paper, ink = rng.permutation([rng.uniform(0, 60), rng.uniform(190, 255)])
    colors = np.full((NUM_CLASSES, 3), paper) + rng.normal(0, 4, (NUM_CLASSES, 1))
    colors[rng.choice([1, 3], rng.integers(1, 3), replace=False)] = ink
    return colors


_themes = (_light, _light, _dark, _dark, _colored, _grey, _figure_ground)


def _with_spread(
    colors: npt.NDArray[np.float64], drawn: list[int], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Make the classes that are drawn differ in brightness, so that the map shows them in grey."""
    luminance = colors @ LUMINANCE
    spread = float(luminance[drawn].std())
    if spread < _LEAST_SPREAD:
        levels = rng.permutation(np.linspace(-1.0, 1.0, NUM_CLASSES))
        colors = colors + rng.uniform(1.5, 3.0) * _LEAST_SPREAD * levels[:, None]
    return np.clip(colors, 0, 255)


def _line_colors(colors: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Darker or lighter than the fill, or one colour for all lines."""
    choice = rng.random()
    if choice < 0.4:
        return colors * rng.uniform(0.3, 0.75)
    if choice < 0.6:
        return colors + rng.uniform(0.4, 0.9) * (255 - colors)
    tone = rng.uniform(0, 60) if colors.mean() > 110 else rng.uniform(150, 255)
    return np.full_like(colors, tone) + rng.normal(0, 8, 3)
