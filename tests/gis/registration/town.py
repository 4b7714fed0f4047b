"""A small town: its class map, and a picture of it."""

from __future__ import annotations

import math

import cv2
import numpy as np

GREYS = np.array([120, 90, 160, 200, 60, 40], np.float32)


def draw_town(size: int = 320, seed: int = 0) -> np.ndarray:
    """Class map (size, size): roads, houses, trees and a pond, without symmetry."""
    rng = np.random.default_rng([seed, 1])
    labels = np.zeros((size, size), np.uint8)
    unit = size / 320
    for _ in range(9):
        center, radius = rng.uniform(0, size, 2), rng.uniform(8, 34) * unit
        cv2.circle(labels, (int(center[0]), int(center[1])), int(radius), 4, -1)
    cv2.ellipse(
        labels, (int(0.75 * size), int(0.2 * size)), (int(0.12 * size), int(0.06 * size)), 30, 0, 360, 5, -1
    )
    for _ in range(5):
        ends = rng.uniform(-0.2 * size, 1.2 * size, (2, 2)).astype(int)
        cv2.line(labels, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 1, int(10 * unit))
    for _ in range(28):
        center, sides = rng.uniform(0, size, 2), rng.uniform(12, 40, 2) * unit
        box = cv2.boxPoints((tuple(center), tuple(sides), float(rng.uniform(0, 90))))
        cv2.fillPoly(labels, [np.round(box).astype(np.int32)], 3)
    return labels


def photograph(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Picture (H, W, 3) of a class map: a grey value of each class, textures, a shadow, noise."""
    rng = np.random.default_rng([seed, 2])
    height, width = labels.shape
    grey = GREYS[labels] + 12 * cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 3).astype(
        np.float32
    )
    grey *= np.linspace(0.8, 1.15, width, dtype=np.float32)
    grey += rng.normal(0, 5, (height, width))
    image = cv2.GaussianBlur(np.clip(grey, 0, 255).astype(np.uint8), (0, 0), 0.7)
    return np.stack([image, np.clip(image * 0.95 + 6, 0, 255).astype(np.uint8), image], axis=-1)


def similarity(degrees: float, scale: float, shift: tuple[float, float], size: int = 320) -> np.ndarray:
    """3×3: turn and scale about the middle of a square, then shift."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    matrix = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    middle = np.full(2, (size - 1) / 2)
    matrix[:2, 2] = middle + shift - matrix[:2, :2] @ middle
    return matrix


def moved(
    labels: np.ndarray, matrix: np.ndarray, shape: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A class map in another frame, and where it is known."""
    size = (shape or labels.shape)[::-1]
    seen = cv2.warpPerspective(labels, matrix, size, flags=cv2.INTER_NEAREST, borderValue=255)
    return np.where(seen == 255, 0, seen).astype(np.uint8), seen != 255
