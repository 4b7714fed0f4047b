"""The problems and tables of the benchmark of GIS registration."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest

if not all(importlib.util.find_spec(name) for name in ("rasterio", "pyogrio", "geopandas", "shapely")):
    pytest.skip("the extra gis is not installed", allow_module_level=True)

import cv2
import numpy as np

from benchmarks.gis import calibrate, comparison, large, real
from benchmarks.gis.__main__ import build_parser, run
from benchmarks.gis.problems import (
    KINDS,
    MAX_SCALE,
    PRIOR,
    SIDE,
    City,
    Problem,
    exchanged,
    mask_problems,
)
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.evaluation.registration import IGNORED, class_iou
from hloc_ext.gis.export import corrected_layers
from hloc_ext.gis.raster import metric_grid, open_raster
from hloc_ext.gis.registration.evidence import WEIGHTS, Evidence
from hloc_ext.gis.registration.gradient_fields import class_picture, image_picture
from hloc_ext.gis.registration.prior import similarity_of
from hloc_ext.gis.vector import read_layers
from tests.gis.registration.town import draw_town, photograph
from tests.gis.scenes import write_tiff
from tests.gis.town_scene import ANCHOR, PIXEL, SIZE, write_town


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> City:
    """A town in the layout of the city's set; both its scenes are right."""
    root = tmp_path_factory.mktemp("city")
    (root / "city").mkdir()
    image, _ = write_town(root / "city", None)
    image.rename(root / "city" / "ortho.tif")
    for number, imagery in enumerate(("ortho", "generated")):
        folder = root / "scenes" / f"{number:05d}"
        folder.mkdir(parents=True)
        write_tiff(folder / "image.tif", photograph(draw_town(SIZE)))
        cv2.imwrite(str(folder / "labels.png"), draw_town(SIZE))
        left, top = ANCHOR + np.array([-SIZE, SIZE]) * PIXEL / 2
        truth = {"imagery": imagery, "true_from_pixel": [[PIXEL, 0, left], [0, -PIXEL, top], [0, 0, 1]]}
        (folder / "truth.json").write_text(json.dumps(truth))
    return City(root)


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_of_a_problem_puts_classes_upon_each_other(city: City, kind: str) -> None:
    problem, again = (city.problems(kind, 3, 7)[2]() for _ in range(2))
    np.testing.assert_array_equal(problem.map.pixels, again.map.pixels)
    assert problem.map.shape == (SIDE, SIDE)
    iou = class_iou(problem.image_classes, problem.overlap_classes(problem.truth))
    assert np.nanmin(iou[[1, 3, 4]]) > 0.85
    found = similarity_of(problem.truth, ((SIZE - 1) / 2, (SIZE - 1) / 2))
    assert found.scale == pytest.approx(PIXEL / problem.pixel_size)
    center = found.matrix() @ ((SIZE - 1) / 2, (SIZE - 1) / 2, 1)
    assert np.abs(center - (SIDE - 1) / 2).max() <= 0.25 * SIDE * math.sqrt(2)


def test_headings_and_scales_are_spread(city: City) -> None:
    found = [similarity_of(make().truth, (0.0, 0.0)) for make in city.problems("image ↔ layers", 12, 3)]
    assert np.ptp([f.angle for f in found]) > math.pi
    scales = [f.scale for f in found]
    assert min(scales) < 0.8 and max(scales) > 1.25
    assert min(scales) >= 1 / MAX_SCALE and max(scales) <= MAX_SCALE
    assert PRIOR.max_scale >= MAX_SCALE


def test_a_mirrored_map_has_no_right_answer(city: City) -> None:
    problem = city.problems("image ↔ layers", 1, 7)[0]()
    mirrored = city.problems("image ↔ layers", 1, 7, mirrored=True)[0]()
    assert problem.map.shape == mirrored.map.shape
    assert not np.array_equal(problem.map.pixels, mirrored.map.pixels)


def test_masks_are_in_the_frame_of_the_map(tmp_path: Path) -> None:
    for kind, content in (("images", photograph(draw_town(SIZE))), ("labels", draw_town(SIZE))):
        folder = tmp_path / "tugraz_drone" / kind
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.png"), content)
    problem = mask_problems(tmp_path, "tugraz_drone", 2, 1)[1]()
    seen = problem.overlap_classes(problem.truth)
    assert (seen == IGNORED).any()
    assert np.nanmin(class_iou(problem.image_classes, seen)[[1, 3]]) > 0.8


