"""Places and lines on the Earth as GeoJSON (RFC 7946): WGS84, longitude before latitude, no ``crs``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CorruptFileError, InputError
from .atomic import read_text, write_text

#: Decimals of the coordinates: 1e-7 degrees are about a centimetre.
DECIMALS = 7


def point(latlon: Sequence[float], properties: Mapping[str, Any]) -> dict[str, Any]:
    """A feature at a place.

    Args:
        latlon: latitude and longitude, WGS84 degrees; NaN where the place is unknown (geometry ``null``).
        properties: JSON values; numbers that are not finite become ``null``.

    Raises:
        InputError: degrees out of range.
    """
    known = all(math.isfinite(value) for value in latlon)
    geometry = {"type": "Point", "coordinates": _position(latlon)} if known else None
    return {"type": "Feature", "geometry": geometry, "properties": _finite(properties)}


def line(places: Iterable[Sequence[float]], properties: Mapping[str, Any]) -> dict[str, Any]:
    """A feature along two or more places, each latitude and longitude in WGS84 degrees.

    Raises:
        InputError: fewer places, or degrees out of range.
    """
    positions = [_position(latlon) for latlon in places]
    if len(positions) < 2:
        raise InputError(f"A line needs two places, it has {len(positions)}.")
    geometry = {"type": "LineString", "coordinates": positions}
    return {"type": "Feature", "geometry": geometry, "properties": _finite(properties)}


def _position(latlon: Sequence[float]) -> list[float]:
    latitude, longitude = (float(value) for value in latlon)
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise InputError(f"Latitude {latitude:g}, longitude {longitude:g} are no place on the Earth.")
    return [round(longitude, DECIMALS), round(latitude, DECIMALS)]


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def write_geojson(path: Path, features: Iterable[Mapping[str, Any]]) -> Path:
    """Write a FeatureCollection, one feature a line; returns `path`."""
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False, allow_nan=False) for feature in features)
    write_text(path, f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n')
    return path


def read_geojson(path: Path) -> list[dict[str, Any]]:
    """Features of a FeatureCollection.

    Raises:
        CorruptFileError: the file is no FeatureCollection.
    """
    try:
        content = json.loads(read_text(path))
        if content["type"] != "FeatureCollection":
            raise ValueError(f"its type is {content['type']!r}")
        return list(content["features"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{path} is no FeatureCollection of GeoJSON: {error}.") from error
