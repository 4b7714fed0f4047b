from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.matchers.kd_mamba import load_weights, save_weights
from hloc_ext.models.attention_teacher import AttentionTeacher
from hloc_ext.models.dual_softmax import Matches
from hloc_ext.models.kd_mamba import KDMAMBA_CONFIGS, KDMamba
from hloc_ext.training import calibration, kd_mamba
from hloc_ext.training.kd_mamba import (
    DistillationConfig,
    KDMambaRecipe,
    LossConfig,
    MatcherTraining,
    build_model,
    evaluate_pairs,
    train,
)
from hloc_ext.training.trainer import TrainerConfig, fit
from tests.models.networks import TINY, texture, tiny_network

HEIGHT, WIDTH = 48, 64
TRAINER = TrainerConfig(
    steps=4,
    batch_size=2,
    learning_rate=2e-3,
    warmup_steps=2,
    ema=0.9,
    precision="32-true",
    threads=1,  # several add in an order of their own
    accelerator="cpu",
    workers=0,
    log_steps=1,
    validate_steps=4,
)
SUPERVISION = {"coarse", "fine", "matchability"}
DISTILLATION = {"coarse_features", "fine_features", "assignment"}


class Shifted(Dataset):
    """Two crops of a texture, one with other tones for the student, and where each cell lies in the other."""

    def __init__(self, length: int, seed: int = 0) -> None:
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        whole = texture(1000 * self.seed + index, HEIGHT + 16, WIDTH + 16)[0]
        corners = torch.randint(0, 17, (2, 2), generator=generator)  # (x, y) of each crop
        crops = [whole[:, y : y + HEIGHT, x : x + WIDTH] for x, y in corners.tolist()]
        sample = {"image0": crops[0], "image1": crops[1] ** 2, "clean0": crops[0], "clean1": crops[1]}
        rows, columns = torch.meshgrid(torch.arange(HEIGHT // 8), torch.arange(WIDTH // 8), indexing="ij")
        centres = 8.0 * torch.stack([columns, rows], -1).reshape(-1, 2)
        for other, shift in (("1", corners[0] - corners[1]), ("0", corners[1] - corners[0])):
            points = centres + shift
            inside = (points >= 0) & (points <= torch.tensor([WIDTH - 1, HEIGHT - 1]))
            sample |= {f"points{other}": points, f"valid{other}": inside.all(1)}
        return sample


class ShiftedData:
    """Stands for the data of a recipe."""

    def __init__(self, config: object) -> None:
        self.config = config

    def training(self, length: int, seed: int) -> Dataset:
        return Shifted(length, seed)

    def validation(self) -> dict[str, list[dict[str, Tensor]]]:
        return {"shifted": [Shifted(9, 7)[8]]}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KDMambaRecipe:
    """Training of the nano student by a tiny teacher."""
    monkeypatch.setattr(kd_mamba, "MatchingData", ShiftedData)
    save_weights(tiny_network("teacher"), tmp_path / "teacher.safetensors")
    distillation = DistillationConfig(teacher=str(tmp_path / "teacher.safetensors"))
    output = str(tmp_path / "output")
    return KDMambaRecipe(output=output, model="nano", distillation=distillation, trainer=TRAINER)


def batch_of(count: int = 2, seed: int = 0) -> dict[str, Tensor]:
    return default_collate([Shifted(count, seed)[i] for i in range(count)])


def make_module(teacher: nn.Module | None = None, **options: float | str) -> MatcherTraining:
    """Training of a tiny student with the given weights of the losses."""
    loss = LossConfig(**{k: v for k, v in options.items() if not k.startswith("distil_")})
    distilled = {k.removeprefix("distil_"): v for k, v in options.items() if k.startswith("distil_")}
    torch.manual_seed(3)
    return MatcherTraining(tiny_network(), teacher, loss, DistillationConfig(**distilled))


# --- losses


def test_loss_is_the_weighted_sum_of_its_terms():
    batch = batch_of()
    terms = make_module()(batch)
    assert set(terms) == SUPERVISION | {"loss"}
    torch.testing.assert_close(
        terms["loss"], terms["coarse"] + 0.5 * terms["fine"] + 0.5 * terms["matchability"]
    )
    module = make_module(
        tiny_network("teacher"), coarse=2.0, fine=0.0, distil_coarse=0.25, distil_assignment=3.0
    )
    terms = module(batch)
    assert set(terms) == SUPERVISION | DISTILLATION | {"loss"}
    expected = 2 * terms["coarse"] + 0.5 * terms["matchability"] + 0.25 * terms["coarse_features"]
    torch.testing.assert_close(
        terms["loss"], expected + 0.5 * terms["fine_features"] + 3 * terms["assignment"]
    )
    assert all(term > 0 for term in terms.values())


def test_each_term_can_be_switched_off():
    off = {"coarse": 0.0, "fine": 0.0, "matchability": 0.0}
    off |= {f"distil_{name}": 0.0 for name in ("coarse", "fine", "assignment")}
    module = make_module(tiny_network("teacher"), **off)
    module(batch_of())["loss"].backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in module.parameters())
    for name, changed in (
        ("matchability", "student.matchability.weight"),
        ("distil_fine", "project_fine.weight"),
    ):
        module = make_module(tiny_network("teacher"), **off | {name: 1.0})
        module(batch_of())["loss"].backward()
        gradient = module.get_parameter(changed).grad
        assert gradient is not None and gradient.abs().max() > 0


def test_the_exchange_of_the_images_does_not_change_the_coarse_losses():
    batch = batch_of()
    exchanged = {key[:-1] + {"0": "1", "1": "0"}[key[-1]]: value for key, value in batch.items()}
    module = make_module(tiny_network("teacher", seed=1)).eval()
    terms, others = module(batch), module(exchanged)
    for name in ("coarse", "matchability", "coarse_features", "assignment"):
        torch.testing.assert_close(others[name], terms[name], rtol=1e-4, atol=1e-5)


def test_a_batch_without_a_counterpart_is_trained_as_such():
    batch = batch_of()
    for key in ("valid0", "valid1"):
        batch[key] = torch.zeros_like(batch[key])
    module = make_module(tiny_network("teacher"))
    terms = module(batch)
    terms["loss"].backward()
    assert terms["coarse"] == terms["fine"] == terms["assignment"] == 0 < terms["matchability"]
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_a_model_that_is_its_own_teacher_has_nothing_to_learn():
    student = tiny_network()
    module = MatcherTraining(
        student, copy.deepcopy(student), LossConfig(), DistillationConfig(view="same")
    ).eval()
    for projection in (module.project_coarse, module.project_fine):
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    terms = module(batch_of())
    for name in DISTILLATION:
        assert terms[name].item() == pytest.approx(0, abs=1e-5)
    # From an image that it sees and its teacher does not, it has.
    module.distillation.view = "clean"
    batch = batch_of() | {"image1": 1 - batch_of()["clean1"]}
    terms = module(batch)
    assert all(terms[name] > 1e-3 for name in DISTILLATION)


def test_the_teacher_is_frozen_and_not_exported():
    teacher = tiny_network("teacher")
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    module = make_module(teacher).train()
    module(batch_of())["loss"].backward()
    assert not teacher.training and all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert {name.partition(".")[0] for name in module.state_dict()} == {
        "student",
        "project_coarse",
        "project_fine",
    }


def test_no_more_positives_are_refined_than_asked_for(monkeypatch):
    counts = []

    def count(model, source, target, positives, points, shift):
        counts.append((len(positives.batch), tuple(shift.shape), int(shift.min()), int(shift.max())))
        cell = torch.stack([positives.index1 % target.grid[1], positives.index1 // target.grid[1]], 1)
        error = points[positives.batch, positives.index0] - 8 * cell
        assert error.abs().max() <= 4  # points, source and target are those of one direction
        return torch.zeros(())

    monkeypatch.setattr(kd_mamba, "fine_loss", count)
    make_module(max_fine=10)(batch_of())
    make_module()(batch_of())
    assert counts[:2] == [(10, (10, 2), -1, 1)] * 2
    assert counts[2][0] == counts[3][0] > 10


# --- training


def test_a_short_training_lowers_the_loss(tmp_path):
    config = replace(TRAINER, steps=30, batch_size=2, learning_rate=5e-3, validate_steps=30)
    torch.manual_seed(0)
    module = make_module()
    fit(
        module,
        Shifted(60),
        tmp_path,
        config,
        validate=lambda student: {},
        averaged=lambda whole: whole.get_submodule("student"),
    )
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in log if "loss" in record]
    assert len(losses) == 30 and sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_recipe_writes_weights_that_can_be_loaded(recipe):
    path = train(recipe)
    assert path == Path(recipe.output) / "weights.safetensors"
    model = load_weights(path)
    assert model.config == build_model(recipe).config and not model.training
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    about = json.loads(metadata["recipe"])
    assert about["model"] == "nano" and about["trainer"]["steps"] == 4 and float(metadata["seconds"]) >= 0
    log = [json.loads(line) for line in (path.parent / "log.jsonl").read_text().splitlines()]
    assert set(log[0]) >= SUPERVISION | DISTILLATION | {"loss", "step", "gradient", "seconds"}
    assert set(log[-1]["validation"]) == {f"shifted/{n}" for n in ("precision", "recall", "median_error")}
    average = torch.load(path.parent / "last.pt", weights_only=True)["average"]
    assert all(torch.equal(value, average[key]) for key, value in model.state_dict().items())


def test_an_interrupted_recipe_ends_with_the_same_weights(recipe, tmp_path):
    whole = load_file(train(recipe))
    parts = replace(recipe, output=str(tmp_path / "parts"), trainer=replace(TRAINER, max_seconds=1e-9))
    for step in range(1, TRAINER.steps + 1):
        path = train(parts)
        assert torch.load(path.parent / "last.pt", weights_only=True)["step"] == step
    resumed = load_file(path)
    assert set(resumed) == set(whole)
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())


def test_a_recipe_that_starts_from_weights_is_repeatable(recipe, tmp_path):
    torch.manual_seed(7)
    first = train(replace(recipe, initialize=str(train(recipe)), output=str(tmp_path / "a")))
    torch.manual_seed(8)
    second = train(
        replace(recipe, initialize=recipe.output + "/weights.safetensors", output=str(tmp_path / "b"))
    )
    one, other = load_file(first), load_file(second)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_build_model(recipe, tmp_path):
    assert isinstance(build_model(replace(recipe, model="teacher")), AttentionTeacher)
    first, second = build_model(recipe), build_model(recipe)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = build_model(replace(recipe, trainer=replace(TRAINER, seed=1)))
    assert not torch.equal(first.coarse.weight, other.coarse.weight)
    save_weights(tiny_network(), tmp_path / "tiny.safetensors")
    assert build_model(replace(recipe, initialize=str(tmp_path / "tiny.safetensors"))).config == TINY
    small = KDMamba(KDMAMBA_CONFIGS["small"])
    save_weights(small, tmp_path / "small.safetensors")
    aerial = build_model(replace(recipe, model="aerial", warm_start=str(tmp_path / "small.safetensors")))
    taken, known = aerial.state_dict(), small.state_dict()
    differ = [key for key in known if not torch.equal(taken[key], known[key])]
    assert differ == ["encoder.to_half.0.0.weight"]
    with pytest.raises(InputError, match=r"model=huge.*teacher.*aerial.*nano.*small"):
        build_model(replace(recipe, model="huge"))


def test_options_that_cannot_be_used(recipe):
    with pytest.raises(InputError, match=r"distillation\.view=dirty.*clean or same"):
        train(replace(recipe, distillation=DistillationConfig(view="dirty")))
    with pytest.raises(MissingInputError, match=r"absent\.safetensors does not exist"):
        train(replace(recipe, distillation=DistillationConfig(teacher="absent.safetensors")))


# --- validation


def fake_matches(monkeypatch, model, index0, index1, step1):
    """Let the matcher find given cells, and positions that are so far from their centres."""
    batch = torch.zeros_like(index0)
    matches = Matches(batch, index0, index1, torch.full((len(index0),), -0.1))
    monkeypatch.setattr(calibration, "mutual_matches", lambda *args, **options: matches)
    steps = iter([step1, torch.zeros_like(step1)] * 4)
    monkeypatch.setattr(model, "refine", lambda *args: (next(steps), torch.zeros(len(index0))))


def test_figures_of_known_matches(monkeypatch):
    model, sample = tiny_network(), Shifted(1)[0]
    cells = sample["valid1"].nonzero()[:6, 0]
    invalid = (~sample["valid1"]).nonzero()[:1, 0]
    assert len(cells) == 6 and len(invalid) == 1
    matched = torch.cat([cells, invalid])
    errors = torch.tensor([0.0, 1.0, 2.0, 2.5, 3.5, 50.0, 0.0])
    wanted = sample["points1"][matched] + errors[:, None] * torch.tensor([0.6, 0.8])
    corner = torch.zeros_like(matched)  # its centre is at (0, 0)
    fake_matches(monkeypatch, model, matched, corner, wanted)
    figures = evaluate_pairs(model, [sample])
    assert figures["precision"] == pytest.approx(4 / 7)
    assert figures["recall"] == pytest.approx(4 / int(sample["valid1"].sum()))
    assert figures["median_error"] == pytest.approx(1.0, abs=1e-5)  # the lower of the two in the middle
    assert evaluate_pairs(model, [sample], threshold=4.0)["precision"] == pytest.approx(5 / 7)


def test_figures_without_matches(monkeypatch):
    model, none = tiny_network(), torch.zeros(0, dtype=torch.long)
    fake_matches(monkeypatch, model, none, none, torch.zeros(0, 2))
    figures = evaluate_pairs(model, [Shifted(1)[0]])
    assert (
        figures["precision"] == figures["recall"] == 0 and figures["median_error"] != figures["median_error"]
    )
