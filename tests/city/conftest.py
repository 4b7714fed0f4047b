"""The tests of the city need its extra."""

from __future__ import annotations

import pytest

for package in ("embreex", "numba", "rasterio", "geopandas"):
    pytest.importorskip(package, reason="the extra `city` is not installed")
