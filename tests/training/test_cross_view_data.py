from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from hloc_ext.errors import InputError
from hloc_ext.training.cross_view_data import CrossViewData, SampleOptions, embed_view
from tests.training.cross_view_sets import SIZES, small_data


class MeanColor(nn.Module):
    """Describes an image by its mean colours in four columns."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def forward(self, image, view):
        self.seen.append((view, tuple(image.shape[1:])))
        cells = nn.functional.adaptive_avg_pool2d(image, (1, 4)).flatten(1)
        return nn.functional.normalize(cells * self.one, dim=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("sets") / "cvusa"
    small_data(path)
    return path


def test_no_pair_of_the_test_split_is_trained_on_or_selected_by(root):
    """The published code eats the first pair of each list as a header, and selects on the test list."""
    data = CrossViewData(small_data(root, val_share=0.0), SIZES)
    assert len(data.training_pairs) == 18 and data.validation_pairs is None  # all lines of the list
    assert data.provenance == {"cvusa/train"} and data.test_provenance == {"cvusa/test"}
    held = CrossViewData(small_data(root), SIZES)
    assert held.validation_pairs is not None
    train, val = ({p.name for p in pairs.grounds} for pairs in (held.training_pairs, held.validation_pairs))
    test = {f"{number:07d}.jpg" for number in range(19, 25)}
    assert train and val and not train & val and not (train | val) & test


def test_samples_follow_the_batches(root):
    data = CrossViewData(
        small_data(root),
        SIZES,
        SampleOptions(teacher_sizes={"ground": (24, 96), "aerial": (40, 40)}, teacher_clean=True),
    )
    batches = np.array([[3, 1], [0, 3]])
    samples = data.samples(batches, seed=5)
    assert [int(samples[i]["pair"]) for i in range(4)] == [3, 1, 0, 3]
    assert samples[0]["ground"].shape == (3, 32, 128) and samples[0]["teacher_aerial"].shape == (3, 40, 40)
    assert not torch.equal(samples[0]["ground"], samples[3]["ground"])  # the second time otherwise changed
    again = data.samples(batches, seed=5)
    assert torch.equal(samples[2]["aerial"], again[2]["aerial"])


def test_views_are_described_at_their_sizes_and_in_order(root):
    data, network = CrossViewData(small_data(root, fov=90.0), SIZES), MeanColor()
    pairs = data.training_pairs
    grounds = embed_view(network, pairs, "ground", SIZES["ground"], data.config)
    assert network.seen == [("ground", (3, 32, 32))] and grounds.shape == (len(pairs), 12)
    aerials = embed_view(network, pairs, "aerial", SIZES["aerial"], data.config)
    turned = embed_view(network, pairs, "aerial", SIZES["aerial"], data.config, geometry=4)  # mirrored
    by_column = aerials.reshape(-1, 3, 4)
    np.testing.assert_allclose(turned.reshape(-1, 3, 4), by_column[:, :, ::-1], atol=1e-6)


def test_neighbours_on_the_ground_and_alike(root):
    data = CrossViewData(small_data(root), SIZES)
    near = data.near()
    assert near is not None and near.shape == (len(data.training_pairs), 3)
    distances = data.training_pairs.distances(np.arange(len(near))[:, None], near)
    assert (distances[np.isfinite(distances)] > 300).all() and (np.diff(distances, axis=1) > -1).all()
    alike = data.alike(MeanColor())
    network, pairs = MeanColor(), data.training_pairs
    grounds, aerials = (embed_view(network, pairs, view, SIZES[view]) for view in SIZES)
    for row in range(len(pairs)):
        others = np.delete(np.arange(len(pairs)), pairs.positives[row])
        best = others[np.argmax(grounds[row] @ aerials[others].T)]
        assert alike[row, 0] == best and pairs.positives[row] not in alike[row]
    assert CrossViewData(small_data(root, neighbours=0), SIZES).near() is None
    assert CrossViewData(small_data(root, first_neighbours=False), SIZES).near() is None


def test_batches_of_epochs_hold_each_pair_once(root):
    data = CrossViewData(small_data(root), SIZES)
    count = len(data.training_pairs)
    batches = data.draw_batches(3, [7, 8], 0, data.near())
    assert batches.shape == (2 * (count // 3), 3)
    for epoch in np.split(batches, 2):
        assert len(np.unique(epoch)) == epoch.size


def test_pairs_of_which_no_batch_can_be_made(root):
    data = CrossViewData(small_data(root), SIZES)
    pairs = data.training_pairs
    tiles = np.unique(pairs.positives)
    seen = np.stack([np.setdiff1d(tiles, [own]) for own in pairs.positives])  # all tiles show all panoramas
    data.training_pairs = dataclasses.replace(pairs, semi_positives=seen)
    with pytest.raises(InputError, match=r"No batch of 3 .*trainer\.batch_size"):
        data.draw_batches(3, [0, 1], 0, None)


def test_recall_is_that_of_the_validation_pairs(root):
    data = CrossViewData(small_data(root), SIZES)
    figures = data.figures(MeanColor())
    assert figures.keys() == {"R@1", "R@5", "R@10"} and 0 <= figures["R@1"] <= figures["R@5"]

    class ByName(MeanColor):
        """Finds every tile, because views of a place come in the same order."""

        def forward(self, image, view):
            return torch.eye(16)[: len(image)]

    assert data.figures(ByName())["R@1"] == 100
    assert CrossViewData(small_data(root, val_share=0.0), SIZES).figures(MeanColor()) == {}


def test_negative_numbers_are_refused(root):
    with pytest.raises(InputError, match=r"data\.neighbours=-1"):
        CrossViewData(small_data(root, neighbours=-1), SIZES)
