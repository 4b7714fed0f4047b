"""Records survive kills, full disks and repeated runs; broken and foreign files are named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hloc_ext.errors import CorruptFileError, MissingInputError
from hloc_ext.formats import h5
from hloc_ext.formats.atomic import DiskFullError, UnwritableError
from hloc_ext.formats.h5 import H5Writer, iterate_records, list_names, open_h5
from tests.formats.strategies import examples, image_names

ROOT = Path(__file__).parents[2]


def _not_nested(names: list[str]) -> bool:
    """No image can lie in a folder that is an image."""
    return not any(a != b and b.startswith(f"{a}/") for a in names for b in names)


def _values(path: Path) -> dict[str, list[float]]:
    return {name: value.tolist() for name, value in iterate_records(path, "x")}


@examples
@given(st.lists(image_names, min_size=1, max_size=8, unique=True).filter(_not_nested), st.integers(0, 3))
def test_round_trip_of_any_names(names: list[str], flush_every: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        with H5Writer(path) as writer:
            for index, name in enumerate(names):
                writer.write(name, {"x": np.array([index, 0.5])})
                if flush_every and index % flush_every == 0:
                    writer.flush()
        assert list_names(path) == sorted(names)
        assert _values(path) == {name: [index, 0.5] for index, name in enumerate(names)}
        assert os.listdir(folder) == ["features.h5"]


def test_types_shapes_and_attributes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    record = {"keypoints": np.ones((3, 2), np.float32), "descriptors": np.ones((4, 0), np.float16)}
    with H5Writer(path) as writer:
        writer.write("a/b.jpg", record, {"keypoints": {"uncertainty": 1.5}})
        writer.flush()
        writer.write("c.jpg", {"matches0": np.array([-1, 2], np.int32)})
    with open_h5(path) as fd:
        assert fd["a/b.jpg/keypoints"].dtype == np.float32
        assert fd["a/b.jpg/keypoints"].attrs["uncertainty"] == 1.5
        assert fd["a/b.jpg/descriptors"].shape == (4, 0)
        assert fd["a/b.jpg/descriptors"].dtype == np.float16
        assert fd["c.jpg/matches0"][()].tolist() == [-1, 2]


def test_other_ways_to_write_a_name_are_the_same_record(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with H5Writer(path) as writer:
        writer.write("./db/a.jpg", {"x": np.array([1])})
        writer.write("/db//a.jpg", {"x": np.array([2])})
        assert "db/a.jpg" in writer
    with H5Writer(path) as writer:
        assert "./db/a.jpg" in writer
        assert "db/b.jpg" not in writer
    assert _values(path) == {"db/a.jpg": [2]}


def test_a_second_run_adds_and_replaces_without_growth(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with H5Writer(path) as writer:
        for name in "abc":
            writer.write(name, {"x": np.zeros(10_000)})
    size = path.stat().st_size
    for _ in range(3):
        with H5Writer(path) as writer:
            assert writer.names == {"a", "b", "c"}
            writer.write("b", {"x": np.ones(10_000)})
    assert path.stat().st_size <= size + 2048
    assert {name: value[0] for name, value in _values(path).items()} == {"a": 0, "b": 1, "c": 0}
    with H5Writer(path) as writer:
        writer.write("d", {"x": np.full(1, 7)})
    assert _values(path)["d"] == [7]
    assert _values(path)["b"][0] == 1


def test_the_last_of_several_writes_of_a_record_counts(tmp_path: Path) -> None:
    with H5Writer(tmp_path / "f.h5") as writer:
        for value in (1, 2, 3):
            writer.write("a", {"x": np.array([value])})
            writer.flush()
        writer.write("b", {"x": np.array([4])})
        writer.write("b", {"x": np.array([5])})
    assert _values(tmp_path / "f.h5") == {"a": [3], "b": [5]}


def test_a_writer_without_records_writes_no_file(tmp_path: Path) -> None:
    with H5Writer(tmp_path / "sub" / "features.h5"):
        pass
    assert os.listdir(tmp_path / "sub") == []


def test_the_buffer_is_written_when_it_is_large(tmp_path: Path) -> None:
    writer = H5Writer(tmp_path / "f.h5", max_buffer_bytes=1000, max_buffer_seconds=1e9)
    writer.write("small", {"x": np.zeros(10)})
    assert not writer.parts_dir.exists()
    writer.write("large", {"x": np.zeros(1000)})
    assert [p.name for p in writer.parts_dir.iterdir()] == ["000000.h5"]
    assert list_names(writer.parts_dir / "000000.h5") == ["large", "small"]


def test_an_exception_in_a_stage_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stage"), H5Writer(tmp_path / "f.h5") as writer:
        writer.write("a", {"x": np.array([1])})
        raise RuntimeError("stage")
    assert _values(tmp_path / "f.h5") == {"a": [1]}


def test_list_names_of_files_written_by_others(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w", libver="latest") as fd:
        fd["version"] = 1
        fd["db/1.jpg/keypoints"] = np.zeros((1, 2))
        fd["db/1.jpg/descriptors"] = np.zeros((1, 2))
        fd["db/sub/2.jpg/keypoints"] = np.zeros((1, 2))
        fd.create_group("db/empty.jpg")
    assert list_names(path) == ["db/1.jpg", "db/sub/2.jpg"]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"feats\.h5 does not exist"):
        open_h5(tmp_path / "feats.h5")


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_truncated_file_is_named(tmp_path: Path, libver: str) -> None:
    path = tmp_path / "feats.h5"
    with h5py.File(path, "w", libver=libver) as fd:
        fd["a.jpg/x"] = np.zeros(10_000)
    path.write_bytes(path.read_bytes()[:5000])
    for use in (open_h5, list_names, H5Writer):
        with pytest.raises(CorruptFileError, match=r"feats\.h5 is truncated"):
            use(path)
    assert path.stat().st_size == 5000


@pytest.mark.parametrize("content", [b"", b"name0 name1\n", bytes(5000)])
def test_a_foreign_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"pairs\.txt is not an HDF5 file"):
        H5Writer(path)
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="cannot be opened"):
        open_h5(tmp_path)


def _start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _kill(process: subprocess.Popen[str]) -> str:
    """Kill -9; returns what the process had printed."""
    process.send_signal(signal.SIGKILL)
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL
    return output


HLOC_WRITER = """
import h5py, numpy as np, sys, time
fd = h5py.File(sys.argv[1], "a", libver="latest")
fd["a.jpg/keypoints"] = np.zeros((9, 2))
fd.flush()
print("written", flush=True)
time.sleep(60)
"""


def test_a_file_in_use_and_one_whose_writer_was_killed_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    process = _start(HLOC_WRITER, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    if os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() not in ("FALSE", "0"):
        with pytest.raises(CorruptFileError, match="another program is writing it"):
            open_h5(path)
    _kill(process)
    with pytest.raises(CorruptFileError, match=r"is truncated .*was interrupted"):
        open_h5(path)


FLUSHING_WRITER = """
import sys
import numpy as np
from hloc_ext.formats.h5 import H5Writer
writer = H5Writer(sys.argv[1])
for index in range(int(sys.argv[2]), 1_000_000):
    writer.write(f"db/{index}.jpg", {"x": np.full(2000, index)})
    writer.flush()
    print(index, flush=True)
