"""Match local features of image pairs into an HLOC match file."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .confs import matchers as confs
from .errors import InputError
from .formats.features import FeatureReader
from .formats.h5 import H5Writer
from .formats.matches import check_pair_keys, names_to_pair
from .formats.pairs import Pair, read_pairs, unique_pairs
from .host import get_conf, load_model

logger = logging.getLogger(__name__)


def new_pairs(pairs: Iterable[Pair], existing: Iterable[str]) -> list[Pair]:
    """Pairs without repetitions, in order, that are not among the `existing` keys of a match file."""
    known = set(existing)
    return [
        (a, b)
        for a, b in unique_pairs(pairs)
        if not {key for sep in "/_" for key in (names_to_pair(a, b, sep), names_to_pair(b, a, sep))} & known
    ]


def stored_orders(pairs: Iterable[Pair], existing: Container[str]) -> list[tuple[Pair, bool]]:
    """Pairs to match again, each in the order or orders in which a match file holds it.

    A pair stored as (b, a) that was written again as (a, b) would leave the old matches in the file.

    Returns:
        Pairs, and whether each is swapped with respect to `pairs`.
    """
    orders = []
    for a, b in pairs:
        reverse = names_to_pair(b, a) in existing
        if not reverse or names_to_pair(a, b) in existing:
            orders.append(((a, b), False))
        if reverse:
            orders.append(((b, a), True))
    return orders


def to_tensors(record: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Record of an image as float32 tensors with a batch dimension.

    ``image`` is an empty tensor of the image's size, without memory behind it, because some matchers
    (LightGlue) read the size from it.
    """
    tensors = {key: torch.from_numpy(np.asarray(value)).float()[None] for key, value in record.items()}
    if "image_size" in record:
        width, height = (int(v) for v in record["image_size"])
        tensors["image"] = torch.empty(1).expand(1, 1, height, width)
    return tensors


def join_pair(features0: Mapping[str, Any], features1: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """Input dictionary of a sparse matcher from the features of two images."""
    return {
        f"{key}{index}": value if key == "image" else value.to(device, non_blocking=True)
        for index, features in enumerate((features0, features1))
        for key, value in features.items()
    }


def to_record(prediction: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Record of a match file: ``matches0`` int32 and ``matching_scores0`` float16."""
    record = {"matches0": prediction["matches0"][0].cpu().numpy().astype(np.int32)}
    if "matching_scores0" in prediction:
        record["matching_scores0"] = prediction["matching_scores0"][0].cpu().numpy().astype(np.float16)
    return record


@torch.no_grad()
def match_from_paths(
    conf: Mapping[str, Any],
    pairs_path: Path,
    match_path: Path,
    feature_path_q: Path,
    feature_path_ref: Path,
    overwrite: bool = False,
) -> Path:
    """Match all pairs of a list that the match file does not hold yet.

    Args:
        conf: matcher configuration; see :mod:`hloc_ext.confs`.
        pairs_path: list of pairs.
        match_path: match file to write.
        feature_path_q: features of the first images of the pairs.
        feature_path_ref: features of the second images.
        overwrite: match again what the file holds.

    Raises:
        MissingInputError: a file, or the features of an image, are absent.
        InputError: two image names share HLOC's pair key, or the list holds no pair.
    """
    conf = get_conf("matchers", conf)
    all_pairs = read_pairs(pairs_path)
    if not all_pairs:
        raise InputError(f"The list of pairs {pairs_path} is empty: nothing to match.")
    if not unique_pairs(all_pairs):
        raise InputError(f"The list of pairs {pairs_path} pairs images with themselves only.")
    check_pair_keys(name for pair in all_pairs for name in pair)
    with H5Writer(match_path) as writer:
        jobs = stored_orders(new_pairs(all_pairs, () if overwrite else writer.names), writer.names)
        if not jobs:
            logger.info("All pairs of %s are in %s.", pairs_path, match_path)
            return match_path
        logger.info("Matching %d pairs with '%s' to %s.", len(jobs), conf["output"], match_path)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with FeatureReader(feature_path_q) as query, FeatureReader(feature_path_ref) as reference:
            model = load_model("matchers", conf).to(device)
            for (name0, name1), is_swapped in tqdm(jobs, desc=conf["output"], smoothing=0.1):
                first, second = (reference, query) if is_swapped else (query, reference)
                features0, features1 = to_tensors(first.record(name0)), to_tensors(second.record(name1))
                prediction = model(join_pair(features0, features1, device))
                writer.write(names_to_pair(name0, name1), to_record(prediction))
    return match_path


def main(
    conf: Mapping[str, Any],
    pairs: Path,
    features: Path | str,
    export_dir: Path | None = None,
    matches: Path | None = None,
    features_ref: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Match features, with HLOC's rules for file names.

    Args:
        conf: matcher configuration.
        pairs: list of pairs.
        features: feature file, or the ``output`` of an extractor conf (a file of `export_dir`).
        export_dir: folder of the features and matches when `features` is a name.
        matches: match file; required when `features` is a path.
        features_ref: features of the second images; default `features`.
        overwrite: match again what the file holds.

    Returns:
        Path of the match file.
    """
    pairs = Path(pairs)
    if isinstance(features, Path) or features.endswith(".h5") or Path(features).is_file():
        features_q = Path(features)
        if matches is None:
            raise InputError("`features` is a file, so give the output file `matches` too.")
    else:
        if export_dir is None:
            raise InputError(f"`features` is the name '{features}', so give `export_dir` too.")
        features_q = Path(export_dir) / f"{features}.h5"
        if matches is None:
            matches = Path(export_dir) / f"{features}_{conf['output']}_{pairs.stem}.h5"
    return match_from_paths(
        conf, pairs, Path(matches), features_q, Path(features_ref or features_q), overwrite
    )


def build_parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext match_features", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--features", default="feats-sift", help="feature file, or its stem in --export_dir")
    parser.add_argument("--export_dir", type=Path)
    parser.add_argument("--matches", type=Path)
    parser.add_argument("--features_ref", type=Path)
    parser.add_argument("--conf", default="NN-ratio", help=f"{', '.join(confs)}, or a conf of HLOC")
    parser.add_argument("--overwrite", action="store_true")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    args = vars(build_parser().parse_args(argv))
    main(get_conf("matchers", args.pop("conf")), **args)


if __name__ == "__main__":
    cli()
