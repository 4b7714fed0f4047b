"""Panoramas, tiles and class maps of a set, read at the size that a network takes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ...errors import CorruptFileError, MissingInputError
from ...formats.images import read_image, resize_image
from .augment import MEAN_COLOR, Geometry, crop_field_of_view, field_of_view_columns, roll
from .layout import CrossViewSet

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Classes of the maps of tiles: other, road, sidewalk, building, vegetation, water.
NUM_CLASSES = 6
#: Class of what is not known.
UNKNOWN = 255

# Relative difference of the shapes of a tile and its class map.
_SHAPE_TOLERANCE = 0.02


class Pictures:
    """Reader of a set.

    Args:
        pairs: the set.
        keep: keep what was read in memory, at the size that was asked for.
    """

    def __init__(self, pairs: CrossViewSet, keep: bool = False) -> None:
        self.pairs, self.keep = pairs, keep
        self._kept: dict[tuple[Path, int, int], Pixels] = {}

    def ground(
        self, index: int, size: Size, fov: float, geometry: Geometry, turn: float
    ) -> tuple[Pixels, float]:
        """A panorama or a photo as a camera of a field of view sees it.

        Args:
            index: of the panorama.
            size: (H, W) of a whole panorama, pixels.
            fov: width of the result, degrees.
            geometry: as its tile is turned.
            turn: of the camera clockwise, share of a whole one.

        Returns:
            (H, W · fov / 360, 3), and the azimuth of its centre column in the turned tile, degrees, NaN
            unknown. A photo is as wide as its field of view says, in a frame of the mean colour if that is
            narrower than `fov`; and if it is unknown, `fov`.
        """
        height, width = size
        seen, heading = self.pairs.fields_of_view[index], float(self.pairs.headings[index])
        if seen >= 360:
            picture = self._resized(self.pairs.grounds[index], size)
            if np.isfinite(heading):
                picture, heading = roll(picture, heading / 360), 0.0
            picture = roll(geometry.ground(picture), -turn)
            return crop_field_of_view(picture, fov), (heading + 360 * turn) % 360
        columns = field_of_view_columns(width, fov if np.isnan(seen) else seen)
        picture = self._resized(self.pairs.grounds[index], (height, columns))
        if geometry.flip:
            picture, heading = np.ascontiguousarray(picture[:, ::-1]), -heading
        return _framed(picture, field_of_view_columns(width, fov)), (heading - 90 * geometry.quarters) % 360

    def aerial(self, index: int, size: Size, geometry: Geometry) -> Pixels:
        """A tile, (H, W, 3)."""
        return geometry.aerial(self._resized(self.pairs.aerials[index], size))

    def label(self, index: int, side: int, geometry: Geometry) -> Pixels:
        """Class map of a tile, (side, side): classes at the centres of the pixels.

        Raises:
            MissingInputError: there is none.
            CorruptFileError: it is no PNG of classes, or has another shape than the tile.
        """
        path = self.pairs.aerial_labels[index]
        if path is None:
            raise MissingInputError(f"Tile {self.pairs.aerials[index]} has no class map. {MAKE_LABELS}")
        key = (path, side, side)
        label = self._kept.get(key)
        if label is None:
            label = read_label(path, self.pairs.aerials[index])
            label = np.asarray(cv2.resize(label, (side, side), interpolation=cv2.INTER_NEAREST_EXACT))
            if self.keep:
                self._kept[key] = label
        return geometry.aerial(label)

    def _resized(self, path: Path, size: Size) -> Pixels:
        key = (path, *size)
        picture = self._kept.get(key)
        if picture is None:
            picture = resize_image(read_image(path, least_side=min(size)), (size[1], size[0]))
            if self.keep:
                self._kept[key] = picture
        return picture


#: What to do where class maps are missing.
MAKE_LABELS = "Make them with python -m hloc_ext.datasets.spatial_priors."


def read_label(path: Path, tile: Path) -> Pixels:
    """Class map of a tile as it is stored, (H, W).

    Raises:
        CorruptFileError: it is no PNG of one byte per pixel, has classes other than 0 to 5 and 255, or
            another shape than the tile.
    """
    try:
        with Image.open(path) as image:
            fits = image.format == "PNG" and image.mode in ("L", "P")
            label = np.asarray(image)
        with Image.open(tile) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError) as error:
        raise CorruptFileError(f"Class map {path} cannot be read: {error}. {MAKE_LABELS}") from error
    if not fits:
        raise CorruptFileError(f"Class map {path} is no PNG of one byte per pixel. {MAKE_LABELS}")
    if abs(label.shape[1] * height / (label.shape[0] * width) - 1) > _SHAPE_TOLERANCE:
        raise CorruptFileError(
            f"Class map {path} ({label.shape[1]}x{label.shape[0]}) has another shape than its tile"
            f" ({width}x{height}). {MAKE_LABELS}"
        )
    classes = np.unique(label)
    if ((classes >= NUM_CLASSES) & (classes != UNKNOWN)).any():
        raise CorruptFileError(
            f"Class map {path} has the values {', '.join(map(str, classes[:10]))}: expected classes from 0 to"
            f" {NUM_CLASSES - 1}, and {UNKNOWN} where they are unknown. {MAKE_LABELS}"
        )
    return np.asarray(label, np.uint8)


def normalized(picture: Pixels) -> torch.Tensor:
    """Input of a network, (H, W, 3) → (3, H, W) float32 with ImageNet's mean 0 and variance 1."""
    values = (picture.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def _framed(picture: Pixels, columns: int) -> Pixels:
    """The middle of a picture, or the picture in the middle of `columns` columns."""
    width = picture.shape[1]
    start = abs(width - columns) // 2
    if width >= columns:
        return np.ascontiguousarray(picture[:, start : start + columns])
    framed = np.empty((picture.shape[0], columns, 3), np.uint8)
    framed[:] = MEAN_COLOR
    framed[:, start : start + width] = picture
    return framed
