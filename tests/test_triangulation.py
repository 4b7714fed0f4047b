"""Triangulation with known poses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from hloc_ext import triangulation
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError, ReconstructionError
from hloc_ext.formats.atomic import DiskFullError, UnwritableError
from hloc_ext.formats.colmap import model_files, read_model
from hloc_ext.formats.h5 import H5Writer
from hloc_ext.formats.matches import names_to_pair
from hloc_ext.formats.pairs import read_pairs
from hloc_ext.triangulation import VERIFICATIONS, parse_options, pipeline_options
from tests.conftest import RoomMap
from tests.room import Room


def run(room_map: RoomMap, sfm_dir: Path, **options) -> pycolmap.Reconstruction:
    inputs = {
        "reference_model": room_map.reference,
        "image_dir": room_map.room.images,
        "pairs": room_map.pairs,
        "features": room_map.features,
        "matches": room_map.matches,
    }
    return triangulation.main(sfm_dir, **{**inputs, **options})


def distances_to_walls(model: pycolmap.Reconstruction) -> np.ndarray:
    """Distances of the points to the nearest of the walls X = 0, Y = 0, Z = 0, metres."""
    return np.abs([point.xyz for point in model.points3D.values()]).min(1)


def check_poses(model: pycolmap.Reconstruction, room: Room) -> None:
    """Poses and intrinsics are those given."""
    assert {image.name for image in model.images.values()} == set(room.map_names)
    for image in model.images.values():
        expected = room.pose(image.name)
        np.testing.assert_allclose(image.cam_from_world().matrix(), expected.matrix(), atol=1e-12)
        np.testing.assert_array_equal(image.camera.params, room.camera.params)


@pytest.mark.parametrize("verification", VERIFICATIONS)
def test_points_lie_on_the_walls(room_map, tmp_path, verification):
    model = run(room_map, tmp_path / "sfm", verification=verification)
    check_poses(model, room_map.room)
    assert model.num_points3D() > 1000
    assert model.compute_mean_reprojection_error() < 0.3
    distances = distances_to_walls(model)
    assert np.median(distances) < 0.003 and np.quantile(distances, 0.95) < 0.03
    stored = read_model(tmp_path / "sfm")
    assert stored.num_points3D() == model.num_points3D()
    assert [f.name for f in (tmp_path / "sfm").glob(".*")] == [], "no temporary files"


@pytest.mark.parametrize(
    "flags, verification",
    [
        ({}, "known_poses"),
        ({"skip_geometric_verification": True}, "skip"),
        ({"estimate_two_view_geometries": True}, "estimate"),
        ({"skip_geometric_verification": True, "estimate_two_view_geometries": True}, "skip"),
    ],
)
def test_flags_of_hloc_choose_the_verification(room_map, tmp_path, monkeypatch, flags, verification):
    class Chosen(Exception):
        pass

    def fill(*args):
        raise Chosen(args[6])

    monkeypatch.setattr(triangulation, "_fill_database", fill)
    with pytest.raises(Chosen, match=verification):
        run(room_map, tmp_path / "sfm", **flags)


def test_wrong_matches_are_sorted_out_by_the_known_poses(room_map, tmp_path):
    matches = shutil.copyfile(room_map.matches, tmp_path / "m.h5")
    rng = np.random.default_rng(0)
    with H5Writer(matches) as writer:
        for pair in read_pairs(room_map.pairs)[:15]:
            random = rng.integers(0, 500, 1000).astype(np.int32)
            writer.write(names_to_pair(*pair), {"matches0": random})
    model = run(room_map, tmp_path / "sfm", matches=matches)
    # A wrong match may lie near the epipolar line by chance.
    assert (distances_to_walls(model) < 0.03).mean() > 0.8


def test_the_same_command_makes_the_same_points(room_map, tmp_path):
    models = [run(room_map, tmp_path / name, verification="estimate") for name in "ab"]
    files = [(tmp_path / name / "points3D.bin").read_bytes() for name in "ab"]
    assert files[0] == files[1] and models[0].num_points3D() > 1000


def test_a_new_run_replaces_the_model_and_the_database(room_map, tmp_path):
    sfm_dir = room_map.copy_model(tmp_path / "sfm")
    before = read_model(sfm_dir).num_points3D()
    (tmp_path / "few.txt").write_text("img00.png img01.png\nimg01.png img03.png\nimg01.png img00.png\n")
    for _ in range(2):
        model = run(room_map, sfm_dir, pairs=tmp_path / "few.txt")
    assert 0 < model.num_points3D() == read_model(sfm_dir).num_points3D() < before
    with pycolmap.Database.open(sfm_dir / "database.db") as database:
        assert database.num_verified_image_pairs() == 2


def test_no_points_is_an_error_that_says_how_far_it_got(room_map, tmp_path):
    with H5Writer(tmp_path / "m.h5") as writer:
        for pair in read_pairs(room_map.pairs):
            matches = np.full(2000, -1, np.int32)
            matches[:3] = [5, 6, 7]
            writer.write(names_to_pair(*pair), {"matches0": matches})
    options = {"matches": tmp_path / "m.h5", "mapper_options": {"triangulation": {"min_angle": 89.0}}}
    with pytest.raises(ReconstructionError) as caught:
        run(room_map, tmp_path / "sfm", **options)
    assert "0 points from 45 pairs with 135 matches, of which " in str(caught.value)
    assert model_files(tmp_path / "sfm") == []
    assert [f.name for f in (tmp_path / "sfm").iterdir()] == ["database.db"]


def test_options_reach_colmap(room_map, tmp_path):
    model = run(room_map, tmp_path / "sfm", mapper_options={"triangulation": {"min_angle": 30.0}})
    assert 0 < model.num_points3D() < 0.8 * read_model(room_map.sfm).num_points3D()


def test_missing_inputs_are_named(room_map, tmp_path):
    for argument in ("reference_model", "pairs", "features", "matches"):
        with pytest.raises(MissingInputError, match=f"`{argument}`: .*nothing does not exist"):
            run(room_map, tmp_path / "sfm", **{argument: tmp_path / "nothing"})
    with pytest.raises(InputError, match="Unknown verification 'none'"):
        run(room_map, tmp_path / "sfm", verification="none")
    (tmp_path / "pairs.txt").write_text("img00.png other.png")
    with pytest.raises(InputError, match=r"pairs.txt names 1 image\(s\) that the model lacks"):
        run(room_map, tmp_path / "sfm", pairs=tmp_path / "pairs.txt")
    (tmp_path / "pairs.txt").write_text("img00.png img02.png")
    with pytest.raises(InputError, match=r"'img02.png'"):
        run(room_map, tmp_path / "sfm", pairs=tmp_path / "pairs.txt")
    with pytest.raises(InputError, match="has no 'min_angle'"):
        run(room_map, tmp_path / "sfm", mapper_options={"min_angle": 2})
    assert not (tmp_path / "sfm").exists(), "nothing is written before the inputs are known to be good"


def test_truncated_inputs_are_named(room_map, tmp_path):
    for argument in ("features", "matches"):
        cut = tmp_path / f"{argument}.h5"
        cut.write_bytes(getattr(room_map, argument).read_bytes()[:5000])
        with pytest.raises(CorruptFileError, match=f"{argument}.h5 is truncated"):
            run(room_map, tmp_path / "sfm", **{argument: cut})
    model = room_map.copy_model(tmp_path / "model")
    (model / "images.bin").write_bytes((model / "images.bin").read_bytes()[:-100])
    with pytest.raises(CorruptFileError, match=r"images.bin is truncated"):
        run(room_map, tmp_path / "sfm", reference_model=model)


def test_a_read_only_folder_is_named(room_map, read_only_folder):
    with pytest.raises(UnwritableError, match=r"read_only"):
        run(room_map, read_only_folder)


def test_a_full_disk_is_named(room_map, small_disk):
    with pytest.raises(DiskFullError, match=r"database.db needs 16 MiB but 1 MiB are free"):
        run(room_map, small_disk / "sfm")
    assert model_files(small_disk / "sfm") == []


def test_a_disk_that_fills_up_is_noticed_before_colmap_crashes(room_map, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    left = iter([2**30] * 40 + [2**24] * 1000)
    monkeypatch.setattr(
        "hloc_ext.formats.atomic.shutil.disk_usage", lambda path: usage._replace(free=next(left))
    )
    with pytest.raises(DiskFullError, match=r"database.db needs 16 MiB but 16 MiB are free"):
        run(room_map, tmp_path / "sfm")
    assert next(left) == 2**24, "it was noticed at once"
    monkeypatch.undo()
    assert run(room_map, tmp_path / "sfm").num_points3D() > 1000


def test_parse_options():
    assert parse_options(["a=1", "b=0.5", "c=True", "d=text", "e.f=2", "e.g=x=y", "h=", "i='1'"]) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": "text",
        "e": {"f": 2, "g": "x=y"},
        "h": "",
        "i": "1",
    }
    with pytest.raises(InputError, match="'min_angle' is not of the form key=value"):
        parse_options(["min_angle"])
    with pytest.raises(InputError, match="'a' has a value already"):
        parse_options(["a=1", "a.b=2"])


def test_pipeline_options():
    options = pipeline_options({"min_num_matches": 7, "triangulation": {"min_angle": 3.5}})
    assert options.min_num_matches == 7
    assert options.triangulation.min_angle == 3.5
    with pytest.raises(InputError, match=r"IncrementalPipelineOptions has no 'min_matches'; it has \["):
        pipeline_options({"min_matches": 7})
    with pytest.raises(InputError, match=r"has no 'min_angel'"):
        pipeline_options({"triangulation": {"min_angel": 3.5}})
    with pytest.raises(InputError, match=r"'min_num_matches' of .* takes a int, not 'seven'"):
        pipeline_options({"min_num_matches": "seven"})
    with pytest.raises(InputError, match=r"'min_num_matches' of .* takes a int, not \{"):
        pipeline_options({"min_num_matches": {"a": 1}})
    with pytest.raises(InputError, match=r"'triangulation'"):
        pipeline_options({"triangulation": 3})


def test_command_line(room_map, tmp_path):
    command = [sys.executable, "-m", "hloc_ext", "triangulation", "--sfm_dir", str(tmp_path / "sfm")]
    for name in ("pairs", "features", "matches"):
        command += [f"--{name}", str(getattr(room_map, name))]
    command += ["--reference_model", str(room_map.reference), "--image_dir", str(room_map.room.images)]
    command += ["--mapper_options", "triangulation.min_angle=2.0", "min_num_matches=10"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert read_model(tmp_path / "sfm").num_points3D() > 1000
