"""Pictures of matches: query and map image side by side, inliers green, outliers red."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..formats.images import read_image, resize_image
from .data import MatchPicture

#: Colours (RGB) that stay apart for readers who confuse red and green: the red is darker and thinner.
INLIER_COLOR = (60, 220, 90)
OUTLIER_COLOR = (225, 45, 60)
GAP = 8
MAX_LINES = 120  # more hide the images
SHIFT = 4  # fractional bits of the coordinates that OpenCV draws at


def load_picture(image: Path | np.ndarray) -> np.ndarray:
    """Read a picture or check an array; returns H×W×3 uint8, RGB.

    Raises:
        InputError: an array of another type.
        MissingInputError, CorruptFileError: the file cannot be read.
    """
    if not isinstance(image, np.ndarray):
        return read_image(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise InputError(f"An image must be H×W or H×W×3 uint8, not {image.shape} {image.dtype}.")
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image


def subsample(indices: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` of the indices, evenly spaced in their order."""
    if len(indices) <= limit:
        return indices
    return indices[np.linspace(0, len(indices) - 1, limit).round().astype(int)]


def draw_matches(picture: MatchPicture, max_width: int = 1000, max_lines: int = MAX_LINES) -> np.ndarray:
    """Draw the matches of two images.

    Args:
        picture: images and points; pixels with the centre of the top-left pixel = (0, 0).
        max_width: of the picture, pixels. Both images get the same height and are never enlarged.
        max_lines: most inliers, and most outliers, that are drawn.

    Returns:
        H×W×3 uint8, RGB.

    Raises:
        InputError: arrays of different lengths, or an image of another type.
        MissingInputError, CorruptFileError: an image cannot be read.
    """
    points = [np.asarray(p, float).reshape(-1, 2) for p in (picture.points0, picture.points1)]
    inliers = np.asarray(picture.inliers, bool).reshape(-1)
    if not len(points[0]) == len(points[1]) == len(inliers):
        raise InputError(
            f"Match picture '{picture.title}': {len(points[0])} and {len(points[1])} points and"
            f" {len(inliers)} inlier flags must be equal numbers."
        )
    canvas, placed = _side_by_side(picture.image0, picture.image1, points, max_width)
    _draw_lines(canvas, placed, subsample(np.flatnonzero(~inliers), max_lines), OUTLIER_COLOR)
    _draw_lines(canvas, placed, subsample(np.flatnonzero(inliers), max_lines), INLIER_COLOR)
    return canvas


def draw_scored_matches(
    image0: Path | np.ndarray,
    image1: Path | np.ndarray,
    points0: np.ndarray,
    points1: np.ndarray,
    scores: np.ndarray,
    max_width: int = 1600,
    max_lines: int = 300,
) -> np.ndarray:
    """Draw the best matches of two images, from blue (score 0) through green to red (score 1).

    Args:
        image0, image1: files, or H×W×3 (RGB) or H×W uint8 arrays.
        points0, points1: M×2 pixels (x, y), centre of the top-left pixel = (0, 0).
        scores: M, in [0, 1].
        max_width: of the picture, pixels.
        max_lines: the number of matches that are drawn; the best ones lie on top.

    Returns:
        H×W×3 uint8, RGB.
    """
    points = [np.asarray(p, float).reshape(-1, 2) for p in (points0, points1)]
    canvas, placed = _side_by_side(image0, image1, points, max_width)
    levels = np.clip(np.asarray(scores) * 255, 0, 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels.reshape(-1, 1), cv2.COLORMAP_TURBO)[:, 0, ::-1] if len(levels) else []
    for index in np.argsort(scores, kind="stable")[-max_lines:]:
        red, green, blue = (int(value) for value in colors[index])
        _draw_lines(canvas, placed, np.array([index]), (red, green, blue))
    return canvas


def _side_by_side(
    image0: Path | np.ndarray, image1: Path | np.ndarray, points: list[np.ndarray], max_width: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Both images on one canvas H×W×3, and where their points come to lie on it."""
    images = [load_picture(image0), load_picture(image1)]
    aspects = sum(image.shape[1] / image.shape[0] for image in images)
    height = max(1, int(min((max_width - GAP) / aspects, *(image.shape[0] for image in images))))
    resized, placed, left = [], [], 0
    for image, xy in zip(images, points, strict=True):
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        scale = np.array([width / image.shape[1], height / image.shape[0]])
        resized.append(resize_image(image, (width, height)))
        placed.append((xy + 0.5) * scale - 0.5 + [left, 0])
        left += width + GAP
    canvas = np.full((height, left - GAP, 3), 255, np.uint8)
    for start, image in zip((0, left - GAP - resized[1].shape[1]), resized, strict=True):
        canvas[:, start : start + image.shape[1]] = image
    return canvas, placed


def _draw_lines(
    canvas: np.ndarray, points: list[np.ndarray], indices: np.ndarray, color: tuple[int, int, int]
) -> None:
    fixed = [np.round(xy[indices] * 2**SHIFT).astype(int) for xy in points]
    for start, end in zip(*fixed, strict=True):
        cv2.line(canvas, tuple(start.tolist()), tuple(end.tolist()), color, 1, cv2.LINE_AA, SHIFT)
        for center in (start, end):
            cv2.circle(canvas, tuple(center.tolist()), 2 << SHIFT, color, -1, cv2.LINE_AA, SHIFT)


def jpeg_data_uri(image: np.ndarray, quality: int = 82) -> str:
    """Encode an H×W×3 RGB uint8 image as a ``data:`` address of a JPEG."""
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
