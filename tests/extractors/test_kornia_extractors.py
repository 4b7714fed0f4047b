"""Extractors whose networks are kornia's, with random weights, and the loader of public weights."""

from __future__ import annotations

import hashlib
import pickle
import urllib.error
from pathlib import Path

import pytest
import torch

from hloc_ext import pretrained
from hloc_ext.errors import CorruptFileError, InputError, MissingInputError
from hloc_ext.extractors.aliked import ALIKED
from hloc_ext.extractors.disk import DISK
from hloc_ext.extractors.xfeat import XFeat

IMAGES = torch.rand(2, 3, 90, 130, generator=torch.Generator().manual_seed(0))
EXTRACTORS = {
    "disk": (DISK, {"max_keypoints": 40, "detection_threshold": -1e9}, 128),
    "aliked": (ALIKED, {"max_keypoints": 40, "detection_threshold": 0.0}, 128),
    "xfeat": (XFeat, {"max_keypoints": 40, "detection_threshold": 0.0}, 64),
}


def make(name: str, **options):
    torch.manual_seed(0)
    model_class, conf, _ = EXTRACTORS[name]
    return model_class({**conf, "weights": None, **options}).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", EXTRACTORS)
def test_output_follows_the_contract(name):
    output = make(name)({"image": IMAGES})
    dim = EXTRACTORS[name][2]
    for i in range(2):
        keypoints, scores = output["keypoints"][i], output["scores"][i]
        number = len(keypoints)
        assert 0 < number <= 40 and keypoints.shape == (number, 2) and scores.shape == (number,)
        assert output["descriptors"][i].shape == (dim, number)
        torch.testing.assert_close(output["descriptors"][i].norm(dim=0), torch.ones(number))
        assert keypoints.dtype == torch.float32
        assert (keypoints >= -0.5).all() and (keypoints <= torch.tensor([129.5, 89.5])).all()


@torch.no_grad()
@pytest.mark.parametrize("name", EXTRACTORS)
def test_max_keypoints_keeps_the_best(name):
    everything = make(name, max_keypoints=2000)({"image": IMAGES[:1]})["scores"][0]
    few = make(name, max_keypoints=5)({"image": IMAGES[:1]})["scores"][0]
    assert len(few) == 5 < len(everything)
    # ALIKED ranks by the peak of the score map and returns the score at the refined position.
    torch.testing.assert_close(few.sort().values, everything.sort().values[-5:], atol=1e-3, rtol=0)


@torch.no_grad()
def test_xfeat_positions_scale_about_the_image_corner():
    model = make("xfeat")
    raw = model.net.detectAndCompute(IMAGES[:1], top_k=40)[0]["keypoints"]  # about (0, 0), from 128×64
    ratio = torch.tensor([130 / 128, 90 / 64])
    expected = (raw / ratio + 0.5) * ratio - 0.5
    torch.testing.assert_close(model({"image": IMAGES[:1]})["keypoints"][0], expected)
    aligned = IMAGES[:1, :, :64, :128]
    same = model.net.detectAndCompute(aligned, top_k=40)[0]["keypoints"]
    torch.testing.assert_close(model({"image": aligned})["keypoints"][0], same)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_weights_from_a_file(name, tmp_path: Path):
    model = make(name)
    net = model.net.net if name == "xfeat" else model.net
    path = tmp_path / "weights.pth"
    torch.save({"extractor": net.state_dict()} if name == "disk" else net.state_dict(), path)
    torch.manual_seed(1)
    loaded = EXTRACTORS[name][0]({"weights": str(path)})
    for key, value in (loaded.net.net if name == "xfeat" else loaded.net).state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[key])
    assert not loaded.net.training


def test_unknown_option_is_refused():
    with pytest.raises(InputError, match="max_num_keypoints"):
        DISK({"max_num_keypoints": 3})


