"""CrossViT for retrieval: a teacher that knows the 3-D structure behind an image, a student of pixels only.

    student:  image ── patches of 12 px ──> branch S ┐ 3 stages, each: self attention within the branches,
              image ── patches of 16 px ──> branch L ┘ then each branch's CLS attends to the other's tokens
    teacher:  image ── patches of 12 px ──> branch S ┐ the same, but the queries and keys of branch L are
              3-D cells of the grid     ──> branch L ┘ rotated by their positions
    both:     LayerNorm ── CLS ── linear, per branch ── mean ── BatchNorm ── unit length

The network is CrossViT-Ti (Chen et al., ICCV 2021) of timm, with position embeddings that are interpolated
for other image sizes. The normalisation before unit length (a "BNNeck": Luo et al., TMM 2019) keeps what all
images have in common out of the embedding: from random weights, contrastive losses otherwise make all
embeddings the same. What the published retrieval system does otherwise is told in docs/crossvit.md.

Shapes: B images, N tokens, C channels, D the size of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..compat import allow_cpu_torchvision
from ..errors import InputError
from .spatial_encoding import RotaryPosition, SpatialContent, attend

PATCHES = (12, 16)  # pixels per side, branches S and L
OWN_SIZE = 240  # pixels per side of the images that the position embeddings are learned for
SIZE_STEP = 60  # image sizes are multiples of this many pixels
SPATIAL = ("rotary", "absolute", "published")
SEES = ("colours", "edges")


@dataclass(frozen=True)
class CrossViTConfig:
    """Size and kind of the network.

    Attributes:
        embedding_dim: size of an embedding; 1000 as published.
        image_size: pixels per side of the images to describe. Others whose side is a multiple of 60 are taken
            too (training can start with small ones); the weights do not depend on it.
        spatial: how the teacher reads spatial tokens. ``rotary``: as content and as rotary positions.
            ``absolute``: as content only (ablation). ``published``: tensors of the published formula, as they
            are. None: no spatial tokens, the student.
        drop_path: rate of stochastic depth in the last block; it grows linearly from 0 in the first.
        sees: what the patches hold. ``colours``: the image, as published. ``edges``: :func:`oriented_edges`,
            which hardly change with the light.
    """

    embedding_dim: int = 512
    image_size: int = 240
    spatial: str | None = None
    drop_path: float = 0.0
    sees: str = "colours"


class CrossViT(nn.Module):
    """What the student and the teacher share.

    Args:
        config: sizes.
    """

    def __init__(self, config: CrossViTConfig) -> None:
        super().__init__()
        if config.image_size < SIZE_STEP or config.image_size % SIZE_STEP:
            raise InputError(
                f"image_size is {config.image_size}: choose a multiple of {SIZE_STEP}, e.g. 240."
            )
        if config.sees not in SEES:
            raise InputError(f"sees is {config.sees!r}: CrossViT sees one of {SEES}.")
        self.config = config
        self.backbone = _timm_crossvit(config)
        self.neck = nn.BatchNorm1d(config.embedding_dim, affine=False)

    def see(self, image: Tensor) -> Tensor:
        """What the patches of B×3×H×W images hold, of the same shape."""
        return oriented_edges(image) if self.config.sees == "edges" else image

    def image_tokens(self, image: Tensor, branch: int) -> Tensor:
        """CLS and patches of an image, positions added.

        Args:
            image: B×3×H×W, from :meth:`see`.
            branch: 0 (S) or 1 (L).

        Returns:
            B×(1+n²)×C.
        """
        size = image.shape[-1]
        if image.shape[-2] != size or size % SIZE_STEP:
            raise InputError(
                f"CrossViT got images of {size}×{image.shape[-2]} pixels (width×height): resize them to a"
                f" square whose side is a multiple of {SIZE_STEP}, as {self.config.image_size}."
            )
        cells = _cells(size, branch)
        pixels = cells * PATCHES[branch]
        if pixels != size:
            image = F.interpolate(image, size=(pixels, pixels), mode="bicubic", align_corners=False)
        patches = self.backbone.patch_embed[branch].proj(image).flatten(2).transpose(1, 2)
        cls_token = getattr(self.backbone, f"cls_token_{branch}").expand(len(image), -1, -1)
        return torch.cat([cls_token, patches], 1) + self.position_embedding(cells, branch)

    def position_embedding(self, cells: int, branch: int) -> Tensor:
        """Learned position embedding of a branch for a grid of cells×cells, 1×(1+cells²)×C."""
        embedding = getattr(self.backbone, f"pos_embed_{branch}")
        own = _cells(OWN_SIZE, branch)
        if cells == own:
            return embedding
        grid = embedding[:, 1:].transpose(1, 2).unflatten(2, (own, own))
        grid = F.interpolate(grid, size=(cells, cells), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([embedding[:, :1], grid.flatten(2).transpose(1, 2)], 1)

    def embed(self, small: Tensor, large: Tensor, turns: Tensor | None = None) -> Tensor:
        """Tokens of branches S and L, B×N×C, through the stages and the heads to B×D of unit length.

        `turns` rotates the queries and keys of branch L. The heads run in the precision of the weights: the
        eight bits of bfloat16 would show in the distances of near neighbours.
        """
        for stage in self.backbone.blocks:
            small, large = _stage(stage, small, large, turns)
        with torch.autocast(small.device.type, enabled=False):
            heads = zip((small, large), self.backbone.norm, self.backbone.head, strict=True)
            outputs = [head(norm(tokens[:, 0].to(norm.weight))) for tokens, norm, head in heads]
            return F.normalize(self.neck(torch.stack(outputs).mean(0)), dim=1)


class CrossViTRetrieval(CrossViT):
    """The student: an image to its global descriptor.

    Args:
        config: sizes; `spatial` must be None.

    Raises:
        InputError: the configuration is not a student's.
    """

    def __init__(self, config: CrossViTConfig | None = None) -> None:
        config = config or CrossViTConfig()
        if config.spatial is not None:
            raise InputError(f"CrossViTRetrieval takes images only: spatial is {config.spatial!r}, not None.")
        super().__init__(config)

    def forward(self, image: Tensor) -> Tensor:
        """Describe images.

        Args:
            image: B×3×H×H, RGB normalised by ImageNet's mean and standard deviation; H is a multiple of 60.

        Returns:
            B×D, of unit length.

        Raises:
            InputError: the images have another shape.
        """
        seen = self.see(image)
        return self.embed(self.image_tokens(seen, 0), self.image_tokens(seen, 1))


class CrossViTTeacher(CrossViT):
    """The teacher: an image and its spatial tokens to a global descriptor.

    Args:
        config: sizes; `spatial` must not be None. Default: ``rotary``.

    Raises:
        InputError: unknown kind of spatial tokens.
    """

    def __init__(self, config: CrossViTConfig | None = None) -> None:
        config = config or CrossViTConfig(spatial="rotary")
        if config.spatial not in SPATIAL:
            raise InputError(f"spatial is {config.spatial!r}: the teacher takes one of {SPATIAL}.")
        super().__init__(config)
        # Branch L never sees the image: its row 0 is the camera's token, not a learned one.
        del self.backbone.patch_embed[1]
        del self.backbone.cls_token_1
        dim = self.backbone.embed_dim[1]
        heads = self.backbone.blocks[0].blocks[1][0].attn.num_heads
        self.content = None if config.spatial == "published" else SpatialContent(dim)
        self.rotary = RotaryPosition(dim // heads) if config.spatial == "rotary" else None

    def forward(
        self,
        image: Tensor,
        points: Tensor,
        rays: Tensor | None = None,
        log_depths: Tensor | None = None,
        state: Tensor | None = None,
        rotation: Tensor | None = None,
    ) -> Tensor:
        """Describe images whose camera and structure are known.

        Args:
            image: as the student's.
            points: B×197×3, scene frame; with ``published`` tokens: B×197×192, and nothing after it.
            rays: B×197×3, unit vectors, scene frame.
            log_depths: B×197, logarithm of depths in scene units.
            state: B×197 int64, 0 no structure known, 1 structure, 2 sky, 3 camera.
            rotation: B×6, first two rows of cam_from_scene.

        Returns:
            B×D, of unit length.

        Raises:
            InputError: images of another shape, or spatial tokens of another kind.
        """
        small = self.image_tokens(self.see(image), 0)
        large = self._content(points, rays, log_depths, state, rotation) + self.backbone.pos_embed_1
        turns = None if self.rotary is None else self.rotary(points)
        return self.embed(small, large, turns)

    def _content(self, points: Tensor, *others: Tensor | None) -> Tensor:
        given = [tensor for tensor in others if tensor is not None]
        fits = points.shape[1:] == (197, 192) and not given if self.content is None else len(given) == 4
        if not fits:
            raise InputError(
                f"A teacher with spatial={self.config.spatial!r} got points of shape {tuple(points.shape)}"
                f" and {len(given)} further tensors: give tokens B×197×192 for 'published', else points,"
                " rays, log_depths, state and rotation."
            )
        return points if self.content is None else self.content(points, *given)


def oriented_edges(image: Tensor) -> Tensor:
    """Strength and orientation of edges, relative to those around them.

    Gains, offsets and colours of the light drop out, and so does which side of an edge is the brighter one: a
    lit window by night has the edges that it has by day. Angles are doubled, as in the structure tensor
    (Bigün and Granlund, ICCV 1987); strengths are divided by the local mean, the idea of the blocks of HOG
    (Dalal and Triggs, CVPR 2005).

    Args:
        image: B×3×H×W, any values.

    Returns:
        B×3×H×W: m cos 2θ, m sin 2θ and m, with m in [0, 3]; 0 where nothing varies.
    """
    grey = F.pad(image.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    dx = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    dy = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    strength = torch.hypot(dx, dy)
    window = image.shape[-1] // 10 | 1
    around = strength
    for _ in range(2):
        around = F.avg_pool2d(around, window, 1, window // 2, count_include_pad=False)
    floor = 0.3 * strength.mean((1, 2, 3), keepdim=True)
    relative = (strength / (around + floor).clamp(min=1e-6)).clamp(max=3)
    squared = strength.square().clamp(min=1e-12)
    cosine, sine = (dx.square() - dy.square()) / squared, 2 * dx * dy / squared
    return torch.cat([relative * cosine, relative * sine, relative], 1)


def load_imagenet(model: CrossViT, state: Mapping[str, Tensor]) -> None:
    """Start from timm's weights of ImageNet; the heads, and what a teacher has of its own, stay as they are.

    Args:
        model: receives the weights.
        state: state dict of timm's ``crossvit_tiny_240``, e.g. that of
            ``load_checkpoint("crossvit-tiny-imagenet")`` of :mod:`hloc_ext.pretrained`.

    Raises:
        InputError: `state` is not that of the network.
    """
    own = model.backbone.state_dict()
    wanted = {name for name in own if not name.startswith("head.")}
    bad = sorted(name for name in wanted if name not in state or state[name].shape != own[name].shape)
    if bad:
        raise InputError(
            f"The weights are not those of timm's crossvit_tiny_240: {len(bad)} tensors are missing or have"
            f" another shape, e.g. {bad[:3]}."
        )
    model.backbone.load_state_dict({name: state[name] for name in wanted}, strict=False)


def _timm_crossvit(config: CrossViTConfig) -> Any:
    allow_cpu_torchvision()
    from timm.models.crossvit import crossvit_tiny_240

    network = crossvit_tiny_240(num_classes=config.embedding_dim, drop_path_rate=config.drop_path)
    for stage in network.blocks:
        for fusion in stage.fusion:
            # It adds the same to every score of a softmax: no effect, no gradient.
            fusion.attn.wk.register_parameter("bias", None)
    return network


def _cells(size: int, branch: int) -> int:
    """Patches per side. Branch L sees the image at 14/15 of its size (published: 224 of 240 pixels)."""
    return size // PATCHES[0] if branch == 0 else size * 14 // (15 * PATCHES[1])


def _stage(stage: Any, small: Tensor, large: Tensor, turns: Tensor | None) -> tuple[Tensor, Tensor]:
    """One stage: B×N×C tokens of both branches to the same. `turns` rotates the positions of branch L.

    The CLS of branch S looks at branch L from the camera's position, which is that of row 0.
    """
    for block in stage.blocks[0]:
        small = _block(block, small, None)
    for block in stage.blocks[1]:
        large = _block(block, large, turns)
    looks_large = _fusion(stage.fusion[0], stage.projs[0](small[:, :1]), large, turns)
    looks_small = _fusion(stage.fusion[1], stage.projs[1](large[:, :1]), small, None)
    small = torch.cat([stage.revert_projs[0](looks_large), small[:, 1:]], 1)
    large = torch.cat([stage.revert_projs[1](looks_small), large[:, 1:]], 1)
    return small, large


def _block(block: Any, x: Tensor, turns: Tensor | None) -> Tensor:
    """Self attention and feed-forward network, both residual."""
    heads = block.attn.num_heads
    query, key, value = block.attn.qkv(block.norm1(x)).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    x = x + block.drop_path1(block.attn.proj(attend(query, key, value, turns)))
    return x + block.drop_path2(block.mlp(block.norm2(x)))


def _fusion(fusion: Any, cls_token: Tensor, x: Tensor, turns: Tensor | None) -> Tensor:
    """CLS of one branch, B×1×C, attends to itself and the other branch's tokens but the first; residual."""
    tokens = fusion.norm1(torch.cat([cls_token, x[:, 1:]], 1))
    attention = fusion.attn
    query, key, value = (
        layer(rows).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for layer, rows in ((attention.wq, tokens[:, :1]), (attention.wk, tokens), (attention.wv, tokens))
    )
    return cls_token + fusion.drop_path(attention.proj(attend(query, key, value, turns)))
