"""Registration by a deep homography regressor (:mod:`hloc_ext.models.homography_net`), and its weights."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ...errors import CorruptFileError, MissingInputError
from ...formats.atomic import write_bytes
from ...models.homography_net import (
    HomographyNet,
    HomographyNetConfig,
    control_points,
    homography_from_points,
)
from .estimation import keeps_orientation
from .gradient_fields import Picture
from .local_matching import resizing
from .local_search import Level
from .matching import Hypothesis, as_homography, within
from .prior import Prior, Similarity, similarity_of

Matrix = npt.NDArray[np.float64]

ARCHITECTURE = "homography_net"
#: Headings and scales that are tried where the prior allows them; it is trained on ±30° and 2/3 to 3/2.
HEADINGS, SCALES = 8, (0.6, 1.0, 1.6)
#: Poses are compared by their gradients at this size.
CHOICE_SIZE = 160


class HomographyNetMethod:
    """The regressor, from the poses that the prior allows; the one with the most alike gradients counts.

    Args:
        network: the regressor.
    """

    name = "homography-net"

    def __init__(self, network: HomographyNet) -> None:
        self.network = network.eval()

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """Hypotheses of all poses, the best first."""
        size = self.network.config.size
        expected = prior.similarity(picture0.shape, picture1.shape)
        frame = _square(picture1, size)
        starts = [frame @ as_homography(pose) for pose in _poses(expected, picture0, prior)]
        first = np.stack([_seen(picture0, start, size) for start in starts])
        second = np.repeat(_seen(picture1, frame, size)[None], len(first), axis=0)
        device = next(self.network.parameters()).device
        with torch.no_grad():
            tensors = [
                torch.from_numpy(np.ascontiguousarray(a)).to(device)[:, None].float() / 255
                for a in (first, second)
            ]
            points = self.network(*tensors).cpu()
            found = homography_from_points(control_points(size).expand_as(points), points).numpy()
        level = Level(picture0, picture1, CHOICE_SIZE)
        center = (picture0.shape[1] - 1) / 2, (picture0.shape[0] - 1) / 2
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]) * (np.array(picture0.shape[::-1]) - 1)
        hypotheses = []
        for start, moved in zip(starts, found, strict=True):
            if not np.isfinite(moved).all():
                continue
            matrix = np.linalg.inv(frame) @ moved @ start
            matrix = matrix / matrix[2, 2]
            if keeps_orientation(matrix, corners):
                score = level.score(similarity_of(matrix, center))[1]
                hypotheses.append(Hypothesis(matrix, self.name, score))
        hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
        return within(hypotheses, prior, picture0, picture1)


def _poses(expected: Similarity, picture0: Picture, prior: Prior) -> list[Similarity]:
    """Headings and scales about the expected transform; the centre of picture 0 keeps its place."""
    center = (np.array(picture0.shape[::-1]) - 1) / 2
    goal = expected.matrix() @ (*center, 1.0)
    headings = range(HEADINGS) if prior.max_rotation > 30 else (0,)
    scales = SCALES if prior.max_scale > 1.35 else (1.0,)
    poses = []
    for heading in headings:
        for scale in scales:
            angle = expected.angle + 2 * math.pi * heading / HEADINGS
            turn = Similarity(angle, expected.scale * scale, (0.0, 0.0)).matrix()[:, :2]
            shift = goal - turn @ center
            poses.append(Similarity(angle, expected.scale * scale, (float(shift[0]), float(shift[1]))))
    return poses


def _square(picture: Picture, size: int) -> Matrix:
    """3×3: pixel of a picture → pixel of a square that holds it, with its proportions."""
    height, width = picture.shape
    small = resizing((max(height, width),) * 2, (size, size))
    shift = np.array([[1, 0, (max(height, width) - width) / 2], [0, 1, (max(height, width) - height) / 2]])
    return small @ np.vstack([shift, (0, 0, 1)])


def _seen(picture: Picture, matrix: Matrix, size: int) -> npt.NDArray[np.uint8]:
    """Grey picture in a square; what is missing has the mean grey value."""
    factor = min(1.0, size / max(picture.shape))
    small = picture.resized(factor)
    placed = small.warped(matrix @ np.linalg.inv(resizing(picture.shape, small.shape)), (size, size))
    grey, exists = placed.grey(), placed.exists
    mean = float(grey[exists].mean()) if exists.any() else 0.0
    return np.where(exists, grey, mean).astype(np.uint8)


def load_weights(path: Path) -> HomographyNet:
    """Build a regressor from a file of weights, which also holds its configuration.

    Raises:
        MissingInputError: there is no such file.
        CorruptFileError: the file cannot be read, or does not hold such weights.
    """
    if not path.exists():
        raise MissingInputError(
            f"{path} does not exist: train the regressor with python -m hloc_ext.train"
            " configs/train/homography_net.yaml."
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CorruptFileError(f"{path} is not a readable safetensors file: {error}.") from error
    if metadata.get("architecture") != ARCHITECTURE:
        raise CorruptFileError(
            f"{path} does not hold weights of a homography regressor (architecture"
            f" {metadata.get('architecture')!r})."
        )
    try:
        options = json.loads(metadata["config"])
        network = HomographyNet(HomographyNetConfig(**{**options, "widths": tuple(options["widths"])}))
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptFileError(f"{path} does not fit its own configuration: {error}.") from error
    return network.eval()


def save_weights(network: HomographyNet, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write a regressor's configuration and weights, a safetensors file, atomically.

    Args:
        network: the regressor.
        path: the file.
        about: further text for the header.
    """
    metadata = {
        **(about or {}),
        "architecture": ARCHITECTURE,
        "config": json.dumps(dataclasses.asdict(network.config)),
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_bytes(path, save(tensors, metadata))
