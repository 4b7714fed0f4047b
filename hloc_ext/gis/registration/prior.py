"""What is known of a transform before the registration, and similarity transforms.

Pixels: the centre of the top-left one is (0, 0), x right, y down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import InputError

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Similarity:
    """x1 = scale · R(angle) · x0 + shift.

    Attributes:
        angle: radians, from x to y.
        scale: pixels of image 1 per pixel of image 0.
        shift: x and y, pixels of image 1.
        score: normalised correlation of the gradient fields, −1 to 1.
        significance: `score` times the square root of the number of overlapping pixels of the coarser image,
            reduced as for the last refinement.
    """

    angle: float
    scale: float
    shift: tuple[float, float]
    score: float = 0.0
    significance: float = 0.0

    def matrix(self) -> Matrix:
        """2×3 matrix."""
        c, s = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        return np.array([[c, -s, self.shift[0]], [s, c, self.shift[1]]])

    def resized(self, factor0: float, factor1: float) -> Similarity:
        """The same transform between images resized by these factors about their top-left corners."""
        matrix = self.matrix()
        corner = matrix @ (-0.5, -0.5, 1) + 0.5  # where the corner of image 0 goes, from that of image 1
        scale = self.scale * factor1 / factor0
        turn = matrix[:, :2] / self.scale * scale
        shift = corner * factor1 - 0.5 + turn @ (0.5, 0.5)
        return Similarity(
            self.angle, scale, (float(shift[0]), float(shift[1])), self.score, self.significance
        )


def similarity_of(matrix: Matrix, center: tuple[float, float]) -> Similarity:
    """The similarity transform nearest to a homography about a point.

    Args:
        matrix: 3×3 or 2×3, pixel of image 0 → pixel of image 1.
        center: x, y of image 0, which goes to the same place.
    """
    matrix = np.vstack([matrix, (0, 0, 1)]) if len(matrix) == 2 else np.asarray(matrix, float)
    x, y, w = matrix @ (*center, 1.0)
    target = np.array([x / w, y / w])
    linear = (matrix[:2, :2] - np.outer(target, matrix[2, :2])) / w
    # Nearest in the sense of least squares: complex part without reflection.
    real, imaginary = (linear[0, 0] + linear[1, 1]) / 2, (linear[1, 0] - linear[0, 1]) / 2
    angle, scale = math.atan2(imaginary, real), math.hypot(real, imaginary)
    turn = Similarity(angle, scale, (0.0, 0.0)).matrix()[:, :2]
    shift = target - turn @ np.asarray(center)
    return Similarity(angle, scale, (float(shift[0]), float(shift[1])))


@dataclass(frozen=True)
class Prior:
    """What is known of the transform between two images.

    Attributes:
        matrix: 3×3, pixel of image 0 → pixel of image 1, about; None: their centres coincide, and so do their
            longest sides.
        max_rotation: largest deviation, degrees.
        max_scale: largest factor between the true scale and that of `matrix`, at least 1.
        max_shift: largest distance in pixels of image 1 between where the centre of image 0 is and where
            `matrix` puts it; None: any that leaves enough overlap.
    """

    matrix: Matrix | None = None
    max_rotation: float = 180.0
    max_scale: float = 1 / 0.48
    max_shift: float | None = None

    def __post_init__(self) -> None:
        if self.max_scale < 1:
            raise InputError(f"max_scale={self.max_scale}: expected a factor of 1 or more.")
        if self.max_rotation < 0 or (self.max_shift is not None and self.max_shift < 0):
            raise InputError(f"{self}: expected limits of 0 or more.")

    def similarity(self, shape0: tuple[int, int], shape1: tuple[int, int]) -> Similarity:
        """The expected transform between images of (height, width)."""
        center0, center1 = (np.array([w - 1, h - 1]) / 2 for h, w in (shape0, shape1))
        if self.matrix is not None:
            return similarity_of(self.matrix, (float(center0[0]), float(center0[1])))
        scale = max(shape1) / max(shape0)
        shift = center1 - scale * center0
        return Similarity(0.0, scale, (float(shift[0]), float(shift[1])))

    def resized(self, to_small0: Matrix, to_small1: Matrix) -> Prior:
        """The same knowledge of resized images.

        Args:
            to_small0, to_small1: 3×3, pixel of an image → pixel of the resized one.
        """
        matrix = None if self.matrix is None else to_small1 @ self.matrix @ np.linalg.inv(to_small0)
        shift = None if self.max_shift is None else self.max_shift * float(to_small1[0, 0])
        return Prior(matrix, self.max_rotation, self.max_scale, shift)

    def allows(
        self, matrix: Matrix, shape0: tuple[int, int], shape1: tuple[int, int], slack: float = 1.1
    ) -> bool:
        """Whether a transform (3×3 or 2×3) is within the limits, which are widened by the factor `slack`."""
        center = (shape0[1] - 1) / 2, (shape0[0] - 1) / 2
        found, expected = similarity_of(matrix, center), self.similarity(shape0, shape1)
        turn = (found.angle - expected.angle + math.pi) % (2 * math.pi) - math.pi
        if abs(math.degrees(turn)) > slack * self.max_rotation + 1:
            return False
        if found.scale <= 0 or abs(math.log(found.scale / expected.scale)) > slack * math.log(
            self.max_scale
        ) + math.log(1.02):
            return False
        shift = found.matrix() @ (*center, 1) - expected.matrix() @ (*center, 1)
        return self.max_shift is None or float(np.hypot(*shift)) <= slack * self.max_shift + 2


#: Nothing is known but that the scale differs by a factor of about two at most.
UNKNOWN = Prior()
