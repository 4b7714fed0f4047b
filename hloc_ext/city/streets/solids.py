"""Small solids for furniture, trees, cars and people, and copies of them all over the city."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..labels import Label
from ..mesh import Mesh, MeshBuilder
from ..textures import TextureSet

Vector = Sequence[float] | npt.NDArray[np.float64]
Color = int | tuple[int, int, int] | npt.NDArray[np.generic]


@dataclass(frozen=True)
class Prototype:
    """A thing of which copies are placed.

    Attributes:
        mesh: the thing; it stands on (0, 0, 0) and faces +x.
        slots: which of the colours of a copy tints a triangle, (T,) int; 0 leaves it as it is.
    """

    mesh: Mesh
    slots: npt.NDArray[np.intp]

    def standing(self) -> Prototype:
        """The same thing, 1 m high and with its lowest point on z = 0."""
        low, high = (float(limit(self.mesh.vertices[..., 2])) for limit in (np.min, np.max))
        return Prototype(self.mesh.moved(0, 0, 0.0, 1 / (high - low), -low / (high - low)), self.slots)

    def copies(
        self,
        positions: npt.ArrayLike,
        headings: npt.ArrayLike,
        scales: npt.ArrayLike,
        object_ids: npt.ArrayLike,
        colors: npt.NDArray[np.generic] | None = None,
    ) -> Mesh:
        """Copies of the thing.

        Args:
            positions: (N, 3), metres.
            headings: (N,), radians counter-clockwise from +x.
            scales: (N,) or (N, 3), along the axes of the thing.
            object_ids: (N,).
            colors: (N, S, 3), 0 to 255, of slots 1 to S: they multiply the tint of the prototype.

        Returns:
            N · T triangles, copy after copy.
        """
        positions = np.asarray(positions, np.float32).reshape(-1, 3)
        count, triangles = len(positions), len(self.mesh)
        headings = np.broadcast_to(np.asarray(headings, np.float32), (count,))
        scales = np.asarray(scales, np.float32)
        scales = np.broadcast_to(scales[..., None] if scales.ndim < 2 else scales, (count, 3))
        cos, sin, zero = np.cos(headings), np.sin(headings), np.zeros(count, np.float32)
        turn = np.stack([cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1], -1).reshape(count, 3, 3)
        turn = (turn * scales[:, :, None]).astype(np.float32)
        vertices = self.mesh.vertices.reshape(1, -1, 3) @ turn + positions[:, None]
        tint = np.broadcast_to(self.mesh.tint, (count, triangles, 3))
        if colors is not None and count:
            factors = np.concatenate([np.full((count, 1, 3), 255.0), colors], axis=1)[:, self.slots]
            tint = (tint * (factors / 255)).astype(np.uint8)
        return Mesh(
            vertices.reshape(-1, 3, 3),
            np.tile(self.mesh.uv, (count, 1, 1)),
            np.tile(self.mesh.texture, count),
            tint.reshape(-1, 3).copy(),
            np.tile(self.mesh.label, count),
            np.repeat(np.broadcast_to(np.asarray(object_ids, np.int32), (count,)), triangles),
            np.tile(self.mesh.glow, count),
        )


class Modeller:
    """Puts a :class:`Prototype` together from boxes, tubes and lofts; texture coordinates are metric.

    Args:
        textures: pictures.
        label: of what is added.
        unit: metres of a unit of length in the finished copies.

    Attributes:
        label: class of what is added.
        slot: colour slot of what is added.
    """

    def __init__(self, textures: TextureSet, label: Label, unit: float = 1.0) -> None:
        self._textures = textures
        self._unit = unit
        self._builder = MeshBuilder()
        self._slots: list[npt.NDArray[np.intp]] = []
        self.label = label
        self.slot = 0

    def build(self) -> Prototype:
        """What was added."""
        return Prototype(self._builder.build(), np.concatenate(self._slots))

    def quads(
        self,
        corners: npt.ArrayLike,
        texture: int,
        tint: Color = 255,
        glow: int = 0,
        uv: npt.ArrayLike | None = None,
    ) -> None:
        """Add quads (N, 4, 3), corners and `uv` as in :meth:`MeshBuilder.add_quads`; no `uv`: metric ones."""
        corners = np.asarray(corners, np.float64).reshape(-1, 4, 3)
        uv = self._uv(corners, texture) if uv is None else uv
        self._builder.add_quads(corners, uv, texture, self.label, tint=tint, glow=glow)
        self._slots.append(np.full(2 * len(corners), self.slot))

    def triangles(self, corners: npt.ArrayLike, texture: int, tint: Color = 255, glow: int = 0) -> None:
        """Add triangles (N, 3, 3)."""
        corners = np.asarray(corners, np.float64).reshape(-1, 3, 3)
        uv = self._uv(corners, texture)
        self._builder.add_triangles(corners, uv, texture, self.label, tint=tint, glow=glow)
        self._slots.append(np.full(len(corners), self.slot))

    def box(
        self, low: Vector, high: Vector, texture: int, tint: Color = 255, glow: int = 0, bottom: bool = False
    ) -> None:
        """Add a box between two corners; without a bottom unless asked for."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        ring = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        sides = [
            [(*ring[i], z1), (*ring[(i + 1) % 4], z1), (*ring[(i + 1) % 4], z0), (*ring[i], z0)]
            for i in range(4)
        ]
        sides.append([(*ring[3], z1), (*ring[2], z1), (*ring[1], z1), (*ring[0], z1)])
        if bottom:
            sides.append([(*corner, z0) for corner in ring])
        self.quads(sides, texture, tint, glow)

    def tube(
        self,
        points: npt.ArrayLike,
        radii: npt.ArrayLike,
        sides: int,
        texture: int,
        tint: Color = 255,
        glow: int = 0,
        across: Vector = (0.0, 1.0, 0.0),
        caps: bool = True,
    ) -> None:
        """Add a round tube along a line.

        Args:
            points: (N, 3) of the axis.
            radii: (N,) or one.
            sides: corners of a cross-section.
            texture, tint, glow: as in :class:`Mesh`.
            across: a direction that the axis never takes.
            caps: whether the end is closed.
        """
        points = np.asarray(points, np.float64)
        radii = np.broadcast_to(np.asarray(radii, np.float64), (len(points),))
        along = np.gradient(points, axis=0)
        first = np.cross(along, np.asarray(across, np.float64))
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        second = np.cross(along, first)
        second /= np.linalg.norm(second, axis=1, keepdims=True)
        angle = np.arange(sides) * 2 * np.pi / sides
        circle = np.cos(angle)[:, None] * first[:, None] + np.sin(angle)[:, None] * second[:, None]
        self.loft(points[:, None] + radii[:, None, None] * circle, texture, tint, glow, caps=caps)

    def loft(
        self, rings: npt.ArrayLike, texture: int, tint: Color = 255, glow: int = 0, caps: bool = True
    ) -> None:
        """Add the surface through closed cross-sections (R, S, 3), and flat caps at its ends."""
        rings = np.asarray(rings, np.float64)
        following = np.roll(rings, -1, axis=1)
        quads = np.stack([rings[1:], following[1:], following[:-1], rings[:-1]], axis=2).reshape(-1, 4, 3)
        self.quads(quads, texture, tint, glow)
        if caps:
            for ring in (rings[0], rings[-1]):
                self.fan(ring, texture, tint, glow)

    def fan(self, ring: npt.ArrayLike, texture: int, tint: Color = 255, glow: int = 0) -> None:
        """Add a flat convex polygon (N, 3)."""
        ring = np.asarray(ring, np.float64)
        if np.ptp(ring, axis=0).max() < 1e-6:
            return
        self.triangles(
            np.stack([np.broadcast_to(ring[0], (len(ring) - 2, 3)), ring[1:-1], ring[2:]], axis=1),
            texture,
            tint,
            glow,
        )

    def disc(
        self,
        center: Vector,
        radius: float,
        axis: str,
        sides: int,
        texture: int,
        tint: Color = 255,
        glow: int = 0,
    ) -> None:
        """Add a disc that is perpendicular to an axis, ``x``, ``y`` or ``z``."""
        angle = np.arange(sides) * 2 * np.pi / sides
        plane = [i for i in range(3) if i != "xyz".index(axis)]
        ring = np.tile(np.asarray(center, np.float64), (sides, 1))
        ring[:, plane] += radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        self.fan(ring, texture, tint, glow)

    def ball(
        self,
        center: Vector,
        radii: Vector,
        texture: int,
        tint: Color = 255,
        glow: int = 0,
        sides: int = 7,
        rings: int = 4,
    ) -> None:
        """Add an ellipsoid."""
        lat = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)[:, None]
        lon = np.arange(sides)[None] * 2 * np.pi / sides
        unit = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon], -1)
        self.loft(np.asarray(center) + unit * np.asarray(radii), texture, tint, glow, caps=False)

    def _uv(self, corners: npt.NDArray[np.float64], texture: int) -> npt.NDArray[np.float64]:
        """Metric coordinates in the plane of each polygon (N, K, 3), shifted by where it is."""
        right = corners[:, 1] - corners[:, 0]
        down = corners[:, -1] - corners[:, 0]
        right = np.where(
            np.linalg.norm(right, axis=1, keepdims=True) < 1e-9, corners[:, 2] - corners[:, -1], right
        )
        right = right / np.maximum(np.linalg.norm(right, axis=1, keepdims=True), 1e-9)
        down = down - (down * right).sum(1, keepdims=True) * right
        down = down / np.maximum(np.linalg.norm(down, axis=1, keepdims=True), 1e-9)
        offsets = corners - corners[:, :1]
        u = np.einsum("nkc,nc->nk", offsets, right) + (corners[:, :1] @ (1.7, 2.3, 0.6))
        v = np.einsum("nkc,nc->nk", offsets, down) + (corners[:, :1] @ (0.7, 1.3, -1.0))
        return np.stack([u, v], axis=2) * self._unit / self._textures.size(texture)
