"""The geometry of bird's-eye views is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hloc_ext.models.bev_geometry import (
    BUILDING,
    HALF_DIAGONAL,
    IGNORE,
    camera_coordinates,
    ground_to_bev,
    polar_to_cartesian,
    visible_cells,
)
from tests.class_maps import agreement

OFFSETS = st.tuples(st.floats(-0.25, 0.25), st.floats(-0.25, 0.25))


def polar_of(function, distances: int, width: int, max_radius: float) -> Tensor:
    """1×1×D×W values of a function of azimuth and distance at the centres of the bins."""
    azimuth = ((torch.arange(width) + 0.5) / width - 0.5) * 2 * math.pi
    distance = (torch.arange(distances) + 0.5) / distances * max_radius
    return function(azimuth[None, :], distance[:, None])[None, None]


@pytest.mark.parametrize(("column", "row_column"), [(0, (2, 1)), (1, (1, 0)), (2, (0, 1)), (3, (1, 2))])
def test_the_centre_column_is_north(column: int, row_column: tuple[int, int]) -> None:
    # Columns of a panorama of 4: south-west, north-west, north-east, south-east. With 3 cells the four
    # neighbours of the camera lie on the borders of two columns.
    polar = torch.zeros(1, 4, 2, 4)
    polar[0, range(4), :, range(4)] = 1
    bev = polar_to_cartesian(polar, 3)[0]
    row, col = row_column
    # South is on the seam: half of the last column, half of the first.
    expected = {0: (0, 3), 1: (0, 1), 2: (1, 2), 3: (2, 3)}[column]
    values = torch.zeros(4)
    values[list(expected)] = 0.5
    torch.testing.assert_close(bev[:, row, col], values)


@settings(deadline=None, max_examples=15)
@given(offset=OFFSETS)
def test_values_are_those_of_the_place(offset: tuple[float, float]) -> None:
    def function(azimuth: Tensor, distance: Tensor) -> Tensor:
        return torch.sin(azimuth) * distance + 0.3 * torch.cos(2 * azimuth) + distance

    radius = 1.1
    polar = polar_of(function, 256, 512, radius)
    bev = polar_to_cartesian(polar, 48, torch.tensor([offset]), radius)[0, 0]
    steps = (np.arange(48) + 0.5) / 48 - 0.5
    east, north = steps[None, :] - offset[0], -(steps[:, None] - offset[1])
    azimuth, distance = np.arctan2(east, north), np.hypot(east, north)
    expected = function(torch.tensor(azimuth), torch.tensor(distance)).float()
    seen = torch.tensor(distance) > radius / 256  # nearer than the first distance it is repeated
    assert (bev - expected)[seen].abs().max() < 1e-3


def test_there_is_no_seam() -> None:
    """A turn of the panorama is a turn of the BEV, wherever its ends are; and all cells have full weight."""
    generator = torch.Generator().manual_seed(0)
    polar = torch.randn(2, 3, 12, 40, generator=generator)
    bev = polar_to_cartesian(polar, 16)
    for k in range(1, 4):
        rolled = polar_to_cartesian(polar.roll(-10 * k, dims=-1), 16)
        torch.testing.assert_close(rolled, bev.rot90(k, (2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(polar_to_cartesian(polar.flip(-1), 16), bev.flip(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(polar_to_cartesian(torch.ones(1, 1, 12, 40), 16), torch.ones(1, 1, 16, 16))


def test_an_offset_moves_the_camera_in_the_tile() -> None:
    polar = torch.zeros(1, 1, 64, 8)
    polar[..., :4, :] = 1  # a disk about the camera, radius 4/64 of half the diagonal
    bev = polar_to_cartesian(polar, 128, torch.tensor([[0.2, -0.1]]))[0, 0]
    rows, columns = np.nonzero(bev.numpy() > 0.5)
    assert np.mean((columns + 0.5) / 128 - 0.5) == pytest.approx(0.2, abs=0.004)
    assert np.mean((rows + 0.5) / 128 - 0.5) == pytest.approx(-0.1, abs=0.004)
    assert len(rows) == pytest.approx(math.pi * (4 / 64 * HALF_DIAGONAL * 128) ** 2, rel=0.1)


def test_a_heading_turns_the_view() -> None:
    polar = torch.randn(3, 2, 12, 48, generator=torch.Generator().manual_seed(0))
    offset = torch.tensor([[0.0, 0.0], [0.1, 0.2], [-0.2, 0.1]])
    heading = torch.tensor([0.0, 75.0, 352.5])  # 0, 10 and −1 columns of 7.5 degrees
    columns = zip(polar, (0, 10, -1), strict=True)
    rolled = torch.stack([p.roll(turn, dims=-1) for p, turn in columns])  # as if north were in the centre
    expected = polar_to_cartesian(rolled, 16, offset)
    torch.testing.assert_close(
        polar_to_cartesian(polar, 16, offset, heading=heading), expected, atol=1e-4, rtol=0
    )
    # Of a photo that looks east only the east is seen, of a class map, too.
    east = polar_to_cartesian(torch.ones(1, 1, 4, 8), 16, fov=100, heading=torch.tensor([90.0]))[0, 0] > 0
    assert east[7, 12] and not east[7, 3] and not east[1, 8]
    ground = torch.zeros(1, 16, 16, dtype=torch.long)
    torch.testing.assert_close(visible_cells(ground, fov=100, heading=torch.tensor([90.0]))[0], east)


def test_a_photo_fills_its_field_of_view() -> None:
    azimuth, _ = camera_coordinates(32)
    inside = azimuth[0].abs() <= math.radians(45)
    bev = polar_to_cartesian(torch.ones(1, 1, 8, 10), 32, fov=90)[0, 0]
    torch.testing.assert_close(bev, inside.float())
    # Its left border is at −45°: the first of two columns is west of north.
    polar = torch.zeros(1, 1, 8, 2)
    polar[..., 0] = 1
    bev = polar_to_cartesian(polar, 32, fov=90)[0, 0]
    assert bev[2, 8] > 0.9 and bev[2, 23] < 0.1
    # A quarter of a panorama is the same as a photo of a quarter.
    whole = torch.randn(1, 2, 8, 80, generator=torch.Generator().manual_seed(1))
    part = polar_to_cartesian(whole[..., 30:50], 32, fov=90)
    well_inside = azimuth[0].abs() < math.radians(42)
    torch.testing.assert_close(part[..., well_inside], polar_to_cartesian(whole, 32)[..., well_inside])


def world(east: np.ndarray, north: np.ndarray) -> np.ndarray:
    """Classes of a plane: stripes, rings and a diagonal, metres."""
    stripes = (np.floor(east / 7.3) + np.floor(north / 9.1)) % 3
    diagonal = np.abs(east - 0.6 * north - 2) < 2.5
    ring = np.abs(np.hypot(east - 4, north + 3) - 13) < 1.5
    return np.where(diagonal, 4, np.where(ring, 5, stripes)).astype(np.int64)


@settings(deadline=None, max_examples=3)
@given(offset=OFFSETS)
def test_a_panorama_of_a_plane_overlays_its_map(offset: tuple[float, float]) -> None:
    tile_width, size, camera_height = 40.0, 128, 10.0
    height, width = 900, 1536
    elevation = np.radians(-(np.arange(height) + 0.5) / height * 90)
    azimuth = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    depth = camera_height / -np.sin(elevation)
    ground = depth * np.cos(elevation)
    east = offset[0] * tile_width + ground[:, None] * np.sin(azimuth)
    north = -offset[1] * tile_width + ground[:, None] * np.cos(azimuth)
    bev = ground_to_bev(
        torch.from_numpy(np.repeat(depth[:, None], width, 1)),
        torch.from_numpy(world(east, north)),
        (-90.0, 0.0),
        size,
        tile_width,
        offset,
        distances=220,
        max_radius=1.1,
    ).numpy()
    steps = ((np.arange(size) + 0.5) / size - 0.5) * tile_width
    tile = world(*np.meshgrid(steps, -steps))
    edge = np.ones((size, size), bool)
    edge[8:-8, 8:-8] = False
    for band in (edge, ~edge):
        seen, exact, near = agreement(bev, tile, band)
        assert seen > 0.97
        assert exact > 0.9
        assert near > 0.999  # within one pixel
    assert agreement(np.roll(bev, 2, 1), tile, edge)[2] < 0.98


def test_the_highest_of_a_column_of_points_counts() -> None:
    # A roof over a road: three points at one azimuth, 10 m away, at heights of −2, 3 and 1 m.
    elevation = (-40.0, 40.0)
    rows = np.radians(40 - (np.arange(800) + 0.5) / 10)
    depth, label = np.full((800, 4), np.inf), np.zeros((800, 4), int)
    for height, value in ((-2.0, 1), (3.0, 3), (1.0, 2)):
        row = int(np.abs(np.tan(rows) * 10 - height).argmin())
        depth[row], label[row] = 10 / np.cos(rows[row]), value
    bev = ground_to_bev(torch.from_numpy(depth), torch.from_numpy(label), elevation, 40, 40.0, distances=28)
    assert set(bev.unique().tolist()) == {3, IGNORE}
    _, distance = camera_coordinates(40)
    assert ((distance[0][bev == 3] * 40 - 10).abs() < 1.5).all()


def test_cells_behind_a_building_are_not_visible() -> None:
    size = 40
    label = torch.zeros(1, size, size, dtype=torch.long)
    label[0, 8:12, 14:26] = BUILDING  # north of the camera, 8 to 12 cells away
    visible = visible_cells(label, wall=0.05)[0]
    assert visible[12:].all()
    assert visible[10:12, 16:24].all()  # two cells of 1/40 deep
    assert not visible[:8, 16:24].any()
    assert visible[:8, 0].all() and visible[:8, -1].all()
    # From the west end of the tile the building hides less.
    moved = visible_cells(label, torch.tensor([[-0.45, -0.45]]), wall=0.05)[0]
    assert moved[:8].all()
    # A building around the camera does not blind it.
    label[0, 19:21, 19:21] = BUILDING
    assert visible_cells(label, wall=0.05, clearance=0.05)[0, 12:].all()
    north = visible_cells(torch.zeros(1, size, size, dtype=torch.long), fov=90)[0]
    assert north[:10, 15:25].all() and not north[20:].any()


def test_visibility_agrees_with_a_walk_along_each_ray() -> None:
    rng = np.random.default_rng(3)
    size, offset = 24, (0.1, -0.15)
    label = np.zeros((size, size), np.int64)
    for _ in range(5):
        row, column = rng.integers(0, size - 5, 2)
        label[row : row + 5, column : column + 4] = BUILDING
    visible = visible_cells(torch.from_numpy(label)[None], torch.tensor([offset]))[0].numpy()
    differing = 0
    for row in range(size):
        for column in range(size):
            x, y = (column + 0.5) / size - 0.5 - offset[0], (row + 0.5) / size - 0.5 - offset[1]
            distance, first = math.hypot(x, y), math.inf
            for step in np.arange(0.02, distance, 0.004):
                at = (np.array([x, y]) / distance * step + offset + 0.5) * size
                i, j = int(at[1] // 1), int(at[0] // 1)
                if label[i, j] == BUILDING:
                    first = step
                    break
            differing += bool(visible[row, column] != (distance <= first + 0.05))
    assert differing <= 0.02 * size**2  # rays that graze a corner
