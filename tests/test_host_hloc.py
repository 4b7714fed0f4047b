"""The registry against official HLOC: when `hloc` is importable, or HLOC_ROOT names a checkout.

It is not on the package index, so that these tests are skipped where nobody has provided it.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from tests.host_scripts import two_places

HOST = "hloc"
ROOT = os.environ.get("HLOC_ROOT")
MISSING = [name for name in ("torchvision", "scipy", "packaging") if importlib.util.find_spec(name) is None]
if not ROOT and importlib.util.find_spec(HOST) is None:
    MISSING.insert(0, "official HLOC (set HLOC_ROOT to a checkout)")

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hloc")


@pytest.fixture(scope="module")
def files(folder):
    return two_places.run_plain_hloc(HOST, folder)


def test_names_that_the_host_has_get_a_suffix(files):
    assert (files["sift"], files["NN-ratio"]) == ("sift-ext", "NN-ratio-ext")
    assert Path(files["features"]).name == "feats-sift-ext.h5"


def test_retrieval(folder, files):
    two_places.check_retrieval(folder, files)


def test_matches_are_right(files):
    two_places.check_displacements(files)


def test_our_models_give_the_same_in_the_host(folder, files, tmp_path):
    two_places.check_our_models_in_both(folder, files, tmp_path)


def test_kd_mamba_gives_the_same_in_the_host(folder, files, tmp_path, monkeypatch):
    two_places.check_kd_mamba(HOST, folder, tmp_path, monkeypatch)


def test_crossvit_gives_the_same_in_the_host(folder, files, tmp_path):
    two_places.check_crossvit(HOST, folder, tmp_path)


def test_cross_view_gives_the_same_in_the_host(folder, files, tmp_path):
    two_places.check_cross_view(HOST, folder, tmp_path)


def test_models_of_the_host_give_the_same_in_our_stages(folder, files, tmp_path):
    two_places.check_models_of_the_host_in_both(HOST, folder, files, tmp_path)


DATA = Path(os.environ.get("HLOC_EXT_DATA", two_places.ROOT.parent / "shared" / "data"))
SCENE = DATA / "bench" / "strecha" / "Herz-Jesus-P25"
MAP = ("0002.jpg", "0003.jpg", "0005.jpg", "0006.jpg", "0008.jpg", "0009.jpg")
QUERIES = ("0004.jpg", "0007.jpg")


def write_model_of(names: tuple[str, ...], folder: Path) -> None:
    """Write the true poses of some images of the scene as a COLMAP text model."""
    folder.mkdir()
    (folder / "cameras.txt").write_text((SCENE / "sparse_gt" / "cameras.txt").read_text())
    lines = (SCENE / "sparse_gt" / "images.txt").read_text().splitlines()
    (folder / "images.txt").write_text("".join(f"{line}\n\n" for line in lines if line.endswith(names)))
    (folder / "points3D.txt").write_text("")


@pytest.mark.slow
@pytest.mark.skipif(not SCENE.is_dir(), reason=f"no photos in {SCENE} (set HLOC_EXT_DATA)")
@pytest.mark.skipif(
    tuple(map(int, pycolmap.__version__.split(".")[:3])) >= (4, 2, 1),
    reason="official HLOC triangulates no points with pycolmap 4.2.1",
)
def test_photos_are_localized_by_a_plain_hloc_script_with_our_confs(tmp_path):
    write_model_of(MAP, tmp_path / "poses")
    camera = "PINHOLE 1536 1024 1379.74 1382.08 760.595 503.655"
    (tmp_path / "queries.txt").write_text("".join(f"{name} {camera}\n" for name in QUERIES))
    script = str(two_places.ROOT / "tests" / "host_scripts" / "plain_hloc_localization.py")
    images = str(SCENE / "images")
    print(two_places.run_python(tmp_path, script, images, "poses", "queries.txt", "."))
    truth = {
        image.name: image.cam_from_world()
        for image in pycolmap.Reconstruction(SCENE / "sparse_gt").images.values()
    }
    errors = []
    for line in (tmp_path / "poses.txt").read_text().splitlines():
        name, *values = line.split()
        qw, qx, qy, qz, *translation = map(float, values)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d([qx, qy, qz, qw]), translation)
        difference = truth[name].inverse() * pose
        distance = np.linalg.norm(truth[name].inverse().translation - pose.inverse().translation)
        errors.append((distance, np.rad2deg(difference.rotation.angle())))
    print("position error (m), rotation error (degrees):", errors)
    assert len(errors) == len(QUERIES)
    assert np.max(errors, axis=0)[0] < 0.015
    assert np.max(errors, axis=0)[1] < 0.05
