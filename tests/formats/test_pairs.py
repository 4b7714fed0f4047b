"""Lists of pairs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.pairs import check_name, read_pairs, read_retrieval, unique_pairs, write_pairs
from tests.formats.strategies import examples, image_names


@examples
@given(st.lists(st.tuples(image_names, image_names), max_size=10))
def test_round_trip_keeps_order_and_repetitions(pairs: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.txt"
        write_pairs(path, iter(pairs))
        assert read_pairs(path) == pairs
        retrieval = read_retrieval(path)
    assert list(retrieval) == list(dict.fromkeys(query for query, _ in pairs))
    assert all(names == [b for a, b in pairs if a == query] for query, names in retrieval.items())


@examples
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"))))
def test_unique_pairs(pairs: list[tuple[str, str]]) -> None:
    unique = unique_pairs(pairs)
    assert {frozenset(pair) for pair in unique} == {frozenset(pair) for pair in pairs if pair[0] != pair[1]}
    assert len({frozenset(pair) for pair in unique}) == len(unique)
    positions = [pairs.index(pair) for pair in unique]
    assert positions == sorted(positions)


def test_blank_lines_tabs_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes("\ufeffa.jpg b.jpg\r\n\r\n c.jpg\td.jpg \r\n".encode())
    assert read_pairs(path) == [("a.jpg", "b.jpg"), ("c.jpg", "d.jpg")]


def test_no_pairs(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.txt", [])
    assert read_pairs(tmp_path / "pairs.txt") == []


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg b.jpg 0.5", "my photo.jpg b.jpg"])
def test_a_line_without_two_names_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(f"a b\n\n{line}\n")
    with pytest.raises(InputError, match=rf"pairs\.txt, line 3: expected two image names, found '{line}'"):
        read_pairs(path)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"pairs\.txt does not exist"):
        read_retrieval(tmp_path / "pairs.txt")


@pytest.mark.parametrize("name", ["", "my photo.jpg", "a\tb.jpg", "a\u3000b.jpg", " a.jpg", "a\n"])
def test_names_that_a_list_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="white space"):
        check_name(name)
    with pytest.raises(InputError, match="white space"):
        write_pairs(tmp_path / "pairs.txt", [("a.jpg", name)])
    assert not (tmp_path / "pairs.txt").exists()
