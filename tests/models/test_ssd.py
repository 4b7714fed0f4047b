from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hloc_ext.errors import InputError
from hloc_ext.models import ssd
from hloc_ext.models.ssd import has_triton_kernels, ssd_chunked, ssd_recurrence, ssd_scan, ssd_two_way


def make_inputs(
    length: int,
    seed: int = 0,
    batch: int = 2,
    groups: int = 2,
    heads: int = 4,
    channels: int = 3,
    state: int = 5,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> list[Tensor]:
    """x, dt, A, B, C; memories of the heads reach from one token to hundreds."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    A = -torch.logspace(1, -2, heads, dtype=torch.float64)
    dt = 0.3 * normal(batch, length, heads).abs()
    x, B, C = normal(batch, length, heads, channels), *(normal(batch, length, groups, state) for _ in "BC")
    return [t.to(device, dtype) for t in (x, dt, A, B, C)]


def literal(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """y_t = sum over s <= t of C_t·B_s exp(A sum of dt over s < r <= t) dt_s x_s, in loops."""
    y = torch.zeros_like(x)
    heads_of_group = x.shape[2] // B.shape[2]
    for b in range(x.shape[0]):
        for h in range(x.shape[2]):
            for t in range(x.shape[1]):
                for s in range(t + 1):
                    decay = torch.exp(A[h] * dt[b, s + 1 : t + 1, h].sum())
                    read = C[b, t, h // heads_of_group] @ B[b, s, h // heads_of_group]
                    y[b, t, h] += read * decay * dt[b, s, h] * x[b, s, h]
    return y


def test_recurrence_is_the_sum_over_all_earlier_tokens():
    inputs = make_inputs(9)
    torch.testing.assert_close(ssd_recurrence(*inputs), literal(*inputs), rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 90),
    chunk_size=st.integers(1, 40),
    groups=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 1000),
)
def test_chunked_equals_recurrence(length, chunk_size, groups, seed):
    inputs = make_inputs(length, seed, groups=groups)
    y = ssd_chunked(*inputs, chunk_size)
    assert y.dtype == torch.float64 and y.shape == inputs[0].shape
    torch.testing.assert_close(y, ssd_recurrence(*inputs), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("length", "chunk_size"),
    [
        (37, 8),  # the last chunk is not full
        (128, 1),  # as many chunks as are carried at once
        (300, 2),  # more: two levels, of which the last block is not full
        (4200, 1),  # more than 32·128 chunks: three levels
    ],
)
def test_chunked_and_its_gradients_equal_those_of_the_recurrence(length, chunk_size):
    inputs = [t.requires_grad_() for t in make_inputs(length, batch=1, heads=2, channels=2, state=2)]
    weights = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected, actual = ssd_recurrence(*inputs), ssd_chunked(*inputs, chunk_size)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    of_recurrence = torch.autograd.grad((weights * expected).sum(), inputs)
    of_chunks = torch.autograd.grad((weights * actual).sum(), inputs)
    for mine, reference in zip(of_chunks, of_recurrence, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-8, atol=1e-8)


def two_way_by_recurrence(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Scans of each group and direction by themselves."""
    results = []
    for direction in range(2):
        inputs = [t.transpose(1, 2) for t in (x[..., direction, :], dt[..., direction], B, C)]  # B×L×G×...
        inputs = [t.flip(1) for t in inputs] if direction else inputs
        y = ssd_recurrence(inputs[0], inputs[1], A[:, direction], inputs[2], inputs[3]).transpose(1, 2)
        results.append(y.flip(2) if direction else y)
    return torch.stack(results, 3)


def make_two_way(length: int, seed: int = 0, groups: int = 3) -> list[Tensor]:
    x, dt, A, B, C = make_inputs(length, seed, groups=groups, heads=2 * groups)
    heads = [t.unflatten(2, (groups, 2)).transpose(1, 2) for t in (x, dt)]
    return [*heads, A.unflatten(0, (groups, 2)), B.transpose(1, 2), C.transpose(1, 2)]


@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 90), chunk_size=st.integers(1, 40), seed=st.integers(0, 1000))
def test_two_ways_equal_two_recurrences(length, chunk_size, seed):
    inputs = make_two_way(length, seed)
    y = ssd_two_way(*inputs, chunk_size)
    assert y.shape == inputs[0].shape
    torch.testing.assert_close(y, two_way_by_recurrence(*inputs), rtol=1e-10, atol=1e-10)


