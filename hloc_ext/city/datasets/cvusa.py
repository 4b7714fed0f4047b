"""Layout of CVUSA (the "CVPR subset"): panoramas of streets and satellite tiles around them.

    bingmap/19/0000001.jpg              satellite tile, 750 x 750 pixels, north up, Bing's zoom level 19
    streetview/panos/0000001.jpg        panorama, 1232 x 224: 360 degrees, and 32.6 degrees above and below
                                        the horizon; grid north at the centre column, azimuth to the right
    streetview/annotations/0000001.png  class of each pixel of the panorama (hloc_ext.city.labels)
    splits/train-19zl.csv, splits/val-19zl.csv   tile, panorama, annotation; no header
    split_locations/all.csv             latitude and longitude of the tile, then of the panorama, and an
                                        unused 0; no header; line N belongs to image N
    city/ortho.tif, city/labels.tif     (not in CVUSA) imagery of the whole city, which the tiles are
                                        cut from, and its classes

The panorama was taken at the centre of its tile, 2.5 m over the road. A pixel of a tile is
156543.03392 m * cos(latitude) / 2^19 wide. The places for validation lie in the north of the city, those for
training in the south; tiles near the border between them overlap. Satellite and street pictures show
different days.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..parallel import run_all
from .files import exist, write_jpeg, write_png, write_rows
from .imagery import make_mosaic, north_up, vary
from .place import Place, inner, northernmost, street_viewpoints, web_pixel_size

#: Extent of the city in metres, number of pairs.
SIZES = {"small": (320.0, 24), "medium": (900.0, 2000), "large": (1600.0, 8000)}
#: On the central meridian of its zone: grid north is true north.
CRS, ORIGIN = "EPSG:32615", (500_000.0, 4_317_000.0)
TILE = 750
PANORAMA = (1232, 224)
ELEVATION = 32.6
VAL_SHARE = 0.2
MOSAIC_PIXEL = 0.12

# First word of the seed of what this module draws.
_ORDER = 521


def write(output: Path, size: str, seed: int, workers: int) -> None:
    """Write a CVUSA of a made-up city, or what is missing of it.

    Args:
        output: its folder.
        size: key of :data:`SIZES`.
        seed: of the city.
        workers: number of processes.
    """
    extent, count = SIZES[size]
    place = Place(extent, seed, CRS, ORIGIN)
    mosaic = make_mosaic(place, output / "city", MOSAIC_PIXEL, workers)
    pixel_size = web_pixel_size(float(place.geographic([[0, 0]])[0, 0]), 19)
    margin = pixel_size * TILE / 2 + 2
    points = street_viewpoints(place.plan, count, inner(mosaic.bounds, margin), seed)

    def write_pair(index: int) -> None:
        tile, panorama, annotation = (output / name for name in names(index))
        north_up_tile = mosaic.warp(north_up(points[index], pixel_size, TILE, TILE), TILE, TILE)
        write_jpeg(tile, vary(north_up_tile, seed, index))
        view = place.panorama(index, points[index], *PANORAMA, elevation=(-ELEVATION, ELEVATION))
        write_png(annotation, view.label)
        write_jpeg(panorama, view.rgb)

    missing = [i for i in range(count) if not exist(output / name for name in names(i))]
    if missing:
        place.prepare()
        run_all(missing, write_pair, workers, "pairs")
    _write_tables(output, place, points, seed)


def names(index: int) -> tuple[str, str, str]:
    """Files of a pair, 0 is the first: tile, panorama, annotation."""
    number = f"{index + 1:07d}"
    return (
        f"bingmap/19/{number}.jpg",
        f"streetview/panos/{number}.jpg",
        f"streetview/annotations/{number}.png",
    )


def _write_tables(output: Path, place: Place, points: npt.NDArray[np.float64], seed: int) -> None:
    latitude, longitude = np.round(place.geographic(points), 9).T
    locations = zip(latitude, longitude, latitude, longitude, [0] * len(points), strict=True)
    write_rows(output / "split_locations" / "all.csv", locations)
    is_val = northernmost(points, VAL_SHARE)
    order = np.random.default_rng([seed, _ORDER]).permutation(len(points))
    for split, chosen in (("train", ~is_val), ("val", is_val)):
        write_rows(output / "splits" / f"{split}-19zl.csv", [names(i) for i in order if chosen[i]])
