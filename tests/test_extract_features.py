"""The extraction stage: what is stored, what is resumed, and what happens to bad images."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import cv2
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from hloc_ext import extract_features, match_features, pairs_from_exhaustive
from hloc_ext.confs import extractors, matchers
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.extract_features import keypoints_in_mask, prepare_image, to_record
from hloc_ext.formats.atomic import DiskFullError, UnwritableError
from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.h5 import list_names
from hloc_ext.formats.matches import get_matches
from tests.room import Room

SIFT = extractors["sift"]
VLAD = {**extractors["vlad-rootsift"], "model": {"name": "vlad", "vocabulary": "fit", "num_words": 4}}


def blob_image(x: float, y: float, size: tuple[int, int] = (320, 240), sigma: float = 6) -> np.ndarray:
    """H×W uint8 with one blob centred `x`, `y` from the centre of the top-left pixel."""
    u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return (255 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))).astype(np.uint8)


@pytest.fixture
def images(tmp_path: Path, room: Room) -> Path:
    """Three images, one in a nested folder with a non-ASCII name."""
    folder = tmp_path / "images"
    target = folder / "Straße" / "größe 1"
    target.mkdir(parents=True)
    for name, copy in zip(room.map_names, ("a.png", "b.png", "Straße/größe 1/ü.png"), strict=False):
        (folder / copy).write_bytes((room.images / name).read_bytes())
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the images that a model got, in place of SIFT."""
    seen: list[tuple[int, ...]] = []

    class Counter(torch.nn.Module):
        def forward(self, data: dict[str, Any]) -> dict[str, torch.Tensor]:
            seen.append(tuple(data["image"].shape))
            keypoints = torch.tensor([[[1.0, 2.0], [10.0, 20.0]]])
            return {"keypoints": keypoints, "descriptors": torch.ones(1, 3, 2), "scores": torch.ones(1, 2)}

    monkeypatch.setattr(extract_features, "load_model", lambda kind, conf: Counter())
    return seen


def keypoint_of(path: Path, name: str) -> np.ndarray:
    """The largest keypoint of an image, (x, y)."""
    with FeatureReader(path) as features:
        return features.keypoints(name)[features.get(name, "scales").argmax()]


@pytest.mark.parametrize("resize_max, tolerance", [(None, 0.1), (160, 0.2), (200, 0.2)])
def test_a_blob_keeps_its_place_when_the_image_is_resized(tmp_path, resize_max, tolerance):
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "blob.png"), blob_image(100, 80))
    conf = {**SIFT, "preprocessing": {"grayscale": True, "resize_max": resize_max}}
    path = extract_features.main(conf, folder, tmp_path)
    np.testing.assert_allclose(keypoint_of(path, "blob.png"), [100, 80], atol=tolerance)
    with FeatureReader(path) as features:
        np.testing.assert_array_equal(features.get("blob.png", "image_size"), [320, 240])
        np.testing.assert_allclose(features.get("blob.png", "scales").max(), 6, rtol=0.15)
        # Uncertainty grows with the pixels of the file per pixel seen.
        assert features.uncertainty("blob.png") == pytest.approx(320 / (resize_max or 320))


def test_keypoints_are_float32_and_descriptors_half_if_asked(images, tmp_path):
    half = extract_features.main(SIFT, images, feature_path=tmp_path / "half.h5")
    full = extract_features.main(SIFT, images, feature_path=tmp_path / "full.h5", as_half=False)
    with h5py.File(half) as a, h5py.File(full) as b:
        a, b = a["a.png"], b["a.png"]
        assert a["keypoints"].dtype == b["keypoints"].dtype == b["descriptors"].dtype == np.float32
        assert a["descriptors"].dtype == np.float16
        np.testing.assert_array_equal(a["keypoints"], b["keypoints"])
        np.testing.assert_allclose(a["descriptors"], b["descriptors"], atol=2e-4)
        assert a["scores"].dtype == a["scales"].dtype == np.float32


