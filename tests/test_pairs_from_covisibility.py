from __future__ import annotations

from collections import Counter

import pycolmap
import pytest

from hloc_ext import pairs_from_covisibility
from hloc_ext.errors import InputError
from hloc_ext.formats.pairs import read_pairs


@pytest.fixture(scope="module")
def model():
    pycolmap.set_random_seed(0)
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=2, num_cameras_per_rig=1, num_frames_per_rig=4, num_points3D=60, track_length=3
    )
    return pycolmap.synthesize_dataset(options)


def dictionary_reference(model, num_matched):
    """HLOC's counting over tracks, ties by image id."""
    pairs = []
    for image_id in sorted(model.images):
        counts = Counter()
        for point in model.images[image_id].points2D:
            if point.has_point3D():
                for element in model.points3D[point.point3D_id].track.elements:
                    counts[element.image_id] += element.image_id != image_id
        ranked = sorted((-count, other) for other, count in counts.items() if count)
        name = model.images[image_id].name
        pairs += [(name, model.images[other].name) for _, other in ranked[:num_matched]]
    return pairs


@pytest.mark.parametrize("num_matched", [1, 3, 50])
@pytest.mark.parametrize("block", [2, 256])
def test_equals_counting_over_tracks(model, tmp_path, monkeypatch, num_matched, block):
    monkeypatch.setattr(pairs_from_covisibility, "ROW_BLOCK", block)
    pairs_from_covisibility.main(model, tmp_path / "pairs.txt", num_matched)
    assert read_pairs(tmp_path / "pairs.txt") == dictionary_reference(model, num_matched)


def test_point_observed_twice_in_one_image_counts_twice(model):
    model = pycolmap.Reconstruction(model)
    first, second = sorted(model.images)[:2]
    shared = next(
        point_id
        for point_id, point in model.points3D.items()
        if {first, second} <= {e.image_id for e in point.track.elements}
    )
    index = next(i for i, p in enumerate(model.images[second].points2D) if not p.has_point3D())
    before = dictionary_reference(model, 50)
    model.add_observation(shared, pycolmap.TrackElement(second, index))
    ids, observations = pairs_from_covisibility.observation_matrix(model)
    assert observations.max() == 2 and ids == sorted(model.images)
    covisible = pairs_from_covisibility.covisible_images(observations, 50)
    names = {row: model.images[i].name for row, i in enumerate(ids)}
    pairs = [(names[row], names[j]) for row, others in enumerate(covisible) for j in others]
    assert pairs == dictionary_reference(model, 50)
    assert set(pairs) == set(before)


@pytest.mark.parametrize("text", [False, True])
def test_command_line(model, tmp_path, text):
    (tmp_path / "model").mkdir()
    (model.write_text if text else model.write_binary)(tmp_path / "model")
    pairs_from_covisibility.cli(
        ["--model", f"{tmp_path}/model", "--output", f"{tmp_path}/pairs.txt", "--num_matched", "2"]
    )
    assert read_pairs(tmp_path / "pairs.txt") == dictionary_reference(model, 2)


def test_model_without_points_is_an_error(model, tmp_path):
    model = pycolmap.Reconstruction(model)
    model.delete_all_points2D_and_points3D()
    with pytest.raises(InputError, match="share a 3-D point: triangulate"):
        pairs_from_covisibility.main(model, tmp_path / "pairs.txt", 2)
    with pytest.raises(InputError, match="at least 1"):
        pairs_from_covisibility.main(model, tmp_path / "pairs.txt", 0)
