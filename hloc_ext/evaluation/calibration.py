"""Whether scores are probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).

    Attributes:
        edges: (B + 1,) limits of the bins of equal width from 0 to 1.
        counts: (B,) number of predictions in each.
        confidence: (B,) mean score in each; NaN in an empty one.
        accuracy: (B,) share that is correct; NaN in an empty one.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance between confidence and accuracy, weighted by the counts (equation 3); 0 to 1."""
        used = self.counts > 0
        gap = np.abs(self.confidence[used] - self.accuracy[used])
        return float(np.average(gap, weights=self.counts[used]))


def reliability(scores: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 10) -> Reliability:
    """Compare scores with the share of correct predictions.

    Args:
        scores: (N,) from 0 to 1.
        correct: (N,) bool.
        bins: number of bins.

    Raises:
        InputError: no scores, not as many as predictions, or one outside [0, 1].
    """
    values, hits = np.asarray(scores, float), np.asarray(correct, bool)
    if values.shape != hits.shape or values.ndim != 1 or not len(values):
        raise InputError(f"Expected as many scores as predictions, got {values.shape} and {hits.shape}.")
    if not ((values >= 0) & (values <= 1 + 1e-6)).all():
        raise InputError(f"Scores from {values.min():g} to {values.max():g}: expected 0 to 1.")
    edges = np.linspace(0, 1, bins + 1)
    index = np.minimum((values * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(index, values, bins) / counts
        accuracy = np.bincount(index, hits, bins) / counts
    return Reliability(edges, counts, confidence, accuracy)
