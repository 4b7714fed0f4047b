"""What an alignment starts from: an image, layers, the ground that both cover, and how wrong they may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .classes import Rule, read_rules
from .crs import WGS84, transform_points, unwrap, utm_crs
from .extra import naming_extra
from .grid import Floats, Grid, apply_homography
from .raster import Raster, metric_grid, open_raster
from .registration.gradient_fields import Picture, class_picture, image_picture
from .registration.prior import Prior
from .registration.scene import Window
from .render import MapShapes, map_shapes
from .resample import resample
from .transform import Alignment
from .vector import Layer, read_layers

with naming_extra():
    import pyproj
    import shapely

#: Endings of what is taken for a raster; everything else is read as vector layers.
RASTERS = (".tif", ".tiff", ".vrt", ".png", ".jpg", ".jpeg", ".jp2", ".webp", ".img", ".bmp")

#: Default limits of an image with a georeference: degrees, factor, metres and pixels (the larger), and share
#: of the longest side.
MAX_ROTATION, MAX_SCALE, MAX_SHIFT, MAX_SHIFT_PIXELS, MAX_SHARE = 10.0, 1.1, 30.0, 20.0, 0.25
#: Limits of the scale of an image without one.
UNPLACED_SCALE = 2.08
# Pixels of the map that are drawn around what there is of the layers.
_RIM = 16
# Layers are drawn with so many pixels for each that is compared, so that borders are smooth.
_SMOOTH = 2


@dataclass(frozen=True)
class Limits:
    """How wrong the place of an image may be. None: by whether it has a georeference.

    Attributes:
        max_shift: of the centre, metres; pixels where nothing is placed. By default 30 m or 20 pixels,
            whichever is more, but at most a quarter of the longest side; a quarter without a georeference.
        max_rotation: degrees; by default 10, or 180 without a georeference.
        max_scale: factor, at least 1; by default 1.1, or 2.08 without a georeference.

    Raises:
        InputError: a negative limit, or a factor below 1.
    """

    max_shift: float | None = None
    max_rotation: float | None = None
    max_scale: float | None = None

    def __post_init__(self) -> None:
        negative = any(v is not None and not v >= 0 for v in (self.max_shift, self.max_rotation))
        if negative or (self.max_scale is not None and not self.max_scale >= 1):
            raise InputError(
                f"{self}: expected a shift and a rotation of 0 or more and a factor of 1 or more."
            )

    def of(self, grid: Grid, nominal: bool) -> tuple[float, float, float]:
        """Shift (units of the grid), rotation and scale for an image; `nominal`: it has no georeference."""
        longest = max(grid.width, grid.height) * grid.pixel_size
        shift = MAX_SHARE * longest
        if not nominal:
            shift = min(shift, max(MAX_SHIFT, MAX_SHIFT_PIXELS * grid.pixel_size))
        defaults = (shift, 180.0, UNPLACED_SCALE) if nominal else (shift, MAX_ROTATION, MAX_SCALE)
        given = (self.max_shift, self.max_rotation, self.max_scale)
        shift, rotation, scale = (d if g is None else g for g, d in zip(given, defaults, strict=True))
        return shift, min(rotation, 180.0), scale


@dataclass(frozen=True)
class RasterSource:
    """A raster on a grid, read in windows by the registration.

    Attributes:
        raster: what is read.
        grid: its pixels.
    """

    raster: Raster
    grid: Grid

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.grid.height, self.grid.width

    def read(self, window: Window, shape: tuple[int, int]) -> Picture:
        """A window resized to (height, width)."""
        return image_picture(*resample(self.raster, _part(self.grid, window, shape)))


@dataclass(frozen=True)
class LayersSource:
    """Layers drawn on a grid, in windows.

    Attributes:
        shapes: what is drawn.
        grid: its pixels.
    """

    shapes: MapShapes
    grid: Grid

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.grid.height, self.grid.width

    def read(self, window: Window, shape: tuple[int, int]) -> Picture:
        """A window resized to (height, width)."""
        fine = _part(self.grid, window, (_SMOOTH * shape[0], _SMOOTH * shape[1]))
        return class_picture(self.shapes.classes(fine)).resized(1 / _SMOOTH)


def _part(grid: Grid, window: Window, shape: tuple[int, int]) -> Grid:
    width, height = window.right - window.left, window.bottom - window.top
    return grid.window(window.left, window.top, width, height).resized(shape[1], shape[0])


@dataclass(frozen=True, eq=False)
class AlignmentInput:
    """An image and layers, ready to be aligned.

    Attributes:
        image: with a place, which may be a nominal one.
        image_grid: what the image is compared on: square metric pixels, north up.
        nominal: whether the place of the image is a guess.
        layers: vector layers, and rasters of classes.
        shapes: what is drawn of them.
        map_grid: what they are drawn on: the pixels of `image_grid` as far as the image may reach.
        max_shift: of the image's centre, units of the grid (metres).
        max_rotation: degrees.
        max_scale: factor.
    """

    image: Raster
    image_grid: Grid
    nominal: bool
    layers: tuple[Layer | Raster, ...]
    shapes: MapShapes
    map_grid: Grid
    max_shift: float
    max_rotation: float
    max_scale: float

    @property
    def vectors(self) -> list[Layer]:
        """The layers without the rasters of classes."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    @property
    def unit(self) -> str:
        """Of lengths: metres, or pixels where nothing is placed on the ground."""
        return "px" if self.image_grid.crs is None else "m"

    @property
    def image_source(self) -> RasterSource:
        """The image for the registration."""
        return RasterSource(self.image, self.image_grid)

    def map_source(self, alignment: Alignment | None = None) -> LayersSource:
        """The layers for the registration, as they claim to be or as an alignment corrects them."""
        grid = self.map_grid if alignment is None else alignment.claimed_grid(self.map_grid)
        return LayersSource(self.shapes, grid)

    @property
    def expected(self) -> npt.NDArray[np.float64]:
        """(3, 3), pixel of the map ← pixel of the image as both claim to be; centres of pixels are whole."""
        matrix = np.linalg.inv(self.map_grid.crs_from_center) @ self.image_grid.crs_from_center
        return np.asarray(matrix / matrix[2, 2], np.float64)

    @property
    def prior(self) -> Prior:
        """What is known of the registration."""
        shift = self.max_shift / self.map_grid.pixel_size
        return Prior(self.expected, self.max_rotation, self.max_scale, shift)


