"""The report page: its content, and the geometry and pictures in it."""

from __future__ import annotations

import base64
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.evaluation import evaluate
from hloc_ext.formats.colmap import registered_poses
from hloc_ext.formats.results import QueryResult, Status
from hloc_ext.report import (
    Card,
    Chart,
    MatchPicture,
    Picture,
    PictureGroup,
    ReportData,
    Scene,
    StageRecord,
    Swipe,
    SwipeGroup,
    Table,
    pick_queries,
    write_report,
)
from hloc_ext.report.charts import recall_figure
from hloc_ext.report.match_picture import GAP, draw_matches, jpeg_data_uri
from hloc_ext.report.page import number, render
from hloc_ext.report.scene3d import frustum_lines, grid_step, make_view, scene_figure, up_direction


def look(center, right, down) -> pycolmap.Rigid3d:
    """Pose of a camera whose x axis is `right` and whose y axis is `down` in the world."""
    rotation = np.array([right, down, np.cross(right, down)], float)
    return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ np.array(center, float))


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(0)
    made = pycolmap.synthesize_dataset(pycolmap.SyntheticDatasetOptions(num_points3D=50))
    for index, point in made.points3D.items():
        point.color = np.array([index % 256, 20, 30], np.uint8)
    return made


@pytest.fixture
def truth(model) -> dict[str, pycolmap.Rigid3d]:
    return {f"query/{i}.jpg": pose for i, pose in enumerate(registered_poses(model).values())}


@pytest.fixture
def results(truth) -> list[QueryResult]:
    made = []
    for i, (name, pose) in enumerate(list(truth.items())[:5]):
        result = QueryResult(name, Status.LOCALIZED, num_matches=100, num_inliers=90 - 10 * i)
        result.retrieved = ["map.jpg"]
        shift = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([0.01 * (i + 1), 0, 0]))
        result.set_pose(shift * pose)
        made.append(result)
    made[3].status, made[3].reason = Status.FALLBACK, "4 inliers < 12 & too few"
    made[4] = QueryResult(made[4].name, Status.FAILED, reason="no matches")
    return made


def picture(**changes) -> MatchPicture:
    points = np.array([[10.0, 5.0], [30.0, 25.0]])
    arguments = {
        "title": "best",
        "image0": np.full((40, 60, 3), 255, np.uint8),
        "image1": np.zeros((40, 60), np.uint8),
        "points0": points,
        "points1": points,
        "inliers": np.array([True, False]),
    }
    return MatchPicture(**{**arguments, **changes})


