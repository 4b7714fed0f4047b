"""Losses of semi-dense matchers. Shapes: B pairs, N0 and N1 cells, K positives, D channels.

Positions are pixels, the centre of the top-left pixel at (0, 0); cell (r, c) of the coarse grid has its
centre at (8c, 8r).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.dual_softmax import Assignment
from ..models.kd_mamba import FINE_STRIDE, STRIDE, WINDOW, KDMamba, PairFeatures, cell_centres


class Positives(NamedTuple):
    """Pairs of cells that are each other's nearest under the true warp."""

    batch: Tensor  # K, pair
    index0: Tensor  # K, cell of image 0
    index1: Tensor  # K, cell of image 1


def nearest_cells(points: Tensor, valid: Tensor, grid: tuple[int, int]) -> Tensor:
    """The cell of a grid that each point (B×N×2, pixels) is nearest to, -1 where not `valid`: B×N."""
    column = (points[..., 0] / STRIDE).round()
    row = (points[..., 1] / STRIDE).round()
    valid = valid & (row >= 0) & (row < grid[0]) & (column >= 0) & (column < grid[1])
    return torch.where(valid, row * grid[1] + column, -1).long()


def positive_cells(
    points1: Tensor,
    valid1: Tensor,
    points0: Tensor,
    valid0: Tensor,
    grid0: tuple[int, int],
    grid1: tuple[int, int],
) -> Positives:
    """Mutually nearest cells (the coarse ground truth of LoFTR, CVPR 2021, section 3.5).

    Args:
        points1, valid1: where the centre of each cell of image 0 lies in image 1, B×N0×2, and whether it is
            known.
        points0, valid0: the reverse, B×N1.
        grid0, grid1: rows and columns of the cells.
    """
    to1 = nearest_cells(points1, valid1, grid1)
    to0 = nearest_cells(points0, valid0, grid0)
    back = to0.gather(1, to1.clamp_min(0))
    own = torch.arange(to1.shape[1], device=to1.device)
    batch, index0 = ((to1 >= 0) & (back == own)).nonzero(as_tuple=True)
    return Positives(batch, index0, to1[batch, index0])


def focal_dual_softmax(assignment: Assignment, positives: Positives, gamma: float) -> Tensor:
    """Mean of -(1 - P)^gamma log P over the positives (focal loss, Lin et al., ICCV 2017); 0 without any.

    Args:
        assignment: dual softmax of the two images.
        positives: pairs of cells.
        gamma: 0 is cross entropy.
    """
    log_p = assignment.log_probability(*positives)
    if not len(log_p):
        return assignment.similarity.sum() * 0
    return -((1 - log_p.detach().exp()) ** gamma * log_p).mean()


def matchability_loss(log_matchability: Tensor, valid: Tensor) -> Tensor:
    """Binary cross entropy of the probability that a cell has a counterpart, B×N each."""
    log_none = torch.log(-torch.expm1(log_matchability.clamp(max=-1e-6)))
    return -torch.where(valid, log_matchability, log_none).mean()


def fine_loss(
    model: KDMamba,
    source: PairFeatures,
    target: PairFeatures,
    positives: Positives,
    points: Tensor,
    shift: Tensor,
) -> Tensor:
    """Cross entropy of the search window against the true position.

    The true position is spread over the four fine positions around it with bilinear weights, so that the
    expectation of the target is the position itself.

    Args:
        model: the matcher, for its window.
        source, target: features of the two images.
        positives: `index0` in `source`, `index1` in `target`.
        points: where the centres of the cells of `source` lie in `target`, B×N×2 in pixels.
        shift: K×2 integers: cells by which the matched cell is moved (coarse matches are not always the
            best); not moved where the position would leave the window.
    """
    height, width = target.grid
    truth = points[positives.batch, positives.index0]
    cell = torch.stack([positives.index1 % width, positives.index1 // width], 1)
    moved = cell + shift
    inside = ((moved >= 0) & (moved < torch.tensor([width, height], device=moved.device))).all(1)
    inside &= ((truth - STRIDE * moved).abs() <= FINE_STRIDE * (WINDOW // 2)).all(1)
    cell = torch.where(inside.unsqueeze(1), moved, cell)
    index = cell[:, 1] * width + cell[:, 0]
    offset = (truth - cell_centres(index, target.grid)) / FINE_STRIDE
    log_p = model.fine_log_probability(source, target, positives.batch, positives.index0, index)
    weight = window_weights(offset)
    known = (weight * (log_p > -1e3)).sum(1) > 0.99  # positions beyond the image have about -1e4
    log_p = torch.where(weight > 0, log_p, 0)
    return -(weight * log_p).sum(1)[known].mean() if known.any() else log_p.sum() * 0


def window_weights(offset: Tensor) -> Tensor:
    """Bilinear weights of the window's positions around offsets (K×2, in fine positions): K×49."""
    side = torch.arange(WINDOW, device=offset.device) - WINDOW // 2
    x, y = (F.relu(1 - (offset[:, axis, None] - side).abs()) for axis in (0, 1))  # K×7
    return (y.unsqueeze(2) * x.unsqueeze(1)).flatten(1)


def feature_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine between projected features of the student and features of the teacher, …×D."""
    return 1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1).mean()


def assignment_distillation(
    student: Assignment, teacher: Assignment, cells0: Tensor, cells1: Tensor
) -> Tensor:
    """Mean Kullback-Leibler divergence KL(teacher || student) of assignments of cells, in both directions.

    Args:
        student, teacher: dual softmax of the two images.
        cells0, cells1: the cells of each image that count, B×N0 and B×N1 bool.
    """
    terms = []
    for dim, cells, own, taught in (
        (2, cells0, student.rows, teacher.rows),
        (1, cells1, student.columns, teacher.columns),
    ):
        log_target = teacher.similarity - taught.unsqueeze(dim)
        target = log_target.exp()
        divergence = (target * (log_target - student.similarity)).sum(dim) + own
        terms.append((divergence * cells).sum() / cells.sum().clamp_min(1))
    return (terms[0] + terms[1]) / 2
