"""The index of a map and its cache."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pycolmap
import pytest

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.colmap import read_model
from hloc_ext.localization_map import CACHE_NAME, LocalizationMap, check_keypoint_counts
from hloc_ext.localize_sfm import collect_correspondences


def assert_equal(a: LocalizationMap, b: LocalizationMap) -> None:
    assert a.names == b.names
    for key in ("qvecs", "tvecs", "offsets", "point_rows", "point_ids", "points"):
        np.testing.assert_array_equal(getattr(a, key), getattr(b, key))


@pytest.fixture(scope="module")
def model(room_map) -> pycolmap.Reconstruction:
    return read_model(room_map.sfm)


@pytest.fixture(scope="module")
def index(model) -> LocalizationMap:
    return LocalizationMap.from_model(model)


def test_every_keypoint_has_the_point_of_the_model(model, index):
    assert index.names == [model.images[i].name for i in sorted(model.images)]
    assert index.point_rows.dtype == np.int32
    for number, name in enumerate(index.names):
        image = model.find_image_with_name(name)
        rows = index.rows_of(number)
        assert len(rows) == len(image.points2D) == len(index.rows_of(index.index[name]))
        for point2D, row in zip(image.points2D, rows, strict=True):
            assert point2D.has_point3D() == (row >= 0)
            if row >= 0:
                assert index.point_ids[row] == point2D.point3D_id
                np.testing.assert_array_equal(index.points[row], model.points3D[point2D.point3D_id].xyz)


def test_poses_are_those_of_the_model(model, index):
    for number, name in enumerate(index.names):
        expected = model.find_image_with_name(name).cam_from_world()
        np.testing.assert_allclose(index.pose(number).matrix(), expected.matrix(), atol=1e-12)
        w, x, y, z = index.qvecs[number]
        np.testing.assert_allclose(expected.rotation.quat, [x, y, z, w])


def test_images_without_a_pose_and_models_without_points(room_map):
    poses_only = read_model(room_map.reference)
    index = LocalizationMap.from_model(poses_only)
    assert index.names == room_map.room.map_names
    assert index.points.shape == (0, 3) and (index.point_rows == -1).all()
    assert LocalizationMap.from_model(pycolmap.Reconstruction()).names == []
    model = pycolmap.Reconstruction(read_model(room_map.sfm))
    model.deregister_frame(model.find_image_with_name("img00.png").frame_id)
    assert LocalizationMap.from_model(model).names == room_map.room.map_names[1:]


class TestCache:
    @pytest.fixture
    def folder(self, room_map, tmp_path):
        return room_map.copy_model(tmp_path / "sfm")

    @pytest.fixture
    def builds(self, monkeypatch):
        """One entry per index that is built from a model."""
        built = []
        original = LocalizationMap.from_model.__func__
        monkeypatch.setattr(
            LocalizationMap,
            "from_model",
            classmethod(lambda cls, model: built.append(1) or original(cls, model)),
        )
        return built

    def test_is_used_the_second_time(self, folder, index, builds):
        first, second = LocalizationMap.load(folder), LocalizationMap.load(folder)
        assert len(builds) == 1
        assert_equal(first, index)
        assert_equal(second, index)
        np.testing.assert_array_equal(second.pose(3).matrix(), first.pose(3).matrix())

    def test_of_another_model_is_rebuilt(self, folder, room_map, builds):
        LocalizationMap.load(folder)
        for file in room_map.reference.glob("*.bin"):
            shutil.copyfile(file, folder / file.name)
        assert len(LocalizationMap.load(folder).points) == 0
        assert len(LocalizationMap.load(folder).points) == 0
        assert len(builds) == 2

    @pytest.mark.parametrize("size", [0, 10, 300, 5000])
    def test_that_is_truncated_is_rebuilt(self, folder, index, builds, size):
        LocalizationMap.load(folder)
        cache = folder / CACHE_NAME
        cache.write_bytes(cache.read_bytes()[:size])
        assert_equal(LocalizationMap.load(folder), index)
        assert_equal(LocalizationMap.load(folder), index)
        assert len(builds) == 2

    def test_that_is_damaged_is_rebuilt(self, folder, index, builds):
        LocalizationMap.load(folder)
        cache = folder / CACHE_NAME
        data = bytearray(cache.read_bytes())
        data[len(data) // 2] ^= 255
        cache.write_bytes(data)
        assert_equal(LocalizationMap.load(folder), index)
        assert len(builds) == 2

    def test_of_another_version_is_rebuilt(self, folder, index, builds):
        LocalizationMap.load(folder)
        with np.load(folder / CACHE_NAME) as data:
            fields = {key: data[key] for key in data.files if key != "points"}
        np.savez(folder / CACHE_NAME, **fields)
        assert_equal(LocalizationMap.load(folder), index)

    def test_is_left_out_where_nothing_can_be_written(self, folder, index, small_disk, monkeypatch, caplog):
        monkeypatch.setattr(logging.getLogger("hloc_ext"), "propagate", True)
        target = small_disk / "sfm"
        shutil.copytree(folder, target)
        (small_disk / "ballast").write_bytes(b"\0" * (shutil.disk_usage(small_disk).free - 8192))
        assert_equal(LocalizationMap.load(target), index)
        assert "The index of the map is not cached" in caplog.text
        assert not (target / CACHE_NAME).exists()

    def test_does_not_stand_in_for_a_missing_model(self, folder, read_only_folder):
        LocalizationMap.load(folder)
        (folder / "points3D.bin").unlink()
        for place in (folder, read_only_folder):
            with pytest.raises(MissingInputError, match="No COLMAP model"):
                LocalizationMap.load(place)


def make_map(seen: list[list[int]], num_points: int) -> LocalizationMap:
    """Images that see the points of the given rows (−1: none)."""
    return LocalizationMap(
        names=[f"{i}.png" for i in range(len(seen))],
        qvecs=np.tile([1.0, 0, 0, 0], (len(seen), 1)),
        tvecs=np.zeros((len(seen), 3)),
        offsets=np.cumsum([0] + [len(s) for s in seen]),
        point_rows=np.array([row for s in seen for row in s], np.int32),
        point_ids=np.arange(num_points),
        points=np.zeros((num_points, 3)),
    )


def test_covisibility_clusters_are_connected_components():
    # 0–1 share point 0, 1–4 point 2 (so 0 and 4 are connected), 2–3 point 5; image 5 sees nothing.
    index = make_map([[0, -1], [0, 2, 2], [5], [5, 6], [2], [-1, -1]], 7)
    assert index.covisibility_clusters([5, 4, 3, 0, 1, 2]) == [[4, 0, 1], [3, 2], [5]]
    assert index.covisibility_clusters([4, 0]) == [[4], [0]], "only through retrieved images"
    assert index.covisibility_clusters([3]) == [[3]]


def test_clusters_of_one_size_keep_the_order_of_retrieval():
    index = make_map([[0], [1], [2]], 3)
    assert index.covisibility_clusters([2, 0, 1]) == [[2], [0], [1]]


def test_keypoints_beyond_those_of_the_map_are_refused():
    index = make_map([[0, 1], [1]], 2)
    check_keypoint_counts(index, 0, 1, "m.h5")
    with pytest.raises(InputError, match=r"m.h5: a match points to keypoint 1 of '1.png', which has 1"):
        check_keypoint_counts(index, 1, 1, "m.h5")


def test_map_images_without_keypoints_are_passed_over():
    # A map image that is in no pair of the map has none; semi-dense matching with queries makes some.
    index = make_map([[0, 1], []], 2)
    keypoints, matches = np.zeros((3, 2)), np.array([[0, 1], [2, 0]])
    found = collect_correspondences(index, keypoints, [0, 1], [matches, np.array([[1, 5]])])
    alone = collect_correspondences(index, keypoints, [0], [matches])
    for both, one in zip(vars(found).values(), vars(alone).values(), strict=True):
        np.testing.assert_array_equal(both, one)
