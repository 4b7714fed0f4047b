"""Public weights that wrappers load on demand: where they come from, where they are kept, what they hash to.

Files are kept where :mod:`torch.hub` and kornia keep theirs (``$TORCH_HOME/hub/checkpoints``), under the
same names, so that nothing is downloaded twice and a machine without network can be given them by hand.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from .errors import CorruptFileError, InputError, MissingInputError
from .formats.atomic import explain_os_error, make_dir


@dataclass(frozen=True)
class Weights:
    """A file of public weights.

    Attributes:
        file_name: name in the folder of checkpoints.
        urls: sources, tried in order.
        sha256: hexadecimal digest of the file, or None where it is not known.
    """

    file_name: str
    urls: tuple[str, ...]
    sha256: str | None = None


_KORNIA = "https://huggingface.co/kornia"
_LIGHTGLUE = "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv"


def _loftr(file_name: str, sha256: str | None = None) -> Weights:
    mirror = f"https://cmp.felk.cvut.cz/~mishkdmy/models/{file_name}"
    return Weights(file_name, (f"{_KORNIA}/loftr/resolve/main/{file_name}", mirror), sha256)


def _disk(file_name: str, sha256: str | None = None) -> Weights:
    origin = f"https://raw.githubusercontent.com/cvlab-epfl/disk/master/{file_name}"
    return Weights(file_name, (origin, f"{_KORNIA}/disk/resolve/main/{file_name}"), sha256)


def _aliked(file_name: str, sha256: str | None = None) -> Weights:
    origin = f"https://github.com/Shiaoming/ALIKED/raw/main/models/{file_name}"
    return Weights(file_name, (origin, f"{_KORNIA}/aliked/resolve/main/{file_name}"), sha256)


def _lightglue(features: str, sha256: str | None = None) -> Weights:
    name = f"{features}_lightglue"
    urls = (f"{_LIGHTGLUE}/{name}.pth", f"{_KORNIA}/lightglue/resolve/main/{name}.pth")
    # The odd suffix is that of the LightGlue package and of kornia, whose copy is then used.
    return Weights(f"{name}_v0-1_arxiv-pth", urls, sha256)


#: Every file that the wrappers can ask for, by its name here.
WEIGHTS: dict[str, Weights] = {
    "loftr-outdoor": _loftr(
        "loftr_outdoor.ckpt", "21f5bec5968178e8bc8b7633441836fe5de4f47d861dd2cd7dc38e271b0479ec"
    ),
    "loftr-indoor": _loftr("loftr_indoor.ckpt"),
    "loftr-indoor_new": _loftr("loftr_indoor_ds_new.ckpt"),
    "disk-depth": _disk("depth-save.pth", "9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe"),
    "disk-epipolar": _disk("epipolar-save.pth"),
    "aliked-t16": _aliked("aliked-t16.pth"),
    "aliked-n16": _aliked(
        "aliked-n16.pth", "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2"
    ),
    "aliked-n16rot": _aliked("aliked-n16rot.pth"),
    "aliked-n32": _aliked("aliked-n32.pth"),
    "xfeat": Weights(
        "xfeat.pt",
        ("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",),
        "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
    ),
    "lightglue-disk": _lightglue("disk", "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335"),
    "lightglue-aliked": _lightglue(
        "aliked", "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503"
    ),
    "lightglue-superpoint": _lightglue("superpoint"),
    "lightglue-xfeat": Weights(
        "xfeat-lighterglue.pt",
        ("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat-lighterglue.pt",),
    ),
    "crossvit-tiny-imagenet": Weights(
        "crossvit_tiny_240.in1k.safetensors",
        ("https://huggingface.co/timm/crossvit_tiny_240.in1k/resolve/main/model.safetensors",),
    ),
}


def checkpoint_path(weights: Weights) -> Path:
    """Where the file of `weights` is, or will be, kept."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.file_name


def _check_hash(path: Path, weights: Weights) -> None:
    if weights.sha256 is None:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != weights.sha256:
        raise CorruptFileError(
            f"{path} has SHA-256 {digest}, expected {weights.sha256}: the file is damaged or another one."
            f" Delete it; it is downloaded again from {weights.urls[0]}."
        )


def fetch(name: str) -> Path:
    """Path of a file of public weights, downloaded if it is not there, and verified by its hash.

    Args:
        name: key of :data:`WEIGHTS`.

    Raises:
        InputError: unknown name.
        MissingInputError: the file is absent and no source can be reached; the message names the
            sources and the path where the file may be put by hand.
        CorruptFileError: the file that is there has another hash.
    """
    if name not in WEIGHTS:
        raise InputError(f"No public weights '{name}': choose one of {sorted(WEIGHTS)}, or give a file.")
    weights = WEIGHTS[name]
    path = checkpoint_path(weights)
    if path.exists():
        _check_hash(path, weights)
        return path
    make_dir(path.parent)
    failures = []
    for url in weights.urls:
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=weights.sha256)
            return path
        except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: hash differs
            if isinstance(error, OSError) and error.errno is not None:
                explained = explain_os_error(error, path)
                if explained is not error:
                    raise explained from error
            failures.append(f"  {url}: {error}")
    raise MissingInputError(
        f"The weights '{name}' are not on this machine and cannot be downloaded:\n"
        + "\n".join(failures)
        + f"\nDownload one of these addresses elsewhere and put the file at {path}."
    )


def load_checkpoint(source: str | Path) -> dict[str, Any]:
    """Load a file of weights without running code from it.

    Args:
        source: key of :data:`WEIGHTS`, or path of a ``.safetensors`` or PyTorch file.

    Raises:
        MissingInputError: no such file, or it cannot be downloaded.
        CorruptFileError: the file cannot be read, or holds more than tensors and plain values.
    """
    path = fetch(str(source)) if str(source) in WEIGHTS else Path(source)
    if not path.exists():
        raise MissingInputError(f"Weights {path} do not exist: give a file, or one of {sorted(WEIGHTS)}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CorruptFileError(f"{path} is not a readable file of weights ({error}). Replace it.") from error


def load_into(
    module: nn.Module, state: Mapping[str, torch.Tensor], source: str | Path, optional: Iterable[str] = ()
) -> None:
    """Copy `state` into `module`; every parameter must be there.

    Args:
        module: receives the weights.
        state: parameter and buffer name to tensor.
        source: where `state` comes from, for the message.
        optional: names of buffers that need not be there.

    Raises:
        InputError: names or shapes differ.
    """
    try:
        result = module.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise InputError(f"The weights {source} do not fit {type(module).__name__}: {error}") from error
    missing = set(result.missing_keys) - set(optional)
    if missing or result.unexpected_keys:
        raise InputError(
            f"The weights {source} do not fit {type(module).__name__}: missing {sorted(missing)[:5]},"
            f" unexpected {sorted(result.unexpected_keys)[:5]}."
        )
