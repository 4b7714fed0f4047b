"""Deep homography regression: two grey images to the places of four points, the yardstick of registration.

A network of the class of HomographyNet (DeTone et al., "Deep Image Homography Estimation", 2016): both images
as two channels, pairs of convolutions with pooling, then two linear layers. The convolutions and the four
points are the paper's; what differs is a mean over a 4×4 grid instead of the flat features, which holds the
number of parameters down and takes any size of image.

Pixels: the centre of the top-left one is (0, 0), x right, y down. Shapes: B pairs, S×S pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class HomographyNetConfig:
    """Size of the network.

    Attributes:
        size: side of the images, pixels; a multiple of 32.
        widths: channels of the pairs of convolutions; images are halved between them.
        hidden: of the linear layers.
        dropout: share of the hidden values that is dropped in training.
    """

    size: int = 160
    widths: tuple[int, ...] = (64, 64, 96, 128, 160)
    hidden: int = 512
    dropout: float = 0.1


class HomographyNet(nn.Module):
    """Where the corner cells of image 0 lie in image 1.

    Args:
        config: sizes; None: the default ones.
    """

    def __init__(self, config: HomographyNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HomographyNetConfig()
        stages, inputs = [], 2
        for width in config.widths:
            stages += [_convolution(inputs, width), _convolution(width, width), nn.MaxPool2d(2)]
            inputs = width
        self.features = nn.Sequential(*stages[:-1])
        last = nn.Linear(config.hidden, 8)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * inputs, config.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            last,
        )

    def forward(self, image0: Tensor, image1: Tensor) -> Tensor:
        """Regress four points.

        Args:
            image0, image1: B×1×S×S, any contrast.

        Returns:
            B×4×2 pixels of image 1: where the :func:`control_points` of image 0 are. Without training, in the
            same places.
        """
        x = self.features(torch.cat([_normalized(image0), _normalized(image1)], 1))
        moved = self.head(F.adaptive_avg_pool2d(x, 4)).unflatten(1, (4, 2))
        size = image0.shape[-1]
        return control_points(size).to(moved) + moved.float() * (size / 4)


def control_points(size: int) -> Tensor:
    """Centres of the corner cells of stride 8, 4×2 pixels (x, y): those of which training pairs tell."""
    last = float(size - 8)
    return torch.tensor([[0.0, 0.0], [last, 0.0], [last, last], [0.0, last]])


def homography_from_points(points0: Tensor, points1: Tensor) -> Tensor:
    """The homographies that take four points to four others.

    Args:
        points0, points1: B×4×2.

    Returns:
        B×3×3 with a last element of 1, float64; NaN where three points lie on a line.
    """
    (x, y), (u, v) = points0.double().unbind(-1), points1.double().unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -x * u, -y * u], -1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -x * v, -y * v], -1)
    system = torch.cat([rows_u, rows_v], 1)
    solution, info = torch.linalg.solve_ex(system, torch.cat([u, v], 1))
    solution = torch.where((info == 0)[:, None], solution, torch.nan)
    return torch.cat([solution, torch.ones_like(solution[:, :1])], 1).unflatten(1, (3, 3))


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _normalized(image: Tensor) -> Tensor:
    centred = image - image.mean((2, 3), keepdim=True)
    return centred / (centred.square().mean((2, 3), keepdim=True).sqrt() + 1e-3)
