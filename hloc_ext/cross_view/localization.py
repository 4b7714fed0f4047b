"""From a panorama to a place on the map: the tile that it is found on, and its pose in that tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ..datasets.cross_view.geography import earth_centred
from ..datasets.cross_view.layout import CrossViewSet
from ..datasets.cross_view.pictures import MAKE_LABELS, read_label
from ..errors import InputError, MissingInputError
from ..formats import geojson
from ..models.bev import SSANetwork
from .descriptors import Condition, CrossViewNetworks, by_field_of_view, ground_images
from .index import CrossViewIndex, Retrieved, TileTable
from .pose import (
    TEMPERATURE,
    GroundPose,
    PoseScores,
    PoseSearch,
    pose_from_scores,
    predicted_bev,
    score_poses,
)

Floats = npt.NDArray[np.float64]

#: Where the header of weights has the temperature of poses.
POSE_TEMPERATURE = "pose_temperature"
# WGS84: equatorial radius in metres, and the square of the first eccentricity.
_RADIUS, _ECCENTRICITY2 = 6378137.0, 6.69437999014e-3


@dataclass(frozen=True)
class Localization:
    """Where a query was found.

    Attributes:
        name: of the picture, relative to the folder of the queries.
        tiles: (k,) names of the most similar tiles, best first.
        scores: (k,) cosine similarities.
        candidates: (k, 2) latitude and longitude of the tiles' centres, degrees, NaN unknown.
        latlon: (2,) of the camera: by its pose, otherwise the centre of the best tile; NaN unknown.
        heading: azimuth of the picture's centre column, degrees; NaN if neither given nor found.
        heading_from: ``given``, ``retrieval``, ``pose`` or empty.
        deviation: standard deviation of the position, metres (per axis, the larger one), NaN without a pose.
        pose: in the best tile, or None.
        error: metres between `latlon` and the true place, NaN unknown.
    """

    name: str
    tiles: Sequence[str]
    scores: npt.NDArray[np.float32]
    candidates: Floats
    latlon: Floats
    heading: float = float("nan")
    heading_from: str = ""
    deviation: float = float("nan")
    pose: GroundPose | None = None
    error: float = float("nan")

    def feature(self) -> dict[str, Any]:
        """A feature of GeoJSON (RFC 7946)."""
        places = zip(self.tiles, self.scores.tolist(), self.candidates.tolist(), strict=True)
        return geojson.point(
            self.latlon.tolist(),
            {
                "query": self.name,
                "tile": self.tiles[0],
                "score": float(self.scores[0]),
                "position_from": "tile" if self.pose is None else "pose",
                "heading": self.heading,
                "heading_from": self.heading_from,
                "deviation_m": self.deviation,
                "error_m": self.error,
                "candidates": [
                    {"tile": name, "score": score, "latitude": place[0], "longitude": place[1]}
                    for name, score, place in places
                ],
            },
        )


def localize(
    queries: CrossViewSet,
    retrieved: Retrieved,
    headings: Floats,
    given: Floats,
    table: TileTable,
    poses: Sequence[GroundPose | None] | None = None,
) -> list[Localization]:
    """Put together what was found.

    Args:
        queries: Q panoramas or photos.
        retrieved: their tiles.
        headings: (Q, T) that the descriptors suppose, of
            :class:`~hloc_ext.cross_view.descriptors.GroundDescriptors`.
        given: (Q,) headings that were given, NaN where none was.
        table: of the tiles.
        poses: in the best tile of each query, or None.
    """
    found = []
    for row, path in enumerate(queries.grounds):
        tiles = retrieved.tiles[row]
        heading, source = float(given[row]), "given"
        if not np.isfinite(heading):
            heading = float(headings[row, min(int(retrieved.turns[row, 0]), headings.shape[1] - 1)])
            source = "retrieval" if np.isfinite(heading) else ""
        place = Localization(
            path.relative_to(queries.root).as_posix() if path.is_relative_to(queries.root) else path.name,
            [table.names[tile] for tile in tiles],
            retrieved.scores[row],
            table.latlon[tiles],
            table.latlon[tiles[0]],
            heading,
            source,
        )
        pose = poses[row] if poses is not None else None
        if pose is not None:
            place = _with_pose(place, pose)
        found.append(replace(place, error=distance(place.latlon, queries.ground_latlon[row])))
    return found


def _with_pose(place: Localization, pose: GroundPose) -> Localization:
    axes = np.linalg.eigvalsh(pose.covariance[:2, :2])
    return replace(
        place,
        latlon=moved(place.latlon, pose.east, pose.north),
        heading=pose.heading if place.heading_from != "given" else place.heading,
        heading_from=place.heading_from if place.heading_from == "given" else "pose",
        deviation=float(np.sqrt(axes[-1])),
        pose=pose,
    )


def moved(latlon: npt.ArrayLike, east: float, north: float) -> Floats:
    """A place some metres away, on the ellipsoid WGS84; exact to a millimetre within 100 m.

    Args:
        latlon: (2,) degrees.
        east, north: metres.
    """
    latitude, longitude = np.asarray(latlon, float)
    sine = np.sin(np.radians(latitude))
    prime = _RADIUS / np.sqrt(1 - _ECCENTRICITY2 * sine**2)
    meridian = prime * (1 - _ECCENTRICITY2) / (1 - _ECCENTRICITY2 * sine**2)
    step = np.degrees([north / meridian, east / (prime * np.cos(np.radians(latitude)))])
    return np.array([latitude, longitude]) + step


def distance(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Metres between two places, (2,) degrees each; NaN where one is unknown."""
    return float(np.linalg.norm(np.subtract(*earth_centred(np.array([first, second], float)))))


