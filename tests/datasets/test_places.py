"""Samples of places: two pictures that share points, tokens that fit them, and what may change."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from hloc_ext.datasets.city_scenes import write_scene
from hloc_ext.datasets.city_views import read_views
from hloc_ext.datasets.places import PHOTOS, PlaceImages, PlacePairs, PlaceScene
from hloc_ext.datasets.sfm_scene import published_tokens
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.formats.images import read_image, resize_image
from tests.datasets.test_city_pairs import write_views

SIZE = 60
TOKENS = ("points", "rays", "log_depths", "state", "rotation")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of three views by day and night."""
    root = tmp_path_factory.mktemp("places")
    write_scene(read_views(write_views(root / "views")), root, seed=1)
    return root


@pytest.fixture(scope="module")
def place(folder: Path) -> PlaceScene:
    return PlaceScene.read(folder / "sparse", folder / "images")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Colourful photos, upright and wide."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for number, size in enumerate(((200, 300), (320, 240))):
        smooth = cv2.GaussianBlur(rng.uniform(0, 1, (*size, 3)).astype(np.float32), (0, 0), 6)
        cv2.imwrite(
            str(root / f"{number}.png"), np.clip(128 + 2500 * (smooth - 0.5), 0, 255).astype(np.uint8)
        )
    return sorted(root.iterdir())


def as_picture(image: torch.Tensor) -> np.ndarray:
    """The (H, W, 3) RGB of a normalised image, [0, 255]."""
    return (image.numpy().transpose(1, 2, 0) * STD + MEAN) * 255


def square(path: Path) -> np.ndarray:
    return resize_image(read_image(path), (SIZE, SIZE))


def test_pictures_are_those_of_the_files_with_their_tokens(place: PlaceScene, photos: list[Path]) -> None:
    images = PlaceImages([place], photos, SIZE, published=True)
    assert len(images) == 8
    assert images.pictures.tolist() == [*([0, i] for i in range(6)), [PHOTOS, 0], [PHOTOS, 1]]
    for row in range(8):
        sample = images[row]
        assert (int(sample["scene"]), int(sample["index"])) == tuple(images.pictures[row])
        path = place.path(place.scene.names[row]) if row < 6 else photos[row - 6]
        # Photos are kept at a smaller size before they become squares.
        np.testing.assert_allclose(as_picture(sample["image"]), square(path), atol=1e-3 if row < 6 else 12)
        tokens = place.scene.tokens(row) if row < 6 else None
        for name in TOKENS:
            expected = 0 if tokens is None else getattr(tokens, name)
            assert (sample[name].numpy() == expected).all(), name
        expected = published_tokens(place.scene, row) if row < 6 else 0
        assert (sample["published"].numpy() == expected).all()
    assert images[6]["points"].shape == images[0]["points"].shape == (197, 3)
    with pytest.raises(IndexError):
        images[8]


def test_pairs_share_points_and_repeat(place: PlaceScene, photos: list[Path]) -> None:
    images = PlaceImages([place], photos, SIZE)
    pairs, again = (PlacePairs(images, seed=4, length=40) for _ in range(2))
    shared = place.scene.observations.astype(int) @ place.scene.observations.astype(int).T
    kinds = set()
    for index in reversed(range(40)):
        sample = pairs[index]
        scene, number = sample["scene"].tolist(), sample["index"].tolist()
        kinds.add(scene[0])
        assert scene[0] == scene[1]
        if scene[0] == PHOTOS:
            assert number[0] == number[1]
        else:
            assert number[0] != number[1]
            assert shared[number[0], number[1]] >= 8
        other = again[index]
        assert all(torch.equal(value, other[name]) for name, value in sample.items())
    assert kinds == {0, PHOTOS}
    other = PlacePairs(images, seed=5, length=40)[0]["image"]
    assert not torch.equal(other, pairs[0]["image"])
    batch = default_collate([pairs[0], pairs[1]])
    assert batch["image"].shape == (2, 2, 3, SIZE, SIZE)
    assert batch["image"].dtype == torch.float32
    assert batch["rays"].shape == (2, 2, 197, 3)
    assert batch["state"].shape == (2, 2, 197)
    assert batch["state"].dtype == batch["scene"].dtype == batch["index"].dtype == torch.int64
    assert batch["rotation"].shape == (2, 2, 6)
    with pytest.raises(IndexError):
        pairs[40]


