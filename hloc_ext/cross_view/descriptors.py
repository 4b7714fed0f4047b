"""Descriptors of the panoramas and tiles of a data set, under the conditions that a query may come in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from ..datasets.cross_view.augment import field_of_view_columns
from ..datasets.cross_view.layout import CrossViewSet, check_untouched
from ..datasets.cross_view.pairs import CrossViewImages
from ..errors import InputError
from ..extractors.cross_view import CrossViewDescriptor
from ..extractors.cross_view_weights import load_cross_view
from ..formats.images import prefetch
from ..models.cross_view import VIEWS, turned

Floats = npt.NDArray[np.float64]
Descriptors = npt.NDArray[np.float32]

#: Pictures that go through a network at once. It is always the same number, so that equal pictures get the
#: same bits wherever they stand in the data set.
BATCH_SIZE = 16
#: Pixels that a picture must be wide: networks reduce it by 32.
MIN_WIDTH = 32


@dataclass(frozen=True)
class Condition:
    """How a query comes.

    Attributes:
        fov: degrees that it is wide; a whole panorama is cropped to them, a narrower photo stays as it is.
        heading_known: whether its heading is used. If not, panoramas are turned by a random angle.
    """

    fov: float = 360.0
    heading_known: bool = True

    @property
    def name(self) -> str:
        """For tables, e.g. ``90°, unknown heading``."""
        return f"{self.fov:g}°, {'known' if self.heading_known else 'unknown'} heading"


#: Fields of view and headings of the tables, as in the literature on limited fields of view (DSM of Shi et
#: al., CVPR 2020, and after it).
CONDITIONS = tuple(Condition(fov, known) for known in (True, False) for fov in (360.0, 180.0, 90.0, 70.0))


@dataclass(frozen=True)
class GroundDescriptors:
    """Descriptors of Q queries.

    Attributes:
        values: (Q, D); (Q, T, D) if a network can turn descriptors (``polar`` pooling) and a heading is not
            known: one for each of T headings.
        headings: (Q, T) azimuth of the picture's centre column that each descriptor supposes, degrees; NaN
            where it supposes none.
        true_headings: (Q,) azimuth of the centre column, NaN unknown; for evaluation only.
    """

    values: Descriptors
    headings: Floats
    true_headings: Floats


class CrossViewNetworks:
    """The networks of the views that are needed.

    Args:
        files: weights; one file for both views, or one for each view (names of weights of the package or
            files).
        views: the views that will be described; None: those that the files describe.

    Attributes:
        models: of these views.
        about: digests of the weights of all views in the files, and the numbers of a descriptor; an index
            keeps them, so that queries by other weights are refused.
        device: where the networks are.

    Raises:
        MissingInputError, CorruptFileError: weights do not exist or cannot be read.
        InputError: a view is described by none, or by several files; the descriptors differ in size.
    """

    def __init__(self, files: Sequence[Path | str], views: Sequence[str] | None = VIEWS) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.models: dict[str, CrossViewDescriptor] = {}
        self.about: dict[str, Any] = {}
        for file in files:
            for view in load_cross_view(file)[1].sizes:
                if f"{view} weights" in self.about:
                    raise InputError(f"Two of the weights {list(map(str, files))} describe {view} pictures.")
                model = CrossViewDescriptor({"weights": str(file), "view": view})
                self.about[f"{view} weights"] = fingerprint(model)
                if views is None or view in views:
                    self.models[view] = model.to(self.device).eval()
        if missing := [view for view in views or () if view not in self.models]:
            raise InputError(
                f"None of the weights {list(map(str, files))} describes {' or '.join(missing)} pictures:"
                " give the weights of that view, too."
            )
        dims = {view: model.dim for view, model in self.models.items()}
        if len(set(dims.values())) > 1:
            raise InputError(
                f"The weights make descriptors of different sizes, {dims}: give such of one training."
            )
        self.about["numbers"] = next(iter(dims.values()))

    def check_untouched(self, pairs: CrossViewSet) -> None:
        """Raise an error if a network was trained with a test set.

        Raises:
            InputError: see :func:`~hloc_ext.datasets.cross_view.layout.check_untouched`.
        """
        for model in self.models.values():
            check_untouched(model.info.provenance or (), pairs.provenance, str(model.conf["weights"]))

    @torch.inference_mode()
    def describe_tiles(self, pairs: CrossViewSet, batch_size: int = BATCH_SIZE) -> Descriptors:
        """(M, D) descriptors of the tiles of a data set.

        Raises:
            MissingInputError, CorruptFileError: a tile cannot be read.
        """
        model = self.models["aerial"]
        images = CrossViewImages(pairs, "aerial", model.info.sizes["aerial"])
        found = [model.net(batch, "aerial").cpu().numpy() for batch, _ in self._batches(images, batch_size)]
        return _joined(found, len(images))

    def describe_grounds(
        self,
        pairs: CrossViewSet,
        condition: Condition | None = None,
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
    ) -> GroundDescriptors:
        """Descriptors of the panoramas or photos of a data set.

        Args:
            pairs: the data set. Photos whose heading is unknown are described for all headings.
            condition: how they come; None: as they are.
            seed: of the random headings of whole panoramas.
            batch_size: see :data:`BATCH_SIZE`.

        Raises:
            MissingInputError, CorruptFileError: a picture cannot be read.
        """
        condition = condition or Condition()
        model, number = self.models["ground"], len(pairs)
        sectors = model.sectors
        values = np.empty((number, model.dim), np.float32)
        headings = np.full(number, np.nan)
        for fov, rows in by_field_of_view(pairs, condition.fov):
            images = ground_images(pairs.subset(rows), model, fov, condition, seed)
            found = [
                (self._ground(model, batch), sample) for batch, sample in self._batches(images, batch_size)
            ]
            values[rows] = _joined([descriptor for descriptor, _ in found], len(rows))
            headings[rows] = np.concatenate([heading for _, heading in found])[: len(rows)]
        known = np.isfinite(headings) & condition.heading_known
        if sectors == 1:
            return GroundDescriptors(values, np.where(known, headings, np.nan)[:, None], headings)
        return _turned(values, headings, known, sectors)

    @torch.inference_mode()
    def _ground(self, model: CrossViewDescriptor, batch: Tensor) -> Descriptors:
        return model.net(batch, "ground").cpu().numpy()

    def _batches(self, images: CrossViewImages, size: int) -> Iterator[tuple[Tensor, Floats]]:
        """Pictures B×3×H×W on the device, always `size` of them, and the headings of their centre columns."""
        numbers = np.arange(-(-len(images) // size) * size).clip(max=len(images) - 1)
        workers = os.cpu_count() or 1
        samples = prefetch(images.__getitem__, numbers.tolist(), workers, size + workers)
        for _ in tqdm(range(len(numbers) // size), desc=f"describing {images.view}", leave=False):
            batch = [next(samples) for _ in range(size)]
            stacked = torch.stack([sample["image"] for sample in batch]).to(self.device)
            yield stacked, np.array([float(sample["heading"]) for sample in batch])


def _joined(found: Sequence[Descriptors], number: int) -> Descriptors:
    return np.ascontiguousarray(np.concatenate(found)[:number], np.float32)


def by_field_of_view(pairs: CrossViewSet, widest: float = 360.0) -> list[tuple[float, npt.NDArray[np.int64]]]:
    """Queries that have the same width, so that they go through a network together.

    Args:
        pairs: the data set. A photo whose field of view is unknown counts as 360 degrees wide.
        widest: degrees that wider ones are cropped to.

    Returns:
        Degrees, and the numbers of the panoramas or photos.
    """
    widths = np.minimum(np.where(np.isfinite(pairs.fields_of_view), pairs.fields_of_view, 360.0), widest)
    return [(float(fov), np.flatnonzero(widths == fov)) for fov in np.unique(widths)]


def ground_images(
    pairs: CrossViewSet, model: CrossViewDescriptor, fov: float, condition: Condition, seed: int = 0
) -> CrossViewImages:
    """Pictures of the ground view at the size of a network; see :class:`CrossViewNetworks`.

    Raises:
        InputError: they would be too narrow for it.
    """
    width = field_of_view_columns(model.info.sizes["ground"][1], fov)
    if width < MIN_WIDTH:
        raise InputError(
            f"A field of view of {fov:g} degrees is {width} pixels wide to {model.conf['weights']}, which"
            f" needs {MIN_WIDTH}: use weights for larger panoramas, or leave the photo out."
        )
    return CrossViewImages(
        pairs,
        "ground",
        model.info.sizes["ground"],
        fov=fov,
        unknown_heading=not condition.heading_known,
        seed=seed,
    )


def _turned(values: Descriptors, headings: Floats, known: Any, sectors: int) -> GroundDescriptors:
    """Polar descriptors for the headings that are known, and for all where they are not."""
    turns = turned(torch.from_numpy(values), sectors).numpy().swapaxes(0, 1)  # (Q, S, D)
    angles = np.arange(sectors) * 360 / sectors
    given = np.round(np.where(known, headings, 0) * sectors / 360).astype(int) % sectors
    chosen = turns[np.arange(len(values)), given]
    if known.all():
        return GroundDescriptors(chosen, headings[:, None], headings)
    several = np.where(known[:, None, None], chosen[:, None], turns)
    supposed = np.where(known[:, None], headings[:, None], angles)
    return GroundDescriptors(np.ascontiguousarray(several), supposed, headings)


def fingerprint(model: CrossViewDescriptor) -> str:
    """Digest of a network's weights, by which an index knows what it was made with."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return digest.hexdigest()[:16]


def count_parameters(models: Iterable[CrossViewDescriptor]) -> list[int]:
    """Parameters of the encoder of each model: what describing its view takes."""
    return [sum(p.numel() for p in model.encoder.parameters()) for model in models]
