from __future__ import annotations

import logging

import h5py
import numpy as np
import pycolmap
import pytest

from hloc_ext import pairs_from_retrieval
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats.h5 import H5Writer
from hloc_ext.formats.pairs import read_pairs, read_retrieval

DIM = 16


def descriptor(name, dim=DIM):
    """A unit vector that depends on the name only; similarities of both signs occur."""
    data = np.random.default_rng(list(name.encode())).standard_normal(dim).astype(np.float32)
    return data / np.linalg.norm(data)


def write_descriptors(path, names, dim=DIM):
    with H5Writer(path) as writer:
        for name in names:
            writer.write(name, {"global_descriptor": descriptor(name, dim)})
    return path


def expected_pairs(queries, database, k, min_score=0.0):
    """HLOC's definition: full similarity matrix, no pair of an image with itself."""
    pairs = []
    for query in queries:
        scores = np.array([descriptor(query) @ descriptor(name) for name in database])
        for j in np.argsort(-scores, kind="stable"):
            if database[j] != query and scores[j] >= min_score:
                pairs.append((query, database[j]))
                k_used = sum(pair[0] == query for pair in pairs)
                if k_used == k:
                    break
    return pairs


DATABASE = [f"db/{i:02}.jpg" for i in range(20)]
QUERIES = [f"query/night/{i}.jpg" for i in range(5)]


@pytest.fixture
def features(tmp_path):
    return write_descriptors(tmp_path / "global.h5", DATABASE + QUERIES)


@pytest.fixture
def caught(caplog):
    logging.getLogger("hloc_ext").addHandler(caplog.handler)
    yield caplog
    logging.getLogger("hloc_ext").removeHandler(caplog.handler)


def run(tmp_path, features, num_matched, **options):
    pairs_from_retrieval.main(features, tmp_path / "pairs.txt", num_matched, **options)
    return read_pairs(tmp_path / "pairs.txt")


@pytest.mark.parametrize("index", ["exact", "flat"])
def test_prefixes(tmp_path, features, index):
    pairs = run(tmp_path, features, 3, query_prefix="query", db_prefix=["db/0", "db/1"], index=index)
    assert pairs == expected_pairs(QUERIES, DATABASE, 3)


def test_all_against_all_skips_self_matches_and_negative_similarities(tmp_path, features):
    names = DATABASE + QUERIES
    pairs = run(tmp_path, features, 20)
    assert pairs == expected_pairs(names, names, 20)
    assert len(pairs) < 20 * len(names) and all(a != b for a, b in pairs)


def test_lists_with_intrinsics_and_sequences(tmp_path, features):
    (tmp_path / "queries.txt").write_text("query/night/3.jpg SIMPLE_PINHOLE 640 480 500 320 240\n")
    pairs = run(tmp_path, features, 4, query_list=tmp_path / "queries.txt", db_list=DATABASE[4:9])
    assert pairs == expected_pairs([QUERIES[3]], DATABASE[4:9], 4)


def test_several_database_files(tmp_path):
    queries = write_descriptors(tmp_path / "q.h5", QUERIES)
    files = [write_descriptors(tmp_path / f"{i}.h5", DATABASE[i::2]) for i in range(2)]
    pairs = run(tmp_path, queries, 5, db_descriptors=files)
    assert pairs == expected_pairs(QUERIES, DATABASE, 5)


def make_model(names):
    """Images in a row along x, one unit apart."""
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=4, height=4, params=[4, 2, 2])
    )
    for i, name in enumerate(names):
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([-float(i), 0, 0]))
        image = pycolmap.Image(name=name, camera_id=1, image_id=i + 1)
        model.add_image_with_trivial_frame(image, pose)
    return model


@pytest.mark.parametrize("kind", ["memory", "binary", "text"])
def test_database_of_a_model(tmp_path, features, kind):
    model = make_model(DATABASE[:7])
    if kind != "memory":
        (tmp_path / "model").mkdir()
        (model.write_text if kind == "text" else model.write_binary)(tmp_path / "model")
        model = tmp_path / "model"
    pairs = run(tmp_path, features, 5, query_prefix="query", db_model=model)
    assert pairs == expected_pairs(QUERIES, DATABASE[:7], 5)


def test_ties_follow_the_database_order(tmp_path):
    with H5Writer(tmp_path / "same.h5") as writer:
        for name in ("q", "z", "a", "m"):
            writer.write(name, {"global_descriptor": np.array([1.0, 0.0], np.float32)})
    pairs = run(tmp_path, tmp_path / "same.h5", 2, query_list=["q"], db_list=["z", "a", "m"])
    assert pairs == [("q", "z"), ("q", "a")]


