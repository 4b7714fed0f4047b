"""Folders of photos in memory."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from hloc_ext.datasets.images import load_photos
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos: of value 30, 20 and 10 of red, in an order that is not that of their names."""
    for name, red in (("b/2.png", 30), ("b/1.png", 20), ("a.png", 10)):
        photo = np.zeros((40, 60, 3), np.uint8)
        photo[..., 2] = red  # OpenCV writes blue, green, red
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), photo)
    return tmp_path


def test_photos_are_sorted_and_rgb(folder: Path) -> None:
    photos = load_photos(folder)
    assert [photo[0, 0].tolist() for photo in photos] == [[10, 0, 0], [20, 0, 0], [30, 0, 0]]
    assert all(photo.shape == (40, 60, 3) and photo.dtype == np.uint8 for photo in photos)
    assert [int(photo[0, 0, 0]) for photo in load_photos(str(folder), every=2)] == [10, 30]
    assert [int(photo[0, 0, 0]) for photo in load_photos([folder / "b", folder])] == [20, 30, 10, 20, 30]


def test_large_photos_are_reduced(folder: Path) -> None:
    assert load_photos(folder, max_side=30)[0].shape == (20, 30, 3)
    assert load_photos(folder, max_side=60)[0].shape == (40, 60, 3)


def test_errors_name_the_folder_or_the_file(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(MissingInputError, match=r"No image in .*empty"):
        load_photos(folder / "empty")
    with pytest.raises(MissingInputError, match=r"nowhere does not exist"):
        load_photos([folder, folder / "nowhere"])
    with pytest.raises(InputError, match="every=0"):
        load_photos(folder, every=0)
    (folder / "c.jpg").write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"c\.jpg cannot be decoded"):
        load_photos(folder)
