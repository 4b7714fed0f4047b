"""Rays through the city: what they meet, and how bright it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from . import shading
from .labels import Label
from .light import Light
from .mesh import Mesh
from .pyramids import build_pyramids

if TYPE_CHECKING:
    from .scene import City

Floats = npt.NDArray[np.float64]

#: So many rays are followed at a time, to bound the memory.
_CHUNK = 1 << 17
#: A shadow ray starts so far from its surface, in metres.
_STAND_OFF = 0.002


@dataclass
class Samples:
    """What N rays met.

    Attributes:
        radiance: (N, 3) float32, linear RGB, times pi.
        distance: (N,) float32, along the ray; inf for the sky.
        label: (N,) uint8.
        key: (N,) uint16, differs between neighbours that show different surfaces, or sun and shadow.
    """

    radiance: npt.NDArray[np.float32]
    distance: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    key: npt.NDArray[np.uint16]


class _LightArrays(NamedTuple):
    """A :class:`Light` as the kernels read it."""

    to_sun: Floats
    sun: Floats
    zenith: Floats
    horizon: Floats
    clouds: float
    cloud_shift: Floats
    haze: float
    lamps: Floats
    glow: Floats
    sun_height: float

    @classmethod
    def of(cls, light: Light) -> _LightArrays:
        to_sun = light.to_sun
        return cls(
            to_sun,
            np.array(light.sun),
            np.array(light.zenith),
            np.array(light.horizon),
            float(light.clouds),
            np.array(light.cloud_shift),
            float(light.haze),
            light.lamps * np.array([1.0, 0.72, 0.42]),
            light.glow * np.array([1.0, 0.80, 0.55]),
            float(max(to_sun[2], 0.0)),
        )


class Triangles:
    """A mesh that rays can be sent to."""

    def __init__(self, mesh: Mesh) -> None:
        self.scene = EmbreeScene()
        self._geometry = TriangleMesh(self.scene, mesh.vertices) if len(mesh) else None
        self.arrays = (
            mesh.vertices,
            mesh.uv,
            mesh.texture,
            mesh.tint,
            mesh.label,
            mesh.object_id,
            mesh.glow,
        )

    def hits(
        self, origins: Floats, directions: Floats
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """First triangle that each ray meets, −1 if none, and the distance along the ray, inf if none."""
        if self._geometry is None:
            return np.full(len(origins), -1, np.int32), np.full(len(origins), np.inf, np.float32)
        found = self.scene.run(
            origins.astype(np.float32), directions.astype(np.float32), query="INTERSECT", output=1
        )
        triangle = found["primID"].astype(np.int32)
        return triangle, np.where(triangle >= 0, found["tfar"], np.inf).astype(np.float32)

    def blocks(
        self, origins: Floats, directions: Floats, reach: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Whether each ray meets anything, within `reach` metres if that is given."""
        if self._geometry is None or not len(origins):
            return np.zeros(len(origins), bool)
        options: dict[str, Any] = {} if reach is None else {"dists": reach.astype(np.float32)}
        found = self.scene.run(
            origins.astype(np.float32), directions.astype(np.float32), query="OCCLUDED", **options
        )
        return np.asarray(found) == 0


