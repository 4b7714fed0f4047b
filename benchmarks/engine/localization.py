"""Localization of queries against one map."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pycolmap

from hloc_ext.evaluation.metrics import pose_error
from hloc_ext.formats.colmap import image_ids, read_model
from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.matches import MatchReader
from hloc_ext.formats.pairs import read_retrieval
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.localize_sfm import localize_query, retrieved_images
from hloc_ext.pose_estimation import EstimatorConf

from .comparison import Row, Setup, alternate, quiet
from .scene import Scene

THRESHOLD = 12  # pixels, HLOC's default
SEED = 0

Poses = dict[str, pycolmap.Rigid3d | None]


def compare(setup: Setup) -> list[Row]:
    """HLOC's ``pose_from_cluster`` as its ``main`` calls it, against our path per query.

    The map is read beforehand by both. Our acceptance tests are off. HLOC does not seed its sampling,
    so that its poses change between runs; with our seed both draw the same samples.
    """
    stage = setup.host_module("localize_sfm", geometry=True)
    scene, folder = setup.scene, setup.scratch("localization")
    model = read_model(scene.map_dir)
    localization_map = LocalizationMap.load(scene.map_dir)
    hloc = hloc_localizer(stage, scene, model, {"max_error": THRESHOLD})
    rows, num_queries = [], len(scene.queries)
    for num_threads in sorted({1, os.cpu_count() or 1}):
        ours = our_localizer(scene, localization_map, num_threads)
        timing = alternate(hloc, ours, setup.repeats, folder)
        threads = "1 thread" if num_threads == 1 else f"{num_threads} threads"
        equality = describe(timing.hloc_result, timing.ours_result)
        if num_threads == 1:
            seeded = hloc_localizer(stage, scene, model, {"max_error": THRESHOLD, "random_seed": SEED})
            with quiet():
                equality += f"; with our seed in HLOC {describe(seeded(folder), timing.ours_result)}"
        rows.append(timing.row(f"localization, ours {threads}, ms/query", equality, num_queries, 1e3))
    return rows


def hloc_localizer(
    stage: Any, scene: Scene, model: pycolmap.Reconstruction, ransac: dict[str, Any]
) -> Callable[[Path], Poses]:
    """HLOC's loop over the queries, after it has read lists and map."""
    localizer = stage.QueryLocalizer(model, {"estimation": {"ransac": ransac}})
    retrieval, ids = read_retrieval(scene.query_pairs), image_ids(model)

    def run(_: Path) -> Poses:
        poses: Poses = {}
        for name, camera in scene.queries:
            found, _log = stage.pose_from_cluster(
                localizer,
                name,
                camera,
                [ids[n] for n in retrieval[name]],
                scene.features,
                scene.query_matches,
            )
            poses[name] = found["cam_from_world"] if found else None
        return poses

    return run


def our_localizer(
    scene: Scene, localization_map: LocalizationMap, num_threads: int
) -> Callable[[Path], Poses]:
    """Our loop over the queries, from opening the files to the poses."""
    retrieval = read_retrieval(scene.query_pairs)
    conf = EstimatorConf(
        ransac_thresh=THRESHOLD, min_inliers=0, min_inlier_ratio=0, min_inlier_cells=0, seed=SEED
    )

    def run(_: Path) -> Poses:
        with (
            FeatureReader(scene.features, max_cache_bytes=0) as features,
            MatchReader(scene.query_matches) as matches,
            ThreadPoolExecutor(num_threads) as pool,
        ):

            def localize(query: tuple[str, pycolmap.Camera]) -> tuple[str, pycolmap.Rigid3d | None]:
                name, camera = query
                images = retrieved_images(localization_map, name, retrieval[name])
                _, estimate, _ = localize_query(
                    localization_map,
                    name,
                    camera,
                    features.keypoints(name),
                    images,
                    [matches.indices(name, localization_map.names[i]) for i in images],
                    conf,
                )
                return name, estimate.cam_from_world if estimate else None

            run_all = pool.map if num_threads > 1 else map
            return dict(run_all(localize, scene.queries))

    return run


def describe(hloc: Poses, ours: Poses) -> str:
    """The largest difference of the poses of two sides."""
    found = [name for name in hloc if hloc[name] and ours[name]]
    alone = sum((hloc[name] is None) != (ours[name] is None) for name in hloc)
    errors = [pose_error(ours[name], hloc[name], name) for name in found]  # type: ignore[arg-type]
    position, rotation = (max((e[i] for e in errors), default=0.0) for i in (0, 1))
    text = f"{len(found)} of {len(hloc)} poses differ by at most {position:.2g} map units and {rotation:.2g}°"
    return text + (f", {alone} found by one side only" if alone else "")
