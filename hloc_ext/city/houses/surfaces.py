"""Surfaces of one building: quads and prisms in the frame of a wall, with metric texture coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..labels import Label
from ..mesh import Mesh
from ..textures import TextureSet

Floats = npt.NDArray[np.float64]
Tint = tuple[int, int, int]

#: Faces of a prism: corners, as 4 · right + 2 · outer + upper, clockwise from their top left.
_FACES = {
    "front": (3, 7, 6, 2),
    "left": (1, 3, 2, 0),
    "right": (7, 5, 4, 6),
    "top": (1, 5, 7, 3),
    "bottom": (2, 6, 4, 0),
    "back": (5, 1, 0, 4),
}
#: All but the back, which is at a wall.
OPEN_FACES = ("front", "left", "right", "top", "bottom")


@dataclass(frozen=True)
class Material:
    """A picture and the tint that it is multiplied by."""

    texture: int
    tint: Tint = (255, 255, 255)

    def shaded(self, factor: float) -> Material:
        """The same, darker (factor < 1) or lighter."""
        r, g, b = (int(min(max(value * factor, 0), 255)) for value in self.tint)
        return Material(self.texture, (r, g, b))


@dataclass(frozen=True)
class Frame:
    """Coordinates (s, d, z) of a wall: s along it, d out of it, z up, metres.

    Attributes:
        origin: (2,), where s = d = 0.
        along, out: (2,), unit vectors; seen from outside `along` points to the right.
    """

    origin: Floats
    along: Floats
    out: Floats

    @classmethod
    def of_edge(cls, start: Floats, end: Floats) -> Frame:
        """Frame of an edge of a counter-clockwise ring, (2,) each."""
        along = (end - start) / np.hypot(*(end - start))
        return cls(start, along, np.array([along[1], -along[0]]))

    def world(self, points: Floats) -> Floats:
        """Points (…, 3) from (s, d, z) to the scene frame."""
        plan = points[..., :1] * self.along + points[..., 1:2] * self.out + self.origin
        return np.concatenate([plan, points[..., 2:]], axis=-1)


#: The scene frame itself: s = x, d = y.
SCENE = Frame(np.zeros(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]))


class Surfaces:
    """Collects the surfaces of one building.

    Args:
        textures: the pictures.
        object_id: of all triangles.
        shift: (2,) metres by which metric textures are shifted.
    """

    def __init__(self, textures: TextureSet, object_id: int, shift: Floats) -> None:
        self.textures = textures
        self._object_id = object_id
        self._shift = shift
        self._sizes = np.array([texture.size for texture in textures.textures], np.float64)
        self._quads: list[tuple[npt.NDArray[np.generic], ...]] = []
        self._triangles: list[tuple[npt.NDArray[np.generic], ...]] = []

    def quads(
        self,
        frame: Frame,
        corners: npt.ArrayLike,
        texture: npt.ArrayLike,
        tint: npt.ArrayLike = 255,
        glow: npt.ArrayLike = 0,
        uv: npt.ArrayLike | None = None,
    ) -> None:
        """Add N quads.

        Args:
            frame: what the corners are given in.
            corners: (N, 4, 3), top-left, top-right, bottom-right, bottom-left of the picture.
            texture, tint, glow: one for all, or (N,), (N, 3), (N,).
            uv: (N, 4, 2) or (4, 2); None: metric, u along the wall, v down.
        """
        corners = np.asarray(corners, np.float64).reshape(-1, 4, 3)
        self._collect(self._quads, frame, corners, texture, tint, glow, uv)

    def triangles(
        self,
        frame: Frame,
        corners: npt.ArrayLike,
        texture: npt.ArrayLike,
        tint: npt.ArrayLike = 255,
        glow: npt.ArrayLike = 0,
        uv: npt.ArrayLike | None = None,
    ) -> None:
        """Add N triangles (N, 3, 3); the rest as in :meth:`quads`."""
        corners = np.asarray(corners, np.float64).reshape(-1, 3, 3)
        self._collect(self._triangles, frame, corners, texture, tint, glow, uv)

    def prisms(
        self,
        frame: Frame,
        lower: npt.ArrayLike,
        upper: npt.ArrayLike,
        texture: npt.ArrayLike,
        tint: npt.ArrayLike = 255,
        glow: npt.ArrayLike = 0,
        mitre: npt.ArrayLike = 0.0,
        faces: tuple[str, ...] = OPEN_FACES,
    ) -> None:
        """Add N boxes.

        Args:
            frame: what the corners are given in.
            lower, upper: (N, 3), smallest and largest s, d, z.
            texture, tint, glow: one for all, or one for each box.
            mitre: (N, 2) or (2,): at the left and right end the outer face reaches so much further, metres.
            faces: which are added.
        """
        lower = np.asarray(lower, np.float64).reshape(-1, 3)
        upper = np.asarray(upper, np.float64).reshape(-1, 3)
        count = len(lower)
        if not count:
            return
        corners = np.empty((count, 8, 3))
        corners[:, :4, 0] = lower[:, None, 0]
        corners[:, 4:, 0] = upper[:, None, 0]
        corners[:, [0, 1, 4, 5], 1] = lower[:, None, 1]
        corners[:, [2, 3, 6, 7], 1] = upper[:, None, 1]
        corners[:, ::2, 2] = lower[:, None, 2]
        corners[:, 1::2, 2] = upper[:, None, 2]
        mitres = np.broadcast_to(np.asarray(mitre, np.float64), (count, 2))
        corners[:, 2:4, 0] -= mitres[:, :1]
        corners[:, 6:8, 0] += mitres[:, 1:]
        sides = len(faces)
        quads = corners[:, [_FACES[face] for face in faces]].reshape(-1, 4, 3)
        textures, tints, glows = (np.asarray(value) for value in (texture, tint, glow))
        textures = np.repeat(textures, sides) if textures.ndim else textures
        tints = np.repeat(tints, sides, axis=0) if tints.ndim == 2 else tints
        glows = np.repeat(glows, sides) if glows.ndim else glows
        self._collect(self._quads, frame, quads, textures, tints, glows, None)

    def box(
        self,
        frame: Frame,
        lower: tuple[float, float, float],
        upper: tuple[float, float, float],
        material: Material,
        faces: tuple[str, ...] = OPEN_FACES,
        glow: int = 0,
    ) -> None:
        """Add one box of a material."""
        self.prisms(frame, [lower], [upper], material.texture, material.tint, glow, faces=faces)

    def build(self) -> Mesh:
        """The mesh of all that was added."""
        halves = np.array([0, 1, 2, 0, 2, 3])
        parts = [_joined(self._triangles)] if self._triangles else []
        if self._quads:
            vertices, uv, *each = _joined(self._quads)
            parts.append(
                [
                    vertices[:, halves].reshape(-1, 3, 3),
                    uv[:, halves].reshape(-1, 3, 2),
                    *(np.repeat(value, 2, axis=0) for value in each),
                ]
            )
        if not parts:
            parts.append(
                [np.empty((0, 3, 3)), np.empty((0, 3, 2)), np.empty(0), np.empty((0, 3)), np.empty(0)]
            )
        vertices, uv, texture, tint, glow = (np.concatenate(values) for values in zip(*parts, strict=True))
        count = len(vertices)
        return Mesh(
            vertices.astype(np.float32),
            uv.astype(np.float32),
            texture.astype(np.int16),
            tint.astype(np.uint8),
            np.full(count, Label.BUILDING, np.uint8),
            np.full(count, self._object_id, np.int32),
            glow.astype(np.uint8),
        )

    def _collect(
        self,
        target: list[tuple[npt.NDArray[np.generic], ...]],
        frame: Frame,
        corners: Floats,
        texture: npt.ArrayLike,
        tint: npt.ArrayLike,
        glow: npt.ArrayLike,
        uv: npt.ArrayLike | None,
    ) -> None:
        count, sides = corners.shape[:2]
        if not count:
            return
        textures = np.empty(count, np.int16)
        textures[:] = texture
        tints = np.empty((count, 3), np.uint8)
        tints[:] = tint
        glows = np.empty(count, np.uint8)
        glows[:] = glow
        coordinates = np.empty((count, sides, 2))
        coordinates[:] = self._metric(corners, textures) if uv is None else uv
        target.append((frame.world(corners), coordinates, textures, tints, glows))

    def _metric(self, corners: Floats, textures: npt.NDArray[np.int16]) -> Floats:
        s, d, z = corners[..., 0], corners[..., 1], corners[..., 2]
        level = (np.ptp(z, axis=1) < 1e-6)[:, None]
        uv = np.stack([np.where(level, s, s + d), np.where(level, d, -z)], axis=-1)
        return (uv + self._shift) / self._sizes[textures][:, None]


def _joined(parts: list[tuple[npt.NDArray[np.generic], ...]]) -> list[npt.NDArray[np.generic]]:
    return [np.concatenate(values) for values in zip(*parts, strict=True)]
