from __future__ import annotations

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
import torch

from hloc_ext.errors import InputError
from hloc_ext.extractors.cross_view_weights import SHARED, load_cross_view, save_cross_view
from hloc_ext.models.cross_view import EncoderConfig, SharedEncoder
from hloc_ext.training import cross_view_rounds
from hloc_ext.training.cross_view_losses import symmetric_info_nce
from hloc_ext.training.cross_view_teacher import (
    PUBLIC_TRAINING,
    ContrastiveTraining,
    CrossViewTeacherRecipe,
    load_teacher,
    train,
)
from tests.datasets.cross_view.small_sets import made_set
from tests.extractors.test_cross_view_weights import save_public
from tests.training.cross_view_sets import TEACHER, small_data, small_trainer

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("timm", "lightning")
]


def recipe(tmp_path, name: str = "run", trainer: dict | None = None, **options: object):
    data = options.pop("data", {})
    return CrossViewTeacherRecipe(
        output=str(tmp_path / name),
        encoder=TEACHER,
        data=small_data(tmp_path / "cvusa", **data),
        trainer=small_trainer(**(trainer or {})),
        **options,
    )


def test_semi_positives_of_the_set_are_no_negatives():
    pairs = made_set([0, 1, 2], 4, [[1, -1, -1], [-1, -1, -1], [3, -1, -1]])
    module = ContrastiveTraining(SharedEncoder(TEACHER), pairs)
    ground, aerial = torch.nn.functional.normalize(torch.randn(2, 3, 5), dim=2)
    ignored = torch.zeros(3, 3, dtype=torch.bool)
    ignored[1, 0] = True  # pair 0 comes second in the batch; tile 1 shows its place, too
    terms = module.compare(ground, aerial, torch.tensor([1, 0, 2]))
    torch.testing.assert_close(
        terms["loss"], symmetric_info_nce(ground, aerial, module.scale(), 0.1, ignored)
    )
    assert float(terms["scale"]) == pytest.approx(1 / 0.07, rel=1e-4)


def test_scale_is_learned_and_not_decayed():
    module = ContrastiveTraining(SharedEncoder(TEACHER), made_set([0, 1], 2))
    assert module.scale.logarithm.requires_grad and module.scale.logarithm.ndim == 0


def test_training_writes_the_network_that_was_best_on_held_out_pairs(tmp_path, monkeypatch):
    figures = iter([{"R@1": 50.0}, {"R@1": 25.0}])
    states = []

    def validate(data, network):
        states.append({key: value.clone() for key, value in network.state_dict().items()})
        return next(figures)

    monkeypatch.setattr(cross_view_rounds.CrossViewData, "figures", validate)
    path = train(recipe(tmp_path))
    network, info = load_cross_view(path)
    assert len(states) == 2  # after two steps and at the end
    assert all(torch.equal(value, states[0][key]) for key, value in network.state_dict().items())
    assert info.kind == SHARED and info.provenance == {"cvusa/train"}
    assert json.loads(info.about["validation"]) == {"R@1": 50.0}
    described = json.loads(info.about["recipe"])
    assert described["data"]["root"] == "cvusa" and str(tmp_path) not in info.about["recipe"]


def test_batches_are_mined_and_an_interrupted_training_ends_the_same(tmp_path):
    whole = recipe(tmp_path, "whole")
    train(whole)
    batches = np.load(tmp_path / "whole" / "pairs.npy")
    assert batches.shape[1] == 4 and len(batches) >= 4
    train(recipe(tmp_path, "part", {"max_seconds": 1e-6}))  # ends after one step
    log = (tmp_path / "part" / "log.jsonl").read_text().splitlines()
    assert len([line for line in log if "loss" in line]) == 1
    train(dataclasses.replace(whole, output=str(tmp_path / "part")))
    assert np.array_equal(np.load(tmp_path / "part" / "pairs.npy"), batches)
    one, two = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["module"] for name in ("whole", "part")
    )
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_first_step_has_a_learning_rate(tmp_path):
    """The published students' first epoch has a learning rate of 0."""
    run = recipe(tmp_path, trainer={"steps": 1, "validate_steps": 10}, data={"val_share": 0.0})
    torch.manual_seed(run.trainer.seed)
    before = SharedEncoder(TEACHER).state_dict()
    train(run)
    after = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["module"]
    changed = [key for key, value in before.items() if not torch.equal(value, after[f"network.{key}"])]
    assert len(changed) > 0.9 * len(before)


def test_training_starts_from_weights_and_inherits_what_they_have_seen(tmp_path):
    first = SharedEncoder(TEACHER)
    save_cross_view(tmp_path / "first.safetensors", first, {"vigor/Chicago/train"})
    run = recipe(
        tmp_path, trainer={"steps": 1, "learning_rate": 0.0}, initialize=str(tmp_path / "first.safetensors")
    )
    network, info = load_cross_view(train(run))
    assert info.provenance == {"cvusa/train", "vigor/Chicago/train"}
    assert torch.equal(network.projection.weight, first.projection.weight)
    other = dataclasses.replace(run, encoder=dataclasses.replace(TEACHER, embedding_dim=8))
    with pytest.raises(InputError, match=r"first\.safetensors holds weights of another network"):
        train(other)


def test_what_public_weights_have_seen(tmp_path, monkeypatch):
    assert PUBLIC_TRAINING["vigor_same"] == {
        f"vigor/{city}/train" for city in ("Chicago", "NewYork", "SanFrancisco", "Seattle")
    }
    assert PUBLIC_TRAINING["vigor_cross"] == {
        f"vigor/{city}/{part}" for city in ("NewYork", "Seattle") for part in ("train", "test")
    }
    sizes = []

    def load(path, config):
        sizes.append(config.ground_size)
        return SharedEncoder(EncoderConfig("convnext_atto"))

    monkeypatch.setattr("hloc_ext.training.cross_view_teacher.load_sample4geo", load)
    folder = tmp_path / "pretrained" / "vigor_same" / "convnext"
    folder.mkdir(parents=True)
    save_public(folder / "weights_e40_0.7786.pth", SharedEncoder(EncoderConfig("convnext_atto")))
    assert load_teacher(str(folder / "weights_e40_0.7786.pth"))[1] == PUBLIC_TRAINING["vigor_same"]
    assert load_teacher("weights_end.pth", "cvusa")[1] == {"cvusa/train"}
    assert sizes == [(384, 768), (140, 768)]
    with pytest.raises(InputError, match=r"weights_end\.pth was trained with is not known"):
        load_teacher("weights_end.pth")


def test_weights_of_unknown_origin_are_refused(tmp_path):
    save_cross_view(tmp_path / "found.safetensors", SharedEncoder(TEACHER), None)
    with pytest.raises(InputError, match="does not tell what it was trained with"):
        load_teacher(str(tmp_path / "found.safetensors"))
