"""Blocks that are built up along their borders: old town and terraced houses."""

from __future__ import annotations

import numpy as np
import shapely

from .frontage import Corner, Side
from .rows import RowStyle, make_row
from .shapes import placed
from .site import RECTANGLE, Block, add_parking, add_path_to, main_heading, point_in


def fill_perimeter(corners: list[Corner], sides: list[Side], width: float, rng: np.random.Generator) -> Block:
    """Buildings wall to wall around courts with sheds, trees and parked cars."""
    depth = 0.5 * np.floor(2 * min(rng.uniform(10.5, 14.0), (width - 5) / 2))
    narrow = rng.uniform(8.5, 12.0)
    style = RowStyle(float(depth), (narrow, narrow + rng.uniform(4, 9)), wing=0.35 if width > 40 else 0.0)
    row = make_row(corners, sides, style, rng)
    shops = rng.random()
    roles = [
        "shops" if rng.random() < (0.9 if corner else 0.3 + 0.6 * shops) else "apartments"
        for corner in row.corner
    ]
    block = Block(row.ring, "perimeter", sides, row.footprints, roles)
    _add_court(block, rng)
    return block


def fill_terraces(corners: list[Corner], sides: list[Side], width: float, rng: np.random.Generator) -> Block:
    """Narrow houses wall to wall behind small front gardens."""
    setback = 0.5 * float(rng.integers(4, 9))
    depth = 0.5 * float(np.floor(2 * min(rng.uniform(8.5, 10.5), (width - 6) / 2 - setback)))
    style = RowStyle(max(depth, 6.0), (6.5, 8.5), setback=setback, gap=0.14, wing=0.0, uneven=1)
    row = make_row(corners, sides, style, rng)
    block = Block(row.ring, "terraces", sides, row.footprints, ["terrace"] * len(row.footprints))
    block.lawns.append(shapely.buffer(row.ring, -0.5, join_style="mitre"))
    for footprint in row.footprints:
        add_path_to(block, footprint, rng)
    _add_court(block, rng, dense=False)
    return block


def _add_court(block: Block, rng: np.random.Generator, dense: bool = True) -> None:
    """Sheds, grass and parked cars in what the buildings around leave free."""
    free = shapely.difference(
        shapely.buffer(block.ring, -6.0),
        shapely.buffer(shapely.union_all(block.footprints), 3.2, quad_segs=2),
    )
    for part in shapely.get_parts(free):
        if part.area < 60:
            continue
        heading = main_heading(part)
        for _ in range(int(part.area / 160) if dense and part.area > 700 else 0):
            size = rng.uniform((12.0, 8.5), (24.0, 11.0))
            rear = placed(RECTANGLE * size, point_in(part, rng), heading + rng.choice([0, np.pi / 2]))
            if shapely.covers(part, rear):
                block.add(rear, "rear", 5.5)
        for _ in range(int(rng.integers(0, 4))):
            size = rng.uniform((3.5, 5.0), (5.5, 9.0))
            center = point_in(part, rng)
            shape = placed(RECTANGLE * size, center, heading + rng.choice([0, np.pi / 2]))
            if shapely.covers(part, shape):
                block.add(shape, "shed", 2.5)
        if rng.random() < 0.6:
            add_parking(block, shapely.buffer(part, -1.0), heading, int(rng.integers(2, 7)), rng)
        if dense and rng.random() < 0.75:
            patch = shapely.buffer(shapely.buffer(part, -2.5), 1.8, quad_segs=4)
            block.lawns.append(patch)
