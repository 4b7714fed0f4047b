"""Classes of city tiles, and tiles that photos and maps are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hloc_ext.datasets.city_tiles import ground_classes, render_tiles
from hloc_ext.datasets.map_pairs import MapPairs, find_labelled_images
from hloc_ext.errors import InputError


def test_what_stands_on_the_ground_becomes_ground() -> None:
    labels = pytest.importorskip("hloc_ext.city.labels").Label
    label = np.full((9, 9), labels.ROAD, np.uint8)
    label[:, 6:] = labels.BUILDING
    label[2:5, 1:4] = labels.VEHICLE
    label[7, 5] = labels.POLE
    label[0] = labels.CROSSING
    expected = np.full((9, 9), 1)
    expected[1:, 6:] = 3
    found = ground_classes(label)
    found[7, 5] = 1  # as near to the road as to the building
    np.testing.assert_array_equal(found, expected)
    assert (ground_classes(np.full((3, 3), labels.SKY, np.uint8)) == 0).all()


def test_tiles_larger_than_the_city_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    with pytest.raises(InputError, match="larger city"):
        render_tiles(tmp_path, 1, 0, size=1024)


@pytest.mark.slow
def test_tiles_are_photos_with_masks(tmp_path: Path) -> None:
    for name in ("numba", "shapely"):
        pytest.importorskip(name)
    files = render_tiles(tmp_path / "city", 2, seed=3, size=128)
    assert files == find_labelled_images(tmp_path)
    time = files[0].image.stat().st_mtime_ns
    files[1].label.unlink()
    render_tiles(tmp_path / "city", 2, seed=3, size=128)
    assert files[0].image.stat().st_mtime_ns == time
    pairs = MapPairs(files, 64, length=2)
    _, label, known = pairs.load(1)
    assert known.all()
    assert {1, 3} <= set(np.unique(label).tolist())
    assert pairs[0]["image0"].shape == (1, 64, 64)
