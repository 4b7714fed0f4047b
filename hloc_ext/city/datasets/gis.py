"""GIS alignment: imagery with a wrong georeference, layers in the right place, and the error between them.

    scenes/00000/image.tif    GeoTIFF, RGB, 512 x 512 pixels of 0.25 m, north up by its (wrong) georeference
    scenes/00000/layers.gpkg  roads, road_centrelines, sidewalks, crossings, buildings, vegetation and
                              water, where they really are
    scenes/00000/labels.png   class of each pixel of the image (hloc_ext.city.labels)
    scenes/00000/truth.json   the error, exactly
    splits/train.txt, val.txt, test.txt   numbers of the scenes, by region of the city (west, middle, east)
    index.csv                 the scenes in a table, with a header
    city/ortho.tif, labels.tif, layers.gpkg   imagery, classes and layers of the whole city, correct

There are two kinds of imagery. "ortho": a picture of the city from above. "generated": a painting of the
layers as a generative model might make it: borders wobble by a pixel or so, small things are missing or
invented; its labels are the layers. And there are three models of the error: similarity (a shift of up to 8
m, a rotation of up to 6 degrees, a scale of 0.93 to 1.07), affine (and shear and stretch) and homography (and
perspective). In the medium and large sizes the regions of the splits share no ground.

truth.json: pixels are (column, row), the upper left corner of the image is (0, 0) and the centre of its first
pixel (0.5, 0.5); metres are easting and northing of `crs`; a map is a 3 x 3 homography of column vectors (x,
y, 1).

    claimed_from_pixel      pixel -> metres, as the image's georeference says
    true_from_pixel         pixel -> metres, as it is
    true_pixel_from_pixel   pixel -> where it would be in an image with this georeference and without error
    true_offset_from_claimed_offset   metres from `anchor`, the stated centre of the image: stated -> as it is
    parameters              of the last map, which is perspective, then shear and stretch, scale, rotation
                            (counter-clockwise) and translation
    mean_corner_error       metres, between stated and true corners
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.transform import Affine

from ...formats.atomic import replacing, write_text
from ..gdal_errors import explaining_gdal
from ..labels import Label
from ..layers import LAYERS, vector_layers, write_geopackage
from ..parallel import run_all
from .files import exist, write_png, write_rows
from .imagery import Matrix, Mosaic, make_mosaic, north_up, vary
from .misregistration import MODELS, Misregistration, apply
from .place import Place
from .rendition import leave_out, paint

IMAGERY = ("ortho", "generated")
SPLITS = ("train", "val", "test")
#: Extent of the city in metres, number of scenes, gap between the regions of the splits in metres.
SIZES = {"small": (320.0, 24, 0.0), "medium": (900.0, 2000, 200.0), "large": (1600.0, 8000, 200.0)}
CRS, ORIGIN = "EPSG:32635", (487_000.0, 6_470_000.0)
IMAGE = 512
PIXEL = 0.25
MOSAIC_PIXEL = 0.125
#: Shares of the splits, in the width of the city and in scenes.
SHARES = (0.6, 0.2, 0.2)
#: The centre of a scene is at least so far from the border of the city.
MARGIN = 75.0

#: Classes of the layers of areas.
_CLASSES = {
    "roads": Label.ROAD,
    "sidewalks": Label.SIDEWALK,
    "vegetation": Label.VEGETATION,
    "water": Label.WATER,
    "crossings": Label.CROSSING,
    "buildings": Label.BUILDING,
}
# First words of the seeds of what this module draws.
_SCENE = 551
_PAINT = 552


@dataclass(frozen=True)
class Scene:
    """A scene of the data set.

    Attributes:
        index: its number.
        split: of :data:`SPLITS`.
        imagery: of :data:`IMAGERY`.
        center: stated centre of the image, (x, y) in the scene frame of the city.
        error: of the georeference.
    """

    index: int
    split: str
    imagery: str
    center: tuple[float, float]
    error: Misregistration

    @property
    def claimed_from_pixel(self) -> Matrix:
        """3×3: (column, row, 1) → metres in the scene frame, as the georeference says."""
        return north_up(self.center, PIXEL, IMAGE, IMAGE)

    @property
    def true_from_pixel(self) -> Matrix:
        """3×3: (column, row, 1) → metres in the scene frame, as it is."""
        x, y = self.center
        there, back = (
            np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]]),
            np.array([[1, 0, x], [0, 1, y], [0, 0, 1]]),
        )
        return back @ self.error.matrix @ there @ self.claimed_from_pixel

    @property
    def mean_corner_error(self) -> float:
        """Mean distance between stated and true corners, metres."""
        corners = np.array([[0, 0], [IMAGE, 0], [IMAGE, IMAGE], [0, IMAGE]])
        shift = apply(self.true_from_pixel, corners) - apply(self.claimed_from_pixel, corners)
        return float(np.linalg.norm(shift, axis=1).mean())


def write(output: Path, size: str, seed: int, workers: int) -> None:
    """Write a GIS-alignment set, or what is missing of it.

    Args:
        output: its folder.
        size: key of :data:`SIZES`.
        seed: of the city.
        workers: number of processes.
    """
    extent, count, gap = SIZES[size]
    place = Place(extent, seed, CRS, ORIGIN)
    mosaic = make_mosaic(place, output / "city", MOSAIC_PIXEL, workers)
    layers = vector_layers(place.plan)
    if not (whole := output / "city" / "layers.gpkg").exists():
        write_geopackage(layers, whole)
    scenes = draw_scenes(mosaic, count, gap, seed)
    missing = [scene for scene in scenes if not exist(_files(output, scene))]
    if missing:
        run_all(missing, _writer(output, place, mosaic, layers), workers, "scenes")
    _write_tables(output, scenes)


def draw_scenes(mosaic: Mosaic, count: int, gap: float, seed: int) -> list[Scene]:
    """Decide where the scenes are and how wrong; the city fills each image.

    Args:
        mosaic: of the city.
        count: number of scenes.
        gap: between the centres of different splits, metres.
        seed: of the city.
    """
    min_x, min_y, max_x, max_y = mosaic.bounds
    width = max_x - min_x - 2 * MARGIN - gap * (len(SPLITS) - 1)
    ends = np.cumsum(SHARES)
    scenes = []
    for index in range(count):
        rng = np.random.default_rng([seed, _SCENE, index])
        split = int(np.searchsorted(ends, (index + 0.5) / count))
        west = min_x + MARGIN + split * gap + (ends[split] - SHARES[split]) * width
        while True:
            center = (
                rng.uniform(west, west + SHARES[split] * width),
                rng.uniform(min_y + MARGIN, max_y - MARGIN),
            )
            error = Misregistration.draw(MODELS[index // len(IMAGERY) % len(MODELS)], rng)
            scene = Scene(index, SPLITS[split], IMAGERY[index % len(IMAGERY)], center, error)
            if mosaic.covers(scene.true_from_pixel, IMAGE, IMAGE):
                break
        scenes.append(scene)
    return scenes


def _files(output: Path, scene: Scene) -> list[Path]:
    folder = output / "scenes" / f"{scene.index:05d}"
    return [folder / name for name in ("image.tif", "layers.gpkg", "labels.png", "truth.json")]


def _writer(
    output: Path, place: Place, mosaic: Mosaic, layers: dict[str, gpd.GeoDataFrame]
) -> Callable[[Scene], None]:
    """Function that writes a scene."""
    origin = np.array(place.plan.origin)

    def write_scene(scene: Scene) -> None:
        image_path, layers_path, labels_path, truth_path = _files(output, scene)
        corners = apply(scene.true_from_pixel, [[0, 0], [IMAGE, 0], [IMAGE, IMAGE], [0, IMAGE]])
        box = shapely.box(*(corners.min(axis=0) - 16 + origin), *(corners.max(axis=0) + 16 + origin))
        clipped = {name: layer.clip(box, keep_geom_type=True, sort=True) for name, layer in layers.items()}
        if scene.imagery == "ortho":
            image = mosaic.warp(scene.true_from_pixel, IMAGE, IMAGE)
            labels = mosaic.warp_labels(scene.true_from_pixel, IMAGE, IMAGE)
        else:
            image, labels = _paint_layers(clipped, scene, origin, place.seed)
        write_geopackage(clipped, layers_path)
        write_png(labels_path, labels)
        _write_image(image_path, vary(image, place.seed, scene.index), scene, place)
        write_text(truth_path, json.dumps(truth(scene, place.plan.crs, origin), indent=1) + "\n")

    return write_scene


def _paint_layers(
    layers: dict[str, gpd.GeoDataFrame], scene: Scene, origin: npt.NDArray[np.float64], seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Painting of the layers as the image of a scene, and their classes."""
    rng = np.random.default_rng([seed, _PAINT, scene.index])
    pixel_from_true = np.asarray(np.linalg.inv(scene.true_from_pixel), np.float64)
    labels, painted = np.zeros((2, IMAGE, IMAGE), np.uint8)
    buildings = np.zeros((IMAGE, IMAGE), np.int32)
    for name in (name for name in LAYERS if name in _CLASSES):
        label = _CLASSES[name]
        areas = layers[name].geometry.area.to_numpy()
        shapes = shapely.transform(
            layers[name].geometry.to_numpy(), lambda points: apply(pixel_from_true, points - origin)
        )
        keep = leave_out(areas, rng)
        _burn(labels, shapes, np.full(len(shapes), int(label)))
        _burn(painted, shapes[keep], np.full(int(keep.sum()), int(label)))
        if label is Label.BUILDING:
            _burn(buildings, shapes[keep], np.arange(1, int(keep.sum()) + 1))
    return paint(painted, buildings, rng), labels


