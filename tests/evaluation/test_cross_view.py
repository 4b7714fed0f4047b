"""Ranks with ties, published forms of recall, hit rate, and the rule by metres."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hloc_ext.errors import InputError
from hloc_ext.evaluation import cross_view
from hloc_ext.evaluation.cross_view import (
    Ranks,
    evaluate_retrieval,
    one_percent,
    rank_references,
    within_metres,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def random_descriptors(num: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(num, dim)))


def make_ranks(greater: int, tied: int, tied_true: int = 1) -> Ranks:
    numbers = [np.array([value]) for value in (greater, tied, tied_true)]
    return Ranks(*numbers, np.zeros(1, np.float32), np.zeros(1, np.int64), 100)


def test_rank_is_the_number_of_strictly_better_tiles():
    queries, references = random_descriptors(7), random_descriptors(40, seed=1)
    positives = np.arange(7) * 5
    scores = queries.astype(float) @ references.astype(float).T
    ranks = rank_references(queries, references, positives)
    assert ranks.greater.tolist() == [
        int((row > row[p]).sum()) for row, p in zip(scores, positives, strict=True)
    ]
    assert not ranks.tied.any() and ranks.tied_true.tolist() == [1] * 7
    np.testing.assert_array_equal(ranks.best, scores.argmax(1))
    np.testing.assert_allclose(ranks.similarity, scores[np.arange(7), positives], atol=1e-6)


def test_blocks_make_no_difference(monkeypatch):
    queries, references = random_descriptors(50), random_descriptors(30, seed=1)
    whole = rank_references(queries, references, np.arange(50) % 30)
    monkeypatch.setattr(cross_view, "_BLOCK_ELEMENTS", 100)
    parts = rank_references(queries, references, np.arange(50) % 30)
    np.testing.assert_array_equal(whole.greater, parts.greater)


def test_duplicate_tiles_tie_and_the_three_recalls_differ():
    """Published figures are the optimistic ones; an index returns one of the duplicates."""
    references = random_descriptors(64, 256)
    references[40] = references[41] = references[7]  # in other places of a matrix product's blocks
    ranks = rank_references(references[[7, 3]], references, [7, 3])
    assert ranks.greater.tolist() == [0, 0] and ranks.tied.tolist() == [2, 0]
    assert ranks.num_tied_queries == 1
    assert ranks.recall(1) == 1
    assert ranks.recall(1, "pessimistic") == 0.5
    assert ranks.recall(1, "expected") == pytest.approx((1 / 3 + 1) / 2)
    assert [ranks.hits(k, "expected")[0] for k in (1, 2, 3, 4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_tolerance_makes_near_duplicates_tie():
    references = random_descriptors(20)
    references[5] = unit(references[4] + 1e-5)
    exact = rank_references(references[4:5], references, [4])
    near = rank_references(references[4:5], references, [4], tolerance=1e-3)
    assert exact.tied[0] == 0 and near.tied[0] == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3), st.integers(0, 4), st.integers(1, 3), st.integers(1, 9))
def test_expected_recall_is_the_mean_over_all_orders_of_equal_tiles(greater, tied, tied_true, k):
    orders = set(itertools.permutations([False] * tied + [True] * tied_true))
    found = [any(order[: max(k - greater, 0)]) for order in orders]
    assert make_ranks(greater, tied, tied_true).recall(k, "expected") == pytest.approx(np.mean(found))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 45))
def test_expected_recall_lies_between_the_others(greater, tied, k):
    ranks = make_ranks(greater, tied)
    expected = ranks.recall(k, "expected")
    assert ranks.recall(k, "pessimistic") - 1e-12 <= expected <= ranks.recall(k) + 1e-12


def test_the_most_similar_heading_counts():
    references = np.eye(4, dtype=np.float32)
    headings = np.stack([references[[3, 2]], references[[0, 2]]], axis=1)  # 2 queries × 2 headings
    ranks = rank_references(headings, references, [0, 1])
    assert ranks.greater.tolist() == [0, 1] and ranks.tied.tolist() == [1, 2]
    np.testing.assert_allclose(ranks.similarity, [1, 0])
    single = random_descriptors(5, 4)
    np.testing.assert_array_equal(
        rank_references(single[:, None], references, [0] * 5).greater,
        rank_references(single, references, [0] * 5).greater,
    )


def test_of_several_true_tiles_the_best_counts():
    references = np.eye(6, dtype=np.float32)
    query = unit(np.array([[0.9, 0.8, 0.7, 0.1, 0.0, 0.0]]))
    assert rank_references(query, references, [[3, 1]]).greater.tolist() == [1]
    assert rank_references(query, references, [[3, -1]]).greater.tolist() == [3]


def test_hit_rate_leaves_semi_positives_out_and_recall_does_not():
    """VIGOR: the three semi-positives are masked out of the better set, everything else counts."""
    references = np.eye(6, dtype=np.float32)
    queries = unit(np.array([[0.5, 0.9, 0, 0, 0, 0], [0, 0, 0.5, 0, 0.9, 0], [0, 0, 0, 1.0, 0, 0]]))
    scores = evaluate_retrieval(queries, references, [0, 2, 3], [[1, -1], [3, 5], [-1, -1]])
    assert scores.recall["optimistic"]["1"] == pytest.approx(1 / 3)
    assert scores.hit_rate == pytest.approx(2 / 3)
    assert evaluate_retrieval(queries, references, [0, 2, 3], [[-1], [-1], [-1]]).hit_rate is None
    assert evaluate_retrieval(queries, references, [0, 2, 3]).hit_rate is None


def test_a_semi_positive_that_is_also_the_true_tile_still_counts():
    references = np.eye(3, dtype=np.float32)
    ranks = rank_references(references[:1], references, [0], [[0, 1]])
    assert ranks.greater.tolist() == [0] and ranks.tied_true.tolist() == [1]


def test_one_percent_of_the_galleries_of_the_field():
    assert [one_percent(n) for n in (8884, 92802, 90618, 46563)] == [88, 928, 906, 465]
    assert [one_percent(n, "vigor") for n in (8884, 92802)] == [89, 929]
    assert one_percent(42) == 1 and one_percent(42, "vigor") == 1
    with pytest.raises(InputError, match="vigor"):
        one_percent(100, "ceil")


def test_recall_columns_follow_the_gallery():
    references = random_descriptors(300)
    queries = unit(references[:50] + 0.3 * random_descriptors(50, seed=3))
    scores = evaluate_retrieval(queries, references, np.arange(50))
    found = scores.recall["optimistic"]
    ranks = rank_references(queries, references, np.arange(50))
    assert list(found) == ["1", "5", "10", "1%", "1%+1"]
    assert found["1%"] == ranks.recall(3) and found["1%+1"] == ranks.recall(4)
    assert scores.row()["R@5"] == 100 * ranks.recall(5)
    assert scores.num_references == 300 and scores.num_queries == 50


def test_the_rule_of_cvact_counts_any_tile_within_five_metres():
    references = np.eye(4, dtype=np.float32)
    centres = np.array([[0.0, 0], [4, 3], [6, 0], [np.nan, 0]])  # 5 m, 6 m, unknown
    places = np.array([[0.0, 0], [0, 0], [100, 0]])
    queries = references[[1, 2, 0]]
    scores = evaluate_retrieval(queries, references, [0, 0, 0], None, places, centres)
    assert scores.num_within == 2  # of the third none lies within 5 m
    assert scores.recall_within is not None and scores.recall_within["1"] == 0.5
    assert scores.recall["optimistic"]["1"] == pytest.approx(1 / 3)
    np.testing.assert_allclose(scores.distance, [5, 6, 100])
    assert scores.median_distance == pytest.approx(6)
    assert scores.row()["R@1 within 5 m"] == 50


def test_within_metres():
    found = within_metres([[0.0, 0], [50, 0], [np.nan, 0]], [[5.0, 0], [0, 5.1], [0, 1]])
    assert found.tolist() == [[0, 2], [-1, -1], [-1, -1]]


def test_no_matrix_of_all_pairs_is_needed_for_a_gallery_of_vigor(monkeypatch):
    """90,618 tiles: similarities come in blocks of queries."""
    monkeypatch.setattr(cross_view, "_BLOCK_ELEMENTS", 90_618 * 2)
    sizes = []
    original = cross_view._rank_block

    def watched(queries, references, *rest):
        sizes.append(len(queries) * len(references))
        return original(queries, references, *rest)

    monkeypatch.setattr(cross_view, "_rank_block", watched)
    references = random_descriptors(90_618, 4)
    ranks = rank_references(references[:5], references, np.arange(5))
    assert max(sizes) <= 90_618 * 2 and len(sizes) == 3
    assert (ranks.greater <= 1).all()


@pytest.mark.parametrize(
    ("queries", "references", "positives", "message"),
    [
        (random_descriptors(2), random_descriptors(3, 8), [0, 1], "cannot be compared"),
        (random_descriptors(2), random_descriptors(3), [0, 3], "the gallery has 3"),
        (random_descriptors(2), random_descriptors(3), [0], "do not belong to 2 queries"),
        (random_descriptors(2), random_descriptors(3), [0, -1], "Query 1 has no true tile"),
        (np.full((1, 4), np.nan), random_descriptors(3, 4), [0], "finite"),
        (random_descriptors(2), np.empty((0, 16)), [0, 0], "not empty"),
    ],
)
def test_bad_input_is_named(queries, references, positives, message):
    with pytest.raises(InputError, match=message):
        rank_references(queries, references, positives)


def test_unknown_rules_are_refused():
    with pytest.raises(InputError, match="optimistic"):
        make_ranks(0, 0).recall(1, "hopeful")
    with pytest.raises(InputError, match="k ≥ 1"):
        make_ranks(0, 0).recall(0)
