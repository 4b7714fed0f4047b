"""Calibrate the acceptance tests of poses on poses that are wrong by construction.

Two kinds of wrong queries: photos of other places (``--wrong``), and, harder, every n-th map photo
localized against only those map photos that share no 3-D point with it, where a repetitive place offers
look-alikes. Their inliers are what chance and repetition give. The same map photos, localized against all
others, show what the thresholds cost right poses (the map knows them, so this is an upper bound).

``python -m benchmarks.calibrate_acceptance --maps MAP_DIR… --wrong PHOTOS``
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hloc_ext.evaluation.metrics import pose_error
from hloc_ext.formats.colmap import read_model
from hloc_ext.formats.images import list_images
from hloc_ext.formats.results import QueryResult, Status
from hloc_ext.localizer import Localizer
from hloc_ext.pose_estimation import EstimatorConf

INLIERS = (4, 6, 8, 10, 12, 15, 20, 30)
CELLS = (0, 6, 8, 10, 12, 15, 20)
#: Largest viewing angle and rival share of each table: none, the first, both.
TESTS = (
    (180.0, float("inf")),
    (EstimatorConf.max_viewing_angle, float("inf")),
    (EstimatorConf.max_viewing_angle, EstimatorConf.max_rival_share),
)

COLUMNS = ("inliers", "inlier ratio", "inlier cells", "viewing angle (degrees)", "rival share")
Support = list[tuple[float, ...]]  # the columns of each pose


def open_map(map_dir: Path) -> Localizer:
    """Map with the acceptance tests switched off."""
    localizer = Localizer(map_dir)
    localizer.conf = replace(
        localizer.conf,
        min_inliers=0,
        min_inlier_ratio=0.0,
        min_inlier_cells=0,
        max_viewing_angle=180.0,
        max_rival_share=0.999,
    )
    return localizer


def support_of(result: QueryResult) -> tuple[float, ...]:
    """The :data:`COLUMNS` of a result, believed or not."""
    angle = 180.0 if result.viewing_angle is None else result.viewing_angle
    inliers = max(result.num_inliers, result.num_inliers_rejected)
    ratio = inliers / result.num_matches if result.num_matches else 0.0
    rival = result.num_rival_inliers / inliers if inliers else 0.0
    return inliers, ratio, result.num_inlier_cells, angle, rival


def other_places(localizer: Localizer, photos: Path, number: int, seed: int) -> Support:
    """Localize photos of other places."""
    names = list_images(photos)
    chosen = np.random.default_rng(seed).choice(len(names), min(number, len(names)), replace=False)
    return [
        support_of(localizer.localize(photos / names[i])) for i in tqdm(sorted(chosen), desc="other places")
    ]


def same_place(localizer: Localizer, images: Path, every: int) -> tuple[Support, Support]:
    """Localize map photos against photos without a common point (wrong), and against all others (right).

    A right pose is kept only if it agrees with the map within 1 % of the map's extent and 5°.
    """
    points = [
        set(rows[rows >= 0].tolist()) for rows in map(localizer.map.rows_of, range(len(localizer.map.names)))
    ]
    model = read_model(localizer.map_dir / localizer.description.sfm)
    cameras = {image.name: image.camera for image in model.images.values()}
    extent = np.linalg.norm(np.ptp(localizer.map.centers, axis=0))
    wrong: Support = []
    right: Support = []
    for i in tqdm(range(0, len(points), every), desc="same place"):
        name = localizer.map.names[i]
        camera = cameras[name]
        others = [j for j in range(len(points)) if j != i]
        apart = [localizer.map.names[j] for j in others if not points[i] & points[j]]
        if apart:
            wrong.append(support_of(localizer.localize(images / name, camera, candidates=apart)))
        everyone = [localizer.map.names[j] for j in others]
        result = localizer.localize(images / name, camera, candidates=everyone)
        if result.cam_from_world is None or result.status is not Status.LOCALIZED:
            continue
        position, rotation = pose_error(result.cam_from_world, localizer.map.pose(i))
        if position < 0.01 * extent and rotation < 5:
            right.append(support_of(result))
    return wrong, right


def acceptance_table(support: Support, max_angle: float, max_rival: float) -> str:
    """Share of poses that pass each number of inliers and of cells, the viewing angle and the rival share."""
    if not support:
        return "none"
    values = np.array(support)
    lines = ["min_inliers \\ cells " + "".join(f"{cells:8d}" for cells in CELLS)]
    plausible = (values[:, 3] <= max_angle) & (values[:, 4] <= max_rival)
    for inliers in INLIERS:
        passed = [plausible & (values[:, 0] >= inliers) & (values[:, 2] >= cells) for cells in CELLS]
        lines.append(f"{inliers:19d} " + "".join(f"{100 * p.mean():7.1f}%" for p in passed))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=Path, nargs="+", required=True, help="output folders of pipelines")
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="their photos, in the same order")
    parser.add_argument("--wrong", type=Path, help="photos of other places")
    parser.add_argument("--number", type=int, default=60, help="photos of other places per map")
    parser.add_argument("--every", type=int, default=3, help="take every n-th map photo")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    groups: dict[str, Support] = {"other places": [], "same place, wrong": [], "same place, right": []}
    for number, map_dir in enumerate(args.maps):
        localizer = open_map(map_dir)
        if args.wrong:
            groups["other places"] += other_places(localizer, args.wrong, args.number, args.seed)
        if args.images:
            wrong, right = same_place(localizer, args.images[number], args.every)
            groups["same place, wrong"] += wrong
            groups["same place, right"] += right
    for label, support in groups.items():
        if not support:
            continue
        print(f"\n{label}: {len(support)} poses{' ' * 20}min     10 %     50 %     90 %     99 %      max")
        for name, column in zip(COLUMNS, np.array(support).T, strict=True):
            quantiles = np.quantile(column, [0, 0.1, 0.5, 0.9, 0.99, 1])
            print(f"  {name:30s}" + "".join(f"{v:9.3g}" for v in quantiles))
        for max_angle, max_rival in TESTS:
            print(f"accepted with a viewing angle up to {max_angle:.0f}°, rival share up to {max_rival}:")
            print(acceptance_table(support, max_angle, max_rival))


if __name__ == "__main__":
    main()
