"""Sun, sky, weather and lamps at the moment of a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """What a scene is lit by. Colours are linear RGB; irradiance is relative to the sun at noon (1).

    Attributes:
        sun_azimuth: degrees, clockwise from north.
        sun_elevation: degrees above the horizon.
        sun: irradiance of a surface that faces the sun; (0, 0, 0) if it is not seen.
        zenith, horizon: radiance of the clear sky there, times pi.
        clouds: share of the sky that clouds cover, 0 to 1.
        cloud_shift: where the clouds are, in repeats of their picture.
        haze: share of light that air takes away, per kilometre.
        lamps: irradiance that a street lamp gives at 1 m; 0 by day.
        glow: radiance of a fully lit window, times pi.
        exposure: brightness of the picture relative to what the camera would choose.
        white_balance: factors of the channels.
    """

    sun_azimuth: float
    sun_elevation: float
    sun: Color
    zenith: Color
    horizon: Color
    clouds: float = 0.0
    cloud_shift: tuple[float, float] = (0.0, 0.0)
    haze: float = 0.25
    lamps: float = 0.0
    glow: float = 0.0
    exposure: float = 1.0
    white_balance: Color = (1.0, 1.0, 1.0)

    @property
    def is_night(self) -> bool:
        """Whether the lamps are on."""
        return self.lamps > 0

    @property
    def to_sun(self) -> npt.NDArray[np.float64]:
        """Unit vector towards the sun, (3,), in the scene frame."""
        azimuth, elevation = math.radians(self.sun_azimuth), math.radians(self.sun_elevation)
        return np.array(
            [
                math.sin(azimuth) * math.cos(elevation),
                math.cos(azimuth) * math.cos(elevation),
                math.sin(elevation),
            ]
        )


def daylight(rng: np.random.Generator) -> Light:
    """A day with sun: 25° to 60° high between south-east and west, few to many clouds."""
    elevation = rng.uniform(25, 60)
    warmth = (60 - elevation) / 35
    strength = rng.uniform(0.85, 1.1)
    haze = rng.uniform(0.1, 0.5)
    return Light(
        sun_azimuth=rng.uniform(110, 260),
        sun_elevation=elevation,
        sun=(strength, strength * (0.95 - 0.07 * warmth), strength * (0.86 - 0.2 * warmth)),
        zenith=(0.13, 0.25, 0.50),
        horizon=(0.42 + 0.2 * haze, 0.52 + 0.15 * haze, 0.66),
        clouds=rng.uniform(0.1, 0.7),
        cloud_shift=_shift(rng),
        haze=haze,
        exposure=math.exp(rng.normal(0, 0.12)),
        white_balance=_white_balance(rng, 0.03),
    )


def overcast(rng: np.random.Generator) -> Light:
    """A grey day: no shadows."""
    grey = rng.uniform(0.5, 0.8)
    return Light(
        sun_azimuth=rng.uniform(110, 260),
        sun_elevation=rng.uniform(25, 60),
        sun=(0.04, 0.04, 0.04),
        zenith=(0.9 * grey, 0.95 * grey, 1.02 * grey),
        horizon=(0.75 * grey, 0.8 * grey, 0.86 * grey),
        clouds=1.0,
        cloud_shift=_shift(rng),
        haze=rng.uniform(0.4, 1.0),
        exposure=math.exp(rng.normal(0, 0.12)),
        white_balance=_white_balance(rng, 0.03),
    )


def night(rng: np.random.Generator) -> Light:
    """Night under street lamps, with lit windows, late dusk in the sky."""
    dusk = rng.uniform(0.4, 1.6)
    return Light(
        sun_azimuth=rng.uniform(110, 260),
        sun_elevation=-15.0,
        sun=(0.0, 0.0, 0.0),
        zenith=(0.0010 * dusk, 0.0014 * dusk, 0.0030 * dusk),
        horizon=(0.0045 * dusk, 0.0038 * dusk, 0.0042 * dusk),
        clouds=rng.uniform(0.0, 0.6),
        cloud_shift=_shift(rng),
        haze=rng.uniform(0.1, 0.4),
        lamps=rng.uniform(0.8, 1.2),
        glow=rng.uniform(0.7, 1.2),
        exposure=math.exp(rng.normal(0, 0.15)),
        white_balance=_white_balance(rng, 0.05),
    )


def _shift(rng: np.random.Generator) -> tuple[float, float]:
    x, y = rng.uniform(0, 1, 2)
    return float(x), float(y)


def _white_balance(rng: np.random.Generator, spread: float) -> Color:
    red, blue = np.exp(rng.normal(0, spread, 2))
    return float(red), 1.0, float(blue)
