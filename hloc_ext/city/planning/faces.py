"""What the walls of buildings look out on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

#: A wall that looks at a street over at most so many metres of free ground faces the street.
_REACH = 28.0
_PROBE = 0.03


def classify_faces(
    footprints: Sequence[shapely.Polygon],
    rings: Sequence[shapely.Polygon],
    bounds: tuple[float, float, float, float],
) -> list[tuple[str, ...]]:
    """Faces of buildings, see :class:`~hloc_ext.city.planning.parts.Building`.

    Args:
        footprints: counter-clockwise; neighbours have edges in common, corner for corner.
        rings: borders of the blocks; all but those on the bounds lie at streets.
        bounds: (min x, min y, max x, max y).

    Returns:
        For each footprint a word for each edge.
    """
    if not footprints:
        return []
    corners = [shapely.get_coordinates(footprint) for footprint in footprints]
    counts = [len(points) - 1 for points in corners]
    start = np.concatenate([points[:-1] for points in corners])
    step = np.concatenate([points[1:] for points in corners]) - start
    outward = np.stack([step[:, 1], -step[:, 0]], axis=1) / np.linalg.norm(step, axis=1)[:, None]
    middle = start + step / 2 + _PROBE * outward
    tree = shapely.STRtree(footprints)
    faces = np.full(len(start), "yard", dtype="<U6")
    rays = shapely.linestrings(np.stack([middle, middle + _REACH * outward], axis=1))
    # These rays begin inside the wall: many walls stand on the border of the block.
    behind = middle - 2 * _PROBE * outward
    views = shapely.linestrings(np.stack([behind, middle + _REACH * outward], axis=1))
    street = _first_hit(views, behind, shapely.STRtree(_street_sides(rings, bounds)))
    faces[(street < _REACH) & (street < _first_hit(rays, middle, tree))] = "street"
    faces[tree.query(shapely.points(middle), predicate="intersects")[0]] = "party"
    return [tuple(str(face) for face in part) for part in np.split(faces, np.cumsum(counts)[:-1])]


def _first_hit(rays: np.ndarray, origins: np.ndarray, tree: shapely.STRtree) -> np.ndarray:
    """Distance along each ray to what it meets first, infinite where it meets nothing."""
    ray, target = tree.query(rays, predicate="intersects")
    met = shapely.intersection(rays[ray], tree.geometries[target])
    distance = np.full(len(rays), np.inf)
    np.minimum.at(distance, ray, shapely.distance(shapely.points(origins[ray]), met))
    return distance


def _street_sides(rings: Sequence[shapely.Polygon], bounds: tuple[float, float, float, float]) -> np.ndarray:
    """Straight pieces of the rings that do not lie on the bounds."""
    pieces = []
    for ring in rings:
        points = shapely.get_coordinates(ring)
        pieces.append(np.stack([points[:-1], points[1:]], axis=1))
    segments = np.concatenate(pieces)
    border = np.zeros(len(segments), bool)
    for axis in (0, 1):
        for limit in (bounds[axis], bounds[axis + 2]):
            border |= (np.abs(segments[:, :, axis] - limit) < 1e-6).all(axis=1)
    return shapely.linestrings(segments[~border])
