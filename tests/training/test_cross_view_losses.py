from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from hloc_ext.training.cross_view_losses import (
    LogitScale,
    crossed_cosine,
    dual_cosine,
    relational,
    same_tile,
    symmetric_info_nce,
)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def literal_info_nce(ground, aerial, scale, smoothing, ignored):
    """Equation by equation, one image at a time."""
    total = 0.0
    for queries, references, left_out in ((ground, aerial, ignored), (aerial, ground, ignored.T)):
        for i in range(len(queries)):
            kept = [j for j in range(len(references)) if j == i or not left_out[i, j]]
            scores = {j: float(scale * queries[i] @ references[j]) for j in kept}
            norm = math.log(sum(math.exp(value) for value in scores.values()))
            target = {j: smoothing / len(kept) + (1 - smoothing) * (j == i) for j in kept}
            total -= sum(target[j] * (scores[j] - norm) for j in kept) / len(queries) / 2
    return total


def test_info_nce_is_sample4geos():
    ground, aerial = unit(5, 4), unit(5, 4, seed=1)
    logits = 14.3 * ground @ aerial.T
    truth = torch.arange(5)
    expected = (
        cross_entropy(logits, truth, label_smoothing=0.1)
        + cross_entropy(logits.T, truth, label_smoothing=0.1)
    ) / 2
    torch.testing.assert_close(symmetric_info_nce(ground, aerial, 14.3, 0.1), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_semi_positives_are_no_negatives(smoothing):
    ground, aerial = unit(5, 4), unit(5, 4, seed=1)
    ignored = torch.zeros(5, 5, dtype=torch.bool)
    ignored[0, 3] = ignored[4, 1] = ignored[2, 2] = True  # the last is a pair, which always counts
    found = symmetric_info_nce(ground, aerial, 9.0, smoothing, ignored)
    assert float(found) == pytest.approx(literal_info_nce(ground, aerial, 9.0, smoothing, ignored))
    aerial.requires_grad_()
    only = symmetric_info_nce(ground, aerial, 9.0, smoothing, ~torch.eye(5, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(only, aerial)
    assert float(only.detach()) == pytest.approx(0) and (gradient == 0).all()


def test_gradients_of_info_nce():
    ground, aerial = unit(4, 3).requires_grad_(), unit(4, 3, seed=1).requires_grad_()
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    ignored[1, 2] = True
    assert torch.autograd.gradcheck(
        lambda g, a, s: symmetric_info_nce(g, a, s, 0.1, ignored), (ground, aerial, scale)
    )


def test_info_nce_is_not_rounded_by_autocast():
    ground, aerial = unit(6, 8).float(), unit(6, 8, seed=1).float()
    expected = symmetric_info_nce(ground, aerial, 50.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(symmetric_info_nce(ground, aerial, 50.0), expected)


def test_temperature_starts_as_published_and_stays_in_bounds():
    scale = LogitScale()
    assert float(scale.logarithm.detach()) == pytest.approx(2.659, abs=1e-3)
    with torch.no_grad():
        scale.logarithm.fill_(9.0)
    found = scale()
    assert float(found.detach()) == pytest.approx(100, rel=1e-5)
    found.backward()  # at the bound it can come back
    assert scale.logarithm.grad is not None and float(scale.logarithm.grad) == pytest.approx(100, rel=1e-5)


def test_dual_cosine_is_the_mean_of_the_views():
    student = {"ground": unit(3, 4), "aerial": unit(3, 4, seed=1)}
    teacher = {"ground": unit(3, 4, seed=2), "aerial": unit(3, 4, seed=3)}
    each = {
        view: sum(1 - float(student[view][i] @ teacher[view][i]) for i in range(3)) / 3 for view in student
    }
    assert float(dual_cosine(student, teacher)) == pytest.approx(sum(each.values()) / 2)
    one = {"aerial": student["aerial"]}
    assert float(dual_cosine(one, teacher)) == pytest.approx(each["aerial"])
    assert float(dual_cosine(teacher, teacher)) == pytest.approx(0, abs=1e-12)


def test_crossed_cosine_compares_with_the_other_view():
    student = {"ground": unit(3, 4), "aerial": unit(3, 4, seed=1)}
    teacher = {"ground": unit(3, 4, seed=2), "aerial": unit(3, 4, seed=3)}
    crossed = {"ground": teacher["aerial"], "aerial": teacher["ground"]}
    torch.testing.assert_close(crossed_cosine(student, teacher), dual_cosine(student, crossed))
    alone = crossed_cosine({"aerial": student["aerial"]}, teacher)
    torch.testing.assert_close(alone, dual_cosine({"aerial": student["aerial"]}, crossed))


def test_relational_compares_similarities_of_different_images():
    student = {"ground": unit(3, 4), "aerial": unit(3, 4, seed=1)}
    teacher = {"ground": unit(3, 5, seed=2), "aerial": unit(3, 5, seed=3)}
    own, other = torch.cat(list(student.values())), torch.cat(list(teacher.values()))
    terms = [float(own[i] @ own[j] - other[i] @ other[j]) ** 2 for i in range(6) for j in range(6) if i != j]
    assert float(relational(student, teacher)) == pytest.approx(sum(terms) / 30)
    turn = torch.linalg.qr(unit(4, 4, seed=5)).Q
    turned = {view: values @ turn for view, values in student.items()}
    assert float(relational(turned, student)) == pytest.approx(0, abs=1e-12)
    assert float(relational({"ground": student["ground"][:1]}, teacher)) == 0


@pytest.mark.parametrize("loss", [dual_cosine, crossed_cosine, relational])
def test_gradients_flow_to_the_student_alone(loss):
    student, teacher = unit(3, 4).requires_grad_(), unit(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: loss({"ground": s}, dict.fromkeys(("ground", "aerial"), teacher)), student
    )
    loss({"ground": student}, dict.fromkeys(("ground", "aerial"), teacher)).backward()
    assert teacher.grad is None and student.grad is not None


def test_tiles_that_show_the_same_place():
    tiles = torch.tensor([7, 8, 7, 9])
    semi = torch.tensor([[8, -1], [-1, -1], [-1, -1], [5, 7]])
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 1] = expected[0, 2] = expected[2, 0] = expected[3, 0] = expected[3, 2] = True
    assert torch.equal(same_tile(tiles, semi), expected)
    assert not same_tile(tiles[:1], semi[:1]).any()
    assert not same_tile(torch.arange(3), torch.empty(3, 0, dtype=torch.int64)).any()
