"""Whether the scores of matches are probabilities: reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from benchmarks.tables import Table
from hloc_ext.evaluation.calibration import Reliability, reliability
from hloc_ext.formats.atomic import write_bytes

from .homographies import STRENGTHS, make_pairs
from .methods import Method
from .options import Options
from .pairs import Pair

CORRECT = 3.0  # pixels
SIDE, MARGIN = 320, 44


def diagram(method: Method, pairs: Sequence[Pair]) -> Reliability | None:
    """Scores of all matches of all pairs against their correctness; None where there are no matches."""
    scores, correct = [], []
    for pair in pairs:
        matches = method.match(pair.image0, pair.image1)
        scores.append(matches[2])
        correct.append(pair.correct(matches, CORRECT))
    if not sum(map(len, scores)):
        return None
    return reliability(np.concatenate(scores), np.concatenate(correct))


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """Share of correct matches by score, and ``reliability.png``."""
    columns = [f"{low / 10:.1f}–{low / 10 + 0.1:.1f}" for low in range(10)]
    table = Table(
        "Reliability of scores",
        [
            f"pairs of the part homographies; correct: within {CORRECT:g} px of the truth in image 1",
            "share of correct matches in % (number of matches) for each interval of the score",
            "ECE: expected calibration error, 0 to 1 (Guo et al., ICML 2017). Scores of classical features"
            " are no probabilities",
        ],
        ["change", "method", "pairs", "matches", "ECE", *columns],
    )
    pictures: dict[str, Reliability] = {}
    for strength in STRENGTHS:
        pairs = make_pairs(options.data, strength, options.limit)
        for method in methods:
            found = diagram(method, pairs)
            row: dict[str, object] = {"change": strength, "method": method.name, "pairs": len(pairs)}
            if found is not None:
                pictures[f"{method.name}, {strength}"] = found
                row |= {"matches": int(found.counts.sum()), "ECE": found.expected_calibration_error}
                row |= {
                    column: f"{100 * share:.0f} ({count})"
                    for column, share, count in zip(columns, found.accuracy, found.counts, strict=True)
                    if count
                }
            table.rows.append(row)
            options.report({key: row[key] for key in ("change", "method", "ECE") if key in row})
    if pictures:
        _, data = cv2.imencode(".png", draw(pictures))
        write_bytes(options.output / "reliability.png", data.tobytes())
    return [table]


def draw(diagrams: Mapping[str, Reliability]) -> np.ndarray:
    """Diagrams side by side, at most three in a row, H×W×3 uint8 (BGR)."""
    panels = [draw_panel(title, found) for title, found in diagrams.items()]
    columns = min(3, len(panels))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    return np.vstack([np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)])


def draw_panel(title: str, found: Reliability) -> np.ndarray:
    """Bars of the share of correct matches over the score, as dark as the bin has many matches."""
    size = SIDE + 2 * MARGIN
    canvas = np.full((size, size, 3), 255, np.uint8)
    low, high = MARGIN, MARGIN + SIDE

    def at(x: float, y: float) -> tuple[int, int]:
        return round(low + SIDE * x), round(high - SIDE * y)

    largest = max(int(found.counts.max()), 1)
    for i, count in enumerate(found.counts):
        if count:
            depth = np.sqrt(count / largest)
            color = tuple(
                float(v) for v in (1 - depth) * np.array([245, 235, 225]) + depth * np.array([180, 90, 20])
            )
            cv2.rectangle(canvas, at(found.edges[i], found.accuracy[i]), at(found.edges[i + 1], 0), color, -1)
    cv2.rectangle(canvas, (low, low), (high, high), (90, 90, 90), 1)
    cv2.line(canvas, at(0, 0), at(1, 1), (90, 90, 90), 1, cv2.LINE_AA)

    def write(text: str, position: tuple[int, int], scale: float = 0.42) -> None:
        cv2.putText(canvas, text, position, cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 40, 40), 1, cv2.LINE_AA)

    write(f"{title}: ECE {found.expected_calibration_error:.3f}", (low, low - 12), 0.5)
    write("score", (low + SIDE // 2 - 18, high + 34))
    write(f"correct within {CORRECT:g} px", (low + 6, low + 16))
    for value in (0, 0.5, 1):
        write(f"{value:g}", (at(value, 0)[0] - 6, high + 16))
        write(f"{value:g}", (low - 28, at(0, value)[1] + 5))
    return canvas
