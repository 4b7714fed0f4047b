"""Geometry of bird's-eye views (BEV): from what a camera sees by azimuth and distance to the cells of a tile.

Frames. Lengths are in widths of the tile, so that metres are these times the tile's size. A BEV is north up:
the centre of cell (i, j) of S×S lies ((j + ½) / S − ½, (i + ½) / S − ½) east and **south** of the tile's
centre; `offset` is where the camera stands, in the same axes. Column u of W shows the azimuth
((u + ½) / W − ½) · fov, clockwise from the centre column, which looks north unless a heading is given; rows
go from the upper elevation to the lower. Distance bin d of D has its centre at (d + ½) / D · max_radius. A
camera with an unknown heading has a BEV in its own frame: forward is up.

Shapes: B pictures, C channels, K classes, D distances, L or S cells per side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: Cells that count for nothing: not seen, or not known.
IGNORE = 255
BUILDING = 3
#: Half the diagonal of a tile, in its widths.
HALF_DIAGONAL = math.sqrt(0.5)


def camera_coordinates(
    size: int,
    offset: Tensor | None = None,
    heading: Tensor | None = None,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Azimuth and distance of the cells of a BEV, as the camera sees them.

    Args:
        size: S, cells per side.
        offset: B×2, camera in the tile: east and south of its centre, in its widths. None: in the centre.
        heading: (B,) azimuth that the camera looks along, degrees clockwise from north. None: 0.
        device: of the result, if there is neither offset nor heading.

    Returns:
        Azimuth B×S×S in radians, −π to π clockwise from the heading; distance B×S×S in widths of the tile. B
        is 1 if neither offset nor heading is given.
    """
    given = offset if offset is not None else heading
    if offset is None:
        offset = torch.zeros(
            1 if given is None else len(given), 2, device=device if given is None else given.device
        )
    offset = offset.float()
    steps = (torch.arange(size, device=offset.device) + 0.5) / size - 0.5
    east = steps[None, None, :] - offset[:, 0, None, None]
    south = steps[None, :, None] - offset[:, 1, None, None]
    azimuth = torch.atan2(east, -south)
    if heading is not None:
        azimuth = (
            torch.remainder(azimuth - heading.float().deg2rad()[:, None, None] + math.pi, 2 * math.pi)
            - math.pi
        )
    return azimuth, torch.hypot(east, south)


def polar_to_cartesian(
    polar: Tensor,
    size: int,
    offset: Tensor | None = None,
    max_radius: float = HALF_DIAGONAL,
    fov: float = 360.0,
    heading: Tensor | None = None,
) -> Tensor:
    """Resample what is known by azimuth and distance to the square cells of a tile, bilinearly.

    Azimuth is circular if the picture is (no seam in the south); nearer than the first distance and farther
    than the last their values are repeated.

    Args:
        polar: B×C×D×W, distances from near to far.
        size: S, cells per side.
        offset: B×2, see :func:`camera_coordinates`.
        max_radius: distance of the far end of the last bin, widths of the tile.
        fov: degrees that the W columns cover.
        heading: (B,) azimuth of the centre column, see :func:`camera_coordinates`.

    Returns:
        B×C×S×S; 0 outside the field of view.
    """
    azimuth, distance = camera_coordinates(size, offset, heading, polar.device)
    turns = azimuth / math.radians(fov)  # −½ and ½ are the borders of the picture
    y = 2 * distance / max_radius - 1
    padded = polar.float()
    if fov >= 360:
        padded = torch.cat([padded[..., -1:], padded, padded[..., :1]], -1)
    x = 2 * turns * (polar.shape[-1] / padded.shape[-1])
    grid = torch.stack([x, y], -1).expand(len(polar), -1, -1, -1)
    cartesian = F.grid_sample(padded, grid, padding_mode="border", align_corners=False)
    if fov < 360:
        cartesian = cartesian * (turns.abs() <= 0.5)[:, None]
    return cartesian.to(polar.dtype)


