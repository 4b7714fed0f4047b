from __future__ import annotations

import numpy as np
import pytest

from hloc_ext.city.labels import Label
from hloc_ext.city.streets.furniture import FIRST_ITEM_ID, items_mesh, lamp_positions
from tests.city.small_plan import flat_textures, small_plan


@pytest.fixture(scope="module")
def plan():
    return small_plan()


@pytest.fixture(scope="module")
def textures():
    return flat_textures()


@pytest.fixture(scope="module")
def mesh(plan, textures):
    return items_mesh(plan, textures, 5)


def test_every_item_stands_at_its_place_with_its_height(plan, mesh):
    assert set(np.unique(mesh.object_id)) == set(range(FIRST_ITEM_ID, FIRST_ITEM_ID + len(plan.items)))
    for index, item in enumerate(plan.items):
        vertices = mesh.vertices[mesh.object_id == FIRST_ITEM_ID + index].reshape(-1, 3)
        assert vertices[:, 2].max() == pytest.approx(item.size + 0.11, rel=0.12), item.kind
        assert vertices[:, 2].min() < 0.2, item.kind
        assert np.linalg.norm(np.median(vertices[:, :2], axis=0) - (item.x, item.y)) < 2.0, item.kind


def test_labels(plan, mesh):
    for index, item in enumerate(plan.items):
        expected = {"tree": Label.VEGETATION, "bush": Label.VEGETATION}
        expected |= {kind: Label.POLE for kind in ("lamp", "traffic_sign", "bollard")}
        labels = np.unique(mesh.label[mesh.object_id == FIRST_ITEM_ID + index])
        assert labels.tolist() == [expected.get(item.kind, Label.OTHER)]


def test_triangles_of_trees_and_bushes(plan, mesh):
    for index, item in enumerate(plan.items):
        count = int((mesh.object_id == FIRST_ITEM_ID + index).sum())
        if item.kind == "tree":
            assert 500 <= count <= 1000
        if item.kind == "bush":
            assert 150 <= count <= 300


def test_lamps_shine_from_below_their_glass(plan, mesh):
    glass = mesh.vertices[mesh.glow == 255].reshape(-1, 3)
    lamps = lamp_positions(plan)
    assert lamps.shape == (3, 3)
    for x, y, z in lamps:
        above = glass[np.linalg.norm(glass[:, :2] - (x, y), axis=1) < 0.6]
        assert len(above) and 0.05 < above[:, 2].min() - z < 0.15


def test_pictures_are_not_mirrored(plan, textures, mesh):
    """Seen from outside, u grows to the right and v down: right x up points away from the thing."""
    pictures = [i for name in ("traffic_sign", "poster", "sign") for i in textures.group(name)]
    seen = 0
    for index, item in enumerate(plan.items):
        if item.kind not in ("traffic_sign", "kiosk", "advertising_column"):
            continue
        chosen = (mesh.object_id == FIRST_ITEM_ID + index) & np.isin(mesh.texture, pictures)
        for corners, uv in zip(
            mesh.vertices[chosen].astype(float), mesh.uv[chosen].astype(float), strict=True
        ):
            right, down = np.linalg.solve(uv[1:] - uv[0], corners[1:] - corners[0])
            assert down[2] < 0
            outwards = np.cross(right, -down)[:2]
            away = corners.mean(axis=0)[:2] - (item.x, item.y)
            if item.kind == "traffic_sign":
                away = np.array([np.cos(item.heading), np.sin(item.heading)])
            assert outwards @ away > 0
            seen += 1
    assert seen > 30


def test_same_seed_same_items(plan, textures, mesh):
    again, other = (items_mesh(plan, textures, seed) for seed in (5, 6))
    for name, value in vars(mesh).items():
        np.testing.assert_array_equal(value, getattr(again, name))
    assert len(other) != len(mesh) or not np.array_equal(other.vertices, mesh.vertices)
