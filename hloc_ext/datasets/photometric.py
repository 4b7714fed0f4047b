"""Random changes of light, weather and camera: what tells two photos of one place apart beside the viewpoint.

:func:`change_picture` and :func:`change_photo` apply what a :class:`ChangeConfig` allows, in the order in
which a picture comes about: light, weather, things in the way, lens, sensor, file. Nothing moves a pixel.
Values of pictures between the steps are float32 in [0, 1], (H, W).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .lighting import cast_shadow, make_night, shade
from .weather import add_fog, add_rain, add_snow, smooth_field

Pixels = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.float32]
Range = tuple[float, float]

_REC601 = np.array([0.299, 0.587, 0.114])
# Steps of the tables of tone curves.
_LEVELS = 1024
# Values below this are black, those above 1 minus this white; a tone curve may make so much of a picture so.
_BLACK, _MOST_LOST = 0.03, 0.25


@dataclass(frozen=True)
class ChangeConfig:
    """Which changes happen, how often and how strong.

    A field named after a change is its probability, the ranges below it are drawn from uniformly. Lengths are
    pixels of an image with a shorter side of 256, and grow with it.

    Attributes:
        grey_spread: standard deviation of the logarithm of the weights of red, green and blue.
        tone: exposure (stops), gamma, contrast about a random pivot, and an S-curve.
        shading: uneven light; `shading_strength` is the standard deviation of its logarithm.
        shadow: shadows with sharp edges; `shadow_depth` is the share of the light that they take.
        night: dark, a few lamps and lit windows, a dark sky; `night_brightness` is the mean but for the
            lamps, the noise is `night_noise`.
        weather: fog, rain or snow; `weather_strength` of 1 hides most of the picture.
        occlusion: patches that hide up to `occluded` of the width, each.
        blur: out of focus, `blur_sigma`, or moved, by `motion`.
        resample: shrunk by `resample_factor` and enlarged again.
        noise: `noise_sigma` at mid grey, of shot and read noise together.
        jpeg: compressed at `jpeg_quality`.
        invert: the negative.
        invert_partly: the negative of some region, or of the bright (or dark) tones.
        most_degradations: at most so many of weather, occlusion, blur, resampling and noise at a time.
    """

    grey_spread: float = 0.0
    tone: float = 0.0
    exposure: Range = (-1.0, 1.0)
    gamma: Range = (0.6, 1.7)
    contrast: Range = (0.5, 1.6)
    shading: float = 0.0
    shading_strength: Range = (0.1, 0.5)
    shadow: float = 0.0
    shadow_depth: Range = (0.3, 0.7)
    night: float = 0.0
    night_brightness: Range = (0.08, 0.3)
    night_noise: Range = (0.015, 0.07)
    weather: float = 0.0
    weather_strength: Range = (0.2, 0.6)
    occlusion: float = 0.0
    occluded: Range = (0.06, 0.3)
    blur: float = 0.0
    blur_sigma: Range = (0.5, 2.0)
    motion: Range = (3.0, 11.0)
    resample: float = 0.0
    resample_factor: Range = (1.3, 2.5)
    noise: float = 0.0
    noise_sigma: Range = (0.01, 0.07)
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (15, 90)
    invert: float = 0.0
    invert_partly: float = 0.0
    most_degradations: int = 3


#: What SIFT survives: another exposure, a little blur and noise.
MILD = ChangeConfig(
    grey_spread=0.15,
    tone=0.8,
    exposure=(-0.5, 0.5),
    gamma=(0.75, 1.35),
    contrast=(0.75, 1.25),
    shading=0.3,
    shading_strength=(0.05, 0.2),
    blur=0.3,
    blur_sigma=(0.3, 0.8),
    motion=(1.5, 3.0),
    noise=0.5,
    noise_sigma=(0.003, 0.02),
    jpeg=0.5,
    jpeg_quality=(50, 95),
)

#: Another time of day, weather and camera; one picture of four at night.
STRONG = ChangeConfig(
    grey_spread=0.6,
    tone=0.9,
    shading=0.6,
    shadow=0.35,
    night=0.25,
    weather=0.25,
    occlusion=0.25,
    blur=0.45,
    resample=0.25,
    noise=0.6,
    jpeg=0.6,
)

#: Always at night.
NIGHT = replace(STRONG, night=1.0, weather=0.1, shadow=0.0)
#: Strong changes of negatives: other sensors (infrared), maps of other palettes.
INVERTED = replace(STRONG, night=0.0, invert=0.7, invert_partly=0.3)
#: No change.
NONE = ChangeConfig()

#: Configurations by name.
CHANGES = {"none": NONE, "mild": MILD, "strong": STRONG, "night": NIGHT, "inverted": INVERTED}


def find_change(name: str) -> ChangeConfig:
    """Configuration of a name of :data:`CHANGES`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in CHANGES:
        raise InputError(f"Unknown photometric change '{name}': use one of {', '.join(CHANGES)}.")
    return CHANGES[name]


