"""KD-Mamba: an ultra-light semi-dense matcher, linear in the number of pixels but for one blocked product.

    grey images ── CNN ──> features at strides 2, 4, 8
    stride 8, both images ── joint scan, four directions, several layers ──> tokens that know both images
    tokens ── dual softmax ──> coarse matches (8 pixels)
    strides 8 + 4 + 2 ──> fine features (stride 2) ── correlation in a window ──> positions below one pixel

The published system has no code (see docs/kd_mamba.md); this design is ours. What it takes from others: the
scan of Mamba-2 (Dao and Gu, ICML 2024), scans over both images in four directions (JamMa, Lu and Du, CVPR
2025), coarse-to-fine matching (LoFTR, Sun et al., CVPR 2021), matchability (LightGlue, Lindenberger et al.,
ICCV 2023).

The *joint scan*: half of the heads are self scans, in which an image writes the state and reads it; the other
half are cross scans, in which one image writes the state and the **other one reads it**, at the same place of
the grid. Both are the same scan (:func:`~hloc_ext.models.ssd.ssd_two_way`), with C exchanged between the
images. Unlike the concatenation of both images into one sequence, this treats them alike: exchanging the
images exchanges the matches, exactly.

Conventions: pixels have their centre of the top-left at (0, 0). Every strided convolution is 3×3 with padding
1, so that index k at stride s lies at pixel s·k: cell (r, c) of the coarse grid has its centre at pixel (8c,
8r).
Shapes: B pairs, H×W pixels, h×w = ceil(H/8)×ceil(W/8) cells, N = h·w tokens, D channels, M matches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dual_softmax import Descriptors, Matches, mutual_matches, precise
from .ssd import ssd_two_way

STRIDE = 8
FINE_STRIDE = 2
WINDOW = 7  # fine positions per side of the search window: ±6 pixels


@dataclass(frozen=True)
class KDMambaConfig:
    """Size of the network."""

    widths: tuple[int, int, int] = (16, 48, 128)  # channels at strides 2, 4, 8
    blocks: int = 3  # convolutional blocks at stride 8
    layers: int = 4  # layers of the joint scan
    state: int = 32  # size of the state of each head
    coarse_dim: int = 64  # channels of coarse descriptors
    fine_dim: int = 24  # channels of fine descriptors
    orientation: bool = False  # the encoder sees the orientation of the gradient instead of grey values


KDMAMBA_CONFIGS = {
    "nano": KDMambaConfig(widths=(12, 32, 80), blocks=2, layers=2, state=16, coarse_dim=48, fine_dim=16),
    "small": KDMambaConfig(),
    "aerial": KDMambaConfig(orientation=True),
}


class ImageFeatures(NamedTuple):
    """Features of one batch of images, independent of the image that they are matched to."""

    half: Tensor  # B×C×ceil(H/2)×ceil(W/2)
    quarter: Tensor  # B×C×ceil(H/4)×ceil(W/4)
    eighth: Tensor  # B×D×h×w
    mask: Tensor | None  # B×1×ceil(H/2)×ceil(W/2), bool: which fine positions exist; None: all


class PairFeatures(NamedTuple):
    """Features of one image of a pair, after the joint scan."""

    tokens: Tensor  # B×N×D, what is distilled
    coarse: Descriptors  # B×N
    fine: Tensor  # B×C×ceil(H/2)×ceil(W/2), of unit length
    mask: Tensor | None  # as in ImageFeatures
    grid: tuple[int, int]  # h, w


# --- convolutional encoder ----------------------------------------------------------------------------------


class ConvNorm(nn.Sequential):
    """3×3 convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class ConvBlock(nn.Module):
    """Residual block: 3×3 depth-wise convolution, then two 1×1 (as in ConvNeXt, Liu et al., CVPR 2022).

    ConvNeXt's is 7×7; on a CPU that costs more than all the rest, and the scan sees everything anyway.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.expand = nn.Conv2d(dim, 2 * dim, 1)
        self.project = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Update B×D×h×w features."""
        return x + self.project(F.relu(self.expand(self.norm(self.depthwise(x)))))


