from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hloc_ext.errors import InputError
from hloc_ext.evaluation.homography import corner_error, transform_points
from hloc_ext.gis.registration.estimation import MODELS, choose_model, estimate, fit, keeps_orientation

from .town import similarity

SIZE = (320, 320)
TRUTH = {
    "translation": np.array([[1, 0, 13.5], [0, 1, -7.25], [0, 0, 1.0]]),
    "similarity": similarity(25, 1.2, (8, 3)),
    "affine": np.array([[1.1, 0.15, 4.0], [-0.05, 0.92, -6.0], [0, 0, 1]]),
    "homography": np.array([[1.02, 0.08, 4.0], [-0.1, 0.97, 9.0], [4e-4, -3e-4, 1]]),
}


def make_points(model: str, noise: float, outliers: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 3])
    points0 = rng.uniform(0, 319, (240, 2))
    points1 = transform_points(TRUTH[model], points0) + rng.normal(0, noise, (240, 2))
    wrong = rng.random(240) < outliers
    points1[wrong] = rng.uniform(0, 319, (int(wrong.sum()), 2))
    return points0, points1


@pytest.mark.parametrize("model", MODELS)
def test_the_simplest_sufficient_model_is_chosen(model: str) -> None:
    points0, points1 = make_points(model, 0.5, 0.3)
    found = estimate(points0, points1)
    assert found is not None and found.model == model
    assert corner_error(found.matrix, TRUTH[model], SIZE) < 0.6
    assert 0.65 < found.inliers.mean() < 0.75
    assert found.residual == pytest.approx(0.59, abs=0.12)  # median of a Rayleigh distribution, 1.18 σ
    assert found.held_out[model] == min(found.held_out[name] for name in MODELS[: MODELS.index(model) + 1])


@pytest.mark.parametrize("model", MODELS)
def test_exact_points_give_the_exact_transform(model: str) -> None:
    points0, points1 = make_points(model, 0.0, 0.0)
    found = fit(model, points0, points1)
    assert found is not None
    np.testing.assert_allclose(found, TRUTH[model], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-180, 180), st.floats(0.4, 2.5), st.floats(-500, 500), st.floats(-500, 500), st.integers(0, 999)
)
def test_any_similarity_is_recovered(degrees: float, scale: float, x: float, y: float, seed: int) -> None:
    truth = similarity(degrees, scale, (x, y))
    points0 = np.random.default_rng(seed).uniform(0, 319, (12, 2))
    found = fit("similarity", points0, transform_points(truth, points0))
    assert found is not None and corner_error(found, truth, SIZE) < 1e-5


def test_weights_and_outliers_count() -> None:
    points0, points1 = make_points("translation", 0.0, 0.0)
    points1[:60] += 2.0
    weights = np.where(np.arange(240) < 60, 1e-6, 1.0)
    found = fit("translation", points0, points1, weights)
    assert found is not None
    np.testing.assert_allclose(found, TRUTH["translation"], atol=1e-3)


@pytest.mark.parametrize("model", ["translation", "similarity", "affine"])
def test_covariance_is_that_of_repeated_estimates(model: str) -> None:
    elements, covariance = [], []
    for seed in range(40):
        points0 = np.random.default_rng(7).uniform(0, 319, (60, 2))
        noise = np.random.default_rng([seed, 5]).normal(0, 0.6, (60, 2))
        found = estimate(points0, transform_points(TRUTH[model], points0) + noise, model=model)
        assert found is not None
        elements.append(found.matrix.ravel()[:8])
        covariance.append(found.covariance)
    true, expected = np.var(elements, axis=0), np.mean(covariance, axis=0).diagonal()
    free = true > 1e-15
    assert (expected[~free] < 1e-15).all()
    ratio = expected[free] / true[free]
    assert ratio.min() > 0.5 and ratio.max() < 3.5  # points of one cell count as one: not below


def test_no_consensus_and_wrong_arguments() -> None:
    rng = np.random.default_rng(0)
    found = estimate(rng.uniform(0, 3000, (30, 2)), rng.uniform(0, 3000, (30, 2)), model="affine")
    assert found is None or found.inliers.sum() <= 5
    assert estimate(np.empty((0, 2)), np.empty((0, 2))) is None
    assert estimate(np.ones((1, 2)), np.ones((1, 2)), model="similarity") is None
    with pytest.raises(InputError, match="Unknown model"):
        estimate(np.ones((5, 2)), np.ones((5, 2)), model="spline")
    with pytest.raises(InputError, match="and 4 of image 1"):
        estimate(np.ones((5, 2)), np.ones((4, 2)))


def test_mirrored_points_have_no_fit() -> None:
    points0 = np.random.default_rng(1).uniform(0, 100, (20, 2))
    assert fit("affine", points0, points0 * [1, -1]) is None
    assert not keeps_orientation(np.diag([1, -1, 1.0]), points0)
    assert not keeps_orientation(np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1.0]]), points0)


def test_choice_of_the_model() -> None:
    assert choose_model({"translation": 1.0, "similarity": 0.99, "affine": 0.98}) == "translation"
    assert (
        choose_model({"translation": 2.0, "similarity": 1.0, "affine": 0.98, "homography": 0.99})
        == "similarity"
    )
    assert (
        choose_model({"translation": 2.0, "similarity": 1.5, "affine": 1.2, "homography": 0.5})
        == "homography"
    )
