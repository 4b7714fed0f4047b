"""Alignments whose error is known: data sets of ``python -m hloc_ext.city --kind gis``, and figures."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from hloc_ext.errors import CorruptFileError, MissingInputError
from hloc_ext.evaluation.registration import (
    SUCCESS,
    CornerError,
    class_iou,
    mean_average_corner_error,
    registration_error,
    similarity_rate,
    success_rate,
)
from hloc_ext.formats.atomic import make_dir, read_text, write_text
from hloc_ext.gis.align import AlignmentResult, align
from hloc_ext.gis.classes import CLASSES, raster_classes, read_rules
from hloc_ext.gis.grid import Grid
from hloc_ext.gis.inputs import Limits, open_input
from hloc_ext.gis.raster import open_raster
from hloc_ext.gis.transform import Alignment
from hloc_ext.report import Card, ReportData, StageLog, SwipeGroup, Table
from pipelines.cross_view_evaluation import markdown
from pipelines.gis_report import overlays, swipe
from pipelines.summary import finish_report

#: Longest side of the pictures of a scene in the report, pixels.
SHOWN = 640


@dataclass(frozen=True)
class Scene:
    """A scene with a known error.

    Attributes:
        folder: of its files.
        split, imagery, model: what it is.
        true_offset_from_claimed_offset: (3, 3), metres from `anchor`: where the image says that something is
            → where it is.
        anchor: (2,) easting and northing.
    """

    folder: Path
    split: str
    imagery: str
    model: str
    true_offset_from_claimed_offset: npt.NDArray[np.float64]
    anchor: npt.NDArray[np.float64]

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.name

    def correction(self, grid: Grid) -> Alignment:
        """The true correction of the layers, on the grid of the image."""
        return Alignment(self.true_offset_from_claimed_offset, "homography", grid.crs, self.anchor).inverse()


@dataclass(frozen=True)
class Outcome:
    """What came of a scene.

    Attributes:
        name, group: of the scene.
        status: of the alignment.
        before, after: mean corner error of the image, of the claim and of the alignment; without a result
            where this was refused.
        iou_before, iou_after, iou_attainable: overlap of the classes of layers and image (6,): as claimed,
            as aligned (as claimed where that was refused), and with the true correction.
        seconds: of the alignment.
    """

    name: str
    group: str
    status: str
    before: CornerError
    after: CornerError
    iou_before: npt.NDArray[np.float64]
    iou_after: npt.NDArray[np.float64]
    iou_attainable: npt.NDArray[np.float64]
    seconds: float

    @property
    def similarity(self) -> float:
        """Similarity rate (:func:`hloc_ext.evaluation.registration.similarity_rate`)."""
        return similarity_rate(self.iou_after, self.iou_attainable)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "group": self.group,
            "status": self.status,
            "before_pixels": self.before.pixels,
            "error_pixels": self.after.pixels if math.isfinite(self.after.pixels) else None,
            "error_metres": self.after.metres if math.isfinite(self.after.metres) else None,
            "success": self.after.success,
            "similarity": self.similarity,
            "iou": {
                CLASSES[c]: [_finite(v[c]) for v in (self.iou_before, self.iou_after, self.iou_attainable)]
                for c in range(1, 6)
            },
            "seconds": self.seconds,
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def read_scenes(data: Path, split: str = "test", limit: int | None = None) -> list[Scene]:
    """Scenes of a data set.

    Args:
        data: its folder.
        split: ``train``, ``val``, ``test`` or ``all``.
        limit: so many of them, evenly spread.

    Raises:
        MissingInputError: there are none.
        CorruptFileError: a ``truth.json`` is damaged.
    """
    folders = sorted(path.parent for path in (data / "scenes").glob("*/truth.json"))
    scenes = [scene for scene in map(_read_scene, folders) if split in ("all", scene.split)]
    if not scenes:
        raise MissingInputError(
            f"{data} has no scenes of the split '{split}': expected {data}/scenes/*/truth.json, as"
            " `python -m hloc_ext.city --kind gis` writes them."
        )
    if limit is not None and limit < len(scenes):
        scenes = [scenes[i] for i in np.linspace(0, len(scenes) - 1, limit).round().astype(int)]
    return scenes


def _read_scene(folder: Path) -> Scene:
    path = folder / "truth.json"
    try:
        truth = json.loads(read_text(path))
        return Scene(
            folder,
            str(truth["split"]),
            str(truth["imagery"]),
            str(truth["parameters"]["model"]),
            np.array(truth["true_offset_from_claimed_offset"], np.float64),
            np.array(truth["anchor"], np.float64),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{path} is damaged ({error!r}): write the data set again.") from error


def evaluate_scene(scene: Scene, result: AlignmentResult, seconds: float) -> Outcome:
    """Compare an alignment with the truth.

    Args:
        scene: the scene.
        result: of its image and layers.
        seconds: that it took.
    """
    given = result.input
    grid, true = given.image_grid, scene.correction(given.image_grid)
    to_grid, from_grid = np.linalg.inv(grid.crs_from_center), grid.crs_from_center

    def in_pixels(alignment: Alignment) -> npt.NDArray[np.float64]:
        """Where the image is corrected to, pixel → pixel."""
        inverse = alignment.inverse()
        there = np.array([[1, 0, inverse.anchor[0]], [0, 1, inverse.anchor[1]], [0, 0, 1]])
        matrix = to_grid @ there @ inverse.matrix @ np.linalg.inv(there) @ from_grid
        return np.asarray(matrix / matrix[2, 2], np.float64)

    size, metre = (grid.width, grid.height), grid.pixel_size
    values, _ = open_raster(scene.folder / "labels.png").read_values()
    labels = raster_classes(values, ("labels",), given.shapes.rules)
    claimed = Alignment.identity(grid.crs, grid.center)
    accepted = result.status != "refused"
    overlaps = [
        class_iou(labels, given.shapes.classes(alignment.claimed_grid(grid)))
        for alignment in (claimed, result.alignment, true)
    ]
    return Outcome(
        scene.name,
        f"{scene.imagery}, {scene.model}",
        result.status,
        registration_error(np.eye(3), in_pixels(true), size, metre),
        registration_error(in_pixels(result.alignment) if accepted else None, in_pixels(true), size, metre),
        overlaps[0],
        overlaps[1],
        overlaps[2],
        seconds,
    )


def outcome_table(outcomes: Sequence[Outcome], title: str = "Alignment") -> Table:
    """A row for each group of scenes, and one for all."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda each: each.group):
        groups.setdefault(outcome.group, []).append(outcome)
    if len(groups) > 1:
        groups["all"] = list(outcomes)
    headers = ["scenes", "number", "refused %", "success %", "before m", "median m", "median px", "MACE m"]
    headers += ["similarity %", "s"]
    rows: list[list[str | float | None]] = []
    for name, members in groups.items():
        after, before = [o.after for o in members], [o.before for o in members]
        mace = mean_average_corner_error([e.metres for e in after], [e.metres for e in before])
        rows.append(
            [
                name,
                len(members),
                100 * float(np.mean([o.status == "refused" for o in members])),
                100 * success_rate(after),
                float(np.median([e.metres for e in before])),
                float(np.median([e.metres for e in after])),
                float(np.median([e.pixels for e in after])),
                mace,
                100 * float(np.mean([o.similarity for o in members])),
                float(np.median([o.seconds for o in members])),
            ]
        )
    note = (
        f"Mean corner errors; success: below {100 * SUCCESS:g} % of the diagonal. A refused scene has"
        " an infinite error, in MACE that before. Similarity: mean over classes of IoU after ÷ attainable IoU"
        " (1 % tolerance); a refused scene keeps its layers."
    )
    return Table(title, headers, rows, note)


