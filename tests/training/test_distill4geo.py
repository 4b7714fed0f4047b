from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hloc_ext.datasets.cross_view.pairs import CrossViewPairs
from hloc_ext.errors import CorruptFileError, InputError
from hloc_ext.extractors.cross_view_weights import STUDENTS, load_cross_view, save_cross_view
from hloc_ext.models.cross_view import EncoderConfig, SharedEncoder, StudentPair
from hloc_ext.train import load_recipe
from hloc_ext.training.cross_view_data import CrossViewData
from hloc_ext.training.cross_view_losses import crossed_cosine, dual_cosine, relational, symmetric_info_nce
from hloc_ext.training.distill4geo import (
    CompletePair,
    Distill4GeoRecipe,
    DistillationLoss,
    DistillationTraining,
    build_students,
    train,
)
from hloc_ext.training.teacher_cache import TeacherCache
from tests.training.cross_view_sets import SIZES, STUDENT, TEACHER, small_data, small_trainer

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("timm", "lightning")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small CVUSA and a teacher that was trained on it."""
    path = tmp_path_factory.mktemp("distillation")
    small_data(path / "cvusa")
    torch.manual_seed(1)
    save_cross_view(path / "teacher.safetensors", SharedEncoder(TEACHER), {"cvusa/train"})
    return path


def recipe(folder, name: str, trainer: dict | None = None, loss: dict | None = None, **options: object):
    data = options.pop("data", {})
    options = {"teacher": str(folder / "teacher.safetensors"), "student": STUDENT, **options}
    return Distill4GeoRecipe(
        output=str(folder / name),
        loss=DistillationLoss(**(loss or {})),
        data=small_data(folder / "cvusa", **{"neighbours": 0, **data}),
        trainer=small_trainer(**{"steps": 2, **(trainer or {})}),
        **options,
    )


def teacher_and_data(folder, **options: object):
    teacher = load_cross_view(folder / "teacher.safetensors")[0]
    return teacher, CrossViewData(small_data(folder / "cvusa", **options), SIZES)


def batch_of(count: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "ground": torch.randn(count, 3, 16, 48, generator=generator),
        "aerial": torch.randn(count, 3, 24, 24, generator=generator),
        "teacher_ground": torch.randn(count, 3, 32, 128, generator=generator),
        "teacher_aerial": torch.randn(count, 3, 32, 32, generator=generator),
        "pair": torch.arange(count),
        "tile": torch.arange(count),
        "geometry": torch.arange(count),
    }


def test_terms_are_those_of_the_losses(folder):
    teacher, data = teacher_and_data(folder)
    students = build_students(recipe(folder, "x"), teacher).eval()
    weights = DistillationLoss(cosine=2.0, crossed=0.5, relational=3.0, info_nce=0.25)
    module = DistillationTraining(students, teacher, data, weights)
    batch = batch_of()
    terms = module(batch)
    with torch.no_grad():
        student = {view: students(batch[view], view) for view in ("ground", "aerial")}
        target = {view: teacher(batch[f"teacher_{view}"], view) for view in ("ground", "aerial")}
        expected = {
            "cosine": dual_cosine(student, target),
            "crossed": crossed_cosine(student, target),
            "relational": relational(student, target),
            "info_nce": symmetric_info_nce(student["ground"], student["aerial"], 1 / 0.07),
        }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name].detach(), value, atol=1e-5, rtol=1e-5)
    total = 2 * terms["cosine"] + 0.5 * terms["crossed"] + 3 * terms["relational"] + 0.25 * terms["info_nce"]
    torch.testing.assert_close(terms["loss"], total)


def test_the_teacher_never_trains(folder):
    """Published: put into training mode each epoch, and run with gradients."""
    teacher, data = teacher_and_data(folder)
    module = DistillationTraining(
        build_students(recipe(folder, "x"), teacher), teacher, data, DistillationLoss()
    )
    module.train()
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert not any(name.startswith("_teacher") for name, _ in module.named_parameters())
    module(batch_of())["loss"].backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in module.network.parameters())


def test_students_have_the_teachers_dimension(folder):
    teacher, _ = teacher_and_data(folder)
    students = build_students(recipe(folder, "x"), teacher)
    assert students.embedding_dim == 16 and students.views == ("ground", "aerial")
    wrong = recipe(folder, "x", student=EncoderConfig("fastervit_nano", 8))
    with pytest.raises(InputError, match="embeddings have 16 numbers"):
        build_students(wrong, teacher)
    with pytest.raises(InputError, match=r"views=sat"):
        build_students(recipe(folder, "x", views="sat"), teacher)


@pytest.mark.parametrize("views", ["both", "ground", "aerial"])
def test_views_are_trained_together_or_apart(folder, views):
    path = train(recipe(folder, f"views_{views}", views=views))
    network, info = load_cross_view(path)
    assert info.kind == STUDENTS and info.provenance == {"cvusa/train"}
    assert network.views == (("ground", "aerial") if views == "both" else (views,))
    assert "R@1" in info.about["validation"]  # the teacher describes the view that has no student


def test_students_of_one_view_are_the_same_trained_together_or_apart(folder):
    """The loss has a term per view, and nothing that connects them."""
    teacher, data = teacher_and_data(folder)
    both = build_students(recipe(folder, "x"), teacher)
    alone = StudentPair({"ground": both.encoder("ground").config})
    alone.encoders["ground"].load_state_dict(both.encoder("ground").state_dict())
    gradients = []
    for students, share in ((both, 0.5), (alone, 1.0)):
        DistillationTraining(students, teacher, data, DistillationLoss())(batch_of())["loss"].backward()
        gradients.append(students.encoder("ground").projection.weight.grad / share)
    torch.testing.assert_close(*gradients)


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def macs(network: torch.nn.Module, config: EncoderConfig, view: str) -> float:
    """Multiplications and additions of one image, counted in pairs."""
    size = getattr(config, f"{view}_size")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 3, *size), view)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("size", ["small", "medium"])
def test_students_cost_a_fraction_of_their_teacher(size):
    """A third of the parameters per view, a tenth of the work, by the recipes that are there."""
    pytest.importorskip("omegaconf")
    config = load_recipe(CONFIGS / f"cross_view_teacher_{size}.yaml")[1].encoder
    recipe = load_recipe(CONFIGS / f"distill4geo_{size}.yaml")[1]
    losses = {"small": DistillationLoss(cosine=2.0, info_nce=1.0), "medium": DistillationLoss()}
    assert recipe.teacher == "" and recipe.loss == losses[size]
    teacher = SharedEncoder(config)
    students = build_students(recipe, teacher)
    work = {"teacher": 0.0, "students": 0.0}
    for view in students.views:
        student = students.encoder(view)
        assert parameters(student) <= parameters(teacher) / 3
        work["teacher"] += macs(teacher, config, view)
        work["students"] += macs(students, student.config, view)
    assert work["students"] <= work["teacher"] / 10


def test_the_ablation_has_the_same_students_and_budget():
    pytest.importorskip("omegaconf")
    config = load_recipe(CONFIGS / "cross_view_teacher_small.yaml")[1].encoder
    recipes = [load_recipe(CONFIGS / f"distill4geo_{name}.yaml")[1] for name in ("small", "infonce_small")]
    assert recipes[0].trainer == recipes[1].trainer and recipes[1].teacher == ""
    students = build_students(recipes[0], SharedEncoder(config))
    assert students.encoder("ground").config == recipes[1].student


def test_infonce_alone_needs_no_teacher(folder):
    student = EncoderConfig("fastervit_nano", 8, ground_size=(16, 48), aerial_size=(24, 24))
    options = {"teacher": "", "student": student, "data": {"neighbours": 3}}
    network, info = load_cross_view(
        train(recipe(folder, "infonce", loss={"cosine": 0.0, "info_nce": 1.0}, **options))
    )
    assert network.embedding_dim == 8 and info.provenance == {"cvusa/train"}
    with pytest.raises(InputError, match=r"learn by loss\.info_nce alone"):
        train(recipe(folder, "nothing", **options))
    with pytest.raises(InputError, match="trained with a teacher"):
        train(recipe(folder, "one", views="ground", **options))


@pytest.mark.parametrize(
    ("loss", "views", "message"),
    [({"cosine": 0.0}, "both", "All weights"), ({"info_nce": 1.0}, "aerial", "set views=both")],
)
def test_losses_that_cannot_be(folder, loss, views, message):
    teacher, data = teacher_and_data(folder)
    students = build_students(recipe(folder, "x", views=views), teacher)
    with pytest.raises(InputError, match=message):
        DistillationTraining(students, teacher, data, DistillationLoss(**loss))


def test_a_teacher_that_has_seen_the_test_split_is_refused(folder):
    """Published: VIGOR cross-area was distilled from the teacher of all four cities."""
    save_cross_view(folder / "contaminated.safetensors", SharedEncoder(TEACHER), {"cvusa/test"})
    with pytest.raises(InputError, match=r"contaminated\.safetensors was trained with cvusa/test"):
        train(recipe(folder, "refused", teacher=str(folder / "contaminated.safetensors")))


def test_cached_teacher_is_the_clean_teacher(folder):
    teacher, data = teacher_and_data(folder)
    cache = TeacherCache(folder / "cache.npz", teacher, folder / "teacher.safetensors", data)
    samples = data.samples(np.arange(8).reshape(2, 4) % len(data.training_pairs), seed=3)
    clean = CrossViewPairs(
        data.training_pairs,
        *SIZES.values(),
        augment=True,
        teacher_sizes=tuple(SIZES.values()),
        teacher_clean=True,
        batches=samples.numbers,
        seed=3,
    )
    batch = {key: torch.stack([clean[i][key] for i in range(8)]) for key in clean[0]}
    assert len(batch["geometry"].unique()) > 1
    for view in ("ground", "aerial"):
        with torch.no_grad():
            expected = teacher(batch[f"teacher_{view}"], view)
        torch.testing.assert_close(cache.lookup(batch, view), expected, atol=2e-3, rtol=0)


def test_cache_is_read_again_and_tied_to_its_teacher(folder):
    teacher, data = teacher_and_data(folder)
    path = folder / "tied.npz"
    first = TeacherCache(path, teacher, folder / "teacher.safetensors", data)

    class Refuses(torch.nn.Module):
        def forward(self, image, view):
            raise AssertionError("the cache is there")

    batch = batch_of()
    again = TeacherCache(path, Refuses(), folder / "teacher.safetensors", data)
    assert torch.equal(again.lookup(batch, "aerial"), first.lookup(batch, "aerial"))
    save_cross_view(folder / "other.safetensors", SharedEncoder(TEACHER), ())
    with pytest.raises(InputError, match=r"tied\.npz is of another teacher"):
        TeacherCache(path, teacher, folder / "other.safetensors", data)
    path.write_bytes(b"broken")
    with pytest.raises(CorruptFileError, match=r"tied\.npz is no readable cache"):
        TeacherCache(path, teacher, folder / "teacher.safetensors", data)
    turned = CrossViewData(small_data(folder / "cvusa", unknown_heading=True), SIZES)
    with pytest.raises(InputError, match="cannot be cached"):
        TeacherCache(folder / "new.npz", teacher, folder / "teacher.safetensors", turned)


def test_training_with_a_cached_teacher(folder):
    network, _ = load_cross_view(train(recipe(folder, "cached", cache_teacher=True)))
    assert network.views == ("ground", "aerial") and (folder / "cached" / "teacher.npz").exists()


def test_the_teacher_describes_views_without_a_student(folder):
    teacher, _ = teacher_and_data(folder)
    students = build_students(recipe(folder, "x", views="ground"), teacher).eval()
    pair, batch = CompletePair(students, teacher), batch_of()
    with torch.no_grad():
        assert torch.equal(pair(batch["ground"], "ground"), students(batch["ground"], "ground"))
        assert torch.equal(
            pair(batch["teacher_aerial"], "aerial"), teacher(batch["teacher_aerial"], "aerial")
        )
