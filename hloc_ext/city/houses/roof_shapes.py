"""Geometry of roofs: rings set in or out, and planes of which the lowest counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

Floats = npt.NDArray[np.float64]


def edge_normals(ring: Floats) -> Floats:
    """Unit vectors out of each edge of a counter-clockwise ring (N, 2), (N, 2)."""
    along = np.roll(ring, -1, axis=0) - ring
    along = along / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    return np.stack([along[:, 1], -along[:, 0]], axis=1)


def offset_ring(ring: Floats, distances: npt.ArrayLike) -> Floats | None:
    """Shift each edge of a counter-clockwise ring outwards, and join the edges again.

    Args:
        ring: (N, 2).
        distances: (N,) or one; negative: inwards.

    Returns:
        (N, 2), or None if the result would be degenerate.
    """
    normals = edge_normals(ring)
    distances = np.broadcast_to(np.asarray(distances, np.float64), (len(ring),))
    before, d_before = np.roll(normals, 1, axis=0), np.roll(distances, 1)
    determinant = before[:, 0] * normals[:, 1] - before[:, 1] * normals[:, 0]
    straight = np.abs(determinant) < 0.08
    safe = np.where(straight, 1.0, determinant)
    shift = np.stack(
        [
            (d_before * normals[:, 1] - distances * before[:, 1]) / safe,
            (distances * before[:, 0] - d_before * normals[:, 0]) / safe,
        ],
        axis=1,
    )
    nearer = np.where(np.abs(d_before) < np.abs(distances), d_before, distances)
    shift[straight] = nearer[straight, None] * normals[straight]
    reach = np.maximum(np.abs(distances), np.abs(d_before))
    length = np.hypot(*shift.T)
    shift *= np.minimum(1.0, 2.5 * reach / np.maximum(length, 1e-9))[:, None]
    moved = ring + shift
    polygon = shapely.Polygon(moved)
    kept = (edge_normals(moved) * normals).sum(axis=1) > 0.5
    if not polygon.is_valid or not kept.all() or polygon.area < 4.0:
        return None
    return moved


@dataclass(frozen=True)
class Envelope:
    """A roof over a convex ring: the lowest of some planes, z = gradient · (x, y) + height.

    Attributes:
        gradients: (P, 2), uphill.
        heights: (P,), metres.
    """

    gradients: Floats
    heights: Floats

    @classmethod
    def of_edges(cls, points: Floats, normals: Floats, slope: float, eaves: float) -> Envelope:
        """Planes that rise by `slope` from lines through `points` (P, 2), against their outward `normals`."""
        return cls(-slope * normals, eaves + slope * (normals * points).sum(axis=1))

    def planes(self, points: Floats) -> Floats:
        """Heights of all planes at points (…, 2), (…, P)."""
        return points @ self.gradients.T + self.heights

    def at(self, points: Floats) -> Floats:
        """Height of the roof at points (…, 2)."""
        return self.planes(points).min(axis=-1)

    def faces(self, ring: Floats) -> list[Floats]:
        """Polygons (K, 3), some empty: where over a convex ring (N, 2) each plane is the lowest."""
        faces = []
        for i in range(len(self.heights)):
            polygon = ring
            for j in range(len(self.heights)):
                if i != j and len(polygon):
                    polygon = _clipped(
                        polygon, self.gradients[i] - self.gradients[j], self.heights[i] - self.heights[j]
                    )
            z = polygon @ self.gradients[i] + self.heights[i]
            faces.append(np.concatenate([polygon, z[:, None]], axis=1))
        return faces

    def profile(self, start: Floats, end: Floats) -> tuple[Floats, Floats]:
        """Where the roof bends between two points (2,): fractions (K,), 0 to 1, and heights there (K,)."""
        a, b = self.planes(start), self.planes(end)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = (a[:, None] - a) / ((a[:, None] - a) - (b[:, None] - b))
        inside = crossing[np.isfinite(crossing) & (crossing > 1e-6) & (crossing < 1 - 1e-6)]
        fractions = np.unique(np.round(np.concatenate([[0.0, 1.0], inside]), 9))
        heights = self.at(start + fractions[:, None] * (end - start))
        if len(fractions) > 2:
            slopes = np.diff(heights) / np.diff(fractions)
            bends = np.concatenate([[True], np.abs(np.diff(slopes)) > 1e-6, [True]])
            fractions, heights = fractions[bends], heights[bends]
        return fractions, heights


def _clipped(polygon: Floats, gradient: Floats, height: float) -> Floats:
    """Part of a convex polygon (N, 2) where gradient · p + height <= 0 (Sutherland and Hodgman, 1974)."""
    value = polygon @ gradient + height
    if (value <= 1e-9).all():
        return polygon
    corners = []
    for k in range(len(polygon)):
        following = (k + 1) % len(polygon)
        if value[k] <= 0:
            corners.append(polygon[k])
        if (value[k] < 0 < value[following]) or (value[following] < 0 < value[k]):
            part = value[k] / (value[k] - value[following])
            corners.append(polygon[k] + part * (polygon[following] - polygon[k]))
    return np.array(corners).reshape(-1, 2) if len(corners) >= 3 else np.empty((0, 2))
