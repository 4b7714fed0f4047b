from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hloc_ext.models.dual_softmax import Assignment, Descriptors, assign
from hloc_ext.models.kd_mamba import PairFeatures, window_positions
from hloc_ext.training.matching_losses import (
    Positives,
    assignment_distillation,
    feature_distillation,
    fine_loss,
    focal_dual_softmax,
    matchability_loss,
    nearest_cells,
    positive_cells,
    window_weights,
)
from tests.models.networks import texture, tiny_network


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- positives


def test_nearest_cells():
    points = [[0.0, 0.0], [3.9, 4.1], [27.0, 9.0], [29.0, 0.0], [0.0, 12.1], [-4.1, 0.0], [8.0, 8.0]]
    valid = torch.tensor([[True, True, True, True, True, True, False]])
    # A grid of 2 rows and 4 columns: centres at x = 0, 8, 16, 24 and y = 0, 8.
    assert nearest_cells(torch.tensor([points]), valid, (2, 4)).tolist() == [[0, 4, 7, -1, -1, -1, -1]]


def test_positives_of_a_translation_by_one_cell():
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    centres = 8.0 * torch.stack([columns, rows], -1).reshape(1, 12, 2)
    points1, points0 = centres + torch.tensor([9.0, 1.0]), centres - torch.tensor([9.0, 1.0])
    everywhere = torch.ones(1, 12, dtype=torch.bool)
    positives = positive_cells(points1, everywhere, points0, everywhere, (3, 4), (3, 4))
    assert positives.batch.tolist() == [0] * 9
    assert positives.index0.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert positives.index1.tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    nowhere = torch.zeros_like(everywhere)
    assert len(positive_cells(points1, everywhere, points0, nowhere, (3, 4), (3, 4)).batch) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_positives_are_mutual_nearest_cells(seed):
    grid0, grid1 = (3, 4), (5, 2)
    generator = torch.Generator().manual_seed(seed)
    points1 = 40 * torch.rand(2, 12, 2, generator=generator) - 4
    points0 = 34 * torch.rand(2, 10, 2, generator=generator) - 4
    valid1 = torch.rand(2, 12, generator=generator) < 0.8
    valid0 = torch.rand(2, 10, generator=generator) < 0.8
    positives = positive_cells(points1, valid1, points0, valid0, grid0, grid1)
    expected = []
    for b in range(2):
        for i in range(12):
            for j in range(10):
                near1 = (points1[b, i] - 8 * torch.tensor([j % 2, j // 2])).abs().max() < 4
                near0 = (points0[b, j] - 8 * torch.tensor([i % 4, i // 4])).abs().max() < 4
                if near0 and near1 and valid1[b, i] and valid0[b, j]:
                    expected.append((b, i, j))
    assert list(zip(*(t.tolist() for t in positives), strict=True)) == expected


# --- coarse supervision


def assignment_of(similarity: Tensor, log_matchability: float = 0.0) -> Assignment:
    """The dual softmax of similarities, B×N0×N1."""
    matchability = (
        torch.full_like(similarity[:, :, 0], log_matchability),
        similarity[:, 0] * 0 + log_matchability,
    )
    return Assignment(similarity, similarity.logsumexp(2), similarity.logsumexp(1), *matchability)


DIAGONAL = Positives(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0, 1]))


def test_focal_dual_softmax_by_hand():
    # Both softmaxes of the first cell give 3/4, those of the second 3/4 and 3/4 too.
    similarity = torch.log(torch.tensor([[[3.0, 1.0], [1.0, 3.0]]]))
    p = 0.75 * 0.75
    assert focal_dual_softmax(assignment_of(similarity), DIAGONAL, 0.0).item() == pytest.approx(-math.log(p))
    focal = focal_dual_softmax(assignment_of(similarity), DIAGONAL, 2.0).item()
    assert focal == pytest.approx(-((1 - p) ** 2) * math.log(p))
    p = 0.75 * 0.75 * 0.5 * 0.5
    halved = assignment_of(similarity, math.log(0.5))
    assert focal_dual_softmax(halved, DIAGONAL, 1.0).item() == pytest.approx(-(1 - p) * math.log(p))
    # Two positives of different probability: the mean.
    similarity = torch.log(torch.tensor([[[1.0, 1e-9], [1e-9, 1.0]], [[3.0, 1.0], [1.0, 3.0]]]))
    positives = Positives(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([0, 0]))
    loss = focal_dual_softmax(assignment_of(similarity), positives, 0.0)
    assert loss.item() == pytest.approx(-math.log(0.75), rel=1e-5)


def test_focal_dual_softmax_without_positives_is_zero_where_tokens_are_missing_too():
    vectors = F.normalize(normal(1, 4, 3, dtype=torch.float32), dim=-1).requires_grad_()
    log_matchability = torch.tensor([[0.0, -1.0, -1.0, float("-inf")]])
    descriptors = Descriptors(vectors, log_matchability)
    none = torch.zeros(0, dtype=torch.long)
    assignment = assign(descriptors, descriptors, torch.tensor(5.0))
    loss = focal_dual_softmax(assignment, Positives(none, none, none), 1.0)
    loss.backward()
    assert loss.item() == 0 and vectors.grad is not None and (vectors.grad == 0).all()


def test_gradient_of_the_dual_softmax():
    positives = Positives(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]), torch.tensor([1, 3, 0]))
    similarity = normal(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: focal_dual_softmax(assignment_of(s), positives, 0.0), similarity
    )


def test_the_focal_factor_weighs_the_gradient_of_cross_entropy():
    """(1 - P)^gamma is a weight: what P would gain from its own gradient is left out."""
    similarity = normal(1, 2, 2).requires_grad_()
    one = Positives(*(t[:1] for t in DIAGONAL))
    p = assignment_of(similarity).log_probability(*one).exp().item()
    cross_entropy, focal = (
        torch.autograd.grad(focal_dual_softmax(assignment_of(similarity), one, gamma), similarity)[0]
        for gamma in (0.0, 2.0)
    )
    torch.testing.assert_close(focal, (1 - p) ** 2 * cross_entropy)


def test_matchability_is_binary_cross_entropy():
    logits, valid = 3 * normal(2, 50), torch.rand(2, 50, generator=torch.Generator().manual_seed(1)) < 0.5
    expected = F.binary_cross_entropy_with_logits(logits, valid.double())
    torch.testing.assert_close(matchability_loss(F.logsigmoid(logits), valid), expected)
    by_hand = -(math.log(0.9) + math.log(1 - 0.3)) / 2
    log_m = torch.log(torch.tensor([[0.9, 0.3]]))
    assert matchability_loss(log_m, torch.tensor([[True, False]])).item() == pytest.approx(by_hand)
    assert torch.autograd.gradcheck(
        lambda x: matchability_loss(F.logsigmoid(x), valid[:, :9]), logits[:, :9].clone().requires_grad_()
    )


def test_matchability_of_certain_cells_is_finite():
    logits = torch.tensor([[200.0, -200.0, 200.0, -200.0]], requires_grad=True)
    loss = matchability_loss(F.logsigmoid(logits), torch.tensor([[True, False, False, True]]))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


# --- fine supervision


@settings(max_examples=50, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_window_weights_have_the_offset_as_expectation(x, y):
    weights = window_weights(torch.tensor([[x, y]], dtype=torch.float64))
    assert weights.shape == (1, 49) and (weights >= 0).all() and (weights > 0).sum() <= 4
    assert weights.sum().item() == pytest.approx(1)
    expectation = weights[0] @ window_positions(weights.device).double()
    torch.testing.assert_close(expectation, torch.tensor([x, y], dtype=torch.float64))


def test_window_weights_by_hand():
    weights = window_weights(torch.tensor([[0.25, -1.0], [3.5, 0.0], [9.0, 0.0]]))
    assert weights[0].nonzero()[:, 0].tolist() == [17, 18]
    assert weights[0, 17:19].tolist() == [0.75, 0.25]
    assert weights.sum(1).tolist() == [1.0, 0.5, 0.0]  # beyond the window


class WindowOf:
    """Stands for the matcher; it has log probabilities, and keeps the cells that it is asked for."""

    def __init__(self, log_p: Tensor) -> None:
        self.log_p = log_p
        self.target_index = torch.empty(0)

    def fine_log_probability(
        self, source: Any, target: Any, batch: Tensor, index: Tensor, target_index: Tensor
    ) -> Tensor:
        self.target_index = target_index
        return self.log_p


def features(grid: tuple[int, int]) -> PairFeatures:
    cells = grid[0] * grid[1]
    coarse = Descriptors(torch.zeros(1, cells, 1), torch.zeros(1, cells))
    return PairFeatures(
        torch.zeros(1, cells, 1), coarse, torch.zeros(1, 1, 4 * grid[0], 4 * grid[1]), None, grid
    )


def loss_of(model: Any, points: list[list[float]], cells1: list[int], shift: list[list[int]]) -> Tensor:
    """Loss on a grid of 3×4 cells; positive k is cell k of image 0, with its point in image 1."""
    count = len(cells1)
    positives = Positives(
        torch.zeros(count, dtype=torch.long), torch.arange(count), torch.tensor(cells1, dtype=torch.long)
    )
    all_points = torch.zeros(1, 12, 2)
    all_points[0, :count] = torch.tensor(points).reshape(-1, 2)
    grid = features((3, 4))
    return fine_loss(model, grid, grid, positives, all_points, torch.tensor(shift).reshape(-1, 2))


def test_fine_loss_by_hand():
    log_p = normal(2, 49, dtype=torch.float32).log_softmax(1)
    # Cell 5 has its centre at (8, 8): offsets (1, -2) and (0.5, 0) pixels, (0.5, -1) and (0.25, 0) positions.
    loss = loss_of(WindowOf(log_p), [[9.0, 6.0], [8.5, 8.0]], [5, 5], [[0, 0], [0, 0]])
    expected = -(0.5 * log_p[0, 17] + 0.5 * log_p[0, 18] + 0.75 * log_p[1, 24] + 0.25 * log_p[1, 25]) / 2
    torch.testing.assert_close(loss, expected)


def test_fine_loss_is_least_where_the_window_equals_the_target():
    target = window_weights(torch.tensor([[0.5, -0.75]]))
    best = loss_of(WindowOf(target.clamp_min(1e-9).log()), [[9.0, 6.5]], [5], [[0, 0]])
    entropy = -(target[target > 0] * target[target > 0].log()).sum()
    torch.testing.assert_close(best, entropy)
    other = window_weights(torch.tensor([[0.4, -0.75]])).clamp_min(1e-9).log()
    assert loss_of(WindowOf(other), [[9.0, 6.5]], [5], [[0, 0]]) > best


@pytest.mark.parametrize(
    ("point", "cell", "shift", "moved"),
    [
        ((8.0, 8.0), 5, (0, 0), 5),
        ((11.0, 8.0), 5, (1, 0), 6),  # the centre of cell 6 is at (16, 8), 5 pixels away
        ((11.0, 8.0), 5, (-1, 0), 5),  # 11 pixels away: beyond the window
        ((8.0, 10.0), 5, (0, 1), 9),
        ((11.0, 11.0), 5, (1, 1), 10),
        ((2.0, 2.0), 0, (1, 1), 5),
        ((-3.0, 0.0), 0, (-1, 0), 0),  # there is no such cell
        ((27.0, 16.0), 11, (1, 0), 11),
    ],
)
def test_matched_cells_move_while_their_position_stays_in_the_window(point, cell, shift, moved):
    model = WindowOf(normal(1, 49, dtype=torch.float32).log_softmax(1))
    loss = loss_of(model, [list(point)], [cell], [list(shift)])
    assert model.target_index.tolist() == [moved]
    offset = (torch.tensor([point]) - 8 * torch.tensor([[moved % 4, moved // 4]])) / 2
    torch.testing.assert_close(loss, -(window_weights(offset) * model.log_p).sum())


def test_positions_beyond_the_image_do_not_count():
    """A point between the last fine position and the border of the image has no four neighbours."""
    model = tiny_network()
    pair = model.describe(model.encode(texture(0, 24, 32)), model.encode(texture(1, 24, 32)))
    positives = Positives(torch.tensor([0, 0]), torch.tensor([5, 11]), torch.tensor([5, 11]))
    points = torch.full((1, 12, 2), 9.0)
    points[0, 11] = torch.tensor([31.0, 17.0])  # the last position is at x = 30
    shift = torch.zeros(2, 2, dtype=torch.long)
    with_border = fine_loss(model, *pair, positives, points, shift)
    first = Positives(*(t[:1] for t in positives))
    torch.testing.assert_close(with_border, fine_loss(model, *pair, first, points, shift[:1]))
    last = Positives(*(t[1:] for t in positives))
    assert fine_loss(model, *pair, last, points, shift[:1]).item() == 0
    points[0, 11, 0] = 30.0
    assert fine_loss(model, *pair, last, points, shift[:1]).item() > 0


def test_fine_loss_without_positives_is_zero():
    model = tiny_network()
    pair = model.describe(model.encode(texture(0, 24, 32)), model.encode(texture(1, 24, 32)))
    none = torch.zeros(0, dtype=torch.long)
    loss = fine_loss(
        model, *pair, Positives(none, none, none), torch.zeros(1, 12, 2), torch.zeros(0, 2).long()
    )
    loss.backward()
    assert loss.item() == 0


def test_gradient_of_the_fine_loss():
    def loss(logits: Tensor) -> Tensor:
        return loss_of(WindowOf(logits.log_softmax(1)), [[9.0, 6.0], [8.5, 8.25]], [5, 5], [[0, 0], [1, 0]])

    assert torch.autograd.gradcheck(loss, normal(2, 49).requires_grad_())


# --- distillation


def test_feature_distillation():
    features = normal(2, 5, 8, dtype=torch.float32)
    assert feature_distillation(features, features).item() == pytest.approx(0, abs=1e-6)
    assert feature_distillation(3 * features, features).item() == pytest.approx(0, abs=1e-6)  # normalised
    assert feature_distillation(-features, features).item() == pytest.approx(2)
    student, teacher = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [0.0, 1.0]])
    assert feature_distillation(student, teacher).item() == pytest.approx((1 + 1 - math.sqrt(0.5)) / 2)
    # The loss is in float32, hence the coarse steps.
    student = normal(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: feature_distillation(x, normal(3, 4, seed=1)), student, eps=1e-2, atol=1e-3, rtol=1e-2
    )


def test_assignment_distillation_by_hand():
    student = assignment_of(torch.log(torch.tensor([[[9.0, 1.0], [1.0, 9.0]]])))
    teacher = assignment_of(torch.zeros(1, 2, 2))
    some, none = torch.tensor([[True, False]]), torch.zeros(1, 2, dtype=torch.bool)
    divergence = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)  # of each row and each column
    assert assignment_distillation(student, teacher, some, some).item() == pytest.approx(divergence)
    assert assignment_distillation(student, teacher, some, none).item() == pytest.approx(divergence / 2)
    assert assignment_distillation(student, teacher, none, none).item() == 0
    assert assignment_distillation(teacher, teacher, some, some).item() == pytest.approx(0, abs=1e-7)


def test_assignment_distillation_is_the_divergence_of_rows_and_columns():
    student, teacher = normal(2, 3, 5), normal(2, 3, 5, seed=1)
    cells0 = torch.tensor([[True, False, True], [False, True, True]])
    cells1 = torch.tensor([[True, False, True, True, True], [False, True, False, False, True]])
    terms = []
    for s, t, cells in ((student, teacher, cells0), (student.mT, teacher.mT, cells1)):
        log_s, log_t = s.log_softmax(2)[cells], t.log_softmax(2)[cells]
        terms.append(F.kl_div(log_s, log_t, log_target=True, reduction="sum") / cells.sum())
    actual = assignment_distillation(assignment_of(student), assignment_of(teacher), cells0, cells1)
    torch.testing.assert_close(actual, (terms[0] + terms[1]) / 2)


def test_gradient_of_assignment_distillation():
    teacher = assignment_of(normal(2, 3, 5, seed=1))
    everywhere = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    student = normal(2, 3, 5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: assignment_distillation(assignment_of(s), teacher, *everywhere), student
    )
    # It is least, and flat, at the teacher.
    same = teacher.similarity.clone().requires_grad_()
    loss = assignment_distillation(assignment_of(same), teacher, *everywhere)
    torch.testing.assert_close(torch.autograd.grad(loss, same)[0], torch.zeros(2, 3, 5, dtype=torch.float64))