def ground_to_bev(
    depth: Tensor,
    label: Tensor,
    elevation: tuple[float, float],
    size: int,
    tile_width: float,
    offset: tuple[float, float] = (0.0, 0.0),
    distances: int = 512,
    classes: int = 6,
    max_radius: float = HALF_DIAGONAL,
) -> Tensor:
    """The BEV of a panorama whose depth and classes are known: no learning, the geometry of the network.

    Every pixel is put at its azimuth and horizontal distance, the highest of several in a polar cell counts
    (as from above), and the result is resampled by :func:`polar_to_cartesian`.

    Args:
        depth: H×W, metres from the camera (not along an axis); inf for the sky.
        label: H×W int, class of each pixel.
        elevation: degrees of the lower and the upper border of the panorama.
        size: L, cells per side.
        tile_width: metres.
        offset: of the camera from the tile's centre to the east and the south, widths of the tile.
        distances: D of the polar cells; at least L for cells that are not larger than those of the BEV.
        classes: K.
        max_radius: of the polar cells, widths of the tile.

    Returns:
        L×L int64, :data:`IGNORE` where the panorama shows nothing.
    """
    height, width = depth.shape
    low, high = (math.radians(angle) for angle in elevation)
    rows = high - (torch.arange(height, device=depth.device) + 0.5) / height * (high - low)
    ring = depth * torch.cos(rows)[:, None] / (max_radius * tile_width) * distances
    column = torch.arange(width, device=depth.device).expand(height, width)
    seen = torch.isfinite(depth) & (ring < distances)
    order = torch.argsort((depth * torch.sin(rows)[:, None])[seen], stable=True)
    cell = (ring[seen].long() * width + column[seen])[order]
    highest = torch.full((distances * width,), -1, device=depth.device)
    highest.scatter_reduce_(0, cell, torch.arange(len(cell), device=depth.device), "amax")
    filled = highest >= 0
    polar = torch.zeros(classes, distances * width, device=depth.device)
    polar[label[seen][order][highest[filled]].long(), filled.nonzero()[:, 0]] = 1
    bev = polar_to_cartesian(
        polar.view(1, classes, distances, width),
        size,
        torch.tensor([offset], device=depth.device),
        max_radius,
    )[0]
    most, winner = bev.max(0)
    return torch.where(most > 0.5, winner, IGNORE)


def visible_cells(
    label: Tensor,
    offset: Tensor | None = None,
    fov: float = 360.0,
    heading: Tensor | None = None,
    wall: float = 0.05,
    clearance: float = 0.02,
) -> Tensor:
    """Which cells of a tile the camera may see: those that no building stands before.

    A ray goes from the camera to each cell. The first metres of the first building on it are visible, what is
    behind them is not.

    Args:
        label: B×L×L int, classes of the tile.
        offset: B×2, see :func:`camera_coordinates`.
        fov: degrees about the heading; cells outside are not visible.
        heading: (B,), see :func:`camera_coordinates`.
        wall: how far a building is seen into, widths of the tile.
        clearance: buildings nearer than this do not hide anything (the camera stands in a street, whatever a
            class map says), widths of the tile.

    Returns:
        B×L×L bool.
    """
    size, device = label.shape[-1], label.device
    offset = torch.zeros(len(label), 2, device=device) if offset is None else offset.float()
    azimuths = 6 * size
    reach = HALF_DIAGONAL + float(offset.norm(dim=1).max())
    ray = ((torch.arange(azimuths, device=device) + 0.5) / azimuths - 0.5) * 2 * math.pi
    along = torch.arange(1, math.ceil(2 * size * reach), device=device) / (2 * size)  # half a cell each
    along = along[along > clearance]
    origin = offset[:1] if (offset == offset[0]).all() else offset  # the same cells for the whole batch
    column, row = (
        ((origin[:, axis, None, None] + along * direction[:, None] + 0.5) * size)
        .floor()
        .clamp(-1, size)
        .long()
        for axis, direction in enumerate((torch.sin(ray), -torch.cos(ray)))
    )
    # With a border of nothing around the tile.
    cell = ((row + 1) * (size + 2) + column + 1).flatten(1).expand(len(label), -1)
    building = F.pad(label == BUILDING, (1, 1, 1, 1)).flatten(1)
    hit = building.gather(1, cell).view(len(label), azimuths, len(along))
    first = torch.where(hit.any(-1), along[hit.to(torch.uint8).argmax(-1)], math.inf)
    azimuth, distance = camera_coordinates(size, offset)
    index = ((azimuth / (2 * math.pi) + 0.5) * azimuths).long().clamp(0, azimuths - 1)
    limit = first.gather(1, index.flatten(1)).view_as(distance) + wall
    azimuth, _ = camera_coordinates(size, offset, heading)
    return (distance <= limit) & (azimuth.abs() <= math.radians(fov) / 2 + 1e-6)
