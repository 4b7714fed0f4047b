"""Pictures of materials, openings and signs, painted by seed; nothing is taken from a photograph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .paint import ground, openings, plain, roofs, shops, signs, sky, walls
from .paint.noise import Picture

#: Groups of pictures: what they show. Of each there are several.
GROUPS: dict[str, str] = {
    # Walls; these repeat and, where not said otherwise, cover 2 to 5 metres.
    "brick": "bonded bricks of one colour scheme",
    "plaster": "rendered wall, light enough to be tinted",
    "stone": "ashlar or rubble",
    "concrete": "exposed concrete with form joints",
    "panel": "prefabricated or metal panels",
    "siding": "horizontal boards, light enough to be tinted",
    # Roofs; repeat, v down the slope.
    "roof_tile": "clay or concrete tiles",
    "bitumen": "felt sheets",
    "gravel": "gravel on a flat roof",
    "metal_roof": "sheets with standing seams",
    # Ground; repeat.
    "asphalt": "roads",
    "paving": "slabs or bricks of sidewalks",
    "cobble": "cobblestones",
    "grass": "lawn",
    "soil": "earth, sand, gravel path",
    "kerb": "kerb stones, along u",
    "water": "ponds",
    # Openings; the whole picture is one opening with its frame, stretched to fit.
    "window": "flat or house window, about 1.2 m x 1.7 m",
    "window_wide": "office or modern window, about 2.4 m x 1.7 m",
    "door": "entrance, about 1.2 m x 2.3 m",
    "shopfront": "shop window with door, about 4 m x 3 m",
    "garage": "garage door or gate, about 2.6 m x 2.4 m",
    # Flat things; the whole picture once.
    "sign": "shop sign with glyphs, about 4 m x 0.6 m",
    "poster": "poster or advertisement, about 1.2 m x 1.8 m",
    "graffiti": "painted wall piece, about 3 m x 1.5 m, on a light ground",
    "traffic_sign": "round, triangular or square sign in a square picture",
    "marking": "worn white road paint; repeats, 1 m",
    "manhole": "cast-iron cover in a square picture",
    "patch": "repaired asphalt; repeats, 4 m",
    # Plain materials; repeat, light enough to be tinted unless they have a colour of their own.
    "bark": "tree trunks",
    "leaves": "foliage seen from close, 1 m",
    "wood": "planks",
    "metal": "painted or galvanized metal",
    "car_paint": "body of a car",
    "glass": "dark window glass of cars and roofs",
    "rubber": "tyres",
    "cloth": "clothes",
    "skin": "faces and hands",
    "lamp_glass": "lamp, bright",
}


@dataclass(frozen=True)
class Texture:
    """One picture.

    Attributes:
        group: what it shows, a key of :data:`GROUPS`.
        pixels: (H, W, 3) uint8, sRGB, H and W powers of two.
        size: metres that the picture covers, (width, height); nominal for those that are stretched.
        repeat: whether it tiles without seams; otherwise it is clamped at its border.
        weathering: how strongly the renderer lays stains, cracks and dust over it, 0 to 1.
        gloss: how strongly it mirrors the sky, 0 (matt) to 1 (glass).
    """

    group: str
    pixels: npt.NDArray[np.uint8]
    size: tuple[float, float]
    repeat: bool
    weathering: float = 1.0
    gloss: float = 0.0


@dataclass
class TextureSet:
    """All pictures of a city.

    Attributes:
        textures: the pictures; their index is what meshes refer to.
        weathering: (2048, 2048) uint8, tileable; 128 leaves a surface unchanged, less darkens it.
        clouds: (1024, 1024) uint8, tileable cover of the sky, 0 blue to 255 cloud.
    """

    textures: list[Texture] = field(default_factory=list)
    weathering: npt.NDArray[np.uint8] = field(default_factory=lambda: np.full((2048, 2048), 128, np.uint8))
    clouds: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros((1024, 1024), np.uint8))

    @cached_property
    def _groups(self) -> dict[str, list[int]]:
        groups: dict[str, list[int]] = {}
        for index, texture in enumerate(self.textures):
            groups.setdefault(texture.group, []).append(index)
        return groups

    def group(self, name: str) -> list[int]:
        """Indices of the pictures of a group, at least one.

        Raises:
            KeyError: there is none.
        """
        if name not in self._groups:
            raise KeyError(f"no texture of the group '{name}'")
        return self._groups[name]

    def size(self, index: int) -> tuple[float, float]:
        """Metres that a picture covers, (width, height)."""
        return self.textures[index].size

    def sizes(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Metres that pictures cover, (N, 2)."""
        return np.array([texture.size for texture in self.textures])[np.asarray(indices)]


