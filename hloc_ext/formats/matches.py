"""HLOC match files: one HDF5 group per image pair.

Sparse: ``matches0`` (for each keypoint of image 0 the index of its match in image 1, or −1; int32 here,
int16 in HLOC) and ``matching_scores0``. Semi-dense matchers add ``keypoints0``, ``keypoints1`` (pixels,
top-left pixel centre at (0, 0)) and ``scores``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingInputError
from .h5 import open_h5, read_array


def names_to_pair(name0: str, name1: str, separator: str = "/") -> str:
    """HLOC's key of an image pair: slashes of the names become dashes."""
    return separator.join((name0.replace("/", "-"), name1.replace("/", "-")))


def check_pair_keys(names: Iterable[str]) -> None:
    """Refuse names that HLOC's pair key cannot tell apart (``a/b.jpg`` and ``a-b.jpg``).

    Raises:
        InputError: naming the two images.
    """
    owner: dict[str, str] = {}
    for name in names:
        other = owner.setdefault(name.replace("/", "-"), name)
        if other != name:
            raise InputError(
                f"Images '{other}' and '{name}' get the same key '{name.replace('/', '-')}' in HLOC's"
                " match files, so their matches would be mixed up. Rename one of them."
            )


def find_pair(fd, name0: str, name1: str) -> tuple[str, bool] | None:
    """Find a pair in an open match file, in either order and in HLOC's old key format.

    Returns:
        The key and whether the stored order is reversed, or None.
    """
    return next(((key, reverse) for key, reverse in _keys(name0, name1) if key in fd), None)


def _keys(name0: str, name1: str) -> Iterator[tuple[str, bool]]:
    """Keys under which a pair may be stored, and whether they mean the reversed order."""
    for separator in ("/", "_"):
        yield names_to_pair(name0, name1, separator), False
        yield names_to_pair(name1, name0, separator), True


class MatchReader:
    """Read matches through one open file handle.

    Args:
        path: match file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._fd = open_h5(self.path)

    def __enter__(self) -> MatchReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._fd.close()

    def has(self, name0: str, name1: str) -> bool:
        """Whether the pair is stored, in either order."""
        return find_pair(self._fd, name0, name1) is not None

    def get(self, name0: str, name1: str) -> tuple[np.ndarray, np.ndarray]:
        """Matches of a pair.

        Returns:
            M×2 int array of keypoint indices (image 0, image 1), and M scores.

        Raises:
            MissingInputError: the pair was not matched.
        """
        key, reverse, matches0 = self._find(name0, name1)
        matches = _pairs_of_indices(matches0, reverse)
        scores = read_array(self._fd, f"{key}/matching_scores0")
        if scores is None:
            return matches, np.ones(len(matches), np.float32)
        return matches, scores[matches[:, 1 if reverse else 0]]

    def indices(self, name0: str, name1: str) -> np.ndarray:
        """Matches of a pair as :meth:`get` returns them, without reading the scores."""
        _, reverse, matches0 = self._find(name0, name1)
        return _pairs_of_indices(matches0, reverse)

    def _find(self, name0: str, name1: str) -> tuple[str, bool, np.ndarray]:
        """Key of a pair, whether the stored order is reversed, and its ``matches0``."""
        for key, reverse in _keys(name0, name1):
            matches0 = read_array(self._fd, f"{key}/matches0")
            if matches0 is not None:
                return key, reverse, matches0
        raise MissingInputError(
            f"{self.path} has no matches of the pair ('{name0}', '{name1}'): it was written for"
            " another list of pairs, or matching was interrupted. Run the matching stage again"
            " with this list."
        )


def _pairs_of_indices(matches0: np.ndarray, reverse: bool) -> np.ndarray:
    """M×2 keypoint indices of the keypoints that are matched; columns exchanged if `reverse`."""
    index0 = np.flatnonzero(matches0 > -1)
    columns = (matches0[index0], index0) if reverse else (index0, matches0[index0])
    return np.stack(columns, -1).astype(np.int64, copy=False)


def get_matches(path: Path, name0: str, name1: str) -> tuple[np.ndarray, np.ndarray]:
    """Matches (M×2) and scores (M) of one pair (HLOC's ``get_matches``)."""
    with MatchReader(path) as reader:
        return reader.get(name0, name1)


def check_indices(matches: np.ndarray, num0: int, num1: int, where: str) -> None:
    """Raise InputError if a match points beyond the keypoints of its image.

    Args:
        matches: M×2 keypoint indices.
        num0, num1: numbers of keypoints of the two images.
        where: the file and pair, for the message.
    """
    if len(matches) and (matches[:, 0].max() >= num0 or matches[:, 1].max() >= num1):
        raise InputError(
            f"{where}: a match points to keypoint {tuple(matches.max(0))} but the images have"
            f" ({num0}, {num1}) keypoints: features and matches are from different runs. Match again"
            " with `--overwrite`."
        )
