"""Recipe ``cross_view_teacher``: one network for panoramas and tiles, by symmetric InfoNCE.

    python -m hloc_ext.train configs/train/cross_view_teacher_small.yaml data.root=DATA

Sample4Geo (Deuser et al., "Sample4Geo: Hard Negative Sampling For Cross-View Geo-Localisation", ICCV 2023):
a shared ConvNeXt, batches of neighbours on the ground and later of tiles that look alike. Unlike the
published code it is selected on pairs that are held out of training, never on the test split; what else
differs is told in docs/cross_view.md.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..datasets.cross_view import cvact, cvusa, vigor
from ..datasets.cross_view.layout import CrossViewSet
from ..errors import InputError
from ..extractors.cross_view_weights import image_sizes, load_cross_view, load_sample4geo
from ..formats.atomic import make_dir
from ..models.cross_view import EncoderConfig, SharedEncoder
from .cross_view_data import CrossViewData, CrossViewDataConfig
from .cross_view_losses import LogitScale, same_tile, symmetric_info_nce
from .cross_view_rounds import CrossViewRounds
from .trainer import TrainerConfig

#: What Sample4Geo's public weights were trained with, by the folder that they come in.
PUBLIC_TRAINING: dict[str, frozenset[str]] = {
    "cvusa": cvusa.provenance("train", "", Path()),
    "cvact": cvact.provenance("train", "", Path()),
    "vigor_same": vigor.provenance("train", "same", Path()),
    "vigor_cross": vigor.provenance("train", "cross", Path()),
}
_VIGOR_GROUND_SIZE = (384, 768)


@dataclass
class CrossViewTeacherRecipe:
    """The recipe.

    `initialize` names weights to start from: a file of a shared encoder of the same configuration, or a
    public checkpoint of Sample4Geo; `trained_on` tells what the latter has seen (a key of
    :data:`PUBLIC_TRAINING`), unless its folder does. With `pretrained` the backbone starts from timm's
    weights.
    """

    output: str = "outputs/train/cross_view_teacher"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    pretrained: bool = False
    initialize: str = ""
    trained_on: str = ""
    label_smoothing: float = 0.1
    data: CrossViewDataConfig = field(default_factory=CrossViewDataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


class ContrastiveTraining(nn.Module):
    """Network and loss of the teacher; a batch of pairs in, named losses out.

    Args:
        network: describes images of both views, ``network(image, view)``.
        pairs: of training; their semi-positive tiles are no negatives.
        label_smoothing: of the loss.
    """

    positives: Tensor
    semi_positives: Tensor

    def __init__(self, network: nn.Module, pairs: CrossViewSet, label_smoothing: float = 0.1) -> None:
        super().__init__()
        self.network, self.scale, self.label_smoothing = network, LogitScale(), label_smoothing
        self.register_buffer("positives", torch.from_numpy(pairs.positives), persistent=False)
        self.register_buffer("semi_positives", torch.from_numpy(pairs.semi_positives), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of samples of :class:`~hloc_ext.datasets.cross_view.pairs.CrossViewPairs`."""
        ground = self.network(batch["ground"], "ground")
        return self.compare(ground, self.network(batch["aerial"], "aerial"), batch["pair"])

    def compare(self, ground: Tensor, aerial: Tensor, pair: Tensor) -> dict[str, Tensor]:
        """Losses of the embeddings of a batch, B×D each, and of its numbers of pairs (B,)."""
        ignored = same_tile(self.positives[pair], self.semi_positives[pair])
        scale = self.scale()
        loss = symmetric_info_nce(ground, aerial, scale, self.label_smoothing, ignored)
        return {"loss": loss, "scale": scale.detach()}


def load_teacher(path: str, trained_on: str = "") -> tuple[nn.Module, frozenset[str]]:
    """Load a network that describes both views, and tell what it was trained with.

    Args:
        path: safetensors file of this project, or a public checkpoint of Sample4Geo (``.pth``).
        trained_on: of such a checkpoint, a key of :data:`PUBLIC_TRAINING`; empty: the name of one of its
            folders.

    Raises:
        InputError: it is not known what the network was trained with.
        MissingInputError, CorruptFileError: the file does not exist or cannot be read.
    """
    if path.endswith(".safetensors"):
        network, info = load_cross_view(path)
        if info.provenance is None:
            raise InputError(f"{path} does not tell what it was trained with, so that it cannot be used.")
        return network, info.provenance
    name = trained_on or next((part for part in reversed(Path(path).parts) if part in PUBLIC_TRAINING), "")
    if name not in PUBLIC_TRAINING:
        raise InputError(
            f"What {path} was trained with is not known: set trained_on to one of {list(PUBLIC_TRAINING)}."
        )
    config = EncoderConfig(ground_size=_VIGOR_GROUND_SIZE) if name.startswith("vigor") else EncoderConfig()
    return load_sample4geo(Path(path), config), PUBLIC_TRAINING[name]


def build_network(recipe: CrossViewTeacherRecipe) -> tuple[SharedEncoder, frozenset[str]]:
    """The network to train, from the weights that the recipe names or from random ones, and what it has seen.

    Raises:
        InputError: weights of another network, or an unknown backbone.
    """
    torch.manual_seed(recipe.trainer.seed)
    network = SharedEncoder(recipe.encoder, recipe.pretrained)
    if not recipe.initialize:
        return network, frozenset()
    other, seen = load_teacher(recipe.initialize, recipe.trained_on)
    try:
        network.load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"initialize={recipe.initialize} holds weights of another network than `encoder`: {error}"
        ) from error
    return network, seen


def train(recipe: CrossViewTeacherRecipe) -> Path:
    """Train a teacher and write ``weights.safetensors``.

    Returns:
        The file of weights.

    Raises:
        InputError, MissingInputError, CorruptFileError: options, data or weights that cannot be used.
    """
    output = make_dir(Path(recipe.output))
    network, seen = build_network(recipe)
    data = CrossViewData(recipe.data, image_sizes(network))
    module = ContrastiveTraining(network, data.training_pairs, recipe.label_smoothing)
    rounds = CrossViewRounds(data, output, recipe.trainer, seen)
    return rounds.fit(module, trained_network, {"recipe": described(recipe, "initialize")})


def trained_network(module: nn.Module) -> nn.Module:
    """The part of a training that is averaged and exported."""
    return module.get_submodule("network")


def described(recipe: Any, *files: str) -> str:
    """A recipe as JSON for the header of weights, without the folders of this machine."""
    values = dataclasses.asdict(recipe)
    del values["output"]
    values["data"]["root"], values["data"]["labels"] = Path(values["data"]["root"]).name, ""
    for name in files:
        values[name] = Path(values[name]).name
    return json.dumps(values)
