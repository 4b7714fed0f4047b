"""Registration by AROSICS (Scheffler et al., Remote Sensing 2017), an optional baseline: shifts only."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..extra import naming_extra
from .gradient_fields import Picture
from .matching import Hypothesis, UnavailableMethodError, as_homography, within
from .prior import Prior

#: Any CRS in metres; pixels are a metre, and all are near the centre of its zone.
_CRS, _ORIGIN = "EPSG:32631", (500_000.0, 5_000_000.0)
#: Largest shift that is searched where the prior does not bound it, pixels.
_MAX_SHIFT = 128


class ArosicsMethod:
    """Phase correlation of AROSICS in the frame of the prior, through two files.

    Raises:
        UnavailableMethodError: AROSICS is not installed.
    """

    name = "arosics"

    def __init__(self) -> None:
        try:
            from arosics import COREG
        except ImportError as error:
            raise UnavailableMethodError(f"AROSICS is missing ({error}): pip install arosics.") from error
        self._coreg = COREG

    def register(self, picture0: Picture, picture1: Picture, prior: Prior) -> list[Hypothesis]:
        """One hypothesis, or none where AROSICS finds no shift."""
        start = as_homography(prior.similarity(picture0.shape, picture1.shape))
        limit = _MAX_SHIFT if prior.max_shift is None else max(int(prior.max_shift), 1)
        with tempfile.TemporaryDirectory(prefix="arosics_") as folder:
            reference, target = Path(folder) / "reference.tif", Path(folder) / "target.tif"
            _write(reference, picture1)
            _write(target, picture0.warped(start, picture1.shape))
            search = self._coreg(
                str(reference), str(target), max_shift=limit, nodata=(0, 0), q=True, ignore_errors=True
            )
            if search.calculate_spatial_shifts() != "success":
                return []
            shift = search.coreg_info["corrected_shifts_px"]
            score = float(getattr(search, "shift_reliability", None) or 0.0)
        moved = np.array([[1, 0, shift["x"]], [0, 1, shift["y"]], [0, 0, 1.0]]) @ start
        return within([Hypothesis(moved, self.name, score)], prior, picture0, picture1)


def _write(path: Path, picture: Picture) -> None:
    """Write a grey picture as a GeoTIFF, 0 where there are no pixels."""
    with naming_extra():
        import rasterio
        from rasterio.transform import Affine
    height, width = picture.shape
    grey = np.where(picture.exists, np.maximum(picture.grey(), 1), 0).astype(np.uint8)
    if not grey.any():
        raise InputError("The image has no pixels where the prior puts it on the map.")
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=1,
        dtype="uint8",
        crs=_CRS,
        transform=Affine(1, 0, _ORIGIN[0], 0, -1, _ORIGIN[1]),
        nodata=0,
    ) as file:
        file.write(grey, 1)
