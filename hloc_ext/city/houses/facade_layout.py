"""Where a wall projects or recedes, and where its windows, doors and balconies are: nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .facade_style import Style
from .surfaces import Frame

Floats = npt.NDArray[np.float64]

#: Walls start below the lowest ground beside them.
BASE = -0.1
#: The floor of the ground floor is above the sidewalk.
_DOOR_STEP = 0.13
_LOWEST_BALCONY = 2.75


@dataclass(frozen=True)
class Opening:
    """A hole in a wall, metres in its frame.

    Attributes:
        kind: ``window``, ``wide``, ``french`` (a window down to the floor), ``door``, ``shopfront``,
            ``garage`` or ``blind`` (bricked up).
        left, right, low, high: its sides.
        depth: of the wall around it, out of the footprint.
    """

    kind: str
    left: float
    right: float
    low: float
    high: float
    depth: float

    @property
    def width(self) -> float:
        """Metres."""
        return self.right - self.left


@dataclass(frozen=True)
class Balcony:
    """A slab with a railing: from `back` to `front` out of the footprint, its top at z."""

    left: float
    right: float
    back: float
    front: float
    z: float


@dataclass
class Facade:
    """A wall as a grid of floors and sections, each of which may stand in front of or behind others.

    Attributes:
        frame: of the wall.
        length: metres.
        face: ``street``, ``yard`` or ``party``.
        mitres: at the left and right end: what protrudes by d reaches further by mitre · d there (negative at
            re-entrant corners, 0 at a neighbour's wall).
        levels: heights between the floors, (F + 1,), from below the ground to the top of the wall.
        breaks: positions between sections, (S + 1,), from 0 to the length.
        depth: of the wall in front of the footprint, (F, S); 0 in the first and last section.
        accented: whether it has the second material, (F, S).
        openings, balconies: what it has.
    """

    frame: Frame
    length: float
    face: str
    mitres: tuple[float, float]
    levels: Floats
    breaks: Floats
    depth: Floats
    accented: npt.NDArray[np.bool_]
    openings: list[Opening] = field(default_factory=list)
    balconies: list[Balcony] = field(default_factory=list)

    @property
    def floors(self) -> int:
        """Number of rows of the grid."""
        return len(self.levels) - 1

    def depth_at(self, s: float, z: float) -> float:
        """Of the wall in front of the footprint."""
        section = min(max(int(np.searchsorted(self.breaks, s, side="right")) - 1, 0), len(self.breaks) - 2)
        floor = min(max(int(np.searchsorted(self.levels, z, side="right")) - 1, 0), self.floors - 1)
        return float(self.depth[floor, section])

    def is_free(self, left: float, right: float, low: float, high: float, margin: float = 0.1) -> bool:
        """Whether a rectangle of the wall is flat and has neither opening nor balcony."""
        if left < 0 or right > self.length:
            return False
        corners = [self.depth_at(s, z) for s in (left, right) for z in (low, high)]
        if max(corners) - min(corners) > 1e-6:
            return False
        for other in self.openings:
            if (
                other.left - margin < right
                and other.right + margin > left
                and other.low - margin < high
                and other.high + margin > low
            ):
                return False
        return not any(
            b.left < right and b.right > left and b.z - 0.3 < high and b.z + 1.2 > low for b in self.balconies
        )


@dataclass(frozen=True)
class _Bays:
    """Window columns: their limits (B + 1,), their sections (B,), and what each has on upper floors."""

    limits: Floats
    section: npt.NDArray[np.intp]
    kinds: list[str]


def blank_facade(
    frame: Frame, length: float, face: str, mitres: tuple[float, float], levels: Floats
) -> Facade:
    """A wall without anything."""
    floors = len(levels) - 1
    return Facade(
        frame,
        length,
        face,
        mitres,
        levels,
        np.array([0.0, length]),
        np.zeros((floors, 1)),
        np.zeros((floors, 1), bool),
    )


def make_facade(
    rng: np.random.Generator,
    style: Style,
    use: str,
    frame: Frame,
    length: float,
    face: str,
    mitres: tuple[float, float],
    levels: Floats,
    entrance: bool,
) -> Facade:
    """Lay out a wall.

    Args:
        rng: source of all choices.
        style: of the building.
        use: of the building.
        frame, length, face, mitres: as in :class:`Facade`.
        levels: heights between the floors; the last row may be a parapet (less than 1.6 m high).
        entrance: whether there must be a door.
    """
    facade = blank_facade(frame, length, face, mitres, levels)
    margin = float(rng.uniform(0.45, 0.95))
    if face == "party" or length < 2 * margin + 1.0:
        return facade
    storeys = facade.floors - (1 if levels[-1] - levels[-2] < 1.6 else 0)
    bays = _bays(rng, style, length, margin, face)
    _place_sections(rng, style, facade, bays, storeys)
    if use == "shops" and face == "street" and length > 4:
        _shop_floor(rng, facade, margin, entrance or rng.random() < 0.5)
    else:
        _ground_floor(rng, style, use, facade, bays, entrance)
    for floor in range(1, storeys):
        _upper_floor(rng, style, facade, bays, floor, floor == storeys - 1)
    return facade


def _bays(rng: np.random.Generator, style: Style, length: float, margin: float, face: str) -> _Bays:
    """Divide a wall into window columns and group them: mirrored, or evenly, or at random."""
    usable = length - 2 * margin
    bay = style.bay * (rng.uniform(1.0, 1.3) if face == "yard" else rng.uniform(0.9, 1.1))
    count = max(int(usable / bay), 1)
    group = max(int(rng.integers(1, 4)), 1)
    section = np.zeros(count, np.intp)
    if count >= 4 and face == "street":
        if rng.random() < 0.6:
            inner = count % 2 if group == 1 else 2 - count % 2
            inner = min(max(inner, 1), count - 2)
            first = (count - inner) // 2
            section[first : first + inner] = 1
            section[first + inner :] = 2
            if count >= 9 and rng.random() < 0.6:
                section = _symmetric(count, int(rng.integers(1, 3)))
        else:
            start = int(rng.integers(1, 3))
            section = np.maximum((np.arange(count) - start) // group + 1, 0)
    kinds = ["pair" if rng.random() < style.paired else "single" for _ in range(count)]
    widths = np.where(np.array(kinds) == "pair", 1.25, 1.0) * (1 + 0.12 * (section % 2))
    if rng.random() < 0.35:
        widths *= rng.uniform(0.85, 1.2, count)
    limits = margin + np.concatenate([[0.0], np.cumsum(widths)]) * usable / widths.sum()
    return _Bays(limits, section, kinds)


def _symmetric(count: int, group: int) -> npt.NDArray[np.intp]:
    """Sections of a long wall: accents of `group` columns second from each end."""
    section = np.zeros(count, np.intp)
    section[1 : 1 + group] = 1
    section[1 + group : count - 1 - group] = 2
    section[count - 1 - group : count - 1] = 3
    section[count - 1 :] = 4
    return section


def _place_sections(
    rng: np.random.Generator, style: Style, facade: Facade, bays: _Bays, storeys: int
) -> None:
    """Let every second section project, recede, or have balconies; sections are divided at column limits."""
    numbers = bays.section
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    facade.breaks = np.array([0.0, *bays.limits[starts[1:]], facade.length])
    sections = len(starts)
    facade.depth = np.zeros((facade.floors, sections))
    facade.accented = np.zeros((facade.floors, sections), bool)
    odd = [k for k in range(1, sections - 1) if numbers[starts[k]] % 2 == 1]
    if facade.face == "yard":
        if rng.random() < 0.3 * style.balconies:
            _mark(bays, "balcony", [int(rng.integers(len(bays.kinds)))])
        if rng.random() < 0.3 and len(bays.kinds) >= 3:
            _mark(bays, "stair", [len(bays.kinds) // 2])
        return
    columns = [int(c) for k in odd for c in np.flatnonzero(numbers == numbers[starts[k]])]
    last = facade.floors if rng.random() < 0.6 else storeys
    if odd and rng.random() < style.projections:
        facade.depth[:last, odd] = rng.uniform(0.08, 0.2)
        facade.accented[1:last, odd] = rng.random() < 0.6
        if rng.random() < style.balconies * 0.5:
            _mark(bays, "balcony", columns)
    elif odd and storeys >= 3 and rng.random() < style.oriels:
        top = storeys if rng.random() < 0.5 else storeys - 1
        narrow = [k for k in odd if facade.breaks[k + 1] - facade.breaks[k] < 5.5]
        facade.depth[1:top, narrow] = rng.uniform(0.5, 0.95)
        facade.accented[1:top, narrow] = rng.random() < 0.5
    elif odd and storeys >= 3 and rng.random() < style.loggias:
        facade.depth[1:storeys, odd] = -rng.uniform(1.0, 1.4)
        facade.accented[1:storeys, odd] = rng.random() < 0.5
        _mark(bays, "loggia", columns)
    elif rng.random() < style.balconies:
        spread = [c for c in range(len(bays.kinds)) if c % 3 == int(rng.integers(0, 3))]
        _mark(bays, "balcony", columns or spread or [0])
        facade.accented[1:storeys, odd] = rng.random() < 0.4
    if style.character in ("modern", "office") and rng.random() < 0.4 and odd:
        facade.accented[1:storeys, odd] = True


def _mark(bays: _Bays, kind: str, columns: list[int]) -> None:
    for column in columns:
        bays.kinds[column] = kind


def _ground_floor(
    rng: np.random.Generator, style: Style, use: str, facade: Facade, bays: _Bays, entrance: bool
) -> None:
    """Windows in all columns but where there is a door or a gate."""
    ceiling = float(facade.levels[1])
    count = len(bays.kinds)
    doors: list[int] = []
    if entrance:
        doors.append(count // 2 if rng.random() < 0.5 else int(rng.integers(count)))
        if count > 9:
            doors.append(int(rng.integers(count)))
    elif rng.random() < (0.5 if facade.face == "yard" else 0.15):
        doors.append(int(rng.integers(count)))
    gates = {"industrial": 0.4, "house": 0.12}.get(use, 0.05)
    for column in range(count):
        left, right = bays.limits[column], bays.limits[column + 1]
        room = right - left - 0.35
        middle = (left + right) / 2
        depth = facade.depth_at(middle, 1.0)
        if column in doors:
            width = min(room, rng.uniform(1.0, 1.9 if use in ("office", "civic") else 1.45))
            if width > 0.75:
                low = _DOOR_STEP + rng.uniform(0.02, 0.28 if facade.face == "street" else 0.08)
                high = min(low + rng.uniform(2.1, 2.6), ceiling - 0.2)
                facade.openings.append(
                    Opening("door", middle - width / 2, middle + width / 2, low, high, depth)
                )
        elif room > 2.2 and rng.random() < gates:
            width = min(room, rng.uniform(2.3, 3.2))
            facade.openings.append(
                Opening(
                    "garage", middle - width / 2, middle + width / 2, 0.14, min(2.6, ceiling - 0.3), depth
                )
            )
        else:
            low = max(style.plinth_height + 0.1, style.sill + _DOOR_STEP, 0.5)
            high = ceiling - max(style.head, 0.35)
            if style.character != "civic":
                high = min(high, low + 2.1)
            _windows(rng, style, facade, bays, column, low, high, depth, 0.04)


def _shop_floor(rng: np.random.Generator, facade: Facade, margin: float, entrance: bool) -> None:
    """Shop windows between piers, and a door to the stairs."""
    facade.depth[0] = 0.0
    usable = facade.length - 2 * margin
    door = rng.uniform(1.1, 1.5) if entrance else 0.0
    pier = rng.uniform(0.3, 0.75)
    count = max(int((usable - door) / rng.uniform(3.2, 5.0)), 1)
    widths = rng.uniform(0.75, 1.25, count)
    widths *= (usable - door - pier * (count - (0 if door else 1))) / widths.sum()
    high = min(float(facade.levels[1]) - rng.uniform(0.85, 1.1), 3.2)
    where = int(rng.integers(count + 1)) if door else -1
    s = margin
    for k in range(count + 1):
        if k == where:
            facade.openings.append(Opening("door", s, s + door, _DOOR_STEP + 0.05, min(high, 2.75), 0.0))
            s += door + pier
        if k < count and widths[k] > 1.2:
            facade.openings.append(Opening("shopfront", s, s + widths[k], _DOOR_STEP + 0.02, high, 0.0))
            s += widths[k] + pier


def _upper_floor(
    rng: np.random.Generator, style: Style, facade: Facade, bays: _Bays, floor: int, top: bool
) -> None:
    low, high = float(facade.levels[floor]), float(facade.levels[floor + 1])
    sill = low + style.sill
    head = high - style.head
    if style.character in ("historic", "civic") and top and facade.floors > 3:
        head -= 0.2
    for column, kind in enumerate(bays.kinds):
        middle = (bays.limits[column] + bays.limits[column + 1]) / 2
        depth = facade.depth_at(middle, (low + high) / 2)
        if kind == "stair":
            width = min(style.window_width, 1.0)
            shift = 0.45 * (high - low)
            facade.openings.append(
                Opening(
                    "window",
                    middle - width / 2,
                    middle + width / 2,
                    low + shift,
                    min(low + shift + 1.1, high - 0.25),
                    depth,
                )
            )
        elif kind == "balcony" and low > _LOWEST_BALCONY and depth >= 0:
            _balcony(style, facade, bays, column, low, head, depth)
        elif kind == "loggia":
            left, right = bays.limits[column] + 0.2, bays.limits[column + 1] - 0.2
            facade.openings.append(Opening("french", left, right, low + 0.04, head, depth))
        else:
            _windows(rng, style, facade, bays, column, sill, head, depth, 0.015)
    for section in range(facade.depth.shape[1]):
        if facade.depth[floor, section] < -0.5:
            left, right = facade.breaks[section : section + 2]
            facade.balconies.append(
                Balcony(left, right, float(facade.depth[floor, section]), 0.05, low + 0.02)
            )


def _balcony(
    style: Style,
    facade: Facade,
    bays: _Bays,
    column: int,
    low: float,
    head: float,
    depth: float,
) -> None:
    left, right = float(bays.limits[column]), float(bays.limits[column + 1])
    middle = (left + right) / 2
    width = min(max(style.window_width, 0.95), right - left - 0.3)
    facade.openings.append(Opening("french", middle - width / 2, middle + width / 2, low + 0.05, head, depth))
    reach = min(1.15 - depth, 1.05 if style.character == "modern" else 0.8)
    half = min(max(width / 2 + 0.35, 0.9), (right - left) / 2 - 0.05)
    edges = facade.breaks[np.searchsorted(facade.breaks, middle) - 1 :][:2]
    start, end = max(middle - half, edges[0] + 0.02), min(middle + half, edges[1] - 0.02)
    facade.balconies.append(Balcony(start, end, depth, depth + reach, low + 0.03))


def _windows(
    rng: np.random.Generator,
    style: Style,
    facade: Facade,
    bays: _Bays,
    column: int,
    low: float,
    high: float,
    depth: float,
    bricked_up: float,
) -> None:
    """One or two windows in the middle of a column."""
    left, right = float(bays.limits[column]), float(bays.limits[column + 1])
    middle, room = (left + right) / 2, right - left - 0.3
    if high - low < 0.5 or room < 0.5:
        return
    if bays.kinds[column] == "pair" and room > 1.7:
        width = min(0.85 * style.window_width, (room - 0.3) / 2)
        gap = min(0.3, room - 2 * width)
        spans = [(middle - gap / 2 - width, middle - gap / 2), (middle + gap / 2, middle + gap / 2 + width)]
    else:
        width = min(style.window_width, room)
        spans = [(middle - width / 2, middle + width / 2)]
    for start, end in spans:
        kind = "wide" if end - start > 1.15 * (high - low) else "window"
        if rng.random() < bricked_up:
            kind = "blind"
        facade.openings.append(Opening(kind, start, end, low, high, depth))
