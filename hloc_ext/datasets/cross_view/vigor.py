"""VIGOR: panoramas of four cities among overlapping tiles; a camera stands anywhere in its tile.

    {City}/panorama/{id},{lat},{lon},.jpg, {City}/satellite/satellite_{lat}_{lon}.png    official
    ground/{City}/..., satellite/{City}/...                                              of Sample4Geo
    splits/{City}/satellite_list.txt           file names of all tiles of a city
    splits/{City}/same_area_balanced_train.txt, same_area_balanced_test.txt, pano_label_balanced.txt

A line of the last three names a panorama, then four times a tile and two numbers d0 and d1: the camera is at
(x, y) = (320 - d1, 320 + d0) of the tile's 640 pixels. The first tile is the positive one, the others are
semi-positive. In the area "same", training and test are halves of all cities, in "cross" they are two cities
each. A test gallery holds all tiles of its cities.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError, MissingInputError
from .geography import check_latlon
from .listing import Floats, Indices, Listing, check_unique, numbers, read_rows, source_name

SPLITS = ("train", "val", "test")
EXPECTED = "splits/{City}/satellite_list.txt, and {City}/panorama or ground/{City}"

CITIES = ("Chicago", "NewYork", "SanFrancisco", "Seattle")
#: Width of a pixel of the cities' tiles, metres (Lentsch et al., "SliceMatch", CVPR 2023).
PIXEL_SIZE = {"Chicago": 0.111262, "NewYork": 0.113248, "SanFrancisco": 0.118141, "Seattle": 0.100817}
ELEVATION = (-90.0, 90.0)
TILE = 640

_TRAIN_CITIES = ("NewYork", "Seattle")
_GROUND = ("{city}/panorama", "ground/{city}", "{city}/ground")
_AERIAL = ("{city}/satellite", "satellite/{city}", "{city}/sat")
_COLUMNS = 13


@dataclass(frozen=True)
class _City:
    """Pairs of a city; columns of `tiles` are the positive and the semi-positive ones, rows of its list."""

    grounds: list[Path]
    aerials: list[Path]
    tiles: Indices
    offsets: Floats
    ground_latlon: Floats
    aerial_latlon: Floats


def is_here(root: Path) -> bool:
    """Whether a folder looks like VIGOR."""
    return any((root / "splits" / city / "satellite_list.txt").exists() for city in CITIES)


def provenance(split: str, area: str, root: Path) -> frozenset[str]:
    """The lists of a split; whole cities are both lists of each."""
    lists = ("train", "test") if area == "cross" else (split,)
    name = source_name("vigor", root)
    return frozenset(f"{name}/{city}/{part}" for city in cities(split, area) for part in lists)


def cities(split: str, area: str) -> tuple[str, ...]:
    """Cities of a split, in the order of the gallery."""
    if area == "same":
        return CITIES
    return tuple(city for city in CITIES if (city in _TRAIN_CITIES) == (split == "train"))


def read(root: Path, split: str, area: str) -> Listing:
    """Read the pairs of a split, ``train`` or ``test``, and all tiles of its cities.

    Raises:
        MissingInputError: a list or a folder is missing.
        InputError: a list has a header or a malformed line, or names a tile that is not in the list of tiles.
    """
    names = cities(split, area)
    label_list = "pano_label_balanced.txt" if area == "cross" else f"same_area_balanced_{split}.txt"
    found = [_read_city(root, city, label_list) for city in names]
    starts = np.cumsum([0] + [len(city.aerials) for city in found])
    tiles = np.concatenate([c.tiles + start for c, start in zip(found, starts[:-1], strict=True)])
    sizes = [np.full(len(c.aerials), TILE * PIXEL_SIZE[n]) for c, n in zip(found, names, strict=True)]
    return Listing(
        grounds=[path for city in found for path in city.grounds],
        aerials=[path for city in found for path in city.aerials],
        positives=tiles[:, 0],
        semi_positives=tiles[:, 1:],
        ground_latlon=np.concatenate([city.ground_latlon for city in found]),
        aerial_latlon=np.concatenate([city.aerial_latlon for city in found]),
        offsets=np.concatenate([city.offsets for city in found]),
        tile_size=np.concatenate(sizes),
        elevation=ELEVATION,
        provenance=provenance(split, area, root),
        groups=np.repeat(np.arange(len(found)), [len(city.grounds) for city in found]),
    )


def _read_city(root: Path, city: str, label_list: str) -> _City:
    folder = root / "splits" / city
    tile_list, path = folder / "satellite_list.txt", folder / label_list
    tiles = [row[0] for row in read_rows(tile_list, (1,), None)]
    check_unique(tiles, tile_list)
    number_of = {name: number for number, name in enumerate(tiles)}
    rows = read_rows(path, (_COLUMNS,), None)
    check_unique([row[0] for row in rows], path)
    unknown = [name for row in rows for name in row[1::3] if name not in number_of]
    if unknown:
        raise InputError(
            f"{path} names {len(unknown)} tiles that {tile_list} does not, first {unknown[0]}: the lists do"
            " not belong together, or one has a header row, which must be removed."
        )
    deltas = np.array([numbers([*row[2::3], *row[3::3]], path, line) for line, row in enumerate(rows, 1)])
    grounds, aerials = _folder(root, city, _GROUND), _folder(root, city, _AERIAL)
    return _City(
        grounds=[grounds / row[0] for row in rows],
        aerials=[aerials / name for name in tiles],
        tiles=np.array([[number_of[name] for name in row[1::3]] for row in rows], np.int64),
        # Columns of deltas: d0 of the four tiles, then d1.
        offsets=np.column_stack([-deltas[:, 4], deltas[:, 0]]) / TILE,
        ground_latlon=_latlon([row[0].split(",")[-3:-1] for row in rows], path),
        aerial_latlon=_latlon([Path(name).stem.split("_")[-2:] for name in tiles], tile_list),
    )


def _folder(root: Path, city: str, patterns: tuple[str, ...]) -> Path:
    names = [pattern.format(city=city) for pattern in patterns]
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise MissingInputError(f"{root} has no folder {' or '.join(names)}.")


def _latlon(cells: list[list[str]], path: Path) -> Floats:
    """Latitude and longitude that names of files tell, (N, 2)."""
    try:
        places = np.array([[float(cell) for cell in pair] for pair in cells]).reshape(len(cells), 2)
    except ValueError:
        raise InputError(
            f"{path}: the names of the files do not tell latitude and longitude, as"
            " ID,LATITUDE,LONGITUDE,.jpg and satellite_LATITUDE_LONGITUDE.png do."
        ) from None
    check_latlon(places)
    return places
