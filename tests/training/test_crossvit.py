from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from hloc_ext.datasets.places import PHOTOS
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.extractors.crossvit import load_weights, save_weights
from hloc_ext.models.crossvit import CrossViTRetrieval, CrossViTTeacher
from hloc_ext.training import crossvit
from hloc_ext.training.crossvit import (
    CrossViTRecipe,
    DistillationConfig,
    LossConfig,
    RetrievalTraining,
    build_network,
    pair_weights,
    train,
)
from hloc_ext.training.place_data import PlaceDataConfig
from hloc_ext.training.retrieval_losses import (
    cosine_distillation,
    dual_distillation,
    nt_xent,
    relaxed_contrastive,
    spatial_contrastive,
)
from hloc_ext.training.trainer import TrainerConfig
from tests.crossvit_weights import random_network
from tests.training.small_scene import row_of_images, write_photos, write_street

SIZE = 60
TRAINER = TrainerConfig(
    steps=2,
    batch_size=2,
    learning_rate=1e-3,
    warmup_steps=2,
    ema=0.5,
    precision="32-true",
    threads=1,
    accelerator="cpu",
    workers=0,
    log_steps=1,
    validate_steps=2,
    tensorboard=False,
)
OVERLAPS = [row_of_images(6), row_of_images(9)]
# Pairs of two scenes and of two photos.
SCENE = np.array([[0, 0], [1, 1], [PHOTOS, PHOTOS], [1, 1], [PHOTOS, PHOTOS]])
INDEX = np.array([[0, 2], [4, 5], [7, 7], [5, 7], [3, 3]])


