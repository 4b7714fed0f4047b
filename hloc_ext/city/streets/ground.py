"""The ground: carriageways, sidewalks with kerbs, plazas, lawns, yards, water, and what lies flat on them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import shapely
import shapely.ops

from ..labels import Label
from ..mesh import Mesh, MeshBuilder
from ..plan import CityPlan, Street
from ..textures import TextureSet
from .decals import add_decals
from .flat import (
    GRASS_HEIGHT,
    SIDEWALK_HEIGHT,
    Outline,
    Surface,
    at_height,
    distance_to,
    nearby_union,
    outline,
    planar_uv,
    triangulate,
)
from .markings import add_markings

#: Object ids of the ground begin here.
FIRST_GROUND_ID = 400_000

_WATER_HEIGHT = 0.02
_SHEET_HEIGHT = -0.02
#: The sheet of grass beneath everything reaches so far beyond the bounds.
_BEYOND = 300.0
_KERB_WIDTH = 0.14
_GUTTER_WIDTH = 0.32
_GUTTER_HEIGHT = 0.0025


def ground_mesh(plan: CityPlan, textures: TextureSet, seed: int) -> Mesh:
    """The ground of a city, with road markings and traces of use.

    Roads and their markings are ``ROAD``, zebra crossings and the asphalt between their stripes ``CROSSING``,
    sidewalks and plazas ``SIDEWALK``, parks and lawns ``VEGETATION``, yards and what is beyond the bounds
    ``OTHER``.

    Args:
        plan: says what lies where.
        textures: pictures.
        seed: of materials, wear and decals.
    """
    rng = np.random.default_rng([seed, 51])
    surfaces = _Surfaces(plan, textures, rng).all()
    builder = MeshBuilder()
    _add_surfaces(builder, surfaces, textures)
    _add_sheet(builder, plan, textures, rng)
    _add_kerbs(builder, plan, textures, rng)
    _add_banks(builder, plan, textures, rng)
    add_markings(builder, plan, textures, np.random.default_rng([seed, 52]))
    add_decals(builder, plan, surfaces, textures, np.random.default_rng([seed, 53]))
    return builder.build()


class _Surfaces:
    """Cuts the areas of a plan into pieces of one material each."""

    def __init__(self, plan: CityPlan, textures: TextureSet, rng: np.random.Generator) -> None:
        self._plan, self._textures, self._rng = plan, textures, rng
        self._made: list[Surface] = []

    def all(self) -> list[Surface]:
        """Pieces that cover the bounds of the plan."""
        plan = self._plan
        self._roads()
        self._sidewalks()
        for area in shapely.get_parts(plan.plazas):
            self._add(area, SIDEWALK_HEIGHT, str(self._rng.choice(["paving", "cobble"])), Label.SIDEWALK)
        for area in (*shapely.get_parts(plan.parks), *shapely.get_parts(plan.lawns)):
            self._add(area, GRASS_HEIGHT, "grass", Label.VEGETATION, brightness=(0.85, 1.0))
        for area in shapely.get_parts(plan.waters):
            self._add(area, _WATER_HEIGHT, "water", Label.WATER)
        self._yards()
        return self._made

    def _add(
        self,
        area: shapely.Geometry,
        height: float,
        group: str,
        label: Label,
        heading: float | None = None,
        brightness: tuple[float, float] = (0.75, 1.0),
        texture: int | None = None,
    ) -> None:
        rng = self._rng
        tint = np.clip(255 * rng.uniform(*brightness) * rng.uniform(0.96, 1.0, 3), 0, 255).astype(int)
        self._made.append(
            Surface(
                area,
                height,
                int(rng.choice(self._textures.group(group))) if texture is None else texture,
                float(rng.uniform(0, 2 * np.pi)) if heading is None else heading,
                (int(tint[0]), int(tint[1]), int(tint[2])),
                label,
                FIRST_GROUND_ID + len(self._made),
            )
        )

    def _roads(self) -> None:
        """Asphalt, now and then cobbles, of stretches of streets and of junctions; crossings apart."""
        plan, rng = self._plan, self._rng
        pieces, streets = _stretches(plan.streets, rng, (40.0, 110.0))
        zones = shapely.buffer(pieces, [plan.streets[i].width / 2 + 0.4 for i in streets], cap_style="flat")
        paved = {i: "cobble" if rng.random() < 0.05 else "asphalt" for i in range(len(plan.streets))}
        allotted = _allot(plan.roads, zones)
        crossings = nearby_union(
            np.array([area for area, _ in allotted], dtype=object),
            np.array([crossing.area for crossing in plan.crossings], dtype=object),
        )
        for (area, zone), crossing in zip(allotted, crossings, strict=True):
            group = "asphalt" if zone < 0 else paved[int(streets[zone])]
            heading = None if zone < 0 else _heading(pieces[zone])
            texture = int(rng.choice(self._textures.group(group)))
            brightness = (level := float(rng.uniform(0.78, 1.0)), level)
            for part, label in (
                (shapely.difference(area, crossing), Label.ROAD),
                (shapely.intersection(area, crossing), Label.CROSSING),
            ):
                if part.area > 1e-4:
                    self._add(part, 0.0, group, label, heading, brightness, texture)

    def _sidewalks(self) -> None:
        """Paving of stretches of each side, of corners apart; some asphalt."""
        plan, rng = self._plan, self._rng
        pieces, streets = _stretches(plan.streets, rng, (25.0, 60.0))
        reach = np.array([plan.streets[i].width / 2 + plan.streets[i].sidewalk + 0.4 for i in streets])
        zones = np.concatenate(
            [shapely.buffer(pieces, side * reach, single_sided=True) for side in (1.0, -1.0)]
        )
        for area, zone in _allot(plan.sidewalks, zones):
            group = str(rng.choice(["paving", "asphalt", "cobble"], p=[0.84, 0.1, 0.06]))
            heading = None if zone < 0 else _heading(pieces[zone % len(pieces)])
            self._add(area, SIDEWALK_HEIGHT, group, Label.SIDEWALK, heading)

    def _yards(self) -> None:
        """Grass, soil and paving in irregular cells where nothing else is."""
        plan, rng = self._plan, self._rng
        covered = [plan.roads, plan.sidewalks, plan.parks, plan.lawns, plan.plazas, plan.waters]
        yards = shapely.difference(shapely.box(*plan.bounds), shapely.union_all(covered))
        parts = shapely.get_parts(yards)
        min_x, min_y, max_x, max_y = plan.bounds
        count = max(8, int((max_x - min_x) * (max_y - min_y) / 220))
        points = rng.uniform((min_x, min_y), (max_x, max_y), (count, 2))
        cells = shapely.get_parts(shapely.voronoi_polygons(shapely.MultiPoint(points), extend_to=yards))
        cell, part = shapely.STRtree(parts).query(cells, predicate="intersects")
        pieces = shapely.intersection(cells[cell], parts[part])
        groups = rng.choice(
            ["grass", "soil", "paving", "cobble", "asphalt"], len(cells), p=[0.4, 0.2, 0.2, 0.05, 0.15]
        )
        for i, area in zip(cell, pieces, strict=True):
            if shapely.area(area) > 1e-4:
                self._add(area, GRASS_HEIGHT, str(groups[i]), Label.OTHER)


def _stretches(
    streets: Sequence[Street], rng: np.random.Generator, length: tuple[float, float]
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Pieces of the centrelines, of random length, and the index of the street of each."""
    pieces, owners = [], []
    for index, street in enumerate(streets):
        line = shapely.LineString(street.centreline)
        count = max(1, round(line.length / rng.uniform(*length)))
        cuts = np.concatenate([[0], (np.arange(1, count) + rng.uniform(-0.3, 0.3, count - 1)) / count, [1]])
        for start, end in pairwise(cuts):
            pieces.append(shapely.ops.substring(line, start, end, normalized=True))
            owners.append(index)
    return np.array(pieces, dtype=object), np.array(owners)


