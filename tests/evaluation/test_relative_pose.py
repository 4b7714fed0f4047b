"""Angles between relative poses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hloc_ext.evaluation.relative_pose import relative_pose_error


@pytest.mark.parametrize("angle", [1e-5, 3.0, 120.0, 180.0])
def test_angle_of_the_rotation(angle: float) -> None:
    true = Rotation.from_euler("xyz", [10, 20, 30], degrees=True)
    estimated = Rotation.from_rotvec([0, np.radians(angle), 0]) * true
    shift = np.array([1.0, 2.0, 3.0])
    errors = relative_pose_error((estimated.as_matrix(), shift), (true.as_matrix(), shift))
    assert errors[0] == pytest.approx(angle, rel=1e-4)
    assert errors[1] == pytest.approx(0, abs=1e-6)


def test_angle_of_the_translation_does_not_depend_on_its_length() -> None:
    errors = relative_pose_error((np.eye(3), np.array([0, 5.0, 0])), (np.eye(3), np.array([0.1, 0.1, 0])))
    assert errors == pytest.approx((0, 45))


def test_opposite_translation_is_wrong() -> None:
    errors = relative_pose_error((np.eye(3), np.array([0, 0, -1.0])), (np.eye(3), np.array([0, 0, 1.0])))
    assert errors == pytest.approx((0, 180))


def test_no_estimate() -> None:
    assert relative_pose_error(None, (np.eye(3), np.ones(3))) == (np.inf, np.inf)
