"""Registration by search over headings, scales and shifts, from coarse to fine, without training.

Image 0 is turned and scaled; for each heading and scale, the normalised correlation of the gradient fields
over all shifts comes from fast Fourier transforms with masks (Padfield, "Masked Object Registration in the
Fourier Domain", TIP 2012). The best peaks are refined and compared again at higher resolutions, where wrong
ones fall behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from .gradient_fields import Fields, Picture, gradient_fields
from .local_search import Level
from .prior import UNKNOWN, Prior, Similarity

#: Least overlap of the two images, as a share of the smaller one.
LEAST_OVERLAP = 0.4
BATCH = 12
#: Steps in heading and scale within which a peak belongs to a better one: as sampled, and once refined, when
#: neighbours may have gone to different peaks.
_APART, _REFINED_APART = 1.6, 0.6
#: Masks and energies are correlated as means of blocks of so many pixels: they vary slowly.
_BLOCK = 4


@dataclass(frozen=True)
class SearchConfig:
    """Sampling of the search.

    Attributes:
        size: longest side of the images of the exhaustive part, pixels.
        smaller: the one that covers less keeps this side there where `largest` lets the other one grow;
            0: both are as `size` says.
        largest: most that `size` grows to for that, pixels.
        rotation_step: degrees.
        scale_step: ratio of neighbouring scales.
        levels: longest sides of the refinements, pixels.
        kept: number of peaks that each of them takes.
        evaluations: correlations of each refinement.
    """

    size: int = 96
    smaller: int = 0
    largest: int = 96
    rotation_step: float = 5.0
    scale_step: float = 1.08
    levels: tuple[int, ...] = (96, 160, 256)
    kept: tuple[int, ...] = (36, 12, 3)
    evaluations: tuple[int, ...] = (32, 40, 80)


DEFAULT = SearchConfig()
#: For all headings and scales: its steps are as large, in the pixels of its images, as those of the default.
QUICK = SearchConfig(
    size=64,
    smaller=44,
    rotation_step=7.5,
    scale_step=1.15,
    levels=(96, 160),
    kept=(16, 5),
    evaluations=(24, 40),
)
#: The search is quick where headings may differ by more than this, degrees.
WIDE = 45.0
#: One level of candidates only, refined at the end: the classical bar.
EXHAUSTIVE = replace(DEFAULT, levels=(96, 256), kept=(24, 1), evaluations=(90, 120))


def config_for(prior: Prior) -> SearchConfig:
    """The sampling for what is known: :data:`QUICK` for wide searches, :data:`DEFAULT` for narrow ones."""
    return QUICK if prior.max_rotation > WIDE else DEFAULT


def search(
    picture0: Picture, picture1: Picture, prior: Prior = UNKNOWN, config: SearchConfig = DEFAULT
) -> list[Similarity]:
    """Find the similarity transforms between two pictures under which their gradients are most alike.

    Args:
        picture0, picture1: of :mod:`hloc_ext.gis.registration.gradient_fields`.
        prior: what is known of the transform.
        config: sampling.

    Returns:
        The last peaks, the most significant one first: transforms from pixels of picture 0 to pixels of
        picture 1. There is always one.
    """
    found = exhaustive_peaks(picture0, picture1, prior, config)
    for number, (size, count, evaluations) in enumerate(
        zip(config.levels, config.kept, config.evaluations, strict=True)
    ):
        level = Level(picture0, picture1, size)
        reach = math.radians(config.rotation_step) * config.size / size if number else None
        refined = [level.refine(peak, evaluations, reach) for peak in found[:count]]
        found = _distinct(refined, config, count, _REFINED_APART) or found[:1]
    return found


def exhaustive_peaks(
    picture0: Picture, picture1: Picture, prior: Prior, config: SearchConfig
) -> list[Similarity]:
    """The best shift of each heading and scale; of those with about the same heading and scale, the best."""
    expected = prior.similarity(picture0.shape, picture1.shape)
    sides = max(picture0.shape), max(picture1.shape)
    # Reduced once, so that each scale has less to reduce.
    bases = [min(1.0, 2 * config.largest / side) for side in sides]
    halves = [p.resized(base) for p, base in zip((picture0, picture1), bases, strict=True)]
    center0 = (np.array(picture0.shape[::-1]) - 1) / 2
    goal = expected.matrix() @ (*center0, 1.0)
    steps = math.ceil(math.log(prior.max_scale) / math.log(config.scale_step) - 1e-6)
    found: list[Similarity] = []
    for exponent in np.linspace(-1, 1, 2 * steps + 1) if steps else (0.0,):
        scale = expected.scale * prior.max_scale ** float(exponent)
        # The finer image is reduced, so that no detail is compared that the other one does not have.
        ratio = scale * sides[0] / sides[1]
        size = max(config.size, min(config.smaller * max(ratio, 1 / ratio), config.largest))
        factor0 = size * min(1 / sides[0], scale / sides[1])
        factor1 = factor0 / scale
        fields = [
            gradient_fields(half.resized(factor / base))
            for half, factor, base in zip(halves, (factor0, factor1), bases, strict=True)
        ]
        limits = None
        if prior.max_shift is not None:
            reach = prior.max_shift * factor1 + 1.5
            limits = (goal + 0.5) * factor1 - 0.5, reach
        for peak in _best_shifts(fields[0], fields[1], _headings(expected, prior, config), limits):
            found.append(peak.resized(1 / factor0, 1 / factor1))
    return _distinct(found, config, config.kept[0]) or [expected]


def _headings(expected: Similarity, prior: Prior, config: SearchConfig) -> npt.NDArray[np.float64]:
    """Radians; all around the circle, or a range about the expected heading."""
    if prior.max_rotation > 180 - config.rotation_step / 2:
        count = max(2 * round(180 / config.rotation_step), 2)
        return expected.angle + np.arange(count) * 2 * math.pi / count
    steps = math.ceil(prior.max_rotation / config.rotation_step - 1e-6)
    reach = math.radians(prior.max_rotation)
    return expected.angle + (np.linspace(-reach, reach, 2 * steps + 1) if steps else np.zeros(1))


def _distinct(
    found: Sequence[Similarity], config: SearchConfig, count: int, apart: float = _APART
) -> list[Similarity]:
    """At most `count` peaks, the most significant one first, none within `apart` steps of a better one."""
    rotation, growth = apart * math.radians(config.rotation_step), apart * math.log(config.scale_step)
    angles = np.array([peak.angle for peak in found])
    scales = np.log([peak.scale for peak in found])
    significance = np.array([peak.significance for peak in found])
    chosen: list[Similarity] = []
    while len(chosen) < count and significance.max(initial=0.0) > 0:
        best = int(significance.argmax())
        chosen.append(found[best])
        turn = np.abs((angles - angles[best] + math.pi) % (2 * math.pi) - math.pi)
        significance[(turn < rotation) & (np.abs(scales - scales[best]) < growth)] = 0
    return chosen


def _best_shifts(
    fields0: Fields,
    fields1: Fields,
    headings: npt.NDArray[np.float64],
    limits: tuple[npt.NDArray[np.float64], float] | None,
) -> list[Similarity]:
    """The most significant shift of each heading, pixels of these fields.

    Args:
        fields0, fields1: at the same scale.
        headings: radians. Of two that differ by half a turn, the spectra are conjugate.
        limits: where the centre of image 0 is expected (x, y) and the largest distance from there, pixels.
    """
    canvas = _Canvas(fields0, fields1, limits)
    halves: dict[float, list[bool]] = {}
    for angle in headings:
        halves.setdefault(round(float(angle) % math.pi, 9) % round(math.pi, 9), []).append(
            float(angle) % (2 * math.pi) >= math.pi - 1e-9
        )
    bases = list(halves)
    results: list[Similarity] = []
    for start in range(0, len(bases), BATCH):
        part = bases[start : start + BATCH]
        spectra, blocks = canvas.turned(part)
        for flipped in (False, True):
            chosen = [k for k, base in enumerate(part) if flipped in halves[base]]
            if chosen:
                shifts = canvas.peaks(spectra[chosen], blocks[chosen], flipped)
                results += [
                    canvas.similarity(part[k] + math.pi * flipped, *shift)
                    for k, shift in zip(chosen, shifts, strict=True)
                ]
    return results


class _Canvas:
    """Correlation of image 0, turned on a square canvas, with image 1, on the torus of the transform."""

    def __init__(
        self, fields0: Fields, fields1: Fields, limits: tuple[npt.NDArray[np.float64], float] | None
    ) -> None:
        self.fields0 = fields0
        self.shape0, self.shape1 = fields0.mask.shape, fields1.mask.shape
        (height0, width0), (height1, width1) = self.shape0, self.shape1
        self.side = math.ceil(math.hypot(height0, width0) / _BLOCK) * _BLOCK
        self.least = LEAST_OVERLAP * min(float(fields0.mask.sum()), float(fields1.mask.sum()))
        middle = (self.side - 1) / 2
        self.center0, self.center = np.array([width0 - 1, height0 - 1]) / 2, np.full(2, middle)
        # Range of shifts of the canvas against image 1, (rows, columns); those beyond may wrap around.
        self.low, self.high = [], []
        for axis, length in enumerate(self.shape1):
            overlap = round(LEAST_OVERLAP / 2 * min(self.side, length))
            low, high = overlap - self.side, length - overlap
            if limits is not None:
                low = max(low, math.floor(limits[0][1 - axis] - limits[1] - middle))
                high = min(high, math.ceil(limits[0][1 - axis] + limits[1] - middle))
                low = min(low, high)
            self.low.append(low)
            self.high.append(high)
        self.period = tuple(
            _fast_size(max(high + self.side, length - low, self.side, length))
            for low, high, length in zip(self.low, self.high, self.shape1, strict=True)
        )
        fixed = np.zeros((2, *self.period), np.float32)
        fixed[:, :height1, :width1] = np.moveaxis(fields1.values, 2, 0)
        self.target = torch.fft.rfft2(torch.from_numpy(fixed))
        masks = np.zeros((2, *self.period), np.float32)
        masks[:, :height1, :width1] = fields1.mask, (fields1.values**2).sum(2)
        self.target_blocks = torch.fft.rfft2(_block_means(torch.from_numpy(masks)))
        self.allowed = self._allowed(limits)

    def _allowed(self, limits: tuple[npt.NDArray[np.float64], float] | None) -> torch.Tensor:
        """Which shifts are searched, as indices on the torus."""
        inside = []
        for low, high, period in zip(self.low, self.high, self.period, strict=True):
            shifts = np.arange(period)
            shifts = np.where(shifts > high, shifts - period, shifts)
            inside.append((shifts, (shifts >= low) & (shifts <= high)))
        allowed = inside[0][1][:, None] & inside[1][1][None]
        if limits is not None:
            rows, columns = (shifts[0] + self.center[0] for shifts in inside)
            distance = np.hypot(rows[:, None] - limits[0][1], columns[None] - limits[0][0])
            within = allowed & (distance <= max(limits[1], 1.0))
            allowed = within if within.any() else allowed
        return torch.from_numpy(allowed.astype(np.float32))

    def _placed(self, angle: float) -> npt.NDArray[np.float64]:
        """2×3: pixel of image 0 → pixel of the canvas, about the centres of both."""
        matrix = Similarity(angle, 1.0, (0.0, 0.0)).matrix()
        matrix[:, 2] = self.center - matrix[:, :2] @ self.center0
        return matrix

    def turned(self, angles: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """Spectra of image 0 on the canvas, of fields (B×2×…) and of block means of mask and energy."""
        template = np.zeros((len(angles), 2, *self.period), np.float32)
        masks = np.zeros((len(angles), 2, *self.period), np.float32)
        layers = np.dstack([self.fields0.values, self.fields0.mask])
        for fields, mask, angle in zip(template, masks, angles, strict=True):
            warped = cv2.warpAffine(
                layers, self._placed(angle), (self.side, self.side), flags=cv2.INTER_LINEAR
            )
            cos, sin = math.cos(2 * angle), math.sin(2 * angle)
            first, second = warped[..., 0], warped[..., 1]
            area = (slice(self.side), slice(self.side))
            fields[0][area], fields[1][area] = cos * first - sin * second, sin * first + cos * second
            mask[0][area], mask[1][area] = warped[..., 2], first * first + second * second
        blocks = torch.fft.rfft2(_block_means(torch.from_numpy(masks)))
        return torch.fft.rfft2(torch.from_numpy(template)), blocks

    def peaks(
        self, spectra: torch.Tensor, blocks: torch.Tensor, flipped: bool
    ) -> list[tuple[int, int, float, float]]:
        """Best shift (row, column), correlation and significance of each template.

        Args:
            spectra, blocks: of :meth:`turned`.
            flipped: the templates are turned by another half turn, on the canvas.
        """
        if not flipped:
            spectra, blocks = spectra.conj(), blocks.conj()
        covariance = torch.fft.irfft2((spectra * self.target).sum(1), s=self.period)
        # Overlap, energy of image 0 in it, energy of image 1 in it.
        products = torch.stack(
            [
                blocks[:, 0] * self.target_blocks[0],
                blocks[:, 1] * self.target_blocks[0],
                blocks[:, 0] * self.target_blocks[1],
            ],
            1,
        )
        size = (self.period[0] // _BLOCK, self.period[1] // _BLOCK)
        sums = torch.fft.irfft2(products, s=size).clamp_(min=0) * _BLOCK**2
        if flipped:  # a product without conjugation is the correlation with the flipped canvas
            covariance = covariance.roll((1 - self.side,) * 2, (1, 2))
            sums = sums.roll((1 - self.side // _BLOCK,) * 2, (2, 3))
        overlap, energy0, energy1 = sums.unbind(1)
        norm = torch.rsqrt(energy0 * energy1 + 1.0)
        norm = torch.where(overlap < self.least, 0.0, norm)
        weight = _upsampled(norm * overlap.sqrt())
        significance = covariance * weight * self.allowed
        best, index = significance.flatten(1).max(1)
        results = []
        for k in range(len(index)):
            place = divmod(int(index[k]), self.period[1])
            shift = [
                p - period if p > high else p
                for p, period, high in zip(place, self.period, self.high, strict=True)
            ]
            near = overlap[k, place[0] // _BLOCK, place[1] // _BLOCK].clamp(min=1.0).sqrt()
            results.append((shift[0], shift[1], float(best[k] / near), float(best[k])))
        return results

    def similarity(
        self, angle: float, row: int, column: int, score: float, significance: float
    ) -> Similarity:
        """The transform of a heading and a shift of the canvas."""
        shift = self._placed(angle)[:, 2] + (column, row)
        return Similarity(angle, 1.0, (float(shift[0]), float(shift[1])), score, significance)


def _block_means(maps: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(maps, _BLOCK)


def _upsampled(maps: torch.Tensor) -> torch.Tensor:
    """B×h×w on a torus to B×(4 h)×(4 w), linearly; index k comes to 4 k."""
    height, width = maps.shape[1:]
    wrapped = F.pad(maps[:, None], (0, 1, 0, 1), mode="circular")
    size = (_BLOCK * height + 1, _BLOCK * width + 1)
    return F.interpolate(wrapped, size, mode="bilinear", align_corners=True)[:, 0, :-1, :-1]


def _fast_size(size: int) -> int:
    """The next multiple of the blocks, even in blocks, whose Fourier transform is fast."""
    return _BLOCK * cv2.getOptimalDFTSize(math.ceil(size / _BLOCK))
