"""Coordinate reference systems: the metric one to work in, and points from one to another.

Coordinates are always (x, y), that is (easting, northing) or (longitude, latitude), whatever the order of the
CRS's axes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .extra import naming_extra

with naming_extra():
    import pyproj
    from pyproj.exceptions import CRSError, ProjError

Floats = npt.NDArray[np.float64]

#: Longitude and latitude in degrees, of which everything else is told apart.
WGS84 = pyproj.CRS.from_epsg(4326)

#: An image in the CRS of a UTM zone is worked on in it up to so far from the zone's middle, degrees.
_REACH_OF_ZONE = 6.0
#: Projections whose x is proportional to longitude, so that it starts again after a full circle.
_CYLINDRICAL = (
    "popular visualisation pseudo mercator",
    "mercator (variant a)",
    "mercator (variant b)",
    "mercator (variant c)",
    "mercator (spherical)",
    "equidistant cylindrical",
    "equidistant cylindrical (spherical)",
    "lambert cylindrical equal area",
    "miller cylindrical",
)


def parse_crs(crs: Any, what: str) -> pyproj.CRS:
    """A CRS from what pyproj understands, such as ``EPSG:4326``, a number or WKT.

    A compound CRS becomes its horizontal part.

    Args:
        crs: any description.
        what: the file or option that it comes from, for the message.

    Raises:
        InputError: it is not understood, or has no relation to the Earth.
    """
    try:
        parsed = pyproj.CRS.from_user_input(crs)
    except CRSError as error:
        raise InputError(f"The CRS {crs!r} of {what} is not understood: give it as EPSG:NUMBER.") from error
    if parsed.is_compound:
        parsed = next((part for part in parsed.sub_crs_list if not part.is_vertical), parsed)
    if parsed.is_engineering or not (parsed.is_geographic or parsed.is_projected or parsed.is_bound):
        raise InputError(
            f"The CRS '{parsed.name}' of {what} cannot be placed on the Earth: give the right one as"
            " EPSG:NUMBER."
        )
    return parsed


def utm_crs(longitude: float, latitude: float) -> pyproj.CRS:
    """The UTM zone (WGS84) of a place in degrees; the polar (UPS) one beyond 84° N and 80° S.

    Raises:
        InputError: not a place on the Earth.
    """
    if not (math.isfinite(longitude) and abs(latitude) <= 90):
        raise InputError(f"Longitude {longitude}, latitude {latitude} is not a place on the Earth.")
    if latitude > 84:
        return pyproj.CRS.from_epsg(5041)
    if latitude < -80:
        return pyproj.CRS.from_epsg(5042)
    zone = int((longitude + 180) // 6) % 60 + 1
    return pyproj.CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone)


def working_crs(crs: pyproj.CRS, center: npt.ArrayLike) -> pyproj.CRS:
    """The metric CRS to work in around a place.

    That is `crs` itself where it is of a UTM zone which the place is in or near to, on whatever datum; else
    the zone of the place.

    Args:
        crs: that of the image.
        center: (2,) of the image, in `crs`.

    Raises:
        InputError: the centre is outside of the area where `crs` works.
    """
    longitude, latitude = transform_points(crs, WGS84, np.reshape(center, (1, 2)))[0]
    if not np.isfinite([longitude, latitude]).all():
        raise InputError(f"The centre {np.asarray(center).tolist()} lies outside of the CRS '{crs.name}'.")
    if crs.utm_zone is not None and all(axis.unit_conversion_factor == 1 for axis in crs.axis_info):
        middle = 6 * int(crs.utm_zone[:-1]) - 183
        if abs((longitude - middle + 180) % 360 - 180) <= _REACH_OF_ZONE:
            return crs
    return utm_crs(longitude, latitude)


def transform_points(source: pyproj.CRS, target: pyproj.CRS, points: npt.ArrayLike) -> Floats:
    """Take points from one CRS to another.

    Back and forth is exact to nanometres: both ways use the same operation.

    Args:
        source, target: CRSs.
        points: (N, 2) of `source`.

    Returns:
        (N, 2) of `target`; infinite where a point has no place there.
    """
    points = np.asarray(points, np.float64)
    if source == target:
        return points.copy()
    transformer, inverse = _transformer(source, target)
    x, y = transformer.transform(points[:, 0], points[:, 1], direction="INVERSE" if inverse else "FORWARD")
    moved = np.column_stack([x, y]).astype(np.float64)
    moved[~np.isfinite(moved).all(axis=1)] = np.inf
    return moved


def period(crs: pyproj.CRS) -> float | None:
    """After how many units x starts again: 360 of longitude, 40 075 km of Web Mercator; None for never."""
    if crs.is_bound and crs.source_crs is not None:
        crs = crs.source_crs
    if crs.is_geographic:
        return 2 * math.pi / crs.axis_info[0].unit_conversion_factor
    operation = crs.coordinate_operation
    if operation is None or operation.method_name.lower() not in _CYLINDRICAL:
        return None
    geodetic = crs.geodetic_crs or WGS84
    origin = next(
        (float(p.value) for p in operation.params if p.name.lower().startswith("longitude of")), 0.0
    )
    there = transform_points(geodetic, crs, [[origin, 0.0], [origin + 1.0, 0.0]])
    return float(360 * (there[1, 0] - there[0, 0]))


def unwrap(x: npt.ArrayLike, near: npt.ArrayLike, crs: pyproj.CRS | None) -> Floats:
    """The values that stand for the same meridians as `x` and are nearest to `near`.

    Args:
        x: longitudes or eastings of `crs`.
        near: values to be near to, of a shape that broadcasts.
        crs: None or one without :func:`period` changes nothing.
    """
    x = np.asarray(x, np.float64)
    length = None if crs is None else period(crs)
    if length is None:
        return x
    with np.errstate(invalid="ignore"):
        turns = np.round((np.asarray(near, np.float64) - x) / length)
    return x + np.where(np.isfinite(turns), turns, 0) * length


@lru_cache(maxsize=64)
def _operation(source: str, target: str) -> pyproj.Transformer:
    try:
        group = pyproj.transformer.TransformerGroup(source, target, always_xy=True)
        if group.transformers:
            return group.transformers[0]
    except ProjError as error:
        raise InputError(f"No way from the CRS {source[:60]!r} to {target[:60]!r}: {error}.") from error
    raise InputError(f"No way from the CRS {source[:60]!r} to {target[:60]!r}.")


def _transformer(source: pyproj.CRS, target: pyproj.CRS) -> tuple[pyproj.Transformer, bool]:
    """The operation between two CRSs, of which there is one for both ways, and whether to invert it."""
    names = source.to_wkt(), target.to_wkt()
    inverse = names[0] > names[1]
    return _operation(*(names[::-1] if inverse else names)), inverse
