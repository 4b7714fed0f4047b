"""The pipeline on a small town whose layers are wrong by a known error."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

if not all(importlib.util.find_spec(name) for name in ("rasterio", "pyogrio", "geopandas", "shapely")):
    pytest.skip("the extra gis is not installed", allow_module_level=True)

import cv2
import numpy as np
import pyogrio
import shapely

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.gis.align import AlignmentRefusedError
from hloc_ext.gis.export import corrected_layers, write_layers
from hloc_ext.gis.raster import open_raster
from hloc_ext.gis.transform import Alignment
from hloc_ext.gis.vector import read_layers
from pipelines.gis_alignment import layers_of, main
from tests.gis.registration.town import draw_town, moved, photograph, similarity
from tests.gis.scenes import write_tiff
from tests.gis.town_scene import ANCHOR, ERROR, PIXEL, SIZE, UTM, town_layers, write_town

#: The search alone: KD-Mamba is not needed here.
QUICK = ["--method", "gradient", "--model", "similarity"]


def run(image: Path, layers: Path, outputs: Path, *options: str) -> dict[str, Any]:
    main(["--image", str(image), "--layers", str(layers), "--outputs", str(outputs), *QUICK, *options])
    return json.loads((outputs / "result.json").read_text(encoding="utf-8"))


def distances(layers: Path) -> np.ndarray:
    """How far the vertices of layers are from where they should be, metres; layers keep their order."""
    right = town_layers(draw_town(SIZE))
    pairs = zip(right, read_layers(layers), strict=True)
    return np.concatenate(
        [
            np.linalg.norm(
                shapely.get_coordinates(a.frame.geometry.to_numpy())
                - shapely.get_coordinates(b.frame.geometry.to_numpy()),
                axis=1,
            )
            for a, b in pairs
        ]
    )


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    write_town(folder)
    return folder


@pytest.fixture(scope="module")
def done(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("outputs") / "out"
    run(town / "image.tif", town / "layers.gpkg", outputs, "--image_classes", str(town / "labels.tif"))
    return outputs


def test_layers_are_corrected_to_a_fraction_of_a_pixel(town: Path, done: Path) -> None:
    assert distances(town / "layers.gpkg").mean() > 5
    assert distances(done / "layers" / "layers.gpkg").mean() < 0.5 * PIXEL
    found = Alignment.load(done / "alignment.json")
    rest = found.matrix @ ERROR.matrix
    assert found.crs == UTM and np.abs(rest - np.eye(3))[:2, 2].max() < 0.3
    assert abs(np.degrees(np.arctan2(rest[1, 0], rest[0, 0]))) < 0.1


def test_attributes_and_layers_are_kept(town: Path, done: Path) -> None:
    for before, after in zip(
        read_layers(town / "layers.gpkg"), read_layers(done / "layers" / "layers.gpkg"), strict=True
    ):
        assert (before.name, before.crs) == (after.name, after.crs)
        assert list(before.frame["number"]) == list(after.frame["number"])


def test_the_corrected_image_fits_the_layers_as_they_were(town: Path, done: Path) -> None:
    raster = open_raster(done / "image.tif")
    center = raster.grid.center
    assert np.linalg.norm(ERROR.map_points(ANCHOR[None])[0] - center) < 0.3
    np.testing.assert_array_equal(raster.read()[0], open_raster(town / "image.tif").read()[0])
    lines = (done / "image.points").read_text().splitlines()
    assert lines[0].startswith("#CRS: ") and len(lines) == 27


def test_result_and_report_tell_what_was_done(done: Path) -> None:
    record = json.loads((done / "result.json").read_text())
    assert (record["status"], record["model"], record["unit"]) == ("corrected", "similarity", "m")
    assert record["evidence"]["probability"] > 0.5 and record["moved_mean"] > 5
    for name, (before, after) in record["border_agreement"].items():
        assert after > before, name
    for name in ("building", "road"):
        before, after = record["iou"][name]
        assert before < 0.6 < 0.9 < after
    html = (done / "report.html").read_text()
    assert html.count('class="swipe"') == 1 and html.count('type="range"') == 1
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    assert "claimed corrected" in text and "IoU before" in text
    for name in ("before.png", "after.png"):
        assert cv2.imread(str(done / name)).shape == (SIZE, SIZE, 3)


def test_aligning_the_output_again_moves_nothing(town: Path, done: Path, tmp_path: Path) -> None:
    again = run(
        town / "image.tif", done / "layers" / "layers.gpkg", tmp_path / "again", "--correct", "layers"
    )
    assert again["status"] == "aligned" and again["moved_max"] < 0.5 * PIXEL
    one, other = (
        pyogrio.read_dataframe(folder / "layers" / "layers.gpkg", layer="buildings").geometry
        for folder in (done, tmp_path / "again")
    )
    assert shapely.equals_identical(one.to_numpy(), other.to_numpy()).all()
    assert not (tmp_path / "again" / "image.tif").exists()


def test_a_finished_run_is_not_repeated(town: Path, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (done / "layers" / "layers.gpkg").stat().st_mtime_ns
    run(town / "image.tif", town / "layers.gpkg", done, "--image_classes", str(town / "labels.tif"))
    assert (done / "layers" / "layers.gpkg").stat().st_mtime_ns == before
    assert "up to date" in capsys.readouterr().out


def test_another_place_is_refused_and_nothing_of_an_earlier_run_stays(town: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "out"
    (outputs / "layers").mkdir(parents=True)
    for name in ("result.json", "alignment.json", "image.tif", "after.png", "layers/layers.gpkg"):
        (outputs / name).write_text("{}")
    (tmp_path / "other").mkdir()
    image, _ = write_town(tmp_path / "other", None, seed=5)
    with pytest.raises(AlignmentRefusedError, match="evidence is too weak") as refused:
        run(image, town / "layers.gpkg", outputs)
    assert "report.html" in str(refused.value) and "max_shift" in str(refused.value)
    assert sorted(path.name for path in outputs.iterdir()) == [
        "before.png",
        "inputs.json",
        "report.html",
        "result.json",
        "stages.json",
    ]
    assert json.loads((outputs / "result.json").read_text())["status"] == "refused"


def test_a_batch_goes_on_after_an_error(town: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.tif").write_bytes((town / "image.tif").read_bytes())
    (tmp_path / "images" / "b.tif").write_bytes(b"no raster")
    arguments = ["--batch", str(tmp_path / "images"), "--layers", str(town / "layers.gpkg"), "--outputs"]
    with pytest.raises(AlignmentRefusedError, match="1 of 2 images"):
        main([*arguments, str(tmp_path / "out"), *QUICK, "--correct", "layers"])
    records = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(r["name"], r["status"]) for r in records] == [("a.tif", "corrected"), ("b.tif", "error")]
    assert "damaged" in records[1]["remark"]
    assert distances(tmp_path / "out" / "a" / "layers" / "layers.gpkg").mean() < 0.5 * PIXEL


def test_layers_called_like_an_image_are_for_it_alone(tmp_path: Path) -> None:
    for name in ("a.gpkg", "b.gpkg", "a.txt"):
        (tmp_path / name).touch()
    assert layers_of(Path("images/a.tif"), [tmp_path]) == [tmp_path / "a.gpkg"]
    assert layers_of(Path("images/c.tif"), [tmp_path]) == [tmp_path]


def test_a_picture_and_a_mask_without_any_place(tmp_path: Path) -> None:
    labels = draw_town(SIZE)
    cv2.imwrite(str(tmp_path / "photo.png"), photograph(labels)[..., ::-1])
    mask, _ = moved(labels, similarity(0.0, 1.0, (9.0, -7.0)))
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    limits = ["--max_rotation", "5", "--max_scale", "1.1", "--max_shift", "30"]
    record = run(tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "out", *limits)
    assert record["unit"] == "px" and record["parameters"]["east"] == pytest.approx(-9, abs=0.5)
    assert record["parameters"]["north"] == pytest.approx(-7, abs=0.5)
    corrected = cv2.imread(str(tmp_path / "out" / "layers" / "mask.png"), cv2.IMREAD_GRAYSCALE)
    known = np.s_[20:-20, 20:-20]
    assert (corrected[known] == labels[known]).mean() > 0.97
    assert not (tmp_path / "out" / "image.tif").exists()


def test_a_picture_without_a_place_is_put_upon_the_layers(town: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), photograph(draw_town(SIZE))[..., ::-1])
    (tmp_path / "right").mkdir()
    _, layers = write_town(tmp_path / "right", None)
    options = ["--max_rotation", "5", "--max_scale", "1.2", "--correct", "image"]
    record = run(tmp_path / "photo.png", layers, tmp_path / "out", *options)
    assert record["nominal_place"]
    corners = open_raster(tmp_path / "out" / "image.tif").grid.corners
    expected = open_raster(town / "image.tif").grid.corners
    assert np.linalg.norm(corners - expected, axis=1).max() < 2 * PIXEL
    assert not (tmp_path / "out" / "layers").exists()


def test_unusable_input_is_named(town: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"nowhere\.tif"):
        run(tmp_path / "nowhere.tif", town / "layers.gpkg", tmp_path / "out")
    with pytest.raises(InputError, match="output folder"):
        run(town / "image.tif", town / "layers.gpkg", town)
    plain = write_tiff(tmp_path / "plain.tif", photograph(draw_town(SIZE)), crs=None)
    with pytest.raises(InputError, match="image_crs"):
        run(plain, town / "layers.gpkg", tmp_path / "out")
    with pytest.raises(InputError, match="km away"):
        run(town / "image.tif", town / "layers.gpkg", tmp_path / "out", "--image_crs", "EPSG:32633")
    with pytest.raises(InputError, match="factor of 1 or more"):
        run(town / "image.tif", town / "layers.gpkg", tmp_path / "out", "--max_scale", "0.5")


def test_evaluation_of_a_set_with_known_errors(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "scenes" / "00000"
    folder.mkdir(parents=True)
    write_town(folder, None)
    labels = draw_town(SIZE)
    cv2.imwrite(str(folder / "labels.png"), labels)
    write_layers(corrected_layers(town_layers(labels), ERROR), folder / "layers.gpkg")
    # The layers count as true: then the image is wrong by what they are moved by.
    truth = {
        "split": "test",
        "imagery": "ortho",
        "parameters": {"model": "similarity"},
        "true_offset_from_claimed_offset": ERROR.matrix.tolist(),
        "anchor": ANCHOR.tolist(),
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    main(["evaluate", "--data", str(tmp_path / "data"), "--outputs", str(tmp_path / "out"), *QUICK])
    (record,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["success"] and record["status"] == "corrected"
    assert record["before_pixels"] > 10 > 1 > record["error_pixels"]
    assert record["similarity"] > 0.95
    assert "ortho, similarity" in (tmp_path / "out" / "results.md").read_text()
    assert 'class="swipe"' in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(MissingInputError, match="split 'val'"):
        main(
            ["evaluate", "--data", str(tmp_path / "data"), "--outputs", str(tmp_path / "o"), "--split", "val"]
        )
