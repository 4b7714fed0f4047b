"""What is in the north of a turned tile is in the centre of the turned panorama."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hloc_ext.datasets.cross_view.augment import (
    UNCHANGED,
    Change,
    Geometry,
    crop_field_of_view,
    draw_change,
    draw_marginal,
    field_of_view_columns,
    roll,
)

SIDE, WIDTH = 65, 72


def azimuth_tile() -> np.ndarray:
    """(S, S) azimuth of each pixel as the centre sees it, degrees clockwise from the upper side."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return np.degrees(np.arctan2(x, -y)) % 360


def azimuth_panorama() -> np.ndarray:
    """(2, W) azimuth of each column, north between the two centre ones."""
    columns = (np.arange(WIDTH) + 0.5 - WIDTH / 2) * 360 / WIDTH
    return np.tile(columns % 360, (2, 1))


@pytest.mark.parametrize("number", range(8))
def test_panorama_and_tile_turn_alike(number: int) -> None:
    geometry = Geometry.of(number)
    assert geometry.number == number
    # The world that was at azimuth a; where does it lie in the changed tile, and where in the panorama?
    tile, panorama = geometry.aerial(azimuth_tile()), geometry.ground(azimuth_panorama())
    middle = (SIDE - 1) / 2
    for column in range(WIDTH):
        azimuth = np.radians((column + 0.5 - WIDTH / 2) * 360 / WIDTH)
        x = round(middle + 30 * np.sin(azimuth))
        y = round(middle - 30 * np.cos(azimuth))
        difference = (tile[y, x] - panorama[0, column] + 180) % 360 - 180
        assert abs(difference) < 2


@pytest.mark.parametrize("number", range(8))
def test_offsets_go_where_the_pixels_go(number: int) -> None:
    geometry = Geometry.of(number)
    tile = np.zeros((SIDE, SIDE))
    tile[10, 50] = 1
    y, x = np.argwhere(geometry.aerial(tile))[0]
    middle = (SIDE - 1) / 2
    moved = geometry.offset(np.array([50 - middle, 10 - middle]) / SIDE)
    np.testing.assert_allclose(moved * SIDE + middle, [x, y])


def test_quarter_turns_are_those_that_are_published() -> None:
    panorama = np.arange(16)[None]
    assert Geometry(False, 1).ground(panorama)[0].tolist() == np.roll(np.arange(16), -4).tolist()
    assert Geometry(True, 0).ground(panorama)[0].tolist() == [*range(15, -1, -1)]
    tile = np.arange(4).reshape(2, 2)
    assert Geometry(False, 1).aerial(tile).tolist() == np.rot90(tile).tolist()


def test_all_geometries_are_drawn() -> None:
    drawn = [Geometry.draw(np.random.default_rng([1, i])).number for i in range(200)]
    assert set(drawn) == set(range(8))


def test_a_camera_that_turns_right_sees_its_surroundings_move_left() -> None:
    assert roll(azimuth_panorama(), -90 / 360)[0, WIDTH // 2] == pytest.approx(92.5)


@given(fov=st.floats(5, 360), width=st.integers(8, 400))
def test_fields_of_view_are_around_the_centre(fov: float, width: int) -> None:
    columns = np.arange(width)[None]
    cropped = crop_field_of_view(columns, fov)[0]
    assert len(cropped) == field_of_view_columns(width, fov) == max(round(width * fov / 360), 1)
    assert abs(cropped.mean() - columns.mean()) <= 0.5
    assert (np.diff(cropped) == 1).all()


@given(seed=st.integers(0, 10**6), aspect=st.sampled_from([1.0, 2.0, 5.5]))
def test_changes_are_within_their_limits(seed: int, aspect: float) -> None:
    rng = np.random.default_rng(seed)
    change, marginal = draw_change(rng, aspect), draw_marginal(rng, aspect)
    for drawn, limit in ((change, 0.15), (marginal, 0.05)):
        values = [drawn.brightness, drawn.contrast - 1, drawn.saturation - 1, drawn.hue]
        assert np.abs(values).max() <= limit
        for left, top, width, height in drawn.holes:
            assert min(left, top) >= 0 and left + width <= 1 + 1e-9 and top + height <= 1 + 1e-9
    assert change.quality is None or 90 <= change.quality <= 100
    # SSA's holes in panoramas were as large as those in tiles: 10 to 20 % of the picture's own height.
    assert all(height <= 0.2 + 1e-9 for *_, height in change.holes)
    assert (
        marginal.noise <= 0.02 and sum(width * height for *_, width, height in marginal.holes) <= 0.05 + 1e-9
    )


def test_changes_do_what_they_say() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 190, (40, 80, 3), np.uint8)
    np.testing.assert_array_equal(UNCHANGED.apply(picture), picture)
    np.testing.assert_allclose(Change(brightness=0.1).apply(picture), picture + 25.5, atol=0.6)
    grey = Change(saturation=0.0).apply(picture)
    assert np.ptp(grey.astype(int), axis=2).max() <= 1
    # A turn of the hue by a third exchanges the channels, and keeps greys.
    np.testing.assert_allclose(np.sort(Change(hue=1 / 3).apply(picture)), np.sort(picture), atol=1)
    flat = np.full((40, 80, 3), 100, np.uint8)
    np.testing.assert_allclose(Change(hue=0.1, saturation=1.3).apply(flat), flat, atol=1)
    noisy = Change(noise=0.02, noise_seed=3)
    assert np.std(noisy.apply(flat).astype(float)) == pytest.approx(5.1, rel=0.1)
    np.testing.assert_array_equal(noisy.apply(flat), noisy.apply(flat))
    holed = Change(holes=((0.5, 0.25, 0.25, 0.5),)).apply(flat)
    assert (holed[10:30, 40:60] == (124, 116, 104)).all() and (flat == 100).all()
    assert (holed != 100).any(axis=2).sum() == 20 * 20
    assert Change(blur=0.02).apply(picture).std() < picture.std() < Change(blur=-0.02).apply(picture).std()
