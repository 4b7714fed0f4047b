"""Images as semi-dense matchers take them: prepared as in HLOC, decoded once for many pairs."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from .errors import InputError
from .extract_features import read_mask
from .formats.images import read_image, resize_image
from .formats.pairs import Pair

default_preprocessing: dict[str, Any] = {"grayscale": True, "resize_max": 1024, "dfactor": 8}


@dataclass(frozen=True)
class PairImage:
    """An image as a semi-dense matcher takes it.

    Attributes:
        tensor: C×H×W float32 in [0, 1], H and W divisible by ``dfactor``.
        original_size: (width, height) of the file, pixels.
        mask: H×W uint8 of any resolution, 0 = ignore; or None.
    """

    tensor: torch.Tensor
    original_size: np.ndarray
    mask: np.ndarray | None = None

    @property
    def num_bytes(self) -> int:
        """Memory of the image and its mask."""
        return self.tensor.nbytes + (0 if self.mask is None else self.mask.nbytes)

    def to_original(self, keypoints: np.ndarray) -> np.ndarray:
        """Scale positions in `tensor` to positions in the file; pixel centres are integers in both."""
        scale = (self.original_size / np.array(self.tensor.shape[:0:-1])).astype(np.float32)
        return (keypoints.astype(np.float32) + np.float32(0.5)) * scale - np.float32(0.5)


def prepare_pair_image(
    image_dir: Path, name: str, preprocessing: Mapping[str, Any], mask_dir: Path | None = None
) -> PairImage:
    """Read and resize an image as HLOC's dense matching does.

    Args:
        image_dir: folder of the images.
        name: image name.
        preprocessing: see :func:`to_pair_image`.
        mask_dir: folder of masks ``NAME.png``.

    Raises:
        CorruptFileError: the image or its mask cannot be decoded.
        InputError: the image is smaller than ``dfactor``.
    """
    conf = {**default_preprocessing, **preprocessing}
    image = read_image(Path(image_dir) / name, conf["grayscale"])
    mask = read_mask(mask_dir, name) if mask_dir else None
    return to_pair_image(image, name, preprocessing, mask)


def to_pair_image(
    image: np.ndarray, name: str, preprocessing: Mapping[str, Any], mask: np.ndarray | None = None
) -> PairImage:
    """Resize an image as HLOC's dense matching does.

    Args:
        image: H×W where ``grayscale``, otherwise H×W×3 (RGB), uint8.
        name: of the image, for messages.
        preprocessing: ``grayscale``, ``resize_max`` (longest side, pixels), ``dfactor`` (height and
            width are reduced to multiples of it).
        mask: kept as it is.

    Raises:
        InputError: the image is smaller than ``dfactor``.
    """
    conf = {**default_preprocessing, **preprocessing}
    image = image.astype(np.float32)
    original_size = np.array(image.shape[1::-1])
    if conf["resize_max"]:
        scale = conf["resize_max"] / max(original_size)
        if scale < 1.0:
            width, height = (round(x * scale) for x in original_size.tolist())
            image = resize_image(image, (max(width, 1), max(height, 1)), "cv2_area")
    image = image[None] if conf["grayscale"] else image.transpose(2, 0, 1)
    tensor = torch.from_numpy(np.ascontiguousarray(image / 255.0))
    factor = conf["dfactor"]
    height, width = (side // factor * factor for side in tensor.shape[-2:])
    if height == 0 or width == 0:
        raise InputError(
            f"Image {name} is too small for dense matching: {tuple(tensor.shape[:0:-1])} pixels after"
            f" resizing, at least {factor} each way are needed. Remove it from the list of pairs."
        )
    if (height, width) != tensor.shape[-2:]:
        tensor = interpolate(
            tensor[None], (height, width), mode="bilinear", align_corners=False, antialias=True
        )[0]
    return PairImage(tensor, original_size, mask)


class ImageCache:
    """Prepared images, each decoded once while it is among the most recently used ones.

    Several threads may ask for the same image; one of them decodes it.

    Args:
        image_dir: folder of the images.
        preprocessing: see :func:`prepare_pair_image`.
        mask_dir: folder of masks, or None.
        max_bytes: the least recently used images are dropped above this size.
    """

    def __init__(
        self, image_dir: Path, preprocessing: Mapping[str, Any], mask_dir: Path | None, max_bytes: int
    ) -> None:
        self._load = functools.partial(
            prepare_pair_image, image_dir, preprocessing=preprocessing, mask_dir=mask_dir
        )
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._images: OrderedDict[str, Future[PairImage]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> PairImage:
        """The image; an unreadable one raises the same error each time, without reading it again."""
        with self._lock:
            future = self._images.get(name)
            is_new = future is None
            if future is None:
                future = self._images[name] = Future()
            self._images.move_to_end(name)
        if is_new:
            try:
                image = self._load(name)
            except BaseException as error:
                future.set_exception(error)
                raise
            future.set_result(image)
            self._account(image)
        return future.result()

    def _account(self, image: PairImage) -> None:
        with self._lock:
            self._num_bytes += image.num_bytes
            for name in list(self._images):
                future = self._images[name]
                if self._num_bytes <= self._max_bytes or len(self._images) == 1:
                    break
                if future.done() and future.exception() is None:
                    self._num_bytes -= future.result().num_bytes
                    del self._images[name]


def order_for_reuse(pairs: Sequence[Pair]) -> list[Pair]:
    """Group pairs by their first image, and turn every other group round.

    Consecutive groups then share the images at their border, which are still in memory.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair[0], []).append(pair)
    return [pair for i, group in enumerate(groups.values()) for pair in (group[::-1] if i % 2 else group)]
