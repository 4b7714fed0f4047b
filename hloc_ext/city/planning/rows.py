"""Buildings side by side along the border of a block, with walls in common."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import shapely

from .frontage import Corner, Side

Points = npt.NDArray[np.float64]

#: Buildings that share no wall are at least so far apart, metres.
LEAST_GAP = 1.2
_LEAST_AREA = 26.0
_LEAST_STEP = 0.45


@dataclass(frozen=True)
class RowStyle:
    """How a block is built up along its border.

    Attributes:
        depth: of the buildings, metres, a multiple of 0.5.
        widths: least and greatest width of a lot.
        setback: from the sidewalk, a multiple of 0.5.
        gap: chance that a lot stays empty.
        wing: chance of a wing into the court.
        chamfer: chance that a corner is cut off.
        uneven: greatest difference of a building's depth from `depth`, in steps of 0.5 m.
    """

    depth: float
    widths: tuple[float, float]
    setback: float = 0.0
    gap: float = 0.06
    wing: float = 0.3
    chamfer: float = 0.45
    uneven: int = 3


@dataclass(frozen=True)
class _Cut:
    """A line across the frontage: from `point` along `normal` into the block."""

    point: Points
    normal: Points

    def at(self, depth: float) -> Points:
        """Point of the line, to the last bit the same for both neighbours."""
        return self.point + depth * self.normal


@dataclass(frozen=True)
class _Lot:
    """A place for a building between two cuts.

    Attributes:
        cuts: indices of the left and the right one; the street runs from left to right.
        front: points of the frontage between the cuts (a corner), (N, 2).
        depths: of the building at its left and its right cut.
        inner: points of its rear from the right to the left cut, (N, 2): share of the width and depth in
            metres; at corners the inner corner, x and y in metres.
        corner: whether it is at a corner of the block.
    """

    cuts: tuple[int, int]
    front: Points
    depths: tuple[float, float]
    inner: Points
    corner: bool


@dataclass(frozen=True)
class Row:
    """What stands around a block.

    Attributes:
        ring: the border of the block, straight between neighbours.
        footprints: of buildings, disjoint; neighbours have edges in common, corner for corner.
        corner: whether each is at a corner of the block.
    """

    ring: shapely.Polygon
    footprints: list[shapely.Polygon]
    corner: list[bool]


def make_row(corners: list[Corner], sides: list[Side], style: RowStyle, rng: np.random.Generator) -> Row:
    """Build up the border of a block.

    Args:
        corners, sides: from :func:`~hloc_ext.city.planning.frontage.frontage`.
        style: widths and depths.
        rng: what they are drawn from.
    """
    built, starts, ends = _reserve(corners, sides, style, rng)
    cuts: list[_Cut] = []
    spans: list[tuple[int, int]] = []
    fronts: list[Points] = []
    ring: list[Points] = []
    for number, side in enumerate(sides):
        fronts.append(_front(corners[number], sides[number - 1], side, built[number], style, rng))
        positions = _divide(starts[number], side.length - ends[number], style.widths, rng)
        spans.append((len(cuts), len(cuts) + len(positions) - 1))
        cuts += [_Cut(*cut) for cut in zip(side.at(positions), side.normals(positions), strict=True)]
        ring += [fronts[-1], side.at(positions[(positions > 0.05) & (positions < side.length - 0.05)])]
    lots: list[_Lot | None] = []
    for number, (first, last) in enumerate(spans):
        if built[number]:
            lots.append(_corner_lot(cuts, (spans[number - 1][1], first), fronts[number], style))
        lots += [_lot(cuts, (index, index + 1), style, rng) for index in range(first, last)]
    outline = shapely.Polygon(np.concatenate(ring))
    kept = _accepted(cuts, [lot for lot in lots if lot is not None], outline, style, rng)
    footprints = [_polygon(cuts, lot, style.setback, _breaks(lot, kept)) for lot in kept]
    return Row(outline, footprints, [lot.corner for lot in kept])


def _reserve(
    corners: list[Corner], sides: list[Side], style: RowStyle, rng: np.random.Generator
) -> tuple[list[bool], list[float], list[float]]:
    """Which corners are built up, and what corners take from the start and the end of each side, metres."""
    built, starts, ends = [False] * len(sides), [0.0] * len(sides), [0.0] * len(sides)
    for number, corner in enumerate(corners):
        before, after = sides[number - 1], sides[number]
        extra = 0.0 if rng.random() < 0.35 else rng.uniform(2.5, 6.0)
        if corner.angle > np.radians(135):
            ends[number - 1] = min(1.0, before.length / 2)
            starts[number] = min(1.0, after.length / 2)
            continue
        need = (style.depth + style.setback) / np.tan(corner.angle / 2)
        ends_here = need - np.linalg.norm(corner.apex - corner.points[[0, -1]], axis=1)
        room = min(before.length / 2 - ends_here[0], after.length / 2 - ends_here[1])
        extra = extra if room > extra else 0.0
        built[number] = corner.angle > np.radians(56) and ends_here.min() + extra > 4 and room > 0
        if built[number]:
            ends[number - 1], starts[number] = (float(end) + extra for end in ends_here)
        else:
            ends[number - 1] = min(1.5, before.length / 2)
            starts[number] = min(need + 3.0, after.length / 2)
    return built, starts, ends


def _divide(start: float, end: float, widths: tuple[float, float], rng: np.random.Generator) -> Points:
    """Positions from start to end in steps of about the given widths; one alone where there is no room."""
    length = end - start
    if length < 0.7 * widths[0]:
        return np.array([(start + end) / 2])
    weights = rng.uniform(*widths, max(1, round(2 * length / sum(widths))))
    return start + np.concatenate([[0], np.cumsum(weights)]) / weights.sum() * length


def _front(
    corner: Corner, before: Side, after: Side, built: bool, style: RowStyle, rng: np.random.Generator
) -> Points:
    """Points of a corner; a built one may be cut off."""
    cut = rng.uniform(2.2, 3.6)
    if rng.random() > style.chamfer or not built or len(corner.points) > 1 or corner.angle > np.radians(115):
        return corner.points
    return np.concatenate([before.at([before.length - cut]), after.at([cut])])


def _lot(cuts: list[_Cut], pair: tuple[int, int], style: RowStyle, rng: np.random.Generator) -> _Lot:
    """A lot in a side, perhaps with a wing into the court."""
    depth = style.setback + style.depth + 0.5 * float(rng.integers(-style.uneven, style.uneven + 1))
    width = float(np.linalg.norm(cuts[pair[1]].point - cuts[pair[0]].point))
    wing = 0.5 * float(rng.integers(6, 17))
    kind, share = int(rng.integers(0, 3)), rng.uniform(0.38, 0.55)
    none = np.empty((0, 2))
    if rng.random() > style.wing or width < 10:
        return _Lot(pair, none, (depth, depth), none, False)
    if kind == 0:
        return _Lot(
            pair, none, (depth + wing, depth), np.array([(share, depth), (share, depth + wing)]), False
        )
    if kind == 1:
        share = 1 - share
        return _Lot(
            pair, none, (depth, depth + wing), np.array([(share, depth + wing), (share, depth)]), False
        )
    ends = 0.5 + rng.uniform(0.18, 0.24, 2)
    tee = np.array(
        [(ends[0], depth), (ends[0], depth + wing), (1 - ends[1], depth + wing), (1 - ends[1], depth)]
    )
    return _Lot(pair, none, (depth, depth), tee, False)


def _corner_lot(cuts: list[_Cut], pair: tuple[int, int], front: Points, style: RowStyle) -> _Lot | None:
    """A lot at a corner: L-shaped, or a quadrilateral where the cuts meet at the rear."""
    left, right = (cuts[index] for index in pair)
    depth = style.setback + style.depth
    inner = _meet(left.at(depth), _along(left), right.at(depth), _along(right))
    if style.setback:
        front = _meet(left.at(style.setback), _along(left), right.at(style.setback), _along(right))[None]
    steps = (float((inner - left.at(depth)) @ _along(left)), float((right.at(depth) - inner) @ _along(right)))
    if min(steps) >= 1.0:
        return _Lot(pair, front, (depth, depth), inner[None], True)
    rear = _meet(left.point, left.normal, right.point, right.normal)
    depths = (float((rear - left.point) @ left.normal), float((rear - right.point) @ right.normal))
    if not 6 < min(depths) <= max(depths) < 2 * depth:
        return None
    return _Lot(pair, front, depths, np.empty((0, 2)), True)


def _along(cut: _Cut) -> Points:
    """Direction of the street at a cut."""
    return np.array([cut.normal[1], -cut.normal[0]])


def _meet(a: Points, along_a: Points, b: Points, along_b: Points) -> Points:
    """Intersection of two lines; the middle of a and b where they are parallel."""
    cross = along_a[0] * along_b[1] - along_a[1] * along_b[0]
    if abs(cross) < 1e-3:
        return (a + b) / 2
    gap = b - a
    return a + (gap[0] * along_b[1] - gap[1] * along_b[0]) / cross * along_a


def _polygon(
    cuts: list[_Cut], lot: _Lot, setback: float, breaks: tuple[list[float], list[float]]
) -> shapely.Polygon:
    """Footprint of a lot's building with vertices at the corners of its neighbours, counter-clockwise."""
    left, right = (cuts[index] for index in lot.cuts)
    points = [left.at(setback), *(lot.front if lot.corner else [])]
    points += [right.at(depth) for depth in [setback, *breaks[1], lot.depths[1]]]
    if lot.corner:
        points += [*lot.inner]
    else:
        points += [(1 - share) * left.at(depth) + share * right.at(depth) for share, depth in lot.inner]
    quadrilateral = lot.corner and not len(lot.inner)
    points += [left.at(depth) for depth in [*([] if quadrilateral else [lot.depths[0]]), *breaks[0][::-1]]]
    return shapely.Polygon(points)


