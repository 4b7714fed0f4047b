"""Changes of a panorama and its tile: turned together, changed in colour apart.

A mirrored panorama beside a mirrored tile, or a tile that is turned counter-clockwise by k quarters beside a
panorama whose columns move to the left by k quarters, is as good a pair as before: what lay in the north of
the tile, and at the centre column, lies in the west of it, and a quarter to the left. Pictures are (H, W, 3)
uint8 RGB; offsets are (x, y) from the centre of the tile, x to the right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

#: Mean colour of ImageNet, which holes are filled with, so that they are 0 to the network.
MEAN_COLOR = (124, 116, 104)

_REC601 = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Geometry:
    """How a pair is turned; the flip comes first.

    Attributes:
        flip: mirrored, left and right.
        quarters: by which the tile is turned counter-clockwise, 0 to 3.
    """

    flip: bool = False
    quarters: int = 0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Geometry:
        """Mirrored or not, turned by any number of quarters, all alike."""
        return cls(bool(rng.random() < 0.5), int(rng.integers(4)))

    @classmethod
    def of(cls, number: int) -> Geometry:
        """The geometry of a number from 0 to 7, see :attr:`number`."""
        return cls(number >= 4, number % 4)

    @property
    def number(self) -> int:
        """4 · flip + quarters; 0 changes nothing."""
        return 4 * self.flip + self.quarters

    def ground(self, panorama: Array) -> Array:
        """Change a panorama, (H, W, …)."""
        return roll(np.flip(panorama, 1) if self.flip else panorama, -self.quarters / 4)

    def aerial(self, tile: Array) -> Array:
        """Change a tile or its class map, (H, H, …)."""
        return np.ascontiguousarray(np.rot90(np.flip(tile, 1) if self.flip else tile, self.quarters))

    def offset(self, offset: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Where a place of the tile goes, (2,) → (2,)."""
        x, y = np.asarray(offset, np.float64)
        if self.flip:
            x = -x
        for _ in range(self.quarters):
            x, y = y, -x
        return np.array([x, y])


def roll(panorama: Array, turn: float) -> Array:
    """Move the columns of a panorama to the right by a share of its width, to the nearest pixel.

    Args:
        panorama: (H, W, …).
        turn: share of the width; a camera whose heading is changed by `t` clockwise shows its surroundings
            moved by −t / 360.
    """
    return np.roll(panorama, round(turn * panorama.shape[1]), axis=1)


def field_of_view_columns(width: int, degrees: float) -> int:
    """Columns of a panorama of `width` columns that are in a field of view, at least 1."""
    return max(round(width * min(degrees, 360.0) / 360), 1)


def crop_field_of_view(panorama: Array, degrees: float) -> Array:
    """The columns around the centre one, (H, W, …) → (H, :func:`field_of_view_columns`, …)."""
    width = panorama.shape[1]
    columns = field_of_view_columns(width, degrees)
    start = (width - columns) // 2
    return np.ascontiguousarray(panorama[:, start : start + columns])


@dataclass(frozen=True)
class Change:
    """A photometric change; its parameters do not depend on the size of the picture.

    Attributes:
        quality: of a JPEG compression, None for none.
        brightness: added, share of white.
        contrast, saturation: factors.
        hue: turn of the colours, share of a whole one.
        blur: standard deviation, share of the height; negative sharpens.
        holes: (K, 4) left, top, width and height, left and width as shares of the width.
        noise: standard deviation, share of white.
        noise_seed: of the noise.
    """

    quality: int | None = None
    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    blur: float = 0.0
    holes: tuple[tuple[float, float, float, float], ...] = ()
    noise: float = 0.0
    noise_seed: int = 0

    def apply(self, picture: Pixels) -> Pixels:
        """Change a picture, (H, W, 3)."""
        if self.quality is not None:
            _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        picture = self._recolored(picture)
        if self.blur:
            blurred = cv2.GaussianBlur(picture, (0, 0), abs(self.blur) * picture.shape[0])
            weight = 1.0 if self.blur > 0 else -0.5
            picture = np.asarray(cv2.addWeighted(blurred, weight, picture, 1 - weight, 0), np.uint8)
        if self.noise:
            rng = np.random.default_rng(self.noise_seed)
            noise = rng.standard_normal(picture.shape, np.float32) * np.float32(255 * self.noise)
            picture = np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)
        if self.holes:
            picture = picture.copy()
            height, width = picture.shape[:2]
            for left, top, wide, high in self.holes:
                rows = slice(round(top * height), round((top + high) * height))
                picture[rows, round(left * width) : round((left + wide) * width)] = MEAN_COLOR
        return picture

    def _recolored(self, picture: Pixels) -> Pixels:
        """All of the colours' changes are one affine map of RGB."""
        if (self.brightness, self.contrast, self.saturation, self.hue) == (0.0, 1.0, 1.0, 0.0):
            return picture
        grey = np.tile(_REC601, (3, 1))
        linear = self.saturation * np.eye(3, dtype=np.float32) + (1 - self.saturation) * grey
        linear = self.contrast * _hue_rotation(self.hue) @ linear
        middle = 127.5
        shift = 255 * self.brightness + middle * (1 - self.contrast)
        affine = np.column_stack([linear, np.full(3, shift)]).astype(np.float32)
        changed = cv2.transform(picture.astype(np.float32), affine)
        return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


