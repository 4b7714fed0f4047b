"""Verification of matches by known poses, and the COLMAP database that carries them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pycolmap
from tqdm import tqdm

from .errors import InputError
from .formats.atomic import require_space
from .formats.features import FeatureReader
from .formats.matches import MatchReader, check_indices
from .formats.pairs import Pair, unique_pairs

Configuration = pycolmap.TwoViewGeometryConfiguration

#: Space that must be left on the disk of a database: more than one write of COLMAP takes.
RESERVED_BYTES = 16 * 2**20


def epipolar_errors(
    cam1_from_cam0: pycolmap.Rigid3d, points0: np.ndarray, points1: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of matched points to each other's epipolar lines.

    Args:
        cam1_from_cam0: relative pose.
        points0, points1: M×2 on the normalised image planes (undistorted, unit focal length).

    Returns:
        M distances in image 0 and M in image 1, on the normalised planes; NaN where there is no
        epipolar line, as between images of one camera centre.
    """
    essential = pycolmap.essential_matrix_from_pose(cam1_from_cam0)
    homogeneous0 = np.column_stack([points0, np.ones(len(points0))])
    homogeneous1 = np.column_stack([points1, np.ones(len(points1))])
    lines1 = homogeneous0 @ essential.T
    lines0 = homogeneous1 @ essential
    residual = np.abs(np.einsum("ij,ij->i", homogeneous0, lines0))
    with np.errstate(divide="ignore", invalid="ignore"):
        errors0 = residual / np.linalg.norm(lines0[:, :2], axis=1)
        errors1 = residual / np.linalg.norm(lines1[:, :2], axis=1)
    return errors0, errors1


@dataclass
class MatchStatistics:
    """Counts that explain an empty or poor reconstruction."""

    num_pairs: int = 0
    num_matches: int = 0
    num_verified: int = 0
    inlier_ratios: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.num_pairs} pairs with {self.num_matches} matches"
        if self.inlier_ratios:
            low, middle, high = (f(self.inlier_ratios) * 100 for f in (np.min, np.median, np.max))
            text += (
                f", of which {self.num_verified} agree with the known poses (per pair: min {low:.0f} %,"
                f" median {middle:.0f} %, max {high:.0f} %)"
            )
        return text


def require_database_space(database_path: Path | None, num_bytes: int = 0) -> None:
    """Raise DiskFullError before a disk is full: COLMAP then ends the process.

    Args:
        database_path: database; None checks nothing.
        num_bytes: what is going to be written. Besides, what SQLite has written to its log so far must fit
            once more, and some reserve.
    """
    if database_path is not None:
        log = database_path.with_name(f"{database_path.name}-wal")
        logged = log.stat().st_size if log.exists() else 0
        require_space(database_path, num_bytes + logged + RESERVED_BYTES)


def import_features(
    image_ids: Mapping[str, int],
    database: pycolmap.Database,
    features_path: Path,
    used: Iterable[str],
    database_path: Path | None = None,
) -> None:
    """Write keypoints to the database, moved to COLMAP's pixel origin (top-left centre at (0.5, 0.5)).

    Args:
        image_ids: ids of the images in the database.
        database: open database.
        features_path: feature file.
        used: images that occur in the pairs and so must have features; others may lack them.
        database_path: file of the database, if the space on its disk is to be checked.
    """
    required = set(used)
    with FeatureReader(features_path, max_cache_bytes=0) as features, pycolmap.DatabaseTransaction(database):
        for name, image_id in tqdm(image_ids.items(), desc="import features"):
            require_database_space(database_path)
            if name in required or name in features:
                keypoints = features.keypoints(name) + np.float32(0.5)
            else:
                keypoints = np.zeros((0, 2), np.float32)
            database.write_keypoints(image_id, keypoints)


def pairs_in_database(pairs: Iterable[Pair], image_ids: Mapping[str, int], where: Path) -> list[Pair]:
    """Unique pairs whose images are both known.

    Raises:
        InputError: a pair names an image that the model or database lacks.
    """
    unique = unique_pairs(pairs)
    unknown = sorted({name for pair in unique for name in pair} - set(image_ids))
    if unknown:
        raise InputError(
            f"{where} names {len(unknown)} image(s) that the model lacks, for instance '{unknown[0]}':"
            " make the pairs from the images of this model."
        )
    return unique


