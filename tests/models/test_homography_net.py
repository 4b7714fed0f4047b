from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hloc_ext.models.homography_net import (
    HomographyNet,
    HomographyNetConfig,
    control_points,
    homography_from_points,
)
from hloc_ext.models.kd_mamba import KDMAMBA_CONFIGS, KDMamba

TINY = HomographyNetConfig(64, (8, 8, 16), 16, 0.0)


def test_untrained_it_is_the_identity() -> None:
    network = HomographyNet(TINY).eval()
    points = network(torch.rand(2, 1, 64, 64), torch.rand(2, 1, 64, 64))
    np.testing.assert_allclose(points.detach(), control_points(64).expand(2, 4, 2))
    assert control_points(64).tolist() == [[0, 0], [56, 0], [56, 56], [0, 56]]


def test_contrast_and_brightness_do_not_count() -> None:
    torch.manual_seed(0)
    network = HomographyNet(TINY).eval()
    torch.nn.init.normal_(network.head[-1].weight, std=50.0)
    image0, image1 = torch.rand(2, 1, 1, 64, 64)
    expected = network(image0, image1)
    changed = (network(0.4 * image0 + 0.3, image1) - expected).abs().max()
    exchanged = (network(image1, image0) - expected).abs().max()
    assert changed < 0.2 * exchanged


def test_four_points_make_a_homography() -> None:
    truth = torch.tensor([[1.1, 0.1, 4], [-0.05, 0.9, -2], [1e-3, 5e-4, 1]], dtype=torch.float64)
    points0 = control_points(160).double()
    mapped = torch.cat([points0, torch.ones(4, 1)], 1) @ truth.T
    points1 = mapped[:, :2] / mapped[:, 2:]
    found = homography_from_points(points0[None], points1[None])
    torch.testing.assert_close(found[0], truth, atol=1e-9, rtol=0)
    line = torch.tensor([[[0.0, 0], [1, 0], [2, 0], [3, 0]]])
    assert torch.isnan(homography_from_points(line, points1[None].float())).any()


def macs(network: torch.nn.Module, size: int) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(torch.rand(1, 1, size, size), torch.rand(1, 1, size, size))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("size", [160, 256])
def test_it_costs_more_than_kd_mamba(size: int) -> None:
    """The yardstick of cost: KD-Mamba needs at most 60 % of its multiplications."""
    torch.manual_seed(0)
    ours = macs(KDMamba(KDMAMBA_CONFIGS["aerial"]), size)
    assert macs(HomographyNet(HomographyNetConfig(size)), size) >= 1.67 * ours
