"""What all evaluations of retrieval are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.matchers.options import Options


@dataclass
class RetrievalOptions(Options):
    """Inputs and outputs.

    Attributes:
        scenes: folders of city scenes; where there are none, scenes of `seeds` are rendered.
        seeds: of the cities, none of which a method was trained on.
        views: of each rendered city.
        models: folder of an existing COLMAP model by name of a data set, instead of making one.
        ks: numbers of images with which queries are localized.
        features, matcher: configurations with which they are localized.
    """

    scenes: Sequence[Path] = ()
    seeds: Sequence[int] = (901, 902)
    views: int = 140
    models: Mapping[str, Path] = field(default_factory=dict)
    ks: Sequence[int] = (1, 5, 10, 20)
    features: str = "sift-colmap"
    matcher: str = "NN-ratio"
