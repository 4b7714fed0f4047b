"""Global descriptors: ``python -m benchmarks.retrieval --data DIR --output DIR`` (docs/benchmarks.md)."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.command_line import chosen_methods, named_path, set_threads
from benchmarks.machine import describe_machine
from benchmarks.tables import Table, save_tables
from hloc_ext.errors import HlocExtError
from hloc_ext.formats.atomic import make_dir

from .methods import NAMES, Method, load
from .options import RetrievalOptions

#: Part → module; each has ``evaluate(methods, options)``.
PARTS = ("city", "south_building", "lund", "pavilion", "localization", "cost", "search")
#: Parts in which methods make no difference.
WITHOUT_METHODS = ("search",)


def run(parts: Sequence[str], names: Sequence[str], options: RetrievalOptions) -> list[Table]:
    """Run the parts, printing each table as it is done; what cannot be run says why.

    Args:
        parts: of :data:`PARTS`.
        names: of the methods.
        options: data, output and limits.
    """
    methods, unavailable = load(names, options.weights)
    machine = describe_machine()
    absent = [f"{name}: not available, {why}" for name, why in unavailable.items()]
    print(*machine, *absent, sep="\n")
    tables: list[Table] = []
    for part in parts:
        print(f"\n{part}", flush=True)
        try:
            made = importlib.import_module(f".{part}", __package__).evaluate(methods, options)
        except HlocExtError as error:
            made = [Table(part, [f"not run: {error}"], ["method"])]
        for table in made:
            table.notes += [] if part in WITHOUT_METHODS else [*_notes(methods), *absent]
        tables += made
        print("", *(table.markdown() for table in made), sep="\n", flush=True)
        save_tables("retrieval", tables, machine, options.output)
    return tables


def _notes(methods: Sequence[Method]) -> list[str]:
    return [f"{method.name}: {method.note}" for method in methods if method.note]


def build_parser() -> argparse.ArgumentParser:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--methods", nargs="+", default=list(NAMES), help="|".join(NAMES))
    add("--data", type=Path, default=Path("../shared/data/bench"), help="folder of the data sets")
    add(
        "--weights",
        nargs="+",
        type=named_path("crossvit-student=cv.safetensors"),
        default=[],
        metavar="NAME=FILE",
        help="weights of a method, e.g. crossvit-student=FILE; or of another, e.g. crossvit-student-2=FILE",
    )
    add("--output", type=Path, default=Path("outputs/retrieval"), help="folder of the tables and scenes")
    add("--scenes", nargs="+", type=Path, default=[], help="folders of city scenes; default: rendered")
    add("--seeds", nargs="+", type=int, default=list(RetrievalOptions.seeds), help="of the rendered cities")
    add("--views", type=int, default=RetrievalOptions.views, help="of each rendered city")
    add(
        "--models",
        nargs="+",
        type=named_path("south_building=sfm"),
        default=[],
        metavar="NAME=DIR",
        help="COLMAP models to use instead of making them: south_building=DIR lund=DIR pavilion_outer=DIR",
    )
    add("--ks", nargs="+", type=int, default=list(RetrievalOptions.ks), help="map images to localize with")
    add("--features", default=RetrievalOptions.features, help="local features of the localization")
    add("--matcher", default=RetrievalOptions.matcher, help="matcher of the localization")
    add("--threads", type=int, default=torch.get_num_threads(), help="of torch and OpenCV")
    add("--repeats", type=int, default=5, help="timed runs of each method, in turn")
    add("--limit", type=int, help="at most so many queries of each condition")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Table]:
    """Run from the command line."""
    parser = build_parser()
    args = parser.parse_args(argv)
    set_threads(args.threads)
    names, weights = chosen_methods(parser, args, NAMES)
    options = RetrievalOptions(
        args.data,
        make_dir(args.output),
        args.limit,
        weights,
        args.threads,
        args.repeats,
        scenes=args.scenes,
        seeds=args.seeds,
        views=args.views,
        models=dict(args.models),
        ks=args.ks,
        features=args.features,
        matcher=args.matcher,
    )
    return run(args.parts, names, options)


if __name__ == "__main__":
    main()
