"""Features, matches and a map of photos with known poses, made by our stages."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from hloc_ext import (
    extract_features,
    logger,
    match_features,
    pairs_from_exhaustive,
    triangulation,
)
from hloc_ext.errors import InputError
from hloc_ext.formats.colmap import (
    image_ids,
    model_files,
    projection_centers,
    read_model,
    registered_poses,
    subset,
    write_model,
)
from hloc_ext.formats.images import list_images
from hloc_ext.formats.pairs import write_pairs
from hloc_ext.host import get_conf

#: Every so many images one is a query.
QUERY_EVERY = 5
#: Map images per query, the nearest ones.
NUM_RETRIEVED = 20


@dataclass(frozen=True)
class Scene:
    """Files that both sides read.

    Attributes:
        features: local features of all images.
        map_pairs, map_matches: all pairs of map images, and their matches.
        query_pairs, query_matches: each query with the map images, and their matches.
        reference: model of the map images with poses and without points.
        map_dir: the triangulated map.
        queries: names and intrinsics.
        image_sizes: width and height of the images, each once.
    """

    features: Path
    map_pairs: Path
    map_matches: Path
    query_pairs: Path
    query_matches: Path
    reference: Path
    map_dir: Path
    queries: list[tuple[str, pycolmap.Camera]]
    image_sizes: list[tuple[int, int]]


def prepare_scene(images: Path, model_dir: Path, folder: Path) -> Scene:
    """Run our stages on photos with known poses; what `folder` holds already is kept.

    Raises:
        InputError: fewer than three images have poses, or `folder` belongs to other images.
    """
    model = read_model(model_dir)
    poses = registered_poses(model)
    names = [name for name in list_images(images) if name in poses]
    queries, map_names = names[::QUERY_EVERY], [n for i, n in enumerate(names) if i % QUERY_EVERY]
    if len(map_names) < 2:
        raise InputError(
            f"{len(names)} images of {images} have a pose in {model_dir}: at least 3 are needed."
        )
    camera_ids = {name: model.images[i].camera_id for name, i in image_ids(model).items()}
    # Copies, because a camera of a model does not outlive it.
    cameras = {name: copy.copy(model.cameras[camera_ids[name]]) for name in names}
    scene = Scene(
        features=folder / "features.h5",
        map_pairs=folder / "pairs-map.txt",
        map_matches=folder / "matches-map.h5",
        query_pairs=folder / "pairs-queries.txt",
        query_matches=folder / "matches-queries.h5",
        reference=folder / "reference",
        map_dir=folder / "map",
        queries=[(name, cameras[name]) for name in queries],
        image_sizes=sorted({(cameras[name].width, cameras[name].height) for name in names}),
    )
    logger.info("Preparing %d map images and %d queries in %s.", len(map_names), len(queries), folder)
    extract_features.main(
        get_conf("extractors", "sift"), images, image_list=names, feature_path=scene.features
    )
    pairs_from_exhaustive.main(scene.map_pairs, image_list=map_names)
    write_pairs(scene.query_pairs, nearest_pairs(poses, queries, map_names))
    for pairs, matches in ((scene.map_pairs, scene.map_matches), (scene.query_pairs, scene.query_matches)):
        match_features.main(get_conf("matchers", "NN-ratio"), pairs, scene.features, matches=matches)
    if model_files(scene.map_dir):
        if set(image_ids(read_model(scene.reference))) != set(map_names):
            raise InputError(f"{folder} was made from other images: choose another --workdir or empty it.")
        return scene
    write_model(subset(model, map_names), scene.reference)
    triangulation.main(
        scene.map_dir, scene.reference, images, scene.map_pairs, scene.features, scene.map_matches
    )
    return scene


def nearest_pairs(
    poses: dict[str, pycolmap.Rigid3d], queries: list[str], map_names: list[str]
) -> list[tuple[str, str]]:
    """Each query with the map images whose projection centres are nearest to its own, nearest first."""
    map_centers = projection_centers({name: poses[name] for name in map_names})
    pairs = []
    for query in queries:
        distances = np.linalg.norm(map_centers - projection_centers({query: poses[query]}), axis=1)
        nearest = np.argsort(distances, kind="stable")[:NUM_RETRIEVED]
        pairs += [(query, map_names[i]) for i in nearest]
    return pairs
