"""Mixtures of data sets: proportions, determinism, strictness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from hloc_ext.datasets import SAMPLE_KEYS
from hloc_ext.datasets.mixture import MixedPairs
from hloc_ext.errors import InputError


class Numbers(Dataset):
    """Samples whose tensors hold the number of the data set and the index."""

    def __init__(self, number: int, length: int, keys: tuple[str, ...] = SAMPLE_KEYS) -> None:
        self.number, self.length, self.keys = number, length, keys

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([self.number, index]) for key in self.keys}


def test_proportions() -> None:
    mixture = MixedPairs([Numbers(0, 10), Numbers(1, 1000), Numbers(2, 7)], [1, 6, 3], length=4000)
    assert len(mixture) == 4000
    located = np.array([mixture.locate(index) for index in range(4000)])
    np.testing.assert_allclose(np.bincount(located[:, 0]) / 4000, [0.1, 0.6, 0.3], atol=0.025)
    assert set(located[located[:, 0] == 2, 1]) == set(range(7))
    assert located[located[:, 0] == 1, 1].max() > 950


def test_samples_depend_on_seed_and_index_only() -> None:
    datasets, weights = [Numbers(0, 50), Numbers(1, 50)], [0.5, 0.5]
    mixture = MixedPairs(datasets, weights, length=100, seed=1)
    chosen = [mixture[index]["image0"].tolist() for index in range(100)]
    again = MixedPairs(datasets, [2, 2], length=200, seed=1)
    assert [again[index]["image0"].tolist() for index in range(100)] == chosen
    other = MixedPairs(datasets, weights, length=100, seed=2)
    assert [other[index]["image0"].tolist() for index in range(100)] != chosen
    assert chosen[5] == list(mixture.locate(5))
    for index in (-1, 100):
        with pytest.raises(IndexError):
            mixture[index]


@pytest.mark.parametrize(
    ("lengths", "weights", "length", "problem"),
    [
        ([], [], 1, "0 data sets and 0 weights"),
        ([3, 3], [1], 1, "2 data sets and 1 weights"),
        ([3, 3], [1, 0], 1, "above 0"),
        ([3, 3], [1, float("nan")], 1, "above 0"),
        ([3, 0], [1, 1], 1, "Data set 1 is empty"),
        ([3], [1], 0, "length=0"),
    ],
)
def test_mixtures_that_cannot_be_used(lengths: list[int], weights: list, length: int, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        MixedPairs([Numbers(i, n) for i, n in enumerate(lengths)], weights, length)


def test_samples_with_other_tensors_are_refused() -> None:
    with pytest.raises(InputError, match=r"Sample 0 of data set 0 has .* contract in points0"):
        MixedPairs([Numbers(0, 1, tuple(key for key in SAMPLE_KEYS if key != "points0"))], [1], 1)[0]
