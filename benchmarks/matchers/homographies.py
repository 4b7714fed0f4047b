"""Photos under random homographies with photometric change: accuracy of the estimated homography."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.tables import Table
from hloc_ext.datasets.homography import HomographyConfig, random_views, warp_view
from hloc_ext.datasets.photometric import PhotometricChange
from hloc_ext.evaluation.homography import corner_error
from hloc_ext.evaluation.metrics import pose_auc
from hloc_ext.formats.images import list_images, read_image

from .methods import Matches, Method, timed
from .options import Options, require_folder
from .pairs import Pair

SHAPE = (480, 640)
#: Folder of photos → how many of them, evenly spread.
SOURCES = {"south_building": 24, "sacre_coeur": 10}
PAIRS_PER_PHOTO = 2
#: As in HPatches: corners displaced by up to a quarter of the sides, turned, nearer or farther.
GEOMETRY = HomographyConfig(
    max_rotation=25,
    max_roll=0,
    scale=(0.6, 1.6),
    anisotropy=1.2,
    shear=0.1,
    perspective=0.25,
    translation=0.2,
    min_overlap=0.5,
)
STRENGTHS = ("mild", "strong")
#: Inliers of the estimator, and limits of the area under the curve: pixels.
THRESHOLD, LIMITS = 3.0, (3, 5, 10)
ESTIMATOR = f"cv2.findHomography, USAC_MAGSAC, {THRESHOLD:g} px, 10 000 iterations"
SEED = 10


def estimate(matches: Matches) -> np.ndarray | None:
    """3×3 homography by MAGSAC++, or None."""
    keypoints0, keypoints1, _ = matches
    if len(keypoints0) < 4:
        return None
    cv2.setRNGSeed(0)
    matrix, _ = cv2.findHomography(
        keypoints0.astype(np.float64),
        keypoints1.astype(np.float64),
        cv2.USAC_MAGSAC,
        THRESHOLD,
        maxIters=10000,
        confidence=0.9999,
    )
    return matrix


def find_photos(data: Path) -> list[Path]:
    """The photos that pairs are made of.

    Raises:
        MissingInputError: a folder does not exist.
    """
    found = []
    for source, count in SOURCES.items():
        folder = require_folder(data / source)
        names = list_images(folder)
        chosen = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
        found += [folder / names[i] for i in chosen]
    return found


def make_pair(photo: np.ndarray, strength: str, rng: np.random.Generator, name: str = "") -> Pair:
    """Two views of a photo, each changed by itself.

    Args:
        photo: (H, W, 3) RGB or (H, W), uint8.
        strength: of the photometric change, a name of ``hloc_ext.datasets.photometric.CHANGES``.
        rng: source of all choices; the views do not depend on the strength.
        name: of the photo.
    """
    first, second = random_views(rng, photo.shape[:2], SHAPE, GEOMETRY)
    change = PhotometricChange(strength)
    images = [change(warp_view(photo, view, SHAPE), rng) for view in (first, second)]
    truth = np.linalg.inv(second) @ first
    return Pair(images[0], images[1], truth / truth[2, 2], name)


def make_pairs(data: Path, strength: str, limit: int | None = None) -> list[Pair]:
    """All pairs of a strength, or `limit` of them from different photos."""
    pairs: list[Pair] = []
    for repeat in range(PAIRS_PER_PHOTO):
        for number, path in enumerate(find_photos(data)):
            if limit is not None and len(pairs) == limit:
                return pairs
            rng = np.random.default_rng([SEED, number, repeat])
            pairs.append(make_pair(read_image(path), strength, rng, path.stem))
    return pairs


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """Area under the curve of corner errors, for each strength of the photometric change."""
    limits = "/".join(map(str, LIMITS))
    table = Table(
        "Homographies",
        [
            f"photos {' and '.join(SOURCES)}, views of {SHAPE[1]}×{SHAPE[0]}; corners displaced by up to"
            f" {100 * GEOMETRY.perspective:g} %, rotation ±{GEOMETRY.max_rotation:g}°, scale"
            f" {GEOMETRY.scale[0]:g}–{GEOMETRY.scale[1]:g}, overlap from {100 * GEOMETRY.min_overlap:g} %",
            "both views have a photometric change of their own (hloc_ext.datasets.photometric MILD, STRONG)",
            f"estimator: {ESTIMATOR}, for every method",
            f"AUC: area under the curve of recall over mean corner error up to {limits} px, in %",
        ],
        ["change", "method", "pairs", f"AUC@{limits}", "matches", "within 3 px %", "s per pair"],
    )
    for strength in STRENGTHS:
        pairs = make_pairs(options.data, strength, options.limit)
        for method in methods:
            table.rows.append({"change": strength, **accuracy(method, pairs)})
            options.report(table.rows[-1])
    return [table]


def accuracy(method: Method, pairs: Sequence[Pair]) -> dict[str, object]:
    """Row of one method over some pairs."""
    errors, counts, shares, seconds = [], [], [], []
    for pair in pairs:
        matches, elapsed = timed(method, pair.image0, pair.image1)
        errors.append(corner_error(estimate(matches), pair.truth, SHAPE[::-1]))
        counts.append(len(matches[0]))
        shares.append(pair.correct(matches, 3.0).mean() if len(matches[0]) else 0.0)
        seconds.append(elapsed)
    areas = [100 * area for area in pose_auc(errors, LIMITS)]
    return {
        "method": method.name,
        "pairs": len(pairs),
        f"AUC@{'/'.join(map(str, LIMITS))}": " / ".join(f"{area:.1f}" for area in areas),
        "matches": int(np.mean(counts)),
        "within 3 px %": 100 * float(np.mean(shares)),
        "s per pair": float(np.median(seconds)),
    }
