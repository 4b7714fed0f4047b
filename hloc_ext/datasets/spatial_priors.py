"""Class maps of satellite tiles: ``python -m hloc_ext.datasets.spatial_priors --data DIR --source SOURCE``.

SSA learns to see a street from above by such maps. They come from

    gis      layers on the ground: vector layers (roads, sidewalks, buildings, vegetation, water; see
             hloc_ext/gis/classes.yaml for the rules and other sources), or rasters of classes. Without
             --layers the class rasters of python -m hloc_ext.city are taken, DIR/city/**/labels.tif
    samgeo   the pictures themselves, segmented from text prompts by LangSAM of segment-geospatial, which is
             not installed with hloc_ext: pip install segment-geospatial groundingdino-py

A map is a PNG of one byte per pixel: 0 other, 1 road, 2 sidewalk, 3 building, 4 vegetation, 5 water, 255
unknown. It shows the whole tile, in any resolution, and lies in OUTPUT (default: DIR/tile_labels) under the
name that the tile has in DIR, with the ending .png. Maps that exist are not made again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .. import logger
from ..city.datasets.files import write_png
from ..city.labels import MOVING, Label
from ..errors import HlocExtError, InputError, MissingInputError
from ..formats.images import read_image, resize_image
from .cross_view.footprints import tile_corners
from .cross_view.layout import LABELS, find_layout, open_set
from .cross_view.pictures import UNKNOWN

if TYPE_CHECKING:
    from ..gis.grid import Grid
    from ..gis.raster import Raster
    from ..gis.vector import Layer

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
#: Boolean mask (H, W) of what a prompt finds in the picture of a file.
Segmenter = Callable[[Path, str], npt.NDArray[np.bool_]]

SOURCES = ("gis", "samgeo")
#: Pixels per side of a class map.
SIZE = 256
#: What LangSAM is asked for, by class; later classes are painted over earlier ones.
PROMPTS: Mapping[Label, tuple[str, ...]] = {
    Label.VEGETATION: ("tree", "grass"),
    Label.WATER: ("water",),
    Label.ROAD: ("road", "parking lot"),
    Label.SIDEWALK: ("sidewalk",),
    Label.BUILDING: ("building",),
}
#: Splits whose tiles together are all tiles of a layout.
SPLITS: Mapping[str, tuple[str, ...]] = {
    "cvusa": ("train", "test"),
    "cvact": ("train", "val_official", "test"),
    "vigor": ("train", "test"),
    "folder": ("all",),
}

_RASTERS = (".tif", ".tiff", ".vrt")
# Tiles whose layers are read together lie in squares of this side, and layers so far around them are drawn,
# metres.
_BLOCK, _MARGIN = 1000.0, 20.0


def main(
    data: Path,
    source: str,
    output: Path | None = None,
    layers: Sequence[Path] = (),
    classes: Path | None = None,
    splits: Sequence[str] = (),
    area: str = "same",
    size: int = SIZE,
    box_threshold: float = 0.24,
    text_threshold: float = 0.24,
    overwrite: bool = False,
) -> int:
    """Make the class maps of the tiles of a data set.

    Args:
        data: a cross-view data set, see :func:`~hloc_ext.datasets.cross_view.layout.open_set`.
        source: of :data:`SOURCES`.
        output: folder of the maps; None: where the data set looks for them.
        layers: files of vector layers, and rasters of classes, of source gis.
        classes: rules of classes, of source gis; None: those of hloc_ext.
        splits: whose tiles; empty: all.
        area: of VIGOR.
        size: pixels per side of a map.
        box_threshold, text_threshold: of LangSAM, source samgeo.
        overwrite: make all maps again.

    Returns:
        The number of maps that were written.

    Raises:
        InputError: layers that cover no tile, or an option that cannot be used.
        MissingInputError: no data set, no layers.
    """
    data = Path(data)
    output = data / LABELS if output is None else Path(output)
    if source not in SOURCES or size < 8:
        raise InputError(f"source={source!r}, size={size}: expected gis or samgeo, and 8 pixels or more.")
    tiles, corners = _all_tiles(data, splits, area, with_places=source == "gis")
    targets = [(output / tile.relative_to(data)).with_suffix(".png") for tile in tiles]
    wanted = [row for row, target in enumerate(targets) if overwrite or not target.exists()]
    if not wanted:
        return 0
    if source == "samgeo":
        segment = lang_sam(box_threshold, text_threshold)
        for row in tqdm(wanted, desc="class maps"):
            write_png(targets[row], segmented(tiles[row], segment, size))
        return len(wanted)
    layers = list(layers) or sorted((data / "city").rglob("labels.tif"))
    if not layers:
        raise MissingInputError(
            f"No layers to make class maps of: {data} has no city/labels.tif; name files of vector layers, or"
            " rasters of classes (--layers)."
        )
    return _write_from_layers(corners[wanted], [targets[row] for row in wanted], layers, classes, size)


def _all_tiles(data: Path, splits: Sequence[str], area: str, with_places: bool) -> tuple[list[Path], Floats]:
    """Tiles of splits, each once, and their corners (M, 4, 2), latitude and longitude."""
    found: dict[Path, Floats] = {}
    for split in splits or SPLITS[find_layout(data)]:
        pairs = open_set(data, split, area, val_share=0)
        corners = tile_corners(pairs) if with_places else np.full((len(pairs.aerials), 4, 2), np.nan)
        found |= dict(zip(pairs.aerials, corners, strict=True))
    return list(found), np.array(list(found.values()))


def _write_from_layers(
    corners: Floats, targets: Sequence[Path], layers: Sequence[Path], classes: Path | None, size: int
) -> int:
    """Write the maps of tiles; returns how many."""
    from ..gis.classes import DEFAULT, read_rules

    rules = read_rules(DEFAULT if classes is None else Path(classes))
    opened = open_layers(layers)
    written, problem = 0, None
    blocks = _blocks(corners)
    with tqdm(total=len(targets), desc="class maps") as bar:
        for rows in blocks:
            grids = tile_grids(corners[rows], size)
            try:
                maps = draw(opened, rules, grids)
            except InputError as error:
                problem = error
            else:
                for row, label in zip(rows, maps, strict=True):
                    write_png(targets[row], label)
                    written += 1
            bar.update(len(rows))
    if problem is not None:
        if not written:
            raise problem
        logger.warning("%d tiles have no class map: %s", len(targets) - written, problem)
    return written


def open_layers(paths: Iterable[Path]) -> list[Layer | Raster]:
    """Open vector layers and rasters of classes.

    Args:
        paths: GeoTIFF files and such, everything else is vector data.

    Raises:
        MissingInputError, CorruptFileError, InputError: a file that does not exist, cannot be read, or has no
            CRS.
    """
    from ..gis.raster import open_raster
    from ..gis.vector import read_layers

    found: list[Layer | Raster] = []
    for path in map(Path, paths):
        if path.suffix.lower() not in _RASTERS:
            found += read_layers(path)
            continue
        raster = open_raster(path)
        if raster.crs is None:
            raise InputError(f"Raster {path} has no CRS: add it with gdal_edit.py -a_srs EPSG:….")
        found.append(raster)
    return found


def tile_grids(corners: Floats, size: int) -> list[Grid]:
    """Where the pixels of class maps are, in the UTM zone of the first tile.

    Args:
        corners: (M, 4, 2) latitude and longitude of the tiles' corners.
        size: pixels per side.
    """
    from ..gis.crs import WGS84, transform_points, utm_crs
    from ..gis.grid import Grid

    latitude, longitude = corners[0].mean(axis=0)
    crs = utm_crs(longitude, latitude)
    points = transform_points(WGS84, crs, corners.reshape(-1, 2)[:, ::-1]).reshape(-1, 4, 2)
    grids = []
    for upper_left, upper_right, _, lower_left in points:
        right, down = (upper_right - upper_left) / size, (lower_left - upper_left) / size
        matrix = np.array([[right[0], down[0], upper_left[0]], [right[1], down[1], upper_left[1]], [0, 0, 1]])
        grids.append(Grid(crs, matrix, size, size))
    return grids


def draw(layers: Sequence[Layer | Raster], rules: Sequence[Any], grids: Sequence[Grid]) -> list[Pixels]:
    """Class maps of neighbouring tiles.

    What moves in a raster of classes (vehicles, persons) hides the ground, which is unknown; so is what lies
    outside of all rasters, where there are no vector layers.

    Args:
        layers: of :func:`open_layers`.
        rules: of :func:`hloc_ext.gis.classes.read_rules`.
        grids: of :func:`tile_grids`, in one CRS.

    Raises:
        InputError: no layer is near the tiles.
    """
    from ..gis.grid import Grid as GridType
    from ..gis.raster import Raster as RasterType
    from ..gis.render import map_shapes

    rasters = [layer for layer in layers if isinstance(layer, RasterType)]
    vectors = [layer for layer in layers if not isinstance(layer, RasterType)]
    shapes = None
    if vectors:
        outline = np.concatenate([grid.corners for grid in grids])
        block = GridType.around(grids[0].crs, outline, grids[0].pixel_size)
        shapes = map_shapes(vectors, rules, block, _MARGIN)
    maps = []
    for grid in grids:
        label = _from_rasters(rasters, rules, grid, UNKNOWN if shapes is None else int(Label.OTHER))
        if shapes is not None:
            painted = shapes.classes(grid)
            label = np.where(painted > 0, painted, label)
        maps.append(label)
    if all((label == UNKNOWN).all() for label in maps):
        raise InputError(f"No raster of classes covers the tiles: {', '.join(str(r.path) for r in rasters)}.")
    return maps


def _from_rasters(rasters: Sequence[Raster], rules: Sequence[Any], grid: Grid, empty: int) -> Pixels:
    """Classes of rasters on a grid, the last one on top, `empty` outside of them."""
    from ..gis.classes import raster_classes
    from ..gis.resample import resample_values

    label = np.full((grid.height, grid.width), empty, np.uint8)
    has_values = any(rule.values for rule in rules)
    for raster in rasters:
        values, valid = resample_values(raster, grid)
        if not valid.any():
            continue
        found = raster_classes(values[valid], (raster.path.stem, raster.path.parent.name), rules)
        if not has_values:
            found[np.isin(values[valid], MOVING)] = UNKNOWN
        label[valid] = found
    return label


def _blocks(corners: Floats) -> list[npt.NDArray[np.int64]]:
    """Tiles that are drawn together: those of a square on the ground."""
    centers = corners.mean(axis=1)
    row = np.floor(np.radians(centers[:, 0]) * 6.4e6 / _BLOCK)
    step = _BLOCK / np.cos(row * _BLOCK / 6.4e6)
    column = np.floor(np.radians(centers[:, 1]) * 6.4e6 / step)
    _, block = np.unique(np.column_stack([row, column]), axis=0, return_inverse=True)
    return [np.flatnonzero(block.ravel() == number) for number in range(int(block.max()) + 1)]


def segmented(tile: Path, segment: Segmenter, size: int) -> Pixels:
    """Class map of a tile by what a segmenter finds in it.

    Args:
        tile: its file.
        segment: finds the mask of a prompt.
        size: pixels per side of the map.

    Returns:
        (size, size) classes.

    Raises:
        InputError: a mask of another size than the picture.
    """
    shape = read_image(tile).shape[:2]
    label = np.full(shape, int(Label.OTHER), np.uint8)
    for value, prompts in PROMPTS.items():
        for prompt in prompts:
            mask = segment(tile, prompt)
            if mask.shape != shape:
                raise InputError(f"The mask of '{prompt}' in {tile} is {mask.shape}: expected {shape}.")
            label[mask] = int(value)
    return np.asarray(resize_image(label, (size, size), "cv2_nearest"), np.uint8)


def lang_sam(box_threshold: float, text_threshold: float) -> Segmenter:
    """Segmenter of segment-geospatial: GroundingDINO and SAM (vit_h).

    Args:
        box_threshold, text_threshold: scores that boxes and their words need.

    Raises:
        InputError: it is not installed.
    """
    try:
        from samgeo.text_sam import LangSAM
    except ImportError as error:
        raise InputError(
            f"Class maps from pictures need segment-geospatial ({error}): pip install segment-geospatial"
            " groundingdino-py. Or make them from layers (--source gis)."
        ) from error
    model = LangSAM()

    def segment(tile: Path, prompt: str) -> npt.NDArray[np.bool_]:
        # A name of a file, not a picture: some versions of samgeo fail with the latter.
        found = model.predict(str(tile), prompt, box_threshold, text_threshold, return_results=True)
        shape = read_image(tile).shape[:2]
        # Nothing found is None or no mask, depending on the version.
        masks = np.empty((0, *shape)) if found is None else np.asarray(found[0])
        if not masks.size:
            return np.zeros(shape, bool)
        return np.asarray((masks.reshape(-1, *masks.shape[-2:]) > 0).any(axis=0))

    return segment


def build_parser() -> argparse.ArgumentParser:
    """Command-line options."""
    parser = argparse.ArgumentParser(
        prog="python -m hloc_ext.datasets.spatial_priors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="cross-view data set")
    add("--source", choices=SOURCES, required=True, help="layers, or the pictures themselves")
    add("--output", type=Path, help=f"folder of the class maps (default: DATA/{LABELS})")
    add("--layers", type=Path, nargs="+", default=[], help="vector layers and rasters of classes")
    add("--classes", type=Path, help="YAML with the rules which feature is of which class")
    add("--splits", nargs="+", default=[], help="whose tiles (default: all)")
    add("--area", choices=("same", "cross"), default="same", help="of VIGOR")
    add("--size", type=int, default=SIZE, help="pixels per side of a class map")
    add("--box_threshold", type=float, default=0.24, help="score that a box of LangSAM needs")
    add("--text_threshold", type=float, default=0.24, help="score that its words need")
    add("--overwrite", action="store_true", help="make maps again that exist")
    return parser


def cli(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        written = main(**vars(build_parser().parse_args(argv)))
    except HlocExtError as error:
        print(f"hloc_ext.datasets.spatial_priors: error: {error}", file=sys.stderr)
        return 1
    print(f"{written} class maps written.")
    return 0


if __name__ == "__main__":
    sys.exit(cli())
