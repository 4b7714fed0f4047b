"""Absolute pose estimation and its acceptance tests."""

from __future__ import annotations

import builtins

import numpy as np
import pycolmap
import pytest

from hloc_ext.errors import InputError
from hloc_ext.pose_estimation import (
    EstimatorConf,
    PoseEstimate,
    estimate_pose,
    inlier_cells,
    rejection,
    reprojection_errors,
    rival_inliers,
)

CAMERA = pycolmap.Camera(model="SIMPLE_RADIAL", width=640, height=480, params=[500, 320, 240, 0.02])
POSE = pycolmap.Rigid3d(
    pycolmap.Rotation3d(np.array([0.1, -0.2, 0.05, 0.97]) / np.linalg.norm([0.1, -0.2, 0.05, 0.97])),
    np.array([0.3, -0.1, 0.5]),
)


def make_matches(num_inliers: int = 60, num_outliers: int = 30, noise: float = 0.5, seed: int = 0):
    """M×2 pixels and M×3 points seen from POSE, the outliers last."""
    rng = np.random.default_rng(seed)
    number = num_inliers + num_outliers
    in_camera = np.column_stack([rng.uniform(-1, 1, (number, 2)), np.ones(number)])
    in_camera *= rng.uniform(2, 6, (number, 1))
    points2D = CAMERA.img_from_cam(in_camera) + noise * rng.standard_normal((number, 2))
    points2D[num_inliers:] = rng.uniform(0, 480, (num_outliers, 2))
    return points2D, POSE.inverse() * in_camera


def errors(pose: pycolmap.Rigid3d) -> tuple[float, float]:
    """Distance of the centres, and angle in degrees."""
    difference = pose * POSE.inverse()
    angle = np.rad2deg(difference.rotation.angle())
    return float(np.linalg.norm(pose.inverse().translation - POSE.inverse().translation)), float(angle)


@pytest.fixture(params=["pycolmap", "poselib"])
def conf(request) -> EstimatorConf:
    if request.param == "poselib":
        pytest.importorskip("poselib", reason="the optional package poselib is not installed")
    return EstimatorConf(request.param, ransac_thresh=4)


def test_finds_the_pose_and_the_inliers(conf):
    points2D, points3D = make_matches()
    estimate = estimate_pose(points2D, points3D, CAMERA, conf)
    assert estimate is not None
    position, angle = errors(estimate.cam_from_world)
    assert position < 0.02 and angle < 0.3
    assert estimate.inliers[:60].all() and estimate.inliers[60:].sum() <= 2
    assert estimate.num_inliers == estimate.inliers.sum()
    # Median distance of Gaussian noise of 0.5 px in two dimensions: 0.5 · √(2 ln 2).
    assert estimate.reprojection_error == pytest.approx(0.59, abs=0.12)
    np.testing.assert_array_equal(estimate.camera.params, CAMERA.params)
    assert rejection(estimate, len(points2D), conf) == ""


def test_exact_matches_give_the_exact_pose(conf):
    points2D, points3D = make_matches(20, 0, noise=0)
    estimate = estimate_pose(points2D, points3D, CAMERA, conf)
    np.testing.assert_allclose(estimate.cam_from_world.matrix(), POSE.matrix(), atol=1e-6)
    assert estimate.reprojection_error < 1e-4


def test_the_seed_decides(conf):
    points2D, points3D = make_matches(20, 200)
    poses = [estimate_pose(points2D, points3D, CAMERA, conf).cam_from_world.matrix() for _ in range(2)]
    np.testing.assert_array_equal(*poses)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_too_few_matches_give_no_pose(conf, number):
    points2D, points3D = make_matches(number, 0)
    assert estimate_pose(points2D, points3D, CAMERA, conf) is None


def test_random_matches_are_rejected(conf):
    for seed in range(5):
        points2D, points3D = make_matches(0, 60, seed=seed)
        estimate = estimate_pose(points2D, points3D, CAMERA, conf)
        assert rejection(estimate, 60, conf) != ""


@pytest.mark.parametrize("guess", [300.0, 768.0])
def test_an_unknown_focal_length_is_estimated(guess):
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=640, height=480, params=[guess, 320, 240, 0.02])
    points2D, points3D = make_matches(100, 40)
    estimate = estimate_pose(points2D, points3D, camera, EstimatorConf(), focal_unknown=True)
    assert estimate.camera.params[0] == pytest.approx(500, rel=0.02)
    assert errors(estimate.cam_from_world)[0] < 0.1
    assert camera.params[0] == guess, "the given camera is not changed"


def test_a_focal_length_is_refined():
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=640, height=480, params=[515, 320, 240, 0.02])
    points2D, points3D = make_matches(100, 10)
    fixed = estimate_pose(points2D, points3D, camera, EstimatorConf())
    refined = estimate_pose(points2D, points3D, camera, EstimatorConf(refine_focal=True))
    assert fixed.camera.params[0] == 515
    assert refined.camera.params[0] == pytest.approx(500, abs=2)
    assert refined.reprojection_error < 0.75 * fixed.reprojection_error


