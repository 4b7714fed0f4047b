"""Image pairs of nearby cameras that look in a similar direction."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pycolmap
from scipy.spatial import cKDTree

from . import logger
from .errors import InputError
from .formats.colmap import projection_centers, read_model, registered_poses
from .formats.pairs import write_pairs

DEFAULT_ROT_THRESH = 30  # degrees


def nearest_views(
    centers: np.ndarray, axes: np.ndarray, num_matched: int, rotation_threshold: float
) -> list[np.ndarray]:
    """The nearest cameras with similar principal axes, for each camera.

    Args:
        centers: N×3 projection centres, world frame.
        axes: N×3 unit principal axes, world frame.
        num_matched: number of cameras to return; fewer where the threshold leaves fewer.
        rotation_threshold: the angle between principal axes must be smaller, degrees. The rotation
            round the axis is ignored: such images see the same scene.

    Returns:
        N arrays of indices, nearest first, in index order at equal distance.
    """
    num = len(centers)
    tree = cKDTree(centers)
    nearest: list[np.ndarray] = [np.empty(0, np.int64)] * num
    pending = np.arange(num)
    num_neighbors = min(num, 2 * num_matched + 2)
    while len(pending):
        unsatisfied = []
        for rows in np.array_split(pending, -(-len(pending) * num_neighbors // 2**22)):
            distances, neighbors = (
                x.reshape(len(rows), -1) for x in tree.query(centers[rows], num_neighbors)
            )
            cosines = np.einsum("qd,qnd->qn", axes[rows], axes[neighbors])
            angles = np.rad2deg(np.arccos(np.clip(cosines, -1.0, 1.0)))
            valid = (angles < rotation_threshold) & (neighbors != rows[:, None])
            # Cameras as far as the last neighbour may be missing: they count only if all are there.
            if num_neighbors < num:
                valid &= distances < distances[:, -1:]
            order = np.lexsort((neighbors, distances))
            valid = np.take_along_axis(valid, order, 1)
            neighbors = np.take_along_axis(neighbors, order, 1)
            for row, keep, indices in zip(rows, valid, neighbors, strict=True):
                nearest[row] = indices[keep][:num_matched]
                if len(nearest[row]) < num_matched:
                    unsatisfied.append(row)
        if num_neighbors == num:
            break
        pending = np.array(unsatisfied, np.int64)
        num_neighbors = min(num, 4 * num_neighbors)
    return nearest


def main(
    model: Path | pycolmap.Reconstruction,
    output: Path,
    num_matched: int,
    rotation_threshold: float = DEFAULT_ROT_THRESH,
) -> None:
    """Write for each image the pairs with its nearest images.

    Args:
        model: COLMAP model (binary or text folder, or in memory); its registered images are used.
        output: list of pairs to write.
        num_matched: pairs per image.
        rotation_threshold: largest angle between the principal axes, degrees.

    Raises:
        MissingInputError: there is no model.
        InputError: fewer than two images have a pose, or `num_matched` < 1.
    """
    if num_matched < 1:
        raise InputError(f"`num_matched` must be at least 1, got {num_matched}.")
    reconstruction = model if isinstance(model, pycolmap.Reconstruction) else read_model(model)
    poses = registered_poses(reconstruction)
    if len(poses) < 2:
        raise InputError(f"Pairs need at least two images with poses, the model has {len(poses)}.")
    names = list(poses)
    axes = np.array([pose.rotation.matrix()[2] for pose in poses.values()])
    nearest = nearest_views(projection_centers(poses), axes, num_matched, rotation_threshold)
    pairs = [(names[i], names[j]) for i, indices in enumerate(nearest) for j in indices]
    logger.info("Found %d pairs.", len(pairs))
    write_pairs(Path(output), pairs)


def build_parser() -> argparse.ArgumentParser:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext pairs_from_poses", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a COLMAP model")
    parser.add_argument("--output", type=Path, required=True, help="list of pairs to write")
    parser.add_argument("--num_matched", type=int, required=True, help="pairs per image")
    parser.add_argument(
        "--rotation_threshold",
        type=float,
        default=DEFAULT_ROT_THRESH,
        help="largest angle between the principal axes, degrees",
    )
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    main(**vars(build_parser().parse_args(argv)))


if __name__ == "__main__":
    cli()
