"""A script of plain HLOC calls to which `import hloc_ext` was added: map and localize with our confs.

Arguments: folder of the images, model with the poses of the map, list of queries with intrinsics,
folder for the outputs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pycolmap
from hloc import extract_features, localize_sfm, match_features, pairs_from_exhaustive, triangulation
from hloc.utils.parsers import parse_image_lists

import hloc_ext  # noqa: F401  registers sift-ext and NN-ratio-ext

images, poses, queries, outputs = map(Path, sys.argv[1:])
map_names = [image.name for image in pycolmap.Reconstruction(poses).images.values()]
query_names = [name for name, _ in parse_image_lists(queries, with_intrinsics=True)]
map_pairs, query_pairs = outputs / "pairs-map.txt", outputs / "pairs-query.txt"
matcher = match_features.confs["NN-ratio-ext"]

features = extract_features.main(
    extract_features.confs["sift-ext"], images, outputs, image_list=map_names + query_names
)
pairs_from_exhaustive.main(map_pairs, image_list=map_names)
map_matches = match_features.main(matcher, map_pairs, features.stem, outputs)
model = triangulation.main(outputs / "sfm", poses, images, map_pairs, features, map_matches)
print(model.summary())

pairs_from_exhaustive.main(query_pairs, image_list=query_names, ref_list=map_names)
query_matches = match_features.main(matcher, query_pairs, features.stem, outputs)
localize_sfm.main(model, queries, query_pairs, features, query_matches, outputs / "poses.txt")
