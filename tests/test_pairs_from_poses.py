from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from hloc_ext import pairs_from_poses
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.pairs import read_pairs


def all_pairs_reference(centers, axes, num_matched, rotation_threshold):
    """HLOC's definition on full N×N matrices, ties by index."""
    distance = np.linalg.norm(centers[:, None] - centers, axis=-1)
    angle = np.rad2deg(np.arccos(np.clip(axes @ axes.T, -1, 1)))
    distance[angle >= rotation_threshold] = np.inf
    np.fill_diagonal(distance, np.inf)
    nearest = []
    for row in distance:
        order = np.argsort(row, kind="stable")
        nearest.append(order[np.isfinite(row[order])][:num_matched].tolist())
    return nearest


def random_cameras(num, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    axes = np.array([0, 0, 1]) + spread * rng.standard_normal((num, 3))
    return rng.uniform(0, 10, (num, 3)), axes / np.linalg.norm(axes, axis=1, keepdims=True)


@pytest.mark.parametrize("num_matched", [1, 5, 100])
@pytest.mark.parametrize("threshold", [5.0, 30.0, 200.0])
def test_equals_full_distance_matrix(num_matched, threshold):
    centers, axes = random_cameras(80, seed=1)
    nearest = pairs_from_poses.nearest_views(centers, axes, num_matched, threshold)
    assert [x.tolist() for x in nearest] == all_pairs_reference(centers, axes, num_matched, threshold)


@pytest.mark.parametrize("num_matched", [2, 6, 24])
def test_equal_distances_follow_the_index(num_matched):
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3)
    centers = np.concatenate([grid, grid])
    axes = random_cameras(len(centers), seed=2, spread=0.3)[1]
    nearest = pairs_from_poses.nearest_views(centers, axes, num_matched, 30.0)
    assert [x.tolist() for x in nearest] == all_pairs_reference(centers, axes, num_matched, 30.0)


def make_model():
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=9)
    return pycolmap.synthesize_dataset(options)


@pytest.mark.parametrize("text", [False, True])
def test_model_on_disk(tmp_path, text):
    model = make_model()
    (tmp_path / "model").mkdir()
    (model.write_text if text else model.write_binary)(tmp_path / "model")
    arguments = (
        f"--model {tmp_path}/model --output {tmp_path}/pairs.txt --num_matched 3 --rotation_threshold 60"
    )
    pairs_from_poses.cli(arguments.split())
    images = [model.images[i] for i in sorted(model.images)]
    centers = np.array([image.projection_center() for image in images])
    axes = np.array([image.viewing_direction() for image in images])
    expected = [
        (images[i].name, images[j].name)
        for i, others in enumerate(all_pairs_reference(centers, axes, 3, 60.0))
        for j in others
    ]
    assert expected
    assert read_pairs(tmp_path / "pairs.txt") == expected


def test_bad_input(tmp_path):
    with pytest.raises(MissingInputError, match="No COLMAP model"):
        pairs_from_poses.main(tmp_path, tmp_path / "pairs.txt", 2)
    with pytest.raises(InputError, match="at least two images"):
        pairs_from_poses.main(pycolmap.Reconstruction(), tmp_path / "pairs.txt", 2)
    with pytest.raises(InputError, match="at least 1"):
        pairs_from_poses.main(make_model(), tmp_path / "pairs.txt", 0)
