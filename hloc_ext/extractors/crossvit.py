"""CrossViT global descriptors of images (:mod:`hloc_ext.models.crossvit`), and their files of weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import normalize

from .. import logger
from ..base_model import BaseModel
from ..errors import CorruptFileError, InputError, MissingInputError
from ..formats.atomic import write_bytes
from ..formats.images import resize_image
from ..models.crossvit import SIZE_STEP, CrossViTConfig, CrossViTRetrieval, CrossViTTeacher
from ..search import PrincipalComponents

WEIGHTS_DIR = Path(__file__).parents[1] / "weights"
FIT = "fit"
#: Images per dimension without which the components of a map are not determined well enough to whiten with.
MIN_IMAGES_PER_DIM = 2
#: Mean and standard deviation of the colours of ImageNet, RGB in [0, 1].
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STUDENT, TEACHER, WHITENING = "crossvit_student", "crossvit_teacher", "crossvit_whitening"
_ARCHITECTURES: dict[str, type[CrossViTRetrieval] | type[CrossViTTeacher]] = {
    STUDENT: CrossViTRetrieval,
    TEACHER: CrossViTTeacher,
}


class CrossViTDescriptor(BaseModel):
    """Describe colour images of any size by the student network.

    The whole image is resized to a square, whatever its shape, as in training.

    Options:
        ``weights``: name of weights of the package (``crossvit_student``), or a file of :func:`save_weights`.
        ``image_size``: side of the square, a multiple of 60 pixels; None: that of the weights.
        ``batch_size``: images that go through the network at once in :mod:`hloc_ext.extract_features`.
        ``whitening``: None; ``fit``: project to the whitened principal components of the images that
            :meth:`fit` is given, those of the map; or a file of :meth:`save`. Descriptors are comparable
            only if they were made with the same whitening.
        ``whitening_dim``: number of these components. A map with less than twice as many images is not
            whitened.
        ``seed``: of the decomposition.

    Input: ``image`` B×3×H×W in [0, 1]. Output: ``global_descriptor`` B×D, unit norm.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "weights": STUDENT,
        "image_size": None,
        "batch_size": 16,
        "whitening": None,
        "whitening_dim": 128,
        "seed": 0,
    }
    required_inputs: ClassVar[list[str]] = ["image"]
    mean: Tensor
    axes: Tensor

    def _init(self, conf: dict[str, Any]) -> None:
        self.net = load_network(conf["weights"], STUDENT)
        self.batch_size, self.image_size = batch_and_image_size(conf, self.net.config)
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("axes", torch.empty(0))
        self.needs_fit = conf["whitening"] == FIT
        if conf["whitening"] and not self.needs_fit:
            self.load(conf["whitening"])

    def prepare(self, images: Tensor) -> Tensor:
        """B×3×H×W images to what the network takes, B×3×S×S."""
        return to_square(images, self.image_size)

    def _describe(self, images: Tensor) -> Tensor:
        return self.net(standardise(self.prepare(images)))

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        if self.needs_fit:
            raise InputError("The whitening of CrossViT is neither fitted nor loaded: call `fit` or `load`.")
        descriptors = self._describe(data["image"])
        if self.axes.numel():
            descriptors = normalize((descriptors - self.mean) @ self.axes, dim=1)
        return {"global_descriptor": descriptors}

    @torch.no_grad()
    def fit(self, images: Iterable[Tensor]) -> None:
        """Find the principal components of the descriptors of a map.

        Args:
            images: 1×3×H×W tensors in [0, 1], of any size.
        """
        prepared, found = map(self.prepare, images), []
        while batch := list(islice(prepared, self.batch_size)):
            found.append(self._describe(torch.cat(batch).to(self.mean.device)).cpu().numpy())
        dim, own = self.conf["whitening_dim"], self.net.config.embedding_dim
        data = np.concatenate(found) if found else np.empty((0, own), np.float32)
        if len(data) < MIN_IMAGES_PER_DIM * dim:
            logger.warning(
                "%d images are too few to whiten %d dimensions: the descriptors stay as they are.",
                len(data),
                dim,
            )
            self._set_whitening(torch.zeros(own), torch.eye(own))
        else:
            components = PrincipalComponents(data, dim, whiten=True, seed=self.conf["seed"])
            self._set_whitening(components.mean, components.axes)

    def _set_whitening(self, mean: Tensor, axes: Tensor) -> None:
        self.mean, self.axes = (tensor.to(self.mean.device, torch.float32) for tensor in (mean, axes))
        self.needs_fit = False

    def save(self, path: Path) -> None:
        """Write the whitening (``mean`` D, ``axes`` D×K, float32) to a safetensors file."""
        tensors = {"mean": self.mean.cpu().contiguous(), "axes": self.axes.cpu().contiguous()}
        write_bytes(Path(path), save(tensors, {"architecture": WHITENING}))

    def load(self, path: Path) -> None:
        """Read a whitening that :meth:`save` wrote.

        Raises:
            MissingInputError: no such file.
            CorruptFileError: not a safetensors file.
            InputError: not a whitening, or one of descriptors of another size.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingInputError(
                f"Whitening {path} does not exist: give a file, `{FIT}` to fit it to the images, or nothing."
            )
        metadata, tensors = _read_safetensors(path)
        own = self.net.config.embedding_dim
        fits = metadata.get("architecture") == WHITENING and tensors.keys() == {"mean", "axes"}
        if not (fits and tensors["mean"].shape == (own,) and tensors["axes"].shape[:-1] == (own,)):
            found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            raise InputError(
                f"{path} is no whitening of descriptors of {own} numbers (`mean` {own}, `axes` {own}×K): it"
                f" holds {dict(list(found.items())[:3])}."
            )
        self._set_whitening(tensors["mean"], tensors["axes"])


def batch_and_image_size(conf: Mapping[str, Any], config: CrossViTConfig) -> tuple[int, int]:
    """Check the options ``batch_size`` and ``image_size`` and return them, the latter filled in.

    Raises:
        InputError: an option is out of range.
    """
    batch_size, image_size = conf["batch_size"], conf["image_size"] or config.image_size
    if batch_size < 1 or image_size < SIZE_STEP or image_size % SIZE_STEP:
        raise InputError(
            f"CrossViT's options batch_size={batch_size}, image_size={image_size} must be 1 or more, and a"
            f" multiple of {SIZE_STEP}."
        )
    return batch_size, image_size


def to_square(images: Tensor, size: int) -> Tensor:
    """Resize B×3×H×W images to B×3×size×size: areas where an axis shrinks, linear where it grows.

    Raises:
        InputError: not B×3×H×W.
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise InputError(f"CrossViT needs colour images B×3×H×W, got {tuple(images.shape)}.")
    return resize_each(images, (size, size))


