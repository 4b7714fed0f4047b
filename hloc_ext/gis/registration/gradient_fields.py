"""Gradient fields of images and class maps, which registration compares: neither contrast nor colour matter.

Pixels: the centre of the top-left one is (0, 0), x right, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import InputError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]

#: Blur of images and of fields, pixels; largest length of the field, in means.
BLUR, TRUNCATION = 0.8, 1.5
#: Pixels nearer than this to one that does not exist have no gradient.
_REACH = 3
#: Grey values of the classes 0 to 5 of a map (the others take them in turn), and of what has no class.
_GREYS, _BACKGROUND = (140, 90, 190, 240, 55, 20), 140.0


class Picture(NamedTuple):
    """An image, or the class map as which a picture of layers is registered.

    Attributes:
        pixels: (H, W) or (H, W, C) uint8; the channels of a class map are its classes, 0 or 255.
        mask: (H, W) bool, the pixels that exist; None: all.
        classes: of the channels of a class map; empty for an image.
    """

    pixels: Pixels
    mask: npt.NDArray[np.bool_] | None = None
    classes: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def exists(self) -> npt.NDArray[np.bool_]:
        """(H, W), the pixels that exist."""
        return np.ones(self.shape, bool) if self.mask is None else self.mask

    def grey(self) -> Pixels:
        """(H, W): luminance of an image, a grey value of its own for each class of a map."""
        channels = 1 if self.pixels.ndim == 2 else self.pixels.shape[2]
        if self.classes:
            weights = np.array([_GREYS[index % len(_GREYS)] for index in self.classes], np.float32) / 255
            drawn = _BACKGROUND + (self.pixels.astype(np.float32) @ (weights - _BACKGROUND / 255))
            return np.asarray(np.clip(np.round(drawn), 0, 255), np.uint8)
        if channels == 3:
            return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY), np.uint8)
        pixels = np.atleast_3d(self.pixels)
        return np.asarray(pixels.mean(2), np.uint8) if channels > 1 else pixels[..., 0]

    def warped(self, matrix: npt.NDArray[np.float64], shape: tuple[int, int]) -> Picture:
        """The picture in another frame, of which the scale should be about the same.

        Args:
            matrix: 3×3, pixel of the picture → pixel of the frame.
            shape: height and width of the frame. What lies outside of the picture does not exist.
        """
        size, flags = shape[::-1], cv2.INTER_LINEAR
        parts = [
            cv2.warpPerspective(part, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for part in self._channel_groups()
        ]
        mask = cv2.warpPerspective(self.exists * np.uint8(255), matrix, size, flags=flags) > 250
        return self._replace(pixels=self._joined(parts), mask=mask)

    def resized(self, factor: float) -> Picture:
        """The picture with its sides multiplied by `factor` and rounded, to at least 8 pixels."""
        height, width = self.shape
        size = max(round(width * factor), 8), max(round(height * factor), 8)
        if size == (width, height):
            return self
        flag = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        pixels = self._joined([cv2.resize(part, size, interpolation=flag) for part in self._channel_groups()])
        if self.mask is None:
            return self._replace(pixels=pixels)
        exists = cv2.resize(self.mask * np.uint8(255), size, interpolation=flag) > 250
        return self._replace(pixels=pixels, mask=exists)

    def _channel_groups(self) -> list[Pixels]:
        """The channels in parts of at most four, which is what OpenCV takes."""
        pixels = np.atleast_3d(self.pixels)
        return np.array_split(pixels, max(1, -(-pixels.shape[2] // 4)), axis=2)

    def _joined(self, parts: Sequence[npt.NDArray[Any]]) -> Pixels:
        """Changed parts, put together again."""
        joined = np.concatenate([np.atleast_3d(part) for part in parts], axis=2).astype(np.uint8)
        return joined[..., 0] if self.pixels.ndim == 2 else joined


class Fields(NamedTuple):
    """Gradients with doubled angles.

    Attributes:
        values: (H, W, 2) float32, m cos 2φ and m sin 2φ: φ is the direction of the gradient, m the truncated
            square root of its length. The mean square of their length is 1.
        mask: (H, W) float32, 1 where there is a gradient, 0 where pixels are missing.
    """

    values: npt.NDArray[np.float32]
    mask: npt.NDArray[np.float32]


def image_picture(image: Pixels, mask: npt.NDArray[np.bool_] | None = None) -> Picture:
    """An image as a picture.

    Args:
        image: (H, W), or (H, W, C) of any colours.
        mask: (H, W) bool, pixels that exist.

    Raises:
        InputError: another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise InputError(f"Expected an image H×W or H×W×C of uint8, got {image.shape} of {image.dtype}.")
    if mask is not None and mask.shape != image.shape[:2]:
        raise InputError(f"A mask of {mask.shape} does not fit an image of {image.shape}.")
    return Picture(image, mask if mask is None or not mask.all() else None)


def class_picture(
    labels: Pixels, mask: npt.NDArray[np.bool_] | None = None, left_out: tuple[int, ...] = (0,)
) -> Picture:
    """A class map as a picture: a channel of each class, so that all borders are alike.

    Args:
        labels: (H, W) classes.
        mask: (H, W) bool, pixels of which the class is known.
        left_out: classes without a channel; the others have borders to them all the same.
    """
    classes = tuple(int(index) for index in np.unique(labels) if index not in left_out) or (1,)
    channels = [(labels == index) * np.uint8(255) for index in classes]
    return image_picture(np.stack(channels, axis=-1), mask)._replace(classes=classes)


def gradient_fields(picture: Picture) -> Fields:
    """Fields of a picture; the channels add up (Di Zenzo, CVGIP 1986), and a negative has the same ones."""
    height, width = picture.shape
    squares = np.zeros((2, height, width), np.float32)
    for channel in np.moveaxis(np.atleast_3d(picture.pixels), 2, 0):
        smooth = cv2.GaussianBlur(np.ascontiguousarray(channel, np.float32), (0, 0), BLUR)
        gx, gy = (
            cv2.Scharr(smooth, cv2.CV_32F, *axes, borderType=cv2.BORDER_REPLICATE)
            for axes in ((1, 0), (0, 1))
        )
        squares[0] += gx * gx - gy * gy
        squares[1] += 2 * gx * gy
    length: Any = np.sqrt(np.hypot(squares[0], squares[1]))  # of the gradient
    magnitude = np.sqrt(length)
    exists = None
    if picture.mask is not None:
        kernel = np.ones((2 * _REACH + 1,) * 2, np.uint8)
        exists = cv2.erode(picture.mask.astype(np.uint8), kernel, borderValue=1)
        magnitude *= exists
    share = 1.0 if exists is None else max(float(exists.mean()), 1e-6)
    magnitude = np.minimum(magnitude, TRUNCATION * magnitude.mean() / share + 1e-6)
    values = np.moveaxis(squares, 0, 2) * (magnitude / (length * length + 1e-12))[..., None]
    values = np.asarray(cv2.GaussianBlur(values, (0, 0), BLUR), np.float32)
    if exists is not None:
        values *= exists[..., None]
    values /= np.sqrt((values**2).sum(2).mean() / share + 1e-6)
    return Fields(
        values, np.ones((height, width), np.float32) if exists is None else exists.astype(np.float32)
    )
