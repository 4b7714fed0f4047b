from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hloc_ext.models.image_view import ImageView


def ramps(height: int, width: int) -> tuple[ImageView, ImageView]:
    """Images that hold the x and the y of each of their pixels, which linear sampling reproduces."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ImageView(x[None, None].float()), ImageView(y[None, None].float())


def pixels_of(view: ImageView) -> Tensor:
    height, width = view.image.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2).float()


def assert_restores(of_x: ImageView, of_y: ImageView, margin: int, atol: float = 2e-3) -> None:
    """What each pixel holds is where it is restored to."""
    restored = of_x.restore(pixels_of(of_x))
    held = torch.stack([of_x.image.flatten(), of_y.image.flatten()], 1)
    exists = torch.ones(len(held), dtype=torch.bool) if of_x.mask is None else of_x.mask.flatten()
    inner = exists & (held.min(1).values >= margin)  # beyond the outermost centres the border is repeated
    size = torch.stack([held[exists, 0].max(), held[exists, 1].max()])
    inner &= (held <= size - margin).all(1)
    assert inner.sum() > 0.3 * len(held)
    torch.testing.assert_close(restored[inner], held[inner], atol=atol, rtol=0)


@pytest.mark.parametrize("degrees", [0, 45, 90, 135, 180, 225, 270, 315, 30, -60])
@pytest.mark.parametrize("size", [(40, 61), (33, 32)])
def test_turned_pixels_are_restored(degrees, size):
    of_x, of_y = (view.turned(degrees) for view in ramps(*size))
    assert (of_x.mask is None) == (degrees % 90 == 0)
    assert_restores(of_x, of_y, 0 if degrees % 90 == 0 else 1)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_quarter_turns_are_exact_and_counterclockwise(degrees):
    of_x, of_y = (view.turned(degrees) for view in ramps(5, 8))
    held = torch.stack([of_x.image.flatten(), of_y.image.flatten()], 1)
    assert of_x.restore(pixels_of(of_x)).equal(held)
    if degrees == 90:  # what was at the top right comes to the top left
        assert (of_x.image.shape, of_x.image[0, 0, 0, 0], of_y.image[0, 0, 0, 0]) == ((1, 1, 8, 5), 7, 0)


@pytest.mark.parametrize("factor", [0.5, 0.31, 2.0])
def test_resized_and_then_turned_pixels_are_restored(factor):
    of_x, of_y = (view.resized(factor) for view in ramps(60, 81))
    assert of_x.image.shape[2:] == (round(60 * factor), round(81 * factor))
    assert_restores(of_x, of_y, 4, atol=0.05)  # the centroid of the antialiasing filter
    assert_restores(of_x.turned(45), of_y.turned(45), 4, atol=0.05)
    assert_restores(of_x.turned(270), of_y.turned(270), 4, atol=0.05)


def test_size_is_kept_where_the_factor_changes_nothing():
    view = ImageView(torch.rand(2, 1, 6, 7))
    assert view.resized(1.0) is view and view.resized(1.01) is view
    points = torch.rand(3, 2)
    assert view.restore(points) is points


def test_tiny_images_keep_a_pixel():
    assert ImageView(torch.rand(1, 1, 1, 300)).resized(0.01).image.shape == (1, 1, 1, 3)
    assert ImageView(torch.rand(1, 1, 1, 1)).turned(45).image.shape == (1, 1, 2, 2)


def test_mask_is_turned_with_its_image():
    image = torch.rand(1, 1, 32, 48)
    mask = torch.zeros(1, 1, 32, 48, dtype=torch.bool)
    mask[..., :24] = True
    view = ImageView(image, mask).turned(180)
    assert view.mask is not None
    assert view.mask[..., 24:].all() and not view.mask[..., :24].any()
    view = ImageView(image, mask).turned(45)
    assert view.mask is not None
    restored = view.restore(pixels_of(view))[view.mask.flatten()]
    assert restored[:, 0].max() <= 23.5 and len(restored) == pytest.approx(24 * 32, rel=0.05)
    assert view.image[~view.mask].eq(0).all()


def test_padding_is_masked():
    image, mask = ImageView(torch.ones(1, 1, 3, 4)).padded(5, 6)
    assert image.shape == (1, 1, 5, 6)
    assert image.eq(mask).all() and mask.sum() == 12 and mask[0, 0, :3, :4].all()


def test_images_of_a_batch_are_split_with_their_masks():
    image, mask = torch.rand(2, 1, 4, 6), torch.rand(2, 1, 4, 6) > 0.5
    first, second = ImageView(image, mask).turned(90).split()
    assert second.image.equal(image[1:].rot90(1, (2, 3))) and second.mask.equal(mask[1:].rot90(1, (2, 3)))
    assert first.to_original is not None and first.to_original.equal(second.to_original)
