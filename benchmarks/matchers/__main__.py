"""Compare matchers: ``python -m benchmarks.matchers --data DIR --output DIR`` (docs/benchmarks.md)."""

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
from .options import Options

#: Part → module; each has ``evaluate(methods, options)``.
PARTS = (
    "homographies",
    "strecha",
    "evd",
    "registration",
    "reliability",
    "failures",
    "pavilion",
    "city",
    "cost",
    "scaling",
)
#: Parts in which a method that estimates similarity transforms can take part.
WITH_SIMILARITY = ("registration", "cost")
#: Parts that need no trained weights.
WITHOUT_WEIGHTS = ("cost", "scaling")


def run(parts: Sequence[str], names: Sequence[str], options: Options) -> list[Table]:
    """Run the parts, printing each table as it is done; what cannot be run says why.

    Args:
        parts: of :data:`PARTS`.
        names: of the methods.
        options: data, output and limits.
    """
    methods, unavailable = load(names, options.weights)
    machine = describe_machine()
    print(*machine, *(f"{name}: not available, {why}" for name, why in unavailable.items()), sep="\n")
    tables: list[Table] = []
    for part in parts:
        chosen, notes = choose(part, methods)
        notes += [f"{name}: not available, {why}" for name, why in unavailable.items()]
        print(f"\n{part}", flush=True)
        try:
            made = importlib.import_module(f".{part}", __package__).evaluate(chosen, options)
        except HlocExtError as error:
            made = [Table(part, [f"not run: {error}"], ["method"])]
        for table in made:
            table.notes += notes
        tables += made
        print("", *(table.markdown() for table in made), sep="\n", flush=True)
        save_tables("matchers", tables, machine, options.output)
    return tables


def choose(part: str, methods: Sequence[Method]) -> tuple[list[Method], list[str]]:
    """The methods that take part, and notes on all of them."""
    chosen, notes = [], []
    for method in methods:
        if method.similarity and part not in WITH_SIMILARITY:
            notes.append(f"{method.name}: left out, it estimates similarity transforms only")
        elif not method.trained and part not in WITHOUT_WEIGHTS:
            notes.append(f"{method.name}: left out, its weights are not on this machine")
        else:
            chosen.append(method)
            if method.note:
                notes.append(f"{method.name}: {method.note}")
    return chosen, notes


def build_parser() -> argparse.ArgumentParser:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matchers", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--methods", nargs="+", default=list(NAMES), help="|".join(NAMES))
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/bench"), help="folder of the data sets"
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        type=named_path("kd-mamba=kd.safetensors"),
        default=[],
        metavar="NAME=FILE",
        help="weights of a method, e.g. kd-mamba=FILE; or of another one beside it, e.g. kd-mamba-2=FILE",
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/matchers"), help="folder of the tables")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch and OpenCV")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each method, in turn")
    parser.add_argument("--limit", type=int, help="at most so many pairs (or queries) of each condition")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Table]:
    """Run from the command line."""
    parser = build_parser()
    args = parser.parse_args(argv)
    set_threads(args.threads)
    names, weights = chosen_methods(parser, args, NAMES)
    options = Options(args.data, make_dir(args.output), args.limit, weights, args.threads, args.repeats)
    return run(args.parts, names, options)


if __name__ == "__main__":
    main()
