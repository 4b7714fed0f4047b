"""Align map layers to an image, or an image to layers, in metres (docs/gis.md).

    python -m pipelines.gis_alignment --image IMAGE --layers LAYERS --outputs DIR
    python -m pipelines.gis_alignment --batch IMAGES --layers LAYERS --outputs DIR
    python -m pipelines.gis_alignment evaluate --data DIR --outputs DIR

IMAGE is whatever GDAL reads, LAYERS whatever OGR reads, or a raster of classes. DIR gets the corrected layers
(they fit the image), the image with a corrected georeference (it fits the layers as they were: use one or
the other), control points for QGIS, the transform, pictures and a report.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from hloc_ext.errors import CorruptFileError, HlocExtError, InputError, MissingInputError
from hloc_ext.formats.atomic import make_dir, read_text, write_text
from hloc_ext.gis.align import METHOD, AlignmentRefusedError, AlignmentResult, align, border_agreement
from hloc_ext.gis.export import corrected_layers, write_layers, write_picture, write_points, write_raster
from hloc_ext.gis.inputs import RASTERS, Limits, open_input, parse_center
from hloc_ext.gis.raster import Raster, open_raster
from hloc_ext.gis.registration.matching import METHODS
from hloc_ext.gis.resample import resample_values
from hloc_ext.gis.transform import MODELS
from hloc_ext.report import ReportData, StageLog
from pipelines.common import positive, remove_leftovers, run_pipeline, unless_done
from pipelines.gis_evaluation import evaluate
from pipelines.gis_report import batch_table, class_overlap, overlays, report_of, summary
from pipelines.summary import command_of, finish_report

PROGRAM = "python -m pipelines.gis_alignment"
#: What is written.
LAYERS, IMAGE, POINTS, ALIGNMENT = "layers", "image.tif", "image.points", "alignment.json"
BEFORE, AFTER, RESULT, REPORT = "before.png", "after.png", "result.json", "report.html"
CORRECT = ("layers", "image", "both")
# Options that do not change what is written.
_PASSING = ("image", "batch", "layers", "outputs", "run")


def align_one(args: argparse.Namespace, image: Path, layers: Sequence[Path], outputs: Path) -> dict[str, Any]:
    """Align layers to one image, unless this is done already; returns what ``result.json`` holds.

    Raises:
        HlocExtError: of the input. A refusal raises nothing here.
    """
    _require_apart([image, *layers], outputs)
    stamp: dict[str, Any] = {"files": _fingerprints([image, *layers, args.classes, args.image_classes])}
    stamp |= {key: str(value) for key, value in vars(args).items() if key not in _PASSING}
    remove_leftovers(make_dir(outputs))
    with unless_done(outputs / "inputs.json", stamp, lambda: (outputs / RESULT).exists()) as done:
        if done:
            return _read_result(outputs / RESULT)
        clear(outputs)
        return _align(args, image, layers, outputs)


def _align(args: argparse.Namespace, image: Path, layers: Sequence[Path], outputs: Path) -> dict[str, Any]:
    log = StageLog(outputs / "stages.json")
    with log.stage("input") as stage:
        limits = Limits(args.max_shift, args.max_rotation, args.max_scale)
        given = open_input(
            image,
            layers,
            rules=args.classes,
            limits=limits,
            image_crs=args.image_crs,
            layers_crs=args.layers_crs,
            image_center=None if args.image_center is None else parse_center(args.image_center),
            image_pixel_size=args.image_pixel_size,
            resolution=args.resolution,
            nodata=args.nodata,
        )
        stage.count = sum(given.shapes.counts.values())
    with log.stage("registration") as stage:
        result = align(given, args.model, args.method, args.field)
        stage.note = f"{result.status}, {result.estimated.model}"
    with log.stage("pictures"):
        agreement = border_agreement(result)
        overlap = (
            None if args.image_classes is None else class_overlap(result, open_raster(args.image_classes))
        )
        pictures = overlays(result)
        write_picture(outputs / BEFORE, pictures[0])
        if result.status != "refused":
            write_picture(outputs / AFTER, pictures[1])
    if result.status != "refused":
        with log.stage("output"):
            write_outputs(result, outputs, args)
    record = summary(result, agreement, overlap)
    facts = {"command": command_of(PROGRAM, None), "processors": str(os.cpu_count())}
    facts["place of the image"] = "nominal" if given.nominal else "by its georeference"
    finish_report(outputs / REPORT, report_of(result, pictures, facts, agreement, overlap), log)
    write_text(outputs / RESULT, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(describe(record))
    return record


def write_outputs(result: AlignmentResult, outputs: Path, args: argparse.Namespace) -> None:
    """Write the corrected layers and image, the control points and the transform."""
    given, alignment = result.input, result.alignment
    alignment.save(outputs / ALIGNMENT)
    if args.correct in ("layers", "both"):
        vectors = given.vectors
        if result.status == "corrected":
            area = shapely.Polygon(given.image_grid.corners) if args.move == "image" else None
            vectors = corrected_layers(vectors, alignment, area)
        if vectors:
            write_layers(vectors, outputs / LAYERS)
        for layer in given.layers:
            if isinstance(layer, Raster):
                _write_mask(result, layer, outputs / LAYERS)
    if args.correct in ("image", "both") and given.image.crs is not None:
        write_raster(given.image, alignment, outputs / IMAGE, cog=args.cog)
    if given.image.crs is not None:
        write_points(given.image, alignment, outputs / POINTS)


def _write_mask(result: AlignmentResult, mask: Raster, folder: Path) -> None:
    """A raster of classes that fits the image: with a corrected place, or else on the image's pixels."""
    make_dir(folder)
    if mask.crs is not None:
        write_raster(mask, result.alignment.inverse(), folder / f"{mask.path.stem}.tif")
        return
    values, _ = resample_values(mask, result.alignment.claimed_grid(result.input.image_grid))
    kind = np.uint8 if values.max(initial=0) < 256 else np.uint16
    write_picture(folder / f"{mask.path.stem}.png", values.astype(kind))


