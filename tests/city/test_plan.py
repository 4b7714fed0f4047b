from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import shapely

from hloc_ext.city.labels import COLORS, Label
from hloc_ext.city.plan import CityPlan, make_plan
from hloc_ext.city.planning.drawing import draw_plan, plan_to_pixel
from hloc_ext.city.planning.faces import classify_faces
from hloc_ext.errors import InputError

CITIES = [(160.0, 0), (200.0, 1), (200.0, 2), (200.0, 3), (400.0, 4)]
OVERLAP = 1e-6


@pytest.fixture(scope="module", params=CITIES, ids=str)
def plan(request: pytest.FixtureRequest) -> CityPlan:
    return make_plan(*request.param)


def _footprints(plan: CityPlan) -> np.ndarray:
    return np.array([building.footprint for building in plan.buildings])


def _points(plan: CityPlan, *kinds: str) -> np.ndarray:
    chosen = [(item.x, item.y) for item in plan.items if not kinds or item.kind in kinds]
    return shapely.points(np.array(chosen).reshape(-1, 2))


def _everything(plan: CityPlan) -> list[object]:
    areas = [plan.roads, plan.sidewalks, plan.parks, plan.lawns, plan.plazas, plan.waters]
    return [
        [area.wkb for area in areas],
        [(crossing.area.wkb, crossing.heading) for crossing in plan.crossings],
        [
            (b.index, b.footprint.wkb, b.floors, b.floor_height, b.ground_height, b.roof, b.use, b.faces)
            for b in plan.buildings
        ],
        [(s.centreline.tobytes(), s.width, s.sidewalk, s.lanes, s.name) for s in plan.streets],
        plan.items,
        plan.parking.tobytes(),
        plan.stop_lines.tobytes(),
    ]


def test_the_same_seed_gives_the_same_plan() -> None:
    first, second, other = _everything(make_plan(200, 5)), _everything(make_plan(200, 5)), make_plan(200, 6)
    assert first == second
    assert first[0] != _everything(other)[0]


def test_origin_and_crs_do_not_change_the_geometry() -> None:
    here, there = make_plan(160, 1), make_plan(160, 1, "EPSG:32755", (300000.0, 5800000.0))
    assert _everything(here) == _everything(there)
    assert (there.crs, there.origin, there.seed) == ("EPSG:32755", (300000.0, 5800000.0), 1)


def test_areas_are_valid_disjoint_and_inside(plan: CityPlan) -> None:
    buildings = shapely.union_all(_footprints(plan))
    areas = [plan.roads, plan.sidewalks, plan.parks, plan.lawns, plan.plazas, plan.waters, buildings]
    box = shapely.box(*plan.bounds).buffer(1e-9)
    for area in areas:
        assert area.is_valid
        assert box.covers(area)
    for first, second in itertools.combinations(areas, 2):
        assert shapely.intersection(first, second).area < OVERLAP
    share = sum(area.area for area in areas) / shapely.box(*plan.bounds).area
    assert 0.8 < share <= 1
    for area in areas[:6]:
        parts = shapely.get_parts(area)
        pairs = shapely.STRtree(parts).query(parts, predicate="intersects")
        first, second = pairs[:, pairs[0] < pairs[1]]
        assert shapely.area(shapely.intersection(parts[first], parts[second])).sum() < OVERLAP


