"""CrossViT global descriptors of images whose camera and structure are known, from a COLMAP model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..base_model import BaseModel
from ..datasets.sfm_scene import SfmScene, published_tokens
from ..errors import InputError, MissingInputError
from .crossvit import TEACHER, batch_and_image_size, load_network, standardise, to_square


class CrossViTTeacherDescriptor(BaseModel):
    """Describe images of a COLMAP model by the teacher network, which also sees poses and points.

    Options:
        ``weights``: name of weights of the package (``crossvit_teacher``), or a file of
            :func:`~hloc_ext.extractors.crossvit.save_weights`.
        ``model_dir``: folder of the COLMAP model of the images.
        ``sky_masks``: folder of masks ``NAME.png``, not zero where the sky is; None: the rule of
            :class:`~hloc_ext.datasets.sfm_scene.SfmScene`.
        ``image_size``, ``batch_size``: as in :class:`~hloc_ext.extractors.crossvit.CrossViTDescriptor`.

    Input: ``image`` B×3×H×W in [0, 1], and ``name``, the B names of the images in the model.
    :mod:`hloc_ext.extract_features` hands names on; the stage of HLOC does not. Output:
    ``global_descriptor`` B×D, unit norm.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": TEACHER,
        "model_dir": None,
        "sky_masks": None,
        "image_size": None,
        "batch_size": 16,
    }
    required_inputs: ClassVar[list[str]] = ["image"]
    #: The stage also hands on the names of the images.
    takes_names = True

    def _init(self, conf: dict[str, Any]) -> None:
        if conf["model_dir"] is None:
            raise InputError(
                "The configuration `crossvit-teacher` needs the poses of the images: give the folder of their"
                " COLMAP model in its option `model_dir`, on the command line by --option model_dir=MODEL."
                " Images without poses are described by `crossvit-student`."
            )
        self.net = load_network(conf["weights"], TEACHER)
        self.batch_size, self.image_size = batch_and_image_size(conf, self.net.config)
        masks = conf["sky_masks"]
        self.scene = SfmScene.read(Path(conf["model_dir"]), None if masks is None else Path(masks))

    def prepare(self, images: Tensor) -> Tensor:
        """B×3×H×W images to what the network takes, B×3×S×S."""
        return to_square(images, self.image_size)

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        if "name" not in data:
            raise InputError(
                "`crossvit-teacher` needs the names of the images, to find their poses, and HLOC's own stage"
                " hands on pixels only. Extract with hloc_ext.extract_features; HLOC reads the file that it"
                " writes."
            )
        images = standardise(self.prepare(data["image"]))
        rows = [self._row(name) for name in data["name"]]
        tokens = spatial_inputs(self.scene, rows, self.net.config.spatial)
        return {"global_descriptor": self.net(images, *(tensor.to(images.device) for tensor in tokens))}

    def _row(self, name: str) -> int:
        if name not in self.scene.rows:
            raise MissingInputError(
                f"Image '{name}' is not in the COLMAP model {self.conf['model_dir']} (which holds"
                f" '{self.scene.names[0]}', …). List the images of the model (`image_list`), and describe"
                " others by `crossvit-student`."
            )
        return self.scene.rows[name]


def spatial_inputs(scene: SfmScene, rows: Sequence[int], spatial: str | None) -> list[Tensor]:
    """What a teacher takes beside B images.

    Args:
        scene: the model of the images.
        rows: numbers of the B images in it.
        spatial: of the network's configuration.

    Returns:
        With ``published``: B×197×192 tokens. Else points, rays, log_depths, state and rotation; see
        :class:`~hloc_ext.datasets.sfm_scene.SpatialTokens`.
    """
    if spatial == "published":
        return [torch.from_numpy(np.stack([published_tokens(scene, row) for row in rows]))]
    tokens = [scene.tokens(row) for row in rows]
    return [torch.from_numpy(np.stack(values)) for values in zip(*tokens, strict=True)]
