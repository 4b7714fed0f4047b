"""Corrected layers and rasters: what is kept, what moves, and what other tools see."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from rasterio.enums import ColorInterp

from hloc_ext.errors import InputError
from hloc_ext.formats.atomic import UnwritableError
from hloc_ext.gis.crs import WGS84, transform_points
from hloc_ext.gis.export import (
    OUTLINES,
    control_points,
    corrected_layers,
    overlay,
    overlay_grid,
    write_layers,
    write_picture,
    write_points,
    write_raster,
)
from hloc_ext.gis.grid import Grid, apply_homography
from hloc_ext.gis.raster import open_raster
from hloc_ext.gis.transform import Alignment
from hloc_ext.gis.vector import Layer, read_layers
from tests.gis.scenes import CORNER, pattern, squares, write_tiff

UTM = pyproj.CRS.from_epsg(32635)
ANCHOR = np.add(CORNER, (40, -30))
SIMILARITY = np.array([[0.98, -0.05, 6.0], [0.05, 0.98, -4.0], [0, 0, 1]])
HOMOGRAPHY = SIMILARITY + np.array([[0, 0, 0], [0, 0, 0], [4e-4, -3e-4, 0]])


def alignment(model: str = "similarity") -> Alignment:
    return Alignment(HOMOGRAPHY if model == "homography" else SIMILARITY, model, UTM, ANCHOR)


def run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".fgb"])
@pytest.mark.parametrize("epsg", [4326, 32635])
def test_corrected_layers_keep_crs_attributes_and_heights(tmp_path: Path, suffix: str, epsg: int) -> None:
    frame = squares(f"EPSG:{epsg}").assign(
        name=["a", "ü", None], floors=pd.array([1, None, 3], "Int32"), share=[0.5, np.nan, 1.5]
    )
    frame.geometry = shapely.force_3d(frame.geometry.to_numpy(), 12.5)
    source, target = tmp_path / f"houses{suffix}", tmp_path / "out" / f"houses{suffix}"
    pyogrio.write_dataframe(frame, source)
    layers = read_layers(source)
    assert write_layers(corrected_layers(layers, alignment()), target)[0].parent == target.parent
    (written,) = read_layers(target)
    assert (written.name, written.crs) == ("houses", layers[0].crs)
    order = np.argsort(written.frame["number"].to_numpy())
    before = layers[0].frame.sort_values("number").reset_index(drop=True)
    after = written.frame.iloc[order].reset_index(drop=True)
    pd.testing.assert_frame_equal(before.drop(columns="geometry"), after.drop(columns="geometry"))
    assert (
        after.geometry.iloc[0].has_z
        and shapely.get_coordinates(after.geometry.iloc[0], include_z=True)[0, 2] == 12.5
    )
    expected = gpd.GeoSeries(alignment().apply(squares().geometry.to_numpy(), UTM), crs=UTM)
    assert shapely.hausdorff_distance(after.geometry.to_crs(UTM).to_numpy(), expected.to_numpy()).max() < 1e-6


def test_a_geopackage_keeps_its_layers_tables_and_bytes(tmp_path: Path) -> None:
    pyogrio.write_dataframe(squares(), tmp_path / "a.gpkg", layer="b")
    pyogrio.write_dataframe(squares()[:0], tmp_path / "a.gpkg", layer="empty", geometry_type="Polygon")
    pyogrio.write_dataframe(pd.DataFrame({"key": ["a"]}), tmp_path / "a.gpkg", layer="table")
    layers = corrected_layers(read_layers(tmp_path / "a.gpkg"), alignment())
    for name in ("c.gpkg", "d.gpkg"):
        write_layers(layers, tmp_path / name)
    assert (tmp_path / "c.gpkg").read_bytes() == (tmp_path / "d.gpkg").read_bytes()
    read = read_layers(tmp_path / "c.gpkg")
    assert [(x.name, len(x.frame)) for x in read] == [("b", 3), ("empty", 0), ("table", 1)]
    assert read[1].crs == UTM
    with pytest.raises(InputError, match="one layer"):
        write_layers(layers, tmp_path / "c.geojson")
    with pytest.raises(InputError, match="ending"):
        write_layers(layers[:1], tmp_path / "c.unknown")
    assert not list(tmp_path.glob(".*"))


def test_a_folder_gets_a_file_for_each_file_that_was_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.gpkg", "b.geojson", "c.shp"):
        pyogrio.write_dataframe(squares("EPSG:4326"), tmp_path / "in" / name)
    files = write_layers(read_layers(tmp_path / "in"), tmp_path / "out")
    names = {file.name for file in files}
    assert {"a.gpkg", "b.geojson", "c.shp", "c.dbf", "c.prj"} <= names
    assert [x.name for x in read_layers(tmp_path / "out")] == ["a", "b", "c"]


def test_lists_among_the_attributes_are_written_as_json(tmp_path: Path) -> None:
    frame = squares().assign(nodes=[[1, 2], None, np.array([3])])
    write_layers([Layer("a", Path("a.geojson"), frame)], tmp_path / "a.gpkg")
    assert json.loads(read_layers(tmp_path / "a.gpkg")[0].frame["nodes"].iloc[0]) == [1, 2]


def test_only_features_in_an_area_are_moved_and_invalid_ones_keep_their_shape() -> None:
    x, y = CORNER
    bow = shapely.Polygon([(x, y), (x + 9, y - 9), (x + 9, y), (x, y - 9)])
    far = shapely.box(x + 900, y, x + 910, y + 10)
    frame = gpd.GeoDataFrame({"a": [1, 2, 3]}, geometry=[bow, far, None], crs=UTM)
    layers = [Layer("a", Path("a.gpkg"), frame)]
    area = shapely.box(x, y - 100, x + 100, y)
    (moved,) = corrected_layers(layers, alignment(), area)
    assert moved.frame.geometry.iloc[1].equals(far) and moved.frame.geometry.iloc[2] is None
    np.testing.assert_allclose(
        shapely.get_coordinates(moved.frame.geometry.iloc[0]),
        alignment().map_points(shapely.get_coordinates(bow)),
    )
    (everything,) = corrected_layers(layers, alignment())
    assert not everything.frame.geometry.iloc[1].equals(far)


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.gpkg").mkdir()
    with pytest.raises((UnwritableError, OSError)):
        write_layers([Layer("a", Path("a.gpkg"), squares())], tmp_path / "a.gpkg")


@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize("model", ["similarity", "homography"])
def test_a_corrected_raster_is_where_the_layers_are(tmp_path: Path, model: str, cog: bool) -> None:
    picture = np.dstack([pattern(120, 160), np.full((120, 160), 255, np.uint8)])
    picture[:10, :, 3] = 0
    kinds = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    raster = open_raster(write_tiff(tmp_path / "a.tif", picture, colorinterp=kinds))
    write_raster(raster, alignment(model), tmp_path / "b.tif", cog=cog)
    corrected = open_raster(tmp_path / "b.tif")
    for one, other in zip(raster.read(), corrected.read(), strict=True):
        np.testing.assert_array_equal(one, other)
    # A layer that is corrected to a pixel was, before, where this pixel is now.
    pixels = np.array([[0, 0], [160, 0], [37.5, 80.5]])
    claimed = apply_homography(raster.grid.crs_from_pixel, pixels)
    now = apply_homography(corrected.grid.crs_from_pixel, pixels)
    np.testing.assert_allclose(alignment(model).map_points(now), claimed, atol=1e-3)
    with rasterio.open(tmp_path / "b.tif") as file:
        assert bool(file.gcps[0]) == (model == "homography")
        assert file.colorinterp[3] == ColorInterp.alpha
        if cog:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.parametrize("epsg", [4326, 3857])
def test_a_raster_of_another_crs_keeps_it(tmp_path: Path, epsg: int) -> None:
    crs = pyproj.CRS.from_epsg(epsg)
    left, top = transform_points(UTM, crs, [CORNER])[0]
    size = 1e-5 if epsg == 4326 else 1.0
    transform = rasterio.Affine(size, 0, left, 0, -size, top)
    values = pattern(100, 120)[..., :1].repeat(1, axis=2)[..., 0].astype(np.uint16) * 7
    values[:3] = 0
    path = write_tiff(tmp_path / "a.tif", values, crs=f"EPSG:{epsg}", transform=transform, nodata=0)
    raster = open_raster(path)
    write_raster(raster, alignment(), tmp_path / "b.tif")
    corrected = open_raster(tmp_path / "b.tif")
    assert corrected.crs == crs
    with rasterio.open(path) as one, rasterio.open(tmp_path / "b.tif") as other:
        assert (other.nodata, other.dtypes) == (0, one.dtypes)
        np.testing.assert_array_equal(one.read(), other.read())
    pixels = np.array([[0, 0], [120, 100], [60, 10]])
    places = [
        transform_points(crs, UTM, apply_homography(r.grid.crs_from_pixel, pixels))
        for r in (raster, corrected)
    ]
    np.testing.assert_allclose(alignment().map_points(places[1]), places[0], atol=0.02)


def test_a_picture_without_placement_gets_one(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), pattern(30, 40)[..., ::-1])
    raster = open_raster(tmp_path / "a.png")
    with pytest.raises(InputError, match="no place"):
        control_points(raster, alignment())
    placed = raster.placed(Grid.north_up(UTM, *CORNER, 0.5, 40, 30))
    write_raster(placed, alignment(), tmp_path / "b.tif")
    corrected = open_raster(tmp_path / "b.tif")
    assert corrected.crs == UTM
    np.testing.assert_array_equal(corrected.read()[0], pattern(30, 40))
    write_points(placed, alignment(), tmp_path / "a.points")
    row = (tmp_path / "a.points").read_text().splitlines()[-1].split(",")
    assert [float(v) for v in row[2:4]] == [40, -30]


def test_control_points_for_qgis(tmp_path: Path) -> None:
    raster = open_raster(write_tiff(tmp_path / "a.tif", pattern(30, 40)))
    write_points(raster, alignment(), tmp_path / "a.points")
    head, *lines = (tmp_path / "a.points").read_text().splitlines()
    assert pyproj.CRS.from_user_input(head.removeprefix("#CRS: ")) == UTM
    rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    assert len(rows) == 25
    # QGIS shows a raster that has a place in its own coordinates.
    source = np.array([(row["sourceX"], row["sourceY"]) for row in rows])
    target = np.array([(row["mapX"], row["mapY"]) for row in rows])
    np.testing.assert_allclose(source[0], CORNER)
    np.testing.assert_allclose(alignment().map_points(target), source, atol=1e-6)


def test_across_the_antimeridian_a_raster_stays_in_one_piece(tmp_path: Path) -> None:
    transform = rasterio.Affine(1e-5, 0, 179.9992, 0, -1e-5, -16.9995)
    raster = open_raster(write_tiff(tmp_path / "a.tif", pattern(100, 200), "EPSG:4326", transform))
    crs = pyproj.CRS.from_epsg(32701)
    center = transform_points(WGS84, crs, raster.grid.center[None])[0]
    east = Alignment(np.array([[1, 0, -50], [0, 1, 0], [0, 0, 1.0]]), "translation", crs, center)
    write_raster(raster, east, tmp_path / "b.tif")
    moved = open_raster(tmp_path / "b.tif").grid.center - raster.grid.center
    assert moved[0] * 106_500 == pytest.approx(50, rel=0.01) and abs(moved[1]) * 110_600 < 1


@pytest.mark.parametrize("model", ["similarity", "homography"])
def test_gdalinfo_reads_the_raster(tmp_path: Path, model: str) -> None:
    raster = open_raster(write_tiff(tmp_path / "a.tif", pattern(120, 160)))
    write_raster(raster, alignment(model), tmp_path / "b.tif")
    report = json.loads(run("gdalinfo", "-json", str(tmp_path / "b.tif")))
    assert report["size"] == [160, 120]
    assert ("gcps" in report) == (model == "homography")


def test_ogrinfo_reads_the_layers(tmp_path: Path) -> None:
    layers = [Layer("houses", Path("a.gpkg"), squares())]
    write_layers(corrected_layers(layers, alignment()), tmp_path / "a.gpkg")
    assert "Feature Count: 3" in run("ogrinfo", "-so", "-al", str(tmp_path / "a.gpkg"))


def test_pictures_with_outlines(tmp_path: Path) -> None:
    classes = np.zeros((40, 40), np.uint8)
    classes[10:30, 10:30] = 3
    for picture in (np.full((40, 40), 90, np.uint8), np.full((40, 40, 3), 90, np.uint8)):
        shown = overlay(picture, classes, thickness=1)
        assert tuple(shown[10, 15]) == OUTLINES[3] and tuple(shown[20, 20]) == (90, 90, 90)
    write_picture(tmp_path / "a.png", shown)
    np.testing.assert_array_equal(open_raster(tmp_path / "a.png").read()[0], shown)
    with pytest.raises(InputError, match="gif"):
        write_picture(tmp_path / "a.gif", shown)
    grid = overlay_grid(Grid.north_up(UTM, *CORNER, 0.5, 4000, 3000), 1000)
    assert (grid.width, grid.height, grid.pixel_size) == (1000, 750, pytest.approx(2.0))
