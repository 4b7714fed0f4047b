"""Robust estimation of plane transforms from correspondences, with the choice of the model.

Pixels: the centre of the top-left one is (0, 0), x right, y down. Transforms are 3×3 with a last element of 1
and take pixels of image 0 to pixels of image 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import InputError
from ...evaluation.homography import transform_points

Matrix = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: Models of a transform, each of which holds those before it, and how many points determine them.
MODELS = ("translation", "similarity", "affine", "homography")
LEAST_POINTS = {"translation": 1, "similarity": 2, "affine": 3, "homography": 4}
#: A more general model has to lower the error on points held out by this share.
LEAST_GAIN = 0.1
#: Parts per side of the overlap, each of which is held out: at the corners a model has to extrapolate.
_PARTS = 3
#: Cells per side in which residuals count as one.
_CELLS = 12
#: Most steps of a fit, and of one that only tells models apart.
_STEPS, _TRIAL_STEPS = 15, 4
# First word of the seeds of what this module draws.
_SAMPLES = 721


@dataclass(frozen=True, eq=False)
class Estimate:
    """A transform and how well it is known.

    Attributes:
        matrix: 3×3.
        model: of :data:`MODELS`.
        inliers: (M,) bool, correspondences within the threshold.
        residual: median distance of the inliers, pixels of image 1.
        held_out: root mean square of the (truncated) errors of points that the fit has not seen, by model.
        covariance: (8, 8) of the first eight elements of `matrix`, row by row; zero for those that the model
            fixes. Residuals of the same cell of the image count as one, since neighbours err together.
    """

    matrix: Matrix
    model: str
    inliers: Flags
    residual: float
    held_out: dict[str, float]
    covariance: Floats


def estimate(
    points0: Floats,
    points1: Floats,
    weights: Floats | None = None,
    model: str = "auto",
    threshold: float = 3.0,
    seed: int = 0,
    models: Sequence[str] = MODELS,
) -> Estimate | None:
    """Estimate a transform robustly; ``model="auto"`` takes the simplest one that points held out support.

    Args:
        points0, points1: M×2 pixels.
        weights: M, at least 0; None: all alike.
        model: of :data:`MODELS`, or ``"auto"``.
        threshold: largest distance of an inlier, pixels of image 1.
        seed: of the sampling.
        models: those among which ``"auto"`` chooses, from the simplest on.

    Returns:
        The estimate, or None where too few points agree.

    Raises:
        InputError: unknown model, or arrays of different lengths.
    """
    if model != "auto" and model not in MODELS:
        raise InputError(f"Unknown model '{model}': use auto or one of {', '.join(MODELS)}.")
    points0, points1 = (np.asarray(p, np.float64).reshape(-1, 2) for p in (points0, points1))
    if len(points0) != len(points1):
        raise InputError(f"{len(points0)} points of image 0 and {len(points1)} of image 1.")
    weights = np.ones(len(points0)) if weights is None else np.asarray(weights, np.float64)
    models = tuple(models) if model == "auto" else (model,)
    consensus = _consensus(points0, points1, models, threshold, seed)
    if consensus is None:
        return None
    held_out: dict[str, float] = {}
    chosen = models[0]
    if len(models) > 1:
        near = consensus[0]
        for name in models:
            if near.sum() >= 3 * LEAST_POINTS[name]:
                held_out[name] = _held_out_error(points0[near], points1[near], weights[near], name, threshold)
        chosen = choose_model(held_out) if held_out else models[0]
    matrix = fit(chosen, points0[consensus[0]], points1[consensus[0]], weights[consensus[0]], threshold)
    if matrix is None:
        return None
    for _ in range(2):  # the inliers of the transform, and its fit to them
        inliers = _distances(matrix, points0, points1) <= threshold
        if inliers.sum() < LEAST_POINTS[chosen]:
            return None
        matrix = fit(chosen, points0[inliers], points1[inliers], weights[inliers], threshold)
        if matrix is None:
            return None
    distances = _distances(matrix, points0, points1)
    inliers = distances <= threshold
    if not inliers.any():
        return None
    return Estimate(
        matrix,
        chosen,
        inliers,
        float(np.median(distances[inliers])),
        held_out,
        _covariance(chosen, matrix, points0[inliers], points1[inliers]),
    )


def choose_model(held_out: dict[str, float]) -> str:
    """The simplest model of which the error is at most :data:`LEAST_GAIN` above that of any more general one.

    Args:
        held_out: error by model.
    """
    names = [name for name in MODELS if name in held_out]
    for number, name in enumerate(names):
        rest = [held_out[other] for other in names[number + 1 :]]
        if not rest or held_out[name] <= (1 + LEAST_GAIN) * min(rest) + 1e-3:
            return name
    return names[-1]


def fit(
    model: str,
    points0: Floats,
    points1: Floats,
    weights: Floats | None = None,
    softness: float = 3.0,
    steps: int = _STEPS,
) -> Matrix | None:
    """Least-squares fit of a model, with a robust loss (Huber).

    Args:
        model: of :data:`MODELS`.
        points0, points1: M×2.
        weights: M, at least 0.
        softness: residuals beyond a third of this count linearly, pixels.
        steps: most steps of the fit.

    Returns:
        3×3 or None: too few points, or a transform that mirrors or flattens the image.
    """
    if len(points0) < LEAST_POINTS[model]:
        return None
    weights = np.ones(len(points0)) if weights is None else weights
    to_unit0, to_unit1 = _normalization(points0), _normalization(points1)
    unit0, unit1 = transform_points(to_unit0, points0), transform_points(to_unit1, points1)
    scale = softness / 3 * to_unit1[0, 0]
    # Both frames must shrink alike for models that keep lengths.
    if model == "translation":
        to_unit0 = to_unit1 @ _shift(points1.mean(0) - points0.mean(0))
        unit0 = transform_points(to_unit0, points0)
    parameters = np.zeros(_SIZES[model])
    if model == "homography":
        parameters[:6] = _gauss_newton("affine", parameters[:6], unit0, unit1, weights, scale, steps)
    parameters = _gauss_newton(model, parameters, unit0, unit1, weights, scale, steps)
    matrix = np.linalg.inv(to_unit1) @ _matrix(model, parameters) @ to_unit0
    if not np.isfinite(matrix).all() or abs(matrix[2, 2]) < 1e-9:
        return None
    matrix = matrix / matrix[2, 2]
    return matrix if keeps_orientation(matrix, points0) else None


def keeps_orientation(matrix: Matrix, points0: Floats) -> bool:
    """Whether a transform neither mirrors nor flattens nor sends to infinity any of the points, M×2."""
    w = points0 @ matrix[2, :2] + matrix[2, 2]
    return bool(np.linalg.det(matrix) > 1e-9 and (w > 1e-3).all())


_SIZES = {"translation": 2, "similarity": 4, "affine": 6, "homography": 8}


def _matrix(model: str, p: Floats) -> Matrix:
    """3×3 of the parameters of a model, which are 0 for the identity."""
    if model == "translation":
        return np.array([[1, 0, p[0]], [0, 1, p[1]], [0, 0, 1.0]])
    if model == "similarity":
        return np.array([[1 + p[0], -p[1], p[2]], [p[1], 1 + p[0], p[3]], [0, 0, 1.0]])
    last = [p[6], p[7], 1.0] if model == "homography" else [0, 0, 1.0]
    return np.array([[1 + p[0], p[1], p[2]], [p[3], 1 + p[4], p[5]], last])


def _parameters(model: str, matrix: Matrix) -> Floats:
    """Inverse of :func:`_matrix`."""
    m = matrix / matrix[2, 2]
    if model == "translation":
        return m[:2, 2].copy()
    if model == "similarity":
        return np.array([m[0, 0] - 1, m[1, 0], m[0, 2], m[1, 2]])
    affine = np.array([m[0, 0] - 1, m[0, 1], m[0, 2], m[1, 0], m[1, 1] - 1, m[1, 2]])
    return np.append(affine, m[2, :2]) if model == "homography" else affine


def _gauss_newton(
    model: str,
    parameters: Floats,
    points0: Floats,
    points1: Floats,
    weights: Floats,
    scale: float,
    steps: int,
) -> Floats:
    """Minimum of the Huber loss by reweighted Gauss-Newton steps; NaN where points go to infinity."""
    for _ in range(steps):
        mapped = transform_points(_matrix(model, parameters), points0)
        if not np.isfinite(mapped).all():
            return np.full_like(parameters, np.nan)
        residual = points1 - mapped
        length = np.linalg.norm(residual, axis=1)
        root = np.sqrt(weights * np.minimum(1.0, scale / np.maximum(length, 1e-12)))[:, None]
        design = _jacobian(model, parameters, points0, mapped) * root[..., None]
        step = np.linalg.lstsq(design.reshape(-1, len(parameters)), (residual * root).ravel(), rcond=1e-12)[0]
        parameters = parameters + step
        if np.abs(step).max() < 1e-6:
            break
    return parameters


def _jacobian(model: str, parameters: Floats, points: Floats, mapped: Floats) -> Floats:
    """Derivatives of mapped points by the parameters, (M, 2, parameters)."""
    x, y = points.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    if model == "translation":
        rows = [[one, zero], [zero, one]]
    elif model == "similarity":
        rows = [[x, -y, one, zero], [y, x, zero, one]]
    else:
        rows = [[x, y, one, zero, zero, zero], [zero, zero, zero, x, y, one]]
    if model == "homography":
        w = parameters[6] * x + parameters[7] * y + 1
        for row, value in zip(rows, mapped.T, strict=True):
            row[:] = [*(column / w for column in row), -value * x / w, -value * y / w]
    return np.moveaxis(np.array(rows), 2, 0)


def _normalization(points: Floats) -> Matrix:
    """Similarity transform to mean 0 and mean distance √2 (Hartley, PAMI 1997)."""
    mean = points.mean(0)
    distance = float(np.linalg.norm(points - mean, axis=1).mean())
    scale = math.sqrt(2) / max(distance, 1e-6) if len(points) > 1 else 1.0
    return np.diag([scale, scale, 1.0]) @ _shift(-mean)


def _shift(vector: Floats) -> Matrix:
    return np.array([[1, 0, vector[0]], [0, 1, vector[1]], [0, 0, 1.0]])


def _distances(matrix: Matrix, points0: Floats, points1: Floats) -> Floats:
    distance = np.linalg.norm(transform_points(matrix, points0) - points1, axis=1)
    return np.where(np.isfinite(distance), distance, np.inf)


def _consensus(
    points0: Floats, points1: Floats, models: tuple[str, ...], threshold: float, seed: int
) -> tuple[Flags, str] | None:
    """The largest set of points that agree with one transform, and its model."""
    best: tuple[Flags, str] | None = None
    score = 0.0
    for model in models:
        matrix = _sample(model, points0, points1, threshold, seed)
        if matrix is None or not np.isfinite(matrix).all():
            continue
        inliers = _distances(matrix, points0, points1) <= threshold
        count = int(inliers.sum())
        # A model with more parameters has to explain a few points more.
        gain = count - LEAST_POINTS[model]
        if count >= LEAST_POINTS[model] + 1 and gain > 1.02 * score:
            if not keeps_orientation(matrix, points0[inliers]):
                continue
            best, score = (inliers, model), float(gain)
    return best


def _sample(model: str, points0: Floats, points1: Floats, threshold: float, seed: int) -> Matrix | None:
    """RANSAC of a model (OpenCV's; translations are tried one by one)."""
    if len(points0) < LEAST_POINTS[model] + 1:
        return None
    if model == "translation":
        shifts = points1 - points0
        tried = np.random.default_rng([seed, _SAMPLES]).permutation(len(shifts))[:500]
        distances = np.linalg.norm(shifts[None] - shifts[tried, None], axis=2)
        return _shift(shifts[tried[int((distances <= threshold).sum(1).argmax())]])
    cv2.setRNGSeed(seed)
    options: Any = {
        "method": cv2.RANSAC,
        "ransacReprojThreshold": threshold,
        "maxIters": 5000,
        "confidence": 0.9999,
    }
    matrix: Any
    if model == "similarity":
        matrix, _ = cv2.estimateAffinePartial2D(points0, points1, **options)
    elif model == "affine":
        matrix, _ = cv2.estimateAffine2D(points0, points1, **options)
    else:
        matrix, _ = cv2.findHomography(points0, points1, **options)
    if matrix is None:
        return None
    return np.vstack([matrix, (0, 0, 1)]) if len(matrix) == 2 else matrix


def cells(points: Floats, number: int = 6) -> npt.NDArray[np.int64]:
    """Number of the cell of each point in a grid of so many cells per side over all points, (M,)."""
    low, high = points.min(0), points.max(0)
    index = np.minimum((points - low) / np.maximum(high - low, 1e-9) * number, number - 1e-6).astype(np.int64)
    return index[:, 1] * number + index[:, 0]


def _held_out_error(points0: Floats, points1: Floats, weights: Floats, model: str, threshold: float) -> float:
    """Root mean square of the distances, truncated, in parts of the image that the fit has not seen."""
    part = cells(points0, _PARTS)
    errors = []
    for number in np.unique(part):
        rest = part != number
        matrix = fit(model, points0[rest], points1[rest], weights[rest], threshold, _TRIAL_STEPS)
        distance = (
            np.full(int((~rest).sum()), np.inf)
            if matrix is None
            else _distances(matrix, points0[~rest], points1[~rest])
        )
        errors.append(np.minimum(distance, 2 * threshold))
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def _covariance(model: str, matrix: Matrix, points0: Floats, points1: Floats) -> Floats:
    """Covariance of the elements of the matrix by the normal equations."""
    to_unit = _normalization(points0)  # of image 0, in which the elements are of one size
    parameters = _parameters_about(model, matrix, to_unit)

    def elements(p: Floats) -> Floats:
        return _from_parameters(model, p, to_unit)

    def predicted(p: Floats) -> Floats:
        return transform_points(elements(p), points0).ravel()

    def first_eight(p: Floats) -> Floats:
        matrix = elements(p)
        return matrix.ravel()[:8] / matrix[2, 2]

    jacobian, outer = _derivative(predicted, parameters), _derivative(first_eight, parameters)
    difference = predicted(parameters) - points1.ravel()
    number = len(np.unique(cells(points0, _CELLS))) if len(points0) > 1 else 1
    freedom = max(2 * len(points0) - len(parameters), 1)
    variance = float(difference @ difference) / freedom * (len(points0) / number)
    normal = np.linalg.pinv(jacobian.T @ jacobian)
    return np.asarray(outer @ normal @ outer.T * variance)


def _parameters_about(model: str, matrix: Matrix, to_unit: Matrix) -> Floats:
    """Parameters of a matrix in the unit frame of image 0; a translation keeps its own."""
    if model == "translation":
        return _parameters(model, matrix)
    return _parameters(model, matrix @ np.linalg.inv(to_unit))


def _from_parameters(model: str, parameters: Floats, to_unit: Matrix) -> Matrix:
    matrix = _matrix(model, parameters)
    return matrix if model == "translation" else matrix @ to_unit


def _derivative(function: Callable[[Floats], Floats], parameters: Floats) -> Floats:
    """Central differences, (values, parameters)."""
    columns = []
    for k in range(len(parameters)):
        step = np.zeros(len(parameters))
        step[k] = 1e-5 * max(1.0, abs(parameters[k]))
        columns.append((function(parameters + step) - function(parameters - step)) / (2 * step[k]))
    return np.stack(columns, 1)
