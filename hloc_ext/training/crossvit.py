"""The recipe of CrossViT retrieval: teacher with spatial tokens, student of images, self-supervised start.

    python -m hloc_ext.train configs/train/crossvit_pretrain.yaml data.root=DATA
    python -m hloc_ext.train configs/train/crossvit_teacher.yaml data.root=DATA \\
        initialize=pretrained.safetensors
    python -m hloc_ext.train configs/train/crossvit_student.yaml data.root=DATA \\
        initialize=pretrained.safetensors distillation.teacher=teacher.safetensors

A batch has B anchors with one picture each of the same place; all pairs among its 2B pictures count. The
published code has no distillation; ours follows the paper's words (docs/crossvit.md).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..datasets.covisibility import Overlap
from ..datasets.places import PHOTOS
from ..errors import InputError
from ..extractors.crossvit import load_weights, save_weights
from ..formats.atomic import make_dir
from ..models.crossvit import CrossViT, CrossViTConfig, CrossViTRetrieval, CrossViTTeacher, load_imagenet
from ..pretrained import load_checkpoint
from .crossvit_start import start_from_images
from .place_data import PlaceData, PlaceDataConfig
from .place_recall import embed
from .place_rounds import Rounds
from .retrieval_losses import (
    cosine_distillation,
    dual_distillation,
    nt_xent,
    relaxed_contrastive,
    spatial_contrastive,
)
from .trainer import TrainerConfig

logger = logging.getLogger(__name__)

Network = CrossViTRetrieval | CrossViTTeacher

IMAGENET = "imagenet"
MODELS = ("student", "teacher")
#: Pictures that random weights are fitted to.
_START_IMAGES = 256


@dataclass
class LossConfig:
    """Weights of the terms of supervision; 0 switches one off."""

    contrastive: float = 1.0  # spatial contrastive loss
    margin: float = 0.5  # of that loss, published
    balanced: bool = True  # pairs that overlap and those that do not count half each
    nt_xent: float = 0.0
    temperature: float = 0.1  # of nt_xent


@dataclass
class DistillationConfig:
    """Teacher and weights of the terms of distillation; 0 switches one off."""

    teacher: str = ""  # weights of the teacher; empty: no distillation
    relaxed: float = 1.0  # relaxed contrastive loss
    sigma: float = 1.0  # of its kernel
    delta: float = 1.0  # its margin
    cosine: float = 0.0  # same picture
    dual: float = 0.0  # the other picture of the place
    photos: bool = False  # whether the teacher also teaches on photos, of which it has no structure


@dataclass
class CrossViTRecipe:
    """The recipe: what is trained (student or teacher), from what, on what, and how.

    `initialize` names weights to start from: a file, or ``imagenet`` for those of timm; a teacher may start
    from a student and the reverse. Without it, random weights are fitted to the pictures
    (crossvit_start.py). `spatial` is how a teacher reads its tokens: rotary, absolute or published.
    """

    output: str = "outputs/train/crossvit"
    model: str = "student"
    spatial: str = "rotary"
    embedding_dim: int = 512  # published: 1000
    drop_path: float = 0.0
    sees: str = "colours"  # or "edges"
    initialize: str = ""
    data: PlaceDataConfig = field(default_factory=PlaceDataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


class RetrievalTraining(nn.Module):
    """Network, frozen teacher and losses; a batch in, named losses out.

    Args:
        network: student or teacher that is trained.
        teacher: gives the targets of distillation, or None.
        overlaps: of the scenes, by their numbers in the batches.
        loss, distillation: weights of the terms.

    Raises:
        InputError: no term is switched on, or embeddings that are compared differ in size.
    """

    def __init__(
        self,
        network: CrossViT,
        teacher: CrossViT | None,
        overlaps: Sequence[Overlap],
        loss: LossConfig,
        distillation: DistillationConfig,
    ) -> None:
        super().__init__()
        self.network, self.overlaps = network, overlaps
        self.loss, self.distillation = loss, distillation
        self.weights = {"contrastive": loss.contrastive, "nt_xent": loss.nt_xent}
        self._teacher = [] if teacher is None else [teacher.eval().requires_grad_(False)]  # not a sub-module
        if teacher is not None:
            self.weights |= {name: getattr(distillation, name) for name in ("relaxed", "cosine", "dual")}
            sizes = network.config.embedding_dim, teacher.config.embedding_dim
            if sizes[0] != sizes[1] and (distillation.cosine or distillation.dual):
                raise InputError(
                    f"Embeddings have {sizes[0]} numbers, the teacher's {sizes[1]}: set embedding_dim to"
                    " that, or distillation.cosine and distillation.dual to 0."
                )
        self.weights = {name: weight for name, weight in self.weights.items() if weight}
        if not self.weights:
            raise InputError("All weights of the losses are 0: switch one on.")

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch of :mod:`~hloc_ext.datasets.places`; ``loss`` is their weighted sum."""
        pictures = {name: values.flatten(0, 1) for name, values in batch.items()}
        embeddings = embed(self.network, pictures)
        terms: dict[str, Tensor] = {}
        if {"contrastive", "nt_xent"} & self.weights.keys():
            scene, index = (pictures[name].cpu().numpy() for name in ("scene", "index"))
            overlap = torch.from_numpy(pair_weights(scene, index, self.overlaps)).to(embeddings.device)
            terms |= self._supervise(embeddings, overlap)
        if self._teacher:
            terms |= self._distil(embeddings.unflatten(0, (-1, 2)), batch)
        terms["loss"] = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return terms

    def _supervise(self, embeddings: Tensor, overlap: Tensor) -> dict[str, Tensor]:
        terms = {}
        if "contrastive" in self.weights:
            terms["contrastive"] = spatial_contrastive(
                embeddings, overlap, self.loss.margin, self.loss.balanced
            )
        if "nt_xent" in self.weights:
            terms["nt_xent"] = nt_xent(embeddings, overlap, self.loss.temperature)
        return terms

    def _distil(self, embeddings: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Terms of B×2×D embeddings of the student, of the pairs that the teacher knows about."""
        names = [name for name in ("relaxed", "cosine", "dual") if name in self.weights]
        known = (batch["scene"][:, 0] != PHOTOS) | self.distillation.photos
        if not known.any():
            return {name: embeddings.sum() * 0 for name in names}
        student = embeddings[known]
        with torch.no_grad():
            network = self._teacher[0].to(embeddings.device)
            pictures = {name: values[known].flatten(0, 1) for name, values in batch.items()}
            teacher = embed(network, pictures).unflatten(0, (-1, 2))
        flat = student.flatten(0, 1), teacher.flatten(0, 1)
        sigma, delta = self.distillation.sigma, self.distillation.delta
        losses = {
            "relaxed": lambda: relaxed_contrastive(*flat, sigma, delta),
            "cosine": lambda: cosine_distillation(*flat),
            "dual": lambda: dual_distillation(student, teacher),
        }
        return {name: losses[name]() for name in names}


def pair_weights(
    scene: npt.NDArray[np.int64], index: npt.NDArray[np.int64], overlaps: Sequence[Overlap]
) -> npt.NDArray[np.float32]:
    """Overlap of all pairs of pictures of a batch.

    Args:
        scene: (n,) number of the scene of each picture, -1 for photos.
        index: (n,) number of the picture in its scene, or of the photo.
        overlaps: of the scenes.

    Returns:
        (n, n), see :class:`~hloc_ext.datasets.covisibility.Overlap`; two views of a photo have 1. Different
        photos, and pictures of different scenes, have 0.
    """
    weights = np.zeros((len(scene), len(scene)), np.float32)
    for number in np.unique(scene).tolist():
        rows = np.flatnonzero(scene == number)
        own = index[rows]
        block = own[:, None] == own if number == PHOTOS else overlaps[number].weights(own)
        weights[np.ix_(rows, rows)] = block
    return weights


def build_network(recipe: CrossViTRecipe) -> Network:
    """The network to train, from the weights that the recipe names or from random ones.

    Raises:
        InputError: unknown model, or weights that do not fit.
        MissingInputError: no such weights.
    """
    if recipe.model not in MODELS:
        raise InputError(f"model={recipe.model}: expected one of {MODELS}.")
    torch.manual_seed(recipe.trainer.seed)
    config = CrossViTConfig(
        embedding_dim=recipe.embedding_dim,
        spatial=recipe.spatial if recipe.model == "teacher" else None,
        drop_path=recipe.drop_path,
        sees=recipe.sees,
    )
    network: Network = CrossViTTeacher(config) if recipe.model == "teacher" else CrossViTRetrieval(config)
    if recipe.initialize == IMAGENET:
        if recipe.sees != "colours":
            raise InputError(f"Weights of ImageNet see colours: sees={recipe.sees} has to start without.")
        load_imagenet(network, load_checkpoint("crossvit-tiny-imagenet"))
    elif recipe.initialize:
        _start_from(network, load_weights(recipe.initialize))
    return network


def _start_from(network: CrossViT, other: CrossViT) -> None:
    """Copy the weights of the parts that both networks have, a student and a teacher or two of a kind.

    Raises:
        InputError: one of them sees colours and the other one edges.
    """
    if network.config.sees != other.config.sees:
        raise InputError(
            f"The weights to start from see {other.config.sees}: set sees={other.config.sees}, or start from"
            " others."
        )
    own, given = network.state_dict(), other.state_dict()
    shared = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    network.load_state_dict(shared, strict=False)
    left = sorted({".".join(name.split(".")[:2]) for name in own.keys() - shared.keys()})
    if left:
        logger.info("Not in the weights to start from: %s.", ", ".join(left))


def train(recipe: CrossViTRecipe) -> Path:
    """Train a teacher or a student and write ``weights.safetensors``.

    Returns:
        The file of weights.

    Raises:
        InputError, MissingInputError, CorruptFileError: options, data or weights that cannot be used.
    """
    output = make_dir(Path(recipe.output))
    network = build_network(recipe)
    teacher = load_weights(recipe.distillation.teacher) if recipe.distillation.teacher else None
    kinds = [network.config.spatial, teacher and teacher.config.spatial]
    data = PlaceData(recipe.data, published="published" in kinds)
    if not recipe.initialize:
        start_from_images(network, data.first_images(_START_IMAGES, recipe.trainer.seed))
    module = RetrievalTraining(network, teacher, data.overlaps, recipe.loss, recipe.distillation)
    started = time.monotonic()
    state = Rounds(data, output, recipe.trainer).fit(module, averaged=_network)
    path = output / "weights.safetensors"
    save_weights(network, path, _about(recipe, time.monotonic() - started), state)
    return path


def _network(module: nn.Module) -> nn.Module:
    return module.get_submodule("network")


def _about(recipe: CrossViTRecipe, seconds: float) -> dict[str, str]:
    """What the header of the weights says of their training: the recipe without the paths of this machine."""
    values = dataclasses.asdict(recipe)
    for name in ("scenes", "photos", "held_out"):
        values["data"][name] = [Path(folder).name for folder in values["data"][name]]
    values["initialize"] = Path(recipe.initialize).name
    values["distillation"]["teacher"] = Path(recipe.distillation.teacher).name
    del values["output"], values["data"]["root"]
    return {"recipe": json.dumps(values), "seconds": f"{seconds:.0f}"}
