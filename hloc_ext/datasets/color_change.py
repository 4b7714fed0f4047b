"""Random changes of colour photos: another hour of the day, weather and camera. Nothing moves a pixel.

:func:`change_color` is to colour photos what :func:`~hloc_ext.datasets.photometric.change_picture` is to grey
ones, and is made of the same steps. Changes to night are in :mod:`hloc_ext.datasets.night`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .lighting import cast_shadow, shade
from .photometric import add_noise, blur, blur_motion, compress, occlude, resample, to_uint8, tone_curve
from .weather import add_fog

Pixels = npt.NDArray[np.uint8]
#: Colour pictures, (H, W, 3) RGB in [0, 1].
Colors = npt.NDArray[np.float32]
Range = tuple[float, float]

_REC601 = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class ColorChange:
    """Which changes happen, how often and how strong.

    A field named after a change is its probability, the ranges below it are drawn from uniformly. Lengths are
    pixels of an image with a shorter side of 256, and grow with it.

    Attributes:
        tone: exposure (stops), gamma, contrast about a random pivot, and an S-curve.
        balance: standard deviation of the logarithm of the gains of red, green and blue.
        saturation: factor of the colourfulness.
        grey: without colours.
        shading: uneven light; `shading_strength` is the standard deviation of its logarithm.
        shadow: shadows with sharp edges; `shadow_depth` is the share of the light that they take.
        fog: `fog_strength` of 1 hides most of the picture.
        occlusion: patches that hide up to `occluded` of the width, each.
        blur: out of focus, `blur_sigma`, or moved, by `motion`.
        resample: shrunk by `resample_factor` and enlarged again.
        noise: `noise_sigma` at mid grey, of shot and read noise together.
        jpeg: compressed at `jpeg_quality`.
    """

    tone: float = 0.0
    exposure: Range = (-1.0, 1.0)
    gamma: Range = (0.6, 1.7)
    contrast: Range = (0.6, 1.5)
    balance: float = 0.0
    saturation: Range = (1.0, 1.0)
    grey: float = 0.0
    shading: float = 0.0
    shading_strength: Range = (0.1, 0.5)
    shadow: float = 0.0
    shadow_depth: Range = (0.3, 0.7)
    fog: float = 0.0
    fog_strength: Range = (0.2, 0.5)
    occlusion: float = 0.0
    occluded: Range = (0.1, 0.4)
    blur: float = 0.0
    blur_sigma: Range = (0.5, 2.0)
    motion: Range = (3.0, 9.0)
    resample: float = 0.0
    resample_factor: Range = (1.3, 3.0)
    noise: float = 0.0
    noise_sigma: Range = (0.01, 0.06)
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (20, 90)


#: Another hour, weather and camera.
DAY = ColorChange(
    tone=0.8,
    balance=0.12,
    saturation=(0.4, 1.5),
    grey=0.1,
    shading=0.3,
    shadow=0.25,
    fog=0.1,
    occlusion=0.2,
    blur=0.3,
    resample=0.2,
    noise=0.4,
    jpeg=0.4,
)
#: Another exposure, a little noise: for pictures whose light and weather differ already.
MILD = ColorChange(
    tone=0.6,
    exposure=(-0.5, 0.5),
    gamma=(0.75, 1.35),
    contrast=(0.75, 1.3),
    balance=0.06,
    saturation=(0.6, 1.3),
    grey=0.05,
    occlusion=0.1,
    blur=0.2,
    blur_sigma=(0.3, 1.2),
    motion=(2.0, 5.0),
    noise=0.3,
    noise_sigma=(0.005, 0.03),
    jpeg=0.3,
    jpeg_quality=(40, 95),
)
#: Configurations by name.
COLOR_CHANGES = {"none": ColorChange(), "mild": MILD, "day": DAY}


def find_color_change(name: str) -> ColorChange:
    """Configuration of a name of :data:`COLOR_CHANGES`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in COLOR_CHANGES:
        raise InputError(f"Unknown colour change '{name}': use one of {', '.join(COLOR_CHANGES)}.")
    return COLOR_CHANGES[name]


