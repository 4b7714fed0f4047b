"""Strecha et al. (CVPR 2008), Herz-Jesus-P25: relative pose of pairs of photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import poselib
import pycolmap

from benchmarks.tables import Table
from hloc_ext.evaluation.metrics import pose_auc
from hloc_ext.evaluation.relative_pose import relative_pose_error
from hloc_ext.formats.colmap import read_model
from hloc_ext.formats.images import read_image, resize_image

from .methods import Matches, Method, timed
from .options import Options, require_folder

SCENE = "Herz-Jesus-P25"
#: Longest side of the images, pixels.
SIZE = 1024
#: Pairs at most so far apart in the sequence, and with at most this angle between the viewing directions.
MAX_DISTANCE, MAX_ANGLE = 5, 40.0
THRESHOLD, LIMITS = 1.0, (5, 10, 20)


@dataclass(frozen=True)
class PosePair:
    """Two photos.

    Attributes:
        names: of the images.
        images: H×W uint8.
        cameras: of the resized images.
        rotation, translation: camera 0 → camera 1.
    """

    names: tuple[str, str]
    images: tuple[np.ndarray, np.ndarray]
    cameras: tuple[pycolmap.Camera, pycolmap.Camera]
    rotation: np.ndarray
    translation: np.ndarray


def read_pairs(folder: Path, limit: int | None = None) -> list[PosePair]:
    """Pairs of neighbouring photos, evenly thinned to `limit`.

    Raises:
        MissingInputError, CorruptFileError: images or poses are not there or cannot be read.
    """
    model = read_model(folder / "sparse_gt")
    images = sorted(model.images.values(), key=lambda image: image.name)
    photos, cameras = {}, {}
    for image in images:
        photo = read_image(folder / "images" / image.name, grayscale=True)
        factor = SIZE / max(photo.shape)
        size = (round(photo.shape[1] * factor), round(photo.shape[0] * factor))
        photos[image.name] = resize_image(photo, size)
        camera = pycolmap.Camera(image.camera.todict())
        camera.rescale(*size)
        cameras[image.name] = camera
    pairs = []
    for i, first in enumerate(images):
        for second in images[i + 1 : i + 1 + MAX_DISTANCE]:
            relative = second.cam_from_world() * first.cam_from_world().inverse()
            rotation = relative.rotation.matrix()
            if np.degrees(np.arccos(np.clip(rotation[2, 2], -1, 1))) > MAX_ANGLE:
                continue
            names = (first.name, second.name)
            pairs.append(
                PosePair(
                    names,
                    (photos[names[0]], photos[names[1]]),
                    (cameras[names[0]], cameras[names[1]]),
                    rotation,
                    np.asarray(relative.translation),
                )
            )
    if limit is not None and limit < len(pairs):
        pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, limit).round().astype(int)]
    return pairs


def estimate(matches: Matches, cameras: Sequence[pycolmap.Camera]) -> tuple[np.ndarray, np.ndarray] | None:
    """Rotation and translation, camera 0 → camera 1, by PoseLib's LO-RANSAC; None where there is none."""
    keypoints0, keypoints1, _ = matches
    if len(keypoints0) < 5:
        return None
    models = [
        {"model": c.model.name, "width": c.width, "height": c.height, "params": c.params.tolist()}
        for c in cameras
    ]
    # COLMAP's cameras have the corner of the image at (0, 0).
    points = [np.asarray(keypoints, float) + 0.5 for keypoints in (keypoints0, keypoints1)]
    options = {"max_epipolar_error": THRESHOLD, "max_iterations": 10000, "success_prob": 0.9999, "seed": 0}
    pose, info = poselib.estimate_relative_pose(*points, *models, options, {})
    if not info["num_inliers"]:
        return None
    return np.asarray(pose.R), np.asarray(pose.t)


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """Area under the curve of pose errors."""
    pairs = read_pairs(require_folder(options.data / "strecha" / SCENE), options.limit)
    limits = "/".join(map(str, LIMITS))
    height, width = pairs[0].images[0].shape
    table = Table(
        f"Relative pose, Strecha {SCENE}",
        [
            f"{len(pairs)} pairs at most {MAX_DISTANCE} apart in the sequence and {MAX_ANGLE:g}° between the"
            f" optical axes; images {width}×{height}",
            f"estimator: PoseLib's LO-RANSAC of the essential matrix, {THRESHOLD:g} px, 10 000 iterations,"
            " for every method",
            f"AUC: area under the curve of recall over pose error up to {limits}°, in %; the pose error is"
            " the larger of the angles of rotation and translation",
        ],
        ["method", "pairs", f"AUC@{limits}°", "median error °", "matches", "s per pair"],
    )
    for method in methods:
        errors, counts, seconds = [], [], []
        for pair in pairs:
            matches, elapsed = timed(method, *pair.images)
            pose = estimate(matches, pair.cameras)
            errors.append(max(relative_pose_error(pose, (pair.rotation, pair.translation))))
            counts.append(len(matches[0]))
            seconds.append(elapsed)
        table.rows.append(
            {
                "method": method.name,
                "pairs": len(pairs),
                f"AUC@{limits}°": " / ".join(f"{100 * area:.1f}" for area in pose_auc(errors, LIMITS)),
                "median error °": float(np.median(errors)),
                "matches": int(np.mean(counts)),
                "s per pair": float(np.median(seconds)),
            }
        )
        options.report(table.rows[-1])
    return [table]
