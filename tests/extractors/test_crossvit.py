"""Descriptors of the student: what the network is given, batches, whitening, and files of weights."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hloc_ext import extract_features
from hloc_ext.confs import extractors
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.extractors import crossvit
from hloc_ext.extractors.crossvit import CrossViTDescriptor, load_weights, save_weights, to_square
from hloc_ext.formats.features import FeatureReader
from hloc_ext.search import PrincipalComponents
from tests.crossvit_weights import DIM, SIZE, random_network, write_random_weights

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

IMAGES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_weights(tmp_path_factory.mktemp("weights") / "student.safetensors")


def make(weights: Path, **options) -> CrossViTDescriptor:
    return CrossViTDescriptor({"weights": str(weights), **options}).eval()


@torch.no_grad()
def describe(model: CrossViTDescriptor, images: torch.Tensor) -> torch.Tensor:
    return model({"image": images})["global_descriptor"]


def test_the_network_sees_the_colours_of_imagenet(weights):
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = random_network()((IMAGES - mean.view(3, 1, 1)) / deviation.view(3, 1, 1))
    found = describe(make(weights), IMAGES)
    torch.testing.assert_close(found, expected)
    assert found.shape == (3, DIM) and (found[0] - found[1]).norm() > 1e-3
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_a_batch_gives_what_single_images_give(weights):
    model = make(weights)
    singly = torch.cat([describe(model, image[None]) for image in IMAGES])
    torch.testing.assert_close(describe(model, IMAGES), singly, atol=1e-5, rtol=0)


def test_images_shrink_by_areas():
    image = np.random.default_rng(0).random((160, 200, 3), np.float32)
    expected = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    square = to_square(torch.from_numpy(image).permute(2, 0, 1)[None], SIZE)
    np.testing.assert_array_equal(square[0].permute(1, 2, 0).numpy(), expected)
    assert square.is_contiguous()


def test_an_axis_that_shrinks_is_not_aliased_where_the_other_grows():
    stripes = (torch.arange(2 * SIZE) % 2).float().expand(1, 3, SIZE // 2, -1)
    np.testing.assert_allclose(to_square(stripes, SIZE).numpy(), 0.5, atol=1e-6)
    rows = torch.arange(SIZE // 2).float().view(-1, 1).expand(1, 3, -1, 2 * SIZE)
    middle = to_square(rows, SIZE)[0, 0, 10:13, 0]
    np.testing.assert_allclose(middle.numpy(), [4.75, 5.25, 5.75], atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_other_shapes_are_refused(weights, shape):
    with pytest.raises(InputError, match="colour images B×3×H×W"):
        describe(make(weights), torch.zeros(shape))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"image_size": 100}, {"image_size": -60}])
def test_options_out_of_range_are_refused(weights, options):
    with pytest.raises(InputError, match="multiple of 60"):
        make(weights, **options)


def test_other_image_sizes(weights):
    model = make(weights, image_size=60)
    assert model.prepare(IMAGES).shape == (3, 3, 60, 60)
    torch.testing.assert_close(describe(model, IMAGES).norm(dim=1), torch.ones(3))


def conf_with(weights: Path, name: str = "crossvit-student", **options) -> dict:
    conf = extractors[name]
    return {**conf, "model": {**conf["model"], "weights": str(weights), **options}}


def test_the_stage_stores_half_precision_and_the_same_for_all_batches(weights, room, tmp_path):
    names = room.map_names[:5]
    paths = {
        size: extract_features.main(
            conf_with(weights, batch_size=size),
            room.images,
            feature_path=tmp_path / f"{size}.h5",
            image_list=names,
        )
        for size in (1, 2, 16)
    }
    image = extract_features.prepare_image(room.images / names[3], {"resize_max": 640}).tensor
    expected = describe(make(weights), image)[0].numpy()
    for path in paths.values():
        with FeatureReader(path) as features:
            stored = features.get(names[3], "global_descriptor")
            assert stored.dtype == np.float16 and stored.shape == (DIM,)
            np.testing.assert_allclose(stored.astype(np.float32), expected, atol=3e-4)


class TestWhitening:
    """Projection to the whitened principal components of the map."""

    IMAGES = torch.rand(20, 1, 3, 40, 50, generator=torch.Generator().manual_seed(1))

    def fitted(self, weights: Path, images: torch.Tensor) -> CrossViTDescriptor:
        model = make(weights, whitening="fit", whitening_dim=8, batch_size=6)
        assert model.needs_fit
        with pytest.raises(InputError, match="neither fitted nor loaded"):
            model({"image": images[0]})
        model.fit(iter(images))
        assert not model.needs_fit
        return model

    def test_is_that_of_the_search(self, weights):
        images = self.IMAGES.flatten(0, 1)
        plain = describe(make(weights), images).numpy()
        expected = PrincipalComponents(plain, 8, whiten=True)(plain)
        found = describe(self.fitted(weights, self.IMAGES), images).numpy()
        # The network's descriptors of noise differ little, which magnifies the rounding of batches.
        np.testing.assert_allclose(np.abs((found * expected).sum(1)), 1, atol=1e-3)
        assert found.shape == (20, 8)

    def test_is_kept_in_a_file(self, weights, tmp_path):
        model = self.fitted(weights, self.IMAGES)
        model.save(tmp_path / "whitening.safetensors")
        loaded = make(weights, whitening=str(tmp_path / "whitening.safetensors"))
        assert torch.equal(describe(loaded, IMAGES), describe(model, IMAGES))

    def test_few_images_leave_the_descriptors_alone(self, weights, caplog, monkeypatch, tmp_path):
        monkeypatch.setattr(logging.getLogger("hloc_ext"), "propagate", True)
        model = self.fitted(weights, self.IMAGES[:15])
        assert "15 images are too few to whiten 8 dimensions" in caplog.text
        torch.testing.assert_close(describe(model, IMAGES), describe(make(weights), IMAGES))
        model.save(tmp_path / "whitening.safetensors")
        make(weights).load(tmp_path / "whitening.safetensors")

    def test_other_files_are_refused(self, weights, tmp_path):
        with pytest.raises(MissingInputError, match="does not exist"):
            make(weights, whitening=str(tmp_path / "none.safetensors"))
        save_file({"mean": torch.zeros(7), "axes": torch.eye(7)}, tmp_path / "other.safetensors")
        with pytest.raises(InputError, match=r"other\.safetensors is no whitening of descriptors of 32"):
            make(weights, whitening=str(tmp_path / "other.safetensors"))

    def test_the_stage_fits_it_to_the_map_and_keeps_it_for_queries(self, weights, room, tmp_path):
        conf = conf_with(weights, "crossvit-student-pca", whitening_dim=2)
        path = tmp_path / "global.h5"
        extract_features.main(conf, room.images, feature_path=path, image_list=room.map_names[:5])
        whitening = (tmp_path / "global.vocabulary.safetensors").read_bytes()
        extract_features.main(conf, room.images, feature_path=path, image_list=room.query_names[:1])
        assert (tmp_path / "global.vocabulary.safetensors").read_bytes() == whitening
        with FeatureReader(path) as features:
            assert features.get(room.query_names[0], "global_descriptor").shape == (2,)


class TestWeights:
    """Files of weights hold their configuration; other files are refused."""

    @pytest.mark.parametrize("spatial", [None, "rotary", "published"])
    def test_what_is_saved_is_loaded(self, tmp_path, spatial):
        network = random_network(spatial, seed=3)
        save_weights(network, tmp_path / "w.safetensors", {"trained": "not at all"})
        loaded = load_weights(tmp_path / "w.safetensors")
        assert type(loaded) is type(network) and loaded.config == network.config and not loaded.training
        for key, value in network.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value)
        with safe_open(tmp_path / "w.safetensors", "pt") as file:
            assert file.metadata()["trained"] == "not at all"

    def test_half_precision_takes_half_the_space_and_changes_little(self, weights, tmp_path):
        save_weights(random_network(), tmp_path / "half.safetensors", half=True)
        size = weights.stat().st_size
        assert (tmp_path / "half.safetensors").stat().st_size == pytest.approx(size / 2, rel=0.01)
        assert next(load_weights(tmp_path / "half.safetensors").parameters()).dtype == torch.float32
        one, other = (describe(make(path), IMAGES) for path in (weights, tmp_path / "half.safetensors"))
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)

    def test_given_state_is_saved(self, tmp_path):
        averaged = {key: 2 * value for key, value in random_network().state_dict().items()}
        save_weights(random_network(), tmp_path / "w.safetensors", state=averaged)
        found = load_weights(tmp_path / "w.safetensors").state_dict()
        assert all(torch.equal(found[key], value) for key, value in averaged.items())

    def test_those_of_the_package_describe_in_512_numbers(self):
        network = load_weights("crossvit_student")
        assert (network.config.embedding_dim, network.config.image_size) == (512, 180)
        with torch.inference_mode():
            described = network(torch.rand(2, 3, 120, 120, generator=torch.Generator().manual_seed(0)))
        torch.testing.assert_close(described.norm(dim=1), torch.ones(2))

    def test_missing_ones_are_named_with_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.setattr(crossvit, "WEIGHTS_DIR", tmp_path)
        with pytest.raises(MissingInputError, match=r"crossvit_student\.safetensors does not exist.*Train"):
            CrossViTDescriptor({})
        with pytest.raises(MissingInputError, match="--option weights=FILE"):
            load_weights(tmp_path / "mine.safetensors")

    def test_other_files_are_refused(self, weights, tmp_path):
        with pytest.raises(CorruptFileError, match="does not hold weights of CrossViT"):
            load_weights(Path(crossvit.__file__).parents[1] / "weights" / "vlad_rootsift.safetensors")
        torch.save(random_network().state_dict(), tmp_path / "pickle.pth")
        with pytest.raises(CorruptFileError, match=r"pickle\.pth is not a readable safetensors file"):
            load_weights(tmp_path / "pickle.pth")
        (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:100_000])
        with pytest.raises(CorruptFileError, match=r"cut\.safetensors is not a readable safetensors file"):
            load_weights(tmp_path / "cut.safetensors")

    @pytest.mark.parametrize("config", ["{}", '{"unknown": 1}', "no JSON", '{"image_size": 100}'])
    def test_a_wrong_configuration_is_refused(self, tmp_path, config):
        metadata = {"architecture": "crossvit_student", "config": config}
        save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata)
        with pytest.raises(CorruptFileError, match="does not fit its own configuration"):
            load_weights(tmp_path / "w.safetensors")

    def test_those_of_a_teacher_are_refused_by_the_student(self, tmp_path):
        path = write_random_weights(tmp_path / "teacher.safetensors", "rotary")
        with pytest.raises(InputError, match=r"use the configuration `crossvit-teacher`"):
            make(path)

    def test_without_timm_it_is_named(self, weights, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm.models.crossvit", None)
        with pytest.raises(InputError, match="pip install timm"):
            make(weights)
