"""All of a city that does not move, from its plan to its triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .houses.facades import buildings_mesh
from .mesh import Mesh
from .plan import CityPlan, make_plan
from .streets.furniture import items_mesh, lamp_positions
from .streets.ground import ground_mesh
from .streets.woods import woods_mesh
from .textures import TextureSet, make_textures


@dataclass
class City:
    """A city.

    Attributes:
        plan: what stands where.
        textures: pictures of its surfaces.
        mesh: triangles of all that does not move.
        lights: lamps that shine at night, (L, 3) metres in the scene frame.
    """

    plan: CityPlan
    textures: TextureSet
    mesh: Mesh
    lights: npt.NDArray[np.float64]


def make_city(
    extent: float, seed: int, crs: str = "EPSG:32635", origin: tuple[float, float] = (487000.0, 6470000.0)
) -> City:
    """Make a city; the same arguments make the same city.

    Args:
        extent: side of its square, metres.
        seed: of all that is random.
        crs: UTM zone.
        origin: easting and northing of its centre.

    Raises:
        InputError: the extent is too small, or the CRS no UTM zone.
    """
    plan = make_plan(extent, seed, crs, origin)
    textures = make_textures(seed)
    mesh = Mesh.concatenate(
        [
            ground_mesh(plan, textures, seed),
            buildings_mesh(plan, textures, seed),
            items_mesh(plan, textures, seed),
            woods_mesh(plan, textures, seed),
        ]
    )
    return City(plan, textures, mesh, lamp_positions(plan))
