"""The 3-D view of a report: map points, map cameras and query poses, upright."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycolmap

from ..evaluation import match_names
from ..formats.results import QueryResult, Status
from .data import Scene

STATUS_COLORS = {Status.LOCALIZED: "#1fa35c", Status.FALLBACK: "#e08a00", Status.FAILED: "#d6334a"}
MAP_COLOR = "#5b83c4"
TRUTH_COLOR = "#b04fc4"

#: Corners of the image of a drawn camera at depth 1: left/right, top/bottom (y is down in cameras).
CORNERS = np.array([[-0.6, -0.45, 1], [0.6, -0.45, 1], [0.6, 0.45, 1], [-0.6, 0.45, 1]])
#: The eight edges of a frustum in two strokes: 0 is the centre, 1–4 the corners, 5 a gap.
STROKES = np.array([1, 2, 0, 1, 4, 0, 3, 4, 5, 2, 3, 5])

Poses = Mapping[str, pycolmap.Rigid3d]


@dataclass
class View:
    """Where and how a scene is shown.

    Attributes:
        rotation: 3×3, turns the upward direction of the world to +z of the display.
        center: world point at the origin of the display.
        extent: half sizes of the shown box in display axes, map units.
        eye: position of the viewer, in units of the longest side of the box.
        frustum_size: depth of a drawn camera, map units.
    """

    rotation: np.ndarray
    center: np.ndarray
    extent: np.ndarray
    eye: np.ndarray
    frustum_size: float

    def to_display(self, points: np.ndarray) -> np.ndarray:
        """Map N×3 world points to display coordinates (float32, relative to the centre)."""
        return ((points - self.center) @ self.rotation.T).astype(np.float32)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Which of N×3 world points lie in the shown box; N bool."""
        return (np.abs((points - self.center) @ self.rotation.T) <= self.extent).all(1)


def _rotations(poses: Poses) -> np.ndarray:
    """N×3×3, world→camera."""
    return np.array([pose.rotation.matrix() for pose in poses.values()]).reshape(-1, 3, 3)


def _centers(poses: Poses) -> np.ndarray:
    return np.array([pose.inverse().translation for pose in poses.values()]).reshape(-1, 3)


def up_direction(poses: Poses) -> np.ndarray:
    """Upward direction of the world as most photographers hold their cameras.

    Args:
        poses: world→camera.

    Returns:
        Unit vector: opposite to the mean of the cameras' y axes (down in the image). Where these cancel
        out, as in aerial photos taken straight down, it is opposite to the mean viewing direction; z
        where that cancels out, too.
    """
    rotations = _rotations(poses)
    if len(rotations):
        for axis in (1, 2):
            mean = rotations[:, axis].mean(0)
            if np.linalg.norm(mean) > 0.3:
                return -mean / np.linalg.norm(mean)
    return np.array([0.0, 0.0, 1.0])


def _rotation_to_z(up: np.ndarray) -> np.ndarray:
    """Rotation matrix that turns a unit vector to +z by the shortest way."""
    z = np.array([0.0, 0.0, 1.0])
    if up[2] < -0.999999:
        return np.diag([1.0, -1.0, -1.0])
    axis = np.cross(up, z)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + up[2])


def make_view(points: np.ndarray, map_poses: Poses, query_poses: Poses) -> View:
    """Choose the shown box and the viewpoint.

    Args:
        points: N×3, world; the farthest 2 % on each side do not enlarge the box.
        map_poses: world→camera; all are inside the box.
        query_poses: world→camera; those far away, which are wrong, do not enlarge the box.

    Returns:
        View from behind the cameras and above.
    """
    cameras = map_poses if map_poses else query_poses
    rotation = _rotation_to_z(up_direction(cameras))
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    if len(points):
        low, high = np.percentile(points @ rotation.T, [2, 98], axis=0)
    if len(cameras):
        centers = _centers(cameras) @ rotation.T
        low, high = np.minimum(low, centers.min(0)), np.maximum(high, centers.max(0))
    if not np.isfinite(low).all():
        low, high = -np.ones(3), np.ones(3)
    margin = 0.75 * np.linalg.norm(high - low)
    queries = _centers(query_poses) @ rotation.T
    near = queries[((queries >= low - margin) & (queries <= high + margin)).all(1)]
    if len(near):
        low, high = np.minimum(low, near.min(0)), np.maximum(high, near.max(0))
    longest = float((high - low).max()) or 1.0
    extent = np.maximum((high - low) / 2 * 1.08, 0.05 * longest)
    forward = (_rotations(cameras)[:, 2] @ rotation.T).mean(0) if len(cameras) else np.zeros(3)
    behind = np.array([-forward[0], -forward[1], 0.0])
    if np.linalg.norm(behind) < 0.2:
        behind = np.array([0.7, -0.7, 0.0])
    direction = behind / np.linalg.norm(behind) + [0, 0, 0.65]
    radius = np.linalg.norm(extent / extent.max()) / 2
    eye = direction / np.linalg.norm(direction) * 1.9 * radius
    number = max(len(map_poses) + len(query_poses), 1)
    size = longest * float(np.clip(0.35 / np.sqrt(number), 0.012, 0.06))
    return View(rotation, rotation.T @ ((low + high) / 2), extent, eye, size)


