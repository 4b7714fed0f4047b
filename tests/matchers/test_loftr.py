from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from kornia.feature.loftr import loftr as kornia_loftr

from hloc_ext.errors import InputError
from hloc_ext.matchers.loftr import LoFTR, best_per_pair


@pytest.fixture(scope="module")
def model() -> LoFTR:
    torch.manual_seed(0)
    return LoFTR({"weights": None, "match_threshold": 0.0}).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Two images with texture of several scales, so that a random network matches them with themselves."""
    generator = torch.Generator().manual_seed(1)
    layers = [torch.rand(2, 1, 96 // s, 128 // s, generator=generator) for s in (1, 8, 16)]
    layers = [torch.nn.functional.interpolate(layer, (96, 128), mode="bilinear") for layer in layers]
    return sum(layers) / 3


@torch.no_grad()
def test_first_image_is_refined_and_second_is_on_the_grid(model, images):
    output = model({"image0": images[:1], "image1": images[:1, :, :80]})
    number = len(output["scores"])
    assert number > 3 and output["keypoints0"].shape == output["keypoints1"].shape == (number, 2)
    assert (output["keypoints1"] % 8 == 0).all() and (output["keypoints0"] % 8 != 0).any()
    assert output["keypoints1"][:, 1].max() < 80
    # The same network with its arguments exchanged.
    swapped = model.net({"image0": images[:1, :, :80], "image1": images[:1]})
    torch.testing.assert_close(output["keypoints0"], swapped["keypoints1"])
    torch.testing.assert_close(output["scores"], swapped["confidence"])


@torch.no_grad()
def test_pairs_of_a_batch_are_those_matched_alone(model, images):
    batch = model({"image0": images, "image1": images})
    for i in range(2):
        alone = model({"image0": images[i : i + 1], "image1": images[i : i + 1]})
        mine = batch["batch_indexes"] == i
        torch.testing.assert_close(batch["keypoints0"][mine], alone["keypoints0"], atol=1e-3, rtol=0)
        torch.testing.assert_close(batch["keypoints1"][mine], alone["keypoints1"])


@torch.no_grad()
def test_max_num_matches_keeps_the_best_of_each_pair(model, images):
    data = {"image0": images, "image1": images}
    everything = model(data)
    limited = LoFTR({"weights": None, "match_threshold": 0.0, "max_num_matches": 2}).eval()
    limited.net = model.net
    output = limited(data)
    for i in range(2):
        scores = everything["scores"][everything["batch_indexes"] == i]
        kept = output["scores"][output["batch_indexes"] == i]
        assert len(scores) > 2
        torch.testing.assert_close(kept, scores.sort(descending=True).values[:2])


def test_best_per_pair_breaks_ties_by_order():
    scores, batch = torch.tensor([0.5, 0.9, 0.5, 0.5, 0.1]), torch.tensor([0, 1, 0, 0, 1])
    assert best_per_pair(scores, batch, 2).tolist() == [0, 2, 1, 4]
    assert best_per_pair(scores, batch, 5) is None and best_per_pair(scores, batch, None) is None


@torch.no_grad()
def test_masked_half_has_no_matches(model, images):
    mask = torch.ones(1, 96, 128)
    mask[..., :64] = 0
    output = model({"image0": images[:1], "image1": images[:1], "mask1": mask})
    # The grid of image 1 is not refined.
    assert len(output["keypoints1"]) > 0 and output["keypoints1"][:, 0].min() >= 64


def test_configuration_of_kornia_is_left_alone():
    before = copy.deepcopy(kornia_loftr.default_cfg)
    strict = LoFTR({"weights": None, "match_threshold": 0.7})
    assert kornia_loftr.default_cfg == before
    assert strict.net.config["match_coarse"]["thr"] == 0.7


def test_weights_from_a_file(model, tmp_path: Path):
    path = tmp_path / "mine.ckpt"
    state = {f"matcher.{key}": value for key, value in model.net.state_dict().items()}
    torch.save({"state_dict": state}, path)
    loaded = LoFTR({"weights": str(path)})
    for key, value in model.net.state_dict().items():
        torch.testing.assert_close(loaded.net.state_dict()[key], value)
    assert not loaded.net.training
    state.popitem()
    torch.save({"state_dict": state}, path)
    with pytest.raises(InputError, match=r"mine\.ckpt do not fit LoFTR: missing"):
        LoFTR({"weights": str(path)})


def test_colour_is_refused(model, images):
    with pytest.raises(InputError, match="grey"):
        model({"image0": images.expand(2, 3, 96, 128), "image1": images})
