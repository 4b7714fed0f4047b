"""Large rasters whose overviews are too coarse to tell: parts are tried at a finer resolution."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hloc_ext.evaluation.homography import corner_error
from hloc_ext.gis.registration import scene
from hloc_ext.gis.registration.gradient_fields import class_picture, image_picture
from hloc_ext.gis.registration.matching import GradientMethod
from hloc_ext.gis.registration.prior import Prior
from hloc_ext.gis.registration.register import Registration, register
from hloc_ext.gis.registration.scene import PictureSource, register_scene
from tests.gis.registration.town import moved, photograph, similarity

SIZE = 720


def houses(seed: int) -> np.ndarray:
    """Class map (SIZE, SIZE) of nothing but small houses, everywhere as dense."""
    rng = np.random.default_rng([seed, 3])
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for row in range(0, SIZE, 24):
        for column in range(0, SIZE, 24):
            center = np.array((column, row)) + rng.uniform(8, 16, 2)
            box = cv2.boxPoints((tuple(center), tuple(rng.uniform(8, 16, 2)), float(rng.uniform(0, 90))))
            cv2.fillPoly(labels, [np.round(box).astype(np.int32)], 3)
    return labels


@pytest.fixture
def overviews_of_nothing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Small overviews, which are refused whatever they show; returns the shapes that are registered."""
    shapes: list[tuple[int, int]] = []

    def blind(image, map_, prior, model, method) -> Registration:
        shapes.append(image.shape)
        found = register(image, map_, prior, model, method)
        if len(shapes) > 1:
            return found
        weak = found.evidence.__class__(0.0, 0.0, 0.0, 0.0, 0, 0, 0.0)
        return Registration(found.matrix, found.model, False, weak, 0.0, None, {}, "none")

    monkeypatch.setattr(scene, "register", blind)
    monkeypatch.setattr(scene, "OVERVIEW", 180)
    monkeypatch.setattr(scene, "TILE", 240)
    return shapes


def test_parts_are_tried_where_overviews_do_not_tell(overviews_of_nothing: list[tuple[int, int]]) -> None:
    labels = houses(1)
    truth = similarity(2, 1.01, (9, -6), SIZE)
    chart, known = moved(labels, truth)
    found = register_scene(
        PictureSource(image_picture(photograph(labels))),
        PictureSource(class_picture(chart, known)),
        Prior(np.eye(3), max_rotation=4, max_scale=1.04, max_shift=20),
        model="similarity",
        method=GradientMethod(),
    )
    assert found.registration.accepted
    assert corner_error(found.registration.matrix, truth, (SIZE, SIZE)) < 1
    assert overviews_of_nothing[0] == (180, 180)
    assert overviews_of_nothing[1] == (180, 180)  # a part of a third of the side, three times finer


def test_parts_need_a_narrow_prior(overviews_of_nothing: list[tuple[int, int]]) -> None:
    labels = houses(1)
    found = register_scene(
        PictureSource(image_picture(photograph(labels))),
        PictureSource(class_picture(labels)),
        Prior(np.eye(3), max_rotation=90, max_scale=1.04, max_shift=20),
        method=GradientMethod(),
    )
    assert not found.registration.accepted and len(overviews_of_nothing) == 1
