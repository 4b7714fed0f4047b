from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hloc_ext.errors import InputError
from hloc_ext.matchers.lightglue import LightGlue, _rename


def make_model(features: str = "disk", **options) -> LightGlue:
    torch.manual_seed(0)
    return LightGlue({"features": features, "weights": None, "filter_threshold": 0.0, **options}).eval()


def make_data(num0: int = 20, num1: int = 30, dim: int = 128) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    data = {}
    for index, number in enumerate((num0, num1)):
        descriptors = torch.randn(1, dim, number, generator=generator)
        data[f"keypoints{index}"] = torch.rand(1, number, 2, generator=generator) * 40
        data[f"descriptors{index}"] = torch.nn.functional.normalize(descriptors, dim=1)
        data[f"image_size{index}"] = torch.tensor([[64, 48]])
    return data


@torch.no_grad()
def test_output_is_that_of_kornia_for_transposed_descriptors():
    model, data = make_model(), make_data()
    output = model(data)
    sides = {
        f"image{i}": {
            "keypoints": data[f"keypoints{i}"],
            "descriptors": data[f"descriptors{i}"].transpose(1, 2),
            "image_size": torch.tensor([[64.0, 48.0]]),
        }
        for i in (0, 1)
    }
    expected = model.net(sides)
    assert output["matches0"].shape == (1, 20) and output["matching_scores0"].shape == (1, 20)
    assert (output["matches0"] >= 0).any() and output["matches0"].max() < 30
    assert torch.equal(output["matches0"], expected["matches0"])
    assert torch.equal(output["matching_scores0"], expected["matching_scores0"])


@torch.no_grad()
def test_size_of_an_image_tensor_serves_as_well():
    model, data = make_model(), make_data()
    with_images = {key: value for key, value in data.items() if "size" not in key}
    with_images |= {f"image{i}": torch.empty(1).expand(1, 1, 48, 64) for i in (0, 1)}
    assert torch.equal(model(data)["matches0"], model(with_images)["matches0"])
    del with_images["image1"]
    with pytest.raises(InputError, match="image_size1"):
        model(with_images)


@torch.no_grad()
def test_float16_descriptors_and_border_keypoints_are_accepted():
    data = make_data()
    data["descriptors0"] = data["descriptors0"].half()
    data["keypoints0"][0, 0] = torch.tensor([-0.25, 48.25])
    assert make_model()(data)["matches0"].shape == (1, 20)


@torch.no_grad()
@pytest.mark.parametrize(("num0", "num1"), [(0, 30), (20, 0)])
def test_image_without_keypoints_has_no_matches(num0, num1):
    output = make_model()(make_data(num0, num1))
    assert output["matches0"].tolist() == [[-1] * num0]


@torch.no_grad()
@pytest.mark.parametrize(("features", "dim"), [("aliked", 128), ("superpoint", 256), ("xfeat", 64)])
def test_other_features(features, dim):
    model = make_model(features)
    assert model(make_data(dim=dim))["matches0"].shape == (1, 20)
    assert model.net.conf.input_dim == dim


def test_options_reach_the_network():
    conf = make_model(depth_confidence=-1, width_confidence=-1).net.conf
    assert (conf.depth_confidence, conf.width_confidence, conf.filter_threshold) == (-1, -1, 0.0)


def test_published_names_of_parameters_are_understood(tmp_path: Path):
    model = make_model("xfeat")
    state = {}
    for key, value in model.net.state_dict().items():
        parts = key.split(".")
        if parts[0] == "transformers":
            key = ".".join([parts[2], parts[1], *parts[3:]])
        if key != "confidence_thresholds":
            state[f"matcher.{key}"] = value
    path = tmp_path / "lighterglue.pt"
    torch.save({**state, "extractor.net.weight": torch.zeros(1)}, path)
    loaded = LightGlue({"features": "xfeat", "weights": str(path)})
    for key, value in model.net.named_parameters():
        torch.testing.assert_close(dict(loaded.net.named_parameters())[key], value)
    assert _rename({"cross_attn.1.a": torch.zeros(1)}, 2).keys() == {"transformers.1.cross_attn.a"}


def test_unknown_features_are_refused():
    with pytest.raises(InputError, match=r"'sift'.*'disk'"):
        LightGlue({"features": "sift"})