def test_gradients_of_two_ways():
    inputs = [t.requires_grad_() for t in make_two_way(37)]
    weights = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.autograd.grad((weights * two_way_by_recurrence(*inputs)).sum(), inputs)
    actual = torch.autograd.grad((weights * ssd_two_way(*inputs, 8)).sum(), inputs)
    for mine, reference in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-9)


def test_two_ways_stay_finite_where_decays_leave_the_range_of_floats():
    x, dt, A, B, C = (t.float() for t in make_two_way(100))
    inputs = [t.requires_grad_() for t in (x, 1000 * dt, A, B, C)]
    y = ssd_two_way(*inputs)
    y.square().sum().backward()
    assert y.isfinite().all() and all(t.grad is not None and t.grad.isfinite().all() for t in inputs)


def test_two_ways_by_scans_forwards_only(monkeypatch):
    # What the kernels of mamba_ssm are given, with the recurrence in their place.
    monkeypatch.setattr(ssd, "has_triton_kernels", lambda: True)
    monkeypatch.setattr(ssd, "ssd_scan", lambda *inputs: ssd_recurrence(*inputs[:5]))
    inputs = make_two_way(17)
    torch.testing.assert_close(ssd_two_way(*inputs, backend="triton"), two_way_by_recurrence(*inputs))


def test_two_ways_refuse_an_unknown_backend():
    with pytest.raises(InputError, match='Unknown backend "numpy"'):
        ssd_two_way(*make_two_way(5), backend="numpy")


def test_gradcheck():
    inputs = make_inputs(7, batch=1, groups=1, heads=2, channels=2, state=2)
    assert torch.autograd.gradcheck(
        lambda *tensors: ssd_chunked(*tensors, chunk_size=3), [t.requires_grad_() for t in inputs]
    )


def test_the_chunk_size_does_not_change_the_result():
    inputs = make_inputs(100)
    results = [ssd_scan(*inputs, chunk_size=size, backend="torch") for size in (1, 7, 32, 100, 128)]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-11, atol=1e-11)


def test_tokens_whose_step_is_zero_change_nothing():
    x, dt, A, B, C = make_inputs(60)
    missing = torch.rand(60, generator=torch.Generator().manual_seed(2)) < 0.4
    dt[:, missing] = 0
    y = ssd_chunked(x, dt, A, B, C, 8)
    x, dt, B, C = (t[:, ~missing] for t in (x, dt, B, C))
    torch.testing.assert_close(y[:, ~missing], ssd_recurrence(x, dt, A, B, C), rtol=1e-11, atol=1e-11)


def test_no_token_sees_a_later_one():
    x, dt, A, B, C = make_inputs(50)
    y = ssd_chunked(x, dt, A, B, C, 8)
    later = [t.clone() for t in (x, dt, B, C)]
    for t in later:
        t[:, 31:] = 7.0
    changed = ssd_chunked(later[0], later[1], A, later[2], later[3], 8)
    torch.testing.assert_close(changed[:, :31], y[:, :31], rtol=1e-12, atol=1e-12)
    assert not torch.isclose(changed[:, 31:], y[:, 31:]).all()


