"""Tests of the retrieval networks: their cost, what they share with timm's, what the teacher knows."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.errors import InputError
from hloc_ext.models.crossvit import (
    CrossViT,
    CrossViTConfig,
    CrossViTRetrieval,
    CrossViTTeacher,
    load_imagenet,
    oriented_edges,
)
from tests.models.test_spatial_encoding import spatial_tokens

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

IMAGENET_CLASSES = 1000


def images(batch: int = 2, size: int = 240, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def make(spatial: str | None, **options: Any) -> CrossViT:
    torch.manual_seed(0)
    config = CrossViTConfig(spatial=spatial, **options)
    model = CrossViTTeacher(config) if spatial else CrossViTRetrieval(config)
    return model.eval()


def inputs(spatial: str | None, batch: int = 2, size: int = 240) -> list[Tensor]:
    """What a network of this kind takes."""
    if spatial is None:
        return [images(batch, size)]
    if spatial == "published":
        return [images(batch, size), torch.rand(batch, 197, 192, generator=torch.Generator().manual_seed(1))]
    return [images(batch, size), *spatial_tokens(batch, 197)]


@pytest.fixture(scope="module")
def student() -> CrossViTRetrieval:
    return make(None)


@pytest.fixture(scope="module")
def teacher() -> CrossViTTeacher:
    return make("rotary")


@pytest.fixture(scope="module")
def timm_network() -> nn.Module:
    allow_cpu_torchvision()
    from timm.models.crossvit import crossvit_tiny_240

    torch.manual_seed(1)
    return crossvit_tiny_240(num_classes=IMAGENET_CLASSES).eval()


# --- cost ---------------------------------------------------------------------------------------------------


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model: nn.Module, *arguments: Tensor) -> int:
    """Counted in convolutions and matrix products, those of attention too."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(*arguments)
    return counter.get_total_flops() // 2


def test_cost_of_the_student(student: CrossViTRetrieval):
    assert parameters(student) == 6_872_416
    assert multiply_adds(student, images(1)) == pytest.approx(1.56e9, abs=0.005e9)
    assert multiply_adds(student, images(1, 120)) == pytest.approx(0.345e9, abs=0.005e9)


def test_cost_of_the_published_size():
    student = make(None, embedding_dim=1000)
    assert parameters(student) == pytest.approx(7.0e6, abs=0.02e6)
    assert student(images()).shape == (2, 1000)


def test_cost_of_the_teacher(teacher: CrossViTTeacher):
    assert parameters(teacher) == pytest.approx(6.75e6, abs=0.01e6)
    assert multiply_adds(teacher, *inputs("rotary", batch=1)) == pytest.approx(1.54e9, abs=0.01e9)


# --- the student --------------------------------------------------------------------------------------------


def test_the_student_is_timms_network_with_unit_length(timm_network: nn.Module):
    model = make(None, embedding_dim=IMAGENET_CLASSES)
    load_imagenet(model, timm_network.state_dict())
    model.backbone.head.load_state_dict(timm_network.head.state_dict())
    image = images()
    with torch.no_grad():
        expected = F.normalize(timm_network(image), dim=1)
        torch.testing.assert_close(model(image), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [60, 120, 180, 240, 300])
def test_the_student_takes_multiples_of_60(student: CrossViTRetrieval, size: int):
    with torch.no_grad():
        embedding = student(images(2, size))
    assert embedding.shape == (2, 512)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("shape", [(240, 300), (250, 250), (224, 224)])
def test_other_sizes_are_refused(student: CrossViTRetrieval, shape: tuple[int, int]):
    with pytest.raises(InputError, match="'edge': CrossViT sees one of"):
        CrossViTRetrieval(CrossViTConfig(sees="edge"))
    with pytest.raises(InputError, match="multiple of 60"):
        student(torch.zeros(1, 3, *shape))


def test_position_embeddings_follow_the_image(student: CrossViTRetrieval):
    """A ramp over 20×20 cells is, at half the size, the ramp of the centres of 2×2 cells."""
    ramp = torch.arange(20.0).expand(20, 20)
    own = student.backbone.pos_embed_0
    before = own.detach().clone()
    try:
        with torch.no_grad():
            own[:, 1:] = ramp.reshape(1, 400, 1)
            resized = student.position_embedding(10, 0)
            torch.testing.assert_close(resized[:, :1], own[:, :1])
            grid = resized[0, 1:, 0].reshape(10, 10)
            expected = (2 * torch.arange(10.0) + 0.5).expand(10, 10)
            torch.testing.assert_close(grid[:, 2:-2], expected[:, 2:-2], rtol=0, atol=1e-4)
            assert torch.equal(student.position_embedding(20, 0), own)
    finally:
        own.data = before


