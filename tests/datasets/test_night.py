"""Night versions: dark, lit in places, before a dark sky, and still the same picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hloc_ext.datasets.night import NightConfig, is_dark, night_version, sky_likelihood
from hloc_ext.errors import InputError

HEIGHT, WIDTH = 96, 128


def street(sky: tuple[int, int, int] = (150, 190, 240)) -> np.ndarray:
    """A house with a texture before a sky; its roof is at row 32, to its left the sky reaches row 64."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.uniform(40, 255, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 1.2)
    wall = np.clip(4 * (wall - wall.mean()) + 110, 20, 200)
    picture = np.stack([wall, 0.9 * wall, 0.7 * wall], axis=-1).astype(np.uint8)
    picture[:32] = picture[:64, :40] = sky
    return picture


@pytest.mark.parametrize("sky", [(150, 190, 240), (90, 140, 210), (235, 235, 235)])
def test_sky_is_what_is_bright_or_blue_and_reaches_the_top(sky: tuple[int, int, int]) -> None:
    picture = street(sky)
    picture[70:90, 60:90] = sky  # a white van is not sky
    likelihood = sky_likelihood(picture)
    assert likelihood.shape == (HEIGHT, WIDTH)
    assert likelihood[:28].min() > 0.7
    assert likelihood[:60, :36].min() > 0.7
    assert likelihood[36:, 44:].max() < 0.1


def test_nights_are_dark_and_differ() -> None:
    day = street()
    nights = [night_version(day, np.random.default_rng([7, index])) for index in range(40)]
    means = np.array([night.mean() for night in nights])
    assert not is_dark(day)
    assert np.median(means) < 0.5 * day.mean()
    assert means.max() < 0.85 * day.mean()
    assert means.std() > 8
    assert all(night.shape == day.shape and night.dtype == np.uint8 for night in nights)


def test_sky_turns_darker_than_the_house() -> None:
    config = NightConfig(
        brightness=(0.08, 0.09), sky=(0.002, 0.005), lamps=(0, 0), rooms=(0, 0), windows=0, blur=0
    )
    night = night_version(street(), np.random.default_rng(0), config)
    assert night[:28].mean() < 0.4 * night[36:, 44:].mean()


def test_house_keeps_its_texture_and_place() -> None:
    config = NightConfig(lamps=(0, 0), rooms=(0, 0), windows=0, blur=0, jpeg=0, noise_sigma=(0, 0.001))
    day, night = street(), night_version(street(), np.random.default_rng(3), config)
    first, second = (np.log(p[40:90, 50:120].mean(axis=-1) + 5) for p in (day, night))
    details = [grey - cv2.blur(grey, (15, 15)) for grey in (first, second)]
    assert np.corrcoef(details[0].ravel(), details[1].ravel())[0, 1] > 0.9


def test_lamps_and_rooms_light_parts_of_the_picture() -> None:
    dark = NightConfig(ambient=(0.01, 0.02), lamps=(0, 0), rooms=(0, 0), windows=0)
    lit = NightConfig(ambient=(0.01, 0.02), lamps=(3, 4), rooms=(1, 2), windows=0)

    def contrast(config: NightConfig) -> float:
        nights = [night_version(street(), np.random.default_rng([1, k]), config) for k in range(10)]
        lit_parts = [cv2.blur(night[36:].mean(axis=-1), (9, 9)) for night in nights]
        return float(np.mean([part.max() / np.median(part) for part in lit_parts]))

    assert contrast(lit) > 1.5 * contrast(dark)


def test_night_is_determined_by_the_seed() -> None:
    day = street()
    first, again, other = (night_version(day, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(day, street())


@pytest.mark.parametrize("picture", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_other_pictures_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(InputError, match="RGB"):
        night_version(picture, np.random.default_rng(0))