def test_all_images_are_stored_under_their_names(images, tmp_path):
    path = extract_features.main(SIFT, images, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "feats-sift.h5"
    assert list_names(path) == ["Straße/größe 1/ü.png", "a.png", "b.png"]
    with FeatureReader(path) as features:
        assert all(len(features.keypoints(name)) > 500 for name in list_names(path))


def test_only_missing_images_are_extracted(images, tmp_path, calls):
    path = tmp_path / "features.h5"
    extract_features.main(SIFT, images, feature_path=path, image_list=["b.png"])
    assert len(calls) == 1
    extract_features.main(SIFT, images, feature_path=path)
    assert len(calls) == 3
    extract_features.main(SIFT, images, feature_path=path)
    assert len(calls) == 3
    extract_features.main(SIFT, images, feature_path=path, overwrite=True)
    assert len(calls) == 6
    assert len(list_names(path)) == 3


def test_overwrite_replaces_the_record(images, tmp_path, calls):
    path = extract_features.main(SIFT, images, tmp_path)
    (images / "a.png").write_bytes(cv2.imencode(".png", np.zeros((50, 80), np.uint8))[1].tobytes())
    extract_features.main(SIFT, images, tmp_path, image_list=["a.png"])
    with FeatureReader(path) as features:
        np.testing.assert_array_equal(features.get("a.png", "image_size"), [480, 360])
    extract_features.main(SIFT, images, tmp_path, image_list=["a.png"], overwrite=True)
    with FeatureReader(path) as features:
        np.testing.assert_array_equal(features.get("a.png", "image_size"), [80, 50])


@pytest.mark.parametrize("grayscale, channels", [(True, 1), (False, 3)])
def test_grey_and_colour_images_become_what_the_network_takes(tmp_path, calls, grayscale, channels):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / "grey.png"), rng.integers(0, 255, (40, 60), np.uint8))
    cv2.imwrite(str(folder / "colour.png"), rng.integers(0, 255, (40, 60, 3), np.uint8))
    cv2.imwrite(str(folder / "deep.png"), rng.integers(0, 65535, (40, 60), np.uint16))
    Image.fromarray(rng.integers(0, 255, (40, 60, 4), np.uint8), "CMYK").save(folder / "cmyk.jpg")
    conf = {**SIFT, "preprocessing": {"grayscale": grayscale}}
    path = extract_features.main(conf, folder, tmp_path)
    assert calls == [(1, channels, 40, 60)] * 4
    assert list_names(path) == ["cmyk.jpg", "colour.png", "deep.png", "grey.png"]


def test_prepared_images_have_the_values_of_the_file(tmp_path):
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[1, 2] = [255, 102, 51]
    cv2.imwrite(str(tmp_path / "a.png"), rgb[..., ::-1])
    prepared = prepare_image(tmp_path / "a.png", {"grayscale": False})
    torch.testing.assert_close(prepared.tensor[0, :, 1, 2], torch.tensor([1.0, 0.4, 0.2]))
    from_array = prepare_image(rgb, {"grayscale": False})
    torch.testing.assert_close(from_array.tensor, prepared.tensor)
    np.testing.assert_array_equal(prepared.original_size, [6, 4])
    grey = prepare_image(rgb, {"grayscale": True}).tensor
    assert grey.shape == (1, 1, 4, 6)
    assert grey[0, 0, 1, 2] == pytest.approx((0.299 * 255 + 0.587 * 102 + 0.114 * 51) / 255, abs=0.003)
    assert prepare_image(np.full((4, 6), 51, np.uint8), {}).tensor.unique().tolist() == [pytest.approx(0.2)]


@pytest.mark.parametrize(
    "options, size",
    [
        ({"resize_max": 50}, (50, 30)),
        ({"resize_max": 200}, (100, 60)),
        ({"resize_max": 200, "resize_force": True}, (200, 120)),
        ({"resize_max": 1}, (1, 1)),
    ],
)
def test_resizing(options, size):
    prepared = prepare_image(np.zeros((60, 100), np.uint8), {"grayscale": True, **options})
    assert tuple(prepared.tensor.shape[:-3:-1]) == size
    np.testing.assert_allclose(prepared.scale, [100 / size[0], 60 / size[1]])


