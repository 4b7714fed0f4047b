"""SIFT as COLMAP computes it, with RootSIFT descriptors."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import numpy as np
import pycolmap
import torch

from ..base_model import BaseModel
from ..colmap_log import quiet_colmap
from ..errors import InputError


class SIFT(BaseModel):
    """DoG keypoints (Lowe, IJCV 2004) with SIFT or RootSIFT descriptors (Arandjelović & Zisserman, 2012).

    pycolmap returns COLMAP's coordinates (top-left pixel centre at (0.5, 0.5)); they are converted once,
    here, to HLOC's (0, 0). COLMAP reports no detector response: ``scores`` is the scale in pixels, by
    which COLMAP itself ranks keypoints.

    ``rootsift`` is HLOC's: COLMAP's descriptors are rooted already, and `root_normalize` roots them once
    more. Matches by the ratio of distances are then slightly fewer and purer than with the plain root.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "options": {"first_octave": 0, "peak_threshold": 0.01},
        "descriptor": "rootsift",
        "max_keypoints": -1,
    }
    required_inputs: ClassVar[list[str]] = ["image"]
    detection_noise = 1.0
    #: `forward` may run in several threads at once.
    thread_safe = True

    def _init(self, conf: dict[str, Any]) -> None:
        if conf["descriptor"] not in ("sift", "rootsift"):
            raise InputError(f"Unknown descriptor '{conf['descriptor']}': use 'sift' or 'rootsift'.")
        self.register_buffer("device_of_model", torch.empty(0), persistent=False)
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        # pycolmap's extractors, one per thread, can be neither copied nor pickled.
        return {key: value for key, value in self.__dict__.items() if key != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._local = threading.local()

    def _extractor(self) -> pycolmap.Sift:
        if not hasattr(self._local, "sift"):
            norm = pycolmap.Normalization
            options = pycolmap.SiftExtractionOptions(
                {
                    **self.conf["options"],
                    "normalization": norm.L1_ROOT if self.conf["descriptor"] == "rootsift" else norm.L2,
                }
            )
            use_gpu = pycolmap.has_cuda and self.device_of_model.device.type == "cuda"
            with quiet_colmap():
                self._local.sift = pycolmap.Sift(
                    options=pycolmap.FeatureExtractionOptions(sift=options),
                    device=pycolmap.Device.cuda if use_gpu else pycolmap.Device.cpu,
                )
        return self._local.sift

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        image = data["image"]
        if image.shape[:2] != (1, 1):
            raise InputError(f"SIFT takes one grey image (1×1×H×W), got {tuple(image.shape)}.")
        keypoints, descriptors = self._extractor().extract(image[0, 0].cpu().numpy())
        keypoints = np.asarray(keypoints, np.float32).reshape(-1, 4)
        descriptors = np.asarray(descriptors, np.float32).reshape(-1, 128)
        if self.conf["descriptor"] == "rootsift":
            descriptors = root_normalize(descriptors)
        limit = self.conf["max_keypoints"]
        if 0 <= limit < len(keypoints):
            largest = np.sort(np.argsort(-keypoints[:, 2], kind="stable")[:limit])
            keypoints, descriptors = keypoints[largest], descriptors[largest]
        output = {
            "keypoints": keypoints[:, :2] - 0.5,
            "scales": keypoints[:, 2],
            "oris": np.rad2deg(keypoints[:, 3]),
            "scores": keypoints[:, 2],
            "descriptors": descriptors.T,
        }
        return {key: torch.from_numpy(np.ascontiguousarray(value))[None] for key, value in output.items()}


def root_normalize(descriptors: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
    """RootSIFT: square root of the L1-normalised descriptor, with unit L2 norm.

    Args:
        descriptors: N×128, non-negative.
        epsilon: keeps empty descriptors finite.
    """
    descriptors = descriptors / (np.linalg.norm(descriptors, ord=1, axis=-1, keepdims=True) + epsilon)
    descriptors = np.sqrt(descriptors.clip(min=epsilon))
    return descriptors / (np.linalg.norm(descriptors, axis=-1, keepdims=True) + epsilon)
