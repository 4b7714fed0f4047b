"""Files of weights that were not trained, under which images still match themselves."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from hloc_ext.matchers.kd_mamba import save_weights
from hloc_ext.models.kd_mamba import KDMamba
from tests.models.networks import TINY


@torch.no_grad()
def write_random_weights(path: Path, seed: int = 0) -> Path:
    """Write weights of a tiny network, whose coarse matches are as sure as can be; returns `path`."""
    torch.manual_seed(seed)
    network = KDMamba(TINY)
    network.log_scale.fill_(math.log(60))
    network.matchability.bias.fill_(5.0)
    save_weights(network, path, {"note": "random"})
    return path
