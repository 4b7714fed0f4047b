"""The main job on a procedural city with exact ground truth: photos, map, localized queries, report.

``python -m pipelines.demo --outputs outputs/demo``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pycolmap
import torch

from hloc_ext.confs import DEFAULT_RETRIEVAL, SPARSE_FEATURES
from hloc_ext.evaluation.poses import Evaluation, evaluate, format_table
from hloc_ext.formats.colmap import projection_centers
from hloc_ext.formats.images import read_image
from hloc_ext.host import get_conf
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.pretrained import WEIGHTS, checkpoint_path
from hloc_ext.report import Picture, ReportData, Table, pick_queries
from hloc_ext.report.match_picture import draw_matches
from pipelines import aachen, demo_pictures
from pipelines.common import Run, estimator_conf, find_matcher, resized, run_pipeline
from pipelines.summary import (
    best_retrieved,
    command_of,
    facts_of,
    finish_report,
    pictures_of,
    read_ground_truth,
)

#: Pairs per map photo, and map photos to match a query with.
NUM_COVIS, NUM_LOC = 5, 5
#: Pixels of the overview are this large, metres; of larger cities larger.
PIXEL_SIZE = 0.08
#: Land around the cameras in the overview, metres.
MARGIN = 22.0
#: The overview has at most so many pixels in a row or column.
MAX_PIXELS = 1600
#: Photos of each condition that the report shows.
NUM_SHOWN = 4


@dataclass(frozen=True)
class Method:
    """Configurations to compare.

    Attributes:
        features, matcher, retrieval: names of configurations; a semi-dense matcher needs no features.
        weights: files of public weights that they need, keys of :data:`hloc_ext.pretrained.WEIGHTS`.
        max_size: longest side of the images that a semi-dense matcher sees, pixels; None: as its
            configuration says.
        needs_gpu: takes many minutes on a CPU.
    """

    features: str
    matcher: str
    retrieval: str = DEFAULT_RETRIEVAL
    weights: tuple[str, ...] = ()
    max_size: int | None = None
    needs_gpu: bool = False

    @property
    def label(self) -> str:
        """For tables and messages."""
        if not self.features:
            return self.matcher + (f" ({self.max_size} pixels)" if self.max_size else "")
        return f"{self.features} + {self.matcher}"

    @property
    def feature_conf(self) -> dict[str, Any]:
        """Configuration of the local features."""
        return get_conf("extractors", self.features or SPARSE_FEATURES)

    @property
    def matcher_conf(self) -> dict[str, Any]:
        """Configuration of the matcher."""
        conf = find_matcher(self.matcher)
        return conf if self.max_size is None else resized(conf, self.max_size)

    @property
    def obstacle(self) -> str:
        """Why this is left out; nothing is downloaded here. Empty: it is not."""
        missing = [name for name in self.weights if not checkpoint_path(WEIGHTS[name]).exists()]
        if missing:
            return f"no weights on this machine ({', '.join(missing)})"
        if self.needs_gpu and not torch.cuda.is_available():
            return "takes long without a GPU; run it with pipelines.aachen"
        return ""


#: The report is that of the first one.
METHODS = (
    # Larger images take twice the time here and gain little.
    Method("", "kd-mamba", max_size=640),
    Method("sift", "NN-ratio"),
    Method("sift", "NN-mutual"),
    Method("sift", "NN-ratio", "vlad-rootsift-fit"),
    Method("sift", "NN-ratio", "crossvit-student"),
    Method("disk", "NN-mutual", weights=("disk-depth",), needs_gpu=True),
    Method("disk", "disk+lightglue", weights=("disk-depth", "lightglue-disk"), needs_gpu=True),
    Method("aliked-n16", "aliked+lightglue", weights=("aliked-n16", "lightglue-aliked"), needs_gpu=True),
    Method("xfeat", "NN-mutual", weights=("xfeat",), needs_gpu=True),
    Method("", "loftr", weights=("loftr-outdoor",), needs_gpu=True),
)


@dataclass(frozen=True)
class Job:
    """What every method is run on.

    Attributes:
        outputs: folder of all results.
        layout: of the data set.
        queries: by condition.
        truth: true poses of all photos, world→camera.
        args: options of ``pipelines.aachen``.
    """

    outputs: Path
    layout: aachen.Layout
    queries: Mapping[str, list[aachen.Query]]
    truth: Mapping[str, pycolmap.Rigid3d]
    args: argparse.Namespace

    @classmethod
    def of(cls, outputs: Path, dataset: Path, seed: int) -> Job:
        """The job on the data set of the city."""
        options = ["--dataset", dataset, "--outputs", outputs, "--num_covis", NUM_COVIS, "--num_loc", NUM_LOC]
        args = aachen.build_parser().parse_args([str(option) for option in (*options, "--seed", seed)])
        layout = aachen.find_layout(dataset, args.version)
        queries = aachen.read_queries(layout, None)
        names = [name for listed in queries.values() for name, _ in listed]
        return cls(outputs, layout, queries, read_ground_truth(dataset / "ground_truth", names), args)

    def start(self, method: Method, log_name: str) -> Run:
        """A run of a method."""
        return Run.start(
            self.outputs, method.feature_conf, method.matcher_conf, method.retrieval, log_name=log_name
        )


def make_dataset(outputs: Path, size: str, seed: int) -> Path:
    """Photos of the city in Aachen's layout, unless they exist; returns their folder.

    Raises:
        InputError: the extra ``city`` is not installed, or the folder holds another city.
    """
    from hloc_ext.city.generate import generate
    from hloc_ext.city.parallel import available_cores

    dataset = outputs / "city"
    generate("aachen", size, seed, dataset, workers=available_cores())
    return dataset


def compare(job: Job, methods: Sequence[Method]) -> Table:
    """Run methods side by side; print and return their recalls, and why which are left out.

    Features and matches that several methods use are computed once.
    """
    evaluations: dict[tuple[str, str], dict[str, Evaluation]] = {}
    left_out: list[str] = []
    for number, method in enumerate(methods):
        if method.obstacle:
            left_out.append(f"{method.label}: {method.obstacle}")
            continue
        run = job.start(method, f"stages_{number}.json")
        located = aachen.localize(run, job.layout, job.queries, job.args)
        groups = aachen.by_list(located.results, job.queries)
        evaluations[method.label, method.retrieval] = {
            condition: evaluate(group, job.truth, job.args.thresholds) for condition, group in groups.items()
        }
        evaluations.setdefault(("retrieval alone", method.retrieval), {}).update(
            (condition, evaluate(best_retrieved(group, job.truth), job.truth, job.args.thresholds))
            for condition, group in groups.items()
        )
    printed = {f"{' · '.join(key)}: {c}": e for key, by in evaluations.items() for c, e in by.items()}
    print("\n".join([format_table(printed), *(f"left out: {reason}" for reason in left_out)]))
    limits = [f"{position:g} m, {rotation:g}°" for position, rotation in job.args.thresholds]
    headers = ["features + matcher", "retrieval"]
    headers += [f"{condition}: % within {limit}" for condition in job.queries for limit in limits]
    headers += [f"{condition}: median (m)" for condition in job.queries]
    rows: list[list[str | float | None]] = [
        [
            *key,
            *(100 * recall for evaluation in by.values() for recall in evaluation.recall),
            *(evaluation.medians[0] for evaluation in by.values()),
        ]
        for key, by in evaluations.items()
    ]
    note = "All answers count, fallback poses too."
    if left_out:
        note += f" Left out: {'; '.join(left_out)}."
    return Table("Methods side by side", headers, rows, note)


def from_above(
    size: str, seed: int, bounds: tuple[float, float, float, float], pixel_size: float
) -> npt.NDArray[np.uint8]:
    """Ortho picture of the city, see :func:`hloc_ext.city.datasets.aachen.ortho_picture`."""
    from hloc_ext.city.datasets.aachen import ortho_picture

    return ortho_picture(size, seed, bounds, pixel_size)


def draw_overview(job: Job, size: str, seed: int, evaluation: Evaluation) -> Picture:
    """The city from above with the cameras, as ``overview.png``."""
    queries = {name: job.truth[name] for listed in job.queries.values() for name, _ in listed}
    map_poses = {name: pose for name, pose in job.truth.items() if name not in queries}
    centers = projection_centers({**map_poses, **queries})[:, :2]
    low, high = centers.min(axis=0) - MARGIN, centers.max(axis=0) + MARGIN
    pixel_size = max(PIXEL_SIZE, float((high - low).max()) / MAX_PIXELS)
    path = job.outputs / "city" / "from_above.png"
    if not path.exists():
        bounds = float(low[0]), float(low[1]), float(high[0]), float(high[1])
        demo_pictures.save(path, from_above(size, seed, bounds, pixel_size))
    background = demo_pictures.Background(read_image(path), (float(low[0]), float(high[1])), pixel_size)
    image = demo_pictures.overview(background, map_poses, queries, evaluation.errors, evaluation.thresholds)
    demo_pictures.save(job.outputs / "overview.png", image)
    note = "Seen from above, with the true places of the cameras."
    return Picture("The city", job.outputs / "overview.png", note)


def draw_photos(job: Job) -> Picture:
    """Some photos of the map and of each condition, as ``photos.png``."""
    groups = {name: [query for query, _ in listed] for name, listed in job.queries.items()}
    queries = {name for listed in groups.values() for name in listed}
    groups = {"map": [name for name in job.truth if name not in queries], **groups}
    shown = []
    for names in groups.values():
        count = min(NUM_SHOWN, len(names))
        shown += [names[i] for i in np.linspace(0, len(names) - 1, count).round().astype(int)]
    image = demo_pictures.contact_sheet(job.layout.images, shown, columns=NUM_SHOWN)
    demo_pictures.save(job.outputs / "photos.png", image)
    return Picture("Photos", job.outputs / "photos.png", "Rows: map, then queries by day and by night.")


def make_report(job: Job, command: str, size: str, seed: int) -> tuple[Run, ReportData]:
    """Run the first method as ``pipelines.aachen`` does, and draw its pictures."""
    run = job.start(METHODS[0], "stages.json")
    located = aachen.localize(run, job.layout, job.queries, job.args)
    conf = estimator_conf(job.args, run.is_dense)
    run.describe_map(located.sfm_dir, job.layout.images, job.args.num_loc, conf)
    data = aachen.make_report(run, job.layout, job.queries, located, job.truth, job.args)
    assert data.evaluation is not None
    data.title, data.unit = "A procedural city, localized", "m"
    data.facts = facts_of(run, command, conf, city=f"{size}, seed {seed}", **data.facts)
    data.pictures = [draw_overview(job, size, seed, data.evaluation), draw_photos(job)]
    results = aachen.by_list(located.results, job.queries)
    chosen = {
        f"{condition}, {label}": result
        for condition, group in results.items()
        for label, result in pick_queries(group, data.evaluation).items()
    }
    localization_map = LocalizationMap.load(located.sfm_dir)
    data.matches = pictures_of(run, job.layout.images, localization_map, located.matches, chosen)
    for picture in data.matches:
        condition, label = picture.title.split(":")[0].split(", ")
        if label == "best":
            demo_pictures.save(
                job.outputs / f"matches_{condition}.png", draw_matches(picture, max_width=1600)
            )
    errors = {name: [data.evaluation.errors[r.name] for r in group] for name, group in results.items()}
    demo_pictures.save(
        job.outputs / "errors.png", demo_pictures.error_chart(errors, data.evaluation.thresholds)
    )
    return run, data


def main(argv: list[str] | None = None) -> None:
    """Run the demo."""
    args = build_parser().parse_args(argv)
    dataset = make_dataset(args.outputs, args.size, args.seed)
    job = Job.of(args.outputs, dataset, args.seed)
    run, data = make_report(job, command_of(build_parser().prog, argv), args.size, args.seed)
    if not args.quick:
        data.tables = [compare(job, METHODS)]
    finish_report(args.outputs / "report.html", data, run.log)


def build_parser() -> argparse.ArgumentParser:
    """Command line of the demo."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.demo", description=__doc__)
    parser.add_argument("--outputs", type=Path, default=Path("outputs/demo"), help="folder of all results")
    parser.add_argument("--size", choices=["small", "medium", "large"], default="small")
    parser.add_argument("--seed", type=int, default=1, help="another number, another city (default: 1)")
    parser.add_argument("--quick", action="store_true", help="no comparison of methods")
    return parser


if __name__ == "__main__":
    sys.exit(run_pipeline(main))
