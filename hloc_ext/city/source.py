"""What the things that this package writes depend on besides their settings: its code, and others'."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

#: Packages whose versions change geometry or pictures.
_PACKAGES = ("numpy", "opencv-python-headless", "scipy", "shapely")


def source_digest(patterns: Sequence[str] = ("**/*.py",)) -> str:
    """Digest of source files of this package, and of the versions of other packages.

    Args:
        patterns: files, relative to the folder of the package.
    """
    digest = hashlib.sha256()
    for name in _PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        digest.update(f"{name} {version}\0".encode())
    folder = Path(__file__).parent
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
