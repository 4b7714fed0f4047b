"""What retrieval is trained and validated on: COLMAP scenes and photos, from one folder of data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from ..datasets.covisibility import Measure, Overlap
from ..datasets.places import Indices, PlaceImages, PlacePairs, PlaceScene, Sample
from ..errors import InputError
from ..formats.images import list_images
from .place_recall import Embeddings, embed_all, embed_pairs, pair_recall, scene_recall


@dataclass
class PlaceDataConfig:
    """Where the data lies, how samples are made, and how hard negatives are mined.

    A scene is a folder with ``images`` and ``sparse``, a COLMAP model. Scenes and photos that are held out
    are validated on, as they are. With `last_size` the last share of the steps sees larger pictures.
    """

    root: str = "data"
    scenes: list[str] = field(default_factory=list)  # below the root, or absolute
    held_out: list[str] = field(default_factory=list)  # scenes
    photos: list[str] = field(default_factory=list)  # folders
    hold_out: int = 20  # one photo of so many is for validation
    queries: str = ""  # in held-out scenes, pictures with this text in their name look for the others
    size: int = 240  # side of the pictures, a multiple of 60
    last_size: int = 0  # at the end; 0: the same
    last_share: float = 0.25
    measure: str = "jaccard"  # of the overlap in training: or box, hull (both published)
    photo_share: float = 0.5  # of the anchors
    night: float = 0.3  # share of pictures that become night versions
    night_suffix: str = ""  # of night versions on disk
    change: str = "mild"  # of pictures of scenes; see hloc_ext.datasets.color_change.COLOR_CHANGES
    photo_change: str = "day"  # of photos
    least_overlap: float = 0.0  # of anchor and positive
    mirrored: float = 0.5  # share of samples
    negatives: int = 0  # hard ones that follow an anchor of a scene in its batch; 0: none
    refresh_steps: int = 500  # after which they are mined again
    cache_mib: int = 512  # decoded pictures in memory, of each process


class PlaceData:
    """Training and validation data of a configuration.

    Args:
        config: scenes and photos.
        published: samples have the published tokens too.

    Raises:
        InputError: a value that cannot be used, or nothing to train on.
        MissingInputError, CorruptFileError: data that do not exist or cannot be read.
    """

    def __init__(self, config: PlaceDataConfig, published: bool = False) -> None:
        if config.hold_out < 2 or config.negatives < 0 or config.refresh_steps < 1:
            raise InputError(
                f"data.hold_out={config.hold_out}, data.negatives={config.negatives},"
                f" data.refresh_steps={config.refresh_steps}: expected 2 or more, 0 or more, 1 or more."
            )
        self.config, self.published = config, published
        self.scenes, self.held_out = (
            [self._scene(name) for name in of] for of in (config.scenes, config.held_out)
        )
        photos = [path for name in config.photos for path in _image_files(Path(config.root) / name)]
        self.photos = [path for number, path in enumerate(photos) if (number + 1) % config.hold_out]
        self.held_out_photos = photos[config.hold_out - 1 :: config.hold_out]
        self._images = self._place_images(self.scenes, self.photos, config.size)
        #: Scene and number of the pictures that batches are drawn from, (A, 2).
        self.anchors: Indices = self._pairs(self._images, seed=0).anchors

    @property
    def overlaps(self) -> list[Overlap]:
        """Of the scenes, by number."""
        return [place.overlap for place in self.scenes]

    def last_size_step(self, steps: int) -> int:
        """First step of a training that sees pictures of the last size; 0 if there is but one size."""
        return round(steps * (1 - self.config.last_share)) if self.config.last_size else 0

    def size_at(self, step: int, steps: int) -> int:
        """Size of the pictures at a step of a training."""
        last = self.config.last_size and step >= self.last_size_step(steps)
        return self.config.last_size if last else self.config.size

    def training(self, batches: Indices, size: int, seed: int) -> Dataset[Sample]:
        """Samples of the anchors of batches, (M, B) rows of :attr:`anchors`."""
        return self._pairs(self._sized(size), seed, batches)

    def first_images(self, count: int, seed: int) -> torch.Tensor:
        """Random anchors and their partners as training sees them, (2 · count, 3, H, H)."""
        rows = np.random.default_rng(seed).integers(len(self.anchors), size=(1, count))
        pairs = self.training(rows, self.config.size, seed)
        return torch.cat([pairs[number]["image"] for number in range(count)])

    def embed_scenes(self, network: nn.Module, size: int) -> list[Embeddings]:
        """Embeddings (N, D) of all pictures of each scene, as they are, by a network in evaluation mode."""
        images = self._sized(size)
        numbers = images.pictures[:, 0]
        return [
            embed_all(network, Subset(images, np.flatnonzero(numbers == scene).tolist()))
            for scene in range(len(self.scenes))
        ]

    def figures(self, network: nn.Module, size: int) -> dict[str, float]:
        """Recall on what is held out, by a network in evaluation mode."""
        found: dict[str, float] = {}
        for name, place in zip(self.config.held_out, self.held_out, strict=True):
            embeddings = embed_all(network, self._place_images([place], (), size))
            recalls = {"": scene_recall(embeddings, place.overlap, place.scene.centers)}
            if self.config.queries:
                chosen = [self.config.queries in picture for picture in place.scene.names]
                recalls["queries/"] = scene_recall(embeddings, place.overlap, place.scene.centers, chosen)
            for group, recall in recalls.items():
                found |= {f"{Path(name).name}/{group}{key}": value for key, value in recall.items()}
        if self.held_out_photos:
            images = self._place_images((), self.held_out_photos, size)
            each = np.arange(len(images))[:, None]
            views = embed_pairs(network, self._pairs(images, 0, each, validation=True))
            found |= {f"photos/{key}": value for key, value in pair_recall(*views).items()}
        return found

    def _scene(self, name: str) -> PlaceScene:
        folder = Path(self.config.root) / name
        suffix = self.config.night_suffix or None
        measure = cast(Measure, self.config.measure)  # which is checked there
        return PlaceScene.read(folder / "sparse", folder / "images", measure, suffix)

    def _place_images(self, scenes: Sequence[PlaceScene], photos: Sequence[Path], size: int) -> PlaceImages:
        return PlaceImages(scenes, photos, size, self.published, self.config.cache_mib)

    def _sized(self, size: int) -> PlaceImages:
        if self._images.size != size:
            self._images = self._place_images(self.scenes, self.photos, size)
        return self._images

    def _pairs(
        self, images: PlaceImages, seed: int, batches: Indices | None = None, validation: bool = False
    ) -> PlacePairs:
        config = self.config
        return PlacePairs(
            images,
            seed,
            batches=batches,
            night=config.night,
            change=config.change,
            photo_change=config.photo_change,
            least_overlap=config.least_overlap,
            mirrored=config.mirrored,
            validation=validation,
        )


def _image_files(folder: Path) -> list[Path]:
    return [folder / name for name in list_images(folder)]
