"""The pipeline on small data sets of random pictures, with networks that were not trained."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from hloc_ext.cross_view.index import CrossViewIndex
from hloc_ext.datasets.cross_view.layout import open_set
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.extractors.cross_view_weights import load_cross_view
from hloc_ext.formats.geojson import read_geojson
from hloc_ext.training.cross_view_teacher import PUBLIC_TRAINING
from pipelines import cross_view, cross_view_training
from pipelines.cross_view_evaluation import evaluable, limited, markdown, parse_methods
from pipelines.cross_view_pictures import class_picture, embed, recall_chart, top_tiles
from tests.class_maps import town
from tests.cross_view_weights import DIM, SECTORS, random_network, write_random_weights
from tests.datasets.cross_view.small_sets import made_set, write_cvusa, write_picture, write_vigor
from tests.evaluation.test_cross_view import make_ranks

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cvusa")
    write_cvusa(root, 24)
    for number in range(1, 25):
        label = root / "tile_labels" / "bingmap" / "19" / f"{number:07d}.png"
        label.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(label), town(75, number))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    made = {kind: folder / f"{kind}.safetensors" for kind in ("students", "ssa")}
    for kind, path in made.items():
        write_random_weights(path, kind, "polar", ("cvusa/train",))
    return made


def text_of(report: Path) -> str:
    html = re.sub(r"<(script|style).*?</\1>", " ", report.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@needs_timm
def test_evaluate_writes_figures_places_and_a_report(data, weights, tmp_path, capsys):
    methods = [f"students={weights['students']}", f"ssa={weights['ssa']}"]
    arguments = ["evaluate", "--data", str(data), "--output", str(tmp_path), "--weights", *methods]
    arguments += ["--fov", "360", "90", "--pose", "--pictures", "2"]
    cross_view.main(arguments)

    found = json.loads((tmp_path / "results.json").read_text())
    rows = [(r["method"], r["fov"], r["heading_known"]) for r in found["retrieval"]]
    conditions = [(fov, known) for known in (True, False) for fov in (360, 90)]
    assert rows == [(name, *condition) for name in ("students", "ssa") for condition in conditions]
    first = found["retrieval"][0]
    assert (first["num_queries"], first["num_references"]) == (6, 6)
    assert first["recall"]["optimistic"]["10"] == 1 and first["recall"]["pessimistic"]["1"] <= 1
    assert 0 <= first["median_distance_m"] < 500
    assert set(found["bev"]) == {"ssa"} and 0 <= found["bev"]["ssa"]["visible"] <= 1
    assert found["poses"]["ssa, 90°, unknown heading"]["poses"] == 6

    places = read_geojson(tmp_path / "queries.geojson")
    assert len(places) == 6
    properties = places[0]["properties"]
    assert properties["query"] == "streetview/panos/0000019.jpg" and len(properties["candidates"]) == 5
    assert properties["heading_from"] == "given" and properties["position_from"] == "pose"
    assert properties["error_m"] >= 0 and properties["deviation_m"] > 0

    tables = (tmp_path / "results.md").read_text()
    assert "| ssa | pessimistic | 6 | 6 |" in tables and "| ssa | 90°, unknown heading |" in tables
    assert capsys.readouterr().out.count("### ") == 4
    text = text_of(tmp_path / "report.html")
    for heading in ("Recall and places", "Embeddings", "Retrieval", "Field of view and heading", "Stages"):
        assert heading in text
    for heading in ("Most similar tiles", "Activation maps", "Bird&#x27;s-eye views", "Pose in the tile"):
        assert heading in text
    assert (tmp_path / "report.html").read_text().count("<img ") == 6

    before = (tmp_path / "index" / "ssa" / "tiles.faiss").stat().st_mtime_ns
    cross_view.main([*arguments[:7], methods[1], "--fov", "360"])
    assert (tmp_path / "index" / "ssa" / "tiles.faiss").stat().st_mtime_ns == before  # it is used again


@needs_timm
def test_index_and_query_photos(data, weights, tmp_path):
    index, output = tmp_path / "index", tmp_path / "found"
    file = str(weights["students"])
    cross_view.main(["index", "--data", str(data), "--weights", file, "--output", str(index)])
    loaded = CrossViewIndex.load(index)
    assert len(loaded) == 6 and loaded.dim == DIM
    for number, size in enumerate(((64, 32), (64, 48))):
        write_picture(tmp_path / "photos" / f"{number}.jpg", *size, number)
    arguments = ["query", "--index", str(index), "--images", str(tmp_path / "photos"), "--weights", file]
    cross_view.main([*arguments, "--output", str(output), "--k", "3"])
    places = read_geojson(output / "queries.geojson")
    assert [p["properties"]["query"] for p in places] == ["0.jpg", "1.jpg"]
    for place in places:
        properties = place["properties"]
        assert len(properties["candidates"]) == 3 and properties["tile"].startswith("bingmap/19/00000")
        assert properties["heading_from"] == "retrieval"
        assert properties["heading"] % (360 / SECTORS) == 0
        candidate = properties["candidates"][0]
        assert place["geometry"]["coordinates"] == pytest.approx(
            [candidate["longitude"], candidate["latitude"]], abs=1e-7
        )
        assert properties["error_m"] is None and properties["position_from"] == "tile"
    text = text_of(output / "report.html")
    assert "Most similar tiles" in text and "Recall and places" not in text

    table = tmp_path / "places.csv"
    table.write_text("0.jpg,39.0,-93.0,90\n1.jpg,39.0,-93.0\n")
    cross_view.main([*arguments, "--output", str(output), "--table", str(table)])
    sources = [p["properties"]["heading_from"] for p in read_geojson(output / "queries.geojson")]
    assert sources == ["given", "retrieval"]
    assert all(p["properties"]["error_m"] >= 0 for p in read_geojson(output / "queries.geojson"))
    cross_view.main([*arguments, "--output", str(output), "--table", str(table), "--unknown_heading"])
    found = read_geojson(output / "queries.geojson")
    assert {p["properties"]["heading_from"] for p in found} == {"retrieval"}

    with pytest.raises(InputError, match="make the index again"):
        cross_view.main([*arguments[:-1], str(weights["ssa"]), "--output", str(output)])
    with pytest.raises(InputError, match="need a network that draws"):
        cross_view.main([*arguments, "--output", str(output), "--pose"])


@needs_timm
def test_weights_of_tiles_alone_cannot_find_photos(data, tmp_path):
    file = str(write_random_weights(tmp_path / "aerial.safetensors", "aerial"))
    cross_view.main(["index", "--data", str(data), "--weights", file, "--output", str(tmp_path / "index")])
    arguments = ["query", "--index", str(tmp_path / "index"), "--images", str(data), "--weights", file]
    with pytest.raises(InputError, match="describe tiles only"):
        cross_view.main([*arguments, "--output", str(tmp_path)])


@needs_timm
def test_vigor_has_a_hit_rate(tmp_path, weights):
    write_vigor(tmp_path / "vigor", columns=4)
    file = str(weights["students"])
    arguments = ["evaluate", "--data", str(tmp_path / "vigor"), "--area", "cross", "--weights", file]
    cross_view.main([*arguments, "--output", str(tmp_path / "out"), "--fov", "360", "--headings", "known"])
    (found,) = json.loads((tmp_path / "out" / "results.json").read_text())["retrieval"]
    assert found["method"] == "students" and found["num_references"] == 32
    assert found["recall"]["optimistic"]["1"] <= found["hit_rate"] <= 1


@needs_timm
def test_networks_that_have_seen_the_test_set_are_refused(data, tmp_path):
    file = write_random_weights(tmp_path / "seen.safetensors", "students", provenance=("cvusa/test",))
    arguments = ["--data", str(data), "--weights", str(file), "--output", str(tmp_path / "out")]
    with pytest.raises(InputError, match="was trained with cvusa/test"):
        cross_view.main(["evaluate", *arguments])


@needs_timm
def test_poses_need_ssa(data, weights, tmp_path):
    arguments = ["--data", str(data), "--weights", str(weights["students"]), "--output", str(tmp_path)]
    with pytest.raises(InputError, match="--pose needs weights of SSA"):
        cross_view.main(["evaluate", *arguments, "--pose", "--fov", "360"])


class Recipes:
    """Stands for the trainings: notes what they are told, and writes networks that were not trained."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.calls: list[tuple[str, dict[str, str]]] = []
        for name in ("cross_view_teacher", "distill4geo", "distill4geo_infonce", "ssa"):
            (folder / f"{name}_small.yaml").write_text(f"recipe: {name}\n")
        monkeypatch.setattr(cross_view_training.training, "main", self.main)

    def main(self, recipe: Path, overrides: list[str]) -> Path:
        options = dict(option.split("=", 1) for option in overrides)
        self.calls.append((recipe.stem, options))
        kind = {"cross_view_teacher_small": "shared", "ssa_small": "ssa"}.get(recipe.stem, "students")
        path = Path(options["output"]) / "weights.safetensors"
        return write_random_weights(path, kind, "polar", ("cvusa/train",))


