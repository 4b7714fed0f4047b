"""Files of weights of CrossViT that were not trained, small and quick."""

from __future__ import annotations

from pathlib import Path

import torch

from hloc_ext.extractors.crossvit import save_weights
from hloc_ext.models.crossvit import CrossViTConfig, CrossViTRetrieval, CrossViTTeacher

DIM, SIZE = 32, 120


def random_network(spatial: str | None = None, seed: int = 0) -> CrossViTRetrieval | CrossViTTeacher:
    """A network with random weights, in evaluation mode; a teacher if it is given a kind of tokens."""
    torch.manual_seed(seed)
    if spatial is None:
        return CrossViTRetrieval(CrossViTConfig(DIM, SIZE)).eval()
    return CrossViTTeacher(CrossViTConfig(DIM, spatial=spatial)).eval()


def write_random_weights(path: Path, spatial: str | None = None, seed: int = 0) -> Path:
    """Write the weights of :func:`random_network`; returns `path`."""
    save_weights(random_network(spatial, seed), path, {"note": "random"})
    return path
