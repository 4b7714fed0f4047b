"""The teacher of KD-Mamba: the same matcher with a wider encoder and attention in place of scans.

Self and cross attention run at stride 16, as in coarse-to-fine transformers (LoFTR, Sun et al., CVPR 2021);
the result is added to the features at stride 8. Its interface is that of
:class:`~hloc_ext.models.kd_mamba.KDMamba`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kd_mamba import KDMamba, KDMambaConfig, RMSNorm, upsample


@dataclass(frozen=True)
class TeacherConfig(KDMambaConfig):
    """Size of the teacher; `layers` counts pairs of a self and a cross attention."""

    widths: tuple[int, int, int] = (32, 64, 192)
    blocks: int = 3
    layers: int = 5
    attention_dim: int = 320
    heads: int = 8
    fine_dim: int = 48


class AttentionTeacher(KDMamba):
    """KD-Mamba's interface with attention.

    Args:
        config: sizes.
    """

    config: TeacherConfig

    def __init__(self, config: TeacherConfig | None = None) -> None:
        super().__init__(config or TeacherConfig())

    def _make_layers(self) -> nn.ModuleList:
        return nn.ModuleList([AttentionAtStride16(self.config)])


class AttentionAtStride16(nn.Module):
    """Halve the resolution, attend within and between the images, double the resolution again."""

    def __init__(self, config: TeacherConfig) -> None:
        super().__init__()
        dim, inner = config.widths[2], config.attention_dim
        self.reduce = nn.Conv2d(dim, inner, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([AttentionBlock(inner, config.heads) for _ in range(2 * config.layers)])
        self.restore = nn.Conv2d(inner, dim, 1)
        self.merge = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Update 2B×h×w×D tokens, image 0 of every pair before image 1.

        `mask` is 2B×h×w×1, 0 at missing tokens; None: all exist.
        """
        features = x.permute(0, 3, 1, 2)
        exists = torch.ones_like(features[:, :1]) if mask is None else mask.permute(0, 3, 1, 2)
        reduced = self.reduce(features)
        height, width = reduced.shape[2:]
        tokens = (reduced + sinusoidal_encoding(reduced)).flatten(2).transpose(1, 2)
        keys_exist = exists[:, :, ::2, ::2].flatten(2).bool().unsqueeze(2)  # 2B×1×1×N
        for index, block in enumerate(self.blocks):
            if index % 2 == 0:
                tokens = block(tokens, tokens, keys_exist)
            else:
                tokens = block(tokens, _exchange(tokens), _exchange(keys_exist))
        tokens = tokens.transpose(1, 2).unflatten(2, (height, width))
        attended = upsample(self.restore(tokens) * exists[:, :, ::2, ::2], features.shape[2:])
        return x + (self.merge((features + attended) * exists) * exists).permute(0, 2, 3, 1)


class AttentionBlock(nn.Module):
    """Multi-head attention of tokens to a source, then a feed-forward network; both residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RMSNorm(dim)
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.feed_forward = nn.Sequential(
            RMSNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, x: Tensor, source: Tensor, source_exists: Tensor) -> Tensor:
        """`x`, `source`: 2B×N×D; `source_exists`: 2B×1×1×N bool."""
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = (
            self.key_value(self.norm(source)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=source_exists)
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        return x + self.feed_forward(x)


def sinusoidal_encoding(features: Tensor) -> Tensor:
    """Positions as sines and cosines of wavelengths from 2π to 2π·100 cells: B×D×h×w to 1×D×h×w."""
    dim, height, width = features.shape[1:]
    frequency = torch.exp(-torch.arange(dim // 4, device=features.device) * (math.log(100.0) / (dim // 4)))
    rows, columns = (
        torch.arange(n, device=features.device).unsqueeze(0) * frequency.unsqueeze(1) for n in (height, width)
    )
    rows, columns = torch.cat([rows.sin(), rows.cos()]), torch.cat([columns.sin(), columns.cos()])
    grids = rows.unsqueeze(2).expand(-1, -1, width), columns.unsqueeze(1).expand(-1, height, -1)
    return torch.cat(grids).unsqueeze(0).to(features.dtype)


def _exchange(x: Tensor) -> Tensor:
    first, second = x.chunk(2)
    return torch.cat([second, first])
