"""How far the poses of a network can be trusted: the temperature of its scores, fitted after training."""

from __future__ import annotations

from pathlib import Path

from ..datasets.cross_view.layout import CrossViewSet
from ..extractors.cross_view_weights import load_cross_view, save_cross_view
from .descriptors import Condition, CrossViewNetworks
from .localization import POSE_TEMPERATURE, score_queries, table_of
from .pose import fit_temperature


def calibrate_poses(weights: Path, pairs: CrossViewSet, seed: int = 0) -> float:
    """Fit the temperature of poses to pairs and write it into the header of the weights.

    Args:
        weights: file of SSA's weights.
        pairs: not trained on; with class maps. Headings are taken for unknown.
        seed: of the headings.

    Returns:
        The temperature, see :func:`~hloc_ext.cross_view.pose.fit_temperature`.

    Raises:
        MissingInputError, CorruptFileError, InputError: weights or data that cannot be used.
    """
    networks, condition = CrossViewNetworks([weights], ("ground",)), Condition(heading_known=False)
    scores, truths = [], []
    for row, found, heading in score_queries(
        networks, pairs, pairs.positives, table_of(pairs), condition, seed=seed
    ):
        east, south = pairs.offsets[row] * found.tile_width
        scores.append(found)
        truths.append((float(east), -float(south), heading))
    temperature = fit_temperature(scores, truths)
    network, info = load_cross_view(weights)
    about = {**info.about, POSE_TEMPERATURE: f"{temperature:.3g}"}
    save_cross_view(weights, network, info.provenance, about)
    return temperature