@needs_timm
def test_train_runs_the_recipes_in_order_and_evaluates(data, tmp_path, monkeypatch):
    recipes = Recipes(monkeypatch, tmp_path)
    arguments = ["train", "--data", str(data), "--output", str(tmp_path / "out"), "--configs", str(tmp_path)]
    arguments += ["--models", "distill4geo", "ssa", "ssa-retrieval", "--options", "students.trainer.steps=7"]
    cross_view.main([*arguments, "--fov", "360", "--headings", "known", "--pose_queries", "2"])
    names = [name for name, _ in recipes.calls]
    assert names == ["cross_view_teacher_small", "distill4geo_small", "ssa_small", "ssa_small"]
    teacher, students, ssa, retrieval = (options for _, options in recipes.calls)
    assert students["teacher"] == str(tmp_path / "out" / "teacher" / "weights.safetensors")
    assert students["trainer.steps"] == "7" and "trainer.steps" not in teacher
    assert {o["data.root"] for _, o in recipes.calls} == {str(data)}
    assert ssa["data.labels"] == str(data / "tile_labels") and "loss.semantic" not in ssa
    assert retrieval["loss.semantic"] == "0"
    found = json.loads((tmp_path / "out" / "evaluation" / "results.json").read_text())
    assert [row["method"] for row in found["retrieval"]] == ["teacher", "students", "ssa", "ssa-retrieval"]
    assert set(found["poses"]) == {f"{name}, 360°, known heading" for name in ("ssa", "ssa-retrieval")}


