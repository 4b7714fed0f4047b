"""Single images against a map in memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from hloc_ext import extract_features, localize_sfm, localizer, match_features
from hloc_ext.confs import dense_matchers, extractors, matchers
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats import images
from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.h5 import H5Writer
from hloc_ext.formats.lists import format_camera
from hloc_ext.formats.pairs import write_pairs
from hloc_ext.formats.results import Status
from hloc_ext.localizer import Localizer, MapDescription, camera_from_image, default_camera
from tests.conftest import RoomMap

RETRIEVAL = {
    "output": "global",
    "model": {"name": "vlad", "vocabulary": "fit", "num_words": 8},
    "preprocessing": {"grayscale": True, "resize_max": 640},
}


@pytest.fixture(scope="module")
def map_dir(room_map: RoomMap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a map as a pipeline leaves it."""
    folder = tmp_path_factory.mktemp("map")
    room_map.copy_model(folder / "sfm")
    shutil.copyfile(room_map.features, folder / "feats-sift.h5")
    extract_features.main(RETRIEVAL, room_map.room.images, folder, image_list=room_map.room.map_names)
    MapDescription(
        sfm="sfm",
        features="feats-sift.h5",
        feature_conf=extractors["sift"],
        matcher_conf=matchers["NN-ratio"],
        global_descriptors="global.h5",
        retrieval_conf=RETRIEVAL,
        num_loc=4,
        estimator={"ransac_thresh": 8.0},
    ).write(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(map_dir: Path) -> Localizer:
    return Localizer(map_dir)


def error(room_map: RoomMap, name: str, pose: pycolmap.Rigid3d) -> float:
    true = room_map.room.pose(name).inverse().translation
    return float(np.linalg.norm(pose.inverse().translation - true))


def test_gives_the_pose_of_the_stages(room_map, loaded, tmp_path):
    room = room_map.room
    name = room.query_names[1]
    result = loaded.localize(room.images / name, room.camera)
    write_pairs(tmp_path / "retrieval.txt", [(name, other) for other in result.retrieved])
    matches = match_features.main(
        matchers["NN-ratio"], tmp_path / "retrieval.txt", room_map.features, matches=tmp_path / "m.h5"
    )
    (staged,) = localize_sfm.main(
        room_map.sfm,
        [(name, room.camera)],
        tmp_path / "retrieval.txt",
        room_map.features,
        matches,
        tmp_path / "poses.txt",
        ransac_thresh=8,
    )
    np.testing.assert_allclose(
        result.cam_from_world.matrix(), staged.cam_from_world.matrix(), rtol=0, atol=1e-6
    )
    assert result.num_inliers == staged.num_inliers and result.num_matches == staged.num_matches
    assert result.estimator == staged.estimator
    assert result.name == name and result.status == Status.LOCALIZED
    assert error(room_map, name, result.cam_from_world) < 0.01
    assert len(result.retrieved) == 4 and set(result.retrieved) <= set(room.map_names)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_files_are_decoded_as_by_the_stage(room_map, loaded, tmp_path, suffix, monkeypatch):
    # The grey image of a colour file is not that of its decoded colours.
    rng = np.random.default_rng(0)
    grey = cv2.imread(str(room_map.room.images / "img02.png"), cv2.IMREAD_GRAYSCALE).astype(float)
    colours = np.clip(grey[..., None] + rng.normal(0, 20, 3), 0, 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / f"query{suffix}"), colours)
    features = extract_features.main(extractors["sift"], tmp_path, feature_path=tmp_path / "f.h5")
    reads, seen = [], []
    original, query = images.read_image, localizer.localize_query
    monkeypatch.setattr(images, "read_image", lambda *args: reads.append(args) or original(*args))
    monkeypatch.setattr(
        localizer, "localize_query", lambda *args, **kw: seen.append(args) or query(*args, **kw)
    )
    loaded.localize(tmp_path / f"query{suffix}", room_map.room.camera)
    with FeatureReader(features) as reader:
        np.testing.assert_array_equal(seen[0][3], reader.keypoints(f"query{suffix}"))
    assert len(reads) == 1, "decoded once for features and retrieval"


