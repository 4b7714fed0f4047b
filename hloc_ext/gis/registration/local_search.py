"""Refinement of similarity transforms by the correlation of gradient fields."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from .gradient_fields import Picture, gradient_fields
from .prior import Similarity

#: Transforms with less overlap than this share of the smaller image have no correlation.
LEAST_OVERLAP = 0.2
#: Ratio of the scales at which reduced images are kept.
_SCALE_GRID = 1.1


class _Pair(NamedTuple):
    """Both pictures at a common scale.

    Attributes:
        factors: resized / original, of both.
        layers0: (h0, w0, 3) float32: field of image 0, and its mask.
        targets: (h1·w1, 4) float32: field of image 1 (2), its squared length, and its mask.
        size1: width and height of image 1.
        areas: pixels that exist.
        complete1: whether all pixels of image 1 do.
    """

    factors: tuple[float, float]
    layers0: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    size1: tuple[int, int]
    areas: tuple[float, float]
    complete1: bool


class Level:
    """Two pictures at one resolution; transforms are those of the full pictures.

    Args:
        picture0, picture1: the pictures.
        size: longest side at this level, pixels; pictures are not enlarged.
    """

    def __init__(self, picture0: Picture, picture1: Picture, size: int) -> None:
        self.longest = tuple(min(size / max(p.shape), 1.0) for p in (picture0, picture1))
        # Reduced once, so that each scale has less to reduce.
        self.bases = tuple(min(2 * factor, 1.0) for factor in self.longest)
        self.pictures = tuple(
            p.resized(base) for p, base in zip((picture0, picture1), self.bases, strict=True)
        )
        self._pairs: dict[int, _Pair] = {}

    def _pair(self, scale: float) -> _Pair:
        """Pictures of which the finer one is reduced to about the scale of the other."""
        key = round(math.log(scale * self.longest[1] / self.longest[0]) / math.log(_SCALE_GRID))
        if key not in self._pairs:
            ratio = _SCALE_GRID**key
            factors = self.longest[0] * min(ratio, 1.0), self.longest[1] * min(1 / ratio, 1.0)
            fields0, fields1 = (
                gradient_fields(picture.resized(factor / base))
                for picture, factor, base in zip(self.pictures, factors, self.bases, strict=True)
            )
            values = fields1.values.reshape(-1, 2)
            targets = np.column_stack([values, (values**2).sum(1), fields1.mask.ravel()])
            self._pairs[key] = _Pair(
                factors,
                np.dstack([fields0.values, fields0.mask]),
                np.ascontiguousarray(targets, np.float32),
                fields1.mask.shape[::-1],
                (float(fields0.mask.sum()), float(fields1.mask.sum())),
                bool(fields1.mask.all()),
            )
        return self._pairs[key]

    def score(self, transform: Similarity) -> tuple[float, float]:
        """Normalised correlation of the fields (−1 to 1) under a transform, and its significance."""
        pair = self._pair(transform.scale)
        return _correlation(pair, transform.resized(*pair.factors))

    def refine(self, transform: Similarity, evaluations: int, reach: float | None = None) -> Similarity:
        """Simplex search for the most significant transform near one.

        Args:
            transform: where to start.
            evaluations: number of correlations computed.
            reach: size of the first simplex, radians; None: a pixel and a half of this level.
        """
        pair = self._pair(transform.scale)
        start = transform.resized(*pair.factors)
        height, width = pair.layers0.shape[:2]
        center = np.array([width - 1, height - 1]) / 2
        center1 = start.matrix() @ (*center, 1.0)
        radius = float(np.hypot(*center)) / 2

        def at(step: npt.NDArray[np.float64]) -> Similarity:  # all four in about pixels
            angle, scale = start.angle + step[0] / radius, start.scale * math.exp(step[1] / radius)
            turn = Similarity(angle, scale, (0.0, 0.0)).matrix()[:, :2]
            shift = center1 + step[2:] - turn @ center
            return Similarity(angle, scale, (float(shift[0]), float(shift[1])))

        def loss(step: npt.NDArray[np.float64]) -> float:
            return -_correlation(pair, at(step))[1]

        simplex = np.vstack([np.zeros(4), np.eye(4)]) * (
            1.5 if reach is None else max(reach * radius / 2, 0.7)
        )
        simplex -= simplex.mean(0)
        options = {"initial_simplex": simplex, "maxfev": evaluations, "xatol": 0.02, "fatol": 1e-4}
        result = minimize(loss, np.zeros(4), method="Nelder-Mead", options=options)
        found = at(result.x)
        score, significance = _correlation(pair, found)
        refined = Similarity(found.angle, found.scale, found.shift, score, significance)
        return refined.resized(1 / pair.factors[0], 1 / pair.factors[1])


def _correlation(pair: _Pair, transform: Similarity) -> tuple[float, float]:
    """Correlation and significance under a transform between the reduced images."""
    warped = cv2.warpAffine(pair.layers0, transform.matrix(), pair.size1, flags=cv2.INTER_LINEAR)
    layers = warped.reshape(-1, 3)
    sums = layers.T @ pair.targets  # 3×4
    overlap = float(sums[2, 3])
    if overlap < LEAST_OVERLAP * min(pair.areas[0] * transform.scale**2, pair.areas[1]):
        return -1.0, -1.0
    cos, sin = math.cos(2 * transform.angle), math.sin(2 * transform.angle)
    # The field of image 0 turns with it, by the doubled angle.
    covariance = cos * (sums[0, 0] + sums[1, 1]) + sin * (sums[0, 1] - sums[1, 0])
    products = layers.T @ (layers if pair.complete1 else layers * pair.targets[:, 3:])
    energy0 = float(products[0, 0] + products[1, 1])
    score = float(covariance / math.sqrt(energy0 * float(sums[2, 2]) + 1.0))
    return score, score * math.sqrt(overlap) / max(transform.scale, 1.0)
