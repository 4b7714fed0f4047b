"""Pose errors, recalls, AUC, names and alignment, against values worked out by hand."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import pycolmap
import pytest

from hloc_ext.errors import InputError, MissingInputError, ReconstructionError
from hloc_ext.evaluation import align_to, evaluate, format_table, match_names, pose_auc, pose_error
from hloc_ext.evaluation.poses import cli, parse_threshold, read_results
from hloc_ext.formats.colmap import registered_poses
from hloc_ext.formats.results import QueryResult, Status, write_log, write_poses


def rotation(axis, degrees: float) -> pycolmap.Rotation3d:
    return pycolmap.Rotation3d(np.radians(degrees) * np.array(axis, float))


def pose_at(center, axis=(0, 0, 1), degrees: float = 0.0) -> pycolmap.Rigid3d:
    turned = rotation(axis, degrees)
    return pycolmap.Rigid3d(turned, -(turned * np.array(center, float)))


def result(name: str, status: Status, pose: pycolmap.Rigid3d | None) -> QueryResult:
    made = QueryResult(name, status)
    if pose is not None:
        made.set_pose(pose)
    return made


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(0)
    return pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(num_points3D=20))


def test_position_error_is_the_distance_of_centres_not_of_translations():
    estimated, true = pose_at((1, 2, 3), degrees=90), pose_at((1, 2, 7))
    assert np.linalg.norm(estimated.translation - true.translation) != pytest.approx(4)
    assert pose_error(estimated, true) == pytest.approx((4.0, 90.0))


@pytest.mark.parametrize("degrees", [0.0, 1e-9, 1e-5, 1e-3, 1.0, 90.0, 179.999, 180.0])
def test_rotation_error_keeps_precision(degrees):
    true = pose_at((0, 0, 0), axis=(0.6, 0, 0.8), degrees=33)
    estimated = pycolmap.Rigid3d(rotation((0.6, 0, 0.8), 33 + degrees), np.zeros(3))
    assert pose_error(estimated, true)[1] == pytest.approx(degrees, rel=1e-6, abs=1e-12)


def test_opposite_quaternions_are_the_same_rotation():
    pose = pose_at((1, 0, 0), axis=(1, 0, 0), degrees=40)
    negative = pycolmap.Rigid3d(pycolmap.Rotation3d(-pose.rotation.quat), pose.translation)
    assert pose_error(negative, pose) == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("quat", [(0, 0, 0, 0), (0, 0, 0, 2), (0, 0, 0, math.nan)])
def test_a_pose_that_is_no_rigid_motion_is_named(quat):
    bad = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array(quat, float)), np.zeros(3))
    with pytest.raises(InputError, match=r"pose of 'night/1\.jpg' is not a rigid motion"):
        evaluate({"night/1.jpg": bad}, {"night/1.jpg": pose_at((0, 0, 0))})


def test_auc_follows_the_published_definition():
    # Points of the curve: (0, 0), (1, 1/4), (2, 2/4), (4, 3/4); one query has no pose.
    errors = [2.0, math.inf, 1.0, 4.0]
    up_to_two = 0.125 + 0.25  # the point at 2 itself lies on the threshold and does not count yet
    up_to_five = 0.125 + 0.375 + 2 * 0.625 + 0.75
    assert pose_auc(errors, [2, 5]) == pytest.approx([up_to_two / 2, up_to_five / 5])
    assert pose_auc([0.0, 0.0], [1]) == [1.0]
    assert pose_auc([math.inf], [1, 10]) == [0.0, 0.0]
    with pytest.raises(InputError, match="NaN"):
        pose_auc([math.nan], [1])
    with pytest.raises(InputError, match="at least one error"):
        pose_auc([], [1])


@pytest.fixture
def truth() -> dict[str, pycolmap.Rigid3d]:
    return {f"query/{i}.jpg": pose_at((0, 0, 0)) for i in range(5)}


@pytest.fixture
def results() -> list[QueryResult]:
    return [
        result("query/0.jpg", Status.LOCALIZED, pose_at((0.1, 0, 0), degrees=1)),
        result("query/1.jpg", Status.LOCALIZED, pose_at((0, 0.4, 0), degrees=1)),
        result("query/2.jpg", Status.LOCALIZED, pose_at((0, 0, 100), degrees=1)),
        result("query/3.jpg", Status.FALLBACK, pose_at((3, 0, 0), degrees=9)),
        result("query/4.jpg", Status.FAILED, None),
    ]


def test_fallback_counts_in_the_recall_and_never_as_localized(results, truth):
    evaluation = evaluate(results, truth)
    assert evaluation.counts == {"localized": 3, "fallback": 1, "failed": 1, "unrecorded": 0}
    assert evaluation.recall == pytest.approx([1 / 5, 2 / 5, 3 / 5])
    assert evaluation.recall_localized == pytest.approx([1 / 5, 2 / 5, 2 / 5])
    assert evaluation.precision_localized == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert evaluation.medians == pytest.approx((3.0, 1.0))
    assert evaluation.medians_localized == pytest.approx((0.4, 1.0))
    assert evaluation.errors["query/4.jpg"].position == math.inf


def test_thresholds_are_inclusive_and_need_both_errors(truth):
    results = [
        result("query/0.jpg", Status.LOCALIZED, pose_at((0.5, 0, 0))),
        result("query/1.jpg", Status.LOCALIZED, pose_at((0.1, 0, 0), degrees=30)),
    ]
    assert evaluate(results, truth, [(0.5, 2), (0.4999, 2)]).recall == [0.5, 0.0]


@pytest.mark.parametrize("thresholds", [[], [(0.0, 1.0)], [(1.0, -1.0)], [(math.nan, 1.0)]])
def test_bad_thresholds(results, truth, thresholds):
    with pytest.raises(InputError, match="positive position"):
        evaluate(results, truth, thresholds)


def test_queries_without_a_result_are_failed(results, truth):
    evaluation = evaluate(results[:2], truth, queries=list(truth))
    assert evaluation.counts["failed"] == 3
    assert evaluation.recall == pytest.approx([1 / 5, 2 / 5, 2 / 5])
    assert evaluation.medians == (math.inf, math.inf)
    with pytest.raises(InputError, match=r"does not hold 'query/1\.jpg'"):
        evaluate(results[:2], truth, queries=["query/0.jpg"])


def test_poses_of_a_file_have_no_status(truth):
    evaluation = evaluate({"0.jpg": pose_at((0.1, 0, 0)), "1.jpg": None}, truth)
    assert evaluation.counts == {"localized": 0, "fallback": 0, "failed": 1, "unrecorded": 1}
    assert evaluation.recall == [0.5, 0.5, 0.5]
    assert evaluation.precision_localized is None and evaluation.medians_localized is None


def test_contradictory_results_are_refused(results, truth):
    with pytest.raises(InputError, match=r"'query/0\.jpg' twice"):
        evaluate([results[0], results[0]], truth)
    with pytest.raises(InputError, match="'localized' but has no pose"):
        evaluate([result("query/0.jpg", Status.LOCALIZED, None)], truth)
    with pytest.raises(InputError, match="No query"):
        evaluate([], truth)


def test_unknown_queries_raise_or_are_listed(results, truth):
    del truth["query/0.jpg"]
    with pytest.raises(InputError, match=r"no pose of 'query/0\.jpg'.*--ignore_unknown"):
        evaluate(results, truth)
    evaluation = evaluate(results, truth, ignore_unknown=True)
    assert evaluation.ignored == ["query/0.jpg"] and evaluation.num_queries == 4


def test_names_match_by_ending():
    known = ["day/1.jpg", "night/1.jpg", "night/2.jpg", "3.jpg"]
    assert match_names(["night/1.jpg", "2.jpg", "sunset/3.jpg", "4.jpg", "a2.jpg"], known) == {
        "night/1.jpg": "night/1.jpg",
        "2.jpg": "night/2.jpg",
        "sunset/3.jpg": "3.jpg",
    }


def test_an_equal_name_comes_before_an_ending():
    assert match_names(["1.jpg"], ["1.jpg", "rear/1.jpg"]) == {"1.jpg": "1.jpg"}


def test_ambiguous_names_raise():
    with pytest.raises(InputError, match=r"'1\.jpg' may be any of day/1\.jpg, night/1\.jpg"):
        match_names(["1.jpg"], ["day/1.jpg", "night/1.jpg"])
    with pytest.raises(InputError, match=r"both stand for '3\.jpg'"):
        match_names(["a/3.jpg", "b/3.jpg"], ["3.jpg"])


def test_the_list_of_queries_settles_ambiguous_names():
    truth = {"day/1.jpg": pose_at((9, 9, 9)), "night/1.jpg": pose_at((0, 0, 0))}
    evaluation = evaluate({"1.jpg": pose_at((0, 0, 0))}, truth, queries=["night/1.jpg"])
    assert evaluation.recall == [1.0, 1.0, 1.0]
    assert list(evaluation.errors) == ["night/1.jpg"]


def test_alignment_recovers_a_similarity(model):
    true = registered_poses(model)
    moved = pycolmap.Reconstruction(model)
    moved.transform(pycolmap.Sim3d(0.3, rotation((0, 0.6, 0.8), 70), np.array([5.0, -2.0, 1.0])))
    alignment = align_to(moved, model)
    assert alignment.reference_from_model.scale == pytest.approx(1 / 0.3)
    assert alignment.rms == pytest.approx(0, abs=1e-9)
    aligned = alignment.apply(registered_poses(moved))
    assert max(max(pose_error(aligned[name], true[name])) for name in true) < 1e-6


def test_residuals_are_in_units_of_the_reference(model):
    poses = registered_poses(model)
    displaced = dict(poses)
    name = sorted(poses)[0]
    displaced[name] = pose_at(poses[name].inverse().translation + np.array([0, 0, 6.0]))
    robust = align_to(displaced, poses, max_error=0.01)
    assert robust.residuals[name] == pytest.approx(6.0, abs=1e-6)
    assert robust.rms == pytest.approx(6 / math.sqrt(len(poses)), abs=1e-6)
    least_squares = align_to(displaced, poses)
    assert 0.1 < least_squares.rms < robust.rms


def test_alignment_needs_three_common_images_that_span_a_plane(model):
    poses = registered_poses(model)
    with pytest.raises(ReconstructionError, match="have 2 images in common"):
        align_to(dict(list(poses.items())[:2]), poses)
    line = {str(i): pose_at((i, 0, 0)) for i in range(4)}
    with pytest.raises(ReconstructionError, match="on a line"):
        align_to(line, line)


def test_table_has_one_row_per_set(results, truth):
    evaluation = evaluate(results, truth)
    header, _, day, night = format_table({"day": evaluation, "night": evaluation}).splitlines()
    assert "unrecorded" not in header and "0.25, 2° / 0.5, 5° / 5, 10°" in header
    assert day.split()[:5] == ["day", "5", "3", "1", "1"]
    assert "20.0 / 40.0 / 60.0" in night and "20.0 / 40.0 / 40.0" in night


def test_command_line(tmp_path, model, caplog):
    true = registered_poses(model)
    model.write(tmp_path)
    names = sorted(true)
    poses = {name: true[name] for name in names[:3]}
    write_poses(poses, tmp_path / "poses.txt")
    (tmp_path / "queries.txt").write_text("".join(f"{name}\n" for name in names[:4]))
    output = tmp_path / "figures.json"
    cli(
        [
            *("--results", str(tmp_path / "poses.txt"), "--ground_truth", str(tmp_path)),
            *("--queries", str(tmp_path / "queries.txt"), "--output", str(output)),
            *("--thresholds", "0.25,2", "5,10"),
        ]
    )
    figures = json.loads(output.read_text())
    assert figures["recall"] == [0.75, 0.75] and figures["counts"]["failed"] == 1
    assert figures["errors"][names[3]] == {"status": "failed", "position": None, "rotation": None}

    results = [result(name, Status.FALLBACK, pose) for name, pose in poses.items()]
    write_log(tmp_path / "log.jsonl", results)
    cli(["--results", str(tmp_path / "log.jsonl"), "--ground_truth", str(tmp_path), "--output", str(output)])
    assert json.loads(output.read_text())["counts"]["fallback"] == 3


def test_command_line_refuses_bad_arguments(tmp_path):
    assert parse_threshold("0.5,5") == (0.5, 5.0)
    for text in ("0.5", "a,b", "1,2,3"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"0\.25,2"):
            parse_threshold(text)
    with pytest.raises(MissingInputError, match=r"absent\.txt"):
        read_results(tmp_path / "absent.txt")
