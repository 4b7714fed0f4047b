"""What the pipelines share: stages run in one output folder, measured, and shown in a report."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from hloc_ext import extract_features, localize_sfm, logger, match_dense, match_features, pairs_from_retrieval
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.errors import HlocExtError, InputError
from hloc_ext.evaluation.poses import Evaluation, evaluate, format_table
from hloc_ext.formats.atomic import make_dir, write_text
from hloc_ext.formats.colmap import model_files, read_model
from hloc_ext.formats.features import FeatureReader
from hloc_ext.formats.h5 import list_names
from hloc_ext.formats.lists import parse_camera
from hloc_ext.formats.matches import MatchReader
from hloc_ext.formats.pairs import Pair, write_pairs
from hloc_ext.formats.results import QueryResult
from hloc_ext.host import get_conf
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.localizer import MapDescription
from hloc_ext.pose_estimation import EstimatorConf, reprojection_errors
from hloc_ext.report import MatchPicture, ReportData, pick_queries, write_report
from hloc_ext.report.stages import StageLog

Conf = dict[str, Any]


@dataclass
class Run:
    """One run of a pipeline: its folder, configurations and measurements.

    Attributes:
        outputs: folder of all results.
        feature_conf: local features; not used with a semi-dense matcher.
        matcher_conf: sparse or semi-dense matcher.
        retrieval_conf: global descriptor.
        log: costs of the stages.
        mask_dir: folder of masks ``NAME.png``, or None.
    """

    outputs: Path
    feature_conf: Conf
    matcher_conf: Conf
    retrieval_conf: Conf
    log: StageLog
    mask_dir: Path | None = None

    @classmethod
    def start(
        cls, outputs: Path, features: str, matcher: str, retrieval: str, mask_dir: Path | None = None
    ) -> Run:
        """Look the configurations up, ours or HLOC's, and create the output folder."""
        return cls(
            make_dir(Path(outputs)),
            get_conf("extractors", features),
            find_matcher(matcher),
            get_conf("extractors", retrieval),
            StageLog(Path(outputs) / "stages.json"),
            mask_dir,
        )

    @property
    def is_dense(self) -> bool:
        """Whether the matcher is semi-dense and so needs no extracted features."""
        return "max_error" in self.matcher_conf

    @property
    def features(self) -> Path:
        """Feature file of the local features."""
        if self.is_dense:
            return self.outputs / f"feats_{self.matcher_conf['output']}.h5"
        return self.outputs / f"{self.feature_conf['output']}.h5"

    @property
    def global_descriptors(self) -> Path:
        """Feature file of the global descriptors."""
        return self.outputs / f"{self.retrieval_conf['output']}.h5"

    @property
    def name(self) -> str:
        """Method in file names, for instance ``feats-sift_matches-NN-mutual-ratio.8``."""
        output = self.matcher_conf["output"]
        return output if self.is_dense else f"{self.feature_conf['output']}_{output}"

    def extract_local(self, image_dir: Path, names: Sequence[str], label: str) -> None:
        """Extract local features (nothing to do for a semi-dense matcher)."""
        if not self.is_dense:
            self._extract("local features", self.feature_conf, self.features, image_dir, names, label)

    def extract_global(self, image_dir: Path, names: Sequence[str], label: str) -> None:
        """Extract global descriptors."""
        self._extract(
            "global descriptors", self.retrieval_conf, self.global_descriptors, image_dir, names, label
        )

    def _extract(
        self, what: str, conf: Conf, path: Path, image_dir: Path, names: Sequence[str], label: str
    ) -> None:
        with self.log.stage(f"{what}, {label}", count=len(names), outputs=[path]):
            mask_dir = self.mask_dir if "local" in what else None
            extract_features.main(
                conf, image_dir, image_list=names, feature_path=path, mask_dir=mask_dir, skip_unreadable=True
            )

    def readable(self, names: Sequence[str]) -> list[str]:
        """Those of `names` whose global descriptors exist, that is, whose image could be read."""
        stored = set(list_names(self.global_descriptors))
        return [name for name in names if name in stored]

    def match(self, image_dir: Path, pairs: Path, label: str, localization: bool = False) -> Path:
        """Match the pairs of a list; returns the match file."""
        num_pairs = sum(1 for line in pairs.read_text(encoding="utf-8").splitlines() if line)
        matches = self.outputs / f"{self.name}_{pairs.stem}.h5"
        with self.log.stage(f"matches, {label}", count=num_pairs, outputs=[matches]):
            if self.is_dense:
                match_dense.main(
                    self.matcher_conf,
                    pairs,
                    image_dir,
                    matches=matches,
                    features=self.features,
                    features_ref=self.features if localization else None,
                    max_kps=None if localization else 8192,
                    mask_dir=self.mask_dir,
                )
            else:
                match_features.main(self.matcher_conf, pairs, self.features, matches=matches)
        return matches

    def retrieve(
        self, queries: Sequence[str], map_names: Sequence[str], num_loc: int, **options: Any
    ) -> Path:
        """Retrieve the `num_loc` most similar map images of each query; returns the list of pairs."""
        output = self.outputs / f"pairs-query-{self.retrieval_conf['output']}-{num_loc}.txt"
        num_loc = min(num_loc, len(map_names))
        with self.log.stage("retrieval", count=len(queries), outputs=[output]):
            pairs_from_retrieval.main(
                self.global_descriptors, output, num_loc, query_list=queries, db_list=map_names, **options
            )
        return output

    def build_once(
        self, name: str, sfm_dir: Path, inputs: Mapping[str, Any], build: Callable[[], Any], count: int
    ) -> pycolmap.Reconstruction:
        """Build a model unless `sfm_dir` holds one that was built from the same inputs.

        Args:
            name: stage.
            sfm_dir: folder of the model.
            inputs: what the model depends on (JSON values; files are compared by size and time).
            build: makes the model.
            count: images.
        """
        stamp_path = sfm_dir / "inputs.json"
        stamp = json.dumps({key: _fingerprint(value) for key, value in inputs.items()}, indent=1)
        with self.log.stage(name, count=count, outputs=[sfm_dir / "points3D.bin"]):
            is_same = stamp_path.exists() and stamp_path.read_text(encoding="utf-8") == stamp
            if not (is_same and model_files(sfm_dir)):
                stamp_path.unlink(missing_ok=True)
                build()
                write_text(stamp_path, stamp)
            else:
                logger.info("The model in %s is up to date.", sfm_dir)
        return read_model(sfm_dir)

    def localize(
        self,
        sfm_dir: Path,
        queries: Sequence[tuple[str, pycolmap.Camera]],
        retrieval: Path,
        matches: Path,
        results: Path,
        conf: EstimatorConf,
        **options: Any,
    ) -> list[QueryResult]:
        """Localize the queries and write the results."""
        with self.log.stage(f"localization, {results.stem}", count=len(queries)):
            return localize_sfm.main(
                LocalizationMap.load(sfm_dir),
                queries,
                retrieval,
                self.features,
                matches,
                results,
                conf.ransac_thresh,
                estimator=conf.estimator,
                min_inliers=conf.min_inliers,
                min_inlier_ratio=conf.min_inlier_ratio,
                refine_focal=conf.refine_focal,
                seed=conf.seed,
                **options,
            )

    def describe_map(self, sfm_dir: Path, num_loc: int, conf: EstimatorConf) -> None:
        """Write ``map.json``, with which :class:`~hloc_ext.localizer.Localizer` opens the map."""
        estimator = {key: value for key, value in conf.describe().items() if key != "version"}
        MapDescription(
            sfm=sfm_dir.relative_to(self.outputs).as_posix(),
            features=self.features.name,
            feature_conf=self.feature_conf,
            matcher_conf=self.matcher_conf,
            global_descriptors=self.global_descriptors.name,
            retrieval_conf=self.retrieval_conf,
            num_loc=num_loc,
            estimator=estimator,
        ).write(self.outputs)


