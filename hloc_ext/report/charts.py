"""Recall curves of a report."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..evaluation import Evaluation
from ..formats.results import Status
from .scene3d import MAP_COLOR, STATUS_COLORS


def _curve(errors: np.ndarray, number: int, limits: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the cumulative share (percent) of `number` queries, from `limits[0]` to `limits[1]`."""
    ordered = np.sort(errors[np.isfinite(errors)]).clip(min=limits[0])
    ordered = ordered[ordered <= limits[1]]
    share = 100 * np.arange(len(ordered) + 1) / number
    x = np.concatenate([[limits[0]], ordered, [limits[1]]])
    return x.astype(np.float32), np.append(share, share[-1]).astype(np.float32)


def recall_figure(evaluation: Evaluation, quantity: str, unit: str) -> dict[str, Any]:
    """Share of the queries below an error, over the error (logarithmic).

    Args:
        evaluation: errors of the queries.
        quantity: ``position`` or ``rotation``.
        unit: of the error, for the axis.

    Returns:
        A plotly figure (``data`` and ``layout``): a curve of all queries, one of the localized ones if
        these are fewer, and a dotted line at each threshold.
    """
    errors = np.array([getattr(error, quantity) for error in evaluation.errors.values()])
    localized = np.array([e.status == Status.LOCALIZED.value for e in evaluation.errors.values()], bool)
    thresholds = [pair[0 if quantity == "position" else 1] for pair in evaluation.thresholds]
    positive = errors[np.isfinite(errors) & (errors > 0)]
    # Errors far below the thresholds would only stretch the axis.
    low = max(min([*positive, *thresholds]) * 0.8, min(thresholds) * 1e-4)
    limits = (float(low), float(max([*np.minimum(positive, 10 * max(thresholds)), *thresholds]) * 1.25))
    curves = [("all queries, with fallback", errors, MAP_COLOR, "solid")]
    if 0 < localized.sum() < len(errors):
        curves.append(("localized only", errors[localized], STATUS_COLORS[Status.LOCALIZED], "dash"))
    data = []
    for name, chosen, color, dash in curves:
        x, y = _curve(chosen, len(errors), limits)
        line = {"shape": "hv", "color": color, "width": 2.5, "dash": dash}
        hover = "%{y:.1f} % within %{x:.3g} " + unit
        data.append(
            {"type": "scatter", "name": name, "x": x, "y": y, "mode": "lines", "line": line}
            | {"hovertemplate": hover + f"<extra>{name}</extra>"}
        )
    shapes = [
        {"type": "line", "x0": t, "x1": t, "y0": 0, "y1": 1, "yref": "paper"}
        | {"line": {"color": "rgba(128,128,128,0.7)", "width": 1, "dash": "dot"}}
        for t in thresholds
    ]
    layout = {
        "xaxis": {
            "type": "log",
            "range": np.log10(limits).tolist(),
            "title": {"text": f"{quantity} error ({unit})", "standoff": 6},
            "dtick": 1,
            "tickformat": "~g",
        },
        "yaxis": {"range": [0, 103], "title": {"text": "queries (%)", "standoff": 6}},
        "shapes": shapes,
        "margin": {"l": 56, "r": 12, "t": 12, "b": 90},
        "legend": {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
        "showlegend": len(curves) > 1,
    }
    return {"data": data, "layout": layout}
