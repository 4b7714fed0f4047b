"""Errors of estimated camera poses against true ones: recalls, areas under the curve, medians."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from .. import logger
from ..errors import InputError, MissingInputError
from ..formats.atomic import write_text
from ..formats.colmap import read_model, registered_poses
from ..formats.lists import read_image_list
from ..formats.results import QueryResult, Status, read_log, read_poses
from .metrics import pose_auc, pose_error
from .names import match_names

Poses = Mapping[str, pycolmap.Rigid3d]
Thresholds = Sequence[tuple[float, float]]

#: Position (map units) and rotation (degrees) of the visual localization benchmark
#: (Sattler et al., Benchmarking 6DOF Outdoor Visual Localization, CVPR 2018): high, medium, coarse.
BENCHMARK_THRESHOLDS: tuple[tuple[float, float], ...] = ((0.25, 2.0), (0.5, 5.0), (5.0, 10.0))

#: Status of a pose that comes from a results file, which does not tell localized from fallback.
UNRECORDED = "unrecorded"
STATUSES = (*(status.value for status in Status), UNRECORDED)


@dataclass(frozen=True)
class PoseError:
    """Error of one query.

    Attributes:
        position: distance of the camera centres, map units; infinite without a pose.
        rotation: angle of the relative rotation, degrees; infinite without a pose.
        status: ``localized``, ``fallback``, ``failed``, or ``unrecorded`` for poses of a results file.
    """

    position: float
    rotation: float
    status: str


@dataclass
class Evaluation:
    """Errors of all queries and the figures made of them.

    Attributes:
        errors: error by query name, as the query is named in the results.
        thresholds: pairs of position (map units) and rotation (degrees).
        ignored: queries left out because the ground truth does not know them.
    """

    errors: dict[str, PoseError]
    thresholds: tuple[tuple[float, float], ...] = BENCHMARK_THRESHOLDS
    ignored: list[str] = field(default_factory=list)

    def _pairs(self, statuses: Sequence[str] = STATUSES) -> np.ndarray:
        chosen = [(e.position, e.rotation) for e in self.errors.values() if e.status in statuses]
        return np.array(chosen, float).reshape(-1, 2)

    def _num_correct(self, statuses: Sequence[str]) -> np.ndarray:
        pairs = self._pairs(statuses)
        return np.array([(pairs <= np.array(threshold)).all(1).sum() for threshold in self.thresholds])

    @property
    def num_queries(self) -> int:
        """Number of queries evaluated."""
        return len(self.errors)

    @property
    def counts(self) -> dict[str, int]:
        """Number of queries by status."""
        return {status: sum(error.status == status for error in self.errors.values()) for status in STATUSES}

    @property
    def recall(self) -> list[float]:
        """Share of all queries within each threshold; fallback poses are answers and count."""
        return (self._num_correct(STATUSES) / self.num_queries).tolist()

    @property
    def recall_localized(self) -> list[float]:
        """Share of all queries that are localized and within each threshold: fallback counts as wrong."""
        return (self._num_correct([Status.LOCALIZED.value]) / self.num_queries).tolist()

    @property
    def precision_localized(self) -> list[float] | None:
        """Share of the localized queries within each threshold; None when nothing is localized."""
        number = self.counts[Status.LOCALIZED.value]
        return (self._num_correct([Status.LOCALIZED.value]) / number).tolist() if number else None

    @property
    def position_auc(self) -> list[float]:
        """:func:`pose_auc` of the position errors of all queries at the position thresholds."""
        return pose_auc(self._pairs()[:, 0], [position for position, _ in self.thresholds])

    @property
    def rotation_auc(self) -> list[float]:
        """:func:`pose_auc` of the rotation errors of all queries at the rotation thresholds."""
        return pose_auc(self._pairs()[:, 1], [rotation for _, rotation in self.thresholds])

    @property
    def medians(self) -> tuple[float, float]:
        """Median position (map units) and rotation error (degrees) of all queries.

        Infinite when half of the queries or more have no pose.
        """
        position, rotation = np.median(self._pairs(), axis=0)
        return float(position), float(rotation)

    @property
    def medians_localized(self) -> tuple[float, float] | None:
        """Median position and rotation error of the localized queries; None when there is none."""
        pairs = self._pairs([Status.LOCALIZED.value])
        if not len(pairs):
            return None
        position, rotation = np.median(pairs, axis=0)
        return float(position), float(rotation)

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON; an infinite error is None."""

        def finite(values: Iterable[float] | None) -> list[float | None] | None:
            return None if values is None else [v if np.isfinite(v) else None for v in values]

        return {
            "num_queries": self.num_queries,
            "counts": self.counts,
            "thresholds": [list(threshold) for threshold in self.thresholds],
            "recall": self.recall,
            "recall_localized": self.recall_localized,
            "precision_localized": self.precision_localized,
            "position_auc": self.position_auc,
            "rotation_auc": self.rotation_auc,
            "medians": finite(self.medians),
            "medians_localized": finite(self.medians_localized),
            "ignored": self.ignored,
            "errors": {
                name: {"status": e.status, **dict(zip(("position", "rotation"), pair, strict=True))}
                for name, e in self.errors.items()
                if (pair := finite((e.position, e.rotation))) is not None
            },
        }


