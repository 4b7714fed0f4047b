"""Traces of use on the ground: repairs, cracks, stains, covers, drains, tree pits, leaves; no two alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely

from ..labels import Label
from ..mesh import FIT, MeshBuilder
from ..plan import CityPlan
from ..textures import TextureSet
from .flat import (
    Floats,
    Paint,
    Surface,
    add_blotches,
    add_quads,
    add_rectangles,
    blotch_outlines,
    distance_to,
    outline,
    triangulate,
)

#: Square metres of road for each decal.
_ROAD_PER_DECAL = 4.0
_SIDEWALK_PER_DECAL = 4.0
_GRASS_PER_DECAL = 25.0
#: Larger areas than this, square metres, get fewer decals on each, lest a large city have too many.
_LARGE_AREA = 15_000.0
#: Object ids of decals begin here.
_FIRST_DECAL_ID = 600_000


def add_decals(
    builder: MeshBuilder,
    plan: CityPlan,
    surfaces: Sequence[Surface],
    textures: TextureSet,
    rng: np.random.Generator,
) -> None:
    """Add what lies on the surfaces; it has their class, and lies 2 to 10 mm above them."""
    roads = _Scatter(builder, [s for s in surfaces if s.label == Label.ROAD], textures, rng)
    roads.avoid = shapely.union_all([crossing.area for crossing in plan.crossings])
    _wear_roads(roads)
    walks = _Scatter(builder, [s for s in surfaces if s.label == Label.SIDEWALK], textures, rng)
    walks.border = shapely.union_all([plan.sidewalks, plan.plazas])
    _wear_sidewalks(walks)
    greens = _Scatter(
        builder, [s for s in surfaces if s.label in (Label.VEGETATION, Label.OTHER)], textures, rng
    )
    _wear_grass(greens)
    _add_drains(builder, plan, textures, rng)
    _add_tree_pits(builder, plan, textures, rng)
    _add_leaves(builder, plan, textures, rng)


class _Scatter:
    """Places decals at random on surfaces.

    Attributes:
        avoid: decals keep off this area.
        border: decals do not reach across the outline of this area.
        area: of all surfaces, square metres.
    """

    def __init__(
        self,
        builder: MeshBuilder,
        surfaces: Sequence[Surface],
        textures: TextureSet,
        rng: np.random.Generator,
    ) -> None:
        self.builder, self.surfaces, self.textures, self.rng = builder, surfaces, textures, rng
        self._corners, self._owner = triangulate([surface.area for surface in surfaces])
        first, second = (self._corners[:, i] - self._corners[:, 0] for i in (1, 2))
        self._areas = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
        self.area = float(self._areas.sum())
        self.avoid: shapely.Geometry | None = None
        self.border: shapely.Geometry | None = None
        self._placed = _FIRST_DECAL_ID

    def count(self, per_decal: float) -> float:
        """How many decals all surfaces get, with one for so many square metres."""
        return self.area / per_decal * min(1.0, (_LARGE_AREA / max(self.area, 1.0)) ** 0.4)

    def points(self, count: int, radius: tuple[float, float]) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
        """At most `count` random points (N, 2), radii around them (N,), and the surface below each (N,)."""
        rng = self.rng
        if self.area <= 0 or count <= 0:
            return np.empty((0, 2)), np.empty(0), np.empty(0, np.intp)
        chosen = rng.choice(len(self._areas), count, p=self._areas / self._areas.sum())
        a, b = rng.random((2, count, 1))
        a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
        corners = self._corners[chosen]
        points = corners[:, 0] + a * (corners[:, 1] - corners[:, 0]) + b * (corners[:, 2] - corners[:, 0])
        radii = np.exp(rng.uniform(np.log(radius[0]), np.log(radius[1]), count))
        if self.border is not None:
            # Outlines reach up to half as far again as their radius.
            radii = np.minimum(radii, (distance_to(self.border, points) - 0.15) / 1.5)
        kept = radii >= radius[0] * 0.7
        if self.avoid is not None:
            inside = shapely.contains_xy(self.avoid, points[:, 0], points[:, 1])
            kept &= ~inside & (distance_to(self.avoid, points) > radii)
        return points[kept], radii[kept], self._owner[chosen[kept]]

    def paint(
        self,
        owner: npt.NDArray[np.intp],
        heights: tuple[float, float],
        texture: npt.ArrayLike | None = None,
        tint: npt.ArrayLike = 255,
        own: bool = True,
    ) -> Paint:
        """Paint on surfaces `owner` (N,): `texture`, or the picture below; `own`: weathered by itself."""
        below = [self.surfaces[i] for i in owner]
        count = len(below)
        base = np.array([surface.height for surface in below])
        if texture is None:
            texture = np.array([surface.texture for surface in below], dtype=int)
            tint = np.asarray(tint) / 255 * np.array([surface.tint for surface in below]).reshape(-1, 3)
        ids = np.arange(count) + self._placed if own else np.array([surface.object_id for surface in below])
        self._placed += count
        labels = np.array([surface.label for surface in below], dtype=int)
        return Paint(texture, base + self.rng.uniform(*heights, count), labels, ids, np.asarray(tint))

    def headings(self, owner: npt.NDArray[np.intp]) -> Floats:
        """Headings of surfaces, (N,)."""
        return np.array([self.surfaces[i].heading for i in owner], dtype=float)

    def pick(self, group: str, count: int) -> npt.NDArray[np.int64]:
        """Random pictures of a group, (N,)."""
        return self.rng.choice(self.textures.group(group), count)

    def blotches(
        self,
        count: int,
        radius: tuple[float, float],
        heights: tuple[float, float],
        group: str | None,
        brightness: tuple[float, float],
        corners: int = 8,
        color: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        """Irregular patches of another picture, or darker ones of the picture below (`group` None)."""
        centers, radii, owner = self.points(count, radius)
        count = len(centers)
        tint = np.clip(255 * self.rng.uniform(*brightness, (count, 1)) * np.array(color), 0, 255)
        texture = None if group is None else self.pick(group, count)
        paint = self.paint(owner, heights, texture, tint, own=group is not None)
        heading = self.headings(owner) if group is None else self.rng.uniform(0, 6.3, count)
        shapes = blotch_outlines(self.rng, centers, radii, corners)
        add_blotches(self.builder, self.textures, shapes, heading, paint)

    def covers(self, count: int, radius: tuple[float, float], heights: tuple[float, float]) -> None:
        """Round covers of cast iron in a collar of fresh asphalt."""
        centers, radii, owner = self.points(count, radius)
        count = len(centers)
        collar = self.paint(
            owner, (heights[0] - 0.0008, heights[0]), None, self.rng.uniform(110, 235, (count, 1))
        )
        shapes = blotch_outlines(self.rng, centers, radii * 1.35, 10, 0.08, 0.05)
        add_blotches(self.builder, self.textures, shapes, self.rng.uniform(0, 6.3, count), collar)
        heading = self.rng.uniform(0, 2 * np.pi, count)
        tint = self.rng.uniform(150, 255, (count, 1)) * np.ones(3)
        paint = self.paint(owner, heights, self.pick("manhole", count), tint)
        _add_octagons(self.builder, centers, radii, heading, paint)

    def slabs(
        self,
        count: int,
        size: tuple[float, float],
        heights: tuple[float, float],
        groups: Sequence[str],
        brightness: tuple[float, float],
    ) -> None:
        """Rectangles of another material, parallel to the street or across it: trenches, repaired slabs."""
        centers, radii, owner = self.points(count, size)
        count = len(centers)
        heading = (
            self.headings(owner) + self.rng.choice([0, np.pi / 2], count) + self.rng.normal(0, 0.02, count)
        )
        share = self.rng.uniform(0.35, 1.3, count)
        width = 2 * radii / np.sqrt(1 + share**2)
        group = self.rng.integers(0, len(groups), count)
        pictures = np.stack([self.pick(name, count) for name in groups])
        tint = 255 * self.rng.uniform(*brightness, (count, 1)) * np.ones(3)
        paint = self.paint(owner, heights, pictures[group, np.arange(count)], tint)
        add_rectangles(self.builder, self.textures, centers, heading, width * share, width, paint)

    def cracks(self, count: int, step: float, heights: tuple[float, float], group: str) -> None:
        """Wandering cracks filled with bitumen, of sixteen pieces each."""
        centers, _, owner = self.points(count, (1.0, 1.0))
        count, pieces = len(centers), 16
        turns = self.rng.normal(0, 0.35, (count, pieces))
        start = self.headings(owner) + self.rng.choice([0, np.pi / 2, np.pi], count)
        heading = start[:, None] + self.rng.normal(0, 0.4, (count, 1)) + np.cumsum(turns, axis=1)
        steps = step * self.rng.uniform(0.4, 1.0, (count, pieces, 1))
        moves = steps * np.stack([np.cos(heading), np.sin(heading)], axis=2)
        path = centers[:, None] + np.concatenate([np.zeros((count, 1, 2)), np.cumsum(moves, axis=1)], axis=1)
        normal = np.gradient(path, axis=1) if count else np.zeros_like(path)
        normal = np.stack([-normal[..., 1], normal[..., 0]], axis=2)
        normal /= np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-9)
        reach = normal * self.rng.uniform(0.003, 0.014, (count, pieces + 1, 1))
        left, right = path + reach, path - reach
        quads = np.stack([left[:, :-1], left[:, 1:], right[:, 1:], right[:, :-1]], axis=2).reshape(-1, 4, 2)
        crack = np.repeat(np.arange(count), pieces)
        kept = self._within_border(quads)
        quads, crack, heading = quads[kept], crack[kept], heading.ravel()[kept]
        tint = self.rng.uniform(150, 255, (count, 1))[crack] * np.ones(3)
        paint = self.paint(owner[crack], heights, self.pick(group, count)[crack], tint, own=False)
        add_quads(self.builder, self.textures, quads, heading, paint)

    def _within_border(self, quads: Floats) -> npt.NDArray[np.bool_]:
        """Which quads (N, 4, 2) lie in the area that decals do not leave, (N,)."""
        if self.border is None:
            return np.ones(len(quads), bool)
        inside = shapely.contains_xy(self.border, quads[..., 0], quads[..., 1]).all(axis=1)
        return inside & (distance_to(self.border, quads.mean(axis=1)) > 0.17)


def _add_octagons(
    builder: MeshBuilder, centers: Floats, radii: Floats, headings: Floats, paint: Paint
) -> None:
    """Add discs of twelve corners that show their picture once."""
    angle = np.arange(12) * 2 * np.pi / 12
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    turned = headings[:, None] + angle
    rim = centers[:, None] + radii[:, None, None] * np.stack([np.cos(turned), np.sin(turned)], axis=2)
    heights = np.broadcast_to(np.asarray(paint.height)[:, None, None], (*rim.shape[:2], 1))
    rim = np.concatenate([rim, heights], axis=2)
    fan = [[0, i, i + 1] for i in range(1, 11)]
    count = len(fan)
    builder.add_triangles(
        rim[:, fan].reshape(-1, 3, 3),
        np.tile(0.5 + 0.49 * unit[fan] * (1, -1), (len(centers), 1, 1)),
        np.repeat(np.asarray(paint.texture), count),
        np.repeat(np.asarray(paint.label), count),
        np.repeat(np.asarray(paint.object_id), count),
        np.repeat(np.asarray(paint.tint), count, axis=0),
    )


def _wear_roads(roads: _Scatter) -> None:
    """Stains, repairs, trenches, cracks and covers."""
    count = roads.count(_ROAD_PER_DECAL)
    roads.blotches(round(0.22 * count), (0.4, 2.2), (0.0026, 0.0032), None, (0.72, 0.93))
    roads.blotches(round(0.10 * count), (0.3, 1.2), (0.0026, 0.0032), None, (1.05, 1.25))
    roads.slabs(round(0.10 * count), (0.6, 3.0), (0.0033, 0.0040), ["patch", "asphalt"], (0.5, 0.95))
    roads.blotches(round(0.08 * count), (0.3, 1.4), (0.0033, 0.0040), "patch", (0.55, 0.95))
    roads.cracks(round(0.16 * count), 0.4, (0.0041, 0.0044), "rubber")
    roads.blotches(round(0.18 * count), (0.06, 0.35), (0.0045, 0.0049), None, (0.55, 0.88), 9)
    roads.blotches(round(0.12 * count), (0.02, 0.06), (0.0069, 0.0074), "concrete", (0.5, 1.0), 5)
    roads.covers(round(0.04 * count), (0.28, 0.36), (0.0074, 0.0079))


def _wear_sidewalks(walks: _Scatter) -> None:
    """Exchanged slabs, covers, stains, gum."""
    count = walks.count(_SIDEWALK_PER_DECAL)
    walks.blotches(round(0.22 * count), (0.3, 1.0), (0.0026, 0.0032), None, (0.72, 0.94))
    walks.slabs(
        round(0.14 * count),
        (0.35, 1.3),
        (0.0033, 0.0042),
        ["paving", "asphalt", "concrete", "cobble"],
        (0.55, 1.0),
    )
    walks.cracks(round(0.08 * count), 0.3, (0.0043, 0.0046), "rubber")
    walks.blotches(round(0.14 * count), (0.08, 0.3), (0.0047, 0.0052), None, (0.6, 0.9), 9)
    walks.blotches(round(0.30 * count), (0.02, 0.05), (0.0053, 0.0060), None, (0.35, 0.7), 6)
    walks.covers(round(0.03 * count), (0.24, 0.34), (0.0062, 0.0068))
    walks.slabs(round(0.03 * count), (0.15, 0.3), (0.0069, 0.0075), ["metal"], (0.35, 0.7))


def _wear_grass(greens: _Scatter) -> None:
    """Worn places, tufts and stones."""
    count = greens.count(_GRASS_PER_DECAL)
    greens.blotches(round(0.35 * count), (0.3, 1.3), (0.0026, 0.0034), "soil", (0.6, 1.0))
    greens.blotches(round(0.50 * count), (0.2, 1.2), (0.0036, 0.0046), "grass", (0.65, 1.0))
    greens.blotches(round(0.25 * count), (0.04, 0.15), (0.005, 0.02), "stone", (0.6, 1.0), 5)


def _add_drains(builder: MeshBuilder, plan: CityPlan, textures: TextureSet, rng: np.random.Generator) -> None:
    """Grids of iron in the gutters, every 15 to 30 metres."""
    edges = outline(plan.roads)
    edges = edges[distance_to(plan.sidewalks, edges.middle) < 0.02]
    length = edges.along_end - edges.along_start
    if len(length) == 0:
        return
    count = max(1, int(length.sum() / 22))
    places = (np.arange(count) + rng.uniform(0.2, 0.8, count)) * length.sum() / count
    total = np.cumsum(length)
    segment = np.minimum(np.searchsorted(total, places), len(length) - 1)
    share = ((places - (total - length)[segment]) / length[segment])[:, None]
    along = (edges.end - edges.start)[segment]
    points = edges.start[segment] + share * along + 0.28 * edges.inward_start[segment]
    paint = Paint(
        rng.choice(textures.group("manhole"), count),
        rng.uniform(0.0074, 0.0079, count),
        Label.ROAD,
        np.arange(count) + _FIRST_DECAL_ID - 50_000,
        rng.uniform(120, 220, (count, 1)) * np.ones(3),
    )
    heading = np.arctan2(along[:, 1], along[:, 0])
    add_rectangles(builder, textures, points, heading, 0.5, 0.38, paint, FIT * 0.6 + 0.2)


def _add_tree_pits(
    builder: MeshBuilder, plan: CityPlan, textures: TextureSet, rng: np.random.Generator
) -> None:
    """Squares of soil in a frame of stones around the trees that stand on sidewalks and plazas."""
    trees = np.array([(i.x, i.y, i.heading) for i in plan.items if i.kind == "tree"]).reshape(-1, 3)
    paved = shapely.union_all([plan.sidewalks, plan.plazas])
    trees = trees[shapely.contains_xy(paved, trees[:, 0], trees[:, 1])]
    half = np.minimum(rng.uniform(0.5, 0.85, len(trees)), distance_to(paved, trees[:, :2]) - 0.2)
    trees, half = trees[half > 0.25], half[half > 0.25]
    soil, kerb = (int(rng.choice(textures.group(group))) for group in ("soil", "kerb"))
    side = half * np.sqrt(2)
    for size, texture, height in ((side, kerb, 0.1285), (side - 0.16, soil, 0.1292)):
        tint = rng.uniform(150, 255, (len(trees), 1)) * np.ones(3)
        paint = Paint(texture, height, Label.SIDEWALK, np.arange(len(trees)) + _FIRST_DECAL_ID - 90_000, tint)
        add_rectangles(builder, textures, trees[:, :2], trees[:, 2], size, size, paint)


def _add_leaves(builder: MeshBuilder, plan: CityPlan, textures: TextureSet, rng: np.random.Generator) -> None:
    """Fallen leaves and bits of paper around trees."""
    trees = np.array([(i.x, i.y, i.size) for i in plan.items if i.kind == "tree"]).reshape(-1, 3)
    trees = np.repeat(trees, 14, axis=0)
    angle, reach = rng.uniform(0, 2 * np.pi, len(trees)), rng.uniform(0.1, 0.5, len(trees)) * trees[:, 2]
    points = trees[:, :2] + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    in_road = shapely.contains_xy(plan.roads, points[:, 0], points[:, 1])
    in_walk = shapely.contains_xy(plan.sidewalks, points[:, 0], points[:, 1])
    off_border = distance_to(plan.sidewalks, points) > 0.1
    kept = (in_road | in_walk) & off_border
    points, in_road = points[kept], in_road[kept]
    colors = np.array([(190, 150, 60), (150, 95, 45), (120, 130, 60), (90, 65, 40)])
    paint = Paint(
        rng.choice(textures.group("leaves"), len(points)),
        np.where(in_road, 0.0, 0.12) + rng.uniform(0.0095, 0.016, len(points)),
        np.where(in_road, Label.ROAD, Label.SIDEWALK),
        _FIRST_DECAL_ID - 1,
        colors[rng.integers(0, len(colors), len(points))] * rng.uniform(0.7, 1.2, (len(points), 1)),
    )
    shapes = blotch_outlines(rng, points, rng.uniform(0.03, 0.075, len(points)), 4)
    add_blotches(builder, textures, shapes, rng.uniform(0, 6.3, len(points)), paint)