@dataclass(frozen=True)
class PhotometricChange:
    """A function that changes photos, for data sets that take one.

    Attributes:
        config: what it does, or a name of :data:`CHANGES`.

    Example:
        >>> change = PhotometricChange("strong")
        >>> changed = change(photo, np.random.default_rng([seed, index]))  # (H, W) uint8
    """

    config: ChangeConfig | str = "strong"

    def __post_init__(self) -> None:
        if isinstance(self.config, str):
            object.__setattr__(self, "config", find_change(self.config))

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Change a photo, (H, W, 3) RGB or (H, W) uint8; returns (H, W) uint8."""
        assert isinstance(self.config, ChangeConfig)
        return change_picture(image, rng, self.config)


def change_photo(image: Pixels, rng: np.random.Generator, config: ChangeConfig = STRONG) -> Grey:
    """Like :func:`change_picture`, but returns (H, W) float32 in [0, 1]."""
    return np.multiply(change_picture(image, rng, config), np.float32(1 / 255), dtype=np.float32)


def change_picture(image: Pixels, rng: np.random.Generator, config: ChangeConfig = STRONG) -> Pixels:
    """Change a photo at random.

    Args:
        image: (H, W, 3) RGB or (H, W) grey, uint8.
        rng: source of all choices.
        config: what may happen.

    Returns:
        (H, W) uint8, grey. Every pixel shows what it did.

    Raises:
        InputError: the image is not uint8, or of another shape.
    """
    picture = mix_grey(image, rng, config.grey_spread)
    night = rng.random() < config.night
    picture = make_night(picture, rng, config.night_brightness) if night else _relight(picture, rng, config)
    if rng.random() < config.invert:
        picture = 1 - picture
    if rng.random() < config.invert_partly:
        picture = invert_partly(picture, rng)
    picture = _degrade(picture, rng, config, night)
    changed = to_uint8(picture)
    if rng.random() < config.jpeg:
        changed = compress(changed, int(rng.integers(config.jpeg_quality[0], config.jpeg_quality[1] + 1)))
    return changed


def _relight(picture: Grey, rng: np.random.Generator, config: ChangeConfig) -> Grey:
    """Other light by day."""
    if rng.random() < config.shading:
        picture = shade(picture, rng, _draw(rng, config.shading_strength))
    if rng.random() < config.shadow:
        picture = cast_shadow(picture, rng, _draw(rng, config.shadow_depth))
    if rng.random() < config.tone:
        curve = tone_curve(
            _draw(rng, config.exposure),
            float(np.exp(_draw(rng, (np.log(config.gamma[0]), np.log(config.gamma[1]))))),
            _draw(rng, config.contrast),
            pivot=_draw(rng, (0.3, 0.7)),
            bend=_draw(rng, (-0.6, 0.6)),
        )
        picture = apply_curve(picture, soften_curve(curve, picture))
    return picture


def _degrade(picture: Grey, rng: np.random.Generator, config: ChangeConfig, night: bool) -> Grey:
    """Weather, things in the way, lens and sensor."""
    unit = min(picture.shape) / 256
    steps: list[Callable[[Grey], Grey]] = [
        lambda p: add_weather(p, rng, _draw(rng, config.weather_strength)),
        lambda p: occlude(p, rng, config.occluded),
        lambda p: (
            blur(p, unit * _draw(rng, config.blur_sigma))
            if rng.random() < 0.5
            else blur_motion(p, unit * _draw(rng, config.motion), _draw(rng, (0, np.pi)))
        ),
        lambda p: resample(p, _draw(rng, config.resample_factor)),
        lambda p: add_noise(p, rng, _draw(rng, config.night_noise if night else config.noise_sigma)),
    ]
    odds = (
        config.weather,
        config.occlusion,
        config.blur,
        config.resample,
        max(config.noise, 0.9 * night),
    )
    chosen = [i for i, probability in enumerate(odds) if rng.random() < probability]
    if len(chosen) > config.most_degradations:
        chosen = sorted(rng.permutation(chosen)[: config.most_degradations])
    for i in chosen:
        picture = steps[i](picture)
    return picture


def _draw(rng: np.random.Generator, limits: Range) -> float:
    return float(rng.uniform(*limits))


def to_uint8(picture: Grey) -> Pixels:
    """Round [0, 1] to 0..255."""
    return np.asarray(cv2.convertScaleAbs(np.maximum(picture, 0), alpha=255), np.uint8)


def mix_grey(image: Pixels, rng: np.random.Generator, spread: float = 0.0) -> Grey:
    """Grey picture with random weights of the colours, those of Rec. 601 where `spread` is 0.

    Args:
        image: (H, W, 3) RGB or (H, W), uint8.
        rng: source of the weights.
        spread: standard deviation of their logarithm.

    Raises:
        InputError: another type or shape.
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise InputError(
            f"Image of {image.dtype} {image.shape}: expected uint8, (height, width) or (height, width, 3)."
        )
    weights = _REC601 * np.exp(spread * rng.standard_normal(3))
    if image.ndim == 2:
        return np.multiply(image, np.float32(1 / 255), dtype=np.float32)
    weights /= 255 * weights.sum()
    return np.asarray(cv2.transform(image.astype(np.float32), weights[None].astype(np.float32)))


