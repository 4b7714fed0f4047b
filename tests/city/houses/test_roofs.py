from __future__ import annotations

import numpy as np
import pytest
import shapely

from hloc_ext.city.houses.facades import building_mesh
from hloc_ext.city.houses.roof_shapes import Envelope, edge_normals, offset_ring
from hloc_ext.city.houses.roofs import envelope_of, plan_roof, ring_of
from tests.city.sample_houses import L_SHAPE, PENTAGON, SQUARE, hits, house, inside
from tests.city.small_plan import flat_textures

TEXTURES = flat_textures()
UNIT = np.array([(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)])


def test_offset_ring() -> None:
    assert offset_ring(UNIT, 0.5) == pytest.approx(
        np.array([(-0.5, -0.5), (4.5, -0.5), (4.5, 4.5), (-0.5, 4.5)])
    )
    one_side = offset_ring(UNIT, [-1.0, 0, 0, 0])
    assert one_side == pytest.approx(np.array([(0, 1), (4, 1), (4, 4), (0, 4)]))
    assert offset_ring(UNIT, -2.5) is None
    assert edge_normals(UNIT) == pytest.approx(np.array([(0, -1), (1, 0), (0, 1), (-1, 0)]))


def test_offset_ring_at_a_straight_corner() -> None:
    ring = np.array([(0.0, 0.0), (5.0, 0.0), (10.0, 0.0), (10.0, 8.0), (0.0, 8.0)])
    moved = offset_ring(ring, -1.0)
    assert moved == pytest.approx(np.array([(1, 1), (5, 1), (9, 1), (9, 7), (1, 7)]))


def test_pyramid() -> None:
    pyramid = Envelope.of_edges(UNIT, edge_normals(UNIT), slope=0.5, eaves=10.0)
    assert pyramid.at(np.array([[2.0, 2.0], [1.0, 2.0], [0.0, 3.0]])) == pytest.approx([11, 10.5, 10])
    faces = pyramid.faces(UNIT)
    assert [shapely.Polygon(face[:, :2]).area for face in faces] == pytest.approx([4, 4, 4, 4])
    assert max(face[:, 2].max() for face in faces) == pytest.approx(11)
    fractions, heights = pyramid.profile(np.array([0.0, 2.0]), np.array([4.0, 2.0]))
    assert fractions == pytest.approx([0, 0.5, 1])
    assert heights == pytest.approx([10, 11, 10])


def test_gable_has_its_ridge_along_the_longer_axis() -> None:
    building = house(roof="gable")
    roof = plan_roof(np.random.default_rng(0), building)
    assert roof.kind == "gable"
    ring = ring_of(building)
    envelope = envelope_of(building, roof, ring, np.ones(4, bool))
    west, middle, east = envelope.at(np.array([[10.0, 26.0], [19.0, 26.0], [28.0, 26.0]]))
    assert west == pytest.approx(middle) == pytest.approx(east)
    south = envelope.at(np.array([19.0, 20.0 - roof.overhang]))
    assert south == pytest.approx(building.eaves)
    assert middle == pytest.approx(building.eaves + min(roof.slope, 11 / 12) * (6 + roof.overhang))


@pytest.mark.parametrize("roof", ["gable", "hip"])
def test_footprints_that_are_not_convex_get_flat_roofs(roof: str) -> None:
    assert plan_roof(np.random.default_rng(0), house(footprint=L_SHAPE, roof=roof)).kind == "flat"
    small = shapely.Polygon([(0, 0), (1.5, 0), (1.5, 9), (0, 9)])
    assert plan_roof(np.random.default_rng(0), house(footprint=small, roof="mansard")).kind == "flat"
    assert plan_roof(np.random.default_rng(0), house(footprint=L_SHAPE, roof="mansard")).kind == "mansard"


@pytest.mark.parametrize("party", [(), (1,), (1, 3)])
@pytest.mark.parametrize("roof", ["flat", "gable", "hip", "mansard"])
@pytest.mark.parametrize("footprint", [SQUARE, PENTAGON, L_SHAPE], ids=["square", "pentagon", "L"])
def test_roofs_have_no_holes(footprint: shapely.Polygon, roof: str, party: tuple[int, ...]) -> None:
    """Rays from above, upright and slanting, meet the roof before they get below the eaves."""
    rng = np.random.default_rng(1)
    for index in range(2):
        building = house(index, footprint, roof, ("house", "shops")[index], party=party)
        mesh = building_mesh(building, TEXTURES, 3)
        points = inside(rng, footprint, 1500)
        targets = np.column_stack([points, np.full(len(points), building.eaves)])
        upright = np.tile([0.0, 0.0, -1.0], (len(points), 1))
        height = 60.0 - hits(mesh, targets * (1, 1, 0) + (0, 0, 60.0), upright)
        assert height.min() >= building.eaves - 0.01
        assert height.max() < building.eaves + 9.5
        angle = rng.uniform(0, 2 * np.pi, len(points))
        slanting = np.stack([np.cos(angle), np.sin(angle), np.full(len(points), -1.0)], axis=1)
        assert (hits(mesh, targets - 40 * slanting, slanting) <= 40.02).all()
