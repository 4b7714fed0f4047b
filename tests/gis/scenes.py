"""Small rasters and layers with known places, for the tests of georeferenced data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.transform import Affine

#: Upper left corner of the test image in EPSG:32635.
CORNER = (487_000.0, 6_470_000.0)


def write_tiff(
    path: Path,
    picture: npt.NDArray[Any],
    crs: str | None = "EPSG:32635",
    transform: Affine | None = None,
    **options: Any,
) -> Path:
    """Write (H, W) or (H, W, C) as GeoTIFF; by default north-up with pixels of 0.5 m from `CORNER`."""
    bands = picture[None] if picture.ndim == 2 else np.moveaxis(picture, 2, 0)
    colorinterp = options.pop("colorinterp", None)
    with rasterio.open(
        path,
        "w",
        driver=options.pop("driver", "GTiff"),
        width=bands.shape[2],
        height=bands.shape[1],
        count=len(bands),
        dtype=bands.dtype,
        crs=crs,
        transform=Affine(0.5, 0, CORNER[0], 0, -0.5, CORNER[1]) if transform is None else transform,
        **options,
    ) as file:
        file.write(bands)
        if colorinterp is not None:
            file.colorinterp = colorinterp
    return path


def pattern(height: int, width: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) smooth picture whose colours tell the place: red by column, green by row."""
    rows, columns = np.mgrid[:height, :width]
    red, green = 255 * columns / max(width - 1, 1), 255 * rows / max(height - 1, 1)
    blue = 127 + 100 * np.sin(columns / 9) * np.cos(rows / 7)
    return np.round(np.stack([red, green, blue], axis=2)).astype(np.uint8)


def squares(
    crs: str = "EPSG:32635", count: int = 3, offset: tuple[float, float] = (20, -20)
) -> gpd.GeoDataFrame:
    """Square buildings of 10 m in a row to the east, the first from `offset` of `CORNER`."""
    x, y = np.add(CORNER, offset)
    shapes = [shapely.box(x + 20 * i, y - 10, x + 20 * i + 10, y) for i in range(count)]
    frame = gpd.GeoDataFrame({"number": range(count)}, geometry=shapes, crs="EPSG:32635")
    return frame.to_crs(crs)
