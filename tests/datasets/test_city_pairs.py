"""Matches from depth: a plane, something before it, and pairs of a folder of views."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hloc_ext.datasets.city_pairs import CityPairs
from hloc_ext.datasets.city_views import INVERSE_DEPTH_UNIT, read_views, render_views
from hloc_ext.datasets.depth_geometry import DepthView, inverse_depth_at, overlap, transfer
from hloc_ext.datasets.homography import cell_centers
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError

HEIGHT, WIDTH = 96, 128
CALIBRATION = np.array([[100.0, 0, 63.5], [0, 100.0, 47.5], [0, 0, 1]])
#: A post of half a metre stands three metres before the camera.
POST_DEPTH, POST_HALF_WIDTH = 3.0, 0.25


def pose(x: float, turn: float = 0.0) -> np.ndarray:
    """World→camera of a camera that stands at (x, 0, 0), turned about its y axis (degrees), (3, 4)."""
    rotation, _ = cv2.Rodrigues(np.array([0, np.radians(turn), 0]))
    return np.column_stack([rotation, -rotation @ [x, 0, 0]])


def wall(cam_from_world: np.ndarray, slant: float = 0.4, post: bool = False) -> DepthView:
    """View of the plane z = 6 + slant · x, and of a post."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(CALIBRATION).T
    rays = rays @ cam_from_world[:, :3]
    center = -cam_from_world[:, :3].T @ cam_from_world[:, 3]
    depth = (6 + slant * center[0] - center[2]) / (rays[..., 2] - slant * rays[..., 0])
    if post:
        at_post = (POST_DEPTH - center[2]) / rays[..., 2]
        hit = np.abs(center[0] + at_post * rays[..., 0]) < POST_HALF_WIDTH
        depth = np.where(hit, at_post, depth)
    return DepthView((1 / depth).astype(np.float32), CALIBRATION, cam_from_world)


def grid() -> np.ndarray:
    return cell_centers((HEIGHT, WIDTH)) + 0.3


def test_points_of_a_plane_are_transferred_exactly_and_back() -> None:
    first, second = wall(pose(0)), wall(pose(0.8, turn=5.0))
    points, valid = transfer(first, second, grid())
    assert valid.mean() > 0.7
    # The homography of the plane, computed without depth: n·X = 6 with n = (-0.4, 0, 1) in the first camera.
    relative, shift = second.cam_from_world[:, :3], second.cam_from_world[:, 3]
    normal = np.array([-0.4, 0, 1]) / 6
    homography = CALIBRATION @ (relative + np.outer(shift, normal)) @ np.linalg.inv(CALIBRATION)
    expected = np.column_stack([grid(), np.ones(len(grid()))]) @ homography.T
    expected = expected[:, :2] / expected[:, 2:]
    np.testing.assert_allclose(points[valid], expected[valid], atol=1e-3)
    inside = np.all((expected >= 0) & (expected <= [WIDTH - 1, HEIGHT - 1]), axis=1)
    np.testing.assert_array_equal(valid, inside)
    back, again = transfer(second, first, points[valid])
    assert again.all()
    np.testing.assert_allclose(back, grid()[valid], atol=1e-3)


def test_what_something_hides_is_not_valid() -> None:
    first, second = wall(pose(0), 0.0), wall(pose(0.9), 0.0, post=True)
    points, valid = transfer(first, second, grid())
    # The shadow of the post on the wall: x from 2 * (±0.25 - 0.9) + 0.9 as the second camera sees it.
    x = (grid()[:, 0] - 63.5) / 100 * 6
    hidden = np.abs(x - 0.9 - 2 * (0 - 0.9)) < 2 * POST_HALF_WIDTH
    seen = np.abs(x - 0.9 - 2 * (0 - 0.9)) > 2 * POST_HALF_WIDTH + 0.1
    inside = np.all((points >= 0) & (points <= [WIDTH - 1, HEIGHT - 1]), axis=1)
    assert (hidden & inside).sum() > 15
    assert not valid[hidden].any()
    assert valid[seen & inside].all()
    # A point of the post itself is before the wall as the other view knows it.
    _, other = transfer(second, first, np.array([[63.5 - 0.9 / 3 * 100, 47.0]]))
    assert not other.any()


