"""Views of made-up cities: by day among views of the day, and by night among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import Table
from hloc_ext.datasets.city_scenes import picture_name, render_scene
from hloc_ext.datasets.sfm_scene import SfmScene

from .covisible import covisible_conditions
from .methods import Method
from .options import RetrievalOptions
from .places import Condition, Place, evaluate_places


def evaluate(methods: Sequence[Method], options: RetrievalOptions) -> list[Table]:
    """Scenes that are given, or rendered once."""
    folders = list(options.scenes) or [render(seed, options) for seed in options.seeds]
    places = [make_place(folder) for folder in folders]
    return [evaluate_places("Retrieval, procedural cities, map by day", places, methods, options)]


def render(seed: int, options: RetrievalOptions) -> Path:
    """Folder of the scene of one city; what is there already is kept."""
    from hloc_ext.city.parallel import available_cores

    folder = options.output / "city" / f"city_{seed}"
    render_scene(folder, options.views, seed, workers=min(available_cores(), options.threads))
    return folder


def make_place(folder: Path) -> Place:
    """A scene of :mod:`hloc_ext.datasets.city_scenes`: no query retrieves the picture of its own view."""
    scene = SfmScene.read(folder / "sparse")
    views = range(len(scene) // 2)
    database = [picture_name(view, "day") for view in views]
    conditions: list[Condition] = []
    for condition in ("day", "night"):
        queries = [picture_name(view, condition) for view in views]
        own = [[name] for name in database]
        conditions += covisible_conditions(scene, f"{condition} → day", queries, database, own)
    facts = [f"{len(database)} views, each query among all others", "relevant images by depth and pose"]
    return Place(folder.name, folder / "images", conditions, scene, facts)
