"""Matches from the similarity of two sets of descriptors, in blocks, so that memory stays bounded.

The probability that token i of image 0 and token j of image 1 show the same place is

    P_ij = m_i m_j softmax_j(S_ij) softmax_i(S_ij),     S_ij = scale <a_i, b_j>,

the dual softmax of Rocco et al. ("Neighbourhood consensus networks", NeurIPS 2018) as used by LoFTR, times
the probabilities m that a token has a counterpart at all (LightGlue, ICCV 2023, eq. 6). Descriptors have unit
length, so that S is bounded and exp(S - scale) neither overflows nor needs the maximum of a row.

Shapes: B batch, N0 and N1 tokens, D channels, M matches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Elements of the similarity matrix that exist at a time. A block of 2 MiB stays in the cache of a CPU.
BLOCK_ELEMENTS = {"cpu": 2**19, "cuda": 2**25}


class Matches(NamedTuple):
    """Matches of a batch of pairs, sorted by pair and by token of image 0."""

    batch: Tensor  # M, pair
    index0: Tensor  # M, token of image 0
    index1: Tensor  # M, token of image 1
    log_probability: Tensor  # M, log P_ij


class Descriptors(NamedTuple):
    """What the tokens of one image are matched by."""

    vectors: Tensor  # B×N×D, of unit length
    log_matchability: Tensor  # B×N, log m; -inf at tokens that do not exist


class Assignment(NamedTuple):
    """Similarities of all pairs of tokens and what normalises them (for training: memory is not bounded)."""

    similarity: Tensor  # B×N0×N1, float32 at least; -1e4 where a token does not exist
    rows: Tensor  # B×N0, log of the sum of exp over the tokens of image 1
    columns: Tensor  # B×N1, the same over those of image 0
    log_matchability0: Tensor  # B×N0
    log_matchability1: Tensor  # B×N1

    def log_probability(self, batch: Tensor, index0: Tensor, index1: Tensor) -> Tensor:
        """log P of some pairs of tokens."""
        matchable = self.log_matchability0[batch, index0] + self.log_matchability1[batch, index1]
        normalizer = self.rows[batch, index0] + self.columns[batch, index1]
        return 2 * self.similarity[batch, index0, index1] - normalizer + matchable


def precise(x: Tensor) -> Tensor:
    """`x` in float32 at least: what rounding to half precision would spoil is computed in it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def assign(first: Descriptors, second: Descriptors, scale: Tensor) -> Assignment:
    """The dual softmax of all pairs of tokens, in float32 at least, also under autocast."""
    with torch.autocast(first.vectors.device.type, enabled=False):
        similarity = (scale * precise(first.vectors)) @ precise(second.vectors).transpose(1, 2)
    missing0, missing1 = (d.log_matchability.isneginf() for d in (first, second))
    if missing0.any() or missing1.any():
        similarity = similarity.masked_fill(missing0.unsqueeze(2) | missing1.unsqueeze(1), -1e4)
    return Assignment(
        similarity,
        similarity.logsumexp(2),
        similarity.logsumexp(1),
        first.log_matchability,
        second.log_matchability,
    )


@torch.no_grad()
def mutual_matches(
    first: Descriptors,
    second: Descriptors,
    scale: Tensor,
    min_probability: float,
    block_elements: int | None = None,
) -> Matches:
    """Pairs of tokens that are each other's most probable counterpart.

    Args:
        first, second: descriptors of image 0 and image 1.
        scale: of the similarity (inverse temperature), a scalar.
        min_probability: least P_ij.
        block_elements: elements of the similarity matrix that are held at a time; changes time and memory,
            not the result. None: what suits the device.
    """
    block_elements = block_elements or BLOCK_ELEMENTS.get(first.vectors.device.type, 2**25)
    found = [
        _mutual_matches_of_pair(
            Descriptors(first.vectors[b], first.log_matchability[b]),
            Descriptors(second.vectors[b], second.log_matchability[b]),
            scale,
            min_probability,
            block_elements,
        )
        for b in range(len(first.vectors))
    ]
    batch = torch.cat([torch.full_like(index0, b) for b, (index0, _, _) in enumerate(found)])
    return Matches(batch, *(torch.cat(column) for column in zip(*found, strict=True)))


def _mutual_matches_of_pair(
    first: Descriptors, second: Descriptors, scale: Tensor, min_probability: float, block_elements: int
) -> tuple[Tensor, Tensor, Tensor]:
    # Tokens that do not exist are left out; the others keep their index.
    keep0, keep1 = (d.log_matchability.isneginf().logical_not().nonzero()[:, 0] for d in (first, second))
    if not len(keep0) or not len(keep1):
        return keep0[:0], keep1[:0], first.log_matchability[:0]
    a, b = (precise(d.vectors[keep]) for d, keep in ((first, keep0), (second, keep1)))
    m0, m1 = first.log_matchability[keep0], second.log_matchability[keep1]
    rows = max(1, block_elements // len(b))
    blocks = [slice(start, start + rows) for start in range(0, len(a), rows)]

    # What is added to a row or a column is a further channel, so that the product of matrices adds it.
    # First pass: sums of rows and columns. Second pass: the best of each row, and how good a column's is.
    left, right = _extended(a * scale, -scale, 1.0), _extended(b, 1.0, 0.0).T.contiguous()
    row_sum, column_sum = torch.zeros_like(m0), torch.zeros_like(m1)
    for block in blocks:
        exponential = (left[block] @ right).exp_()
        row_sum[block] = exponential.sum(1)
        column_sum += exponential.sum(0)
    row_term = m0 - row_sum.clamp_min(1e-30).log() - scale
    column_term = m1 - column_sum.clamp_min(1e-30).log() - scale
    left, right = _extended(2 * scale * a, row_term, 1.0), _extended(b, 1.0, column_term).T.contiguous()
    best1, best_log = torch.zeros_like(keep0), torch.zeros_like(row_term)
    column_best = torch.full_like(column_term, float("-inf"))
    least = torch.as_tensor(min_probability).log()
    for block in blocks:
        log_p = left[block] @ right
        best_log[block] = log_p.amax(1)
        column_best = torch.maximum(column_best, log_p.amax(0))
        # On a CPU the place of a maximum takes ten times as long as the maximum: only for rows that matter.
        probable = (best_log[block] > least).nonzero()[:, 0]
        best1[block.start + probable] = log_p[probable].argmax(1)
    mutual = (best_log == column_best[best1]) & (best_log > least)
    chosen = _first_of_each(best1, mutual)
    return keep0[chosen], keep1[best1[chosen]], best_log[chosen]


def _extended(vectors: Tensor, first: Tensor | float, second: Tensor | float) -> Tensor:
    """N×D vectors with two further channels, each a number or N of them."""
    more = [torch.as_tensor(t).to(vectors).expand(len(vectors)).unsqueeze(1) for t in (first, second)]
    return torch.cat([vectors, *more], 1)


def _first_of_each(columns: Tensor, rows: Tensor) -> Tensor:
    """Those of the rows (a mask) that are the first one with their column: equally good rows may be many."""
    chosen = rows.nonzero()[:, 0]
    own = columns[chosen]
    first = torch.full((int(columns.max()) + 1,), len(columns), device=columns.device)
    first.scatter_reduce_(0, own, chosen, "amin")
    return chosen[first[own] == chosen]
