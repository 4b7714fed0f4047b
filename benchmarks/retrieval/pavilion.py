"""The Barcelona Pavilion (bench/pavilion_outer): a map by day, queries by day, at sunset and by night."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pycolmap

from benchmarks.matchers.options import require_folder
from benchmarks.tables import Table
from hloc_ext import extract_features, match_features, pairs_from_exhaustive, triangulation
from hloc_ext.confs import extractors, matchers
from hloc_ext.datasets.sfm_scene import SfmScene
from hloc_ext.formats.atomic import make_dir
from hloc_ext.formats.colmap import image_ids, model_files, read_model, subset, write_model
from hloc_ext.formats.lists import read_image_list

from .covisible import covisible_conditions
from .methods import Method
from .options import RetrievalOptions
from .places import Condition, Place, evaluate_places

SOURCE = "pavilion_outer"
CONDITIONS = ("day", "sunset", "night")


def evaluate(methods: Sequence[Method], options: RetrievalOptions) -> list[Table]:
    """Recall of each condition; the model is made once."""
    source = require_folder(options.data / SOURCE)
    return [
        evaluate_places(
            "Retrieval, Barcelona Pavilion, map by day", [make_place(source, options)], methods, options
        )
    ]


def make_place(source: Path, options: RetrievalOptions) -> Place:
    """Images, queries and model of the pavilion."""
    model_dir = options.models.get(SOURCE)
    if model_dir is None:
        model_dir = make_dir(options.output / SOURCE) / "model"
        if not model_files(model_dir):
            day = triangulate_day(source, model_dir.parent)
            write_model(with_other_lights(day, read_model(source / "sparse_gt")), model_dir)
    scene = SfmScene.read(model_dir)
    database = read_image_list(source / "map_images.txt")
    conditions: list[Condition] = []
    for light in CONDITIONS:
        queries = read_image_list(source / f"queries_{light}_with_intrinsics.txt")
        conditions += covisible_conditions(scene, f"{light} → day", queries, database)
    facts = [
        f"{len(database)} map images by day; queries stand between them",
        "relevant images by SIFT points of the images by day, triangulated with the true poses; an image by"
        " night or at sunset sees what that by day of the same pose sees",
    ]
    return Place("Barcelona Pavilion", source / "images", conditions, scene, facts)


def triangulate_day(source: Path, work: Path) -> pycolmap.Reconstruction:
    """Model of all images by day, of the map and the queries, from SIFT and the true poses."""
    truth = read_model(source / "sparse_gt")
    names = [name for name in image_ids(truth) if name.startswith("day/")]
    write_model(subset(truth, names), work / "poses")
    features = extract_features.main(extractors["sift"], source / "images", work, image_list=names)
    pairs = work / "pairs.txt"
    pairs_from_exhaustive.main(pairs, image_list=names)
    matches = match_features.main(matchers["NN-ratio"], pairs, features, matches=work / "matches.h5")
    return triangulation.main(work / "sfm", work / "poses", source / "images", pairs, features, matches)


def with_other_lights(
    day: pycolmap.Reconstruction, truth: pycolmap.Reconstruction
) -> pycolmap.Reconstruction:
    """A model in which the images of other lights observe what those by day of the same poses do.

    Args:
        day: model of the images ``day/NNNN.jpg``.
        truth: poses of all images, ``LIGHT/NNNN.jpg``; images without one by day are left out.

    Returns:
        Model with the points of `day`.
    """
    by_frame = {PurePosixPath(image.name).name: image for image in day.images.values()}
    model = pycolmap.Reconstruction()
    for camera in day.cameras.values():
        model.add_camera_with_trivial_rig(camera)
    twins: dict[int, list[int]] = {}
    for name, image_id in image_ids(truth).items():
        twin = by_frame.get(PurePosixPath(name).name)
        if twin is None:
            continue
        keypoints = np.array([point.xy for point in twin.points2D]).reshape(-1, 2)
        image = pycolmap.Image(name=name, keypoints=keypoints, camera_id=twin.camera_id, image_id=image_id)
        model.add_image_with_trivial_frame(image, twin.cam_from_world())
        twins.setdefault(twin.image_id, []).append(image_id)
    for point in day.points3D.values():
        elements = [
            pycolmap.TrackElement(image_id, element.point2D_idx)
            for element in point.track.elements
            for image_id in twins[element.image_id]
        ]
        model.add_point3D(point.xyz, pycolmap.Track(elements), point.color)
    return model
