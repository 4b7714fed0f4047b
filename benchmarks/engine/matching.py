"""Matching of local features: HLOC's ``match_features`` against ours, from one feature file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from hloc_ext import match_features
from hloc_ext.formats.matches import names_to_pair
from hloc_ext.formats.pairs import Pair, read_pairs, write_pairs
from hloc_ext.host import get_conf

from .comparison import Row, Setup, alternate, identical

CONF = "NN-ratio"


def compare(setup: Setup) -> list[Row]:
    """Match pairs that are spread over the map."""
    stage = setup.host_module("match_features")
    scene, folder = setup.scene, setup.scratch("matching")
    all_pairs = read_pairs(scene.map_pairs)
    chosen = np.linspace(0, len(all_pairs) - 1, min(setup.num_matching_pairs, len(all_pairs))).astype(int)
    pairs = [all_pairs[i] for i in chosen]
    pairs_path = folder / "pairs.txt"
    write_pairs(pairs_path, pairs)
    hloc_conf = get_conf("matchers", f"{setup.host}:{CONF}")
    our_conf = get_conf("matchers", CONF)
    timing = alternate(
        lambda own: stage.main(hloc_conf, pairs_path, scene.features, matches=own / "matches.h5"),
        lambda own: match_features.main(our_conf, pairs_path, scene.features, matches=own / "matches.h5"),
        setup.repeats,
        folder,
    )
    same = num_identical(folder / "hloc" / "matches.h5", folder / "ours" / "matches.h5", pairs)
    return [
        timing.row("matching (NN-ratio), ms/pair", identical(same, len(pairs), "matches0"), len(pairs), 1e3)
    ]


def num_identical(path0: Path, path1: Path, pairs: list[Pair]) -> int:
    """Number of pairs whose ``matches0`` are the same in two match files."""
    with h5py.File(path0, "r") as first, h5py.File(path1, "r") as second:
        keys = [f"{names_to_pair(*pair)}/matches0" for pair in pairs]
        return sum(np.array_equal(first[key][()], second[key][()]) for key in keys)