def test_footprints_are_disjoint_and_neighbours_share_walls(plan: CityPlan) -> None:
    footprints = _footprints(plan)
    assert [building.index for building in plan.buildings] == list(range(len(footprints)))
    assert shapely.is_valid(footprints).all()
    assert all(footprint.exterior.is_ccw and not footprint.interiors for footprint in footprints)
    assert shapely.area(footprints).min() > 6
    first, second = shapely.STRtree(footprints).query(footprints, predicate="dwithin", distance=0.5)
    first, second = first[first < second], second[first < second]
    assert shapely.area(shapely.intersection(footprints[first], footprints[second])).max() < OVERLAP
    # Buildings closer than half a metre touch, along walls that both have.
    assert shapely.distance(footprints[first], footprints[second]).max() < 1e-9
    for i, j in zip(first, second, strict=True):
        edges = [
            {frozenset((a, b)) for a, b in itertools.pairwise(map(tuple, corners))}
            for corners in (shapely.get_coordinates(footprints[k]).round(6) for k in (i, j))
        ]
        common = edges[0] & edges[1]
        length = sum(np.linalg.norm(np.subtract(*edge)) for edge in map(tuple, common))
        near = shapely.intersection(footprints[i].buffer(0.02), footprints[j].exterior).length
        assert length > 1
        assert near < length + 0.5


def test_the_faces_of_neighbours_are_party_walls(plan: CityPlan) -> None:
    footprints = _footprints(plan)
    tree = shapely.STRtree(footprints)
    counts: Counter[str] = Counter()
    for building in plan.buildings:
        corners = shapely.get_coordinates(building.footprint)
        assert len(building.faces) == len(corners) - 1
        for start, end, face in zip(corners[:-1], corners[1:], building.faces, strict=True):
            counts[face] += 1
            step = (end - start) / np.linalg.norm(end - start)
            probes = (
                start
                + np.array([[0.03], [0.5], [0.97]]) * (end - start)
                + 0.01 * np.array([step[1], -step[0]])
            )
            inside, found = tree.query(shapely.points(probes), predicate="within")
            others = set(inside[found != building.index])
            assert others == ({0, 1, 2} if face == "party" else set())
            if face == "street":
                middle = shapely.Point((start + end) / 2)
                assert shapely.distance(middle, plan.sidewalks) < 28.1
    assert set(counts) <= {"street", "yard", "party"}
    assert min(counts["street"], counts["yard"], counts["party"]) > 10


def test_walls_at_a_sidewalk_face_the_street(plan: CityPlan) -> None:
    shapely.prepare(plan.sidewalks)
    found = 0
    for building in plan.buildings:
        corners = shapely.get_coordinates(building.footprint)
        step = np.diff(corners, axis=0)
        middle = corners[:-1] + step / 2
        outward = np.stack([step[:, 1], -step[:, 0]], axis=1) / np.linalg.norm(step, axis=1)[:, None]
        at_sidewalk = shapely.contains_xy(plan.sidewalks, middle + 0.05 * outward)
        assert all(building.faces[edge] == "street" for edge in np.flatnonzero(at_sidewalk))
        found += at_sidewalk.any()
    assert found > 0.25 * len(plan.buildings)


def test_faces_of_two_houses() -> None:
    """A block of 40 m by 42 m at the western bounds; two houses wall to wall at its southern border."""
    ring = shapely.box(0, 0, 40, 42)
    houses = [
        shapely.Polygon([(10, 0), (20, 0), (20, 9), (20, 12), (10, 12)]),
        shapely.Polygon([(20, 0), (30, 0), (30, 9), (20, 9)]),
    ]
    faces = classify_faces(houses, [ring], (0, -20, 100, 100))
    # In the order of the corners: south, east (shared), east (above the neighbour), north, west (bounds).
    assert faces[0] == ("street", "party", "street", "yard", "yard")
    # South, east, north (33 m from the street), west (shared).
    assert faces[1] == ("street", "street", "yard", "party")


def test_roofs_fit_their_footprints(plan: CityPlan) -> None:
    for building in plan.buildings:
        footprint = building.footprint
        assert building.roof in {"flat", "gable", "hip", "mansard"}
        assert building.use in {"house", "apartments", "shops", "office", "industrial", "civic"}
        if building.roof == "gable":
            assert footprint.area / footprint.minimum_rotated_rectangle.area > 0.85
        if building.roof in ("hip", "mansard"):
            assert footprint.area / footprint.convex_hull.area > 1 - 1e-9
        assert 1 <= building.floors <= 8
        assert 2.4 < building.eaves < 40


