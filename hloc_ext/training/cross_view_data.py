"""What cross-view networks are trained and validated on: pairs of one data set, not of its test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..datasets.cross_view.layout import CrossViewSet, open_set, provenance_of_test
from ..datasets.cross_view.neighbours import near_tiles, similar_tiles
from ..datasets.cross_view.pairs import CrossViewImages, CrossViewPairs, Sample
from ..datasets.cross_view.sampler import NeighbourBatches
from ..errors import InputError
from ..evaluation.cross_view import rank_references

Descriptors = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
#: (height, width) in pixels of the images of each view.
Sizes = dict[str, tuple[int, int]]

#: Recall at these numbers of tiles is told, in percent.
RANKS = (1, 5, 10)
_EMBED_BATCH = 64


@dataclass
class CrossViewDataConfig:
    """Where the data lies, how pairs are changed, and which are learnt together."""

    root: str = "data"
    layout: str = ""  # cvusa, cvact, vigor or folder; empty: that of the folders that are there
    area: str = "same"  # of VIGOR: or cross
    val_share: float = 0.1  # of the training pairs, by region; the best network on them is kept
    missing: str = "error"  # or skip: leave out pairs whose files are missing
    labels: str = ""  # folder of class maps; empty: tile_labels in the root
    augment: bool = True
    fov: float = 360.0  # degrees of the panoramas that are seen
    unknown_heading: bool = False  # cameras look anywhere
    neighbours: int = 128  # tiles near a panorama's that its batch is drawn from; 0: batches at random
    select: int = 0  # of them that join a panorama; 0: half a batch
    first_neighbours: bool = True  # on the ground; otherwise the first batches are drawn at random
    refresh_epochs: int = 4  # after which neighbours are those that look alike ("DSS"); 0: never
    keep: bool = False  # resized pictures stay in memory, of each process


@dataclass(frozen=True)
class SampleOptions:
    """What the samples of a recipe hold beside the two views.

    Attributes:
        label_size: pixels per side of the class map of the tile; None: none.
        teacher_sizes: sizes of the views that a teacher sees; None: no teacher.
        teacher_clean: the teacher's views are turned as the student's, and otherwise as they are.
    """

    label_size: int | None = None
    teacher_sizes: Sizes | None = None
    teacher_clean: bool = False


class CrossViewData:
    """Training and validation pairs of a configuration.

    Args:
        config: data set and sampling.
        sizes: of the network's images.
        options: what else samples hold.

    Raises:
        InputError: a value that cannot be used.
        MissingInputError, CorruptFileError: data that do not exist or cannot be read.
    """

    def __init__(
        self, config: CrossViewDataConfig, sizes: Sizes, options: SampleOptions | None = None
    ) -> None:
        if config.neighbours < 0 or config.select < 0 or config.refresh_epochs < 0:
            raise InputError(
                f"data.neighbours={config.neighbours}, data.select={config.select},"
                f" data.refresh_epochs={config.refresh_epochs}: expected 0 or more."
            )
        self.config, self.sizes = config, sizes
        self.options = options or SampleOptions()
        self.training_pairs = self._open("train")
        self.validation_pairs = self._open("val") if config.val_share else None

    @property
    def provenance(self) -> frozenset[str]:
        """What a network that is trained with the data has seen, and was selected by."""
        selected = frozenset() if self.validation_pairs is None else self.validation_pairs.provenance
        return self.training_pairs.provenance | selected

    @property
    def test_provenance(self) -> frozenset[str]:
        """What the test split of the data set is made of."""
        pairs = self.training_pairs
        return provenance_of_test(pairs.name, pairs.area or "same", pairs.root)

    def samples(self, batches: Indices, seed: int) -> Dataset[Sample]:
        """Samples of batches, (M, B) numbers of pairs, in that order."""
        options, sizes = self.options, self.options.teacher_sizes
        return CrossViewPairs(
            self.training_pairs,
            self.sizes["ground"],
            self.sizes["aerial"],
            augment=self.config.augment,
            fov=self.config.fov,
            unknown_heading=self.config.unknown_heading,
            label_size=options.label_size,
            teacher_sizes=None if sizes is None else (sizes["ground"], sizes["aerial"]),
            teacher_clean=options.teacher_clean,
            batches=batches,
            seed=seed,
            keep=self.config.keep,
        )

    def draw_batches(
        self, batch_size: int, epochs: Sequence[int], seed: int, neighbours: Indices | None
    ) -> Indices:
        """Pairs that are learnt together, (M, B), of some epochs, one after the other.

        Raises:
            InputError: not one batch can be made, because the pairs are too near to each other.
        """
        sampler = NeighbourBatches(
            self.training_pairs, batch_size, neighbours, self.config.select or None, seed
        )
        drawn = np.concatenate([sampler.epoch(epoch) for epoch in epochs])
        if not len(drawn):
            raise InputError(
                f"No batch of {batch_size} can be made of {len(self.training_pairs)} pairs: tiles that show a"
                " panorama of the batch must not be its negatives, too. Use a larger data set, or a smaller"
                " trainer.batch_size."
            )
        return drawn

    def near(self) -> Indices | None:
        """Tiles on the ground near that of each panorama, (N, K); None if batches start at random."""
        if not self.config.neighbours or not self.config.first_neighbours:
            return None
        return near_tiles(self.training_pairs, self.config.neighbours)

    def alike(self, network: nn.Module) -> Indices:
        """Tiles that look most like each panorama to a network in evaluation mode, (N, K)."""
        grounds, aerials = (
            embed_view(network, self.training_pairs, view, self.sizes[view], self.config)
            for view in ("ground", "aerial")
        )
        return similar_tiles(self.training_pairs, grounds, aerials, self.config.neighbours)

    def figures(self, network: nn.Module) -> dict[str, float]:
        """Recall in percent on the validation pairs, by a network in evaluation mode; empty without them."""
        pairs = self.validation_pairs
        if pairs is None:
            return {}
        grounds, aerials = (
            embed_view(network, pairs, view, self.sizes[view], self.config) for view in ("ground", "aerial")
        )
        ranks = rank_references(grounds, aerials, pairs.positives)
        return {f"R@{k}": round(100 * ranks.recall(k), 2) for k in RANKS}

    def _open(self, split: str) -> CrossViewSet:
        config = self.config
        return open_set(
            config.root,
            split,
            config.area,
            config.layout or None,
            val_share=config.val_share,
            missing=config.missing,
            labels=Path(config.labels) if config.labels else None,
        )


@torch.no_grad()
def embed_view(
    network: nn.Module,
    pairs: CrossViewSet,
    view: str,
    size: tuple[int, int],
    config: CrossViewDataConfig | None = None,
    geometry: int = 0,
) -> Descriptors:
    """Embeddings of all images of a view, (N, D), by ``network(image, view)`` in evaluation mode.

    Args:
        network: on any device.
        pairs: the images.
        view: ``ground`` or ``aerial``.
        size: (height, width) in pixels.
        config: field of view and heading of the panoramas; None: whole, with known heading.
        geometry: how all images are turned (:class:`~hloc_ext.datasets.cross_view.augment.Geometry`).
    """
    config = config or CrossViewDataConfig()
    images = CrossViewImages(
        pairs,
        view,
        size,
        fov=config.fov,
        unknown_heading=config.unknown_heading and view == "ground",
        geometry=geometry,
    )
    device = next(network.parameters()).device
    loader = DataLoader(images, batch_size=_EMBED_BATCH)
    return np.concatenate(
        [network(batch["image"].to(device), view).float().cpu().numpy() for batch in loader]
    )
