"""Made-up cities from above with their class masks: more ground for pairs of photos and maps.

The files are those that :func:`~hloc_ext.datasets.map_pairs.find_labelled_images` finds: ``images/NAME.jpg``
and ``labels/NAME.png``. Drawing them needs the extra ``city``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import InputError
from ..formats.atomic import write_bytes
from .city_views import CRS, ORIGIN
from .map_pairs import LabelledImage
from .map_palettes import NUM_CLASSES

if TYPE_CHECKING:
    from ..city.datasets.place import Place

Pixels = npt.NDArray[np.uint8]

#: Sides of the pixels, metres.
PIXEL_SIZE = (0.18, 0.32)
_OVERCAST = 0.25
# First word of the seeds of what this module draws.
_TILE = 671


def render_tiles(
    output: Path, count: int, seed: int, size: int = 512, extent: float = 200.0, workers: int = 1
) -> list[LabelledImage]:
    """Draw tiles of one city, each with its own place, scale, light and traffic, or what is missing of them.

    Args:
        output: folder of a source, ``<root>/<source>``; of several seeds, too.
        count: number of tiles.
        seed: of the city and the tiles.
        size: side of the tiles, pixels.
        extent: length of the city's sides, metres.
        workers: number of processes.

    Raises:
        InputError: the tiles would be larger than the city.
    """
    from ..city.datasets.place import Place
    from ..city.parallel import run_all

    if size * PIXEL_SIZE[1] > extent:
        raise InputError(
            f"Tiles of {size} pixels show up to {size * PIXEL_SIZE[1]:.0f} m: use a larger city."
        )
    output = Path(output)
    names = [f"city{seed:05d}_{index:04d}" for index in range(count)]
    files = [
        LabelledImage(output / "images" / f"{name}.jpg", output / "labels" / f"{name}.png") for name in names
    ]
    missing = [i for i, pair in enumerate(files) if not (pair.image.exists() and pair.label.exists())]
    if missing:
        place = Place(extent, seed, CRS, ORIGIN)
        place.prepare()
        run_all(missing, lambda index: _render(place, files[index], index, size), workers, "city tiles")
    return files


def ground_classes(label: Pixels) -> Pixels:
    """Classes of the training masks of what the city's labels show.

    Args:
        label: (H, W) :class:`~hloc_ext.city.labels.Label`.

    Returns:
        (H, W): 0 other, 1 road, 2 sidewalk, 3 building, 4 vegetation, 5 water. Crossings are roads; cars,
        people and poles become what is nearest to them.
    """
    from ..city.labels import Label

    ground = np.where(label == Label.CROSSING, Label.ROAD, label).astype(np.uint8)
    above = ground >= NUM_CLASSES
    if above.any() and not above.all():
        rows, columns = ndimage.distance_transform_edt(above, return_distances=False, return_indices=True)
        ground = ground[rows, columns]
    return np.where(ground < NUM_CLASSES, ground, Label.OTHER).astype(np.uint8)


def _render(place: Place, files: LabelledImage, index: int, size: int) -> None:
    from ..city import light, sensor, views

    rng = np.random.default_rng([place.seed, _TILE, index])
    pixel_size = float(rng.uniform(*PIXEL_SIZE))
    low, high = np.array(place.plan.bounds[:2]), np.array(place.plan.bounds[2:])
    side = size * pixel_size
    corner = low + rng.uniform(0, 1, 2) * (high - low - side)
    x, y = (float(value) for value in corner)
    weather = light.overcast(rng) if rng.random() < _OVERCAST else light.daylight(rng)
    seen = views.ortho(
        place.renderer,
        (x, y, x + side, y + side),
        pixel_size,
        weather,
        moving=place.traffic(int(rng.integers(2**31)), near=(x + side / 2, y + side / 2), radius=side),
        sensor=sensor.Sensor.by_day(rng),
        seed=int(rng.integers(2**31)),
    )
    # The mask comes last: a pair without it is drawn again.
    _, photo = cv2.imencode(".jpg", np.ascontiguousarray(seen.rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 90])
    _, mask = cv2.imencode(".png", ground_classes(seen.label))
    write_bytes(files.image, photo.tobytes())
    write_bytes(files.label, mask.tobytes())