def _heading(line: shapely.LineString) -> float:
    """Direction from the first to the last point, radians."""
    dx, dy = np.subtract(line.coords[-1], line.coords[0])
    return float(np.arctan2(dy, dx))


def _allot(area: shapely.Geometry, zones: npt.NDArray[np.object_]) -> list[tuple[shapely.Geometry, int]]:
    """Cut an area by zones: (piece, index of its zone), and −1 for what is in none or in several."""
    # One-sided buffers of bent lines cross themselves now and then.
    zones = shapely.make_valid(zones)
    own = shapely.make_valid(shapely.difference(zones, nearby_union(zones, zones, skip_own=True)))
    whole = shapely.get_parts(shapely.make_valid(area))
    part, zone = shapely.STRtree(own).query(whole, predicate="intersects")
    cut = shapely.intersection(whole[part], own[zone])
    pieces = [(piece, int(z)) for piece, z in zip(cut, zone, strict=True) if shapely.area(piece) > 1e-4]
    rest = shapely.difference(area, shapely.union_all([piece for piece, _ in pieces]))
    pieces += [(piece, -1) for piece in shapely.get_parts(rest) if shapely.area(piece) > 1e-4]
    return pieces


def _add_surfaces(builder: MeshBuilder, surfaces: Sequence[Surface], textures: TextureSet) -> None:
    corners, owner = triangulate([surface.area for surface in surfaces])
    heights = np.array([surface.height for surface in surfaces])[owner]
    vertices = np.concatenate([corners, np.broadcast_to(heights[:, None, None], (*corners.shape[:2], 1))], 2)
    texture = np.array([surface.texture for surface in surfaces])[owner]
    heading = np.array([surface.heading for surface in surfaces])[owner]
    builder.add_triangles(
        vertices,
        planar_uv(corners, heading, textures.sizes(texture)),
        texture,
        np.array([surface.label for surface in surfaces])[owner],
        np.array([surface.object_id for surface in surfaces])[owner],
        np.array([surface.tint for surface in surfaces])[owner],
    )


