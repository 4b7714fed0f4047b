"""Pairs of an image and a map with a known transform, of any heading: from a city's GIS set and from masks.

Pixels: the centre of the first one is (0, 0). The map is turned by any angle, its pixels are 0.5 to 2 times
as large as those of the image, and its centre lies up to a quarter of its side from that of the image.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hloc_ext.datasets.map_pairs import find_labelled_images
from hloc_ext.datasets.photometric import STRONG, PhotometricChange
from hloc_ext.errors import MissingInputError
from hloc_ext.evaluation.registration import IGNORED
from hloc_ext.formats.images import read_image
from hloc_ext.gis.classes import raster_classes, read_rules
from hloc_ext.gis.grid import Grid, Matrix
from hloc_ext.gis.raster import Raster, open_raster
from hloc_ext.gis.registration.gradient_fields import Picture, class_picture, image_picture
from hloc_ext.gis.registration.prior import Prior
from hloc_ext.gis.render import MapShapes, map_shapes
from hloc_ext.gis.resample import resample
from hloc_ext.gis.vector import read_layers

Classes = npt.NDArray[np.uint8]

#: What is registered to what.
KINDS = (
    "image ↔ image",
    "image ↔ image, inverted",
    "image ↔ layers",
    "generated ↔ layers",
)
#: Side of the maps, pixels; largest shift of their centres, part of it; largest factor of their scale.
SIDE, MAX_SHIFT, MAX_SCALE = 512, 0.25, 2.0
#: Nothing is known but this; images of the city are up to 7 % larger or smaller than they say.
PRIOR = Prior(max_rotation=180.0, max_scale=MAX_SCALE * 1.1)
#: Longest side of photos beside masks, pixels.
PHOTO = 640
# Layers are drawn with so many pixels for each.
_SMOOTH = 2
# First words of the seeds of what this module draws.
_CITY, _MASK = 811, 812


@dataclass(frozen=True, eq=False)
class Problem:
    """An image, a map and the truth between them.

    Attributes:
        name, kind: of the image, and of :data:`KINDS` or the source of the mask.
        image, map: what is registered.
        truth: (3, 3), pixel of the map ← pixel of the image.
        image_classes, map_classes: (H, W) of each.
        pixel_size: of the map, metres; NaN where unknown.
    """

    name: str
    kind: str
    image: Picture
    map: Picture
    truth: Matrix
    image_classes: Classes
    map_classes: Classes
    pixel_size: float = math.nan

    def overlap_classes(self, matrix: Matrix) -> Classes:
        """Classes of the map at the pixels of the image under a transform, 255 outside of the map."""
        height, width = self.image.shape
        return np.asarray(
            cv2.warpPerspective(
                self.map_classes,
                np.asarray(matrix, np.float64),
                (width, height),
                flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=IGNORED,
            ),
            np.uint8,
        )


#: Problems, made when they are called.
Makers = Sequence[Callable[[], Problem]]


class City:
    """A set of ``python -m hloc_ext.city --kind gis``.

    Args:
        root: its folder.

    Raises:
        MissingInputError: it has no scenes.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.scenes = sorted(path.parent for path in (self.root / "scenes").glob("*/truth.json"))
        if not self.scenes:
            raise MissingInputError(f"{root} has no scenes: make it by `python -m hloc_ext.city --kind gis`.")
        self.rules = read_rules()

    @cached_property
    def ortho(self) -> Raster:
        """Imagery of the whole city."""
        return open_raster(self.root / "city" / "ortho.tif")

    @cached_property
    def shapes(self) -> MapShapes:
        """Layers of the whole city."""
        layers = read_layers(self.root / "city" / "layers.gpkg")
        return map_shapes(layers, self.rules, self.ortho.grid, 0.0)

    def of_imagery(self, imagery: str) -> list[Path]:
        """Scenes whose image is ``ortho`` or ``generated``."""
        return [s for s in self.scenes if json.loads((s / "truth.json").read_text())["imagery"] == imagery]

    def problem(self, kind: str, scene: Path, rng: np.random.Generator, mirrored: bool = False) -> Problem:
        """A problem of a scene.

        Args:
            kind: of :data:`KINDS`.
            scene: its folder.
            rng: source of the choices.
            mirrored: the map is its mirror image, so that there is no right answer.
        """
        truth = json.loads((scene / "truth.json").read_text(encoding="utf-8"))
        raster = open_raster(scene / "image.tif")
        true_from_pixel = np.array(truth["true_from_pixel"])
        grid = _random_map(_center_of(true_from_pixel, raster), raster.grid.pixel_size, raster, rng)
        classes = self.shapes.classes(grid)
        if kind.endswith("layers"):
            fine = grid.resized(_SMOOTH * grid.width, _SMOOTH * grid.height)
            pictured = class_picture(self.shapes.classes(fine)).resized(1 / _SMOOTH)
        else:
            seen, valid = resample(self.ortho, grid)
            grey = np.asarray(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), np.uint8)
            seen = PhotometricChange(_DAYLIGHT)(grey, rng)
            pictured = image_picture(255 - seen if "inverted" in kind else seen, valid)
        if mirrored:
            mask = None if pictured.mask is None else np.ascontiguousarray(pictured.mask[:, ::-1])
            pictured = pictured._replace(pixels=np.ascontiguousarray(pictured.pixels[:, ::-1]), mask=mask)
        to_center = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        matrix = np.linalg.inv(grid.crs_from_center) @ true_from_pixel @ to_center
        values, _ = open_raster(scene / "labels.png").read_values()
        return Problem(
            scene.name,
            kind,
            image_picture(raster.read()[0]),
            pictured,
            np.asarray(matrix / matrix[2, 2], np.float64),
            raster_classes(values, ("labels",), self.rules),
            classes,
            grid.pixel_size,
        )

    def problems(
        self, kind: str, count: int, seed: int, mirrored: bool = False
    ) -> list[Callable[[], Problem]]:
        """`count` problems of a kind, made when they are called; each depends on the seed and its number."""
        scenes = self.of_imagery("generated" if kind.startswith("generated") else "ortho")
        number = KINDS.index(kind)

        def maker(index: int) -> Callable[[], Problem]:
            key = [seed, _CITY, number, index, int(mirrored)]
            scene = scenes[index % len(scenes)]
            return lambda: self.problem(kind, scene, np.random.default_rng(key), mirrored)

        return [maker(index) for index in range(count)]


