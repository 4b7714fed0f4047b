"""What a correction is written to: layers, rasters, control points, and pictures to look at."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..city.gdal_errors import explaining_gdal
from ..city.labels import Label
from ..errors import InputError
from ..formats.atomic import explaining, make_dir, replacing, write_text
from .crs import transform_points, unwrap
from .extra import naming_extra
from .grid import Floats, Grid, crs_name
from .raster import Pixels, Raster, opened
from .render import borders
from .transform import Alignment
from .vector import Layer

with naming_extra():
    import geopandas as gpd
    import pyogrio
    import rasterio
    import rasterio.shutil
    import shapely
    from rasterio.control import GroundControlPoint
    from rasterio.transform import Affine

#: Colours of the classes' outlines on an image, RGB.
OUTLINES: dict[int, tuple[int, int, int]] = {
    Label.ROAD: (255, 230, 0),
    Label.SIDEWALK: (255, 130, 220),
    Label.BUILDING: (255, 50, 40),
    Label.VEGETATION: (60, 255, 90),
    Label.WATER: (40, 170, 255),
}

# Control points along each side of an image.
_POINTS = 7
# An image is placed by an affine map that is right to so many pixels, else by control points.
_EXACT = 0.02
# Formats of several layers in a file; the others hold one.
_SEVERAL = (".gpkg", ".gdb", ".sqlite")
# Written to GeoPackages as the time of the last change, so that the same layers give the same bytes.
_DATE = "2000-01-01T00:00:00.000Z"


def corrected_layers(
    layers: Sequence[Layer], alignment: Alignment, area: shapely.Geometry | None = None
) -> list[Layer]:
    """Move layers to where they fit the image; attributes, CRS and order stay.

    Args:
        layers: as they were read; tables stay as they are.
        alignment: the correction.
        area: in the CRS of the alignment: features that do not meet it stay where they are. Everything is
            moved by default.

    Raises:
        InputError: as :func:`hloc_ext.gis.transform.move`.
    """
    corrected = []
    for layer in layers:
        if isinstance(layer.frame, gpd.GeoDataFrame):
            geometries = layer.frame.geometry.to_numpy()
            moved = np.ones(len(geometries), bool) if area is None else _meets(layer, alignment, area)
            result = geometries.copy()
            result[moved] = alignment.apply(geometries[moved], layer.crs)
            frame = layer.frame.set_geometry(gpd.GeoSeries(result, layer.frame.index, crs=layer.crs))
            if layer.frame.geometry.name != frame.geometry.name:
                frame = frame.rename_geometry(layer.frame.geometry.name)
            layer = replace(layer, frame=frame)
        corrected.append(layer)
    return corrected


def _meets(layer: Layer, alignment: Alignment, area: shapely.Geometry) -> npt.NDArray[np.bool_]:
    geometries, crs, metric = layer.frame.geometry.to_numpy(), layer.crs, alignment.crs
    if crs is not None and metric is not None:
        geometries = shapely.transform(geometries, lambda points: transform_points(crs, metric, points))
    bounds = shapely.bounds(geometries)
    known = np.isfinite(bounds).all(axis=1)
    meets = np.zeros(len(geometries), bool)
    meets[known] = shapely.intersects(shapely.box(*bounds[known].T), area)
    return meets


def write_layers(layers: Sequence[Layer], path: Path) -> list[Path]:
    """Write layers to one file, or to a folder with a file for each; complete or not at all.

    Args:
        layers: what to write.
        path: ``.gpkg`` takes any number of layers, ``.geojson``, ``.shp``, ``.fgb`` and the like one; a path
            without ending is a folder that gets a file for each, in the format that it was read from.

    Returns:
        The files.

    Raises:
        InputError: several layers for a format of one, or a format that OGR cannot write.
        DiskFullError, UnwritableError: see :mod:`hloc_ext.formats.atomic`.
    """
    path = Path(path)
    if path.suffix:
        if len(layers) > 1 and path.suffix.lower() not in _SEVERAL:
            raise InputError(f"{path} holds one layer, not {len(layers)}: write a .gpkg, or to a folder.")
        return _write_file(layers, path)
    files: dict[Path, list[Layer]] = {}
    for layer in layers:
        source = layer.path.name
        several = layer.path.suffix.lower() in _SEVERAL
        stem = layer.path.stem if several or sum(x.path == layer.path for x in layers) == 1 else layer.name
        suffix = layer.path.suffix.lower() if _driver(Path(source)) else ".gpkg"
        files.setdefault(path / f"{stem}{suffix}", []).append(layer)
    return [written for file, members in files.items() for written in _write_file(members, file)]


def _driver(path: Path) -> str | None:
    try:
        return str(pyogrio.detect_write_driver(path))
    except ValueError:
        return None


def _write_file(layers: Sequence[Layer], path: Path) -> list[Path]:
    driver = _driver(path)
    if driver is None:
        raise InputError(
            f"No vector format is known by the ending of {path}: use .gpkg, .geojson, .shp, .fgb."
        )
    make_dir(path.parent)
    with explaining(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".layers.") as folder:
        written = Path(folder) / path.name
        with explaining_gdal(path), _gdal_option("OGR_CURRENT_DATE", _DATE):
            for layer in layers:
                _write_layer(layer, written, driver)
        parts = sorted(Path(folder).iterdir())
        for part in parts:
            os.replace(part, path.parent / part.name)
    return [path.parent / part.name for part in parts]


def _write_layer(layer: Layer, path: Path, driver: str) -> None:
    frame = layer.frame.copy()
    for column in frame.columns:
        values = frame[column]
        if values.dtype == object and values.map(lambda v: isinstance(v, list | dict | np.ndarray)).any():
            frame[column] = values.map(_text)
    options: dict[str, Any] = {}
    if isinstance(frame, gpd.GeoDataFrame) and frame.geometry.isna().all():
        options["geometry_type"] = "Unknown"
    pyogrio.write_dataframe(frame, path, layer=layer.name, driver=driver, **options)


def _text(value: Any) -> Any:
    """Lists of an attribute as JSON, which every format can hold."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return json.dumps(value) if isinstance(value, list | dict) else value


