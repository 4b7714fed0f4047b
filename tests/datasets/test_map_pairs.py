"""Samples of photos and maps: exact geometry, what is known, and determinism."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hloc_ext.datasets import map_pairs
from hloc_ext.datasets.homography import cell_centers
from hloc_ext.datasets.map_pairs import (
    LabelledImage,
    MapPairs,
    find_labelled_images,
    ground_views,
    known_area,
    view_label,
)
from hloc_ext.datasets.map_rendering import MapStyle
from hloc_ext.datasets.samples import view
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError

#: The photo and the map as they are.
PLAIN: dict[str, None] = {"photo_change": None, "pair_change": None, "map_change": None}
LEVELS = np.array([[20], [70], [110], [150], [190], [230]], np.float32)


def write_source(root: Path, source: str, seed: int = 0, shape: tuple[int, int] = (240, 320)) -> None:
    """A mask of rectangles and a photo whose grey values are those of LEVELS."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    for _ in range(30):
        x, y = rng.integers(0, shape[1] - 20), rng.integers(0, shape[0] - 20)
        label[y : y + rng.integers(15, 60), x : x + rng.integers(15, 60)] = rng.integers(0, 6)
    if source == "mass_roads":
        label = np.zeros(shape, np.uint8)
        label[:, 100:110] = 1
    for kind, picture in (("images", LEVELS[label, 0].astype(np.uint8)), ("labels", label)):
        (root / source / kind).mkdir(parents=True, exist_ok=True)
        # The content is that of a PNG, whatever the name.
        data = cv2.imencode(".png", picture)[1].tobytes()
        (root / source / kind / f"a{seed}.{'jpg' if kind == 'images' else 'png'}").write_bytes(data)


@pytest.fixture
def files(tmp_path: Path) -> list[LabelledImage]:
    for seed in range(3):
        write_source(tmp_path, "squares", seed)
    return find_labelled_images(tmp_path)


def sampled(image: torch.Tensor, points: np.ndarray) -> np.ndarray:
    """Grey values (0 to 255) of the pixels nearest to points."""
    columns, rows = np.round(points).astype(int).T
    return image[0].numpy()[rows, columns] * 255


def away_from_borders(image: torch.Tensor, points: np.ndarray, margin: int = 2) -> np.ndarray:
    """Whether the surroundings of points are of one value, (N,) bool."""
    kernel = np.ones((2 * margin + 1,) * 2, np.uint8)
    picture = image[0].numpy()
    flat = torch.from_numpy((cv2.dilate(picture, kernel) - cv2.erode(picture, kernel))[None])
    return sampled(flat, points) < 0.5


