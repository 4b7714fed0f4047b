"""Match one query in memory with images of a map: by stored features, or semi-densely by their pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from scipy.spatial import cKDTree

from .dense_aggregation import Observations, aggregate, assign, nearest_keypoints
from .errors import MissingInputError
from .extract_features import prepare_image, to_record
from .formats.features import FeatureReader
from .formats.images import open_image
from .host import load_model
from .keypoint_files import KeypointFiles
from .match_dense import match_images
from .match_features import join_pair, to_tensors
from .pair_images import ImageCache, default_preprocessing, to_pair_image

#: Returns the image in grey (True) or colour, uint8.
Decoder = Callable[[bool], np.ndarray]


class QueryMatches(NamedTuple):
    """Keypoints of a query and their matches.

    Attributes:
        keypoints: N×2 float32, pixels.
        matches: for each map image M×2 indices (keypoint of the query, keypoint of the map image).
    """

    keypoints: np.ndarray
    matches: list[np.ndarray]


class QueryMatching(Protocol):
    """Matches queries with map images."""

    grayscale: bool  #: whether it looks at grey images

    def match(self, name: str, decode: Decoder, others: Sequence[str]) -> QueryMatches:
        """Match a query with map images given by their names."""


class FeatureMatching:
    """Local features of the query, matched with those that the map stores.

    Args:
        features: feature file of the map.
        feature_conf, matcher_conf: configurations.
        device: of the networks.

    Raises:
        MissingInputError: there is no such file.
    """

    def __init__(
        self,
        features: Path,
        feature_conf: dict[str, Any],
        matcher_conf: dict[str, Any],
        device: torch.device,
    ) -> None:
        self.grayscale = takes_grey(feature_conf)
        self._conf, self._device = feature_conf, device
        self._features = FeatureReader(features)
        self._extractor = load_model("extractors", feature_conf).to(device)
        self._matcher = load_model("matchers", matcher_conf).to(device)

    def match(self, name: str, decode: Decoder, others: Sequence[str]) -> QueryMatches:
        """Extract features and match them with those of each map image."""
        query = extract(self._extractor, self._conf, decode, self._device)
        return QueryMatches(query["keypoints"], [self._match(query, other) for other in others])

    def _match(self, query: dict[str, np.ndarray], other: str) -> np.ndarray:
        inputs = join_pair(to_tensors(query), to_tensors(self._features.record(other)), self._device)
        return pairs_of(self._matcher(inputs)["matches0"][0].cpu().numpy())


class DenseMatching:
    """Semi-dense matches of the query and map images, attached to the keypoints of the map.

    What the stages :func:`~hloc_ext.match_dense.main` does in localization, for one query.

    Args:
        features: feature file of the map: the keypoints that were made of its matches.
        matcher_conf: configuration of the matcher.
        image_dir: folder of the map images.
        device: of the network.
        image_cache_bytes: memory for decoded map images.

    Raises:
        MissingInputError: there is no such folder.
    """

    def __init__(
        self,
        features: Path,
        matcher_conf: dict[str, Any],
        image_dir: Path,
        device: torch.device,
        image_cache_bytes: int = 2**28,
    ) -> None:
        if not image_dir.is_dir():
            raise MissingInputError(
                f"{image_dir}, the folder of the map images, does not exist. The semi-dense matcher"
                f" '{matcher_conf['output']}' needs them: say where they are (`image_dir`)."
            )
        self._preprocessing = {**default_preprocessing, **matcher_conf["preprocessing"]}
        self.grayscale = bool(self._preprocessing["grayscale"])
        self._device, self._max_error = device, matcher_conf["max_error"]
        self._keypoints = KeypointFiles([features])
        self._images = ImageCache(image_dir, self._preprocessing, None, image_cache_bytes)
        self._matcher = load_model("dense_matchers", matcher_conf).to(device)

    def match(self, name: str, decode: Decoder, others: Sequence[str]) -> QueryMatches:
        """Match with each map image; the distinct positions in the query become its keypoints."""
        query = to_pair_image(decode(self.grayscale), name, self._preprocessing)
        records = [
            match_images(self._matcher, query, self._images.get(other), self._device) for other in others
        ]
        observations = [Observations(r["keypoints0"], r["scores"], 0.0, 0.0) for r in records]
        keypoints, _ = aggregate(observations)
        tree = cKDTree(keypoints)
        matches = []
        for record, other in zip(records, others, strict=True):
            index0, index1 = (
                nearest_keypoints(own, record[key], self._max_error)
                for own, key in ((tree, "keypoints0"), (self._keypoints.tree(other), "keypoints1"))
            )
            matches.append(pairs_of(assign(index0, index1, record["scores"], len(keypoints))[0]))
        return QueryMatches(keypoints, matches)


def pairs_of(matches0: np.ndarray) -> np.ndarray:
    """M×2 indices of matching keypoints from the match of each keypoint, −1 for none."""
    index = np.flatnonzero(matches0 > -1)
    return np.stack([index, matches0[index]], -1)


def takes_grey(conf: dict[str, Any]) -> bool:
    """Whether an extractor looks at grey images."""
    return bool(conf["preprocessing"].get("grayscale"))


def extract(model: Any, conf: dict[str, Any], decode: Decoder, device: torch.device) -> dict[str, np.ndarray]:
    """Features of one image, as the stage would store them."""
    prepared = prepare_image(decode(takes_grey(conf)), conf["preprocessing"])
    prediction = model({"image": prepared.tensor.to(device)})
    return to_record(prediction, prepared, getattr(model, "detection_noise", 1.0), as_half=True)[0]


def decoder(image: Path | str | np.ndarray) -> Decoder:
    """How to obtain the pixels of a file or an array; each form is decoded once, as the stages do."""
    return functools.cache(functools.partial(open_image, image))
