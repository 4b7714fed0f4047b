"""Verification by known poses, and what is written to COLMAP's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.colmap import image_ids
from hloc_ext.formats.h5 import H5Writer
from hloc_ext.formats.matches import names_to_pair
from hloc_ext.triangulation import create_database
from hloc_ext.two_view_geometry import (
    MatchStatistics,
    epipolar_errors,
    import_features,
    import_matches,
    pairs_in_database,
    verified_geometry,
    verify_with_known_poses,
)

NAMES = ["a.png", "b.png", "c.png"]
PAIRS = [("a.png", "b.png"), ("a.png", "c.png"), ("b.png", "c.png")]
NUM_POINTS = 60


def make_model() -> tuple[pycolmap.Reconstruction, np.ndarray]:
    """Three cameras with different intrinsics, and points that all of them see."""
    model = pycolmap.Reconstruction()
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 4], [1, 1, 6], (NUM_POINTS, 3))
    for index, name in enumerate(NAMES):
        focal_length = [400.0, 800.0, 600.0][index]
        camera = pycolmap.Camera(
            camera_id=index + 1,
            model="SIMPLE_RADIAL",
            width=1000,
            height=800,
            params=[focal_length, 500, 400, 0.03],
        )
        model.add_camera_with_trivial_rig(camera)
        turn = pycolmap.Rotation3d(np.array([0, np.sin(0.05 * index), 0, np.cos(0.05 * index)]))
        pose = pycolmap.Rigid3d(turn, np.array([-0.7 * index, 0.2 * index, 0.1]))
        image = pycolmap.Image(name=name, camera_id=index + 1, image_id=10 + index)
        model.add_image_with_trivial_frame(image, pose)
    return model, points


MODEL, POINTS = make_model()
IDS = image_ids(MODEL)


def project(name: str) -> np.ndarray:
    """Exact keypoints of an image, in HLOC's convention (top-left pixel centre at (0, 0))."""
    image = MODEL.images[IDS[name]]
    in_camera = image.cam_from_world() * POINTS
    return (MODEL.cameras[image.camera_id].img_from_cam(in_camera) - 0.5).astype(np.float32)


def write_features(path: Path, shift: float = 0.0, uncertainty: float | None = None) -> Path:
    """Exact keypoints; those of the last image are moved by `shift` pixels."""
    with H5Writer(path) as writer:
        for name in NAMES:
            keypoints = project(name)
            if name == NAMES[-1]:
                keypoints = keypoints + np.float32([0, shift])
            attributes = {} if uncertainty is None else {"keypoints": {"uncertainty": uncertainty}}
            writer.write(name, {"keypoints": keypoints}, attributes)
    return path


def write_matches(path: Path, corrupted: int = 0, scores: np.ndarray | None = None) -> Path:
    """Each keypoint with itself; the first `corrupted` ones in a cycle, so all of them wrong."""
    matches = np.arange(NUM_POINTS, dtype=np.int32)
    matches[:corrupted] = np.roll(matches[:corrupted], 1)
    with H5Writer(path) as writer:
        for pair in PAIRS:
            record = {"matches0": matches}
            if scores is not None:
                record["matching_scores0"] = scores.astype(np.float16)
            writer.write(names_to_pair(*pair), record)
    return path


@pytest.fixture
def database(tmp_path: Path) -> Iterator[pycolmap.Database]:
    path = tmp_path / "database.db"
    create_database(path, MODEL)
    with pycolmap.Database.open(path) as opened:
        yield opened


def verify(database: pycolmap.Database, features: Path, matches: Path, pairs=PAIRS, **options):
    import_features(IDS, database, features, NAMES)
    return verify_with_known_poses(IDS, MODEL, database, features, pairs, matches, **options)


def inliers(database: pycolmap.Database, name0: str, name1: str) -> np.ndarray:
    """Sorted matches of a verified pair."""
    found = database.read_two_view_geometry(IDS[name0], IDS[name1]).inlier_matches
    return np.array(sorted(found.tolist())).reshape(-1, 2)


