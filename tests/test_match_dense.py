"""The dense matching stage, with a matcher that needs no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch

from hloc_ext import match_dense, pair_images
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.h5 import H5Writer, list_names
from hloc_ext.formats.matches import MatchReader
from hloc_ext.pair_images import ImageCache, order_for_reuse, prepare_pair_image

CONF = {
    "output": "matches-fake",
    "model": {"name": "fake"},
    "preprocessing": {"grayscale": True, "resize_max": 1024, "dfactor": 8},
    "max_error": 1,
    "cell_size": 1,
}
NAMES = ["a.png", "b.png", "c.png"]


class FakeMatcher(torch.nn.Module):
    """Matches every 8th pixel with the same pixel, at +0.25 in the first and +0.125 in the second image."""

    def __init__(self, batched: bool = True) -> None:
        super().__init__()
        self.batched = batched
        self.batch_sizes: list[int] = []
        self.fail_after: int | None = None

    def forward(self, data: dict[str, Any]) -> dict[str, torch.Tensor]:
        if self.fail_after is not None and len(self.batch_sizes) >= self.fail_after:
            raise KeyboardInterrupt
        number, _, height, width = data["image0"].shape
        self.batch_sizes.append(number)
        y, x = torch.meshgrid(torch.arange(0, height, 8), torch.arange(0, width, 8), indexing="ij")
        grid = torch.stack([x, y], -1).reshape(-1, 2).float().repeat(number, 1)
        scores = torch.linspace(0.5, 1, len(grid) // number).repeat(number)
        output = {"keypoints0": grid + 0.25, "keypoints1": grid + 0.125, "scores": scores}
        if self.batched:
            output["batch_indexes"] = torch.arange(number).repeat_interleave(len(grid) // number)
        return output


@pytest.fixture
def matcher(monkeypatch: pytest.MonkeyPatch) -> FakeMatcher:
    model = FakeMatcher()
    monkeypatch.setattr(match_dense, "load_model", lambda kind, conf: model)
    return model


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        cv2.imwrite(str(folder / name), rng.integers(0, 255, (48, 64), np.uint8))
    return folder


def write_pairs(path: Path, *pairs: str) -> Path:
    path.write_text("\n".join(pairs))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.txt", "a.png b.png", "a.png c.png", "b.png c.png")


def read_all(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as fd:
        fd.visititems(lambda name, x: found.update({name: x[()]}) if isinstance(x, h5py.Dataset) else None)
    return found


def assert_same_records(path: Path, other: Path) -> None:
    one, two = read_all(path), read_all(other)
    assert one.keys() == two.keys() and one
    for key, value in one.items():
        np.testing.assert_array_equal(value, two[key], err_msg=key)


# --- preparation of images ---------------------------------------------------------------------------


def test_preparation_follows_hloc(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 255, (301, 403), np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), image)
    prepared = prepare_pair_image(tmp_path, "x.png", {"resize_max": 200, "dfactor": 16})
    assert prepared.tensor.shape == (1, 144, 192) and prepared.tensor.dtype == torch.float32
    assert prepared.original_size.tolist() == [403, 301]
    resized = cv2.resize(image.astype(np.float32), (200, 149), interpolation=cv2.INTER_AREA) / 255
    # Pillow's antialiased bilinear filter on float images is what torchvision's resize reproduces.
    from PIL import Image

    expected = np.asarray(Image.fromarray(resized).resize((192, 144), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(prepared.tensor[0].numpy(), expected, atol=1e-5)


def test_image_of_suitable_size_is_not_resampled(images: Path):
    prepared = prepare_pair_image(images, "a.png", {})
    expected = cv2.imread(str(images / "a.png"), cv2.IMREAD_GRAYSCALE) / np.float32(255)
    np.testing.assert_array_equal(prepared.tensor[0].numpy(), expected)
    colour = prepare_pair_image(images, "a.png", {"grayscale": False})
    assert colour.tensor.shape == (3, 48, 64)


def test_positions_scale_about_the_image_corner(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((64, 96), np.uint8))
    prepared = prepare_pair_image(tmp_path, "x.png", {"resize_max": 48})
    corners = prepared.to_original(np.array([[-0.5, -0.5], [47.5, 31.5], [0, 0]]))
    assert corners.tolist() == [[-0.5, -0.5], [95.5, 63.5], [0.5, 0.5]]


def test_too_small_image_is_named(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((5, 96), np.uint8))
    with pytest.raises(InputError, match=r"x\.png is too small.*96, 5"):
        prepare_pair_image(tmp_path, "x.png", {})


def test_cache_keeps_what_fits(images: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    original = pair_images.read_image

    def counting(path: Path, grayscale: bool) -> np.ndarray:
        read.append(path.name)
        return original(path, grayscale)

    monkeypatch.setattr(pair_images, "read_image", counting)
    size = 48 * 64 * 4
    cache = ImageCache(images, CONF["preprocessing"], None, max_bytes=2 * size)
    for name in ("a.png", "b.png", "a.png", "c.png", "a.png", "b.png"):
        cache.get(name)
    assert read == ["a.png", "b.png", "c.png", "b.png"]


def test_order_groups_first_images_and_turns_round():
    pairs = [("a", "b"), ("c", "d"), ("a", "e"), ("c", "e"), ("f", "a")]
    assert order_for_reuse(pairs) == [("a", "b"), ("a", "e"), ("c", "e"), ("c", "d"), ("f", "a")]


# --- matching ----------------------------------------------------------------------------------------


def test_each_image_is_decoded_once(matcher, images, pairs, tmp_path, monkeypatch):
    read: list[str] = []
    original = pair_images.read_image
    monkeypatch.setattr(
        pair_images, "read_image", lambda path, gray: (read.append(path.name), original(path, gray))[1]
    )
    match_dense.main(CONF, pairs, images, tmp_path)
    assert sorted(read) == NAMES


def test_mapping_end_to_end(matcher, images, pairs, tmp_path):
    features, matches = match_dense.main(CONF, pairs, images, tmp_path / "out")
    assert (features.name, matches.name) == ("feats_matches-fake.h5", "matches-fake_pairs.h5")
    assert sorted(path.name for path in features.parent.iterdir()) == sorted([features.name, matches.name])
    grid = {(x, y) for x in range(0, 64, 8) for y in range(0, 48, 8)}
    with FeatureReader(features) as reader, MatchReader(matches) as match_reader:
        for name in NAMES:
            assert reader.keypoints(name).dtype == np.float32 and reader.get(name, "scores").shape == (48,)
        # Bins of one pixel are centred between pixel centres.
        assert {tuple(k) for k in reader.keypoints("b.png")} == {(x + 0.5, y + 0.5) for x, y in grid}
        for pair in (("a.png", "b.png"), ("a.png", "c.png"), ("b.png", "c.png")):
            index, scores = match_reader.get(*pair)
            assert len(index) == 48 and scores.dtype == np.float16
            one, two = (reader.keypoints(name)[index[:, i]] for i, name in enumerate(pair))
            assert np.abs(one - two).max() <= 1
    record = read_all(matches)
    assert record["a.png/b.png/matches0"].dtype == np.int32
    np.testing.assert_array_equal(
        record["a.png/b.png/keypoints0"], record["a.png/b.png/keypoints1"] + np.float32(0.125)
    )


def test_max_kps_keeps_the_best(matcher, images, pairs, tmp_path):
    features, matches = match_dense.main(CONF, pairs, images, tmp_path, max_kps=10)
    with FeatureReader(features) as reader:
        # The scores of the matcher grow along rows and columns: the last ten grid points.
        assert {tuple(k) for k in reader.keypoints("a.png")} == {
            *((x + 0.5, 40.5) for x in range(0, 64, 8)),
            (56.5, 32.5),
            (48.5, 32.5),
        }
    with MatchReader(matches) as reader:
        assert len(reader.get("a.png", "b.png")[0]) == 10


def test_localization_keeps_query_positions_and_map_keypoints(matcher, images, tmp_path):
    reference = tmp_path / "reference.h5"
    anchors = np.array([[8, 8], [16.5, 8], [30, 30]], np.float32)
    with H5Writer(reference) as writer:
        for name in ("b.png", "c.png"):
            writer.write(name, {"keypoints": anchors})
    before = reference.read_bytes()
    pairs = write_pairs(tmp_path / "queries.txt", "a.png b.png", "a.png c.png")
    features, matches = match_dense.main(CONF, pairs, images, tmp_path, features_ref=reference, max_kps=None)
    assert reference.read_bytes() == before and list_names(features) == ["a.png"]
    with FeatureReader(features) as reader, MatchReader(matches) as match_reader:
        keypoints = reader.keypoints("a.png")
        assert len(keypoints) == 48 and {tuple(k % 8) for k in keypoints} == {(0.25, 0.25)}
        index, _ = match_reader.get("a.png", "c.png")
        assert {(tuple(keypoints[i]), j) for i, j in index} == {((8.25, 8.25), 0), ((16.25, 8.25), 1)}


def test_image_that_has_keypoints_is_not_the_refined_one(matcher, images, tmp_path):
    reference = tmp_path / "reference.h5"
    with H5Writer(reference) as writer:
        writer.write("a.png", {"keypoints": np.zeros((1, 2), np.float32)})
    pairs = write_pairs(tmp_path / "pairs.txt", "a.png b.png")
    _, matches = match_dense.main(CONF, pairs, images, tmp_path, features_ref=[reference])
    record = read_all(matches)
    assert record["a.png/b.png/keypoints0"][0].tolist() == [0.125, 0.125]
    assert record["a.png/b.png/keypoints1"][0].tolist() == [0.25, 0.25]
    assert len(record["a.png/b.png/matches0"]) == 1


def test_masks_drop_matches_of_either_image(matcher, images, pairs, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    left = np.full((24, 32), 255, np.uint8)  # half the resolution of the image
    left[:, :16] = 0
    cv2.imwrite(str(masks / "b.png.png"), left)
    _, matches = match_dense.main(CONF, pairs, images, tmp_path, mask_dir=masks)
    record = read_all(matches)
    assert record["a.png/b.png/keypoints1"][:, 0].min() == 32.125
    assert record["b.png/c.png/keypoints0"][:, 0].min() == 32.25
    assert len(record["a.png/b.png/scores"]) == 24 and len(record["a.png/c.png/scores"]) == 48


@pytest.mark.parametrize("batched", [True, False])
def test_batches_give_the_files_of_single_pairs(matcher, images, tmp_path, batched):
    rng = np.random.default_rng(1)
    cv2.imwrite(str(images / "tall.png"), rng.integers(0, 255, (64, 40), np.uint8))
    names = [*NAMES, "tall.png"]
    lines = [f"{a} {b}" for i, a in enumerate(names) for b in names[i + 1 :]]
    pairs = write_pairs(tmp_path / "pairs.txt", *lines)
    single = match_dense.main(CONF, pairs, images, tmp_path / "single")
    assert matcher.batch_sizes == [1] * 6
    matcher.batch_sizes.clear()
    matcher.batched = batched
    batch = match_dense.main(CONF, pairs, images, tmp_path / "batch", batch_size=2)
    assert sorted(matcher.batch_sizes) == ([1, 1, 2, 2] if batched else [1] * 6)
    for one, two in zip(single, batch, strict=True):
        assert_same_records(one, two)


def test_pairs_without_matches_are_stored(matcher, images, pairs, tmp_path, monkeypatch):
    empty = {key: torch.zeros(0, 2) for key in ("keypoints0", "keypoints1")} | {"scores": torch.zeros(0)}
    monkeypatch.setattr(matcher, "forward", lambda data: empty)
    features, matches = match_dense.main(CONF, pairs, images, tmp_path)
    with FeatureReader(features) as reader:
        assert reader.keypoints("a.png").shape == (0, 2)
    with MatchReader(matches) as reader:
        assert len(reader.get("b.png", "c.png")[0]) == 0


# --- resuming ----------------------------------------------------------------------------------------


def kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["matching", "aggregation", "assignment", "clean_up"])
def test_a_killed_run_continues_to_the_same_files(stage, matcher, images, pairs, tmp_path, monkeypatch):
    expected = match_dense.main(CONF, pairs, images, tmp_path / "whole")
    matcher.batch_sizes.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if stage == "matching":
            matcher.fail_after = 2
        elif stage == "aggregation":
            calls = []

            def aggregate_once(*args: Any) -> Any:
                calls.append(args)
                return original(*args) if len(calls) == 1 else kill()

            original = match_dense.aggregate
            patch.setattr(match_dense, "aggregate", aggregate_once)
        elif stage == "assignment":
            patch.setattr(match_dense, "assign_matches", kill)
        else:
            patch.setattr(Path, "unlink", kill_unless_temporary)
        match_dense.main(CONF, pairs, images, tmp_path / "killed")
    matcher.fail_after = None
    num_before = len(matcher.batch_sizes)
    result = match_dense.main(CONF, pairs, images, tmp_path / "killed")
    assert num_before == (2 if stage == "matching" else 3)
    assert len(matcher.batch_sizes) == 3
    for one, two in zip(expected, result, strict=True):
        assert_same_records(one, two)
    assert not match_dense.raw_path(result[1]).exists()


def kill_unless_temporary(path: Path, missing_ok: bool = False) -> None:
    if path.name.endswith(".raw.h5"):
        raise KeyboardInterrupt
    if path.exists():
        path.rename(path.with_name(f"{path.name}.removed"))


def test_new_pairs_extend_the_files(matcher, images, pairs, tmp_path):
    features, matches = match_dense.main(
        CONF, write_pairs(tmp_path / "first.txt", "a.png b.png"), images, tmp_path,
        matches=tmp_path / "m.h5",
    )  # fmt: skip
    before, size = read_all(features), matches.stat().st_size
    match_dense.main(CONF, pairs, images, tmp_path, matches=matches)
    assert matcher.batch_sizes == [1, 1, 1]
    after = read_all(features)
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    assert list_names(matches) == ["a.png/b.png", "a.png/c.png", "b.png/c.png"]
    # Nothing is rewritten: three pairs take less than three times the file of one.
    assert matches.stat().st_size < 3.1 * size
    match_dense.main(CONF, pairs, images, tmp_path, matches=matches)
    assert matcher.batch_sizes == [1, 1, 1]


def test_overwrite_makes_everything_again_without_growing(matcher, images, pairs, tmp_path):
    expected = match_dense.main(CONF, pairs, images, tmp_path / "once")
    match_dense.main(CONF, pairs, images, tmp_path / "twice", max_kps=5)
    result = match_dense.main(CONF, pairs, images, tmp_path / "twice", overwrite=True)
    sizes = [path.stat().st_size for path in result]
    for one, two in zip(expected, result, strict=True):
        assert_same_records(one, two)
    match_dense.main(CONF, pairs, images, tmp_path / "twice", overwrite=True)
    assert [path.stat().st_size for path in result] == sizes


def test_overwriting_a_pair_in_the_other_order_is_refused(matcher, images, tmp_path):
    """The old matches would stay in the file and point to keypoints that are no more."""
    write_pairs(tmp_path / "forth.txt", "a.png b.png")
    write_pairs(tmp_path / "back.txt", "b.png a.png")
    matches = tmp_path / "matches.h5"
    files = {"matches": matches, "features": tmp_path / "features.h5"}
    match_dense.main(CONF, tmp_path / "forth.txt", images, **files)
    before = read_all(matches)
    with pytest.raises(InputError, match=r"matches\.h5 holds 1 pair.*'a\.png', 'b\.png'.*Delete the file"):
        match_dense.main(CONF, tmp_path / "back.txt", images, **files, overwrite=True)
    assert read_all(matches).keys() == before.keys()
    match_dense.main(CONF, tmp_path / "forth.txt", images, **files, overwrite=True)


# --- bad input ---------------------------------------------------------------------------------------


def test_unreadable_image_is_named_and_other_pairs_are_kept(matcher, images, pairs, tmp_path):
    good = (images / "b.png").read_bytes()
    (images / "b.png").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"1 image\(s\).*\n.*b\.png is empty"):
        match_dense.main(CONF, pairs, images, tmp_path)
    assert list_names(tmp_path / "matches-fake_pairs.raw.h5") == ["a.png/c.png"]
    (images / "b.png").write_bytes(good)
    _, matches = match_dense.main(CONF, pairs, images, tmp_path)
    assert len(list_names(matches)) == 3 and len(matcher.batch_sizes) == 3


def test_missing_image_and_empty_list_and_key_collision(matcher, images, tmp_path):
    cases = [
        ("a.png missing.png", MissingInputError, "missing.png"),
        ("", InputError, "is empty"),
        ("a.png x/y.png\na.png x-y.png", InputError, "same key 'x-y.png'"),
    ]
    for text, error, message in cases:
        with pytest.raises(error, match=message):
            match_dense.main(CONF, write_pairs(tmp_path / "bad.txt", text), images, tmp_path)


def test_missing_reference_file_and_missing_folder(matcher, images, pairs, tmp_path):
    with pytest.raises(MissingInputError, match=r"none\.h5"):
        match_dense.main(CONF, pairs, images, tmp_path, features_ref=tmp_path / "none.h5")
    with pytest.raises(InputError, match="export_dir"):
        match_dense.main(CONF, pairs, images)
    with pytest.raises(InputError, match="matches"):
        match_dense.main(CONF, pairs, images, features=tmp_path / "f.h5")


def test_pair_that_was_not_matched_is_named(tmp_path):
    raw = tmp_path / "m.raw.h5"
    record = {f"keypoints{i}": np.zeros((1, 2), np.float32) for i in (0, 1)} | {"scores": np.ones(1)}
    with H5Writer(raw) as writer:
        writer.write("a/b", record)
    with pytest.raises(MissingInputError, match=r"a/c"):
        match_dense.aggregate_matches(CONF, [("a", "b"), ("a", "c")], raw, tmp_path / "f.h5")


# --- command line ------------------------------------------------------------------------------------


def test_file_names_come_from_the_chosen_conf(matcher, images, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    match_dense.cli(
        ["--pairs", str(pairs), "--image_dir", str(images), "--export_dir", "out", "--conf", "loftr_aachen",
         "--batch_size", "2", "--max_kps", "7"]
    )  # fmt: skip
    names = {"feats_matches-loftr_aachen.h5", "matches-loftr_aachen_pairs.h5"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert {path.name for path in tmp_path.iterdir()} == {"images", "pairs.txt", "out"}
    with FeatureReader(tmp_path / "out" / "feats_matches-loftr_aachen.h5") as reader:
        assert len(reader.keypoints("a.png")) == 7


def test_parser_reads_files_and_none():
    args = match_dense.build_parser().parse_args(
        ["--pairs", "p", "--image_dir", "i", "--matches", "m.h5", "--features", "f.h5", "--max_kps", "none",
         "--features_ref", "r.h5", "s.h5"]
    )  # fmt: skip
    assert args.max_kps is None and args.matches == Path("m.h5") and args.features == "f.h5"
    assert args.features_ref == [Path("r.h5"), Path("s.h5")]
