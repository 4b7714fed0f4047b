"""Random transforms between views: exact geometry of points and pictures, overlap, limits."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from hloc_ext.datasets.homography import (
    AERIAL,
    STREET,
    HomographyConfig,
    cell_centers,
    inside,
    overlap,
    plane_correspondences,
    random_homography,
    random_views,
    warp_points,
    warp_view,
)
from hloc_ext.errors import InputError

SIZE = (192, 256)
#: (height, width) of the photos of these tests.
PHOTO = (384, 512)


def test_cell_centers_are_row_major() -> None:
    centers = cell_centers((16, 24))
    assert centers.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]


def test_warp_points() -> None:
    matrix = np.array([[2.0, 0, 1], [0, 2, -1], [0, 0.5, 1]])
    np.testing.assert_allclose(warp_points(matrix, np.array([[3.0, 2.0]])), [[3.5, 1.5]])
    assert np.isnan(warp_points(matrix, np.array([[3.0, -2.0], [3.0, -3.0]]))).all()


@pytest.mark.parametrize("config", [STREET, AERIAL, replace(STREET, perspective=0.35, scale=(0.25, 4.0))])
def test_homographies_overlap_and_keep_the_horizon_away(config: HomographyConfig) -> None:
    corners = np.array([[0, 0], [255, 0], [255, 191], [0, 191]])
    for seed in range(60):
        matrix = random_homography(np.random.default_rng(seed), SIZE, config)
        assert matrix[2, 2] == 1 and np.linalg.det(matrix) > 0
        assert (corners @ matrix[2, :2] + 1 > 0).all()
        assert overlap(matrix, SIZE) >= config.min_overlap


def test_overlap() -> None:
    def shifted(x: float) -> np.ndarray:
        return np.array([[1.0, 0, x], [0, 1, 0], [0, 0, 1]])

    assert overlap(np.eye(3), SIZE) == 1
    assert overlap(shifted(128), SIZE) == 0.5
    assert overlap(shifted(256), SIZE) == 0
    assert overlap(np.diag([2.0, 2.0, 1.0]), SIZE) == 1  # all of the enlarged image is seen by the other
    assert overlap(np.diag([-1.0, 1.0, 1.0]) @ shifted(-255), SIZE) == 0  # a mirror


def test_similarities_stay_within_their_ranges() -> None:
    rotations, scales = [], []
    for seed in range(300):
        matrix = random_homography(np.random.default_rng(seed), SIZE, AERIAL)
        linear = matrix[:2, :2]
        scale = math.sqrt(np.linalg.det(linear))
        np.testing.assert_allclose(linear @ linear.T, scale**2 * np.eye(2), atol=1e-9)
        np.testing.assert_array_equal(matrix[2], [0, 0, 1])
        rotations.append(math.degrees(math.atan2(linear[1, 0], linear[0, 0])))
        scales.append(scale)
    assert 0.5 <= min(scales) < 0.6 and 1.7 < max(scales) <= 2
    assert abs(np.mean(np.log(scales))) < 0.1
    assert min(rotations) < -165 and max(rotations) > 165


def test_limits_of_rotation_and_scale() -> None:
    config = HomographyConfig("similarity", max_rotation=5.0, scale=(1.0, 1.0))
    for seed in range(30):
        linear = random_homography(np.random.default_rng(seed), SIZE, config)[:2, :2]
        assert np.linalg.det(linear) == pytest.approx(1)
        assert abs(math.degrees(math.atan2(linear[1, 0], linear[0, 0]))) <= 5


def test_impossible_overlap_ends_in_a_mild_transform() -> None:
    config = replace(STREET, translation=50.0, min_overlap=0.9)
    assert overlap(random_homography(np.random.default_rng(0), SIZE, config), SIZE) >= 0.9


@pytest.mark.parametrize("config", [STREET, AERIAL])
def test_points_of_both_directions_agree(config: HomographyConfig) -> None:
    shares = []
    for seed in range(20):
        first, second = random_views(np.random.default_rng(seed), PHOTO, SIZE, config)
        points, valid = plane_correspondences(first, second, PHOTO, SIZE)
        assert inside(points[valid], SIZE).all()
        back = warp_points(np.linalg.inv(first) @ second, points[valid])
        np.testing.assert_allclose(back, cell_centers(SIZE)[valid], atol=1e-6)
        source = warp_points(first, cell_centers(SIZE)[valid])
        assert inside(source, PHOTO).all()
        np.testing.assert_allclose(warp_points(second, points[valid]), source, atol=1e-6)
        shares.append(valid.mean())
    assert np.mean(shares) > 0.4


def test_points_outside_of_the_photo_are_invalid() -> None:
    left_of_it = np.array([[1.0, 0, -16], [0, 1, 0], [0, 0, 1]])
    points, valid = plane_correspondences(left_of_it, left_of_it, (64, 64), (64, 64))
    np.testing.assert_allclose(points, cell_centers((64, 64)))
    assert valid.reshape(8, 8)[:, :2].sum() == 0 and valid.reshape(8, 8)[:, 2:].all()


def dots() -> tuple[np.ndarray, np.ndarray]:
    """A photo of bright blurred dots, and where they are."""
    x, y = np.meshgrid(np.arange(24, PHOTO[1] - 8, 32.0), np.arange(24, PHOTO[0] - 8, 32.0))
    centers = np.stack([x, y], -1).reshape(-1, 2)
    photo = np.zeros(PHOTO, np.float32)
    photo[centers[:, 1].astype(int), centers[:, 0].astype(int)] = 1
    photo = cv2.GaussianBlur(photo, (0, 0), 2.0)
    return (photo / photo.max() * 250).astype(np.uint8), centers


@pytest.mark.parametrize("zoom", [0.6, 1.0, 1.9])
def test_dots_appear_where_the_homography_says(zoom: float) -> None:
    photo, centers = dots()
    tilted = np.array([[0.98, -0.17, 40], [0.15, 1.02, 20], [1e-4, -8e-5, 1]])
    transform = tilted @ np.diag([zoom, zoom, 1])
    picture = warp_view(photo, transform, SIZE).astype(float)
    expected = warp_points(np.linalg.inv(transform), centers)
    expected = expected[inside(expected - 8, (SIZE[0] - 16, SIZE[1] - 16))]
    assert len(expected) > 8
    for x, y in expected:
        column, row = round(x), round(y)
        box = picture[row - 6 : row + 7, column - 6 : column + 7]
        rows, columns = np.mgrid[row - 6 : row + 7, column - 6 : column + 7]
        found = np.array([(box * columns).sum(), (box * rows).sum()]) / box.sum()
        np.testing.assert_allclose(found, [x, y], atol=0.15)


def test_strong_shrinking_does_not_alias() -> None:
    stripes = np.zeros((512, 512), np.uint8)
    stripes[:, ::2] = 255
    picture = warp_view(stripes, np.diag([4.0, 4.0, 1.0]), (128, 128))
    assert picture.std() < 3 and abs(picture.mean() - 127.5) < 3


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"transform": "affine"}, "transform='affine'"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (2.0, 1.0)}, "scale"),
        ({"anisotropy": 0.5}, "anisotropy"),
        ({"perspective": 0.6}, "perspective"),
        ({"min_overlap": 1.0}, "min_overlap"),
    ],
)
def test_options_that_cannot_be_used(options: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        HomographyConfig(**options)
