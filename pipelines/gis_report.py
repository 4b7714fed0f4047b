"""The report of a GIS alignment: pictures before and after, tables, and ``result.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from hloc_ext.errors import InputError
from hloc_ext.evaluation.registration import IGNORED, class_iou
from hloc_ext.gis.align import AlignmentResult, BentAlignment, class_name
from hloc_ext.gis.classes import raster_classes
from hloc_ext.gis.export import overlay, overlay_grid
from hloc_ext.gis.raster import Raster
from hloc_ext.gis.resample import resample, resample_values
from hloc_ext.gis.transform import Alignment
from hloc_ext.report import Card, ReportData, Swipe, SwipeGroup, Table

Pixels = npt.NDArray[np.uint8]
#: Longest side of the pictures, pixels.
LONGEST = 1400
COLORS = "Road yellow, sidewalk pink, building red, vegetation green, water blue."
_STATUS = {
    "corrected": "layers were moved onto the image",
    "aligned": "layers fit as they are; nothing was moved",
    "refused": "the evidence is too weak; nothing was moved",
}


def overlays(result: AlignmentResult, longest: int = LONGEST) -> tuple[Pixels, Pixels]:
    """The image with the layers as they claim to be, and as they were estimated to fit, (H, W, 3) RGB."""
    given = result.input
    grid = overlay_grid(given.image_grid, longest)
    picture, _ = resample(given.image, grid)
    estimated = result.alignment if result.status == "aligned" else result.estimated
    before, after = (
        overlay(picture, given.shapes.classes(alignment.claimed_grid(grid)))
        for alignment in (Alignment.identity(grid.crs, grid.center), estimated)
    )
    return before, after


def class_overlap(result: AlignmentResult, labels: Raster) -> dict[int, tuple[float, float]]:
    """Overlap of each class of the layers with a picture of the image's classes, before and after.

    Args:
        result: the alignment.
        labels: classes of the pixels of the image, of the same size.

    Raises:
        InputError: it is of another size, or holds other values.
    """
    image = result.input.image
    if (labels.width, labels.height) != (image.width, image.height):
        raise InputError(
            f"{labels.path} has {labels.width}×{labels.height} pixels, the image"
            f" {image.width}×{image.height}."
        )
    grid = result.input.image_grid
    values, valid = resample_values(labels.placed(image.grid), grid)
    classes = np.where(valid, raster_classes(values, (labels.path.stem,), result.input.shapes.rules), IGNORED)
    before, after = (
        class_iou(classes, result.input.shapes.classes(alignment.claimed_grid(grid)))
        for alignment in (Alignment.identity(grid.crs, grid.center), result.alignment)
    )
    seen = [c for c in range(1, len(before)) if np.isfinite(before[c]) or np.isfinite(after[c])]
    return {c: (float(np.nan_to_num(before[c])), float(np.nan_to_num(after[c]))) for c in seen}


def summary(
    result: AlignmentResult,
    agreement: Mapping[int, tuple[float, float]],
    overlap: Mapping[int, tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """What ``result.json`` holds."""
    given, found = result.input, result.registration
    mean, largest = result.moved
    record: dict[str, Any] = {
        "status": result.status,
        "image": str(given.image.path),
        "layers": sorted({str(layer.path) for layer in given.layers}),
        "unit": given.unit,
        "pixel_size": given.image_grid.pixel_size,
        "nominal_place": given.nominal,
        "model": result.estimated.model,
        "moved_mean": mean,
        "moved_max": largest,
        "parameters": result.estimated.parameters(),
        "uncertainty": uncertainty(result),
        "residual_pixels": _finite(found.residual),
        "held_out_pixels": {name: _finite(value) for name, value in found.held_out.items()},
        "evidence": asdict(found.evidence),
        "method": found.method,
        "tiles": result.tiles,
        "limits": {
            "max_shift": given.max_shift,
            "max_rotation": given.max_rotation,
            "max_scale": given.max_scale,
        },
        "features": {class_name(label): count for label, count in given.shapes.counts.items()},
        "repaired": given.shapes.num_repaired,
        "unclassified": given.shapes.num_unclassified,
        "remark": result.refusal,
        "border_agreement": {class_name(label): list(pair) for label, pair in agreement.items()},
    }
    if overlap is not None:
        record["iou"] = {class_name(label): list(pair) for label, pair in overlap.items()}
    if isinstance(result.estimated, BentAlignment) and result.estimated.field is not None:
        field, grid = result.estimated.field, result.estimated.grid
        record["field"] = {
            "grid": None if grid is None else grid.as_dict(),
            "points": field.points.tolist(),
            "displacements": field.displacements.tolist(),
            "reach": field.reach,
        }
    return record


def uncertainty(result: AlignmentResult) -> float | None:
    """Standard deviation of a corrected position, root mean square over the image's corners, metres."""
    covariances = result.estimated.position_covariance(result.input.image_grid.corners)
    if covariances is None:
        return None
    value = float(np.sqrt(np.trace(covariances, axis1=1, axis2=2).mean()))
    return _finite(value)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def class_table(
    result: AlignmentResult,
    agreement: Mapping[int, tuple[float, float]],
    overlap: Mapping[int, tuple[float, float]] | None = None,
) -> Table:
    """A row for each class."""
    headers = ["class", "features", "edges before", "edges after"]
    note = (
        "Edges: correlation of the class's borders with edges of the image, −1 to 1; 0 is chance, and what"
        " layers that fit reach depends on how visible a class is."
    )
    if overlap is not None:
        headers += ["IoU before", "IoU after"]
        note += " IoU: overlap with the classes of the image that were given."
    rows: list[list[str | float | None]] = []
    for label in sorted(set(agreement) | set(result.input.shapes.counts) | set(overlap or {})):
        row: list[str | float | None] = [class_name(label), result.input.shapes.counts.get(label)]
        row += agreement.get(label, (None, None))
        if overlap is not None:
            row += overlap.get(label, (None, None))
        rows.append(row)
    return Table("Classes", headers, rows, note)


