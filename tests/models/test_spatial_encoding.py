"""Tests of spatial tokens: content, rotary attention, and what the published formula loses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hloc_ext.models.spatial_encoding import (
    POSITION_WAVES,
    RotaryPosition,
    SpatialContent,
    Waves,
    attend,
    fourier_features,
    rotate,
)

TOKENS = 7


def spatial_tokens(
    batch: int, tokens: int, seed: int = 0, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Random points, rays, log depths, states (all four, camera first) and rotations."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(batch, tokens, 3, generator=generator, dtype=dtype)
    rays = F.normalize(torch.randn(batch, tokens, 3, generator=generator, dtype=dtype), dim=2)
    log_depths = torch.randn(batch, tokens, generator=generator, dtype=dtype)
    state = torch.arange(3, 3 + tokens).remainder(4).expand(batch, -1)
    return [points, rays, log_depths, state, torch.randn(batch, 6, generator=generator, dtype=dtype)]


def published_formula(vector: Tensor) -> Tensor:
    """The published encoding of a 7-vector (position, quaternion): 192 numbers."""
    low, high = vector.min(), vector.max()
    angle = math.pi * (2 * (vector - low) / (high - low) - 1)
    once = torch.cat([angle.sin(), angle.cos()])
    return torch.cat([once.repeat(13), once[:10]])


# --- Fourier features and content ---------------------------------------------------------------------------


def test_fourier_features_are_sines_and_cosines_of_wavelengths_in_geometric_series():
    x = torch.tensor([[0.3, -1.7]])
    waves = [8.0, 4.0, 2.0]
    phases = [2 * math.pi * v / w for v in (0.3, -1.7) for w in waves]
    expected = [math.sin(p) for p in phases] + [math.cos(p) for p in phases]
    torch.testing.assert_close(fourier_features(x, Waves(8.0, 2.0, 3)), torch.tensor([expected]))


@pytest.fixture(scope="module")
def content() -> SpatialContent:
    torch.manual_seed(0)
    return SpatialContent(16)


def test_depth_counts_only_where_structure_is_known(content: SpatialContent):
    points, rays, log_depths, state, rotation = spatial_tokens(2, TOKENS)
    difference = content(points, rays, log_depths + 1, state, rotation) - content(
        points, rays, log_depths, state, rotation
    )
    assert torch.equal(difference.abs().amax(2) > 1e-3, state == 1)


def test_the_rotation_enters_the_camera_and_nothing_else(content: SpatialContent):
    tokens = spatial_tokens(2, TOKENS)
    before = content(*tokens)
    after = content(*tokens[:4], tokens[4] + 1)
    torch.testing.assert_close(after[:, 1:], before[:, 1:])
    torch.testing.assert_close(
        after[:, 0] - before[:, 0], content.rotation.weight.sum(1).expand(2, -1), rtol=1e-4, atol=1e-5
    )


def test_states_have_a_vector_each(content: SpatialContent):
    points, rays, log_depths, _, rotation = spatial_tokens(1, TOKENS)
    none, sky = (
        content(points, rays, log_depths, torch.full((1, TOKENS), state), rotation) for state in (0, 2)
    )
    difference = (content.state.weight[2] - content.state.weight[0]).expand(1, TOKENS, -1)
    torch.testing.assert_close(sky - none, difference, rtol=1e-4, atol=1e-5)


def test_gradients_of_the_content():
    torch.manual_seed(0)
    content = SpatialContent(4).double()
    points, rays, log_depths, state, rotation = spatial_tokens(1, 4, dtype=torch.float64)
    inputs = tuple(t.requires_grad_() for t in (points, rays, log_depths, rotation))
    assert torch.autograd.gradcheck(lambda p, r, d, m: content(p, r, d, state, m), inputs)


# --- rotary attention ---------------------------------------------------------------------------------------


def heads(queries: int = TOKENS, channels: int = 64, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(2, 3, TOKENS, channels, generator=generator) for _ in range(3))
    return query[:, :, :queries], key, value


def test_rotation_is_that_of_complex_numbers():
    points = spatial_tokens(2, TOKENS)[0]
    x = heads()[0]
    wavelengths = [16 * (0.05 / 16) ** (k / 9) for k in range(10)]
    phases = torch.stack([2 * math.pi * points[..., axis] / w for axis in range(3) for w in wavelengths], -1)
    phases = F.pad(phases, (0, 2))  # 32 pairs: 10 for each axis, 2 that are not turned
    turned = torch.complex(x[..., :32], x[..., 32:]) * torch.polar(torch.ones(()), phases).unsqueeze(1)
    expected = torch.cat([turned.real, turned.imag], -1)
    torch.testing.assert_close(rotate(x, RotaryPosition(64)(points)), expected, rtol=1e-4, atol=1e-4)


def test_scores_depend_on_relative_positions_only():
    points = spatial_tokens(2, TOKENS)[0].double()
    query, key, _ = (t.double() for t in heads())
    rotary = RotaryPosition(64)

    def scores(at: Tensor) -> Tensor:
        turns = rotary(at)
        return rotate(query, turns) @ rotate(key, turns).transpose(2, 3)

    shift = torch.tensor([3.7, -2.2, 0.9], dtype=torch.float64)
    torch.testing.assert_close(scores(points + shift), scores(points), rtol=0, atol=1e-9)
    moved = points.clone()
    moved[:, 2] += shift
    changed = (scores(moved) - scores(points)).abs().amax((0, 1)) > 1e-3  # of which pairs of tokens
    row, column = torch.meshgrid(torch.arange(TOKENS), torch.arange(TOKENS), indexing="ij")
    assert torch.equal(changed, (row == 2) ^ (column == 2))


def test_attention_is_that_of_the_formula():
    query, key, value = heads(queries=2)
    turns = RotaryPosition(64)(spatial_tokens(2, TOKENS)[0])
    weights = (rotate(query, turns[:, :, :2]) @ rotate(key, turns).transpose(2, 3) / 8).softmax(3)
    expected = (weights @ value).transpose(1, 2).reshape(2, 2, -1)
    torch.testing.assert_close(attend(query, key, value, turns), expected, rtol=1e-4, atol=1e-5)
    weights = (query @ key.transpose(2, 3) / 8).softmax(3)
    expected = (weights @ value).transpose(1, 2).reshape(2, 2, -1)
    torch.testing.assert_close(attend(query, key, value), expected, rtol=1e-4, atol=1e-5)


def test_attention_in_bfloat16_is_that_in_single_precision():
    turns = RotaryPosition(64)(spatial_tokens(2, TOKENS)[0])
    exact = attend(*heads(), turns)
    rounded = attend(*(t.bfloat16() for t in heads()), turns)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.05)


def test_gradients_of_rotary_attention():
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(torch.randn(1, 2, 3, 6, generator=generator).double().requires_grad_() for _ in range(3))
    points = (0.1 * torch.randn(1, 3, 3, generator=generator)).double().requires_grad_()
    rotary = RotaryPosition(6)
    assert torch.autograd.gradcheck(lambda q, k, v, p: attend(q, k, v, rotary(p)), (*inputs, points))


# --- what the published formula loses -----------------------------------------------------------------------


def test_the_published_formula_loses_where_a_point_is_and_ours_does_not():
    """Two points, one ten times as far from the origin as the other, of cameras that look the same way."""
    quaternion = torch.tensor([0.9, 0.1, -0.3, 0.3])
    near, far = torch.tensor([120.0, 40.0, -80.0]), torch.tensor([1200.0, 400.0, -800.0])
    encoded = [published_formula(torch.cat([point, quaternion])) for point in (near, far)]
    assert (encoded[0] - encoded[1]).abs().max() < 0.03

    scale = 1 / 500  # scene units per model unit
    features = [fourier_features(scale * point, POSITION_WAVES) for point in (near, far)]
    assert (features[0] - features[1]).abs().max() > 1

    # Offset and scale of all seven numbers are lost altogether.
    vector = torch.tensor([0.3, -1.2, 2.0, 0.9, 0.1, -0.3, 0.3])
    torch.testing.assert_close(
        published_formula(7 * vector + 3), published_formula(vector), rtol=0, atol=1e-5
    )


def test_the_published_formula_cannot_tell_the_largest_coordinate_from_the_smallest():
    encoded = published_formula(torch.tensor([5.0, -5.0, 1.0, 0.0, 0.0, 0.0, 1.0]))
    assert encoded.shape == (192,)
    torch.testing.assert_close(
        encoded[0::14][:13], encoded[1::14][:13], rtol=0, atol=1e-5
    )  # sines, all copies
    torch.testing.assert_close(encoded[7::14][:13], encoded[8::14][:13], rtol=0, atol=1e-5)  # cosines


def test_features_of_places_are_alike_where_the_places_are_near():
    """1/40 of a scene unit can be told apart, and nothing farther away looks nearer."""
    places = torch.linspace(0, 5, 201).unsqueeze(1)
    features = F.normalize(fourier_features(places, POSITION_WAVES), dim=1)
    similarity = (features @ features.T)[0]
    assert similarity[1] < 0.9
    assert similarity[1] > similarity[2:].max()
    assert similarity[200] < 0.5
