"""Layers drawn as classes on a grid, in windows, and as a picture to match with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from ..city.labels import COLORS, Label
from ..errors import InputError
from .classes import CLASSES, Rule, classify, raster_classes
from .extra import naming_extra
from .grid import Grid, apply_homography
from .raster import Pixels, Raster
from .resample import resample_values
from .transform import Geometries
from .vector import Layer, metric_shapes, require_near

with naming_extra():
    import shapely
    from rasterio.features import rasterize
    from rasterio.transform import Affine

logger = logging.getLogger(__name__)

#: Colour of outlines in pictures, RGB.
OUTLINE = (40, 40, 40)

# Segments in a quarter of a round end of a line.
_ROUNDNESS = 4


@dataclass(frozen=True, eq=False)
class MapShapes:
    """What is drawn of layers: areas in metres, in the order of painting.

    Attributes:
        shapes: (N,) polygons in the CRS of the grid they were made for.
        labels: (N,) classes.
        layers: (N,) number of the layer of each.
        rasters: rasters of classes, which are painted first.
        rules: for the rasters.
        counts: features that are drawn, by class.
        num_repaired: invalid geometries that were repaired.
        num_unclassified: features near the image that no rule fits, or that have no width.
    """

    shapes: Geometries
    labels: npt.NDArray[np.uint8]
    layers: npt.NDArray[np.intp]
    rasters: tuple[Raster, ...]
    rules: tuple[Rule, ...]
    counts: dict[int, int]
    num_repaired: int
    num_unclassified: int

    def classes(self, grid: Grid) -> Pixels:
        """Draw the classes on a grid.

        Args:
            grid: of the CRS of the shapes; of any size, rotation and perspective.

        Returns:
            (H, W) classes; 0 where there is nothing. A pixel has the class of its centre.

        Raises:
            CorruptFileError, InputError: of a raster of classes.
        """
        result = np.zeros((grid.height, grid.width), np.uint8)
        for raster in self.rasters:
            values, valid = resample_values(raster, grid)
            names = (raster.path.stem, raster.path.parent.name)
            result[valid] = raster_classes(values[valid], names, self.rules)
        inside = np.sort(self._tree.query(shapely.Polygon(grid.corners), predicate="intersects"))
        if not len(inside):
            return result
        shapes, transform = self.shapes[inside], Affine(*grid.crs_from_pixel[:2].ravel())
        if np.any(grid.crs_from_pixel[2, :2]):
            pixel_from_crs, transform = grid.pixel_from_crs, Affine.identity()
            shapes = shapely.transform(shapes, lambda points: apply_homography(pixel_from_crs, points))
            seen = np.isfinite(shapely.bounds(shapes)).all(axis=1)
            shapes, inside = shapes[seen], inside[seen]
        pairs = list(zip(shapes, self.labels[inside].tolist(), strict=True))
        if pairs:
            rasterize(pairs, out=result, transform=transform)
        return result

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.shapes)


def map_shapes(
    layers: Sequence[Layer | Raster], rules: Sequence[Rule], grid: Grid, margin: float = 100.0
) -> MapShapes:
    """What of layers is to be drawn near an image.

    Args:
        layers: vector layers, and rasters of classes.
        rules: see :func:`hloc_ext.gis.classes.read_rules`.
        grid: of the image, metric.
        margin: metres around it that layers may be moved by.

    Raises:
        InputError: no feature is near the image, or none that is has a class.
    """
    vectors = [layer for layer in layers if isinstance(layer, Layer) and layer.spatial]
    rasters = tuple(layer for layer in layers if isinstance(layer, Raster))
    if not rasters:
        require_near(vectors, grid, margin)
    shapes, orders, numbers = [], [], []
    repaired = unclassified = 0
    for number, layer in enumerate(vectors):
        metric, rows, invalid = metric_shapes(layer, grid, margin)
        repaired += invalid
        order, widths = classify(layer.frame.iloc[rows], (layer.name, layer.path.stem), rules)
        areas = _areas(metric, widths)
        drawn = (order >= 0) & ~shapely.is_empty(areas)
        unclassified += int((~drawn).sum())
        shapes.append(areas[drawn])
        orders.append(order[drawn])
        numbers.append(np.full(int(drawn.sum()), number, np.intp))
    order = np.concatenate([np.empty(0, np.intp), *orders])
    sequence = np.argsort(order, kind="stable")
    by_rule = np.array([-1 if rule.label is None else rule.label for rule in rules], np.int64)
    painted = sequence[by_rule[order[sequence]] >= 0]
    if not len(painted) and not rasters:
        names = sorted({layer.name for layer in vectors})
        raise InputError(
            f"No feature near the image has a class: {unclassified} of the layers {', '.join(names)} fit no"
            " rule, or are lines without a width. Give them one in the class mapping (classes)."
        )
    labels = by_rule[order[painted]].astype(np.uint8)
    counts = {int(c): int((labels == c).sum()) for c in np.unique(labels)}
    if repaired:
        logger.info("%d invalid geometries were repaired for drawing; the output keeps them.", repaired)
    found = ", ".join(f"{count} {CLASSES[c]}" for c, count in counts.items())
    logger.info("Drawn: %s; without a class: %d.", found or "rasters", unclassified)
    empty = np.empty(0, object)
    return MapShapes(
        shapes=np.concatenate([empty, *shapes])[painted],
        labels=labels,
        layers=np.concatenate([np.empty(0, np.intp), *numbers])[painted],
        rasters=rasters,
        rules=tuple(rules),
        counts=counts,
        num_repaired=repaired,
        num_unclassified=unclassified,
    )


def _areas(geometries: Geometries, widths: npt.NDArray[np.float64]) -> Geometries:
    """Areas of geometries: polygons, and lines and points that have a width; empty where there is none."""
    areas = np.full(len(geometries), shapely.Polygon(), object)
    dimensions = shapely.get_dimensions(geometries)
    kinds = shapely.get_type_id(geometries)
    solid = np.isin(kinds, (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    areas[solid] = geometries[solid]
    for index in np.flatnonzero((dimensions == 2) & ~solid):  # a collection, as repairing makes it
        parts = shapely.get_parts(shapely.get_parts(geometries[index]))
        areas[index] = shapely.union_all(parts[shapely.get_dimensions(parts) == 2])
    thick = (dimensions < 2) & np.isfinite(widths)
    areas[thick] = shapely.buffer(geometries[thick], widths[thick] / 2, quad_segs=_ROUNDNESS)
    return areas


def map_picture(classes: Pixels) -> Pixels:
    """A map in flat colours with dark outlines, to look at and to match with.

    Args:
        classes: (H, W).

    Returns:
        (H, W, 3) RGB.
    """
    colors = np.array([COLORS[Label(c)] for c in range(len(CLASSES))], np.uint8)
    picture = colors[classes]
    picture[borders(classes)] = OUTLINE
    return picture


def borders(classes: Pixels) -> npt.NDArray[np.bool_]:
    """Pixels of a class other than 0 next to another class, (H, W)."""
    kernel = np.ones((3, 3), np.uint8)
    differs = cv2.dilate(classes, kernel) != cv2.erode(classes, kernel)
    return np.asarray(differs & (classes > 0))
