"""Methods that propose transforms between two pictures, in one interface: ours and those to compare with.

Pixels: the centre of the top-left one is (0, 0), x right, y down.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...errors import HlocExtError, InputError
from ...evaluation.homography import transform_points
from .estimation import estimate
from .features import Matches, match_akaze, match_orb, match_sift
from .gradient_fields import Picture, image_picture
from .gradient_search import DEFAULT, EXHAUSTIVE, SearchConfig, config_for, search
from .local_matching import resizing
from .prior import Prior, Similarity

Matrix = npt.NDArray[np.float64]

#: Largest distance of an inlier of the estimator, pixels of image 1, per 800 pixels of its diagonal.
THRESHOLD = 5.0
GRID_STEP = 32
#: Images of KD-Mamba are reduced to this longest side.
KD_MAMBA_SIZE = 448
#: Most iterations of ECC.
_ECC_STEPS = 60


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A transform that a method proposes.

    Attributes:
        matrix: 3×3, pixel of image 0 → pixel of image 1.
        method: its name.
        score: of the method, larger is better; scores of different methods are not comparable.
        matches: correspondences that it comes from, if any.
    """

    matrix: Matrix
    method: str
    score: float
    matches: Matches | None = None


class Method(Protocol):
    """A method of registration."""

    @property
    def name(self) -> str:
        """As in :data:`METHODS`."""
        ...

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """Transforms from picture 0 to picture 1, the best one first; none where nothing is found."""
        ...


@dataclass(frozen=True)
class FeatureMethod:
    """Correspondences of grey pictures, and RANSAC of a similarity transform.

    Attributes:
        name: of the method.
        match: from two grey images to correspondences.
    """

    name: str
    match: Callable[[np.ndarray, np.ndarray], Matches]

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """One hypothesis, if it is within the limits of the prior."""
        matches = self.match(picture0.grey(), picture1.grey())
        hypothesis = from_matches(matches, self.name, picture1.shape)
        return within([hypothesis] if hypothesis else [], prior, picture0, picture1)


@dataclass(frozen=True)
class GradientMethod:
    """Search over headings, scales and shifts (:mod:`hloc_ext.gis.registration.gradient_search`).

    Attributes:
        name: of the method.
        config: sampling; None: as the prior asks for.
    """

    name: str = "gradient"
    config: SearchConfig | None = None

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """The most significant peaks."""
        found = search(picture0, picture1, prior, self.config or config_for(prior))
        return [Hypothesis(as_homography(peak), self.name, peak.significance) for peak in found]


@dataclass(frozen=True)
class ThoroughSearch:
    """The gradient search with finer steps than where all headings are searched quickly; else nothing new."""

    name: str = "gradient"

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """The most significant peaks; none where :class:`GradientMethod` has taken these steps already."""
        if config_for(prior) is DEFAULT:
            return []
        return GradientMethod(self.name, DEFAULT).register(picture0, picture1, prior)


@dataclass(frozen=True)
class KDMambaMethod:
    """KD-Mamba over headings and scales; less of them where the prior is narrow."""

    name: str = "kd-mamba"
    weights: str = "kd_mamba_aerial"

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """One hypothesis. Picture 0 is brought into the frame of picture 1 as the prior says first."""
        return _match_placed(self, picture0, picture1, prior)

    def match(self, picture0: Picture, picture1: Picture, rotations: int, scales: Sequence[float]) -> Matches:
        """Correspondences of two pictures; see :class:`hloc_ext.matchers.kd_mamba.KDMambaMatcher`."""
        model = _kd_mamba(self.weights, rotations, tuple(scales))
        inputs: dict[str, Any] = {}
        device = next(model.parameters()).device
        smalls = [p.resized(min(1.0, KD_MAMBA_SIZE / max(p.shape))) for p in (picture0, picture1)]
        for i, small in enumerate(smalls):
            grey = torch.from_numpy(np.ascontiguousarray(small.grey())).to(device).float() / 255
            inputs[f"image{i}"] = grey[None, None]
            if small.mask is not None:
                inputs[f"mask{i}"] = torch.from_numpy(small.mask).to(device)[None]
        with torch.no_grad():
            found = model(inputs)
        points = [
            transform_points(
                np.linalg.inv(resizing(picture.shape, small.shape)), found[f"keypoints{i}"].cpu().numpy()
            )
            for i, (picture, small) in enumerate(zip((picture0, picture1), smalls, strict=True))
        ]
        return points[0], points[1], found["scores"].cpu().numpy().astype(float)


