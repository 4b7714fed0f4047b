from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hloc_ext.errors import InputError
from hloc_ext.evaluation.homography import corner_error, transform_points
from hloc_ext.gis.registration.gradient_fields import class_picture, gradient_fields, image_picture
from hloc_ext.gis.registration.gradient_search import DEFAULT, QUICK, config_for, exhaustive_peaks, search
from hloc_ext.gis.registration.local_search import Level
from hloc_ext.gis.registration.matching import as_homography, match_gradients
from hloc_ext.gis.registration.prior import Prior, Similarity, similarity_of

from .town import draw_town, moved, photograph, similarity

FAST = replace(
    DEFAULT,
    size=64,
    rotation_step=10.0,
    scale_step=1.16,
    levels=(64, 160),
    kept=(12, 3),
    evaluations=(40, 80),
)
SIZE = (320, 320)


@pytest.mark.parametrize(("degrees", "scale", "negative"), [(137.0, 0.7, False), (-60.0, 1.5, True)])
def test_any_heading_and_scale(degrees: float, scale: float, negative: bool) -> None:
    labels = draw_town()
    truth = similarity(degrees, scale, (20.0, -12.0))
    chart, known = moved(labels, truth)
    image = photograph(labels)
    found = search(
        image_picture(255 - image if negative else image), class_picture(chart, known), config=FAST
    )[0]
    assert found.scale == pytest.approx(scale, rel=0.01)
    assert corner_error(found.matrix(), truth, SIZE) < 4
    assert 0.2 < found.score <= 1 and found.significance > 0


def test_the_prior_bounds_the_search() -> None:
    """A map twice, side by side: the prior says which of the two is meant."""
    labels = draw_town(160)
    twice = np.tile(labels, (1, 2))
    image = image_picture(photograph(labels))
    for left in (0, 160):
        about = np.array([[1, 0, left + 6.0], [0, 1, -5.0], [0, 0, 1]])
        prior = Prior(about, max_rotation=10, max_scale=1.1, max_shift=20)
        found = search(image, class_picture(twice), prior, FAST)[0]
        truth = np.array([[1, 0, left], [0, 1, 0], [0, 0, 1.0]])
        assert corner_error(found.matrix(), truth, (160, 160)) < 2
        assert prior.allows(found.matrix(), (160, 160), (160, 320))
    wrong = replace(prior, max_shift=1.0)
    assert not wrong.allows(truth, (160, 160), (160, 320))
    assert not Prior(about, max_rotation=5).allows(similarity(60, 1, (0, 0), 160), (160, 160), (160, 320))
    assert not Prior(about, max_scale=1.1).allows(similarity(0, 1.5, (0, 0), 160), (160, 160), (160, 320))


def test_half_turns_share_their_spectra() -> None:
    """Peaks at an angle and half a turn later equal those of pictures that are turned beforehand."""
    labels = draw_town(96)
    image = photograph(labels)[..., 0]
    prior = Prior(max_rotation=180, max_scale=1.0)
    config = replace(FAST, size=96, rotation_step=45.0, kept=(8, 1))
    upright = exhaustive_peaks(image_picture(image), class_picture(labels), prior, config)
    turned = exhaustive_peaks(
        image_picture(np.ascontiguousarray(image[::-1, ::-1])), class_picture(labels), prior, config
    )
    assert len(upright) == len(turned) >= 3
    for first, second in zip(upright, turned, strict=True):
        assert first.significance == pytest.approx(second.significance, rel=1e-3)
        difference = (first.angle - second.angle - np.pi) % (2 * np.pi)
        assert min(difference, 2 * np.pi - difference) < 1e-6
    assert upright[0].angle == pytest.approx(0) and np.hypot(*upright[0].shift) < 1.5


def test_correlation_equals_its_definition() -> None:
    labels = draw_town(96)
    first, second = image_picture(photograph(labels)), class_picture(labels)
    transform = Similarity(0.0, 1.0, (7.0, -4.0))
    score, significance = Level(first, second, 96).score(transform)
    fields0, fields1 = gradient_fields(first), gradient_fields(second)
    a, b = fields0.values[4:, :-7], fields1.values[:-4, 7:]
    expected = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum() + 1)
    assert score == pytest.approx(float(expected), abs=1e-5)
    assert significance == pytest.approx(score * np.sqrt(92 * 89), rel=1e-5)


