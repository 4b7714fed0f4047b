"""Bird's-eye views (BEV) that a network of SSA draws from the panoramas of a data set, and their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from ..datasets.cross_view.layout import CrossViewSet
from ..datasets.cross_view.pairs import CrossViewPairs
from ..evaluation.bev import IGNORE, SegmentationScores, confusion_matrix, segmentation_scores
from ..models.bev import SSANetwork
from ..models.bev_geometry import visible_cells

#: Names of the classes, by their numbers.
CLASSES = ("other", "road", "sidewalk", "building", "vegetation", "water")

_BATCH = 16


@dataclass(frozen=True)
class BEVBatch:
    """BEVs of some pairs, north up, in the frame of their tiles, or of their cameras.

    Attributes:
        pair: (B,) numbers of the panoramas.
        logits: B×K×L×L of the middle of the tiles, see :class:`~hloc_ext.models.bev.BEVConfig`.
        label: B×L×L int64, classes there.
        visible: B×L×L bool, cells of `label` that are in the field of view and that no building hides.
        heading: (B,) azimuth of the centre columns, degrees, NaN unknown (then 0 is assumed).
    """

    pair: npt.NDArray[np.int64]
    logits: torch.Tensor
    label: torch.Tensor
    visible: torch.Tensor
    heading: npt.NDArray[np.float32]


@torch.no_grad()
def draw_bevs(
    network: SSANetwork,
    pairs: CrossViewSet,
    fov: float = 360.0,
    unknown_heading: bool = False,
    seed: int = 0,
) -> Iterator[BEVBatch]:
    """Draw the BEVs of all panoramas of a set, whose tiles have labels.

    Args:
        network: in evaluation mode, on any device.
        pairs: the set.
        fov: degrees of the panoramas that the network sees.
        unknown_heading: turn the cameras by any angle. The BEVs are then those around the cameras, forward
            up; otherwise those of the tiles.
        seed: of the angles.

    Raises:
        MissingInputError: a tile has no label.
    """
    config = network.config
    samples = CrossViewPairs(
        pairs,
        config.encoder.ground_size,
        config.encoder.aerial_size,
        fov=fov,
        unknown_heading=unknown_heading,
        label_size=config.bev.label_size,
        seed=seed,
    )
    device = next(network.parameters()).device
    for batch in DataLoader(samples, batch_size=_BATCH):
        offset, heading = batch["offset"], batch["heading"].nan_to_num(0)
        where = () if unknown_heading else (offset.to(device), heading.to(device))
        yield BEVBatch(
            batch["pair"].numpy(),
            network.bev(batch["ground"].to(device), *where).float().cpu(),
            config.bev.middle(batch["label"]),
            config.bev.middle(visible_cells(batch["label"], offset, fov, heading)),
            batch["heading"].numpy(),
        )


@dataclass(frozen=True)
class BEVScores:
    """Scores of the cells that the cameras see, and of all that have a label."""

    visible: SegmentationScores
    all: SegmentationScores


def score_bevs(network: SSANetwork, pairs: CrossViewSet, fov: float = 360.0) -> BEVScores:
    """Intersection over union of the BEVs of a set with known headings; arguments as :func:`draw_bevs`."""
    classes = network.config.bev.classes
    seen, all_ = (np.zeros((classes, classes), np.int64) for _ in range(2))
    for batch in draw_bevs(network, pairs, fov):
        drawn, label = batch.logits.argmax(1).numpy(), batch.label.numpy()
        all_ += confusion_matrix(drawn, label, classes)
        seen += confusion_matrix(drawn, np.where(batch.visible.numpy(), label, IGNORE), classes)
    return BEVScores(segmentation_scores(seen), segmentation_scores(all_))
