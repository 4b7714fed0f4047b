"""Flat things on the ground: triangulated areas, their outlines, strips and irregular blotches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import shapely

from ..labels import Label
from ..mesh import MeshBuilder
from ..textures import TextureSet

Floats = npt.NDArray[np.float64]

#: Height of sidewalks and plazas above the roads, metres.
SIDEWALK_HEIGHT = 0.12
#: Height of grass and soil.
GRASS_HEIGHT = 0.10


def triangulate(areas: Sequence[shapely.Geometry]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Triangles (T, 3, 2) that fill polygons (with holes) or collections of them, and whose each is (T,)."""
    polygons, owner = shapely.get_parts(np.array([*areas], dtype=object), return_index=True)
    kept = (shapely.get_dimensions(polygons) == 2) & (shapely.area(polygons) > 0)
    pieces, polygon = shapely.get_parts(
        shapely.constrained_delaunay_triangles(polygons[kept]), return_index=True
    )
    corners = shapely.get_coordinates(pieces).reshape(-1, 4, 2)[:, :3]
    return corners, owner[kept][polygon]


def nearby_union(
    areas: npt.NDArray[np.object_], others: npt.NDArray[np.object_], skip_own: bool = False
) -> npt.NDArray[np.object_]:
    """For each area the union of the others that it meets, (N,); `skip_own`: but for its own index."""
    index, other = shapely.STRtree(others).query(areas, predicate="intersects")
    if skip_own:
        index, other = index[index != other], other[index != other]
    order = np.lexsort((other, index))
    index, other = index[order], other[order]
    starts = np.searchsorted(index, np.arange(len(areas) + 1))
    unions = [shapely.union_all(others[other[a:b]]) for a, b in pairwise(starts)]
    return np.array(unions, dtype=object)


def planar_uv(corners: Floats, heading: npt.ArrayLike, sizes: Floats) -> Floats:
    """Texture coordinates of corners (N, K, 2): u along `heading` (N,); pictures of `sizes` (N, 2)."""
    heading = np.asarray(heading, np.float64)[:, None]
    x, y = corners[..., 0], corners[..., 1]
    u = x * np.cos(heading) + y * np.sin(heading)
    v = x * np.sin(heading) - y * np.cos(heading)
    return np.stack([u, v], axis=-1) / sizes[:, None]


@dataclass(frozen=True)
class Outline:
    """Segments of the rings of an area; the area is on their left.

    Attributes:
        start, end: (S, 2).
        inward_start, inward_end: (S, 2), how far a line 1 m inside the area is from `start` and `end`.
        along_start, along_end: (S,), length of the ring up to there.
    """

    start: Floats
    end: Floats
    inward_start: Floats
    inward_end: Floats
    along_start: Floats
    along_end: Floats

    @property
    def middle(self) -> Floats:
        """Middle of each segment, (S, 2)."""
        return (self.start + self.end) / 2

    def __getitem__(self, chosen: npt.NDArray[np.bool_]) -> Outline:
        return Outline(*(value[chosen] for value in vars(self).values()))

    def band(self, near: float, far: float) -> Floats:
        """Strip between two distances to the outline (inside: positive), (S, 4, 2); the farther one first."""
        return np.stack(
            [
                self.start + far * self.inward_start,
                self.end + far * self.inward_end,
                self.end + near * self.inward_end,
                self.start + near * self.inward_start,
            ],
            axis=1,
        )

    def along(self) -> Floats:
        """Length of the ring at the four corners of :meth:`band`, (S, 4)."""
        return np.stack([self.along_start, self.along_end, self.along_end, self.along_start], axis=1)


def outline(area: shapely.Geometry) -> Outline:
    """Outline of a polygon, or of several."""
    parts = shapely.get_parts(area)
    parts = parts[shapely.get_dimensions(parts) == 2]
    rings = shapely.get_rings(shapely.orient_polygons(parts))
    points, ring = shapely.get_coordinates(shapely.remove_repeated_points(rings, 1e-4), return_index=True)
    if len(points) == 0:
        empty = np.empty((0, 2))
        return Outline(empty, empty, empty, empty, empty[:, 0], empty[:, 0])
    same = ring[1:] == ring[:-1]
    start, end, owner = points[:-1][same], points[1:][same], ring[:-1][same]
    length = np.linalg.norm(end - start, axis=1)
    left = np.stack([start[:, 1] - end[:, 1], end[:, 0] - start[:, 0]], axis=1) / length[:, None]
    first = np.concatenate([[True], owner[1:] != owner[:-1]])
    firsts = np.flatnonzero(first)
    lasts = np.concatenate([firsts[1:], [len(owner)]]) - 1
    before = np.arange(len(owner)) - 1
    before[firsts] = lasts
    after = np.arange(len(owner)) + 1
    after[lasts] = firsts
    total = np.cumsum(length)
    begin = total - length
    begin -= np.repeat(begin[firsts], lasts - firsts + 1)
    return Outline(start, end, _miter(left, left[before]), _miter(left, left[after]), begin, begin + length)


def _miter(first: Floats, second: Floats) -> Floats:
    """Offset of a corner between two sides with these unit normals; not longer than 2."""
    cosine = (first * second).sum(axis=1, keepdims=True)
    return (first + second) / np.maximum(1 + cosine, 0.5)