def test_epipolar_errors_are_distances_to_lines():
    # Stereo cameras: epipolar lines are horizontal, so the errors are differences of y.
    pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([-1.0, 0, 0]))
    points0 = np.array([[0.1, 0.2], [0.3, -0.1], [0.0, 0.0]])
    points1 = np.array([[-0.4, 0.2], [0.1, 0.15], [0.2, -0.01]])
    errors0, errors1 = epipolar_errors(pose, points0, points1)
    np.testing.assert_allclose(errors0, [0, 0.25, 0.01], atol=1e-12)
    np.testing.assert_allclose(errors1, [0, 0.25, 0.01], atol=1e-12)


def test_epipolar_errors_of_true_points_are_zero():
    poses = [MODEL.images[IDS[name]].cam_from_world() for name in NAMES[:2]]
    planes = [(pose * POINTS)[:, :2] / (pose * POINTS)[:, 2:] for pose in poses]
    errors = epipolar_errors(poses[1] * poses[0].inverse(), *planes)
    np.testing.assert_allclose(errors, 0, atol=1e-12)


def test_all_true_matches_are_kept_and_wrong_ones_dropped(database, tmp_path):
    features = write_features(tmp_path / "f.h5")
    matches = write_matches(tmp_path / "m.h5", corrupted=20)
    statistics = verify(database, features, matches)
    true = np.stack([np.arange(20, NUM_POINTS)] * 2, -1)
    for pair in PAIRS:
        found = inliers(database, *pair)
        kept = {tuple(match) for match in found.tolist()}
        assert {tuple(match) for match in true.tolist()} <= kept
        # By chance a wrong match may lie near the epipolar line.
        assert len(found) <= len(true) + 4
    assert (statistics.num_pairs, statistics.num_matches) == (3, 3 * NUM_POINTS)
    assert statistics.num_verified == sum(len(inliers(database, *pair)) for pair in PAIRS)
    assert statistics.inlier_ratios == pytest.approx([len(inliers(database, *p)) / NUM_POINTS for p in PAIRS])


@pytest.mark.parametrize(
    "shift, uncertainty, kept", [(3, None, True), (6, None, False), (6, 2.0, True), (3, 0.5, False)]
)
def test_the_threshold_is_in_pixels_and_grows_with_the_uncertainty(
    database, tmp_path, shift, uncertainty, kept
):
    # Both images must be within the threshold: 6 px in the last image are 4 px · 600/400 in the first.
    features = write_features(tmp_path / "f.h5", shift, uncertainty)
    statistics = verify(database, features, write_matches(tmp_path / "m.h5"), [("a.png", "c.png")])
    assert (statistics.num_verified > 0.9 * NUM_POINTS) == kept
    assert (statistics.num_verified < 0.3 * NUM_POINTS) == (not kept)


def test_scores_below_the_minimum_are_dropped(database, tmp_path):
    features = write_features(tmp_path / "f.h5")
    matches = write_matches(tmp_path / "m.h5", scores=np.arange(NUM_POINTS) / 64)
    import_features(IDS, database, features, NAMES)
    imported = import_matches(IDS, database, PAIRS, matches, features, min_match_score=0.5)
    assert imported.num_matches == 3 * (NUM_POINTS - 33)
    verified = verify_with_known_poses(IDS, MODEL, database, features, PAIRS, matches, min_match_score=0.5)
    assert verified.num_matches == verified.num_verified == imported.num_matches
    assert inliers(database, "a.png", "b.png")[:, 0].min() == 33


def test_every_geometry_has_a_configuration(database, tmp_path):
    features = write_features(tmp_path / "f.h5", shift=500)
    verify(database, features, write_matches(tmp_path / "m.h5"))
    configuration = pycolmap.TwoViewGeometryConfiguration
    with sqlite3.connect(tmp_path / "database.db") as connection:
        rows = dict(connection.execute("SELECT rows, config FROM two_view_geometries").fetchall())
    assert rows == {NUM_POINTS: int(configuration.CALIBRATED), 0: int(configuration.DEGENERATE)}
    assert verified_geometry(np.array([[3, 4]])).config == configuration.CALIBRATED


def test_matches_that_are_trusted_are_written_as_verified(database, tmp_path):
    features = write_features(tmp_path / "f.h5")
    matches = write_matches(tmp_path / "m.h5", corrupted=20)
    import_features(IDS, database, features, NAMES)
    import_matches(IDS, database, PAIRS, matches, features, as_verified=True)
    assert len(inliers(database, "a.png", "b.png")) == NUM_POINTS
    assert database.num_verified_image_pairs() == 3


