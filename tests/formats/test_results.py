"""Result files and logs."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.results import (
    QueryResult,
    Status,
    format_pose,
    read_log,
    read_poses,
    result_name,
    write_log,
    write_poses,
)
from tests.formats.strategies import coordinates, examples, image_names, unit_quaternions


@st.composite
def poses(draw: st.DrawFn) -> pycolmap.Rigid3d:
    x, y, z, w = draw(unit_quaternions())
    translation = np.array(draw(st.tuples(*[coordinates] * 3)))
    return pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([x, y, z, w])), translation)


@examples
@given(st.dictionaries(image_names, poses(), max_size=6))
def test_round_trip_with_quaternions(estimated: dict[str, pycolmap.Rigid3d]) -> None:
    by_name = {result_name(name): pose for name, pose in estimated.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.txt"
        if len(by_name) < len(estimated):
            with pytest.raises(InputError, match="would both be written as"):
                write_poses(estimated, path)
            return
        write_poses(estimated, path)
        found = {} if not by_name else read_poses(path)
    found_names = [name for name in by_name if not name.startswith("#")]
    assert list(found) == found_names
    for name in found_names:
        assert np.allclose(found[name].rotation.quat, by_name[name].rotation.quat, rtol=0, atol=1e-14)
        assert found[name].translation.tolist() == by_name[name].translation.tolist()


def test_a_line_holds_qw_first_and_the_translation_of_world_to_camera(tmp_path: Path) -> None:
    quarter_turn = pycolmap.Rotation3d(np.array([0, 0, np.sqrt(0.5), np.sqrt(0.5)]))  # about z: x becomes y
    pose = pycolmap.Rigid3d(quarter_turn, np.array([1.0, 2.0, 3.0]))
    line = format_pose("a.jpg", pose)
    name, *numbers = line.split()
    assert name == "a.jpg"
    assert np.allclose([float(n) for n in numbers], [0.5**0.5, 0, 0, 0.5**0.5, 1, 2, 3], atol=1e-15)
    (tmp_path / "r.txt").write_text(f"# comment\n\n{line}\n")
    found = read_poses(tmp_path / "r.txt")["a.jpg"]
    assert np.allclose(found * np.array([1.0, 0, 0]), [1, 3, 3])


def test_quaternions_are_normalized(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("a.jpg 0.7071 0 0 0.7071 1 2 3\n")
    pose = read_poses(tmp_path / "r.txt")["a.jpg"]
    assert np.allclose(pose.rotation.quat, [0, 0, 0.5**0.5, 0.5**0.5], atol=1e-15)
    assert np.linalg.norm(pose * np.array([9.0, 0, 0]) - pose.translation) == pytest.approx(9, abs=1e-12)


def test_names_are_basenames_or_have_the_camera_folder(tmp_path: Path) -> None:
    assert result_name("query/night/nexus5x/1.jpg") == "1.jpg"
    assert result_name("overcast/rear/1.jpg", True) == "rear/1.jpg"
    assert result_name("1.jpg", True) == "1.jpg"
    two = {"rear/1.jpg": pycolmap.Rigid3d(), "left/1.jpg": pycolmap.Rigid3d()}
    with pytest.raises(
        InputError, match=r"'rear/1\.jpg' and 'left/1\.jpg' would both be written as '1\.jpg'"
    ):
        write_poses(two, tmp_path / "r.txt")
    write_poses(two, tmp_path / "r.txt", prepend_camera_name=True)
    assert list(read_poses(tmp_path / "r.txt")) == ["rear/1.jpg", "left/1.jpg"]


def test_a_name_with_blanks_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'my photo\.jpg' contains white space"):
        write_poses({"db/my photo.jpg": pycolmap.Rigid3d()}, tmp_path / "r.txt")


@pytest.mark.parametrize(
    "line",
    [
        "a.jpg",
        "a.jpg 1 0 0 0 1 2",
        "a.jpg 1 0 0 0 1 2 3 4",
        "a.jpg 1 0 0 0 1 2 x",
        "a.jpg 0 0 0 0 1 2 3",
        "a.jpg nan 0 0 0 1 2 3",
        "a.jpg 1 0 0 0 1 inf 3",
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "r.txt").write_text(f"b.jpg 1 0 0 0 1 2 3\n{line}\n")
    with pytest.raises(InputError, match=rf"r\.txt, line 2: expected `name qw .* found '{line}'"):
        read_poses(tmp_path / "r.txt")


def test_repeated_names_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("a 1 0 0 0 1 2 3\na 1 0 0 0 1 2 3\n")
    with pytest.raises(InputError, match=r"r\.txt, line 2: 'a' occurs twice"):
        read_poses(tmp_path / "r.txt")
    with pytest.raises(MissingInputError, match=r"none\.txt does not exist"):
        read_poses(tmp_path / "none.txt")
    with pytest.raises(MissingInputError, match=r"none\.jsonl does not exist"):
        read_log(tmp_path / "none.jsonl")


def test_log_round_trip(tmp_path: Path) -> None:
    localized = QueryResult(
        "query/Zürich 夜.jpg",
        Status.LOCALIZED,
        num_matches=40,
        num_inliers=30,
        reprojection_error=0.7,
        estimator={"library": "pycolmap", "max_error": np.float32(12), "sizes": np.array([1, 2])},
        camera="PINHOLE 8 6 9 9 4 3",
        retrieved=["db/1.jpg", "db/2.jpg"],
        seconds=0.25,
    )
    localized.set_pose(
        pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.6, 0, 0, 0.8])), np.array([1.0, 2, 3]))
    )
    failed = QueryResult("b.jpg", Status.FAILED, reason="no matches", estimator={"path": Path("x")})
    path = tmp_path / "log.jsonl"
    write_log(path, [localized, failed])

    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["status"] for line in lines] == ["localized", "failed"]
    assert "Zürich 夜" in path.read_text(encoding="utf-8")
    first, second = read_log(path)
    assert first.status is Status.LOCALIZED
    assert first.qvec == [0.8, 0.6, 0, 0]
    assert first.inlier_ratio == 0.75
    assert first.estimator == {"library": "pycolmap", "max_error": 12, "sizes": [1, 2]}
    assert first.retrieved == ["db/1.jpg", "db/2.jpg"]
    assert first.cam_from_world is not None
    assert np.allclose(first.cam_from_world.rotation.quat, [0.6, 0, 0, 0.8])
    assert first.cam_from_world.translation.tolist() == [1, 2, 3]
    assert second.cam_from_world is None
    assert second.inlier_ratio == 0
    assert second.reason == "no matches"
    assert second.estimator == {"path": "x"}


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"name": "a", "status": "lost"}', '{"name": "a", "status": "failed", "x": 1}']
)
def test_a_line_that_is_no_result_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f'{{"name": "a", "status": "failed"}}\n{line}\n')
    with pytest.raises(InputError, match=r"log\.jsonl, line 2: not a query result"):
        read_log(tmp_path / "log.jsonl")
