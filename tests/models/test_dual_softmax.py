from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hloc_ext.models.dual_softmax import Descriptors, Matches, assign, mutual_matches


def make_descriptors(
    seed: int, tokens: int, batch: int = 1, dim: int = 6, missing: float = 0.0
) -> Descriptors:
    generator = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(batch, tokens, dim, generator=generator), dim=-1)
    log_matchability = F.logsigmoid(2 * torch.randn(batch, tokens, generator=generator))
    absent = torch.rand(batch, tokens, generator=generator) < missing
    return Descriptors(vectors, log_matchability.masked_fill(absent, float("-inf")))


def literal_probability(first: Descriptors, second: Descriptors, scale: Tensor) -> Tensor:
    """The formula of the module, in float64: B×N0×N1."""
    a, b, m0, m1 = (
        t.double() for t in (first.vectors, second.vectors, *(d[1].exp() for d in (first, second)))
    )
    exponential = (
        torch.exp(scale.double() * a @ b.transpose(1, 2)) * (m0 > 0).unsqueeze(2) * (m1 > 0).unsqueeze(1)
    )
    rows = exponential / exponential.sum(2, keepdim=True).clamp_min(1e-300)
    columns = exponential / exponential.sum(1, keepdim=True).clamp_min(1e-300)
    return m0.unsqueeze(2) * m1.unsqueeze(1) * rows * columns


def literal_matches(probability: Tensor, min_probability: float) -> list[tuple[int, int, int]]:
    found = []
    for b, p in enumerate(probability):
        for i in range(p.shape[0]):
            for j in range(p.shape[1]):
                if p[i, j] > min_probability and p[i, j] == p[i].max() and p[i, j] == p[:, j].max():
                    found.append((b, i, j))
    return found


def as_tuples(matches: Matches) -> list[tuple[int, int, int]]:
    return list(zip(*(t.tolist() for t in matches[:3]), strict=True))


