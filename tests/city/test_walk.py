"""Viewpoints: poses, and places that are free, near each other and see facades."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
import shapely

from hloc_ext.city.labels import Label
from hloc_ext.city.light import overcast
from hloc_ext.city.render import Renderer
from hloc_ext.city.views import photo
from hloc_ext.city.walk import CLEARANCE, STEP, Viewpoint, map_walk, query_viewpoints
from hloc_ext.errors import InputError
from tests.city.toy_city import toy_city

COUNT, SEED = 24, 5


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(toy_city(220.0, 3))


@pytest.fixture(scope="module")
def walk(renderer: Renderer) -> list[Viewpoint]:
    return map_walk(renderer, COUNT, SEED)


def places(viewpoints: list[Viewpoint]) -> np.ndarray:
    return np.array([viewpoint.position for viewpoint in viewpoints])


def turns(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs((first - second + 180) % 360 - 180)


def test_pose() -> None:
    view = Viewpoint((10.0, 20.0, 1.6), heading=90.0, pitch=10.0, roll=5.0)
    pose = view.cam_from_world
    np.testing.assert_allclose(pose.inverse().translation, view.position, atol=1e-12)
    east_and_up = np.array(view.position) + 7 * np.array([np.cos(np.radians(10)), 0, np.sin(np.radians(10))])
    np.testing.assert_allclose(pose * east_and_up, (0, 0, 7), atol=1e-12)
    # Rolled clockwise, the camera sees what is level turned counter-clockwise: its right side goes up.
    south = pose * (np.array(view.position) - np.array([0, 1, 0]))
    np.testing.assert_allclose(south, (np.cos(np.radians(5)), -np.sin(np.radians(5)), 0), atol=1e-12)
    assert np.linalg.det(pose.rotation.matrix()) == pytest.approx(1)


def test_walk_is_free_and_coherent(renderer: Renderer, walk: list[Viewpoint]) -> None:
    assert len(walk) == COUNT
    positions, headings = places(walk), np.array([viewpoint.heading for viewpoint in walk])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    assert steps.min() > 1 and np.median(steps) < STEP + 0.1
    close = steps < 2 * STEP
    assert close.mean() > 0.8 and turns(headings[1:], headings[:-1])[close].max() < 40
    assert ((positions[:, 2] > 1.4) & (positions[:, 2] < 1.9)).all()
    walls = shapely.union_all([building.footprint for building in renderer.city.plan.buildings])
    assert shapely.distance(shapely.points(positions[:, :2]), walls).min() > CLEARANCE
    assert (np.abs(positions[:, :2]) < 110).all()


def test_facades_are_seen(renderer: Renderer, walk: list[Viewpoint]) -> None:
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=48, height=36, params=[38.0, 24.0, 18.0, -0.02])
    light = overcast(np.random.default_rng(0))
    shares = []
    for viewpoint in walk:
        view = photo(renderer, camera, viewpoint.cam_from_world, light)
        assert view.depth.min() > 1.2
        shares.append((view.label == Label.BUILDING).mean())
    assert np.mean(shares) > 0.2


def test_queries_are_near_the_walk(renderer: Renderer, walk: list[Viewpoint]) -> None:
    queries = query_viewpoints(renderer, walk, 8, SEED)
    assert len(queries) == 8
    for query in queries:
        distance = np.linalg.norm(places(walk)[:, :2] - query.position[:2], axis=1)
        turn = turns(np.array([viewpoint.heading for viewpoint in walk]), np.array(query.heading))
        assert ((distance <= 3) & (turn <= 25)).any() and distance.min() > 0.01
    walls = shapely.union_all([building.footprint for building in renderer.city.plan.buildings])
    assert shapely.distance(shapely.points(places(queries)[:, :2]), walls).min() > CLEARANCE
    assert query_viewpoints(renderer, walk, 8, SEED) == queries
    assert query_viewpoints(renderer, walk, 8, SEED + 1) != queries


def test_same_seed_same_walk(renderer: Renderer, walk: list[Viewpoint]) -> None:
    assert map_walk(renderer, COUNT, SEED) == walk
    assert map_walk(renderer, COUNT, SEED + 1) != walk


def test_a_city_can_be_too_small(renderer: Renderer) -> None:
    with pytest.raises(InputError, match="no room for 6000 photos"):
        map_walk(renderer, 6000, SEED)
