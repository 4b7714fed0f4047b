"""Losses of drawn class maps. Shapes: B pictures, K classes, L cells per side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.bev_geometry import IGNORE, visible_cells


def masked_cross_entropy(logits: Tensor, label: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross entropy, mean over the cells that count, each with the weight of its class.

    Args:
        logits: B×K×L×L.
        label: B×L×L int64, 255 for cells that do not count.
        class_weights: (K,); None: 1.

    Returns:
        The loss; 0 where no cell counts.
    """
    if not (label != IGNORE).any():
        return logits.sum() * 0
    return F.cross_entropy(logits, label, class_weights, ignore_index=IGNORE)


def masked_dice(logits: Tensor, label: Tensor) -> Tensor:
    """Soft Dice loss, mean over the classes that occur in the batch.

    1 − 2 Σ p g / (Σ p + Σ g) of each class, sums over the cells of all pictures that count; p is the softmax
    of the logits, g is 1 in the cells of the class. Published: of each picture, and with the classes that it
    does not have, whose loss is about 1 whatever is drawn.

    Args:
        logits, label: as :func:`masked_cross_entropy`.

    Returns:
        The loss, 0 to 1; 0 where no cell counts.
    """
    counts = label != IGNORE
    probability = logits.softmax(1) * counts[:, None]
    target = F.one_hot(label.masked_fill(~counts, 0), logits.shape[1]).permute(0, 3, 1, 2) * counts[:, None]
    shared = (probability * target).sum((0, 2, 3))
    true = target.sum((0, 2, 3))
    occurs = true > 0
    if not occurs.any():
        return logits.sum() * 0
    return 1 - (2 * shared / (probability.sum((0, 2, 3)) + true).clamp_min(1e-12))[occurs].mean()


def without_hidden(
    label: Tensor, offset: Tensor, fov: float = 360.0, heading: Tensor | None = None
) -> Tensor:
    """Labels of which the cells that the camera cannot see (:func:`visible_cells`) do not count.

    Args:
        label: B×L×L int64, classes of tiles, north up.
        offset: B×2, cameras in their tiles: east and south of the centre, in widths of the tile.
        fov: degrees that the pictures cover.
        heading: (B,) azimuth of their centre columns, degrees; None: 0.

    Returns:
        B×L×L, 255 where nothing is to be learnt.
    """
    return label.masked_fill(~visible_cells(label, offset, fov, heading), IGNORE)


def balanced_weights(frequency: Tensor, exponent: float) -> Tensor:
    """Weights of classes that make up for their frequencies.

    Args:
        frequency: (K,) shares of the cells.
        exponent: 0: all alike; 1: every class counts the same as a whole.

    Returns:
        (K,): mean weight of a cell is 1; classes that do not occur have 0.
    """
    weights = torch.where(frequency > 0, frequency.clamp_min(1e-6) ** -exponent, 0.0)
    return weights / (weights * frequency).sum()
