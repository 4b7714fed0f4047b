"""Photometric changes: types and ranges, seeds, and what each of them does."""

from __future__ import annotations

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest

from hloc_ext.datasets import lighting, photometric, weather
from hloc_ext.datasets.photometric import (
    CHANGES,
    MILD,
    NONE,
    STRONG,
    ChangeConfig,
    PhotometricChange,
    change_photo,
    change_picture,
)
from hloc_ext.errors import InputError


def make_photo(size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A colour photo of blocks: some texture at several scales."""
    rng = np.random.default_rng(7)
    layers = [
        cv2.resize(rng.uniform(0, 255, (n, n, 3)).astype(np.float32), size[::-1], interpolation=mode)
        for n, mode in ((4, cv2.INTER_CUBIC), (12, cv2.INTER_NEAREST), (30, cv2.INTER_LINEAR))
    ]
    return np.clip(np.mean(layers, axis=0), 0, 255).astype(np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, 3])


@pytest.mark.parametrize("name", list(CHANGES))
def test_presets(name: str) -> None:
    photo = make_photo()
    before = photo.copy()
    for seed in range(25):
        picture = change_photo(photo, generator(seed), CHANGES[name])
        assert picture.dtype == np.float32 and picture.shape == (96, 128)
        assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.005
        np.testing.assert_array_equal(picture, change_photo(photo, generator(seed), CHANGES[name]))
    np.testing.assert_array_equal(photo, before)


def test_change_of_a_name() -> None:
    photo = make_photo()
    changed = PhotometricChange("strong")(photo, generator())
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(changed, change_picture(photo, generator(), STRONG))
    assert not np.array_equal(changed, change_picture(photo, generator(1), STRONG))
    with pytest.raises(InputError, match=r"'stronk': use one of none, mild, strong, night, inverted"):
        PhotometricChange("stronk")


def test_no_change_is_grey_of_rec_601() -> None:
    photo = make_photo()
    expected = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(int)
    assert np.abs(change_picture(photo, generator(), NONE).astype(int) - expected).max() <= 1
    grey = photo[:, :, 1].copy()
    np.testing.assert_array_equal(change_picture(grey, generator(), NONE), grey)


def test_colour_weights() -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    values = [photometric.mix_grey(red, generator(s), 0.6)[0, 0] * 255 / 200 for s in range(200)]
    assert 0.03 < min(values) < 0.2 and 0.5 < max(values) < 0.95
    white = np.full((8, 8, 3), 255, np.uint8)
    np.testing.assert_allclose(photometric.mix_grey(white, generator(), 0.6), 1, atol=1e-6)


def test_unfit_images() -> None:
    for image in (np.zeros((8, 8), np.float32), np.zeros((8, 8, 4), np.uint8), np.zeros(8, np.uint8)):
        with pytest.raises(InputError, match=r"expected uint8, \(height, width\)"):
            change_picture(image, generator())


def test_strong_changes_more_than_mild() -> None:
    photo = make_photo()
    clean = change_photo(photo, generator(), NONE)

    def correlation(config: ChangeConfig) -> float:
        seeds = range(40)
        return float(
            np.mean(
                [
                    np.corrcoef(clean.ravel(), change_photo(photo, generator(s), config).ravel())[0, 1]
                    for s in seeds
                ]
            )
        )

    mild, strong = correlation(MILD), correlation(STRONG)
    assert mild > 0.9 and 0.3 < strong < mild - 0.15


def test_inversion() -> None:
    photo = make_photo()
    plain = change_picture(photo, generator(), NONE).astype(int)
    inverted = change_picture(photo, generator(), replace(NONE, invert=1.0)).astype(int)
    assert np.abs(plain + inverted - 255).max() <= 1
    assert STRONG.invert == STRONG.invert_partly == ChangeConfig().invert == 0


def test_partial_inversion_keeps_some_and_inverts_some() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    signs = []
    for seed in range(20):
        changed = photometric.invert_partly(ramp, generator(seed))
        assert changed.min() >= -1e-6 and changed.max() <= 1 + 1e-6
        signs.append(np.sign(np.diff(changed, axis=1)))
    assert 0.2 < np.mean(np.array(signs) > 0) < 0.8


def test_night_is_dark_with_bright_spots() -> None:
    photo = photometric.mix_grey(make_photo((192, 256)), generator())
    medians, brightest = [], []
    for seed in range(30):
        night = lighting.make_night(photo, generator(seed))
        medians.append(np.median(night))
        brightest.append(night.max())
    assert np.mean(medians) < 0.25 and np.percentile(brightest, 60) > 0.95
    assert np.median(photo) > 0.45


def test_windows_are_dark_by_day_and_bright_at_night() -> None:
    day = np.full((128, 128), 0.45, np.float32)
    day[::8, ::8] = 0.1
    night = np.zeros_like(day)
    for seed in range(5):
        lighting.light_windows(night, day, generator(seed))
    assert night[day == day.max()].max() < 0.05 and night[day == day.min()].max() > 0.2


def test_tone_curve() -> None:
    np.testing.assert_allclose(photometric.tone_curve(), np.linspace(0, 1, 1024), atol=1e-6)
    assert photometric.tone_curve(exposure=1)[256] == pytest.approx(2 * 256 / 1023, abs=1e-4)
    assert photometric.tone_curve(gamma=2)[512] == pytest.approx((512 / 1023) ** 2, abs=1e-4)
    assert (np.diff(photometric.tone_curve(-0.5, 1.6, 1.5, 0.3, 0.6)) >= 0).all()
    picture = np.array([[-0.1, 0.0, 0.5, 1.0, 1.2]], np.float32)
    changed = photometric.apply_curve(picture, photometric.tone_curve())
    np.testing.assert_allclose(changed, [[0, 0, 0.5, 1, 1]], atol=1e-3)


def test_dark_pictures_are_not_made_black() -> None:
    dark = np.tile(np.linspace(0.05, 0.2, 64, dtype=np.float32), (64, 1))
    black = photometric.tone_curve(contrast=1.6, pivot=0.7)
    assert photometric.apply_curve(dark, black).max() == 0
    softened = photometric.apply_curve(dark, photometric.soften_curve(black, dark))
    assert np.ptp(softened) == pytest.approx(0.075, abs=0.002)


@pytest.mark.parametrize(
    "function",
    [
        lambda p: photometric.blur(p, 1.5),
        lambda p: photometric.blur_motion(p, 9.0, 0.6),
        lambda p: photometric.blur_motion(p, 4.0, 2.4),
        lambda p: photometric.resample(p, 2.3),
    ],
)
def test_blur_moves_nothing(function) -> None:
    spot = np.zeros((65, 81), np.float32)
    spot[32, 40] = 1
    spot = cv2.GaussianBlur(spot, (0, 0), 2.0)
    blurred = function(spot)
    rows, columns = np.mgrid[:65, :81]
    middle = (blurred * columns).sum() / blurred.sum(), (blurred * rows).sum() / blurred.sum()
    np.testing.assert_allclose(middle, (40, 32), atol=0.02)
    assert blurred.max() < spot.max() and blurred.sum() == pytest.approx(spot.sum(), rel=0.02)


def test_noise() -> None:
    photo = photometric.mix_grey(make_photo((192, 256)), generator())
    for seed in range(6):
        noise = photometric.add_noise(photo, generator(seed), 0.02) - photo
        assert 0.015 < noise.std() < 0.023 and abs(noise.mean()) < 0.005
    flat = np.full((64, 64), 0.5, np.float32)
    assert (photometric.add_noise(flat, generator(), 0.05) - flat).std() < 0.01  # would drown what there is


def test_shadow_and_shade() -> None:
    flat = np.full((96, 96), 0.5, np.float32)
    shadowed = [lighting.cast_shadow(flat, generator(seed), 0.6) for seed in range(10)]
    assert all(picture.min() >= 0.2 - 1e-6 and picture.max() <= 0.5 for picture in shadowed)
    assert 0.05 < np.mean([picture < 0.21 for picture in shadowed]) < 0.8
    shaded = lighting.shade(flat, generator(), 0.4)
    assert np.abs(np.diff(shaded, axis=0)).max() < 0.05 and np.ptp(shaded) > 0.1


def test_occlusion_hides_a_part() -> None:
    photo = photometric.mix_grey(make_photo(), generator())
    before = photo.copy()
    shares = [(photometric.occlude(photo, generator(s), (0.1, 0.3)) != photo).mean() for s in range(20)]
    assert 0.005 < np.mean(shares) < 0.2
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize("function", [weather.add_fog, weather.add_rain, weather.add_snow])
def test_weather(function) -> None:
    photo = 0.6 * photometric.mix_grey(make_photo(), generator())
    for seed in range(5):
        picture = function(photo, generator(seed), 0.5)
        assert picture.dtype == np.float32 and picture.mean() > photo.mean()
        assert picture.min() >= 0 and picture.max() <= 1
        assert np.corrcoef(picture.ravel(), photo.ravel())[0, 1] > 0.3


def test_jpeg() -> None:
    picture = change_picture(make_photo(), generator(), NONE)
    errors = [np.abs(photometric.compress(picture, q).astype(int) - picture).mean() for q in (90, 50, 10)]
    assert 0 < errors[0] < errors[1] < errors[2] < 20


def test_degradations_are_limited() -> None:
    config = replace(NONE, weather=1.0, occlusion=1.0, blur=1.0, resample=1.0, noise=1.0, most_degradations=0)
    photo = make_photo()
    np.testing.assert_array_equal(
        change_picture(photo, generator(), config), change_picture(photo, generator(), NONE)
    )


def test_every_range_is_a_range() -> None:
    for config in CHANGES.values():
        for field in fields(config):
            value = getattr(config, field.name)
            if isinstance(value, tuple):
                assert value[0] <= value[1], field.name
            elif field.name not in ("grey_spread", "most_degradations"):
                assert 0 <= value <= 1, field.name
