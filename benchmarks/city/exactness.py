"""How exactly the pictures of a city agree with each other and with its layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pycolmap
from rasterio.features import rasterize
from rasterio.transform import from_bounds

from hloc_ext.city.labels import Label
from hloc_ext.city.views import View

Floats = npt.NDArray[np.float64]


def reprojection_errors(
    first: View,
    second: View,
    camera: pycolmap.Camera,
    poses: tuple[pycolmap.Rigid3d, pycolmap.Rigid3d],
    step: int = 7,
) -> Floats:
    """There and back: pixel → point by the first depth → second photo → point by its depth → first photo.

    Args:
        first, second: photos of one camera.
        camera: with distortion or without.
        poses: world→camera of both.
        step: every so many pixels.

    Returns:
        Distances in pixels, of those pixels whose point is visible in the second photo (depths within 2 %).
    """
    rows, columns = np.mgrid[step : camera.height - step : step, step : camera.width - step : step].reshape(
        2, -1
    )
    depth = first.depth[rows, columns]
    seen = np.isfinite(depth)
    pixels = np.stack([columns[seen] + 0.5, rows[seen] + 0.5], axis=1)
    forth = poses[1] * poses[0].inverse()
    there, z = _moved(pixels, depth[seen], camera, forth)
    inside = (
        (z > 0.1)
        & (there > 1.5).all(axis=1)
        & (there < [camera.width - 1.5, camera.height - 1.5]).all(axis=1)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        measured = 1 / _bilinear(1 / second.depth, there[inside])
    visible = np.abs(measured / z[inside] - 1) < 0.02
    back, _ = _moved(there[inside][visible], measured[visible], camera, forth.inverse())
    return np.linalg.norm(back - pixels[inside][visible], axis=1)


def _moved(
    pixels: Floats, depth: npt.NDArray[Any], camera: pycolmap.Camera, motion: pycolmap.Rigid3d
) -> tuple[Floats, Floats]:
    """Pixels of the same points for a camera that has moved, and their depths."""
    rays = _rays(camera, pixels)
    points = rays * depth[:, None] @ motion.rotation.matrix().T + motion.translation
    z = points[:, 2]
    ahead = (z > 0.1) & (np.abs(points[:, :2]) < 2 * z[:, None]).all(axis=1)
    result = np.full((len(pixels), 2), -1.0)
    result[ahead] = camera.img_from_cam(points[ahead])
    return result, z


def _rays(camera: pycolmap.Camera, pixels: Floats) -> Floats:
    """Directions (x, y, 1) of pixels, (N, 3)."""
    return np.column_stack([np.asarray(camera.cam_from_img(pixels)), np.ones(len(pixels))])


def _bilinear(values: npt.NDArray[Any], pixels: Floats) -> Floats:
    x, y = (pixels - 0.5).T
    column, row = x.astype(int), y.astype(int)
    fx, fy = x - column, y - row
    upper = values[row, column] * (1 - fx) + values[row, column + 1] * fx
    lower = values[row + 1, column] * (1 - fx) + values[row + 1, column + 1] * fx
    return upper * (1 - fy) + lower * fy


def epipolar_errors(
    first: View, second: View, camera: pycolmap.Camera, poses: tuple[pycolmap.Rigid3d, pycolmap.Rigid3d]
) -> Floats:
    """Distances of SIFT matches (mutual, ratio 0.8; nothing else is removed) from their epipolar lines,
    pixels.

    Lens distortion is removed from the keypoints first; the distance is the mean of both photos'.
    """
    sift = cv2.SIFT.create(4000)
    features = [sift.detectAndCompute(cv2.cvtColor(v.rgb, cv2.COLOR_RGB2GRAY), None) for v in (first, second)]
    if any(descriptors is None for _, descriptors in features):
        return np.zeros(0)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    forth, back = (
        {
            best.queryIdx: best.trainIdx
            for best, other in matcher.knnMatch(features[i][1], features[1 - i][1], k=2)
            if best.distance < 0.8 * other.distance
        }
        for i in (0, 1)
    )
    matches = np.array([(a, b) for a, b in forth.items() if back.get(b) == a]).reshape(-1, 2)
    rays = []
    for side in (0, 1):
        # OpenCV: the centre of the top-left pixel is (0, 0).
        points = np.array([features[side][0][i].pt for i in matches[:, side]]).reshape(-1, 2) + 0.5
        rays.append(_rays(camera, points))
    motion = poses[1] * poses[0].inverse()
    x, y, z = motion.translation
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ motion.rotation.matrix()
    lines1, lines0 = rays[0] @ essential.T, rays[1] @ essential
    residual = np.abs(np.sum(rays[1] * lines1, axis=1))
    distance = sum(residual / np.linalg.norm(lines[:, :2], axis=1) for lines in (lines0, lines1)) / 2
    return np.asarray(distance * camera.mean_focal_length())


def boundary_distances(
    view: View, label: Label, polygons: Iterable[Any], bounds: tuple[float, ...]
) -> Floats:
    """Distances between the outline of a class in an ortho tile and that of its layer, in pixels.

    What trees and cars hide is left out: outline pixels of the layer are compared only where the tile shows
        the class
    on one side and ground, road, sidewalk or building on the other.

    Args:
        view: ortho tile.
        label: class.
        polygons: shapely polygons of the layer, scene frame.
        bounds: (min x, min y, max x, max y) of the tile.

    Returns:
        For each such pixel its distance to the nearest outline pixel of the class in the tile.
    """
    transform = from_bounds(*bounds, view.label.shape[1], view.label.shape[0])
    drawn = rasterize(polygons, view.label.shape, transform=transform, dtype=np.uint8)
    shown = (view.label == label).astype(np.uint8)
    hidden = np.isin(view.label, (Label.VEGETATION, Label.VEHICLE, Label.PERSON, Label.POLE, Label.OTHER))
    free = cv2.dilate(hidden.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    outline = _outline(drawn) & free
    distance = cv2.distanceTransform(1 - _outline(shown).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance[outline].astype(np.float64)


def _outline(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Inner outline of a mask, without the border of the picture."""
    outline = (mask == 1) & (cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=1) == 0)
    return np.asarray(outline)


