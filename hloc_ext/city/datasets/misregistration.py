"""Errors of a georeference: maps from where imagery says that it is to where it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MODELS = ("similarity", "affine", "homography")

#: Largest errors: metres, degrees, factor, and what the affine and projective maps add.
MAX_TRANSLATION = 8.0
MAX_ROTATION = 6.0
SCALES = (0.93, 1.07)
MAX_SHEAR = 0.05
MAX_STRETCH = 0.03
MAX_PERSPECTIVE = 5e-4


@dataclass(frozen=True)
class Misregistration:
    """An error of a georeference, as a map of offsets from the stated centre of an image: stated → true.

    It applies, in this order: perspective, shear and stretch, scale, rotation, translation.

    Attributes:
        model: one of :data:`MODELS`.
        translation: metres east and north.
        rotation: degrees counter-clockwise.
        scale: factor.
        shear: metres east for each metre north.
        stretch: factor of eastings; northings are divided by it.
        perspective: change of the divisor for each metre east and north, 1/m.
    """

    model: str
    translation: tuple[float, float]
    rotation: float
    scale: float
    shear: float = 0.0
    stretch: float = 1.0
    perspective: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def draw(cls, model: str, rng: np.random.Generator) -> Misregistration:
        """An error of at most the size that this module states."""
        distance, direction = MAX_TRANSLATION * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        rotation, scale = rng.uniform(-MAX_ROTATION, MAX_ROTATION), rng.uniform(*SCALES)
        shear, stretch, perspective = 0.0, 1.0, (0.0, 0.0)
        if model != "similarity":
            shear = rng.uniform(-MAX_SHEAR, MAX_SHEAR)
            stretch = 1 + rng.uniform(-MAX_STRETCH, MAX_STRETCH)
        if model == "homography":
            x, y = rng.uniform(-MAX_PERSPECTIVE, MAX_PERSPECTIVE, 2)
            perspective = (float(x), float(y))
        translation = (distance * math.cos(direction), distance * math.sin(direction))
        return cls(model, translation, rotation, scale, shear, stretch, perspective)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """3×3 homography: (east, north, 1) as stated → as it is, metres from the stated centre."""
        cos, sin = (f(math.radians(self.rotation)) * self.scale for f in (math.cos, math.sin))
        projection = np.array([[1, 0, 0], [0, 1, 0], [*self.perspective, 1]])
        shape = np.array([[self.stretch, self.shear, 0], [0, 1 / self.stretch, 0], [0, 0, 1]])
        similarity = np.array([[cos, -sin, self.translation[0]], [sin, cos, self.translation[1]], [0, 0, 1]])
        return similarity @ shape @ projection


def apply(homography: npt.NDArray[np.float64], points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Map points by a 3×3 homography, (N, 2) → (N, 2)."""
    points = np.asarray(points, np.float64)
    mapped = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ homography.T
    return mapped[:, :2] / mapped[:, 2:]
