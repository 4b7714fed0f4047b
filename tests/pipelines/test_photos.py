"""The pipeline of a user's own photos, from files to poses and report."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from hloc_ext import confs, match_dense, query_matching
from hloc_ext.confs import DEFAULT_RETRIEVAL, extractors
from hloc_ext.errors import ReconstructionError
from hloc_ext.evaluation.alignment import align_to
from hloc_ext.formats.colmap import read_model, registered_poses, subset, write_model
from hloc_ext.formats.lists import format_camera, parse_camera, write_query_list
from hloc_ext.formats.pairs import read_pairs, read_retrieval
from hloc_ext.formats.results import Status, read_log, read_poses
from hloc_ext.host import available_hosts, get_conf
from hloc_ext.localizer import Localizer
from pipelines import photos
from pipelines.common import Run
from pipelines.photo_folder import Photos
from pipelines.photos import EXHAUSTIVE_LIMIT, map_pairs, query_cameras, reconstruct_most
from tests.pipelines.conftest import Page, errors, times
from tests.test_match_dense import CONF as DENSE_CONF

LOG = "results.txt_logs.jsonl"
SFM = "sfm_feats-sift_matches-NN-mutual-ratio.8"
STAGES = [
    "global descriptors, map",
    "local features, map",
    "global descriptors, queries",
    "local features, queries",
    "matches, map",
    "triangulation",
    "retrieval",
    "matches, queries",
    "localization",
]


def assert_localized(results, room, position=0.005, rotation=0.1):
    """Every query is localized, with errors below these limits (metres, degrees)."""
    assert [result.status for result in results] == [Status.LOCALIZED] * len(results)
    for result in results:
        error = errors(result.cam_from_world, room.pose(result.name.split("/")[-1]))
        assert error[0] < position and error[1] < rotation, (result.name, error)


# --- with known poses ---------------------------------------------------------------------------------


def test_known_poses(room_files):
    outputs, room = room_files.outputs, room_files.room
    results = read_log(outputs / LOG)
    assert [result.name for result in results] == room.query_names
    assert_localized(results, room)
    for result in results:
        assert sorted(result.retrieved) == room.map_names and result.num_inliers > 300
        assert result.reprojection_error < 1 and result.estimator["estimator"] == "pycolmap"
        assert result.camera == format_camera(room.camera)  # no EXIF: the camera of the map's photos
    poses = read_poses(outputs / "results.txt")
    assert list(poses) == room.query_names
    for result in results:
        assert np.allclose(poses[result.name].matrix(), result.cam_from_world.matrix(), atol=1e-12)


def test_map_with_known_poses(room_files):
    model = read_model(room_files.outputs / SFM)
    assert sorted(registered_poses(model)) == room_files.room.map_names
    assert model.num_points3D() > 1000 and model.compute_mean_reprojection_error() < 0.5
    for name, pose in registered_poses(model).items():
        assert np.allclose(pose.matrix(), room_files.room.pose(name).matrix())


def test_stages_and_report(room_files):
    stages = json.loads((room_files.outputs / "stages.json").read_text())["stages"]
    assert [(stage["name"], stage["state"]) for stage in stages] == [(name, "completed") for name in STAGES]
    page = Page(room_files.outputs / "report.html")
    page.assert_self_contained()
    assert "4 of 4" in page.text and "python -m pipelines.photos --images" in page.text
    assert all(name in page.text for name in (*STAGES, *room_files.room.query_names))


def test_localizer_gives_the_poses_of_the_pipeline(room_files):
    localizer = Localizer(room_files.outputs)
    assert localizer.num_loc == 20
    for expected in read_log(room_files.outputs / LOG)[:2]:
        camera = parse_camera(expected.camera.split(), "log")
        result = localizer.localize(room_files.room.images / expected.name, camera)
        assert (result.qvec, result.tvec) == (expected.qvec, expected.tvec)
        assert result.num_inliers == expected.num_inliers and result.retrieved == expected.retrieved


def test_complete_run_is_not_repeated(room_files, tmp_path, pipeline):
    outputs = tmp_path / "outputs"
    shutil.copytree(room_files.outputs, outputs, copy_function=shutil.copy2)
    before = times(outputs)
    outcome = pipeline(photos.main, *room_files.arguments, "--outputs", outputs)
    assert outcome.code == 0 and "recall" in outcome.out
    stages = json.loads((outputs / "stages.json").read_text())["stages"]
    assert [(stage["name"], stage["state"]) for stage in stages] == [(name, "resumed") for name in STAGES]
    changed = {name for name, time in times(outputs).items() if time != before.get(name)}
    assert changed == {"stages.json", "map.json", "report.html"}


def test_changed_options_repeat_what_they_concern(room_files, tmp_path, pipeline):
    outputs = tmp_path / "outputs"
    shutil.copytree(room_files.outputs, outputs, copy_function=shutil.copy2)
    arguments = [*room_files.arguments, "--outputs", outputs, "--ransac_thresh", 3, "--num_loc", 2]
    assert pipeline(photos.main, *arguments).code == 0
    states = {s["name"]: s["state"] for s in json.loads((outputs / "stages.json").read_text())["stages"]}
    repeated = {name for name, state in states.items() if state == "completed"}
    assert repeated == {"retrieval", "matches, queries", "localization"}
    results = read_log(outputs / LOG)
    assert_localized(results, room_files.room)
    assert all(len(r.retrieved) == 2 and r.estimator["ransac_thresh"] == 3 for r in results)


# --- from scratch -------------------------------------------------------------------------------------


def test_from_scratch(room_files, tmp_path, pipeline):
    outputs, room = room_files.seed(tmp_path / "outputs"), room_files.room
    arguments = [*room_files.inputs, "--outputs", outputs]
    outcome = pipeline(photos.main, *arguments, "--ground_truth", room_files.model)
    assert outcome.code == 0
    model = read_model(outputs / SFM)
    assert sorted(registered_poses(model)) == room.map_names
    assert model.num_cameras() == 1  # the headers agree
    alignment = align_to(model, room.model)
    assert alignment.rms < 0.005
    assert f"10 camera centres, RMS {alignment.rms:.4g}" in outcome.out
    results = read_log(outputs / LOG)
    for result in results:
        pose = alignment.reference_from_model.transform_camera_world(result.cam_from_world)
        result.set_pose(pose)
        assert result.camera == format_camera(next(iter(model.cameras.values())))
    assert_localized(results, room, rotation=0.2)
    Page(outputs / "report.html").assert_self_contained()


def test_map_only(room_files, tmp_path, pipeline):
    outputs, room = room_files.seed(tmp_path / "outputs"), room_files.room
    images = room_files.copy_images(tmp_path / "images", room.map_names)
    arguments = ["--images", images, "--features", "sift", "--outputs", outputs, "--camera_mode", "PER_IMAGE"]
    outcome = pipeline(photos.main, *arguments, "--ground_truth", room_files.model)
    assert outcome.code == 0 and "Map: 10 of 10 photos" in outcome.out and "10 camera centres" in outcome.out
    assert read_model(outputs / SFM).num_cameras() == 10
    assert not (outputs / "results.txt").exists()
    Page(outputs / "report.html").assert_self_contained()
    assert Localizer(outputs).localize(room.images / room.query_names[0]).status is Status.LOCALIZED


def test_photos_of_all_kinds_and_unreadable_ones(room_files, tmp_path, pipeline):
    """What other software writes is used, what cannot be read is named and left out."""
    room, outputs = room_files.room, room_files.seed(tmp_path / "outputs")
    images = room_files.copy_images(tmp_path / "images", room.map_names)
    others = [Image.open(room.images / name) for name in room.query_names]
    (images / "more" / "größe").mkdir(parents=True)
    good = ["more/cmyk.jpg", "more/größe/写真.png", "more/sixteen.png", "more/truecolour.tif"]
    others[0].convert("CMYK").save(images / good[0], quality=95)
    others[1].save(images / good[1])
    cv2.imwrite(str(images / good[2]), np.array(others[2]).astype(np.uint16) * 257)
    others[3].convert("RGB").save(images / good[3])
    bad = ["more/empty.jpg", "more/half.jpg", "more/text.jpg"]
    jpeg = (images / good[0]).read_bytes()
    for name, data in zip(bad, (b"", jpeg[: len(jpeg) // 2], b"no image"), strict=True):
        (images / name).write_bytes(data)

    outcome = pipeline(photos.main, "--images", images, "--features", "sift", "--outputs", outputs)
    assert outcome.code == 0 and "Map: 14 of 14 photos" in outcome.out
    assert "3 image(s) could not be read" in outcome.err and all(name in outcome.err for name in bad)
    names = {*room.map_names, *good}
    assert set(registered_poses(read_model(outputs / SFM))) == names
    page = Page(outputs / "report.html")
    assert "unreadable photos more/empty.jpg, more/half.jpg, more/text.jpg" in page.text
    true = {new: room.pose(old) for new, old in zip(good, room.query_names, strict=True)}
    true |= {name: room.pose(name) for name in room.map_names}
    assert align_to(read_model(outputs / SFM), true).rms < 0.01


@pytest.mark.parametrize(
    ("placed", "tried", "kept"),
    [
        ({"incremental": 6, "global": 10}, ["incremental"], []),
        ({"incremental": 5, "global": 7}, ["incremental", "global"], ["global"]),
        ({"incremental": 5, "global": 4}, ["incremental", "global"], []),
        ({"incremental": 5, "global": None}, ["incremental", "global"], []),
        ({"incremental": None, "global": 3}, ["incremental", "global"], ["global"]),
    ],
)
def test_the_mapper_that_places_more_photos(tmp_path, monkeypatch, placed, tried, kept):
    calls, written = [], []

    def reconstruct(mapper, folder):
        calls.append(mapper)
        assert (folder == tmp_path) is (mapper == "incremental")
        if placed[mapper] is None:
            raise ReconstructionError(mapper)
        return SimpleNamespace(name=mapper, num_reg_images=lambda: placed[mapper])

    monkeypatch.setattr(photos, "write_model", lambda model, folder: written.append((model.name, folder)))
    reconstruct_most(reconstruct, tmp_path, 10)
    assert calls == tried and written == [(name, tmp_path) for name in kept]


# --- queries ------------------------------------------------------------------------------------------


def test_query_folder_elsewhere(room_files, tmp_path, pipeline):
    room, outputs = room_files.room, room_files.seed(tmp_path / "outputs")
    images = room_files.copy_images(tmp_path / "images", room.map_names)
    queries = room_files.copy_images(tmp_path / "new photos", room.query_names[:2])
    (queries / "broken.jpg").write_text("no image")
    arguments = [
        "--images",
        images,
        "--features",
        "sift",
        "--queries",
        queries,
        "--reference_model",
        room_files.model,
    ]
    outcome = pipeline(photos.main, *arguments, "--outputs", outputs)
    assert outcome.code == 0 and "new_photos/broken.jpg" in Page(outputs / "report.html").text
    results = read_log(outputs / LOG)
    assert [result.name for result in results] == [f"new_photos/{name}" for name in room.query_names[:2]]
    assert_localized(results, room)
    assert list(read_poses(outputs / "results.txt")) == room.query_names[:2]


def test_query_list_with_intrinsics(room_files, tmp_path, pipeline):
    """Given intrinsics are used as they are, here with a focal length that is 5 % too long."""
    room, outputs = room_files.room, room_files.seed(tmp_path / "outputs")
    wrong = pycolmap.Camera(model="PINHOLE", width=480, height=360, params=[441, 441, 240, 180])
    path = tmp_path / "queries.txt"
    write_query_list(path, dict.fromkeys(room.query_names, wrong))
    arguments = [
        "--images",
        room.images,
        "--features",
        "sift",
        "--queries",
        path,
        "--reference_model",
        room_files.model,
    ]
    assert pipeline(photos.main, *arguments, "--outputs", outputs).code == 0
    results = read_log(outputs / LOG)
    assert [result.camera for result in results] == [format_camera(wrong)] * 4
    position = [errors(r.cam_from_world, room.pose(r.name))[0] for r in results]
    assert min(position) > 0.05  # the error of the intrinsics, about 5 % of the distance

    assert pipeline(photos.main, *arguments, "--outputs", outputs, "--refine_focal").code == 0
    results = read_log(outputs / LOG)
    assert_localized(results, room, position=0.02, rotation=0.2)
    focal_lengths = [float(result.camera.split()[3]) for result in results]
    assert np.allclose(focal_lengths, 420, atol=2)


def save_photo(path, source, focal_length_35mm=None):
    path.parent.mkdir(exist_ok=True)
    image = Image.open(source).convert("RGB")
    exif = image.getexif()
    if focal_length_35mm:
        exif.get_ifd(0x8769)[0xA405] = focal_length_35mm
    image.save(path, exif=exif)


def test_cameras_of_queries(room_files, tmp_path):
    """From the list; from the map for photos of its camera or size; from EXIF; else unknown."""
    room = room_files.room
    for name, focal_length in (("map.jpg", 30), ("same.jpg", 30), ("none.jpg", None), ("tele.jpg", 60)):
        save_photo(tmp_path / name, room.images / "img00.png", focal_length)
    Image.new("RGB", (300, 200)).save(tmp_path / "small.jpg")
    model = pycolmap.Reconstruction(room.model)
    for image in model.images.values():
        image.name = "map.jpg"
    given = pycolmap.Camera(model="PINHOLE", width=480, height=360, params=[1, 1, 1, 1])
    selection = Photos(tmp_path, ["map.jpg"], [], {"given.jpg": given})
    names = ["given.jpg", "same.jpg", "none.jpg", "tele.jpg", "small.jpg"]
    cameras, unknown = query_cameras(selection, names, model)
    found = dict(cameras)
    assert list(found) == names and unknown == ["small.jpg"]
    assert found["given.jpg"] == given
    assert found["same.jpg"] == found["none.jpg"] == room.camera
    assert found["tele.jpg"].focal_length == pytest.approx(60 * 600 / np.hypot(36, 24), rel=0.05)
    assert found["small.jpg"].focal_length == pytest.approx(1.2 * 300)

    other = pycolmap.Camera(model="PINHOLE", width=480, height=360, params=[400, 400, 240, 180], camera_id=2)
    model.add_camera_with_trivial_rig(other)
    image = pycolmap.Image(name="map.jpg", camera_id=2, image_id=99)
    model.add_image_with_trivial_frame(image, room.pose("img00.png"))
    assert query_cameras(selection, names, model)[1] == ["none.jpg", "small.jpg"]  # two cameras of this size


def test_more_retrieved_than_there_are(room_files, tmp_path, pipeline):
    outputs = room_files.seed(tmp_path / "outputs")
    arguments = [*room_files.arguments, "--outputs", outputs, "--num_loc", 1000]
    assert pipeline(photos.main, *arguments).code == 0
    output = extractors[DEFAULT_RETRIEVAL]["output"]
    retrieval = read_retrieval(outputs / f"pairs-query-{output}-1000.txt")
    assert {query: len(names) for query, names in retrieval.items()} == dict.fromkeys(
        room_files.room.query_names, 10
    )


def test_queries_without_content_are_not_localized(room_files, tmp_path, pipeline):
    outputs = room_files.seed(tmp_path / "outputs")
    folder = room_files.copy_images(tmp_path / "dark", room_files.room.query_names[:1])
    cv2.imwrite(str(folder / "black.png"), np.zeros((360, 480), np.uint8))
    images = room_files.copy_images(tmp_path / "images", room_files.room.map_names)
    arguments = [
        "--images",
        images,
        "--features",
        "sift",
        "--queries",
        folder,
        "--reference_model",
        room_files.model,
    ]
    assert pipeline(photos.main, *arguments, "--outputs", outputs).code == 0
    results = {result.name: result for result in read_log(outputs / LOG)}
    assert results["dark/img02.png"].status is Status.LOCALIZED
    assert results["dark/black.png"].status is not Status.LOCALIZED
    assert results["dark/black.png"].reason
    Page(outputs / "report.html").assert_self_contained()


# --- what cannot work ---------------------------------------------------------------------------------


def refused(pipeline, tmp_path, *arguments):
    """Message of a run that must fail before it writes anything."""
    outputs = tmp_path / "refused"
    message = pipeline(photos.main, *arguments, "--outputs", outputs).error
    assert not outputs.exists()
    return message


def test_blanks_in_names(room_files, tmp_path, pipeline):
    images = room_files.copy_images(tmp_path / "images", room_files.room.map_names)
    (images / "img00.png").rename(images / "my photo.png")
    message = refused(pipeline, tmp_path, "--images", images)
    assert "blank" in message and "Rename them, for instance 'my photo.png' to 'my_photo.png'" in message


def test_too_few_photos(room_files, tmp_path, pipeline):
    one = room_files.copy_images(tmp_path / "one", ["img00.png"])
    assert "at least two photos" in refused(pipeline, tmp_path, "--images", one)
    (tmp_path / "none").mkdir()
    assert "No image in" in refused(pipeline, tmp_path, "--images", tmp_path / "none")
    assert "does not exist" in refused(pipeline, tmp_path, "--images", tmp_path / "nowhere")
    two = room_files.copy_images(tmp_path / "two", ["img00.png", "img01.png"])
    message = refused(pipeline, tmp_path, "--images", two, "--features", "sift", "--query_every", 2)
    assert "at least two photos" in message


def test_only_one_readable_photo(room_files, tmp_path, pipeline):
    images = room_files.copy_images(tmp_path / "images", ["img00.png"])
    (images / "img01.png").write_bytes(b"")
    message = pipeline(
        photos.main, "--images", images, "--features", "sift", "--outputs", tmp_path / "outputs"
    ).error
    assert "two readable photos" in message and "img00.png" in message


def test_no_readable_photo_or_query(room_files, tmp_path, pipeline):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (images / name).write_text("no image")
    outcome = pipeline(
        photos.main, "--images", images, "--features", "sift", "--outputs", tmp_path / "outputs"
    )
    assert "None of the 2 images (map)" in outcome.error
    outputs = room_files.seed(tmp_path / "seeded")
    arguments = [
        "--images",
        room_files.room.images,
        "--features",
        "sift",
        "--queries",
        images,
        "--outputs",
        outputs,
    ]
    assert "None of the 2 images (queries)" in pipeline(photos.main, *arguments).error


@pytest.mark.parametrize("reference", [False, True])
def test_black_photos(room_files, tmp_path, pipeline, reference):
    images = tmp_path / "images"
    images.mkdir()
    for name in room_files.room.map_names[:3]:
        cv2.imwrite(str(images / name), np.zeros((360, 480), np.uint8))
    arguments = ["--images", images, "--features", "sift", "--outputs", tmp_path / "outputs"]
    arguments += ["--reference_model", room_files.model] if reference else []
    message = pipeline(photos.main, *arguments).error
    assert "3 pairs with 0 matches" in message
    assert not (tmp_path / "outputs" / "report.html").exists()


def test_wrong_references_are_found_first(room_files, tmp_path, pipeline):
    room = room_files.room
    images = ["--images", room.images, "--features", "sift", "--reference_model"]
    assert "No COLMAP model in" in refused(pipeline, tmp_path, *images, tmp_path)
    renamed = pycolmap.Reconstruction(room.model)
    for image in renamed.images.values():
        image.name = f"other-{image.name}"
    (tmp_path / "renamed").mkdir()
    write_model(renamed, tmp_path / "renamed")
    message = refused(pipeline, tmp_path, *images, tmp_path / "renamed")
    assert "poses of 0 of the 14 map photos" in message and "'other-img00.png' there" in message
    message = refused(
        pipeline,
        tmp_path,
        "--images",
        room.images,
        "--features",
        "sift",
        "--ground_truth",
        tmp_path / "renamed",
    )
    assert "has a pose of none of the 14 images" in message and "'img00.png'" in message
    small = room_files.copy_images(tmp_path / "small", room.map_names)
    for path in small.iterdir():
        Image.open(path).resize((240, 180)).save(path)
    message = refused(
        pipeline, tmp_path, "--images", small, "--features", "sift", "--reference_model", room_files.model
    )
    assert "intrinsics for 480×360 pixels of 'img00.png', which has 240×180" in message


def test_wrong_options(room_files, tmp_path, pipeline, capsys):
    images = ["--images", room_files.room.images, "--features", "sift"]
    assert "no conf 'surf'" in refused(pipeline, tmp_path, *images, "--features", "surf")
    assert "among the dense_matchers" in refused(pipeline, tmp_path, *images, "--matcher", "surf")
    assert "is no folder" in refused(pipeline, tmp_path, *images, "--mask_dir", tmp_path / "masks")
    for wrong in (["--num_loc", "0"], ["--thresholds", "1"], ["--query_every", "2", "--queries", "x"]):
        with pytest.raises(SystemExit) as stop:
            photos.main([str(a) for a in images] + ["--outputs", str(tmp_path / "refused"), *wrong])
        assert stop.value.code == 2 and wrong[0] in capsys.readouterr().err


def test_photos_without_a_pose_stay_out(room_files, tmp_path, pipeline):
    room, outputs = room_files.room, room_files.seed(tmp_path / "outputs")
    write_model(subset(room.model, [*room.map_names[1:], *room.query_names[1:]]), tmp_path / "fewer")
    arguments = [*room_files.inputs, "--outputs", outputs]
    arguments += ["--reference_model", tmp_path / "fewer", "--ground_truth", tmp_path / "fewer"]
    outcome = pipeline(photos.main, *arguments)
    assert outcome.code == 0 and "1 photos have no pose in" in outcome.err
    assert "1 queries have no true pose and are left out" in outcome.err
    assert sorted(registered_poses(read_model(outputs / SFM))) == room.map_names[1:]
    assert_localized(read_log(outputs / LOG), room)


# --- many photos --------------------------------------------------------------------------------------


@pytest.fixture
def run(room_files, tmp_path):
    outputs = room_files.seed(tmp_path / "outputs", "global*.h5")
    return Run.start(outputs, "sift", "NN-ratio", DEFAULT_RETRIEVAL)


def unordered(pairs):
    return {frozenset(pair) for pair in pairs}


def test_few_photos_are_all_paired(room_files, run):
    names = room_files.room.map_names
    assert EXHAUSTIVE_LIMIT == 60
    pairs = read_pairs(map_pairs(run, names, None, 3))
    assert len(pairs) == len(unordered(pairs)) == 45


def test_many_photos_are_paired_by_sequence_and_retrieval(room_files, run, monkeypatch):
    monkeypatch.setattr(photos, "EXHAUSTIVE_LIMIT", 14)
    names = sorted(room_files.room.map_names + room_files.room.query_names)
    pairs = read_pairs(map_pairs(run, names, None, 3))
    neighbours = {frozenset((names[i], names[j])) for i in range(14) for j in range(i + 1, min(i + 9, 14))}
    assert neighbours <= unordered(pairs)
    retrieved = {name: {b for a, b in pairs if a == name} for name in names}
    assert all(len(others) >= 3 and name not in others for name, others in retrieved.items())
    assert len(pairs) == len(set(pairs))
    everything = unordered(read_pairs(map_pairs(run, names, None, 1000)))
    assert unordered(pairs) <= everything and len(everything) <= 91


def test_many_photos_with_poses_are_paired_by_them(room_files, run, monkeypatch):
    monkeypatch.setattr(photos, "EXHAUSTIVE_LIMIT", 10)
    room, names = room_files.room, room_files.room.map_names
    by_points = read_pairs(map_pairs(run, names, read_model(room_files.outputs / SFM), 2))
    by_poses = read_pairs(map_pairs(run, names, room.model, 2))
    for pairs in (by_points, by_poses):
        assert {a for a, _ in pairs} == set(names) and len(pairs) == 20
    nearest = {name: set(room.neighbors(name, 3)) - {name} for name in names}
    assert all(b in nearest[a] for a, b in by_poses)
    assert set(by_points) != set(by_poses)


def test_many_photos_from_scratch(room_files, tmp_path, pipeline, monkeypatch):
    monkeypatch.setattr(photos, "EXHAUSTIVE_LIMIT", 10)
    outputs, room = room_files.seed(tmp_path / "outputs"), room_files.room
    arguments = [*room_files.inputs, "--outputs", outputs]
    outcome = pipeline(photos.main, *arguments, "--num_covis", 2, "--ground_truth", room_files.model)
    assert outcome.code == 0 and "Map: 10 of 10 photos" in outcome.out
    assert align_to(read_model(outputs / SFM), room.model).rms < 0.01


# --- other models -------------------------------------------------------------------------------------


class DenseSift(torch.nn.Module):
    """A semi-dense matcher that needs no weights: SIFT, matched by ratio test and mutually."""

    def __init__(self) -> None:
        super().__init__()
        self.sift = cv2.SIFT_create(nfeatures=800)
        self.found: dict[bytes, Any] = {}

    def detect(self, image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        pixels = (image[0, 0].numpy() * 255).astype(np.uint8)
        key = pixels.tobytes()
        if key not in self.found:
            keypoints, descriptors = self.sift.detectAndCompute(pixels, None)
            self.found[key] = np.array([k.pt for k in keypoints], np.float32), descriptors
        return self.found[key]

    def forward(self, data: dict[str, Any]) -> dict[str, torch.Tensor]:
        (points0, descriptors0), (points1, descriptors1) = (self.detect(data[f"image{i}"]) for i in (0, 1))
        matcher = cv2.BFMatcher(crossCheck=True)
        nearest = cv2.BFMatcher().knnMatch(descriptors0, descriptors1, k=2)
        distinct = {one.queryIdx for one, two in nearest if one.distance < 0.8 * two.distance}
        mutual = [m for m in matcher.match(descriptors0, descriptors1) if m.queryIdx in distinct]
        index0, index1 = ([getattr(m, key) for m in mutual] for key in ("queryIdx", "trainIdx"))
        keypoints = [torch.from_numpy(points0[index0]), torch.from_numpy(points1[index1])]
        return {"keypoints0": keypoints[0], "keypoints1": keypoints[1], "scores": torch.ones(len(mutual))}


def test_semi_dense_matcher(room_files, tmp_path, pipeline, monkeypatch):
    matcher = DenseSift()
    monkeypatch.setitem(confs.dense_matchers, "fake", DENSE_CONF)
    monkeypatch.setattr(match_dense, "load_model", lambda kind, conf: matcher)
    outputs = room_files.seed(tmp_path / "outputs", "global*.h5")
    arguments = [*room_files.arguments, "--matcher", "fake", "--num_loc", 4, "--outputs", outputs]
    outcome = pipeline(photos.main, *arguments)
    assert outcome.code == 0, outcome.err
    assert not (outputs / "feats-sift.h5").exists()
    results = read_log(outputs / LOG)
    room = room_files.room
    assert_localized(results, room, position=0.03, rotation=0.4)
    monkeypatch.setattr(query_matching, "load_model", lambda kind, conf: matcher)
    for expected in results[:2]:
        camera = parse_camera(expected.camera.split(), "log")
        result = Localizer(outputs).localize(room.images / expected.name, camera)
        assert (result.qvec, result.tvec) == (expected.qvec, expected.tvec)
        assert (result.num_inliers, result.num_matches) == (expected.num_inliers, expected.num_matches)
        assert result.retrieved == expected.retrieved
    colour = np.repeat(cv2.imread(str(room.images / expected.name), cv2.IMREAD_GRAYSCALE)[..., None], 3, 2)
    moved = Localizer(outputs, image_dir=room_files.copy_images(tmp_path / "moved", room.map_names))
    assert moved.localize(colour, camera).tvec == expected.tvec
    assert "local features, map" not in (outputs / "stages.json").read_text()
    before = times(outputs)
    matcher.forward = None
    assert pipeline(photos.main, *arguments).code == 0
    changed = {name for name, time in times(outputs).items() if time != before.get(name)}
    assert changed == {"stages.json", "map.json", "report.html"}


@pytest.mark.parametrize("host", ["hloc", "imcui.hloc"])
def test_features_of_a_host(room_files, tmp_path, pipeline, host):
    if host not in available_hosts():
        pytest.skip(f"{host} is not installed")
    outputs = room_files.seed(tmp_path / "outputs", "global*.h5")
    confs = ["--features", f"{host}:sift", "--matcher", f"{host}:NN-ratio"]
    outcome = pipeline(photos.main, *room_files.arguments, *confs, "--num_loc", 4, "--outputs", outputs)
    assert outcome.code == 0, outcome.err
    assert (outputs / f"{get_conf('extractors', f'{host}:sift')['output']}.h5").exists()
    assert_localized(read_log(outputs / LOG), room_files.room)


def test_no_mapper_makes_a_model(tmp_path):
    def reconstruct(mapper, folder):
        raise ReconstructionError(f"no model: {mapper}")

    with pytest.raises(ReconstructionError, match="no model: incremental"):
        reconstruct_most(reconstruct, tmp_path, 8)


# --- real photos --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_herz_jesus_with_known_poses(shared_data, tmp_path, pipeline):
    folder = shared_data / "bench" / "strecha" / "Herz-Jesus-P25"
    arguments = [
        "--images",
        folder / "images",
        "--features",
        "sift",
        "--query_every",
        5,
        "--outputs",
        tmp_path,
    ]
    arguments += ["--reference_model", folder / "sparse_gt", "--ground_truth", folder / "sparse_gt"]
    assert pipeline(photos.main, *arguments).code == 0
    results = read_log(tmp_path / LOG)
    assert [result.status for result in results] == [Status.LOCALIZED] * 5
    truth = registered_poses(read_model(folder / "sparse_gt"))
    found = [errors(result.cam_from_world, truth[result.name]) for result in results]
    position, rotation = np.median(found, axis=0)
    assert position <= 0.008 and rotation <= 0.03


@pytest.mark.slow
def test_herz_jesus_from_scratch(shared_data, tmp_path, pipeline):
    folder = shared_data / "bench" / "strecha" / "Herz-Jesus-P25"
    assert (
        pipeline(photos.main, "--images", folder / "images", "--features", "sift", "--outputs", tmp_path).code
        == 0
    )
    model = read_model(tmp_path / SFM)
    alignment = align_to(model, read_model(folder / "sparse_gt"))
    assert model.num_reg_images() == 25 and alignment.rms <= 0.010


@pytest.mark.slow
def test_sacre_coeur(shared_data, tmp_path, pipeline):
    """Photos of ten tourists: they need the keypoints from the doubled image."""
    images = shared_data / "bench" / "sacre_coeur" / "images"
    arguments = ["--images", images, "--features", "sift-colmap", "--outputs", tmp_path]
    outcome = pipeline(photos.main, *arguments)
    assert outcome.code == 0 and "Map: 10 of 10 photos" in outcome.out
    Page(tmp_path / "report.html").assert_self_contained()


@pytest.mark.slow
def test_south_building_in_one_model(shared_data, tmp_path, pipeline):
    images = shared_data / "bench" / "south_building" / "images"
    outcome = pipeline(photos.main, "--images", images, "--features", "sift", "--outputs", tmp_path)
    assert outcome.code == 0
    assert read_model(tmp_path / SFM).num_reg_images() >= 126
