"""Verification of matches by known poses."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pycolmap

from hloc_ext.formats.colmap import image_ids, read_model
from hloc_ext.formats.pairs import Pair, read_pairs, unique_pairs
from hloc_ext.triangulation import create_database
from hloc_ext.two_view_geometry import import_features, import_matches, verify_with_known_poses

from .comparison import Row, Setup, alternate, identical, quiet
from .scene import Scene


def compare(setup: Setup) -> list[Row]:
    """Each side writes into a copy of one database that holds the keypoints and matches.

    HLOC takes keypoints from their origin (top-left pixel centre at (0, 0)) to the normalised plane
    without the half pixel to COLMAP's origin, so that some matches at the threshold come out otherwise.
    The second comparison gives HLOC keypoints that are moved beforehand.
    """
    stage = setup.host_module("triangulation", geometry=True)
    scene, folder = setup.scene, setup.scratch("verification")
    reference = read_model(scene.reference)
    ids = image_ids(reference)
    pairs = unique_pairs(read_pairs(scene.map_pairs))
    filled = fill_database(folder / "filled.db", reference, scene, pairs)

    def run_ours(own: Path) -> None:
        with pycolmap.Database.open(own / "database.db") as database:
            verify_with_known_poses(ids, reference, database, scene.features, pairs, scene.map_matches)

    timing = alternate(
        lambda own: run_hloc(stage, own, reference, scene, scene.features),
        run_ours,
        setup.repeats,
        folder,
        lambda own: shutil.copyfile(filled, own / "database.db"),
    )
    ours = read_inliers(folder / "ours" / "database.db", ids, pairs)
    hloc = read_inliers(folder / "hloc" / "database.db", ids, pairs)
    shifted = folder / "shifted.h5"
    write_shifted(scene.features, shifted)
    shutil.copyfile(filled, folder / "hloc" / "database.db")
    with quiet():
        run_hloc(stage, folder / "hloc", reference, scene, shifted)
    hloc_shifted = read_inliers(folder / "hloc" / "database.db", ids, pairs)
    equality = f"{describe(hloc, ours)}; with HLOC's keypoints at COLMAP's origin "
    equality += describe(hloc_shifted, ours)
    return [timing.row("verification by known poses, ms/pair", equality, len(pairs), 1e3)]


def run_hloc(
    stage: ModuleType, own: Path, reference: pycolmap.Reconstruction, scene: Scene, features: Path
) -> None:
    """HLOC's verification into the database of folder `own`."""
    with pycolmap.Database.open(own / "database.db") as database:
        stage.geometric_verification(
            image_ids(reference), reference, database, features, scene.map_pairs, scene.map_matches
        )


def fill_database(path: Path, reference: pycolmap.Reconstruction, scene: Scene, pairs: list[Pair]) -> Path:
    """A database with cameras, images, keypoints and matches."""
    ids = image_ids(reference)
    with quiet():
        create_database(path, reference)
        with pycolmap.Database.open(path) as database:
            import_features(ids, database, scene.features, ids)
            import_matches(ids, database, pairs, scene.map_matches, scene.features)
    return path


def write_shifted(features: Path, output: Path) -> None:
    """Keypoints of a feature file plus half a pixel, in 64 bits to be exact, with their attributes."""
    shutil.copyfile(features, output)
    with h5py.File(output, "a") as fd:
        names: list[str] = []
        fd.visititems(lambda name, item: names.append(name) if name.endswith("/keypoints") else None)
        for name in names:
            keypoints, attributes = fd[name][()].astype(np.float64) + 0.5, dict(fd[name].attrs)
            del fd[name]
            fd.create_dataset(name, data=keypoints).attrs.update(attributes)


def read_inliers(path: Path, ids: dict[str, int], pairs: list[Pair]) -> list[set[tuple[int, int]]]:
    """Inlier matches of each pair in a database."""
    with pycolmap.Database.open(path) as database:
        geometries = [database.read_two_view_geometry(ids[a], ids[b]) for a, b in pairs]
    return [set(map(tuple, geometry.inlier_matches.tolist())) for geometry in geometries]


def describe(hloc: list[set[tuple[int, int]]], ours: list[set[tuple[int, int]]]) -> str:
    """Count the pairs with identical inliers, and the inliers that only one side has."""
    same = sum(a == b for a, b in zip(hloc, ours, strict=True))
    different = sum(len(a ^ b) for a, b in zip(hloc, ours, strict=True))
    total = sum(len(a | b) for a, b in zip(hloc, ours, strict=True))
    return f"{identical(same, len(ours), 'pairs')}, {different} of {total} inliers differ"
