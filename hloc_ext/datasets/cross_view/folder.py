"""One's own georeferenced tiles, and panoramas or photos.

    tiles/            GeoTIFF files, north up, each a tile; or a pyramid of web-map tiles, {z}/{x}/{y}.png (or
                      .jpg), of which those of the deepest level are taken
    photos/           panoramas or photos, in any subfolders
    photos.csv        optional: name,lat,lon[,heading[,fov]], in degrees; heading is the azimuth of the centre
                      column, clockwise from north; fov is the width of the picture, 360 where it is not given
                      and the picture is twice as wide as high or wider. A header row is recognised.

Without the list, the place of a photo is that of its EXIF tags, and its heading GPSImgDirection, where that
is true north's. The positive tile of a photo is the one whose centre is nearest among those that contain it,
the other ones are semi-positive. A photo without a place, or outside of all tiles, has none.

The split ``all`` holds all photos and all tiles. For ``train``, ``val`` and ``test`` the photos with a tile
are divided by region: a fifth is for test.
"""

from __future__ import annotations

import csv
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import InputError, MissingInputError
from ...formats.atomic import read_text
from ...formats.images import list_images
from . import georeference
from .geography import check_latlon, mercator
from .listing import Floats, Indices, Listing, numbers
from .regions import hold_out

SPLITS = ("train", "val", "test", "all")
EXPECTED = "folders tiles (GeoTIFF, or {z}/{x}/{y}.png) and photos"

ELEVATION = (-90.0, 90.0)
TEST_SHARE = 0.2
#: A photo has at most so many semi-positive tiles.
MAX_SEMI_POSITIVES = 8

_HEADER = ("name", "lat", "lon", "heading", "fov")
_PANORAMA_ASPECT = 2.0


@dataclass(frozen=True)
class Photos:
    """Photos: files, (N, 2) latitude and longitude, (N,) headings, (N,) widths in degrees, NaN unknown."""

    paths: list[Path]
    latlon: Floats
    headings: Floats
    fields_of_view: Floats


def is_here(root: Path) -> bool:
    """Whether a folder looks like tiles and photos."""
    return (root / "tiles").is_dir() and (root / "photos").is_dir()


def provenance(split: str, area: str, root: Path) -> frozenset[str]:
    """A name for a split of this folder."""
    name = f"folder/{root.resolve().name}"
    return frozenset({f"{name}/train", f"{name}/test"} if split == "all" else {f"{name}/{split}"})


def read(root: Path, split: str, area: str) -> Listing:
    """Read a folder: split ``train``, ``test`` or ``all``; `area` has no meaning here.

    Raises:
        MissingInputError: no tiles or no photos.
        InputError: a tile without georeference, a malformed list, or too few photos with a tile.
    """
    tiles = georeference.find_tiles(root / "tiles")
    photos = find_photos(root / "photos", root / "photos.csv")
    containing, offsets = _containing(photos.latlon, tiles)
    containing = containing[:, : max(int((containing >= 0).sum(axis=1).max()), 1)]
    listing = Listing(
        grounds=photos.paths,
        aerials=tiles.paths,
        positives=containing[:, 0],
        semi_positives=containing[:, 1:],
        ground_latlon=photos.latlon,
        aerial_latlon=tiles.latlon,
        offsets=offsets,
        tile_size=tiles.size,
        elevation=ELEVATION,
        headings=photos.headings,
        fields_of_view=photos.fields_of_view,
        provenance=provenance(split, area, root),
    )
    if split == "all":
        return listing
    rows = _divide(containing, tiles, split)
    return replace(
        listing,
        grounds=[photos.paths[row] for row in rows],
        positives=containing[rows, 0],
        semi_positives=containing[rows, 1:],
        ground_latlon=photos.latlon[rows],
        offsets=offsets[rows],
        headings=photos.headings[rows],
        fields_of_view=photos.fields_of_view[rows],
        groups=np.zeros(len(rows), np.int64),
    )


def _divide(containing: Indices, tiles: georeference.Tiles, split: str) -> Indices:
    """Photos of the training and validation, or of the test region."""
    rows = np.flatnonzero(containing[:, 0] >= 0)
    if len(rows) < 2:
        raise InputError(
            f"{len(rows)} photos have a place in a tile: there is nothing to train or test with. Give places"
            " in photos.csv (name,lat,lon), and tiles that contain them, or use the split 'all'."
        )
    centers = mercator(np.vstack([tiles.latlon, [[np.nan, np.nan]]]))
    widths = tiles.size / np.cos(np.radians(tiles.latlon[:, 0]))
    chosen = containing[rows]
    groups = np.zeros(len(rows), np.int64)
    held, stays = hold_out(centers[chosen], widths[chosen[:, 0]], groups, TEST_SHARE)
    return rows[held if split == "test" else stays]


def _containing(latlon: Floats, tiles: georeference.Tiles) -> tuple[Indices, Floats]:
    """Tiles that contain each photo, (N, 1 + S), the nearest centre first, −1 none; and its offset in it."""
    containing = np.full((len(latlon), 1 + MAX_SEMI_POSITIVES), -1, np.int64)
    offsets = np.zeros((len(latlon), 2))
    for row in np.flatnonzero(np.isfinite(latlon).all(axis=1)):
        where = tiles.offsets(latlon[row])
        inside = np.flatnonzero((np.abs(where) <= 0.5).all(axis=1))
        if len(inside):
            inside = inside[np.argsort(np.linalg.norm(where[inside], axis=1), kind="stable")]
            inside = inside[: containing.shape[1]]
            containing[row, : len(inside)] = inside
            offsets[row] = where[inside[0]]
    return containing, offsets


def find_photos(folder: Path, table_path: Path) -> Photos:
    """Photos in a folder, with what their EXIF tags or a table say.

    Args:
        folder: of the photos.
        table_path: of the list described above, which need not exist.

    Raises:
        MissingInputError: no photo, or the table names one that is not there.
        InputError: a malformed table.
    """
    names = list_images(folder)
    table = _read_table(table_path, set(names)) if table_path.exists() else {}
    rows = []
    for name in names:
        path = folder / name
        latitude, longitude, heading, width = table.get(name) or (*georeference.exif_place(path), np.nan)
        rows.append((latitude, longitude, heading, width if np.isfinite(width) else _width(path)))
    values = np.array(rows)
    check_latlon(values[:, :2])
    return Photos([folder / name for name in names], values[:, :2], values[:, 2], values[:, 3])


def _read_table(path: Path, names: set[str]) -> dict[str, tuple[float, float, float, float]]:
    """Latitude, longitude, heading and field of view of photos by their names."""
    table = {}
    for line, row in enumerate(csv.reader(read_text(path).splitlines()), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (line == 1 and tuple(cell.lower() for cell in cells[:3]) == _HEADER[:3]):
            continue
        if not 3 <= len(cells) <= len(_HEADER):
            raise InputError(f"{path}, line {line}: expected name,lat,lon and perhaps heading,fov.")
        if cells[0] not in names:
            raise MissingInputError(f"{path}, line {line}: there is no photo {cells[0]} in photos.")
        if cells[0] in table:
            raise InputError(f"{path}, line {line}: {cells[0]} occurs twice. Remove one of the lines.")
        values = numbers([cell or "nan" for cell in cells[1:]], path, line)
        latitude, longitude, heading, width = [*values, np.nan, np.nan][:4]
        table[cells[0]] = latitude, longitude, heading, width
    return table


def _width(path: Path) -> float:
    """360 degrees for a picture of the shape of a panorama, NaN for another one."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError):
        return np.nan
    return 360.0 if width >= _PANORAMA_ASPECT * height else np.nan
