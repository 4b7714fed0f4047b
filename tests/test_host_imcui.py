"""The registry against the real `imcui.hloc`, which installs from the package index.

Everything runs in another process, in a folder of the test: importing imcui.hloc empties the file
log.txt of the working directory.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.host_scripts import two_places

HOST = "imcui.hloc"
NEEDED = ("imcui", "torchvision", "huggingface_hub", "yaml", "scipy", "omegaconf")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (imcui by `pip install --no-deps imcui`)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("imcui")


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
    (folder / "log.txt").write_text("precious")
    two_places.check_models_of_the_host_in_both(HOST, folder, files, tmp_path)
    assert (folder / "log.txt").read_text() == "precious"
