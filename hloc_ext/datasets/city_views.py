"""Street views of made-up cities with depth and pose, by day and by night: what city pairs are cut from.

A folder holds one city:

    NNNN_day.jpg, NNNN_night.jpg   the same camera, other light, weather, cars and people
    NNNN_depth.png                 16 bits: inverse depth of what does not move, :data:`INVERSE_DEPTH_UNIT`;
                                   0 for the sky and where it is unknown
    NNNN_moving.png                bit 0: something that moves is seen by day, bit 1: by night
    views.npz                      calibration (N, 3, 3), cam_from_world (N, 3, 4), overlap (N, N)

Pixels: the centre of the top-left one is (0, 0). The cities need the extra ``city``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import CorruptFileError, InputError, MissingInputError
from ..formats.atomic import replacing, write_bytes
from .depth_geometry import DepthView, overlap

if TYPE_CHECKING:
    from ..city.datasets.place import Place
    from ..city.views import View
    from ..city.walk import Viewpoint

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

CONDITIONS = ("day", "night")
#: Inverse depth of one step of the depth files, 1/metres: nothing is nearer than half a metre.
INVERSE_DEPTH_UNIT = 2.0 / 65535
#: Fields of view of the cameras (across), degrees.
FIELD_OF_VIEW = (62.0, 78.0)
#: Share of the views that are a walk; the others stand up to 3 m beside it, turned by up to 25 degrees.
_WALK = 0.45
#: Share of the days under clouds.
_OVERCAST = 0.3
#: Views farther apart than this do not overlap enough, metres.
_FAR = 60.0
#: Where the cities lie; it does not matter.
CRS, ORIGIN = "EPSG:32632", (294_000.0, 5_628_000.0)
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92]

# First words of the seeds of what this module draws.
_CAMERA, _PICTURE = 621, 622


@dataclass(frozen=True)
class CityViews:
    """Views of a folder.

    Attributes:
        folder: of the pictures.
        calibration: (N, 3, 3), pixels.
        cam_from_world: (N, 3, 4).
        overlap: (N, N) share of what view i sees that view j sees as well.
    """

    folder: Path
    calibration: Floats
    cam_from_world: Floats
    overlap: Floats

    def __len__(self) -> int:
        return len(self.calibration)

    def picture(self, index: int, condition: str) -> Pixels:
        """Grey picture, (H, W)."""
        return _read(self.folder / f"{index:04d}_{condition}.jpg", cv2.IMREAD_GRAYSCALE)

    def depth_view(self, index: int, condition: str | None = None) -> DepthView:
        """Depth of what does not move, unknown where cars and people hide it; None: at either time."""
        stored = _read(self.folder / f"{index:04d}_depth.png", cv2.IMREAD_UNCHANGED)
        inverse_depth = stored.astype(np.float32) * np.float32(INVERSE_DEPTH_UNIT)
        if condition is not None:
            moving = _read(self.folder / f"{index:04d}_moving.png", cv2.IMREAD_UNCHANGED)
            inverse_depth[moving & (1 << CONDITIONS.index(condition)) > 0] = 0
        return DepthView(inverse_depth, self.calibration[index], self.cam_from_world[index])


def read_views(folder: Path) -> CityViews:
    """Views that :func:`render_views` has finished.

    Raises:
        MissingInputError: there are none.
        CorruptFileError: the list of views is damaged.
    """
    path = Path(folder) / "views.npz"
    try:
        with np.load(path) as data:
            return CityViews(path.parent, data["calibration"], data["cam_from_world"], data["overlap"])
    except FileNotFoundError:
        raise MissingInputError(f"{path} does not exist: render the views of this folder first.") from None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise CorruptFileError(
            f"{path} is damaged ({error}): delete it and render the views again."
        ) from None


def render_views(
    output: Path,
    count: int,
    seed: int,
    size: tuple[int, int] = (288, 384),
    extent: float = 200.0,
    workers: int = 1,
) -> CityViews:
    """Render the views of one city, or what is missing of them.

    Args:
        output: folder of the city; a folder of its own for each seed.
        count: number of views.
        seed: of the city, the cameras, weather and traffic.
        size: (height, width) of the pictures.
        extent: length of the city's sides, metres; 200 m have room for about 140 views.
        workers: number of processes.

    Raises:
        InputError: the city has no room for so many views.
    """
    from ..city.parallel import run_all

    output = Path(output)
    try:
        views = read_views(output)
        if len(views) != count:
            raise InputError(f"{output} holds {len(views)} views, not {count}: choose another folder.")
        return views
    except MissingInputError:
        pass
    studio = _Studio(extent, count, seed, size)
    missing = [index for index in range(count) if not all(path.exists() for path in _files(output, index))]
    run_all(missing, lambda index: studio.render(output, index), workers, f"views of city {seed}")
    views = CityViews(output, studio.calibration, studio.cam_from_world, np.zeros((count, count)))
    views.overlap[:] = _overlaps(views)
    with replacing(output / "views.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            calibration=views.calibration,
            cam_from_world=views.cam_from_world,
            overlap=views.overlap,
        )
    return views


class _Studio:
    """A city and cameras in it; workers that are forked share it."""

    def __init__(self, extent: float, count: int, seed: int, size: tuple[int, int]) -> None:
        from ..city.datasets.place import Place
        from ..city.walk import map_walk, query_viewpoints

        self.place: Place = Place(extent, seed, CRS, ORIGIN)
        self.place.prepare()
        self.size, self.seed = size, seed
        walk = map_walk(self.place.renderer, max(1, math.ceil(_WALK * count)), seed)
        beside = count - len(walk)
        self.viewpoints: list[Viewpoint] = list(walk)
        if beside:
            self.viewpoints += query_viewpoints(self.place.renderer, walk, beside, seed)
        height, width = size
        rng = np.random.default_rng([seed, _CAMERA])
        focal = width / 2 / np.tan(np.radians(rng.uniform(*FIELD_OF_VIEW, count)) / 2)
        self.calibration = np.zeros((count, 3, 3))
        self.calibration[:, 0, 0] = self.calibration[:, 1, 1] = focal
        self.calibration[:, 0, 2], self.calibration[:, 1, 2] = (width - 1) / 2, (height - 1) / 2
        self.calibration[:, 2, 2] = 1
        self.cam_from_world = np.stack([point.cam_from_world.matrix() for point in self.viewpoints])

    def render(self, output: Path, index: int) -> None:
        """Write the files of a view."""
        from ..city.labels import MOVING

        day, night = (self._take(index, condition) for condition in CONDITIONS)
        moves = [np.isin(view.label, MOVING) for view in (day, night)]
        # What is hidden at one time may be seen at the other.
        depth = np.where(moves[0], night.depth, day.depth)
        known = np.isfinite(depth) & ~(moves[0] & moves[1])
        steps = np.round(1 / np.where(known, depth, 1.0) / INVERSE_DEPTH_UNIT)
        stored = np.where(known, np.clip(steps, 1, 65535), 0).astype(np.uint16)
        moving = (moves[0] + 2 * moves[1].astype(np.uint8)).astype(np.uint8)
        pictures: tuple[npt.NDArray[Any], ...] = (day.rgb[..., ::-1], night.rgb[..., ::-1], stored, moving)
        for path, picture in zip(_files(output, index), pictures, strict=True):
            _, data = cv2.imencode(path.suffix, picture, _JPEG if path.suffix == ".jpg" else [])
            write_bytes(path, data.tobytes())

    def _take(self, index: int, condition: str) -> View:
        import pycolmap

        from ..city import light, sensor, views

        rng = np.random.default_rng([self.seed, _PICTURE, index, CONDITIONS.index(condition)])
        if condition == "night":
            weather, flaws = light.night(rng), sensor.Sensor.by_night(rng)
        else:
            weather = light.overcast(rng) if rng.random() < _OVERCAST else light.daylight(rng)
            flaws = sensor.Sensor.by_day(rng)
        height, width = self.size
        focal = self.calibration[index, 0, 0]
        camera = pycolmap.Camera(
            model="PINHOLE", width=width, height=height, params=[focal, focal, width / 2, height / 2]
        )
        x, y, _ = self.viewpoints[index].position
        traffic = self.place.traffic(int(rng.integers(2**31)), near=(x, y), keep_clear=[(x, y, 2.5)])
        return views.photo(
            self.place.renderer,
            camera,
            self.viewpoints[index].cam_from_world,
            weather,
            moving=traffic,
            sensor=flaws,
            seed=int(rng.integers(2**31)),
        )


def _overlaps(views: CityViews) -> Floats:
    """Overlap of all ordered pairs, (N, N); 1 on the diagonal."""
    seen = [views.depth_view(index) for index in range(len(views))]
    centers = np.stack([-view.cam_from_world[:, :3].T @ view.cam_from_world[:, 3] for view in seen])
    overlaps = np.eye(len(seen))
    for i, j in np.argwhere(np.linalg.norm(centers[:, None] - centers[None], axis=2) < _FAR):
        if i != j:
            overlaps[i, j] = overlap(seen[i], seen[j])
    return overlaps


def _files(output: Path, index: int) -> list[Path]:
    names = ("day.jpg", "night.jpg", "depth.png", "moving.png")
    return [output / f"{index:04d}_{name}" for name in names]


def _read(path: Path, mode: int) -> npt.NDArray[Any]:
    picture = cv2.imread(str(path), mode)
    if picture is None:
        problem = "cannot be read" if path.exists() else "does not exist"
        raise CorruptFileError(f"{path} {problem}: delete it and views.npz, and render the views again.")
    return picture
