"""The stage that turns Aachen's NVM model into a COLMAP model."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from hloc_ext import colmap_from_nvm
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats.colmap import image_ids, read_model, registered_poses
from hloc_ext.formats.lists import write_query_list
from hloc_ext.formats.nvm import nvm_from_model, write_nvm


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, Path, pycolmap.Reconstruction]:
    """NVM, intrinsics list and the model that they describe: each image has its own camera, as in Aachen."""
    pycolmap.set_random_seed(1)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=6, num_frames_per_rig=1, num_points3D=60)
    model = pycolmap.synthesize_dataset(options)
    for number, image in model.images.items():
        image.name = f"db/{7 * number}.jpg"
    nvm, intrinsics = tmp_path / "aachen_cvpr2018_db.nvm", tmp_path / "database_intrinsics.txt"
    write_nvm(nvm, nvm_from_model(model))
    cameras = {image.name: model.cameras[image.camera_id] for image in model.images.values()}
    write_query_list(intrinsics, cameras)
    return nvm, intrinsics, model


def _database(path: Path, ids: dict[str, tuple[int, int]]) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE images (image_id INTEGER PRIMARY KEY, name TEXT, camera_id INTEGER)")
    rows = [(image, name, camera) for name, (image, camera) in ids.items()]
    connection.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return path


def _assert_same_poses(found: pycolmap.Reconstruction, expected: pycolmap.Reconstruction) -> None:
    poses = registered_poses(expected)
    assert set(registered_poses(found)) == set(poses)
    for name, pose in registered_poses(found).items():
        assert np.allclose(pose.matrix(), poses[name].matrix(), atol=1e-10)


def test_without_a_database_images_are_numbered(dataset, tmp_path: Path) -> None:
    nvm, intrinsics, expected = dataset
    colmap_from_nvm.main(nvm, intrinsics, None, tmp_path / "sfm")
    model = read_model(tmp_path / "sfm")
    assert image_ids(model) == {name: i for i, name in enumerate(image_ids(expected), 1)}
    _assert_same_poses(model, expected)
    assert model.compute_num_observations() == expected.compute_num_observations() > 100
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 1e-6


def test_ids_come_from_the_database_which_is_not_touched(dataset, tmp_path: Path) -> None:
    nvm, intrinsics, expected = dataset
    ids = {name: (100 - i, 200 + i) for i, name in enumerate(image_ids(expected))}
    database = _database(tmp_path / "aachen #1?.db", {**ids, "db/unused.jpg": (1, 1)})
    before = database.read_bytes()
    colmap_from_nvm.main(nvm, intrinsics, database, tmp_path / "sfm")
    model = read_model(tmp_path / "sfm")
    assert {image.name: (i, image.camera_id) for i, image in model.images.items()} == ids
    _assert_same_poses(model, expected)
    assert database.read_bytes() == before
    assert sorted(p.name for p in tmp_path.glob("*.db*")) == [database.name]


def test_an_image_that_the_database_lacks_is_named(dataset, tmp_path: Path) -> None:
    nvm, intrinsics, _ = dataset
    database = _database(tmp_path / "aachen.db", {"db/7.jpg": (1, 1)})
    with pytest.raises(
        InputError, match=r"5 of 6 images have no id in the database, for instance db/14\.jpg"
    ):
        colmap_from_nvm.main(nvm, intrinsics, database, tmp_path / "sfm")
    assert not (tmp_path / "sfm").exists()


def test_missing_and_foreign_databases_are_named(dataset, tmp_path: Path) -> None:
    nvm, intrinsics, _ = dataset
    with pytest.raises(MissingInputError, match=r"COLMAP database .*none\.db does not exist"):
        colmap_from_nvm.main(nvm, intrinsics, tmp_path / "none.db", tmp_path / "sfm")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(CorruptFileError, match=r"aachen_cvpr2018_db\.nvm is not a COLMAP database"):
        colmap_from_nvm.main(nvm, intrinsics, nvm, tmp_path / "sfm")


def test_an_image_without_intrinsics_is_named(dataset, tmp_path: Path) -> None:
    nvm, intrinsics, _ = dataset
    intrinsics.write_text("".join(intrinsics.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match=r"1 of 6 images are not in the list, for instance db/\d+\.jpg"):
        colmap_from_nvm.main(nvm, intrinsics, None, tmp_path / "sfm")


def test_command_line(dataset, tmp_path: Path) -> None:
    nvm, intrinsics, expected = dataset
    arguments = ["--nvm", str(nvm), "--intrinsics", str(intrinsics), "--output", str(tmp_path / "sfm")]
    colmap_from_nvm.cli([*arguments, "--skip_points"])
    model = read_model(tmp_path / "sfm")
    assert model.num_points3D() == 0
    _assert_same_poses(model, expected)
    colmap_from_nvm.cli([*arguments, "--keypoint_origin", "principal_point"])
    shifted = read_model(tmp_path / "sfm")
    image, source = shifted.image(1), expected.find_image_with_name(shifted.image(1).name)
    index = next(i for i, point in enumerate(source.points2D) if point.has_point3D())
    camera = expected.cameras[source.camera_id]
    origin = np.array([camera.principal_point_x, camera.principal_point_y])
    assert np.allclose(image.point2D(index).xy, source.point2D(index).xy + origin)


HLOC = """
import sys
from pathlib import Path
from hloc.colmap_from_nvm import main
main(*map(Path, sys.argv[1:]))
"""


def test_same_model_as_official_hloc(dataset, tmp_path: Path) -> None:
    root = os.environ.get("HLOC_ROOT")
    if not root:
        pytest.skip("HLOC_ROOT is not set: no official HLOC to compare with")
    nvm, intrinsics, expected = dataset
    ids = {name: (100 - i, 200 + i) for i, name in enumerate(image_ids(expected))}
    database = _database(tmp_path / "aachen.db", ids)
    arguments = [str(path) for path in (nvm, intrinsics, database, tmp_path / "official")]
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", HLOC, *arguments], check=True, env=environment, cwd=tmp_path)
    official = read_model(tmp_path / "official")
    ours = colmap_from_nvm.main(nvm, intrinsics, database, tmp_path / "ours")
    _assert_same_poses(ours, official)
    assert image_ids(ours) == image_ids(official)
    for i in official.images:
        first, second = ours.image(i), official.image(i)
        assert first.camera_id == second.camera_id
        assert (
            ours.camera(first.camera_id).params.tolist() == official.camera(first.camera_id).params.tolist()
        )
        for a, b in zip(first.points2D, second.points2D, strict=True):
            assert a.xy.tolist() == b.xy.tolist()
            assert a.has_point3D() == b.has_point3D()
            if a.has_point3D():
                xyz = ours.point3D(a.point3D_id).xyz, official.point3D(b.point3D_id).xyz
                assert xyz[0].tolist() == xyz[1].tolist()