class Renderer:
    """Follows rays through a city. It cannot be pickled; forked processes share it.

    Args:
        city: what is drawn. Its pictures become views of what the renderer keeps, to have them only once.
    """

    def __init__(self, city: City) -> None:
        self.city = city
        self._pyramids = build_pyramids(city.textures)
        textures = city.textures.textures
        textures[:] = [replace(t, pixels=self._pyramids.picture(i)) for i, t in enumerate(textures)]
        self._static = Triangles(city.mesh)
        self._lamp_cells = _lamp_cells(city.lights, city.plan.bounds)
        self._volume = _openness(self._static, city.plan.bounds)

    def sample(
        self,
        origins: Floats,
        directions: Floats,
        light: Light,
        moving: Triangles | None = None,
        spread: float = 0.0,
        width: float = 0.0,
        max_taps: int = 3,
    ) -> Samples:
        """Follow rays.

        Args:
            origins: (N, 3), metres in the scene frame.
            directions: (N, 3), unit vectors.
            light: sun, sky and lamps.
            moving: what stands in the city at this moment, besides what always stands there.
            spread: angle between neighbouring rays, radians: textures are averaged over as much.
            width: distance between the origins of neighbouring parallel rays, metres.
            max_taps: samples of a texture where a surface is seen at a slant; fewer are blurred along it.
        """
        parts = [
            self._sample(
                origins[start : start + _CHUNK],
                directions[start : start + _CHUNK],
                light,
                moving,
                spread,
                width,
                max_taps,
            )
            for start in range(0, max(len(origins), 1), _CHUNK)
        ]
        if len(parts) == 1:
            return parts[0]
        return Samples(
            np.concatenate([part.radiance for part in parts]),
            np.concatenate([part.distance for part in parts]),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.key for part in parts]),
        )

    def distance(self, origins: Floats, directions: Floats, moving: Triangles | None = None) -> Floats:
        """Distance along each ray to what it meets first, (N,); inf if nothing."""
        nearest = self._static.hits(origins, directions)[1]
        if moving is not None:
            nearest = np.minimum(nearest, moving.hits(origins, directions)[1])
        return nearest.astype(np.float64)

    def _sample(
        self,
        origins: Floats,
        directions: Floats,
        light: Light,
        moving: Triangles | None,
        spread: float,
        width: float,
        max_taps: int,
    ) -> Samples:
        count = len(origins)
        origins = np.ascontiguousarray(origins, np.float64)
        directions = np.ascontiguousarray(directions, np.float64)
        distance = np.full(count, np.inf)
        normal = np.zeros((count, 3), np.float32)
        albedo = np.zeros((count, 3), np.float32)
        gloss, glow = np.zeros((2, count), np.float32)
        label = np.full(count, Label.SKY, np.uint8)
        key = np.zeros(count, np.uint16)
        outputs = (distance, normal, albedo, gloss, glow, label, key)

        triangle, reach = self._static.hits(origins, directions)
        if moving is not None:
            moving_triangle, moving_reach = moving.hits(origins, directions)
            nearer = moving_reach < reach
            triangle[nearer] = -1
            moving_triangle[~nearer] = -1
            arguments = (origins, directions, moving_triangle, spread, width, max_taps)
            shading.surfaces(self._pyramids, moving.arrays, *arguments, *outputs)
        arguments = (origins, directions, triangle, spread, width, max_taps)
        shading.surfaces(self._pyramids, self._static.arrays, *arguments, *outputs)

        hit = np.isfinite(distance)
        points = origins + directions * np.where(hit, distance, 0.0)[:, None]
        sun_seen = self._sun_seen(points, normal, gloss, hit, light, moving)
        lamplight = self._lamplight(points, normal, hit, light, moving)
        arrays = _LightArrays.of(light)
        radiance = np.empty((count, 3), np.float32)
        shading.sky(self._pyramids, arrays, directions, ~hit, radiance)
        shading.illuminate(
            self._pyramids,
            arrays,
            self._volume,
            points,
            directions,
            hit,
            distance,
            normal,
            albedo,
            gloss,
            glow,
            sun_seen,
            lamplight,
            radiance,
        )
        key += (sun_seen > 0).astype(np.uint16) << 15
        return Samples(radiance, distance.astype(np.float32), label, key)

    def _blocked(
        self,
        origins: Floats,
        directions: Floats,
        moving: Triangles | None,
        reach: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.bool_]:
        blocked = self._static.blocks(origins, directions, reach)
        if moving is not None:
            free = np.flatnonzero(~blocked)
            limits = None if reach is None else reach[free]
            blocked[free] = moving.blocks(origins[free], directions[free], limits)
        return blocked

    def _sun_seen(
        self,
        points: Floats,
        normal: npt.NDArray[np.float32],
        gloss: npt.NDArray[np.float32],
        hit: npt.NDArray[np.bool_],
        light: Light,
        moving: Triangles | None,
    ) -> npt.NDArray[np.float32]:
        """1 where the sun shines on a surface, else 0; (N,) float32."""
        seen = np.zeros(len(points), np.float32)
        if max(light.sun) <= 0 or light.sun_elevation <= 0:
            return seen
        to_sun = light.to_sun
        translucent = gloss < 0
        facing = normal @ to_sun.astype(np.float32)
        lit = np.flatnonzero(hit & ((facing > 0) | translucent))
        side = np.sign(facing[lit])[:, None] * normal[lit]
        starts = points[lit] + _STAND_OFF * side
        blocked = self._blocked(starts, np.broadcast_to(to_sun, starts.shape), moving)
        seen[lit[~blocked]] = 1.0
        return seen

    def _lamplight(
        self,
        points: Floats,
        normal: npt.NDArray[np.float32],
        hit: npt.NDArray[np.bool_],
        light: Light,
        moving: Triangles | None,
    ) -> npt.NDArray[np.float32]:
        """Irradiance from street lamps, (N,) float32; the strongest one of each point casts shadows."""
        lamps = self.city.lights
        if not light.is_night or not len(lamps):
            return np.zeros(len(points), np.float32)
        lamp = np.empty(len(points), np.int32)
        irradiance = np.empty((len(points), 2), np.float32)
        shading.strongest_lamp(lamps, self._lamp_cells, points, normal, hit, lamp, irradiance)
        lit = np.flatnonzero(lamp >= 0)
        starts = points[lit] + _STAND_OFF * normal[lit]
        towards = lamps[lamp[lit]] - starts
        length = np.linalg.norm(towards, axis=1)
        # The lamp itself does not stand in its light.
        reach = np.maximum(length - 0.8, 0.0).astype(np.float32)
        blocked = self._blocked(starts, towards / length[:, None], moving, reach)
        irradiance[lit[blocked], 0] = 0.0
        return irradiance.sum(axis=1)


