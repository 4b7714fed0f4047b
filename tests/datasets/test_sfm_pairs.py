"""Matches of the points of a model: exact on a plane, none between surfaces."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch

from hloc_ext.datasets.homography import cell_centers, warp_points
from hloc_ext.datasets.sfm_pairs import SfmPairs, interpolated_matches
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.colmap import write_model
from tests.synthetic import make_scene

SIZE = (240, 320)


def plane_scene(folder: Path) -> pycolmap.Reconstruction:
    """Photos of a textured floor z = 0 and a model with points on it.

    The cameras are those of a synthetic data set, moved so that all are above the floor.
    """
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = options.num_cameras_per_rig = 1
    options.num_frames_per_rig, options.num_points3D = 6, 10
    options.camera_width, options.camera_height = SIZE[1], SIZE[0]
    options.camera_model_id = pycolmap.CameraModelId.PINHOLE
    options.camera_params = [300.0, 300.0, 160.0, 120.0]
    pycolmap.set_random_seed(3)
    source = pycolmap.synthesize_dataset(options)
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.uniform(0, 1, (600, 600)).astype(np.float32), (0, 0), 4)
    texture = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    grid = np.stack(np.meshgrid(*[np.linspace(-2.9, 2.9, 59)] * 2), axis=-1).reshape(-1, 2)
    floor = np.column_stack([grid + rng.uniform(-0.03, 0.03, grid.shape), np.zeros(len(grid))])
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(source.cameras[1].todict())
    model.add_camera_with_trivial_rig(camera)
    tracks: dict[int, list[tuple[int, int]]] = {}
    folder.mkdir()
    for number, image_id in enumerate(sorted(source.images)[:6], 1):
        # Around the vertical, 4 m above the floor; the synthetic pose gives the heading.
        heading = source.images[image_id].cam_from_world().rotation.angle()
        place = np.array([0.3 * number - 1, 0.2 * (number % 3) - 0.2, 4.0])
        tilt, _ = cv2.Rodrigues(np.array([0.08 * number - 0.28, 0.1, 0.0]))
        turn, _ = cv2.Rodrigues(np.array([0, 0, 0.3 * heading]))
        rotation = tilt @ turn @ np.diag([1.0, -1.0, -1.0])
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ place)
        xy = np.asarray(camera.img_from_cam(floor @ rotation.T + pose.translation))
        seen = np.flatnonzero(np.all((xy > 0) & (xy < [SIZE[1], SIZE[0]]), axis=1))
        image = pycolmap.Image(name=f"{number}.png", keypoints=xy[seen], camera_id=1, image_id=number)
        model.add_image_with_trivial_frame(image, pose)
        for row, point in enumerate(seen.tolist()):
            tracks.setdefault(point, []).append((number, row))
        texture_from_floor = np.array([[100.0, 0, 300], [0, 100, 300], [0, 0, 1]])
        warp = floor_homography(model, number) @ np.linalg.inv(texture_from_floor)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.warpPerspective(texture, warp, SIZE[::-1]))
    for point, elements in tracks.items():
        if len(elements) > 1:
            track = pycolmap.Track()
            for image_id, row in elements:
                track.add_element(image_id, row)
            model.add_point3D(floor[point], track, np.zeros(3, np.uint8))
    return model


def floor_homography(model: pycolmap.Reconstruction, image_id: int) -> np.ndarray:
    """(x, y, 1) on the floor → pixel, the centre of the top-left one at (0, 0)."""
    matrix = model.images[image_id].cam_from_world().matrix()
    calibration = model.cameras[1].calibration_matrix() - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    return calibration @ matrix[:, [0, 1, 3]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[pycolmap.Reconstruction, Path]:
    folder = tmp_path_factory.mktemp("sfm") / "images"
    return plane_scene(folder), folder


def sampled(image: torch.Tensor, points: np.ndarray) -> np.ndarray:
    x, y = points.astype(np.float32).T[:, None]
    return cv2.remap(image[0].numpy() * 255, x, y, cv2.INTER_LINEAR)[0]


def test_matches_on_a_plane_are_those_of_its_homography(
    scene: tuple[pycolmap.Reconstruction, Path],
) -> None:
    model, _ = scene
    pairs = SfmPairs(*scene, size=SIZE, overlap=(0.1, 1.0), photo_change=None)
    checked = 0
    for i, j in pairs.pairs[:5]:
        first, second = pairs.images[i], pairs.images[j]
        _, rows, others = np.intersect1d(first.ids, second.ids, return_indices=True)
        points, valid = interpolated_matches(
            first.pixels[rows], second.pixels[others], first.depths[rows], SIZE
        )
        numbers = [int(seen.name.removesuffix(".png")) for seen in (first, second)]
        homographies = [floor_homography(model, number) for number in numbers]
        expected = warp_points(homographies[1] @ np.linalg.inv(homographies[0]), cell_centers(SIZE))
        error = np.linalg.norm(points[valid] - expected[valid], axis=1)
        # A triangle is affine, the plane's homography is not quite.
        assert np.median(error) < 0.03
        assert error.max() < 0.3
        assert ((points[valid] >= 0) & (points[valid] <= [SIZE[1] - 1, SIZE[0] - 1])).all()
        checked += int(valid.sum())
    assert checked > 1000


def test_pictures_agree_where_they_match(scene: tuple[pycolmap.Reconstruction, Path]) -> None:
    pairs = SfmPairs(*scene, size=(128, 160), length=8, overlap=(0.1, 1.0), photo_change=None)
    for index in range(8):
        sample = pairs[index]
        assert sample["image0"].shape == (1, 128, 160)
        assert sample["points1"].shape == (320, 2)
        for here, there in ((0, 1), (1, 0)):
            valid = sample[f"valid{there}"].numpy()
            assert valid.sum() > 30
            first = sampled(sample[f"image{here}"], cell_centers((128, 160))[valid])
            second = sampled(sample[f"image{there}"], sample[f"points{there}"].numpy()[valid])
            assert np.median(np.abs(first - second)) < 4


def test_photos_are_reduced_with_their_points(scene: tuple[pycolmap.Reconstruction, Path]) -> None:
    whole = SfmPairs(*scene, overlap=(0.1, 1.0))
    half = SfmPairs(*scene, overlap=(0.1, 1.0), longest_side=160)
    assert half.photo("1.png").shape == (120, 160)
    np.testing.assert_allclose(half.images[0].pixels, (whole.images[0].pixels + 0.5) / 2 - 0.5)


def test_triangles_between_surfaces_and_large_ones_are_left_out() -> None:
    first = np.array([[0.0, 0], [32, 0], [0, 32], [36, 36]])
    second = first + np.array([5.0, 3.0])
    depths = np.array([4.0, 4.0, 4.0, 4.1])
    points, valid = interpolated_matches(first, second, depths, (64, 64), longest_side=50)
    distance = cell_centers((64, 64)).sum(axis=1)
    near_corner = distance < 32
    assert valid[near_corner].all()
    assert valid.sum() > near_corner.sum()
    np.testing.assert_allclose(points[valid], cell_centers((64, 64))[valid] + [5, 3])
    assert not interpolated_matches(first, second, depths, (64, 64), longest_side=40)[1].any()
    depths[3] = 8.0
    _, partly = interpolated_matches(first, second, depths, (64, 64), longest_side=50)
    off_the_diagonal = distance != 32
    np.testing.assert_array_equal(partly[off_the_diagonal], near_corner[off_the_diagonal])
    mirrored = second * [-1, 1] + [60, 0]
    assert not interpolated_matches(first, mirrored, np.ones(4), (64, 64), longest_side=50)[1].any()
    assert not interpolated_matches(first[:2], second[:2], np.ones(2), (64, 64))[1].any()
    line = np.array([[0.0, 0], [8, 8], [16, 16], [24, 24]])
    assert not interpolated_matches(line, line, np.ones(4), (64, 64))[1].any()


def test_samples_are_determined_by_seed_and_index(tmp_path: Path) -> None:
    folder, model = make_scene(tmp_path / "images", num_images=6)
    write_model(model, tmp_path / "model")
    settings = {"size": 128, "length": 5, "overlap": (0.0, 1.0), "min_points": 5}
    pairs, again = (SfmPairs(tmp_path / "model", folder, seed=4, **settings) for _ in range(2))
    last = again[4]
    for name, value in pairs[4].items():
        assert torch.equal(value, last[name]), name
    other = SfmPairs(model, folder, seed=5, **settings)
    assert not torch.equal(other[4]["clean0"], last["clean0"])
    # The points of this scene fill a volume: hardly any triangle is a surface.
    assert max(float(pairs[index]["valid1"].float().mean()) for index in range(5)) < 0.2
    with pytest.raises(IndexError):
        pairs[5]


def test_mistakes_are_named(scene: tuple[pycolmap.Reconstruction, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shares 99999 points"):
        SfmPairs(*scene, min_points=99999)
    with pytest.raises(InputError, match="multiples of 8"):
        SfmPairs(*scene, size=100)
    with pytest.raises(MissingInputError):
        SfmPairs(tmp_path / "nothing", tmp_path)
    with pytest.raises(MissingInputError, match="does not exist"):
        SfmPairs(scene[0], tmp_path, overlap=(0.1, 1.0))[0]
