"""A cross-view data set in memory, and :func:`open_set`, which opens one of any layout.

    cvusa    CVUSA (Workman et al., ICCV 2015), the "CVPR subset"
    cvact    CVACT (Liu and Li, CVPR 2019)
    vigor    VIGOR (Zhu et al., CVPR 2021)
    folder   one's own georeferenced tiles, and panoramas or photos

Splits: ``train`` and ``val`` are parts of the official training pairs, which are divided by region, so that
no tile of one overlaps a tile of the other; models are selected by ``val``. ``test`` is the official test set
(the "val" list of CVUSA, which everybody tests with), which nothing is selected by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ...errors import InputError, MissingInputError
from . import cvact, cvusa, folder, vigor
from .geography import earth_centred, mercator, utm
from .listing import Listing, check_files, existing
from .regions import hold_out

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Folder of the class maps of the tiles, in that of the data set: TILE.png for the tile TILE.jpg.
LABELS = "tile_labels"

_READERS: dict[str, ModuleType] = {"cvusa": cvusa, "cvact": cvact, "vigor": vigor, "folder": folder}
LAYOUTS = tuple(_READERS)


@dataclass(frozen=True)
class CrossViewSet:
    """Panoramas, tiles, and which belong together. N panoramas, M tiles; a number is an index into them.

    Attributes:
        name: of :data:`LAYOUTS`.
        split: ``train``, ``val``, ``test``; of CVACT also ``val_official``, of CVUSA and of a folder
            also ``all``.
        area: ``same`` or ``cross`` of VIGOR, otherwise empty.
        root: folder of the data set.
        grounds: files of the N panoramas.
        aerials: files of the M tiles.
        positives: (N,) tile of each panorama; −1 where a photo of a folder has none.
        semi_positives: (N, S) other tiles that show where the panorama was taken, −1 for none.
        ground_latlon: (N, 2) latitude and longitude, WGS84 degrees, NaN unknown.
        aerial_latlon: (M, 2) of the tiles' centres.
        ground_positions: (N, 2) easting and northing in `crs`, metres, NaN unknown.
        aerial_positions: (M, 2) of the tiles' centres.
        crs: UTM zone of the positions, ``EPSG:…``; ``UTM`` where each place is in the zone that it lies in,
            so that positions of different zones must not be compared (:meth:`distances` may be); empty where
            no place is known.
        offsets: (N, 2) where the camera stands in its positive tile, from the centre, as a share of the
            tile's width: x to the right (east), y down (south).
        tile_size: (M,) width of the tiles on the ground, metres, NaN unknown.
        elevation: of the lower and the upper border of the panoramas, degrees over the horizon.
        headings: (N,) azimuth of the centre column, degrees clockwise from north, NaN unknown; 0 in the
            public data sets.
        fields_of_view: (N,) width of the panorama in degrees, 360 for a whole one, NaN unknown.
        aerial_labels: class maps of the tiles (see :mod:`hloc_ext.datasets.spatial_priors`), None where
            there is none.
        provenance: the lists that the panoramas were taken from, e.g. ``vigor/Chicago/test``. A network that
            was trained with any of a test set's must not be tested with it.
    """

    name: str
    split: str
    area: str
    root: Path
    grounds: list[Path]
    aerials: list[Path]
    positives: Indices
    semi_positives: Indices
    ground_latlon: Floats
    aerial_latlon: Floats
    ground_positions: Floats
    aerial_positions: Floats
    crs: str
    offsets: Floats
    tile_size: Floats
    elevation: tuple[float, float]
    headings: Floats
    fields_of_view: Floats
    aerial_labels: list[Path | None]
    provenance: frozenset[str]

    def __post_init__(self) -> None:
        panoramas, tiles = len(self.grounds), len(self.aerials)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                of_tiles = field.name.startswith("aerial") or field.name == "tile_size"
                assert len(value) == (tiles if of_tiles else panoramas), field.name
        assert len(self.aerial_labels) == tiles, "aerial_labels"
        for numbers in (self.positives, self.semi_positives):
            assert numbers.size == 0 or (numbers.min() >= -1 and numbers.max() < tiles)

    def __len__(self) -> int:
        return len(self.grounds)

    def subset(self, grounds: npt.ArrayLike, aerials: npt.ArrayLike | None = None) -> CrossViewSet:
        """Some of the panoramas and tiles, in their order here.

        Args:
            grounds: numbers of panoramas.
            aerials: numbers of tiles; None: those that these panoramas refer to.
        """
        rows = np.asarray(grounds, np.int64)
        if aerials is None:
            used = np.unique(np.concatenate([self.positives[rows], self.semi_positives[rows].ravel()]))
            aerials = used[used >= 0]
        tiles = np.asarray(aerials, np.int64)
        renumbered = np.full(len(self.aerials) + 1, -1, np.int64)  # the last entry is that of −1
        renumbered[tiles] = np.arange(len(tiles))
        return replace(
            self,
            grounds=[self.grounds[row] for row in rows],
            aerials=[self.aerials[tile] for tile in tiles],
            positives=renumbered[self.positives[rows]],
            semi_positives=renumbered[self.semi_positives[rows]],
            ground_latlon=self.ground_latlon[rows],
            aerial_latlon=self.aerial_latlon[tiles],
            ground_positions=self.ground_positions[rows],
            aerial_positions=self.aerial_positions[tiles],
            offsets=self.offsets[rows],
            tile_size=self.tile_size[tiles],
            headings=self.headings[rows],
            fields_of_view=self.fields_of_view[rows],
            aerial_labels=[self.aerial_labels[tile] for tile in tiles],
        )

    def distances(self, grounds: npt.ArrayLike, aerials: npt.ArrayLike) -> Floats:
        """Metres between panoramas and centres of tiles, wherever on the Earth they are.

        Args:
            grounds: (…) numbers of panoramas.
            aerials: (…) numbers of tiles, −1 for none; the two are broadcast.

        Returns:
            (…) metres, NaN where a place is unknown or there is no tile.
        """
        rows, tiles = np.broadcast_arrays(np.asarray(grounds, np.int64), np.asarray(aerials, np.int64))
        ground, aerial = earth_centred(self.ground_latlon), earth_centred(self.aerial_latlon)
        metres = np.linalg.norm(ground[rows] - aerial[tiles], axis=-1)
        return np.where((rows >= 0) & (tiles >= 0), metres, np.nan)


def open_set(
    root: Path | str,
    split: str,
    area: str = "same",
    layout: str | None = None,
    *,
    val_share: float = 0.1,
    missing: str = "error",
    labels: Path | str | None = None,
) -> CrossViewSet:
    """Open a cross-view data set.

    Args:
        root: its folder.
        split: see :class:`CrossViewSet`.
        area: of VIGOR: ``same`` (train and test in all four cities) or ``cross`` (train in two, test in the
            others); has no meaning elsewhere.
        layout: of :data:`LAYOUTS`; None: that of the folders that are there.
        val_share: of the training pairs that are for validation; 0: all of them are for training.
        missing: ``error``, or ``skip`` to leave pairs out whose files are missing, with a warning.
        labels: folder of the class maps; None: :data:`LABELS` in `root`.

    Returns:
        The set; all its files exist.

    Raises:
        InputError: unknown split or layout, a list with a header row or a malformed line, too few pairs.
        MissingInputError: no list, or files missing; tells how many and the first few.
    """
    root = Path(root)
    if area not in ("same", "cross") or missing not in ("error", "skip") or not 0 <= val_share < 0.5:
        raise InputError(
            f"area={area!r}, missing={missing!r}, val_share={val_share}: expected 'same' or 'cross', 'error'"
            " or 'skip', and a share from 0 to 0.5."
        )
    name = find_layout(root) if layout is None else layout
    reader = _reader(name)
    if split not in reader.SPLITS:
        raise InputError(f"{name} has no split '{split}': use one of {', '.join(reader.SPLITS)}.")
    if split == "val" and not val_share:
        raise InputError("val_share is 0: all training pairs are for training, and there is no split 'val'.")
    for_training = split in ("train", "val")
    listing = reader.read(root, "train" if for_training else split, area)
    rows, tiles = check_files(listing, missing == "skip", is_gallery=not for_training)
    label_root = root / LABELS if labels is None else Path(labels)
    found = _assemble(listing, name, split, area if name == "vigor" else "", root, label_root)
    if not for_training:
        return found.subset(rows, tiles)
    training = found.subset(rows)
    if not val_share:
        return training
    held, stays = _divide(training, listing.groups[rows], val_share)
    return training.subset(np.flatnonzero(stays if split == "train" else held))


def find_layout(root: Path | str) -> str:
    """Layout of a folder, by what is in it.

    Raises:
        MissingInputError: no such folder.
        InputError: none of the layouts.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingInputError(f"Data set {root} does not exist, or is no folder.")
    for name, reader in _READERS.items():
        if reader.is_here(root):
            return name
    expected = "; ".join(f"{name}: {reader.EXPECTED}" for name, reader in _READERS.items())
    raise InputError(f"{root} has none of the known layouts. Expected one of these: {expected}.")


