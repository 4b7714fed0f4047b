"""Methods side by side on problems of any heading, and on maps of other places."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.tables import Table
from hloc_ext.evaluation.homography import corner_error
from hloc_ext.evaluation.registration import (
    CornerError,
    class_iou,
    mean_average_corner_error,
    registration_error,
    similarity_rate,
    success_rate,
)
from hloc_ext.gis.registration.matching import Method, get_method
from hloc_ext.gis.registration.prior import Prior
from hloc_ext.gis.registration.register import Registration, register

from .problems import PRIOR, Makers, Problem

#: Ours: hypotheses of the gradient search and KD-Mamba, refined, with evidence.
OURS = "hloc_ext"
METHODS = ("sift", "orb", "akaze", "gradient-exhaustive", "gradient", "kd-mamba", OURS)
#: What the figures are compared with: the best of the first and the second one.
FEATURES, SEARCH = ("sift", "orb", "akaze"), "gradient-exhaustive"


@dataclass(frozen=True)
class Outcome:
    """What a method found for a problem.

    Attributes:
        error: corner error, whether the result was accepted or not; infinite without a result.
        before: of the prior, pixels.
        similarity: similarity rate of the result; 0 without one.
        accepted: whether it was (ours), or that there is a result (others).
        seconds: processor time.
        residual: median distance of points of the image, pixels of the map.
    """

    error: CornerError
    before: float
    similarity: float
    accepted: bool
    seconds: float
    residual: float


def make_method(name: str, weights: Path | None = None) -> Method:
    """A method by its name: :data:`OURS` or one of :mod:`hloc_ext.gis.registration.matching`."""
    return get_method("kd-mamba+gradient" if name == OURS else name, weights)


def run(name: str, method: Method, problem: Problem, prior: Prior = PRIOR) -> tuple[Registration, float]:
    """Register a problem; ours is refined, others are taken as they come. Also the processor time."""
    start = time.process_time()
    found = register(problem.image, problem.map, prior, method=method, refined=name == OURS)
    return found, time.process_time() - start


def evaluate(name: str, method: Method, problem: Problem, prior: Prior = PRIOR) -> Outcome:
    """Register a problem and compare with its truth."""
    found, seconds = run(name, method, problem, prior)
    height, width = problem.image.shape
    matrix = found.matrix if found.hypotheses else None
    error = registration_error(matrix, problem.truth, (width, height), problem.pixel_size)
    expected = np.vstack([prior.similarity(problem.image.shape, problem.map.shape).matrix(), (0, 0, 1)])
    before = corner_error(expected, problem.truth, (width, height))
    similarity = 0.0
    if matrix is not None:
        after, attainable = (
            class_iou(problem.image_classes, problem.overlap_classes(m)) for m in (matrix, problem.truth)
        )
        similarity = similarity_rate(after, attainable)
    return Outcome(
        error,
        before,
        similarity,
        found.accepted if name == OURS else matrix is not None,
        seconds,
        _median_distance(matrix, problem),
    )


def _median_distance(matrix: np.ndarray | None, problem: Problem) -> float:
    if matrix is None:
        return math.inf
    height, width = problem.image.shape
    x, y = np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9))
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    places = [m @ points for m in (matrix, problem.truth)]
    places = [(p[:2] / p[2]).T for p in places]
    return float(np.median(np.linalg.norm(places[0] - places[1], axis=1)))


def summarize(outcomes: Sequence[Outcome], ours: bool) -> dict[str, object]:
    """Columns of the table."""
    errors = [outcome.error for outcome in outcomes]
    row: dict[str, object] = {
        "pairs": len(outcomes),
        "success %": 100 * success_rate(errors),
        "median px": float(np.median([e.pixels for e in errors])),
        "median residual px": float(np.median([o.residual for o in outcomes])),
        "MACE px": mean_average_corner_error([e.pixels for e in errors], [o.before for o in outcomes]),
        "similarity %": 100 * float(np.nanmean([o.similarity for o in outcomes])),
        "CPU s": float(np.median([o.seconds for o in outcomes])),
        "CPU s, mean": float(np.mean([o.seconds for o in outcomes])),
    }
    if ours:
        right = [o for o in outcomes if o.error.success]
        wrong = [o for o in outcomes if not o.error.success]
        row["refused %"] = 100 * float(np.mean([not o.accepted for o in outcomes]))
        row["refused though right %"] = (
            100 * float(np.mean([not o.accepted for o in right])) if right else None
        )
        row["accepted though wrong"] = sum(o.accepted for o in wrong)
    return row


COLUMNS = (
    "pairs of",
    "method",
    "pairs",
    "success %",
    "median px",
    "median residual px",
    "MACE px",
    "similarity %",
    "refused %",
    "refused though right %",
    "accepted though wrong",
    "CPU s",
    "CPU s, mean",
)
PROTOCOL = (
    "one transform for a pair: rotation ±180°, scale 0.5 to 2 (log-uniform), shift of the map's centre up to"
    " 25 % of its side; nothing of it is told",
    "success: mean corner error below 3 % of the image's diagonal in the map, refused or not; median px: of"
    " corner errors; residual: median over a 9×9 grid of points; MACE: without a result as before",
    "similarity: mean over classes of IoU after ÷ IoU under the true transform, 1 % tolerance (docs/gis.md)",
    "sift, orb, akaze, gradient*, kd-mamba: their best similarity transform as it is; hloc_ext: hypotheses of"
    " gradient, a finer search and kd-mamba, each in doubt only, refined, model chosen by held-out residuals",
    "CPU s: processor seconds of a pair, median and mean",
)


def compare(
    methods: Mapping[str, Method],
    sets: Mapping[str, Makers],
    title: str,
    report: Callable[[dict[str, object]], None],
) -> Table:
    """A row for each method and kind of pair, with the margins of ours."""
    table = Table(title, PROTOCOL, COLUMNS)
    for kind, makers in sets.items():
        rows: dict[str, dict[str, object]] = {}
        outcomes: dict[str, list[Outcome]] = {name: [] for name in methods}
        for make in makers:
            problem = make()
            for name, method in methods.items():
                outcomes[name].append(evaluate(name, method, problem))
        for name, found in outcomes.items():
            rows[name] = {"pairs of": kind, "method": name, **summarize(found, name == OURS)}
            table.rows.append(rows[name])
            report(rows[name])
        if OURS in rows:
            table.notes += _margins(kind, rows)
    return table


def _margins(kind: str, rows: dict[str, dict[str, object]]) -> list[str]:
    notes = []
    features = [name for name in FEATURES if name in rows]

    def value(name: str, column: str) -> float:
        return float(str(rows[name][column]))

    if features:
        best = max(features, key=lambda name: value(name, "similarity %"))
        margin = value(OURS, "similarity %") - value(best, "similarity %")
        notes.append(
            f"{kind}: similarity {margin:+.1f} points against {best}, the best of {', '.join(features)}"
        )
    if SEARCH in rows:
        margin = value(OURS, "similarity %") - value(SEARCH, "similarity %")
        ratio = value(OURS, "CPU s") / max(value(SEARCH, "CPU s"), 1e-9)
        notes.append(f"{kind}: similarity {margin:+.1f} points against {SEARCH}, at {ratio:.2f} of its time")
    return notes


def count_false_accepts(sets: Mapping[str, Makers], report: Callable[[dict[str, object]], None]) -> Table:
    """How many maps without a right answer are accepted by ours, with 95 % bounds."""
    table = Table(
        "False accepts",
        ["maps of the same region as their mirror images, maps and layers of another city, layers of the city"
         " beside photos, and masks of other photos",
         "upper bound: 95 %, one-sided (Clopper and Pearson, 1934)"],
        ["pairs of", "pairs", "accepted", "accepted %", "at most %", "largest probability"],
    )  # fmt: skip
    method = make_method(OURS)
    total, wrong, largest = 0, 0, 0.0
    for kind, makers in sets.items():
        found = [run(OURS, method, make())[0] for make in makers]
        accepted = sum(result.accepted for result in found)
        highest = max((result.evidence.probability for result in found), default=0.0)
        total, wrong, largest = total + len(found), wrong + accepted, max(largest, highest)
        table.rows.append(_negative_row(kind, len(found), accepted, highest))
        report(table.rows[-1])
    table.rows.append(_negative_row("all", total, wrong, largest))
    return table


def _negative_row(kind: str, pairs: int, accepted: int, largest: float) -> dict[str, object]:
    from scipy.stats import beta

    bound = float(beta.ppf(0.95, accepted + 1, pairs - accepted)) if accepted < pairs else 1.0
    return {
        "pairs of": kind,
        "pairs": pairs,
        "accepted": accepted,
        "accepted %": 100 * accepted / max(pairs, 1),
        "at most %": 100 * bound,
        "largest probability": largest,
    }
