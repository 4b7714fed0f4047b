"""Which pictures a batch is made of: anchors, each followed by pictures that are easily taken for it.

The published training draws negatives with a probability that grows with their distance, from a table that is
never renewed, which favours easy ones (papers.md S3). Here they are the nearest in the current embedding.

An anchor is a row of a table (A, 2): number of its scene, -1 for the photos, and number of the picture in it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..datasets.covisibility import Overlap, hard_negatives
from ..datasets.places import PHOTOS, Indices
from ..errors import CorruptFileError, InputError
from ..formats.atomic import explaining, write_bytes

# First words of the seeds of what this module draws.
_BATCHES, _NEGATIVES = 691, 692


def mine_negatives(
    embeddings: Sequence[npt.ArrayLike],
    overlaps: Sequence[Overlap],
    anchors: Indices,
    count: int,
    seed: int,
    step: int,
) -> dict[int, Indices]:
    """Anchors that lie near each anchor though they show another place of its scene.

    Args:
        embeddings: (N, D) of the pictures of each scene.
        overlaps: of each scene.
        anchors: (A, 2).
        count: greatest number of negatives of an anchor.
        seed: of the draw among the nearest.
        step: of the training; another one draws others.

    Returns:
        Rows of `anchors` by row, for the anchors of scenes; none for an anchor without negatives.
    """
    row_of = {(int(scene), int(index)): row for row, (scene, index) in enumerate(anchors)}
    found: dict[int, Indices] = {}
    for scene, (rows, overlap) in enumerate(zip(embeddings, overlaps, strict=True)):
        own = int(np.random.default_rng([seed, _NEGATIVES, step, scene]).integers(2**31))
        nearest = hard_negatives(rows, overlap, count, own)
        for index, negatives in enumerate(nearest.tolist()):
            known = [row_of[scene, other] for other in negatives if (scene, other) in row_of]
            if (scene, index) in row_of:
                found[row_of[scene, index]] = np.array(known, np.int64)
    return found


def draw_batches(
    anchors: Indices,
    steps: range,
    batch_size: int,
    photo_share: float,
    seed: int,
    negatives: Mapping[int, Indices] | None = None,
) -> Indices:
    """Anchors of the batches of some steps.

    Args:
        anchors: (A, 2).
        steps: numbers of the batches; a batch depends on its own only.
        batch_size: anchors of each.
        photo_share: expected share of photos, where there are photos and scenes.
        seed: of the draw.
        negatives: of :func:`mine_negatives`; they fill the batch after their anchor.

    Returns:
        (len(steps), batch_size) rows of `anchors`.

    Raises:
        InputError: there is no anchor.
    """
    photos, places = (np.flatnonzero((anchors[:, 0] == PHOTOS) == of_photos) for of_photos in (True, False))
    if not len(anchors):
        raise InputError("There is no picture to train on: give scenes or photos.")
    share = photo_share if len(photos) and len(places) else float(len(places) == 0)
    batches = np.empty((len(steps), batch_size), np.int64)
    for batch, step in zip(batches, steps, strict=True):
        rng = np.random.default_rng([seed, _BATCHES, step])
        num_photos = int(rng.binomial(batch_size, share))
        chosen = rng.choice(photos, num_photos, replace=num_photos > len(photos)).tolist()
        while len(chosen) < batch_size:
            row = int(rng.choice(places))
            chosen += [row, *(negatives or {}).get(row, ())]
        batch[:] = chosen[:batch_size]
    return batches


class AnchorOrder:
    """The anchors of a training in a file, so that one that is resumed goes on with those that were drawn.

    Args:
        path: file, a NumPy array (M, B).
        batch_size: B.

    Raises:
        CorruptFileError: the file is not that of this training.
    """

    def __init__(self, path: Path, batch_size: int) -> None:
        self.path = path
        self.batches = np.empty((0, batch_size), np.int64)
        if not path.exists():
            return
        try:
            with explaining(path):
                stored = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise CorruptFileError(f"{path} is not a readable array: {error}. {_REMEDY}") from error
        if stored.ndim != 2 or stored.shape[1] != batch_size:
            raise CorruptFileError(f"{path} has shape {stored.shape}, expected M×{batch_size}. {_REMEDY}")
        self.batches = stored.astype(np.int64)

    def __len__(self) -> int:
        return len(self.batches)

    def extend(self, batches: Indices) -> None:
        """Add batches at the end, in the file too."""
        self.batches = np.concatenate([self.batches, batches])
        buffer = io.BytesIO()
        np.save(buffer, self.batches.astype(np.int32), allow_pickle=False)
        write_bytes(self.path, buffer.getvalue())


_REMEDY = "Remove it, and the checkpoint beside it, to start anew."
