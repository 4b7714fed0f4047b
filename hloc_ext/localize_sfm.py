"""Localize queries against a map, from retrieved map images and matched features."""

from __future__ import annotations

import argparse
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
from tqdm import tqdm

from .errors import InputError
from .formats.features import FeatureReader
from .formats.lists import format_camera, read_query_list
from .formats.matches import MatchReader
from .formats.pairs import read_retrieval
from .formats.results import QueryResult, Status, result_names, write_log, write_poses
from .localization_map import LocalizationMap, check_keypoint_counts
from .pose_estimation import (
    DENSE_MIN_INLIER_CELLS,
    ESTIMATORS,
    EstimatorConf,
    PoseEstimate,
    angles_between,
    estimate_pose,
    rejection,
    rival_inliers,
)
from .triangulation import require_files, require_writable

logger = logging.getLogger(__name__)


@dataclass
class Correspondences:
    """2D–3D matches of a query, each (keypoint, point) once.

    Attributes:
        keypoints: M indices of query keypoints.
        points2D: M×2 pixels, COLMAP's origin (top-left pixel centre at (0.5, 0.5)).
        rows: M rows of the map's points.
        images: M numbers of the best retrieved map images that gave the matches.
    """

    keypoints: np.ndarray
    points2D: np.ndarray
    rows: np.ndarray
    images: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def collect_correspondences(
    localization_map: LocalizationMap,
    keypoints: np.ndarray,
    images: Sequence[int],
    matches: Sequence[np.ndarray],
    where: str = "matches",
) -> Correspondences:
    """Join matches to map images into 2D–3D matches.

    Args:
        localization_map: the map.
        keypoints: N×2 query keypoints, pixels, top-left pixel centre at (0, 0).
        images: numbers of the map images.
        matches: for each of them, M×2 indices (query keypoint, map keypoint).
        where: the source of the matches, for errors.

    Returns:
        Matches in HLOC's order: by first appearance of the keypoint, then of the point.
    """
    query_indices, rows, sources = ([np.zeros(0, np.int64)] for _ in range(3))
    for image, pairs in zip(images, matches, strict=True):
        # An image in no pair of the map has no keypoints there; a semi-dense matcher makes some later.
        if len(pairs) == 0 or len(localization_map.rows_of(image)) == 0:
            continue
        check_keypoint_counts(localization_map, image, int(pairs[:, 1].max()), where)
        if pairs[:, 0].max() >= len(keypoints):
            raise InputError(
                f"{where}: a match points to keypoint {pairs[:, 0].max()} of a query with {len(keypoints)}"
                " keypoints: the matches were made with other features. Match again with `--overwrite`."
            )
        point = localization_map.rows_of(image)[pairs[:, 1]]
        query_indices.append(pairs[point >= 0, 0])
        rows.append(point[point >= 0].astype(np.int64))
        sources.append(np.full(len(rows[-1]), image))
    query_index, row, source = (np.concatenate(parts) for parts in (query_indices, rows, sources))
    _, first = np.unique(query_index * (len(localization_map.points) + 1) + row, return_index=True)
    first.sort()
    query_index, row, source = query_index[first], row[first], source[first]
    _, appearance, inverse = np.unique(query_index, return_index=True, return_inverse=True)
    order = np.argsort(appearance[inverse], kind="stable")
    query_index, row, source = query_index[order], row[order], source[order]
    points2D = np.asarray(keypoints, np.float64).reshape(-1, 2)[query_index] + 0.5
    return Correspondences(query_index, points2D, row, source)


def viewing_angle(
    localization_map: LocalizationMap, correspondences: Correspondences, estimate: PoseEstimate
) -> float:
    """Median angle, in degrees, under which query and map images see the inlier points.

    A pose that claims to see points from the side opposite to the map images that matched them is
    wrong, however many inliers it has: symmetric places produce such poses.
    """
    points = localization_map.points[correspondences.rows[estimate.inliers]]
    if len(points) == 0:
        return 180.0
    to_query = estimate.cam_from_world.inverse().translation - points
    to_map = localization_map.centers[correspondences.images[estimate.inliers]] - points
    return float(np.median(angles_between(to_query, to_map)))


