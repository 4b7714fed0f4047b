"""One's own tiles and photos: where they are, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from pyproj import Transformer

from hloc_ext.datasets.cross_view.footprints import tile_corners
from hloc_ext.datasets.cross_view.geography import earth_centred
from hloc_ext.datasets.cross_view.georeference import exif_place
from hloc_ext.datasets.cross_view.layout import open_set
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from tests.datasets.cross_view.small_sets import write_picture

rasterio = pytest.importorskip("rasterio")

ZOOM, X, Y = 19, 300_000, 170_000
CRS, EAST, NORTH = "EPSG:32635", 487_000.0, 6_470_000.0


def tile_place(x: float, y: float) -> tuple[float, float]:
    """Latitude and longitude of tile coordinates, by the formula of web maps."""
    longitude = x / 2**ZOOM * 360 - 180
    return float(np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y / 2**ZOOM))))), longitude


def write_geotiff(path: Path, east: float, north: float, crs: str | None = CRS, **changes: float) -> None:
    """40 x 40 pixels of 1 m around a place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"a": 1.0, "b": 0.0, "d": 0.0, "e": -1.0} | changes
    transform = rasterio.Affine(shape["a"], shape["b"], east - 20, shape["d"], shape["e"], north + 20)
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=40, count=3, dtype="uint8", crs=crs, transform=transform
    ) as target:
        target.write(np.full((3, 40, 40), 100, np.uint8))


def write_csv(root: Path, lines: list[str]) -> None:
    (root / "photos.csv").write_text("\n".join(lines) + "\n")


def utm_place(east: float, north: float) -> tuple[float, float]:
    longitude, latitude = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(east, north)
    return latitude, longitude


def test_web_tiles(tmp_path: Path) -> None:
    for x in range(3):
        for y in range(2):
            write_picture(tmp_path / f"tiles/{ZOOM}/{X + x}/{Y + y}.png", 64, 64)
    write_picture(tmp_path / f"tiles/{ZOOM - 1}/{X // 2}/{Y // 2}.png", 64, 64)
    lines = ["Name,Lat,Lon,Heading"]
    for number, (x, y) in enumerate([(0.5, 0.5), (1.75, 1.25), (9.0, 0.5)]):
        write_picture(tmp_path / f"photos/{number}.jpg", 64, 32)
        latitude, longitude = tile_place(X + x, Y + y)
        lines.append(f"{number}.jpg,{latitude:.12f},{longitude:.12f},{90 * number}")
    write_picture(tmp_path / "photos/sub/query.jpg", 40, 30)
    write_csv(tmp_path, lines)
    found = open_set(tmp_path, "all")
    assert found.name == "folder" and len(found.aerials) == 6
    assert [p.relative_to(tmp_path / "photos").as_posix() for p in found.grounds] == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "sub/query.jpg",
    ]
    assert [found.aerials[t].parts[-2:] for t in found.positives[:2]] == [
        (str(X), f"{Y}.png"),
        (str(X + 1), f"{Y + 1}.png"),
    ]
    assert found.positives[2:].tolist() == [-1, -1] and found.semi_positives.shape[1] == 0
    np.testing.assert_allclose(found.offsets[:2], [[0, 0], [0.25, -0.25]], atol=1e-6)
    np.testing.assert_allclose(found.aerial_latlon[0], tile_place(X + 0.5, Y + 0.5), atol=1e-9)
    np.testing.assert_allclose(
        found.tile_size[0], 40_075_016.7 / 2**ZOOM * np.cos(np.radians(found.aerial_latlon[0, 0])), rtol=5e-3
    )
    assert found.headings[:3].tolist() == [0, 90, 180] and np.isnan(found.headings[3])
    assert found.fields_of_view[:3].tolist() == [360, 360, 360] and np.isnan(found.fields_of_view[3])
    corners = tile_corners(found)
    np.testing.assert_allclose(corners[0, 2], tile_place(X + 1, Y + 1), atol=1e-9)
    np.testing.assert_allclose(corners[0, 3], tile_place(X, Y + 1), atol=1e-9)


def test_geotiffs_that_overlap(tmp_path: Path) -> None:
    for number, east in enumerate((0.0, 15.0, 30.0, 500.0)):
        write_geotiff(tmp_path / f"tiles/{number}.tif", EAST + east, NORTH)
    write_picture(tmp_path / "photos/a.jpg", 64, 32)
    latitude, longitude = utm_place(EAST + 13, NORTH - 5)
    write_csv(tmp_path, [f"a.jpg,{latitude:.12f},{longitude:.12f},,180"])
    found = open_set(tmp_path, "all")
    assert found.positives.tolist() == [1] and found.semi_positives.tolist() == [[0, 2]]
    np.testing.assert_allclose(found.offsets, [[-2 / 40, 5 / 40]], atol=1e-6)
    np.testing.assert_allclose(found.tile_size, 40, rtol=1e-3)
    assert found.crs == CRS
    np.testing.assert_allclose(found.aerial_positions[1], [EAST + 15, NORTH], atol=1e-3)
    assert np.isnan(found.headings[0]) and found.fields_of_view[0] == 180
    np.testing.assert_allclose(tile_corners(found)[0, 0], utm_place(EAST - 20, NORTH + 20), atol=1e-9)


