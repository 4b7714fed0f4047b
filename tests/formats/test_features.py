"""Feature files: ours, HLOC's, and broken ones."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats.features import (
    FeatureReader,
    get_keypoints,
    list_feature_names,
    read_global_descriptors,
)


@pytest.fixture
def hloc_file(tmp_path: Path) -> Path:
    """What HLOC writes: libver latest, half precision, nested and non-ASCII names."""
    path = tmp_path / "feats-superpoint.h5"
    with h5py.File(path, "a", libver="latest") as fd:
        for name, count in (("db/1.jpg", 3), ("query/Zürich/夜.jpg", 0)):
            group = fd.create_group(name)
            keypoints = np.arange(2 * count).reshape(count, 2) + 0.5
            group.create_dataset("keypoints", data=keypoints.astype(np.float16))
            group.create_dataset("descriptors", data=np.ones((4, count), np.float16))
            group.create_dataset("scores", data=np.ones(count, np.float16))
            group.create_dataset("image_size", data=np.array([640, 480]))
        fd["db/1.jpg/keypoints"].attrs["uncertainty"] = 2.0
    return path


def test_reads_what_hloc_writes(hloc_file: Path) -> None:
    with FeatureReader(hloc_file) as features:
        keypoints = features.keypoints("db/1.jpg")
        assert keypoints.dtype == np.float32
        assert keypoints.tolist() == [[0.5, 1.5], [2.5, 3.5], [4.5, 5.5]]
        assert features.uncertainty("db/1.jpg") == 2.0
        assert features.keypoints("query/Zürich/夜.jpg").shape == (0, 2)
        assert features.uncertainty("query/Zürich/夜.jpg") == 1.0
        assert features.get("db/1.jpg", "descriptors").dtype == np.float16
        assert sorted(features.keys("db/1.jpg")) == ["descriptors", "image_size", "keypoints", "scores"]
        assert features.record("db/1.jpg")["image_size"].tolist() == [640, 480]
        assert "db/1.jpg" in features
        assert "db/2.jpg" not in features


def test_get_keypoints(hloc_file: Path) -> None:
    keypoints, uncertainty = get_keypoints(hloc_file, "db/1.jpg", return_uncertainty=True)
    assert np.array_equal(keypoints, get_keypoints(hloc_file, "db/1.jpg"))
    assert uncertainty == 2.0


def test_a_missing_image_or_dataset_is_named(hloc_file: Path) -> None:
    with FeatureReader(hloc_file) as features:
        for use in (features.keypoints, features.uncertainty, features.keys, features.record):
            with pytest.raises(
                MissingInputError, match=r"superpoint\.h5 has no 'keypoints' of image 'db/9\.jpg'"
            ):
                use("db/9.jpg")
        with pytest.raises(MissingInputError, match=r"no 'global_descriptor' of image 'db/1\.jpg'"):
            features.get("db/1.jpg", "global_descriptor")


def test_the_cache_drops_the_least_recently_used_and_stays_correct(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as fd:
        for index in range(6):
            fd[f"{index}/x"] = np.full(100, index, np.float64)
    with FeatureReader(path, max_cache_bytes=1600) as features:
        first = features.get("0", "x")
        features.get("1", "x")
        assert features.get("0", "x") is first
        features.get("2", "x")  # drops 1, not 0
        assert features.get("0", "x") is first
        for index in (3, 4, 5, 1, 0):
            assert features.get(str(index), "x").tolist() == [index] * 100
    with FeatureReader(path, max_cache_bytes=0) as features:
        assert [features.get(str(index), "x")[0] for index in (0, 1, 0)] == [0, 1, 0]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    content = np.random.default_rng(0).random(1000)
    with h5py.File(path, "w") as fd:
        fd.create_dataset("good.jpg/keypoints", data=np.zeros((1, 2)))
        fd.create_dataset("bad.jpg/keypoints", data=content, chunks=(1000,), fletcher32=True)
    damaged = path.read_bytes().replace(content.tobytes(), content[::-1].tobytes())
    path.write_bytes(damaged)
    with FeatureReader(path) as features:
        assert features.keypoints("good.jpg").shape == (1, 2)
        with pytest.raises(CorruptFileError, match=r"f\.h5: record 'bad\.jpg' cannot be read"):
            features.keypoints("bad.jpg")


@pytest.fixture
def global_files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "db.h5", tmp_path / "query.h5"]
    for path, names, value in zip(paths, (("a", "b/c"), ("b/c", "q")), (1, 2), strict=True):
        with h5py.File(path, "w") as fd:
            for name in names:
                fd[f"{name}/global_descriptor"] = np.full(4, value, np.float32)
    return paths


def test_global_descriptors_come_from_the_first_file_that_has_them(global_files: list[Path]) -> None:
    descriptors = read_global_descriptors(global_files, ["q", "b/c", "a"])
    assert descriptors.dtype == np.float32
    assert descriptors.tolist() == [[2] * 4, [1] * 4, [1] * 4]
    assert read_global_descriptors(global_files, iter(["q"]), np.float16).dtype == np.float16
    assert read_global_descriptors(global_files, []).shape == (0, 0)
    first, second = global_files
    assert list_feature_names(global_files) == {"a": first, "b/c": first, "q": second}


def test_global_descriptors_missing_or_of_another_size(global_files: list[Path], hloc_file: Path) -> None:
    with pytest.raises(MissingInputError, match="no 'global_descriptor' of image 'z'"):
        read_global_descriptors(global_files, ["a", "z"])
    with pytest.raises(MissingInputError, match=r"no 'global_descriptor' of image 'db/1\.jpg'"):
        read_global_descriptors([hloc_file], ["db/1.jpg"])
    with h5py.File(global_files[1], "a") as fd:
        fd["other/global_descriptor"] = np.zeros(8)
    with pytest.raises(InputError, match=r"query\.h5: the global descriptor of 'other' has shape \(8,\)"):
        read_global_descriptors(global_files, ["a", "other"])
