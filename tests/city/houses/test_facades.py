from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import shapely

from hloc_ext.city.houses.facade_layout import make_facade
from hloc_ext.city.houses.facade_style import colored, make_style
from hloc_ext.city.houses.facades import (
    FIRST_BUILDING_ID,
    building_mesh,
    buildings_mesh,
    corner_mitres,
    main_edge,
    storey_levels,
)
from hloc_ext.city.houses.surfaces import Frame, Material, Surfaces
from hloc_ext.city.labels import Label
from hloc_ext.city.plan import Building
from hloc_ext.city.pyramids import srgb_to_linear
from hloc_ext.city.textures import Texture, TextureSet
from tests.city.sample_houses import L_SHAPE, PENTAGON, SQUARE, USES, hits, house
from tests.city.small_plan import flat_textures, small_plan

TEXTURES = flat_textures()
SHAPES = {"square": SQUARE, "pentagon": PENTAGON, "L": L_SHAPE}


def _ring(polygon: shapely.Polygon) -> np.ndarray:
    return np.asarray(polygon.exterior.coords)[:-1]


def test_same_seed_same_building_and_no_two_alike() -> None:
    first, again, other_seed = (building_mesh(house(3, use="shops"), TEXTURES, seed) for seed in (1, 1, 2))
    other = building_mesh(house(4, use="shops"), TEXTURES, 1)
    for field in fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name))
    assert len({len(first), len(other), len(other_seed)}) == 3
    assert set(first.label) == {Label.BUILDING}
    assert set(first.object_id) == {FIRST_BUILDING_ID + 3}
    assert set(other.object_id) == {FIRST_BUILDING_ID + 4}


def test_buildings_of_a_plan() -> None:
    plan = small_plan()
    mesh = buildings_mesh(plan, TEXTURES, 5)
    assert set(mesh.object_id) == {FIRST_BUILDING_ID, FIRST_BUILDING_ID + 1}
    assert len(mesh) == sum(len(building_mesh(b, TEXTURES, 5)) for b in plan.buildings)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_reaches_far_out(use: str, shape: str) -> None:
    footprint = SHAPES[shape]
    for seed in range(3):
        building = house(seed, footprint, ("flat", "mansard", "hip")[seed % 3], use)
        corners = building_mesh(building, TEXTURES, seed).vertices.reshape(-1, 3)
        assert np.isfinite(corners).all()
        reach = shapely.distance(footprint, shapely.points(corners[:, :2]))
        assert reach.max() <= 1.2
        assert reach[corners[:, 2] < 2.3].max() <= 0.352
        assert corners[:, 2].min() >= -0.11


@pytest.mark.parametrize("use", USES)
def test_walls_have_no_holes(use: str) -> None:
    """Level rays from outside end at the wall, in a recess (at most 1.4 m, a loggia) or at what protrudes."""
    rng = np.random.default_rng(0)
    for seed, footprint in enumerate(SHAPES.values()):
        building = house(seed, footprint, use=use, party=(2,))
        mesh = building_mesh(building, TEXTURES, 7)
        ring = _ring(footprint)
        for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            frame = Frame.of_edge(start, end)
            length = np.hypot(*(end - start))
            local = np.stack(
                [rng.uniform(0, length, 400), np.full(400, 1.5), rng.uniform(0, building.eaves, 400)], axis=1
            )
            origins = frame.world(local)
            origins = origins[shapely.distance(footprint, shapely.points(origins[:, :2])) > 1.49]
            distance = hits(mesh, origins, np.tile(np.append(-frame.out, 0.0), (len(origins), 1)))
            assert distance.max() <= 1.5 + 1.4 + 1e-3
            assert np.median(distance) == pytest.approx(1.5, abs=0.3)


def test_openings_are_inside_of_their_wall_and_disjoint() -> None:
    frame = Frame.of_edge(np.array([0.0, 0.0]), np.array([23.0, 0.0]))
    levels = np.array([-0.1, 4.2, 7.4, 10.6, 13.8])
    kinds = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        use = USES[seed % len(USES)]
        style = make_style(rng, TEXTURES, house(use=use))
        facade = make_facade(rng, style, use, frame, 23.0, "street", (1.0, 1.0), levels, True)
        openings = facade.openings
        kinds |= {opening.kind for opening in openings}
        assert any(opening.kind in ("door", "garage") for opening in openings)
        boxes = shapely.box(*np.array([(o.left, o.low, o.right, o.high) for o in openings]).T)
        assert shapely.box(0.3, 0, 22.7, 13.8).contains(shapely.union_all(boxes))
        assert shapely.area(shapely.union_all(boxes)) == pytest.approx(shapely.area(boxes).sum())
        for opening in openings:
            floor = np.searchsorted(levels, opening.low) - 1
            assert opening.high < levels[floor + 1]
            middle = (opening.left + opening.right) / 2
            assert opening.depth == facade.depth_at(middle, (opening.low + opening.high) / 2)
    assert kinds >= {"window", "wide", "french", "door", "shopfront", "blind"}


