"""Figures of cross-view networks on a data set: retrieval under all conditions, poses, bird's-eye views."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hloc_ext.cross_view.bev import CLASSES, BEVScores, score_bevs
from hloc_ext.cross_view.descriptors import Condition, CrossViewNetworks, GroundDescriptors
from hloc_ext.cross_view.index import CrossViewIndex, Retrieved, TileTable
from hloc_ext.cross_view.localization import PoseErrors, estimate_poses, pose_errors
from hloc_ext.cross_view.pose import PoseSearch
from hloc_ext.datasets.cross_view.geography import earth_centred
from hloc_ext.datasets.cross_view.layout import CrossViewSet
from hloc_ext.errors import InputError
from hloc_ext.evaluation.cross_view import TIES, CrossViewScores, evaluate_retrieval
from hloc_ext.models.bev import SSANetwork
from hloc_ext.report import Table

#: Recall columns of the tables.
RECALLS = ("R@1", "R@5", "R@10", "R@1%")


@dataclass(frozen=True)
class Outcome:
    """A method under a condition.

    Attributes:
        method: name.
        condition: how the queries came.
        scores: of the retrieval.
        grounds: descriptors of the queries.
        retrieved: tiles of the queries.
        heading_errors: (Q,) degrees between the heading that retrieval found with the best tile and the true
            one, NaN where the best tile is wrong or no heading is found.
    """

    method: str
    condition: Condition
    scores: CrossViewScores
    grounds: GroundDescriptors
    retrieved: Retrieved
    heading_errors: npt.NDArray[np.float64]

    def row(self) -> dict[str, Any]:
        """Figures of the table of conditions."""
        errors = self.heading_errors[np.isfinite(self.heading_errors)]
        row = self.scores.row()
        return {
            "method": self.method,
            "field of view, heading": self.condition.name,
            **{name: row[name] for name in RECALLS},
            "hit rate": row["hit rate"],
            "median m": row["median m"],
            "median heading error °": float(np.median(errors)) if len(errors) else None,
        }


def parse_methods(texts: Sequence[str]) -> dict[str, list[Path]]:
    """Read ``NAME=FILE[,FILE]``; without a name it is that of the file.

    Raises:
        InputError: two methods of one name.
    """
    methods: dict[str, list[Path]] = {}
    for text in texts:
        name, separator, files = text.rpartition("=")
        paths = [Path(file) for file in files.split(",")]
        name = name if separator else paths[0].stem
        if name in methods:
            raise InputError(f"Two of the methods are called {name}: give them names, NAME=FILE.")
        methods[name] = paths
    return methods


def evaluable(pairs: CrossViewSet) -> CrossViewSet:
    """The queries whose true tile is known, and all tiles.

    Raises:
        InputError: there is none.
    """
    rows = np.flatnonzero(pairs.positives >= 0)
    if not len(rows):
        raise InputError(
            f"None of the {len(pairs)} queries of {pairs.root} has a known tile: there is nothing to"
            " evaluate. Give their places (EXIF, or a table name,lat,lon)."
        )
    return pairs if len(rows) == len(pairs) else pairs.subset(rows, np.arange(len(pairs.aerials)))


def limited(pairs: CrossViewSet, limit: int | None, seed: int = 0) -> CrossViewSet:
    """At most so many of the queries, drawn at random, and all tiles."""
    if limit is None or limit >= len(pairs):
        return pairs
    rows = np.sort(np.random.default_rng([seed, 811]).permutation(len(pairs))[:limit])
    return pairs.subset(rows, np.arange(len(pairs.aerials)))


def evaluate_condition(
    name: str,
    networks: CrossViewNetworks,
    index: CrossViewIndex,
    pairs: CrossViewSet,
    condition: Condition,
    seed: int = 0,
    k: int = 5,
) -> Outcome:
    """Evaluate a method under a condition.

    Args:
        name: of the method.
        networks: of the ground view.
        index: of the tiles of `pairs`, made with the same weights.
        pairs: queries with known tiles.
        condition: how they come.
        seed: of random headings.
        k: number of tiles that are kept for each query.
    """
    grounds = networks.describe_grounds(pairs, condition, seed)
    scores = evaluate_retrieval(
        grounds.values,
        index.descriptors(),
        pairs.positives,
        pairs.semi_positives,
        earth_centred(pairs.ground_latlon),
        earth_centred(pairs.aerial_latlon),
    )
    retrieved = index.search(grounds.values, k)
    return Outcome(name, condition, scores, grounds, retrieved, _heading_errors(pairs, grounds, retrieved))


def _heading_errors(
    pairs: CrossViewSet, grounds: GroundDescriptors, retrieved: Retrieved
) -> npt.NDArray[np.float64]:
    rows = np.arange(len(pairs))
    turns = np.minimum(retrieved.turns[:, 0], grounds.headings.shape[1] - 1)
    found = grounds.headings[rows, turns]
    errors = np.abs((found - grounds.true_headings + 180) % 360 - 180)
    return np.where(retrieved.tiles[:, 0] == pairs.positives, errors, np.nan)


def recall_table(outcomes: Sequence[Outcome]) -> Table:
    """Recall in its three forms; a row for each method and form."""
    headers = [
        "method",
        "ties",
        "queries",
        "tiles",
        *RECALLS,
        "R@1%+1",
        "hit rate",
        "R@1 within 5 m",
        "median m",
    ]
    rows = []
    for outcome in outcomes:
        for ties in TIES:
            row = outcome.scores.row(ties) | {"method": outcome.method, "ties": ties}
            if ties != "optimistic":
                row |= dict.fromkeys(("hit rate", "R@1 within 5 m", "median m"))
            rows.append([row[header] for header in headers])
    tied = ", ".join(f"{outcome.scores.num_tied_queries} ({outcome.method})" for outcome in outcomes)
    note = (
        "Percent of the queries whose true tile is among the first k. Optimistic: tiles that are strictly"
        " more similar come before it (published figures); pessimistic: equal ones, too; expected: equal ones"
        f" in random order. Queries whose true tile ties with a wrong one: {tied}. 1%: a hundredth of the"
        " tiles, rounded down; 1%+1: one tile more, as VIGOR's code counts. Metres: from the camera to the"
        " centre of the first tile."
    )
    return Table("Retrieval", headers, rows, note)


def condition_table(outcomes: Sequence[Outcome]) -> Table:
    """Recall over fields of view and headings."""
    rows = [outcome.row() for outcome in outcomes]
    headers = list(rows[0]) if rows else []
    note = (
        "Panoramas are cropped to the field of view. Known heading: they are centred on the north; unknown:"
        " on a random azimuth, which the network is not told. Optimistic, percent."
    )
    return Table("Field of view and heading", headers, [list(row.values()) for row in rows], note)


def evaluate_poses(
    networks: CrossViewNetworks,
    table: TileTable,
    pairs: CrossViewSet,
    condition: Condition,
    true_headings: npt.ArrayLike,
    search: PoseSearch | None = None,
    seed: int = 0,
) -> PoseErrors:
    """Errors of the poses of queries in their true tiles.

    Args:
        networks: that of the ground view draws bird's-eye views.
        table: of the tiles.
        pairs: queries with known tiles and offsets.
        condition: how they come.
        true_headings: (Q,) of the descriptors under that condition.
        search: options of the search.
        seed: of random headings; that of the descriptors.
    """
    poses = estimate_poses(networks, pairs, pairs.positives, table, condition, search, seed)
    return pose_errors(poses, pairs.offsets, pairs.tile_size[pairs.positives], true_headings)


def pose_table(errors: Mapping[str, PoseErrors]) -> Table:
    """A row for each condition."""
    rows = [{"condition": name, **error.row()} for name, error in errors.items()]
    headers = max((list(row) for row in rows), key=len)
    note = (
        "Camera in its true tile: position and heading, by laying the drawn bird's-eye view on the tile's"
        " class map. Within 1 m and 5 m: percent. Squared error / variance is 2 where the reported"
        " uncertainty is right, more where it is too small."
    )
    return Table("Pose in the tile", headers, [[row.get(header) for header in headers] for row in rows], note)


def draws(networks: CrossViewNetworks) -> bool:
    """Whether the network of the ground view draws bird's-eye views."""
    return isinstance(networks.models["ground"].net, SSANetwork)


