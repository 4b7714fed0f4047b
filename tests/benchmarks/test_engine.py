"""The comparisons with HLOC on tiny inputs: what they count, never how long they take."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from benchmarks.engine import __main__ as engine
from benchmarks.engine.comparison import Row, Setup, SkippedError, alternate, format_header, identical
from benchmarks.engine.localization import describe
from benchmarks.engine.verification import describe as describe_inliers
from hloc_ext.formats.colmap import subset, write_model
from tests.room import Room

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES = {
    "repeats": 1,
    "num_matching_pairs": 3,
    "num_loading_pairs": 4,
    "num_dense_pairs": 3,
    "num_dense_matches": 200,
    "num_descriptors": 40,
    "num_matched": 5,
}
HOSTS = {
    "hloc": bool(os.environ.get("HLOC_ROOT")) or importlib.util.find_spec("hloc") is not None,
    "imcui.hloc": importlib.util.find_spec("imcui") is not None,
}
has_torchvision = importlib.util.find_spec("torchvision") is not None


def run_engine(folder: Path, images: Path, model: Path) -> str:
    """Output of the command in a process of its own, because hosts stay imported."""
    options = {"images": images, "model": model, "workdir": folder / "work", **SIZES}
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.engine", *(f"--{k}={v}" for k, v in options.items())],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def table_of(output: str) -> dict[str, list[str]]:
    """Cells of each row, by the first one."""
    lines = output[output.index(format_header()) + len(format_header()) :].splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line]
    return {row[0]: row[1:] for row in cells}


@pytest.fixture(scope="module")
def inputs(room: Room, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder of images, and of a model with the poses of eight of them."""
    model = tmp_path_factory.mktemp("engine") / "model"
    write_model(subset(room.model, sorted(image.name for image in room.model.images.values())[:8]), model)
    return room.images, model


@pytest.mark.skipif(not any(HOSTS.values()), reason="no HLOC is installed (pip install --no-deps imcui)")
def test_table_against_hloc(inputs, tmp_path):
    output = run_engine(tmp_path, *inputs)
    table = table_of(output)
    host = "hloc" if HOSTS["hloc"] else "imcui.hloc"
    assert ("official HLOC" if host == "hloc" else "imcui.hloc (official HLOC is not installed)") in output
    skipped = {what for what, cells in table.items() if cells[-1].startswith("skipped")}
    geometry, dense = {"verification", "localization"}, {"aggregation"}
    assert skipped == (geometry if host != "hloc" else set()) | (set() if has_torchvision else dense)
    for what, (hloc, ours, ratio, equality) in table.items():
        if what in skipped:
            assert len(equality) > len("skipped: ")
            continue
        numbers = [float(x) for x in (hloc, ours, *re.findall(r"[\d.]+", ratio))]
        assert len(numbers) == 5 and np.isfinite(numbers).all() and min(numbers) > 0
    equalities = {what.split(",")[0]: cells[-1] for what, cells in table.items()}
    assert equalities["matching (NN-ratio)"] == "3 of 3 matches0 identical"
    assert equalities["loading of features"] == "4 of 4 matcher inputs identical"
    assert equalities["retrieval 40²"] == "200 of 200 ranks identical"
    if has_torchvision:
        found = re.fullmatch(
            r"(\d+) of \1 keypoints identical, ours \1", equalities["aggregation of 3 × 200 matches"]
        )
        assert found and int(found[1]) > 100
        found = re.fullmatch(
            r"(\d+) of \1 matches identical, ours \1", equalities["assignment of 3 × 200 matches"]
        )
        assert found and int(found[1]) > 10
    if host == "hloc":
        verified = equalities["verification by known poses"]
        assert re.search(
            r"at COLMAP's origin (\d+) of \1 pairs identical, 0 of [1-9]\d* inliers differ$", verified
        )
        poses = table["localization, ours 1 thread, ms/query"][-1]
        assert re.search(r"with our seed in HLOC 2 of 2 poses differ by at most", poses)
        seeded = poses.split("with our seed in HLOC")[1]
        assert all(float(x) < 1e-6 for x in re.search(r"most (\S+) map units and (\S+)°", seeded).groups())


@pytest.mark.parametrize("part", engine.PARTS)
def test_without_hloc_every_part_says_so(part, inputs, tmp_path, capsys):
    (row,) = engine.run(Setup(None, tmp_path), [part])
    assert "HLOC is not installed" in row.skipped and "HLOC_ROOT" in row.skipped
    assert f"| {part} " in capsys.readouterr().out
    assert row.ratios == []


def test_geometry_of_imcui_is_skipped(tmp_path):
    setup = Setup("imcui.hloc", tmp_path)
    assert setup.require_host() == "imcui.hloc"
    with pytest.raises(SkippedError, match=r"imcui\.hloc need pycolmap 3\.10"):
        setup.require_host(geometry=True)


def test_parts_on_images_ask_for_them(tmp_path):
    with pytest.raises(SkippedError, match="--images and --model"):
        _ = Setup("hloc", tmp_path).scene


def test_runs_alternate_in_empty_folders_and_the_first_ones_are_not_timed(tmp_path):
    calls = []

    def side(name):
        def function(own: Path) -> int:
            assert [p.name for p in own.iterdir()] == ["prepared"]
            (own / "output").touch()
            calls.append((name, own.name))
            return len(calls)

        return function

    timing = alternate(side("a"), side("b"), 2, tmp_path, lambda own: (own / "prepared").touch())
    assert calls == [("a", "hloc"), ("b", "ours")] * 3
    assert (len(timing.hloc), len(timing.ours)) == (2, 2)
    assert (timing.hloc_result, timing.ours_result) == (5, 6)
    assert (tmp_path / "ours" / "output").exists()


def test_row_shows_medians_and_the_median_of_the_ratios_of_each_turn():
    row = Row("loading, s", [2.0, 9.0, 4.0], [1.0, 3.0, 4.0], "all")
    cells = [cell.strip() for cell in str(row).strip("| ").split(" | ")]
    assert cells == ["loading, s", "4", "3", "2.00 (1.00–3.00)", "all"]


def test_shares_that_are_not_whole_are_given_in_per_cent():
    assert identical(3, 3, "pairs") == "3 of 3 pairs identical"
    assert identical(1, 8, "pairs") == "1 of 8 pairs identical (12.5000 %)"


def test_inliers_that_differ_are_counted():
    hloc, ours = [{(0, 1), (2, 3)}, {(5, 5)}], [{(0, 1)}, {(5, 5)}]
    assert describe_inliers(hloc, ours) == "1 of 2 pairs identical (50.0000 %), 1 of 3 inliers differ"


def test_largest_difference_of_poses():
    def at(x: float) -> pycolmap.Rigid3d:
        return pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([x, 0.0, 0.0]))

    hloc = {"a": at(0.0), "b": at(1.0), "c": None}
    ours = {"a": at(0.25), "b": at(1.0), "c": at(0.0)}
    expected = "2 of 3 poses differ by at most 0.25 map units and 0°, 1 found by one side only"
    assert describe(hloc, ours) == expected
