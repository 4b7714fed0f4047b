"""A crossroads with a few of everything, and pictures of one colour: for the tests of the streets."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon

from hloc_ext.city.plan import Building, CityPlan, Crossing, Item, Street
from hloc_ext.city.textures import GROUPS, Texture, TextureSet

KINDS = {
    "tree": 8.0,
    "bush": 1.2,
    "lamp": 7.0,
    "traffic_sign": 2.8,
    "bench": 0.85,
    "bin": 0.9,
    "bollard": 0.9,
    "bus_stop": 2.5,
    "advertising_column": 3.6,
    "kiosk": 2.9,
    "hydrant": 0.8,
    "rock": 0.6,
}


def flat_textures() -> TextureSet:
    """Two pictures of each group, 4 × 4 pixels."""
    rng = np.random.default_rng(0)
    textures = []
    for group in GROUPS:
        for _ in range(2):
            pixels = np.tile(rng.integers(60, 220, (1, 1, 3)), (4, 4, 1)).astype(np.uint8)
            textures.append(Texture(group, pixels, (2.0, 2.0), repeat=True))
    return TextureSet(textures)


def _multi(area: shapely.Geometry) -> MultiPolygon:
    return MultiPolygon([part for part in shapely.get_parts(area) if part.area > 0])


def small_plan() -> CityPlan:
    """Two streets that cross at (0, 0), 80 m × 80 m, a building in each of two corners, a pond, a park."""
    streets = [
        Street(np.array([(-40.0, 0.0), (0.0, 0.0)]), 7.0, 3.0, 2, "West"),
        Street(np.array([(0.0, 0.0), (40.0, 0.0)]), 7.0, 3.0, 2, "East"),
        Street(np.array([(0.0, -40.0), (0.0, 0.0)]), 9.0, 3.0, 4, "South"),
        Street(np.array([(0.0, 0.0), (0.0, 40.0)]), 9.0, 3.0, 4, "North"),
    ]
    roads = shapely.union(shapely.box(-40, -3.5, 40, 3.5), shapely.box(-4.5, -40, 4.5, 40))
    walks = shapely.union(shapely.box(-40, -6.5, 40, 6.5), shapely.box(-7.5, -40, 7.5, 40)) - roads
    plaza, pond = shapely.box(8, 8, 20, 20), shapely.box(24, 24, 34, 34)
    park = shapely.box(20, 20, 40, 40) - pond
    lawn = shapely.box(-20, 8, -8, 16)
    corners = {0: (-36, -30, -16, -10), 1: (12, -34, 34, -12)}
    buildings = [
        Building(i, shapely.box(*box), 4, 3.0, 3.5, "flat", "apartments", ("street",) * 4)
        for i, box in corners.items()
    ]
    items = [
        Item(kind, 10.0 + 2.2 * (i % 4), 9.0 + 3.0 * (i // 4), 0.3 * i, size)
        for i, (kind, size) in enumerate(KINDS.items())
    ]
    items.append(Item("lamp", -20.0, 4.2, -np.pi / 2, 8.0))
    items.append(Item("lamp", -12.0, 12.0, 0.0, 4.0))
    items.append(Item("tree", -28.0, 5.0, 0.0, 9.0))
    crossing = Crossing(Polygon([(-10, -3.5), (-7, -3.5), (-7, 3.5), (-10, 3.5)]), 0.0)
    return CityPlan(
        seed=3,
        crs="EPSG:32635",
        origin=(487000.0, 6470000.0),
        bounds=(-40.0, -40.0, 40.0, 40.0),
        streets=streets,
        roads=_multi(roads),
        sidewalks=_multi(walks),
        crossings=[crossing],
        stop_lines=np.array([[(-11.0, -3.4), (-11.0, -0.1)], [(0.1, -9.0), (4.4, -9.0)]]),
        parks=_multi(park),
        lawns=_multi(lawn),
        plazas=_multi(plaza),
        waters=_multi(pond),
        buildings=buildings,
        items=items,
        parking=np.array([(18.0 + 6 * i, -2.4, 0.0) for i in range(3)] + [(-10.0, -20.0, np.pi / 2)]),
    )
