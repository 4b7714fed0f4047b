"""LoFTR semi-dense matcher (Sun et al., "LoFTR: Detector-Free Local Feature Matching with Transformers",
CVPR 2021), as implemented by kornia.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch

from ..base_model import BaseModel
from ..errors import InputError
from ..pretrained import load_checkpoint, load_into

_NAMES = ("outdoor", "indoor", "indoor_new")


class LoFTR(BaseModel):
    """Match two grey images.

    Options: ``weights`` (``outdoor``, ``indoor``, ``indoor_new``, a file, or None for random weights),
    ``match_threshold`` (least coarse score), ``max_num_matches`` (best ones per pair, None for all).

    Input: ``image0``, ``image1`` B×1×H×W in [0, 1]. Output: ``keypoints0``, ``keypoints1`` M×2 (pixels of
    the inputs; those of image 0 are refined, those of image 1 lie on the coarse grid, as in HLOC),
    ``scores`` M, ``batch_indexes`` M. Coordinates are those of the network, which HLOC uses unchanged;
    according to kornia's documentation they count from the corner of the top-left pixel.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "outdoor",
        "match_threshold": 0.2,
        "max_num_matches": None,
    }
    required_inputs: ClassVar[list[str]] = ["image0", "image1"]

    def _init(self, conf: dict[str, Any]) -> None:
        from kornia.feature import LoFTR as KorniaLoFTR
        from kornia.feature.loftr.loftr import default_cfg

        config: dict[str, Any] = copy.deepcopy(default_cfg)  # kornia's dictionary is shared by every model
        config["match_coarse"]["thr"] = conf["match_threshold"]
        # The weights `indoor_new` were trained after a correction of the positional encoding.
        config["coarse"]["temp_bug_fix"] = conf["weights"] == "indoor_new"
        self.net = KorniaLoFTR(pretrained=None, config=config).eval()
        weights = conf["weights"]
        if weights is not None:
            state = load_checkpoint(f"loftr-{weights}" if weights in _NAMES else weights)
            state = state.get("state_dict", state)
            state = {key.removeprefix("matcher."): value for key, value in state.items()}
            buffers = [name for name, _ in self.net.named_buffers() if "pos_encoding" in name]
            load_into(self.net, state, weights, optional=buffers)

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        for key in self.required_inputs:
            if data[key].shape[1] != 1:
                raise InputError(f"LoFTR needs grey images, got {key} of shape {tuple(data[key].shape)}.")
        # The network refines positions in its second image; lists of pairs start with the query.
        inputs = {"image0": data["image1"], "image1": data["image0"]}
        for ours, theirs in (("mask0", "mask1"), ("mask1", "mask0")):
            if ours in data:
                inputs[theirs] = data[ours]
        prediction = self.net(inputs)
        output = {
            "keypoints0": prediction["keypoints1"],
            "keypoints1": prediction["keypoints0"],
            "scores": prediction["confidence"],
            "batch_indexes": prediction["batch_indexes"],
        }
        keep = best_per_pair(output["scores"], output["batch_indexes"], self.conf["max_num_matches"])
        return output if keep is None else {key: value[keep] for key, value in output.items()}


def best_per_pair(
    scores: torch.Tensor, batch_indexes: torch.Tensor, max_num_matches: int | None
) -> torch.Tensor | None:
    """Indices of the `max_num_matches` best matches of each pair, or None to keep all."""
    if max_num_matches is None or len(scores) <= max_num_matches:
        return None
    batch = batch_indexes.cpu().numpy()
    order = np.lexsort((-scores.detach().cpu().numpy(), batch))
    starts = np.searchsorted(batch[order], batch[order], side="left")
    rank = np.arange(len(order)) - starts
    return torch.from_numpy(order[rank < max_num_matches]).to(scores.device)
