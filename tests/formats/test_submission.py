"""Submission files: names, contents, and the check before the upload."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest

from hloc_ext import validate_submission as stage
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.results import QueryResult, Status, read_poses
from hloc_ext.formats.submission import (
    check_submission,
    query_names,
    submission_name,
    validate_submission,
    write_submission,
)

QUERIES = ["query/day/milestone/a.jpg", "query/day/nexus4/b.jpg", "query/night/nexus5x/c.jpg"]


def _pose(x: float) -> pycolmap.Rigid3d:
    return pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0, 0.6, 0, 0.8])), np.array([x, 2.0, 3.0]))


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    path = tmp_path / submission_name("aachen_v1.0", "sift")
    write_submission(path, {name: _pose(i) for i, name in enumerate(QUERIES)})
    return path


def _replace_line(path: Path, number: int, line: str) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = line
    path.write_text("\n".join(lines) + "\n")


def test_file_names() -> None:
    assert submission_name("aachen_v1.0", "sift") == "Aachen_eval_sift.txt"
    assert submission_name("aachen_v1.1", "disk+lightglue") == "Aachen_v1_1_eval_disk+lightglue.txt"
    assert submission_name("robotcar", " my method/2 ") == "robotcar_eval_my_method_2.txt"
    with pytest.raises(InputError, match="name of the method"):
        submission_name("aachen_v1.0", " ")


def test_a_written_submission_is_valid(submission: Path) -> None:
    assert validate_submission(submission, QUERIES) == []
    assert check_submission(submission, QUERIES) == 3
    name, *numbers = submission.read_text().splitlines()[1].split()
    assert name == "b.jpg"
    assert [float(n) for n in numbers] == [0.8, 0, 0.6, 0, 1, 2, 3]


def test_results_are_written_with_fallbacks_and_without_failures(tmp_path: Path) -> None:
    results = [QueryResult(name, Status.LOCALIZED) for name in QUERIES]
    results[0].set_pose(_pose(5))
    results[1].set_pose(_pose(6))
    results[1].status = Status.FALLBACK
    results[2].status = Status.FAILED
    path = tmp_path / "r.txt"
    assert write_submission(path, results) == [QUERIES[2]]
    assert {name: pose.translation[0] for name, pose in read_poses(path).items()} == {"a.jpg": 5, "b.jpg": 6}
    assert validate_submission(path, QUERIES) == ["1 of 3 queries have no pose: c.jpg"]
    with pytest.raises(InputError, match=r"Several results of the same query: query/day/nexus4/b\.jpg"):
        write_submission(path, [*results, results[1]])


def test_queries_with_the_same_basename_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'day/a\.jpg' and 'night/a\.jpg' would both be written"):
        write_submission(tmp_path / "r.txt", dict.fromkeys(["day/a.jpg", "night/a.jpg"], _pose(0)))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("b.jpg 0.8 0 0.6 0 1 2", "line 2: expected `name qw qx qy qz tx ty tz`, found 7 fields"),
        ("b.jpg 0.8 0 0.6 0 1 2 3 4", "line 2: expected `name qw qx qy qz tx ty tz`, found 9 fields"),
        ("b.jpg", "line 2: expected `name qw qx qy qz tx ty tz`, found 1 fields"),
        ("b.jpg 0.8 0 0.6 0 1 2 x", "line 2: 'b.jpg' has a field that is not a number: 0.8 0 0.6 0 1 2 x"),
        ("b.jpg 0.8 0 0.6 0 1 nan 3", "line 2: 'b.jpg' has a number that is not finite"),
        ("b.jpg inf 0 0.6 0 1 2 3", "line 2: 'b.jpg' has a number that is not finite"),
        ("b.jpg 0.8 0 0.61 0 1 2 3", "line 2: 'b.jpg' has a quaternion of length 1.00603, expected 1"),
        ("b.jpg 0 0 0 0 1 2 3", "line 2: 'b.jpg' has a quaternion of length 0, expected 1"),
        ("nexus4/b.jpg 0.8 0 0.6 0 1 2 3", "line 2: 'nexus4/b.jpg' must have no folder before the file name"),
    ],
)
def test_one_wrong_line_is_one_problem(submission: Path, line: str, problem: str) -> None:
    _replace_line(submission, 2, line)
    assert validate_submission(submission, QUERIES) == [problem]


def test_four_decimals_and_blank_lines_are_accepted(submission: Path) -> None:
    _replace_line(submission, 2, "\n b.jpg  0.7071 0 0.7071 0\t1 2 3 \n")
    assert validate_submission(submission, QUERIES) == []


def test_unknown_repeated_and_missing_names(submission: Path) -> None:
    _replace_line(submission, 2, "a.jpg 1 0 0 0 1 2 3\nd.jpg 1 0 0 0 1 2 3\n# comment")
    assert validate_submission(submission, QUERIES) == [
        "line 2: 'a.jpg' is also on line 1",
        "line 3: 'd.jpg' is not a query",
        "line 4: expected `name qw qx qy qz tx ty tz`, found 2 fields",
        "line 4: '#' is not a query",
        "1 of 3 queries have no pose: b.jpg",
    ]


def test_long_lists_of_names_are_shortened(submission: Path) -> None:
    more = [*QUERIES, *(f"night/{i:02}.jpg" for i in range(12))]
    (problem,) = validate_submission(submission, more)
    assert problem.startswith("12 of 15 queries have no pose: 00.jpg, 01.jpg, ")
    assert problem.endswith("08.jpg, 09.jpg and 2 more")


def test_queries_that_share_a_basename_and_no_queries(submission: Path) -> None:
    (problem,) = validate_submission(submission, [*QUERIES, "night/a.jpg"])
    assert problem == "queries share a name, the benchmark cannot tell them apart: a.jpg"
    problems = validate_submission(submission, [])
    assert problems[0] == "no query is given to compare with"
    assert len(problems) == 4


def test_names_with_the_camera_folder(tmp_path: Path) -> None:
    queries = ["overcast/rear/1.jpg", "overcast/left/1.jpg"]
    path = tmp_path / "robotcar.txt"
    write_submission(path, dict.fromkeys(queries, _pose(0)), prepend_camera_name=True)
    assert validate_submission(path, queries, prepend_camera_name=True) == []
    _replace_line(path, 2, "overcast/left/1.jpg 1 0 0 0 1 2 3")
    assert validate_submission(path, queries, True) == [
        "line 2: 'overcast/left/1.jpg' must have one folder before the file name"
    ]
    _replace_line(path, 2, "1.jpg 1 0 0 0 1 2 3")
    assert validate_submission(path, queries, True) == [
        "line 2: '1.jpg' must have the camera's folder before the file name",
        "line 2: '1.jpg' is not a query",
        "1 of 2 queries have no pose: left/1.jpg",
    ]


def test_all_problems_are_in_the_error(submission: Path) -> None:
    _replace_line(submission, 1, "a.jpg 2 0 0 0 1 2 3")
    _replace_line(submission, 2, "")
    with pytest.raises(InputError) as caught:
        check_submission(submission, QUERIES)
    assert str(caught.value).splitlines() == [
        f"{submission} is not a valid submission:",
        "- line 1: 'a.jpg' has a quaternion of length 2, expected 1",
        "- 1 of 3 queries have no pose: b.jpg",
    ]


@pytest.fixture
def lists(tmp_path: Path) -> list[Path]:
    """A list with intrinsics and one without."""
    day, night = tmp_path / "day_queries.txt", tmp_path / "night_queries.txt"
    day.write_text("".join(f"{name} SIMPLE_PINHOLE 8 6 9 4 3\n" for name in QUERIES[:2]))
    night.write_text(f"{QUERIES[2]}\n")
    return [day, night]


def test_query_lists(submission: Path, lists: list[Path]) -> None:
    assert query_names(lists) == QUERIES
    assert query_names([lists[0], QUERIES[2]]) == QUERIES
    assert query_names([lists[0].parent / "*_queries.txt"]) == QUERIES
    assert check_submission(submission, lists) == 3
    with pytest.raises(MissingInputError, match=r"none\.txt does not exist"):
        validate_submission(submission, [submission.parent / "none.txt"])
    with pytest.raises(MissingInputError, match=r"Submission file .*none\.txt does not exist"):
        validate_submission(submission.parent / "none.txt", lists)


def test_command_line(submission: Path, lists: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(submission), "--queries", *map(str, lists)]
    stage.cli(arguments)
    assert capsys.readouterr().out == "OK: 3 poses\n"
    with pytest.raises(SystemExit) as caught:
        stage.cli([str(submission), "--queries", str(lists[0])])
    assert caught.value.code == 1
    assert capsys.readouterr().out == "line 3: 'c.jpg' is not a query\n"
    with pytest.raises(SystemExit) as caught:
        stage.cli([*arguments, "--prepend_camera_name"])
    assert caught.value.code == 1
    assert len(capsys.readouterr().out.splitlines()) == 7