# --- public weights ----------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of checkpoints and no network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def offline(url: str, path: str, hash_prefix: str | None = None, progress: bool = True) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("name", EXTRACTORS)
def test_offline_the_source_and_the_place_are_named(name, hub):
    model_class, conf, _ = EXTRACTORS[name]
    with pytest.raises(MissingInputError) as caught:
        model_class(conf)
    weights = pretrained.WEIGHTS[{"disk": "disk-depth", "aliked": "aliked-n16"}.get(name, name)]
    message = str(caught.value)
    assert all(url in message for url in weights.urls) and str(hub / weights.file_name) in message
    assert "no network" in message


def test_second_source_is_tried_and_the_hash_is_handed_on(hub, monkeypatch):
    asked = []

    def download(url: str, path: str, hash_prefix: str | None = None) -> None:
        asked.append((url, hash_prefix))
        if len(asked) == 1:
            raise RuntimeError("invalid hash value")
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    weights = pretrained.WEIGHTS["disk-depth"]
    path = pretrained.fetch("disk-depth")
    assert path == hub / "depth-save.pth" and path.read_bytes() == b"weights"
    assert asked == [(url, weights.sha256) for url in weights.urls]


def test_file_put_by_hand_is_verified_and_used(hub, monkeypatch, tmp_path):
    hub.mkdir(parents=True)
    torch.save({"extractor": make("disk").net.state_dict()}, hub / "depth-save.pth")
    with pytest.raises(CorruptFileError, match=r"depth-save\.pth has SHA-256 .*Delete it"):
        DISK({})
    digest = hashlib.sha256((hub / "depth-save.pth").read_bytes()).hexdigest()
    weights = pretrained.WEIGHTS["disk-depth"]
    changed = pretrained.Weights(weights.file_name, weights.urls, digest)
    monkeypatch.setitem(pretrained.WEIGHTS, "disk-depth", changed)
    torch.testing.assert_close(DISK({}).net.state_dict(), make("disk").net.state_dict())


def test_names_are_those_under_which_kornia_keeps_them(hub):
    """A file that kornia or the LightGlue package has downloaded is found."""
    from kornia.feature.disk import disk
    from kornia.feature.lightglue import LightGlue
    from kornia.feature.loftr import loftr

    found = {name: set(weights.urls) for name, weights in pretrained.WEIGHTS.items()}
    for name, urls in disk.urls.items():
        assert set(urls) == found[f"disk-{name}"]
    for name, urls in loftr.urls.items():
        assert set(urls) == found[f"loftr-{name}"]
    for name in ("disk", "aliked", "superpoint"):
        file_name = f"{LightGlue.features[name]['weights']}_{LightGlue.version}.pth".replace(".", "-")
        assert pretrained.WEIGHTS[f"lightglue-{name}"].file_name == file_name


def test_no_code_of_a_weights_file_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil()))
    torch.save({"extractor": Evil()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(CorruptFileError, match=name):
            pretrained.load_checkpoint(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_unreadable_unknown_and_absent_weights_are_named(hub, tmp_path):
    (tmp_path / "short.pth").write_bytes(b"")
    (tmp_path / "short.safetensors").write_bytes(b"abc")
    for name in ("short.pth", "short.safetensors"):
        with pytest.raises(CorruptFileError, match=name):
            pretrained.load_checkpoint(tmp_path / name)
    with pytest.raises(MissingInputError, match=r"nowhere\.pth"):
        pretrained.load_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(InputError, match="disk-depth"):
        pretrained.fetch("superb")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth do not fit DISK"):
        DISK({"weights": str(tmp_path / "other.pth")})


def test_safetensors_are_read(tmp_path):
    from safetensors.torch import save_file

    net = make("xfeat").net.net
    save_file(net.state_dict(), tmp_path / "x.safetensors")
    loaded = XFeat({"weights": str(tmp_path / "x.safetensors")})
    torch.testing.assert_close(loaded.net.net.state_dict(), net.state_dict())
