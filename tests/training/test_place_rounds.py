from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hloc_ext.errors import InputError
from hloc_ext.training.place_data import PlaceData, PlaceDataConfig
from hloc_ext.training.place_rounds import Rounds, interleaved
from hloc_ext.training.retrieval_losses import nt_xent
from hloc_ext.training.trainer import TrainerConfig, read_progress
from tests.training.small_scene import SIZE, write_photos, write_street

TRAINER = TrainerConfig(
    steps=10,
    batch_size=4,
    learning_rate=1e-2,
    warmup_steps=2,
    precision="32-true",
    accelerator="cpu",
    workers=0,
    threads=1,
    log_steps=1,
    validate_steps=10,
    tensorboard=False,
)


class Described(nn.Module):
    """A small network and its loss; notes the numbers of the pictures that it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(108, 8))
        self.seen: list[list[tuple[int, int]]] = []
        self.sizes: list[int] = []

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.seen.append(list(zip(batch["scene"][:, 0].tolist(), batch["index"][:, 0].tolist(), strict=True)))
        self.sizes.append(batch["image"].shape[-1])
        embeddings = nn.functional.normalize(self.network(batch["image"].flatten(0, 1)), dim=1)
        same = torch.kron(torch.eye(len(embeddings) // 2), torch.ones(2, 2))
        return {"loss": nt_xent(embeddings, same)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_street(folder / "street", 10)
    write_photos(folder / "photos", 5)
    return folder


@pytest.fixture
def config(root: Path) -> PlaceDataConfig:
    return PlaceDataConfig(
        root=str(root),
        scenes=["street"],
        photos=["photos"],
        hold_out=5,
        photo_share=0.3,
        size=SIZE,
        negatives=1,
        refresh_steps=4,
    )


def run(
    config: PlaceDataConfig, output: Path, trainer: TrainerConfig = TRAINER
) -> tuple[dict[str, Tensor], Described]:
    module = Described()
    rounds = Rounds(PlaceData(config), output, trainer)
    return rounds.fit(module, averaged=lambda whole: whole.get_submodule("network")), module


def test_bounds(config, tmp_path):
    def bounds(**values: object) -> list[tuple[int, int]]:
        rounds = Rounds(PlaceData(replace(config, **values)), tmp_path, TRAINER)
        return [(round_.start, round_.stop) for round_ in rounds.bounds()]

    assert bounds() == [(0, 4), (4, 8), (8, 10)]
    assert bounds(refresh_steps=5) == [(0, 5), (5, 10)]
    assert bounds(negatives=0) == [(0, 10)]
    assert bounds(negatives=0, last_size=120, last_share=0.3) == [(0, 7), (7, 10)]
    assert bounds(last_size=120, last_share=0.3) == [(0, 4), (4, 7), (7, 8), (8, 10)]
    assert Rounds(PlaceData(config), tmp_path, replace(TRAINER, steps=0)).bounds() == []


def test_processes_take_turns():
    batches = np.arange(24).reshape(6, 4)  # of 3 steps of 2 processes
    rows = interleaved(batches, 2)
    assert rows.shape == (3, 8)
    for step in range(3):
        for process in range(2):
            assert rows[step, process::2].tolist() == batches[2 * step + process].tolist()
    assert (interleaved(batches, 1) == batches).all()


def test_batches_have_hard_negatives_after_the_first_round(config, tmp_path):
    state, module = run(config, tmp_path)
    assert len(module.seen) == 10 and set(state) == set(module.network.state_dict())
    order = np.load(tmp_path / "anchors.npy")
    anchors = PlaceData(config).anchors
    assert [[tuple(anchors[row]) for row in batch] for batch in order] == module.seen
    overlap = PlaceData(config).overlaps[0]
    pairs = 0
    for batch in module.seen[4:]:
        places = [index for scene, index in batch if scene == 0]
        for anchor, negative in zip(places[::2], places[1::2], strict=False):
            assert overlap.weights([anchor, negative])[0, 1] == 0
            pairs += 1
    assert pairs >= 6
    assert {scene for batch in module.seen for scene, _ in batch} == {0, -1}


def test_the_last_pictures_are_larger(config, tmp_path):
    _, module = run(replace(config, last_size=120, last_share=0.3), tmp_path)
    assert module.sizes == [SIZE] * 7 + [120] * 3


def test_a_resumed_training_equals_an_uninterrupted_one(config, tmp_path):
    state, module = run(config, tmp_path / "whole")
    seen = []
    for step in range(1, 11):
        resumed, part = run(config, tmp_path / "parts", replace(TRAINER, max_seconds=1e-9))
        assert read_progress(tmp_path / "parts")[0] == step
        seen += part.seen
    assert seen == module.seen
    assert all(torch.equal(resumed[key], value) for key, value in state.items())
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    whole, parts = ({r["step"]: r["loss"] for r in log if "loss" in r} for log in logs)
    assert parts == whole
    again, none = run(config, tmp_path / "whole")  # which is finished
    assert none.seen == [] and all(torch.equal(again[key], value) for key, value in state.items())


def test_batches_without_a_checkpoint_are_drawn_anew(config, tmp_path):
    np.save(tmp_path / "anchors.npy", np.full((10, 4), 999))
    _, module = run(config, tmp_path, replace(TRAINER, steps=2))
    assert len(module.seen) == 2


def test_no_steps_leave_the_weights(config, tmp_path):
    state, module = run(config, tmp_path, replace(TRAINER, steps=0))
    assert all(torch.equal(module.network.state_dict()[key], value) for key, value in state.items())


def test_data_that_have_changed_are_noticed(config, tmp_path):
    run(config, tmp_path, replace(TRAINER, max_seconds=1e-9))
    with pytest.raises(InputError, match="rows of the 20 anchors"):
        run(replace(config, photos=[]), tmp_path)
