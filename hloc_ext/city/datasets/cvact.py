"""Layout of CVACT: panoramas of streets and satellite tiles around them.

    ACT_data.mat    panoIds: N identifiers; utm: N x 2 easting and northing, metres; structs trainSet
                    (trainNum, trainInd), valSet and valSetAll (valNum, valInd): numbers of pairs, and n x 1
                    indices into panoIds, the first is 1
    ANU_data_small/streetview/{panoId}_grdView.jpg             panorama, 1664 x 832, training and validation
    ANU_data_small/satview_polish/{panoId}_satView_polish.jpg  satellite tile, 1200 x 1200, north up
    ANU_data_test/streetview|satview_polish/...                the same of the test set (valSetAll), which
                                                               contains the validation set
    city/ortho.tif, city/labels.tif                            (not in CVACT) imagery of the whole city, which
                                                               the tiles are cut from, and its classes

Grid north is at the centre column of the panoramas, azimuth grows to the right, and the horizon is in the
middle. The panorama was taken at the centre of its tile, 2.5 m over the road. A pixel of a tile is that of
zoom level 20, 156543.03392 m * cos(latitude) / 2^20. The test places lie in the north of the city, those for
training in the south; tiles near the border between them overlap. Satellite and street pictures show
different days.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.io

from ...formats.atomic import write_bytes
from ..parallel import run_all
from .files import exist, write_jpeg
from .imagery import make_mosaic, north_up, vary
from .place import Place, inner, northernmost, pano_ids, street_viewpoints, web_pixel_size

#: Extent of the city in metres, number of pairs.
SIZES = {"small": (320.0, 24), "medium": (900.0, 2000), "large": (1600.0, 8000)}
#: On the central meridian of its zone: grid north is true north.
CRS, ORIGIN = "EPSG:32755", (500_000.0, 6_095_000.0)
TILE = 1200
PANORAMA = (1664, 832)
TEST_SHARE = 0.4
#: Of the test places, those that are for validation, too.
VAL_SHARE = 0.5
MOSAIC_PIXEL = 0.12

_HEADER = b"MATLAB 5.0 MAT-file, written by hloc_ext.city"
# First word of the seed of what this module draws.
_SPLIT = 531


def write(output: Path, size: str, seed: int, workers: int) -> None:
    """Write a CVACT of a made-up city, or what is missing of it.

    Args:
        output: its folder.
        size: key of :data:`SIZES`.
        seed: of the city.
        workers: number of processes.
    """
    extent, count = SIZES[size]
    place = Place(extent, seed, CRS, ORIGIN)
    mosaic = make_mosaic(place, output / "city", MOSAIC_PIXEL, workers)
    pixel_size = web_pixel_size(float(place.geographic([[0, 0]])[0, 0]), 20)
    margin = pixel_size * TILE / 2 + 2
    points = street_viewpoints(place.plan, count, inner(mosaic.bounds, margin), seed)
    ids = pano_ids(count, seed)
    train, val, test = _split(points, seed)
    folders: list[list[str]] = [[] for _ in range(count)]
    for folder, members in (("ANU_data_small", (train, val)), ("ANU_data_test", (test,))):
        for index in np.concatenate(members):
            folders[index].append(folder)

    def files(index: int) -> list[tuple[Path, Path]]:
        return [(output / street, output / tile) for street, tile in names(ids[index], folders[index])]

    def write_pair(index: int) -> None:
        tile = mosaic.warp(north_up(points[index], pixel_size, TILE, TILE), TILE, TILE)
        panorama = place.panorama(index, points[index], *PANORAMA).rgb
        for street_path, tile_path in files(index):
            write_jpeg(tile_path, vary(tile, seed, index))
            write_jpeg(street_path, panorama)

    missing = [i for i in range(count) if not exist(path for pair in files(i) for path in pair)]
    if missing:
        place.prepare()
        run_all(missing, write_pair, workers, "pairs")
    write_act_data(output / "ACT_data.mat", ids, place.projected(points), train, val, test)


def names(pano_id: str, folders: list[str]) -> list[tuple[str, str]]:
    """Panorama and tile of a pair, in each folder that has it."""
    return [
        (f"{f}/streetview/{pano_id}_grdView.jpg", f"{f}/satview_polish/{pano_id}_satView_polish.jpg")
        for f in folders
    ]


def write_act_data(
    path: Path,
    ids: list[str],
    utm: npt.NDArray[np.float64],
    train: npt.NDArray[np.int64],
    val: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
) -> None:
    """Write ``ACT_data.mat``; its header has no date, so that the same content makes the same bytes.

    Readers of CVACT take the indices by name (``trainSet['trainInd'][0][0]``) or as the second field of the
    struct (``trainSet[0][0][1]``), and subtract 1.

    Args:
        path: the file.
        ids: N identifiers of one length.
        utm: (N, 2) easting and northing, metres.
        train, val, test: indices from 0; `val` is a part of `test`.
    """

    def struct(prefix: str, indices: npt.NDArray[np.int64]) -> dict[str, object]:
        column = (indices + 1).astype(np.int32)[:, None]
        return {f"{prefix}Num": np.array([[len(indices)]], np.int32), f"{prefix}Ind": column}

    content = {
        "panoIds": np.array(ids),
        "utm": utm,
        "trainSet": struct("train", train),
        "valSet": struct("val", val),
        "valSetAll": struct("val", test),
    }
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, content, do_compression=True)
    # Bytes 0 to 115 are a text that SciPy writes the time into.
    write_bytes(path, _HEADER.ljust(116) + buffer.getvalue()[116:])


def _split(points: npt.NDArray[np.float64], seed: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Indices of the training, the validation and the test set; the second is a part of the third."""
    is_test = northernmost(points, TEST_SHARE)
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    rng = np.random.default_rng([seed, _SPLIT])
    val = np.sort(rng.choice(test, round(VAL_SHARE * len(test)), replace=False))
    return train, val, test