def identical_problem() -> Problem:
    labels = draw_town(160)
    return Problem(
        "a",
        "same",
        image_picture(photograph(labels)),
        class_picture(labels),
        np.eye(3),
        labels,
        labels,
        0.5,
    )


def test_outcomes_and_their_table() -> None:
    class Truth:
        name = "truth"

        def register(self, picture0, picture1, prior):
            from hloc_ext.gis.registration.matching import Hypothesis

            return [Hypothesis(np.eye(3), self.name, 1.0)]

    class Nothing(Truth):
        name = "nothing"

        def register(self, picture0, picture1, prior):
            return []

    rows: list[dict[str, object]] = []
    methods = {"truth": Truth(), "nothing": Nothing()}
    table = comparison.compare(methods, {"same": [identical_problem] * 2}, "x", rows.append)
    right, nothing = table.rows
    assert (right["success %"], right["similarity %"], right["median px"]) == (100, 100, 0)
    assert (nothing["success %"], nothing["similarity %"], nothing["median px"]) == (0, 0, math.inf)
    assert rows == table.rows and "| truth" in table.markdown()


def test_margins_against_the_others() -> None:
    row = {"similarity %": 90.0, "CPU s": 1.0}
    rows = {
        "sift": row | {"similarity %": 20.0},
        "orb": row | {"similarity %": 30.0},
        comparison.SEARCH: row | {"similarity %": 80.0, "CPU s": 4.0},
        comparison.OURS: row,
    }
    first, second = comparison._margins("image", rows)
    assert "+60.0 points against orb" in first
    assert "+10.0 points" in second and "0.25 of its time" in second


def test_bounds_of_false_accepts() -> None:
    row = comparison._negative_row("all", 200, 0, 0.1)
    assert row["at most %"] == pytest.approx(100 * (1 - 0.05 ** (1 / 200)))
    assert comparison._negative_row("all", 2, 2, 1.0)["at most %"] == 100


def test_exchanged_maps_are_those_of_the_others(city: City) -> None:
    first, second = (city.problems(kind, 2, 7) for kind in ("image ↔ image", "image ↔ layers"))
    found, image, layers = exchanged(first, second)[1](), first[1](), second[1]()
    np.testing.assert_array_equal(found.image.pixels, image.image.pixels)
    np.testing.assert_array_equal(found.map.pixels, layers.map.pixels)
    np.testing.assert_array_equal(found.map_classes, layers.map_classes)


def test_report_of_a_calibration() -> None:
    good, bad = Evidence(0.5, 40.0, 4.0, 0.9, 80, 30, 1.0), Evidence(0.05, 2.0, 0.5, 0.02, 1, 1, 1.0)
    text = calibrate.report([good, good, bad, bad, good], [True, True, False, False, False], WEIGHTS)
    assert text.startswith("accepted: 2 of 2 right ones, 1 of 3 wrong ones")


def test_real_layers_are_moved_by_a_known_error(tmp_path: Path) -> None:
    image, layers = write_town(tmp_path, None)
    grid = metric_grid(open_raster(image))
    error = real.random_error(grid, 1, 0)
    assert not np.allclose(error.matrix, real.random_error(grid, 1, 1).matrix)
    original = read_layers(layers)
    displaced = corrected_layers(original, error)
    before = real.residuals(original, displaced, grid)
    after = real.residuals(original, corrected_layers(displaced, error.inverse()), grid)
    assert before.mean() > 1 and after.max() < 1e-6


def test_the_large_image_is_right_by_construction(tmp_path: Path) -> None:
    image, layers, correction = large.make(tmp_path, 600, 60, 3)
    raster = open_raster(image)
    assert (raster.width, raster.height) == (600, 600)
    (wrong,) = read_layers(layers)
    (right,) = corrected_layers([wrong], correction)
    assert len(right.frame) == 60
    picture = raster.read()[0].astype(float)
    inside = []
    for shape in right.frame.geometry:
        x, y = (np.array(shape.centroid.coords[0]) - large.ORIGIN) * (1, -1) / large.PIXEL
        part = picture[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].reshape(-1, 3)
        inside.append(part.std(axis=0).max())
    assert np.max(inside) < 1  # one colour: the roof


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    parse = build_parser().parse_args
    with pytest.raises(InputError, match="--city"):
        run(parse(["--parts", "city", "--methods", "sift"]))
    with pytest.raises(MissingInputError, match="gis"):
        run(parse(["--parts", "city", "--methods", "sift", "--city", str(tmp_path)]))
