"""Files that are either complete or absent: write under a temporary name, then rename."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import HlocExtError, InputError


class DiskFullError(HlocExtError, OSError):
    """No space is left to write a file; what had been written before is kept."""

    def __str__(self) -> str:
        return " ".join(str(a) for a in self.args)


class UnwritableError(HlocExtError, PermissionError):
    """The output folder cannot be written to."""

    def __str__(self) -> str:
        return " ".join(str(a) for a in self.args)


def explain_os_error(error: OSError, path: Path) -> OSError:
    """Turn a full disk or a read-only folder into an error that names `path` and the remedy.

    Any other error, and one that is explained already, is returned as it is.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"No space left on device while writing {path}: free some space and run the same"
            " command again, it resumes where it stopped."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return UnwritableError(
            f"Cannot write {path}: {os.strerror(error.errno)}. Choose another output folder, or"
            " give yourself the right to write there."
        )
    return error


@contextlib.contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Raise what :func:`explain_os_error` makes of an operating-system error inside the block."""
    try:
        yield
    except OSError as error:
        explained = explain_os_error(error, path)
        if explained is error:
            raise
        raise explained from error


def make_dir(path: Path) -> Path:
    """Create folder `path` with its parents; an unwritable place is an error that names it."""
    with explaining(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def require_space(path: Path, num_bytes: int) -> None:
    """Raise :class:`DiskFullError` unless `num_bytes` are free in the folder of `path`."""
    free = shutil.disk_usage(path.parent).free
    if free < num_bytes:
        raise DiskFullError(
            f"Writing {path} needs {num_bytes / 2**20:.0f} MiB but {free / 2**20:.0f} MiB are free:"
            " free some space and run the same command again, it resumes where it stopped."
        )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block succeeds.

    Args:
        path: the final file. Its folder is created.

    Yields:
        The temporary path to write to. It is removed when the block raises.

    Raises:
        DiskFullError, UnwritableError: with the name of `path`.
    """
    make_dir(path.parent)
    with explaining(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(data)


def read_text(path: Path) -> str:
    """Read UTF-8 text, with or without a byte-order mark.

    Raises:
        InputError: the file is not UTF-8; names the file.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): convert it, for instance"
            f" with `iconv -f latin1 -t utf8`, or check that it is the right file."
        ) from error
