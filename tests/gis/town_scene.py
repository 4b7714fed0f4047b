"""A town as a GeoTIFF, and its layers, right or moved by a known error."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from rasterio.features import shapes
from rasterio.transform import Affine

from hloc_ext.gis.export import corrected_layers, write_layers
from hloc_ext.gis.transform import Alignment
from hloc_ext.gis.vector import Layer
from tests.gis.registration.town import draw_town, photograph
from tests.gis.scenes import CORNER, write_tiff

UTM = pyproj.CRS.from_epsg(32635)
SIZE, PIXEL = 320, 0.5
#: The middle of the image.
ANCHOR = np.add(CORNER, (SIZE * PIXEL / 2, -SIZE * PIXEL / 2))
NAMES = {1: "roads", 3: "buildings", 4: "vegetation", 5: "water"}
_ANGLE, _SCALE = np.radians(3.0), 1.02
#: Where the layers of :func:`write_town` claim to be: moved by 6 m and 4 m, turned by 3°, 2 % too large.
ERROR = Alignment(
    np.array(
        [
            [_SCALE * np.cos(_ANGLE), -_SCALE * np.sin(_ANGLE), 6.0],
            [_SCALE * np.sin(_ANGLE), _SCALE * np.cos(_ANGLE), -4.0],
            [0, 0, 1],
        ]
    ),
    "similarity",
    UTM,
    ANCHOR,
)


def town_layers(labels: np.ndarray) -> list[Layer]:
    """Layers of a class map at its place, as polygons."""
    transform = Affine(PIXEL, 0, CORNER[0], 0, -PIXEL, CORNER[1])
    layers = []
    for value, name in NAMES.items():
        found = [
            shapely.geometry.shape(s) for s, v in shapes(labels, labels == value, transform=transform) if v
        ]
        frame = gpd.GeoDataFrame({"number": range(len(found))}, geometry=found, crs=UTM)
        layers.append(Layer(name, Path("town.gpkg"), frame))
    return layers


def write_town(folder: Path, error: Alignment | None = ERROR, seed: int = 0) -> tuple[Path, Path]:
    """Write ``image.tif``, ``labels.png``'s classes as ``labels.tif``, and ``layers.gpkg`` with an error."""
    labels = draw_town(SIZE, seed)
    image = write_tiff(folder / "image.tif", photograph(labels, seed))
    write_tiff(folder / "labels.tif", labels)
    layers = town_layers(labels)
    write_layers(layers if error is None else corrected_layers(layers, error), folder / "layers.gpkg")
    return image, folder / "layers.gpkg"
