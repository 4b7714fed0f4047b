"""Triangulate the features of images whose poses are known."""

from __future__ import annotations

import argparse
import ast
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pycolmap

from .colmap_log import quiet_colmap
from .errors import InputError, MissingInputError, ReconstructionError
from .formats.atomic import explaining, make_dir
from .formats.colmap import image_ids, read_model, write_model
from .formats.pairs import Pair, read_pairs
from .two_view_geometry import (
    MatchStatistics,
    import_features,
    import_matches,
    pairs_in_database,
    require_database_space,
    verify_with_known_poses,
)

logger = logging.getLogger(__name__)

#: Ways to verify matches before triangulation.
VERIFICATIONS = ("known_poses", "guided", "estimate", "skip")


def create_database(database_path: Path, model: pycolmap.Reconstruction) -> None:
    """Create a database with the cameras, rigs, frames and images of `model`, replacing an old one."""
    database_path.unlink(missing_ok=True)
    require_database_space(database_path)
    with pycolmap.Database.open(database_path) as database, pycolmap.DatabaseTransaction(database):
        for camera in model.cameras.values():
            database.write_camera(camera, use_camera_id=True)
        for rig in model.rigs.values():
            database.write_rig(rig, use_rig_id=True)
        for frame in model.frames.values():
            database.write_frame(frame, use_frame_id=True)
        for image in model.images.values():
            database.write_image(image, use_image_id=True)


def verify_by_estimation(
    database_path: Path, pairs: Sequence[Pair], seed: int = 0, verbose: bool = False
) -> None:
    """Let COLMAP verify the matches of `pairs` by robust estimation (no poses needed)."""
    require_database_space(database_path, database_path.stat().st_size)
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_num_trials = 20000
    options.ransac.min_inlier_ratio = 0.1
    options.ransac.random_seed = seed
    with tempfile.TemporaryDirectory() as folder, quiet_colmap(verbose):
        pairs_path = Path(folder) / "pairs.txt"
        pairs_path.write_text("\n".join(f"{a} {b}" for a, b in pairs), encoding="utf-8")
        pycolmap.verify_matches(database_path, pairs_path, options=options)


def require_files(**paths: Path) -> None:
    """Raise MissingInputError naming the first argument whose path does not exist."""
    for name, path in paths.items():
        if not Path(path).exists():
            raise MissingInputError(f"`{name}`: {path} does not exist. Run the stage that writes it first.")


def require_writable(folder: Path) -> None:
    """Create `folder`; raise UnwritableError or DiskFullError if no file can be made in it."""
    make_dir(folder)
    with explaining(folder), tempfile.TemporaryFile(dir=folder):
        pass


def main(
    sfm_dir: Path,
    reference_model: Path,
    image_dir: Path,
    pairs: Path,
    features: Path,
    matches: Path,
    skip_geometric_verification: bool = False,
    estimate_two_view_geometries: bool = False,
    min_match_score: float | None = None,
    verbose: bool = False,
    mapper_options: Mapping[str, Any] | None = None,
    verification: str | None = None,
    seed: int = 0,
) -> pycolmap.Reconstruction:
    """Triangulate features with the poses and intrinsics of a reference model.

    Args:
        sfm_dir: output folder: the model, and COLMAP's ``database.db``.
        reference_model: folder of a COLMAP model with poses; its points are not used.
        image_dir: folder of the images (for colours).
        pairs: list of pairs.
        features: feature file.
        matches: match file.
        skip_geometric_verification: trust all matches (HLOC's flag for ``verification="skip"``).
        estimate_two_view_geometries: verify by estimation instead of by the known poses
            (HLOC's flag for ``verification="estimate"``).
        min_match_score: drop matches that score no more than this.
        verbose: show COLMAP's log.
        mapper_options: fields of ``pycolmap.IncrementalPipelineOptions``.
        verification: one of `VERIFICATIONS`: epipolar error against the known poses (default, scaled
            by each image's keypoint uncertainty), COLMAP's guided verification, estimation, or none.
        seed: seed of random sampling.

    Returns:
        The triangulated model, also written to `sfm_dir`.

    Raises:
        MissingInputError: an input does not exist.
        ReconstructionError: no point was triangulated; the message says how far the matches got.
        InputError: a pair names an image that the model lacks, or an option is wrong.
        DiskFullError, UnwritableError: a model that `sfm_dir` holds already is kept.
    """
    require_files(reference_model=reference_model, pairs=pairs, features=features, matches=matches)
    if verification is None:
        verification = "estimate" if estimate_two_view_geometries else "known_poses"
        verification = "skip" if skip_geometric_verification else verification
    if verification not in VERIFICATIONS:
        raise InputError(f"Unknown verification '{verification}': use one of {', '.join(VERIFICATIONS)}.")
    sfm_dir = Path(sfm_dir)
    options = pipeline_options({"random_seed": seed, **(mapper_options or {})})
    reference = read_model(Path(reference_model))
    listed = pairs_in_database(read_pairs(pairs), image_ids(reference), Path(pairs))
    require_writable(sfm_dir)
    database_path = sfm_dir / "database.db"
    create_database(database_path, reference)
    statistics = _fill_database(
        database_path,
        reference,
        listed,
        Path(features),
        Path(matches),
        min_match_score,
        verification,
        seed,
        verbose,
    )
    logger.info("Matches: %s.", statistics)

    def run(folder: Path) -> pycolmap.Reconstruction:
        with quiet_colmap(verbose):
            return pycolmap.triangulate_points(reference, database_path, image_dir, folder, options=options)

    model = run_checked(sfm_dir, run, statistics)
    logger.info("Triangulated %s:\n%s", sfm_dir, model.summary())
    return model


