"""Which photos make the map, which are queries, and what is refused before any work."""

from __future__ import annotations

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image

from hloc_ext.errors import InputError, MissingInputError
from hloc_ext.formats.atomic import UnwritableError
from pipelines.photo_folder import (
    PhotoHeader,
    Photos,
    check_names,
    choose_camera_mode,
    find_photos,
    link_together,
)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "new").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png", "d.png", "new/a.png", "new/e.png"):
        cv2.imwrite(str(folder / name), np.zeros((6, 8), np.uint8))
    return folder


def find(images, queries=None, query_every=None):
    photos = find_photos(images, queries, query_every, images.parent / "outputs")
    return photos.root, photos.map_names, photos.query_names


def test_all_photos_make_the_map(images):
    everything = ["a.png", "b.png", "c.png", "d.png", "new/a.png", "new/e.png"]
    assert find(images) == (images, everything, [])


def test_every_nth_photo_is_a_query(images):
    assert find(images, query_every=4) == (
        images,
        ["b.png", "c.png", "d.png", "new/e.png"],
        ["a.png", "new/a.png"],
    )
    with pytest.raises(InputError, match="at least 2, got 1"):
        find(images, query_every=1)


def test_query_folder_inside_the_photos(images):
    expected = (images, ["a.png", "b.png", "c.png", "d.png"], ["new/a.png", "new/e.png"])
    assert find(images, images / "new") == expected
    assert not (images.parent / "outputs").exists()


def test_query_folder_outside_is_linked_beside_the_photos(images, tmp_path):
    outside = tmp_path / "my new"  # a link may have the blank that a name in a list may not
    (images / "new").rename(outside)
    root, map_names, query_names = find(images, outside)
    assert (map_names, query_names) == (
        ["a.png", "b.png", "c.png", "d.png"],
        ["my_new/a.png", "my_new/e.png"],
    )
    assert root == tmp_path / "outputs" / "images" and (root / "my_new/a.png").samefile(outside / "a.png")
    assert all((root / name).samefile(images / name) for name in map_names)
    (images / "a.png").rename(images / "f.png")
    assert find(images, outside)[1] == ["b.png", "c.png", "d.png", "f.png"]  # links of an earlier run


def test_linked_folder_gets_a_free_name(images, tmp_path):
    other = tmp_path / "other" / "new"
    other.mkdir(parents=True)
    cv2.imwrite(str(other / "x.png"), np.zeros((6, 8), np.uint8))
    assert find(images, other)[2] == ["new_queries/x.png"]


def test_outputs_inside_the_photos_cannot_hold_links_to_them(images, tmp_path):
    outside = tmp_path / "queries"
    (images / "new").rename(outside)
    with pytest.raises(InputError, match=r"images/out is inside the folder of photos .*: choose one outside"):
        find_photos(images, outside, None, images / "out")


def test_links_on_a_read_only_file_system(images, read_only_folder):
    with pytest.raises(UnwritableError, match=r"Read-only file system"):
        link_together(images, images, read_only_folder / "images")
    (images.parent / "outputs").mkdir()


def test_lists_with_and_without_intrinsics(images, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# mine\n\nb.png\nnew/a.png PINHOLE 8 6 7 7 4 3\n")
    photos = find_photos(images, path, None, tmp_path)
    assert photos.query_names == ["b.png", "new/a.png"]
    assert photos.map_names == ["a.png", "c.png", "d.png", "new/e.png"]
    assert list(photos.cameras) == ["new/a.png"]
    assert photos.cameras["new/a.png"].params.tolist() == [7, 7, 4, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b.png\nx.png\ny.png\n", r"lists 2 photo\(s\) that are not in .*images, for instance 'x.png'"),
        ("b.png PINHOLE 8 6 7\n", r"list.txt, line 1: PINHOLE takes the parameters"),
        ("b.png\nb.png\n", r"line 2: image 'b.png' is listed already"),
        ("my photo.png\n", r"line 1: expected one image name, found 'my photo.png'.*rename"),
        ("", "lists no image"),
    ],
)
def test_bad_lists(images, tmp_path, text, message):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(InputError if "not in" not in message else MissingInputError, match=message):
        find_photos(images, path, None, tmp_path)


def test_missing_places(images, tmp_path):
    with pytest.raises(MissingInputError, match="is neither a folder of photos nor a list of names"):
        find(images, tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match=r"Image folder .*nowhere does not exist"):
        find(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match=r"No image in .*empty: expected files ending in .jpg"):
        find(tmp_path / "empty")


