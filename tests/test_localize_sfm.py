"""Localization of queries: poses, statuses, and inputs that do not fit."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pycolmap
import pytest

from hloc_ext import extract_features, localize_sfm, match_features
from hloc_ext.confs import extractors, matchers
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats.atomic import UnwritableError
from hloc_ext.formats.colmap import read_model
from hloc_ext.formats.h5 import H5Writer
from hloc_ext.formats.lists import read_query_list, write_query_list
from hloc_ext.formats.matches import MatchReader, names_to_pair
from hloc_ext.formats.pairs import read_retrieval, write_pairs
from hloc_ext.formats.results import QueryResult, Status, read_log, read_poses
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.localize_sfm import collect_correspondences, localize_query, viewing_angle
from hloc_ext.pose_estimation import EstimatorConf
from tests.conftest import RoomMap
from tests.room import Room


def run(room_map: RoomMap, results: Path, **options) -> list[QueryResult]:
    inputs = {
        "reference_sfm": room_map.sfm,
        "queries": room_map.queries,
        "retrieval": room_map.retrieval,
        "features": room_map.features,
        "matches": room_map.query_matches,
    }
    return localize_sfm.main(results=results, **{**inputs, **options})


def pose_error(pose: pycolmap.Rigid3d, true: pycolmap.Rigid3d) -> tuple[float, float]:
    """Distance of the centres in metres, and angle in degrees."""
    distance = np.linalg.norm(pose.inverse().translation - true.inverse().translation)
    return float(distance), float(np.rad2deg((pose * true.inverse()).rotation.angle()))


def check_localized(
    results: list[QueryResult], room: Room, meters: float = 0.01, degrees: float = 0.1
) -> None:
    assert [result.name for result in results] == room.query_names
    for result in results:
        assert result.status == Status.LOCALIZED and result.reason == ""
        distance, angle = pose_error(result.cam_from_world, room.pose(result.name))
        assert distance < meters and angle < degrees
        assert result.num_inliers > 100 and result.inlier_ratio > 0.9
        assert result.reprojection_error < 0.5


def without_seconds(results: list[QueryResult]) -> list[dict]:
    return [{**dataclasses.asdict(result), "seconds": 0} for result in results]


def replace_matches(room_map: RoomMap, path: Path, make) -> Path:
    """Copy of the query matches with ``matches0`` of all pairs of the first query made by `make(shape)`."""
    shutil.copyfile(room_map.query_matches, path)
    query = room_map.room.query_names[0]
    with H5Writer(path) as writer:
        for name in read_retrieval(room_map.retrieval)[query]:
            writer.write(names_to_pair(query, name), {"matches0": make().astype(np.int32)})
    return path


def test_queries_are_where_they_were(room_map, tmp_path):
    results = run(room_map, tmp_path / "out" / "poses.txt")
    check_localized(results, room_map.room)
    # Both files say the same as the returned results.
    poses = read_poses(tmp_path / "out" / "poses.txt")
    assert list(poses) == room_map.room.query_names
    for result in results:
        found = poses[result.name].matrix()
        np.testing.assert_allclose(found, result.cam_from_world.matrix(), atol=1e-12)
    logged = read_log(tmp_path / "out" / "poses.txt_logs.jsonl")
    assert without_seconds(logged) == without_seconds(results)
    first = json.loads((tmp_path / "out" / "poses.txt_logs.jsonl").read_text().splitlines()[0])
    assert first["status"] == "localized" and first["estimator"]["estimator"] == "pycolmap"
    assert first["retrieved"] == read_retrieval(room_map.retrieval)[room_map.room.query_names[0]]
    assert first["camera"] == "SIMPLE_RADIAL 480 360 420.0 240.0 180.0 0.0"
    assert first["estimator"]["ransac_thresh"] == 12 and not first["estimator"]["covisibility_clustering"]


def test_threads_and_repetition_do_not_change_the_poses(room_map, tmp_path):
    results = [
        without_seconds(run(room_map, tmp_path / f"{threads}.txt", num_threads=threads))
        for threads in (1, 2, 2)
    ]
    assert results[0] == results[1] == results[2]
    files = {(tmp_path / f"{threads}.txt").read_bytes() for threads in (1, 2)}
    assert len(files) == 1


@pytest.mark.parametrize("form", ["model", "index", "cameras"])
def test_inputs_in_memory(room_map, tmp_path, form):
    model = read_model(room_map.sfm)
    options = {
        "model": {"reference_sfm": model},
        "index": {"reference_sfm": LocalizationMap.from_model(model)},
        "cameras": {"queries": [(name, room_map.room.camera) for name in room_map.room.query_names]},
    }[form]
    check_localized(run(room_map, tmp_path / "poses.txt", **options), room_map.room)


def test_poselib(room_map, tmp_path):
    pytest.importorskip("poselib", reason="the optional package poselib is not installed")
    results = run(room_map, tmp_path / "poses.txt", estimator="poselib")
    check_localized(results, room_map.room)
    assert results[0].estimator["estimator"] == "poselib"


class TestFallback:
    """A query that cannot be localized gets the pose of the best retrieved image, and says so."""

    def check(self, results: list[QueryResult], room_map: RoomMap, tmp_path: Path) -> QueryResult:
        query = room_map.room.query_names[0]
        best = read_retrieval(room_map.retrieval)[query][0]
        expected = room_map.room.pose(best).matrix()
        assert results[0].status == Status.FALLBACK
        np.testing.assert_allclose(results[0].cam_from_world.matrix(), expected, atol=1e-9)
        np.testing.assert_allclose(read_poses(tmp_path / "poses.txt")[query].matrix(), expected, atol=1e-9)
        assert results[0].num_inliers == 0 and results[0].reprojection_error is None
        assert results[0].estimator["min_inliers"] == EstimatorConf.min_inliers
        assert [r.status for r in results[1:]] == [Status.LOCALIZED] * 3
        return results[0]

    @pytest.mark.parametrize("covisibility_clustering", [False, True])
    def test_without_matches(self, room_map, tmp_path, covisibility_clustering):
        matches = replace_matches(room_map, tmp_path / "m.h5", lambda: np.full(500, -1))
        options = {"matches": matches, "covisibility_clustering": covisibility_clustering}
        result = self.check(run(room_map, tmp_path / "poses.txt", **options), room_map, tmp_path)
        assert result.reason == "no 2D-3D matches"

    def test_with_random_matches(self, room_map, tmp_path):
        rng = np.random.default_rng(0)
        matches = replace_matches(room_map, tmp_path / "m.h5", lambda: rng.integers(0, 500, 500))
        result = self.check(run(room_map, tmp_path / "poses.txt", matches=matches), room_map, tmp_path)
        assert result.num_matches > 500
        assert result.num_inliers_rejected > 0
        assert "inliers, fewer than 12" in result.reason or "inlier ratio" in result.reason

    def test_without_features(self, room_map, tmp_path):
        features = tmp_path / "f.h5"
        shutil.copyfile(room_map.features, features)
        with h5py.File(features, "a") as fd:
            del fd[room_map.room.query_names[0]]
        result = self.check(run(room_map, tmp_path / "poses.txt", features=features), room_map, tmp_path)
        assert result.reason == "no features (unreadable image?)"

    def test_thresholds_decide(self, room_map, tmp_path):
        for options in ({"min_inliers": 100_000}, {"min_inlier_ratio": 1.01}):
            results = run(room_map, tmp_path / "poses.txt", **options)
            assert {result.status for result in results} == {Status.FALLBACK}
            assert all(result.num_inliers_rejected > 100 for result in results)

    def test_of_a_black_query(self, room_map, tmp_path):
        images = tmp_path / "images"
        shutil.copytree(room_map.room.images, images)
        cv2.imwrite(str(images / "black.png"), np.zeros((360, 480), np.uint8))
        features = shutil.copyfile(room_map.features, tmp_path / "f.h5")
        extract_features.main(extractors["sift"], images, feature_path=features, image_list=["black.png"])
        write_pairs(tmp_path / "retrieval.txt", [("black.png", "img00.png"), ("black.png", "img01.png")])
        write_query_list(tmp_path / "queries.txt", {"black.png": room_map.room.camera})
        matches = match_features.main(
            matchers["NN-ratio"], tmp_path / "retrieval.txt", features, matches=tmp_path / "m.h5"
        )
        inputs = {"queries": tmp_path / "queries.txt", "retrieval": tmp_path / "retrieval.txt"}
        (result,) = run(room_map, tmp_path / "poses.txt", features=features, matches=matches, **inputs)
        assert result.status == Status.FALLBACK and result.reason == "no 2D-3D matches"


def test_a_query_without_retrieved_images_fails(room_map, tmp_path):
    queries = room_map.room.query_names
    retrieved = [(q, n) for q, names in read_retrieval(room_map.retrieval).items() for n in names]
    listed = [pair for pair in retrieved if pair[0] not in queries[:2]]
    write_pairs(tmp_path / "retrieval.txt", [*listed, (queries[1], "elsewhere.png")])
    results = run(room_map, tmp_path / "poses.txt", retrieval=tmp_path / "retrieval.txt")
    assert [result.status for result in results[:2]] == [Status.FAILED] * 2
    assert results[0].reason == "no map image was retrieved"
    assert results[1].reason == "no retrieved image is in the map"
    assert results[0].cam_from_world is None
    assert list(read_poses(tmp_path / "poses.txt")) == queries[2:]
    assert len(read_log(tmp_path / "poses.txt_logs.jsonl")) == 4


def test_unknown_retrieved_images_are_left_out(room_map, tmp_path):
    retrieved = read_retrieval(room_map.retrieval)
    pairs = [(query, name) for query, names in retrieved.items() for name in ["elsewhere.png", *names]]
    write_pairs(tmp_path / "retrieval.txt", pairs)
    results = run(room_map, tmp_path / "poses.txt", retrieval=tmp_path / "retrieval.txt")
    check_localized(results, room_map.room)
    assert "elsewhere.png" not in results[0].retrieved


def test_unknown_and_wrong_focal_lengths(room_map, tmp_path):
    names = room_map.room.query_names
    guess = pycolmap.Camera(model="SIMPLE_RADIAL", width=480, height=360, params=[576, 240, 180, 0])
    write_query_list(tmp_path / "queries.txt", {name: guess for name in names})
    for options in ({"focal_unknown": names}, {"refine_focal": True}):
        results = run(room_map, tmp_path / "poses.txt", queries=tmp_path / "queries.txt", **options)
        for result in results:
            assert float(result.camera.split()[3]) == pytest.approx(420, rel=0.03)
            assert result.status == Status.LOCALIZED
            assert pose_error(result.cam_from_world, room_map.room.pose(result.name))[0] < 0.1
    wrong = run(room_map, tmp_path / "poses.txt", queries=tmp_path / "queries.txt")
    for result in wrong:
        assert result.camera.split()[3] == "576.0"
        assert pose_error(result.cam_from_world, room_map.room.pose(result.name))[0] > 0.2


def doubled(index: LocalizationMap, shift: float) -> LocalizationMap:
    """The map, and beside it a copy of it moved along X, whose images are called ``copy_…``."""
    offset = np.array([shift, 0, 0])
    moved = [
        index.pose(i) * pycolmap.Rigid3d(pycolmap.Rotation3d(), -offset) for i in range(len(index.names))
    ]
    number = len(index.points)
    return LocalizationMap(
        names=index.names + [f"copy_{name}" for name in index.names],
        qvecs=np.concatenate([index.qvecs, index.qvecs]),
        tvecs=np.concatenate([index.tvecs, [pose.translation for pose in moved]]),
        offsets=np.concatenate([index.offsets, index.offsets[1:] + index.offsets[-1]]),
        point_rows=np.concatenate(
            [index.point_rows, np.where(index.point_rows < 0, -1, index.point_rows + number)]
        ).astype(np.int32),
        point_ids=np.concatenate([index.point_ids, index.point_ids + 10**6]),
        points=np.concatenate([index.points, index.points + offset]),
    )


def test_clustering_separates_places_that_look_alike(room_map, tmp_path):
    index = doubled(LocalizationMap.load(room_map.copy_model(tmp_path / "sfm")), 50.0)
    pairs, queries = [], room_map.room.query_names
    shutil.copyfile(room_map.query_matches, tmp_path / "m.h5")
    with MatchReader(room_map.query_matches) as reader, H5Writer(tmp_path / "m.h5") as writer:
        for query, names in read_retrieval(room_map.retrieval).items():
            # The copy was retrieved first, but shows less: two of the four images.
            pairs += [(query, f"copy_{name}") for name in names[2:]] + [(query, name) for name in names]
            for name in names[2:]:
                indices, _ = reader.get(query, name)
                matches = np.full(3000, -1, np.int32)
                matches[indices[:, 0]] = indices[:, 1]
                writer.write(names_to_pair(query, f"copy_{name}"), {"matches0": matches})
    write_pairs(tmp_path / "retrieval.txt", pairs)
    inputs = {
        "reference_sfm": index,
        "retrieval": tmp_path / "retrieval.txt",
        "matches": tmp_path / "m.h5",
    }
    together = run(room_map, tmp_path / "poses.txt", **inputs)
    clustered = run(room_map, tmp_path / "poses.txt", covisibility_clustering=True, **inputs)
    check_localized(clustered, room_map.room)
    assert clustered[0].estimator["covisibility_clustering"]
    # Without clustering the matches of both places are outliers of each other.
    assert [r.name for r in together] == queries
    assert all(a.inlier_ratio < 0.9 * b.inlier_ratio for a, b in zip(together, clustered, strict=True))
    assert all(a.num_matches > b.num_matches for a, b in zip(together, clustered, strict=True))


def make_map(rows: list[list[int]], num_points: int) -> LocalizationMap:
    """Images at the origin that see the points of the given rows (−1: none)."""
    return LocalizationMap(
        names=[f"{i}.png" for i in range(len(rows))],
        qvecs=np.tile([1.0, 0, 0, 0], (len(rows), 1)),
        tvecs=np.zeros((len(rows), 3)),
        offsets=np.cumsum([0] + [len(r) for r in rows]),
        point_rows=np.array([row for r in rows for row in r], np.int32),
        point_ids=np.arange(num_points),
        points=np.arange(3.0 * num_points).reshape(-1, 3),
    )


class TestCorrespondences:
    def test_are_joined_in_the_order_of_hloc(self):
        index = make_map([[3, -1, 2, 1], [3, 0, 2]], 4)
        matches = [np.array([[5, 3], [2, 0], [7, 1]]), np.array([[2, 1], [2, 0], [5, 0], [6, 2]])]
        keypoints = np.arange(16.0).reshape(8, 2)
        found = collect_correspondences(index, keypoints, [0, 1], matches)
        # Keypoint 5 first, as in the first image; 7 has no point; (2, 3) was seen twice.
        assert list(zip(found.keypoints.tolist(), found.rows.tolist(), strict=True)) == [
            (5, 1), (5, 3), (2, 3), (2, 0), (6, 2),
        ]  # fmt: skip
        np.testing.assert_array_equal(found.points2D, keypoints[[5, 5, 2, 2, 6]] + 0.5)
        assert found.images.tolist() == [0, 1, 0, 1, 1], "the first that gave the match"
        assert len(found) == 5

    def test_of_nothing_are_empty(self):
        index = make_map([[0, 1]], 2)
        for matches in ([], [np.zeros((0, 2), int)]):
            found = collect_correspondences(index, np.zeros((0, 2)), [0][: len(matches)], matches)
            assert len(found) == 0 and found.points2D.shape == (0, 2)

    def test_of_other_features_are_refused(self):
        index = make_map([[0, 1]], 2)
        keypoints = np.zeros((3, 2))
        with pytest.raises(InputError, match=r"m.h5: a match points to keypoint 2 of '0.png', which has 2"):
            collect_correspondences(index, keypoints, [0], [np.array([[0, 2]])], "m.h5")
        with pytest.raises(InputError, match=r"m.h5: a match points to keypoint 3 of a query with 3"):
            collect_correspondences(index, keypoints, [0], [np.array([[3, 0]])], "m.h5")


@pytest.mark.parametrize("degrees", [0, 60, 120, 180])
def test_viewing_angle(room, degrees):
    # The map image at the origin and the query both look at points around (0, 0, 10).
    rng = np.random.default_rng(0)
    index = make_map([list(range(50))], 50)
    index.points = np.array([0, 0, 10]) + 0.01 * rng.standard_normal((50, 3))
    turn = pycolmap.Rotation3d(np.deg2rad(degrees) * np.array([0.0, 1, 0]))
    pose = pycolmap.Rigid3d(turn, np.array([0, 0, 10.0]) - turn * np.array([0, 0, 10.0]))
    keypoints = room.camera.img_from_cam(pose * index.points) - 0.5
    matches = np.stack([np.arange(50)] * 2, -1)
    conf = EstimatorConf(max_viewing_angle=90, min_inlier_cells=0)  # the points lie close together
    result, estimate, found = localize_query(index, "q", room.camera, keypoints, [0], [matches], conf)
    assert result.viewing_angle == pytest.approx(degrees, abs=1)
    assert viewing_angle(index, found, estimate) == result.viewing_angle
    if degrees < 90:
        assert result.status == Status.LOCALIZED
    else:
        assert result.status == Status.FALLBACK
        assert result.reason == f"sees its points from {degrees}° away from the map images that matched them"
    estimate.inliers[:] = False
    assert viewing_angle(index, found, estimate) == 180


@pytest.mark.parametrize("covisibility_clustering", [False, True])
def test_a_query_without_map_images(room, covisibility_clustering):
    result, estimate, correspondences = localize_query(
        make_map([[0, 1]], 2),
        "q",
        room.camera,
        np.zeros((0, 2)),
        [],
        [],
        EstimatorConf(),
        covisibility_clustering,
    )
    assert result.status == Status.FAILED and result.reason == "no 2D-3D matches"
    assert estimate is None and not correspondences


class TestBadInput:
    def test_files_that_are_missing_are_named(self, room_map, tmp_path):
        for argument in ("retrieval", "features", "matches"):
            with pytest.raises(MissingInputError, match=f"`{argument}`: .*nothing does not exist"):
                run(room_map, tmp_path / "poses.txt", **{argument: tmp_path / "nothing"})
        with pytest.raises(MissingInputError, match="No COLMAP model"):
            run(room_map, tmp_path / "poses.txt", reference_sfm=tmp_path)
        with pytest.raises(MissingInputError, match=r"nothing does not exist"):
            run(room_map, tmp_path / "poses.txt", queries=tmp_path / "nothing")

    @pytest.mark.parametrize(
        "line, message",
        [
            ("img02.png", r"line 2: no intrinsics"),
            ("img02.png CAMERA 480 360 420 240 180", r"line 2: unknown camera model 'CAMERA'"),
            ("img02.png PINHOLE 480 360 420 240 180", r"line 2: PINHOLE takes the parameters"),
            ("img05.png SIMPLE_PINHOLE 480 360 420 240 180", r"line 2: image 'img05.png' is listed already"),
        ],
    )
    def test_wrong_query_lists_are_named(self, room_map, tmp_path, line, message):
        queries = tmp_path / "queries.txt"
        queries.write_text(f"img05.png SIMPLE_PINHOLE 480 360 420 240 180\n{line}\n")
        with pytest.raises(InputError, match=message):
            run(room_map, tmp_path / "poses.txt", queries=queries)

    def test_truncated_files_are_named(self, room_map, tmp_path):
        for argument, source in (("features", room_map.features), ("matches", room_map.query_matches)):
            cut = tmp_path / f"{argument}.h5"
            cut.write_bytes(source.read_bytes()[:9000])
            with pytest.raises(CorruptFileError, match=f"{argument}.h5 is truncated"):
                run(room_map, tmp_path / "poses.txt", **{argument: cut})

    def test_pairs_that_were_not_matched_are_named(self, room_map, tmp_path):
        pairs = [("img02.png", name) for name in room_map.room.map_names]
        write_pairs(tmp_path / "retrieval.txt", pairs)
        with pytest.raises(MissingInputError, match=r"no matches of the pair \('img02.png', 'img\d+.png'\)"):
            run(room_map, tmp_path / "poses.txt", retrieval=tmp_path / "retrieval.txt")

    def test_matches_of_other_features_are_refused(self, room_map, tmp_path):
        matches = replace_matches(room_map, tmp_path / "m.h5", lambda: np.full(500, 99_999))
        with pytest.raises(InputError, match=r"points to keypoint 99999 of 'img\d+.png'"):
            run(room_map, tmp_path / "poses.txt", matches=matches)
        matches = replace_matches(room_map, tmp_path / "m.h5", lambda: np.zeros(50_000))
        with pytest.raises(InputError, match=r"points to keypoint 49999 of a query"):
            run(room_map, tmp_path / "poses.txt", matches=matches)

    def test_results_that_cannot_be_written_are_found_before_the_work(
        self, room_map, tmp_path, read_only_folder, monkeypatch
    ):
        monkeypatch.setattr(localize_sfm, "localize_query", lambda *args: pytest.fail("the work started"))
        with pytest.raises(UnwritableError, match="read_only"):
            run(room_map, read_only_folder / "poses.txt")
        same = [("day/a.png", room_map.room.camera), ("night/a.png", room_map.room.camera)]
        with pytest.raises(
            InputError, match=r"'day/a.png' and 'night/a.png' would both be written as 'a.png'"
        ):
            run(room_map, tmp_path / "poses.txt", queries=same)
        twice = [("a.png", room_map.room.camera)] * 2
        with pytest.raises(InputError, match=r"would both be written as 'a.png'"):
            run(room_map, tmp_path / "poses.txt", queries=twice)

    def test_wrong_options_are_refused(self, room_map, tmp_path):
        with pytest.raises(InputError, match="Unknown estimator"):
            run(room_map, tmp_path / "poses.txt", estimator="opencv")
        with pytest.raises(InputError, match="has no 'max_trials'"):
            run(room_map, tmp_path / "poses.txt", config={"estimation": {"ransac": {"max_trials": 3}}})


def test_names_with_their_folder(room_map, tmp_path):
    room = room_map.room
    query = room.query_names[0]
    features = shutil.copyfile(room_map.features, tmp_path / "f.h5")
    with h5py.File(features, "a") as fd:
        fd.copy(query, f"query/night/{query}")
    write_pairs(tmp_path / "retrieval.txt", [(f"query/night/{query}", "img00.png")])
    with H5Writer(tmp_path / "m.h5") as writer:
        writer.write(names_to_pair(f"query/night/{query}", "img00.png"), {"matches0": np.full(9, -1)})
    run(
        room_map,
        tmp_path / "poses.txt",
        queries=[(f"query/night/{query}", room.camera)],
        retrieval=tmp_path / "retrieval.txt",
        features=features,
        matches=tmp_path / "m.h5",
        prepend_camera_name=True,
    )
    assert list(read_poses(tmp_path / "poses.txt")) == [f"night/{query}"]


def test_command_line(room_map, tmp_path):
    command = [sys.executable, "-m", "hloc_ext", "localize_sfm", "--reference_sfm", str(room_map.sfm)]
    for name in ("queries", "retrieval", "features"):
        command += [f"--{name}", str(getattr(room_map, name))]
    command += ["--matches", str(room_map.query_matches), "--results", str(tmp_path / "poses.txt")]
    command += [
        "--ransac_thresh",
        "8",
        "--num_threads",
        "1",
        "--min_inliers",
        "20",
        "--covisibility_clustering",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "4 of 4 queries localized, 0 fallback, 0 failed" in done.stderr
    results = read_log(tmp_path / "poses.txt_logs.jsonl")
    check_localized(results, room_map.room)
    assert results[0].estimator["ransac_thresh"] == 8 and results[0].estimator["min_inliers"] == 20


def test_intrinsics_of_another_image_size_are_flagged(room_map, tmp_path):
    queries = read_query_list(room_map.queries)
    name, camera = queries[0]
    queries[0] = name, pycolmap.Camera(model="SIMPLE_PINHOLE", width=960, height=720, params=[840, 480, 360])
    flagged, *others = run(room_map, tmp_path / "r.txt", queries=queries)
    assert flagged.name == name and flagged.status is Status.FALLBACK
    assert flagged.reason == f"intrinsics for 960×720 pixels, the image has {camera.width}×{camera.height}"
    assert all(result.status is Status.LOCALIZED for result in others)
