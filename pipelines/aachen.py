"""Aachen Day-Night v1.0 and v1.1: from the data set to a validated submission file.

``python -m pipelines.aachen --dataset datasets/aachen --outputs outputs/aachen --version v1.0``
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from hloc_ext import colmap_from_nvm, logger, pairs_from_covisibility, triangulation
from hloc_ext.errors import MissingInputError
from hloc_ext.evaluation.poses import parse_threshold
from hloc_ext.formats.atomic import make_dir
from hloc_ext.formats.colmap import model_files, read_model, registered_poses
from hloc_ext.formats.lists import read_query_list
from hloc_ext.formats.pairs import read_pairs
from hloc_ext.formats.results import QueryResult
from hloc_ext.formats.submission import submission_name, validate_submission, write_submission
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.report import ReportData
from pipelines.common import (
    Run,
    add_common_arguments,
    estimator_conf,
    evaluate_and_print,
    facts_of,
    finish_report,
    match_pictures,
    run_pipeline,
)

QUERY_LISTS = "*_time_queries_with_intrinsics.txt"

WHERE_TO_GET = """\
Download Aachen Day-Night from https://www.visuallocalization.net/datasets/ (the archive is at
https://data.ciirc.cvut.cz/public/projects/2020VisualLocalization/Aachen-Day-Night/), unzip
images/database_and_query_images.zip in the data set folder and, for v1.1, aachen_v1_1.zip too."""

Query = tuple[str, pycolmap.Camera]


@dataclass
class Layout:
    """Where the files of a data set are.

    Attributes:
        version: ``v1.0`` or ``v1.1``.
        images: folder of all images.
        nvm, intrinsics: reference model of v1.0.
        database: COLMAP database of v1.0, or None: images are then numbered as in the NVM file.
        model: reference model of v1.1.
        query_lists: list of queries by condition (``day``, ``night``).
    """

    version: str
    images: Path
    nvm: Path
    intrinsics: Path
    database: Path | None
    model: Path
    query_lists: dict[str, Path]


def find_layout(dataset: Path, version: str) -> Layout:
    """Check that a data set is complete.

    Args:
        dataset: folder of the data set.
        version: ``v1.0`` or ``v1.1``.

    Raises:
        MissingInputError: listing all that is missing, and where to get it.
    """
    folders = [dataset / "images_upright", dataset / "images" / "images_upright"]
    images = next((folder for folder in folders if folder.is_dir()), folders[0])
    lists = sorted((dataset / "queries").glob(QUERY_LISTS))
    database = dataset / "aachen.db"
    layout = Layout(
        version,
        images,
        dataset / "3D-models" / "aachen_cvpr2018_db.nvm",
        dataset / "3D-models" / "database_intrinsics.txt",
        database if database.exists() else None,
        dataset / "3D-models" / "aachen_v_1_1",
        {path.name.split("_")[0]: path for path in lists},
    )
    missing = [] if images.is_dir() else [f"{folders[0]}/ (the images)"]
    if version == "v1.0":
        missing += [str(path) for path in (layout.nvm, layout.intrinsics) if not path.exists()]
    elif not model_files(layout.model):
        missing.append(f"{layout.model}/ (cameras, images and points3D, .bin or .txt)")
    if not lists:
        missing.append(str(dataset / "queries" / QUERY_LISTS))
    if missing:
        listed = "\n".join(f"  {path}" for path in missing)
        raise MissingInputError(f"{dataset} is not Aachen {version}; missing:\n{listed}\n{WHERE_TO_GET}")
    return layout


def read_queries(layout: Layout, limit: int | None) -> dict[str, list[Query]]:
    """Queries with intrinsics by condition, at most `limit` of each; their images must exist."""
    queries = {condition: read_query_list(path)[:limit] for condition, path in layout.query_lists.items()}
    for condition, listed in queries.items():
        for name, _ in listed:
            if not (layout.images / name).exists():
                raise MissingInputError(
                    f"Query image {layout.images / name} of {layout.query_lists[condition]} does not exist."
                    f"\n{WHERE_TO_GET}"
                )
    return queries


def reference_model(run: Run, layout: Layout) -> Path:
    """Folder of the reference model; v1.0 is converted from NVM once."""
    if layout.version == "v1.1":
        return layout.model
    folder = make_dir(run.outputs / "sfm_sift")
    inputs = {"nvm": layout.nvm, "intrinsics": layout.intrinsics, "database": layout.database}

    def convert() -> None:
        colmap_from_nvm.main(layout.nvm, layout.intrinsics, layout.database, folder)

    run.build_once("reference model from NVM", folder, inputs, convert, count=1)
    return folder


def build_map(
    run: Run, layout: Layout, reference_dir: Path, reference: pycolmap.Reconstruction, args: argparse.Namespace
) -> tuple[Path, pycolmap.Reconstruction]:
    """Triangulate the features with the reference poses; returns the folder and the model."""
    pairs = run.outputs / f"pairs-db-covis{args.num_covis}.txt"
    with run.log.stage("pairs from covisibility", count=reference.num_images(), outputs=[pairs]):
        pairs_from_covisibility.main(reference, pairs, args.num_covis)
    matches = run.match(layout.images, pairs, "map")
    sfm_dir = make_dir(run.outputs / f"sfm_{run.name}")
    inputs = {"pairs": read_pairs(pairs), "matches": matches, "reference": reference_dir, "seed": args.seed}

    def build() -> None:
        triangulation.main(
            sfm_dir, reference_dir, layout.images, pairs, run.features, matches, seed=args.seed
        )

    return sfm_dir, run.build_once("triangulation", sfm_dir, inputs, build, reference.num_images())


def write_and_validate(
    run: Run, layout: Layout, results: list[QueryResult], queries: list[Query]
) -> tuple[Path, list[str]]:
    """Write the submission and check it; returns the file and its problems."""
    method = f"hloc_ext_{run.name}_{run.retrieval_conf['output']}"
    path = run.outputs / submission_name(f"aachen_{layout.version}", method)
    write_submission(path, results)
    problems = validate_submission(path, [name for name, _ in queries])
    if problems:
        logger.warning("%s is not complete:\n%s", path, "\n".join(f"- {problem}" for problem in problems))
    else:
        print(f"Submission: {path} ({len(queries)} poses, valid)")
    return path, problems


def main(argv: list[str] | None = None) -> None:
    """Run the pipeline."""
    args = build_parser().parse_args(argv)
    layout = find_layout(args.dataset, args.version)
    queries = read_queries(layout, args.limit)
    all_queries = [query for listed in queries.values() for query in listed]
    query_names = [name for name, _ in all_queries]
    run = Run.start(args.outputs, args.features, args.matcher, args.retrieval, args.mask_dir)
    conf = estimator_conf(args)

    reference_dir = reference_model(run, layout)
    reference = read_model(reference_dir)
    map_names = list(registered_poses(reference))
    for label, names in {"map": map_names, "queries": query_names}.items():
        run.extract_global(layout.images, names, label)
        run.extract_local(layout.images, run.readable(names), label)

    sfm_dir, model = build_map(run, layout, reference_dir, reference, args)
    run.describe_map(sfm_dir, args.num_loc, conf)
    retrieval = run.retrieve(run.readable(query_names), map_names, args.num_loc)
    matches = run.match(layout.images, retrieval, "queries", localization=True)
    results = run.localize(
        sfm_dir,
        all_queries,
        retrieval,
        matches,
        run.outputs / f"results_{run.name}.txt",
        conf,
        covisibility_clustering=args.covisibility_clustering,
    )
    submission, problems = write_and_validate(run, layout, results, all_queries)

    data = ReportData(f"Aachen {args.version}", results=results, model=model)
    if args.ground_truth:
        by_name = {result.name: result for result in results}
        groups = {condition: [by_name[name] for name, _ in listed] for condition, listed in queries.items()}
        data.ground_truth = registered_poses(read_model(args.ground_truth))
        thresholds = [parse_threshold(text) for text in args.thresholds]
        data.evaluation = evaluate_and_print(groups, data.ground_truth, thresholds)
    localization_map = LocalizationMap.load(sfm_dir)
    data.matches = match_pictures(
        run, lambda name: layout.images / name, localization_map, matches, results, data.evaluation
    )
    counts = ", ".join(f"{len(listed)} {condition}" for condition, listed in queries.items())
    state = "; ".join(problems) or "valid"
    data.facts = facts_of(run, conf, queries=counts, submission=f"{submission.name} ({state})")
    finish_report(args.outputs / "report.html", data, run.log)


def build_parser() -> argparse.ArgumentParser:
    """Command line of the pipeline."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.aachen", description=__doc__)
    parser.add_argument("--dataset", type=Path, default=Path("datasets/aachen"))
    parser.add_argument("--version", choices=["v1.0", "v1.1"], default="v1.0")
    parser.add_argument("--num_covis", type=int, default=20, help="pairs per map image")
    parser.add_argument("--num_loc", type=int, default=50, help="map images to match a query with")
    parser.add_argument("--limit", type=int, help="only the first N queries of each condition")
    parser.add_argument("--covisibility_clustering", action="store_true")
    add_common_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_pipeline(main))
