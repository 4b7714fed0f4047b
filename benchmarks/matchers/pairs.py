"""Pairs of images with a known transform between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hloc_ext.evaluation.homography import transform_points

from .methods import Matches


@dataclass(frozen=True)
class Pair:
    """Two images of a plane.

    Attributes:
        image0, image1: H×W uint8.
        truth: 3×3, pixels of image 0 → pixels of image 1, top-left centre (0, 0).
        name: of the photo.
    """

    image0: np.ndarray
    image1: np.ndarray
    truth: np.ndarray
    name: str

    def errors(self, matches: Matches) -> np.ndarray:
        """Distance in image 1 from each match to where the transform puts its point of image 0, pixels."""
        keypoints0, keypoints1, _ = matches
        return np.linalg.norm(transform_points(self.truth, keypoints0) - keypoints1, axis=1)

    def correct(self, matches: Matches, threshold: float) -> np.ndarray:
        """Which matches have at most `threshold` pixels of error in image 1."""
        return self.errors(matches) <= threshold
