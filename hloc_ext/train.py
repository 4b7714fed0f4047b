"""Train a model by a recipe: ``python -m hloc_ext.train RECIPE.yaml key=value …``.

A recipe names a module of :mod:`hloc_ext.training` (``recipe: kd_mamba``) and gives values for the fields of
its configuration; an unknown key is an error. Training needs the extra ``train``.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import InputError, MissingInputError

_RECIPE_CLASSES = {
    "cross_view_teacher": "CrossViewTeacherRecipe",
    "crossvit": "CrossViTRecipe",
    "distill4geo": "Distill4GeoRecipe",
    "homography_net": "HomographyNetRecipe",
    "kd_mamba": "KDMambaRecipe",
    "ssa": "SSARecipe",
}
RECIPES = tuple(_RECIPE_CLASSES)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> tuple[str, Any]:
    """Read a recipe and apply ``key=value`` overrides.

    Returns:
        Name of the recipe's module, and its configuration (a dataclass).

    Raises:
        MissingInputError: the file does not exist.
        InputError: not a recipe, an unknown key, or a value of the wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # of OmegaConf's own requirement

    if not path.exists():
        raise MissingInputError(f"Recipe {path} does not exist; see configs/train.")
    try:
        values: Any = OmegaConf.load(path)
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"{path} is not readable as YAML: {error}") from error
    name = values.pop("recipe", None) if OmegaConf.is_dict(values) else None
    if name not in RECIPES:
        raise InputError(f"{path}: recipe is {name!r}, expected one of {list(RECIPES)}.")
    try:
        schema = OmegaConf.structured(_recipe_class(name))
        merged = OmegaConf.merge(schema, values, OmegaConf.from_dotlist(list(overrides)))
        return name, OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError, AttributeError) as error:
        raise InputError(f"{path} with {list(overrides)}: {error}") from error


def _module(name: str) -> ModuleType:
    """The module of a recipe; it holds its class and the function ``train``."""
    return import_module(f".training.{name}", __package__)


def _recipe_class(name: str) -> type:
    return getattr(_module(name), _RECIPE_CLASSES[name])


def main(recipe: Path, overrides: Sequence[str] = ()) -> Path:
    """Train by a recipe and return the file of weights."""
    name, config = load_recipe(recipe, overrides)
    return _module(name).train(config)


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext.train", description=__doc__)
    parser.add_argument("recipe", type=Path, help="YAML file, e.g. configs/train/kd_mamba_student.yaml")
    parser.add_argument("overrides", nargs="*", help="key=value, e.g. trainer.steps=1000")
    return parser


def cli(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = build_parser().parse_args(argv)
    print(main(arguments.recipe, arguments.overrides))


if __name__ == "__main__":
    cli()
