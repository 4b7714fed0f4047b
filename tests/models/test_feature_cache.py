from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hloc_ext.models.feature_cache import FeatureCache
from hloc_ext.models.kd_mamba import ImageFeatures, KDMamba
from tests.models.networks import texture, tiny_network


class Counted:
    """`encode` of a network, and how many images it was given."""

    def __init__(self) -> None:
        self.network: KDMamba = tiny_network()
        self.images = 0

    @torch.no_grad()
    def __call__(self, image: Tensor, mask: Tensor | None) -> ImageFeatures:
        self.images += len(image)
        return self.network.encode(image, mask)


@pytest.fixture
def encode() -> Counted:
    return Counted()


def assert_same(one: ImageFeatures, other: ImageFeatures) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


def test_image_that_is_met_again_is_encoded_once(encode):
    cache = FeatureCache(encode, 2**24)
    images = [texture(seed, 40, 48) for seed in range(3)]
    first = cache.encode(images[0])
    for other in images[1:]:
        cache.encode(other)
        assert_same(cache.encode(images[0].clone()), first)
    assert encode.images == 3
    assert_same(first, encode(images[0], None))


def test_image_changed_in_place_is_another_one(encode):
    cache = FeatureCache(encode, 2**24)
    image = texture(0, 40, 48)
    before = cache.encode(image)
    a, b = image[0, 0, 3, 4].item(), image[0, 0, 30, 40].item()
    image[0, 0, 3, 4], image[0, 0, 30, 40] = b, a  # of equal sum
    after = cache.encode(image)
    assert encode.images == 2
    assert not after.half.equal(before.half)
    assert_same(after, encode(image, None))


def test_mask_counts(encode):
    cache = FeatureCache(encode, 2**24)
    image, mask = texture(0, 40, 48), torch.ones(1, 1, 40, 48, dtype=torch.bool)
    mask[..., 24:] = False
    cache.encode(image)
    assert_same(cache.encode(image, mask), encode(image, mask))
    assert_same(cache.encode(image, mask), encode(image, mask))
    assert encode.images == 4


def test_images_of_a_batch_are_known_by_themselves(encode):
    cache = FeatureCache(encode, 2**24)
    batch = texture(0, 40, 48, batch=3)
    cache.encode(batch[1:2])
    together = cache.encode(batch)
    assert encode.images == 3
    assert_same(together, encode(batch, None))


def test_memory_is_bounded_and_the_least_recently_used_goes(encode):
    one = encode(texture(0, 40, 48), None)
    size = sum(t.nbytes for t in one if t is not None) + texture(0, 40, 48).nbytes
    cache = FeatureCache(encode, 2 * size)
    encode.images = 0
    a, b, c = (texture(seed, 40, 48) for seed in range(3))
    for image in (a, b, a, c, a):  # c drops b
        cache.encode(image)
    assert encode.images == 3
    cache.encode(b)
    assert encode.images == 4
    small = FeatureCache(encode, size - 1)
    small.encode(a)
    small.encode(a)
    assert encode.images == 6
