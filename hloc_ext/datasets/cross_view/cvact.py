"""CVACT: 35,532 pairs for training, 92,802 for test, of which 8,884 are also for validation.

    ACT_data.mat                                  see below
    ANU_data_small/streetview/{panoId}_grdView.jpg            panorama, 1664 x 832
    ANU_data_small/satview_polish/{panoId}_satView_polish.jpg tile, 1200 x 1200, zoom level 20
    ANU_data_test/streetview, satview_polish      the same of the test set

SSA names the folders ``CVACT_new`` and ``CVACT``. ``ACT_data.mat`` holds ``panoIds`` (N names), ``utm`` (N x
2 easting and northing, metres, zone 55 south) and the structs ``trainSet``, ``valSet`` and ``valSetAll``,
each with indices into panoIds of which the first is 1. The split ``val_official`` is ``valSet``, which is a
part of ``valSetAll``, the split ``test``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
from scipy.io.matlab import MatReadError

from ...errors import CorruptFileError, InputError, MissingInputError
from .geography import latlon_of_utm, web_pixel_size
from .listing import Listing, check_unique, source_name

SPLITS = ("train", "val", "val_official", "test")
EXPECTED = "ACT_data.mat beside ANU_data_small and ANU_data_test, or CVACT_new and CVACT"

ELEVATION = (-90.0, 90.0)
TILE, ZOOM = 1200, 20
#: Of the eastings and northings, south of the equator.
UTM_ZONE = 55

_SMALL, _TEST = ("ANU_data_small", "CVACT_new"), ("ANU_data_test", "CVACT")
_TABLES = ("ACT_data.mat", "ANU_data_small/ACT_data.mat", "CVACT_new/ACT_data.mat")
# Struct, its field, folders of the files.
_LISTS = {
    "train": ("trainSet", "trainInd", _SMALL),
    "val_official": ("valSet", "valInd", _SMALL),
    "test": ("valSetAll", "valInd", _TEST),
}
_PROVENANCE = {"train": ("train",), "val_official": ("val",), "test": ("val", "test")}


def is_here(root: Path) -> bool:
    """Whether a folder looks like CVACT."""
    return any((root / name).exists() for name in _TABLES)


def provenance(split: str, area: str, root: Path) -> frozenset[str]:
    """The lists of a split."""
    return frozenset(f"{source_name('cvact', root)}/{part}" for part in _PROVENANCE[split])


def read(root: Path, split: str, area: str) -> Listing:
    """Read the pairs of a split, ``train``, ``val_official`` or ``test``; `area` has no meaning here.

    Raises:
        MissingInputError: there is no table, or no folder of pictures.
        CorruptFileError: the table cannot be read.
        InputError: its content is not that of CVACT's.
    """
    path = next((root / name for name in _TABLES if (root / name).exists()), None)
    if path is None:
        raise MissingInputError(f"{root / _TABLES[0]} does not exist: it is a part of the data set.")
    struct, field, folders = _LISTS[split]
    folder = next((root / name for name in folders if (root / name).is_dir()), None)
    if folder is None:
        raise MissingInputError(
            f"{root} has no folder {' or '.join(folders)}, which holds the split {split}."
        )
    content = _load(path)
    try:
        ids = [str(name).strip() for name in np.ravel(content["panoIds"])]
        places = np.asarray(content["utm"], np.float64).reshape(len(ids), 2)
        chosen = _indices(content[struct], field)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is not CVACT's: {type(error).__name__} {error} at panoIds, utm or {struct}."
        ) from error
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= len(ids):
        raise InputError(f"{path}: {struct} holds no indices from 1 to {len(ids)}.")
    names = [ids[index] for index in chosen]
    check_unique(names, path)
    latlon = latlon_of_utm(places[chosen], UTM_ZONE, is_north=False)
    return Listing(
        grounds=[folder / "streetview" / f"{name}_grdView.jpg" for name in names],
        aerials=[folder / "satview_polish" / f"{name}_satView_polish.jpg" for name in names],
        positives=np.arange(len(names)),
        ground_latlon=latlon,
        aerial_latlon=latlon,
        tile_size=web_pixel_size(latlon[:, 0], ZOOM) * TILE,
        elevation=ELEVATION,
        provenance=provenance(split, area, root),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        return scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise CorruptFileError(
            f"{path} is in the format of MATLAB 7.3, not 5 as CVACT's: save it again with -v7."
        ) from error
    except (OSError, ValueError, TypeError, MatReadError) as error:
        raise CorruptFileError(f"{path} cannot be read ({error}): download it again.") from error


def _indices(struct: npt.NDArray[Any], field: str) -> npt.NDArray[np.int64]:
    """Indices of a struct, the first is 0."""
    names = struct.dtype.names or ()
    value = struct[field] if field in names else struct[names[1]]
    return np.asarray(np.ravel(value[0][0]), np.int64) - 1
