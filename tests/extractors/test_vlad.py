from __future__ import annotations

import logging

import numpy as np
import pytest
import safetensors.torch
import torch

from hloc_ext.base_model import dynamic_load
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.extractors import vlad
from hloc_ext.extractors.vlad import GENERIC_VOCABULARY, VLAD, aggregate, k_means


@pytest.fixture
def caught(caplog):
    logging.getLogger("hloc_ext").addHandler(caplog.handler)
    yield caplog
    logging.getLogger("hloc_ext").removeHandler(caplog.handler)


def picture(seed, height=120, width=160):
    """Smooth random blobs, 1×1×H×W."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.random((1, 1, height // 6, width // 6), dtype=np.float32))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)


def loop_reference(descriptors, words):
    """VLAD with intra-normalisation, word by word."""
    nearest = np.linalg.norm(descriptors[:, None] - words, axis=-1).argmin(1)
    blocks = []
    for k, word in enumerate(words):
        block = (descriptors[nearest == k] - word).sum(0)
        norm = np.linalg.norm(block)
        blocks.append(block / norm if norm else block)
    vector = np.concatenate(blocks)
    return vector / np.linalg.norm(vector)


def test_aggregation_equals_the_definition():
    rng = np.random.default_rng(0)
    descriptors, words = rng.random((50, 16)), rng.random((9, 16))
    words[8] = 100.0  # a word without descriptors
    found = aggregate(torch.from_numpy(descriptors), torch.from_numpy(words)).numpy()
    np.testing.assert_allclose(found, loop_reference(descriptors, words), atol=1e-12)
    assert not found[-16:].any()


def test_no_descriptors_give_a_constant_unit_vector():
    found = aggregate(torch.empty(0, 16), torch.rand(4, 16))
    np.testing.assert_allclose(found, np.full(64, 1 / 8), rtol=1e-6)


def test_generic_vocabulary_by_default():
    model = VLAD({})
    words = safetensors.torch.load_file(GENERIC_VOCABULARY)["words"]
    assert not model.needs_fit and words.shape == (64, 128) and words.dtype == torch.float16
    torch.testing.assert_close(model.words, words.float())
    # Centres of unit vectors with positive entries lie inside the unit ball, and are all different.
    assert (model.words >= 0).all() and (model.words.norm(dim=1) < 1).all()
    assert torch.pdist(model.words).min() > 0.1


def test_descriptor_of_images():
    model = VLAD({})
    images = torch.cat([picture(0), picture(1), torch.full((1, 1, 120, 160), 0.5)])
    output = model({"image": images})["global_descriptor"]
    assert output.shape == (3, 64 * 128) and output.dtype == torch.float32
    torch.testing.assert_close(output.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(output[2], torch.full((8192,), 8192**-0.5))
    local = model.local_descriptors(images)[0].numpy()
    assert len(local) > 20
    np.testing.assert_allclose(output[0], loop_reference(local, model.words.numpy()), atol=1e-5)
    torch.testing.assert_close(model({"image": images[:1]})["global_descriptor"], output[:1])


def test_darker_and_noisy_image_is_more_similar_than_another_one():
    noise = 0.01 * torch.from_numpy(np.random.default_rng(9).standard_normal((1, 1, 120, 160))).float()
    images = torch.cat([picture(0), 0.6 * picture(0) + noise, picture(1)])
    output = VLAD({})({"image": images})["global_descriptor"]
    assert output[0] @ output[1] > output[0] @ output[2] + 0.1


def fitted(seed=0, **conf):
    model = VLAD({"vocabulary": "fit", "num_words": 4, "seed": seed, **conf})
    model.fit(torch.cat([picture(i), picture(i + 1)]) for i in range(0, 8, 2))
    return model


def test_fit_is_reproducible_and_depends_on_the_seed():
    first = fitted()
    assert not first.needs_fit and first.words.shape == (4, 128)
    torch.testing.assert_close(first.words, fitted().words, rtol=0, atol=0)
    assert not torch.equal(first.words, fitted(seed=1).words)


def test_fit_bounds_its_sample(monkeypatch):
    samples = []

    def record(sample, num_words, seed):
        samples.append(sample)
        return torch.from_numpy(sample[:num_words])

    monkeypatch.setattr(vlad, "k_means", record)
    fitted(samples_per_image=30, max_samples=160)
    everything = fitted(samples_per_image=30).words
    assert [len(sample) for sample in samples] == [160, 240]
    small, large = ({row.tobytes() for row in sample} for sample in samples)
    assert small < large and len(everything) == 4
    images_of_sample = [
        sum(row.tobytes() in small for row in samples[1][i * 30 : i * 30 + 30]) for i in range(8)
    ]
    assert min(images_of_sample) > 5  # every image takes part


def test_unfitted_model_refuses_to_run():
    model = VLAD({"vocabulary": "fit"})
    assert model.needs_fit
    with pytest.raises(InputError, match="neither fitted nor loaded"):
        model({"image": picture(0)})


def test_one_photo_leaves_the_generic_vocabulary(caught):
    model = VLAD({"vocabulary": "fit"})
    model.fit([picture(0)])
    torch.testing.assert_close(model.words, VLAD({}).words)
    assert "too few to train 64 visual words" in caught.text and not model.needs_fit


def test_saved_vocabulary_gives_identical_descriptors(tmp_path):
    model = fitted()
    model.save(tmp_path / "a.safetensors")
    loaded = VLAD({"vocabulary": "fit"})
    loaded.load(tmp_path / "a.safetensors")
    image = {"image": picture(3)}
    assert torch.equal(model(image)["global_descriptor"], loaded(image)["global_descriptor"])
    given = VLAD({"vocabulary": tmp_path / "a.safetensors"})
    assert torch.equal(given.words, model.words)
    given.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_bad_vocabularies(tmp_path):
    with pytest.raises(MissingInputError, match=r"gone\.safetensors does not exist"):
        VLAD({"vocabulary": tmp_path / "gone.safetensors"})
    (tmp_path / "cut.safetensors").write_bytes(GENERIC_VOCABULARY.read_bytes()[:500])
    with pytest.raises(CorruptFileError, match=r"cut\.safetensors is not a readable"):
        VLAD({"vocabulary": tmp_path / "cut.safetensors"})
    safetensors.torch.save_file({"words": torch.zeros(8, 64)}, tmp_path / "narrow.safetensors")
    with pytest.raises(InputError, match=r"expected `words` K×128, found \{'words': \(8, 64\)\}"):
        VLAD({"vocabulary": tmp_path / "narrow.safetensors"})


def test_unknown_option():
    with pytest.raises(InputError, match="has no option"):
        VLAD({"words": 3})


def test_k_means_finds_separated_clusters():
    centers = 10 * np.eye(4, 8, dtype=np.float32)
    noise = 0.1 * np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32)
    found = k_means(centers[np.arange(400) % 4] + noise, 4, seed=0).numpy()
    order = np.linalg.norm(found[:, None] - centers, axis=-1).argmin(0)
    np.testing.assert_allclose(found[order], centers, atol=0.05)


def test_found_by_name():
    from hloc_ext import extractors

    assert dynamic_load(extractors, "vlad") is VLAD
