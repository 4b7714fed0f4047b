"""What a matcher is trained on: sources of pairs in given proportions, from one folder of data.

Each source is configured by values that a YAML recipe can hold. Some photos of every source are held out for
validation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from ..errors import InputError
from .city_pairs import CityPairs
from .homography import HomographyConfig
from .homography_pairs import HomographyPairs
from .images import load_photos
from .map_pairs import LabelledImage, MapPairs, find_labelled_images
from .mixture import MixedPairs, Sample
from .sfm_pairs import SfmPairs

KINDS = ("photos", "maps", "city", "sfm")


@dataclass
class SourceConfig:
    """A source of pairs.

    ``photos``: two views of a photo of `folders` under a homography or a similarity.
    ``maps``: an aerial image with a map of its class mask, or with itself; `folders` hold
    ``<source>/images`` and ``<source>/labels``.
    ``city``: rendered views of :func:`~hloc_ext.datasets.city_views.render_views`.
    ``sfm``: `folders` hold ``sparse`` (a COLMAP model) and ``images``.
    """

    kind: str = "photos"
    name: str = ""  # in the log; empty: the kind
    folders: list[str] = field(default_factory=lambda: ["photos"])  # below the root, or absolute
    weight: float = 1.0
    change: str = "strong"  # photos: of one view at least; see hloc_ext.datasets.photometric.CHANGES
    other_change: str = "mild"  # photos: of the other view
    both: float = 0.5  # photos: share in which both views have `change`
    transform: str = "homography"  # photos: or similarity
    max_rotation: float = 30.0  # photos, maps: between the views, degrees
    max_roll: float = 10.0  # photos: of both views
    max_scale: float = 2.0  # photos, maps: between the views
    perspective: float = 0.2  # photos: displacement of corners, as a share of the size
    photo_pairs: float = 0.0  # maps: share of photo with photo
    inverted: float = 0.3  # maps: share of the photos with photos of which one is a negative


@dataclass
class MatchingDataConfig:
    """Where the data lies, the size of the samples (height, width), and the sources."""

    root: str = "data"
    size: list[int] = field(default_factory=lambda: [256, 256])
    sources: list[SourceConfig] = field(default_factory=lambda: [SourceConfig()])
    hold_out: int = 20  # one photo of so many is for validation
    validation_pairs: int = 24  # per source


class MatchingData:
    """Training and validation pairs of a configuration.

    Args:
        config: the sources.

    Raises:
        InputError: an unknown kind, or a value that cannot be used.
        MissingInputError, CorruptFileError: data that do not exist or cannot be read.
    """

    def __init__(self, config: MatchingDataConfig) -> None:
        if not config.sources:
            raise InputError("data.sources is empty: give at least one source.")
        self.config = config
        self.sources = [_Source(source, config) for source in config.sources]

    def training(self, length: int, seed: int) -> Dataset[Sample]:
        """`length` samples of all sources in the proportions of their weights."""
        datasets = [
            source.pairs(length, _seed(seed, number), held_out=False)
            for number, source in enumerate(self.sources)
        ]
        return MixedPairs(datasets, [source.config.weight for source in self.sources], length, seed)

    def validation(self, seed: int = 0) -> dict[str, list[Sample]]:
        """Samples of each source from what is held out, by name."""
        number = self.config.validation_pairs
        found = {}
        for index, source in enumerate(self.sources):
            pairs = source.pairs(number, _seed(seed + 1_000_000, index), held_out=True)
            found[source.config.name or source.config.kind] = [pairs[i] for i in range(number)]
        return found


def _seed(seed: int, number: int) -> int:
    """A seed of its own for each source."""
    return int(np.random.default_rng([seed, number]).integers(2**31))


class _Source:
    def __init__(self, config: SourceConfig, data: MatchingDataConfig) -> None:
        if config.kind not in KINDS:
            raise InputError(f"Source of kind {config.kind!r}: expected one of {', '.join(KINDS)}.")
        if data.hold_out < 2:
            raise InputError(f"data.hold_out={data.hold_out}: expected 2 or more.")
        if len(data.size) != 2:
            raise InputError(f"data.size={data.size}: expected [height, width].")
        self.config, self.hold_out = config, data.hold_out
        self.size = (data.size[0], data.size[1])
        self.folders = [Path(data.root) / folder for folder in config.folders]

    def pairs(self, length: int, seed: int, held_out: bool) -> Dataset[Sample]:
        return {"photos": self._photos, "maps": self._maps, "city": self._city, "sfm": self._sfm}[
            self.config.kind
        ](length, seed, held_out)

    def _share(self, items: list[Any], held_out: bool) -> list[Any]:
        """Those held out, or the others."""
        last = self.hold_out - 1
        chosen = [item for i, item in enumerate(items) if (i % self.hold_out == last) == held_out]
        if not chosen:
            raise InputError(
                f"{len(items)} images in {', '.join(map(str, self.folders))} are too few to hold out one of"
                f" {self.hold_out}: lower data.hold_out."
            )
        return chosen

    @cached_property
    def _loaded_photos(self) -> list[npt.NDArray[np.uint8]]:
        return load_photos(self.folders)

    @cached_property
    def _labelled(self) -> list[LabelledImage]:
        return [file for folder in self.folders for file in find_labelled_images(folder)]

    def _photos(self, length: int, seed: int, held_out: bool) -> Dataset[Sample]:
        config = self.config
        views = HomographyConfig(
            config.transform,
            config.max_rotation,
            config.max_roll,
            scale=(1 / config.max_scale, config.max_scale),
            perspective=config.perspective,
        )
        photos = self._share(self._loaded_photos, held_out)
        return HomographyPairs(
            photos, self.size, seed, length, views, config.change, config.other_change, config.both
        )

    def _maps(self, length: int, seed: int, held_out: bool) -> Dataset[Sample]:
        return MapPairs(
            self._share(self._labelled, held_out),
            self.size,
            seed,
            length,
            photo_pairs=self.config.photo_pairs,
            inverted=self.config.inverted,
            max_rotation=self.config.max_rotation,
            max_scale=self.config.max_scale,
            clean="photo",
        )

    def _city(self, length: int, seed: int, held_out: bool) -> Dataset[Sample]:
        folders = self.folders[-1:] if held_out else self.folders[:-1] or self.folders
        return CityPairs(folders, self.size, seed, length)

    def _sfm(self, length: int, seed: int, held_out: bool) -> Dataset[Sample]:
        folders = self.folders[-1:] if held_out else self.folders[:-1] or self.folders
        scenes = [SfmPairs(path / "sparse", path / "images", self.size, seed, length) for path in folders]
        return MixedPairs(scenes, [1.0] * len(scenes), length, seed)
