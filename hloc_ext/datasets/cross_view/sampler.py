"""Batches of pairs that are hard to tell apart, without false negatives.

The batches of Sample4Geo (Deuser et al., ICCV 2023, "Hard Negative Sampling"): around each of some pairs that
are drawn, its nearest neighbours and some of the next ones. Beyond it: no two panoramas of a tile, and no
semi-positive tile of a panorama, in one batch; and no pair is lost, but for the last incomplete batch.
"""

from __future__ import annotations

from collections import Counter, deque

import numpy as np
import numpy.typing as npt

from ...errors import InputError
from .layout import CrossViewSet
from .neighbours import used_tiles

Indices = npt.NDArray[np.int64]

# First word of the seeds of what this module draws.
_BATCHES = 711
# Members of a batch that may make room for another pair.
_ATTEMPTS = 16


class NeighbourBatches:
    """Batches of an epoch; every pair occurs at most once in it.

    Args:
        pairs: of training.
        batch_size: B, pairs in a batch.
        neighbours: (N, K) tiles near or like that of each panorama, the best first, −1 for none
            (:mod:`~hloc_ext.datasets.cross_view.neighbours`); None draws all pairs at random.
        select: neighbours that join a pair that is drawn: the first half of them from the head of its list,
            the others from the rest at random. None: half a batch.
        seed: of all choices, together with the epoch.

    Raises:
        InputError: fewer pairs than one batch, or sizes that cannot be used.
    """

    def __init__(
        self,
        pairs: CrossViewSet,
        batch_size: int,
        neighbours: Indices | None = None,
        select: int | None = None,
        seed: int = 0,
    ) -> None:
        used_tiles(pairs)
        if not 1 <= batch_size <= len(pairs):
            raise InputError(
                f"Batches of {batch_size} cannot be made of {len(pairs)} pairs: use smaller ones."
            )
        if neighbours is not None and neighbours.shape[0] != len(pairs):
            raise InputError(f"{neighbours.shape[0]} lists of neighbours for {len(pairs)} pairs.")
        self.batch_size, self.neighbours, self.seed = batch_size, neighbours, seed
        self.select = batch_size // 2 if select is None else select
        self._tile: list[int] = pairs.positives.tolist()
        self._semi = [frozenset(row[row >= 0].tolist()) for row in pairs.semi_positives]
        self._members: dict[int, list[int]] = {}
        for pair, tile in enumerate(self._tile):
            self._members.setdefault(tile, []).append(pair)

    def __len__(self) -> int:
        """Number of batches of an epoch; fewer where pairs of the same tiles fit into no batch."""
        return len(self._tile) // self.batch_size

    def epoch(self, epoch: int) -> Indices:
        """Draw the batches of an epoch.

        Args:
            epoch: number, from 0.

        Returns:
            (num_batches, B) numbers of panoramas.
        """
        rng = np.random.default_rng([self.seed, _BATCHES, epoch])
        waiting = deque(rng.permutation(len(self._tile)).tolist())
        is_free = np.ones(len(self._tile), bool)
        batches: list[_Batch] = []
        while waiting:
            batches.append(self._fill(waiting, is_free, rng))
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [pair for batch in batches if len(batch) < self.batch_size for pair in batch.pairs]
        full += self._place(rest, full, rng)
        order = rng.permutation(len(full))
        return np.array([full[i].pairs for i in order], np.int64).reshape(len(full), self.batch_size)

    def _fill(self, waiting: deque[int], is_free: npt.NDArray[np.bool_], rng: np.random.Generator) -> _Batch:
        """A batch of pairs that wait, each with its neighbours; those that do not fit are the next ones."""
        batch = _Batch(self._tile, self._semi)
        refused = []
        while waiting and len(batch) < self.batch_size:
            pair = waiting.popleft()
            if not is_free[pair]:
                continue
            if not batch.fits(pair):
                refused.append(pair)
                continue
            self._take(batch, pair, is_free)
            for tile in self._draw(pair, rng):
                if len(batch) == self.batch_size:
                    break
                free = [p for p in self._members.get(tile, ()) if is_free[p] and batch.fits(p)]
                if free:
                    self._take(batch, free[int(rng.integers(len(free)))], is_free)
        waiting.extendleft(reversed(refused))
        return batch

    def _take(self, batch: _Batch, pair: int, is_free: npt.NDArray[np.bool_]) -> None:
        batch.add(pair)
        is_free[pair] = False

    def _draw(self, pair: int, rng: np.random.Generator) -> list[int]:
        """Tiles that join a pair."""
        if self.neighbours is None:
            return []
        tiles = self.neighbours[pair]
        tiles = tiles[tiles >= 0]
        head = min(self.select // 2, len(tiles))
        rest = rng.permutation(tiles[head:])[: self.select - head]
        return [*tiles[:head].tolist(), *rest.tolist()]

    def _place(self, rest: list[int], full: list[_Batch], rng: np.random.Generator) -> list[_Batch]:
        """Make batches of the pairs that fitted into none, by exchange with pairs of other batches."""
        made: list[_Batch] = []
        while len(rest) >= self.batch_size:
            batch = _Batch(self._tile, self._semi)
            left = []
            for pair in rest:
                if len(batch) == self.batch_size:
                    left.append(pair)
                elif batch.fits(pair):
                    batch.add(pair)
                elif (leaving := _exchange(pair, batch, [*full, *made], rng)) is not None:
                    batch.add(leaving)
                else:
                    left.append(pair)
            if len(batch) < self.batch_size:
                break
            made.append(batch)
            rest = left
        return made


class _Batch:
    """Pairs of which none is a false negative of another one."""

    def __init__(self, tile: list[int], semi: list[frozenset[int]]) -> None:
        self.pairs: list[int] = []
        self._tile, self._semi = tile, semi
        self._tiles: set[int] = set()
        self._forbidden: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.pairs)

    def fits(self, pair: int) -> bool:
        """Whether its tile shows no member's place, and no member's tile its own."""
        tile = self._tile[pair]
        if tile in self._tiles or self._forbidden[tile] > 0:
            return False
        return self._tiles.isdisjoint(self._semi[pair])

    def add(self, pair: int) -> None:
        self.pairs.append(pair)
        self._tiles.add(self._tile[pair])
        self._forbidden.update(self._semi[pair])

    def remove(self, pair: int) -> None:
        self.pairs.remove(pair)
        self._tiles.discard(self._tile[pair])
        self._forbidden.subtract(self._semi[pair])


def _exchange(pair: int, batch: _Batch, others: list[_Batch], rng: np.random.Generator) -> int | None:
    """Put a pair into one of the other batches; returns the one that leaves it and fits into `batch`."""
    for number in rng.permutation(len(others)):
        other = others[int(number)]
        for leaving in rng.permutation(other.pairs)[:_ATTEMPTS].tolist():
            if not batch.fits(leaving):
                continue
            other.remove(leaving)
            if other.fits(pair):
                other.add(pair)
                return leaving
            other.add(leaving)
    return None
