"""Image pairs that observe many common 3-D points of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pycolmap
from scipy.sparse import csr_array

from . import logger
from .errors import InputError
from .formats.colmap import read_model
from .formats.pairs import write_pairs

ROW_BLOCK = 256


def observation_matrix(model: pycolmap.Reconstruction) -> tuple[list[int], csr_array]:
    """Which image observes which 3-D point, and how often.

    Returns:
        Image ids in increasing order, and an images × points matrix of counts.
    """
    ids = sorted(model.images)
    observed = [
        np.array([p.point3D_id for p in model.images[i].get_observation_points2D()], np.int64) for i in ids
    ]
    points, columns = np.unique(np.concatenate([np.empty(0, np.int64), *observed]), return_inverse=True)
    rows = np.repeat(np.arange(len(ids)), [len(entry) for entry in observed])
    counts = np.ones(len(columns), np.int32)
    return ids, csr_array((counts, (rows, columns)), shape=(len(ids), len(points)))


def covisible_images(observations: csr_array, num_matched: int) -> list[np.ndarray]:
    """The images that share most points with each image.

    Args:
        observations: images × points counts.
        num_matched: number of images to return, fewer where fewer share a point.

    Returns:
        For each image, rows of the matrix: most shared points first, in row order where equal.
    """
    covisible = []
    points_by_images = observations.T.tocsr()
    for start in range(0, observations.shape[0], ROW_BLOCK):
        shared = (observations[start : start + ROW_BLOCK] @ points_by_images).toarray()
        for offset, counts in enumerate(shared):
            counts[start + offset] = 0
            others = np.flatnonzero(counts)
            covisible.append(others[np.argsort(-counts[others], kind="stable")][:num_matched])
    return covisible


def main(model: Path | pycolmap.Reconstruction, output: Path, num_matched: int) -> None:
    """Write for each image the pairs with the images that share most 3-D points with it.

    Args:
        model: COLMAP model (binary or text folder, or in memory).
        output: list of pairs to write.
        num_matched: pairs per image.

    Raises:
        MissingInputError: there is no model.
        InputError: no two images share a point, or `num_matched` < 1.
    """
    if num_matched < 1:
        raise InputError(f"`num_matched` must be at least 1, got {num_matched}.")
    reconstruction = model if isinstance(model, pycolmap.Reconstruction) else read_model(model)
    ids, observations = observation_matrix(reconstruction)
    names = [reconstruction.images[i].name for i in ids]
    pairs = []
    for name, others in zip(names, covisible_images(observations, num_matched), strict=True):
        if not len(others):
            logger.info("Image %s shares no 3-D point with another image.", name)
        pairs += [(name, names[other]) for other in others]
    if not pairs:
        raise InputError(
            f"No two of the {len(ids)} images of the model share a 3-D point: triangulate it first, or"
            " use pairs_from_poses, pairs_from_retrieval or pairs_from_exhaustive."
        )
    logger.info("Found %d pairs.", len(pairs))
    write_pairs(Path(output), pairs)


def build_parser() -> argparse.ArgumentParser:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext pairs_from_covisibility", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of a COLMAP model")
    parser.add_argument("--output", type=Path, required=True, help="list of pairs to write")
    parser.add_argument("--num_matched", type=int, required=True, help="pairs per image")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    main(**vars(build_parser().parse_args(argv)))


if __name__ == "__main__":
    cli()
