"""Localization with ``pipelines.aachen``, by day, at sunset and by night, in a map made by day."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from benchmarks.tables import Table
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.evaluation.poses import Evaluation
from hloc_ext.evaluation.poses import evaluate as evaluate_poses
from pipelines import aachen
from pipelines.common import Run
from pipelines.summary import read_ground_truth

from .methods import Method
from .options import Options

RETRIEVAL = "vlad-rootsift"


@dataclass(frozen=True)
class Scene:
    """A data set in Aachen's layout.

    Attributes:
        name: in the table.
        dataset: its folder, with the true model in ``ground_truth``.
        version, num_loc, num_covis: options of ``pipelines.aachen``.
    """

    name: str
    dataset: Path
    version: str
    num_loc: int
    num_covis: int


def evaluate_scene(scene: Scene, methods: Sequence[Method], options: Options) -> Table:
    """Recall of each condition, for each method that ``pipelines.aachen`` can run."""
    allow_cpu_torchvision()
    thresholds = aachen.build_parser().get_default("thresholds")
    limits = " / ".join(f"{position:g}, {angle:g}°" for position, angle in thresholds)
    table = Table(
        f"Localization, {scene.name}, map by day",
        [
            f"pipelines.aachen --version {scene.version} --num_loc {scene.num_loc}"
            f" --num_covis {scene.num_covis}"
            f" --retrieval {RETRIEVAL}, its default estimator and acceptance tests",
            "recall: position (map units) and rotation within both limits; fallback poses are answers",
        ],
        ["queries", "method", "number", f"recall % at {limits}", "without fallback", "median position"],
    )
    for method in methods:
        for features, matcher in method.pipeline:
            label = f"{features} + {matcher}" if features else method.name
            for condition, found in localize(scene, features, matcher, options).items():
                row = {"queries": condition, "method": label, **_row(found, limits)}
                table.rows.append(row)
                options.report(row)
        if not method.pipeline:
            table.notes.append(f"{method.name}: left out, no configuration of the pipelines runs it")
    table.rows.sort(key=lambda row: str(row["queries"]))
    return table


def localize(scene: Scene, features: str, matcher: str, options: Options) -> Mapping[str, Evaluation]:
    """Run the pipeline; errors of the poses by condition."""
    outputs = scene.dataset.parent / "outputs"
    arguments = ["--dataset", scene.dataset, "--outputs", outputs, "--version", scene.version]
    arguments += ["--num_loc", scene.num_loc, "--num_covis", scene.num_covis]
    args: argparse.Namespace = aachen.build_parser().parse_args([str(argument) for argument in arguments])
    layout = aachen.find_layout(scene.dataset, scene.version)
    queries = aachen.read_queries(layout, options.limit)
    names = [name for listed in queries.values() for name, _ in listed]
    truth: Mapping[str, pycolmap.Rigid3d] = read_ground_truth(scene.dataset / "ground_truth", names)
    run = Run.start(outputs, features or "sift", matcher, RETRIEVAL)
    located = aachen.localize(run, layout, queries, args)
    groups = aachen.by_list(located.results, queries)
    return {condition: evaluate_poses(group, truth, args.thresholds) for condition, group in groups.items()}


def _row(found: Evaluation, limits: str) -> dict[str, object]:
    def percent(shares: Sequence[float]) -> str:
        return " / ".join(f"{100 * share:.1f}" for share in shares)

    return {
        "number": found.num_queries,
        f"recall % at {limits}": percent(found.recall),
        "without fallback": percent(found.recall_localized),
        "median position": found.medians[0],
    }
