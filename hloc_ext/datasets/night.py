"""Photos by day as they might look by night, in colour: night versions for training without night photos.

The picture is taken for linear light, its sky is found, and it is lit again: by what the night sky leaves, by
lamps of warm or cold colours that reach not far, from windows, and before a sky of dusk, of a town's glow or
of nothing. Then it is exposed, with the noise, bloom and casts of a camera by night. Nothing moves a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .color_change import Colors, Pixels, Range, check_color, random_blur, saturate
from .lighting import light_windows
from .photometric import add_noise, compress, to_uint8
from .weather import smooth_field

Grey = npt.NDArray[np.float32]

#: Pictures with a lower mean are taken for night already: 19 of 20 nights of made-up cities, 1 of 10 photos.
DARK = 80.0
_GAMMA = 2.2
_LINEAR = (np.linspace(0, 1, 256) ** _GAMMA).astype(np.float32)
_ENCODED = (np.linspace(0, 1, 1 << 14) ** (1 / _GAMMA)).astype(np.float32)
_REC709 = np.array([0.2126, 0.7152, 0.0722], np.float32)
# Linear colours of light: sodium lamps, bulbs, warm and neutral LED, and now and then mercury or a sign.
_LAMPS = np.array([(1, 0.5, 0.12), (1, 0.68, 0.32), (1, 0.82, 0.6), (1, 0.95, 0.88), (0.75, 1, 0.92)])
_LAMP_ODDS = np.array([0.25, 0.3, 0.25, 0.13, 0.07])
# Linear colours of the sky and of what it lights: clear dusk, deep night, glow of a town, clouds over it.
_SKIES = np.array([(0.12, 0.3, 1), (0.25, 0.4, 1), (1, 0.62, 0.35), (0.75, 0.7, 0.75)])
_SKY_ODDS = np.array([0.35, 0.25, 0.2, 0.2])


@dataclass(frozen=True)
class NightConfig:
    """How dark, lit and noisy nights are; ranges are drawn from uniformly.

    Lengths are pixels of an image with a shorter side of 256, and grow with it.

    Attributes:
        brightness: mean linear value of what is lit, but for lamps, windows and the sky; log-uniform.
        ambient: light that comes from everywhere, of that near a lamp, log-uniform.
        sky: linear value of the sky, log-uniform.
        lamps: least and greatest number.
        rooms: least and greatest number of lit rooms and shops behind glass.
        windows: probability that some are lit.
        adaptation: how far the camera turns the colour of the light into white, 0 to 1.
        saturation: factor of the colourfulness.
        noise_sigma: at mid grey.
        blur, blur_sigma, motion: probability and ranges: exposures are long.
        jpeg, jpeg_quality: probability and range.
    """

    brightness: Range = (0.012, 0.1)
    ambient: Range = (0.02, 0.6)
    sky: Range = (0.002, 0.12)
    lamps: tuple[int, int] = (0, 6)
    rooms: tuple[int, int] = (0, 2)
    windows: float = 0.7
    adaptation: Range = (0.0, 0.6)
    saturation: Range = (0.5, 1.4)
    noise_sigma: Range = (0.01, 0.07)
    blur: float = 0.35
    blur_sigma: Range = (0.5, 1.8)
    motion: Range = (2.0, 7.0)
    jpeg: float = 0.4
    jpeg_quality: tuple[int, int] = (20, 90)


def is_dark(photo: Pixels) -> bool:
    """Whether a picture, uint8, is as dark as by night."""
    return float(photo[::4, ::4].mean()) < DARK


def night_version(photo: Pixels, rng: np.random.Generator, config: NightConfig | None = None) -> Pixels:
    """Turn a photo taken by day into one by night.

    Args:
        photo: (H, W, 3) RGB uint8.
        rng: source of all choices.
        config: ranges; None: those of :class:`NightConfig`.

    Returns:
        (H, W, 3) RGB uint8.

    Raises:
        InputError: another type or shape.
    """
    check_color(photo)
    config = config or NightConfig()
    day = np.asarray(cv2.LUT(photo, _LINEAR), np.float32)
    sky = sky_likelihood(photo)
    sky_color = _SKIES[rng.choice(len(_SKIES), p=_SKY_ODDS)]
    light, glare, main_color = _lamplight(photo.shape[:2], rng, config, sky_color)
    scene = day * light * (1 - sky)[..., None]
    level = np.exp(rng.uniform(*np.log(config.brightness)))
    scene *= np.float32(level / max(float(scene.mean()), 1e-5))
    scene += sky[..., None] * _night_sky(photo, day, rng, config, sky_color)
    if rng.random() < config.windows:
        scene += _windows(photo, rng)
    scene += glare
    return _develop(scene, rng, config, main_color)


def sky_likelihood(photo: Pixels) -> Grey:
    """Where the sky seems to be: bright or blue, and nothing but sky above.

    Args:
        photo: (H, W, 3) RGB uint8, upright.

    Returns:
        (H, W), from 0 to 1.
    """
    height, width = photo.shape[:2]
    size = max(width // 4, 8), max(height // 4, 8)
    small = cv2.blur(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), (3, 3))
    # What looks half like sky will do: clouds, branches.
    coarse = np.minimum(1.5 * _sky_color(np.asarray(small, np.uint8)), 1)
    above = cv2.dilate(np.minimum.accumulate(coarse, axis=0), np.ones((3, 3), np.uint8))
    return np.asarray(cv2.resize(above, (width, height)) * _sky_color(photo), np.float32)


def _sky_color(photo: Pixels) -> Grey:
    """How much a pixel looks like sky: bright, or as blue as it should be for its brightness, (H, W)."""
    # Of (red, green, blue, 1): brightness, blueness, warmth.
    weights = np.array([(1.2, 1.6, 1.2, -2.2), (-4, 0, 6, -1), (4, 0, -4, -0.2)], np.float32)
    weights[:, :3] /= 255
    bright, blue, warm = cv2.split(cv2.transform(photo.astype(np.float32), weights))
    return np.clip(np.maximum(bright, blue) - np.maximum(warm, 0), 0, 1)


def _lamplight(
    shape: tuple[int, int], rng: np.random.Generator, config: NightConfig, sky_color: npt.NDArray
) -> tuple[Colors, Colors, npt.NDArray]:
    """Light on each pixel and lamps themselves, (H, W, 3) each, and the colour of most of the light, (3,)."""
    height, width = shape
    rows, columns = np.mgrid[: max(height // 4, 4), : max(width // 4, 4)].astype(np.float32)
    side = min(rows.shape)
    uneven = np.exp(0.4 * smooth_field(rows.shape, rng, 3))[..., None]
    ambient = np.exp(rng.uniform(*np.log(config.ambient))) * uneven * sky_color
    light, glare = ambient.astype(np.float32), np.zeros((*rows.shape, 3), np.float32)
    main_color = _LAMPS[rng.choice(len(_LAMPS), p=_LAMP_ODDS)]
    for _ in range(int(rng.integers(config.lamps[0], config.lamps[1] + 1))):
        # Most lamps of a street are alike.
        color = main_color if rng.random() < 0.7 else _LAMPS[rng.choice(len(_LAMPS), p=_LAMP_ODDS)]
        color = color * np.exp(0.08 * rng.standard_normal(3))
        x, y = rng.uniform(0, 1) * rows.shape[1], rng.uniform(-0.1, 1.1) * rows.shape[0]
        # Light falls downwards from a lamp, or upwards along a wall.
        stretch = np.where((rows > y) == (rng.random() < 0.7), rng.uniform(0.25, 0.8), 1.0)
        distance = (columns - x) ** 2 + ((rows - y) * stretch) ** 2
        reach = side * rng.uniform(0.08, 0.5)
        cone = 1 / (1 + distance / reach**2) ** rng.uniform(1, 2)
        light += (rng.uniform(0.3, 3) * cone)[..., None] * color
        if rng.random() < 0.5:
            bulb = side * rng.uniform(0.008, 0.03)
            spot = np.exp(-distance / (2 * bulb**2)) + 0.06 / (1 + distance / (4 * bulb) ** 2)
            glare += spot[..., None] * (0.5 + 0.5 * color)
    for _ in range(int(rng.integers(config.rooms[0], config.rooms[1] + 1))):
        h, w = (rng.uniform(0.08, 0.4, 2) * rows.shape).astype(int) + 1
        y, x = int(rng.integers(rows.shape[0] - h)), int(rng.integers(rows.shape[1] - w))
        light[y : y + h, x : x + w] += rng.uniform(1, 8) * _LAMPS[rng.choice(len(_LAMPS), p=_LAMP_ODDS)]
    light, glare = (np.asarray(cv2.resize(part, (width, height)), np.float32) for part in (light, glare))
    return light, glare, main_color


def _night_sky(
    photo: Pixels, day: Colors, rng: np.random.Generator, config: NightConfig, color: npt.NDArray
) -> Colors:
    """Sky by night, (H, W, 3): brighter towards the horizon, with other clouds or a rest of those by day."""
    height, width = photo.shape[:2]
    level = np.exp(rng.uniform(*np.log(config.sky)))
    # Colour of the horizon: that of the sky, or the last of the sunset, or a town.
    horizon = color if rng.random() < 0.6 else np.array([1, rng.uniform(0.35, 0.7), rng.uniform(0.1, 0.5)])
    lowness = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** np.float32(rng.uniform(1, 3))
    gradient = color * (1 - lowness) + horizon * lowness * rng.uniform(0.5, 2)
    cloudy = np.exp(rng.uniform(0, 0.5) * smooth_field((height, width), rng, int(rng.integers(3, 8))))
    rest = 1 + rng.uniform(0, 0.6) * (cv2.transform(day, _REC709[None]) - 0.5)
    return (level * gradient).astype(np.float32) * (cloudy * rest).astype(np.float32)[..., None]


def _windows(photo: Pixels, rng: np.random.Generator) -> Colors:
    """Light in what is dark in small boxes by day, as windows are, (H, W, 3)."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32) * np.float32(1 / 255)
    lit = np.zeros((*grey.shape, 3), np.float32)
    for _ in range(int(rng.integers(1, 3))):
        boxes = np.zeros_like(grey)
        light_windows(boxes, grey, rng)
        color = _LAMPS[rng.choice(len(_LAMPS), p=_LAMP_ODDS)] * np.exp(0.1 * rng.standard_normal(3))
        lit += (rng.uniform(0.2, 1) * boxes)[..., None] * color.astype(np.float32)
    return lit


