"""Shared points and boxes against loops over pairs, and what hard negatives are."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from hloc_ext.datasets.covisibility import (
    GREY,
    LEAST_WEIGHT,
    MIN_SHARED,
    Overlap,
    box_iou,
    hard_negatives,
    jaccard,
    normalised,
    shared_points,
)
from hloc_ext.datasets.sfm_scene import SfmScene
from hloc_ext.errors import InputError
from tests.datasets.text_model import View, write_text_model

#: Of the scene: images along a street, each of which observes points near it.
NUM_IMAGES, NUM_POINTS = 40, 400


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SfmScene:
    """The last image observes 5 points, the one before it none; two have the same points."""
    rng = np.random.default_rng(0)
    points = rng.normal([0, 0, 20], [0.6, 2, 3], (NUM_POINTS, 3))
    points[:, 0] += np.linspace(0, 20, NUM_POINTS)
    points[::50] += [0, 40, 0]  # outliers
    views = []
    for number in range(NUM_IMAGES):
        place = 20 * number / NUM_IMAGES
        near = np.flatnonzero(np.abs(np.linspace(0, 20, NUM_POINTS) - place) < 2.5)
        chosen = rng.choice(near, min(len(near), 45), replace=False)
        views.append(View(f"{number}.jpg", (place, 0, 0), {int(row): (70.0, 70.0) for row in chosen}))
    views[1] = View("night.jpg", (0.1, 0, 0), views[0].seen)
    views[-2] = View("blind.jpg")
    views[-1] = View("nearly blind.jpg", seen={row: (70.0, 70.0) for row in range(5)})
    return SfmScene.read(write_text_model(tmp_path_factory.mktemp("street"), points, views))


@pytest.fixture(scope="module")
def point_sets(scene: SfmScene) -> list[set[int]]:
    return [set(scene.observations[row].indices.tolist()) for row in range(NUM_IMAGES)]


def pairs() -> product:
    return product(range(NUM_IMAGES), repeat=2)


def test_shared_points_and_jaccard(scene: SfmScene, point_sets: list[set[int]]) -> None:
    shared, measure = shared_points(scene.observations), jaccard(scene.observations)
    assert isinstance(shared, csr_matrix) and isinstance(measure, csr_matrix)
    assert np.issubdtype(shared.dtype, np.integer)
    counts, values = shared.toarray(), measure.toarray()
    for i, j in pairs():
        first, second = point_sets[i], point_sets[j]
        assert counts[i, j] == len(first & second)
        expected = len(first & second) / max(len(first | second), 1)
        assert values[i, j] == pytest.approx(expected, abs=1e-6)
    assert shared.nnz == np.count_nonzero(counts) < NUM_IMAGES**2 / 2


def literal_box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Corners of the box of an image, by papers.md S3."""
    if len(points) < 3:
        return None
    scores = (points - points.mean(axis=0)) / points.std(axis=0)
    kept = np.array([point for point, score in zip(points, scores, strict=True) if max(abs(score)) <= 3])
    return kept.min(axis=0), kept.max(axis=0)


def literal_iou(first: tuple | None, second: tuple | None, union: str) -> float:
    if first is None or second is None:
        return 0.0
    intersection = volume = 1.0
    for axis in range(3):
        low, high = max(first[0][axis], second[0][axis]), min(first[1][axis], second[1][axis])
        intersection *= max(high - low, 0.0)
        volume *= max(first[1][axis], second[1][axis]) - min(first[0][axis], second[0][axis])
    if union == "true":
        volume = float(np.prod(first[1] - first[0]) + np.prod(second[1] - second[0]) - intersection)
    return float(intersection / volume)


@pytest.mark.parametrize("union", ["true", "hull"])
def test_box_iou(scene: SfmScene, point_sets: list[set[int]], union: str) -> None:
    values = box_iou(scene, union).toarray()  # type: ignore[arg-type]
    boxes = [literal_box(scene.points[sorted(seen)]) for seen in point_sets]
    all_points = [scene.points[sorted(seen)] for seen in point_sets[:-2]]
    assert any((np.abs(p - p.mean(0)) > 3 * p.std(0)).any() for p in all_points)
    for i, j in pairs():
        covisible = bool(point_sets[i] & point_sets[j])
        expected = literal_iou(boxes[i], boxes[j], union) if covisible else 0.0
        assert values[i, j] == pytest.approx(expected, abs=1e-5)


