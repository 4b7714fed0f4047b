"""Drawing in metres: antialiased shapes on a picture whose pixels need not be square."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from .noise import Field, Shape

#: Shapes are drawn on a picture so many times larger, which is then reduced.
SCALE = 2


class Canvas:
    """A picture to draw on; lengths are metres, x to the right and y down from the upper left corner."""

    def __init__(self, shape: Shape, size: tuple[float, float], color: npt.ArrayLike = 0.0) -> None:
        """Make an even picture.

        Args:
            shape: (H, W) of the reduced picture.
            size: (width, height), metres.
            color: RGB, or a grey value for a picture with one channel.
        """
        self.shape, self.size = shape, size
        self.scale = np.array((shape[1] * SCALE / size[0], shape[0] * SCALE / size[1]))
        channels = np.shape(color)
        self.pixels = np.empty((shape[0] * SCALE, shape[1] * SCALE, *channels), np.uint8)
        self.pixels[:] = _bytes(color)

    def _color(self, color: npt.ArrayLike) -> Sequence[float]:
        return np.clip(np.atleast_1d(np.asarray(color, float)), 0, 255).tolist()

    def _at(self, points: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Sixteenths of pixels, of drawing functions with 4 fractional bits."""
        return np.rint((np.asarray(points, float) * self.scale - 0.5) * 16).astype(np.int32)

    def rect(self, x0: float, y0: float, x1: float, y1: float, color: npt.ArrayLike) -> None:
        """Fill a rectangle."""
        low = np.rint(np.array((x0, y0)) * self.scale).astype(int)
        high = np.rint(np.array((x1, y1)) * self.scale).astype(int)
        low, high = np.maximum(low, 0), np.maximum(high, 0)
        self.pixels[low[1] : high[1], low[0] : high[0]] = _bytes(color)

    def polygon(self, points: npt.ArrayLike, color: npt.ArrayLike) -> None:
        """Fill a polygon (N, 2)."""
        cv2.fillPoly(self.pixels, [self._at(points)], self._color(color), cv2.LINE_8, 4)

    def line(self, points: npt.ArrayLike, color: npt.ArrayLike, width: float, closed: bool = False) -> None:
        """Draw a polyline (N, 2), `width` metres wide."""
        thickness = max(round(width * float(self.scale.mean())), 1)
        cv2.polylines(self.pixels, [self._at(points)], closed, self._color(color), thickness, cv2.LINE_8, 4)

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        color: npt.ArrayLike,
        angle: float = 0.0,
        arc: tuple[float, float] = (0.0, 360.0),
        width: float = -1.0,
    ) -> None:
        """Fill an ellipse, or draw its outline or an arc of it, `width` metres wide; angles in degrees."""
        thickness = -1 if width < 0 else max(round(width * float(self.scale.mean())), 1)
        axes = tuple(np.maximum(np.rint(np.array((rx, ry)) * self.scale * 16), 1).astype(int).tolist())
        center = tuple(self._at((x, y)).tolist())
        cv2.ellipse(
            self.pixels, center, axes, angle, arc[0], arc[1], self._color(color), thickness, cv2.LINE_8, 4
        )

    def stamp(
        self, mask: npt.NDArray[np.uint8], box: tuple[float, float, float, float], color: npt.ArrayLike
    ) -> None:
        """Draw a mask in a colour, stretched to a box (x0, y0, x1, y1); what lies outside is cut off."""
        low = np.rint(np.array(box[:2]) * self.scale).astype(int)
        size = np.maximum(np.rint(np.array(box[2:]) * self.scale).astype(int) - low, 1)
        fitted = cv2.resize(mask, tuple(size.tolist()), interpolation=cv2.INTER_AREA)
        x0, y0 = np.maximum(low, 0)
        x1, y1 = np.minimum(low + size, self.pixels.shape[1::-1])
        if x1 <= x0 or y1 <= y0:
            return
        weight = fitted[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]].astype(np.float32) / 255
        part = self.pixels[y0:y1, x0:x1]
        weight = weight.reshape(*weight.shape, *[1] * (part.ndim - 2))
        part[:] = np.rint(part + (np.clip(color, 0, 255) - part) * weight)

    def reduced(self) -> Field:
        """The picture, (H, W, 3) or (H, W), float32."""
        return cv2.resize(self.pixels, self.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)

    def mask(self) -> Field:
        """A grey picture as a mask, 0 to 1."""
        return self.reduced() / 255