def azimuth_error(
    panorama: View, position: tuple[float, float, float], tile: View, bounds: tuple[float, ...]
) -> float:
    """Turn of the panorama, degrees, with which its ground agrees best with an ortho tile; 0 if both are
    right.

    Args:
        panorama: whole sphere.
        position: of its camera.
        tile: of the same place.
        bounds: (min x, min y, max x, max y) of the tile.
    """
    height, width = panorama.label.shape
    rows = np.arange(int(height * 0.52), int(height * 0.75), 2)
    columns = np.arange(0, width, 2)
    elevation = (0.5 - (rows[:, None] + 0.5) / height) * np.pi
    label = panorama.label[np.ix_(rows, columns)]
    reach = panorama.depth[np.ix_(rows, columns)] * np.cos(elevation)
    ground = np.isin(label, (Label.ROAD, Label.SIDEWALK, Label.CROSSING)) & (reach < 40)
    azimuth = np.broadcast_to(((columns + 0.5) / width - 0.5) * 2 * np.pi, label.shape)
    scale = tile.label.shape[1] / (bounds[2] - bounds[0])
    turns = np.arange(-5, 5.01, 0.25)
    agreement = []
    for turn in np.radians(turns):
        x = position[0] + reach * np.sin(azimuth + turn)
        y = position[1] + reach * np.cos(azimuth + turn)
        column = np.floor((x - bounds[0]) * scale).astype(int)
        row = np.floor((bounds[3] - y) * scale).astype(int)
        inside = ground & (column >= 0) & (row >= 0)
        inside &= (column < tile.label.shape[1]) & (row < tile.label.shape[0])
        agreement.append(np.mean(tile.label[row[inside], column[inside]] == label[inside]))
    best = int(np.argmax(agreement))
    if 0 < best < len(turns) - 1:
        left, middle, right = agreement[best - 1 : best + 2]
        return float(turns[best] + 0.125 * (left - right) / (left - 2 * middle + right))
    return float(turns[best])
