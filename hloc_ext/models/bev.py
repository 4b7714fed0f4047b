"""SSA: descriptors of panoramas and tiles, and a bird's-eye view (BEV) of classes drawn from the panorama.

    image ── shared encoder ──> embedding B×D                             (retrieval: this is all)
                 └─ features of a panorama, B×C×H×W
                     ── attention over rows, for each of D distances ──> polar B×C×D×W
                     ── exact resampling ──> Cartesian B×C×S×S
                     ── residual blocks, upsampling ──> logits B×K×L×L

The BEV is that of the tile: north up, the camera at its offset (:mod:`hloc_ext.models.bev_geometry` defines
the frames). Drawing it is an auxiliary task that makes the features of both views agree on where things are
(SSA); it is also what :mod:`hloc_ext.cross_view.pose` finds the camera's pose with. What the published
decoder (taken from GPG2A) does otherwise is told in docs/cross_view.md.

Shapes: B pictures, C channels, K classes, D distances, L or S cells per side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .bev_geometry import HALF_DIAGONAL, polar_to_cartesian
from .cross_view import EncoderConfig, SharedEncoder

_FREQUENCIES = 4  # of the sines that tell the attention in which row it is


@dataclass
class BEVConfig:
    """Sizes of the branch that draws a BEV.

    The picture of classes has ``cells * 2**len(up_widths)`` cells per side, and shows the middle of the tile,
    `extent` of its width. `max_radius` is in widths of what is drawn; cells that are farther from an
    off-centre camera repeat what is seen there.
    """

    width: int = 128  # channels of the polar and the Cartesian features
    groups: int = 4  # of channels that share their attention
    distances: int = 32
    cells: int = 32
    blocks: int = 2
    up_widths: tuple[int, ...] = (64, 32)
    classes: int = 6
    extent: float = 1.0
    max_radius: float = HALF_DIAGONAL

    def __post_init__(self) -> None:
        self.up_widths = tuple(self.up_widths)  # lists of JSON and YAML
        rest = self.size / self.extent - self.size if 0 < self.extent <= 1 else 1.0
        if abs(rest / 2 - round(rest / 2)) > 1e-6:
            raise InputError(
                f"extent={self.extent}: expected a share of the tile such that a whole number of the"
                f" {self.size} cells' widths is left on each side, e.g. 0.5."
            )

    @property
    def size(self) -> int:
        """Cells per side of the logits."""
        return self.cells * 2 ** len(self.up_widths)

    @property
    def label_size(self) -> int:
        """Cells per side of the whole tile, as large as those of the logits."""
        return round(self.size / self.extent)

    def middle(self, tile: Tensor) -> Tensor:
        """What is drawn of maps of whole tiles, …×`label_size`×`label_size` to …×`size`×`size`."""
        start = (self.label_size - self.size) // 2
        return tile[..., start : start + self.size, start : start + self.size]


class PolarAttention(nn.Module):
    """For each column and distance, a weighted mean over the rows of the picture.

    The weights come from a 1×1 convolution of the features and of the rows' places, for each group of
    channels; a learned code of the distance is added.

    Args:
        channels: C.
        distances: D.
        groups: number of groups of channels that share their weights.
    """

    def __init__(self, channels: int, distances: int, groups: int) -> None:
        super().__init__()
        if channels % groups:
            raise InputError(f"BEV: {channels} channels cannot be divided into {groups} groups.")
        self.groups, self.distances = groups, distances
        self.scores = nn.Conv2d(channels + 2 * _FREQUENCIES, groups * distances, 1)
        self.code = nn.Parameter(torch.randn(channels, distances, 1) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """B×C×H×W to B×C×D×W."""
        batch, _, height, width = features.shape
        row = (torch.arange(height, device=features.device) + 0.5) / height * 2 - 1
        phase = row * (math.pi / 2 * 2.0 ** torch.arange(_FREQUENCIES, device=features.device))[:, None]
        place = torch.cat([phase.sin(), phase.cos()]).to(features.dtype)[None, :, :, None]
        scores = self.scores(torch.cat([features, place.expand(batch, -1, -1, width)], 1))
        weights = scores.unflatten(1, (self.groups, self.distances)).softmax(3)  # B×G×D×H×W
        grouped = features.unflatten(1, (self.groups, -1))
        polar = torch.einsum("bgdhw,bgchw->bgcdw", weights, grouped).flatten(1, 2)
        return polar + self.code


class BEVHead(nn.Module):
    """Feature maps of a panorama to logits of the classes of its tile.

    Args:
        channels: of each feature map.
        config: sizes.
    """

    def __init__(self, channels: Sequence[int], config: BEVConfig) -> None:
        super().__init__()
        self.config = config
        self.reduce = nn.ModuleList(nn.Conv2d(number, config.width, 1) for number in channels)
        self.norm = _norm(config.width)
        self.attention = PolarAttention(config.width, config.distances, config.groups)
        self.blocks = nn.Sequential(*(_Residual(config.width) for _ in range(config.blocks)))
        widths = [config.width, *config.up_widths]
        self.up = nn.ModuleList(_Up(*pair) for pair in pairwise(widths))
        self.classify = nn.Conv2d(widths[-1], config.classes, 1)

    def forward(
        self,
        features: Sequence[Tensor],
        offset: Tensor | None = None,
        fov: float = 360.0,
        heading: Tensor | None = None,
    ) -> Tensor:
        """Draw the BEV.

        Args:
            features: B×C×H×W maps of one picture at several scales, the finest first.
            offset: B×2 of the camera in its tile, see :mod:`~hloc_ext.models.bev_geometry`; None: in its
                centre.
            fov: degrees that the picture's columns cover.
            heading: (B,) azimuth of its centre column, degrees; None: 0.

        Returns:
            B×K×L×L.
        """
        finest = features[0].shape[-2:]
        maps = [reduce(map_) for reduce, map_ in zip(self.reduce, features, strict=True)]
        fused = maps[0]
        for map_ in maps[1:]:
            fused = fused + F.interpolate(map_, finest, mode="bilinear", align_corners=False)
        polar = self.attention(F.gelu(self.norm(fused)))
        if offset is not None:
            offset = offset / self.config.extent
        x = polar_to_cartesian(polar, self.config.cells, offset, self.config.max_radius, fov, heading)
        x = self.blocks(x)
        for stage in self.up:
            x = stage(x)
        return self.classify(x)


@dataclass
class SSAConfig:
    """Sizes of an :class:`SSANetwork`.

    Attributes:
        encoder: shared by both views.
        bev: of the branch that draws.
        strides: of the encoder's feature maps that it draws from, the finest first.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    bev: BEVConfig = field(default_factory=BEVConfig)
    strides: tuple[int, ...] = (8, 16)

    def __post_init__(self) -> None:
        self.strides = tuple(self.strides)  # lists of JSON and YAML
        if isinstance(self.encoder, dict):
            self.encoder = EncoderConfig(**self.encoder)
        if isinstance(self.bev, dict):
            self.bev = BEVConfig(**self.bev)


