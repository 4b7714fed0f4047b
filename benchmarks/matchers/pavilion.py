"""Localization in the Barcelona Pavilion (bench/pavilion_outer), rendered by day, at sunset and by night."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import Table
from tests.aachen_dataset import pavilion_scene, write_aachen

from .localization import Scene, evaluate_scene
from .methods import Method
from .options import Options, require_folder

SOURCE = "pavilion_outer"
#: Map images to match a query with, and pairs per map image.
NUM_LOC, NUM_COVIS = 20, 20


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """Recall of each condition; the data set is written in Aachen's layout once."""
    source = require_folder(options.data / SOURCE)
    dataset = options.output / SOURCE / "dataset"
    if not (dataset / "ground_truth").is_dir():
        write_aachen(pavilion_scene(source, options.output / SOURCE / "work"), dataset, "v1.1")
    scene = Scene("Barcelona Pavilion (outer)", dataset, "v1.1", NUM_LOC, NUM_COVIS)
    return [evaluate_scene(scene, methods, options)]
