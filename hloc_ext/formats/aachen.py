"""Files of Aachen Day-Night v1.0 and v1.1 beside the images: reference models and query lists.

images_upright/                              db/, query/day/*/, query/night/*/
queries/{condition}_time_queries_with_intrinsics.txt   name MODEL width height params…
3D-models/aachen_cvpr2018_db.nvm             v1.0: reference model, poses world→camera
3D-models/database_intrinsics.txt            v1.0: intrinsics of the map images
aachen.db                                    v1.0: COLMAP database, which numbers the images
3D-models/aachen_v_1_1/                      v1.1: reference model in COLMAP's format
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pycolmap

from .atomic import replacing
from .colmap import registered_poses, write_model
from .lists import write_query_list
from .nvm import nvm_from_model, write_nvm

VERSIONS = ("v1.0", "v1.1")
IMAGES = "images_upright"
NVM = "3D-models/aachen_cvpr2018_db.nvm"
INTRINSICS = "3D-models/database_intrinsics.txt"
DATABASE = "aachen.db"
MODEL = "3D-models/aachen_v_1_1"
QUERIES = "queries"
#: End of the names of the query lists, after the condition.
QUERY_LIST = "_time_queries_with_intrinsics.txt"


def write_reference(dataset: Path, model: pycolmap.Reconstruction, version: str) -> None:
    """Write the reference model as a version has it.

    Args:
        dataset: folder of the data set.
        model: poses, cameras and points of the map images, named as below :data:`IMAGES`.
        version: one of :data:`VERSIONS`.
    """
    if version == "v1.1":
        write_model(model, dataset / MODEL)
        return
    cameras = {image.name: image.camera for image in model.images.values()}
    names = list(registered_poses(model))
    write_nvm(dataset / NVM, nvm_from_model(model))
    write_query_list(dataset / INTRINSICS, {name: cameras[name] for name in names})
    _write_database(dataset / DATABASE, names)


def write_query_lists(dataset: Path, queries: Mapping[str, Mapping[str, pycolmap.Camera]]) -> None:
    """Write the intrinsics of the queries, by condition (``day``, ``night``) and name."""
    for condition, cameras in queries.items():
        write_query_list(dataset / QUERIES / f"{condition}{QUERY_LIST}", cameras)


def _write_database(path: Path, names: list[str]) -> None:
    """The tables of ``aachen.db`` that are read: ids, not in the order of the NVM file, as in Aachen's."""
    with replacing(path) as temporary, closing(sqlite3.connect(temporary)) as connection, connection:
        connection.execute("CREATE TABLE images (image_id INTEGER PRIMARY KEY, name TEXT, camera_id INTEGER)")
        connection.execute("CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY)")
        rows = [(number, name, number) for number, name in enumerate(reversed(names), 100)]
        connection.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)
        connection.executemany("INSERT INTO cameras VALUES (?)", [row[:1] for row in rows])