def clear(outputs: Path) -> None:
    """Remove what an earlier run wrote, so that nothing of it is taken for the result of this one."""
    if not (outputs / RESULT).exists():
        return
    shutil.rmtree(outputs / LAYERS, ignore_errors=True)
    for name in (IMAGE, POINTS, ALIGNMENT, BEFORE, AFTER, REPORT, RESULT):
        (outputs / name).unlink(missing_ok=True)


def describe(record: dict[str, Any]) -> str:
    """One line about a result."""
    unit = record["unit"]
    moved = f"{record['moved_mean']:.2f} {unit} on average, {record['moved_max']:.2f} {unit} at most"
    probability = f"probability {record['evidence']['probability']:.3f}"
    if record["status"] == "corrected":
        return f"Corrected ({record['model']}): layers moved by {moved}; {probability}."
    if record["status"] == "aligned":
        return f"Aligned already: nothing was moved (estimated {moved}); {probability}."
    return f"Refused: {probability}."


def run_one(args: argparse.Namespace) -> None:
    """Align layers to ``--image``."""
    record = align_one(args, args.image, args.layers, args.outputs)
    print(f"Results: {args.outputs}")
    if record["status"] == "refused":
        raise AlignmentRefusedError(
            f"{record['remark']} No layers were written; see {args.outputs / REPORT}."
        )


