"""Image pairs of video sequences: neighbours in time, and loop closures by retrieval."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from . import logger
from .errors import InputError
from .formats.pairs import Pair, unique_pairs, write_pairs
from .pairs_from_exhaustive import ImageList, resolve_names
from .pairs_from_retrieval import retrieve_pairs
from .search import Restriction


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key that orders ``frame2`` before ``frame10``."""
    parts: list[str | int] = [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
    return parts, name


def split_sequences(names: Iterable[str], keep_order: bool = False) -> list[list[str]]:
    """Group names into sequences, one per folder.

    Args:
        names: image names with forward slashes.
        keep_order: keep the given order in each folder instead of the natural order of the names.

    Returns:
        Non-empty lists of names, in natural order of the folders.
    """
    folders: dict[str, list[str]] = {}
    for name in names if keep_order else sorted(names, key=natural_key):
        folders.setdefault(PurePosixPath(name).parent.as_posix(), []).append(name)
    return [folders[folder] for folder in sorted(folders, key=natural_key)]


def sequence_offsets(window_size: int, quadratic_overlap: bool) -> list[int]:
    """Distances in the sequence at which images are paired.

    They are 1, …, `window_size`, and with `quadratic_overlap` also 1, 2, 4, …, 2^(`window_size`−1), as in
    COLMAP's sequential matcher.
    """
    offsets = set(range(1, window_size + 1))
    if quadratic_overlap:
        offsets |= {2**exponent for exponent in range(window_size)}
    return sorted(offsets)


def sequential_pairs(names: Sequence[str], offsets: Iterable[int]) -> list[Pair]:
    """Pairs of images of one sequence at the given distances."""
    offsets = list(offsets)
    return [
        (name, names[i + offset])
        for i, name in enumerate(names)
        for offset in offsets
        if i + offset < len(names)
    ]


def loop_closures(
    sequences: Sequence[Sequence[str]],
    offsets: Sequence[int],
    retrieval_path: Path,
    retrieval_interval: int,
    num_loc: int,
) -> list[Pair]:
    """Retrieve images that are similar to, but not neighbours of, every n-th image of each sequence.

    Args:
        sequences: image names, one list per sequence.
        offsets: distances at which images of a sequence are paired already.
        retrieval_path: feature file with global descriptors.
        retrieval_interval: every n-th image is a query.
        num_loc: images to retrieve per query, from all sequences.

    Raises:
        MissingInputError: an image has no global descriptor.
    """
    names = [name for sequence in sequences for name in sequence]
    signed_offsets = np.array(sorted({0, *offsets, *(-offset for offset in offsets)}))
    queries: list[str] = []
    excluded = []
    start = 0
    for sequence in sequences:
        rows = np.arange(0, len(sequence), retrieval_interval)
        neighbors = rows[:, None] + signed_offsets
        inside = (neighbors >= 0) & (neighbors < len(sequence))
        excluded.append(np.where(inside, neighbors + start, -1))
        queries += sequence[::retrieval_interval]
        start += len(sequence)
    # Beyond the longest sequence an offset excludes nothing.
    restriction = Restriction(excluded=np.concatenate(excluded))
    return retrieve_pairs(retrieval_path, [retrieval_path], queries, names, num_loc, restriction)


def main(
    output: Path,
    image_list: ImageList | None = None,
    features: Path | None = None,
    window_size: int = 10,
    quadratic_overlap: bool = True,
    retrieval_path: Path | None = None,
    retrieval_interval: int = 5,
    num_loc: int = 5,
    *,
    keep_order: bool = False,
) -> None:
    """Write the pairs of one or several image sequences.

    Images are ordered naturally (2 before 10), and each folder is a sequence of its own. With global
    descriptors, loops are closed within and between sequences.

    Args:
        output: list of pairs to write.
        image_list: list file or names of the images.
        features: feature file whose images are used if there is no `image_list`.
        window_size: each image is paired with so many that follow it.
        quadratic_overlap: pair also at the distances 1, 2, 4, …, 2^(`window_size`−1), as COLMAP does.
        retrieval_path: feature file with global descriptors, for loop closure.
        retrieval_interval: every n-th image searches for loop closures.
        num_loc: images that it retrieves.
        keep_order: keep the order of the list in each folder.

    Raises:
        MissingInputError: a file, or a global descriptor, does not exist.
        InputError: no images, a repeated name, or a number below 1.
    """
    for option, value in (
        ("window_size", window_size),
        ("retrieval_interval", retrieval_interval),
        ("num_loc", num_loc),
    ):
        if value < 1:
            raise InputError(f"`{option}` must be at least 1, got {value}.")
    names = resolve_names(image_list, features)
    if names is None:
        raise InputError("Give either a list of images (`image_list`) or a feature file (`features`).")
    sequences = split_sequences(names, keep_order)
    longest = max(len(sequence) for sequence in sequences)
    offsets = [o for o in sequence_offsets(window_size, quadratic_overlap) if o < longest]
    pairs = [pair for sequence in sequences for pair in sequential_pairs(sequence, offsets)]
    num_sequential = len(pairs)
    if retrieval_path is not None:
        pairs += loop_closures(sequences, offsets, Path(retrieval_path), retrieval_interval, num_loc)
        pairs = unique_pairs(pairs)
    if not pairs:
        raise InputError(f"No pairs: none of the {len(sequences)} folders holds more than one image.")
    logger.info(
        "Found %d pairs in %d sequences, %d of them loop closures.",
        len(pairs),
        len(sequences),
        len(pairs) - num_sequential,
    )
    write_pairs(Path(output), pairs)


def build_parser() -> argparse.ArgumentParser:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext pairs_from_sequence", description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, required=True, help="list of pairs to write")
    add("--image_list", type=Path, help="list of images")
    add("--features", type=Path, help="feature file, used if there is no list")
    add("--window_size", type=int, default=10, help="following images that each image is paired with")
    add(
        "--quadratic_overlap",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="pair also at the distances 1, 2, 4, …, 2^(window_size-1)",
    )
    add("--retrieval_path", type=Path, help="feature file with global descriptors, for loop closure")
    add("--retrieval_interval", type=int, default=5, help="every n-th image searches for loop closures")
    add("--num_loc", type=int, default=5, help="images that it retrieves")
    add("--keep_order", action="store_true", help="keep the order of the list in each folder")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    main(**vars(build_parser().parse_args(argv)))


if __name__ == "__main__":
    cli()
