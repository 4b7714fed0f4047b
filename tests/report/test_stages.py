"""Records of stages: figures survive failures, kills and resumed runs."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hloc_ext.report.stages as stages
from hloc_ext.errors import InputError
from hloc_ext.report import StageLog
from hloc_ext.report.memory import MEBIBYTE, PeakMemory, tree_memory

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def saved(path) -> dict[str, dict]:
    return {stage["name"]: stage for stage in json.loads(path.read_text())["stages"]}


def test_a_stage_is_measured_and_saved(tmp_path):
    log = StageLog(tmp_path / "stages.json")
    with log.stage("extract_features", count=25, note="cpu") as stage:
        time.sleep(0.05)
        stage.count = 24
    (record,) = log.records
    assert (record.name, record.count, record.note, record.state) == (
        "extract_features",
        24,
        "cpu",
        "completed",
    )
    assert record.seconds >= 0.05
    assert saved(log.path)["extract_features"]["seconds"] == record.seconds


def test_unchanged_outputs_keep_the_figures_of_the_first_run(tmp_path):
    output = tmp_path / "features.h5"
    first = StageLog(tmp_path / "stages.json")
    with first.stage("extract", count=3, outputs=[output]):
        output.write_text("computed")
        time.sleep(0.05)
    for _ in range(2):
        again = StageLog(first.path)
        with again.stage("extract", count=3, outputs=[output]):
            pass
        assert again.records[0].state == "resumed"
        assert again.records[0].seconds == first.records[0].seconds
        assert again.records[0].peak_mib == first.records[0].peak_mib


def test_changed_outputs_replace_the_figures(tmp_path):
    output = tmp_path / "model"
    output.mkdir()
    first = StageLog(tmp_path / "stages.json")
    with first.stage("triangulation", outputs=[output]):
        (output / "points3D.bin").write_text("first")
    first.path.write_text(json.dumps({"stages": [{**saved(first.path)["triangulation"], "seconds": 1000.0}]}))
    second = StageLog(first.path)
    with second.stage("triangulation", outputs=[output]):
        (output / "points3D.bin").write_text("second, longer")
    assert second.records[0].state == "completed"
    assert second.records[0].seconds < 1000
    assert saved(first.path)["triangulation"]["seconds"] == second.records[0].seconds


def test_another_output_is_another_configuration(tmp_path):
    for name in ("sift.h5", "disk.h5"):
        log = StageLog(tmp_path / "stages.json")
        with log.stage("extract", outputs=[tmp_path / name]) as stage:
            (tmp_path / name).touch()
            stage.note = name
    assert log.records[0].state == "completed" and log.records[0].note == "disk.h5"


def test_skip_without_an_earlier_record(tmp_path):
    log = StageLog(tmp_path / "stages.json")
    with log.stage("extract") as stage:
        stage.skip()
    assert log.records[0].state == "resumed"


def test_a_failed_stage_is_recorded_and_its_time_added(tmp_path):
    log = StageLog(tmp_path / "stages.json")
    with pytest.raises(ZeroDivisionError), log.stage("match"):
        time.sleep(0.05)
        raise ZeroDivisionError
    assert saved(log.path)["match"]["state"] == "failed"
    resumed = StageLog(log.path)
    with resumed.stage("match"):
        time.sleep(0.02)
    assert resumed.records[0].state == "resumed"
    assert resumed.records[0].seconds >= 0.07


def test_a_killed_run_leaves_its_time(tmp_path):
    path = tmp_path / "stages.json"
    program = (
        "import os, sys, time; import hloc_ext.report.stages as s; s.SAVE_INTERVAL = 0.1\n"
        f"with s.StageLog({str(path)!r}).stage('match', count=7):\n"
        "    time.sleep(0.6); os._exit(9)\n"
    )
    root = Path(stages.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert done.returncode == 9
    record = saved(path)["match"]
    assert record["state"] == "running" and record["count"] == 7 and record["seconds"] >= 0.1
    log = StageLog(path)
    with log.stage("match"):
        pass
    assert log.records[0].state == "resumed" and log.records[0].seconds > record["seconds"]


def test_a_repeated_name_and_a_foreign_file_are_refused(tmp_path):
    log = StageLog()
    with log.stage("match"):
        pass
    with pytest.raises(InputError, match="'match' was recorded already"), log.stage("match"):
        pass
    (tmp_path / "stages.json").write_text('{"stages": [{"seconds": 1}]}')
    with pytest.raises(InputError, match=r"stages\.json is not a record of stages"):
        StageLog(tmp_path / "stages.json")


def test_stages_of_earlier_runs_stay_in_the_file_only(tmp_path):
    path = tmp_path / "stages.json"
    with StageLog(path).stage("old"):
        pass
    log = StageLog(path)
    with log.stage("new"):
        pass
    assert [record.name for record in log.records] == ["new"]
    assert list(saved(path)) == ["old", "new"]


def test_table_sums_the_seconds():
    text = stages.format_stages(
        [stages.StageRecord("extract", 1.25, 512.4, 25), stages.StageRecord("localize", 2.5, None, None, "x")]
    )
    header, extract, localize, total = text.splitlines()
    assert header.split() == ["stage", "seconds", "peak", "MiB", "count", "state", "note"]
    assert extract.split() == ["extract", "1.25", "512", "25", "completed"]
    assert localize.split() == ["localize", "2.50", "-", "-", "completed", "x"]
    assert total.split() == ["total", "3.75"]


@linux_only
def test_peak_memory_sees_an_array_that_is_gone():
    before = tree_memory()
    # A mapping, because an array may lie in memory that was freed before and is still resident.
    with PeakMemory(interval=0.01) as memory, mmap.mmap(-1, 64 * MEBIBYTE) as block:
        block.write(b"1" * (64 * MEBIBYTE))
        time.sleep(0.1)
    assert memory.peak is not None and memory.peak >= before + 60 * MEBIBYTE


@linux_only
def test_peak_memory_counts_child_processes():
    program = "b = bytearray(b'1') * (80 * 2**20); import time; time.sleep(1.0)"
    before = tree_memory()
    with PeakMemory(interval=0.01) as memory:
        subprocess.run([sys.executable, "-c", program], check=True)
    assert memory.peak is not None and memory.peak >= before + 75 * MEBIBYTE
    assert tree_memory("999999999") == 0
