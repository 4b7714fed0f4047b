"""SSA: panoramas and satellite tiles described by one network, which also draws bird's-eye views."""

from __future__ import annotations

from typing import Any, ClassVar

from .cross_view import CrossViewDescriptor
from .cross_view_weights import SSA as KIND


class SSA(CrossViewDescriptor):
    """The retrieval branch of SSA; see :class:`CrossViewDescriptor`."""

    default_conf: ClassVar[dict[str, Any]] = {**CrossViewDescriptor.default_conf, "weights": "ssa"}
    kinds: ClassVar[tuple[str, ...]] = (KIND,)