class _Recipe(NamedTuple):
    """How the pictures of a group are made, and how they are shown."""

    paint: Callable[[np.random.Generator, int], Picture]
    number: int
    repeat: bool
    weathering: float
    gloss: float = 0.0


_RECIPES: dict[str, _Recipe] = {
    "brick": _Recipe(walls.brick, 6, True, 0.7),
    "plaster": _Recipe(walls.plaster, 6, True, 0.65),
    "stone": _Recipe(walls.stone, 4, True, 0.7),
    "concrete": _Recipe(walls.concrete, 3, True, 0.8),
    "panel": _Recipe(walls.panel, 3, True, 0.6),
    "siding": _Recipe(walls.siding, 2, True, 0.6),
    "roof_tile": _Recipe(roofs.roof_tile, 4, True, 0.8),
    "bitumen": _Recipe(roofs.bitumen, 2, True, 1.0),
    "gravel": _Recipe(roofs.gravel, 2, True, 1.0),
    "metal_roof": _Recipe(roofs.metal_roof, 2, True, 0.8, 0.15),
    "asphalt": _Recipe(ground.asphalt, 3, True, 1.0),
    "paving": _Recipe(ground.paving, 5, True, 0.8),
    "cobble": _Recipe(ground.cobble, 2, True, 0.7),
    "grass": _Recipe(ground.grass, 3, True, 1.0),
    "soil": _Recipe(ground.soil, 3, True, 1.0),
    "kerb": _Recipe(ground.kerb, 1, True, 1.0),
    "water": _Recipe(ground.water, 1, True, 0.3, 1.0),
    "window": _Recipe(openings.window, 40, False, 0.25, 0.7),
    "window_wide": _Recipe(openings.window_wide, 12, False, 0.25, 0.7),
    "door": _Recipe(openings.door, 12, False, 0.5, 0.1),
    "shopfront": _Recipe(shops.shopfront, 24, False, 0.25, 0.5),
    "garage": _Recipe(openings.garage, 4, False, 0.7),
    "sign": _Recipe(signs.sign, 96, False, 0.4, 0.05),
    "poster": _Recipe(signs.poster, 48, False, 0.3, 0.05),
    "graffiti": _Recipe(signs.graffiti, 8, False, 0.8),
    "traffic_sign": _Recipe(signs.traffic_sign, 24, False, 0.2, 0.05),
    "marking": _Recipe(ground.marking, 3, True, 0.8),
    "manhole": _Recipe(ground.manhole, 3, False, 0.5, 0.05),
    "patch": _Recipe(ground.patch, 4, True, 0.9),
    "bark": _Recipe(plain.bark, 2, True, 0.6),
    "leaves": _Recipe(plain.leaves, 6, True, 0.3),
    "wood": _Recipe(plain.wood, 2, True, 0.6),
    "metal": _Recipe(plain.metal, 3, True, 0.5, 0.15),
    "car_paint": _Recipe(plain.car_paint, 1, True, 0.25, 0.5),
    "glass": _Recipe(plain.glass, 1, True, 0.2, 1.0),
    "rubber": _Recipe(plain.rubber, 1, True, 0.3),
    "cloth": _Recipe(plain.cloth, 6, True, 0.1),
    "skin": _Recipe(plain.skin, 2, True, 0.0),
    "lamp_glass": _Recipe(plain.lamp_glass, 1, True, 0.0, 0.3),
}


def make_texture(group: str, index: int, seed: int) -> Texture:
    """Paint one picture.

    Args:
        group: a key of :data:`GROUPS`.
        index: 0, 1, … within the group; it also chooses the kind (bond, curtain, outline, …).
        seed: of all that is random.
    """
    recipe = _RECIPES[group]
    rng = np.random.default_rng([seed, list(_RECIPES).index(group), index])
    picture = recipe.paint(rng, index)
    return Texture(group, picture.pixels, picture.size, recipe.repeat, recipe.weathering, recipe.gloss)


def make_textures(seed: int, num_signs: int = 96) -> TextureSet:
    """Paint all pictures of a city; the same arguments make the same pictures.

    Args:
        seed: of all that is random.
        num_signs: number of shop signs, all different.

    Returns:
        Pictures of every group in :data:`GROUPS`, about 105 MB.
    """
    counts = {group: recipe.number for group, recipe in _RECIPES.items()} | {"sign": num_signs}
    textures = [make_texture(group, index, seed) for group, count in counts.items() for index in range(count)]
    layers = np.random.default_rng([seed, len(_RECIPES)])
    return TextureSet(textures, sky.weathering(layers), sky.clouds(layers))
