"""Layout of VIGOR: panoramas of streets and an overlapping grid of satellite tiles, in four cities.

    {City}/panorama/{id},{lat},{lon},.jpg       panorama, 2048 x 1024; grid north at the centre column,
                                                azimuth grows to the right, horizon in the middle
    {City}/satellite/satellite_{lat}_{lon}.png  satellite tile, 640 x 640, north up; coordinates of its centre
    splits/{City}/satellite_list.txt            file names of all tiles
    splits/{City}/pano_label_balanced.txt       all panoramas
    splits/{City}/same_area_balanced_train.txt, same_area_balanced_test.txt   halves of them, drawn by lot
    city/{City}/ortho.tif, labels.tif           (not in VIGOR) imagery that tiles are cut from, its classes

A line of the last three lists holds a panorama and then four times a tile and two offsets d0 and d1 in
pixels, separated by spaces. The panorama was taken at (x, y) = (320 - d1, 320 + d0) of the tile, from its
upper left corner, 2.5 m over the road. The first tile is the positive one: the panorama lies in its central
half in both directions. The other three are the semi-positive ones, which contain it, too, the nearest first.
Tiles are half a tile apart. A pixel is 0.111262 m wide in Chicago, 0.113248 m in NewYork, 0.118141 m in
SanFrancisco and 0.100817 m in Seattle.

The cities have the names and latitudes of VIGOR's but nothing else of them: each is an invented one, and
stands on the central meridian of its UTM zone, so that grid north is true north (to 0.01 degrees). Satellite
and street pictures show different days. In the medium and large sizes panoramas are drawn in 1536 x 768
pixels and enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..parallel import run_all
from .files import exist, write_jpeg, write_png, write_rows
from .imagery import Mosaic, make_mosaic, vary
from .place import Bounds, Place, enlarged, pano_ids, street_viewpoints

TILE = 640
SPACING = TILE // 2
PANORAMA = (2048, 1024)


@dataclass(frozen=True)
class CitySite:
    """Where a city stands.

    Attributes:
        name: of the city.
        crs: UTM zone.
        northing: of its centre, which is on the central meridian.
        pixel_size: of its tiles, metres.
    """

    name: str
    crs: str
    northing: float
    pixel_size: float


#: In the order in which readers number the tiles of the same-area split.
CITIES = (
    CitySite("Chicago", "EPSG:32616", 4_636_000.0, 0.111262),
    CitySite("NewYork", "EPSG:32618", 4_507_000.0, 0.113248),
    CitySite("SanFrancisco", "EPSG:32610", 4_181_000.0, 0.118141),
    CitySite("Seattle", "EPSG:32610", 5_272_000.0, 0.100817),
)
#: Extent of each city in metres, panoramas in each, size in which they are drawn.
SIZES = {
    "small": (200.0, 6, (2048, 1024)),
    "medium": (600.0, 500, (1536, 768)),
    "large": (1200.0, 2000, (1536, 768)),
}

# First word of the seed of what this module draws.
_SPLIT = 541


@dataclass(frozen=True)
class Grid:
    """Tiles of a city, half a tile apart.

    Attributes:
        columns, rows: number of tiles in each direction.
    """

    columns: int
    rows: int

    @classmethod
    def of(cls, mosaic: Mosaic) -> Grid:
        """The tiles that fit into imagery, from its upper left corner."""
        return cls(mosaic.width // SPACING - 1, mosaic.height // SPACING - 1)

    def __len__(self) -> int:
        return self.columns * self.rows

    def corner(self, tile: int) -> tuple[int, int]:
        """Column and row of a tile's upper left pixel; tiles are numbered row by row."""
        return tile % self.columns * SPACING, tile // self.columns * SPACING

    def covering(self, pixel: npt.NDArray[np.float64]) -> list[tuple[int, float, float]]:
        """Tiles that contain a place, the nearest first.

        Args:
            pixel: (column, row) in the imagery, at least a tile's half away from the border of the grid.

        Returns:
            Four of (tile, d0, d1); the first tile has the place in its central half.
        """
        last_column, last_row = (int(v) for v in pixel // SPACING)
        found = []
        for row in (last_row - 1, last_row):
            for column in (last_column - 1, last_column):
                x, y = pixel - (column * SPACING, row * SPACING)
                found.append((row * self.columns + column, y - TILE / 2, TILE / 2 - x))
        return sorted(found, key=lambda tile: tile[1] ** 2 + tile[2] ** 2)


def write(output: Path, size: str, seed: int, workers: int) -> None:
    """Write a VIGOR of four made-up cities, or what is missing of it.

    Args:
        output: its folder.
        size: key of :data:`SIZES`.
        seed: of the cities.
        workers: number of processes.
    """
    for number, site in enumerate(CITIES):
        _write_city(output, site, size, len(CITIES) * seed + number, workers)


def _write_city(output: Path, site: CitySite, size: str, seed: int, workers: int) -> None:
    extent, count, drawn = SIZES[size]
    place = Place(extent, seed, site.crs, (500_000.0, site.northing))
    mosaic = make_mosaic(place, output / "city" / site.name, site.pixel_size, workers)
    grid = Grid.of(mosaic)
    points = street_viewpoints(place.plan, count, _region(mosaic, grid), seed)
    tiles = _tile_names(place, mosaic, grid)
    panoramas = [
        f"{name},{latitude:.6f},{longitude:.6f},.jpg"
        for name, (latitude, longitude) in zip(pano_ids(count, seed), place.geographic(points), strict=True)
    ]

    def write_tile(tile: int) -> None:
        picture = mosaic.cut(*grid.corner(tile), TILE, TILE)
        write_png(output / site.name / "satellite" / tiles[tile], vary(picture, seed, tile))

    def write_panorama(index: int) -> None:
        picture = enlarged(place.panorama(index, points[index], *drawn).rgb, PANORAMA)
        write_jpeg(output / site.name / "panorama" / panoramas[index], picture)

    missing = [i for i, name in enumerate(tiles) if not exist([output / site.name / "satellite" / name])]
    run_all(missing, write_tile, workers, f"{site.name} tiles")
    missing = [i for i, name in enumerate(panoramas) if not exist([output / site.name / "panorama" / name])]
    if missing:
        place.prepare()
        run_all(missing, write_panorama, workers, f"{site.name} panoramas")
    _write_splits(output / "splits" / site.name, mosaic, grid, points, tiles, panoramas, seed)


def _region(mosaic: Mosaic, grid: Grid) -> Bounds:
    """Where four tiles cover each place, in the scene frame."""
    left, top = mosaic.bounds[0], mosaic.bounds[3]
    step = SPACING * mosaic.pixel_size
    return (left + step, top - grid.rows * step, left + grid.columns * step, top - step)


def _tile_names(place: Place, mosaic: Mosaic, grid: Grid) -> list[str]:
    """File names of the tiles, with the coordinates of their centres."""
    corners = np.array([grid.corner(tile) for tile in range(len(grid))])
    offset = (corners + TILE / 2) * mosaic.pixel_size
    centers = np.stack([mosaic.bounds[0] + offset[:, 0], mosaic.bounds[3] - offset[:, 1]], axis=1)
    return [f"satellite_{lat:.10f}_{lon:.10f}.png" for lat, lon in place.geographic(centers)]


def _write_splits(
    folder: Path,
    mosaic: Mosaic,
    grid: Grid,
    points: npt.NDArray[np.float64],
    tiles: list[str],
    panoramas: list[str],
    seed: int,
) -> None:
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    pixels = (homogeneous @ mosaic.pixel_from_scene.T)[:, :2]
    rows: list[list[object]] = []
    for name, pixel in zip(panoramas, pixels, strict=True):
        row: list[object] = [name]
        for tile, d0, d1 in grid.covering(pixel):
            row += [tiles[tile], f"{d0:.4f}", f"{d1:.4f}"]
        rows.append(row)
    is_train = np.zeros(len(rows), bool)
    is_train[np.random.default_rng([seed, _SPLIT]).permutation(len(rows))[: len(rows) // 2]] = True
    write_rows(folder / "satellite_list.txt", [[name] for name in tiles])
    write_rows(folder / "pano_label_balanced.txt", rows, " ")
    for split, chosen in (("train", is_train), ("test", ~is_train)):
        chosen_rows = [row for row, keep in zip(rows, chosen, strict=True) if keep]
        write_rows(folder / f"same_area_balanced_{split}.txt", chosen_rows, " ")
