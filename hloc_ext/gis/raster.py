"""Rasters that GDAL reads, as 8-bit pictures with a mask of what is valid: GeoTIFF, tile folders, photos."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorruptFileError, InputError, MissingInputError
from .crs import parse_crs, transform_points, unwrap, working_crs
from .extra import naming_extra
from .gcps import fit_gcps
from .grid import Grid, Matrix
from .tiles import require_whole_png, tile_mosaic

with naming_extra():
    import pyproj
    import rasterio
    import shapely
    from rasterio.enums import ColorInterp, Resampling
    from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
    from rasterio.windows import Window

Pixels = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

#: Part of the values that other than 8-bit rasters are clipped by at either end, percent.
STRETCH = 0.5

# Side of the sample of a raster that the stretch is taken from, pixels.
_SAMPLE = 1024
# A fourth band that GDAL takes for alpha is believed if so much of it is fully opaque or transparent.
_BINARY = 0.95


@dataclass(frozen=True, eq=False)
class Raster:
    """A raster, open only while it is read.

    Attributes:
        path: file or folder, as it was given.
        source: what GDAL opens.
        crs: None for a raster of unknown placement, and where the file only lacks it.
        crs_from_pixel: (3, 3) pixel → coordinates of `crs`; the upper left corner of the first pixel is
            (0, 0). None for a raster of unknown placement.
        width, height: pixels.
        bands: the bands that are shown, from 1: one for grey or a palette, three for colour.
        dtype: of the bands.
        palette: (256, 3) colours of an indexed band, or None.
        nodata: value of invalid pixels that replaces what the file says, or None.
        masked: whether the file's own mask (nodata, alpha, mask band) is believed.
    """

    path: Path
    source: str
    crs: pyproj.CRS | None
    crs_from_pixel: Matrix | None
    width: int
    height: int
    bands: tuple[int, ...]
    dtype: str
    palette: Pixels | None
    nodata: float | None
    masked: bool

    @property
    def grid(self) -> Grid:
        """The raster's own pixels; without placement in a frame of pixels, x right, y up."""
        matrix = np.diag([1.0, -1.0, 1.0]) if self.crs_from_pixel is None else self.crs_from_pixel
        return Grid(self.crs, matrix, self.width, self.height)

    def placed(self, grid: Grid) -> Raster:
        """The same picture in another place.

        Raises:
            InputError: the grid is of another size.
        """
        if (grid.width, grid.height) != (self.width, self.height):
            raise InputError(f"{self.path} has {self.width}×{self.height} pixels, its new place others.")
        return replace(self, crs=grid.crs, crs_from_pixel=grid.crs_from_pixel)

    @cached_property
    def stretch(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Values of each shown band that become 0 and 255; None for 8 bits, which stay as they are."""
        if self.dtype == "uint8":
            return None
        factor = max(self.width, self.height, _SAMPLE) / _SAMPLE
        size = max(round(self.width / factor), 1), max(round(self.height / factor), 1)
        values, valid = self._read(self.bands, (0, 0, self.width, self.height), size, Resampling.nearest)
        if not valid.any():
            return np.zeros(len(self.bands)), np.ones(len(self.bands))
        low, high = np.percentile(values[:, valid].astype(np.float64), [STRETCH, 100 - STRETCH], axis=1)
        return low, np.where(high > low, high, low + 1)

    def read(
        self, window: tuple[int, int, int, int] | None = None, size: tuple[int, int] | None = None
    ) -> tuple[Pixels, Flags]:
        """Read a part as a picture of 8 bits.

        Args:
            window: (column, row, width, height) inside the raster; all of it by default.
            size: (width, height) of the result; by default that of the window. Smaller ones are averaged.

        Returns:
            (H, W) grey or (H, W, 3) RGB; and (H, W), which pixels are valid.

        Raises:
            CorruptFileError: the file is damaged.
        """
        window = window or (0, 0, self.width, self.height)
        kind = Resampling.nearest if self.palette is not None else Resampling.average
        values, valid = self._read(self.bands, window, size or window[2:], kind)
        if self.palette is not None:
            return self.palette[values[0].astype(np.uint8)], valid
        if self.stretch is not None:
            low, high = (np.reshape(v, (-1, 1, 1)).astype(np.float32) for v in self.stretch)
            scaled = (np.nan_to_num(values.astype(np.float32)) - low) * (255 / (high - low))
            values = np.round(np.clip(scaled, 0, 255)).astype(np.uint8)
        picture = values[0] if len(values) == 1 else np.ascontiguousarray(np.moveaxis(values, 0, 2))
        return picture, valid

    def read_values(self, window: tuple[int, int, int, int] | None = None) -> tuple[npt.NDArray[Any], Flags]:
        """Read a part of the first band as it is, (H, W), and which pixels are valid: for classes.

        Args:
            window: (column, row, width, height) inside the raster; all of it by default.

        Raises:
            CorruptFileError: the file is damaged.
        """
        window = window or (0, 0, self.width, self.height)
        values, valid = self._read((1,), window, window[2:], Resampling.nearest)
        return values[0], valid

    def _read(
        self,
        bands: tuple[int, ...],
        window: tuple[int, int, int, int],
        size: tuple[int, int],
        resampling: Resampling,
    ) -> tuple[npt.NDArray[Any], Flags]:
        """Bands (N, H, W) as they are, and (H, W) valid."""
        part, shape = Window(*window), (size[1], size[0])
        with opened(self.source, self.path) as file:
            values = file.read(bands, window=part, out_shape=(len(bands), *shape), resampling=resampling)
            if self.nodata is not None:
                valid = (values != self.nodata).any(axis=0)
            elif self.masked:
                valid = file.dataset_mask(window=part, out_shape=shape) > 127
            else:
                valid = np.ones(shape, bool)
        if values.dtype.kind == "f":
            valid &= np.isfinite(values).all(axis=0)
        return values, valid


@contextmanager
def opened(source: str, path: Path) -> Iterator[Any]:
    """Open a file with rasterio; what is wrong inside the block becomes an error that names it.

    Args:
        source: what GDAL opens.
        path: the name for messages.

    Raises:
        CorruptFileError: GDAL cannot read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(source) as file:
                yield file
    except (RasterioIOError, RasterioError) as error:
        cause = error.__cause__ or error
        raise CorruptFileError(
            f"{path} cannot be read as a raster ({str(cause).splitlines()[0]}): it is damaged, or of a format"
            " that GDAL does not know. Replace it."
        ) from error


def open_raster(
    path: Path,
    crs: Any = None,
    nodata: float | None = None,
    bands: tuple[int, ...] | None = None,
    zoom: int | None = None,
    tms: bool = False,
) -> Raster:
    """Find out what a raster is.

    * GeoTIFF, COG and whatever else GDAL opens. Rotated geotransforms and ground control points are placed
      exactly (the latter as an affine map or a homography).
    * A folder of web map tiles ``z/x/y.png``.
    * A picture without placement.

    Colours are the bands that are marked so, else the first three; a fourth one is alpha only if it looks
    like it. Other than 8-bit values are stretched between their 0.5 and 99.5 percentiles.

    Args:
        path: file or folder.
        crs: replaces what the file says.
        nodata: value of invalid pixels, replaces what the file says.
        bands: those to show, one or three, from 1.
        zoom: level of a tile folder; the finest by default.
        tms: whether the rows of a tile folder count from the south.

    Raises:
        MissingInputError: no such file.
        CorruptFileError: GDAL cannot open it.
        InputError: a CRS that is not understood, or bands that do not exist.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"Raster {path} does not exist.")
    if path.is_file():
        require_whole_png(path)
    source, origin = tile_mosaic(path, zoom, tms) if path.is_dir() else (str(path), None)
    with opened(source, path) as file:
        if file.count == 0:
            raise InputError(f"{path} holds several rasters, or none: name one of {file.subdatasets[:3]}.")
        if np.dtype(file.dtypes[0]).kind == "c":
            raise InputError(f"{path} holds complex numbers: give their magnitude.")
        stated_crs, matrix = _placement(file, path) if origin is None else origin
        if crs is not None:
            stated_crs = parse_crs(crs, str(path))
        shown, palette = _shown(file, bands, path)
        return Raster(
            path=path,
            source=source,
            crs=stated_crs if matrix is not None else None,
            crs_from_pixel=matrix,
            width=file.width,
            height=file.height,
            bands=shown,
            dtype=file.dtypes[shown[0] - 1],
            palette=palette,
            nodata=nodata,
            masked=_mask_is_credible(file),
        )


def _placement(file: Any, path: Path) -> tuple[pyproj.CRS | None, Matrix | None]:
    """CRS and 3×3 map of pixels to coordinates that a file states."""
    gcps, gcp_crs = file.gcps
    crs = file.crs or gcp_crs
    parsed = parse_crs(crs.to_wkt(), str(path)) if crs else None
    if not file.transform.is_identity:
        return parsed, np.array(file.transform, np.float64).reshape(3, 3)
    if gcps:
        points = np.array([(p.x, p.y) for p in gcps], np.float64)
        points[:, 0] = unwrap(points[:, 0], points[0, 0], parsed)
        return parsed, fit_gcps([(p.col, p.row) for p in gcps], points, path)
    return None, None


def _shown(file: Any, bands: tuple[int, ...] | None, path: Path) -> tuple[tuple[int, ...], Pixels | None]:
    """The bands to show, and the palette of an indexed one."""
    if bands is not None:
        if len(bands) not in (1, 3) or not all(1 <= band <= file.count for band in bands):
            raise InputError(f"{path} has {file.count} bands: {bands} are not one or three of them.")
        return tuple(bands), None
    kinds = list(file.colorinterp)
    if kinds[0] == ColorInterp.palette:
        table = np.zeros((256, 3), np.uint8)
        for index, color in file.colormap(1).items():
            table[index] = color[:3]
        return (1,), table
    wanted = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    if all(kind in kinds for kind in wanted):
        return tuple(kinds.index(kind) + 1 for kind in wanted), None
    return ((1, 2, 3) if file.count >= 3 else (1,)), None


def _mask_is_credible(file: Any) -> bool:
    """Whether a file's alpha band, if any, is one: near infrared of a fourth band is often taken for it."""
    alpha = [i + 1 for i, kind in enumerate(file.colorinterp) if kind == ColorInterp.alpha]
    if not alpha:
        return True
    shape = min(file.height, 256), min(file.width, 256)
    values = file.read(alpha[0], out_shape=shape)
    highest = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else values.max()
    return bool(((values == 0) | (values == highest)).mean() >= _BINARY)


def metric_grid(raster: Raster, pixel_size: float | None = None) -> Grid:
    """North-up grid of square pixels of metres that holds a raster: what registration works on.

    A raster that is so already keeps its pixels.

    Args:
        raster: the raster. Without placement, its own pixels are the unit.
        pixel_size: metres; by default that of the raster (the root of its mean area).

    Raises:
        InputError: the raster has a placement, but no CRS.
    """
    if raster.crs_from_pixel is None:
        return raster.grid if pixel_size is None else raster.grid.with_pixel_size(pixel_size)
    if raster.crs is None:
        raise InputError(
            f"{raster.path} has coordinates but no CRS: state it (image_crs, such as EPSG:32635), or add a"
            " .prj file."
        )
    crs = working_crs(raster.crs, raster.grid.center)
    if crs == raster.crs and raster.grid.is_north_up and pixel_size is None:
        return raster.grid
    outline = transform_points(raster.crs, crs, raster.grid.outline())
    if not np.isfinite(outline).all():
        raise InputError(f"A corner of {raster.path} is outside of the CRS '{crs.name}': is its own right?")
    size = np.sqrt(shapely.Polygon(outline).area / (raster.width * raster.height))
    return Grid.around(crs, outline, float(pixel_size or size))