def open_input(
    image: Path,
    layers: Sequence[Path],
    rules: Sequence[Rule] | Path | None = None,
    limits: Limits | None = None,
    image_crs: Any = None,
    layers_crs: Any = None,
    image_center: tuple[float, float] | None = None,
    image_pixel_size: float | None = None,
    resolution: float | None = None,
    nodata: float | None = None,
) -> AlignmentInput:
    """Read an image and layers, and decide where to look for what.

    An image without placement gets a nominal one: upon the layers, as large as they are, or where
    `image_center` and `image_pixel_size` say. With a raster of classes that has none either, both are put
    upon each other.

    Args:
        image: whatever :func:`~hloc_ext.gis.raster.open_raster` reads.
        layers: vector files or folders, and rasters of classes.
        rules: see :func:`~hloc_ext.gis.classes.read_rules`, or its file; the package's by default.
        limits: how wrong the image may be.
        image_crs, layers_crs: replace what the files say; ``layers_crs="pixels"`` for layers drawn on an
            image without placement.
        image_center: (longitude, latitude) of an image without placement.
        image_pixel_size: metres, likewise.
        resolution: pixels that are compared, metres; those of the image by default.
        nodata: value of the image's invalid pixels.

    Raises:
        MissingInputError, CorruptFileError, InputError: as the functions that read; or one of image and
            layers has no place on the ground.
    """
    raster = open_raster(image, crs=image_crs, nodata=nodata)
    nominal = raster.crs_from_pixel is None
    if not nominal and (image_center is not None or image_pixel_size is not None):
        raise InputError(
            f"{image} has a georeference: image_center and image_pixel_size are for images without one."
        )
    read = read_all_layers(layers, layers_crs)
    if nominal:
        raster = _placed(raster, read, image_center, image_pixel_size)
    if not isinstance(rules, Sequence):
        rules = read_rules() if rules is None else read_rules(rules)
    grid = metric_grid(raster, resolution)
    if grid.crs is None:
        read = [_upon(layer, raster) if isinstance(layer, Raster) else layer for layer in read]
    _require_same_ground(raster, read)
    shift, rotation, scale = (limits or Limits()).of(grid, nominal)
    reach = _reach(grid, shift, rotation, scale)
    shapes = map_shapes(read, rules, grid, float(reach.max()) * grid.pixel_size)
    return AlignmentInput(
        image=raster,
        image_grid=grid,
        nominal=nominal,
        layers=tuple(read),
        shapes=shapes,
        map_grid=_map_grid(grid, shapes, reach),
        max_shift=shift,
        max_rotation=rotation,
        max_scale=scale,
    )


def read_all_layers(paths: Sequence[Path], crs: Any = None) -> list[Layer | Raster]:
    """Read vector layers, and open rasters of classes.

    Raises:
        MissingInputError, CorruptFileError, InputError: as :func:`~hloc_ext.gis.vector.read_layers` and
            :func:`~hloc_ext.gis.raster.open_raster`.
    """
    layers: list[Layer | Raster] = []
    for path in map(Path, paths):
        if path.suffix.lower() in RASTERS:
            layers.append(open_raster(path, crs=None if crs == "pixels" else crs))
        else:
            layers += read_layers(path, crs)
    return layers


