"""A city of boxes with a plan, made in no time: what the tests of the writers look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from shapely import MultiPolygon, box, union_all
from shapely.geometry.polygon import orient

from hloc_ext.city import cache
from hloc_ext.city.labels import Label
from hloc_ext.city.mesh import FIT, Mesh, MeshBuilder
from hloc_ext.city.plan import Building, CityPlan, Crossing, Street
from hloc_ext.city.scene import City
from hloc_ext.city.streets import moving
from hloc_ext.city.textures import Texture, TextureSet
from tests.city.two_blocks import box as box_mesh

DARK, WHITE = range(2)
#: Distance between the streets, and their width with sidewalks.
BLOCK, ROAD, SIDEWALK = 40.0, 8.0, 2.5
#: Posts stand in the middle of the junctions' north-east corners, so far from the centre; their sides are 0.6
#: m.
POST = ROAD / 2 + 1.2
POST_SIDE, POST_HEIGHT = 0.6, 7.0


def lines(extent: float) -> list[float]:
    """Where the streets are, in both directions."""
    count = int((extent / 2 - ROAD) // BLOCK)
    return [BLOCK * i for i in range(-count, count + 1)]


def posts(extent: float) -> np.ndarray:
    """(N, 2) x and y of the posts."""
    return np.array([(x + POST, y + POST) for x in lines(extent) for y in lines(extent)])


def toy_plan(extent: float, seed: int, crs: str, origin: tuple[float, float]) -> CityPlan:
    half, at = extent / 2, lines(extent)
    streets = []
    for i, x in enumerate(at):
        along = np.linspace(-half, half, 5)
        streets.append(Street(np.stack([np.full(5, x), along], 1), ROAD, SIDEWALK, 2, f"avenue {i}"))
        streets.append(Street(np.stack([along, np.full(5, x)], 1), ROAD, SIDEWALK, 2, f"street {i}"))

    def strips(width: float) -> Any:
        boxes = [box(x - width / 2, -half, x + width / 2, half) for x in at]
        return union_all(boxes + [box(-half, x - width / 2, half, x + width / 2) for x in at])

    roads = strips(ROAD)
    rng = np.random.default_rng([seed, 7])
    buildings, parks = [], []
    for x in at[:-1]:
        for y in at[:-1]:
            west, south = x + 12 + rng.uniform(-2, 2), y + 12 + rng.uniform(-2, 2)
            footprint = orient(box(west, south, west + rng.uniform(9, 15), south + rng.uniform(9, 15)))
            faces = ("street",) * 4
            buildings.append(
                Building(len(buildings), footprint, int(rng.integers(2, 5)), 3, 3, "flat", "house", faces)
            )
            parks.append(box(x + 30, y + 8, x + 33, y + 30))
    crossings = [Crossing(box(x - 4, 8, x + 4, 11), np.pi / 2) for x in at]
    return CityPlan(
        seed=seed,
        crs=crs,
        origin=origin,
        bounds=(-half, -half, half, half),
        streets=streets,
        roads=_many(roads),
        sidewalks=_many(strips(ROAD + 2 * SIDEWALK) - roads),
        crossings=crossings,
        stop_lines=np.empty((0, 2, 2)),
        parks=MultiPolygon(parks),
        lawns=MultiPolygon(),
        plazas=MultiPolygon(),
        waters=MultiPolygon(),
        buildings=buildings,
        items=[],
        parking=np.empty((0, 3)),
    )


def toy_city(
    extent: float, seed: int, crs: str = "EPSG:32635", origin: tuple[float, float] = (5e5, 6e6)
) -> City:
    """Boxes between streets on a grid; the tops of the posts are the only white things."""
    plan = toy_plan(extent, seed, crs, origin)
    half = extent / 2
    builder = MeshBuilder()

    def flat(bounds: tuple[float, ...], z: float, label: Label) -> None:
        west, south, east, north = bounds
        quad = [(west, north, z), (east, north, z), (east, south, z), (west, south, z)]
        builder.add_quads([quad], FIT, DARK, label)

    flat((-half, -half, half, half), 0.0, Label.OTHER)
    for area in plan.parks.geoms:
        flat(area.bounds, 0.01, Label.VEGETATION)
    for width, z, label in ((ROAD + 2 * SIDEWALK, 0.02, Label.SIDEWALK), (ROAD, 0.03, Label.ROAD)):
        for x in lines(extent):
            flat((x - width / 2, -half, x + width / 2, half), z, label)
            flat((-half, x - width / 2, half, x + width / 2), z, label)
    for crossing in plan.crossings:
        flat(crossing.area.bounds, 0.04, Label.CROSSING)
    for building in plan.buildings:
        builder.add_mesh(box_mesh(*building.footprint.bounds, building.eaves, texture=DARK))
    for x, y in posts(extent):
        side = POST_SIDE / 2
        builder.add_mesh(
            box_mesh(x - side, y - side, x + side, y + side, POST_HEIGHT, texture=WHITE, label=Label.POLE)
        )
    pictures = [np.full((4, 4, 3), value, np.uint8) for value in (60, 250)]
    textures = [Texture("plaster", pixels, (4.0, 4.0), True, weathering=0.0) for pixels in pictures]
    return City(plan, TextureSet(textures), builder.build(), np.empty((0, 3)))


def _many(area: Any) -> MultiPolygon:
    return area if isinstance(area, MultiPolygon) else MultiPolygon([area])


def use_toy_city(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writers write about the toy city, without cars and people."""
    monkeypatch.setattr(cache, "cached_city", toy_city)
    monkeypatch.setattr(moving, "moving_mesh", lambda *_, **__: Mesh.concatenate([]))


def white_spot(picture: np.ndarray, x: float, y: float, reach: int = 5) -> tuple[float, float]:
    """Centre of what is bright near (x, y); the upper left corner of the picture is (0, 0)."""
    column, row = int(x) - reach, int(y) - reach
    part = picture[row : row + 2 * reach + 1, column : column + 2 * reach + 1].astype(float)
    weight = np.maximum(part - np.median(part) - 40, 0)
    assert weight.sum() > 0
    rows, columns = np.indices(part.shape) + 0.5
    return column + (weight * columns).sum() / weight.sum(), row + (weight * rows).sum() / weight.sum()
