"""Features of images that a pairwise matcher meets again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from .kd_mamba import ImageFeatures


class FeatureCache:
    """Features of the images that were used last, so that one that meets many others is encoded once.

    Images are recognised by their pixels: neither their names nor their place in memory, which may hold
    another image by then, are needed or trusted.

    Args:
        encode: B×1×H×W images, and B×1×H×W bool masks or None, to features.
        max_bytes: the least recently used features are dropped above this size; 0 keeps none.
    """

    def __init__(self, encode: Callable[[Tensor, Tensor | None], ImageFeatures], max_bytes: int) -> None:
        self._encode = encode
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[tuple, tuple[Tensor, ImageFeatures]] = OrderedDict()

    def encode(self, image: Tensor, mask: Tensor | None = None) -> ImageFeatures:
        """Features of a batch of images, from memory where they are there."""
        if not self._max_bytes:
            return self._encode(image, mask)
        each = [
            self._encode_one(image[i : i + 1], None if mask is None else mask[i : i + 1])
            for i in range(len(image))
        ]
        if len(each) == 1:
            return each[0]
        columns = zip(*each, strict=True)
        return ImageFeatures._make(None if column[0] is None else torch.cat(column) for column in columns)

    def _encode_one(self, image: Tensor, mask: Tensor | None) -> ImageFeatures:
        content = image if mask is None else image.masked_fill(~mask, -1.0)  # not a value of images
        key = (image.shape, image.dtype, image.device, mask is None, content.sum().item())
        entry = self._entries.get(key)
        if entry is not None and torch.equal(entry[0], content):
            self._entries.move_to_end(key)
            return entry[1]
        features = self._encode(image, mask)
        self._put(key, content.clone(), features)
        return features

    def _put(self, key: tuple, content: Tensor, features: ImageFeatures) -> None:
        if key in self._entries:
            self._num_bytes -= _num_bytes(*self._entries.pop(key))
        self._entries[key] = content, features
        self._num_bytes += _num_bytes(content, features)
        while self._num_bytes > self._max_bytes:
            _, dropped = self._entries.popitem(last=False)
            self._num_bytes -= _num_bytes(*dropped)


def of_each(features: ImageFeatures, function: Callable[[Tensor], Tensor]) -> ImageFeatures:
    """Apply a function to the tensors of features."""
    return ImageFeatures._make(None if tensor is None else function(tensor) for tensor in features)


def _num_bytes(content: Tensor, features: ImageFeatures) -> int:
    return content.nbytes + sum(tensor.nbytes for tensor in features if tensor is not None)
