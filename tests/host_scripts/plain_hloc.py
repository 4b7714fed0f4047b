"""A script of plain HLOC calls to which `import hloc_ext` was added.

Arguments: name of the host, folder of the images, folder for the outputs.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import hloc_ext.confs
import hloc_ext.extractors
import hloc_ext.matchers
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.host import registered_name

# Hosts import torchvision, whose build for CUDA cannot be imported beside a torch without CUDA.
allow_cpu_torchvision()

# Two models that need no weights, as if hloc_ext had them.
plugins = str(Path(__file__).parent / "plugins")
hloc_ext.extractors.__path__.append(plugins)
hloc_ext.matchers.__path__.append(plugins)
hloc_ext.confs.extractors["thumbnail"] = {
    "output": "global-feats-thumbnail",
    "model": {"name": "thumbnail", "size": 8},
    "preprocessing": {"grayscale": True, "resize_max": 64, "resize_force": True},
}
hloc_ext.confs.dense_matchers["translation"] = {
    "output": "matches-translation",
    "model": {"name": "translation"},
    "preprocessing": {"grayscale": True, "resize_max": 160, "dfactor": 8},
    "max_error": 1,
    "cell_size": 1,
}

host, images, outputs = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
extract_features = importlib.import_module(f"{host}.extract_features")
match_dense = importlib.import_module(f"{host}.match_dense")
match_features = importlib.import_module(f"{host}.match_features")
pairs_from_retrieval = importlib.import_module(f"{host}.pairs_from_retrieval")

sift = registered_name(host, "extractors", "sift")
nearest_neighbor = registered_name(host, "matchers", "NN-ratio")
pairs = outputs / "pairs.txt"

descriptors = extract_features.main(extract_features.confs["thumbnail"], images, outputs)
pairs_from_retrieval.main(descriptors, pairs, num_matched=1)
features = extract_features.main(extract_features.confs[sift], images, outputs, as_half=False)
matches = match_features.main(match_features.confs[nearest_neighbor], pairs, features.stem, outputs)
dense_features, dense_matches = match_dense.main(
    match_dense.confs["translation"], pairs, images, outputs, max_kps=None
)

# The models of the host itself, for comparison.
own_features = extract_features.main(extract_features.confs["sift"], images, outputs, as_half=False)
own_matches = match_features.main(match_features.confs["NN-superpoint"], pairs, own_features.stem, outputs)

files = {
    "descriptors": descriptors,
    "features": features,
    "matches": matches,
    "dense_features": dense_features,
    "dense_matches": dense_matches,
    "own_features": own_features,
    "own_matches": own_matches,
}
print(json.dumps({"sift": sift, "NN-ratio": nearest_neighbor, **{k: str(v) for k, v in files.items()}}))
