"""HDF5 files of records (one group per image or image pair) that survive a kill and a full disk.

HDF5 itself does not survive a process that dies while it flushes. :class:`H5Writer` therefore never
modifies a file in place: records go to small complete part files in ``.NAME.parts/`` beside the file
and are merged into it, through a temporary file and a rename, when the writer closes or when the next
run opens it.
"""

from __future__ import annotations

import errno
import io
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import CorruptFileError, MissingInputError
from .atomic import explaining, make_dir, require_space, write_bytes

Record = Mapping[str, Any]


def open_h5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises:
        MissingInputError: the file does not exist.
        CorruptFileError: the file is truncated, is not HDF5, or is held by another program; the
            message says which.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"HDF5 file {path} does not exist: run the stage that writes it.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = str(error)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise CorruptFileError(
                f"{path} cannot be opened ({reason}): another program is writing it, or you may not read it."
            ) from error
        # HDF5 marks a file that is being written with `libver='latest'`; a killed writer leaves the mark.
        if "truncated" in reason or "already open for write" in reason:
            what = "is truncated (the program that wrote it was interrupted, or a copy failed)"
        elif "signature not found" in reason:
            what = "is not an HDF5 file"
        else:
            what = f"cannot be opened ({reason})"
        raise CorruptFileError(
            f"{path} {what}. Delete it or move it away, and run again the stage that writes it."
        ) from error


def list_names(path: Path) -> list[str]:
    """Names of the records (groups that hold datasets) of an HDF5 file, sorted.

    Names contain slashes where the images lie in sub-folders.
    """
    found: list[bytes] = []

    def visit(name: bytes) -> None:
        found.append(name)

    with open_h5(path) as fd:
        h5py.h5o.visit(fd.id, visit)
        children: dict[bytes, bytes] = {}
        for name in found:
            parent, _, _ = name.rpartition(b"/")
            children[parent] = name  # the last child decides: a record holds datasets only
        names = [
            parent.decode()
            for parent, child in children.items()
            if parent and fd.get(child, getclass=True) is h5py.Dataset
        ]
    return sorted(names)


def read_array(fd: h5py.File, key: str) -> np.ndarray | None:
    """Dataset `key` of an open file, or None if there is none.

    It avoids h5py's objects, which take longer than the reading of an array of a few thousand numbers.
    """
    try:
        dataset = h5py.h5d.open(fd.id, key.encode())
    except KeyError:
        return None
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array


def record_key(name: str) -> str:
    """The form in which HDF5 stores record `name`: without leading, doubled and ``./`` slashes."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _write_record(fd: h5py.File, name: str, record: Record, attributes: Mapping[str, Record]) -> None:
    group = fd.create_group(name)
    for key, value in record.items():
        dataset = group.create_dataset(key, data=value)
        for attribute, content in attributes.get(key, {}).items():
            dataset.attrs[attribute] = content


class H5Writer:
    """Append records to an HDF5 file; use it as a context manager.

    Args:
        path: the file. Existing records are kept; a record that is written again is replaced, and
            the file is then rebuilt, because HDF5 does not reclaim the space of what is deleted.
        max_buffer_bytes: records are written to a part file when they exceed this size, or
        max_buffer_seconds: when the oldest of them has waited so long. A kill loses at most these.

    Raises:
        CorruptFileError: the existing file is truncated or not HDF5.
        DiskFullError, UnwritableError: what had been written before stays in the part files.
    """

    def __init__(
        self,
        path: Path,
        max_buffer_bytes: int = 32 * 2**20,
        max_buffer_seconds: float = 10.0,
    ) -> None:
        self.path = Path(path)
        self.parts_dir = self.path.parent / f".{self.path.name}.parts"
        self.max_buffer_bytes = max_buffer_bytes
        self.max_buffer_seconds = max_buffer_seconds
        self._buffer: dict[str, tuple[Record, Mapping[str, Record]]] = {}
        self._buffer_bytes = 0
        self._buffer_start = 0.0
        make_dir(self.path.parent)
        recover(self.path)
        self.names: set[str] = set(list_names(self.path)) if self.path.exists() else set()

    def __enter__(self) -> H5Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return record_key(name) in self.names

    def write(self, name: str, record: Record, attributes: Mapping[str, Record] | None = None) -> None:
        """Add or replace record `name`.

        Args:
            name: group name, slashes allowed.
            record: dataset name to array.
            attributes: dataset name to its attributes.
        """
        name = record_key(name)
        if not self._buffer:
            self._buffer_start = time.monotonic()
        self._buffer[name] = (record, attributes or {})
        self._buffer_bytes += sum(np.asarray(value).nbytes for value in record.values())
        self.names.add(name)
        waited = time.monotonic() - self._buffer_start
        if self._buffer_bytes > self.max_buffer_bytes or waited > self.max_buffer_seconds:
            self.flush()

    def flush(self) -> None:
        """Write the buffered records to a part file, which a later kill cannot harm."""
        if not self._buffer:
            return
        # Built in memory: a full disk then fails in one plain write, never inside the HDF5 library.
        stream = io.BytesIO()
        with h5py.File(stream, "w") as fd:
            for name, (record, attributes) in self._buffer.items():
                _write_record(fd, name, record, attributes)
        make_dir(self.parts_dir)
        index = len(list(self.parts_dir.glob("*.h5")))
        write_bytes(self.parts_dir / f"{index:06d}.h5", stream.getvalue())
        self._buffer.clear()
        self._buffer_bytes = 0

    def close(self) -> None:
        """Write what is buffered and merge all parts into the file."""
        self.flush()
        recover(self.path)


def recover(path: Path) -> None:
    """Merge the part files that an interrupted :class:`H5Writer` left beside `path` into it."""
    path = Path(path)
    parts_dir = path.parent / f".{path.name}.parts"
    parts = sorted(parts_dir.glob("*.h5")) if parts_dir.is_dir() else []
    if parts:
        if path.exists():
            open_h5(path).close()
        if not path.exists() and len(parts) == 1:
            with explaining(path):
                parts[0].replace(path)
        else:
            _merge(path, parts)
    if parts_dir.is_dir():
        shutil.rmtree(parts_dir, ignore_errors=True)


def _merge(path: Path, parts: list[Path]) -> None:
    replaced = {name for part in parts for name in list_names(part)}
    kept = set(list_names(path)) if path.exists() else set()
    sources = ([path] if path.exists() else []) + parts
    require_space(path, sum(source.stat().st_size for source in sources))
    # Beside the parts, so that what a kill leaves behind is removed with them.
    merged = parts[0].parent / "merged.tmp"
    merged.unlink(missing_ok=True)
    try:
        with explaining(path):
            if kept.isdisjoint(replaced):
                shutil.copyfile(sources.pop(0), merged)
            with h5py.File(merged, "a" if merged.exists() else "w") as target:
                for source in sources:
                    names = kept - replaced if source == path else set(list_names(source))
                    with open_h5(source) as fd:
                        for name in sorted(names):
                            if name in target:
                                del target[name]
                            fd.copy(fd[name], target, name)
            merged.replace(path)
    finally:
        merged.unlink(missing_ok=True)


def iterate_records(path: Path, key: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (record name, dataset `key`) of every record of a file, in sorted order."""
    names = list_names(path)
    with open_h5(path) as fd:
        for name in names:
            yield name, fd[name][key][()]
