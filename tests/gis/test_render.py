"""Classes of features, and layers drawn as classes."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import pytest
import shapely

from hloc_ext.city.labels import COLORS, Label
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.evaluation.registration import class_iou
from hloc_ext.gis.classes import DEFAULT, Rule, classify, parse_rule, raster_classes, read_rules
from hloc_ext.gis.grid import Grid
from hloc_ext.gis.raster import metric_grid, open_raster
from hloc_ext.gis.render import OUTLINE, borders, map_picture, map_shapes
from hloc_ext.gis.transform import Alignment
from hloc_ext.gis.vector import Layer, read_layers
from tests.gis.scenes import CORNER, squares, write_tiff

UTM = pyproj.CRS.from_epsg(32635)
GRID = Grid.north_up(UTM, *CORNER, 0.5, 200, 160)
RULES = read_rules()
ROAD, SIDEWALK, BUILDING, VEGETATION, WATER = range(1, 6)


def layer(name: str, shapes: list[shapely.Geometry], **columns: list) -> Layer:
    return Layer(name, Path(f"{name}.gpkg"), gpd.GeoDataFrame(columns, geometry=shapes, crs=UTM))


def at(x: float, y: float) -> tuple[float, float]:
    return CORNER[0] + x, CORNER[1] - y


def kinds(frame: pd.DataFrame, name: str = "lines") -> list[tuple[int | None, float]]:
    chosen, widths = classify(frame, (name, name), RULES)
    return [(RULES[c].label if c >= 0 else None, w) for c, w in zip(chosen, widths, strict=True)]


def test_openstreetmap_tags() -> None:
    frame = pd.DataFrame(
        {
            "highway": ["motorway", "footway", None, None, None, "residential", "proposed"],
            "building": [None, None, "yes", "no", None, None, None],
            "landuse": [None, None, None, None, "forest", None, None],
            "lanes": [None, None, None, None, None, "2", None],
        }
    )
    found = kinds(frame)
    assert [kind for kind, _ in found] == [ROAD, SIDEWALK, BUILDING, None, VEGETATION, ROAD, None]
    widths = [width for _, width in found]
    assert widths[:2] == [12, 2] and widths[5] == pytest.approx(6.4)
    assert np.isnan(widths[2:5]).all()


def test_tags_in_one_column_as_ogr_writes_them() -> None:
    frame = pd.DataFrame({"other_tags": ['"surface"=>"asphalt","natural"=>"water"', None, '"a\\"b"=>"c"']})
    assert [kind for kind, _ in kinds(frame)] == [WATER, None, None]


def test_names_of_layers_and_fields_of_the_city_and_of_spacenet() -> None:
    one = pd.DataFrame({"width": [7.5, np.nan]})
    assert kinds(one, "road_centrelines") == [(ROAD, 7.5), (ROAD, 6.0)]
    assert kinds(pd.DataFrame({"lane_number": [2]}), "roads_gt") == [(ROAD, 6.4)]
    expected = {
        "roads": ROAD, "crossings": ROAD, "sidewalks": SIDEWALK, "buildings_a": BUILDING,
        "vegetation": VEGETATION, "Water": WATER, "poi": None,
    }  # fmt: skip
    assert {n: kinds(pd.DataFrame({"a": [1]}), n)[0][0] for n in expected} == expected
    # A tag goes before the name of the layer.
    assert kinds(pd.DataFrame({"highway": ["footway"]}), "roads")[0] == (SIDEWALK, 2)


def test_absurd_widths_are_not_believed() -> None:
    assert kinds(pd.DataFrame({"width": ["wide", "-3", "99999", "4"]}), "roads") == [
        (1, 6),
        (1, 6),
        (1, 6),
        (1, 4),
    ]


def test_later_rules_are_painted_over_earlier_ones() -> None:
    park = layer("p", [shapely.box(*at(0, 80), *at(100, 0))], leisure=["park"])
    road = layer("r", [shapely.LineString([at(0, 40), at(100, 40)])], highway=["residential"])
    house = layer("h", [shapely.box(*at(20, 50), *at(40, 35))], building=["yes"])
    shapes = map_shapes([house, road, park], RULES, GRID, 10.0)
    classes = shapes.classes(GRID)
    assert shapes.counts == {ROAD: 1, BUILDING: 1, VEGETATION: 1}
    assert (classes[10, 10], classes[80, 10], classes[80, 60]) == (VEGETATION, ROAD, BUILDING)
    # A road of 6 m is 12 pixels wide; a building of 20 by 15 m covers 40 by 30.
    assert (classes[:, 150] == ROAD).sum() == 12
    assert (classes == BUILDING).sum() == 1200
    assert shapes.layers.tolist() == [2, 1, 0]


def test_windows_show_what_the_whole_shows() -> None:
    shapes = map_shapes([layer("buildings", list(squares().geometry))], RULES, GRID, 10.0)
    whole = shapes.classes(GRID)
    assert (whole == BUILDING).sum() == 3 * 400
    for column, row, window in GRID.windows(64):
        part = whole[row : row + window.height, column : column + window.width]
        np.testing.assert_array_equal(shapes.classes(window), part)


def test_grids_with_rotation_and_perspective() -> None:
    shapes = map_shapes([layer("buildings", list(squares().geometry))], RULES, GRID, 50.0)
    turned = np.array([[0, -1, 3], [1, 0, 0], [0, 0, 1.0]])
    alignment = Alignment(turned, "similarity", UTM, GRID.center)
    moved = layer("buildings", list(alignment.apply(squares().geometry.to_numpy(), UTM)))
    direct = map_shapes([moved], RULES, GRID, 50.0).classes(GRID)
    np.testing.assert_array_equal(shapes.classes(alignment.claimed_grid(GRID)), direct)
    tilted = np.array([[1, 0.1, 2], [0, 1, 0], [1e-3, -5e-4, 1.0]])
    alignment = Alignment(tilted, "homography", UTM, GRID.center)
    moved = layer("buildings", list(alignment.apply(squares().geometry.to_numpy(), UTM)))
    direct = map_shapes([moved], RULES, GRID, 50.0).classes(GRID)
    drawn = shapes.classes(alignment.claimed_grid(GRID))
    assert (drawn != direct).sum() <= 4 and (drawn == BUILDING).sum() > 1000


def test_collections_and_points() -> None:
    mixed = shapely.GeometryCollection(
        [shapely.box(*at(10, 20), *at(20, 10)), shapely.LineString([at(0, 0), at(50, 50)])]
    )
    trees = layer("t", [shapely.Point(at(60, 40))], natural=["tree"])
    shapes = map_shapes([layer("buildings", [mixed]), trees], RULES, GRID, 10.0)
    classes = shapes.classes(GRID)
    assert (classes == BUILDING).sum() == 400
    # A crown of 5 m across.
    assert (classes == VEGETATION).sum() == pytest.approx(np.pi * 25, rel=0.08)


def test_nothing_with_a_class_is_an_error() -> None:
    with pytest.raises(InputError, match=r"(?s)1 of the layers poi.*class"):
        map_shapes([layer("poi", [shapely.Point(at(5, 5))])], RULES, GRID, 10.0)


def test_a_rule_can_leave_features_out() -> None:
    rules = [parse_rule({"class": "none", "where": {"demolished": ["yes"]}}), *RULES]
    frame = layer("buildings", list(squares().geometry), demolished=["yes", "no", None])
    assert map_shapes([frame], rules, GRID, 10.0).counts == {BUILDING: 2}


def test_rasters_of_classes_are_layers(tmp_path: Path) -> None:
    mask = np.zeros((160, 200), np.uint8)
    mask[20:60, 30:90] = 1
    raster = open_raster(write_tiff(tmp_path / "mask.tif", mask))
    rule = Rule(BUILDING, values=(1,))
    classes = map_shapes([raster], [*RULES, rule], GRID, 10.0).classes(GRID)
    np.testing.assert_array_equal(classes, mask * BUILDING)
    # Without a rule the values are the labels of the city; a crossing is a road.
    assert map_shapes([raster], RULES, GRID, 10.0).classes(GRID)[30, 40] == ROAD
    np.testing.assert_array_equal(raster_classes(np.array([0, 5, 6, 8]), ("a",), RULES), [0, 5, 1, 0])
    with pytest.raises(InputError, match="values"):
        raster_classes(np.array([0, 255]), ("a",), RULES)


def test_layers_in_pixels_of_a_picture(tmp_path: Path) -> None:
    grid = Grid.north_up(None, 0, 0, 1, 50, 40)
    frame = gpd.GeoDataFrame(geometry=[shapely.box(10, -20, 30, -5)])
    pyogrio.write_dataframe(frame, tmp_path / "buildings.gpkg")
    classes = map_shapes(read_layers(tmp_path / "buildings.gpkg", crs="pixels"), RULES, grid).classes(grid)
    assert (classes[5:20, 10:30] == BUILDING).all() and (classes == BUILDING).sum() == 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b", "list"),
        ("- {class: castle, layer: a}", "castle"),
        ("- {class: road}", "everything"),
        ("- {class: road, layer: a, colour: red}", "colour"),
        ("- {class: road, layer: a, width: wide}", "rule 1"),
        ("- {class: road, where: [a]}", "rule 1"),
        ("- {class: road", "YAML"),
    ],
)
def test_rules_that_are_not_understood(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_rules(tmp_path / "a.yaml")
    with pytest.raises(MissingInputError):
        read_rules(tmp_path / "b.yaml")


def test_yes_and_no_without_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- {class: building, where: {building: yes, ruin: [no, few]}}")
    assert read_rules(tmp_path / "a.yaml")[0].where == {"building": ("*",), "ruin": ("no", "few")}
    assert DEFAULT.is_file()


def test_a_picture_of_the_map() -> None:
    classes = np.zeros((9, 9), np.uint8)
    classes[2:7, 2:7] = BUILDING
    picture = map_picture(classes)
    assert tuple(picture[4, 4]) == COLORS[Label.BUILDING]
    assert tuple(picture[2, 2]) == OUTLINE
    assert tuple(picture[0, 0]) == COLORS[Label.OTHER]
    assert borders(classes).sum() == 16


def test_a_mask_and_the_polygons_made_of_it_are_the_same(shared_data: Path) -> None:
    """Austin: the polygons are in degrees, the mask on a grid of UTM on NAD83."""
    folder = shared_data / "bench" / "gis" / "austin"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    mask = open_raster(folder / "austin_buildings_mask.tif")
    grid = metric_grid(open_raster(folder / "austin.tif"))
    drawn = map_shapes(read_layers(folder / "austin_buildings.geojson"), RULES, grid).classes(grid)
    true = map_shapes([mask], [Rule(BUILDING, values=(1,))], grid).classes(grid)
    assert class_iou(drawn, true)[BUILDING] > 0.999
