"""Pairs of two views of one photo under a known homography, with photometric changes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import InputError
from .homography import STREET, HomographyConfig, plane_correspondences, random_views, warp_view
from .images import check_photos
from .photometric import STRONG, ChangeConfig, change_picture, find_change, mix_grey, to_uint8
from .samples import Pixels, as_sample, checked_size

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
        self.size = checked_size(size)
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
        number = int(rng.integers(len(self.photos)))
        photo = self.photos[number]
        photo_size = (photo.shape[0], photo.shape[1])
        transforms = random_views(rng, photo_size, self.size, self.views)
        seen = [warp_view(photo, transform, self.size) for transform in transforms]
        matches = [
            plane_correspondences(first, second, photo_size, self.size)
            for first, second in (transforms, transforms[::-1])
        ]
        if rng.random() < self.unrelated:
            seen[1] = self._view_of_another(number, rng)
            matches = [(np.zeros_like(points), np.zeros_like(valid)) for points, valid in matches]
        changes = [self.change, self.change if rng.random() < self.both else self.other_change]
        if rng.random() < 0.5:
            changes.reverse()
        images = [change_picture(view, rng, change) for view, change in zip(seen, changes, strict=True)]
        clean = [to_uint8(mix_grey(view, rng)) for view in seen]
        return as_sample(images, clean, matches)

    def _view_of_another(self, number: int, rng: np.random.Generator) -> Pixels:
        """A view of a photo other than that of this number."""
        other = self.photos[(number + int(rng.integers(1, len(self.photos)))) % len(self.photos)]
        transform, _ = random_views(rng, (other.shape[0], other.shape[1]), self.size, self.views)
        return warp_view(other, transform, self.size)
