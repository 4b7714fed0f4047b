"""How much of the scene the images of a model share: labels of training pairs, and hard negatives.

Measures of overlap: the share of common points, which does not depend on the axes of the model, and that of
the boxes around the points of each image, as published (papers.md S3).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from ..errors import InputError
from .sfm_scene import SfmScene

Union = Literal["true", "hull"]
Measure = Literal["jaccard", "box", "hull"]

#: Images that share so many points show the same place (published).
MIN_SHARED = 8
#: Points farther from the mean of an image than so many standard deviations, on any axis, are outliers.
MAX_DEVIATION = 3.0
#: Positive pairs weigh at least so much: the least normalised overlap is 0, as if they shared nothing.
LEAST_WEIGHT = 0.01
#: Weight of pairs about which nothing is known.
GREY = -1.0
#: Hard negatives are drawn among so many times more.
CANDIDATE_FACTOR = 4

_PAIR_BLOCK = 1 << 20
_ROW_BLOCK = 256


def shared_points(observations: csr_matrix) -> csr_matrix:
    """Numbers of points that pairs of images observe in common.

    Args:
        observations: (N, P) bool.

    Returns:
        (N, N) int32, stored for the pairs that share a point; the diagonal counts the points of each image.
    """
    counts = observations.astype(np.int32)
    shared = csr_matrix(counts @ counts.T)
    shared.sort_indices()
    return shared


def jaccard(observations: csr_matrix) -> csr_matrix:
    """Points that both images observe, divided by those that at least one does.

    Args:
        observations: (N, P) bool.

    Returns:
        (N, N) float32, stored for the pairs that share a point; 1 on the diagonal.
    """
    return _jaccard(shared_points(observations))


def _jaccard(shared: csr_matrix) -> csr_matrix:
    totals = shared.diagonal()
    rows, columns = _rows(shared), shared.indices
    union = totals[rows] + totals[columns] - shared.data
    return _like(shared, shared.data / union)


def box_iou(scene: SfmScene, union: Union = "true") -> csr_matrix:
    """Intersection over union of the axis-aligned boxes around the points of two images (published).

    Points whose z-score is above 3 on any axis are dropped first. The boxes depend on the axes of the model.

    Args:
        scene: a model.
        union: "true": volume of the union, as in the released code; "hull": volume of the box around both, as
            in the original experiments.

    Returns:
        (N, N) float32, stored for the pairs that share a point; 0 where a box has no volume or an image has
        fewer than 3 points.

    Raises:
        InputError: an unknown union.
    """
    return _box_iou(scene, shared_points(scene.observations), union)


def _box_iou(scene: SfmScene, shared: csr_matrix, union: Union) -> csr_matrix:
    if union not in get_args(Union):
        raise InputError(f"union={union!r}: expected one of {get_args(Union)}.")
    low, high = _boxes(scene)
    volumes = np.prod(high - low, axis=1)
    rows, columns = _rows(shared), shared.indices
    values = np.zeros(shared.nnz, np.float32)
    for start in range(0, shared.nnz, _PAIR_BLOCK):
        block = slice(start, start + _PAIR_BLOCK)
        i, j = rows[block], columns[block]
        sides = np.minimum(high[i], high[j]) - np.maximum(low[i], low[j])
        intersection = np.prod(np.maximum(sides, 0), axis=1)
        if union == "true":
            total = volumes[i] + volumes[j] - intersection
        else:
            total = np.prod(np.maximum(high[i], high[j]) - np.minimum(low[i], low[j]), axis=1)
        values[block] = intersection / np.where(total > 0, total, 1)
    return _like(shared, values)


def _boxes(scene: SfmScene) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Least and greatest coordinates of the points of each image, (N, 3) each; 0 for less than 3 points."""
    low, high = np.zeros((2, len(scene), 3))
    limits = scene.observations.indptr
    for row in range(len(scene)):
        points = scene.points[scene.observations.indices[limits[row] : limits[row + 1]]]
        if len(points) < 3:
            continue
        deviations = np.abs(points - points.mean(axis=0))
        kept = points[np.all(deviations <= MAX_DEVIATION * points.std(axis=0), axis=1)]
        if len(kept) >= 3:
            low[row], high[row] = kept.min(axis=0), kept.max(axis=0)
    return low, high


def normalised(overlap: csr_matrix, positive: csr_matrix) -> csr_matrix:
    """Overlaps scaled so that those of the positive pairs of the scene range from 0 to 1 (papers.md S3).

    Args:
        overlap: (N, N), of pairs that share a point.
        positive: (N, N) bool, which pairs are positive; the diagonal does not count.

    Returns:
        (N, N) float32, with 1 on the diagonal and nothing stored for pairs that are not positive.
    """
    pairs = csr_matrix(positive, dtype=bool, copy=True)
    pairs.setdiag(False)
    pairs.eliminate_zeros()
    rows, columns = _rows(pairs), pairs.indices
    values = _entries(overlap, rows, columns)
    if len(values):
        span = values.max() - values.min()
        values = (values - values.min()) / span if span > 0 else np.ones_like(values)
    diagonal = np.arange(overlap.shape[0])
    entries = np.concatenate([values, np.ones(len(diagonal))]).astype(np.float32)
    coordinates = (np.concatenate([rows, diagonal]), np.concatenate([columns, diagonal]))
    return csr_matrix((entries, coordinates), shape=overlap.shape)


