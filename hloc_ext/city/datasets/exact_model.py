"""A COLMAP model with exact points: corners of photos, lifted by rays, seen where nothing hides them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pycolmap

from ...formats.atomic import make_dir, replacing
from ...formats.images import read_image
from ..labels import MOVING, Label
from ..light import overcast
from ..mesh import Mesh
from ..parallel import run_all
from ..render import Renderer, Triangles

Floats = npt.NDArray[np.float64]

#: Most corners of a photo, and their least distance in pixels.
NUM_CORNERS, CORNER_DISTANCE = 700, 5
#: Corners of photos this far away are looked for, metres.
REACH = 45.0
#: A photo sees a corner like the one that it was found in: at most so many degrees and times as far away.
TURN, SCALE = 50.0, 2.5
#: Corners this near to that of another photo are the same, pixels.
SAME = 3

_STATIC = [int(label) for label in Label if label not in (*MOVING, Label.SKY)]


@dataclass(frozen=True)
class Observer:
    """A photo of the model.

    Attributes:
        name: in the model.
        path: of the picture.
        camera: with its id.
        cam_from_world: pose.
        traffic: makes the cars and people that are in the picture.
    """

    name: str
    path: Path
    camera: pycolmap.Camera
    cam_from_world: pycolmap.Rigid3d
    traffic: Callable[[], Mesh]

    @property
    def center(self) -> Floats:
        """Centre of projection, (3,)."""
        return np.asarray(self.cam_from_world.inverse().translation)


def reference_model(
    observers: Sequence[Observer], renderer: Renderer, work: Path, workers: int
) -> pycolmap.Reconstruction:
    """Make the model; every observation is the exact projection of its point.

    Args:
        observers: the photos; images of the model are numbered from 1 in this order.
        renderer: of the city.
        work: folder for what has been computed, so that an interrupted call can be repeated; removed at last.
        workers: number of processes.
    """
    make_dir(work)
    corner_files = [work / f"corners-{i}.npz" for i in range(len(observers))]
    seen_files = [work / f"seen-{i}.npz" for i in range(len(observers))]
    _run_missing(partial(_find_corners, observers, renderer), corner_files, workers, "corners of the map")
    corners = [_load(path) for path in corner_files]
    _run_missing(partial(_find_seen, observers, corners, renderer), seen_files, workers, "points of the map")
    model = _assemble(observers, corners, [_load(path) for path in seen_files])
    shutil.rmtree(work, ignore_errors=True)
    return model


def _run_missing(
    compute: Callable[[int], dict[str, npt.NDArray]], files: list[Path], workers: int, description: str
) -> None:
    """Write the arrays that `compute` returns for each number to its file, unless that exists."""

    def task(index: int) -> None:
        arrays = compute(index)
        with replacing(files[index]) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    run_all([i for i, path in enumerate(files) if not path.exists()], task, workers, description)


def _load(path: Path) -> dict[str, npt.NDArray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _find_corners(observers: Sequence[Observer], renderer: Renderer, index: int) -> dict[str, npt.NDArray]:
    """Corners of a photo on things that do not move: xy, xyz, color."""
    observer = observers[index]
    picture = read_image(observer.path)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    found = cv2.goodFeaturesToTrack(grey, NUM_CORNERS, 0.004, CORNER_DISTANCE, blockSize=5)
    pixels = np.empty((0, 2), int) if found is None else np.round(found[:, 0]).astype(int)
    xy = pixels + 0.5
    rays = np.column_stack([np.asarray(observer.camera.cam_from_img(xy)), np.ones(len(xy))])
    directions = rays @ observer.cam_from_world.rotation.matrix()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.broadcast_to(observer.center, directions.shape)
    samples = renderer.sample(
        origins, directions, overcast(np.random.default_rng(0)), Triangles(observer.traffic())
    )
    xyz = origins + directions * samples.distance.astype(float)[:, None]
    kept = np.isin(samples.label, _STATIC)
    color = picture[pixels[:, 1], pixels[:, 0]]
    return {"xy": xy[kept], "xyz": xyz[kept], "color": color[kept]}


def _find_seen(
    observers: Sequence[Observer],
    corners: Sequence[dict[str, npt.NDArray]],
    renderer: Renderer,
    index: int,
) -> dict[str, npt.NDArray]:
    """Corners of other photos that a photo sees: photo, number and xy of each."""
    observer = observers[index]
    moving = Triangles(observer.traffic())
    center, width, height = observer.center, observer.camera.width, observer.camera.height
    border = np.array([(0, 0), (width, 0), (0, height), (width, height)], float)
    widest = 1.05 * np.abs(np.asarray(observer.camera.cam_from_img(border))).max(axis=0)
    photos, numbers, places = [], [], []
    for photo, other in enumerate(observers):
        if photo == index or np.linalg.norm(other.center - center) > REACH:
            continue
        xyz = corners[photo]["xyz"]
        local = xyz @ observer.cam_from_world.rotation.matrix().T + observer.cam_from_world.translation
        ahead = local[:, 2] > 0.5
        slope = np.abs(local[:, :2]) / np.where(ahead, local[:, 2], 1)[:, None]
        candidates = np.flatnonzero(
            ahead & (slope < widest).all(axis=1) & _seen_alike(xyz, center, other.center)
        )
        if not len(candidates):
            continue
        xy = np.asarray(observer.camera.img_from_cam(local[candidates])).reshape(-1, 2)
        inside = ((xy > 0) & (xy < (width, height))).all(axis=1)
        candidates, xy = candidates[inside], xy[inside]
        way = xyz[candidates] - center
        length = np.linalg.norm(way, axis=1)
        reached = renderer.distance(np.broadcast_to(center, way.shape), way / length[:, None], moving)
        visible = reached > length - (0.01 + 0.002 * length)
        photos.append(np.full(visible.sum(), photo))
        numbers.append(candidates[visible])
        places.append(xy[visible])
    return {
        "photo": np.concatenate([np.empty(0, int), *photos]),
        "number": np.concatenate([np.empty(0, int), *numbers]),
        "xy": np.concatenate([np.empty((0, 2)), *places]),
    }


def _seen_alike(xyz: Floats, center: Floats, other: Floats) -> npt.NDArray[np.bool_]:
    """Whether points look alike from two places, (N,)."""
    first, second = xyz - center, xyz - other
    lengths = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    cosine = (first * second).sum(axis=1) / (lengths[0] * lengths[1])
    ratio = lengths[0] / lengths[1]
    return (cosine > np.cos(np.radians(TURN))) & (ratio < SCALE) & (ratio > 1 / SCALE)


def _assemble(
    observers: Sequence[Observer],
    corners: Sequence[dict[str, npt.NDArray]],
    seen: Sequence[dict[str, npt.NDArray]],
) -> pycolmap.Reconstruction:
    """Points that two photos see, each once: the first photo in which it is a corner gives it."""
    offsets = np.cumsum([0, *(len(found["xy"]) for found in corners)])
    points = [offsets[entry["photo"]] + entry["number"] for entry in seen]
    is_seen = np.bincount(np.concatenate(points), minlength=offsets[-1]) > 0
    kept = np.zeros(offsets[-1], bool)
    for index, (observer, found) in enumerate(zip(observers, corners, strict=True)):
        # Later photos' points are not kept yet.
        column, row = seen[index]["xy"][kept[points[index]]].astype(int).T
        taken = np.zeros((observer.camera.height, observer.camera.width), np.uint8)
        taken[row, column] = 1
        near_taken = cv2.dilate(taken, np.ones((2 * SAME + 1, 2 * SAME + 1), np.uint8))
        column, row = found["xy"].astype(int).T
        own = np.arange(offsets[index], offsets[index + 1])
        kept[own] = (near_taken[row, column] == 0) & is_seen[own]
    model = pycolmap.Reconstruction()
    observed = []  # point, image, keypoint
    for index, observer in enumerate(observers):
        if not model.exists_camera(observer.camera.camera_id):
            model.add_camera_with_trivial_rig(observer.camera)
        own = np.arange(offsets[index], offsets[index + 1])
        chosen = np.concatenate([own[kept[own]], points[index][kept[points[index]]]])
        xy = np.concatenate([corners[index]["xy"][kept[own]], seen[index]["xy"][kept[points[index]]]])
        image = pycolmap.Image(
            name=observer.name, keypoints=xy, camera_id=observer.camera.camera_id, image_id=index + 1
        )
        model.add_image_with_trivial_frame(image, observer.cam_from_world)
        observed.append(np.column_stack([chosen, np.full(len(xy), index + 1), np.arange(len(xy))]))
    _add_points(model, np.concatenate(observed), corners)
    return model


def _add_points(
    model: pycolmap.Reconstruction,
    observed: npt.NDArray[np.int64],
    corners: Sequence[dict[str, npt.NDArray]],
) -> None:
    """Add the points of observations (point, image, keypoint), (N, 3)."""
    xyz = np.concatenate([found["xyz"] for found in corners])
    color = np.concatenate([found["color"] for found in corners])
    observed = observed[np.argsort(observed[:, 0], kind="stable")]
    points, begins = np.unique(observed[:, 0], return_index=True)
    for point, track in zip(points.tolist(), np.split(observed[:, 1:], begins[1:]), strict=True):
        elements = pycolmap.Track()
        for image, keypoint in track.tolist():
            elements.add_element(image, keypoint)
        model.add_point3D(xyz[point], elements, color[point])
