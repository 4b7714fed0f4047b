"""Localization in the procedural city of ``pipelines.demo``, by day and by night."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.tables import Table
from hloc_ext.formats.atomic import make_dir
from pipelines import demo

from .localization import Scene, evaluate_scene
from .methods import Method
from .options import Options

SIZE, SEED = "small", 1


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """Recall of each condition; the city is rendered once."""
    dataset = demo.make_dataset(make_dir(options.output / "city"), SIZE, SEED)
    scene = Scene(f"procedural city ({SIZE}, seed {SEED})", dataset, "v1.0", demo.NUM_LOC, demo.NUM_COVIS)
    return [evaluate_scene(scene, methods, options)]
