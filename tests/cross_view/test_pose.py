"""The pose of a camera is found from exact views, whatever its heading and field of view."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from hloc_ext.cross_view.pose import (
    PoseSearch,
    estimate_pose,
    fit_temperature,
    pose_from_scores,
    predicted_bev,
    score_poses,
)
from hloc_ext.errors import InputError
from hloc_ext.models.bev_geometry import IGNORE, visible_cells
from tests.class_maps import town

SIZE, WIDTH = 96, 72.0  # cells and metres of a tile: 0.75 m each
CELL = WIDTH / SIZE


def view(labels: np.ndarray, east: float, north: float, heading: float) -> np.ndarray:
    """(SIZE, SIZE) classes around a camera, forward up; `labels` are (2 SIZE)² cells about the tile's centre.

    The camera is `east` and `north` metres from the centre and looks along `heading` degrees.
    """
    steps = (np.arange(SIZE) + 0.5 - SIZE / 2) * CELL
    right, back = np.meshgrid(steps, steps)
    turn = np.radians(heading)
    # Forward points to (sin, cos) of the heading, right to (cos, −sin).
    x = east + right * np.cos(turn) - back * np.sin(turn)
    y = north - right * np.sin(turn) - back * np.cos(turn)
    columns, rows = x / CELL + SIZE - 0.5, -y / CELL + SIZE - 0.5
    return cv2.remap(
        labels, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_NEAREST, borderValue=IGNORE
    )


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of twice the tile's width, and those of the tile."""
    labels = town(2 * SIZE, seed)
    return labels, labels[SIZE // 2 : -SIZE // 2, SIZE // 2 : -SIZE // 2]


def certain(classes: np.ndarray) -> np.ndarray:
    return np.stack([(classes == k) for k in range(6)]).astype(np.float32)


def off(first: float, second: float) -> float:
    return abs((first - second + 180) % 360 - 180)


@pytest.mark.parametrize(
    ("fov", "seed"), [(360.0, 0), (360.0, 1), (180.0, 0), (180.0, 2), (90.0, 0), (90.0, 3)]
)
def test_an_exact_view_gives_the_pose(fov: float, seed: int) -> None:
    rng = np.random.default_rng([seed, 5])
    labels, tile = scene(seed)
    # Somewhere on a road in the central half of the tile, between the centres of its cells.
    middle = labels[SIZE - 20 : SIZE + 20, SIZE - 20 : SIZE + 20]
    row, column = rng.permutation(np.argwhere(middle == 1))[0] - 19.5 + rng.uniform(-0.5, 0.5, 2)
    east, north, heading = column * CELL, -row * CELL, rng.uniform(0, 360)
    bev = view(labels, east, north, heading)
    visible = visible_cells(torch.from_numpy(bev)[None], fov=fov)[0].numpy() & (bev != IGNORE)
    pose = estimate_pose(certain(bev), tile, WIDTH, visible=visible)
    # Little is seen of the place in a quarter of the circle.
    assert np.hypot(pose.east - east, pose.north - north) < (1.0 if fov > 90 else 1.5)
    assert off(pose.heading, heading) < 3.0
    assert pose.probability.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(pose.offset, (pose.east / WIDTH, -pose.north / WIDTH))
    # The uncertainty covers the error, and is not vast.
    deviation = np.sqrt(np.diag(pose.covariance))
    error = [pose.east - east, pose.north - north, (pose.heading - heading + 180) % 360 - 180]
    assert (np.abs(error) < 4 * deviation + 0.1).all()
    assert (deviation < [8, 8, 30]).all()
    assert (np.linalg.eigvalsh(pose.covariance) > 0).all()


def test_a_heading_turns_with_the_clock() -> None:
    labels, tile = scene(4)
    for heading in (0.0, 90.0, 200.0):
        pose = estimate_pose(certain(view(labels, 6.0, -9.0, heading)), tile, WIDTH)
        assert off(pose.heading, heading) < 1.0
        assert (pose.east, pose.north) == pytest.approx((6.0, -9.0), abs=0.4)


def test_a_view_of_less_than_the_tile() -> None:
    labels, tile = scene(9)
    bev = view(labels, -8.0, 5.0, 130.0)[20:-20, 20:-20]
    pose = estimate_pose(certain(bev), tile, WIDTH)
    assert (pose.east, pose.north) == pytest.approx((-8, 5), abs=0.5) and off(pose.heading, 130) < 1.5


def test_a_known_heading_limits_the_search() -> None:
    labels, tile = scene(5)
    bev = certain(view(labels, -7.0, 4.0, 355.0))
    free = score_poses(bev, tile, WIDTH)
    assert free.scores.shape[0] == 120 and free.full_circle
    search = PoseSearch(heading=359.0, heading_sigma=4.0)
    scores = score_poses(bev, tile, WIDTH, search)
    assert len(scores.headings) == 9 and not scores.full_circle
    assert all(off(found, 359) <= 12 for found in scores.headings)
    pose = pose_from_scores(scores)
    assert off(pose.heading, 355) < 2 and (pose.east, pose.north) == pytest.approx((-7, 4), abs=0.6)
    # The prior pulls where the picture says nothing.
    nothing = estimate_pose(bev, tile, WIDTH, search, visible=np.zeros((SIZE, SIZE)))
    assert off(nothing.heading, 359) < 1e-6


def test_scores_are_those_of_a_loop() -> None:
    _, tile = scene(6)
    bev = np.random.default_rng(0).dirichlet(np.ones(6), (SIZE, SIZE)).transpose(2, 0, 1)
    tile = tile.copy()
    tile[:5] = IGNORE
    search = PoseSearch(heading=0.0, heading_sigma=1.0, max_shift=0.1)
    scores = score_poses(bev, tile, WIDTH, search)
    frequency = np.array([(tile == k).sum() + 1 for k in range(6)]) / ((tile != IGNORE).sum() + 6)
    steps = (np.arange(SIZE) + 0.5) / SIZE - 0.5
    for south, east in ((0, 0), (4, -7), (-9, 2)):
        total = 0.0
        for row in range(SIZE):
            for column in range(SIZE):
                i, j = row - south, column - east
                inside = 0 <= i < SIZE and 0 <= j < SIZE and np.hypot(steps[i], steps[j]) <= 0.5
                if inside and tile[row, column] != IGNORE:
                    k = tile[row, column]
                    total += np.log(0.98 * bev[k, i, j] / frequency[k] + 0.02)
        centre = len(scores.shifts) // 2
        found = scores.scores[len(scores.headings) // 2, centre + south, centre + east]
        assert found == pytest.approx(total, abs=0.05)
        assert scores.shifts[centre + east] == pytest.approx(east * CELL)


def test_no_evidence_leaves_the_pose_open() -> None:
    _, tile = scene(7)
    flat = np.full((6, SIZE, SIZE), 1 / 6)
    sharp = estimate_pose(certain(tile), tile, WIDTH)
    nothing = estimate_pose(flat, tile, WIDTH, visible=np.zeros((SIZE, SIZE), bool))
    assert nothing.covariance[0, 0] == pytest.approx((WIDTH / 2) ** 2 / 12, rel=0.1)
    assert sharp.covariance[0, 0] < 0.02 * nothing.covariance[0, 0]
    assert sharp.score > 1000 * abs(nothing.score)
    assert sharp.position_probability.shape == sharp.probability.shape[1:]


def test_the_temperature_fits_the_errors() -> None:
    """Of a noisy prediction the temperature is higher than of an exact one."""
    rng = np.random.default_rng(8)
    found = []
    for noise in (0.0, 0.9):
        scores, truths = [], []
        for seed in range(4):
            labels, tile = scene(seed)
            truth = (*rng.uniform(-10, 10, 2), float(rng.uniform(0, 360)))
            bev = view(labels, *truth)
            coarse = rng.random((12, 12)) < noise
            wrong = np.kron(coarse, np.ones((8, 8), bool))
            bev = np.where(wrong, np.kron(rng.integers(0, 6, (12, 12)), np.ones((8, 8), int)), bev)
            search = PoseSearch(headings=60)
            scores.append(score_poses(certain(bev), tile, WIDTH, search))
            truths.append(truth)
        found.append(fit_temperature(scores, truths))
    assert found[1] > 2 * found[0]
    with pytest.raises(InputError, match="max_shift"):
        fit_temperature(scores[:1], [(30.0, 0.0, 0.0)])


def test_what_a_network_draws_is_masked_by_its_own_buildings() -> None:
    logits = torch.zeros(6, 20, 20)
    logits[1] = 2.0
    logits[3, 4:6] = 5.0  # a building across the north
    probability, visible = predicted_bev(logits)
    np.testing.assert_allclose(probability.sum(0), 1, rtol=1e-5)
    assert visible[6:].all() and not visible[:3].any()
    assert not predicted_bev(logits, fov=90)[1][12:].any()


def test_bad_input() -> None:
    _, tile = scene(0)
    bev = certain(tile)
    with pytest.raises(InputError, match="Resize"):
        estimate_pose(bev, tile[:50, :50], WIDTH)
    with pytest.raises(InputError, match="class map"):
        estimate_pose(bev, np.full_like(tile, IGNORE), WIDTH)
    with pytest.raises(InputError, match="class map"):
        estimate_pose(bev, np.full_like(tile, 9), WIDTH)
    with pytest.raises(InputError, match="visible"):
        estimate_pose(bev, tile, WIDTH, visible=np.ones((3, 3)))
    for options in ({"headings": 2}, {"max_shift": 0.7}, {"temperature": 0.0}):
        with pytest.raises(InputError, match="PoseSearch"):
            estimate_pose(bev, tile, WIDTH, PoseSearch(**options))
    with pytest.raises(InputError, match="heading_sigma"):
        estimate_pose(bev, tile, WIDTH, PoseSearch(heading=3.0, heading_sigma=0.0))
