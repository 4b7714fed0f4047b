"""Random weights of CrossViT that see something: where no trained ones are at hand.

A transformer with usual random weights sees little but the mean colour of patches, and not where they lie, so
that few pictures teach it next to nothing. Here patches are seen through their whitened principal components
(Coates and Ng, "Learning feature representations with k-means", 2012, section 2), and positions are sines and
cosines (Vaswani et al., NeurIPS 2017), as strong as the patches.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.crossvit import PATCHES, CrossViT

#: Standard deviation of each channel of a patch, and amplitude of the sines of positions.
PATCH_SCALE, POSITION_SCALE = 0.5, 0.35
#: Least variance of a principal component that is whitened, in squares of normalised pixels.
LEAST_VARIANCE = 1e-3


@torch.no_grad()
def start_from_images(network: CrossViT, images: Tensor) -> None:
    """Fit random weights of a student or teacher to pictures.

    Args:
        network: receives the weights of patches and positions.
        images: B×3×H×H, normalised, H a multiple of 60; a hundred or more.
    """
    backbone, images = network.backbone, network.see(images)
    for branch, embedding in enumerate(backbone.patch_embed):
        patch = PATCHES[branch]
        side = images.shape[-1] if branch == 0 else images.shape[-1] * 14 // (15 * patch) * patch
        whiten(embedding.proj, F.interpolate(images, (side, side), mode="bicubic", align_corners=False))
    for branch in range(2):
        positions = getattr(backbone, f"pos_embed_{branch}")
        cells = math.isqrt(positions.shape[1] - 1)
        positions[0, 1:] = POSITION_SCALE * sine_positions(cells, positions.shape[2])


@torch.no_grad()
def whiten(embedding: nn.Conv2d, images: Tensor) -> None:
    """Make a patch embedding see the principal components of patches, all with the same variance."""
    patch, count = embedding.kernel_size[0], embedding.out_channels
    pixels = F.unfold(images, patch, stride=patch).transpose(1, 2).flatten(0, 1).double()
    mean = pixels.mean(0)
    variances, components = torch.linalg.eigh((pixels - mean).T @ (pixels - mean) / len(pixels))
    variances, components = variances[-count:].flip(0), components[:, -count:].flip(1)
    weights = PATCH_SCALE * (components / (variances + LEAST_VARIANCE).sqrt()).T
    embedding.weight.copy_(weights.reshape(embedding.weight.shape))
    assert embedding.bias is not None
    embedding.bias.copy_(-weights @ mean)


def sine_positions(cells: int, dim: int) -> Tensor:
    """Sines and cosines of x and y of the cells of a grid, cells²×dim; wave lengths from 2 cells to 2 grids.

    Args:
        cells: per side.
        dim: a multiple of 4.
    """
    frequencies = math.pi * torch.logspace(0, math.log2(cells), dim // 4, base=2)
    centres = (torch.arange(cells) + 0.5) / cells
    phases = centres[:, None] * frequencies  # cells×dim/4
    waves = torch.cat([phases.sin(), phases.cos()], 1)
    x, y = waves.expand(cells, -1, -1), waves[:, None].expand(-1, cells, -1)
    return torch.cat([x, y], 2).flatten(0, 1)
