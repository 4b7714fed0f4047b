"""The error for a missing extra: the packages of the extra ``gis`` are imported under it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InputError


@contextmanager
def naming_extra() -> Iterator[None]:
    """Turn an import error inside the block into one that says what to install.

    Raises:
        InputError: a package of the extra ``gis`` is missing.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"Georeferenced data needs {error.name or error}: pip install hloc_ext[gis]."
        ) from error
