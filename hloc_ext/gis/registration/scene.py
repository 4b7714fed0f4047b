"""Registration of large rasters, window by window: overview, then tiles at finer and finer resolutions.

Memory is bounded by the tiles, whatever the size of the rasters. Pixels: the centre of the top-left one is
(0, 0), x right, y down; transforms are between the full rasters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ...evaluation.homography import transform_points
from .estimation import MODELS, Estimate, estimate
from .gradient_fields import Picture
from .local_matching import LocalMatches, match_patches, resizing, scale_of
from .matching import Method
from .prior import UNKNOWN, Prior
from .register import Registration, register

Matrix = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]

#: Longest side of the overviews, side of a tile, pixels; largest number of tiles of a resolution.
OVERVIEW, TILE, MAX_TILES = 768, 512, 96
#: Ratio of neighbouring resolutions; displacements of patches that are found at each of them, pixels.
STEP, REACH = 3.0, 8
#: Largest distance of an inlier, pixels of each resolution.
THRESHOLD = 2.0
#: A displacement field is kept where it lowers the error at tiles held out by this share, at least.
LEAST_GAIN = 0.2
#: Parts that are tried where the overviews do not tell: centres, as shares of the image's sides; up to which
#: largest rotation (degrees) and deviation of the scale (percent) they are.
PLACES, NARROW = ((0.5, 0.5), (0.3, 0.3), (0.7, 0.7)), 15.0
#: Least side of a part, pixels.
LEAST_SIDE = 64
#: Least number of patches that agree at a resolution.
LEAST_INLIERS = 12
#: Least number of patches of a tile whose displacement counts for the field.
LEAST_PATCHES = 4


class Window(NamedTuple):
    """Rows and columns of a raster, the last ones not included."""

    top: int
    bottom: int
    left: int
    right: int


class Source(Protocol):
    """A raster that is read in windows.

    Attributes:
        shape: height and width, pixels.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        ...

    def read(self, window: Window, shape: tuple[int, int]) -> Picture:
        """A window resized to (height, width); the window lies inside of the raster."""
        ...


@dataclass(frozen=True)
class PictureSource:
    """A picture in memory as a source."""

    picture: Picture

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.picture.shape

    def read(self, window: Window, shape: tuple[int, int]) -> Picture:
        """A window resized to (height, width)."""
        area = np.s_[window.top : window.bottom, window.left : window.right]
        mask = None if self.picture.mask is None else self.picture.mask[area]
        part = self.picture._replace(pixels=self.picture.pixels[area], mask=mask)
        if part.shape == shape:
            return part
        small = part.resized(max(shape) / max(part.shape))
        if small.shape == shape:
            return small
        return small.warped(resizing(small.shape, shape), shape)


@dataclass(frozen=True, eq=False)
class DisplacementField:
    """What is left after the transform, as smooth displacements.

    Attributes:
        points: K×2 pixels of the map.
        displacements: K×2 pixels of the map, to be added there.
        reach: standard deviation of the Gaussian weights between them, pixels.
    """

    points: Floats
    displacements: Floats
    reach: float

    def at(self, points: Floats) -> Floats:
        """Displacements at N×2 points of the map, N×2: weighted means, and 0 far from all of them."""
        distance = np.linalg.norm(np.asarray(points, float)[:, None] - self.points[None], axis=2)
        weights = np.exp(-0.5 * (distance / self.reach) ** 2)
        # A weight for no displacement: what is far from any tile stays.
        return np.asarray(weights @ self.displacements / (weights.sum(1, keepdims=True) + 0.05))


@dataclass(frozen=True, eq=False)
class SceneRegistration:
    """Registration of large rasters.

    Attributes:
        registration: transform between the full rasters, and the evidence at the overview. Where it is not
            accepted nothing finer was done.
        field: what is left, or None where there is no gain.
        points0, points1: M×2 correspondences of the finest resolution, pixels of image and map.
        tiles: number of tiles that were compared.
    """

    registration: Registration
    field: DisplacementField | None
    points0: Floats
    points1: Floats
    tiles: int


