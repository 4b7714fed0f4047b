"""Loading of the features of image pairs, without matching them."""

from __future__ import annotations

from typing import Any

import torch

from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.pairs import read_pairs
from hloc_ext.match_features import join_pair, to_tensors

from .comparison import Row, Setup, alternate, identical

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compare(setup: Setup) -> list[Row]:
    """HLOC's data set in a loader as its ``match_from_paths`` makes it, against our reader."""
    stage = setup.host_module("match_features")
    scene = setup.scene
    pairs = read_pairs(scene.map_pairs)[: setup.num_loading_pairs]
    dataset = stage.FeaturePairsDataset(pairs, scene.features, scene.features)

    def load_hloc(_: Any) -> None:
        loader = torch.utils.data.DataLoader(
            dataset, num_workers=5, batch_size=1, shuffle=False, pin_memory=True
        )
        for data in loader:
            {k: v if k.startswith("image") else v.to(DEVICE, non_blocking=True) for k, v in data.items()}

    def load_ours(_: Any) -> None:
        with FeatureReader(scene.features) as query, FeatureReader(scene.features) as reference:
            for name0, name1 in pairs:
                join_pair(to_tensors(query.record(name0)), to_tensors(reference.record(name1)), DEVICE)

    timing = alternate(load_hloc, load_ours, setup.repeats, setup.scratch("loading"))
    same = 0
    with FeatureReader(scene.features) as reader:
        for index, pair in enumerate(pairs):
            record0, record1 = (to_tensors(reader.record(name)) for name in pair)
            same += same_inputs(dataset[index], join_pair(record0, record1, torch.device("cpu")))
    equality = identical(same, len(pairs), "matcher inputs")
    return [timing.row("loading of features, ms/pair", equality, len(pairs), 1e3)]


def same_inputs(hloc: dict[str, torch.Tensor], ours: dict[str, torch.Tensor]) -> bool:
    """Whether two inputs of a matcher have equal features and images of equal size.

    Args:
        hloc: without the batch dimension, which the loader adds; the images are uninitialised.
        ours: with it.
    """
    return hloc.keys() == ours.keys() and all(
        value.shape == ours[key][0].shape
        and ours[key].dtype == value.dtype
        and (key in ("image0", "image1") or torch.equal(value, ours[key][0]))
        for key, value in hloc.items()
    )
