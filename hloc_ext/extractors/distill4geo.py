"""Distill4Geo: panoramas and satellite tiles described by two small networks, or by their teacher."""

from __future__ import annotations

from typing import ClassVar

from .cross_view import CrossViewDescriptor
from .cross_view_weights import SHARED, STUDENTS


class Distill4Geo(CrossViewDescriptor):
    """Students of Distill4Geo, or a shared encoder (Sample4Geo); see :class:`CrossViewDescriptor`."""

    kinds: ClassVar[tuple[str, ...]] = (STUDENTS, SHARED)
