"""How well panoramas retrieve the satellite tile that they were taken on.

The field counts a query as found among the first k if fewer than k tiles are *strictly* more similar than the
true one (Sample4Geo, TransGeo, the official code of VIGOR). Two tiles of the same place and picture then both
count as found, which an index that returns one of them cannot do: published top-1 figures differ by up to
0.6 % for that reason alone. :class:`Ranks` keeps the numbers of better and of equal tiles apart, so that the
optimistic (published), the pessimistic and the expected recall come from one pass.

Descriptors have unit length; similarity is their dot product. "Reference" is a tile of the gallery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from scipy.special import gammaln

from ..errors import InputError

Array = npt.NDArray[Any]
Ties = Literal["optimistic", "pessimistic", "expected"]
#: How ties between the true tile and others are counted.
TIES: tuple[Ties, ...] = get_args(Ties)

#: Radius of CVACT's test in metres: any tile taken so near to the query counts as the true one (RecallGeo of
#: Liu and Li, "Lending orientation to neural networks for cross-view geo-localization", CVPR 2019).
CVACT_RADIUS = 5.0
#: Columns of the tables.
KS = (1, 5, 10)
#: Similarities that are held at once; 64 MB.
_BLOCK_ELEMENTS = 2**24


@dataclass(frozen=True)
class Ranks:
    """Where the true tile of each query stands in the gallery.

    Attributes:
        greater: (Q,) tiles that are strictly more similar to the query than its true one.
        tied: (Q,) wrong tiles that are as similar as the true one.
        tied_true: (Q,) true tiles that are as similar as the most similar true one, at least 1.
        similarity: (Q,) of the true tile; of the most similar one where several are true.
        best: (Q,) most similar tile, the first of equal ones.
        num_references: size of the gallery.
    """

    greater: npt.NDArray[np.int64]
    tied: npt.NDArray[np.int64]
    tied_true: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]
    best: npt.NDArray[np.int64]
    num_references: int

    @property
    def num_tied_queries(self) -> int:
        """Queries for which the optimistic and the pessimistic rank differ."""
        return int((self.tied > 0).sum())

    def hits(self, k: int, ties: Ties = "optimistic") -> npt.NDArray[np.float64]:
        """Probability that a true tile is among the first k, (Q,); 0 or 1 unless `ties` is ``expected``.

        Args:
            k: number of tiles looked at, at least 1.
            ties: ``optimistic``: the true tile comes before equal ones (published figures); ``pessimistic``:
                after them; ``expected``: in random order, 1 − C(t, m) / C(t + p, m) for t wrong and p true
                tiles of equal similarity, of which the first k hold m.

        Raises:
            InputError: k below 1, or an unknown rule.
        """
        if k < 1 or ties not in TIES:
            raise InputError(f"Recall needs k ≥ 1 and one of {', '.join(TIES)}, not {k}, {ties!r}.")
        if ties == "optimistic":
            return (self.greater < k).astype(float)
        if ties == "pessimistic":
            return (self.greater + self.tied < k).astype(float)
        total = self.tied + self.tied_true
        places = np.clip(k - self.greater, 0, total)
        missable = places <= self.tied  # otherwise there are more places than wrong tiles
        drawn = np.where(missable, places, 0)
        log_missed = _log_choose(self.tied, drawn) - _log_choose(total, drawn)
        return np.where(missable, 1 - np.exp(log_missed), 1.0)

    def recall(self, k: int, ties: Ties = "optimistic") -> float:
        """Share of the queries with a true tile among the first k; see :meth:`hits`."""
        return float(self.hits(k, ties).mean())


def _log_choose(n: Array, k: Array) -> Array:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def rank_references(
    queries: Array,
    references: Array,
    positives: npt.ArrayLike,
    ignored: npt.ArrayLike | None = None,
    tolerance: float = 0.0,
) -> Ranks:
    """Rank the true tile of each query among all, with bounded memory.

    Tiles with bit-identical descriptors are compared once and counted as often as they occur, so that they
    tie whatever the order of a matrix product's sums.

    Args:
        queries: (Q, D) float32, unit length; or (Q, T, D), descriptors of each picture for T possible
            headings, of which the one most similar to a tile counts for that tile.
        references: (R, D) float32, unit length.
        positives: (Q,) or (Q, P) true tiles of each query, −1 for none; each query needs one.
        ignored: (Q, S) tiles that are neither right nor wrong, −1 for none; a true tile is never ignored.
        tolerance: similarities that differ by no more are equal.

    Raises:
        InputError: descriptors or indices that do not fit each other, or are not finite.
    """
    queries, references = _descriptors(queries, "query", (2, 3)), _descriptors(references, "tile", (2,))
    if queries.shape[-1] != references.shape[1]:
        raise InputError(
            f"Descriptors of {queries.shape[-1]} and of {references.shape[1]} numbers cannot be compared:"
            " describe panoramas and tiles by networks that were trained together."
        )
    truth = _indices(positives, len(queries), len(references), "true")
    if (truth < 0).all(1).any():
        raise InputError(f"Query {int((truth < 0).all(1).argmax())} has no true tile: leave it out.")
    no_indices = np.full((len(queries), 0), -1)
    neutral = _indices(no_indices if ignored is None else ignored, len(queries), len(references), "ignored")
    unique, group = _unique_rows(references)
    turns = queries.shape[1] if queries.ndim == 3 else 1
    blocks = [
        _rank_block(queries[rows], references[unique], group, truth[rows], neutral[rows], tolerance)
        for rows in _blocks(len(queries), max(1, _BLOCK_ELEMENTS // (turns * len(references))))
    ]
    greater, tied, tied_true, similarity, best = (
        np.concatenate([block[i] for block in blocks]) for i in range(5)
    )
    return Ranks(greater, tied, tied_true, similarity, best, len(references))


def _rank_block(
    queries: Array, references: Array, group: Array, truth: Array, neutral: Array, tolerance: float
) -> tuple[Array, ...]:
    """Fields of :class:`Ranks` for some queries; `references` are the U different ones, `group` (R,) in U."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    turned = torch.from_numpy(queries).to(device).reshape(len(queries), -1, queries.shape[-1])
    product = (turned @ torch.from_numpy(references).to(device).T).amax(1)
    scores = product.cpu().numpy()[:, group]
    rows = np.arange(len(queries))[:, None]
    is_true = np.zeros(scores.shape, bool)
    _mark(is_true, truth)
    counted = np.ones(scores.shape, bool)
    _mark(counted, neutral, False)
    counted &= ~is_true
    true_scores = np.where(truth >= 0, scores[rows, truth], -np.inf)
    own = true_scores.max(1)
    greater = (counted & (scores > own[:, None] + tolerance)).sum(1)
    at_least = (counted & (scores >= own[:, None] - tolerance)).sum(1)
    tied_true = (is_true & (scores >= own[:, None] - tolerance)).sum(1)
    return greater, at_least - greater, tied_true, own, scores.argmax(1)


