"""Changes of colour photos: each is what its name says, and moves nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hloc_ext.datasets.color_change import (
    COLOR_CHANGES,
    DAY,
    ColorChange,
    change_color,
    find_color_change,
    saturate,
)
from hloc_ext.datasets.photometric import compress
from hloc_ext.errors import InputError


def photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.uniform(0, 1, (60, 80, 3)).astype(np.float32), (0, 0), 2)
    return (np.clip(0.5 + 4 * (smooth - 0.5), 0.1, 0.9) * 255).astype(np.uint8)


def changed(change: ColorChange, seed: int = 1) -> np.ndarray:
    return change_color(photo(), np.random.default_rng(seed), change)


def test_no_change_changes_nothing() -> None:
    np.testing.assert_array_equal(changed(COLOR_CHANGES["none"]), photo())


def test_grey_has_the_luminance() -> None:
    grey = changed(ColorChange(grey=1.0)).astype(int)
    assert np.ptp(grey, axis=-1).max() <= 1
    expected = photo() @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[..., 0], expected, atol=1)


def test_saturation_moves_colors_from_grey() -> None:
    colors = np.array([[[0.5, 0.4, 0.3]]], np.float32)
    grey = colors @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(
        saturate(colors, 0.5), grey[..., None] + 0.5 * (colors - grey[..., None]), atol=1e-6
    )
    np.testing.assert_allclose(saturate(colors, 1.0), colors, atol=1e-6)


def test_balance_multiplies_channels_and_keeps_the_luminance() -> None:
    ratios = np.array(
        [
            np.median(changed(ColorChange(balance=0.2), seed) / np.maximum(photo(), 1), (0, 1))
            for seed in range(50)
        ]
    )
    assert np.log(ratios).std(axis=0).min() > 0.1
    np.testing.assert_allclose(ratios @ [0.299, 0.587, 0.114], 1, atol=0.03)


def test_tone_keeps_the_order_of_brightness() -> None:
    before, after = photo()[..., 1].ravel(), changed(ColorChange(tone=1.0), 5)[..., 1].ravel()
    assert (np.diff(after[np.argsort(before, kind="stable")].astype(int)) >= 0).all()
    assert np.abs(before.astype(int) - after).mean() > 5


@pytest.mark.parametrize(
    "change", ["shading", "shadow", "fog", "occlusion", "blur", "resample", "noise", "jpeg"]
)
def test_each_change_changes_colors_in_place(change: str) -> None:
    result = changed(ColorChange(**{change: 1.0}))
    assert result.shape == photo().shape
    assert result.dtype == np.uint8
    assert 1 < np.abs(result.astype(int) - photo()).mean() < 80
    if change != "occlusion":
        rows = [picture - cv2.blur(picture, (25, 25)) for picture in (result / 255.0, photo() / 255.0)]
        assert np.corrcoef(rows[0].ravel(), rows[1].ravel())[0, 1] > 0.7


def test_jpeg_keeps_colors_apart() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    np.testing.assert_allclose(compress(red, 90)[8, 8], [200, 0, 0], atol=6)


def test_changes_are_determined_by_the_seed() -> None:
    np.testing.assert_array_equal(changed(DAY, 3), changed(DAY, 3))
    assert (changed(DAY, 3) != changed(DAY, 4)).any()


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"'dusk'.*none, mild, day"):
        find_color_change("dusk")
    with pytest.raises(InputError, match="RGB"):
        change_color(photo()[..., 0], np.random.default_rng(0))
