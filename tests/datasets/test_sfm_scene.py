"""Spatial tokens against the geometry of synthetic models; the published formula against a literal one."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from hloc_ext.datasets.sfm_scene import (
    CAMERA,
    GRID,
    SKY,
    STRUCTURE,
    UNKNOWN,
    SfmScene,
    cell_centers,
    mirrored_cells,
    published_tokens,
)
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from tests.datasets.text_model import View, project, write_text_model

#: Strong distortion; the least favourable corner is moved by more than a cell.
OPENCV = [700.0, 690.0, 500.0, 380.0, -0.18, 0.03, 0.002, -0.003]
WIDTH, HEIGHT = 1010, 771  # neither is a multiple of 14


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 6
    options.num_points3D = 600
    options.camera_width, options.camera_height = WIDTH, HEIGHT
    options.camera_model_id, options.camera_params = pycolmap.CameraModelId.OPENCV, OPENCV
    pycolmap.set_random_seed(4)
    model = pycolmap.synthesize_dataset(options)
    # Far from the origin, as models in map coordinates are.
    turn = pycolmap.Rotation3d(np.array([0.1, 0.2, 0.3, 0.9]))
    turn.normalize()
    model.transform(pycolmap.Sim3d(20.0, turn, np.array([4000.0, -7000.0, 300.0])))
    return model


@pytest.fixture(scope="module")
def folder(model: pycolmap.Reconstruction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    model.write_binary(path)
    return path


@pytest.fixture(scope="module")
def scene(folder: Path) -> SfmScene:
    return SfmScene.read(folder)


def projected(scene: SfmScene, model: pycolmap.Reconstruction, index: int, points: np.ndarray) -> np.ndarray:
    """Pixels of points in the scene frame, by pycolmap."""
    image = model.find_image_with_name(scene.names[index])
    world = points.astype(np.float64) / scene.frame.scale + scene.frame.origin
    matrix = image.cam_from_world().matrix()
    return np.asarray(model.cameras[image.camera_id].img_from_cam(world @ matrix[:, :3].T + matrix[:, 3]))


def brute_force_depths(model: pycolmap.Reconstruction, name: str) -> dict[int, float]:
    """Median distance of the points of each cell, by the keypoints of pycolmap one after the other."""
    image = model.find_image_with_name(name)
    distances: dict[int, list[float]] = {}
    for point in image.points2D:
        if point.has_point3D():
            column, row = int(point.xy[0] // (WIDTH / GRID)), int(point.xy[1] // (HEIGHT / GRID))
            xyz = model.points3D[point.point3D_id].xyz
            distance = float(np.linalg.norm(xyz - image.projection_center()))
            distances.setdefault(row * GRID + column, []).append(distance)
    return {cell: float(np.median(values)) for cell, values in distances.items()}


def test_model_in_arrays(scene: SfmScene, model: pycolmap.Reconstruction) -> None:
    ids = sorted(model.images)
    point_ids = sorted(model.points3D)
    assert scene.names == [model.images[i].name for i in ids]
    assert [scene.rows[name] for name in scene.names] == list(range(6))
    np.testing.assert_allclose(scene.points, [model.points3D[i].xyz for i in point_ids])
    np.testing.assert_allclose(scene.centers, [model.images[i].projection_center() for i in ids], atol=1e-8)
    observed = scene.observations
    assert (observed.dtype, observed.shape) == (bool, (6, 600))
    for row, image_id in enumerate(ids):
        seen = {p.point3D_id for p in model.images[image_id].get_observation_points2D()}
        assert [point_ids[column] for column in observed[row].indices] == sorted(seen)


def test_text_and_binary_give_the_same_tokens(
    scene: SfmScene, model: pycolmap.Reconstruction, tmp_path: Path
) -> None:
    model.write_text(tmp_path)
    other = SfmScene.read(tmp_path)
    for first, second in zip(scene.tokens(2), other.tokens(2), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_images_are_read_one_at_a_time(tmp_path: Path) -> None:
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model="PINHOLE", width=140, height=140, params=[70, 70, 70, 70])
    model.add_camera_with_trivial_rig(camera)
    for number in range(1, 101):
        image = pycolmap.Image(
            name=f"{number}.jpg", keypoints=np.full((4096, 2), 70.0), camera_id=1, image_id=number
        )
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    model.write_binary(tmp_path)
    size = (tmp_path / "images.bin").stat().st_size
    assert size > 9_000_000
    tracemalloc.start()
    scene = SfmScene.read(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(scene) == 100
    assert peak < size / 8


def test_tokens_project_back_into_the_centres_of_their_cells(
    scene: SfmScene, model: pycolmap.Reconstruction
) -> None:
    centers = cell_centers(WIDTH, HEIGHT)
    pinhole = np.array([[OPENCV[0], 0, OPENCV[2]], [0, OPENCV[1], OPENCV[3]], [0, 0, 1]])
    for index in range(len(scene)):
        tokens = scene.tokens(index)
        pixels = projected(scene, model, index, tokens.points[1:])
        np.testing.assert_allclose(pixels, centers, atol=0.02)
        # Without the distortion they would not.
        in_camera = (tokens.rays[1:] @ scene.cam_from_world[index, :, :3].T) @ pinhole.T
        assert np.linalg.norm(in_camera[:, :2] / in_camera[:, 2:] - centers, axis=1).max() > WIDTH / GRID
        # Each token lies on its ray.
        offsets = tokens.points[1:] - tokens.points[0]
        distances = np.linalg.norm(offsets, axis=1)
        np.testing.assert_allclose(offsets / distances[:, None], tokens.rays[1:], atol=1e-4)
        known = tokens.state[1:] == STRUCTURE
        np.testing.assert_allclose(distances[known], np.exp(tokens.log_depths[1:][known]), rtol=1e-4)
        assert np.allclose(distances[~known], np.median(distances[known]), rtol=1e-4)


def test_depths_are_medians_of_the_points_of_a_cell(scene: SfmScene, model: pycolmap.Reconstruction) -> None:
    for index, name in enumerate(scene.names):
        expected = brute_force_depths(model, name)
        assert len(expected) > 20
        tokens = scene.tokens(index)
        known = np.flatnonzero(tokens.state[1:] == STRUCTURE)
        assert known.tolist() == sorted(expected)
        depths = np.array([expected[cell] for cell in known.tolist()]) * scene.frame.scale
        np.testing.assert_allclose(tokens.log_depths[1:][known], np.log(depths), atol=1e-5)
        unknown = np.flatnonzero(tokens.state[1:] != STRUCTURE)
        assert not tokens.log_depths[1:][unknown].any()


def test_camera_token(scene: SfmScene, model: pycolmap.Reconstruction) -> None:
    for index, name in enumerate(scene.names):
        image = model.find_image_with_name(name)
        tokens = scene.tokens(index)
        center = (image.projection_center() - scene.frame.origin) * scene.frame.scale
        np.testing.assert_allclose(tokens.points[0], center, atol=1e-6)
        rotation = image.cam_from_world().rotation.matrix()
        np.testing.assert_allclose(tokens.rays[0], image.viewing_direction(), atol=1e-6)
        np.testing.assert_allclose(tokens.rotation.reshape(2, 3), rotation[:2], atol=1e-6)
        assert (tokens.state[0], tokens.log_depths[0]) == (CAMERA, 0)
    np.testing.assert_allclose(
        [np.linalg.norm(scene.tokens(i).rays, axis=1) for i in range(6)], 1.0, atol=1e-6
    )


def test_frame_holds_cameras_and_points(scene: SfmScene) -> None:
    positions = np.concatenate([scene.tokens(index).points for index in range(len(scene))])
    assert np.abs(positions).max() < 4
    assert np.linalg.norm(positions, axis=1).max() > 0.5


def test_positions_are_comparable_among_images(tmp_path: Path) -> None:
    # A wall z = 10 seen from four places: wherever a cell has structure, its token lies on the wall.
    wall = [(x, y, 10.0) for x in np.arange(-12, 12, 0.4) for y in np.arange(-5, 5, 0.4)]
    views = []
    for number, center in enumerate([(0, 0, 0), (3, 1, 2), (-4, 0, 1), (1, -1, 5)]):
        pixels = {row: project(point, center) for row, point in enumerate(wall)}
        seen = {row: xy for row, xy in pixels.items() if min(xy) > 0 and max(xy) < 140}
        views.append(View(f"{number}.jpg", center, seen))
    scene = SfmScene.read(write_text_model(tmp_path, wall, views))
    found = []
    for index in range(4):
        tokens = scene.tokens(index)
        structure = tokens.points[tokens.state == STRUCTURE] / scene.frame.scale + scene.frame.origin
        np.testing.assert_allclose(structure[:, 2], 10.0, atol=0.35)
        found.append(structure)
    # The same part of the wall has tokens at the same place in all images.
    for structure in found[1:]:
        gaps = np.linalg.norm(structure[:, None] - found[0], axis=2).min(axis=1)
        shared = np.abs(structure[:, 0]) < 6
        assert gaps[shared & (np.abs(structure[:, 1]) < 3)].max() < 1.1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SfmScene:
    """Four views of 14 × 14 cells of 10 pixels, with points in few known ones."""
    points = [(0, 0, 4.0), (0, 0, 8.0), (0, 0, 6.0), (0, 0, 12.0), (0, 0, -5.0)]
    seen = {
        0: (5.0, 65.0),  # cell (6, 0)
        1: (5.0, 95.0),  # (9, 0)
        2: (38.0, 22.0),  # (2, 3)
        3: (31.0, 29.0),  # (2, 3)
    }
    views = [
        View("a.jpg", (0, 0, 0), seen),
        View("b.jpg", (2, 0, 0)),
        View("c.jpg", (0, 0, 0), {0: (-3.0, 65.0), 1: (5.0, 141.0), 4: (70.0, 70.0)}),
        View("d.jpg", (0, 0, 3.5), {1: (70.0, 70.0)}),
    ]
    return SfmScene.read(write_text_model(tmp_path_factory.mktemp("small"), points, views))


def test_sky_is_above_the_highest_structure_of_a_column(small: SfmScene) -> None:
    state = small.tokens(0).state[1:].reshape(GRID, GRID)
    expected = np.full((GRID, GRID), UNKNOWN)
    expected[:6, 0] = SKY
    expected[[6, 9], 0] = STRUCTURE
    expected[:2, 3] = SKY
    expected[2, 3] = STRUCTURE
    np.testing.assert_array_equal(state, expected)
    depths = np.exp(small.tokens(0).log_depths[1:].reshape(GRID, GRID)[[6, 9, 2], [0, 0, 3]])
    np.testing.assert_allclose(depths / small.frame.scale, [4, 8, 9], rtol=1e-6)


def test_image_without_structure(small: SfmScene) -> None:
    for index in (1, 2):  # none observed; outside of the picture and behind the camera
        tokens = small.tokens(index)
        assert not tokens.state[1:].any() and not tokens.log_depths.any()
        np.testing.assert_allclose(tokens.points[1:] - tokens.points[0], tokens.rays[1:], atol=1e-6)
    assert small.observations[2].nnz == 3  # they count as shared points all the same


def test_frame(small: SfmScene) -> None:
    # Median of the centres on each axis; one unit is the median depth of the cells: 4, 8, 9 and 4.5.
    np.testing.assert_allclose(small.frame.origin, [0, 0, 0])
    assert small.frame.scale == pytest.approx(1 / 6.25)


def test_masks_mark_the_sky(tmp_path: Path) -> None:
    model = write_text_model(tmp_path / "model", [(0, 0, 4.0)], [View("x/a.jpg", seen={0: (35.0, 5.0)})])
    mask = np.zeros((280, 280), np.uint8)
    mask[:33] = 255  # all of the first row, 13/20 of the second
    (tmp_path / "masks/x").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "masks/x/a.jpg.png"), mask)
    state = SfmScene.read(model, tmp_path / "masks").tokens(0).state[1:].reshape(GRID, GRID)
    expected = np.zeros((GRID, GRID), int)
    expected[0] = SKY
    expected[0, 3] = STRUCTURE
    np.testing.assert_array_equal(state, expected)
    with pytest.raises(MissingInputError, match=r"No sky mask .*a\.jpg\.png"):
        SfmScene.read(model, tmp_path)


def test_mirrored_tokens_show_what_the_flipped_picture_shows(
    scene: SfmScene, model: pycolmap.Reconstruction
) -> None:
    centers = cell_centers(WIDTH, HEIGHT)
    for index in range(len(scene)):
        plain, mirrored = scene.tokens(index), scene.tokens(index, mirrored=True)
        pixels = projected(scene, model, index, mirrored.points[1:])
        np.testing.assert_allclose(WIDTH - pixels[:, 0], centers[:, 0], atol=0.02)
        np.testing.assert_allclose(pixels[:, 1], centers[:, 1], atol=0.02)
        for name in ("points", "rays", "log_depths", "state"):
            rows = getattr(plain, name)[1:].reshape(GRID, GRID, -1)[:, ::-1]
            np.testing.assert_array_equal(getattr(mirrored, name)[1:].reshape(rows.shape), rows)
            np.testing.assert_array_equal(getattr(mirrored, name)[0], getattr(plain, name)[0])
        assert (mirrored.state != plain.state).any()


def test_mirrored_rotation_projects_into_the_flipped_picture(small: SfmScene) -> None:
    tokens = small.tokens(0, mirrored=True)
    rotation = np.vstack([tokens.rotation.reshape(2, 3), tokens.rays[0]])
    x, y, z = rotation @ (tokens.points[1:] - tokens.points[0]).T
    pixels = np.column_stack([70 + 70 * x / z, 70 + 70 * y / z])
    np.testing.assert_allclose(pixels, cell_centers(140, 140), atol=1e-4)


def test_distortion_without_inverse(tmp_path: Path) -> None:
    # The radius of a distorted pixel has a maximum, so that the corners belong to no ray.
    camera = pycolmap.Camera(
        camera_id=7, model="SIMPLE_RADIAL", width=640, height=480, params=[300, 320, 240, -0.11]
    )
    centers = cell_centers(640, 480)
    failing = ~np.isfinite(np.asarray(camera.cam_from_img(centers))).all(axis=1)
    assert 0 < failing.sum() < 60
    folder = write_text_model(tmp_path, [], [View("a.jpg")], "SIMPLE_RADIAL 640 480 300 320 240 -0.11")
    rays = SfmScene.read(folder).tokens(0).rays[1:]
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-6)
    pixels = np.asarray(camera.img_from_cam(rays))
    np.testing.assert_allclose(pixels[~failing], centers[~failing], atol=0.01)
    inward, wanted = pixels[failing] - [320, 240], centers[failing] - [320, 240]
    shrunk = np.linalg.norm(inward, axis=1) / np.linalg.norm(wanted, axis=1)
    assert shrunk.min() > 0.5 and shrunk.max() < 1
    np.testing.assert_allclose(inward, shrunk[:, None] * wanted, atol=0.01)


def test_wrong_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="No COLMAP model"):
        SfmScene.read(tmp_path)
    with pytest.raises(InputError, match="no registered image"):
        SfmScene.read(write_text_model(tmp_path / "empty", [], []))
    for points in ([], [(0, 0, 1.0)]):
        folder = write_text_model(tmp_path / "points", points, [View("a.jpg", seen={3: (5.0, 5.0)})])
        with pytest.raises(CorruptFileError, match=r"a\.jpg refers to point 40"):
            SfmScene.read(folder)
    folder = write_text_model(tmp_path / "camera", [], [View("a.jpg")])
    (folder / "cameras.txt").write_text("1 PINHOLE 140 140 70 70 70 70\n")
    with pytest.raises(CorruptFileError, match=r"a\.jpg refers to camera 7"):
        SfmScene.read(folder)


def literal_published(model: pycolmap.Reconstruction, name: str, row: int, column: int) -> list[float]:
    """One cell of the published tokens, by the steps of papers.md S3."""
    image = model.find_image_with_name(name)
    cell = (WIDTH // 14, HEIGHT // 14)
    u, v = column * cell[0] + cell[0] // 2, row * cell[1] + cell[1] // 2
    ray = np.array([(u - OPENCV[2]) / OPENCV[0], (v - OPENCV[3]) / OPENCV[1], 1.0])
    ray = 10 * ray / np.linalg.norm(ray)
    world = image.cam_from_world().inverse() * ray
    x, y, z, w = image.cam_from_world().rotation.quat
    sign = 1 if w >= 0 else -1
    return embedded([*world, sign * w, sign * x, sign * y, sign * z])


def embedded(vector: list[float]) -> list[float]:
    scaled = [2 * (value - min(vector)) / (max(vector) - min(vector)) - 1 for value in vector]
    waves = [math.sin(math.pi * value) for value in scaled] + [math.cos(math.pi * value) for value in scaled]
    return waves * 13 + waves[:10]


def test_published_tokens_follow_the_formula(scene: SfmScene, model: pycolmap.Reconstruction) -> None:
    index = 1
    tokens = published_tokens(scene, index)
    assert (tokens.shape, tokens.dtype) == ((197, 192), np.float32)
    for row, column in ((0, 0), (5, 9), (13, 13)):
        expected = literal_published(model, scene.names[index], row, column)
        np.testing.assert_allclose(tokens[1 + row * GRID + column], expected, atol=1e-5)
    pose = model.find_image_with_name(scene.names[index]).cam_from_world()
    x, y, z, w = pose.rotation.quat if pose.rotation.quat[3] >= 0 else -pose.rotation.quat
    np.testing.assert_allclose(tokens[0], embedded([*pose.translation, w, x, y, z]), atol=1e-5)
    np.testing.assert_array_equal(
        tokens[:, 14:182].reshape(197, 12, 14), np.tile(tokens[:, None, :14], (12, 1))
    )
    flipped = published_tokens(scene, index, mirrored=True)
    np.testing.assert_array_equal(flipped[1:], tokens[1:][mirrored_cells()])
    np.testing.assert_array_equal(flipped[0], tokens[0])
