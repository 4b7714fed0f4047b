"""Photos from above onto each other and onto maps, under similarity transforms and unknown heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.tables import Table
from hloc_ext.datasets.homography import warp_view
from hloc_ext.datasets.map_pairs import LabelledImage, find_labelled_images, view_label
from hloc_ext.datasets.map_rendering import random_style, render_map
from hloc_ext.datasets.photometric import STRONG, ChangeConfig, PhotometricChange
from hloc_ext.evaluation.homography import corner_error
from hloc_ext.formats.images import read_image

from .methods import Matches, Method, timed
from .options import Options, require_folder
from .pairs import Pair

SIZE = (640, 480)
SHAPE = (480, 640)
SOURCES = {"tugraz_drone": 2, "dubai_tile7": 5}  # pairs made of each image
#: Inliers of the estimator: pixels.
THRESHOLD = 5.0
#: Largest mean corner error of a success, as a share of the diagonal.
SUCCESS = 0.03
SEED = 20
#: Largest shift between the centres of the views, as a share of the view.
MAX_SHIFT = 0.1
#: Least standard deviation of the grey values of a map, means of 8×8 pixels, and how often a style is drawn.
LEAST_CONTRAST, ATTEMPTS = 10.0, 20


def estimate(matches: Matches) -> np.ndarray | None:
    """2×3 similarity transform by RANSAC, or None."""
    keypoints0, keypoints1, _ = matches
    if len(keypoints0) < 2:
        return None
    cv2.setRNGSeed(0)
    matrix, _ = cv2.estimateAffinePartial2D(
        keypoints0.astype(np.float64),
        keypoints1.astype(np.float64),
        method=cv2.RANSAC,
        ransacReprojThreshold=THRESHOLD,
        maxIters=10000,
        confidence=0.9999,
    )
    return matrix


@dataclass(frozen=True)
class Condition:
    """What is registered onto what.

    Attributes:
        name: in the table.
        onto_map: one side is a map of the class mask, in a random style; else both are the photo.
        painted: the maps have textures, as a generative model paints them; else flat colours and lines.
        inverted: one side is a negative.
        change: photometric change of every photo, None for none.
    """

    name: str
    onto_map: bool = False
    painted: bool = False
    inverted: bool = False
    change: ChangeConfig | None = None


#: Strong changes of tone, light, sharpness and noise, without nights, weather and things in the way.
DAYLIGHT = replace(STRONG, night=0.0, weather=0.0, occlusion=0.0)

CONDITIONS = (
    Condition("photo ↔ photo, strong change", change=DAYLIGHT),
    Condition("photo ↔ negative, strong change", inverted=True, change=DAYLIGHT),
    Condition("photo ↔ photo, any weather and hour", change=STRONG),
    Condition("photo ↔ negative, any weather and hour", inverted=True, change=STRONG),
    Condition("photo ↔ map", onto_map=True),
    Condition("photo ↔ painted map", onto_map=True, painted=True),
)


def random_views(shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two views of a picture: one of almost all of it, the other turned by any angle, larger or smaller.

    Args:
        shape: height and width of the picture.
        rng: source of the choices.

    Returns:
        Two 3×3 similarity transforms, pixel of the view → pixel of the picture.
    """
    extent, size = np.array(shape[::-1], float), np.array(SIZE, float)
    pixel = float((extent / size).min())
    reach = pixel * size / 2
    center = extent / 2 + rng.uniform(-0.5, 0.5, 2) * np.maximum(extent - 2 * reach, 0)
    scale, angle = 2.0 ** rng.uniform(-1, 1), rng.uniform(-np.pi, np.pi)
    other = center + rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * 2 * reach
    return _view_transform(center, pixel, 0.0), _view_transform(other, pixel / scale, angle)


def _view_transform(center: np.ndarray, pixel: float, angle: float) -> np.ndarray:
    cos, sin = pixel * np.cos(angle), pixel * np.sin(angle)
    transform = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    transform[:2, 2] = center - transform[:2, :2] @ ((np.array(SIZE) - 1) / 2)
    return transform


def make_pair(file: LabelledImage, condition: Condition, rng: np.random.Generator) -> Pair:
    """A pair of a photo, with the photo or with a map of its mask; either may be the first."""
    photo, label = (read_image(path, grayscale=True) for path in (file.image, file.label))
    transforms = random_views(photo.shape, rng)
    images = [warp_view(photo, transform, SHAPE) for transform in transforms]
    if condition.change is not None:
        images = [PhotometricChange(condition.change)(image, rng) for image in images]
    if condition.inverted:
        images[1] = 255 - images[1]
    if condition.onto_map:
        images[1] = _draw_map(label, transforms, condition.painted, rng)
    order = [0, 1] if rng.random() < 0.5 else [1, 0]
    first, second = (transforms[i] for i in order)
    return Pair(images[order[0]], images[order[1]], np.linalg.inv(second) @ first, file.image.stem)


