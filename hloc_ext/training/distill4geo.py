"""Recipe ``distill4geo``: a small network for each view learns to describe as a large teacher of both does.

    python -m hloc_ext.train configs/train/distill4geo_small.yaml data.root=DATA teacher=teacher.safetensors

The loss needs no negatives: dual cosine embedding loss, one term per view. The views share nothing, so that
they can be trained apart (``views=ground``, ``views=aerial``). Relational and crossed terms, and InfoNCE
between the students (with or without a teacher), are ablations.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..datasets.cross_view.layout import check_untouched
from ..errors import InputError
from ..extractors.cross_view_weights import image_sizes
from ..formats.atomic import make_dir
from ..models.cross_view import VIEWS, EncoderConfig, StudentPair
from .cross_view_data import CrossViewData, CrossViewDataConfig, SampleOptions, Sizes
from .cross_view_losses import (
    LogitScale,
    crossed_cosine,
    dual_cosine,
    relational,
    same_tile,
    symmetric_info_nce,
)
from .cross_view_rounds import CrossViewRounds
from .cross_view_teacher import described, load_teacher, trained_network
from .teacher_cache import TeacherCache
from .trainer import TrainerConfig

BOTH = "both"


@dataclass
class DistillationLoss:
    """Weights of the terms; 0 switches one off."""

    cosine: float = 1.0  # each view with the teacher's of the same view; published
    crossed: float = 0.0  # each view with the teacher's of the other view
    relational: float = 0.0  # similarities within the batch
    info_nce: float = 0.0  # among the students; needs both views
    label_smoothing: float = 0.1  # of info_nce


@dataclass
class Distill4GeoRecipe:
    """The recipe.

    `teacher` is a file of a network of both views, or a public checkpoint of Sample4Geo; `trained_on` tells
    what the latter has seen, unless its folder does. Without a teacher the students learn by InfoNCE alone.
    The students have `student.embedding_dim` numbers, 0: as many as the teacher. With `cache_teacher` each of
    its descriptions is computed once for each way in which pairs are turned, of clean images.
    """

    output: str = "outputs/train/distill4geo"
    teacher: str = ""
    trained_on: str = ""
    teacher_clean: bool = False
    cache_teacher: bool = False
    views: str = BOTH  # or ground, aerial
    student: EncoderConfig = field(default_factory=lambda: EncoderConfig("fastervit_0"))
    pretrained: bool = False
    loss: DistillationLoss = field(default_factory=DistillationLoss)
    data: CrossViewDataConfig = field(default_factory=lambda: CrossViewDataConfig(neighbours=0))
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


class DistillationTraining(nn.Module):
    """Students, frozen teacher and losses; a batch in, named losses out.

    Args:
        network: students of one view or both.
        teacher: ``teacher(image, view)``, its cached descriptions, or None.
        data: the training pairs.
        loss: weights of the terms.

    Raises:
        InputError: no term is switched on, or one that lacks what it needs.
    """

    positives: Tensor
    semi_positives: Tensor

    def __init__(
        self,
        network: StudentPair,
        teacher: nn.Module | TeacherCache | None,
        data: CrossViewData,
        loss: DistillationLoss,
    ) -> None:
        super().__init__()
        self.network, self.loss = network, loss
        self.scale = LogitScale() if loss.info_nce else None
        if isinstance(teacher, nn.Module):
            teacher = teacher.eval().requires_grad_(False)
        self._teacher = teacher if teacher is None else [teacher]  # not a sub-module: it never trains
        names = ("cosine", "crossed", "relational", "info_nce")
        self.weights = {name: getattr(loss, name) for name in names if getattr(loss, name)}
        if not self.weights:
            raise InputError("All weights of the losses are 0: switch one on.")
        if teacher is None and self.weights.keys() != {"info_nce"}:
            raise InputError("Without a teacher students learn by loss.info_nce alone: set the others to 0.")
        if loss.info_nce and len(network.views) < 2:
            raise InputError("loss.info_nce compares the students of both views: set views=both, or it to 0.")
        pairs = data.training_pairs
        self.register_buffer("positives", torch.from_numpy(pairs.positives), persistent=False)
        self.register_buffer("semi_positives", torch.from_numpy(pairs.semi_positives), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of samples of :class:`~hloc_ext.datasets.cross_view.pairs.CrossViewPairs`."""
        student = {view: self.network(batch[view], view) for view in self.network.views}
        teacher = self.targets(batch)
        terms: dict[str, Tensor] = {}
        for name, term in (("cosine", dual_cosine), ("crossed", crossed_cosine), ("relational", relational)):
            if name in self.weights:
                terms[name] = term(student, teacher)
        if self.scale is not None:
            pair = batch["pair"]
            ignored = same_tile(self.positives[pair], self.semi_positives[pair])
            terms["info_nce"] = symmetric_info_nce(
                student["ground"], student["aerial"], self.scale(), self.loss.label_smoothing, ignored
            )
        terms["loss"] = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return terms

    @torch.no_grad()
    def targets(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The teacher's embeddings of a batch, B×D of each view that a term needs; none without a teacher."""
        if self._teacher is None:
            return {}
        teacher = self._teacher[0]
        views = VIEWS if "crossed" in self.weights else self.network.views
        if isinstance(teacher, TeacherCache):
            return {view: teacher.lookup(batch, view) for view in views}
        teacher = teacher.to(batch["pair"].device)
        return {view: teacher(batch[f"teacher_{view}"], view).float() for view in views}


class CompletePair(nn.Module):
    """Students, and a teacher for the view that has no student yet.

    Args:
        students: of one view or both.
        teacher: ``teacher(image, view)``, or None.
    """

    def __init__(self, students: nn.Module, teacher: nn.Module | None) -> None:
        super().__init__()
        self.students, self.teacher = students, teacher

    def forward(self, image: Tensor, view: str) -> Tensor:
        """Unit B×D embeddings of B×3×H×W images of a view."""
        assert isinstance(self.students, StudentPair)
        if view in self.students.views:
            return self.students(image, view)
        assert self.teacher is not None
        return self.teacher.to(image.device)(image, view)


def build_students(recipe: Distill4GeoRecipe, teacher: nn.Module | None) -> StudentPair:
    """Students with random weights, or with those of timm.

    Raises:
        InputError: unknown views, or embeddings whose size is not that of the teacher.
    """
    if recipe.views not in (BOTH, *VIEWS):
        raise InputError(f"views={recipe.views}: expected one of {(BOTH, *VIEWS)}.")
    config, dim = recipe.student, None
    if teacher is not None:
        dim = int(teacher.embedding_dim)  # type: ignore[arg-type]
        if config.embedding_dim not in (0, dim):
            raise InputError(f"The teacher's embeddings have {dim} numbers: set student.embedding_dim to 0.")
        config = dataclasses.replace(config, embedding_dim=dim)
    torch.manual_seed(recipe.trainer.seed)
    views = VIEWS if recipe.views == BOTH else (recipe.views,)
    return StudentPair({view: config for view in views}, recipe.pretrained)


def train(recipe: Distill4GeoRecipe) -> Path:
    """Train students and write ``weights.safetensors``.

    Returns:
        The file of weights.

    Raises:
        InputError: options that do not go together, or a teacher that has seen the test split of the data.
        MissingInputError, CorruptFileError: data or weights that cannot be used.
    """
    output = make_dir(Path(recipe.output))
    teacher, seen = (
        (None, frozenset()) if not recipe.teacher else load_teacher(recipe.teacher, recipe.trained_on)
    )
    students = build_students(recipe, teacher)
    teacher_sizes = None if teacher is None else image_sizes(teacher)
    data = CrossViewData(
        recipe.data,
        image_sizes(students) | _missing(students, teacher_sizes),
        _options(recipe, teacher_sizes),
    )
    check_untouched(seen, data.test_provenance, f"The teacher {recipe.teacher}")
    source: nn.Module | TeacherCache | None = teacher
    if teacher is not None and recipe.cache_teacher:
        source = TeacherCache(output / "teacher.npz", teacher, Path(recipe.teacher), data)
    module = DistillationTraining(students, source, data, recipe.loss)
    rounds = CrossViewRounds(data, output, recipe.trainer, seen)
    return rounds.fit(
        module,
        trained_network,
        {"recipe": described(recipe, "teacher")},
        complete=lambda network: CompletePair(network, teacher),
    )


def _missing(students: StudentPair, teacher_sizes: Sizes | None) -> Sizes:
    """Sizes of the views without a student, which the teacher describes."""
    missing = [view for view in VIEWS if view not in students.views]
    if missing and teacher_sizes is None:
        raise InputError("The students of one view are trained with a teacher: set `teacher`, or views=both.")
    return {view: teacher_sizes[view] for view in missing} if teacher_sizes else {}


def _options(recipe: Distill4GeoRecipe, teacher_sizes: Sizes | None) -> SampleOptions:
    """What samples hold for the teacher: nothing if its descriptions are cached."""
    if recipe.cache_teacher:
        return SampleOptions()
    return SampleOptions(teacher_sizes=teacher_sizes, teacher_clean=recipe.teacher_clean)