def _answers(
    results: Iterable[QueryResult] | Mapping[str, pycolmap.Rigid3d | None],
) -> dict[str, tuple[pycolmap.Rigid3d | None, str]]:
    """Pose and status by name."""
    answers: dict[str, tuple[pycolmap.Rigid3d | None, str]] = {}
    if isinstance(results, Mapping):
        for name, pose in results.items():
            answers[name] = (pose, Status.FAILED.value if pose is None else UNRECORDED)
        return answers
    for result in results:
        if result.name in answers:
            raise InputError(f"The results hold query '{result.name}' twice: remove one.")
        pose = result.cam_from_world
        if pose is None and result.status is not Status.FAILED:
            raise InputError(f"Query '{result.name}' is '{result.status.value}' but has no pose.")
        answers[result.name] = (None if result.status is Status.FAILED else pose, result.status.value)
    return answers


def check_thresholds(thresholds: Thresholds) -> tuple[tuple[float, float], ...]:
    """Return the thresholds as pairs of positive numbers, or raise :class:`InputError`."""
    checked = tuple((float(position), float(rotation)) for position, rotation in thresholds)
    if not checked or not all(0 < value < np.inf for pair in checked for value in pair):
        raise InputError(
            f"Thresholds must be pairs of positive position (map units) and angle (degrees), not {checked}."
        )
    return checked


def evaluate(
    results: Iterable[QueryResult] | Mapping[str, pycolmap.Rigid3d | None],
    ground_truth: Poses,
    thresholds: Thresholds = BENCHMARK_THRESHOLDS,
    queries: Iterable[str] | None = None,
    ignore_unknown: bool = False,
) -> Evaluation:
    """Compare estimated poses with true ones.

    A query without pose is infinitely wrong. A fallback pose is an answer and counts in the recall, but
    is never counted as localized.

    Args:
        results: query results, or poses (world→camera; None for none) by name.
        ground_truth: true poses, world→camera, by name; images that are no queries are not used.
        thresholds: pairs of position (map units) and rotation (degrees).
        queries: names of all queries; those absent from the results count as failed.
        ignore_unknown: leave out queries that the ground truth does not know, instead of raising.

    Returns:
        The errors, with recalls, areas under the curve, and medians as properties.

    Raises:
        InputError: ambiguous, repeated or unknown names, no query at all, or a pose that is not finite.
    """
    checked = check_thresholds(thresholds)
    answers = _answers(results)
    if queries is not None:
        queries = list(queries)
        asked = match_names(answers, queries)
        if foreign := [name for name in answers if name not in asked]:
            raise InputError(f"The list of queries does not hold {_examples(foreign)} of the results.")
        answers = {asked[name]: answer for name, answer in answers.items()}
        answers = {name: answers.get(name, (None, Status.FAILED.value)) for name in queries}
    true_names = match_names(answers, ground_truth)
    unknown = [name for name in answers if name not in true_names]
    if unknown and not ignore_unknown:
        raise InputError(
            f"The ground truth has no pose of {_examples(unknown)}: check that it belongs to these queries,"
            " or leave them out with `--ignore_unknown`."
        )
    errors = {}
    for name, true_name in true_names.items():
        pose, status = answers[name]
        error = (np.inf, np.inf) if pose is None else pose_error(pose, ground_truth[true_name], name)
        errors[name] = PoseError(*error, status)
    if not errors:
        raise InputError("No query with a true pose to evaluate.")
    return Evaluation(errors, checked, unknown)