def register_scene(
    image: Source,
    map_: Source,
    prior: Prior = UNKNOWN,
    model: str = "auto",
    method: str | Method = "kd-mamba+gradient",
    with_field: bool = False,
    max_tiles: int = MAX_TILES,
) -> SceneRegistration:
    """Register a large image to a large map.

    Where the overviews are too coarse to tell, and the prior is narrow, parts are tried, less reduced.

    Args:
        image, map_: read in windows.
        prior: what is known of the transform between the full rasters.
        model, method: see :func:`~hloc_ext.gis.registration.register.register`.
        with_field: also estimate a smooth field of what is left.
        max_tiles: of each resolution, evenly spread; bounds the time.
    """
    found, factor = _coarse(image, map_, prior, model, method)
    matrix = found.matrix
    points0 = points1 = np.empty((0, 2))
    compared = 0
    if not found.accepted:
        return SceneRegistration(found, None, points0, points1, compared)
    # Resolutions of the map; it is of no use to go beyond that of the image.
    finest = min(1.0, 1.0 / scale_of(matrix, image.shape))
    while factor < finest * 0.99:
        factor = min(factor * STEP, finest)
        matches, number = _match_tiles(image, map_, found.matrix, factor, max_tiles)
        compared += number
        estimated = estimate(*matches[:3], model=model, threshold=THRESHOLD / factor)
        if estimated is None or estimated.inliers.sum() < LEAST_INLIERS:
            break
        found = _updated(found, estimated)
        points0, points1 = matches.points0[estimated.inliers], matches.points1[estimated.inliers]
    field = _field(found.matrix, points0, points1, TILE / factor) if with_field and len(points0) else None
    return SceneRegistration(found, field, points0, points1, compared)


def refine_scene(
    image: Source,
    map_: Source,
    found: Registration,
    model: str = "auto",
    with_field: bool = False,
    max_tiles: int = MAX_TILES,
) -> SceneRegistration | None:
    """Estimate a registration again by the tiles of the finest resolution alone.

    Args:
        image, map_: read in windows.
        found: right to a few pixels; its evidence is kept.
        model: see :func:`~hloc_ext.gis.registration.register.register`.
        with_field, max_tiles: as for :func:`register_scene`.

    Returns:
        None where too few patches agree.
    """
    factor = min(1.0, 1.0 / scale_of(found.matrix, image.shape))
    matches, number = _match_tiles(image, map_, found.matrix, factor, max_tiles)
    estimated = estimate(*matches[:3], model=model, threshold=THRESHOLD / factor)
    if estimated is None or estimated.inliers.sum() < LEAST_INLIERS:
        return None
    points0, points1 = matches.points0[estimated.inliers], matches.points1[estimated.inliers]
    field = _field(estimated.matrix, points0, points1, TILE / factor) if with_field else None
    return SceneRegistration(_updated(found, estimated), field, points0, points1, number)


def _coarse(
    image: Source, map_: Source, prior: Prior, model: str, method: str | Method
) -> tuple[Registration, float]:
    """Registration of the overviews, or of parts, as between the full rasters; pixels of the overview of the
    map for each of its own."""
    factors = [min(1.0, OVERVIEW / max(source.shape)) for source in (image, map_)]
    whole = [
        _reduced(source, Window(0, source.shape[0], 0, source.shape[1]), factor)
        for source, factor in zip((image, map_), factors, strict=True)
    ]
    found = _register_reduced(whole, prior, model, method)
    finer = min(1.0, factors[1] * STEP)
    narrow = prior.matrix is not None and max(prior.max_rotation, 100 * (prior.max_scale - 1)) <= NARROW
    if found.accepted or not narrow or finer < 1.5 * factors[1]:
        return found, factors[1]
    # A part tells little of perspective far from it.
    simple = model if model in MODELS[:2] else "similarity"
    for area0, area1, finer0, shift in _parts(image, map_, prior, finer):
        part = [_reduced(image, area0, finer0), _reduced(map_, area1, finer)]
        if all(picture.exists.any() for picture, _ in part):
            local = replace(prior, max_shift=shift)
            tried = _register_reduced(part, local, simple, method)
            if tried.accepted:
                return tried, factors[1]
    return found, factors[1]


