"""Samples of cross-view training, and the pictures of one view for an index."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ...errors import InputError, MissingInputError
from .augment import UNCHANGED, Change, Geometry, draw_change, draw_marginal
from .layout import CrossViewSet
from .neighbours import used_tiles
from .pictures import MAKE_LABELS, Pictures, Size, normalized

Sample = dict[str, torch.Tensor]
Pixels = npt.NDArray[np.uint8]

VIEWS = ("ground", "aerial")

# First words of the seeds of what this module draws.
_PAIRS = 721
_TURNS = 722


class CrossViewPairs(Dataset[Sample]):
    """Pairs of a panorama and its tile.

    A sample holds:

        ground          (3, Hg, Wg · fov / 360) float32, normalised with ImageNet's mean and variance
        aerial          (3, Ha, Wa) float32, likewise
        pair            number of the panorama
        tile            number of the tile
        heading         azimuth of the centre column of `ground` in the tile, degrees clockwise from its
                        upper side; 0 unless `unknown_heading`, NaN unknown
        geometry        number of the :class:`~hloc_ext.datasets.cross_view.augment.Geometry`
        offset          (2,) float32 where the camera stands, from the centre of the tile, as a share of its
                        width: x to the right, y down
        label           (L, L) int64 class map of the tile, with `label_size`
        teacher_ground, teacher_aerial    the same at the teacher's sizes, with `teacher_sizes`

    With `augment` a pair is mirrored and turned together, and each view is changed in colour, blurred and
    covered in parts. With a teacher, both networks see the same geometry and the same of these changes, and
    each its own small change on top ("marginal perturbations").

    Samples depend on seed, epoch and number alone.

    Args:
        pairs: the set.
        ground_size: (Hg, Wg) of a whole panorama, pixels.
        aerial_size: (Ha, Wa).
        augment: change the pictures; otherwise they are as they are.
        fov: width of the ground view, degrees; the columns around the centre one.
        unknown_heading: turn the camera by any angle.
        label_size: L; None: without labels.
        teacher_sizes: (height, width) of the teacher's panorama and tile; None: without a teacher.
        teacher_clean: the teacher sees the geometry only, none of the other changes.
        batches: (M, B) numbers of panoramas: sample b of batch m has number m · B + b. None: number n is
            panorama n.
        epoch: part of the seed.
        seed: of all samples.
        keep: keep the resized pictures in memory, 3 bytes per pixel; those of small sets are read only once.

    Raises:
        InputError: an option out of range, or a panorama without a tile.
        MissingInputError: labels are asked for and not there.
    """

    def __init__(
        self,
        pairs: CrossViewSet,
        ground_size: Size = (140, 768),
        aerial_size: Size = (384, 384),
        *,
        augment: bool = False,
        fov: float = 360.0,
        unknown_heading: bool = False,
        label_size: int | None = None,
        teacher_sizes: tuple[Size, Size] | None = None,
        teacher_clean: bool = False,
        batches: npt.ArrayLike | None = None,
        epoch: int = 0,
        seed: int = 0,
        keep: bool = False,
    ) -> None:
        _check_view(fov, [ground_size, aerial_size, *(teacher_sizes or ())])
        used_tiles(pairs)
        if augment and aerial_size[0] != aerial_size[1]:
            raise InputError(f"aerial_size={aerial_size}: tiles that are turned by quarters must be square.")
        if label_size is not None:
            _check_labels(pairs)
        self.pairs, self.augment, self.fov, self.unknown_heading = pairs, augment, fov, unknown_heading
        self.sizes = (ground_size, aerial_size)
        self.label_size, self.teacher_sizes, self.teacher_clean = label_size, teacher_sizes, teacher_clean
        self.epoch, self.seed = epoch, seed
        self.numbers = np.arange(len(pairs)) if batches is None else np.asarray(batches, np.int64).ravel()
        if self.numbers.size and not 0 <= self.numbers.min() <= self.numbers.max() < len(pairs):
            raise InputError(
                f"batches name panoramas from {self.numbers.min()} to {self.numbers.max()}:"
                f" the set has {len(pairs)}."
            )
        self._pictures = Pictures(pairs, keep)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Sample:
        if not 0 <= number < len(self.numbers):
            raise IndexError(number)
        rng = np.random.default_rng([self.seed, _PAIRS, self.epoch, number])
        pair = int(self.numbers[number])
        tile = int(self.pairs.positives[pair])
        geometry = Geometry.draw(rng) if self.augment else Geometry()
        turn = _draw_turn(rng, self.sizes[0][1]) if self.unknown_heading else 0.0
        views, heading = self._views(pair, tile, self.sizes, geometry, turn)
        teacher = None
        if self.teacher_sizes is not None:
            teacher, _ = self._views(pair, tile, self.teacher_sizes, geometry, turn)
        sample = self._changed(views, teacher, rng)
        sample |= {
            "pair": torch.tensor(pair),
            "tile": torch.tensor(tile),
            "heading": torch.tensor(heading, dtype=torch.float32),
            "geometry": torch.tensor(geometry.number),
            "offset": torch.from_numpy(geometry.offset(self.pairs.offsets[pair]).astype(np.float32)),
        }
        if self.label_size is not None:
            label = self._pictures.label(tile, self.label_size, geometry)
            sample["label"] = torch.from_numpy(label.astype(np.int64))
        return sample

    def _views(
        self, pair: int, tile: int, sizes: tuple[Size, Size], geometry: Geometry, turn: float
    ) -> tuple[list[Pixels], float]:
        """Panorama and tile, and the azimuth of the former's centre column."""
        ground, heading = self._pictures.ground(pair, sizes[0], self.fov, geometry, turn)
        return [ground, self._pictures.aerial(tile, sizes[1], geometry)], heading

    def _changed(self, views: list[Pixels], teacher: list[Pixels] | None, rng: np.random.Generator) -> Sample:
        """The views with their photometric changes."""
        sample = {}
        for number, name in enumerate(VIEWS):
            picture = views[number]
            aspect = picture.shape[1] / picture.shape[0]
            shared = draw_change(rng, aspect) if self.augment else UNCHANGED
            own: list[Change] = [UNCHANGED, UNCHANGED]
            if self.augment and teacher is not None:
                own = [draw_marginal(rng, aspect) for _ in range(2)]
            sample[name] = normalized(own[0].apply(shared.apply(picture)))
            if teacher is not None:
                seen = teacher[number]
                if not self.teacher_clean:
                    seen = own[1].apply(shared.apply(seen))
                sample[f"teacher_{name}"] = normalized(seen)
        return sample


