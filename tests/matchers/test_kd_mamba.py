from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hloc_ext import confs, extract_features, match_dense
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.host import load_model
from hloc_ext.matchers import kd_mamba
from hloc_ext.matchers.kd_mamba import WEIGHTS_DIR, KDMambaMatcher, load_weights, save_weights
from hloc_ext.models.image_view import ImageView
from tests.kd_mamba_weights import write_random_weights
from tests.models.networks import texture, tiny_network

Output = dict[str, Tensor]
# Peaks of random weights tie, and rounding breaks a tie differently on every machine; those of these do not.
TRAINED = "kd_mamba_small"
KD_MAMBA_CONFS = {name: c for name, c in confs.dense_matchers.items() if c["model"]["name"] == "kd_mamba"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_random_weights(tmp_path_factory.mktemp("weights") / "random.safetensors"))


@pytest.fixture(autouse=True)
def all_mutual_matches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep improbable matches where the weights are random."""
    if "weights" in request.fixturenames:
        monkeypatch.setattr(kd_mamba, "MIN_PROBABILITY", 0.0)


def matcher(weights: str, **options: Any) -> KDMambaMatcher:
    return KDMambaMatcher({"weights": weights, "match_threshold": 0.0, **options}).eval()


def match(weights: str, image0: Tensor, image1: Tensor, **options: Any) -> Output:
    masks = {key: options.pop(key) for key in ("mask0", "mask1") if key in options}
    return matcher(weights, **options)({"image0": image0, "image1": image1, **masks})


def assert_equal_matches(actual: Output, expected: Output, least: int = 10, atol: float = 1e-3) -> None:
    assert len(expected["scores"]) >= least
    assert actual["batch_indexes"].tolist() == expected["batch_indexes"].tolist()
    for key in ("keypoints0", "keypoints1"):
        torch.testing.assert_close(actual[key], expected[key], rtol=0, atol=atol)
    torch.testing.assert_close(actual["scores"], expected["scores"], rtol=1e-3, atol=1e-5)


# --- what is returned ---------------------------------------------------------------------------------


def test_same_pixels_match(weights):
    image = texture(0, 96, 128)
    output = match(weights, image, image)
    assert len(output["scores"]) > 20
    distance = (output["keypoints0"] - output["keypoints1"]).norm(dim=1)
    assert (distance < 1).float().mean() > 0.9


def test_the_image_that_does_not_move_keeps_its_grid(weights):
    image0, image1 = texture(0, 96, 128), texture(0, 96, 136)[..., 8:]
    both = match(weights, image0, image1)
    first, second = (match(weights, image0, image1, moves=f"image{i}") for i in (0, 1))
    assert len(both["scores"]) > 10
    assert (first["keypoints1"] % 8 == 0).all() and (first["keypoints0"] % 8 != 0).any()
    assert (second["keypoints0"] % 8 == 0).all() and (second["keypoints1"] % 8 != 0).any()
    for key in ("keypoints0", "keypoints1"):  # half of the way each
        torch.testing.assert_close(both[key], (first[key] + second[key]) / 2)


def test_pairs_of_a_batch_are_those_matched_alone():
    image0 = texture(0, 80, 96, batch=2)
    image1 = torch.stack([image0[0].flip(-1), image0[1]])
    for rotations in (1, 4):
        model = matcher(TRAINED, rotations=rotations)
        together = model({"image0": image0, "image1": image1})
        alone = [model({"image0": image0[i : i + 1], "image1": image1[i : i + 1]}) for i in (0, 1)]
        alone[1]["batch_indexes"] += 1
        assert_equal_matches(together, {key: torch.cat([a[key] for a in alone]) for key in together})


def test_matches_are_chosen_by_score(weights):
    image0, image1 = texture(0, 96, 128), texture(0, 96, 128) ** 2
    scores = match(weights, image0, image1)["scores"].sort(descending=True).values
    assert len(scores) > 10
    threshold = scores[5].item()
    assert match(weights, image0, image1, match_threshold=threshold)["scores"].min() == threshold
    best = match(weights, image0, image1, max_num_matches=7)["scores"].sort(descending=True).values
    torch.testing.assert_close(best, scores[:7])


def test_masked_half_has_no_matches(weights):
    image = texture(0, 96, 128)
    mask = torch.ones(1, 96, 128)
    mask[..., :64] = 0
    output = match(weights, image, image, mask1=mask, moves="image0")
    assert len(output["scores"]) > 5 and output["keypoints1"][:, 0].min() >= 64
    output = match(weights, image, image, mask0=mask[:, None].bool(), moves="image1")
    assert len(output["scores"]) > 5 and output["keypoints0"][:, 0].min() >= 64


# --- images -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (1, 1), (33, 47), (8, 300), (129, 65)])
@pytest.mark.parametrize("other", [(32, 32), (70, 45)])
@pytest.mark.parametrize("rotations", [1, 8])
def test_images_of_any_size(weights, size, other, rotations):
    image0, image1 = texture(0, *size), texture(1, *other)
    output = match(weights, image0, image1, rotations=rotations)
    for keypoints, (height, width) in ((output["keypoints0"], size), (output["keypoints1"], other)):
        assert keypoints.isfinite().all()
        assert (keypoints > -8).all() and (keypoints < torch.tensor([width + 8.0, height + 8.0])).all()
    assert ((output["scores"] >= 0) & (output["scores"] <= 1)).all()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_images_without_texture(weights, value):
    image, constant = texture(0, 64, 80), torch.full((1, 1, 64, 80), value)
    for pair in ((image, constant), (constant, image), (constant, constant)):
        for rotations in (1, 4):
            output = match(weights, *pair, rotations=rotations)
            assert all(output[key].isfinite().all() for key in ("keypoints0", "keypoints1", "scores"))


def test_fully_masked_image_has_no_matches(weights):
    image = texture(0, 64, 80)
    output = match(weights, image, image, mask0=torch.zeros(1, 64, 80))
    assert output["keypoints0"].shape == output["keypoints1"].shape == (0, 2) and len(output["scores"]) == 0


def test_larger_images_are_reduced_and_positions_are_those_of_the_input(weights):
    image = torch.nn.functional.interpolate(texture(0, 96, 128), (288, 384), mode="bilinear")
    model = matcher(weights, resize_max=128, moves="image0")
    sizes = []
    model.net.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    output = model({"image0": image, "image1": image})
    assert set(sizes) == {(96, 128)}
    assert len(output["scores"]) > 10
    # Centres of the cells of the reduced image: 3 (8k + ½) − ½.
    torch.testing.assert_close((output["keypoints1"] - 1) % 24, torch.zeros_like(output["keypoints1"]))
    assert (output["keypoints0"] - output["keypoints1"]).norm(dim=1).median() < 2


@pytest.mark.parametrize(
    "data, message",
    [
        ({"image0": torch.zeros(1, 3, 32, 32)}, r"grey images B×1×H×W, got image0 of \(1, 3, 32, 32\)"),
        ({"image0": torch.zeros(1, 1, 0, 32)}, "got image0 of"),
        ({"mask1": torch.ones(1, 16, 32)}, r"mask1 \(1, 16, 32\) is not that of"),
        ({"mask1": torch.ones(2, 32, 32)}, "use B×H×W"),
    ],
)
def test_other_inputs_are_refused(weights, data, message):
    blank = torch.zeros(1, 1, 32, 32)
    with pytest.raises(InputError, match=message):
        matcher(weights)({"image0": blank, "image1": blank, **data})


# --- headings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("moves", ["both", "image0"])
def test_turned_image_matches_as_the_upright_one(quarters, moves):
    image = texture(0, 96, 128)
    upright = match(TRAINED, image, image, moves=moves)
    turned = ImageView(image).turned(90 * quarters)
    if moves == "both":  # image 1 is turned back, and its keypoints forth
        output = match(TRAINED, image, turned.image, rotations=4, moves=moves)
        output["keypoints1"] = turned.restore(output["keypoints1"])
    else:  # image 0 is turned, and the keypoints of image 1 stay on the grid
        output = match(TRAINED, turned.image, image, rotations=4, moves=moves)
        assert (output["keypoints1"] % 8 == 0).all()
        output["keypoints0"] = turned.restore(output["keypoints0"])
    assert_equal_matches(output, upright)


def test_oblique_heading_is_found(weights):
    image = texture(0, 96, 96)
    model = matcher(weights, rotations=8)
    for k in range(8):
        fits = model._fit(ImageView(image), [ImageView(image).turned((q - k) * 45) for q in range(8)])
        assert fits.argmax() == k


def test_full_resolution_decides_among_the_tries(weights, monkeypatch):
    image = texture(0, 96, 128)
    turned = ImageView(image).turned(90).image
    right = match(weights, image, turned, rotations=4)
    for tries, is_right in ((1, False), (2, True)):
        model = matcher(weights, rotations=4, tries=tries)
        # At reduced resolution a wrong heading looks best, and the right one (270 degrees) second.
        monkeypatch.setattr(model, "_fit", lambda still, views: torch.tensor([3.0, 0.0, 0.0, 2.0]))
        output = model({"image0": image, "image1": turned})
        same = len(output["scores"]) == len(right["scores"])
        assert (same and torch.equal(output["keypoints1"], right["keypoints1"])) == is_right


def test_scale_is_found_with_the_heading(weights):
    image = texture(0, 96, 128)
    large = torch.nn.functional.interpolate(image, scale_factor=2, mode="bilinear").rot90(1, (2, 3))
    output = match(weights, image, large, rotations=4, scales=(1.0, 0.5))
    assert len(output["scores"]) > 10
    # A quarter turn counterclockwise takes x, y to y, 255 − x of the doubled image.
    x, y = (2 * output["keypoints0"] + 0.5).unbind(1)
    error = (output["keypoints1"] - torch.stack([y, 255 - x], 1)).norm(dim=1)
    assert error.median() < 6  # pixels of the doubled image, of which a cell has 16


@pytest.mark.parametrize(
    "option", [{"rotations": 3}, {"moves": "none"}, {"scales": ()}, {"scales": (0.0,)}, {"tries": 0}]
)
def test_unknown_values_of_options_are_refused(weights, option):
    with pytest.raises(InputError, match=next(iter(option))):
        matcher(weights, **option)


# --- features that are used again ---------------------------------------------------------------------


def test_image_that_meets_many_is_encoded_once():
    model = matcher(TRAINED)
    calls = []
    model.net.encoder.register_forward_hook(lambda *_: calls.append(1))
    query = texture(0, 64, 80)
    others = [query**power for power in (0.5, 2, 3)]
    outputs = [model({"image0": query.clone(), "image1": other}) for other in others]
    assert len(calls) == 4
    for other, output in zip(others, outputs, strict=True):
        assert_equal_matches(output, match(TRAINED, query, other, cache_bytes=0))


# --- weights ------------------------------------------------------------------------------------------


def test_weights_are_read_as_they_were_written(tmp_path):
    network = tiny_network(seed=3)
    save_weights(network, tmp_path / "a.safetensors")
    loaded = load_weights(tmp_path / "a.safetensors")
    assert loaded.config == network.config and not loaded.training
    for key, value in network.state_dict().items():
        assert loaded.state_dict()[key].equal(value)


def test_absent_weights_are_named():
    with pytest.raises(MissingInputError, match=r"kd_mamba_huge\.safetensors does not exist\. Weights of"):
        KDMambaMatcher({"weights": "kd_mamba_huge"})


@pytest.mark.parametrize("content", [b"", b"no weights", "half"])
def test_damaged_weights_are_refused(weights, tmp_path, content):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(Path(weights).read_bytes()[:20_000] if content == "half" else content)
    with pytest.raises(CorruptFileError, match=r"damaged\.safetensors is not a readable safetensors file"):
        load_weights(path)


def test_weights_of_other_models_are_refused(tmp_path):
    with pytest.raises(CorruptFileError, match="does not hold weights of KD-Mamba"):
        load_weights(WEIGHTS_DIR / "vlad_rootsift.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors", {"architecture": "superglue"})
    with pytest.raises(CorruptFileError, match="architecture 'superglue'"):
        load_weights(tmp_path / "other.safetensors")


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "size", "option", "no config", "no json"])
def test_weights_that_do_not_fit_their_configuration_are_refused(tmp_path, change):
    network = tiny_network()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    config = {"widths": [8, 16, 32], "blocks": 1, "layers": 2, "state": 8, "coarse_dim": 24, "fine_dim": 8}
    metadata = {"architecture": "kd_mamba", "config": json.dumps(config)}
    save_file(state, tmp_path / "good.safetensors", metadata)
    load_weights(tmp_path / "good.safetensors")
    if change == "missing":
        del state["coarse.weight"]
    elif change == "extra":
        state["more"] = torch.zeros(1)
    elif change == "shape":
        state["coarse.weight"] = torch.zeros(3, 3)
    elif change == "size":
        metadata["config"] = json.dumps({**config, "layers": 3})
    elif change == "option":
        metadata["config"] = json.dumps({**config, "colour": 3})
    elif change == "no config":
        del metadata["config"]
    else:
        metadata["config"] = "3"
    save_file(state, tmp_path / "bad.safetensors", metadata)
    with pytest.raises(CorruptFileError, match=r"bad\.safetensors does not fit its own configuration"):
        load_weights(tmp_path / "bad.safetensors")


# --- configurations -----------------------------------------------------------------------------------


def test_configurations(weights):
    assert KD_MAMBA_CONFS.keys() >= {"kd-mamba", "kd-mamba-nano", "kd-mamba-rot", "kd-mamba-snap"}
    for conf in KD_MAMBA_CONFS.values():
        model = load_model("dense_matchers", {**conf, "model": {**conf["model"], "weights": weights}})
        assert isinstance(model, KDMambaMatcher) and model.conf["moves"] == "image0" and not model.training


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Three crops of one texture, 11 and 22 pixels apart."""
    import cv2

    big = (255 * texture(5, 130, 170)[0, 0]).round().byte().numpy()
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), big[:120, 11 * i : 11 * i + 130])
    (tmp_path / "pairs.txt").write_text("0.png 1.png\n0.png 2.png\n1.png 2.png\n")
    return tmp_path


