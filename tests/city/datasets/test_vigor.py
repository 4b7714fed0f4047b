"""VIGOR's layout as its loaders read it, and what the offsets of its labels point to."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from pyproj import Transformer

from hloc_ext.city.datasets import vigor
from tests.city.toy_city import posts, use_toy_city, white_spot

EXTENT, COUNT, SEED = 170.0, 4, 5
NAMES = ("Chicago", "NewYork", "SanFrancisco", "Seattle")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("vigor")
    with pytest.MonkeyPatch.context() as patch:
        use_toy_city(patch)
        patch.setitem(vigor.SIZES, "small", (EXTENT, COUNT, (512, 256)))
        patch.setattr(vigor, "CITIES", (vigor.CITIES[0], vigor.CITIES[3]))
        vigor.write(output, "small", SEED, workers=2)
    return output


def labels(folder: Path, city: str, name: str) -> list[list[str]]:
    lines = (folder / "splits" / city / f"{name}.txt").read_text().splitlines()
    return [line.split() for line in lines]


def scene(city: str, latitude: float, longitude: float) -> np.ndarray:
    """x and y in the scene frame."""
    site = next(site for site in vigor.CITIES if site.name == city)
    transformer = Transformer.from_crs("EPSG:4326", site.crs, always_xy=True)
    return np.subtract(transformer.transform(longitude, latitude), (500_000.0, site.northing))


def test_sites_are_those_of_vigor() -> None:
    assert tuple(site.name for site in vigor.CITIES) == NAMES
    transformer = [Transformer.from_crs(site.crs, "EPSG:4326", always_xy=True) for site in vigor.CITIES]
    places = [
        t.transform(500_000.0, site.northing) for t, site in zip(transformer, vigor.CITIES, strict=True)
    ]
    np.testing.assert_allclose(places, [(-87, 41.87), (-75, 40.71), (-123, 37.77), (-123, 47.60)], atol=0.02)


@pytest.mark.parametrize("city", ["Chicago", "Seattle"])
def test_layout(folder: Path, city: str) -> None:
    tiles = (folder / "splits" / city / "satellite_list.txt").read_text().split()
    assert sorted(path.name for path in (folder / city / "satellite").iterdir()) == sorted(tiles)
    everything = labels(folder, city, "pano_label_balanced")
    train, test = (labels(folder, city, f"same_area_balanced_{split}") for split in ("train", "test"))
    assert (len(everything), len(train), len(test)) == (4, 2, 2)
    assert sorted(train + test) == sorted(everything)
    for row in everything:
        assert len(row) == 13
        assert len(set(row[1::3])) == 4 and set(row[1::3]) <= set(tiles)
        name, _, _, extension = row[0].split(",")
        assert (len(name), extension) == (22, ".jpg")
        assert cv2.imread(str(folder / city / "panorama" / row[0])).shape == (1024, 2048, 3)
        assert cv2.imread(str(folder / city / "satellite" / row[1])).shape == (640, 640, 3)


@pytest.mark.parametrize("city", ["Chicago", "Seattle"])
def test_offsets_point_to_the_panorama(folder: Path, city: str) -> None:
    """(x, y) = (320 − d1, 320 + d0) is the place that the panorama's name states, but for its rounding."""
    pixel_size = {"Chicago": 0.111262, "Seattle": 0.100817}[city]
    for row in labels(folder, city, "pano_label_balanced"):
        panorama = scene(city, *(float(v) for v in row[0].split(",")[1:3]))
        distances = []
        for tile, d0, d1 in zip(row[1::3], row[2::3], row[3::3], strict=True):
            center = scene(city, *(float(v) for v in tile.removesuffix(".png").split("_")[1:]))
            x, y = 320 + (panorama - center) / pixel_size * (1, -1)
            np.testing.assert_allclose((320 - float(d1), 320 + float(d0)), (x, y), atol=0.8)
            assert 0 <= x <= 640 and 0 <= y <= 640
            distances.append(max(abs(x - 320), abs(y - 320)))
        assert distances[0] <= 160.5
        assert min(distances[1:]) >= 159.5


@pytest.mark.parametrize("city", ["Chicago", "Seattle"])
def test_tiles_show_what_their_names_state(folder: Path, city: str) -> None:
    pixel_size = {"Chicago": 0.111262, "Seattle": 0.100817}[city]
    errors = []
    for path in sorted((folder / city / "satellite").iterdir()):
        center = scene(city, *(float(v) for v in path.stem.split("_")[1:]))
        tile = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        pixels = 320 + (posts(EXTENT) - center) / pixel_size * (1, -1)
        for x, y in pixels[(np.abs(pixels - 320) < 300).all(axis=1)]:
            errors.append(np.subtract(white_spot(tile, x, y, reach=8), (x, y)))
    assert len(errors) > 10
    assert np.linalg.norm(errors, axis=1).max() < 1.0


def test_neighbouring_tiles_overlap_by_half(folder: Path) -> None:
    tiles = (folder / "splits" / "Chicago" / "satellite_list.txt").read_text().split()
    centers = np.array([scene("Chicago", *(float(v) for v in name[:-4].split("_")[1:])) for name in tiles])
    np.testing.assert_allclose(centers[1] - centers[0], (320 * 0.111262, 0), atol=1e-3)
    pictures = [
        cv2.imread(str(folder / "Chicago/satellite" / name), cv2.IMREAD_GRAYSCALE) for name in tiles[:2]
    ]
    left, right = pictures[0][:, 320:].ravel(), pictures[1][:, :320].ravel()
    assert np.corrcoef(left, right)[0, 1] > 0.95
