"""The matching stage: resumption, order, keys, and inputs that do not fit."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from hloc_ext import match_features
from hloc_ext.confs import matchers
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats.atomic import UnwritableError
from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.h5 import H5Writer, list_names
from hloc_ext.formats.matches import get_matches
from hloc_ext.match_features import join_pair, new_pairs, stored_orders, to_tensors

RATIO, MUTUAL = matchers["NN-ratio"], matchers["NN-mutual"]
NAMES = ["a.png", "b.png", "c/d.png"]


def write_features(path: Path, names: list[str], number: int = 6, seed: int = 0) -> Path:
    """Features whose descriptors are the same unit vectors in all images, in a random order."""
    rng = np.random.default_rng(seed)
    descriptors = np.eye(8, dtype=np.float32)[:, :number]
    with H5Writer(path) as writer:
        for name in names:
            order = rng.permutation(number)
            record = {
                "keypoints": order[:, None].repeat(2, 1).astype(np.float32),
                "descriptors": descriptors[:, order].astype(np.float16),
                "scores": np.ones(number, np.float32),
                "image_size": np.array([64, 48]),
            }
            writer.write(name, record)
    return path


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return write_features(tmp_path / "features.h5", NAMES)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text("a.png b.png\na.png c/d.png\nb.png c/d.png")
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """First keypoint of both images of each pair that a model got, in place of the matcher."""
    seen: list[tuple[float, float]] = []

    class Counter(torch.nn.Module):
        def forward(self, data: dict[str, Any]) -> dict[str, torch.Tensor]:
            seen.append((float(data["keypoints0"][0, 0, 0]), float(data["keypoints1"][0, 0, 0])))
            number = data["keypoints0"].shape[1]
            # The call's number, so that a later record can be told from an earlier one.
            return {"matches0": torch.full((1, number), len(seen) - 1)}

    monkeypatch.setattr(match_features, "load_model", lambda kind, conf: Counter())
    return seen


def test_matches_of_the_same_descriptors_are_the_same_points(features, pairs, tmp_path):
    path = match_features.main(MUTUAL, pairs, features, matches=tmp_path / "m.h5")
    with FeatureReader(features) as reader:
        for line in pairs.read_text().splitlines():
            name0, name1 = line.split()
            matches, scores = get_matches(path, name0, name1)
            assert len(matches) == 6
            points0, points1 = reader.keypoints(name0), reader.keypoints(name1)
            np.testing.assert_array_equal(points0[matches[:, 0]], points1[matches[:, 1]])
            np.testing.assert_allclose(scores, 1, atol=1e-3)
    with h5py.File(path) as fd:
        assert fd["a.png/c-d.png/matches0"].dtype == np.int32
        assert fd["a.png/c-d.png/matching_scores0"].dtype == np.float16


def test_indices_above_16_bits_are_stored(tmp_path, pairs):
    rng = np.random.default_rng(0)
    many = rng.standard_normal((4, 40_000)).astype(np.float32)
    many /= np.linalg.norm(many, axis=0)
    wanted = [39_999, 32_768, 7]
    with H5Writer(tmp_path / "f.h5") as writer:
        for name, descriptors in (("few", many[:, wanted]), ("many", many)):
            keypoints = np.zeros((descriptors.shape[1], 2), np.float32)
            writer.write(name, {"keypoints": keypoints, "descriptors": descriptors})
    pairs.write_text("few many")
    path = match_features.main(MUTUAL, pairs, tmp_path / "f.h5", matches=tmp_path / "m.h5")
    np.testing.assert_array_equal(get_matches(path, "few", "many")[0], [[0, 39_999], [1, 32_768], [2, 7]])


def test_only_missing_pairs_are_matched(features, pairs, tmp_path, calls):
    path = tmp_path / "m.h5"
    everything = pairs.read_text()
    pairs.write_text("b.png a.png")
    match_features.main(RATIO, pairs, features, matches=path)
    assert len(calls) == 1
    pairs.write_text(everything)
    match_features.main(RATIO, pairs, features, matches=path)
    assert len(calls) == 3, "a pair that is stored in reverse order is not matched again"
    assert list_names(path) == ["a.png/c-d.png", "b.png/a.png", "b.png/c-d.png"]
    match_features.main(RATIO, pairs, features, matches=path)
    assert len(calls) == 3


def test_repeated_and_reversed_pairs_are_matched_once(features, pairs, tmp_path, calls):
    pairs.write_text("a.png b.png\nb.png a.png\na.png b.png\n\na.png a.png\n")
    match_features.main(RATIO, pairs, features, matches=tmp_path / "m.h5")
    assert len(calls) == 1


def test_keys_of_old_hloc_files_count(features, pairs, tmp_path, calls):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as fd:
        fd["a.png_b.png/matches0"] = np.zeros(6, np.int16)
        fd["c-d.png_b.png/matches0"] = np.zeros(6, np.int16)
    match_features.main(RATIO, pairs, features, matches=path)
    assert len(calls) == 1
    assert "a.png/c-d.png" in list_names(path)


def test_overwrite_leaves_no_old_matches(features, pairs, tmp_path, calls):
    path = tmp_path / "m.h5"
    pairs.write_text("b.png a.png\na.png c/d.png")
    match_features.main(RATIO, pairs, features, matches=path)
    pairs.write_text("a.png b.png\na.png c/d.png")
    match_features.main(RATIO, pairs, features, matches=path, overwrite=True)
    assert len(calls) == 4
    assert list_names(path) == ["a.png/c-d.png", "b.png/a.png"], "each pair once"
    # Matched as it is stored, so both orders of asking give the new matches (call number 2).
    assert calls[2] == calls[0]
    np.testing.assert_array_equal(get_matches(path, "b.png", "a.png")[0][:, 1], np.full(6, 2))
    np.testing.assert_array_equal(get_matches(path, "a.png", "b.png")[0][:, 0], np.full(6, 2))


def test_orders_of_pairs_that_are_matched_again():
    existing = {"b/a", "c/d", "d/c"}
    pairs = [("a", "b"), ("c", "d"), ("e", "f")]
    assert stored_orders(pairs, existing) == [
        (("b", "a"), True),
        (("c", "d"), False),
        (("d", "c"), True),
        (("e", "f"), False),
    ]


def test_reversed_pairs_take_features_from_the_right_files(tmp_path, pairs, calls):
    queries = write_features(tmp_path / "q.h5", ["q.png"], seed=1)
    reference = write_features(tmp_path / "r.h5", ["r.png"], seed=2)
    path = tmp_path / "m.h5"
    with H5Writer(path) as writer:
        writer.write("r.png/q.png", {"matches0": np.zeros(6, np.int32)})
    pairs.write_text("q.png r.png")
    match_features.main(RATIO, pairs, queries, matches=path, features_ref=reference, overwrite=True)
    with FeatureReader(queries) as q, FeatureReader(reference) as r:
        assert calls == [(r.keypoints("r.png")[0, 0], q.keypoints("q.png")[0, 0])]


def test_order_is_that_of_the_list(features, tmp_path):
    listed = [("c/d.png", "a.png"), ("a.png", "b.png"), ("b.png", "c/d.png")]
    assert new_pairs(listed, ()) == listed
    assert new_pairs(listed, {"b.png/a.png"}) == [listed[0], listed[2]]
    script = (
        "import sys; from pathlib import Path; from hloc_ext import match_features as m;"
        "m.main(m.confs['NN-ratio'], Path(sys.argv[1]), Path(sys.argv[2]), matches=Path(sys.argv[3]))"
    )
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("\n".join(" ".join(pair) for pair in listed))
    files = []
    for seed in ("1", "2"):
        files.append(tmp_path / f"{seed}.h5")
        subprocess.run(
            [sys.executable, "-c", script, str(pairs), str(features), str(files[-1])],
            check=True,
            capture_output=True,
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[1],
        )
    assert files[0].read_bytes() == files[1].read_bytes()


def test_names_that_share_a_key_are_refused(tmp_path, pairs):
    features = write_features(tmp_path / "f.h5", ["a/b.png", "a-b.png", "c.png"])
    pairs.write_text("a/b.png c.png\na-b.png c.png")
    with pytest.raises(InputError, match=r"'a/b.png' and 'a-b.png' get the same key"):
        match_features.main(RATIO, pairs, features, matches=tmp_path / "m.h5")


@pytest.mark.parametrize("text, message", [("", "is empty"), ("a.png a.png\n", "with themselves")])
def test_lists_without_pairs_are_refused(features, pairs, tmp_path, text, message):
    pairs.write_text(text)
    with pytest.raises(InputError, match=message):
        match_features.main(RATIO, pairs, features, matches=tmp_path / "m.h5")


def test_missing_features_are_named(features, pairs, tmp_path):
    pairs.write_text("a.png b.png\na.png nobody.png")
    with pytest.raises(MissingInputError, match=r"features.h5 has no .* of image 'nobody.png'"):
        match_features.main(RATIO, pairs, features, matches=tmp_path / "m.h5")
    assert list_names(tmp_path / "m.h5") == ["a.png/b.png"], "what was matched before is kept"
    with pytest.raises(MissingInputError, match=r"nothing.h5 does not exist"):
        match_features.main(RATIO, pairs, tmp_path / "nothing.h5", matches=tmp_path / "m2.h5")
    with pytest.raises(MissingInputError, match=r"nothing.txt does not exist"):
        match_features.main(RATIO, tmp_path / "nothing.txt", features, matches=tmp_path / "m2.h5")


def test_truncated_and_foreign_files_are_named(features, pairs, tmp_path):
    features.write_bytes(features.read_bytes()[:2000])
    with pytest.raises(CorruptFileError, match=r"features.h5 is truncated"):
        match_features.main(RATIO, pairs, features, matches=tmp_path / "m.h5")
    (tmp_path / "m.h5").write_text("not HDF5 at all")
    with pytest.raises(CorruptFileError, match=r"m.h5 is not an HDF5 file"):
        match_features.main(RATIO, pairs, features, matches=tmp_path / "m.h5")


def test_names_of_files_follow_hloc(tmp_path, pairs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export = tmp_path / "out"
    write_features(export / "feats-x.h5", NAMES)
    path = match_features.main(RATIO, pairs, "feats-x", export)
    assert path == export / "feats-x_matches-NN-mutual-ratio.8_pairs.h5"
    assert len(list_names(path)) == 3
    with pytest.raises(InputError, match="give `export_dir` too"):
        match_features.main(RATIO, pairs, "feats-x")
    with pytest.raises(InputError, match="give the output file `matches` too"):
        match_features.main(RATIO, pairs, export / "feats-x.h5", export)
    # A folder that happens to have the name of the features is no feature file.
    (tmp_path / "feats-x").mkdir()
    assert match_features.main(RATIO, pairs, "feats-x", export) == path
    with pytest.raises(MissingInputError, match=r"absent.h5 does not exist"):
        match_features.main(RATIO, pairs, "absent.h5", matches=tmp_path / "m.h5")


def test_command_line_writes_where_it_is_told(features, pairs, tmp_path):
    output = tmp_path / "chosen" / "m.h5"
    match_features.cli(f"--pairs {pairs} --features {features} --matches {output} --conf NN-mutual".split())
    assert len(get_matches(output, "a.png", "b.png")[0]) == 6
    match_features.cli(f"--pairs {pairs} --features features --export_dir {tmp_path}".split())
    assert (tmp_path / "features_matches-NN-mutual-ratio.8_pairs.h5").exists()


def test_inputs_of_a_matcher_have_the_image_size_without_its_memory():
    record = {"image_size": np.array([6000, 4000]), "descriptors": np.ones((2, 3), np.float16)}
    tensors = to_tensors(record)
    assert tensors["image"].shape == (1, 1, 4000, 6000)
    assert tensors["image"].untyped_storage().nbytes() == 4
    assert tensors["descriptors"].dtype == torch.float32
    assert set(join_pair(tensors, {"scores": torch.ones(1)}, torch.device("cpu"))) == {
        "image0", "image_size0", "descriptors0", "scores1",
    }  # fmt: skip


def test_images_without_keypoints_have_no_matches(tmp_path, pairs):
    features = write_features(tmp_path / "f.h5", ["a.png"])
    write_features(tmp_path / "f.h5", ["b.png"], number=0)
    write_features(tmp_path / "f.h5", ["c/d.png"], number=1)
    path = match_features.main(RATIO, pairs, features, matches=tmp_path / "m.h5")
    assert [len(get_matches(path, *pair)[0]) for pair in (NAMES[:2], NAMES[::2], NAMES[1:])] == [0, 1, 0]


SCRIPT = """
import sys, time
from pathlib import Path
import torch
from hloc_ext import match_features
from hloc_ext.formats.h5 import H5Writer

