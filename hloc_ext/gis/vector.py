"""Vector layers that OGR reads, and what of them is near an image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorruptFileError, InputError, MissingInputError
from .crs import WGS84, parse_crs, period, transform_points, unwrap
from .extra import naming_extra
from .grid import Floats, Grid
from .transform import Geometries

with naming_extra():
    import geopandas as gpd
    import pandas as pd
    import pyogrio
    import pyproj
    import shapely
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError

logger = logging.getLogger(__name__)

#: What is taken for vector data in a folder.
SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".gml", ".kml", ".gpx", ".pbf", ".parquet")

# A feature this many times as large as the surroundings of the image is cut to them.
_HUGE = 3.0


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer as it was read.

    Attributes:
        name: of the layer in its file.
        path: the file.
        frame: its features; a table without geometries for a layer that has none.
    """

    name: str
    path: Path
    frame: gpd.GeoDataFrame | pd.DataFrame

    @property
    def spatial(self) -> bool:
        """Whether it has geometries."""
        return isinstance(self.frame, gpd.GeoDataFrame)

    @property
    def crs(self) -> pyproj.CRS | None:
        """Of the geometries; None for a layer without, and for pixels of a picture without placement."""
        return self.frame.crs if isinstance(self.frame, gpd.GeoDataFrame) else None


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Where an image and what is near to it lies in the CRS of a layer.

    Attributes:
        box: (x least, y least, x largest, y largest); x goes on beyond the antimeridian.
        center: x of the middle of the image.
        crs: of the layer.
    """

    box: tuple[float, float, float, float]
    center: float
    crs: pyproj.CRS | None

    @staticmethod
    def of(grid: Grid, margin: float, crs: pyproj.CRS | None) -> Surroundings:
        """Of an image.

        Args:
            grid: of the image, metric.
            margin: around it, metres.
            crs: of the layer.

        Raises:
            InputError: only one of the two has a CRS, or the image is outside of the layer's.
        """
        if (grid.crs is None) != (crs is None):
            raise InputError(
                "Layers on the ground need an image with a placement, and layers in pixels one without: give"
                " the image a place first."
            )
        low, high = grid.corners.min(axis=0) - margin, grid.corners.max(axis=0) + margin
        width, height = (int(v) for v in np.ceil((high - low) / grid.pixel_size))
        area = Grid.north_up(grid.crs, low[0], high[1], grid.pixel_size, width, height)
        points = np.vstack([area.center, area.outline()])
        if grid.crs is not None and crs is not None:
            points = transform_points(grid.crs, crs, points)
        if not np.isfinite(points).all():
            raise InputError(f"The image is outside of the area of '{crs.name if crs else None}'.")
        points[:, 0] = unwrap(points[:, 0], points[0, 0], crs)
        (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
        return Surroundings((west, south, east, north), float(points[0, 0]), crs)

    def copies(self) -> list[tuple[float, float, float, float]]:
        """The box as it may be written in a file: also a full circle to the west and to the east."""
        west, south, east, north = self.box
        turn = None if self.crs is None else period(self.crs)
        return [
            (west + shift, south, east + shift, north)
            for shift in ((0.0,) if turn is None else (0.0, -turn, turn))
        ]

    def near(self, geometries: Geometries) -> npt.NDArray[np.bool_]:
        """Which geometries of the layer may be in the box, (N,): their bounds meet it."""
        bounds = shapely.bounds(geometries)
        west, south, east, north = bounds.T
        found = np.zeros(len(bounds), bool)
        with np.errstate(invalid="ignore"):
            for box in self.copies():
                found |= (west <= box[2]) & (east >= box[0]) & (south <= box[3]) & (north >= box[1])
        return found


def read_layers(
    path: Path,
    crs: Any = None,
    names: Sequence[str] | None = None,
    near: tuple[Grid, float] | None = None,
) -> list[Layer]:
    """Read the layers of a file, or of all vector files in a folder.

    Geometries stay as they are, also invalid ones. Curves become lines, as GDAL does it. Integers with gaps
    stay integers.

    Args:
        path: GeoPackage, GeoJSON, Shapefile, FlatGeobuf, … or a folder of such.
        crs: replaces what the file says; ``"pixels"`` for coordinates in a picture without placement (x
            right, y up from its upper left corner).
        names: of the layers to read; all by default.
        near: grid of an image and metres around it: only features whose bounds meet this are read.

    Returns:
        The layers, also empty ones and tables without geometries.

    Raises:
        MissingInputError: no such file, or layer.
        CorruptFileError: OGR cannot read it.
        InputError: a layer without CRS, one whose coordinates cannot be of its CRS, or no feature at all.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"Layers {path} do not exist.")
    files = [path]
    if path.is_dir() and path.suffix.lower() != ".gdb":
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not files:
            raise MissingInputError(f"No vector data in {path}: expected files in {', '.join(SUFFIXES)}.")
    layers = []
    for file in files:
        try:
            available = [str(name) for name, _ in pyogrio.list_layers(file)]
            layers += [
                _read_layer(file, name, crs, near) for name in available if names is None or name in names
            ]
        except (DataSourceError, DataLayerError, FeatureError, FieldError, shapely.GEOSException) as error:
            raise CorruptFileError(
                f"{file} cannot be read as vector data ({str(error).splitlines()[0]}): it is damaged, or of a"
                " format that OGR does not know."
            ) from error
    missing = sorted(set(names or ()) - {layer.name for layer in layers})
    if missing:
        raise MissingInputError(f"{path} has no layer {', '.join(missing)}.")
    if near is None and not any(layer.spatial and len(layer.frame) for layer in layers):
        raise InputError(f"{path} holds no features: its layers are empty.")
    return layers


