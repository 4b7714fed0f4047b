from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from hloc_ext.errors import InputError
from hloc_ext.models.fastervit import (
    STRIDES,
    VARIANTS,
    FasterViT,
    FasterViTConfig,
    Windows,
    _carriers_by_window,
    _carriers_of_map,
)

SMALL = FasterViTConfig(4, (4, 8, 16, 32), (1, 1, 2, 1), (2, 4), position_hidden=8, drop_path=0.0)


def small(**changes: object) -> FasterViT:
    torch.manual_seed(0)
    return FasterViT(dataclasses.replace(SMALL, **changes)).eval()


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_fastervit_0_has_the_published_size():
    with torch.device("meta"):
        network = FasterViT(FasterViTConfig(num_classes=1000))
    assert parameters(network) == 31_404_840  # published: 31.4 M
    stages = [parameters(stage) for stage in network.stages]
    downsamples = [parameters(layer) for layer in network.downsamples]
    assert [round((s + d) / 1e6, 3) for s, d in zip(stages, [*downsamples, 0], strict=True)] == [
        0.222,
        1.182,
        12.319,
        17.129,
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_describe_panoramas_without_squashing_them(name):
    config = VARIANTS[name]
    with torch.device("meta"):
        last, maps = FasterViT(config).eval().forward_intermediates(torch.empty(1, 3, 112, 616))
    assert last.shape == (1, config.dims[3], 4, 20)
    assert [m.shape[1:] for m in maps] == [
        (dim, -(-112 // stride), -(-616 // stride)) for dim, stride in zip(config.dims, STRIDES, strict=True)
    ]


def test_pooled_features_are_the_mean_of_the_map():
    network, image = small(), torch.randn(2, 3, 64, 96)
    features = network.forward_features(image)
    assert features.shape == (2, 32, 2, 3) and network.num_features == 32
    torch.testing.assert_close(network(image), features.mean((2, 3)))


def test_without_the_last_stage():
    network, image = small(stages=3), torch.randn(1, 3, 64, 96)
    last, maps = network.forward_intermediates(image)
    assert last.shape == (1, 16, 4, 6) and len(maps) == 3 and network.num_features == 16
    with pytest.raises(InputError, match="3 or 4 stages, not 2"):
        small(stages=2)


def test_windows_are_equal_and_inverted():
    windows = Windows(14, 77, 7)
    assert (windows.rows, windows.columns, windows.side, windows.padding) == (2, 11, (7, 7), (0, 0))
    assert windows.padding_mask(torch.device("cpu")) is None
    uneven = Windows(2, 11, 7)  # not 1 × 2 windows of 7×7
    assert (uneven.rows, uneven.columns, uneven.side, uneven.padding) == (1, 2, (2, 6), (0, 1))
    x = torch.arange(2 * 3 * 2 * 11.0).view(2, 3, 2, 11)
    tokens = uneven.split(x)
    assert tokens.shape == (2, 2, 12, 3)
    assert torch.equal(uneven.join(tokens), x)
    assert torch.equal(tokens[0, 1, 6], x[0, :, 1, 6])  # second window, second row, first column
    mask = uneven.padding_mask(torch.device("cpu"))
    assert mask is not None and mask[0].all() and (~mask[1]).nonzero().ravel().tolist() == [5, 11]


def test_every_window_has_cells_of_the_map():
    for height in range(1, 60):
        for window in (2, 3, 7):
            mask = Windows(height, 5, window).padding_mask(torch.device("cpu"))
            assert mask is None or mask.any(1).all()


def test_carriers_belong_to_their_window():
    windows = Windows(14, 21, 7)
    carriers = torch.arange(4 * 6.0).view(1, 4, 6, 1)
    by_window = _carriers_by_window(carriers, windows)
    assert by_window[0, :, :, 0].tolist() == [
        [0, 1, 6, 7],
        [2, 3, 8, 9],
        [4, 5, 10, 11],
        [12, 13, 18, 19],
        [14, 15, 20, 21],
        [16, 17, 22, 23],
    ]
    assert torch.equal(_carriers_of_map(by_window, windows), carriers)


def test_bias_is_that_of_relative_positions():
    attention = small().stages[3].blocks[0].block.attention
    bias = attention.bias((2, 3), 6)
    assert bias.shape == (4, 6, 6)
    for i in range(6):
        for j in range(6):
            for k in range(6):
                for m in range(6):
                    same = (i // 3 - j // 3, i % 3 - j % 3) == (k // 3 - m // 3, k % 3 - m % 3)
                    if same:
                        assert torch.equal(bias[:, i, j], bias[:, k, m])
    # Cells 5 and 1 are (1, 2) and (0, 1): one row and one column apart, of the six that count as 8.
    step = math.log2(8 / 6 + 1) / math.log2(8)
    expected = 16 * torch.sigmoid(attention.position(torch.tensor([step, step])))
    torch.testing.assert_close(bias[:, 5, 1], expected)


def test_cells_that_fill_windows_change_nothing():
    """Attention of an uneven map is that of its own cells."""
    stage = small().stages[3]
    x = torch.randn(1, 32, 2, 11)
    first = stage(x)[..., :6]
    alone = stage(x[..., :6])
    torch.testing.assert_close(first, alone)
    second = stage(torch.cat([torch.randn(1, 32, 2, 6), x[..., 6:]], 3))[..., 6:]
    torch.testing.assert_close(second, stage(x)[..., 6:])


def test_carriers_connect_windows():
    image = torch.randn(1, 3, 112, 224, requires_grad=True)
    x = small().stages[2](torch.nn.functional.avg_pool2d(image, 16).repeat(1, 6, 1, 1)[:, :16])
    x[0, :, :, 0].sum().backward()
    assert image.grad is not None and (image.grad[..., -16:].abs() > 0).any()


def test_attention_is_that_of_its_formula():
    attention = small().stages[3].blocks[0].block.attention
    x, bias = torch.randn(2, 3, 5, 32), torch.randn(3, 4, 5, 5)
    query, key, value = attention.qkv(x).view(2, 3, 5, 3, 4, 8).permute(3, 0, 1, 4, 2, 5)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(2, 3).flatten(3)
    torch.testing.assert_close(attention(x, bias), attention.proj(expected))


def test_drop_path_keeps_the_expectation():
    network = small(drop_path=0.5).train()
    drop = network.stages[3].blocks[0].block.drop_path
    torch.manual_seed(1)
    values = drop(torch.ones(20_000, 1))
    assert set(values.unique().tolist()) == {0.0, 2.0} and values.mean() == pytest.approx(1, abs=0.03)
    assert torch.equal(drop.eval()(torch.ones(3, 1)), torch.ones(3, 1))


def test_heads_must_divide_channels():
    with pytest.raises(InputError, match="do not divide"):
        FasterViT(dataclasses.replace(SMALL, heads=(3, 4)))
