"""Match images without keypoints (semi-dense), and make keypoints of the matches.

The matches of a pair are stored in a file of their own (``NAME.raw.h5`` beside the match file) until all
pairs are matched; the keypoints of every image are then aggregated (:mod:`hloc_ext.dense_aggregation`),
and only complete records are added to the match file. No record is ever rewritten, so a run that was
killed anywhere continues, and no file grows beyond what it holds.

All positions in files are pixels of the original image, with the centre of the top-left pixel at (0, 0).
"""

from __future__ import annotations

import argparse
import logging
import os
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from tqdm import tqdm

from .confs import dense_matchers as confs
from .dense_aggregation import Observations, aggregate, assign, cell_and_bin_size, nearest_keypoints
from .errors import CorruptFileError, HlocExtError, InputError, MissingInputError
from .extract_features import keypoints_in_mask, warn_about_orientation
from .formats.features import FeatureReader
from .formats.h5 import H5Writer, recover
from .formats.images import prefetch
from .formats.matches import check_pair_keys, names_to_pair
from .formats.pairs import Pair, read_pairs
from .host import get_conf, load_model
from .keypoint_files import KeypointFiles
from .match_features import new_pairs
from .pair_images import ImageCache, PairImage, order_for_reuse

logger = logging.getLogger(__name__)


def raw_path(match_path: Path) -> Path:
    """File of the semi-dense matches that are not yet in `match_path`."""
    return match_path.with_name(f"{match_path.stem}.raw.h5")


@dataclass(frozen=True)
class _Job:
    """A pair to match; `flip` exchanges the images, so that the second one is refined."""

    pair: Pair
    image0: PairImage
    image1: PairImage
    flip: bool

    @property
    def inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        tensors = self.image0.tensor, self.image1.tensor
        return tensors[::-1] if self.flip else tensors

    @property
    def shapes(self) -> tuple[torch.Size, torch.Size]:
        first, second = self.inputs
        return first.shape, second.shape


def _run_batch(model: Any, device: torch.device, jobs: Sequence[_Job]) -> tuple[list[dict], bool]:
    """Match pairs of equal shapes at once; also returns whether the model tells pairs of a batch apart."""
    data = {
        f"image{i}": torch.stack([job.inputs[i] for job in jobs]).to(device, non_blocking=True)
        for i in (0, 1)
    }
    prediction = model(data)
    keys = ("keypoints0", "keypoints1", "scores")
    arrays = {key: prediction[key].detach().float().cpu().numpy() for key in keys}
    has_index = "batch_indexes" in prediction
    if has_index:
        index = prediction["batch_indexes"].cpu().numpy()
        return [{key: arrays[key][index == i] for key in keys} for i in range(len(jobs))], True
    return [arrays], False


