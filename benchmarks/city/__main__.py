"""Measure the procedural city: ``python -m benchmarks.city [--photos FOLDER] [--output FOLDER]``.

Parts: ``speed`` (seconds per picture on one core, memory), ``exactness`` (ground truth against itself, SIFT
    and
the layers), ``realism`` (statistics of views beside those of photos; needs ``--photos``), ``pictures`` (those
of docs/city.md; needs ``--output``).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from benchmarks.machine import describe_machine
from hloc_ext.city.labels import Label
from hloc_ext.city.light import daylight, night, overcast
from hloc_ext.city.render import Renderer
from hloc_ext.city.scene import make_city
from hloc_ext.city.sensor import Sensor
from hloc_ext.city.streets.moving import moving_mesh
from hloc_ext.city.views import View, ortho, panorama, photo
from hloc_ext.city.walk import Viewpoint

from . import exactness, pictures, realism
from .viewpoints import moved, random_viewpoints

PARTS = ("speed", "exactness", "realism", "pictures")


def camera(width: int = 640, height: int = 480) -> pycolmap.Camera:
    """A camera with a field of view of 65° and some distortion."""
    focal = 0.78 * width
    return pycolmap.Camera(
        model="SIMPLE_RADIAL", width=width, height=height, params=[focal, width / 2, height / 2, -0.04]
    )


class Studio:
    """Takes pictures of one city."""

    def __init__(self, extent: float, seed: int) -> None:
        start = time.perf_counter()
        self.city = make_city(extent, seed)
        self.making = time.perf_counter() - start
        start = time.perf_counter()
        self.renderer = Renderer(self.city)
        self.preparing = time.perf_counter() - start

    def moving(self, view: Viewpoint, seed: int) -> Any:
        """Cars and people near a camera."""
        x, y, _ = view.position
        clear = [(x, y, 4.0)]
        return moving_mesh(self.city.plan, self.city.textures, seed, near=(x, y), keep_clear=clear)

    def photo(self, view: Viewpoint, seed: int, light: Callable[..., Any] = daylight) -> View:
        """A photo with noise and moving things; everything depends on the seed."""
        rng = np.random.default_rng([seed, 11])
        sensor = Sensor.by_night(rng) if light is night else Sensor.by_day(rng)
        moving = self.moving(view, seed)
        return photo(self.renderer, camera(), view.cam_from_world, light(rng), moving, sensor, seed)


def seconds(function: Callable[[int], object], repeats: int) -> float:
    """Median time of a call, the first not counted."""
    function(0)
    times = []
    for i in range(repeats):
        start = time.perf_counter()
        function(i)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def speed(studio: Studio, repeats: int) -> None:
    """Print seconds per picture, of one process, and its peak memory."""
    views = random_viewpoints(studio.renderer, repeats, 1)
    light = daylight(np.random.default_rng(0))
    triangles = len(studio.city.mesh)
    print(
        f"making the city: {studio.making:.1f} s, {triangles} triangles;"
        f" BVH and sky: {studio.preparing:.1f} s"
    )

    def show(what: str, function: Callable[[int], object]) -> None:
        print(f"{what:58} {seconds(function, repeats):6.2f} s")

    show("cars and people of a moment", lambda i: studio.moving(views[i], i))
    show("photo 640x480, day, depth, classes, cars, noise", lambda i: studio.photo(views[i], i))
    show("photo 640x480, night", lambda i: studio.photo(views[i], i, night))
    for name, width, height, up in (
        ("CVUSA", 1232, 224, 32.6),
        ("CVACT", 1664, 832, 90),
        ("VIGOR", 2048, 1024, 90),
    ):

        def take(i: int, size: tuple[int, int] = (width, height), up: float = up) -> View:
            moving = studio.moving(views[i], i)
            return panorama(studio.renderer, views[i].position, *size, light, moving, (-up, up))

        show(f"panorama {width}x{height} ({name})", take)
    show(
        "ortho 640x640 at 0.11 m",
        lambda i: ortho(studio.renderer, _around(views[i].position, 35.2), 0.11, light),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process: {peak:.0f} MiB")


def exact(studio: Studio, repeats: int) -> None:
    """Print how well the pictures agree."""
    views = random_viewpoints(studio.renderer, repeats, 2)
    reprojected, epipolar = [], []
    for seed, view in enumerate(views):
        other = moved(view, right=1.2, ahead=1.0, turn=4.0)
        first, second = studio.photo(view, seed), studio.photo(other, seed)
        poses = (view.cam_from_world, other.cam_from_world)
        reprojected.append(exactness.reprojection_errors(first, second, camera(), poses))
        epipolar.append(exactness.epipolar_errors(first, second, camera(), poses))
    _quantiles("depth from one photo to another and back (px)", np.concatenate(reprojected))
    _quantiles(f"SIFT, distance from epipolar lines (px), {len(views)} pairs", np.concatenate(epipolar))
    light = daylight(np.random.default_rng(0))
    turns: list[float] = []
    layers: dict[Label, list[exactness.Floats]] = {
        label: [] for label in (Label.ROAD, Label.SIDEWALK, Label.BUILDING)
    }
    plan = studio.city.plan
    polygons = {
        Label.ROAD: [plan.roads],
        Label.SIDEWALK: [plan.sidewalks, plan.plazas],
        Label.BUILDING: [building.footprint for building in plan.buildings],
    }
    for view in views:
        bounds = _around(view.position, 40)
        tile = ortho(studio.renderer, bounds, 0.25, light)
        whole = panorama(studio.renderer, view.position, 1024, 512, light)
        turns.append(abs(exactness.azimuth_error(whole, view.position, tile, bounds)))
        # Drawn four times as fine, for parts of a pixel.
        bounds = _around(view.position, 20)
        fine = ortho(studio.renderer, bounds, 0.0625, light)
        fine.label[fine.label == Label.CROSSING] = Label.ROAD
        for label, shapes in polygons.items():
            layers[label].append(exactness.boundary_distances(fine, label, shapes, bounds) / 4)
    for label, distances in layers.items():
        _quantiles(f"layer against ortho, {label.name.lower()} (px of 0.25 m)", np.concatenate(distances))
    _quantiles("panorama against tile (degrees)", np.array(turns))


def real(studio: Studio, photos: Path, count: int) -> None:
    """Print statistics of views and of photos."""
    views = random_viewpoints(studio.renderer, count, 3)
    lights = [daylight, daylight, daylight, overcast]
    rendered = [studio.photo(view, i, lights[i % len(lights)]).rgb for i, view in enumerate(views)]
    sets = {f"{count} views, by day": rendered, f"{count} photos": realism.read_photos(photos, count)}
    print("median [quartiles]", *realism.table(sets), sep="\n")


def draw(studio: Studio, output: Path) -> None:
    """Write the pictures of the documentation."""
    views = random_viewpoints(studio.renderer, 24, 4)
    lights = [daylight, daylight, overcast, daylight, daylight, night]
    taken = [studio.photo(view, i, lights[i % len(lights)]) for i, view in enumerate(views)]
    pictures.save(output / "city_views.jpg", pictures.contact_sheet([view.rgb for view in taken], 6, 400))
    pictures.save(output / "city_ground_truth.jpg", pictures.ground_truth_strip(taken[1], 480))
    light = daylight(np.random.default_rng(5))
    position = (*views[0].position[:2], 2.5)
    moving = studio.moving(views[0], 5)
    whole = panorama(studio.renderer, position, 2048, 1024, light, moving)
    pictures.save(output / "city_panorama.jpg", whole.rgb[200:824])
    tile = ortho(studio.renderer, _around(position, 40), 0.1, light, moving)
    pictures.save(output / "city_tile.jpg", tile.rgb)


def _around(position: tuple[float, float, float], half: float) -> tuple[float, float, float, float]:
    x, y, _ = position
    return x - half, y - half, x + half, y + half


def _quantiles(what: str, values: np.ndarray) -> None:
    middle, ninety = np.percentile(values, (50, 90))
    print(f"{what:58} median {middle:7.3f}   90 % {ninety:7.3f}   n = {len(values)}")


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.city", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--photos", type=Path, help="folder of photos to compare with")
    parser.add_argument("--extent", type=float, default=200.0, help="side of the city, metres")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--views", type=int, default=100, help="views and photos of the part realism")
    parser.add_argument("--output", type=Path, help="folder of the pictures")
    args = parser.parse_args()
    for part, value in (("realism", args.photos), ("pictures", args.output)):
        if part in args.parts and value is None and args.parts != PARTS:
            parser.error(f"the part {part} needs --{'photos' if part == 'realism' else 'output'}")
    print(*describe_machine(), sep="\n")
    studio = Studio(args.extent, args.seed)
    if "speed" in args.parts:
        speed(studio, args.repeats)
    if "exactness" in args.parts:
        exact(studio, args.repeats)
    if "realism" in args.parts and args.photos is not None:
        real(studio, args.photos, args.views)
    if "pictures" in args.parts and args.output is not None:
        draw(studio, args.output)


if __name__ == "__main__":
    main()
