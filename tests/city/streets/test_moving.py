from __future__ import annotations

import numpy as np
import pytest
import shapely

from hloc_ext.city.labels import Label
from hloc_ext.city.streets.car_bodies import BODIES
from hloc_ext.city.streets.cars import make_car
from hloc_ext.city.streets.moving import FIRST_MOVING_ID, moving_mesh
from hloc_ext.city.streets.people import make_person
from tests.city.small_plan import flat_textures, small_plan


@pytest.fixture(scope="module")
def plan():
    return small_plan()


@pytest.fixture(scope="module")
def textures():
    return flat_textures()


def _hulls(mesh):
    """Label, lowest point and outline on the ground of each thing."""
    things = {}
    for identity in np.unique(mesh.object_id):
        chosen = mesh.object_id == identity
        points = mesh.vertices[chosen].reshape(-1, 3)
        hull = shapely.convex_hull(shapely.MultiPoint(points[:, :2]))
        things[int(identity)] = (Label(mesh.label[chosen][0]), float(points[:, 2].min()), hull)
    return things


@pytest.fixture(scope="module")
def things(plan, textures):
    return [_hulls(moving_mesh(plan, textures, seed)) for seed in range(4)]


def test_there_are_cars_and_people(things):
    for labels in ({label for label, _, _ in moment.values()} for moment in things):
        assert labels == {Label.VEHICLE, Label.PERSON}
    assert min(min(moment) for moment in things) >= FIRST_MOVING_ID


def test_nothing_overlaps(plan, things):
    buildings = shapely.union_all([building.footprint for building in plan.buildings])
    posts = shapely.buffer(shapely.points([(item.x, item.y) for item in plan.items]), 0.1)
    for moment in things:
        hulls = [hull for label, _, hull in moment.values() if label == Label.VEHICLE]
        # A stride or an arm may pass close to a neighbour: people count by the middle of their bodies.
        hulls += [hull.centroid.buffer(0.2) for label, _, hull in moment.values() if label == Label.PERSON]
        first, second = shapely.STRtree(hulls).query(hulls, predicate="intersects")
        assert (first == second).all()
        assert not shapely.intersects(hulls, buildings).any()
        assert not any(shapely.intersects(hulls, post).any() for post in posts)


def test_where_things_are(plan, things):
    for moment in things:
        for label, bottom, hull in moment.values():
            center = hull.centroid
            if label == Label.PERSON:
                assert bottom == pytest.approx(0.0 if plan.roads.contains(center) else 0.11, abs=0.011)
            elif plan.roads.contains(center):
                assert bottom == pytest.approx(0.0, abs=0.012)


def test_driving_on_the_right(plan, textures):
    mesh = moving_mesh(plan, textures, 2)
    driving = (mesh.object_id >= FIRST_MOVING_ID + 100_000) & (mesh.label == Label.VEHICLE)
    assert driving.any()
    red, white = ((mesh.tint == color).all(axis=1) & driving for color in ((190, 20, 15), (245, 245, 235)))
    for identity in np.unique(mesh.object_id[driving]):
        mine = mesh.object_id == identity
        rear, front = (
            mesh.vertices[mine & lights].reshape(-1, 3).mean(axis=0)[:2] for lights in (red, white)
        )
        x, y = (rear + front) / 2
        east_west = (identity - FIRST_MOVING_ID - 100_000) // 1000 < 2
        if east_west:
            assert np.sign(front[0] - rear[0]) == -np.sign(y)
        else:
            assert np.sign(front[1] - rear[1]) == np.sign(x)


def test_the_same_moment_near_a_place(plan, textures):
    everything = _hulls(moving_mesh(plan, textures, 1))
    near = _hulls(moving_mesh(plan, textures, 1, near=(10.0, 0.0), radius=25.0))
    assert 0 < len(near) < len(everything)
    inner = {
        identity
        for identity, (_, _, hull) in everything.items()
        if hull.centroid.distance(shapely.Point(10, 0)) < 15
    }
    assert inner and inner <= set(near)
    assert all(hull.centroid.distance(shapely.Point(10, 0)) < 27 for _, _, hull in near.values())


def test_places_are_kept_clear(plan, textures):
    spots = [(x, 0.0, 4.0) for x in (-30.0, -15.0, 0.0, 15.0, 30.0)]
    moment = _hulls(moving_mesh(plan, textures, 1, keep_clear=spots))
    for x, y, radius in spots:
        assert min(hull.distance(shapely.Point(x, y)) for _, _, hull in moment.values()) > radius - 0.5


def test_moments_differ_and_repeat(plan, textures):
    first, again, other = (moving_mesh(plan, textures, seed) for seed in (7, 7, 8))
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(again, name))
    assert len(first) != len(other) or not np.array_equal(first.vertices, other.vertices)


def test_sizes_of_cars_and_people(textures):
    rng = np.random.default_rng(0)
    for body in BODIES:
        vertices = make_car(body, textures, rng).mesh.vertices.reshape(-1, 3)
        length, width, height = np.ptp(vertices, axis=0)
        assert 3.9 < length < 7.1 and 1.7 < width < 2.5 and 1.4 < height < 3.0
        assert vertices[:, 2].min() == pytest.approx(0.0, abs=0.01)
    for _ in range(5):
        vertices = make_person(textures, rng).mesh.vertices.reshape(-1, 3)
        assert vertices[:, 2].max() == pytest.approx(1.0, abs=1e-6)
        assert vertices[:, 2].min() == pytest.approx(0.0, abs=1e-6)
