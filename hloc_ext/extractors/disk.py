"""DISK local features (Tyszkiewicz et al., "DISK: Learning local features with policy gradient",
NeurIPS 2020), as implemented by kornia.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..base_model import BaseModel
from ..pretrained import load_checkpoint, load_into

_NAMES = ("depth", "epipolar")


class DISK(BaseModel):
    """Extract DISK features of colour images.

    Options: ``weights`` (``depth``, ``epipolar``, a file, or None for random weights), ``max_keypoints``
    (best ones per image, None for all), ``nms_window_size`` (pixels, odd), ``detection_threshold``,
    ``pad_if_not_divisible`` (pad the image to a multiple of 16).

    Input: ``image`` B×3×H×W in [0, 1]. Output, one entry per image: ``keypoints`` N×2 (pixels, top-left
    pixel centre at (0, 0)), ``scores`` N, ``descriptors`` 128×N of unit norm.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "depth",
        "max_keypoints": None,
        "nms_window_size": 5,
        "detection_threshold": 0.0,
        "pad_if_not_divisible": True,
    }
    required_inputs: ClassVar[list[str]] = ["image"]

    def _init(self, conf: dict[str, Any]) -> None:
        from kornia.feature import DISK as KorniaDISK

        self.net = KorniaDISK().eval()
        weights = conf["weights"]
        if weights is not None:
            state = load_checkpoint(f"disk-{weights}" if weights in _NAMES else weights)
            load_into(self.net, state.get("extractor", state), weights)

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        features = self.net(
            data["image"],
            n=self.conf["max_keypoints"],
            window_size=self.conf["nms_window_size"],
            score_threshold=self.conf["detection_threshold"],
            pad_if_not_divisible=self.conf["pad_if_not_divisible"],
        )
        return {
            "keypoints": [f.keypoints for f in features],
            "scores": [f.detection_scores for f in features],
            "descriptors": [f.descriptors.t() for f in features],
        }
