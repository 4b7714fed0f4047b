"""All cross-view and GIS writers on a real, small city: pictures, classes, layers and coordinates agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from hloc_ext.city import cache
from hloc_ext.city.datasets import cvact, cvusa, gis, vigor
from hloc_ext.city.datasets.imagery import Mosaic, make_mosaic, north_up
from hloc_ext.city.datasets.misregistration import apply
from hloc_ext.city.datasets.place import Place, street_viewpoints
from hloc_ext.city.labels import MOVING, Label
from hloc_ext.city.layers import vector_layers
from hloc_ext.city.scene import City, make_city

pytestmark = pytest.mark.slow

EXTENT, SEED = 220.0, 2
GROUND = (Label.ROAD, Label.SIDEWALK, Label.CROSSING)


@pytest.fixture(scope="module")
def city() -> City:
    return make_city(EXTENT, SEED)


@pytest.fixture(autouse=True)
def one_city(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every writer writes about this city, wherever it puts it."""

    def cached_city(extent: float, seed: int, crs: str, origin: tuple[float, float]) -> City:
        return replace(city, plan=replace(city.plan, crs=crs, origin=origin))

    monkeypatch.setattr(cache, "cached_city", cached_city)
    monkeypatch.setattr(cvusa, "MOSAIC_PIXEL", 0.25)
    monkeypatch.setattr(cvact, "MOSAIC_PIXEL", 0.25)
    monkeypatch.setattr(gis, "MOSAIC_PIXEL", 0.25)


@pytest.fixture(scope="module")
def place(city: City) -> Place:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "cached_city", lambda *_, **__: city)
        return Place(EXTENT, SEED, city.plan.crs, city.plan.origin)


@pytest.fixture(scope="module")
def mosaic(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Mosaic:
    return make_mosaic(place, tmp_path_factory.mktemp("mosaic"), 0.25, workers=2)


def labels_at(mosaic: Mosaic, points: np.ndarray) -> np.ndarray:
    with rasterio.open(mosaic.labels_path) as source:
        labels = source.read(1)
    column, row = np.floor(apply(mosaic.pixel_from_scene, points)).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < mosaic.width) & (row < mosaic.height)
    return np.where(
        inside, labels[np.clip(row, 0, mosaic.height - 1), np.clip(column, 0, mosaic.width - 1)], 255
    )


def test_panoramas_show_the_ground_of_the_tiles(place: Place, mosaic: Mosaic) -> None:
    """Road, sidewalk and crossing are seen where the map has them, and not if it is turned or mirrored."""
    right, turned, mirrored = [], [], []
    for index, point in enumerate(street_viewpoints(place.plan, 4, mosaic.bounds, SEED)):
        view = place.panorama(index, point, 512, 256)
        rows, columns = np.nonzero(np.isin(view.label, GROUND) & (view.depth < 25))
        azimuth = np.radians(((columns + 0.5) / 512 - 0.5) * 360)
        elevation = np.radians(90 - (rows + 0.5) / 256 * 180)
        level = view.depth[rows, columns] * np.cos(elevation)
        for found, angle in ((right, azimuth), (turned, azimuth + np.pi / 2), (mirrored, -azimuth)):
            points = point + np.stack([level * np.sin(angle), level * np.cos(angle)], axis=1)
            above = labels_at(mosaic, points)
            known = np.isin(above, GROUND)
            found.append((above == view.label[rows, columns])[known].mean())
    assert np.mean(right) > 0.97
    assert max(np.mean(turned), np.mean(mirrored)) < np.mean(right) - 0.1


def test_layers_lie_on_the_imagery(place: Place, mosaic: Mosaic) -> None:
    layers = vector_layers(place.plan)
    with rasterio.open(mosaic.labels_path) as source:
        labels, transform = source.read(1), source.transform
    for name, label in (("buildings", Label.BUILDING), ("roads", Label.ROAD)):
        drawn = rasterize(layers[name].geometry, labels.shape, transform=transform).astype(bool)
        # What stands over the ground hides it, and roofs reach over their walls.
        inner = cv2.erode(drawn.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2) > 0
        hidden = np.isin(labels, [*MOVING, Label.VEGETATION, Label.POLE, Label.OTHER, Label.CROSSING])
        assert (labels[inner & ~hidden] == label).mean() > 0.99
        outer = cv2.dilate(drawn.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=4) > 0
        assert (labels[~outer] == label).mean() < 0.01