def test_panes_are_recessed_and_some_are_lit() -> None:
    windows = [*TEXTURES.group("window"), *TEXTURES.group("window_wide")]
    lit = []
    for index in range(8):
        building = house(index, use="apartments", floors=5)
        mesh = building_mesh(building, TEXTURES, 11)
        is_pane = np.isin(mesh.texture, windows) & (mesh.vertices[..., 2].max(axis=1) < building.eaves)
        depth = shapely.distance(SQUARE.exterior, shapely.points(mesh.vertices[is_pane].mean(axis=1)[:, :2]))
        # Those of parts that project are nearer to the footprint, or in front of it.
        assert np.median(depth) == pytest.approx(0.18, abs=0.08)
        lit.append(mesh.glow[is_pane] > 0)
        glowing = mesh.glow[is_pane & (mesh.glow > 0)]
        assert glowing.min() >= 60
        assert glowing.max() <= 200
    assert np.concatenate(lit).mean() == pytest.approx(0.3, abs=0.08)


def test_shops_shine_and_apartments_have_no_shop_windows() -> None:
    fronts = TEXTURES.group("shopfront")
    shops = [building_mesh(house(i, use="shops"), TEXTURES, 2) for i in range(10)]
    glow = np.concatenate([mesh.glow[np.isin(mesh.texture, fronts)] for mesh in shops])
    assert (glow > 0).mean() == pytest.approx(0.7, abs=0.15)
    assert glow[glow > 0].min() >= 120
    assert not np.isin(building_mesh(house(use="apartments"), TEXTURES, 2).texture, fronts).any()


def test_metric_texture_coordinates() -> None:
    surfaces = Surfaces(TEXTURES, 1, np.array([0.5, 0.25]))
    frame = Frame.of_edge(np.array([3.0, 1.0]), np.array([3.0, 9.0]))
    surfaces.quads(frame, [(0, 0, 3), (6, 0, 3), (6, 0, 0), (0, 0, 0)], TEXTURES.group("brick")[0])
    mesh = surfaces.build()
    # Pictures cover 2 m x 2 m: u grows to the right (seen from outside), v downwards.
    assert mesh.vertices[0].tolist() == [[3, 1, 3], [3, 7, 3], [3, 7, 0]]
    assert mesh.uv[0].tolist() == [[0.25, -1.375], [3.25, -1.375], [3.25, 0.125]]


def test_prism_is_closed_and_mitred() -> None:
    surfaces = Surfaces(TEXTURES, 1, np.zeros(2))
    frame = Frame.of_edge(np.array([0.0, 0.0]), np.array([8.0, 0.0]))
    faces = ("front", "back", "left", "right", "top", "bottom")
    surfaces.prisms(frame, [(1, 0, 0)], [(5, 0.5, 2)], 0, mitre=(0.0, 0.5), faces=faces)
    a, b, c = np.moveaxis(surfaces.build().vertices.astype(float), 1, 0)
    # All faces have the same orientation, so they enclose the volume: 4 x 0.5 x 2, and the wedge at one end.
    assert abs(np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6) == pytest.approx(4.25)
    assert b[:, 0].max() == pytest.approx(5.5)
    assert -0.5 <= min(a[:, 1].min(), b[:, 1].min()) < -0.499


def test_corners_and_main_edge() -> None:
    ring = _ring(SQUARE)
    assert corner_mitres(ring, ("street",) * 4) == pytest.approx([1, 1, 1, 1])
    assert corner_mitres(ring, ("street", "party", "yard", "yard")) == pytest.approx([1, 0, 0, 1])
    inner = corner_mitres(_ring(L_SHAPE), ("street",) * 6)
    assert inner == pytest.approx([1, 1, 1, -1, 1, 1])
    assert main_edge(ring, ("party", "street", "yard", "street")) == 1
    assert main_edge(ring, ("party", "yard", "yard", "party")) == 2


def test_levels_of_storeys() -> None:
    assert storey_levels(house(floors=3)) == pytest.approx([-0.1, 3.9, 7.0, 10.1])
    church = Building(0, SQUARE, 1, 3.5, 10.0, "gable", "civic", ("street",) * 4)
    assert storey_levels(church) == pytest.approx([-0.1, 5.0, 10.0])


def test_colored_material_has_the_wanted_mean() -> None:
    pixels = np.array([[(220, 200, 190), (180, 200, 200)]], np.uint8)
    textures = TextureSet([Texture("plaster", pixels, (2.0, 2.0), repeat=True)])
    material = colored(textures, 0, (90, 160, 40))
    shown = srgb_to_linear(pixels[0, 0] / 255) * np.array(material.tint) / 255
    assert shown == pytest.approx(srgb_to_linear(np.array([90, 160, 40]) / 255), abs=0.003)
    assert Material(0, (200, 100, 50)).shaded(0.5).tint == (100, 50, 25)
