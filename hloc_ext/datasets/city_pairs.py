"""Pairs of street views of made-up cities, by day and by night, with matches from depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ..errors import InputError
from .city_views import CityViews, read_views
from .depth_geometry import DepthView, transfer
from .homography import cell_centers, inside
from .photometric import PhotometricChange
from .samples import Matches, Matrix, PhotoChange, as_sample, changed, checked_size, shared_crops, view

#: Changes of both pictures beside those of light and sensor that they were rendered with.
PICTURE_CHANGE = PhotometricChange("mild")
#: Pairs are drawn from so many equally wide ranges of overlap, each as often as the others.
_RANGES = 4
# First word of the seeds of what this module draws.
_CITY_PAIRS = 641


class CityPairs(Dataset[dict[str, torch.Tensor]]):
    """Street views that overlap, of which cars, people and light differ.

    Samples are those of :func:`~hloc_ext.datasets.samples.as_sample`. A cell is valid where the depth of
    the static scene is known in both views, nothing hides the point in the other view, and no car or person
    is in front of it in either picture. The clean images are the pictures as rendered.

    Args:
        folders: of views, each of one city, see :func:`~hloc_ext.datasets.city_views.render_views`.
        size: (height, width) of the samples, multiples of 8, or the side of a square: crops of the pictures
            around what both see, slightly enlarged or reduced.
        seed: of all samples.
        length: number of samples.
        overlap: least and greatest share of what a view sees that the other one sees as well; the smaller of
            both directions counts.
        night: share of the samples with one picture by night, the other by day.
        both_night: share with two pictures by night.
        photo_change: change of each picture; None shows it as it is.

    Raises:
        InputError: no pair of views overlaps as wanted, or the size cannot be used.
        MissingInputError, CorruptFileError: a folder holds no finished views.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        size: int | tuple[int, int] = 256,
        seed: int = 0,
        length: int = 10_000,
        overlap: tuple[float, float] = (0.2, 0.9),
        night: float = 0.4,
        both_night: float = 0.1,
        photo_change: PhotoChange | None = PICTURE_CHANGE,
    ) -> None:
        self.size = checked_size(size)
        self.seed, self.length, self.photo_change = seed, length, photo_change
        self.night, self.both_night = night, both_night
        self.cities = [read_views(Path(folder)) for folder in folders]
        self.pairs = _overlapping(self.cities, overlap)
        if not any(map(len, self.pairs)):
            raise InputError(
                f"No pair of the views in {', '.join(str(folder) for folder in folders)} has an overlap from"
                f" {overlap[0]:g} to {overlap[1]:g}: render more views of a city."
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, _CITY_PAIRS, index])
        pairs = self.pairs[rng.integers(len(self.pairs))]
        number, *chosen = (int(value) for value in pairs[rng.integers(len(pairs))])
        city = self.cities[number]
        chosen = [chosen[i] for i in rng.permutation(2)]
        conditions = self._conditions(rng)
        views = [city.depth_view(i, condition) for i, condition in zip(chosen, conditions, strict=True)]
        height, width = views[0].inverse_depth.shape
        everywhere = cell_centers((height, width))
        points, valid = transfer(views[0], views[1], everywhere)
        shared = everywhere[valid], points[valid]
        crops = shared_crops([(height, width)] * 2, shared, self.size, rng)
        clean = [
            view(city.picture(i, condition), crop, self.size)
            for i, condition, crop in zip(chosen, conditions, crops, strict=True)
        ]
        images = [changed(picture, self.photo_change, rng) for picture in clean]
        matches = [_matches(views[i], views[1 - i], crops[i], crops[1 - i], self.size) for i in (0, 1)]
        return as_sample(images, clean, matches)

    def _conditions(self, rng: np.random.Generator) -> list[str]:
        choice = rng.random()
        if choice < self.both_night:
            return ["night", "night"]
        if choice < self.both_night + self.night:
            return ["day", "night"] if rng.random() < 0.5 else ["night", "day"]
        return ["day", "day"]


def _overlapping(cities: Sequence[CityViews], limits: tuple[float, float]) -> list[npt.NDArray[np.int64]]:
    """Pairs by ranges of their overlap, each (M, 3): number of the city, two views."""
    rows, shares = [np.empty((0, 3), np.int64)], [np.empty(0)]
    for number, city in enumerate(cities):
        mutual = np.minimum(city.overlap, city.overlap.T)
        first, second = np.nonzero(np.triu((mutual >= limits[0]) & (mutual <= limits[1]), k=1))
        rows.append(np.column_stack([np.full(len(first), number), first, second]))
        shares.append(mutual[first, second])
    pairs, share = np.concatenate(rows), np.concatenate(shares)
    width = max(limits[1] - limits[0], 1e-9) / _RANGES
    ranges = np.clip(((share - limits[0]) / width).astype(int), 0, _RANGES - 1)
    return [pairs[ranges == number] for number in np.unique(ranges)]


def _matches(
    here: DepthView, there: DepthView, crop: Matrix, other_crop: Matrix, size: tuple[int, int]
) -> Matches:
    """Where the cells of a crop of one view lie in a crop of another, (N, 2), and whether they do, (N,)."""
    pixels = cell_centers(size) * crop[0, 0] + crop[:2, 2]
    points, valid = transfer(here, there, pixels)
    points = (points - other_crop[:2, 2]) / other_crop[0, 0]
    return points, valid & inside(points, size)
