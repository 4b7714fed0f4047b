"""Error of one camera pose, and the area under a recall curve."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pycolmap

from ..errors import InputError


def _unit_quaternion(pose: pycolmap.Rigid3d, name: str) -> np.ndarray:
    quat = np.asarray(pose.rotation.quat, float)
    norm = float(np.linalg.norm(quat))
    if not (np.isfinite(norm) and np.isfinite(pose.translation).all() and abs(norm - 1) < 1e-3):
        raise InputError(
            f"The pose of '{name}' is not a rigid motion: quaternion (x, y, z, w) {quat.tolist()},"
            f" translation {np.asarray(pose.translation).tolist()}. A query without a pose must be left out."
        )
    return quat / norm


def pose_error(
    estimated: pycolmap.Rigid3d, true: pycolmap.Rigid3d, name: str = "query"
) -> tuple[float, float]:
    """Position and rotation error of one pose.

    Args:
        estimated: pose, world→camera.
        true: pose, world→camera.
        name: the image, for the error message.

    Returns:
        Distance of the camera centres, in map units, and angle of the relative rotation, in degrees
        (0 to 180; by atan2 of the quaternion, so small angles keep their precision).

    Raises:
        InputError: a pose is not finite, or its quaternion is not a unit one.
    """
    rotations = [pycolmap.Rotation3d(_unit_quaternion(pose, name)) for pose in (estimated, true)]
    centers = [
        rotation.inverse() * -np.asarray(pose.translation)
        for rotation, pose in zip(rotations, (estimated, true), strict=True)
    ]
    relative = (rotations[0] * rotations[1].inverse()).quat
    angle = 2 * np.arctan2(np.linalg.norm(relative[:3]), abs(relative[3]))
    return float(np.linalg.norm(centers[0] - centers[1])), float(np.degrees(angle))


def pose_auc(errors: Iterable[float], thresholds: Iterable[float]) -> list[float]:
    """Area under the curve of recall over error, up to each threshold, divided by the threshold.

    The definition is that of SuperGlue (Sarlin et al., CVPR 2020) and of the image matching
    literature after it: recall i/n at the i-th smallest error, joined by straight lines from (0, 0).

    Args:
        errors: one per query, in any unit; infinite for a query without pose.
        thresholds: positive, in the unit of the errors.

    Returns:
        One value from 0 to 1 per threshold.

    Raises:
        InputError: no errors, or one is NaN.
    """
    ordered = np.sort(np.asarray(list(errors), float))
    if not len(ordered) or np.isnan(ordered).any():
        raise InputError("The area under the recall curve needs at least one error, and none that is NaN.")
    recall = np.arange(len(ordered) + 1) / len(ordered)
    ordered = np.concatenate([[0.0], ordered])
    areas = []
    for threshold in thresholds:
        last = int(np.searchsorted(ordered, threshold))
        x = np.append(ordered[:last], threshold)
        y = np.append(recall[:last], recall[last - 1])
        areas.append(float(np.trapezoid(y, x) / threshold))
    return areas
