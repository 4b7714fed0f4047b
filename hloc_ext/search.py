"""Top-k search among global descriptors by dot product, with bounded memory.

``exact`` compares all pairs in blocks; ``flat`` and ``ivfpq`` are indices of FAISS (Douze et al., "The
Faiss library", 2024). `ivfpq` (inverted file with product quantisation: Jégou et al., "Product
quantization for nearest neighbor search", PAMI 2011) visits only a part of the database and scores what
it finds there exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.spatial import cKDTree
from tqdm import tqdm

from . import logger
from .errors import InputError

IndexKind = Literal["exact", "flat", "ivfpq"]

QUERY_BLOCK = 1024
DATABASE_BLOCK = 8192
#: Product quantisation has 256 centroids per sub-vector; FAISS asks for 39 training points for each.
MIN_IVFPQ_SIZE = 39 * 256
#: Candidates per wanted result that `ivfpq` scores exactly.
RERANK_FACTOR = 4


@dataclass(frozen=True)
class Restriction:
    """What a query may not retrieve.

    Attributes:
        excluded: Q×E int, database rows that each query must not retrieve; −1 stands for none.
        query_positions: Q×2 or Q×3, NaN for a query without position, which is not restricted.
        database_positions: N×2 or N×3, same frame and unit.
        radius: distance within which a database row can be retrieved, same unit.
    """

    excluded: np.ndarray | None = None
    query_positions: np.ndarray | None = None
    database_positions: np.ndarray | None = None
    radius: float = np.inf

    @property
    def num_excluded(self) -> int:
        """Largest number of rows that are excluded for a query."""
        return 0 if self.excluded is None else self.excluded.shape[1]

    def apply(self, scores: torch.Tensor, rows: slice, columns: slice) -> None:
        """Set the scores of forbidden pairs in one block (query rows × database columns) to −inf."""
        if self.query_positions is not None and self.database_positions is not None:
            distance = torch.cdist(
                torch.from_numpy(self.query_positions[rows]),
                torch.from_numpy(self.database_positions[columns]),
                compute_mode="donot_use_mm_for_euclid_dist",
            )
            scores[(distance > self.radius).to(scores.device)] = -torch.inf
        if self.excluded is not None:
            excluded = self.excluded[rows] - columns.start
            row, entry = np.nonzero((excluded >= 0) & (excluded < scores.shape[1]))
            scores[row, excluded[row, entry]] = -torch.inf

    def reachable(self) -> list[np.ndarray | None]:
        """Sorted database rows within the radius of each query; None where a query is not restricted."""
        assert self.query_positions is not None and self.database_positions is not None
        tree = cKDTree(self.database_positions)
        return [
            np.array(sorted(tree.query_ball_point(position, self.radius)), np.int64)
            if np.isfinite(position).all()
            else None
            for position in self.query_positions
        ]


def top_k(
    queries: np.ndarray,
    database: np.ndarray,
    k: int,
    *,
    index: IndexKind = "exact",
    restriction: Restriction | None = None,
    min_score: float = -np.inf,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` database descriptors with the largest dot product for each query.

    Memory beyond the arguments and the result stays below about 200 MB for ``exact``; an index adds one
    copy of the database (``flat``, in its precision) or about 1/32 of it (``ivfpq``).

    Args:
        queries: Q×D, float32 or float16 (computed in float32).
        database: N×D, float32 or float16.
        k: number of results; clipped to N with a warning.
        index: ``exact``, ``flat`` or ``ivfpq`` (approximate).
        restriction: pairs that must not be returned.
        min_score: smallest dot product that is returned.
        seed: of the training of ``ivfpq``.

    Returns:
        Database rows, Q×k int64, best first and in database order where scores are equal, −1 where
        fewer than k were found; and their scores, Q×k float32, −inf there.

    Raises:
        InputError: empty database, different descriptor sizes, `k` < 1, or unknown index.
    """
    if index not in get_args(IndexKind):
        raise InputError(f"Unknown index '{index}': choose one of {', '.join(get_args(IndexKind))}.")
    if len(database) == 0:
        raise InputError("The retrieval database is empty.")
    if queries.ndim != 2 or database.ndim != 2 or queries.shape[1] != database.shape[1]:
        raise InputError(
            f"Query descriptors have shape {queries.shape}, database descriptors {database.shape}:"
            " extract both with the same configuration."
        )
    if k < 1:
        raise InputError(f"The number of retrieved images must be at least 1, got {k}.")
    if k > len(database):
        logger.warning("Only %d database images exist, fewer than the %d asked for.", len(database), k)
        k = len(database)
    restriction = restriction or Restriction()
    if index == "ivfpq" and len(database) < MIN_IVFPQ_SIZE:
        logger.warning(
            "ivfpq needs %d database images to be trained, there are %d: using the exact index `flat`.",
            MIN_IVFPQ_SIZE,
            len(database),
        )
        index = "flat"
    if index == "exact":
        indices, scores = _search_exact(queries, database, k, restriction)
    else:
        indices, scores = _search_faiss(queries, database, k, index, restriction, seed)
    rejected = ~np.isfinite(scores) | (scores < min_score)
    indices[rejected], scores[rejected] = -1, -np.inf
    return indices, scores


