"""Structure from motion from scratch."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from hloc_ext import extract_features, match_features, pairs_from_exhaustive, reconstruction
from hloc_ext.confs import extractors, matchers
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError, ReconstructionError
from hloc_ext.formats.atomic import DiskFullError, UnwritableError
from hloc_ext.formats.colmap import model_files, read_model
from hloc_ext.formats.h5 import H5Writer
from hloc_ext.formats.lists import write_image_list, write_query_list
from hloc_ext.formats.matches import names_to_pair
from hloc_ext.formats.pairs import read_pairs, write_pairs
from hloc_ext.reconstruction import import_images, merge_options, refine_principal_points
from tests.conftest import RoomMap
from tests.room import Room


def run(room_map: RoomMap, sfm_dir: Path, **options) -> pycolmap.Reconstruction:
    inputs = {
        "image_dir": room_map.room.images,
        "pairs": room_map.pairs,
        "features": room_map.features,
        "matches": room_map.matches,
        "image_list": room_map.room.map_names,
    }
    return reconstruction.main(sfm_dir, **{**inputs, **options})


def center_error(model: pycolmap.Reconstruction, room: Room) -> float:
    """Root mean square distance of the aligned camera centres to the true ones, metres."""
    names = [image.name for image in model.images.values()]
    centers = np.array([room.pose(name).inverse().translation for name in names])
    true_from_model = pycolmap.align_reconstruction_to_locations(
        model, names, centers, 3, pycolmap.RANSACOptions(max_error=0.1)
    )
    found = [image.projection_center() for image in model.images.values()]
    errors = np.linalg.norm(true_from_model * np.array(found) - centers, axis=1)
    return float(np.sqrt((errors**2).mean()))


@pytest.mark.parametrize("mapper", ["incremental", "global"])
def test_registers_the_images_where_they_were(room_map, tmp_path, mapper):
    model = run(room_map, tmp_path / "sfm", mapper=mapper)
    assert model.num_reg_images() >= 9
    assert center_error(model, room_map.room) < 0.03
    assert model.compute_mean_reprojection_error() < 0.4
    for camera in model.cameras.values():  # unknown: 1.2 · 480 px at first
        assert camera.focal_length == pytest.approx(420, rel=0.02)
    stored = read_model(tmp_path / "sfm")
    assert stored.num_points3D() == model.num_points3D()
    assert [path.name for path in (tmp_path / "sfm" / "models").iterdir()] == ["0"]


@pytest.mark.parametrize("mapper", ["incremental", "global"])
@pytest.mark.parametrize("as_file", [True, False])
def test_known_intrinsics_stay_as_they_are(room_map, tmp_path, mapper, as_file):
    cameras = {name: room_map.room.camera for name in room_map.room.map_names}
    intrinsics = cameras
    if as_file:
        intrinsics = tmp_path / "intrinsics.txt"
        write_query_list(intrinsics, cameras)
    model = run(
        room_map,
        tmp_path / "sfm",
        mapper=mapper,
        intrinsics=intrinsics,
        # An option of the user's must not undo this.
        mapper_options={
            "mapper": {"ba_num_iterations": 2} if mapper == "global" else {"filter_min_tri_angle": 1.0}
        },
    )
    assert model.num_reg_images() >= 9
    assert len(model.cameras) == 1
    np.testing.assert_array_equal(model.cameras[1].params, room_map.room.camera.params)
    assert model.cameras[1].model == room_map.room.camera.model
    assert center_error(model, room_map.room) < 0.03


def test_some_known_intrinsics(room_map, tmp_path):
    known = {name: room_map.room.camera for name in room_map.room.map_names[:4]}
    model = run(room_map, tmp_path / "sfm", intrinsics=known, camera_mode=pycolmap.CameraMode.SINGLE)
    assert model.num_reg_images() >= 9
    for image in model.images.values():
        if image.name in known:
            np.testing.assert_array_equal(image.camera.params, room_map.room.camera.params)
        else:
            assert image.camera.params[0] != 420
    with pytest.raises(InputError, match="`intrinsics` has 4 of 10 images"):
        run(room_map, tmp_path / "sfm", intrinsics=known, mapper="global")


@pytest.mark.parametrize("mode, number", [("AUTO", 10), ("SINGLE", 1), ("PER_IMAGE", 10), ("PER_FOLDER", 1)])
def test_camera_modes(room_map, tmp_path, mode, number):
    room = room_map.room
    ids, known = import_images(
        room.images, tmp_path / "d.db", pycolmap.CameraMode.__members__[mode], room.map_names
    )
    assert sorted(ids) == room.map_names and known == set()
    with pycolmap.Database.open(tmp_path / "d.db") as database:
        assert database.num_cameras() == number


def test_image_options(room_map, tmp_path):
    room = room_map.room
    for params in ("420,240,180", (420, 240, 180)):
        options = {"camera_model": "SIMPLE_PINHOLE", "camera_params": params}
        import_images(room.images, tmp_path / "d.db", pycolmap.CameraMode.SINGLE, room.map_names, options)
        with pycolmap.Database.open(tmp_path / "d.db") as database:
            (camera,) = database.read_all_cameras()
        assert camera.model.name == "SIMPLE_PINHOLE"
        np.testing.assert_array_equal(camera.params, [420, 240, 180])
    with pytest.raises(InputError, match="ImageReaderOptions has no 'camera'"):
        import_images(
            room.images, tmp_path / "d.db", pycolmap.CameraMode.SINGLE, room.map_names, {"camera": "PINHOLE"}
        )


def test_no_model_is_an_error_with_a_diagnosis(room_map, tmp_path):
    rng = np.random.default_rng(0)
    with H5Writer(tmp_path / "m.h5") as writer:
        for pair in read_pairs(room_map.pairs):
            matches = np.full(1000, -1, np.int32)
            matches[:30] = rng.integers(0, 1000, 30)
            writer.write(names_to_pair(*pair), {"matches0": matches})
    for mapper in ("incremental", "global"):
        with pytest.raises(ReconstructionError) as caught:
            run(room_map, tmp_path / "sfm", matches=tmp_path / "m.h5", mapper=mapper)
        assert "from 10 images and 45 pairs with 1350 matches; " in str(caught.value)
        assert " pairs passed geometric verification. Too few verified pairs: " in str(caught.value)
        assert model_files(tmp_path / "sfm") == []


def test_principal_points_are_refined_where_many_images_share_a_camera(room_map, tmp_path):
    room = room_map.room
    options = {"camera_mode": pycolmap.CameraMode.SINGLE, "refine_principal_point": True}
    model = run(room_map, tmp_path / "single", **options)
    assert center_error(model, room) < 0.03
    (camera,) = model.cameras.values()
    principal_point = camera.params[1:3]
    assert (principal_point != [240, 180]).all()
    np.testing.assert_allclose(principal_point, [240, 180], atol=5)
    np.testing.assert_array_equal(read_model(tmp_path / "single").cameras[1].params, camera.params)
    # Too few images for each camera, or nothing unknown: no change.
    alone = run(room_map, tmp_path / "alone", refine_principal_point=True)
    for camera in alone.cameras.values():
        np.testing.assert_array_equal(camera.params[1:3], [240, 180])
    assert not refine_principal_points(model, known_cameras=[1])


def test_known_cameras_are_kept_when_principal_points_are_refined(room_map, tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction, "MIN_IMAGES_FOR_PRINCIPAL_POINT", 5)
    known = {name: room_map.room.camera for name in room_map.room.map_names[:4]}
    options = {"camera_mode": pycolmap.CameraMode.SINGLE, "refine_principal_point": True}
    model = run(room_map, tmp_path / "sfm", intrinsics=known, **options)
    for image in model.images.values():
        assert (image.camera.params == room_map.room.camera.params).all() == (image.name in known)


def test_unverified_matches_can_be_trusted(room_map, tmp_path):
    model = run(room_map, tmp_path / "sfm", skip_geometric_verification=True)
    assert model.num_reg_images() >= 9 and center_error(model, room_map.room) < 0.05


def test_the_largest_of_several_models_is_used(room_map, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hloc_ext"), "propagate", True)
    names = room_map.room.map_names
    groups = names[:4], names[4:]
    pairs = [(a, b) for group in groups for i, a in enumerate(group) for b in group[i + 1 :]]
    write_pairs(tmp_path / "pairs.txt", pairs)
    options = {"min_model_size": 3, "multiple_models": True}
    model = run(room_map, tmp_path / "sfm", pairs=tmp_path / "pairs.txt", mapper_options=options)
    assert sorted(image.name for image in model.images.values()) == groups[1]
    models = sorted(path.name for path in (tmp_path / "sfm" / "models").iterdir())
    assert models == ["0", "1"]
    assert "The images fall into 2 models of [6, 4] images; the largest is used" in caplog.text
    # A later run with one model does not leave the others of this one.
    run(room_map, tmp_path / "sfm")
    assert [path.name for path in (tmp_path / "sfm" / "models").iterdir()] == ["0"]


def test_names_with_folders_blanks_and_other_alphabets(room, tmp_path):
    images = tmp_path / "фото"
    names = [f"Straße/{index // 2}/größe_{index}.png" for index in range(5)]
    for name, source in zip(names, room.map_names, strict=False):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(room.images / source, images / name)
    shutil.copyfile(room.images / "img02.png", images / "not in the pairs.png")
    features = extract_features.main(extractors["sift"], images, tmp_path)
    pairs_from_exhaustive.main(tmp_path / "pairs.txt", image_list=names)
    matches = match_features.main(
        matchers["NN-ratio"], tmp_path / "pairs.txt", features, matches=tmp_path / "m.h5"
    )
    model = reconstruction.main(tmp_path / "sfm", images, tmp_path / "pairs.txt", features, matches)
    assert {image.name for image in model.images.values()} == set(names)


def test_the_same_command_makes_the_same_model(room_map, tmp_path):
    for name in "ab":
        run(room_map, tmp_path / name, mapper_options={"num_threads": 1})
    assert (tmp_path / "a/points3D.bin").read_bytes() == (tmp_path / "b/points3D.bin").read_bytes()
    assert (tmp_path / "a/images.bin").read_bytes() == (tmp_path / "b/images.bin").read_bytes()


def test_bad_inputs_are_named(room_map, tmp_path):
    sfm = tmp_path / "sfm"
    for argument in ("image_dir", "pairs", "features", "matches"):
        with pytest.raises(MissingInputError, match=f"`{argument}`: .*nothing does not exist"):
            run(room_map, sfm, **{argument: tmp_path / "nothing"})
    with pytest.raises(InputError, match="Unknown mapper 'hierarchical'"):
        run(room_map, sfm, mapper="hierarchical")
    with pytest.raises(InputError, match="IncrementalPipelineOptions has no 'ba_refine_focal'"):
        run(room_map, sfm, mapper_options={"ba_refine_focal": False})
    with pytest.raises(InputError, match=r"GlobalPositionerOptions has no|has no 'a'"):
        run(room_map, sfm, mapper="global", mapper_options={"mapper": {"a": False}})
    with pytest.raises(MissingInputError, match=r"1 listed image\(s\) are not in .*: nobody.png"):
        run(room_map, sfm, image_list=["img00.png", "nobody.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match=r"No image in .*empty"):
        run(room_map, sfm, image_dir=tmp_path / "empty", image_list=None)
    (tmp_path / "intrinsics.txt").write_text("img00.png PINHOLE 480 360 420 240 180\n")
    with pytest.raises(InputError, match=r"intrinsics.txt, line 1: PINHOLE takes the parameters"):
        run(room_map, sfm, intrinsics=tmp_path / "intrinsics.txt")
    assert not sfm.exists()
    with pytest.raises(InputError, match=r"pairs.txt names 5 image\(s\) that the model lacks"):
        run(room_map, sfm, image_list=room_map.room.map_names[:5])


def test_unreadable_images_and_files_are_named(room_map, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(room_map.room.images, images)
    (images / "img00.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"could not read 1 image\(s\) of .*'img00.png'"):
        run(room_map, tmp_path / "sfm", image_dir=images)
    (tmp_path / "m.h5").write_bytes(room_map.matches.read_bytes()[:9000])
    with pytest.raises(CorruptFileError, match=r"m.h5 is truncated"):
        run(room_map, tmp_path / "sfm", matches=tmp_path / "m.h5")


def test_full_and_read_only_disks_are_named(room_map, small_disk, read_only_folder):
    with pytest.raises(UnwritableError, match="read_only"):
        run(room_map, read_only_folder)
    with pytest.raises(DiskFullError, match=r"database.db needs"):
        run(room_map, small_disk / "sfm")


def test_nested_options_are_merged():
    options = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    merge_options(options, {"a": {"c": {"d": 4}, "f": 5}, "e": {"g": 6}})
    assert options == {"a": {"b": 1, "c": {"d": 4}, "f": 5}, "e": {"g": 6}}


def test_command_line(room_map, tmp_path):
    write_image_list(tmp_path / "list.txt", room_map.room.map_names)
    argv = ["--sfm_dir", str(tmp_path / "sfm"), "--image_dir", str(room_map.room.images)]
    for name in ("pairs", "features", "matches"):
        argv += [f"--{name}", str(getattr(room_map, name))]
    argv += ["--camera_mode", "SINGLE", "--image_list", str(tmp_path / "list.txt")]
    argv += ["--image_options", "camera_model=SIMPLE_PINHOLE", "camera_params=420,240,180"]
    argv += ["--mapper_options", "ba_refine_focal_length=False", "mapper.init_min_num_inliers=50"]
    reconstruction.cli(argv)
    model = read_model(tmp_path / "sfm")
    assert model.num_reg_images() >= 9
    np.testing.assert_array_equal(model.cameras[1].params, [420, 240, 180])
