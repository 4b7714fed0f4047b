"""Methods that are configurations, ours or HLOC's, and CrossViT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.matchers.methods import UnavailableError
from hloc_ext import confs
from hloc_ext.errors import HlocExtError, InputError
from hloc_ext.extract_features import prepare_image
from hloc_ext.extractors.crossvit import STUDENT, TEACHER, load_network, standardise, to_square
from hloc_ext.extractors.crossvit_teacher import spatial_inputs
from hloc_ext.host import get_conf, load_model
from hloc_ext.models.crossvit import CrossViT, CrossViTRetrieval, CrossViTTeacher

from .methods import Descriptors, Method, Photos

#: Images in the network at once.
BATCH = 16
#: Seed of the network without training.
SEED = 0
#: Where HLOC and torch.hub keep the weights of a configuration of HLOC, below ``torch.hub.get_dir()``.
HLOC_WEIGHTS = {
    "netvlad": "netvlad/VGG16-NetVLAD-Pitts30K.mat",
    "megaloc": "gmberton_MegaLoc_main/hubconf.py",
}


def load_conf(name: str, note: str = "") -> Method:
    """A configuration of a global descriptor.

    Args:
        name: of the configuration, ours or HLOC's.
        note: printed below tables.

    Raises:
        UnavailableError: there is no such configuration here, or its model cannot be made.
    """
    try:
        conf = get_conf("extractors", name)
        model = load_model("extractors", conf).to(_device())
    except HlocExtError as error:
        raise UnavailableError(str(error)) from error

    @torch.inference_mode()
    def describe(photos: Photos) -> Descriptors:
        images = (prepare_image(path, conf["preprocessing"]).tensor for path in photos.paths)
        found = [model({"image": image.to(_device())})["global_descriptor"][0] for image in images]
        return torch.stack(found).float().cpu().numpy()

    learned = any(True for _ in model.parameters())
    return Method(name, describe, model if learned else None, "trained" if learned else None, note=note)


def load_hloc(name: str) -> Method:
    """A configuration of HLOC; nothing is downloaded.

    Raises:
        UnavailableError: HLOC or the weights are not on this machine.
    """
    file = Path(torch.hub.get_dir()) / HLOC_WEIGHTS[name]
    if not file.exists():
        raise UnavailableError(f"its weights are not on this machine ({file})")
    return load_conf(name, note="configuration of HLOC")


def load_student(name: str = STUDENT, weights: Path | None = None) -> Method:
    """The student, with the weights of the package or of a file.

    Raises:
        UnavailableError: there are no weights.
    """
    return _crossvit(name, _load(STUDENT, weights), "trained", note=_origin(weights))


def load_teacher(name: str = TEACHER, weights: Path | None = None) -> Method:
    """The teacher, with the weights of the package or of a file.

    Raises:
        UnavailableError: there are no weights.
    """
    note = "; ".join(
        filter(None, ["it is given the true pose and structure of queries too", _origin(weights)])
    )
    return _crossvit(name, _load(TEACHER, weights), "trained", note=note)


def load_random() -> Method:
    """The student before any training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = CrossViTRetrieval()
    return _crossvit("crossvit-random", network, "random", note=f"untrained student, seed {SEED}")


def _load(architecture: str, weights: Path | None) -> CrossViT:
    try:
        return load_network(weights or architecture, architecture)
    except HlocExtError as error:
        if weights is None:
            raise UnavailableError(str(error)) from error
        raise


def _origin(weights: Path | None) -> str:
    return f"weights {weights.name}" if weights else "weights of the package"


def _crossvit(name: str, network: CrossViT, weights: str, note: str) -> Method:
    network = network.to(_device()).eval()

    @torch.inference_mode()
    def describe(photos: Photos) -> Descriptors:
        batches = [range(i, min(i + BATCH, len(photos.names))) for i in range(0, len(photos.names), BATCH)]
        return np.concatenate([_describe(network, photos, rows) for rows in batches])

    return Method(name, describe, network, weights, isinstance(network, CrossViTTeacher), note)


def _describe(network: CrossViT, photos: Photos, rows: Sequence[int]) -> Descriptors:
    """Embeddings (B, D) of some photos, prepared as by the configuration ``crossvit-student``."""
    preprocessing, size = confs.extractors["crossvit-student"]["preprocessing"], network.config.image_size
    paths = photos.paths
    squares = [to_square(prepare_image(paths[row], preprocessing).tensor, size) for row in rows]
    inputs = [standardise(torch.cat(squares))]
    if isinstance(network, CrossViTTeacher):
        if photos.scene is None:
            raise InputError("The teacher needs a model with the poses of all images.")
        images = [photos.scene.rows[photos.names[row]] for row in rows]
        inputs += spatial_inputs(photos.scene, images, network.config.spatial)
    return network(*(tensor.to(_device()) for tensor in inputs)).float().cpu().numpy()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
