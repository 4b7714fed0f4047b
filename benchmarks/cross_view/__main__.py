"""Cross-view networks side by side: ``python -m benchmarks.cross_view --data DIR --weights NAME=FILE …``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.command_line import set_threads
from benchmarks.cross_view.cost import cost_table
from benchmarks.machine import describe_machine
from benchmarks.tables import Table, save_tables
from hloc_ext.cross_view.bev import BEVScores
from hloc_ext.cross_view.descriptors import CrossViewNetworks
from hloc_ext.cross_view.localization import PoseErrors, build_index, table_of
from hloc_ext.datasets.cross_view.layout import LAYOUTS, CrossViewSet, open_set
from hloc_ext.formats.atomic import make_dir
from hloc_ext.report import Table as ReportTable
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
    parse_methods,
    pose_table,
    recall_table,
)

#: Parts of the benchmark.
PARTS = ("retrieval", "cost", "bev", "pose")


def run(args: argparse.Namespace) -> list[Table]:
    """Run the parts, printing each table as it is done."""
    machine = describe_machine()
    print(*machine, sep="\n")
    methods = {name: CrossViewNetworks(files) for name, files in parse_methods(args.weights).items()}
    pairs = limited(
        evaluable(open_set(args.data, args.split, args.area, args.layout, labels=args.labels)),
        args.queries,
        args.seed,
    )
    tables: list[Table] = []

    def done(table: Table) -> None:
        tables.append(table)
        print(f"\n{table.markdown()}", flush=True)
        save_tables("cross_view", tables, machine, args.output)

    if "cost" in args.parts:
        done(cost_table(methods, args.repeats))
    outcomes = evaluate_all(methods, pairs, args) if {"retrieval", "pose"} & set(args.parts) else []
    protocol = [
        f"{args.data.resolve().name}, split {args.split}{f', {pairs.area} area' if pairs.area else ''}"
    ]
    protocol.append(f"{len(pairs)} queries, {len(pairs.aerials)} tiles, seed {args.seed}")
    if "retrieval" in args.parts:
        done(converted(recall_table([o for o in outcomes if o.condition == outcomes[0].condition]), protocol))
        done(relative_table(outcomes, protocol))
        done(converted(condition_table(outcomes), protocol))
    drawing = {name: networks for name, networks in methods.items() if draws(networks)}
    if drawing and labelled(pairs):
        if "bev" in args.parts:
            scores: dict[str, BEVScores] = {
                name: evaluate_bev(networks, pairs) for name, networks in drawing.items()
            }
            done(converted(bev_table(scores), protocol))
        if "pose" in args.parts:
            done(converted(pose_table(all_poses(drawing, pairs, args)), protocol))
    return tables


def evaluate_all(
    methods: dict[str, CrossViewNetworks], pairs: CrossViewSet, args: argparse.Namespace
) -> list[Outcome]:
    """Every method under every condition."""
    outcomes = []
    for name, networks in methods.items():
        if args.split not in ("train", "val"):
            networks.check_untouched(pairs)
        index = build_index(networks, pairs)
        for condition in conditions_of(args):
            outcomes.append(evaluate_condition(name, networks, index, pairs, condition, args.seed))
            print(f"{name}, {condition.name}: {outcomes[-1].row()}", flush=True)
    return outcomes


def all_poses(
    methods: dict[str, CrossViewNetworks], pairs: CrossViewSet, args: argparse.Namespace
) -> dict[str, PoseErrors]:
    """Poses in the true tiles, of every method that draws under every condition."""
    some = limited(pairs, args.pose_queries, args.seed)
    errors = {}
    for name, networks in methods.items():
        for condition in conditions_of(args):
            headings = networks.describe_grounds(some, condition, args.seed).true_headings
            errors[f"{name}, {condition.name}"] = evaluate_poses(
                networks, table_of(some), some, condition, headings, seed=args.seed
            )
    return errors


def relative_table(outcomes: Sequence[Outcome], protocol: Sequence[str]) -> Table:
    """R@1 of each method as a share of that of the first, whole panoramas with known headings."""
    condition = outcomes[0].condition
    chosen = [outcome for outcome in outcomes if outcome.condition == condition]
    first = chosen[0]
    table = Table(
        f"R@1 relative to {first.method}",
        [*protocol, f"{condition.name}; optimistic"],
        ["method", "R@1", "share"],
    )
    base = first.scores.recall["optimistic"]["1"]
    for outcome in chosen:
        value = outcome.scores.recall["optimistic"]["1"]
        table.add(method=outcome.method, **{"R@1": 100 * value, "share": value / base if base else None})
    return table


def converted(table: ReportTable, protocol: Sequence[str]) -> Table:
    """A table of a report as one of the benchmarks."""
    rows = [dict(zip(table.headers, row, strict=True)) for row in table.rows]
    return Table(table.title, protocol, table.headers, rows, [table.note])


def build_parser() -> argparse.ArgumentParser:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cross_view", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of CVUSA, CVACT, VIGOR, or one's own")
    add("--weights", nargs="+", required=True, metavar="NAME=FILE[,FILE]", help="ratios are to the first one")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--split", default="test")
    add("--area", choices=("same", "cross"), default="same", help="of VIGOR")
    add("--layout", choices=LAYOUTS, help="default: by the folders that are there")
    add("--labels", type=Path, help="class maps of the tiles; default DATA/tile_labels")
    add("--output", type=Path, default=Path("outputs/cross_view"), help="folder of the tables")
    add("--queries", type=int, metavar="N", help="only so many queries, at random; all tiles stay")
    add("--pose_queries", type=int, default=200, metavar="N", help="poses of so many")
    add("--seed", type=int, default=0, help="of random headings and choices")
    add("--threads", type=int, default=torch.get_num_threads(), help="of torch and OpenCV")
    add("--repeats", type=int, default=5, help="timed runs of each method, in turn")
    add_condition_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> list[Table]:
    """Run from the command line."""
    args = build_parser().parse_args(argv)
    set_threads(args.threads)
    make_dir(args.output)
    return run(args)


if __name__ == "__main__":
    main()
