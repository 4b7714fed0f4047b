"""Pictures of materials, openings and signs, painted by seed; nothing is taken from a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Texture:
    """One picture.

    Attributes:
        group: what it shows, a key of :data:`GROUPS`.
        pixels: (H, W, 3) uint8, sRGB, H and W powers of two.
        size: metres that the picture covers, (width, height); nominal for those that are stretched.
        repeat: whether it tiles without seams; otherwise it is clamped at its border.
        weathering: how strongly the renderer lays stains, cracks and dust over it, 0 to 1.
        gloss: how strongly it mirrors the sky, 0 (matt) to 1 (glass).
    """

    group: str
    pixels: npt.NDArray[np.uint8]
    size: tuple[float, float]
    repeat: bool
    weathering: float = 1.0
    gloss: float = 0.0


@dataclass
class TextureSet:
    """All pictures of a city.

    Attributes:
        textures: the pictures; their index is what meshes refer to.
        weathering: (2048, 2048) uint8, tileable; 128 leaves a surface unchanged, less darkens it.
        clouds: (1024, 1024) uint8, tileable cover of the sky, 0 blue to 255 cloud.
    """

    textures: list[Texture] = field(default_factory=list)
    weathering: npt.NDArray[np.uint8] = field(default_factory=lambda: np.full((2048, 2048), 128, np.uint8))
    clouds: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros((1024, 1024), np.uint8))

    def group(self, name: str) -> list[int]:
        """Indices of the pictures of a group, at least one."""
        indices = [i for i, texture in enumerate(self.textures) if texture.group == name]
        if not indices:
            raise KeyError(f"no texture of the group '{name}'")
        return indices

    def size(self, index: int) -> tuple[float, float]:
        """Metres that a picture covers, (width, height)."""
        return self.textures[index].size

    def sizes(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Metres that pictures cover, (N, 2)."""
        return np.array([texture.size for texture in self.textures])[np.asarray(indices)]