@dataclass(frozen=True)
class PhaseMethod:
    """Phase correlation in the frame of the prior: translations only (Kuglin and Hines, 1975)."""

    name: str = "phase"

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """One hypothesis."""
        start = as_homography(prior.similarity(picture0.shape, picture1.shape))
        images = [p.grey().astype(np.float64) for p in (picture0.warped(start, picture1.shape), picture1)]
        window = cv2.createHanningWindow(picture1.shape[::-1], cv2.CV_64F)
        shift, score = cv2.phaseCorrelate(images[0], images[1], window)
        moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]]) @ start
        return within([Hypothesis(moved, self.name, float(score))], prior, picture0, picture1)


@dataclass(frozen=True)
class ECCMethod:
    """Enhanced correlation coefficient of gradient magnitudes (Evangelidis and Psarakis, PAMI 2008)."""

    name: str = "ecc"
    size: int = 384

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """One affine hypothesis, from the prior on."""
        start = as_homography(prior.similarity(picture0.shape, picture1.shape))
        found = ecc(picture0, picture1, start, self.size)
        return within([found] if found else [], prior, picture0, picture1)


@dataclass(frozen=True)
class StagedMethod:
    """Methods of which the later ones are asked only where what the earlier ones propose is not sure.

    Attributes:
        name: of all of them.
        stages: from the first one on.
    """

    name: str = "kd-mamba+gradient"
    stages: tuple[Method, ...] = (GradientMethod(), ThoroughSearch(), KDMambaMethod())

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """Hypotheses of all of them."""
        return [h for stage in self.stages for h in stage.register(picture0, picture1, prior)]


def stages(method: Method) -> tuple[Method, ...]:
    """The methods that a method is made of, in the order in which they are to be asked."""
    return method.stages if isinstance(method, StagedMethod) else (method,)


class UnavailableMethodError(HlocExtError):
    """A method cannot run here; the message says why."""


def _loftr() -> Method:
    return FeatureMethod("loftr", _kornia_loftr())


def _arosics() -> Method:
    from .arosics import ArosicsMethod

    return ArosicsMethod()


#: Name → constructor, which raises :class:`UnavailableMethodError` where a method cannot run.
METHODS: dict[str, Callable[[], Method]] = {
    "sift": lambda: FeatureMethod("sift", match_sift),
    "orb": lambda: FeatureMethod("orb", match_orb),
    "akaze": lambda: FeatureMethod("akaze", match_akaze),
    "phase": PhaseMethod,
    "ecc": ECCMethod,
    "gradient": GradientMethod,
    "gradient-exhaustive": lambda: GradientMethod("gradient-exhaustive", EXHAUSTIVE),
    "kd-mamba": KDMambaMethod,
    "kd-mamba+gradient": StagedMethod,
    "arosics": _arosics,
    "loftr": _loftr,
}


def get_method(name: str, weights: Path | None = None) -> Method:
    """A method by its name in :data:`METHODS`, or ``"homography-net"``, which needs a file of `weights`.

    Raises:
        InputError: unknown name.
        UnavailableMethodError: it cannot run here.
    """
    if name == "homography-net" and weights is not None:
        from .homography_regression import HomographyNetMethod, load_weights

        return HomographyNetMethod(load_weights(weights))
    if name not in METHODS:
        raise InputError(
            f"No method of registration '{name}': choose from {', '.join(METHODS)};"
            " homography-net needs a file of weights."
        )
    return METHODS[name]()


def as_homography(transform: Similarity) -> Matrix:
    """3×3 matrix of a similarity transform."""
    return np.vstack([transform.matrix(), (0, 0, 1)])


def within(
    hypotheses: Sequence[Hypothesis], prior: Prior, picture0: Picture, picture1: Picture
) -> list[Hypothesis]:
    """Those of the hypotheses that the prior allows."""
    return [h for h in hypotheses if prior.allows(h.matrix, picture0.shape, picture1.shape)]


def from_matches(matches: Matches, name: str, shape1: tuple[int, int]) -> Hypothesis | None:
    """The similarity transform of most of the correspondences; its score is the sum of theirs."""
    threshold = THRESHOLD * math.hypot(*shape1) / 800
    found = estimate(matches[0], matches[1], model="similarity", threshold=threshold)
    if found is None or found.inliers.sum() < 4:
        return None
    return Hypothesis(found.matrix, name, float(matches[2][found.inliers].sum()), matches)


