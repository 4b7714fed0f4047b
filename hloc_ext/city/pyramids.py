"""Pictures as the shading kernels read them: image pyramids, one after the other in one array."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from .textures import TextureSet

#: Groups whose surfaces let light through: lit from behind too.
TRANSLUCENT = ("leaves",)


class Pyramids(NamedTuple):
    """Image pyramids of all pictures (Williams, "Pyramidal Parametrics", SIGGRAPH 1983).

    Attributes:
        pixels: (P, 3) uint8 sRGB, level after level, row after row.
        offsets: first pixel of each level, (K, L) int64.
        sizes: width and height of level 0, (K, 2) int32.
        levels: number of levels, (K,) int32.
        repeats: whether the picture tiles, (K,) bool.
        weathering, gloss: as in :class:`~hloc_ext.city.textures.Texture`, (K,) float32.
        translucent: (K,) bool.
        linear: linear value of sRGB values in steps of 1/16, (4081,) float32.

    The last two pictures are the weathering and the clouds.
    """

    pixels: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]
    levels: npt.NDArray[np.int32]
    repeats: npt.NDArray[np.bool_]
    weathering: npt.NDArray[np.float32]
    gloss: npt.NDArray[np.float32]
    translucent: npt.NDArray[np.bool_]
    linear: npt.NDArray[np.float32]

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """Level 0 of a pyramid, (H, W, 3), without a copy."""
        width, height = (int(size) for size in self.sizes[index])
        first = int(self.offsets[index, 0])
        return self.pixels[first : first + width * height].reshape(height, width, 3)


def srgb_to_linear(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Linear light, 0 to 1, of sRGB values from 0 to 1 (IEC 61966-2-1)."""
    values = np.asarray(values, np.float32)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _encoded() -> npt.NDArray[np.float32]:
    """sRGB values of linear light in steps of 1/65535."""
    values = np.arange(65536) / 65535
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055).astype(
        np.float32
    )


_ENCODED = _encoded()


def linear_to_srgb(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """sRGB values, 0 to 1, of linear light, which is clipped to 0…1 (IEC 61966-2-1), to 1e-4."""
    values = np.clip(np.asarray(values, np.float32), 0, 1)
    return _ENCODED[(values * np.float32(65535) + np.float32(0.5)).astype(np.uint16)]


def build_pyramids(textures: TextureSet) -> Pyramids:
    """Pyramids of a texture set; halving averages linear light.

    Raises:
        ValueError: a picture's side is no power of two.
    """
    grey = [np.repeat(picture[..., None], 3, axis=2) for picture in (textures.weathering, textures.clouds)]
    pictures = [texture.pixels for texture in textures.textures] + grey
    linear = srgb_to_linear(np.arange(256) / 255)
    encode = np.round(linear_to_srgb(np.arange(65536) / 65535) * 255).astype(np.uint8)
    chunks: list[npt.NDArray[np.uint8]] = []
    offsets = np.zeros((len(pictures), 16), np.int64)
    levels = np.zeros(len(pictures), np.int32)
    total = 0
    for index, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        if height & (height - 1) or width & (width - 1):
            raise ValueError(f"texture {index} has {width}x{height} pixels, not powers of two")
        level = picture
        light = np.asarray(linear[picture])
        while True:
            offsets[index, levels[index]] = total
            levels[index] += 1
            chunks.append(level.reshape(-1, 3))
            total += level.shape[0] * level.shape[1]
            height, width = level.shape[:2]
            if height == width == 1:
                break
            half = max(height // 2, 1), max(width // 2, 1)
            smaller = cv2.resize(light, half[::-1], interpolation=cv2.INTER_AREA)
            light = np.asarray(smaller, np.float32).reshape(*half, 3)
            level = encode[np.round(light * 65535).astype(np.uint16)]
    no_mask = [False, False]
    return Pyramids(
        np.concatenate(chunks),
        offsets,
        np.array([picture.shape[1::-1] for picture in pictures], np.int32),
        levels,
        np.array([t.repeat for t in textures.textures] + [True, True]),
        np.array([t.weathering for t in textures.textures] + [0, 0], np.float32),
        np.array([t.gloss for t in textures.textures] + [0, 0], np.float32),
        np.array([t.group in TRANSLUCENT for t in textures.textures] + no_mask),
        srgb_to_linear(np.arange(255 * 16 + 1) / (255 * 16)),
    )
