"""Two pictures without a project around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hloc_ext import confs, image_matching
from hloc_ext.__main__ import main as command_line
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.images import read_image
from hloc_ext.image_matching import epipolar_inliers, match
from hloc_ext.matchers import kd_mamba
from hloc_ext.report.match_picture import GAP, draw_scored_matches
from tests.kd_mamba_weights import write_random_weights

SHIFT = np.array([24, 16])  # what image 0 shows at p, image 1 shows at p − SHIFT; a multiple of the cells


@pytest.fixture(autouse=True)
def weights(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The confs `kd-mamba` and `tiny` with random weights; `tiny` reduces images to 128 pixels."""
    path = str(write_random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors"))
    monkeypatch.setattr(kd_mamba, "MIN_PROBABILITY", 0.0)
    conf = confs.dense_matchers["kd-mamba"]
    model = {**conf["model"], "weights": path, "match_threshold": 0.0}
    monkeypatch.setitem(confs.dense_matchers, "kd-mamba", {**conf, "model": model})
    preprocessing = {**conf["preprocessing"], "resize_max": 128}
    monkeypatch.setitem(
        confs.dense_matchers, "tiny", {**conf, "model": model, "preprocessing": preprocessing}
    )
    image_matching._load.cache_clear()
    yield
    image_matching._load.cache_clear()


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Two crops of one texture, H×W×3 uint8."""
    generator = np.random.default_rng(0)
    big = np.zeros((200, 260, 3))
    for step in (3, 9, 30):
        noise = generator.random((200 // step + 2, 260 // step + 2, 3))
        big += cv2.resize(noise, (260, 200), interpolation=cv2.INTER_CUBIC)
    big = (255 * (big - big.min()) / np.ptp(big)).round().astype(np.uint8)
    return big[:160, :200].copy(), big[SHIFT[1] : 160 + SHIFT[1], SHIFT[0] : 200 + SHIFT[0]].copy()


def write(path: Path, rgb: np.ndarray) -> Path:
    cv2.imwrite(str(path), rgb[:, :, ::-1])
    return path


def assert_same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_files_and_arrays_match_alike(pictures, tmp_path):
    paths = [write(tmp_path / f"{i}.png", picture) for i, picture in enumerate(pictures)]
    matches = match(*pictures)
    keypoints0, keypoints1, scores = matches
    assert keypoints0.shape == keypoints1.shape == (len(scores), 2) and len(scores) > 30
    assert {array.dtype for array in matches} == {np.dtype(np.float32)}
    assert np.abs(keypoints0 % 8 - 4).min() < 3.9 and (keypoints1 % 8 > 0).any()  # both are refined
    grey = [read_image(path, grayscale=True) for path in paths]
    assert_same(match(*paths), match(*grey))
    assert_same(match(str(paths[0]), grey[1]), match(*grey))
    from_rgb = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    assert_same(matches, match(*from_rgb))


def test_positions_are_those_of_the_images_as_given(pictures):
    grey = cv2.cvtColor(pictures[0], cv2.COLOR_RGB2GRAY)
    tripled = np.kron(grey, np.ones((3, 3), np.uint8))  # 600×480, which `tiny` reduces to 128×102
    reduced = cv2.resize(grey.astype(np.float32), (128, 102), interpolation=cv2.INTER_AREA).round()
    keypoints0, _, scores = match(tripled, tripled, "tiny")
    expected = match(reduced.astype(np.uint8), reduced.astype(np.uint8), "kd-mamba")[0]
    assert len(scores) > 20
    scale = np.array([600 / 128, 480 / 102])
    centres = np.round(((keypoints0 + 0.5) / scale - 0.5) / 8) * 8
    known = {tuple(position) for position in np.round(expected / 8) * 8}
    assert np.mean([tuple(centre) in known for centre in centres]) > 0.8
    assert keypoints0[:, 0].max() > 500 and keypoints0[:, 1].max() > 400


def test_images_of_different_sizes(pictures):
    keypoints0, keypoints1, _ = match(pictures[0][:64, :90], pictures[1])
    assert len(keypoints0) > 5
    assert (keypoints0 < [98, 72]).all() and keypoints1[:, 0].max() > 98


def test_sparse_matchers(pictures):
    keypoints0, keypoints1, scores = match(*pictures, matcher="NN-ratio", features="sift-colmap")
    assert len(scores) > 50 and ((scores > 0) & (scores <= 1)).all()
    error = np.abs(keypoints0 - keypoints1 - SHIFT).max(axis=1)
    assert (error < 0.5).mean() > 0.95
    with pytest.raises(InputError, match="'NN-ratio' matches extracted features: say which"):
        match(*pictures, matcher="NN-ratio")


def test_models_are_kept(pictures, monkeypatch):
    loads = []
    load = image_matching.load_model
    monkeypatch.setattr(
        image_matching, "load_model", lambda kind, conf: loads.append(kind) or load(kind, conf)
    )
    for _ in range(2):
        match(*pictures)
    assert loads == ["dense_matchers"]


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_other_arrays_are_refused(pictures, array):
    with pytest.raises(InputError, match="Expected an H×W×3 or H×W array of uint8"):
        match(pictures[0], array)


def test_absent_files_and_confs_are_named(pictures):
    with pytest.raises(MissingInputError, match=r"absent\.jpg does not exist"):
        match(pictures[0], "absent.jpg")
    with pytest.raises(InputError, match="no conf 'kd-bamba' among the dense_matchers"):
        match(*pictures, matcher="kd-bamba")


# --- inliers ------------------------------------------------------------------------------------------


def two_views() -> tuple[np.ndarray, np.ndarray]:
    """Projections of 200 points by two cameras, pixels."""
    generator = np.random.default_rng(1)
    points = generator.uniform([-2, -2, 4], [2, 2, 8], (200, 3))
    first = 500 * points[:, :2] / points[:, 2:] + 320
    moved = points @ cv2.Rodrigues(np.array([0.05, 0.1, 0.02]))[0].T + [0.5, 0.1, 0]
    return first, 500 * moved[:, :2] / moved[:, 2:] + 320


def test_inliers_agree_with_one_epipolar_geometry():
    first, second = two_views()
    wrong = np.arange(200) % 4 == 0
    second[wrong] = np.random.default_rng(2).uniform(0, 640, (50, 2))
    inliers = epipolar_inliers(first, second)
    assert inliers[~wrong].all() and inliers[wrong].mean() < 0.3
    np.testing.assert_array_equal(inliers, epipolar_inliers(first, second))


@pytest.mark.parametrize("number", [0, 7])
def test_few_matches_have_no_inliers(number):
    first, second = two_views()
    assert epipolar_inliers(first[:number], second[:number]).tolist() == [False] * number


# --- pictures -----------------------------------------------------------------------------------------


def test_matches_are_coloured_by_score_and_the_best_are_drawn():
    black = np.zeros((40, 50), np.uint8)
    points = np.array([[10, 5], [10, 15], [10, 25]])
    canvas = draw_scored_matches(black, black, points, points, np.array([0.1, 0.95, 0.5]), max_lines=2)
    assert canvas.shape == (40, 100 + GAP, 3)
    assert canvas[5, 10].tolist() == [0, 0, 0]  # the worst is left out
    assert canvas[15, 10, 0] > 2 * canvas[15, 10, 1]  # red
    assert canvas[25, 10, 1] > 200 and canvas[25, 10, 1] > 2 * canvas[25, 10, 2]  # green
    empty = np.zeros((0, 2))
    assert draw_scored_matches(black, black, empty, empty, np.zeros(0)).shape == canvas.shape


@pytest.mark.parametrize("options", [[], ["--show_inliers"], ["--features", "sift", "--matcher", "NN-ratio"]])
def test_command_draws_and_counts(pictures, tmp_path, capsys, options):
    paths = [str(write(tmp_path / f"{name}.png", p)) for name, p in zip("ab", pictures, strict=True)]
    output = tmp_path / "new folder" / "matches.png"
    assert command_line(["match", *paths, "--output", str(output), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    number, word, *_, mean = lines[0].split()
    assert int(number) > 20 and word == "matches," and 0 <= float(mean) <= 1
    assert len(lines) == 1 + ("--show_inliers" in options)
    assert read_image(output).shape == (160, 2 * 200 + GAP, 3)


def test_command_without_output_only_counts(pictures, tmp_path, capsys):
    paths = [str(write(tmp_path / f"{name}.png", p)) for name, p in zip("ab", pictures, strict=True)]
    assert command_line(["match", *paths]) == 0
    assert "matches, mean score" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_unknown_format_of_the_picture_is_refused(pictures, tmp_path, capsys):
    path = str(write(tmp_path / "a.png", pictures[0]))
    assert command_line(["match", path, path, "--output", str(tmp_path / "m.xyz")]) == 1
    assert "'.xyz' is no format of pictures" in capsys.readouterr().err


def test_command_says_when_nothing_matches(tmp_path, capsys, monkeypatch):
    def nothing(*_: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0)

    monkeypatch.setattr(image_matching, "match", nothing)
    path = str(write(tmp_path / "a.png", np.zeros((40, 50, 3), np.uint8)))
    for options in ([], ["--show_inliers"]):
        assert command_line(["match", path, path, "--output", str(tmp_path / "m.jpg"), *options]) == 0
        assert capsys.readouterr().out.startswith("0 matches\n")
        assert (tmp_path / "m.jpg").exists()
