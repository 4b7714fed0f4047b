"""Maps show the classes of their mask where the mask has them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hloc_ext.datasets.map_palettes import random_palette
from hloc_ext.datasets.map_rendering import (
    BUILDING,
    OTHER,
    ROAD,
    SIDEWALK,
    VEGETATION,
    MapStyle,
    noise,
    random_style,
    render_map,
    smooth_label,
)

LEVELS = np.array([[10], [60], [100], [140], [180], [220]], np.float32)
PLAIN = MapStyle(colors=LEVELS, line_colors=np.full((6, 1), 255, np.float32), softness=0.0)


def mask() -> np.ndarray:
    label = np.zeros((96, 128), np.uint8)
    label[:, 40:56] = ROAD
    label[20:60, 70:110] = BUILDING
    label[70:, 70:] = VEGETATION
    return label


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_plain_map_has_the_colour_of_each_class() -> None:
    np.testing.assert_array_equal(render_map(mask(), rng(), PLAIN), LEVELS[mask(), 0])


def test_colours_become_their_luminance() -> None:
    colors = np.eye(6, 3, dtype=np.float32) * 200
    style = replace(PLAIN, colors=colors, line_colors=colors)
    label = np.arange(6, dtype=np.uint8).repeat(8).reshape(6, 8)
    colored, grey = render_map(label, rng(), style), render_map(label, rng(), style.grey())
    assert colored.shape == (6, 8, 3)
    np.testing.assert_array_equal(colored[1, 0], [0, 200, 0])
    np.testing.assert_array_equal(grey[:, 0], [60, 117, 23, 0, 0, 0])
    assert style.grey().grey().colors.shape == (6, 1)


def test_classes_that_are_left_out_are_background() -> None:
    style = replace(PLAIN, merged=(OTHER, ROAD, ROAD, BUILDING, OTHER, OTHER))
    drawn = render_map(mask(), rng(), style)
    assert (drawn[mask() == VEGETATION] == 10).all()
    assert (drawn[mask() == BUILDING] == 140).all()
    assert render_map(np.full((8, 8), SIDEWALK, np.uint8), rng(), style)[0, 0] == 60


@pytest.mark.parametrize(("width", "columns"), [(1, [39]), (2, [39, 40]), (3, [38, 39, 40])])
def test_outline_lies_on_the_border(width: int, columns: list[int]) -> None:
    style = replace(PLAIN, line_widths=(0, width, 0, 0, 0, 0))
    drawn = render_map(mask(), rng(), style)
    assert np.flatnonzero(drawn[10, :48] == 255).tolist() == columns
    unfilled = replace(style, filled=(True, False, True, True, True, True))
    assert render_map(mask(), rng(), unfilled)[10, 47] == 10


def test_dashes_break_the_outline_and_hatching_stays_in_its_class() -> None:
    style = replace(PLAIN, line_widths=(0, 2, 0, 0, 0, 0))
    whole = (render_map(mask(), rng(), style) == 255).sum()
    broken = (render_map(mask(), rng(), replace(style, dashed=(False, True) + (False,) * 4)) == 255).sum()
    assert 0.3 < broken / whole < 0.7
    hatched = render_map(mask(), rng(), replace(PLAIN, hatched=BUILDING, hatch_strength=1.0))
    changed = hatched != LEVELS[mask(), 0]
    assert not changed[mask() != BUILDING].any()
    assert 0.2 < changed[mask() == BUILDING].mean() < 0.5


def test_smoothing_removes_specks_and_keeps_straight_borders() -> None:
    label = mask()
    label[5, 5] = BUILDING
    smooth = smooth_label(label, 1.5)
    assert smooth[5, 5] == OTHER
    np.testing.assert_array_equal(smooth[:, 30:66], mask()[:, 30:66])


def test_polygons_replace_ragged_buildings() -> None:
    label = np.zeros((80, 80), np.uint8)
    label[20:60, 20:60] = BUILDING
    label[19, 21:59:3] = BUILDING
    drawn = render_map(label, rng(), replace(PLAIN, polygons=1.5))
    square = np.zeros((80, 80), bool)
    square[20:60, 20:60] = True
    assert ((drawn == 140) ^ square).sum() <= 45
    border = drawn[19] == 140
    assert np.abs(np.diff(border.astype(int))).sum() <= 2


def test_painted_borders_stay_near_the_mask_and_textures_keep_the_mean() -> None:
    painted = replace(PLAIN, painted=True, wobble=3.0, texture=(4.0,) * 6, softness=0.0)
    drawn = render_map(mask(), rng(1), painted).astype(float)
    far = cv2.distanceTransform((mask() == ROAD).astype(np.uint8), cv2.DIST_L2, 5) > 4
    assert abs(drawn[far].mean() - 60) < 5
    assert 1 < drawn[far].std() < 12
    wobbled = render_map(mask(), rng(1), replace(PLAIN, wobble=3.0))
    wrong = wobbled != LEVELS[mask(), 0]
    near = cv2.dilate(cv2.Canny(mask() * 40, 10, 20), np.ones((9, 9), np.uint8)) > 0
    assert wrong.any()
    assert not wrong[~near].any()


def test_same_seed_same_map() -> None:
    for seed in range(20):
        style = random_style(rng(seed)).grey()
        first = render_map(mask(), rng(seed), style)
        np.testing.assert_array_equal(first, render_map(mask(), rng(seed), random_style(rng(seed)).grey()))
        assert first.shape == mask().shape
        assert first.dtype == np.uint8


def test_styles_are_varied_and_draw_only_what_they_may() -> None:
    styles = [random_style(rng(seed), painted=0.5, drawn=(1,)) for seed in range(200)]
    assert 0.4 < np.mean([style.painted for style in styles]) < 0.6
    assert all(style.merged == (0, 1, 0, 0, 0, 0) for style in styles)
    assert np.std([style.colors.mean() for style in styles]) > 30
    assert not any(style.painted for style in (random_style(rng(seed), painted=0) for seed in range(50)))


def test_palettes_tell_the_drawn_classes_apart() -> None:
    for seed in range(100):
        merged = (0, 1, 1, 3, 0, 0)
        colors, lines = random_palette(rng(seed), merged=merged)
        assert (colors @ np.array([0.299, 0.587, 0.114]))[[0, 1, 3]].std() > 4
        assert colors.min() >= 0
        assert colors.max() <= 255
        assert lines.shape == (6, 3)


def test_noise_has_unit_variance_and_its_grain() -> None:
    for grain in (1.0, 4.0, 16.0):
        values = noise((256, 250), grain, rng(3))
        assert values.shape == (256, 250)
        assert 0.6 < values.std() < 1.2
        step = np.abs(np.diff(values, axis=1)).mean()
        assert step < 2.0 / grain
