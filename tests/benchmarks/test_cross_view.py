"""The benchmark of cross-view networks on a small data set, with networks that were not trained."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import pytest
import torch
from torch import nn

from benchmarks.cross_view.__main__ import main
from benchmarks.cross_view.cost import count_macs
from hloc_ext.cross_view.descriptors import CrossViewNetworks
from tests.class_maps import town
from tests.cross_view_weights import GROUND_SIZE, random_network, write_random_weights
from tests.datasets.cross_view.small_sets import write_cvusa

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    root = tmp_path_factory.mktemp("benchmark")
    write_cvusa(root / "data", 24)
    for number in range(19, 25):
        label = root / "data" / "tile_labels" / "bingmap" / "19" / f"{number:07d}.png"
        label.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(label), town(75, number))
    files = {
        "teacher": write_random_weights(root / "teacher.safetensors", "shared"),
        "students": write_random_weights(root / "students.safetensors", "students", "polar"),
        "ssa": write_random_weights(root / "ssa.safetensors", "ssa"),
    }
    arguments = ["--data", str(root / "data"), "--output", str(root / "out"), "--repeats", "1"]
    arguments += ["--fov", "360", "90", "--weights", *(f"{name}={path}" for name, path in files.items())]
    main([*arguments, "--pose_queries", "3", "--threads", "1"])
    assert (root / "out" / "cross_view.md").read_text().startswith("- machine: ")
    content = json.loads((root / "out" / "cross_view.json").read_text())
    return {table["title"]: table["rows"] for table in content["tables"]}


def test_each_part_has_its_table(tables):
    assert list(tables) == [
        "Cost of a descriptor",
        "Retrieval",
        "R@1 relative to teacher",
        "Field of view and heading",
        "Bird's-eye views",
        "Pose in the tile",
    ]
    assert len(tables["Field of view and heading"]) == 3 * 4
    assert [row["method"] for row in tables["R@1 relative to teacher"]] == ["teacher", "students", "ssa"]
    assert {row["poses"] for row in tables["Pose in the tile"]} == {3}


def test_parameters_are_counted_per_view(tables):
    rows = {(row["method"], row["view"]): row for row in tables["Cost of a descriptor"]}
    shared = sum(p.numel() for p in random_network("shared").parameters())
    for view in ("ground", "aerial"):
        assert rows["teacher", view]["parameters M"] == pytest.approx(shared / 1e6)
        student = random_network("students", "polar").encoder(view)
        expected = sum(p.numel() for p in student.parameters())
        assert rows["students", view]["parameters M"] == pytest.approx(expected / 1e6)
        assert rows["students", view]["parameters / teacher"] == pytest.approx(expected / shared)
        assert rows["ssa", view]["parameters / teacher"] == pytest.approx(1)  # without what draws
    assert rows["teacher", "ground"]["input"] == f"{GROUND_SIZE[1]}×{GROUND_SIZE[0]}"
    assert all(row["GMACs"] > 0 and row["ms/image"] > 0 for row in rows.values())


def test_multiplications_of_a_convolution(tmp_path: Path):
    networks = CrossViewNetworks([write_random_weights(tmp_path / "a.safetensors")])
    model = networks.models["ground"]

    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, image: torch.Tensor, view: str) -> torch.Tensor:
            return self.layer(image)

    model.net = Single()
    assert count_macs(model) == GROUND_SIZE[0] * GROUND_SIZE[1] * 3 * 8 * 9
