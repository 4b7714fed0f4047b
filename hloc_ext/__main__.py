"""Command line of every stage: ``python -m hloc_ext STAGE …``."""

from __future__ import annotations

import importlib
import sys

from .compat import allow_cpu_torchvision
from .errors import HlocExtError

#: Command to module; each module has `cli(argv)`.
COMMANDS = {
    "extract_features": "extract_features",
    "match_features": "match_features",
    "match_dense": "match_dense",
    "match": "image_matching",
    "export": "export",
    "pairs_from_retrieval": "pairs_from_retrieval",
    "pairs_from_covisibility": "pairs_from_covisibility",
    "pairs_from_exhaustive": "pairs_from_exhaustive",
    "pairs_from_poses": "pairs_from_poses",
    "pairs_from_sequence": "pairs_from_sequence",
    "colmap_from_nvm": "colmap_from_nvm",
    "reconstruction": "reconstruction",
    "triangulation": "triangulation",
    "localize_sfm": "localize_sfm",
    "localize": "localizer",
    "evaluate_poses": "evaluation.poses",
    "validate_submission": "validate_submission",
}


def usage() -> str:
    """List of the commands with the first line of each module's description."""
    lines = ["usage: python -m hloc_ext COMMAND [options]   (COMMAND --help explains one)", ""]
    for command, module in COMMANDS.items():
        description = (importlib.import_module(f"hloc_ext.{module}").__doc__ or "").splitlines()[0]
        lines.append(f"  {command:<26}{description}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Dispatch to a stage; returns the exit code.

    An error that a user can act on is printed without a traceback.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    command, *rest = argv
    if command not in COMMANDS:
        print(f"hloc_ext: unknown command '{command}'\n\n{usage()}", file=sys.stderr)
        return 2
    allow_cpu_torchvision()
    try:
        importlib.import_module(f"hloc_ext.{COMMANDS[command]}").cli(rest)
    except HlocExtError as error:
        print(f"hloc_ext {command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"hloc_ext {command}: interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
