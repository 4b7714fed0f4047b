"""Aggregation on arrays against the rules written out one match at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from hloc_ext.dense_aggregation import (
    Observations,
    aggregate,
    assign,
    cell_and_bin_size,
    nearest_keypoints,
    quantize,
)


def slow_quantize(x: float, y: float, size: float) -> tuple[float, float]:
    def centre(value: float) -> float:
        if size == 0:
            return float(value)
        number = float(np.round((np.float32(value) + np.float32(0.5)) / np.float32(size)))
        return float(np.float32(round(number * size - 0.5, 2)))

    return centre(x), centre(y)


def slow_aggregate(observations: list[Observations], max_keypoints: int | None):
    """One match at a time, with dictionaries: cell → bin → sum of scores."""
    cells: dict[tuple[float, float], dict[tuple[float, float], float]] = {}
    for o in observations:
        for (x, y), score in zip(o.keypoints, o.scores, strict=True):
            bins = cells.setdefault(slow_quantize(x, y, o.cell_size), {})
            bin_ = slow_quantize(x, y, o.bin_size)
            bins[bin_] = bins.get(bin_, 0.0) + float(score)
    best = [max(bins.items(), key=lambda item: item[1]) for bins in cells.values()]  # first of equal sums
    if max_keypoints:
        best = sorted(best, key=lambda item: -item[1])[:max_keypoints]  # stable: first seen of equal scores
    return [position for position, _ in best], [score for _, score in best]


def slow_assign(index0, index1, scores, num_keypoints0: int):
    """A match survives if no match of either of its keypoints is better, or equal and earlier."""
    matches0, scores0 = [-1] * num_keypoints0, [0.0] * num_keypoints0
    valid = [i for i in range(len(scores)) if index0[i] >= 0 and index1[i] >= 0]
    for i in valid:
        rivals = [j for j in valid if j != i and (index0[j] == index0[i] or index1[j] == index1[i])]
        if all((scores[i], -i) > (scores[j], -j) for j in rivals):
            matches0[index0[i]], scores0[index0[i]] = index1[i], scores[i]
    return matches0, scores0


def random_observations(seed: int, sizes: list[tuple[float, float]], n: int = 150) -> list[Observations]:
    rng = np.random.default_rng(seed)
    # Positions on a grid of 1/4 pixel and few score levels: many equal cells, bins and sums.
    return [
        Observations(
            (rng.integers(0, 100, (n, 2)) / 4).astype(np.float32),
            (rng.integers(1, 5, n) / 4).astype(np.float32),
            *size,
        )
        for size in sizes
    ]


@pytest.mark.parametrize(
    ("max_error", "cell_size", "expected"),
    [(2, 8, (8, 2)), (4, 1, (4, 4)), (1.5, None, (1.5, 1)), (0.5, 0.25, (0.5, 0)), (0, 0, (0, 0))],
)
def test_cell_is_at_least_the_error_and_bins_are_whole_pixels(max_error, cell_size, expected):
    assert cell_and_bin_size(max_error, cell_size) == expected


def test_quantize_keeps_pixel_corners_on_the_grid():
    positions = np.array([[-0.5, 3.4], [3.6, 7.5], [11.49, 11.51]])
    assert quantize(positions, 8).tolist() == [[-0.5, -0.5], [7.5, 7.5], [7.5, 15.5]]
    assert quantize(positions, 0).tolist() == positions.astype(np.float32).tolist()
    assert not np.signbit(quantize(np.array([[-0.0, 0.0]]), 0)).any()


@pytest.mark.parametrize("max_keypoints", [None, 0, 5, 40, 10_000])
@pytest.mark.parametrize(
    "sizes",
    [[(8, 2)] * 3, [(1, 1)] * 2, [(2.5, 2)] * 2, [(0, 0)] * 2, [(0, 0), (4, 2), (0, 0)]],
    ids=str,
)
def test_aggregate_equals_the_slow_reference(sizes, max_keypoints):
    observations = random_observations(len(sizes), sizes)
    keypoints, scores = aggregate(observations, max_keypoints)
    expected_keypoints, expected_scores = slow_aggregate(observations, max_keypoints)
    assert keypoints.dtype == np.float32 and scores.dtype == np.float32
    assert list(map(tuple, keypoints.tolist())) == expected_keypoints
    assert scores.tolist() == expected_scores


def test_best_bin_wins_over_the_first_and_ties_go_to_the_first():
    keypoints = np.array([[0, 0], [3, 3], [3, 3], [30, 30], [33, 33]], np.float32)
    scores = np.array([0.5, 0.3, 0.3, 0.4, 0.4], np.float32)
    best, sums = aggregate([Observations(keypoints, scores, 16, 2)], 10)
    assert best.tolist() == [[3.5, 3.5], [29.5, 29.5]]
    np.testing.assert_allclose(sums, [0.6, 0.4], rtol=1e-6)


def test_no_matches_make_no_keypoints():
    empty = Observations(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), 8, 2)
    for observations in ([], [empty, empty]):
        keypoints, scores = aggregate(observations, 10)
        assert keypoints.shape == (0, 2) and scores.shape == (0,)


def test_nearest_keypoint_within_the_error_inclusive():
    tree = cKDTree([[0.0, 0.0], [10.0, 0.0]])
    positions = np.array([[2.0, 0.0], [2.001, 0.0], [9.0, 1.0], [5.0, 5.0]])
    assert nearest_keypoints(tree, positions, 2).tolist() == [0, -1, 1, -1]
    assert nearest_keypoints(tree, tree.data, 0).tolist() == [0, 1]
    assert nearest_keypoints(cKDTree(np.zeros((0, 2))), positions, 2).tolist() == [-1] * 4
    assert nearest_keypoints(tree, np.zeros((0, 2)), 2).tolist() == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 6), st.integers(-1, 6), st.integers(1, 4)), max_size=40))
def test_assign_equals_the_slow_reference(rows):
    index0, index1, scores = np.array(rows, int).reshape(-1, 3).T
    scores = (scores / 4).astype(np.float32)
    matches0, scores0 = assign(index0, index1, scores, 7)
    expected_matches, expected_scores = slow_assign(index0, index1, scores, 7)
    assert matches0.dtype == np.int32 and scores0.dtype == np.float16
    assert matches0.tolist() == expected_matches
    assert scores0.tolist() == expected_scores


def test_indices_above_16_bits_survive():
    matches0, _ = assign(np.array([40_000]), np.array([50_000]), np.ones(1), 40_001)
    assert matches0[40_000] == 50_000 and len(matches0) == 40_001
