"""Pictures of the demo: the city with its cameras, photos of it, and a chart of the errors."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pycolmap
from PIL import Image, ImageDraw, ImageFont

from hloc_ext.evaluation.poses import PoseError
from hloc_ext.formats.atomic import write_bytes
from hloc_ext.formats.images import read_image

Pixels = npt.NDArray[np.uint8]
Thresholds = Sequence[tuple[float, float]]

#: Pictures are drawn this many times larger, and then reduced.
_FINE = 2
MAP_COLOR = (36, 96, 214)
#: Within the first, the second, … threshold, and beyond the last.
ERROR_COLORS = ((40, 160, 70), (240, 190, 30), (240, 120, 20), (205, 30, 50))
CONDITION_COLORS = {"day": (240, 150, 30), "night": (60, 70, 150)}
_OTHER_COLOR = (120, 120, 120)
_INK, _GREY, _GRID = (30, 36, 46), (95, 102, 115), (225, 228, 233)


@dataclass(frozen=True)
class Background:
    """A map, north up.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        corner: x and y of its upper left corner, metres.
        pixel_size: metres.
    """

    image: Pixels
    corner: tuple[float, float]
    pixel_size: float


def save(path: Path, image: Pixels) -> None:
    """Write a PNG."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG", optimize=True)
    write_bytes(path, encoded.getvalue())


def overview(
    background: Background,
    map_poses: Mapping[str, pycolmap.Rigid3d],
    true_poses: Mapping[str, pycolmap.Rigid3d],
    errors: Mapping[str, PoseError],
    thresholds: Thresholds,
) -> Pixels:
    """Draw the cameras on a map: those of the map, and the queries coloured by their errors.

    Args:
        background: of the region of the cameras.
        map_poses: of the map photos, world→camera; the world is z up, metres.
        true_poses: of the queries.
        errors: of the queries.
        thresholds: position (metres) and rotation (degrees), in increasing order.
    """
    light = 255 - (255 - background.image.astype(float)) * 0.72
    canvas = Image.fromarray(light.astype(np.uint8)).resize(
        (background.image.shape[1] * _FINE, background.image.shape[0] * _FINE), Image.Resampling.BICUBIC
    )
    draw = ImageDraw.Draw(canvas, "RGBA")
    for pose in map_poses.values():
        _camera(draw, background, pose, MAP_COLOR, 2.6)
    for name, pose in true_poses.items():
        _camera(draw, background, pose, error_color(errors.get(name), thresholds), 3.6)
    canvas = canvas.resize(background.image.shape[1::-1], Image.Resampling.BOX)
    return _with_legend(canvas, _legend(errors, thresholds), background.pixel_size)


def error_color(error: PoseError | None, thresholds: Thresholds) -> tuple[int, int, int]:
    """Colour of the first threshold that an error is within; grey without an error."""
    return _OTHER_COLOR if error is None else ERROR_COLORS[_error_class(error, thresholds)]


def _error_class(error: PoseError, thresholds: Thresholds) -> int:
    for number, (position, rotation) in enumerate(thresholds[: len(ERROR_COLORS) - 1]):
        if error.position <= position and error.rotation <= rotation:
            return number
    return len(ERROR_COLORS) - 1


def _camera(
    draw: ImageDraw.ImageDraw,
    background: Background,
    pose: pycolmap.Rigid3d,
    color: tuple[int, int, int],
    length: float,
) -> None:
    """A wedge from the camera into its view, `length` metres, and a dot at its place."""
    inverse = pose.inverse()
    center = np.asarray(inverse.translation)
    ahead = inverse.rotation.matrix()[:, 2]
    heading = np.arctan2(ahead[1], ahead[0])
    corners = [center[:2]]
    corners += [
        center[:2] + length * np.array([np.cos(a), np.sin(a)]) for a in (heading - 0.5, heading + 0.5)
    ]
    points = [
        (
            float((x - background.corner[0]) / background.pixel_size * _FINE),
            float((background.corner[1] - y) / background.pixel_size * _FINE),
        )
        for x, y in corners
    ]
    draw.polygon(points, fill=(*color, 110), outline=(*color, 255))
    (x, y), radius = points[0], 0.22 * length / background.pixel_size * _FINE
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color, outline="white", width=_FINE)


