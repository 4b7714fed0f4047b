"""Recipe ``ssa``: retrieval, and a bird's-eye view (BEV) of classes that is drawn from the panorama.

    python -m hloc_ext.datasets.spatial_priors --data DATA --source gis --output DATA/tile_labels
    python -m hloc_ext.train configs/train/ssa_small.yaml data.root=DATA

L = InfoNCE + λ (½ cross entropy + ½ Dice): SSA's loss ("spatial-semantic alignment"), with weights for rare
classes and without the cells that buildings hide from the camera. ``loss.semantic=0`` is the ablation that
learns retrieval alone, in the same way. What the published code does otherwise is told in docs/cross_view.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..cross_view.bev import score_bevs
from ..cross_view.pose_calibration import calibrate_poses
from ..datasets.cross_view.layout import CrossViewSet
from ..datasets.cross_view.pairs import CrossViewPairs
from ..errors import InputError
from ..extractors.cross_view_weights import image_sizes
from ..formats.atomic import make_dir
from ..models.bev import BEVConfig, SSAConfig, SSANetwork
from ..models.bev_geometry import IGNORE
from .bev_losses import balanced_weights, masked_cross_entropy, masked_dice, without_hidden
from .cross_view_data import CrossViewData, CrossViewDataConfig, SampleOptions
from .cross_view_rounds import CrossViewRounds
from .cross_view_teacher import ContrastiveTraining, described, load_teacher, trained_network
from .trainer import TrainerConfig

logger = logging.getLogger(__name__)

#: Tiles whose labels tell how frequent the classes are.
_COUNTED = 128


@dataclass
class SSALossConfig:
    """Weights of the terms."""

    semantic: float = 1.0  # λ of the BEV; 0: retrieval alone, and no labels are needed
    label_smoothing: float = 0.1  # of InfoNCE
    balance: float = 0.5  # exponent of the weights of classes: 0 all alike, 1 inverse to their frequency
    visible: bool = True  # leave out cells that buildings hide


@dataclass
class SSARecipe:
    """The recipe.

    `initialize` names weights to start from: of a shared encoder (also a public checkpoint of Sample4Geo, see
    `trained_on` in :class:`~hloc_ext.training.cross_view_teacher.CrossViewTeacherRecipe`), or of SSA. With
    `pretrained` the backbone starts from timm's weights.
    """

    output: str = "outputs/train/ssa"
    network: SSAConfig = field(default_factory=SSAConfig)
    pretrained: bool = False
    initialize: str = ""
    trained_on: str = ""
    loss: SSALossConfig = field(default_factory=SSALossConfig)
    data: CrossViewDataConfig = field(default_factory=CrossViewDataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


class SSATraining(ContrastiveTraining):
    """Network and losses of SSA; a batch of pairs in, named losses out.

    Args:
        network: is trained.
        pairs: of training.
        config: weights of the terms.
        frequency: (K,) shares of the classes, see :func:`class_frequency`; None without the BEV.
    """

    class_weights: Tensor

    def __init__(
        self,
        network: SSANetwork,
        pairs: CrossViewSet,
        config: SSALossConfig,
        frequency: Tensor | None = None,
    ) -> None:
        super().__init__(network, pairs, config.label_smoothing)
        self.config = config
        if frequency is not None:
            weights = balanced_weights(frequency, config.balance)
            self.register_buffer("class_weights", weights, persistent=False)

    @property
    def ssa(self) -> SSANetwork:
        """The network."""
        assert isinstance(self.network, SSANetwork)
        return self.network

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of samples of :class:`~hloc_ext.datasets.cross_view.pairs.CrossViewPairs`.

        A picture whose heading is not known teaches retrieval only.
        """
        if not self.config.semantic:
            return super().forward(batch)
        heading = batch["heading"].nan_to_num(0)
        ground, logits = self.ssa.describe_and_draw(batch["ground"], batch["offset"], heading)
        terms = self.compare(ground, self.network(batch["aerial"], "aerial"), batch["pair"])
        label = batch["label"].masked_fill(batch["heading"].isnan()[:, None, None], IGNORE)
        if self.config.visible:
            fov = self.ssa.encoder.field_of_view(batch["ground"], "ground")
            label = without_hidden(label, batch["offset"], fov, heading)
        label = self.ssa.config.bev.middle(label)
        with torch.autocast(logits.device.type, enabled=False):
            semantic = {
                "cross_entropy": masked_cross_entropy(logits.float(), label, self.class_weights),
                "dice": masked_dice(logits.float(), label),
            }
        drawn = (semantic["cross_entropy"] + semantic["dice"]) / 2
        contrastive = terms["loss"]
        loss = contrastive + self.config.semantic * drawn
        return {**terms, "loss": loss, "contrastive": contrastive, **semantic}


