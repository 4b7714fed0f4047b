from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely

from hloc_ext.city.layers import (
    CROWN_RADIUS,
    LAYERS,
    from_wgs84,
    to_wgs84,
    vector_layers,
    write_geopackage,
    write_layers,
)
from hloc_ext.city.plan import CityPlan, make_plan
from hloc_ext.compat import wgs84_transform
from hloc_ext.formats.atomic import UnwritableError


@pytest.fixture(scope="module")
def plan() -> CityPlan:
    return make_plan(160, 3)


def test_the_layers_are_the_plan_in_projected_coordinates(plan: CityPlan) -> None:
    layers = vector_layers(plan)
    assert tuple(layers) == LAYERS
    for frame in layers.values():
        assert frame.crs.to_epsg() == 32635
    assert layers["roads"].area.sum() == pytest.approx(plan.roads.area)
    assert layers["water"].area.sum() == pytest.approx(plan.waters.area)
    assert layers["sidewalks"].area.sum() == pytest.approx(plan.sidewalks.area + plan.plazas.area)
    assert len(layers["crossings"]) == len(plan.crossings)
    buildings = layers["buildings"]
    building = plan.buildings[7]
    row = buildings[buildings["id"] == 7].iloc[0]
    assert (row["floors"], row["roof"], row["use"]) == (building.floors, building.roof, building.use)
    assert row["height"] == building.eaves
    corners = shapely.get_coordinates(building.footprint) + np.array([487000.0, 6470000.0])
    np.testing.assert_array_equal(shapely.get_coordinates(row.geometry), corners)
    assert list(layers["road_centrelines"]["width"]) == [street.width for street in plan.streets]


def test_crowns_are_as_wide_as_the_trees(plan: CityPlan) -> None:
    vegetation = vector_layers(plan)["vegetation"]
    crowns = vegetation[vegetation["kind"] == "tree"]
    trees = [item for item in plan.items if item.kind == "tree"]
    assert len(crowns) == len(trees) > 20
    bounds = crowns.bounds.to_numpy()
    np.testing.assert_allclose(bounds[:, 2] - bounds[:, 0], [2 * CROWN_RADIUS * tree.size for tree in trees])
    assert set(vegetation["kind"]) == {"park", "lawn", "tree"}


def test_a_shift_moves_everything(plan: CityPlan) -> None:
    straight, shifted = vector_layers(plan), vector_layers(plan, shift=(3.0, -2.0))
    for name in LAYERS:
        before, after = (shapely.get_coordinates(layers[name].geometry) for layers in (straight, shifted))
        np.testing.assert_allclose(after - before, np.broadcast_to((3.0, -2.0), before.shape), atol=1e-8)


def test_the_heading_of_a_crossing_is_a_bearing(plan: CityPlan) -> None:
    row = vector_layers(plan)["crossings"].iloc[0]
    bearing = np.radians(row["heading"])
    ahead = np.array([np.sin(bearing), np.cos(bearing)])
    heading = plan.crossings[0].heading
    np.testing.assert_allclose(ahead, [np.cos(heading), np.sin(heading)], atol=1e-12)


def test_a_geopackage_holds_all_layers_and_has_the_same_bytes_again(plan: CityPlan, tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "layers.gpkg", tmp_path / "b.gpkg"
    write_layers(plan, first)
    write_layers(plan, second)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == ["layers.gpkg"]
    assert {name for name, _ in pyogrio.list_layers(first)} == set(LAYERS)
    for name, frame in vector_layers(plan).items():
        read = geopandas.read_file(first, layer=name)
        assert read.crs == frame.crs
        assert shapely.equals_exact(read.geometry.to_numpy(), frame.geometry.to_numpy(), 1e-9).all()


def test_layers_without_rows_are_written(plan: CityPlan, tmp_path: Path) -> None:
    write_geopackage({"water": vector_layers(plan)["water"].iloc[:0]}, tmp_path / "empty.gpkg")
    read = geopandas.read_file(tmp_path / "empty.gpkg", layer="water")
    assert len(read) == 0
    assert read.crs.to_epsg() == 32635


def test_a_folder_that_is_a_file_is_reported(plan: CityPlan, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises((OSError, UnwritableError), match="taken"):
        write_layers(plan, tmp_path / "taken" / "layers.gpkg")


def test_wgs84_and_back(plan: CityPlan) -> None:
    points = np.array([[0.0, 0.0], [40.0, -70.0], [-80.0, 80.0]])
    degrees = to_wgs84(plan, points)
    np.testing.assert_allclose(from_wgs84(plan, degrees), points, atol=1e-6)
    # UTM zone 35 has its meridian at 27 degrees east; 13 km west of it lies 26.78 degrees.
    assert degrees[0] == pytest.approx([58.3690, 26.7779], abs=2e-3)


def test_distances_agree_with_the_ellipsoid(plan: CityPlan) -> None:
    points = np.array([[-80.0, 0.0], [80.0, 0.0]])
    degrees = np.column_stack([to_wgs84(plan, points), np.zeros(2)])
    geocentric = wgs84_transform().ellipsoid_to_ecef(degrees)
    # The scale of UTM near the meridian is 0.9996.
    assert np.linalg.norm(np.diff(geocentric, axis=0)) == pytest.approx(160 / 0.9996, rel=1e-5)
