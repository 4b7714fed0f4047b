"""A panorama rendered from its camera's height overlays the classes of the rendered satellite tile.

The panorama's depth and classes go through the geometry that the network uses
(:func:`~hloc_ext.models.bev_geometry.ground_to_bev`), and are compared with the ortho picture's classes in a
band along the edge of the tile, where an error of angle or scale moves them most.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from hloc_ext.models.bev_geometry import ground_to_bev
from tests.class_maps import agreement

if not all(find_spec(name) for name in ("embreex", "numba", "rasterio", "geopandas")):
    pytest.skip("the city needs its extra", allow_module_level=True)

from hloc_ext.city.cache import cached_city
from hloc_ext.city.light import daylight
from hloc_ext.city.render import Renderer
from hloc_ext.city.scene import City
from hloc_ext.city.views import ortho, panorama
from tests.city.toy_city import toy_city

CLASSES = 11
CAMERA_HEIGHT = 2.5


def overlay(
    city: City, camera: tuple[float, float], offset: tuple[float, float], tile_width: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """BEV of a panorama, and classes of its tile, (size, size)."""
    renderer, light = Renderer(city), daylight(np.random.default_rng(0))
    # Only the rows in which the ground from the middle of the tile outwards is seen; fine, for it is seen at
    # a slant: a row is some 0.1 m of ground at the edge.
    elevation = (-np.degrees(np.arctan(CAMERA_HEIGHT / (0.2 * tile_width))), 1.0)
    rows = int(np.radians(elevation[1] - elevation[0]) * (0.6 * tile_width) ** 2 / CAMERA_HEIGHT / 0.12)
    columns = int(2 * np.pi * 0.75 * size)
    view = panorama(renderer, (*camera, CAMERA_HEIGHT), columns, rows, light, elevation=elevation)
    bev = ground_to_bev(
        torch.from_numpy(view.depth),
        torch.from_numpy(view.label),
        elevation,
        size,
        tile_width,
        offset,
        distances=round(1.06 * size),
        classes=CLASSES,
        max_radius=1.06,
    )
    west, south = camera[0] - (offset[0] + 0.5) * tile_width, camera[1] + (offset[1] - 0.5) * tile_width
    bounds = (west, south, west + tile_width, south + tile_width)
    return bev.numpy(), ortho(renderer, bounds, tile_width / size, light).label


def overlays(bev: np.ndarray, tile: np.ndarray, least: int) -> bool:
    """Whether more than `least` pixels at the edge of the tile are seen, agree, and would not if shifted."""
    size = len(tile)
    band = np.ones(tile.shape, bool)
    inner = slice(size // 10, -(size // 10))
    band[inner, inner] = False
    seen, exact, near = agreement(bev, tile, band)
    shifts = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    equal = {shift: agreement(np.roll(bev, shift, (0, 1)), tile, band)[1] for shift in shifts}
    best = max(equal, key=lambda shift: equal[shift])
    print(f"seen {seen * band.sum():.0f}, exact {exact:.3f}, within a pixel {near:.3f}, best shift {best}")
    return seen * band.sum() > least and exact > 0.85 and near > 0.98 and best == (0, 0)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.2, -0.15)])
def test_a_panorama_overlays_its_tile(offset: tuple[float, float]) -> None:
    assert overlays(*overlay(toy_city(200.0, 1), (1.3, 2.2), offset, 40.0, 160), least=400)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [(0.0, 0.0), (-0.1, 0.2)])
def test_a_panorama_of_the_city_overlays_its_tile(offset: tuple[float, float]) -> None:
    city = cached_city(200, 1)
    street = max(city.plan.streets, key=lambda s: s.width)
    camera = street.centreline[np.linalg.norm(street.centreline, axis=1).argmin()]
    assert overlays(*overlay(city, (float(camera[0]), float(camera[1])), offset, 80.0, 344), least=500)


def test_a_shifted_view_does_not_overlay_its_tile() -> None:
    bev, tile = overlay(toy_city(200.0, 1), (1.3, 2.2), (0.0, 0.0), 40.0, 160)
    assert not overlays(np.roll(bev, 1, 0), tile, least=400)
