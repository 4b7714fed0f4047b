"""The demo, on the rendered room instead of the city."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pycolmap
import pytest
from PIL import Image

from hloc_ext.confs import DEFAULT_RETRIEVAL
from hloc_ext.evaluation.poses import BENCHMARK_THRESHOLDS, PoseError, evaluate
from hloc_ext.formats.colmap import read_model, registered_poses
from hloc_ext.formats.results import read_log
from hloc_ext.localizer import MapDescription
from hloc_ext.pretrained import WEIGHTS, checkpoint_path
from pipelines import demo, demo_pictures
from pipelines.common import Run
from tests.aachen_dataset import synthetic_scene, write_aachen
from tests.pipelines.conftest import Page

METHODS = (
    demo.Method("sift", "NN-ratio"),
    demo.Method("sift", "NN-mutual"),
    demo.Method("disk", "disk+lightglue", weights=("disk-depth", "lightglue-disk"), needs_gpu=True),
)
PICTURES = ("overview.png", "photos.png", "matches_day.png", "matches_night.png", "errors.png")


@pytest.fixture(scope="module")
def dataset(room, tmp_path_factory):
    root = tmp_path_factory.mktemp("demo_city")
    return write_aachen(synthetic_scene(room, root / "work"), root / "city", "v1.0")


@pytest.fixture
def without_city(monkeypatch, tmp_path, dataset):
    """The demo with the room as its city, which is grey from above; no weights on the machine."""

    def copied(outputs, size, seed):
        assert (size, seed) == ("small", 1)
        if not (outputs / "city").exists():
            shutil.copytree(dataset, outputs / "city")
        return outputs / "city"

    def grey(size, seed, bounds, pixel_size):
        width, height = bounds[2] - bounds[0], bounds[3] - bounds[1]
        return np.full((round(height / pixel_size), round(width / pixel_size), 3), 128, np.uint8)

    monkeypatch.setattr(demo, "make_dataset", copied)
    monkeypatch.setattr(demo, "from_above", grey)
    monkeypatch.setattr(demo, "METHODS", METHODS)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_demo(without_city, tmp_path, pipeline):
    outputs = tmp_path / "demo"
    outcome = pipeline(demo.main, "--outputs", outputs)
    assert outcome.code == 0 and "(4 poses, valid)" in outcome.out
    assert f"sift + NN-mutual · {DEFAULT_RETRIEVAL}: night" in outcome.out
    assert (
        "left out: disk + disk+lightglue: no weights on this machine (disk-depth, lightglue-disk)"
        in outcome.out
    )
    for name in PICTURES:
        assert np.asarray(Image.open(outputs / name)).std() > 5
    page = Page(outputs / "report.html")
    page.assert_self_contained()
    for expected in (
        "A procedural city, localized",
        "Methods side by side",
        f"sift + NN-mutual {DEFAULT_RETRIEVAL} 100 100 100 100 100 100",
        f"retrieval alone {DEFAULT_RETRIEVAL}",
        "Left out: disk + disk+lightglue: no weights on this machine",
        "day, best: query/day/nexus4/",
        "night, best: query/night/nexus5x/",
        "small, seed 1",
    ):
        assert expected in page.text
    assert list(outputs.glob("Aachen_eval_hloc_ext_feats-sift_*.txt"))
    # The map is that of the report, not that of the last method compared.
    assert (
        MapDescription.read(outputs).matcher_conf
        == demo.METHODS[0].matcher_conf
        != demo.METHODS[-1].matcher_conf
    )
    # A second run computes nothing again.
    before = {f: f.stat().st_mtime_ns for f in outputs.glob("*.h5")}
    assert pipeline(demo.main, "--outputs", outputs).code == 0
    assert {f: f.stat().st_mtime_ns for f in outputs.glob("*.h5")} == before
    stages = json.loads((outputs / "stages_1.json").read_text())["stages"]
    assert all(stage["state"] in ("completed", "resumed") for stage in stages)


def test_quick(without_city, tmp_path, pipeline):
    outcome = pipeline(demo.main, "--outputs", tmp_path / "demo", "--quick")
    assert outcome.code == 0 and "side by side" not in Page(tmp_path / "demo" / "report.html").text


def test_every_method_of_the_demo_can_be_configured(tmp_path):
    for method in demo.METHODS:
        run = Run.start(tmp_path, method.feature_conf, method.matcher_conf, method.retrieval)
        assert run.is_dense == (not method.features)
    first = demo.METHODS[0]
    assert first.label == "kd-mamba (640 pixels)" and first.matcher_conf["output"].endswith("-640")


def test_methods_that_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert [method.obstacle for method in METHODS[:2]] == ["", ""]
    assert METHODS[2].obstacle == "no weights on this machine (disk-depth, lightglue-disk)"
    for name in METHODS[2].weights:
        path = checkpoint_path(WEIGHTS[name])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "without a GPU" in METHODS[2].obstacle
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert METHODS[2].obstacle == ""
    assert {name for method in demo.METHODS for name in method.weights} <= set(WEIGHTS)


def looking_north(x: float, y: float) -> pycolmap.Rigid3d:
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ np.array([x, y, 1.6]))


def test_overview_shows_cameras_where_they_are():
    background = demo_pictures.Background(np.full((400, 600, 3), 255, np.uint8), (-30.0, 20.0), 0.1)
    picture = demo_pictures.overview(
        background,
        {"a": looking_north(-20, 10)},
        {"near": looking_north(0, 0), "far": looking_north(20, 0), "lost": looking_north(20, -15)},
        {
            "near": PoseError(0.1, 0.5, "localized"),
            "far": PoseError(0.1, 3.0, "localized"),
            "lost": PoseError(np.inf, np.inf, "failed"),
        },
        BENCHMARK_THRESHOLDS,
    )
    assert picture.shape[1] == 600 and picture.shape[0] > 400

    def at(x: float, y: float) -> np.ndarray:
        return picture[round((20.0 - y) / 0.1), round((x + 30.0) / 0.1)]

    colors = demo_pictures.ERROR_COLORS
    places = {(-20, 10): demo_pictures.MAP_COLOR, (0, 0): colors[0], (20, 0): colors[1], (20, -15): colors[3]}
    for (x, y), color in places.items():
        np.testing.assert_allclose(at(x, y), color, atol=3)
    # The wedge is north of the camera.
    assert at(0, 3.0).std() > 10 and at(0, -3.0).std() < 1


def test_error_chart():
    errors = [PoseError(0.01, 0.1, "localized"), PoseError(np.inf, np.inf, "failed")]
    chart = demo_pictures.error_chart({"day": errors, "night": errors[:1]}, BENCHMARK_THRESHOLDS)
    assert chart.shape == (460, 1280, 3)
    orange = np.abs(chart.astype(int) - demo_pictures.CONDITION_COLORS["day"]).max(axis=2) < 12
    assert orange[:, :640].any() and orange[:, 640:].any()


@pytest.mark.slow
def test_city(tmp_path, pipeline):
    """The claim of the README: every query by day is within 0.25 m and 2°, with SIFT."""
    pytest.importorskip("embreex")
    outcome = pipeline(demo.main, "--outputs", tmp_path, "--quick")
    assert outcome.code == 0
    truth = registered_poses(read_model(tmp_path / "city" / "ground_truth"))
    results = read_log(next(tmp_path.glob("results_*_logs.jsonl")))
    assert len(results) == 24 and len(truth) == 84
    day = evaluate([result for result in results if "/day/" in result.name], truth)
    assert day.num_queries == 16 and day.recall_localized[0] == 1.0
    assert day.medians[0] < 0.03
