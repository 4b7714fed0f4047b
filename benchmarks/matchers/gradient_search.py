"""Exhaustive registration by correlation of gradient images: the classical bar for image ↔ map.

Image 0 is turned and scaled through all headings and scales; for each, the normalised correlation of the
gradient images over all shifts comes from fast Fourier transforms with masks (Padfield, "Masked Object
Registration in the Fourier Domain", TIP 2012). The best candidates are refined by a simplex search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.optimize import minimize

from .methods import Matches

#: Longest side of the images of the exhaustive search and of the last refinement, pixels.
SEARCH_SIZE, REFINED_SIZE = 96, 256
ROTATION_STEP = 5.0
SCALES = tuple(float(s) for s in np.geomspace(0.48, 1 / 0.48, 20))  # steps of 8 %
#: Least overlap of the two images, as a share of the smaller one.
LEAST_OVERLAP = 0.4
#: Blur of images and gradients, pixels; largest gradient, in means; weight of directions against magnitudes.
BLUR, TRUNCATION, DIRECTION = 0.8, 1.5, 3.0
BATCH = 8
NUM_CANDIDATES = 24
GRID_STEP = 32


@dataclass(frozen=True)
class Similarity:
    """x1 = scale · R(angle) · x0 + shift, in pixels whose top-left centre is (0, 0).

    Attributes:
        angle: radians, from x to y.
        scale: pixels of image 1 per pixel of image 0.
        shift: x and y, pixels of image 1.
        score: normalised correlation of the gradient images, −1 to 1.
    """

    angle: float
    scale: float
    shift: tuple[float, float]
    score: float = 0.0

    def matrix(self) -> np.ndarray:
        """2×3 matrix."""
        c, s = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        return np.array([[c, -s, self.shift[0]], [s, c, self.shift[1]]])

    def resized(self, factor0: float, factor1: float) -> Similarity:
        """The same transform between images resized by these factors about their top-left corners."""
        matrix = self.matrix()
        corner = matrix @ (-0.5, -0.5, 1) + 0.5  # where the corner of image 0 goes, from that of image 1
        scale = self.scale * factor1 / factor0
        turn = matrix[:, :2] / self.scale * scale
        shift = corner * factor1 - 0.5 + turn @ (0.5, 0.5)
        return Similarity(self.angle, scale, (float(shift[0]), float(shift[1])), self.score)


def gradient_fields(image: np.ndarray) -> np.ndarray:
    """What is correlated: magnitude and direction of the gradient, neither of which contrast inverts.

    Args:
        image: H×W uint8.

    Returns:
        H×W×3 float32: truncated square root of the magnitude m, with zero mean; m cos 2φ and m sin 2φ, where
        φ is the direction of the gradient.
    """
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), BLUR)
    gx, gy = (
        cv2.Scharr(smooth, cv2.CV_32F, *axes, borderType=cv2.BORDER_REPLICATE) for axes in ((1, 0), (0, 1))
    )
    magnitude, angle = cv2.cartToPolar(gx, gy)
    magnitude = np.sqrt(magnitude)
    magnitude = np.minimum(magnitude, TRUNCATION * magnitude.mean() + 1e-6)
    fields = np.dstack([magnitude - magnitude.mean(), *cv2.polarToCart(magnitude, 2 * angle)])
    fields[..., 1:] *= DIRECTION
    fields = cv2.GaussianBlur(fields, (0, 0), BLUR)
    return fields / np.sqrt((fields**2).sum(2).mean() + 1e-6)


def turned_fields(fields: np.ndarray, angle: float, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Fields of an image as those of the image warped by a similarity transform.

    Args:
        fields: of :func:`gradient_fields`.
        angle: of the transform, radians.
        matrix: 2×3, pixel of the image → pixel of the warped one.
        size: width and height of the warped one.
    """
    warped = cv2.warpAffine(fields, matrix, size, flags=cv2.INTER_LINEAR)
    cos, sin = math.cos(2 * angle), math.sin(2 * angle)
    first, second = warped[..., 1].copy(), warped[..., 2]
    warped[..., 1] = cos * first - sin * second
    warped[..., 2] = sin * first + cos * second
    return warped