def ecc(picture0: Picture, picture1: Picture, matrix: Matrix, size: int) -> Hypothesis | None:
    """Improve a transform by an affine one in the frame of image 1, or None where that does not converge.

    Args:
        picture0, picture1: the pictures.
        matrix: 3×3, pixel of image 0 → pixel of image 1.
        size: longest side at which they are compared, pixels.
    """
    small1 = picture1.resized(min(1.0, size / max(picture1.shape)))
    to_small = resizing(picture1.shape, small1.shape)
    placed = picture0.warped(to_small @ matrix, small1.shape)
    if not placed.exists.any():
        return None
    images = [_magnitude(p) for p in (small1, placed)]
    mask = (placed.exists & small1.exists).astype(np.uint8)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ECC_STEPS, 1e-5)
    try:  # from the pixels of image 1 to those of the warped image 0
        score, warp = cv2.findTransformECC(
            images[0], images[1], np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, criteria, mask, 5
        )
    except cv2.error:  # it has no minimum near by
        return None
    moved = np.linalg.inv(np.vstack([warp.astype(float), (0, 0, 1)]))
    return Hypothesis(np.linalg.inv(to_small) @ moved @ to_small @ matrix, "ecc", float(score))


def match_gradients(image0: np.ndarray, image1: np.ndarray) -> Matches:
    """The gradient search in the form of a matcher: its transform on a grid of points, score the correlation.

    Args:
        image0, image1: H×W uint8.
    """
    found = search(image_picture(image0), image_picture(image1))[0]
    height, width = image0.shape
    grid = np.stack(np.meshgrid(np.arange(0, width, GRID_STEP), np.arange(0, height, GRID_STEP)), -1)
    points0 = grid.reshape(-1, 2).astype(float)
    return points0, transform_points(found.matrix(), points0), np.full(len(points0), max(found.score, 0.0))


def _magnitude(picture: Picture) -> np.ndarray:
    smooth = cv2.GaussianBlur(picture.grey().astype(np.float32), (0, 0), 1.5)
    gx, gy = cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    return np.sqrt(cv2.magnitude(gx, gy))


def _match_placed(
    method: KDMambaMethod, picture0: Picture, picture1: Picture, prior: Prior
) -> list[Hypothesis]:
    expected = prior.similarity(picture0.shape, picture1.shape)
    rotations = 8 if prior.max_rotation > 30 else 1
    scales = (0.6, 1.0, 1.6) if prior.max_scale > 1.35 else (1.0,)
    if prior.matrix is not None and rotations == 1:
        # As the prior says, at the scale of the coarser picture.
        factor = min(1.0, 1 / expected.scale)
        small1 = picture1.resized(factor)
        to_small = resizing(picture1.shape, small1.shape)
        placed = to_small @ as_homography(expected)
        first = picture0.warped(placed, small1.shape)
        points0, points1, scores = method.match(first, small1, rotations, scales)
        points0 = transform_points(np.linalg.inv(placed), points0)
        matches = points0, transform_points(np.linalg.inv(to_small), points1), scores
    else:
        matches = method.match(picture0, picture1, rotations, scales)
    hypothesis = from_matches(matches, method.name, picture1.shape)
    return within([hypothesis] if hypothesis else [], prior, picture0, picture1)


@functools.lru_cache(maxsize=4)
def _kd_mamba(weights: str, rotations: int, scales: tuple[float, ...]) -> Any:
    from ...matchers.kd_mamba import KDMambaMatcher

    conf = {
        "weights": weights,
        "match_threshold": 0.05,
        "rotations": rotations,
        "scales": scales,
        "choice_size": 224,
        "tries": min(2, rotations * len(scales)),
        "resize_max": KD_MAMBA_SIZE,
    }
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return KDMambaMatcher(conf).to(device).eval()


def _kornia_loftr() -> Callable[[np.ndarray, np.ndarray], Matches]:
    """LoFTR of kornia, outdoor weights.

    Raises:
        UnavailableMethodError: its weights are not on this machine; nothing is downloaded.
    """
    from ...matchers.loftr import LoFTR
    from ...pretrained import WEIGHTS, checkpoint_path

    path = checkpoint_path(WEIGHTS["loftr-outdoor"])
    if not path.exists():
        url = WEIGHTS["loftr-outdoor"].urls[0]
        raise UnavailableMethodError(f"LoFTR needs its weights: download {url} as {path}.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = LoFTR({"weights": "outdoor"}).to(device).eval()

    @torch.no_grad()
    def match(image0: np.ndarray, image1: np.ndarray) -> Matches:
        tensors = [
            torch.from_numpy(np.ascontiguousarray(image)).to(device).float()[None, None] / 255
            for image in (image0, image1)
        ]
        found = network({"image0": tensors[0], "image1": tensors[1]})
        keypoints0, keypoints1, scores = (
            found[key].cpu().numpy().astype(float) for key in ("keypoints0", "keypoints1", "scores")
        )
        return keypoints0, keypoints1, scores

    return match