def provenance_of_test(name: str, area: str = "same", root: Path | str = "") -> frozenset[str]:
    """The lists that a test split is taken from, whether its files are there or not.

    Args:
        name: of :data:`LAYOUTS`.
        area: see :func:`open_set`.
        root: of one's own folder, whose name tells it from others.
    """
    return _reader(name).provenance("test", area, Path(root))


def check_untouched(trained_with: Iterable[str], test: Iterable[str], what: str) -> None:
    """Raise an error where a network was trained with what it is to be tested with.

    Args:
        trained_with: provenance of all sets that it was trained with.
        test: provenance of the test set.
        what: the network, for the message.

    Raises:
        InputError: they overlap.
    """
    shared = sorted(set(trained_with) & set(test))
    if shared:
        raise InputError(
            f"{what} was trained with {', '.join(shared)}, which the test set contains, so that its figures"
            " would mean nothing. Use weights of another training, or test with other data."
        )


def _reader(name: str) -> ModuleType:
    if name not in _READERS:
        raise InputError(f"Unknown layout '{name}': use one of {', '.join(LAYOUTS)}.")
    return _READERS[name]


def _assemble(
    listing: Listing, name: str, split: str, area: str, root: Path, label_root: Path
) -> CrossViewSet:
    """Set of all that is listed, whether it exists or not."""
    labels = [(label_root / path.relative_to(root)).with_suffix(".png") for path in listing.aerials]
    positions, crs = utm(np.concatenate([listing.ground_latlon, listing.aerial_latlon]))
    return CrossViewSet(
        name=name,
        split=split,
        area=area,
        root=root,
        grounds=listing.grounds,
        aerials=listing.aerials,
        positives=listing.positives,
        semi_positives=listing.semi_positives,
        ground_latlon=listing.ground_latlon,
        aerial_latlon=listing.aerial_latlon,
        ground_positions=positions[: len(listing.grounds)],
        aerial_positions=positions[len(listing.grounds) :],
        crs=crs,
        offsets=listing.offsets,
        tile_size=listing.tile_size,
        elevation=listing.elevation,
        headings=listing.headings,
        fields_of_view=listing.fields_of_view,
        aerial_labels=[path if there else None for path, there in zip(labels, existing(labels), strict=True)],
        provenance=listing.provenance,
    )


def _divide(
    training: CrossViewSet, groups: Indices, share: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which panoramas are for validation, and which for training."""
    centers = mercator(np.vstack([training.aerial_latlon, [[np.nan, np.nan]]]))
    widths = training.tile_size / np.cos(np.radians(training.aerial_latlon[:, 0]))
    tiles = np.column_stack([training.positives, training.semi_positives])
    return hold_out(centers[tiles], np.append(widths, np.nan)[training.positives], groups, share)
