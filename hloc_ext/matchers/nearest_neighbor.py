"""Nearest-neighbour matching of descriptors, with mutual, ratio and distance tests."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ..base_model import BaseModel


def nearest_neighbors(
    similarity: torch.Tensor, ratio_threshold: float | None, distance_threshold: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest neighbour of each row.

    Args:
        similarity: B×N×M cosines.
        ratio_threshold: largest ratio of the distances to the first and second neighbour (Lowe, 2004).
        distance_threshold: largest Euclidean distance of unit descriptors.

    Returns:
        B×N index of the neighbour or −1, and B×N score (cosine mapped to [0, 1], 0 if none).
    """
    values, indices = similarity.topk(2 if ratio_threshold else 1, dim=-1)
    squared_distance = 2 * (1 - values)
    keep = torch.ones_like(indices[..., 0], dtype=torch.bool)
    if ratio_threshold:
        keep &= squared_distance[..., 0] <= ratio_threshold**2 * squared_distance[..., 1]
    if distance_threshold:
        keep &= squared_distance[..., 0] <= distance_threshold**2
    matches = torch.where(keep, indices[..., 0], -1)
    scores = torch.where(keep, (values[..., 0] + 1) / 2, 0.0)
    return matches, scores


def mutual_check(matches0: torch.Tensor, matches1: torch.Tensor) -> torch.Tensor:
    """Keep matches B×N that the other direction B×M confirms; the rest become −1."""
    back = torch.gather(matches1, -1, matches0.clamp(min=0))
    index = torch.arange(matches0.shape[-1], device=matches0.device)
    return torch.where((matches0 > -1) & (back == index), matches0, -1)


class NearestNeighbor(BaseModel):
    """Nearest neighbours of unit descriptors, numerically as in HLOC."""

    default_conf: ClassVar[dict[str, Any]] = {
        "ratio_threshold": None,
        "distance_threshold": None,
        "do_mutual_check": True,
    }
    required_inputs: ClassVar[list[str]] = ["descriptors0", "descriptors1"]

    def _init(self, conf: dict[str, Any]) -> None:
        pass

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        descriptors0, descriptors1 = data["descriptors0"], data["descriptors1"]  # B×D×N, B×D×M
        batch, _, num0 = descriptors0.shape
        num1 = descriptors1.shape[-1]
        if num0 == 0 or num1 == 0:
            empty = torch.full((batch, num0), -1, dtype=torch.long, device=descriptors0.device)
            return {"matches0": empty, "matching_scores0": torch.zeros_like(empty, dtype=torch.float)}
        ratio = self.conf["ratio_threshold"] if num0 > 1 and num1 > 1 else None
        distance = self.conf["distance_threshold"]
        similarity = torch.einsum("bdn,bdm->bnm", descriptors0, descriptors1)
        matches0, scores0 = nearest_neighbors(similarity, ratio, distance)
        if self.conf["do_mutual_check"]:
            matches1, _ = nearest_neighbors(similarity.transpose(1, 2), ratio, distance)
            matches0 = mutual_check(matches0, matches1)
        return {"matches0": matches0, "matching_scores0": scores0}
