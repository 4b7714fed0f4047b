"""Image pairs by retrieval: each query with the most similar database images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycolmap

from . import logger
from .compat import wgs84_transform
from .errors import InputError, MissingInputError
from .formats.atomic import read_text
from .formats.colmap import image_ids, projection_centers, read_model, registered_poses
from .formats.features import list_feature_names, read_global_descriptors
from .formats.pairs import Pair, write_pairs
from .pairs_from_exhaustive import ImageList, resolve_names
from .search import DATABASE_BLOCK, IndexKind, PrincipalComponents, Restriction, top_k

FRAMES = ("map", "wgs84")


def parse_names(
    prefix: str | Sequence[str] | None, names: ImageList | None, names_all: Sequence[str]
) -> list[str]:
    """Choose image names by prefix, else by list, else all of them.

    Args:
        prefix: one or several beginnings of names.
        names: list file (with or without intrinsics) or names.
        names_all: names to choose from if there is no list.

    Raises:
        InputError: no name has the prefix, or the list is empty or repeats a name.
    """
    if prefix is None:
        chosen = resolve_names(names, None)
        return list(names_all) if chosen is None else chosen
    if names is not None:
        logger.warning("Both a prefix (%s) and a list of images are given: the list is ignored.", prefix)
    prefixes = prefix if isinstance(prefix, str) else tuple(prefix)
    selected = [name for name in names_all if name.startswith(prefixes)]
    if not selected:
        example = f", for instance '{names_all[0]}'" if names_all else ""
        raise InputError(
            f"None of the {len(names_all)} images begins with the prefix {prefix!r}; their names are"
            f" relative to the image folder{example}."
        )
    return selected


def read_positions(path: Path) -> dict[str, np.ndarray]:
    """Read positions, one ``name x y [z]`` or ``name latitude longitude [altitude]`` per line.

    Raises:
        MissingInputError: no such file.
        InputError: no position, a repeated name, a number that is not finite, or lines of different length.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"File of positions {path} does not exist.")
    positions: dict[str, np.ndarray] = {}
    size = 0
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        name, where = fields[0], f"{path}, line {number}"
        try:
            position = np.array(fields[1:], float)
        except ValueError:
            position = np.empty(0)
        if len(position) not in (2, 3) or not np.isfinite(position).all():
            raise InputError(f"{where}: expected a name and 2 or 3 finite numbers, found {line!r}.")
        size = size or len(position)
        if len(position) != size:
            raise InputError(f"{where}: {len(position)} numbers, but the lines above have {size}.")
        if name in positions:
            raise InputError(f"{where}: image '{name}' is listed already: remove one.")
        positions[name] = position
    if not positions:
        raise InputError(f"{path} holds no position.")
    return positions


