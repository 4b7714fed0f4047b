"""Hypothesis strategies shared by the tests of the formats."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

#: Deterministic, and without a time limit: the machines of the tests are shared.
examples = settings(deadline=None, derandomize=True, database=None, max_examples=60)

_PART = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zs", "Zl", "Zp"), exclude_characters='/\\"'),
    min_size=1,
    max_size=12,
).filter(lambda part: part not in (".", "..") and not part.startswith("#"))

#: Image names: nested, non-ASCII, without white space.
image_names = st.lists(_PART, min_size=1, max_size=4).map("/".join)

#: Finite doubles of any magnitude that occurs in a model.
coordinates = st.floats(-1e9, 1e9, allow_nan=False, allow_subnormal=False)


@st.composite
def unit_quaternions(draw: st.DrawFn) -> np.ndarray:
    """Four numbers of length 1, sign and order arbitrary."""
    component = st.floats(-1, 1, allow_nan=False)
    values = np.array(draw(st.tuples(*[component] * 4).filter(lambda v: np.linalg.norm(v) > 1e-3)))
    return values / np.linalg.norm(values)
