from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.extractors.cross_view_weights import (
    SHARED,
    SSA,
    STUDENTS,
    load_cross_view,
    load_sample4geo,
    save_cross_view,
)
from hloc_ext.models.cross_view import EncoderConfig, SharedEncoder, StudentPair

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
CONFIG = EncoderConfig("convnext_atto", 16, ground_size=(32, 128), aerial_size=(64, 64))
STUDENT = EncoderConfig("fastervit_nano", 16, ground_size=(32, 96), aerial_size=(48, 48))


@torch.no_grad()
@pytest.mark.parametrize("half", [False, True])
def test_shared_encoder_comes_back(tmp_path, half):
    network = SharedEncoder(CONFIG).eval()
    path = tmp_path / "teacher.safetensors"
    save_cross_view(path, network, {"cvusa/train"}, {"recipe": "{}"}, half=half)
    found, info = load_cross_view(path)
    assert isinstance(found, SharedEncoder) and found.config == CONFIG and not found.training
    assert info.kind == SHARED and info.sizes == {"ground": (32, 128), "aerial": (64, 64)}
    assert info.provenance == {"cvusa/train"} and info.about == {"recipe": "{}"}
    image = torch.randn(2, 3, 32, 128)
    expected = network(image, "ground")
    assert found(image, "ground").dtype == torch.float32
    torch.testing.assert_close(found(image, "ground"), expected, atol=0.02 if half else 0, rtol=0)


@torch.no_grad()
def test_students_come_back_one_or_both(tmp_path):
    for views in (("ground", "aerial"), ("aerial",)):
        network = StudentPair(dict.fromkeys(views, STUDENT)).eval()
        save_cross_view(tmp_path / "s.safetensors", network, None)
        found, info = load_cross_view(tmp_path / "s.safetensors")
        assert isinstance(found, StudentPair) and found.views == views and info.kind == STUDENTS
        assert info.provenance is None and set(info.sizes) == set(views)
        image = torch.randn(1, 3, 48, 48)
        assert torch.equal(found(image, "aerial"), network(image, "aerial"))


def test_given_state_is_written(tmp_path):
    network = SharedEncoder(CONFIG)
    state = {key: torch.zeros_like(value) for key, value in network.state_dict().items()}
    save_cross_view(tmp_path / "zero.safetensors", network, (), state=state)
    assert all((value == 0).all() for value in load_cross_view(tmp_path / "zero.safetensors")[0].parameters())


def test_loading_leaves_the_random_numbers_alone(tmp_path):
    save_cross_view(tmp_path / "s.safetensors", StudentPair({"aerial": STUDENT}), ())
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_cross_view(tmp_path / "s.safetensors")
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("name", ["cross_view_teacher", "distill4geo"])
def test_weights_of_the_package_describe_both_views(name):
    network, info = load_cross_view(name)
    assert info.provenance == {"city1-cvusa/train"}  # a made-up city, not the real data
    with torch.inference_mode():
        for view, size in info.sizes.items():
            described = network(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)), view)
            torch.testing.assert_close(described.norm(dim=1), torch.ones(1))


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(
        MissingInputError, match=r"absent\.safetensors do not exist.*cross_view_teacher_small"
    ):
        load_cross_view(tmp_path / "absent.safetensors")
    with pytest.raises(MissingInputError, match="do not exist"):
        load_cross_view("no_such_weights")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    with pytest.raises(CorruptFileError, match=r"broken\.safetensors is not a readable"):
        load_cross_view(broken)
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, other, {"architecture": "crossvit_student"})
    with pytest.raises(InputError, match="crossvit_student, not of cross-view"):
        load_cross_view(other)
    good = tmp_path / "good.safetensors"
    save_cross_view(good, SharedEncoder(CONFIG), (), state={"x": torch.zeros(1)})
    with pytest.raises(CorruptFileError, match="does not fit its own configuration"):
        load_cross_view(good)


def save_public(path: Path, network: SharedEncoder, prefix: str = "model.") -> None:
    state = {f"{prefix}{key}": value for key, value in network.backbone.state_dict().items()}
    torch.save(state | {"logit_scale": torch.tensor(2.659)}, path)


@torch.no_grad()
def test_checkpoints_of_sample4geo(tmp_path):
    config = EncoderConfig("convnext_atto")
    network, image = SharedEncoder(config).eval(), torch.randn(1, 3, 64, 64)
    path = tmp_path / "weights_e40_98.6830.pth"
    save_public(path, network)
    assert torch.equal(load_sample4geo(path, config)(image, "aerial"), network(image, "aerial"))
    with pytest.raises(InputError, match=r"98\.6830\.pth do not fit"):
        load_sample4geo(path, EncoderConfig("convnext_femto"))
    # SSA's dictionaries {epoch, model_state_dict} were loaded loosely, which evaluated ImageNet's weights.
    torch.save({"epoch": 3, "model_state_dict": network.state_dict()}, path)
    with pytest.raises(InputError, match=r"no checkpoint of Sample4Geo.*epoch"):
        load_sample4geo(path, config)
    with pytest.raises(MissingInputError, match="do not exist"):
        load_sample4geo(tmp_path / "absent.pth")


def test_checkpoints_run_no_code(tmp_path):
    class Surprise:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"model.x": Surprise()}, tmp_path / "evil.pth")
    with pytest.raises(CorruptFileError, match=r"evil\.pth"):
        load_sample4geo(tmp_path / "evil.pth")


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "kind"), [("cross_view_teacher", SHARED), ("distill4geo", STUDENTS), ("ssa", SSA)]
)
def test_weights_of_the_package(name, kind):
    """They know a made-up city only, and say so; they tell pictures apart."""
    network, info = load_cross_view(name)
    assert info.kind == kind and any(seen.startswith("city1-") for seen in info.provenance)
    for view, size in info.sizes.items():
        images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
        described = network(images, view)
        torch.testing.assert_close(described.norm(dim=1), torch.ones(2))
        assert float(described[0] @ described[1]) < 0.9999
    assert ("pose_temperature" in info.about) is (kind == SSA)
