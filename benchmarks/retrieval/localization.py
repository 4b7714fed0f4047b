"""Localization with the first k map images that each method retrieves, all else being equal."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from benchmarks.matchers import city, pavilion
from benchmarks.matchers.localization import RETRIEVAL, Scene
from benchmarks.matchers.options import require_folder
from benchmarks.tables import Table
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.errors import HlocExtError
from hloc_ext.evaluation.poses import Evaluation
from hloc_ext.evaluation.poses import evaluate as evaluate_poses
from hloc_ext.formats.atomic import make_dir
from hloc_ext.formats.colmap import projection_centers, registered_poses
from hloc_ext.formats.pairs import write_pairs
from hloc_ext.report.stages import StageLog
from pipelines import aachen, demo
from pipelines.common import Run, estimator_conf
from pipelines.summary import read_ground_truth
from tests.aachen_dataset import pavilion_scene, write_aachen

from .methods import Method, Photos
from .options import RetrievalOptions
from .places import describe, search, stack

#: Retrieval by the true poses: the nearest first, those that look elsewhere last.
ORACLE, LARGEST_ANGLE = "(nearest poses)", 60.0

#: Map images of each query, best first.
Retrieved = Mapping[str, Sequence[str]]


def evaluate(methods: Sequence[Method], options: RetrievalOptions) -> list[Table]:
    """A table for each scene; one that cannot be made says why."""
    allow_cpu_torchvision()
    tables = []
    for name, make in (("Barcelona Pavilion", _pavilion), ("procedural city", _city)):
        try:
            tables.append(evaluate_scene(make(options), methods, options))
        except HlocExtError as error:
            tables.append(Table(f"Localization, {name}", [f"not run: {error}"], ["method"]))
    return tables


def _pavilion(options: RetrievalOptions) -> Scene:
    source = require_folder(options.data / pavilion.SOURCE)
    folder = make_dir(options.output / "localization" / pavilion.SOURCE)
    dataset = folder / "dataset"
    if not (dataset / "ground_truth").is_dir():
        write_aachen(pavilion_scene(source, folder / "work"), dataset, "v1.1")
    return Scene("Barcelona Pavilion", dataset, "v1.1", max(options.ks), pavilion.NUM_COVIS)


def _city(options: RetrievalOptions) -> Scene:
    folder = make_dir(options.output / "localization" / "city")
    dataset = demo.make_dataset(folder, city.SIZE, city.SEED)
    name = f"procedural city ({city.SIZE}, seed {city.SEED})"
    return Scene(name, dataset, "v1.0", max(options.ks), demo.NUM_COVIS)


@dataclass
class Map:
    """A map and the queries that are localized in it.

    Attributes:
        run: features and matcher.
        layout: files of the data set.
        queries: with intrinsics, by condition.
        names: of the map images.
        folder: of the model.
        truth: true poses of all images, world→camera.
        args: options of ``pipelines.aachen``.
    """

    run: Run
    layout: aachen.Layout
    queries: Mapping[str, list[aachen.Query]]
    names: list[str]
    folder: Path
    truth: Mapping[str, pycolmap.Rigid3d]
    args: argparse.Namespace

    def restarted(self, log_name: str) -> Run:
        """The same run with another record of its stages, each of which it can record once."""
        return replace(self.run, log=StageLog(self.run.outputs / log_name))

    @property
    def all_queries(self) -> list[aachen.Query]:
        """Queries of all conditions."""
        return [query for listed in self.queries.values() for query in listed]


def build_map(scene: Scene, options: RetrievalOptions) -> Map:
    """Features of all images, and the map, by the stages of ``pipelines.aachen``."""
    outputs = scene.dataset.parent / "outputs"
    arguments = ["--dataset", scene.dataset, "--outputs", outputs, "--version", scene.version]
    arguments += ["--num_covis", scene.num_covis]
    args = aachen.build_parser().parse_args([str(argument) for argument in arguments])
    layout = aachen.find_layout(scene.dataset, scene.version)
    queries = aachen.read_queries(layout, options.limit)
    names = [name for listed in queries.values() for name, _ in listed]
    run = Run.start(outputs, options.features, options.matcher, RETRIEVAL)
    reference_dir, reference = aachen.reference_model(run, layout)
    map_names = list(registered_poses(reference))
    run.extract(layout.images, map_names, "map", skip_unreadable=False)
    run.extract(layout.images, names, "queries", skip_unreadable=False)
    folder, model = aachen.build_map(run, layout, reference_dir, reference, args)
    truth = read_ground_truth(scene.dataset / "ground_truth", names)
    registered = list(registered_poses(model))
    return Map(run, layout, queries, registered, folder, truth, args)


def evaluate_scene(scene: Scene, methods: Sequence[Method], options: RetrievalOptions) -> Table:
    """Recall of each condition, method and k."""
    built = build_map(scene, options)
    chosen = [method for method in methods if not method.needs_model]
    limits = [f"{position:g}, {angle:g}°" for position, angle in built.args.thresholds]
    recalls = [f"% within {limit}" for limit in limits]
    table = Table(
        f"Localization, {scene.name}, map by day",
        [
            f"stages of pipelines.aachen --version {scene.version} --num_covis {scene.num_covis},"
            f" {options.features} + {options.matcher}, with the first k map images of each method;"
            " its default estimator and acceptance tests",
            f"{len(built.names)} map images; position (map units) and rotation within both limits; fallback"
            " poses are answers, except in the last column",
            f"{ORACLE}: the map images whose cameras are nearest to the true one and look within"
            f" {LARGEST_ANGLE:g}° of where it looks",
        ],
        ["queries", "method", "k", "number", *recalls, f"localized, {recalls[-1]}"],
    )
    depth = min(max(options.ks), len(built.names))
    retrieved = {method.name: retrieve(method, built, depth) for method in chosen}
    retrieved[ORACLE] = nearest_poses(built, depth)
    for name, evaluations in localize(built, retrieved, options.ks).items():
        for k, by_condition in evaluations.items():
            for condition, found in by_condition.items():
                row: dict[str, Any] = {"queries": condition, "method": name, "k": k}
                row["number"] = found.num_queries
                percent = [round(100 * share, 1) for share in found.recall]
                row |= dict(zip(recalls, percent, strict=True))
                row[f"localized, {recalls[-1]}"] = round(100 * found.recall_localized[-1], 1)
                table.rows.append(row)
                options.report(row)
    table.rows.sort(key=lambda row: str(row["queries"]))
    table.notes += [f"{m.name}: left out, queries have no pose" for m in methods if m not in chosen]
    return table


def retrieve(method: Method, built: Map, depth: int) -> Retrieved:
    """The first map images of each query."""
    names = [name for name, _ in built.all_queries]
    descriptors = describe(method, Photos(built.layout.images, sorted({*names, *built.names})))
    nothing = np.empty((len(names), 0), np.int64)
    ranking = search(stack(descriptors, names), stack(descriptors, built.names), nothing, depth)
    return {name: [built.names[i] for i in row] for name, row in zip(names, ranking, strict=True)}


def nearest_poses(built: Map, depth: int) -> Retrieved:
    """The map images nearest to each query that has a true pose, those that look elsewhere last."""
    centers = projection_centers({name: built.truth[name] for name in built.names})
    axes = np.array([_viewing_direction(built.truth[name]) for name in built.names])
    found = {}
    for name, _ in built.all_queries:
        pose = built.truth[name]
        distances = np.linalg.norm(centers - projection_centers({name: pose}), axis=1)
        elsewhere = axes @ _viewing_direction(pose) < np.cos(np.radians(LARGEST_ANGLE))
        found[name] = [built.names[i] for i in np.lexsort((distances, elsewhere))[:depth]]
    return found


def _viewing_direction(pose: pycolmap.Rigid3d) -> np.ndarray:
    return np.asarray(pose.rotation.matrix())[2]


def localize(
    built: Map, retrieved: Mapping[str, Retrieved], ks: Sequence[int]
) -> dict[str, dict[int, dict[str, Evaluation]]]:
    """Errors of the poses by method, k and condition; pairs of several methods are matched once."""
    folder = make_dir(built.run.outputs / "by_method")
    pairs = [
        (query, name) for found in retrieved.values() for query, names in found.items() for name in names
    ]
    write_pairs(folder / "pairs-query-all.txt", list(dict.fromkeys(pairs)))
    matches = built.run.match(
        built.layout.images, folder / "pairs-query-all.txt", "queries", localization=True
    )
    evaluations: dict[str, dict[int, dict[str, Evaluation]]] = {}
    for method, found in retrieved.items():
        for k in ks:
            stem = f"{built.run.name}_{method.strip('()').replace(' ', '-')}-{k}"
            first = [(query, name) for query, names in found.items() for name in names[:k]]
            write_pairs(folder / f"pairs-{stem}.txt", first)
            run = built.restarted(f"{folder.name}/stages-{stem}.json")
            results = run.localize(
                built.folder,
                built.all_queries,
                folder / f"pairs-{stem}.txt",
                matches,
                folder / f"results-{stem}.txt",
                estimator_conf(built.args, run.is_dense),
            )
            evaluations.setdefault(method, {})[k] = {
                condition: evaluate_poses(group, built.truth, built.args.thresholds)
                for condition, group in aachen.by_list(results, built.queries).items()
            }
    return evaluations
