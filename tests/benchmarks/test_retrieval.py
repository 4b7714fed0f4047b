"""The comparison of global descriptors on tiny inputs: what it counts, never how long it takes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from scipy.sparse import csr_matrix

from benchmarks.retrieval import cost, localization, lund, pavilion, search
from benchmarks.retrieval.__main__ import main
from benchmarks.retrieval.classical import hog, tiny_image
from benchmarks.retrieval.covisible import covisible_conditions
from benchmarks.retrieval.methods import NAMES, Method, Photos, load
from benchmarks.retrieval.options import RetrievalOptions
from benchmarks.retrieval.places import Condition, Place, evaluate_places
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.datasets.sfm_scene import SfmScene
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.extract_features import prepare_image
from hloc_ext.extractors.crossvit import save_weights
from hloc_ext.formats.colmap import write_model
from hloc_ext.host import get_conf, load_model
from hloc_ext.models.crossvit import CrossViTRetrieval, CrossViTTeacher
from tests.room import Room


def texture(seed: int, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    rng = np.random.default_rng([17, seed])
    coarse = rng.random((8, 10)).astype(np.float32)
    return (255 * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)).astype(np.uint8)


def by_number(photos: Photos) -> np.ndarray:
    """Descriptors on a half circle, at the numbers that the names of the images are."""
    angles = np.array([int(Path(name).stem) for name in photos.names]) * 0.1
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


@pytest.mark.parametrize(("describe", "length"), [(tiny_image, 1024), (hog, 8100)])
def test_classical_descriptors_tell_images_apart(describe, length: int) -> None:
    images = [texture(seed) for seed in range(4)]
    # Darker, of less contrast, and at twice the size.
    changed = [cv2.resize((30 + 0.4 * image).astype(np.uint8), None, fx=2, fy=2) for image in images]
    first, second = (np.stack([describe(image) for image in group]) for group in (images, changed))
    assert first.shape == (4, length)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    similarity = first @ second.T
    assert (similarity.argmax(1) == np.arange(4)).all()
    assert similarity.diagonal().min() > 0.9


@pytest.mark.parametrize("describe", [tiny_image, hog])
def test_an_image_of_one_grey_has_a_finite_descriptor(describe) -> None:
    np.testing.assert_array_equal(describe(np.full((50, 70), 90, np.uint8)), 0)


def test_hog_sees_the_orientation_of_edges() -> None:
    upright = np.zeros((256, 256), np.uint8)
    upright[:, 120:136] = 200
    bins = hog(upright).reshape(-1, 9).sum(0)
    # Gradients along x lie between the last bin (170°) and the first (10°), half each.
    assert bins[[0, 8]].sum() / bins.sum() > 0.9
    assert bins[0] == pytest.approx(bins[8], rel=0.05)
    np.testing.assert_allclose(hog(upright), hog(255 - upright), atol=1e-6)  # unsigned


def line_place(positions: list[int], relevant: np.ndarray) -> Place:
    names = [f"{number}.jpg" for number in positions]
    itself = np.arange(len(names))[:, None]
    condition = Condition("day → day", "told", names, names, csr_matrix(relevant), itself)
    return Place("line", Path("nowhere"), [condition])


def test_rankings_become_rows(tmp_path: Path) -> None:
    # Nearest to 0, 1, 3, 9 are 1, 0, 1, 3.
    relevant = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 1]], bool)
    options = RetrievalOptions(tmp_path, tmp_path)
    table = evaluate_places("line", [line_place([0, 1, 3, 9], relevant)], [Method("n", by_number)], options)
    row, chance = table.rows
    # The last query has no answer but itself.
    assert (row["number"], row["relevant"]) == (3, 1.3)
    assert row["R@1 %"] == pytest.approx(100 * 2 / 3, abs=0.05)
    assert row["R@5 %"] == row["P@5 %"] == 100
    assert chance["R@1 %"] == pytest.approx(100 * (1 / 3 + 1 / 3 + 2 / 3) / 3, abs=0.05)
    assert "R@1 %" in table.markdown()


def test_places_count_by_their_queries(tmp_path: Path) -> None:
    right, wrong = np.eye(4, dtype=bool)[[1, 0, 1, 2]], np.eye(2, dtype=bool)[[1, 0]]
    wrong = np.pad(wrong, ((0, 0), (0, 1)))
    names = ["0.jpg", "1.jpg"]
    second = Condition(
        "day → day", "told", names, ["8.jpg", "1.jpg", "0.jpg"], csr_matrix(wrong), np.array([[2], [1]])
    )
    places = [line_place([0, 1, 3, 6], right), Place("second", Path("nowhere"), [second])]
    options = RetrievalOptions(tmp_path, tmp_path)
    row = evaluate_places("both", places, [Method("n", by_number)], options).rows[0]
    assert row["number"] == 6
    # In the second place: 0 finds 1, right; 1 finds 0 before 8, wrong.
    assert row["R@1 %"] == pytest.approx(100 * 5 / 6, abs=0.05)


def test_limit_keeps_queries_spread_evenly() -> None:
    condition = line_place([0, 1, 2, 3, 4, 5], np.eye(6, dtype=bool)).conditions[0].limited(3)
    assert condition.query_names == ["0.jpg", "2.jpg", "4.jpg"]
    np.testing.assert_array_equal(condition.relevant.toarray(), np.eye(6, dtype=bool)[::2])
    np.testing.assert_array_equal(condition.excluded, [[0], [2], [4]])


def test_methods_that_need_a_model_are_left_out_without(tmp_path: Path) -> None:
    teacher = Method("teacher", by_number, needs_model=True)
    options = RetrievalOptions(tmp_path, tmp_path)
    table = evaluate_places("line", [line_place([0, 1], ~np.eye(2, dtype=bool))], [teacher], options)
    assert not table.rows
    assert "teacher: left out" in table.notes[0]


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(InputError, match="crossvit-studnet"):
        load(["crossvit-studnet"])
    with pytest.raises(InputError, match="vlad-rootsift"):
        load(["hog"], {"vlad-rootsift": Path("x.safetensors")})


def test_weights_that_are_not_there_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    methods, unavailable = load(["hog", "netvlad", "megaloc"])
    assert [method.name for method in methods] == ["hog"]
    assert all("weights are not on this machine" in why for why in unavailable.values())
    assert unavailable.keys() == {"netvlad", "megaloc"}


def flat_model(shared: np.ndarray) -> pycolmap.Reconstruction:
    """A model whose images share so many points: each pair has points of its own."""
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(model="PINHOLE", width=64, height=48, params=[50, 50, 32, 24], camera_id=1)
    )
    seen: dict[int, list[int]] = {image: [] for image in range(len(shared))}
    number = 0
    for i in range(len(shared)):
        for j in range(i):
            for _ in range(shared[i, j]):
                seen[i].append(number)
                seen[j].append(number)
                number += 1
    for image, points in seen.items():
        keypoints = np.full((len(points), 2), 20.0)
        added = pycolmap.Image(name=f"{image}.jpg", keypoints=keypoints, camera_id=1, image_id=image + 1)
        model.add_image_with_trivial_frame(added, pycolmap.Rigid3d())
    for point in range(number):
        elements = [
            pycolmap.TrackElement(image + 1, points.index(point))
            for image, points in seen.items()
            if point in points
        ]
        model.add_point3D(np.array([0.0, 0, 5]), pycolmap.Track(elements), np.zeros(3, np.uint8))
    return model


def test_covisible_images_answer_a_query(tmp_path: Path) -> None:
    shared = np.zeros((4, 4), int)
    shared[1, 0], shared[2, 0], shared[3, 0] = 30, 8, 7  # image 0 sees 45 points
    shared[3, 2] = 9
    write_model(flat_model(shared + shared.T), tmp_path)
    scene = SfmScene.read(tmp_path)
    names = [f"{i}.jpg" for i in range(4)]
    enough, share = covisible_conditions(scene, "day → day", names, names)
    off_diagonal = ~np.eye(4, dtype=bool)
    answers = enough.relevant.toarray() & off_diagonal
    np.testing.assert_array_equal(answers, [[0, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]])
    # 8 of 45 points are less than 30 %, 8 of the 17 of image 2 are not.
    assert not share.relevant[0, 2]
    assert share.relevant[2, 0]
    np.testing.assert_array_equal(enough.excluded, [[0], [1], [2], [3]])
    twins = covisible_conditions(scene, "night → day", names[:1], names[1:], [["1.jpg"]])[0]
    np.testing.assert_array_equal(twins.excluded, [[0]])


def test_other_lights_see_what_the_day_sees() -> None:
    day = flat_model(np.array([[0, 20], [20, 0]]))
    truth = pycolmap.Reconstruction(day)
    for model in (day, truth):
        for image in model.images.values():
            image.name = f"day/{image.name}"
    for image_id, name in ((7, "night/1.jpg"), (8, "night/5.jpg")):  # there is no day/5.jpg
        image = pycolmap.Image(name=name, camera_id=1, image_id=image_id)
        truth.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    model = pavilion.with_other_lights(day, truth)
    assert sorted(image.name for image in model.images.values()) == ["day/0.jpg", "day/1.jpg", "night/1.jpg"]
    assert model.num_points3D() == 20
    assert model.images[7].num_points3D == 20
    twin = [point.point3D_id for point in model.images[2].points2D]
    assert [point.point3D_id for point in model.images[7].points2D] == twin
    assert day.num_images() == 2


def test_positions_of_photos(tmp_path: Path) -> None:
    path = tmp_path / "gps.csv"
    with pytest.raises(MissingInputError, match="does not exist"):
        lund.read_positions(path)
    path.write_text("name,lat,lon,alt_m\na.jpg,55.0,13.0,30\nb.jpg,55.001,13.0,30\n")
    positions = lund.read_positions(path)
    assert positions["b.jpg"][1] - positions["a.jpg"][1] == pytest.approx(111.35, abs=0.1)
    path.write_text("name,lat\na.jpg,55.0\n")
    with pytest.raises(CorruptFileError, match="alt_m"):
        lund.read_positions(path)


def test_nearest_poses_look_at_the_same(room: Room) -> None:
    truth = {name: room.pose(name) for name in [*room.map_names, *room.query_names]}
    turned = truth[room.map_names[0]]
    back = (
        pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.0, 1, 0, 0])), np.zeros(3))
        * truth[room.query_names[0]]
    )
    built = localization.Map(
        run=None,  # type: ignore[arg-type]
        layout=None,  # type: ignore[arg-type]
        queries={"day": [(name, room.camera) for name in room.query_names[:1]]},
        names=[*room.map_names, "turned"],
        folder=Path("nowhere"),
        truth={**truth, "turned": back},
        args=None,  # type: ignore[arg-type]
    )
    assert turned is not back
    found = localization.nearest_poses(built, 11)[room.query_names[0]]
    assert found[:4] == room.neighbors(room.query_names[0])
    assert found[-1] == "turned"  # stands where the query does, and looks the other way


def test_macs_are_counted(tmp_path: Path) -> None:
    network = torch.nn.Linear(16, 8)
    method = Method("linear", lambda p: network(torch.ones(len(p.names), 16)).detach().numpy(), network)
    assert cost.count_macs(method, Photos(tmp_path, ["a", "b"])) == 16 * 8


@pytest.mark.parametrize("kind", ["exact", "flat"])
def test_search_is_measured(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BATCH", 24)
    found = search.measure(kind, num_images=300, repeats=1)
    assert found.keys() == {"build s", "MiB", "peak MiB", "ms/query", "ms/query in a batch"}
    descriptors = search.random_descriptors(10, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(descriptors.astype(float), axis=1), 1, atol=2e-3)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Data of which only those of Lund are there, with a line of cameras 20 m apart."""
    images = tmp_path / "data" / "lund" / "images"
    images.mkdir(parents=True)
    lines = ["name,lat,lon,alt_m"]
    for number in range(5):
        cv2.imwrite(str(images / f"{number}.jpg"), texture(number))
        lines.append(f"{number}.jpg,{55 + number * 20 / 111_350:.8f},13,0")
    (images.parent / "gps.csv").write_text("\n".join(lines))
    return tmp_path / "data"


