"""What closes the view at the end of the streets: trees round the city."""

from __future__ import annotations

import numpy as np

from ..mesh import Mesh
from ..plan import CityPlan, Item
from ..textures import TextureSet
from .vegetation import trees_mesh

#: The object ids of these trees begin here.
FIRST_WOOD_ID = 900_000
#: Rows of trees: metres from the bounds of the city, and between trees.
_ROWS = ((35.0, 7.0), (60.0, 8.0), (95.0, 10.0))


def woods_mesh(plan: CityPlan, textures: TextureSet, seed: int) -> Mesh:
    """Rows of trees outside of the bounds of a plan, where nothing is mapped."""
    rng = np.random.default_rng([seed, 61])
    min_x, min_y, max_x, max_y = plan.bounds
    items = []
    for distance, spacing in _ROWS:
        width, height = max_x - min_x + 2 * distance, max_y - min_y + 2 * distance
        along = np.arange(0, 2 * (width + height), spacing)
        along = along + rng.uniform(-0.4, 0.4, len(along)) * spacing
        x = np.interp(along, np.cumsum([0, width, height, width, height]), [0, width, width, 0, 0])
        y = np.interp(along, np.cumsum([0, width, height, width, height]), [0, 0, height, height, 0])
        x, y = x + min_x - distance, y + min_y - distance
        x, y = x + rng.normal(0, 4, len(x)), y + rng.normal(0, 4, len(y))
        size = rng.uniform(0.07, 0.14, len(x)) * (90 + 0.6 * distance)
        items += [
            Item("tree", float(tree_x), float(tree_y), 0.0, float(height))
            for tree_x, tree_y, height in zip(x, y, size, strict=True)
        ]
    return trees_mesh(items, np.arange(len(items)) + FIRST_WOOD_ID, textures, seed, detail=0.2)