@needs_timm
def test_all_of_a_tile_of_vigor_is_looked_at(tmp_path, monkeypatch):
    recipes = Recipes(monkeypatch, tmp_path)
    write_vigor(tmp_path / "vigor", columns=3)
    (tmp_path / "labels").mkdir()
    arguments = ["train", "--data", str(tmp_path / "vigor"), "--area", "cross", "--configs", str(tmp_path)]
    arguments += ["--output", str(tmp_path / "out"), "--labels", str(tmp_path / "labels")]
    cross_view.main([*arguments, "--models", "distill4geo", "ssa", "--no_evaluation"])
    teacher, students, ssa = (options for _, options in recipes.calls)
    assert teacher["encoder.aerial_crop"] == students["student.aerial_crop"] == "1"
    assert ssa["network.bev.extent"] == "1" and ssa["data.area"] == "cross"
    assert ssa["data.layout"] == "vigor" and ssa["data.labels"] == str(tmp_path / "labels")


@pytest.mark.slow
@needs_timm
def test_the_recipes_of_the_repository_run_from_one_command(tmp_path, data):
    """Teacher, students and SSA for a few steps each, then their evaluation; nothing stands for anything."""
    steps = ("trainer.steps=2", "trainer.batch_size=4", "trainer.workers=0", "data.val_share=0")
    options = [f"{step}.{option}" for step in ("teacher", "students", "ssa") for option in steps]
    options += [f"{step}.trainer.ema=0" for step in ("teacher", "students", "ssa")]
    for encoder in ("teacher.encoder", "students.student", "ssa.network.encoder"):
        options += [f"{encoder}.ground_size=[32,192]", f"{encoder}.aerial_size=[64,64]"]
    arguments = ["train", "--data", str(data), "--output", str(tmp_path), "--models", "distill4geo", "ssa"]
    arguments += ["--fov", "360", "--headings", "known", "--pose_queries", "2", "--pictures", "1"]
    cross_view.main([*arguments, "--options", *options])
    found = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert {row["method"] for row in found["retrieval"]} == {"teacher", "students", "ssa"}
    assert "Bird&#x27;s-eye views" in text_of(tmp_path / "evaluation" / "report.html")


@needs_timm
def test_a_teacher_can_be_given(data, tmp_path, monkeypatch):
    recipes = Recipes(monkeypatch, tmp_path)
    teacher = write_random_weights(tmp_path / "teacher.safetensors", "shared", "polar", ("cvusa/train",))
    arguments = ["train", "--data", str(data), "--output", str(tmp_path / "out"), "--configs", str(tmp_path)]
    cross_view.main([*arguments, "--teacher", str(teacher), "--no_evaluation"])
    ((name, options),) = recipes.calls
    assert (name, options["teacher"]) == ("distill4geo_small", str(teacher))


