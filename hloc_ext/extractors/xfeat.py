"""XFeat local features (Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching",
CVPR 2024), as implemented by kornia.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ..base_model import BaseModel
from ..pretrained import load_checkpoint, load_into


class XFeat(BaseModel):
    """Extract sparse XFeat features.

    Options: ``weights`` (``pretrained``, a file, or None for random weights), ``max_keypoints`` (best
    ones per image), ``detection_threshold``.

    Input: ``image`` B×C×H×W in [0, 1]. Output, one entry per image: ``keypoints`` N×2 (pixels, top-left
    pixel centre at (0, 0)), ``scores`` N (descending), ``descriptors`` 64×N of unit norm.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "pretrained",
        "max_keypoints": 4096,
        "detection_threshold": 0.05,
    }
    required_inputs: ClassVar[list[str]] = ["image"]

    def _init(self, conf: dict[str, Any]) -> None:
        from kornia.feature import XFeat as KorniaXFeat

        self.net = KorniaXFeat(
            top_k=conf["max_keypoints"], detection_threshold=conf["detection_threshold"]
        ).eval()
        if conf["weights"] is not None:
            source = "xfeat" if conf["weights"] == "pretrained" else conf["weights"]
            load_into(self.net.net, load_checkpoint(source), source)

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        image = data["image"]
        features = self.net.detectAndCompute(image, top_k=self.conf["max_keypoints"])
        size = torch.tensor(image.shape[:-3:-1], device=image.device)
        # The network resizes to a multiple of 32 and scales positions by this ratio about the pixel
        # centre (0, 0) instead of the image corner (−0.5, −0.5).
        ratio = size / (size // 32 * 32).clamp(min=32)
        shift = 0.5 * (ratio - 1)
        return {
            "keypoints": [f["keypoints"] + shift for f in features],
            "scores": [f["scores"] for f in features],
            "descriptors": [f["descriptors"].t() for f in features],
        }