def _parts(
    image: Source, map_: Source, prior: Prior, reduction: float
) -> list[tuple[Window, Window, float, float]]:
    """Parts of an image and of a map where the prior puts them.

    Args:
        image, map_: the rasters.
        prior: with a matrix.
        reduction: of the map; the parts have :data:`OVERVIEW` pixels then.

    Returns:
        Window of the image, window of the map, reduction of the image, and how far the part may be shifted,
        pixels of the map.
    """
    assert prior.matrix is not None
    scale, side = scale_of(prior.matrix, image.shape), OVERVIEW / reduction
    size = np.array(image.shape[::-1], float)
    limit = prior.max_shift if prior.max_shift is not None else side / 4
    parts = []
    for place in PLACES:
        center0 = size * place
        center1 = transform_points(prior.matrix, center0[None])[0]
        distance = float(np.linalg.norm(center0 - size / 2)) * scale
        shift = limit + distance * (math.radians(prior.max_rotation) + prior.max_scale - 1)
        area0 = _around(center0, side / scale / 2, image.shape)
        area1 = _around(center1, side / 2 * prior.max_scale + shift, map_.shape)
        if all(a.bottom - a.top >= LEAST_SIDE and a.right - a.left >= LEAST_SIDE for a in (area0, area1)):
            parts.append((area0, area1, min(1.0, reduction * scale), shift))
    return parts


def _around(center: Floats, half: float, shape: tuple[int, int]) -> Window:
    left, top = (max(math.floor(v - half), 0) for v in center)
    right, bottom = (min(math.ceil(v + half), n) for v, n in zip(center, shape[::-1], strict=True))
    return Window(top, max(bottom, top), left, max(right, left))


def _reduced(source: Source, window: Window, reduction: float) -> tuple[Picture, Matrix]:
    """A window, reduced, and pixel of the raster → pixel of it."""
    full = window.bottom - window.top, window.right - window.left
    shape = max(round(full[0] * reduction), 8), max(round(full[1] * reduction), 8)
    shift = np.array([[1, 0, -window.left], [0, 1, -window.top], [0, 0, 1.0]])
    return source.read(window, shape), resizing(full, shape) @ shift


def _register_reduced(
    parts: Sequence[tuple[Picture, Matrix]], prior: Prior, model: str, method: str | Method
) -> Registration:
    """Registration of what :func:`_reduced` gives of image and map, as between the full rasters."""
    (picture0, to_small0), (picture1, to_small1) = parts
    local = register(picture0, picture1, prior.resized(to_small0, to_small1), model, method)
    factor = float(to_small1[0, 0])
    return replace(
        local,
        matrix=_unit(np.linalg.inv(to_small1) @ local.matrix @ to_small0),
        residual=local.residual / factor,
        covariance=None if local.covariance is None else _resized_covariance(local, to_small0, to_small1),
        held_out={name: value / factor for name, value in local.held_out.items()},
    )