class Slow(torch.nn.Module):
    count = 0
    def forward(self, data):
        self.count += 1
        if self.count == 3:
            print("last", flush=True)
            time.sleep(60)
        return {"matches0": torch.full((1, 6), 5)}

class Eager(H5Writer):
    def write(self, *args):
        super().write(*args)
        self.flush()

match_features.load_model = lambda kind, conf: Slow()
match_features.H5Writer = Eager
conf = match_features.confs["NN-ratio"]
match_features.main(conf, Path(sys.argv[1]), Path(sys.argv[2]), matches=Path(sys.argv[3]))
"""


def test_a_killed_stage_goes_on(features, pairs, tmp_path, calls):
    path = tmp_path / "m.h5"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(pairs), str(features), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None and process.stdout.readline() == b"last\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    match_features.main(RATIO, pairs, features, matches=path)
    assert len(calls) == 1, "only the pair that was being matched is matched again"
    np.testing.assert_array_equal(get_matches(path, "a.png", "b.png")[0][:, 1], np.full(6, 5))
    assert len(list_names(path)) == 3


def test_a_read_only_folder_is_named(features, pairs, read_only_folder):
    with pytest.raises(UnwritableError, match=r"m\.h5"):
        match_features.main(RATIO, pairs, features, matches=read_only_folder / "m.h5")
