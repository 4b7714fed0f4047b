"""What the readers of the layouts find: pairs by their files, before anything is checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ... import logger
from ...errors import InputError, MissingInputError
from ...formats.atomic import read_text

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: The first of so many missing files are named.
NAMED = 5


@dataclass(frozen=True)
class Listing:
    """Panoramas and tiles of a list; see :class:`~hloc_ext.datasets.cross_view.layout.CrossViewSet`.

    Attributes:
        grounds, aerials, positives, semi_positives, ground_latlon, aerial_latlon, offsets, tile_size,
            elevation, headings, fields_of_view, provenance: as there.
        groups: (N,) the parts of the world that are divided into training and validation each for itself.
    """

    grounds: list[Path]
    aerials: list[Path]
    positives: Indices
    ground_latlon: Floats
    aerial_latlon: Floats
    tile_size: Floats
    elevation: tuple[float, float]
    provenance: frozenset[str]
    semi_positives: Indices = field(default_factory=lambda: np.empty((0, 0), np.int64))
    offsets: Floats = field(default_factory=lambda: np.empty((0, 2)))
    headings: Floats = field(default_factory=lambda: np.empty(0))
    fields_of_view: Floats = field(default_factory=lambda: np.empty(0))
    groups: Indices = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        """Where not said otherwise: whole panoramas, north in the centre, taken at the centres of tiles."""
        count = len(self.grounds)
        for name, default in (
            ("semi_positives", np.empty((count, 0), np.int64)),
            ("offsets", np.zeros((count, 2))),
            ("headings", np.zeros(count)),
            ("fields_of_view", np.full(count, 360.0)),
            ("groups", np.zeros(count, np.int64)),
        ):
            if len(getattr(self, name)) != count:
                object.__setattr__(self, name, default)


def check_files(listing: Listing, skip: bool, is_gallery: bool) -> tuple[Indices, Indices]:
    """Find out which files exist.

    Args:
        listing: of a split.
        skip: leave out what is missing.
        is_gallery: tiles without a panorama matter, too.

    Returns:
        Numbers of the panoramas and of the tiles that stay; a panorama needs its positive tile.

    Raises:
        MissingInputError: files are missing; how many, and the first few.
    """
    grounds, aerials = existing(listing.grounds), existing(listing.aerials)
    has_tile = np.append(aerials, True)[listing.positives]
    needed = np.zeros(len(aerials), bool)
    needed[listing.positives[listing.positives >= 0]] = True
    needed[listing.semi_positives[listing.semi_positives >= 0]] = True
    missing = [p for p, there in zip(listing.grounds, grounds, strict=True) if not there]
    missing += [
        p
        for p, there, need in zip(listing.aerials, aerials, needed | is_gallery, strict=True)
        if need and not there
    ]
    if missing:
        text = (
            f"{len(missing)} of {len(grounds) + len(aerials)} files are missing:"
            f" {', '.join(str(path) for path in missing[:NAMED])}{', …' if len(missing) > NAMED else ''}."
        )
        if not skip:
            raise MissingInputError(
                f"{text} Complete the data set, or leave these pairs out with missing='skip'."
            )
        logger.warning("%s Their pairs are left out.", text)
    return np.flatnonzero(grounds & has_tile), np.flatnonzero(aerials)


def existing(paths: Sequence[Path]) -> npt.NDArray[np.bool_]:
    """Which files exist, (N,); each folder is listed once."""
    folders: dict[Path, set[str]] = {}
    for folder in {path.parent for path in paths}:
        folders[folder] = {item.name for item in folder.iterdir()} if folder.is_dir() else set()
    return np.array([path.name in folders[path.parent] for path in paths], bool)


def source_name(name: str, root: Path) -> str:
    """Name of a data set in lists of what a network has seen: a made-up city is none of the real ones.

    Args:
        name: of the layout.
        root: folder of the data set; ``settings.json`` there tells the number of a made-up city.
    """
    settings = root / "settings.json"
    if not settings.is_file():
        return name
    try:
        return f"city{int(json.loads(read_text(settings))['seed'])}-{name}"
    except (ValueError, KeyError, TypeError):
        return name


def read_rows(path: Path, columns: Iterable[int], separator: str | None = ",") -> list[list[str]]:
    """Rows of a table without a header.

    Args:
        path: the file.
        columns: numbers of columns that a row may have.
        separator: of the columns; None: white space.

    Raises:
        MissingInputError: no such file.
        InputError: it is empty, or a row has another number of columns.
    """
    if not path.exists():
        raise MissingInputError(f"List {path} does not exist: it is a part of the data set.")
    allowed = tuple(columns)
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        row = [cell.strip() for cell in line.split(separator)]
        if len(row) not in allowed:
            expected = " or ".join(str(count) for count in allowed)
            raise InputError(f"{path}, line {number} has {len(row)} columns: expected {expected}.")
        rows.append(row)
    if not rows:
        raise InputError(f"{path} is empty: expected one pair in each line.")
    return rows


def check_unique(names: Sequence[str], path: Path) -> None:
    """Raise an error where a list names something twice.

    Raises:
        InputError: with the first such name.
    """
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path} lists {name} {count} times: expected each once. Remove the others.")


def numbers(row: Sequence[str], path: Path, line: int) -> list[float]:
    """Cells of a row as numbers.

    Raises:
        InputError: a cell is none.
    """
    try:
        return [float(cell) for cell in row]
    except ValueError:
        hint = " Remove the header row: the lists have none." if line == 1 else ""
        raise InputError(f"{path}, line {line}: {','.join(row)} are no numbers.{hint}") from None
