"""What stands in the streets: lamps, benches, bins, signs, shelters, kiosks; and the trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..labels import Label
from ..mesh import FIT, Mesh
from ..plan import CityPlan, Item
from ..textures import TextureSet
from .solids import Modeller, Prototype
from .vegetation import bushes_mesh, trees_mesh

#: Object ids of the items begin here.
FIRST_ITEM_ID = 100_000
#: Items stand so high: on sidewalks and plazas.
_BASE = 0.11
#: Lamps from this height on have an arm over the road; lower ones stand in parks and on plazas.
_TALL_LAMP = 6.0

Maker = Callable[[TextureSet, np.random.Generator], Prototype]


def items_mesh(plan: CityPlan, textures: TextureSet, seed: int) -> Mesh:
    """All items of a plan: street furniture, trees and bushes.

    The object id of an item is :data:`FIRST_ITEM_ID` plus its index in the plan. Trees and bushes are
    ``VEGETATION``, thin upright things (lamps, signs, bollards) ``POLE``, the rest ``OTHER``.

    Args:
        plan: says where they stand.
        textures: pictures.
        seed: of shapes, colours and choices of pictures.
    """
    ids = np.arange(len(plan.items)) + FIRST_ITEM_ID
    kinds = np.array([item.kind for item in plan.items], dtype=str)
    meshes = []
    for number, (kind, (makers, variants)) in enumerate(_MAKERS.items()):
        chosen = np.flatnonzero(kinds == kind)
        if len(chosen):
            rng = np.random.default_rng([seed, 43, number])
            prototypes = [makers[i % len(makers)](textures, rng) for i in range(min(variants, len(chosen)))]
            picks = rng.permutation(len(chosen)) % len(prototypes)
            meshes.append(_placed([plan.items[i] for i in chosen], ids[chosen], prototypes, picks))
    lamps = np.flatnonzero(kinds == "lamp")
    if len(lamps):
        designs = _lamp_designs(plan)
        prototypes = [maker(textures, np.random.default_rng([seed, 44])) for maker, _, _ in _LAMPS]
        meshes.append(_placed([plan.items[i] for i in lamps], ids[lamps], prototypes, designs))
    for kind, maker in (("tree", trees_mesh), ("bush", bushes_mesh)):
        chosen = np.flatnonzero(kinds == kind)
        if len(chosen):
            meshes.append(maker([plan.items[i] for i in chosen], ids[chosen], textures, seed))
    return Mesh.concatenate(meshes)


def lamp_positions(plan: CityPlan) -> npt.NDArray[np.float64]:
    """Where the light of each lamp comes from, (L, 3) metres in the scene frame: 0.1 m below its glass."""
    lamps = [item for item in plan.items if item.kind == "lamp"]
    out = np.array([_LAMPS[design][1:] for design in _lamp_designs(plan)]).reshape(-1, 2)
    size = np.array([lamp.size for lamp in lamps])
    heading = np.array([lamp.heading for lamp in lamps])
    reach, height = out[:, 0] * size, out[:, 1] * size + _BASE - 0.1
    x = np.array([lamp.x for lamp in lamps]) + reach * np.cos(heading)
    y = np.array([lamp.y for lamp in lamps]) + reach * np.sin(heading)
    return np.stack([x, y, height], axis=1)


def _lamp_designs(plan: CityPlan) -> npt.NDArray[np.int64]:
    """Index into :data:`_LAMPS` of each lamp, (L,): tall ones of two designs, each for a part of the city."""
    lamps = [item for item in plan.items if item.kind == "lamp"]
    tall = np.array([lamp.size >= _TALL_LAMP for lamp in lamps], dtype=bool)
    place = np.array([(lamp.x, lamp.y) for lamp in lamps]).reshape(-1, 2)
    angle = np.random.default_rng([plan.seed, 45]).uniform(0, 2 * np.pi)
    side = (place - place.mean(axis=0) if len(place) else place) @ (np.cos(angle), np.sin(angle)) > 0
    return np.where(tall, side.astype(np.int64), 2)


def _placed(
    items: Sequence[Item],
    object_ids: npt.NDArray[np.int64],
    prototypes: Sequence[Prototype],
    picks: npt.NDArray[np.int64],
) -> Mesh:
    """A copy of prototype `picks[i]` for each item, as high as the item."""
    positions = np.array([(item.x, item.y, _BASE) for item in items])
    headings = np.array([item.heading for item in items])
    sizes = np.array([item.size for item in items])
    meshes = []
    for number, prototype in enumerate(prototypes):
        chosen = picks == number
        height = float(prototype.mesh.vertices[..., 2].max())
        meshes.append(
            prototype.copies(positions[chosen], headings[chosen], sizes[chosen] / height, object_ids[chosen])
        )
    return Mesh.concatenate(meshes)


def _pick(textures: TextureSet, rng: np.random.Generator, group: str) -> int:
    return int(rng.choice(textures.group(group)))


def _paint(rng: np.random.Generator) -> tuple[int, int, int]:
    """Colour of painted metal in a street: dark green, anthracite, brown, grey, seldom a bright one."""
    colors = [(45, 70, 50), (50, 52, 56), (80, 62, 48), (110, 112, 115), (40, 55, 90), (150, 50, 40)]
    return colors[rng.choice(len(colors), p=[0.25, 0.3, 0.12, 0.2, 0.08, 0.05])]


# Lamps are 1 m high here: everything is a share of the height.


def _arm_lamp(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """A curved arm over the road with a flat head."""
    metal, glass = _pick(textures, rng, "metal"), _pick(textures, rng, "lamp_glass")
    model = Modeller(textures, Label.POLE, 7.0)
    tint = (150, 152, 155)
    model.tube([(0, 0, 0), (0, 0, 0.12), (0, 0, 0.13)], [0.017, 0.017, 0.011], 8, metal, tint, caps=False)
    bend = np.array(
        [(0, 0, 0.13), (0, 0, 0.55), (0, 0, 0.84), (0.02, 0, 0.92), (0.08, 0, 0.972), (0.19, 0, 0.985)]
    )
    model.tube(bend, [0.011, 0.010, 0.008, 0.007, 0.006, 0.005], 6, metal, tint)
    model.box((0.16, -0.018, 0.978), (0.27, 0.018, 1.0), metal, (120, 120, 122))
    model.box((0.18, -0.014, 0.970), (0.265, 0.014, 0.978), glass, 255, glow=255, bottom=True)
    return model.build()


def _mast_lamp(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """A square mast with a straight bracket."""
    metal, glass = _pick(textures, rng, "metal"), _pick(textures, rng, "lamp_glass")
    model = Modeller(textures, Label.POLE, 7.0)
    tint = (62, 66, 70)
    model.box((-0.012, -0.012, 0), (0.012, 0.012, 0.10), metal, tint)
    model.box((-0.008, -0.008, 0.10), (0.008, 0.008, 0.985), metal, tint)
    model.box((-0.03, -0.005, 0.975), (0.13, 0.005, 0.987), metal, tint, bottom=True)
    model.tube([(0, 0, 0.90), (0.08, 0, 0.978)], 0.003, 4, metal, tint)
    ring = np.array([(0.12, -0.022), (0.24, -0.012), (0.24, 0.012), (0.12, 0.022)])
    model.loft([[(x, y, z) for x, y in ring] for z in (0.975, 1.0)], metal, tint)
    model.box((0.13, -0.014, 0.969), (0.23, 0.011, 0.975), glass, 255, glow=255, bottom=True)
    return model.build()


def _lantern(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """An old lantern on a cast-iron post, for parks and plazas."""
    metal, glass = _pick(textures, rng, "metal"), _pick(textures, rng, "lamp_glass")
    model = Modeller(textures, Label.POLE, 4.0)
    tint = (38, 48, 42)
    heights = [0, 0.06, 0.08, 0.22, 0.24, 0.26, 0.80, 0.82]
    radii = [0.035, 0.033, 0.022, 0.018, 0.024, 0.013, 0.010, 0.022]
    model.tube([(0, 0, z) for z in heights], radii, 8, metal, tint)
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    levels = ((0.035, 0.825), (0.062, 0.93))
    model.loft([[(r * x, r * y, z) for x, y in corners] for r, z in levels], glass, 255, glow=255)
    model.loft(
        [[(r * x, r * y, z) for x, y in corners] for r, z in ((0.074, 0.93), (0.012, 0.985))], metal, tint
    )
    model.tube([(0, 0, 0.985), (0, 0, 1.0)], [0.012, 0.004], 5, metal, tint)
    for x, y in corners:
        model.tube(
            [(0.036 * x, 0.036 * y, 0.825), (0.064 * x, 0.064 * y, 0.93)], 0.004, 3, metal, tint, caps=False
        )
    return model.build()


#: Maker, and distance from the post and height of the lower side of the glass, as shares of the height.
_LAMPS: tuple[tuple[Maker, float, float], ...] = (
    (_arm_lamp, 0.222, 0.970),
    (_mast_lamp, 0.18, 0.969),
    (_lantern, 0.0, 0.825),
)


def _bench(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """Planks on two frames of iron, with a back."""
    wood, metal = _pick(textures, rng, "wood"), _pick(textures, rng, "metal")
    tint, paint = rng.choice([(190, 140, 95), (150, 110, 80), (90, 120, 85), (200, 190, 175)]), _paint(rng)
    model = Modeller(textures, Label.OTHER)
    for y in (-0.7, 0.7):
        model.box((-0.22, y - 0.03, 0), (-0.16, y + 0.03, 0.85), metal, paint)
        model.box((0.18, y - 0.03, 0), (0.24, y + 0.03, 0.43), metal, paint)
        model.box((-0.22, y - 0.03, 0.38), (0.24, y + 0.03, 0.43), metal, paint)
        model.box((-0.16, y - 0.04, 0.60), (0.24, y + 0.04, 0.64), metal, paint, bottom=True)
    for i in range(4):
        shade = (tint * rng.uniform(0.8, 1.0)).astype(int)
        model.box((-0.15 + 0.11 * i, -0.9, 0.43), (-0.06 + 0.11 * i, 0.9, 0.46), wood, shade, bottom=True)
    for i in range(3):
        shade = (tint * rng.uniform(0.8, 1.0)).astype(int)
        low = 0.52 + 0.125 * i
        model.box((-0.20, -0.9, low), (-0.165, 0.9, low + 0.10), wood, shade, bottom=True)
    return model.build()


def _round_bin(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    metal, paint = _pick(textures, rng, "metal"), _paint(rng)
    model = Modeller(textures, Label.OTHER)
    model.tube([(0, 0, 0.06), (0, 0, 0.1), (0, 0, 0.72)], [0.2, 0.23, 0.27], 10, metal, paint)
    model.tube([(0, 0, 0), (0, 0, 0.07)], 0.14, 6, metal, (60, 60, 60))
    model.tube([(0, 0, 0.72), (0, 0, 0.78)], [0.285, 0.285], 10, metal, (70, 72, 74), caps=False)
    model.disc((0, 0, 0.725), 0.2, "z", 8, _pick(textures, rng, "rubber"), 140)
    model.disc((0, 0, 0.9), 0.25, "z", 10, metal, paint)
    for x in (-0.2, 0.2):
        model.box((x - 0.02, -0.02, 0.72), (x + 0.02, 0.02, 0.9), metal, paint)
    return model.build()


def _square_bin(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    metal, paint = _pick(textures, rng, "metal"), _paint(rng)
    model = Modeller(textures, Label.OTHER)
    model.box((-0.2, -0.2, 0.05), (0.2, 0.2, 0.85), metal, paint)
    model.box((-0.23, -0.23, 0.85), (0.23, 0.23, 0.9), metal, (60, 62, 64), bottom=True)
    slots = [[(0.202, y, 0.8), (0.202, -y, 0.8), (0.202, -y, 0.66), (0.202, y, 0.66)] for y in (0.14,)]
    model.quads(slots, _pick(textures, rng, "rubber"), 140)
    poster = _pick(textures, rng, "poster")
    model.quads(
        [[(0.203, -0.15, 0.6), (0.203, 0.15, 0.6), (0.203, 0.15, 0.2), (0.203, -0.15, 0.2)]], poster, uv=FIT
    )
    return model.build()


def _bollard(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    metal, paint = _pick(textures, rng, "metal"), _paint(rng)
    model = Modeller(textures, Label.POLE)
    heights, radii = (
        [0, 0.06, 0.08, 0.74, 0.76, 0.84, 0.86, 0.9],
        [0.09, 0.09, 0.06, 0.055, 0.058, 0.058, 0.055, 0.02],
    )
    model.tube([(0, 0, z) for z in heights], radii, 8, metal, paint)
    model.tube([(0, 0, 0.64), (0, 0, 0.72)], 0.058, 8, metal, 250, caps=False)
    return model.build()


def _stone_bollard(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    model = Modeller(textures, Label.POLE)
    stone = _pick(textures, rng, "kerb")
    model.tube([(0, 0, 0), (0, 0, 0.5), (0, 0, 0.62), (0, 0, 0.68)], [0.19, 0.16, 0.13, 0.05], 9, stone, 225)
    return model.build()


def _bus_stop(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """A shelter of glass with a lit poster at one end, a bench and a sign; open towards +x."""
    metal, wood = _pick(textures, rng, "metal"), _pick(textures, rng, "wood")
    glass, paint = _pick(textures, rng, "glass"), _paint(rng)
    model = Modeller(textures, Label.OTHER)
    for x, y in ((-0.7, -1.9), (-0.7, 0), (-0.7, 1.9), (0.6, 1.9), (0.6, -1.9)):
        model.box((x - 0.035, y - 0.035, 0), (x + 0.035, y + 0.035, 2.4), metal, paint)
    model.box((-0.85, -2.1, 2.4), (0.85, 2.1, 2.52), metal, paint, bottom=True)
    for y in (-1.86, 0.04):
        for low, high in ((0.3, 1.0), (1.05, 2.3)):
            model.box((-0.71, y, low), (-0.69, y + 1.82, high), glass, (190, 210, 205), bottom=True)
    model.box((-0.62, -1.5, 0.45), (-0.25, 0.6, 0.5), wood, (200, 160, 120), bottom=True)
    for y in (-1.4, 0.5):
        model.box((-0.48, y - 0.03, 0), (-0.40, y + 0.03, 0.45), metal, paint)
    model.box((-0.66, 1.84, 0.25), (0.66, 1.98, 2.3), metal, paint, bottom=True)
    left, right = (-0.55, 1.82), (-0.55, 2.0)
    for (x, y), sense in ((left, 1), (right, -1)):
        ends = (x, x + 1.15) if sense > 0 else (x + 1.15, x)
        quad = [(ends[0], y, 2.2), (ends[1], y, 2.2), (ends[1], y, 0.4), (ends[0], y, 0.4)]
        model.quads([quad], _pick(textures, rng, "poster"), glow=90, uv=FIT)
    sign = _pick(textures, rng, "sign")
    for x, sense in ((0.855, 1), (-0.855, -1)):
        y = 0.4 * sense
        model.quads([[(x, -y, 2.51), (x, y, 2.51), (x, y, 2.41), (x, -y, 2.41)]], sign, uv=FIT)
    timetable = [[(-0.68, 0.3, 1.9), (-0.68, 0.9, 1.9), (-0.68, 0.9, 1.1), (-0.68, 0.3, 1.1)]]
    model.quads(timetable, _pick(textures, rng, "poster"), uv=FIT)
    return model.build()


def _advertising_column(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """A column covered with posters in two rows, some pasted crookedly over others."""
    model = Modeller(textures, Label.OTHER)
    concrete, metal, paint = _pick(textures, rng, "concrete"), _pick(textures, rng, "metal"), _paint(rng)
    heights = [0, 0.3, 0.32, 3.0, 3.02, 3.15, 3.4, 3.6]
    radii = [0.68, 0.68, 0.62, 0.62, 0.78, 0.78, 0.45, 0.05]
    sides, posters = 16, textures.group("poster")
    model.tube([(0, 0, z) for z in heights[:4]], radii[:4], sides, concrete, 225, caps=False)
    model.tube([(0, 0, z) for z in heights[3:]], radii[3:], sides, metal, paint, caps=False)
    for row in range(2):
        start, left = rng.uniform(0, 2 * np.pi), 2 * np.pi
        while left > 0.5:
            width = min(rng.uniform(0.6, 1.5), left - 0.02)
            low, high = 0.4 + 1.28 * row + rng.uniform(0, 0.15), 1.58 + 1.28 * row + rng.uniform(-0.12, 0.05)
            _curved_poster(
                model, start, width, (low, high), 0.632 + rng.uniform(0, 0.004), int(rng.choice(posters))
            )
            start += width + 0.04
            left -= width + 0.04
    return model.build()


def _curved_poster(
    model: Modeller, start: float, width: float, heights: tuple[float, float], radius: float, texture: int
) -> None:
    """Add a picture around an upright cylinder, counter-clockwise from an angle on, `width` radians."""
    share = np.linspace(0, 1, 5)
    low, high = (
        [(radius * np.cos(a), radius * np.sin(a), z) for a in start + width * share] for z in heights
    )
    quads = [(high[i], high[i + 1], low[i + 1], low[i]) for i in range(4)]
    uv = [[(share[i], 0), (share[i + 1], 0), (share[i + 1], 1), (share[i], 1)] for i in range(4)]
    model.quads(quads, texture, uv=uv)


def _kiosk(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """A stall with a counter towards +x, a sign above it and posters on its sides."""
    model = Modeller(textures, Label.OTHER)
    wall, paint = _pick(textures, rng, str(rng.choice(["siding", "panel", "wood"]))), _paint(rng)
    metal, tint = _pick(textures, rng, "metal"), rng.integers(140, 256, 3)
    model.box((-1.2, -1.6, 0), (1.2, 1.6, 2.6), wall, tint)
    model.box((-1.45, -1.85, 2.6), (1.7, 1.85, 2.75), metal, paint, bottom=True)
    model.box((-1.0, -1.4, 2.75), (1.0, 1.4, 2.95), metal, (130, 130, 130))
    front = [[(1.21, -1.35, 2.2), (1.21, 1.35, 2.2), (1.21, 1.35, 0.95), (1.21, -1.35, 0.95)]]
    model.quads(front, _pick(textures, rng, "shopfront"), glow=200, uv=FIT)
    model.box((1.2, -1.45, 0.88), (1.5, 1.45, 0.94), metal, (170, 170, 170), bottom=True)
    sign = [[(1.705, -1.5, 2.99), (1.705, 1.5, 2.99), (1.705, 1.5, 2.55), (1.705, -1.5, 2.55)]]
    model.quads(sign, _pick(textures, rng, "sign"), glow=120, uv=FIT)
    for y, sense in ((1.61, -1), (-1.61, 1)):
        for x in (-0.55, 0.55):
            half = 0.42 * sense
            quad = [(x - half, y, 2.2), (x + half, y, 2.2), (x + half, y, 0.9), (x - half, y, 0.9)]
            model.quads([quad], _pick(textures, rng, "poster"), uv=FIT)
    door = [[(-1.21, 0.5, 2.1), (-1.21, -0.4, 2.1), (-1.21, -0.4, 0), (-1.21, 0.5, 0)]]
    model.quads(door, _pick(textures, rng, "door"), uv=FIT)
    return model.build()


def _hydrant(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    model = Modeller(textures, Label.OTHER)
    metal, tint = _pick(textures, rng, "metal"), (190, 45, 35)
    heights = [0, 0.05, 0.06, 0.5, 0.52, 0.58, 0.66, 0.72]
    model.tube([(0, 0, z) for z in heights], [0.16, 0.16, 0.1, 0.1, 0.13, 0.13, 0.09, 0.03], 9, metal, tint)
    model.tube([(0, -0.18, 0.42), (0, 0.18, 0.42)], 0.055, 7, metal, tint, across=(1, 0, 0))
    for y in (-0.19, 0.19):
        model.disc((0, y, 0.42), 0.065, "y", 7, metal, (170, 170, 165))
    model.tube([(0, 0, 0.42), (0.17, 0, 0.42)], 0.07, 7, metal, (170, 170, 165))
    return model.build()


def _rock(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """A boulder."""
    model = Modeller(textures, Label.OTHER)
    rings, sides = 6, 9
    lat = np.linspace(-0.6, np.pi / 2, rings)[:, None]
    lon = np.arange(sides)[None] * 2 * np.pi / sides
    unit = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat) + 0 * lon], -1)
    unit *= rng.uniform(0.78, 1.12, (rings, sides, 1)) * np.array([0.75, 0.55, 0.45])
    unit[-1] = unit[-1].mean(axis=0)
    model.loft(
        unit + np.array([0, 0, 0.1]), _pick(textures, rng, "stone"), int(rng.integers(150, 235)), caps=False
    )
    return model.build()


def _traffic_sign(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """One or two signs on a pole; they face +x."""
    model = Modeller(textures, Label.POLE)
    metal = _pick(textures, rng, "metal")
    model.tube([(0, 0, 0), (0, 0, 2.75)], 0.032, 6, metal, 190)
    high = 2.7
    for _ in range(1 + int(rng.random() < 0.3)):
        side = rng.uniform(0.55, 0.7)
        face = np.array([(0.05, -side / 2, high), (0.05, side / 2, high), (0.05, side / 2, high - side)])
        face = np.vstack([face, [(0.05, -side / 2, high - side)]])
        model.quads([face], _pick(textures, rng, "traffic_sign"), uv=FIT)
        model.quads([face[[1, 0, 3, 2]] - (0.012, 0, 0)], metal, 150)
        high -= side + 0.05
    return model.build()


#: Makers of each kind (they take turns) and the largest number of different ones in a city.
_MAKERS: dict[str, tuple[tuple[Maker, ...], int]] = {
    "traffic_sign": ((_traffic_sign,), 32),
    "bench": ((_bench,), 6),
    "bin": ((_round_bin, _square_bin), 10),
    "bollard": ((_bollard, _bollard, _stone_bollard), 6),
    "bus_stop": ((_bus_stop,), 24),
    "advertising_column": ((_advertising_column,), 24),
    "kiosk": ((_kiosk,), 16),
    "hydrant": ((_hydrant,), 2),
    "rock": ((_rock,), 16),
}