def test_peaks_are_as_significant_as_the_level_says() -> None:
    """The normalisation from block means is close to the exact one."""
    labels = draw_town(96)
    first, second = image_picture(photograph(labels)), class_picture(labels)
    config = replace(FAST, size=96, kept=(1, 1))
    peak = exhaustive_peaks(first, second, Prior(max_rotation=0, max_scale=1.0), config)[0]
    score, significance = Level(first, second, 96).score(peak)
    assert peak.significance == pytest.approx(significance, rel=0.03)
    assert peak.score == pytest.approx(score, rel=0.03)


def test_fields_know_neither_contrast_nor_missing_pixels() -> None:
    image = photograph(draw_town(128))
    fields = gradient_fields(image_picture(image))
    np.testing.assert_allclose(gradient_fields(image_picture(255 - image)).values, fields.values, atol=2e-3)
    assert (fields.values**2).sum(2).mean() == pytest.approx(1, rel=1e-3)
    mask = np.ones((128, 128), bool)
    mask[:, :40] = False
    black = np.where(mask[..., None], image, 0)
    masked = gradient_fields(image_picture(black, mask))
    assert not masked.values[:, :43].any() and masked.mask[:, 43:].all() and not masked.mask[:, :43].any()
    turned = gradient_fields(image_picture(np.ascontiguousarray(np.rot90(image)))).values
    np.testing.assert_allclose(turned, -np.rot90(fields.values), atol=1e-3)  # twice 90 degrees


def test_a_class_map_has_the_borders_of_all_classes_alike() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 20:40], labels[:, 40:] = 3, 4
    values = gradient_fields(class_picture(labels)).values
    across = values[32, :, 0]
    assert across[20] == pytest.approx(across[40], rel=0.2) and across[20] > 1
    assert np.abs(values[32, 5]).max() < 1e-3
    assert class_picture(labels).grey()[0, 0] == 140 and len(np.unique(class_picture(labels).grey())) == 3


def test_similarity_between_resized_images() -> None:
    found = Similarity(0.4, 1.3, (5.0, -7.0))
    resized = found.resized(0.5, 0.25)
    corners0 = np.array([[-0.5, -0.5], [99.5, 49.5]])  # corners of the image, not of its pixels
    corners1 = transform_points(found.matrix(), corners0)
    mapped = transform_points(resized.matrix(), (corners0 + 0.5) * 0.5 - 0.5)
    np.testing.assert_allclose(mapped, (corners1 + 0.5) * 0.25 - 0.5, atol=1e-9)
    np.testing.assert_allclose(
        similarity_of(as_homography(found), (3, 4)).matrix(), found.matrix(), atol=1e-12
    )


def test_as_a_matcher_it_gives_a_grid_of_points() -> None:
    image = photograph(draw_town(160))[..., 0]
    truth = cv2.getRotationMatrix2D((79.5, 79.5), 0, 1.0)
    points0, points1, scores = match_gradients(image, image)
    assert points0.shape == (25, 2) and scores.min() > 0.95
    np.testing.assert_allclose(points1, transform_points(truth, points0), atol=0.5)


def test_a_flat_picture_has_no_peak() -> None:
    flat = image_picture(np.full((80, 100), 7, np.uint8))
    found = search(flat, class_picture(draw_town(96)), config=FAST)
    assert len(found) == 1 and found[0].score <= 0.05


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="uint8"):
        image_picture(np.zeros((4, 4), np.float32))
    with pytest.raises(InputError, match="mask"):
        image_picture(np.zeros((4, 4), np.uint8), np.ones((5, 4), bool))
    with pytest.raises(InputError, match="max_scale"):
        Prior(max_scale=0.5)


def test_wide_searches_are_quick_ones() -> None:
    assert config_for(Prior()) is QUICK
    assert config_for(Prior(max_rotation=10.0)) is DEFAULT
