"""The comparison of matchers on tiny synthetic images: what it counts, never how long it takes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.matchers import evd, failures, homographies, registration
from benchmarks.matchers.__main__ import choose, main
from benchmarks.matchers.cost import read_images, run_macs, run_time
from benchmarks.matchers.methods import METHODS, Method, load
from benchmarks.matchers.options import Options
from benchmarks.matchers.pairs import Pair
from benchmarks.matchers.reliability import diagram, draw
from benchmarks.tables import Table
from hloc_ext.datasets.homography import warp_view
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.evaluation.homography import corner_error, transform_points
from hloc_ext.gis.registration.features import match_akaze, match_dense_sift, match_orb, match_sift

SHAPE = (240, 320)


def make_texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Boxes and discs of random greys, slightly blurred."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width), 128, np.uint8)
    for i in range(160):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size, grey = int(rng.integers(6, 40)), int(rng.integers(256))
        if i % 2:
            cv2.circle(image, (x, y), size // 2, grey, -1)
        else:
            cv2.rectangle(image, (x, y), (x + size, y + int(rng.integers(6, 40))), grey, -1)
    return cv2.GaussianBlur(image, (0, 0), 0.8)


def similarity(angle: float, scale: float, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Turn and scale about the middle of an image, 3×3."""
    middle = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    return np.vstack([cv2.getRotationMatrix2D(middle, angle, scale), (0, 0, 1)])


def make_pair(matrix: np.ndarray, invert: bool = False) -> Pair:
    image0 = make_texture(*SHAPE)
    image1 = warp_view(image0, np.linalg.inv(matrix), SHAPE)
    return Pair(image0, 255 - image1 if invert else image1, matrix, "texture")


HOMOGRAPHY = np.array([[0.95, 0.12, 6.0], [-0.1, 1.02, 9.0], [2e-4, -1e-4, 1.0]])


@pytest.mark.parametrize("match", [match_sift, match_orb, match_akaze])
def test_features_recover_a_homography(match) -> None:
    pair = make_pair(HOMOGRAPHY)
    matches = match(pair.image0, pair.image1)
    assert pair.correct(matches, 3.0).mean() > 0.8
    assert matches[2].min() >= 0
    assert matches[2].max() <= 1
    limit = 0.5 if match is match_sift else 3.0
    assert corner_error(homographies.estimate(matches), pair.truth, SHAPE[::-1]) < limit


def test_grid_features_recover_a_shift() -> None:
    pair = make_pair(np.array([[1, 0, 20.0], [0, 1, -10.0], [0, 0, 1]]))  # by whole steps of the grid
    matches = match_dense_sift(pair.image0, pair.image1)
    assert len(matches[0]) > 300
    np.testing.assert_allclose(registration.estimate(matches), pair.truth[:2], atol=0.05)


@pytest.mark.parametrize("match", [match_sift, match_orb, match_akaze, match_dense_sift])
def test_constant_images_have_no_matches(match) -> None:
    flat = np.full(SHAPE, 90, np.uint8)
    matches = match(flat, make_texture(*SHAPE))
    assert [len(part) for part in matches] == [0, 0, 0]
    assert matches[0].shape == (0, 2)
    assert homographies.estimate(matches) is None
    assert registration.estimate(matches) is None


def test_pairs_have_their_transform_and_depend_on_the_seed_only() -> None:
    photo = make_texture(768, 1024)
    pairs = [homographies.make_pair(photo, "none", np.random.default_rng([1, 2])) for _ in range(2)]
    np.testing.assert_array_equal(pairs[0].image1, pairs[1].image1)
    assert pairs[0].image0.shape == homographies.SHAPE
    estimated = homographies.estimate(match_sift(pairs[0].image0, pairs[0].image1))
    assert corner_error(estimated, pairs[0].truth, (640, 480)) < 3
    changed = homographies.make_pair(photo, "strong", np.random.default_rng([1, 2]))
    np.testing.assert_array_equal(changed.truth, pairs[0].truth)
    assert (changed.image0 != pairs[0].image0).mean() > 0.5


def write_aerial(folder: Path) -> None:
    label = (make_texture(500, 700) // 43).astype(np.uint8)
    for source in registration.SOURCES:
        for name, content in (("images/a.png", label * 42), ("labels/a.png", label)):
            path = folder / "gis" / source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), content)


