"""Nearest-neighbour matching against a naive implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hloc_ext.matchers.nearest_neighbor import NearestNeighbor


def unit(rng: np.random.Generator, number: int, dim: int = 8) -> np.ndarray:
    """number×dim unit vectors, float32."""
    vectors = rng.standard_normal((number, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def naive(a: np.ndarray, b: np.ndarray, ratio: float | None, distance: float | None, mutual: bool):
    """Matches of the rows of `a` in `b` by loops over Euclidean distances, and scores."""

    def one_way(x: np.ndarray, y: np.ndarray) -> list[int]:
        matches = []
        for row in x:
            distances = np.linalg.norm(y.astype(float) - row.astype(float), axis=1)
            order = np.argsort(distances)
            best = int(order[0])
            if ratio and min(len(a), len(b)) > 1 and distances[best] > ratio * distances[order[1]]:
                best = -1
            if distance and distances[order[0]] > distance:
                best = -1
            matches.append(best)
        return matches

    forward, backward = one_way(a, b), one_way(b, a)
    matches = [j if j >= 0 and (not mutual or backward[j] == i) else -1 for i, j in enumerate(forward)]
    scores = [(float(a[i] @ b[j]) + 1) / 2 if j >= 0 else 0.0 for i, j in enumerate(forward)]
    return np.array(matches), np.array(scores)


def match(a: np.ndarray, b: np.ndarray, **conf):
    """Run the model on rows of descriptors."""
    data = {f"descriptors{i}": torch.from_numpy(x.T.copy())[None] for i, x in enumerate((a, b))}
    output = NearestNeighbor(conf)(data)
    return output["matches0"][0].numpy(), output["matching_scores0"][0].numpy()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num0=st.integers(1, 12),
    num1=st.integers(1, 12),
    ratio=st.sampled_from([None, 0.7, 0.9]),
    distance=st.sampled_from([None, 0.6, 1.0]),
    mutual=st.booleans(),
)
def test_equals_loops_over_distances(seed, num0, num1, ratio, distance, mutual):
    rng = np.random.default_rng(seed)
    a, b = unit(rng, num0), unit(rng, num1)
    shared = min(num0, num1) // 2
    b[:shared] = a[:shared] + 0.15 * unit(rng, shared)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    expected, expected_scores = naive(a, b, ratio, distance, mutual)
    found, scores = match(a, b, ratio_threshold=ratio, distance_threshold=distance, do_mutual_check=mutual)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


@pytest.mark.parametrize("num0, num1", [(0, 5), (5, 0), (0, 0)])
def test_no_keypoints_give_no_matches(num0, num1):
    rng = np.random.default_rng(0)
    matches, scores = match(unit(rng, num0), unit(rng, num1), ratio_threshold=0.8)
    np.testing.assert_array_equal(matches, np.full(num0, -1))
    np.testing.assert_array_equal(scores, np.zeros(num0))


def test_with_a_single_keypoint_there_is_no_ratio():
    one = unit(np.random.default_rng(0), 1)
    matches, scores = match(one, one, ratio_threshold=0.8)
    assert matches.tolist() == [0]
    assert scores[0] == pytest.approx(1)


def test_indices_above_16_bits():
    rng = np.random.default_rng(1)
    many = unit(rng, 40_000, 16)
    wanted = np.array([39_999, 32_768, 5])
    matches, _ = match(many[wanted], many)
    np.testing.assert_array_equal(matches, wanted)
