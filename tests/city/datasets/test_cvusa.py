"""CVUSA's layout as its loaders read it, and the geometry of its pairs."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from pyproj import Transformer

from hloc_ext.city.datasets import cvusa
from hloc_ext.city.labels import Label
from tests.city.toy_city import POST_HEIGHT, POST_SIDE, posts, use_toy_city, white_spot

EXTENT, COUNT, SEED = 260.0, 6, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("cvusa")
    with pytest.MonkeyPatch.context() as patch:
        use_toy_city(patch)
        patch.setitem(cvusa.SIZES, "small", (EXTENT, COUNT))
        patch.setattr(cvusa, "MOSAIC_PIXEL", 0.2)
        cvusa.write(output, "small", SEED, workers=2)
    return output


def split(folder: Path, name: str) -> list[list[str]]:
    """As Sample4Geo and SAFA read it: no header, id from the name of the tile."""
    with (folder / "splits" / f"{name}-19zl.csv").open() as file:
        return list(csv.reader(file))


def places(folder: Path) -> np.ndarray:
    """(N, 2) x and y of the panoramas in the scene frame, from their coordinates."""
    table = np.loadtxt(folder / "split_locations" / "all.csv", delimiter=",")
    assert table.shape == (COUNT, 5)
    np.testing.assert_array_equal(table[:, :2], table[:, 2:4])
    transformer = Transformer.from_crs("EPSG:4326", cvusa.CRS, always_xy=True)
    return np.stack(transformer.transform(table[:, 3], table[:, 2]), axis=1) - cvusa.ORIGIN


def test_layout(folder: Path) -> None:
    train, val = split(folder, "train"), split(folder, "val")
    assert (len(train), len(val)) == (5, 1)
    ids = sorted(int(Path(row[0]).stem) for row in train + val)
    assert ids == list(range(1, COUNT + 1))
    for tile, panorama, annotation in train + val:
        assert Path(tile).stem == Path(panorama).stem == Path(annotation).stem
        assert (tile[:11], panorama[:17]) == ("bingmap/19/", "streetview/panos/")
        assert cv2.imread(str(folder / tile)).shape == (750, 750, 3)
        assert cv2.imread(str(folder / panorama)).shape == (224, 1232, 3)
        mask = cv2.imread(str(folder / annotation), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (224, 1232) and mask.dtype == np.uint8
        assert {Label.ROAD, Label.SKY, Label.BUILDING} <= set(np.unique(mask).tolist())


def test_validation_lies_north_of_training(folder: Path) -> None:
    north = places(folder)[:, 1]
    numbers = {name: [int(Path(row[0]).stem) - 1 for row in split(folder, name)] for name in ("train", "val")}
    assert north[numbers["val"]].min() >= north[numbers["train"]].max()


def test_tiles_have_their_place_in_the_middle(folder: Path) -> None:
    """The white tops of the posts lie where pixels of 156543.03392 cos(lat) / 2^19 m put them."""
    pixel_size = 156543.03392 * np.cos(np.radians(39.0)) / 2**19
    errors = []
    for index, place in enumerate(places(folder)):
        tile = cv2.imread(str(folder / f"bingmap/19/{index + 1:07d}.jpg"), cv2.IMREAD_GRAYSCALE)
        pixels = 375 + (posts(EXTENT) - place) / pixel_size * (1, -1)
        for x, y in pixels[(np.abs(pixels - 375) < 360).all(axis=1)]:
            errors.append(np.subtract(white_spot(tile, x, y), (x, y)))
    assert len(errors) > 20
    assert np.abs(np.mean(errors, axis=0)).max() < 0.1
    assert np.linalg.norm(errors, axis=1).max() < 1.0


def test_panoramas_agree_with_the_map(folder: Path) -> None:
    """North is in the middle, azimuth grows to the right, elevation is linear over the rows."""
    seen = []
    for index, place in enumerate(places(folder)):
        mask = cv2.imread(str(folder / f"streetview/annotations/{index + 1:07d}.png"), cv2.IMREAD_UNCHANGED)
        for east, north in posts(EXTENT) - place:
            # The highest pixel shows the nearest point of the top.
            nearest = np.maximum(np.abs([east, north]) - POST_SIDE / 2, 0)
            row = (0.5 - np.degrees(np.arctan2(POST_HEIGHT - 2.5, np.hypot(*nearest))) / 65.2) * 224
            column = (np.degrees(np.arctan2(east, north)) / 360 + 0.5) * 1232
            if not (8 < np.hypot(east, north) < 60 and 20 < column < 1212):
                continue
            columns = np.arange(int(column) - 9, int(column) + 10)
            post = mask[:, columns] == Label.POLE
            there = post.any(axis=0)
            if there.any() and not (there[0] or there[-1]):
                seen.append((columns[there].mean() + 0.5 - column, np.argmax(post.any(axis=1)) - row))
    assert len(seen) > 15
    assert np.abs(np.median(seen, axis=0)).max() < 0.5
    # Some posts are partly hidden.
    assert np.percentile(np.abs(seen), 80, axis=0).max() < 0.6


def test_same_seed_same_bytes_and_resuming(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_toy_city(monkeypatch)
    monkeypatch.setitem(cvusa.SIZES, "small", (EXTENT, COUNT))
    monkeypatch.setattr(cvusa, "MOSAIC_PIXEL", 0.2)
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.parts[0] == "city" or "0000002" in name.name:
            continue
        (tmp_path / name).write_bytes(files[name])
    kept = tmp_path / "streetview/panos/0000001.jpg"
    kept.write_bytes(b"not drawn again")
    cvusa.write(tmp_path, "small", SEED, workers=1)
    assert kept.read_bytes() == b"not drawn again"
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files.keys() == again.keys()
    different = [str(name) for name in files if files[name] != again[name]]
    assert different == ["streetview/panos/0000001.jpg"]
