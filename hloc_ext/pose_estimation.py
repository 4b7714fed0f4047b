"""Absolute pose from 2D–3D matches, and the tests that decide whether to believe it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pycolmap

from .errors import InputError
from .triangulation import fill_options

ESTIMATORS = ("pycolmap", "poselib")

#: Trials of RANSAC in the search for a rival pose.
RIVAL_TRIALS = 1000

#: Squares in which inliers are counted, along the longest side of the image.
INLIER_CELLS = 20
#: Least number of them for a semi-dense matcher: wrong poses had up to 15 (docs/acceptance.md).
DENSE_MIN_INLIER_CELLS = 16
#: Two poses that differ by less are one and the same, degrees.
SAME_POSE_ANGLE = 10.0


@dataclass
class EstimatorConf:
    """How a pose is estimated and accepted; stored with every result.

    Attributes:
        estimator: ``pycolmap`` (LO-RANSAC with P3P and refinement) or ``poselib`` (the optional package).
        ransac_thresh: largest reprojection error of an inlier, pixels.
        min_inliers: a pose with fewer inliers is rejected.
        min_inlier_ratio: a pose with a smaller share of inliers among its matches is rejected. The
            defaults of this and the other tests were calibrated on poses that are wrong by construction
            (``python -m benchmarks.calibrate_acceptance``, docs/acceptance.md).
        min_inlier_cells: a pose whose inliers lie in fewer squares of a 20th of the image's longest side is
            rejected: neighbouring matches are no independent evidence. For semi-dense matchers use
            :data:`DENSE_MIN_INLIER_CELLS`, as the pipelines do.
        max_viewing_angle: a pose that sees its inlier points from farther away than this, in degrees
            (median), from the map images that matched them is rejected: no surface is matched from
            behind.
        max_rival_share: a pose is rejected as ambiguous if the matches that are not its inliers support
            another pose with more than this share of its inliers: in a symmetric place both may be right,
            and where all matches are wrong both are equally poor.
        refine_focal: refine the focal length of every query.
        seed: seed of the sampling.
        options: further fields of pycolmap's estimation and refinement options, as
            ``{"estimation": {...}, "refinement": {...}}`` (HLOC's ``config``).
    """

    estimator: str = "pycolmap"
    ransac_thresh: float = 12.0
    min_inliers: int = 15
    min_inlier_ratio: float = 0.05
    min_inlier_cells: int = 11
    max_viewing_angle: float = 60.0
    max_rival_share: float = 0.5
    refine_focal: bool = False
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise InputError(f"Unknown estimator '{self.estimator}': use one of {', '.join(ESTIMATORS)}.")
        if self.estimator == "poselib" and (self.refine_focal or self.options):
            raise InputError("`refine_focal` and `options` need the estimator 'pycolmap'.")
        self.version  # noqa: B018 - a missing package is better known before the work

    @property
    def version(self) -> str:
        """Version of the estimator's library."""
        library = _poselib() if self.estimator == "poselib" else pycolmap
        return library.__version__

    def describe(self) -> dict[str, Any]:
        """All settings, with the version of the library."""
        return {**asdict(self), "version": self.version}


@dataclass
class PoseEstimate:
    """A pose and its support.

    Attributes:
        cam_from_world: pose, world→camera.
        inliers: M booleans over the matches.
        reprojection_error: median over the inliers, pixels.
        camera: intrinsics, refined if that was asked for.
        num_cells: squares of the image that hold an inlier, see :func:`inlier_cells`.
    """

    cam_from_world: pycolmap.Rigid3d
    inliers: np.ndarray
    reprojection_error: float
    camera: pycolmap.Camera
    num_cells: int

    @property
    def num_inliers(self) -> int:
        """Number of inliers."""
        return int(self.inliers.sum())


def reprojection_errors(
    cam_from_world: pycolmap.Rigid3d, camera: pycolmap.Camera, points2D: np.ndarray, points3D: np.ndarray
) -> np.ndarray:
    """Distance of observed and projected points.

    Args:
        cam_from_world: pose, world→camera.
        camera: intrinsics.
        points2D: M×2 pixels, COLMAP's origin (top-left pixel centre at (0.5, 0.5)).
        points3D: M×3, world frame.

    Returns:
        M distances in pixels, infinite behind the camera.
    """
    in_camera = cam_from_world * points3D
    projected = np.asarray(camera.img_from_cam(in_camera), float).reshape(-1, 2)
    errors = np.linalg.norm(projected - points2D, axis=1)
    return np.where((in_camera[:, 2] > 0) & np.isfinite(errors), errors, np.inf)


def inlier_cells(points2D: np.ndarray, camera: pycolmap.Camera) -> int:
    """Number of squares, of a 20th of the image's longest side, that hold points; points2D: M×2 pixels."""
    side = max(camera.width, camera.height) / INLIER_CELLS
    return len(np.unique(np.floor(points2D / side), axis=0))


def estimate_pose(
    points2D: np.ndarray,
    points3D: np.ndarray,
    camera: pycolmap.Camera,
    conf: EstimatorConf,
    focal_unknown: bool = False,
) -> PoseEstimate | None:
    """Estimate a camera pose robustly.

    Args:
        points2D: M×2 pixels, COLMAP's origin (top-left pixel centre at (0.5, 0.5)).
        points3D: M×3, world frame.
        camera: intrinsics; not modified.
        conf: estimator and thresholds.
        focal_unknown: the focal length is a guess: estimate it too.

    Returns:
        The pose, or None if none was found. The acceptance tests are not applied; see `rejection`.
    """
    if len(points2D) < 3:
        return None
    camera = copy.copy(camera)
    if conf.estimator == "poselib":
        if focal_unknown:
            raise InputError("An unknown focal length needs the estimator 'pycolmap'.")
        found = _estimate_poselib(points2D, points3D, camera, conf)
    else:
        found = _estimate_pycolmap(points2D, points3D, camera, conf, focal_unknown)
    if found is None:
        return None
    pose, inliers = found
    errors = reprojection_errors(pose, camera, points2D, points3D)
    median = float(np.median(errors[inliers])) if inliers.any() else float("inf")
    return PoseEstimate(pose, inliers, median, camera, inlier_cells(points2D[inliers], camera))


def rival_inliers(
    estimate: PoseEstimate,
    points2D: np.ndarray,
    points3D: np.ndarray,
    camera: pycolmap.Camera,
    conf: EstimatorConf,
) -> int:
    """Inliers of the best other pose for the matches that are not inliers of `estimate`.

    A pose that looks in nearly the same direction from nearly the same place (`SAME_POSE_ANGLE`) is no
    rival: its matches are less exact, not of another place. The search is shortened to `RIVAL_TRIALS`
    trials, and skipped (0) where the rest is too small to hold more than the allowed share.
    """
    rest = ~estimate.inliers
    if rest.sum() <= conf.max_rival_share * estimate.num_inliers:
        return 0
    estimation = {**conf.options.get("estimation", {})}
    estimation["ransac"] = {**estimation.get("ransac", {}), "max_num_trials": RIVAL_TRIALS}
    short = replace(conf, estimator="pycolmap", options={**conf.options, "estimation": estimation})
    rival = estimate_pose(points2D[rest], points3D[rest], camera, short)
    if rival is None or _is_same_pose(estimate, rival, points3D[estimate.inliers]):
        return 0
    return rival.num_inliers


def _is_same_pose(first: PoseEstimate, second: PoseEstimate, points3D: np.ndarray) -> bool:
    """Whether two poses differ by less than `SAME_POSE_ANGLE`, in rotation and as seen from the points."""
    turned = first.cam_from_world.rotation.inverse() * second.cam_from_world.rotation
    centers = (e.cam_from_world.inverse().translation for e in (first, second))
    angle = np.median(angles_between(*(center - points3D for center in centers)))
    return max(np.degrees(turned.angle()), angle) < SAME_POSE_ANGLE


def angles_between(vectors0: np.ndarray, vectors1: np.ndarray) -> np.ndarray:
    """Angles, in degrees, between the rows of two M×3 arrays."""
    cross = np.linalg.norm(np.cross(vectors0, vectors1), axis=1)
    return np.degrees(np.arctan2(cross, np.sum(vectors0 * vectors1, axis=1)))


def _estimate_pycolmap(
    points2D: np.ndarray,
    points3D: np.ndarray,
    camera: pycolmap.Camera,
    conf: EstimatorConf,
    focal_unknown: bool,
) -> tuple[pycolmap.Rigid3d, np.ndarray] | None:
    estimation = pycolmap.AbsolutePoseEstimationOptions()
    estimation.ransac.max_error = conf.ransac_thresh
    estimation.ransac.random_seed = conf.seed
    estimation.estimate_focal_length = focal_unknown
    refinement = pycolmap.AbsolutePoseRefinementOptions()
    refinement.refine_focal_length = conf.refine_focal or focal_unknown
    fill_options(estimation, conf.options.get("estimation", {}))
    fill_options(refinement, conf.options.get("refinement", {}))
    result = pycolmap.estimate_and_refine_absolute_pose(points2D, points3D, camera, estimation, refinement)
    if result is None:
        return None
    return result["cam_from_world"], np.asarray(result["inlier_mask"], bool)


def _poselib() -> Any:
    try:
        import poselib
    except ModuleNotFoundError:
        raise InputError("The estimator 'poselib' needs the package: `pip install poselib`.") from None
    return poselib


def _estimate_poselib(
    points2D: np.ndarray, points3D: np.ndarray, camera: pycolmap.Camera, conf: EstimatorConf
) -> tuple[pycolmap.Rigid3d, np.ndarray] | None:
    description = {
        "model": camera.model.name,
        "width": camera.width,
        "height": camera.height,
        "params": camera.params.tolist(),
    }
    options: Mapping[str, Any] = {"max_reproj_error": conf.ransac_thresh, "seed": conf.seed}
    pose, info = _poselib().estimate_absolute_pose(points2D, points3D, description, options, {})
    inliers = np.asarray(info["inliers"], bool)
    if inliers.sum() < 3:
        return None
    w, x, y, z = pose.q
    return pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([x, y, z, w])), np.asarray(pose.t)), inliers


