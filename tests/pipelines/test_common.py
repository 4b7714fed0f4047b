"""What the pipelines share: resuming by inputs, changed images, exit codes."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from hloc_ext import confs, localize_sfm, logger
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.h5 import H5Writer, list_names
from hloc_ext.host import get_conf
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.pose_estimation import DENSE_MIN_INLIER_CELLS, EstimatorConf
from pipelines.common import (
    Run,
    add_common_arguments,
    estimator_conf,
    find_matcher,
    kept_if_same,
    positive,
    run_pipeline,
    unless_done,
)
from pipelines.summary import command_of, facts_of
from tests.pipelines.killing import start
from tests.test_match_dense import CONF as DENSE_CONF


@pytest.fixture
def run(tmp_path):
    return Run.start(tmp_path / "outputs", "sift", "NN-ratio", "vlad-rootsift")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), cv2.resize(rng.integers(0, 255, (12, 16), np.uint8), (96, 72)))
    return folder


def test_file_names_tell_the_method(run, tmp_path, monkeypatch):
    assert run.name == "feats-sift_matches-NN-mutual-ratio.8"
    assert run.features == tmp_path / "outputs/feats-sift.h5"
    assert run.global_descriptors == tmp_path / "outputs/global-feats-vlad-rootsift.h5"
    monkeypatch.setitem(confs.dense_matchers, "fake", DENSE_CONF)
    dense = Run.start(tmp_path / "outputs", "sift", "fake", "vlad-rootsift")
    assert dense.is_dense and not run.is_dense
    assert (dense.name, dense.features.name) == ("matches-fake", "feats_matches-fake.h5")


def test_the_matcher_follows_from_the_features(tmp_path):
    def names(features: str | None, matcher: str | None) -> str:
        return Run.start(tmp_path / "outputs", features, matcher, "vlad-rootsift").name

    assert names(None, None) == "matches-kd-mamba"
    assert names("disk", None) == "feats-disk_matches-NN-mutual-ratio.8"
    assert names(None, "NN-mutual") == "feats-sift_matches-NN-mutual"
    assert names("sift", "kd-mamba-nano") == "matches-kd-mamba-nano"


def test_smaller_images_have_files_of_their_own(tmp_path):
    def start(**confs: str) -> Run:
        options = {"features": None, "matcher": None, "retrieval": "vlad-rootsift"}
        return Run.start(tmp_path / "outputs", **{**options, **confs}, resize_max=640)

    dense, sparse = start(), start(features="sift")
    assert dense.matcher_conf["preprocessing"]["resize_max"] == 640
    assert dense.name == "matches-kd-mamba-640"
    assert sparse.feature_conf["preprocessing"]["resize_max"] == 640
    assert sparse.features.name == "feats-sift-640.h5" and sparse.matcher_conf == find_matcher("NN-ratio")
    for run in (dense, sparse):
        assert run.retrieval_conf == get_conf("extractors", "vlad-rootsift")


def test_unknown_confs_and_masks_leave_no_folder(tmp_path):
    outputs = tmp_path / "outputs"
    with pytest.raises(InputError, match=r"no conf 'sfit' among the extractors.*'sift'"):
        Run.start(outputs, "sfit", "NN-ratio", "vlad-rootsift")
    with pytest.raises(MissingInputError, match=r"`--mask_dir` .*masks is no folder"):
        Run.start(outputs, "sift", "NN-ratio", "vlad-rootsift", tmp_path / "masks")
    assert not outputs.exists()


def test_unknown_matcher_names_both_kinds():
    with pytest.raises(
        InputError, match=r"(?s)among the matchers.*'NN-ratio'.*among the dense_matchers.*loftr"
    ):
        find_matcher("NN")
    assert find_matcher("NN-ratio")["model"]["name"] == "nearest_neighbor"
    assert "max_error" in find_matcher("loftr")


def test_extraction_returns_what_could_be_read(run, images):
    (images / "c.jpg").write_text("no image")
    assert run.extract(images, ["a.png", "c.jpg", "b.png"], "map") == ["a.png", "b.png"]
    assert list_names(run.features) == list_names(run.global_descriptors) == ["a.png", "b.png"]
    with pytest.raises(CorruptFileError, match=r"None of the 1 images \(queries\) in .*images can be read"):
        run.extract(images, ["c.jpg"], "queries")
    with pytest.raises(CorruptFileError, match=r"(?s)features of the other 0 are stored:.*c.jpg"):
        run.extract(images, ["c.jpg"], "strict", skip_unreadable=False)


def test_semi_dense_matchers_need_no_local_features(images, tmp_path, monkeypatch):
    monkeypatch.setitem(confs.dense_matchers, "fake", DENSE_CONF)
    run = Run.start(tmp_path / "outputs", "sift", "fake", "vlad-rootsift")
    assert run.extract(images, ["a.png"], "map") == ["a.png"]
    assert [record.name for record in run.log.records] == ["global descriptors, map"]


def start_again(run, **options):
    return Run.start(run.outputs, "sift", "NN-ratio", "vlad-rootsift", **options)


def test_features_of_a_replaced_image_are_not_used(run, images):
    run.extract(images, ["a.png", "b.png"], "map")
    before = (images / "a.png").stat().st_size
    cv2.imwrite(str(images / "a.png"), np.zeros((72, 96), np.uint8))
    after = (images / "a.png").stat().st_size
    with pytest.raises(
        InputError, match=rf"1 image\(s\) that have changed.*'a.png'.*\[{before}, 0\].*\[{after}, 0\]"
    ):
        start_again(run).extract(images, ["a.png", "b.png"], "map")
    assert start_again(run).extract(images, ["b.png"], "map") == ["b.png"]


def test_features_without_the_masks_of_now_are_not_used(run, images, tmp_path):
    run.extract(images, ["a.png", "b.png"], "map")
    masks = tmp_path / "masks"
    masks.mkdir()
    cv2.imwrite(str(masks / "b.png.png"), np.zeros((72, 96), np.uint8))
    with pytest.raises(InputError, match=r"1 image\(s\) that have changed.*'b.png'"):
        start_again(run, mask_dir=masks).extract(images, ["a.png", "b.png"], "map")
    other = Run.start(tmp_path / "other", "sift", "NN-ratio", "vlad-rootsift", masks)
    other.extract(images, ["a.png", "b.png"], "map")
    with FeatureReader(other.features) as features:
        assert len(features.keypoints("a.png")) > 0 and len(features.keypoints("b.png")) == 0


def test_masks_of_other_names_are_reported(images, tmp_path, caplog):
    masks = tmp_path / "masks"
    masks.mkdir()
    cv2.imwrite(str(masks / "a.png"), np.zeros((72, 96), np.uint8))  # instead of a.png.png
    run = Run.start(tmp_path / "outputs", "sift", "NN-ratio", "vlad-rootsift", masks)
    logger.addHandler(caplog.handler)
    run.extract(images, ["a.png"], "map")
    logger.removeHandler(caplog.handler)
    assert f"No image (map) has a mask: expected for instance {masks / 'a.png.png'}." in caplog.messages


def test_an_unreadable_image_may_be_replaced(run, images):
    (images / "c.png").write_bytes(b"")
    run.extract(images, ["a.png", "c.png"], "map")
    cv2.imwrite(str(images / "c.png"), np.zeros((72, 96), np.uint8))
    assert start_again(run).extract(images, ["a.png", "c.png"], "map") == ["a.png", "c.png"]


def test_interrupted_extraction_counts_as_extracted(run, images):
    """Records that a killed run left in part files are merged before the images are compared."""
    run.extract(images, ["a.png"], "map")
    run.global_descriptors.unlink()
    writer = H5Writer(run.global_descriptors)
    writer.write("a.png", {"global_descriptor": np.ones(3)})
    writer.flush()
    (images / "a.png").write_bytes(b"changed")
    with pytest.raises(InputError, match="have changed"):
        start_again(run).extract(images, ["a.png"], "map")


def test_damaged_record_of_images(run, images):
    for text in ("{", "[]"):
        (run.outputs / "images.json").write_text(text)
        with pytest.raises(CorruptFileError, match=r"images.json is damaged .*delete it"):
            run.extract(images, ["a.png"], "map")


def test_file_keeps_its_time_if_its_content_stays(tmp_path):
    path = tmp_path / "pairs.txt"
    for text, is_new in (("a b", True), ("a b", False), ("a c", True)):
        if path.exists():
            os.utime(path, ns=(1, 1))
        with kept_if_same(path) as written:
            written.write_text(text)
        assert path.read_text() == text and (path.stat().st_mtime_ns != 1) is is_new
    with pytest.raises(ValueError, match="stop"), kept_if_same(path) as written:
        written.write_text("half")
        raise ValueError("stop")
    assert path.read_text() == "a c" and os.listdir(tmp_path) == ["pairs.txt"]


def done(stamp, inputs, exists=True):
    with unless_done(stamp, inputs, lambda: exists) as is_done:
        return is_done


def test_done_only_with_equal_inputs(tmp_path):
    stamp, file = tmp_path / "inputs.json", tmp_path / "input.h5"
    file.write_text("1")
    inputs = {"file": file, "seed": 0, "pairs": [("a", str(i)) for i in range(30)]}
    assert not done(stamp, inputs)
    assert done(stamp, inputs)
    assert not done(stamp, inputs, exists=False)
    assert done(stamp, inputs)
    assert not done(stamp, {**inputs, "seed": 1})
    assert not done(stamp, {**inputs, "seed": 1, "pairs": inputs["pairs"][::-1]})
    assert not done(stamp, inputs)
    os.utime(file, ns=(1, 1))
    assert not done(stamp, inputs)


def test_failed_work_is_not_done(tmp_path):
    stamp = tmp_path / "inputs.json"
    assert not done(stamp, {"seed": 0})
    with pytest.raises(ValueError, match="stop"), unless_done(stamp, {"seed": 1}, lambda: True):
        raise ValueError("stop")
    assert not stamp.exists()
    assert not done(stamp, {"seed": 0})


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", ""])
def test_counts_must_be_positive(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number above zero"):
        positive(text)
    assert positive("7") == 7


def test_exit_codes(capsys):
    def fail(error):
        def main(argv):
            assert argv == ["--x"]
            if error:
                raise error

        return run_pipeline(main, ["--x"])

    assert fail(None) == 0
    assert fail(CorruptFileError("a.h5 is truncated")) == 1
    assert capsys.readouterr().err == "error: a.h5 is truncated\n"
    assert fail(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted; run the same command again to go on.\n"
    with pytest.raises(ZeroDivisionError):  # a defect of ours keeps its traceback
        fail(ZeroDivisionError())


def test_semi_dense_matches_must_spread_farther(tmp_path):
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    args = parser.parse_args(["--outputs", str(tmp_path)])
    assert estimator_conf(args, is_dense=False) == EstimatorConf()
    assert estimator_conf(args, is_dense=True) == EstimatorConf(min_inlier_cells=DENSE_MIN_INLIER_CELLS)
    args = parser.parse_args(["--outputs", str(tmp_path), "--min_inlier_cells", "3"])
    assert estimator_conf(args, is_dense=True).min_inlier_cells == 3


def test_all_options_of_the_estimator_reach_the_localization(run, tmp_path, monkeypatch):
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    numbers = {key: value for key, value in asdict(EstimatorConf()).items() if type(value) in (int, float)}
    changed = {key: value + 1 if isinstance(value, int) else value / 2 for key, value in numbers.items()}
    conf = EstimatorConf(**changed, refine_focal=True)
    assert changed.keys() | {"estimator", "refine_focal", "options"} == asdict(conf).keys()
    arguments = ["--outputs", str(tmp_path), "--refine_focal"]
    arguments += [text for key, value in changed.items() for text in (f"--{key}", str(value))]
    assert estimator_conf(parser.parse_args(arguments), is_dense=True) == conf

    received = {}
    monkeypatch.setattr(localize_sfm, "main", lambda *args, **keywords: received.update(keywords) or [])
    monkeypatch.setattr(LocalizationMap, "load", lambda path: path)
    for name in ("retrieval.txt", "matches.h5"):
        (tmp_path / name).write_text("")
    results = tmp_path / "results.txt"
    run.localize(tmp_path, [], tmp_path / "retrieval.txt", tmp_path / "matches.h5", results, conf, extra=1)
    assert received == {**{k: v for k, v in asdict(conf).items() if k != "options"}, "config": {}, "extra": 1}


def test_facts_repeat_the_command(run):
    command = command_of("python -m pipelines.x", ["--images", "my photos"])
    facts = facts_of(run, command, EstimatorConf(seed=3), more="1")
    assert facts["command"] == "python -m pipelines.x --images 'my photos'"
    assert (facts["features"], facts["matcher"]) == ("feats-sift", "matches-NN-mutual-ratio.8")
    assert "seed 3" in facts["estimator"] and facts["more"] == "1"


def test_stage_log_is_kept_in_the_outputs(run, images):
    run.extract(images, ["a.png"], "map")
    stages = json.loads((run.outputs / "stages.json").read_text())["stages"]
    assert [(stage["name"], stage["state"], stage["count"]) for stage in stages] == [
        ("global descriptors, map", "completed", 1),
        ("local features, map", "completed", 1),
    ]


@pytest.mark.parametrize("module", ["pipelines.photos", "pipelines.aachen"])
def test_command_line(tmp_path, module):
    option = {"pipelines.photos": "--images", "pipelines.aachen": "--dataset"}[module]
    output = tmp_path / "output.txt"
    process = start(module, option, tmp_path / "nowhere", "--outputs", tmp_path / "outputs", output=output)
    assert process.wait() == 1
    assert output.read_text().startswith("error: ") and str(tmp_path / "nowhere") in output.read_text()
