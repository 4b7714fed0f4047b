"""Descriptors of the teacher: each image gets the spatial tokens of its name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from hloc_ext import extract_features
from hloc_ext.confs import extractors
from hloc_ext.datasets.sfm_scene import SfmScene, published_tokens
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.extractors.crossvit import standardise, to_square
from hloc_ext.extractors.crossvit_teacher import CrossViTTeacherDescriptor
from hloc_ext.formats.colmap import write_model
from hloc_ext.formats.features import FeatureReader
from tests.crossvit_weights import DIM, SIZE, random_network, write_random_weights

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


@pytest.fixture(scope="module")
def model_dir(scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(scene[1], folder)
    return folder


def conf_with(weights: Path, **options) -> dict:
    conf = extractors["crossvit-teacher"]
    return {**conf, "model": {**conf["model"], "weights": str(weights), **options}}


@torch.no_grad()
@pytest.mark.parametrize("spatial", ["rotary", "published"])
def test_the_stage_gives_each_image_its_own_tokens(scene, model_dir, tmp_path, spatial):
    images, names = scene[0], [f"img{number:02d}.png" for number in (4, 0, 9)]
    weights = write_random_weights(tmp_path / "teacher.safetensors", spatial)
    conf = conf_with(weights, model_dir=str(model_dir), image_size=SIZE, batch_size=2)
    path = extract_features.main(conf, images, tmp_path, as_half=False, image_list=names)
    assert path.name == "global-feats-crossvit-teacher.h5"

    network, sfm = random_network(spatial), SfmScene.read(model_dir)
    with FeatureReader(path) as features:
        for name in names:
            pixels = extract_features.prepare_image(images / name, {"resize_max": 640}).tensor
            row = sfm.names.index(name)
            tokens = sfm.tokens(row) if spatial == "rotary" else (published_tokens(sfm, row),)
            inputs = [torch.from_numpy(np.asarray(array))[None] for array in tokens]
            expected = network(standardise(to_square(pixels, SIZE)), *inputs)[0]
            found = features.get(name, "global_descriptor")
            assert found.shape == (DIM,)
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_what_it_needs_is_said(scene, model_dir, tmp_path):
    weights = write_random_weights(tmp_path / "teacher.safetensors", "rotary")
    with pytest.raises(InputError, match=r"COLMAP model in its option `model_dir`"):
        CrossViTTeacherDescriptor({"weights": str(weights)})
    model = CrossViTTeacherDescriptor({"weights": str(weights), "model_dir": str(model_dir)})
    image = torch.zeros(1, 3, SIZE, SIZE)
    with pytest.raises(InputError, match=r"Extract with hloc_ext\.extract_features"):
        model({"image": image})
    with pytest.raises(MissingInputError, match=r"'query\.jpg' is not in the COLMAP model"):
        model({"image": image, "name": ["query.jpg"]})
    student = write_random_weights(tmp_path / "student.safetensors")
    with pytest.raises(InputError, match=r"use the configuration `crossvit-student`"):
        CrossViTTeacherDescriptor({"weights": str(student), "model_dir": str(model_dir)})
