"""Localize single images against a map in memory, without writing a file."""

from __future__ import annotations

import argparse
import copy
import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import torch

from .errors import CorruptFileError, InputError, MissingInputError
from .formats.atomic import write_text
from .formats.features import read_global_descriptors
from .formats.lists import parse_camera
from .formats.results import QueryResult, format_pose
from .host import load_model
from .localization_map import LocalizationMap
from .localize_sfm import localize_query
from .pose_estimation import EstimatorConf
from .query_matching import Decoder, DenseMatching, FeatureMatching, QueryMatching, decoder, extract

DESCRIPTION_NAME = "map.json"


@dataclass
class MapDescription:
    """What a map was made with; ``map.json`` of a map folder. Paths are relative to that folder.

    Attributes:
        sfm: folder of the COLMAP model.
        features: feature file of the map images.
        feature_conf, matcher_conf: configurations, as dictionaries; a semi-dense matcher has ``max_error``.
        global_descriptors: feature file with their global descriptors.
        retrieval_conf: configuration of the global descriptor.
        num_loc: map images to match a query with.
        estimator: fields of :class:`~hloc_ext.pose_estimation.EstimatorConf`.
        images: folder of the map images, which semi-dense matchers look at again.
    """

    sfm: str
    features: str
    feature_conf: dict[str, Any]
    matcher_conf: dict[str, Any]
    global_descriptors: str
    retrieval_conf: dict[str, Any]
    num_loc: int = 20
    estimator: dict[str, Any] = field(default_factory=dict)
    images: str | None = None

    def write(self, map_dir: Path) -> None:
        """Write ``map.json``."""
        write_text(Path(map_dir) / DESCRIPTION_NAME, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, map_dir: Path) -> MapDescription:
        """Read ``map.json``.

        Raises:
            MissingInputError: the folder holds none.
            CorruptFileError: it is not such a description.
        """
        path = Path(map_dir) / DESCRIPTION_NAME
        if not path.exists():
            raise MissingInputError(f"{map_dir} is no map: no {DESCRIPTION_NAME}. The pipelines write one.")
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise CorruptFileError(f"{path} does not describe a map: {error}.") from error


class Localizer:
    """Localize images one at a time against a map held in memory.

    Example:
        >>> localizer = Localizer("outputs/photos")
        >>> result = localizer.localize("query.jpg")
        >>> result.status, result.cam_from_world, result.num_inliers

    Args:
        map_dir: output folder of a pipeline (with ``map.json``).
        num_loc: map images to match with; default that of the map.
        image_dir: folder of the map images, if it is no longer where it was; a semi-dense matcher needs it.

    Raises:
        MissingInputError, CorruptFileError: the map is incomplete.
    """

    def __init__(
        self, map_dir: Path | str, num_loc: int | None = None, image_dir: Path | str | None = None
    ) -> None:
        self.map_dir = Path(map_dir)
        self.description = MapDescription.read(self.map_dir)
        self.num_loc = num_loc or self.description.num_loc
        try:
            self.conf = EstimatorConf(**self.description.estimator)
        except TypeError as error:
            path = self.map_dir / DESCRIPTION_NAME
            raise CorruptFileError(f"{path}: `estimator` has an unknown setting ({error}).") from error
        self.map = LocalizationMap.load(self.map_dir / self.description.sfm)
        descriptors_path = self.map_dir / self.description.global_descriptors
        descriptors = read_global_descriptors([descriptors_path], self.map.names)
        self._descriptors = torch.from_numpy(descriptors)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._matching = self._open_matching(image_dir)
        retriever: Any = load_model("extractors", self.description.retrieval_conf)
        if getattr(retriever, "needs_fit", False):
            retriever.load(descriptors_path.with_suffix(".vocabulary.safetensors"))
        self._retriever = retriever.to(self._device)

    def _open_matching(self, image_dir: Path | str | None) -> QueryMatching:
        about = self.description
        features = self.map_dir / about.features
        if "max_error" not in about.matcher_conf:
            return FeatureMatching(features, about.feature_conf, about.matcher_conf, self._device)
        if image_dir is None:
            if about.images is None:
                raise MissingInputError(
                    f"{self.map_dir / DESCRIPTION_NAME} does not say where the map images are, which the"
                    f" semi-dense matcher '{about.matcher_conf['output']}' needs: give `image_dir`."
                )
            image_dir = Path(os.path.normpath(self.map_dir / about.images))
        return DenseMatching(features, about.matcher_conf, Path(image_dir), self._device)

    @torch.no_grad()
    def localize(
        self,
        image: Path | str | np.ndarray,
        camera: pycolmap.Camera | None = None,
        name: str = "query",
        candidates: Collection[str] | None = None,
    ) -> QueryResult:
        """Pose of one image.

        Args:
            image: file, or uint8 array H×W×3 (RGB) or H×W.
            camera: intrinsics, of the size of the image. Without them the focal length is taken from
                EXIF, or estimated where there is none.
            name: name in the result, when `image` is an array.
            candidates: map images that may be retrieved (from a position prior, say), names that the map
                lacks are ignored; default all.

        Returns:
            Result with ``cam_from_world`` (world→camera), ``status``, ``num_inliers`` and more. A pose
            that fails the acceptance tests becomes a fallback: that of the best retrieved map image.

        Raises:
            MissingInputError, CorruptFileError: the image cannot be read.
            InputError: the camera is for another image size.
        """
        focal_unknown = False
        decode = decoder(image)
        height, width = decode(self._matching.grayscale).shape[:2]
        if isinstance(image, (str, Path)):
            name = Path(image).name
            if camera is None:
                camera, focal_unknown = camera_from_image(Path(image))
        if camera is None:
            camera, focal_unknown = default_camera(width, height), True
        if (camera.width, camera.height) != (width, height):
            raise InputError(
                f"'{name}' has {width}×{height} pixels, its camera is for {camera.width}×{camera.height}."
            )
        retrieved = self._retrieve(decode, candidates)
        keypoints, matches = self._matching.match(name, decode, [self.map.names[i] for i in retrieved])
        return localize_query(
            self.map,
            name,
            camera,
            keypoints,
            retrieved,
            matches,
            self.conf,
            focal_unknown=focal_unknown,
            where=f"the map {self.map_dir}",
        )[0]

    @torch.no_grad()
    def retrieve(self, image: Path | str | np.ndarray) -> list[int]:
        """Numbers of the map images most similar to a file or uint8 array, best first."""
        return self._retrieve(decoder(image))

    def _retrieve(self, decode: Decoder, candidates: Collection[str] | None = None) -> list[int]:
        record = extract(self._retriever, self.description.retrieval_conf, decode, self._device)
        similarity = self._descriptors @ torch.from_numpy(record["global_descriptor"]).float()
        order = torch.argsort(similarity, descending=True, stable=True).tolist()
        if candidates is not None:
            allowed = {self.map.index[name] for name in candidates if name in self.map.index}
            order = [number for number in order if number in allowed]
        return order[: self.num_loc]


