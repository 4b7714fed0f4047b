"""The layers that draw bird's-eye views do what their formulas say."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from hloc_ext.errors import InputError
from hloc_ext.models.bev import BEVConfig, BEVHead, PolarAttention, SSAConfig, SSANetwork
from hloc_ext.models.cross_view import EncoderConfig


def test_attention_is_a_weighted_mean_over_rows() -> None:
    torch.manual_seed(0)
    layer = PolarAttention(8, 5, 2)
    features = torch.randn(2, 8, 6, 7)
    found = layer(features)
    row = (torch.arange(6) + 0.5) / 6 * 2 - 1
    phases = [row * math.pi / 2 * 2**k for k in range(4)]
    place = torch.stack([p.sin() for p in phases] + [p.cos() for p in phases])
    for batch, group, distance, column in [(0, 0, 0, 0), (1, 1, 3, 6), (0, 1, 4, 2)]:
        matrix = layer.scores.weight[group * 5 + distance, :, 0, 0]
        inputs = torch.cat([features[batch, :, :, column], place])
        weights = torch.softmax(matrix @ inputs + layer.scores.bias[group * 5 + distance], 0)
        channels = slice(4 * group, 4 * group + 4)
        expected = features[batch, channels, :, column] @ weights + layer.code[channels, distance, 0]
        torch.testing.assert_close(found[batch, channels, distance, column], expected)
    # The published layer has a weight for each channel of each distance: 96 · 512 · 512.
    assert sum(p.numel() for p in PolarAttention(512, 96, 4).scores.parameters()) < 0.01 * 96 * 512 * 512
    with pytest.raises(InputError, match="groups"):
        PolarAttention(10, 4, 3)


def test_a_head_draws_at_its_size_and_learns_from_every_map() -> None:
    torch.manual_seed(0)
    config = BEVConfig(width=16, groups=2, distances=8, cells=6, blocks=1, up_widths=(8, 8), classes=6)
    head = BEVHead((12, 20), config)
    maps = [torch.randn(2, 12, 8, 44, requires_grad=True), torch.randn(2, 20, 4, 22, requires_grad=True)]
    logits = head(maps, torch.tensor([[0.0, 0.0], [0.2, 0.1]]))
    assert logits.shape == (2, 6, config.size, config.size) == (2, 6, 24, 24)
    logits.square().sum().backward()
    assert all(m.grad is not None and (m.grad.abs().amax((0, 1, 2)) > 0).all() for m in maps)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@pytest.fixture(scope="module")
def network() -> SSANetwork:
    torch.manual_seed(0)
    encoder = EncoderConfig("convnext_atto", ground_size=(64, 352), aerial_size=(64, 64))
    bev = BEVConfig(width=16, groups=2, distances=8, cells=8, blocks=1, up_widths=(8,))
    return SSANetwork(SSAConfig(encoder, bev)).eval()


@torch.no_grad()
def test_the_network_describes_both_views_and_draws(network: SSANetwork) -> None:
    ground, aerial = torch.randn(2, 3, 64, 352), torch.randn(2, 3, 64, 64)
    embedding, logits = network.describe_and_draw(ground, torch.tensor([[0.0, 0.0], [0.2, -0.1]]))
    torch.testing.assert_close(embedding, network(ground, "ground"))
    torch.testing.assert_close(embedding, network.encoder(ground, "ground"))
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    assert network(aerial, "aerial").shape == embedding.shape == (2, network.embedding_dim)
    assert logits.shape == (2, 6, 16, 16)
    torch.testing.assert_close(logits[:1], network.bev(ground[:1]))
    assert (logits[1:] - network.bev(ground[1:])).abs().max() > 1e-3  # the offset counts
    photo = ground[..., 132:220]
    assert network.encoder.field_of_view(photo, "ground") == 90
    fov_known = network.head(network.encoder.maps(photo, "ground")[1][1:3], fov=90.0)
    torch.testing.assert_close(network.bev(photo), fov_known)


@torch.no_grad()
def test_a_part_of_the_tile_is_drawn(network: SSANetwork) -> None:
    """A BEV of half a tile is what a network for tiles of half the size draws."""
    half = SSANetwork(
        dataclasses.replace(network.config, bev=dataclasses.replace(network.config.bev, extent=0.5))
    )
    half.load_state_dict(network.state_dict())
    ground, offset = torch.randn(1, 3, 64, 352), torch.tensor([[0.1, -0.05]])
    torch.testing.assert_close(half.eval().bev(ground, offset), network.bev(ground, 2 * offset))
    assert half.config.bev.label_size == 32
    tile = torch.arange(32)[None, :] + 100 * torch.arange(32)[:, None]
    torch.testing.assert_close(half.config.bev.middle(tile), tile[8:24, 8:24])
    with pytest.raises(InputError, match="extent"):
        BEVConfig(extent=0.7)


def test_strides_that_the_backbone_has_not(network: SSANetwork) -> None:
    with pytest.raises(InputError, match="strides"):
        SSANetwork(SSAConfig(network.config.encoder, network.config.bev, strides=(2, 16)))