def _legend(
    errors: Mapping[str, PoseError], thresholds: Thresholds
) -> list[tuple[tuple[int, int, int], str]]:
    """Colours with their meanings."""
    counts = np.bincount([_error_class(error, thresholds) for error in errors.values()], minlength=4)
    used = len(thresholds[: len(ERROR_COLORS) - 1])
    texts = [f"within {position:g} m, {rotation:g}°" for position, rotation in thresholds[:used]] + ["beyond"]
    entries = [(ERROR_COLORS[i], f"{text}: {counts[i]}") for i, text in enumerate(texts)]
    return [(MAP_COLOR, "map photo"), *entries]


def _with_legend(
    canvas: Image.Image, entries: Sequence[tuple[tuple[int, int, int], str]], pixel_size: float
) -> Pixels:
    """Draw a scale into a picture, and add lines below it: colours with their meanings."""
    font, margin, line = _font(17), 16, 32
    places, x, y = [], margin, 0
    for _, text in entries:
        width = 20 + int(font.getlength(text)) + 26
        if x + width > canvas.width and x > margin:
            x, y = margin, y + line
        places.append((x, y))
        x += width
    result = Image.new("RGB", (canvas.width, canvas.height + y + line + 8), "white")
    result.paste(canvas)
    draw = ImageDraw.Draw(result)
    for (color, text), (x, y) in zip(entries, places, strict=True):
        middle = canvas.height + 4 + y + line // 2
        draw.ellipse((x, middle - 7, x + 14, middle + 7), fill=color)
        draw.text((x + 20, middle), text, _INK, font, anchor="lm")
    length, right, bottom = 20 / pixel_size, canvas.width - 16, canvas.height - 16
    draw.rectangle((right - length - 10, bottom - 28, right + 10, bottom + 8), "white")
    draw.line((right - length, bottom, right, bottom), _INK, 3)
    draw.text((right - length / 2, bottom - 14), "20 m", _INK, _font(15), anchor="mm")
    return np.asarray(result)


