"""Samples of photos under homographies: exact points, seeds, unrelated pairs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hloc_ext.datasets import SAMPLE_KEYS
from hloc_ext.datasets.homography import AERIAL, cell_centers
from hloc_ext.datasets.homography_pairs import HomographyPairs, init_worker
from hloc_ext.datasets.photometric import NONE
from hloc_ext.errors import InputError

H, W = SIZE = (96, 128)


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """Two smooth colour photos and a grey one."""
    rng = np.random.default_rng(0)
    return [
        cv2.resize(
            rng.integers(0, 255, (h // 8, w // 8, *channels), np.uint8), (w, h), interpolation=cv2.INTER_CUBIC
        )
        for h, w, channels in ((180, 240, (3,)), (240, 200, (3,)), (160, 160, ()))
    ]


def look_up(picture: torch.Tensor, points: np.ndarray) -> np.ndarray:
    x, y = points.astype(np.float32).T
    return cv2.remap(picture[0].numpy(), x[None], y[None], cv2.INTER_LINEAR)[0]


def test_sample(photos: list[np.ndarray]) -> None:
    pairs = HomographyPairs(photos, SIZE, length=5)
    assert len(pairs) == 5
    sample = pairs[4]
    assert set(sample) == set(SAMPLE_KEYS)
    for name in ("image0", "image1", "clean0", "clean1"):
        assert sample[name].shape == (1, H, W) and sample[name].dtype == torch.float32
        assert sample[name].min() >= 0 and sample[name].max() <= 1
    for name in "01":
        assert sample[f"points{name}"].shape == (H * W // 64, 2)
        assert sample[f"points{name}"].dtype == torch.float32
        assert sample[f"valid{name}"].shape == (H * W // 64,) and sample[f"valid{name}"].dtype == torch.bool
    with pytest.raises(IndexError):
        pairs[5]


@pytest.mark.parametrize("options", [{}, {"views": AERIAL}])
def test_points_show_the_same_thing(photos: list[np.ndarray], options: dict) -> None:
    pairs = HomographyPairs(photos, SIZE, change=NONE, other_change="none", unrelated=0.0, **options)
    centers, shares = cell_centers(SIZE), []
    for index in range(25):
        sample = pairs[index]
        torch.testing.assert_close(sample["image0"], sample["clean0"])
        for here, there in (("0", "1"), ("1", "0")):
            valid = sample[f"valid{there}"].numpy()
            points = sample[f"points{there}"].numpy()[valid]
            difference = np.abs(
                look_up(sample[f"clean{there}"], points) - look_up(sample[f"clean{here}"], centers[valid])
            )
            assert difference.mean() < 0.02
            assert (points >= 0).all() and (points <= (W - 1, H - 1)).all()
            assert torch.isfinite(sample[f"points{there}"]).all()
            shares.append(valid.mean())
    assert 0.4 < np.mean(shares) < 0.9


def test_points_of_both_directions_agree(photos: list[np.ndarray]) -> None:
    """The homography through points1 leads back from points0."""
    pairs, centers = HomographyPairs(photos, SIZE, unrelated=0.0), cell_centers(SIZE)
    for index in range(10):
        sample = pairs[index]
        valid1, valid0 = sample["valid1"].numpy(), sample["valid0"].numpy()
        matrix, _ = cv2.findHomography(centers[valid1], sample["points1"].numpy()[valid1].astype(float))
        there = cv2.perspectiveTransform(sample["points0"].numpy()[valid0][:, None], matrix)[:, 0]
        np.testing.assert_allclose(there, centers[valid0], atol=0.02)


def test_samples_depend_on_seed_and_index_only(photos: list[np.ndarray]) -> None:
    pairs = HomographyPairs(photos, SIZE, seed=3)
    first = pairs[7]
    pairs[1]
    for name, value in HomographyPairs(photos, SIZE, seed=3, length=8)[7].items():
        torch.testing.assert_close(value, first[name], rtol=0, atol=0)
    assert not torch.equal(pairs[8]["clean0"], first["clean0"])
    assert not torch.equal(HomographyPairs(photos, SIZE, seed=4)[7]["clean0"], first["clean0"])


def test_changes(photos: list[np.ndarray]) -> None:
    def changed(**options) -> list[int]:
        pairs = HomographyPairs(photos, SIZE, change="strong", other_change=NONE, unrelated=0, **options)
        return [
            sum(not torch.equal(sample[f"image{i}"], sample[f"clean{i}"]) for i in (0, 1))
            for sample in (pairs[index] for index in range(12))
        ]

    assert set(changed(both=0.0)) == {1} and set(changed(both=1.0)) == {2}


def test_unrelated_pairs(photos: list[np.ndarray]) -> None:
    pairs = HomographyPairs(photos, SIZE, unrelated=1.0)
    for index in range(5):
        sample = pairs[index]
        assert not sample["valid0"].any() and not sample["valid1"].any()
        assert torch.equal(sample["points0"], torch.zeros_like(sample["points0"]))
    some = HomographyPairs(photos, SIZE, unrelated=0.3)
    unrelated = sum(not some[index]["valid1"].any() for index in range(60))
    assert 8 <= unrelated <= 30


def test_workers_give_the_same_samples(photos: list[np.ndarray]) -> None:
    pairs = HomographyPairs(photos, SIZE, length=4)
    loader = DataLoader(pairs, batch_size=4, num_workers=1, worker_init_fn=init_worker)
    batch = next(iter(loader))
    torch.testing.assert_close(batch["image1"][2], pairs[2]["image1"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"size": 100}, "multiples of 8"),
        ({"length": 0}, "length=0"),
        ({"change": "wild"}, "'wild'"),
    ],
)
def test_options_that_cannot_be_used(photos: list[np.ndarray], options: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        HomographyPairs(photos, **options)


def test_photos_that_cannot_be_used(photos: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="No photo"):
        HomographyPairs([])
    with pytest.raises(InputError, match="needs two photos"):
        HomographyPairs(photos[:1])
    with pytest.raises(InputError, match=r"Photo 1 is float32 \(64, 64\)"):
        HomographyPairs([photos[0], np.zeros((64, 64), np.float32)])
