"""The plan of a city: streets, blocks, buildings and all that stands in them, as geometry in metres."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import shapely

from ..errors import InputError
from .planning.blocks import make_blocks
from .planning.crossings import make_crossings
from .planning.faces import classify_faces
from .planning.items import make_items
from .planning.parking import kerb_parking
from .planning.parts import Building, CityPlan, Crossing, Item, Street
from .planning.shapes import describe
from .planning.site import Block
from .planning.streets import make_network

__all__ = ["LEAST_EXTENT", "Building", "CityPlan", "Crossing", "Item", "Street", "make_plan"]

#: Smallest side of a city, metres.
LEAST_EXTENT = 120.0

# Second words of the seeds of what is drawn.
_STREETS, _BLOCKS, _BUILDINGS, _CROSSINGS, _PARKING, _ITEMS = range(11, 17)


def make_plan(
    extent: float, seed: int, crs: str = "EPSG:32635", origin: tuple[float, float] = (487000.0, 6470000.0)
) -> CityPlan:
    """Draw up a city; the same arguments give the same plan.

    Args:
        extent: side of its square around the scene frame's origin, metres, at least :data:`LEAST_EXTENT`.
        seed: of all that is random, not negative.
        crs: ``EPSG:…`` of a UTM zone.
        origin: easting and northing of the scene frame's origin.

    Raises:
        InputError: an argument is none of these.
    """
    _check(extent, seed, crs, origin)
    bounds = (-extent / 2, -extent / 2, extent / 2, extent / 2)
    network = make_network(bounds, np.random.default_rng([seed, _STREETS]))
    box = shapely.box(*bounds)
    roads = _areas([shapely.intersection(network.roads, box)])
    blocks = make_blocks(network.fronts, bounds, np.random.default_rng([seed, _BLOCKS]))
    grounds = shapely.union_all([block.ring for block in blocks])
    sidewalks = _areas([shapely.difference(shapely.difference(box, roads), grounds)])
    crossings, stop_lines = make_crossings(network, roads, np.random.default_rng([seed, _CROSSINGS]))
    buildings = _buildings(blocks, bounds, np.random.default_rng([seed, _BUILDINGS]))
    areas = [block.areas() for block in blocks]
    kerbs, halts = kerb_parking(network, roads, crossings, np.random.default_rng([seed, _PARKING]))
    plan = CityPlan(
        seed=int(seed),
        crs=crs,
        origin=(float(origin[0]), float(origin[1])),
        bounds=bounds,
        streets=[arc.street for arc in network.arcs],
        roads=roads,
        sidewalks=sidewalks,
        crossings=crossings,
        stop_lines=stop_lines,
        parks=_collect(areas, "parks"),
        lawns=_collect(areas, "lawns"),
        plazas=_collect(areas, "plazas"),
        waters=_collect(areas, "waters"),
        buildings=buildings,
        items=[],
        parking=np.concatenate([kerbs, *(np.array(block.parking).reshape(-1, 3) for block in blocks)]),
    )
    return replace(
        plan, items=make_items(plan, network, blocks, halts, np.random.default_rng([seed, _ITEMS]))
    )


def _check(extent: float, seed: int, crs: str, origin: tuple[float, float]) -> None:
    if not np.isfinite(extent) or extent < LEAST_EXTENT:
        raise InputError(f"A city of {extent} m: choose an extent of at least {LEAST_EXTENT:.0f} m.")
    if seed < 0:
        raise InputError(f"The seed is {seed}: choose a number that is not negative.")
    if not re.fullmatch(r"EPSG:32[67](0[1-9]|[1-5]\d|60)", crs):
        raise InputError(
            f"The CRS '{crs}' is no UTM zone of WGS84: choose one such as EPSG:32635 (zone 35 north)."
        )
    if not np.isfinite(origin).all():
        raise InputError(f"The origin {origin} is no easting and northing.")


def _buildings(
    blocks: list[Block], bounds: tuple[float, float, float, float], rng: np.random.Generator
) -> list[Building]:
    """Buildings of all blocks, with their faces."""
    buildings: list[Building] = []
    for block in blocks:
        for footprint, role in zip(block.footprints, block.roles, strict=True):
            buildings.append(describe(len(buildings), footprint, role, rng))
    faces = classify_faces(
        [building.footprint for building in buildings], [block.ring for block in blocks], bounds
    )
    return [replace(building, faces=face) for building, face in zip(buildings, faces, strict=True)]


def _collect(areas: list[dict[str, list[shapely.Polygon]]], name: str) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([polygon for area in areas for polygon in area[name]])


def _areas(geometries: npt.ArrayLike) -> shapely.MultiPolygon:
    """The polygons among geometries and their parts."""
    parts = shapely.get_parts(shapely.get_parts(np.asarray(geometries, dtype=object)))
    return shapely.MultiPolygon([*parts[(shapely.get_type_id(parts) == 3) & (shapely.area(parts) > 1e-6)]])