def localize_query(
    localization_map: LocalizationMap,
    name: str,
    camera: pycolmap.Camera,
    keypoints: np.ndarray,
    images: Sequence[int],
    matches: Sequence[np.ndarray],
    conf: EstimatorConf,
    covisibility_clustering: bool = False,
    focal_unknown: bool = False,
    where: str = "matches",
) -> tuple[QueryResult, PoseEstimate | None, Correspondences | None]:
    """Localize one query from its matches; a pose that fails the tests becomes a flagged fallback.

    Args:
        localization_map: the map.
        name: query image.
        camera: its intrinsics.
        keypoints: N×2 query keypoints, pixels, top-left pixel centre at (0, 0).
        images: numbers of the retrieved map images, best first.
        matches: for each of them, M×2 indices (query keypoint, map keypoint).
        conf: estimator and acceptance tests.
        covisibility_clustering: estimate a pose per group of covisible map images and keep the one with
            most inliers, which separates similar places.
        focal_unknown: the focal length is a guess: estimate it too.
        where: the source of the matches, for errors.

    Returns:
        The result, the estimate behind it (None if there was none), and its 2D–3D matches.
    """
    start = time.perf_counter()
    groups = [list(images)]
    if covisibility_clustering:
        groups = localization_map.covisibility_clusters(images)
    matches_of = dict(zip(images, matches, strict=True))
    estimate: PoseEstimate | None = None
    correspondences: Correspondences | None = None
    for group in groups:
        candidates = collect_correspondences(
            localization_map, keypoints, group, [matches_of[i] for i in group], where
        )
        points3D = localization_map.points[candidates.rows]
        pose = estimate_pose(candidates.points2D, points3D, camera, conf, focal_unknown)
        if correspondences is None or _num_inliers(pose) > _num_inliers(estimate):
            estimate, correspondences = pose, candidates
    num_matches = len(correspondences) if correspondences else 0
    angle = None
    if estimate is not None and correspondences is not None:
        angle = viewing_angle(localization_map, correspondences, estimate)
    reason = rejection(estimate, num_matches, conf, angle)
    rival = 0
    if estimate is not None and correspondences is not None and not reason:
        points3D = localization_map.points[correspondences.rows]
        rival = rival_inliers(estimate, correspondences.points2D, points3D, estimate.camera, conf)
        reason = rejection(estimate, num_matches, conf, angle, rival)
    result = QueryResult(
        name,
        Status.FAILED,
        num_matches=num_matches,
        reason=reason,
        estimator=describe_estimator(conf, covisibility_clustering),
        camera=format_camera(camera),
        retrieved=[localization_map.names[i] for i in images],
        num_inlier_cells=estimate.num_cells if estimate else 0,
        viewing_angle=angle,
        num_rival_inliers=rival,
    )
    if estimate is not None and not reason:
        result.status = Status.LOCALIZED
        result.set_pose(estimate.cam_from_world)
        result.num_inliers = estimate.num_inliers
        result.reprojection_error = estimate.reprojection_error
        result.camera = format_camera(estimate.camera)
    else:
        result.num_inliers_rejected = estimate.num_inliers if estimate else 0
        if images:
            result.status = Status.FALLBACK
            result.set_pose(localization_map.pose(images[0]))
    result.seconds = time.perf_counter() - start
    return result, estimate, correspondences


def _num_inliers(estimate: PoseEstimate | None) -> int:
    return -1 if estimate is None else estimate.num_inliers


def describe_estimator(conf: EstimatorConf, covisibility_clustering: bool) -> dict[str, Any]:
    """All settings behind a pose, for the log."""
    return {**conf.describe(), "covisibility_clustering": covisibility_clustering}


def retrieved_images(localization_map: LocalizationMap, query: str, names: Sequence[str]) -> list[int]:
    """Numbers of the retrieved map images; names that the map lacks are reported and left out."""
    known = [localization_map.index[name] for name in names if name in localization_map.index]
    if len(known) < len(names):
        lost = [name for name in names if name not in localization_map.index]
        logger.warning("%d images retrieved for %s are not in the map, e.g. %s.", len(lost), query, lost[0])
    return known


