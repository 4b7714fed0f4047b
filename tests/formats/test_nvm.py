"""NVM models: round trips, conversion to COLMAP, and every way in which a file can be wrong."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats import nvm as nvm_module
from hloc_ext.formats.nvm import (
    NvmModel,
    match_names,
    model_from_nvm,
    nvm_from_model,
    read_nvm,
    write_nvm,
)
from tests.formats.strategies import coordinates, examples, image_names, unit_quaternions

# Two cameras, two points; laid out as in Aachen. Camera 1 looks along x from (4, 5, 6): the quaternion
# turns the world's x axis to the camera's z axis.
EXAMPLE = """NVM_V3 

2
db/1.jpg 800 1 0 0 0 1 2 3 0 0
db/2.jpg 900 0.5 -0.5 -0.5 -0.5 4 5 6 0.1 0

2
1 2 13 255 128 0 2 0 3 10.5 20.5 1 0 30.5 40.5
5 5 6 1 2 3 1 1 2 50.5 60.5

0
"""


def _camera(focal_length: float = 700.0) -> pycolmap.Camera:
    params = np.array([focal_length, 320.0, 240.0, 0.01])
    return pycolmap.Camera(model="SIMPLE_RADIAL", width=640, height=480, params=params)


def _write(folder: Path, text: str) -> Path:
    path = folder / "map.nvm"
    path.write_text(text, encoding="utf-8")
    return path


def _assert_equal(first: NvmModel, second: NvmModel) -> None:
    assert first.names == second.names
    for entry in fields(NvmModel):
        if entry.name in ("names", "path"):
            continue
        a, b = getattr(first, entry.name), getattr(second, entry.name)
        assert a.shape == b.shape, entry.name
        assert np.array_equal(a, b), entry.name


@st.composite
def nvm_models(draw: st.DrawFn) -> NvmModel:
    names = draw(st.lists(image_names, min_size=1, max_size=5, unique=True))
    n = len(names)
    tracks = draw(st.lists(st.lists(st.integers(0, n - 1), max_size=4), max_size=6))
    num_points, num_observations = len(tracks), sum(map(len, tracks))

    colors = draw(st.binary(min_size=3 * num_points, max_size=3 * num_points))

    def numbers(*shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(coordinates, min_size=size, max_size=size))).reshape(shape)

    return NvmModel(
        names,
        focal_lengths=numbers(n),
        quaternions=np.array([draw(unit_quaternions()) for _ in names]),
        centers=numbers(n, 3),
        radial_distortions=numbers(n),
        xyz=numbers(num_points, 3),
        colors=np.frombuffer(colors, np.uint8).reshape(-1, 3),
        track_lengths=np.array([len(track) for track in tracks], np.int64),
        image_indices=np.array([i for track in tracks for i in track], np.int64),
        keypoint_indices=np.arange(num_observations, dtype=np.int64),
        keypoints=numbers(num_observations, 2),
    )


@examples
@given(nvm_models(), st.sampled_from([1, 2, 20_000]))
def test_round_trip_without_loss(model: NvmModel, chunk_lines: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvm_module, "CHUNK_LINES", chunk_lines)
        path = Path(folder) / "map.nvm"
        write_nvm(path, model)
        _assert_equal(read_nvm(path), model)


def test_fields_of_the_example(tmp_path: Path) -> None:
    model = read_nvm(_write(tmp_path, EXAMPLE))
    assert model.names == ["db/1.jpg", "db/2.jpg"]
    assert model.focal_lengths.tolist() == [800, 900]
    assert model.quaternions.tolist() == [[1, 0, 0, 0], [0.5, -0.5, -0.5, -0.5]]
    assert model.centers.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert model.radial_distortions.tolist() == [0, 0.1]
    assert model.xyz.tolist() == [[1, 2, 13], [5, 5, 6]]
    assert model.colors.tolist() == [[255, 128, 0], [1, 2, 3]]
    assert model.track_lengths.tolist() == [2, 1]
    assert model.image_indices.tolist() == [0, 1, 1]
    assert model.keypoint_indices.tolist() == [3, 0, 2]
    assert model.keypoints.tolist() == [[10.5, 20.5], [30.5, 40.5], [50.5, 60.5]]
    assert read_nvm(model.path, skip_points=True).xyz.shape == (0, 3)


def test_variants_of_other_writers(tmp_path: Path) -> None:
    expected = read_nvm(_write(tmp_path, EXAMPLE))
    fixed = EXAMPLE.replace("NVM_V3 ", "NVM_V3 FixedK 800 320 800 240 0")
    tabs = EXAMPLE.replace("jpg ", "jpg\t").replace("\n", "\r\n")
    comments = (
        EXAMPLE.replace("\n\n2\n1 2", "\n\n# points\n2\n\n1 2") + "#the last part points to PLY files\n1\n0\n"
    )
    unterminated = EXAMPLE.split("\n\n0\n")[0]
    for text in (fixed, tabs, comments, unterminated):
        _assert_equal(read_nvm(_write(tmp_path, text)), expected)


def test_blanks_in_names_are_double_quotes(tmp_path: Path) -> None:
    model = read_nvm(_write(tmp_path, EXAMPLE.replace("db/1.jpg", 'my"photos/1.jpg')))
    assert model.names[0] == "my photos/1.jpg"
    write_nvm(tmp_path / "again.nvm", model)
    assert 'my"photos/1.jpg' in (tmp_path / "again.nvm").read_text()
    _assert_equal(read_nvm(tmp_path / "again.nvm"), model)
    _assert_equal(read_nvm(_write(tmp_path, EXAMPLE.replace("db/1.jpg", "my photos/1.jpg"))), model)


def test_no_points(tmp_path: Path) -> None:
    model = read_nvm(_write(tmp_path, EXAMPLE.split("\n\n2\n1 2")[0] + "\n\n0\n0\n"))
    assert model.xyz.shape == (0, 3)
    reconstruction = model_from_nvm(model, {name: _camera() for name in model.names})
    assert reconstruction.num_reg_images() == 2
    assert reconstruction.num_points3D() == 0


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("NVM_V3", "NVM_V2", 1, "expected NVM_V3"),
        ("\n2\ndb", "\ntwo\ndb", 3, "expected the number of images, found 'two'"),
        ("\n2\ndb", "\n-2\ndb", 3, "expected the number of images, found '-2'"),
        ("\n2\ndb", "\n3\ndb", 7, "expected `name focal qw"),
        ("\n2\ndb", "\n1\ndb", 5, "expected the number of points, found 'db/2.jpg 900"),
        (" 800 1", " 1", 4, "expected `name focal qw"),
        (" 800 1", " 800 x", 4, "expected `name focal qw"),
        (" 800 1", " 800 nan", 4, "expected `name focal qw"),
        (" 800 1", " 800 0", 4, "expected `name focal qw"),
        ("\n\n2\n1", "\n\n\n1", 8, "expected the number of points, found '1 2 13"),
        ("\n\n2\n1", "\n\n3\n1", 11, "expected `x y z r g b n`"),
        ("5 5 6 1 2 3 1 1", "5 5 6 1 2 3 2 1", 9, "expected `x y z r g b n`"),
        ("5 5 6 1 2 3 1 1", "5 5 6 1 2 3 -1 1", 9, "expected `x y z r g b n`"),
        ("5 5 6 1 2 3 1 1", "5 5 6 1 2 3 1 2", 9, "image_index < 2"),
        ("5 5 6 1 2 3 1 1", "5 5 6 1 2 3 1 0.5", 9, "image_index < 2"),
        ("5 5 6 1 2 3 1 1 2", "5 5 6 1 2 3 1 1 20000000", 9, "keypoint_index"),
        ("5 5 6 1 2 3", "5 5 6 1 2 256", 9, "expected `x y z r g b n`"),
        ("5 5 6 1 2 3", "5 inf 6 1 2 3", 9, "expected `x y z r g b n`"),
        ("5 5 6 1 2 3", "5 five 6 1 2 3", 9, "expected `x y z r g b n`"),
        (" 50.5 60.5", " 50.5", 9, "expected `x y z r g b n`"),
        ("5 5 6 1 2 3 1 1 2 50.5 60.5", "5 5", 9, "expected `x y z r g b n`"),
        # Two wrong lines whose numbers add up: the count of numbers alone would not tell.
        ("40.5\n5 5 6 1 2 3 1 1", "40.5 7 7 7 7\n5 5 6 1 2 3 2 1", 8, "expected `x y z r g b n`"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert EXAMPLE.count(old) == 1
    path = _write(tmp_path, EXAMPLE.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_nvm(path)
    assert f"map.nvm, line {line}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "ends after line 0, where the header NVM_V3"),
        ("NVM_V3\n", "ends after line 1, where the number of images"),
        (EXAMPLE[: EXAMPLE.index("db/2")], "ends after line 4, where 2 images"),
        (EXAMPLE[: EXAMPLE.index("\n\n2\n1 2")], "ends after line 5, where the number of points"),
        (EXAMPLE[: EXAMPLE.index("5 5 6")], "ends after line 8, where points 0 to 2 of 2"),
    ],
)
def test_a_truncated_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=r"truncated") as caught:
        read_nvm(_write(tmp_path, text))
    assert f"map.nvm {expected}" in str(caught.value)


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.nvm does not exist"):
        read_nvm(tmp_path / "none.nvm")
    (tmp_path / "photo.nvm").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(InputError, match=r"photo\.nvm, after line 0: not UTF-8"):
        read_nvm(tmp_path / "photo.nvm")


def test_poses_cameras_and_tracks_of_the_colmap_model(tmp_path: Path) -> None:
    nvm = read_nvm(_write(tmp_path, EXAMPLE))
    intrinsics = {"db/2.jpg": _camera(900), "db/1.jpg": _camera(800), "db/3.jpg": _camera()}
    model = model_from_nvm(nvm, intrinsics)
    assert {i: image.name for i, image in model.images.items()} == {1: "db/1.jpg", 2: "db/2.jpg"}
    assert model.num_cameras() == model.num_rigs() == model.num_frames() == 2
    assert model.camera(2).params.tolist() == [900, 320, 240, 0.01]
    assert np.allclose(model.image(1).cam_from_world().matrix(), np.c_[np.eye(3), [-1, -2, -3]])
    assert np.allclose(model.image(2).projection_center(), [4, 5, 6])
    # 1 unit along the world's x axis from camera 2 is 1 unit along its viewing direction.
    assert np.allclose(model.image(2).cam_from_world() * np.array([5.0, 5, 6]), [0, 0, 1])

    first, second = (model.point3D(i) for i in sorted(model.points3D))
    assert first.xyz.tolist() == [1, 2, 13]
    assert first.color.tolist() == [255, 128, 0]
    assert [(e.image_id, e.point2D_idx) for e in first.track.elements] == [(1, 3), (2, 0)]
    assert [(e.image_id, e.point2D_idx) for e in second.track.elements] == [(2, 2)]
    assert model.image(1).num_points2D() == 4
    assert model.image(1).point2D(3).xy.tolist() == [10.5, 20.5]
    assert [p.has_point3D() for p in model.image(2).points2D] == [True, False, True]
    assert model.image(2).point2D(1).xy.tolist() == [0, 0]


def test_keypoints_relative_to_the_principal_point(tmp_path: Path) -> None:
    nvm = read_nvm(_write(tmp_path, EXAMPLE.replace("10.5 20.5", "0 0")))
    model = model_from_nvm(nvm, dict.fromkeys(nvm.names, _camera()), keypoint_origin="principal_point")
    assert model.image(1).point2D(3).xy.tolist() == [320, 240]
    assert model.image(1).point2D(2).xy.tolist() == [0, 0]
    assert model.image(2).point2D(0).xy.tolist() == [350.5, 280.5]
    with pytest.raises(
        InputError, match="keypoint_origin 'centre' is unknown: use corner or principal_point"
    ):
        model_from_nvm(nvm, dict.fromkeys(nvm.names, _camera()), keypoint_origin="centre")


def test_quaternions_of_any_length(tmp_path: Path) -> None:
    scaled = EXAMPLE.replace("0.5 -0.5 -0.5 -0.5", "5 -5 -5 -5")
    nvm = read_nvm(_write(tmp_path, scaled))
    model = model_from_nvm(nvm, dict.fromkeys(nvm.names, _camera()))
    assert np.allclose(model.image(2).cam_from_world().rotation.quat, [-0.5, -0.5, -0.5, 0.5])
    assert np.allclose(model.image(2).projection_center(), [4, 5, 6])


def test_a_keypoint_claimed_twice_belongs_to_the_first_point(tmp_path: Path) -> None:
    clash = EXAMPLE.replace("5 5 6 1 2 3 1 1 2 50.5 60.5", "5 5 6 1 2 3 2 0 3 99 99 1 2 50.5 60.5")
    nvm = read_nvm(_write(tmp_path, clash.replace("\n\n0\n", "\n\n0\n")))
    model = model_from_nvm(nvm, dict.fromkeys(nvm.names, _camera()))
    first, second = sorted(model.points3D)
    assert model.image(1).point2D(3).point3D_id == first
    assert model.image(1).point2D(3).xy.tolist() == [10.5, 20.5]
    assert [(e.image_id, e.point2D_idx) for e in model.point3D(second).track.elements] == [(2, 2)]
    only = EXAMPLE.replace("5 5 6 1 2 3 1 1 2 50.5 60.5", "5 5 6 1 2 3 1 0 3 99 99")
    nvm = read_nvm(_write(tmp_path, only))
    assert model_from_nvm(nvm, dict.fromkeys(nvm.names, _camera())).num_points3D() == 1


def test_ids_of_a_database(tmp_path: Path) -> None:
    nvm = read_nvm(_write(tmp_path, EXAMPLE))
    intrinsics = dict.fromkeys(nvm.names, _camera())
    images, cameras = {"db/1.jpg": 70, "db/2.jpg": 5, "db/9.jpg": 1}, {"db/1.jpg": 8, "db/2.jpg": 8}
    model = model_from_nvm(nvm, intrinsics, images, cameras)
    assert {i: (image.name, image.camera_id) for i, image in model.images.items()} == {
        70: ("db/1.jpg", 8),
        5: ("db/2.jpg", 8),
    }
    assert list(model.cameras) == [8]
    assert model.compute_num_observations() == 3
    with pytest.raises(InputError, match=r"1 of 2 images have no id in the database, for instance db/2\.jpg"):
        model_from_nvm(nvm, intrinsics, {"db/1.jpg": 1})
    unequal = {"db/1.jpg": _camera(1), "db/2.jpg": _camera(2)}
    with pytest.raises(InputError, match=r"'db/2\.jpg' shares camera 8 of the database, but not its intr"):
        model_from_nvm(nvm, unequal, images, cameras)


@pytest.mark.parametrize(
    "name",
    ["db/1.jpg", "./db/1.jpg", "/home/me/aachen/db/1.jpg", "C:\\aachen\\db\\1.jpg", "images//db/1.jpg"],
)
def test_names_with_other_roots(name: str) -> None:
    assert match_names([name], {"db/1.jpg": 0, "1.jpg": 0}, "x") == ["db/1.jpg"]


def test_names_that_do_not_match() -> None:
    listed = {"db/1.jpg": 0}
    with pytest.raises(
        InputError, match=r"x: 2 of 3 images are not in the list, for instance db/2\.jpg, 1\.jpg"
    ):
        match_names(["db/1.jpg", "db/2.jpg", "1.jpg"], listed, "x")
    with pytest.raises(InputError, match=r"'a/db/1\.jpg' and 'b/db/1\.jpg' are both 'db/1\.jpg' of the list"):
        match_names(["a/db/1.jpg", "b/db/1.jpg"], listed, "x")


def test_a_colmap_model_survives_the_way_through_nvm(tmp_path: Path) -> None:
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=3, num_frames_per_rig=3, num_points3D=80)
    options.num_points2D_without_point3D = 5
    expected = pycolmap.synthesize_dataset(options)
    expected.deregister_frame(min(expected.frames))
    path = tmp_path / "map.nvm"
    write_nvm(path, nvm_from_model(expected))
    images = {image.name: image for image in expected.images.values() if image.has_pose}
    intrinsics = {name: expected.cameras[image.camera_id] for name, image in images.items()}
    found = model_from_nvm(read_nvm(path), intrinsics)

    assert [found.image(i).name for i in sorted(found.images)] == [
        expected.image(i).name for i in sorted(expected.images) if expected.image(i).has_pose
    ]
    assert len(images) == 8
    for image in found.images.values():
        pose = images[image.name].cam_from_world()
        assert np.allclose(image.cam_from_world().matrix(), pose.matrix(), atol=1e-10)
    assert found.num_points3D() == expected.num_points3D()
    assert found.compute_num_observations() == expected.compute_num_observations()
    found.update_point_3d_errors()
    assert found.compute_mean_reprojection_error() < 1e-6
