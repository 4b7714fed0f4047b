"""Every method of the comparison, by name: a function from photos to global descriptors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.matchers.methods import load_methods
from hloc_ext.datasets.sfm_scene import SfmScene
from hloc_ext.formats.images import read_image

if TYPE_CHECKING:
    from torch import nn

Descriptors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Photos:
    """Images to describe.

    Attributes:
        folder: of the images.
        names: relative to it.
        scene: model with the poses of all of them, which the teacher needs; or None.
    """

    folder: Path
    names: Sequence[str]
    scene: SfmScene | None = None

    @property
    def paths(self) -> list[Path]:
        """Their files."""
        return [self.folder / name for name in self.names]


@dataclass(frozen=True)
class Method:
    """A global descriptor.

    Attributes:
        name: as on the command line.
        describe: (N, D) float32 of N photos; compared by dot products.
        network: what parameters are counted of; None for a method that is not learned.
        weights: what the network's weights are, in the table of costs.
        needs_model: takes part only where the poses of all photos, queries too, are known.
        note: printed below every table.
    """

    name: str
    describe: Callable[[Photos], Descriptors]
    network: nn.Module | None = None
    weights: str | None = None
    needs_model: bool = False
    note: str = ""


def _tiny_image() -> Method:
    from .classical import TINY_SIZE, tiny_image

    note = f"{TINY_SIZE}×{TINY_SIZE} grey pixels, mean 0 (Torralba et al., PAMI 2008)"
    return Method("tiny-image", _of_grey(tiny_image), note=note)


def _hog() -> Method:
    from . import classical

    note = (
        f"{classical.HOG_SIZE}×{classical.HOG_SIZE} px, cells of {classical.CELL} px, blocks of 2×2 cells,"
        f" {classical.ORIENTATIONS} unsigned orientations, L2-hys (Dalal & Triggs, CVPR 2005)"
    )
    return Method("hog", _of_grey(classical.hog), note=note)


def _of_grey(function: Callable[[npt.NDArray[np.uint8]], Descriptors]) -> Callable[[Photos], Descriptors]:
    return lambda photos: np.stack([function(read_image(path, grayscale=True)) for path in photos.paths])


def _vlad() -> Method:
    from .learned import load_conf

    return load_conf("vlad-rootsift", note="generic vocabulary of the package, of 64 words")


def _hloc(name: str) -> Callable[[], Method]:
    def load_it() -> Method:
        from .learned import load_hloc

        return load_hloc(name)

    return load_it


def _random() -> Method:
    from .learned import load_random

    return load_random()


#: Name → loader. A loader raises :class:`UnavailableError` where the method cannot run.
METHODS: dict[str, Callable[[], Method]] = {
    "tiny-image": _tiny_image,
    "hog": _hog,
    "vlad-rootsift": _vlad,
    "crossvit-random": _random,
    "netvlad": _hloc("netvlad"),
    "megaloc": _hloc("megaloc"),
}
#: Ours; each may have a file of weights.
CROSSVIT = ("crossvit-student", "crossvit-teacher")
NAMES = (*METHODS, *CROSSVIT)


def load(
    names: Sequence[str], weights: Mapping[str, Path] | None = None
) -> tuple[list[Method], dict[str, str]]:
    """Load methods of :data:`NAMES`, or keys of `weights`, as the benchmark of matchers does."""
    return load_methods(names, weights or {}, METHODS, CROSSVIT, _load_crossvit)


def _load_crossvit(name: str, weights: Path | None) -> Method:
    from .learned import load_student, load_teacher

    return (load_student if name.startswith(CROSSVIT[0]) else load_teacher)(name, weights)
