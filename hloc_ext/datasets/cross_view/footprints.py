"""Corners of tiles on the Earth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...compat import wgs84_transform
from ...errors import InputError
from .georeference import find_tiles
from .layout import CrossViewSet

Floats = npt.NDArray[np.float64]

# Upper left, upper right, lower right and lower left corner: x to the east, y to the north.
_CORNERS = np.array([[-0.5, 0.5], [0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]])


def tile_corners(pairs: CrossViewSet) -> Floats:
    """Corners of all tiles.

    Those of the public data sets are squares of `tile_size` metres around their places, with the sides to the
    north and to the east; those of one's own folder are where their georeference says.

    Args:
        pairs: the set.

    Returns:
        (M, 4, 2) latitude and longitude in degrees: upper left, upper right, lower right, lower left.

    Raises:
        InputError: the place or the size of a tile is not known.
    """
    if pairs.name == "folder":
        tiles = find_tiles(pairs.root / "tiles")
        number_of = {path: number for number, path in enumerate(tiles.paths)}
        return tiles.corners()[[number_of[path] for path in pairs.aerials]]
    unknown = ~(np.isfinite(pairs.aerial_latlon).all(axis=1) & np.isfinite(pairs.tile_size))
    if unknown.any():
        raise InputError(
            f"The places of {int(unknown.sum())} of {len(unknown)} tiles are not known, first"
            f" {pairs.aerials[int(np.argmax(unknown))]}: complete the data set (CVUSA: all.csv)."
        )
    transform = wgs84_transform()
    corners = np.empty((len(pairs.aerials), 4, 2))
    for number, ((latitude, longitude), size) in enumerate(
        zip(pairs.aerial_latlon, pairs.tile_size, strict=True)
    ):
        around = np.column_stack([size * _CORNERS, np.zeros(4)])
        corners[number] = transform.enu_to_ellipsoid(around, latitude, longitude, 0.0)[:, :2]
    return corners
