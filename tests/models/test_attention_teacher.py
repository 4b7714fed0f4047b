"""Tests of what is particular to the teacher; what it shares with KD-Mamba is in test_kd_mamba.py."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from hloc_ext.models.attention_teacher import (
    AttentionAtStride16,
    AttentionBlock,
    AttentionTeacher,
    TeacherConfig,
    sinusoidal_encoding,
)
from tests.models.networks import TINY_TEACHER


def test_the_teacher_has_at_least_8_million_parameters():
    assert sum(p.numel() for p in AttentionTeacher().parameters()) >= 8e6
    assert AttentionTeacher().config == TeacherConfig()


def test_sinusoidal_encoding():
    encoding = sinusoidal_encoding(torch.zeros(3, 8, 5, 7))
    assert encoding.shape == (1, 8, 5, 7)
    frequencies = [1.0, 0.1]  # wavelengths 2π and 2π·10 of the geometric series that would end at 2π·100
    row, column = 3, 6
    of_row = [math.sin(row * f) for f in frequencies] + [math.cos(row * f) for f in frequencies]
    of_column = [math.sin(column * f) for f in frequencies] + [math.cos(column * f) for f in frequencies]
    torch.testing.assert_close(encoding[0, :, row, column], torch.tensor(of_row + of_column))


def test_attention_is_that_of_the_formula():
    torch.manual_seed(0)
    block = AttentionBlock(12, 3)
    x, source = torch.randn(2, 5, 12), torch.randn(2, 6, 12)
    exists = torch.rand(2, 1, 1, 6) < 0.6
    exists[..., 0] = True
    attended = torch.zeros(2, 5, 12)
    query, key_value = block.query(block.norm(x)), block.key_value(block.norm(source))
    key, value = key_value[..., :12], key_value[..., 12:]
    for b in range(2):
        for h in range(3):
            head = slice(4 * h, 4 * h + 4)
            keep = exists[b, 0, 0]
            weights = (query[b, :, head] @ key[b, keep][:, head].T / 2).softmax(1)  # sqrt(4) channels
            attended[b, :, head] = weights @ value[b, keep][:, head]
    expected = x + block.output(attended)
    expected = expected + block.feed_forward(expected)
    torch.testing.assert_close(block(x, source, exists), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def layer() -> AttentionAtStride16:
    torch.manual_seed(0)
    return AttentionAtStride16(TINY_TEACHER).eval()


@pytest.mark.parametrize("size", [(1, 1), (6, 8), (5, 7)])
@torch.no_grad()
def test_exchanged_images_give_exchanged_tokens(layer, size):
    x = torch.randn(4, *size, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(4, *size, 1)
    order = [2, 3, 0, 1]
    torch.testing.assert_close(layer(x[order], mask), layer(x, mask)[order], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padding_does_not_change_tokens(layer):
    x = torch.randn(2, 5, 7, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 5, 7, 1)
    padding = (0, 0, 0, 4, 0, 3)
    padded = layer(F.pad(x, padding), F.pad(mask, padding))
    torch.testing.assert_close(padded[:, :5, :7], layer(x, mask), rtol=1e-4, atol=1e-5)
    assert (padded[:, 5:] == 0).all() and (padded[:, :, 7:] == 0).all()


def test_a_token_reads_all_tokens_of_both_images(layer):
    x = torch.randn(2, 6, 8, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.ones(2, 6, 8, 1)
    mask[1, :, 5:] = 0
    (gradient,) = torch.autograd.grad(layer(x * mask, mask)[0, 2, 3].sum(), x)
    assert (gradient.abs().amax(-1)[mask[..., 0] > 0] > 1e-9).all()
    assert (gradient[1, :, 5:] == 0).all()


def test_layers_count_pairs_of_self_and_cross_attention():
    layer = AttentionAtStride16(TeacherConfig(layers=3, attention_dim=32, heads=4))
    assert len(layer.blocks) == 6


@torch.no_grad()
def test_cross_attention_is_to_the_tokens_that_the_other_image_has(layer, monkeypatch):
    seen = []
    attend = AttentionBlock.forward

    def record(block, x, source, exists):
        seen.append((torch.equal(x, source), exists[:, 0, 0].sum(1).tolist()))
        return attend(block, x, source, exists)

    monkeypatch.setattr(AttentionBlock, "forward", record)
    mask = torch.ones(2, 6, 8, 1)
    mask[1, :, 5:] = 0
    layer(mask * torch.randn(2, 6, 8, 32, generator=torch.Generator().manual_seed(0)), mask)
    assert seen == [(True, [12, 9]), (False, [9, 12])]  # at stride 16: 3×4 and 3×3