def _fingerprint(value: Any) -> Any:
    if isinstance(value, Path):
        files = model_files(value) if value.is_dir() else [value]
        stats = [file.stat() for file in files]
        return [value.name, [[s.st_size, s.st_mtime_ns] for s in stats]]
    if isinstance(value, (list, tuple)) and len(value) > 20:
        return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()
    return value


def find_matcher(name: str) -> Conf:
    """Configuration of a sparse or semi-dense matcher, ours or HLOC's.

    Raises:
        InputError: no such configuration of either kind.
    """
    try:
        return get_conf("matchers", name)
    except InputError as sparse_error:
        try:
            return get_conf("dense_matchers", name)
        except InputError:
            raise sparse_error from None


def evaluate_and_print(
    results: Sequence[QueryResult] | Mapping[str, Sequence[QueryResult]],
    ground_truth: Mapping[str, pycolmap.Rigid3d],
    thresholds: Sequence[tuple[float, float]],
) -> Evaluation:
    """Evaluate all queries, and each named group of them; print the table."""
    groups = results if isinstance(results, Mapping) else {"queries": results}
    evaluations = {name: evaluate(list(group), ground_truth, thresholds) for name, group in groups.items()}
    print(format_table(evaluations))
    return evaluate([r for group in groups.values() for r in group], ground_truth, thresholds)


