"""Random homographies and similarity transforms between two views of a photo, and what they do to points.

Pixels: the centre of the top-left one is (0, 0), x right, y down. A matrix ``b_from_a`` (3, 3) takes pixels
(x, y, 1) of a to those of b.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]

#: Side of a cell of the coarse grid, pixels.
CELL = 8
# Pairs are drawn again until they overlap enough, the transform then is milder at each attempt.
_ATTEMPTS = 20
# Least homogeneous scale of a corner, relative to that of the middle: the horizon is far away.
_LEAST_W = 0.25
# Logarithms of the sides of two views together, relative to those of the photo.
_FIT = math.log(0.75), math.log(1.25)


@dataclass(frozen=True)
class HomographyConfig:
    """Ranges of the transform between two views.

    Attributes:
        transform: ``"homography"``, or ``"similarity"`` without anisotropy, shear and perspective.
        max_rotation: of one view against the other, degrees.
        max_roll: of the first view against the photo, degrees.
        scale: range of the ratio of the scales of the views, log-uniform; either may be the larger.
        anisotropy: largest ratio of the scales of the axes, at least 1.
        shear: largest tangent.
        perspective: largest displacement of a corner, as part of the sides.
        translation: largest displacement of the middle, as part of the sides.
        min_overlap: of the cells of that view which shows less of the photo, so many are seen by the other.
    """

    transform: str = "homography"
    max_rotation: float = 30.0
    max_roll: float = 10.0
    scale: tuple[float, float] = (0.5, 2.0)
    anisotropy: float = 1.3
    shear: float = 0.15
    perspective: float = 0.2
    translation: float = 0.4
    min_overlap: float = 0.4

    def __post_init__(self) -> None:
        if self.transform not in ("homography", "similarity"):
            raise InputError(f"transform={self.transform!r}: expected 'homography' or 'similarity'.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale={self.scale}: expected 0 < lowest <= highest.")
        if self.anisotropy < 1:
            raise InputError(f"anisotropy={self.anisotropy}: expected 1 or more.")
        if not 0 <= self.perspective < 0.5:
            raise InputError(f"perspective={self.perspective}: expected 0 or more, and less than 0.5.")
        if not 0 <= self.min_overlap < 1:
            raise InputError(f"min_overlap={self.min_overlap}: expected 0 or more, and less than 1.")


#: Photos taken from street level.
STREET = HomographyConfig()
#: Photos from above, of any heading.
AERIAL = HomographyConfig("similarity", max_rotation=180.0, max_roll=180.0)


def warp_points(matrix: Floats, points: Floats) -> Floats:
    """Apply a homography.

    Args:
        matrix: (3, 3).
        points: (N, 2), pixels.

    Returns:
        (N, 2); points on or beyond the horizon of the transform are NaN.
    """
    mapped = np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    w = np.where(mapped[:, 2:] > 0, mapped[:, 2:], np.nan)
    return np.asarray(mapped[:, :2] / w)


def cell_centers(size: Size) -> Floats:
    """Centres of the cells of stride 8 of an image, (N, 2) pixels (x, y), row-major; first (0, 0)."""
    x, y = np.meshgrid(np.arange(0, size[1], CELL), np.arange(0, size[0], CELL))
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)


def inside(points: Floats, size: Size) -> Flags:
    """Which points lie between the centres of the border pixels of an image of (height, width), (N,)."""
    return np.all((points >= 0) & (points <= (size[1] - 1, size[0] - 1)), axis=1)


def random_homography(rng: np.random.Generator, size: Size, config: HomographyConfig = STREET) -> Floats:
    """A transform between two images of one size that overlap.

    About the middle of the image: corners displaced (perspective), anisotropic scale and shear, rotation,
    scale, translation.

    Args:
        rng: source of the choices.
        size: (height, width) of both images.
        config: ranges.

    Returns:
        ``image1_from_image0``, (3, 3) with a last entry of 1. Neither image meets the horizon. Where the
        ranges leave no room for `min_overlap`, the transform becomes milder.
    """
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    to_middle, back = np.eye(3), np.eye(3)
    to_middle[:2, 2], back[:2, 2] = -middle, middle
    for attempt in range(_ATTEMPTS):
        strength = 1 - attempt / _ATTEMPTS
        about_middle = _translation(rng, size, config, strength) @ _linear(rng, config, strength)
        if config.transform == "homography" and config.perspective:
            about_middle = about_middle @ _perspective(rng, size, strength * config.perspective)
        matrix = back @ about_middle @ to_middle
        matrix /= matrix[2, 2]
        if overlap(matrix, size) >= config.min_overlap:
            return matrix
    return np.eye(3)


def _translation(rng: np.random.Generator, size: Size, config: HomographyConfig, strength: float) -> Floats:
    matrix = np.eye(3)
    matrix[:2, 2] = strength * config.translation * rng.uniform(-1, 1, 2) * (size[1], size[0])
    return matrix


def _linear(rng: np.random.Generator, config: HomographyConfig, strength: float) -> Floats:
    """Rotation, scale, and for homographies anisotropy and shear. The rotation keeps its range."""
    angle = math.radians(rng.uniform(-config.max_rotation, config.max_rotation))
    scale = math.exp(strength * rng.uniform(math.log(config.scale[0]), math.log(config.scale[1])))
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    if config.transform == "homography":
        stretch = math.exp(strength * rng.uniform(-0.5, 0.5) * math.log(config.anisotropy))
        shear = strength * rng.uniform(-config.shear, config.shear)
        matrix[:2, :2] @= np.array([[stretch, shear], [0, 1 / stretch]])
    return matrix


def _perspective(rng: np.random.Generator, size: Size, displacement: float) -> Floats:
    """Homography that displaces the corners of an image about the origin by up to a part of its sides."""
    sides = np.array([size[1] - 1, size[0] - 1], np.float64)
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * sides
    moved = corners + rng.uniform(-displacement, displacement, (4, 2)) * sides
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    return np.asarray(matrix, np.float64)


def overlap(image1_from_image0: Floats, size: Size) -> float:
    """Share of the image that shows less of the scene which the other one sees, both of (height, width).

    It is 0 where the horizon comes near to an image, or the transform mirrors it.
    """
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (size[1] - 1, size[0] - 1.0)
    if abs(np.linalg.det(image1_from_image0)) < 1e-12:
        return 0.0
    centers, shares = cell_centers(size), []
    for matrix in (image1_from_image0, np.linalg.inv(image1_from_image0)):
        w = corners @ matrix[2, :2] + matrix[2, 2]
        if np.linalg.det(matrix) / matrix[2, 2] ** 3 <= 0 or w.min() < _LEAST_W * w.max():
            return 0.0
        shares.append(inside(warp_points(matrix / w.max(), centers), size).mean())
    return float(max(shares))


def random_views(
    rng: np.random.Generator, photo_size: Size, size: Size, config: HomographyConfig = STREET
) -> tuple[Floats, Floats]:
    """Two overlapping views of a photo, all or most of them inside of it.

    Args:
        rng: source of the choices.
        photo_size: (height, width) of the photo.
        size: (height, width) of both views.
        config: ranges of the transform between the views.

    Returns:
        ``photo_from_view0`` and ``photo_from_view1``, (3, 3).
    """
    view1_from_view0 = random_homography(rng, size, config)
    # Either view may be the upright one.
    roll = math.radians(rng.uniform(-config.max_roll, config.max_roll))
    base_from_view = np.eye(3)
    base_from_view[:2, :2] = [[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]]
    views = [base_from_view, base_from_view @ np.linalg.inv(view1_from_view0)]
    if rng.random() < 0.5:
        views = [base_from_view @ view1_from_view0, base_from_view]
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (size[1] - 1, size[0] - 1.0)
    outline = np.concatenate([warp_points(_normalized(view), corners) for view in views])
    low, high = outline.min(0), outline.max(0)
    limit = np.array([photo_size[1] - 1, photo_size[0] - 1.0])
    # Pixels of the photo per unit: about as many as let both views fit in, but not both much enlarged.
    fit = float((limit / (high - low)).min())
    coarsest = max(math.sqrt(abs(np.linalg.det(_jacobian(view, size)))) for view in views)
    pixel = max(fit * math.exp(rng.uniform(*_FIT)), 0.7 / coarsest)
    slack = limit - pixel * (high - low)
    placed = np.diag([pixel, pixel, 1.0])
    placed[:2, 2] = slack * rng.uniform(0, 1, 2) - pixel * low
    first, second = (_normalized(placed @ view) for view in views)
    return first, second


def _normalized(matrix: Floats) -> Floats:
    return matrix / matrix[2, 2]


def _jacobian(matrix: Floats, size: Size) -> Floats:
    """Derivative of a homography in the middle of an image, (2, 2)."""
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2, 1.0])
    x, y, w = matrix @ middle
    return np.asarray((matrix[:2, :2] - np.outer([x / w, y / w], matrix[2, :2])) / w)


def warp_view(photo: Pixels, photo_from_view: Floats, size: Size) -> Pixels:
    """A view of a photo, smoothed first where the view shrinks it; reflected beyond its borders.

    Args:
        photo: (H, W) or (H, W, 3).
        photo_from_view: (3, 3).
        size: (height, width) of the view.
    """
    height, width = photo.shape[:2]
    shrink = math.sqrt(abs(np.linalg.det(_jacobian(photo_from_view, size))))
    if shrink > 1.2:
        small = max(round(width / shrink), 1), max(round(height / shrink), 1)
        photo = np.asarray(cv2.resize(photo, small, interpolation=cv2.INTER_AREA), np.uint8)
        scale = np.array([small[0] / width, small[1] / height])
        small_from_photo = np.diag([*scale, 1.0])
        small_from_photo[:2, 2] = (scale - 1) / 2
        photo_from_view = small_from_photo @ photo_from_view
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpPerspective(
        photo, photo_from_view, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(seen, np.uint8)


def plane_correspondences(
    photo_from_view0: Floats, photo_from_view1: Floats, photo_size: Size, size: Size
) -> tuple[Floats, Flags]:
    """Where the cells of one view of a photo lie in another.

    Args:
        photo_from_view0: (3, 3) of the view of the cells.
        photo_from_view1: (3, 3) of the other.
        photo_size: (height, width) of the photo.
        size: (height, width) of both views.

    Returns:
        (N, 2) pixels in view 1, and whether they lie inside of it and of the photo, (N,) bool. Points
        beyond the horizon are (0, 0).
    """
    centers = cell_centers(size)
    points = warp_points(_positive(np.linalg.inv(photo_from_view1) @ photo_from_view0, size), centers)
    source = warp_points(_positive(photo_from_view0, size), centers)
    valid = inside(source, photo_size) & inside(points, size)
    return np.where(np.isfinite(points), points, 0.0), valid


def _positive(matrix: Floats, size: Size) -> Floats:
    """The same homography with a positive homogeneous scale in the middle of the image."""
    w = matrix[2] @ ((size[1] - 1) / 2, (size[0] - 1) / 2, 1.0)
    return matrix / w
