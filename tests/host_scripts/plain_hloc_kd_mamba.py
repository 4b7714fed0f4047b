"""A script of plain HLOC calls with our matcher KD-Mamba.

Arguments: name of the host, folder of the images, list of pairs, file of weights, folder for the outputs.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys
from pathlib import Path

import hloc_ext.matchers.kd_mamba
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.host import registered_name

# Hosts import torchvision, whose build for CUDA cannot be imported beside a torch without CUDA.
allow_cpu_torchvision()
hloc_ext.matchers.kd_mamba.MIN_PROBABILITY = 0.0  # the weights are random, and never sure

host, images, pairs, weights, outputs = sys.argv[1], *map(Path, sys.argv[2:])
match_dense = importlib.import_module(f"{host}.match_dense")
conf = copy.deepcopy(match_dense.confs[registered_name(host, "dense_matchers", "kd-mamba")])
conf["model"] |= {"weights": str(weights), "match_threshold": 0.0}
features, matches = match_dense.main(conf, pairs, images, outputs, max_kps=None)
print(json.dumps({"features": str(features), "matches": str(matches), "model": conf["model"]["name"]}))
