"""Keypoints of images in feature files, to be searched by position."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from scipy.spatial import cKDTree

from .formats.features import FeatureReader, missing_record


class KeypointFiles:
    """Keypoints of images from several feature files, and a KD-tree per image.

    Args:
        paths: feature files; each image is taken from the first that holds it.
        max_trees: number of trees that are kept, the most recently used ones.
    """

    def __init__(self, paths: Iterable[Path], max_trees: int = 256) -> None:
        self._readers = [FeatureReader(path, max_cache_bytes=0) for path in paths]
        self.tree = functools.lru_cache(max_trees)(self._tree)

    def __enter__(self) -> KeypointFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.close()

    def __contains__(self, name: str) -> bool:
        return any(name in reader for reader in self._readers)

    def _tree(self, name: str) -> cKDTree:
        for reader in self._readers:
            if name in reader:
                return cKDTree(reader.keypoints(name).reshape(-1, 2))
        raise missing_record(self._readers[0].path, name, "keypoints")