def test_training_and_test_are_apart(tmp_path: Path) -> None:
    lines = []
    for number in range(40):
        east, north = EAST + 60.0 * (number % 8), NORTH + 60.0 * (number // 8)
        write_geotiff(tmp_path / f"tiles/{number:02d}.tif", east, north)
        write_picture(tmp_path / f"photos/{number:02d}.jpg", 32, 16)
        latitude, longitude = utm_place(east + 3, north)
        lines.append(f"{number:02d}.jpg,{latitude:.12f},{longitude:.12f},0")
    write_csv(tmp_path, lines)
    train, val, test = (open_set(tmp_path, split) for split in ("train", "val", "test"))
    assert (len(train) + len(val) + len(test), len(test), len(test.aerials)) == (40, 8, 40)
    assert len({*train.grounds, *val.grounds, *test.grounds}) == 40
    assert not set(train.aerials) & set(val.aerials)
    assert not train.provenance & test.provenance and test.provenance < open_set(tmp_path, "all").provenance


def test_places_of_exif_tags(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 30))
    tags = Image.Exif()
    gps = tags.get_ifd(ExifTags.IFD.GPSInfo)
    names = ExifTags.GPS
    gps[names.GPSLatitudeRef], gps[names.GPSLatitude] = "S", (35.0, 17.0, 30.0)
    gps[names.GPSLongitudeRef], gps[names.GPSLongitude] = "E", (149.0, 7.0, 12.0)
    gps[names.GPSImgDirectionRef], gps[names.GPSImgDirection] = "T", 123.5
    picture.save(tmp_path / "a.jpg", exif=tags)
    np.testing.assert_allclose(exif_place(tmp_path / "a.jpg"), [-(35 + 17.5 / 60), 149.12, 123.5])
    gps[names.GPSImgDirectionRef] = "M"
    picture.save(tmp_path / "b.jpg", exif=tags)
    assert np.isnan(exif_place(tmp_path / "b.jpg")[2])
    picture.save(tmp_path / "c.jpg")
    assert np.isnan(exif_place(tmp_path / "c.jpg")).all()
    (tmp_path / "d.jpg").write_bytes(b"nothing")
    assert np.isnan(exif_place(tmp_path / "d.jpg")).all()


def test_photos_with_exif_tags_are_placed(tmp_path: Path) -> None:
    write_geotiff(tmp_path / "tiles/0.tif", EAST, NORTH)
    latitude, longitude = utm_place(EAST + 4, NORTH)
    tags = Image.Exif()
    gps = tags.get_ifd(ExifTags.IFD.GPSInfo)
    for value, ref, key, letter in (
        (latitude, ExifTags.GPS.GPSLatitudeRef, ExifTags.GPS.GPSLatitude, "N"),
        (longitude, ExifTags.GPS.GPSLongitudeRef, ExifTags.GPS.GPSLongitude, "E"),
    ):
        gps[ref], gps[key] = letter, (float(int(value)), 0.0, round((value % 1) * 3600, 5))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "p.jpg", exif=tags)
    found = open_set(tmp_path, "all")
    np.testing.assert_allclose(found.offsets, [[0.1, 0]], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crs": None}, r"t.tif has no CRS: add it"),
        ({"b": 0.2, "d": 0.2}, r"t.tif is not north up"),
        ({"e": -1.5}, r"40.0 m wide and 60.0 m high"),
    ],
)
def test_tiles_without_a_good_georeference(tmp_path: Path, changes: dict, message: str) -> None:
    write_geotiff(tmp_path / "tiles/t.tif", EAST, NORTH, **changes)
    write_picture(tmp_path / "photos/a.jpg", 64, 32)
    with pytest.raises(InputError, match=message):
        open_set(tmp_path, "all")


def test_what_is_wrong_with_a_folder_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "photos/a.jpg", 64, 32)
    write_picture(tmp_path / "tiles/a.png", 64, 64)
    with pytest.raises(MissingInputError, match="have no georeference"):
        open_set(tmp_path, "all")
    write_geotiff(tmp_path / "tiles/t.tif", EAST, NORTH)
    with pytest.raises(InputError, match="0 photos have a place in a tile"):
        open_set(tmp_path, "train")
    write_csv(tmp_path, ["b.jpg,58,26"])
    with pytest.raises(MissingInputError, match=r"there is no photo b\.jpg"):
        open_set(tmp_path, "all")
    write_csv(tmp_path, ["a.jpg,58,26", "a.jpg,58,26"])
    with pytest.raises(InputError, match=r"line 2: a.jpg occurs twice"):
        open_set(tmp_path, "all")
    write_csv(tmp_path, ["a.jpg,north,26"])
    with pytest.raises(InputError, match=r"line 1: north,26 are no numbers"):
        open_set(tmp_path, "all")
    write_csv(tmp_path, ["a.jpg,126,58"])
    with pytest.raises(InputError, match="latitude 126"):
        open_set(tmp_path, "all")
    (tmp_path / "photos.csv").unlink()
    (tmp_path / "tiles/t.tif").write_bytes(b"nothing")
    with pytest.raises(CorruptFileError, match=r"t.tif cannot be read"):
        open_set(tmp_path, "all")


def test_corners_of_public_tiles_are_so_far_apart(tmp_path: Path) -> None:
    from tests.datasets.cross_view.small_sets import write_cvusa

    write_cvusa(tmp_path)
    test = open_set(tmp_path, "test")
    corners = tile_corners(test)
    points = earth_centred(corners.reshape(-1, 2)).reshape(-1, 4, 3)
    for side in range(4):
        lengths = np.linalg.norm(points[:, side] - points[:, side - 1], axis=1)
        np.testing.assert_allclose(lengths, test.tile_size, rtol=1e-5)
    assert (corners[:, 0, 0] > corners[:, 3, 0]).all() and (corners[:, 1, 1] > corners[:, 0, 1]).all()
    np.testing.assert_allclose(corners.mean(axis=1), test.aerial_latlon, atol=1e-7)
    assert cv2.imread(str(test.aerials[0])) is not None
