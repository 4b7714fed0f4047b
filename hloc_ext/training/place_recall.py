"""Recall of a network on pictures that are held out, while it trains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..datasets.covisibility import Overlap
from ..evaluation.retrieval import retrieval_scores
from ..models.crossvit import CrossViTTeacher

Embeddings = npt.NDArray[np.float32]

#: Numbers of retrieved pictures of which the recall is told.
RANKS = (1, 5)
#: What the teacher takes besides the image, in order.
TOKENS = ("points", "rays", "log_depths", "state", "rotation")
_BATCH = 32


def embed(network: nn.Module, pictures: dict[str, Tensor]) -> Tensor:
    """Embeddings (n×D) of pictures, by the student or the teacher.

    Args:
        network: student or teacher.
        pictures: ``image`` n×3×H×H, and for the teacher ``points`` n×197×3, ``rays`` n×197×3, ``log_depths``
            n×197, ``state`` n×197, ``rotation`` n×6; or ``published`` n×197×192 for a teacher that reads
            these.
    """
    if not isinstance(network, CrossViTTeacher):
        return network(pictures["image"])
    names = ("published",) if network.config.spatial == "published" else TOKENS
    return network(pictures["image"], *(pictures[name] for name in names))


@torch.no_grad()
def embed_all(network: nn.Module, pictures: Dataset[dict[str, Tensor]]) -> Embeddings:
    """Embeddings (N, D) of all pictures of a data set, in its order, by a network in evaluation mode."""
    device = next(network.parameters()).device
    found = [
        embed(network, {key: value.to(device) for key, value in batch.items()}).float().cpu().numpy()
        for batch in DataLoader(pictures, batch_size=_BATCH)
    ]
    return np.concatenate(found)


@torch.no_grad()
def embed_pairs(network: nn.Module, pairs: Dataset[dict[str, Tensor]]) -> tuple[Embeddings, Embeddings]:
    """Embeddings (N, D) of the first and of the second pictures of a data set of pairs."""
    device = next(network.parameters()).device
    found = []
    for batch in DataLoader(pairs, batch_size=_BATCH // 2):
        pictures = {key: value.flatten(0, 1).to(device) for key, value in batch.items()}
        found.append(embed(network, pictures).float().cpu().unflatten(0, (-1, 2)))
    first, second = torch.cat(found).unbind(1)
    return first.numpy(), second.numpy()


def scene_recall(
    embeddings: Embeddings, overlap: Overlap, centers: npt.ArrayLike, queries: Sequence[bool] | None = None
) -> dict[str, float]:
    """Share of the pictures of a scene for which one that overlaps is among the first.

    A picture does not retrieve itself, nor one that was taken from the very same point (by night, say).

    Args:
        embeddings: (N, D), unit length.
        overlap: which pictures overlap.
        centers: (N, 3) of the cameras, any unit.
        queries: which pictures look for the others among those that are none; None: all do among all.

    Returns:
        ``recall@1``, ``recall@5`` over the queries that can be answered; empty if none can.
    """
    centers, everything = np.asarray(centers, np.float64), np.arange(len(embeddings))
    chosen = np.ones(len(everything), bool) if queries is None else np.asarray(queries, bool)
    rows = everything[chosen]
    allowed = (centers[rows, None] != centers).any(-1)
    if queries is not None:
        allowed &= ~chosen
    relevant = np.zeros(allowed.shape, bool)
    for row, index in enumerate(rows):
        relevant[row, overlap.positives(index)] = True
    relevant &= allowed
    if not relevant.any():
        return {}
    similarity = np.where(allowed, embeddings[rows] @ embeddings.T, -np.inf)
    return _recall(similarity, relevant)


def pair_recall(first: Embeddings, second: Embeddings) -> dict[str, float]:
    """Share of the first views of photos, (N, D), whose second view is among the nearest ones of (N, D)."""
    return _recall(first @ second.T, np.eye(len(first), dtype=bool))


def _recall(similarity: Embeddings, relevant: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Recall at :data:`RANKS` of rankings by similarity (Q, N), where -inf is not retrieved."""
    count = min(max(RANKS), similarity.shape[1])
    ranking = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    ranking[np.isneginf(np.take_along_axis(similarity, ranking, 1))] = -1
    scores = retrieval_scores(ranking, relevant, [min(k, count) for k in RANKS])
    return {f"recall@{k}": round(scores.recall[min(k, count)], 4) for k in RANKS}
