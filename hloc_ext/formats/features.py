"""HLOC feature files: one HDF5 group per image.

Local features: ``keypoints`` N×2 float32 (pixels of the original image, centre of the top-left pixel
is (0, 0)), ``descriptors`` D×N, ``scores`` N, ``image_size`` (width, height), and the attribute
``uncertainty`` of ``keypoints`` (pixels). Global features: ``global_descriptor`` D.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import CorruptFileError, InputError, MissingInputError
from .h5 import list_names, open_h5, read_array


def missing_record(path: Path, name: str, key: str) -> MissingInputError:
    """The error for an image that a feature file lacks."""
    return MissingInputError(
        f"{path} has no '{key}' of image '{name}': extract features for this image into this file,"
        " or remove it from the list."
    )


class FeatureReader:
    """Read records of a feature file through one open handle and a least-recently-used cache.

    Args:
        path: feature file.
        max_cache_bytes: arrays are dropped, oldest first, above this size.
    """

    def __init__(self, path: Path, max_cache_bytes: int = 2**30) -> None:
        self.path = Path(path)
        self._fd = open_h5(self.path)
        self._max_cache_bytes = max_cache_bytes
        self._cache: OrderedDict[tuple[str, str], np.ndarray] = OrderedDict()
        self._cache_bytes = 0

    def __enter__(self) -> FeatureReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, name: str) -> bool:
        return name in self._fd

    def close(self) -> None:
        """Close the file and forget the cache."""
        self._fd.close()
        self._cache.clear()
        self._cache_bytes = 0

    def get(self, name: str, key: str) -> np.ndarray:
        """Dataset `key` of image `name`, as stored (do not modify it: it is cached).

        Raises:
            MissingInputError: the image or the dataset is absent.
            CorruptFileError: the record cannot be read.
        """
        entry = (name, key)
        if entry in self._cache:
            self._cache.move_to_end(entry)
            return self._cache[entry]
        try:
            value = read_array(self._fd, f"{name}/{key}")
        except OSError as error:
            raise CorruptFileError(
                f"{self.path}: record '{name}' cannot be read ({error}). Delete the file and run again"
                " the stage that writes it."
            ) from error
        if value is None:
            raise missing_record(self.path, name, key)
        self._cache[entry] = value
        self._cache_bytes += value.nbytes
        while self._cache_bytes > self._max_cache_bytes and len(self._cache) > 1:
            self._cache_bytes -= self._cache.popitem(last=False)[1].nbytes
        return value

    def keys(self, name: str) -> list[str]:
        """Dataset names of image `name`."""
        if name not in self._fd:
            raise missing_record(self.path, name, "keypoints")
        return list(self._fd[name].keys())

    def record(self, name: str) -> dict[str, np.ndarray]:
        """All datasets of image `name`."""
        return {key: self.get(name, key) for key in self.keys(name)}

    def keypoints(self, name: str) -> np.ndarray:
        """Keypoints of image `name`, N×2 float32, top-left pixel centre at (0, 0)."""
        return np.asarray(self.get(name, "keypoints"), np.float32)

    def uncertainty(self, name: str) -> float:
        """Standard deviation of the keypoints of image `name` in pixels; 1 where not stored."""
        if name not in self._fd:
            raise missing_record(self.path, name, "keypoints")
        value = self._fd[name]["keypoints"].attrs.get("uncertainty")
        return 1.0 if value is None else float(value)


def get_keypoints(
    path: Path, name: str, return_uncertainty: bool = False
) -> np.ndarray | tuple[np.ndarray, float]:
    """Keypoints of one image, N×2 float32, top-left pixel centre at (0, 0) (HLOC's ``get_keypoints``)."""
    with FeatureReader(path) as features:
        keypoints = features.keypoints(name)
        return (keypoints, features.uncertainty(name)) if return_uncertainty else keypoints


def read_global_descriptors(
    paths: Sequence[Path], names: Iterable[str], dtype: np.dtype | type = np.float32
) -> np.ndarray:
    """Stack the global descriptors of `names`.

    Args:
        paths: feature files; each name is taken from the first file that holds it.
        names: image names.
        dtype: float32, or float16 to halve the memory.

    Returns:
        N×D array.

    Raises:
        MissingInputError: a name is in none of the files.
        InputError: the descriptors differ in size.
    """
    names = list(names)
    handles = [open_h5(path) for path in paths]
    try:
        output: np.ndarray | None = None
        for row, name in enumerate(names):
            found = (fd.get(f"{name}/global_descriptor") for fd in handles)
            descriptor = next((dataset for dataset in found if dataset is not None), None)
            if descriptor is None:
                raise missing_record(paths[0], name, "global_descriptor")
            if output is None:
                output = np.empty((len(names), descriptor.shape[-1]), dtype)
            if descriptor.shape != output.shape[1:]:
                raise InputError(
                    f"{descriptor.file.filename}: the global descriptor of '{name}' has shape"
                    f" {descriptor.shape}, expected {output.shape[1:]}: do not mix files of"
                    " different extractors."
                )
            output[row] = descriptor[()]
    finally:
        for fd in handles:
            fd.close()
    return np.zeros((0, 0), dtype) if output is None else output


def list_feature_names(paths: Iterable[Path]) -> dict[str, Path]:
    """Map each image name to the first of `paths` that holds it."""
    names: dict[str, Path] = {}
    for path in paths:
        for name in list_names(path):
            names.setdefault(name, path)
    return names
