"""A map as localization needs it: for each keypoint of each map image, its triangulated point."""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pycolmap
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from .errors import HlocExtError, InputError
from .formats.atomic import replacing
from .formats.colmap import model_files, read_model

logger = logging.getLogger(__name__)

CACHE_NAME = "localization_map.npz"

#: What numpy raises on a file that is truncated, damaged, or from another version of this module.
UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclass
class LocalizationMap:
    """Arrays of a reconstruction, without per-point Python objects.

    Attributes:
        names: N map images with a pose, in order of their COLMAP ids.
        qvecs: N×4 quaternions (w, x, y, z), world→camera.
        tvecs: N×3 translations, world→camera.
        offsets: N+1 offsets of each image's keypoints in `point_rows`.
        point_rows: for each keypoint the row of its point in `points`, or −1; int32.
        point_ids: P COLMAP ids of the points.
        points: P×3 coordinates, world frame.
    """

    names: list[str]
    qvecs: np.ndarray
    tvecs: np.ndarray
    offsets: np.ndarray
    point_rows: np.ndarray
    point_ids: np.ndarray
    points: np.ndarray

    @classmethod
    def from_model(cls, model: pycolmap.Reconstruction) -> LocalizationMap:
        """Index the points and keypoints of a reconstruction."""
        point_ids = np.array(sorted(model.points3D), np.int64)
        points = np.array([model.points3D[i].xyz for i in point_ids.tolist()]).reshape(-1, 3)
        images = [model.images[i] for i in sorted(model.images) if model.images[i].has_pose]
        rows = [_point_rows(image, point_ids) for image in images]
        poses = [image.cam_from_world() for image in images]
        quaternions = np.array([pose.rotation.quat[[3, 0, 1, 2]] for pose in poses]).reshape(-1, 4)
        return cls(
            names=[image.name for image in images],
            qvecs=quaternions,
            tvecs=np.array([pose.translation for pose in poses]).reshape(-1, 3),
            offsets=np.cumsum([0] + [len(r) for r in rows]),
            point_rows=np.concatenate([np.zeros(0, np.int32), *rows]),
            point_ids=point_ids,
            points=points,
        )

    @classmethod
    def load(cls, model_dir: Path) -> LocalizationMap:
        """Index the model in a folder, or read the index that an earlier call left there.

        The cache is used only if it was made from files of the same size and time. It is not written
        where the folder is read-only.
        """
        model_dir = Path(model_dir)
        cache = model_dir / CACHE_NAME
        stats = [file.stat() for file in model_files(model_dir)]
        stamp = np.array([[stat.st_size, stat.st_mtime_ns] for stat in stats])
        if cache.exists():
            try:
                with np.load(cache, allow_pickle=False) as data:
                    if np.array_equal(data["stamp"], stamp):
                        fields = {key: data[key] for key in data.files if key not in ("stamp", "names")}
                        return cls(names=data["names"].tolist(), **fields)
            except UNREADABLE as error:
                logger.warning("Ignoring the unreadable cache %s (%s).", cache, error)
        built = cls.from_model(read_model(model_dir))
        try:
            with replacing(cache) as temporary, temporary.open("wb") as file:
                np.savez(file, stamp=stamp, **{**vars(built), "names": np.array(built.names)})
        except (HlocExtError, OSError) as error:
            logger.warning("The index of the map is not cached: %s", error)
        return built

    @cached_property
    def index(self) -> dict[str, int]:
        """Position of each image name."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def centers(self) -> np.ndarray:
        """Camera centres of the map images, N×3, world frame."""
        return np.array([self.pose(i).inverse().translation for i in range(len(self.names))]).reshape(-1, 3)

    def rows_of(self, image: int) -> np.ndarray:
        """Rows of `points` (or −1) of the keypoints of map image number `image`."""
        return self.point_rows[self.offsets[image] : self.offsets[image + 1]]

    def pose(self, image: int) -> pycolmap.Rigid3d:
        """Pose of map image number `image`, world→camera."""
        return pycolmap.Rigid3d(pycolmap.Rotation3d(self.qvecs[image][[1, 2, 3, 0]]), self.tvecs[image])

    def covisibility_clusters(self, images: Sequence[int]) -> list[list[int]]:
        """Split map images into groups that see common points, largest first (HLOC's clustering).

        Args:
            images: numbers of map images, best retrieved first; the order is kept inside a group.
        """
        rows = [np.unique(self.rows_of(i)[self.rows_of(i) >= 0]) for i in images]
        indptr = np.cumsum([0] + [len(r) for r in rows])
        indices = np.concatenate([np.zeros(0, np.int32), *rows])
        seen = csr_array((np.ones(len(indices)), indices, indptr), shape=(len(images), len(self.points)))
        _, labels = connected_components(seen @ seen.T, directed=False)
        groups: dict[int, list[int]] = {}
        for image, label in zip(images, labels.tolist(), strict=True):
            groups.setdefault(label, []).append(image)
        return sorted(groups.values(), key=len, reverse=True)


def _point_rows(image: pycolmap.Image, point_ids: np.ndarray) -> np.ndarray:
    """Row in `point_ids` of each keypoint's point, −1 where there is none."""
    ids = np.array([p.point3D_id for p in image.points2D], np.uint64).astype(np.int64)
    rows = np.searchsorted(point_ids, ids)
    rows[rows == len(point_ids)] = 0
    found = point_ids[rows] == ids if len(point_ids) else np.zeros(len(ids), bool)
    return np.where(found, rows, -1).astype(np.int32)


def check_keypoint_counts(localization_map: LocalizationMap, image: int, largest: int, where: str) -> None:
    """Raise InputError if a match points beyond the keypoints with which the map was made."""
    count = int(localization_map.offsets[image + 1] - localization_map.offsets[image])
    if largest >= count:
        raise InputError(
            f"{where}: a match points to keypoint {largest} of '{localization_map.names[image]}', which has"
            f" {count} keypoints in the map: the matches were made with other features than the map."
        )