def search(image0: np.ndarray, image1: np.ndarray) -> Similarity:
    """Find the similarity transform between two images.

    Args:
        image0, image1: H×W uint8.

    Returns:
        The transform from pixels of image 0 to pixels of image 1 with the highest correlation.
    """
    factors = [SEARCH_SIZE / max(image.shape) for image in (image0, image1)]
    candidates = _exhaustive(image0, image1, factors)
    refiner = _Refiner(image0, image1, SEARCH_SIZE)
    best = max((refiner.refine(candidate, 90) for candidate in candidates), key=refiner.significance)
    return _Refiner(image0, image1, REFINED_SIZE).refine(best, 120, 0.5)


def match(image0: np.ndarray, image1: np.ndarray) -> Matches:
    """:func:`search` in the form of a matcher: the transform on a grid of points, score the correlation."""
    found = search(image0, image1)
    height, width = image0.shape
    grid = np.stack(np.meshgrid(np.arange(0, width, GRID_STEP), np.arange(0, height, GRID_STEP)), -1)
    points0 = grid.reshape(-1, 2).astype(float)
    matrix = found.matrix()
    points1 = points0 @ matrix[:, :2].T + matrix[:, 2]
    return points0, points1, np.full(len(points0), max(found.score, 0.0))


def _resize(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = image.shape
    size = (max(round(width * factor), 8), max(round(height * factor), 8))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def _exhaustive(image0: np.ndarray, image1: np.ndarray, factors: list[float]) -> list[Similarity]:
    """The best transform of each heading and scale, the most significant ones of all these."""
    angles = np.radians(np.arange(0, 360, ROTATION_STEP))
    found: list[tuple[float, Similarity]] = []
    for scale in SCALES:
        # The finer image is reduced, so that no detail is compared that the other one does not have.
        factor0, factor1 = factors[0] * min(scale, 1.0), factors[1] * min(1 / scale, 1.0)
        fields0, fields1 = (
            gradient_fields(_resize(image, factor))
            for image, factor in ((image0, factor0), (image1, factor1))
        )
        for significance, candidate in _best_shifts(fields0, fields1, angles):
            found.append((significance, candidate.resized(1 / factor0, 1 / factor1)))
    found.sort(key=lambda item: -item[0])
    return [candidate for _, candidate in found[:NUM_CANDIDATES]]


def _best_shifts(
    fields0: np.ndarray, fields1: np.ndarray, angles: np.ndarray
) -> list[tuple[float, Similarity]]:
    """The most significant shift for each angle, with its significance."""
    (height0, width0), (height1, width1) = fields0.shape[:2], fields1.shape[:2]
    side = int(np.ceil(np.hypot(height0, width0)))
    # Shifts with less than half of the least overlap may wrap around.
    height, width = (
        _fast_size(side + n - round(LEAST_OVERLAP / 2 * min(side, n))) for n in (height1, width1)
    )
    center0, center = np.array([width0 - 1, height0 - 1]) / 2, np.full(2, (side - 1) / 2)
    ones = np.ones_like(fields0[..., 0])
    fixed = np.zeros((5, height, width), np.float32)
    fixed[:, :height1, :width1] = *np.moveaxis(fields1, 2, 0), np.ones((height1, width1)), (fields1**2).sum(2)
    target = torch.fft.rfft2(torch.from_numpy(fixed))
    least = LEAST_OVERLAP * min(height0 * width0, height1 * width1)
    results = []
    for part in np.array_split(angles, len(angles) // BATCH):
        template = np.zeros((len(part), 5, height, width), np.float32)
        matrices = [Similarity(float(angle), 1.0, (0.0, 0.0)).matrix() for angle in part]
        for values, angle, matrix in zip(template, part, matrices, strict=True):
            matrix[:, 2] = center - matrix[:, :2] @ center0
            turned = turned_fields(fields0, angle, matrix, (side, side))
            mask = cv2.warpAffine(ones, matrix, (side, side), flags=cv2.INTER_LINEAR)
            values[:, :side, :side] = *np.moveaxis(turned, 2, 0), mask, (turned**2).sum(2)
        score, overlap = _masked_correlation(torch.from_numpy(template), target, (height, width), least)
        significance, index = (score * overlap).flatten(1).max(1)
        for k, (angle, matrix) in enumerate(zip(part, matrices, strict=True)):
            row, column = divmod(int(index[k]), width)
            row, column = row - height * (row >= height1), column - width * (column >= width1)
            shift = matrix[:, 2] + (column, row)
            candidate = Similarity(float(angle), 1.0, (float(shift[0]), float(shift[1])))
            results.append((float(significance[k]), candidate))
    return results


def _masked_correlation(
    template: torch.Tensor, target: torch.Tensor, size: tuple[int, int], least: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised correlation of B templates over all shifts.

    Args:
        template: B×5×H×W: three fields, mask, squares of the fields.
        target: the same of the fixed image, 5×H×(W/2 + 1), Fourier transforms.
        size: H, W.
        least: least overlap, pixels; with less the correlation is −1.

    Returns:
        B×H×W correlations, and the square root of the overlap.
    """
    spectrum = torch.fft.rfft2(template).conj()
    products = torch.stack(
        [
            (spectrum[:, :3] * target[:3]).sum(1),
            spectrum[:, 3] * target[3],
            spectrum[:, 4] * target[3],
            spectrum[:, 3] * target[4],
        ]
    )
    covariance, overlap, energy0, energy1 = torch.fft.irfft2(products, s=size)
    score = covariance * torch.rsqrt((energy0.clamp_(min=0) * energy1.clamp_(min=0)).add_(1.0))
    score.masked_fill_(overlap < least, -1.0)
    return score, overlap.clamp_(min=1.0).sqrt_()


def _fast_size(size: int) -> int:
    """The next even length whose Fourier transform is fast."""
    return cv2.getOptimalDFTSize(size + size % 2)


class _Refiner:
    """Improves transforms at one size of the images; transforms are those of the full images."""

    def __init__(self, image0: np.ndarray, image1: np.ndarray, size: int) -> None:
        self.factors = [min(size / max(image.shape), 1.0) for image in (image0, image1)]
        images = [
            _resize(image, factor) for image, factor in zip((image0, image1), self.factors, strict=True)
        ]
        self.fields0, self.fields1 = (gradient_fields(image) for image in images)
        height, width = images[0].shape
        self.ones = np.ones_like(self.fields0[..., 0])
        self.center = np.array([width - 1, height - 1]) / 2

    def _correlation(self, transform: Similarity) -> tuple[float, float]:
        """Correlation and overlap (pixels of image 1) at this size."""
        height, width = self.fields1.shape[:2]
        matrix = transform.matrix()
        inside = cv2.warpAffine(self.ones, matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
        number = int(inside.sum())
        if number < LEAST_OVERLAP / 2 * min(self.ones.size * transform.scale**2, inside.size):
            return -1.0, float(number)
        first = turned_fields(self.fields0, transform.angle, matrix, (width, height))[inside].ravel()
        second = self.fields1[inside].ravel()
        norm = np.sqrt((first @ first) * (second @ second))
        return float(first @ second / (norm + 1e-6)), float(number)

    def significance(self, transform: Similarity) -> float:
        """Correlation times the square root of the overlap, in pixels of the coarser image."""
        score, overlap = self._correlation(transform.resized(*self.factors))
        return score * np.sqrt(overlap / max(transform.scale, 1.0) ** 2)

    def refine(self, transform: Similarity, evaluations: int, spread: float = 1.0) -> Similarity:
        """Simplex search for the highest correlation.

        Args:
            transform: where to start.
            evaluations: number of correlations computed.
            spread: size of the first simplex, in steps of the exhaustive search.
        """
        start = transform.resized(*self.factors)
        center1 = start.matrix() @ (*self.center, 1)
        radius = float(np.hypot(*self.center)) / 2

        def at(step: np.ndarray) -> Similarity:  # all four in about pixels
            angle, scale = start.angle + step[0] / radius, start.scale * np.exp(step[1] / radius)
            turn = Similarity(angle, scale, (0.0, 0.0)).matrix()[:, :2]
            shift = center1 + step[2:] - turn @ self.center
            return Similarity(angle, scale, (float(shift[0]), float(shift[1])))

        def loss(step: np.ndarray) -> float:
            return -self._correlation(at(step))[0]

        reach = spread * np.radians(ROTATION_STEP) * radius / 2
        simplex = np.vstack([np.zeros(4), np.eye(4) * reach])
        simplex -= simplex.mean(0)
        options = {"initial_simplex": simplex, "maxfev": evaluations, "xatol": 0.02, "fatol": 1e-5}
        result = minimize(loss, np.zeros(4), method="Nelder-Mead", options=options)
        found = at(result.x)
        score = Similarity(found.angle, found.scale, found.shift, float(-result.fun))
        return score.resized(*(1 / factor for factor in self.factors))