def test_keypoints_are_moved_to_colmaps_origin_once(database, tmp_path):
    import_features(IDS, database, write_features(tmp_path / "f.h5"), NAMES)
    for name in NAMES:
        np.testing.assert_allclose(database.read_keypoints(IDS[name])[:, :2], project(name) + 0.5, atol=1e-4)


def test_images_outside_the_pairs_may_lack_features(database, tmp_path):
    with H5Writer(tmp_path / "f.h5") as writer:
        writer.write("a.png", {"keypoints": project("a.png")})
        writer.write("b.png", {"keypoints": project("b.png")})
    import_features(IDS, database, tmp_path / "f.h5", ["a.png"])
    assert [database.num_keypoints_for_image(IDS[name]) for name in NAMES] == [NUM_POINTS, NUM_POINTS, 0]


def test_images_in_the_pairs_must_have_features(database, tmp_path):
    with H5Writer(tmp_path / "f.h5") as writer:
        writer.write("a.png", {"keypoints": project("a.png")})
    with pytest.raises(MissingInputError, match=r"'keypoints' of image 'b.png'"):
        import_features(IDS, database, tmp_path / "f.h5", ["a.png", "b.png"])


def test_pairs_in_both_orders_are_one_pair():
    pairs = [("a.png", "b.png"), ("b.png", "a.png"), ("c.png", "c.png"), ("b.png", "c.png")]
    assert pairs_in_database(pairs, IDS, Path("pairs.txt")) == [("a.png", "b.png"), ("b.png", "c.png")]


def test_unknown_images_in_pairs_are_named():
    with pytest.raises(InputError, match=r"pairs.txt names 2 image\(s\) .* instance 'x.png'"):
        pairs_in_database([("a.png", "x.png"), ("y.png", "b.png")], IDS, Path("pairs.txt"))


def test_pairs_stored_in_the_other_order_keep_their_sides(database, tmp_path):
    features = write_features(tmp_path / "f.h5")
    with H5Writer(tmp_path / "m.h5") as writer:
        matches = np.full(NUM_POINTS, -1, np.int32)
        matches[7] = 7
        writer.write("b.png/a.png", {"matches0": matches})
        wrong = np.full(NUM_POINTS, -1, np.int32)
        wrong[3] = 9
        writer.write("c.png/a.png", {"matches0": wrong})
    import_features(IDS, database, features, NAMES)
    pairs = [("a.png", "b.png"), ("a.png", "c.png")]
    import_matches(IDS, database, pairs, tmp_path / "m.h5", features, as_verified=True)
    assert inliers(database, "a.png", "b.png").tolist() == [[7, 7]]
    assert inliers(database, "a.png", "c.png").tolist() == [[9, 3]]


def test_matches_of_other_features_are_refused(database, tmp_path):
    features = write_features(tmp_path / "f.h5")
    with H5Writer(tmp_path / "m.h5") as writer:
        writer.write("a.png/b.png", {"matches0": np.full(NUM_POINTS, 900, np.int32)})
    import_features(IDS, database, features, NAMES)
    with pytest.raises(InputError, match=r"f.h5, pair \(a.png, b.png\): a match points to keypoint"):
        import_matches(IDS, database, PAIRS[:1], tmp_path / "m.h5", features)


@pytest.mark.filterwarnings("error")
def test_views_from_one_place_have_no_verified_matches(tmp_path):
    model = pycolmap.Reconstruction(MODEL)
    for image_id in (IDS["a.png"], IDS["b.png"]):
        model.frames[model.images[image_id].frame_id].rig_from_world = pycolmap.Rigid3d()
    features, matches = write_features(tmp_path / "f.h5"), write_matches(tmp_path / "m.h5")
    create_database(tmp_path / "d.db", model)
    with pycolmap.Database.open(tmp_path / "d.db") as database:
        import_features(IDS, database, features, NAMES)
        statistics = verify_with_known_poses(IDS, model, database, features, PAIRS[:1], matches)
    assert (statistics.num_matches, statistics.num_verified) == (NUM_POINTS, 0)


def test_statistics_in_words():
    assert str(MatchStatistics(2, 30)) == "2 pairs with 30 matches"
    text = str(MatchStatistics(2, 30, 12, [0.2, 0.6]))
    assert text == (
        "2 pairs with 30 matches, of which 12 agree with the known poses (per pair: min 20 %,"
        " median 40 %, max 60 %)"
    )
