"""Trainings of cross-view networks, one after the other: teacher and students, or SSA."""

from __future__ import annotations

import argparse
from pathlib import Path

from hloc_ext import logger
from hloc_ext import train as training
from hloc_ext.datasets import spatial_priors
from hloc_ext.datasets.cross_view.layout import LABELS, find_layout
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.extractors.cross_view_weights import save_cross_view
from hloc_ext.formats.atomic import make_dir
from hloc_ext.report import StageLog
from hloc_ext.training.cross_view_teacher import PUBLIC_TRAINING, load_teacher

#: Recipes of each model, in order; the file of a recipe is NAME_CONFIG.yaml.
STEPS = {
    "distill4geo": {"teacher": "cross_view_teacher", "students": "distill4geo"},
    "teacher": {"teacher": "cross_view_teacher"},
    "infonce": {"infonce": "distill4geo_infonce"},
    "ssa": {"ssa": "ssa"},
    "ssa-retrieval": {"ssa-retrieval": "ssa"},
}
#: Options of a step besides those of its file.
STEP_OPTIONS = {"ssa-retrieval": ["loss.semantic=0"]}
#: Options of a recipe on VIGOR, whose tiles are so narrow, and whose cameras stand so far from their centres,
#: that all of a tile is looked at. The recipes are written for CVUSA and CVACT.
VIGOR_OPTIONS = {
    "cross_view_teacher": ["encoder.aerial_crop=1"],
    "distill4geo": ["student.aerial_crop=1"],
    "distill4geo_infonce": ["student.aerial_crop=1"],
    "ssa": ["network.encoder.aerial_crop=1", "network.bev.extent=1"],
}
CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "train"


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command ``train``."""
    parser.add_argument("--config", choices=("small", "medium"), default="small", help="CPU, or a GPU")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=list(STEPS),
        default=["distill4geo"],
        help="distill4geo: teacher, then students; infonce: the same students without a teacher; ssa;"
        " ssa-retrieval: SSA without its bird's-eye views",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        help="weights of a teacher, or a public checkpoint of Sample4Geo (.pth), instead of training one",
    )
    parser.add_argument(
        "--trained_on",
        choices=list(PUBLIC_TRAINING),
        default="",
        help="what such a checkpoint has seen; default: the name of one of its folders",
    )
    parser.add_argument("--layers", type=Path, nargs="+", default=[], help="GIS layers for SSA's class maps")
    parser.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="STEP.KEY=VALUE",
        help="options of the recipes, e.g. teacher.trainer.steps=1000",
    )
    parser.add_argument("--configs", type=Path, default=CONFIGS, help="folder of the recipes")
    parser.add_argument("--test_split", default="test", help="that is evaluated on at the end")
    parser.add_argument("--no_evaluation", action="store_true", help="train only")


def train_recipes(args: argparse.Namespace) -> tuple[dict[str, Path], Path | None]:
    """Train what the options ask for; a training that was interrupted goes on.

    Returns:
        Files of weights by step, in order; folder of the class maps where SSA was trained.

    Raises:
        InputError: an option of no step.
        MissingInputError: no recipe, or no data.
    """
    steps = {step: recipe for model in args.models for step, recipe in STEPS[model].items()}
    known = tuple(f"{step}." for step in steps)
    if wrong := [option for option in args.options if not option.startswith(known)]:
        raise InputError(f"--options {wrong} belong to none of the steps {list(steps)}: STEP.KEY=VALUE.")
    layout = args.layout or find_layout(args.data)
    log = StageLog(make_dir(args.output) / "training.json")
    labels, trained = None, {}
    if any(recipe == "ssa" for recipe in steps.values()):
        with log.stage("class maps"):
            labels = class_maps(args)
    if args.teacher is not None and "teacher" in steps:
        trained["teacher"] = given_teacher(args)
        del steps["teacher"]
    for step, recipe in steps.items():
        path = args.configs / f"{recipe}_{args.config}.yaml"
        if not path.exists():
            raise MissingInputError(
                f"Recipe {path} does not exist: give the folder of the recipes, --configs."
            )
        overrides = [f"output={args.output / step}", f"data.root={args.data}", f"data.area={args.area}"]
        overrides += [f"data.missing={args.missing}", f"data.layout={layout}", *STEP_OPTIONS.get(step, [])]
        if layout == "vigor":
            overrides += VIGOR_OPTIONS[recipe]
        if labels is not None:
            overrides.append(f"data.labels={labels}")
        if step == "students":
            overrides.append(f"teacher={trained['teacher']}")
        overrides += [o.removeprefix(f"{step}.") for o in args.options if o.startswith(f"{step}.")]
        logger.info("Training %s by %s.", step, path)
        with log.stage(step, outputs=[args.output / step / "weights.safetensors"]):
            trained[step] = training.main(path, overrides)
    log.print()
    return trained, labels


def given_teacher(args: argparse.Namespace) -> Path:
    """The file of a teacher that was not trained here; a public checkpoint is rewritten as safetensors.

    Raises:
        MissingInputError, CorruptFileError, InputError: the file cannot be used.
    """
    if args.teacher.suffix == ".safetensors":
        return args.teacher
    network, seen = load_teacher(str(args.teacher), args.trained_on)
    path = args.output / "teacher" / "weights.safetensors"
    save_cross_view(path, network, seen, {"source": f"{args.teacher.name} of Sample4Geo"})
    return path


def class_maps(args: argparse.Namespace) -> Path:
    """Folder of the class maps of the tiles: the one that is given or there, otherwise made from layers.

    Raises:
        MissingInputError, InputError: there are no layers, or they cover no tile.
    """
    if args.labels is not None:
        return args.labels
    if (args.data / LABELS).is_dir():
        return args.data / LABELS
    labels = args.output / LABELS
    spatial_priors.main(args.data, "gis", labels, args.layers, area=args.area)
    return labels
