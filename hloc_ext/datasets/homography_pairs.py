"""Pairs of two views of one photo under a known homography, with photometric changes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ..errors import InputError
from .homography import (
    CELL,
    STREET,
    Floats,
    HomographyConfig,
    cell_centers,
    plane_correspondences,
    random_views,
    warp_view,
)
from .images import check_photos
from .photometric import STRONG, ChangeConfig, change_picture, find_change, mix_grey, to_uint8

Pixels = npt.NDArray[np.uint8]

# First word of the seeds of what this module draws.
_HOMOGRAPHY_PAIRS = 601


def init_worker(worker_id: int) -> None:
    """Keep OpenCV to one thread in a worker of a DataLoader; pass it as ``worker_init_fn``."""
    cv2.setNumThreads(0)


class HomographyPairs(Dataset[dict[str, torch.Tensor]]):
    """Two views of a photo, changed at random; see :mod:`hloc_ext.datasets` for the sample.

    Args:
        photos: (H, W, 3) RGB or (H, W), uint8, as :func:`~hloc_ext.datasets.images.load_photos` returns.
        size: (height, width) of the views, multiples of 8, or the side of a square.
        seed: of all samples; another one gives others.
        length: number of samples.
        views: ranges of the transform between the views.
        change: of the changed view, a name of :data:`~hloc_ext.datasets.photometric.CHANGES` or a
            configuration.
        other_change: of the other view.
        both: share of the pairs in which both views have `change`.
        unrelated: share of the pairs that show two photos: no point of them is valid.

    Raises:
        InputError: no photo, or an option that cannot be used.
    """

    def __init__(
        self,
        photos: Sequence[Pixels],
        size: int | tuple[int, int] = 256,
        seed: int = 0,
        length: int = 10_000,
        views: HomographyConfig = STREET,
        change: ChangeConfig | str = STRONG,
        other_change: ChangeConfig | str = "mild",
        both: float = 0.5,
        unrelated: float = 0.02,
    ) -> None:
        check_photos(photos)
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if min(self.size) < CELL or any(side % CELL for side in self.size):
            raise InputError(f"Size {self.size} of the views: expected multiples of {CELL}.")
        if length < 1:
            raise InputError(f"length={length}: expected 1 or more.")
        if unrelated > 0 and len(photos) < 2:
            raise InputError(f"unrelated={unrelated} needs two photos, there is one: set it to 0.")
        self.photos, self.seed, self.length = photos, seed, length
        self.views, self.both, self.unrelated = views, both, unrelated
        self.change = find_change(change) if isinstance(change, str) else change
        self.other_change = find_change(other_change) if isinstance(other_change, str) else other_change

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, _HOMOGRAPHY_PAIRS, index])
        photo = self.photos[int(rng.integers(len(self.photos)))]
        photo_size = (photo.shape[0], photo.shape[1])
        transforms = random_views(rng, photo_size, self.size, self.views)
        seen = [warp_view(photo, transform, self.size) for transform in transforms]
        related = rng.random() >= self.unrelated
        if not related:
            seen[1] = self._view_of_another(photo, rng)
        changes = [self.change, self.change if rng.random() < self.both else self.other_change]
        if rng.random() < 0.5:
            changes.reverse()
        images = [change_picture(view, rng, change) for view, change in zip(seen, changes, strict=True)]
        clean = [to_uint8(mix_grey(view, rng)) for view in seen]
        return make_sample(images, clean, transforms, photo_size, related)

    def _view_of_another(self, photo: Pixels, rng: np.random.Generator) -> Pixels:
        """A view of a photo other than this one."""
        other = photo
        while other is photo:
            other = self.photos[int(rng.integers(len(self.photos)))]
        transform, _ = random_views(rng, (other.shape[0], other.shape[1]), self.size, self.views)
        seen = warp_view(other, transform, self.size)
        if seen.ndim == photo.ndim:
            return seen
        return np.asarray(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), np.uint8) if seen.ndim == 3 else seen


def make_sample(
    images: Sequence[Pixels],
    clean: Sequence[Pixels],
    transforms: tuple[Floats, Floats],
    photo_size: tuple[int, int],
    related: bool = True,
) -> dict[str, torch.Tensor]:
    """Training sample of two views of one photo.

    Args:
        images: two (H, W) pictures, changed.
        clean: the same without changes.
        transforms: ``photo_from_view`` of both, (3, 3).
        photo_size: (height, width) of the photo.
        related: False: no point is valid.

    Returns:
        The dictionary that :mod:`hloc_ext.datasets` describes.
    """
    size = (int(images[0].shape[0]), int(images[0].shape[1]))
    if related:
        points1, valid1 = plane_correspondences(transforms[0], transforms[1], photo_size, size)
        points0, valid0 = plane_correspondences(transforms[1], transforms[0], photo_size, size)
    else:
        points1 = points0 = np.zeros_like(cell_centers(size))
        valid1 = valid0 = np.zeros(len(points1), bool)
    pictures = {"image0": images[0], "image1": images[1], "clean0": clean[0], "clean1": clean[1]}
    sample = {name: torch.from_numpy(picture)[None].float() / 255 for name, picture in pictures.items()}
    return sample | {
        "points1": torch.from_numpy(points1.astype(np.float32)),
        "valid1": torch.from_numpy(valid1.copy()),
        "points0": torch.from_numpy(points0.astype(np.float32)),
        "valid0": torch.from_numpy(valid0.copy()),
    }
