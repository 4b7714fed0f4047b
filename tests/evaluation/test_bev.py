"""IoU of class maps, by hand and by a loop over the classes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hloc_ext.errors import InputError
from hloc_ext.evaluation.bev import confusion_matrix, segmentation_scores


def test_scores_by_hand() -> None:
    label = [[0, 0, 1], [1, 1, 255]]
    predicted = [[0, 1, 1], [1, 0, 2]]
    confusion = confusion_matrix(predicted, label, 4)
    expected = np.zeros((4, 4), int)
    expected[0, 0], expected[0, 1], expected[1, 1], expected[1, 0] = 1, 1, 2, 1
    np.testing.assert_array_equal(confusion, expected)
    scores = segmentation_scores(confusion)
    np.testing.assert_allclose(scores.iou, [1 / 3, 2 / 4, math.nan, math.nan])
    assert scores.mean_iou == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert scores.accuracy == pytest.approx(3 / 5)
    np.testing.assert_allclose(scores.frequency, [0.4, 0.6, 0, 0])
    assert scores.by_name(["other", "road", "sidewalk", "building"]) == pytest.approx(
        {"other": 1 / 3, "road": 1 / 2}
    )


def test_a_class_that_is_only_predicted_has_an_iou_and_is_not_in_the_mean() -> None:
    scores = segmentation_scores(confusion_matrix([0, 2], [0, 0], 3))
    np.testing.assert_allclose(scores.iou, [0.5, math.nan, 0])
    assert scores.mean_iou == 0.5


def test_scores_are_those_of_sets() -> None:
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(0, 5, (2, 3, 20, 30))
    label[rng.random(label.shape) < 0.2] = 255
    total = sum(confusion_matrix(p, t, 5) for p, t in zip(predicted, label, strict=True))
    counted = label != 255
    expected = [
        (counted & (label == k) & (predicted == k)).sum()
        / (counted & ((label == k) | (predicted == k))).sum()
        for k in range(5)
    ]
    np.testing.assert_allclose(segmentation_scores(total).iou, expected)


def test_nothing_to_count() -> None:
    scores = segmentation_scores(confusion_matrix([1], [255], 2))
    assert math.isnan(scores.mean_iou) and math.isnan(scores.accuracy)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="resize"):
        confusion_matrix(np.zeros((4, 4)), np.zeros((2, 2)), 3)
    with pytest.raises(InputError, match="0 to 2"):
        confusion_matrix([0], [3], 3)
    with pytest.raises(InputError, match="predicted classes"):
        confusion_matrix([-1], [0], 3)
