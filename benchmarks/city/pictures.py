"""The pictures of docs/city.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hloc_ext.city.labels import COLORS
from hloc_ext.city.views import View

Picture = npt.NDArray[np.uint8]


def contact_sheet(pictures: Sequence[Picture], columns: int, width: int) -> Picture:
    """Pictures of one size side by side, each reduced to `width` pixels."""
    height = round(width * pictures[0].shape[0] / pictures[0].shape[1])
    small = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
    rows = [np.hstack(small[start : start + columns]) for start in range(0, len(small), columns)]
    return np.asarray(np.vstack(rows), np.uint8)


def painted_labels(label: npt.NDArray[np.uint8]) -> Picture:
    """Classes in their colours, (H, W, 3)."""
    palette = np.zeros((256, 3), np.uint8)
    for value, color in COLORS.items():
        palette[value] = color
    return np.asarray(palette[label], np.uint8)


def painted_depth(depth: npt.NDArray[np.float32], nearest: float = 2.0, farthest: float = 80.0) -> Picture:
    """Depth on a logarithmic scale, near is yellow, far is blue, the sky black; (H, W, 3)."""
    share = np.log(np.clip(depth, nearest, farthest) / nearest) / np.log(farthest / nearest)
    colors = cv2.applyColorMap(np.round(255 * (1 - share)).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    colors[np.isinf(depth)] = 0
    return np.asarray(colors[..., ::-1], np.uint8)


def ground_truth_strip(view: View, width: int) -> Picture:
    """A photo, its depth and its classes, side by side."""
    return contact_sheet([view.rgb, painted_depth(view.depth), painted_labels(view.label)], 3, width)


def save(path: Path, rgb: Picture, quality: int = 85) -> None:
    """Write a JPEG and print its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    cv2.imwrite(str(path), rgb[..., ::-1], options)
    print(f"{path}: {rgb.shape[1]}x{rgb.shape[0]}, {path.stat().st_size / 1024:.0f} KiB")
