from __future__ import annotations

import importlib.util
import math

import pytest
import torch
from torch import nn

from hloc_ext.errors import InputError
from hloc_ext.models.cross_view import (
    SAMPLE4GEO_BACKBONE,
    EncoderConfig,
    NormPerView,
    PolarPooling,
    SharedEncoder,
    StudentPair,
    polar_grid,
    sector_weights,
    turned,
)

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
SIZES = {"ground_size": (32, 128), "aerial_size": (64, 64)}


def shared(backbone: str = "convnext_atto", **options: object) -> SharedEncoder:
    torch.manual_seed(0)
    return SharedEncoder(EncoderConfig(backbone=backbone, **SIZES, **options)).eval()


def polar(**options: object) -> SharedEncoder:
    return shared(pooling="polar", embedding_dim=64, sectors=8, stride=16, **options)


def test_teacher_has_the_size_of_sample4geo():
    with torch.device("meta"):
        network = SharedEncoder()
    assert network.config.backbone == SAMPLE4GEO_BACKBONE and network.embedding_dim == 1024
    assert sum(p.numel() for p in network.parameters()) == 87_566_464  # published: 87.57 M
    assert network.levels == ([4, 8, 16, 32], [128, 256, 512, 1024])


@torch.no_grad()
def test_embeddings_have_unit_length_at_any_size():
    network = shared()
    for view, size in (("ground", (32, 128)), ("ground", (48, 100)), ("aerial", (64, 64))):
        found = network(torch.randn(2, 3, *size), view)
        assert found.shape == (2, network.embedding_dim) == (2, 320)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


@torch.no_grad()
def test_both_views_have_one_set_of_weights():
    network, image = shared(), torch.randn(2, 3, 64, 64)
    assert torch.equal(network(image, "ground"), network(image, "aerial"))


@torch.no_grad()
def test_map_beside_the_embedding():
    network, image = shared(), torch.randn(2, 3, 32, 128)
    embedding, features = network.forward_with_map(image, "ground")
    torch.testing.assert_close(embedding, network(image, "ground"))
    assert features.shape == (2, network.map_channels(), 2, 8) and network.map_channels() == 160
    with pytest.raises(InputError, match="none of 5"):
        network.forward_with_map(image, "ground", 5)


def test_views_have_their_own_statistics():
    """With common ones a network would be evaluated with others than it was trained with."""
    network = shared("resnet10t").train()
    assert not any(
        isinstance(child, nn.BatchNorm2d)
        for module in network.modules()
        if not isinstance(module, nn.ModuleDict)
        for child in module.children()
    )
    norm = next(module for module in network.modules() if isinstance(module, NormPerView))
    before = {view: layer.running_mean.clone() for view, layer in norm.norms.items()}
    network(3 + torch.randn(2, 3, 64, 64), "aerial")
    assert torch.equal(norm.norms["ground"].running_mean, before["ground"])
    assert not torch.equal(norm.norms["aerial"].running_mean, before["aerial"])
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == len(
        [m for m in StudentPair({"aerial": network.config}).modules() if isinstance(m, nn.Conv2d)]
    )


def test_students_are_independent_and_trainable_apart():
    config = EncoderConfig("fastervit_nano", 32, **SIZES)
    pair = StudentPair({"aerial": config, "ground": config})
    assert pair.views == ("ground", "aerial") and pair.embedding_dim == 32
    pair(torch.randn(2, 3, 32, 128), "ground").sum().backward()
    assert all(p.grad is None for p in pair.encoder("aerial").parameters())
    one = StudentPair({"ground": config})
    assert one.views == ("ground",)
    with pytest.raises(InputError, match=r"\('ground',\), not 'aerial'"):
        one(torch.randn(1, 3, 64, 64), "aerial")
    with pytest.raises(InputError, match="differ in size"):
        StudentPair({"aerial": config, "ground": EncoderConfig("fastervit_nano", 16, **SIZES)})
    with pytest.raises(InputError, match="expected one or both"):
        StudentPair({})


@torch.no_grad()
def test_head_goes_straight_to_the_embedding():
    """Published: 512 → 1000 classes of ImageNet → 1024, an affine map of rank 512 with 1.5 M parameters."""
    with torch.device("meta"):
        pair = StudentPair({"aerial": EncoderConfig("fastervit_0", 1024)})
    projection = pair.encoder("aerial").projection
    assert isinstance(projection, nn.Linear) and projection.weight.shape == (1024, 512)
    assert sum(p.numel() for p in pair.parameters()) == 30_891_840 + 1024 * 513


def test_sectors_average_columns():
    weights = sector_weights(8, 4)
    assert torch.equal(weights, torch.eye(4).repeat_interleave(2, 0) / 2)
    uneven = sector_weights(6, 4)
    torch.testing.assert_close(uneven.sum(0), torch.ones(4))
    torch.testing.assert_close(uneven[:, 0], torch.tensor([2 / 3, 1 / 3, 0, 0, 0, 0]))
    half = sector_weights(6, 8, 90.0)  # 90° of 360°: the two sectors beside north
    assert half.sum(0).tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert half[:3, 3].tolist() == pytest.approx([1 / 3] * 3)
    assert sector_weights(5, 8, 70.0).sum(0).tolist() == pytest.approx([0, 0, 0, 1, 1, 0, 0, 0])


def test_rays_look_where_the_columns_of_a_panorama_look():
    grid = polar_grid(2, 4)[0]  # centres of sectors at -135°, -45°, 45°, 135°
    root = math.sqrt(0.5)
    expected = torch.tensor([[-root, root], [-root, -root], [root, -root], [root, root]])  # south-west first
    torch.testing.assert_close(grid[1], 0.75 * expected)
    torch.testing.assert_close(grid[0], 0.25 * expected)


