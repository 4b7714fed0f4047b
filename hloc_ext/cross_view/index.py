"""A gallery of satellite tiles on disk: their descriptors in an index of FAISS, their places in a JSON file.

The folder of an index holds

    tiles.faiss   descriptors (:func:`hloc_ext.search.build_index`)
    tiles.json    names of the tiles, latitude and longitude, width in metres, class maps, and what the
                  descriptors were made with

so that queries need neither the tiles nor the network that described them, only the one of the panoramas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorruptFileError, InputError, MissingInputError
from ..formats.atomic import make_dir, read_text, replacing, write_text
from ..search import MIN_IVFPQ_SIZE, build_index

INDEX_NAME, TABLE_NAME = "tiles.faiss", "tiles.json"
KINDS = ("flat", "ivfpq")
_FORMAT = "hloc_ext cross-view index 1"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TileTable:
    """What is known of the R tiles of a gallery.

    Attributes:
        names: files, relative to `root`, with forward slashes.
        latlon: (R, 2) latitude and longitude of the centres, WGS84 degrees, NaN unknown.
        size: (R,) width on the ground, metres, NaN unknown.
        labels: class map of each tile relative to `root`, None without.
        root: folder of the tiles when the index was made; only pictures and class maps are read from it.
        about: what the descriptors were made with; queries must agree, see :meth:`CrossViewIndex.check`.
    """

    names: Sequence[str]
    latlon: Floats
    size: Floats
    labels: Sequence[str | None]
    root: Path
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.latlon), len(self.size), len(self.labels)}
        if len(lengths) != 1 or np.shape(self.latlon) != (len(self.names), 2):
            raise InputError(f"Names, places, sizes and labels of tiles differ in number: {sorted(lengths)}.")

    def __len__(self) -> int:
        return len(self.names)

    def path(self, tile: int) -> Path:
        """File of a tile."""
        return self.root / self.names[tile]

    def label_path(self, tile: int) -> Path | None:
        """File of the class map of a tile."""
        label = self.labels[tile]
        return None if label is None else self.root / label


@dataclass(frozen=True)
class Retrieved:
    """The k most similar tiles of Q queries.

    Attributes:
        tiles: (Q, k) int64, best first.
        scores: (Q, k) float32 cosine similarity.
        turns: (Q, k) which of the T descriptors of the query was the most similar one; 0 where there is one.
    """

    tiles: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    turns: npt.NDArray[np.int64]


class CrossViewIndex:
    """Descriptors of tiles that can be searched, and what is known of the tiles.

    Args:
        table: of the tiles.
        index: FAISS index of their descriptors, in the same order.
        kind: of :data:`KINDS`.
    """

    def __init__(self, table: TileTable, index: Any, kind: str) -> None:
        self.table, self.index, self.kind = table, index, kind

    @classmethod
    def build(
        cls, table: TileTable, descriptors: npt.NDArray[np.float32], kind: str = "flat", seed: int = 0
    ) -> CrossViewIndex:
        """Index the tiles of a gallery.

        Args:
            table: of the tiles.
            descriptors: (R, D), unit length.
            kind: ``flat`` (exact), or ``ivfpq`` (approximate, about 1/32 of the memory).
            seed: of the training of ``ivfpq``.

        Raises:
            InputError: unknown kind, too few tiles for it, or descriptors of another number.
        """
        if kind not in KINDS:
            raise InputError(f"Unknown index '{kind}': choose one of {', '.join(KINDS)}.")
        if descriptors.ndim != 2 or len(descriptors) != len(table) or not len(table):
            raise InputError(f"Descriptors {descriptors.shape} do not belong to {len(table)} tiles.")
        if kind == "ivfpq" and len(table) < MIN_IVFPQ_SIZE:
            raise InputError(
                f"ivfpq needs {MIN_IVFPQ_SIZE} tiles to be trained, there are {len(table)}: use the exact"
                " `flat`."
            )
        return cls(table, build_index(descriptors.astype(np.float32, copy=False), kind, seed), kind)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def dim(self) -> int:
        """Numbers of a descriptor."""
        return int(self.index.d)

    def descriptors(self) -> npt.NDArray[np.float32]:
        """(R, D) descriptors of the tiles.

        Raises:
            InputError: the index does not hold them exactly (``ivfpq``).
        """
        if self.kind != "flat":
            raise InputError(f"An index `{self.kind}` is approximate: evaluate with `flat`.")
        return self.index.reconstruct_n(0, len(self))

    def check(self, about: Mapping[str, Any]) -> None:
        """Raise an error unless queries described by `about` can be compared with the tiles.

        Raises:
            InputError: a value of a key that both have differs.
        """
        for key, value in about.items():
            known = self.table.about.get(key)
            if known is not None and value is not None and known != value:
                raise InputError(
                    f"The index was made with {key} {known!r}, the queries with {value!r}: make the index"
                    " again with the weights of the queries (python -m pipelines.cross_view index)."
                )

    def search(self, queries: npt.NDArray[np.float32], k: int) -> Retrieved:
        """Find the most similar tiles.

        Args:
            queries: (Q, D), unit length; or (Q, T, D), descriptors for T possible headings.
            k: number of tiles; clipped to the number that there is.

        Raises:
            InputError: descriptors of another size, or k below 1.
        """
        if queries.ndim not in (2, 3) or queries.shape[-1] != self.dim or k < 1:
            raise InputError(
                f"Queries {queries.shape} and k = {k} do not fit an index of {self.dim} numbers: describe"
                " both views by networks that were trained together."
            )
        num, turns = len(queries), queries.shape[1] if queries.ndim == 3 else 1
        k = min(k, len(self))
        flat = np.ascontiguousarray(queries.reshape(num * turns, self.dim), np.float32)
        scores, tiles = self.index.search(flat, k)
        scores, tiles = scores.reshape(num, -1), tiles.reshape(num, -1)
        turn = np.broadcast_to(np.repeat(np.arange(turns), k), tiles.shape)
        found = [np.empty((num, k), dtype) for dtype in (np.int64, np.float32, np.int64)]
        for row in range(num):
            order = np.lexsort((tiles[row], -scores[row]))
            order = order[tiles[row][order] >= 0]
            _, first = np.unique(tiles[row][order], return_index=True)  # the best heading of each tile
            best = order[np.sort(first)[:k]]
            for values, target in zip((tiles, scores, turn), found, strict=True):
                target[row, : len(best)] = values[row, best]
        return Retrieved(*found)

    def save(self, folder: Path) -> Path:
        """Write the index; returns its folder.

        Raises:
            UnwritableError, DiskFullError: it cannot be written.
        """
        import faiss

        folder = make_dir(Path(folder))
        with replacing(folder / INDEX_NAME) as temporary:
            faiss.write_index(self.index, str(temporary))
        table = {
            "format": _FORMAT,
            "kind": self.kind,
            "root": self.table.root.as_posix(),
            "about": dict(self.table.about),
            "names": list(self.table.names),
            "latlon": _rows(self.table.latlon),
            "size": _rows(self.table.size),
            "labels": list(self.table.labels),
        }
        write_text(folder / TABLE_NAME, json.dumps(table, ensure_ascii=False) + "\n")
        return folder

    @classmethod
    def load(cls, folder: Path, root: Path | None = None) -> CrossViewIndex:
        """Read an index.

        Args:
            folder: of :meth:`save`.
            root: folder of the tiles, where they have moved.

        Raises:
            MissingInputError: there is none.
            CorruptFileError: a file is damaged, or the two do not belong to each other.
        """
        import faiss

        folder = Path(folder)
        for path in (folder / INDEX_NAME, folder / TABLE_NAME):
            if not path.exists():
                raise MissingInputError(
                    f"{path} does not exist: make the index with python -m pipelines.cross_view index."
                )
        try:
            content = json.loads(read_text(folder / TABLE_NAME))
            if content["format"] != _FORMAT:
                raise ValueError(f"its format is {content['format']!r}")
            table = TileTable(
                content["names"],
                np.array(content["latlon"], float).reshape(-1, 2),
                np.array(content["size"], float),
                content["labels"],
                Path(content["root"]) if root is None else Path(root),
                content["about"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptFileError(f"{folder / TABLE_NAME} is no table of tiles ({error}).") from error
        try:
            index = faiss.read_index(str(folder / INDEX_NAME))
        except RuntimeError as error:
            raise CorruptFileError(
                f"{folder / INDEX_NAME} is no index of FAISS, or truncated: make it again."
            ) from error
        if index.ntotal != len(table):
            raise CorruptFileError(
                f"{folder / INDEX_NAME} holds {index.ntotal} tiles, {TABLE_NAME} {len(table)}: make it again."
            )
        return cls(table, index, content["kind"])


def _rows(values: Floats) -> list[Any]:
    """Numbers for JSON, None for what is unknown."""
    return np.where(np.isfinite(values), values.astype(object), None).tolist()  # type: ignore[call-overload]
