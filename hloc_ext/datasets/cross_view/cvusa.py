"""CVUSA, the "CVPR subset": 35,532 pairs for training and 8,884, named val, that everybody tests with.

    bingmap/19/0000001.jpg             tile, 750 x 750, Bing's zoom level 19
    streetview/panos/0000001.jpg       panorama, 1232 x 224: 32.6 degrees above and below the horizon
    splits/train-19zl.csv, val-19zl.csv   no header: tile, panorama, annotation (which is not used)
    split_locations/all.csv, or all.csv   no header: latitude and longitude of the tile, then of the
                                       panorama, and a column that is not used; line N is of image N

The list of places may be missing; then nothing can be held out for validation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import InputError
from .geography import check_latlon, web_pixel_size
from .listing import Floats, Listing, check_unique, numbers, read_rows, source_name

SPLITS = ("train", "val", "test", "all")
EXPECTED = "folders bingmap and streetview, and splits/train-19zl.csv"

#: Degrees over the horizon of the lower and the upper border of the panoramas.
ELEVATION = (-32.6, 32.6)
TILE, ZOOM = 750, 19

_LISTS = {
    "train": ["train-19zl.csv"],
    "test": ["val-19zl.csv"],
    "all": ["train-19zl.csv", "val-19zl.csv"],
}


def is_here(root: Path) -> bool:
    """Whether a folder looks like CVUSA."""
    return (root / "bingmap").is_dir() and (root / "streetview").is_dir()


def provenance(split: str, area: str, root: Path) -> frozenset[str]:
    """The lists of a split."""
    parts = ("train", "test") if split == "all" else (split,)
    return frozenset(f"{source_name('cvusa', root)}/{part}" for part in parts)


def read(root: Path, split: str, area: str) -> Listing:
    """Read the list of a split, ``train`` or ``test``, or both: ``all``; `area` has no meaning here.

    Raises:
        MissingInputError: there is no list.
        InputError: a list has a header or a malformed line.
    """
    rows: list[list[str]] = []
    ids: list[int] = []
    for path in (root / "splits" / name for name in _LISTS[split]):
        listed = read_rows(path, (2, 3))
        ids += [_image_id(row, path, line) for line, row in enumerate(listed, 1)]
        rows += listed
        check_unique([row[0] for row in rows], path)
    places = _places(root, ids)
    return Listing(
        grounds=[root / row[1] for row in rows],
        aerials=[root / row[0] for row in rows],
        positives=np.arange(len(rows)),
        ground_latlon=places[:, 2:4],
        aerial_latlon=places[:, :2],
        tile_size=web_pixel_size(places[:, 0], ZOOM) * TILE,
        elevation=ELEVATION,
        provenance=provenance(split, area, root),
    )


def _image_id(row: list[str], path: Path, line: int) -> int:
    stem = Path(row[0]).stem
    if not stem.isdigit():
        hint = " Remove the header row: the lists have none." if line == 1 else ""
        raise InputError(
            f"{path}, line {line}: {row[0]} is no tile, whose name is a number (0000001.jpg).{hint}"
        )
    return int(stem)


def _places(root: Path, ids: list[int]) -> Floats:
    """Latitude and longitude of tile and panorama of each id, (N, 4), NaN where there is no list."""
    found = [path for path in (root / "split_locations" / "all.csv", root / "all.csv") if path.exists()]
    if not found:
        return np.full((len(ids), 4), np.nan)
    rows = read_rows(found[0], (4, 5))
    table = np.array([numbers(row[:4], found[0], line) for line, row in enumerate(rows, 1)])
    if max(ids) > len(table) or min(ids) < 1:
        raise InputError(
            f"{found[0]} has {len(table)} lines, and a list names image {max(ids)}: line N belongs to image"
            " N, the first is 1. Complete it, or remove it."
        )
    places = table[np.array(ids) - 1]
    check_latlon(places.reshape(-1, 2))
    return places