@torch.no_grad()
def test_polar_pooling_turns_with_the_scene():
    """The tile turned by a quarter, the panorama rolled by a quarter: their embeddings turn alike."""
    pooling = PolarPooling(3, 16, 8, {"ground": 2, "aerial": 4})
    ground, aerial = torch.randn(1, 3, 2, 16), torch.randn(1, 3, 8, 8)
    for quarters in range(4):
        rolled = pooling(ground.roll(-quarters * 4, 3), "ground", 360.0)
        rotated = pooling(torch.rot90(aerial, quarters, (2, 3)), "aerial", 360.0)
        for found, view, image in ((rolled, "ground", ground), (rotated, "aerial", aerial)):
            expected = pooling(image, view, 360.0).view(1, 2, 8).roll(-quarters * 2, 2).flatten(1)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_turned_embeddings_are_those_of_a_turned_camera():
    pooling = PolarPooling(3, 16, 8, {"ground": 2, "aerial": 4})
    ground = torch.randn(2, 3, 2, 16)
    embedding = pooling(ground, "ground", 360.0)
    turns = turned(embedding, 8)
    assert turns.shape == (8, 2, 16)
    for k in range(8):
        # A camera that looks along azimuth 45° k sees what lies there at its centre column.
        seen = pooling(ground.roll(-2 * k, 3), "ground", 360.0)
        torch.testing.assert_close(turned(seen, 8)[k], embedding)


@torch.no_grad()
def test_part_of_a_panorama_fills_its_sectors_only():
    network = polar()
    assert network.field_of_view(torch.empty(1, 3, 32, 128), "ground") == 360
    assert network.field_of_view(torch.empty(1, 3, 64, 256), "ground") == 360
    assert network.field_of_view(torch.empty(1, 3, 32, 32), "ground") == 90
    assert network.field_of_view(torch.empty(1, 3, 32, 32), "aerial") == 360
    found = network(torch.randn(1, 3, 32, 32), "ground").view(8, 8)  # channels × sectors
    assert (found[:, [0, 1, 2, 5, 6, 7]] == 0).all() and (found[:, 3:5] != 0).any()


@torch.no_grad()
def test_polar_encoder_has_no_last_stage():
    network = polar()
    assert network(torch.randn(2, 3, 64, 64), "aerial").shape == (2, 64)
    assert sum(p.numel() for p in network.parameters()) < 0.6 * sum(p.numel() for p in shared().parameters())


@torch.no_grad()
def test_student_with_polar_pooling_has_three_stages():
    student = shared("fastervit_nano", pooling="polar", embedding_dim=64, sectors=8, stride=16)
    assert student.levels == ([4, 8, 16], [12, 24, 48]) and len(student.backbone.stages) == 3
    assert student(torch.randn(2, 3, 32, 128), "ground").shape == (2, 64)


@torch.no_grad()
def test_only_the_middle_of_a_tile_is_looked_at():
    network, tile = shared(aerial_crop=0.5), torch.randn(1, 3, 64, 64)
    other = torch.randn(1, 3, 64, 64)
    other[:, :, 16:48, 16:48] = tile[:, :, 16:48, 16:48]
    found = network(tile, "aerial")
    assert torch.equal(found, network(other, "aerial"))
    assert torch.equal(found, shared()(tile[:, :, 16:48, 16:48], "aerial"))
    assert not torch.equal(found, network(tile.roll(1, 3), "aerial"))


@torch.no_grad()
def test_unrolled_tile_shows_directions_where_the_panorama_does():
    network = polar(unroll=True, aerial_crop=0.75)
    directions = torch.arange(64.0) - 31.5
    tile = torch.stack([directions.expand(64, 64), directions[:, None].expand(64, 64), torch.ones(64, 64)])[
        None
    ]
    east, south, _ = network._around_centre(tile)[0]
    assert east.shape == (32, 128)
    for row, column in ((0, 64), (31, 64), (5, 96), (16, 3), (20, 40)):
        azimuth = math.radians(((column + 0.5) / 128 - 0.5) * 360)
        radius = 0.75 * 32 * (1 - (row + 0.5) / 32)
        assert float(east[row, column]) == pytest.approx(radius * math.sin(azimuth), abs=1e-3)
        assert float(south[row, column]) == pytest.approx(-radius * math.cos(azimuth), abs=1e-3)


@torch.no_grad()
def test_unrolled_tiles_turn_with_the_scene():
    network, tile = polar(unroll=True), torch.randn(1, 3, 64, 64)
    unrolled = network._around_centre(tile)
    for quarters in range(4):
        turned_tile = network._around_centre(torch.rot90(tile, quarters, (2, 3)))
        torch.testing.assert_close(turned_tile, unrolled.roll(-32 * quarters, 3), atol=1e-4, rtol=1e-4)
    assert network(tile, "aerial").shape == (1, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "convnext_of_nobody"}, "timm cannot build"),
        ({"pooling": "max"}, "expected one of"),
        ({"aerial_crop": 0.0}, "share of the tile"),
        ({"pooling": "polar"}, "multiple of its 16 sectors"),
        ({"pooling": "polar", "embedding_dim": 24}, "multiple of its 16 sectors"),
        ({"backbone": "fastervit_nano", "pooling": "polar", "embedding_dim": 32, "stride": 5}, "of stride 5"),
    ],
)
def test_configurations_that_cannot_be_built(options, message):
    with pytest.raises(InputError, match=message):
        SharedEncoder(EncoderConfig(**options))