def dense_conf(name: str, weights: str) -> dict[str, Any]:
    conf = confs.dense_matchers[name]
    return {**conf, "model": {**conf["model"], "weights": weights, "match_threshold": 0.0}}


def test_stage_makes_keypoints_of_matches(weights, crops):
    features, matches = match_dense.main(
        dense_conf("kd-mamba", weights), crops / "pairs.txt", crops / "images", crops / "outputs"
    )
    assert (features.name, matches.name) == ("feats_matches-kd-mamba.h5", "matches-kd-mamba_pairs.h5")
    with h5py.File(features) as keypoints, h5py.File(matches) as file:
        matches0 = file["0.png/2.png/matches0"][()]
        assert len(matches0) == len(keypoints["0.png/keypoints"]) and (matches0 > -1).sum() > 3
        raw = file["0.png/2.png/keypoints1"][()]
        np.testing.assert_array_equal(raw % 8, 0)  # images of 130×120 pixels are not resampled


def test_stage_snaps_to_keypoints_that_exist(weights, crops):
    sift = extract_features.main(confs.extractors["sift-colmap"], crops / "images", crops / "outputs")
    outputs = match_dense.main(
        dense_conf("kd-mamba-snap", weights),
        crops / "pairs.txt",
        crops / "images",
        features=crops / "outputs" / "new.h5",
        matches=crops / "outputs" / "matches.h5",
        features_ref=sift,
    )
    assert not outputs[0].exists()
    with h5py.File(sift) as keypoints, h5py.File(outputs[1]) as file:
        for name0, name1 in (("0.png", "1.png"), ("1.png", "2.png")):
            matches0 = file[f"{name0}/{name1}/matches0"][()]
            assert len(matches0) == len(keypoints[f"{name0}/keypoints"]) and (matches0 > -1).any()