def tone_curve(
    exposure: float = 0.0, gamma: float = 1.0, contrast: float = 1.0, pivot: float = 0.5, bend: float = 0.0
) -> Grey:
    """Tone curve of a camera.

    Args:
        exposure: stops; highlights are clipped.
        gamma: exponent.
        contrast: factor about `pivot`.
        pivot: value that the contrast keeps.
        bend: S-curve (above 0) or the reverse, within ±1.

    Returns:
        Table over equal steps of [0, 1], monotone.
    """
    value = np.minimum(np.linspace(0, 1, _LEVELS) * 2**exposure, 1) ** gamma
    value = value - bend * np.sin(2 * np.pi * value) / (2 * np.pi)
    return np.clip(pivot + contrast * (value - pivot), 0, 1).astype(np.float32)


def soften_curve(curve: Grey, picture: Grey) -> Grey:
    """Move a tone curve half of the way to the identity if it turns much of a picture black or white."""
    values = picture[::4, ::4]
    changed = apply_curve(values, curve)
    lost = ((changed < _BLACK) | (changed > 1 - _BLACK)) & (values >= _BLACK) & (values <= 1 - _BLACK)
    if lost.mean() <= _MOST_LOST:
        return curve
    return (0.5 * (curve + np.linspace(0, 1, len(curve)))).astype(np.float32)


def apply_curve(picture: Grey, curve: Grey) -> Grey:
    """Look the values of a picture up in a table over [0, 1]."""
    top = len(curve) - 1
    return curve[np.clip(picture * np.float32(top) + np.float32(0.5), 0, top).astype(np.int32)]