def test_mirrored_pictures_have_mirrored_tokens(place: PlaceScene) -> None:
    images = PlaceImages([place], size=SIZE)
    plain, mirrored = (
        PlacePairs(images, 1, 12, night=0, change="none", mirrored=share, batch_size=4)
        for share in (0.0, 1.0)
    )
    for index in range(3):
        first, second = plain[index], mirrored[index]
        assert torch.equal(first["image"].flip(-1), second["image"])
        for view in (0, 1):
            tokens = place.scene.tokens(int(second["index"][view]), mirrored=True)
            for name in TOKENS:
                assert (second[name][view].numpy() == getattr(tokens, name)).all(), name
    some = PlacePairs(images, 1, 64, night=0, change="none", mirrored=0.5, batch_size=4)
    plain = PlacePairs(images, 1, 64, night=0, change="none", mirrored=0)
    is_mirrored = [not torch.equal(some[i]["rotation"], plain[i]["rotation"]) for i in range(64)]
    blocks = np.array(is_mirrored).reshape(16, 4)
    assert (blocks == blocks[:, :1]).all()
    assert 2 < blocks[:, 0].sum() < 14


def test_given_batches_are_followed(place: PlaceScene, photos: list[Path]) -> None:
    images = PlaceImages([place], photos, SIZE)
    batches = np.array([[5, 0, 7], [6, 2, 2]])
    pairs = PlacePairs(images, batches=batches, validation=True)
    assert len(pairs) == 6
    found = [(int(pairs[i]["scene"][0]), int(pairs[i]["index"][0])) for i in range(6)]
    assert found == [tuple(pairs.anchors[row]) for row in batches.ravel()]
    assert len(PlacePairs(images, batches=np.empty((0, 3)))) == 0
    for wrong in ([[8]], [[-1]], [0, 1]):
        with pytest.raises(InputError, match="batches"):
            PlacePairs(images, batches=wrong)


def test_validation_shows_pictures_as_they_are(place: PlaceScene, photos: list[Path]) -> None:
    images = PlaceImages([place], photos, SIZE)
    pairs = PlacePairs(images, 2, 24, night=1.0, mirrored=1.0, validation=True)
    for index in range(24):
        sample = pairs[index]
        rows = [
            images.pictures.tolist().index([int(s), int(i)])
            for s, i in zip(sample["scene"], sample["index"], strict=True)
        ]
        assert torch.equal(sample["image"][0], images[rows[0]]["image"])
        same = torch.equal(sample["image"][1], images[rows[1]]["image"])
        assert same == (sample["scene"][0] != PHOTOS)


def test_nights_are_made_of_days_only(place: PlaceScene) -> None:
    images = PlaceImages([place], size=SIZE)
    pairs = PlacePairs(images, 0, 12, night=1.0, change="none", mirrored=0)
    for index in range(12):
        sample = pairs[index]
        for view, number in enumerate(sample["index"].tolist()):
            clean, shown = (as_picture(image) for image in (images[number]["image"], sample["image"][view]))
            if place.scene.names[number].endswith("_night.jpg"):
                np.testing.assert_allclose(shown, clean, atol=1e-3)
            else:
                assert shown.mean() < 0.8 * clean.mean()


