"""Localize every photo of a scene once, held out of the map: ours against HLOC, end to end.

The same script runs both packages, because their stages have the same names and arguments. Each extracts
its own ``sift`` features, matches all pairs with ``NN-ratio``, and for each of five folds triangulates the
other photos with their true poses and localizes every fifth one.

``python -m benchmarks.held_out --images DIR --model MODEL_WITH_POSES --workdir DIR``

HLOC needs pycolmap 4.0.4 to 4.2.0 for this; with 4.2.1 its map has 0 points.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import numpy as np
import pycolmap

from hloc_ext.errors import HlocExtError, InputError
from hloc_ext.evaluation.metrics import pose_error
from hloc_ext.formats.colmap import read_model, registered_poses, subset, write_model
from hloc_ext.formats.lists import write_query_list
from hloc_ext.formats.pairs import write_pairs
from hloc_ext.formats.results import read_poses
from hloc_ext.host import available_hosts

NUM_FOLDS = 5
STAGES = ("extract_features", "match_features")


def localize_fold(
    package: str, queries: list[str], truth: pycolmap.Reconstruction, images: Path, folder: Path
) -> dict[str, pycolmap.Rigid3d]:
    """Triangulate all photos but the queries, and localize the queries.

    Args:
        package: ``hloc_ext`` or ``hloc``.
        queries: photos held out.
        truth: model with all true poses.
        images: folder of the photos.
        folder: working folder, with ``features.h5`` and ``matches.h5``.

    Returns:
        Estimated poses, world→camera.

    Raises:
        InputError: the package's map has no points.
    """
    names = [name for name in registered_poses(truth) if name not in queries]
    write_model(subset(truth, names), folder / "reference")
    write_pairs(folder / "pairs-map.txt", [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]])
    write_pairs(folder / "pairs-queries.txt", [(query, name) for query in queries for name in names])
    cameras = {image.name: image.camera for image in truth.images.values()}
    write_query_list(folder / "queries.txt", {query: cameras[query] for query in queries})
    features, matches = folder / "features.h5", folder / "matches.h5"
    triangulation = importlib.import_module(f"{package}.triangulation")
    model = triangulation.main(
        folder / "map", folder / "reference", images, folder / "pairs-map.txt", features, matches
    )
    if model.num_points3D() == 0:
        raise InputError(f"{package} triangulates 0 points with pycolmap {pycolmap.__version__}.")
    importlib.import_module(f"{package}.localize_sfm").main(
        folder / "map",
        folder / "queries.txt",
        folder / "pairs-queries.txt",
        features,
        matches,
        folder / "results.txt",
    )
    return read_poses(folder / "results.txt")


def held_out_errors(package: str, truth: pycolmap.Reconstruction, images: Path, folder: Path) -> np.ndarray:
    """Position (map units) and rotation (degrees) error of every photo, N×2."""
    stages = {stage: importlib.import_module(f"{package}.{stage}") for stage in STAGES}
    folder.mkdir(parents=True, exist_ok=True)
    poses = registered_poses(truth)
    names = sorted(poses)
    features, matches = folder / "features.h5", folder / "matches.h5"
    stages["extract_features"].main(
        stages["extract_features"].confs["sift"], images, image_list=names, feature_path=features
    )
    write_pairs(folder / "pairs.txt", [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]])
    conf = stages["match_features"].confs["NN-ratio"]
    stages["match_features"].main(conf, folder / "pairs.txt", features, matches=matches)
    errors = []
    for fold in range(NUM_FOLDS):
        estimated = localize_fold(package, names[fold::NUM_FOLDS], truth, images, folder)
        found = [pose_error(estimated[Path(n).name], poses[n]) for n in names[fold::NUM_FOLDS]]
        position, rotation = np.median(found, axis=0)
        print(f"{package}, fold {fold}: median {position:.5f} map units, {rotation:.4f}°", flush=True)
        errors += found
    return np.array(errors)


def main(argv: list[str] | None = None) -> None:
    """Print the errors of both packages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="COLMAP model with the true poses")
    parser.add_argument("--workdir", type=Path, required=True)
    args = parser.parse_args(argv)
    truth = read_model(args.model)
    packages = ["hloc_ext", *(["hloc"] if "hloc" in available_hosts() else [])]
    summary = []
    for package in packages:
        try:
            errors = held_out_errors(package, truth, args.images, args.workdir / package)
        except HlocExtError as error:
            summary.append(f"{package}: {error}")
            continue
        middle, mean, largest = np.median(errors, axis=0), errors.mean(0), errors.max(0)
        summary.append(
            f"{package}: {len(errors)} photos, position median {middle[0]:.5f}, mean {mean[0]:.5f}, max"
            f" {largest[0]:.5f} map units; rotation median {middle[1]:.4f}, mean {mean[1]:.4f}°"
        )
    print(f"\npycolmap {pycolmap.__version__}, sift + NN-ratio, 12 px, {args.images}")
    print("\n".join(summary))


if __name__ == "__main__":
    main()
