"""What GDAL cannot write."""

from __future__ import annotations

import resource
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from hloc_ext.city.gdal_errors import explaining_gdal
from hloc_ext.city.layers import write_geopackage
from hloc_ext.formats.atomic import DiskFullError, UnwritableError, replacing


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow over 200 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_picture(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 1024, 1024), np.uint8)
    profile = {"driver": "GTiff", "width": 1024, "height": 1024, "count": 1, "dtype": "uint8"}
    profile |= {"crs": "EPSG:32632", "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 6_000_000)}
    with (
        replacing(path) as temporary,
        explaining_gdal(path),
        rasterio.open(temporary, "w", **profile) as target,
    ):
        target.write(noise)


@pytest.mark.usefixtures("small_files")
def test_picture_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UnwritableError, match=r"picture\.tif: .* Choose another output folder"):
        write_picture(tmp_path / "picture.tif")
    assert not [*tmp_path.iterdir()]


@pytest.mark.usefixtures("small_files")
def test_layers_that_cannot_be_written(tmp_path: Path) -> None:
    points = shapely.points(np.random.default_rng(0).random((20_000, 2)))
    layers = {"points": geopandas.GeoDataFrame({"n": range(20_000)}, geometry=points, crs="EPSG:32632")}
    with pytest.raises(UnwritableError, match=r"layers\.gpkg: .* Choose another output folder"):
        write_geopackage(layers, tmp_path / "layers.gpkg")
    assert not [*tmp_path.iterdir()]


@pytest.mark.usefixtures("small_files")
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 30, 1 << 30, 0))
    with pytest.raises(DiskFullError, match=r"writing .*picture\.tif: free some space"):
        write_picture(tmp_path / "picture.tif")
