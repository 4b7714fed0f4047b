from __future__ import annotations

import numpy as np
import pytest

from hloc_ext import pairs_from_exhaustive
from hloc_ext.errors import InputError
from hloc_ext.formats.h5 import H5Writer
from hloc_ext.formats.pairs import read_pairs


@pytest.fixture
def features(tmp_path):
    path = tmp_path / "features.h5"
    with H5Writer(path) as writer:
        for name in ("b.jpg", "dir/a.jpg"):
            writer.write(name, {"keypoints": np.zeros((1, 2), np.float32)})
    return path


def test_unordered_pairs_of_one_list(tmp_path):
    pairs_from_exhaustive.main(tmp_path / "pairs.txt", image_list=["c", "a", "b"])
    assert read_pairs(tmp_path / "pairs.txt") == [("c", "a"), ("c", "b"), ("a", "b")]


def test_pairs_with_references_keep_identical_names(tmp_path):
    pairs_from_exhaustive.main(tmp_path / "pairs.txt", image_list=["a", "b"], ref_list=["b", "c"])
    assert read_pairs(tmp_path / "pairs.txt") == [("a", "b"), ("a", "c"), ("b", "b"), ("b", "c")]


def test_command_line_with_list_and_features(tmp_path, features):
    (tmp_path / "list.txt").write_text("# queries\nq.jpg PINHOLE 4 4 4 4 2 2\n")
    pairs_from_exhaustive.cli(
        [
            "--output",
            f"{tmp_path}/pairs.txt",
            "--image_list",
            f"{tmp_path}/list.txt",
            "--ref_features",
            str(features),
        ]
    )
    assert read_pairs(tmp_path / "pairs.txt") == [("q.jpg", "b.jpg"), ("q.jpg", "dir/a.jpg")]


def test_features_as_images(tmp_path, features):
    pairs_from_exhaustive.main(tmp_path / "pairs.txt", features=features)
    assert read_pairs(tmp_path / "pairs.txt") == [("b.jpg", "dir/a.jpg")]


@pytest.mark.parametrize(
    ("image_list", "message"),
    [(None, "Give either"), ([], "holds no image"), (["a", "b", "a"], "'a' occurs twice")],
)
def test_bad_lists(tmp_path, image_list, message):
    with pytest.raises(InputError, match=message):
        pairs_from_exhaustive.main(tmp_path / "pairs.txt", image_list=image_list)
    assert not (tmp_path / "pairs.txt").exists()
