"""Pairs of an aerial photo and a map of the same ground, under similarity transforms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ..errors import CorruptFileError, InputError, MissingInputError
from ..formats.images import list_images, read_image
from .homography import CELL, cell_centers, plane_correspondences, warp_points
from .map_palettes import NUM_CLASSES
from .map_rendering import random_style, render_map
from .photometric import MILD, STRONG, PhotometricChange
from .samples import Matches, Matrix, PhotoChange, Pixels, as_sample, changed, checked_size, view

#: Where only some classes are annotated, cells farther than this from any of them are unknown, pixels of the
#: source image.
KNOWN_DISTANCE = 24.0
#: Sources in which only the roads are annotated.
PARTIAL_SOURCES = ("mass_roads",)

#: Default change of a photo beside a map, which is hard enough to recognise.
AERIAL_CHANGE = PhotometricChange(
    replace(
        MILD,
        tone=0.9,
        exposure=(-0.6, 0.6),
        gamma=(0.65, 1.5),
        contrast=(0.6, 1.35),
        shading=0.4,
        shadow=0.15,
        blur_sigma=(0.3, 1.2),
        resample=0.15,
        noise_sigma=(0.003, 0.04),
        jpeg_quality=(30, 95),
    )
)
#: Default change of photos beside photos: strong, but seldom by night, and seldom anything in the way.
STRONG_AERIAL_CHANGE = PhotometricChange(replace(STRONG, night=0.05, weather=0.15, occlusion=0.1))
#: Default change of the maps: as printed and scanned.
MAP_CHANGE = PhotometricChange(replace(MILD, grey_spread=0.0, shading=0.15, blur=0.4, blur_sigma=(0.4, 1.5)))

# Views are drawn again until so many of the steps from cell to cell per pixel cross a border of classes.
_ENOUGH_BORDERS, _ATTEMPTS = 0.0007, 8
# First word of the seeds of what this module draws.
_MAP_PAIRS = 611

_Views = tuple[list[Pixels], list[Pixels], tuple[Matrix, Matrix], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class LabelledImage:
    """Files of a photo and its class mask.

    Attributes:
        image: photo from above.
        label: 8-bit grey image of the same size: 0 other, 1 road, 2 sidewalk, 3 building, 4 vegetation,
            5 water.
        partial: only roads are annotated; 0 is anything else.
    """

    image: Path
    label: Path
    partial: bool = False


def find_labelled_images(root: Path, sources: Sequence[str] | None = None) -> list[LabelledImage]:
    """Find ``<source>/images/NAME.jpg`` with ``<source>/labels/NAME.png`` below a folder.

    Args:
        root: folder of the sources.
        sources: names of those wanted; None takes all.

    Raises:
        MissingInputError: no source, or an image without its mask.
    """
    root = Path(root)
    if sources is None:
        sources = sorted(path.parent.name for path in root.glob("*/labels"))
    if not sources:
        raise MissingInputError(f"No folder <source>/labels in {root}: expected images with class masks.")
    found = []
    for source in sources:
        for name in list_images(root / source / "images"):
            image = root / source / "images" / name
            label = (root / source / "labels" / name).with_suffix(".png")
            if not label.exists():
                raise MissingInputError(f"Image {image} has no mask {label}: add it, or remove the image.")
            found.append(LabelledImage(image, label, source in PARTIAL_SOURCES))
    return found


class MapPairs(Dataset[dict[str, torch.Tensor]]):
    """Aerial photos with maps of their class masks, and with themselves, under similarity transforms.

    One side is the photo, the other one a map that :func:`~hloc_ext.datasets.map_rendering.render_map` draws
    in a random style; either may be the first. Both are seen through similarity transforms of the ground; the
    map is drawn after its own, so that its lines and letters are as wide and upright as on any map.

    Samples are those of :func:`~hloc_ext.datasets.samples.as_sample`. Pixels outside of the source image are
    filled with one grey value, and unknown.

    Args:
        files: photos and masks, see :func:`find_labelled_images`.
        size: (height, width) of the samples, multiples of 8, or the side of a square.
        seed: of all samples; another one gives others.
        length: number of samples.
        photo_change: change of the photo beside a map; None shows it as it is.
        pair_change: change of each of the photos in `photo_pairs`, likewise.
        map_change: change of the map, as by a printer or a scanner, likewise.
        photo_pairs: share of the samples with the photo on both sides, changed independently.
        inverted: share of the photos in `photo_pairs` of which one side is a negative.
        painted: share of the maps with textures, as a generative model paints them.
        max_rotation: of one side against the other, degrees.
        max_scale: the scale between the two sides is drawn log-uniformly from 1/max_scale to max_scale.
        clean: what clean0 and clean1 show: ``"view"`` the same as image0 and image1, without the changes;
            ``"photo"`` the unchanged photo on both sides.

    Raises:
        InputError: no files, or a size or an option that cannot be used.
    """

    def __init__(
        self,
        files: Sequence[LabelledImage],
        size: int | tuple[int, int] = 256,
        seed: int = 0,
        length: int = 10_000,
        photo_change: PhotoChange | None = AERIAL_CHANGE,
        pair_change: PhotoChange | None = STRONG_AERIAL_CHANGE,
        map_change: PhotoChange | None = MAP_CHANGE,
        photo_pairs: float = 0.0,
        inverted: float = 0.3,
        painted: float = 0.35,
        max_rotation: float = 180.0,
        max_scale: float = 2.0,
        clean: str = "view",
    ) -> None:
        self.size = checked_size(size)
        if not files:
            raise InputError("No image with a class mask: give at least one.")
        if clean not in ("view", "photo"):
            raise InputError(f"clean={clean!r}: expected 'view' or 'photo'.")
        if max_scale < 1:
            raise InputError(f"max_scale={max_scale}: expected 1 or more.")
        self.files, self.seed, self.length = list(files), seed, length
        self.photo_change, self.pair_change, self.map_change = photo_change, pair_change, map_change
        self.photo_pairs, self.inverted, self.painted = photo_pairs, inverted, painted
        self.max_rotation, self.max_scale, self.clean = max_rotation, max_scale, clean
        self._loaded: dict[int, tuple[Pixels, Pixels, npt.NDArray[np.bool_]]] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, _MAP_PAIRS, index])
        images, clean, transforms, known = (
            self._photos(rng) if rng.random() < self.photo_pairs else self._photo_and_map(rng)
        )
        order = rng.permutation(2)
        first, second = (transforms[i] for i in order)
        matches = [
            _correspondences(first, second, known, self.size),
            _correspondences(second, first, known, self.size),
        ]
        return as_sample([images[i] for i in order], [clean[i] for i in order], matches)

    def _photos(self, rng: np.random.Generator) -> _Views:
        """A photo twice."""
        photo, _, _ = self.load(int(rng.integers(len(self.files))))
        transforms = ground_views(photo.shape, self.size, rng, self.max_rotation, self.max_scale)
        fill = int(rng.integers(256))
        clean = [view(photo, transform, self.size, fill) for transform in transforms]
        images = [changed(picture, self.pair_change, rng) for picture in clean]
        if rng.random() < self.inverted:
            images[1] = 255 - images[1]
        return images, clean, transforms, np.ones(photo.shape, bool)

    def _photo_and_map(self, rng: np.random.Generator) -> _Views:
        """A photo and a map, where the map shows something."""
        most = -1
        for _ in range(_ATTEMPTS):
            number = int(rng.integers(len(self.files)))
            _, label, known = self.load(number)
            drawn = (1,) if self.files[number].partial else (1, 2, 3, 4, 5)
            style = random_style(rng, self.painted, drawn)
            views = ground_views(label.shape, self.size, rng, self.max_rotation, self.max_scale)
            borders = _count_borders(np.array(style.merged, np.uint8)[label], known, views, self.size)
            if borders > most:
                most, chosen = borders, (number, style, views)
            if borders >= _ENOUGH_BORDERS * self.size[0] * self.size[1]:
                break
        number, style, transforms = chosen
        photo, label, known = self.load(number)
        fill = int(rng.integers(256))
        clean = [view(photo, transform, self.size, fill) for transform in transforms]
        chart = render_map(view_label(label, transforms[1], self.size), rng, style.grey())
        images = [changed(clean[0], self.photo_change, rng), changed(chart, self.map_change, rng)]
        if self.clean == "view":
            clean[1] = chart
        return images, clean, transforms, known

    def load(self, number: int) -> tuple[Pixels, Pixels, npt.NDArray[np.bool_]]:
        """A photo, its mask and what is known of it, (H, W) each; they are kept in memory.

        Raises:
            MissingInputError, CorruptFileError: a file does not exist, cannot be read, or the mask does not
                fit the photo.
        """
        if number not in self._loaded:
            files = self.files[number]
            photo, label = read_image(files.image, grayscale=True), read_image(files.label, grayscale=True)
            if photo.shape != label.shape or label.max() >= NUM_CLASSES:
                raise CorruptFileError(
                    f"Mask {files.label} ({label.shape[1]}x{label.shape[0]}, classes up to {label.max()})"
                    f" does not fit {files.image} ({photo.shape[1]}x{photo.shape[0]}): expected the same"
                    f" size, and classes from 0 to {NUM_CLASSES - 1}."
                )
            self._loaded[number] = photo, label, known_area(label, files.partial)
        return self._loaded[number]


def _count_borders(
    label: Pixels, known: npt.NDArray[np.bool_], transforms: tuple[Matrix, Matrix], size: tuple[int, int]
) -> int:
    """Steps from cell to cell across a border of classes, where the views overlap; of the poorer view."""
    counts = []
    for first, second in (transforms, transforms[::-1]):
        _, valid = _correspondences(first, second, known, size)
        grid = np.where(valid, _at_cells(label, first, size), 255).reshape(size[0] // CELL, size[1] // CELL)
        steps = (grid[:, :-1], grid[:, 1:]), (grid[:-1], grid[1:])
        counts.append(sum(int(((a != b) & (a < 255) & (b < 255)).sum()) for a, b in steps))
    return min(counts)


def known_area(label: Pixels, partial: bool) -> npt.NDArray[np.bool_]:
    """Where a mask tells enough for a map: near the roads, if nothing else is annotated.

    Args:
        label: (H, W) classes.
        partial: only some classes are annotated, 0 is unknown.

    Returns:
        (H, W) bool.
    """
    if not partial:
        return np.ones(label.shape, bool)
    if not label.any():
        return np.zeros(label.shape, bool)
    distance = cv2.distanceTransform((label == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance <= KNOWN_DISTANCE)


def ground_views(
    shape: tuple[int, int],
    size: tuple[int, int],
    rng: np.random.Generator,
    max_rotation: float = 180.0,
    max_scale: float = 2.0,
) -> tuple[Matrix, Matrix]:
    """Two views of a picture from above that overlap.

    The rotation of the second against the first is uniform in ±`max_rotation`, its scale log-uniform between
    1/`max_scale` and `max_scale`; where the first looks and its heading are random.

    Args:
        shape: (height, width) of the picture.
        size: (height, width) of the views.
        rng: source of the choices.
        max_rotation: degrees.
        max_scale: at least 1.

    Returns:
        Two (3, 3) similarity transforms: pixel (x, y, 1) of a view → pixel of the picture.
    """
    height, width = shape
    ratio = math.exp(rng.uniform(-1, 1) * math.log(max_scale))
    # Pixels of the picture per pixel of a view of which the shorter side shows all of the picture.
    whole = min(height, width) / min(size)
    pixel = whole * rng.uniform(0.4, 0.8)
    largest = min(pixel * max(math.sqrt(ratio), 1 / math.sqrt(ratio)), 1.1 * whole)
    pixels = largest * np.array([min(ratio, 1.0), min(1 / ratio, 1.0)])
    heading = rng.uniform(-math.pi, math.pi)
    headings = heading, heading + math.radians(rng.uniform(-max_rotation, max_rotation))
    reach = pixels * min(size) / 2
    # The centre of the smaller view is so far from the border that most of it lies in the picture.
    extent = np.array([width, height])
    margin, wide_margin = (np.minimum(r, extent / 2) for r in (reach.min(), 0.9 * reach.max()))
    center = rng.uniform(margin, extent - margin)
    limit = 0.5 * reach.max()
    other = np.clip(center + rng.uniform(-limit, limit, 2), wide_margin, extent - wide_margin)
    centers = (other, center) if reach[0] > reach[1] else (center, other)
    first, second = (_similarity(size, c, p, h) for c, p, h in zip(centers, pixels, headings, strict=True))
    return first, second


def _similarity(size: tuple[int, int], center: Matrix, pixel: float, heading: float) -> Matrix:
    """Pixel of a view → pixel of the picture; the middle of the view goes to `center`."""
    cos, sin = pixel * math.cos(heading), pixel * math.sin(heading)
    linear = np.array([[cos, -sin], [sin, cos]])
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    transform = np.eye(3)
    transform[:2, :2], transform[:2, 2] = linear, center - linear @ middle
    return transform


def view_label(label: Pixels, transform: Matrix, size: tuple[int, int]) -> Pixels:
    """Classes in a view: the one with the largest interpolated share of each pixel; 0 outside.

    Args:
        label: (H, W) classes.
        transform: (3, 3) pixel of the view → pixel of the mask.
        size: (height, width) of the view.
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    best = np.full(size, 127, np.uint8)
    seen = np.zeros(size, np.uint8)
    for index in range(1, NUM_CLASSES):
        region = (label == index) * np.uint8(255)
        if region.any():
            share = cv2.warpAffine(region, transform[:2], size[::-1], flags=flags)
            seen[share > best] = index
            np.maximum(best, share, out=best)
    return seen


def _correspondences(
    first: Matrix, second: Matrix, known: npt.NDArray[np.bool_], size: tuple[int, int]
) -> Matches:
    """Where the cells of the first view lie in the second, and whether that is known of the ground there."""
    points, valid = plane_correspondences(first, second, (known.shape[0], known.shape[1]), size)
    return points, valid & _at_cells(known, first, size)


def _at_cells(picture: npt.NDArray[Any], transform: Matrix, size: tuple[int, int]) -> npt.NDArray[Any]:
    """Values of a picture at the cells of a view of it, (N,); those of the border outside."""
    source = np.round(warp_points(transform, cell_centers(size))).astype(int)
    columns, rows = np.clip(source, 0, [picture.shape[1] - 1, picture.shape[0] - 1]).T
    return picture[rows, columns]