class SSANetwork(nn.Module):
    """One encoder for both views, and the branch that draws a BEV from panoramas.

    Args:
        config: sizes.
        pretrained: start from the backbone's public weights (timm downloads them).

    Raises:
        InputError: no such backbone, or it has no features of the strides.
    """

    def __init__(self, config: SSAConfig | None = None, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config or SSAConfig()
        self.encoder = SharedEncoder(self.config.encoder, pretrained)
        strides, channels = self.encoder.levels
        missing = set(self.config.strides) - set(strides)
        if missing or not self.config.strides:
            raise InputError(
                f"strides={list(self.config.strides)}: {self.config.encoder.backbone} has features of the"
                f" strides {strides}."
            )
        self._levels = [strides.index(stride) for stride in self.config.strides]
        self.head = BEVHead([channels[level] for level in self._levels], self.config.bev)

    @property
    def embedding_dim(self) -> int:
        """Size D of an embedding."""
        return self.encoder.embedding_dim

    def forward(self, image: Tensor, view: str) -> Tensor:
        """Unit B×D embeddings of B×3×H×W images, as :meth:`~hloc_ext.models.cross_view.Encoder.forward`."""
        return self.encoder(image, view)

    def describe_and_draw(
        self, ground: Tensor, offset: Tensor | None = None, heading: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Describe panoramas or photos, and draw what is around them.

        Args:
            ground: B×3×H×W, RGB normalised by ImageNet's mean and standard deviation. Its shape tells the
                field of view.
            offset: B×2, where the cameras stand in their tiles: east and south of the centre, in widths of
                the tile. None: in the centre.
            heading: (B,) azimuth of the centre columns, degrees clockwise from north. None: 0. Without both
                the BEV is that around the camera, forward up.

        Returns:
            B×D embeddings of unit length; B×K×L×L logits of the classes.
        """
        last, maps = self.encoder.maps(ground, "ground")
        fov = self.encoder.field_of_view(ground, "ground")
        logits = self.head([maps[level] for level in self._levels], offset, fov, heading)
        return self.encoder.embed(last, "ground", fov), logits

    def bev(self, ground: Tensor, offset: Tensor | None = None, heading: Tensor | None = None) -> Tensor:
        """B×K×L×L logits of :meth:`describe_and_draw`."""
        return self.describe_and_draw(ground, offset, heading)[1]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _norm(width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            _norm(width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class _Up(nn.Module):
    """Twice as many cells per side."""

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, to, 1)
        self.block = _Residual(to)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(self.reduce(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.block(x)


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, width), width)
