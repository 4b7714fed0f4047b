"""Layout of Aachen Day-Night, v1.0 and v1.1 in one folder.

    images_upright/db/1.jpg              map photos: a walk round the blocks of a city, by day
    images_upright/query/day/milestone/, nexus4/, nexus5x/   queries by day
    images_upright/query/night/nexus5x/  queries by night: lamps, lit windows, noise, blur
    queries/{day,night}_time_queries_with_intrinsics.txt     name MODEL width height params
    3D-models/aachen_cvpr2018_db.nvm, database_intrinsics.txt, aachen.db   reference model of v1.0
    3D-models/aachen_v_1_1/              the same model as v1.1 has it
    ground_truth/                        (not in Aachen) COLMAP model: exact poses of all images
    depth/{image}.h5                     (not in Aachen, on request) dataset `depth`: z in the camera frame,
                                         metres, 0 for the sky, as in MegaDepth
    labels/{image}.png                   (not in Aachen, on request) classes (hloc_ext.city.labels)

Poses are world→camera, in metres; the world is the scene frame (x east, y north, z up), and the poses of the
reference model are exact, too. Its points are corners of the map photos, at their exact place in space, seen
by all photos in which nothing hides them; none is on a car or a person. Light and weather, cars and people
are the same in 20 photos of the map, which is walked on three days, and others in each query. A query is at
most 3 m from a map photo, and its heading is turned by at most 25 degrees against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pycolmap

from ...formats import aachen
from ...formats.atomic import replacing
from ...formats.colmap import model_files, write_model
from .. import light, sensor, views
from ..mesh import Mesh
from ..parallel import run_all
from ..walk import Viewpoint, map_walk, query_viewpoints
from .exact_model import Observer, reference_model
from .files import camera_exif, exist, write_jpeg, write_png
from .place import Place

#: Extent of the city in metres; numbers of map photos, queries by day and by night.
SIZES = {
    "small": (200.0, 60, 16, 8),
    "medium": (420.0, 600, 120, 40),
    "large": (1100.0, 4328, 824, 98),
}
CRS, ORIGIN = "EPSG:32632", (294_000.0, 5_628_000.0)
#: Map photos one after the other that are taken at the same moment.
PHOTOS_PER_MOMENT = 20
#: Share of the moments of the map, and of the queries by day, that are under clouds.
OVERCAST = 0.3
#: Cars and people keep away from the cameras, metres.
CLEARANCE = 2.5
GROUND_TRUTH = "ground_truth"

# First words of the seeds of what this module draws.
_DAY, _NIGHT, _MOMENT, _SENSOR, _ABOVE = 581, 582, 583, 584, 585


def _camera(width: int, height: int, focal_length: float, distortion: float) -> pycolmap.Camera:
    params = [focal_length, width / 2, height / 2, distortion]
    return pycolmap.Camera(model="SIMPLE_RADIAL", width=width, height=height, params=params)


#: Cameras of the map, each for some moments, and of the queries.
MAP_CAMERAS = (
    _camera(800, 600, 618.0, -0.021),
    _camera(840, 560, 640.0, -0.034),
    _camera(816, 612, 667.0, 0.012),
)
QUERY_CAMERAS = {
    "query/day/milestone": _camera(800, 600, 671.0, -0.045),
    "query/day/nexus4": _camera(600, 800, 646.0, 0.018),
    "query/day/nexus5x": _camera(800, 600, 627.0, -0.008),
    "query/night/nexus5x": _camera(800, 600, 627.0, -0.008),
}


@dataclass(frozen=True)
class Photo:
    """A photo to be taken.

    Attributes:
        name: below ``images_upright``.
        condition: ``map``, ``day`` or ``night``.
        camera: number of the camera, from 1.
        moment: number of the moment, of all.
    """

    name: str
    condition: str
    camera: int
    moment: int


def write(output: Path, size: str, seed: int, workers: int, depth: bool = False) -> None:
    """Write an Aachen of a made-up city, or what is missing of it.

    Args:
        output: its folder.
        size: key of :data:`SIZES`.
        seed: of the city and its photos.
        workers: number of processes.
        depth: write depth and classes of all photos, too.
    """
    photos = list_photos(size)
    cameras = [*MAP_CAMERAS, *QUERY_CAMERAS.values()]
    missing = [i for i, photo in enumerate(photos) if not exist(_files(output, photo, depth))]
    if not missing and model_files(output / GROUND_TRUTH):
        return
    studio = _Studio(photos, cameras, SIZES[size][0], seed)

    def take(index: int) -> None:
        photo = photos[index]
        camera = cameras[photo.camera - 1]
        focal_length = math.hypot(24, 36) * camera.params[0] / math.hypot(camera.width, camera.height)
        exif = camera_exif("hloc_ext", f"camera {photo.camera}", focal_length)
        _write_photo(output, photo, studio.take(index), exif, depth)

    run_all(missing, take, workers, "photos")
    cameras_by_condition: dict[str, dict[str, pycolmap.Camera]] = {"day": {}, "night": {}}
    for photo in photos:
        if photo.condition != "map":
            cameras_by_condition[photo.condition][photo.name] = cameras[photo.camera - 1]
    aachen.write_query_lists(output, cameras_by_condition)
    reference = reference_model(
        [studio.observer(i, output) for i, photo in enumerate(photos) if photo.condition == "map"],
        studio.place.renderer,
        output / ".reference",
        workers,
    )
    for version in aachen.VERSIONS:
        aachen.write_reference(output, reference, version)
    write_model(studio.ground_truth(), output / GROUND_TRUTH)


def list_photos(size: str) -> list[Photo]:
    """The photos of a data set: those of the map, then queries by day, then by night.

    Args:
        size: key of :data:`SIZES`.
    """
    _, num_map, num_day, num_night = SIZES[size]
    photos = []
    for index in range(num_map):
        moment = index // PHOTOS_PER_MOMENT
        photos.append(Photo(f"db/{index + 1}.jpg", "map", moment % len(MAP_CAMERAS) + 1, moment))
    moment = max(photo.moment for photo in photos)
    start = datetime(2013, 2, 10, 12, 30)
    for condition, count in (("day", num_day), ("night", num_night)):
        folders = [name for name in QUERY_CAMERAS if name.startswith(f"query/{condition}/")]
        for index in range(count):
            folder = folders[index % len(folders)]
            # A day of queries every second minute would not end before the night.
            taken = start + timedelta(days=index // 60, minutes=2 * (index % 60) + 11, seconds=index * 7 % 60)
            if condition == "night":
                taken += timedelta(days=400, hours=8)
            camera = len(MAP_CAMERAS) + 1 + list(QUERY_CAMERAS).index(folder)
            name = f"{folder}/IMG_{taken:%Y%m%d_%H%M%S}.jpg"
            moment += 1
            photos.append(Photo(name, condition, camera, moment))
    return photos


def ortho_picture(
    size: str, seed: int, bounds: tuple[float, float, float, float], pixel_size: float
) -> npt.NDArray[np.uint8]:
    """The city of a data set from above, by day, (H, W, 3), RGB, north up.

    Args:
        size, seed: of the data set.
        bounds: (min x, min y, max x, max y), metres in the scene frame.
        pixel_size: metres.
    """
    place = Place(SIZES[size][0], seed, CRS, ORIGIN)
    rng = np.random.default_rng([seed, _ABOVE])
    center = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    radius = math.dist(bounds[:2], bounds[2:]) / 2
    traffic = place.traffic(int(rng.integers(2**31)), near=center, radius=radius)
    return views.ortho(place.renderer, bounds, pixel_size, light.daylight(rng), moving=traffic).rgb


class _Studio:
    """A city with its photographers; workers that are forked from this process share it.

    Attributes:
        place: the city.
        viewpoints: of the photos.
    """

    def __init__(self, photos: list[Photo], cameras: list[pycolmap.Camera], extent: float, seed: int) -> None:
        self.place = Place(extent, seed, CRS, ORIGIN)
        self.place.prepare()
        self._photos, self._cameras, self._seed = photos, cameras, seed
        renderer = self.place.renderer
        numbers = [sum(p.condition == condition for p in photos) for condition in ("map", "day", "night")]
        walk = map_walk(renderer, numbers[0], seed)
        self.viewpoints: list[Viewpoint] = [
            *walk,
            *query_viewpoints(renderer, walk, numbers[1], seed * 1000 + _DAY),
            *query_viewpoints(renderer, walk, numbers[2], seed * 1000 + _NIGHT),
        ]
        self.traffic: Callable[[int], Mesh] = lru_cache(maxsize=4)(self._traffic)

    def _traffic(self, moment: int) -> Mesh:
        """Cars and people of a moment around its photos."""
        places = np.array(
            [
                viewpoint.position[:2]
                for photo, viewpoint in zip(self._photos, self.viewpoints, strict=True)
                if photo.moment == moment
            ]
        )
        center = places.mean(axis=0)
        radius = float(np.linalg.norm(places - center, axis=1).max()) + 90
        clear = [(float(x), float(y), CLEARANCE) for x, y in places]
        seed = int(np.random.default_rng([self._seed, _MOMENT, moment, 1]).integers(2**31))
        return self.place.traffic(seed, near=(center[0], center[1]), radius=radius, keep_clear=clear)

    def take(self, index: int) -> views.View:
        """Take a photo."""
        photo = self._photos[index]
        rng = np.random.default_rng([self._seed, _MOMENT, photo.moment])
        if photo.condition == "night":
            weather = light.night(rng)
        else:
            weather = light.overcast(rng) if rng.random() < OVERCAST else light.daylight(rng)
        rng = np.random.default_rng([self._seed, _SENSOR, index])
        flaws = sensor.Sensor.by_night(rng) if photo.condition == "night" else sensor.Sensor.by_day(rng)
        return views.photo(
            self.place.renderer,
            self._cameras[photo.camera - 1],
            self.viewpoints[index].cam_from_world,
            weather,
            moving=self.traffic(photo.moment),
            sensor=flaws,
            seed=int(rng.integers(2**31)),
        )

    def observer(self, index: int, output: Path) -> Observer:
        """A photo that exists, as the reference model needs it."""
        photo = self._photos[index]
        return Observer(
            name=photo.name,
            path=output / aachen.IMAGES / photo.name,
            camera=self._with_id(photo.camera),
            cam_from_world=self.viewpoints[index].cam_from_world,
            traffic=lambda: self.traffic(photo.moment),
        )

    def ground_truth(self) -> pycolmap.Reconstruction:
        """True poses of all photos."""
        model = pycolmap.Reconstruction()
        for number in sorted({photo.camera for photo in self._photos}):
            model.add_camera_with_trivial_rig(self._with_id(number))
        for number, (photo, viewpoint) in enumerate(zip(self._photos, self.viewpoints, strict=True), 1):
            image = pycolmap.Image(name=photo.name, camera_id=photo.camera, image_id=number)
            model.add_image_with_trivial_frame(image, viewpoint.cam_from_world)
        return model

    def _with_id(self, number: int) -> pycolmap.Camera:
        camera = pycolmap.Camera(self._cameras[number - 1].todict())
        camera.camera_id = number
        camera.has_prior_focal_length = True
        return camera


def _files(output: Path, photo: Photo, depth: bool) -> list[Path]:
    """Files of a photo: the picture, and on request depth and classes."""
    extra = [output / "depth" / f"{photo.name}.h5", output / "labels" / f"{photo.name}.png"]
    return [output / aachen.IMAGES / photo.name, *(extra if depth else [])]


def _write_photo(output: Path, photo: Photo, view: views.View, exif: bytes, depth: bool) -> None:
    picture, *extra = _files(output, photo, depth)
    if extra:
        with replacing(extra[0]) as temporary, h5py.File(temporary, "w") as file:
            values = np.where(np.isfinite(view.depth), view.depth, 0)
            file.create_dataset("depth", data=values, compression="gzip", compression_opts=3, shuffle=True)
        write_png(extra[1], view.label)
    write_jpeg(picture, view.rgb, exif)
