"""SIFT: HLOC's pixel convention, limits and options."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pycolmap
import pytest
import torch

from hloc_ext.errors import InputError
from hloc_ext.extractors.sift import SIFT, root_normalize
from tests.room import Room


def blob(x: float, y: float, sigma: float = 6.0, size: tuple[int, int] = (320, 240)) -> torch.Tensor:
    """Grey image 1×1×H×W of one bright blob whose centre lies `x`, `y` from the top-left pixel centre."""
    u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    image = np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))
    return torch.from_numpy(image.astype(np.float32))[None, None]


@pytest.fixture(scope="module")
def image(room: Room) -> torch.Tensor:
    from hloc_ext.extract_features import prepare_image

    return prepare_image(room.images / "img00.png", {"grayscale": True}).tensor


@pytest.mark.parametrize("x, y", [(100, 80), (40.25, 200.5)])
def test_blob_lies_where_its_pixels_are(x, y):
    output = SIFT({})({"image": blob(x, y)})
    strongest = output["scores"][0].argmax()
    np.testing.assert_allclose(output["keypoints"][0, strongest], [x, y], atol=0.1)
    # The scale of a Gaussian blob is its standard deviation, less COLMAP's assumed blur of the camera.
    np.testing.assert_allclose(output["scales"][0, strongest], 6, rtol=0.15)


def test_output_has_the_shapes_of_the_contract(image):
    output = SIFT({})({"image": image})
    number = output["keypoints"].shape[1]
    assert number > 500
    assert {key: tuple(value.shape) for key, value in output.items()} == {
        "keypoints": (1, number, 2),
        "scales": (1, number),
        "oris": (1, number),
        "scores": (1, number),
        "descriptors": (1, 128, number),
    }
    assert {value.dtype for value in output.values()} == {torch.float32}
    torch.testing.assert_close(output["descriptors"].norm(dim=1), torch.ones(1, number))
    assert output["oris"].abs().max() > 90, "degrees, not radians"


@pytest.mark.parametrize("limit", [0, 1, 50])
def test_max_keypoints_keeps_the_largest(image, limit):
    everything = SIFT({})({"image": image})
    few = SIFT({"max_keypoints": limit})({"image": image})
    assert few["descriptors"].shape == (1, 128, limit) and few["keypoints"].shape == (1, limit, 2)
    expected = everything["scales"].sort(descending=True).values[:, :limit]
    torch.testing.assert_close(few["scales"].sort(descending=True).values, expected)
    # The kept ones are the same points with the same descriptors, in the same order.
    all_points = [tuple(p) for p in everything["keypoints"][0].tolist()]
    position = -1
    for index, point in enumerate(few["keypoints"][0].tolist()):
        position = all_points.index(tuple(point), position + 1)
        torch.testing.assert_close(few["descriptors"][0, :, index], everything["descriptors"][0, :, position])


def test_a_limit_above_the_number_changes_nothing(image):
    everything = SIFT({})({"image": image})
    limited = SIFT({"max_keypoints": 100_000})({"image": image})
    torch.testing.assert_close(limited, everything)


def test_rootsift_is_the_root_of_the_l1_normalised_descriptor():
    descriptors = np.array([[4.0, 0, 12], [0, 0, 0]], np.float32)
    rooted = root_normalize(descriptors, epsilon=1e-12)
    np.testing.assert_allclose(rooted[0], np.sqrt([0.25, 0, 0.75]), atol=1e-5)
    assert np.isfinite(rooted).all()


def test_sift_and_rootsift_describe_the_same_points_differently(image):
    root, plain = (SIFT({"descriptor": name})({"image": image}) for name in ("rootsift", "sift"))
    torch.testing.assert_close(root["keypoints"], plain["keypoints"])
    # COLMAP's root of the L1-normalised descriptor, which root_normalize roots once more.
    rooted = root_normalize(np.sqrt(plain["descriptors"][0].T.numpy()))
    difference = np.abs(root["descriptors"][0].T.numpy() - rooted)
    assert difference.mean() < 0.01, "the rest is COLMAP's rounding to 8 bits"
    once = root_normalize(plain["descriptors"][0].T.numpy())
    assert difference.mean() < 0.3 * np.abs(root["descriptors"][0].T.numpy() - once).mean()


def test_unknown_descriptor_and_option_are_refused():
    with pytest.raises(InputError, match="hardnet"):
        SIFT({"descriptor": "hardnet"})
    with pytest.raises(InputError, match="max_keypoint'"):
        SIFT({"max_keypoint": 5})


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (2, 1, 32, 32)])
def test_colour_and_batches_are_refused(shape):
    with pytest.raises(InputError, match="one grey image"):
        SIFT({})({"image": torch.zeros(shape)})


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7), (1, 100), (16, 16)])
def test_tiny_and_black_images_have_no_keypoints(size):
    output = SIFT({"max_keypoints": 5})({"image": torch.zeros(1, 1, *size)})
    assert output["keypoints"].shape == (1, 0, 2)
    assert output["descriptors"].shape == (1, 128, 0)


def test_threads_give_what_one_gives(image):
    model = SIFT({})
    images = [image, image.flip(-1), image.flip(-2)] * 2
    expected = [model({"image": i})["keypoints"] for i in images]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda i: model({"image": i})["keypoints"], images))
    torch.testing.assert_close(found, expected)


def test_used_models_can_be_copied_and_pickled(image):
    model = SIFT({"max_keypoints": 20})
    expected = model({"image": image})
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other({"image": image}), expected)


def test_options_reach_colmap(image):
    few = SIFT({"options": {"first_octave": 0, "peak_threshold": 0.03}})({"image": image})
    more = SIFT({})({"image": image})
    assert 0 < few["keypoints"].shape[1] < more["keypoints"].shape[1]
    upright = SIFT({"options": {"first_octave": 0, "upright": True}})({"image": image})
    # VLFeat's upright keypoints, in COLMAP's convention.
    assert (upright["oris"] == upright["oris"][0, 0]).all()


def test_positions_agree_with_pycolmap_less_half_a_pixel(image):
    options = pycolmap.SiftExtractionOptions(
        first_octave=0, peak_threshold=0.01, normalization=pycolmap.Normalization.L1_ROOT
    )
    extractor = pycolmap.Sift(
        options=pycolmap.FeatureExtractionOptions(sift=options), device=pycolmap.Device.cpu
    )
    keypoints, _ = extractor.extract(image[0, 0].numpy())
    found = SIFT({})({"image": image})["keypoints"][0].numpy()
    np.testing.assert_allclose(found + 0.5, keypoints[:, :2], atol=1e-4)