def _examples(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "inf"


def format_table(evaluations: Evaluation | Mapping[str, Evaluation]) -> str:
    """Figures of one or several evaluations as a text table, one row each.

    Args:
        evaluations: one evaluation, or several by label; all with the thresholds of the first.

    Returns:
        Lines of equal width. Recalls are in percent, one number per threshold; `localized only` is the
        recall with fallback poses counted as wrong; medians are of all queries.
    """
    if isinstance(evaluations, Evaluation):
        evaluations = {"all": evaluations}
    thresholds = next(iter(evaluations.values())).thresholds
    limits = " / ".join(f"{position:g}, {rotation:g}°" for position, rotation in thresholds)
    rows = [
        [
            "queries",
            "number",
            *STATUSES,
            "median",
            f"recall % at {limits}",
            "without fallback",
            "AUC position",
        ]
    ]
    for label, evaluation in evaluations.items():
        position, rotation = evaluation.medians
        shares = (evaluation.recall, evaluation.recall_localized, evaluation.position_auc)
        rows.append(
            [
                label,
                str(evaluation.num_queries),
                *(str(evaluation.counts[status]) for status in STATUSES),
                f"{_number(position)}, {_number(rotation)}°",
                *(" / ".join(f"{100 * value:.1f}" for value in share) for share in shares),
            ]
        )
    # Statuses that do not occur would only take room.
    used = [any(row[i] != "0" for row in rows[1:]) for i in range(len(rows[0]))]
    rows = [[cell for cell, use in zip(row, used, strict=True) if use] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def read_results(path: Path) -> list[QueryResult] | dict[str, pycolmap.Rigid3d]:
    """Read a results file (``name qw qx qy qz tx ty tz``) or a JSON-lines log, whichever `path` is.

    Raises:
        MissingInputError: no such file.
        InputError: a line of neither format.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"Results file {path} does not exist.")
    with path.open(encoding="utf-8") as file:
        is_log = file.read(1) == "{"
    return read_log(path) if is_log else read_poses(path)


def main(
    results: Path,
    ground_truth: Path,
    thresholds: Thresholds = BENCHMARK_THRESHOLDS,
    queries: Path | None = None,
    ignore_unknown: bool = False,
    output: Path | None = None,
) -> Evaluation:
    """Evaluate a results file against a COLMAP model with true poses.

    Args:
        results: results file or JSON-lines log; only the log tells localized from fallback.
        ground_truth: folder of a COLMAP model.
        thresholds: pairs of position (map units) and rotation (degrees).
        queries: list of all queries; those without a result count as failed.
        ignore_unknown: leave out queries without a true pose.
        output: JSON file for all figures and errors.

    Returns:
        The evaluation; its table is logged.

    Raises:
        InputError, MissingInputError, CorruptFileError: see :func:`evaluate` and the readers.
    """
    evaluation = evaluate(
        read_results(results),
        registered_poses(read_model(ground_truth)),
        thresholds,
        read_image_list(queries) if queries else None,
        ignore_unknown,
    )
    logger.info("Evaluation of %s:\n%s", results, format_table(evaluation))
    if evaluation.ignored:
        logger.warning("Without a true pose, left out: %s", _examples(evaluation.ignored))
    if output:
        write_text(Path(output), json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=1) + "\n")
    return evaluation


def parse_threshold(text: str) -> tuple[float, float]:
    """Read ``position,degrees``, for instance ``0.25,2``."""
    try:
        position, rotation = (float(value) for value in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not `position,degrees`, for instance 0.25,2") from None
    return position, rotation


def build_parser() -> argparse.ArgumentParser:
    """Command line of :func:`main`."""
    parser = argparse.ArgumentParser(
        prog="python -m hloc_ext evaluate_poses", description="Compare estimated poses with true ones."
    )
    parser.add_argument(
        "--results", type=Path, required=True, help="results file, or JSON-lines log with the statuses"
    )
    parser.add_argument(
        "--ground_truth", type=Path, required=True, help="folder of a COLMAP model with true poses"
    )
    parser.add_argument(
        "--thresholds",
        type=parse_threshold,
        nargs="+",
        default=list(BENCHMARK_THRESHOLDS),
        metavar="POSITION,DEGREES",
        help="recall thresholds (default: 0.25,2 0.5,5 5,10)",
    )
    parser.add_argument("--queries", type=Path, help="list of all queries; missing ones count as failed")
    parser.add_argument("--ignore_unknown", action="store_true", help="leave out queries without a true pose")
    parser.add_argument("--output", type=Path, help="JSON file for all figures and errors")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Parse the command line and run :func:`main`."""
    main(**vars(build_parser().parse_args(argv)))


if __name__ == "__main__":
    cli()
