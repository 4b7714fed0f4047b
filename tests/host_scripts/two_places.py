"""Two places in two images each, a script of HLOC calls on them, and what must come out of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from hloc_ext import confs, extract_features, match_dense, match_features, pairs_from_retrieval
from hloc_ext.formats.h5 import list_names
from hloc_ext.matchers import kd_mamba
from tests import cross_view_weights, crossvit_weights
from tests.kd_mamba_weights import write_random_weights

ROOT = Path(__file__).parents[2]
NAMES = ("a/0.png", "a/1.png", "b/0.png", "b/1.png")

#: `python -m hloc_ext`, with a torchvision that was built for CUDA allowed beside a torch without CUDA.
COMMAND_LINE = """
import sys
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.__main__ import main
allow_cpu_torchvision()
sys.exit(main())
"""

#: What image 0 shows at p, image 1 shows at p + SHIFT (pixels).
SHIFT = (12, 7)


def write_images(folder: Path) -> None:
    """Write the images, crops of one random texture for each place."""
    random = np.random.default_rng(0)
    for place in "ab":
        texture = np.zeros((300, 400))
        for step in (4, 10, 50):
            noise = random.uniform(0, 1, (300 // step, 400 // step))
            texture += cv2.resize(noise, (400, 300), interpolation=cv2.INTER_CUBIC)
        texture = 255 * (texture - texture.min()) / np.ptp(texture)
        (folder / place).mkdir(parents=True)
        for index, (x, y) in enumerate(((20 + SHIFT[0], 20 + SHIFT[1]), (20, 20))):
            crop = texture[y : y + 240, x : x + 320].astype(np.uint8)
            cv2.imwrite(str(folder / place / f"{index}.png"), crop)


def run_python(folder: Path, *arguments: str) -> str:
    """Run Python in `folder`, with the project and (if given) HLOC_ROOT on its path; returns its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    path = [str(ROOT), os.environ.get("PYTHONPATH"), os.environ.get("HLOC_ROOT")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_plain_hloc(host: str, folder: Path) -> dict[str, str]:
    """Run the script of HLOC calls; returns the names and the files that it reports."""
    write_images(folder / "images")
    (folder / "outputs").mkdir()
    script = str(ROOT / "tests" / "host_scripts" / "plain_hloc.py")
    reported = json.loads(run_python(folder, script, host, "images", "outputs").splitlines()[-1])
    return {key: str(folder / value) if value.endswith(".h5") else value for key, value in reported.items()}


def list_pairs(file: h5py.File) -> list[str]:
    """Keys of all pairs of a match file."""
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


def check_retrieval(folder: Path, files: dict[str, str]) -> None:
    """Our global descriptors, extracted and compared by the host, find the other image of the place."""
    pairs = sorted((folder / "outputs" / "pairs.txt").read_text().split("\n"))
    assert pairs == ["a/0.png a/1.png", "a/1.png a/0.png", "b/0.png b/1.png", "b/1.png b/0.png"]
    with h5py.File(files["descriptors"]) as file:
        assert file["a/0.png/global_descriptor"].shape == (64,)


def check_displacements(files: dict[str, str]) -> None:
    """Our sparse and dense matches, made by the host, are where the images say."""
    sparse = displacements(files["features"], files["matches"])
    dense = displacements(files["dense_features"], files["dense_matches"])
    assert sparse.keys() == dense.keys() == {"a", "b"}
    for place in "ab":
        assert len(sparse[place]) > 50
        np.testing.assert_allclose(np.median(sparse[place], axis=0), SHIFT, atol=0.1)
        # Dense keypoints are rounded to cells of one pixel.
        assert len(dense[place]) > 200
        np.testing.assert_allclose(dense[place], np.broadcast_to(SHIFT, dense[place].shape), atol=1.01)


def check_same_features(first: str | Path, second: str | Path) -> None:
    """Two feature files hold the same numbers."""
    with h5py.File(first) as file0, h5py.File(second) as file1:
        for name in NAMES:
            assert len(file0[name]["keypoints"]) > 100
            assert file0[name].keys() == file1[name].keys()
            for key in file0[name]:
                np.testing.assert_array_equal(file0[name][key][()], file1[name][key][()])
            uncertainty = [file[name]["keypoints"].attrs["uncertainty"] for file in (file0, file1)]
            assert uncertainty[0] == uncertainty[1]


def check_same_matches(first: str | Path, second: str | Path) -> None:
    """Two match files hold the same numbers."""
    with h5py.File(first) as file0, h5py.File(second) as file1:
        assert len(list_pairs(file0)) == 2
        assert list_pairs(file0) == list_pairs(file1)
        for pair in list_pairs(file0):
            assert (file0[pair]["matches0"][()] > -1).sum() > 50
            for key in ("matches0", "matching_scores0"):
                np.testing.assert_array_equal(file0[pair][key][()], file1[pair][key][()])


def check_our_models_in_both(folder: Path, files: dict[str, str], outputs: Path) -> None:
    """Our models give the same in the host as in our own stages."""
    features = extract_features.main(confs.extractors["sift"], folder / "images", outputs, as_half=False)
    check_same_features(features, files["features"])
    pairs = folder / "outputs" / "pairs.txt"
    matches = match_features.main(confs.matchers["NN-ratio"], pairs, features, matches=outputs / "matches.h5")
    check_same_matches(matches, files["matches"])


def check_models_of_the_host_in_both(host: str, folder: Path, files: dict[str, str], outputs: Path) -> None:
    """Models of the host give the same in our own stages, by their command line, as in the host."""
    command = ["-c", COMMAND_LINE, "extract_features", "--conf", f"{host}:sift", "--no-as_half"]
    features, matches = str(outputs / "features.h5"), str(outputs / "matches.h5")
    run_python(folder, *command, "--image_dir", "images", "--feature_path", features)
    check_same_features(features, files["own_features"])
    command = ["-c", COMMAND_LINE, "match_features", "--conf", f"{host}:NN-superpoint"]
    command += ["--pairs", "outputs/pairs.txt", "--features", features, "--matches", matches]
    run_python(folder, *command)
    check_same_matches(matches, files["own_matches"])


def check_kd_mamba(host: str, folder: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our semi-dense matcher gives the same in the host as in our own stage."""
    weights = write_random_weights(outputs / "weights.safetensors")
    pairs = outputs / "pairs-kd-mamba.txt"
    pairs.write_text("a/0.png a/1.png\nb/0.png b/1.png\n")
    (outputs / "host").mkdir()
    script = str(ROOT / "tests" / "host_scripts" / "plain_hloc_kd_mamba.py")
    arguments = [host, "images", str(pairs), str(weights), str(outputs / "host")]
    reported = json.loads(run_python(folder, script, *arguments).splitlines()[-1])
    assert reported["model"] == "ext_kd_mamba"

    monkeypatch.setattr(kd_mamba, "MIN_PROBABILITY", 0.0)
    conf = confs.dense_matchers["kd-mamba"]
    conf = {**conf, "model": {**conf["model"], "weights": str(weights), "match_threshold": 0.0}}
    ours = match_dense.main(conf, pairs, folder / "images", outputs / "ours", max_kps=None)[1]
    with h5py.File(reported["matches"]) as file0, h5py.File(ours) as file1:
        assert list_pairs(file0) == list_pairs(file1) == ["a-0.png/a-1.png", "b-0.png/b-1.png"]
        for pair in list_pairs(file0):
            assert len(file1[pair]["scores"]) > 50
            for key in ("keypoints0", "keypoints1", "scores"):
                np.testing.assert_allclose(file0[pair][key][()], file1[pair][key][()], atol=1e-3)


def check_crossvit(host: str, folder: Path, outputs: Path) -> None:
    """CrossViT gives the same descriptors and pairs in the host as in our own stages."""
    weights = crossvit_weights.write_random_weights(outputs / "student.safetensors")
    script = str(ROOT / "tests" / "host_scripts" / "plain_hloc_crossvit.py")
    arguments = (host, str(folder / "images"), str(weights), str(outputs))
    reported = json.loads(run_python(folder, script, *arguments).splitlines()[-1])
    assert (reported["name"], reported["teacher"]) == ("crossvit-student", "crossvit-teacher")
    assert "option `model_dir`" in reported["message"]

    conf = confs.extractors["crossvit-student"]
    conf = {**conf, "model": {**conf["model"], "weights": str(weights)}}
    ours = extract_features.main(conf, folder / "images", outputs / "ours", as_half=False)
    pairs_from_retrieval.main(ours, outputs / "pairs-ours.txt", num_matched=1)
    with h5py.File(reported["descriptors"]) as file0, h5py.File(ours) as file1:
        for name in NAMES:
            first, second = (file[name]["global_descriptor"][()] for file in (file0, file1))
            assert first.shape == (crossvit_weights.DIM,)
            np.testing.assert_allclose(first, second, atol=1e-5)
    pairs = [sorted((outputs / f"pairs-{name}.txt").read_text().split("\n")) for name in ("crossvit", "ours")]
    assert [line for line in pairs[0] if line] == [line for line in pairs[1] if line]


def check_cross_view(host: str, folder: Path, outputs: Path) -> None:
    """Panoramas and tiles have the same descriptors and pairs in the host as in our own stages."""
    weights = cross_view_weights.write_random_weights(outputs / "students.safetensors")
    script = str(ROOT / "tests" / "host_scripts" / "plain_hloc_cross_view.py")
    images = {"ground": folder / "images" / "a", "aerial": folder / "images"}  # no name is in both
    arguments = [host, *map(str, images.values()), str(weights), str(outputs)]
    reported = json.loads(run_python(folder, script, *arguments).splitlines()[-1])

    ours = {}
    for view, root in images.items():
        conf = confs.extractors[f"distill4geo-{view}"]
        conf = {**conf, "model": {**conf["model"], "weights": str(weights)}}
        ours[view] = extract_features.main(conf, root, outputs / "ours", as_half=False)
        with h5py.File(reported[view]) as file0, h5py.File(ours[view]) as file1:
            for name in list_names(ours[view]):
                first, second = (file[name]["global_descriptor"][()] for file in (file0, file1))
                assert first.shape == (cross_view_weights.DIM,)
                np.testing.assert_allclose(first, second, atol=1e-5)
    pairs = outputs / "pairs-ours.txt"
    pairs_from_retrieval.main(ours["ground"], pairs, num_matched=1, db_descriptors=ours["aerial"])
    found = [sorted(file.read_text().split("\n")) for file in (Path(reported["pairs"]), pairs)]
    assert [line for line in found[0] if line] == [line for line in found[1] if line] != []
