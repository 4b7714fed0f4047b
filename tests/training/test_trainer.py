from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import Dataset

from hloc_ext.errors import CorruptFileError, InputError
from hloc_ext.training import trainer
from hloc_ext.training.trainer import (
    ResumableSampler,
    TrainerConfig,
    WeightAverage,
    fit,
    learning_rate_factor,
    parameter_groups,
    read_progress,
)

CONFIG = TrainerConfig(
    steps=12,
    batch_size=4,
    learning_rate=0.02,
    warmup_steps=3,
    ema=0.9,
    precision="32-true",
    accelerator="cpu",
    workers=0,
    log_steps=4,
    validate_steps=5,
    tensorboard=False,
)
ONE_STEP = 1e-9  # seconds: a training with this limit stops, and writes its checkpoint, after a step


class Line(Dataset):
    """Points of a line."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x = torch.randn(3, generator=torch.Generator().manual_seed(index))
        return {"x": x, "y": x.sum() + 1}


class Regression(nn.Module):
    """A network with a normalisation, and a loss with noise."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.student = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
        self.unused_by_export = nn.Linear(1, 1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        prediction = self.unused_by_export(self.student(batch["x"] + 0.1 * torch.randn_like(batch["x"])))[
            :, 0
        ]
        error = (prediction - batch["y"]).square().mean()
        return {"loss": error, "root": error.detach().sqrt()}


def run(
    output: Path,
    config: TrainerConfig = CONFIG,
    module: Regression | None = None,
    samples: int = 48,
    stop_step: int | None = None,
) -> tuple[dict[str, Tensor], Regression]:
    module = module or Regression()
    state = fit(
        module,
        Line(samples),
        output,
        config,
        validate=lambda student: {"bias": float(student.get_parameter("3.bias").detach())},
        averaged=lambda whole: whole.get_submodule("student"),
        stop_step=stop_step,
    )
    return state, module


def records(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


# --- parts


@given(st.integers(0, 30), st.integers(1, 4), st.integers(0, 30))
def test_the_processes_share_what_is_left(length, world_size, start):
    samplers = [ResumableSampler(length, start, rank, world_size) for rank in range(world_size)]
    assert sorted(i for sampler in samplers for i in sampler) == list(range(start, length))
    assert all(len(list(sampler)) == len(sampler) for sampler in samplers)
    assert all(index % world_size == (start + s.rank) % world_size for s in samplers for index in s)


def test_sampler_goes_on_where_it_stopped():
    whole = list(ResumableSampler(24, 0, 1, 2))
    assert whole == list(range(1, 24, 2))
    assert list(ResumableSampler(24, 10, 1, 2)) == whole[5:]


def test_average_follows_the_formula():
    module = nn.BatchNorm1d(1)
    average = WeightAverage(module, 0.5)
    module.weight.data.fill_(3.0)
    module.running_mean.fill_(10.0)
    module.num_batches_tracked.fill_(7)
    average.update(module, 0)  # decay (1 + 0) / (10 + 0)
    assert average.state["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    assert average.state["running_mean"].item() == pytest.approx(9.0)
    assert average.state["num_batches_tracked"].item() == 7
    module.weight.data.fill_(0.0)
    average.update(module, 1000)  # decay 0.5
    assert average.state["weight"].item() == pytest.approx(1.4)
    assert module.weight.item() == 0.0


def test_learning_rate():
    config = TrainerConfig(steps=1100, warmup_steps=100, final_learning_rate=0.1)
    assert learning_rate_factor(0, config) == pytest.approx(0.01)
    assert learning_rate_factor(49, config) == pytest.approx(0.5)
    assert learning_rate_factor(99, config) == pytest.approx(1.0)
    assert learning_rate_factor(100, config) == pytest.approx(1.0)
    assert learning_rate_factor(600, config) == pytest.approx(0.55)
    assert learning_rate_factor(850, config) == pytest.approx(0.1 + 0.9 * (0.5 - math.sqrt(0.125)))
    assert learning_rate_factor(1100, config) == learning_rate_factor(5000, config) == pytest.approx(0.1)
    assert learning_rate_factor(0, replace(config, warmup_steps=0)) == 1.0
    falling = [learning_rate_factor(step, config) for step in range(100, 1101)]
    assert falling == sorted(falling, reverse=True)


def test_only_matrices_decay():
    module = Regression()
    module.unused_by_export.requires_grad_(False)
    decayed, others = parameter_groups(module, 0.02)
    assert decayed["weight_decay"] == 0.02 and others["weight_decay"] == 0.0
    assert [tuple(p.shape) for p in decayed["params"]] == [(8, 3), (1, 8)]
    assert [tuple(p.shape) for p in others["params"]] == [(8,), (8,), (8,), (1,)]


# --- training


def test_training_lowers_the_loss_and_writes_a_log(tmp_path):
    config = replace(CONFIG, steps=60, validate_steps=25, log_steps=10)
    state, module = run(tmp_path, config, samples=240)
    log = records(tmp_path)
    steps = [record for record in log if "loss" in record]
    assert [record["step"] for record in steps] == list(range(10, 61, 10))
    assert steps[-1]["loss"] < 0.3 * steps[0]["loss"]
    assert steps[0]["root"] == pytest.approx(math.sqrt(steps[0]["loss"]), rel=1e-4)
    assert steps[0]["gradient"] > 0
    validated = [record for record in log if "validation" in record]
    assert [record["step"] for record in validated] == [25, 50, 60]
    assert validated[-1]["validation"]["bias"] == state["3.bias"].item()  # of the averaged weights
    assert not torch.equal(state["3.bias"], module.student[3].bias)
    assert set(state) == set(module.student.state_dict())


def test_average_of_a_training_is_that_of_its_weights(tmp_path):
    steps = [run(tmp_path / str(n), replace(CONFIG, steps=12), None)[0] for n in (0, 1)]
    assert all(torch.equal(steps[0][key], steps[1][key]) for key in steps[0])
    module = Regression()
    expected = module.student[3].bias.detach().clone()
    for step in range(CONFIG.steps):
        run(tmp_path / "slow", replace(CONFIG, max_seconds=ONE_STEP), module)
        decay = min(CONFIG.ema, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.student[3].bias.detach()
    torch.testing.assert_close(steps[0]["3.bias"], expected)


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    state, module = run(tmp_path / "whole")
    for step in range(1, CONFIG.steps + 1):
        torch.manual_seed(1000 + step)  # whatever happened in between
        resumed_state, resumed = run(tmp_path / "parts", replace(CONFIG, max_seconds=ONE_STEP))
        checkpoint = torch.load(tmp_path / "parts" / "last.pt", weights_only=True)
        assert checkpoint["step"] == step
    for key, value in module.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    for key, value in state.items():
        assert torch.equal(value, resumed_state[key]), key
    assert {r["step"]: r["loss"] for r in records(tmp_path / "parts") if "loss" in r} == {
        r["step"]: r["loss"] for r in records(tmp_path / "whole") if "loss" in r
    }


def test_a_finished_training_is_not_repeated(tmp_path):
    state, _ = run(tmp_path)
    checkpoint, log = (tmp_path / "last.pt").read_bytes(), records(tmp_path)
    again, _ = run(tmp_path)
    assert all(torch.equal(again[key], value) for key, value in state.items())
    assert (tmp_path / "last.pt").read_bytes() == checkpoint and records(tmp_path) == log


def test_rounds_together_are_one_training(tmp_path):
    state, _ = run(tmp_path / "whole")
    module = Regression()
    for stop in (5, 7, 7, 20):
        last, _ = run(tmp_path / "rounds", module=module, samples=4 * min(stop, 12), stop_step=stop)
        step, average = read_progress(tmp_path / "rounds")
        assert step == min(stop, 12) and all(torch.equal(average[key], last[key]) for key in last)
    assert all(torch.equal(last[key], value) for key, value in state.items())
    assert [{k: v for k, v in r.items() if k != "seconds"} for r in records(tmp_path / "rounds")] == [
        {k: v for k, v in r.items() if k != "seconds"} for r in records(tmp_path / "whole")
    ]  # a round does not end with a validation of its own
    with pytest.raises(InputError, match="needs 32 samples, the data set has 28"):
        run(tmp_path / "short", samples=28, stop_step=8)


def test_progress_of_a_training(tmp_path):
    assert read_progress(tmp_path) == (0, {})
    run(tmp_path, replace(CONFIG, max_seconds=ONE_STEP))
    assert read_progress(tmp_path)[0] == 1
    torch.save([3], tmp_path / "last.pt")
    with pytest.raises(CorruptFileError, match=r"last\.pt is not a checkpoint.*Remove it"):
        read_progress(tmp_path)


def test_tensorboard_shows_the_log(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, replace(CONFIG, tensorboard=True), stop_step=8)
    run(tmp_path, replace(CONFIG, tensorboard=True))
    events = EventAccumulator(str(tmp_path)).Reload()
    log = records(tmp_path)
    shown = {event.step: event.value for event in events.Scalars("training/loss")}
    assert shown == pytest.approx({r["step"]: r["loss"] for r in log if "loss" in r}) and len(shown) == 3
    validated = {event.step: event.value for event in events.Scalars("validation/bias")}
    assert validated == pytest.approx({r["step"]: r["validation"]["bias"] for r in log if "validation" in r})
    run(tmp_path / "without", replace(CONFIG, tensorboard=False))
    assert not list((tmp_path / "without").glob("events*")) and list(tmp_path.glob("events*"))


def test_the_seed_decides(tmp_path):
    first, second = (run(tmp_path / str(seed), replace(CONFIG, seed=seed))[0] for seed in (0, 1))
    assert not torch.equal(first["3.bias"], second["3.bias"])


def test_workers_change_nothing(tmp_path):
    state, _ = run(tmp_path / "none", replace(CONFIG, steps=3))
    with_worker, _ = run(tmp_path / "one", replace(CONFIG, steps=3, workers=1))
    assert all(torch.equal(with_worker[key], value) for key, value in state.items())


def test_bfloat16(tmp_path):
    state, _ = run(tmp_path / "mixed", replace(CONFIG, precision="bf16-mixed"))
    exact, _ = run(tmp_path / "exact")
    assert all(value.dtype == exact[key].dtype and value.isfinite().all() for key, value in state.items())
    mixed, full = (
        [r["loss"] for r in records(tmp_path / name) if "loss" in r] for name in ("mixed", "exact")
    )
    assert mixed == pytest.approx(full, rel=0.05) and mixed != full


# --- errors


def test_too_small_a_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"needs 48 samples, the data set has 47"):
        run(tmp_path, samples=47)


class Spoiled(Regression):
    """Its loss, or the gradient of it, is not finite from a step on."""

    def __init__(self, step: int, spoil: str) -> None:
        super().__init__()
        self.calls, self.step, self.spoil = 0, step, spoil

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = super().forward(batch)
        self.calls += 1
        if self.calls > self.step:
            zero = self.unused_by_export.bias.sum() * 0
            terms["loss"] = terms["loss"] + (zero.sqrt() if self.spoil == "gradient" else zero + torch.inf)
        return terms


@pytest.mark.parametrize("spoil", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_training(tmp_path, spoil):
    config = replace(CONFIG, checkpoint_seconds=0.0)  # after each step
    with pytest.raises(InputError, match=rf"{spoil} of step 7 is not finite.*learning_rate.*{tmp_path.name}"):
        run(tmp_path, config, Spoiled(7, spoil))
    checkpoint = torch.load(tmp_path / "last.pt", weights_only=True)
    assert checkpoint["step"] == 7
    assert all(value.isfinite().all() for value in checkpoint["module"].values())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "truncated", "other model", "list", "no step"])
def test_a_corrupt_checkpoint_is_named(tmp_path, content):
    run(tmp_path, replace(CONFIG, max_seconds=ONE_STEP))
    path = tmp_path / "last.pt"
    state = torch.load(path, weights_only=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "truncated":
        path.write_bytes(path.read_bytes()[:-300])
    elif content == "list":
        torch.save([1, 2], path)
    else:
        del state["step" if content == "no step" else "module"]
        if content == "other model":
            state["module"] = nn.Linear(2, 2).state_dict()
        torch.save(state, path)
    with pytest.raises(CorruptFileError, match=r"(?s)last\.pt is not a .*checkpoint.*Remove it"):
        run(tmp_path)


def test_a_checkpoint_is_complete_or_the_one_before(tmp_path, monkeypatch):
    run(tmp_path, replace(CONFIG, max_seconds=ONE_STEP))
    before = (tmp_path / "last.pt").read_bytes()

    def fail_half_way(state: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer.torch, "save", fail_half_way)
    with pytest.raises(OSError, match="No space left"):
        run(tmp_path, replace(CONFIG, max_seconds=ONE_STEP))
    monkeypatch.undo()
    assert (tmp_path / "last.pt").read_bytes() == before
    run(tmp_path)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == CONFIG.steps


def test_own_weights_come_back_after_a_failed_validation(tmp_path):
    module = Regression()

    def fail(student: nn.Module) -> dict[str, float]:
        raise InputError("no samples")

    config = replace(CONFIG, validate_steps=1)
    with pytest.raises(InputError, match="no samples"):
        fit(module, Line(48), tmp_path, config, validate=fail, averaged=lambda whole: whole.student)
    expected, other = Regression(), replace(CONFIG, max_seconds=ONE_STEP)
    run(tmp_path / "one", other, expected)
    assert torch.equal(module.student[3].bias, expected.student[3].bias)
    assert module.student.training
