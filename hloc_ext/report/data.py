"""What a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from ..evaluation import Evaluation
from ..formats.colmap import registered_poses
from ..formats.results import QueryResult, Status
from .stages import StageRecord


@dataclass
class Scene:
    """Map of a report: 3-D points and cameras.

    Attributes:
        points: N×3, world frame, map units.
        colors: N×3 uint8 RGB, or None.
        map_poses: poses of the map images, world→camera, by name.
        mean_reprojection_error: of all observations, pixels, or None.
    """

    points: np.ndarray
    colors: np.ndarray | None = None
    map_poses: Mapping[str, pycolmap.Rigid3d] = field(default_factory=dict)
    mean_reprojection_error: float | None = None

    @classmethod
    def from_reconstruction(cls, model: pycolmap.Reconstruction) -> Scene:
        """Points, colours (None when all are black, as in models without them) and registered poses."""
        points = [model.points3D[i] for i in sorted(model.points3D)]
        colors = np.array([point.color for point in points], np.uint8).reshape(-1, 3)
        observations = sum(point.track.length() for point in points)
        return cls(
            np.array([point.xyz for point in points], float).reshape(-1, 3),
            colors if colors.any() else None,
            registered_poses(model),
            model.compute_mean_reprojection_error() if observations else None,
        )


@dataclass
class MatchPicture:
    """A query beside a map image, with their matches.

    Attributes:
        title: caption.
        image0: query, a file or an H×W×3 (RGB) or H×W uint8 array.
        image1: map image.
        points0: M×2 pixels (x, y) in `image0`, centre of the top-left pixel = (0, 0).
        points1: M×2 pixels in `image1`.
        inliers: M bool.
    """

    title: str
    image0: Path | np.ndarray
    image1: Path | np.ndarray
    points0: np.ndarray
    points1: np.ndarray
    inliers: np.ndarray


@dataclass
class Picture:
    """A picture of its own.

    Attributes:
        title: heading.
        image: a file or an H×W×3 (RGB) or H×W uint8 array.
        note: below the heading.
    """

    title: str
    image: Path | np.ndarray
    note: str = ""


@dataclass
class Table:
    """A table of its own.

    Attributes:
        title: heading.
        headers: of the columns; the first column names the rows.
        rows: a fraction is written with three significant digits, a whole number (int) with all, None as a
            dash.
        note: below the heading.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    note: str = ""


@dataclass
class Card:
    """A figure of the summary at the top.

    Attributes:
        label: what it is.
        value: with its unit.
        detail: below it, in small print.
    """

    label: str
    value: str
    detail: str = ""


@dataclass
class Chart:
    """Charts side by side, in a section of their own.

    Attributes:
        title: heading.
        figures: plotly figures (``data`` and ``layout``) by what they show, for those who cannot see them.
        note: below the heading.
    """

    title: str
    figures: Mapping[str, Mapping[str, Any]]
    note: str = ""


@dataclass
class PictureGroup:
    """Pictures below each other in one section.

    Attributes:
        title: heading of the section.
        pictures: each with its title and note as its caption.
        note: below the heading.
    """

    title: str
    pictures: Sequence[Picture]
    note: str = ""


@dataclass
class Swipe:
    """Two pictures of the same thing, one upon the other, with a border between them that the reader moves.

    Attributes:
        title: caption.
        before: shown on the left of the border; a file or an H×W×3 (RGB) or H×W uint8 array.
        after: shown on the right of it, of the same shape.
        labels: what the two are.
        note: behind the caption.
    """

    title: str
    before: Path | np.ndarray
    after: Path | np.ndarray
    labels: tuple[str, str] = ("before", "after")
    note: str = ""


@dataclass
class SwipeGroup:
    """Swipe views below each other in one section.

    Attributes:
        title: heading of the section.
        swipes: the views.
        note: below the heading.
    """

    title: str
    swipes: Sequence[Swipe]
    note: str = ""


@dataclass
class ReportData:
    """Everything that a report shows; what is empty or None is left out.

    Attributes:
        title: heading.
        facts: command, configurations, estimator, … by name.
        stages: cost of the stages.
        results: one per query.
        model: map.
        evaluation: errors, where ground truth exists.
        ground_truth: true poses, world→camera, by name; those that are no queries are not shown.
        matches: pictures, in order.
        unit: of length in the map, for instance ``m``.
        pictures: further pictures, above all else.
        tables: further tables, below the errors.
        cards: further figures of the summary.
        charts: further charts, above the tables.
        groups: further groups of pictures, below the tables.
        swipes: pictures before and after, above all but `pictures`.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    stages: list[StageRecord] = field(default_factory=list)
    results: list[QueryResult] = field(default_factory=list)
    model: pycolmap.Reconstruction | Scene | None = None
    evaluation: Evaluation | None = None
    ground_truth: Mapping[str, pycolmap.Rigid3d] | None = None
    matches: list[MatchPicture] = field(default_factory=list)
    unit: str = "units"
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    groups: list[PictureGroup] = field(default_factory=list)
    swipes: list[SwipeGroup] = field(default_factory=list)


def pick_queries(results: list[QueryResult], evaluation: Evaluation | None = None) -> dict[str, QueryResult]:
    """Choose the queries whose matches a report shows.

    Args:
        results: one per query.
        evaluation: with it queries are ranked by position error, without it by status and inliers.

    Returns:
        Queries under the keys ``best``, ``median`` and ``worst``; fewer when there are fewer queries
        with retrieved map images. Ties are broken by name.
    """

    def rank(result: QueryResult) -> tuple[float, int, int, str]:
        error = evaluation.errors.get(result.name) if evaluation else None
        statuses = list(Status)
        position = error.position if error else 0.0
        return position, statuses.index(result.status), -result.num_inliers, result.name

    ranked = sorted((r for r in results if r.retrieved), key=rank)
    if not ranked:
        return {}
    places = {"best": 0, "worst": len(ranked) - 1, "median": (len(ranked) - 1) // 2}
    chosen: dict[str, int] = {}
    for label, place in places.items():
        if place not in chosen.values():
            chosen[label] = place
    return {label: ranked[chosen[label]] for label in ("best", "median", "worst") if label in chosen}
