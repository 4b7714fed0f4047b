"""Images resized and turned for a network, and the way back to their pixels.

Pixels have their centre of the top-left at (0, 0); x right, y down. Angles are in degrees, counterclockwise
as one looks at the image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class ImageView(NamedTuple):
    """A batch of images as a network takes them, and where their pixels come from."""

    image: Tensor  # B×1×H×W
    mask: Tensor | None = None  # B×1×H×W bool, the pixels that exist; None: all
    to_original: Tensor | None = None  # 2×3, pixels of the view to pixels of the original; None: the same

    def restore(self, keypoints: Tensor) -> Tensor:
        """Positions in the original image: M×2 to M×2, pixels."""
        if self.to_original is None:
            return keypoints
        return keypoints @ self.to_original[:, :2].T + self.to_original[:, 2]

    def split(self) -> list[ImageView]:
        """The images of the batch, one by one."""
        masks = [None] * len(self.image) if self.mask is None else self.mask.split(1)
        return [
            ImageView(image, mask, self.to_original)
            for image, mask in zip(self.image.split(1), masks, strict=True)
        ]

    def resized(self, factor: float) -> ImageView:
        """The view with its sides multiplied by `factor` and rounded, to at least one pixel."""
        height, width = self.image.shape[2:]
        size = max(1, round(factor * height)), max(1, round(factor * width))
        if size == (height, width):
            return self
        image = F.interpolate(self.image, size, mode="bilinear", align_corners=False, antialias=True)
        mask = (
            None if self.mask is None else F.interpolate(self.mask.float(), size, mode="nearest-exact").bool()
        )
        x, y = width / size[1], height / size[0]
        return self._followed_by(image, mask, [[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])

    def turned(self, degrees: float) -> ImageView:
        """The view turned about its centre, on the smallest canvas that holds it.

        Quarter turns move pixels; all others resample linearly, and mask what the image does not cover.
        """
        height, width = self.image.shape[2:]
        quarters = round(degrees / 90)
        is_quarter = math.isclose(degrees, 90 * quarters, abs_tol=1e-9)
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        if is_quarter:
            cos, sin = float(round(cos)), float(round(sin))
        new_width = math.ceil(abs(cos) * width + abs(sin) * height - 1e-6)
        new_height = math.ceil(abs(sin) * width + abs(cos) * height - 1e-6)
        x, y = (new_width - 1) / 2, (new_height - 1) / 2  # centre, which maps to the centre
        matrix = [
            [cos, -sin, (width - 1) / 2 - cos * x + sin * y],
            [sin, cos, (height - 1) / 2 - sin * x - cos * y],
        ]
        if is_quarter:
            mask = None if self.mask is None else self.mask.rot90(quarters, (2, 3))
            return self._followed_by(self.image.rot90(quarters, (2, 3)), mask, matrix)
        return self._followed_by(*self._sampled(matrix, new_height, new_width), matrix)

    def padded(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Image and mask, padded on the right and below to `height`×`width`."""
        mask = torch.ones_like(self.image, dtype=torch.bool) if self.mask is None else self.mask
        margins = (0, width - self.image.shape[3], 0, height - self.image.shape[2])
        return F.pad(self.image, margins), F.pad(mask, margins)

    def _sampled(self, matrix: list[list[float]], height: int, width: int) -> tuple[Tensor, Tensor]:
        """Image and mask at the pixels that a matrix maps from a canvas."""
        device = self.image.device
        y, x = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        to_view = self.image.new_tensor(matrix)
        source = torch.stack([x, y], -1).to(self.image) @ to_view[:, :2].T + to_view[:, 2]  # H×W×2
        size = self.image.new_tensor([self.image.shape[3], self.image.shape[2]])
        exists = ((source > -0.5) & (source < size - 0.5)).all(-1).expand(len(self.image), 1, -1, -1)
        grid = ((2 * source + 1) / size - 1).expand(len(self.image), -1, -1, -1)
        image = F.grid_sample(self.image, grid, padding_mode="border", align_corners=False)
        if self.mask is not None:
            mask = self.mask.to(self.image)
            exists = exists & F.grid_sample(mask, grid, mode="nearest", align_corners=False).bool()
        return image * exists, exists

    def _followed_by(self, image: Tensor, mask: Tensor | None, matrix: list[list[float]]) -> ImageView:
        """A view of this view; `matrix` maps its pixels to those of this one."""
        to_original = image.new_tensor(matrix, dtype=torch.float64)
        if self.to_original is not None:
            linear, shift = self.to_original.split([2, 1], 1)
            to_original = linear.to(to_original) @ to_original
            to_original[:, 2:] += shift
        return ImageView(image, mask, to_original.to(image.dtype))
