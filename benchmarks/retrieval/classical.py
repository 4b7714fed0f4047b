"""Global descriptors without learning: a tiny image, and histograms of oriented gradients."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]

TINY_SIZE = 32
HOG_SIZE, CELL, ORIENTATIONS = 256, 16, 9
#: Largest component of a block's histograms of unit length ("L2-hys").
_CLIP = 0.2
#: Blocks shorter than this, in grey levels per pixel, are flat and stay so.
_EPSILON = 0.01


def tiny_image(image: Pixels) -> Vector:
    """Grey pixels of the whole image reduced to a small square, mean 0, unit length.

    Torralba, Fergus & Freeman, "80 million tiny images", PAMI 2008.

    Args:
        image: (H, W).

    Returns:
        (1024,); zeros for an image of one grey.
    """
    tiny = cv2.resize(image, (TINY_SIZE, TINY_SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return _unit((tiny - tiny.mean()).ravel())


def hog(image: Pixels) -> Vector:
    """Histograms of oriented gradients of the whole image, resized to a square.

    Dalal & Triggs, CVPR 2005: centred differences, unsigned orientations with linear interpolation between
    bins, blocks of 2×2 cells that overlap by half, L2-hys. Votes are not shared between cells.

    Args:
        image: (H, W).

    Returns:
        (8100,) of unit length; zeros for an image of one grey.
    """
    interpolation = cv2.INTER_AREA if min(image.shape) >= HOG_SIZE else cv2.INTER_LINEAR
    square = cv2.resize(image, (HOG_SIZE, HOG_SIZE), interpolation=interpolation).astype(np.float32)
    padded = np.pad(square, 1, mode="edge")
    across = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    down = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    position = (np.arctan2(down, across) % np.pi) / np.pi * ORIENTATIONS - 0.5
    lower = np.floor(position)
    upper_share = position - lower
    length = np.hypot(across, down)
    votes = np.zeros((HOG_SIZE, HOG_SIZE, ORIENTATIONS), np.float32)
    rows, columns = np.ogrid[:HOG_SIZE, :HOG_SIZE]
    for bins, share in ((lower, 1 - upper_share), (lower + 1, upper_share)):
        votes[rows, columns, bins.astype(int) % ORIENTATIONS] += length * share
    cells = HOG_SIZE // CELL
    histograms = votes.reshape(cells, CELL, cells, CELL, ORIENTATIONS).mean((1, 3))
    corners = [histograms[i : cells - 1 + i, j : cells - 1 + j] for i in (0, 1) for j in (0, 1)]
    blocks = np.minimum(_normalised(np.concatenate(corners, -1)), _CLIP)
    return _unit(_normalised(blocks).ravel())


def _normalised(blocks: Vector) -> Vector:
    """Blocks (rows, columns, C) of unit length, flat ones shorter."""
    return blocks / np.sqrt((blocks**2).sum(-1, keepdims=True) + _EPSILON**2)


def _unit(vector: Vector) -> Vector:
    return (vector / max(float(np.linalg.norm(vector)), 1e-6)).astype(np.float32)
