"""Extreme View Dataset (Mishkin et al., "MODS", CVIU 2015): planes seen from very different directions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.tables import Table
from hloc_ext.errors import MissingInputError
from hloc_ext.evaluation.homography import corner_error
from hloc_ext.formats.images import read_image

from .homographies import ESTIMATOR, estimate
from .methods import Method, timed
from .options import Options, require_folder
from .pairs import Pair

CORRECT, FOUND = 5.0, 10.0  # pixels of image 1


def read_pairs(folder: Path) -> list[Pair]:
    """The pairs of ``NAME/1.jpg``, ``NAME/2.jpg``, ``NAME/H_1_to_2.txt``.

    Raises:
        MissingInputError: there are none.
    """
    pairs = []
    for path in sorted(require_folder(folder).glob("*/H_1_to_2.txt")):
        images = [read_image(path.parent / name, grayscale=True) for name in ("1.jpg", "2.jpg")]
        pairs.append(Pair(images[0], images[1], np.loadtxt(path), path.parent.name))
    if not pairs:
        raise MissingInputError(f"No pair NAME/H_1_to_2.txt with NAME/1.jpg and NAME/2.jpg in {folder}.")
    return pairs


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """Correct matches of each pair, and whether they give the homography."""
    pairs = read_pairs(options.data / "evd")[: options.limit]
    shapes = sorted(
        {f"{image.shape[1]}×{image.shape[0]}" for pair in pairs for image in (pair.image0, pair.image1)}
    )
    protocol = [
        f"{len(pairs)} pairs at native size ({', '.join(shapes)})",
        f"correct: at most {CORRECT:g} px from the true homography, in image 2 (one-sided)",
        f"found: {ESTIMATOR} has a mean corner error below {FOUND:g} px",
    ]
    columns = ["method", "pairs", "correct, mean", "correct, median", "share %", "found", "s per pair"]
    summary = Table("Extreme View Dataset", protocol, columns)
    details = Table(
        "Extreme View Dataset, correct matches of all, + where the homography is found",
        protocol,
        ["pair", *(method.name for method in methods)],
    )
    details.rows = [{"pair": pair.name} for pair in pairs]
    for method in methods:
        correct, total, found, seconds = [], [], [], []
        for pair, row in zip(pairs, details.rows, strict=True):
            matches, elapsed = timed(method, pair.image0, pair.image1)
            correct.append(int(pair.correct(matches, CORRECT).sum()))
            total.append(len(matches[0]))
            found.append(corner_error(estimate(matches), pair.truth, pair.image0.shape[::-1]) < FOUND)
            seconds.append(elapsed)
            row[method.name] = f"{correct[-1]} of {total[-1]}{' +' if found[-1] else ''}"
        summary.rows.append(
            {
                "method": method.name,
                "pairs": len(pairs),
                "correct, mean": float(np.mean(correct)),
                "correct, median": float(np.median(correct)),
                "share %": 100 * sum(correct) / max(sum(total), 1),
                "found": f"{sum(found)} of {len(pairs)}",
                "s per pair": float(np.median(seconds)),
            }
        )
        options.report(summary.rows[-1])
    return [summary, details]
