"""The scan of Mamba-2 (Dao and Gu, "Transformers are SSMs", ICML 2024) in plain PyTorch.

A state-space model with a scalar decay per head,

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T,     y_t = C_t^T h_t,

equals multiplication by a lower-triangular matrix. :func:`ssd_chunked` cuts the sequence into chunks,
multiplies within each of them by that matrix and carries the state from chunk to chunk (section 6 of the
paper): matrix products only, in time and memory linear in the length, on every device and through ONNX.
:func:`ssd_recurrence` is the formula taken literally. :func:`ssd_scan` chooses; on CUDA it takes the kernels
of ``mamba_ssm`` if they are installed.

Shapes: B batch, L length, H heads, P channels of a head, G groups of H/G consecutive heads that share their B
and C, S size of the state.
"""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

_MAX_CHUNKS = 64  # more are carried in two levels, so that the cost stays linear


def ssd_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int = 32, backend: str = "auto"
) -> Tensor:
    """Run the scan.

    Args:
        x: inputs, B×L×H×P.
        dt: steps, B×L×H, not negative. Where it is 0 the token changes nothing: how padding is masked.
        A: decay rates, H, negative.
        B: how a token writes into the state, B×L×G×S.
        C: how a token reads the state, B×L×G×S.
        chunk_size: tokens per chunk; changes the cost, not the result.
        backend: ``torch``, ``triton`` (``mamba_ssm``), or ``auto``.

    Returns:
        y, B×L×H×P, of the type of `x`.

    Raises:
        InputError: shapes do not fit, or `backend` is unknown or not installed.
    """
    _check(x, dt, A, B, C)
    if backend == "auto":
        backend = "triton" if x.is_cuda and has_triton_kernels() else "torch"
    if backend == "torch":
        return ssd_chunked(x, dt, A, B, C, chunk_size)
    if backend == "triton":
        if not has_triton_kernels():
            raise InputError('The backend "triton" needs mamba-ssm: pip install "hloc_ext[cuda]".')
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

        return mamba_chunk_scan_combined(x, dt.to(x), A, B.to(x), C.to(x), chunk_size)
    raise InputError(f'Unknown backend "{backend}" of the scan; there are "auto", "torch" and "triton".')


def ssd_two_way(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int = 32, backend: str = "auto"
) -> Tensor:
    """Scan sequences forwards and backwards at once, with heads of their own and the same B and C.

    That is cheaper than two scans: products of B and C, and copies of both, are shared.

    Args:
        x: inputs, B×G×L×2×P, first those of the scan forwards.
        dt: steps, B×G×L×2, not negative.
        A: decay rates, G×2, negative.
        B: how a token writes into the state, B×G×L×S.
        C: how a token reads the state, B×G×L×S.
        chunk_size, backend: as of :func:`ssd_scan`.

    Returns:
        y, B×G×L×2×P: of token i what the tokens up to it, and what those from it on, have written.

    Raises:
        InputError: `backend` is unknown or not installed.
    """
    if backend == "triton" or (backend == "auto" and x.is_cuda and has_triton_kernels()):
        x, dt, B, C = (  # B×L×2G×...
            torch.stack([t[:, :, :, 0], t[:, :, :, 1].flip(2)], 2).flatten(1, 2).transpose(1, 2)
            for t in (x, dt, *(t.unsqueeze(3).expand(-1, -1, -1, 2, -1) for t in (B, C)))
        )
        y = ssd_scan(x, dt, A.flatten(), B, C, chunk_size, backend)
        forwards, backwards = y.transpose(1, 2).unflatten(1, (-1, 2)).unbind(2)
        return torch.stack([forwards, backwards.flip(2)], 3)
    if backend not in ("auto", "torch"):
        raise InputError(f'Unknown backend "{backend}" of the scan; there are "auto", "torch" and "triton".')
    return _two_way_chunked(x, dt, A, B, C, chunk_size)


def has_triton_kernels() -> bool:
    """Whether ``mamba_ssm`` is installed."""
    return importlib.util.find_spec("mamba_ssm") is not None


