"""Blocks whose buildings stand alone: houses, slabs, offices, industry, a church."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import shapely

from .frontage import Side
from .grounds import lay_out_square, pond
from .shapes import detached_shape, placed
from .site import (
    RECTANGLE,
    Block,
    add_parking,
    add_path_to,
    axes,
    free_area,
    main_heading,
    path_between,
    point_in,
)

Points = npt.NDArray[np.float64]


def fill_detached(block: Block, rng: np.random.Generator) -> None:
    """Houses in gardens."""
    block.lawns.append(shapely.buffer(block.ring, -0.4, join_style="mitre"))
    front, gap = rng.uniform(3.0, 6.5), rng.uniform(2.6, 3.6)
    for side in block.sides:
        position = rng.uniform(2, 5)
        while position < side.length - 5:
            width, depth = rng.uniform(8.0, 13.5), rng.uniform(8.0, 12.0)
            middle = position + width / 2
            if middle > side.length - 2:
                break
            point, normal = side.at([middle])[0], side.normals([middle])[0]
            setback = front + rng.uniform(-0.8, 1.2) if side.street else gap
            heading = float(np.arctan2(-normal[0], normal[1]) + rng.normal(0, 0.015))
            center = point + normal * (setback + depth / 2)
            house = placed(detached_shape(width, depth, rng), center, heading)
            if block.add(house, "house", gap):
                add_path_to(block, house, rng)
                _driveway(block, side, position + width + 1.7, setback + 4.0, rng)
                position += width + rng.uniform(4.0, 7.0)
            else:
                position += 2.0
    _gardens(block, rng)


def _driveway(block: Block, side: Side, position: float, depth: float, rng: np.random.Generator) -> None:
    """A strip beside a house with room for a car, now and then."""
    if position > side.length - 2 or rng.random() < 0.45 or not side.street:
        return
    point, normal = side.at([position])[0], side.normals([position])[0]
    strip = path_between(point, point + normal * (depth + 1.5), 2.7)
    car = placed(
        RECTANGLE * (5.0, 2.2), point + normal * (depth - 1.2), float(np.arctan2(normal[1], normal[0]))
    )
    if shapely.covers(block.ring, car) and shapely.distance(car, np.array(block.footprints)).min() > 0.4:
        block.plazas.append(strip)
        x, y = shapely.get_coordinates(shapely.centroid(car))[0]
        turn = 0.0 if rng.random() < 0.5 else np.pi
        block.parking.append((float(x), float(y), float(np.arctan2(normal[1], normal[0])) + turn))


def _gardens(block: Block, rng: np.random.Generator) -> None:
    """Sheds and a small pond behind the houses."""
    for _ in range(int(block.ring.area / 700)):
        shed = placed(
            RECTANGLE * rng.uniform(2.6, 4.8, 2), point_in(block.ring, rng), main_heading(block.ring)
        )
        if shapely.covers(shapely.buffer(block.ring, -8), shed):
            block.add(shed, "shed", 2.0)
    if rng.random() < 0.3:
        basin = pond(point_in(block.ring, rng), rng.uniform(1.5, 3.0), rng)
        if shapely.covers(shapely.buffer(block.ring, -6), basin) and (
            shapely.distance(basin, np.array([*block.footprints, *block.plazas, block.ring.exterior])).min()
            > 1
        ):
            block.waters.append(basin)


def fill_slabs(block: Block, rng: np.random.Generator) -> None:
    """Long parallel blocks of flats between lawns."""
    inner = shapely.buffer(block.ring, -rng.uniform(3.5, 6.5), join_style="mitre")
    size = np.array([rng.uniform(30, 52), rng.uniform(11.5, 13.5)])
    spacing = rng.uniform(17, 22)
    layouts = []
    for turn in (0.0, np.pi / 2):
        for offset in rng.random(3):
            heading = main_heading(block.ring) + turn
            trial = Block(block.ring, block.kind)
            for shape in _slab_places(inner, heading, size, spacing, offset):
                trial.add(shape, "slab", 9.0)
            layouts.append((sum(shape.area for shape in trial.footprints), heading, trial))
    _, heading, best = max(layouts, key=lambda layout: layout[0])
    block.footprints, block.roles = best.footprints, best.roles
    if not block.footprints:
        fill_detached(block, rng)
        return
    block.lawns.append(shapely.buffer(block.ring, -0.4, join_style="mitre"))
    _add_walks(block, heading, rng)
    for part in shapely.get_parts(free_area(block, 4.0, 3.5)):
        for _ in range(2):
            add_parking(block, part, heading, int(rng.integers(4, 11)), rng)


def _slab_places(
    inner: shapely.Geometry, heading: float, size: Points, spacing: float, offset: float
) -> list[shapely.Polygon]:
    """Rectangles in rows that fit into an area, the longest first; they may overlap."""
    along, across = axes(heading)
    center = shapely.get_coordinates(shapely.centroid(inner))[0]
    reach = float(np.hypot(*np.subtract(inner.bounds[2:], inner.bounds[:2])) / 2)
    rows = (np.arange(-reach, reach, size[1] + spacing) + offset * (size[1] + spacing))[:, None, None]
    steps = np.arange(-reach, reach, 3.0)[None, :, None]
    shapely.prepare(inner)
    found: list[shapely.Polygon] = []
    for share in (1.0, 0.75, 0.55):
        base = RECTANGLE * (size[0] * share, size[1]) @ np.stack([along, across])
        places = (center + rows * across + steps * along).reshape(-1, 1, 2) + base
        shapes = shapely.polygons(places)
        found += [*shapes[shapely.covers(inner, shapes)]]
    return found


def _add_walks(block: Block, heading: float, rng: np.random.Generator) -> None:
    """Paved ways along the slabs and through the block."""
    along, across = axes(heading)
    for footprint in block.footprints:
        middle = shapely.get_coordinates(shapely.centroid(footprint))[0]
        half = np.abs((shapely.get_coordinates(footprint) - middle) @ np.stack([along, across], axis=1)).max(
            axis=0
        )
        walk = middle + across * (half[1] + 2.2)
        block.plazas.append(path_between(walk - along * (half[0] + 2), walk + along * (half[0] + 2), 1.8))
        block.plazas.append(path_between(middle, walk, 2.0))
    sides = (block.sides[0], block.sides[len(block.sides) // 2])
    start, end = (side.at([side.length * rng.uniform(0.35, 0.65)])[0] for side in sides)
    block.plazas.append(path_between(start, end, 1.8))


def fill_offices(block: Block, rng: np.random.Generator) -> None:
    """One to three large buildings on a paved ground."""
    heading = main_heading(block.ring)
    inner = shapely.buffer(block.ring, -rng.uniform(1.0, 4.0), join_style="mitre")
    most = 1 + int(block.ring.area / 1300)
    for scale in (1.1, 1.0, 0.9, 0.8, 0.7, 0.55, 0.4):
        for _ in range(10):
            size = np.array([rng.uniform(24, 44), rng.uniform(18, 30)]) * scale
            shape = detached_shape(size[0], size[1], rng)
            outline = placed(shape, point_in(block.ring, rng), heading + rng.integers(0, 4) * np.pi / 2)
            if len(block.footprints) < most and shapely.covers(inner, outline):
                block.add(outline, "office", 7.0)
    for part in shapely.get_parts(free_area(block, 2.5, 3.0)):
        if rng.random() < 0.7:
            block.lawns.append(shapely.buffer(shapely.buffer(part, -2.0), 1.2, quad_segs=4))
    block.plazas.append(shapely.difference(block.ring, shapely.union_all(block.lawns)))


def fill_industrial(block: Block, rng: np.random.Generator) -> None:
    """Sheds and yards."""
    heading = main_heading(block.ring)
    inner = shapely.buffer(block.ring, -rng.uniform(2.5, 5.0), join_style="mitre")
    most = 2 + int(block.ring.area / 1100)
    for scale in (1.0, 1.0, 0.8, 0.6, 0.45):
        for _ in range(12):
            size = np.array([rng.uniform(26, 46), rng.uniform(16, 24)]) * scale
            turn = heading + rng.integers(0, 2) * np.pi / 2
            shape = placed(RECTANGLE * size, point_in(block.ring, rng), turn)
            if len(block.footprints) < most and shapely.covers(inner, shape):
                block.add(shape, "industrial", 6.0)
    for part in shapely.get_parts(free_area(block, 2.0, 2.5)):
        for _ in range(4):
            add_parking(block, part, heading + rng.integers(0, 2) * np.pi / 2, int(rng.integers(4, 10)), rng)
    block.lawns.append(shapely.difference(block.ring, shapely.buffer(block.ring, -1.5)))


def fill_civic(block: Block, rng: np.random.Generator) -> None:
    """A church with a tower, or a hall, on a square."""
    heading = main_heading(block.ring)
    center = shapely.get_coordinates(shapely.maximum_inscribed_circle(block.ring))[0]
    along, _ = axes(heading)
    for scale in (1.0, 0.85, 0.7, 0.55):
        if rng.random() < 0.75:
            length, width, tower = (
                rng.uniform(28, 38) * scale,
                rng.uniform(12, 15) * scale,
                rng.uniform(7, 8.5) * scale,
            )
            nave = placed(RECTANGLE * (length, width), center, heading)
            end = center + along * length / 2
            corners = shapely.get_coordinates(nave)[1:3]
            side = (corners[1] - corners[0]) / width
            first, last = end - side * tower / 2, end + side * tower / 2
            spire = shapely.Polygon([first, first + along * tower, last + along * tower, last])
            points = shapely.get_coordinates(nave)[:-1]
            nave = shapely.Polygon([*points[:2], first, last, *points[2:]])
            if shapely.covers(shapely.buffer(block.ring, -3), shapely.union(nave, spire)):
                block.footprints += [nave, shapely.orient_polygons(spire)]
                block.roles += ["nave", "tower"]
                break
        else:
            hall = placed(
                RECTANGLE * (rng.uniform(26, 34) * scale, rng.uniform(16, 20) * scale), center, heading
            )
            if shapely.covers(shapely.buffer(block.ring, -3), hall):
                block.add(hall, "hall")
                break
    lay_out_square(block, rng)
