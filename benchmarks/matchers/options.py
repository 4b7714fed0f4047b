"""What all evaluations are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hloc_ext.errors import MissingInputError


@dataclass
class Options:
    """Inputs and outputs.

    Attributes:
        data: folder of the benchmark data sets.
        output: folder of tables and figures.
        limit: at most so many pairs for each condition; None for all.
        weights: file of weights by name of a method.
        threads: of torch and OpenCV.
        repeats: timed runs of each method, in turn.
    """

    data: Path
    output: Path
    limit: int | None = None
    weights: Mapping[str, Path] = field(default_factory=dict)
    threads: int = 1
    repeats: int = 5

    def report(self, row: Mapping[str, Any]) -> None:
        """Print a row as soon as it is known: an evaluation may take hours."""
        cells = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print("  " + ", ".join(cells), flush=True)


def require_folder(path: Path) -> Path:
    """Return `path`.

    Raises:
        MissingInputError: there is no such folder; names the option.
    """
    if not path.is_dir():
        raise MissingInputError(
            f"The benchmark data {path} do not exist: give the folder that holds '{path.name}' with --data,"
            " or leave this part out with --parts."
        )
    return path
