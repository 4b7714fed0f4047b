"""Features without training: RootSIFT, ORB, AKAZE, and SIFT on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from ...extractors.sift import root_normalize
from ...matchers.nearest_neighbor import NearestNeighbor

#: Keypoints of image 0 and of image 1, M×2 (pixels, top-left centre (0, 0)), and M scores.
Matches = tuple[np.ndarray, np.ndarray, np.ndarray]

#: OpenCV divides it by its three layers per octave: COLMAP's 0.02 / 3.
CONTRAST_THRESHOLD = 0.02
RATIO = 0.8
MAX_FEATURES = 8000
DENSE_STEP, DENSE_SIZES, DENSE_RATIO = 10, (12.0, 24.0), 0.9
#: Patches on the grid whose grey values vary less than this are left out.
LEAST_CONTRAST = 2.0


def match_sift(image0: np.ndarray, image1: np.ndarray) -> Matches:
    """RootSIFT, ratio and mutual test; the score is one minus the squared distance / 2."""
    sift = cv2.SIFT.create(MAX_FEATURES, contrastThreshold=CONTRAST_THRESHOLD, enable_precise_upscale=True)
    features0, features1 = (sift.detectAndCompute(image, None) for image in (image0, image1))
    return _match_floats(features0, features1, RATIO)


def match_orb(image0: np.ndarray, image1: np.ndarray) -> Matches:
    """ORB, ratio and mutual test; the score is one minus the ratio."""
    orb = cv2.ORB.create(5000)
    return _match_bits(*(orb.detectAndCompute(image, None) for image in (image0, image1)))


def match_akaze(image0: np.ndarray, image1: np.ndarray) -> Matches:
    """AKAZE, ratio and mutual test; the score is one minus the ratio."""
    akaze = cv2.AKAZE.create()
    return _match_bits(*(akaze.detectAndCompute(image, None) for image in (image0, image1)))


def match_dense_sift(image0: np.ndarray, image1: np.ndarray) -> Matches:
    """Upright RootSIFT of several sizes on a grid, ratio and mutual test."""
    sift = cv2.SIFT.create()
    features0, features1 = (sift.compute(image, _grid(image)) for image in (image0, image1))
    return _match_floats(features0, features1, DENSE_RATIO)


def _grid(image: np.ndarray) -> list[cv2.KeyPoint]:
    """Keypoints of each size on the grid, where the image is not flat."""
    height, width = image.shape
    values = image.astype(np.float32)
    keypoints = []
    for size in DENSE_SIZES:
        box = (int(2 * size) | 1,) * 2
        mean, squares = cv2.blur(values, box), cv2.blur(values * values, box)
        varied = squares - mean * mean > LEAST_CONTRAST**2
        start = DENSE_STEP // 2
        for y in range(start, height, DENSE_STEP):
            for x in range(start, width, DENSE_STEP):
                if varied[y, x]:
                    keypoints.append(cv2.KeyPoint(float(x), float(y), size, 0.0))
    return keypoints


Features = tuple[Sequence[cv2.KeyPoint], np.ndarray | None]


def _positions(keypoints: Sequence[cv2.KeyPoint]) -> np.ndarray:
    return np.array([keypoint.pt for keypoint in keypoints], float).reshape(-1, 2)


def no_matches() -> Matches:
    """Empty matches."""
    return np.empty((0, 2)), np.empty((0, 2)), np.empty(0)


def _match_floats(features0: Features, features1: Features, ratio: float) -> Matches:
    (keypoints0, descriptors0), (keypoints1, descriptors1) = features0, features1
    if descriptors0 is None or descriptors1 is None:
        return no_matches()
    inputs = {
        f"descriptors{i}": torch.from_numpy(root_normalize(descriptors).T.astype(np.float32))[None]
        for i, descriptors in enumerate((descriptors0, descriptors1))
    }
    matcher = NearestNeighbor({"ratio_threshold": ratio})
    found = matcher(inputs)
    matches, scores = found["matches0"][0].numpy(), found["matching_scores0"][0].numpy()
    keep = matches >= 0
    return _positions(keypoints0)[keep], _positions(keypoints1)[matches[keep]], scores[keep]


def _match_bits(features0: Features, features1: Features) -> Matches:
    (keypoints0, descriptors0), (keypoints1, descriptors1) = features0, features1
    if descriptors0 is None or descriptors1 is None or min(len(descriptors0), len(descriptors1)) < 2:
        return no_matches()
    distances, nearest = cv2.batchDistance(
        descriptors0, descriptors1, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=2
    )
    _, back = cv2.batchDistance(descriptors1, descriptors0, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=1)
    ratios = distances[:, 0] / np.maximum(distances[:, 1], 1)
    keep = (ratios <= RATIO) & (back[nearest[:, 0], 0] == np.arange(len(nearest)))
    return _positions(keypoints0)[keep], _positions(keypoints1)[nearest[keep, 0]], 1 - ratios[keep]
