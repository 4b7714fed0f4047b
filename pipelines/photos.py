"""Your own photos: reconstruct a map from a folder, and localize the other photos in it.

``python -m pipelines.photos --images DIR --outputs DIR [--queries DIR|LIST]``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pycolmap
from PIL import ExifTags, Image

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
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.evaluation.alignment import align_to
from hloc_ext.evaluation.poses import parse_threshold
from hloc_ext.formats.atomic import make_dir
from hloc_ext.formats.colmap import read_model, registered_poses, subset, write_model
from hloc_ext.formats.images import list_images
from hloc_ext.formats.lists import parse_camera, read_image_list
from hloc_ext.formats.pairs import read_pairs
from hloc_ext.formats.results import QueryResult
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.localizer import camera_from_image
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
    write_named_pairs,
)

#: Below this many map photos every pair is matched.
EXHAUSTIVE_LIMIT = 60


@dataclass
class Photos:
    """The photos of a run, under one root so that each has one name.

    Attributes:
        root: folder of all photos.
        map_names: photos that the map is made of.
        query_names: photos to localize.
        cameras: intrinsics that were given with the queries.
    """

    root: Path
    map_names: list[str]
    query_names: list[str]
    cameras: dict[str, pycolmap.Camera]


def find_photos(images: Path, queries: Path | None, query_every: int | None, outputs: Path) -> Photos:
    """Split photos into map and queries.

    Args:
        images: folder of photos.
        queries: folder of query photos (inside `images` or anywhere), a list of names in `images` (with
            or without intrinsics), or None.
        query_every: take every n-th photo of `images` as a query instead.
        outputs: output folder; a query folder outside `images` is joined there by symbolic links.

    Raises:
        MissingInputError: a folder, list or listed photo does not exist.
    """
    names = list_images(images)
    if query_every is not None:
        if query_every < 2:
            raise InputError(f"`query_every` must be at least 2, got {query_every}.")
        chosen = names[::query_every]
        return Photos(images, [n for n in names if n not in set(chosen)], chosen, {})
    if queries is None:
        return Photos(images, names, [], {})
    if queries.is_dir():
        if queries.resolve().is_relative_to(images.resolve()) and queries.resolve() != images.resolve():
            prefix = queries.resolve().relative_to(images.resolve()).as_posix()
            chosen = [f"{prefix}/{name}" for name in list_images(queries)]
            return Photos(images, [n for n in names if n not in set(chosen)], chosen, {})
        root, prefix = link_together(images, queries, outputs / "images")
        return Photos(root, names, [f"{prefix}/{name}" for name in list_images(queries)], {})
    chosen, cameras = read_queries(queries)
    missing = [name for name in chosen if name not in set(names)]
    if missing:
        raise MissingInputError(f"{queries} lists '{missing[0]}', which is not in {images}.")
    return Photos(images, [n for n in names if n not in set(chosen)], chosen, cameras)


def read_queries(path: Path) -> tuple[list[str], dict[str, pycolmap.Camera]]:
    """Names of a query list, and the intrinsics of those lines that have them."""
    names = read_image_list(path)
    cameras = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = line.split()
        if len(fields) > 1 and not fields[0].startswith("#"):
            cameras[fields[0]] = parse_camera(fields[1:], f"{path}, line {number}")
    return names, cameras


def link_together(images: Path, queries: Path, root: Path) -> tuple[Path, str]:
    """Make `root` with links to all entries of `images` and to the folder `queries`.

    Returns:
        `root`, and the name of the link to `queries`.

    Raises:
        InputError: the file system has no symbolic links.
    """
    make_dir(root)
    prefix = queries.resolve().name
    taken = {entry.name for entry in images.iterdir()}
    while prefix in taken:
        prefix += "_queries"
    targets = {entry.name: entry.resolve() for entry in images.iterdir()} | {prefix: queries.resolve()}
    for name, target in targets.items():
        link = root / name
        if link.is_symlink() and link.resolve() == target:
            continue
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(target, target_is_directory=target.is_dir())
        except OSError as error:
            raise InputError(f"Cannot link {target} in {root} ({error}): put the queries inside {images}.") from error
    return root, prefix


def map_pairs(run: Run, names: Sequence[str], reference: pycolmap.Reconstruction | None, num_covis: int) -> Path:
    """Choose the pairs of map photos to match.

    All pairs below `EXHAUSTIVE_LIMIT` photos. Above: with given poses, covisible or near photos; without,
    neighbours in the sequence of names and the most similar photos.
    """
    output = run.outputs / "pairs-map.txt"
    if len(names) < EXHAUSTIVE_LIMIT:
        pairs_from_exhaustive.main(output, image_list=names)
    elif reference is not None and reference.num_points3D() > 0:
        pairs_from_covisibility.main(reference, output, num_covis)
    elif reference is not None:
        pairs_from_poses.main(reference, output, num_covis)
    else:
        sequence, similar = run.outputs / "pairs-map-sequence.txt", run.outputs / "pairs-map-retrieval.txt"
        pairs_from_sequence.main(sequence, image_list=names, window_size=8, quadratic_overlap=True)
        pairs_from_retrieval.main(
            run.global_descriptors, similar, num_covis, query_list=names, db_list=names
        )
        write_named_pairs(output, list(dict.fromkeys(read_pairs(sequence) + read_pairs(similar))))
    return output


def choose_camera_mode(root: Path, names: Sequence[str]) -> str:
    """Which map photos share a camera, from their sizes and EXIF tags.

    One camera for all photos if they agree, else one per folder if those of each folder agree, else
    COLMAP's AUTO. A shared camera makes a small reconstruction several times more accurate.
    """
    by_folder: dict[str, set[tuple[str, ...]]] = {}
    for name in names:
        by_folder.setdefault(Path(name).parent.as_posix(), set()).add(camera_signature(root / name))
    if len(set.union(*by_folder.values())) == 1:
        return "SINGLE"
    return "PER_FOLDER" if all(len(kinds) == 1 for kinds in by_folder.values()) else "AUTO"


def camera_signature(path: Path) -> tuple[str, ...]:
    """Size, maker, model and focal length of a photo, as far as EXIF tells."""
    with Image.open(path) as image:
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        tags = [exif.get(ExifTags.Base.Make), exif.get(ExifTags.Base.Model)]
        tags += [details.get(ExifTags.Base.FocalLength), details.get(ExifTags.Base.FocalLengthIn35mmFilm)]
        return (*(str(v) for v in image.size), *(str(tag) for tag in tags))


def build_map(
    run: Run,
    photos: Photos,
    names: Sequence[str],
    reference_path: Path | None,
    args: argparse.Namespace,
) -> tuple[Path, pycolmap.Reconstruction]:
    """Match the map photos and triangulate or reconstruct them; returns the folder and the model."""
    reference = None
    if reference_path is not None:
        full = read_model(reference_path)
        reference = subset(full, names)
        lost = sorted(set(names) - {image.name for image in reference.images.values()})
        if lost:
            logger.warning("%d photos have no pose in %s and stay out of the map.", len(lost), reference_path)
        names = [name for name in names if name not in set(lost)]
        if not names:
            raise InputError(f"{reference_path} has a pose of none of the photos: do the names agree?")
        with_points = full if set(registered_poses(full)) == set(names) else reference
        pairs = map_pairs(run, names, with_points, args.num_covis)
    else:
        pairs = map_pairs(run, names, None, args.num_covis)
    matches = run.match(photos.root, pairs, "map")
    camera_mode = args.camera_mode or choose_camera_mode(photos.root, names)
    sfm_dir = make_dir(run.outputs / f"sfm_{run.name}")
    inputs = {
        "pairs": read_pairs(pairs),
        "matches": matches,
        "reference": reference_path,
        "mapper": args.mapper,
        "camera_mode": camera_mode,
        "seed": args.seed,
    }

    def build() -> None:
        if reference is None:
            reconstruction.main(
                sfm_dir,
                photos.root,
                pairs,
                run.features,
                matches,
                pycolmap.CameraMode.__members__[camera_mode],
                image_list=names,
                mapper=args.mapper,
                refine_principal_point=True,
                seed=args.seed,
            )
        else:
            poses_dir = run.outputs / "reference_poses"
            write_model(reference, poses_dir)
            triangulation.main(sfm_dir, poses_dir, photos.root, pairs, run.features, matches, seed=args.seed)

    name = "structure from motion" if reference is None else "triangulation"
    return sfm_dir, run.build_once(name, sfm_dir, inputs, build, len(names))


def query_cameras(
    photos: Photos, names: Sequence[str], model: pycolmap.Reconstruction
) -> tuple[list[tuple[str, pycolmap.Camera]], list[str]]:
    """Intrinsics of the queries, and the queries whose focal length is only a guess.

    Taken from the query list, else from EXIF, else, where all map photos of the same size share one
    camera, from the map; else the focal length is estimated with the pose.
    """
    by_size: dict[tuple[int, int], list[pycolmap.Camera]] = {}
    for camera in model.cameras.values():
        by_size.setdefault((camera.width, camera.height), []).append(camera)
    cameras, unknown = [], []
    for name in names:
        camera = photos.cameras.get(name)
        if camera is None:
            camera, is_guess = camera_from_image(photos.root / name)
            same_size = by_size.get((camera.width, camera.height), [])
            if is_guess and len(same_size) == 1:
                camera = same_size[0]
            elif is_guess:
                unknown.append(name)
        cameras.append((name, camera))
    return cameras, unknown


def true_poses(
    ground_truth: Path, model: pycolmap.Reconstruction, is_aligned: bool
) -> tuple[dict[str, pycolmap.Rigid3d], pycolmap.Sim3d | None]:
    """True poses, and the similarity that takes a map from scratch into their frame."""
    truth = registered_poses(read_model(ground_truth))
    if is_aligned:
        return truth, None
    alignment = align_to(model, truth)
    print(
        f"Map against ground truth: {len(alignment.residuals)} camera centres, RMS {alignment.rms:.4g} map"
        f" units of {ground_truth} after a similarity."
    )
    return truth, alignment.reference_from_model


def move_results(results: Sequence[QueryResult], reference_from_model: pycolmap.Sim3d) -> list[QueryResult]:
    """Results with their poses in the frame of the ground truth."""
    moved = []
    for result in results:
        copy = QueryResult(**vars(result))
        pose = result.cam_from_world
        if pose is not None:
            copy.set_pose(reference_from_model.transform_camera_world(pose))
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
        estimator_conf(args),
        focal_unknown=unknown,
        prepend_camera_name=len({Path(name).name for name in queries}) < len(queries),
    )
    return results, matches


def main(argv: list[str] | None = None) -> None:
    """Run the pipeline."""
    args = build_parser().parse_args(argv)
    photos = find_photos(args.images, args.queries, args.query_every, args.outputs)
    run = Run.start(args.outputs, args.features, args.matcher, args.retrieval, args.mask_dir)
    logger.info("%d map photos, %d queries.", len(photos.map_names), len(photos.query_names))
    groups = {"map": photos.map_names, "queries": photos.query_names}
    for label, names in groups.items():
        if names:
            run.extract_global(photos.root, names, label)
            run.extract_local(photos.root, run.readable(names), label)
    map_names, queries = run.readable(photos.map_names), run.readable(photos.query_names)
    if len(map_names) < 2:
        raise InputError(f"A map needs at least two readable photos, {args.images} has {len(map_names)}.")
    sfm_dir, model = build_map(run, photos, map_names, args.reference_model, args)
    run.describe_map(sfm_dir, args.num_loc, estimator_conf(args))
    data = ReportData(f"Photos of {args.images.resolve().name}", model=model)
    print(f"Map: {model.num_reg_images()} of {len(map_names)} photos, {model.num_points3D()} points in {sfm_dir}.")
    results: list[QueryResult] = []
    if queries:
        results, matches = localize_queries(run, photos, queries, sfm_dir, model, args)
    if args.ground_truth:
        truth, similarity = true_poses(args.ground_truth, model, args.reference_model is not None)
        if results:
            in_frame = move_results(results, similarity) if similarity else results
            thresholds = [parse_threshold(text) for text in args.thresholds]
            data.evaluation = evaluate_and_print(in_frame, truth, thresholds)
            data.ground_truth = truth if similarity is None else None
    if results:
        data.results = results
        localization_map = LocalizationMap.load(sfm_dir)
        data.matches = match_pictures(
            run, lambda name: photos.root / name, localization_map, matches, results, data.evaluation
        )
    data.facts = facts_of(run, estimator_conf(args), **describe_photos(photos, groups, run))
    finish_report(args.outputs / "report.html", data, run.log)


def describe_photos(photos: Photos, groups: Mapping[str, Sequence[str]], run: Run) -> dict[str, str]:
    """Numbers of photos, and those that could not be read."""
    facts = {f"{label} photos": str(len(names)) for label, names in groups.items()}
    everything = [name for names in groups.values() for name in names]
    unreadable = sorted(set(everything) - set(run.readable(everything)))
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
    parser.add_argument("--reference_model", type=Path, help="COLMAP model with known poses of the map photos")
    parser.add_argument("--mapper", choices=reconstruction.MAPPERS, default="incremental")
    parser.add_argument(
        "--camera_mode",
        choices=list(pycolmap.CameraMode.__members__),
        help="which map photos share a camera; default by their sizes and EXIF tags",
    )
    parser.add_argument("--num_covis", type=int, default=20, help="pairs per map photo, above 60 photos")
    parser.add_argument("--num_loc", type=int, default=20, help="map photos to match a query with")
    add_common_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_pipeline(main))