@pytest.mark.parametrize(
    "image", [np.zeros((4, 6), np.float32), np.zeros((4, 6, 4), np.uint8), np.zeros((1, 3, 4, 6), np.uint8)]
)
def test_arrays_that_are_no_8_bit_image_are_refused(image):
    with pytest.raises(InputError, match="uint8"):
        prepare_image(image, {})


def test_bad_images_do_not_stop_the_others(images, tmp_path):
    (images / "empty.png").write_bytes(b"")
    (images / "text.jpg").write_text("no image")
    (images / "cut.png").write_bytes((images / "a.png").read_bytes()[:2000])
    path = tmp_path / "feats-sift.h5"
    with pytest.raises(CorruptFileError) as caught:
        extract_features.main(SIFT, images, tmp_path)
    assert "empty.png" in str(caught.value) and "text.jpg" in str(caught.value)
    assert "of the other" in str(caught.value)
    assert {"a.png", "b.png", "Straße/größe 1/ü.png"} <= set(list_names(path))
    assert "empty.png" not in list_names(path)


def test_bad_images_can_be_skipped(images, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hloc_ext"), "propagate", True)
    (images / "empty.png").write_bytes(b"")
    path = extract_features.main(SIFT, images, tmp_path, skip_unreadable=True)
    assert len(list_names(path)) == 3
    assert "1 image(s) could not be read" in caplog.text and "empty.png" in caplog.text


def test_empty_and_missing_folders(tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(MissingInputError, match=r"No image in .*nothing"):
        extract_features.main(SIFT, tmp_path / "nothing", tmp_path)
    with pytest.raises(MissingInputError, match="nowhere does not exist"):
        extract_features.main(SIFT, tmp_path / "nowhere", tmp_path)
    with pytest.raises(MissingInputError, match="feature_path"):
        extract_features.main(SIFT, tmp_path)


def test_lists_of_images(images, tmp_path, calls):
    (tmp_path / "list_1.txt").write_text("a.png SIMPLE_PINHOLE 480 360 420 240 180\n# b.png\n")
    (tmp_path / "list_2.txt").write_text("Straße/größe1/ü.png\n")
    (images / "Straße" / "größe 1").rename(images / "Straße" / "größe1")
    path = extract_features.main(SIFT, images, tmp_path, image_list=tmp_path / "list_*.txt")
    assert list_names(path) == ["Straße/größe1/ü.png", "a.png"]
    # Named twice, extracted once; pathlib's form of a name is HLOC's.
    path = extract_features.main(
        SIFT, images, feature_path=tmp_path / "b.h5", image_list=["./b.png", "b.png", Path("b.png")]
    )
    assert list_names(path) == ["b.png"]
    assert len(calls) == 3
    with pytest.raises(MissingInputError, match=r"2 listed image\(s\) are not in .*: c.png, d.png"):
        extract_features.main(SIFT, images, tmp_path, image_list=["a.png", "c.png", "d.png"])


def test_exif_orientation_is_ignored_and_said(images, tmp_path, caplog, monkeypatch, room):
    monkeypatch.setattr(logging.getLogger("hloc_ext"), "propagate", True)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(room.images / "img00.png") as image:
        image.save(images / "rotated.png", exif=exif)
    path = extract_features.main(SIFT, images, tmp_path, image_list=["a.png", "rotated.png"])
    assert "1 image(s) carry an EXIF orientation" in caplog.text and "rotated.png" in caplog.text
    with FeatureReader(path) as features:
        np.testing.assert_array_equal(features.keypoints("rotated.png"), features.keypoints("a.png"))
        np.testing.assert_array_equal(features.get("rotated.png", "image_size"), [480, 360])


@pytest.mark.parametrize("factor", [1, 0.5, 2])
def test_masks_of_any_resolution(images, tmp_path, factor):
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((int(360 * factor), int(480 * factor)), np.uint8)
    mask[:, : mask.shape[1] // 2] = 255  # the left half is kept
    cv2.imwrite(str(masks / "a.png.png"), mask)
    everything = extract_features.main(SIFT, images, feature_path=tmp_path / "all.h5")
    masked = extract_features.main(SIFT, images, feature_path=tmp_path / "masked.h5", mask_dir=masks)
    with FeatureReader(everything) as a, FeatureReader(masked) as b:
        keep = a.keypoints("a.png")[:, 0] < 239.5
        assert 100 < keep.sum() < len(keep) - 100
        for key, value in b.record("a.png").items():
            expected = a.get("a.png", key)
            if key == "descriptors":
                expected = expected[:, keep]
            elif key != "image_size":
                expected = expected[keep]
            np.testing.assert_array_equal(value, expected)
        assert b.uncertainty("a.png") == a.uncertainty("a.png")
        np.testing.assert_array_equal(a.keypoints("b.png"), b.keypoints("b.png"))  # no mask


def test_pixels_of_masks():
    mask = np.array([[0, 1], [1, 0]], np.uint8)
    size = np.array([4, 4])
    points = np.array([[0, 0], [1.49, 1.49], [1.51, 0], [-0.5, 3.5], [3.5, 3.5], [9, 0]])
    np.testing.assert_array_equal(
        keypoints_in_mask(points, mask, size), [False, False, True, True, False, True]
    )


def test_an_unreadable_mask_is_reported_like_an_image(images, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "b.png.png").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"b.png.png is empty"):
        extract_features.main(SIFT, images, tmp_path, mask_dir=masks)
    assert list_names(tmp_path / "feats-sift.h5") == ["Straße/größe 1/ü.png", "a.png"]


def test_a_mask_leaves_global_descriptors_alone():
    image = prepare_image(np.zeros((10, 10), np.uint8), {"grayscale": True})
    prediction = {
        "keypoints": torch.tensor([[[1.0, 1.0], [8.0, 8.0]]]),
        "global_descriptor": torch.tensor([[0.6, 0.8]]),  # as long as there are keypoints
    }
    mask = np.zeros((10, 10), np.uint8)
    mask[:5] = 1
    record, attributes = to_record(prediction, image, 2.0, as_half=False, mask=mask)
    np.testing.assert_array_equal(record["keypoints"], [[1, 1]])
    np.testing.assert_allclose(record["global_descriptor"], [0.6, 0.8])
    assert attributes == {"keypoints": {"uncertainty": 2.0}}


def test_a_black_image_passes_extraction_and_matching(images, tmp_path):
    cv2.imwrite(str(images / "black.png"), np.zeros((40, 60), np.uint8))
    path = extract_features.main(SIFT, images, tmp_path, image_list=["a.png", "black.png"])
    with FeatureReader(path) as features:
        assert features.keypoints("black.png").shape == (0, 2)
        assert features.get("black.png", "descriptors").shape == (128, 0)
    pairs_from_exhaustive.main(tmp_path / "pairs.txt", features=path)
    for name in ("NN-ratio", "NN-mutual"):
        matches = match_features.main(matchers[name], tmp_path / "pairs.txt", path, matches=tmp_path / "m.h5")
        assert get_matches(matches, "black.png", "a.png")[0].shape == (0, 2)


def test_workers_do_not_change_the_file(images, tmp_path):
    files = [
        extract_features.main(SIFT, images, feature_path=tmp_path / f"{n}.h5", num_workers=n) for n in (1, 3)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


class TestBatches:
    """A model with a batch size gets that many images of one size at once."""

    @pytest.fixture
    def batches(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], tuple[int, ...]]]:
        """Names and shapes of the batches that a model got; its descriptor is the first pixel."""
        seen: list[tuple[list[str], tuple[int, ...]]] = []

        class Corner(torch.nn.Module):
            batch_size, takes_names = 2, True

            def prepare(self, images: torch.Tensor) -> torch.Tensor:
                return torch.nn.functional.interpolate(images, size=(4, 4))

            def forward(self, data: dict[str, Any]) -> dict[str, torch.Tensor]:
                seen.append((data["name"], tuple(data["image"].shape)))
                return {"global_descriptor": data["image"][:, :, 0, 0]}

        monkeypatch.setattr(extract_features, "load_model", lambda kind, conf: Corner())
        return seen

    CONF: ClassVar[dict[str, Any]] = {**SIFT, "preprocessing": {"grayscale": False}}

    def test_each_image_gets_its_own_record(self, tmp_path, batches):
        (tmp_path / "images").mkdir()
        for number in range(5):
            cv2.imwrite(
                str(tmp_path / f"images/{number}.png"), np.full((20, 30 + number), 50 * number, np.uint8)
            )
        (tmp_path / "images" / "1.png").write_bytes(b"")
        path = extract_features.main(self.CONF, tmp_path / "images", tmp_path, skip_unreadable=True)
        assert batches == [
            (["0.png"], (1, 3, 4, 4)),
            (["2.png", "3.png"], (2, 3, 4, 4)),
            (["4.png"], (1, 3, 4, 4)),
        ]
        with FeatureReader(path) as features:
            for number in (0, 2, 3, 4):
                value = features.get(f"{number}.png", "global_descriptor")
                np.testing.assert_allclose(value, np.full(3, 50 * number / 255), atol=1e-3)
                np.testing.assert_array_equal(features.get(f"{number}.png", "image_size"), [30 + number, 20])
        assert list_names(path) == ["0.png", "2.png", "3.png", "4.png"]

    def test_of_unreadable_images_only_is_not_run(self, tmp_path, batches):
        (tmp_path / "images").mkdir()
        for number in range(3):
            (tmp_path / "images" / f"{number}.png").write_bytes(b"")
        with pytest.raises(CorruptFileError, match=r"3 image\(s\) could not be read"):
            extract_features.main(self.CONF, tmp_path / "images", tmp_path)
        assert batches == []


class TestFittedVocabulary:
    """A global descriptor that learns its vocabulary from the map's images."""

    def test_is_learnt_once_and_used_for_later_images(self, room, tmp_path):
        path = tmp_path / "global.h5"
        names = room.map_names[:3]
        extract_features.main(VLAD, room.images, feature_path=path, image_list=names)
        vocabulary = tmp_path / "global.vocabulary.safetensors"
        learnt = vocabulary.read_bytes()
        extract_features.main(VLAD, room.images, feature_path=path, image_list=room.query_names[:1])
        assert vocabulary.read_bytes() == learnt
        with FeatureReader(path) as features:
            query = features.get(room.query_names[0], "global_descriptor").astype(float)
            assert query.shape == (4 * 128,)
            assert np.linalg.norm(query) == pytest.approx(1, abs=1e-3)

    def test_that_is_lost_is_not_replaced_by_another(self, room, tmp_path):
        path = tmp_path / "global.h5"
        names = room.map_names[:3]
        extract_features.main(VLAD, room.images, feature_path=path, image_list=names[:2])
        (tmp_path / "global.vocabulary.safetensors").unlink()
        with pytest.raises(MissingInputError, match=r"global\.vocabulary\.safetensors, which is gone"):
            extract_features.main(VLAD, room.images, feature_path=path, image_list=names)
        # All records at once may be made again.
        extract_features.main(VLAD, room.images, feature_path=path, image_list=names[:2], overwrite=True)

    def test_is_learnt_from_the_readable_images(self, room, images, tmp_path):
        (images / "empty.png").write_bytes(b"")
        path = extract_features.main(VLAD, images, tmp_path, skip_unreadable=True)
        assert len(list_names(path)) == 3


class TestInterruptions:
    """Nothing that was stored is lost."""

    SCRIPT = """
import sys, time
import torch
from hloc_ext import extract_features
from hloc_ext.formats.h5 import H5Writer

class Slow(torch.nn.Module):
    def forward(self, data):
        if data["image"].max() > 0.9:
            print("last", flush=True)
            time.sleep(60)
        return {"keypoints": torch.ones(1, 1, 2), "descriptors": torch.ones(1, 2, 1)}

class Eager(H5Writer):
    def write(self, *args):
        super().write(*args)
        self.flush()

extract_features.load_model = lambda kind, conf: Slow()
extract_features.H5Writer = Eager
extract_features.main(extract_features.confs["sift"], sys.argv[1], sys.argv[2], num_workers=1)
"""

    def test_a_killed_stage_goes_on(self, tmp_path, calls):
        folder = tmp_path / "images"
        folder.mkdir()
        for index in range(4):
            cv2.imwrite(str(folder / f"{index}.png"), np.full((20, 20), 255 if index == 3 else 9, np.uint8))
        process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT, str(folder), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[1],
        )
        assert process.stdout is not None and process.stdout.readline() == b"last\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        path = extract_features.main(SIFT, folder, tmp_path)
        assert len(calls) == 1, "only the image that was being processed is extracted again"
        assert list_names(path) == ["0.png", "1.png", "2.png", "3.png"]

    def test_an_error_of_the_model_keeps_what_was_done(self, images, tmp_path, monkeypatch):
        class Failing(torch.nn.Module):
            def forward(self, data: dict[str, Any]) -> dict[str, torch.Tensor]:
                if (images / "stop").exists():
                    raise RuntimeError("out of memory")
                (images / "stop").touch()
                return {"keypoints": torch.ones(1, 1, 2), "descriptors": torch.ones(1, 2, 1)}

        monkeypatch.setattr(extract_features, "load_model", lambda kind, conf: Failing())
        with pytest.raises(RuntimeError, match="out of memory"):
            extract_features.main(SIFT, images, tmp_path)
        assert list_names(tmp_path / "feats-sift.h5") == ["Straße/größe 1/ü.png"]

    def test_a_full_disk_is_named_and_what_was_stored_stays(self, room, small_disk):
        names = room.map_names
        path = extract_features.main(SIFT, room.images, small_disk, image_list=names[:1])
        with pytest.raises(DiskFullError, match=r"feats-sift.*free some space"):
            extract_features.main(SIFT, room.images, small_disk, image_list=names[:5])
        with FeatureReader(path) as features:
            assert list_names(path) == names[:1]
            assert len(features.keypoints(names[0])) > 500

    def test_a_read_only_folder_is_named(self, images, read_only_folder):
        with pytest.raises(UnwritableError, match="Choose another output folder"):
            extract_features.main(SIFT, images, read_only_folder)

    def test_a_truncated_feature_file_is_named(self, images, tmp_path):
        path = extract_features.main(SIFT, images, tmp_path)
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(CorruptFileError, match=r"feats-sift.h5 is truncated"):
            extract_features.main(SIFT, images, tmp_path)


