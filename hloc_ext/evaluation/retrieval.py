"""How well images of the same scenery are retrieved.

A ranking is a (Q, K) array: for each query the columns of the database images, best first, −1 where there is
none. Relevance is a (Q, N) boolean matrix, dense or sparse. An image must not retrieve itself: leave it out
of the ranking and, with :func:`without`, of the relevant images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, issparse
from scipy.spatial import cKDTree
from scipy.special import gammaln

from ..errors import InputError

Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Relevance: TypeAlias = npt.ArrayLike | csr_matrix

#: Distance within which a place counts as found (Arandjelović et al., "NetVLAD", CVPR 2016), metres.
PLACE_RADIUS = 25.0


@dataclass(frozen=True)
class RetrievalScores:
    """Precision and recall of a ranking, means over the queries that have a relevant image.

    Attributes:
        num_queries: queries with a relevant image.
        num_without: queries without one, which are left out.
        mean_relevant: relevant images per query.
        precision: by k, see :func:`precision_at_k`.
        recall: by k, see :func:`recall_at_k`.
    """

    num_queries: int
    num_without: int
    mean_relevant: float
    precision: Mapping[int, float]
    recall: Mapping[int, float]


def retrieval_scores(
    ranking: npt.ArrayLike, relevant: Relevance, ks: Iterable[int] = (1, 5, 10)
) -> RetrievalScores:
    """Precision and recall at each k; the arguments are those of :func:`find_hits`.

    Raises:
        InputError: no query has a relevant image, or as :func:`find_hits`, :func:`precision_at_k`.
    """
    counts = count_relevant(relevant)
    return scores_of_hits(find_hits(ranking, relevant), counts, ks)


def scores_of_hits(hits: Flags, counts: Counts, ks: Iterable[int]) -> RetrievalScores:
    """Precision and recall at each k, from hits that may come from several databases.

    Args:
        hits: (Q, K) of :func:`find_hits`.
        counts: (Q,) number of relevant images of each query.
        ks: numbers of images looked at, each from 1 to K.

    Raises:
        InputError: no query has a relevant image, or a k is out of range.
    """
    answerable = counts > 0
    if not answerable.any():
        raise InputError(f"None of the {len(counts)} queries has a relevant image in the database.")
    ks = list(ks)
    hits, found = hits[answerable], counts[answerable]
    return RetrievalScores(
        len(found),
        int((~answerable).sum()),
        float(found.mean()),
        {k: precision_at_k(hits, found, k) for k in ks},
        {k: recall_at_k(hits, k) for k in ks},
    )


def find_hits(ranking: npt.ArrayLike, relevant: Relevance) -> Flags:
    """Which images of a ranking are relevant, (Q, K) bool.

    Args:
        ranking: (Q, K) columns of `relevant`, best first, −1 for none.
        relevant: (Q, N) whether a database image is relevant for a query.

    Raises:
        InputError: the shapes do not agree, or a column does not exist or occurs twice for a query.
    """
    columns, matrix = np.asarray(ranking, np.int64), _as_csr(relevant)
    if columns.ndim != 2 or len(columns) != matrix.shape[0]:
        raise InputError(f"A ranking {columns.shape} does not belong to relevance {matrix.shape}.")
    if columns.size and not -1 <= columns.min() <= columns.max() < matrix.shape[1]:
        raise InputError(
            f"A ranking names images {columns.min()} to {columns.max()}, the database has {matrix.shape[1]}."
        )
    ordered = np.sort(columns, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise InputError("A ranking names a database image twice for the same query.")
    rows = np.broadcast_to(np.arange(len(columns))[:, None], columns.shape)
    known = columns >= 0
    hits = np.zeros(columns.shape, bool)
    if known.any():
        hits[known] = np.asarray(matrix[rows[known], columns[known]]).ravel()
    return hits


def count_relevant(relevant: Relevance) -> Counts:
    """Number of relevant images of each query, (Q,)."""
    return np.diff(_as_csr(relevant).indptr).astype(np.int64)


def precision_at_k(hits: Flags, counts: Counts, k: int) -> float:
    """Mean share of hits among the first k, of those that there can be: hits / min(k, relevant).

    P@K of Kang et al. (multi-modal CrossViT, Multimedia Tools and Applications 2024): unlike hits / k it
    reaches 1 where fewer than k images are relevant.

    Args:
        hits: (Q, K) bool, see :func:`find_hits`.
        counts: (Q,) relevant images of each query, at least 1.
        k: from 1 to K.

    Raises:
        InputError: k out of range, or a query without relevant image.
    """
    _check(hits, k)
    if len(counts) != len(hits) or not len(counts) or min(counts) < 1:
        raise InputError("Precision needs at least one query, and a relevant image for each.")
    return float((hits[:, :k].sum(1) / np.minimum(counts, k)).mean())


def recall_at_k(hits: Flags, k: int) -> float:
    """Share of the queries with a hit among the first k (R@K of place recognition).

    Args:
        hits: (Q, K) bool, see :func:`find_hits`.
        k: from 1 to K.

    Raises:
        InputError: k out of range, or no query.
    """
    _check(hits, k)
    return float(hits[:, :k].any(1).mean())


def _check(hits: Flags, k: int) -> None:
    if hits.ndim != 2 or not len(hits) or not 1 <= k <= hits.shape[1]:
        raise InputError(f"k = {k} is out of range for a ranking {hits.shape}: retrieve more images.")


def chance_recall(counts: npt.ArrayLike, num_candidates: npt.ArrayLike, k: int) -> float:
    """Expected :func:`recall_at_k` of a ranking in random order: 1 − C(n − r, k) / C(n, k).

    Args:
        counts: (Q,) relevant images of each query, r.
        num_candidates: images that each query can retrieve, n: a number or (Q,).
        k: number of images looked at; all n where there are fewer.
    """
    r = np.asarray(counts, float)
    n = np.broadcast_to(np.asarray(num_candidates, float), r.shape)
    first = np.minimum(k, n)
    sure = n - r < first  # more are looked at than there are wrong ones
    wrong = np.where(sure, first, n - r)
    log_missed = gammaln(wrong + 1) - gammaln(wrong - first + 1) - gammaln(n + 1) + gammaln(n - first + 1)
    return float(np.where(sure & (r > 0), 1.0, 1 - np.exp(log_missed))[n > 0].mean())


def without(relevant: Relevance, excluded: npt.ArrayLike) -> csr_matrix:
    """Relevance without the images that a query must not retrieve, as the query itself.

    Args:
        relevant: (Q, N) bool.
        excluded: (Q, E) columns, −1 for none.
    """
    matrix = _as_csr(relevant)
    columns = np.asarray(excluded, np.int64).reshape(matrix.shape[0], -1)
    rows, entries = np.nonzero(columns >= 0)
    dropped = csr_matrix(
        (np.ones(len(rows), bool), (rows, columns[rows, entries])), shape=matrix.shape, dtype=bool
    )
    return _as_csr(matrix > dropped)


def within_distance(
    query_positions: npt.ArrayLike, database_positions: npt.ArrayLike, radius: float = PLACE_RADIUS
) -> csr_matrix:
    """Relevance of place recognition: the cameras stand at most `radius` apart.

    Args:
        query_positions: (Q, 2) or (Q, 3), in any metric frame.
        database_positions: (N, 2) or (N, 3), same frame and unit.
        radius: in that unit; 25 m in the field.

    Returns:
        (Q, N) bool.

    Raises:
        InputError: positions that are not finite, or of different dimensions.
    """
    queries, database = np.asarray(query_positions, float), np.asarray(database_positions, float)
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise InputError(f"Positions {queries.shape} and {database.shape} are not in the same frame.")
    if not (np.isfinite(queries).all() and np.isfinite(database).all()):
        raise InputError("A position is not finite: leave the image out.")
    near = cKDTree(database).query_ball_point(queries, radius)
    rows = np.repeat(np.arange(len(queries)), [len(columns) for columns in near])
    columns = np.concatenate([*near, []]).astype(np.int64)
    values = np.ones(len(rows), bool)
    return csr_matrix((values, (rows, columns)), shape=(len(queries), len(database)), dtype=bool)


def within_frames(query_frames: npt.ArrayLike, database_frames: npt.ArrayLike, tolerance: int) -> csr_matrix:
    """Relevance in sequences of the same route: numbers of the frames differ by at most `tolerance`.

    As for Nordland (Sünderhauf et al., "Are we there yet?", ICRA workshop 2013).

    Args:
        query_frames: (Q,) numbers.
        database_frames: (N,) numbers, of the same route.
        tolerance: greatest difference.

    Returns:
        (Q, N) bool.
    """
    queries, database = (
        np.asarray(frames, float).reshape(-1, 1) for frames in (query_frames, database_frames)
    )
    return within_distance(queries, database, tolerance)


def vpr_recall(
    ranking: npt.ArrayLike,
    query_positions: npt.ArrayLike,
    database_positions: npt.ArrayLike,
    radius: float = PLACE_RADIUS,
    ks: Iterable[int] = (1, 5, 10),
) -> dict[int, float]:
    """Recall of place recognition by k: an image within `radius` of the query is among the first k.

    Queries with no database image so near are left out.

    Args:
        ranking: (Q, K), see :func:`find_hits`.
        query_positions, database_positions, radius: see :func:`within_distance`.
        ks: numbers of images looked at.

    Raises:
        InputError: as :func:`retrieval_scores` and :func:`within_distance`.
    """
    relevant = within_distance(query_positions, database_positions, radius)
    return dict(retrieval_scores(ranking, relevant, ks).recall)


def _as_csr(relevant: Relevance) -> csr_matrix:
    """Boolean matrix without stored zeros."""
    matrix = csr_matrix(relevant if issparse(relevant) else np.asarray(relevant), dtype=bool, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix
