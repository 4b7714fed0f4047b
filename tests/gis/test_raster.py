"""Rasters: what is read of them, what is valid, and where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyproj
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.gis.crs import WGS84, transform_points
from hloc_ext.gis.grid import Grid, apply_homography
from hloc_ext.gis.raster import metric_grid, open_raster
from hloc_ext.gis.resample import resample, resample_values
from tests.gis.scenes import CORNER, pattern, write_tiff


def test_a_geotiff_as_it_is(tmp_path: Path) -> None:
    picture = pattern(40, 60)
    raster = open_raster(write_tiff(tmp_path / "a.tif", picture))
    assert (raster.width, raster.height, raster.bands, raster.dtype) == (60, 40, (1, 2, 3), "uint8")
    assert raster.crs == pyproj.CRS.from_epsg(32635)
    np.testing.assert_allclose(raster.grid.corners[2], np.add(CORNER, (30, -20)))
    read, valid = raster.read()
    np.testing.assert_array_equal(read, picture)
    assert valid.all()
    part, _ = raster.read((10, 5, 20, 8))
    np.testing.assert_array_equal(part, picture[5:13, 10:30])
    grid = metric_grid(raster)
    np.testing.assert_array_equal(grid.corners, raster.grid.corners)
    np.testing.assert_array_equal(resample(raster, grid)[0], picture)
    half, valid = raster.read(size=(30, 20))
    assert half.shape == (20, 30, 3) and valid.shape == (20, 30)
    np.testing.assert_allclose(half[5, 7], picture[10:12, 14:16].mean(axis=(0, 1)), atol=1)


def test_sixteen_bits_are_stretched_without_the_borders(tmp_path: Path) -> None:
    values = np.linspace(300, 1300, 100 * 100).reshape(100, 100).astype(np.uint16)
    values[:10] = 0
    values[50, 50] = 65535
    raster = open_raster(write_tiff(tmp_path / "a.tif", values, nodata=0))
    picture, valid = raster.read()
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(valid, values > 0)
    assert picture[10, :5].max() <= 2 and picture[99, -5:].min() >= 253
    assert int(picture[55, 0]) == pytest.approx(127, abs=4)


def test_floats_with_gaps(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 400).reshape(20, 20).astype(np.float32)
    values[3, 4] = np.nan
    picture, valid = open_raster(write_tiff(tmp_path / "a.tif", values)).read()
    assert not valid[3, 4] and valid.sum() == 399
    assert picture[19, 19] == 255


def test_alpha_is_a_mask_and_near_infrared_is_not(tmp_path: Path) -> None:
    picture = pattern(64, 64)
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[:, :10] = 0
    infrared = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    kinds = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    for name, fourth, expected in (("alpha", alpha, alpha > 0), ("nir", infrared, np.ones((64, 64), bool))):
        path = tmp_path / f"{name}.tif"
        raster = open_raster(write_tiff(path, np.dstack([picture, fourth]), colorinterp=kinds))
        read, valid = raster.read()
        np.testing.assert_array_equal(valid, expected)
        np.testing.assert_array_equal(read[valid], picture[valid])


def test_bands_are_found_by_their_colour_or_chosen(tmp_path: Path) -> None:
    picture = pattern(16, 16)
    kinds = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]
    path = write_tiff(tmp_path / "a.tif", np.dstack([picture[..., ::-1], picture[..., 0]]), colorinterp=kinds)
    np.testing.assert_array_equal(open_raster(path).read()[0], picture)
    np.testing.assert_array_equal(open_raster(path, bands=(2,)).read()[0], picture[..., 1])
    with pytest.raises(InputError, match="4 bands"):
        open_raster(path, bands=(5,))


def test_a_palette(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.array([[0, 1], [1, 2]], np.uint8), photometric="palette")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (10, 20, 30), 1: (40, 50, 60), 2: (70, 80, 90)})
    picture, _ = open_raster(path).read()
    np.testing.assert_array_equal(picture[:, 0], [[10, 20, 30], [40, 50, 60]])


def test_nodata_of_the_user(tmp_path: Path) -> None:
    picture = pattern(20, 20) // 2 + 10
    picture[:, :5] = 0
    _, valid = open_raster(write_tiff(tmp_path / "a.tif", picture), nodata=0).read()
    np.testing.assert_array_equal(valid, np.broadcast_to(np.arange(20) >= 5, (20, 20)))


def test_a_picture_without_placement(tmp_path: Path) -> None:
    picture = pattern(30, 40)
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    raster = open_raster(tmp_path / "a.png")
    assert raster.crs is None and raster.crs_from_pixel is None
    np.testing.assert_array_equal(raster.read()[0], picture)
    grid = metric_grid(raster)
    assert (grid.width, grid.height, grid.crs) == (40, 30, None)
    np.testing.assert_array_equal(grid.corners[2], [40, -30])
    shown, valid = resample(raster, grid)
    np.testing.assert_array_equal(shown, picture)
    assert valid.all()
    placed = raster.placed(Grid.north_up(WGS84, 24.0, 58.0, 1e-5, 40, 30))
    assert metric_grid(placed).crs == pyproj.CRS.from_epsg(32635)
    with pytest.raises(InputError, match="40×30"):
        raster.placed(grid.window(0, 0, 3, 3))


def test_a_placement_without_crs_is_an_error_until_it_is_stated(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), pattern(30, 40))
    (tmp_path / "a.pgw").write_text(f"0.5\n0\n0\n-0.5\n{CORNER[0]}\n{CORNER[1]}\n")
    with pytest.raises(InputError, match="image_crs"):
        metric_grid(open_raster(tmp_path / "a.png"))
    grid = metric_grid(open_raster(tmp_path / "a.png", crs="EPSG:32635"))
    np.testing.assert_allclose(grid.pixel_size, 0.5)
    with pytest.raises(InputError, match="EPSG:NUMBER"):
        open_raster(tmp_path / "a.png", crs="nowhere")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        open_raster(tmp_path / "missing.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(CorruptFileError, match=r"text\.tif"):
        open_raster(tmp_path / "text.tif")
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
    whole = write_tiff(tmp_path / "whole.tif", noise).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFileError, match=r"cut\.tif"):
        open_raster(tmp_path / "cut.tif").read()
    for suffix in (".jpg", ".png"):
        data = cv2.imencode(suffix, noise)[1].tobytes()
        (tmp_path / f"cut{suffix}").write_bytes(data[: len(data) // 2])
        with pytest.raises(CorruptFileError, match="cut"):
            open_raster(tmp_path / f"cut{suffix}").read()
    with pytest.raises(MissingInputError, match="z/x/y"):
        open_raster(tmp_path)


def test_a_rotated_geotransform_is_straightened(tmp_path: Path) -> None:
    picture = pattern(120, 160)
    transform = Affine(0.25 * 3**0.5, 0.25, CORNER[0], 0.25, -0.25 * 3**0.5, CORNER[1])
    raster = open_raster(write_tiff(tmp_path / "a.tif", picture, transform=transform))
    grid = metric_grid(raster)
    assert grid.pixel_size == pytest.approx(0.5)
    shown, valid = resample(raster, grid)
    assert valid.mean() == pytest.approx(160 * 120 / (grid.width * grid.height), abs=0.02)
    # The same place on the ground has the same colour.
    place = apply_homography(raster.grid.crs_from_pixel, [[100.5, 60.5]])
    column, row = np.floor(apply_homography(grid.pixel_from_crs, place)[0]).astype(int)
    np.testing.assert_allclose(shown[row, column].astype(int)[:2], picture[60, 100][:2], atol=2)


def test_nodata_borders_do_not_bleed(tmp_path: Path) -> None:
    picture = np.full((64, 64), 200, np.uint8)
    picture[:20] = 0
    raster = open_raster(write_tiff(tmp_path / "a.tif", picture, nodata=0))
    grid = Grid.north_up(raster.crs, CORNER[0] + 0.2, CORNER[1] - 0.13, 0.37, 80, 80)
    shown, valid = resample(raster, grid)
    assert 0.5 < valid.mean() < 0.75
    np.testing.assert_array_equal(shown, np.where(valid, 200, 0))


@pytest.mark.parametrize("size", [0.1, 0.37, 1.7])
def test_resampling_keeps_places_whatever_the_crs_and_size(tmp_path: Path, size: float) -> None:
    picture = pattern(200, 300)
    center = transform_points(pyproj.CRS.from_epsg(32635), WGS84, [CORNER])[0]
    transform = Affine(8e-6, 0, center[0], 0, -4.5e-6, center[1])
    raster = open_raster(write_tiff(tmp_path / "a.tif", picture, crs="EPSG:4326", transform=transform))
    grid = metric_grid(raster, size)
    assert grid.crs == pyproj.CRS.from_epsg(32635)
    shown, valid = resample(raster, grid)
    rows, columns = np.nonzero(valid)
    points = apply_homography(grid.crs_from_center, np.column_stack([columns, rows]))
    own = apply_homography(raster.grid.pixel_from_crs, transform_points(grid.crs, WGS84, points)) - 0.5
    expected = own * (255 / 299, 255 / 199)
    inner = (own > 2).all(axis=1) & (own < (297, 197)).all(axis=1)
    errors = shown[valid][inner][:, :2] - expected[inner]
    assert np.abs(errors).max() < 1.6  # rounded twice; half a pixel would be 0.4 to 0.6
    assert np.abs(errors.mean(axis=0)).max() < 0.05


def test_classes_are_taken_at_the_centres_of_pixels(tmp_path: Path) -> None:
    labels = np.kron(np.array([[1, 3], [4, 5]], np.uint8), np.ones((10, 10), np.uint8))
    raster = open_raster(write_tiff(tmp_path / "a.tif", labels))
    values, valid = resample_values(raster, Grid.north_up(raster.crs, *CORNER, 5.0, 3, 2))
    np.testing.assert_array_equal(values, [[1, 3, 0], [4, 5, 0]])
    np.testing.assert_array_equal(valid, [[1, 1, 0], [1, 1, 0]])


def test_across_the_antimeridian(tmp_path: Path) -> None:
    picture = pattern(100, 200)
    transform = Affine(1e-5, 0, 179.9992, 0, -1e-5, -16.9995)
    raster = open_raster(write_tiff(tmp_path / "a.tif", picture, crs="EPSG:4326", transform=transform))
    grid = metric_grid(raster)
    assert grid.width == pytest.approx(200, rel=0.03)
    shown, valid = resample(raster, grid)
    assert valid.mean() > 0.93
    # A place on either side of 180 degrees.
    for longitude, column in ((179.99955, 35), (-179.99975, 105)):
        assert grid.crs is not None
        place = transform_points(WGS84, grid.crs, [[longitude, -17.0]])
        x, y = np.floor(apply_homography(grid.pixel_from_crs, place)[0]).astype(int)
        assert int(shown[y, x, 0]) == pytest.approx(int(picture[50, column, 0]), abs=3)


def test_control_points_of_a_homography_are_read_exactly(tmp_path: Path) -> None:
    homography = np.array([[0.5, 0.02, CORNER[0]], [0.03, -0.5, CORNER[1]], [0, 0, 1.0]])
    perspective = homography @ np.array([[1, 0, 0], [0, 1, 0], [2e-4, 1e-4, 1]])
    gcps = []
    for column in (0, 50, 100):
        for row in (0, 40, 80):
            x, y, w = perspective @ (column, row, 1)
            gcps.append(GroundControlPoint(row=row, col=column, x=x / w, y=y / w))
    path = write_tiff(tmp_path / "a.tif", pattern(80, 100), crs=None, transform=Affine.identity())
    with rasterio.open(path, "r+") as file:
        file.gcps = gcps, rasterio.crs.CRS.from_epsg(32635)
    raster = open_raster(path)
    points = [[13.0, 71.0], [90.0, 5.0]]
    expected = apply_homography(perspective, points)
    np.testing.assert_allclose(apply_homography(raster.grid.crs_from_pixel, points), expected, atol=1e-3)


def test_control_points_that_bend_or_lie_on_a_line(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", pattern(80, 100), crs=None, transform=Affine.identity())
    for ys, message in (([0, 0, 0, 0, 0, 0], "line"), ([0, 500, 0, 500, 0, 500], "bend")):
        places = [(0, 0), (50, 0), (100, 0), (0, 80), (50, 80), (100, 80)]
        gcps = [
            GroundControlPoint(row=r if message == "bend" else 0, col=c, x=c + CORNER[0], y=CORNER[1] - r + y)
            for (c, r), y in zip(places, ys, strict=True)
        ]
        with rasterio.open(path, "r+") as file:
            file.gcps = gcps, rasterio.crs.CRS.from_epsg(32635)
        with pytest.raises(InputError, match=message):
            open_raster(path)


def write_tiles(folder: Path, picture: np.ndarray, zoom: int, left: int, top: int) -> None:
    for i in range(picture.shape[0] // 64):
        for j in range(picture.shape[1] // 64):
            path = folder / str(zoom) / str((left + j) % 2**zoom) / f"{top + i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture[64 * i : 64 * i + 64, 64 * j : 64 * j + 64, ::-1])


def test_tiles_are_one_raster(tmp_path: Path) -> None:
    picture = pattern(128, 192)
    write_tiles(tmp_path, picture, 18, 150_000, 80_000)
    (tmp_path / "18" / "150001" / "80001.png").unlink()
    raster = open_raster(tmp_path)
    assert raster.crs == pyproj.CRS.from_epsg(3857)
    read, valid = raster.read()
    hole = np.zeros((128, 192), bool)
    hole[64:, 64:128] = True
    np.testing.assert_array_equal(valid, ~hole)
    np.testing.assert_array_equal(read[~hole], picture[~hole])
    # Slippy map tile names: longitude of the western border of tile x is x / 2^z * 360 - 180.
    longitude = transform_points(raster.crs, WGS84, raster.grid.corners[:1])[0, 0]
    assert longitude == pytest.approx(150_000 / 2**18 * 360 - 180, abs=1e-9)
    with pytest.raises(MissingInputError, match="level 3"):
        open_raster(tmp_path, zoom=3)
    (tmp_path / "18" / "150001" / "80000.png").write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"80000\.png"):
        open_raster(tmp_path)


def test_tiles_of_different_colour_models(tmp_path: Path) -> None:
    folder = tmp_path / "17" / "1000"
    folder.mkdir(parents=True)
    grey = Image.fromarray(pattern(64, 64)[..., 0])
    grey.save(folder / "2000.png")
    palette = Image.fromarray(pattern(64, 64)).quantize(200)
    palette.save(folder / "2001.png")
    Image.fromarray(pattern(64, 64)).save(folder / "2002.jpg", quality=95)
    see_through = np.dstack(
        [pattern(64, 64), np.where(np.arange(64) < 9, 0, 255).astype(np.uint8)[None].repeat(64, 0)]
    )
    Image.fromarray(see_through).save(folder / "2003.png")
    read, valid = open_raster(tmp_path).read()
    np.testing.assert_array_equal(read[:64], pattern(64, 64)[..., :1].repeat(3, axis=2))
    np.testing.assert_array_equal(read[64:128], np.asarray(palette.convert("RGB")))
    assert np.abs(read[128:192].astype(int) - pattern(64, 64)).mean() < 4
    assert valid[:192].all() and not valid[192:, :9].any() and valid[192:, 9:].all()
    Image.fromarray(pattern(32, 32)).save(folder / "2003.png")
    with pytest.raises(InputError, match="different sizes"):
        open_raster(tmp_path)


def test_tiles_across_the_antimeridian_and_from_the_south(tmp_path: Path) -> None:
    picture = pattern(64, 256)
    write_tiles(tmp_path / "a", picture, 18, 2**18 - 2, 140_000)
    raster = open_raster(tmp_path / "a")
    np.testing.assert_array_equal(raster.read()[0], picture)
    grid = metric_grid(raster)
    assert grid.width == pytest.approx(256, rel=0.05)
    assert resample(raster, grid)[1].mean() > 0.9
    write_tiles(tmp_path / "b", picture, 18, 2**18 - 2, 2**18 - 1 - 140_000)
    again = open_raster(tmp_path / "b", tms=True)
    np.testing.assert_allclose(again.grid.corners, raster.grid.corners)


def test_windows_cover_a_grid_once(tmp_path: Path) -> None:
    grid = Grid.north_up(None, 0, 0, 1, 25, 17)
    seen = np.zeros((17, 25), int)
    for column, row, window in grid.windows(8):
        seen[row : row + window.height, column : column + window.width] += 1
        np.testing.assert_allclose(window.corners[0], [column, -row])
    assert (seen == 1).all()
    assert all(window.width > 2 for _, _, window in grid.windows(8, overlap=2))
    with pytest.raises(InputError, match="overlap"):
        grid.windows(8, overlap=8)


def test_kampala_is_where_its_readme_says(shared_data: Path) -> None:
    path = shared_data / "bench" / "gis" / "kampala" / "kampala_b.tif"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    raster = open_raster(path)
    grid = metric_grid(raster)
    assert grid.crs == pyproj.CRS.from_epsg(32636)
    assert grid.pixel_size == pytest.approx(0.0746455, rel=0.01)
    shown, valid = resample(raster, grid)
    assert valid.mean() > 0.98 and shown[valid].std() > 30
