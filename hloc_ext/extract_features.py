"""Extract local or global features of images into an HLOC feature file."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .confs import extractors as confs
from .errors import CorruptFileError, MissingInputError
from .formats.h5 import H5Writer, record_key
from .formats.images import exif_orientation, list_images, open_image, prefetch, read_image, resize_image
from .formats.lists import read_image_list
from .host import get_conf, load_model, set_options

logger = logging.getLogger(__name__)

#: Datasets that `as_half` stores as float16. Keypoints never: 16 bits step by a pixel above 1024.
HALF_KEYS = ("descriptors", "global_descriptor")

default_preprocessing: dict[str, Any] = {
    "grayscale": False,
    "resize_max": None,
    "resize_force": False,
    "interpolation": "cv2_area",
}


@dataclass
class PreparedImage:
    """An image as a network takes it.

    Attributes:
        tensor: 1×C×H×W float32 in [0, 1].
        original_size: (width, height) of the file, pixels.
    """

    tensor: torch.Tensor
    original_size: np.ndarray

    @property
    def scale(self) -> np.ndarray:
        """Pixels of the file per pixel of the tensor, along x and y, float32."""
        size = np.array(self.tensor.shape[:-3:-1])
        return (self.original_size / size).astype(np.float32)


def prepare_image(image: Path | str | np.ndarray, preprocessing: Mapping[str, Any]) -> PreparedImage:
    """Read and resize an image as HLOC does.

    Args:
        image: see :func:`~hloc_ext.formats.images.open_image`.
        preprocessing: ``grayscale``, ``resize_max`` (longest side, pixels), ``resize_force`` (also
            enlarge), ``interpolation``.

    Raises:
        MissingInputError, CorruptFileError: the file cannot be read.
        InputError: the array is no such image.
    """
    conf = {**default_preprocessing, **preprocessing}
    image = open_image(image, conf["grayscale"])
    image = image.astype(np.float32)
    size = image.shape[1::-1]
    if conf["resize_max"] and (conf["resize_force"] or max(size) > conf["resize_max"]):
        scale = conf["resize_max"] / max(size)
        width, height = (max(1, round(x * scale)) for x in size)
        image = resize_image(image, (width, height), conf["interpolation"])
    image = image[None] if conf["grayscale"] else image.transpose(2, 0, 1)
    return PreparedImage(torch.from_numpy(np.ascontiguousarray(image / 255.0))[None], np.array(size))


def resolve_image_names(image_dir: Path, image_list: Path | str | Sequence[str] | None) -> list[str]:
    """Names given by a list file, a pattern of list files, a sequence, or the folder itself.

    Raises:
        MissingInputError: the folder is absent or empty, or a listed image does not exist.
    """
    if image_list is None:
        return list_images(image_dir)
    if isinstance(image_list, (str, Path)):
        names = read_image_list(Path(image_list))
    else:
        names = list(dict.fromkeys(Path(name).as_posix() for name in image_list))
    missing = [name for name in names if not (Path(image_dir) / name).exists()]
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise MissingInputError(f"{len(missing)} listed image(s) are not in {image_dir}: {shown}")
    return names


def warn_about_orientation(image_dir: Path, names: Iterable[str]) -> list[str]:
    """Log, once, the images with an EXIF orientation, which COLMAP and HLOC ignore; return them."""
    rotated = [name for name in names if exif_orientation(Path(image_dir) / name) != 1]
    if rotated:
        logger.warning(
            "%d image(s) carry an EXIF orientation, which is ignored as in COLMAP and HLOC (for"
            " instance %s). They are seen rotated: turn the pixels upright beforehand for better matches.",
            len(rotated),
            rotated[0],
        )
    return rotated


def read_mask(mask_dir: Path, name: str) -> np.ndarray | None:
    """Mask of an image by COLMAP's convention ``mask_dir/NAME.png`` (0 = ignore), or None."""
    path = Path(mask_dir) / f"{name}.png"
    return read_image(path, grayscale=True) if path.exists() else None


def keypoints_in_mask(keypoints: np.ndarray, mask: np.ndarray, image_size: np.ndarray) -> np.ndarray:
    """Which keypoints lie on non-zero pixels of a mask.

    Args:
        keypoints: N×2 pixels, top-left pixel centre at (0, 0).
        mask: H×W; it may have another resolution than the image.
        image_size: (width, height) of the image, pixels.

    Returns:
        N booleans.
    """
    scale = np.array(mask.shape[::-1]) / image_size
    pixel = np.floor((keypoints + 0.5) * scale).astype(int)
    x, y = np.clip(pixel, 0, np.array(mask.shape[::-1]) - 1).T
    return mask[y, x] > 0


