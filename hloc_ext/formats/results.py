"""Estimated poses: the benchmark's text file and a JSON-lines log with what the text cannot say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from ..errors import InputError, MissingInputError
from .atomic import read_text, write_text
from .pairs import check_name


class Status(StrEnum):
    """What a pose is worth."""

    LOCALIZED = "localized"  #: estimated from 2D–3D matches and accepted by the tests
    FALLBACK = "fallback"  #: pose of the best retrieved map image; never counted as localized
    FAILED = "failed"  #: no pose


@dataclass
class QueryResult:
    """The outcome of one query; one line of the JSON-lines log.

    Attributes:
        name: query image.
        status: see :class:`Status`.
        qvec: unit quaternion (w, x, y, z), world→camera; None if failed.
        tvec: translation, world→camera, in units of the map.
        num_matches: 2D–3D matches given to the estimator.
        num_inliers: those within the threshold of the estimated pose.
        reprojection_error: median over the inliers, pixels.
        reason: why the query is not localized, in words.
        estimator: library, method and thresholds that produced the pose.
        camera: intrinsics used, ``MODEL width height params…``.
        retrieved: map images used, best first.
        num_inlier_cells: squares, of a 20th of the image's longest side, that hold an inlier of the estimate,
            believed or not.
        viewing_angle: median angle under which query and map images see the inlier points, degrees.
        num_rival_inliers: inliers of the best other pose among the remaining matches, where searched.
        num_inliers_rejected: inliers of an estimate that failed the acceptance tests.
        seconds: time of localization, without extraction and matching.
    """

    name: str
    status: Status
    qvec: list[float] | None = None
    tvec: list[float] | None = None
    num_matches: int = 0
    num_inliers: int = 0
    reprojection_error: float | None = None
    reason: str = ""
    estimator: dict[str, Any] = field(default_factory=dict)
    camera: str = ""
    retrieved: list[str] = field(default_factory=list)
    num_inlier_cells: int = 0
    viewing_angle: float | None = None
    num_rival_inliers: int = 0
    num_inliers_rejected: int = 0
    seconds: float = 0.0

    @property
    def inlier_ratio(self) -> float:
        """Share of the matches that are inliers."""
        return self.num_inliers / self.num_matches if self.num_matches else 0.0

    @property
    def cam_from_world(self) -> pycolmap.Rigid3d | None:
        """Pose, world→camera."""
        if self.qvec is None or self.tvec is None:
            return None
        w, x, y, z = self.qvec
        return pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([x, y, z, w])), np.array(self.tvec))

    def set_pose(self, cam_from_world: pycolmap.Rigid3d) -> None:
        """Store a pose, world→camera."""
        x, y, z, w = (float(v) for v in cam_from_world.rotation.quat)
        self.qvec = [w, x, y, z]
        self.tvec = [float(v) for v in cam_from_world.translation]


def format_pose(name: str, cam_from_world: pycolmap.Rigid3d) -> str:
    """``name qw qx qy qz tx ty tz``, world→camera."""
    x, y, z, w = (float(v) for v in cam_from_world.rotation.quat)
    numbers = [w, x, y, z, *(float(v) for v in cam_from_world.translation)]
    return f"{name} {' '.join(repr(v) for v in numbers)}"


def result_name(query: str, prepend_camera_name: bool = False) -> str:
    """Name of a query in the results file: its basename, optionally after its folder (``rear/1.jpg``)."""
    return "/".join(query.split("/")[-2:] if prepend_camera_name else query.split("/")[-1:])


def result_names(queries: Iterable[str], path: Path, prepend_camera_name: bool = False) -> dict[str, str]:
    """Names of the queries in the results file `path`, each with its query.

    Raises:
        InputError: two queries share the name that the benchmark allows, or a name holds white space.
    """
    owner: dict[str, str] = {}
    for query in queries:
        name = result_name(query, prepend_camera_name)
        check_name(name)
        if name in owner:
            raise InputError(
                f"Queries '{owner[name]}' and '{query}' would both be written as '{name}' to {path}:"
                " use `--prepend_camera_name`, or rename one."
            )
        owner[name] = query
    return owner


def write_poses(poses: Mapping[str, pycolmap.Rigid3d], path: Path, prepend_camera_name: bool = False) -> None:
    """Write a results file, one line per query (HLOC's ``write_poses``).

    Raises:
        InputError: see :func:`result_names`.
    """
    owner = result_names(poses, path, prepend_camera_name)
    write_text(path, "".join(format_pose(name, poses[query]) + "\n" for name, query in owner.items()))


def read_poses(path: Path) -> dict[str, pycolmap.Rigid3d]:
    """Read a results file; quaternions are normalized.

    Raises:
        MissingInputError: no such file.
        InputError: a malformed line or a repeated name.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"Results file {path} does not exist.")
    poses: dict[str, pycolmap.Rigid3d] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            name, values = fields[0], [float(v) for v in fields[1:]]
            w, x, y, z, *translation = values
            quaternion = np.array([x, y, z, w])
            norm = np.linalg.norm(quaternion)
            if len(translation) != 3 or not 0 < norm < np.inf or not np.isfinite(translation).all():
                raise ValueError
        except ValueError:
            raise InputError(
                f"{path}, line {number}: expected `name qw qx qy qz tx ty tz` with finite numbers and a"
                f" quaternion that is not zero, found {line!r}."
            ) from None
        if name in poses:
            raise InputError(f"{path}, line {number}: '{name}' occurs twice.")
        poses[name] = pycolmap.Rigid3d(pycolmap.Rotation3d(quaternion / norm), np.array(translation))
    return poses


def write_log(path: Path, results: Iterable[QueryResult]) -> None:
    """Write one JSON object per query."""
    lines = (json.dumps(asdict(result), ensure_ascii=False, default=_jsonable) for result in results)
    write_text(path, "".join(line + "\n" for line in lines))


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


def read_log(path: Path) -> list[QueryResult]:
    """Read a JSON-lines log.

    Raises:
        MissingInputError: no such file.
        InputError: a line that is not a query result.
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"Log {path} does not exist.")
    results = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        try:
            record = json.loads(line)
            record["status"] = Status(record["status"])
            results.append(QueryResult(**record))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a query result ({error}).") from None
    return results