def test_more_than_the_database_holds(tmp_path, features, caught):
    pairs = run(tmp_path, features, 50, query_prefix="query", db_list=DATABASE[:6])
    assert pairs == expected_pairs(QUERIES, DATABASE[:6], 50)
    assert "Only 6 database images exist" in caught.text


def test_half_and_pca_change_little(tmp_path, features):
    exact = run(tmp_path, features, 1, query_prefix="query", db_prefix="db")
    assert run(tmp_path, features, 1, query_prefix="query", db_prefix="db", half=True) == exact
    all_pairs = run(tmp_path, features, 20, query_prefix="query", db_prefix="db", pca=DIM)
    assert len(all_pairs) == 100  # no threshold on centred descriptors
    projected = {
        name: descriptor(name) - np.mean([descriptor(n) for n in DATABASE], 0) for name in DATABASE + QUERIES
    }
    for query, best in dict(reversed(all_pairs)).items():
        scores = [projected[query] @ projected[n] / np.linalg.norm(projected[n]) for n in DATABASE]
        assert best == DATABASE[int(np.argmax(scores))]


def test_command_line(tmp_path, features):
    arguments = f"--descriptors {features} --output {tmp_path}/pairs.txt --num_matched 2 --query_prefix query"
    pairs_from_retrieval.cli([*arguments.split(), "--db_prefix", "db/0", "db/1", "--index", "flat"])
    assert read_pairs(tmp_path / "pairs.txt") == expected_pairs(QUERIES, DATABASE, 2)


def test_prior_in_the_frame_of_the_map(tmp_path, features, caught):
    (tmp_path / "prior.txt").write_text(
        "# name x y\nquery/night/0.jpg 3.2 0\nquery/night/1.jpg 10 2\nquery/night/2.jpg 500 0\n"
    )
    pairs_from_retrieval.main(
        features,
        tmp_path / "pairs.txt",
        20,
        query_list=QUERIES[:4],
        db_model=make_model(DATABASE),
        position_prior=tmp_path / "prior.txt",
        position_radius=2.5,
    )
    retrieved = read_retrieval(tmp_path / "pairs.txt")
    unrestricted = dict.fromkeys(QUERIES[:4])
    for query in unrestricted:
        unrestricted[query] = [b for _, b in expected_pairs([query], DATABASE, 20)]
    near = {0: DATABASE[1:6], 1: DATABASE[9:12], 2: [], 3: DATABASE}
    for i, names in near.items():
        wanted = [name for name in unrestricted[QUERIES[i]] if name in names]
        assert retrieved.get(QUERIES[i], []) == wanted
    assert "1 of 4 queries have no position" in caught.text
    assert f"Nothing was retrieved for 1 of 4 queries: {QUERIES[2]}" in caught.text


def test_prior_in_latitude_and_longitude(tmp_path, features):
    # One thousandth of a degree of latitude is 111 m; of longitude, at 60° north, 56 m.
    lines = [f"{name} 60.0 {10 + 0.001 * i}" for i, name in enumerate(DATABASE)]
    lines += [f"{QUERIES[0]} 60.0 10.0051", f"{QUERIES[1]} 60.001 10.010"]
    (tmp_path / "prior.txt").write_text("\n".join(lines))
    options = {"position_prior": tmp_path / "prior.txt", "position_frame": "wgs84"}
    pairs = run(
        tmp_path, features, 20, query_list=QUERIES[:2], db_prefix="db", position_radius=120.0, **options
    )
    near = {QUERIES[0]: DATABASE[3:8], QUERIES[1]: DATABASE[10:11]}
    assert pairs == [p for p in expected_pairs(QUERIES[:2], DATABASE, 20) if p[1] in near[p[0]]]


