"""CVACT's layout as its loaders read it, and the geometry of its pairs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from hloc_ext.city.datasets import cvact
from tests.city.toy_city import posts, use_toy_city, white_spot

EXTENT, COUNT, SEED = 220.0, 10, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("cvact")
    with pytest.MonkeyPatch.context() as patch:
        use_toy_city(patch)
        patch.setitem(cvact.SIZES, "small", (EXTENT, COUNT))
        patch.setattr(cvact, "MOSAIC_PIXEL", 0.2)
        cvact.write(output, "small", SEED, workers=2)
    return output


def test_indices_by_name(folder: Path) -> None:
    """As OriCNN, SAFA and their followers read them."""
    data = scipy.io.loadmat(folder / "ACT_data.mat")
    train = data["trainSet"]["trainInd"][0][0] - 1
    val = data["valSet"]["valInd"][0][0] - 1
    test = data["valSetAll"]["valInd"][0][0] - 1
    assert (train.shape, val.shape, test.shape) == ((6, 1), (2, 1), (4, 1))
    assert set(val[:, 0]) <= set(test[:, 0])
    assert sorted([*train[:, 0], *test[:, 0]]) == list(range(COUNT))
    for indices, root in ((train, "small"), (val, "small"), (test, "test")):
        for k in range(len(indices)):
            pano_id = data["panoIds"][indices[k][0]]
            assert len(pano_id) == 22
            base = f"{folder}/ANU_data_{root}/"
            assert cv2.imread(base + "streetview/" + pano_id + "_grdView.jpg").shape == (832, 1664, 3)
            tile = cv2.imread(base + "satview_polish/" + pano_id + "_satView_polish.jpg")
            assert tile.shape == (1200, 1200, 3)


def test_indices_by_position(folder: Path) -> None:
    """As Sample4Geo reads them."""
    data = scipy.io.loadmat(f"{folder}/ACT_data.mat")
    ids = data["panoIds"]
    assert ids.shape == (COUNT,)
    for name, field, count in (
        ("trainSet", "trainInd", 6),
        ("valSet", "valInd", 2),
        ("valSetAll", "valInd", 4),
    ):
        chosen = ids[data[name][0][0][1] - 1]
        assert chosen.shape == (count, 1)
        np.testing.assert_array_equal(data[name][0][0][1], data[name][field][0][0])
        assert int(data[name][0][0][0].item()) == count


def test_test_set_is_what_lies_in_both_folders(folder: Path) -> None:
    """As Sample4Geo finds it: names without their last 12 and 19 characters, sorted."""
    data = scipy.io.loadmat(folder / "ACT_data.mat")
    root = folder / "ANU_data_test"
    street = {path.name[:-12] for path in (root / "streetview").iterdir()}
    tiles = {path.name[:-19] for path in (root / "satview_polish").iterdir()}
    assert street == tiles == set(data["panoIds"][data["valSetAll"]["valInd"][0][0][:, 0] - 1])


def test_header_has_no_date(folder: Path) -> None:
    assert (
        (folder / "ACT_data.mat")
        .read_bytes()[:128]
        .startswith(b"MATLAB 5.0 MAT-file, written by hloc_ext.city  ")
    )
    assert scipy.io.whosmat(folder / "ACT_data.mat")[0] == ("panoIds", (COUNT,), "char")


def test_utm_is_the_middle_of_the_tile(folder: Path) -> None:
    data = scipy.io.loadmat(folder / "ACT_data.mat")
    assert data["utm"].shape == (COUNT, 2)
    pixel_size = 156543.03392 * np.cos(np.radians(35.28576)) / 2**20
    errors = []
    for pano_id, utm in zip(data["panoIds"], data["utm"], strict=True):
        path = next(folder.glob(f"ANU_data_*/satview_polish/{pano_id}_satView_polish.jpg"))
        tile = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        pixels = 600 + (posts(EXTENT) + cvact.ORIGIN - utm) / pixel_size * (1, -1)
        for x, y in pixels[(np.abs(pixels - 600) < 580).all(axis=1)]:
            errors.append(np.subtract(white_spot(tile, x, y, reach=8), (x, y)))
    assert len(errors) > 20
    assert np.abs(np.mean(errors, axis=0)).max() < 0.1
    assert np.linalg.norm(errors, axis=1).max() < 1.0


def test_small_and_test_hold_the_same_pictures(folder: Path) -> None:
    data = scipy.io.loadmat(folder / "ACT_data.mat")
    for pano_id in data["panoIds"][data["valSet"]["valInd"][0][0][:, 0] - 1]:
        small, test = (
            folder / f"ANU_data_{name}/streetview/{pano_id}_grdView.jpg" for name in ("small", "test")
        )
        assert small.read_bytes() == test.read_bytes()
