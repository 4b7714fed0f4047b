"""From street panoramas to satellite tiles: train, index, query, evaluate (docs/cross_view.md).

    python -m pipelines.cross_view train --data DIR --output DIR --config small
    python -m pipelines.cross_view index --data DIR --weights FILE --output INDEX
    python -m pipelines.cross_view query --index INDEX --images DIR --weights FILE --output DIR [--pose]
    python -m pipelines.cross_view evaluate --data DIR --weights NAME=FILE … --output DIR [--pose]

DIR is a copy of CVUSA, CVACT or VIGOR, or a folder of one's own tiles and photos.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hloc_ext import logger
from hloc_ext.cross_view.bev import BEVScores
from hloc_ext.cross_view.descriptors import Condition, CrossViewNetworks
from hloc_ext.cross_view.index import KINDS, TABLE_NAME, CrossViewIndex
from hloc_ext.cross_view.localization import (
    Localization,
    PoseErrors,
    build_index,
    estimate_poses,
    localize,
    table_of,
)
from hloc_ext.datasets.cross_view.layout import LAYOUTS, CrossViewSet, open_set
from hloc_ext.datasets.cross_view.photos import open_photos
from hloc_ext.errors import InputError
from hloc_ext.formats.atomic import make_dir, write_text
from hloc_ext.report import ReportData, StageLog, Table
from pipelines.common import positive, run_pipeline
from pipelines.cross_view_evaluation import (
    Outcome,
    add_condition_arguments,
    bev_table,
    condition_table,
    conditions_of,
    draws,
    evaluable,
    evaluate_bev,
    evaluate_condition,
    evaluate_poses,
    labelled,
    limited,
    markdown,
    parse_methods,
    pose_table,
    recall_table,
)
from pipelines.cross_view_report import Shown, cards_of, charts_of, groups_of, results_of, write_places
from pipelines.cross_view_training import add_train_arguments, train_recipes
from pipelines.summary import command_of, finish_report

PROGRAM = "python -m pipelines.cross_view"
#: Files of a query or an evaluation.
PLACES, RESULTS, TABLES, REPORT = "queries.geojson", "results.json", "results.md", "report.html"


@dataclass
class Method:
    """A method that is evaluated.

    Attributes:
        networks: its networks.
        index: of the tiles.
        outcomes: under all conditions, whole panoramas with known headings first.
    """

    networks: CrossViewNetworks
    index: CrossViewIndex
    outcomes: list[Outcome]


def index_tiles(args: argparse.Namespace) -> None:
    """Command ``index``."""
    pairs = open_data(args)
    networks = CrossViewNetworks(files_of(args.weights), ["aerial"])
    log = StageLog(make_dir(args.output) / "stages.json")
    with log.stage("index", count=len(pairs.aerials), outputs=[args.output / TABLE_NAME]):
        build_index(networks, pairs, args.kind, args.seed).save(args.output)
    log.print()
    print(f"Index of {len(pairs.aerials)} tiles: {args.output}")


def query(args: argparse.Namespace) -> None:
    """Command ``query``."""
    index = CrossViewIndex.load(args.index, args.tiles)
    networks = CrossViewNetworks(files_of(args.weights), None)
    if "ground" not in networks.models:
        raise InputError(
            f"The weights {args.weights} describe tiles only: give those of the ground view, too."
        )
    index.check(networks.about)
    queries = open_photos(args.images, args.table)
    if args.unknown_heading:
        queries = replace(queries, headings=np.full(len(queries), np.nan))
    condition = Condition(args.fov)
    log = StageLog(make_dir(args.output) / "stages.json")
    with log.stage("descriptors of the queries", count=len(queries)):
        grounds = networks.describe_grounds(queries, condition, args.seed)
    with log.stage("retrieval", count=len(queries)):
        retrieved = index.search(grounds.values, args.k)
    poses = None
    if args.pose:
        with log.stage("poses", count=len(queries)):
            poses = estimate_poses(
                networks, queries, retrieved.tiles[:, 0], index.table, condition, seed=args.seed
            )
    places = localize(queries, retrieved, grounds.headings, queries.headings, index.table, poses)
    write_places(args.output / PLACES, places)
    shown = Shown(queries, places, retrieved, grounds, networks, index, condition)
    data = ReportData(f"Cross-view localization of {args.images.resolve().name}", facts=facts(args))
    data.charts, data.groups = charts_of(shown, {}), groups_of(shown, args.pictures)
    data.tables = [place_table(places)]
    finish_report(args.output / REPORT, data, log)
    print(f"Places: {args.output / PLACES}")


def evaluate(args: argparse.Namespace) -> list[Outcome]:
    """Command ``evaluate``; returns the figures of all methods and conditions."""
    pairs = limited(evaluable(open_data(args)), args.queries, args.seed)
    log = StageLog(make_dir(args.output) / "stages.json")
    conditions = conditions_of(args)
    methods: dict[str, Method] = {}
    for name, files in parse_methods(args.weights).items():
        networks = CrossViewNetworks(files)
        if args.split not in ("train", "val"):
            networks.check_untouched(pairs)
        folder = args.output / "index" / name
        with log.stage(f"tiles, {name}", count=len(pairs.aerials), outputs=[folder / TABLE_NAME]):
            index = current_index(folder, networks, pairs)
        outcomes = []
        with log.stage(f"queries, {name}", count=len(pairs) * len(conditions)):
            for condition in conditions:
                outcomes.append(
                    evaluate_condition(name, networks, index, pairs, condition, args.seed, args.k)
                )
                recall = outcomes[-1].scores.recall["optimistic"]
                logger.info("%s, %s: R@1 %.2f %%", name, condition.name, 100 * recall["1"])
        methods[name] = Method(networks, index, outcomes)
    bevs, errors = evaluate_drawing(args, methods, pairs, log)
    tables = tables_of(methods, bevs, errors)
    write_results(args.output, methods, tables, errors, bevs)
    show(args, methods, pairs, tables, log)
    return [outcome for method in methods.values() for outcome in method.outcomes]


def current_index(folder: Path, networks: CrossViewNetworks, pairs: CrossViewSet) -> CrossViewIndex:
    """The index of the tiles with these networks, read if it is there, otherwise made."""
    if (folder / TABLE_NAME).exists():
        index = CrossViewIndex.load(folder, pairs.root)
        if index.table.about == networks.about and list(index.table.names) == table_of(pairs).names:
            return CrossViewIndex(table_of(pairs, networks.about), index.index, index.kind)
    index = build_index(networks, pairs)
    index.save(folder)
    return index


def evaluate_drawing(
    args: argparse.Namespace, methods: Mapping[str, Method], pairs: CrossViewSet, log: StageLog
) -> tuple[dict[str, BEVScores], dict[str, PoseErrors]]:
    """Bird's-eye views and poses of the methods that draw, where tiles have class maps."""
    bevs: dict[str, BEVScores] = {}
    errors: dict[str, PoseErrors] = {}
    drawing = {name: method for name, method in methods.items() if draws(method.networks)}
    if args.pose and not drawing:
        raise InputError("--pose needs weights of SSA among --weights: no other network draws what it sees.")
    if not drawing or not labelled(pairs):
        if drawing:
            logger.warning(
                "Tiles of %s have no class maps: bird's-eye views and poses are left out.", pairs.root
            )
        return bevs, errors
    some = limited(pairs, args.pose_queries, args.seed)
    for name, method in drawing.items():
        with log.stage(f"bird's-eye views, {name}", count=len(pairs)):
            bevs[name] = evaluate_bev(method.networks, pairs)
        if not args.pose:
            continue
        for outcome in method.outcomes:
            condition = outcome.condition
            label = f"{name}, {condition.name}"
            with log.stage(f"poses, {label}", count=len(some)):
                headings = method.networks.describe_grounds(some, condition, args.seed).true_headings
                errors[label] = evaluate_poses(
                    method.networks, method.index.table, some, condition, headings, seed=args.seed
                )
    return bevs, errors


