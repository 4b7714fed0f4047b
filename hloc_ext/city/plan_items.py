"""Trees and street furniture."""

from __future__ import annotations

import numpy as np

from .plan_blocks import Block
from .plan_parts import CityPlan, Item
from .plan_streets import Network


def make_items(plan: CityPlan, network: Network, blocks: list[Block], halts: np.ndarray, rng: np.random.Generator) -> list[Item]:
    """Place items."""
    return []
