"""Several data sets as one, in given proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import InputError
from . import SAMPLE_KEYS

Sample = dict[str, torch.Tensor]

# First word of the seeds of what this module draws.
_MIXTURE = 631


class MixedPairs(Dataset[Sample]):
    """Samples drawn from several data sets.

    Args:
        datasets: each with ``__len__`` and ``__getitem__``; all samples have the same height and width.
        weights: expected share of each, in any unit.
        length: number of samples.
        seed: of the choice of the data set and of the sample in it.

    Raises:
        InputError: no data set, an empty one, or weights that are no shares.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset[Sample]],
        weights: Sequence[float],
        length: int,
        seed: int = 0,
    ) -> None:
        if not datasets or len(datasets) != len(weights):
            raise InputError(
                f"{len(datasets)} data sets and {len(weights)} weights: expected one weight each."
            )
        if not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise InputError(
                f"Weights {list(weights)}: expected numbers above 0; leave out what is not wanted."
            )
        self.lengths = [_length(dataset) for dataset in datasets]
        if min(self.lengths) < 1:
            raise InputError(f"Data set {self.lengths.index(0)} is empty: leave it out.")
        if length < 1:
            raise InputError(f"length={length}: expected 1 or more.")
        self.datasets, self.length, self.seed = list(datasets), length, seed
        self._bounds = np.cumsum(np.asarray(weights, np.float64) / sum(weights))

    def __len__(self) -> int:
        return self.length

    def locate(self, index: int) -> tuple[int, int]:
        """Number of the data set of a sample, and its index in it."""
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, _MIXTURE, index])
        number = min(int(np.searchsorted(self._bounds, rng.random(), "right")), len(self.datasets) - 1)
        return number, int(rng.integers(self.lengths[number]))

    def __getitem__(self, index: int) -> Sample:
        number, position = self.locate(index)
        sample = self.datasets[number][position]
        if set(sample) != set(SAMPLE_KEYS):
            different = sorted(set(sample) ^ set(SAMPLE_KEYS))
            raise InputError(
                f"Sample {position} of data set {number} has {', '.join(sorted(sample))}: it differs from the"
                f" contract in {', '.join(different)}."
            )
        return sample


def _length(dataset: Any) -> int:
    return len(dataset)