def class_frequency(pairs: CrossViewSet, config: BEVConfig) -> Tensor:
    """(K,) shares of the classes in the labels of some of the tiles, evenly spread over the set.

    Raises:
        InputError: all cells are unknown.
        MissingInputError: a tile has no label.
    """
    samples = CrossViewPairs(pairs, (8, 8), (8, 8), label_size=config.label_size)
    counts = np.zeros(config.classes)
    for index in np.linspace(0, len(pairs) - 1, min(_COUNTED, len(pairs))).astype(int).tolist():
        label = config.middle(samples[index]["label"])
        counts += np.bincount(label[label != IGNORE].numpy(), minlength=config.classes)
    if not counts.sum():
        raise InputError("The class maps of the tiles hold nothing but 255 (unknown): make them anew.")
    return torch.from_numpy(counts / counts.sum()).float()


def build_network(recipe: SSARecipe) -> tuple[SSANetwork, frozenset[str]]:
    """The network to train, from the weights that the recipe names or from random ones, and what it has seen.

    Raises:
        InputError: weights of another network, or an unknown backbone.
    """
    torch.manual_seed(recipe.trainer.seed)
    network = SSANetwork(recipe.network, recipe.pretrained)
    if not recipe.initialize:
        return network, frozenset()
    other, seen = load_teacher(recipe.initialize, recipe.trained_on)
    target: nn.Module = network if isinstance(other, SSANetwork) else network.encoder
    try:
        target.load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"initialize={recipe.initialize} holds weights of another network than `network`: {error}"
        ) from error
    return network, seen


def train(recipe: SSARecipe) -> Path:
    """Train and write ``weights.safetensors``.

    Returns:
        The file of weights.

    Raises:
        InputError, MissingInputError, CorruptFileError: options, data or weights that cannot be used.
    """
    output = make_dir(Path(recipe.output))
    network, seen = build_network(recipe)
    config = recipe.network.bev
    draws = recipe.loss.semantic > 0
    options = SampleOptions(label_size=config.label_size if draws else None)
    data = CrossViewData(recipe.data, image_sizes(network), options)
    pairs = data.training_pairs
    frequency = class_frequency(pairs, config) if draws else None
    module = SSATraining(network, pairs, recipe.loss, frequency)

    def figures(network: nn.Module) -> dict[str, float]:
        found = data.figures(network)
        if draws and data.validation_pairs is not None:
            assert isinstance(network, SSANetwork)
            scores = score_bevs(network, data.validation_pairs, recipe.data.fov)
            found["mIoU"] = round(100 * scores.visible.mean_iou, 2)
        return found

    rounds = CrossViewRounds(data, output, recipe.trainer, seen)
    about = {"recipe": described(recipe, "initialize")}
    path = rounds.fit(module, trained_network, about, figures=figures)
    held_out = data.validation_pairs if draws else None
    if held_out is not None and np.isfinite(held_out.tile_size).any():
        temperature = calibrate_poses(path, held_out, recipe.trainer.seed)
        logger.info("Temperature of the poses: %.3g.", temperature)
    return path
