"""Spatial tokens of an image as a transformer reads them: features of a cell, and its rotary position.

A token is the camera (row 0) or a cell of the 14×14 grid (rows 1 to 196). What it *is* enters as content:
Fourier features of its position, ray and depth, in several frequencies (Mildenhall et al., NeRF, ECCV 2020).
Where it *lies relative to the others* enters through attention: queries and keys are rotated by angles
proportional to the 3-D position, so that their product depends on differences of positions only (RoPE, Su et
al., RoFormer, 2021; several axes share the channels as in RoPE of images, Heo et al., ECCV 2024).

The published system calls its encoding "RoPE", but it rotates nothing: it adds 13 copies of one sine and
cosine per entry, after a min-max per token that removes scale and offset (docs/crossvit.md).

Shapes: B images, N = 197 tokens, C channels, h heads, P pairs of channels per head. Positions are in the
units and axes of the scene frame, in which the scene has a size of about 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = 14  # cells per side
STATES = 4  # 0 no structure known, 1 structure, 2 sky, 3 camera
STRUCTURE = 1


class Waves(NamedTuple):
    """Wavelengths in geometric series.

    The ratio is best not a whole number: of wavelengths that divide each other, places at a multiple of the
    longer ones look alike in all the shorter ones.
    """

    longest: float
    shortest: float
    number: int

    def angular_frequencies(self, device: torch.device) -> Tensor:
        """2π / wavelength, longest wavelength first."""
        exponents = torch.linspace(0, 1, self.number, device=device)
        return 2 * math.pi / self.longest * (self.longest / self.shortest) ** exponents


POSITION_WAVES = Waves(16.0, 0.05, 10)  # scene units, per axis; ratio 1.90
RAY_WAVES = Waves(2.0, 0.6, 3)  # of components of a unit vector; ratio 1.83
DEPTH_WAVES = Waves(16.0, 1.5, 5)  # of the natural logarithm of a depth in scene units; ratio 1.81


def fourier_features(x: Tensor, waves: Waves) -> Tensor:
    """Sines, then cosines, of every entry in every wavelength: ...×D to ...×(2·D·waves.number)."""
    phases = (x.unsqueeze(-1) * waves.angular_frequencies(x.device)).flatten(-2)
    return torch.cat([phases.sin(), phases.cos()], -1)


class SpatialContent(nn.Module):
    """Spatial tokens to embeddings: a linear map of their Fourier features, plus one vector per state.

    Args:
        dim: channels of an embedding.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        features = 3 * 2 * POSITION_WAVES.number + 3 + 3 * 2 * RAY_WAVES.number + 1 + 2 * DEPTH_WAVES.number
        self.features = nn.Linear(features, dim)
        self.rotation = nn.Linear(6, dim, bias=False)
        self.state = nn.Embedding(STATES, dim)
        nn.init.normal_(self.state.weight, std=0.2)

    def forward(
        self, points: Tensor, rays: Tensor, log_depths: Tensor, state: Tensor, rotation: Tensor
    ) -> Tensor:
        """Embed the tokens of B images.

        Args:
            points: B×N×3, scene frame.
            rays: B×N×3, unit vectors, scene frame.
            log_depths: B×N, logarithm of the depth in scene units; read where `state` is 1.
            state: B×N, integers 0 to 3.
            rotation: B×6, first two rows of cam_from_scene (continuous 6-D rotation, Zhou et al., CVPR 2019);
                added to the camera's token.

        Returns:
            B×N×C.
        """
        depths = log_depths.unsqueeze(-1)
        depths = torch.cat([depths, fourier_features(depths, DEPTH_WAVES)], -1)
        features = torch.cat(
            [
                fourier_features(points, POSITION_WAVES),
                rays,
                fourier_features(rays, RAY_WAVES),
                depths * (state == STRUCTURE).unsqueeze(-1),
            ],
            -1,
        )
        tokens = self.features(features) + self.state(state)
        return tokens + F.pad(self.rotation(rotation).unsqueeze(1), (0, 0, 0, tokens.shape[1] - 1))


class RotaryPosition(nn.Module):
    """Angles by which pairs of channels of queries and keys are turned, from positions in 3-D.

    Args:
        head_dim: channels of a head, even. Each axis takes a third of the pairs; pairs that are left over are
            not turned.
        longest: the longest wavelength, in scene units.
        shortest: the shortest.
    """

    def __init__(
        self,
        head_dim: int,
        longest: float = POSITION_WAVES.longest,
        shortest: float = POSITION_WAVES.shortest,
    ) -> None:
        super().__init__()
        self.pairs = head_dim // 2
        self.waves = Waves(longest, shortest, self.pairs // 3)

    def forward(self, points: Tensor) -> Tensor:
        """B×N×3 positions to the cosine and sine of the angle of every pair, B×1×N×P×2."""
        frequencies = self.waves.angular_frequencies(points.device)
        angles = (points.unsqueeze(-1) * frequencies).flatten(-2)  # B×N×3·(P//3)
        angles = F.pad(angles, (0, self.pairs - angles.shape[-1])).unsqueeze(1)
        return torch.stack([angles.cos(), angles.sin()], -1)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the pairs (channel p, channel p + P) of B×h×N×2P queries or keys, at the precision of `turns`."""
    first, second = x.chunk(2, -1)
    cos, sin = turns.unbind(-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1).to(x.dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, turns: Tensor | None = None) -> Tensor:
    """Softmax attention of Q queries to N tokens, at positions `turns` if given, B×h×Q×2P to B×Q×(h·2P).

    The positions of the queries are those of the first Q tokens.
    """
    if turns is not None:
        query, key = rotate(query, turns[:, :, : query.shape[2]]), rotate(key, turns)
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        # The fused kernel for CPUs multiplies in single precision: twice as slow at these lengths.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        attended = scores.softmax(-1) @ value
    else:
        attended = F.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).flatten(2)