def test_local_frame_is_metric():
    local = pairs_from_retrieval.to_local_frame(
        {"a": np.array([48.0, 11.0, 500.0]), "b": np.array([48.0, 11.001, 510.0])}
    )
    east, _, up = local["b"] - local["a"]
    # The parallel of latitude φ has the radius a·cos φ / √(1 − e²·sin² φ), e² = 0.00669438 (WGS84).
    radius = 6378137.0 / np.sqrt(1 - 0.00669438 * np.sin(np.radians(48)) ** 2) + 505
    assert east == pytest.approx(np.radians(0.001) * radius * np.cos(np.radians(48)), abs=1e-3)
    assert up == pytest.approx(10.0, abs=1e-2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1\n", "line 1: expected a name and 2 or 3"),
        ("a 1 2\nb 1 x\n", "line 2: expected a name and 2 or 3"),
        ("a 1 2\nb 1 nan\n", "line 2: expected a name and 2 or 3"),
        ("a 1 2\nb 1 2 3\n", "line 2: 3 numbers"),
        ("a 1 2\na 1 3\n", "'a' is listed already"),
        ("# nothing\n", "holds no position"),
    ],
)
def test_bad_position_files(tmp_path, text, message):
    (tmp_path / "prior.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        pairs_from_retrieval.read_positions(tmp_path / "prior.txt")


def test_latitude_out_of_range():
    with pytest.raises(InputError, match="'b' has latitude and longitude"):
        pairs_from_retrieval.to_local_frame({"a": np.array([48.0, 11.0]), "b": np.array([111.0, 48.0])})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_prefix": "nothing"}, "begins with the prefix 'nothing'.*for instance 'db/00.jpg'"),
        ({"query_list": []}, "holds no image"),
        ({"db_list": ["db/00.jpg", "db/00.jpg"]}, "occurs twice"),
        ({"db_model": pycolmap.Reconstruction()}, "holds no image"),
        ({"query_list": ["db/00.jpg"], "db_list": ["db/00.jpg"]}, "Nothing was retrieved for any query"),
        ({"index": "tree"}, "choose one of"),
        ({"whiten": True}, "needs the number of principal components"),
        ({"pca": 99}, "Choose at most 16"),
        ({"position_radius": 3.0}, "must be given together"),
    ],
)
def test_bad_options(tmp_path, features, options, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, features, 2, **options)
    assert not (tmp_path / "pairs.txt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_list": ["gone.jpg"]}, "no 'global_descriptor' of image 'gone.jpg'"),
        ({"db_list": ["gone.jpg"]}, "no 'global_descriptor' of image 'gone.jpg'"),
        ({"query_list": "missing.txt"}, "missing.txt does not exist"),
        ({"db_model": "no-model"}, "No COLMAP model in no-model"),
        ({"db_descriptors": "gone.h5"}, "gone.h5 does not exist"),
    ],
)
def test_missing_inputs(tmp_path, features, options, message):
    with pytest.raises(MissingInputError, match=message):
        run(tmp_path, features, 2, **options)


def test_bad_priors(tmp_path, features):
    prior = tmp_path / "prior.txt"
    options = {"query_prefix": "query", "db_prefix": "db", "position_prior": prior, "position_radius": 3.0}
    with pytest.raises(MissingInputError, match="File of positions"):
        run(tmp_path, features, 2, **options)
    prior.write_text("query/night/0.jpg 1 2\n")
    with pytest.raises(MissingInputError, match="No position of 20 database images"):
        run(tmp_path, features, 2, **options)
    prior.write_text("".join(f"{name} 1 2\n" for name in DATABASE))
    with pytest.raises(InputError, match="the position of no query"):
        run(tmp_path, features, 2, **options)
    with pytest.raises(InputError, match="must be positive"):
        run(tmp_path, features, 2, **{**options, "position_radius": -1.0})
    with pytest.raises(InputError, match="Unknown frame"):
        run(tmp_path, features, 2, **options, position_frame="utm")


def test_damaged_files(tmp_path, features):
    (tmp_path / "cut.h5").write_bytes(features.read_bytes()[:3000])
    with pytest.raises(CorruptFileError, match="truncated"):
        run(tmp_path, tmp_path / "cut.h5", 2)
    with h5py.File(features, "a") as fd:
        fd["db/05.jpg/global_descriptor"][3] = np.nan
    with pytest.raises(InputError, match=r"'db/05\.jpg' in .* is not finite"):
        run(tmp_path, features, 2)


def test_descriptors_of_different_extractors(tmp_path, features):
    other = write_descriptors(tmp_path / "other.h5", DATABASE, dim=8)
    with pytest.raises(InputError, match="extract both with the same configuration"):
        run(tmp_path, features, 2, query_prefix="query", db_descriptors=other)


def test_ignored_lists_are_reported(tmp_path, features, caught):
    options = {"query_prefix": "query", "query_list": DATABASE, "db_model": make_model(DATABASE)}
    pairs = run(tmp_path, features, 2, **options, db_prefix="query")
    assert pairs == expected_pairs(QUERIES, DATABASE, 2)
    assert "the list is ignored" in caught.text and "`db_prefix` and `db_list` are ignored" in caught.text