"""


def test_nothing_flushed_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    written = [-1]
    for stop_after in (1, 7, 12):
        process = _start(FLUSHING_WRITER, path, written[-1] + 1)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(stop_after)]
        lines += _kill(process).splitlines()
        written += [int(line) for line in lines]
    assert path.exists()  # the second run merged what the first had left
    with H5Writer(path) as writer:
        assert {f"db/{index}.jpg" for index in written[1:]} <= writer.names
        writer.write("db/last.jpg", {"x": np.array([-1])})
    values = _values(path)
    for index in written[1:]:
        assert values[f"db/{index}.jpg"] == [index] * 2000
    assert values["db/last.jpg"] == [-1]
    assert os.listdir(tmp_path) == ["feats.h5"]


CLOSING_WRITER = """
import sys
import numpy as np
from hloc_ext.formats.h5 import H5Writer
for index in range(int(sys.argv[2]), 1_000_000):
    with H5Writer(sys.argv[1]) as writer:
        writer.write(f"db/{index}.jpg", {"x": np.full(2000, index)})
    print(index, flush=True)
"""


def test_a_kill_during_the_merge_leaves_a_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    written = [-1]
    for stop_after in (3, 8, 5):
        process = _start(CLOSING_WRITER, path, written[-1] + 1)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(stop_after)]
        written += [int(line) for line in lines + _kill(process).splitlines()]
        values = _values(path)
        assert all(values[f"db/{index}.jpg"] == [index] * 2000 for index in written[1:])
    H5Writer(path).close()
    assert os.listdir(tmp_path) == ["feats.h5"]


def test_a_kill_between_the_merge_and_the_removal_of_the_parts(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "feats.h5"
    with H5Writer(path) as writer:
        writer.write("a", {"x": np.array([1])})

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    writer = H5Writer(path)
    writer.write("b", {"x": np.array([2])})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(h5.shutil, "rmtree", killed)
        writer.close()
    assert _values(path) == {"a": [1], "b": [2]}
    assert H5Writer(path).names == {"a", "b"}
    assert os.listdir(tmp_path) == ["feats.h5"]


def test_a_full_disk_loses_no_record_that_was_flushed(small_disk: Path) -> None:
    path = small_disk / "feats.h5"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(500_000))
    rng = np.random.default_rng(0)
    data = {f"{index}.jpg": rng.random(10_000) for index in range(9)}
    message = r"feats\.h5.*resumes where it stopped"
    with pytest.raises(DiskFullError, match=message), H5Writer(path, max_buffer_bytes=1) as writer:
        for name, value in data.items():
            writer.write(name, {"x": value})
    parts = sorted((small_disk / ".feats.h5.parts").glob("*.h5"))
    kept = [name for part in parts for name in list_names(part)]
    assert 3 <= len(kept) < 9

    ballast.unlink()
    with H5Writer(path, max_buffer_bytes=1) as writer:
        assert writer.names == set(kept)
        writer.write("last.jpg", {"x": np.array([1.0])})
    values = _values(path)
    assert all(values[name] == data[name].tolist() for name in kept)
    assert values["last.jpg"] == [1.0]


def test_a_merge_that_does_not_fit_keeps_file_and_parts(small_disk: Path) -> None:
    path = small_disk / "feats.h5"
    with H5Writer(path) as writer:
        writer.write("a", {"x": np.zeros(50_000)})
    before = path.read_bytes()
    writer = H5Writer(path)
    writer.write("b", {"x": np.ones(20_000)})
    with pytest.raises(DiskFullError, match=r"feats\.h5 needs 1 MiB but 0 MiB are free"):
        writer.close()
    assert path.read_bytes() == before
    assert list_names(writer.parts_dir / "000000.h5") == ["b"]


def test_a_read_only_folder_is_named(read_only_folder: Path) -> None:
    with pytest.raises(UnwritableError, match=r"outputs: Read-only file system"):
        H5Writer(read_only_folder / "outputs" / "feats.h5")
    writer = H5Writer(read_only_folder / "feats.h5")
    writer.write("a", {"x": np.zeros(1)})
    with pytest.raises(UnwritableError, match=r"feats\.h5.*Read-only file system"):
        writer.close()
