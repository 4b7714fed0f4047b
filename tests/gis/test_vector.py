"""Vector layers: what is read, and what of it is near an image."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import shapely

from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.gis.crs import WGS84, transform_points, utm_crs
from hloc_ext.gis.grid import Grid
from hloc_ext.gis.vector import Layer, Surroundings, metric_shapes, read_layers, require_near
from tests.gis.scenes import CORNER, squares

UTM = pyproj.CRS.from_epsg(32635)
GRID = Grid.north_up(UTM, *CORNER, 0.5, 200, 160)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".fgb"])
@pytest.mark.parametrize("epsg", [4326, 32635])
def test_layers_of_any_format_and_crs_are_in_the_same_place(tmp_path: Path, suffix: str, epsg: int) -> None:
    pyogrio.write_dataframe(squares(f"EPSG:{epsg}"), tmp_path / f"houses{suffix}")
    (layer,) = read_layers(tmp_path / f"houses{suffix}")
    assert (layer.name, len(layer.frame), layer.spatial) == ("houses", 3, True)
    shapes, rows, repaired = metric_shapes(layer, GRID, 10.0)
    assert repaired == 0
    # FlatGeobuf sorts its features by place.
    shapes = shapes[np.argsort(layer.frame["number"].to_numpy()[rows])]
    expected = squares().geometry.to_numpy()
    assert shapely.hausdorff_distance(shapes, expected).max() < 1e-6


def test_several_layers_a_table_and_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    pyogrio.write_dataframe(squares(), path, layer="buildings")
    pyogrio.write_dataframe(squares()[:0], path, layer="nothing", geometry_type="Polygon")
    pyogrio.write_dataframe(pd.DataFrame({"key": ["a"]}), path, layer="styles")
    assert [(x.name, x.spatial, len(x.frame)) for x in read_layers(path)] == [
        ("buildings", True, 3),
        ("nothing", True, 0),
        ("styles", False, 1),
    ]
    assert [x.name for x in read_layers(path, names=["nothing", "buildings"])] == ["buildings", "nothing"]
    pyogrio.write_dataframe(squares("EPSG:4326"), tmp_path / "b.geojson")
    assert [x.path.name for x in read_layers(tmp_path)] == ["a.gpkg"] * 3 + ["b.geojson"]
    with pytest.raises(MissingInputError, match="roads"):
        read_layers(path, names=["roads"])


def test_integers_with_gaps_stay_integers(tmp_path: Path) -> None:
    frame = squares().assign(floors=pd.array([3, None, 2**40], "Int64"), name=["a", None, "ü"])
    pyogrio.write_dataframe(frame, tmp_path / "a.gpkg")
    read = read_layers(tmp_path / "a.gpkg")[0].frame
    assert read["floors"].dtype == "Int64"
    assert read["floors"].tolist() == [3, pd.NA, 2**40]
    assert read["name"].tolist()[2] == "ü"


def test_without_crs_is_an_error_until_it_is_stated(tmp_path: Path) -> None:
    pyogrio.write_dataframe(squares().set_crs(None, allow_override=True), tmp_path / "a.shp")
    with pytest.raises(InputError, match=r"(?s)'a'.*layers_crs"):
        read_layers(tmp_path / "a.shp")
    assert read_layers(tmp_path / "a.shp", crs="EPSG:32635")[0].crs == UTM
    assert read_layers(tmp_path / "a.shp", crs="pixels")[0].crs is None
    with pytest.raises(InputError, match="EPSG:NUMBER"):
        read_layers(tmp_path / "a.shp", crs="EPSG:1")


def test_metres_that_claim_to_be_degrees(tmp_path: Path) -> None:
    wrong = squares().set_crs("EPSG:4326", allow_override=True)
    pyogrio.write_dataframe(wrong, tmp_path / "a.geojson")
    with pytest.raises(InputError, match="latitude"):
        read_layers(tmp_path / "a.geojson")
    assert len(metric_shapes(read_layers(tmp_path / "a.geojson", crs=32635)[0], GRID, 10.0)[0]) == 3


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        read_layers(tmp_path / "missing.gpkg")
    with pytest.raises(MissingInputError, match="No vector data"):
        read_layers(tmp_path)
    (tmp_path / "a.gpkg").write_bytes(b"SQLite format 3\0" + b"x" * 500)
    with pytest.raises(CorruptFileError, match=r"a\.gpkg"):
        read_layers(tmp_path / "a.gpkg")
    pyogrio.write_dataframe(squares()[:0], tmp_path / "b.gpkg", geometry_type="Polygon")
    with pytest.raises(InputError, match="empty"):
        read_layers(tmp_path / "b.gpkg")


def test_far_away_says_how_far(tmp_path: Path) -> None:
    pyogrio.write_dataframe(squares("EPSG:4326", offset=(50_000, 0)), tmp_path / "a.geojson")
    layers = read_layers(tmp_path / "a.geojson")
    with pytest.raises(InputError, match=r"(?s)'a'.* 50\.0 km"):
        require_near(layers, GRID, 100.0)
    require_near(layers, GRID, 60_000.0)
    assert len(metric_shapes(layers[0], GRID, 100.0)[0]) == 0
    with pytest.raises(InputError, match="empty"):
        require_near([], GRID, 100.0)


def test_only_what_is_near_is_read(tmp_path: Path) -> None:
    frame = pd.concat([squares(), squares(offset=(5000, 0)), squares(offset=(60, -20))])
    for path in (tmp_path / "a.gpkg", tmp_path / "a.fgb"):
        pyogrio.write_dataframe(frame.to_crs(4326), path)
        near = read_layers(path, near=(GRID, 5.0))[0].frame
        assert sorted(near["number"]) == [0, 0, 1, 1, 2, 2]


def test_invalid_geometries_are_repaired_for_drawing_only(tmp_path: Path) -> None:
    x, y = CORNER[0] + 20, CORNER[1] - 20
    bow = shapely.Polygon([(x, y), (x + 10, y - 10), (x + 10, y), (x, y - 10)])
    frame = gpd.GeoDataFrame({"a": [0, 1, 2]}, geometry=[bow, None, shapely.Polygon()], crs=UTM)
    pyogrio.write_dataframe(frame, tmp_path / "a.gpkg")
    (layer,) = read_layers(tmp_path / "a.gpkg")
    shapes, rows, repaired = metric_shapes(layer, GRID, 10.0)
    assert (repaired, rows.tolist()) == (1, [0])
    assert shapes[0].is_valid and shapes[0].area == pytest.approx(50)
    assert not layer.frame.geometry.iloc[0].is_valid


def antimeridian_grid() -> Grid:
    crs = utm_crs(-179.999, -17.0)
    center = transform_points(WGS84, crs, [[180.0, -17.0]])[0]
    return Grid.north_up(crs, center[0] - 100, center[1] + 100, 0.5, 400, 400)


@pytest.mark.parametrize(
    ("west", "east"), [(179.9998, 180.0002), (-180.0002, -179.9998), (179.9998, -179.9998)]
)
def test_a_house_on_the_antimeridian_however_it_is_written(west: float, east: float, tmp_path: Path) -> None:
    south, north = -17.0001, -16.9999
    house = shapely.Polygon([(west, south), (east, south), (east, north), (west, north)])
    frame = gpd.GeoDataFrame(geometry=[house], crs=WGS84)
    pyogrio.write_dataframe(frame, tmp_path / "a.gpkg")
    grid = antimeridian_grid()
    (layer,) = read_layers(tmp_path / "a.gpkg", near=(grid, 50.0))
    shapes, _, _ = metric_shapes(layer, grid, 50.0)
    geodesic = abs(
        pyproj.Geod(ellps="WGS84").polygon_area_perimeter(
            [179.9998, 180.0002, 180.0002, 179.9998], [south, south, north, north]
        )[0]
    )
    assert len(shapes) == 1 and shapes[0].area == pytest.approx(geodesic, rel=0.01)


def test_halves_on_both_sides_of_the_antimeridian(tmp_path: Path) -> None:
    halves = shapely.MultiPolygon(
        [shapely.box(179.9998, -17.0001, 180, -16.9999), shapely.box(-180, -17.0001, -179.9998, -16.9999)]
    )
    for epsg in (4326, 3857):
        frame = gpd.GeoDataFrame(geometry=[halves], crs=WGS84).to_crs(epsg)
        pyogrio.write_dataframe(frame, tmp_path / f"{epsg}.gpkg")
        (layer,) = read_layers(tmp_path / f"{epsg}.gpkg")
        shapes, _, _ = metric_shapes(layer, antimeridian_grid(), 50.0)
        width, height = np.ptp(np.reshape(shapes[0].bounds, (2, 2)), axis=0)
        assert (width, height) == (pytest.approx(42.6, abs=1.5), pytest.approx(22.1, abs=1.5))


def test_across_the_border_of_utm_zones() -> None:
    """An image in zone 35 whose layer is in zone 36, around 30 degrees east."""
    center = transform_points(WGS84, UTM, [[29.9995, 58.0]])[0]
    grid = Grid.north_up(UTM, center[0] - 100, center[1] + 100, 0.5, 400, 400)
    frame = gpd.GeoDataFrame(geometry=[shapely.box(*(center + 20), *(center + 40))], crs=UTM)
    layer = Layer("a", Path("a.gpkg"), frame.to_crs(32636))
    shapes, _, _ = metric_shapes(layer, grid, 10.0)
    assert shapely.hausdorff_distance(shapes[0], frame.geometry.iloc[0]) < 1e-6


def test_a_country_is_cut_to_the_surroundings() -> None:
    country = shapely.segmentize(shapely.box(-170, -80, 170, 80), 1.0)
    frame = gpd.GeoDataFrame(geometry=[country], crs=WGS84)
    shapes, _, _ = metric_shapes(Layer("a", Path("a.gpkg"), frame), GRID, 10.0)
    assert len(shapes) == 1
    assert shapely.contains(shapes[0], shapely.Polygon(GRID.corners))
    assert shapes[0].area < 50 * 100 * 80 * 4


def test_frames_of_pixels_and_of_the_ground_do_not_mix() -> None:
    with pytest.raises(InputError, match="placement"):
        Surroundings.of(Grid.north_up(None, 0, 0, 1, 10, 10), 1.0, UTM)
