"""Dense matcher without weights for images that differ by a translation."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import torch

from hloc_ext.base_model import BaseModel


class Translation(BaseModel):
    """Grid of points in the first image, displaced by the peak of the phase correlation."""

    default_conf: ClassVar[dict[str, Any]] = {"spacing": 8}
    required_inputs: ClassVar[list[str]] = ["image0", "image1"]

    def _init(self, conf: dict[str, Any]) -> None:
        pass

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        image0, image1 = (data[f"image{i}"][0, 0].cpu().numpy() for i in (0, 1))
        shift, _ = cv2.phaseCorrelate(image0, image1, cv2.createHanningWindow(image0.shape[::-1], cv2.CV_32F))
        size = torch.tensor(image0.shape[::-1])
        x, y = (torch.arange(0, int(n), self.conf["spacing"], dtype=torch.float32) for n in size)
        keypoints0 = torch.cartesian_prod(x, y)
        keypoints1 = keypoints0 + torch.tensor(shift, dtype=torch.float32)
        inside = ((keypoints1 >= 0) & (keypoints1 <= size - 1)).all(dim=1)
        keypoints0, keypoints1 = keypoints0[inside], keypoints1[inside]
        return {"keypoints0": keypoints0, "keypoints1": keypoints1, "scores": torch.ones(len(keypoints0))}
