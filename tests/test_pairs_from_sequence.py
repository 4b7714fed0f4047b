from __future__ import annotations

import numpy as np
import pytest

from hloc_ext import pairs_from_sequence
from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.h5 import H5Writer
from hloc_ext.formats.pairs import read_pairs


def frames(num, prefix=""):
    return [f"{prefix}{i}.jpg" for i in range(num)]


def index_pairs(pairs):
    return [tuple(int(name.split("/")[-1][:-4]) for name in pair) for pair in pairs]


def run(tmp_path, names, **options):
    pairs_from_sequence.main(tmp_path / "pairs.txt", names, **options)
    return read_pairs(tmp_path / "pairs.txt")


def test_window_in_natural_order(tmp_path):
    pairs = run(tmp_path, sorted(frames(12)), window_size=2, quadratic_overlap=False)
    assert index_pairs(pairs) == [(i, i + d) for i in range(12) for d in (1, 2) if i + d < 12]


def test_quadratic_overlap(tmp_path):
    pairs = index_pairs(run(tmp_path, frames(40), window_size=5))
    distances = {b - a for a, b in pairs}
    assert distances == {1, 2, 3, 4, 5, 8, 16}
    assert len(pairs) == len(set(pairs)) == sum(40 - d for d in distances)


def test_keep_order(tmp_path):
    names = ["b.jpg", "a.jpg", "c.jpg"]
    assert run(tmp_path, names, window_size=1, keep_order=True) == [("b.jpg", "a.jpg"), ("a.jpg", "c.jpg")]
    assert run(tmp_path, names, window_size=1) == [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg")]


def test_folders_are_separate_sequences(tmp_path):
    pairs = run(tmp_path, frames(2, "cam10/") + frames(2, "cam2/") + ["x.jpg"])
    assert pairs == [("cam2/0.jpg", "cam2/1.jpg"), ("cam10/0.jpg", "cam10/1.jpg")]


@pytest.fixture
def circle(tmp_path):
    """Descriptors of two folders of 20 images on the same circle, the second one half a step ahead."""
    path = tmp_path / "global.h5"
    with H5Writer(path) as writer:
        for folder, shift in (("a", 0.0), ("b", 0.4)):
            for i in range(20):
                angle = 2 * np.pi * (i + shift) / 20
                descriptor = np.array([np.cos(angle), np.sin(angle)], np.float32)
                writer.write(f"{folder}/{i}.jpg", {"global_descriptor": descriptor})
    return path


def test_loop_closure_inside_a_sequence_skips_neighbours(tmp_path, circle):
    options = {"window_size": 3, "quadratic_overlap": False}
    names = frames(20, "a/")
    sequential = run(tmp_path, names, **options)
    pairs = run(tmp_path, names, **options, retrieval_path=circle, retrieval_interval=10, num_loc=2)
    assert pairs[: len(sequential)] == sequential
    loops = index_pairs(pairs[len(sequential) :])
    # Frame 0 is next to 19 and 18 on the circle; 6 and 14 are equally far from 10.
    assert loops[:2] == [(0, 19), (0, 18)]
    assert sorted(loops[2:]) == [(10, 6), (10, 14)]


def test_loop_closure_between_sequences(tmp_path, circle):
    names = frames(20, "a/") + frames(20, "b/")
    options = {"window_size": 19, "quadratic_overlap": False, "retrieval_path": circle, "num_loc": 1}
    pairs = run(tmp_path, names, **options, retrieval_interval=10)
    loops = [pair for pair in pairs if pair[0][0] != pair[1][0]]
    assert loops == [("a/0.jpg", "b/0.jpg"), ("a/10.jpg", "b/10.jpg")]  # the reverse pairs are repetitions


def test_short_sequence_without_possible_loop(tmp_path, circle):
    pairs = run(tmp_path, frames(4, "a/"), retrieval_path=circle)
    assert len(pairs) == 6


def test_command_line_with_features(tmp_path, circle):
    arguments = f"--output {tmp_path}/pairs.txt --features {circle} --window_size 1 --no-quadratic_overlap"
    pairs_from_sequence.cli(arguments.split())
    assert len(read_pairs(tmp_path / "pairs.txt")) == 38


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (None, {}, "Give either"),
        (["a/1.jpg", "b/1.jpg"], {}, "none of the 2 folders"),
        (frames(3), {"window_size": 0}, "window_size"),
        (frames(3), {"num_loc": 0}, "num_loc"),
        (frames(3), {"retrieval_interval": 0}, "retrieval_interval"),
    ],
)
def test_bad_input(tmp_path, names, options, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, names, **options)


def test_missing_descriptor(tmp_path, circle):
    with pytest.raises(MissingInputError, match=r"of image 'a/20\.jpg'"):
        run(tmp_path, frames(21, "a/"), window_size=2, retrieval_path=circle)