class Overlap:
    """Labels of the pairs of images of a scene.

    Pairs are positive if they share at least `min_shared` points, negative if they share none, and grey
    between. An image with fewer than `min_shared` points is grey with all others: that it shares none says
    nothing.

    Args:
        scene: a model; images of another time or light are images of it like any other.
        measure: "jaccard": share of common points; "box" or "hull": :func:`box_iou` with either union.
        min_shared: see above.

    Raises:
        InputError: an unknown measure, or `min_shared` below 1.
    """

    def __init__(self, scene: SfmScene, measure: Measure = "jaccard", min_shared: int = MIN_SHARED) -> None:
        if measure not in get_args(Measure) or min_shared < 1:
            raise InputError(
                f"measure={measure!r}, min_shared={min_shared}: expected one of {get_args(Measure)}, and 1 or"
                " more."
            )
        shared = shared_points(scene.observations)
        if measure == "jaccard":
            overlap = _jaccard(shared)
        else:
            overlap = _box_iou(scene, shared, "true" if measure == "box" else "hull")
        positive = _like(shared, shared.data >= min_shared)
        self.known = np.asarray(shared.diagonal() >= min_shared)
        weights = _entries(normalised(overlap, positive), _rows(shared), shared.indices)
        self._weights = _like(shared, np.where(positive.data, np.maximum(weights, LEAST_WEIGHT), GREY))

    def __len__(self) -> int:
        return len(self.known)

    def weights(self, indices: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Weights of all pairs among some images.

        Args:
            indices: (n,) int, of the images; they may repeat.

        Returns:
            (n, n) float32: overlap in (0, 1] for positive pairs, 1 for an image and itself, 0 for negative
            pairs, -1 for grey ones.
        """
        chosen = np.asarray(indices, np.int64)
        weights = self._weights[chosen][:, chosen].toarray()
        unknown = ~self.known[chosen]
        weights[unknown] = GREY
        weights[:, unknown] = GREY
        weights[chosen[:, None] == chosen] = 1.0
        return weights

    def positives(self, index: int) -> npt.NDArray[np.int64]:
        """Images that are positive with an image, ascending, without itself."""
        start, end = self._weights.indptr[index : index + 2]
        others = self._weights.indices[start:end][self._weights.data[start:end] > 0]
        return others[others != index].astype(np.int64)

    def negatives(self, indices: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which images are negative with each of some: (n,) indices give (n, N)."""
        chosen = np.asarray(indices, np.int64)
        negative = self._weights[chosen].toarray() == 0
        negative[:, ~self.known] = False
        negative[~self.known[chosen]] = False
        return negative


def hard_negatives(
    embeddings: npt.ArrayLike, overlap: Overlap, k: int, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Images that lie near an image though they show another place.

    Args:
        embeddings: (N, D) of the images of the scene.
        overlap: their labels.
        k: number of negatives for each.
        seed: of the draw among the 4 k nearest negatives of each image.

    Returns:
        (N, k) indices, nearest first; -1 where an image has fewer negatives.

    Raises:
        InputError: `embeddings` are not one finite row per image, or k is below 1.
    """
    rows = np.asarray(embeddings, np.float32)
    if rows.ndim != 2 or len(rows) != len(overlap) or not np.isfinite(rows).all() or k < 1:
        raise InputError(
            f"embeddings {rows.shape}, k={k}: expected {len(overlap)} finite rows, and 1 or more."
        )
    squares = np.einsum("nd,nd->n", rows, rows)
    chosen = np.full((len(rows), k), -1, np.int64)
    for start in range(0, len(rows), _ROW_BLOCK):
        block = np.arange(start, min(start + _ROW_BLOCK, len(rows)))
        distances = squares - 2 * rows[block] @ rows.T  # but for a constant of each row
        distances[~overlap.negatives(block)] = np.inf
        for row, candidates in zip(block, _nearest(distances, CANDIDATE_FACTOR * k), strict=True):
            rng = np.random.default_rng([seed, int(row)])
            drawn = np.sort(rng.permutation(len(candidates))[:k])
            chosen[row, : len(drawn)] = candidates[drawn]
    return chosen


def _nearest(distances: npt.NDArray[np.float32], count: int) -> list[npt.NDArray[np.int64]]:
    """Columns of the `count` least finite entries of each row, least first."""
    count = min(count, distances.shape[1])
    nearest = []
    for row, columns in zip(distances, np.argpartition(distances, count - 1)[:, :count], strict=True):
        columns = columns[np.isfinite(row[columns])]
        nearest.append(columns[np.lexsort((columns, row[columns]))])
    return nearest


def _rows(matrix: csr_matrix) -> npt.NDArray[np.int64]:
    """Rows of the stored entries."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _entries(
    matrix: csr_matrix, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Entries at some rows and columns, (M,); scipy answers a matrix where there are none."""
    return np.asarray(matrix[rows, columns], np.float64).ravel() if len(rows) else np.zeros(0)


def _like(matrix: csr_matrix, values: npt.NDArray) -> csr_matrix:
    """A matrix with other values at the stored entries."""
    data = values if values.dtype == bool else values.astype(np.float32)
    return csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)
