"""COLMAP's own log lines, which go straight to the terminal unless they are held back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pycolmap


@contextlib.contextmanager
def quiet_colmap(verbose: bool = False) -> Iterator[None]:
    """Hold back COLMAP's information and warnings inside the block, unless `verbose`."""
    level = pycolmap.logging.minloglevel
    if not verbose:
        pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = level
