"""Submission files of visuallocalization.net, and a check of them before the upload.

One line per query: ``name qw qx qy qz tx ty tz`` with the basename of the image, a unit quaternion and
the translation, both world→camera. RobotCar and others put the camera's folder before the name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from ..errors import InputError, MissingInputError
from .atomic import read_text
from .lists import read_image_list
from .results import QueryResult, result_name, write_poses

FILE_NAMES = {
    "aachen_v1.0": "Aachen_eval_{method}.txt",
    "aachen_v1.1": "Aachen_v1_1_eval_{method}.txt",
}
QUATERNION_TOLERANCE = 1e-3  # files with four decimals pass, quaternions in another order or scale do not
MAX_LISTED = 10


def submission_name(benchmark: str, method: str) -> str:
    """File name that a benchmark asks for.

    Args:
        benchmark: ``aachen_v1.0``, ``aachen_v1.1``, or any other name, which then starts the file name.
        method: name of the method; what is not a letter, a digit or one of ``.+-_`` becomes ``_``.

    Raises:
        InputError: no method.
    """
    if not method.strip():
        raise InputError("A submission needs the name of the method.")
    pattern = FILE_NAMES.get(benchmark, f"{benchmark}_eval_{{method}}.txt")
    return pattern.format(method=re.sub(r"[^\w.+-]", "_", method.strip()))


def write_submission(
    path: Path,
    poses: Mapping[str, pycolmap.Rigid3d] | Iterable[QueryResult],
    prepend_camera_name: bool = False,
) -> list[str]:
    """Write the poses of all queries that have one.

    Args:
        path: the file, named by :func:`submission_name`.
        poses: world→camera by query name, or results (localized and fallback poses are written).
        prepend_camera_name: write ``folder/name`` instead of ``name``.

    Returns:
        Names of the queries without a pose.

    Raises:
        InputError: two queries would get the same name, or a name holds white space.
    """
    found: dict[str, pycolmap.Rigid3d | None]
    if isinstance(poses, Mapping):
        found = dict(poses)
    else:
        found = {result.name: result.cam_from_world for result in _unique(poses)}
    write_poses({n: p for n, p in found.items() if p is not None}, path, prepend_camera_name)
    return [name for name, pose in found.items() if pose is None]


def _unique(results: Iterable[QueryResult]) -> list[QueryResult]:
    results = list(results)
    repeated = [name for name, count in Counter(result.name for result in results).items() if count > 1]
    if repeated:
        raise InputError(f"Several results of the same query: {_enumerate(repeated)}.")
    return results


def query_names(queries: Iterable[str | Path]) -> list[str]:
    """Image names: strings are names, paths are query lists (with or without intrinsics, or patterns)."""
    names: list[str] = []
    for query in queries:
        names += read_image_list(query) if isinstance(query, Path) else [query]
    return names


def validate_submission(
    path: Path, queries: Sequence[str | Path], prepend_camera_name: bool = False
) -> list[str]:
    """Find what the benchmark would refuse or count as a failure.

    Args:
        path: submission file.
        queries: names of all queries (`str`), or query lists (`Path`).
        prepend_camera_name: the benchmark wants ``folder/name``.

    Returns:
        Problems in words, empty if there is none: wrong number of fields, not a finite number,
        quaternion not of unit length, folders in a name, unknown, repeated and missing names, and
        queries that share the name the benchmark sees.

    Raises:
        MissingInputError: the file or a list does not exist.
        InputError: a list cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"Submission file {path} does not exist.")
    names = query_names(queries)
    expected = Counter(result_name(name, prepend_camera_name) for name in names)
    shared = [name for name, count in expected.items() if count > 1]
    problems = []
    if not names:
        problems.append("no query is given to compare with")
    if shared:
        problems.append(f"queries share a name, the benchmark cannot tell them apart: {_enumerate(shared)}")
    first_line: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        problems += [f"line {number}: {problem}" for problem in _line_problems(fields, prepend_camera_name)]
        # An entry with folders is reported above; it still answers its query.
        name = result_name(fields[0], prepend_camera_name)
        if name in first_line:
            problems.append(f"line {number}: '{name}' is also on line {first_line[name]}")
        elif name not in expected:
            problems.append(f"line {number}: '{fields[0]}' is not a query")
        first_line.setdefault(name, number)
    missing = [name for name in expected if name not in first_line]
    if missing:
        problems.append(f"{len(missing)} of {len(expected)} queries have no pose: {_enumerate(missing)}")
    return problems


def _line_problems(fields: list[str], prepend_camera_name: bool) -> list[str]:
    name, *numbers = fields
    problems = []
    if name != result_name(name, prepend_camera_name):
        allowed = "one folder" if prepend_camera_name else "no folder"
        problems.append(f"'{name}' must have {allowed} before the file name")
    elif prepend_camera_name and "/" not in name:
        problems.append(f"'{name}' must have the camera's folder before the file name")
    if len(numbers) != 7:
        return [*problems, f"expected `name qw qx qy qz tx ty tz`, found {len(fields)} fields"]
    try:
        values = np.array(numbers, float)
    except ValueError:
        return [*problems, f"'{name}' has a field that is not a number: {' '.join(numbers)}"]
    norm = float(np.linalg.norm(values[:4]))
    if not np.isfinite(values).all():
        problems.append(f"'{name}' has a number that is not finite")
    elif abs(norm - 1) > QUATERNION_TOLERANCE:
        problems.append(f"'{name}' has a quaternion of length {norm:.6g}, expected 1")
    return problems


def _enumerate(names: list[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def check_submission(path: Path, queries: Sequence[str | Path], prepend_camera_name: bool = False) -> int:
    """Like :func:`validate_submission`, but problems are an error.

    Returns:
        The number of poses.

    Raises:
        InputError: with all problems.
    """
    problems = validate_submission(path, queries, prepend_camera_name)
    if problems:
        raise InputError(f"{path} is not a valid submission:\n" + "\n".join(f"- {p}" for p in problems))
    return len(query_names(queries))
