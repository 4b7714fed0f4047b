"""Timing of two implementations in turn, and the table of what came out."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hloc_ext.colmap_log import quiet_colmap
from hloc_ext.errors import HlocExtError
from hloc_ext.formats.atomic import make_dir
from hloc_ext.host import HOW_TO_INSTALL, get_conf

from .scene import Scene, prepare_scene

HEADER = ("what", "HLOC", "ours", "ratio (min–max)", "equality")
WIDTHS = (42, 9, 9, 22, 0)


class SkippedError(HlocExtError):
    """A comparison cannot be made here; the message says why."""


@dataclass
class Row:
    """One line of the table.

    Attributes:
        what: what was measured, and its unit.
        hloc: measurements of HLOC, in turn with `ours`; empty if HLOC was not run.
        ours: measurements of ours.
        equality: what was compared, and how much of it is identical.
        skipped: why nothing was measured.
    """

    what: str
    hloc: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    equality: str = ""
    skipped: str = ""

    @property
    def ratios(self) -> list[float]:
        """HLOC's measurement divided by ours, for each turn."""
        return [a / b for a, b in zip(self.hloc, self.ours, strict=True)] if self.hloc else []

    def __str__(self) -> str:
        if self.skipped:
            return format_cells((self.what, "–", "–", "–", f"skipped: {self.skipped}"))
        ratio = "–"
        if ratios := self.ratios:
            ratio = f"{np.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        hloc, ours = (f"{np.median(v):.4g}" if v else "–" for v in (self.hloc, self.ours))
        return format_cells((self.what, hloc, ours, ratio, self.equality))


def format_cells(cells: tuple[str, ...]) -> str:
    """One line of a Markdown table, padded so that it reads as plain text too."""
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)) + " |"


def format_header() -> str:
    """The head of the table."""
    return format_cells(HEADER) + "\n|" + "|".join("-" * (max(width, 3) + 2) for width in WIDTHS) + "|"


@dataclass
class Timing:
    """Seconds of two functions that ran in turn, and what their last runs returned."""

    hloc: list[float]
    ours: list[float]
    hloc_result: Any = None
    ours_result: Any = None

    def row(self, what: str, equality: str, number: int = 1, scale: float = 1.0) -> Row:
        """A row of the seconds divided by `number` of items, times `scale`."""
        hloc, ours = ([s / number * scale for s in seconds] for seconds in (self.hloc, self.ours))
        return Row(what, hloc, ours, equality)


def alternate(
    hloc: Callable[[Path], Any],
    ours: Callable[[Path], Any],
    repeats: int,
    folder: Path,
    prepare: Callable[[Path], Any] = lambda folder: None,
) -> Timing:
    """Run HLOC, ours, HLOC, ours, …; what loads the machine meanwhile then hits both.

    Args:
        hloc, ours: called with a folder of their own, which is emptied before each run.
        repeats: timed runs of each. One more run of each comes first and is not timed.
        folder: where these folders are made; ``hloc`` and ``ours`` keep the files of the last runs.
        prepare: called with the emptied folder before each run, not timed.

    Returns:
        Seconds of each run, and the results of the last ones.
    """
    timing = Timing([], [])
    for turn in range(repeats + 1):
        for side, function in (("hloc", hloc), ("ours", ours)):
            own = folder / side
            shutil.rmtree(own, ignore_errors=True)
            prepare(make_dir(own))
            gc.collect()
            with quiet():
                start = time.perf_counter()
                result = function(own)
                elapsed = time.perf_counter() - start
            if turn > 0:
                getattr(timing, side).append(elapsed)
            setattr(timing, f"{side}_result", result)
    return timing


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back progress bars and log lines of both sides; errors are raised as ever."""
    loggers = [logging.getLogger(name) for name in ("hloc", "hloc_ext")]
    levels = [logger.level for logger in loggers]
    with open(os.devnull, "w") as null, contextlib.redirect_stderr(null), quiet_colmap():
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@dataclass
class Setup:
    """What the comparisons run on.

    Attributes:
        host: ``hloc``, ``imcui.hloc``, or None where no HLOC is installed.
        workdir: folder of the prepared files; they are made once and used again.
        images: folder of photos.
        model: COLMAP model with their poses.
        repeats: timed runs of each side.
        num_matching_pairs, num_loading_pairs: pairs that are matched and loaded.
        num_dense_pairs, num_dense_matches: size of the synthetic semi-dense matches.
        num_descriptors, num_matched: size of the retrieval.
        large: also 100 000 × 100 000 descriptors, ours only.
    """

    host: str | None
    workdir: Path
    images: Path | None = None
    model: Path | None = None
    repeats: int = 5
    num_matching_pairs: int = 30
    num_loading_pairs: int = 190
    num_dense_pairs: int = 300
    num_dense_matches: int = 4000
    num_descriptors: int = 10_000
    num_matched: int = 50
    large: bool = False

    @cached_property
    def scene(self) -> Scene:
        """Features, matches and map, made by our stages when they are first needed."""
        if self.images is None or self.model is None:
            raise SkippedError("it needs --images and --model")
        return prepare_scene(self.images, self.model, make_dir(self.workdir / "scene"))

    def scratch(self, name: str) -> Path:
        """Folder of the files that the runs of a comparison write."""
        return make_dir(self.workdir / "runs" / name)

    def require_host(self, geometry: bool = False) -> str:
        """Name of the HLOC to compare with.

        Args:
            geometry: whether the comparison runs its geometric stages.

        Raises:
            SkippedError: there is none, or its geometry does not run here.
        """
        if self.host is None:
            raise SkippedError(f"HLOC is not installed. {HOW_TO_INSTALL}")
        if geometry and self.host != "hloc":
            raise SkippedError(
                f"triangulation and localization of {self.host} need pycolmap 3.10 and NumPy 1;"
                " set HLOC_ROOT to a checkout of official HLOC"
            )
        return self.host

    def host_module(self, name: str, geometry: bool = False) -> ModuleType:
        """Import a module of HLOC.

        Raises:
            SkippedError: there is no HLOC, or the module cannot be imported.
        """
        host = self.require_host(geometry)
        try:
            get_conf("matchers", f"{host}:NN-ratio")  # imports the package with the care that imcui needs
            return importlib.import_module(f"{host}.{name}")
        except (ImportError, AttributeError) as error:
            raise SkippedError(
                f"{host}.{name} cannot be imported: {type(error).__name__}: {error}"
            ) from error


def identical(count: int, total: int, what: str) -> str:
    """``12 of 12 what identical``, with per cent if they are not."""
    share = "" if count == total else f" ({100 * count / total:.4f} %)"
    return f"{count} of {total} {what} identical{share}"
