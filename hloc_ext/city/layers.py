"""Vector layers of a city in its projected CRS, and a GeoPackage of them.

The roads' centre lines are a layer of their own; crowns of trees are circles of 0.3 times the tree's height.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import shapely

from ..formats.atomic import replacing
from .gdal_errors import explaining_gdal
from .planning.parts import CityPlan

#: Radius of a tree's crown, as a share of the tree's height.
CROWN_RADIUS = 0.3
#: Names of the layers, in the order in which they are painted over each other.
LAYERS = (
    "roads",
    "sidewalks",
    "vegetation",
    "water",
    "crossings",
    "buildings",
    "road_centrelines",
)

# Written to the file as the time of the last change, so that the same layers give the same bytes.
_DATE = "2000-01-01T00:00:00.000Z"


def vector_layers(
    plan: CityPlan, shift: tuple[float, float] = (0.0, 0.0)
) -> dict[str, geopandas.GeoDataFrame]:
    """Layers of a city in `plan.crs` (metres, easting and northing).

    Args:
        plan: the city.
        shift: metres east and north that everything is moved by, to make layers that are wrong on purpose.

    Returns:
        The layers of :data:`LAYERS`: ``roads`` (carriageways), ``sidewalks`` (kind: sidewalk or plaza),
        ``buildings`` (id, floors, height of the eaves above the road, roof, use), ``vegetation`` (kind: park,
        lawn or tree; height of trees), ``crossings`` (heading of the traffic, degrees clockwise from grid
        north), ``water``, and ``road_centrelines`` (name, width, lanes).
    """
    offset = (plan.origin[0] + shift[0], plan.origin[1] + shift[1])
    trees = [item for item in plan.items if item.kind == "tree"]
    radii = np.array([CROWN_RADIUS * tree.size for tree in trees])
    places = shapely.points(np.array([(tree.x, tree.y) for tree in trees]).reshape(-1, 2))
    crowns = shapely.buffer(places, radii, quad_segs=4)
    parks, lawns = shapely.get_parts(plan.parks), shapely.get_parts(plan.lawns)
    sidewalks, plazas = shapely.get_parts(plan.sidewalks), shapely.get_parts(plan.plazas)
    headings = np.degrees([crossing.heading for crossing in plan.crossings])
    made: dict[str, tuple[Sequence[shapely.Geometry], dict[str, Any]]] = {
        "roads": (shapely.get_parts(plan.roads), {}),
        "sidewalks": (
            [*sidewalks, *plazas],
            {"kind": ["sidewalk"] * len(sidewalks) + ["plaza"] * len(plazas)},
        ),
        "vegetation": (
            [*parks, *lawns, *crowns],
            {
                "kind": ["park"] * len(parks) + ["lawn"] * len(lawns) + ["tree"] * len(trees),
                "height": np.concatenate([np.zeros(len(parks) + len(lawns)), [tree.size for tree in trees]]),
            },
        ),
        "water": (shapely.get_parts(plan.waters), {}),
        "crossings": ([crossing.area for crossing in plan.crossings], {"heading": (90 - headings) % 360}),
        "buildings": (
            [building.footprint for building in plan.buildings],
            {
                "id": np.array([building.index for building in plan.buildings], np.int64),
                "floors": np.array([building.floors for building in plan.buildings], np.int64),
                "height": np.array([building.eaves for building in plan.buildings], np.float64),
                "roof": [building.roof for building in plan.buildings],
                "use": [building.use for building in plan.buildings],
            },
        ),
        "road_centrelines": (
            [shapely.LineString(street.centreline) for street in plan.streets],
            {
                "name": [street.name for street in plan.streets],
                "width": np.array([street.width for street in plan.streets], np.float64),
                "lanes": np.array([street.lanes for street in plan.streets], np.int64),
            },
        ),
    }
    return {
        name: geopandas.GeoDataFrame(columns, geometry=_moved(made[name][0], offset), crs=plan.crs)
        for name in LAYERS
        for columns in [made[name][1]]
    }


def write_layers(plan: CityPlan, path: Path, shift: tuple[float, float] = (0.0, 0.0)) -> None:
    """Write :func:`vector_layers` to one GeoPackage.

    Args:
        plan: the city.
        path: the file; written atomically.
        shift: see :func:`vector_layers`.

    Raises:
        DiskFullError, UnwritableError: see :mod:`hloc_ext.formats.atomic`.
    """
    write_geopackage(vector_layers(plan, shift), path)


def write_geopackage(layers: Mapping[str, geopandas.GeoDataFrame], path: Path) -> None:
    """Write layers to one GeoPackage; the same layers give the same bytes with the same version of GDAL.

    The format wants the time of the last change, in the table of contents and in the metadata: GDAL's option
    ``OGR_CURRENT_DATE`` fixes it to the beginning of 2000.

    Args:
        layers: name and rows; layers without rows are written, too.
        path: the file; written atomically.

    Raises:
        DiskFullError, UnwritableError: see :mod:`hloc_ext.formats.atomic`.
    """
    path = Path(path)
    with (
        replacing(path) as temporary,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".layers.") as folder,
        explaining_gdal(path),
    ):
        # GDAL wants this extension, and a file that does not exist.
        written = Path(folder) / "layers.gpkg"
        with _gdal_option("OGR_CURRENT_DATE", _DATE):
            for name, frame in layers.items():
                kind = None if len(frame) else "Polygon"
                pyogrio.write_dataframe(frame, written, layer=name, driver="GPKG", geometry_type=kind)
        os.replace(written, temporary)


def to_wgs84(plan: CityPlan, xy: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Latitude and longitude in degrees of points in the scene frame, (…, 2) metres → (…, 2)."""
    xy = np.asarray(xy, np.float64) + plan.origin
    longitude, latitude = _transformer(plan.crs).transform(xy[..., 0], xy[..., 1])
    return np.stack([latitude, longitude], axis=-1)


def from_wgs84(plan: CityPlan, latitude_longitude: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Points in the scene frame of latitudes and longitudes in degrees, (…, 2) → (…, 2) metres."""
    degrees = np.asarray(latitude_longitude, np.float64)
    easting, northing = _transformer(plan.crs).transform(
        degrees[..., 1], degrees[..., 0], direction="INVERSE"
    )
    return np.stack([easting, northing], axis=-1) - plan.origin


def _transformer(crs: str) -> pyproj.Transformer:
    """From a projected CRS to longitude and latitude."""
    return pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def _moved(geometries: Sequence[shapely.Geometry], offset: tuple[float, float]) -> npt.NDArray[np.object_]:
    moved = np.empty(len(geometries), dtype=object)
    moved[:] = [*geometries]
    return shapely.transform(moved, lambda coordinates: coordinates + offset)


@contextmanager
def _gdal_option(name: str, value: str) -> Iterator[None]:
    before = pyogrio.get_gdal_config_option(name)
    pyogrio.set_gdal_config_options({name: value})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({name: before})
