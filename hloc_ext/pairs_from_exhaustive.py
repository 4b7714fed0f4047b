"""All image pairs of one list, or between two lists."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from . import logger
from .errors import InputError
from .formats.h5 import list_names
from .formats.lists import read_image_list
from .formats.pairs import write_pairs

ImageList = Path | str | Sequence[str]


def resolve_names(image_list: ImageList | None, features: Path | None) -> list[str] | None:
    """Image names of a list file, a sequence, or (if there is no list) a feature file.

    Args:
        image_list: list file (a pattern may match several) or image names.
        features: feature file.

    Returns:
        The names, or None if neither is given.

    Raises:
        InputError: no name, or a name occurs twice.
    """
    if isinstance(image_list, str | Path):
        return read_image_list(Path(image_list))
    if image_list is not None:
        names = list(image_list)
        if len(set(names)) != len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            raise InputError(f"Image '{repeated}' occurs twice in the list of images: remove one.")
        source = "The list of images"
    elif features is not None:
        names, source = list_names(features), str(features)
    else:
        return None
    if not names:
        raise InputError(f"{source} holds no image.")
    return names


def main(
    output: Path,
    image_list: ImageList | None = None,
    features: Path | None = None,
    ref_list: ImageList | None = None,
    ref_features: Path | None = None,
) -> None:
    """Write all pairs of the images, or all pairs of an image and a reference image.

    Args:
        output: list of pairs to write.
        image_list: list file or names of the images.
        features: feature file whose images are used if there is no `image_list`.
        ref_list: list file or names of the reference images.
        ref_features: feature file whose images are the references if there is no `ref_list`.
            Without references each unordered pair of the images is written once.

    Raises:
        InputError: no list given, an empty one, or a repeated name.
    """
    names = resolve_names(image_list, features)
    if names is None:
        raise InputError("Give either a list of images (`image_list`) or a feature file (`features`).")
    references = resolve_names(ref_list, ref_features)
    if references is None:
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    else:
        pairs = [(a, b) for a in names for b in references]
    if not pairs:
        logger.warning("One image makes no pair: %s is empty.", output)
    logger.info("Found %d pairs.", len(pairs))
    write_pairs(Path(output), pairs)


def build_parser() -> argparse.ArgumentParser:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext pairs_from_exhaustive", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="list of pairs to write")
    parser.add_argument("--image_list", type=Path, help="list of images")
    parser.add_argument("--features", type=Path, help="feature file, used if there is no list")
    parser.add_argument("--ref_list", type=Path, help="list of reference images")
    parser.add_argument("--ref_features", type=Path, help="feature file of the reference images")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run from the command line."""
    main(**vars(build_parser().parse_args(argv)))


if __name__ == "__main__":
    cli()
