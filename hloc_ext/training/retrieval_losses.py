"""Losses of global descriptors. Shapes: n pictures, D channels.

The overlap of the pictures comes as a matrix of weights (n×n, of :mod:`hloc_ext.datasets.covisibility`): in
(0, 1] for pictures that share scenery, the more the higher, 0 for pictures that share none, and -1 for pairs
that are neither and are left out. The diagonal never counts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pairwise_distances(embeddings: Tensor) -> Tensor:
    """Euclidean distances between all rows (n×D): n×n, single precision or better.

    Distances are taken from differences, so that small ones are exact; the gradient of a distance of 0 is 0.
    """
    exact = _at_least_single(embeddings)
    return torch.cdist(exact, exact, compute_mode="donot_use_mm_for_euclid_dist")


def spatial_contrastive(
    embeddings: Tensor, weights: Tensor, margin: float = 0.5, balanced: bool = True
) -> Tensor:
    """Spatial contrastive loss of multi-modal CrossViT (Kang et al., MTAP 2024), of all pairs of a batch.

    A pair at distance d with weight w has ½ [w d² + (1 - w) max(0, margin - d)²].

    Args:
        embeddings: n×D, unit length.
        weights: n×n overlap, symmetric, see above.
        margin: distance beyond which pictures are not pushed apart; published: 0.5.
        balanced: the pairs that overlap and those that do not count half each, as the published training
            draws them; otherwise all pairs count alike.

    Returns:
        The mean over the pairs; 0 where there is none.
    """
    distance = pairwise_distances(embeddings)
    weight = weights.clamp_min(0).to(distance)
    loss = 0.5 * (weight * distance.square() + (1 - weight) * (margin - distance).clamp_min(0).square())
    known = (weights >= 0) & ~_diagonal(weights)
    positive = known & (weights > 0)
    kinds = (positive, known & ~positive) if balanced else (known,)
    return torch.stack([_masked_mean(loss, kind) for kind in kinds]).mean()


def nt_xent(embeddings: Tensor, weights: Tensor, temperature: float = 0.1) -> Tensor:
    """Normalised temperature-scaled cross entropy (SimCLR: Chen et al., ICML 2020, equation 1).

    Each picture has to find those it overlaps with among all others of the batch. With several, their shares
    of the target are proportional to their weights; with equal weights that is the loss L_out of Khosla et
    al., "Supervised contrastive learning", NeurIPS 2020, equation 2.

    Args:
        embeddings: n×D, unit length.
        weights: n×n overlap, see above.
        temperature: of the softmax over cosines.

    Returns:
        The mean over the pictures that overlap with another one; 0 without any.
    """
    exact = _at_least_single(embeddings)
    with torch.autocast(exact.device.type, enabled=False):
        logits = exact @ exact.T / temperature
    outside = _diagonal(weights) | (weights < 0)
    log_probability = F.log_softmax(logits.masked_fill(outside, -torch.inf), dim=1)
    log_probability = log_probability.masked_fill(outside, 0)
    target = weights.to(logits).clamp_min(0).masked_fill(_diagonal(weights), 0)
    total = target.sum(1)
    found = total > 0
    entropy = -(target * log_probability).sum(1) / total.clamp_min(torch.finfo(total.dtype).tiny)
    return _masked_mean(entropy, found)


def relaxed_contrastive(student: Tensor, teacher: Tensor, sigma: float = 1.0, delta: float = 1.0) -> Tensor:
    """Relaxed contrastive loss: similarities in the teacher's space are labels for the student.

    Kim et al., "Embedding transfer with label relaxation for improved metric learning", CVPR 2021, equation
    5, with the Gaussian kernel w_ij = exp(-‖t_i - t_j‖² / sigma) and distances of the student relative to
    their mean, d_ij = ‖s_i - s_j‖ / (1/n Σ_k ‖s_i - s_k‖):
    1/n Σ_{i≠j} [w_ij d_ij² + (1 - w_ij) max(0, delta - d_ij)²]. The sum over j makes it grow with n.

    Args:
        student: n×D embeddings of the student.
        teacher: n×E embeddings of the teacher, unit length; no gradient flows to them.
        sigma: bandwidth of the kernel; the paper's 1.
        delta: margin of the relative distance; the paper's 1.

    Returns:
        The loss; 0 for fewer than two pictures.
    """
    if len(student) < 2:
        return student.sum() * 0
    weight = torch.exp(-pairwise_distances(teacher.detach()).square() / sigma)
    distance = pairwise_distances(student)
    mean = distance.mean(1, keepdim=True)
    relative = distance / mean.clamp_min(torch.finfo(mean.dtype).tiny)
    pairs = weight * relative.square() + (1 - weight) * (delta - relative).clamp_min(0).square()
    return pairs.masked_fill(_diagonal(weight), 0).sum() / len(student)


def cosine_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine of the student's and the teacher's embedding of a picture, n×D each; 0 for none."""
    if not len(student):
        return student.sum() * 0
    pair = _at_least_single(student), _at_least_single(teacher.detach())
    return 1 - F.cosine_similarity(*pair, dim=-1).mean()


def dual_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Cosine distillation across the two pictures of a place, in both directions.

    The student's embedding of each picture (say by night) is drawn to the teacher's of the other (by day),
    so that images described by the student find a map described by the teacher.

    Args:
        student, teacher: B×2×D embeddings of the pictures of B places.
    """
    return (
        cosine_distillation(student[:, 0], teacher[:, 1]) + cosine_distillation(student[:, 1], teacher[:, 0])
    ) / 2


def _at_least_single(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _diagonal(matrix: Tensor) -> Tensor:
    return torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where `mask` holds; 0 where it holds nowhere."""
    return values.masked_fill(~mask, 0).sum() / mask.sum().clamp_min(1)
