"""Statistics that photographs share, of rendered views and of photos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hloc_ext.errors import CorruptFileError, MissingInputError

#: Pictures are reduced to this longer side first, as those of the comparison are.
SIDE = 512
#: Spatial frequencies between which the slope of the spectrum is fitted, cycles per pixel.
BAND = (0.02, 0.35)


def statistics(rgb: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Statistics of one picture, of its luminance (sRGB, 0 to 1).

    Args:
        rgb: (H, W, 3).

    Returns:
        Mean; contrast (standard deviation); mean gradient per pixel; kurtosis of the horizontal derivative
        (about 3 for noise, far more for photographs); slope of the amplitude spectrum in log-log axes (about
        −1 for
        photographs: Field, JOSA A 1987); mean saturation (HSV); SIFT keypoints.
    """
    scale = SIDE / max(rgb.shape[:2])
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    luminance = np.asarray(grey, np.float32) / np.float32(255)
    dx, dy = np.diff(luminance, axis=1), np.diff(luminance, axis=0)
    gradient = np.hypot(dx[:-1], dy[:, :-1])
    variance = float(np.mean((dx - dx.mean()) ** 2))
    return {
        "mean": float(luminance.mean()),
        "contrast": float(luminance.std()),
        "gradient": float(gradient.mean()),
        "kurtosis": float(np.mean((dx - dx.mean()) ** 4)) / max(variance**2, 1e-12),
        "spectrum slope": spectrum_slope(luminance),
        "saturation": float(cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[..., 1].mean() / 255),
        "SIFT keypoints": float(len(cv2.SIFT.create().detect(grey))),
    }


def spectrum_slope(luminance: npt.NDArray[np.float32]) -> float:
    """Exponent of the amplitude spectrum, mean over directions, of the middle square of a picture (H, W)."""
    side = min(luminance.shape)
    top, left = ((length - side) // 2 for length in luminance.shape)
    square = luminance[top : top + side, left : left + side]
    window = np.hanning(side)
    spectrum = np.abs(np.fft.fft2((square - square.mean()) * window[:, None] * window))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    edges = np.geomspace(*BAND, 20)
    ring = np.digitize(frequency, edges)
    middles = np.sqrt(edges[1:] * edges[:-1])
    amplitude = [spectrum[ring == i].mean() for i in range(1, len(edges))]
    return float(np.polyfit(np.log(middles), np.log(np.maximum(amplitude, 1e-9)), 1)[0])


def read_photos(folder: Path, count: int, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    """`count` photos of a folder and its subfolders, drawn by seed.

    Raises:
        MissingInputError: it holds none.
        CorruptFileError: one cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise MissingInputError(f"There are no photos (.jpg, .png) in {folder}.")
    chosen = np.random.default_rng(seed).permutation(len(paths))[:count]
    photos: list[npt.NDArray[np.uint8]] = []
    for path in (paths[i] for i in sorted(chosen)):
        picture = cv2.imread(str(path))
        if picture is None:
            raise CorruptFileError(f"{path} cannot be read as a picture: delete or replace it.")
        photos.append(np.ascontiguousarray(picture[..., ::-1], np.uint8))
    return photos


def table(sets: Mapping[str, Iterable[npt.NDArray[np.uint8]]]) -> list[str]:
    """Lines of a table: the quartiles of each statistic of each set of pictures."""
    names: Sequence[str] = ()
    columns = {}
    for label, pictures in sets.items():
        values = [statistics(picture) for picture in pictures]
        names = list(values[0])
        columns[label] = {name: np.percentile([v[name] for v in values], (25, 50, 75)) for name in names}
    lines = [f"{'':16}" + "".join(f"{label:>34}" for label in columns)]
    for name in names:
        cells = ["{:9.3f} [{:9.3f},{:9.3f}]".format(*c[name][[1, 0, 2]]) for c in columns.values()]
        lines.append(f"{name:16}" + "".join(f"{cell:>34}" for cell in cells))
    return lines