class CrossViewImages(Dataset[Sample]):
    """The pictures of one view, to index or to search with; nothing is changed but what is asked for.

    A sample holds ``image`` (3, H, W) float32, ``index``, and ``heading`` as in :class:`CrossViewPairs` (NaN
    for tiles).

    Args:
        pairs: the set.
        view: ``ground`` or ``aerial``.
        size: (height, width) of a tile or a whole panorama, pixels.
        fov: width of the ground view, degrees.
        unknown_heading: turn the camera by an angle that depends on seed and index.
        geometry: how all pictures are turned, by its number.
        seed: of the angles.
        keep: keep the resized pictures in memory.

    Raises:
        InputError: an option out of range.
    """

    def __init__(
        self,
        pairs: CrossViewSet,
        view: str,
        size: Size,
        *,
        fov: float = 360.0,
        unknown_heading: bool = False,
        geometry: int = 0,
        seed: int = 0,
        keep: bool = False,
    ) -> None:
        _check_view(fov, [size])
        if view not in VIEWS or not 0 <= geometry < 8:
            raise InputError(
                f"view={view!r}, geometry={geometry}: expected 'ground' or 'aerial', and 0 to 7."
            )
        self.pairs, self.view, self.size, self.fov = pairs, view, size, fov
        self.unknown_heading, self.geometry, self.seed = unknown_heading, Geometry.of(geometry), seed
        self._pictures = Pictures(pairs, keep)

    def __len__(self) -> int:
        return len(self.pairs.grounds if self.view == "ground" else self.pairs.aerials)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        heading = float("nan")
        if self.view == "ground":
            turn = 0.0
            if self.unknown_heading:
                turn = _draw_turn(np.random.default_rng([self.seed, _TURNS, index]), self.size[1])
            picture, heading = self._pictures.ground(index, self.size, self.fov, self.geometry, turn)
        else:
            picture = self._pictures.aerial(index, self.size, self.geometry)
        return {
            "image": normalized(picture),
            "index": torch.tensor(index),
            "heading": torch.tensor(heading, dtype=torch.float32),
        }


def _draw_turn(rng: np.random.Generator, width: int) -> float:
    """Share of a whole turn, by a whole number of columns."""
    return int(rng.integers(width)) / width


def _check_view(fov: float, sizes: list[Size]) -> None:
    if not 0 < fov <= 360:
        raise InputError(f"fov={fov}: expected degrees, more than 0 and at most 360.")
    if min(side for size in sizes for side in size) < 8:
        raise InputError(f"Sizes {sizes} of the pictures: expected 8 pixels or more.")


def _check_labels(pairs: CrossViewSet) -> None:
    used = used_tiles(pairs)
    missing = [pairs.aerials[tile] for tile in used if pairs.aerial_labels[tile] is None]
    if missing:
        raise MissingInputError(
            f"{len(missing)} of {len(used)} tiles have no class map, first {missing[0]}. {MAKE_LABELS}"
        )
