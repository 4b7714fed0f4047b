"""Convert an NVM model and a list of intrinsics (Aachen Day-Night v1.0) to a COLMAP model."""

from __future__ import annotations

import argparse
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pycolmap

from . import logger
from .errors import CorruptFileError, MissingInputError
from .formats.colmap import write_model
from .formats.lists import read_intrinsics
from .formats.nvm import KEYPOINT_ORIGINS, model_from_nvm, read_nvm


def read_database_ids(path: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Image ids and camera ids by image name of a COLMAP database, which is not modified.

    Raises:
        MissingInputError: no such file.
        CorruptFileError: not a COLMAP database.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"COLMAP database {path} does not exist.")
    # Not through pycolmap: opening a database of an old version there rewrites it. `immutable` lets SQLite
    # read from a read-only folder, but it would not see a write-ahead log.
    immutable = 0 if path.with_name(f"{path.name}-wal").exists() else 1
    uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable={immutable}"
    connection = sqlite3.connect(uri, uri=True)
    try:
        rows = connection.execute("SELECT name, image_id, camera_id FROM images").fetchall()
    except sqlite3.DatabaseError as error:
        raise CorruptFileError(f"{path} is not a COLMAP database ({error}).") from error
    finally:
        connection.close()
    return {name: image for name, image, _ in rows}, {name: camera for name, _, camera in rows}


def main(
    nvm: Path,
    intrinsics: Path,
    database: Path | None,
    output: Path,
    skip_points: bool = False,
    keypoint_origin: str = "corner",
) -> pycolmap.Reconstruction:
    """Convert and write a model.

    Args:
        nvm: NVM file.
        intrinsics: list with ``name MODEL width height params…`` for each image of the model.
        database: COLMAP database from which image and camera ids are taken; None numbers the images
            1, 2, … in the order of the NVM file.
        output: folder of the model.
        skip_points: convert cameras and poses only.
        keypoint_origin: see :func:`hloc_ext.formats.nvm.model_from_nvm`.

    Returns:
        The model.

    Raises:
        MissingInputError, CorruptFileError, InputError: naming the file and the line.
    """
    cameras = dict(read_intrinsics(Path(intrinsics)))
    model_nvm = read_nvm(Path(nvm), skip_points)
    logger.info("Read %d images and %d points from %s.", len(model_nvm.names), len(model_nvm.xyz), nvm)
    image_ids, camera_ids = (None, None) if database is None else read_database_ids(database)
    model = model_from_nvm(model_nvm, cameras, image_ids, camera_ids, keypoint_origin)
    write_model(model, Path(output))
    logger.info("Wrote %d images and %d points to %s.", model.num_images(), model.num_points3D(), output)
    return model


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line, with HLOC's options."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext colmap_from_nvm", description=__doc__)
    parser.add_argument("--nvm", type=Path, required=True)
    parser.add_argument("--intrinsics", type=Path, required=True)
    parser.add_argument("--database", type=Path, help="COLMAP database to take the ids from")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--skip_points", action="store_true")
    parser.add_argument("--keypoint_origin", choices=KEYPOINT_ORIGINS, default="corner")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    main(**vars(build_parser().parse_args(argv)))


if __name__ == "__main__":
    cli()
