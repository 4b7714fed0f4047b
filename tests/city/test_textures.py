import numpy as np
import pytest

from hloc_ext.city.paint import sky
from hloc_ext.city.paint.noise import cracks, fractal, masonry, specks, voronoi
from hloc_ext.city.textures import GROUPS, Texture, TextureSet, make_texture, make_textures

#: Groups with many pictures: only so many of each are tried, except in slow tests.
SOME = 4


@pytest.fixture(scope="module")
def textures() -> TextureSet:
    pictures = [make_texture(g, i, 5) for g, count in COUNTS.items() for i in range(min(count, SOME))]
    rng = np.random.default_rng(5)
    return TextureSet(pictures, sky.weathering(rng), sky.clouds(rng))


COUNTS = {
    "brick": 6,
    "plaster": 6,
    "stone": 4,
    "concrete": 3,
    "panel": 3,
    "siding": 2,
    "roof_tile": 4,
    "bitumen": 2,
    "gravel": 2,
    "metal_roof": 2,
    "asphalt": 3,
    "paving": 5,
    "cobble": 2,
    "grass": 3,
    "soil": 3,
    "kerb": 1,
    "water": 1,
    "window": 40,
    "window_wide": 12,
    "door": 12,
    "shopfront": 24,
    "garage": 4,
    "sign": 96,
    "poster": 48,
    "graffiti": 8,
    "traffic_sign": 24,
    "marking": 3,
    "manhole": 3,
    "patch": 4,
    "bark": 2,
    "leaves": 6,
    "wood": 2,
    "metal": 3,
    "car_paint": 1,
    "glass": 1,
    "rubber": 1,
    "cloth": 6,
    "skin": 2,
    "lamp_glass": 1,
}

WHOLE = (
    "window",
    "window_wide",
    "door",
    "shopfront",
    "garage",
    "sign",
    "poster",
    "graffiti",
    "traffic_sign",
    "manhole",
)


def linear(pixels: np.ndarray) -> np.ndarray:
    values = pixels.astype(np.float64) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def seam_ratio(pixels: np.ndarray, axis: int) -> float:
    """Mean difference across the border, against the largest mean difference between inner neighbours."""
    pixels = np.moveaxis(pixels.astype(float), axis, 0)
    steps = np.abs(pixels - np.roll(pixels, 1, 0)).reshape(len(pixels), -1).mean(1)
    return float(steps[0] / steps[1:].max())


@pytest.mark.slow
def test_all_pictures_are_made_and_fit_into_memory():
    made = make_textures(5, num_signs=96)
    assert {group: len(made.group(group)) for group in GROUPS} == COUNTS
    assert sum(texture.pixels.nbytes for texture in made.textures) < 110e6
    same = make_texture("shopfront", 7, 5)
    np.testing.assert_array_equal(made.textures[made.group("shopfront")[7]].pixels, same.pixels)


def test_sizes_are_powers_of_two(textures):
    for texture in textures.textures:
        for side in texture.pixels.shape[:2]:
            assert side & (side - 1) == 0
        assert texture.pixels.dtype == np.uint8 and texture.pixels.shape[2] == 3


def test_openings_and_flat_things_are_shown_once(textures):
    assert {t.group for t in textures.textures if not t.repeat} == set(WHOLE)


def test_repeating_pictures_have_no_seams(textures):
    for number, texture in enumerate(textures.textures):
        if texture.repeat:
            assert seam_ratio(texture.pixels, 0) < 1.1, (number, texture.group)
            assert seam_ratio(texture.pixels, 1) < 1.1, (number, texture.group)


def test_albedo_is_plausible(textures):
    for number, texture in enumerate(textures.textures):
        assert texture.pixels.min() >= 7 and texture.pixels.max() <= 246
        low, high = (0.01, 0.85) if texture.group in ("rubber", "glass", "lamp_glass") else (0.02, 0.7)
        assert low < linear(texture.pixels).mean() < high, (number, texture.group)


def test_pictures_of_a_group_differ(textures):
    for group in WHOLE:
        pictures = [textures.textures[i].pixels for i in textures.group(group)]
        for i, first in enumerate(pictures):
            for second in pictures[i + 1 :]:
                if first.shape == second.shape:
                    assert np.abs(first.astype(int) - second).mean() > 4


