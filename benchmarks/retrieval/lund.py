"""A walk along a street (bench/lund): truth by GPS, by the order of the photos, and by their points."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.matchers.options import require_folder
from benchmarks.tables import Table
from hloc_ext.errors import CorruptFileError, MissingInputError, ReconstructionError
from hloc_ext.evaluation.retrieval import PLACE_RADIUS, within_distance, within_frames
from hloc_ext.pairs_from_retrieval import to_local_frame

from .covisible import covisible_conditions
from .methods import Method
from .options import RetrievalOptions
from .photos import sfm_scene
from .places import Condition, Place, evaluate_places

SOURCE = "lund"
#: Photos that show the same in the order of the walk.
TOLERANCE = 1


def evaluate(methods: Sequence[Method], options: RetrievalOptions) -> list[Table]:
    """Every photo is a query."""
    folder = require_folder(options.data / SOURCE)
    positions = read_positions(folder / "gps.csv")
    names = list(positions)
    metres = np.array(list(positions.values()))[:, :2]
    itself = np.arange(len(names))[:, None]
    near, following = within_distance(metres, metres), within_frames(itself[:, 0], itself[:, 0], TOLERANCE)
    conditions = [
        Condition("day → day", f"GPS ≤ {PLACE_RADIUS:g} m", names, names, near, itself),
        Condition("day → day", f"photo ± {TOLERANCE}", names, names, following, itself),
    ]
    place = Place(
        "Lund", folder / "images", conditions, None, [f"{len(names)} photos, each among all others"]
    )
    tables = [evaluate_places("Place recognition, Lund", [place], methods, options)]
    try:
        scene = sfm_scene(SOURCE, folder / "images", options)
    except ReconstructionError as error:
        tables[0].notes.append(f"no rows by structure from motion: {error}")
        return tables
    facts = [
        f"{len(scene)} of {len(names)} photos are in the model, each among all others of it",
        "relevant images by structure from motion of all pairs (SIFT)",
    ]
    covisible = covisible_conditions(scene, "day → day", scene.names, scene.names)
    place = Place("Lund", folder / "images", covisible, scene, facts)
    return [*tables, evaluate_places("Retrieval, Lund", [place], methods, options)]


def read_positions(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """East, north, up of each photo, metres, by name.

    Raises:
        MissingInputError: no such file.
        CorruptFileError: a column is missing, or no number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        geographic = {
            row["name"]: np.array([float(row[key]) for key in ("lat", "lon", "alt_m")]) for row in rows
        }
    except FileNotFoundError:
        raise MissingInputError(f"{path} does not exist: --data must hold the data set as it is.") from None
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path} needs the columns name, lat, lon, alt_m: {error!r}.") from error
    return to_local_frame(geographic)
