"""Random cameras in the streets of a city."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hloc_ext.city.render import Renderer
from hloc_ext.city.walk import Viewpoint


def moved(view: Viewpoint, right: float, ahead: float, turn: float) -> Viewpoint:
    """Camera that has gone to the right and ahead (metres), and turned to the right (degrees)."""
    angle = np.radians(view.heading)
    x, y, z = view.position
    x += right * np.cos(angle) + ahead * np.sin(angle)
    y += -right * np.sin(angle) + ahead * np.cos(angle)
    return replace(view, position=(float(x), float(y), z), heading=view.heading + turn)


def random_viewpoints(renderer: Renderer, count: int, seed: int) -> list[Viewpoint]:
    """Cameras at eye height on sidewalks and roads, looking along the street or at its houses.

    Nothing is nearer than 3 m in front of them.
    """
    rng = np.random.default_rng([seed, 4711])
    plan = renderer.city.plan
    min_x, min_y, max_x, max_y = plan.bounds
    lengths = [np.linalg.norm(np.diff(s.centreline, axis=0), axis=1).sum() for s in plan.streets]
    share = np.array(lengths) / sum(lengths)
    found: list[Viewpoint] = []
    while len(found) < count:
        street = plan.streets[rng.choice(len(share), p=share)]
        i = rng.integers(len(street.centreline) - 1)
        start, end = street.centreline[i], street.centreline[i + 1]
        along = (end - start) / max(np.linalg.norm(end - start), 1e-9)
        offset = rng.uniform(-1, 1) * (street.width / 2 + 0.7 * street.sidewalk)
        x, y = start + rng.uniform() * (end - start) + offset * np.array([-along[1], along[0]])
        if not (min_x + 30 < x < max_x - 30 and min_y + 30 < y < max_y - 30):
            continue
        heading = np.degrees(np.arctan2(along[0], along[1])) + rng.choice([0, 180]) + rng.normal(0, 35)
        view = Viewpoint((float(x), float(y), 1.6), float(heading % 360))
        angles = np.radians(heading + np.arange(-35, 36, 5))
        directions = np.stack([np.sin(angles), np.cos(angles), np.zeros_like(angles)], axis=1)
        if renderer.distance(np.tile(view.position, (len(angles), 1)), directions).min() > 3:
            found.append(view)
    return found
