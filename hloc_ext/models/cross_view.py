"""Networks of cross-view localisation: a panorama and a satellite tile to descriptors that can be compared.

    SharedEncoder   one backbone for both views (Sample4Geo, Deuser et al., ICCV 2023): the teacher
    StudentPair     two independent encoders, one per view (Distill4Geo)

    image B×3×H×W ── backbone ──> features B×C×h×w ── pooling ──> embedding B×D of unit length
        pooling mean    the backbone's own: mean of the features (and its LayerNorm, if it has one); published
        pooling polar   features by direction: D = sectors × channels, the sectors from south over west, north
                        and east back to south; needs to know (or to try) headings, and cameras at the centre
                        of their tile

All backbones take images of any size. `view` is ``ground`` (panoramas, north at the centre column, azimuth
clockwise to the right) or ``aerial`` (tiles, north up). A ground image that is narrower than the panoramas of
the configuration is a part of one, of which its width tells the field of view.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..compat import allow_cpu_torchvision
from ..errors import InputError
from .fastervit import STRIDES, VARIANTS, FasterViT

VIEWS = ("ground", "aerial")
POOLINGS = ("mean", "polar")
#: Backbone of Sample4Geo's public weights.
SAMPLE4GEO_BACKBONE = "convnext_base.fb_in22k_ft_in1k_384"


@dataclass
class EncoderConfig:
    """An encoder; the values are those of Sample4Geo on CVUSA and CVACT.

    Attributes:
        backbone: a name of timm, or of :data:`~hloc_ext.models.fastervit.VARIANTS` (``fastervit_0``…).
        embedding_dim: size D of an embedding; 0: that of the backbone's features (pooling
            ``mean``) or of the teacher.
        pooling: ``mean`` or ``polar``.
        sectors: directions of ``polar`` pooling; a power of two suits all fields of view.
        ground_size, aerial_size: (height, width) in pixels of the images that the weights are made for;
            others are taken, too.
        stride: pixels per cell of the features that ``polar`` pools, 16 or 32; with 16 the backbone has no
            last stage.
        aerial_crop: part of a tile's width, around its centre, that is looked at: what a camera sees there.
        unroll: the backbone sees a tile unrolled around its centre, in the shape of a panorama.
        drop_path: rate of stochastic depth, where the backbone knows it.
    """

    backbone: str = SAMPLE4GEO_BACKBONE
    embedding_dim: int = 0
    pooling: str = "mean"
    sectors: int = 16
    ground_size: tuple[int, int] = (140, 768)
    aerial_size: tuple[int, int] = (384, 384)
    stride: int = 32
    aerial_crop: float = 1.0
    unroll: bool = False
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        for name in ("ground_size", "aerial_size"):
            setattr(self, name, tuple(getattr(self, name)))  # a list of JSON or YAML
        if not 0 < self.aerial_crop <= 1:
            raise InputError(f"aerial_crop is {self.aerial_crop}: expected a share of the tile, up to 1.")
        if self.pooling not in POOLINGS:
            raise InputError(f"pooling is {self.pooling!r}: expected one of {POOLINGS}.")


class Encoder(nn.Module):
    """Backbone and pooling for the given views.

    Args:
        config: sizes and kinds.
        views: which of :data:`VIEWS` it takes.
        pretrained: start from the backbone's public weights (timm downloads them).

    Raises:
        InputError: no such backbone, or its features do not fit.
    """

    def __init__(self, config: EncoderConfig, views: Sequence[str] = VIEWS, pretrained: bool = False) -> None:
        super().__init__()
        self.config, self.views = config, tuple(views)
        self.backbone = build_backbone(config, pretrained)
        if len(self.views) > 1:
            _norms_per_view(self.backbone, self.views)
        self.projection: nn.Module = nn.Identity()
        if config.pooling == "polar":
            if config.embedding_dim == 0 or config.embedding_dim % config.sectors:
                raise InputError(
                    f"Polar pooling needs an embedding_dim that is a multiple of its {config.sectors}"
                    f" sectors, got {config.embedding_dim}."
                )
            channels = dict(zip(*self.levels, strict=True))
            if config.stride not in channels:
                raise InputError(f"{config.backbone} has no features of stride {config.stride}: {channels}.")
            self.projection = PolarPooling(
                channels[config.stride],
                config.embedding_dim,
                config.sectors,
                self._cells(),
                () if config.unroll else ("aerial",),
            )
        elif config.embedding_dim:
            self.projection = nn.Linear(self.backbone.num_features, config.embedding_dim)

    @property
    def embedding_dim(self) -> int:
        """Size D of an embedding."""
        return self.config.embedding_dim or int(self.backbone.num_features)

    @property
    def levels(self) -> tuple[list[int], list[int]]:
        """Strides and channels of the feature maps of the backbone, from fine to coarse."""
        if isinstance(self.backbone, FasterViT):
            stages = self.backbone.config.stages
            return list(STRIDES[:stages]), list(self.backbone.config.dims[:stages])
        info = _feature_info(self.backbone)
        return [level["reduction"] for level in info], [level["num_chs"] for level in info]

    def maps(self, image: Tensor, view: str) -> tuple[Tensor, list[Tensor]]:
        """Last features B×C×h×w of images, and the feature maps of all :attr:`levels`."""
        self._select(view)
        if view == "aerial":
            image = self._around_centre(image)
        return self.backbone.forward_intermediates(image)

    def embed(self, last: Tensor, view: str, fov: float = 360.0) -> Tensor:
        """Unit B×D embeddings of the last features of :meth:`maps`.

        They are made in the precision of the weights: bfloat16 would show in the ranks of near neighbours.

        Args:
            last: B×C×h×w.
            view: ``ground`` or ``aerial``.
            fov: horizontal field of view of ground images in degrees, centred on the north column.
        """
        polar = isinstance(self.projection, PolarPooling)
        pooled = last if polar else self.backbone.forward_head(last)
        with torch.autocast(last.device.type, enabled=False):
            pooled = pooled.to(next(self.parameters()).dtype)
            found = self.projection(pooled, view, fov) if polar else self.projection(pooled)
            return F.normalize(found, dim=1)

    def forward(self, image: Tensor, view: str) -> Tensor:
        """Describe images.

        Args:
            image: B×3×H×W, RGB normalised by ImageNet's mean and standard deviation.
            view: ``ground`` or ``aerial``.

        Returns:
            B×D, of unit length.

        Raises:
            InputError: not such images, or a view that the encoder does not take.
        """
        return self.embed(self.maps(image, view)[0], view, self.field_of_view(image, view))

    def forward_with_map(self, image: Tensor, view: str, stride: int = 16) -> tuple[Tensor, Tensor]:
        """Unit B×D embeddings of images, and their features of a stride, B×C×H/stride×W/stride.

        Raises:
            InputError: as :meth:`forward`, or no features of this stride.
        """
        last, maps = self.maps(image, view)
        strides = self.levels[0]
        if stride not in strides:
            raise InputError(f"{self.config.backbone} has features of strides {strides}, none of {stride}.")
        return self.embed(last, view, self.field_of_view(image, view)), maps[strides.index(stride)]

    def map_channels(self, stride: int = 16) -> int:
        """Channels of the features of :meth:`forward_with_map`."""
        return dict(zip(*self.levels, strict=True))[stride]

    def field_of_view(self, image: Tensor, view: str) -> float:
        """Degrees that ground images span: 360 at the configured shape, less if they are narrower."""
        if view != "ground":
            return 360.0
        height, width = self.config.ground_size
        return min(360.0, 360.0 * (image.shape[3] / image.shape[2]) / (width / height))

    def _around_centre(self, tile: Tensor) -> Tensor:
        """What the backbone sees of B×3×H×W tiles: the part around the centre, unrolled if so configured."""
        crop = self.config.aerial_crop
        if self.config.unroll:
            rows, columns = self.config.ground_size
            # The farthest row comes first, as the horizon of a panorama is above the ground nearby.
            grid = crop * polar_grid(rows, columns).flip(1).to(tile)
            return F.grid_sample(tile, grid.expand(len(tile), -1, -1, -1), align_corners=False)
        if crop == 1:
            return tile
        height, width = (max(1, round(side * crop)) for side in tile.shape[2:])
        top, left = (tile.shape[2] - height) // 2, (tile.shape[3] - width) // 2
        return tile[:, :, top : top + height, left : left + width]

    def _select(self, view: str) -> None:
        if view not in self.views:
            raise InputError(f"The network describes the views {self.views}, not {view!r}.")
        for module in self.modules():
            if isinstance(module, NormPerView):
                module.view = view

    def _cells(self) -> dict[str, int]:
        """Rows of features of the views: those of a panorama, and from the centre of a tile to its edge."""
        config = self.config
        panorama = max(1, round(config.ground_size[0] / config.stride))
        tile = max(1, round(config.aerial_crop * config.aerial_size[0] / (2 * config.stride)))
        rows = {"ground": panorama, "aerial": panorama if config.unroll else tile}
        return {view: rows[view] for view in self.views}


class SharedEncoder(Encoder):
    """One set of weights for both views; only the statistics of batch normalisation are kept per view.

    Args:
        config: sizes and kinds.
        pretrained: start from the backbone's public weights (timm downloads them).
    """

    def __init__(self, config: EncoderConfig | None = None, pretrained: bool = False) -> None:
        super().__init__(config or EncoderConfig(), VIEWS, pretrained)


class StudentPair(nn.Module):
    """Independent encoders of the views, which share nothing but the space that they describe images in.

    Args:
        configs: of each view; a pair may have one view only.
        pretrained: start from the backbones' public weights.

    Raises:
        InputError: no view, or embeddings of different sizes.
    """

    def __init__(self, configs: dict[str, EncoderConfig], pretrained: bool = False) -> None:
        super().__init__()
        if not configs or not configs.keys() <= set(VIEWS):
            raise InputError(f"Students of the views {sorted(configs)}: expected one or both of {VIEWS}.")
        self.encoders = nn.ModuleDict(
            {view: Encoder(configs[view], (view,), pretrained) for view in VIEWS if view in configs}
        )
        if len({self.encoder(view).embedding_dim for view in self.views}) > 1:
            raise InputError("The students' embeddings differ in size: set embedding_dim of both.")

    @property
    def views(self) -> tuple[str, ...]:
        """Views that it describes."""
        return tuple(self.encoders)

    @property
    def embedding_dim(self) -> int:
        """Size D of an embedding."""
        return self.encoder(self.views[0]).embedding_dim

    def encoder(self, view: str) -> Encoder:
        """The student of a view.

        Raises:
            InputError: there is none.
        """
        if view not in self.encoders:
            raise InputError(f"The students describe the views {self.views}, not {view!r}.")
        encoder = self.encoders[view]
        assert isinstance(encoder, Encoder)
        return encoder

    def forward(self, image: Tensor, view: str) -> Tensor:
        """Unit B×D embeddings of B×3×H×W images of a view, as :meth:`Encoder.forward`."""
        return self.encoder(view)(image, view)


class PolarPooling(nn.Module):
    """Features by direction, the same for a panorama and for the tile around it.

    A panorama's columns are averaged over the sectors that they cover. A tile is sampled along rays from its
    centre. Rows (of the panorama; by elevation) and rings (of the tile; by distance) are then reduced by
    weights of their own, which both views need, for they do not correspond one to one. Sectors outside the
    field of view are 0.

    Args:
        channels: of the features.
        embedding_dim: D; each sector has D / sectors channels.
        sectors: number of directions S.
        rows: rows (or rings) of features of each view that it takes; maps of other sizes are resampled.
        round_views: views whose features are those of tiles; the others have columns by azimuth.
    """

    def __init__(
        self,
        channels: int,
        embedding_dim: int,
        sectors: int,
        rows: dict[str, int],
        round_views: Iterable[str] = ("aerial",),
    ) -> None:
        super().__init__()
        self.sectors, self.rows, self.round_views = sectors, rows, frozenset(round_views)
        out = embedding_dim // sectors
        self.reduce = nn.ModuleDict(
            {view: nn.Conv2d(channels, out, (count, 1)) for view, count in rows.items()}
        )

    def forward(self, features: Tensor, view: str, fov: float) -> Tensor:
        """Features B×C×h×w of a view to B×D, channel by channel; `fov` in degrees."""
        if view not in self.round_views:
            weights = sector_weights(features.shape[3], self.sectors, fov).to(features)
            rows = F.adaptive_avg_pool2d(features, (self.rows[view], features.shape[3]))
            seen = (weights.sum(0) > 0).to(features)
            return (self.reduce[view](rows @ weights) * seen).flatten(1)
        grid = polar_grid(self.rows[view], self.sectors).to(features).expand(len(features), -1, -1, -1)
        rings = F.grid_sample(features, grid, padding_mode="border", align_corners=False)
        return self.reduce[view](rings).flatten(1)


class NormPerView(nn.Module):
    """Batch normalisation with parameters and statistics of its own for each view.

    Batches hold one view each, so that with common statistics a network would be evaluated with others than
    it was trained with (domain-specific batch normalisation, Chang et al., CVPR 2019).

    Args:
        norm: the layer that is replaced; each view starts from a copy.
        views: their names.
    """

    def __init__(self, norm: nn.Module, views: Sequence[str]) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({view: copy.deepcopy(norm) for view in views})
        self.view = views[0]

    def forward(self, x: Tensor) -> Tensor:
        """B×C×h×w of the view that was chosen to the same."""
        return self.norms[self.view](x)


def sector_weights(columns: int, sectors: int, fov: float = 360.0) -> Tensor:
    """Weights that average the columns of an image over sectors of azimuth.

    Args:
        columns: W of the image, whose centre looks north.
        sectors: S; sector s spans azimuths from -180 + 360 s / S degrees.
        fov: degrees that the image spans.

    Returns:
        W×S, columns that sum to 1, or to 0 where the image covers less than half of the sector.
    """
    edges = (torch.arange(columns + 1, dtype=torch.float64) / columns - 0.5) * fov
    bounds = (torch.arange(sectors + 1, dtype=torch.float64) / sectors - 0.5) * 360.0
    low = torch.maximum(edges[:-1, None], bounds[None, :-1])
    high = torch.minimum(edges[1:, None], bounds[None, 1:])
    overlap = (high - low).clamp_min(0)
    covered = overlap.sum(0)
    known = covered >= 0.5 * 360.0 / sectors - 1e-9
    return (overlap / covered.clamp_min(1e-9) * known).float()


def polar_grid(rings: int, sectors: int) -> Tensor:
    """Where a tile is sampled: ring by ring outwards, sector by sector from south over west and north.

    Returns:
        1×R×S×2 of (x, y) in [-1, 1] for ``grid_sample(align_corners=False)``: ±1 are the edges of the tile, x
        to the east, y to the south. Sector s looks along azimuth -180 + 360 (s + ½) / S degrees.
    """
    azimuth = ((torch.arange(sectors, dtype=torch.float64) + 0.5) / sectors - 0.5) * 2 * math.pi
    radius = (torch.arange(rings, dtype=torch.float64) + 0.5) / rings
    x, y = radius[:, None] * torch.sin(azimuth), -radius[:, None] * torch.cos(azimuth)
    return torch.stack([x, y], -1)[None].float()


def turned(embedding: Tensor, sectors: int) -> Tensor:
    """Polar embeddings of panoramas as if their camera had looked in each of S directions.

    Args:
        embedding: B×D of ``polar`` pooling, of panoramas whose centre column looks in an unknown direction.
        sectors: S.

    Returns:
        S×B×D; entry k is right if the centre column looks along azimuth 360 k / S degrees.
    """
    by_sector = embedding.unflatten(1, (-1, sectors))
    return torch.stack([by_sector.roll(turn, 2).flatten(1) for turn in range(sectors)])


def build_backbone(config: EncoderConfig, pretrained: bool = False) -> Any:
    """The backbone of an encoder: timm's, or our FasterViT.

    Raises:
        InputError: unknown name, or a backbone without feature maps.
    """
    polar = config.pooling == "polar"
    backbone: Any
    if config.backbone in VARIANTS:
        if pretrained:
            raise InputError(f"{config.backbone} has no public weights: set pretrained=false.")
        variant = VARIANTS[config.backbone]
        if polar and config.stride in STRIDES[2:]:
            variant = replace(variant, stages=STRIDES.index(config.stride) + 1)
        return FasterViT(variant)
    allow_cpu_torchvision()
    import timm

    try:
        options: dict[str, Any] = {"drop_path_rate": config.drop_path} if config.drop_path else {}
        backbone = timm.create_model(config.backbone, pretrained=pretrained, num_classes=0, **options)
        if polar:
            reductions = [level["reduction"] for level in _feature_info(backbone)]
            level = reductions.index(config.stride)
            backbone.prune_intermediate_layers([level], prune_norm=False, prune_head=True)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"backbone={config.backbone}: timm cannot build it ({error}).") from error
    if not hasattr(backbone, "forward_intermediates"):
        raise InputError(f"backbone={config.backbone} gives no feature maps: choose a convolutional one.")
    return backbone


def _feature_info(backbone: Any) -> list[dict[str, Any]]:
    info = backbone.feature_info
    return getattr(info, "info", info)


def _norms_per_view(module: nn.Module, views: Sequence[str]) -> None:
    """Replace every batch normalisation in a module by one per view."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, NormPerView(child, views))
        else:
            _norms_per_view(child, views)
