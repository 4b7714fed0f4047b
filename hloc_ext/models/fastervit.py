"""FasterViT: convolutions at high resolution, windowed attention with carrier tokens at low resolution.

    image ── stem /4 ──> conv blocks ──/8──> conv blocks ──/16──> windows + carrier tokens ──/32──> windows
          ── BatchNorm ──> features B×C×h×w ── mean ──> B×C

Hatamizadeh et al., "FasterViT: Fast Vision Transformers with Hierarchical Attention", ICLR 2024. Written from
the facts of the paper; the official code and weights are for non-commercial use and are not needed here.
Unlike theirs, this network takes images of any size: windows are as equal as they can be, at most `window`
cells a side, so that 14×77 cells of a panorama are 2×11 windows of 7×7, and cells that are added to fill the
last windows are not attended to.

Shapes: B images, C channels, h×w cells, n×m windows of a×b cells, T tokens of a window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError

_BIAS_RANGE = 8.0  # relative positions are spread over ±8 before their logarithm is taken
_BIAS_SCALE = 16.0  # the largest bias of an attention score
STRIDES = (4, 8, 16, 32)  # pixels per cell after the stem and each of the three downsamplings


@dataclass(frozen=True)
class FasterViTConfig:
    """Size of the network; the values are those of FasterViT-0 (31.4 M parameters with a head of 1000).

    Attributes:
        stem_dim: channels of the stem's first convolution.
        dims: channels of the four stages.
        depths: blocks of the four stages; the first two are convolutions, the others attention.
        heads: heads of attention of the last two stages.
        window: cells per side of a window, at most.
        carriers: carrier tokens per side of a window in stage 3.
        mlp_ratio: hidden channels of the feed-forward networks per channel.
        position_hidden: width of the networks that turn positions into embeddings and biases.
        drop_path: rate of stochastic depth in the last block; it grows linearly from 0 in the first.
        num_classes: outputs of a linear head; 0: none.
        stages: how many of the four there are; with 3 the last features have 16 pixels per cell.
    """

    stem_dim: int = 64
    dims: tuple[int, int, int, int] = (64, 128, 256, 512)
    depths: tuple[int, int, int, int] = (2, 3, 6, 5)
    heads: tuple[int, int] = (8, 16)
    window: int = 7
    carriers: int = 2
    mlp_ratio: float = 4.0
    position_hidden: int = 512
    drop_path: float = 0.2
    num_classes: int = 0
    stages: int = 4


_SMALL: dict[str, Any] = {"position_hidden": 64, "drop_path": 0.0}
#: Named sizes. All but the first are ours, for processors.
VARIANTS: dict[str, FasterViTConfig] = {
    "fastervit_0": FasterViTConfig(),
    "fastervit_tiny": FasterViTConfig(32, (32, 64, 128, 256), (1, 2, 4, 2), (4, 8), drop_path=0.1),
    "fastervit_micro": FasterViTConfig(16, (16, 32, 64, 128), (1, 2, 3, 2), (2, 4), **_SMALL),
    "fastervit_nano": FasterViTConfig(8, (12, 24, 48, 96), (1, 1, 3, 2), (2, 4), **_SMALL),
}


class FasterViT(nn.Module):
    """The network.

    Args:
        config: sizes.

    Raises:
        InputError: channels that the heads do not divide, or a number of stages other than 3 and 4.
    """

    def __init__(self, config: FasterViTConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FasterViTConfig()
        if any(dim % heads for dim, heads in zip(config.dims[2:], config.heads, strict=True)):
            raise InputError(f"FasterViT: heads {config.heads} do not divide channels {config.dims[2:]}.")
        if config.stages not in (3, 4):
            raise InputError(f"FasterViT has 3 or 4 stages, not {config.stages}.")
        dims, depths = config.dims[: config.stages], config.depths[: config.stages]
        steps = max(1, sum(depths) - 1)
        rates = [config.drop_path * block / steps for block in range(sum(depths))]
        ends = list(itertools.accumulate(depths))
        drops = [rates[end - depth : end] for end, depth in zip(ends, depths, strict=True)]
        self.stem = nn.Sequential(
            nn.Conv2d(3, config.stem_dim, 3, 2, 1, bias=False),
            nn.BatchNorm2d(config.stem_dim, eps=1e-4),
            nn.ReLU(),
            nn.Conv2d(config.stem_dim, dims[0], 3, 2, 1, bias=False),
            nn.BatchNorm2d(dims[0], eps=1e-4),
            nn.ReLU(),
        )
        stages: list[nn.Module] = [
            nn.Sequential(*(ConvBlock(dim, rate) for rate in drop))
            for dim, drop in zip(dims[:2], drops[:2], strict=True)
        ]
        carriers = (config.carriers, 0)
        attention = zip(dims[2:], config.heads, drops[2:], carriers, strict=False)  # may lack the last stage
        stages += [WindowStage(*sizes, config) for sizes in attention]
        self.stages = nn.ModuleList(stages)
        self.downsamples = nn.ModuleList(Downsample(*pair) for pair in itertools.pairwise(dims))
        self.norm = nn.BatchNorm2d(dims[-1])
        self.head = nn.Linear(dims[-1], config.num_classes) if config.num_classes else nn.Identity()
        self.apply(_initialise)

    @property
    def num_features(self) -> int:
        """Channels of the last features."""
        return self.config.dims[self.config.stages - 1]

    def forward_intermediates(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """All feature maps of B×3×H×W images, ImageNet-normalised.

        Returns:
            The last one, normalised, B×C×⌈H/32⌉×⌈W/32⌉ (of three stages: /16); and the output of each stage,
            by :data:`STRIDES`.
        """
        x = self.stem(image)
        maps: list[Tensor] = []
        for number, stage in enumerate(self.stages):
            if number:
                x = self.downsamples[number - 1](x)
            x = stage(x)
            maps.append(x)
        return self.norm(x), maps

    def forward_features(self, image: Tensor) -> Tensor:
        """Last features of B×3×H×W images, as :meth:`forward_intermediates`."""
        return self.forward_intermediates(image)[0]

    def forward_head(self, features: Tensor) -> Tensor:
        """Mean of B×C×h×w features, and the linear head if there is one: B×C."""
        return self.head(features.mean((2, 3)))

    def forward(self, image: Tensor) -> Tensor:
        """Pooled features (or outputs of the head) of B×3×H×W images: B×C."""
        return self.forward_head(self.forward_features(image))


class ConvBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation and a residual connection, B×C×h×w to the same."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(dim, dim, 3, 1, 1), nn.BatchNorm2d(dim)
        self.conv2, self.norm2 = nn.Conv2d(dim, dim, 3, 1, 1), nn.BatchNorm2d(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """B×C×h×w to the same."""
        inner = F.gelu(self.norm1(self.conv1(x)))
        return x + self.drop_path(self.norm2(self.conv2(inner)))


class Downsample(nn.Module):
    """Normalisation over channels, then a convolution that halves the resolution."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.reduction = nn.Conv2d(dim, out_dim, 3, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """B×C×h×w to B×D×⌈h/2⌉×⌈w/2⌉."""
        return self.reduction(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class WindowStage(nn.Module):
    """Blocks of attention within windows, which carrier tokens connect if there are any.

    Args:
        dim: channels.
        heads: of attention.
        drops: rates of stochastic depth of the blocks.
        carriers: carrier tokens per side of a window; 0: none.
        config: sizes.
    """

    def __init__(
        self, dim: int, heads: int, drops: Sequence[float], carriers: int, config: FasterViTConfig
    ) -> None:
        super().__init__()
        self.window, self.carriers = config.window, carriers
        self.to_carriers = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim) if carriers else None
        kind = HierarchicalBlock if carriers else WindowBlock
        self.blocks = nn.ModuleList(kind(dim, heads, config, rate) for rate in drops)

    def forward(self, x: Tensor) -> Tensor:
        """B×C×h×w to the same."""
        height, width = x.shape[2:]
        grid = Windows(height, width, self.window)
        mask = grid.padding_mask(x.device)
        carriers = None
        if self.to_carriers is not None:
            size = (grid.rows * self.carriers, grid.columns * self.carriers)
            carriers = F.adaptive_avg_pool2d(self.to_carriers(x), size)  # B×C×(n·c)×(m·c)
            carriers = carriers.permute(0, 2, 3, 1)
        tokens = grid.split(x)  # B×nm×ab×C
        for block in self.blocks:
            tokens, carriers = block(tokens, carriers, grid, mask)
        return grid.join(tokens)


class Windows:
    """Cells of a map in windows, as equal as they can be, at most `window` cells a side.

    Args:
        height, width: cells of the map.
        window: cells per side, at most.

    Attributes:
        rows, columns: number of windows, n and m.
        side: cells of a window, (a, b).
    """

    def __init__(self, height: int, width: int, window: int) -> None:
        self.height, self.width = height, width
        self.rows, self.columns = math.ceil(height / window), math.ceil(width / window)
        self.side = (math.ceil(height / self.rows), math.ceil(width / self.columns))
        self.padding = (self.rows * self.side[0] - height, self.columns * self.side[1] - width)

    def split(self, x: Tensor) -> Tensor:
        """B×C×h×w to tokens B×nm×ab×C; cells beyond the map are 0."""
        x = F.pad(x, (0, self.padding[1], 0, self.padding[0]))
        x = x.unflatten(3, (self.columns, self.side[1])).unflatten(2, (self.rows, self.side[0]))
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)

    def join(self, tokens: Tensor) -> Tensor:
        """The inverse: B×nm×ab×C to B×C×h×w."""
        x = tokens.unflatten(1, (self.rows, self.columns)).unflatten(3, self.side)
        x = x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return x[:, :, : self.height, : self.width]

    def padding_mask(self, device: torch.device) -> Tensor | None:
        """Which tokens of each window are cells of the map, nm×ab bool; None if all are."""
        if self.padding == (0, 0):
            return None
        inside = torch.ones(1, 1, self.height, self.width, device=device)
        return self.split(inside)[0, :, :, 0] > 0


class WindowBlock(nn.Module):
    """Attention within windows and a feed-forward network, with positions added first."""

    def __init__(self, dim: int, heads: int, config: FasterViTConfig, drop_path: float) -> None:
        super().__init__()
        self.position = PositionEmbedding(dim, config.position_hidden)
        self.block = TransformerBlock(dim, heads, config, drop_path)
        self.window = config.window

    def add_position(self, tokens: Tensor, grid: Windows) -> Tensor:
        """Tokens B×nm×ab×C with the embedding of their place in the window."""
        return tokens + self.position(grid.side, (self.window - 1) / 2)

    def forward(
        self, tokens: Tensor, carriers: Tensor | None, grid: Windows, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens B×nm×ab×C to the same; carriers are passed on."""
        bias = self.block.attention.bias(grid.side, self.window - 1)
        return self.block(self.add_position(tokens, grid), _with_padding(bias, mask, 0)), carriers


