from __future__ import annotations

import numpy as np
import pytest

from hloc_ext.city.pyramids import build_pyramids, linear_to_srgb, srgb_to_linear
from hloc_ext.city.textures import Texture, TextureSet


def test_srgb_there_and_back() -> None:
    values = np.linspace(0, 1, 256)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-4)
    # Middle grey of 18 % is stored as about 118 of 255.
    assert linear_to_srgb(0.18) * 255 == pytest.approx(117.6, abs=0.2)


def test_levels_average_linear_light() -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, ::2] = 255
    pyramids = build_pyramids(TextureSet([Texture("sign", pixels, (2.0, 1.0), False, 0.5, 0.25)]))
    assert pyramids.levels[0] == 4  # 8x4, 4x2, 2x1, 1x1
    start = pyramids.offsets[0, 1]
    np.testing.assert_array_equal(pyramids.pixels[start : start + 8], 188)  # half of the light
    assert pyramids.pixels[pyramids.offsets[0, 3], 0] == 188
    assert (pyramids.repeats[0], pyramids.weathering[0], pyramids.gloss[0]) == (False, 0.5, 0.25)
    assert pyramids.repeats[1:].all()


def test_pictures_are_views_of_the_pyramids() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((4, 8), (16, 2))]
    pyramids = build_pyramids(TextureSet([Texture("sign", p, (1.0, 1.0), False) for p in pictures]))
    for index, picture in enumerate(pictures):
        np.testing.assert_array_equal(pyramids.picture(index), picture)
        assert np.shares_memory(pyramids.picture(index), pyramids.pixels)


def test_sides_are_powers_of_two() -> None:
    texture = Texture("sign", np.zeros((4, 6, 3), np.uint8), (1.0, 1.0), False)
    with pytest.raises(ValueError, match="6x4"):
        build_pyramids(TextureSet([texture]))
