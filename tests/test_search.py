from __future__ import annotations

import logging

import numpy as np
import pytest

from hloc_ext import search
from hloc_ext.errors import InputError
from hloc_ext.search import PrincipalComponents, Restriction, top_k


@pytest.fixture
def caught(caplog):
    logging.getLogger("hloc_ext").addHandler(caplog.handler)
    yield caplog
    logging.getLogger("hloc_ext").removeHandler(caplog.handler)


def unit_rows(num, dim, seed=0):
    data = np.random.default_rng(seed).standard_normal((num, dim)).astype(np.float32)
    return data / np.linalg.norm(data, axis=1, keepdims=True)


def integer_rows(num, dim, seed=0):
    """Descriptors with exact dot products and many ties."""
    return np.random.default_rng(seed).integers(-2, 3, (num, dim)).astype(np.float32)


def reference(queries, database, k, forbidden=None):
    """All scores, sorted by score and then by row."""
    scores = queries.astype(np.float64) @ database.astype(np.float64).T
    if forbidden is not None:
        scores[forbidden] = -np.inf
    order = np.lexsort((np.broadcast_to(np.arange(len(database)), scores.shape), -scores))[:, :k]
    values = np.take_along_axis(scores, order, 1)
    return np.where(np.isfinite(values), order, -1), values


@pytest.mark.parametrize("blocks", [(1024, 8192), (3, 7), (5, 2)])
def test_exact_equals_full_sort_with_ties(monkeypatch, blocks):
    monkeypatch.setattr(search, "QUERY_BLOCK", blocks[0])
    monkeypatch.setattr(search, "DATABASE_BLOCK", blocks[1])
    queries, database = integer_rows(13, 4), integer_rows(40, 4, seed=1)
    indices, scores = top_k(queries, database, 6)
    expected, values = reference(queries, database, 6)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(scores, values)
    assert indices.dtype == np.int64 and scores.dtype == np.float32


@pytest.mark.parametrize("index", ["exact", "flat"])
def test_half_precision_ranks_like_rounded_descriptors(index):
    queries, database = unit_rows(20, 32), unit_rows(300, 32, seed=1)
    indices, _ = top_k(queries.astype(np.float16), database.astype(np.float16), 5, index=index)
    expected, _ = reference(queries.astype(np.float16), database.astype(np.float16), 5)
    np.testing.assert_array_equal(indices, expected)


def test_flat_equals_exact():
    queries, database = unit_rows(50, 24), unit_rows(500, 24, seed=1)
    exact, exact_scores = top_k(queries, database, 10)
    flat, flat_scores = top_k(queries, database, 10, index="flat")
    np.testing.assert_array_equal(exact, flat)
    np.testing.assert_allclose(exact_scores, flat_scores, atol=1e-6)


@pytest.mark.parametrize("index", ["exact", "flat"])
def test_excluded_rows(index):
    database = unit_rows(30, 8)
    excluded = np.stack([np.arange(30), (np.arange(30) + 1) % 30], 1)
    excluded[3] = -1
    forbidden = np.zeros((30, 30), bool)
    for row in range(30):
        forbidden[row, excluded[row][excluded[row] >= 0]] = True
    indices, _ = top_k(database, database, 4, index=index, restriction=Restriction(excluded=excluded))
    np.testing.assert_array_equal(indices, reference(database, database, 4, forbidden)[0])
    assert indices[3, 0] == 3  # nothing excluded: the descriptor itself is the best match


@pytest.mark.parametrize("index", ["exact", "flat"])
def test_positions_restrict_all_but_queries_without_one(index):
    rng = np.random.default_rng(0)
    queries, database = unit_rows(20, 8), unit_rows(60, 8, seed=1)
    query_positions, database_positions = rng.uniform(0, 10, (20, 3)), rng.uniform(0, 10, (60, 3))
    query_positions[5] = np.nan
    query_positions[6] = 1000.0
    distance = np.linalg.norm(query_positions[:, None] - database_positions, axis=-1)
    restriction = Restriction(
        excluded=np.arange(20)[:, None],
        query_positions=query_positions,
        database_positions=database_positions,
        radius=4.0,
    )
    forbidden = distance > 4.0
    forbidden[np.arange(20), np.arange(20)] = True
    indices, scores = top_k(queries, database, 8, index=index, restriction=restriction)
    np.testing.assert_array_equal(indices, reference(queries, database, 8, forbidden)[0])
    assert (indices[5] >= 0).all()
    assert (indices[6] == -1).all() and (scores[6] == -np.inf).all()


