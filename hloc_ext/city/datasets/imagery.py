"""Aerial imagery: a city is drawn once, in blocks, into a GeoTIFF; tiles are cut out of it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window

from ...formats.atomic import replacing
from .. import light, sensor, views
from ..gdal_errors import explaining_gdal
from ..labels import Label
from ..parallel import run_all
from .files import read_png, write_png
from .place import Bounds, Place

#: Side of the blocks that are drawn at a time, pixels.
BLOCK = 512
#: Cars and people are placed so far around a block, metres: they throw shadows into it, and where two of them
#: meet, one gives way in all blocks alike.
_REACH = 30.0

# First words of the seeds of what this module draws.
_IMAGERY = 511
_VARIATION = 512

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mosaic:
    """North-up imagery of a whole city.

    Attributes:
        path: RGB GeoTIFF.
        labels_path: GeoTIFF of the classes, with the same pixels.
        bounds: (min x, min y, max x, max y), metres in the scene frame.
        pixel_size: metres.
        width, height: pixels.
    """

    path: Path
    labels_path: Path
    bounds: Bounds
    pixel_size: float
    width: int
    height: int

    @property
    def pixel_from_scene(self) -> Matrix:
        """3×3: (x, y, 1) metres → (column, row, 1); the upper left corner of the picture is (0, 0)."""
        scale = 1 / self.pixel_size
        return np.array([[scale, 0, -self.bounds[0] * scale], [0, -scale, self.bounds[3] * scale], [0, 0, 1]])

    def cut(self, column: int, row: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Pixels as they are, (height, width, 3), from the upper left corner (column, row)."""
        with rasterio.open(self.path) as source:
            return np.moveaxis(source.read(window=Window(column, row, width, height)), 0, 2)

    def warp(self, scene_from_pixel: Matrix, width: int, height: int) -> npt.NDArray[np.uint8]:
        """The city as another picture sees it, (height, width, 3): bicubic; smooth where pixels are larger.

        Args:
            scene_from_pixel: 3×3 homography, (column, row, 1) of the new picture → metres; its upper left
                corner is (0, 0), the centre of its first pixel (0.5, 0.5).
            width, height: of the new picture.
        """
        return self._warp(self.path, scene_from_pixel, width, height, cv2.INTER_CUBIC)

    def warp_labels(self, scene_from_pixel: Matrix, width: int, height: int) -> npt.NDArray[np.uint8]:
        """Classes that :meth:`warp` shows, (height, width): those at the centres of the pixels."""
        return self._warp(self.labels_path, scene_from_pixel, width, height, cv2.INTER_NEAREST)

    def covers(self, scene_from_pixel: Matrix, width: int, height: int) -> bool:
        """Whether the city fills a picture, with a small border."""
        x, y = _corners(self.pixel_from_scene @ scene_from_pixel, width, height).T
        return bool(min(x.min(), y.min()) >= 8 and x.max() <= self.width - 8 and y.max() <= self.height - 8)

    def _warp(
        self, path: Path, scene_from_pixel: Matrix, width: int, height: int, interpolation: int
    ) -> npt.NDArray[np.uint8]:
        source_from_pixel = self.pixel_from_scene @ scene_from_pixel
        corners = _corners(source_from_pixel, width, height)
        column, row = (int(v) for v in np.maximum(np.floor(corners.min(axis=0)) - 8, 0))
        end = np.minimum(np.ceil(corners.max(axis=0)) + 8, (self.width, self.height))
        with rasterio.open(path) as source:
            window = Window(column, row, int(end[0]) - column, int(end[1]) - row)
            picture = np.ascontiguousarray(np.moveaxis(source.read(window=window), 0, 2))
        linear = source_from_pixel[:2, :2] / source_from_pixel[2, 2]
        factor = math.sqrt(abs(np.linalg.det(linear)))
        if interpolation != cv2.INTER_NEAREST and factor > 1.05:
            picture = cv2.GaussianBlur(picture, (0, 0), 0.5 * math.sqrt(factor**2 - 1))
        # OpenCV counts from the centre of the first pixel.
        centred = _shift(-column - 0.5, -row - 0.5) @ source_from_pixel @ _shift(0.5, 0.5)
        flags = interpolation | cv2.WARP_INVERSE_MAP
        size, border = (width, height), cv2.BORDER_REPLICATE
        warped = cv2.warpPerspective(picture, centred, size, flags=flags, borderMode=border)
        return np.asarray(warped, np.uint8)