def test_options_reach_pycolmap():
    points2D, points3D = make_matches(noise=3)
    options = {"estimation": {"ransac": {"max_error": 1.0}}, "refinement": {"refine_focal_length": True}}
    wide = estimate_pose(points2D, points3D, CAMERA, EstimatorConf())
    narrow = estimate_pose(points2D, points3D, CAMERA, EstimatorConf(options=options))
    assert narrow.num_inliers < wide.num_inliers
    assert narrow.camera.params[0] != 500
    with pytest.raises(InputError, match="has no 'max_eror'"):
        estimate_pose(
            points2D,
            points3D,
            CAMERA,
            EstimatorConf(options={"estimation": {"ransac": {"max_eror": 1.0}}}),
        )


def test_reprojection_errors():
    points = np.array([[0, 0, 2], [0, 0, -2], [0.2, 0, 1]])
    world = POSE.inverse() * points
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=640, height=480, params=[100, 320, 240])
    observed = np.array([[323.0, 244.0], [320, 240], [340, 240]])
    np.testing.assert_allclose(reprojection_errors(POSE, camera, observed, world), [5, np.inf, 0], atol=1e-9)
    assert reprojection_errors(POSE, camera, np.zeros((0, 2)), np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("share, ambiguous", [(0.3, False), (0.8, True)])
def test_a_second_pose_with_much_support_makes_the_first_ambiguous(share, ambiguous, conf):
    points2D, points3D = make_matches(100, 0)
    number = int(100 * share)
    others2D, others3D = make_matches(number, 0, seed=1)
    other = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0, 0.3, 0])), np.array([2.0, 0, 1]))
    points2D, points3D = np.concatenate([points2D, others2D]), np.concatenate([points3D, other * others3D])
    estimate = estimate_pose(points2D, points3D, CAMERA, conf)
    assert estimate.inliers[:100].all() and errors(estimate.cam_from_world)[0] < 0.02
    rival = rival_inliers(estimate, points2D, points3D, CAMERA, conf)
    # Not searched for where it cannot matter.
    assert rival == (pytest.approx(number, abs=2) if ambiguous else 0)
    reason = rejection(estimate, len(points2D), conf, 0.0, rival)
    assert reason == (
        f"ambiguous: {estimate.num_inliers} inliers, another pose has {rival}" if ambiguous else ""
    )


def test_rejections_say_why():
    conf = EstimatorConf(min_inliers=10, min_inlier_ratio=0.2, min_inlier_cells=8)

    def estimate(inliers: int, number: int, cells: int = 8) -> PoseEstimate:
        return PoseEstimate(POSE, np.arange(number) < inliers, 1.0, CAMERA, cells)

    assert rejection(None, 0, conf) == "no 2D-3D matches"
    assert rejection(None, 5, conf) == "no pose found from 5 2D-3D matches"
    assert rejection(estimate(9, 20), 20, conf) == "9 inliers, fewer than 10"
    assert rejection(estimate(10, 51), 51, conf) == "inlier ratio 0.196, less than 0.2"
    assert rejection(estimate(10, 50), 50, conf) == ""
    assert rejection(estimate(30, 50, cells=7), 50, conf) == (
        "30 inliers close together: in 7 squares of a 20th of the image, fewer than 8"
    )
    assert rejection(estimate(10, 50), 50, conf, viewing_angle=59) == ""
    assert rejection(estimate(10, 50), 50, conf, viewing_angle=61).startswith("sees its points from 61°")


def test_inliers_are_counted_once_per_square():
    side = max(CAMERA.width, CAMERA.height) / 20
    corners = side * np.array([[0, 0], [0.99, 0.99], [1.01, 0.5], [1.5, 3.5], [1.6, 3.9]])
    assert inlier_cells(corners, CAMERA) == 3
    assert inlier_cells(corners[:0], CAMERA) == 0
    points2D, points3D = make_matches(100, 0)
    estimate = estimate_pose(points2D, points3D, CAMERA, EstimatorConf())
    assert estimate.num_cells == inlier_cells(points2D[estimate.inliers], CAMERA) > 30


def test_settings_are_checked():
    with pytest.raises(InputError, match="Unknown estimator 'opencv'"):
        EstimatorConf("opencv")
    with pytest.raises(InputError, match="need the estimator 'pycolmap'"):
        EstimatorConf("poselib", refine_focal=True)


def test_poselib_estimates_no_focal_length():
    pytest.importorskip("poselib", reason="the optional package poselib is not installed")
    points2D, points3D = make_matches()
    with pytest.raises(InputError, match="unknown focal length needs the estimator 'pycolmap'"):
        estimate_pose(points2D, points3D, CAMERA, EstimatorConf("poselib"), focal_unknown=True)


def test_a_missing_poselib_is_said_at_once(monkeypatch):
    original = builtins.__import__

    def without_poselib(name, *args, **kwargs):
        if name == "poselib":
            raise ModuleNotFoundError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_poselib)
    with pytest.raises(InputError, match="pip install poselib"):
        EstimatorConf("poselib")


def test_description_holds_all_settings():
    described = EstimatorConf(ransac_thresh=5, seed=3).describe()
    assert described["estimator"] == "pycolmap" and described["version"] == pycolmap.__version__
    assert (described["ransac_thresh"], described["seed"], described["min_inliers"]) == (5, 3, 15)
