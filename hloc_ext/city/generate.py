"""Data sets of the city in public layouts: what can be made, and the folder that it is made in."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

from .. import __version__, logger
from ..errors import CorruptFileError, InputError
from ..formats.atomic import explaining, read_text, write_text
from .source import source_digest

#: What can be made. Each is a module of :mod:`hloc_ext.city.datasets` with ``write(output, size, seed,
#: workers)``, whose description explains the layout.
KINDS = ("aachen", "cvusa", "cvact", "vigor", "gis")
SIZES = ("small", "medium", "large")

SETTINGS = "settings.json"
README = "README.txt"


def generate(
    kind: str,
    size: str,
    seed: int,
    output: Path,
    workers: int = 2,
    overwrite: bool = False,
    depth: bool = False,
) -> None:
    """Write a synthetic data set in the layout of a public one.

    A second call with the same arguments goes on where the first was interrupted; images that exist are not
    made again. On the same machine the bytes of the files depend on nothing but `kind`, `size` and `seed`.

    Args:
        kind: one of :data:`KINDS`.
        size: one of :data:`SIZES`.
        seed: of the city and of everything in it, 0 or more.
        output: folder; created. It keeps :data:`SETTINGS`, which tells what it holds.
        workers: number of processes.
        overwrite: delete what `output` holds, and start again. Only a folder that this function wrote is
            deleted.
        depth: of kind ``aachen``: write depth (``depth/NAME.h5``) and classes (``labels/NAME.png``), too.

    Raises:
        InputError: an argument has no such value, `output` holds something else, or a package is missing.
        CorruptFileError: the settings of `output` cannot be read.
        DiskFullError, UnwritableError: as the folder is written.
    """
    for name, value, values in (("kind", kind, KINDS), ("size", size, SIZES)):
        if value not in values:
            raise InputError(f"No {name} '{value}' of a city data set: choose one of {', '.join(values)}.")
    if seed < 0:
        raise InputError(f"The seed is {seed}: choose a number that is not negative.")
    if workers < 1:
        raise InputError(f"{workers} workers: at least one process is needed.")
    if depth and kind != "aachen":
        raise InputError(f"Depth is written for the kind aachen only, not for {kind}.")
    output = Path(output)
    try:
        module = importlib.import_module(f"hloc_ext.city.datasets.{kind}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hloc_ext"):
            raise
        raise InputError(
            f"The city needs the package '{error.name}': pip install 'hloc_ext[city]'."
        ) from error
    settings = {
        "kind": kind,
        "size": size,
        "seed": seed,
        "version": __version__,
        "code": source_digest()[:12],
    }
    with explaining(output):
        _claim(output, settings, overwrite)
    options = {"depth": True} if depth else {}
    module.write(output, size, seed, workers, **options)
    write_text(output / README, _readme(kind, size, seed, module))
    logger.info("Wrote the %s data set '%s' to %s", size, kind, output)


def _claim(output: Path, settings: dict[str, object], overwrite: bool) -> None:
    """Make `output` the folder of a data set with these settings, or refuse it."""
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: name a folder for the data set.")
    path = output / SETTINGS
    if path.exists():
        present = _read_settings(path)
        if not settings.keys() <= present.keys() or present["kind"] not in KINDS:
            raise InputError(f"{output} was not written by this command: choose another folder.")
        if overwrite:
            _delete(output)
        elif present != settings:
            different = [name for name in settings if present.get(name) != settings[name]]
            raise InputError(
                f"{output} holds a data set with other settings"
                f" ({', '.join(f'{name} {present.get(name)}, not {settings[name]}' for name in different)}):"
                f" choose another folder, delete this one, or overwrite it (--overwrite)."
            )
    elif output.is_dir() and any(output.iterdir()):
        raise InputError(
            f"{output} is not empty and was not written by this command (it has no {SETTINGS}):"
            f" choose another folder."
        )
    if not path.exists():
        write_text(path, json.dumps(settings, indent=1) + "\n")


def _read_settings(path: Path) -> dict[str, object]:
    try:
        settings = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CorruptFileError(
            f"{path} is not JSON ({error}): delete its folder or choose another."
        ) from error
    if not isinstance(settings, dict):
        raise CorruptFileError(f"{path} is not a JSON object: delete its folder or choose another.")
    return settings


def _delete(output: Path) -> None:
    """Empty a folder; its settings go last, so that an interrupted deletion can be repeated."""
    entries = sorted(output.iterdir(), key=lambda entry: entry.name == SETTINGS)
    for entry in entries:
        with explaining(entry):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _readme(kind: str, size: str, seed: int, module: ModuleType) -> str:
    """Text that tells what the folder holds and how it was made."""
    return (
        "SYNTHETIC DATA. Nothing here was photographed: a procedural city was rendered, and its place on the"
        " Earth is made up.\n"
        f"Made by hloc_ext {__version__} with\n\n"
        f"    python -m hloc_ext.city --kind {kind} --size {size} --seed {seed} --output FOLDER\n\n"
        f"{str(module.__doc__).strip()}\n"
    )