def main(
    reference_sfm: Path | pycolmap.Reconstruction | LocalizationMap,
    queries: Path | Sequence[tuple[str, pycolmap.Camera]],
    retrieval: Path,
    features: Path,
    matches: Path,
    results: Path,
    ransac_thresh: float = 12,
    covisibility_clustering: bool = False,
    prepend_camera_name: bool = False,
    config: Mapping[str, Any] | None = None,
    estimator: str = "pycolmap",
    min_inliers: int = EstimatorConf.min_inliers,
    min_inlier_ratio: float = EstimatorConf.min_inlier_ratio,
    min_inlier_cells: int = EstimatorConf.min_inlier_cells,
    max_viewing_angle: float = EstimatorConf.max_viewing_angle,
    max_rival_share: float = EstimatorConf.max_rival_share,
    refine_focal: bool = False,
    focal_unknown: Sequence[str] = (),
    num_threads: int | None = None,
    seed: int = 0,
) -> list[QueryResult]:
    """Localize all queries of a list.

    Args:
        reference_sfm: folder of the map, a reconstruction, or an indexed map.
        queries: list of queries with intrinsics (a path or pattern), or names with cameras.
        retrieval: retrieval list: for each query the map images to use, best first.
        features: feature file of the queries.
        matches: match file of queries and map images.
        results: text file to write, one pose (world→camera) per localized or fallback query. A log with
            everything else is written to ``results + "_logs.jsonl"``.
        ransac_thresh: largest reprojection error of an inlier, pixels.
        covisibility_clustering: see `localize_query`.
        prepend_camera_name: write ``folder/name`` instead of the basename.
        config: pycolmap's ``{"estimation": …, "refinement": …}`` options, as in HLOC.
        estimator: ``pycolmap`` or ``poselib``.
        min_inliers, min_inlier_ratio, min_inlier_cells, max_viewing_angle, max_rival_share: acceptance
            tests, see :class:`~hloc_ext.pose_estimation.EstimatorConf`; a pose that fails one becomes a
            flagged fallback.
        refine_focal: refine the focal length of every query.
        focal_unknown: queries whose focal length is a guess and must be estimated.
        num_threads: queries localized at once; default the number of processors.
        seed: seed of random sampling.

    Returns:
        One result per query, in order of the list.

    Raises:
        MissingInputError: an input file, or the matches of a retrieved pair, are absent.
        InputError: the queries, or matches and features, do not fit together.
        UnwritableError: the results cannot be written; checked before the work starts.
    """
    require_files(retrieval=retrieval, features=features, matches=matches)
    if isinstance(queries, (str, Path)):
        queries = read_query_list(Path(queries))
    ranked = read_retrieval(Path(retrieval))
    if isinstance(reference_sfm, pycolmap.Reconstruction):
        reference_sfm = LocalizationMap.from_model(reference_sfm)
    elif not isinstance(reference_sfm, LocalizationMap):
        reference_sfm = LocalizationMap.load(Path(reference_sfm))
    conf = EstimatorConf(
        estimator=estimator,
        ransac_thresh=ransac_thresh,
        min_inliers=min_inliers,
        min_inlier_ratio=min_inlier_ratio,
        min_inlier_cells=min_inlier_cells,
        max_viewing_angle=max_viewing_angle,
        max_rival_share=max_rival_share,
        refine_focal=refine_focal,
        seed=seed,
        options=dict(config or {}),
    )
    unknown = set(focal_unknown)
    result_names([name for name, _ in queries], Path(results), prepend_camera_name)
    require_writable(Path(results).parent)
    with FeatureReader(features, max_cache_bytes=0) as reader, MatchReader(matches) as match_reader:
        localize = _QueryLocalizer(
            reference_sfm, reader, match_reader, ranked, conf, covisibility_clustering, unknown
        )
        with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
            outcomes = list(tqdm(pool.map(localize, queries), total=len(queries), desc="localize"))
    write_log(Path(f"{results}_logs.jsonl"), outcomes)
    poses = {o.name: o.cam_from_world for o in outcomes if o.cam_from_world is not None}
    write_poses(poses, Path(results), prepend_camera_name)
    counts = Counter(o.status.value for o in outcomes)
    logger.info(
        "%d of %d queries localized, %d fallback, %d failed; poses in %s.",
        counts[Status.LOCALIZED.value],
        len(outcomes),
        counts[Status.FALLBACK.value],
        counts[Status.FAILED.value],
        results,
    )
    return outcomes