def test_a_small_city_has_a_block_with_streets_all_around() -> None:
    for seed in range(8):
        plan = make_plan(200, seed)
        blocks = shapely.get_parts(shapely.difference(shapely.box(*plan.bounds), plan.roads))
        blocks = blocks[shapely.area(blocks) > 600]
        assert len(blocks) >= 9
        middle = blocks[np.argmin(shapely.distance(blocks, shapely.Point(0, 0)))]
        assert shapely.distance(middle, shapely.box(*plan.bounds).exterior) > 3
        assert len(plan.buildings) >= 28
        assert plan.parks.area > 200


def test_a_larger_city_is_mixed() -> None:
    plan = make_plan(500, 3)
    assert {building.use for building in plan.buildings} == {
        "house",
        "apartments",
        "shops",
        "office",
        "industrial",
        "civic",
    }
    assert {building.roof for building in plan.buildings} == {"flat", "gable", "hip", "mansard"}
    assert len({building.floors for building in plan.buildings}) == 8
    assert {street.lanes for street in plan.streets} >= {1, 2}
    assert len({street.name for street in plan.streets}) == len(plan.streets)
    widths = {street.width for street in plan.streets}
    assert min(widths) == 5 and max(widths) >= 12
    kinds = Counter(item.kind for item in plan.items)
    assert set(kinds) == {
        "tree",
        "bush",
        "lamp",
        "traffic_sign",
        "bench",
        "bin",
        "bollard",
        "bus_stop",
        "advertising_column",
        "kiosk",
        "hydrant",
        "rock",
    }
    assert kinds["tree"] > 300 and kinds["lamp"] > 200


def test_streets_lie_on_the_roads(plan: CityPlan) -> None:
    for street in plan.streets:
        line = shapely.LineString(street.centreline)
        assert shapely.covers(plan.roads.buffer(1e-6), line)
        assert np.linalg.norm(np.diff(street.centreline, axis=0), axis=1).min() > 0
        assert 2 <= street.sidewalk <= 4


def test_items_stand_free(plan: CityPlan) -> None:
    points, footprints = _points(plan), _footprints(plan)
    assert len(points) > 150
    assert shapely.distance(points, plan.roads).min() >= 0.2
    assert shapely.distance(points, plan.waters).min() > 0 if not plan.waters.is_empty else True
    everything = shapely.union_all(footprints)
    shapely.prepare(everything)
    assert shapely.distance(points, everything).min() >= 0.4
    assert shapely.distance(_points(plan, "tree"), everything).min() >= 2
    crossings = shapely.union_all([crossing.area for crossing in plan.crossings])
    assert shapely.distance(points, crossings).min() > 0.8
    positions = shapely.get_coordinates(points)
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=2) + 9 * np.eye(len(positions))
    assert gaps.min() > 0.55


def test_lamps_light_every_street(plan: CityPlan) -> None:
    lamps = shapely.union_all(_points(plan, "lamp"))
    lengths = []
    for street in plan.streets:
        line = shapely.LineString(street.centreline)
        if line.length > 30:
            lengths.append(shapely.distance(line.interpolate(0.5, normalized=True), lamps))
    assert np.median(lengths) < 16
    assert max(lengths) < 45


