"""Image and query lists with intrinsics."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.lists import (
    CAMERA_MODELS,
    format_camera,
    parse_camera,
    read_image_list,
    read_intrinsics,
    read_query_list,
    write_image_list,
    write_query_list,
)
from tests.formats.strategies import examples, image_names

AACHEN_LINE = "query/day/milestone/2010.jpg SIMPLE_RADIAL 1600 1200 1469.2 800 600 -0.0353019"


@st.composite
def cameras(draw: st.DrawFn) -> pycolmap.Camera:
    name = draw(st.sampled_from(CAMERA_MODELS))
    size = draw(st.tuples(*[st.integers(1, 20_000)] * 2))
    model = pycolmap.CameraModelId.__members__[name]
    camera = pycolmap.Camera.create_from_model_id(1, model, 1.0, *size)
    params = draw(st.lists(st.floats(-9, 9), min_size=len(camera.params), max_size=len(camera.params)))
    for index in camera.focal_length_idxs():
        params[index] = draw(st.floats(1e-3, 1e5))
    camera.params = np.array(params)
    return camera


@examples
@given(st.dictionaries(image_names, cameras(), min_size=1, max_size=5))
def test_round_trip_without_loss(queries: dict[str, pycolmap.Camera]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queries.txt"
        write_query_list(path, queries)
        found = read_query_list(path)
        assert read_image_list(path) == list(queries)
    assert [name for name, _ in found] == list(queries)
    for (_, camera), expected in zip(found, queries.values(), strict=True):
        assert camera.model == expected.model
        assert (camera.width, camera.height) == (expected.width, expected.height)
        assert camera.params.tolist() == expected.params.tolist()


@examples
@given(st.lists(image_names, min_size=1, max_size=8, unique=True))
def test_round_trip_of_names(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_image_list(Path(folder) / "images.txt", iter(names))
        assert read_image_list(Path(folder) / "images.txt") == names


def test_a_line_of_aachen(tmp_path: Path) -> None:
    path = tmp_path / "day_time_queries_with_intrinsics.txt"
    path.write_bytes(f"\ufeff# queries\r\n\r\n{AACHEN_LINE}\r\n".encode())
    ((name, camera),) = read_intrinsics(path)
    assert name == "query/day/milestone/2010.jpg"
    assert camera.model == pycolmap.CameraModelId.SIMPLE_RADIAL
    assert (camera.width, camera.height) == (1600, 1200)
    assert camera.params.tolist() == [1469.2, 800, 600, -0.0353019]
    assert format_camera(camera) == "SIMPLE_RADIAL 1600 1200 1469.2 800.0 600.0 -0.0353019"


def test_a_pattern_reads_several_lists_in_order(tmp_path: Path) -> None:
    (tmp_path / "night_queries.txt").write_text("b.jpg PINHOLE 8 6 9 9 4 3\n")
    (tmp_path / "day_queries.txt").write_text("a.jpg PINHOLE 8 6 9 9 4 3\n")
    assert read_image_list(tmp_path / "*_queries.txt") == ["a.jpg", "b.jpg"]
    assert [name for name, _ in read_query_list(tmp_path / "*_queries.txt")] == ["a.jpg", "b.jpg"]
    with pytest.raises(MissingInputError, match=r"dusk_\*\.txt does not exist"):
        read_image_list(tmp_path / "dusk_*.txt")


def test_a_file_name_with_brackets_is_not_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "queries [2024].txt"
    path.write_text("a.jpg\n")
    assert read_image_list(path) == ["a.jpg"]


@pytest.mark.parametrize("reader", [read_image_list, read_query_list])
def test_repeated_names_and_empty_lists_are_refused(tmp_path: Path, reader) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{AACHEN_LINE}\n\n{AACHEN_LINE}\n")
    with pytest.raises(InputError, match=r"list\.txt, line 3: image '.*' is listed already \(.*line 1\)"):
        reader(path)
    path.write_text("# nothing\n\n")
    with pytest.raises(InputError, match=r"list\.txt lists no image"):
        reader(path)


def test_a_query_in_two_lists_is_refused(tmp_path: Path) -> None:
    for stem in ("day", "night"):
        (tmp_path / f"{stem}.txt").write_text("a.jpg\n")
    with pytest.raises(
        InputError, match=r"night\.txt, line 1: image 'a\.jpg' is listed already \(.*day\.txt"
    ):
        read_image_list(tmp_path / "*.txt")


def test_names_with_blanks_are_not_cut_silently(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.jpg\nmy photo.jpg\n")
    with pytest.raises(InputError, match=r"line 2: expected one image name, found 'my photo\.jpg'"):
        read_image_list(path)
    path.write_text("a.jpg 0 1234.5\n")  # Bundler's list.txt
    assert read_image_list(path) == ["a.jpg"]


@pytest.mark.parametrize("name", ["#1.jpg", "a b.jpg", ""])
def test_names_that_a_list_cannot_hold_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="rename"):
        write_image_list(tmp_path / "list.txt", [name])
    camera = parse_camera(["PINHOLE", "8", "6", "9", "9", "4", "3"], "here")
    with pytest.raises(InputError, match="rename"):
        write_query_list(tmp_path / "list.txt", [(name, camera)])
    assert not (tmp_path / "list.txt").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no intrinsics"),
        ("PINHOLE 8 6", "no intrinsics"),
        ("PINHOL 8 6 9 9 4 3", "unknown camera model 'PINHOL'; COLMAP has SIMPLE_PINHOLE, PINHOLE"),
        ("INVALID 8 6 9", "unknown camera model 'INVALID'"),
        ("PINHOLE 8 6 9 4 3", r"PINHOLE takes the parameters \(fx, fy, cx, cy\), found 3 numbers"),
        ("SIMPLE_RADIAL 8 6 9 4 3 0 0", r"\(f, cx, cy, k\), found 5 numbers"),
        ("PINHOLE eight 6 9 9 4 3", "must be numbers"),
        ("PINHOLE inf 6 9 9 4 3", "must be numbers"),
        ("PINHOLE nan 6 9 9 4 3", "must be numbers"),
        ("PINHOLE 8 6 9 9 4 x", "must be numbers"),
        ("PINHOLE 0 6 9 9 4 3", "width and height must be positive, parameters finite"),
        ("PINHOLE 8 -6 9 9 4 3", "width and height must be positive, parameters finite"),
        ("PINHOLE 8 6 -9 9 4 3", "focal length must be positive"),
        ("PINHOLE 8 6 9 0 4 3", "focal length must be positive"),
        ("PINHOLE 8 6 9 9 nan 3", "width and height must be positive, parameters finite"),
        ("PINHOLE 8 6 9 9 4 inf", "width and height must be positive, parameters finite"),
    ],
)
def test_wrong_intrinsics_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "queries.txt"
    path.write_text(f"{AACHEN_LINE}\nb.jpg {line}\n")
    with pytest.raises(InputError, match=rf"queries\.txt, line 2: .*{message}"):
        read_query_list(path)
