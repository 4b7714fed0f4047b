"""A cross-view training in rounds: each has batches of neighbours by what was learnt before.

The first neighbours are those on the ground ("GPS sampling"), then, every few epochs, those that look alike
to the network so far ("dynamic similarity sampling", Deuser et al., ICCV 2023). The network that is best on
the validation pairs is kept.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..extractors.cross_view_weights import load_cross_view, save_cross_view
from .cross_view_data import CrossViewData
from .place_batches import AnchorOrder, Indices
from .place_rounds import interleaved
from .trainer import TrainerConfig, fit, read_progress

BEST, WEIGHTS = "best.safetensors", "weights.safetensors"
#: Epochs of a round in which nothing is mined.
_EPOCHS = 4


class CrossViewRounds:
    """Rounds of one training; one that is interrupted goes on with the batches that were drawn.

    Args:
        data: pairs for training and validation.
        output: folder of the training; ``pairs.npy`` in it holds the batches, ``best.safetensors`` the
            network that was best on the validation pairs so far.
        config: of the training.
        provenance: what else the network has seen, e.g. that of weights that it starts from.

    Raises:
        CorruptFileError: the files in `output` are not those of this training.
    """

    def __init__(
        self,
        data: CrossViewData,
        output: Path,
        config: TrainerConfig,
        provenance: frozenset[str] = frozenset(),
    ) -> None:
        self.data, self.output, self.config = data, output, config
        self.provenance = data.provenance | provenance
        self.processes = config.devices * config.num_nodes
        path = output / "pairs.npy"
        if not read_progress(output)[0]:  # what is there is of a training that had no checkpoint yet
            path.unlink(missing_ok=True)
            (output / BEST).unlink(missing_ok=True)
        self.order = AnchorOrder(path, config.batch_size)

    def fit(
        self,
        module: nn.Module,
        averaged: Callable[[nn.Module], nn.Module],
        about: Mapping[str, str],
        complete: Callable[[nn.Module], nn.Module] | None = None,
        figures: Callable[[nn.Module], dict[str, float]] | None = None,
    ) -> Path:
        """Train a module and write ``weights.safetensors``.

        Args:
            module: its forward takes a batch of samples and returns named losses.
            averaged: its part that is averaged, validated and exported.
            about: text for the header of the weights.
            complete: of the averaged part, the network ``network(image, view)`` that describes both views;
                None: the part itself.
            figures: of the averaged part, ``R@1`` among them, by which it is selected; None: recall of the
                complete network on the validation pairs.

        Returns:
            The file of weights: the best on the validation pairs, or the last without such pairs.
        """
        started, limit = time.monotonic(), self.config.max_seconds
        done, steps = read_progress(self.output)[0], self.config.steps
        network, whole = averaged(module), complete or _as_it_is
        keep = _KeepBest(self, figures or (lambda part: self.data.figures(whole(part))), about)
        while True:
            if self._drawn <= done < steps:
                self._draw(network, whole)
            left = max(limit - (time.monotonic() - started), 1e-9) if limit else 0.0
            state = fit(
                module,
                self.data.samples(interleaved(self._whole_steps(), self.processes), self.config.seed),
                self.output,
                dataclasses.replace(self.config, max_seconds=left),
                validate=keep,
                averaged=averaged,
                stop_step=min(steps, self._drawn),
            )
            done = read_progress(self.output)[0]
            if done >= steps or 0 < limit < time.monotonic() - started:
                break
        path = self.output / WEIGHTS
        seconds = {"seconds": f"{time.monotonic() - started:.0f}", "steps": str(done)}
        if (self.output / BEST).exists():
            network, info = load_cross_view(self.output / BEST)
            save_cross_view(path, network, self.provenance, {**info.about, **seconds})
        else:
            save_cross_view(path, network, self.provenance, {**about, **seconds}, state)
        return path

    @property
    def _drawn(self) -> int:
        """Steps whose batches are drawn."""
        return len(self.order) // self.processes

    def _whole_steps(self) -> Indices:
        return self.order.batches[: self._drawn * self.processes]

    def _draw(self, network: nn.Module, complete: Callable[[nn.Module], nn.Module]) -> None:
        """Draw the batches of a round; its first batch is what its epochs are numbered by."""
        first, config = len(self.order), self.data.config
        neighbours = self.data.near()
        if first and config.neighbours and config.refresh_epochs:
            own = copy.deepcopy(network)
            own.load_state_dict(read_progress(self.output)[1])
            neighbours = self.data.alike(complete(own).eval())
        epochs = range(first, first + (config.refresh_epochs or _EPOCHS))
        self.order.extend(
            self.data.draw_batches(self.config.batch_size, epochs, self.config.seed, neighbours)
        )


def _as_it_is(network: nn.Module) -> nn.Module:
    return network


class _KeepBest:
    """Validates a network, and writes it down if it is the best so far."""

    def __init__(
        self,
        rounds: CrossViewRounds,
        figures: Callable[[nn.Module], dict[str, float]],
        about: Mapping[str, str],
    ) -> None:
        self.path, self.provenance = rounds.output / BEST, rounds.provenance
        self.figures, self.about = figures, about

    def __call__(self, network: nn.Module) -> dict[str, float]:
        found = self.figures(network)
        best = -1.0
        if self.path.exists():
            best = json.loads(load_cross_view(self.path)[1].about["validation"])["R@1"]
        if found and found["R@1"] > best:
            about: dict[str, Any] = {**self.about, "validation": json.dumps(found)}
            save_cross_view(self.path, network, self.provenance, about)
        return found