def test_biases_of_the_keys_of_cross_attention_are_left_out(timm_network: nn.Module):
    """They add the same to all scores of a softmax; the student equals timm's network without them."""
    own = set(make(None, embedding_dim=IMAGENET_CLASSES).backbone.state_dict())
    dropped = set(timm_network.state_dict()) - own
    assert dropped == {f"blocks.{s}.fusion.{b}.attn.wk.bias" for s in range(3) for b in range(2)}


# --- the teacher --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blind_teacher() -> CrossViTTeacher:
    """Whose content tells no position, so that only the rotation of queries and keys does."""
    model = make("rotary")
    nn.init.zeros_(model.content.features.weight[:, :60])
    return model


def moved(tokens: list[Tensor], points: Tensor) -> list[Tensor]:
    return [tokens[0], points, *tokens[2:]]


@torch.no_grad()
def test_rotation_gives_positions_relative_to_each_other(blind_teacher: CrossViTTeacher):
    tokens = inputs("rotary")
    embedding = blind_teacher(*tokens)
    shifted = blind_teacher(*moved(tokens, tokens[1] + torch.tensor([2.0, -1.0, 0.5])))
    torch.testing.assert_close(shifted, embedding, rtol=0, atol=1e-5)
    scaled = blind_teacher(*moved(tokens, 1.5 * tokens[1]))
    assert (scaled - embedding).norm(dim=1).min() > 1e-4


@torch.no_grad()
def test_content_gives_the_place_in_the_scene(teacher: CrossViTTeacher):
    tokens = inputs("rotary")
    shifted = teacher(*moved(tokens, tokens[1] + torch.tensor([2.0, -1.0, 0.5])))
    assert (shifted - teacher(*tokens)).norm(dim=1).min() > 1e-3