def tables_of(
    methods: Mapping[str, Method], bevs: Mapping[str, BEVScores], errors: Mapping[str, PoseErrors]
) -> list[Table]:
    """Tables of an evaluation."""
    tables = [
        recall_table([method.outcomes[0] for method in methods.values()]),
        condition_table([outcome for method in methods.values() for outcome in method.outcomes]),
    ]
    if bevs:
        tables.append(bev_table(bevs))
    if errors:
        tables.append(pose_table(errors))
    return tables


def write_results(
    folder: Path,
    methods: Mapping[str, Method],
    tables: Sequence[Table],
    errors: Mapping[str, PoseErrors],
    bevs: Mapping[str, BEVScores],
) -> None:
    """Write the figures as JSON and as Markdown, and print the tables."""
    content: dict[str, Any] = {
        "retrieval": results_of([o for method in methods.values() for o in method.outcomes]),
        "poses": {name: error.row() for name, error in errors.items()},
        "bev": {name: {"visible": s.visible.mean_iou, "all": s.all.mean_iou} for name, s in bevs.items()},
    }
    write_text(folder / RESULTS, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    text = "\n".join(markdown(table) for table in tables)
    write_text(folder / TABLES, text)
    print(text)


def show(
    args: argparse.Namespace,
    methods: Mapping[str, Method],
    pairs: CrossViewSet,
    tables: Sequence[Table],
    log: StageLog,
) -> None:
    """Places of the queries by the last method, as GeoJSON, and the report."""
    method = list(methods.values())[-1]
    outcome = method.outcomes[0]
    queries, retrieved, poses = pairs, outcome.retrieved, None
    if args.pose and draws(method.networks) and labelled(pairs):
        with log.stage("poses in the tiles that were found", count=len(pairs)):
            poses = estimate_poses(
                method.networks, queries, retrieved.tiles[:, 0], method.index.table, outcome.condition
            )
    given = outcome.grounds.true_headings
    places = localize(queries, retrieved, outcome.grounds.headings, given, method.index.table, poses)
    write_places(args.output / PLACES, places)
    shown = Shown(
        queries, places, retrieved, outcome.grounds, method.networks, method.index, outcome.condition
    )
    data = ReportData(f"Cross-view retrieval on {args.data.resolve().name}", facts=facts(args))
    data.cards = [card for each in methods.values() for card in cards_of(each.outcomes[0])]
    data.charts = charts_of(shown, {name: each.outcomes[0] for name, each in methods.items()}, args.embedding)
    data.tables, data.groups = list(tables), groups_of(shown, args.pictures)
    finish_report(args.output / REPORT, data, log)


def place_table(places: Sequence[Localization]) -> Table:
    """A row for each query."""
    headers = ["query", "tile", "similarity", "latitude", "longitude", "± m", "heading °", "from", "error m"]
    rows: list[list[str | float | None]] = [
        [
            place.name,
            place.tiles[0],
            float(place.scores[0]),
            *(f"{value:.6f}" for value in place.latlon),
            place.deviation,
            place.heading,
            place.heading_from,
            place.error,
        ]
        for place in places
    ]
    note = "± is the standard deviation of a pose; error is the distance from the place that the photo tells."
    return Table("Places", headers, rows, note)


def train(args: argparse.Namespace) -> list[Outcome]:
    """Command ``train``: recipes one after the other, then ``evaluate`` on the test split."""
    output = args.output
    trained, labels = train_recipes(args)
    if args.no_evaluation:
        return []
    args.weights = [f"{name}={path}" for name, path in trained.items()]
    args.labels, args.split, args.output = labels or args.labels, args.test_split, output / "evaluation"
    args.pose = "ssa" in trained
    return evaluate(args)


def open_data(args: argparse.Namespace) -> CrossViewSet:
    """The data set of the options."""
    return open_set(args.data, args.split, args.area, args.layout, missing=args.missing, labels=args.labels)


def files_of(text: str) -> list[Path]:
    """Read ``FILE[,FILE]``."""
    return [Path(file) for file in text.split(",")]


def facts(args: argparse.Namespace) -> dict[str, str]:
    """What a reader must know to repeat the run."""
    weights = [args.weights] if isinstance(args.weights, str) else args.weights
    return {
        "command": command_of(PROGRAM, None),
        "weights": ", ".join(weights),
        "processors": str(os.cpu_count()),
    }


def build_parser() -> argparse.ArgumentParser:
    """Command line of the pipeline."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="train by the recipes, then evaluate on the test split")
    _add_data_arguments(command)
    add_train_arguments(command)
    _add_evaluation_arguments(command)
    command.set_defaults(run=train, split="train")

    command = commands.add_parser("index", help="describe and index tiles")
    _add_data_arguments(command)
    command.add_argument("--split", default="test", help="tiles of which split; `all`: every one")
    command.add_argument("--weights", required=True, help="of the aerial view")
    command.add_argument("--kind", choices=KINDS, default="flat", help="ivfpq is approximate and small")
    command.set_defaults(run=index_tiles)

    command = commands.add_parser("query", help="find panoramas or photos in an index")
    command.add_argument("--index", type=Path, required=True, help="folder of the command index")
    command.add_argument("--images", type=Path, required=True, help="folder of panoramas or photos")
    command.add_argument("--table", type=Path, help="name,lat,lon[,heading[,fov]], instead of EXIF tags")
    command.add_argument("--tiles", type=Path, help="folder of the tiles, where it has moved")
    command.add_argument("--weights", required=True, help="FILE[,FILE] of the ground (and aerial) view")
    command.add_argument("--fov", type=float, default=360.0, help="crop wider panoramas to so many degrees")
    command.add_argument("--unknown_heading", action="store_true", help="do not use headings")
    _add_shared_arguments(command)
    command.add_argument(
        "--pose", action="store_true", help="also the pose in the tile (needs SSA, class maps)"
    )
    command.set_defaults(run=query)

    command = commands.add_parser("evaluate", help="figures on a split whose true tiles are known")
    _add_data_arguments(command)
    command.add_argument("--split", default="test", help="never select models on `test`")
    command.add_argument(
        "--weights", nargs="+", required=True, metavar="NAME=FILE[,FILE]", help="the last one is shown"
    )
    command.add_argument("--pose", action="store_true", help="also poses in tiles (needs SSA, class maps)")
    _add_evaluation_arguments(command)
    command.set_defaults(run=evaluate)
    return parser


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--layout", choices=LAYOUTS, help="default: by the folders that are there")
    parser.add_argument("--area", choices=("same", "cross"), default="same", help="of VIGOR")
    parser.add_argument(
        "--missing", choices=("error", "skip"), default="error", help="files that are missing"
    )
    parser.add_argument("--labels", type=Path, help="class maps of the tiles; default DATA/tile_labels")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seed", type=int, default=0, help="of random headings and choices")


def _add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--k", type=positive, default=5, help="tiles shown for each query")
    parser.add_argument("--pictures", type=positive, default=8, help="queries shown in the report")
    if not any(action.dest == "output" for action in parser._actions):
        parser.add_argument("--output", type=Path, required=True, help="folder of the results")
        parser.add_argument("--seed", type=int, default=0, help="of random headings")


def _add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
    _add_shared_arguments(parser)
    add_condition_arguments(parser)
    parser.add_argument("--queries", type=positive, metavar="N", help="only so many queries, at random")
    parser.add_argument("--pose_queries", type=positive, default=200, metavar="N", help="poses of so many")
    parser.add_argument("--embedding", choices=("pca", "umap"), default="pca", help="map of the descriptors")


def main(argv: list[str] | None = None) -> None:
    """Run the pipeline."""
    args = build_parser().parse_args(argv)
    args.run(args)


if __name__ == "__main__":
    sys.exit(run_pipeline(main))
