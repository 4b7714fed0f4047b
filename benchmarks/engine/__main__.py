"""Run our stages and HLOC's in turn on the same files and print a table.

``python -m benchmarks.engine --images DIR --model MODEL --workdir DIR``; how to read the table:
``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.machine import describe_host, describe_machine
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.host import available_hosts

from . import aggregation, loading, localization, matching, retrieval, verification
from .comparison import Row, Setup, SkippedError, format_header

PARTS: dict[str, Callable[[Setup], list[Row]]] = {
    "matching": matching.compare,
    "loading": loading.compare,
    "verification": verification.compare,
    "localization": localization.compare,
    "aggregation": aggregation.compare,
    "retrieval": retrieval.compare,
}


def run(setup: Setup, parts: Sequence[str]) -> list[Row]:
    """Make the comparisons, printing each as it is done; one that cannot be made here says why."""
    rows = []
    for line in (*describe_machine(), describe_host(setup.host)):
        print(line)
    if setup.images is not None and setup.model is not None:
        sizes = ", ".join(f"{width}×{height}" for width, height in setup.scene.image_sizes)
        print(f"images: {setup.images.name}, {sizes} pixels, {len(setup.scene.queries)} queries")
    print(f"each figure is the median of {setup.repeats} runs, HLOC and ours in turn\n\n{format_header()}")
    todo = {part: PARTS[part] for part in parts}
    if setup.large:
        todo["large"] = retrieval.measure_large
    for part, compare in todo.items():
        try:
            new = compare(setup)
        except SkippedError as error:
            new = [Row(part, skipped=str(error))]
        rows += new
        print(*new, sep="\n", flush=True)
    return rows


def build_parser() -> argparse.ArgumentParser:
    """Command line."""
    defaults = Setup(None, Path())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of photos")
    parser.add_argument("--model", type=Path, help="COLMAP model with their poses (points are not needed)")
    parser.add_argument(
        "--workdir",
        type=lambda text: Path(text).resolve(),
        required=True,
        help="folder of prepared files, used again",
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=defaults.repeats, help="timed runs of each side")
    parser.add_argument("--large", action="store_true", help="also 100 000 × 100 000 descriptors (minutes)")
    for name, what in {
        "num_matching_pairs": "pairs to match",
        "num_loading_pairs": "pairs to load",
        "num_dense_pairs": "pairs of synthetic semi-dense matches",
        "num_dense_matches": "matches of each",
        "num_descriptors": "global descriptors",
        "num_matched": "results per descriptor",
    }.items():
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name), help=what)
    return parser


def main(argv: list[str] | None = None) -> list[Row]:
    """Run from the command line."""
    allow_cpu_torchvision()  # HLOC's match_dense imports torchvision
    options = vars(build_parser().parse_args(argv))
    parts = options.pop("parts")
    hosts = available_hosts()
    return run(Setup(host=hosts[0] if hosts else None, **options), parts)


if __name__ == "__main__":
    main()