def frustum_lines(poses: Poses, size: float) -> np.ndarray:
    """Outline of each camera as a line with gaps.

    Args:
        poses: world→camera.
        size: depth of the frustum, map units.

    Returns:
        12N×3 world points; NaN where the line is interrupted.
    """
    centers, rotations = _centers(poses), _rotations(poses)
    corners = size * np.einsum("ck,nkj->ncj", CORNERS, rotations) + centers[:, None]
    gap = np.full((len(centers), 1, 3), np.nan)
    vertices = np.concatenate([centers[:, None], corners, gap], 1)
    return vertices[:, STROKES].reshape(-1, 3)


def _coordinates(points: np.ndarray) -> dict[str, np.ndarray]:
    return {axis: np.ascontiguousarray(points[:, i]) for i, axis in enumerate("xyz")}


def _camera_traces(name: str, poses: Poses, color: str, view: View, width: float) -> list[dict[str, Any]]:
    centers = _centers(poses)
    text = [f"{n}<br>{x:.4g}, {y:.4g}, {z:.4g}" for n, (x, y, z) in zip(poses, centers, strict=True)]
    common = {"type": "scatter3d", "legendgroup": name}
    lines = {
        **common,
        **_coordinates(view.to_display(frustum_lines(poses, view.frustum_size))),
        "name": f"{name} ({len(poses)})",
        "mode": "lines",
        "line": {"color": color, "width": width},
        "hoverinfo": "skip",
    }
    markers = {
        **common,
        **_coordinates(view.to_display(centers)),
        "name": name,
        "mode": "markers",
        "marker": {"color": color, "size": 2.5},
        "text": text,
        "hovertemplate": "%{text}<extra>" + name + "</extra>",
        "showlegend": False,
    }
    return [lines, markers]


def _point_trace(scene: Scene, view: View, max_points: int) -> tuple[dict[str, Any], int]:
    inside = np.flatnonzero(view.inside(scene.points))
    # A fixed permutation, not every n-th point: models are ordered by track, hence by place.
    shown = np.sort(np.random.default_rng(0).permutation(inside)[:max_points])
    color: Any = "rgb(140,140,140)"
    if scene.colors is not None:
        color = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in scene.colors[shown].tolist()]
    size = 2.6 if len(shown) < 3000 else 1.8
    trace = {
        "type": "scatter3d",
        "name": "map points",
        "mode": "markers",
        "marker": {"size": size, "color": color},
        "hoverinfo": "skip",
        "showlegend": False,
        **_coordinates(view.to_display(scene.points[shown])),
    }
    return trace, len(shown)


def grid_step(length: float) -> float:
    """The number 1, 2 or 5 times a power of ten that divides `length` in about ten parts."""
    power = 10.0 ** np.floor(np.log10(length / 10))
    return float(power * min((1, 2, 5, 10), key=lambda factor: abs(np.log(length / 10 / power / factor))))


