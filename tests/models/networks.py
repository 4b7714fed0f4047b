"""Small networks with random weights, and images with texture of several scales."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hloc_ext.models.attention_teacher import AttentionTeacher, TeacherConfig
from hloc_ext.models.kd_mamba import KDMamba, KDMambaConfig

TINY = KDMambaConfig(widths=(8, 16, 32), blocks=1, layers=2, state=8, coarse_dim=24, fine_dim=8)
TINY_TEACHER = TeacherConfig(
    widths=(8, 16, 32), blocks=1, layers=1, attention_dim=32, heads=4, coarse_dim=24, fine_dim=8
)


def tiny_network(kind: str = "kd_mamba", seed: int = 0) -> KDMamba:
    """A network in evaluation mode; normalisations and biases are random too, so that mistakes there show."""
    torch.manual_seed(seed)
    networks = {
        "kd_mamba": lambda: KDMamba(TINY),
        "aerial": lambda: KDMamba(dataclasses.replace(TINY, orientation=True)),
        "teacher": lambda: AttentionTeacher(TINY_TEACHER),
    }
    return randomize(networks[kind](), seed)


def randomize(model: KDMamba, seed: int) -> KDMamba:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.ndim == 1 and not name.startswith(("log_scale", "calibration")):
            noise = 0.2 * torch.randn(tensor.shape, generator=generator)
            tensor.data.add_(noise.abs() if name.endswith("running_var") else noise)
        elif tensor.ndim > 1:  # PyTorch's initial weights let the signal of the image fade
            tensor.data.mul_(2.0)
    nn.init.constant_(model.matchability.bias, 5.0)
    nn.init.constant_(model.log_scale, math.log(30.0))
    return model.eval()


def texture(seed: int, height: int, width: int, batch: int = 1) -> Tensor:
    """Images in [0, 1], B×1×H×W."""
    generator = torch.Generator().manual_seed(seed)
    scales = [s for s in (1, 4, 16) if s <= min(height, width)]
    layers = [torch.rand(batch, 1, height // s, width // s, generator=generator) for s in scales]
    layers = [F.interpolate(layer, (height, width), mode="bilinear") for layer in layers]
    return torch.stack(layers).mean(0)