def test_command_writes_tables(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    arguments = ["--parts", "lund", "pavilion", "--methods", "tiny-image", "hog", "--data", str(bench)]
    tables = main([*arguments, "--output", str(output), "--threads", "1"])
    recognition = tables[0]
    rows = [row for row in recognition.rows if row["method"] == "hog"]
    assert [(row["relevant image"], row["number"], row["relevant"]) for row in rows] == [
        ("GPS ≤ 25 m", 5, 1.6),
        ("photo ± 1", 5, 1.6),
    ]
    assert any("structure from motion" in note for note in recognition.notes)  # nothing to reconstruct
    assert "not run" in tables[-1].protocol[0]  # no pavilion here
    assert "pavilion_outer" in tables[-1].protocol[0]
    assert "Lund" in capsys.readouterr().out
    stored = json.loads((output / "retrieval.json").read_text(encoding="utf-8"))
    assert stored["tables"][0]["rows"][0]["method"] == "tiny-image"
    assert "hog: 256×256" in (output / "retrieval.md").read_text(encoding="utf-8")


def test_command_line_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--methods", "hgo"], ["--models", "south_building"], ["--parts", "aachen"]):
        with pytest.raises(SystemExit):
            main([*wrong, "--output", str(tmp_path)])
    assert "no method ['hgo']" in capsys.readouterr().err
    assert "crossvit-student" in NAMES


def test_networks_are_those_of_the_configurations(tmp_path: Path) -> None:
    allow_cpu_torchvision()
    pytest.importorskip("timm")
    write_model(flat_model(np.array([[0, 9], [9, 0]])), tmp_path / "model")
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), texture(number))
    weights = {}
    for name, network in (
        ("crossvit-student-2", CrossViTRetrieval()),
        ("crossvit-teacher", CrossViTTeacher()),
    ):
        weights[name] = tmp_path / f"{name}.safetensors"
        save_weights(network, weights[name])
    (student, teacher, random), _ = load([*weights, "crossvit-random"], weights)
    assert (student.name, student.needs_model, teacher.needs_model) == ("crossvit-student-2", False, True)
    photos = Photos(tmp_path, ["0.jpg", "1.jpg"], SfmScene.read(tmp_path / "model"))
    for method, options in ((student, {}), (teacher, {"model_dir": tmp_path / "model"})):
        conf = get_conf("extractors", method.name.removesuffix("-2"))
        conf["model"] |= {"weights": str(weights[method.name]), **options}
        images = [prepare_image(path, conf["preprocessing"]).tensor for path in photos.paths]
        with torch.no_grad():
            data = {"image": torch.cat(images), "name": list(photos.names)}
            expected = load_model("extractors", conf)(data)["global_descriptor"].numpy()
        np.testing.assert_allclose(method.describe(photos), expected, atol=1e-5)
    assert random.describe(photos).shape == (2, 512)
    assert random.weights == "random"
    with pytest.raises(MissingInputError):
        load(["crossvit-student"], {"crossvit-student": tmp_path / "absent.safetensors"})
    with pytest.raises(InputError):  # a teacher's weights for the student
        load(["crossvit-student"], {"crossvit-student": weights["crossvit-teacher"]})
