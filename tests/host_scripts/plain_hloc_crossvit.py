"""A script of plain HLOC calls with our global descriptor CrossViT.

Arguments: name of the host, folder of the images, file of weights, folder for the outputs.
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

host, images, weights, outputs = sys.argv[1], *map(Path, sys.argv[2:])
extract_features = importlib.import_module(f"{host}.extract_features")
pairs_from_retrieval = importlib.import_module(f"{host}.pairs_from_retrieval")
name = registered_name(host, "extractors", "crossvit-student")
conf = copy.deepcopy(extract_features.confs[name])
conf["model"]["weights"] = str(weights)
descriptors = extract_features.main(conf, images, outputs, as_half=False)
pairs_from_retrieval.main(descriptors, outputs / "pairs-crossvit.txt", num_matched=1)

# The stage of the host hands on pixels only, so that the teacher cannot know whose poses it needs.
teacher = registered_name(host, "extractors", "crossvit-teacher")
conf = copy.deepcopy(extract_features.confs[teacher])
message = ""
try:
    extract_features.main(conf, images, outputs)
except ValueError as error:
    message = str(error)
print(json.dumps({"name": name, "descriptors": str(descriptors), "teacher": teacher, "message": message}))