def control_points(raster: Raster, alignment: Alignment, side: int = _POINTS) -> tuple[Floats, Floats]:
    """Where the pixels of a raster are once it is moved onto the layers.

    Args:
        raster: with a placement.
        alignment: the correction of the layers; the raster is corrected by its inverse.
        side: points along each side.

    Returns:
        (side², 2) columns and rows, the upper left corner of the raster is (0, 0); (side², 2) coordinates in
        the raster's CRS.

    Raises:
        InputError: the raster has no placement, or a corner has none after correction.
    """
    if raster.crs is None or raster.crs_from_pixel is None or alignment.crs is None:
        raise InputError(f"{raster.path} has no place on the ground that could be corrected.")
    x, y = np.meshgrid(np.linspace(0, raster.width, side), np.linspace(0, raster.height, side))
    pixels = np.column_stack([x.ravel(), y.ravel()])
    matrix = raster.crs_from_pixel
    claimed = pixels @ matrix[:2, :2].T + matrix[:2, 2]
    claimed /= (pixels @ matrix[2, :2] + matrix[2, 2])[:, None]
    metres = alignment.inverse().map_points(transform_points(raster.crs, alignment.crs, claimed))
    corrected = transform_points(alignment.crs, raster.crs, metres)
    if not np.isfinite(corrected).all():
        raise InputError(f"Part of {raster.path} would be moved beyond the horizon by the correction.")
    corrected[:, 0] = unwrap(corrected[:, 0], claimed[:, 0], raster.crs)
    return pixels, corrected


def write_raster(raster: Raster, alignment: Alignment, path: Path, cog: bool = False) -> None:
    """Copy a raster with a corrected georeference to a GeoTIFF: pixels, bands and mask stay as they are.

    The place is written as an affine map where this is exact to 0.02 pixels, and else as ground control
    points.

    Args:
        raster: with a placement.
        alignment: the correction of the layers.
        path: the GeoTIFF.
        cog: write a Cloud Optimized GeoTIFF.

    Raises:
        InputError: as :func:`control_points`.
        CorruptFileError: the raster is damaged.
        DiskFullError, UnwritableError: see :mod:`hloc_ext.formats.atomic`.
    """
    path = Path(path)
    pixels, points = control_points(raster, alignment)
    middle = points.mean(axis=0)
    design = np.column_stack([pixels, np.ones(len(pixels))])
    affine = np.linalg.lstsq(design, points - middle, rcond=None)[0].T
    error = (points - middle - design @ affine.T) @ np.linalg.inv(affine[:, :2]).T
    affine[:, 2] += middle
    with (
        replacing(path) as temporary,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".raster.") as folder,
        opened(raster.source, raster.path) as source,
        explaining_gdal(path),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
    ):
        copy = Path(folder) / "copy.tif"
        kind = np.dtype(raster.dtype).kind
        predictor = 3 if kind == "f" else 2
        options = {"compress": "deflate", "tiled": True, "predictor": predictor, "bigtiff": "if_safer"}
        rasterio.shutil.copy(source, copy, driver="GTiff", **options)
        with rasterio.open(copy, "r+") as file:
            file.crs = rasterio.crs.CRS.from_user_input(crs_name(raster.crs)) if raster.crs else None
            if np.linalg.norm(error, axis=1).max() <= _EXACT:
                file.transform = Affine(*affine.ravel())
            else:
                file.gcps = _gcps(pixels, points), file.crs
        if cog:
            plain, copy = copy, Path(folder) / "cog.tif"
            rasterio.shutil.copy(plain, copy, driver="COG", compress="deflate", bigtiff="if_safer")
        os.replace(copy, temporary)