def to_record(
    prediction: Mapping[str, Any],
    image: PreparedImage,
    detection_noise: float,
    as_half: bool,
    mask: np.ndarray | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """Convert the output of an extractor to a record of a feature file, in pixels of the original image.

    Returns:
        Datasets, and the attributes of the datasets.
    """
    record = {key: value[0].detach().cpu().numpy() for key, value in prediction.items()}
    record["image_size"] = image.original_size
    attributes: dict[str, dict[str, Any]] = {}
    if "keypoints" in record:
        num_keypoints = len(record["keypoints"])
        keypoints = record["keypoints"].astype(np.float32)
        record["keypoints"] = (keypoints + np.float32(0.5)) * image.scale - np.float32(0.5)
        if "scales" in record:
            record["scales"] = record["scales"] * image.scale.mean()
        if mask is not None:
            keep = keypoints_in_mask(record["keypoints"], mask, image.original_size)
            for key, value in record.items():
                if key == "descriptors":
                    record[key] = value[:, keep]
                elif key not in ("image_size", "global_descriptor") and len(value) == num_keypoints:
                    record[key] = value[keep]
        attributes["keypoints"] = {"uncertainty": float(detection_noise * image.scale.mean())}
    for key in HALF_KEYS:
        if as_half and key in record and record[key].dtype == np.float32:
            record[key] = record[key].astype(np.float16)
    return record, attributes


def _fit_on_images(model: Any, vocabulary: Path, images: Iterator[torch.Tensor]) -> None:
    """Let a model that learns from the images themselves (VLAD) do so, once per feature file."""
    if vocabulary.exists():
        model.load(vocabulary)
        return
    logger.info("Training the vocabulary of this feature file on the images.")
    model.fit(images)
    model.save(vocabulary)


def _raise_unreadable(failures: dict[str, Exception], num_done: int, skip_unreadable: bool) -> None:
    if not failures:
        return
    lines = "\n".join(f"  {error}" for error in failures.values())
    text = (
        f"{len(failures)} image(s) could not be read; features of the other {num_done} are stored:\n{lines}"
    )
    if not skip_unreadable:
        raise CorruptFileError(text)
    logger.warning(text)


@torch.no_grad()
def main(
    conf: Mapping[str, Any],
    image_dir: Path,
    export_dir: Path | None = None,
    as_half: bool = True,
    image_list: Path | str | Sequence[str] | None = None,
    feature_path: Path | None = None,
    overwrite: bool = False,
    mask_dir: Path | None = None,
    skip_unreadable: bool = False,
    num_workers: int | None = None,
) -> Path:
    """Extract features of all images that the feature file does not hold yet.

    Args:
        conf: extractor configuration; see :mod:`hloc_ext.confs`.
        image_dir: folder of the images.
        export_dir: folder of the feature file; its name is ``conf["output"] + ".h5"``.
        as_half: store descriptors as float16 (keypoints are always float32).
        image_list: list file, pattern of list files, or names; default all images in `image_dir`.
        feature_path: the feature file, instead of `export_dir`.
        overwrite: extract again what the file holds.
        mask_dir: folder of masks ``NAME.png``; keypoints on black pixels are dropped.
        skip_unreadable: warn about unreadable images instead of raising after all others are done.
        num_workers: threads; default the number of processors.

    Returns:
        Path of the feature file.

    Raises:
        MissingInputError: no images.
        CorruptFileError: unreadable images; the features of all others are stored.
    """
    conf = get_conf("extractors", conf)
    image_dir = Path(image_dir)
    if feature_path is None:
        if export_dir is None:
            raise MissingInputError("Give `export_dir` or `feature_path`.")
        feature_path = Path(export_dir) / f"{conf['output']}.h5"
    names = resolve_image_names(image_dir, image_list)
    workers = num_workers or os.cpu_count() or 1
    with H5Writer(feature_path) as writer:
        todo = [name for name in names if overwrite or name not in writer]
        if not todo:
            logger.info("All %d images are in %s.", len(names), feature_path)
            return feature_path
        logger.info("Extracting '%s' of %d images to %s.", conf["output"], len(todo), feature_path)
        warn_about_orientation(image_dir, todo)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_model("extractors", conf).to(device)
        if getattr(model, "needs_fit", False):
            vocabulary = feature_path.with_suffix(".vocabulary.safetensors")
            if not vocabulary.exists() and not writer.names <= {record_key(name) for name in todo}:
                raise MissingInputError(
                    f"{feature_path} holds features made with the vocabulary {vocabulary}, which is gone:"
                    " bring it back, or delete the feature file and extract all images again."
                )
            _fit_on_images(model, vocabulary, _readable(image_dir, todo, conf["preprocessing"]))
        failures: dict[str, Exception] = {}
        extract = _extraction(model, device, image_dir, conf, as_half, mask_dir)
        progress = tqdm(total=len(todo), desc=conf["output"])
        for name, outcome in zip(todo, extract(todo, workers), strict=True):
            if isinstance(outcome, Exception):
                failures[name] = outcome
            else:
                writer.write(name, *outcome)
            progress.update()
        progress.close()
    _raise_unreadable(failures, len(todo) - len(failures), skip_unreadable)
    return feature_path


def _readable(image_dir: Path, names: list[str], preprocessing: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    for name in names:
        try:
            yield prepare_image(image_dir / name, preprocessing).tensor
        except CorruptFileError:
            continue  # reported by the extraction itself


def _groups(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Split `items` into lists of `size`; the last one may be shorter."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def _extraction(
    model: Any,
    device: torch.device,
    image_dir: Path,
    conf: Mapping[str, Any],
    as_half: bool,
    mask_dir: Path | None,
) -> Callable[[list[str], int], Iterator[Any]]:
    """Return a function that yields, per image, its record or the error of reading it.

    A thread-safe model runs in the threads that decode; any other runs here while they decode ahead. A model
    with a `batch_size` gets so many images at once, which its method `prepare` (N×C×H×W of any size to one
    fixed size) makes alike. A model that `takes_names` also gets ``name``, the list of their names.
    """
    noise = getattr(model, "detection_noise", 1.0)
    thread_safe = getattr(model, "thread_safe", False) and device.type == "cpu"
    batch_size = getattr(model, "batch_size", 1)

    def read(name: str) -> Any:
        try:
            mask = read_mask(mask_dir, name) if mask_dir else None
            image = prepare_image(image_dir / name, conf["preprocessing"])
        except CorruptFileError as error:
            return error
        if batch_size > 1:
            image = PreparedImage(model.prepare(image.tensor), image.original_size)
        return name, image, mask

    def run(loaded: list[Any]) -> Iterator[Any]:
        readable = [item for item in loaded if not isinstance(item, Exception)]
        prediction: Mapping[str, Any] = {}
        if readable:
            tensor = torch.cat([image.tensor for _, image, _ in readable])
            data: dict[str, Any] = {"image": tensor.to(device, non_blocking=True)}
            if getattr(model, "takes_names", False):
                data["name"] = [name for name, _, _ in readable]
            with torch.inference_mode():
                prediction = model(data)
        number = 0
        for item in loaded:
            if isinstance(item, Exception):
                yield item
                continue
            _, image, mask = item
            own = {key: value[number : number + 1] for key, value in prediction.items()}
            yield to_record(own, image, noise, as_half, mask)
            number += 1

    def extract(names: list[str], workers: int) -> Iterator[Any]:
        if thread_safe:
            return prefetch(lambda name: next(run([read(name)])), names, workers, 2 * workers)
        # The next batch is decoded while one is in the network.
        loaded = prefetch(read, names, workers, 2 * workers + batch_size - 1)
        return (outcome for group in _groups(loaded, batch_size) for outcome in run(group))

    return extract


def _option(text: str) -> tuple[str, Any]:
    """Parse ``KEY=VALUE``; the value is JSON, or else plain text."""
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def build_parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(prog="python -m hloc_ext extract_features", description=__doc__)
    parser.add_argument("--image_dir", type=Path, required=True)
    parser.add_argument("--export_dir", type=Path)
    parser.add_argument("--feature_path", type=Path)
    parser.add_argument("--conf", default="sift", help=f"{', '.join(confs)}, or a conf of HLOC")
    parser.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the conf's model, e.g. weights=FILE; may be repeated",
    )
    parser.add_argument("--image_list", type=Path, help="list of image names, or a quoted pattern of lists")
    parser.add_argument("--as_half", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--mask_dir", type=Path)
    parser.add_argument("--skip_unreadable", action="store_true")
    parser.add_argument("--num_workers", type=int)
    parser.add_argument("--overwrite", action="store_true")
    return parser


def cli(argv: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    args = vars(build_parser().parse_args(argv))
    conf = get_conf("extractors", args.pop("conf"))
    set_options("extractors", conf, dict(args.pop("option")))
    main(conf, **args)


if __name__ == "__main__":
    cli()
