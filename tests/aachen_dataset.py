"""Write a data set in the exact layout of Aachen Day-Night v1.0 or v1.1, from any scene with true poses.

``python -m tests.aachen_dataset --pavilion bench/pavilion_outer --output DIR --version v1.0``
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from hloc_ext import extract_features, match_features, pairs_from_exhaustive, triangulation
from hloc_ext.confs import extractors, matchers
from hloc_ext.formats.aachen import IMAGES, VERSIONS, write_query_lists, write_reference
from hloc_ext.formats.colmap import read_model, registered_poses, subset, write_model
from hloc_ext.localization_map import LocalizationMap
from tests.room import Room

#: Folder of the query images of a condition, as in the data set.
QUERY_FOLDERS = {"day": "query/day/nexus4", "night": "query/night/nexus5x", "sunset": "query/sunset/nexus4"}


@dataclass
class Scene:
    """A scene to be written in Aachen's layout.

    Attributes:
        images: folder of the images.
        reference: poses, cameras and points of the map images.
        ground_truth: true poses of all images.
        queries: names of the query images by condition.
    """

    images: Path
    reference: pycolmap.Reconstruction
    ground_truth: pycolmap.Reconstruction
    queries: Mapping[str, list[str]]


def renamed(model: pycolmap.Reconstruction, names: Mapping[str, str]) -> pycolmap.Reconstruction:
    """Copy of a model with other image names."""
    copy = pycolmap.Reconstruction(model)
    for image in copy.images.values():
        image.name = names[image.name]
    return copy


def flat(name: str) -> str:
    """Name without folders, so that basenames are unique as in Aachen."""
    return name.replace("/", "_")


def write_aachen(scene: Scene, dataset: Path, version: str) -> Path:
    """Write `scene` to folder `dataset`; the true model is written to ``dataset/ground_truth``."""
    map_names = {name: f"db/{flat(name)}" for name in registered_poses(scene.reference)}
    query_names = {
        name: f"{QUERY_FOLDERS[condition]}/{flat(name)}"
        for condition, names in scene.queries.items()
        for name in names
    }
    for name, new in (map_names | query_names).items():
        target = dataset / IMAGES / new
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scene.images / name, target)
    cameras = {image.name: image.camera for image in scene.ground_truth.images.values()}
    lists = {
        condition: {query_names[name]: cameras[name] for name in names}
        for condition, names in scene.queries.items()
    }
    write_query_lists(dataset, lists)
    write_reference(dataset, renamed(scene.reference, map_names), version)
    truth = subset(scene.ground_truth, [*map_names, *query_names])
    write_model(renamed(truth, map_names | query_names), dataset / "ground_truth")
    return dataset


def synthetic_scene(room: Room, work: Path) -> Scene:
    """The rendered room: 10 map images, 2 day and 2 night queries (all rendered alike)."""
    reference = _triangulated(room.images, subset(room.model, room.map_names), work)
    queries = {"day": room.query_names[:2], "night": room.query_names[2:]}
    return Scene(room.images, reference, room.model, queries)


def pavilion_scene(source: Path, work: Path) -> Scene:
    """Barcelona Pavilion: 42 map images of the day, queries of day, sunset and night."""
    truth = read_model(source / "sparse_gt")
    map_names = (source / "map_images.txt").read_text().split()
    queries = {
        condition: [
            line.split()[0]
            for line in (source / f"queries_{condition}_with_intrinsics.txt").read_text().splitlines()
        ]
        for condition in ("day", "sunset", "night")
    }
    reference = _triangulated(source / "images", subset(truth, map_names), work)
    return Scene(source / "images", reference, truth, queries)


def _triangulated(images: Path, poses: pycolmap.Reconstruction, work: Path) -> pycolmap.Reconstruction:
    """Points for the reference model, from SIFT and the true poses."""
    work.mkdir(parents=True, exist_ok=True)
    names = list(registered_poses(poses))
    features = extract_features.main(extractors["sift"], images, work, image_list=names)
    pairs = work / "pairs.txt"
    pairs_from_exhaustive.main(pairs, image_list=names)
    matches = match_features.main(matchers["NN-ratio"], pairs, features, matches=work / "matches.h5")
    write_model(poses, work / "poses")
    model = triangulation.main(work / "sfm", work / "poses", images, pairs, features, matches)
    assert len(LocalizationMap.from_model(model).points) == model.num_points3D()
    return model


def main() -> None:
    """Build the data set of the pavilion."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pavilion", type=Path, required=True, help="folder bench/pavilion_outer")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--version", choices=VERSIONS, default="v1.0")
    args = parser.parse_args()
    work = args.output.parent / f"{args.output.name}_work"
    write_aachen(pavilion_scene(args.pavilion, work), args.output, args.version)


if __name__ == "__main__":
    main()
