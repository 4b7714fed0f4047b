"""Pictures and charts of cross-view retrieval: tiles, activation maps, bird's-eye views, embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from hloc_ext.city.labels import COLORS, Label
from hloc_ext.cross_view.localization import Localization
from hloc_ext.errors import InputError
from hloc_ext.evaluation.cross_view import Ranks
from hloc_ext.extractors.cross_view import CrossViewDescriptor
from hloc_ext.formats.images import read_image, resize_image
from hloc_ext.models.bev_geometry import IGNORE

Pixels = npt.NDArray[np.uint8]

TILE, GAP, COLUMNS = 180, 8, 5
WIDTH = COLUMNS * TILE + (COLUMNS - 1) * GAP
TRUE, SEMI, WRONG, UNKNOWN = (20, 150, 80), (220, 140, 20), (200, 40, 60), (128, 128, 128)
BORDER = 6
#: Pairs in the map of embeddings; more hide each other.
MAX_EMBEDDED = 400


def framed(picture: Pixels, color: tuple[int, int, int]) -> Pixels:
    """A picture with a frame drawn over its border."""
    output = picture.copy()
    output[:BORDER], output[-BORDER:] = color, color
    output[:, :BORDER], output[:, -BORDER:] = color, color
    return output


def row_of(pictures: Sequence[Pixels], width: int = WIDTH) -> Pixels:
    """Pictures of one height side by side on white."""
    canvas = np.full((pictures[0].shape[0], width, 3), 255, np.uint8)
    left = 0
    for picture in pictures:
        shown = picture[:, : max(0, width - left)]
        canvas[:, left : left + shown.shape[1]] = shown
        left += picture.shape[1] + GAP
    return canvas


def stacked(rows: Sequence[Pixels]) -> Pixels:
    """Pictures of one width below each other, with gaps."""
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])


def strip(ground: Path | Pixels) -> Pixels:
    """A panorama or photo of the width of the page, at most half as high."""
    picture = read_image(ground) if isinstance(ground, Path) else ground
    height, width = picture.shape[:2]
    scale = min(WIDTH / width, WIDTH / 2 / height)
    return row_of([resize_image(picture, (max(1, round(width * scale)), max(1, round(height * scale))))])


def tile_picture(path: Path, side: int = TILE) -> Pixels:
    """A tile, or a grey square where its file is gone."""
    if not path.exists():
        return np.full((side, side, 3), 200, np.uint8)
    return resize_image(read_image(path, least_side=side), (side, side))


def top_tiles(ground: Path, tiles: Sequence[Path], colors: Sequence[tuple[int, int, int]]) -> Pixels:
    """A query above the tiles that were found for it, best first."""
    found = [framed(tile_picture(path), color) for path, color in zip(tiles, colors, strict=True)]
    return stacked([strip(ground), *(row_of(found[i : i + COLUMNS]) for i in range(0, len(found), COLUMNS))])


def activation(
    model: CrossViewDescriptor, image: torch.Tensor, other: torch.Tensor
) -> npt.NDArray[np.float32]:
    """Which parts of a picture make it similar to another one.

    Input times the gradient of the cosine similarity, positive part, smoothed (Shrikumar et al., "Not just a
    black box", 2016).

    Args:
        model: of the picture's view.
        image: 3×H×W, normalised.
        other: (D,) descriptor of the other picture.

    Returns:
        (H, W) from 0 to 1.
    """
    with torch.enable_grad():
        given = image[None].clone().requires_grad_()
        similarity = (model.net(given, model.view)[0] * other).sum()
        gradient = torch.autograd.grad(similarity, given)[0]
    found = (gradient * given).detach()[0].sum(0).clamp_min(0).cpu().numpy()
    smooth = cv2.GaussianBlur(found, (0, 0), max(1.0, min(found.shape) / 20))
    return np.clip(smooth / max(float(np.quantile(smooth, 0.995)), 1e-12), 0, 1).astype(np.float32)


def heated(picture: Pixels, heat: npt.NDArray[np.float32]) -> Pixels:
    """A picture under a map of heat from 0 (transparent) to 1, resized to it."""
    values = cv2.resize(heat, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap((255 * values).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    weight = 0.7 * values[:, :, None]
    return (picture * (1 - weight) + colors * weight).astype(np.uint8)


def class_picture(classes: npt.NDArray[Any], side: int = TILE) -> Pixels:
    """Classes in the colours of the city; what is not known is black."""
    palette = np.zeros((256, 3), np.uint8)
    for label in list(Label)[:6]:
        palette[label] = COLORS[label]
    palette[IGNORE] = 0
    picture = cv2.resize(palette[classes.astype(np.uint8)], (side, side), interpolation=cv2.INTER_NEAREST)
    return np.asarray(picture, np.uint8)


def pose_picture(tile: Path, place: Localization, side: int = TILE) -> Pixels:
    """A tile with the probability of the positions, and an arrow at the camera."""
    pose = place.pose
    picture = tile_picture(tile, side)
    if pose is None:
        return picture
    density = pose.position_probability
    cell = float(pose.scores.shifts[1] - pose.scores.shifts[0]) / pose.scores.tile_width * side
    extent = max(1, round(density.shape[0] * cell))
    patch = cv2.resize(density / density.max(), (extent, extent), interpolation=cv2.INTER_LINEAR)
    heat = np.zeros((side, side), np.float32)
    start = (side - extent) // 2
    inner = slice(max(0, start), max(0, start) + min(extent, side))
    cut = slice(max(0, -start), max(0, -start) + min(extent, side))
    heat[inner, inner] = patch[cut, cut]
    output = np.ascontiguousarray(heated(picture, heat))
    east, south = pose.offset
    at = np.array([(east + 0.5) * side, (south + 0.5) * side])
    azimuth = np.radians(pose.heading)
    ahead = at + 0.14 * side * np.array([np.sin(azimuth), -np.cos(azimuth)])
    for color, width in (((0, 0, 0), 4), ((80, 255, 120), 2)):
        cv2.arrowedLine(output, _pixel(at), _pixel(ahead), color, width, cv2.LINE_AA, tipLength=0.35)
    return output


def _pixel(point: npt.NDArray[np.float64]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def recall_chart(ranks: Mapping[str, Ranks]) -> dict[str, Any]:
    """Share of the queries whose true tile is among the first k, over k; dotted: equal tiles before it."""
    colors = ["#2c62b8", "#d0532b", "#14784a", "#8a5300", "#7a3fb0", "#b01f36"]
    data = []
    most = max(rank.num_references for rank in ranks.values())
    ks = np.unique(np.geomspace(1, most, 200).round().astype(int))
    for number, (name, rank) in enumerate(ranks.items()):
        for ties, dash in (("optimistic", "solid"), ("pessimistic", "dot")):
            if ties == "pessimistic" and not rank.num_tied_queries:
                continue
            positions = rank.greater + (rank.tied if ties == "pessimistic" else 0)
            share = 100 * np.searchsorted(np.sort(positions), ks, side="left") / len(positions)
            line = {"color": colors[number % len(colors)], "dash": dash, "width": 2.5, "shape": "hv"}
            label = name if ties == "optimistic" else f"{name}, {ties}"
            data.append(
                {"type": "scatter", "mode": "lines", "name": label, "x": ks, "y": share, "line": line}
                | {"hovertemplate": "%{y:.1f} % among the first %{x}<extra>" + label + "</extra>"}
            )
    layout = {
        "xaxis": {"type": "log", "title": {"text": "tiles looked at", "standoff": 6}, "dtick": 1},
        "yaxis": {"range": [0, 103], "title": {"text": "queries (%)", "standoff": 6}},
        "margin": {"l": 56, "r": 12, "t": 12, "b": 90},
        "legend": {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
        "showlegend": len(data) > 1,
    }
    return {"data": data, "layout": layout}


def embed(
    descriptors: npt.NDArray[np.float32], method: str = "pca", seed: int = 0
) -> npt.NDArray[np.float64]:
    """Descriptors in a plane, (N, D) to (N, 2).

    Args:
        descriptors: N ≥ 3 of them.
        method: ``pca``, or ``umap`` (needs umap-learn).
        seed: of ``umap``.

    Raises:
        InputError: an unknown method, or umap-learn is not installed.
    """
    if method == "umap":
        try:
            import umap
        except ImportError as error:
            raise InputError(f"A map by UMAP needs umap-learn ({error}): pip install umap-learn.") from error
        return np.asarray(umap.UMAP(random_state=seed).fit_transform(descriptors), float)
    if method != "pca":
        raise InputError(f"Embeddings are mapped by pca or umap, not by {method!r}.")
    centred = descriptors.astype(float) - descriptors.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(axes[:2, np.abs(axes[:2]).argmax(1)].diagonal())  # the decomposition leaves them open
    return centred @ (axes[:2] * signs[:, None]).T


def embedding_chart(
    tiles: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    positives: npt.NDArray[np.int64],
    found: npt.NDArray[np.bool_],
    names: Sequence[str],
    method: str = "pca",
) -> dict[str, Any]:
    """Panoramas and their tiles in a plane, joined by lines.

    Args:
        tiles: (R, D).
        queries: (Q, D).
        positives: (Q,) tile of each query.
        found: (Q,) whether its tile comes first.
        names: of the queries.
        method: see :func:`embed`.
    """
    rows = np.linspace(0, len(queries) - 1, min(len(queries), MAX_EMBEDDED)).round().astype(int)
    used = positives[rows]
    plane = embed(np.concatenate([queries[rows], tiles[used]]), method)
    ground, aerial = np.split(plane, 2)
    lines = np.stack([ground, aerial, np.full_like(ground, np.nan)], axis=1).reshape(-1, 2)
    data = [_line("pairs", lines)]
    data.append(_points("tiles", aerial, "#5c6675", [f"tile of {names[row]}" for row in rows], "square-open"))
    for label, color, chosen in (("found", "#14784a", found[rows]), ("not found", "#b01f36", ~found[rows])):
        if chosen.any():
            texts = [names[row] for row in rows[chosen]]
            data.append(_points(f"panoramas, {label}", ground[chosen], color, texts, "circle"))
    axis = {"showticklabels": False, "zeroline": False}
    return {"data": data, "layout": {"xaxis": axis, "yaxis": {**axis, "scaleanchor": "x"}, **_LEGEND}}


def map_chart(places: Sequence[Localization], truth: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Where queries were found and where they were taken, metres east and north of the middle.

    Args:
        places: Q of them.
        truth: (Q, 2) latitude and longitude, NaN unknown.
    """
    found = np.array([place.latlon for place in places], float).reshape(-1, 2)
    known = np.concatenate([found, truth])[np.isfinite(np.concatenate([found, truth])).all(1)]
    middle = np.median(known, axis=0) if len(known) else np.zeros(2)
    scale = 111_320.0 * np.array([np.cos(np.radians(middle[0])), 1.0])

    def metres(latlon: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (latlon - middle)[:, ::-1] * scale

    lines = np.stack([metres(truth), metres(found), np.full((len(places), 2), np.nan)], axis=1)
    names = [f"{place.name}<br>{place.tiles[0]}" for place in places]
    data = [
        _line("error", lines.reshape(-1, 2)),
        _points("true places", metres(truth), "#e08a00", names, "diamond-open"),
        _points("found", metres(found), "#2c62b8", names, "circle"),
    ]
    layout = {
        "xaxis": {"title": {"text": "metres to the east", "standoff": 6}},
        "yaxis": {"title": {"text": "metres to the north", "standoff": 6}, "scaleanchor": "x"},
    }
    return {"data": data, "layout": {**layout, **_LEGEND}}


_LEGEND = {
    "margin": {"l": 56, "r": 12, "t": 12, "b": 90},
    "legend": {"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
}


def _line(name: str, points: npt.NDArray[np.float64]) -> dict[str, Any]:
    line = {"color": "rgba(128,128,128,0.5)", "width": 1}
    x, y = points.astype(np.float32).T
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": line,
        "hoverinfo": "skip",
    }


def _points(
    name: str, points: npt.NDArray[np.float64], color: str, texts: Sequence[str], symbol: str
) -> dict[str, Any]:
    x, y = points.astype(np.float32).T
    marker = {"color": color, "size": 6, "symbol": symbol}
    trace = {"type": "scatter", "mode": "markers", "name": name, "x": x, "y": y, "marker": marker}
    return trace | {"text": list(texts), "hovertemplate": "%{text}<extra>" + name + "</extra>"}
