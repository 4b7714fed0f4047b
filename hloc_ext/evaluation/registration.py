"""How well an image is registered: corner errors, class overlap, and the similarity rate.

Corner errors are those of :func:`hloc_ext.evaluation.homography.corner_error`: mean distance of the four
corners of the image under the estimated and the true transform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .homography import corner_error

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.integer]

#: A registration succeeds when its corner error is below this part of the image's diagonal.
SUCCESS = 0.03
#: Overlap that is this much below the attainable one counts as attained (similarity rate).
TOLERANCE = 0.01
#: Class of pixels that do not count.
IGNORED = 255


@dataclass(frozen=True)
class CornerError:
    """Mean corner error of a registration.

    Attributes:
        pixels: pixels of the map (of the picture that the image is registered to); infinite without a result.
        metres: the same on the ground; NaN where the size of a pixel is unknown.
        diagonal: the same as part of the image's diagonal, which is measured where it truly lies in the map.
    """

    pixels: float
    metres: float
    diagonal: float

    @property
    def success(self) -> bool:
        """Whether it is below :data:`SUCCESS` of the diagonal."""
        return self.diagonal < SUCCESS


def registration_error(
    estimated: npt.ArrayLike | None,
    true: npt.ArrayLike,
    size: tuple[int, int],
    pixel_size: float = math.nan,
) -> CornerError:
    """Corner error of a registration in three units.

    Args:
        estimated: (3, 3), pixel of the map ← pixel of the image, both counted from the centre of the first
            one; None where there is none or it was refused.
        true: (3, 3), likewise.
        size: (width, height) of the image, pixels.
        pixel_size: of the map, metres.

    Raises:
        InputError: the true transform sends a corner to infinity.
    """
    true = np.asarray(true, np.float64)
    pixels = corner_error(None if estimated is None else np.asarray(estimated, np.float64), true, size)
    width, height = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    mapped = corners @ true[:2, :2].T + true[:2, 2]
    mapped = mapped / (corners @ true[2, :2] + true[2, 2])[:, None]
    diagonal = float(np.mean([np.linalg.norm(mapped[2] - mapped[0]), np.linalg.norm(mapped[3] - mapped[1])]))
    metres = math.nan if math.isnan(pixel_size) else pixels * pixel_size
    return CornerError(pixels, metres, pixels / diagonal)


def success_rate(errors: Sequence[CornerError]) -> float:
    """Share of the registrations that succeed (:attr:`CornerError.success`); NaN for none."""
    return float(np.mean([error.success for error in errors])) if errors else math.nan


def mean_average_corner_error(errors: npt.ArrayLike, before: npt.ArrayLike) -> float:
    """MACE (DeTone et al., "Deep Image Homography Estimation", 2016): mean of the pairs' corner errors.

    A mean of all pairs needs a number for those without a result: they count as what they are when nothing
    is corrected.

    Args:
        errors: (N,) mean corner errors, infinite without a result.
        before: (N,) mean corner errors of the pairs without any registration.

    Raises:
        InputError: lengths differ, or an error before is not finite.
    """
    errors, before = np.asarray(errors, np.float64), np.asarray(before, np.float64)
    if errors.shape != before.shape or errors.ndim != 1 or not np.isfinite(before).all():
        raise InputError("MACE needs, for each pair, its error and its finite error before registration.")
    return float(np.where(np.isfinite(errors), errors, before).mean()) if errors.size else math.nan


def class_iou(a: Classes, b: Classes, num_classes: int = 6) -> Floats:
    """Intersection over union of each class in two pictures of classes.

    Args:
        a, b: (H, W) classes below `num_classes`. Pixels that are :data:`IGNORED` in either do not count.
        num_classes: number of classes.

    Returns:
        (num_classes,); NaN for a class that neither shows.

    Raises:
        InputError: shapes differ, or a class is out of range.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise InputError(f"Pictures of classes of different sizes: {a.shape} and {b.shape}.")
    counted = (a != IGNORED) & (b != IGNORED)
    first, second = a[counted].astype(np.int64), b[counted].astype(np.int64)
    if first.size and (min(first.min(), second.min()) < 0 or max(first.max(), second.max()) >= num_classes):
        raise InputError(f"A class is not between 0 and {num_classes - 1}.")
    table = np.bincount(first * num_classes + second, minlength=num_classes**2)
    confusion = table.reshape(num_classes, num_classes).astype(np.float64)
    both = np.diag(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1) - both
    return np.divide(both, either, out=np.full(num_classes, np.nan), where=either > 0)


def similarity_rate(
    after: npt.ArrayLike, attainable: npt.ArrayLike, classes: Sequence[int] = (1, 2, 3, 4, 5)
) -> float:
    """Similarity rate of a correction: how much of the attainable overlap it reaches.

    Layers never overlap an image's classes fully: labels differ at borders and for small things, and
    resampling costs some. So the overlap after correction is measured against that of the same layers under
    the *true* transform, resampled in the same way, and 1 % below it counts as reached
    (:data:`TOLERANCE`)::

        mean over classes c of  min(1, after[c] / (0.99 · attainable[c]))

    The KD-Mamba paper's abstract reports "86 % similarity" without a definition; this one is ours.

    Args:
        after: (C,) IoU of each class after correction; NaN counts as 0. All 0 for a refused registration
            whose layers then stay where they were would be too harsh: give their IoU before.
        attainable: (C,) IoU of each class under the true transform. Classes of NaN or 0 are left out.
        classes: the classes that count; by default all but 0, other.

    Returns:
        0 to 1; NaN where no class counts.

    Raises:
        InputError: lengths differ.
    """
    after, attainable = np.asarray(after, np.float64), np.asarray(attainable, np.float64)
    if after.shape != attainable.shape:
        raise InputError(f"{after.size} classes after correction, {attainable.size} attainable ones.")
    rates = [
        min(1.0, float(np.nan_to_num(after[c])) / ((1 - TOLERANCE) * float(attainable[c])))
        for c in classes
        if attainable[c] > 0
    ]
    return float(np.mean(rates)) if rates else math.nan
