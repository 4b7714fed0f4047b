"""A script of plain HLOC calls with our cross-view descriptors: one file of each view, and pairs of both.

Arguments: name of the host, folder of the panoramas, folder of the tiles, file of weights, folder for the
outputs.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys
from pathlib import Path

import hloc_ext  # noqa: F401 - registers our confs
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.host import registered_name

# Hosts import torchvision, whose build for CUDA cannot be imported beside a torch without CUDA.
allow_cpu_torchvision()

host, ground, aerial, weights, outputs = sys.argv[1], *map(Path, sys.argv[2:])
extract_features = importlib.import_module(f"{host}.extract_features")
pairs_from_retrieval = importlib.import_module(f"{host}.pairs_from_retrieval")
files = {}
for view, images in (("ground", ground), ("aerial", aerial)):
    conf = copy.deepcopy(extract_features.confs[registered_name(host, "extractors", f"distill4geo-{view}")])
    conf["model"]["weights"] = str(weights)
    files[view] = extract_features.main(conf, images, outputs, as_half=False)
pairs = outputs / "pairs-cross-view.txt"
pairs_from_retrieval.main(files["ground"], pairs, num_matched=1, db_descriptors=files["aerial"])
print(json.dumps({view: str(file) for view, file in files.items()} | {"pairs": str(pairs)}))
