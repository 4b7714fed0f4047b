"""Errors of georeferences: their parts, and the order in which they apply."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hloc_ext.city.datasets.misregistration import MODELS, Misregistration, apply


def test_similarity_scales_turns_and_shifts() -> None:
    error = Misregistration("similarity", (3.0, -2.0), 90.0, 2.0)
    np.testing.assert_allclose(
        apply(error.matrix, [(0, 0), (1, 0), (0, 1)]), [(3, -2), (3, 0), (1, -2)], atol=1e-12
    )


def test_shear_and_perspective() -> None:
    sheared = Misregistration("affine", (0.0, 0.0), 0.0, 1.0, shear=0.1, stretch=1.25)
    np.testing.assert_allclose(apply(sheared.matrix, [(4, 0), (0, 10)]), [(5, 0), (1, 8)], atol=1e-12)
    projected = Misregistration("homography", (0.0, 0.0), 0.0, 1.0, perspective=(0.01, 0.0))
    np.testing.assert_allclose(apply(projected.matrix, [(100, 50), (0, 7)]), [(50, 25), (0, 7)], atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_drawn_errors_stay_in_their_limits(model: str) -> None:
    errors = [Misregistration.draw(model, np.random.default_rng(i)) for i in range(300)]
    assert 7 < max(math.hypot(*error.translation) for error in errors) <= 8
    assert 5.5 < max(abs(error.rotation) for error in errors) <= 6
    assert 0.93 <= min(error.scale for error in errors) < 0.94 and 1.06 < max(e.scale for e in errors) <= 1.07
    matrices = np.array([error.matrix for error in errors])
    affine = np.abs(matrices[:, 2, :2]).max()
    linear = matrices[:, :2, :2]
    products = np.abs(linear[:, 0, 0] - linear[:, 1, 1]).max()
    assert (affine > 0) == (model == "homography")
    assert (products > 1e-9) == (model != "similarity")


def test_same_seed_same_error() -> None:
    first, second = (Misregistration.draw("homography", np.random.default_rng([1, 2])) for _ in range(2))
    assert first == second
