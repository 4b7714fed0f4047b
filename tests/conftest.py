"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pycolmap
import pytest

from tests.synthetic import make_scene


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the development data; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("HLOC_EXT_DATA", default))
    if not (path / "bench").is_dir():
        pytest.skip(f"development data not found in {path} (set HLOC_EXT_DATA)")
    return path


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pycolmap.Reconstruction]:
    """Folder of rendered images, and the model with their true poses and points."""
    return make_scene(tmp_path_factory.mktemp("scene"))