def distance_to(area: shapely.Geometry, points: Floats) -> Floats:
    """Distance of points (N, 2) to the outline of an area, (N,)."""
    edges = outline(area)
    if len(edges.start) == 0 or len(points) == 0:
        return np.full(len(points), np.inf)
    tree = shapely.STRtree(shapely.linestrings(np.stack([edges.start, edges.end], axis=1)))
    (query, _), distance = tree.query_nearest(shapely.points(points), all_matches=False, return_distance=True)
    result = np.empty(len(points))
    result[query] = distance
    return result


def at_height(corners: Floats, height: npt.ArrayLike) -> Floats:
    """Corners (N, K, 2) with a height, one or (N,): (N, K, 3)."""
    height = np.broadcast_to(np.asarray(height, np.float64), (len(corners),))
    z = np.broadcast_to(height[:, None, None], (*corners.shape[:2], 1))
    return np.concatenate([corners, z], axis=2)


@dataclass(frozen=True)
class Surface:
    """A flat piece of ground of one material.

    Attributes:
        area: polygon or polygons.
        height: metres.
        texture: picture.
        heading: direction of the picture's u axis, radians.
        tint: as in a mesh.
        label: class.
        object_id: of its triangles.
    """

    area: shapely.Geometry
    height: float
    texture: int
    heading: float
    tint: tuple[int, int, int]
    label: Label
    object_id: int


@dataclass(frozen=True)
class Paint:
    """What flat things look like; every value is one for all or an array of one for each.

    Attributes:
        texture: pictures.
        height: metres.
        label: class.
        object_id: of the triangles.
        tint: as in a mesh.
    """

    texture: npt.ArrayLike
    height: npt.ArrayLike
    label: npt.ArrayLike = Label.ROAD
    object_id: npt.ArrayLike = 0
    tint: npt.ArrayLike = 255


def add_rectangles(
    builder: MeshBuilder,
    textures: TextureSet,
    centers: Floats,
    headings: npt.ArrayLike,
    lengths: npt.ArrayLike,
    widths: npt.ArrayLike,
    paint: Paint,
    uv: npt.ArrayLike | None = None,
) -> None:
    """Add rectangles around `centers` (N, 2), `lengths` along `headings`; no `uv`: metric ones along them."""
    count = len(centers)
    if count == 0:
        return
    headings = np.broadcast_to(np.asarray(headings, np.float64), (count,))
    half_length = np.broadcast_to(np.asarray(lengths, np.float64) / 2, (count,))
    half_width = np.broadcast_to(np.asarray(widths, np.float64) / 2, (count,))
    along = np.stack([np.cos(headings), np.sin(headings)], axis=1) * half_length[:, None]
    left = np.stack([-np.sin(headings), np.cos(headings)], axis=1) * half_width[:, None]
    corners = centers[:, None] + np.stack([left - along, left + along, along - left, -left - along], axis=1)
    add_quads(builder, textures, corners, headings, paint, uv)


def add_quads(
    builder: MeshBuilder,
    textures: TextureSet,
    corners: Floats,
    headings: npt.ArrayLike,
    paint: Paint,
    uv: npt.ArrayLike | None = None,
) -> None:
    """Add flat quads (N, 4, 2); without `uv` their pictures run along `headings` (N,)."""
    if len(corners) == 0:
        return
    texture = np.broadcast_to(np.asarray(paint.texture), (len(corners),))
    builder.add_quads(
        at_height(corners, paint.height),
        planar_uv(corners, headings, textures.sizes(texture)) if uv is None else uv,
        texture,
        paint.label,
        paint.object_id,
        paint.tint,
    )


def add_blotches(
    builder: MeshBuilder,
    textures: TextureSet,
    outlines: Floats,
    headings: Floats,
    paint: Paint,
) -> None:
    """Add polygons that are star-shaped around their middle, outlines (N, K, 2), K the same for all."""
    count, corners = outlines.shape[:2]
    if count == 0:
        return
    middle = np.broadcast_to(outlines.mean(axis=1)[:, None], outlines.shape)
    fans = np.stack([middle, outlines, np.roll(outlines, -1, axis=1)], axis=2).reshape(-1, 3, 2)

    def each(value: npt.ArrayLike, dimensions: int = 1) -> npt.NDArray[np.generic]:
        value = np.asarray(value)
        return np.repeat(value, corners, axis=0) if value.ndim == dimensions else value

    texture = np.broadcast_to(each(paint.texture), (len(fans),))
    builder.add_triangles(
        at_height(fans, each(paint.height)),
        planar_uv(fans, np.repeat(headings, corners), textures.sizes(texture)),
        texture,
        each(paint.label),
        each(paint.object_id),
        each(paint.tint, 2),
    )


def blotch_outlines(
    rng: np.random.Generator,
    centers: Floats,
    radii: npt.ArrayLike,
    corners: int,
    roughness: float = 0.3,
    stretch: float = 0.5,
) -> Floats:
    """Irregular outlines around points, (N, corners, 2): stretched by up to `stretch`."""
    count = len(centers)
    angle = (np.arange(corners) + rng.uniform(-0.3, 0.3, (count, corners))) * (2 * np.pi / corners)
    reach = 1 + rng.uniform(-roughness, roughness, (count, corners))
    factor = rng.uniform(1 - stretch, 1, (count, 1))
    turn = rng.uniform(0, 2 * np.pi, (count, 1))
    x, y = reach * np.cos(angle), reach * np.sin(angle) * factor
    shape = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=2)
    return centers[:, None] + shape * np.broadcast_to(np.asarray(radii), (count,))[:, None, None]
