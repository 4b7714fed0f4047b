"""Pictures of the pairs on which matchers do worst."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from benchmarks.tables import Table
from hloc_ext.datasets.map_pairs import find_labelled_images
from hloc_ext.evaluation.homography import corner_error
from hloc_ext.formats.atomic import write_bytes
from hloc_ext.report.data import MatchPicture
from hloc_ext.report.match_picture import draw_matches

from . import homographies, registration
from .methods import Matches, Method
from .options import Options, require_folder
from .pairs import Pair

#: Pictures of each kind of pairs, below one another.
SHOWN = 3
#: Right matches, pixels in image 1.
CORRECT = 5.0
WIDTH = 1000
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """Corner errors of the worst pairs, and ``failures_METHOD_KIND.jpg``."""
    table = Table(
        "Worst pairs",
        [
            "pairs of the parts homographies and registration with the largest corner errors, as there",
            f"pictures failures_METHOD_KIND.jpg: matches within {CORRECT:g} px of the truth are green",
        ],
        ["kind", "method", "photo", "matches", "right %", "corner error px"],
    )
    limit = options.limit
    kinds = {
        "homographies": (homographies.make_pairs(options.data, "strong", limit), homographies.estimate),
        "registration": (_registration_pairs(options), registration.estimate),
    }
    for kind, (pairs, estimate) in kinds.items():
        for method in methods:
            found = []
            for pair in pairs:
                matches = method.match(pair.image0, pair.image1)
                size = pair.image0.shape[1], pair.image0.shape[0]
                found.append((corner_error(estimate(matches), pair.truth, size), pair, matches))
            worst = sorted(found, key=lambda item: -item[0])[:SHOWN]
            for error, pair, matches in worst:
                right = pair.correct(matches, CORRECT)
                table.add(kind=kind, method=method.name, photo=pair.name, matches=len(right))
                table.rows[-1] |= {
                    "right %": 100 * float(right.mean()) if len(right) else None,
                    "corner error px": float(error),
                }
                options.report(table.rows[-1])
            picture = montage((pair, matches) for _, pair, matches in worst)
            _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _JPEG)
            write_bytes(options.output / f"failures_{method.name}_{kind}.jpg", data.tobytes())
    return [table]


def _registration_pairs(options: Options) -> list[Pair]:
    """A pair of each photo of the part registration, without and with a map."""
    root = require_folder(options.data / "gis")
    return [
        pair
        for condition in (registration.CONDITIONS[0], registration.CONDITIONS[-2])
        for source in registration.SOURCES
        for pair in registration.make_pairs(find_labelled_images(root, [source]), 1, condition)[
            : options.limit
        ]
    ]


def montage(items: Iterable[tuple[Pair, Matches]]) -> np.ndarray:
    """Pairs with their matches, one below the other, H×W×3 uint8 (RGB)."""
    rows = []
    for pair, matches in items:
        picture = MatchPicture(
            pair.name, pair.image0, pair.image1, matches[0], matches[1], pair.correct(matches, CORRECT)
        )
        row = draw_matches(picture, WIDTH)
        rows.append(np.pad(row, ((0, 8), (0, WIDTH - row.shape[1]), (0, 0)), constant_values=255))
    return np.vstack(rows)
