"""Match files: HLOC's keys, types and orders."""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.h5 import H5Writer
from hloc_ext.formats.matches import (
    MatchReader,
    check_indices,
    check_pair_keys,
    find_pair,
    get_matches,
    names_to_pair,
)
from tests.formats.strategies import examples, image_names


def test_keys_are_hlocs() -> None:
    assert names_to_pair("db/1.jpg", "query/night/2.jpg") == "db-1.jpg/query-night-2.jpg"
    assert names_to_pair("db/1.jpg", "2.jpg", "_") == "db-1.jpg_2.jpg"


@examples
@given(
    st.lists(image_names, min_size=2, max_size=2, unique_by=lambda name: name.replace("/", "-")),
    st.lists(st.integers(-1, 40), max_size=30),
)
def test_both_orders_of_a_pair_agree(names: list[str], targets: list[int]) -> None:
    matches0 = np.array(targets, np.int32)
    scores0 = np.linspace(0, 1, len(targets), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matches.h5"
        with H5Writer(path) as writer:
            writer.write(names_to_pair(*names), {"matches0": matches0, "matching_scores0": scores0})
        forward, scores = get_matches(path, names[0], names[1])
        backward, backward_scores = get_matches(path, names[1], names[0])
    expected = [(i, j) for i, j in enumerate(targets) if j >= 0]
    assert forward.reshape(-1, 2).tolist() == [list(pair) for pair in expected]
    assert scores.tolist() == [scores0[i] for i, _ in expected]
    assert np.array_equal(backward, forward[:, ::-1])
    assert np.array_equal(scores, backward_scores)


@pytest.mark.parametrize("separator", ["/", "_"])
@pytest.mark.parametrize("reverse", [False, True])
def test_reads_what_hloc_writes(tmp_path: Path, separator: str, reverse: bool) -> None:
    path = tmp_path / "matches.h5"
    names = ("db/1.jpg", "q/2.jpg")
    with h5py.File(path, "a", libver="latest") as fd:
        group = fd.create_group(names_to_pair(*(names[::-1] if reverse else names), separator))
        group.create_dataset("matches0", data=np.array([-1, 4, -1, 0], np.int16))
        group.create_dataset("matching_scores0", data=np.array([0, 0.5, 0, 0.25], np.float16))
    with MatchReader(path) as reader:
        assert reader.has(*names)
        assert reader.has(*names[::-1])
        assert not reader.has("db/1.jpg", "q/3.jpg")
        matches, scores = reader.get(*names)
    assert matches.dtype == np.int64
    assert matches.tolist() == ([[4, 1], [0, 3]] if reverse else [[1, 4], [3, 0]])
    assert matches.flags["C_CONTIGUOUS"]
    assert scores.tolist() == [0.5, 0.25]


def test_the_pair_as_asked_is_preferred_to_its_reverse(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "matches.h5", "w") as fd:
        fd["b/a/matches0"] = [0]
        assert find_pair(fd, "a", "b") == ("b/a", True)
        fd["a/b/matches0"] = [0]
        assert find_pair(fd, "a", "b") == ("a/b", False)
        assert find_pair(fd, "a", "c") is None


def test_matches_without_scores_and_without_matches(tmp_path: Path) -> None:
    path = tmp_path / "matches.h5"
    with h5py.File(path, "w") as fd:
        fd["a/b/matches0"] = np.array([1, -1, 0])
        fd["a/c/matches0"] = np.full(5, -1, np.int32)
        fd["a/d/keypoints0"] = np.zeros((1, 2))
    matches, scores = get_matches(path, "a", "b")
    assert matches.tolist() == [[0, 1], [2, 0]]
    assert scores.tolist() == [1, 1]
    matches, scores = get_matches(path, "a", "c")
    assert matches.shape == (0, 2)
    assert len(scores) == 0
    for other in ("d", "e"):
        with pytest.raises(MissingInputError, match=rf"no matches of the pair \('a', '{other}'\)"):
            get_matches(path, "a", other)


def test_names_with_the_same_key_are_refused() -> None:
    check_pair_keys(["a/b.jpg", "a/c.jpg", "a/b.jpg"])
    with pytest.raises(InputError, match=r"'a/b\.jpg' and 'a-b\.jpg' get the same key 'a-b\.jpg'"):
        check_pair_keys(["a/b.jpg", "c.jpg", "a-b.jpg"])


def test_indices_beyond_the_keypoints_are_refused() -> None:
    matches = np.array([[0, 3], [2, 1]])
    check_indices(matches, 3, 4, "m.h5, (a, b)")
    check_indices(np.zeros((0, 2), int), 0, 0, "m.h5")
    for sizes in ((2, 4), (3, 3)):
        with pytest.raises(InputError, match=r"m\.h5, \(a, b\): a match points to keypoint"):
            check_indices(matches, *sizes, "m.h5, (a, b)")
