"""Structure from motion from scratch, incremental or global."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pycolmap
from tqdm import tqdm

from .colmap_log import quiet_colmap
from .errors import InputError, ReconstructionError
from .extract_features import resolve_image_names
from .formats.atomic import make_dir
from .formats.colmap import write_model
from .formats.lists import read_query_list
from .formats.pairs import Pair, read_pairs
from .triangulation import (
    fill_options,
    parse_options,
    require_files,
    require_writable,
    verify_by_estimation,
)
from .two_view_geometry import (
    MatchStatistics,
    import_features,
    import_matches,
    pairs_in_database,
    require_database_space,
)

logger = logging.getLogger(__name__)

MAPPERS = ("incremental", "global")

#: The principal point of a camera with fewer images is not refined.
MIN_IMAGES_FOR_PRINCIPAL_POINT = 10


def import_images(
    image_dir: Path,
    database_path: Path,
    camera_mode: pycolmap.CameraMode,
    image_list: Sequence[str],
    image_options: Mapping[str, Any] | None = None,
    cameras: Mapping[str, pycolmap.Camera] | None = None,
) -> tuple[dict[str, int], set[int]]:
    """Create a database with the images and their cameras.

    Args:
        image_dir: folder of the images.
        database_path: database to create; an old one is replaced.
        camera_mode: which images share a camera.
        image_list: image names.
        image_options: fields of ``pycolmap.ImageReaderOptions``.
        cameras: known intrinsics by image name; images with equal intrinsics share one camera.

    Returns:
        Ids of the images by name, and ids of the cameras with known intrinsics.
    """
    database_path.unlink(missing_ok=True)
    cameras = cameras or {}
    unknown = [name for name in image_list if name not in cameras]
    require_database_space(database_path)
    with pycolmap.Database.open(database_path):
        pass
    if unknown:
        options = fill_options(pycolmap.ImageReaderOptions(), image_options or {})
        with quiet_colmap():
            pycolmap.import_images(
                database_path, image_dir, camera_mode, image_names=unknown, options=options
            )
    with pycolmap.Database.open(database_path) as database, pycolmap.DatabaseTransaction(database):
        known_ids = _add_calibrated_images(database, {n: cameras[n] for n in image_list if n in cameras})
        ids = {image.name: image.image_id for image in database.read_all_images()}
    lost = sorted(set(image_list) - set(ids))
    if lost:
        raise InputError(
            f"COLMAP could not read {len(lost)} image(s) of {image_dir}, for instance '{lost[0]}': replace"
            " them, or leave them out of `image_list`."
        )
    return ids, known_ids


def _add_calibrated_images(database: pycolmap.Database, cameras: Mapping[str, pycolmap.Camera]) -> set[int]:
    """Write images with known intrinsics, each in a frame and rig of its own camera."""
    rig_of: dict[tuple[Any, ...], int] = {}
    camera_of: dict[tuple[Any, ...], int] = {}
    for name, known in cameras.items():
        key = (known.model, known.width, known.height, tuple(known.params))
        if key not in camera_of:
            camera = pycolmap.Camera(
                model=known.model, width=known.width, height=known.height, params=known.params
            )
            camera.has_prior_focal_length = True
            camera_of[key] = camera.camera_id = database.write_camera(camera)
            rig = pycolmap.Rig()
            rig.add_ref_sensor(camera.sensor_id)
            rig_of[key] = database.write_rig(rig)
        image = pycolmap.Image(name=name, camera_id=camera_of[key])
        image.image_id = database.write_image(image)
        frame = pycolmap.Frame(rig_id=rig_of[key])
        frame.add_data_id(image.data_id)
        image.frame_id = database.write_frame(frame)
        database.update_image(image)
    return set(camera_of.values())


def run_incremental(
    database_path: Path, image_dir: Path, folder: Path, options: Mapping[str, Any], num_images: int
) -> dict[int, pycolmap.Reconstruction]:
    """Incremental mapping with a progress bar per model; returns all models."""
    bars: list[tqdm] = []

    def start_model() -> None:
        bars.append(tqdm(total=num_images, desc=f"mapping, model {len(bars)}", unit="images", initial=2))

    models = pycolmap.incremental_mapping(
        database_path,
        image_dir,
        folder,
        options=fill_options(_empty_options("incremental"), options),
        initial_image_pair_callback=start_model,
        next_image_callback=lambda: bars[-1].update(),
    )
    for bar in bars:
        bar.close()
    return models


def run_mapper(
    sfm_dir: Path,
    database_path: Path,
    image_dir: Path,
    mapper: str,
    options: Mapping[str, Any],
    verbose: bool,
    statistics: MatchStatistics,
) -> pycolmap.Reconstruction:
    """Run a mapper and return its largest model; all of them stay in ``sfm_dir/models``."""
    models_dir = make_dir(sfm_dir / "models")
    for old in models_dir.glob("[0-9]*"):
        shutil.rmtree(old)
    with pycolmap.Database.open(database_path) as database:
        num_images = database.num_images()
        num_verified = database.num_verified_image_pairs()
    with quiet_colmap(verbose):
        if mapper == "incremental":
            models = run_incremental(database_path, image_dir, models_dir, options, num_images)
        else:
            global_options = fill_options(_empty_options(mapper), options)
            models = pycolmap.global_mapping(database_path, image_dir, models_dir, options=global_options)
    models = {key: model for key, model in models.items() if model.num_points3D() > 0}
    if not models:
        raise ReconstructionError(
            f"No model could be reconstructed in {sfm_dir} from {num_images} images and {statistics};"
            f" {num_verified} pairs passed geometric verification. Too few verified pairs: use more or"
            " better overlapping images, another matcher or more pairs. Enough pairs: the motion may be"
            " degenerate (pure rotation, tiny baseline); try the stage `reconstruction` with"
            " `--mapper_options init_num_trials=500 mapper.init_min_tri_angle=4`."
        )
    sizes = {key: model.num_reg_images() for key, model in models.items()}
    best = max(sizes, key=lambda key: (sizes[key], models[key].num_points3D()))
    if len(sizes) > 1:
        logger.warning(
            "The images fall into %d models of %s images; the largest is used, all are in %s.",
            len(sizes),
            sorted(sizes.values(), reverse=True),
            models_dir,
        )
    return models[best]


def refine_principal_points(model: pycolmap.Reconstruction, known_cameras: Collection[int] = ()) -> bool:
    """Refine the intrinsics, principal points too, in a last bundle adjustment of the whole model.

    COLMAP's documentation advises to do so at the end only, where many images share a camera. Nothing
    is done if an unknown camera has fewer than `MIN_IMAGES_FOR_PRINCIPAL_POINT` images.

    Args:
        model: complete model, changed in place.
        known_cameras: ids of the cameras to keep.

    Returns:
        Whether the model was refined.
    """
    shared = Counter(model.images[i].camera_id for i in model.reg_image_ids())
    unknown = [count for camera, count in shared.items() if camera not in known_cameras]
    if not unknown or min(unknown) < MIN_IMAGES_FOR_PRINCIPAL_POINT:
        return False
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    for camera_id in set(known_cameras) & set(shared):
        config.set_constant_cam_intrinsics(camera_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = pycolmap.BundleAdjustmentOptions(refine_principal_point=True, print_summary=False)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    model.update_point_3d_errors()
    return True


def main(
    sfm_dir: Path,
    image_dir: Path,
    pairs: Path,
    features: Path,
    matches: Path,
    camera_mode: pycolmap.CameraMode = pycolmap.CameraMode.AUTO,
    verbose: bool = False,
    skip_geometric_verification: bool = False,
    min_match_score: float | None = None,
    image_list: Path | str | Sequence[str] | None = None,
    image_options: Mapping[str, Any] | None = None,
    mapper_options: Mapping[str, Any] | None = None,
    mapper: str = "incremental",
    intrinsics: Path | Mapping[str, pycolmap.Camera] | None = None,
    seed: int = 0,
    refine_principal_point: bool = False,
) -> pycolmap.Reconstruction:
    """Reconstruct poses and points from matched images.

    Args:
        sfm_dir: output folder: the largest model, all models in ``models/``, and ``database.db``.
        image_dir: folder of the images.
        pairs: list of pairs.
        features: feature file.
        matches: match file.
        camera_mode: which images share a camera: AUTO, SINGLE, PER_FOLDER or PER_IMAGE.
        verbose: show COLMAP's log.
        skip_geometric_verification: trust all matches.
        min_match_score: drop matches that score no more than this.
        image_list: image names or a list file; default all images of the folder.
        image_options: fields of ``pycolmap.ImageReaderOptions``.
        mapper_options: fields of ``pycolmap.IncrementalPipelineOptions`` or ``GlobalPipelineOptions``.
        mapper: ``incremental``, or ``global`` (GLOMAP).
        intrinsics: known intrinsics, as a query list or by image name; they are kept fixed.
        seed: seed of random sampling. With several threads models may still differ in the last digits from
            run to run; ``mapper_options={"num_threads": 1}`` makes them identical.
        refine_principal_point: once the model is complete, refine unknown cameras that at least ten
            images share once more, with their principal points.

    Returns:
        The largest model.

    Raises:
        MissingInputError: an input does not exist.
        ReconstructionError: no model; the message says how far the matches got.
        InputError: unreadable images, pairs of other images, or a wrong option.
        DiskFullError, UnwritableError: a model that `sfm_dir` holds already is kept.
    """
    require_files(image_dir=image_dir, pairs=pairs, features=features, matches=matches)
    if mapper not in MAPPERS:
        raise InputError(f"Unknown mapper '{mapper}': use one of {', '.join(MAPPERS)}.")
    sfm_dir = Path(sfm_dir)
    database_path = sfm_dir / "database.db"
    names = resolve_image_names(Path(image_dir), image_list)
    if intrinsics is not None and not isinstance(intrinsics, Mapping):
        intrinsics = dict(read_query_list(Path(intrinsics)))
    options = _mapper_options(mapper, names, intrinsics or {}, seed)
    merge_options(options, mapper_options or {})
    fill_options(_empty_options(mapper), options)
    require_writable(sfm_dir)
    ids, known_cameras = import_images(
        Path(image_dir), database_path, camera_mode, names, image_options, intrinsics
    )
    listed = pairs_in_database(read_pairs(pairs), ids, Path(pairs))
    statistics = _fill_database(
        database_path,
        ids,
        listed,
        Path(features),
        Path(matches),
        min_match_score,
        skip_geometric_verification,
    )
    if not skip_geometric_verification:
        verify_by_estimation(database_path, listed, seed, verbose)
    if mapper == "incremental" and known_cameras:
        options.setdefault("constant_cameras", known_cameras)
    model = run_mapper(sfm_dir, database_path, Path(image_dir), mapper, options, verbose, statistics)
    if refine_principal_point:
        refine_principal_points(model, known_cameras)
    write_model(model, sfm_dir)
    logger.info(
        "Reconstructed %d of %d images in %s:\n%s",
        model.num_reg_images(),
        len(ids),
        sfm_dir,
        model.summary(),
    )
    return model


def _empty_options(mapper: str) -> Any:
    is_global = mapper == "global"
    return pycolmap.GlobalPipelineOptions() if is_global else pycolmap.IncrementalPipelineOptions()


def _mapper_options(
    mapper: str, names: Sequence[str], intrinsics: Mapping[str, pycolmap.Camera], seed: int
) -> dict[str, Any]:
    options: dict[str, Any] = {"random_seed": seed, "num_threads": min(os.cpu_count() or 1, 16)}
    known = [name for name in names if name in intrinsics]
    if mapper == "global" and known:
        if len(known) < len(names):
            raise InputError(
                f"`intrinsics` has {len(known)} of {len(names)} images, but the global mapper refines the"
                " cameras of all images or of none: complete the list, or use the incremental mapper."
            )
        options["mapper"] = {
            "bundle_adjustment": {"refine_focal_length": False, "refine_extra_params": False}
        }
    return options


def merge_options(target: dict[str, Any], options: Mapping[str, Any]) -> None:
    """Set nested `options` in `target` without dropping what it holds besides."""
    for key, value in options.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            merge_options(target[key], value)
        else:
            target[key] = value


def _fill_database(
    database_path: Path,
    ids: Mapping[str, int],
    pairs: list[Pair],
    features: Path,
    matches: Path,
    min_match_score: float | None,
    as_verified: bool,
) -> MatchStatistics:
    with pycolmap.Database.open(database_path) as database:
        used = {name for pair in pairs for name in pair}
        import_features(ids, database, features, used, database_path)
        return import_matches(
            ids, database, pairs, matches, features, min_match_score, as_verified, database_path
        )


def build_parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext reconstruction", description=__doc__)
    for name in ("sfm_dir", "image_dir", "pairs", "features", "matches"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--image_list", type=Path, help="list of image names; default all of the folder")
    parser.add_argument("--camera_mode", default="AUTO", choices=list(pycolmap.CameraMode.__members__))
    parser.add_argument("--mapper", default="incremental", choices=MAPPERS)
    parser.add_argument("--intrinsics", type=Path, help="list `name MODEL width height params…`, kept fixed")
    parser.add_argument("--refine_principal_point", action="store_true")
    parser.add_argument("--skip_geometric_verification", action="store_true")
    parser.add_argument("--min_match_score", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument(
        "--image_options", nargs="+", default=[], metavar="KEY=VALUE", help="pycolmap.ImageReaderOptions"
    )
    parser.add_argument(
        "--mapper_options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="pycolmap.IncrementalPipelineOptions, for instance ba_refine_focal_length=False"
        " mapper.init_min_num_inliers=50",
    )
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    args = vars(build_parser().parse_args(argv))
    args["camera_mode"] = pycolmap.CameraMode.__members__[args["camera_mode"]]
    for key in ("image_options", "mapper_options"):
        args[key] = parse_options(args[key])
    main(**args)


if __name__ == "__main__":
    cli()