class Encoder(nn.Module):
    """Grey images to features at strides 2, 4 and 8, by their grey values or the orientation of the gradient.

    Wherever the mask is 0 the features are 0, as beyond the border of an image: padding changes nothing.
    """

    def __init__(self, widths: tuple[int, int, int], blocks: int, from_orientation: bool = False) -> None:
        super().__init__()
        c2, c4, c8 = widths
        self.from_orientation = from_orientation
        self.to_half = nn.ModuleList([ConvNorm(2 if from_orientation else 1, c2, 2), ConvNorm(c2, c2)])
        self.to_quarter = nn.ModuleList([ConvNorm(c2, c4, 2), ConvNorm(c4, c4)])
        self.to_eighth = nn.ModuleList([ConvNorm(c4, c8, 2), *(ConvBlock(c8) for _ in range(blocks))])

    def forward(self, image: Tensor, mask: Tensor | None) -> ImageFeatures:
        """Encode B×1×H×W images; `mask` is B×1×H×W bool, or None where all pixels exist."""
        x = normalize(image, mask)
        if self.from_orientation:
            x = orientation(x, mask)
        levels = []
        for level, stage in enumerate((self.to_half, self.to_quarter, self.to_eighth), 1):
            exists = None if mask is None else mask[..., :: 2**level, :: 2**level]
            for layer in stage:
                x = layer(x) if exists is None else layer(x) * exists
            levels.append(x)
        mask = None if mask is None else mask[..., ::FINE_STRIDE, ::FINE_STRIDE]
        return ImageFeatures(levels[0], levels[1], levels[2], mask)


def normalize(image: Tensor, mask: Tensor | None) -> Tensor:
    """Subtract the mean of each image and divide by its standard deviation; a constant image becomes 0."""
    if mask is None:
        centred = image - image.mean((2, 3), keepdim=True)
        return centred / (centred.square().mean((2, 3), keepdim=True).sqrt() + 1e-3)
    count = mask.sum((2, 3), keepdim=True).clamp_min(1)
    centred = (image - (image * mask).sum((2, 3), keepdim=True) / count) * mask
    return centred / ((centred.square().sum((2, 3), keepdim=True) / count).sqrt() + 1e-3)


def orientation(image: Tensor, mask: Tensor | None) -> Tensor:
    """Orientation of the gradient with its angle doubled: a negative has exactly the same one.

    Args:
        image: B×1×H×W, normalised.
        mask: B×1×H×W bool, or None.

    Returns:
        B×2×H×W: (cos 2θ, sin 2θ), times the root of the gradient's length relative to the image's mean one; 0
        where a neighbour does not exist, so that the border of a picture is no edge.
    """
    smooth = image.new_tensor([1, 4, 6, 4, 1]) / 16
    derive = image.new_tensor([-1, -2, 0, 2, 1]) / 8
    kernels = torch.stack([torch.outer(smooth, derive), torch.outer(derive, smooth)])
    gradient = F.conv2d(image, kernels.unsqueeze(1), padding=2)
    exists = torch.ones_like(image) if mask is None else mask.to(image.dtype)
    gradient = precise(gradient)
    inner = (F.avg_pool2d(exists, 5, 1, 2) > 0.999).to(gradient.dtype)
    x, y = (gradient * inner).unbind(1)
    inner = inner.squeeze(1)
    length = (x.square() + y.square() + 1e-8).sqrt()
    mean = (length * inner).sum((1, 2), keepdim=True) / inner.sum((1, 2), keepdim=True).clamp_min(1)
    divisor = length * (length * (mean + 1e-3)).sqrt()
    return torch.stack([x.square() - y.square(), 2 * x * y], 1) / divisor.unsqueeze(1)


# --- joint scan ---------------------------------------------------------------------------------------------