@needs_timm
def test_a_public_teacher_is_rewritten_with_what_it_has_seen(data, tmp_path, monkeypatch):
    recipes, network = Recipes(monkeypatch, tmp_path), random_network("shared")
    monkeypatch.setattr(
        cross_view_training, "load_teacher", lambda path, name: (network, PUBLIC_TRAINING[name])
    )
    arguments = ["train", "--data", str(data), "--output", str(tmp_path / "out"), "--configs", str(tmp_path)]
    arguments += ["--teacher", str(tmp_path / "weights_e40.pth"), "--trained_on", "cvusa"]
    cross_view.main([*arguments, "--no_evaluation"])
    written = Path(recipes.calls[0][1]["teacher"])
    assert written == tmp_path / "out" / "teacher" / "weights.safetensors"
    assert load_cross_view(written)[1].provenance == PUBLIC_TRAINING["cvusa"]


def test_options_of_no_step_are_refused(data, tmp_path):
    arguments = ["train", "--data", str(data), "--output", str(tmp_path)]
    with pytest.raises(InputError, match="belong to none of the steps"):
        cross_view.main([*arguments, "--options", "trainer.steps=7"])
    with pytest.raises(MissingInputError, match=r"cross_view_teacher_small\.yaml does not exist"):
        cross_view.main([*arguments, "--configs", str(tmp_path)])


def test_methods_have_names():
    assert parse_methods(["a=x.st,y.st", "b.safetensors"]) == {
        "a": [Path("x.st"), Path("y.st")],
        "b": [Path("b.safetensors")],
    }
    with pytest.raises(InputError, match="Two of the methods"):
        parse_methods(["a/w.st", "b/w.st"])


def test_queries_without_a_tile_are_left_out_and_no_tile_is():
    pairs = made_set([2, -1, 0], 4)
    chosen = evaluable(pairs)
    assert chosen.positives.tolist() == [2, 0] and len(chosen.aerials) == 4
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluable(made_set([-1], 4))
    some = limited(made_set(list(range(50)), 50), 10, seed=3)
    assert len(some) == 10 and len(some.aerials) == 50
    assert [path.name for path in some.grounds] == [f"g{tile}.jpg" for tile in some.positives]


def test_the_recall_curve_passes_through_the_recall():
    ranks = dataclasses.replace(
        make_ranks(0, 0), greater=np.array([0, 0, 4, 9]), tied=np.array([0, 2, 0, 0]), num_references=10
    )
    optimistic, pessimistic = recall_chart({"a": ranks})["data"]
    share = dict(zip(optimistic["x"].tolist(), optimistic["y"].tolist(), strict=True))
    assert (share[1], share[4], share[5], share[10]) == (50, 50, 75, 100)
    assert pessimistic["y"][0] == 25 and pessimistic["line"]["dash"] == "dot"


def test_embeddings_are_principal_components():
    rows = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32) * [9, 1, 4, 1, 1]
    plane = embed(rows)
    centred = rows - rows.mean(0)
    np.testing.assert_allclose(
        plane.var(0), np.sort(np.linalg.eigvalsh(np.cov(centred.T, bias=True)))[:-3:-1], rtol=1e-6
    )
    with pytest.raises(InputError, match="pca or umap"):
        embed(rows, "tsne")
    if importlib.util.find_spec("umap") is None:
        with pytest.raises(InputError, match="pip install umap-learn"):
            embed(rows, "umap")


def test_pictures(tmp_path):
    write_picture(tmp_path / "ground.jpg", 400, 80)
    write_picture(tmp_path / "tile.png", 64, 64)
    picture = top_tiles(
        tmp_path / "ground.jpg", [tmp_path / "tile.png", tmp_path / "gone.png"], [(0, 255, 0), (255, 0, 0)]
    )
    assert picture.shape == (186 + 8 + 180, 932, 3)
    assert picture[200, 2].tolist() == [0, 255, 0] and picture[200, 190].tolist() == [255, 0, 0]
    assert picture[300, 278].tolist() == [200, 200, 200]  # of a tile whose file is gone
    classes = np.array([[1, 3], [255, 5]])
    assert class_picture(classes, 4)[0, 0].tolist() == [96, 96, 96]
    assert class_picture(classes, 4)[3, 0].tolist() == [0, 0, 0]


def test_tables_as_markdown():
    from hloc_ext.report import Table

    text = markdown(Table("T", ["method", "a", "b"], [["x", 3, 2.34567], ["y", None, float("nan")]], "Note."))
    assert "| x | 3 | 2.35 |" in text and "| y | – | – |" in text and text.endswith("Note.\n")


def test_the_data_set_of_the_tests_is_one(data):
    assert len(open_set(data, "test")) == 6
