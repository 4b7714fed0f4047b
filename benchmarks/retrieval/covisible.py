"""Relevance from the points of a model: images are relevant that see the same of the place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from hloc_ext.datasets.covisibility import MIN_SHARED, shared_points
from hloc_ext.datasets.sfm_scene import SfmScene

from .places import Condition

#: Criterion → least share of the points of the query that an image must see, and 8 points at least.
CRITERIA = {f"≥ {MIN_SHARED} points": 0.0, "≥ 30 % of the points": 0.3}


def covisible_conditions(
    scene: SfmScene,
    queries: str,
    query_names: Sequence[str],
    database_names: Sequence[str],
    excluded: Sequence[Sequence[str]] | None = None,
) -> list[Condition]:
    """The same queries with each of :data:`CRITERIA`.

    Args:
        scene: model of all images.
        queries: what the queries are.
        query_names, database_names: images of the model.
        excluded: images that each query must not retrieve; default itself.
    """
    columns = {name: column for column, name in enumerate(database_names)}
    barred = [[name] for name in query_names] if excluded is None else excluded
    rows = [[columns.get(name, -1) for name in names] for names in barred]
    banned = np.array(rows, np.int64).reshape(len(query_names), -1)
    return [
        Condition(
            queries,
            criterion,
            query_names,
            database_names,
            covisible(scene, query_names, database_names, share),
            banned,
        )
        for criterion, share in CRITERIA.items()
    ]


def covisible(
    scene: SfmScene, query_names: Sequence[str], database_names: Sequence[str], least_share: float = 0.0
) -> csr_matrix:
    """Which database images see at least 8 points of a query, and at least a share of its points.

    Args:
        scene: model of all images.
        query_names, database_names: images of the model.
        least_share: 0 to 1.

    Returns:
        (Q, N) bool.
    """
    queries, database = ([scene.rows[name] for name in names] for names in (query_names, database_names))
    shared = shared_points(scene.observations)
    total = np.asarray(shared.diagonal())[queries]
    counts: npt.NDArray[np.int32] = shared[queries][:, database].toarray()
    return csr_matrix((counts >= MIN_SHARED) & (counts >= least_share * total[:, None]))