def class_rows(outcomes: Sequence[Outcome]) -> Table:
    """Mean overlap of each class, before and after, and what could be attained."""
    rows: list[list[str | float | None]] = []
    for label in range(1, len(CLASSES)):
        values = np.array(
            [[o.iou_before[label], o.iou_after[label], o.iou_attainable[label]] for o in outcomes]
        )
        values = values[np.isfinite(values[:, 2]) & (values[:, 2] > 0)]
        if len(values):
            rows.append([CLASSES[label], len(values), *np.nan_to_num(values).mean(axis=0).tolist()])
    note = "Means over the scenes that show the class."
    return Table(
        "Overlap of the classes (IoU)", ["class", "scenes", "before", "after", "attainable"], rows, note
    )


def evaluate(args: argparse.Namespace, command: str) -> list[Outcome]:
    """Command ``evaluate``: align every scene and compare; writes tables, figures and a report."""
    make_dir(args.outputs)
    rules = read_rules() if args.classes is None else read_rules(args.classes)
    scenes = read_scenes(args.data, args.split, args.limit)
    limits = Limits(args.max_shift, args.max_rotation, args.max_scale)
    log = StageLog(args.outputs / "stages.json")
    outcomes, shown = [], []
    chosen = set(
        np.linspace(0, len(scenes) - 1, min(args.pictures, len(scenes))).round().astype(int).tolist()
    )
    with log.stage("alignment", count=len(scenes)):
        for number, scene in enumerate(tqdm(scenes, desc="scenes")):
            given = open_input(
                scene.folder / "image.tif",
                [scene.folder / "layers.gpkg"],
                rules=rules,
                limits=limits,
                image_crs=args.image_crs,
                layers_crs=args.layers_crs,
                resolution=args.resolution,
                nodata=args.nodata,
            )
            start = time.perf_counter()
            result = align(given, args.model, args.method, args.field)
            outcomes.append(evaluate_scene(scene, result, time.perf_counter() - start))
            if number in chosen:
                shown.append(swipe(result, overlays(result, SHOWN), _title(outcomes[-1])))
    tables = [outcome_table(outcomes), class_rows(outcomes)]
    text = "\n".join(markdown(table) for table in tables)
    write_text(args.outputs / "results.md", text)
    records = [outcome.record() for outcome in outcomes]
    write_text(args.outputs / "results.json", json.dumps(records, indent=1) + "\n")
    print(text)
    data = ReportData(f"GIS alignment of {args.data.resolve().name}", facts={"command": command})
    data.cards, data.tables = _cards(tables[0]), [*tables, _scene_table(outcomes)]
    data.swipes = [SwipeGroup("Before and after", shown, "Drag across a picture to move the border.")]
    finish_report(args.outputs / "report.html", data, log)
    return outcomes


