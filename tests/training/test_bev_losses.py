"""Losses of drawn class maps: against loops, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch

from hloc_ext.models.bev_geometry import BUILDING, IGNORE
from hloc_ext.training.bev_losses import (
    balanced_weights,
    masked_cross_entropy,
    masked_dice,
    without_hidden,
)


@pytest.fixture
def example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 5, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 3, (2, 5, 5), generator=generator)  # class 3 does not occur
    label[torch.rand(2, 5, 5, generator=generator) < 0.3] = IGNORE
    return logits, label


def cells(label: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(index) for index in (label != IGNORE).nonzero().tolist()]


def test_cross_entropy_is_that_of_a_loop(example: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, label = example
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    total = norm = 0.0
    for b, i, j in cells(label):
        k = int(label[b, i, j])
        total += float(weights[k] * -torch.log_softmax(logits[b, :, i, j], 0)[k])
        norm += float(weights[k])
    assert float(masked_cross_entropy(logits, label, weights)) == pytest.approx(total / norm)


def test_dice_is_that_of_a_loop(example: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, label = example
    found = []
    for k in range(3):
        shared = drawn = true = 0.0
        for b, i, j in cells(label):
            p, g = float(torch.softmax(logits[b, :, i, j], 0)[k]), float(label[b, i, j] == k)
            shared, drawn, true = shared + p * g, drawn + p, true + g
        found.append(1 - 2 * shared / (drawn + true))
    assert float(masked_dice(logits, label)) == pytest.approx(sum(found) / 3)


def test_gradients(example: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, label = example
    logits = logits[:, :, :3, :3].clone().requires_grad_()
    for loss in (masked_dice, masked_cross_entropy):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, label[:, :3, :3]), (logits,))


def test_cells_that_do_not_count_have_no_gradient(example: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, label = example
    logits.requires_grad_()
    (masked_dice(logits, label) + masked_cross_entropy(logits, label)).backward()
    assert logits.grad is not None
    touched = logits.grad.abs().sum(1) > 0
    torch.testing.assert_close(touched, label != IGNORE)


def test_a_perfect_map_and_an_empty_one() -> None:
    label = torch.tensor([[[0, 1], [2, IGNORE]]])
    logits = 40 * torch.nn.functional.one_hot(label.clamp(max=3), 4).permute(0, 3, 1, 2).float()
    assert float(masked_dice(logits, label)) == pytest.approx(0, abs=1e-5)
    assert float(masked_cross_entropy(logits, label)) == pytest.approx(0, abs=1e-5)
    nothing = torch.full_like(label, IGNORE)
    logits.requires_grad_()
    loss = masked_dice(logits, nothing) + masked_cross_entropy(logits, nothing)
    loss.backward()
    assert float(loss.detach()) == 0 and logits.grad is not None and not logits.grad.any()


def test_background_does_not_dominate() -> None:
    """Published: the mean over all classes of each picture, most of which it does not have."""
    label = torch.zeros(1, 20, 20, dtype=torch.long)
    label[0, 0, :4] = 1
    blind = torch.zeros(1, 6, 20, 20)
    blind[:, 0] = 20
    assert float(masked_dice(blind, label)) == pytest.approx(0.5, abs=0.01)  # class 1 is missed
    weights = balanced_weights(torch.tensor([0.99, 0.01, 0, 0, 0, 0]), 1.0)
    missed = masked_cross_entropy(blind, label, weights)
    assert float(missed) == pytest.approx(10, abs=0.3)  # half of 20 nats, though 1 % of the cells


def test_hidden_cells_are_left_out() -> None:
    label = torch.zeros(2, 20, 20, dtype=torch.long)
    label[:, 4:6] = BUILDING
    masked = without_hidden(label, torch.tensor([[0.0, 0.0], [0.0, -0.45]]))
    assert (masked[0, :3] == IGNORE).all() and (masked[0, 6:] == label[0, 6:]).all()
    assert (masked[1, :4] == 0).all() and (masked[1, 7:] == IGNORE).all()  # the camera is behind it
    assert (without_hidden(label, torch.zeros(2, 2), fov=90)[:, 12:] == IGNORE).all()


def test_balanced_weights() -> None:
    frequency = torch.tensor([0.5, 0.25, 0.25, 0.0])
    torch.testing.assert_close(balanced_weights(frequency, 0.0), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    weights = balanced_weights(frequency, 1.0)
    torch.testing.assert_close((weights * frequency)[:3], torch.full((3,), 1 / 3))
    half = balanced_weights(frequency, 0.5)
    assert float(half[1] / half[0]) == pytest.approx(math.sqrt(2))
    assert float((half * frequency).sum()) == pytest.approx(1)
