"""Where tiles lie: GeoTIFF files, pyramids of web-map tiles, and places in the EXIF tags of photos."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CorruptFileError, InputError, MissingInputError
from .geography import EARTH_RADIUS, earth_centred, latlon_of_mercator, mercator
from .listing import Floats, Indices

WEB_MERCATOR = "EPSG:3857"
#: Width of the world, metres of :func:`mercator`.
WORLD = 2 * np.pi * EARTH_RADIUS
#: Width and height of a tile on the ground may differ by this share.
MAX_STRETCH = 0.03

_GEOTIFF = (".tif", ".tiff")
_XYZ = re.compile(r"(\d+)/(\d+)/(\d+)\.(png|jpg|jpeg|webp)$")


@dataclass(frozen=True)
class Tiles:
    """Tiles and where they lie.

    Attributes:
        paths: of M files.
        latlon: (M, 2) of their centres, degrees.
        size: (M,) their width on the ground, metres.
        frames: the CRS that they are in.
        frame_of: (M,) numbers of `frames`.
        centers: (M, 2) in that CRS.
        extents: (M, 2) width and height in that CRS.
    """

    paths: list[Path]
    latlon: Floats
    size: Floats
    frames: tuple[str, ...]
    frame_of: Indices
    centers: Floats
    extents: Floats

    def offsets(self, latlon: Floats) -> Floats:
        """Where a place lies in each tile.

        Args:
            latlon: (2,) degrees.

        Returns:
            (M, 2) shares of the width and height from the centre, x to the right and y down; within ±0.5 in
            a tile that contains the place.
        """
        places = np.array([_project(latlon[None], frame)[0] for frame in self.frames])
        return (places[self.frame_of] - self.centers) / self.extents * [1, -1]

    def corners(self) -> Floats:
        """(M, 4, 2) latitude and longitude: upper left, upper right, lower right, lower left."""
        corners = np.empty((len(self.paths), 4, 2))
        for index, (x, y) in enumerate(((-0.5, 0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, -0.5))):
            points = self.centers + self.extents * (x, y)
            for number, frame in enumerate(self.frames):
                rows = self.frame_of == number
                corners[rows, index] = _unproject(points[rows], frame)
        return corners


def find_tiles(root: Path) -> Tiles:
    """Find the tiles below a folder: web-map tiles if there are any, otherwise GeoTIFF files.

    Raises:
        MissingInputError: no tile.
        InputError: a tile has no CRS or no georeference, is not north up, or covers no square pixels.
    """
    if not root.is_dir():
        raise MissingInputError(f"Folder {root} does not exist: it holds the tiles.")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    pyramid = [
        (int(found[1]), int(found[2]), int(found[3]), path)
        for path in files
        if (found := _XYZ.search(path.as_posix())) is not None
    ]
    if pyramid:
        deepest = max(zoom for zoom, *_ in pyramid)
        return _web_tiles([entry for entry in pyramid if entry[0] == deepest])
    rasters = [path for path in files if path.suffix.lower() in _GEOTIFF]
    if not rasters:
        hint = ""
        if any(path.suffix.lower() in (".png", ".jpg", ".jpeg") for path in files):
            hint = (
                " Its pictures have no georeference: make GeoTIFFs of them (gdal_translate -a_srs -a_ullr)."
            )
        raise MissingInputError(f"No GeoTIFF file and no tile {{z}}/{{x}}/{{y}}.png in {root}.{hint}")
    return _geotiffs(rasters)


def _web_tiles(entries: list[tuple[int, int, int, Path]]) -> Tiles:
    grid = np.array([[zoom, x, y] for zoom, x, y, _ in entries], np.float64)
    width = WORLD / 2 ** grid[:, 0]
    if (grid[:, 1:] >= 2 ** grid[:, :1]).any():
        row = int(np.argmax((grid[:, 1:] >= 2 ** grid[:, :1]).any(axis=1)))
        raise InputError(f"Tile {entries[row][3]} does not exist at zoom level {entries[row][0]}.")
    left_top = np.array([-1, 1]) * WORLD / 2
    centers = left_top + (grid[:, 1:] + 0.5) * width[:, None] * [1, -1]
    return _placed(
        [path for *_, path in entries],
        (WEB_MERCATOR,),
        np.zeros(len(entries), np.int64),
        centers,
        np.repeat(width[:, None], 2, axis=1),
    )


def _geotiffs(paths: list[Path]) -> Tiles:
    try:
        import rasterio
    except ImportError as error:
        raise InputError(
            "GeoTIFF tiles need rasterio and pyproj: pip install 'hloc_ext[gis]', or use web-map tiles"
            " {z}/{x}/{y}.png."
        ) from error
    from rasterio.errors import RasterioError

    frames: list[str] = []
    rows = []
    for path in paths:
        try:
            with rasterio.open(path) as source:
                crs, transform, width, height = source.crs, source.transform, source.width, source.height
        except RasterioError as error:
            raise CorruptFileError(f"Tile {path} cannot be read: {error}. Replace or remove it.") from error
        if crs is None or transform.is_identity:
            raise InputError(
                f"Tile {path} has no {'CRS' if crs is None else 'georeference'}: add it, for instance with"
                " gdal_edit.py -a_srs EPSG:… -a_ullr …."
            )
        if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
            raise InputError(f"Tile {path} is not north up: warp it with gdalwarp.")
        frame = crs.to_wkt()
        if frame not in frames:
            frames.append(frame)
        extent = transform.a * width, -transform.e * height
        center = transform.c + extent[0] / 2, transform.f - extent[1] / 2
        rows.append((frames.index(frame), *center, *extent))
    table = np.array(rows)
    return _placed(paths, tuple(frames), table[:, 0].astype(np.int64), table[:, 1:3], table[:, 3:])


def _placed(
    paths: list[Path], frames: tuple[str, ...], frame_of: Indices, centers: Floats, extents: Floats
) -> Tiles:
    """Tiles with their places and sizes on the ground."""
    latlon = np.empty((len(paths), 2))
    sides = np.empty((len(paths), 2))
    for number, frame in enumerate(frames):
        rows = frame_of == number
        latlon[rows] = _unproject(centers[rows], frame)
        for axis in range(2):
            half = extents[rows] / 2 * np.eye(2)[axis]
            ends = [earth_centred(_unproject(centers[rows] + side, frame)) for side in (-half, half)]
            sides[rows, axis] = np.linalg.norm(ends[1] - ends[0], axis=1)
    stretch = np.abs(sides[:, 1] / sides[:, 0] - 1)
    if (stretch > MAX_STRETCH).any():
        row = int(np.argmax(stretch))
        raise InputError(
            f"Tile {paths[row]} is {sides[row, 0]:.1f} m wide and {sides[row, 1]:.1f} m high: expected a"
            " square on the ground. Cut squares, in a projected CRS."
        )
    return Tiles(paths, latlon, sides[:, 0], frames, frame_of, centers, extents)


def _project(latlon: Floats, frame: str) -> Floats:
    """Places in a CRS, (N, 2) degrees → (N, 2) x and y."""
    if frame == WEB_MERCATOR:
        return mercator(latlon)
    x, y = _transformer(frame).transform(latlon[:, 1], latlon[:, 0])
    return np.column_stack([x, y])


def _unproject(points: Floats, frame: str) -> Floats:
    """Latitude and longitude of points in a CRS, (N, 2)."""
    if frame == WEB_MERCATOR:
        return latlon_of_mercator(points)
    longitude, latitude = _transformer(frame).transform(points[:, 0], points[:, 1], direction="INVERSE")
    return np.column_stack([latitude, longitude])


def _transformer(frame: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs("EPSG:4326", frame, always_xy=True)


def exif_place(path: Path) -> tuple[float, float, float]:
    """Latitude, longitude and heading of a photo by its EXIF tags, degrees, NaN where they do not tell.

    The heading is GPSImgDirection where GPSImgDirectionRef is ``T`` (true north) or absent.
    """
    from PIL import ExifTags, Image

    unknown = (float("nan"),) * 3
    try:
        with Image.open(path) as image:
            tags = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return unknown
    names = ExifTags.GPS
    latitude = _degrees(tags, names.GPSLatitude, names.GPSLatitudeRef, "S")
    longitude = _degrees(tags, names.GPSLongitude, names.GPSLongitudeRef, "W")
    if not np.isfinite([latitude, longitude]).all() or abs(latitude) > 90 or abs(longitude) > 180:
        return unknown
    heading = float("nan")
    if str(tags.get(names.GPSImgDirectionRef, "T")).strip("\0 ") == "T":
        heading = _number(tags.get(names.GPSImgDirection))
    return latitude, longitude, heading


def _degrees(tags: dict[int, Any], value: int, reference: int, negative: str) -> float:
    """Angle of degrees, minutes and seconds."""
    parts = tags.get(value)
    if not isinstance(parts, tuple) or len(parts) != 3:
        return float("nan")
    degrees, minutes, seconds = (_number(part) for part in parts)
    sign = -1 if str(tags.get(reference, "")).strip("\0 ") == negative else 1
    return sign * (degrees + minutes / 60 + seconds / 3600)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return float("nan")
