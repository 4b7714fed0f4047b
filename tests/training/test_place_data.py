from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hloc_ext.datasets.places import PHOTOS
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.training.place_data import PlaceData, PlaceDataConfig
from tests.training.small_scene import SIZE, write_photos, write_street


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number, count in enumerate((6, 4, 7)):
        write_street(folder / f"street_{number}", count, number)
    write_photos(folder / "photos", 9)
    return folder


@pytest.fixture
def config(root: Path) -> PlaceDataConfig:
    return PlaceDataConfig(
        root=str(root),
        scenes=["street_0", "street_1"],
        held_out=["street_2"],
        photos=["photos"],
        hold_out=3,
        size=SIZE,
    )


class Brightness(nn.Module):
    """Describes a picture by its colours at 3 × 3 places, in unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        small = nn.functional.interpolate(image, size=(3, 3), mode="area").flatten(1)
        return nn.functional.normalize(self.scale * (small - small.mean(1, keepdim=True)), dim=1)


def test_what_is_trained_on(config):
    data = PlaceData(config)
    assert [len(overlap) for overlap in data.overlaps] == [12, 8]
    assert data.overlaps[0].positives(0).tolist() == [1, 2, 3, 4, 5]
    assert [path.stem for path in data.held_out_photos] == ["02", "05", "08"]
    photos = [a for a in data.anchors.tolist() if a[0] == PHOTOS]
    assert len(photos) == 6 and len(data.anchors) == 12 + 8 + 6
    dataset = data.training(np.array([[0, 15, 25], [1, 2, 3]]), SIZE, seed=4)
    assert len(dataset) == 6
    assert dataset[1]["scene"].tolist() == [1, 1] and dataset[1]["index"][0] == 3
    assert dataset[2]["scene"].tolist() == [PHOTOS, PHOTOS] and dataset[2]["image"].shape == (
        2,
        3,
        SIZE,
        SIZE,
    )
    assert (
        "published" not in dataset[0]
        and "published" in PlaceData(config, published=True).training(np.array([[0]]), SIZE, 0)[0]
    )


def test_sizes(config):
    data = PlaceData(config)
    assert [data.size_at(step, 100) for step in (0, 74, 75, 99)] == [SIZE] * 4 and data.last_size_step(
        100
    ) == 0
    data = PlaceData(replace(config, last_size=120))
    assert [data.size_at(step, 100) for step in (0, 74, 75, 99)] == [SIZE, SIZE, 120, 120]
    assert data.last_size_step(100) == 75
    assert data.training(np.array([[0]]), 120, 0)[0]["image"].shape == (2, 3, 120, 120)


def test_figures_are_of_what_is_held_out(config):
    network = Brightness().eval()
    found = PlaceData(replace(config, queries="_night")).figures(network, SIZE)
    assert set(found) == {
        f"{group}recall@{k}" for group in ("street_2/", "street_2/queries/", "photos/") for k in (1, 5)
    }
    assert all(found[key] >= found[key.replace("@5", "@1")] >= 0 for key in found)
    assert found["street_2/recall@5"] > 0.3 and found["photos/recall@5"] == 1  # of three
    assert PlaceData(config).figures(network, SIZE) == {k: v for k, v in found.items() if "queries" not in k}
    assert PlaceData(replace(config, held_out=[], photos=[])).figures(network, SIZE) == {}


def test_embeddings_of_scenes(config):
    data = PlaceData(config)
    first, second = data.embed_scenes(Brightness(), SIZE)
    assert first.shape == (12, 27) and second.shape == (8, 27)
    sample = data._images[12 + 5]
    np.testing.assert_allclose(second[5], Brightness()(sample["image"][None])[0].detach().numpy(), atol=1e-6)


def test_what_cannot_be_used_is_named(config, root):
    for wrong in ({"hold_out": 1}, {"negatives": -1}, {"refresh_steps": 0}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
            PlaceData(replace(config, **wrong))
    with pytest.raises(InputError, match="measure='volume'"):
        PlaceData(replace(config, measure="volume"))
    with pytest.raises(MissingInputError, match="street_9"):
        PlaceData(replace(config, scenes=["street_9"]))
    with pytest.raises(InputError, match="no picture"):
        PlaceData(replace(config, scenes=[], photos=[]))