def run_checked(
    sfm_dir: Path, run: Callable[[Path], pycolmap.Reconstruction], statistics: MatchStatistics
) -> pycolmap.Reconstruction:
    """Triangulate through `run(temporary folder)`, store the model, and refuse one without points."""
    with tempfile.TemporaryDirectory(dir=sfm_dir, prefix=".model-") as folder:
        model = run(Path(folder))
    if model.num_points3D() == 0:
        raise ReconstructionError(
            f"Triangulation in {sfm_dir} gave 0 points from {statistics}. If few matches agree with"
            " the poses, check that poses, intrinsics and images belong together (same resolution,"
            " no EXIF rotation); if there are few matches, use more pairs or another matcher."
        )
    write_model(model, sfm_dir)
    return model


def _fill_database(
    database_path: Path,
    reference: pycolmap.Reconstruction,
    pairs: list[Pair],
    features: Path,
    matches: Path,
    min_match_score: float | None,
    verification: str,
    seed: int,
    verbose: bool,
) -> MatchStatistics:
    ids = image_ids(reference)
    used = {name for pair in pairs for name in pair}
    with pycolmap.Database.open(database_path) as database:
        import_features(ids, database, features, used, database_path)
        statistics = import_matches(
            ids, database, pairs, matches, features, min_match_score, verification == "skip", database_path
        )
        if verification == "known_poses":
            statistics = verify_with_known_poses(
                ids,
                reference,
                database,
                features,
                pairs,
                matches,
                min_match_score=min_match_score,
                database_path=database_path,
            )
    if verification == "estimate":
        verify_by_estimation(database_path, pairs, seed, verbose)
    elif verification == "guided":
        require_database_space(database_path, database_path.stat().st_size)
        with quiet_colmap(verbose):
            pycolmap.guided_geometric_verification(reference, database_path)
    return statistics


def pipeline_options(options: Mapping[str, Any]) -> pycolmap.IncrementalPipelineOptions:
    """COLMAP's options of incremental mapping and triangulation from a (nested) dictionary.

    Raises:
        InputError: an option that COLMAP lacks, or a value of the wrong type.
    """
    return fill_options(pycolmap.IncrementalPipelineOptions(), options)


def fill_options(target: Any, options: Mapping[str, Any]) -> Any:
    """Set the fields of a pycolmap options object from a (nested) dictionary and return it."""
    allowed = target.todict()
    for key, value in options.items():
        if key not in allowed:
            raise InputError(f"COLMAP's {type(target).__name__} has no '{key}'; it has {sorted(allowed)}.")
        if isinstance(value, Mapping) and isinstance(allowed[key], Mapping):
            fill_options(getattr(target, key), value)
            continue
        if isinstance(allowed[key], str) and isinstance(value, (tuple, list)):
            value = ",".join(str(v) for v in value)  # COLMAP's form of lists, as in camera_params
        try:
            setattr(target, key, value)
        except TypeError:
            raise InputError(
                f"Option '{key}' of {type(target).__name__} takes a {type(allowed[key]).__name__},"
                f" not {value!r}."
            ) from None
    return target


def parse_options(arguments: Iterable[str]) -> dict[str, Any]:
    """Parse ``key=value`` arguments; ``mapper.key=value`` sets a nested option.

    Raises:
        InputError: an argument without ``=``, or options that contradict each other.
    """
    options: dict[str, Any] = {}
    for argument in arguments:
        path, separator, text = argument.partition("=")
        if not separator:
            raise InputError(f"Option '{argument}' is not of the form key=value.")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError):
            value = text
        *parents, key = path.split(".")
        target = options
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(f"Option '{argument}': '{parent}' has a value already.")
        target[key] = value
    return options


def build_parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext triangulation", description=__doc__)
    for name in ("sfm_dir", "reference_model", "image_dir", "pairs", "features", "matches"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--verification", choices=VERIFICATIONS)
    parser.add_argument("--skip_geometric_verification", action="store_true")
    parser.add_argument("--estimate_two_view_geometries", action="store_true")
    parser.add_argument("--min_match_score", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument(
        "--mapper_options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="fields of pycolmap.IncrementalPipelineOptions, for instance triangulation.min_angle=1.0",
    )
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    args = vars(build_parser().parse_args(argv))
    main(**{**args, "mapper_options": parse_options(args["mapper_options"])})


if __name__ == "__main__":
    cli()
