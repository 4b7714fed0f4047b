"""LightGlue sparse matcher (Lindenberger et al., "LightGlue: Local Feature Matching at Light Speed",
ICCV 2023), as implemented by kornia.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ..base_model import BaseModel
from ..errors import InputError
from ..pretrained import WEIGHTS, load_checkpoint, load_into

_FEATURES = tuple(name.removeprefix("lightglue-") for name in WEIGHTS if name.startswith("lightglue-"))


class LightGlue(BaseModel):
    """Match the local features of two images.

    Options: ``features`` (``disk``, ``aliked``, ``superpoint`` or ``xfeat``: what the network was trained
    on), ``weights`` (``pretrained``, a file, or None for random weights), ``depth_confidence`` and
    ``width_confidence`` (early stopping and pruning of points; −1 disables them), ``filter_threshold``
    (least matching score), ``mp`` (mixed precision). The published settings of ``xfeat`` win over these.

    Input, for each image: ``keypoints`` B×N×2 (pixels), ``descriptors`` B×D×N, and the size of the image
    as ``image_size`` B×2 (width, height) or ``image`` (only its shape is read). Output: ``matches0``
    B×N0 (index into the keypoints of image 1 or −1), ``matching_scores0`` B×N0, and the same for image 1.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "features": "disk",
        "weights": "pretrained",
        "depth_confidence": 0.95,
        "width_confidence": 0.99,
        "filter_threshold": 0.1,
        "mp": False,
    }
    required_inputs: ClassVar[list[str]] = ["keypoints0", "descriptors0", "keypoints1", "descriptors1"]

    def _init(self, conf: dict[str, Any]) -> None:
        from kornia.feature import LightGlue as KorniaLightGlue

        features = conf["features"]
        if features not in _FEATURES:
            raise InputError(f"LightGlue has no weights for '{features}': choose one of {list(_FEATURES)}.")
        options = {key: value for key, value in conf.items() if key in KorniaLightGlue.default_conf}
        options |= KorniaLightGlue.features[features]
        options["weights"] = None  # they are loaded below
        self.net = KorniaLightGlue(None, **options).eval()  # type: ignore[arg-type]
        weights = conf["weights"]
        if weights is not None:
            source = f"lightglue-{features}" if weights == "pretrained" else weights
            state = _rename(load_checkpoint(source), self.net.conf.n_layers)
            load_into(self.net, state, source, optional=["confidence_thresholds"])

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        prediction = self.net({"image0": _features_of(data, 0), "image1": _features_of(data, 1)})
        keys = ("matches0", "matching_scores0", "matches1", "matching_scores1")
        return {key: prediction[key] for key in keys}


def _features_of(data: dict[str, Any], index: int) -> dict[str, torch.Tensor]:
    keypoints = data[f"keypoints{index}"].float()
    if f"image_size{index}" in data:
        size = data[f"image_size{index}"].to(keypoints).reshape(-1, 2)
    elif f"image{index}" in data:
        size = keypoints.new_tensor(data[f"image{index}"].shape[:-3:-1])[None]
    else:
        raise InputError(f"LightGlue needs 'image_size{index}' (width, height) or 'image{index}'.")
    # Enlarging an image puts the centre of its first pixel outside [0, size], which the network refuses.
    keypoints = keypoints.clamp(min=0).minimum(size[:, None])
    descriptors = data[f"descriptors{index}"].float().transpose(-1, -2)
    return {"keypoints": keypoints, "descriptors": descriptors, "image_size": size}


def _rename(state: dict[str, torch.Tensor], num_layers: int) -> dict[str, torch.Tensor]:
    """Translate the parameter names of the published files to those of the network.

    The file of XFeat holds its extractor too, which is left out.
    """
    if any(key.startswith("matcher.") for key in state):
        state = {
            key.removeprefix("matcher."): value for key, value in state.items() if key.startswith("matcher.")
        }
    for layer in range(num_layers):
        for block in ("self_attn", "cross_attn"):
            old, new = f"{block}.{layer}.", f"transformers.{layer}.{block}."
            state = {(new + key[len(old) :] if key.startswith(old) else key): v for key, v in state.items()}
    return state