def _mark(flags: Array, columns: Array, value: bool = True) -> None:
    rows, entries = np.nonzero(columns >= 0)
    flags[rows, columns[rows, entries]] = value


def _unique_rows(rows: Array) -> tuple[Array, Array]:
    """First index of each different row (U,), and the number of its row in that list for each row (N,)."""
    seen: dict[bytes, int] = {}
    group = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rows])
    first = np.full(len(seen), -1)
    first[group[::-1]] = np.arange(len(rows))[::-1]
    return first, group


def _blocks(size: int, step: int) -> Iterator[slice]:
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def _descriptors(values: Array, what: str, axes: tuple[int, ...]) -> npt.NDArray[np.float32]:
    array = np.ascontiguousarray(values, np.float32)
    if array.ndim not in axes or 0 in array.shape or not np.isfinite(array).all():
        raise InputError(f"The {what} descriptors {array.shape} must be N×D, not empty, and finite.")
    return array + 0.0  # −0 and 0 are the same number, and shall be the same bits


def _indices(values: npt.ArrayLike, num_queries: int, num_references: int, what: str) -> Array:
    array = np.asarray(values, np.int64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or len(array) != num_queries:
        raise InputError(f"The {what} tiles {array.shape} do not belong to {num_queries} queries.")
    if array.size and not -1 <= array.min() <= array.max() < num_references:
        raise InputError(
            f"The {what} tiles are {array.min()} to {array.max()}, but the gallery has {num_references}."
        )
    return array


def one_percent(num_references: int, rule: str = "sample4geo") -> int:
    """The k of R@1 %.

    Args:
        num_references: size of the gallery, R.
        rule: ``sample4geo``: R // 100, at least 1 (also Distill4Geo and SSA); ``vigor``: ⌊R / 100⌋ + 1, of
            the code of VIGOR, of OriCNN and of SAFA, which is one tile more.

    Raises:
        InputError: an unknown rule.
    """
    if rule not in ("sample4geo", "vigor"):
        raise InputError(f"R@1 % is counted as `sample4geo` or as `vigor`, not as {rule!r}.")
    return max(1, num_references // 100) if rule == "sample4geo" else num_references // 100 + 1


def within_metres(
    query_positions: npt.ArrayLike, reference_positions: npt.ArrayLike, radius: float = CVACT_RADIUS
) -> npt.NDArray[np.int64]:
    """Tiles within a distance of each query, (Q, P), −1 for none.

    Args:
        query_positions: (Q, 2) metres in a local metric frame, or (Q, 3) geocentric; NaN where unknown.
        reference_positions: (R, 2) or (R, 3) likewise.
        radius: metres; the distance itself is within.
    """
    queries, references = np.asarray(query_positions, float), np.asarray(reference_positions, float)
    known = np.flatnonzero(np.isfinite(references).all(1))
    tree = cKDTree(references[known]) if len(known) else None
    near: list[Array] = [
        known[sorted(tree.query_ball_point(position, radius))]
        if tree and np.isfinite(position).all()
        else known[:0]
        for position in queries
    ]
    found = np.full((len(queries), max((len(n) for n in near), default=0)), -1, np.int64)
    for row, columns in zip(found, near, strict=True):
        row[: len(columns)] = columns
    return found


@dataclass(frozen=True)
class CrossViewScores:
    """Figures of one gallery and its queries.

    Attributes:
        num_queries, num_references: numbers.
        num_tied_queries: queries whose true tile is as similar as a wrong one.
        recall: by rule of ties, then by k: 1, 5, 10, ``1%`` (:func:`one_percent`) and ``1%+1`` (rule
            ``vigor``).
        hit_rate: share of the queries whose true tile comes first if semi-positive tiles are not counted
            (VIGOR); optimistic. None without semi-positives.
        recall_within: by k, with every tile within `radius` metres counted as true (CVACT's test), of the
            queries that have one; None without positions.
        num_within: queries with a tile within `radius`.
        radius: metres.
        distance: (Q,) metres from the camera to the centre of the first tile, NaN where unknown.
        ranks: of the true tiles.
    """

    num_queries: int
    num_references: int
    num_tied_queries: int
    recall: Mapping[Ties, Mapping[str, float]]
    hit_rate: float | None = None
    recall_within: Mapping[str, float] | None = None
    num_within: int = 0
    radius: float = CVACT_RADIUS
    distance: Array = field(default_factory=lambda: np.empty(0), repr=False)
    ranks: Ranks | None = field(default=None, repr=False)

    @property
    def median_distance(self) -> float | None:
        """Median distance of the first tile's centre from the camera, metres."""
        known = self.distance[np.isfinite(self.distance)]
        return float(np.median(known)) if len(known) else None

    def row(self, ties: Ties = "optimistic") -> dict[str, float | int | None]:
        """Figures as a row of a table; recalls in percent."""
        percent = {f"R@{k}": 100 * value for k, value in self.recall[ties].items()}
        within = self.recall_within or {}
        return {
            "queries": self.num_queries,
            "tiles": self.num_references,
            **percent,
            "hit rate": None if self.hit_rate is None else 100 * self.hit_rate,
            f"R@1 within {self.radius:g} m": 100 * within["1"] if within else None,
            "median m": self.median_distance,
        }

    def to_dict(self) -> dict[str, Any]:
        """All figures but the single distances, for JSON."""
        return {
            "num_queries": self.num_queries,
            "num_references": self.num_references,
            "num_tied_queries": self.num_tied_queries,
            "recall": {ties: dict(values) for ties, values in self.recall.items()},
            "hit_rate": self.hit_rate,
            "recall_within": None if self.recall_within is None else dict(self.recall_within),
            "num_within": self.num_within,
            "radius_m": self.radius,
            "median_distance_m": self.median_distance,
        }


def evaluate_retrieval(
    queries: Array,
    references: Array,
    positives: npt.ArrayLike,
    semi_positives: npt.ArrayLike | None = None,
    query_positions: npt.ArrayLike | None = None,
    reference_positions: npt.ArrayLike | None = None,
    radius: float = CVACT_RADIUS,
    ks: Sequence[int] = KS,
) -> CrossViewScores:
    """Every published figure of a retrieval.

    Args:
        queries: (Q, D) or (Q, T, D) descriptors of the panoramas, see :func:`rank_references`.
        references: (R, D) descriptors of the tiles.
        positives: (Q,) tile of each panorama.
        semi_positives: (Q, S) tiles that also show the place, −1 for none; they are wrong answers for the
            recall, and not counted for the hit rate.
        query_positions: (Q, 2) metres in a local metric frame, or (Q, 3) geocentric; NaN where unknown.
        reference_positions: (R, 2) or (R, 3), centres of the tiles, same frame.
        radius: of the rule by metres.
        ks: columns of the recall besides 1 %.

    Raises:
        InputError: as :func:`rank_references`.
    """
    ranks = rank_references(queries, references, positives)
    labels = {str(k): k for k in ks}
    labels |= {"1%": one_percent(len(references)), "1%+1": one_percent(len(references), "vigor")}
    recall = {ties: {label: ranks.recall(k, ties) for label, k in labels.items()} for ties in TIES}
    hit_rate = None
    if semi_positives is not None and (np.asarray(semi_positives) >= 0).any():
        hit_rate = rank_references(queries, references, positives, semi_positives).recall(1)
    distance, recall_within, num_within = np.full(len(queries), np.nan), None, 0
    if query_positions is not None and reference_positions is not None:
        places, centres = np.asarray(query_positions, float), np.asarray(reference_positions, float)
        distance = np.linalg.norm(centres[ranks.best] - places, axis=1)
        near = within_metres(places, centres, radius)
        answerable = (near >= 0).any(1)
        num_within = int(answerable.sum())
        if num_within:
            geographic = rank_references(np.asarray(queries)[answerable], references, near[answerable])
            recall_within = {label: geographic.recall(k) for label, k in labels.items()}
    return CrossViewScores(
        ranks.greater.size,
        ranks.num_references,
        ranks.num_tied_queries,
        recall,
        hit_rate,
        recall_within,
        num_within,
        radius,
        distance,
        ranks,
    )
