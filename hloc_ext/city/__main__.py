"""Write a synthetic data set in a public layout: ``python -m hloc_ext.city --kind … --output …``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import HlocExtError
from .generate import KINDS, SIZES, generate


def parser() -> argparse.ArgumentParser:
    """Arguments of the command line."""
    result = argparse.ArgumentParser(
        prog="python -m hloc_ext.city",
        description="Write a synthetic data set of a procedural city in the layout of a public one."
        " Run the same command again to go on after an interruption.",
    )
    result.add_argument("--kind", required=True, choices=KINDS, help="whose layout")
    result.add_argument("--size", choices=SIZES, default="small", help="how much of it (default: small)")
    result.add_argument("--seed", type=int, default=0, help="another number, another city (default: 0)")
    result.add_argument("--output", required=True, type=Path, help="folder to write")
    result.add_argument("--workers", type=int, default=2, help="number of processes (default: 2)")
    result.add_argument(
        "--depth", action="store_true", help="depth and classes of all photos, too (kind aachen)"
    )
    result.add_argument(
        "--overwrite",
        action="store_true",
        help="delete what OUTPUT holds and start again; only a folder that this command wrote",
    )
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        generate(**vars(arguments))
    except HlocExtError as error:
        print(f"hloc_ext.city: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hloc_ext.city: interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
