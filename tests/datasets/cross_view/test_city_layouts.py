"""What the city writes in the public layouts is read, and lies where it says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("embreex")

from hloc_ext.city.datasets import cvact, cvusa, vigor
from hloc_ext.city.labels import Label
from hloc_ext.datasets import spatial_priors
from hloc_ext.datasets.cross_view.layout import open_set
from tests.city.toy_city import use_toy_city

pytestmark = pytest.mark.slow


def test_cvusa_and_class_maps_of_its_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy_city(monkeypatch)
    monkeypatch.setitem(cvusa.SIZES, "small", (230.0, 5))
    cvusa.write(tmp_path, "small", 3, workers=2)
    train, test = open_set(tmp_path, "train", val_share=0), open_set(tmp_path, "test")
    assert (train.name, len(train), len(test), train.crs) == ("cvusa", 4, 1, "EPSG:32615")
    # The places for test lie in the north.
    assert test.ground_positions[:, 1].min() > train.ground_positions[:, 1].max()
    assert spatial_priors.main(tmp_path, "gis", size=250) == 5
    labelled = open_set(tmp_path, "test")
    for path in labelled.aerial_labels:
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        # Cameras stand on roads, at the centres of the tiles.
        assert (label[123:127, 123:127] == Label.ROAD).mean() > 0.9
        assert set(np.unique(label)) <= {0, 1, 2, 3, 4, 5, 255}


def test_cvact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy_city(monkeypatch)
    monkeypatch.setitem(cvact.SIZES, "small", (200.0, 5))
    cvact.write(tmp_path, "small", 3, workers=2)
    train, test = open_set(tmp_path, "train", val_share=0), open_set(tmp_path, "test")
    val = open_set(tmp_path, "val_official")
    # Half of the test places are of the validation set, too.
    assert (train.name, len(train), len(test), len(val)) == ("cvact", 3, 2, 1)
    assert {path.name for path in val.grounds} < {path.name for path in test.grounds}
    assert train.crs == test.crs == "EPSG:32755"


def test_vigor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy_city(monkeypatch)
    monkeypatch.setitem(vigor.SIZES, "small", (170.0, 2, (512, 256)))
    vigor.write(tmp_path, "small", 5, workers=2)
    for area in ("same", "cross"):
        train, test = open_set(tmp_path, "train", area, val_share=0), open_set(tmp_path, "test", area)
        assert (train.name, len(train), len(test)) == ("vigor", 4, 4)
        for found in (train, test):
            size = found.tile_size[found.positives, None]
            metres = found.aerial_positions[found.positives] + found.offsets * size * [1, -1]
            # Panoramas' names tell their places to a millionth of a degree.
            np.testing.assert_allclose(metres, found.ground_positions, atol=0.12)
            assert (np.abs(found.offsets) <= 0.25 + 1e-6).all()
            assert (found.semi_positives >= 0).all()
