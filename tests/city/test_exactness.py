"""A whole small city: its pictures, depths, layers and panoramas agree, as docs/city.md says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.city import exactness
from benchmarks.city.__main__ import camera
from benchmarks.city.viewpoints import moved, random_viewpoints
from hloc_ext.city.labels import MOVING, Label
from hloc_ext.city.light import daylight
from hloc_ext.city.render import Renderer
from hloc_ext.city.scene import City, make_city
from hloc_ext.city.streets.moving import moving_mesh
from hloc_ext.city.views import View, ortho, panorama, photo
from hloc_ext.city.walk import Viewpoint

LIGHT = daylight(np.random.default_rng(0))


@dataclass
class Pair:
    """Two photos from places 1.6 m apart, and their poses."""

    photos: tuple[View, View]
    viewpoints: tuple[Viewpoint, Viewpoint]


@pytest.fixture(scope="module")
def city() -> City:
    return make_city(200, 3)


@pytest.fixture(scope="module")
def renderer(city: City) -> Renderer:
    return Renderer(city)


@pytest.fixture(scope="module")
def pairs(renderer: Renderer) -> list[Pair]:
    made = []
    for number, first in enumerate(random_viewpoints(renderer, 4, seed=2)):
        views = (first, moved(first, right=1.2, ahead=1.0, turn=4.0))
        x, y, _ = first.position
        plan, textures = renderer.city.plan, renderer.city.textures
        moving = moving_mesh(plan, textures, number, near=(x, y), keep_clear=[(x, y, 4.0)])
        taken = [photo(renderer, camera(), v.cam_from_world, LIGHT, moving) for v in views]
        made.append(Pair((taken[0], taken[1]), views))
    return made


def test_depth_takes_pixels_to_the_other_photo_and_back(pairs: list[Pair]) -> None:
    errors = [
        exactness.reprojection_errors(
            *pair.photos, camera(), tuple(v.cam_from_world for v in pair.viewpoints)
        )
        for pair in pairs
    ]
    assert min(map(len, errors)) > 500
    assert np.median(np.concatenate(errors)) < 0.1


def test_sift_matches_lie_on_their_epipolar_lines(pairs: list[Pair]) -> None:
    errors = [
        exactness.epipolar_errors(*pair.photos, camera(), tuple(v.cam_from_world for v in pair.viewpoints))
        for pair in pairs
    ]
    assert sum(map(len, errors)) > 300
    assert np.median(np.concatenate(errors)) < 0.5


def test_wrong_poses_are_noticed(pairs: list[Pair]) -> None:
    first, second = (v.cam_from_world for v in pairs[0].viewpoints)
    wrong = moved(pairs[0].viewpoints[1], 0.5, 0.0, 1.0).cam_from_world
    photos = pairs[0].photos
    right = np.median(exactness.epipolar_errors(*photos, camera(), (first, second)))
    assert np.median(exactness.epipolar_errors(*photos, camera(), (first, wrong))) > 4 * right


def test_layers_lie_on_the_ortho_picture(city: City, renderer: Renderer) -> None:
    bounds, pixel = (-60.0, -60.0, 60.0, 60.0), 0.125
    tile = ortho(renderer, bounds, pixel, LIGHT)
    tile.label[tile.label == Label.CROSSING] = Label.ROAD
    layers = {
        Label.ROAD: [city.plan.roads],
        Label.BUILDING: [building.footprint for building in city.plan.buildings],
    }
    for label, polygons in layers.items():
        distances = exactness.boundary_distances(tile, label, polygons, bounds)
        assert len(distances) > 1000
        # In pixels of 0.25 m, those of the GIS set; roofs reach over their walls.
        assert np.median(distances) * pixel / 0.25 < 1.0, label
    shifted = (bounds[0] + 1.5, bounds[1], bounds[2] + 1.5, bounds[3])
    assert np.mean(exactness.boundary_distances(tile, Label.ROAD, [city.plan.roads], shifted)) > 2


def test_panorama_and_tile_have_the_same_north(renderer: Renderer, pairs: list[Pair]) -> None:
    for pair in pairs:
        x, y, z = pair.viewpoints[0].position
        bounds = (x - 40, y - 40, x + 40, y + 40)
        whole = panorama(renderer, (x, y, z), 1024, 512, LIGHT)
        tile = ortho(renderer, bounds, 0.25, LIGHT)
        assert abs(exactness.azimuth_error(whole, (x, y, z), tile, bounds)) < 0.5
        whole.label, whole.depth = np.roll(whole.label, 6, axis=1), np.roll(whole.depth, 6, axis=1)
        turned = exactness.azimuth_error(whole, (x, y, z), tile, bounds)
        assert turned == pytest.approx(-6 / 1024 * 360, abs=0.5)


def test_things_that_move_are_not_in_the_city(city: City) -> None:
    assert not np.isin(city.mesh.label, MOVING).any()
    assert np.isfinite(city.mesh.vertices).all() and np.isfinite(city.mesh.uv).all()
    assert city.mesh.texture.max() < len(city.textures.textures)
    assert {Label.ROAD, Label.SIDEWALK, Label.BUILDING, Label.VEGETATION, Label.CROSSING} <= set(
        np.unique(city.mesh.label).tolist()
    )


@pytest.mark.slow
def test_the_same_seed_makes_the_same_city(city: City) -> None:
    again, other = make_city(200, 3), make_city(200, 4)
    for name in ("vertices", "uv", "texture", "tint", "label", "object_id", "glow"):
        np.testing.assert_array_equal(getattr(again.mesh, name), getattr(city.mesh, name))
    for first, second in zip(city.textures.textures, again.textures.textures, strict=True):
        np.testing.assert_array_equal(first.pixels, second.pixels)
    assert len(other.mesh) != len(city.mesh)
