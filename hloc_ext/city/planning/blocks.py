"""Blocks of a city: what each is used for, and what is built and laid out on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from .closed import fill_perimeter, fill_terraces
from .frontage import frontage
from .grounds import lay_out_park, lay_out_square
from .open import fill_civic, fill_detached, fill_industrial, fill_offices, fill_slabs
from .site import Block, widths

Bounds = tuple[float, float, float, float]

_SMALL_AREA, _NARROW = 320.0, 13.0


def make_blocks(fronts: shapely.Geometry, bounds: Bounds, rng: np.random.Generator) -> list[Block]:
    """Fill all blocks.

    Args:
        fronts: streets with their sidewalks.
        bounds: (min x, min y, max x, max y).
        rng: what everything is drawn from.
    """
    areas = shapely.get_parts(shapely.difference(shapely.box(*bounds), fronts))
    areas = areas[shapely.area(areas) > 15]
    centers = shapely.get_coordinates(shapely.centroid(areas))
    areas = areas[np.lexsort((centers[:, 0].round(3), centers[:, 1].round(3)))]
    kinds = _kinds(areas, bounds, rng)
    seeds = rng.integers(0, 2**63, len(areas))
    return [
        _fill(area, kind, bounds, np.random.default_rng(seed))
        for area, kind, seed in zip(areas, kinds, seeds, strict=True)
    ]


def _kinds(areas: npt.NDArray[np.object_], bounds: Bounds, rng: np.random.Generator) -> list[str]:
    """Uses of blocks: old and dense in the middle, houses and industry outside."""
    size = bounds[2] - bounds[0]
    kinds = np.full(len(areas), "pocket", dtype="<U10")
    usable = np.flatnonzero((shapely.area(areas) > _SMALL_AREA) & (widths(areas) > _NARROW))
    centers = shapely.get_coordinates(shapely.centroid(areas[usable]))
    outer = np.linalg.norm(centers, axis=1) / (0.5 * size) + rng.normal(0, 0.22, len(usable))
    middle = usable[np.argmin(np.linalg.norm(centers, axis=1))] if len(usable) else -1
    order = usable[np.argsort(outer)]
    full = [i for i in order if shapely.area(areas[i]) > 900 and i != middle]
    kinds[order] = "perimeter"
    count = len(full)
    if not count:
        return [str(kind) for kind in kinds]
    dense = round(0.42 * count)
    for rank, index in enumerate(full[dense:]):
        far = rank / max(1, count - dense)
        weights = np.array([0.16, 0.24, 0.16 + 0.45 * far, 0.24, 0.10, 0.10 * (far > 0.4)])
        choices = ["perimeter", "terraces", "detached", "slabs", "offices", "industrial"]
        kinds[index] = rng.choice(choices, p=weights / weights.sum())
    special = _special(len(usable), count, rng)
    places = [full[i] for i in rng.permutation(count)[: len(special)]]
    # The largest of them become parks.
    places.sort(key=lambda i: -float(shapely.area(areas[i])))
    for index, kind in zip(places, special, strict=False):
        kinds[index] = kind
    return [str(kind) for kind in kinds]


def _special(blocks: int, full: int, rng: np.random.Generator) -> list[str]:
    """Uses that a city needs, parks first; `full` of the blocks that can be built on are of ordinary size."""
    if full < 16:
        return ["park", "civic", "offices", str(rng.choice(["slabs", "detached", "terraces", "square"]))]
    shares = {
        "civic": 0.03,
        "square": 0.03,
        "offices": 0.04,
        "industrial": 0.02,
        "slabs": 0.02,
        "detached": 0.02,
    }
    special = ["park"] * round(0.08 * blocks)
    for kind, share in shares.items():
        special += [kind] * max(1, round(share * full))
    return special


def _fill(area: shapely.Polygon, kind: str, bounds: Bounds, rng: np.random.Generator) -> Block:
    """A block of a kind; where that does not fit, a simpler one."""
    if kind == "pocket":
        return _pocket(area, rng)
    corners, sides = frontage(area, bounds)
    if not sides:
        return _pocket(area, rng)
    width = float(widths(np.array([area]))[0])
    if kind in ("perimeter", "terraces") and width < 25:
        kind = "detached" if width > 18 else "offices"
    if kind in ("slabs", "civic", "industrial") and width < 32:
        kind = "detached"
    block = Block(area, kind, sides)
    if kind == "perimeter":
        return fill_perimeter(corners, sides, width, rng)
    if kind == "terraces":
        return fill_terraces(corners, sides, width, rng)
    {
        "detached": fill_detached,
        "slabs": fill_slabs,
        "offices": fill_offices,
        "industrial": fill_industrial,
        "civic": fill_civic,
        "park": lay_out_park,
        "square": lay_out_square,
    }[kind](block, rng)
    return block


def _pocket(area: shapely.Polygon, rng: np.random.Generator) -> Block:
    """Grass or paving where nothing fits."""
    block = Block(area, "pocket")
    (block.lawns if rng.random() < 0.6 else block.plazas).append(area)
    return block
