"""ALIKED local features (Zhao et al., "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via
Deformable Transformation", IEEE TIM 2023), as implemented by kornia.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..base_model import BaseModel
from ..pretrained import load_checkpoint, load_into


class ALIKED(BaseModel):
    """Extract ALIKED features of colour images.

    Options: ``model_name`` (``aliked-t16``, ``aliked-n16``, ``aliked-n16rot``, ``aliked-n32``),
    ``weights`` (``pretrained``, a file, or None for random weights), ``max_keypoints`` (best ones per
    image, None for all), ``detection_threshold`` (0 takes the `max_keypoints` best whatever their
    score), ``nms_radius`` (pixels).

    Input: ``image`` B×3×H×W in [0, 1]. Output, one entry per image: ``keypoints`` N×2 (pixels, top-left
    pixel centre at (0, 0)), ``scores`` N, ``descriptors`` D×N of unit norm (D = 128; 64 for ``t16``).
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "model_name": "aliked-n16",
        "weights": "pretrained",
        "max_keypoints": None,
        "detection_threshold": 0.2,
        "nms_radius": 2,
    }
    required_inputs: ClassVar[list[str]] = ["image"]

    def _init(self, conf: dict[str, Any]) -> None:
        from kornia.feature import ALIKED as KorniaALIKED

        self.net = KorniaALIKED(
            model_name=conf["model_name"],
            max_num_keypoints=-1 if conf["max_keypoints"] is None else conf["max_keypoints"],
            detection_threshold=conf["detection_threshold"],
            nms_radius=conf["nms_radius"],
        ).eval()
        if conf["weights"] is not None:
            source = conf["model_name"] if conf["weights"] == "pretrained" else conf["weights"]
            derived = [name for name, _ in self.net.named_buffers() if "running_" not in name]
            load_into(self.net, load_checkpoint(source), source, optional=derived)

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        features = self.net(data["image"])
        return {
            "keypoints": [f.keypoints for f in features],
            "scores": [f.keypoint_scores for f in features],
            "descriptors": [f.descriptors.t() for f in features],
        }