def test_registration_pairs_and_success(tmp_path: Path) -> None:
    write_aerial(tmp_path)
    files = registration.find_labelled_images(tmp_path / "gis", ["tugraz_drone"])
    condition = registration.Condition("photo")
    pairs = registration.make_pairs(files, 4, condition)
    scales = [np.sqrt(np.linalg.det(pair.truth[:2, :2])) for pair in pairs]
    assert all(0.5 <= scale <= 2 for scale in scales)
    assert len({round(scale, 6) for scale in scales}) == 4

    def know(image0: np.ndarray, image1: np.ndarray):
        pair = next(pair for pair in pairs if pair.image0 is image0)
        points = np.array([[0, 0], [300, 20], [40, 400.0]])
        return points, transform_points(pair.truth, points), np.ones(3)

    def guess(image0: np.ndarray, image1: np.ndarray):
        points = np.array([[0, 0], [300, 20], [40, 400.0]])
        return points, points + 200, np.ones(3)

    right = registration.summarize(registration.register(Method("know", know), pairs))
    wrong = registration.summarize(registration.register(Method("guess", guess), pairs))
    assert right["success %"] == 100
    assert wrong["success %"] == 0
    assert registration.register(Method("sift", match_sift), pairs[:1])[0].error < 0.01


def test_maps_show_what_the_photo_shows(tmp_path: Path) -> None:
    write_aerial(tmp_path)
    files = registration.find_labelled_images(tmp_path / "gis", ["dubai_tile7"])
    condition = registration.Condition("map", onto_map=True)
    rng = np.random.default_rng(3)
    pair = registration.make_pair(files[0], condition, rng)
    # The photo is made of the classes: borders of the map lie on borders of the photo.
    warped = cv2.warpPerspective(pair.image0, pair.truth, registration.SIZE)
    strength = [
        cv2.magnitude(*(cv2.Sobel(i, cv2.CV_32F, *d) for d in ((1, 0), (0, 1))))
        for i in (warped, pair.image1)
    ]
    inside = cv2.erode((warped > 0).astype(np.uint8), np.ones((9, 9))) > 0
    correlation = np.corrcoef(*(cv2.GaussianBlur(s, (0, 0), 2)[inside] for s in strength))[0, 1]
    assert correlation > 0.3


def write_evd(folder: Path) -> None:
    pair = make_pair(HOMOGRAPHY)
    path = folder / "evd" / "texture"
    path.mkdir(parents=True)
    cv2.imwrite(str(path / "1.jpg"), pair.image0)
    cv2.imwrite(str(path / "2.jpg"), pair.image1)
    np.savetxt(path / "H_1_to_2.txt", pair.truth)


def test_command_line_writes_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_evd(tmp_path)
    arguments = ["--parts", "evd", "strecha", "--methods", "sift", "gradient-search", "kd-mamba-teacher"]
    tables = main([*arguments, "--data", str(tmp_path), "--output", str(tmp_path / "out"), "--threads", "1"])
    summary, details, missing = tables
    assert summary.rows[0]["found"] == "1 of 1"
    assert summary.rows[0]["share %"] > 80
    assert details.rows[0]["sift"].endswith("+")
    assert "not run" in missing.protocol[0]
    assert str(tmp_path / "strecha") in missing.protocol[0]
    assert "--data" in missing.protocol[0]
    assert any("gradient-search: left out" in note for note in summary.notes)
    assert any("kd-mamba-teacher: left out" in note for note in summary.notes)
    written = (tmp_path / "out" / "matchers.md").read_text()
    assert "| sift   | 1 " in written
    assert "| sift   | 1 " in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "matchers.json").read_text())
    assert content["tables"][0]["rows"][0]["method"] == "sift"


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"evd.*--data"):
        evd.read_pairs(tmp_path / "evd")
    (tmp_path / "evd").mkdir()
    with pytest.raises(MissingInputError, match="H_1_to_2"):
        evd.read_pairs(tmp_path / "evd")
    with pytest.raises(MissingInputError, match="south_building"):
        homographies.find_photos(tmp_path)


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(InputError, match="surf"):
        load(["surf"])
    with pytest.raises(InputError, match="sift"):
        load(["sift"], {"sift": Path("file.safetensors")})
    with pytest.raises(SystemExit):
        main(["--methods", "surf"])


