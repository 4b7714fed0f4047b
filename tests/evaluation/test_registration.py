"""Corner errors, overlap of classes and similarity rate of registrations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hloc_ext.errors import InputError
from hloc_ext.evaluation.registration import (
    class_iou,
    mean_average_corner_error,
    registration_error,
    similarity_rate,
    success_rate,
)


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def test_error_in_pixels_metres_and_of_the_diagonal() -> None:
    error = registration_error(shift(3, 4), np.eye(3), (301, 401), pixel_size=0.5)
    assert (error.pixels, error.metres) == (pytest.approx(5.0), pytest.approx(2.5))
    assert error.diagonal == pytest.approx(5 / 500)
    assert error.success


def test_the_diagonal_is_that_of_the_image_in_the_map() -> None:
    twice = np.diag([2.0, 2.0, 1.0])
    error = registration_error(shift(30, 40) @ twice, twice, (301, 401))
    assert error.diagonal == pytest.approx(50 / 1000)
    assert math.isnan(error.metres)
    assert not error.success


def test_success_is_below_three_percent() -> None:
    errors = [
        registration_error(shift(x, 0), np.eye(3), (301, 401)) for x in (14.99, 15.01)
    ]  # 3 % of a diagonal of 500 are 15 pixels
    assert [error.success for error in errors] == [True, False]
    assert success_rate(errors) == 0.5
    assert math.isnan(success_rate([]))


def test_no_result_is_infinitely_wrong_and_counts_as_uncorrected_in_the_mean() -> None:
    error = registration_error(None, np.eye(3), (301, 401))
    assert error.pixels == error.diagonal == math.inf
    assert not error.success
    assert mean_average_corner_error([1.0, math.inf], [10.0, 7.0]) == 4.0
    with pytest.raises(InputError, match="before"):
        mean_average_corner_error([1.0], [math.inf])


def test_iou_by_hand() -> None:
    a = np.array([[1, 1, 3, 3], [1, 1, 0, 255]])
    b = np.array([[1, 3, 3, 3], [1, 1, 0, 3]])
    iou = class_iou(a, b)
    np.testing.assert_allclose(iou[[0, 1, 3]], [1.0, 3 / 4, 2 / 3])
    assert np.isnan(iou[[2, 4, 5]]).all()


def test_iou_refuses_other_sizes_and_classes() -> None:
    with pytest.raises(InputError, match="sizes"):
        class_iou(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(InputError, match="between 0 and 5"):
        class_iou(np.full((2, 2), 7), np.zeros((2, 2), int))


def test_similarity_rate_by_hand() -> None:
    attainable = np.array([1.0, 0.8, np.nan, 0.9, 0.0, np.nan])
    # Road: half of what can be had. Building: 0.5 % below it, within the tolerance.
    after = np.array([0.2, 0.4, np.nan, 0.8955, 0.3, np.nan])
    assert similarity_rate(after, attainable) == pytest.approx((0.4 / (0.99 * 0.8) + 1) / 2)
    after[3] = np.nan
    assert similarity_rate(after, attainable) == pytest.approx(0.4 / (0.99 * 0.8) / 2)
    assert math.isnan(similarity_rate(after, np.full(6, np.nan)))
    with pytest.raises(InputError, match="classes"):
        similarity_rate([1.0], attainable)