@torch.no_grad()
def test_without_rotation_the_teacher_runs_timms_stages(teacher: CrossViTTeacher):
    """All tokens at one place: the rotation cancels, and the content-only teacher has the same weights."""
    tokens = inputs("rotary")
    tokens[1] = tokens[1][:, :1].expand(-1, 197, -1)
    absolute = make("absolute")
    absolute.load_state_dict(teacher.state_dict())
    torch.testing.assert_close(teacher(*tokens), absolute(*tokens), rtol=0, atol=1e-5)

    branches = [absolute.image_tokens(tokens[0], 0), absolute.content(*tokens[1:])]
    branches[1] = branches[1] + absolute.backbone.pos_embed_1
    for stage in absolute.backbone.blocks:
        for fusion in stage.fusion:
            fusion.attn.wk.bias = None
        branches = stage(branches)
    pairs = zip(branches, absolute.backbone.norm, absolute.backbone.head, strict=True)
    heads = [head(norm(x)[:, 0]) for x, norm, head in pairs]
    expected = F.normalize((heads[0] + heads[1]) / 2, dim=1)
    torch.testing.assert_close(absolute(*tokens), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_published_tokens_are_added_as_they_are():
    model = make("published")
    image, tokens = inputs("published")
    embedding = model(image, tokens)
    model.backbone.pos_embed_1 += 1  # instead of the tokens
    torch.testing.assert_close(model(image, tokens - 1), embedding, rtol=0, atol=1e-5)


def test_the_teacher_takes_any_size_of_image_with_the_same_tokens(teacher: CrossViTTeacher):
    with torch.no_grad():
        embedding = teacher(*inputs("rotary", size=120))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_tokens_of_another_kind_are_refused(teacher: CrossViTTeacher):
    with pytest.raises(InputError, match="'rotary' got points"):
        teacher(*inputs("published"))
    published = make("published")
    with pytest.raises(InputError, match="'published' got points"):
        published(*inputs("rotary"))


def test_configurations_are_checked():
    with pytest.raises(InputError, match="images only"):
        CrossViTRetrieval(CrossViTConfig(spatial="rotary"))
    with pytest.raises(InputError, match="one of"):
        CrossViTTeacher(CrossViTConfig(spatial="learned"))
    with pytest.raises(InputError, match="'edge': CrossViT sees one of"):
        CrossViTRetrieval(CrossViTConfig(sees="edge"))
    with pytest.raises(InputError, match="multiple of 60"):
        CrossViTRetrieval(CrossViTConfig(image_size=224))
    assert CrossViTTeacher().config.spatial == "rotary"


# --- edges --------------------------------------------------------------------------------------------------


def ramp(angle: float, size: int = 60) -> Tensor:
    """1×3×H×W image that grows in direction `angle`, radians from x to y."""
    y, x = torch.meshgrid(torch.arange(size) - 30.0, torch.arange(size) - 30.0, indexing="ij")
    return (math.cos(angle) * x + math.sin(angle) * y).expand(1, 3, -1, -1)


@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
def test_edges_have_the_doubled_angle_of_the_gradient(degrees: int):
    angle = math.radians(degrees)
    edges = oriented_edges(ramp(angle))[0, :, 5:-5, 5:-5]  # the border repeats pixels
    expected = torch.tensor([math.cos(2 * angle), math.sin(2 * angle), 1.0])[:, None, None]
    torch.testing.assert_close(edges / edges[2], expected.expand_as(edges), atol=1e-4, rtol=0)


def test_edges_do_not_know_gain_offset_and_negatives():
    image = images(2, 120)
    for other in (0.01 * image + 3, -image):
        torch.testing.assert_close(oriented_edges(other), oriented_edges(image), atol=1e-2, rtol=0)
    # A quarter of the picture in the shade: strengths are those relative to their surroundings.
    shade = torch.ones(120, 120)
    shade[:60, :60] = 0.3
    inside = (slice(None), slice(None), slice(20, 40), slice(20, 40))
    shaded, lit = oriented_edges(shade * image)[inside], oriented_edges(image)[inside]
    assert 0.6 < shaded[:, 2].mean() / lit[:, 2].mean() < 1


def test_nothing_has_no_edges():
    edges = oriented_edges(torch.full((1, 3, 60, 60), 0.7))
    assert edges.abs().max() == 0


def test_a_network_that_sees_edges_does_not_see_colours():
    image = images(2, 60)
    edges, colours = (make(None, sees=sees) for sees in ("edges", "colours"))
    assert torch.allclose(edges(2 * image - 1), edges(image), atol=1e-3)
    assert not torch.allclose(colours(2 * image - 1), colours(image), atol=1e-3)
    teacher = make("rotary", sees="edges")
    first, *tokens = inputs("rotary", size=60)
    assert torch.allclose(teacher(2 * first - 1, *tokens), teacher(first, *tokens), atol=1e-3)


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spatial", [None, "rotary", "absolute", "published"])
def test_every_parameter_gets_a_gradient(spatial: str | None):
    model = make(spatial)
    embedding = model(*inputs(spatial, size=120))
    (embedding * images(2, 32).flatten(1)[:, :512]).sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-8]
    assert silent == []


@pytest.mark.parametrize("spatial", [None, "rotary"])
def test_bfloat16_on_a_cpu(spatial: str | None):
    model = make(spatial)  # in evaluation mode: statistics of a batch of two would magnify the rounding
    tokens = inputs(spatial, size=120)
    exact = model(*tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*tokens)
    assert rounded.dtype == torch.float32
    assert F.cosine_similarity(exact, rounded).min() > 0.999
    (rounded @ rounded.T).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_stochastic_depth_acts_in_training_only():
    model = make(None, drop_path=0.5)
    image = images(2, 60)
    with torch.no_grad():
        assert torch.equal(model(image), model(image))
        model.train()
        assert not torch.allclose(model(image), model(image), atol=1e-4)


@pytest.mark.parametrize("spatial", [None, "rotary"])
def test_imagenet_weights_fill_all_but_the_heads(timm_network: nn.Module, spatial: str | None):
    model = make(spatial)
    own = ("backbone.head.", "content.", "neck.")
    kept = {n: t.clone() for n, t in model.state_dict().items() if n.startswith(own)}
    load_imagenet(model, timm_network.state_dict())
    for name, tensor in model.state_dict().items():
        expected = kept[name] if name in kept else timm_network.state_dict()[name.removeprefix("backbone.")]
        assert torch.equal(tensor, expected), name


def test_other_weights_are_refused(timm_network: nn.Module):
    state = timm_network.state_dict()
    del state["pos_embed_0"]
    with pytest.raises(InputError, match=r"1 tensors .* \['pos_embed_0'\]"):
        load_imagenet(make(None), state)
