"""Match two pictures and draw their matches, without a project around them."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import torch

from . import confs
from .errors import InputError
from .extract_features import prepare_image, to_record
from .formats.atomic import write_bytes
from .formats.images import open_image
from .host import get_conf, load_model
from .match_dense import match_images
from .match_features import join_pair, to_tensors
from .pair_images import default_preprocessing, to_pair_image
from .report.data import MatchPicture
from .report.match_picture import draw_matches, draw_scored_matches

Image = str | Path | np.ndarray
MAX_LINES = 300  # in a picture
INLIER_THRESHOLD = 3.0  # pixels, distance to the epipolar line


@torch.no_grad()
def match(
    image0: Image, image1: Image, matcher: str = "kd-mamba", features: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match two pictures.

    The images are resized as the configuration says; positions are pixels of the images as given. Models are
    kept for the next call. Where HLOC's files need the keypoints of one image on a grid, here those of both
    are refined.

    Args:
        image0, image1: files, or uint8 arrays H×W (grey) or H×W×3 (RGB). EXIF orientation is ignored.
        matcher: configuration of a semi-dense matcher (:data:`hloc_ext.confs.dense_matchers`, or one of
            HLOC); or, with `features`, of a sparse one (:data:`hloc_ext.confs.matchers`).
        features: extractor configuration, for instance ``sift`` with the matcher ``NN-ratio``.

    Returns:
        ``keypoints0``, ``keypoints1`` M×2 float32 (x, y in pixels, the centre of the top-left pixel is (0,
        0)) and ``scores`` M float32.

    Raises:
        InputError: an array of another type, or an unknown configuration.
        MissingInputError, CorruptFileError: a file, or the weights, cannot be read.

    Example:
        >>> keypoints0, keypoints1, scores = match("A.jpg", "B.jpg")
    """
    if features is None and matcher in confs.matchers:
        raise InputError(f"'{matcher}' matches extracted features: say which, for instance features='sift'.")
    if features is None:
        return _match_dense(image0, image1, matcher)
    return _match_sparse(image0, image1, matcher, features)


def _match_dense(image0: Image, image1: Image, matcher: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    conf, model, device = _load("dense_matchers", matcher)
    preprocessing = {**default_preprocessing, **conf["preprocessing"]}
    images = [
        to_pair_image(open_image(image, preprocessing["grayscale"]), name, preprocessing)
        for image, name in ((image0, "image0"), (image1, "image1"))
    ]
    record = match_images(model, images[0], images[1], device)
    return record["keypoints0"], record["keypoints1"], record["scores"]


def _match_sparse(
    image0: Image, image1: Image, matcher: str, features: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    conf, extractor, device = _load("extractors", features)
    _, model, _ = _load("matchers", matcher)
    records = []
    for image in (image0, image1):
        prepared = prepare_image(image, conf["preprocessing"])
        prediction = extractor({"image": prepared.tensor.to(device)})
        records.append(to_record(prediction, prepared, getattr(extractor, "detection_noise", 1.0), False)[0])
    prediction = model(join_pair(to_tensors(records[0]), to_tensors(records[1]), device))
    matches0 = prediction["matches0"][0].cpu().numpy()
    found = np.flatnonzero(matches0 > -1)
    scores = prediction["matching_scores0"][0].float().cpu().numpy()[found]
    return records[0]["keypoints"][found], records[1]["keypoints"][matches0[found]], scores


@functools.lru_cache(maxsize=8)
def _load(kind: str, name: str) -> tuple[dict[str, Any], Any, torch.device]:
    """Configuration and model, kept for the next pair."""
    conf = get_conf(kind, name)
    conf["model"].pop("moves", None)  # only HLOC's files need keypoints on a grid
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return conf, load_model(kind, conf).to(device), device


def epipolar_inliers(
    keypoints0: np.ndarray, keypoints1: np.ndarray, threshold: float = INLIER_THRESHOLD, seed: int = 0
) -> np.ndarray:
    """Matches that agree with one fundamental matrix (pycolmap's LO-RANSAC).

    Args:
        keypoints0, keypoints1: M×2 pixels.
        threshold: largest distance to the epipolar line, pixels.
        seed: of the sampling.

    Returns:
        M bool; none where no matrix is found.
    """
    options = pycolmap.RANSACOptions(max_error=threshold, random_seed=seed)
    result = None
    if len(keypoints0) >= 8:
        points = [np.asarray(k, float) + 0.5 for k in (keypoints0, keypoints1)]
        result = pycolmap.estimate_fundamental_matrix(points[0], points[1], options)
    return np.zeros(len(keypoints0), bool) if result is None else np.asarray(result["inlier_mask"], bool)


def build_parser() -> argparse.ArgumentParser:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext match", description=__doc__)
    parser.add_argument("image0", type=Path)
    parser.add_argument("image1", type=Path)
    parser.add_argument("--output", type=Path, help="picture of the matches, coloured by score (.png, .jpg)")
    parser.add_argument("--matcher", default="kd-mamba", help=f"{', '.join(confs.dense_matchers)}, …")
    parser.add_argument("--features", help="extractor for a sparse matcher: sift, with --matcher NN-ratio")
    parser.add_argument(
        "--show_inliers", action="store_true", help="green: agrees with one fundamental matrix; red: does not"
    )
    parser.add_argument("--max_lines", type=int, default=MAX_LINES, help="number of matches to draw")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Match two pictures, print how many matches there are, and draw them."""
    args = build_parser().parse_args(argv)
    points0, points1, scores = match(args.image0, args.image1, args.matcher, args.features)
    mean = f", mean score {scores.mean():.2f}" if len(scores) else ""
    print(f"{len(scores)} matches{mean}")
    best = np.argsort(-scores, kind="stable")[: args.max_lines]
    if args.show_inliers:
        inliers = epipolar_inliers(points0, points1)
        print(f"{inliers.sum()} of them within {INLIER_THRESHOLD:g} pixels of one epipolar geometry")
    if args.output is None:
        return
    if args.show_inliers:
        title = f"{args.image0} – {args.image1}"
        picture = MatchPicture(title, args.image0, args.image1, points0[best], points1[best], inliers[best])
        canvas = draw_matches(picture, max_width=1600, max_lines=args.max_lines)
    else:
        canvas = draw_scored_matches(
            args.image0, args.image1, points0, points1, scores, max_lines=args.max_lines
        )
    write_picture(args.output, canvas)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an H×W×3 RGB uint8 image as the suffix says, atomically.

    Raises:
        InputError: OpenCV knows no such format.
    """
    try:
        _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise InputError(f"{path}: '{path.suffix}' is no format of pictures; use .png or .jpg.") from error
    write_bytes(path, data.tobytes())


if __name__ == "__main__":
    cli()
