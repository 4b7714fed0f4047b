from __future__ import annotations

import sys
import types

import cv2
import numpy as np
import pytest

from hloc_ext.errors import InputError
from hloc_ext.evaluation.homography import corner_error
from hloc_ext.gis.registration import evidence, matching, refinement
from hloc_ext.gis.registration.evidence import Evidence, calibrate, collect, probability
from hloc_ext.gis.registration.gradient_fields import class_picture, image_picture
from hloc_ext.gis.registration.gradient_search import DEFAULT, QUICK
from hloc_ext.gis.registration.matching import (
    METHODS,
    GradientMethod,
    Hypothesis,
    StagedMethod,
    ThoroughSearch,
    UnavailableMethodError,
    ecc,
    get_method,
)
from hloc_ext.gis.registration.prior import Prior
from hloc_ext.gis.registration.refinement import HOPELESS, STEPS, refine
from hloc_ext.gis.registration.register import intersection_over_union, register, select
from hloc_ext.gis.registration.scene import DisplacementField, PictureSource, Window, register_scene

from .test_gradient_search import FAST
from .town import draw_town, moved, photograph, similarity

SIZE = (320, 320)
HOMOGRAPHY = np.array([[1.03, 0.05, -6.0], [-0.06, 0.98, 9.0], [2e-4, -1e-4, 1]])
AFFINE = np.array([[1.06, 0.08, -12.0], [-0.02, 0.95, 8.0], [0, 0, 1.0]])


@pytest.fixture(scope="module")
def town():
    labels = draw_town()
    return labels, image_picture(photograph(labels))


@pytest.mark.parametrize(
    ("truth", "model", "limit"),
    [
        (similarity(4, 1.03, (5, -3)), "similarity", 0.7),
        (AFFINE, "affine", 0.8),
        (HOMOGRAPHY, "homography", 1.2),
    ],
)
def test_refinement_finds_the_model(town, truth: np.ndarray, model: str, limit: float) -> None:
    labels, image = town
    chart = class_picture(*moved(labels, truth))
    start = similarity(0, 1, (3, 3)) @ truth if model == "similarity" else similarity(1.5, 1.01, (0, 1))
    found = refine(image, chart, start)
    assert found.model == model
    assert corner_error(found.matrix, truth, SIZE) < limit < corner_error(start, truth, SIZE)
    assert found.estimate is not None and found.estimate.residual < 1
    again = refine(image, chart, found.matrix)
    assert corner_error(again.matrix, found.matrix, SIZE) < 0.5  # nothing is left to move


def test_a_model_that_is_asked_for(town) -> None:
    labels, image = town
    truth = similarity(0, 1, (7, -5))
    found = refine(image, class_picture(*moved(labels, truth)), np.eye(3), "translation")
    np.testing.assert_allclose(found.matrix[:2, :2], np.eye(2))
    assert corner_error(found.matrix, truth, SIZE) < 0.5


def test_register_and_refuse(town) -> None:
    labels, image = town
    truth = similarity(-100, 0.75, (15, 25))
    chart = class_picture(*moved(labels, truth))
    found = register(image, chart, method=GradientMethod(config=FAST))
    assert found.accepted and found.evidence.probability > 0.9
    assert corner_error(found.matrix, truth, SIZE) < 1.5
    assert found.method == "gradient" and found.residual < 1.5 and found.covariance is not None
    elsewhere = register(
        image_picture(photograph(draw_town(seed=5))), chart, method=GradientMethod(config=FAST)
    )
    assert not elsewhere.accepted
    assert elsewhere.evidence.probability < 0.5 < found.evidence.probability
    flat = register(
        image_picture(np.full((100, 100), 9, np.uint8)), chart, method=GradientMethod(config=FAST)
    )
    assert not flat.accepted


class Counted:
    """Proposes one transform, and counts how often it is asked."""

    name = "counted"

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix, self.calls = matrix, 0

    def register(self, picture0, picture1, prior) -> list[Hypothesis]:
        self.calls += 1
        return [Hypothesis(self.matrix, self.name, 1.0)]


def test_later_stages_are_asked_only_in_doubt(town) -> None:
    labels, image = town
    truth = similarity(4, 1.03, (5, -3))
    chart = class_picture(*moved(labels, truth))
    near, far = similarity(0.5, 1, (1, 1)) @ truth, similarity(150, 1, (30, 0))
    right, unused = Counted(near), Counted(far)
    found = register(image, chart, method=StagedMethod("two", (right, unused)))
    assert found.accepted and (right.calls, unused.calls) == (1, 0)
    assert len(found.hypotheses) == 1
    wrong, rescue = Counted(far), Counted(near)
    found = register(image, chart, method=StagedMethod("two", (wrong, rescue)))
    assert (wrong.calls, rescue.calls) == (1, 1) and len(found.hypotheses) == 2
    assert found.accepted and corner_error(found.matrix, truth, SIZE) < 1.5


