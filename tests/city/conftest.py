"""The tests of the city need its extra: without it they are not collected."""

from __future__ import annotations

from importlib.util import find_spec

if not all(find_spec(name) for name in ("embreex", "numba", "rasterio", "geopandas")):
    collect_ignore_glob = ["*"]
