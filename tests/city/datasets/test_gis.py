"""The GIS-alignment set: its truth takes layers onto images, and images onto the correct imagery."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio

from hloc_ext.city.datasets import gis
from hloc_ext.city.datasets.imagery import Mosaic
from hloc_ext.city.datasets.misregistration import apply
from hloc_ext.city.labels import Label
from hloc_ext.city.layers import LAYERS
from tests.city.toy_city import posts, use_toy_city, white_spot

EXTENT, COUNT, SEED = 320.0, 12, 6


def write(output: Path, patch: pytest.MonkeyPatch, workers: int) -> None:
    use_toy_city(patch)
    patch.setitem(gis.SIZES, "small", (EXTENT, COUNT, 0.0))
    patch.setattr(gis, "MOSAIC_PIXEL", 0.2)
    gis.write(output, "small", SEED, workers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("gis")
    with pytest.MonkeyPatch.context() as patch:
        write(output, patch, workers=2)
    return output


def truth(folder: Path, index: int) -> dict:
    return json.loads((folder / "scenes" / f"{index:05d}" / "truth.json").read_text())


def read(path: Path) -> tuple[np.ndarray, rasterio.Affine, str]:
    with rasterio.open(path) as source:
        return np.moveaxis(source.read(), 0, 2), source.transform, source.crs.to_string()


def test_layout(folder: Path) -> None:
    index = pd.read_csv(folder / "index.csv", dtype={"scene": str})
    assert index.scene.tolist() == [f"{i:05d}" for i in range(COUNT)]
    for split, count in (("train", 7), ("val", 3), ("test", 2)):
        listed = (folder / "splits" / f"{split}.txt").read_text().split()
        assert listed == index.scene[index.split == split].tolist()
        assert len(listed) == count
    assert index.groupby(["imagery", "model"]).size().tolist() == [2] * 6
    for scene in index.scene:
        image, _, crs = read(folder / "scenes" / scene / "image.tif")
        assert (image.shape, image.dtype, crs) == ((512, 512, 3), np.uint8, "EPSG:32635")
        labels = cv2.imread(str(folder / "scenes" / scene / "labels.png"), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (512, 512)
        assert {Label.ROAD, Label.SIDEWALK, Label.BUILDING} <= set(np.unique(labels).tolist())
        layers = pyogrio.list_layers(folder / "scenes" / scene / "layers.gpkg")[:, 0]
        assert sorted(layers) == sorted(LAYERS)
    assert (folder / "city" / "layers.gpkg").exists()


def test_maps_agree_with_each_other_and_the_georeference(folder: Path) -> None:
    corners = np.array([[0, 0], [512, 0], [512, 512], [0, 512.0]])
    for i in range(COUNT):
        facts = truth(folder, i)
        _, transform, _ = read(folder / "scenes" / f"{i:05d}" / "image.tif")
        claimed, true, pixel, offset = (
            np.array(facts[name])
            for name in (
                "claimed_from_pixel",
                "true_from_pixel",
                "true_pixel_from_pixel",
                "true_offset_from_claimed_offset",
            )
        )
        stated = apply(claimed, corners)
        np.testing.assert_allclose(apply(np.reshape(transform, (3, 3)), corners), stated, atol=1e-6)
        np.testing.assert_allclose(apply(claimed, apply(pixel, corners)), apply(true, corners), atol=1e-5)
        anchor = np.array(facts["anchor"])
        np.testing.assert_allclose(apply(claimed, [[256, 256]])[0], anchor, atol=1e-6)
        np.testing.assert_allclose(apply(offset, stated - anchor) + anchor, apply(true, corners), atol=1e-5)
        error = np.linalg.norm(stated - apply(true, corners), axis=1).mean()
        assert facts["mean_corner_error"] == pytest.approx(error, abs=1e-5)
        # The centre is off by the translation alone.
        shift = apply(true, [[256, 256]])[0] - anchor
        np.testing.assert_allclose(shift, facts["parameters"]["translation"], atol=1e-5)


def test_images_show_the_true_place(folder: Path) -> None:
    """Posts of the city are where the truth says, in the pictures from above."""
    errors = []
    for i in range(0, COUNT, 2):
        facts = truth(folder, i)
        assert facts["imagery"] == "ortho"
        image, _, _ = read(folder / "scenes" / f"{i:05d}" / "image.tif")
        pixels = apply(np.linalg.inv(facts["true_from_pixel"]), posts(EXTENT) + gis.ORIGIN)
        for x, y in pixels[(np.abs(pixels - 256) < 245).all(axis=1)]:
            errors.append(np.subtract(white_spot(image.mean(axis=2), x, y), (x, y)))
    assert len(errors) > 30
    assert np.abs(np.mean(errors, axis=0)).max() < 0.1
    assert np.linalg.norm(errors, axis=1).max() < 1.0


def test_layers_lie_on_the_labels(folder: Path) -> None:
    """Buildings of the layers, taken to the image by the truth, cover the pixels that are labelled so."""
    for i in range(COUNT):
        scene = folder / "scenes" / f"{i:05d}"
        facts = truth(folder, i)
        labels = cv2.imread(str(scene / "labels.png"), cv2.IMREAD_UNCHANGED)
        drawn = np.zeros((512, 512), np.uint8)
        buildings = gpd.read_file(scene / "layers.gpkg", layer="buildings")
        assert buildings.crs.to_string() == facts["crs"]
        for polygon in buildings.explode().geometry:
            corners = apply(np.linalg.inv(facts["true_from_pixel"]), np.array(polygon.exterior.coords)[:, :2])
            # OpenCV counts from the centre of the first pixel; four bits of fraction.
            cv2.fillPoly(drawn, [np.round((corners - 0.5) * 16).astype(np.int32)], 1, shift=4)
        both = (drawn > 0) & (labels == Label.BUILDING)
        either = (drawn > 0) | (labels == Label.BUILDING)
        assert both.sum() / either.sum() > 0.95
        # Not by accident: without the correction they do not fit.
        assert facts["mean_corner_error"] > 0.5


def test_paintings_are_no_pictures(folder: Path) -> None:
    """The classes of a generated image have their own colours."""
    image, _, _ = read(folder / "scenes" / "00001" / "image.tif")
    labels = cv2.imread(str(folder / "scenes" / "00001" / "labels.png"), cv2.IMREAD_UNCHANGED)
    assert truth(folder, 1)["imagery"] == "generated"
    inner = [cv2.erode((labels == label).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0 for label in (1, 4)]
    road, plants = (image[mask].mean(axis=0) for mask in inner)
    assert plants[1] - plants[2] > road[1] - road[2] + 15


def test_regions_share_no_ground() -> None:
    extent, _, gap = gis.SIZES["medium"]
    half = extent / 2
    mosaic = Mosaic(
        Path("none"), Path("none"), (-half, -half, half, half), 0.25, int(extent * 4), int(extent * 4)
    )
    corners = np.array([[0, 0], [512, 0], [512, 512], [0, 512]])
    spans: dict[str, list[np.ndarray]] = {}
    for scene in gis.draw_scenes(mosaic, 400, gap, SEED):
        for matrix in (scene.true_from_pixel, scene.claimed_from_pixel):
            spans.setdefault(scene.split, []).append(apply(matrix, corners)[:, 0])
    west_to_east = [(np.min(spans[split]), np.max(spans[split])) for split in gis.SPLITS]
    assert -half < west_to_east[0][0] < west_to_east[0][1] < west_to_east[1][0]
    assert west_to_east[1][1] < west_to_east[2][0] < west_to_east[2][1] < half


def test_same_seed_same_bytes_and_resuming(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if not {"00003", "00004"} & set(name.parts) and name.name != "index.csv":
            (tmp_path / name).write_bytes(data)
    write(tmp_path, monkeypatch, workers=1)
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files.keys() == again.keys()
    assert [str(name) for name in files if files[name] != again[name]] == []