def resize_each(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize B×3×H×W images to (height, width): areas where an axis shrinks, linear where it grows."""
    height, width = images.shape[2:]
    if (height, width) == size:
        return images
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    shrunk = (resize_image(array, (min(width, size[1]), min(height, size[0]))) for array in arrays)
    resized = np.stack([resize_image(array, (size[1], size[0])) for array in shrunk])
    return torch.from_numpy(resized).permute(0, 3, 1, 2).contiguous().to(images.device)


def standardise(images: Tensor) -> Tensor:
    """B×3×H×W images in [0, 1], normalised by the mean and standard deviation of ImageNet."""
    mean, deviation = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / deviation


def load_network(source: str | Path, architecture: str) -> Any:
    """Load weights of one architecture, :data:`STUDENT` or :data:`TEACHER`; see :func:`load_weights`.

    Raises:
        InputError: the file holds the other one.
    """
    network = load_weights(source)
    if not isinstance(network, _ARCHITECTURES[architecture]):
        other = STUDENT if architecture == TEACHER else TEACHER
        raise InputError(
            f"The weights {source} are those of a {other}, not of a {architecture}: use the configuration"
            f" `{other.replace('_', '-')}`, or give other weights."
        )
    return network


def load_weights(source: str | Path) -> CrossViTRetrieval | CrossViTTeacher:
    """Build a network from a file of weights, which also holds its configuration.

    Args:
        source: a file, or the name of weights of the package, e.g. ``crossvit_student``.

    Returns:
        The student or the teacher, in evaluation mode and single precision.

    Raises:
        MissingInputError: there is no such file.
        CorruptFileError: the file cannot be read, or does not hold weights of such a network.
        InputError: timm is not installed.
    """
    path = Path(source)
    if not path.suffix:
        path = WEIGHTS_DIR / f"{source}.safetensors"
    if not path.exists():
        shipped = sorted(p.stem for p in WEIGHTS_DIR.glob("crossvit_*.safetensors"))
        raise MissingInputError(
            f"{path} does not exist. Weights of the package: {shipped or 'none of CrossViT yet'}. Train some"
            " (docs/crossvit.md) and give their file in the option `weights` of the configuration, on the"
            " command line by --option weights=FILE."
        )
    metadata, state = _read_safetensors(path)
    if metadata.get("architecture") not in _ARCHITECTURES:
        raise CorruptFileError(
            f"{path} does not hold weights of CrossViT (architecture {metadata.get('architecture')!r});"
            " make such files with python -m hloc_ext.train."
        )
    try:
        config = CrossViTConfig(**json.loads(metadata["config"]))
        network = _ARCHITECTURES[metadata["architecture"]](config)
        network.load_state_dict(state)
    except ImportError as error:
        raise InputError(f"CrossViT needs timm ({error}): pip install timm torchvision.") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptFileError(f"{path} does not fit its own configuration: {error}.") from error
    return network.eval()


def save_weights(
    network: CrossViTRetrieval | CrossViTTeacher,
    path: Path,
    about: Mapping[str, str] | None = None,
    state: Mapping[str, Tensor] | None = None,
    half: bool = False,
) -> None:
    """Write a network's configuration and weights.

    Args:
        network: student or teacher.
        path: safetensors file, written atomically.
        about: further text for the header, e.g. how it was trained.
        state: written instead of the network's own state (e.g. averaged weights).
        half: in 16 bits, as the weights that ship.
    """
    metadata = {
        **(about or {}),
        "architecture": TEACHER if isinstance(network, CrossViTTeacher) else STUDENT,
        "config": json.dumps(dataclasses.asdict(network.config)),
    }
    tensors = {
        key: value.detach().cpu().contiguous() for key, value in (state or network.state_dict()).items()
    }
    if half:
        tensors = {
            key: value.half() if value.is_floating_point() else value for key, value in tensors.items()
        }
    write_bytes(Path(path), save(tensors, metadata))


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a file."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} is not a readable safetensors file: {error}.") from error