def _read_layer(path: Path, name: str, crs: Any, near: tuple[Grid, float] | None) -> Layer:
    info = pyogrio.read_info(path, layer=name)
    if info["geometry_type"] is None:
        return Layer(name, path, _with_integers(pyogrio.read_dataframe(path, layer=name), info))
    stated = info["crs"] if crs is None else crs
    parsed = None
    if stated is None:
        if info["features"] != 0:
            raise InputError(
                f"Layer '{name}' of {path} has no CRS: state it (layers_crs, such as EPSG:4326), or add it to"
                " the file (.prj of a shapefile)."
            )
    elif stated != "pixels":
        parsed = parse_crs(stated, f"layer '{name}' of {path}")
    if near is None:
        frame = pyogrio.read_dataframe(path, layer=name)
    else:
        parts = [
            pyogrio.read_dataframe(path, layer=name, bbox=box, fid_as_index=True)
            for box in Surroundings.of(near[0], near[1], parsed).copies()
        ]
        frame = pd.concat([part for part in parts if len(part)] or parts[:1])
        frame = frame[~frame.index.duplicated()].sort_index().reset_index(drop=True)
    frame = _with_integers(frame, info).set_crs(parsed, allow_override=True)
    _check_degrees(frame, name, path)
    return Layer(name, path, frame)


def _with_integers(frame: Any, info: dict[str, Any]) -> Any:
    """Make columns of integers with gaps, which are read as floating point numbers, integers again."""
    for column, kind in zip(info["fields"], info["dtypes"], strict=True):
        if np.dtype(kind).kind in "iu" and column in frame and frame[column].dtype.kind == "f":
            frame[column] = frame[column].astype(f"Int{8 * np.dtype(kind).itemsize}")
    return frame


def _check_degrees(frame: gpd.GeoDataFrame, name: str, path: Path) -> None:
    if frame.crs is None or not frame.crs.is_geographic or not len(frame):
        return
    _, south, _, north = frame.total_bounds
    if max(-south, north) > 90.001:
        raise InputError(
            f"Layer '{name}' of {path} has a latitude of {max(-south, north, key=abs):.6g}°: its CRS is not"
            f" '{frame.crs.name}'. State the right one (layers_crs)."
        )


def metric_shapes(layer: Layer, grid: Grid, margin: float) -> tuple[Geometries, npt.NDArray[np.intp], int]:
    """Geometries of a layer near an image, in metres, repaired.

    A polygon that crosses itself becomes what it encloses (``shapely.make_valid``). What is much larger than
    the surroundings of the image is cut to them. Geometries across the antimeridian are put together.

    Args:
        layer: with geometries.
        grid: of the image, metric.
        margin: metres around it.

    Returns:
        (N,) geometries in the CRS of `grid`; (N,) their rows in the layer; and how many were repaired.

    Raises:
        InputError: as :meth:`Surroundings.of`.
    """
    area = Surroundings.of(grid, margin, layer.crs)
    geometries = layer.frame.geometry.to_numpy()
    rows = np.flatnonzero(area.near(geometries))
    shapes = shapely.force_2d(geometries[rows])
    shapes = _unwrapped(shapes, area)
    invalid = ~shapely.is_valid(shapes)
    shapes[invalid] = shapely.make_valid(shapes[invalid])
    west, south, east, north = area.box
    width, height = _HUGE * (east - west), _HUGE * (north - south)
    left, bottom, right, top = shapely.bounds(shapes).T
    huge = (right - left > width) | (top - bottom > height)
    frame = shapely.box(west - width, south - height, east + width, north + height)
    shapes[huge] = shapely.intersection(shapes[huge], frame)
    if grid.crs is not None and layer.crs is not None:
        source, target = layer.crs, grid.crs
        shapes = shapely.transform(shapes, lambda p: transform_points(source, target, p))
    kept = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    return shapes[kept], rows[kept], int(invalid.sum())


