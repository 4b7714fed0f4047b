"""What a pipeline tells at its end: errors against ground truth, match pictures, and the report."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from hloc_ext import logger
from hloc_ext.errors import InputError
from hloc_ext.evaluation.names import match_names
from hloc_ext.evaluation.poses import Evaluation, evaluate, format_table
from hloc_ext.formats.colmap import read_model, registered_poses
from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.lists import parse_camera
from hloc_ext.formats.matches import MatchReader
from hloc_ext.formats.results import QueryResult, Status
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.pose_estimation import EstimatorConf, reprojection_errors
from hloc_ext.report import MatchPicture, ReportData, pick_queries, write_report
from hloc_ext.report.stages import StageLog
from pipelines.common import Run

Poses = Mapping[str, pycolmap.Rigid3d]

#: Of the retrieved map images, so many are compared to find the one that a match picture shows.
NUM_CANDIDATES = 5


def read_ground_truth(path: Path, names: Sequence[str]) -> dict[str, pycolmap.Rigid3d]:
    """True poses, world→camera.

    Args:
        path: folder of a COLMAP model.
        names: images to evaluate; at least one must have a true pose.

    Raises:
        MissingInputError, CorruptFileError: there is no such model.
        InputError: it has a pose of none of the images.
    """
    truth = registered_poses(read_model(path))
    if not match_names(names, truth):
        raise InputError(
            f"The ground truth {path} has a pose of none of the {len(names)} images to evaluate, for instance"
            f" '{names[0]}'; its images are named like '{next(iter(truth), '')}'."
        )
    return truth


def evaluate_and_print(
    groups: Mapping[str, Sequence[QueryResult]],
    ground_truth: Poses,
    thresholds: Iterable[tuple[float, float]],
    map_poses: Poses | None = None,
) -> Evaluation:
    """Evaluate all queries, and each named group of them; print the table.

    Queries without a true pose are left out, and reported.

    Args:
        groups: results by group.
        ground_truth: true poses, world→camera.
        thresholds: pairs of position (map units) and rotation (degrees).
        map_poses: poses of the map images in the frame of the ground truth: for comparison, each group
            is then also evaluated with the pose of its best retrieved image as the answer.
    """
    thresholds = list(thresholds)
    table = {}
    for name, group in groups.items():
        if not match_names([result.name for result in group], ground_truth):
            continue
        table[name] = evaluate(group, ground_truth, thresholds, ignore_unknown=True)
        if map_poses is not None:
            alone = best_retrieved(group, map_poses)
            label = f"{name}, retrieval alone"
            table[label] = evaluate(alone, ground_truth, thresholds, ignore_unknown=True)
    print(format_table(table))
    results = [result for group in groups.values() for result in group]
    evaluation = evaluate(results, ground_truth, thresholds, ignore_unknown=True)
    if evaluation.ignored:
        logger.warning(
            "%d queries have no true pose and are left out of the evaluation, for instance '%s'.",
            len(evaluation.ignored),
            evaluation.ignored[0],
        )
    return evaluation


def best_retrieved(group: Sequence[QueryResult], map_poses: Poses) -> dict[str, pycolmap.Rigid3d | None]:
    """Pose of the best retrieved map image of each query; None without one."""
    return {r.name: map_poses[r.retrieved[0]] if r.retrieved else None for r in group}


def match_pictures(
    run: Run,
    root: Path,
    localization_map: LocalizationMap,
    matches: Path,
    results: Sequence[QueryResult],
    evaluation: Evaluation | None,
) -> list[MatchPicture]:
    """Matches of the best, the median and the worst query with the map image that supports them most."""
    return pictures_of(run, root, localization_map, matches, pick_queries(list(results), evaluation))


def pictures_of(
    run: Run,
    root: Path,
    localization_map: LocalizationMap,
    matches: Path,
    chosen: Mapping[str, QueryResult],
) -> list[MatchPicture]:
    """Matches of chosen queries, by label, with the map image that supports each most."""
    pictures = []
    with FeatureReader(run.features) as features, MatchReader(matches) as reader:
        for label, result in chosen.items():
            if result.name not in features:
                continue  # an unreadable image: its result says so
            candidates = [
                _picture(label, result, name, root, localization_map, features, reader)
                for name in result.retrieved[:NUM_CANDIDATES]
            ]
            pictures.append(max(candidates, key=lambda p: (p.inliers.sum(), len(p.inliers))))
    return pictures


def _picture(
    label: str,
    result: QueryResult,
    map_name: str,
    root: Path,
    localization_map: LocalizationMap,
    features: FeatureReader,
    reader: MatchReader,
) -> MatchPicture:
    pairs = reader.indices(result.name, map_name)
    rows = localization_map.rows_of(localization_map.index[map_name])[pairs[:, 1]]
    pairs, rows = pairs[rows >= 0], rows[rows >= 0]  # without a 3-D point a match has no part in the pose
    points0, points1 = features.keypoints(result.name)[pairs[:, 0]], features.keypoints(map_name)[pairs[:, 1]]
    inliers = np.zeros(len(pairs), bool)
    pose = result.cam_from_world
    if pose is not None and result.status is Status.LOCALIZED and len(pairs):
        camera = parse_camera(result.camera.split(), result.name)
        points3D = localization_map.points[rows]
        errors = reprojection_errors(pose, camera, points0 + 0.5, points3D)  # COLMAP's origin
        inliers = errors <= result.estimator["ransac_thresh"]
    title = f"{label}: {result.name} – {map_name} ({result.status.value})"
    return MatchPicture(title, root / result.name, root / map_name, points0, points1, inliers)


def command_of(program: str, argv: Sequence[str] | None) -> str:
    """Command line of ``python -m …`` with its arguments, by default those of the process."""
    return f"{program} {shlex.join(sys.argv[1:] if argv is None else argv)}"


def facts_of(run: Run, command: str, conf: EstimatorConf, **more: str) -> dict[str, str]:
    """What a reader of the report must know to repeat the run.

    Args:
        run: configurations.
        command: see :func:`command_of`.
        conf: estimator.
        more: further facts.
    """
    return {
        "command": command,
        "features": "-" if run.is_dense else run.feature_conf["output"],
        "matcher": run.matcher_conf["output"],
        "retrieval": run.retrieval_conf["output"],
        "estimator": ", ".join(f"{key} {value}" for key, value in conf.describe().items() if value != {}),
        "processors": str(os.cpu_count()),
        **more,
    }


def finish_report(path: Path, data: ReportData, log: StageLog) -> None:
    """Write the report and print the table of the stages."""
    data.stages = log.records
    write_report(path, data)
    log.print()
    print(f"Report: {path}")
