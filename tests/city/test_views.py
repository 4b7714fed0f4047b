"""Pictures of a city agree with its geometry, and with each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from hloc_ext.city.labels import Label
from hloc_ext.city.light import Light, daylight, night
from hloc_ext.city.mesh import Mesh
from hloc_ext.city.pyramids import srgb_to_linear
from hloc_ext.city.render import Renderer
from hloc_ext.city.sensor import Sensor
from hloc_ext.city.views import View, ortho, panorama, photo
from tests.city.two_blocks import BOXES, GLASS, LAMP, LEAVES, box, two_blocks

DAY = replace(daylight(np.random.default_rng(0)), sun_azimuth=270.0, sun_elevation=45.0, haze=0.0)
NIGHT = night(np.random.default_rng(0))
#: World→camera rotation of a level camera that looks north: x east, y down, z north.
NORTH = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(two_blocks())


def camera(model: str = "PINHOLE") -> pycolmap.Camera:
    params = {
        "PINHOLE": [200.0, 200.0, 160.0, 120.0],
        "SIMPLE_RADIAL": [200.0, 158.0, 121.0, -0.08],
        "OPENCV": [201.0, 199.0, 161.0, 119.0, -0.1, 0.02, 0.001, -0.002],
    }
    return pycolmap.Camera(model=model, width=320, height=240, params=params[model])


def pose(x: float, y: float, heading: float = 0.0, z: float = 1.6) -> pycolmap.Rigid3d:
    """World→camera of a level camera; `heading` in degrees clockwise from north."""
    turn = np.radians(heading)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    rotation = NORTH @ about_z
    return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ np.array([x, y, z]))


def snapshot(renderer: Renderer, light: Light = DAY, moving: Mesh | None = None, **where: float) -> View:
    return photo(renderer, camera(), pose(**({"x": 15.0, "y": 0.0} | where)), light, moving)


def test_depth_is_along_the_optical_axis(renderer: Renderer) -> None:
    view = snapshot(renderer)
    wall = view.label == Label.BUILDING
    assert wall.sum() > 3000
    # The front of the first box is parallel to the picture, 20 m away; so all of it has the same depth.
    np.testing.assert_allclose(view.depth[wall], 20.0, atol=1e-4)
    assert np.isinf(view.depth[view.label == Label.SKY]).all()
    row = 239
    np.testing.assert_allclose(view.depth[row], 1.6 * 200 / (row + 0.5 - 120), rtol=1e-5)


@pytest.mark.parametrize("model", ["PINHOLE", "SIMPLE_RADIAL", "OPENCV"])
def test_depth_takes_points_from_one_photo_to_another(renderer: Renderer, model: str) -> None:
    rig = camera(model)
    poses = [pose(15, 0), pose(6, 3, 15)]
    first, second = (photo(renderer, rig, p, DAY) for p in poses)
    rows, columns = np.nonzero(np.isfinite(first.depth))
    rays = rig.cam_from_img(np.stack([columns + 0.5, rows + 0.5], axis=1).astype(float))
    points = np.column_stack([rays, np.ones(len(rays))]) * first.depth[rows, columns][:, None]
    world = (points - poses[0].translation) @ poses[0].rotation.matrix()
    local = world @ poses[1].rotation.matrix().T + poses[1].translation
    pixels = rig.img_from_cam(local)
    inside = (np.abs(pixels - [160, 120]) < [155, 115]).all(axis=1)
    inside &= (local[:, 2] > 0) & (np.abs(local[:, :2]) < local[:, 2:]).all(axis=1)
    # Depth is linear in 1 / z between pixels of a plane: no error but at the borders of things.
    x, y = (pixels[inside] - 0.5).T
    column, row = x.astype(int), y.astype(int)
    fx, fy = x - column, y - row
    inverse = 1 / second.depth
    upper = inverse[row, column] * (1 - fx) + inverse[row, column + 1] * fx
    lower = inverse[row + 1, column] * (1 - fx) + inverse[row + 1, column + 1] * fx
    error = np.abs((upper * (1 - fy) + lower * fy) * local[inside, 2] - 1)
    assert len(error) > 10_000
    assert np.median(error) < 1e-5
    assert np.mean(error < 1e-3) > 0.9


def test_panorama_has_north_at_its_centre(renderer: Renderer) -> None:
    view = panorama(renderer, (0.0, 0.0, 1.6), 720, 360, DAY)
    columns = np.flatnonzero((view.label[:180] == Label.BUILDING).any(axis=0))
    azimuths = ((columns + 0.5) / 720 - 0.5) * 360
    # Box 0 lies north-east, box 1 west.
    corners = [(x, y) for i in (0, 2) for j in (1, 3) for x, y in [(BOXES[0][i], BOXES[0][j])]]
    expected = np.degrees([np.arctan2(x, y) for x, y in corners])
    first = azimuths[azimuths > 0]
    np.testing.assert_allclose([first.min(), first.max()], [expected.min(), expected.max()], atol=0.5)
    second = azimuths[azimuths < 0]
    edge = np.degrees(np.arctan2(20, 10))
    np.testing.assert_allclose([second.min(), second.max()], [-180 + edge, -edge], atol=0.5)
    # Straight down: the ground, at eye height.
    assert view.depth[-1] == pytest.approx(1.6, abs=1e-3)
    south = int(0.5 * 720 - 1), 0
    assert view.label[100, south[1]] == Label.SKY


def test_panorama_of_part_of_the_elevations(renderer: Renderer) -> None:
    whole = panorama(renderer, (0.0, 0.0, 1.6), 360, 180, DAY)
    part = panorama(renderer, (0.0, 0.0, 1.6), 360, 60, DAY, elevation=(-30.0, 30.0))
    np.testing.assert_array_equal(part.label, whole.label[60:120])


def test_ortho_is_north_up_and_true(renderer: Renderer) -> None:
    view = ortho(renderer, (-40.0, -20.0, 40.0, 40.0), 0.5, DAY)
    assert view.rgb.shape == (120, 160, 3)
    roofs = np.zeros((120, 160), bool)
    heights = np.zeros((120, 160))
    for min_x, min_y, max_x, max_y, height in BOXES:
        window = np.s_[
            int((40 - max_y) / 0.5) : int((40 - min_y) / 0.5),
            int((min_x + 40) / 0.5) : int((max_x + 40) / 0.5),
        ]
        roofs[window] = True
        heights[window] = height
    np.testing.assert_array_equal(view.label == Label.BUILDING, roofs)
    np.testing.assert_allclose(view.depth, heights, atol=1e-3)


def test_shadows_fall_away_from_the_sun(renderer: Renderer) -> None:
    view = ortho(renderer, (-20.0, -20.0, 0.0, 20.0), 1.0, DAY)
    # The sun is in the west at 45°: the box of 6 m, whose eastern wall is at x = −20, shades 6 m of ground.
    rgb = srgb_to_linear(view.rgb / 255).mean(axis=2)
    shaded, lit = rgb[15:25, :5].mean(), rgb[15:25, 8:].mean()
    assert 0.1 * lit < shaded < 0.6 * lit
    assert rgb[:8, :5].mean() == pytest.approx(lit, rel=0.1)


def test_edges_are_smooth(renderer: Renderer) -> None:
    rgb = snapshot(renderer, x=13.03).rgb[60].astype(int).mean(axis=1)
    wall = np.flatnonzero(snapshot(renderer, x=13.03).label[60] == Label.BUILDING)
    left = wall[0]
    between = rgb[left - 1 : left + 1]
    ends = sorted((rgb[left - 4], rgb[left + 3]))
    assert ((between > ends[0] + 3) & (between < ends[1] - 3)).any()


def test_lamps_light_the_ground_at_night(renderer: Renderer) -> None:
    view = ortho(renderer, (LAMP[0] - 20, LAMP[1] - 20, LAMP[0] + 20, LAMP[1] + 20), 1.0, NIGHT)
    brightness = view.rgb.astype(float).mean(axis=2)
    assert brightness[17:23, 17:23].mean() > 2 * brightness[:4].mean()


def test_moving_things_hide_what_is_behind_them(renderer: Renderer) -> None:
    car = box(13.0, 8.0, 17.0, 10.0, 1.5, label=Label.VEHICLE)
    empty, view = snapshot(renderer), snapshot(renderer, moving=car)
    hidden = view.label == Label.VEHICLE
    assert hidden.any()
    np.testing.assert_allclose(view.depth[hidden & (view.depth < 8.01)], 8.0, atol=1e-4)
    others = ~hidden
    np.testing.assert_array_equal(view.label[others], empty.label[others])
    np.testing.assert_array_equal(view.depth[others], empty.depth[others])
    behind = box(13.0, 22.0, 17.0, 24.0, 1.5, label=Label.VEHICLE)
    assert not (snapshot(renderer, moving=behind).label == Label.VEHICLE).any()


def test_glass_mirrors_the_sky_and_leaves_let_light_through(renderer: Renderer) -> None:
    dull, shiny, leaf = (
        box(13.0, 8.0, 17.0, 10.0, 3.0, label=Label.VEHICLE, texture=texture, tint=tint)
        for texture, tint in ((GLASS, 1), (GLASS, 255), (LEAVES, 255))
    )
    brightness = []
    for mesh in (dull, shiny, leaf):
        view = snapshot(renderer, moving=mesh)
        brightness.append(view.rgb[view.label == Label.VEHICLE].mean())
    assert brightness[0] > 3  # even black glass mirrors something
    assert brightness[2] > brightness[1]


def test_the_same_seed_gives_the_same_bytes(renderer: Renderer) -> None:
    sensor = Sensor.by_night(np.random.default_rng(3))
    pictures = [photo(renderer, camera(), pose(15, 0), NIGHT, None, sensor, seed).rgb for seed in (1, 1, 2)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).mean() > 0.3
    again = photo(Renderer(two_blocks()), camera(), pose(15, 0), NIGHT, None, sensor, 1)
    np.testing.assert_array_equal(pictures[0], again.rgb)


def test_textures_are_averaged_over_a_pixel(renderer: Renderer) -> None:
    # From straight above and slantwise: squares of 1 m merge where a pixel holds many of them.
    fine, coarse = (ortho(renderer, (-80.0, -80.0, -40.0, -40.0), size, DAY) for size in (0.25, 8.0))
    assert fine.rgb.std(axis=(0, 1)).min() > 25
    assert coarse.rgb.std(axis=(0, 1)).max() < 2
    horizon = photo(renderer, camera(), pose(0, -60), DAY)
    far = (horizon.depth > 60) & (horizon.label == Label.ROAD)
    assert far.sum() > 100
    assert horizon.rgb[far].std(axis=0).max() < 12


def test_many_rays_are_followed_in_parts(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = snapshot(renderer)
    monkeypatch.setattr("hloc_ext.city.render._CHUNK", 1000)
    parts = snapshot(renderer)
    np.testing.assert_array_equal(whole.rgb, parts.rgb)
    np.testing.assert_array_equal(whole.depth, parts.depth)
