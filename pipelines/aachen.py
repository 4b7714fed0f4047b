"""Aachen Day-Night v1.0 and v1.1: from the data set to a validated submission file.

``python -m pipelines.aachen --dataset datasets/aachen --outputs outputs/aachen --version v1.0``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pycolmap

from hloc_ext import colmap_from_nvm, logger, pairs_from_covisibility, triangulation
from hloc_ext.errors import MissingInputError
from hloc_ext.formats import aachen
from hloc_ext.formats.atomic import make_dir
from hloc_ext.formats.colmap import model_files, read_model, registered_poses
from hloc_ext.formats.lists import read_query_list
from hloc_ext.formats.pairs import read_pairs
from hloc_ext.formats.results import QueryResult, result_names
from hloc_ext.formats.submission import submission_name, validate_submission, write_submission
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.report import ReportData
from pipelines.common import (
    Run,
    add_common_arguments,
    estimator_conf,
    kept_if_same,
    positive,
    run_pipeline,
)
from pipelines.summary import (
    command_of,
    evaluate_and_print,
    facts_of,
    finish_report,
    match_pictures,
    read_ground_truth,
)

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
    folders = [dataset / aachen.IMAGES, dataset / "images" / aachen.IMAGES]
    images = next((folder for folder in folders if folder.is_dir()), folders[0])
    lists = sorted((dataset / aachen.QUERIES).glob(f"*{aachen.QUERY_LIST}"))
    database = dataset / aachen.DATABASE
    layout = Layout(
        version,
        images,
        dataset / aachen.NVM,
        dataset / aachen.INTRINSICS,
        database if database.exists() else None,
        dataset / aachen.MODEL,
        {path.name.removesuffix(aachen.QUERY_LIST): path for path in lists},
    )
    missing = [] if images.is_dir() else [f"{folders[0]}/ (the images)"]
    if version == "v1.0":
        missing += [str(path) for path in (layout.nvm, layout.intrinsics) if not path.exists()]
    elif not model_files(layout.model):
        missing.append(f"{layout.model}/ (cameras, images and points3D, .bin or .txt)")
    if not lists:
        missing.append(f"{dataset / aachen.QUERIES}/*{aachen.QUERY_LIST}")
    if missing:
        listed = "\n".join(f"  {path}" for path in missing)
        raise MissingInputError(f"{dataset} is not Aachen {version}; missing:\n{listed}\n{WHERE_TO_GET}")
    return layout


def read_queries(layout: Layout, limit: int | None) -> dict[str, list[Query]]:
    """Queries with intrinsics by condition, at most `limit` of each.

    Raises:
        MissingInputError: their images do not exist.
        InputError: a list cannot be read, or two queries have the same basename.
    """
    queries = {condition: read_query_list(path)[:limit] for condition, path in layout.query_lists.items()}
    names = [name for listed in queries.values() for name, _ in listed]
    missing = [name for name in names if not (layout.images / name).exists()]
    if missing:
        raise MissingInputError(
            f"{len(missing)} of {len(names)} query images do not exist, for instance"
            f" {layout.images / missing[0]}.\n{WHERE_TO_GET}"
        )
    result_names(names, Path(submission_name(f"aachen_{layout.version}", "METHOD")))
    return queries


def reference_model(run: Run, layout: Layout) -> tuple[Path, pycolmap.Reconstruction]:
    """Folder of the reference model, and the model; v1.0 is converted from NVM once."""
    if layout.version == "v1.1":
        return layout.model, read_model(layout.model)
    folder = make_dir(run.outputs / "sfm_sift")
    inputs = {"nvm": layout.nvm, "intrinsics": layout.intrinsics, "database": layout.database}

    def convert() -> None:
        colmap_from_nvm.main(layout.nvm, layout.intrinsics, layout.database, folder)

    return folder, run.build_once("reference model from NVM", folder, inputs, convert, count=1)


def build_map(
    run: Run,
    layout: Layout,
    reference_dir: Path,
    reference: pycolmap.Reconstruction,
    args: argparse.Namespace,
) -> tuple[Path, pycolmap.Reconstruction]:
    """Triangulate the features with the reference poses; returns the folder and the model."""
    pairs = run.outputs / f"pairs-db-covis{args.num_covis}.txt"
    with (
        run.log.stage("pairs from covisibility", count=reference.num_images(), outputs=[pairs]),
        kept_if_same(pairs) as written,
    ):
        pairs_from_covisibility.main(reference, written, args.num_covis)
    matches = run.match(layout.images, pairs, "map")
    sfm_dir = make_dir(run.outputs / f"sfm_{run.name}")
    inputs = {"pairs": read_pairs(pairs), "matches": matches, "reference": reference_dir, "seed": args.seed}

    def build() -> None:
        triangulation.main(
            sfm_dir, reference_dir, layout.images, pairs, run.features, matches, seed=args.seed
        )

    return sfm_dir, run.build_once("triangulation", sfm_dir, inputs, build, reference.num_images())


@dataclass
class Localization:
    """What the stages make.

    Attributes:
        sfm_dir: folder of the map.
        model: the map.
        matches: match file of the queries with map images.
        results: one per query, in the order of the lists.
    """

    sfm_dir: Path
    model: pycolmap.Reconstruction
    matches: Path
    results: list[QueryResult]


def localize(
    run: Run, layout: Layout, by_condition: Mapping[str, list[Query]], args: argparse.Namespace
) -> Localization:
    """Run all stages.

    Args:
        run: configurations and output folder.
        layout: of the data set.
        by_condition: queries of each list.
        args: options of :func:`build_parser`; paths and configurations in it are not looked at.
    """
    conf = estimator_conf(args, run.is_dense)
    queries = [query for listed in by_condition.values() for query in listed]
    reference_dir, reference = reference_model(run, layout)
    map_names = list(registered_poses(reference))
    # All map images have poses and so are needed; an unreadable query is a failed one.
    run.extract(layout.images, map_names, "map", skip_unreadable=False)
    readable_queries = run.extract(layout.images, [name for name, _ in queries], "queries")
    sfm_dir, model = build_map(run, layout, reference_dir, reference, args)
    retrieval = run.retrieve(readable_queries, map_names, args.num_loc)
    matches = run.match(layout.images, retrieval, "queries", localization=True)
    results = run.localize(
        sfm_dir,
        queries,
        retrieval,
        matches,
        run.outputs / f"results_{run.method}.txt",
        conf,
        covisibility_clustering=args.covisibility_clustering,
    )
    return Localization(sfm_dir, model, matches, results)


def by_list(
    results: Sequence[QueryResult], by_condition: Mapping[str, list[Query]]
) -> dict[str, list[QueryResult]]:
    """Results of the queries of each list."""
    by_name = {result.name: result for result in results}
    return {condition: [by_name[name] for name, _ in listed] for condition, listed in by_condition.items()}


def write_and_validate(
    run: Run, layout: Layout, results: list[QueryResult], names: list[str]
) -> tuple[Path, list[str]]:
    """Write the submission and check that it has the queries; returns the file and its problems."""
    path = run.outputs / submission_name(f"aachen_{layout.version}", f"hloc_ext_{run.method}")
    write_submission(path, results)
    problems = validate_submission(path, names)
    if problems:
        logger.warning("%s is not complete:\n%s", path, "\n".join(f"- {problem}" for problem in problems))
    else:
        print(f"Submission: {path} ({len(names)} poses, valid)")
    return path, problems


def main(argv: list[str] | None = None) -> None:
    """Run the pipeline."""
    args = build_parser().parse_args(argv)
    layout = find_layout(args.dataset, args.version)
    by_condition = read_queries(layout, args.limit)
    names = [name for listed in by_condition.values() for name, _ in listed]
    truth = read_ground_truth(args.ground_truth, names) if args.ground_truth else None
    run = Run.of(args)
    conf = estimator_conf(args, run.is_dense)
    located = localize(run, layout, by_condition, args)
    run.describe_map(located.sfm_dir, layout.images, args.num_loc, conf)
    data = make_report(run, layout, by_condition, located, truth, args)
    localization_map = LocalizationMap.load(located.sfm_dir)
    data.matches = match_pictures(
        run, layout.images, localization_map, located.matches, located.results, data.evaluation
    )
    data.facts = facts_of(run, command_of(build_parser().prog, argv), conf, **data.facts)
    finish_report(args.outputs / "report.html", data, run.log)


def make_report(
    run: Run,
    layout: Layout,
    by_condition: Mapping[str, list[Query]],
    located: Localization,
    truth: Mapping[str, pycolmap.Rigid3d] | None,
    args: argparse.Namespace,
) -> ReportData:
    """Write the submission, evaluate the poses, and collect what the report shows, less the matches.

    Args:
        run, layout, by_condition, args: as in :func:`localize`.
        located: what that made.
        truth: true poses, world→camera, or None.
    """
    results = located.results
    names = [name for listed in by_condition.values() for name, _ in listed]
    submission, problems = write_and_validate(run, layout, results, names)
    data = ReportData(f"Aachen {layout.version}", results=results, model=located.model, ground_truth=truth)
    if truth is not None:
        groups = by_list(results, by_condition)
        data.evaluation = evaluate_and_print(groups, truth, args.thresholds, registered_poses(located.model))
    counts = ", ".join(f"{len(listed)} {condition}" for condition, listed in by_condition.items())
    state = "; ".join(problems) or "valid"
    data.facts = {"queries": counts, "submission": f"{submission.name} ({state})"}
    return data


def build_parser() -> argparse.ArgumentParser:
    """Command line of the pipeline."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.aachen", description=__doc__)
    parser.add_argument("--dataset", type=Path, default=Path("datasets/aachen"))
    parser.add_argument("--version", choices=aachen.VERSIONS, default="v1.0")
    parser.add_argument("--num_covis", type=positive, default=20, help="pairs per map image")
    parser.add_argument("--num_loc", type=positive, default=50, help="map images to match a query with")
    parser.add_argument("--limit", type=positive, help="only the first N queries of each condition")
    parser.add_argument("--covisibility_clustering", action="store_true")
    add_common_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_pipeline(main))