def estimate_poses(
    networks: CrossViewNetworks,
    queries: CrossViewSet,
    tiles: npt.ArrayLike,
    table: TileTable,
    condition: Condition | None = None,
    search: PoseSearch | None = None,
    seed: int = 0,
) -> list[GroundPose | None]:
    """Find the pose of each camera in a tile, by the classes that its network draws around it.

    Args:
        networks: that of the ground view must draw bird's-eye views (SSA).
        queries: Q panoramas or photos.
        tiles: (Q,) tile of each.
        table: of the tiles, with class maps and sizes.
        condition: how the queries come. Known headings narrow the search.
        search: options of the search; its `heading` is set for each query. None: with the temperature that
            training has fitted.
        seed: of random headings; the same as that of the descriptors.

    Returns:
        Q poses; None for a tile without class map or size.

    Raises:
        InputError: the network draws nothing.
        MissingInputError: no tile has a class map.
    """
    search = search or PoseSearch(temperature=pose_temperature(networks))
    poses: list[GroundPose | None] = [None] * len(queries)
    for row, scores, _ in score_queries(networks, queries, tiles, table, condition, search, seed):
        poses[row] = pose_from_scores(scores, search.temperature)
    return poses


def score_queries(
    networks: CrossViewNetworks,
    queries: CrossViewSet,
    tiles: npt.ArrayLike,
    table: TileTable,
    condition: Condition | None = None,
    search: PoseSearch | None = None,
    seed: int = 0,
) -> Iterator[tuple[int, PoseScores, float]]:
    """Score the poses of each camera in a tile; arguments and errors are those of :func:`estimate_poses`.

    Yields:
        Query, its scores, and its true heading (degrees, NaN unknown); none for a tile without class map or
        size.
    """
    condition, search = condition or Condition(), search or PoseSearch()
    model = networks.models["ground"]
    network = model.net
    if not isinstance(network, SSANetwork):
        raise InputError(
            f"Poses need a network that draws bird's-eye views: {model.conf['weights']} is of the kind"
            f" {model.info.kind}. Train SSA (python -m hloc_ext.train configs/train/ssa_small.yaml)."
        )
    numbers = np.asarray(tiles, np.int64)
    if all(table.labels[tile] is None for tile in numbers):
        raise MissingInputError(f"None of the tiles has a class map, which poses need. {MAKE_LABELS}")
    side = network.config.bev.label_size
    for fov, rows in by_field_of_view(queries, condition.fov):
        images = ground_images(queries.subset(rows), model, fov, condition, seed)
        for number, row in enumerate(rows.tolist()):
            tile = int(numbers[row])
            label, size = read_tile_label(table, tile, side), float(table.size[tile])
            if label is None or not np.isfinite(size):
                continue
            sample = images[number]
            with torch.inference_mode():
                logits = network.bev(sample["image"][None].to(networks.device))[0]
            true_heading = float(sample["heading"])
            heading = true_heading if condition.heading_known else float("nan")
            options = replace(search, heading=heading if np.isfinite(heading) else None)
            drawn, visible = predicted_bev(logits, fov)
            yield row, score_poses(drawn, label, size, options, visible), true_heading


