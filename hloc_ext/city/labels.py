"""Classes of what is seen. 0 to 5 are those of the aerial training masks (road, sidewalk, building, …)."""

from __future__ import annotations

from enum import IntEnum


class Label(IntEnum):
    """Class of a pixel or a triangle; the values are those of the 8-bit masks."""

    OTHER = 0
    ROAD = 1
    SIDEWALK = 2
    BUILDING = 3
    VEGETATION = 4
    WATER = 5
    CROSSING = 6
    SKY = 7
    VEHICLE = 8
    PERSON = 9
    POLE = 10


#: What stands elsewhere the next time: not part of the static scene.
MOVING = (Label.VEHICLE, Label.PERSON)

#: Colours of the classes in pictures, RGB.
COLORS: dict[Label, tuple[int, int, int]] = {
    Label.OTHER: (150, 140, 125),
    Label.ROAD: (96, 96, 96),
    Label.SIDEWALK: (192, 192, 192),
    Label.BUILDING: (255, 178, 102),
    Label.VEGETATION: (102, 190, 90),
    Label.WATER: (110, 170, 230),
    Label.CROSSING: (245, 245, 245),
    Label.SKY: (190, 220, 250),
    Label.VEHICLE: (200, 60, 60),
    Label.PERSON: (220, 20, 200),
    Label.POLE: (60, 60, 120),
}