def outline_of(layers: Sequence[Layer | Raster], crs: pyproj.CRS | None) -> Floats:
    """Points (N, 2) in `crs` around all that layers hold.

    Raises:
        InputError: they hold nothing.
    """
    parts = [np.empty((0, 2))]
    for layer in layers:
        if isinstance(layer, Raster):
            points = layer.grid.outline()
        elif layer.spatial and len(layer.frame):
            bounds = shapely.bounds(layer.frame.geometry.to_numpy())
            bounds = bounds[np.isfinite(bounds).all(axis=1)]
            if not len(bounds):
                continue
            west, south, east, north = np.append(bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0))
            points = Grid.north_up(None, west, north, 1.0, 1, 1).outline() - (west, north)
            points = points * (east - west, north - south) + (west, north)
        else:
            continue
        known = layer.crs
        parts.append(points if known is None or crs is None else transform_points(known, crs, points))
    outline = np.concatenate(parts)
    outline = outline[np.isfinite(outline).all(axis=1)]
    if not len(outline):
        raise InputError("The layers are empty: there is nothing to align.")
    return outline


def _placed(
    raster: Raster,
    layers: Sequence[Layer | Raster],
    center: tuple[float, float] | None,
    pixel_size: float | None,
) -> Raster:
    """An image without placement, where the layers are; as it is where they have none either."""
    known = [layer.crs for layer in layers if layer.crs is not None]
    if not known:
        if center is not None or pixel_size is not None:
            raise InputError("image_center and image_pixel_size need layers with a CRS.")
        return raster
    if center is None:
        around = outline_of(layers, WGS84)
        around[:, 0] = unwrap(around[:, 0], around[0, 0], WGS84)
        place = (around.min(axis=0) + around.max(axis=0)) / 2
        longitude, latitude = (float(place[0]) + 180) % 360 - 180, float(place[1])
    else:
        longitude, latitude = center
    crs = utm_crs(longitude, latitude)
    outline = outline_of(layers, crs)
    middle = transform_points(WGS84, crs, [[longitude, latitude]])[0]
    if pixel_size is None:
        pixel_size = float(np.ptp(outline, axis=0).max()) / max(raster.width, raster.height)
    left, top = middle + np.array([-raster.width, raster.height]) * pixel_size / 2
    return raster.placed(Grid.north_up(crs, left, top, pixel_size, raster.width, raster.height))


def _upon(mask: Raster, image: Raster) -> Raster:
    """A raster of classes without placement, its centre and longest side upon those of an image."""
    if mask.crs_from_pixel is not None:
        return mask
    size = max(image.width, image.height) / max(mask.width, mask.height)
    x, y = image.width / 2, -image.height / 2
    left, top = x - mask.width * size / 2, y + mask.height * size / 2
    return mask.placed(Grid.north_up(None, left, top, size, mask.width, mask.height))


def _require_same_ground(image: Raster, layers: Sequence[Layer | Raster]) -> None:
    for layer in layers:
        if isinstance(layer, Layer) and not (layer.spatial and len(layer.frame)):
            continue
        if (layer.crs is None) != (image.crs is None):
            without, with_ = (layer.path, image.path) if layer.crs is None else (image.path, layer.path)
            option = "layers_crs" if layer.crs is None else "image_crs"
            raise InputError(
                f"{without} has no place on the ground, and {with_} has: state its CRS ({option}), or give"
                " both without."
            )


def _reach(grid: Grid, shift: float, rotation: float, scale: float) -> Floats:
    """How far an image may reach beyond its grid to either side, (x, y) pixels."""
    angles = np.radians(np.linspace(0, min(rotation, 90.0), 91))
    cos, sin = np.cos(angles), np.sin(angles)
    width = float((grid.width * cos + grid.height * sin).max()) * scale
    height = float((grid.height * cos + grid.width * sin).max()) * scale
    beyond = np.array([width - grid.width, height - grid.height]) / 2
    return np.asarray(beyond + shift / grid.pixel_size, np.float64)


def _map_grid(grid: Grid, shapes: MapShapes, reach: Floats) -> Grid:
    """The pixels of an image's grid, and beyond it, that show layers."""
    parts = [outline_of(shapes.rasters, grid.crs)] if shapes.rasters else []
    if len(shapes.shapes):
        parts.append(shapely.get_coordinates(shapely.box(*shapely.total_bounds(shapes.shapes))))
    corners = np.concatenate(parts)
    points = apply_homography(grid.pixel_from_crs, corners[np.isfinite(corners).all(axis=1)])
    low = np.maximum(np.floor(points.min(axis=0)) - _RIM, np.floor(-reach))
    size = np.array((grid.width, grid.height))
    high = np.minimum(np.ceil(points.max(axis=0)) + _RIM, np.ceil(size + reach))
    if not (high - low >= 1).all():
        raise InputError("The layers show nothing where the image may be: is its georeference right?")
    width, height = (int(v) for v in high - low)
    return grid.window(int(low[0]), int(low[1]), width, height)


def parse_center(text: str) -> tuple[float, float]:
    """Read ``LONGITUDE,LATITUDE``.

    Raises:
        InputError: it is something else.
    """
    try:
        longitude, latitude = (float(value) for value in text.split(","))
    except ValueError as error:
        raise InputError(f"'{text}' is not LONGITUDE,LATITUDE in degrees.") from error
    if not (math.isfinite(longitude) and abs(latitude) <= 90):
        raise InputError(f"'{text}' is not a place on the Earth.")
    return longitude, latitude