def _title(outcome: Outcome) -> str:
    after = f"{outcome.after.metres:.2f} m" if math.isfinite(outcome.after.metres) else "no result"
    return f"{outcome.name} ({outcome.group}): {outcome.before.metres:.2f} m before, {after}"


def _cards(table: Table) -> list[Card]:
    row: Mapping[str, Any] = dict(zip(table.headers, table.rows[-1], strict=True))
    wanted: dict[str, Callable[[Any], str]] = {
        "success %": lambda v: f"{v:.1f} %",
        "similarity %": lambda v: f"{v:.1f} %",
        "median m": lambda v: f"{v:.2f} m",
        "refused %": lambda v: f"{v:.1f} %",
    }
    details = {
        "success %": f"corner error below {100 * SUCCESS:g} % of the diagonal",
        "similarity %": "of the attainable overlap",
        "median m": "corner error",
        "refused %": "of all scenes",
    }
    return [Card(name.split()[0], text(row[name]), details[name]) for name, text in wanted.items()]


def _scene_table(outcomes: Sequence[Outcome]) -> Table:
    headers = ["scene", "kind", "status", "before m", "after m", "after px", "similarity %"]
    rows: list[list[str | float | None]] = [
        [o.name, o.group, o.status, o.before.metres, o.after.metres, o.after.pixels, 100 * o.similarity]
        for o in outcomes
    ]
    return Table("Scenes", headers, rows, "Click a heading to sort.")
