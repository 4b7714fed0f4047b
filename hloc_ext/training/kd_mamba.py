"""The recipe of KD-Mamba: feature-to-feature distillation of a matcher, or the training of its teacher.

    python -m hloc_ext.train configs/train/kd_mamba_teacher.yaml data.root=DATA
    python -m hloc_ext.train configs/train/kd_mamba_student.yaml data.root=DATA \\
        distillation.teacher=teacher.safetensors

The student sees images of which light, weather and camera differ; the teacher may see the same geometry
**without** these changes (``distillation.view: clean``), so that its features say what the student should
have seen. The published system names feature-to-feature distillation but gives no losses (docs/kd_mamba.md);
these are ours.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..datasets.matching import MatchingData, MatchingDataConfig
from ..errors import InputError
from ..formats.atomic import make_dir
from ..matchers.kd_mamba import load_weights, save_weights
from ..models.attention_teacher import AttentionTeacher
from ..models.dual_softmax import Assignment, assign
from ..models.kd_mamba import KDMAMBA_CONFIGS, ImageFeatures, KDMamba, PairFeatures
from .calibration import RIGHT, calibrate, observe_matches
from .matching_losses import (
    Positives,
    assignment_distillation,
    feature_distillation,
    fine_loss,
    focal_dual_softmax,
    matchability_loss,
    positive_cells,
)
from .trainer import TrainerConfig, fit

logger = logging.getLogger(__name__)

PairOfFeatures = tuple[PairFeatures, PairFeatures]


@dataclass
class LossConfig:
    """Weights of the terms of supervision; 0 switches one off."""

    coarse: float = 1.0
    fine: float = 0.5
    matchability: float = 0.5
    focal_gamma: float = 1.0
    max_fine: int = 6000  # positives of a batch whose positions are refined


@dataclass
class DistillationConfig:
    """Teacher and weights of the terms of distillation; 0 switches one off."""

    teacher: str = ""  # weights of the teacher; empty: no distillation
    view: str = "clean"  # what the teacher sees: clean, or same as the student
    coarse: float = 1.0
    fine: float = 0.5
    assignment: float = 0.5


@dataclass
class KDMambaRecipe:
    """What is trained, on what, and how.

    `model` is teacher or a name of ``KDMAMBA_CONFIGS``. `initialize` names weights to go on with, whatever
    `model` says; `warm_start` names weights of another configuration, of which `model` takes over the tensors
    of equal name and shape.
    """

    output: str = "outputs/train/kd_mamba"
    model: str = "small"
    initialize: str = ""
    warm_start: str = ""
    data: MatchingDataConfig = field(default_factory=MatchingDataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


class MatcherTraining(nn.Module):
    """Student, frozen teacher and projections; a batch in, named losses out.

    Args:
        student: the matcher that is trained.
        teacher: gives the targets of distillation, or None.
        loss, distillation: weights of the terms.
    """

    def __init__(
        self, student: KDMamba, teacher: KDMamba | None, loss: LossConfig, distillation: DistillationConfig
    ) -> None:
        super().__init__()
        self.student, self.loss, self.distillation = student, loss, distillation
        self._teacher = (
            [teacher.eval().requires_grad_(False)] if teacher is not None else []
        )  # not a sub-module
        if teacher is not None:
            student_config, teacher_config = student.config, teacher.config
            self.project_coarse = nn.Linear(student_config.widths[2], teacher_config.widths[2])
            self.project_fine = nn.Linear(student_config.fine_dim, teacher_config.fine_dim)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch of samples (docs/kd_mamba.md); ``loss`` is their weighted sum."""
        first, second = describe(self.student, batch["image0"], batch["image1"])
        assignment = assign(first.coarse, second.coarse, self.student.scales[0])
        assignment = assignment._replace(  # matchability learns from its own term alone
            log_matchability0=assignment.log_matchability0.detach(),
            log_matchability1=assignment.log_matchability1.detach(),
        )
        positives = positive_cells(
            batch["points1"], batch["valid1"], batch["points0"], batch["valid0"], first.grid, second.grid
        )
        terms = self._supervise(first, second, assignment, positives, batch)
        weights = {"coarse": self.loss.coarse, "fine": self.loss.fine, "matchability": self.loss.matchability}
        if self._teacher:
            terms |= self._distil((first, second), assignment, batch)
            weights |= {
                "coarse_features": self.distillation.coarse,
                "fine_features": self.distillation.fine,
                "assignment": self.distillation.assignment,
            }
        terms["loss"] = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return terms

    def _supervise(
        self,
        first: PairFeatures,
        second: PairFeatures,
        assignment: Assignment,
        positives: Positives,
        batch: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        terms = {
            "coarse": focal_dual_softmax(assignment, positives, self.loss.focal_gamma),
            "matchability": (
                matchability_loss(first.coarse.log_matchability, batch["valid1"])
                + matchability_loss(second.coarse.log_matchability, batch["valid0"])
            )
            / 2,
        }
        chosen = torch.randperm(len(positives.batch), device=positives.batch.device)[: self.loss.max_fine]
        positives = Positives(*(t[chosen] for t in positives))
        reverse = Positives(positives.batch, positives.index1, positives.index0)
        shift = torch.randint(-1, 2, (len(chosen), 2), device=chosen.device)
        terms["fine"] = (
            fine_loss(self.student, first, second, positives, batch["points1"], shift)
            + fine_loss(self.student, second, first, reverse, batch["points0"], shift)
        ) / 2
        return terms

    def _distil(
        self, student: PairOfFeatures, assignment: Assignment, batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        view = "clean" if self.distillation.view == "clean" else "image"
        with torch.no_grad():
            network = self._teacher[0].to(batch["image0"].device)
            teacher = describe(network, batch[f"{view}0"], batch[f"{view}1"])
            target = assign(teacher[0].coarse, teacher[1].coarse, network.scales[0])
        y, x = (int(torch.randint(0, 4, ())) for _ in range(2))  # fine features of one position in 16
        fine = [
            feature_distillation(
                self.project_fine(own.fine[..., y::4, x::4].permute(0, 2, 3, 1)),
                taught.fine[..., y::4, x::4].permute(0, 2, 3, 1),
            )
            for own, taught in zip(student, teacher, strict=True)
        ]
        coarse = [
            feature_distillation(self.project_coarse(own.tokens), taught.tokens)
            for own, taught in zip(student, teacher, strict=True)
        ]
        return {
            "coarse_features": (coarse[0] + coarse[1]) / 2,
            "fine_features": (fine[0] + fine[1]) / 2,
            "assignment": assignment_distillation(assignment, target, batch["valid1"], batch["valid0"]),
        }


def describe(model: KDMamba, image0: Tensor, image1: Tensor) -> PairOfFeatures:
    """Features of pairs of images of one size, encoded at once."""
    both = model.encode(torch.cat([image0, image1]))
    half, quarter, eighth = (t.chunk(2) for t in both[:3])
    first, second = (ImageFeatures(half[i], quarter[i], eighth[i], None) for i in (0, 1))
    return model.describe(first, second)


@torch.no_grad()
def evaluate_pairs(
    model: KDMamba, samples: list[dict[str, Tensor]], threshold: float = RIGHT
) -> dict[str, float]:
    """Figures of a matcher on samples with ground truth.

    Args:
        model: in evaluation mode.
        samples: of the data sets of :mod:`hloc_ext.datasets`.
        threshold: greatest error of a right match, pixels.

    Returns:
        ``precision`` (share of the matches that are right), ``recall`` (right matches per cell that has a
        counterpart) and ``median_error`` (pixels, of the right ones).
    """
    right, found, possible, errors = 0, 0, 0, []
    for sample in samples:
        _, error = _observe(model, sample)
        errors.append(error[error <= threshold])
        right, found = right + int((error <= threshold).sum()), found + len(error)
        possible += int(sample["valid1"].sum())
    all_errors = torch.cat(errors)
    return {
        "precision": right / max(1, found),
        "recall": right / max(1, possible),
        "median_error": float(all_errors.median()) if len(all_errors) else float("nan"),
    }


def _observe(model: KDMamba, sample: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    with torch.no_grad():
        features = describe(model, *(sample[key][None].to(device) for key in ("image0", "image1")))
    return observe_matches(model, *features, sample["points1"], sample["valid1"])


def build_model(recipe: KDMambaRecipe) -> KDMamba:
    """The network to train, from the weights that the recipe names or from random ones.

    Raises:
        InputError: unknown model.
    """
    torch.manual_seed(recipe.trainer.seed)
    if recipe.initialize:
        return load_weights(recipe.initialize)
    if recipe.model != "teacher" and recipe.model not in KDMAMBA_CONFIGS:
        raise InputError(f"model={recipe.model}: expected teacher or one of {sorted(KDMAMBA_CONFIGS)}.")
    model = AttentionTeacher() if recipe.model == "teacher" else KDMamba(KDMAMBA_CONFIGS[recipe.model])
    if recipe.warm_start:
        state = model.state_dict()
        known = load_weights(recipe.warm_start).state_dict()
        state |= {key: known[key] for key in state if key in known and known[key].shape == state[key].shape}
        model.load_state_dict(state)
    return model


def train(recipe: KDMambaRecipe) -> Path:
    """Train a matcher, calibrate its scores on the pairs held out, and write ``weights.safetensors``.

    With 0 steps the weights of ``initialize`` are calibrated only.

    Returns:
        The file of weights.

    Raises:
        InputError, MissingInputError: options, data or weights that cannot be used.
    """
    if recipe.distillation.view not in ("clean", "same"):
        raise InputError(f"distillation.view={recipe.distillation.view}: expected clean or same.")
    output = make_dir(Path(recipe.output))
    data = MatchingData(recipe.data)
    student = build_model(recipe)
    teacher = load_weights(recipe.distillation.teacher) if recipe.distillation.teacher else None
    module = MatcherTraining(student, teacher, recipe.loss, recipe.distillation)
    samples = data.validation()
    started = time.monotonic()
    length = (
        recipe.trainer.steps * recipe.trainer.batch_size * recipe.trainer.devices * recipe.trainer.num_nodes
    )
    if recipe.trainer.steps:
        state = fit(
            module,
            data.training(length, recipe.trainer.seed),
            output,
            recipe.trainer,
            validate=lambda model: _figures(model, samples),
            averaged=_student,
        )
        student.load_state_dict(state)
    student.cpu().eval()
    try:
        error = calibrate(student, [_observe(student, sample) for of in samples.values() for sample in of])
        logger.info("Calibration error of the scores: %.3f, was %.3f.", error["after"], error["before"])
    except InputError as problem:
        logger.warning("The scores are not calibrated: %s", problem)
    path = output / "weights.safetensors"
    save_weights(student, path, _about(recipe, time.monotonic() - started))
    return path


def _student(module: nn.Module) -> nn.Module:
    return module.get_submodule("student")


def _figures(model: nn.Module, samples: dict[str, list[dict[str, Tensor]]]) -> dict[str, float]:
    assert isinstance(model, KDMamba)
    return {
        f"{name}/{key}": round(value, 4)
        for name, of_source in samples.items()
        for key, value in evaluate_pairs(model, of_source).items()
    }


def _about(recipe: KDMambaRecipe, seconds: float) -> dict[str, str]:
    """What the header of the weights says of their training: the recipe without the paths of this machine."""
    values = dataclasses.asdict(recipe)
    for source in values["data"]["sources"]:
        source["folders"] = [Path(folder).name for folder in source["folders"]]
    values["initialize"] = Path(recipe.initialize).name
    values["warm_start"] = Path(recipe.warm_start).name
    values["distillation"]["teacher"] = Path(recipe.distillation.teacher).name
    del values["output"], values["data"]["root"]
    return {"recipe": json.dumps(values), "seconds": f"{seconds:.0f}"}