def _to_record(job: _Job, prediction: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    keys = ("keypoints1", "keypoints0") if job.flip else ("keypoints0", "keypoints1")
    keep = np.ones(len(prediction["scores"]), bool)
    record = {}
    for index, (key, image) in enumerate(zip(keys, (job.image0, job.image1), strict=True)):
        keypoints = image.to_original(prediction[key].reshape(-1, 2))
        if image.mask is not None:
            keep &= keypoints_in_mask(keypoints, image.mask, image.original_size)
        record[f"keypoints{index}"] = keypoints
    record["scores"] = prediction["scores"].astype(np.float32)
    return {key: value[keep] for key, value in record.items()}


@torch.no_grad()
def match_images(
    model: Any, image0: PairImage, image1: PairImage, device: torch.device
) -> dict[str, np.ndarray]:
    """Match two prepared images in memory: the record that :func:`match_dense` would store.

    Args:
        model: semi-dense matcher, on `device`.
        image0, image1: prepared; the keypoints of the first are refined.
    """
    job = _Job(("", ""), image0, image1, flip=False)
    (prediction, *_), _ = _run_batch(model, device, [job])
    return _to_record(job, prediction)


def _batches(
    loaded: Iterable[_Job | None], batch_size: int, can_batch: Sequence[bool]
) -> Iterator[list[_Job]]:
    """Collect jobs of equal shapes; one by one until `can_batch` is true."""
    waiting: OrderedDict[Any, list[_Job]] = OrderedDict()
    for job in loaded:
        if job is None:
            continue
        waiting.setdefault(job.shapes, []).append(job)
        limit = batch_size if can_batch[0] else 1
        if len(waiting[job.shapes]) >= limit:
            yield waiting.pop(job.shapes)
        elif sum(map(len, waiting.values())) >= 4 * limit:  # many different shapes: bound the memory
            yield waiting.popitem(last=False)[1]
    yield from waiting.values()


@torch.no_grad()
def match_dense(
    conf: Mapping[str, Any],
    pairs: Sequence[Pair],
    image_dir: Path,
    match_path: Path,
    existing_refs: Collection[str] = (),
    *,
    mask_dir: Path | None = None,
    batch_size: int = 1,
    image_cache_bytes: int = 2**30,
) -> None:
    """Match pairs of images and store the semi-dense matches of those that the file does not hold.

    Args:
        conf: dense matcher configuration.
        pairs: image names.
        image_dir: folder of the images.
        match_path: file to write, with ``keypoints0``, ``keypoints1`` M×2 float32 (pixels of the
            original images) and ``scores`` M float32 per pair.
        existing_refs: images that have keypoints already; if the first image of a pair is one of them,
            the second image is refined instead of the first.
        mask_dir: folder of masks ``NAME.png``; matches with an end on a black pixel are dropped.
        batch_size: pairs of equal image sizes that are matched at once, if the matcher returns
            ``batch_indexes``.
        image_cache_bytes: memory for decoded and resized images.

    Raises:
        MissingInputError: an image does not exist.
        CorruptFileError: images cannot be used; all pairs without them are stored.
    """
    image_dir = Path(image_dir)
    names = dict.fromkeys(name for pair in pairs for name in pair)
    missing = [name for name in names if not (image_dir / name).exists()]
    if missing:
        raise MissingInputError(f"{len(missing)} image(s) of the pairs are not in {image_dir}: {missing[:5]}")
    cache = ImageCache(image_dir, conf["preprocessing"], mask_dir, image_cache_bytes)
    unreadable: dict[str, str] = {}

    def load(pair: Pair) -> _Job | None:
        images = []
        for name in pair:
            try:
                images.append(cache.get(name))
            except HlocExtError as error:
                unreadable[name] = str(error)
        return _Job(pair, images[0], images[1], pair[0] in existing_refs) if len(images) == 2 else None

    with H5Writer(match_path) as writer:
        todo = order_for_reuse([pair for pair in pairs if names_to_pair(*pair) not in writer])
        if not todo:
            return
        warn_about_orientation(image_dir, names)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_model("dense_matchers", conf).to(device)
        can_batch = [False]
        workers = os.cpu_count() or 1
        loaded = prefetch(load, todo, workers, 2 * workers)
        with tqdm(total=len(todo), desc=conf["output"], smoothing=0.1) as progress:
            for jobs in _batches(loaded, batch_size, can_batch):
                predictions, can_batch[0] = _run_batch(model, device, jobs)
                for job, prediction in zip(jobs, predictions, strict=True):
                    writer.write(names_to_pair(*job.pair), _to_record(job, prediction))
                progress.update(len(jobs))
    if unreadable:
        lines = "\n".join(f"  {unreadable[name]}" for name in names if name in unreadable)
        raise CorruptFileError(
            f"{len(unreadable)} image(s) cannot be used; the matches of all pairs without them are"
            f" stored. Replace them, or remove them from the list of pairs, and run again:\n{lines}"
        )


def aggregate_matches(
    conf: Mapping[str, Any],
    pairs: Sequence[Pair],
    match_path: Path,
    feature_path: Path,
    required_queries: Collection[str] | None = None,
    max_kps: int | None = None,
) -> None:
    """Make keypoints of semi-dense matches, image by image.

    In localization (`max_kps` None, the second image has keypoints already) the positions of a query are
    kept as they are; everywhere else they are rounded, see :mod:`hloc_ext.dense_aggregation`.

    Args:
        conf: dense matcher configuration, with ``max_error`` and ``cell_size`` (pixels).
        pairs: image names.
        match_path: semi-dense matches of these pairs.
        feature_path: feature file; gets ``keypoints`` N×2 float32 and ``scores`` N float32.
        required_queries: images to make keypoints of; default those that `feature_path` lacks.
        max_kps: largest number of keypoints per image, or None.

    Raises:
        MissingInputError: a pair is not in `match_path`.
    """
    rounded = cell_and_bin_size(conf["max_error"], conf.get("cell_size"))
    with H5Writer(feature_path) as writer, FeatureReader(match_path, max_cache_bytes=2**28) as matches:
        if required_queries is None:
            required_queries = {name for pair in pairs for name in pair} - writer.names
        sides: dict[str, list[tuple[str, int, tuple[float, float]]]] = {}
        for pair in pairs:
            for side, name in enumerate(pair):
                if name in required_queries:
                    exact = side == 0 and pair[1] not in required_queries and max_kps is None
                    entry = (names_to_pair(*pair), side, (0.0, 0.0) if exact else rounded)
                    sides.setdefault(name, []).append(entry)
        total = 0
        for name, entries in tqdm(sides.items(), desc="keypoints", smoothing=0.1):
            observations = [
                Observations(matches.get(key, f"keypoints{side}"), matches.get(key, "scores"), *sizes)
                for key, side, sizes in entries
            ]
            keypoints, scores = aggregate(observations, max_kps)
            writer.write(name, {"keypoints": keypoints, "scores": scores})
            total += len(keypoints)
    if sides:
        logger.info("Made %d keypoints, %.0f per image.", total, total / len(sides))


def assign_matches(
    pairs: Sequence[Pair],
    raw_match_path: Path,
    match_path: Path,
    keypoints: Sequence[Path],
    max_error: float,
) -> None:
    """Attach semi-dense matches to the nearest keypoints and write complete records of a match file.

    Args:
        pairs: image names.
        raw_match_path: semi-dense matches of these pairs.
        match_path: match file; gets ``matches0`` (int32, one per keypoint of image 0),
            ``matching_scores0`` (float16) and the semi-dense matches themselves.
        keypoints: feature files; an image is taken from the first that holds it.
        max_error: largest distance between the end of a match and its keypoint, pixels.

    Raises:
        MissingInputError: a pair is not in `raw_match_path`, or an image in none of the feature files.
    """
    num_matches = 0
    with (
        H5Writer(match_path) as writer,
        FeatureReader(raw_match_path, max_cache_bytes=0) as matches,
        KeypointFiles(keypoints) as files,
    ):

        def read(pair: Pair) -> tuple[str, dict[str, np.ndarray], list[cKDTree]]:
            key = names_to_pair(*pair)
            record = {name: matches.get(key, name) for name in ("keypoints0", "keypoints1", "scores")}
            return key, record, [files.tree(name) for name in pair]

        def attach(
            job: tuple[str, dict[str, np.ndarray], list[cKDTree]],
        ) -> tuple[str, dict[str, np.ndarray]]:
            key, record, trees = job
            index0, index1 = (
                nearest_keypoints(tree, record[f"keypoints{side}"], max_error)
                for side, tree in enumerate(trees)
            )
            matches0, scores0 = assign(index0, index1, record["scores"], trees[0].n)
            return key, {**record, "matches0": matches0, "matching_scores0": scores0}

        # Files are read and written here, while the searches run in threads.
        workers = os.cpu_count() or 1
        records = prefetch(attach, map(read, order_for_reuse(pairs)), workers, 2 * workers)
        for key, record in tqdm(records, total=len(pairs), desc="matches", smoothing=0.1):
            writer.write(key, record)
            num_matches += int(np.count_nonzero(record["matches0"] >= 0))
    logger.info("Assigned %d matches in %d pairs.", num_matches, len(pairs))
    if num_matches == 0:
        logger.warning("%s: none of the %d new pairs has a match.", match_path, len(pairs))


def match_and_assign(
    conf: Mapping[str, Any],
    pairs_path: Path,
    image_dir: Path,
    match_path: Path,
    feature_path_q: Path,
    feature_paths_refs: Sequence[Path] = (),
    max_kps: int | None = 8192,
    overwrite: bool = False,
    *,
    mask_dir: Path | None = None,
    batch_size: int = 1,
    image_cache_bytes: int = 2**30,
) -> None:
    """Match, aggregate and assign all pairs of a list that the match file does not hold yet.

    Images that `feature_paths_refs` or `feature_path_q` hold keep their keypoints; matches are attached
    to them. Arguments as in :func:`main`.

    Raises:
        InputError: the list is empty, or two image names share HLOC's pair key.
        MissingInputError: a list, image or feature file does not exist.
        CorruptFileError: unreadable images or files.
    """
    match_path, feature_path_q = Path(match_path), Path(feature_path_q)
    all_pairs = read_pairs(pairs_path)
    if not all_pairs:
        raise InputError(f"The list of pairs {pairs_path} is empty: nothing to match.")
    check_pair_keys(name for pair in all_pairs for name in pair)
    raw = raw_path(match_path)
    with H5Writer(match_path) as writer:
        pairs = new_pairs(all_pairs, () if overwrite else writer.names)
        swapped = [(a, b) for a, b in pairs if names_to_pair(b, a) in writer.names]
    if swapped:
        a, b = swapped[0]
        raise InputError(
            f"{match_path} holds {len(swapped)} pair(s) in the other order, for instance ('{b}', '{a}'):"
            " their old matches would stay beside the new keypoints. Delete the file, or use its own list."
        )
    if overwrite:
        raw.unlink(missing_ok=True)
    if not pairs:
        logger.info("All pairs of %s are in %s.", pairs_path, match_path)
        raw.unlink(missing_ok=True)
        return

    names = dict.fromkeys(name for pair in pairs for name in pair)
    recover(feature_path_q)
    known = list(reversed(feature_paths_refs))  # HLOC prefers the last file
    if feature_path_q.exists() and not overwrite:
        known.insert(0, feature_path_q)
    with KeypointFiles(known) as files:
        existing = {name for name in names if name in files}
    match_dense(
        conf,
        pairs,
        image_dir,
        raw,
        existing,
        mask_dir=mask_dir,
        batch_size=batch_size,
        image_cache_bytes=image_cache_bytes,
    )
    if required := [name for name in names if name not in existing]:
        aggregate_matches(conf, pairs, raw, feature_path_q, set(required), max_kps)
        known = [feature_path_q, *(path for path in known if path != feature_path_q)]
    assign_matches(pairs, raw, match_path, known, conf["max_error"])
    raw.unlink()


def main(
    conf: Mapping[str, Any],
    pairs: Path,
    image_dir: Path,
    export_dir: Path | None = None,
    matches: Path | None = None,
    features: Path | str | None = None,
    features_ref: Path | Sequence[Path] | None = None,
    max_kps: int | None = 8192,
    overwrite: bool = False,
    *,
    mask_dir: Path | None = None,
    batch_size: int = 1,
    image_cache_bytes: int = 2**30,
) -> tuple[Path, Path]:
    """Match images semi-densely, with HLOC's rules for file names.

    Args:
        conf: dense matcher configuration; see :mod:`hloc_ext.confs`.
        pairs: list of pairs.
        image_dir: folder of the images.
        export_dir: folder of the outputs, unless both are given as files.
        matches: match file; default ``{output}_{pairs}.h5`` in `export_dir`.
        features: feature file, or the start of its name; default ``feats_`` for ``feats_{output}.h5``.
        features_ref: feature files of images whose keypoints are fixed (the map, in localization).
        max_kps: largest number of keypoints per image; None keeps all (for localization).
        overwrite: match again what the files hold.
        mask_dir: folder of masks ``NAME.png``; matches on black pixels are dropped.
        batch_size: pairs of equal image sizes that are matched at once.
        image_cache_bytes: memory for decoded and resized images.

    Returns:
        Paths of the feature file and of the match file.

    Raises:
        InputError: inconsistent arguments, an empty list, or names that share HLOC's pair key.
        MissingInputError: a list, image or feature file does not exist.
        CorruptFileError: unreadable images; the matches of all other pairs are stored.
    """
    pairs = Path(pairs)
    prefix = "feats_" if features is None else str(features)
    if isinstance(features, Path) or prefix.endswith(".h5"):
        if matches is None:
            raise InputError("`features` is a file, so give the output file `matches` too.")
        feature_path = Path(prefix)
    elif export_dir is None:
        raise InputError("Give `export_dir`, or both `features` and `matches` as files.")
    else:
        feature_path = Path(export_dir) / f"{prefix}{conf['output']}.h5"
        matches = matches or Path(export_dir) / f"{conf['output']}_{pairs.stem}.h5"
    if features_ref is None:
        references: list[Path] = []
    elif isinstance(features_ref, (str, Path)):
        references = [Path(features_ref)]
    else:
        references = [Path(path) for path in features_ref]
    match_and_assign(
        conf,
        pairs,
        image_dir,
        Path(matches),
        feature_path,
        references,
        max_kps,
        overwrite,
        mask_dir=mask_dir,
        batch_size=batch_size,
        image_cache_bytes=image_cache_bytes,
    )
    return feature_path, Path(matches)


def build_parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext match_dense", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--image_dir", type=Path, required=True)
    parser.add_argument("--export_dir", type=Path)
    parser.add_argument("--matches", type=Path, help="match file; default from the name of the conf")
    parser.add_argument("--features", help="feature file (.h5), or the start of its name in --export_dir")
    parser.add_argument("--conf", default="loftr", help=f"{', '.join(confs)}, or a conf of HLOC")
    parser.add_argument("--features_ref", type=Path, nargs="+")
    parser.add_argument(
        "--max_kps",
        type=lambda text: None if text.lower() == "none" else int(text),
        default=8192,
        help="keypoints per image, or 'none' (for localization)",
    )
    parser.add_argument("--mask_dir", type=Path)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--overwrite", action="store_true")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    args = vars(build_parser().parse_args(argv))
    main(get_conf("dense_matchers", args.pop("conf")), **args)


if __name__ == "__main__":
    cli()
