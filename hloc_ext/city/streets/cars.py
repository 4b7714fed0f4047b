"""Cars, vans and trucks: bodies lofted through cross-sections, with windows, wheels, lights and mirrors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..labels import Label
from ..mesh import FIT
from ..textures import TextureSet
from .car_bodies import TRUCK, VAN, Body
from .solids import Modeller, Prototype

Floats = npt.NDArray[np.float64]

#: Colour slot of the body.
PAINT_SLOT = 1


def make_car(body: Body, textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """A vehicle that stands on z = 0, heads for +x, and has its body in :data:`PAINT_SLOT`."""
    return _CarMaker(body, textures, rng).make()


class _CarMaker:
    def __init__(self, body: Body, textures: TextureSet, rng: np.random.Generator) -> None:
        self._body, self._rng = body, rng
        self._model = Modeller(textures, Label.VEHICLE)
        names = ("car_paint", "glass", "rubber", "metal", "lamp_glass", "sign")
        self._pictures = {name: int(rng.choice(textures.group(name))) for name in names}

    def make(self) -> Prototype:
        """The vehicle."""
        self._model.slot = PAINT_SLOT
        self._lower_body()
        self._cabin()
        if self._body is TRUCK:
            self._cargo_box()
        self._model.slot = 0
        self._windows()
        self._wheels()
        self._ends()
        self._seams()
        self._shadow()
        return self._model.build()

    def _lower_body(self) -> None:
        """Rings of ten corners through the profile; the flanks bulge a little."""
        bottom = self._body.sides
        rings = []
        for index, (x, top, half) in enumerate(self._body.profile):
            end = index in (0, len(self._body.profile) - 1)
            low = bottom + (0.1 if end else 0.0)
            waist = low + 0.62 * (top - low)
            right = [
                (0.90 * half, low),
                (half, low + 0.12),
                (half, waist),
                (0.95 * half, top - 0.03),
                (0.8 * half, top),
            ]
            rings.append([(x, -y, z) for y, z in right] + [(x, y, z) for y, z in reversed(right)])
        self._model.loft(rings, self._pictures["car_paint"])

    def _cabin_corners(self) -> tuple[Floats, Floats]:
        """Corners of the lower edge of the windows and of the roof: rear right, then around."""
        rear, front, roof_rear, roof_front = self._body.cabin
        xs, tops, halves = np.array(self._body.profile).T
        levels = np.interp((rear, front), xs, tops) - 0.02
        low, high = (
            0.93 * np.interp((rear, front), xs, halves),
            0.80 * np.interp((roof_rear, roof_front), xs, halves),
        )
        if self._body in (VAN, TRUCK):
            high = low * 0.95
        roof = self._body.roof
        base = [
            (rear, -low[0], levels[0]),
            (front, -low[1], levels[1]),
            (front, low[1], levels[1]),
            (rear, low[0], levels[0]),
        ]
        top = [(roof_rear, -high[0], roof - 0.04), (roof_front, -high[1], roof - 0.04)]
        top += [(roof_front, high[1], roof - 0.04), (roof_rear, high[0], roof - 0.04)]
        return np.array(base), np.array(top)

    def _cabin(self) -> None:
        base, top = self._cabin_corners()
        middle = top.mean(axis=0)
        crown = middle + (top - middle) * (0.8, 0.72, 1.0) + (0, 0, 0.04)
        self._model.loft([base, top, crown], self._pictures["car_paint"])

    def _cargo_box(self) -> None:
        self._model.slot = 0
        self._model.box((-3.6, -1.08, 0.75), (1.1, 1.08, 2.95), self._pictures["metal"], 250, bottom=True)
        self._model.box((-3.5, -0.5, 0.5), (2.0, 0.5, 0.75), self._pictures["rubber"], 200)
        sign = np.array([(0.6, -1.085, 2.6), (-2.9, -1.085, 2.6), (-2.9, -1.085, 1.5), (0.6, -1.085, 1.5)])
        other = sign * (1, -1, 1)
        # Read from the right side of the truck, +x is on the left; from the other side, on the right.
        self._model.quads([sign[[1, 0, 3, 2]], other], self._pictures["sign"], uv=FIT)

    def _windows(self) -> None:
        base, top = self._cabin_corners()
        glass = self._pictures["glass"]
        faces = [(1, 2), (3, 0)] if self._body.glazed else [(1, 2)]
        for first, second in faces:
            quad = np.array([top[first], top[second], base[second], base[first]])
            self._model.quads([_inset(quad, (0.06, 0.09))], glass)
        rear, front = self._body.cabin[:2]
        pillars = sorted(self._body.pillars)
        for side in (0, 1):
            low_rear, low_front = (base[0], base[1]) if side == 0 else (base[3], base[2])
            top_rear, top_front = (top[0], top[1]) if side == 0 else (top[3], top[2])
            edges = [rear, *pillars, front] if self._body.glazed else [*pillars, front]
            quads = []
            for start, end in pairwise(edges):
                a, b = ((x - rear) / (front - rear) for x in (start, end))
                c, d = (np.clip((x - top_rear[0]) / (top_front[0] - top_rear[0]), 0, 1) for x in (start, end))
                quads.append(
                    [
                        top_rear + c * (top_front - top_rear),
                        top_rear + d * (top_front - top_rear),
                        low_rear + b * (low_front - low_rear),
                        low_rear + a * (low_front - low_rear),
                    ]
                )
            self._model.quads([_inset(np.array(quad), (0.03, 0.06)) for quad in quads], glass)

    def _wheels(self) -> None:
        rear, front, radius = self._body.wheels
        xs, _, halves = np.array(self._body.profile).T
        rubber, metal = self._pictures["rubber"], self._pictures["metal"]
        for x in (rear, front):
            half = 1.0 if self._body is TRUCK else float(np.interp(x, xs, halves))
            for side in (-1, 1):
                outer, inner = side * (half + 0.006), side * (half - 0.2)
                arch = np.linspace(-0.15, np.pi + 0.15, 9)
                ring = [
                    (x + 1.2 * radius * np.cos(a), side * (half + 0.003), radius + 1.2 * radius * np.sin(a))
                    for a in arch
                ]
                self._model.fan(ring, rubber, 90)
                self._model.tube(
                    [(x, inner, radius), (x, outer, radius)],
                    radius,
                    12,
                    rubber,
                    110,
                    across=(1, 0, 0),
                    caps=False,
                )
                self._model.disc((x, outer, radius), radius, "y", 12, rubber, 240)
                self._model.disc((x, outer + side * 0.004, radius), 0.66 * radius, "y", 8, metal, 200)
                self._model.disc((x, outer + side * 0.007, radius), 0.2 * radius, "y", 5, metal, 110)

    def _ends(self) -> None:
        """Lights, grille, number plates, bumpers and mirrors."""
        body, model, pictures = self._body, self._model, self._pictures
        rear, front = body.profile[0], body.profile[-1]
        lamp, dark = pictures["lamp_glass"], pictures["rubber"]
        for x, half, sense in ((front[0] + 0.004, front[2], 1), (rear[0] - 0.004, rear[2], -1)):
            low = body.sides + 0.12
            model.box(
                (min(x, x - 0.16 * sense), -half - 0.03, low - 0.02),
                (max(x, x - 0.16 * sense) + 0.01, half + 0.03, low + 0.12),
                dark,
                200,
                bottom=True,
            )
            plate = [
                (x + 0.016 * sense, -0.26 * sense, low + 0.11),
                (x + 0.016 * sense, 0.26 * sense, low + 0.11),
            ]
            plate += [(px, py, low) for px, py, _ in reversed(plate)]
            model.quads([plate], pictures["metal"], 255)
        (x0, z0, w0), (x1, z1, w1) = body.profile[-1], body.profile[-2]
        self._lights((x0, x1), (z0, z1), (w0, w1), lamp, (245, 245, 235))
        self._grille((x0, z0, w0))
        (x0, z0, w0), (x1, z1, w1) = body.profile[0], body.profile[1]
        self._lights((x0, x1), (z0, z1), (w0, w1), lamp, (190, 20, 15))
        base, _ = self._cabin_corners()
        for side in (-1, 1):
            x, inner, z = base[1][0] - 0.25, side * (abs(base[1][1]) + 0.02), base[1][2] + 0.02
            right, left = sorted((inner, inner + side * 0.17))
            model.slot = PAINT_SLOT
            model.box((x - 0.09, right, z), (x + 0.09, left, z + 0.13), pictures["car_paint"], bottom=True)
            model.slot = 0

    def _lights(
        self,
        xs: tuple[float, float],
        zs: tuple[float, float],
        halves: tuple[float, float],
        texture: int,
        tint: tuple[int, int, int],
    ) -> None:
        """Lights at both corners of an end; `xs`, `zs` and `halves` are its last two cross-sections."""
        sense = np.sign(xs[0] - xs[1])
        ends = sorted((xs[0] + 0.012 * sense, xs[0] - 0.16 * sense))
        low, high = zs[0] - 0.12, zs[0] + 0.4 * (zs[1] - zs[0])
        for side in (-1, 1):
            across = sorted((side * 0.52 * halves[0], side * (halves[0] + 0.015)))
            self._model.box((ends[0], across[0], low), (ends[1], across[1], high), texture, tint)

    def _grille(self, front: tuple[float, float, float]) -> None:
        x, z, half = front
        low = self._body.sides + 0.27
        if z - low < 0.03:
            return
        quad = [(x + 0.006, -0.5 * half, z - 0.02), (x + 0.006, 0.5 * half, z - 0.02)]
        self._model.quads(
            [[*quad, *[(a, b, low) for a, b, _ in reversed(quad)]]], self._pictures["rubber"], 60
        )

    def _seams(self) -> None:
        """Gaps around the doors, handles and sills."""
        if self._body is TRUCK:
            return
        xs, tops, halves = np.array(self._body.profile).T
        low = self._body.sides
        quads, handles = [], []
        for x in self._body.pillars:
            top, half = np.interp(x, xs, tops), np.interp(x, xs, halves) + 0.004
            for side in (-1, 1):
                y = side * half
                quads.append(
                    [
                        (x - 0.008, y, top - 0.2),
                        (x + 0.008, y, top - 0.2),
                        (x + 0.008, y, low + 0.14),
                        (x - 0.008, y, low + 0.14),
                    ]
                )
                hx, hz = x + 0.1, top - 0.25
                handles.append(
                    [(hx, y, hz), (hx + 0.17, y, hz), (hx + 0.17, y, hz - 0.03), (hx, y, hz - 0.03)]
                )
        self._model.quads(quads, self._pictures["rubber"], 130)
        self._model.quads(handles, self._pictures["metal"], 150)

    def _shadow(self) -> None:
        """The dark ground under the car."""
        x0, x1 = self._body.profile[0][0] + 0.45, self._body.profile[-1][0] - 0.45
        x0 = -3.4 if self._body is TRUCK else x0
        quad = [(x0, 0.65, 0.01), (x1, 0.65, 0.01), (x1, -0.65, 0.01), (x0, -0.65, 0.01)]
        self._model.quads([quad], self._pictures["rubber"], 180)


def _inset(quad: Floats, margin: tuple[float, float]) -> Floats:
    """A quad (4, 3) made smaller by shares of its width and height, and lifted 8 mm outwards."""
    across, down = margin
    weights = np.array([(across, down), (1 - across, down), (1 - across, 1 - down), (across, 1 - down)])
    u, v = weights[:, :1], weights[:, 1:]
    inner = (1 - v) * ((1 - u) * quad[0] + u * quad[1]) + v * ((1 - u) * quad[3] + u * quad[2])
    normal = np.cross(quad[1] - quad[3], quad[2] - quad[0])
    normal /= max(float(np.linalg.norm(normal)), 1e-9)
    center = inner.mean(axis=0)
    outwards = center - (center[0] * 0.6, 0, center[2] - 0.3)
    return inner + 0.008 * normal * np.sign(normal @ outwards)
