"""People who walk or stand: a skeleton in a pose, clothed with tubes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..labels import Label
from ..textures import TextureSet
from .solids import Modeller, Prototype

#: Colour slots: skin, upper clothes, lower clothes, hair, shoes and bag.
SLOTS = ("skin", "top", "trousers", "hair", "shoes")

_SKINS = np.array([(255, 255, 255), (255, 240, 230), (235, 218, 205), (210, 195, 180)], float)
_HAIRS = np.array([(40, 32, 26), (85, 60, 40), (150, 115, 70), (200, 170, 110), (150, 150, 150)], float)
_TOPS = np.array(
    [
        (40, 42, 48),
        (230, 230, 228),
        (45, 60, 100),
        (150, 45, 40),
        (90, 100, 70),
        (200, 180, 140),
        (120, 125, 130),
        (230, 190, 60),
        (70, 120, 130),
        (180, 110, 130),
    ],
    float,
)
_TROUSERS = np.array([(45, 55, 85), (30, 30, 34), (110, 100, 80), (75, 78, 82), (70, 85, 120)], float)
_SHOES = np.array([(35, 30, 28), (90, 60, 40), (225, 225, 222), (60, 62, 70)], float)


def people_colors(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """Colours of the slots of so many people, (count, 5, 3)."""
    palettes = (_SKINS, _TOPS, _TROUSERS, _HAIRS, _SHOES)
    shades = [palette[rng.integers(0, len(palette), count)] for palette in palettes]
    return np.clip(np.stack(shades, axis=1) * rng.uniform(0.75, 1.1, (count, len(palettes), 1)), 0, 255)


def make_person(textures: TextureSet, rng: np.random.Generator) -> Prototype:
    """A person 1 m high (to be scaled) on z = 0, walking towards +x or standing."""
    return _PersonMaker(textures, rng).make()


class _PersonMaker:
    """Lengths are shares of the height."""

    def __init__(self, textures: TextureSet, rng: np.random.Generator) -> None:
        self._rng = rng
        self._model = Modeller(textures, Label.PERSON, 1.7)
        self._cloth = [int(i) for i in rng.choice(textures.group("cloth"), 2)]
        self._skin = int(rng.choice(textures.group("skin")))
        self._leather = int(rng.choice(textures.group("cloth")))
        self._stride = 0.0 if rng.random() < 0.25 else float(rng.uniform(0.25, 0.5) * rng.choice([-1, 1]))

    def make(self) -> Prototype:
        """The person."""
        skirt = self._rng.random() < 0.18
        for side in (-1, 1):
            self._leg(side, bare=skirt)
            self._arm(side)
        self._torso(skirt)
        self._head()
        if self._rng.random() < 0.45:
            self._bag()
        return self._model.build().standing()

    def _part(self, slot: str) -> None:
        self._model.slot = SLOTS.index(slot) + 1

    def _leg(self, side: int, bare: bool) -> None:
        """Thigh and shank; the leg behind is bent at the knee."""
        swing = self._stride * side
        hip = np.array([0.0, side * 0.052, 0.50])
        knee = hip + 0.245 * np.array([np.sin(swing), 0.0, -np.cos(swing)])
        lower = swing - (0.12 if swing >= 0 else 0.55 * abs(self._stride) + 0.1)
        ankle = knee + 0.225 * np.array([np.sin(lower), 0.0, -np.cos(lower)])
        self._part("skin" if bare else "trousers")
        texture = self._skin if bare else self._cloth[1]
        joints, radii = [hip, 0.5 * (hip + knee), knee, ankle], [0.062, 0.052, 0.041, 0.030]
        self._model.tube(joints, radii, 5, texture, caps=False)
        self._part("shoes")
        pitch = 0.0 if lower > -0.2 else -0.6
        heel, toe = ankle - np.array([0.035, 0, 0.012]), ankle + np.array([0.105, 0, 0.14 * pitch - 0.012])
        self._model.tube([heel, toe], [0.030, 0.022], 4, self._leather)

    def _arm(self, side: int) -> None:
        swing = -0.8 * self._stride * side + self._rng.normal(0, 0.05)
        shoulder = np.array([0.0, side * 0.108, 0.805])
        elbow = shoulder + 0.165 * np.array([np.sin(swing), 0.12 * side, -np.cos(swing)])
        lower = swing + self._rng.uniform(0.15, 0.6)
        hand = elbow + 0.15 * np.array([np.sin(lower), -0.05 * side, -np.cos(lower)])
        self._part("top")
        self._model.tube([shoulder, elbow, hand], [0.038, 0.030, 0.022], 5, self._cloth[0], caps=False)
        self._part("skin")
        tip = hand + (hand - elbow) * 0.35
        self._model.tube([hand, tip], [0.020, 0.014], 4, self._skin)

    def _torso(self, skirt: bool) -> None:
        """Elliptic rings from the hips to the neck; jackets end lower than shirts."""
        hem = self._rng.choice([0.46, 0.50, 0.38], p=[0.45, 0.4, 0.15])
        levels = [
            (hem, 0.090, 0.070),
            (0.53, 0.092, 0.070),
            (0.62, 0.080, 0.060),
            (0.74, 0.102, 0.072),
            (0.80, 0.112, 0.065),
            (0.835, 0.075, 0.050),
            (0.85, 0.034, 0.034),
        ]
        self._part("top")
        self._rings(levels, self._cloth[0])
        if skirt:
            self._part("trousers")
            self._rings([(0.30, 0.125, 0.105), (0.42, 0.105, 0.085), (0.56, 0.086, 0.064)], self._cloth[1])

    def _rings(self, levels: list[tuple[float, float, float]], texture: int) -> None:
        angle = np.arange(7) * 2 * np.pi / 7 + np.pi / 7
        rings = [[(b * np.cos(t), a * np.sin(t), z) for t in angle] for z, a, b in levels]
        self._model.loft(rings, texture)

    def _head(self) -> None:
        self._part("skin")
        self._model.tube([(0.0, 0, 0.83), (0.008, 0, 0.89)], 0.032, 6, self._skin, caps=False)
        self._model.ball((0.012, 0, 0.932), (0.052, 0.043, 0.068), self._skin, sides=7, rings=4)
        self._part("hair")
        hair = self._cloth[0]
        self._model.ball((-0.006, 0, 0.95), (0.052, 0.049, 0.056), hair, sides=6, rings=3)
        if self._rng.random() < 0.35:
            self._model.ball((-0.03, 0, 0.89), (0.03, 0.045, 0.07), hair, sides=6, rings=3)

    def _bag(self) -> None:
        """A rucksack, or a bag at one side."""
        self._part("shoes")
        if self._rng.random() < 0.5:
            self._model.box((-0.15, -0.07, 0.58), (-0.06, 0.07, 0.81), self._cloth[1], 255, bottom=True)
        else:
            self._model.box((-0.08, 0.12, 0.42), (0.08, 0.165, 0.54), self._leather, 255, bottom=True)
            self._model.tube([(0, 0.142, 0.54), (0, 0.10, 0.83)], 0.007, 3, self._leather, caps=False)
