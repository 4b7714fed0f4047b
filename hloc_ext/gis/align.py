"""Alignment of layers to an image, in metres: registration, repeated until it settles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..city.labels import Label
from ..errors import HlocExtError
from .classes import CLASSES
from .grid import Floats, Grid, apply_homography
from .inputs import AlignmentInput
from .registration.gradient_fields import Picture, class_picture, gradient_fields, image_picture
from .registration.matching import Hypothesis, Method, StagedMethod, get_method, stages
from .registration.prior import Prior
from .registration.register import Registration
from .registration.scene import (
    OVERVIEW,
    DisplacementField,
    SceneRegistration,
    refine_scene,
    register_scene,
)
from .resample import resample
from .transform import MODELS, Alignment

#: Layers that are nearer to the image than this, pixels at the worst place, are aligned already.
ALIGNED = 0.5
#: The registration is repeated on the corrected layers until it moves them by less than this, pixels, but at
#: most so often.
SETTLED, ROUNDS = 0.2, 2
#: The method that proposes transforms; see :data:`hloc_ext.gis.registration.matching.METHODS`.
METHOD = "kd-mamba+gradient"
# Tiles that are compared when the registration of a large image is repeated.
_TILES = 48
# Longest side at which borders are compared with the image, pixels.
_COMPARED = 768


class AlignmentRefusedError(HlocExtError):
    """The evidence for an alignment is too weak; the message says what it is."""


@dataclass(frozen=True, eq=False)
class BentAlignment(Alignment):
    """An alignment, and small smooth displacements of what the layers show.

    The inverse, and with it the corrected image, is without them.

    Attributes:
        field: displacements, pixels of `grid`; what a layer shows at a point belongs to where the alignment
            takes the point without its displacement.
        grid: of the layers.
    """

    field: DisplacementField | None = None
    grid: Grid | None = None

    def map_points(self, points: npt.ArrayLike) -> Floats:
        """Corrected points (N, 2) of claimed ones (N, 2) in `crs`."""
        points = np.asarray(points, np.float64)
        if self.field is None or self.grid is None:
            return super().map_points(points)
        from_crs = np.asarray(np.linalg.inv(self.grid.crs_from_center), np.float64)
        pixels = apply_homography(from_crs, points)
        shifts = [self.field.at(part) for part in np.array_split(pixels, len(pixels) // 10_000 + 1)]
        moved = apply_homography(self.grid.crs_from_center, pixels - np.concatenate(shifts))
        return super().map_points(moved)


@dataclass(frozen=True, eq=False)
class AlignmentResult:
    """What came of an alignment.

    Attributes:
        input: what was aligned.
        alignment: the correction; the identity where nothing is to be moved.
        status: ``corrected``; ``aligned``: the layers fit as they are; ``refused``: the evidence is too weak.
        registration: pixels of the input's grids, with the evidence.
        estimated: the correction as it was estimated, whatever the status.
        tiles: number of tiles that were compared.
    """

    input: AlignmentInput
    alignment: Alignment
    status: str
    registration: Registration
    estimated: Alignment
    tiles: int

    @property
    def moved(self) -> tuple[float, float]:
        """Mean and largest distance by which layers move in the image as estimated, metres."""
        distances = displacement(self.estimated, self.input.image_grid)
        return float(distances.mean()), float(distances.max())

    @property
    def refusal(self) -> str:
        """Why the alignment was refused, and what to do; empty where it was not."""
        if self.status != "refused":
            return ""
        evidence, given = self.registration.evidence, self.input
        return (
            f"The layers cannot be aligned to {given.image.path}: the evidence is too weak (probability"
            f" {evidence.probability:.2f}; {evidence.inliers} patches agree, {100 * evidence.agreement:.0f} %"
            f" of those with structure). Is it the same place? The search went up to {given.max_shift:.0f}"
            f" {given.unit}, {given.max_rotation:.0f}° and a factor of {given.max_scale:g}: raise max_shift,"
            " max_rotation or max_scale if the error may be larger."
        )

    def require(self) -> None:
        """Make sure that the alignment was not refused.

        Raises:
            AlignmentRefusedError: it was.
        """
        if self.status == "refused":
            raise AlignmentRefusedError(self.refusal)


@dataclass(frozen=True)
class _Known:
    """Proposes what is known already."""

    name: str = "known"

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """The prior."""
        matrix = np.vstack([prior.similarity(picture0.shape, picture1.shape).matrix(), (0, 0, 1)])
        return [Hypothesis(matrix, self.name, 0.0)]


@dataclass(frozen=True)
class _AlsoKnown:
    """Proposes what another method does, and what is known already."""

    method: Method

    @property
    def name(self) -> str:
        """That of the method."""
        return self.method.name

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """The prior, and the hypotheses of the method."""
        found = self.method.register(picture0, picture1, prior)
        return [*found, *_Known().register(picture0, picture1, prior)]


def _also_known(method: Method) -> Method:
    """A method of which the first stage also proposes what is known."""
    first, *others = stages(method)
    return StagedMethod(method.name, (_AlsoKnown(first), *others))


def align(
    given: AlignmentInput, model: str = "auto", method: str | Method = METHOD, with_field: bool = False
) -> AlignmentResult:
    """Align layers to an image.

    The registration is repeated on the corrected layers until it moves them by less than :data:`SETTLED`
    pixels, so that aligning the result again moves nothing.

    Args:
        given: image and layers.
        model: of :data:`~hloc_ext.gis.transform.MODELS`, or ``"auto"``: the simplest one that patches held
            out support.
        method: of :data:`~hloc_ext.gis.registration.matching.METHODS`, or one of its kind.
        with_field: also bend the layers smoothly where this foretells tiles held out.

    Raises:
        InputError: unknown model or method, or an image without valid pixels.
    """
    proposer = _also_known(get_method(method) if isinstance(method, str) else method)
    source, prior = given.image_source, given.prior
    found = register_scene(source, given.map_source(), prior, model, proposer, with_field)
    estimated = _alignment(given, found.registration)
    nothing = Alignment.identity(given.image_grid.crs, given.image_grid.center)
    if not found.registration.accepted:
        return AlignmentResult(given, nothing, "refused", found.registration, estimated, found.tiles)
    estimated, found = _settled(given, model, estimated, found, with_field)
    pixel = given.image_grid.pixel_size
    if displacement(estimated, given.image_grid).max() < ALIGNED * pixel:
        return AlignmentResult(given, nothing, "aligned", found.registration, estimated, found.tiles)
    return AlignmentResult(given, estimated, "corrected", found.registration, estimated, found.tiles)


def _settled(
    given: AlignmentInput, model: str, estimated: Alignment, found: SceneRegistration, with_field: bool
) -> tuple[Alignment, SceneRegistration]:
    """Repeat the registration on the corrected layers."""
    pixel, method = given.image_grid.pixel_size, found.registration.method
    for _ in range(ROUNDS):
        again = _again(given, model, estimated, found, with_field)
        if again is None:
            break
        step = _alignment(given, again.registration)
        # A step of a simpler model says nothing of the other parameters' errors.
        simpler = MODELS.index(step.model) < MODELS.index(estimated.model)
        covariance = estimated.covariance if simpler else step.covariance
        estimated = replace(estimated.then(step), covariance=covariance)
        found = replace(again, registration=replace(again.registration, method=method))
        if displacement(step, given.image_grid).max() < SETTLED * pixel:
            break
    if found.field is not None:
        # The field was found on the layers as they were corrected.
        estimated = BentAlignment(
            estimated.matrix,
            estimated.model,
            estimated.crs,
            estimated.anchor,
            estimated.covariance,
            found.field,
            estimated.claimed_grid(given.map_grid),
        )
    return estimated, found


def _again(
    given: AlignmentInput, model: str, estimated: Alignment, found: SceneRegistration, with_field: bool
) -> SceneRegistration | None:
    """Registration of the image to the layers as they are corrected so far; None where it fails."""
    source, layers = given.image_source, given.map_source(estimated)
    if max(*source.shape, *layers.shape) > OVERVIEW:
        so_far = replace(found.registration, matrix=given.expected)
        return refine_scene(source, layers, so_far, model, with_field, _TILES)
    tight = replace(given.prior, max_rotation=1.0, max_scale=1.02, max_shift=8.0)
    again = register_scene(source, layers, tight, model, _Known())
    return again if again.registration.accepted else None


def _alignment(given: AlignmentInput, registration: Registration) -> Alignment:
    return Alignment.from_pixels(
        registration.matrix,
        given.image_grid,
        given.map_grid,
        registration.model,
        registration.covariance,
    )


def displacement(alignment: Alignment, grid: Grid, side: int = 5) -> Floats:
    """How far layers are moved at points of an image, corners included, (side²,) units of the grid."""
    x, y = np.meshgrid(np.linspace(0, grid.width, side), np.linspace(0, grid.height, side))
    points = apply_homography(grid.crs_from_pixel, np.column_stack([x.ravel(), y.ravel()]))
    back = alignment.inverse().map_points(points)
    return np.asarray(np.linalg.norm(points - back, axis=1), np.float64)


def border_agreement(result: AlignmentResult) -> dict[int, tuple[float, float]]:
    """How well the borders of each class run along edges of the image, as claimed and as corrected.

    Args:
        result: of :func:`align`.

    Returns:
        Correlation of the gradient fields of the image and of the class alone where the latter has borders,
        -1 to 1, by class, before and after; classes without a border in the image are left out.
    """
    given = result.input
    factor = min(1.0, _COMPARED / max(given.image_grid.width, given.image_grid.height))
    grid = given.image_grid.with_pixel_size(given.image_grid.pixel_size / factor)
    image = gradient_fields(image_picture(*resample(given.image, grid)))
    values: dict[int, list[float]] = {}
    for alignment in (Alignment.identity(grid.crs, grid.center), result.alignment):
        classes = given.shapes.classes(alignment.claimed_grid(grid))
        for label in np.unique(classes[classes > Label.OTHER]):
            alone = gradient_fields(class_picture((classes == label).astype(np.uint8)))
            weight = (np.square(alone.values).sum(axis=2) > 0) * image.mask
            both = float((image.values * alone.values).sum(axis=2).sum())
            lengths = [float((np.square(f.values).sum(axis=2) * weight).sum()) for f in (image, alone)]
            values.setdefault(int(label), []).append(both / float(np.sqrt(np.prod(lengths)) + 1e-9))
    return {label: (pair[0], pair[1]) for label, pair in values.items() if len(pair) == 2}


def class_name(label: int) -> str:
    """Name of a class."""
    return CLASSES[label]
