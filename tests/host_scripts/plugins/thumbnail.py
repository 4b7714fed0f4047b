"""Global descriptor without weights: a small, contrast-normalized version of the image."""

from __future__ import annotations

from typing import Any, ClassVar

from torch.nn import functional

from hloc_ext.base_model import BaseModel


class Thumbnail(BaseModel):
    """Average-pooled grey image as a unit vector."""

    default_conf: ClassVar[dict[str, Any]] = {"size": 6}
    required_inputs: ClassVar[list[str]] = ["image"]

    def _init(self, conf: dict[str, Any]) -> None:
        pass

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        pooled = functional.adaptive_avg_pool2d(data["image"], self.conf["size"]).flatten(1)
        return {"global_descriptor": functional.normalize(pooled - pooled.mean(dim=1, keepdim=True), dim=1)}
