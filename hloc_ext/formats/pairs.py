"""Lists of image pairs, one ``name0 name1`` per line; in retrieval lists the order is the rank."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError, MissingInputError
from .atomic import read_text, write_text

Pair = tuple[str, str]


def read_pairs(path: Path) -> list[Pair]:
    """Read a list of pairs, in file order.

    Raises:
        MissingInputError: no such file.
        InputError: a line does not hold two names (names with blanks are not representable).
    """
    path = Path(path)
    if not path.exists():
        raise MissingInputError(f"List of pairs {path} does not exist: run a pairs_from_* stage first.")
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2:
            raise InputError(f"{path}, line {number}: expected two image names, found {line!r}.")
        pairs.append((fields[0], fields[1]))
    return pairs


def check_name(name: str) -> None:
    """Raise InputError for an image name that HLOC's lists, with blanks between fields, cannot hold."""
    if name.split() != [name]:
        raise InputError(
            f"Image name {name!r} contains white space, which HLOC's lists cannot hold: rename the file."
        )


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write a list of pairs.

    Raises:
        InputError: a name contains white space, which the format cannot represent.
    """
    pairs = list(pairs)
    for pair in pairs:
        for name in pair:
            check_name(name)
    write_text(path, "\n".join(f"{a} {b}" for a, b in pairs))


def read_retrieval(path: Path) -> dict[str, list[str]]:
    """Read retrieval results: query name to the names of its map images, best first."""
    retrieval: dict[str, list[str]] = {}
    for query, reference in read_pairs(path):
        retrieval.setdefault(query, []).append(reference)
    return retrieval


def unique_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Drop repeated pairs, in either order, and pairs of an image with itself; the order is kept."""
    seen: set[Pair] = set()
    unique = []
    for a, b in pairs:
        if a != b and (a, b) not in seen and (b, a) not in seen:
            seen.add((a, b))
            unique.append((a, b))
    return unique