class Overlay(Canvas):
    """A canvas that remembers where it was drawn on, to be laid over a picture."""

    def __init__(self, shape: Shape, size: tuple[float, float]) -> None:
        super().__init__(shape, size, (0.0, 0.0, 0.0))
        self.drawn = Canvas(shape, size, 0.0)

    def rect(self, x0: float, y0: float, x1: float, y1: float, color: npt.ArrayLike) -> None:
        """See :meth:`Canvas.rect`."""
        super().rect(x0, y0, x1, y1, color)
        self.drawn.rect(x0, y0, x1, y1, 255)

    def polygon(self, points: npt.ArrayLike, color: npt.ArrayLike) -> None:
        """See :meth:`Canvas.polygon`."""
        super().polygon(points, color)
        self.drawn.polygon(points, 255)

    def line(self, points: npt.ArrayLike, color: npt.ArrayLike, width: float, closed: bool = False) -> None:
        """See :meth:`Canvas.line`."""
        super().line(points, color, width, closed)
        self.drawn.line(points, 255, width, closed)

    def ellipse(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        color: npt.ArrayLike,
        angle: float = 0.0,
        arc: tuple[float, float] = (0.0, 360.0),
        width: float = -1.0,
    ) -> None:
        """See :meth:`Canvas.ellipse`."""
        super().ellipse(x, y, rx, ry, color, angle, arc, width)
        self.drawn.ellipse(x, y, rx, ry, 255, angle, arc, width)

    def stamp(
        self, mask: npt.NDArray[np.uint8], box: tuple[float, float, float, float], color: npt.ArrayLike
    ) -> None:
        """See :meth:`Canvas.stamp`."""
        super().stamp(mask, box, color)
        self.drawn.stamp(mask, box, 255)

    def over(self, picture: Field, light: float = 1.0) -> Field:
        """The picture with what was drawn over it, brighter or darker by a factor."""
        return picture * (1 - self.drawn.mask())[..., None] + self.reduced() * np.float32(light)


def _bytes(color: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """A colour as stored."""
    return np.clip(np.asarray(color, float), 0, 255).astype(np.uint8)


def blurred(picture: Field, sigma: float) -> Field:
    """Gaussian blur of a picture with a border."""
    picture = picture.astype(np.float32, copy=False)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)


def shifted(field: Field, dx: int, dy: int) -> Field:
    """A picture moved by whole pixels, its border repeated."""
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    moved = cv2.warpAffine(field, matrix, field.shape[1::-1], flags=0, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def ramp(shape: Shape, top: float, bottom: float) -> Field:
    """Values from the top row to the bottom row, (H, W)."""
    column = np.linspace(top, bottom, shape[0], dtype=np.float32)[:, None]
    return np.broadcast_to(column, shape)


#: Hues of paints, 0 to 6 from red over green and blue, with how common they are and how saturated at most.
_HUES = (
    (0.0, 5, 0.85),
    (0.25, 3, 0.75),
    (0.5, 5, 0.7),
    (0.75, 4, 0.75),
    (0.95, 2, 0.8),
    (1.6, 1, 0.45),
    (2.3, 3, 0.5),
    (2.9, 2, 0.45),
    (3.4, 4, 0.6),
    (3.7, 4, 0.7),
    (4.6, 0.4, 0.35),
    (5.6, 0.7, 0.55),
)


def random_color(
    rng: np.random.Generator, saturation: float = 0.6, value: tuple[float, float] = (0.3, 0.85)
) -> npt.NDArray[np.float64]:
    """An RGB colour as paints have: many are nearly grey, few are violet.

    Args:
        rng: random generator.
        saturation: of the most saturated ones, 0 to 1.
        value: brightest channel, 0 to 1, between two.
    """
    hues, weights, limits = np.array(_HUES).T
    chosen = int(rng.choice(len(hues), p=weights / weights.sum()))
    hue = hues[chosen] + rng.normal(0, 0.12)
    chroma = saturation * limits[chosen] * rng.uniform(0.1, 1.0)
    rgb = np.clip(np.abs((hue + np.array((0, 4, 2))) % 6 - 3) - 1, 0, 1)
    level = 255 * rng.uniform(*value)
    return level * (1 - chroma + chroma * rgb)
