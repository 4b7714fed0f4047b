from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hloc_ext.training.retrieval_losses import (
    cosine_distillation,
    dual_distillation,
    nt_xent,
    pairwise_distances,
    relaxed_contrastive,
    spatial_contrastive,
)


def unit(n: int, dim: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    rows = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=1).to(dtype)


def random_weights(n: int, seed: int) -> Tensor:
    """A symmetric matrix of overlaps with positive, negative and grey pairs."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 3, (n, n), generator=generator)
    overlap = torch.rand(n, n, generator=generator, dtype=torch.float64).clamp_min(0.01)
    upper = torch.where(kind == 0, overlap, torch.where(kind == 1, 0.0, -1.0)).triu(1)
    return upper + upper.T + torch.eye(n, dtype=torch.float64)


# --- distances


def test_distances_are_exact_in_every_precision():
    rows = unit(6)
    expected = [[math.dist(a, b) for b in rows.tolist()] for a in rows.tolist()]
    torch.testing.assert_close(pairwise_distances(rows), torch.tensor(expected, dtype=torch.float64))
    close = torch.tensor([[1.0, 0.0], [1.0, 1e-5]])
    with torch.autocast("cpu", torch.bfloat16):
        assert pairwise_distances(close)[0, 1].item() == pytest.approx(1e-5, rel=1e-4)
        assert pairwise_distances(rows.bfloat16()).dtype == torch.float32


# --- spatial contrastive


def literal_contrastive(embeddings: Tensor, weights: Tensor, margin: float, balanced: bool) -> float:
    rows, matrix = embeddings.tolist(), weights.tolist()
    positive, negative = [], []
    for i in range(len(rows)):
        for j in range(len(rows)):
            w = matrix[i][j]
            if i == j or w == -1:
                continue
            d = math.dist(rows[i], rows[j])
            term = 0.5 * (w * d**2 + (1 - w) * max(0.0, margin - d) ** 2)
            (positive if w > 0 else negative).append(term)
    if not balanced:
        return sum(positive + negative) / max(1, len(positive + negative))
    return sum(sum(kind) / max(1, len(kind)) for kind in (positive, negative)) / 2


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000), st.sampled_from([0.5, 1.2]), st.booleans())
def test_spatial_contrastive_is_the_formula(n, seed, margin, balanced):
    embeddings, weights = unit(n, seed=seed), random_weights(n, seed)
    value = spatial_contrastive(embeddings, weights, margin, balanced)
    assert value.item() == pytest.approx(literal_contrastive(embeddings, weights, margin, balanced))


def test_spatial_contrastive_of_one_pair():
    embeddings = torch.tensor([[1.0, 0.0], [0.6, 0.8]])  # d² = 0.8
    for weight, margin, expected in (
        (1.0, 0.5, 0.4),
        (0.0, 0.5, 0.0),
        (0.0, 1.0, 0.5 * (1 - math.sqrt(0.8)) ** 2),
        (0.25, 1.0, 0.5 * (0.2 + 0.75 * (1 - math.sqrt(0.8)) ** 2)),
        (-1.0, 1.0, 0.0),
    ):
        weights = torch.tensor([[1.0, weight], [weight, 1.0]])
        assert spatial_contrastive(embeddings, weights, margin, balanced=False).item() == pytest.approx(
            expected, rel=1e-5
        )


def test_half_of_the_loss_is_of_pairs_that_overlap():
    """However few they are."""
    embeddings = unit(20)
    weights = torch.eye(20)
    weights[0, 1] = weights[1, 0] = 1.0
    distance = (embeddings[0] - embeddings[1]).norm()
    value = spatial_contrastive(embeddings, weights, margin=0.0)
    assert value.item() == pytest.approx(0.5 * 0.5 * distance.item() ** 2)


# --- NT-Xent


def literal_nt_xent(embeddings: Tensor, weights: Tensor, temperature: float) -> float:
    n, matrix = len(embeddings), weights.tolist()
    cosine = [[float(a @ b) for b in embeddings] for a in embeddings]
    losses = []
    for i in range(n):
        others = [k for k in range(n) if k != i and matrix[i][k] >= 0]
        positive = [k for k in others if matrix[i][k] > 0]
        if not positive:
            continue
        total = sum(math.exp(cosine[i][k] / temperature) for k in others)
        share = sum(matrix[i][k] for k in positive)
        losses.append(
            -sum(
                matrix[i][k] / share * math.log(math.exp(cosine[i][k] / temperature) / total)
                for k in positive
            )
        )
    return sum(losses) / max(1, len(losses))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000), st.sampled_from([0.1, 0.5]))
def test_nt_xent_is_the_formula(n, seed, temperature):
    embeddings, weights = unit(n, seed=seed), random_weights(n, seed)
    value = nt_xent(embeddings, weights, temperature)
    assert value.item() == pytest.approx(literal_nt_xent(embeddings, weights, temperature))


def test_nt_xent_of_two_views_is_cross_entropy_of_the_other_view():
    """Equation 1 of SimCLR, written with the cross entropy of PyTorch."""
    embeddings = unit(8)
    weights = torch.eye(8) + torch.eye(8)[[1, 0, 3, 2, 5, 4, 7, 6]]
    logits = (embeddings @ embeddings.T / 0.2).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(logits, torch.tensor([1, 0, 3, 2, 5, 4, 7, 6]))
    torch.testing.assert_close(nt_xent(embeddings, weights, 0.2), expected)


def test_nt_xent_is_not_rounded_by_mixed_precision():
    embeddings = unit(8, dtype=torch.float32)
    weights = torch.eye(8) + torch.eye(8)[[1, 0, 3, 2, 5, 4, 7, 6]]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = nt_xent(embeddings, weights)
    assert mixed.item() == nt_xent(embeddings, weights).item()


# --- distillation


def literal_relaxed(student: Tensor, teacher: Tensor, sigma: float, delta: float) -> float:
    s, t, n = student.tolist(), teacher.tolist(), len(student)
    total = 0.0
    for i in range(n):
        mean = sum(math.dist(s[i], s[k]) for k in range(n)) / n
        for j in range(n):
            if i == j:
                continue
            w = math.exp(-(math.dist(t[i], t[j]) ** 2) / sigma)
            d = math.dist(s[i], s[j]) / mean
            total += w * d**2 + (1 - w) * max(0.0, delta - d) ** 2
    return total / n


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000), st.sampled_from([0.3, 1.0]), st.sampled_from([0.7, 1.5]))
def test_relaxed_contrastive_is_the_formula(n, seed, sigma, delta):
    student, teacher = 3 * unit(n, 4, seed), unit(n, 6, seed + 1)
    value = relaxed_contrastive(student, teacher, sigma, delta)
    assert value.item() == pytest.approx(literal_relaxed(student, teacher, sigma, delta))


def test_relaxed_contrastive_does_not_depend_on_the_scale_of_the_student():
    student, teacher = unit(6, 4), unit(6, 8, 1)
    torch.testing.assert_close(
        relaxed_contrastive(student, teacher), relaxed_contrastive(7 * student, teacher)
    )


def test_relaxed_contrastive_teaches_the_relations_of_the_teacher():
    """From a random start the student's order of neighbours becomes the teacher's."""
    teacher = F.normalize(
        torch.tensor([[1.0, 0.0], [1.0, 0.2], [-0.3, 1.0], [-0.5, 1.0], [-1.0, -1.0]]), dim=1
    )
    nearest = (pairwise_distances(teacher) + 9 * torch.eye(5)).argmin(1)[:4]
    student = unit(5, 4, seed=3, dtype=torch.float32).requires_grad_()
    assert not torch.equal((pairwise_distances(student) + 9 * torch.eye(5)).argmin(1)[:4], nearest)
    optimizer = torch.optim.SGD([student], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        relaxed_contrastive(student, teacher, sigma=0.3).backward()
        optimizer.step()
    assert torch.equal((pairwise_distances(student) + 9 * torch.eye(5)).argmin(1)[:4], nearest)


def test_cosine_and_dual_distillation():
    student = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    teacher = torch.tensor([[[0.6, 0.8], [1.0, 0.0]]])
    assert cosine_distillation(student[:, 0], teacher[:, 0]).item() == pytest.approx(0.4)
    # Student 0 with teacher 1: 0; student 1 with teacher 0: 1 - 0.8.
    assert dual_distillation(student, teacher).item() == pytest.approx(0.1)


# --- gradients


def test_gradients():
    embeddings, teacher, weights = unit(5).requires_grad_(), unit(5, 7, 1), random_weights(5, 4)
    for balanced in (True, False):
        assert torch.autograd.gradcheck(
            lambda x, b=balanced: spatial_contrastive(x, weights, 0.9, b), [embeddings]
        )
    assert torch.autograd.gradcheck(lambda x: nt_xent(x, weights, 0.3), [embeddings])
    assert torch.autograd.gradcheck(lambda x: relaxed_contrastive(x, teacher, 0.7, 1.3), [embeddings])
    assert torch.autograd.gradcheck(lambda x: cosine_distillation(x, unit(5, 5, 2)), [embeddings])
    pairs = unit(8, 5, 3).reshape(4, 2, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dual_distillation(x, unit(8, 5, 4).reshape(4, 2, 5)), [pairs])


def test_no_gradient_flows_to_the_teacher():
    student, teacher = unit(4).requires_grad_(), unit(4, seed=1).requires_grad_()
    (relaxed_contrastive(student, teacher) + cosine_distillation(student, teacher)).backward()
    assert teacher.grad is None and student.grad.abs().max() > 0


@pytest.mark.parametrize("n", [0, 1, 3])
def test_equal_pictures_and_batches_without_pairs_have_finite_gradients(n):
    embeddings = torch.ones(n, 4).requires_grad_()
    grey = 2 * torch.eye(n) - 1
    for weights in (grey, torch.eye(n), torch.ones(n, n)):
        spatial_contrastive(embeddings, weights).backward()
        nt_xent(embeddings, weights).backward()
    relaxed_contrastive(embeddings, unit(n, dtype=torch.float32)).backward()
    cosine_distillation(embeddings, unit(n, 4, dtype=torch.float32)).backward()
    assert embeddings.grad.isfinite().all()
    assert spatial_contrastive(embeddings, grey) == nt_xent(embeddings, grey) == 0
