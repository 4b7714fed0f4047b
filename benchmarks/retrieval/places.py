"""Retrieval in places whose images are known to show the same scenery or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from benchmarks.tables import Table
from hloc_ext.datasets.sfm_scene import SfmScene
from hloc_ext.evaluation.retrieval import (
    RetrievalScores,
    chance_recall,
    count_relevant,
    find_hits,
    scores_of_hits,
    without,
)
from hloc_ext.search import Restriction, top_k

from .methods import Descriptors, Method, Photos
from .options import RetrievalOptions

#: Images looked at.
RECALLS, PRECISIONS = (1, 5, 10), (5, 10, 20)
DEPTH = max(*RECALLS, *PRECISIONS)
CHANCE = "(random order)"

Columns = npt.NDArray[np.int64]
#: Descriptors (N, D) or one of them as feature files hold them.
Stored = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Condition:
    """Queries of one kind in a database, and which images answer them.

    Attributes:
        queries: what they are, for instance "night → day".
        criterion: when an image is relevant.
        query_names, database_names: of the images.
        relevant: (Q, N) bool.
        excluded: (Q, E) columns of database images that a query must not retrieve, as itself; −1 for none.
    """

    queries: str
    criterion: str
    query_names: Sequence[str]
    database_names: Sequence[str]
    relevant: csr_matrix
    excluded: Columns

    def limited(self, number: int | None) -> Condition:
        """At most so many queries, spread evenly."""
        total = len(self.query_names)
        if number is None or number >= total:
            return self
        rows = np.arange(number) * total // number
        names = [self.query_names[row] for row in rows.tolist()]
        return Condition(
            self.queries,
            self.criterion,
            names,
            self.database_names,
            self.relevant[rows],
            self.excluded[rows],
        )


@dataclass(frozen=True)
class Place:
    """Images of one place.

    Attributes:
        name: of the place.
        images: folder of the images.
        conditions: which images are queries, and what they should find.
        scene: model with the poses of all images, queries too; or None.
        facts: about the images and the truth, one sentence each.
    """

    name: str
    images: Path
    conditions: Sequence[Condition]
    scene: SfmScene | None = None
    facts: Sequence[str] = ()


@dataclass
class _Tally:
    """Hits in all places of a condition."""

    hits: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    counts: list[Columns] = field(default_factory=list)
    candidates: list[Columns] = field(default_factory=list)

    def add(self, condition: Condition, ranking: Columns) -> None:
        relevant = without(condition.relevant, condition.excluded)
        self.hits.append(find_hits(ranking, relevant))
        self.counts.append(count_relevant(relevant))
        number = len(condition.database_names) - (condition.excluded >= 0).sum(1)
        self.candidates.append(number)

    def scores(self) -> RetrievalScores:
        return scores_of_hits(np.concatenate(self.hits), np.concatenate(self.counts), {*RECALLS, *PRECISIONS})

    def chance(self, k: int) -> float:
        counts, candidates = np.concatenate(self.counts), np.concatenate(self.candidates)
        answerable = counts > 0
        return chance_recall(counts[answerable], candidates[answerable], k)


def evaluate_places(
    title: str, places: Sequence[Place], methods: Sequence[Method], options: RetrievalOptions
) -> Table:
    """Recall and precision of each method and condition; the queries of several places count alike.

    Args:
        title: of the table.
        places: conditions of the same queries and criterion are put together.
        methods: those that need a model are left out where a place has none.
        options: limit of queries.
    """
    table = Table(title, [*_facts(places), *PROTOCOL], COLUMNS)
    tallies: dict[tuple[str, str], dict[str, _Tally]] = {}
    for method in methods:
        if method.needs_model and any(place.scene is None for place in places):
            table.notes.append(f"{method.name}: left out, there is no model with the poses of all images")
            continue
        for place in places:
            conditions = [condition.limited(options.limit) for condition in place.conditions]
            for condition, ranking in zip(conditions, rank(place, conditions, method), strict=True):
                key = condition.queries, condition.criterion
                tallies.setdefault(key, {}).setdefault(method.name, _Tally()).add(condition, ranking)
    for key, by_method in tallies.items():
        rows = [_row(key, name, tally) for name, tally in by_method.items()]
        table.rows += [*rows, _chance_row(key, next(iter(by_method.values())))]
        for row in table.rows[-len(rows) - 1 :]:
            options.report(row)
    return table


def _facts(places: Iterable[Place]) -> list[str]:
    return [f"{place.name}: {fact}" for place in places for fact in place.facts]


PROTOCOL = (
    "descriptors in 16 bits; dot products, all compared",
    "queries without a relevant image are left out; `number` is that of the others, `relevant` how many"
    " images answer each",
    f"R@k: share of the queries with a relevant image among the first k; P@k: hits / min(k, relevant), mean;"
    f" {CHANCE}: its expectation",
)
_KEYS = ("queries", "relevant image", "method", "number", "relevant")
COLUMNS = (*_KEYS, *(f"R@{k} %" for k in RECALLS), *(f"P@{k} %" for k in PRECISIONS))


def rank(place: Place, conditions: Sequence[Condition], method: Method) -> list[Columns]:
    """Rankings of the queries of each condition, (Q, :data:`DEPTH`) columns of its database."""
    used = {name for c in conditions for name in (*c.query_names, *c.database_names)}
    descriptors = describe(method, Photos(place.images, sorted(used), place.scene))
    return [
        search(
            stack(descriptors, condition.query_names),
            stack(descriptors, condition.database_names),
            condition.excluded,
        )
        for condition in conditions
    ]


def describe(method: Method, photos: Photos) -> dict[str, Stored]:
    """Descriptors by name, in 16 bits as the feature files hold them."""
    found: Descriptors = method.describe(photos)
    return dict(zip(photos.names, found.astype(np.float16), strict=True))


def stack(descriptors: Mapping[str, Stored], names: Sequence[str]) -> Stored:
    """Descriptors of some images, (N, D)."""
    return np.stack([descriptors[name] for name in names])


def search(queries: Stored, database: Stored, excluded: Columns, depth: int = DEPTH) -> Columns:
    """The nearest database rows of each query, (Q, `depth`), −1 where there are not so many."""
    restriction = Restriction(excluded) if excluded.shape[1] else None
    found, _ = top_k(queries, database, min(depth, len(database)), restriction=restriction)
    ranking = np.full((len(queries), depth), -1, np.int64)
    ranking[:, : found.shape[1]] = found
    return ranking


def _row(key: tuple[str, str], name: str, tally: _Tally) -> dict[str, Any]:
    scores = tally.scores()
    cells = dict(zip(_KEYS, (*key, name, scores.num_queries, round(scores.mean_relevant, 1)), strict=True))
    cells |= {f"R@{k} %": round(100 * scores.recall[k], 1) for k in RECALLS}
    return cells | {f"P@{k} %": round(100 * scores.precision[k], 1) for k in PRECISIONS}


def _chance_row(key: tuple[str, str], tally: _Tally) -> dict[str, Any]:
    cells = dict(zip(_KEYS, (*key, CHANCE), strict=False))
    return cells | {f"R@{k} %": round(100 * tally.chance(k), 1) for k in RECALLS}