def change_color(photo: Pixels, rng: np.random.Generator, change: ColorChange = DAY) -> Pixels:
    """Change a colour photo at random.

    Args:
        photo: (H, W, 3) RGB uint8.
        rng: source of all choices.
        change: what may happen.

    Returns:
        (H, W, 3) RGB uint8. Every pixel shows what it did, but for what patches hide.

    Raises:
        InputError: another type or shape.
    """
    check_color(photo)
    picture = recolor(photo, rng, change)
    picture = _relight(picture, rng, change)
    unit = min(photo.shape[:2]) / 256
    if rng.random() < change.occlusion:
        picture = occlude(picture, rng, change.occluded)
    if rng.random() < change.blur:
        picture = random_blur(picture, rng, change.blur_sigma, change.motion, unit)
    if rng.random() < change.resample:
        picture = resample(picture, rng.uniform(*change.resample_factor))
    if rng.random() < change.noise:
        picture = add_noise(picture, rng, rng.uniform(*change.noise_sigma))
    changed = to_uint8(picture)
    if rng.random() < change.jpeg:
        changed = compress(changed, int(rng.integers(change.jpeg_quality[0], change.jpeg_quality[1] + 1)))
    return changed


def recolor(photo: Pixels, rng: np.random.Generator, change: ColorChange) -> Colors:
    """Tone curve, white balance and saturation of another camera, (H, W, 3)."""
    curve = np.linspace(0, 1, 256, dtype=np.float32)
    if rng.random() < change.tone:
        gamma = np.exp(rng.uniform(np.log(change.gamma[0]), np.log(change.gamma[1])))
        table = tone_curve(
            rng.uniform(*change.exposure),
            float(gamma),
            rng.uniform(*change.contrast),
            pivot=rng.uniform(0.3, 0.7),
            bend=rng.uniform(-0.6, 0.6),
        )
        curve = np.interp(curve, np.linspace(0, 1, len(table)), table).astype(np.float32)
    gains = np.exp(change.balance * rng.standard_normal(3))
    # Bright things stay as bright as they are.
    gains = (gains / (gains @ _REC601)).astype(np.float32)
    tables = np.minimum(curve[:, None] * gains, 1)
    picture = np.asarray(cv2.LUT(photo, tables[None]), np.float32)
    saturation = 0.0 if rng.random() < change.grey else rng.uniform(*change.saturation)
    return picture if saturation == 1 else saturate(picture, saturation)


def saturate(picture: Colors, factor: float) -> Colors:
    """Multiply the colourfulness of a picture; 0 leaves grey."""
    mix = np.float32(factor) * np.eye(3, dtype=np.float32) + np.float32(1 - factor) * _REC601
    return np.clip(cv2.transform(picture, mix), 0, 1)


def random_blur(
    picture: Colors, rng: np.random.Generator, sigma: Range, motion: Range, unit: float
) -> Colors:
    """Out of focus or moved, as often; lengths are multiples of `unit` pixels."""
    if rng.random() < 0.5:
        return blur(picture, unit * rng.uniform(*sigma))
    return blur_motion(picture, unit * rng.uniform(*motion), rng.uniform(0, np.pi))


def check_color(photo: Pixels) -> None:
    """Raise an error unless a photo is (H, W, 3) uint8.

    Raises:
        InputError: another type or shape.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise InputError(f"Photo of {photo.dtype} {photo.shape}: expected uint8, (height, width, 3) RGB.")


def _relight(picture: Colors, rng: np.random.Generator, change: ColorChange) -> Colors:
    """Uneven light, shadows and fog, none of which has a colour."""
    if rng.random() < change.shading:
        picture = shade(picture, rng, rng.uniform(*change.shading_strength))
    if rng.random() < change.shadow:
        picture = cast_shadow(picture, rng, rng.uniform(*change.shadow_depth))
    if rng.random() < change.fog:
        picture = add_fog(picture, rng, rng.uniform(*change.fog_strength))
    return picture