@pytest.mark.parametrize("name", ["my photo.png", "sub dir/a.png", "#1.png", "sub/#1.png", "a\u00a0b.png"])
def test_names_that_lists_cannot_hold(tmp_path, name):
    with pytest.raises(InputError) as error:
        check_names(["fine.png", "fine/ñ-写真#2.png", name], tmp_path)
    assert str(error.value).startswith(f"1 photo(s) in {tmp_path}")
    assert f"for instance {name!r} to " in str(error.value)
    better = str(error.value).rpartition(" to ")[2].strip("'.")
    check_names([better], tmp_path)


def test_checks_before_the_run(images, tmp_path):
    results = tmp_path / "results.txt"
    Photos(images, ["a.png", "b.png"], ["c.png"]).check(results)
    with pytest.raises(InputError, match=r"A map needs at least two photos, .* leaves 1"):
        Photos(images, ["a.png"], ["b.png"]).check(results)
    with pytest.raises(InputError, match=r"'new/a.png' and 'new-a.png' get the same key"):
        Photos(images, ["b.png", "new/a.png"], ["new-a.png"]).check(results)
    with pytest.raises(
        InputError, match=r"'x/new/a.png' and 'y/new/a.png' would both be written as 'new/a.png'"
    ):
        Photos(images, ["b.png", "c.png"], ["x/new/a.png", "y/new/a.png"]).check(results)


def test_queries_of_one_name_are_told_apart_by_their_folder(images):
    assert not Photos(images, [], ["a.png", "new/b.png"]).prepend_camera_name
    assert Photos(images, [], ["a.png", "new/a.png"]).prepend_camera_name


def test_intrinsics_of_another_size(images, tmp_path):
    camera = pycolmap.Camera(model="PINHOLE", width=16, height=12, params=[7, 7, 8, 6])
    photos = Photos(images, ["a.png", "b.png"], ["c.png"], {"c.png": camera})
    with pytest.raises(InputError, match=r"list of queries has intrinsics for 16×12 pixels of 'c.png'.* 8×6"):
        photos.check(tmp_path / "results.txt")


def test_webp_under_any_name(images, tmp_path):
    Image.new("L", (8, 6)).save(images / "e.jpg", format="WEBP")
    with pytest.raises(InputError, match=r"1 photo\(s\) in .* are WebP.*'e.jpg': convert them to JPEG"):
        Photos(images, ["a.png", "b.png", "e.jpg"], []).check(tmp_path / "results.txt")


def save(path, size, maker=None, focal_length=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    exif = image.getexif()
    if maker:
        exif[0x010F] = maker
    if focal_length:
        exif.get_ifd(0x8769)[0x920A] = focal_length
    image.save(path, exif=exif)


def test_headers(tmp_path):
    save(tmp_path / "a.jpg", (8, 6), "Maker", 24.0)
    header = PhotoHeader.read(tmp_path / "a.jpg")
    assert header == PhotoHeader((8, 6), ("Maker", "None", "24.0", "None"))
    assert header.format == "JPEG"
    (tmp_path / "b.jpg").write_text("no image")
    assert PhotoHeader.read(tmp_path / "b.jpg") == PhotoHeader(None, (str(tmp_path / "b.jpg"),))


def test_cameras_are_shared_as_the_headers_say(tmp_path):
    save(tmp_path / "one/a.jpg", (8, 6), "Maker", 24.0)
    save(tmp_path / "one/b.jpg", (8, 6), "Maker", 24.0)
    save(tmp_path / "two/a.jpg", (8, 6), "Maker", 35.0)
    save(tmp_path / "two/b.jpg", (8, 6), "Maker", 35.0)
    save(tmp_path / "two/c.jpg", (6, 8), "Maker", 35.0)
    (tmp_path / "one/broken.jpg").write_bytes(b"")
    assert choose_camera_mode(tmp_path, ["one/a.jpg", "one/b.jpg"]) == "SINGLE"
    assert choose_camera_mode(tmp_path, ["one/a.jpg", "one/b.jpg", "two/a.jpg", "two/b.jpg"]) == "PER_FOLDER"
    assert choose_camera_mode(tmp_path, ["one/a.jpg", "two/a.jpg", "two/c.jpg"]) == "AUTO"
    assert choose_camera_mode(tmp_path, ["one/a.jpg", "one/broken.jpg"]) == "AUTO"
