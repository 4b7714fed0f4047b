"""Fixtures that several tests share."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pycolmap
import pytest

from hloc_ext import extract_features, match_features, pairs_from_exhaustive, triangulation
from hloc_ext.confs import extractors, matchers
from hloc_ext.formats.colmap import subset, write_model
from hloc_ext.formats.lists import write_query_list
from hloc_ext.formats.pairs import write_pairs
from tests.formats.conftest import read_only_folder, small_disk  # noqa: F401 - fixtures
from tests.room import Room, make_room
from tests.synthetic import make_scene


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the development data; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("HLOC_EXT_DATA", default))
    if not (path / "bench").is_dir():
        pytest.skip(f"development data not found in {path} (set HLOC_EXT_DATA)")
    return path


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pycolmap.Reconstruction]:
    """Folder of rendered images, and the model with their true poses and points."""
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """Rendered images on which SIFT works: 10 of a map and 4 queries, with true poses."""
    return make_room(tmp_path_factory.mktemp("room"))


@dataclass
class RoomMap:
    """Files of a map of the room, made once for all tests: copy before changing any.

    Attributes:
        room: the rendered scene.
        features: SIFT of all images.
        pairs, matches: all pairs of the map images, matched.
        reference: true poses of the map images.
        sfm: the triangulated model.
        queries: list of the queries with intrinsics.
        retrieval, query_matches: four map images for each query, matched.
    """

    room: Room
    features: Path
    pairs: Path
    matches: Path
    reference: Path
    sfm: Path
    queries: Path
    retrieval: Path
    query_matches: Path

    def copy_model(self, target: Path) -> Path:
        """Copy the model's files, without caches, to a new folder."""
        target.mkdir(parents=True)
        for file in self.sfm.glob("*.bin"):
            shutil.copyfile(file, target / file.name)
        return target


@pytest.fixture(scope="session")
def room_map(room: Room, tmp_path_factory: pytest.TempPathFactory) -> RoomMap:
    """Extraction, matching and triangulation of the room."""
    root = tmp_path_factory.mktemp("room_map")
    pairs, retrieval, queries = (root / name for name in ("pairs.txt", "retrieval.txt", "queries.txt"))
    pairs_from_exhaustive.main(pairs, image_list=room.map_names)
    write_pairs(retrieval, [(query, name) for query in room.query_names for name in room.neighbors(query)])
    write_query_list(queries, {name: room.camera for name in room.query_names})
    features = extract_features.main(extractors["sift"], room.images, root)
    conf = matchers["NN-ratio"]
    matches = match_features.main(conf, pairs, features, matches=root / "matches.h5")
    query_matches = match_features.main(conf, retrieval, features, matches=root / "query_matches.h5")
    write_model(subset(room.model, room.map_names), root / "reference")
    sfm = root / "sfm"
    triangulation.main(sfm, root / "reference", room.images, pairs, features, matches)
    return RoomMap(room, features, pairs, matches, root / "reference", sfm, queries, retrieval, query_matches)
