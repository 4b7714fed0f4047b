"""Check a submission file against the query lists: every query once, valid poses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .formats.submission import query_names, validate_submission


def main(submission: Path, queries: Sequence[Path], prepend_camera_name: bool = False) -> list[str]:
    """Print ``OK: N poses`` or one problem per line.

    Args:
        submission: file with ``name qw qx qy qz tx ty tz`` per line, world→camera.
        queries: lists of all queries, with or without intrinsics.
        prepend_camera_name: the benchmark wants ``folder/name`` (RobotCar), not the basename.

    Returns:
        The problems.

    Raises:
        MissingInputError, InputError: a file does not exist or cannot be read.
    """
    queries = [Path(query) for query in queries]
    problems = validate_submission(Path(submission), queries, prepend_camera_name)
    print("\n".join(problems) if problems else f"OK: {len(query_names(queries))} poses")
    return problems


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext validate_submission", description=__doc__)
    parser.add_argument("submission", type=Path, metavar="FILE")
    parser.add_argument("--queries", type=Path, nargs="+", required=True, metavar="LIST")
    parser.add_argument("--prepend_camera_name", action="store_true")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run from the command line; the exit code is 1 if there is a problem."""
    if main(**vars(build_parser().parse_args(argv))):
        sys.exit(1)


if __name__ == "__main__":
    cli()