class JointScan(nn.Module):
    """A layer of Mamba-2 over the tokens of both images: (self, cross) × 4 directions, a head each.

    All heads share what a token writes (B) and reads (C), each once for self and once for cross scans. The
    layer has no feed-forward part; its gate and the 3×3 depth-wise convolution, in place of Mamba's causal
    one, are enough.
    """

    heads = 8

    def __init__(self, dim: int, state: int) -> None:
        super().__init__()
        inner = dim + 4 * state  # x; B and C of self and cross scans
        self.state = state
        self.norm = RMSNorm(dim)
        self.project = nn.Linear(dim, dim + inner + self.heads, bias=False)
        self.local = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.skip = nn.Parameter(torch.ones(dim))
        self.output_norm = RMSNorm(dim)
        self.output = nn.Linear(dim, dim, bias=False)
        steps = torch.full((self.heads,), 0.01)  # memories of 1 / (dt A) = 100 tokens to start with
        self.step_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))  # inverse of softplus
        self.log_rate = nn.Parameter(torch.zeros(self.heads))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Update 2B×h×w×D tokens, image 0 of every pair before image 1.

        `mask` is 2B×h×w×1, 0 at missing tokens; None: all exist.
        """
        dim, state, (height, width) = x.shape[3], self.state, x.shape[1:3]
        gate, inner, dt = self.project(self.norm(x)).split([dim, dim + 4 * state, self.heads], -1)
        inner = self.local(masked(inner, mask).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        inner, B, C = F.silu(inner).split([dim, 2 * state, 2 * state], -1)
        dt = masked(F.softplus(precise(dt) + self.step_bias), mask)
        # Heads: (self, cross) × (rows, columns) × (forwards, backwards).
        x_heads, steps = inner.unflatten(-1, (2, 2, 2, -1)), dt.unflatten(-1, (2, 2, 2))
        rates = -self.log_rate.exp().unflatten(0, (2, 2, 2))
        B, C = (t.unflatten(-1, (2, state)) for t in (B, C))
        C = exchange_cross(C, 3)
        scanned = []
        for order in range(2):  # rows, columns
            tokens = x_heads[:, :, :, :, order], steps[:, :, :, :, order], B, C
            x_order, dt_order, B_order, C_order = (into_sequences(t, order) for t in tokens)
            y = ssd_two_way(x_order, dt_order, rates[:, order], B_order, C_order)
            scanned.append(out_of_sequences(exchange_cross(y, 1), order, height, width))
        y = torch.stack(scanned, 4).flatten(3) + self.skip * inner
        return x + masked(self.output(self.output_norm(y * F.silu(gate))), mask)


class RMSNorm(nn.RMSNorm):
    """Root mean square normalisation whose weight follows the type of the input, for the fused kernel."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise …×D."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x`, with 0 where the mask is 0."""
    return x if mask is None else x * mask


def into_sequences(tokens: Tensor, order: int) -> Tensor:
    """Order tokens along rows (0) or columns (1): B×h×w×G×... to B×G×N×..."""
    rows = tokens if order == 0 else tokens.transpose(1, 2)
    return rows.movedim(3, 1).flatten(2, 3)


def out_of_sequences(sequences: Tensor, order: int, height: int, width: int) -> Tensor:
    """Undo :func:`into_sequences`: B×G×N×... to B×h×w×G×..."""
    size = (height, width) if order == 0 else (width, height)
    rows = sequences.unflatten(2, size).movedim(1, 3)
    return rows if order == 0 else rows.transpose(1, 2)


def exchange_cross(tokens: Tensor, dim: int) -> Tensor:
    """Exchange image 0 and image 1 (the halves of the batch) in the cross scans, the second half of `dim`."""
    own, cross = tokens.chunk(2, dim)
    first, second = cross.chunk(2)
    return torch.cat([own, torch.cat([second, first])], dim)


# --- fine features ------------------------------------------------------------------------------------------


class FineHead(nn.Module):
    """Sum of the features of all strides, at stride 2 (a feature pyramid), to unit vectors."""

    def __init__(self, widths: tuple[int, int, int], dim: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(width, dim, 1, bias=False) for width in widths])
        self.smooth = ConvNorm(dim, dim)
        self.project = nn.Conv2d(dim, dim, 1)

    def forward(self, features: ImageFeatures, tokens: Tensor) -> Tensor:
        """`tokens`: B×D×h×w after the scan. Returns B×C×ceil(H/2)×ceil(W/2)."""
        half, quarter, eighth = self.lateral
        x = quarter(features.quarter) + upsample(eighth(tokens), features.quarter.shape[2:])
        if features.mask is not None:
            x = x * features.mask[..., ::2, ::2]
        x = half(features.half) + upsample(x, features.half.shape[2:])
        x = self.project(self.smooth(masked(x, features.mask)))
        # As F.normalize, whose norm over channels is slow on a CPU.
        return x / x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)


def upsample(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Double the resolution linearly so that index k comes to 2k, crop to `size`; 0 beyond the border."""
    height, width = x.shape[2:]
    x = F.pad(x, (0, 1, 0, 1))
    x = F.interpolate(x, (2 * height + 1, 2 * width + 1), mode="bilinear", align_corners=True)
    return x[:, :, : size[0], : size[1]]


# --- the matcher --------------------------------------------------------------------------------------------


class KDMamba(nn.Module):
    """The matcher.

    Args:
        config: sizes, for example ``KDMAMBA_CONFIGS["small"]``.
    """

    calibration: Tensor

    def __init__(self, config: KDMambaConfig = KDMAMBA_CONFIGS["small"]) -> None:
        super().__init__()
        self.config = config
        dim = config.widths[2]
        self.encoder = Encoder(config.widths, config.blocks, config.orientation)
        self.layers = self._make_layers()
        self.coarse = nn.Linear(dim, config.coarse_dim, bias=False)
        self.matchability = nn.Linear(dim, 1)
        self.fine = FineHead(config.widths, config.fine_dim)
        self.log_scale = nn.Parameter(torch.tensor([math.log(15.0), math.log(10.0)]))  # coarse, fine
        # score = sigmoid(k0 + k1 logit P + k2 log(fine peaks)); fitted after training on pairs held out.
        self.register_buffer("calibration", torch.tensor([0.0, 1.0, 0.0]))

    def _make_layers(self) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList([JointScan(config.widths[2], config.state) for _ in range(config.layers)])

    @property
    def scales(self) -> tuple[Tensor, Tensor]:
        """Inverse temperatures of coarse and fine similarities."""
        coarse, fine = self.log_scale.clamp(max=math.log(60.0)).exp().unbind()
        return coarse, fine

    def encode(self, image: Tensor, mask: Tensor | None = None) -> ImageFeatures:
        """Features of images by themselves; compute them once for an image that meets many others.

        Args:
            image: B×1×H×W in [0, 1], grey, H and W at least 1.
            mask: B×1×H×W bool, the pixels that exist: a rectangle from the top-left pixel. None: all.
        """
        return self.encoder(image, mask)

    def describe(self, first: ImageFeatures, second: ImageFeatures) -> tuple[PairFeatures, PairFeatures]:
        """Features of the images of a pair that know each other: the joint scan and what follows it."""
        images = first, second
        grids = [(f.eighth.shape[2], f.eighth.shape[3]) for f in images]
        height, width = max(h for h, _ in grids), max(w for _, w in grids)
        exists = [cells_exist(features, height, width) for features in images]
        padded = [
            F.pad(features.eighth.permute(0, 2, 3, 1), (0, 0, 0, width - w, 0, height - h))
            for features, (h, w) in zip(images, grids, strict=True)
        ]
        x = torch.cat(padded)
        all_exist = grids[0] == grids[1] and first.mask is None and second.mask is None
        mask = None if all_exist else torch.cat(exists).unsqueeze(-1).to(x.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        described = [
            self._heads(features, tokens[:, :h, :w], exist[:, :h, :w])
            for features, tokens, exist, (h, w) in zip(images, x.chunk(2), exists, grids, strict=True)
        ]
        return described[0], described[1]

    def _heads(self, features: ImageFeatures, tokens: Tensor, exists: Tensor) -> PairFeatures:
        fine = self.fine(features, tokens.permute(0, 3, 1, 2))
        grid, tokens = (tokens.shape[1], tokens.shape[2]), tokens.flatten(1, 2)
        log_matchability = F.logsigmoid(precise(self.matchability(tokens).squeeze(-1)))
        log_matchability = log_matchability.masked_fill(~exists.flatten(1), float("-inf"))
        vectors = F.normalize(precise(self.coarse(tokens)), dim=-1)
        return PairFeatures(tokens, Descriptors(vectors, log_matchability), fine, features.mask, grid)

    def forward(
        self, image0: Tensor, image1: Tensor, mask0: Tensor | None = None, mask1: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Match pairs of images; see :meth:`encode` for arguments and :meth:`match` for what is returned."""
        first, second = self.encode(image0, mask0), self.encode(image1, mask1)
        return self.match(*self.describe(first, second))

    @torch.no_grad()
    def match(
        self, first: PairFeatures, second: PairFeatures, min_probability: float = 0.02, moves: str = "both"
    ) -> dict[str, Tensor]:
        """Coarse matches with their positions refined.

        Args:
            first, second: from :meth:`describe`.
            min_probability: least coarse probability P.
            moves: whose keypoints leave the centres of their cells: ``image0``, ``image1``, or ``both`` by
                half of the way each, which averages two estimates and treats the images alike.

        Returns:
            ``keypoints0``, ``keypoints1`` M×2 (pixels), ``scores`` M (probability that a match is
            within 3 pixels) and ``batch_indexes`` M (pair).
        """
        matches = mutual_matches(first.coarse, second.coarse, self.scales[0], min_probability)
        step1, peak1 = self.refine(first, second, matches.batch, matches.index0, matches.index1)
        step0, peak0 = self.refine(second, first, matches.batch, matches.index1, matches.index0)
        share0 = {"image0": 1.0, "image1": 0.0, "both": 0.5}[moves]
        return {
            "keypoints0": cell_centres(matches.index0, first.grid) + share0 * step0,
            "keypoints1": cell_centres(matches.index1, second.grid) + (1 - share0) * step1,
            "scores": self.score(matches, peak0 + peak1),
            "batch_indexes": matches.batch,
        }

    def score(self, matches: Matches, log_peaks: Tensor) -> Tensor:
        """Probability that matches are right, from their coarse and fine probabilities: M."""
        logit = logit_of_log(matches.log_probability)
        return torch.sigmoid(
            self.calibration[0] + self.calibration[1] * logit + self.calibration[2] * log_peaks
        )

    def refine(
        self, source: PairFeatures, target: PairFeatures, batch: Tensor, index: Tensor, target_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Where the centres of cells of `source` lie in `target`, near the cells matched to them.

        Args:
            batch, index, target_index: M, pair and cells.

        Returns:
            Offset from the centre of the target cell, M×2 in pixels, and log of the probability mass of the
            3×3 positions (5×5 pixels) about the peak, M.
        """
        log_p = self.fine_log_probability(source, target, batch, index, target_index)  # M×49
        peak = log_p.argmax(1)
        positions = window_positions(log_p.device)  # 49×2, in fine positions
        near = (positions - positions[peak].unsqueeze(1)).abs().amax(2) <= 1  # M×49
        mass = torch.logsumexp(log_p.masked_fill(~near, float("-inf")), 1)
        weight = torch.exp(log_p - mass.unsqueeze(1)) * near
        return FINE_STRIDE * (weight @ positions.to(weight.dtype)), mass

    def fine_log_probability(
        self, source: PairFeatures, target: PairFeatures, batch: Tensor, index: Tensor, target_index: Tensor
    ) -> Tensor:
        """log probability of the 7×7 fine positions about the centre of the target cell, M×49."""
        step = STRIDE // FINE_STRIDE
        rows, columns = (t * step for t in _row_column(index, source.grid))
        vector = source.fine.permute(0, 2, 3, 1)[batch, rows, columns]  # M×C
        positions = window_positions(vector.device).long()
        rows, columns = (t.unsqueeze(1) * step for t in _row_column(target_index, target.grid))
        columns, rows = columns + positions[:, 0], rows + positions[:, 1]  # M×49
        height, width = target.fine.shape[2:]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        batch = batch.unsqueeze(1)
        if target.mask is not None:
            inside &= target.mask[batch, 0, rows, columns]
        window = target.fine.permute(0, 2, 3, 1)[batch, rows, columns]  # M×49×C
        # Not a matrix product, which autocast would round to bfloat16.
        similarity = self.scales[1] * (precise(window) * precise(vector).unsqueeze(1)).sum(2)
        return similarity.masked_fill(~inside, -1e4).log_softmax(1)


def logit_of_log(log_probability: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p."""
    log_probability = log_probability.clamp(max=-1e-6)
    return log_probability - torch.log(-torch.expm1(log_probability))


def cells_exist(features: ImageFeatures, height: int, width: int) -> Tensor:
    """Which cells of a grid padded to height×width exist, B×height×width bool."""
    stride = STRIDE // FINE_STRIDE
    batch, _, h, w = features.eighth.shape
    if features.mask is None:
        exists = torch.ones(batch, h, w, dtype=torch.bool, device=features.eighth.device)
    else:
        exists = features.mask[:, 0, ::stride, ::stride]
    return F.pad(exists, (0, width - w, 0, height - h))


def window_positions(device: torch.device) -> Tensor:
    """Offsets (x, y) of the positions of the search window, 49×2 float, row by row."""
    side = torch.arange(WINDOW, device=device) - WINDOW // 2
    return torch.cartesian_prod(side, side).flip(1).float()


def cell_centres(index: Tensor, grid: tuple[int, int]) -> Tensor:
    """Centres (x, y) of cells in pixels: M to M×2."""
    rows, columns = _row_column(index, grid)
    return STRIDE * torch.stack([columns, rows], 1).float()


def _row_column(index: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    rows = index // grid[1]
    return rows, index - rows * grid[1]  # index % grid[1] with sizes of any value has no form in ONNX