def rejection(
    estimate: PoseEstimate | None,
    num_matches: int,
    conf: EstimatorConf,
    viewing_angle: float | None = None,
    num_rival_inliers: int = 0,
) -> str:
    """Why a pose must not be believed, in words; empty if it passes the tests.

    Args:
        estimate: the pose, or None if the estimation failed.
        num_matches: 2D–3D matches given to the estimator.
        conf: thresholds.
        viewing_angle: median angle under which query and map images see the inlier points, degrees.
        num_rival_inliers: inliers of the best pose for the remaining matches, see `rival_inliers`.
    """
    if num_matches == 0:
        return "no 2D-3D matches"
    if estimate is None:
        return f"no pose found from {num_matches} 2D-3D matches"
    if estimate.num_inliers < conf.min_inliers:
        return f"{estimate.num_inliers} inliers, fewer than {conf.min_inliers}"
    ratio = estimate.num_inliers / num_matches
    if ratio < conf.min_inlier_ratio:
        return f"inlier ratio {ratio:.3f}, less than {conf.min_inlier_ratio}"
    if estimate.num_cells < conf.min_inlier_cells:
        return (
            f"{estimate.num_inliers} inliers close together: in {estimate.num_cells} squares of a"
            f" {INLIER_CELLS}th of the image, fewer than {conf.min_inlier_cells}"
        )
    if viewing_angle is not None and viewing_angle > conf.max_viewing_angle:
        return f"sees its points from {viewing_angle:.0f}° away from the map images that matched them"
    if num_rival_inliers > conf.max_rival_share * estimate.num_inliers:
        return f"ambiguous: {estimate.num_inliers} inliers, another pose has {num_rival_inliers}"
    return ""
