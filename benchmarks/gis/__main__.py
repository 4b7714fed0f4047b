"""Registration of imagery to layers: ``python -m benchmarks.gis --city DIR --data DIR``.

DIR of ``--city`` is written by ``python -m hloc_ext.city --kind gis``, with a seed that nothing was trained
or calibrated on; that of ``--data`` holds the folder ``gis`` of the benchmark data (docs/gis.md).
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.command_line import set_threads
from benchmarks.machine import describe_machine
from benchmarks.tables import Table, save_tables
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.atomic import make_dir

from . import comparison, cost, large, real
from .problems import KINDS, City, exchanged, mask_problems

PARTS = ("city", "masks", "real", "negatives", "cost", "large")
#: Sources of photos with masks.
MASKS = ("tugraz_drone", "dubai_tile7")


def run(args: argparse.Namespace) -> list[Table]:
    """Run the parts, printing each table as it is done."""
    machine = describe_machine()
    print(*machine, sep="\n")
    tables: list[Table] = []

    def done(table: Table) -> None:
        tables.append(table)
        print(f"\n{table.markdown()}", flush=True)
        save_tables("gis", tables, machine, args.output)

    def report(row: dict[str, object]) -> None:
        print(row, flush=True)

    methods = {name: comparison.make_method(name, args.weights) for name in args.methods}
    city = City(_required(args.city, "--city")) if {"city", "negatives", "cost"} & set(args.parts) else None
    data = (
        _required(args.data, "--data") / "gis" if {"masks", "real", "negatives"} & set(args.parts) else None
    )
    if "city" in args.parts and city is not None:
        sets = {kind: city.problems(kind, args.pairs, args.seed) for kind in args.kinds}
        done(comparison.compare(methods, sets, "City of an unseen seed, unknown heading", report))
    if "masks" in args.parts and data is not None:
        sets = {source: mask_problems(data, source, args.pairs, args.seed) for source in MASKS}
        done(comparison.compare(methods, sets, "Photos beside their masks, unknown heading", report))
    if "real" in args.parts and data is not None:
        with tempfile.TemporaryDirectory(dir=args.output) as folder:
            done(real.evaluate(data, args.trials, args.seed, Path(folder), report))
    if "negatives" in args.parts and city is not None and data is not None:
        other = City(args.other_city) if args.other_city else None
        done(comparison.count_false_accepts(_negatives(city, other, data, args), report))
    if "cost" in args.parts and city is not None:
        makers = city.problems("image ↔ layers", min(args.pairs, 4), args.seed)
        done(cost.evaluate(args.methods, makers, args.weights))
    if "large" in args.parts:
        with tempfile.TemporaryDirectory(dir=args.output) as folder:
            done(large.evaluate(Path(folder), args.side, args.polygons, args.seed))
    return tables


def _negatives(
    city: City, other: City | None, data: Path, args: argparse.Namespace
) -> dict[str, comparison.Makers]:
    """Problems without a right answer."""
    kinds: list[tuple[str, Callable[..., comparison.Makers]]] = [
        (f"{kind}, mirrored", functools.partial(city.problems, kind, mirrored=True)) for kind in KINDS
    ]
    layers = KINDS[2]
    for source in MASKS:
        masks = functools.partial(mask_problems, data, source)
        kinds.append((f"{source}, other photo's mask", functools.partial(masks, of_others=True)))
        foreign = functools.partial(_exchanged, masks, functools.partial(city.problems, layers))
        kinds.append((f"{source} ↔ layers of the city", foreign))
    if other is not None:
        for kind in KINDS[::2]:
            makers = [functools.partial(c.problems, kind) for c in (city, other)]
            kinds.append((f"{kind} of another city", functools.partial(_exchanged, *makers)))
    each = -(-args.negatives // len(kinds))
    return {name: make(count=each, seed=args.seed) for name, make in kinds}


def _exchanged(
    first: Callable[..., comparison.Makers], second: Callable[..., comparison.Makers], **options: int
) -> comparison.Makers:
    return exchanged(first(**options), second(**options))


def _required(path: Path | None, option: str) -> Path:
    if path is None:
        raise InputError(f"{option} is needed for these parts: give it, or leave them out with --parts.")
    if not path.is_dir():
        raise MissingInputError(f"{option} {path} is no folder.")
    return path


def build_parser() -> argparse.ArgumentParser:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gis", description=__doc__)
    add = parser.add_argument
    add("--city", type=Path, help="set of python -m hloc_ext.city --kind gis (city, negatives, cost)")
    add("--other_city", type=Path, help="another one, of which the maps are no right answers (negatives)")
    add("--data", type=Path, help="benchmark data with the folder gis (masks, real, negatives)")
    add("--output", type=Path, default=Path("outputs/gis"), help="folder of the tables")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of the part city")
    add("--methods", nargs="+", default=list(comparison.METHODS), help="also homography-net, loftr, phase, …")
    add("--weights", type=Path, help="of homography-net")
    add("--pairs", type=int, default=48, help="of each kind and source")
    add("--trials", type=int, default=10, help="errors of each real scene")
    add("--negatives", type=int, default=204, help="maps without a right answer, in all")
    add("--side", type=int, default=large.SIDE, help="of the large image, pixels")
    add("--polygons", type=int, default=large.POLYGONS, help="in the large image")
    add("--seed", type=int, default=1, help="of the transforms and errors")
    add("--threads", type=int, default=torch.get_num_threads(), help="of torch and OpenCV")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Table]:
    """Run from the command line."""
    args = build_parser().parse_args(argv)
    allow_cpu_torchvision()
    set_threads(args.threads)
    make_dir(args.output)
    return run(args)


if __name__ == "__main__":
    main()