def _lamp_cells(
    lamps: Floats, bounds: tuple[float, float, float, float], size: float = 20.0
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], float, float, float, int, int]:
    """For each cell of a grid the lamps whose light reaches it, for :func:`shading.strongest_lamp`."""
    x0, y0, x1, y1 = bounds
    columns, rows = int(np.ceil((x1 - x0) / size)), int(np.ceil((y1 - y0) / size))
    members: list[npt.NDArray[np.int32]] = []
    starts = np.zeros(columns * rows + 1, np.int32)
    for cell in range(columns * rows):
        row, column = divmod(cell, columns)
        left, bottom = x0 + column * size, y0 + row * size
        dx = np.maximum(np.maximum(left - lamps[:, 0], lamps[:, 0] - left - size), 0)
        dy = np.maximum(np.maximum(bottom - lamps[:, 1], lamps[:, 1] - bottom - size), 0)
        near = np.flatnonzero(np.hypot(dx, dy) < shading.LAMP_REACH).astype(np.int32)
        members.append(near)
        starts[cell + 1] = starts[cell] + len(near)
    joined = np.concatenate([*members, np.zeros(0, np.int32)])
    return starts, joined, float(x0), float(y0), size, columns, rows


def _openness(
    triangles: Triangles, bounds: tuple[float, float, float, float]
) -> tuple[npt.NDArray[np.uint8], float, float, float, Floats]:
    """How much of the sky is seen from the points of a grid: its upper part, and towards four sides.

    Returns:
        (values (nz, ny, nx, 5) uint8, x and y of the first point, distance of the points, heights (nz,)).
    """
    x0, y0, x1, y1 = bounds
    cell = 2.0 if max(x1 - x0, y1 - y0) <= 450 else 3.0
    xs, ys = np.arange(x0, x1 + cell, cell), np.arange(y0, y1 + cell, cell)
    heights = np.array([0.6, 3.0, 7.0, 12.0, 20.0, 32.0])
    upwards: list[tuple[float, float]] = [(90.0, 0.0), (68.0, 20.0), (68.0, 140.0), (68.0, 260.0)]
    sideways: list[list[tuple[float, float]]] = [
        [(elevation, 90.0 * side + turn) for elevation, turn in ((7, -24), (18, 20), (31, -12), (46, 14))]
        for side in range(4)
    ]
    values = np.empty((len(heights), len(ys), len(xs), 5), np.uint8)
    for layer, height in enumerate(heights):
        x, y = np.meshgrid(xs, ys)
        points = np.stack([x.ravel(), y.ravel(), np.full(x.size, height)], axis=1)
        for sector, angles in enumerate([upwards, *sideways]):
            seen = np.zeros(len(points))
            for elevation, azimuth in np.radians(angles):
                direction = np.array(
                    [
                        np.cos(azimuth) * np.cos(elevation),
                        np.sin(azimuth) * np.cos(elevation),
                        np.sin(elevation),
                    ]
                )
                seen += ~triangles.blocks(points, np.broadcast_to(direction, points.shape))
            values[layer, ..., sector] = np.round(255 * seen / len(angles)).reshape(x.shape)
        _fill_inside(values[layer])
    return values, float(x0), float(y0), cell, heights


def _fill_inside(values: npt.NDArray[np.uint8]) -> None:
    """Give grid points inside of buildings, which see nothing, the mean of their neighbours outside."""
    for _ in range(2):
        dark = ~values.any(axis=-1)
        padded = np.pad(values.astype(np.float32), ((1, 1), (1, 1), (0, 0)))
        outside = np.pad((~dark).astype(np.float32), 1)
        total = np.zeros_like(values, np.float32)
        count = np.zeros(dark.shape, np.float32)
        rows, columns = dark.shape
        for dy in range(3):
            for dx in range(3):
                total += padded[dy : dy + rows, dx : dx + columns]
                count += outside[dy : dy + rows, dx : dx + columns]
        known = dark & (count > 0)
        values[known] = np.round(total[known] / count[known, None])
