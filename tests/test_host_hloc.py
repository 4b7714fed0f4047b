"""The registry against official HLOC: when `hloc` is importable, or HLOC_ROOT names a checkout.

It is not on the package index, so that these tests are skipped where nobody has provided it.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

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


def test_models_of_the_host_give_the_same_in_our_stages(folder, files, tmp_path):
    two_places.check_models_of_the_host_in_both(HOST, folder, files, tmp_path)