def _burn(target: npt.NDArray, shapes: npt.NDArray, values: npt.NDArray[np.integer]) -> None:
    """Write values to the pixels whose centre a shape contains."""
    filled = [(s, int(v)) for s, v in zip(shapes, values, strict=True) if not s.is_empty]
    if filled:
        rasterize(filled, out=target)


def _write_image(path: Path, image: npt.NDArray[np.uint8], scene: Scene, place: Place) -> None:
    left, top = place.projected([apply(scene.claimed_from_pixel, [[0, 0]])[0]])[0]
    with (
        replacing(path) as temporary,
        explaining_gdal(path),
        rasterio.open(
            temporary,
            "w",
            driver="GTiff",
            width=IMAGE,
            height=IMAGE,
            count=3,
            dtype="uint8",
            crs=place.plan.crs,
            transform=Affine(PIXEL, 0, left, 0, -PIXEL, top),
            compress="deflate",
            predictor=2,
            photometric="rgb",
        ) as target,
    ):
        target.write(np.moveaxis(image, 2, 0))


def truth(scene: Scene, crs: str, origin: npt.NDArray[np.float64]) -> dict[str, object]:
    """What ``truth.json`` says of a scene; `origin` is the easting and northing of the city's scene frame."""
    to_projected = np.array([[1, 0, origin[0]], [0, 1, origin[1]], [0, 0, 1]])
    claimed, true = (to_projected @ m for m in (scene.claimed_from_pixel, scene.true_from_pixel))
    true_pixel = np.linalg.inv(scene.claimed_from_pixel) @ scene.true_from_pixel
    return {
        "scene": f"{scene.index:05d}",
        "split": scene.split,
        "imagery": scene.imagery,
        "crs": crs,
        "image_size": [IMAGE, IMAGE],
        "pixel_size": PIXEL,
        "anchor": [float(v) for v in origin + scene.center],
        "claimed_from_pixel": claimed.tolist(),
        "true_from_pixel": true.tolist(),
        "true_pixel_from_pixel": (true_pixel / true_pixel[2, 2]).tolist(),
        "true_offset_from_claimed_offset": scene.error.matrix.tolist(),
        "parameters": asdict(scene.error),
        "mean_corner_error": scene.mean_corner_error,
    }


def _write_tables(output: Path, scenes: list[Scene]) -> None:
    for split in SPLITS:
        members = [[f"{scene.index:05d}"] for scene in scenes if scene.split == split]
        write_rows(output / "splits" / f"{split}.txt", members)
    header = (
        "scene",
        "split",
        "imagery",
        "model",
        "translation_east",
        "translation_north",
        "rotation",
        "scale",
    )
    rows = [
        (
            f"{scene.index:05d}",
            scene.split,
            scene.imagery,
            scene.error.model,
            *scene.error.translation,
            scene.error.rotation,
            scene.error.scale,
            scene.mean_corner_error,
        )
        for scene in scenes
    ]
    write_rows(output / "index.csv", [(*header, "mean_corner_error"), *rows])