def _breaks(lot: _Lot, lots: list[_Lot]) -> tuple[list[float], list[float]]:
    """Depths at which neighbours end along the left and the right cut of a lot."""
    left = [other.depths[1] for other in lots if other.cuts[1] == lot.cuts[0] and other is not lot]
    right = [other.depths[0] for other in lots if other.cuts[0] == lot.cuts[1] and other is not lot]
    return (
        [depth for depth in left if depth < lot.depths[0] - 1e-9],
        [depth for depth in right if depth < lot.depths[1] - 1e-9],
    )


def _accepted(
    cuts: list[_Cut], lots: list[_Lot], outline: shapely.Polygon, style: RowStyle, rng: np.random.Generator
) -> list[_Lot]:
    """Lots whose buildings fit; where one does not, smaller ones are tried."""
    room = shapely.buffer(outline, 1e-6)
    shapely.prepare(room)
    kept: list[_Lot] = []
    footprints: list[shapely.Polygon] = []
    ends = {cut: depth for lot in lots if lot.corner for cut, depth in zip(lot.cuts, lot.depths, strict=True)}
    for lot in lots:
        if rng.random() < style.gap and not lot.corner:
            continue
        for choice in (_aligned(choice, ends) for choice in _choices(lot, style)):
            footprint = _polygon(cuts, choice, style.setback, ([], []))
            if _fits(footprint, choice, footprints, kept, room):
                kept.append(choice)
                footprints.append(footprint)
                break
    return kept


