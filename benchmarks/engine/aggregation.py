"""Keypoints from semi-dense matches: HLOC's ``aggregate_matches`` and ``assign_matches`` against ours."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import h5py
import numpy as np

from hloc_ext import match_dense
from hloc_ext.formats.atomic import replacing
from hloc_ext.formats.matches import names_to_pair
from hloc_ext.formats.pairs import Pair
from hloc_ext.host import get_conf

from .comparison import Row, Setup, alternate, identical

CONF = "loftr_aachen"
MAX_KEYPOINTS = 8192
NUM_IMAGES = 25
NUM_POINTS = 20_000
IMAGE_SIZE = (1600, 1200)


def compare(setup: Setup) -> list[Row]:
    """Aggregate synthetic matches, then assign them to the keypoints."""
    stage = setup.host_module("match_dense")
    conf = get_conf("dense_matchers", CONF)
    num_pairs, num_matches = setup.num_dense_pairs, setup.num_dense_matches
    folder = setup.scratch("aggregation")
    raw = setup.workdir / f"semi-dense-{num_pairs}-{num_matches}.h5"
    pairs = list(itertools.combinations([f"{i:02d}.jpg" for i in range(NUM_IMAGES)], 2))[:num_pairs]
    if not raw.exists():
        write_matches(raw, pairs, num_matches)

    def prepare(own: Path) -> None:
        shutil.copyfile(raw, own / "raw.h5")  # HLOC adds its matches to this file
        h5py.File(own / "features.h5", "w").close()

    def aggregate_hloc(own: Path) -> dict[str, np.ndarray]:
        features = own / "features.h5"
        # The last two are given because its defaults are shared between calls.
        dictionaries: list[defaultdict] = [defaultdict(list), defaultdict(list)]
        return stage.aggregate_matches(
            conf, pairs, own / "raw.h5", features, None, MAX_KEYPOINTS, *dictionaries
        )

    def aggregate_ours(own: Path) -> None:
        features = own / "features.h5"
        match_dense.aggregate_matches(conf, pairs, own / "raw.h5", features, None, MAX_KEYPOINTS)

    hloc, ours = folder / "hloc", folder / "ours"
    timing = alternate(aggregate_hloc, aggregate_ours, setup.repeats, folder, prepare)
    files = (hloc / "features.h5", hloc / "raw.h5"), (ours / "features.h5", ours / "matches.h5")
    keypoints = [read_keypoints(features) for features, _ in files]
    size = f"of {len(pairs)} × {num_matches} matches, s"
    rows = [timing.row(f"aggregation {size}", compare_keypoints(*keypoints))]

    aggregated = hloc / "raw.h5", ours / "features.h5"
    kept = [shutil.copyfile(path, folder / f"aggregated-{path.name}") for path in aggregated]
    hloc_keypoints = timing.hloc_result

    def assign_hloc(own: Path) -> None:
        stage.assign_matches(pairs, own / kept[0].name, hloc_keypoints, conf["max_error"])

    def assign_ours(own: Path) -> None:
        match_dense.assign_matches(pairs, raw, own / "matches.h5", [own / kept[1].name], conf["max_error"])

    timing = alternate(
        assign_hloc,
        assign_ours,
        setup.repeats,
        folder,
        lambda own: [shutil.copyfile(path, own / path.name) for path in kept],
    )
    links = (
        read_links(hloc / kept[0].name, keypoints[0], pairs),
        read_links(ours / "matches.h5", keypoints[1], pairs),
    )
    return [*rows, timing.row(f"assignment {size}", compare_links(*links))]


def write_matches(path: Path, pairs: list[Pair], num_matches: int, seed: int = 0) -> None:
    """Semi-dense matches as a coarse-to-fine matcher makes them, of random points that all images share.

    In the first image of a pair they lie near the point, in the second near a lattice of 8 pixels.

    Args:
        path: match file to write.
        pairs: image names.
        num_matches: matches per pair.
        seed: of points, noise and scores.
    """
    rng = np.random.default_rng(seed)
    points = {
        name: rng.random((NUM_POINTS, 2)) * IMAGE_SIZE for name in sorted({n for p in pairs for n in p})
    }
    with replacing(path) as temporary, h5py.File(temporary, "w") as fd:
        for name0, name1 in pairs:
            chosen = rng.choice(NUM_POINTS, num_matches, replace=False)
            lattice = np.round(points[name1][chosen] / 8) * 8
            noise0, noise1 = rng.normal(0, 0.7, (num_matches, 2)), rng.normal(0, 0.3, (num_matches, 2))
            group = fd.create_group(names_to_pair(name0, name1))
            group["keypoints0"] = (points[name0][chosen] + noise0).astype(np.float32)
            group["keypoints1"] = (lattice + noise1).astype(np.float32)
            group["scores"] = rng.uniform(0.2, 1.0, num_matches).astype(np.float32)


def compare_keypoints(hloc: dict[str, np.ndarray], ours: dict[str, np.ndarray]) -> str:
    """Count the keypoints that both sides have, by position."""
    counts = [{name: Counter(map(tuple, k.tolist())) for name, k in side.items()} for side in (hloc, ours)]
    same = sum((counts[0][name] & counts[1][name]).total() for name in counts[0])
    num_hloc, num_ours = (sum(map(len, side.values())) for side in (hloc, ours))
    return f"{identical(same, num_hloc, 'keypoints')}, ours {num_ours}"


def compare_links(hloc: list[Counter], ours: list[Counter]) -> str:
    """Count the matches that both sides have, by the positions of their ends."""
    same = sum((a & b).total() for a, b in zip(hloc, ours, strict=True))
    num_hloc, num_ours = (sum(link.total() for link in side) for side in (hloc, ours))
    return f"{identical(same, num_hloc, 'matches')}, ours {num_ours}"


def read_keypoints(path: Path) -> dict[str, np.ndarray]:
    """Keypoints of each image."""
    with h5py.File(path, "r") as fd:
        return {name: fd[name]["keypoints"][()] for name in fd}


def read_links(path: Path, keypoints: dict[str, np.ndarray], pairs: list[Pair]) -> list[Counter]:
    """For each pair the positions that are matched."""
    links = []
    with h5py.File(path, "r") as fd:
        for name0, name1 in pairs:
            matches0 = fd[names_to_pair(name0, name1)]["matches0"][()]
            index = np.flatnonzero(matches0 >= 0)
            ends = np.hstack([keypoints[name0][index], keypoints[name1][matches0[index]]])
            links.append(Counter(map(tuple, ends.tolist())))
    return links