@settings(max_examples=30, deadline=None)
@given(
    tokens0=st.integers(1, 30),
    tokens1=st.integers(1, 30),
    block_elements=st.integers(1, 500),
    scale=st.floats(1, 30),
    missing=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 1000),
)
def test_equals_a_dense_implementation(tokens0, tokens1, block_elements, scale, missing, seed):
    first = make_descriptors(seed, tokens0, 2, missing=missing)
    second = make_descriptors(seed + 5000, tokens1, 2, missing=missing)
    temperature = torch.tensor(scale)
    matches = mutual_matches(first, second, temperature, 0.01, block_elements)
    probability = literal_probability(first, second, temperature)
    assert as_tuples(matches) == literal_matches(probability, 0.01)
    expected = probability[matches.batch, matches.index0, matches.index1]
    torch.testing.assert_close(matches.log_probability.exp().double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block_elements", [1, 37, 1000, 90 * 70 - 1, 90 * 70, 2**25])
def test_the_block_size_does_not_change_the_result(block_elements):
    first, second = make_descriptors(0, 90, 2, missing=0.1), make_descriptors(1, 70, 2)
    whole = mutual_matches(first, second, torch.tensor(20.0), 0.0)
    blocks = mutual_matches(first, second, torch.tensor(20.0), 0.0, block_elements)
    assert len(whole.batch) > 40 and as_tuples(blocks) == as_tuples(whole)
    torch.testing.assert_close(blocks.log_probability, whole.log_probability, rtol=1e-5, atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Number of elements of the largest tensor that is made inside the block."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_memory_is_bounded_by_the_block_size():
    first, second = make_descriptors(0, 1000), make_descriptors(1, 1000)
    with LargestTensor() as largest:
        mutual_matches(first, second, torch.tensor(20.0), 0.0, block_elements=20_000)
    assert largest.elements <= 20_000


def test_exchanged_images_give_exchanged_matches():
    first, second = make_descriptors(0, 60, missing=0.1), make_descriptors(1, 45, missing=0.1)
    scale = torch.tensor(25.0)
    forward, backward = mutual_matches(first, second, scale, 0.0), mutual_matches(second, first, scale, 0.0)
    assert as_tuples(forward) == sorted((b, j, i) for b, i, j in as_tuples(backward))
    order = torch.argsort(backward.index1)
    torch.testing.assert_close(forward.log_probability, backward.log_probability[order])


def test_equal_descriptors_match_themselves_with_the_probability_of_the_formula():
    vectors = torch.eye(4)[None]
    descriptors = Descriptors(vectors, torch.log(torch.tensor([[0.9, 0.8, 1.0, 0.5]])))
    matches = mutual_matches(descriptors, descriptors, torch.tensor(5.0), 0.0)
    assert as_tuples(matches) == [(0, i, i) for i in range(4)]
    share = torch.exp(torch.tensor(5.0)) / (torch.exp(torch.tensor(5.0)) + 3)
    expected = (share * torch.tensor([0.9, 0.8, 1.0, 0.5])) ** 2
    torch.testing.assert_close(matches.log_probability.exp(), expected)
    few = mutual_matches(descriptors, descriptors, torch.tensor(5.0), float(expected[0]) - 1e-3)
    assert few.index0.tolist() == [0, 2]


@pytest.mark.parametrize("missing0, missing1", [(1.1, 0.0), (0.0, 1.1), (1.1, 1.1)])
def test_no_tokens_give_no_matches(missing0, missing1):
    first, second = make_descriptors(0, 5, missing=missing0), make_descriptors(1, 7, missing=missing1)
    matches = mutual_matches(first, second, torch.tensor(20.0), 0.0)
    assert [len(t) for t in matches] == [0, 0, 0, 0]
    assert matches.index0.dtype == torch.long and matches.log_probability.dtype == torch.float32


def test_all_equal_descriptors_give_one_match():
    descriptors = Descriptors(F.normalize(torch.ones(1, 6, 3), dim=-1), torch.zeros(1, 6))
    matches = mutual_matches(descriptors, descriptors, torch.tensor(20.0), 0.0)
    assert as_tuples(matches) == [(0, 0, 0)]
    assert matches.log_probability.exp().item() == pytest.approx(1 / 36)


def test_assign_is_the_logarithm_of_the_formula():
    first, second = make_descriptors(0, 12, 2, missing=0.2), make_descriptors(1, 9, 2, missing=0.2)
    scale = torch.tensor(12.0)
    assignment = assign(first, second, scale)
    expected = literal_probability(first, second, scale)
    everything = torch.meshgrid(torch.arange(2), torch.arange(12), torch.arange(9), indexing="ij")
    log_p = assignment.log_probability(*everything)
    torch.testing.assert_close(log_p.exp().double(), expected, rtol=1e-4, atol=1e-7)
    exists = first.log_matchability.isfinite()[:, :, None] & second.log_matchability.isfinite()[:, None]
    assert (log_p.isfinite() == exists).all()
    rows = torch.exp(assignment.similarity - assignment.rows[:, :, None])
    columns = torch.exp(assignment.similarity - assignment.columns[:, None])
    torch.testing.assert_close(rows.sum(2)[exists.any(2)], torch.ones(int(exists.any(2).sum())))
    torch.testing.assert_close(columns.sum(1)[exists.any(1)], torch.ones(int(exists.any(1).sum())))
    assert (rows[~exists & exists.any(2, keepdim=True)] == 0).all()


def test_assign_is_in_float32_under_autocast():
    first, second = make_descriptors(0, 12), make_descriptors(1, 9)
    expected = assign(first, second, torch.tensor(30.0))
    with torch.autocast("cpu", torch.bfloat16):
        actual = assign(first, second, torch.tensor(30.0))
    assert all(tensor.dtype == torch.float32 for tensor in actual)
    torch.testing.assert_close(tuple(actual), tuple(expected))
