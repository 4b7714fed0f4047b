"""Photos, panoramas and ortho tiles of a city, each with depth and classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import pycolmap

from . import shading
from .light import Light
from .mesh import Mesh
from .pyramids import linear_to_srgb
from .render import Floats, Renderer, Triangles
from .sensor import Sensor, develop, exposure

#: Pixels whose neighbours differ by more than this (sRGB, 1 = white) are drawn again, from several rays.
_CONTRAST = 0.06
#: Where those rays go, in pixels from the centre, whose ray counts as well.
_SUBPIXELS = ((-0.1, -0.38), (0.38, 0.1), (-0.28, 0.28))

Rays = Callable[[Floats, Floats], tuple[Floats, Floats]]


@dataclass
class View:
    """A picture with its ground truth.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32, metres, at the centres of the pixels; inf for the sky. Photos: z in the camera
            frame;
            panoramas: distance from the camera; ortho tiles: **height** above the roads.
        label: (H, W) uint8, :class:`~hloc_ext.city.labels.Label`.
    """

    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]


def photo(
    renderer: Renderer,
    camera: pycolmap.Camera,
    cam_from_world: pycolmap.Rigid3d,
    light: Light,
    moving: Mesh | None = None,
    sensor: Sensor | None = None,
    seed: int = 0,
) -> View:
    """A perspective photo.

    Args:
        renderer: of the city.
        camera: any camera model of COLMAP; the centre of its top-left pixel is (0.5, 0.5).
        cam_from_world: pose; the world is the scene frame.
        light: sun, sky and lamps.
        moving: cars and people of the moment.
        sensor: imperfections of the camera, or None.
        seed: of the noise.
    """
    world_from_cam = cam_from_world.inverse()
    center = np.asarray(world_from_cam.translation)
    rotation = np.ascontiguousarray(world_from_cam.rotation.matrix())
    grid = _directions(camera)

    def rays(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        directions = np.empty((len(x), 3))
        shading.directions_at(grid, x, y, rotation, directions)
        return np.broadcast_to(center, directions.shape), directions

    spread = 1.0 / float(np.mean([camera.focal_length_x, camera.focal_length_y]))
    view = _draw(renderer, rays, (camera.height, camera.width), light, moving, sensor, seed, spread=spread)
    z = 1 / np.linalg.norm(grid[1:-1, 1:-1], axis=2)
    view.depth *= z.astype(np.float32)
    return view


def panorama(
    renderer: Renderer,
    position: tuple[float, float, float],
    width: int,
    height: int,
    light: Light,
    moving: Mesh | None = None,
    elevation: tuple[float, float] = (-90.0, 90.0),
    sensor: Sensor | None = None,
    seed: int = 0,
) -> View:
    """An equirectangular panorama; grid north is at its centre column, azimuth grows to the right.

    The centre of column u has azimuth ((u + 0.5) / width − 0.5) · 360° clockwise from north.

    Args:
        renderer: of the city.
        position: of the camera, metres in the scene frame.
        width, height: pixels.
        light: sun, sky and lamps.
        moving: cars and people of the moment.
        elevation: of the lower and the upper border, degrees; rows are linear in it.
        sensor: imperfections of the camera, or None. There is no vignetting.
        seed: of the noise.
    """
    low, high = np.radians(elevation)

    def rays(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        directions = np.empty((len(x), 3))
        shading.panorama_directions(x, y, width, height, low, high, directions)
        return np.broadcast_to(np.asarray(position, float), directions.shape), directions

    spread = (high - low) / height
    return _draw(renderer, rays, (height, width), light, moving, sensor, seed, spread=spread)


def ortho(
    renderer: Renderer,
    bounds: tuple[float, float, float, float],
    pixel_size: float,
    light: Light,
    moving: Mesh | None = None,
    sensor: Sensor | None = None,
    seed: int = 0,
    exposure_factor: float | None = None,
) -> View:
    """A true ortho picture, north up: every ray is vertical. There is no haze.

    Args:
        renderer: of the city.
        bounds: (min x, min y, max x, max y), metres in the scene frame; whole pixels are drawn from the upper
            left.
        pixel_size: metres.
        light: sun, sky and lamps.
        moving: cars and people of the moment.
        sensor: imperfections of the camera, or None.
        seed: of the noise.
        exposure_factor: brightness; the same for tiles that are to fit together. None: chosen for this one.
    """
    min_x, min_y, max_x, max_y = bounds
    width, height = round((max_x - min_x) / pixel_size), round((max_y - min_y) / pixel_size)
    top = 1000.0

    def rays(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        origins = np.stack([min_x + x * pixel_size, max_y - y * pixel_size, np.full(len(x), top)], axis=1)
        return origins, np.broadcast_to(np.array([0.0, 0.0, -1.0]), origins.shape)

    view = _draw(
        renderer,
        rays,
        (height, width),
        replace(light, haze=0.0),
        moving,
        sensor,
        seed,
        width=pixel_size,
        factor=exposure_factor,
    )
    view.depth = (top - view.depth).astype(np.float32)
    return view


def _draw(
    renderer: Renderer,
    rays: Rays,
    shape: tuple[int, int],
    light: Light,
    moving: Mesh | None,
    sensor: Sensor | None,
    seed: int,
    spread: float = 0.0,
    width: float = 0.0,
    factor: float | None = None,
) -> View:
    """Draw one ray per pixel, then several where neighbours differ (adaptive supersampling)."""
    moving_triangles = Triangles(moving) if moving is not None and len(moving) else None
    y, x = np.indices(shape).reshape(2, -1).astype(np.float64) + 0.5
    samples = renderer.sample(*rays(x, y), light, moving_triangles, spread=spread, width=width)
    radiance = samples.radiance.reshape(*shape, 3)
    if factor is None:
        factor = exposure(radiance, light)
    if light.is_night:
        # One of the several rays may meet a lamp: without a limit it would outshine the others.
        np.minimum(radiance, 3.0 / factor, out=radiance)
    uneven = np.flatnonzero(_uneven(radiance, samples.key.reshape(shape), factor))
    flat = radiance.reshape(-1, 3)
    total = np.minimum(flat[uneven], 3.0 / factor)
    x, y = x[uneven], y[uneven]
    for dx, dy in _SUBPIXELS:
        again = renderer.sample(
            *rays(x + dx, y + dy), light, moving_triangles, spread=0.5 * spread, width=0.5 * width, max_taps=1
        )
        total += np.minimum(again.radiance, 3.0 / factor)
    flat[uneven] = total / (1 + len(_SUBPIXELS))
    rgb = develop(radiance, light, factor, sensor, np.random.default_rng([seed, 77]))
    return View(rgb, samples.distance.reshape(shape), samples.label.reshape(shape))


def _uneven(
    radiance: npt.NDArray[np.float32], key: npt.NDArray[np.uint16], factor: float
) -> npt.NDArray[np.bool_]:
    """Pixels that show another surface than a neighbour and differ from one in brightness, (H, W).

    Within a surface no further rays are needed: its picture is averaged over the pixel already.
    """
    luminance = radiance @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    tone = linear_to_srgb(luminance * factor)
    kernel = np.ones((3, 3), np.uint8)
    contrast = cv2.dilate(tone, kernel) - cv2.erode(tone, kernel)
    return (contrast > _CONTRAST) & (cv2.dilate(key, kernel) != cv2.erode(key, kernel))


def _directions(camera: pycolmap.Camera) -> Floats:
    """Directions (x, y, 1) of the centres of the pixels and of a border of one pixel, (H + 2, W + 2, 3)."""
    return _grid(camera.model.name, camera.width, camera.height, tuple(camera.params))


@lru_cache(maxsize=4)
def _grid(model: str, width: int, height: int, params: tuple[float, ...]) -> Floats:
    camera = pycolmap.Camera(model=model, width=width, height=height, params=params)
    rows, columns = np.indices((height + 2, width + 2)).reshape(2, -1)
    pixels = np.stack([columns - 0.5, rows - 0.5], axis=1).astype(np.float64)
    x, y = np.asarray(camera.cam_from_img(pixels)).T
    return np.stack([x, y, np.ones_like(x)], axis=1).reshape(height + 2, width + 2, 3)
