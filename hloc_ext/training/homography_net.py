"""The recipe of the deep homography regressor, on the pairs that KD-Mamba is trained on.

python -m hloc_ext.train configs/train/homography_net.yaml data.root=DATA
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.homography import CELL
from ..datasets.matching import MatchingData, MatchingDataConfig
from ..errors import InputError
from ..formats.atomic import make_dir
from ..gis.registration.homography_regression import save_weights
from ..models.homography_net import HomographyNet, HomographyNetConfig
from .trainer import TrainerConfig, fit

#: Sources of which all cells of a pair lie on one plane.
PLANE_SOURCES = ("photos", "maps")
#: Mean error of the four points of a success, as a share of the diagonal.
SUCCESS = 0.03


@dataclass
class HomographyNetRecipe:
    """What is trained, on what, and how. The images are squares of `data.size`."""

    output: str = "outputs/train/homography_net"
    widths: list[int] = field(default_factory=lambda: [64, 64, 96, 128, 160])
    hidden: int = 512
    dropout: float = 0.1
    data: MatchingDataConfig = field(default_factory=MatchingDataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


class RegressionTraining(nn.Module):
    """A batch in, named losses out.

    Args:
        network: the regressor.
    """

    def __init__(self, network: HomographyNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean error of the coordinates of the points, in half sides of the image (smooth below 1 %)."""
        target, known = true_points(batch)
        found = self.network(batch["image0"], batch["image1"])
        unit = batch["image0"].shape[-1] / 2
        errors = F.smooth_l1_loss(found / unit, target / unit, beta=0.01, reduction="none").mean((1, 2))
        loss = (errors * known).sum() / known.sum().clamp_min(1)
        distance = (found - target).norm(dim=2).mean(1)
        return {"loss": loss, "pixels": (distance * known).sum().detach() / known.sum().clamp_min(1)}


def true_points(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Where the control points of image 0 lie in image 1, B×4×2 pixels, and whether the pair overlaps, B.

    The samples tell where every cell lies, also outside of the other image; they do not overlap where no cell
    is valid.
    """
    cells = batch["image0"].shape[-1] // CELL
    corners = [0, cells - 1, cells * cells - 1, cells * (cells - 1)]
    return batch["points1"][:, corners].float(), batch["valid1"].any(1).float()


@torch.no_grad()
def evaluate_pairs(network: HomographyNet, samples: list[dict[str, Tensor]]) -> dict[str, float]:
    """Mean corner error on samples: its median in % of the diagonal, and the share of successes."""
    device = next(network.parameters()).device
    errors = []
    for sample in samples:
        batch = {key: value[None].to(device) for key, value in sample.items()}
        target, known = true_points(batch)
        if known.any():
            error = (network(batch["image0"], batch["image1"]) - target).norm(dim=2).mean()
            errors.append(float(error) / (batch["image0"].shape[-1] * 2**0.5))
    if not errors:
        return {}
    values = torch.tensor(errors)
    return {
        "median_error_percent": 100 * float(values.median()),
        "success": float((values < SUCCESS).float().mean()),
    }


def train(recipe: HomographyNetRecipe) -> Path:
    """Train the regressor and write ``weights.safetensors``.

    Returns:
        The file of weights.

    Raises:
        InputError: sources that are not plane, or images that are no squares of a multiple of 32.
        MissingInputError: data that do not exist.
    """
    height, width = recipe.data.size
    if height != width or height % 32:
        raise InputError(f"data.size={recipe.data.size}: the regressor needs squares of a multiple of 32.")
    wrong = [source.kind for source in recipe.data.sources if source.kind not in PLANE_SOURCES]
    if wrong:
        raise InputError(f"data.sources: kinds {wrong} have no homography; use {PLANE_SOURCES}.")
    output = make_dir(Path(recipe.output))
    data = MatchingData(recipe.data)
    torch.manual_seed(recipe.trainer.seed)
    config = HomographyNetConfig(height, tuple(recipe.widths), recipe.hidden, recipe.dropout)
    network = HomographyNet(config)
    samples = data.validation()
    started = time.monotonic()
    trainer = recipe.trainer
    length = trainer.steps * trainer.batch_size * trainer.devices * trainer.num_nodes
    state = fit(
        RegressionTraining(network),
        data.training(length, trainer.seed),
        output,
        trainer,
        validate=lambda model: _figures(model, samples),
        averaged=lambda module: module.get_submodule("network"),
    )
    network.load_state_dict(state)
    path = output / "weights.safetensors"
    save_weights(network.cpu().eval(), path, _about(recipe, time.monotonic() - started))
    return path


def _figures(model: nn.Module, samples: dict[str, list[dict[str, Tensor]]]) -> dict[str, float]:
    assert isinstance(model, HomographyNet)
    return {
        f"{name}/{key}": round(value, 4)
        for name, of_source in samples.items()
        for key, value in evaluate_pairs(model, of_source).items()
    }


def _about(recipe: HomographyNetRecipe, seconds: float) -> dict[str, str]:
    """What the header of the weights says of their training: the recipe without the paths of this machine."""
    values = dataclasses.asdict(recipe)
    for source in values["data"]["sources"]:
        source["folders"] = [Path(folder).name for folder in source["folders"]]
    del values["output"], values["data"]["root"]
    return {"recipe": json.dumps(values), "seconds": f"{seconds:.0f}"}