def invert_partly(picture: Grey, rng: np.random.Generator) -> Grey:
    """The negative of a region with a soft border, or of the tones above or below a value."""
    if rng.random() < 0.5:
        field = smooth_field(picture.shape, rng, int(rng.integers(2, 5)))
        share = np.clip(0.5 + 4 * field, 0, 1)
        return picture + share * (1 - 2 * picture)
    value, fold = np.linspace(0, 1, _LEVELS), _draw(rng, (0.3, 0.7))
    curve = 1 - np.abs(value - fold) / max(fold, 1 - fold)
    return apply_curve(picture, (curve if rng.random() < 0.5 else 1 - curve).astype(np.float32))


def add_weather(picture: Grey, rng: np.random.Generator, strength: float) -> Grey:
    """Fog, rain or snow."""
    return (add_fog, add_rain, add_snow)[int(rng.integers(3))](picture, rng, strength)


def occlude(picture: Grey, rng: np.random.Generator, extent: Range) -> Grey:
    """Hide one to four patches behind something else: a flat grey, or another part of the picture.

    The picture may have colours, (H, W, 3).
    """
    height, width = picture.shape[:2]
    picture = picture.copy()
    for _ in range(int(rng.integers(1, 5))):
        radius = 0.5 * min(height, width) * _draw(rng, extent)
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        corners = np.stack([np.cos(angles), np.sin(angles)], 1) * radius * rng.uniform(0.6, 1.4, 2)
        corners += rng.uniform(0, 1, 2) * (width, height)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
        if rng.random() < 0.5:
            picture[mask > 0] = rng.random()
        else:
            shift = int(rng.integers(height)), int(rng.integers(width))
            picture[mask > 0] = np.roll(picture, shift, (0, 1))[mask > 0]
    return picture


def blur(picture: Grey, sigma: float) -> Grey:
    """Gaussian blur, `sigma` in pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma))


def blur_motion(picture: Grey, length: float, angle: float) -> Grey:
    """Blur along a line through each pixel, `length` in pixels, `angle` in radians."""
    side = 2 * int(np.ceil(length / 2)) + 1
    middle, step = side // 2, np.array([np.cos(angle), np.sin(angle)]) * length / 2
    kernel = np.zeros((side, side), np.uint8)
    ends = [tuple(int(v) for v in np.round((middle + sign * step) * 16)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, lineType=cv2.LINE_AA, shift=4)
    centred = kernel.astype(np.float32) + kernel[::-1, ::-1]
    return np.asarray(cv2.filter2D(picture, -1, centred / centred.sum()))


def resample(picture: Grey, factor: float) -> Grey:
    """Shrink and enlarge again; the picture may have colours, (H, W, 3)."""
    height, width = picture.shape[:2]
    size = max(round(width / factor), 4), max(round(height / factor), 4)
    shrunk = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR))


def add_noise(picture: Grey, rng: np.random.Generator, sigma: float) -> Grey:
    """Shot and read noise of `sigma` at mid grey; in half of the cases in grains of more than a pixel.

    It is less where it would drown the details: at most twice their mean absolute value.
    """
    details = cv2.absdiff(picture, cv2.blur(picture, (7, 7)))
    sigma = min(sigma, max(2 * float(details.mean()), 0.003))
    noise = rng.standard_normal(picture.shape, np.float32)
    if rng.random() < 0.5:
        noise = np.float32(2.5) * np.asarray(cv2.GaussianBlur(noise, (3, 3), 0.8))
    shot = _draw(rng, (0.0, 0.9))
    variance = np.maximum(picture, 0) * np.float32(2 * shot * sigma**2) + np.float32((1 - shot) * sigma**2)
    return picture + noise * np.asarray(cv2.sqrt(variance))


def compress(picture: Pixels, quality: int) -> Pixels:
    """What JPEG of a quality from 1 to 100 leaves of a picture, (H, W) or (H, W, 3) RGB uint8."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if picture.ndim == 2:
        _, data = cv2.imencode(".jpg", picture, parameters)
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), parameters)
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
