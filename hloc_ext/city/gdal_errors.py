"""What GDAL could not write, as errors that a user can act on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from rasterio.errors import RasterioError

from ..formats.atomic import DiskFullError, UnwritableError

#: With less space left than this, a file that cannot be written is taken for a full disk, bytes.
_LITTLE = 1 << 20


@contextmanager
def explaining_gdal(path: Path) -> Iterator[None]:
    """Explain a failure of GDAL inside the block, which writes `path`: GDAL does not tell why it fails.

    Raises:
        DiskFullError: hardly any space is left in the folder of `path`.
        UnwritableError: the file cannot be written for another reason.
    """
    try:
        yield
    except (RasterioError, DataSourceError, DataLayerError, FeatureError) as error:
        if shutil.disk_usage(path.parent).free < _LITTLE:
            raise DiskFullError(
                f"No space left on device while writing {path}: free some space and run the same"
                " command again, it resumes where it stopped."
            ) from error
        reason = str(error).rstrip(".")
        raise UnwritableError(
            f"Cannot write {path}: {reason}. Choose another output folder, or see whether its disk is full or"
            " limits the size of files."
        ) from error