def pose_temperature(networks: CrossViewNetworks) -> float:
    """The temperature of poses that the weights of the ground view hold, or the default one."""
    return float(networks.models["ground"].info.about.get(POSE_TEMPERATURE, TEMPERATURE))


def read_tile_label(table: TileTable, tile: int, side: int) -> npt.NDArray[np.uint8] | None:
    """Class map of a tile, (side, side), classes at the centres of the cells; None if there is none.

    Raises:
        CorruptFileError: it is no PNG of classes, or has another shape than the tile.
    """
    path = table.label_path(tile)
    if path is None:
        return None
    label = read_label(path, table.path(tile))
    return np.asarray(cv2.resize(label, (side, side), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


@dataclass(frozen=True)
class PoseErrors:
    """Errors of the poses in given tiles.

    Attributes:
        metres: (Q,) distance from the true place in the tile, NaN without a pose.
        degrees: (Q,) difference of the headings, 0 to 180.
        normalised: (Q,) squared error of the position by its covariance (Mahalanobis); its mean is 2 where
            the covariance is right.
    """

    metres: Floats
    degrees: Floats
    normalised: Floats

    def row(self) -> dict[str, float | int]:
        """Number of poses, medians and means."""
        known = np.isfinite(self.metres)
        if not known.any():
            return {"poses": 0}
        metres, degrees = self.metres[known], self.degrees[known]
        return {
            "poses": int(known.sum()),
            "median m": float(np.median(metres)),
            "mean m": float(metres.mean()),
            "median °": float(np.median(degrees)),
            "mean °": float(degrees.mean()),
            "within 1 m": float((metres <= 1).mean() * 100),
            "within 5 m": float((metres <= 5).mean() * 100),
            "squared error / variance": float(self.normalised[known].mean()),
        }


def pose_errors(
    poses: Sequence[GroundPose | None], offsets: npt.ArrayLike, sizes: npt.ArrayLike, headings: npt.ArrayLike
) -> PoseErrors:
    """Compare poses in their true tiles with the truth.

    Args:
        poses: Q poses, or None.
        offsets: (Q, 2) of the cameras from the centres of the tiles, in widths of the tile: east and
            **south**.
        sizes: (Q,) widths of the tiles, metres.
        headings: (Q,) azimuths of the centre columns, degrees.
    """
    truth = np.asarray(offsets, float) * np.asarray(sizes, float)[:, None] * [1, -1]
    metres, degrees, normalised = (np.full(len(poses), np.nan) for _ in range(3))
    for row, (pose, place, heading) in enumerate(zip(poses, truth, np.asarray(headings, float), strict=True)):
        if pose is None:
            continue
        off = np.array([pose.east, pose.north]) - place
        metres[row] = np.linalg.norm(off)
        degrees[row] = abs((pose.heading - heading + 180) % 360 - 180)
        normalised[row] = off @ np.linalg.solve(pose.covariance[:2, :2], off)
    return PoseErrors(metres, degrees, normalised)


def table_of(pairs: CrossViewSet, about: dict[str, Any] | None = None) -> TileTable:
    """What is known of the tiles of a data set; names are relative to its folder where they lie in it."""

    def name(path: Any) -> str:
        inside = path.is_relative_to(pairs.root)
        return (path.relative_to(pairs.root) if inside else path.resolve()).as_posix()

    return TileTable(
        [name(path) for path in pairs.aerials],
        pairs.aerial_latlon,
        pairs.tile_size,
        [None if path is None else name(path) for path in pairs.aerial_labels],
        pairs.root,
        about or {},
    )


def build_index(
    networks: CrossViewNetworks, pairs: CrossViewSet, kind: str = "flat", seed: int = 0
) -> CrossViewIndex:
    """Describe the tiles of a data set and index them; see :meth:`CrossViewIndex.build`."""
    return CrossViewIndex.build(table_of(pairs, networks.about), networks.describe_tiles(pairs), kind, seed)
