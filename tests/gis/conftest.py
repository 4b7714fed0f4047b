"""The tests of georeferenced data need their extra: without it they are not collected."""

from __future__ import annotations

from importlib.util import find_spec

if not all(find_spec(name) for name in ("rasterio", "pyogrio", "geopandas", "shapely", "pyproj", "yaml")):
    collect_ignore_glob = ["*"]