class Outline(HTMLParser):
    """Collects what a browser would fetch, the elements, and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for key, value in attrs if key in ("src", "href", "data", "poster")]
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def parse(html: str) -> tuple[Outline, str]:
    outline = Outline()
    outline.feed(html)
    assert outline.open == []
    return outline, " ".join(" ".join(outline.text).split())


def test_page_shows_everything_and_fetches_nothing(tmp_path, model, results, truth):
    evaluation = evaluate(results, truth)
    run = ReportData(
        "Demo <run> & co",
        {"command": "python -m pipelines.photos --images a&b"},
        [StageRecord("extract_features", 12.5, 300.0, 25, "cpu", "resumed")],
        results,
        model,
        evaluation,
        truth,
        [picture(title="best: query/0.jpg | map.jpg")],
        "m",
    )
    path = write_report(tmp_path / "out" / "report.html", run)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    html = path.read_text(encoding="utf-8")
    outline, text = parse(html)
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style and "url(" not in style[1] and "@import" not in style[1]
    assert outline.addresses and all(a.startswith("data:image/jpeg;base64,") for a in outline.addresses)
    for expected in (
        "Demo <run> & co",
        "--images a&b",
        "localized 3 of 5 60.0 %",
        "fallback 1 of 5 20.0 %",
        "failed 1 of 5 20.0 %",
        "map images 10",
        "3-D points 50",
        "median position error 0.0300 m",
        "within 0.25 m, 2° 80.0 % 60.0 % localized, 20.0 % fallback",
        "query/3.jpg fallback 60 100 60 % – 0.0400 0 4 inliers < 12 & too few",
        "query/4.jpg failed 0 0 – – ∞ ∞ no matches",
        "best: query/0.jpg | map.jpg 1 inliers of 2 matches",
        "extract_features 12.50 300 25 resumed cpu",
    ):
        assert expected in text


def test_rendering_is_deterministic(model, results, truth):
    run = ReportData(
        "a", results=results, model=model, evaluation=evaluate(results, truth), ground_truth=truth
    )
    assert render(run) == render(run)


def test_names_cannot_break_out_of_the_page(model, results):
    results[0].name = "</script><script>alert(1)</script>.jpg"
    html = render(ReportData("a", results=results, model=model))
    assert "<script>alert" not in html
    figure = re.search(r'<script type="application/json" id="figure-0">(.*?)</script>', html, re.S)
    assert figure and results[0].name in json.dumps(json.loads(figure[1]))


def test_a_run_without_model_and_evaluation_is_a_small_page(results):
    html = render(ReportData("a", results=results))
    _, text = parse(html)
    assert len(html) < 60_000 and "Map and poses" not in text and "Recall" not in text
    assert "Stages" not in text and "query/0.jpg" in text


def test_an_empty_run_is_a_page():
    _, text = parse(render(ReportData("Nothing yet")))
    assert "Nothing yet" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.0123"),
        (1.0, "1.00"),
        (12345.6, "12,346"),
        (99.94, "99.9"),
        (3e-14, "3.00e-14"),
        (0, "0"),
        (None, "–"),
        (np.inf, "∞"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_match_lines_connect_the_points():
    image = draw_matches(picture(image1=np.full((40, 60), 128, np.uint8)))
    assert image.shape == (40, 60 + GAP + 60, 3)
    inlier, outlier = image[5, 10].astype(int), image[25, 30].astype(int)
    assert inlier[1] > 180 and inlier[0] < 100
    assert outlier[0] > 180 and outlier[1] < 100
    assert (image[5, 60 + GAP + 10] == image[5, 10]).all()
    assert image[5, 64, 1] > 150 and image[5, 64, 0] < 150  # the line crosses the gap at the same height
    assert (image[35, 5] == 255).all() and (image[35, 60 + GAP + 5] == 128).all()


def test_large_images_are_reduced_with_their_points():
    big = np.full((1000, 2000, 3), 255, np.uint8)
    points = np.array([[1000.0, 500.0]])
    image = draw_matches(
        picture(image0=big, image1=big, points0=points, points1=points, inliers=np.array([True]))
    )
    assert image.shape[1] <= 1000 and image.shape[0] == 248
    green = np.argwhere((image[..., 1] > 150) & (image[..., 0] < 150))
    assert abs(np.median(green[:, 0]) - 124) <= 1
    assert abs(green[:, 1].min() - 248) <= 4 and abs(green[:, 1].max() - (496 + GAP + 248)) <= 4


def test_pictures_read_files_and_name_what_is_wrong(tmp_path):
    cv2.imwrite(str(tmp_path / "query é.png"), np.full((40, 60, 3), (0, 0, 200), np.uint8))
    image = draw_matches(picture(image0=tmp_path / "query é.png"))
    assert image[35, 3].tolist() == [200, 0, 0]
    with pytest.raises(MissingInputError, match=r"absent\.jpg"):
        draw_matches(picture(image0=tmp_path / "absent.jpg"))
    with pytest.raises(InputError, match="2 and 1 points and 2 inlier flags"):
        draw_matches(picture(points1=np.zeros((1, 2))))
    with pytest.raises(InputError, match="float64"):
        draw_matches(picture(image0=np.zeros((4, 4))))
    none = np.zeros((0, 2))
    assert draw_matches(picture(points0=none, points1=none, inliers=np.zeros(0))).shape[0] == 40


def test_jpeg_keeps_the_colours():
    uri = jpeg_data_uri(np.full((16, 16, 3), (200, 100, 20), np.uint8))
    data = np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8)
    assert np.abs(cv2.imdecode(data, cv2.IMREAD_COLOR)[8, 8] - np.array([20.0, 100, 200])).max() < 6


def test_up_is_opposite_to_the_downward_axes_of_the_cameras():
    tilted = {
        "a": look((0, 0, 0), (1, 0, 0), (0, 0.6, -0.8)),
        "b": look((1, 0, 0), (1, 0, 0), (0, -0.6, -0.8)),
    }
    assert up_direction(tilted) == pytest.approx(np.array([0, 0, 1]))
    # Straight down with opposite headings: the downward axes cancel out.
    nadir = {"a": look((0, 0, 9), (1, 0, 0), (0, -1, 0)), "b": look((1, 0, 9), (-1, 0, 0), (0, 1, 0))}
    assert up_direction(nadir) == pytest.approx(np.array([0, 0, 1]))
    assert up_direction({}) == pytest.approx(np.array([0, 0, 1]))


@pytest.mark.parametrize("down", [(0, 1, 0), (0, 0, -1), (0, 0, 1), (1, 0, 0)])
def test_the_view_is_upright_and_rigid(down):
    right = np.roll(down, 1)
    poses = {str(i): look(i * np.array(right, float), right, down) for i in range(3)}
    view = make_view(np.random.default_rng(0).normal(size=(100, 3)), poses, {})
    assert view.rotation @ -np.array(down, float) == pytest.approx(np.array([0, 0, 1]), abs=1e-9)
    assert view.rotation @ view.rotation.T == pytest.approx(np.eye(3))
    assert np.linalg.det(view.rotation) == pytest.approx(1)
    forward = view.rotation @ np.cross(right, down)
    assert np.dot(view.eye, forward) < 0 < view.eye[2]


def test_far_outliers_do_not_shrink_the_view():
    points = np.random.default_rng(0).uniform(-1, 1, (1000, 3))
    points[:5] *= 1e6
    poses = {"a": look((0, 0, 0), (1, 0, 0), (0, 0, -1))}
    view = make_view(points, poses, {"wrong": look((1e5, 0, 0), (1, 0, 0), (0, 0, -1))})
    assert view.extent.max() < 1.5
    assert not view.inside(points[:5]).any() and view.inside(points[5:]).mean() > 0.85


def test_frusta_have_their_apex_at_the_centre_and_open_forward():
    pose = look((1, 2, 3), (1, 0, 0), (0, 0, -1))
    lines = frustum_lines({"a": pose, "b": pose}, 0.5)
    assert lines.shape == (24, 3) and np.isnan(lines).all(1).sum() == 4
    in_camera = (pose.rotation.matrix() @ lines[:12].T).T + pose.translation
    vertices = in_camera[~np.isnan(in_camera).any(1)]
    depths = np.unique(vertices[:, 2].round(9))
    assert depths == pytest.approx([0, 0.5])
    assert len(np.unique(vertices.round(6), axis=0)) == 5
    edges = {
        frozenset((tuple(a.round(6)), tuple(b.round(6))))
        for a, b in itertools.pairwise(in_camera)
        if np.isfinite([a, b]).all()
    }
    assert len(edges) == 8


def test_scene_draws_statuses_points_and_truth(model, results, truth):
    scene = Scene.from_reconstruction(model)
    assert scene.colors is not None and len(scene.map_poses) == 10
    figure, caption = scene_figure(scene, results, truth, "m", max_points=20)
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert len(traces["map points"]["x"]) == 20 == len(traces["map points"]["marker"]["color"])
    assert {"map images (10)", "localized (3)", "fallback (1)", "true positions (5)"} <= set(traces)
    assert "Shown: 20 of 50 points, 10 of 10 map images" in caption
    assert traces["localized"]["text"][0].startswith("query/0.jpg<br>")
    again, _ = scene_figure(scene, results, truth, "m", max_points=20)
    assert (again["data"][1]["x"] == figure["data"][1]["x"]).all()


def test_scene_without_points_or_colours(model, results):
    figure, caption = scene_figure(Scene(np.zeros((0, 3)), map_poses=registered_poses(model)), [])
    assert "0 of 0 points" in caption and len(figure["data"][2]["x"]) == 120
    figure, _ = scene_figure(Scene(np.zeros((0, 3))), results)
    assert [trace["name"] for trace in figure["data"]][2] == "localized (3)"
    plain = Scene(np.random.default_rng(0).normal(size=(30, 3)))
    assert scene_figure(plain, [])[0]["data"][1]["marker"]["color"] == "rgb(140,140,140)"


def test_a_model_without_colours_or_tracks_has_none(model):
    black = pycolmap.Reconstruction(model)
    for point in black.points3D.values():
        point.color = np.zeros(3, np.uint8)
    assert Scene.from_reconstruction(black).colors is None
    empty = Scene.from_reconstruction(pycolmap.Reconstruction())
    assert empty.points.shape == (0, 3) and empty.mean_reprojection_error is None


@pytest.mark.parametrize(("length", "step"), [(10, 1), (19, 2), (0.06, 0.005), (900, 100), (4.4, 0.5)])
def test_grid_steps_are_round(length, step):
    assert grid_step(length) == pytest.approx(step)


def test_recall_curve_ends_at_the_recall(results, truth):
    figure = recall_figure(evaluate(results, truth), "position", "m")
    everything, localized = figure["data"]
    assert everything["y"][-1] == pytest.approx(80) and localized["y"][-1] == pytest.approx(60)
    at = np.searchsorted(everything["x"], 0.025, side="right") - 1
    assert everything["y"][at] == pytest.approx(40)
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [0.25, 0.5, 5.0]


def test_picked_queries_are_ranked(results, truth):
    picked = pick_queries(results)
    assert {label: result.name for label, result in picked.items()} == {
        "best": "query/0.jpg",
        "median": "query/1.jpg",
        "worst": "query/3.jpg",
    }
    results[0].set_pose(pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([50.0, 0, 0])))
    assert pick_queries(results, evaluate(results, truth))["worst"].name == "query/0.jpg"
    assert list(pick_queries(results[:1])) == ["best"] and pick_queries(results[4:]) == {}


def test_further_pictures_and_tables():
    table = Table(
        "Side by side",
        ["method", "kind", "recall (%)"],
        [["a<b", "x", 93.75], ["c", None, None]],
        "All count.",
    )
    run = ReportData("a", pictures=[Picture("The city", np.full((4, 6, 3), 200, np.uint8), "From above.")])
    run.tables = [table]
    html = render(run)
    outline, text = parse(html)
    assert outline.addresses == [jpeg_data_uri(np.full((4, 6, 3), 200, np.uint8))]
    assert "The city From above. Side by side All count. method kind recall (%) a<b x 93.8 c – –" in text
    assert 'data-value="93.75"' in html and 'data-value=""' in html
    with pytest.raises(MissingInputError):
        render(ReportData("a", pictures=[Picture("x", Path("does/not/exist.png"))]))


def test_cards_charts_and_groups_of_pictures():
    figure = {"data": [{"type": "scatter", "x": [1, 2], "y": [3, 4]}], "layout": {}}
    shown = Picture("query <1>", np.full((4, 6, 3), 90, np.uint8), "found at once")
    run = ReportData(
        "a",
        cards=[Card("R@1", "97.5 %", "optimistic")],
        charts=[Chart("Recall", {"share over rank": figure}, "Of all queries.")],
        groups=[PictureGroup("Queries", [shown, shown], "Best first.")],
    )
    html = render(run)
    outline, text = parse(html)
    assert "R@1 97.5 % optimistic" in text and "Recall Of all queries." in text
    assert "Queries Best first. query <1> found at once query <1> found at once" in text
    assert outline.addresses == [jpeg_data_uri(shown.image)] * 2
    assert 'aria-label="share over rank"' in html and html.count('class="plot chart"') == 1


def test_swipe_views():
    before, after = (np.full((6, 9, 3), value, np.uint8) for value in (40, 200))
    swipe = Swipe("scene <1>", before, after, ("claimed", "corrected"), "in metres")
    html = render(ReportData("a", swipes=[SwipeGroup("Before and after", [swipe], "Drag.")]))
    outline, text = parse(html)
    assert "Before and after Drag. scene <1> in metres claimed corrected" in text
    assert outline.addresses == [jpeg_data_uri(before), jpeg_data_uri(after)]
    assert html.count('type="range"') == 1
    assert 'aria-label="scene &lt;1&gt;: border between claimed and corrected"' in html
    with pytest.raises(InputError, match="differ in size"):
        other = Swipe("x", before, after[1:])
        render(ReportData("a", swipes=[SwipeGroup("b", [other])]))
