"""Photographs round a building (bench/south_building), each among all others."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.matchers.options import require_folder
from benchmarks.tables import Table

from .covisible import covisible_conditions
from .methods import Method
from .options import RetrievalOptions
from .photos import sfm_scene
from .places import Place, evaluate_places

SOURCE = "south_building"


def evaluate(methods: Sequence[Method], options: RetrievalOptions) -> list[Table]:
    """Every photo is a query."""
    images = require_folder(options.data / SOURCE / "images")
    scene = sfm_scene(SOURCE, images, options)
    conditions = covisible_conditions(scene, "day → day", scene.names, scene.names)
    facts = [
        f"{len(scene)} photos, each among all others",
        "relevant images by structure from motion of all pairs (SIFT)",
    ]
    place = Place("South Building", images, conditions, scene, facts)
    return [evaluate_places("Retrieval, South Building", [place], methods, options)]
