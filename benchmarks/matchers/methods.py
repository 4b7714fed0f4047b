"""Every method of the comparison, by name: a callable from two grey images to matches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hloc_ext.errors import HlocExtError, InputError
from hloc_ext.gis.registration.features import Matches

if TYPE_CHECKING:
    from torch import nn

Match = Callable[[np.ndarray, np.ndarray], Matches]


#: A method of any benchmark.
Loaded = TypeVar("Loaded")


class UnavailableError(HlocExtError):
    """A method cannot run here; the message says why."""


@dataclass(frozen=True)
class Method:
    """A matcher.

    Attributes:
        name: as on the command line.
        match: ``match(image0, image1)`` of H×W uint8 images.
        trained: False for a network with random weights, which has a cost but no accuracy.
        similarity: estimates a similarity transform; it cannot take part where there is none.
        network: what parameters are counted of; None for a method that is not learned.
        note: printed below every table.
        pipeline: configurations of features (empty for a semi-dense matcher) and matcher with which
            ``pipelines.aachen`` runs it.
    """

    name: str
    match: Match
    trained: bool = True
    similarity: bool = False
    network: nn.Module | None = None
    note: str = ""
    pipeline: tuple[tuple[str, str], ...] = ()


def _sift() -> Method:
    from hloc_ext.gis.registration.features import match_sift

    note = "RootSIFT of OpenCV, contrast threshold of COLMAP, ratio 0.8, mutual; in pipelines COLMAP's"
    return Method("sift", match_sift, note=note, pipeline=(("sift", "NN-ratio"), ("sift-colmap", "NN-ratio")))


def _orb() -> Method:
    from hloc_ext.gis.registration.features import match_orb

    return Method("orb", match_orb, note="OpenCV, 5000 features, Hamming distance, ratio 0.8, mutual")


def _akaze() -> Method:
    from hloc_ext.gis.registration.features import match_akaze

    return Method("akaze", match_akaze, note="OpenCV's defaults, Hamming distance, ratio 0.8, mutual")


def _dense_sift() -> Method:
    from hloc_ext.gis.registration.features import match_dense_sift

    note = "upright RootSIFT on a grid of 10 px, sizes 12 and 24 px, ratio 0.9, mutual"
    return Method("dense-sift", match_dense_sift, note=note)


def _gradient_search() -> Method:
    from hloc_ext.gis.registration.gradient_search import DEFAULT
    from hloc_ext.gis.registration.matching import match_gradients

    note = (
        f"correlation of gradient fields at {DEFAULT.size} px, every {DEFAULT.rotation_step:g}°, scales from"
        f" 0.48 to 2.08 in steps of {100 * (DEFAULT.scale_step - 1):.0f} %, all shifts; the best"
        f" {DEFAULT.kept[0]} peaks are refined and compared at"
        f" {', '.join(str(size) for size in DEFAULT.levels)} px"
    )
    return Method("gradient-search", match_gradients, similarity=True, note=note)


def _loftr() -> Method:
    from .learned import load_loftr

    return load_loftr()


def _xfeat(name: str) -> Callable[[], Method]:
    def load_it() -> Method:
        from .learned import load_xfeat

        return load_xfeat(name)

    return load_it


def _disk() -> Method:
    from .learned import load_disk

    return load_disk()


#: Name → loader. A loader raises :class:`UnavailableError` where the method cannot run.
METHODS: dict[str, Callable[[], Method]] = {
    "sift": _sift,
    "orb": _orb,
    "akaze": _akaze,
    "dense-sift": _dense_sift,
    "gradient-search": _gradient_search,
    "loftr": _loftr,
    "xfeat": _xfeat("xfeat"),
    "xfeat+lightglue": _xfeat("xfeat+lightglue"),
    "disk+lightglue": _disk,
}
#: Ours; each may have a file of weights.
KD_MAMBA = ("kd-mamba", "kd-mamba-nano", "kd-mamba-rot", "kd-mamba-teacher")
NAMES = (*METHODS, *KD_MAMBA)


def load(
    names: Sequence[str], weights: Mapping[str, Path] | None = None
) -> tuple[list[Method], dict[str, str]]:
    """Load methods of :data:`NAMES`, or keys of `weights`; see :func:`load_methods`."""
    return load_methods(names, weights or {}, METHODS, KD_MAMBA, _load_kd_mamba)


def load_methods(
    names: Sequence[str],
    weights: Mapping[str, Path],
    loaders: Mapping[str, Callable[[], Loaded]],
    trained: tuple[str, ...],
    load_trained: Callable[[str, Path | None], Loaded],
) -> tuple[list[Loaded], dict[str, str]]:
    """Load methods.

    Args:
        names: of `loaders` or `trained`, or keys of `weights`.
        weights: file of weights by name of a method: one of `trained`, or such a name and a suffix.
        loaders: by name; one raises :class:`UnavailableError` where its method cannot run.
        trained: names of the methods with weights of ours.
        load_trained: loads one of them, with a file of weights or those of the package.

    Returns:
        The methods that run here, in the order asked for, and why the others do not, by name.

    Raises:
        InputError: unknown name.
    """
    known = (*loaders, *trained)
    wrong = [name for name in names if name not in known and name not in weights]
    wrong += [name for name in weights if not name.startswith(trained)]
    if wrong:
        raise InputError(f"No method {wrong}: choose from {known}; weights are for {trained}.")
    methods, unavailable = [], {}
    for name in names:
        try:
            methods.append(loaders[name]() if name in loaders else load_trained(name, weights.get(name)))
        except UnavailableError as error:
            unavailable[name] = str(error)
    return methods, unavailable


def _load_kd_mamba(name: str, weights: Path | None) -> Method:
    from .learned import load_kd_mamba

    return load_kd_mamba(name, weights)


def timed(method: Method, image0: np.ndarray, image1: np.ndarray) -> tuple[Matches, float]:
    """Matches of two images, and the seconds that they took."""
    start = time.perf_counter()
    matches = method.match(image0, image1)
    return matches, time.perf_counter() - start