def batch_of(rows: list[int] | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Random pictures and tokens of the pairs above."""
    generator = torch.Generator().manual_seed(seed)
    count = len(SCENE)
    shapes = {
        "image": (3, SIZE, SIZE),
        "points": (197, 3),
        "rays": (197, 3),
        "log_depths": (197,),
        "rotation": (6,),
    }
    batch = {name: torch.randn(count, 2, *shape, generator=generator) for name, shape in shapes.items()}
    batch["state"] = torch.randint(0, 4, (count, 2, 197), generator=generator)
    batch |= {"scene": torch.from_numpy(SCENE), "index": torch.from_numpy(INDEX)}
    return {name: values[rows or list(range(count))] for name, values in batch.items()}


def make_module(
    teacher: CrossViTTeacher | CrossViTRetrieval | None = None, network: object = None, **options: float
) -> RetrievalTraining:
    """Training of a small student; options of the losses, those of distillation with `distil_` before."""
    off = {"contrastive": 0.0, "nt_xent": 0.0, "distil_relaxed": 0.0}
    options = off | options
    loss = LossConfig(**{k: v for k, v in options.items() if not k.startswith("distil_")})
    distilled = {k.removeprefix("distil_"): v for k, v in options.items() if k.startswith("distil_")}
    return RetrievalTraining(
        network or random_network().train(), teacher, OVERLAPS, loss, DistillationConfig(**distilled)
    )


# --- labels


def test_weights_of_pairs_of_a_batch():
    scene, index = SCENE.ravel(), INDEX.ravel()
    found = pair_weights(scene, index, OVERLAPS)
    for i in range(10):
        for j in range(10):
            if scene[i] != scene[j]:
                expected = 0.0
            elif scene[i] == PHOTOS:
                expected = float(index[i] == index[j])
            else:
                expected = OVERLAPS[scene[i]].weights([index[i], index[j]])[0, 1]
            assert found[i, j] == np.float32(expected), (i, j)
    assert found[2, 7] == -1 and found[3, 6] == found[2, 3] == found[4, 5] == 1
    assert found[0, 1] == pytest.approx(0.01)  # the pair of its scene that shares least


# --- losses


def test_terms_are_those_of_the_losses():
    batch, teacher = batch_of(), random_network("rotary", seed=1)
    module = make_module(
        teacher,
        contrastive=2.0,
        nt_xent=0.5,
        margin=0.9,
        balanced=False,
        temperature=0.3,
        distil_relaxed=0.1,
        distil_sigma=0.7,
        distil_delta=1.2,
        distil_cosine=3.0,
        distil_dual=0.25,
    )
    terms = module(batch)
    with torch.no_grad():
        own = module.network(batch["image"].flatten(0, 1))
        names = ("image", "points", "rays", "log_depths", "state", "rotation")
        taught = teacher(*(batch[name][[0, 1, 3]].flatten(0, 1) for name in names))
    weights = torch.from_numpy(pair_weights(SCENE.ravel(), INDEX.ravel(), OVERLAPS))
    of_scenes = own.reshape(5, 2, -1)[[0, 1, 3]]
    expected = {
        "contrastive": spatial_contrastive(own, weights, 0.9, balanced=False),
        "nt_xent": nt_xent(own, weights, 0.3),
        "relaxed": relaxed_contrastive(of_scenes.flatten(0, 1), taught, 0.7, 1.2),
        "cosine": cosine_distillation(of_scenes.flatten(0, 1), taught),
        "dual": dual_distillation(of_scenes, taught.reshape(3, 2, -1)),
    }
    assert set(terms) == {*expected, "loss"}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-5)
    shares = {"contrastive": 2.0, "nt_xent": 0.5, "relaxed": 0.1, "cosine": 3.0, "dual": 0.25}
    total = sum(shares[name] * value for name, value in expected.items())
    torch.testing.assert_close(terms["loss"], total, rtol=1e-4, atol=1e-5)


def test_terms_are_switched_on_one_by_one():
    teacher = random_network("rotary")
    for name in ("contrastive", "nt_xent", "distil_relaxed", "distil_cosine", "distil_dual"):
        terms = make_module(teacher, **{name: 1.0})(batch_of([0, 1, 2]))
        assert set(terms) == {name.removeprefix("distil_"), "loss"}
        terms["loss"].backward()
    with pytest.raises(InputError, match="All weights of the losses are 0"):
        make_module(teacher)
    with pytest.raises(InputError, match="All weights of the losses are 0"):
        make_module(None, distil_relaxed=1.0)  # nothing to distil from


def test_the_teacher_teaches_on_photos_only_if_asked():
    teacher = random_network("rotary")
    only_photos = batch_of([2, 4])
    terms = make_module(teacher, distil_relaxed=1.0, distil_cosine=1.0, distil_dual=1.0)(only_photos)
    assert all(value == 0 for value in terms.values()) and terms["loss"].requires_grad
    terms = make_module(teacher, distil_relaxed=1.0, distil_photos=True)(only_photos)
    assert terms["relaxed"] > 0


def test_the_teacher_is_frozen_and_not_exported():
    teacher = random_network("rotary")
    before = copy.deepcopy(teacher.state_dict())
    module = make_module(teacher, distil_cosine=1.0).train()
    module(batch_of([0, 1]))["loss"].backward()
    assert not teacher.training and all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert {name.partition(".")[0] for name in module.state_dict()} == {"network"}


def test_every_parameter_of_student_and_teacher_learns():
    for network in (random_network(), random_network("rotary")):
        module = make_module(network=network.train(), nt_xent=1.0)
        module(batch_of([0, 1]))["loss"].backward()
        assert [name for name, p in module.named_parameters() if p.grad is None] == []


def test_embeddings_of_different_sizes_have_relations_in_common_only():
    teacher = CrossViTRetrieval()  # 512 numbers
    assert make_module(teacher, distil_relaxed=1.0)(batch_of([0, 1]))["relaxed"] > 0
    for term in ("distil_cosine", "distil_dual"):
        with pytest.raises(InputError, match=r"32 numbers, the teacher's 512: set embedding_dim"):
            make_module(teacher, **{term: 1.0})


# --- the recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_street(folder / "street", 8)
    write_street(folder / "other", 5, seed=1)
    write_photos(folder / "photos", 6)
    return folder


@pytest.fixture
def recipe(root: Path, tmp_path: Path) -> CrossViTRecipe:
    data = PlaceDataConfig(
        root=str(root),
        scenes=["street"],
        held_out=["other"],
        photos=["photos"],
        hold_out=3,
        size=SIZE,
        negatives=1,
        refresh_steps=1,
    )
    return CrossViTRecipe(output=str(tmp_path / "output"), embedding_dim=32, data=data, trainer=TRAINER)


def test_a_network_starts_from_what_it_has_in_common_with_another(recipe, tmp_path):
    student, teacher = build_network(recipe), build_network(replace(recipe, model="teacher"))
    assert isinstance(student, CrossViTRetrieval) and isinstance(teacher, CrossViTTeacher)
    assert teacher.config.spatial == "rotary" and student.config.embedding_dim == 32
    with torch.no_grad():
        student.backbone.head[0].weight.fill_(0.5)
    save_weights(student, tmp_path / "student.safetensors")
    from_student = replace(recipe, initialize=str(tmp_path / "student.safetensors"))
    same, started = build_network(from_student), build_network(replace(from_student, model="teacher"))
    assert all(torch.equal(value, student.state_dict()[key]) for key, value in same.state_dict().items())
    assert torch.equal(started.backbone.head[0].weight, student.backbone.head[0].weight)
    assert torch.equal(started.content.features.weight, teacher.content.features.weight)
    other_size = build_network(replace(from_student, embedding_dim=16))
    assert torch.equal(other_size.backbone.pos_embed_0, student.backbone.pos_embed_0)
    assert other_size.backbone.head[0].weight.shape == (16, 96)
    with pytest.raises(InputError, match="see colours: set sees=colours"):
        build_network(replace(from_student, sees="edges"))


def test_start_from_weights_of_imagenet(recipe, monkeypatch):
    state = {key: value + 1 for key, value in build_network(recipe).backbone.state_dict().items()}
    asked = []
    monkeypatch.setattr(crossvit, "load_checkpoint", lambda name: asked.append(name) or state)
    network = build_network(replace(recipe, initialize="imagenet"))
    assert asked == ["crossvit-tiny-imagenet"]
    assert torch.equal(network.backbone.pos_embed_0, state["pos_embed_0"])
    assert not torch.equal(network.backbone.head[0].weight, state["head.0.weight"])
    with pytest.raises(InputError, match="sees=edges"):
        build_network(replace(recipe, initialize="imagenet", sees="edges"))


def test_what_does_not_exist_is_named(recipe):
    with pytest.raises(InputError, match=r"model=pupil.*student.*teacher"):
        train(replace(recipe, model="pupil"))
    with pytest.raises(MissingInputError, match=r"absent\.safetensors does not exist"):
        train(replace(recipe, initialize="absent.safetensors"))
    with pytest.raises(MissingInputError, match=r"absent\.safetensors does not exist"):
        train(replace(recipe, distillation=DistillationConfig(teacher="absent.safetensors")))


def test_teacher_then_student(recipe, root, tmp_path):
    """The whole way: a teacher is trained, and a student by it, with mined negatives."""
    one_step = replace(TRAINER, steps=1)
    data = replace(recipe.data, photos=[], held_out=[])
    taught = train(replace(recipe, model="teacher", data=data, trainer=one_step))
    teacher = load_weights(taught)
    assert isinstance(teacher, CrossViTTeacher) and teacher.config.spatial == "rotary"
    untrained = build_network(replace(recipe, model="teacher"))
    assert not torch.equal(teacher.content.features.weight, untrained.content.features.weight)
    distillation = DistillationConfig(teacher=str(taught), cosine=1.0, dual=0.5)
    path = train(replace(recipe, output=str(tmp_path / "student"), distillation=distillation))
    assert isinstance(load_weights(path), CrossViTRetrieval)
    log = [json.loads(line) for line in (tmp_path / "student" / "log.jsonl").read_text().splitlines()]
    assert {"contrastive", "relaxed", "cosine", "dual", "loss"} < set(log[0])
    assert {name.partition("/")[0] for name in log[-1]["validation"]} == {"other", "photos"}
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert str(root) not in str(metadata) and str(tmp_path) not in str(metadata)
    values = json.loads(metadata["recipe"])
    assert values["distillation"]["teacher"] == "weights.safetensors"
    assert values["data"]["scenes"] == ["street"] and "root" not in values["data"]


def test_published_tokens(recipe):
    data = replace(recipe.data, photos=[], held_out=[])
    published = replace(recipe, model="teacher", spatial="published", data=data)
    path = train(replace(published, trainer=replace(TRAINER, steps=1)))
    assert load_weights(path).config.spatial == "published"