def _gcps(pixels: Floats, points: Floats) -> list[GroundControlPoint]:
    return [
        GroundControlPoint(row=row, col=column, x=x, y=y, z=0.0, id=str(number))
        for number, ((column, row), (x, y)) in enumerate(
            zip(pixels.tolist(), points.tolist(), strict=True), 1
        )
    ]


def write_points(raster: Raster, alignment: Alignment, path: Path) -> None:
    """Write control points for QGIS's Georeferencer (``.points``).

    The source is where QGIS shows the raster: in its own CRS where it has a placement of its own, else in
    pixels, x right and y up.

    Args:
        raster: with a placement, which may have been given to it (:meth:`Raster.placed`).
        alignment: the correction of the layers.
        path: the file.

    Raises:
        InputError: as :func:`control_points`.
    """
    pixels, points = control_points(raster, alignment, side=5)
    own = _own_placement(raster)
    source = pixels * (1, -1) if own is None else pixels @ own[:2, :2].T + own[:2, 2]
    text = io.StringIO()
    text.write(f"#CRS: {raster.crs.to_wkt('WKT2_2019') if raster.crs else ''}\n")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["mapX", "mapY", "sourceX", "sourceY", "enable", "dX", "dY", "residual"])
    for (x, y), (u, v) in zip(points.tolist(), source.tolist(), strict=True):
        rows.writerow([repr(x), repr(y), repr(u), repr(v), 1, 0, 0, 0])
    write_text(path, text.getvalue())


def _own_placement(raster: Raster) -> npt.NDArray[np.float64] | None:
    """The geotransform in a raster's file, which QGIS goes by."""
    with opened(raster.source, raster.path) as file:
        return None if file.transform.is_identity else np.array(file.transform, np.float64).reshape(3, 3)


def overlay(picture: Pixels, classes: Pixels, thickness: int = 2) -> Pixels:
    """An image with the outlines of classes on it.

    Args:
        picture: (H, W) or (H, W, 3).
        classes: (H, W), on the same grid.
        thickness: of the lines, pixels.

    Returns:
        (H, W, 3) RGB.
    """
    result = np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture.copy()
    line = borders(classes)
    painted = np.where(line, classes, 0).astype(np.uint8)
    if thickness > 1:
        painted = np.asarray(cv2.dilate(painted, np.ones((thickness, thickness), np.uint8)), np.uint8)
    for label, color in OUTLINES.items():
        result[painted == label] = color
    return result


def overlay_grid(grid: Grid, longest: int = 1600) -> Grid:
    """A grid of the same ground with at most `longest` pixels a side, for pictures to look at."""
    factor = max(grid.width, grid.height) / longest
    return grid if factor <= 1 else grid.with_pixel_size(grid.pixel_size * factor)


def write_picture(path: Path, picture: Pixels) -> None:
    """Write an RGB or grey picture as PNG or JPEG, atomically.

    Raises:
        InputError: another ending.
        DiskFullError, UnwritableError: see :mod:`hloc_ext.formats.atomic`.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"Pictures are .png or .jpg, not {path.suffix!r}: {path}.")
    stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(path.suffix, stored)
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


@contextmanager
def _gdal_option(name: str, value: str) -> Iterator[None]:
    before = pyogrio.get_gdal_config_option(name)
    pyogrio.set_gdal_config_options({name: value})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({name: before})
