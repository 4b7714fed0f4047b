"""Weights of cross-view networks: safetensors whose header holds kind, configuration and provenance."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import CorruptFileError, InputError, MissingInputError
from ..formats.atomic import write_bytes
from ..models.cross_view import SAMPLE4GEO_BACKBONE, EncoderConfig, SharedEncoder, StudentPair
from ..pretrained import load_checkpoint, load_into

WEIGHTS_DIR = Path(__file__).parents[1] / "weights"
SHARED, STUDENTS, SSA = "cross_view_shared", "cross_view_students", "cross_view_ssa"
KINDS = (SHARED, STUDENTS, SSA)
_TRAINING = "python -m hloc_ext.train configs/train/cross_view_teacher_small.yaml"
_SSA_MODULE = "hloc_ext.models.bev"  # SSANetwork(SSAConfig), with `encoder`: EncoderConfig among its fields


@dataclasses.dataclass(frozen=True)
class CrossViewInfo:
    """What a file of weights says beside the weights.

    Attributes:
        kind: one of :data:`KINDS`.
        sizes: (height, width) in pixels of the images of each view that the network was trained on.
        provenance: what its training has seen, e.g. ``vigor/Chicago`` (as
            :class:`~hloc_ext.datasets.cross_view.layout.CrossViewSet` names it); None: unknown.
        about: further text, e.g. the recipe.
    """

    kind: str
    sizes: dict[str, tuple[int, int]]
    provenance: frozenset[str] | None = None
    about: dict[str, str] = dataclasses.field(default_factory=dict)


def save_cross_view(
    path: Path,
    network: nn.Module,
    provenance: Iterable[str] | None,
    about: Mapping[str, str] | None = None,
    state: Mapping[str, Tensor] | None = None,
    half: bool = False,
) -> None:
    """Write a network's configuration and weights.

    Args:
        path: safetensors file, written atomically.
        network: SharedEncoder, StudentPair, or SSANetwork.
        provenance: what its training has seen; None: unknown.
        about: further text for the header, e.g. how it was trained.
        state: written instead of the network's own state (e.g. averaged weights).
        half: in 16 bits, as the weights that ship.
    """
    kind, config = _describe(network)
    metadata = {
        **(about or {}),
        "architecture": kind,
        "config": json.dumps(config),
        "provenance": json.dumps(None if provenance is None else sorted(provenance)),
    }
    tensors = {}
    for key, value in (state or network.state_dict()).items():
        value = value.half() if half and value.is_floating_point() else value
        tensors[key] = value.detach().cpu().contiguous().clone()
    write_bytes(Path(path), save(tensors, metadata))


def load_cross_view(source: str | Path) -> tuple[Any, CrossViewInfo]:
    """Build a network from a file of weights, which also holds its configuration.

    Args:
        source: a file of :func:`save_cross_view`, or the name of weights of the package.

    Returns:
        The network, in evaluation mode and single precision: ``network(image, view)`` gives unit B×D
        embeddings; and what the file says of it.

    Raises:
        MissingInputError: there is no such file; the message names the command that makes one.
        CorruptFileError: the file cannot be read, or does not fit its own configuration.
        InputError: the file holds weights of another kind, or timm is not installed.
    """
    path = Path(source)
    if not path.suffix:
        path = WEIGHTS_DIR / f"{source}.safetensors"
    if not path.exists():
        raise MissingInputError(
            f"Weights {path} do not exist. Make some with `{_TRAINING} data.root=DATA` (docs/cross_view.md)"
            " and give their file in the option `weights`."
        )
    metadata, state = _read(path)
    kind = metadata.get("architecture", "")
    if kind not in KINDS:
        raise InputError(
            f"{path} holds weights of {kind or 'an unnamed network'}, not of cross-view localisation; make"
            f" such files with `{_TRAINING}`. Sample4Geo's checkpoints are read by load_sample4geo."
        )
    try:
        config = json.loads(metadata["config"])
        provenance = json.loads(metadata["provenance"])
        network = _build(kind, config)
        network.load_state_dict(state)
    except ImportError as error:
        raise InputError(f"Cross-view networks need timm ({error}): pip install timm torchvision.") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptFileError(f"{path} does not fit its own configuration: {error}.") from error
    about = {k: v for k, v in metadata.items() if k not in ("architecture", "config", "provenance")}
    seen = None if provenance is None else frozenset(provenance)
    return network.float().eval(), CrossViewInfo(kind, image_sizes(network), seen, about)


def load_sample4geo(path: Path, config: EncoderConfig | None = None) -> SharedEncoder:
    """Read a public checkpoint of Sample4Geo (``weights_e40_98.6830.pth``…) without running code from it.

    Args:
        path: PyTorch file of tensors ``model.*`` and ``logit_scale``.
        config: its encoder; default: ConvNeXt-B with the image sizes of CVUSA and CVACT (VIGOR: ground_size
            (384, 768)).

    Returns:
        The network, in evaluation mode. The temperature, which only training needs, is dropped.

    Raises:
        MissingInputError, CorruptFileError: the file does not exist or cannot be read.
        InputError: not such a checkpoint, or of another backbone.
    """
    values = load_checkpoint(path)
    state = {key.removeprefix("module."): value for key, value in values.items()}  # of DataParallel
    prefix = "model."
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not found or set(state) - {prefix + key for key in found} - {"logit_scale"}:
        raise InputError(
            f"{path} is no checkpoint of Sample4Geo: it should hold tensors `model.*` and `logit_scale`, and"
            f" has {sorted(values)[:4]}."
        )
    network = SharedEncoder(config or EncoderConfig(backbone=SAMPLE4GEO_BACKBONE))
    load_into(network.backbone, found, path)
    return network.eval()


def image_sizes(network: nn.Module) -> dict[str, tuple[int, int]]:
    """(height, width) in pixels of the images of each view that a network was configured for."""
    if isinstance(network, StudentPair):
        configs = {view: network.encoder(view).config for view in network.views}
    else:
        config: Any = network.config
        config = config if isinstance(network, SharedEncoder) else config.encoder
        configs = dict.fromkeys(("ground", "aerial"), config)
    return {view: getattr(config, f"{view}_size") for view, config in configs.items()}


def _describe(network: nn.Module) -> tuple[str, dict[str, Any]]:
    """Kind of a network, and its configuration as JSON takes it."""
    if isinstance(network, StudentPair):
        encoders = {view: network.encoder(view).config for view in network.views}
        return STUDENTS, {view: dataclasses.asdict(config) for view, config in encoders.items()}
    kind = SHARED if isinstance(network, SharedEncoder) else SSA
    config: Any = network.config
    return kind, dataclasses.asdict(config)


def _build(kind: str, config: dict[str, Any]) -> nn.Module:
    """A network with random weights."""
    with torch.random.fork_rng(devices=[]):
        if kind == STUDENTS:
            return StudentPair({view: EncoderConfig(**values) for view, values in config.items()})
        if kind == SHARED:
            return SharedEncoder(EncoderConfig(**config))
        module = importlib.import_module(_SSA_MODULE)
        encoder = EncoderConfig(**config.pop("encoder"))
        return module.SSANetwork(module.SSAConfig(encoder=encoder, **config))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a file."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} is not a readable safetensors file: {error}.") from error
