"""Learned matchers: those of kornia through our wrappers, and ours."""

from __future__ import annotations

import atexit
import copy
import functools
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hloc_ext import confs, image_matching
from hloc_ext.errors import HlocExtError, MissingInputError
from hloc_ext.extractors.disk import DISK
from hloc_ext.extractors.xfeat import XFeat
from hloc_ext.host import load_model
from hloc_ext.matchers.kd_mamba import WEIGHTS_DIR, save_weights
from hloc_ext.matchers.lightglue import LightGlue
from hloc_ext.matchers.loftr import LoFTR
from hloc_ext.matchers.nearest_neighbor import NearestNeighbor
from hloc_ext.models.attention_teacher import AttentionTeacher
from hloc_ext.models.kd_mamba import KDMAMBA_CONFIGS, KDMamba
from hloc_ext.pretrained import WEIGHTS, checkpoint_path

from .methods import Match, Matches, Method, UnavailableError

RANDOM = "random weights: cost only"
TEACHER = "kd-mamba-teacher"
#: Configurations whose names others may begin with.
KD_MAMBA_CONFS = ("kd-mamba-nano", "kd-mamba-rot", "kd-mamba")
MAX_KEYPOINTS = {"disk": 2048, "xfeat": 4096}


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _have(*names: str) -> bool:
    """Whether files of public weights are on this machine; nothing is downloaded."""
    return all(checkpoint_path(WEIGHTS[name]).exists() for name in names)


def _tensor(image: np.ndarray, channels: int = 1) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(image)).to(_device()).float() / 255
    return tensor.expand(1, channels, *image.shape)


def _numpy(*tensors: torch.Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().cpu().numpy() for tensor in tensors)


def load_loftr() -> Method:
    """LoFTR of kornia, outdoor weights."""
    trained = _have("loftr-outdoor")
    network = LoFTR({"weights": "outdoor" if trained else None}).to(_device()).eval()

    @torch.no_grad()
    def match(image0: np.ndarray, image1: np.ndarray) -> Matches:
        found = network({"image0": _tensor(image0), "image1": _tensor(image1)})
        keypoints0, keypoints1, scores = _numpy(
            *(found[key] for key in ("keypoints0", "keypoints1", "scores"))
        )
        return keypoints0, keypoints1, scores

    note = _note("kornia, outdoor", trained)
    return Method("loftr", match, trained, network=network, note=note, pipeline=(("", "loftr"),))


def load_xfeat(name: str) -> Method:
    """XFeat of kornia with mutual nearest neighbours, or with LightGlue where the name says so."""
    glue = "lightglue" in name
    trained = _have("xfeat", *(["lightglue-xfeat"] if glue else []))
    extractor = XFeat({"weights": "pretrained" if trained else None, "max_keypoints": MAX_KEYPOINTS["xfeat"]})
    if glue:
        matcher: nn.Module = LightGlue({"features": "xfeat", "weights": "pretrained" if trained else None})
    else:
        matcher = NearestNeighbor({})
    note = _note(f"kornia, {MAX_KEYPOINTS['xfeat']} keypoints", trained)
    return _sparse(name, extractor, matcher, 1, trained, note)


def load_disk() -> Method:
    """DISK and LightGlue of kornia."""
    trained = _have("disk-depth", "lightglue-disk")
    extractor = DISK({"weights": "depth" if trained else None, "max_keypoints": MAX_KEYPOINTS["disk"]})
    matcher = LightGlue({"features": "disk", "weights": "pretrained" if trained else None})
    note = _note(f"kornia, {MAX_KEYPOINTS['disk']} keypoints", trained)
    return _sparse("disk+lightglue", extractor, matcher, 3, trained, note)


def load_kd_mamba(name: str, weights: Path | None = None) -> Method:
    """Our matcher.

    Args:
        name: a configuration of :data:`hloc_ext.confs.dense_matchers`, ``kd-mamba-teacher``, or such a name
            and anything after it.
        weights: file of weights, or None for those of the configuration. Where these do not exist the network
            has random ones.

    Raises:
        UnavailableError: the weights cannot be read.
    """
    base = next(known for known in KD_MAMBA_CONFS if name.startswith(known))
    conf = copy.deepcopy(confs.dense_matchers[base])
    if weights is not None:
        conf["model"]["weights"] = str(weights)
    note, trained = f"{conf['model']['weights']}, images up to {conf['preprocessing']['resize_max']} px", True
    try:
        if name.startswith(TEACHER) and weights is None:
            raise MissingInputError("The package holds no weights of the teacher.")
        network = load_model("dense_matchers", conf)
    except MissingInputError:
        conf["model"]["weights"] = str(_random_weights(name))
        network = load_model("dense_matchers", conf)
        note, trained = _note(f"images up to {conf['preprocessing']['resize_max']} px", False), False
    except HlocExtError as error:
        raise UnavailableError(str(error)) from error
    # Under a name of its own, so that any weights can be asked for, and none are taken for others.
    entry = f"{name} of the benchmark"
    conf["output"] = f"matches-{name}-{_digest(conf['model']['weights'])}"
    confs.dense_matchers[entry] = conf

    def match(image0: np.ndarray, image1: np.ndarray) -> Matches:
        return image_matching.match(image0, image1, matcher=entry)

    return Method(name, match, trained, network=network, note=note, pipeline=(("", entry),))


def _digest(weights: str) -> str:
    path = Path(weights)
    if not path.suffix:
        path = WEIGHTS_DIR / f"{weights}.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


@functools.cache
def _random_weights(name: str) -> Path:
    """File of random weights, which exists as long as this process."""
    torch.manual_seed(0)
    size = "nano" if "nano" in name else "small"
    model = AttentionTeacher() if name.startswith(TEACHER) else KDMamba(KDMAMBA_CONFIGS[size])
    folder = tempfile.TemporaryDirectory(prefix="kd_mamba_random_")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / f"{name}.safetensors"
    save_weights(model, path)
    return path


def _note(text: str, trained: bool) -> str:
    return text if trained else f"{text}; {RANDOM}"


def _sparse(
    name: str, extractor: nn.Module, matcher: nn.Module, channels: int, trained: bool, note: str
) -> Method:
    network = nn.ModuleList([extractor, matcher]).to(_device()).eval()
    return Method(name, _sparse_match(extractor, matcher, channels), trained, network=network, note=note)


def _sparse_match(extractor: nn.Module, matcher: nn.Module, channels: int) -> Match:
    @torch.no_grad()
    def match(image0: np.ndarray, image1: np.ndarray) -> Matches:
        features = [_extract(extractor, image, channels) for image in (image0, image1)]
        found = matcher(_pair_inputs(features, (image0.shape, image1.shape)))
        indices, scores = found["matches0"][0], found["matching_scores0"][0]
        keep = indices >= 0
        points = [f["keypoints"][0] for f in features]
        keypoints0, keypoints1, kept = _numpy(points[0][keep], points[1][indices[keep]], scores[keep])
        return keypoints0, keypoints1, kept

    return match


def _extract(extractor: nn.Module, image: np.ndarray, channels: int) -> dict[str, torch.Tensor]:
    features = extractor({"image": _tensor(image, channels)})
    return {key: features[key][0][None] for key in ("keypoints", "descriptors")}


def _pair_inputs(
    features: Sequence[dict[str, torch.Tensor]], shapes: Sequence[tuple[int, ...]]
) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for i, (values, shape) in enumerate(zip(features, shapes, strict=True)):
        inputs |= {f"{key}{i}": value for key, value in values.items()}
        inputs[f"image_size{i}"] = torch.tensor([[shape[1], shape[0]]])
    return inputs
