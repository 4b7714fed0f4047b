"""Corner errors of homographies, and their area under the curve."""

from __future__ import annotations

import numpy as np
import pytest

from hloc_ext.errors import InputError
from hloc_ext.evaluation.homography import corner_error, transform_points
from hloc_ext.evaluation.metrics import pose_auc


def test_points_of_a_homography_and_an_affine_map() -> None:
    homography = np.array([[2, 0, 1], [0, 2, 3], [0.5, 0, 1]])
    np.testing.assert_allclose(transform_points(homography, np.array([[2.0, 4.0]])), [[2.5, 5.5]])
    np.testing.assert_allclose(transform_points(homography[:2], np.array([[2.0, 4.0]])), [[5.0, 11.0]])
    assert np.isinf(transform_points(homography, np.array([[-2.0, 4.0]]))).all()


def test_corner_error_of_a_shift_and_a_scale() -> None:
    shift = np.array([[1, 0, 3], [0, 1, 4], [0, 0, 1.0]])
    assert corner_error(shift, np.eye(3), (640, 480)) == pytest.approx(5.0)
    assert corner_error(shift[:2], np.eye(3), (640, 480)) == pytest.approx(5.0)
    # Twice the scale moves each corner by its distance from the origin: 0, 30, 50, 40.
    assert corner_error(np.diag([2, 2, 1.0]), np.eye(3), (31, 41)) == pytest.approx(30.0)


def test_no_estimate_is_infinitely_wrong() -> None:
    assert corner_error(None, np.eye(3), (640, 480)) == np.inf
    assert corner_error(np.full((3, 3), np.nan), np.eye(3), (640, 480)) == np.inf


def test_true_homography_that_ends_at_infinity() -> None:
    with pytest.raises(InputError, match="infinity"):
        corner_error(np.eye(3), np.array([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1]]), (11, 11))


def test_area_under_the_curve_of_corner_errors() -> None:
    # Recall rises from (0, 0) to (1, 0.5) and (2, 1), or stays: by hand.
    assert pose_auc([1.0, 2.0], [4]) == pytest.approx([(0.25 + 0.75 + 2) / 4])
    assert pose_auc([1.0, np.inf], [2]) == pytest.approx([(0.25 + 0.5) / 2])
    assert pose_auc([np.inf], [3, 5, 10]) == [0, 0, 0]