def test_night_versions_on_disk_are_used(folder: Path, tmp_path: Path) -> None:
    for file in (folder / "images").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(MissingInputError, match=r"_cyclegan\.png"):
        PlaceScene.read(folder / "sparse", tmp_path, night_suffix="_cyclegan.png")
    for index in range(3):
        picture = np.full((96, 128, 3), (10 * index, 20, 30), np.uint8)
        cv2.imwrite(str(tmp_path / f"{index:04d}_day_cyclegan.png"), picture[..., ::-1])
    place = PlaceScene.read(folder / "sparse", tmp_path, night_suffix="_cyclegan.png")
    pairs = PlacePairs(PlaceImages([place], size=SIZE), 0, 10, night=1.0, change="none")
    for index in range(10):
        sample = pairs[index]
        for image, number in zip(sample["image"], sample["index"].tolist(), strict=True):
            if place.scene.names[number].endswith("_day.jpg"):
                expected = np.broadcast_to([10 * (number // 2), 20, 30], (SIZE, SIZE, 3))
                np.testing.assert_allclose(as_picture(image), expected, atol=1e-3)


def test_positives_may_be_asked_to_overlap_more(place: PlaceScene) -> None:
    images = PlaceImages([place], size=SIZE)
    pairs = PlacePairs(images, 0, 30, least_overlap=0.6, validation=True)
    weights = [place.overlap.weights(pairs[i]["index"].tolist())[0, 1] for i in range(30)]
    assert min(weights) >= 0.6
    every = PlacePairs(images, 0, 30, validation=True)
    assert min(place.overlap.weights(every[i]["index"].tolist())[0, 1] for i in range(30)) < 0.6


def test_glimpses_may_be_left_out(folder: Path, place: PlaceScene) -> None:
    counts = place.scene.observations.astype(int) @ place.scene.observations.astype(int).T
    least = int(np.median(counts.toarray()))
    strict = PlaceScene.read(folder / "sparse", folder / "images", min_shared=least)
    for index in range(6):
        expected = [i for i in range(6) if i != index and counts[index, i] >= least]
        assert strict.overlap.positives(index).tolist() == expected


def test_views_of_a_photo_overlap(photos: list[Path]) -> None:
    images = PlaceImages(photos=photos, size=SIZE)
    pairs = PlacePairs(images, 0, 8, night=0, photo_change="none", mirrored=0)
    for index in range(8):
        views = as_picture_pair(pairs[index])
        assert np.abs(views[0] - views[1]).mean() > 3
        # The colours of each view are found in the other one: they are smooth, and of the same photo.
        near = [cv2.resize(view.astype(np.float32), (20, 20), interpolation=cv2.INTER_AREA) for view in views]
        first, second = (view.reshape(-1, 3) for view in near)
        nearest = np.linalg.norm(first[:, None] - second[None], axis=-1).min(axis=1)
        assert np.median(nearest) < 16


def as_picture_pair(sample: dict[str, torch.Tensor]) -> list[np.ndarray]:
    return [as_picture(image) for image in sample["image"]]


def test_memory_for_pictures_is_bounded(place: PlaceScene, photos: list[Path]) -> None:
    full, none = (PlaceImages([place], photos, SIZE, cache_mib=mib) for mib in (1, 0))
    for row in range(8):
        for _ in range(2):
            assert torch.equal(full[row]["image"], none[row]["image"])
    assert len(full._cache) == 8
    assert not none._cache
    assert full._cache[photos[0]].shape == (96, 144, 3)


def test_mistakes_are_named(folder: Path, place: PlaceScene, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"0000_day\.jpg"):
        PlaceScene.read(folder / "sparse", tmp_path)
    with pytest.raises(InputError, match="no picture"):
        PlaceImages()
    with pytest.raises(InputError, match="size=8"):
        PlaceImages([place], size=8)
    with pytest.raises(InputError, match="'dusk'"):
        PlacePairs(PlaceImages([place]), change="dusk")
    with pytest.raises(InputError, match="same place"):
        PlacePairs(PlaceImages([place]), least_overlap=1.1)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"broken\.jpg"):
        PlaceImages(photos=[broken])[0]
