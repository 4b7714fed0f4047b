"""Triangles with textures: what the builders make and the renderer draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt


@dataclass
class Mesh:
    """Triangles, each with its own corners (nothing is indexed); both sides are visible.

    Attributes:
        vertices: corners, (T, 3, 3) float32, metres in the scene frame.
        uv: texture coordinates of the corners, (T, 3, 2) float32: u to the right and v **down** the picture
            (v = 0 is its top row); 1 is the width or height of the picture, which repeats or is clamped.
        texture: index of the picture in the :class:`~hloc_ext.city.textures.TextureSet`, (T,) int16.
        tint: the picture is multiplied by tint / 255 (linear light), (T, 3) uint8.
        label: class, (T,) uint8, a :class:`~hloc_ext.city.labels.Label`.
        object_id: which thing the triangle belongs to (a building, a tree, …), (T,) int32. The weathering
            that the renderer lays over all surfaces is shifted by a hash of it, so that no two things look
            the same.
        glow: light that the triangle gives off at night, (T,) uint8: 0 none, 255 a lit shop window or lamp.
    """

    vertices: npt.NDArray[np.float32]
    uv: npt.NDArray[np.float32]
    texture: npt.NDArray[np.int16]
    tint: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    object_id: npt.NDArray[np.int32]
    glow: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.vertices)

    @classmethod
    def concatenate(cls, meshes: Sequence[Mesh]) -> Mesh:
        """One mesh of several; an empty one of none."""
        meshes = [*meshes] or [MeshBuilder().build()]
        return cls(*(np.concatenate([getattr(mesh, field.name) for mesh in meshes]) for field in fields(cls)))

    def moved(self, x: float, y: float, heading: float = 0.0, scale: float = 1.0, z: float = 0.0) -> Mesh:
        """Scaled copy, turned about z by `heading` (radians, counter-clockwise), then shifted."""
        cos, sin = np.cos(heading) * scale, np.sin(heading) * scale
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, scale]])
        vertices = self.vertices @ turn + (x, y, z)
        copies = {f.name: getattr(self, f.name).copy() for f in fields(self) if f.name != "vertices"}
        return Mesh(vertices.astype(np.float32), **copies)


class MeshBuilder:
    """Collects quads and triangles; every method takes whole arrays, and values for all or for each."""

    def __init__(self) -> None:
        self._parts: list[Mesh] = []

    def add_triangles(
        self,
        vertices: npt.ArrayLike,
        uv: npt.ArrayLike,
        texture: npt.ArrayLike,
        label: npt.ArrayLike,
        object_id: npt.ArrayLike = 0,
        tint: npt.ArrayLike = 255,
        glow: npt.ArrayLike = 0,
    ) -> None:
        """Add N triangles: `vertices` (N, 3, 3), `uv` (N, 3, 2); the rest as in :class:`Mesh`."""
        vertices = np.asarray(vertices, np.float32)
        count = len(vertices)
        self._parts.append(
            Mesh(
                vertices,
                np.broadcast_to(np.asarray(uv, np.float32), (count, 3, 2)).copy(),
                np.broadcast_to(np.asarray(texture, np.int16), (count,)).copy(),
                np.broadcast_to(_per_triangle(tint), (count, 3)).astype(np.uint8),
                np.broadcast_to(np.asarray(label, np.uint8), (count,)).copy(),
                np.broadcast_to(np.asarray(object_id, np.int32), (count,)).copy(),
                np.broadcast_to(np.asarray(glow, np.uint8), (count,)).copy(),
            )
        )

    def add_quads(
        self,
        corners: npt.ArrayLike,
        uv: npt.ArrayLike,
        texture: npt.ArrayLike,
        label: npt.ArrayLike,
        object_id: npt.ArrayLike = 0,
        tint: npt.ArrayLike = 255,
        glow: npt.ArrayLike = 0,
    ) -> None:
        """Add N flat convex quads.

        Args:
            corners: (N, 4, 3), in the order top-left, top-right, bottom-right, bottom-left of the picture.
            uv: (N, 4, 2), or (4, 2) for all; :data:`FIT` shows the whole picture once.
            texture, label, object_id, tint, glow: as in :class:`Mesh`, one for each quad or one for all.
        """
        corners = np.asarray(corners, np.float32)
        count = len(corners)
        uv = np.broadcast_to(np.asarray(uv, np.float32), (count, 4, 2))
        halves = [0, 1, 2, 0, 2, 3]

        def twice(values: npt.ArrayLike) -> npt.NDArray[np.generic]:
            return np.repeat(np.broadcast_to(np.asarray(values), (count,)), 2)

        self.add_triangles(
            corners[:, halves].reshape(-1, 3, 3),
            uv[:, halves].reshape(-1, 3, 2),
            twice(texture),
            twice(label),
            twice(object_id),
            np.repeat(np.broadcast_to(_per_triangle(tint), (count, 3)), 2, axis=0),
            twice(glow),
        )

    def add_mesh(self, mesh: Mesh) -> None:
        """Add what another builder made."""
        self._parts.append(mesh)

    def build(self) -> Mesh:
        """The mesh of all that was added."""
        if not self._parts:
            self.add_triangles(np.empty((0, 3, 3)), np.empty((0, 3, 2)), 0, 0)
        return Mesh.concatenate(self._parts)


#: Texture coordinates of a quad that shows its whole picture once.
FIT = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


def _per_triangle(tint: npt.ArrayLike) -> npt.NDArray[np.generic]:
    """Tints as (…, 3)."""
    tint = np.asarray(tint)
    return tint[..., None] if tint.ndim == 0 else tint