@pytest.mark.parametrize("length", [100, 5000])
def test_bfloat16_stays_near_float64(length):
    exact = make_inputs(length, batch=1, channels=8, state=16)
    inputs = [
        t.to(torch.bfloat16) if name in "xBC" else t.float() for name, t in zip("xdABC", exact, strict=True)
    ]
    y = ssd_chunked(*inputs)
    assert y.dtype == torch.bfloat16
    reference = ssd_recurrence(*(t.double() for t in inputs))
    error = (y.double() - reference).norm(dim=(1, 3)) / reference.norm(dim=(1, 3))
    assert error.max() < 0.02  # of each head; bfloat16 keeps 8 bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decays_beyond_the_range_of_floats_give_no_nan(dtype):
    x, dt, A, B, C = make_inputs(200, dtype=torch.float32)
    inputs = [t.requires_grad_() for t in (x.to(dtype), 1000 * dt, 100 * A, B.to(dtype), C.to(dtype))]
    y = ssd_chunked(*inputs, 16)
    y.float().square().mean().backward()
    assert y.isfinite().all()
    assert all(t.grad is not None and t.grad.isfinite().all() for t in inputs)


def count_flops(length: int) -> int:
    inputs = [t.to("meta") for t in make_inputs(1, batch=1, groups=8, heads=16, channels=8, state=32)]
    inputs = [t if t.ndim == 1 else t.expand(-1, length, *t.shape[2:]) for t in inputs]
    with FlopCounterMode(display=False) as counter:
        ssd_chunked(*inputs)
    return counter.get_total_flops()


def test_cost_is_linear_in_the_number_of_tokens():
    per_token = [count_flops(length) / length for length in (600, 1200, 4096, 4800, 9600, 19200, 76800)]
    assert max(per_token) < 1.6 * min(per_token)
    assert max(per_token[3:]) < 1.05 * min(per_token[3:])  # from 128 chunks on, exactly linear but for rests


@pytest.mark.skipif(
    not (torch.cuda.is_available() and has_triton_kernels()), reason="needs CUDA and mamba-ssm"
)
@pytest.mark.parametrize("length", [64, 1000])
def test_equals_the_kernels_of_mamba_ssm(length):
    inputs = make_inputs(length, groups=4, heads=8, channels=16, state=16, dtype=torch.float32, device="cuda")
    inputs = [t.requires_grad_() for t in inputs]
    ours, theirs = (ssd_scan(*inputs, chunk_size=64, backend=backend) for backend in ("torch", "triton"))
    torch.testing.assert_close(theirs, ours, rtol=2e-2, atol=2e-2)  # their products are in TF32
    weights = torch.randn_like(ours)
    for mine, reference in zip(
        torch.autograd.grad((weights * ours).sum(), inputs),
        torch.autograd.grad((weights * theirs).sum(), inputs),
        strict=True,
    ):
        assert (mine - reference).norm() < 1e-2 * reference.norm()


def test_backends():
    inputs = make_inputs(20)
    torch.testing.assert_close(ssd_scan(*inputs), ssd_recurrence(*inputs))
    with pytest.raises(InputError, match=r"numpy.*auto.*torch.*triton"):
        ssd_scan(*inputs, backend="numpy")


@pytest.mark.skipif(has_triton_kernels(), reason="mamba-ssm is installed")
def test_absent_kernels_are_named():
    with pytest.raises(InputError, match=r"mamba-ssm.*pip install"):
        ssd_scan(*make_inputs(5), backend="triton")


@pytest.mark.parametrize("wrong", range(5))
def test_shapes_that_do_not_fit_are_refused(wrong):
    inputs = make_inputs(12)
    inputs[wrong] = inputs[wrong][:1] if wrong == 2 else inputs[wrong][:, :-1]
    with pytest.raises(InputError, match=r"do not fit: \[\(2, 1"):
        ssd_scan(*inputs)
    x, dt, A, B, C = make_inputs(12, groups=3)
    with pytest.raises(InputError, match="do not fit"):
        ssd_scan(x, dt, A, B, C)
