"""Images of every kind that users have, and the broken ones."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats.images import exif_orientation, list_images, prefetch, read_image, resize_image

ROOT = Path(__file__).parents[2]


def _smooth_image(height: int = 40, width: int = 60) -> np.ndarray:
    """RGB, smooth, so that JPEG changes it little."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 4, 200 - rows - columns], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".webp"])
def test_colours_and_names_of_lossless_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "Zürich" / "夜 景" / f"ä{suffix}"
    path.parent.mkdir(parents=True)
    image = _smooth_image()
    Image.fromarray(image).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    read = read_image(path)
    assert read.dtype == np.uint8
    assert read.flags["C_CONTIGUOUS"]
    assert np.array_equal(read, image)
    grey = read_image(path, grayscale=True)
    assert grey.shape == (40, 60)
    assert np.abs(grey - image @ [0.299, 0.587, 0.114]).max() < 1.5  # OpenCV's rounding


def test_greyscale_images_become_three_equal_channels(tmp_path: Path) -> None:
    grey = _smooth_image()[:, :, 1]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[:, :, None], 3, 2))
    assert np.array_equal(read_image(tmp_path / "grey.png", grayscale=True), grey)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    image = _smooth_image()
    alpha = np.full((40, 60, 1), 7, np.uint8)
    Image.fromarray(np.concatenate([image, alpha], -1)).save(tmp_path / "alpha.png")
    assert np.array_equal(read_image(tmp_path / "alpha.png"), image)