def north_up(center: npt.ArrayLike, pixel_size: float, width: int, height: int) -> Matrix:
    """Homography of a north-up picture: (column, row, 1) → (x, y, 1), with `center` in its middle."""
    x, y = np.asarray(center, np.float64)
    return np.array(
        [
            [pixel_size, 0, x - pixel_size * width / 2],
            [0, -pixel_size, y + pixel_size * height / 2],
            [0, 0, 1],
        ]
    )


def make_mosaic(place: Place, folder: Path, pixel_size: float, workers: int) -> Mosaic:
    """Draw a city from above, with its own light, season, cars and people.

    Blocks that exist are not drawn again; a finished mosaic is taken as it is.

    Args:
        place: the city.
        folder: gets ``ortho.tif`` and ``labels.tif``, in the city's CRS.
        pixel_size: metres.
        workers: number of processes.

    Raises:
        DiskFullError, UnwritableError: as the files are written.
    """
    min_x, min_y, max_x, max_y = place.plan.bounds
    width, height = int((max_x - min_x) / pixel_size), int((max_y - min_y) / pixel_size)
    bounds = (min_x, max_y - height * pixel_size, min_x + width * pixel_size, max_y)
    mosaic = Mosaic(folder / "ortho.tif", folder / "labels.tif", bounds, pixel_size, width, height)
    parts = folder / "blocks"
    if mosaic.path.exists() and mosaic.labels_path.exists():
        shutil.rmtree(parts, ignore_errors=True)
        return mosaic
    blocks = [(row, column) for row in range(0, height, BLOCK) for column in range(0, width, BLOCK)]
    missing = [block for block in blocks if not all(path.exists() for path in _files(parts, block))]
    if missing:
        run_all(missing, _drawer(place, mosaic, parts), workers, "imagery")
    _assemble(mosaic, place, mosaic.path, [(block, _files(parts, block)[0]) for block in blocks], 3)
    _assemble(mosaic, place, mosaic.labels_path, [(block, _files(parts, block)[1]) for block in blocks], 1)
    shutil.rmtree(parts, ignore_errors=True)
    return mosaic


