"""Descriptors of data sets: views, fields of view, headings, and weights that do not go together."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hloc_ext.cross_view.descriptors import (
    CONDITIONS,
    Condition,
    CrossViewNetworks,
    by_field_of_view,
    count_parameters,
)
from hloc_ext.datasets.cross_view.layout import CrossViewSet, open_set
from hloc_ext.datasets.cross_view.pairs import CrossViewImages
from hloc_ext.errors import InputError, MissingInputError
from tests.cross_view_weights import AERIAL_SIZE, DIM, GROUND_SIZE, SECTORS, write_random_weights
from tests.datasets.cross_view.small_sets import write_cvusa

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> CrossViewSet:
    root = tmp_path_factory.mktemp("cvusa")
    write_cvusa(root, 24)
    tiles = root / "bingmap" / "19"
    shutil.copyfile(
        tiles / "0000019.jpg", tiles / "0000024.jpg"
    )  # the first and the last one of the test set
    return open_set(root, "test")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for kind in ("students", "ground", "aerial", "shared"):
        write_random_weights(folder / f"{kind}.safetensors", kind)
    write_random_weights(folder / "polar.safetensors", "students", "polar", ("cvusa/train",))
    return folder


@pytest.fixture(scope="module")
def mean(files: Path) -> CrossViewNetworks:
    return CrossViewNetworks([files / "students.safetensors"])


@pytest.fixture(scope="module")
def polar(files: Path) -> CrossViewNetworks:
    return CrossViewNetworks([files / "polar.safetensors"])


def test_descriptors_are_those_of_the_network(mean, pairs):
    images = CrossViewImages(pairs, "aerial", AERIAL_SIZE)
    with torch.inference_mode():
        single = torch.cat([mean.models["aerial"].net(images[i]["image"][None], "aerial") for i in range(6)])
    found = mean.describe_tiles(pairs, batch_size=4)
    np.testing.assert_allclose(found, single.numpy(), atol=1e-5)
    assert found.shape == (6, DIM)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_equal_tiles_have_the_same_bits_wherever_they_stand(mean, pairs):
    """The last batch has the same size as the others, so that ties of duplicates are ties."""
    found = mean.describe_tiles(pairs, batch_size=4)
    np.testing.assert_array_equal(found[0], found[5])
    assert (found[0] != found[1]).any()


def test_a_known_heading_gives_one_descriptor(mean, polar, pairs):
    for networks in (mean, polar):
        found = networks.describe_grounds(pairs, batch_size=4)
        assert found.values.shape == (6, DIM)
        np.testing.assert_array_equal(found.headings, np.zeros((6, 1)))
        np.testing.assert_array_equal(found.true_headings, np.zeros(6))


def test_an_unknown_heading_gives_one_descriptor_for_each_direction(polar, pairs):
    found = polar.describe_grounds(pairs, Condition(360, False), batch_size=4)
    assert found.values.shape == (6, SECTORS, DIM)
    np.testing.assert_array_equal(found.headings[3], np.arange(SECTORS) * 360 / SECTORS)
    assert len(np.unique(found.true_headings)) == 6 and (found.true_headings > 0).all()
    again = polar.describe_grounds(pairs, Condition(360, False), batch_size=4)
    np.testing.assert_array_equal(found.values, again.values)
    other = polar.describe_grounds(pairs, Condition(360, False), seed=1, batch_size=4)
    assert (other.true_headings != found.true_headings).any()


def test_a_network_that_cannot_turn_describes_what_it_sees(mean, pairs):
    found = mean.describe_grounds(pairs, Condition(360, False), batch_size=4)
    assert found.values.shape == (6, DIM)
    assert np.isnan(found.headings).all() and np.isfinite(found.true_headings).all()
    known = mean.describe_grounds(pairs, batch_size=4)
    assert (found.values != known.values).any()


@pytest.mark.parametrize(("fov", "width"), [(360, 192), (180, 96), (90, 48), (70, 37)])
def test_limited_fields_of_view_are_narrower_pictures(mean, pairs, monkeypatch, fov, width):
    shapes = []
    net = mean.models["ground"].net
    original = net.forward
    monkeypatch.setattr(
        net, "forward", lambda image, view: (shapes.append(image.shape), original(image, view))[1]
    )
    mean.describe_grounds(pairs, Condition(fov), batch_size=4)
    assert set(shapes) == {(4, 3, GROUND_SIZE[0], width)}


def test_fields_of_view_that_are_too_narrow_are_refused(mean, pairs):
    with pytest.raises(InputError, match="A field of view of 40 degrees is 21 pixels wide"):
        mean.describe_grounds(pairs, Condition(40))


def test_the_heading_of_a_photo_turns_its_descriptor(polar, pairs):
    photos = dataclasses.replace(
        pairs,
        fields_of_view=np.array([90.0, 90, 90, 360, 360, np.nan]),
        headings=np.array([0.0, 90, np.nan, 0, np.nan, np.nan]),
    )
    found = polar.describe_grounds(photos, batch_size=4)
    assert found.values.shape == (6, SECTORS, DIM)
    for row in (0, 1, 3):  # known: the same for all supposed headings
        assert (found.values[row] == found.values[row, 0]).all()
        np.testing.assert_array_equal(found.headings[row], found.true_headings[row])
    unknown = polar.describe_grounds(photos, Condition(90, False), batch_size=4)
    np.testing.assert_allclose(unknown.values[1, SECTORS // 4], found.values[1, 0], atol=1e-5)
    assert by_field_of_view(photos)[0][1].tolist() == [0, 1, 2]
    assert [fov for fov, _ in by_field_of_view(photos, 70)] == [70]


def test_weights_of_each_view_in_a_file_of_their_own(files, mean, pairs):
    apart = CrossViewNetworks([files / "ground.safetensors", files / "aerial.safetensors"])
    assert apart.describe_tiles(pairs, 4).shape == (6, DIM)
    only = CrossViewNetworks([files / "ground.safetensors"], ["ground"])
    assert list(only.models) == ["ground"] and only.about["numbers"] == DIM
    assert "aerial weights" not in only.about
    assert only.about["ground weights"] != mean.about["aerial weights"]
    again = CrossViewNetworks([files / "students.safetensors"])
    assert again.about == mean.about
    assert count_parameters(mean.models.values()) == count_parameters(apart.models.values())


def test_weights_that_do_not_go_together_are_refused(files, tmp_path):
    with pytest.raises(InputError, match="Two of the weights"):
        CrossViewNetworks([files / "students.safetensors", files / "shared.safetensors"])
    with pytest.raises(InputError, match=r"None of the weights .* describes aerial pictures"):
        CrossViewNetworks([files / "ground.safetensors"])
    with pytest.raises(MissingInputError, match="do not exist"):
        CrossViewNetworks([tmp_path / "none.safetensors"])


def test_networks_that_have_seen_the_test_set_are_refused(files, mean, polar, pairs):
    """VIGOR's published cross-area student was distilled from a teacher of the test cities."""
    mean.check_untouched(pairs)
    polar.check_untouched(pairs)  # trained with the training list
    seen = dataclasses.replace(pairs, provenance=frozenset({"cvusa/train", "cvusa/test"}))
    with pytest.raises(InputError, match="was trained with cvusa/train, which the test set contains"):
        polar.check_untouched(seen)


def test_the_conditions_of_the_literature():
    assert [(c.fov, c.heading_known) for c in CONDITIONS] == [
        *((fov, True) for fov in (360, 180, 90, 70)),
        *((fov, False) for fov in (360, 180, 90, 70)),
    ]
    assert CONDITIONS[6].name == "90°, unknown heading"