def test_sixteen_bits_are_reduced_to_eight(tmp_path: Path) -> None:
    deep = np.array([[0, 255, 256, 30_000, 65_535]], np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    assert np.abs(read_image(tmp_path / "deep.png", grayscale=True) - deep / 257).max() <= 1
    assert np.abs(read_image(tmp_path / "deep.png")[:, :, 0] - deep / 257).max() <= 1


def test_cmyk_has_the_colours_that_others_see(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    image = _smooth_image()
    Image.fromarray(image).convert("CMYK").save(path, quality=98)
    with Image.open(path) as opened:
        assert opened.mode == "CMYK"
    assert np.abs(read_image(path).astype(int) - image).mean() < 3


def test_the_orientation_tag_is_ignored_as_in_colmap_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "rotated.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    image = _smooth_image()
    Image.fromarray(image).save(path, exif=exif, quality=98)
    assert exif_orientation(path) == 6
    read = read_image(path)
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).mean() < 2
    assert pycolmap.Bitmap.read(path, True).to_array().shape == image.shape
    assert read_image(path, grayscale=True).shape == image.shape[:2]


def test_orientation_is_upright_where_nothing_says_otherwise(tmp_path: Path) -> None:
    image = Image.fromarray(_smooth_image())
    image.save(tmp_path / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 99
    image.save(tmp_path / "odd.jpg", exif=exif)
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "huge.png").write_bytes(_png_header(60_000, 60_000))
    for name in ("plain.png", "odd.jpg", "text.jpg", "huge.png", "missing.jpg"):
        assert exif_orientation(tmp_path / name) == 1


def test_a_missing_an_empty_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"missing\.jpg does not exist"):
        read_image(tmp_path / "missing.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(CorruptFileError, match=r"empty\.jpg is empty \(0 bytes\)"):
        read_image(tmp_path / "empty.jpg")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    with pytest.raises(CorruptFileError, match=r"text\.jpg cannot be decoded"):
        read_image(tmp_path / "text.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(CorruptFileError, match=r"folder\.jpg cannot be read: Is a directory"):
        read_image(tmp_path / "folder.jpg")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(CorruptFileError, match=r"cut\.\w+ cannot be decoded \(truncated"):
        read_image(path)


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_an_image_too_large_for_opencv_is_named(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(_png_header(60_000, 60_000))
    with pytest.raises(CorruptFileError, match=r"huge\.png is too large for OpenCV.*MAX_IMAGE_PIXELS"):
        read_image(tmp_path / "huge.png")


def test_the_limit_of_opencv_can_be_set(tmp_path: Path) -> None:
    Image.fromarray(_smooth_image()).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    code = f"from hloc_ext.formats.images import read_image; print(read_image({path!r}).shape)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENCV_IO_MAX_IMAGE_PIXELS": "2399"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert "a.png is too large for OpenCV" in result.stderr
    environment["OPENCV_IO_MAX_IMAGE_PIXELS"] = "2400"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout == "(40, 60, 3)\n"


def test_other_errors_of_opencv_name_the_image(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a.png").write_bytes(_png_header(4, 4))

    def fail(*_: object) -> None:
        raise cv2.error("out of memory")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(CorruptFileError, match=r"a\.png cannot be decoded: out of memory"):
        read_image(tmp_path / "a.png")


def test_list_images_is_sorted_nested_and_skips_the_rest(tmp_path: Path) -> None:
    names = ["b.JPG", "a/z.png", "a/b/ü.jpeg", "夜/1.TIFF", "a-b.webp"]
    for name in [*names, "a/notes.txt", "._b.jpg", ".hidden.png", "a/b.jpg.part"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert list_images(tmp_path) == sorted([*names, "link/z.png", "link/b/ü.jpeg"])


def test_list_images_without_images(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"folder .*none does not exist"):
        list_images(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(MissingInputError, match=r"No image in .*expected files ending in \.jpg"):
        list_images(tmp_path)


def test_list_images_refuses_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    with pytest.raises(InputError, match="is not UTF-8: rename the file"):
        list_images(tmp_path)


def test_resize_as_hloc() -> None:
    image = np.zeros((4, 4), np.float32)
    image[:, 2:] = 8
    assert resize_image(image, (2, 2)).tolist() == [[0, 8], [0, 8]]
    # Area resampling cannot enlarge: linear is used, which has values between.
    assert resize_image(image, (8, 4))[0].tolist() == cv2.resize(image, (8, 4))[0].tolist()
    assert resize_image(image, (8, 4), "cv2_nearest")[0].tolist() == [0] * 4 + [8] * 4
    pillow = resize_image(image, (2, 2), "pil_box")
    assert pillow.dtype == np.float32
    assert pillow.tolist() == [[0, 8], [0, 8]]
    assert resize_image(_smooth_image(), (30, 20)).shape == (20, 30, 3)


@pytest.mark.parametrize("interpolation", ["cv2_magic", "pil_magic", "area", "torch_area"])
def test_unknown_interpolations_are_named(interpolation: str) -> None:
    with pytest.raises(InputError, match=f"Unknown interpolation '{interpolation}'"):
        resize_image(np.zeros((4, 4)), (2, 2), interpolation)


def test_prefetch_keeps_the_order_and_runs_at_most_so_far_ahead() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def square(number: int) -> int:
        with lock:
            started.append(number)
        return number * number

    values = []
    for value in prefetch(square, range(20), num_workers=3, ahead=5):
        values.append(value)
        assert len(started) <= len(values) + 4
    assert values == [number * number for number in range(20)]
    assert list(prefetch(square, [])) == []


def test_prefetch_raises_the_error_in_its_place() -> None:
    def invert(number: int) -> float:
        return 1 / number

    values = prefetch(invert, [1, 2, 0, 4], num_workers=2)
    assert [next(values), next(values)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_large_jpegs_are_decoded_reduced(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.linspace(0, 200, 320), np.linspace(0, 200, 240))
    picture = np.stack([x, y, x], axis=-1).astype(np.uint8)
    path = tmp_path / "wide.jpg"
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    for least_side, factor in ((None, 1), (240, 1), (121, 1), (120, 2), (31, 4), (30, 8), (1, 8)):
        seen = read_image(path, least_side=least_side)
        assert seen.shape == (240 // factor, 320 // factor, 3)
        expected = cv2.resize(picture, seen.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(seen.astype(int) - expected).mean() < 2
        grey = read_image(path, grayscale=True, least_side=least_side)
        assert grey.shape == seen.shape[:2]
