"""Descriptors of panoramas and tiles as HLOC's global extractors."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hloc_ext import confs, extract_features, pairs_from_retrieval
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.extractors.cross_view import CrossViewDescriptor
from hloc_ext.extractors.crossvit import standardise
from hloc_ext.extractors.distill4geo import Distill4Geo
from hloc_ext.extractors.ssa import SSA
from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.pairs import read_pairs
from hloc_ext.host import load_model
from hloc_ext.models.cross_view import Encoder
from tests.cross_view_weights import (
    AERIAL_SIZE,
    DIM,
    GROUND_SIZE,
    SECTORS,
    random_network,
    write_random_weights,
)

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

CONFS = ("distill4geo-ground", "distill4geo-aerial", "ssa-ground", "ssa-aerial")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    kinds = ("students", "ground", "aerial", "shared", "ssa")
    return {kind: write_random_weights(folder / f"{kind}.safetensors", kind) for kind in kinds}


def make(model: type[CrossViewDescriptor], weights: Path, **options) -> CrossViewDescriptor:
    return model({"weights": str(weights), **options}).eval()


@torch.no_grad()
def describe(model: CrossViewDescriptor, images: torch.Tensor) -> torch.Tensor:
    return model({"image": images})["global_descriptor"]


def pictures(size: tuple[int, int], num: int = 3) -> torch.Tensor:
    return torch.rand(num, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("view", "size"), [("ground", GROUND_SIZE), ("aerial", AERIAL_SIZE)])
def test_each_view_goes_through_its_own_student(weights, view, size):
    images = pictures(size)
    with torch.no_grad():
        expected = random_network("students").encoder(view)(standardise(images), view)
    found = describe(make(Distill4Geo, weights["students"], view=view), images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    assert found.shape == (3, DIM)


def test_a_panorama_is_not_squashed_to_a_square(weights):
    """Distill4Geo's code feeds 224×224, whatever the shape of the panorama."""
    model = make(Distill4Geo, weights["students"])
    assert model.input_size == GROUND_SIZE
    assert model.prepare(pictures((224, 1232), 1)).shape[2:] == GROUND_SIZE
    assert make(Distill4Geo, weights["students"], view="aerial").input_size == AERIAL_SIZE


def test_a_photo_gets_the_width_of_its_field_of_view(weights):
    model = make(Distill4Geo, weights["students"], fov=90)
    assert model.prepare(pictures((100, 130), 1)).shape[2:] == (GROUND_SIZE[0], GROUND_SIZE[1] // 4)
    assert describe(model, pictures((100, 130), 2)).shape == (2, DIM)


def test_shrinking_averages_areas(weights):
    image = np.random.default_rng(0).random((160, 640, 3), np.float32)
    expected = cv2.resize(image, GROUND_SIZE[::-1], interpolation=cv2.INTER_AREA)
    model = make(Distill4Geo, weights["students"])
    prepared = model.prepare(torch.from_numpy(image).permute(2, 0, 1)[None])
    np.testing.assert_array_equal(prepared[0].permute(1, 2, 0).numpy(), expected)


def test_weights_of_one_view_describe_that_view_only(weights):
    assert make(Distill4Geo, weights["ground"]).view == "ground"
    with pytest.raises(InputError, match="describes ground pictures, not aerial ones"):
        make(Distill4Geo, weights["ground"], view="aerial")


def test_kinds_of_weights(weights):
    assert make(Distill4Geo, weights["shared"], view="aerial").dim == DIM  # the teacher
    assert make(SSA, weights["ssa"]).dim == DIM
    assert {make(CrossViewDescriptor, weights[kind]).dim for kind in ("students", "shared", "ssa")} == {DIM}
    for model, kind in ((SSA, "students"), (Distill4Geo, "ssa")):
        with pytest.raises(InputError, match=f"holds weights of the kind .*{model.__name__} needs"):
            make(model, weights[kind])


def test_the_encoder_of_the_view(weights):
    for kind in ("students", "shared", "ssa"):
        model = make(CrossViewDescriptor, weights[kind], view="aerial")
        assert isinstance(model.encoder, Encoder) and "aerial" in model.encoder.views
    students = make(Distill4Geo, weights["students"])
    assert students.encoder is students.net.encoder("ground")


def test_directions_that_a_descriptor_can_be_turned_to(weights, tmp_path):
    assert make(Distill4Geo, weights["students"]).sectors == 1
    for kind in ("students", "shared", "ssa"):
        path = write_random_weights(tmp_path / f"{kind}.safetensors", kind, "polar")
        assert make(CrossViewDescriptor, path).sectors == SECTORS


@pytest.mark.parametrize(
    "options", [{"view": "satellite"}, {"fov": 0}, {"fov": 400}, {"batch_size": 0}, {"sizes": 3}]
)
def test_options_out_of_range_are_refused(weights, options):
    with pytest.raises(InputError):
        make(Distill4Geo, weights["students"], **options)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 8, 8)])
def test_other_shapes_are_refused(weights, shape):
    with pytest.raises(InputError, match="colour images B×3×H×W"):
        describe(make(Distill4Geo, weights["students"]), torch.zeros(shape))


@pytest.mark.parametrize("name", CONFS)
def test_missing_weights_name_the_command(name, tmp_path):
    conf = confs.extractors[name]
    with pytest.raises(MissingInputError, match=r"python -m hloc_ext\.train"):
        load_model(
            "extractors", {**conf, "model": {**conf["model"], "weights": str(tmp_path / "no.safetensors")}}
        )


@pytest.mark.parametrize("family", ["distill4geo", "ssa"])
def test_tiles_are_retrieved_for_panoramas_by_the_stages(family, weights, tmp_path):
    """`pairs_from_retrieval` on a file of descriptors of each view."""
    random = np.random.default_rng(0)
    for view, size, number in (("ground", (224, 1232), 3), ("aerial", (200, 200), 5)):
        (tmp_path / view).mkdir()
        for index in range(number):
            image = cv2.resize(random.integers(0, 255, (4, 6, 3), np.uint8), size[::-1])
            cv2.imwrite(str(tmp_path / view / f"{view}{index}.png"), image)
    files = {}
    for view in ("ground", "aerial"):
        conf = confs.extractors[f"{family}-{view}"]
        file = weights["students" if family == "distill4geo" else "ssa"]
        conf = {**conf, "model": {**conf["model"], "weights": str(file)}}
        files[view] = extract_features.main(conf, tmp_path / view, tmp_path / "features", as_half=False)
    pairs = tmp_path / "pairs.txt"
    pairs_from_retrieval.main(files["ground"], pairs, 2, db_descriptors=files["aerial"], min_score=None)
    descriptors = {}
    for view, path in files.items():
        with FeatureReader(path) as reader:
            names = [f"{view}{i}.png" for i in range(3 if view == "ground" else 5)]
            descriptors[view] = np.stack([reader.get(name, "global_descriptor") for name in names])
    order = np.argsort(-descriptors["ground"] @ descriptors["aerial"].T, axis=1)
    expected = [(f"ground{q}.png", f"aerial{order[q, i]}.png") for q in range(3) for i in range(2)]
    assert read_pairs(pairs) == expected
