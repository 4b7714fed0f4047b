"""Real imagery with layers that fit it, which are moved by a known error and corrected."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from benchmarks.tables import Table
from hloc_ext.city.datasets.misregistration import MAX_TRANSLATION, Misregistration
from hloc_ext.gis.align import AlignmentResult, align
from hloc_ext.gis.crs import transform_points
from hloc_ext.gis.export import corrected_layers, write_layers
from hloc_ext.gis.grid import Grid
from hloc_ext.gis.inputs import open_input
from hloc_ext.gis.raster import metric_grid, open_raster
from hloc_ext.gis.transform import Alignment
from hloc_ext.gis.vector import Layer, read_layers

#: Largest shift, as a part of the image's shorter side; MAX_TRANSLATION at most.
MAX_SHARE = 0.1
# First word of the seeds of what this module draws.
_ERROR = 821


@dataclass(frozen=True)
class RealScene:
    """An image with layers that fit it.

    Attributes:
        name: in the table.
        image, layers: files below the folder ``gis`` of the benchmark data.
        resolution: pixels that are compared, metres; None: the image's.
    """

    name: str
    image: str
    layers: str
    resolution: float | None = None


SCENES = (
    RealScene("Kampala a, buildings", "kampala/kampala_a.tif", "kampala/buildings_a.geojson", 0.15),
    RealScene("Kampala b, buildings", "kampala/kampala_b.tif", "kampala/buildings_b.geojson"),
    RealScene("Austin, buildings", "austin/austin.tif", "austin/austin_buildings.geojson"),
    RealScene("Atlanta off nadir, buildings", "atlanta/atlanta_pan.tif", "atlanta/buildings.geojson"),
    RealScene("Vegas, roads", "vegas/vegas_img0.tif", "vegas/roads_gt.geojson"),
    RealScene("Tanzania, 7 buildings", "tanzania/tanzania.tif", "tanzania/buildings.geojson"),
)


def random_error(grid: Grid, seed: int, number: int) -> Alignment:
    """An error of layers: a similarity of the size of those of the city's set (shift, ±6°, 0.93 to 1.07)."""
    drawn = Misregistration.draw("similarity", np.random.default_rng([seed, _ERROR, number]))
    largest = min(MAX_TRANSLATION, MAX_SHARE * min(grid.width, grid.height) * grid.pixel_size)
    matrix = drawn.matrix
    matrix[:2, 2] *= largest / MAX_TRANSLATION
    return Alignment(matrix, "similarity", grid.crs, grid.center)


def residuals(original: Sequence[Layer], moved: Sequence[Layer], grid: Grid) -> npt.NDArray[np.float64]:
    """Distances of the vertices of layers in an image from where they were, metres."""
    distances = [np.empty(0)]
    area = shapely.Polygon(grid.corners)
    for one, other in zip(original, moved, strict=True):
        if one.crs is None or grid.crs is None:
            continue
        places = [
            transform_points(one.crs, grid.crs, shapely.get_coordinates(layer.frame.geometry.to_numpy()))
            for layer in (one, other)
        ]
        inside = shapely.contains_xy(area, places[0])
        distances.append(np.linalg.norm(places[0] - places[1], axis=1)[inside])
    return np.concatenate(distances)


def run_scene(
    data: Path, scene: RealScene, number: int, seed: int, folder: Path
) -> tuple[AlignmentResult, npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Move the layers of a scene by an error, write them, and correct them.

    Returns:
        The result; residuals of the vertices before and after, metres; processor seconds.
    """
    image, original = data / scene.image, read_layers(data / scene.layers)
    grid = metric_grid(open_raster(image))
    error = random_error(grid, seed, number)
    wrong = folder / f"{Path(scene.layers).stem}_{number}.gpkg"
    displaced = corrected_layers(original, error)
    write_layers(displaced, wrong)
    start = time.process_time()
    result = align(open_input(image, [wrong], resolution=scene.resolution))
    seconds = time.process_time() - start
    after = corrected_layers(displaced, result.alignment)
    return result, residuals(original, displaced, grid), residuals(original, after, grid), seconds


def evaluate(
    data: Path, trials: int, seed: int, folder: Path, report: Callable[[dict[str, object]], None]
) -> Table:
    """A row for each scene."""
    table = Table(
        "Real imagery, layers moved by a known error",
        [
            f"similarities: shift up to {MAX_TRANSLATION:g} m or {100 * MAX_SHARE:g} % of the shorter side,"
            " rotation ±6°, scale 0.93 to 1.07; limits: the defaults of pipelines.gis_alignment",
            "before, after: mean distance of the layers' vertices in the image from where they were, median"
            " (and largest) over the trials that were accepted; the layers are right to some pixels",
            "CPU s: processor seconds of a trial, median",
        ],
        ["scene", "trials", "refused", "before m", "after m", "largest m", "after px", "CPU s"],
    )
    for scene in SCENES:
        rows = []
        for number in range(trials):
            result, before, after, seconds = run_scene(data, scene, number, seed, folder)
            pixel = result.input.image_grid.pixel_size
            rows.append(
                (result.status != "refused", before.mean(), after.mean(), after.mean() / pixel, seconds)
            )
        values = np.array(rows)
        good = values[values[:, 0] > 0]
        row: dict[str, object] = {
            "scene": scene.name,
            "trials": trials,
            "refused": int((values[:, 0] == 0).sum()),
            "before m": float(np.median(values[:, 1])),
            "CPU s": float(np.median(values[:, 4])),
        }
        if len(good):
            row |= {
                "after m": float(np.median(good[:, 2])),
                "largest m": float(good[:, 2].max()),
                "after px": float(np.median(good[:, 3])),
            }
        table.rows.append(row)
        report(row)
    return table