def _blocks(size: int, step: int) -> Iterator[slice]:
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def _float32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def _search_exact(
    queries: np.ndarray, database: np.ndarray, k: int, restriction: Restriction
) -> tuple[np.ndarray, np.ndarray]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    indices = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    num_blocks = -(-len(queries) // QUERY_BLOCK)
    for rows in tqdm(_blocks(len(queries), QUERY_BLOCK), total=num_blocks, disable=num_blocks < 4):
        query = torch.from_numpy(_float32(queries[rows])).to(device)
        best_scores = torch.empty((len(query), 0), device=device)
        best_indices = torch.empty((len(query), 0), dtype=torch.int64, device=device)
        for columns in _blocks(len(database), DATABASE_BLOCK):
            block = query @ torch.from_numpy(_float32(database[columns])).to(device).T
            restriction.apply(block, rows, columns)
            values, positions = _stable_topk(block, k)
            # Earlier blocks come first, so that a stable sort keeps equal scores in database order.
            best_scores = torch.cat([best_scores, values], 1)
            best_indices = torch.cat([best_indices, positions + columns.start], 1)
            best_scores, order = torch.sort(best_scores, dim=1, descending=True, stable=True)
            best_scores, order = best_scores[:, :k], order[:, :k]
            best_indices = best_indices.gather(1, order)
        indices[rows], scores[rows] = best_indices.cpu().numpy(), best_scores.cpu().numpy()
    return indices, scores


def _stable_topk(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`torch.topk` along rows, where equal scores are taken and returned in order of their column."""
    k = min(k, scores.shape[1])
    values, columns = torch.topk(scores, min(k + 1, scores.shape[1]), dim=1)
    # topk picks any of the columns that tie with the last one: redo the rows where it had a choice.
    tied = values[:, k - 1].isfinite() & (values[:, k - 1] == values[:, -1])
    tied &= values.shape[1] > k
    columns = torch.sort(columns[:, :k], dim=1).values
    values, order = torch.sort(scores.gather(1, columns), dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    if tied.any():
        tied_values, tied_columns = torch.sort(scores[tied], dim=1, descending=True, stable=True)
        values[tied], columns[tied] = tied_values[:, :k], tied_columns[:, :k]
    return values, columns


def _search_faiss(
    queries: np.ndarray,
    database: np.ndarray,
    k: int,
    kind: str,
    restriction: Restriction,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    faiss_index = build_index(database, kind, seed)
    reachable = restriction.reachable() if restriction.query_positions is not None else None
    num_fetched = (k + restriction.num_excluded) * (RERANK_FACTOR if kind == "ivfpq" else 1)
    num_fetched = min(num_fetched, len(database))
    block_size = max(1, min(QUERY_BLOCK, 2**24 // (num_fetched * database.shape[1])))
    indices = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    for rows in _blocks(len(queries), block_size):
        query = _float32(queries[rows])
        if reachable is None:
            found_scores, found = faiss_index.search(query, num_fetched)
        else:
            found_scores, found = _search_reachable(faiss_index, query, num_fetched, reachable[rows])
        if kind == "ivfpq":
            found_scores = np.einsum("qd,qfd->qf", query, _float32(database[found]))
        forbidden = found < 0
        if restriction.excluded is not None:
            forbidden |= (found[:, :, None] == restriction.excluded[rows, None, :]).any(-1)
        found_scores[forbidden] = -np.inf
        order = np.lexsort((found, -found_scores))[:, :k]
        indices[rows] = np.take_along_axis(found, order, 1)
        scores[rows] = np.take_along_axis(found_scores, order, 1)
    return indices, scores


def build_index(database: np.ndarray, kind: str, seed: int = 0) -> Any:
    """Build a FAISS index for dot products.

    Args:
        database: N×D; float16 is stored as such by ``flat``.
        kind: ``flat`` or ``ivfpq``. The latter has 4√N cells (a sixteenth of them, at least 8, is
            visited) and one byte for up to 8 dimensions.
        seed: of the k-means of ``ivfpq``.

    Returns:
        A `faiss.Index` that holds all rows of the database.
    """
    import faiss

    num, dim = database.shape
    metric = faiss.METRIC_INNER_PRODUCT
    index: Any
    if kind == "ivfpq":
        num_cells = min(int(4 * np.sqrt(num)), num // 39)
        num_bytes = max(m for m in range(1, -(-dim // 8) + 1) if dim % m == 0)
        index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, num_cells, num_bytes, 8, metric)
        index.cp.seed = index.pq.cp.seed = seed
        index.nprobe = max(8, num_cells // 16)
        sample = np.random.default_rng(seed).permutation(num)[: max(MIN_IVFPQ_SIZE, 39 * num_cells)]
        index.train(_float32(database[np.sort(sample)]))
    elif database.dtype == np.float16:
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, metric)
    else:
        index = faiss.IndexFlatIP(dim)
    for rows in _blocks(num, DATABASE_BLOCK):
        index.add(_float32(database[rows]))
    return index


def _search_reachable(
    faiss_index: Any, query: np.ndarray, k: int, reachable: list[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Search each query among its own database rows; all cells are visited, to miss none of them."""
    import faiss

    inverted_file = isinstance(faiss_index, faiss.IndexIVF)
    scores = np.full((len(query), k), -np.inf, np.float32)
    indices = np.full((len(query), k), -1, np.int64)
    for row, candidates in enumerate(reachable):
        parameters: Any = None
        if candidates is not None:
            selector = faiss.IDSelectorBatch(candidates)
            parameters = faiss.SearchParametersIVF() if inverted_file else faiss.SearchParameters()
            parameters.sel = selector
            if inverted_file:
                parameters.nprobe = faiss_index.nlist
        scores[row], indices[row] = faiss_index.search(query[row : row + 1], k, params=parameters)
    return scores, indices


class PrincipalComponents:
    """Projection to the leading principal components, followed by L2 normalisation.

    Fitted by randomised singular value decomposition (Halko et al., "Finding structure with
    randomness", SIAM Review 2011) on at most 256 MB of rows. Whitening follows Jégou & Chum, "Negative
    evidences and co-occurences in image retrieval", ECCV 2012.

    Args:
        data: N×D descriptors.
        num_dims: dimensions to keep.
        whiten: scale each component to unit variance.
        seed: of the decomposition and of the choice of rows.

    Raises:
        InputError: fewer than `num_dims` rows or dimensions.
    """

    def __init__(self, data: np.ndarray, num_dims: int, whiten: bool = False, seed: int = 0) -> None:
        if not 1 <= num_dims <= min(data.shape):
            raise InputError(
                f"PCA to {num_dims} dimensions is impossible: there are {data.shape[0]} database"
                f" descriptors of {data.shape[1]} dimensions. Choose at most {min(data.shape)}."
            )
        max_rows = max(num_dims, 2**26 // data.shape[1])
        rows = np.sort(np.random.default_rng(seed).permutation(len(data))[:max_rows])
        sample = torch.from_numpy(_float32(data[rows]))
        self.mean = sample.mean(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _, singular, axes = torch.pca_lowrank(sample, min(num_dims + 16, *sample.shape), niter=4)
        self.axes = axes[:, :num_dims]
        if whiten:
            deviation = singular[:num_dims] / max(len(sample) - 1, 1) ** 0.5
            self.axes = self.axes / deviation.clamp_min(1e-6 * float(deviation[0]))

    def __call__(self, data: np.ndarray) -> np.ndarray:
        """Project N×D descriptors to N×num_dims of unit norm, in the precision of `data`."""
        output = np.empty((len(data), self.axes.shape[1]), data.dtype)
        for rows in _blocks(len(data), DATABASE_BLOCK):
            projected = (torch.from_numpy(_float32(data[rows])) - self.mean) @ self.axes
            output[rows] = torch.nn.functional.normalize(projected, dim=1).numpy()
        return output