def _ground_trace(view: View, step: float) -> dict[str, Any]:
    """Level grid at the bottom of the box; the page sets its colour by its name."""
    x, y, z = view.extent
    segments = []
    for value in np.arange(-np.floor(x / step), np.floor(x / step) + 1) * step:
        segments += [(value, -y, -z), (value, y, -z), (np.nan,) * 3]
    for value in np.arange(-np.floor(y / step), np.floor(y / step) + 1) * step:
        segments += [(-x, value, -z), (x, value, -z), (np.nan,) * 3]
    return {
        "type": "scatter3d",
        "name": "grid",
        "mode": "lines",
        "line": {"color": "#b8c0cc", "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
        **_coordinates(np.array(segments, np.float32)),
    }


def _truth_traces(results: list[QueryResult], ground_truth: Poses, view: View) -> list[dict[str, Any]]:
    """True positions of the queries, and a line from each to its estimate."""
    true_names = match_names((result.name for result in results), ground_truth)
    poses = {name: ground_truth[true] for name, true in true_names.items()}
    if not poses:
        return []
    segments = []
    for result in results:
        pose = result.cam_from_world
        if pose is not None and result.name in poses:
            ends = [pose.inverse().translation, poses[result.name].inverse().translation]
            segments.append(np.array([*ends, np.full(3, np.nan)]))
    status = {result.name: result.status.value for result in results}
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter3d",
            "name": f"true positions ({len(poses)})",
            "legendgroup": "truth",
            "mode": "markers",
            "marker": {"color": TRUTH_COLOR, "size": 3.5, "symbol": "diamond-open"},
            "text": [f"{name}<br>{status[name]}" for name in poses],
            "hovertemplate": "%{text}<extra>true position</extra>",
            **_coordinates(view.to_display(_centers(poses))),
        }
    ]
    if segments:
        traces.append(
            {
                "type": "scatter3d",
                "name": "error",
                "legendgroup": "truth",
                "mode": "lines",
                "line": {"color": TRUTH_COLOR, "width": 1.5},
                "hoverinfo": "skip",
                "showlegend": False,
                **_coordinates(view.to_display(np.concatenate(segments))),
            }
        )
    return traces


def scene_figure(
    scene: Scene,
    results: list[QueryResult],
    ground_truth: Poses | None = None,
    unit: str = "units",
    max_points: int = 20_000,
    max_cameras: int = 2_000,
) -> tuple[dict[str, Any], str]:
    """Build the 3-D view.

    Args:
        scene: map.
        results: queries; those with a pose are drawn in the colour of their status.
        ground_truth: true poses, world→camera, by name.
        unit: of length in the map.
        max_points: most points drawn, chosen by a fixed seed.
        max_cameras: most map cameras drawn, evenly spaced in their order.

    Returns:
        A plotly figure (``data`` and ``layout``), and a caption that says what is drawn and what is not.
    """
    map_poses = dict(scene.map_poses)
    names = list(map_poses)
    if len(names) > max_cameras:
        chosen = np.linspace(0, len(names) - 1, max_cameras).round().astype(int)
        map_poses = {names[i]: map_poses[names[i]] for i in chosen}
    queries = {status: _poses_of(results, status) for status in (Status.LOCALIZED, Status.FALLBACK)}
    view = make_view(scene.points, map_poses, {**queries[Status.LOCALIZED], **queries[Status.FALLBACK]})
    step = grid_step(2 * float(view.extent.max()))
    points, num_points = _point_trace(scene, view, max_points)
    traces = [_ground_trace(view, step), points]
    notes = [f"{num_points:,} of {len(scene.points):,} points"]
    if map_poses:
        traces += _camera_traces("map images", map_poses, MAP_COLOR, view, 1.5)
        notes.append(f"{len(map_poses):,} of {len(names):,} map images")
    outside = 0
    for status, poses in queries.items():
        if poses:
            traces += _camera_traces(status.value, poses, STATUS_COLORS[status], view, 3)
            outside += int((~view.inside(_centers(poses))).sum())
    if ground_truth:
        traces += _truth_traces(results, ground_truth, view)
    caption = f"Shown: {', '.join(notes)}. One grid square is {step:g} {unit}."
    caption += " Drag to turn; click, then scroll, to zoom."
    if outside:
        caption += f" {outside} query poses lie outside the view."
    return {"data": traces, "layout": _layout(view)}, caption


def _poses_of(results: list[QueryResult], status: Status) -> dict[str, pycolmap.Rigid3d]:
    poses = {result.name: result.cam_from_world for result in results if result.status is status}
    return {name: pose for name, pose in poses.items() if pose is not None}


def _layout(view: View) -> dict[str, Any]:
    sizes = (view.extent / view.extent.max()).tolist()
    axes = {
        f"{axis}axis": {"visible": False, "range": [-half, half], "autorange": False}
        for axis, half in zip("xyz", view.extent.tolist(), strict=True)
    }
    return {
        "scene": {
            **axes,
            "aspectmode": "manual",
            "aspectratio": dict(zip("xyz", sizes, strict=True)),
            "camera": {
                "eye": dict(zip("xyz", view.eye.tolist(), strict=True)),
                "up": {"x": 0, "y": 0, "z": 1},
                "center": {"x": 0, "y": 0, "z": -0.05},
            },
            "dragmode": "orbit",
        },
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1,
            "xanchor": "left",
            "yanchor": "top",
            "itemsizing": "constant",
        },
    }
