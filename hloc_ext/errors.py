"""Errors that a user can act on: each message names the file or record and the remedy."""

from __future__ import annotations


class HlocExtError(Exception):
    """Base class of the errors that hloc_ext raises on bad input."""


class InputError(HlocExtError, ValueError):
    """An argument, list or file holds something that cannot be used."""


class MissingInputError(HlocExtError, FileNotFoundError):
    """A file, folder or record that a stage needs does not exist."""

    def __str__(self) -> str:
        return " ".join(str(a) for a in self.args)


class CorruptFileError(HlocExtError, OSError):
    """A file is truncated, or is not of the expected format."""

    def __str__(self) -> str:
        return " ".join(str(a) for a in self.args)


class ReconstructionError(HlocExtError, RuntimeError):
    """Structure from motion or triangulation produced no usable model."""
