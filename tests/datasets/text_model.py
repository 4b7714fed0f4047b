"""COLMAP models written by hand: small scenes whose tokens and overlaps can be worked out on paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

#: Camera of the models: 90° wide, cells of 10 pixels.
PINHOLE = "PINHOLE 140 140 70 70 70 70"


class View(NamedTuple):
    """An image that looks along z, without rotation.

    Attributes:
        name: of the image.
        center: of the camera.
        seen: pixel of each point that it observes, by the number of the point.
    """

    name: str
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seen: Mapping[int, tuple[float, float]] = {}


def write_text_model(
    folder: Path, points: Sequence[Iterable[float]], views: Sequence[View], camera: str = PINHOLE
) -> Path:
    """Write a model with the points 10, 20, 30, … and the images 1, 2, 3, …; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text(f"# Number of cameras: 1\n7 {camera}\n")
    lines = [f"# Number of images: {len(views)}"]
    for number, view in enumerate(views, 1):
        x, y, z = (-value for value in view.center)
        lines.append(f"{number} 1 0 0 0 {x} {y} {z} 7 {view.name}")
        lines.append(" ".join(f"{u} {v} {10 * (point + 1)}" for point, (u, v) in view.seen.items()))
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    lines = [f"# Number of points: {len(points)}"]
    for number, xyz in enumerate(points, 1):
        lines.append(f"{10 * number} {' '.join(str(float(value)) for value in xyz)} 0 0 0 1.0 1 0")
    (folder / "points3D.txt").write_text("\n".join(lines) + "\n")
    return folder


def project(point: Iterable[float], center: Iterable[float] = (0.0, 0.0, 0.0)) -> tuple[float, float]:
    """Pixel of a point in a view; the centre of the top-left pixel is (0.5, 0.5)."""
    x, y, z = np.asarray(list(point)) - np.asarray(list(center))
    return 70 + 70 * x / z, 70 + 70 * y / z
