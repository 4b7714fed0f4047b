"""A large image with many polygons: time, memory and error, in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import rasterio
import shapely
from rasterio.transform import Affine

from benchmarks.matchers.memory import peak_memory
from benchmarks.tables import Table
from hloc_ext.errors import HlocExtError
from hloc_ext.gis.align import align, displacement
from hloc_ext.gis.export import corrected_layers, write_layers, write_raster
from hloc_ext.gis.inputs import open_input
from hloc_ext.gis.raster import metric_grid, open_raster
from hloc_ext.gis.transform import Alignment
from hloc_ext.gis.vector import Layer

SIDE, POLYGONS, PIXEL = 10_000, 20_000, 0.25
CRS, ORIGIN = "EPSG:32635", (487_000.0, 6_470_000.0)
# Metres between neighbouring buildings' centres, and rows of the image that are painted at a time.
_STRIP = 500
# First word of the seeds of what this module draws.
_LARGE = 831


def make(folder: Path, side: int, polygons: int, seed: int) -> tuple[Path, Path, Alignment]:
    """Write an image of random buildings on textured ground, and layers of them that are wrong.

    Args:
        folder: for both.
        side: of the image, pixels.
        polygons: number of buildings.
        seed: of everything.

    Returns:
        Image, layers, and the correction of the layers.
    """
    rng = np.random.default_rng([seed, _LARGE])
    cells = int(np.ceil(np.sqrt(polygons)))
    step = side * PIXEL / cells
    chosen = rng.permutation(cells**2)[:polygons]
    centers = (np.column_stack([chosen % cells, chosen // cells]) + 0.5) * step
    centers += rng.uniform(-0.2, 0.2, centers.shape) * step
    sizes, angles = rng.uniform(0.2, 0.33, (polygons, 2)) * step, rng.uniform(0, np.pi, polygons)
    turn = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)], 1).reshape(-1, 2, 2)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])[None] * sizes[:, None]
    outlines = centers[:, None] + corners @ turn.transpose(0, 2, 1)  # metres east and south of the corner
    image = folder / "image.tif"
    _paint(image, outlines / PIXEL, side, rng)
    grid = metric_grid(open_raster(image))
    places = np.array(ORIGIN) + outlines * (1, -1)
    frame = gpd.GeoDataFrame(
        {"building": ["yes"] * polygons}, geometry=[shapely.Polygon(p) for p in places], crs=CRS
    )
    angle, scale = np.radians(1.5), 1.008
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    error = Alignment(
        np.array([[cos, -sin, 9.0], [sin, cos, -6.0], [0, 0, 1]]), "similarity", grid.crs, grid.center
    )
    layers = folder / "buildings.gpkg"
    write_layers(corrected_layers([Layer("buildings", layers, frame)], error), layers)
    return image, layers, error.inverse()


def _paint(path: Path, outlines: np.ndarray, side: int, rng: np.random.Generator) -> None:
    colors = rng.integers(60, 230, (len(outlines), 3))
    low, high = outlines[..., 1].min(1), outlines[..., 1].max(1)
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", crs=CRS, tiled=True,
        transform=Affine(PIXEL, 0, ORIGIN[0], 0, -PIXEL, ORIGIN[1]), compress="deflate",
    ) as file:  # fmt: skip
        for top in range(0, side, _STRIP):
            rows = min(_STRIP, side - top)
            ground = cv2.resize(
                rng.normal(0, 22, (rows // 25 + 2, side // 25 + 2)).astype(np.float32), (side, rows)
            )
            strip = np.repeat((115 + ground + rng.normal(0, 9, ground.shape))[..., None], 3, 2)
            strip = np.clip(strip, 0, 255).astype(np.uint8)
            for index in np.flatnonzero((high >= top) & (low <= top + rows)):
                polygon = np.round((outlines[index] - (0.5, top + 0.5)) * 16).astype(np.int32)
                cv2.fillPoly(strip, [polygon], colors[index].tolist(), cv2.LINE_AA, 4)
            file.write(np.moveaxis(strip, 2, 0), window=rasterio.windows.Window(0, top, side, rows))


def measure(args: argparse.Namespace) -> dict[str, float | str]:
    """Align and write everything; seconds, peak memory and error."""
    image, layers, true = make(args.folder, args.side, args.polygons, args.seed)
    before = peak_memory()
    start, cpu = time.perf_counter(), time.process_time()
    result = align(open_input(image, [layers]))
    aligned = time.perf_counter() - start
    if result.status == "corrected":
        write_layers(corrected_layers(result.input.vectors, result.alignment), args.folder / "corrected.gpkg")
        write_raster(result.input.image, result.alignment, args.folder / "corrected.tif")
    rest = result.estimated.then(true.inverse())
    return {
        "status": result.status,
        "seconds": time.perf_counter() - start,
        "aligned": aligned,
        "cpu": time.process_time() - cpu,
        "peak": max(peak_memory(), before),
        "error": float(displacement(rest, result.input.image_grid).mean()),
        "features": len(result.input.shapes.shapes),
    }


def evaluate(folder: Path, side: int, polygons: int, seed: int) -> Table:
    """A row with the figures of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gis.large", "--folder", str(folder), "--side", str(side)]
    command += ["--polygons", str(polygons), "--seed", str(seed)]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode != 0:
        raise HlocExtError(f"The process that measures has failed:\n{finished.stderr[-2000:]}")
    found = json.loads(finished.stdout.splitlines()[-1])
    table = Table(
        "Large image",
        [
            f"GeoTIFF of {side}×{side} pixels of {PIXEL:g} m with {polygons} buildings, painted at random;"
            " layers wrong by 9 m, 6 m, 1.5° and 0.8 %",
            "total: reading, alignment, corrected layers and image; peak: largest resident memory",
        ],
        ["status", "polygons", "alignment s", "total s", "CPU s", "peak MiB", "mean error m"],
    )
    table.add(
        **{
            "status": found["status"],
            "polygons": found["features"],
            "alignment s": found["aligned"],
            "total s": found["seconds"],
            "CPU s": found["cpu"],
            "peak MiB": round(found["peak"] / 2**20),
            "mean error m": found["error"],
        }
    )
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Measure in this process and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gis.large", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--polygons", type=int, default=POLYGONS)
    parser.add_argument("--seed", type=int, default=1)
    print(json.dumps(measure(parser.parse_args(argv))))


if __name__ == "__main__":
    main()