def test_cars_park_on_the_right_at_the_kerb_or_in_yards(plan: CityPlan) -> None:
    on_road = shapely.contains_xy(plan.roads, plan.parking[:, :2])
    assert (
        on_road.sum() > 5
        and not shapely.intersects(
            shapely.points(plan.parking[:, :2]), shapely.union_all(_footprints(plan))
        ).any()
    )
    lines = np.array([shapely.LineString(street.centreline) for street in plan.streets])
    crossings = shapely.union_all([crossing.area for crossing in plan.crossings])
    for x, y, heading in plan.parking[on_road]:
        center, ahead = np.array([x, y]), np.array([np.cos(heading), np.sin(heading)])
        point = shapely.Point(center)
        index = int(np.argmin(shapely.distance(lines, point)))
        nearest = shapely.get_coordinates(lines[index].interpolate(lines[index].project(point)))[0]
        right = np.array([ahead[1], -ahead[0]])
        assert (center - nearest) @ right > 0.9 * np.linalg.norm(center - nearest)
        assert np.linalg.norm(center - nearest) == pytest.approx(
            plan.streets[index].width / 2 - 1.1, abs=0.15
        )
        left = np.array([-ahead[1], ahead[0]])
        car = shapely.Polygon(
            [center + a * 2.2 * ahead + b * 0.9 * left for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
        )
        assert plan.roads.covers(car)
        assert shapely.distance(car, crossings) > 0.5


def test_cars_do_not_stand_in_each_other(plan: CityPlan) -> None:
    positions = plan.parking[:, :2]
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=2) + 9 * np.eye(len(positions))
    assert gaps.min() > 2.4


def test_crossings_lead_across_roads_from_kerb_to_kerb(plan: CityPlan) -> None:
    assert len(plan.crossings) >= 6
    footways = plan.sidewalks.buffer(0.4)
    for crossing in plan.crossings:
        assert plan.roads.covers(crossing.area)
        corners = shapely.get_coordinates(crossing.area)[:4]
        assert len(corners) == 4
        ahead = np.array([np.cos(crossing.heading), np.sin(crossing.heading)])
        across = corners[2] - corners[1]
        assert abs(across @ ahead) < 1e-6 * np.linalg.norm(across)
        assert crossing.area.area == pytest.approx(
            np.linalg.norm(across) * np.linalg.norm(corners[1] - corners[0])
        )
        for a, b in ((corners[0], corners[1]), (corners[2], corners[3])):
            assert footways.intersects(shapely.Point((a + b) / 2))
    first, second = shapely.STRtree([c.area for c in plan.crossings]).query([c.area for c in plan.crossings])
    overlaps = [
        plan.crossings[i].area.intersection(plan.crossings[j].area).area
        for i, j in zip(first, second, strict=True)
        if i < j
    ]
    assert max(overlaps, default=0.0) < OVERLAP


def test_stop_lines_are_before_crossings_and_on_roads(plan: CityPlan) -> None:
    lines = shapely.linestrings(plan.stop_lines)
    assert len(lines) >= 4
    assert shapely.covers(plan.roads, lines).all()
    crossings = shapely.union_all([crossing.area for crossing in plan.crossings])
    assert shapely.distance(lines, crossings).min() > 0.3


def test_the_picture_shows_the_plan() -> None:
    plan = make_plan(160, 0)
    picture = draw_plan(plan, 0.5)
    assert picture.shape == (320, 320, 3)
    np.testing.assert_allclose(plan_to_pixel(plan, [[-80.0, 80.0], [80.0, -80.0]], 0.5), [[0, 0], [320, 320]])
    np.testing.assert_allclose(plan_to_pixel(plan, (0.25, -0.25), 0.5), (160.5, 160.5))
    street = max(plan.streets, key=lambda street: street.width)
    column, row = plan_to_pixel(plan, street.centreline[len(street.centreline) // 2], 0.5).astype(int)
    assert tuple(picture[row, column]) == COLORS[Label.ROAD]
    crossing = shapely.get_coordinates(plan.crossings[0].area.centroid)[0]
    column, row = plan_to_pixel(plan, crossing, 0.5).astype(int)
    assert tuple(picture[row, column]) == COLORS[Label.CROSSING]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((60.0, 1), "at least 120 m"),
        ((float("nan"), 1), "at least 120 m"),
        ((200.0, -1), "not negative"),
        ((200.0, 1, "EPSG:3301"), "UTM"),
        ((200.0, 1, "EPSG:32661"), "UTM"),
        ((200.0, 1, "EPSG:32635", (float("inf"), 0.0)), "easting"),
    ],
)
def test_bad_arguments_are_explained(arguments: tuple, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_plan(*arguments)
