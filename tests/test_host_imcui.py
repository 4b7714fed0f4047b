"""Our models inside the real `imcui.hloc`, which installs from the package index.

Everything runs in another process, in a folder of the test: importing imcui.hloc empties the file
log.txt of the working directory.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from hloc_ext import confs, extract_features, match_features

ROOT = Path(__file__).parents[1]
NEEDED = ("imcui", "torchvision", "huggingface_hub", "yaml", "scipy", "omegaconf")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
SHIFT = (12, 7)

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"needs {', '.join(MISSING)} (imcui by `pip install --no-deps imcui`)"
)


def write_images(folder: Path) -> None:
    """Two places, a and b, in two images each; image 1 sees what image 0 sees at +SHIFT pixels."""
    random = np.random.default_rng(0)
    for place in "ab":
        texture = sum(
            cv2.resize(
                random.uniform(0, 1, (300 // step, 400 // step)), (400, 300), interpolation=cv2.INTER_CUBIC
            )
            for step in (4, 10, 50)
        )
        texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        for index, (x, y) in enumerate(((20 + SHIFT[0], 20 + SHIFT[1]), (20, 20))):
            path = folder / place / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), texture[y : y + 240, x : x + 320])


def run_script(host: str, folder: Path, *path: str) -> dict[str, str]:
    """Run the script of plain HLOC calls in `folder` and return the names and files that it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", ""), *path])
    (folder / "outputs").mkdir()
    command = [sys.executable, str(ROOT / "tests/host_scripts/plain_hloc.py"), host, "images", "outputs"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout.splitlines()[-1])
    return {key: str(folder / value) if value.endswith(".h5") else value for key, value in files.items()}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imcui")
    write_images(folder / "images")
    return folder, run_script("imcui.hloc", folder)


def list_pairs(file: h5py.File) -> list[str]:
    return sorted(f"{name0}/{name1}" for name0 in file for name1 in file[name0])


def displacements(features: str, matches: str) -> dict[str, np.ndarray]:
    """Displacements M×2, pixels, from image 0 to image 1 of the matched keypoints of each place."""
    result = {}
    with h5py.File(features) as keypoints, h5py.File(matches) as file:
        for pair in list_pairs(file):
            name0, name1 = (name.replace("-", "/") for name in pair.split("/"))
            matches0 = file[pair]["matches0"][()]
            found = np.flatnonzero(matches0 > -1)
            shift = (
                keypoints[name1]["keypoints"][()][matches0[found]] - keypoints[name0]["keypoints"][()][found]
            )
            # The host takes either image first, in the order of a set.
            result[name0[0]] = shift if name0.endswith("0.png") else -shift
    return result


def test_names_that_the_host_has_get_a_suffix(scene):
    _, files = scene
    assert (files["sift"], files["NN-ratio"]) == ("sift-ext", "NN-ratio-ext")
    assert Path(files["features"]).name == "feats-sift-ext.h5"


def test_retrieval_finds_the_other_image_of_the_place(scene):
    folder, files = scene
    pairs = sorted((folder / "outputs/pairs.txt").read_text().split("\n"))
    assert pairs == ["a/0.png a/1.png", "a/1.png a/0.png", "b/0.png b/1.png", "b/1.png b/0.png"]
    with h5py.File(files["descriptors"]) as file:
        assert file["a/0.png/global_descriptor"].shape == (64,)


def test_features_and_matches_are_those_of_our_stages(scene, tmp_path):
    folder, files = scene
    features = extract_features.main(confs.extractors["sift"], folder / "images", tmp_path, as_half=False)
    with h5py.File(features) as ours, h5py.File(files["features"]) as theirs:
        for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
            assert len(ours[name]["keypoints"]) > 100
            for key in ("keypoints", "descriptors", "scales", "image_size"):
                np.testing.assert_array_equal(ours[name][key][()], theirs[name][key][()])
            uncertainty = [file[name]["keypoints"].attrs["uncertainty"] for file in (ours, theirs)]
            assert uncertainty[0] == uncertainty[1] == 1.0
    matches = match_features.main(
        confs.matchers["NN-ratio"],
        folder / "outputs/pairs.txt",
        Path(files["features"]),
        matches=tmp_path / "matches.h5",
    )
    with h5py.File(matches) as ours, h5py.File(files["matches"]) as theirs:
        assert len(list_pairs(ours)) == 2
        assert list_pairs(ours) == list_pairs(theirs)
        for pair in list_pairs(ours):
            np.testing.assert_array_equal(ours[pair]["matches0"][()], theirs[pair]["matches0"][()])


def test_matches_show_the_displacement_of_the_images(scene):
    _, files = scene
    sparse = displacements(files["features"], files["matches"])
    dense = displacements(files["dense_features"], files["dense_matches"])
    assert sparse.keys() == dense.keys() == {"a", "b"}
    for place in "ab":
        assert len(sparse[place]) > 50
        np.testing.assert_allclose(np.median(sparse[place], axis=0), SHIFT, atol=0.1)
        # Dense keypoints are rounded to cells of one pixel.
        assert len(dense[place]) > 200
        np.testing.assert_allclose(dense[place], np.broadcast_to(SHIFT, dense[place].shape), atol=1.01)