def run_batch(args: argparse.Namespace) -> None:
    """Align layers to every image of ``--batch``, each with results in a folder of its own."""
    images = sorted(path for path in args.batch.glob("*") if path.suffix.lower() in RASTERS)
    if not images:
        raise MissingInputError(f"No images in {args.batch}: expected files in {', '.join(RASTERS)}.")
    names = [path.stem for path in images]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"Several images of {args.batch} are called {', '.join(twice)}: their results would mix."
        )
    records = []
    for image in images:
        try:
            record = align_one(args, image, layers_of(image, args.layers), args.outputs / image.stem)
        except HlocExtError as error:
            print(f"{image.name}: {error}", file=sys.stderr)
            record = {"status": "error", "remark": str(error)}
        records.append({"name": image.name, **record})
    write_text(args.outputs / "results.json", json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    data = ReportData(
        f"Alignment of {args.batch.resolve().name}", facts={"command": command_of(PROGRAM, None)}
    )
    data.tables = [batch_table(records)]
    finish_report(args.outputs / REPORT, data, StageLog())
    failed = [record["name"] for record in records if record["status"] in ("refused", "error")]
    if failed:
        raise AlignmentRefusedError(
            f"{len(failed)} of {len(records)} images were not aligned, for instance {failed[0]}:"
            f" {args.outputs / REPORT} says why."
        )


def layers_of(image: Path, layers: Sequence[Path]) -> list[Path]:
    """The layers of an image of a batch: of a folder the files that are called like it, if there are any."""
    chosen: list[Path] = []
    for path in layers:
        own = sorted(path.glob(f"{image.stem}.*")) if path.is_dir() else []
        own = [
            file
            for file in own
            if file.suffix.lower() in (".gpkg", ".geojson", ".json", ".shp", ".fgb", *RASTERS)
        ]
        chosen += own or [path]
    return chosen


def _require_apart(inputs: Sequence[Path], outputs: Path) -> None:
    for path in inputs:
        if not path.exists():
            raise MissingInputError(f"{path} does not exist.")
        if outputs.resolve() in (path.resolve(), *path.resolve().parents):
            raise InputError(
                f"{path} lies in the output folder {outputs}, which is written anew: choose another."
            )


def _fingerprints(paths: Sequence[Path | None]) -> list[list[Any]]:
    """Name, size and time of files, and of those in folders."""
    files = []
    for path in paths:
        if path is not None:
            files += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _read_result(path: Path) -> dict[str, Any]:
    try:
        record = dict(json.loads(read_text(path)))
        print(f"{path.parent} is up to date. {describe(record)}")
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{path} is damaged ({error}): delete it.") from error
    return record


def build_parser() -> argparse.ArgumentParser:
    """Command line of the pipeline."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--image", type=Path, help="raster that GDAL reads, or a folder of tiles z/x/y.png")
    images.add_argument(
        "--batch", type=Path, help="folder of images; layers called like one are for it alone"
    )
    parser.add_argument(
        "--layers", type=Path, nargs="+", required=True, help="vector files or folders, rasters of classes"
    )
    parser.add_argument("--outputs", type=Path, required=True, help="folder of all results")
    parser.add_argument(
        "--correct",
        choices=CORRECT,
        default="both",
        help="write the layers that fit the image, or the reverse",
    )
    parser.add_argument(
        "--move", choices=("all", "image"), default="all", help="features: all, or those in the image"
    )
    parser.add_argument("--cog", action="store_true", help="write the image as a Cloud Optimized GeoTIFF")
    parser.add_argument("--image_center", metavar="LON,LAT", help="of an image without georeference")
    parser.add_argument("--image_pixel_size", type=float, metavar="M", help="likewise, metres")
    parser.add_argument(
        "--image_classes", type=Path, help="classes of the image's pixels, for IoU in the report"
    )
    _add_shared_arguments(parser)
    parser.set_defaults(run=lambda args: (run_batch if args.batch else run_one)(args))
    return parser


def _add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--classes", type=Path, help="rules of classes (YAML); default: OSM tags and usual names")
    add(
        "--model", choices=("auto", *MODELS), default="auto", help="of the error; auto: by held-out residuals"
    )
    add("--method", choices=tuple(METHODS), default=METHOD, help="what proposes transforms")
    add("--max_shift", type=float, metavar="M", help="of the image's centre, metres (default 30)")
    add("--max_rotation", type=float, metavar="D", help="degrees (default 10; 180 without georeference)")
    add("--max_scale", type=float, metavar="S", help="factor (default 1.1; 2.08 without georeference)")
    add("--field", action="store_true", help="also bend layers smoothly, where tiles held out gain by it")
    add("--resolution", type=float, metavar="M", help="pixels that are compared; default: the image's")
    add("--image_crs", help="replaces what the image says, such as EPSG:32635")
    add("--layers_crs", help="likewise; `pixels` for layers drawn on an image without georeference")
    add("--nodata", type=float, help="value of the image's invalid pixels")


def build_evaluation_parser() -> argparse.ArgumentParser:
    """Command line of ``evaluate``."""
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} evaluate",
        description="Align a data set with known errors, as python -m hloc_ext.city --kind gis writes it.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--outputs", type=Path, required=True, help="folder of all results")
    parser.add_argument("--split", default="test", help="train, val, test, or all")
    parser.add_argument("--limit", type=positive, metavar="N", help="only so many scenes, evenly spread")
    parser.add_argument(
        "--pictures", type=positive, default=6, metavar="N", help="scenes shown in the report"
    )
    _add_shared_arguments(parser)
    parser.set_defaults(run=lambda args: evaluate(args, command_of(PROGRAM, None)))
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the pipeline."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["evaluate"]:
        args = build_evaluation_parser().parse_args(given[1:])
    else:
        args = build_parser().parse_args(given)
    args.run(args)


if __name__ == "__main__":
    sys.exit(run_pipeline(main))