def _draw_map(
    label: npt.NDArray[np.uint8], transforms: Sequence[np.ndarray], painted: bool, rng: np.random.Generator
) -> np.ndarray:
    """A map in the second view. Styles are drawn again where they show next to nothing of the first one."""
    height, width = label.shape
    # Mirrored as warp_view does it with the photo: maps do not end where a photo does.
    label = np.pad(label, ((height - 1,) * 2, (width - 1,) * 2), "reflect")
    shift = np.array([[1, 0, width - 1], [0, 1, height - 1], [0, 0, 1.0]])
    views = [view_label(label, shift @ transform, SHAPE) for transform in transforms]
    for _ in range(ATTEMPTS):
        style = random_style(rng, float(painted))
        drawn = style.colors.mean(1)[np.array(style.merged)[views[0]]]
        drawn = cv2.resize(drawn, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
        if drawn.std() >= LEAST_CONTRAST:
            break
    return render_map(views[1], rng, style.grey())


def make_pairs(files: Sequence[LabelledImage], repeats: int, condition: Condition) -> list[Pair]:
    """`repeats` pairs of each file; each depends only on the seed, the number of the file and the repeat."""
    return [
        make_pair(file, condition, np.random.default_rng([SEED, number, repeat]))
        for repeat in range(repeats)
        for number, file in enumerate(files)
    ]


def evaluate(methods: Sequence[Method], options: Options) -> list[Table]:
    """Success rates of photo ↔ photo (normal and inverted contrast) and photo ↔ map."""
    root = require_folder(options.data / "gis")
    table = Table(
        "Registration from above, unknown heading",
        [
            "similarity transforms: rotation ±180°, scale 0.5 to 2 (log-uniform), shift up to 10 % of the"
            " view; one view shows almost all of the picture, which is continued by its mirror images",
            f"images {SIZE[0]}×{SIZE[1]}; estimator cv2.estimateAffinePartial2D, RANSAC, {THRESHOLD:g} px,"
            " 10 000 iterations, for every method",
            f"success: mean corner error below {100 * SUCCESS:g} % of the diagonal",
            "any weather and hour: the change STRONG of hloc_ext.datasets.photometric; strong change: the"
            " same without night, weather and occlusion; photos beside maps are not changed, and maps are"
            " drawn in random styles",
            "seconds of one pair: matching without the estimator, median",
        ],
        [
            "pairs of",
            "source",
            "method",
            "pairs",
            "success %",
            "median error % of diagonal",
            "matches",
            "s per pair",
        ],
    )
    for condition in CONDITIONS:
        pairs = {}
        for source, repeats in SOURCES.items():
            files = find_labelled_images(root, [source])
            pairs[source] = make_pairs(files, 1 if options.limit else repeats, condition)[: options.limit]
        for method in methods:
            found = {source: register(method, chosen) for source, chosen in pairs.items()}
            found["both"] = [item for items in found.values() for item in items]
            for source, registrations in found.items():
                row = {"pairs of": condition.name, "source": source, "method": method.name}
                table.rows.append(row | summarize(registrations))
                options.report(table.rows[-1])
    return [table]


@dataclass(frozen=True)
class Registration:
    """What came of one pair: corner error as a share of the diagonal, number of matches, seconds."""

    error: float
    matches: int
    seconds: float


def register(method: Method, pairs: Sequence[Pair]) -> list[Registration]:
    """Register each pair with one method."""
    registrations = []
    for pair in pairs:
        matches, seconds = timed(method, pair.image0, pair.image1)
        error = corner_error(estimate(matches), pair.truth, SIZE) / float(np.hypot(*SIZE))
        registrations.append(Registration(error, len(matches[0]), seconds))
    return registrations


def summarize(registrations: Sequence[Registration]) -> dict[str, object]:
    """Columns of the table."""
    errors = np.array([registration.error for registration in registrations])
    return {
        "pairs": len(errors),
        "success %": 100 * float(np.mean(errors < SUCCESS)),
        "median error % of diagonal": 100 * float(np.median(errors)),
        "matches": int(np.mean([registration.matches for registration in registrations])),
        "s per pair": float(np.median([registration.seconds for registration in registrations])),
    }