class HierarchicalBlock(WindowBlock):
    """The same, after attention among the carrier tokens of all windows; a window sees its own carriers."""

    def __init__(self, dim: int, heads: int, config: FasterViTConfig, drop_path: float) -> None:
        super().__init__(dim, heads, config, drop_path)
        self.carrier_position = PositionEmbedding(dim, config.position_hidden)
        self.carrier_block = TransformerBlock(dim, heads, config, drop_path)

    def forward(
        self, tokens: Tensor, carriers: Tensor | None, grid: Windows, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens B×nm×ab×C and carriers B×nc×mc×C to the same."""
        assert carriers is not None
        size = (carriers.shape[1], carriers.shape[2])
        flat = carriers.flatten(1, 2) + self.carrier_position(size, None)
        # Their biases span the whole grid, whatever its size.
        flat = self.carrier_block(flat, self.carrier_block.attention.bias(size, None))
        per_window = _carriers_by_window(flat.unflatten(1, size), grid)  # B×nm×cc×C
        count = per_window.shape[2]
        tokens = torch.cat([per_window, self.add_position(tokens, grid)], 2)
        bias = self.block.attention.bias(grid.side, self.window - 1)
        tokens = self.block(tokens, _with_padding(F.pad(bias, (count, 0, count, 0)), mask, count))
        return tokens[:, :, count:], _carriers_of_map(tokens[:, :, :count], grid)


class TransformerBlock(nn.Module):
    """Self attention and feed-forward network, both normalised first and residual."""

    def __init__(self, dim: int, heads: int, config: FasterViTConfig, drop_path: float) -> None:
        super().__init__()
        hidden = int(dim * config.mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, config.position_hidden)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Tokens B×…×T×C to the same; `bias` …×heads×T×T is added to the scores."""
        x = x + self.drop_path(self.attention(self.norm1(x), bias))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    """Multi-head attention with a bias that a small network makes of relative positions (as Swin V2)."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.position = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, heads, bias=False))

    def bias(self, side: tuple[int, int], reach: int | None) -> Tensor:
        """Biases of the scores among a×b cells, heads×ab×ab, in (0, 16).

        Args:
            side: (a, b).
            reach: distance in cells that counts as the end of the scale; None: the side of the grid.
        """
        device = self.qkv.weight.device
        axes = []
        for count in side:
            relative = torch.arange(1 - count, count, device=device, dtype=torch.float32)
            scaled = relative / max(1, count - 1 if reach is None else reach) * _BIAS_RANGE
            axes.append(scaled.sign() * torch.log2(scaled.abs() + 1) / math.log2(_BIAS_RANGE))
        table = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)  # (2a-1)×(2b-1)×2
        values = _BIAS_SCALE * torch.sigmoid(self.position(table))
        rows, columns = (torch.arange(count, device=device) for count in side)
        row = (rows[:, None] - rows + side[0] - 1)[:, None, :, None]
        column = (columns[:, None] - columns + side[1] - 1)[None, :, None, :]
        biases = values[row, column]  # a×b×a×b×heads
        return biases.permute(4, 0, 1, 2, 3).flatten(3, 4).flatten(1, 2)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Tokens B×…×T×C to the same."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(-4, -2).unbind(-3)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query))
        return self.proj(found.transpose(-3, -2).flatten(-2))


class PositionEmbedding(nn.Module):
    """Embeddings of the cells of a grid by a small network of their coordinates."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, dim, bias=False))

    def forward(self, side: tuple[int, int], half: float | None) -> Tensor:
        """Embeddings of a×b cells, ab×C.

        Args:
            side: (a, b).
            half: cells from the centre that count as 1; None: half of the grid's side.
        """
        device = next(self.parameters()).device
        axes = [
            (torch.arange(count, device=device, dtype=torch.float32) - (count - 1) / 2)
            / max(0.5, count / 2 if half is None else half)
            for count in side
        ]
        return self.network(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1))


class DropPath(nn.Module):
    """Stochastic depth: in training, the branch of an image is left out at the given rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Values B×… of a branch, scaled so that their expectation stays."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[:1] + (1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * keep.to(x) / (1 - self.rate)


def _carriers_by_window(carriers: Tensor, grid: Windows) -> Tensor:
    """Carriers of the map, B×nc×mc×C, to those of each window, B×nm×cc×C."""
    x = carriers.unflatten(2, (grid.columns, -1)).unflatten(1, (grid.rows, -1))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _carriers_of_map(carriers: Tensor, grid: Windows) -> Tensor:
    """The inverse: B×nm×cc×C to B×nc×mc×C."""
    side = math.isqrt(carriers.shape[2])
    x = carriers.unflatten(1, (grid.rows, grid.columns)).unflatten(3, (side, side))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _with_padding(bias: Tensor, mask: Tensor | None, carriers: int) -> Tensor:
    """Biases heads×T×T with minus infinity at cells beyond the map: nm×heads×T×T."""
    if mask is None:
        return bias
    keys = F.pad(mask, (carriers, 0), value=True)
    # A window has at least one cell of the map, since windows are as equal as they can be.
    return bias.masked_fill(~keys[:, None, None], -torch.inf)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