def test_arrays_are_images_too(room_map, loaded):
    path = room_map.room.images / room_map.room.query_names[0]
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    camera = room_map.room.camera
    poses = [
        loaded.localize(image, camera, name="mine").cam_from_world.matrix()
        for image in (path, grey, np.repeat(grey[..., None], 3, 2))
    ]
    np.testing.assert_allclose(poses[1], poses[0], atol=1e-9)
    np.testing.assert_allclose(poses[2], poses[0], atol=1e-9)
    assert loaded.localize(grey, camera, name="mine").name == "mine"
    assert loaded.localize(str(path), camera).name == path.name
    with pytest.raises(InputError, match="uint8"):
        loaded.localize(grey / 255.0, camera)


def test_without_a_camera_the_focal_length_is_estimated(room_map, loaded):
    for name in room_map.room.query_names[:2]:
        path = room_map.room.images / name
        for image in (path, cv2.imread(str(path))):
            result = loaded.localize(image)
            assert result.status == Status.LOCALIZED
            assert float(result.camera.split()[3]) == pytest.approx(420, rel=0.03)
            assert error(room_map, name, result.cam_from_world) < 0.1


def test_a_camera_of_another_image_size_is_refused(room_map, loaded):
    camera = default_camera(960, 720)
    with pytest.raises(InputError, match=r"'img02.png' has 480×360 pixels, its camera is for 960×720"):
        loaded.localize(room_map.room.images / "img02.png", camera)


def test_retrieval_finds_neighbours_and_obeys_candidates(room_map, loaded, map_dir):
    room = room_map.room
    query = room.images / room.query_names[1]
    numbers = loaded.retrieve(query)
    assert len(numbers) == 4 and len(set(numbers)) == 4
    assert loaded.retrieve(cv2.imread(str(query))) == numbers
    # An image of the map is most similar to itself.
    for index, name in enumerate(room.map_names):
        assert loaded.retrieve(room.images / name)[0] == index
    candidates = [*room.map_names[3:5], "elsewhere.png"]
    result = loaded.localize(query, room.camera, candidates=candidates)
    assert sorted(result.retrieved) == room.map_names[3:5]
    assert loaded.localize(query, room.camera, candidates=[]).status == Status.FAILED
    assert len(Localizer(map_dir, num_loc=2).retrieve(query)) == 2
    assert len(Localizer(map_dir, num_loc=99).retrieve(query)) == 10


def test_an_image_of_nothing_becomes_a_fallback(room_map, loaded):
    result = loaded.localize(np.zeros((360, 480), np.uint8), room_map.room.camera)
    assert result.status == Status.FALLBACK and result.reason == "no 2D-3D matches"
    np.testing.assert_allclose(
        result.cam_from_world.matrix(), room_map.room.pose(result.retrieved[0]).matrix(), atol=1e-9
    )


