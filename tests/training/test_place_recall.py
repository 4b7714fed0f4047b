from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hloc_ext.training.place_recall import embed_all, embed_pairs, pair_recall, scene_recall
from tests.crossvit_weights import SIZE, random_network
from tests.training.small_scene import row_of_images


def unit(n: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def literal_recall(embeddings, overlap, centers, queries, k):
    hits = []
    for i in range(len(embeddings)):
        if queries is not None and not queries[i]:
            continue
        gallery = [
            j
            for j in range(len(embeddings))
            if not np.array_equal(centers[i], centers[j]) and (queries is None or not queries[j])
        ]
        positives = set(overlap.positives(i).tolist())
        if not positives & set(gallery):
            continue
        nearest = sorted(gallery, key=lambda j: (-float(embeddings[i] @ embeddings[j]), j))[:k]
        hits.append(bool(positives & set(nearest)))
    return np.mean(hits)


@pytest.mark.parametrize("with_queries", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_recall_against_a_literal_one(seed, with_queries):
    count, overlap = 14, row_of_images(14)
    centers = np.repeat(np.arange(7), 2)[:, None] * np.ones(3)  # two images at each point
    queries = [i % 2 == 1 for i in range(count)] if with_queries else None
    found = scene_recall(unit(count, seed), overlap, centers, queries)
    for k in (1, 5):
        expected = literal_recall(unit(count, seed), overlap, centers, queries, k)
        assert found[f"recall@{k}"] == pytest.approx(expected, abs=1e-4)


def test_recall_of_embeddings_that_follow_the_row():
    angles = np.linspace(0, 1, 14)
    embeddings = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    centers = np.arange(14.0)[:, None] * np.ones(3)
    assert scene_recall(embeddings, row_of_images(14), centers) == {"recall@1": 1.0, "recall@5": 1.0}
    # What stands at the same point is not retrieved: nobody can be answered.
    assert scene_recall(embeddings, row_of_images(14), np.zeros((14, 3))) == {}


def test_recall_of_pairs():
    first = np.eye(6, dtype=np.float32)
    second = first[[1, 0, 2, 3, 4, 5]] + 0.5 * first
    assert pair_recall(first, second) == {"recall@1": 0.6667, "recall@5": 1.0}
    assert pair_recall(first[:3], second[:3])["recall@5"] == 1.0  # fewer than 5 views


class Pictures(Dataset):
    """Random pictures with random tokens, single or in pairs."""

    def __init__(self, count: int, shape: tuple[int, ...] = ()) -> None:
        self.count, self.shape = count, shape

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(index)
        shapes = {
            "image": (3, SIZE, SIZE),
            "points": (197, 3),
            "rays": (197, 3),
            "log_depths": (197,),
            "rotation": (6,),
            "published": (197, 192),
        }
        sample = {k: torch.randn(*self.shape, *shape, generator=generator) for k, shape in shapes.items()}
        return sample | {"state": torch.randint(0, 4, (*self.shape, 197), generator=generator)}


@pytest.mark.parametrize("spatial", [None, "rotary", "published"])
def test_embeddings_are_those_of_the_network(spatial):
    network = random_network(spatial)
    sample = {name: value[None] for name, value in Pictures(3)[1].items()}
    names = {
        None: [],
        "rotary": ["points", "rays", "log_depths", "state", "rotation"],
        "published": ["published"],
    }
    with torch.no_grad():
        expected = network(sample["image"], *(sample[name] for name in names[spatial]))
    found = embed_all(network, Pictures(3))
    assert found.shape == (3, 32)
    np.testing.assert_allclose(found[1], expected[0].numpy(), atol=1e-5)


def test_embeddings_of_pairs():
    network = random_network()
    first, second = embed_pairs(network, Pictures(2, (2,)))
    assert first.shape == second.shape == (2, 32)
    with torch.no_grad():
        expected = network(Pictures(2, (2,))[1]["image"])
    np.testing.assert_allclose(np.stack([first[1], second[1]]), expected.numpy(), atol=1e-5)
