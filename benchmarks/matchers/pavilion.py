"""Localization by day, at sunset and by night in a map made by day: Barcelona Pavilion, procedural city."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.errors import HlocExtError
from hloc_ext.evaluation.poses import Evaluation
from hloc_ext.evaluation.poses import evaluate as evaluate_poses
from hloc_ext.formats.atomic import make_dir
from pipelines import aachen, demo
from pipelines.common import Run
from pipelines.summary import read_ground_truth
from tests.aachen_dataset import pavilion_scene, write_aachen

from .methods import Method
from .options import Options, require_folder
from .table import Table

SOURCE = "pavilion_outer"
#: Map images to match a query with, and pairs per map image.
NUM_LOC, NUM_COVIS = 20, 20
CITY_SIZE, CITY_SEED = "small", 1
RETRIEVAL = "vlad-rootsift"


@dataclass(frozen=True)
class Scene:
    """A data set in Aachen's layout.

    Attributes:
        name: in the table.
        dataset: its folder, with the true model in ``ground_truth``.
        num_loc, num_covis: options of ``pipelines.aachen``.
    """

    name: str
    dataset: Path
    num_loc: int
    num_covis: int


def prepare_pavilion(options: Options) -> Scene:
    """The pavilion, written once."""
    source = require_folder(options.data / SOURCE)
    dataset = options.output / SOURCE / "dataset"
    if not (dataset / "ground_truth").is_dir():
        write_aachen(pavilion_scene(source, options.output / SOURCE / "work"), dataset, "v1.1")
    return Scene(SOURCE, dataset, NUM_LOC, NUM_COVIS)


def prepare_city(options: Options) -> Scene:
    """The city of ``pipelines.demo``, written once."""
    dataset = demo.make_dataset(make_dir(options.output / "city"), CITY_SIZE, CITY_SEED)
    return Scene(f"city, {CITY_SIZE}, seed {CITY_SEED}", dataset, demo.NUM_LOC, demo.NUM_COVIS)


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """Recall of each condition, for each method that ``pipelines.aachen`` can run."""
    allow_cpu_torchvision()
    thresholds = aachen.build_parser().get_default("thresholds")
    limits = " / ".join(f"{position:g}, {angle:g}°" for position, angle in thresholds)
    tables = []
    for prepare, title, version in (
        (prepare_pavilion, "Localization, Barcelona Pavilion (outer), map by day", "v1.1"),
        (prepare_city, "Localization, procedural city, map by day", "v1.0"),
    ):
        table = Table(
            title,
            [],
            ["queries", "method", "number", f"recall % at {limits}", "without fallback", "median position"],
        )
        tables.append(table)
        try:
            scene = prepare(options)
        except HlocExtError as error:
            table.protocol = [f"not run: {error}"]
            continue
        table.protocol = [
            f"pipelines.aachen --version {version} --num_loc {scene.num_loc} --num_covis {scene.num_covis}"
            f" --retrieval {RETRIEVAL}, its default estimator and acceptance tests",
            "recall: position (map units) and rotation within both limits; fallback poses are answers",
        ]
        for method in methods:
            for features, matcher in method.pipeline:
                label = f"{features} + {matcher}" if features else method.name
                for condition, found in localize(scene, version, features, matcher, options).items():
                    row = {"queries": condition, "method": label, **_row(found, limits)}
                    table.rows.append(row)
                    options.report(row)
        table.rows.sort(key=lambda row: str(row["queries"]))
    return tables


def localize(
    scene: Scene, version: str, features: str, matcher: str, options: Options
) -> Mapping[str, Evaluation]:
    """Run the pipeline; errors of the poses by condition."""
    outputs = scene.dataset.parent / "outputs"
    arguments = ["--dataset", scene.dataset, "--outputs", outputs, "--version", version]
    arguments += ["--num_loc", scene.num_loc, "--num_covis", scene.num_covis]
    args: argparse.Namespace = aachen.build_parser().parse_args([str(argument) for argument in arguments])
    layout = aachen.find_layout(scene.dataset, version)
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
