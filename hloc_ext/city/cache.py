"""Cities that have been made are kept: ``~/.cache/hloc_ext/city``, or the folder ``$HLOC_EXT_CACHE/city``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from .. import logger
from ..errors import HlocExtError
from ..formats.atomic import make_dir, replacing
from .mesh import Mesh
from .plan import make_plan
from .scene import City, make_city
from .source import source_digest
from .streets.furniture import lamp_positions
from .textures import Texture, TextureSet

#: So many cities are kept; of more, the ones unused for longest are deleted.
KEPT = 8


def cache_dir() -> Path:
    """Folder of the cities."""
    return Path(os.environ.get("HLOC_EXT_CACHE") or "~/.cache/hloc_ext").expanduser() / "city"


def cached_city(
    extent: float, seed: int, crs: str = "EPSG:32635", origin: tuple[float, float] = (487000.0, 6470000.0)
) -> City:
    """As :func:`~hloc_ext.city.scene.make_city`; a city that was made before is read from the cache.

    A change of the code that makes cities makes them anew. A cache that cannot be written, or a damaged file
    in it, is reported and costs time only.
    """
    settings = {"extent": float(extent), "seed": int(seed), "crs": crs, "origin": [float(x) for x in origin]}
    key = hashlib.sha256(json.dumps([settings, source_digest(_CODE)]).encode()).hexdigest()[:16]
    path = cache_dir() / f"{key}.npz"
    try:
        city = _read(path, settings)
        with contextlib.suppress(OSError):
            os.utime(path)
        return city
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("The cached city %s cannot be read (%s): it is made again.", path, error)
    city = make_city(extent, seed, crs, origin)
    try:
        make_dir(path.parent)
        _write(path, city)
        _forget_old(path.parent)
    except (OSError, HlocExtError) as error:
        logger.warning("The city is not kept for the next time: %s", error)
    return city


#: The source of all that a city depends on.
_CODE = (
    "labels.py",
    "mesh.py",
    "plan.py",
    "planning/*.py",
    "textures.py",
    "paint/*.py",
    "houses/*.py",
    "streets/*.py",
    "scene.py",
    "cache.py",
)


def _write(path: Path, city: City) -> None:
    textures = city.textures
    described = [
        {name: value for name, value in asdict(texture).items() if name != "pixels"}
        for texture in textures.textures
    ]
    arrays: dict[str, Any] = {field.name: getattr(city.mesh, field.name) for field in fields(Mesh)}
    arrays |= {f"pixels_{i}": texture.pixels for i, texture in enumerate(textures.textures)}
    arrays |= {"weathering": textures.weathering, "clouds": textures.clouds}
    arrays["textures"] = np.frombuffer(json.dumps(described).encode(), np.uint8)
    with replacing(path) as written, written.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read(path: Path, settings: dict[str, Any]) -> City:
    """The plan is cheap and made again; all else is read."""
    with np.load(path, allow_pickle=False) as arrays:
        described = json.loads(arrays["textures"].tobytes())
        textures = [
            Texture(pixels=arrays[f"pixels_{i}"], **(values | {"size": tuple(values["size"])}))
            for i, values in enumerate(described)
        ]
        texture_set = TextureSet(textures, arrays["weathering"], arrays["clouds"])
        mesh = Mesh(**{field.name: arrays[field.name] for field in fields(Mesh)})
    plan = make_plan(settings["extent"], settings["seed"], settings["crs"], tuple(settings["origin"]))
    return City(plan, texture_set, mesh, lamp_positions(plan))


def _forget_old(folder: Path) -> None:
    """Delete the cities unused for longest, and what killed runs left."""
    files = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    left = [path for path in folder.glob(".*.tmp") if time.time() - path.stat().st_mtime > 3600]
    for path in files[KEPT:] + left:
        path.unlink(missing_ok=True)
