from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hloc_ext.city.light import daylight, night, overcast
from hloc_ext.city.sensor import Sensor, develop, exposure

RNG = np.random.default_rng(0)
DAY = replace(daylight(RNG), exposure=1.0, white_balance=(1.0, 1.0, 1.0))


def test_exposure_brings_the_middle_to_middle_grey() -> None:
    scene = np.full((40, 50, 3), 0.05, np.float32)
    assert exposure(scene, DAY) * 0.05 == pytest.approx(0.17, rel=1e-3)
    assert exposure(scene, replace(DAY, exposure=0.5)) * 0.05 == pytest.approx(0.085, rel=1e-3)
    dark = replace(night(RNG), exposure=1.0)
    assert exposure(scene * 0.01, dark) * 0.0005 < 0.05  # at night it stays dark


def test_motion_blur_keeps_its_middle() -> None:
    scene = np.zeros((41, 41, 3), np.float32)
    scene[20, 20] = 0.5
    sensor = Sensor(0, 0, 0, 0, motion=(5.0, 3.0))
    blurred = develop(scene, DAY, 1.0, sensor, RNG).astype(float)[..., 0]
    assert 0 < blurred[20, 20] < develop(scene, DAY, 1.0, None, RNG)[20, 20, 0]
    y, x = np.indices(blurred.shape)
    np.testing.assert_allclose([(blurred * v).sum() / blurred.sum() for v in (x, y)], 20, atol=1e-6)
    assert (blurred > 0).sum() >= 5


def test_noise_has_the_stated_size() -> None:
    scene = np.full((200, 200, 3), 0.25, np.float32)
    clean = develop(scene, DAY, 1.0, None, RNG)
    noisy = develop(scene, DAY, 1.0, Sensor(0.02, 0.0, 0.0, 0.0), RNG)
    # 0.02 * sqrt(0.25) = 0.01 of linear light, at 0.25 where sRGB has a slope of 0.987.
    assert noisy.astype(float).std() / 255 == pytest.approx(0.01 * 0.987, rel=0.03)
    assert noisy.mean() == pytest.approx(clean.mean(), abs=0.1)


def test_corners_are_darker() -> None:
    scene = np.full((20, 30, 3), 0.3, np.float32)
    picture = develop(scene, DAY, 1.0, Sensor(0, 0, 0.5, 0), RNG)
    assert picture[0, 0, 0] < picture[10, 15, 0] - 20


def test_lights() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        day, grey, dark = daylight(rng), overcast(rng), night(rng)
        assert day.to_sun @ day.to_sun == pytest.approx(1)
        assert day.to_sun[2] > 0.4 and day.to_sun[1] < 0  # high, and in the south
        assert max(grey.sun) < 0.1 * min(day.sun)
        assert dark.is_night and not day.is_night and not grey.is_night
        assert max(dark.sun) == 0