def test_cvusa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cvusa.SIZES, "small", (EXTENT, 2))
    monkeypatch.setattr(cvusa, "TILE", 300)
    cvusa.write(tmp_path, "small", SEED, workers=2)
    for number in ("0000001", "0000002"):
        tile = cv2.imread(str(tmp_path / f"bingmap/19/{number}.jpg"))
        panorama = cv2.imread(str(tmp_path / f"streetview/panos/{number}.jpg"))
        assert (tile.shape, panorama.shape) == ((300, 300, 3), (224, 1232, 3))
        assert tile.std() > 15 and panorama.std() > 25
        mask = cv2.imread(str(tmp_path / f"streetview/annotations/{number}.png"), cv2.IMREAD_UNCHANGED)
        assert {Label.SKY, Label.ROAD, Label.BUILDING} <= set(np.unique(mask).tolist())
        # The camera stands on the road, and below it nothing moves.
        assert np.isin(mask[-1], MOVING).mean() < 0.1


def test_cvact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cvact.SIZES, "small", (EXTENT, 3))
    monkeypatch.setattr(cvact, "TILE", 600)
    cvact.write(tmp_path, "small", SEED, workers=2)
    assert len([*tmp_path.glob("ANU_data_*/streetview/*_grdView.jpg")]) == 3
    assert len([*tmp_path.glob("ANU_data_*/satview_polish/*_satView_polish.jpg")]) == 3
    for path in tmp_path.glob("ANU_data_*/*/*.jpg"):
        assert cv2.imread(str(path)).std() > 15


def test_vigor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tile at a panorama's place shows the ground that the panorama stands on."""
    monkeypatch.setitem(vigor.SIZES, "small", (EXTENT, 3, (512, 256)))
    monkeypatch.setattr(vigor, "CITIES", (replace(vigor.CITIES[0], pixel_size=0.2),))
    vigor.write(tmp_path, "small", SEED, workers=2)
    with rasterio.open(tmp_path / "city" / "Chicago" / "labels.tif") as source:
        labels, transform, crs = source.read(1), source.transform, source.crs
    assert crs.to_epsg() == 32616
    names = (tmp_path / "splits" / "Chicago" / "satellite_list.txt").read_text().split()
    columns = labels.shape[1] // 320 - 1
    for line in (tmp_path / "splits" / "Chicago" / "pano_label_balanced.txt").read_text().splitlines():
        panorama, *tiles = line.split()
        assert (tmp_path / "Chicago" / "panorama" / panorama).exists()
        for tile, d0, d1 in zip(tiles[::3], tiles[1::3], tiles[2::3], strict=True):
            number = names.index(tile)
            x, y = number % columns * 320 + 320 - float(d1), number // columns * 320 + 320 + float(d0)
            assert labels[int(y), int(x)] in (*GROUND, *MOVING, Label.VEGETATION)
    assert transform.a == pytest.approx(0.2)


def test_gis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image is the mosaic, seen through the truth; edges of the layers lie on edges of the classes."""
    monkeypatch.setitem(gis.SIZES, "small", (EXTENT, 4, 0.0))
    gis.write(tmp_path, "small", SEED, workers=2)
    for number in range(4):
        scene = tmp_path / "scenes" / f"{number:05d}"
        facts = json.loads((scene / "truth.json").read_text())
        labels = cv2.imread(str(scene / "labels.png"), cv2.IMREAD_UNCHANGED)
        layers = gis.gpd.read_file(scene / "layers.gpkg", layer="roads")
        pixel_from_true = np.linalg.inv(facts["true_from_pixel"])
        shapes = shapely.transform(layers.geometry.to_numpy(), lambda xy, m=pixel_from_true: apply(m, xy))
        drawn = rasterize(list(shapes), (512, 512)).astype(bool)
        hidden = np.isin(labels, [*MOVING, Label.VEGETATION, Label.POLE, Label.CROSSING, Label.OTHER])
        both = (drawn & (labels == Label.ROAD))[~hidden].sum()
        assert both / (drawn | (labels == Label.ROAD))[~hidden].sum() > 0.98


def test_moving_things_differ_between_the_views(place: Place, mosaic: Mosaic) -> None:
    """Cars of the panoramas are not those of the imagery."""
    first, second = (place.traffic(seed, near=(0.0, 0.0)) for seed in (1, 2))
    assert len(first) and len(second)
    assert first.vertices.shape != second.vertices.shape or not np.array_equal(
        first.vertices, second.vertices
    )
    picture = mosaic.warp(north_up((0, 0), 0.25, 300, 300), 300, 300)
    assert picture.std() > 20
