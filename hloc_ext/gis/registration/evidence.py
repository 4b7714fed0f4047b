"""How sure a registration is: evidence against wrong shifts and places, and the threshold of acceptance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from ...errors import InputError
from .estimation import cells
from .gradient_fields import Picture
from .local_matching import LocalMatches, registered_fields, scale_of

Matrix = npt.NDArray[np.float64]

#: Longest side at which fields are compared, and pixels there around the peak which are no wrong shifts.
SIZE, _PEAK = 256, 6
#: A transform is accepted from this probability on.
ACCEPTED = 0.5
#: Least overlap, as a share of the smaller picture.
LEAST_OVERLAP = 0.15


@dataclass(frozen=True)
class Evidence:
    """What speaks for a transform.

    Attributes:
        correlation: of the gradient fields, −1 to 1.
        peak: correlation relative to the standard deviation of those of wrong shifts.
        lead: correlation relative to the largest one of the wrong shifts.
        agreement: share of the patches with structure of which the best place is that of the transform.
        inliers: number of these patches.
        cells: number of cells of a 6×6 grid over the patches that hold such a patch.
        overlap: share of the smaller picture.
        probability: that the transform is right, by :data:`WEIGHTS`.
    """

    correlation: float
    peak: float
    lead: float
    agreement: float
    inliers: int
    cells: int
    overlap: float
    probability: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether the evidence is strong enough."""
        return self.probability >= ACCEPTED

    def features(self) -> npt.NDArray[np.float64]:
        """What the probability is a logistic function of; the last one is 1."""
        return np.array(
            [
                math.log(max(self.peak, 1.0)),
                math.log(min(max(self.lead, 0.2), 5.0)),
                self.agreement,
                math.log1p(self.inliers),
                1.0,
            ]
        )


#: Weights of :meth:`Evidence.features`, fitted by ``python -m benchmarks.gis.calibrate --right 10 --wrong 20
#: --seed 2`` to a small city of seed 1 and to TU Graz and Dubai of train/aerial_semantic, none of which the
#: benchmark uses: 56 of 58 right registrations of unknown heading and scale are accepted and 2 of 202 wrong
#: ones (mirror images, masks of other photos, city beside photos), of which the most probable has 0.69.
WEIGHTS = (2.02, 1.23, 0.83, 2.68, -13.02)


def collect(
    picture0: Picture,
    picture1: Picture,
    matrix: Matrix,
    matches: LocalMatches | None,
    inliers: npt.NDArray[np.bool_] | None,
) -> Evidence:
    """The evidence for a transform.

    Args:
        picture0, picture1: the pictures.
        matrix: 3×3, pixel of image 0 → pixel of image 1.
        matches, inliers: of the last refinement, or None.
    """
    both = registered_fields(picture0, picture1, matrix, SIZE)
    common = both.fields0.mask * both.fields1.mask
    first, second = both.fields0.values * common[..., None], both.fields1.values
    correlations = _shifted(first, second)
    height, width = common.shape
    at_zero = correlations[: _PEAK // 3 + 1, : _PEAK // 3 + 1].max()
    at_zero = max(float(at_zero), float(np.roll(correlations, (2, 2), (0, 1))[:5, :5].max()))
    wrong = correlations.copy()
    for rows in (slice(0, _PEAK + 1), slice(-_PEAK, None)):
        for columns in (slice(0, _PEAK + 1), slice(-_PEAK, None)):
            wrong[rows, columns] = np.nan
    # Shifts by up to half of the sides: with more, less and less overlaps.
    rows, columns = (
        np.minimum(np.arange(n), n - np.arange(n)) <= side // 2
        for n, side in zip(correlations.shape, (height, width), strict=True)
    )
    wrong = wrong[np.ix_(rows, columns)]
    deviation = float(np.sqrt(np.nanmean(wrong**2)))
    energy = math.sqrt(float((first**2).sum()) * float(((second * common[..., None]) ** 2).sum())) + 1e-6
    area0 = float(picture0.exists.sum()) * (scale_of(matrix, picture0.shape) * both.factor) ** 2
    covered = float(common.sum()) / max(min(area0, float(both.fields1.mask.sum())), 1.0)
    count = int(inliers.sum()) if inliers is not None else 0
    found = Evidence(
        correlation=float((first * second).sum()) / energy,
        peak=at_zero / (deviation + 1e-6),
        lead=at_zero / (float(np.nanmax(wrong)) + 1e-6),
        agreement=count / max(matches.tried, 1) if matches is not None else 0.0,
        inliers=count,
        cells=len(np.unique(cells(matches.points0[inliers]))) if matches is not None and count else 0,
        overlap=covered,
    )
    return _with_probability(found, WEIGHTS)


def _with_probability(found: Evidence, weights: Sequence[float]) -> Evidence:
    values = {name: getattr(found, name) for name in Evidence.__dataclass_fields__}
    values["probability"] = probability(found, weights) if found.overlap >= LEAST_OVERLAP else 0.0
    return Evidence(**values)


def probability(found: Evidence, weights: Sequence[float] = WEIGHTS) -> float:
    """Probability that a transform is right, 0 to 1."""
    if found.peak <= 0 or found.correlation <= 0:
        return 0.0
    value = float(np.clip(found.features() @ np.asarray(weights), -50, 50))
    return 1 / (1 + math.exp(-value))


def _shifted(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
    """Sums of the products of two fields (H, W, 2) for all shifts of the first, on a torus twice the size."""
    height, width = first.shape[:2]
    size = cv2.getOptimalDFTSize(2 * height), cv2.getOptimalDFTSize(2 * width)
    spectra = [scipy.fft.rfft2(field, size, axes=(0, 1)) for field in (first, second)]
    return np.asarray(scipy.fft.irfft2((spectra[0].conj() * spectra[1]).sum(2), size))


def calibrate(
    found: Sequence[Evidence], right: Sequence[bool], false_accepts: float = 0.01, ridge: float = 0.005
) -> tuple[float, ...]:
    """Weights of the evidence for a wanted rate of false accepts: logistic regression, then its threshold.

    Args:
        found: evidence of registrations.
        right: whether each of them is right; registrations of other places are not.
        false_accepts: largest share of the wrong ones given that is accepted at :data:`ACCEPTED`.
        ridge: weight decay of the regression.

    Raises:
        InputError: only right or only wrong ones.
    """
    y = np.asarray(right, float)
    if not 0 < y.sum() < len(y):
        raise InputError("The calibration needs right and wrong registrations.")
    x = np.stack([evidence.features() for evidence in found])
    balance = np.where(y > 0, 0.5 / y.mean(), 0.5 / (1 - y).mean())
    weights = np.zeros(x.shape[1])
    decay = ridge * np.append(np.ones(x.shape[1] - 1), 0.0)
    for _ in range(50):  # Newton
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -50, 50)))
        gradient = x.T @ (balance * (p - y)) / len(y) + decay * weights
        curvature = (x * (balance * p * (1 - p))[:, None]).T @ x / len(y) + np.diag(decay + 1e-9)
        weights = weights - np.linalg.solve(curvature, gradient)
    scores = np.sort(x[y == 0] @ weights)
    limit = scores[max(math.ceil((1 - false_accepts) * len(scores)) - 1, 0)]
    weights[-1] -= max(float(limit), 0.0) + 1e-6
    return tuple(float(weight) for weight in weights)
