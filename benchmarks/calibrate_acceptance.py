"""Calibrate the acceptance tests of poses on photos that a map does not show.

Every pose estimated for such a photo is wrong, so the inliers that it collects are what chance and
repeated structure give. ``python -m benchmarks.calibrate_acceptance --maps MAP_DIR… --wrong PHOTOS``
localizes photos of other places against each map, with the acceptance tests switched off, and prints
what share of the poses each pair of thresholds would accept. Queries of the map with known poses
(``--right``, a results log of a pipeline with ``--ground_truth``) show what the same thresholds cost.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hloc_ext.evaluation.poses import evaluate
from hloc_ext.formats.colmap import read_model, registered_poses
from hloc_ext.formats.images import list_images
from hloc_ext.formats.results import read_log
from hloc_ext.localizer import Localizer

INLIERS = (6, 8, 10, 12, 15, 20, 30)
RATIOS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)


def wrong_poses(map_dir: Path, photos: Path, number: int, seed: int) -> np.ndarray:
    """Localize photos of other places; returns (inliers, inlier ratio) of each, N×2."""
    localizer = Localizer(map_dir)
    localizer.conf = replace(localizer.conf, min_inliers=0, min_inlier_ratio=0.0)
    names = list_images(photos)
    chosen = np.random.default_rng(seed).choice(len(names), min(number, len(names)), replace=False)
    support = []
    for index in tqdm(sorted(chosen), desc=str(map_dir)):
        result = localizer.localize(photos / names[index])
        support.append((result.num_inliers, result.inlier_ratio))
    return np.array(support)


def acceptance_table(support: np.ndarray) -> str:
    """Share of poses that pass each pair of thresholds."""
    lines = ["min_inliers \\ ratio " + "".join(f"{ratio:8.2f}" for ratio in RATIOS)]
    for inliers in INLIERS:
        shares = [((support[:, 0] >= inliers) & (support[:, 1] >= ratio)).mean() for ratio in RATIOS]
        lines.append(f"{inliers:19d} " + "".join(f"{100 * share:7.1f}%" for share in shares))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=Path, nargs="+", required=True, help="output folders of pipelines")
    parser.add_argument("--wrong", type=Path, required=True, help="photos of other places")
    parser.add_argument("--number", type=int, default=60, help="photos per map")
    parser.add_argument("--right", type=Path, help="log (.jsonl) of queries, made with --min_inliers 0")
    parser.add_argument("--ground_truth", type=Path, help="COLMAP model with the true poses of --right")
    parser.add_argument("--max_error", type=float, nargs=2, default=(0.5, 5.0), help="map units, degrees")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    per_map = {path: wrong_poses(path, args.wrong, args.number, args.seed) for path in args.maps}
    for path, support in per_map.items():
        quantiles = np.quantile(support[:, 0], [0.5, 0.9, 0.99, 1.0]).astype(int)
        print(f"{path}: {len(support)} wrong photos; inliers median, 90 %, 99 %, max: {quantiles.tolist()}")
    print(f"\nWrong poses accepted:\n{acceptance_table(np.concatenate(list(per_map.values())))}")
    if args.right:
        results = read_log(args.right)
        errors = evaluate(results, registered_poses(read_model(args.ground_truth))).errors
        support = np.array([(r.num_inliers, r.inlier_ratio) for r in results])
        correct = np.array(
            [
                errors[r.name].position <= args.max_error[0] and errors[r.name].rotation <= args.max_error[1]
                for r in results
            ]
        )
        for label, chosen in {"right": correct, "wrong": ~correct}.items():
            print(f"\n{chosen.sum()} {label} poses of {args.right.name}, accepted:")
            print(acceptance_table(support[chosen]) if chosen.any() else "none")


if __name__ == "__main__":
    main()