def transform_table(result: AlignmentResult) -> Table:
    """The correction in numbers."""
    unit, found = result.input.unit, result.registration
    mean, largest = result.moved
    parameters = result.estimated.parameters()
    rows: list[list[str | float | None]] = [
        ["model", result.estimated.model],
        [f"to the east at the image's centre, {unit}", parameters["east"]],
        [f"to the north, {unit}", parameters["north"]],
        ["rotation, ° counter-clockwise", parameters["rotation"]],
        ["scale", f"{parameters['scale']:.5f}"],
        ["anisotropy", f"{parameters['anisotropy']:.5f}"],
        [f"mean and largest move in the image, {unit}", f"{mean:.3f} and {largest:.3f}"],
        [f"standard deviation of a position, {unit}", uncertainty(result)],
        ["residual of the patches (median), px", _finite(found.residual)],
    ]
    rows += [[f"held-out error, {name}, px", _finite(value)] for name, value in found.held_out.items()]
    return Table("Transform", ["of the layers, claimed to corrected", "value"], rows)


def evidence_table(result: AlignmentResult) -> Table:
    """Why the result is trusted, or not."""
    evidence = result.registration.evidence
    rows: list[list[str | float | None]] = [
        ["probability", evidence.probability],
        ["correlation of the gradient fields", evidence.correlation],
        ["… in standard deviations of wrong shifts", evidence.peak],
        ["… relative to the best wrong shift", evidence.lead],
        ["patches that agree", evidence.inliers],
        ["… share of those with structure", evidence.agreement],
        ["cells of a 6×6 grid with such patches", evidence.cells],
        ["overlap", evidence.overlap],
        ["proposed by", result.registration.method],
    ]
    return Table("Evidence", ["figure", "value"], rows, "Accepted from a probability of 0.5 on.")


def cards(result: AlignmentResult) -> list[Card]:
    """Main figures."""
    unit, pixel = result.input.unit, result.input.image_grid.pixel_size
    mean, largest = result.moved
    deviation = uncertainty(result)
    found = [
        Card("status", result.status, _STATUS[result.status]),
        Card("probability", f"{result.registration.evidence.probability:.3f}", "accepted from 0.5 on"),
        Card("model", result.estimated.model, "chosen by patches held out"),
        Card("move", f"{mean:.2f} {unit}", f"at most {largest:.2f} {unit}, mean {mean / pixel:.1f} px"),
    ]
    if deviation is not None:
        found.append(Card("uncertainty", f"± {deviation:.2f} {unit}", "standard deviation at the corners"))
    return found


def swipe(result: AlignmentResult, pictures: tuple[Pixels, Pixels], title: str = "") -> Swipe:
    """The layers before and after on the image."""
    after = {"corrected": "corrected", "aligned": "left as they are", "refused": "best guess, refused"}
    return Swipe(title or result.input.image.path.name, *pictures, ("claimed", after[result.status]), COLORS)


def report_of(
    result: AlignmentResult,
    pictures: tuple[Pixels, Pixels],
    facts: Mapping[str, str],
    agreement: Mapping[int, tuple[float, float]],
    overlap: Mapping[int, tuple[float, float]] | None = None,
) -> ReportData:
    """The page of an alignment."""
    data = ReportData(f"Alignment of {result.input.image.path.name}: {result.status}", facts=dict(facts))
    data.cards = cards(result)
    note = "Drag across the picture, or use the arrow keys, to move the border."
    data.swipes = [SwipeGroup("Before and after", [swipe(result, pictures)], note)]
    data.tables = [class_table(result, agreement, overlap), transform_table(result), evidence_table(result)]
    return data


def batch_table(records: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each image of a batch, from its ``result.json`` or error."""
    headers = ["image", "status", "model", "move m", "largest m", "± m", "probability", "remark"]
    rows: list[list[str | float | None]] = []
    for record in records:
        evidence = record.get("evidence", {})
        rows.append(
            [
                record["name"],
                record["status"],
                record.get("model"),
                record.get("moved_mean"),
                record.get("moved_max"),
                record.get("uncertainty"),
                evidence.get("probability"),
                record.get("remark", ""),
            ]
        )
    return Table("Images", headers, rows, "Lengths are pixels where an image has no place on the ground.")
