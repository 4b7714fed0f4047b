"""Letters of invented alphabets, words, emblems and pictograms."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .canvas import Canvas

Strokes = list[npt.NDArray[np.float64]]

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
    cv2.FONT_HERSHEY_COMPLEX_SMALL,
)
_ONSETS = [
    "b",
    "br",
    "c",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "h",
    "j",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "z",
]
_NUCLEI = ["a", "e", "i", "o", "u", "ai", "au", "ea", "io", "ou", "y"]
_CODAS = ["", "", "", "n", "r", "l", "s", "m", "t", "x", "nd", "rk"]


def word(rng: np.random.Generator, syllables: int = 0) -> str:
    """A word of no language."""
    count = syllables or int(rng.integers(1, 4))
    parts = [rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(count)]
    return str("".join(parts))


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> npt.NDArray[np.float64]:
    """Points on an ellipse from one angle to another, radians."""
    angles = np.linspace(start, end, 14)
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def letter(rng: np.random.Generator) -> Strokes:
    """Strokes of an invented letter in the unit square, y down: stems, bars, diagonals, bowls, dots."""
    grid_x, grid_y = np.array((0.0, 0.5, 1.0)), np.array((0.0, 0.5, 1.0))
    strokes: Strokes = []
    if rng.random() < 0.75:
        x = rng.choice(grid_x)
        strokes.append(np.array([[x, 0], [x, 1]], float))
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.integers(0, 4)
        x, y = rng.choice(grid_x, 2), rng.choice(grid_y, 2)
        if kind == 0:
            strokes.append(np.array([[0 if rng.random() < 0.7 else 0.5, y[0]], [1, y[0]]], float))
        elif kind == 1 and x[0] != x[1]:
            strokes.append(
                np.array([[x[0], 0 if y[0] < 0.7 else 0.5], [x[1], 1 if y[1] > 0.2 else 0.5]], float)
            )
        elif kind == 2:
            half = rng.random() < 0.6
            strokes.append(
                arc(
                    0.5,
                    0.25 if half else 0.5,
                    0.5,
                    0.25 if half else 0.5,
                    *_ARCS[rng.integers(0, len(_ARCS))],
                )
            )
        else:
            strokes.append(arc(0.5, 0.75, 0.5, 0.25, *_ARCS[rng.integers(0, len(_ARCS))]))
    if rng.random() < 0.12:
        strokes.append(arc(0.5, -0.18, 0.05, 0.04, 0, 2 * np.pi))
    return strokes


_ARCS = ((0, 2 * np.pi), (-np.pi / 2, np.pi / 2), (np.pi / 2, 1.5 * np.pi), (0, np.pi), (np.pi, 2 * np.pi))


class Script:
    """A way to write: one of OpenCV's Hershey fonts, or letters of its own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.invented = rng.random() < 0.45
        self.font = int(rng.choice(_FONTS))
        self.upper = rng.random() < 0.6
        self.aspect = rng.uniform(0.45, 0.85)
        self.slant = rng.uniform(-0.05, 0.3) if rng.random() < 0.3 else 0.0
        self.weight = rng.uniform(0.08, 0.2)
        self.space = rng.uniform(0.18, 0.4)
        self.letters = [letter(rng) for _ in range(18)] if self.invented else []

    def mask(self, text: str, height: int) -> npt.NDArray[np.uint8]:
        """A mask of a text with letters `height` pixels high, cropped, 0 or 255."""
        if self.invented:
            return self._invented(text, height)
        text = text.upper() if self.upper else text.capitalize()
        thickness = max(int(height * self.weight), 1)
        scale = cv2.getFontScaleFromHeight(self.font, max(height - thickness, 4), thickness)
        (width, tall), base = cv2.getTextSize(text, self.font, scale, thickness)
        pad = thickness + 2
        mask = np.zeros((tall + base + 2 * pad, width + 2 * pad), np.uint8)
        cv2.putText(mask, text, (pad, pad + tall), self.font, scale, 255, thickness)
        return _cropped(mask)

    def _invented(self, text: str, height: int) -> npt.NDArray[np.uint8]:
        thickness = max(int(height * self.weight), 1)
        advance = (self.aspect + self.space) * height
        mask = np.zeros((int(1.5 * height), int(advance * (len(text) + 1) + height)), np.uint8)
        x = 0.2 * height
        for character in text:
            if character != " ":
                for stroke in self.letters[ord(character) % len(self.letters)]:
                    points = stroke * (self.aspect * height, height - thickness)
                    points[:, 0] += x + self.slant * (height - points[:, 1])
                    points[:, 1] += 0.3 * height
                    cv2.polylines(mask, [np.rint(points * 8).astype(np.int32)], False, 255, thickness, 8, 3)
            x += advance
        return _cropped(mask)


