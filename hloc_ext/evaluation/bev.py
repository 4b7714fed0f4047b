"""How well the classes of a bird's-eye view, or of any class map, are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError

#: Cells that are not counted.
IGNORE = 255


def confusion_matrix(
    predicted: npt.ArrayLike, label: npt.ArrayLike, num_classes: int, ignore: int = IGNORE
) -> npt.NDArray[np.int64]:
    """Count the cells of each true and predicted class; sums over pictures are sums of matrices.

    Args:
        predicted: classes, any shape.
        label: true classes of the same shape; cells of value `ignore` are not counted.
        num_classes: K.
        ignore: see `label`.

    Returns:
        (K, K): row is the true class, column the predicted one.

    Raises:
        InputError: shapes differ, or a class is out of range.
    """
    predicted, label = np.asarray(predicted), np.asarray(label)
    if predicted.shape != label.shape:
        raise InputError(
            f"The predicted classes have shape {predicted.shape}, the labels {label.shape}: resize the labels"
            " to the prediction (nearest neighbour)."
        )
    counted = label != ignore
    rows, columns = label[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for name, values in (("labels", rows), ("predicted classes", columns)):
        if values.size and not (values.min() >= 0 and values.max() < num_classes):
            raise InputError(
                f"The {name} go from {values.min()} to {values.max()}: expected 0 to {num_classes - 1}, or"
                f" {ignore} for what is not counted."
            )
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


@dataclass(frozen=True)
class SegmentationScores:
    """Scores of a confusion matrix.

    Attributes:
        iou: (K,) intersection over union of each class; NaN for a class that is neither true nor predicted
            anywhere.
        mean_iou: mean of `iou` over the classes that occur in the labels (Everingham et al., "The PASCAL
            Visual Object Classes Challenge", IJCV 2010, where all of them do); NaN without cells.
        accuracy: share of cells whose class is right; NaN without cells.
        frequency: (K,) share of the cells of each true class.
    """

    iou: npt.NDArray[np.float64]
    mean_iou: float
    accuracy: float
    frequency: npt.NDArray[np.float64]

    def by_name(self, names: Sequence[str]) -> dict[str, float]:
        """IoU of each class by its name, without those that occur nowhere."""
        return {name: float(iou) for name, iou in zip(names, self.iou, strict=True) if not np.isnan(iou)}


def segmentation_scores(confusion: npt.ArrayLike) -> SegmentationScores:
    """Scores of the counts of :func:`confusion_matrix`, (K, K)."""
    counts = np.asarray(confusion, np.float64)
    right, true = np.diag(counts), counts.sum(1)
    union, total = true + counts.sum(0) - right, counts.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = right / union
        frequency, accuracy = true / total, right.sum() / total
    occurring = true > 0
    mean = float(iou[occurring].mean()) if occurring.any() else float("nan")
    return SegmentationScores(iou, mean, float(accuracy), frequency)