@pytest.mark.parametrize("size", [128, (96, 160)])
def test_the_map_shows_the_class_that_the_photo_shows_there(
    files: list[LabelledImage], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = MapStyle(colors=LEVELS, line_colors=LEVELS, softness=0.0)
    monkeypatch.setattr(map_pairs, "random_style", lambda *_: plain)
    pairs = MapPairs(files, size, seed=3, length=12, **PLAIN)
    compared = 0
    for index in range(len(pairs)):
        sample = pairs[index]
        centers = cell_centers(pairs.size)
        for here, there in ((0, 1), (1, 0)):
            valid = sample[f"valid{there}"].numpy()
            points = sample[f"points{there}"].numpy()[valid]
            first, second = sample[f"image{here}"], sample[f"image{there}"]
            sure = away_from_borders(first, centers[valid]) & away_from_borders(second, points)
            compared += sure.sum()
            np.testing.assert_allclose(
                sampled(first, centers[valid])[sure], sampled(second, points)[sure], atol=1
            )
    assert compared > 300


def test_both_directions_are_inverse(files: list[LabelledImage]) -> None:
    pairs = MapPairs(files, 128, length=5)
    for index in range(5):
        sample = pairs[index]
        valid, points = sample["valid1"].numpy(), sample["points1"].numpy()
        assert sample["points1"].shape == (256, 2)
        # points0 is affine in the pixels of image 1; at points1 it gives the centres back.
        there = np.column_stack([cell_centers((128, 128)), np.ones(256)])
        affine, *_ = np.linalg.lstsq(there, sample["points0"].numpy().astype(float), rcond=None)
        back = np.column_stack([points, np.ones(256)]) @ affine
        np.testing.assert_allclose(back[valid], cell_centers((128, 128))[valid], atol=1e-2)
        inside = np.all((points >= 0) & (points <= 127), axis=1)
        assert not (valid & ~inside).any()


def test_samples_follow_the_contract_and_depend_on_seed_and_index_only(files: list[LabelledImage]) -> None:
    pairs = MapPairs(files, (64, 96), seed=1, length=6, photo_pairs=0.5)
    again = MapPairs(files, (64, 96), seed=1, length=6, photo_pairs=0.5)
    last = again[5]
    for index in range(5):
        sample = pairs[index]
        for name, value in again[index].items():
            assert torch.equal(value, sample[name]), name
        for name in ("image0", "image1", "clean0", "clean1"):
            assert sample[name].shape == (1, 64, 96)
            assert sample[name].dtype == torch.float32
            assert 0 <= sample[name].min() <= sample[name].max() <= 1
        assert sample["valid0"].shape == (96,)
        assert sample["valid0"].dtype == torch.bool
        assert sample["points0"].dtype == torch.float32
    assert torch.equal(last["image0"], pairs[5]["image0"])
    other = MapPairs(files, (64, 96), seed=2, length=6, photo_pairs=0.5)
    assert not torch.equal(other[0]["image0"], pairs[0]["image0"])
    with pytest.raises(IndexError):
        pairs[6]


def test_transforms_have_the_wanted_rotations_and_scales() -> None:
    scales, turns = [], []
    for seed in range(300):
        first, second = ground_views((405, 608), (256, 256), np.random.default_rng(seed), 90.0, 2.0)
        relative = np.linalg.inv(second) @ first
        scales.append(np.sqrt(np.linalg.det(relative[:2, :2])))
        turns.append(np.degrees(np.arctan2(relative[1, 0], relative[0, 0])))
    assert min(scales) >= 0.5 - 1e-9
    assert max(scales) <= 2 + 1e-9
    assert np.std(np.log(scales)) == pytest.approx(np.log(4) / np.sqrt(12), rel=0.1)
    assert np.abs(turns).max() <= 90
    assert np.std(turns) == pytest.approx(180 / np.sqrt(12), rel=0.1)


def test_clean_images_are_the_views_or_the_photos(files: list[LabelledImage]) -> None:
    def darker(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return picture // 2

    def settings(clean: str) -> MapPairs:
        return MapPairs(files, 64, length=8, photo_change=darker, map_change=darker, clean=clean)

    for index in range(8):
        views, photos = settings("view")[index], settings("photo")[index]
        for side in "01":
            expected = np.round(views[f"clean{side}"].numpy() * 255) // 2
            np.testing.assert_array_equal(np.round(views[f"image{side}"].numpy() * 255), expected)
        is_photo = [torch.equal(views[f"clean{side}"], photos[f"clean{side}"]) for side in "01"]
        assert sum(is_photo) == 1
        # The photos of the test are drawn as LEVELS: both sides show only those values, away from borders.
        for side in "01":
            points = cell_centers((64, 64))[photos[f"valid{1 - int(side)}"].numpy()]
            flat = away_from_borders(photos[f"clean{side}"], points)
            values = sampled(photos[f"clean{side}"], points)[flat]
            assert np.isin(np.round(values), LEVELS).all()


def test_photo_pairs_and_negatives(files: list[LabelledImage]) -> None:
    pairs = MapPairs(files, 64, length=20, photo_pairs=1.0, inverted=0.5, **PLAIN)
    negatives = 0
    for index in range(20):
        sample = pairs[index]
        changed = [not torch.equal(sample[f"image{side}"], sample[f"clean{side}"]) for side in "01"]
        negatives += sum(changed)
        assert sum(changed) <= 1
        if any(changed):
            side = changed.index(True)
            torch.testing.assert_close(sample[f"image{side}"], 1 - sample[f"clean{side}"])
    assert 4 <= negatives <= 16


def test_cells_far_from_the_roads_of_partial_masks_are_unknown(tmp_path: Path) -> None:
    write_source(tmp_path, "mass_roads")
    files = find_labelled_images(tmp_path)
    assert files[0].partial
    label = np.zeros((240, 320), np.uint8)
    label[:, 100:110] = 1
    known = known_area(label, partial=True)
    assert np.flatnonzero(known[7]).tolist() == list(range(76, 134))
    assert known_area(label, partial=False).all()
    assert not known_area(np.zeros((8, 8), np.uint8), partial=True).any()
    pairs = MapPairs(files, 128, length=6)
    for index in range(6):
        # Both views see the whole height of a band of 58 pixels: its share of a view is bounded.
        sample = pairs[index]
        valid = sample["valid1"].numpy().reshape(16, 16)
        assert valid.any()
        assert not valid.all()
    sample = MapPairs(files, 128, length=6, photo_pairs=1.0)[0]
    assert sample["valid1"].float().mean() > valid.mean()


def test_views_are_filled_outside_and_smoothed_where_they_shrink() -> None:
    picture = np.tile(np.array([0, 200], np.uint8), (64, 32))
    double = np.diag([4.0, 4.0, 1.0])
    shrunk = view(picture, double, (32, 32), fill=77)
    assert (shrunk[20:, 20:] == 77).all()
    assert np.abs(shrunk[2:14, 2:14].astype(int) - 100).max() < 15
    label = (picture > 0).astype(np.uint8) * 4
    np.testing.assert_array_equal(view_label(label, np.eye(3), (64, 64)), label)
    assert (view_label(label, double, (32, 32))[20:, 20:] == 0).all()


def test_mistakes_are_named(files: list[LabelledImage], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="multiples of 8"):
        MapPairs(files, 100)
    with pytest.raises(InputError, match="at least one"):
        MapPairs([])
    with pytest.raises(InputError, match="'view' or 'photo'"):
        MapPairs(files, clean="map")
    with pytest.raises(InputError, match="1 or more"):
        MapPairs(files, max_scale=0.5)
    with pytest.raises(MissingInputError, match="labels"):
        find_labelled_images(tmp_path / "nothing")
    files[0].label.unlink()
    with pytest.raises(MissingInputError, match=r"a0\.png"):
        find_labelled_images(tmp_path)
    cv2.imwrite(str(files[0].label), np.full((240, 320), 9, np.uint8))
    with pytest.raises(CorruptFileError, match="classes up to 9"):
        MapPairs(files[:1], 64)[0]


def test_aerial_images_of_the_development_data(shared_data: Path) -> None:
    files = find_labelled_images(shared_data / "train" / "aerial_semantic")
    assert len(files) == 438
    assert sum(item.partial for item in files) == 44
    pairs = MapPairs(files, 128, length=40)
    shares = [float(pairs[index]["valid1"].float().mean()) for index in range(12)]
    assert np.mean(shares) > 0.4