def _cropped(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The part of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return np.full((2, 2), 255, np.uint8)
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def write(
    canvas: Canvas,
    script: Script,
    text: str,
    box: tuple[float, float, float, float],
    color: npt.ArrayLike,
    align: float = 0.5,
) -> None:
    """Write a text as large as fits into a box (x0, y0, x1, y1), metres; `align` 0 is left, 1 right."""
    room = np.array((box[2] - box[0], box[3] - box[1]))
    mask = script.mask(text, int(np.clip(room[1] * canvas.scale[1], 6, 200)))
    extent = np.array(mask.shape[::-1]) / canvas.scale.mean()
    extent *= min(room / extent)
    x = box[0] + align * (room[0] - extent[0])
    y = box[1] + 0.5 * (room[1] - extent[1])
    canvas.stamp(mask, (x, y, x + extent[0], y + extent[1]), color)


def lines_of_text(
    canvas: Canvas,
    rng: np.random.Generator,
    box: tuple[float, float, float, float],
    height: float,
    color: npt.ArrayLike,
    align: float = 0.0,
) -> None:
    """Fill a box with lines of small words, `height` metres high."""
    script = Script(rng)
    y = box[1]
    while y + height <= box[3]:
        text = " ".join(word(rng) for _ in range(int(rng.integers(1, 4))))
        width = (box[2] - box[0]) * rng.uniform(0.6, 1.0)
        x = box[0] + align * (box[2] - box[0] - width)
        write(canvas, script, text, (x, y, x + width, y + height), color, align)
        y += height * 1.5


def emblem(
    canvas: Canvas,
    rng: np.random.Generator,
    x: float,
    y: float,
    radius: float,
    color: npt.ArrayLike,
    ground: npt.ArrayLike,
) -> None:
    """Draw an invented logo or pictogram: simple shapes about a centre, with some symmetry."""
    kind = rng.integers(0, 5)
    if kind == 0:
        canvas.ellipse(x, y, radius, radius, color)
        color, ground = ground, color
        radius *= 0.72
    elif kind == 1:
        sides = int(rng.integers(3, 9))
        canvas.polygon(_star(x, y, radius, sides, rng.uniform(0.4, 1.0), rng.uniform(0, 6)), color)
        color, ground = ground, color
        radius *= 0.5
    count, turn = int(rng.integers(1, 7)), rng.uniform(0, 6.3)
    shapes = [
        (rng.integers(0, 4), rng.uniform(0.1, 0.8), rng.uniform(0.1, 0.4)) for _ in range(rng.integers(1, 4))
    ]
    for which, (shape, where, size) in enumerate(shapes):
        paint = ground if which == 2 else color
        for k in range(count):
            angle = turn + 2 * np.pi * k / count
            cx, cy = x + where * radius * np.cos(angle), y + where * radius * np.sin(angle)
            r = size * radius
            if shape == 0:
                canvas.ellipse(cx, cy, r, r, paint)
            elif shape == 1:
                canvas.polygon(_star(cx, cy, r * 1.3, 3 + which, 1.0, angle), paint)
            elif shape == 2:
                canvas.line([[x, y], [cx, cy]], paint, 0.3 * r)
            else:
                canvas.ellipse(cx, cy, r * 1.4, r * 0.5, paint, np.degrees(angle))


def _star(
    x: float, y: float, radius: float, sides: int, inner: float, turn: float
) -> npt.NDArray[np.float64]:
    """Corners of a star; with `inner` = 1 of a polygon of twice as many sides."""
    angles = turn + np.pi * np.arange(2 * sides) / sides
    radii = radius * np.where(np.arange(2 * sides) % 2, inner, 1.0)
    return np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)