def import_matches(
    image_ids: Mapping[str, int],
    database: pycolmap.Database,
    pairs: Iterable[Pair],
    matches_path: Path,
    features_path: Path,
    min_match_score: float | None = None,
    as_verified: bool = False,
    database_path: Path | None = None,
) -> MatchStatistics:
    """Write the matches of `pairs` to the database.

    Args:
        image_ids: ids of the images in the database.
        database: open database, keypoints imported.
        pairs: unique pairs.
        matches_path: match file.
        features_path: feature file, to check the indices.
        min_match_score: drop matches that score no more than this.
        as_verified: also declare all matches geometrically verified.
        database_path: file of the database, if the space on its disk is to be checked.
    """
    statistics = MatchStatistics()
    with MatchReader(matches_path) as reader, pycolmap.DatabaseTransaction(database):
        for name0, name1 in tqdm(list(pairs), desc="import matches"):
            require_database_space(database_path)
            id0, id1 = image_ids[name0], image_ids[name1]
            matches, scores = reader.get(name0, name1)
            if min_match_score is not None:
                matches = matches[scores > min_match_score]
            num0, num1 = database.num_keypoints_for_image(id0), database.num_keypoints_for_image(id1)
            where = f"{matches_path} with {features_path}, pair ({name0}, {name1})"
            check_indices(matches, num0, num1, where)
            database.write_matches(id0, id1, matches.astype(np.uint32))
            if as_verified:
                database.write_two_view_geometry(id0, id1, verified_geometry(matches))
            statistics.num_pairs += 1
            statistics.num_matches += len(matches)
    return statistics


def verified_geometry(inlier_matches: np.ndarray) -> pycolmap.TwoViewGeometry:
    """A two-view geometry that COLMAP accepts; without a configuration, 4.2.1 drops the pair silently."""
    if len(inlier_matches) == 0:
        return pycolmap.TwoViewGeometry(config=Configuration.DEGENERATE)
    return pycolmap.TwoViewGeometry(
        inlier_matches=inlier_matches.astype(np.uint32), config=Configuration.CALIBRATED
    )


def verify_with_known_poses(
    image_ids: Mapping[str, int],
    reference: pycolmap.Reconstruction,
    database: pycolmap.Database,
    features_path: Path,
    pairs: Iterable[Pair],
    matches_path: Path,
    max_error: float = 4.0,
    min_match_score: float | None = None,
    database_path: Path | None = None,
) -> MatchStatistics:
    """Keep the matches that satisfy the epipolar constraint of the known poses.

    Args:
        image_ids: ids of the images, in the database and in `reference`.
        reference: model with poses and intrinsics.
        database: open database, receives the two-view geometries.
        features_path: feature file; its ``uncertainty`` scales the threshold per image.
        pairs: unique pairs.
        matches_path: match file.
        max_error: largest distance to the epipolar line, pixels of the original images, per unit of
            keypoint uncertainty.
        min_match_score: drop matches that score no more than this.
        database_path: file of the database, if the space on its disk is to be checked.
    """
    statistics = MatchStatistics()
    normalized: dict[str, tuple[np.ndarray, float]] = {}
    pairs = list(pairs)
    used = {name for pair in pairs for name in pair}
    poses = {name: reference.images[image_ids[name]].cam_from_world() for name in used}
    with (
        FeatureReader(features_path, max_cache_bytes=0) as features,
        MatchReader(matches_path) as reader,
        pycolmap.DatabaseTransaction(database),
    ):

        def on_normalized_plane(name: str) -> tuple[np.ndarray, float]:
            if name not in normalized:
                camera = reference.cameras[reference.images[image_ids[name]].camera_id]
                keypoints = features.keypoints(name).astype(float) + 0.5  # COLMAP's pixel origin
                points = camera.cam_from_img(keypoints) if len(keypoints) else np.zeros((0, 2))
                threshold = camera.cam_from_img_threshold(features.uncertainty(name) * max_error)
                normalized[name] = np.asarray(points), threshold
            return normalized[name]

        for name0, name1 in tqdm(pairs, desc="verify by known poses"):
            require_database_space(database_path)
            points0, threshold0 = on_normalized_plane(name0)
            points1, threshold1 = on_normalized_plane(name1)
            if min_match_score is None:
                matches = reader.indices(name0, name1)
            else:
                matches, scores = reader.get(name0, name1)
                matches = matches[scores > min_match_score]
            errors0, errors1 = epipolar_errors(
                poses[name1] * poses[name0].inverse(), points0[matches[:, 0]], points1[matches[:, 1]]
            )
            valid = (errors0 <= threshold0) & (errors1 <= threshold1)
            geometry = verified_geometry(matches[valid])
            database.write_two_view_geometry(image_ids[name0], image_ids[name1], geometry)
            statistics.num_pairs += 1
            statistics.num_matches += len(matches)
            statistics.num_verified += int(valid.sum())
            if len(matches):
                statistics.inlier_ratios.append(float(valid.mean()))
    return statistics
