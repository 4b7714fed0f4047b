"""A city on the Earth, and panoramas of it; what the cross-view and the GIS data sets share."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from shapely import contains_xy

from ...errors import InputError
from .. import cache, light, render, sensor, views
from ..layers import to_wgs84
from ..mesh import Mesh
from ..plan import CityPlan, Street
from ..streets import moving

Bounds = tuple[float, float, float, float]

#: Height of the panorama cameras over the road, metres.
CAMERA_HEIGHT = 2.5
#: Nothing that moves is nearer to them, metres.
CLEARANCE = 4.0
#: Share of the panoramas that are taken under clouds.
OVERCAST = 0.25

# First words of the seeds of what this module draws.
_PANORAMA = 501
_VIEWPOINTS = 502
_IDS = 503


class Place:
    """A city and its renderer; workers that are forked from this process share both.

    Attributes:
        city: the city.
        seed: what its pictures are drawn from.
    """

    def __init__(self, extent: float, seed: int, crs: str, origin: tuple[float, float]) -> None:
        """Make the city or take it from the cache.

        Args:
            extent: length of its sides, metres.
            seed: of the city and its pictures.
            crs: ``EPSG:…`` of a UTM zone.
            origin: easting and northing of the scene frame's origin.
        """
        self.city = cache.cached_city(extent, seed, crs=crs, origin=origin)
        self.seed = seed

    @property
    def plan(self) -> CityPlan:
        """Plan of the city."""
        return self.city.plan

    @cached_property
    def renderer(self) -> render.Renderer:
        """The renderer, built when it is first needed."""
        return render.Renderer(self.city)

    def prepare(self) -> None:
        """Build the renderer now, so that processes that are forked later share it."""
        _ = self.renderer

    def projected(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Easting and northing of points of the scene frame, (N, 2) → (N, 2)."""
        return np.asarray(points, np.float64) + self.plan.origin

    def geographic(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Latitude and longitude (WGS84, degrees) of points of the scene frame, (N, 2) → (N, 2)."""
        return to_wgs84(self.plan, points)

    def traffic(self, seed: int, **options: Any) -> Mesh:
        """Cars and people of one moment; `options` of :func:`~hloc_ext.city.streets.moving.moving_mesh`."""
        return moving.moving_mesh(self.plan, self.city.textures, seed, **options)

    def panorama(
        self,
        index: int,
        position: npt.NDArray[np.float64],
        width: int,
        height: int,
        elevation: tuple[float, float] = (-90.0, 90.0),
    ) -> views.View:
        """A 360° picture from a street, with weather, cars and people of its own; north at the centre.

        Args:
            index: of the picture; it and the seed decide about the weather.
            position: x and y in the scene frame.
            width, height: pixels.
            elevation: of the lower and the upper edge, degrees; rows are linear in elevation.
        """
        rng = np.random.default_rng([self.seed, _PANORAMA, index])
        weather = light.overcast(rng) if rng.random() < OVERCAST else light.daylight(rng)
        x, y = (float(value) for value in position)
        traffic = self.traffic(int(rng.integers(2**31)), near=(x, y), keep_clear=[(x, y, CLEARANCE)])
        return views.panorama(
            self.renderer,
            (x, y, CAMERA_HEIGHT),
            width,
            height,
            weather,
            moving=traffic,
            elevation=elevation,
            sensor=replace(sensor.Sensor.by_day(rng), vignetting=0.0),
            seed=int(rng.integers(2**31)),
        )


def enlarged(picture: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A picture in the size (width, height), (H, W, 3); as it is if it has that size."""
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def street_viewpoints(plan: CityPlan, count: int, region: Bounds, seed: int) -> npt.NDArray[np.float64]:
    """Places of a camera car: on the lanes of the streets, 8 to 15 m apart where the city is large enough.

    Args:
        plan: the city.
        count: number of places.
        region: (min x, min y, max x, max y) that they lie in.
        seed: what they are drawn from.

    Returns:
        (count, 2) x and y, in random order.

    Raises:
        InputError: the region has too few metres of street.
    """
    rng = np.random.default_rng([seed, _VIEWPOINTS])
    for spacing in 15 * 0.9 ** np.arange(12):
        points = np.concatenate(
            [np.empty((0, 2)), *(_along(street, spacing, rng) for street in plan.streets)]
        )
        x, y = points.T
        inside = (x >= region[0]) & (x < region[2]) & (y >= region[1]) & (y < region[3])
        points = points[inside & contains_xy(plan.roads, x, y)]
        if len(points) >= count:
            return points[rng.permutation(len(points))[:count]]
    raise InputError(
        f"The streets of the city of seed {seed} have no room for {count} panoramas: try another seed."
    )


def _along(street: Street, spacing: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Points on the lanes of a street, on either side of its centre line."""
    steps = np.diff(street.centreline, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    steps, lengths = steps[lengths > 0], lengths[lengths > 0]
    starts = street.centreline[:-1][np.linalg.norm(np.diff(street.centreline, axis=0), axis=1) > 0]
    ends = np.cumsum(lengths)
    count = int(ends[-1] / spacing) if len(ends) else 0
    along = (np.arange(count) + 0.5 + rng.uniform(-0.1, 0.1, count)) * spacing
    side = rng.choice([-1.0, 1.0], count) * (street.width / 4 if street.lanes > 1 else 0.0)
    side += rng.uniform(-0.3, 0.3, count)
    if not count:
        return np.empty((0, 2))
    segment = np.minimum(np.searchsorted(ends, along, side="right"), len(ends) - 1)
    direction = steps[segment] / lengths[segment, None]
    rest = along - (ends[segment] - lengths[segment])
    left = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    return starts[segment] + rest[:, None] * direction + side[:, None] * left


def pano_ids(count: int, seed: int) -> list[str]:
    """Names of panoramas, 22 characters like those of street-view services; all different."""
    letters = np.array([*"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"])
    rng = np.random.default_rng([seed, _IDS])
    drawn = letters[rng.integers(0, 64, (count, 22))]
    # A name that begins with a dash looks like an option to command lines.
    drawn[:, 0] = letters[rng.integers(0, 62, count)]
    return ["".join(row) for row in drawn]


def web_pixel_size(latitude: float, zoom: int) -> float:
    """Metres on the ground that a pixel of a web map's tile covers."""
    return 156543.03392 * math.cos(math.radians(latitude)) / 2**zoom


def inner(bounds: Bounds, margin: float) -> Bounds:
    """Bounds without a margin on each side."""
    return (bounds[0] + margin, bounds[1] + margin, bounds[2] - margin, bounds[3] - margin)


def northernmost(points: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.bool_]:
    """Which points are the northernmost `share` of all, (N,)."""
    chosen = np.zeros(len(points), bool)
    chosen[np.argsort(-points[:, 1], kind="stable")[: round(share * len(points))]] = True
    return chosen