def default_camera(width: int, height: int) -> pycolmap.Camera:
    """Camera of unknown focal length: COLMAP's guess of 1.2 times the longest side."""
    model = pycolmap.CameraModelId.SIMPLE_RADIAL
    focal_length = 1.2 * max(width, height)
    return pycolmap.Camera(
        model=model, width=width, height=height, params=[focal_length, width / 2, height / 2, 0.0]
    )


def camera_from_image(path: Path) -> tuple[pycolmap.Camera, bool]:
    """Camera of an image file from its size and EXIF focal length.

    Returns:
        The camera, and whether its focal length is only a guess.

    Raises:
        CorruptFileError: COLMAP cannot read the image; it knows fewer formats than OpenCV (no WebP).
    """
    try:
        camera = copy.copy(pycolmap.infer_camera_from_image(path))
    except (ValueError, RuntimeError) as error:
        raise CorruptFileError(
            f"COLMAP cannot read {path}: convert it to JPEG or PNG, or give its intrinsics (`--camera`)."
        ) from error
    return camera, not camera.has_prior_focal_length


def build_parser() -> argparse.ArgumentParser:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext localize", description=__doc__)
    parser.add_argument("map_dir", type=Path, help="output folder of a pipeline")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--camera", help="intrinsics of the images: 'MODEL width height params…'")
    parser.add_argument("--num_loc", type=int, help="map images to match with")
    parser.add_argument("--image_dir", type=Path, help="folder of the map images, if it has moved")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Print one line per image: pose (world→camera), status and inliers."""
    args = build_parser().parse_args(argv)
    camera = parse_camera(args.camera.split(), "--camera") if args.camera else None
    localizer = Localizer(args.map_dir, args.num_loc, args.image_dir)
    for path in args.images:
        result = localizer.localize(path, camera)
        pose = result.cam_from_world
        line = format_pose(result.name, pose) if pose is not None else result.name
        support = f"{result.num_inliers}/{result.num_matches} inliers, {format_camera_short(result)}"
        print(f"{line}  # {result.status.value}, {support}{', ' + result.reason if result.reason else ''}")


def format_camera_short(result: QueryResult) -> str:
    """Camera of a result, for a terminal line."""
    fields = result.camera.split()
    return " ".join([fields[0], *(f"{float(v):.6g}" for v in fields[1:])])


if __name__ == "__main__":
    cli()
