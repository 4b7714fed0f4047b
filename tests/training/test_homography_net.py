from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.evaluation.homography import corner_error
from hloc_ext.gis.registration.gradient_fields import image_picture
from hloc_ext.gis.registration.homography_regression import (
    HomographyNetMethod,
    load_weights,
    save_weights,
)
from hloc_ext.gis.registration.matching import get_method
from hloc_ext.gis.registration.prior import Prior
from hloc_ext.models.homography_net import HomographyNet, HomographyNetConfig, control_points
from hloc_ext.train import load_recipe
from hloc_ext.training.homography_net import (
    HomographyNetRecipe,
    RegressionTraining,
    evaluate_pairs,
    train,
    true_points,
)

TINY = HomographyNetConfig(32, (8, 16), 32, 0.0)


def shifted_batch(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Squares of noise, shifted by whole pixels."""
    rng = np.random.default_rng(seed)
    cells = np.stack(np.meshgrid(np.arange(0, 32, 8), np.arange(0, 32, 8)), -1).reshape(-1, 2)
    image0, image1, points = [], [], []
    for _ in range(count):
        texture = cv2.GaussianBlur(rng.random((48, 48)).astype(np.float32), (0, 0), 3)
        x, y = rng.integers(0, 9, 2)
        image0.append(texture[8:40, 8:40])
        image1.append(texture[y + 4 : y + 36, x + 4 : x + 36])
        points.append(cells + np.array([4 - x, 4 - y]))
    return {
        "image0": torch.from_numpy(np.stack(image0))[:, None],
        "image1": torch.from_numpy(np.stack(image1))[:, None],
        "points1": torch.from_numpy(np.stack(points)).float(),
        "valid1": torch.ones(count, 16, dtype=torch.bool),
    }


def test_targets_are_the_corner_cells() -> None:
    batch = shifted_batch(2)
    target, known = true_points(batch)
    shift = batch["points1"][:, 0]
    torch.testing.assert_close(target, control_points(32)[None] + shift[:, None])
    assert known.tolist() == [1, 1]


def test_pairs_without_overlap_have_no_loss() -> None:
    batch = shifted_batch(4)
    training = RegressionTraining(HomographyNet(TINY)).eval()
    whole = training(batch)["loss"]
    batch["valid1"][2:] = False
    batch["points1"][2:] = 1e6
    half = training(batch)["loss"]
    expected = training({key: value[:2] for key, value in batch.items()})["loss"]
    torch.testing.assert_close(half, expected)
    assert torch.isfinite(half) and half != whole


def test_it_learns_shifts() -> None:
    torch.manual_seed(0)
    network = HomographyNet(TINY)
    training = RegressionTraining(network)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    first = None
    for step in range(60):
        terms = training(shifted_batch(32, step))
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        first = first or float(terms["pixels"])
    assert float(terms["pixels"]) < 0.8 * first
    batch = shifted_batch(8, 1000)
    samples = [{key: value[i] for key, value in batch.items()} for i in range(8)]
    figures = evaluate_pairs(network.eval(), samples)
    assert set(figures) == {"median_error_percent", "success"} and 0 < figures["median_error_percent"] < 10


def test_weights_and_the_method(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = HomographyNet(TINY).eval()
    path = tmp_path / "net.safetensors"
    save_weights(network, path, {"seconds": "1"})
    loaded = load_weights(path)
    assert loaded.config == TINY
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(loaded(image, image), network(image, image))
    rng = np.random.default_rng(0)
    picture = image_picture(cv2.GaussianBlur(rng.integers(0, 256, (100, 130), dtype=np.uint8), (0, 0), 2))
    # Without training the network moves nothing: the hypotheses are the poses, the right one first.
    found = get_method("homography-net", path).register(picture, picture, Prior())
    assert len(found) == 24 and isinstance(get_method("homography-net", path), HomographyNetMethod)
    assert corner_error(found[0].matrix, np.eye(3), (130, 100)) < 1e-3
    narrow = get_method("homography-net", path).register(picture, picture, Prior(np.eye(3), 10, 1.1))
    assert len(narrow) == 1


def test_wrong_files_and_recipes(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"homography_net\.yaml"):
        load_weights(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    with pytest.raises(CorruptFileError, match="broken"):
        load_weights(broken)
    recipe = HomographyNetRecipe()
    recipe.data.size = [160, 128]
    with pytest.raises(InputError, match="squares"):
        train(recipe)
    recipe.data.size = [160, 160]
    recipe.data.sources[0].kind = "city"
    with pytest.raises(InputError, match="no homography"):
        train(recipe)


def test_the_shipped_recipe_is_valid() -> None:
    path = Path(__file__).parents[2] / "configs" / "train" / "homography_net.yaml"
    name, recipe = load_recipe(path, ["trainer.steps=3"])
    assert name == "homography_net" and isinstance(recipe, HomographyNetRecipe)
    assert recipe.trainer.steps == 3 and recipe.data.size == [160, 160]


def test_training_writes_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        texture = cv2.GaussianBlur(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8), (0, 0), 2)
        cv2.imwrite(str(folder / f"{number}.png"), texture)
    recipe = HomographyNetRecipe(output=str(tmp_path / "out"), widths=[8, 8, 8], hidden=16)
    recipe.data.root, recipe.data.size = str(tmp_path), [64, 64]
    recipe.data.hold_out, recipe.data.validation_pairs = 2, 2
    trainer = recipe.trainer
    trainer.steps, trainer.batch_size, trainer.workers, trainer.validate_steps = 2, 2, 0, 2
    trainer.precision, trainer.accelerator, trainer.threads = "32-true", "cpu", 1
    path = train(recipe)
    assert load_weights(path).config.widths == (8, 8, 8)