def test_box_iou_in_blocks(scene: SfmScene, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = box_iou(scene).toarray()
    monkeypatch.setattr("hloc_ext.datasets.covisibility._PAIR_BLOCK", 7)
    np.testing.assert_array_equal(box_iou(scene).toarray(), whole)
    with pytest.raises(InputError, match="union='both'"):
        box_iou(scene, "both")  # type: ignore[arg-type]


def test_boxes_of_two_points_or_a_plane_have_no_overlap(tmp_path: Path) -> None:
    points = [(0, 0, 1.0), (1, 1, 2.0), (2, 5, 1.0), (3, 2, 1.0)]
    seen = [(0, 1), (0, 1, 2, 3), (0, 2, 3)]
    views = [
        View(f"{number}.jpg", seen={row: (5.0, 5.0) for row in rows}) for number, rows in enumerate(seen)
    ]
    values = box_iou(SfmScene.read(write_text_model(tmp_path, points, views))).toarray()
    np.testing.assert_allclose(values, [[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_normalised_spans_the_positive_pairs() -> None:
    overlap = np.array(
        [[1.0, 0.2, 0.5, 0.1], [0.2, 1.0, 0.3, 0.0], [0.5, 0.3, 1.0, 0.0], [0.1, 0.0, 0.0, 1.0]]
    )
    positive = overlap >= 0.2
    values = normalised(csr_matrix(overlap), csr_matrix(positive)).toarray()
    third = 1 / 3
    expected = [[1, 0, 1, 0], [0, 1, third, 0], [1, third, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(values, expected, atol=1e-6)
    alone = normalised(csr_matrix(overlap), csr_matrix(np.eye(4, dtype=bool)))
    np.testing.assert_array_equal(alone.toarray(), np.eye(4))


@pytest.mark.parametrize("measure", ["jaccard", "box", "hull"])
def test_weights(scene: SfmScene, point_sets: list[set[int]], measure: str) -> None:
    weights = Overlap(scene, measure).weights(np.arange(NUM_IMAGES))  # type: ignore[arg-type]
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, weights.T)
    if measure == "jaccard":
        overlaps = jaccard(scene.observations).toarray()
    else:
        overlaps = box_iou(scene, "true" if measure == "box" else "hull").toarray()
    counts = np.array([[len(a & b) for a in point_sets] for b in point_sets])
    labels = (counts >= MIN_SHARED) & ~np.eye(NUM_IMAGES, dtype=bool)
    least, greatest = overlaps[labels].min(), overlaps[labels].max()
    seen = set()
    for i, j in pairs():
        if i == j:
            expected, kind = 1.0, "same"
        elif min(len(point_sets[i]), len(point_sets[j])) < MIN_SHARED:
            expected, kind = GREY, "unknown"
        elif counts[i, j] >= MIN_SHARED:
            expected, kind = max((overlaps[i, j] - least) / (greatest - least), LEAST_WEIGHT), "positive"
        else:
            expected, kind = (GREY, "grey") if counts[i, j] else (0.0, "negative")
        assert weights[i, j] == pytest.approx(expected, abs=1e-5)
        seen.add(kind)
    assert seen == {"same", "unknown", "positive", "grey", "negative"}
    assert weights[labels].min() == pytest.approx(LEAST_WEIGHT)


def test_another_picture_of_the_same_points_is_the_best_positive(scene: SfmScene) -> None:
    overlap = Overlap(scene)
    assert scene.names[1] == "night.jpg"
    weights = overlap.weights([0, 1, 2])
    assert weights[0, 1] == 1.0 > weights[0, 2] > 0


def test_weights_of_a_batch_with_repeated_images(scene: SfmScene) -> None:
    overlap = Overlap(scene)
    batch = np.array([7, 3, 3, NUM_IMAGES - 1, NUM_IMAGES - 1, 20])
    everything = overlap.weights(np.arange(NUM_IMAGES))
    np.testing.assert_array_equal(overlap.weights(batch), everything[np.ix_(batch, batch)])


def test_positives_and_negatives(scene: SfmScene) -> None:
    overlap = Overlap(scene)
    weights = overlap.weights(np.arange(NUM_IMAGES))
    np.fill_diagonal(weights, GREY)
    for index in range(NUM_IMAGES):
        np.testing.assert_array_equal(overlap.positives(index), np.flatnonzero(weights[index] > 0))
    np.testing.assert_array_equal(overlap.negatives(np.arange(NUM_IMAGES)), weights == 0)
    assert len(overlap) == NUM_IMAGES
    assert len(overlap.positives(0)) > 2 and not len(overlap.positives(NUM_IMAGES - 1))
    stricter = Overlap(scene, min_shared=20)
    assert set(stricter.positives(5)) < set(overlap.positives(5))


def test_nothing_is_known_of_a_model_without_points(tmp_path: Path) -> None:
    scene = SfmScene.read(write_text_model(tmp_path, [], [View("a.jpg"), View("b.jpg")]))
    for measure in ("jaccard", "box"):
        overlap = Overlap(scene, measure)  # type: ignore[arg-type]
        np.testing.assert_array_equal(overlap.weights([0, 1]), [[1, GREY], [GREY, 1]])
        assert (hard_negatives(np.eye(2), overlap, 1) == -1).all()


def test_options_of_overlap(scene: SfmScene) -> None:
    with pytest.raises(InputError, match="measure='volume'"):
        Overlap(scene, "volume")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="min_shared=0"):
        Overlap(scene, min_shared=0)


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    values = np.random.default_rng(5).normal(size=(NUM_IMAGES, 6)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 3])
def test_hard_negatives_are_among_the_nearest(scene: SfmScene, embeddings: np.ndarray, k: int) -> None:
    overlap = Overlap(scene)
    weights = overlap.weights(np.arange(NUM_IMAGES))
    found = hard_negatives(embeddings, overlap, k, seed=1)
    assert found.shape == (NUM_IMAGES, k)
    distances = np.linalg.norm(embeddings[:, None] - embeddings, axis=2)
    for row in range(NUM_IMAGES - 2):
        negatives = np.flatnonzero(weights[row] == 0)
        nearest = negatives[np.argsort(distances[row, negatives])]
        assert len(nearest) > 4 * k
        chosen = found[row].tolist()
        assert len(set(chosen)) == k
        assert set(chosen) <= set(nearest[: 4 * k].tolist())
        assert (np.diff(distances[row, chosen]) >= 0).all()
    # Neither is known to be negative with any image.
    assert (found[-2:] == -1).all()
    assert not np.isin(found, [NUM_IMAGES - 2, NUM_IMAGES - 1]).any()


def test_hard_negatives_follow_the_embeddings_and_the_seed(scene: SfmScene, embeddings: np.ndarray) -> None:
    overlap = Overlap(scene)
    found = hard_negatives(embeddings, overlap, 2, seed=1)
    np.testing.assert_array_equal(found, hard_negatives(embeddings, overlap, 2, seed=1))
    assert (found != hard_negatives(embeddings, overlap, 2, seed=2)).any()
    others = np.random.default_rng(6).normal(size=embeddings.shape)
    assert (found != hard_negatives(others, overlap, 2, seed=1)).any()


def test_hard_negatives_in_blocks(
    scene: SfmScene, embeddings: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlap = Overlap(scene)
    whole = hard_negatives(embeddings, overlap, 2, seed=1)
    monkeypatch.setattr("hloc_ext.datasets.covisibility._ROW_BLOCK", 11)
    np.testing.assert_array_equal(hard_negatives(embeddings, overlap, 2, seed=1), whole)


def test_fewer_negatives_than_wanted(scene: SfmScene, embeddings: np.ndarray) -> None:
    overlap = Overlap(scene)
    found = hard_negatives(embeddings, overlap, 35)
    negative = overlap.negatives(np.arange(NUM_IMAGES))
    for row in range(NUM_IMAGES):
        count = min(int(negative[row].sum()), 35)
        assert (found[row, count:] == -1).all()
        assert negative[row, found[row, :count]].all()


def test_embeddings_that_cannot_be_used(scene: SfmScene, embeddings: np.ndarray) -> None:
    overlap = Overlap(scene)
    broken = embeddings.copy()
    broken[3, 2] = np.nan
    for wrong, k in ((embeddings[:-1], 2), (broken, 2), (embeddings, 0), (embeddings[0], 1)):
        with pytest.raises(InputError, match="finite rows"):
            hard_negatives(wrong, overlap, k)