def ssd_recurrence(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence, token by token: the definition that the other forms are tested against."""
    heads = x.shape[2]
    B, C = (t.repeat_interleave(heads // t.shape[2], dim=2) for t in (B, C))
    state = x.new_zeros(x.shape[0], heads, B.shape[3], x.shape[3])
    outputs = []
    for t in range(x.shape[1]):
        written = B[:, t, :, :, None] * (dt[:, t, :, None] * x[:, t])[:, :, None]  # B×H×S×P
        state = torch.exp(dt[:, t] * A)[:, :, None, None] * state + written
        outputs.append((C[:, t, :, :, None] * state).sum(2))
    return torch.stack(outputs, 1)


def ssd_chunked(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int = 32) -> Tensor:
    """The scan by matrix products within chunks of `chunk_size` tokens and a carried state."""
    length, dtype = x.shape[1], x.dtype
    pad = -length % chunk_size
    if pad:  # dt = 0: tokens without effect
        x, dt, B, C = (F.pad(t, (0, 0) * (t.dim() - 2) + (0, pad)) for t in (x, dt, B, C))
    groups = B.shape[2]
    chunks = x.shape[1] // chunk_size
    # Everything as (batch, groups, heads of a group, chunks, their tokens, ...). Decays in float32 at least.
    precise = torch.promote_types(dt.dtype, torch.float32)
    log_decay = (dt.to(precise) * A.to(precise)).unflatten(2, (groups, -1)).unflatten(1, (chunks, chunk_size))
    log_decay = log_decay.permute(0, 3, 4, 1, 2).contiguous().cumsum(-1)  # B×G×h×c×Q, of the chunk so far
    written = (x * dt.unsqueeze(-1).to(dtype)).unflatten(2, (groups, -1)).unflatten(1, (chunks, chunk_size))
    written = written.permute(0, 3, 4, 1, 2, 5).contiguous()  # B×G×h×c×Q×P
    B, C = (
        t.to(dtype).unflatten(1, (chunks, chunk_size)).permute(0, 3, 1, 2, 4).contiguous() for t in (B, C)
    )  # B×G×c×Q×S

    # Within a chunk: y_i = sum_j<=i C_i·B_j decay(j -> i) x_j.
    similarity = (C @ B.transpose(-1, -2)).unsqueeze(2)  # B×G×1×c×Q×Q
    y = (similarity * _decay_between(log_decay).to(dtype)) @ written
    # From earlier chunks: the state at the end of each of them, carried to the start of this one.
    to_end = torch.exp(log_decay[..., -1:] - log_decay).to(dtype)
    states = B.unsqueeze(2).transpose(-1, -2) @ (written * to_end.unsqueeze(-1))  # B×G×h×c×S×P
    states = _carry(states, log_decay[..., -1])
    from_start = torch.exp(log_decay).to(dtype).unsqueeze(-1)
    y = y + (C.unsqueeze(2) @ states.to(dtype)) * from_start
    return y.permute(0, 3, 4, 1, 2, 5).flatten(3, 4).flatten(1, 2)[:, :length]


def _two_way_chunked(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int) -> Tensor:
    """:func:`ssd_two_way` by matrix products: the symmetric form of :func:`ssd_chunked`."""
    length, dtype = x.shape[2], x.dtype
    pad = -length % chunk_size
    if pad:  # dt = 0: tokens without effect
        x, dt, B, C = (F.pad(t, (0, 0) * (t.dim() - 3) + (0, pad)) for t in (x, dt, B, C))
    chunks = x.shape[2] // chunk_size
    x, dt, B, C = (t.unflatten(2, (chunks, chunk_size)) for t in (x, dt, B.to(dtype), C.to(dtype)))
    precise = torch.promote_types(dt.dtype, torch.float32)
    forwards, backwards = (dt.to(precise) * A.to(precise)[:, None, None]).unbind(-1)
    # log of the decay of the chunk up to a token, and from it on: B×G×c×Q each.
    ahead, back = forwards.cumsum(-1), backwards.flip(-1).cumsum(-1).flip(-1)
    log_decay = torch.stack([ahead, back], -1)
    whole = torch.stack([ahead[..., -1:], back[..., :1]], -1)  # B×G×c×1×2
    written = x * dt.unsqueeze(-1).to(dtype)  # B×G×c×Q×2×P

    # Within a chunk: below the diagonal what earlier tokens have written, above it what later ones have.
    similarity = (C @ B.transpose(-1, -2)) * _two_way_decay(ahead, back).to(dtype)  # B×G×c×Q×Q
    y = torch.stack(
        [similarity.tril() @ written[..., 0, :], similarity.triu() @ written[..., 1, :]], -2
    )  # B×G×c×Q×2×P
    # From other chunks: the state at the edge of each of them, carried to the next one in its direction.
    to_edge = torch.exp(whole - log_decay).to(dtype).unsqueeze(-1)
    states = B.transpose(-1, -2) @ (written * to_edge).flatten(-2)  # B×G×c×S×2P
    first, second = states.unflatten(-1, (2, -1)).unbind(-2)
    total = whole.squeeze(-2)  # B×G×c×2
    carried = torch.cat(
        [_carry(first, total[..., 0]), _carry(second.flip(2), total[..., 1].flip(2)).flip(2)], -1
    )
    from_edge = torch.exp(log_decay).to(dtype).unsqueeze(-1)
    y = y + (C @ carried.to(dtype)).unflatten(-1, (2, -1)) * from_edge
    return y.flatten(2, 3)[:, :, :length]


def _two_way_decay(ahead: Tensor, back: Tensor) -> Tensor:
    """exp of the decay from j to i: forwards where j <= i, backwards elsewhere; ...×Q (both) to ...×Q×Q."""
    size = ahead.shape[-1]
    forwards, backwards = (t.unsqueeze(-1) - t.unsqueeze(-2) for t in (ahead, back))
    earlier = torch.ones(size, size, dtype=torch.bool, device=ahead.device).tril()
    return torch.where(earlier, forwards, backwards).exp()


def _decay_between(log_decay: Tensor) -> Tensor:
    """exp of the decay from j to i where j <= i and 0 elsewhere: ...×Q (cumulative) -> ...×Q×Q."""
    difference = log_decay.unsqueeze(-1) - log_decay.unsqueeze(-2)  # above 0 where j > i: could overflow
    if torch.is_grad_enabled():
        return difference.clamp(max=0).exp().tril()
    return difference.clamp_(max=0).exp_().tril_()


def _carry(states: Tensor, log_decay: Tensor) -> Tensor:
    """State before each chunk, from what each chunk adds (...×c×S×P) and its decay (...×c)."""
    chunks = log_decay.shape[-1]
    if chunks > _MAX_CHUNKS:
        return _carry_in_two_levels(states, log_decay)
    total = log_decay.cumsum(-1)
    # The state before chunk i holds that of every chunk j < i, decayed by the chunks between them.
    before = F.pad(total, (1, 0))[..., :-1]
    decay = before.unsqueeze(-1) - total.unsqueeze(-2)
    past = torch.ones(chunks, chunks, dtype=torch.bool, device=states.device).tril(-1)
    decay = torch.exp(decay.masked_fill(~past, float("-inf"))).to(states.dtype)
    return (decay @ states.flatten(-2)).unflatten(-1, states.shape[-2:])


def _carry_in_two_levels(states: Tensor, log_decay: Tensor) -> Tensor:
    size, chunks = 32, log_decay.shape[-1]
    pad = -chunks % size
    states, log_decay = F.pad(states, (0, 0, 0, 0, 0, pad)), F.pad(log_decay, (0, pad))
    states, log_decay = states.unflatten(-3, (-1, size)), log_decay.unflatten(-1, (-1, size))
    inner = _carry(states, log_decay)
    total = log_decay.cumsum(-1)
    to_end = torch.exp(total[..., -1:] - total)[..., None, None].to(states.dtype)
    outer = _carry((states * to_end).sum(-3), total[..., -1])
    from_start = torch.exp(F.pad(total, (1, 0))[..., :-1])[..., None, None].to(states.dtype)
    return (inner + outer.unsqueeze(-3) * from_start).flatten(-4, -3)[..., :chunks, :, :]


def _check(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
    batch, length, heads = x.shape[:3]
    fits = (
        dt.shape == (batch, length, heads)
        and A.shape == (heads,)
        and B.shape == C.shape
        and B.shape[:2] == (batch, length)
        and heads % B.shape[2] == 0
    )
    if not fits:
        shapes = [tuple(t.shape) for t in (x, dt, A, B, C)]
        raise InputError(f"The shapes of the scan's x, dt, A, B, C do not fit: {shapes}.")