def _choices(lot: _Lot, style: RowStyle) -> list[_Lot]:
    """The lot, and then without its wing and with shallower buildings."""
    depth, none = min(lot.depths), np.empty((0, 2))
    if lot.corner:
        return [lot]
    smaller = [depth - less for less in (0.0, 2.5, 4.5) if depth - less >= style.setback + 6]
    return [lot, *(replace(lot, depths=(depth, depth), inner=none) for depth in smaller)]


def _aligned(lot: _Lot, ends: dict[int, float]) -> _Lot:
    """The lot, ending with the corner lots beside it where it almost does; `ends`: their depths at cuts."""
    if lot.corner:
        return lot
    left, right = (
        ends[cut] if abs(ends.get(cut, np.inf) - depth) < _LEAST_STEP else depth
        for cut, depth in zip(lot.cuts, lot.depths, strict=True)
    )
    return replace(lot, depths=(left, right))


def _fits(
    footprint: shapely.Polygon,
    lot: _Lot,
    others: list[shapely.Polygon],
    lots: list[_Lot],
    room: shapely.Polygon,
) -> bool:
    for other in lots if lot.corner else []:
        if (
            other.corner
            and other.cuts[1] == lot.cuts[0]
            and abs(other.depths[1] - lot.depths[0]) < _LEAST_STEP
        ):
            return False
    if not footprint.is_valid or footprint.area < _LEAST_AREA or not footprint.exterior.is_ccw:
        return False
    if not shapely.covers(room, footprint):
        return False
    if not others:
        return True
    adjacent = np.array([lot.cuts[0] == other.cuts[1] or lot.cuts[1] == other.cuts[0] for other in lots])
    apart = shapely.distance(footprint, np.array(others)) >= LEAST_GAP
    overlap = shapely.area(shapely.intersection(footprint, np.array(others))) > 1e-7
    return bool((apart | (adjacent & ~overlap)).all())