def match_pictures(
    run: Run,
    image_of: Callable[[str], Path],
    localization_map: LocalizationMap,
    matches: Path,
    results: Sequence[QueryResult],
    evaluation: Evaluation | None,
) -> list[MatchPicture]:
    """Matches of the best, the median and the worst query with the map image that supports them most."""
    pictures = []
    with FeatureReader(run.features) as features, MatchReader(matches) as reader:
        for label, result in pick_queries(list(results), evaluation).items():
            candidates = [
                _picture(label, result, name, image_of, localization_map, features, reader)
                for name in result.retrieved[:5]
            ]
            pictures.append(max(candidates, key=lambda p: (p.inliers.sum(), len(p.inliers))))
    return pictures


def _picture(
    label: str,
    result: QueryResult,
    map_name: str,
    image_of: Callable[[str], Path],
    localization_map: LocalizationMap,
    features: FeatureReader,
    reader: MatchReader,
) -> MatchPicture:
    pairs, _ = reader.get(result.name, map_name)
    points0, points1 = features.keypoints(result.name)[pairs[:, 0]], features.keypoints(map_name)[pairs[:, 1]]
    rows = localization_map.rows_of(localization_map.index[map_name])[pairs[:, 1]]
    inliers = np.zeros(len(pairs), bool)
    pose = result.cam_from_world
    if pose is not None and result.status.value == "localized" and (rows >= 0).any():
        camera = parse_camera(result.camera.split(), result.name)
        points3D = localization_map.points[rows[rows >= 0]]
        errors = reprojection_errors(pose, camera, points0[rows >= 0] + 0.5, points3D)
        inliers[rows >= 0] = errors <= result.estimator["ransac_thresh"]
    title = f"{label}: {result.name} – {map_name} ({result.status.value}, {inliers.sum()} of {len(pairs)} matches)"
    return MatchPicture(title, image_of(result.name), image_of(map_name), points0, points1, inliers)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that all pipelines share."""
    parser.add_argument("--outputs", type=Path, required=True, help="folder of all results")
    parser.add_argument("--features", default="sift", help="local features: a conf of ours or of HLOC")
    parser.add_argument("--matcher", default="NN-ratio", help="sparse or semi-dense matcher, ours or HLOC's")
    parser.add_argument("--retrieval", default="vlad-rootsift", help="global descriptor, ours or HLOC's")
    parser.add_argument("--mask_dir", type=Path, help="masks NAME.png; black pixels are ignored")
    parser.add_argument("--ground_truth", type=Path, help="COLMAP model with the true poses of the queries")
    parser.add_argument(
        "--thresholds",
        nargs="+",
        default=["0.25,2", "0.5,5", "5,10"],
        help="position (map units) and rotation (degrees) of the recall columns",
    )
    localize_sfm.add_estimator_arguments(parser)


def estimator_conf(args: argparse.Namespace) -> EstimatorConf:
    """Estimator options from the command line."""
    return EstimatorConf(
        args.estimator, args.ransac_thresh, args.min_inliers, args.min_inlier_ratio, args.refine_focal, args.seed
    )


def facts_of(run: Run, conf: EstimatorConf, **more: str) -> dict[str, str]:
    """What a reader of the report must know to repeat the run."""
    return {
        "command": shlex.join(["python", "-m", Path(sys.argv[0]).stem, *sys.argv[1:]]),
        "features": "-" if run.is_dense else run.feature_conf["output"],
        "matcher": run.matcher_conf["output"],
        "retrieval": run.retrieval_conf["output"],
        "estimator": ", ".join(f"{key} {value}" for key, value in conf.describe().items() if value != {}),
        "processors": str(os.cpu_count()),
        **more,
    }


def finish_report(path: Path, data: ReportData, log: StageLog) -> None:
    """Write the report and print the table of the stages."""
    data.stages = log.records
    write_report(path, data)
    log.print()
    print(f"Report: {path}")


def run_pipeline(main: Callable[[list[str] | None], None], argv: list[str] | None = None) -> int:
    """Run a pipeline's `main`; an error that a user can act on is printed without a traceback."""
    allow_cpu_torchvision()
    try:
        main(argv)
    except HlocExtError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def write_named_pairs(path: Path, pairs: Sequence[Pair]) -> Path:
    """Write a list of pairs unless it is there unchanged; returns the path."""
    text = "\n".join(f"{a} {b}" for a, b in pairs)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_pairs(path, pairs)
    return path
