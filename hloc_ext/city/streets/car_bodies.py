"""Shapes and colours of cars, vans and trucks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Colours of cars, and how frequent they are.
PAINTS = np.array(
    [
        (235, 236, 238),
        (205, 207, 210),
        (150, 153, 157),
        (95, 98, 102),
        (48, 50, 53),
        (22, 22, 24),
        (40, 62, 110),
        (95, 130, 170),
        (140, 28, 26),
        (60, 80, 58),
        (165, 140, 105),
        (200, 165, 60),
    ],
    float,
)
PAINT_SHARES = np.array([18, 13, 15, 13, 9, 13, 6, 4, 5, 2, 1.5, 0.5]) / 100


@dataclass(frozen=True)
class Body:
    """Shape of a car; x forwards, metres.

    Attributes:
        profile: (x, height, half width) of the upper edge of the lower body, from the rear to the front.
        cabin: x of the windows' lower rear and lower front corner, then of the roof's rear and front.
        roof: its height.
        pillars: x of the pillars between the side windows; none: no side windows.
        wheels: x of the rear and the front axle, and the radius.
        sides: height of the lower edge.
        glazed: whether the rear has a window.
    """

    profile: tuple[tuple[float, float, float], ...]
    cabin: tuple[float, float, float, float]
    roof: float
    pillars: tuple[float, ...]
    wheels: tuple[float, float, float]
    sides: float = 0.24
    glazed: bool = True

    @property
    def length(self) -> float:
        """From bumper to bumper."""
        return self.profile[-1][0] - self.profile[0][0]


SEDAN = Body(
    (
        (-2.3, 0.62, 0.72),
        (-2.22, 0.86, 0.80),
        (-1.6, 0.96, 0.87),
        (-0.4, 0.93, 0.89),
        (0.9, 0.92, 0.88),
        (1.9, 0.78, 0.84),
        (2.2, 0.64, 0.76),
        (2.3, 0.5, 0.66),
    ),
    (-1.75, 1.0, -1.05, 0.15),
    1.44,
    (-1.0, -0.22, 0.62),
    (-1.38, 1.36, 0.31),
)
HATCHBACK = Body(
    (
        (-1.98, 0.6, 0.72),
        (-1.93, 0.9, 0.80),
        (-1.3, 0.98, 0.86),
        (-0.2, 0.95, 0.87),
        (0.9, 0.93, 0.86),
        (1.7, 0.80, 0.82),
        (1.95, 0.64, 0.74),
        (2.02, 0.5, 0.64),
    ),
    (-1.92, 1.0, -1.5, 0.1),
    1.5,
    (-1.25, -0.3, 0.62),
    (-1.25, 1.25, 0.30),
)
ESTATE = Body(
    (
        (-2.38, 0.62, 0.74),
        (-2.33, 0.92, 0.82),
        (-1.6, 0.97, 0.88),
        (-0.3, 0.94, 0.90),
        (0.95, 0.93, 0.89),
        (1.95, 0.79, 0.85),
        (2.25, 0.64, 0.76),
        (2.34, 0.5, 0.66),
    ),
    (-2.32, 1.05, -1.98, 0.2),
    1.48,
    (-1.55, -0.95, -0.1, 0.7),
    (-1.4, 1.4, 0.32),
)
OFFROADER = Body(
    (
        (-2.2, 0.72, 0.80),
        (-2.16, 1.06, 0.87),
        (-1.4, 1.12, 0.92),
        (-0.2, 1.09, 0.93),
        (0.95, 1.07, 0.92),
        (1.9, 0.98, 0.89),
        (2.18, 0.80, 0.82),
        (2.25, 0.6, 0.72),
    ),
    (-2.14, 1.05, -1.85, 0.25),
    1.70,
    (-1.45, -0.85, 0.0, 0.75),
    (-1.35, 1.38, 0.36),
    0.34,
)
VAN = Body(
    (
        (-2.5, 0.8, 0.90),
        (-2.48, 1.1, 0.94),
        (-1.5, 1.12, 0.95),
        (0.5, 1.12, 0.95),
        (1.7, 1.12, 0.94),
        (2.3, 0.98, 0.9),
        (2.48, 0.8, 0.84),
        (2.52, 0.55, 0.76),
    ),
    (-2.47, 2.05, -2.42, 1.15),
    2.0,
    (0.75, 1.45),
    (-1.6, 1.6, 0.34),
    0.28,
    False,
)
#: The cab; the box behind it is added.
TRUCK = Body(
    (
        (1.2, 1.0, 0.98),
        (1.3, 1.25, 1.0),
        (1.9, 1.25, 1.0),
        (2.6, 1.25, 1.0),
        (3.0, 1.15, 0.98),
        (3.1, 0.9, 0.95),
    ),
    (1.25, 3.02, 1.3, 2.7),
    2.25,
    (1.75,),
    (-1.9, 2.3, 0.42),
    0.42,
    False,
)
BODIES: tuple[Body, ...] = (SEDAN, HATCHBACK, ESTATE, OFFROADER, VAN, TRUCK)
#: How frequent they are at the kerb.
BODY_SHARES = np.array([0.24, 0.3, 0.18, 0.15, 0.09, 0.04])
#: Length and width of each on the ground, metres.
FOOTPRINTS = np.array([(body.length, 1.9) for body in BODIES[:-1]] + [(6.9, 2.2)])