def test_bad_images_are_named(loaded, tmp_path):
    with pytest.raises(MissingInputError, match=r"nothing.jpg does not exist"):
        loaded.localize(tmp_path / "nothing.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"empty.jpg is empty"):
        loaded.localize(tmp_path / "empty.jpg")


class TestIncompleteMaps:
    @pytest.fixture
    def folder(self, map_dir, tmp_path):
        return shutil.copytree(map_dir, tmp_path / "map")

    def change(self, folder: Path, **fields) -> None:
        path = folder / "map.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    def test_no_description(self, tmp_path):
        with pytest.raises(MissingInputError, match=r"is no map: no map.json"):
            Localizer(tmp_path)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sfm": 1, "colour": 2}', '"text"'])
    def test_other_json(self, tmp_path, text):
        (tmp_path / "map.json").write_text(text)
        with pytest.raises(CorruptFileError, match=r"map.json does not describe a map"):
            Localizer(tmp_path)

    def test_where_the_images_of_a_semi_dense_map_are(self, folder):
        self.change(folder, matcher_conf=dense_matchers["kd-mamba"])
        with pytest.raises(MissingInputError, match=r"map.json does not say where .*: give `image_dir`"):
            Localizer(folder)
        self.change(folder, images="../elsewhere")
        with pytest.raises(MissingInputError, match=r"elsewhere, the folder of the map images, does not"):
            Localizer(folder)

    @pytest.mark.parametrize(
        "name", ["sfm/points3D.bin", "feats-sift.h5", "global.h5", "global.vocabulary.safetensors"]
    )
    def test_missing_files(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(MissingInputError, match=name.split("/")[0]):
            Localizer(folder)

    def test_missing_descriptor(self, folder, room_map):
        (folder / "global.h5").unlink()
        with H5Writer(folder / "global.h5") as writer:
            writer.write("img00.png", {"global_descriptor": np.ones(1024, np.float32)})
        with pytest.raises(MissingInputError, match=r"global.h5 has no 'global_descriptor' of image 'img01"):
            Localizer(folder)

    def test_unknown_estimator_settings(self, folder):
        self.change(folder, estimator={"ransac": 8})
        with pytest.raises(CorruptFileError, match=r"map.json.*'ransac'"):
            Localizer(folder)

    def test_features_of_another_run(self, folder, room_map):
        extract_features.main(
            {**extractors["sift"], "model": {"name": "sift", "options": {"first_octave": -1}}},
            room_map.room.images,
            feature_path=folder / "feats-sift.h5",
            overwrite=True,
        )
        with pytest.raises(InputError, match="the matches were made with other features than the map"):
            Localizer(folder).localize(room_map.room.images / "img02.png", room_map.room.camera)


def test_description_is_read_as_written(map_dir):
    description = MapDescription.read(map_dir)
    assert description.feature_conf == extractors["sift"]
    assert description.num_loc == 4 and description.estimator == {"ransac_thresh": 8.0}


def test_cameras(room_map):
    camera, is_guess = camera_from_image(room_map.room.images / "img00.png")
    assert is_guess and (camera.width, camera.height) == (480, 360)
    assert format_camera(default_camera(480, 360)) == "SIMPLE_RADIAL 480 360 576.0 240.0 180.0 0.0"


def test_exif_gives_the_focal_length(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28  # focal length in 35 mm film, in the Exif sub-directory
    Image.new("RGB", (600, 400)).save(tmp_path / "a.jpg", exif=exif)
    camera, is_guess = camera_from_image(tmp_path / "a.jpg")
    assert not is_guess
    assert camera.focal_length == pytest.approx(
        28 * np.hypot(600, 400) / np.hypot(36, 24), rel=1e-3
    )  # of the diagonal


def test_command_line(room_map, map_dir, capsys):
    paths = [str(room_map.room.images / name) for name in room_map.room.query_names[:2]]
    camera = format_camera(room_map.room.camera)
    localizer.cli([str(map_dir), *paths, "--camera", camera, "--num_loc", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == room_map.room.query_names[:2]
    for line, name in zip(lines, room_map.room.query_names, strict=False):
        pose, comment = line.split("  # ")
        w, x, y, z, *t = map(float, pose.split()[1:])
        found = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([x, y, z, w])), np.array(t))
        assert error(room_map, name, found) < 0.01
        assert comment.startswith("localized, ") and "SIMPLE_RADIAL 480 360 420 240 180 0" in comment
    with pytest.raises(InputError, match="--camera: unknown camera model 'X'"):
        localizer.cli([str(map_dir), paths[0], "--camera", "X 1 2 3"])


def test_an_image_that_colmap_cannot_read_needs_a_camera(tmp_path):
    path = tmp_path / "photo.webp"
    assert cv2.imwrite(str(path), np.full((60, 80, 3), 128, np.uint8))
    with pytest.raises(CorruptFileError, match=r"photo\.webp.*--camera"):
        camera_from_image(path)