#: Changes nothing.
UNCHANGED = Change()


def _hue_rotation(turn: float) -> npt.NDArray[np.float32]:
    """Rotation of RGB about the axis of the greys."""
    angle = 2 * np.pi * turn
    axis = np.full(3, np.sqrt(1 / 3))
    cross = np.cross(np.eye(3), axis).T
    rotation = np.eye(3) * np.cos(angle) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)
    return rotation.astype(np.float32)


def draw_change(rng: np.random.Generator, aspect: float) -> Change:
    """Change of a view as Sample4Geo makes them (its augmentation, with parameters relative to the size).

    JPEG compression of quality 90 to 100 (half of the pictures); brightness, contrast, saturation and hue by
    up to 15 % (half); blurred or sharpened (0.3); with holes in a grid or at random places (0.3).

    Args:
        rng: source of the choices.
        aspect: width / height of the picture, so that holes are square.
    """
    quality = int(rng.integers(90, 101)) if rng.random() < 0.5 else None
    jitter = rng.uniform(-0.15, 0.15, 4) if rng.random() < 0.5 else np.zeros(4)
    blur = 0.0
    if rng.random() < 0.3:
        blur = float(rng.uniform(0.003, 0.008) * rng.choice([-1, 1]))
    holes: tuple[tuple[float, float, float, float], ...] = ()
    if rng.random() < 0.3:
        holes = _grid(rng, aspect) if rng.random() < 0.5 else _holes(rng, aspect)
    return _jittered(jitter, quality=quality, blur=blur, holes=holes)


def draw_marginal(rng: np.random.Generator, aspect: float) -> Change:
    """Small change that tells a student's picture from its teacher's ("marginal perturbations", Distill4Geo).

    Brightness, contrast, saturation and hue by up to 5 %, noise of up to 0.02, a third blurred, a third with
    holes of up to 5 % of the picture.

    Args:
        rng: source of the choices.
        aspect: width / height of the picture.
    """
    jitter = rng.uniform(-0.05, 0.05, 4)
    blur = float(rng.uniform(0.002, 0.006)) if rng.random() < 1 / 3 else 0.0
    holes: tuple[tuple[float, float, float, float], ...] = ()
    if rng.random() < 1 / 3:
        count = int(rng.integers(1, 5))
        side = np.sqrt(rng.uniform(0.01, 0.05) / count * aspect)
        holes = tuple(_hole(rng, min(side, 1.0), aspect) for _ in range(count))
    noise = float(rng.uniform(0, 0.02))
    return _jittered(jitter, blur=blur, holes=holes, noise=noise, noise_seed=int(rng.integers(2**31)))


def _jittered(jitter: npt.NDArray[np.float64], **others: Any) -> Change:
    brightness, contrast, saturation, hue = (float(value) for value in jitter)
    return Change(brightness=brightness, contrast=1 + contrast, saturation=1 + saturation, hue=hue, **others)


def _hole(rng: np.random.Generator, side: float, aspect: float) -> tuple[float, float, float, float]:
    """Square hole of a side in units of the height, anywhere."""
    wide = min(side / aspect, 1.0)
    return float(rng.uniform(0, 1 - wide)), float(rng.uniform(0, 1 - side)), wide, side


def _holes(rng: np.random.Generator, aspect: float) -> tuple[tuple[float, float, float, float], ...]:
    """10 to 25 holes, 10 to 20 % of the height wide."""
    sides = rng.uniform(0.1, 0.2, int(rng.integers(10, 26)))
    return tuple(_hole(rng, float(side), aspect) for side in sides)


def _grid(rng: np.random.Generator, aspect: float) -> tuple[tuple[float, float, float, float], ...]:
    """Holes in a grid, 0.4 to 0.5 of its step wide."""
    step = float(rng.uniform(0.1, 0.3))
    side = step * float(rng.uniform(0.4, 0.5))
    left, top = rng.uniform(0, step, 2)
    return tuple(
        (x / aspect, y, min(side, aspect - x) / aspect, min(side, 1 - y))
        for y in np.arange(top, 1, step).tolist()
        for x in np.arange(left, aspect, step).tolist()
    )
