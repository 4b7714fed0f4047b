"""Reliability diagrams."""

from __future__ import annotations

import numpy as np
import pytest

from hloc_ext.errors import InputError
from hloc_ext.evaluation.calibration import reliability


def test_counts_confidence_and_accuracy() -> None:
    found = reliability([0.1, 0.2, 0.9, 1.0], [False, True, True, True], bins=2)
    np.testing.assert_allclose(found.edges, [0, 0.5, 1])
    np.testing.assert_array_equal(found.counts, [2, 2])
    np.testing.assert_allclose(found.confidence, [0.15, 0.95])
    np.testing.assert_allclose(found.accuracy, [0.5, 1.0])
    assert found.expected_calibration_error == pytest.approx((0.35 + 0.05) / 2)


def test_scores_that_are_probabilities_have_no_error() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, 200_000)
    found = reliability(scores, rng.uniform(0, 1, 200_000) < scores)
    assert found.expected_calibration_error < 0.01


def test_empty_bins_do_not_count() -> None:
    found = reliability([0.95], [True])
    assert np.isnan(found.accuracy[0])
    assert found.expected_calibration_error == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("scores", "correct"), [([], []), ([0.5], [True, False]), ([1.5], [True]), ([np.nan], [True])]
)
def test_wrong_input(scores: list[float], correct: list[bool]) -> None:
    with pytest.raises(InputError):
        reliability(scores, correct)
