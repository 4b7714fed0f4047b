"""What a building is made of and how it is adorned: drawn once per building, so that no two look the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..plan import Building
from ..pyramids import srgb_to_linear
from ..textures import TextureSet
from .surfaces import Material, Tint

Color = tuple[int, int, int]

#: Colours of rendered walls, sRGB.
_PLASTER: tuple[Color, ...] = (
    (214, 202, 172), (206, 184, 138), (196, 160, 104), (200, 196, 186), (176, 174, 168), (188, 138, 110),
    (166, 104, 84), (178, 188, 160), (152, 168, 148), (168, 182, 194), (140, 156, 172), (212, 190, 166),
    (206, 172, 148), (150, 140, 128), (218, 212, 198), (186, 150, 84), (134, 122, 112), (198, 178, 178),
)  # fmt: skip
#: Colours of wooden houses, sRGB.
_BOARDS: tuple[Color, ...] = (
    (150, 74, 58), (196, 168, 98), (120, 134, 116), (188, 186, 176), (104, 122, 136), (142, 118, 92),
    (98, 90, 84), (170, 146, 116),
)  # fmt: skip
#: Colours of panels and metal sheets, sRGB.
_PANELS: tuple[Color, ...] = (
    (176, 174, 168), (140, 142, 144), (104, 106, 110), (188, 180, 160), (120, 134, 146), (150, 122, 100),
    (92, 112, 108), (166, 84, 66), (196, 194, 188),
)  # fmt: skip
#: Colours of shutters, awnings and balconies, sRGB.
VIVID: tuple[Color, ...] = (
    (64, 90, 74), (120, 52, 46), (52, 70, 104), (170, 132, 60), (92, 92, 90), (190, 184, 170), (78, 110, 126),
    (140, 84, 56), (110, 120, 70), (150, 66, 74),
)  # fmt: skip
_METAL: tuple[Color, ...] = ((70, 72, 74), (128, 130, 130), (96, 84, 72), (88, 112, 100), (160, 160, 158))

#: Groups of walls, their weights, and how they are adorned, by character.
_WALLS: dict[str, dict[str, float]] = {
    "historic": {"plaster": 0.68, "brick": 0.2, "stone": 0.12},
    "brick": {"brick": 1.0},
    "modern": {"plaster": 0.5, "panel": 0.15, "concrete": 0.2, "brick": 0.15},
    "office": {"panel": 0.35, "concrete": 0.3, "stone": 0.2, "brick": 0.15},
    "industrial": {"brick": 0.4, "panel": 0.3, "concrete": 0.2, "plaster": 0.1},
    "civic": {"stone": 0.5, "plaster": 0.3, "brick": 0.2},
    "cottage": {"plaster": 0.45, "siding": 0.35, "brick": 0.2},
}
_CHARACTERS: dict[str, dict[str, float]] = {
    "house": {"cottage": 1.0},
    "apartments": {"historic": 0.5, "modern": 0.3, "brick": 0.2},
    "shops": {"historic": 0.6, "modern": 0.17, "brick": 0.23},
    "office": {"office": 0.75, "historic": 0.25},
    "industrial": {"industrial": 1.0},
    "civic": {"civic": 1.0},
}


@dataclass(frozen=True)
class Style:
    """Materials and measures of a building's facades; metres.

    Attributes:
        character: ``historic``, ``brick``, ``modern``, ``office``, ``industrial``, ``civic``, ``cottage``.
        wall, ground, accent, plinth, yard, party: materials of the upper floors, the ground floor, of bands
            and surrounds, the base, the walls to the yard and those shared with neighbours.
        second: material of projecting or coloured parts of the upper floors.
        metal, wood: materials of railings and pipes, and of shutters.
        windows, wide_windows, doors, shopfronts, garages: pictures that this building uses.
        window_width, sill, head: of windows; the sill above the floor, the head below the ceiling.
        bay: distance of window columns.
        recess: of panes behind the wall.
        sill_depth: by which window sills protrude; 0: none.
        surround: ``none``, ``lintel``, ``frame``, ``hood`` or ``pediment``.
        cornice: by which the cornice under the eaves protrudes; 0: none.
        string_courses: floors over which there is a band: ``none``, ``ground`` or ``all``.
        plinth_height: of the base.
        quoins, rusticated, gablets, pilasters, shutters: whether there are corner stones, courses with deep
            joints on the ground floor, small gables over projecting parts, and the like.
        paired: chance that a column has two windows side by side.
        balconies, oriels, projections, loggias: chance that a facade has such parts.
        blinds: share of the windows with a lowered roller blind.
        lived_in: chance of boxes, vents and the like, for each place where they could be.
    """

    character: str
    wall: Material
    ground: Material
    accent: Material
    plinth: Material
    yard: Material
    party: Material
    second: Material
    metal: Material
    wood: Material
    windows: tuple[int, ...]
    wide_windows: tuple[int, ...]
    doors: tuple[int, ...]
    shopfronts: tuple[int, ...]
    garages: tuple[int, ...]
    window_width: float
    sill: float
    head: float
    bay: float
    recess: float
    sill_depth: float
    surround: str
    cornice: float
    string_courses: str
    plinth_height: float
    quoins: bool
    rusticated: bool
    gablets: bool
    pilasters: bool
    shutters: bool
    paired: float
    balconies: float
    oriels: float
    projections: float
    loggias: float
    blinds: float
    lived_in: float


def pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """One of the keys, by weight."""
    total = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        total -= weight
        if total < 0:
            return key
    return key


def one(rng: np.random.Generator, textures: TextureSet, group: str) -> int:
    """A picture of a group."""
    indices = textures.group(group)
    return indices[int(rng.integers(len(indices)))]


def some(rng: np.random.Generator, textures: TextureSet, group: str, count: int) -> tuple[int, ...]:
    """Up to `count` different pictures of a group."""
    indices = textures.group(group)
    return tuple(int(i) for i in rng.permutation(indices)[:count])


def alike(rng: np.random.Generator, textures: TextureSet, group: str, count: int) -> tuple[int, ...]:
    """Up to `count` pictures of a group whose borders, the frames, have about the same colour."""
    indices = np.array(textures.group(group))
    borders = np.array([textures.textures[i].pixels[::8, 3].mean(axis=0) for i in indices])
    first = int(rng.integers(len(indices)))
    distance = np.abs(borders - borders[first]).sum(axis=1) + rng.uniform(0, 25, len(indices))
    distance[first] = -1.0
    return tuple(int(i) for i in indices[np.argsort(distance)[:count]])


def colored(textures: TextureSet, texture: int, color: npt.ArrayLike) -> Material:
    """A picture tinted so that its mean becomes `color` (sRGB), as far as it is light enough."""
    pixels = textures.textures[texture].pixels
    mean = srgb_to_linear(pixels[::8, ::8].reshape(-1, 3) / 255).mean(axis=0)
    wanted = srgb_to_linear(np.clip(np.asarray(color), 0, 255) / 255)
    tint = 255 * wanted / np.maximum(mean, 0.02)
    tint = np.clip(tint * min(1.0, 255 / tint.max()), 8, 255)
    return Material(texture, _tint(tint))


def faded(color: npt.ArrayLike, share: float) -> npt.NDArray[np.float64]:
    """A colour with less saturation: a share of the grey of the same brightness."""
    color = np.asarray(color, np.float64)
    return color + share * (color.mean() - color)


def varied(rng: np.random.Generator, color: npt.ArrayLike, spread: float = 0.06) -> npt.NDArray[np.float64]:
    """A colour near another one."""
    brightness = np.exp(rng.normal(0, spread))
    return np.asarray(color) * brightness * np.exp(rng.normal(0, 0.4 * spread, 3))


def wall_material(rng: np.random.Generator, textures: TextureSet, group: str) -> Material:
    """A wall of a group, with a colour that such walls have."""
    texture = one(rng, textures, group)
    palettes = {"plaster": _PLASTER, "siding": _BOARDS, "panel": _PANELS}
    if group in palettes:
        palette = palettes[group]
        color = faded(palette[int(rng.integers(len(palette)))], rng.uniform(0.1, 0.4))
        return colored(textures, texture, varied(rng, color))
    tint = 236 * np.exp(rng.normal(-0.08, 0.12)) * np.exp(rng.normal(0, 0.035, 3))
    return Material(texture, _tint(np.clip(tint, 90, 255)))


def make_style(rng: np.random.Generator, textures: TextureSet, building: Building) -> Style:
    """Draw the style of a building."""
    character = pick(rng, _CHARACTERS.get(building.use, _CHARACTERS["apartments"]))
    group = pick(rng, _WALLS[character])
    wall = wall_material(rng, textures, group)
    uniform = rng.uniform
    old = character in ("historic", "civic")
    wide = character in ("office", "industrial", "modern")
    bay = {"office": uniform(2.4, 3.4), "industrial": uniform(3.6, 5.5), "modern": uniform(2.6, 3.8)}.get(
        character, uniform(2.0, 2.9)
    )
    share = uniform(0.55, 0.9) if character in ("office", "industrial") else uniform(0.4, 0.58)
    surrounds = {
        "historic": {"none": 0.1, "lintel": 0.15, "frame": 0.35, "hood": 0.22, "pediment": 0.18},
        "civic": {"frame": 0.4, "hood": 0.3, "pediment": 0.3},
        "brick": {"none": 0.25, "lintel": 0.6, "frame": 0.15},
        "cottage": {"none": 0.4, "frame": 0.45, "lintel": 0.15},
    }.get(character, {"none": 0.85, "frame": 0.15})
    chances = {
        "historic": (0.4, 0.3, 0.5, 0.0),
        "brick": (0.35, 0.25, 0.35, 0.12),
        "modern": (0.65, 0.12, 0.4, 0.35),
        "civic": (0.2, 0.0, 0.75, 0.0),
        "office": (0.05, 0.1, 0.4, 0.1),
    }.get(character, (0.1, 0.0, 0.15, 0.0))
    return Style(
        character=character,
        wall=wall,
        **_other_materials(rng, textures, character, group, wall),
        windows=alike(rng, textures, "window", int(rng.integers(2, 5))),
        wide_windows=alike(rng, textures, "window_wide", int(rng.integers(2, 4))),
        doors=some(rng, textures, "door", 3),
        shopfronts=some(rng, textures, "shopfront", 6),
        garages=some(rng, textures, "garage", 2),
        window_width=bay * share,
        sill=uniform(0.3, 0.9) if wide else uniform(0.6, 0.95),
        head=uniform(0.3, 0.55) if wide else uniform(0.35, 0.7),
        bay=bay,
        recess=uniform(0.12, 0.25),
        sill_depth=uniform(0.04, 0.14) if rng.random() < 0.85 else 0.0,
        surround=pick(rng, surrounds),
        cornice=uniform(0.12, 0.26) if old else (uniform(0.06, 0.18) if rng.random() < 0.5 else 0.0),
        string_courses=pick(
            rng,
            {"none": 0.12, "ground": 0.43, "all": 0.45}
            if old
            else {"none": 0.45, "ground": 0.35, "all": 0.2},
        ),
        plinth_height=uniform(0.3, 1.1) if rng.random() < 0.85 else 0.0,
        quoins=rng.random() < {"historic": 0.35, "civic": 0.5, "brick": 0.25}.get(character, 0.04),
        rusticated=rng.random() < {"historic": 0.4, "civic": 0.4}.get(character, 0.0),
        gablets=rng.random() < {"historic": 0.55, "brick": 0.5, "civic": 0.6}.get(character, 0.1),
        pilasters=rng.random()
        < {"historic": 0.15, "civic": 0.6, "office": 0.45, "industrial": 0.5}.get(character, 0),
        shutters=rng.random() < {"cottage": 0.4, "historic": 0.1}.get(character, 0),
        paired=float(rng.choice([0.0, 0.0, 0.25, 0.6])),
        balconies=chances[0],
        oriels=chances[1],
        projections=chances[2],
        loggias=chances[3],
        blinds=float(rng.choice([0.0, 0.0, 0.08, 0.25])),
        lived_in=uniform(0.03, 0.25),
    )


def _other_materials(
    rng: np.random.Generator, textures: TextureSet, character: str, group: str, wall: Material
) -> dict[str, Material]:
    """Everything that goes with a wall."""
    accent_group = pick(rng, {"plaster": 0.6, "stone": 0.25, "concrete": 0.15})
    light = rng.random() < 0.8
    shade = rng.uniform(180, 216) if light else rng.uniform(100, 150)
    accent = colored(
        textures, one(rng, textures, accent_group), varied(rng, (shade, 0.97 * shade, 0.9 * shade))
    )
    ground = wall
    if rng.random() < (0.6 if character in ("historic", "civic", "brick") else 0.35):
        other = pick(rng, {"plaster": 0.4, "stone": 0.45, "concrete": 0.15})
        ground = wall_material(rng, textures, other)
    yard = wall if rng.random() < 0.55 or group == "siding" else wall_material(rng, textures, "plaster")
    party = wall_material(rng, textures, pick(rng, {"plaster": 0.55, "brick": 0.45}))
    second = wall.shaded(rng.uniform(0.75, 0.95))
    if rng.random() < 0.5:
        second = wall_material(
            rng, textures, "plaster" if group != "plaster" or rng.random() < 0.7 else "brick"
        )
    metal_color = _METAL[int(rng.integers(len(_METAL)))]
    vivid = faded(VIVID[int(rng.integers(len(VIVID)))], rng.uniform(0.25, 0.6))
    plinth = pick(rng, {"stone": 0.5, "concrete": 0.25, "plaster": 0.25})
    plinth_shade = rng.uniform(84, 140)
    return {
        "ground": ground,
        "accent": accent,
        "plinth": colored(
            textures,
            one(rng, textures, plinth),
            varied(rng, (plinth_shade, 0.98 * plinth_shade, 0.94 * plinth_shade)),
        ),
        "yard": yard.shaded(0.93),
        "party": party.shaded(0.9),
        "second": second,
        "metal": colored(textures, one(rng, textures, "metal"), varied(rng, metal_color)),
        "wood": colored(textures, one(rng, textures, "wood"), varied(rng, vivid, 0.12)),
    }


def _tint(values: npt.NDArray[np.floating]) -> Tint:
    r, g, b = (int(value) for value in np.round(values))
    return r, g, b