def test_all_classical_methods_load() -> None:
    names = ["sift", "orb", "akaze", "dense-sift", "gradient-search"]
    assert set(names) < set(METHODS)
    methods, unavailable = load(names)
    assert [method.name for method in methods] == names
    assert not unavailable
    chosen, notes = choose("registration", methods)
    assert chosen == methods
    assert len(notes) == 5


def test_networks_without_weights_have_a_cost_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    methods, unavailable = load(["xfeat", "kd-mamba-teacher"])
    assert not unavailable
    assert [method.trained for method in methods] == [False, False]
    assert choose("evd", methods)[0] == []
    assert choose("cost", methods)[0] == methods
    image = make_texture(96, 128)
    macs = run_macs(methods[0], [image, image])["macs"]
    assert macs == run_macs(methods[0], [image, image])["macs"] > 1e6
    assert methods[1].network is not None
    assert sum(p.numel() for p in methods[1].network.parameters()) > 8e6
    keypoints0, keypoints1, scores = methods[1].match(image, image)
    assert keypoints0.shape == keypoints1.shape == (len(scores), 2)


def test_times_are_taken_in_turn(tmp_path: Path) -> None:
    (tmp_path / "south_building").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "south_building" / f"{i}.png"), make_texture(60, 80, i))
    images = read_images(tmp_path, (40, 30), 8)
    assert [image.shape for image in images] == [(30, 40)] * 8
    seen: list[tuple[str, int]] = []

    def method(name: str) -> Method:
        def match(image0: np.ndarray, image1: np.ndarray):
            seen.append((name, next(i for i, image in enumerate(images) if image is image0)))
            return np.empty((0, 2)), np.empty((0, 2)), np.empty(0)

        return Method(name, match)

    seconds = run_time([method("a"), method("b")], images)
    assert seen == [("a", 0), ("a", 2), ("b", 0), ("b", 2), ("a", 4), ("a", 6), ("b", 4), ("b", 6)]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_reliability_of_known_scores() -> None:
    pair = make_pair(np.eye(3))
    points = np.random.default_rng(0).uniform(20, 200, (1000, 2))
    right = np.arange(1000) % 4 > 0

    def match(image0: np.ndarray, image1: np.ndarray):
        return points, points + np.where(right, 1.0, 50.0)[:, None], np.full(1000, 0.95)

    found = diagram(Method("known", match), [pair])
    assert found is not None
    assert found.accuracy[9] == 0.75
    assert found.expected_calibration_error == pytest.approx(0.2)
    side = len(draw({"known": found}))
    for number, (rows, columns) in {1: (1, 1), 2: (1, 2), 4: (2, 3)}.items():
        picture = draw({str(i): found for i in range(number)})
        assert picture.shape == (rows * side, columns * side, 3)
    assert (picture != 255).any()


def test_table_as_markdown() -> None:
    table = Table(
        "Title", ["50 pairs"], ["method", "error"], [{"method": "a", "error": 0.12345}, {"method": "b"}]
    )
    table.notes.append("b: left out")
    assert table.markdown().splitlines() == [
        "### Title",
        "",
        "- 50 pairs",
        "",
        "| method | error |",
        "|--------|-------|",
        "| a      | 0.123 |",
        "| b      | –     |",
        "",
        "- b: left out",
    ]


def test_options_report_rows(capsys: pytest.CaptureFixture[str]) -> None:
    Options(Path("data"), Path("out")).report({"method": "a", "error": 0.5})
    assert capsys.readouterr().out == "  method a, error 0.5\n"


def test_worst_pairs_are_shown(tmp_path: Path) -> None:
    write_aerial(tmp_path)
    for name in ("south_building", "sacre_coeur"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), make_texture(500, 700))
    options = Options(tmp_path, tmp_path, limit=1)

    def fail(image0: np.ndarray, image1: np.ndarray):
        return np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0)

    (table,) = failures.evaluate([Method("sift", match_sift), Method("none", fail)], options)
    errors = {(row["kind"], row["method"]): row["corner error px"] for row in table.rows}
    assert errors["homographies", "sift"] < np.inf
    assert errors["homographies", "none"] == np.inf
    for method in ("sift", "none"):
        picture = cv2.imread(str(tmp_path / f"failures_{method}_homographies.jpg"))
        assert picture.shape[1] == failures.WIDTH
        assert picture.std() > 20
