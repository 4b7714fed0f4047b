from __future__ import annotations

import numpy as np
import pytest
import shapely

from hloc_ext.city.labels import Label
from hloc_ext.city.streets.flat import outline, planar_uv, triangulate
from hloc_ext.city.streets.ground import ground_mesh
from tests.city.small_plan import flat_textures, small_plan


@pytest.fixture(scope="module")
def plan():
    return small_plan()


@pytest.fixture(scope="module")
def mesh(plan):
    return ground_mesh(plan, flat_textures(), 1)


def _flat_at(mesh, height):
    return np.abs(mesh.vertices[..., 2] - height).max(axis=1) < 1e-4


def _areas(mesh):
    first, second = (mesh.vertices[:, i, :2] - mesh.vertices[:, 0, :2] for i in (1, 2))
    return np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).astype(float) / 2


def test_triangles_leave_holes_out():
    ring = shapely.box(0, 0, 10, 10) - shapely.box(4, 4, 6, 6)
    corners, owner = triangulate([shapely.box(20, 0, 21, 1), ring])
    centers = corners.mean(axis=1)
    assert sorted(set(owner.tolist())) == [0, 1]
    assert (
        shapely.polygons(corners[owner == 1]).tolist() and shapely.area(shapely.polygons(corners)).sum() == 97
    )
    assert not shapely.contains_xy(shapely.box(4, 4, 6, 6), centers[:, 0], centers[:, 1]).any()


def test_texture_coordinates_follow_the_street():
    corners = np.array([[(0.0, 0.0), (3.0, 4.0), (-4.0, 3.0)]])
    uv = planar_uv(corners, [np.arctan2(4, 3)], np.array([(5.0, 10.0)]))
    np.testing.assert_allclose(uv[0], [(0, 0), (1, 0), (0, -0.5)], atol=1e-12)


def test_band_is_mitered_into_the_area():
    edges = outline(shapely.box(0, 0, 10, 10))
    strip = shapely.union_all(shapely.polygons(edges.band(0.0, 1.0)))
    assert strip.area == pytest.approx(100 - 64)
    assert edges.along_end.max() == pytest.approx(40)


def test_roads_are_covered_once(plan, mesh):
    surfaces = _flat_at(mesh, 0.0)
    areas = _areas(mesh)
    crossing = sum(crossing.area.area for crossing in plan.crossings)
    assert areas[surfaces & (mesh.label == Label.CROSSING)].sum() == pytest.approx(crossing, rel=1e-4)
    assert areas[surfaces & (mesh.label == Label.ROAD)].sum() == pytest.approx(
        plan.roads.area - crossing, rel=1e-4
    )


def test_heights_and_classes(plan, mesh):
    areas = _areas(mesh)
    paved = plan.sidewalks.area + plan.plazas.area
    assert areas[_flat_at(mesh, 0.12) & (mesh.label == Label.SIDEWALK)].sum() == pytest.approx(
        paved, rel=1e-4
    )
    green = plan.parks.area + plan.lawns.area
    assert areas[_flat_at(mesh, 0.10) & (mesh.label == Label.VEGETATION)].sum() == pytest.approx(
        green, rel=1e-4
    )
    assert areas[_flat_at(mesh, 0.02) & (mesh.label == Label.WATER)].sum() == pytest.approx(
        plan.waters.area, rel=1e-4
    )
    everything = areas[np.any([_flat_at(mesh, z) for z in (0.0, 0.02, 0.1, 0.12)], axis=0)].sum()
    assert everything == pytest.approx(80 * 80, rel=1e-4)


def test_sheet_reaches_far_beyond_the_bounds(mesh):
    assert mesh.vertices[..., :2].min() == -340 and mesh.vertices[..., :2].max() == 340
    assert mesh.vertices[..., 2].min() == pytest.approx(-0.02)


def test_decals_lie_flat_each_at_its_own_height(plan, mesh):
    heights = mesh.vertices[..., 2].astype(float)
    level = np.ptp(heights, axis=1) < 1e-6
    for base in (0.0, 0.12):
        above = heights[:, 0] - base
        decals = level & (above > 1e-3) & (above < 0.017)
        assert decals.sum() > 200
        assert len(np.unique(heights[decals, 0])) > 80
    walked = shapely.union_all([plan.sidewalks, plan.plazas]).buffer(0.02)
    on_walk = mesh.vertices[level & (heights[:, 0] > 0.122) & (heights[:, 0] < 0.129)].reshape(-1, 3)
    assert shapely.contains_xy(walked, on_walk[:, 0], on_walk[:, 1]).all()


def test_zebra_stays_on_its_crossing(plan, mesh):
    points = mesh.vertices[mesh.label == Label.CROSSING].reshape(-1, 3)
    area = shapely.union_all([crossing.area for crossing in plan.crossings]).buffer(0.01)
    assert shapely.contains_xy(area, points[:, 0], points[:, 1]).all()
    stripes = (mesh.label == Label.CROSSING) & ~_flat_at(mesh, 0.0)
    assert 0.35 < _areas(mesh)[stripes].sum() / plan.crossings[0].area.area < 0.55


def test_kerbs_face_the_road(mesh, plan):
    upright = np.ptp(mesh.vertices[..., 2], axis=1) > 0.1
    middles = mesh.vertices[upright, :, :2].mean(axis=1)
    along_roads = shapely.distance(shapely.points(middles), plan.roads.boundary) < 0.01
    tops = mesh.vertices[upright][along_roads][..., 2].max(axis=1)
    np.testing.assert_allclose(tops, 0.12, atol=1e-6)


def test_same_seed_same_ground(plan, mesh):
    again, other = (ground_mesh(plan, flat_textures(), seed) for seed in (1, 2))
    for name, value in vars(mesh).items():
        np.testing.assert_array_equal(value, getattr(again, name))
    assert len(other) != len(mesh)
