"""VLAD: a global descriptor of local RootSIFT features, without learned networks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch.nn.functional import normalize, one_hot

from .. import logger
from ..base_model import BaseModel
from ..errors import CorruptFileError, InputError, MissingInputError
from ..formats.atomic import write_bytes
from .sift import SIFT

DIM = 128
GENERIC_VOCABULARY = Path(__file__).parent.parent / "weights" / "vlad_rootsift.safetensors"
FIT = "fit"
#: Below so many descriptors per visual word k-means is unreliable (the bound of FAISS).
MIN_SAMPLES_PER_WORD = 39


class VLAD(BaseModel):
    """Vector of locally aggregated descriptors (Jégou et al., CVPR 2010) of RootSIFT.

    Residuals are summed for each visual word, the sum of each word is L2-normalised
    (intra-normalisation: Arandjelović & Zisserman, "All about VLAD", CVPR 2013), and so is the whole.
    The keypoints are upright, because photos of a map mostly are.

    The vocabulary is the generic one of the package; or a file (`vocabulary`); or, with
    ``vocabulary="fit"``, it is trained on the images by :meth:`fit`. Descriptors are comparable only
    if they were made with the same vocabulary, so queries of a fitted map need the file of the map.

    Input: ``image`` B×1×H×W. Output: ``global_descriptor`` B×(128 · words), unit norm.
    """

    default_conf: ClassVar[dict[str, Any]] = {
        "vocabulary": None,
        "num_words": 64,  # of a vocabulary that is fitted
        "max_keypoints": 1000,
        "options": {"first_octave": 0, "peak_threshold": 0.004, "upright": True},
        "samples_per_image": 200,
        "max_samples": 100_000,
        "seed": 0,
    }
    required_inputs: ClassVar[list[str]] = ["image"]
    #: `forward` may run in several threads at once.
    thread_safe = True
    words: torch.Tensor

    def _init(self, conf: dict[str, Any]) -> None:
        self.sift = SIFT({"options": conf["options"], "max_keypoints": conf["max_keypoints"]})
        self.register_buffer("words", torch.empty(0, DIM))
        self.needs_fit = conf["vocabulary"] == FIT
        if not self.needs_fit:
            self.load(conf["vocabulary"] or GENERIC_VOCABULARY)

    def local_descriptors(self, images: torch.Tensor) -> list[torch.Tensor]:
        """RootSIFT descriptors, one N×128 tensor for each image of a B×1×H×W batch."""
        return [self.sift({"image": image[None]})["descriptors"][0].T for image in images]

    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Train the vocabulary by k-means on a bounded, seeded sample of descriptors.

        Args:
            images: B×1×H×W tensors, float in [0, 1]. Too few of them (fewer than 39 descriptors for a
                word) leave the generic vocabulary.
        """
        # Each descriptor draws a number; those with the smallest ones are the sample.
        rng = np.random.default_rng(self.conf["seed"])
        sample, numbers = np.empty((0, DIM), np.float32), np.empty(0)
        for batch in images:
            for descriptors in self.local_descriptors(batch):
                chosen = np.sort(rng.permutation(len(descriptors))[: self.conf["samples_per_image"]])
                sample = np.concatenate([sample, descriptors[chosen].numpy()])
                numbers = np.concatenate([numbers, rng.random(len(chosen))])
                if len(sample) > 2 * self.conf["max_samples"]:
                    sample, numbers = self._smallest(sample, numbers)
        sample, numbers = self._smallest(sample, numbers)
        num_words = self.conf["num_words"]
        if len(sample) < MIN_SAMPLES_PER_WORD * num_words:
            logger.warning(
                "%d local descriptors are too few to train %d visual words: the generic vocabulary is used.",
                len(sample),
                num_words,
            )
            self.load(GENERIC_VOCABULARY)
        else:
            self._set_words(k_means(sample, num_words, self.conf["seed"]))
        self.needs_fit = False

    def _smallest(self, sample: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keep = np.sort(np.argsort(numbers, kind="stable")[: self.conf["max_samples"]])
        return sample[keep], numbers[keep]

    def _set_words(self, words: torch.Tensor) -> None:
        self.words = words.to(self.words.device, torch.float32)

    def save(self, path: Path) -> None:
        """Write the vocabulary (``words``, K×128 float16) to a safetensors file."""
        tensors = {"words": self.words.cpu().half().contiguous()}
        metadata = {"sift_options": json.dumps(self.conf["options"], sort_keys=True)}
        write_bytes(Path(path), safetensors.torch.save(tensors, metadata))
        # What is stored is rounded: use the same numbers as every later run.
        self._set_words(tensors["words"])

    def load(self, path: Path) -> None:
        """Read a vocabulary that :meth:`save` wrote.

        Raises:
            MissingInputError: no such file.
            CorruptFileError: not a safetensors file.
            InputError: not a vocabulary of RootSIFT.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingInputError(
                f"Vocabulary {path} does not exist: give a file, `{FIT}` to train one on the images, or"
                " nothing for the generic one."
            )
        try:
            tensors = safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise CorruptFileError(f"{path} is not a readable safetensors file ({error}).") from error
        words = tensors.get("words")
        if words is None or words.ndim != 2 or words.shape[1] != DIM or not len(words):
            found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            raise InputError(f"{path} is no VLAD vocabulary: expected `words` K×{DIM}, found {found}.")
        self._set_words(words)
        self.needs_fit = False

    def _forward(self, data: dict[str, Any]) -> dict[str, Any]:
        if self.needs_fit:
            raise InputError("The vocabulary of VLAD is neither fitted nor loaded: call `fit` or `load`.")
        descriptors = self.local_descriptors(data["image"])
        vectors = [aggregate(local.to(self.words.device), self.words) for local in descriptors]
        return {"global_descriptor": torch.stack(vectors)}


def aggregate(descriptors: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """VLAD with intra-normalisation of N×D descriptors for K×D visual words.

    Returns:
        Vector of K · D with unit norm; a constant one if there are no descriptors.
    """
    if not len(descriptors):
        return normalize(torch.ones(words.numel(), device=words.device), dim=0)
    # The nearest word maximises d·w − |w|²/2.
    nearest = (descriptors @ words.T - words.square().sum(1) / 2).argmax(1)
    assignment = one_hot(nearest, len(words)).to(descriptors)
    residuals = assignment.T @ descriptors - assignment.sum(0)[:, None] * words
    return normalize(normalize(residuals, dim=1).flatten(), dim=0)


def k_means(samples: np.ndarray, num_clusters: int, seed: int, num_iterations: int = 25) -> torch.Tensor:
    """Cluster centres of N×D float32 samples by FAISS, num_clusters×D."""
    import faiss

    clustering = faiss.Kmeans(
        samples.shape[1],
        num_clusters,
        niter=num_iterations,
        seed=seed,
        max_points_per_centroid=len(samples),
    )
    clustering.train(np.ascontiguousarray(samples, np.float32))
    return torch.tensor(clustering.centroids)
