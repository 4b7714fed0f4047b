"""A city of a few blocks with flat colours, made in no time: what the renderer's tests look at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from hloc_ext.city.labels import Label
from hloc_ext.city.mesh import FIT, Mesh, MeshBuilder
from hloc_ext.city.scene import City
from hloc_ext.city.textures import Texture, TextureSet

WHITE, CHECKERS, GLASS, LEAVES = range(4)
#: (min x, min y, max x, max y, height) of the boxes.
BOXES = [(10.0, 20.0, 20.0, 30.0, 12.0), (-30.0, -10.0, -20.0, 10.0, 6.0)]
LAMP = (5.0, -20.0, 6.0)


def _textures() -> TextureSet:
    white = np.full((4, 4, 3), 200, np.uint8)
    dark = np.indices((64, 64)).sum(axis=0) % 2 == 0
    checkers = np.where(dark, 20, 240).astype(np.uint8)[..., None].repeat(3, axis=2)
    return TextureSet(
        [
            Texture("plaster", white, (4.0, 4.0), True, weathering=0.0),
            Texture("paving", checkers, (64.0, 64.0), True, weathering=0.0),
            Texture("glass", white // 10, (1.0, 1.0), True, weathering=0.0, gloss=1.0),
            Texture("leaves", white // 2, (1.0, 1.0), True, weathering=0.0),
        ]
    )


def box(min_x: float, min_y: float, max_x: float, max_y: float, height: float, **options: Any) -> Mesh:
    """Walls and roof of a box; `options` as in ``MeshBuilder.add_quads``."""
    corners = [(min_x, min_y), (max_x, min_y), (max_x, max_y), (min_x, max_y)]
    walls = [
        [(*a, height), (*b, height), (*b, 0.0), (*a, 0.0)]
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
    ]
    options = {"texture": WHITE, "label": Label.BUILDING} | options
    builder = MeshBuilder()
    builder.add_quads([*walls, [(*corner, height) for corner in corners]], FIT, **options)
    return builder.build()


def two_blocks() -> City:
    """Two boxes on a chequered ground (squares of 1 m), one lamp."""
    builder = MeshBuilder()
    ground = [(-100, 100, 0), (100, 100, 0), (100, -100, 0), (-100, -100, 0)]
    builder.add_quads([ground], FIT * 200 / 64, CHECKERS, Label.ROAD)
    for number, size in enumerate(BOXES):
        builder.add_mesh(box(*size, object_id=number + 1))
    plan = cast(Any, SimpleNamespace(bounds=(-100.0, -100.0, 100.0, 100.0)))
    return City(plan, _textures(), builder.build(), np.array([LAMP]))
