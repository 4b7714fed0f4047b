"""The recipe of SSA learns, runs from its file, and tells what is missing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hloc_ext.cross_view.bev import draw_bevs, score_bevs
from hloc_ext.cross_view.descriptors import Condition, CrossViewNetworks
from hloc_ext.cross_view.localization import estimate_poses, pose_temperature, score_queries, table_of
from hloc_ext.cross_view.pose import TEMPERATURE, PoseSearch
from hloc_ext.datasets.cross_view.layout import open_set
from hloc_ext.datasets.cross_view.pairs import CrossViewPairs
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.extractors.cross_view_weights import load_cross_view
from hloc_ext.models.bev import BEVConfig, SSAConfig, SSANetwork
from hloc_ext.models.bev_geometry import IGNORE
from hloc_ext.models.cross_view import EncoderConfig
from hloc_ext.train import load_recipe
from hloc_ext.train import main as train_main
from hloc_ext.training.ssa import (
    SSALossConfig,
    SSARecipe,
    SSATraining,
    build_network,
    class_frequency,
    train,
)
from tests.class_maps import town
from tests.datasets.cross_view.small_sets import write_cvusa

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
ENCODER = EncoderConfig("test_convnext", 32, ground_size=(32, 192), aerial_size=(64, 64))
BEV = BEVConfig(width=16, groups=2, distances=8, cells=8, blocks=1, up_widths=(8,), extent=0.5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_cvusa(folder)
    return folder


def write_labels(root: Path) -> None:
    for tile in (root / "bingmap" / "19").glob("*.jpg"):
        path = root / "tile_labels" / "bingmap" / "19" / f"{tile.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), town(75, int(tile.stem)))


def small_recipe(root: Path, output: Path) -> SSARecipe:
    recipe = SSARecipe(str(output), SSAConfig(ENCODER, BEV))
    recipe.data.root, recipe.data.neighbours, recipe.data.val_share = str(root), 4, 0.2
    recipe.trainer = dataclasses.replace(
        recipe.trainer,
        steps=4,
        batch_size=4,
        workers=0,
        validate_steps=2,
        precision="32-true",
        accelerator="cpu",
        tensorboard=False,
    )
    return recipe


def test_training_writes_weights_with_their_figures(root: Path, tmp_path: Path) -> None:
    write_labels(root)
    path = train(small_recipe(root, tmp_path / "ssa"))
    network, info = load_cross_view(path)
    assert isinstance(network, SSANetwork) and network.config == SSAConfig(ENCODER, BEV)
    assert info.provenance == {"cvusa/train"}
    figures = json.loads(info.about["validation"])
    assert {"R@1", "R@5", "mIoU"} <= figures.keys()
    pairs = open_set(root, "val", val_share=0.2)
    scores = score_bevs(network, pairs)
    assert 100 * scores.visible.mean_iou == pytest.approx(figures["mIoU"], abs=0.01)
    # What the poses are worth is fitted to the pairs held out, and used wherever poses are estimated.
    networks = CrossViewNetworks([path])
    found = float(info.about["pose_temperature"])
    assert found == pytest.approx(pose_temperature(networks)) and found != TEMPERATURE
    condition, table = Condition(heading_known=False), table_of(pairs)
    given = networks, pairs, pairs.positives, table, condition

    def likelihood(temperature: float) -> float:
        return sum(
            float(scores.log_probability(temperature)[scores.index_of(0.0, 0.0, heading)])
            for _, scores, heading in score_queries(*given)
        )

    assert likelihood(found) > max(likelihood(found / 3), likelihood(3 * found))
    poses = estimate_poses(*given)
    expected = estimate_poses(*given, PoseSearch(temperature=found))
    np.testing.assert_array_equal(poses[0].probability, expected[0].probability)
    # The encoder alone starts another training, and the whole network, too.
    again, seen = build_network(dataclasses.replace(small_recipe(root, tmp_path / "b"), initialize=str(path)))
    torch.testing.assert_close(again.state_dict(), network.state_dict())
    assert seen == {"cvusa/train"}


def test_without_the_task_no_labels_are_needed(root: Path, tmp_path: Path) -> None:
    recipe = small_recipe(root, tmp_path / "plain")
    with pytest.raises(MissingInputError, match="spatial_priors"):
        train(recipe)
    recipe.loss.semantic = 0.0
    network, info = load_cross_view(train(recipe))
    assert "mIoU" not in json.loads(info.about["validation"])
    start = build_network(recipe)[0].state_dict()
    head = {key: value for key, value in network.state_dict().items() if key.startswith("head.")}
    torch.testing.assert_close(head, {key: start[key] for key in head})  # was not trained


def test_losses_are_the_sum_of_their_terms_and_flow_everywhere(root: Path) -> None:
    write_labels(root)
    torch.manual_seed(0)
    network = SSANetwork(SSAConfig(ENCODER, BEV))
    pairs = open_set(root, "train", val_share=0)
    samples = CrossViewPairs(pairs, (32, 192), (64, 64), augment=True, label_size=BEV.label_size)
    batch = torch.utils.data.default_collate([samples[i] for i in range(4)])
    config = SSALossConfig(semantic=0.7)
    module = SSATraining(network, pairs, config, class_frequency(pairs, BEV))
    terms = module(batch)
    expected = terms["contrastive"] + 0.35 * (terms["cross_entropy"] + terms["dice"])
    torch.testing.assert_close(terms["loss"], expected)
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    # Nothing is learnt from hidden cells, nor where the heading is not known.
    config.visible = False
    assert float(module(batch)["cross_entropy"].detach()) != float(terms["cross_entropy"].detach())
    unknown = {**batch, "heading": torch.full((4,), float("nan"))}
    assert float(module(unknown)["dice"].detach()) == 0


def test_a_network_learns_to_draw(root: Path) -> None:
    """Maps that the panoramas tell apart are learnt; the scores tell so."""
    for number in range(1, 25):
        tile = root / "tile_labels" / "bingmap" / "19" / f"{number:07d}.png"
        tile.parent.mkdir(parents=True, exist_ok=True)
        label = np.full((75, 75), 4 if number % 2 else 1, np.uint8)
        label[:, 50:] = 2  # in the east
        label[:10] = IGNORE
        cv2.imwrite(str(tile), label)
        panorama = np.full((16, 88, 3), 200 if number % 2 else 30, np.uint8)
        panorama[:, 44:66] //= 2
        cv2.imwrite(str(root / "streetview" / "panos" / f"{number:07d}.jpg"), panorama)
    torch.manual_seed(0)
    bev = dataclasses.replace(BEV, extent=1.0)
    network = SSANetwork(SSAConfig(dataclasses.replace(ENCODER), bev))
    pairs = open_set(root, "train", val_share=0)
    module = SSATraining(network, pairs, SSALossConfig(), class_frequency(pairs, bev))
    samples = CrossViewPairs(pairs, (32, 192), (64, 64), label_size=bev.label_size)
    batch = torch.utils.data.default_collate([samples[i] for i in range(8)])
    before = score_bevs(network.eval(), pairs).visible.mean_iou
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    network.train()
    for _ in range(40):
        optimizer.zero_grad()
        module(batch)["loss"].backward()
        optimizer.step()
    after = score_bevs(network.eval(), pairs)
    assert after.visible.mean_iou > max(0.8, before)
    np.testing.assert_array_equal(np.isnan(after.all.iou), [True, False, False, True, False, True])


def test_bevs_of_cameras_that_look_anywhere(root: Path) -> None:
    write_labels(root)
    torch.manual_seed(0)
    network = SSANetwork(SSAConfig(ENCODER, BEV)).eval()
    pairs = open_set(root, "test")
    known = next(draw_bevs(network, pairs, fov=90))
    assert known.logits.shape == (6, 6, 16, 16) and not known.heading.any()
    azimuth_north = known.visible[:, 0, 8]
    assert azimuth_north.any() and not known.visible[:, 15].any()
    turned = next(draw_bevs(network, pairs, unknown_heading=True))
    assert len(np.unique(turned.heading)) > 3
    torch.testing.assert_close(turned.label, known.label)


def test_weights_of_another_network(root: Path, tmp_path: Path) -> None:
    write_labels(root)
    path = train(small_recipe(root, tmp_path / "ssa"))
    recipe = small_recipe(root, tmp_path / "other")
    recipe.network.bev = dataclasses.replace(BEV, width=32)
    recipe.initialize = str(path)
    with pytest.raises(InputError, match="another network"):
        build_network(recipe)


@pytest.mark.parametrize("name", ["ssa_small", "ssa_medium"])
def test_recipes_of_the_repository(name: str) -> None:
    kind, recipe = load_recipe(CONFIGS / f"{name}.yaml", ["loss.semantic=0", "network.bev.up_widths=[64]"])
    assert kind == "ssa" and isinstance(recipe, SSARecipe)
    assert recipe.loss.semantic == 0 and recipe.network.bev.up_widths == (64,)
    assert recipe.data.keep or recipe.trainer.workers > 0


def test_the_command_line_trains(root: Path, tmp_path: Path) -> None:
    write_labels(root)
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "recipe: ssa\n"
        "network:\n"
        "  encoder: {backbone: test_convnext, embedding_dim: 32, ground_size: [32, 192],"
        " aerial_size: [64, 64]}\n"
        "  bev: {width: 16, groups: 2, distances: 8, cells: 8, blocks: 1, up_widths: [8], extent: 0.5}\n"
        f"data: {{root: {root}, val_share: 0}}\n"
        "trainer: {steps: 2, batch_size: 4, workers: 0, precision: 32-true, accelerator: cpu,"
        " tensorboard: false}\n"
    )
    path = train_main(file, [f"output={tmp_path / 'out'}"])
    assert load_cross_view(path)[0].config == SSAConfig(ENCODER, BEV)