def _add_sheet(builder: MeshBuilder, plan: CityPlan, textures: TextureSet, rng: np.random.Generator) -> None:
    """Grass beneath everything, far beyond the bounds, so that every ray downwards meets something."""
    min_x, min_y, max_x, max_y = plan.bounds
    x0, y0, x1, y1 = min_x - _BEYOND, min_y - _BEYOND, max_x + _BEYOND, max_y + _BEYOND
    corners = np.array([[(x0, y1), (x1, y1), (x1, y0), (x0, y0)]])
    texture = int(rng.choice(textures.group("grass")))
    builder.add_quads(
        np.concatenate([corners, np.full((1, 4, 1), _SHEET_HEIGHT)], axis=2),
        planar_uv(corners, np.zeros(1), textures.sizes([texture])),
        texture,
        Label.OTHER,
        FIRST_GROUND_ID,
    )


def _add_walls(
    builder: MeshBuilder,
    textures: TextureSet,
    edges: Outline,
    heights: tuple[npt.NDArray[np.float64], float],
    texture: int,
    tint: npt.ArrayLike,
    object_id: int,
) -> None:
    """Upright faces along an outline, from a height (S,) down to another."""
    high, low = heights
    corners = np.stack([edges.end, edges.start, edges.start, edges.end], axis=1)
    z = np.stack([high, high, np.full(len(high), low), np.full(len(high), low)], axis=1)
    u = np.stack([edges.along_end, edges.along_start, edges.along_start, edges.along_end], axis=1)
    builder.add_quads(
        np.concatenate([corners, z[..., None]], axis=2),
        np.stack([u, high[:, None] - z], axis=2) / textures.size(texture),
        texture,
        Label.SIDEWALK,
        object_id,
        tint,
    )


def _add_kerbs(builder: MeshBuilder, plan: CityPlan, textures: TextureSet, rng: np.random.Generator) -> None:
    """Kerb stones where sidewalks meet roads, gutters, and upright borders of all that is raised."""
    texture = int(rng.choice(textures.group("kerb")))
    raised = shapely.difference(shapely.box(*plan.bounds), shapely.union_all([plan.roads, plan.waters]))
    edges = outline(raised)
    walked = shapely.union_all([plan.sidewalks, plan.plazas])
    by_road = distance_to(plan.roads, edges.middle) < 0.02
    by_walk = distance_to(walked, edges.middle) < 0.02
    tint = rng.uniform(190, 255, (len(edges.start), 1)) * np.ones(3)
    high = np.where(by_walk, SIDEWALK_HEIGHT, GRASS_HEIGHT)
    _add_walls(builder, textures, edges, (high, _SHEET_HEIGHT), texture, tint, FIRST_GROUND_ID - 1)
    inner = outline(walked)
    inner = inner[distance_to(plan.roads, inner.middle) > 0.02]
    high = np.full(len(inner.start), SIDEWALK_HEIGHT)
    _add_walls(builder, textures, inner, (high, GRASS_HEIGHT - 0.03), texture, 215, FIRST_GROUND_ID - 1)
    kerbs, tint = edges[by_road & by_walk], tint[by_road & by_walk]
    gutter = int(rng.choice(textures.group("asphalt")))
    for near, far, height, picture, label, shade in (
        (0.0, _KERB_WIDTH, SIDEWALK_HEIGHT + 0.002, texture, Label.SIDEWALK, tint),
        (-_GUTTER_WIDTH, 0.0, _GUTTER_HEIGHT, gutter, Label.ROAD, tint * 0.62),
    ):
        across = np.array([far, far, near, near])
        uv = np.stack([kerbs.along(), np.broadcast_to(far - across, kerbs.along().shape)], axis=2)
        builder.add_quads(
            at_height(kerbs.band(near, far), height),
            uv / textures.size(picture),
            picture,
            label,
            FIRST_GROUND_ID - 1,
            shade,
        )


def _add_banks(builder: MeshBuilder, plan: CityPlan, textures: TextureSet, rng: np.random.Generator) -> None:
    """Sloping shores of soil or stone around the waters, inside their outline."""
    edges = outline(plan.waters)
    texture = int(rng.choice(textures.group(str(rng.choice(["soil", "stone", "cobble"])))))
    corners = at_height(edges.band(0.0, 0.9), 0.0)
    corners[:, 2:, 2] = GRASS_HEIGHT + 0.01
    across = np.broadcast_to(np.array([0.9, 0.9, 0.0, 0.0]), edges.along().shape)
    uv = np.stack([edges.along(), across], axis=2) / textures.size(texture)
    builder.add_quads(corners, uv, texture, Label.WATER, FIRST_GROUND_ID - 2, 170)
