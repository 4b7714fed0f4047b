"""Descriptors of panoramas and of satellite tiles that can be compared, by any cross-view network."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ..base_model import BaseModel
from ..errors import InputError
from ..models.cross_view import VIEWS, Encoder, StudentPair
from .cross_view_weights import KINDS, CrossViewInfo, load_cross_view
from .crossvit import resize_each, standardise


class CrossViewDescriptor(BaseModel):
    """Describe pictures of one view; those of the other view are described with the same weights.

    The whole picture is resized to the height and width of the weights, panoramas 360 degrees wide and with
    north at the centre column, tiles north up. A photo gets the width of the part of a panorama that it
    covers.

    Options:
        ``weights``: name of weights of the package, or a file of
            :func:`~hloc_ext.extractors.cross_view_weights.save_cross_view`.
        ``view``: ``ground`` (panoramas and photos) or ``aerial`` (tiles).
        ``fov``: degrees that the ground pictures are wide.
        ``batch_size``: pictures that go through the network at once in :mod:`hloc_ext.extract_features`.

    Input: ``image`` B×3×H×W in [0, 1]. Output: ``global_descriptor`` B×D, unit norm.

    Raises:
        MissingInputError, CorruptFileError: the weights do not exist or cannot be read.
        InputError: they are of another kind or do not describe the view, or an option is out of range.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": "distill4geo",
        "view": "ground",
        "fov": 360.0,
        "batch_size": 16,
    }
    required_inputs: ClassVar[list[str]] = ["image"]
    #: Kinds of weights that it takes.
    kinds: ClassVar[tuple[str, ...]] = KINDS
    info: CrossViewInfo

    def _init(self, conf: dict[str, Any]) -> None:
        self.view, self.fov, self.batch_size = conf["view"], float(conf["fov"]), conf["batch_size"]
        if self.view not in VIEWS or not 0 < self.fov <= 360 or self.batch_size < 1:
            raise InputError(
                f"{type(self).__name__}: view={self.view!r}, fov={self.fov:g}, batch_size={self.batch_size}:"
                f" expected one of {VIEWS}, 0 to 360 degrees, and 1 or more."
            )
        self.net, self.info = load_cross_view(conf["weights"])
        if self.info.kind not in self.kinds:
            raise InputError(
                f"{conf['weights']} holds weights of the kind {self.info.kind}, {type(self).__name__} needs"
                f" {' or '.join(self.kinds)}: give others in the option `weights`."
            )
        if self.view not in self.info.sizes:
            raise InputError(
                f"{conf['weights']} describes {' and '.join(self.info.sizes)} pictures, not {self.view} ones:"
                " give the weights of that view."
            )

    @property
    def dim(self) -> int:
        """Numbers of a descriptor."""
        return int(self.net.embedding_dim)

    @property
    def encoder(self) -> Encoder:
        """The part of the network that describes the view."""
        if isinstance(self.net, StudentPair):
            return self.net.encoder(self.view)
        return self.net if isinstance(self.net, Encoder) else self.net.encoder

    @property
    def sectors(self) -> int:
        """Directions that a descriptor can be turned to (``polar`` pooling); 1 if it cannot."""
        config = self.encoder.config
        return config.sectors if config.pooling == "polar" else 1

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels of what the network takes."""
        height, width = self.info.sizes[self.view]
        return (height, max(1, round(width * self.fov / 360))) if self.view == "ground" else (height, width)

    def prepare(self, images: Tensor) -> Tensor:
        """B×3×H×W pictures to the size that the network takes."""
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise InputError(f"Cross-view networks need colour images B×3×H×W, got {tuple(images.shape)}.")
        return resize_each(images, self.input_size)

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"global_descriptor": self.net(standardise(self.prepare(data["image"])), self.view)}
