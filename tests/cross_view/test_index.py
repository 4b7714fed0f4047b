"""The gallery on disk: what is found, headings, and files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hloc_ext.cross_view.index import INDEX_NAME, TABLE_NAME, CrossViewIndex, TileTable
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.search import top_k


def descriptors(num: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def table(num: int, **about) -> TileTable:
    latlon = np.column_stack([np.linspace(10, 11, num), np.full(num, np.nan)])
    names = [f"tiles/{i}.jpg" for i in range(num)]
    labels = [None if i else "labels/0.png" for i in range(num)]
    return TileTable(names, latlon, np.full(num, 70.0), labels, Path("data"), about)


@pytest.fixture
def index() -> CrossViewIndex:
    return CrossViewIndex.build(table(30, weights="abc"), descriptors(30))


def test_search_is_that_of_exact_top_k(index):
    queries = descriptors(7, seed=1)
    found = index.search(queries, 5)
    tiles, scores = top_k(queries, index.descriptors(), 5)
    np.testing.assert_array_equal(found.tiles, tiles)
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    assert not found.turns.any()


def test_an_index_survives_the_disk(index, tmp_path):
    folder = index.save(tmp_path / "index")
    loaded = CrossViewIndex.load(folder)
    np.testing.assert_array_equal(loaded.descriptors(), index.descriptors())
    np.testing.assert_array_equal(loaded.table.latlon, index.table.latlon)  # NaN stays NaN
    assert loaded.table.names == list(index.table.names) and loaded.kind == "flat"
    assert loaded.table.path(3) == Path("data/tiles/3.jpg")
    assert loaded.table.label_path(0) == Path("data/labels/0.png") and loaded.table.label_path(1) is None
    assert loaded.table.about == {"weights": "abc"}
    assert CrossViewIndex.load(folder, tmp_path).table.path(0) == tmp_path / "tiles/0.jpg"


def test_each_tile_is_found_once_with_its_best_heading(index):
    rows = index.descriptors()
    queries = np.stack([[rows[4], rows[9], rows[4]], [rows[2], rows[1], rows[7]]])  # 2 queries × 3 headings
    found = index.search(queries, 30)
    for row in range(2):
        scores = queries[row] @ rows.T
        assert sorted(found.tiles[row]) == list(range(30))
        np.testing.assert_allclose(found.scores[row], np.sort(scores.max(0))[::-1], atol=1e-6)
        np.testing.assert_allclose(
            scores[found.turns[row], found.tiles[row]], scores.max(0)[found.tiles[row]], atol=1e-6
        )
    assert set(found.tiles[0, :2]) == {4, 9} and set(found.tiles[1, :3]) == {1, 2, 7}
    assert dict(zip(found.tiles[1, :3], found.turns[1, :3], strict=True)) == {2: 0, 1: 1, 7: 2}


def test_more_tiles_than_there_are_cannot_be_asked_for(index):
    assert index.search(descriptors(2, seed=3), 100).tiles.shape == (2, 30)


def test_other_weights_are_refused(index):
    index.check({"weights": "abc", "unknown to the index": 1})
    with pytest.raises(InputError, match="made with weights 'abc', the queries with 'def'"):
        index.check({"weights": "def"})


def test_bad_input_is_named(index):
    with pytest.raises(InputError, match="do not fit an index of 8 numbers"):
        index.search(descriptors(2, 9), 5)
    with pytest.raises(InputError, match="Unknown index 'hnsw'"):
        CrossViewIndex.build(table(3), descriptors(3), "hnsw")
    with pytest.raises(InputError, match="ivfpq needs 9984 tiles"):
        CrossViewIndex.build(table(3), descriptors(3), "ivfpq")
    with pytest.raises(InputError, match="do not belong to 3 tiles"):
        CrossViewIndex.build(table(3), descriptors(4))
    with pytest.raises(InputError, match="differ in number"):
        TileTable(["a"], np.zeros((2, 2)), np.zeros(1), [None], Path())


def test_damaged_files_are_named(index, tmp_path):
    with pytest.raises(MissingInputError, match=r"pipelines\.cross_view index"):
        CrossViewIndex.load(tmp_path)
    folder = index.save(tmp_path)
    whole = (folder / INDEX_NAME).read_bytes()
    (folder / INDEX_NAME).write_bytes(whole[:100])
    with pytest.raises(CorruptFileError, match="no index of FAISS"):
        CrossViewIndex.load(folder)
    CrossViewIndex.build(table(3), descriptors(3)).save(folder / "other")
    (folder / INDEX_NAME).write_bytes((folder / "other" / INDEX_NAME).read_bytes())
    with pytest.raises(CorruptFileError, match=f"holds 3 tiles, {TABLE_NAME} 30"):
        CrossViewIndex.load(folder)
    content = json.loads((folder / TABLE_NAME).read_text())
    (folder / TABLE_NAME).write_text(json.dumps({**content, "format": "x"}))
    with pytest.raises(CorruptFileError, match="no table of tiles"):
        CrossViewIndex.load(folder)


@pytest.mark.slow
def test_an_approximate_index_finds_nearly_the_same(tmp_path):
    rows = descriptors(10_000, 32)
    made = CrossViewIndex.build(table(10_000), rows, "ivfpq")
    loaded = CrossViewIndex.load(made.save(tmp_path))
    found = loaded.search(rows[:200], 5)
    assert (found.tiles[:, 0] == np.arange(200)).mean() > 0.9
    with pytest.raises(InputError, match="approximate"):
        loaded.descriptors()
