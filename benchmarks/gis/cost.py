"""What a registration costs: multiplications of the networks, processor time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import Table
from hloc_ext.gis.registration.matching import Method

from .comparison import OURS, Makers, make_method, run

#: Methods with a network.
NETWORKS = ("kd-mamba", "homography-net", "loftr", OURS)
#: Ours is to need at most this share of the multiplications of the regressor.
REGRESSOR = "homography-net"


def multiplications(name: str, method: Method, makers: Makers) -> float:
    """Mean multiplications and additions (GMACs) of the networks of a method for a pair, all passes."""
    from torch.utils.flop_counter import FlopCounterMode

    total = 0.0
    for make in makers:
        problem = make()
        with FlopCounterMode(display=False) as counter:
            run(name, method, problem)
        total += counter.get_total_flops() / 2
    return total / 1e9 / max(len(makers), 1)


def single_pass() -> list[dict[str, Any]]:
    """GMACs and parameters of one pass of KD-Mamba and of the regressor, at the regressor's input size."""
    from torch.utils.flop_counter import FlopCounterMode

    from hloc_ext.matchers.kd_mamba import KDMambaMatcher
    from hloc_ext.models.homography_net import HomographyNet

    rows = []
    regressor = HomographyNet().eval()
    size = regressor.config.size
    images = torch.rand(2, 1, 1, size, size, generator=torch.Generator().manual_seed(0))
    matcher = KDMambaMatcher({"weights": "kd_mamba_aerial"}).eval()
    for name, network, call in (
        ("kd-mamba", matcher, lambda: matcher({"image0": images[0], "image1": images[1]})),
        (REGRESSOR, regressor, lambda: regressor(images[0], images[1])),
    ):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
        rows.append(
            {
                "what": f"one pass, {size}×{size}",
                "method": name,
                "parameters M": sum(p.numel() for p in network.parameters()) / 1e6,
                "GMACs": counter.get_total_flops() / 2e9,
            }
        )
    return rows


def evaluate(methods: Sequence[str], makers: Makers, weights: Path | None) -> Table:
    """Rows of one pass, and of a pair of unknown heading with all passes that a method makes."""
    table = Table(
        "Cost",
        [
            "GMACs: half of the floating-point operations of torch.utils.flop_counter: matrix products and"
            " convolutions of networks; Fourier transforms and features are not counted",
            f"a pair of unknown heading and scale: mean over {len(makers)} pairs, all passes",
        ],
        ["what", "method", "parameters M", "GMACs"],
    )
    table.rows += single_pass()
    for name in methods:
        if name in NETWORKS:
            method = make_method(name, weights)
            row = {"what": "a pair of unknown heading", "method": name}
            table.rows.append(row | {"GMACs": multiplications(name, method, makers)})
    return table
