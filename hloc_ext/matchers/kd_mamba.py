"""KD-Mamba, our ultra-light semi-dense matcher (:mod:`hloc_ext.models.kd_mamba`), and its weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CorruptFileError, MissingInputError
from ..formats.atomic import replacing
from ..models.attention_teacher import AttentionTeacher, TeacherConfig
from ..models.kd_mamba import KDMamba, KDMambaConfig

WEIGHTS_DIR = Path(__file__).parents[1] / "weights"
_ARCHITECTURES = {"kd_mamba": (KDMamba, KDMambaConfig), "attention_teacher": (AttentionTeacher, TeacherConfig)}


def load_weights(source: str | Path) -> KDMamba:
    """Build a matcher from a file of weights, which also holds its configuration.

    Args:
        source: a file, or the name of weights of the package, e.g. ``kd_mamba_small``.

    Returns:
        The network in evaluation mode.

    Raises:
        MissingInputError: there is no such file.
        CorruptFileError: the file cannot be read, or does not hold weights of this matcher.
    """
    path = Path(source)
    if not path.suffix:
        path = WEIGHTS_DIR / f"{source}.safetensors"
    if not path.exists():
        shipped = sorted(p.stem for p in WEIGHTS_DIR.glob("kd_mamba*.safetensors"))
        raise MissingInputError(f"{path} does not exist. Weights of the package: {shipped}.")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} is not a readable safetensors file: {error}.") from error
    if metadata.get("architecture") not in _ARCHITECTURES:
        raise CorruptFileError(
            f"{path} does not hold weights of KD-Mamba (architecture {metadata.get('architecture')!r});"
            " make such files with python -m hloc_ext.train."
        )
    model_class, config_class = _ARCHITECTURES[metadata["architecture"]]
    try:
        options = json.loads(metadata["config"])
        options["widths"] = tuple(options["widths"])
        model = model_class(config_class(**options))
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptFileError(f"{path} does not fit its own configuration: {error}.") from error
    return model.eval()


def save_weights(
    model: KDMamba, path: Path, about: Mapping[str, str] | None = None, state: Mapping[str, Tensor] | None = None
) -> None:
    """Write a matcher's configuration and weights.

    Args:
        model: the matcher.
        path: safetensors file, written atomically.
        about: further text for the header, e.g. how it was trained.
        state: written instead of the model's own state (e.g. averaged weights).
    """
    architecture = "attention_teacher" if isinstance(model, AttentionTeacher) else "kd_mamba"
    metadata = {
        **(about or {}),
        "architecture": architecture,
        "config": json.dumps(dataclasses.asdict(model.config)),
    }
    state = state or model.state_dict()
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)
