"""The training loop of every recipe: mixed precision, several devices and machines, checkpoints, resuming.

A recipe gives a module whose forward turns a batch into named losses, and a data set; :func:`fit` does the
rest with Lightning Fabric. An interrupted training continues from its last checkpoint with the samples that
it has not seen, and ends with the weights of one that was not interrupted.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from ..compat import allow_cpu_torchvision
from ..datasets.homography_pairs import init_worker
from ..errors import CorruptFileError, InputError

logger = logging.getLogger(__name__)

PRECISIONS = ("bf16-mixed", "32-true")
CHECKPOINT = "last.pt"
_REMEDY = "Remove it to start anew, or give another output."


@dataclass
class TrainerConfig:
    """Optimisation and machine.

    `max_seconds` ends a training early (0: never), at a checkpoint, so that it can go on later.
    """

    steps: int = 20000
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 300
    final_learning_rate: float = 0.01  # as a share of `learning_rate`; cosine in between
    gradient_clip: float = 1.0
    ema: float = 0.999  # decay of the average of the weights, which is what is validated and exported
    precision: str = "bf16-mixed"  # or 32-true
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    workers: int = 1
    threads: int = 0  # of each process, 0: PyTorch's choice; on a CPU only 1 is repeatable bit by bit
    checkpoint_seconds: float = 120.0
    validate_steps: int = 1000
    log_steps: int = 20
    max_seconds: float = 0.0
    tensorboard: bool = True  # also write the log for TensorBoard, where that is installed
    seed: int = 0


class ResumableSampler(Sampler[int]):
    """Indices of one process from a given step on; every index of the data set is used once, in order."""

    def __init__(self, length: int, start: int, rank: int, world_size: int) -> None:
        self.length, self.start, self.rank, self.world_size = length, start, rank, world_size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start + self.rank, self.length, self.world_size))

    def __len__(self) -> int:
        return len(range(self.start + self.rank, self.length, self.world_size))


class WeightAverage:
    """Exponential moving average of the state of a module."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {key: value.detach().clone() for key, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Add the state after `step` (from 0); early steps count more, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            average = self.state[key]
            if value.is_floating_point():
                average.lerp_(value.to(average), 1 - decay)
            else:
                average.copy_(value)


