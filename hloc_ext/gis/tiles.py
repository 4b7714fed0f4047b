"""Folders of web map tiles ``z/x/y.png`` as one raster in Web Mercator."""

from __future__ import annotations

import math
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import CorruptFileError, InputError, MissingInputError
from .extra import naming_extra
from .grid import Matrix

with naming_extra():
    import pyproj

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
#: Half of the side of the world in Web Mercator, metres of it.
HALF_WORLD = math.pi * 6378137.0

_PNG = b"\x89PNG\r\n\x1a\n"
# The last chunk of a PNG is within so many bytes of its end.
_TAIL = 1024


def tile_mosaic(
    folder: Path, zoom: int | None = None, tms: bool = False
) -> tuple[str, tuple[pyproj.CRS, Matrix]]:
    """Put the tiles of one zoom level together, across the antimeridian where they go on there.

    Args:
        folder: holds ``z/x/y.png`` (or .jpg, .webp).
        zoom: level; the finest by default.
        tms: whether rows count from the south.

    Returns:
        The XML of a GDAL virtual raster of three bands and a mask (places without a tile are invalid); its
        CRS, EPSG:3857, and (3, 3) map of pixels to it.

    Raises:
        MissingInputError: no tiles, or none of this level.
        CorruptFileError: a tile cannot be opened.
        InputError: tiles of different sizes, or outside of the world.
    """
    level = _level(folder, zoom)
    tiles = _tiles(folder / str(level))
    world = 2**level
    if tms:
        tiles = {(x, world - 1 - y): path for (x, y), path in tiles.items()}
    if not all(0 <= v < world for position in tiles for v in position):
        raise InputError(f"{folder}: a tile of level {level} has a number above {world - 1}.")
    xs = {x for x, _ in tiles}
    if world >= 8 and xs & {0} and xs & {world - 1} and not xs & {world // 2}:
        tiles = {(x + world if x < world // 2 else x, y): path for (x, y), path in tiles.items()}
    left, top = min(x for x, _ in tiles), min(y for _, y in tiles)
    columns, rows = max(x for x, _ in tiles) - left + 1, max(y for _, y in tiles) - top + 1
    modes = {position: _mode(path) for position, path in tiles.items()}
    sides = {side for _, *size in modes.values() for side in size}
    if len(sides) != 1:
        raise InputError(f"The tiles in {folder} are of different sizes ({sorted(sides)}): use one level.")
    side = sides.pop()
    sources = [
        (tiles[x, y].resolve(), modes[x, y][0], (x - left) * side, (y - top) * side) for x, y in sorted(tiles)
    ]
    pixel = 2 * HALF_WORLD / world / side
    matrix = np.array(
        [
            [pixel, 0, left * side * pixel - HALF_WORLD],
            [0, -pixel, HALF_WORLD - top * side * pixel],
            [0, 0, 1],
        ]
    )
    xml = _virtual_raster(columns * side, rows * side, side, sources)
    return xml, (pyproj.CRS.from_epsg(3857), matrix)


def _level(folder: Path, zoom: int | None) -> int:
    levels = sorted(int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdecimal())
    if not levels:
        raise MissingInputError(
            f"{folder} is no folder of tiles: expected z/x/y.png, z/x/y.jpg or z/x/y.webp."
        )
    if zoom is not None and zoom not in levels:
        raise MissingInputError(f"{folder} has no tiles of level {zoom}: it has {levels}.")
    return levels[-1] if zoom is None else zoom


def _tiles(folder: Path) -> dict[tuple[int, int], Path]:
    tiles = {
        (int(path.parent.name), int(path.stem)): path
        for path in sorted(folder.glob("*/*"))
        if path.suffix.lower() in _SUFFIXES and path.parent.name.isdecimal() and path.stem.isdecimal()
    }
    if not tiles:
        raise MissingInputError(f"{folder} holds no tiles x/y.png, x/y.jpg or x/y.webp.")
    return tiles


def require_whole_png(path: Path) -> None:
    """Make sure that a PNG file has its end, which GDAL does without.

    Raises:
        CorruptFileError: it is truncated.
    """
    with open(path, "rb") as file:
        start = file.read(len(_PNG))
        file.seek(max(path.stat().st_size - _TAIL, 0))
        if start == _PNG and b"IEND" not in file.read():
            raise CorruptFileError(f"{path} is truncated: copy or download it again.")


def _mode(path: Path) -> tuple[str, int, int]:
    """Colour model and size of a tile, from its header."""
    require_whole_png(path)
    try:
        with Image.open(path) as image:
            return image.mode, *image.size
    except (OSError, UnidentifiedImageError) as error:
        raise CorruptFileError(f"Tile {path} cannot be opened: replace or remove it.") from error


def _virtual_raster(width: int, height: int, side: int, sources: list[tuple[Path, str, int, int]]) -> str:
    def band(number: int) -> str:
        color = ("Red", "Green", "Blue")[number - 1]
        parts = [f'<VRTRasterBand dataType="Byte" band="{number}"><ColorInterp>{color}</ColorInterp>']
        for path, mode, x, y in sources:
            if mode == "P":
                component = f"<ColorTableComponent>{number}</ColorTableComponent>"
                parts.append(_source("ComplexSource", path, "1", x, y, side, component))
            else:
                wanted = str(number) if mode in ("RGB", "RGBA") else "1"
                parts.append(_source("SimpleSource", path, wanted, x, y, side))
        return "".join([*parts, "</VRTRasterBand>"])

    masks = "".join(_source("SimpleSource", path, "mask,1", x, y, side) for path, _, x, y in sources)
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
        + "".join(band(number) for number in (1, 2, 3))
        + f'<MaskBand><VRTRasterBand dataType="Byte">{masks}</VRTRasterBand></MaskBand></VRTDataset>'
    )


def _source(kind: str, path: Path, band: str, x: int, y: int, side: int, more: str = "") -> str:
    return (
        f'<{kind}><SourceFilename relativeToVRT="0">{escape(str(path))}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{side}" ySize="{side}"/>'
        f'<DstRect xOff="{x}" yOff="{y}" xSize="{side}" ySize="{side}"/>{more}</{kind}>'
    )
