"""Alignment of a reconstruction from scratch with true poses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycolmap

from ..errors import ReconstructionError
from ..formats.colmap import projection_centers, registered_poses
from .names import match_names

Poses = Mapping[str, pycolmap.Rigid3d]


@dataclass(frozen=True)
class Alignment:
    """Similarity between a model and its reference.

    Attributes:
        reference_from_model: maps model coordinates to those of the reference.
        residuals: distance of the camera centres after alignment by image name, units of the reference.
    """

    reference_from_model: pycolmap.Sim3d
    residuals: dict[str, float]

    @property
    def rms(self) -> float:
        """Root of the mean square of all residuals, units of the reference."""
        return float(np.sqrt(np.mean(np.square(list(self.residuals.values())))))

    def apply(self, poses: Poses) -> dict[str, pycolmap.Rigid3d]:
        """Poses (world→camera) of the model in the frame of the reference."""
        return {name: self.reference_from_model.transform_camera_world(pose) for name, pose in poses.items()}


def align_to(
    model: pycolmap.Reconstruction | Poses,
    reference: pycolmap.Reconstruction | Poses,
    max_error: float | None = None,
    seed: int = 0,
) -> Alignment:
    """Align a model from scratch with true poses by the camera centres of their common images.

    Args:
        model: reconstruction, or poses (world→camera) by image name; it is not changed.
        reference: true model or poses.
        max_error: with a distance in units of the reference the similarity is estimated by RANSAC and
            cameras farther off have no influence on it; without, by least squares over all (Umeyama,
            PAMI 1991). The residuals are of all common images in both cases.
        seed: of RANSAC.

    Returns:
        The similarity and its residuals.

    Raises:
        ReconstructionError: fewer than three common images, or their centres lie on a line.
    """
    poses, true = (
        registered_poses(m) if isinstance(m, pycolmap.Reconstruction) else dict(m) for m in (model, reference)
    )
    names = match_names(poses, true)
    source = projection_centers({name: poses[name] for name in names})
    target = projection_centers({name: true[names[name]] for name in names})
    if len(names) < 3:
        raise ReconstructionError(
            f"The model ({len(poses)} images) and the reference ({len(true)}) have {len(names)} images in"
            " common: a similarity needs three. Check that both name their images alike."
        )
    if max_error is None:
        similarity = pycolmap.estimate_sim3d(source, target)
    else:
        options = pycolmap.RANSACOptions(max_error=max_error, random_seed=seed)
        # The stubs of pycolmap name the wrong return type.
        estimate: Any = pycolmap.estimate_sim3d_robust(source, target, options)
        similarity = estimate["tgt_from_src"] if estimate else None
    if similarity is None:
        raise ReconstructionError(
            f"No similarity aligns the camera centres of the {len(names)} common images: they coincide or"
            " lie on a line, or none fits the reference."
        )
    distances = np.linalg.norm(similarity * source - target, axis=1)
    return Alignment(similarity, dict(zip(names, distances.tolist(), strict=True)))