@pytest.mark.parametrize("group", ["window", "brick", "sign", "graffiti", "roof_tile"])
def test_same_seed_same_pixels_other_seed_other_pixels(textures, group):
    first = textures.textures[textures.group(group)[1]].pixels
    np.testing.assert_array_equal(make_texture(group, 1, 5).pixels, first)
    other = make_texture(group, 1, 6).pixels
    assert np.abs(first.astype(int) - other).mean() > 4


def test_weathering_varies_everywhere_and_tiles(textures):
    weathering = textures.weathering
    assert weathering.shape == (2048, 2048) and weathering.dtype == np.uint8
    assert abs(weathering.mean() - 128) < 0.5
    assert 17 < weathering.std() < 25
    windows = weathering[:2000, :2000].reshape(40, 50, 40, 50).std((1, 3))
    assert windows.min() > 10
    assert seam_ratio(weathering[..., None], 0) < 1.05 and seam_ratio(weathering[..., None], 1) < 1.05


def test_clouds_leave_clear_sky_and_tile(textures):
    clouds = textures.clouds
    assert clouds.shape == (1024, 1024) and clouds.dtype == np.uint8
    assert 0.1 < (clouds < 64).mean() < 0.6
    assert 0.05 < (clouds > 200).mean() < 0.5
    assert seam_ratio(clouds[..., None], 0) < 1.05 and seam_ratio(clouds[..., None], 1) < 1.05


def test_fractal_noise_has_the_slope_asked_for():
    noise = fractal(np.random.default_rng(1), (256, 256), 1.5)
    spectrum = np.abs(np.fft.rfft2(noise))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    band = (frequency > 0.02) & (frequency < 0.3)
    slope = np.polyfit(np.log(frequency[band]), np.log(spectrum[band]), 1)[0]
    assert slope == pytest.approx(-1.5, abs=0.05)
    assert noise.mean() == pytest.approx(0, abs=1e-4) and noise.std() == pytest.approx(1, abs=1e-4)


def test_voronoi_cells_are_those_of_the_nearest_point():
    rng = np.random.default_rng(2)
    points = rng.uniform(0, 64, (20, 2))
    cells = voronoi(points, (64, 64))
    yy, xx = np.indices((64, 64))
    dx = np.abs(xx[..., None] - np.floor(points[:, 0]))
    dy = np.abs(yy[..., None] - np.floor(points[:, 1]))
    distance = np.hypot(np.minimum(dx, 64 - dx), np.minimum(dy, 64 - dy))
    chosen = np.take_along_axis(distance, cells.index[..., None].astype(int), 2)[..., 0]
    assert (chosen <= distance.min(2) * 1.05 + 0.8).all()


def test_masonry_measures_the_distance_to_the_joints():
    joints = [np.array([0.0, 16.0]), np.array([0.0, 16.0])]
    cells = masonry(np.array([0.0, 8.0]), joints, [0.0, 8.0], (16, 32), rounding=0.0)
    assert cells.count == 4
    assert cells.edge[4, 8] == pytest.approx(3.5)
    assert cells.edge[12, 8] == pytest.approx(0.5)
    assert set(np.unique(cells.index[:8])) == {0, 1} and set(np.unique(cells.index[8:])) == {2, 3}
    assert cells.index[12, 0] == cells.index[12, 31]


def test_cracks_and_specks_are_masks():
    rng = np.random.default_rng(3)
    for mask in (cracks(rng, (128, 128), 6, 60), specks(rng, (128, 128), 50, (1.0, 3.0))):
        assert mask.min() == 0 and mask.max() == 1
        assert 0.005 < mask.mean() < 0.3


def test_unknown_group_is_named():
    with pytest.raises(KeyError, match="velvet"):
        TextureSet([Texture("brick", np.zeros((2, 2, 3), np.uint8), (1.0, 1.0), True)]).group("velvet")


def test_small_weathering_is_made_from_the_generator_alone():
    first = sky.weathering(np.random.default_rng(4), 256)
    np.testing.assert_array_equal(first, sky.weathering(np.random.default_rng(4), 256))
    assert (first != sky.weathering(np.random.default_rng(5), 256)).mean() > 0.9