def contact_sheet(root: Path, names: Sequence[str], columns: int = 4, height: int = 240) -> Pixels:
    """Photos beside each other, cut to 4 : 3.

    Args:
        root: folder of the images.
        names: of the photos.
        columns: number of photos in a row.
        height: of each, pixels.
    """
    width, gap = height * 4 // 3, 6
    rows = -(-len(names) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for number, name in enumerate(names):
        image = Image.fromarray(read_image(root / name))
        scale = max(width / image.width, height / image.height)
        image = image.resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
        )
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
        sheet.paste(image, (number % columns * (width + gap), number // columns * (height + gap)))
    return np.asarray(sheet)


def error_chart(groups: Mapping[str, Sequence[PoseError]], thresholds: Thresholds) -> Pixels:
    """Histograms and cumulative shares of the position and the rotation errors, side by side.

    Args:
        groups: errors of the queries by condition.
        thresholds: position (metres) and rotation (degrees).
    """
    width, height = 640, 460
    result = Image.new("RGB", (2 * width * _FINE, height * _FINE), "white")
    draw = ImageDraw.Draw(result)
    panels: list[tuple[str, str, list[float]]] = [
        ("position", "position error (m)", [position for position, _ in thresholds]),
        ("rotation", "rotation error (°)", [rotation for _, rotation in thresholds]),
    ]
    for number, (quantity, title, limits) in enumerate(panels):
        values = {
            name: np.array([getattr(error, quantity) for error in errors], float)
            for name, errors in groups.items()
        }
        _Panel(draw, number * width, width, height, values, limits).paint(title)
    return np.asarray(result.resize((2 * width, height), Image.Resampling.BOX))


class _Panel:
    """A chart over a logarithmic axis: bars for the numbers of queries, curves for the shares below."""

    def __init__(
        self,
        draw: ImageDraw.ImageDraw,
        left: int,
        width: int,
        height: int,
        values: Mapping[str, npt.NDArray[np.float64]],
        limits: Sequence[float],
    ) -> None:
        self._draw, self._values, self._limits = draw, values, limits
        self._box = (left + 62, 46, left + width - 62, height - 92)
        finite = [v[np.isfinite(v) & (v > 0)] for v in values.values()]
        known = np.concatenate([*finite, np.asarray(limits)])
        low, high = np.floor(np.log10(known.min()) * 2) / 2, np.ceil(np.log10(known.max()) * 2) / 2
        self._range = float(low), float(max(high, low + 1))

    def paint(self, title: str) -> None:
        """Draw all of it."""
        self._axes(title)
        edges = np.linspace(*self._range, round((self._range[1] - self._range[0]) * 6) + 1)
        counts = {
            name: np.histogram(np.log10(np.clip(v, 10.0 ** edges[0], 10.0 ** edges[-1])), edges)[0]
            for name, v in self._values.items()
        }
        most = max(int(np.sum(list(counts.values()), axis=0).max()), 1)
        base = np.zeros(len(edges) - 1)
        for name, count in counts.items():
            color = CONDITION_COLORS.get(name, _OTHER_COLOR)
            for i in np.flatnonzero(count).tolist():
                x0, y0 = self._at(edges[i], (base[i] + count[i]) / most * 0.94)
                x1, y1 = self._at(edges[i + 1], base[i] / most * 0.94)
                self._rectangle(x0 + 1, y0, x1 - 1, y1, tuple(int(255 - (255 - c) * 0.45) for c in color))
            base += count
        for name, values in self._values.items():
            self._curve(values, CONDITION_COLORS.get(name, _OTHER_COLOR))
        self._counts(most)
        self._names()

    def _axes(self, title: str) -> None:
        left, top, right, bottom = self._box
        for share in (0, 0.25, 0.5, 0.75, 1.0):
            _, y = self._at(self._range[0], share * 0.94)
            self._line([(left, y), (right, y)], _GRID)
            self._text(right + 6, y, f"{100 * share:.0f} %", "lm", 12, _GREY)
        for power in range(int(np.ceil(self._range[0])), int(np.floor(self._range[1])) + 1):
            x, _ = self._at(power, 0)
            self._line([(x, top), (x, bottom)], _GRID)
            self._text(x, bottom + 14, f"{10.0**power:g}", "mm", 13, _INK)
        for limit in self._limits:
            x, _ = self._at(float(np.log10(limit)), 0)
            for y in range(top, bottom, 8):
                self._line([(x, y), (x, y + 4)], _GREY)
            self._text(x, top - 10, f"{limit:g}", "mm", 12, _GREY)
        self._line([(left, bottom), (right, bottom)], _INK)
        self._text((left + right) / 2, bottom + 38, title, "mm", 15, _INK)

    def _curve(self, values: npt.NDArray[np.float64], color: tuple[int, int, int]) -> None:
        ordered = np.sort(np.log10(np.clip(values, 10.0 ** self._range[0], 10.0 ** (self._range[1] + 1))))
        points = [self._at(self._range[0], 0)]
        for number, value in enumerate(ordered.tolist()):
            if value > self._range[1]:
                break
            points += [
                self._at(value, number / len(ordered) * 0.94),
                self._at(value, (number + 1) / len(ordered) * 0.94),
            ]
        points.append((float(self._box[2]), points[-1][1]))
        self._line(points, color, 2.5)

    def _counts(self, most: int) -> None:
        left, top = self._box[:2]
        for count in sorted({0, most // 2, most}):
            _, y = self._at(self._range[0], count / most * 0.94)
            self._text(left - 8, y, str(count), "rm", 12, _GREY)
        self._text(left - 8, top - 28, "queries (bars)", "lm", 12, _GREY)
        self._text(self._box[2] + 40, top - 28, "share below (lines)", "rm", 12, _GREY)

    def _names(self) -> None:
        x, y = float(self._box[0]), self._box[3] + 68
        for name, values in self._values.items():
            color = CONDITION_COLORS.get(name, _OTHER_COLOR)
            self._line([(x, y), (x + 24, y)], color, 3)
            text = f"{name} ({len(values)})"
            self._text(x + 30, y, text, "lm", 12, _INK)
            x += 36 + _font(12).getlength(text) + 14

    def _at(self, exponent: float, share: float) -> tuple[float, float]:
        left, top, right, bottom = self._box
        x = left + (exponent - self._range[0]) / (self._range[1] - self._range[0]) * (right - left)
        return float(x), float(bottom - share * (bottom - top))

    def _line(self, points: Sequence[tuple[float, float]], color: Any, width: float = 1) -> None:
        scaled = [(x * _FINE, y * _FINE) for x, y in points]
        self._draw.line(scaled, color, max(1, round(width * _FINE)), joint="curve")

    def _rectangle(self, x0: float, y0: float, x1: float, y1: float, color: Any) -> None:
        self._draw.rectangle((x0 * _FINE, y0 * _FINE, max(x1, x0) * _FINE, y1 * _FINE), color)

    def _text(self, x: float, y: float, text: str, anchor: str, size: int, color: Any) -> None:
        self._draw.text((x * _FINE, y * _FINE), text, color, _font(size * _FINE), anchor=anchor)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)  # type: ignore[return-value]
