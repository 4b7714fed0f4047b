"""Panoramas or photos alone, to be found in a gallery that was indexed before."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .folder import ELEVATION, find_photos
from .geography import utm
from .layout import CrossViewSet


def open_photos(folder: Path | str, table: Path | str | None = None) -> CrossViewSet:
    """Open a folder of panoramas or photos.

    Args:
        folder: of the photos, in any subfolders.
        table: ``name,lat,lon[,heading[,fov]]`` as in :mod:`hloc_ext.datasets.cross_view.folder`; None: EXIF
            tags only. Places are used for evaluation alone.

    Returns:
        A set without tiles: all positives are −1.

    Raises:
        MissingInputError: no photo, or the table does not exist.
        InputError: a malformed table.
    """
    folder = Path(folder)
    photos = find_photos(folder, folder / ".none" if table is None else Path(table))
    number = len(photos.paths)
    positions, crs = utm(photos.latlon)
    return CrossViewSet(
        name="folder",
        split="all",
        area="",
        root=folder,
        grounds=photos.paths,
        aerials=[],
        positives=np.full(number, -1, np.int64),
        semi_positives=np.empty((number, 0), np.int64),
        ground_latlon=photos.latlon,
        aerial_latlon=np.empty((0, 2)),
        ground_positions=positions,
        aerial_positions=np.empty((0, 2)),
        crs=crs,
        offsets=np.zeros((number, 2)),
        tile_size=np.empty(0),
        elevation=ELEVATION,
        headings=photos.headings,
        fields_of_view=photos.fields_of_view,
        aerial_labels=[],
        provenance=frozenset(),
    )
