"""The pose of a camera in a satellite tile, three degrees of freedom: position and heading.

The classes that a panorama or a photo shows around its camera (:mod:`hloc_ext.models.bev`) are laid on the
class map of the tile at every heading and position; the correlation over positions is done by FFT. What comes
out is a probability for each of them, its maximum and its covariance.

A cell of the tile of class k that lies where the picture predicts class k with probability p speaks for the
pose with log(p / frequency of k in the tile), a log-likelihood ratio: cells outside the tile, or not seen,
speak neither for nor against. Neighbouring cells are not independent, so their sum is divided by a
temperature, which :func:`fit_temperature` chooses on pictures whose pose is known.

Frames. Headings: degrees clockwise from north. Positions: metres east and north of the tile's centre. Class
maps: row 0 in the north; a picture's BEV has the camera in its centre and the direction of the picture's
centre column up, and cells as large as the tile's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft
from torch import Tensor

from ..errors import InputError
from ..models.bev_geometry import IGNORE, visible_cells

Floats = npt.NDArray[np.float32]

#: Share of a prediction that is not trusted, so that no cell can rule a pose out.
_DOUBT = 0.02
#: Cells that count as one observation; :func:`fit_temperature` finds that of a network.
TEMPERATURE = 30.0


@dataclass(frozen=True)
class PoseSearch:
    """Where a pose is looked for.

    Attributes:
        headings: number of headings over the full circle.
        max_shift: largest distance from the tile's centre to the east and to the north, in widths of the
            tile; a camera is in the central half of its tile in VIGOR.
        heading: degrees, a heading that is known roughly, or None.
        heading_sigma: its standard deviation, degrees; headings more than three of it away are not looked
            at.
        temperature: see the module.
    """

    headings: int = 120
    max_shift: float = 0.25
    heading: float | None = None
    heading_sigma: float = 5.0
    temperature: float = TEMPERATURE

    def grid(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Headings to look at, degrees, and their log prior, (R,) each.

        Raises:
            InputError: an option is out of range.
        """
        if self.headings < 4 or not 0 < self.max_shift <= 0.5 or self.temperature <= 0:
            raise InputError(
                f"{self}: expected at least 4 headings, a shift over 0 and up to 0.5, a temperature over 0."
            )
        step = 360 / self.headings
        if self.heading is None:
            return np.arange(self.headings, dtype=np.float64) * step, np.zeros(self.headings)
        if self.heading_sigma <= 0:
            raise InputError(f"{self}: heading_sigma must be positive.")
        reach = min(self.headings // 2 - 1, max(1, math.ceil(3 * self.heading_sigma / step)))
        turns = np.arange(-reach, reach + 1, dtype=np.float64) * step
        return (self.heading + turns) % 360, -0.5 * (turns / self.heading_sigma) ** 2


@dataclass(frozen=True)
class PoseScores:
    """How well each pose explains a tile.

    Attributes:
        scores: (R, S, S) log-likelihood ratios, nats; by heading, by position from north to south and by
            position from west to east.
        log_prior: (R,) of the headings.
        headings: (R,) degrees, evenly spaced.
        shifts: (S,) metres, rising: of the columns to the east, of the rows to the **south**.
        tile_width: metres.
    """

    scores: Floats
    log_prior: npt.NDArray[np.float64]
    headings: npt.NDArray[np.float64]
    shifts: npt.NDArray[np.float64]
    tile_width: float

    @property
    def full_circle(self) -> bool:
        """Whether the last heading is beside the first."""
        step = self.heading_step
        return bool(math.isclose(step * len(self.headings), 360))

    @property
    def heading_step(self) -> float:
        """Degrees between two headings."""
        return float((self.headings[1] - self.headings[0]) % 360)

    def log_probability(self, temperature: float) -> npt.NDArray[np.float64]:
        """Logarithm of the probability of each pose, (R, S, S)."""
        values = self.scores / temperature + self.log_prior[:, None, None]
        peak = values.max()
        return values - peak - math.log(np.exp(values - peak).sum())

    def index_of(self, east: float, north: float, heading: float) -> tuple[int, int, int] | None:
        """Where a pose is in `scores`; None if it was not looked at."""
        off = np.abs((self.headings - heading + 180) % 360 - 180)
        index = (
            int(off.argmin()),
            int(np.abs(self.shifts + north).argmin()),
            int(np.abs(self.shifts - east).argmin()),
        )
        cell = self.shifts[1] - self.shifts[0]
        far = max(abs(self.shifts[index[1]] + north), abs(self.shifts[index[2]] - east)) > 0.51 * cell
        return None if far or off.min() > 0.51 * self.heading_step else index


@dataclass(frozen=True)
class GroundPose:
    """A camera in a tile.

    Attributes:
        east, north: metres from the tile's centre.
        heading: degrees clockwise from north, 0 to 360.
        covariance: (3, 3) of east, north (metres) and heading (degrees), of all of the probability.
        score: log-likelihood ratio of the pose, nats.
        probability: (R, S, S), see :class:`PoseScores`; sums to 1.
        scores: what it was computed from.
    """

    east: float
    north: float
    heading: float
    covariance: npt.NDArray[np.float64]
    score: float
    probability: Floats
    scores: PoseScores

    @property
    def offset(self) -> tuple[float, float]:
        """East and **south** in widths of the tile, as in :mod:`hloc_ext.datasets.cross_view`."""
        return self.east / self.scores.tile_width, -self.north / self.scores.tile_width

    @property
    def position_probability(self) -> Floats:
        """(S, S) probability of the positions, whatever the heading; row 0 in the north."""
        return self.probability.sum(0)


def score_poses(
    bev: npt.ArrayLike,
    tile: npt.ArrayLike,
    tile_width: float,
    search: PoseSearch | None = None,
    visible: npt.ArrayLike | None = None,
) -> PoseScores:
    """Lay a picture's BEV on a tile at all headings and positions.

    Args:
        bev: (K, L, L) probabilities of the classes around the camera. The corners beyond the inscribed
            circle are not used.
        tile: (T, T) integer classes, 255 where they are not known. Its cells are as large as those of `bev`,
            which may show less of the ground, T − L being even.
        tile_width: metres.
        search: where to look.
        visible: (L, L) weight of each cell of `bev`, e.g. False outside the field of view; None: 1.

    Raises:
        InputError: shapes that do not fit, an unknown class, or a tile without any known class.
    """
    search = search or PoseSearch()
    bev, tile = np.asarray(bev, np.float32), np.asarray(tile)
    margin = (len(tile) - bev.shape[-1]) / 2
    squares = bev.ndim == 3 and bev.shape[1] == bev.shape[2] and tile.shape == (len(tile),) * 2
    if not squares or margin < 0 or margin % 1:
        raise InputError(
            f"The BEV has shape {bev.shape}, the class map of the tile {tile.shape}: expected (K, L, L) and"
            " (T, T), T − L even and not negative. Resize the class map to cells of the BEV's size (nearest"
            " neighbour)."
        )
    known = tile != IGNORE
    if not known.any() or tile[known].max() >= len(bev):
        raise InputError(
            f"The class map of the tile holds the values {np.unique(tile).tolist()[:10]}: expected some of"
            f" 0 to {len(bev) - 1}, and {IGNORE} where nothing is known."
        )
    headings, log_prior = search.grid()
    size = len(tile)
    reach = max(1, int(search.max_shift * size))
    around = int(margin)
    evidence = np.pad(
        _evidence(bev, tile, known, visible), ((0, 0), (around, around), (around, around))
    )  # the camera in the middle of the tile
    length = scipy.fft.next_fast_len(size + reach, real=True)
    one_hot = np.stack([(tile == k).astype(np.float32) for k in range(len(bev))])
    spectrum = scipy.fft.rfft2(one_hot, (length, length))
    scores = np.empty((len(headings), 2 * reach + 1, 2 * reach + 1), np.float32)
    shifts = np.arange(-reach, reach + 1)
    for index, heading in enumerate(headings):
        turned = scipy.fft.rfft2(_turned(evidence, heading), (length, length))
        correlation = scipy.fft.irfft2((spectrum * turned.conj()).sum(0), (length, length))
        scores[index] = correlation[np.ix_(shifts, shifts)]  # negative shifts are at the end
    return PoseScores(scores, log_prior, headings, shifts * tile_width / size, tile_width)


def pose_from_scores(scores: PoseScores, temperature: float = TEMPERATURE) -> GroundPose:
    """The most probable pose, between those of the grid by a paraboloid, and its uncertainty."""
    log_probability = scores.log_probability(temperature)
    probability = np.exp(log_probability)
    best = tuple(int(i) for i in np.unravel_index(int(log_probability.argmax()), log_probability.shape))
    turn, row, column = _peak(log_probability, best, scores.full_circle).tolist()
    cell = float(scores.shifts[1] - scores.shifts[0])
    east = float(scores.shifts[best[2]]) + column * cell
    north = -float(scores.shifts[best[1]]) - row * cell
    heading = float(scores.headings[best[0]]) + turn * scores.heading_step
    return GroundPose(
        east,
        north,
        heading % 360,
        _covariance(probability, scores, heading),
        float(scores.scores[best]),
        probability.astype(np.float32),
        scores,
    )


def estimate_pose(
    bev: npt.ArrayLike,
    tile: npt.ArrayLike,
    tile_width: float,
    search: PoseSearch | None = None,
    visible: npt.ArrayLike | None = None,
) -> GroundPose:
    """The pose of a camera in a tile; arguments and errors are those of :func:`score_poses`."""
    search = search or PoseSearch()
    return pose_from_scores(score_poses(bev, tile, tile_width, search, visible), search.temperature)


def predicted_bev(logits: Tensor, fov: float = 360.0) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What :func:`estimate_pose` takes, from what a network draws around a camera.

    Args:
        logits: K×L×L of :meth:`hloc_ext.models.bev.SSANetwork.bev` without an offset.
        fov: degrees that the picture covers.

    Returns:
        (K, L, L) probabilities; (L, L) cells that no building hides, as far as the network sees.
    """
    probability = logits.detach().float().softmax(0)
    visible = visible_cells(probability.argmax(0)[None], fov=fov)[0]
    return probability.cpu().numpy(), visible.cpu().numpy()


def fit_temperature(
    scores: Sequence[PoseScores],
    truths: Sequence[tuple[float, float, float]],
    candidates: Sequence[float] = tuple(np.geomspace(1, 1000, 61)),
) -> float:
    """The temperature that makes the true poses most probable.

    Args:
        scores: of pictures whose pose is known.
        truths: their east and north (metres from the centre of the tile) and heading (degrees). Those that
            were not looked at are left out.
        candidates: temperatures to choose from.

    Raises:
        InputError: none of the true poses was looked at.
    """
    places = [s.index_of(*truth) for s, truth in zip(scores, truths, strict=True)]
    looked_at = [(s, place) for s, place in zip(scores, places, strict=True) if place is not None]
    if not looked_at:
        raise InputError("None of the true poses is among those that were looked at: raise max_shift.")
    means = [
        np.mean([float(s.log_probability(value)[place]) for s, place in looked_at]) for value in candidates
    ]
    return float(candidates[int(np.argmax(means))])


def _evidence(bev: Floats, tile: npt.NDArray, known: npt.NDArray, visible: npt.ArrayLike | None) -> Floats:
    """Log-likelihood ratio of each class in each cell of a BEV, (K, L, L); 0 where it is not to count."""
    classes, size = len(bev), bev.shape[1]
    frequency = np.bincount(tile[known].astype(int), minlength=classes) + 1.0
    frequency = (frequency / frequency.sum()).astype(np.float32)[:, None, None]
    total = bev.sum(0, keepdims=True)
    probability = bev / np.maximum(total, 1e-6)
    ratio = np.log((1 - _DOUBT) * probability / frequency + _DOUBT)
    steps = (np.arange(size) + 0.5) / size - 0.5
    weight = (np.hypot(steps[:, None], steps) <= 0.5) & (total[0] > 0)
    if visible is not None:
        given = np.asarray(visible, np.float32)
        if given.shape != (size, size):
            raise InputError(f"`visible` has shape {given.shape}, the BEV {bev.shape}.")
        return ratio * (weight * given)
    return ratio * weight


def _turned(maps: Floats, heading: float) -> Floats:
    """Maps of a camera's frame (K, L, L) turned so that north is up; 0 comes in at the corners."""
    size = maps.shape[1]
    center = ((size - 1) / 2, (size - 1) / 2)
    matrix = cv2.getRotationMatrix2D(center, -heading, 1.0)  # OpenCV turns against the clock
    return np.stack([cv2.warpAffine(np.ascontiguousarray(m), matrix, (size, size)) for m in maps])


def _peak(values: npt.NDArray[np.float64], best: tuple[int, ...], wrap: bool) -> npt.NDArray[np.float64]:
    """Place of the maximum, cells from the best one, (3,): of the paraboloid through the 27 cells around it.

    A turn of the camera and a shift across its view look alike, so that the axes cannot be looked at singly.
    """
    last = np.array(values.shape) - 2
    centre = np.clip(best, 1, last)
    if wrap:
        centre[0] = best[0]
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    turn, row, column = (centre + steps).T
    around = values[turn % values.shape[0], row, column]
    pairs = np.array([(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)])
    design = np.column_stack([np.ones(27), steps, steps[:, pairs[:, 0]] * steps[:, pairs[:, 1]]])
    solution = np.linalg.lstsq(design, around, rcond=None)[0]
    curvature = np.zeros((3, 3))
    np.add.at(curvature, (pairs[:, 0], pairs[:, 1]), solution[4:])
    curvature = curvature + curvature.T
    if np.linalg.eigvalsh(curvature).max() > -1e-9:
        return np.zeros(3)
    place = -np.linalg.solve(curvature, solution[1:4])
    return centre - best + place if np.abs(place).max() <= 1 else np.zeros(3)


def _covariance(
    probability: npt.NDArray[np.float64], scores: PoseScores, heading: float
) -> npt.NDArray[np.float64]:
    """Covariance of east, north and heading over all poses, and that of rounding to the grid."""
    turns = (scores.headings - heading + 180) % 360 - 180  # about the best one
    axes = (scores.shifts, -scores.shifts, turns)
    marginals = [probability.sum(tuple({0, 1, 2} - {axis})) for axis in (2, 1, 0)]
    means = [float(m @ a) for m, a in zip(marginals, axes, strict=True)]
    centred = [a - mean for a, mean in zip(axes, means, strict=True)]
    covariance = np.diag([float(m @ c**2) for m, c in zip(marginals, centred, strict=True)])
    joint = {(0, 1): probability.sum(0).T, (0, 2): probability.sum(1).T, (1, 2): probability.sum(2).T}
    for (i, j), table in joint.items():
        covariance[i, j] = covariance[j, i] = float(centred[i] @ table @ centred[j])
    cell = float(scores.shifts[1] - scores.shifts[0])
    return covariance + np.diag([cell**2, cell**2, scores.heading_step**2]) / 12
