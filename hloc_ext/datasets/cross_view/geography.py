"""Places on the Earth in metres: UTM, and straight distances between places anywhere.

All transforms are those of the WGS84 ellipsoid by pycolmap; latitudes and longitudes are in degrees.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...compat import wgs84_transform
from ...errors import InputError

Floats = npt.NDArray[np.float64]

#: Sets that are no wider than this lie in one zone, degrees of longitude.
ONE_ZONE = 3.0
#: `crs` of places each of which is in the zone of its own.
OWN_ZONES = "UTM"

#: Of web maps, metres.
EARTH_RADIUS = 6_378_137.0
_METRES_PER_PIXEL = 156543.03392


def web_pixel_size(latitude: npt.ArrayLike, zoom: int) -> Floats:
    """Metres on the ground that a pixel of a web map covers, at latitudes in degrees."""
    return _METRES_PER_PIXEL * np.cos(np.radians(np.asarray(latitude, np.float64))) / 2**zoom


def utm(latlon: Floats) -> tuple[Floats, str]:
    """Easting and northing.

    Args:
        latlon: (N, 2) degrees, NaN where unknown.

    Returns:
        (N, 2) metres, NaN where unknown; and the CRS, ``EPSG:326xx`` or ``EPSG:327xx``, where the places lie
        within :data:`ONE_ZONE` degrees of longitude. Otherwise it is :data:`OWN_ZONES`, each place is in the
        zone that it lies in, and only those of one zone can be compared.

    Raises:
        InputError: degrees out of range.
    """
    check_latlon(latlon)
    positions = np.full((len(latlon), 2), np.nan)
    known = np.flatnonzero(np.isfinite(latlon).all(axis=1))
    if not len(known):
        return positions, ""
    longitudes = latlon[known, 1]
    if np.ptp(longitudes) <= ONE_ZONE:
        center = np.median(latlon[known], axis=0)
        positions[known], crs = _in_one_zone(latlon[known], center)
        return positions, crs
    zones = np.floor((longitudes + 180) / 6)
    for zone in np.unique(zones):
        rows = known[zones == zone]
        center = np.array([np.median(latlon[rows, 0]), 6 * zone - 177])
        positions[rows], _ = _in_one_zone(latlon[rows], center)
    return positions, OWN_ZONES


def _in_one_zone(latlon: Floats, center: Floats) -> tuple[Floats, str]:
    """Easting and northing in the zone of `center`, and its CRS."""
    # pycolmap takes the zone and the hemisphere of the first place.
    rows = np.column_stack([np.vstack([center, latlon]), np.zeros(len(latlon) + 1)])
    projected, zone = wgs84_transform().ellipsoid_to_utm(rows)
    return np.asarray(projected[1:, :2]), f"EPSG:{(32600 if center[0] >= 0 else 32700) + zone}"


def latlon_of_utm(positions: Floats, zone: int, is_north: bool) -> Floats:
    """Latitude and longitude of (N, 2) eastings and northings in a zone, degrees."""
    rows = np.column_stack([positions, np.zeros(len(positions))])
    return np.asarray(wgs84_transform().utm_to_ellipsoid(rows, zone, is_north)[:, :2])


def earth_centred(latlon: Floats) -> Floats:
    """Geocentric coordinates of places at height 0, (N, 2) degrees → (N, 3) metres, NaN where unknown.

    Straight distances between them are those on the ground to 1e-6 up to 30 km, and grow with them everywhere
    on the Earth: unlike degrees and map projections they serve a search for neighbours.
    """
    check_latlon(latlon)
    points = np.full((len(latlon), 3), np.nan)
    known = np.isfinite(latlon).all(axis=1)
    if known.any():
        rows = np.column_stack([latlon[known], np.zeros(int(known.sum()))])
        points[known] = wgs84_transform().ellipsoid_to_ecef(rows)
    return points


def mercator(latlon: Floats) -> Floats:
    """Coordinates of web maps (EPSG:3857), (N, 2) degrees → (N, 2); metres / cos(latitude), NaN unknown.

    Tiles of web maps are squares along the axes, as wide as their width on the ground / cos(latitude), to 0.5
    percent.
    """
    check_latlon(latlon)
    latitude, longitude = np.radians(latlon).T
    return EARTH_RADIUS * np.column_stack([longitude, np.arctanh(np.sin(latitude))])


def latlon_of_mercator(points: Floats) -> Floats:
    """Inverse of :func:`mercator`, (N, 2) → (N, 2) degrees."""
    x, y = (np.asarray(points, np.float64) / EARTH_RADIUS).T
    return np.degrees(np.column_stack([np.arctan(np.sinh(y)), x]))


def check_latlon(latlon: Floats) -> None:
    """Raise an error unless places are (N, 2) degrees, latitude first, or NaN.

    Raises:
        InputError: another shape, or out of range.
    """
    if latlon.ndim != 2 or latlon.shape[1] != 2:
        raise InputError(f"Places of shape {latlon.shape}: expected N×2, latitude and longitude in degrees.")
    wrong = np.flatnonzero((np.abs(latlon) > [90, 180]).any(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(
            f"Place {row} has latitude {latlon[row, 0]:g} and longitude {latlon[row, 1]:g}: expected degrees,"
            " latitude first."
        )
