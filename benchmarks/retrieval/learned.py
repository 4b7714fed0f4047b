"""Methods with a configuration, ours or HLOC's, and CrossViT."""

from __future__ import annotations

import copy
from typing import Any

import torch

from benchmarks.matchers.methods import UnavailableError
from hloc_ext.errors import HlocExtError
from hloc_ext.extract_features import prepare_image
from hloc_ext.host import get_conf, load_model

from .methods import Descriptors, Method, Photos


def load_conf(name: str, options: dict[str, Any] | None = None, label: str = "", note: str = "") -> Method:
    """A configuration of a global descriptor.

    Args:
        name: of the configuration, ours or HLOC's.
        options: of its model, instead of those of the configuration.
        label: name of the method; default that of the configuration.
        note: printed below tables.

    Raises:
        UnavailableError: there is no such configuration here, or its model cannot be made.
    """
    try:
        conf = copy.deepcopy(get_conf("extractors", name))
        conf["model"].update(options or {})
        model = load_model("extractors", conf).to(_device())
    except HlocExtError as error:
        raise UnavailableError(str(error)) from error

    @torch.inference_mode()
    def describe(photos: Photos) -> Descriptors:
        images = (prepare_image(path, conf["preprocessing"]).tensor for path in photos.paths)
        found = [model({"image": image.to(_device())})["global_descriptor"][0] for image in images]
        return torch.stack(found).float().cpu().numpy()

    learned = next(model.parameters(), None) is not None
    return Method(
        label or name, describe, model if learned else None, "trained" if learned else None, note=note
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
