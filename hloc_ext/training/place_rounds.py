"""A training in rounds: each has negatives mined with what was learnt before, and its size of images."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from .place_batches import AnchorOrder, Indices, draw_batches, mine_negatives
from .place_data import PlaceData
from .trainer import TrainerConfig, fit, read_progress


class Rounds:
    """Rounds of one training; one that is interrupted goes on with the batches that were drawn.

    Args:
        data: scenes and photos.
        output: folder of the training; ``anchors.npy`` in it holds the batches.
        config: of the training.

    Raises:
        CorruptFileError: the files in `output` are not those of this training.
    """

    def __init__(self, data: PlaceData, output: Path, config: TrainerConfig) -> None:
        self.data, self.output, self.config = data, output, config
        self.processes = config.devices * config.num_nodes
        self.done = read_progress(output)[0]
        path = output / "anchors.npy"
        if not self.done:
            path.unlink(missing_ok=True)  # of a training that was killed before its first checkpoint
        self.order = AnchorOrder(path, config.batch_size)

    def fit(self, module: nn.Module, averaged: Callable[[nn.Module], nn.Module]) -> Mapping[str, Tensor]:
        """Train a module; arguments and result are those of :func:`~hloc_ext.training.trainer.fit`."""
        started, limit = time.monotonic(), self.config.max_seconds
        state: Mapping[str, Tensor] = averaged(module).state_dict()
        for round_ in self.bounds():
            if round_.stop <= self.done and round_.stop < self.config.steps:
                continue
            self._draw(round_, averaged(module))
            size = self.data.size_at(round_.start, self.config.steps)
            left = max(limit - (time.monotonic() - started), 1e-9) if limit else 0.0
            state = fit(
                module,
                self.data.training(interleaved(self.order.batches, self.processes), size, self.config.seed),
                self.output,
                dataclasses.replace(self.config, max_seconds=left),
                validate=functools.partial(self.data.figures, size=size),
                averaged=averaged,
                stop_step=round_.stop,
            )
            if 0 < limit < time.monotonic() - started:
                break
        return state

    def bounds(self) -> list[range]:
        """Steps of each round."""
        steps, refresh = self.config.steps, self.data.config.refresh_steps
        starts = {0, self.data.last_size_step(steps)}
        if self.data.config.negatives:
            starts |= set(range(0, steps, refresh))
        ordered = [*sorted(start for start in starts if start < steps), steps]
        return [range(*pair) for pair in itertools.pairwise(ordered)]

    def _draw(self, round_: range, network: nn.Module) -> None:
        """Draw the batches of a round that were not drawn before."""
        missing = range(max(len(self.order), round_.start * self.processes), round_.stop * self.processes)
        if not missing:
            return
        config, negatives = self.data.config, None
        if config.negatives and round_.start:
            negatives = self._mine(round_, network)
        batches = draw_batches(
            self.data.anchors,
            missing,
            self.config.batch_size,
            config.photo_share,
            self.config.seed,
            negatives,
        )
        self.order.extend(batches)

    def _mine(self, round_: range, network: nn.Module) -> dict[int, Indices]:
        """Negatives by the averaged weights of the checkpoint."""
        own = copy.deepcopy(network)
        own.load_state_dict(read_progress(self.output)[1])
        own.eval()
        size = self.data.size_at(round_.start, self.config.steps)
        return mine_negatives(
            self.data.embed_scenes(own, size),
            self.data.overlaps,
            self.data.anchors,
            self.data.config.negatives,
            self.config.seed,
            round_.start,
        )


def interleaved(batches: Indices, processes: int) -> Indices:
    """The anchors of each step in one row, in the order in which the processes take turns.

    Args:
        batches: (M, B), those of the processes after each other for each step.
        processes: each takes every `processes`-th sample of a data set.

    Returns:
        (M / processes, B · processes).
    """
    size = batches.shape[1]
    by_step = batches.reshape(-1, processes, size)
    return np.ascontiguousarray(by_step.transpose(0, 2, 1)).reshape(-1, processes * size)
