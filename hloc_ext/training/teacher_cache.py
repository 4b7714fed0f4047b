"""A teacher's embeddings of all training images, in each way in which pairs are turned."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CorruptFileError, InputError
from ..extractors.cross_view_weights import image_sizes
from ..formats.atomic import explaining, write_bytes
from ..models.cross_view import VIEWS
from .cross_view_data import CrossViewData, embed_view

logger = logging.getLogger(__name__)

#: Ways in which pairs are turned: mirrored or not, by four quarters.
_GEOMETRIES = 8


class TeacherCache:
    """Embeddings of clean images by a frozen teacher, kept in a file; made if it is not there.

    Args:
        path: npz file.
        teacher: ``teacher(image, view)``.
        weights: file of the teacher, which the cache is tied to.
        data: training pairs.

    Raises:
        InputError: samples are turned in too many ways, or the file is of another teacher or other data.
        CorruptFileError: the file cannot be read.
    """

    def __init__(self, path: Path, teacher: nn.Module, weights: Path, data: CrossViewData) -> None:
        if data.config.unknown_heading:
            raise InputError(
                "cache_teacher=true: cameras that look anywhere cannot be cached; set"
                " data.unknown_heading=false or cache_teacher=false."
            )
        self.path = path
        pairs, config = data.training_pairs, data.config
        described = {
            "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "images": hashlib.sha256(
                "\n".join(file.name for file in [*pairs.grounds, *pairs.aerials]).encode()
            ).hexdigest(),
            "fov": config.fov,
        }
        self._embeddings = self._load(described)
        if not self._embeddings:
            teacher, sizes = teacher.eval(), image_sizes(teacher)
            geometries = range(_GEOMETRIES if config.augment else 1)
            logger.info("Describing the training images by the teacher, in %d ways.", len(geometries))
            for view in VIEWS:
                found = [
                    embed_view(teacher, pairs, view, sizes[view], config, geometry) for geometry in geometries
                ]
                self._embeddings[view] = torch.from_numpy(np.stack(found).astype(np.float16))
            self._save(described)

    def lookup(self, batch: dict[str, Tensor], view: str) -> Tensor:
        """Unit embeddings of a view of samples, B×D float32, on their device."""
        number = batch["pair" if view == "ground" else "tile"].cpu()
        found = self._embeddings[view][batch["geometry"].cpu(), number].float()
        return torch.nn.functional.normalize(found, dim=1).to(batch["pair"].device)

    def _load(self, described: dict[str, object]) -> dict[str, Tensor]:
        """What the file holds, nothing if there is none."""
        if not self.path.exists():
            return {}
        remedy = "Remove it; it is made anew."
        try:
            with explaining(self.path), np.load(self.path, allow_pickle=False) as file:
                stored = json.loads(str(file["described"]))
                found = {view: torch.from_numpy(file[view]) for view in VIEWS}
        except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise CorruptFileError(f"{self.path} is no readable cache: {error}. {remedy}") from error
        if stored != described:
            raise InputError(f"{self.path} is of another teacher, or of other images. {remedy}")
        return found

    def _save(self, described: dict[str, object]) -> None:
        buffer = io.BytesIO()
        ground, aerial = (self._embeddings[view].numpy() for view in VIEWS)
        np.savez(buffer, described=np.array(json.dumps(described)), ground=ground, aerial=aerial)
        write_bytes(self.path, buffer.getvalue())