def test_the_thorough_search_adds_nothing_to_narrow_ones(town, monkeypatch: pytest.MonkeyPatch) -> None:
    _, image = town
    taken = []

    def search(picture0, picture1, prior, config):
        taken.append(config)
        return []

    monkeypatch.setattr(matching, "search", search)
    for prior in (Prior(), Prior(max_rotation=10.0)):
        for method in (GradientMethod(), ThoroughSearch()):
            method.register(image, image, prior)
    assert taken == [QUICK, DEFAULT, DEFAULT]


def test_refinement_of_a_hopeless_hypothesis_ends_early(town, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, _ = town
    sizes = []
    original = refinement.match_patches

    def counted(picture0, picture1, matrix, size, patch, reach):
        sizes.append(size)
        return original(picture0, picture1, matrix, size, patch, reach)

    monkeypatch.setattr(refinement, "match_patches", counted)
    empty = image_picture(np.full((320, 320), 100, np.uint8))
    found = refine(empty, class_picture(labels), np.eye(3))
    assert found.estimate is None and len(sizes) == HOPELESS < len(STEPS)


def test_wrong_arguments(town) -> None:
    _, image = town
    with pytest.raises(InputError, match="model"):
        register(image, image, model="spline")
    with pytest.raises(InputError, match="method"):
        register(image, image, method="magic")
    with pytest.raises(InputError, match="The map has no pixels"):
        register(image, image_picture(np.zeros((64, 64), np.uint8), np.zeros((64, 64), bool)))


@pytest.mark.parametrize("name", ["sift", "orb", "akaze", "phase", "ecc", "kd-mamba"])
def test_baselines_register_an_image_to_itself_shifted(town, name: str) -> None:
    labels, _ = town
    truth = similarity(0, 1, (9, -6))
    other = image_picture(photograph(moved(labels, truth)[0], seed=1))
    plain = image_picture(photograph(labels, seed=1))
    prior = Prior(np.eye(3), max_rotation=10, max_scale=1.1, max_shift=30)
    found = get_method(name).register(plain, other, prior)
    assert [h.method for h in found] == [name]
    assert corner_error(found[0].matrix, truth, SIZE) < 3


def test_what_the_prior_excludes_is_no_hypothesis(town) -> None:
    labels, _ = town
    turned = image_picture(photograph(moved(labels, similarity(90, 1, (0, 0)))[0], seed=1))
    plain = image_picture(photograph(labels, seed=1))
    assert get_method("sift").register(plain, turned, Prior())
    assert get_method("sift").register(plain, turned, Prior(max_rotation=20)) == []
    refused = register(plain, turned, Prior(max_rotation=20), method="sift")
    assert not refused.accepted and refused.hypotheses == ()


def test_arosics_through_files(town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the interface of AROSICS 1.13 finds by phase what AROSICS would."""
    rasterio = pytest.importorskip("rasterio")

    class Search:
        shift_reliability = 80.0

        def __init__(self, reference: str, target: str, **options) -> None:
            assert options["max_shift"] == 30 and options["ignore_errors"]
            self.images = []
            for path in (target, reference):
                with rasterio.open(path) as file:
                    assert file.crs.is_projected and file.nodata == 0
                    self.images.append(file.read(1).astype(float))

        def calculate_spatial_shifts(self) -> str:
            (x, y), _ = cv2.phaseCorrelate(*self.images)
            self.coreg_info = {"corrected_shifts_px": {"x": x, "y": y}}
            return "success"

    monkeypatch.setitem(sys.modules, "arosics", types.SimpleNamespace(COREG=Search))
    labels, _ = town
    truth = similarity(0, 1, (9, -6))
    first, second = (image_picture(photograph(chart, seed=1)) for chart in (labels, moved(labels, truth)[0]))
    found = get_method("arosics").register(first, second, Prior(np.eye(3), 5, 1.05, max_shift=30))
    assert corner_error(found[0].matrix, truth, SIZE) < 2 and found[0].score == 80
    monkeypatch.setitem(sys.modules, "arosics", None)
    with pytest.raises(UnavailableMethodError, match="pip install arosics"):
        get_method("arosics")


def test_unknown_weights_are_named() -> None:
    assert "loftr" in METHODS
    with pytest.raises(InputError, match="homography-net needs"):
        get_method("homography-net")


def test_ecc_improves_and_gives_up(town) -> None:
    labels, _ = town
    plain = image_picture(photograph(labels, seed=1))
    found = ecc(plain, plain, similarity(1, 1.01, (3, 2)), 256)
    assert found is not None and corner_error(found.matrix, np.eye(3), SIZE) < 0.5
    assert ecc(plain, plain, similarity(0, 1, (900, 0)), 256) is None


def test_selection_puts_the_right_hypothesis_first(town) -> None:
    labels, image = town
    truth = similarity(30, 1.1, (4, 4))
    chart = class_picture(*moved(labels, truth))
    wrong = Hypothesis(similarity(200, 0.9, (0, 0)), "a", 9.0)
    right = Hypothesis(truth, "b", 1.0)
    assert select([wrong, right], image, chart)[0] is right


def test_evidence_tells_wrong_shifts(town) -> None:
    labels, image = town
    chart = class_picture(labels)
    right, wrong = (collect(image, chart, similarity(0, 1, (x, 0)), None, None) for x in (0, 25))
    assert right.correlation > 2 * abs(wrong.correlation) and right.peak > 8 > wrong.peak
    assert right.lead > 2 and wrong.lead < 0.6
    assert right.overlap == pytest.approx(1) and wrong.overlap == pytest.approx(295 / 320, abs=0.02)
    assert collect(image, chart, similarity(0, 1, (310, 0)), None, None).probability == 0


def test_calibration_bounds_false_accepts() -> None:
    rng = np.random.default_rng(4)
    found, right = [], []
    for k in range(300):
        good = k % 2 == 0
        peak = float(np.exp(rng.normal(2.2 if good else 1.4, 0.35)))
        agreement = float(np.clip(rng.normal(0.5 if good else 0.2, 0.15), 0, 1))
        lead = float(np.exp(rng.normal(0.5 if good else 0.0, 0.3)))
        found.append(Evidence(0.3, peak, lead, agreement, int(40 * agreement), 9, 1.0))
        right.append(good)
    weights = calibrate(found, right)
    accepted = np.array([probability(e, weights) >= evidence.ACCEPTED for e in found])
    assert accepted[1::2].mean() <= 0.02 and accepted[::2].mean() > 0.6
    with pytest.raises(InputError, match="right and wrong"):
        calibrate(found, [True] * 300)


def test_maps_of_many_classes_are_resized_and_warped() -> None:
    labels = np.repeat(np.arange(6, dtype=np.uint8)[None], 60, 0).repeat(10, 1)
    picture = class_picture(labels)
    assert picture.pixels.shape == (60, 60, 5)
    for factor in (0.5, 2.0):
        changed = picture.resized(factor)
        assert changed.pixels.shape == (60 * factor, 60 * factor, 5)
        at = [int((10 * c + 5) * factor) for c in range(1, 6)]
        np.testing.assert_array_equal(changed.pixels[int(30 * factor), at], 255 * np.eye(5))
    np.testing.assert_array_equal(picture.warped(np.eye(3), (60, 60)).pixels, picture.pixels)


def test_overlap_of_classes() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[10:20, 10:20], labels[30:, :] = 3, 1
    assert intersection_over_union(labels, labels, np.eye(3)) == {1: 1.0, 3: 1.0}
    shifted = intersection_over_union(labels, labels, np.array([[1, 0, 5.0], [0, 1, 0], [0, 0, 1]]))
    assert shifted[3] == pytest.approx(50 / 150) and shifted[1] == 1.0


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("OVERVIEW", 256), ("TILE", 256)):
        monkeypatch.setattr(f"hloc_ext.gis.registration.scene.{name}", value)


class Counting(PictureSource):
    largest = 0

    def read(self, window: Window, shape: tuple[int, int]):
        Counting.largest = max(Counting.largest, shape[0] * shape[1])
        return super().read(window, shape)


def test_scene_by_tiles(small_tiles: None) -> None:
    labels = draw_town(1000, seed=2)
    truth = similarity(3, 1.02, (14, -9), 1000)
    chart, known = moved(labels, truth)
    prior = Prior(np.eye(3), max_rotation=6, max_scale=1.08, max_shift=60)
    found = register_scene(
        Counting(image_picture(photograph(labels))),
        Counting(class_picture(chart, known)),
        prior,
        method=GradientMethod(config=FAST),
        with_field=True,
    )
    assert found.registration.accepted and found.tiles >= 12
    assert found.registration.model == "similarity" and found.field is None  # nothing is left
    assert corner_error(found.registration.matrix, truth, (1000, 1000)) < 1
    assert len(found.points0) > 30 and Counting.largest < 300 * 300
    assert found.registration.residual < 1


def test_a_smooth_field_of_what_is_left() -> None:
    points = np.stack(np.meshgrid([0, 100, 200, 300.0], [0, 100, 200, 300.0]), -1).reshape(-1, 2)
    field = DisplacementField(points, np.tile([2.0, -1.0], (16, 1)), 100.0)
    np.testing.assert_allclose(field.at(np.array([[150.0, 150.0]])), [[2, -1]], atol=0.1)
    np.testing.assert_allclose(field.at(np.array([[9000.0, 0.0]])), [[0, 0]], atol=1e-6)