def to_local_frame(positions: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert geographic positions to metres.

    Args:
        positions: latitude and longitude in degrees, and optionally altitude in metres (WGS84).

    Returns:
        East, north, up in metres, in the tangent frame at the mean position; altitude 0 if there is none.

    Raises:
        InputError: latitude or longitude out of range.
    """
    geographic = np.array(list(positions.values()))
    outside = (np.abs(geographic[:, :2]) > (90.0, 180.0)).any(1)
    if outside.any():
        name = list(positions)[int(np.argmax(outside))]
        raise InputError(
            f"Image '{name}' has latitude and longitude {positions[name][:2].tolist()}: expected degrees"
            " within ±90 and ±180, latitude first."
        )
    if geographic.shape[1] == 2:
        geographic = np.column_stack([geographic, np.zeros(len(geographic))])
    transform = wgs84_transform()
    local = transform.ellipsoid_to_enu(geographic, *np.mean(geographic, 0))
    return dict(zip(positions, local, strict=True))


def position_restriction(
    query_names: Sequence[str],
    db_names: Sequence[str],
    path: Path,
    radius: float,
    frame: str = "map",
    model: pycolmap.Reconstruction | None = None,
) -> Restriction:
    """Allow each query only the database images within a radius of its approximate position.

    Args:
        query_names, db_names: image names.
        path: file of positions, see :func:`read_positions`. A query that it lacks is not restricted.
        radius: in units of the map, or in metres for the frame `wgs84`.
        frame: ``map``: coordinates x, y and optionally z in the frame of the map (without z the distance
            is horizontal, x and y only); database images that the file lacks get the projection centres of
            `model`. ``wgs84``: latitude, longitude and optionally altitude, converted to metres; all
            database images must be in the file, because the position of the map on Earth is unknown.
        model: the map.

    Raises:
        MissingInputError: no such file, or a database image without position.
        InputError: bad file, radius or frame.
    """
    if frame not in FRAMES:
        raise InputError(f"Unknown frame of positions '{frame}': choose one of {', '.join(FRAMES)}.")
    if not (np.isfinite(radius) and radius > 0):
        raise InputError(f"The radius around the prior position must be positive, got {radius}.")
    given = read_positions(path)
    if frame == "wgs84":
        given = to_local_frame(given)
    size = len(next(iter(given.values())))
    database = dict(given)
    if frame == "map" and model is not None:
        poses = registered_poses(model)
        centers = projection_centers(poses)[:, :size]
        database = {**dict(zip(poses, centers, strict=True)), **given}
    missing = [name for name in db_names if name not in database]
    if missing:
        source = "nor is a pose in `db_model`" if frame == "map" else "which the frame `wgs84` needs"
        raise MissingInputError(
            f"No position of {len(missing)} database images ('{missing[0]}', …) is in {path}, {source}."
        )
    num_unknown = sum(name not in given for name in query_names)
    if num_unknown == len(query_names):
        raise InputError(f"{path} holds the position of no query, for instance '{query_names[0]}'.")
    if num_unknown:
        logger.warning(
            "%d of %d queries have no position in %s: they search the whole database.",
            num_unknown,
            len(query_names),
            path,
        )
    nowhere = np.full(size, np.nan)
    return Restriction(
        query_positions=np.array([given.get(name, nowhere) for name in query_names]),
        database_positions=np.array([database[name] for name in db_names]),
        radius=radius,
    )


def load_descriptors(paths: Sequence[Path], names: Sequence[str], half: bool = False) -> np.ndarray:
    """Read global descriptors, N×D float32 or float16, and check that they are finite.

    Raises:
        MissingInputError: an image has no descriptor.
        InputError: a descriptor holds NaN or infinity; names the image.
    """
    descriptors = read_global_descriptors(paths, names, np.float16 if half else np.float32)
    for start in range(0, len(names), DATABASE_BLOCK):
        finite = np.isfinite(descriptors[start : start + DATABASE_BLOCK]).all(1)
        if not finite.all():
            name = names[start + int(np.argmin(finite))]
            raise InputError(
                f"The global descriptor of '{name}' in {', '.join(map(str, paths))} is not finite:"
                " extract it again."
            )
    return descriptors


def self_indices(query_names: Sequence[str], db_names: Sequence[str]) -> np.ndarray:
    """Row of each query in the database, Q×1, −1 where it is not in it."""
    rows = {name: row for row, name in enumerate(db_names)}
    return np.array([rows.get(name, -1) for name in query_names], np.int64)[:, None]


def report_unmatched(query_names: Sequence[str], pairs: Sequence[Pair]) -> None:
    """Warn of queries for which nothing was retrieved.

    Raises:
        InputError: nothing was retrieved for any query.
    """
    matched = {query for query, _ in pairs}
    unmatched = [name for name in query_names if name not in matched]
    if not matched:
        raise InputError(
            "Nothing was retrieved for any query: the database holds only the query itself, all"
            " similarities are negative, or no database image lies within the radius."
        )
    if unmatched:
        logger.warning(
            "Nothing was retrieved for %d of %d queries: %s%s",
            len(unmatched),
            len(query_names),
            ", ".join(unmatched[:5]),
            ", …" if len(unmatched) > 5 else "",
        )


def main(
    descriptors: Path,
    output: Path,
    num_matched: int,
    query_prefix: str | Sequence[str] | None = None,
    query_list: ImageList | None = None,
    db_prefix: str | Sequence[str] | None = None,
    db_list: ImageList | None = None,
    db_model: Path | pycolmap.Reconstruction | None = None,
    db_descriptors: Path | Sequence[Path] | None = None,
    *,
    index: IndexKind = "exact",
    half: bool = False,
    pca: int | None = None,
    whiten: bool = False,
    position_prior: Path | None = None,
    position_radius: float | None = None,
    position_frame: str = "map",
    min_score: float | None = 0.0,
    seed: int = 0,
) -> None:
    """Write for each query the pairs with the most similar database images, best first.

    An image is never paired with itself (by name). Images of equal similarity follow the order of the
    database.

    Args:
        descriptors: feature file with the global descriptors of the queries.
        output: list of pairs to write.
        num_matched: database images per query; more than there are is reduced with a warning.
        query_prefix, query_list: queries by beginning of the name, or by list (file, with or without
            intrinsics, or names); all images of `descriptors` if neither is given.
        db_prefix, db_list: likewise for the database.
        db_model: COLMAP model (folder or in memory) whose images are the database.
        db_descriptors: one or several feature files of the database; default `descriptors`.
        index: ``exact``, or an index of FAISS: ``flat``, ``ivfpq`` (approximate).
        half: store descriptors in 16 bits.
        pca: project the descriptors to so many principal components of the database.
        whiten: scale these components to unit variance.
        position_prior: file of approximate positions, see :func:`position_restriction`.
        position_radius: only database images within this radius are retrieved; map units, or metres.
        position_frame: ``map`` or ``wgs84``.
        min_score: pairs of smaller similarity are left out, by default negative ones as in HLOC; None
            keeps all. It is not used with `pca`, where zero has no meaning.
        seed: of PCA and `ivfpq`.

    Raises:
        MissingInputError: a file, or the descriptor of an image, does not exist.
        InputError: an empty list, an unknown prefix, or options that do not fit together.
    """
    if (position_prior is None) != (position_radius is None):
        raise InputError("`position_prior` and `position_radius` must be given together.")
    if db_descriptors is None:
        db_paths = [Path(descriptors)]
    elif isinstance(db_descriptors, str | Path):
        db_paths = [Path(db_descriptors)]
    else:
        db_paths = [Path(path) for path in db_descriptors]
    query_names_all = sorted(list_feature_names([Path(descriptors)]))
    same_file = db_paths == [Path(descriptors)]
    db_names_all = query_names_all if same_file else list(list_feature_names(db_paths))

    model = None
    if db_model is not None:
        if db_prefix is not None or db_list is not None:
            logger.warning("`db_model` is given: `db_prefix` and `db_list` are ignored.")
        model = db_model if isinstance(db_model, pycolmap.Reconstruction) else read_model(Path(db_model))
        db_names = list(image_ids(model))
    else:
        db_names = parse_names(db_prefix, db_list, db_names_all)
    query_names = parse_names(query_prefix, query_list, query_names_all)
    for names, source in ((db_names, db_model or db_paths[0]), (query_names, descriptors)):
        if not names:
            raise InputError(f"{source} holds no image.")

    restriction = Restriction()
    if position_prior is not None and position_radius is not None:
        restriction = position_restriction(
            query_names, db_names, Path(position_prior), position_radius, position_frame, model
        )
    pairs = retrieve_pairs(
        Path(descriptors),
        db_paths,
        query_names,
        db_names,
        num_matched,
        restriction,
        index=index,
        half=half,
        pca=pca,
        whiten=whiten,
        min_score=min_score,
        seed=seed,
    )
    report_unmatched(query_names, pairs)
    logger.info("Found %d pairs.", len(pairs))
    write_pairs(Path(output), pairs)


def retrieve_pairs(
    query_path: Path,
    db_paths: Sequence[Path],
    query_names: Sequence[str],
    db_names: Sequence[str],
    num_matched: int,
    restriction: Restriction,
    *,
    index: IndexKind = "exact",
    half: bool = False,
    pca: int | None = None,
    whiten: bool = False,
    min_score: float | None = 0.0,
    seed: int = 0,
) -> list[Pair]:
    """Load descriptors and search; the arguments are those of :func:`main` and a restriction.

    The image itself is excluded here if `restriction` excludes nothing.
    """
    database = load_descriptors(db_paths, db_names, half)
    if list(db_paths) == [query_path] and query_names == db_names:
        queries = database
    else:
        queries = load_descriptors([query_path], query_names, half)
    if pca is not None:
        projection = PrincipalComponents(database, pca, whiten, seed)
        shared = queries is database
        database = projection(database)
        queries = database if shared else projection(queries)
    elif whiten:
        raise InputError("`whiten` needs the number of principal components (`pca`).")
    if restriction.excluded is None:
        excluded = self_indices(query_names, db_names)
        restriction = Restriction(
            excluded, restriction.query_positions, restriction.database_positions, restriction.radius
        )
    found, _ = top_k(
        queries,
        database,
        num_matched,
        index=index,
        restriction=restriction,
        min_score=-np.inf if min_score is None or pca is not None else min_score,
        seed=seed,
    )
    return [(query_names[row], db_names[j]) for row, indices in enumerate(found) for j in indices if j >= 0]


def build_parser() -> argparse.ArgumentParser:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext pairs_from_retrieval", description=__doc__)
    add = parser.add_argument
    add("--descriptors", type=Path, required=True, help="feature file of the queries")
    add("--output", type=Path, required=True, help="list of pairs to write")
    add("--num_matched", type=int, required=True, help="database images per query")
    add("--query_prefix", type=str, nargs="+", help="beginnings of the names of the queries")
    add("--query_list", type=Path, help="list of queries, with or without intrinsics")
    add("--db_prefix", type=str, nargs="+", help="beginnings of the names of the database images")
    add("--db_list", type=Path, help="list of database images")
    add("--db_model", type=Path, help="COLMAP model whose images are the database")
    add("--db_descriptors", type=Path, nargs="+", help="feature files of the database")
    add("--index", choices=("exact", "flat", "ivfpq"), default="exact", help="search method")
    add("--half", action="store_true", help="store descriptors in 16 bits")
    add("--pca", type=int, help="number of principal components of the database to project to")
    add("--whiten", action="store_true", help="scale the principal components to unit variance")
    add("--position_prior", type=Path, help="file of `name x y [z]` or `name latitude longitude [altitude]`")
    add("--position_radius", type=float, help="retrieve only within this radius (map units, or metres)")
    add("--position_frame", choices=FRAMES, default="map", help="what the numbers of the file are")
    add("--seed", type=int, default=0, help="of PCA and ivfpq")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    main(**vars(build_parser().parse_args(argv)))


if __name__ == "__main__":
    cli()