def test_depth_is_not_interpolated_over_steps_or_unknown_pixels() -> None:
    inverse_depth = np.full((8, 8), 0.5, np.float32)
    inverse_depth[:, 5:] = 0.1
    inverse_depth[2, 2] = 0
    pixels = np.array([[3.5, 5.5], [4.5, 5.5], [2.5, 2.5], [7, 7], [7.1, 3], [-0.1, 3]])
    values, known = inverse_depth_at(inverse_depth, pixels)
    assert known.tolist() == [True, False, False, True, False, False]
    assert values[0] == pytest.approx(0.5)
    assert values[3] == pytest.approx(0.1)


def test_points_behind_a_camera_are_not_valid() -> None:
    _, valid = transfer(wall(pose(0)), wall(pose(0, turn=180.0)), grid())
    assert not valid.any()


def test_overlap_is_the_share_that_is_seen() -> None:
    first = wall(pose(0), 0.0)
    assert overlap(first, first) == 1.0
    # The pictures show 7.68 m of the wall; 1.92 m to the side three quarters remain.
    assert overlap(first, wall(pose(1.92), 0.0)) == pytest.approx(0.75, abs=0.01)
    assert overlap(first, wall(pose(20.0), 0.0)) == 0.0


def write_views(folder: Path) -> Path:
    """Three views of the wall with a picture on it, and a car in the first one by day."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    poster = cv2.GaussianBlur(rng.uniform(0, 255, (400, 800)).astype(np.float32), (0, 0), 5)
    poster = (poster - poster.min()) / np.ptp(poster) * 255
    poses = [pose(0), pose(1.0, -4.0), pose(2.2, -10.0)]
    for index, cam_from_world in enumerate(poses):
        seen = wall(cam_from_world, 0.2)
        x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(CALIBRATION).T
        world = (rays / seen.inverse_depth[..., None] - cam_from_world[:, 3]) @ cam_from_world[:, :3]
        columns, rows = ((world[..., axis] * 50 + shift) for axis, shift in ((0, 300), (1, 200)))
        picture = cv2.remap(poster, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_CUBIC)
        moving = np.zeros((HEIGHT, WIDTH), np.uint8)
        if index == 0:
            moving[40:80, 30:70] = 1
        stored = np.round(seen.inverse_depth / INVERSE_DEPTH_UNIT).astype(np.uint16)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 100]
        cv2.imwrite(str(folder / f"{index:04d}_day.jpg"), picture, quality)
        cv2.imwrite(str(folder / f"{index:04d}_night.jpg"), picture / 4, quality)
        cv2.imwrite(str(folder / f"{index:04d}_depth.png"), stored)
        cv2.imwrite(str(folder / f"{index:04d}_moving.png"), moving)
    views = [wall(cam_from_world, 0.2) for cam_from_world in poses]
    np.savez(
        folder / "views.npz",
        calibration=np.stack([CALIBRATION] * 3),
        cam_from_world=np.stack(poses),
        overlap=np.array([[overlap(a, b) for b in views] for a in views]),
    )
    return folder


def sampled(image: torch.Tensor, points: np.ndarray) -> np.ndarray:
    """Grey values (0 to 255) between pixels."""
    x, y = points.astype(np.float32).T[:, None]
    return cv2.remap(image[0].numpy() * 255, x, y, cv2.INTER_LINEAR)[0]


@pytest.mark.parametrize(("night", "both"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_pictures_agree_where_they_match(tmp_path: Path, night: float, both: float) -> None:
    folder = write_views(tmp_path / "a")
    pairs = CityPairs([folder], (64, 96), 0, 8, night=night, both_night=both, photo_change=None)
    centers = cell_centers((64, 96))
    for index in range(8):
        sample = pairs[index]
        for here, there in ((0, 1), (1, 0)):
            valid = sample[f"valid{there}"].numpy()
            assert valid.sum() > 15
            first = sampled(sample[f"image{here}"], centers[valid])
            second = sampled(sample[f"image{there}"], sample[f"points{there}"].numpy()[valid])
            # Nights are a quarter as bright.
            first, second = (values * (4 if values.mean() < 50 else 1) for values in (first, second))
            assert np.median(np.abs(first - second)) < 4


def test_moving_things_are_not_valid(tmp_path: Path) -> None:
    views = read_views(write_views(tmp_path / "a"))
    pixels = cell_centers((HEIGHT, WIDTH))
    on_car = (pixels[:, 0] > 30) & (pixels[:, 0] < 70) & (pixels[:, 1] > 40) & (pixels[:, 1] < 80)
    by_day, by_night = views.depth_view(0, "day"), views.depth_view(0, "night")
    other = views.depth_view(1, "day")
    assert not transfer(by_day, other, pixels)[1][on_car].any()
    points, valid = transfer(by_night, other, pixels)
    assert valid[on_car].any()
    assert not transfer(other, by_day, points[on_car & valid])[1].all()
    np.testing.assert_array_equal(views.depth_view(0).inverse_depth, by_night.inverse_depth)


def test_samples_are_determined_by_seed_and_index(tmp_path: Path) -> None:
    folder = write_views(tmp_path / "a")

    def darker(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (picture * rng.uniform(0.5, 0.9)).astype(np.uint8)

    pairs, again = (CityPairs([folder], 64, seed=5, length=4, photo_change=darker) for _ in range(2))
    last = again[3]
    for name, value in pairs[3].items():
        assert torch.equal(value, last[name]), name
    assert last["image0"].shape == (1, 64, 64)
    assert last["points0"].shape == (64, 2)
    assert (last["image0"] <= last["clean0"]).all()
    assert not torch.equal(CityPairs([folder], 64, seed=6)[3]["clean0"], last["clean0"])
    with pytest.raises(IndexError):
        pairs[4]


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = write_views(tmp_path / "a")
    with pytest.raises(InputError, match=r"overlap from 0\.97 to 0\.98"):
        CityPairs([folder], overlap=(0.97, 0.98))
    with pytest.raises(InputError, match="multiples of 8"):
        CityPairs([folder], 60)
    with pytest.raises(MissingInputError, match=r"views\.npz"):
        CityPairs([tmp_path])
    with pytest.raises(InputError, match="3 views, not 5"):
        render_views(folder, 5, 0)
    (folder / "0001_depth.png").unlink()
    with pytest.raises(CorruptFileError, match="0001_depth"):
        read_views(folder).depth_view(1)
    (folder / "views.npz").write_bytes(b"x")
    with pytest.raises(CorruptFileError, match="render the views again"):
        read_views(folder)


@pytest.mark.slow
def test_views_of_a_city_agree_with_their_depth(tmp_path: Path) -> None:
    for name in ("numba", "shapely"):
        pytest.importorskip(name)
    views = render_views(tmp_path / "city", 4, seed=3, size=(96, 128))
    assert len(views) == 4
    assert views.overlap.diagonal().tolist() == [1.0] * 4
    assert (views.overlap + views.overlap.T)[np.triu_indices(4, 1)].max() > 0.6
    assert (views.calibration[:, 0, 2] == 63.5).all()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "city").iterdir()}
    assert len(files) == 17
    (tmp_path / "city" / "views.npz").unlink()
    (tmp_path / "city" / "0002_night.jpg").unlink()
    again = render_views(tmp_path / "city", 4, seed=3, size=(96, 128))
    np.testing.assert_array_equal(again.overlap, views.overlap)
    kept = [path for path, time in files.items() if path.stat().st_mtime_ns == time]
    assert len(kept) == 12
