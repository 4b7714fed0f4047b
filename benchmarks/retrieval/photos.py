"""Photographs without true poses (bench/south_building, bench/lund): models made by structure from motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pycolmap

from hloc_ext import extract_features, match_features, pairs_from_exhaustive, reconstruction
from hloc_ext.confs import extractors, matchers
from hloc_ext.datasets.sfm_scene import SfmScene
from hloc_ext.errors import ReconstructionError
from hloc_ext.formats.atomic import make_dir
from hloc_ext.formats.colmap import model_files
from hloc_ext.formats.images import list_images
from pipelines.photo_folder import choose_camera_mode
from pipelines.photos import reconstruct_most

from .options import RetrievalOptions


def sfm_scene(name: str, images: Path, options: RetrievalOptions) -> SfmScene:
    """The model given for a data set, or one that is made once from all pairs of its images.

    All pairs are matched, so that no retrieval method decides what is found to be covisible.

    Raises:
        ReconstructionError: structure from motion fails, or leaves out more than half of the images.
    """
    if name in options.models:
        return SfmScene.read(options.models[name])
    folder, names = make_dir(options.output / name), list_images(images)
    if not model_files(folder / "sfm"):
        reconstruct(images, names, folder)
    scene = SfmScene.read(folder / "sfm")
    if 2 * len(scene) < len(names):
        raise ReconstructionError(
            f"structure from motion places {len(scene)} of {len(names)} images of {images}: give a better"
            f" model with --models {name}=DIR."
        )
    return scene


def reconstruct(images: Path, names: Sequence[str], folder: Path) -> None:
    """Match all pairs of images and write their model to ``folder/sfm``, as ``pipelines.photos`` does."""
    features = extract_features.main(extractors["sift"], images, folder, image_list=names)
    pairs = folder / "pairs.txt"
    pairs_from_exhaustive.main(pairs, image_list=names)
    matches = match_features.main(matchers["NN-ratio"], pairs, features, matches=folder / "matches.h5")
    mode = pycolmap.CameraMode.__members__[choose_camera_mode(images, names)]

    def reconstruct_with(mapper: str, output: Path) -> pycolmap.Reconstruction:
        return reconstruction.main(
            output, images, pairs, features, matches, mode, image_list=names, mapper=mapper
        )

    reconstruct_most(reconstruct_with, make_dir(folder / "sfm"), len(names))