def vary(picture: npt.NDArray[np.uint8], seed: int, index: int) -> npt.NDArray[np.uint8]:
    """Change brightness, contrast and colours a little, as between the images of a mosaic; (H, W, 3)."""
    rng = np.random.default_rng([seed, _VARIATION, index])
    gain = 1 + rng.normal(0, 0.03) + rng.normal(0, 0.012, 3)
    gamma = math.exp(rng.normal(0, 0.05))
    table = 255 * np.clip(gain[:, None] * (np.arange(256) / 255) ** gamma, 0, 1)
    varied = cv2.LUT(picture, np.round(table).astype(np.uint8).T[None])
    grey = cv2.cvtColor(cv2.cvtColor(varied, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    saturation = 1 + rng.normal(0, 0.06)
    return np.asarray(cv2.addWeighted(varied, saturation, grey, 1 - saturation, 0), np.uint8)


def _drawer(place: Place, mosaic: Mosaic, parts: Path) -> Callable[[tuple[int, int]], None]:
    """Function that draws a block and writes it to `parts`."""
    rng = np.random.default_rng([place.seed, _IMAGERY])
    weather = replace(
        light.daylight(rng), sun_elevation=rng.uniform(45, 65), haze=0.0, exposure=rng.uniform(1.0, 1.25)
    )
    season = rng.normal(0, 1)
    min_x, _, _, max_y = mosaic.bounds
    moment = int(rng.integers(2**31))
    factor = _exposure(place, mosaic, weather)

    def draw(block: tuple[int, int]) -> None:
        row, column = block
        rows, columns = min(BLOCK, mosaic.height - row), min(BLOCK, mosaic.width - column)
        left, top = min_x + column * mosaic.pixel_size, max_y - row * mosaic.pixel_size
        bounds = (left, top - rows * mosaic.pixel_size, left + columns * mosaic.pixel_size, top)
        center = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
        radius = math.dist(bounds[:2], bounds[2:]) / 2 + _REACH
        view = views.ortho(
            place.renderer,
            bounds,
            mosaic.pixel_size,
            weather,
            moving=place.traffic(moment, near=center, radius=radius),
            sensor=sensor.Sensor(vignetting=0.0),
            seed=int(np.random.default_rng([place.seed, _IMAGERY, row, column]).integers(2**31)),
            exposure_factor=factor,
        )
        picture, labels = _files(parts, block)
        write_png(picture, _turn_leaves(view.rgb, view.label, season))
        write_png(labels, view.label)

    return draw


def _exposure(place: Place, mosaic: Mosaic, weather: light.Light) -> float:
    """Exposure of all blocks, from rays over the whole city."""
    min_x, min_y, max_x, max_y = mosaic.bounds
    x, y = np.meshgrid(np.linspace(min_x, max_x, 102)[1:-1], np.linspace(min_y, max_y, 102)[1:-1])
    origins = np.stack([x, y, np.full_like(x, 1000.0)], axis=-1).reshape(-1, 3)
    down = np.broadcast_to(np.array([0.0, 0.0, -1.0]), origins.shape)
    samples = place.renderer.sample(origins, down, weather, width=mosaic.pixel_size)
    return sensor.exposure(samples.radiance.reshape(*x.shape, 3), weather)


def _turn_leaves(
    picture: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], season: float
) -> npt.NDArray[np.uint8]:
    """Shift the colours of plants: towards yellow for a positive season, to blue-green for a negative one."""
    plants = cv2.GaussianBlur((labels == Label.VEGETATION).astype(np.float32), (0, 0), 0.7)[..., None]
    gain = np.exp(np.clip(season, -1.5, 1.5) * np.array([0.12, 0.02, -0.10], np.float32))
    return np.round(np.clip(picture * (1 + plants * (gain - 1)), 0, 255)).astype(np.uint8)


def _assemble(
    mosaic: Mosaic, place: Place, path: Path, parts: list[tuple[tuple[int, int], Path]], bands: int
) -> None:
    """Put blocks together into a GeoTIFF.

    Raises:
        DiskFullError, UnwritableError: as the file is written.
    """
    if path.exists():
        return
    left, top = place.projected([[mosaic.bounds[0], mosaic.bounds[3]]])[0]
    profile = {
        "driver": "GTiff",
        "width": mosaic.width,
        "height": mosaic.height,
        "count": bands,
        "dtype": "uint8",
        "crs": place.plan.crs,
        "transform": Affine(mosaic.pixel_size, 0, left, 0, -mosaic.pixel_size, top),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "predictor": 2 if bands == 3 else 1,
        "bigtiff": "if_safer",
    }
    if bands == 3:
        profile |= {"photometric": "rgb", "interleave": "pixel"}
    with (
        replacing(path) as temporary,
        explaining_gdal(path),
        rasterio.open(temporary, "w", **profile) as target,
    ):
        for (row, column), part in parts:
            picture = read_png(part)
            rows, columns = picture.shape[:2]
            pixels = np.moveaxis(picture.reshape(rows, columns, bands), 2, 0)
            target.write(pixels, window=Window(column, row, columns, rows))


def _files(parts: Path, block: tuple[int, int]) -> tuple[Path, Path]:
    row, column = block
    return parts / f"{row:06d}_{column:06d}.png", parts / f"{row:06d}_{column:06d}_labels.png"


def _corners(homography: Matrix, width: int, height: int) -> npt.NDArray[np.float64]:
    """Where the corners of a picture go, (4, 2)."""
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1.0]]) @ homography.T
    return corners[:, :2] / corners[:, 2:]


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