def _match_tiles(
    image: Source, map_: Source, matrix: Matrix, factor: float, max_tiles: int
) -> tuple[LocalMatches, int]:
    """Correspondences of the patches of the tiles of the map at a resolution, pixels of the full rasters."""
    side = max(round(TILE / factor), 1)
    windows = [
        Window(top, min(top + side, map_.shape[0]), left, min(left + side, map_.shape[1]))
        for top in range(0, max(map_.shape[0] - side // 2, 1), side)
        for left in range(0, max(map_.shape[1] - side // 2, 1), side)
    ]
    pairs = [(window, area) for window in windows if (area := _covered(image, matrix, window)) is not None]
    if len(pairs) > max_tiles:
        pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, max_tiles).round().astype(int)]
    found = [_match_tile(image, map_, matrix, factor, window, area) for window, area in pairs]
    if not found:
        empty = np.empty((0, 2))
        return LocalMatches(empty, empty, np.empty(0), 0), 0
    parts = [np.concatenate([matches[k] for matches in found]) for k in range(3)]
    return LocalMatches(parts[0], parts[1], parts[2], sum(matches.tried for matches in found)), len(found)


def _match_tile(
    image: Source, map_: Source, matrix: Matrix, factor: float, window: Window, area: Window
) -> LocalMatches:
    scale = scale_of(matrix, image.shape)
    parts = [_reduced(image, area, min(factor * scale, 1.0)), _reduced(map_, window, factor)]
    pictures, to_parts = zip(*parts, strict=True)
    local = _unit(to_parts[1] @ matrix @ np.linalg.inv(to_parts[0]))
    size = max(pictures[1].shape)
    matches = match_patches(pictures[0], pictures[1], local, size, 64, REACH)
    return matches._replace(
        points0=transform_points(np.linalg.inv(to_parts[0]), matches.points0),
        points1=transform_points(np.linalg.inv(to_parts[1]), matches.points1),
    )


def _covered(image: Source, matrix: Matrix, window: Window) -> Window | None:
    """The window of the image that covers one of the map, with a margin; None where much of it is missing."""
    corners = np.array(
        [(x, y) for x in (window.left, window.right - 1) for y in (window.top, window.bottom - 1)], float
    )
    seen = transform_points(np.linalg.inv(matrix), corners)
    if not np.isfinite(seen).all():
        return None
    low, high = seen.min(0), seen.max(0)
    margin = 0.05 * float((high - low).max())
    left, top = (max(math.floor(v - margin), 0) for v in low)
    right, bottom = (min(math.ceil(v + margin) + 1, n) for v, n in zip(high, image.shape[::-1], strict=True))
    if right - left < 0.3 * (high[0] - low[0]) or bottom - top < 0.3 * (high[1] - low[1]):
        return None
    return Window(top, bottom, left, right)


def _updated(found: Registration, estimated: Estimate) -> Registration:
    return replace(
        found,
        matrix=estimated.matrix,
        model=estimated.model,
        residual=estimated.residual,
        covariance=estimated.covariance,
        held_out=estimated.held_out,
    )


def _resized_covariance(found: Registration, to_small0: Matrix, to_small1: Matrix) -> Matrix:
    """Covariance of the elements of the matrix between the full rasters, by central differences."""

    def full(elements: Floats) -> Floats:
        matrix = np.append(elements, 1.0).reshape(3, 3)
        return _unit(np.linalg.inv(to_small1) @ matrix @ to_small0).ravel()[:8]

    start = found.matrix.ravel()[:8]
    steps = 1e-6 * np.maximum(np.abs(start), 1e-3)
    jacobian = np.stack(
        [(full(start + d) - full(start - d)) / (2 * s) for s, d in zip(steps, np.diag(steps), strict=True)], 1
    )
    assert found.covariance is not None
    return np.asarray(jacobian @ found.covariance @ jacobian.T)


def _unit(matrix: Matrix) -> Matrix:
    return np.asarray(matrix / matrix[2, 2])


def _field(matrix: Matrix, points0: Floats, points1: Floats, tile: float) -> DisplacementField | None:
    """Smooth displacements of tiles, where they foretell those of tiles held out."""
    residuals = points1 - transform_points(matrix, points0)
    index = np.floor(points1 / tile).astype(np.int64)
    _, number = np.unique(index, axis=0, return_inverse=True)
    number = number.ravel()
    kept = [k for k in range(number.max() + 1) if (number == k).sum() >= LEAST_PATCHES]
    if len(kept) < 4:
        return None
    centers = np.array([points1[number == k].mean(0) for k in kept])
    medians = np.array([np.median(residuals[number == k], axis=0) for k in kept])
    field = DisplacementField(centers, medians, tile)
    errors = [
        medians[k]
        - DisplacementField(np.delete(centers, k, 0), np.delete(medians, k, 0), tile).at(centers[k : k + 1])[
            0
        ]
        for k in range(len(kept))
    ]
    before, after = (float(np.sqrt(np.mean(np.sum(np.square(e), -1)))) for e in (medians, np.array(errors)))
    return field if after < (1 - LEAST_GAIN) * before else None