def test_command_line(images, tmp_path):
    path = tmp_path / "features.h5"
    extract_features.cli(
        f"--image_dir {images} --conf sift --feature_path {path} --no-as_half --num_workers 1".split()
    )
    with h5py.File(path) as fd:
        assert fd["a.png/descriptors"].dtype == np.float32
    extract_features.cli(["--image_dir", str(images), "--export_dir", str(tmp_path / "out")])
    assert len(list_names(tmp_path / "out" / "feats-sift.h5")) == 3
    assert os.listdir(tmp_path / "out") == ["feats-sift.h5"]


def test_options_of_the_model_from_the_command_line(images, tmp_path):
    arguments = ["--image_dir", str(images), "--export_dir", str(tmp_path), "--conf", "sift"]
    extract_features.cli([*arguments, "--option", "max_keypoints=7", "--option", "descriptor=sift"])
    with FeatureReader(tmp_path / "feats-sift.h5") as features:
        assert len(features.keypoints("a.png")) == 7
        assert features.get("a.png", "descriptors").min() == 0
    assert "max_keypoints" not in extractors["sift"]["model"]
    with pytest.raises(InputError, match="has no option"):
        extract_features.cli([*arguments, "--overwrite", "--option", "max_keypoint=7"])
    with pytest.raises(SystemExit):
        extract_features.cli([*arguments, "--option", "max_keypoints"])


def test_unknown_conf_is_refused_with_the_known_ones(images, tmp_path, monkeypatch):
    monkeypatch.setattr("hloc_ext.host.available_hosts", list)
    with pytest.raises(InputError, match=r"no conf 'sitf'.*'sift'"):
        extract_features.cli(["--image_dir", str(images), "--export_dir", str(tmp_path), "--conf", "sitf"])