def _unwrapped(shapes: Geometries, area: Surroundings) -> Geometries:
    """Geometries with the x at which the box has them, put together where they cross the antimeridian."""
    turn = None if area.crs is None else period(area.crs)
    if turn is None or not len(shapes):
        return shapes
    bounds = shapely.bounds(shapes)
    wide = bounds[:, 2] - bounds[:, 0] > turn / 2
    result = shapes.copy()
    result[~wide] = shapely.transform(shapes[~wide], lambda points: _near_center(points, area))
    for index in np.flatnonzero(wide):
        result[index] = shapely.union_all(
            [_unwrapped_part(part, area, turn) for part in shapely.get_parts(shapes[index])]
        )
    return result


def _near_center(points: Floats, area: Surroundings) -> Floats:
    return np.column_stack([unwrap(points[:, 0], area.center, area.crs), points[:, 1]])


def _unwrapped_part(part: shapely.Geometry, area: Surroundings, turn: float) -> shapely.Geometry:
    """A part of a wide geometry: it crosses the antimeridian if an edge is longer than half a circle."""
    x = shapely.get_coordinates(part)[:, 0]
    if len(x) > 1 and np.abs(np.diff(x)).max() > turn / 2:
        return shapely.make_valid(shapely.transform(part, lambda points: _near_center(points, area)))
    west, east = x.min(), x.max()
    shifts = [s for s in (0.0, turn, -turn) if west + s <= area.box[2] and east + s >= area.box[0]]
    shift = shifts[0] if shifts else 0.0
    return shapely.make_valid(shapely.transform(part, lambda points: np.add(points, (shift, 0.0))))


def require_near(layers: Sequence[Layer], grid: Grid, margin: float) -> None:
    """Make sure that a feature is near an image.

    Args:
        layers: some of them may be tables.
        grid: of the image, metric.
        margin: metres around it.

    Raises:
        InputError: none is, or the layers are empty; says how far the layers are away.
    """
    distances = []
    for layer in (layer for layer in layers if layer.spatial and len(layer.frame)):
        geometries = layer.frame.geometry.to_numpy()
        if Surroundings.of(grid, margin, layer.crs).near(geometries).any():
            return
        distances.append(_distance(layer, grid))
    if not distances:
        raise InputError("The layers are empty: there is nothing to align.")
    names = ", ".join(sorted({f"'{layer.name}' of {layer.path}" for layer in layers if layer.spatial}))
    raise InputError(
        f"No feature of {names} is within {margin:.0f} m of the image; the nearest is about"
        f" {min(distances) / 1000:.1f} km away. Are the CRS of the layers (layers_crs) and of the image"
        " (image_crs) right?"
    )


def _distance(layer: Layer, grid: Grid) -> float:
    """About how far a layer is from the middle of an image, metres."""
    bounds = shapely.bounds(layer.frame.geometry.to_numpy())
    bounds = bounds[np.isfinite(bounds).all(axis=1)]
    if not len(bounds):
        return np.inf
    if layer.crs is None or grid.crs is None:
        return float(np.linalg.norm(_nearest(bounds, grid.center) - grid.center, axis=1).min())
    center = transform_points(grid.crs, layer.crs, grid.center[None])[0]
    places = transform_points(layer.crs, WGS84, _nearest(bounds, center))
    here = np.broadcast_to(transform_points(grid.crs, WGS84, grid.center[None])[0], places.shape)
    lengths = pyproj.Geod(ellps="WGS84").inv(*here.T, *places.T)[2]
    return float(np.nanmin(lengths))


def _nearest(bounds: Floats, point: Floats) -> Floats:
    return np.clip(point, bounds[:, :2], bounds[:, 2:])
