"""Where photos are taken: walks along the sidewalks, and queries near them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pycolmap
import shapely

from ..errors import InputError
from .labels import Label
from .light import overcast
from .plan import CityPlan
from .render import Renderer

Floats = npt.NDArray[np.float64]

#: Nothing in the view of a camera is nearer than this, and nothing at all nearer than the second, metres.
CLEARANCE, FREE = 1.5, 0.5
#: Metres between two photos of a walk, mostly, at most and at least. Photos of this size hold few keypoints:
#: structure from motion needs near neighbours.
USUAL_STEP, STEP, SHORTEST_STEP = 2.0, 4.0, 1.0
#: A query is at most so far from a map photo (metres), and turned so far against it (degrees).
QUERY_DISTANCE, QUERY_TURN = 3.0, 25.0

# First words of the seeds of what this module draws.
_MAP, _QUERIES = 571, 572

# Directions that are looked in to judge a place, degrees.
_AZIMUTHS = np.arange(0, 360, 5)
_ELEVATIONS = np.array([-25, -12, -4, 3, 10, 18, 28, 40])
#: Of these, the rows that a facade should fill.
_FACADE_ROWS = slice(2, 7)
#: Facades between these distances (metres) are seen well; nearer ones than the first are in the way.
_TOO_NEAR, _FACADE_NEAR, _FACADE_FAR = 4.0, 7.0, 40.0
#: Half of the angle in which a photo needs facades, degrees.
_HALF_VIEW = 35
#: Two photos one after the other are turned by at most this, degrees; what that costs, in shares of facades
#: (smaller turns cost less, with the square).
_TURN, _TURN_COST = 5, 0.2
#: Share of the view that facades fill at least, and the share that is enough: of a block, and of a query.
_FACADES_NEEDED, _ENOUGH, _ENOUGH_OF_QUERY = 0.3, 0.6, 0.5
#: Steps in which blocks are judged, metres, and the height of the eyes.
_COARSE, _EYE_HEIGHT = 8.0, 1.62
#: Value of a direction in which something is nearer than :data:`CLEARANCE`: one in a view spoils all of it.
_BLOCKED = -40.0
#: A walk round a block ends where no photo can be taken for so long, metres.
_GAP = 8.0
#: Distance of the path from the kerb, in the order of preference, metres.
_FROM_KERB = (0.9, 0.5, 1.4, 1.9, 2.5)
#: Nothing is photographed this near to the end of the city, metres.
_BORDER = 20.0


@dataclass(frozen=True)
class Viewpoint:
    """Where a camera stands and looks.

    Attributes:
        position: metres in the scene frame.
        heading: degrees, clockwise from north.
        pitch: degrees, upwards.
        roll: degrees, clockwise: the horizon turns the other way.
    """

    position: tuple[float, float, float]
    heading: float
    pitch: float = 0.0
    roll: float = 0.0

    @property
    def cam_from_world(self) -> pycolmap.Rigid3d:
        """Pose; camera axes: x right, y down, z ahead; world: the scene frame."""
        heading, pitch, roll = np.radians([self.heading, self.pitch, self.roll])
        ahead = np.array([np.sin(heading) * np.cos(pitch), np.cos(heading) * np.cos(pitch), np.sin(pitch)])
        level = np.array([np.cos(heading), -np.sin(heading), 0.0])
        below = np.cross(ahead, level)
        right = np.cos(roll) * level + np.sin(roll) * below
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        return pycolmap.Rigid3d(pycolmap.Rotation3d(rotation), -rotation @ np.array(self.position))


def map_walk(renderer: Renderer, count: int, seed: int) -> list[Viewpoint]:
    """Photos of somebody who walks round one block after the other, on the sidewalks, and looks at facades.

    Photos are 2 to 4 m apart where the streets are long enough. Each looks where facades fill most of the
    view, turned by about 5° at most against the one before.

    Args:
        renderer: of the city.
        count: number of photos.
        seed: of the walk.

    Raises:
        InputError: the city has no room for so many.
    """
    rng = np.random.default_rng([seed, _MAP])
    surroundings = _Surroundings(renderer)
    blocks = _ordered_blocks(surroundings)
    for shrink in 0.85 ** np.arange(14):
        walk = _walk(surroundings, blocks, count, float(shrink), rng)
        if walk is not None:
            return walk
    raise InputError(
        f"The city of seed {renderer.city.plan.seed} has no room for {count} photos: make a larger one, or"
        " try another seed."
    )


def query_viewpoints(renderer: Renderer, walk: list[Viewpoint], count: int, seed: int) -> list[Viewpoint]:
    """Photos near those of a walk, spread evenly over it: 0.5 to 3 m beside one, turned by up to 25°.

    Args:
        renderer: of the city.
        walk: photos of the map.
        count: number of queries.
        seed: of the queries; another one gives other places.

    Raises:
        InputError: there is no free place near a photo.
    """
    rng = np.random.default_rng([seed, _QUERIES])
    surroundings = _Surroundings(renderer)
    first = rng.uniform(0, len(walk) / count)
    near = ((np.arange(count) / count * len(walk) + first) % len(walk)).astype(int)
    return [_query_near(surroundings, walk[index], rng) for index in near]


def _query_near(surroundings: _Surroundings, photo: Viewpoint, rng: np.random.Generator) -> Viewpoint:
    """A free place near a photo from which facades are seen."""
    number = 64
    angle = rng.uniform(0, 2 * np.pi, number)
    reach = rng.uniform(0.5, QUERY_DISTANCE - 0.1, number)
    positions = np.stack(
        [
            photo.position[0] + reach * np.cos(angle),
            photo.position[1] + reach * np.sin(angle),
            rng.uniform(1.45, 1.8, number),
        ],
        axis=1,
    )
    heading = photo.heading + rng.uniform(-QUERY_TURN, QUERY_TURN, number)
    columns = np.round(heading / 5).astype(int) % len(_AZIMUTHS)
    share = _in_view(surroundings.judge(positions))[np.arange(number), columns]
    good = np.flatnonzero(share > _ENOUGH_OF_QUERY)
    chosen = int(good[0]) if len(good) else int(np.argmax(share))
    if share[chosen] < -1:
        x, y, _ = photo.position
        raise InputError(
            f"The city of seed {surroundings.plan.seed} has no free place within {QUERY_DISTANCE:g} m of"
            f" ({x:.1f}, {y:.1f}): try another seed."
        )
    x, y, z = (float(value) for value in positions[chosen])
    pitch, roll = rng.uniform(4, 14), rng.normal(0, 1.5)
    return Viewpoint((x, y, z), float(heading[chosen] % 360), pitch, roll)


class _Surroundings:
    """What is seen from places of a city."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self.plan: CityPlan = renderer.city.plan
        azimuth, elevation = np.meshgrid(np.radians(_AZIMUTHS), np.radians(_ELEVATIONS), indexing="ij")
        level = np.cos(elevation)
        self._directions = np.stack(
            [np.sin(azimuth) * level, np.cos(azimuth) * level, np.sin(elevation)], axis=-1
        ).reshape(-1, 3)
        self._light = overcast(np.random.default_rng(0))
        walls = [building.footprint for building in self.plan.buildings]
        things = [shapely.Point(item.x, item.y) for item in self.plan.items]
        self._obstacles = shapely.STRtree([*walls, *things])

    def free(self, places: Floats) -> npt.NDArray[np.bool_]:
        """Whether the plan has nothing within :data:`FREE` of (N, 2) places, and the border is far."""
        min_x, min_y, max_x, max_y = self.plan.bounds
        inside = (places > np.array([min_x, min_y]) + _BORDER) & (places < np.array([max_x, max_y]) - _BORDER)
        free = np.asarray(inside.all(axis=1))
        blocked = self._obstacles.query(shapely.points(places), predicate="dwithin", distance=FREE)
        free[blocked[0]] = False
        return free

    def judge(self, positions: Floats) -> Floats:
        """Look around.

        Args:
            positions: (N, 3).

        Returns:
            (N, 72): the share of each direction of :data:`_AZIMUTHS` that well visible facades fill, less
            half of the share of what is in the way (near things, trees); :data:`_BLOCKED` where something is
            too near, and in all directions of a place that is not free.
        """
        values = np.full((len(positions), len(_AZIMUTHS)), _BLOCKED)
        free = np.flatnonzero(self.free(positions[:, :2]))
        for part in np.array_split(free, max(1, len(free) // 200)):
            origins = np.repeat(positions[part], len(self._directions), axis=0)
            samples = self._renderer.sample(origins, np.tile(self._directions, (len(part), 1)), self._light)
            shape = (len(part), len(_AZIMUTHS), len(_ELEVATIONS))
            distance, label = samples.distance.reshape(shape), samples.label.reshape(shape)
            seen = (label == Label.BUILDING) & (distance > _FACADE_NEAR) & (distance < _FACADE_FAR)
            hidden = (distance < _TOO_NEAR) | ((label == Label.VEGETATION) & (distance < _FACADE_FAR))
            value = (seen - 0.5 * hidden)[:, :, _FACADE_ROWS].mean(axis=2)
            values[part] = np.where(distance.min(axis=2) < CLEARANCE, _BLOCKED, value)
        return values


def _in_view(facades: Floats) -> Floats:
    """Share of facades in the view of a camera that looks in each direction, (N, 72) → (N, 72)."""
    reach = _HALF_VIEW // 5
    return np.mean([np.roll(facades, step, axis=1) for step in range(-reach, reach + 1)], axis=0)


def _ordered_blocks(surroundings: _Surroundings) -> list[shapely.Polygon]:
    """Blocks with their sidewalks: the best one near the centre first, then always the nearest one."""
    plan = surroundings.plan
    blocks = shapely.get_parts(shapely.box(*plan.bounds) - plan.roads)
    blocks = blocks[shapely.length(blocks) > 60]
    low, high = np.array(plan.bounds[:2]), np.array(plan.bounds[2:])
    scores = []
    for block in blocks:
        number = math.ceil(block.length / _COARSE)
        positions, facades = _stations(surroundings, block, _COARSE, np.full(number, _EYE_HEIGHT))
        # Round as much of the block as possible: more facades than enough do not make up for a gap.
        seen = (
            np.minimum(_in_view(facades).max(axis=1), _ENOUGH).sum() / number if len(positions) else -np.inf
        )
        offset = np.array(block.centroid.coords[0]) - (low + high) / 2
        scores.append(seen - 0.3 * float(np.abs(offset / (high - low)).max()))
    order: list[int] = []
    left = [index for index in np.argsort(scores)[::-1].tolist() if np.isfinite(scores[index])]
    near = np.full(len(blocks), np.inf)
    while left:
        nearest = min(left, key=lambda index: round(float(near[index]))) if order else left[0]
        left.remove(nearest)
        order.append(nearest)
        near = np.minimum(near, shapely.distance(blocks, blocks[nearest]))
    return [blocks[index] for index in order]


def _spaced(line: shapely.LineString, step: float) -> Floats:
    """Points (N, 2) on a closed line, at most so far apart along it."""
    count = math.ceil(line.length / step)
    return shapely.get_coordinates(
        shapely.line_interpolate_point(line, np.arange(count) * line.length / count)
    )


def _longest(path: shapely.Geometry) -> shapely.LineString:
    lines = shapely.get_parts(shapely.line_merge(path))
    return lines[np.argmax(shapely.length(lines))]


def _walk(
    surroundings: _Surroundings,
    blocks: list[shapely.Polygon],
    count: int,
    shrink: float,
    rng: np.random.Generator,
) -> list[Viewpoint] | None:
    """A walk with steps that are `shrink` times as long as they may be; None if it finds too few places."""
    lengths = np.cumsum([block.length for block in blocks])
    if not len(lengths):
        return None
    # As few blocks as the usual step allows.
    last = min(int(np.searchsorted(lengths, USUAL_STEP * count)), len(lengths) - 1)
    step = min(STEP, lengths[last] / count) * shrink
    if step < SHORTEST_STEP:
        return None
    positions, facades = [], []
    for block in blocks[: last + 1]:
        number = math.ceil(block.length / step)
        heights = _EYE_HEIGHT + rng.uniform(-0.12, 0.16) + rng.uniform(-0.05, 0.05, number)
        found, seen = _stations(surroundings, block, step, heights)
        positions.append(found)
        facades.append(seen)
        if sum(map(len, positions)) >= count:
            break
    if sum(map(len, positions)) < count:
        return None
    stations, views = np.concatenate(positions)[:count], np.concatenate(facades)[:count]
    headings = _headings(stations, _in_view(views)) + rng.uniform(-1, 1, count)
    pitch, roll = rng.uniform(6, 12, count), rng.normal(0, 0.8, count)
    return [
        Viewpoint((float(x), float(y), float(z)), float(headings[i] % 360), float(pitch[i]), float(roll[i]))
        for i, (x, y, z) in enumerate(stations)
    ]


def _stations(
    surroundings: _Surroundings, block: shapely.Polygon, step: float, heights: Floats
) -> tuple[Floats, Floats]:
    """The longest row of free places round a block from which facades are seen.

    Args:
        surroundings: of the city.
        block: its border is the kerb.
        step: metres along the kerb between two places that are tried.
        heights: of the cameras there.

    Returns:
        Positions (N, 3) in the order of the walk, and facades (N, 72).
    """
    places = _spaced(block.exterior, step)
    positions = np.full((len(places), 3), np.nan)
    facades = np.zeros((len(places), len(_AZIMUTHS)))
    for from_kerb in _FROM_KERB:
        missing = np.flatnonzero(np.isnan(positions[:, 0]))
        path = shapely.buffer(block, -from_kerb, quad_segs=6).boundary
        if path.is_empty or not len(missing):
            continue
        line = _longest(path)
        along = shapely.line_locate_point(line, shapely.points(places[missing]))
        nearest = shapely.get_coordinates(shapely.line_interpolate_point(line, along))
        tried = np.column_stack([nearest, heights[missing]])
        seen = surroundings.judge(tried)
        good = _in_view(seen).max(axis=1) > _FACADES_NEEDED
        positions[missing[good]], facades[missing[good]] = tried[good], seen[good]
    run = _longest_run(~np.isnan(positions[:, 0]), math.floor(_GAP / step))
    return positions[run], facades[run]


def _longest_run(good: npt.NDArray[np.bool_], gap: int) -> npt.NDArray[np.int64]:
    """Indices of the longest run of good places on a ring, with at most `gap` bad ones in a row."""
    indices = np.flatnonzero(good)
    if not len(indices):
        return indices
    ends = np.diff(np.append(indices, indices[0] + len(good))) > gap + 1
    if not ends.any():
        return indices
    indices = np.roll(indices, -int(np.flatnonzero(ends)[0]) - 1)
    ends = np.roll(ends, -int(np.flatnonzero(ends)[0]) - 1)
    runs = np.split(indices, np.flatnonzero(ends)[:-1] + 1)
    return max(runs, key=len)


def _headings(stations: Floats, views: Floats) -> Floats:
    """Directions of the photos of a walk, (N,) degrees: most facades, few turns (dynamic programming).

    Args:
        stations: (N, 3), in the order of the walk.
        views: (N, 72), share of facades in the view in each direction.
    """
    reach = _TURN // 5
    best, came_from = views[0], []
    for here, before, view in zip(stations[1:], stations[:-1], views[1:], strict=True):
        if np.linalg.norm(here - before) > 3 * STEP:
            source = np.full(len(view), int(np.argmax(best)))
        else:
            turns = range(-reach, reach + 1)
            options = np.array([np.roll(best, turn) - _TURN_COST * (turn / reach) ** 2 for turn in turns])
            source = (np.arange(len(view)) - np.array(turns)[np.argmax(options, axis=0)]) % len(view)
        turn = (np.arange(len(view)) - source + len(view) // 2) % len(view) - len(view) // 2
        cost = _TURN_COST * (np.minimum(np.abs(turn), reach) / reach) ** 2
        came_from.append(source)
        best = best[source] - cost + view
    chosen = [int(np.argmax(best))]
    for source in reversed(came_from):
        chosen.append(int(source[chosen[-1]]))
    return _AZIMUTHS[np.array(chosen[::-1])].astype(float)