def test_min_score():
    queries = np.array([[1.0, 0.0]], np.float32)
    database = np.array([[-1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], np.float32)
    indices, scores = top_k(queries, database, 3, min_score=0)
    assert indices.tolist() == [[2, 1, -1]]
    assert scores.tolist() == [[0.5, 0.0, -np.inf]]


def test_k_is_clipped_with_a_warning(caught):
    indices, _ = top_k(unit_rows(2, 4), unit_rows(3, 4), 50)
    assert indices.shape == (2, 3)
    assert "Only 3 database images exist" in caught.text


@pytest.fixture(scope="module")
def clustered():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((200, 32))
    database = centers[np.arange(10400) % 200] + 0.3 * rng.standard_normal((10400, 32))
    database = (database / np.linalg.norm(database, axis=1, keepdims=True)).astype(np.float32)
    return database[:40] + 0.02 * rng.standard_normal((40, 32)).astype(np.float32), database


def test_ivfpq_finds_most_neighbours_with_exact_scores(clustered):
    queries, database = clustered
    expected, _ = top_k(queries, database, 10)
    found, scores = top_k(queries, database, 10, index="ivfpq", seed=3)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(expected, found, strict=True)])
    assert recall > 0.9
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, database[found]), rtol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    again, _ = top_k(queries, database, 10, index="ivfpq", seed=3)
    np.testing.assert_array_equal(found, again)


def test_ivfpq_with_positions_misses_no_reachable_row(clustered):
    queries, database = clustered
    positions = np.arange(len(database), dtype=float)[:, None] * [1.0, 0.0]
    restriction = Restriction(query_positions=positions[5000:5040], database_positions=positions, radius=3.5)
    found, _ = top_k(queries, database, 7, index="ivfpq", restriction=restriction)
    for row, indices in enumerate(found):
        assert sorted(indices) == list(range(5000 + row - 3, 5000 + row + 4))


def test_small_database_for_ivfpq_is_searched_exactly(caught):
    queries, database = unit_rows(5, 16), unit_rows(100, 16, seed=1)
    found, _ = top_k(queries, database, 3, index="ivfpq")
    np.testing.assert_array_equal(found, top_k(queries, database, 3)[0])
    assert "ivfpq needs 9984 database images" in caught.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((unit_rows(2, 4), unit_rows(3, 5), 1), "extract both with the same"),
        ((unit_rows(2, 4), unit_rows(0, 4), 1), "database is empty"),
        ((unit_rows(2, 4), unit_rows(3, 4), 0), "at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        top_k(*arguments)


def test_unknown_index():
    with pytest.raises(InputError, match="choose one of exact, flat, ivfpq"):
        top_k(unit_rows(2, 4), unit_rows(3, 4), 1, index="hnsw")


def low_rank(num=400, dim=40, rank=5):
    rng = np.random.default_rng(0)
    scale = np.array([8.0, 4.0, 2.0, 1.0, 0.5])
    return (rng.standard_normal((num, rank)) * scale @ rng.standard_normal((rank, dim)) + 3).astype(
        np.float32
    )


def test_principal_components_keep_angles_of_low_rank_data():
    data = low_rank()
    projected = PrincipalComponents(data, 5)(data)
    centred = data - data.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(projected @ projected.T, centred @ centred.T, atol=2e-4)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-5)


def test_whitening_equalises_variances():
    data = low_rank()
    projection = PrincipalComponents(data, 5, whiten=True)
    components = (data - projection.mean.numpy()) @ projection.axes.numpy()
    np.testing.assert_allclose(np.cov(components.T), np.eye(5), atol=1e-2)


def test_principal_components_depend_only_on_the_seed_and_keep_precision():
    data = unit_rows(60, 20).astype(np.float16)
    first, second = (PrincipalComponents(data, 4, seed=1)(data) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float16 and first.shape == (60, 4)


def test_too_many_components():
    with pytest.raises(InputError, match="Choose at most 3"):
        PrincipalComponents(unit_rows(3, 8), 4)
