"""Buildings of every use and roof, and rays that look at them."""

from __future__ import annotations

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from shapely import contains_xy
from shapely.geometry import Polygon

from hloc_ext.city.mesh import Mesh
from hloc_ext.city.plan import Building

USES = ("house", "apartments", "shops", "office", "industrial", "civic")
SQUARE = Polygon([(10, 20), (28, 20), (28, 32), (10, 32)])
PENTAGON = Polygon([(0, 0), (16, -2), (20, 9), (9, 17), (-2, 10)])
L_SHAPE = Polygon([(0, 0), (24, 0), (24, 10), (11, 10), (11, 22), (0, 22)])


def house(
    index: int = 0,
    footprint: Polygon = SQUARE,
    roof: str = "flat",
    use: str = "apartments",
    floors: int = 4,
    party: tuple[int, ...] = (),
) -> Building:
    """A building; its edges face streets and yards by turns, but for party walls."""
    count = len(footprint.exterior.coords) - 1
    faces = tuple("party" if i in party else ("street", "street", "yard")[i % 3] for i in range(count))
    return Building(index, footprint, floors, 3.1, 3.9, roof, use, faces)


def hits(mesh: Mesh, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Distance along each ray (N, 3) to the mesh, (N,); inf where it misses."""
    scene = EmbreeScene()
    geometry = TriangleMesh(scene, mesh.vertices)
    found = scene.run(
        np.asarray(origins, np.float32), np.asarray(directions, np.float32), query="INTERSECT", output=1
    )
    del geometry
    return np.where(found["primID"] >= 0, found["tfar"], np.inf)


def inside(rng: np.random.Generator, footprint: Polygon, count: int) -> np.ndarray:
    """Random points at least 2 cm inside of a footprint, (N, 2)."""
    low_x, low_y, high_x, high_y = footprint.bounds
    points = rng.uniform((low_x, low_y), (high_x, high_y), (count, 2))
    area = footprint.buffer(-0.02)
    return points[contains_xy(area, points)]
