"""Files are complete or absent, and every refusal of the operating system names the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hloc_ext.errors import InputError
from hloc_ext.formats import atomic


def test_replacing_writes_the_file_with_the_permissions_of_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    previous = os.umask(0o027)
    try:
        atomic.write_text(path, "Zürich ✓\n")
    finally:
        os.umask(previous)
    assert path.read_bytes() == "Zürich ✓\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == ["file.txt"]


def test_an_error_in_the_block_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    atomic.write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="stop"), atomic.replacing(path) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError("stop")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")
    atomic.write_text(path, "x")
    assert path.read_text() == "x"


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(OSError) as caught, atomic.replacing(tmp_path / "file"):
        raise error
    assert caught.value is error
    assert error.__cause__ is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_explained(number: int) -> None:
    explained = atomic.explain_os_error(OSError(number, "no"), Path("features.h5"))
    assert isinstance(explained, atomic.DiskFullError)
    assert str(explained).startswith("No space left on device while writing features.h5")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_missing_permission_is_explained(number: int) -> None:
    explained = atomic.explain_os_error(OSError(number, "no"), Path("out/features.h5"))
    assert isinstance(explained, atomic.UnwritableError)
    assert str(explained).startswith(f"Cannot write out/features.h5: {os.strerror(number)}")


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(OSError, match="outputs"):
        atomic.make_dir(tmp_path / "outputs")


def test_require_space(tmp_path: Path) -> None:
    atomic.require_space(tmp_path / "file", 1)
    with pytest.raises(atomic.DiskFullError, match=r"file needs 1099511627776 MiB"):
        atomic.require_space(tmp_path / "file", 2**60)


def test_full_disk_keeps_the_old_file(small_disk: Path) -> None:
    path = small_disk / "file.bin"
    atomic.write_bytes(path, b"old")
    with pytest.raises(atomic.DiskFullError, match=r"file\.bin"):
        atomic.write_bytes(path, bytes(2 * 2**20))
    assert path.read_bytes() == b"old"
    assert os.listdir(small_disk) == ["file.bin"]


def test_read_only_folder(read_only_folder: Path) -> None:
    with pytest.raises(atomic.UnwritableError, match=r"Cannot write .*file\.txt: Read-only file system"):
        atomic.write_text(read_only_folder / "file.txt", "x")
    with pytest.raises(atomic.UnwritableError, match=r"Cannot write .*sub: Read-only file system"):
        atomic.make_dir(read_only_folder / "sub")


def test_read_text_accepts_a_byte_order_mark_and_names_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffZürich".encode())
    assert atomic.read_text(path) == "Zürich"
    path.write_bytes("Zürich".encode("latin1"))
    with pytest.raises(InputError, match=r"list\.txt is not UTF-8 text .* at byte 1\)"):
        atomic.read_text(path)
