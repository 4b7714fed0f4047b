"""Files of weights of cross-view networks that were not trained, small and quick."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from hloc_ext.extractors.cross_view_weights import save_cross_view
from hloc_ext.models.bev import BEVConfig, SSAConfig, SSANetwork
from hloc_ext.models.cross_view import EncoderConfig, SharedEncoder, StudentPair

DIM, SECTORS = 32, 8
GROUND_SIZE, AERIAL_SIZE = (32, 192), (64, 64)


def config(pooling: str = "mean") -> EncoderConfig:
    """A small encoder."""
    return EncoderConfig("test_convnext", DIM, pooling, SECTORS, GROUND_SIZE, AERIAL_SIZE, stride=16)


def random_network(kind: str = "students", pooling: str = "mean", seed: int = 0) -> nn.Module:
    """Random weights of ``students``, one of them (``ground``, ``aerial``), ``shared`` or ``ssa``."""
    torch.manual_seed(seed)
    if kind == "ssa":
        bev = BEVConfig(width=16, groups=2, distances=8, cells=8, blocks=1, up_widths=(8,))
        return SSANetwork(SSAConfig(encoder=config(pooling), bev=bev, strides=(8, 16))).eval()
    if kind == "shared":
        return SharedEncoder(config(pooling)).eval()
    views = ("ground", "aerial") if kind == "students" else (kind,)
    return StudentPair({view: config(pooling) for view in views}).eval()


def write_random_weights(
    path: Path, kind: str = "students", pooling: str = "mean", provenance: tuple[str, ...] | None = None
) -> Path:
    """Write the weights of :func:`random_network`; returns `path`."""
    save_cross_view(path, random_network(kind, pooling), provenance, {"note": "random"})
    return path