@dataclass
class _QueryLocalizer:
    """Reads what a query needs and localizes it; called from several threads."""

    localization_map: LocalizationMap
    features: FeatureReader
    matches: MatchReader
    ranked: Mapping[str, list[str]]
    conf: EstimatorConf
    covisibility_clustering: bool
    focal_unknown: set[str]
    reading: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, query: tuple[str, pycolmap.Camera]) -> QueryResult:
        name, camera = query
        reason = ""
        if name not in self.ranked:
            reason = "no map image was retrieved"
        elif name not in self.features:
            reason = "no features (unreadable image?)"
        else:
            reason = self._wrong_size(name, camera)
        images = retrieved_images(self.localization_map, name, self.ranked.get(name, []))
        if not reason and not images:
            reason = "no retrieved image is in the map"
        if reason:
            logger.warning("%s: %s.", name, reason)
            return self._without_matches(name, camera, images, reason)
        names = [self.localization_map.names[i] for i in images]
        with self.reading:  # HDF5 reads one dataset at a time anyway
            keypoints = self.features.keypoints(name)
            matches = [self.matches.indices(name, other) for other in names]
        return localize_query(
            self.localization_map,
            name,
            camera,
            keypoints,
            images,
            matches,
            self.conf,
            self.covisibility_clustering,
            name in self.focal_unknown,
            str(self.matches.path),
        )[0]

    def _wrong_size(self, name: str, camera: pycolmap.Camera) -> str:
        """Why the intrinsics cannot belong to the image; empty if they may."""
        with self.reading:
            if "image_size" not in self.features.keys(name):
                return ""
            width, height = (int(v) for v in self.features.get(name, "image_size"))
        if (camera.width, camera.height) == (width, height):
            return ""
        return f"intrinsics for {camera.width}×{camera.height} pixels, the image has {width}×{height}"

    def _without_matches(
        self, name: str, camera: pycolmap.Camera, images: Sequence[int], reason: str
    ) -> QueryResult:
        estimator = describe_estimator(self.conf, self.covisibility_clustering)
        result = QueryResult(
            name, Status.FAILED, reason=reason, estimator=estimator, camera=format_camera(camera)
        )
        if images:
            result.status = Status.FALLBACK
            result.set_pose(self.localization_map.pose(images[0]))
            result.retrieved = [self.localization_map.names[i] for i in images]
        return result


def build_parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext localize_sfm", description=__doc__)
    for name in ("reference_sfm", "queries", "features", "matches", "retrieval", "results"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    add_estimator_arguments(parser)
    parser.add_argument("--covisibility_clustering", action="store_true")
    parser.add_argument("--prepend_camera_name", action="store_true")
    parser.add_argument("--num_threads", type=int)
    return parser


def add_estimator_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the pose estimation, shared with the pipelines."""
    default = EstimatorConf()
    parser.add_argument("--estimator", choices=ESTIMATORS, default=default.estimator)
    parser.add_argument("--ransac_thresh", type=float, default=default.ransac_thresh, help="pixels")
    parser.add_argument("--min_inliers", type=int, default=default.min_inliers)
    parser.add_argument("--min_inlier_ratio", type=float, default=default.min_inlier_ratio)
    parser.add_argument(
        "--min_inlier_cells",
        type=int,
        default=default.min_inlier_cells,
        help=f"squares, of a 20th of the image's longest side, that must hold inliers (default:"
        f" {default.min_inlier_cells}; in the pipelines {DENSE_MIN_INLIER_CELLS} for semi-dense matchers)",
    )
    parser.add_argument(
        "--max_viewing_angle",
        type=float,
        default=default.max_viewing_angle,
        help="degrees between the rays from query and map images to the inlier points (median)",
    )
    parser.add_argument(
        "--max_rival_share",
        type=float,
        default=default.max_rival_share,
        help="largest share of the inliers that another pose may have among the other matches",
    )
    parser.add_argument("--refine_focal", action="store_true", help="refine each query's focal length")
    parser.add_argument("--seed", type=int, default=0)


def cli(argv: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    main(**vars(build_parser().parse_args(argv)))


if __name__ == "__main__":
    cli()
