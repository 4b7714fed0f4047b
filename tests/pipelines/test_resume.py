"""Runs that are killed, that meet a full disk, or that may not write: the next run goes on."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from hloc_ext.confs import DEFAULT_RETRIEVAL, extractors
from hloc_ext.evaluation.alignment import align_to
from hloc_ext.formats.colmap import read_model, registered_poses
from hloc_ext.formats.h5 import list_names
from hloc_ext.formats.results import read_log
from pipelines import photos
from tests.pipelines.killing import kill_at_random, kill_when, running_stage, stage_names, start

LOG = "results.txt_logs.jsonl"
SFM = "sfm_feats-sift_matches-NN-mutual-ratio.8"


def assert_same_results(outputs, expected):
    """The results, and the features and matches behind them, are those of an uninterrupted run."""
    assert (outputs / "results.txt").read_bytes() == (expected / "results.txt").read_bytes()
    for path in expected.glob("*.h5"):
        assert list_names(outputs / path.name) == list_names(path)
    for path in expected.glob("pairs*.txt"):
        assert (outputs / path.name).read_bytes() == path.read_bytes()
    left = [f.name for f in outputs.rglob("*") if f.name.startswith(".") or f.name.endswith(".tmp")]
    assert left == []


def test_killed_while_matching(room_files, tmp_path, pipeline):
    outputs = room_files.seed(tmp_path / "outputs", "*feats-*sift.h5")
    arguments = [*room_files.arguments, "--outputs", outputs]
    output = tmp_path / "output.txt"
    process = start("pipelines.photos", *arguments, output=output)
    assert kill_when(process, lambda: running_stage(outputs) == "matches, map", output)
    outcome = pipeline(photos.main, *arguments)
    assert outcome.code == 0
    assert_same_results(outputs, room_files.outputs)
    stages = json.loads((outputs / "stages.json").read_text())["stages"]
    assert {"matches, map": "resumed", "triangulation": "completed"}.items() <= {
        stage["name"]: stage["state"] for stage in stages
    }.items()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_time(room_files, tmp_path, pipeline, seed):
    """Three kills in a row, each in a random stage or a random time after it began."""
    outputs = tmp_path / "outputs"
    arguments = [*room_files.arguments, "--outputs", outputs]
    stages = stage_names(room_files.outputs)
    assert kill_at_random("pipelines.photos", arguments, outputs, stages, seed) > 0
    assert pipeline(photos.main, *arguments).code == 0
    assert_same_results(outputs, room_files.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.6, 1.0, 1.5])
def test_killed_during_structure_from_motion(room_files, tmp_path, pipeline, delay):
    output = tmp_path / "output.txt"
    inputs = [*room_files.inputs, "--outputs"]
    expected, outputs = (room_files.seed(tmp_path / name) for name in ("expected", "outputs"))
    assert pipeline(photos.main, *inputs, expected).code == 0
    process = start("pipelines.photos", *inputs, outputs, output=output)
    kill_when(process, lambda: running_stage(outputs) == "structure from motion", output, delay)
    assert pipeline(photos.main, *inputs, outputs).code == 0
    # COLMAP's threads now and then choose another frame for the same model: compare in one frame.
    one, two = (registered_poses(read_model(folder / SFM)) for folder in (expected, outputs))
    assert one.keys() == two.keys()
    alignment = align_to(two, one)
    for name, pose in alignment.apply(two).items():
        assert np.allclose(pose.matrix(), one[name].matrix(), atol=1e-6)
    found = {result.name: result.cam_from_world for result in read_log(outputs / LOG)}
    for result in read_log(expected / LOG):
        pose = alignment.apply(found)[result.name]
        assert np.allclose(pose.matrix(), result.cam_from_world.matrix(), atol=1e-5)


def enlarge(folder, size):
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def test_read_only_outputs(room_files, read_only_folder, pipeline):
    for outputs in (read_only_folder, read_only_folder / "new"):
        message = pipeline(photos.main, *room_files.arguments, "--outputs", outputs).error
        assert f"Cannot write {outputs}" in message and "Read-only file system" in message
        assert "Choose another output folder" in message


def test_full_disk(room_files, small_disk, pipeline):
    outputs = small_disk / "outputs"
    arguments = [*room_files.arguments, "--outputs", outputs]
    message = pipeline(photos.main, *arguments).error
    assert "No space left on device while writing" in message and "feats-sift.h5" in message
    kept = set(list_names(outputs / f"{extractors[DEFAULT_RETRIEVAL]['output']}.h5"))
    assert kept == set(room_files.room.map_names)
    states = {s["name"]: s["state"] for s in json.loads((outputs / "stages.json").read_text())["stages"]}
    assert states["global descriptors, map"] == "completed"
    enlarge(small_disk, "64m")
    outcome = pipeline(photos.main, *arguments)
    assert outcome.code == 0
    assert_same_results(outputs, room_files.outputs)
    states = {s["name"]: s["state"] for s in json.loads((outputs / "stages.json").read_text())["stages"]}
    assert states["global descriptors, map"] == "resumed"


@pytest.mark.slow
@pytest.mark.parametrize("from_scratch", [False, True])
def test_disk_full_at_any_stage(room_files, small_disk, tmp_path, pipeline, from_scratch):
    """A disk that grows by little until everything fits: a clear message each time, then the same results."""
    outputs, expected = small_disk / "outputs", room_files.outputs
    arguments = list(room_files.arguments)
    if from_scratch:
        index = arguments.index("--reference_model")
        del arguments[index : index + 2]
        expected = room_files.seed(tmp_path / "expected")
        assert pipeline(photos.main, *arguments, "--outputs", expected).code == 0
    failed = set()
    for size in range(256, 40000, 192):
        enlarge(small_disk, f"{size}k")
        outcome = pipeline(photos.main, *arguments, "--outputs", outputs)
        if outcome.code == 0:
            break
        assert "No space left on device" in outcome.error or "are free" in outcome.error, outcome.err
        stages = outputs / "stages.json"
        records = json.loads(stages.read_text())["stages"] if stages.exists() else []
        failed |= {record["name"] for record in records if record["state"] == "failed"}
    assert outcome.code == 0
    sfm = "structure from motion" if from_scratch else "triangulation"
    assert failed >= {"local features, map", "local features, queries", sfm}
    assert_same_results(outputs, expected)


@pytest.mark.parametrize(
    ("missing", "free", "named"),
    [
        pytest.param(["*pairs-map*", "sfm*", "*query*", "res*", "rep*"], 64, "pairs-map.h5", id="matches"),
        pytest.param(["sfm*", "*query*", "res*", "rep*"], 256, "sfm", id="triangulation"),
        pytest.param(["*query*", "res*", "rep*"], 64, "20.h5", id="query matches"),
        pytest.param(["res*", "rep*"], 8, "results", id="localization"),
        pytest.param(["rep*"], 512, "report.html", id="report"),
    ],
)
def test_disk_full_in_one_stage(room_files, small_disk, pipeline, missing, free, named):
    outputs = small_disk / "outputs"
    enlarge(small_disk, "64m")
    ignored = shutil.ignore_patterns(*missing)
    shutil.copytree(room_files.outputs, outputs, copy_function=shutil.copy2, ignore=ignored)
    arguments = [*room_files.arguments, "--outputs", outputs]
    enlarge(small_disk, f"{shutil.disk_usage(small_disk).used // 1024 + free}k")
    message = pipeline(photos.main, *arguments).error
    assert ("No space left on device" in message or "MiB are free" in message) and named in message
    enlarge(small_disk, "64m")
    assert pipeline(photos.main, *arguments).code == 0
    assert_same_results(outputs, room_files.outputs)


def test_what_a_kill_leaves_is_removed(room_files, tmp_path, pipeline):
    outputs = tmp_path / "outputs"
    shutil.copytree(room_files.outputs, outputs, copy_function=shutil.copy2)
    (outputs / ".stages.json.x1.tmp").write_text("{")
    (outputs / SFM / ".model-x1").mkdir()
    (outputs / SFM / ".model-x1" / "images.bin").write_text("half")
    (outputs / SFM / "inputs.json").unlink()
    assert pipeline(photos.main, *room_files.arguments, "--outputs", outputs).code == 0
    assert_same_results(outputs, room_files.outputs)


def test_outputs_that_moved(room_files, tmp_path, pipeline):
    """A copy of the outputs (with their times) is a map of its own, and is not computed again."""
    outputs = tmp_path / "moved"
    shutil.copytree(room_files.outputs, outputs, copy_function=shutil.copy2)
    arguments = [*room_files.arguments, "--outputs", outputs]
    assert pipeline(photos.main, *arguments).code == 0
    assert_same_results(outputs, room_files.outputs)
