"""Metrics of retrieval against literal evaluations of their definitions."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from hloc_ext.errors import InputError
from hloc_ext.evaluation.retrieval import (
    chance_recall,
    count_relevant,
    find_hits,
    precision_at_k,
    recall_at_k,
    retrieval_scores,
    vpr_recall,
    within_distance,
    within_frames,
    without,
)


def random_ranking(
    num_queries: int = 30, num_images: int = 40, depth: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([5, 1])
    relevant = rng.random((num_queries, num_images)) < rng.random((num_queries, 1)) * 0.4
    relevant[3] = False
    ranking = np.array([rng.permutation(num_images)[:depth] for _ in range(num_queries)])
    ranking[5, 12:] = -1
    return ranking, relevant


@pytest.mark.parametrize("sparse", [False, True])
def test_scores_are_the_published_definitions(sparse: bool) -> None:
    ranking, relevant = random_ranking()
    ks = (1, 5, 20)
    precision: dict[int, list[float]] = {k: [] for k in ks}
    recall: dict[int, list[float]] = {k: [] for k in ks}
    for row, found in zip(ranking, relevant, strict=True):
        positives = set(np.flatnonzero(found))
        if not positives:
            continue
        for k in ks:
            hits = len(positives & set(row[:k]))
            precision[k].append(hits / min(k, len(positives)))
            recall[k].append(float(hits > 0))
    scores = retrieval_scores(ranking, csr_matrix(relevant) if sparse else relevant, ks)
    assert scores.num_queries == 30 - scores.num_without
    assert scores.num_without == (~relevant.any(1)).sum() >= 1
    assert scores.mean_relevant == pytest.approx(relevant.sum() / scores.num_queries)
    for k in ks:
        assert scores.precision[k] == pytest.approx(np.mean(precision[k]))
        assert scores.recall[k] == pytest.approx(np.mean(recall[k]))


def test_few_relevant_images_can_reach_full_precision() -> None:
    hits = find_hits([[4, 1, 0, 2], [0, 1, 2, 3]], [[0, 1, 0, 0, 1], [0, 0, 0, 1, 1]])
    np.testing.assert_array_equal(hits, [[1, 1, 0, 0], [0, 0, 0, 1]])
    assert precision_at_k(hits, np.array([2, 2]), 4) == pytest.approx((1 + 0.5) / 2)
    assert recall_at_k(hits, 3) == 0.5


def test_missing_ranks_are_no_hits() -> None:
    # −1 must not be taken for the last image.
    np.testing.assert_array_equal(find_hits([[-1, 0, -1]], [[False, True]]), [[False, False, False]])


def test_bad_rankings_are_refused() -> None:
    relevant = np.eye(3, dtype=bool)
    with pytest.raises(InputError, match="does not belong"):
        find_hits([[0], [1]], relevant)
    with pytest.raises(InputError, match="0 to 3"):
        find_hits([[0], [1], [3]], relevant)
    with pytest.raises(InputError, match="twice"):
        find_hits([[0, 0], [1, 2], [2, 1]], relevant)
    with pytest.raises(InputError, match="k = 2"):
        recall_at_k(find_hits([[0], [1], [2]], relevant), 2)
    with pytest.raises(InputError, match="None of the 2"):
        retrieval_scores([[0], [1]], np.zeros((2, 2), bool), (1,))
    with pytest.raises(InputError, match="relevant image for each"):
        precision_at_k(np.array([[True]]), np.array([0]), 1)


def test_queries_do_not_count_as_their_own_answer() -> None:
    relevant = np.array([[1, 1, 0, 0], [0, 1, 0, 0]], bool)
    cleaned = without(relevant, [[0, -1], [1, 3]])
    np.testing.assert_array_equal(cleaned.toarray(), [[0, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(count_relevant(cleaned), [1, 0])
    assert relevant[0, 0]  # the argument stays as it is


def test_chance_is_what_random_orders_reach() -> None:
    counts, n = np.array([0, 1, 5, 37]), 40
    for k in (1, 5, 10):
        exact = np.mean([1 - comb(n - r, k) / comb(n, k) for r in counts])
        assert chance_recall(counts, n, k) == pytest.approx(exact)
    assert chance_recall([2], [3], 10) == 1.0
    assert chance_recall([0], [3], 10) == 0.0
    assert chance_recall([1, 1], [2, 4], 1) == pytest.approx((0.5 + 0.25) / 2)
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(12)[:3] for _ in range(20_000)])
    assert chance_recall([4], 12, 3) == pytest.approx((orders < 4).any(1).mean(), abs=0.01)


def test_places_are_found_within_the_radius() -> None:
    queries, database = (
        np.array([[0.0, 0.0], [100.0, 0.0]]),
        np.array([[0.0, 25.0], [0.0, -26.0], [120.0, 0.0]]),
    )
    np.testing.assert_array_equal(
        within_distance(queries, database).toarray(), [[True, False, False], [False, False, True]]
    )
    ranking = [[1, 0], [2, 1]]
    assert vpr_recall(ranking, queries, database, ks=(1, 2)) == {1: 0.5, 2: 1.0}
    # A query with no image within the radius is left out.
    assert vpr_recall([[0], [1]], queries, database[:2], ks=(1,)) == {1: 1.0}
    with pytest.raises(InputError, match="not finite"):
        within_distance([[np.nan, 0]], database)
    with pytest.raises(InputError, match="same frame"):
        within_distance([[0.0, 0, 0]], database)


def test_frames_of_a_sequence() -> None:
    relevant = within_frames([1, 7], [0, 2, 4, 6, 8], 1)
    np.testing.assert_array_equal(relevant.toarray(), [[1, 1, 0, 0, 0], [0, 0, 0, 1, 1]])