def _develop(
    scene: Colors, rng: np.random.Generator, config: NightConfig, light_color: npt.NDArray
) -> Pixels:
    """What a camera makes of the light: bloom, white balance, noise, blur and a file."""
    height, width = scene.shape[:2]
    unit = min(height, width) / 256
    small = cv2.resize(scene, (max(width // 4, 4), max(height // 4, 4)), interpolation=cv2.INTER_AREA)
    bloom = cv2.GaussianBlur(np.clip(small - 0.6, 0, 1), (0, 0), max(2 * unit, 0.5))
    scene = scene + np.float32(rng.uniform(0.1, 0.5)) * cv2.resize(bloom, (width, height))
    # The camera takes some of the light's colour for white.
    gains = (light_color / (light_color @ _REC709)) ** -rng.uniform(*config.adaptation)
    linear = np.clip(scene * gains.astype(np.float32), 0, 1)
    picture = _ENCODED[(linear * np.float32(len(_ENCODED) - 1)).astype(np.int32)]
    picture = saturate(picture, rng.uniform(*config.saturation))
    if rng.random() < config.blur:
        picture = random_blur(picture, rng, config.blur_sigma, config.motion, unit)
    picture = add_noise(picture, rng, rng.uniform(*config.noise_sigma))
    night = to_uint8(picture)
    if rng.random() < config.jpeg:
        night = compress(night, int(rng.integers(config.jpeg_quality[0], config.jpeg_quality[1] + 1)))
    return night
