"""RFC 7946: longitude first, WGS84 without a member ``crs``, no numbers that JSON does not have."""

from __future__ import annotations

import json

import pytest

from hloc_ext.errors import CorruptFileError, InputError
from hloc_ext.formats.geojson import line, point, read_geojson, write_geojson


def test_longitude_comes_first_and_there_is_no_crs(tmp_path):
    path = write_geojson(tmp_path / "a.geojson", [point([38.99939169, -92.99954395], {"query": "é.jpg"})])
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content.keys() == {"type", "features"} and content["type"] == "FeatureCollection"
    (feature,) = content["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [-92.999544, 38.9993917]}
    assert feature["properties"] == {"query": "é.jpg"} and feature["type"] == "Feature"
    assert read_geojson(path) == content["features"]


def test_what_is_not_known_is_null():
    feature = point([float("nan"), 3.0], {"error_m": float("inf"), "scores": [1.0, float("nan")], "n": 3})
    assert feature["geometry"] is None
    assert feature["properties"] == {"error_m": None, "scores": [1.0, None], "n": 3}


def test_a_collection_may_be_empty(tmp_path):
    assert read_geojson(write_geojson(tmp_path / "a.geojson", [])) == []


def test_lines():
    feature = line([(1.0, 2.0), (3.0, 4.0)], {})
    assert feature["geometry"] == {"type": "LineString", "coordinates": [[2.0, 1.0], [4.0, 3.0]]}
    with pytest.raises(InputError, match="two places"):
        line([(1.0, 2.0)], {})


@pytest.mark.parametrize("latlon", [(-92.9, 389.9), (91, 0), (0, 181)])
def test_degrees_out_of_range_are_refused(latlon):
    with pytest.raises(InputError, match="no place on the Earth"):
        point(latlon, {})


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "Feature"}', '{"type": "FeatureCollection"}'])
def test_other_files_are_named(tmp_path, text):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(CorruptFileError, match=r"a\.geojson is no FeatureCollection"):
        read_geojson(path)
