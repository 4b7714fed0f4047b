"""Losses of cross-view localisation. Shapes: B pairs, D channels of unit embeddings.

A view is ``ground`` or ``aerial``; pair i is ground image i with aerial image i.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .retrieval_losses import cosine_distillation

#: Sample4Geo's first temperature, and the largest scale of similarities (as CLIP; published: unlimited).
FIRST_TEMPERATURE, MAX_SCALE = 0.07, 100.0


class LogitScale(nn.Module):
    """The learned inverse temperature of :func:`symmetric_info_nce`, at most :data:`MAX_SCALE`.

    The parameter itself is kept in bounds, so that its gradient never vanishes there.
    """

    def __init__(self, temperature: float = FIRST_TEMPERATURE) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self) -> Tensor:
        """The scale, a scalar in (0, 100]."""
        with torch.no_grad():
            self.logarithm.clamp_(max=math.log(MAX_SCALE))
        return self.logarithm.exp()


def symmetric_info_nce(
    ground: Tensor,
    aerial: Tensor,
    scale: Tensor | float,
    label_smoothing: float = 0.1,
    ignored: Tensor | None = None,
) -> Tensor:
    """Find the tile of each panorama in the batch, and the panorama of each tile.

    Deuser et al., "Sample4Geo: Hard Negative Sampling For Cross-View Geo-Localisation", ICCV 2023:
    ½ [CE(s G Aᵀ, diagonal) + CE(s A Gᵀ, diagonal)].

    Args:
        ground, aerial: B×D unit embeddings.
        scale: s, the inverse temperature.
        label_smoothing: share of the target that is spread evenly over all candidates.
        ignored: B×B bool, ground × aerial; pairs that are no negatives although they are no pairs either
            (semi-positives). The diagonal always counts.

    Returns:
        The loss.
    """
    with torch.autocast(ground.device.type, enabled=False):  # bfloat16 would round the similarities
        logits = scale * _single(ground) @ _single(aerial).T
    allowed = torch.ones_like(logits, dtype=torch.bool) if ignored is None else ~ignored
    allowed = allowed | torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    to_aerial = _cross_entropy(logits, allowed, label_smoothing)
    return (to_aerial + _cross_entropy(logits.T, allowed.T, label_smoothing)) / 2


def dual_cosine(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Distill4Geo's loss: mean over the views of 1 - cosine of the student's and the teacher's embeddings.

    Args:
        student: B×D embeddings of each view that is trained.
        teacher: of the same views, at least; no gradient flows to them.
    """
    return torch.stack([cosine_distillation(found, teacher[view]) for view, found in student.items()]).mean()


def crossed_cosine(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Mean of 1 - cosine of the student's embedding of a view and the teacher's of the **other** view.

    Args:
        student: B×D embeddings of each view that is trained.
        teacher: of both views; no gradient flows to them.
    """
    other = {"ground": "aerial", "aerial": "ground"}
    return torch.stack(
        [cosine_distillation(found, teacher[other[view]]) for view, found in student.items()]
    ).mean()


def relational(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Mean squared difference of the similarities within a batch, of the student and of the teacher.

    Similarities are those of all pairs of different images, across the views too if there are two.

    Args:
        student: B×D unit embeddings of each view that is trained.
        teacher: of the same views, at least; D may differ. No gradient flows to them.
    """
    own = torch.cat(list(student.values()))
    target = torch.cat([teacher[view].detach() for view in student])
    other = ~torch.eye(len(own), dtype=torch.bool, device=own.device)
    return (own @ own.T - target @ target.T)[other].square().mean() if len(own) > 1 else own.sum() * 0


def same_tile(tiles: Tensor, semi_positives: Tensor) -> Tensor:
    """Pairs of a batch that :func:`symmetric_info_nce` must ignore.

    Args:
        tiles: (B,) tile of each panorama.
        semi_positives: (B, S) other tiles that show its place, -1 for none.

    Returns:
        B×B bool, panorama × tile of panorama: whether that tile shows the panorama's place. The diagonal is
        False.
    """
    shows = (tiles[:, None] == tiles) | (semi_positives[:, :, None] == tiles).any(1)
    return shows & ~torch.eye(len(tiles), dtype=torch.bool, device=tiles.device)


def _single(values: Tensor) -> Tensor:
    """At least single precision."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _cross_entropy(logits: Tensor, allowed: Tensor, smoothing: float) -> Tensor:
    """Cross entropy of rows whose answer is on the diagonal, among the allowed columns."""
    log_shares = logits.masked_fill(~allowed, -torch.inf).log_softmax(1)
    spread = log_shares.masked_fill(~allowed, 0).sum(1) / allowed.sum(1)
    return -((1 - smoothing) * log_shares.diagonal() + smoothing * spread).mean()
