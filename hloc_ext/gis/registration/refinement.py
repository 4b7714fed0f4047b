"""Refinement of a transform, from coarse to fine, by patches of fields, with the choice of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...evaluation.homography import corner_error
from .estimation import MODELS, Estimate, estimate
from .gradient_fields import Picture
from .local_matching import LocalMatches, match_patches, scale_of
from .prior import similarity_of

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """A step of the refinement.

    Attributes:
        size: longest side at which the pictures are compared, pixels.
        patch, reach: side and largest displacement of the patches, pixels at this size.
        model: most general model that this step may choose.
        threshold: largest distance of an inlier, pixels at this size.
    """

    size: int
    patch: int
    reach: int
    model: str
    threshold: float


STEPS = (
    Step(256, 64, 12, "similarity", 3.0),
    Step(384, 64, 10, "affine", 2.5),
    Step(512, 64, 8, "homography", 2.0),
    Step(768, 80, 6, "homography", 2.0),
)
#: Steps at the same resolution end when the corners move less than this, pixels.
SETTLED = 0.7
#: A step is left out when more than this share of the patches of the one before agree, to this distance in
#: the median, pixels; only steps that are not the last ones.
PLENTY, CLOSE = 0.5, 1.0
#: The finest resolution is taken at once where it is finer than a step's by no more than this factor.
_NEAR_FINEST = 1.3
#: Refinement ends when patches agree in none of so many steps.
HOPELESS = 2
#: Least number of inliers of a step, and of those of the models with more than four parameters.
LEAST_INLIERS, LEAST_GENERAL = 6, 16


@dataclass(frozen=True, eq=False)
class Refined:
    """A refined transform.

    Attributes:
        matrix: 3×3, pixel of image 0 → pixel of image 1.
        model: of :data:`~hloc_ext.gis.registration.estimation.MODELS`.
        estimate: of the last step that had enough inliers; None: none had, and the transform is as given.
        matches: correspondences of that step.
    """

    matrix: Matrix
    model: str
    estimate: Estimate | None
    matches: LocalMatches | None


def refine(
    picture0: Picture,
    picture1: Picture,
    matrix: Matrix,
    model: str = "auto",
    steps: tuple[Step, ...] = STEPS,
) -> Refined:
    """Refine a transform.

    Each step compares patches at its resolution, or that of the coarser picture, near where the transform so
    far puts them, and fits a model to where they are. The last steps are left out when nothing moves, and
    those after :data:`HOPELESS` steps in which too few patches agree.

    Args:
        picture0, picture1: an image and a map, or two images.
        matrix: 3×3, pixel of image 0 → pixel of image 1, about.
        model: of :data:`~hloc_ext.gis.registration.estimation.MODELS`, or ``"auto"``: the simplest one that
            patches held out support.
        steps: from coarse to fine.
    """
    result = Refined(matrix, "similarity" if model == "auto" else model, None, None)
    finest, before = _finest(picture0, picture1, matrix), matrix
    last, last_model = 0, ""
    for number, step in enumerate(steps):
        if number == HOPELESS and result.estimate is None:
            break
        size = finest if finest <= _NEAR_FINEST * step.size else step.size
        if step.size == STEPS[1].size and _is_close(result, picture0, picture1, last):
            continue
        if (
            size == last
            and last_model == steps[-1].model
            and _moved(result, picture0.shape, before) < SETTLED
        ):
            break
        before, last, last_model = result.matrix, size, step.model
        matches = match_patches(picture0, picture1, result.matrix, size, step.patch, step.reach)
        found = _estimate(matches, model, step, _pixel(picture0, picture1, result.matrix, size))
        if found is not None:
            result = Refined(found.matrix, found.model, found, matches)
    if model == "translation" and result.estimate is None:
        start = similarity_of(matrix, ((picture0.shape[1] - 1) / 2, (picture0.shape[0] - 1) / 2))
        result = Refined(
            np.array([[1, 0, start.shift[0]], [0, 1, start.shift[1]], [0, 0, 1.0]]), model, None, None
        )
    return result


def _finest(picture0: Picture, picture1: Picture, matrix: Matrix) -> int:
    """Longest side of the smaller picture in the pixels of the coarser one."""
    scale = scale_of(matrix, picture0.shape)
    coarser = max(scale, 1.0)
    return max(round(min(max(picture0.shape) * scale, max(picture1.shape)) / coarser), 8)


def _pixel(picture0: Picture, picture1: Picture, matrix: Matrix, size: int) -> float:
    """Pixels of image 1 in a pixel of a comparison at a size."""
    scale = scale_of(matrix, picture0.shape)
    return min(max(picture0.shape) * scale, max(picture1.shape)) / size


def _is_close(result: Refined, picture0: Picture, picture1: Picture, size: int) -> bool:
    """Whether most patches of the last step, at a size, agree well."""
    if result.estimate is None or result.matches is None:
        return False
    share = result.estimate.inliers.sum() / max(result.matches.tried, 1)
    limit = CLOSE * _pixel(picture0, picture1, result.matrix, size)
    return bool(share > PLENTY and result.estimate.residual < limit)


def _estimate(matches: LocalMatches, model: str, step: Step, pixel: float) -> Estimate | None:
    """The model of a step, or None where too few patches agree."""
    threshold = step.threshold * pixel
    limit = MODELS.index(step.model)
    if model != "auto":
        # Coarse steps take a simpler model than the one that is asked for.
        name = MODELS[min(MODELS.index(model), limit)]
        found = estimate(*matches[:3], model=name, threshold=threshold)
        return found if found is not None and _supported(found, name) else None
    # Whether a translation is enough matters in the end only.
    models = MODELS[: limit + 1] if step.model == STEPS[-1].model else MODELS[1 : limit + 1]
    found = estimate(*matches[:3], model="auto", threshold=threshold, models=models)
    if found is None or not _supported(found, found.model):
        found = estimate(*matches[:3], model="similarity", threshold=threshold)
    return found if found is not None and _supported(found, found.model) else None


def _moved(result: Refined, shape: tuple[int, int], before: Matrix) -> float:
    """Mean distance of the corners of image 0 between a transform and one before, pixels of image 1."""
    return corner_error(before, result.matrix, (shape[1], shape[0]))


def _supported(found: Estimate, model: str) -> bool:
    least = LEAST_INLIERS if model in MODELS[:2] else LEAST_GENERAL
    return int(found.inliers.sum()) >= least
