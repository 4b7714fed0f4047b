from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from hloc_ext.city import cache
from hloc_ext.city.mesh import Mesh
from hloc_ext.city.scene import City
from tests.city.two_blocks import LAMP, two_blocks


@pytest.fixture(autouse=True)
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Seeds of the cities that are made, each in no time."""
    seeds: list[int] = []

    def make_city(extent: float, seed: int, crs: str, origin: tuple[float, float]) -> City:
        seeds.append(seed)
        return two_blocks()

    monkeypatch.setenv("HLOC_EXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "make_city", make_city)
    monkeypatch.setattr(cache, "make_plan", lambda *_: two_blocks().plan)
    monkeypatch.setattr(cache, "lamp_positions", lambda _: np.array([LAMP]))
    yield seeds


def test_a_city_is_made_once(made: list[int]) -> None:
    first, second = cache.cached_city(200, 1), cache.cached_city(200, 1)
    assert made == [1]
    for field in fields(Mesh):
        expected, value = getattr(first.mesh, field.name), getattr(second.mesh, field.name)
        np.testing.assert_array_equal(value, expected)
        assert value.dtype == expected.dtype
    for expected, texture in zip(first.textures.textures, second.textures.textures, strict=True):
        np.testing.assert_array_equal(texture.pixels, expected.pixels)
        assert (texture.group, texture.size, texture.repeat) == (
            expected.group,
            expected.size,
            expected.repeat,
        )
        assert (texture.weathering, texture.gloss) == (expected.weathering, expected.gloss)
    np.testing.assert_array_equal(second.textures.clouds, first.textures.clouds)
    np.testing.assert_array_equal(second.lights, first.lights)


def test_other_settings_make_another_city(made: list[int]) -> None:
    cache.cached_city(200, 1)
    cache.cached_city(200, 2)
    cache.cached_city(300, 2)
    cache.cached_city(300, 2, "EPSG:32618", (500000.0, 4500000.0))
    assert made == [1, 2, 2, 2]


def test_a_change_of_the_code_makes_it_again(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    cache.cached_city(200, 1)
    monkeypatch.setattr(cache, "source_digest", lambda _: "another version")
    cache.cached_city(200, 1)
    assert made == [1, 1]


def test_a_damaged_file_is_made_again(made: list[int], caplog: pytest.LogCaptureFixture) -> None:
    cache.cached_city(200, 1)
    (path,) = cache.cache_dir().iterdir()
    path.write_bytes(path.read_bytes()[:5000])
    cache.cached_city(200, 1)
    assert made == [1, 1]
    assert str(path) in caplog.text
    cache.cached_city(200, 1)
    assert made == [1, 1]


def test_an_unwritable_cache_costs_time_only(
    made: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HLOC_EXT_CACHE", str(tmp_path / "file"))
    assert len(cache.cached_city(200, 1).mesh)
    assert "not kept" in caplog.text


def test_few_are_kept(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "KEPT", 2)
    for seed in range(3):
        cache.cached_city(200, seed)
        for path in cache.cache_dir().iterdir():  # older than the next
            stat = path.stat()
            os.utime(path, (stat.st_atime - 10, stat.st_mtime - 10))
    assert len(list(cache.cache_dir().iterdir())) == 2
    cache.cached_city(200, 2)
    assert made == [0, 1, 2]
    cache.cached_city(200, 0)
    assert made == [0, 1, 2, 0]
