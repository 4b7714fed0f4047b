"""Image names of results files and of ground truth, which may be basenames or full relative paths."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InputError


def match_names(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Find the full name that each image name stands for.

    Results files may hold basenames (``1.jpg``) where the ground truth has paths (``query/1.jpg``), or
    the reverse. An equal name is taken first; otherwise one must be the end of the other.

    Args:
        names: names to look up.
        known: names to find.

    Returns:
        Known name by name; names without a counterpart are absent.

    Raises:
        InputError: a name stands for several known ones, or two names for the same.
    """
    known = list(known)
    exact = set(known)
    by_ending: dict[str, list[str]] = {}
    for candidate in known:
        parts = candidate.split("/")
        for start in range(1, len(parts)):
            by_ending.setdefault("/".join(parts[start:]), []).append(candidate)
    matched: dict[str, str] = {}
    owner: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        endings = ["/".join(parts[start:]) for start in range(len(parts))]
        shorter = [ending for ending in endings if ending in exact][:1]
        candidates = [name] if name in exact else by_ending.get(name, shorter)
        if len(candidates) > 1:
            raise InputError(
                f"'{name}' may be any of {', '.join(candidates[:5])}: give full names in the results (the"
                " JSON-lines log has them), or the list of queries (`--queries`) that the results belong to."
            )
        for candidate in candidates:
            if candidate in owner:
                raise InputError(
                    f"'{owner[candidate]}' and '{name}' both stand for '{candidate}': remove one, or give"
                    " full names."
                )
            owner[candidate] = name
            matched[name] = candidate
    return matched
