"""Error of the pose of one camera relative to another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def relative_pose_error(
    estimated: tuple[Floats, Floats] | None, true: tuple[Floats, Floats]
) -> tuple[float, float]:
    """Angles between an estimated and a true relative pose, which has no scale.

    Args:
        estimated: rotation 3×3 and translation (3,), camera 0 → camera 1; None where none was found.
        true: the same. The length of the translations does not matter, their sign does.

    Returns:
        Angle of the relative rotation and angle between the translations, degrees (0 to 180); both infinite
        without an estimate.
    """
    if estimated is None:
        return float("inf"), float("inf")
    relative = estimated[0] @ true[0].T
    # |R - I| = 2 √2 sin(angle / 2) keeps the precision of small angles, which the cosine loses.
    chord = np.linalg.norm(relative - np.eye(3)) / (2 * np.sqrt(2))
    rotation = 2 * np.arcsin(min(chord, 1.0))
    first, second = (np.asarray(pose[1], float).ravel() for pose in (estimated, true))
    translation = np.arctan2(np.linalg.norm(np.cross(first, second)), first @ second)
    return float(np.degrees(rotation)), float(np.degrees(translation))
