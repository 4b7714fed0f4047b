"""Registration of an image to a map, or to another image: hypotheses, refinement, evidence, refusal.

Pixels: the centre of the top-left one is (0, 0), x right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .estimation import MODELS, Estimate
from .evidence import Evidence, collect
from .gradient_fields import Picture
from .local_search import Level
from .matching import Hypothesis, Method, get_method, stages
from .prior import UNKNOWN, Prior, similarity_of
from .refinement import Refined, refine

Matrix = npt.NDArray[np.float64]

#: So many hypotheses are refined.
TRIED = 3
#: Those of which the correlation at this size is below this share of the best one's are not.
SIZE, LEAST_SHARE = 256, 0.6
#: A hypothesis that is found as probable as this ends the trials.
CERTAIN = 0.9


@dataclass(frozen=True, eq=False)
class Registration:
    """A transform between two pictures, and whether to trust it.

    Attributes:
        matrix: 3×3, pixel of the image (0) → pixel of the map (1), last element 1. Where `accepted` is false
            it is the best guess, and not to be used.
        model: of :data:`~hloc_ext.gis.registration.estimation.MODELS`.
        accepted: whether the evidence is strong enough.
        evidence: what speaks for the transform.
        residual: median distance of the patches that agree, pixels of the map; NaN without any.
        covariance: (8, 8) of the first eight elements of `matrix`, row by row; None without patches.
        held_out: error on patches held out, pixels of the map, by model.
        method: which proposed it.
        hypotheses: all that were proposed, best first.
    """

    matrix: Matrix
    model: str
    accepted: bool
    evidence: Evidence
    residual: float
    covariance: Matrix | None
    held_out: dict[str, float]
    method: str
    hypotheses: tuple[Hypothesis, ...] = ()


def register(
    image: Picture,
    map_: Picture,
    prior: Prior = UNKNOWN,
    model: str = "auto",
    method: str | Method = "kd-mamba+gradient",
    refined: bool = True,
) -> Registration:
    """Register an image to a map.

    Args:
        image: of :func:`~hloc_ext.gis.registration.gradient_fields.image_picture`.
        map_: of :func:`~hloc_ext.gis.registration.gradient_fields.class_picture`, or another image.
        prior: what is known of the transform.
        model: of :data:`~hloc_ext.gis.registration.estimation.MODELS`, or ``"auto"``.
        method: of :data:`~hloc_ext.gis.registration.matching.METHODS`, or one of its kind; its hypotheses are
            those refined. The later stages of one that has stages are asked where no result is certain.
        refined: False: take the transform as the method gives it, to compare methods.

    Returns:
        The registration; it is not accepted where the evidence is weak.

    Raises:
        InputError: unknown model or method, or a picture without any pixels that exist.
    """
    if model != "auto" and model not in MODELS:
        raise InputError(f"Unknown model '{model}': use auto or one of {', '.join(MODELS)}.")
    for name, picture in (("image", image), ("map", map_)):
        if not picture.exists.any():
            raise InputError(f"The {name} has no pixels with data.")
    proposer = get_method(method) if isinstance(method, str) else method
    proposed: list[Hypothesis] = []
    results: list[Registration] = []
    for stage in stages(proposer):
        found = stage.register(image, map_, prior)
        proposed += found
        if found:
            results += _tried(image, map_, prior, model, found, refined)
        if any(result.evidence.probability >= CERTAIN for result in results):
            break
    if not results:
        return _nothing(image, map_, prior, proposer.name)
    best = max(results, key=lambda result: (result.evidence.probability, result.evidence.correlation))
    return replace(best, hypotheses=tuple(proposed))


def _tried(
    image: Picture, map_: Picture, prior: Prior, model: str, proposed: list[Hypothesis], refined: bool
) -> list[Registration]:
    """The hypotheses that are worth it, refined and judged, until one is certain."""
    results: list[Registration] = []
    for hypothesis in select(proposed, image, map_) if refined else proposed[:1]:
        found = refine(image, map_, hypothesis.matrix, model) if refined else _as_given(hypothesis)
        if not prior.allows(found.matrix, image.shape, map_.shape):
            found = _as_given(hypothesis)
        results.append(_registration(image, map_, found, hypothesis))
        if results[-1].evidence.probability >= CERTAIN:
            break
    return results


def select(hypotheses: list[Hypothesis], image: Picture, map_: Picture) -> list[Hypothesis]:
    """The hypotheses under which gradients are most alike, at one resolution for all methods; best first."""
    level = Level(image, map_, SIZE)
    center = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    scored = [(level.score(similarity_of(h.matrix, center))[1], h) for h in hypotheses]
    scored.sort(key=lambda item: -item[0])
    best = scored[0][0]
    return [h for value, h in scored[:TRIED] if value >= LEAST_SHARE * best or value == best]


def intersection_over_union(
    classes0: npt.NDArray[np.uint8], classes1: npt.NDArray[np.uint8], matrix: Matrix
) -> dict[int, float]:
    """Overlap of each class of two class maps under a transform, where both are seen.

    Args:
        classes0, classes1: (H, W) classes, 0 is none.
        matrix: 3×3, pixel of map 0 → pixel of map 1.

    Returns:
        Intersection over union by class; classes that neither has are left out.
    """
    size = classes1.shape[::-1]
    flags = cv2.INTER_NEAREST
    moved = cv2.warpPerspective(classes0, matrix, size, flags=flags)
    seen = cv2.warpPerspective(np.ones_like(classes0), matrix, size, flags=flags) > 0
    result = {}
    for index in np.union1d(np.unique(moved[seen]), np.unique(classes1[seen])):
        first, second = (moved == index) & seen, (classes1 == index) & seen
        if index:
            result[int(index)] = float((first & second).sum() / (first | second).sum())
    return result


def _as_given(hypothesis: Hypothesis) -> Refined:
    return Refined(hypothesis.matrix, "similarity", None, None)


def _registration(image: Picture, map_: Picture, found: Refined, hypothesis: Hypothesis) -> Registration:
    estimate: Estimate | None = found.estimate
    inliers: Any = estimate.inliers if estimate is not None else None
    evidence = collect(image, map_, found.matrix, found.matches, inliers)
    return Registration(
        matrix=found.matrix / found.matrix[2, 2],
        model=found.model,
        accepted=evidence.accepted,
        evidence=evidence,
        residual=estimate.residual if estimate is not None else float("nan"),
        covariance=estimate.covariance if estimate is not None else None,
        held_out=estimate.held_out if estimate is not None else {},
        method=hypothesis.method,
    )


def _nothing(image: Picture, map_: Picture, prior: Prior, method: str) -> Registration:
    """The prior, refused."""
    matrix = np.vstack([prior.similarity(image.shape, map_.shape).matrix(), (0, 0, 1)])
    evidence = Evidence(0.0, 0.0, 0.0, 0.0, 0, 0, 0.0)
    return Registration(matrix, "similarity", False, evidence, float("nan"), None, {}, method)
