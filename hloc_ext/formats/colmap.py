"""COLMAP models, read and written by pycolmap (binary or text, with the rigs and frames of 4.x)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

from ..errors import CorruptFileError, MissingInputError
from .atomic import make_dir

MODEL_FILES = ("cameras", "images", "points3D")


def model_files(path: Path) -> list[Path]:
    """Files of the model in folder `path`, binary preferred as in COLMAP; empty if incomplete."""
    for suffix in (".bin", ".txt"):
        files = [Path(path) / f"{stem}{suffix}" for stem in MODEL_FILES]
        if all(file.exists() for file in files):
            return files
    return []


def read_model(path: Path) -> pycolmap.Reconstruction:
    """Read the model in folder `path`.

    Raises:
        MissingInputError: the folder holds no complete model.
        CorruptFileError: a file cannot be parsed.
    """
    path = Path(path)
    if not model_files(path):
        raise MissingInputError(
            f"No COLMAP model in {path}: expected cameras, images and points3D, as .bin or .txt."
        )
    try:
        return pycolmap.Reconstruction(path)
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        raise CorruptFileError(f"The COLMAP model in {path} cannot be read: {error}") from error


def write_model(model: pycolmap.Reconstruction, path: Path) -> None:
    """Write a binary model to folder `path`."""
    make_dir(Path(path))
    model.write(Path(path))


def image_ids(model: pycolmap.Reconstruction) -> dict[str, int]:
    """Map image names to ids, in order of the ids."""
    return {model.images[i].name: i for i in sorted(model.images)}


def registered_poses(model: pycolmap.Reconstruction) -> dict[str, pycolmap.Rigid3d]:
    """Poses (world→camera) of the registered images by name, in order of the ids."""
    return {
        model.images[i].name: model.images[i].cam_from_world()
        for i in sorted(model.images)
        if model.images[i].has_pose
    }


def projection_centers(poses: dict[str, pycolmap.Rigid3d]) -> np.ndarray:
    """Camera centres, N×3, world frame."""
    return np.array([pose.inverse().translation for pose in poses.values()]).reshape(-1, 3)