#: Changes of tone, light, sharpness and noise, without nights, weather and things in the way.
_DAYLIGHT = replace(STRONG, night=0.0, weather=0.0, occlusion=0.0)


def _center_of(true_from_pixel: Matrix, raster: Raster) -> npt.NDArray[np.float64]:
    x, y, w = true_from_pixel @ (raster.width / 2, raster.height / 2, 1)
    return np.array([x / w, y / w])


def _random_map(
    center: npt.NDArray[np.float64], pixel: float, raster: Raster, rng: np.random.Generator
) -> Grid:
    size = pixel * MAX_SCALE ** rng.uniform(-1, 1)
    angle = rng.uniform(-math.pi, math.pi)
    x, y = center + rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * SIDE * size
    cos, sin = size * math.cos(angle), size * math.sin(angle)
    turn = np.array([[cos, sin, 0], [sin, -cos, 0], [0, 0, 1.0]])
    turn[:2, 2] = (x, y) - turn[:2, :2] @ (SIDE / 2, SIDE / 2)
    return Grid(raster.crs, turn, SIDE, SIDE)


def mask_problems(
    data: Path, source: str, count: int, seed: int, of_others: bool = False
) -> list[Callable[[], Problem]]:
    """Problems of the photos of a source with masks (``tugraz_drone``, ``dubai_tile7``): photo ↔ mask.

    Photo and mask show the same; the mask is then turned, scaled and shifted.

    Args:
        data: folder ``gis`` of the benchmark data.
        source: folder in it.
        count: number of problems; photos are used again in turn.
        seed: of the choices.
        of_others: the mask is that of another photo, so that there is no right answer.
    """
    files = find_labelled_images(data, [source])

    def make(index: int) -> Problem:
        rng = np.random.default_rng([seed, _MASK, index])
        file = files[index % len(files)]
        other = files[(index + len(files) // 2) % len(files)] if of_others else file
        photo, label = read_image(file.image), read_image(other.label, grayscale=True)
        factor = min(1.0, PHOTO / max(photo.shape))
        size = round(photo.shape[1] * factor), round(photo.shape[0] * factor)
        photo = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
        small = np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST), np.uint8)
        truth = _random_transform(size, rng)
        # The mask in the frame of the map, at twice its resolution, from its own pixels.
        to_full = np.diag([size[0] / label.shape[1], size[1] / label.shape[0], 1.0])
        fine = np.diag([_SMOOTH, _SMOOTH, 1.0]) @ _corner(truth) @ to_full
        drawn, known = (
            cv2.warpPerspective(
                image,
                _centred(fine),
                (_SMOOTH * size[0], _SMOOTH * size[1]),
                flags=cv2.INTER_NEAREST,
            )
            for image in (label, np.ones_like(label))
        )
        classes = np.where(known > 0, drawn, IGNORED)[_SMOOTH // 2 :: _SMOOTH, _SMOOTH // 2 :: _SMOOTH]
        pictured = class_picture(np.asarray(drawn, np.uint8), known > 0).resized(1 / _SMOOTH)
        return Problem(
            file.image.stem,
            source,
            image_picture(photo),
            pictured,
            truth,
            small,
            np.asarray(classes, np.uint8),
        )

    return [functools.partial(make, index) for index in range(count)]


def exchanged(first: Makers, second: Makers) -> Makers:
    """Problems of the images of the first with the maps of the second, which have no right answer."""

    def maker(one: Callable[[], Problem], other: Callable[[], Problem]) -> Callable[[], Problem]:
        def make() -> Problem:
            problem, foreign = one(), other()
            return replace(problem, map=foreign.map, map_classes=foreign.map_classes)

        return make

    return [maker(one, other) for one, other in zip(first, second, strict=True)]


def _corner(matrix: Matrix) -> Matrix:
    """A map of pixels that are counted from centres, as one of pixels that are counted from corners."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.asarray(half @ matrix @ np.linalg.inv(half), np.float64)


def _centred(matrix: Matrix) -> Matrix:
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.asarray(np.linalg.inv(half) @ matrix @ half, np.float64)


def _random_transform(size: tuple[int, int], rng: np.random.Generator) -> Matrix:
    """Pixel of the map ← pixel of the image, for a map of the same size."""
    scale, angle = MAX_SCALE ** rng.uniform(-1, 1), rng.uniform(-math.pi, math.pi)
    center = (np.array(size) - 1) / 2
    target = center + rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * size * min(1.0, scale)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    matrix[:2, 2] = target - matrix[:2, :2] @ center
    return matrix
