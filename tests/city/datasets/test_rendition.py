"""Paintings of maps: what they keep of the map, and what not."""

from __future__ import annotations

import numpy as np

from hloc_ext.city.datasets.rendition import leave_out, paint
from hloc_ext.city.labels import Label


def scene() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((160, 160), np.uint8)
    labels[:, 60:90] = Label.ROAD
    labels[:, 90:100] = Label.SIDEWALK
    labels[10:70, 5:50] = Label.VEGETATION
    labels[90:150, 105:155] = Label.BUILDING
    return labels, (labels == Label.BUILDING).astype(np.int32)


def test_classes_keep_their_place_and_colours() -> None:
    picture = paint(*scene(), np.random.default_rng(5))
    assert picture.shape == (160, 160, 3) and picture.dtype == np.uint8
    red, green, blue = picture[15:65, 12:45].reshape(-1, 3).mean(axis=0)
    assert green > red and green > blue
    road, sidewalk = picture[:, 65:85].mean(), picture[:, 92:98].mean()
    assert sidewalk > road + 20
    assert np.ptp(picture[:, 65:85].reshape(-1, 3).mean(axis=0)) < 25
    # It is no flat map.
    assert picture[15:65, 12:45].std() > 8


def test_borders_wobble_by_about_a_pixel() -> None:
    """The border between road and sidewalk is where the map has it on average, but no straight line."""
    picture = paint(*scene(), np.random.default_rng(6)).mean(axis=2)
    strip = picture[:, 80:100] - np.median(picture[:, 65:80])
    half = (np.median(picture[:, 92:98]) - np.median(picture[:, 65:80])) / 2
    # From the sidewalk to the left, past what was invented on the road.
    border = 97 - np.argmax(strip[:, 16::-1] < half, axis=1)
    assert abs(np.median(border) - 90) <= 1.0
    assert 0.3 < border.std() < 4


def test_seed_decides() -> None:
    first, again, other = (paint(*scene(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 3


def test_small_things_are_forgotten() -> None:
    areas = np.repeat([500.0, 20.0], 400)
    keep = leave_out(areas, np.random.default_rng(0))
    assert keep[:400].all()
    assert 0.68 < keep[400:].mean() < 0.82