def labelled(pairs: CrossViewSet) -> bool:
    """Whether every query's true tile has a class map."""
    return all(pairs.aerial_labels[tile] is not None for tile in pairs.positives)


def evaluate_bev(networks: CrossViewNetworks, pairs: CrossViewSet, fov: float = 360.0) -> BEVScores:
    """Intersection over union of the bird's-eye views of queries whose tiles have class maps."""
    network = networks.models["ground"].net
    assert isinstance(network, SSANetwork)
    return score_bevs(network, pairs, fov)


def bev_table(scores: Mapping[str, BEVScores]) -> Table:
    """A row for each method."""
    headers = ["method", "cells", "mIoU", *CLASSES, "accuracy"]
    rows: list[list[Any]] = []
    for name, score in scores.items():
        for cells, found in (("visible", score.visible), ("all", score.all)):
            values = [100 * value for value in (found.mean_iou, *found.iou, found.accuracy)]
            rows.append([name, cells, *(None if np.isnan(value) else value for value in values)])
    note = (
        "Percent. Visible: cells that no building hides from the camera, by the class map. The mean is over"
        " the classes that occur."
    )
    return Table("Bird's-eye views", headers, rows, note)


def markdown(table: Table) -> str:
    """A table as Markdown."""

    def text(value: Any) -> str:
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return "–"
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    lines = [f"### {table.title}", "", f"| {' | '.join(table.headers)} |", "|---" * len(table.headers) + "|"]
    lines += [f"| {' | '.join(map(text, row))} |" for row in table.rows]
    return "\n".join([*lines, "", table.note, ""])


def add_condition_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the table of conditions."""
    parser.add_argument(
        "--fov", type=float, nargs="+", default=[360.0, 180.0, 90.0, 70.0], help="fields of view, degrees"
    )
    parser.add_argument(
        "--headings",
        nargs="+",
        choices=("known", "unknown"),
        default=["known", "unknown"],
        help="whether headings are told",
    )


def conditions_of(args: argparse.Namespace) -> list[Condition]:
    """Conditions of the options; that of whole panoramas with known headings always comes first."""
    found = [Condition(fov, heading == "known") for heading in args.headings for fov in args.fov]
    return list(dict.fromkeys([Condition(), *found]))
