"""Your own photos: reconstruct a map from a folder, and localize the other photos in it.

``python -m pipelines.photos --images DIR --outputs DIR [--queries DIR|LIST]``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pycolmap

from hloc_ext import (
    logger,
    pairs_from_covisibility,
    pairs_from_exhaustive,
    pairs_from_poses,
    pairs_from_retrieval,
    pairs_from_sequence,
    reconstruction,
    triangulation,
)
from hloc_ext.errors import InputError, ReconstructionError
from hloc_ext.evaluation.alignment import align_to
from hloc_ext.formats.atomic import make_dir
from hloc_ext.formats.colmap import read_model, registered_poses, subset, write_model
from hloc_ext.formats.pairs import read_pairs, write_pairs
from hloc_ext.formats.results import QueryResult
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.localizer import camera_from_image
from hloc_ext.report import ReportData
from pipelines.common import (
    Run,
    add_common_arguments,
    estimator_conf,
    kept_if_same,
    positive,
    run_pipeline,
)
from pipelines.photo_folder import PhotoHeader, Photos, check_sizes, choose_camera_mode, find_photos
from pipelines.summary import (
    command_of,
    evaluate_and_print,
    facts_of,
    finish_report,
    match_pictures,
    read_ground_truth,
)

#: Below this many map photos every pair is matched.
EXHAUSTIVE_LIMIT = 60


def read_reference(path: Path, photos: Photos) -> pycolmap.Reconstruction:
    """Read the model with known poses and check that it belongs to the photos.

    Raises:
        MissingInputError, CorruptFileError: there is no such model.
        InputError: it has poses of fewer than two map photos, or of photos of another size.
    """
    model = read_model(path)
    posed = subset(model, photos.map_names)
    if posed.num_images() < 2:
        example = next(iter(registered_poses(model)), "")
        raise InputError(
            f"{path} has poses of {posed.num_images()} of the {len(photos.map_names)} map photos: the names"
            f" must agree, for instance '{photos.map_names[0]}' here and '{example}' there."
        )
    cameras = {image.name: image.camera for image in posed.images.values()}
    check_sizes({name: cameras[name] for name in sorted(cameras)}, photos.root, str(path))
    return model


def map_pairs(
    run: Run, names: Sequence[str], reference: pycolmap.Reconstruction | None, num_covis: int
) -> Path:
    """Choose the pairs of map photos to match.

    All pairs below `EXHAUSTIVE_LIMIT` photos. Above: with given poses, covisible or near photos; without,
    neighbours in the sequence of names and the most similar photos.
    """
    output = run.outputs / "pairs-map.txt"
    with kept_if_same(output) as written:
        if len(names) < EXHAUSTIVE_LIMIT:
            pairs_from_exhaustive.main(written, image_list=names)
        elif reference is None:
            pairs_from_sequence.main(written, image_list=names, window_size=8, quadratic_overlap=True)
            sequence = read_pairs(written)
            num_covis = min(num_covis, len(names) - 1)
            pairs_from_retrieval.main(
                run.global_descriptors, written, num_covis, query_list=names, db_list=names
            )
            write_pairs(written, dict.fromkeys(sequence + read_pairs(written)))
        elif reference.num_points3D() > 0 and set(registered_poses(reference)) == set(names):
            pairs_from_covisibility.main(reference, written, num_covis)
        else:
            pairs_from_poses.main(subset(reference, names), written, num_covis)
    return output


def build_map(
    run: Run,
    photos: Photos,
    names: Sequence[str],
    reference: pycolmap.Reconstruction | None,
    args: argparse.Namespace,
) -> tuple[Path, pycolmap.Reconstruction]:
    """Match the map photos and triangulate or reconstruct them; returns the folder and the model."""
    if reference is not None:
        posed = registered_poses(reference)
        lost = [name for name in names if name not in posed]
        if lost:
            logger.warning(
                "%d photos have no pose in %s and stay out of the map, for instance '%s'.",
                len(lost),
                args.reference_model,
                lost[0],
            )
        names = [name for name in names if name in posed]
    pairs = map_pairs(run, names, reference, args.num_covis)
    matches = run.match(photos.root, pairs, "map")
    sfm_dir = make_dir(run.outputs / f"sfm_{run.name}")
    inputs = {"pairs": read_pairs(pairs), "matches": matches, "seed": args.seed}

    def triangulate(poses: pycolmap.Reconstruction) -> None:
        poses_dir = run.outputs / "reference_poses"
        write_model(subset(poses, names), poses_dir)
        triangulation.main(sfm_dir, poses_dir, photos.root, pairs, run.features, matches, seed=args.seed)

    if reference is not None:
        inputs["reference"] = args.reference_model
        return sfm_dir, run.build_once(
            "triangulation", sfm_dir, inputs, lambda: triangulate(reference), len(names)
        )

    camera_mode = args.camera_mode or choose_camera_mode(photos.root, names)
    inputs |= {"mapper": args.mapper, "camera_mode": camera_mode}

    def reconstruct_with(mapper: str, folder: Path) -> pycolmap.Reconstruction:
        return reconstruction.main(
            folder,
            photos.root,
            pairs,
            run.features,
            matches,
            pycolmap.CameraMode.__members__[camera_mode],
            image_list=names,
            mapper=mapper,
            refine_principal_point=True,
            seed=args.seed,
        )

    def reconstruct() -> None:
        if args.mapper:
            reconstruct_with(args.mapper, sfm_dir)
        else:
            reconstruct_most(reconstruct_with, sfm_dir, len(names))

    return sfm_dir, run.build_once("structure from motion", sfm_dir, inputs, reconstruct, len(names))


def reconstruct_most(
    reconstruct: Callable[[str, Path], pycolmap.Reconstruction], sfm_dir: Path, num_photos: int
) -> None:
    """Reconstruct with the incremental mapper; if it leaves out more than half, try the global one too.

    The incremental mapper can stop at a few photos where its first pair was a poor one. The model with
    more photos is kept.

    Args:
        reconstruct: makes a model with the named mapper in a folder.
        sfm_dir: folder of the model.
        num_photos: photos of the map.

    Raises:
        ReconstructionError: neither mapper makes a model.
    """
    num_registered, failure = 0, None
    try:
        num_registered = reconstruct("incremental", sfm_dir).num_reg_images()
    except ReconstructionError as error:
        failure = error
    if num_registered > num_photos / 2:
        return
    logger.warning(
        "The incremental mapper places %d of %d photos: trying the global one.", num_registered, num_photos
    )
    with tempfile.TemporaryDirectory(dir=sfm_dir, prefix=".model-") as folder:
        try:
            model = reconstruct("global", Path(folder))
        except ReconstructionError as error:
            if failure is not None:
                raise failure from error
            return
    if model.num_reg_images() > num_registered:
        write_model(model, sfm_dir)


def query_cameras(
    photos: Photos, names: Sequence[str], model: pycolmap.Reconstruction
) -> tuple[list[tuple[str, pycolmap.Camera]], list[str]]:
    """Intrinsics of the queries, and the queries whose focal length is only a guess.

    Taken from the query list; else from the map, where one camera took all photos with the size and EXIF
    tags of the query; else from EXIF; else from the map, where one camera took all photos of that size;
    else the focal length is estimated with the pose.
    """
    by_header: dict[PhotoHeader, set[int]] = {}
    by_size: dict[tuple[int, int], set[int]] = {}
    for image in model.images.values():
        by_header.setdefault(PhotoHeader.read(photos.root / image.name), set()).add(image.camera_id)
        by_size.setdefault((image.camera.width, image.camera.height), set()).add(image.camera_id)
    cameras, unknown = [], []
    for name in names:
        camera = photos.cameras.get(name)
        if camera is None:
            camera, is_guess = camera_from_image(photos.root / name)
            same = by_header.get(PhotoHeader.read(photos.root / name), set())
            if is_guess and len(same) != 1:
                same = by_size.get((camera.width, camera.height), set())
            if len(same) == 1:
                camera = model.cameras[next(iter(same))]
            elif is_guess:
                unknown.append(name)
        cameras.append((name, camera))
    return cameras, unknown


def align_results(
    results: Sequence[QueryResult],
    truth: Mapping[str, pycolmap.Rigid3d],
    model: pycolmap.Reconstruction,
) -> list[QueryResult]:
    """Results in the frame of the ground truth, by the similarity that takes a map from scratch there."""
    alignment = align_to(model, truth)
    print(
        f"Map against ground truth: {len(alignment.residuals)} camera centres, RMS {alignment.rms:.4g} of its"
        " units after a similarity."
    )
    moved = []
    for result in results:
        copy = QueryResult(**vars(result))
        pose = result.cam_from_world
        if pose is not None:
            copy.set_pose(alignment.reference_from_model.transform_camera_world(pose))
        moved.append(copy)
    return moved


def localize_queries(
    run: Run,
    photos: Photos,
    queries: Sequence[str],
    sfm_dir: Path,
    model: pycolmap.Reconstruction,
    args: argparse.Namespace,
) -> tuple[list[QueryResult], Path]:
    """Retrieve, match and localize the queries; returns the results and the match file."""
    map_names = list(registered_poses(model))
    retrieval = run.retrieve(queries, map_names, args.num_loc)
    matches = run.match(photos.root, retrieval, "queries", localization=True)
    cameras, unknown = query_cameras(photos, queries, model)
    results = run.localize(
        sfm_dir,
        cameras,
        retrieval,
        matches,
        run.outputs / "results.txt",
        estimator_conf(args, run.is_dense),
        focal_unknown=unknown,
        prepend_camera_name=photos.prepend_camera_name,
    )
    return results, matches


def main(argv: list[str] | None = None) -> None:
    """Run the pipeline."""
    args = build_parser().parse_args(argv)
    photos = find_photos(args.images, args.queries, args.query_every, args.outputs)
    photos.check(args.outputs / "results.txt")
    reference = read_reference(args.reference_model, photos) if args.reference_model else None
    truth = None
    if args.ground_truth:
        truth = read_ground_truth(args.ground_truth, photos.query_names or photos.map_names)
    run = Run.of(args)
    conf = estimator_conf(args, run.is_dense)
    logger.info("%d map photos, %d queries.", len(photos.map_names), len(photos.query_names))

    map_names = run.extract(photos.root, photos.map_names, "map")
    queries = run.extract(photos.root, photos.query_names, "queries") if photos.query_names else []
    if len(map_names) < 2:
        raise InputError(f"A map needs two readable photos, {photos.root} has only {map_names[0]}.")
    sfm_dir, model = build_map(run, photos, map_names, reference, args)
    run.describe_map(sfm_dir, photos.root, args.num_loc, conf)
    num_images, num_points = model.num_reg_images(), model.num_points3D()
    print(f"Map: {num_images} of {len(map_names)} photos, {num_points} points in {sfm_dir}.")
    if num_images < len(map_names):
        logger.warning(
            "%d photos are not in the map. They overlap too little with the others, or need features that"
            " match better, for instance `--features sift-colmap`.",
            len(map_names) - num_images,
        )

    folder = args.images.resolve()
    place = folder.parent.name if folder.name.lower() in ("images", "photos") else folder.name
    data = ReportData(f"Photos of {place}", model=model)
    if queries:
        data.results, matches = localize_queries(run, photos, queries, sfm_dir, model, args)
    if truth is not None:
        in_frame = data.results if reference is not None else align_results(data.results, truth, model)
        if in_frame:
            map_poses = registered_poses(model) if reference is not None else None
            data.evaluation = evaluate_and_print({"queries": in_frame}, truth, args.thresholds, map_poses)
        data.ground_truth = truth if reference is not None else None
    if queries:
        localization_map = LocalizationMap.load(sfm_dir)
        data.matches = match_pictures(
            run, photos.root, localization_map, matches, data.results, data.evaluation
        )
    facts = describe_photos(photos, {*map_names, *queries}, num_images)
    data.facts = facts_of(run, command_of(build_parser().prog, argv), conf, **facts)
    finish_report(args.outputs / "report.html", data, run.log)


def describe_photos(photos: Photos, readable: set[str], num_in_map: int) -> dict[str, str]:
    """Numbers of photos, and those that could not be read."""
    in_map = f"{len(photos.map_names)}, {num_in_map} of them in the map"
    facts = {"map photos": in_map, "queries": str(len(photos.query_names))}
    unreadable = [name for name in (*photos.map_names, *photos.query_names) if name not in readable]
    if unreadable:
        facts["unreadable photos"] = ", ".join(unreadable)
    return facts


def build_parser() -> argparse.ArgumentParser:
    """Command line of the pipeline."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.photos", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    queries = parser.add_mutually_exclusive_group()
    queries.add_argument("--queries", type=Path, help="folder of query photos, or list of names in --images")
    queries.add_argument("--query_every", type=int, metavar="N", help="take every n-th photo as a query")
    parser.add_argument("--reference_model", type=Path, help="COLMAP model with poses of the map photos")
    parser.add_argument(
        "--mapper",
        choices=reconstruction.MAPPERS,
        help="default incremental, and global if that leaves out more than half of the photos",
    )
    parser.add_argument(
        "--camera_mode",
        choices=list(pycolmap.CameraMode.__members__),
        help="which map photos share a camera; default by their sizes and EXIF tags",
    )
    parser.add_argument("--num_covis", type=positive, default=20, help="pairs per map photo, above 60 photos")
    parser.add_argument("--num_loc", type=positive, default=20, help="map photos to match a query with")
    add_common_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_pipeline(main))