def learning_rate_factor(step: int, config: TrainerConfig) -> float:
    """Share of the learning rate at a step: linear warm-up, then cosine."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + (1 - config.final_learning_rate) * cosine


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and scalars do not."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def fit(
    module: nn.Module,
    dataset: Dataset,
    output: Path,
    config: TrainerConfig,
    validate: Callable[[nn.Module], dict[str, float]],
    averaged: Callable[[nn.Module], nn.Module],
    stop_step: int | None = None,
) -> dict[str, Tensor]:
    """Train a module, or go on with a training that was interrupted.

    A training whose data depend on what it has learnt is run in rounds: each call goes on to the next
    `stop_step`, with another data set. The rounds together do what a single call does.

    Args:
        module: its forward takes a batch and returns named losses (scalars); ``loss`` is minimised, the
            others are logged.
        dataset: at least ``steps * batch_size * processes`` samples, or ``stop_step * …``; those before the
            checkpoint are not read.
        output: folder for ``last.pt`` (checkpoint), ``log.jsonl`` and the events of TensorBoard.
        config: optimisation and machine.
        validate: takes the part of the module that is averaged, with averaged weights, and returns figures.
        averaged: the part of the module that is averaged and exported, e.g. the student.
        stop_step: stop after this step, with a checkpoint; None: after the last one. The learning rate
            follows ``config.steps``.

    Returns:
        The averaged state.

    Raises:
        InputError: the data set is too small, or the loss or its gradient is not finite.
        CorruptFileError: the checkpoint cannot be read.
    """
    if config.precision not in PRECISIONS:
        raise InputError(f"trainer.precision={config.precision}: expected one of {', '.join(PRECISIONS)}.")
    allow_cpu_torchvision()  # which lightning imports
    from lightning.fabric import Fabric

    if config.threads:
        torch.set_num_threads(config.threads)
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        precision="32-true",  # Fabric's bf16-mixed would round the inputs, and with them the true positions
    )
    fabric.launch()
    optimizer = torch.optim.AdamW(
        parameter_groups(module, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.99)
    )
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = _Run(module, averaged, output, config)
    wrapped, optimizer = fabric.setup(module, optimizer)
    first_step = run.resume(optimizer)  # after the module has moved, so that the optimizer's state follows it
    run.average_to(fabric.device)
    stop = min(config.steps, config.steps if stop_step is None else stop_step)
    loader = fabric.setup_dataloaders(
        _loader(dataset, config, first_step, stop, fabric), use_distributed_sampler=False
    )
    started = saved = time.monotonic()
    batches = iter(loader)
    steps = range(first_step, stop)
    for step in tqdm(
        steps, initial=first_step, total=config.steps, desc=output.name, disable=not fabric.is_global_zero
    ):
        factor = learning_rate_factor(step, config)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        wrapped.train()
        batch = next(batches)
        torch.manual_seed(config.seed * 1_000_003 + step)  # what a step draws does not depend on those before
        with torch.autocast(fabric.device.type, torch.bfloat16, enabled=config.precision == "bf16-mixed"):
            terms = wrapped(batch)
        if not torch.isfinite(terms["loss"]):
            raise InputError(
                f"The loss of step {step} is not finite"
                f" ({', '.join(f'{name} {float(term.detach()):g}' for name, term in terms.items())});"
                f" lower trainer.learning_rate. The last checkpoint is in {output}."
            )
        fabric.backward(terms["loss"])
        norm = fabric.clip_gradients(
            wrapped, optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False
        )
        if norm is not None and not torch.isfinite(norm):
            raise InputError(
                f"The gradient of step {step} is not finite; lower trainer.learning_rate."
                f" The last checkpoint is in {output}."
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        run.average.update(run.exported, step)
        done = step + 1
        if fabric.is_global_zero:
            gradient = float(norm) if norm is not None else 0.0
            run.log(done, terms, {"gradient": gradient, "seconds": time.monotonic() - started})
        ended = done == config.steps or 0 < config.max_seconds < time.monotonic() - started
        if fabric.is_global_zero and (ended or done % config.validate_steps == 0):
            run.validate(done, validate)
        last = ended or done == stop
        if fabric.is_global_zero and (last or time.monotonic() - saved > config.checkpoint_seconds):
            run.save(done, optimizer)
            saved = time.monotonic()
        if last:
            break
    run.close()
    fabric.barrier()  # the checkpoint is there for every process
    return run.average.state


def read_progress(output: Path) -> tuple[int, dict[str, Tensor]]:
    """Number of steps after which the training in `output` has its checkpoint, and the averaged state then.

    Without a checkpoint these are 0 and nothing.

    Raises:
        CorruptFileError: the checkpoint cannot be read.
    """
    path = output / CHECKPOINT
    if not path.exists():
        return 0, {}
    state = _read_checkpoint(path)
    try:
        return int(state["step"]), state["average"]
    except (KeyError, TypeError) as error:
        raise CorruptFileError(f"{path} is not a checkpoint of a training. {_REMEDY}") from error


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise CorruptFileError(f"{path} is not a readable checkpoint. {_REMEDY}") from error


def _loader(dataset: Dataset, config: TrainerConfig, first_step: int, stop: int, fabric: Any) -> DataLoader:
    needed = stop * config.batch_size * fabric.world_size
    assert isinstance(dataset, Sized)
    if len(dataset) < needed:
        raise InputError(f"The training needs {needed} samples, the data set has {len(dataset)}.")
    start = first_step * config.batch_size * fabric.world_size
    sampler = ResumableSampler(needed, start, fabric.global_rank, fabric.world_size)
    return DataLoader(
        dataset,
        batch_size=config.batch_size,
        sampler=sampler,
        num_workers=config.workers,
        pin_memory=fabric.device.type == "cuda",
        worker_init_fn=init_worker,
        prefetch_factor=4 if config.workers else None,
    )


class _Run:
    """What a training writes: checkpoint and log."""

    def __init__(
        self,
        module: nn.Module,
        averaged: Callable[[nn.Module], nn.Module],
        output: Path,
        config: TrainerConfig,
    ) -> None:
        self.module, self.exported, self.config = module, averaged(module), config
        self.average = WeightAverage(self.exported, config.ema)
        self.checkpoint = output / CHECKPOINT
        output.mkdir(parents=True, exist_ok=True)
        self._log = _Log(output, config.tensorboard)

    def average_to(self, device: torch.device) -> None:
        self.average.state = {key: value.to(device) for key, value in self.average.state.items()}

    def resume(self, optimizer: torch.optim.Optimizer) -> int:
        """Load the checkpoint, if there is one, and return the number of steps done."""
        if not self.checkpoint.exists():
            return 0
        state = _read_checkpoint(self.checkpoint)
        try:
            self.module.load_state_dict(state["module"])
            optimizer.load_state_dict(state["optimizer"])
            self.average.state = state["average"]
            step = int(state["step"])
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise CorruptFileError(
                f"{self.checkpoint} is not a checkpoint of this training ({error}). {_REMEDY}"
            ) from error
        logger.info("Going on after step %d of %s.", step, self.checkpoint)
        return step

    def save(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        state = {
            "step": step,
            "module": self.module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": self.average.state,
        }
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    def log(self, step: int, terms: dict[str, Tensor], more: dict[str, float]) -> None:
        if step % self.config.log_steps == 0:
            self._log.write(step, {key: float(value.detach()) for key, value in terms.items()} | more)

    def validate(self, step: int, validate: Callable[[nn.Module], dict[str, float]]) -> None:
        """Validate the averaged weights; the module's own come back afterwards."""
        own = {key: value.detach().clone() for key, value in self.exported.state_dict().items()}
        self.exported.load_state_dict(self.average.state)
        self.exported.eval()
        try:
            figures = validate(self.exported)
        finally:
            self.exported.load_state_dict(own)
            self.exported.train()
        logger.info("Step %d: %s", step, figures)
        self._log.write(step, figures, "validation")

    def close(self) -> None:
        self._log.close()


class _Log:
    """The figures of a training: a line of ``log.jsonl`` each time, and scalars of TensorBoard.

    Args:
        output: folder of both.
        tensorboard: whether to write for TensorBoard, if it is installed.
    """

    def __init__(self, output: Path, tensorboard: bool) -> None:
        self.output = output
        self.events: Any = None
        self.tensorboard = tensorboard and importlib.util.find_spec("tensorboard") is not None

    def write(self, step: int, figures: dict[str, float], group: str = "") -> None:
        """Add figures of a step, in a `group` of their own if it has a name."""
        record = {"step": step, **({group: figures} if group else figures)}
        with open(self.output / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if not self.tensorboard:
            return
        if self.events is None:
            from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

            # Of a run that was killed, what came after its checkpoint is not shown twice.
            self.events = SummaryWriter(str(self.output), purge_step=step)
        for name, value in figures.items():
            self.events.add_scalar(f"{group or 'training'}/{name}", value, step)

    def close(self) -> None:
        if self.events is not None:
            self.events.close()