# --- the weights of the package -----------------------------------------------------------------------


def homography_pair() -> tuple[Tensor, Tensor, np.ndarray]:
    """A textured image, the same under a homography with other brightness, and the homography."""
    import cv2

    corners = np.array([[0, 0], [319, 0], [319, 239], [0, 239]], np.float32)
    moved = corners + np.array([[14, 9], [-11, 17], [-16, -8], [9, -13]], np.float32)
    homography = cv2.getPerspectiveTransform(corners, moved)
    image = texture(7, 240, 320)[0, 0].numpy()
    warped = cv2.warpPerspective(image, homography, (320, 240), flags=cv2.INTER_LINEAR)
    return torch.from_numpy(image)[None, None], torch.from_numpy(0.7 * warped + 0.1)[None, None], homography


@pytest.mark.parametrize("name", ["kd_mamba_small", "kd_mamba_nano", "kd_mamba_aerial"])
def test_shipped_weights_recover_a_homography(name):
    import cv2

    if not (WEIGHTS_DIR / f"{name}.safetensors").exists():
        pytest.skip(f"the package holds no weights {name}")
    image0, image1, truth = homography_pair()
    output = KDMambaMatcher({"weights": name}).eval()({"image0": image0, "image1": image1})
    points0, points1 = output["keypoints0"].numpy(), output["keypoints1"].numpy()
    assert len(points0) > 200
    estimate, _ = cv2.findHomography(points0, points1, cv2.USAC_MAGSAC, 3.0)
    corners = np.array([[[0, 0]], [[319, 0]], [[319, 239]], [[0, 239]]], np.float32)
    error = cv2.perspectiveTransform(corners, estimate) - cv2.perspectiveTransform(corners, truth)
    assert np.linalg.norm(error, axis=2).mean() < 1
