"""What the pipelines share: stages run in one output folder, measured, and resumed."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pycolmap
import torch

from hloc_ext import extract_features, localize_sfm, logger, match_dense, match_features, pairs_from_retrieval
from hloc_ext.compat import allow_cpu_torchvision
from hloc_ext.confs import DEFAULT_MATCHER, DEFAULT_RETRIEVAL, SPARSE_FEATURES, SPARSE_MATCHER
from hloc_ext.errors import CorruptFileError, HlocExtError, InputError, MissingInputError
from hloc_ext.evaluation.poses import BENCHMARK_THRESHOLDS, parse_threshold
from hloc_ext.formats.atomic import explaining, make_dir, write_text
from hloc_ext.formats.colmap import model_files, read_model
from hloc_ext.formats.h5 import list_names, record_key, recover
from hloc_ext.formats.lists import format_camera
from hloc_ext.formats.pairs import read_pairs
from hloc_ext.formats.results import QueryResult, Status, read_log
from hloc_ext.host import get_conf
from hloc_ext.localization_map import LocalizationMap
from hloc_ext.localizer import MapDescription
from hloc_ext.pose_estimation import DENSE_MIN_INLIER_CELLS, EstimatorConf
from hloc_ext.report.stages import StageLog

Conf = dict[str, Any]

#: So many pairs take a semi-dense matcher minutes without a GPU, and are announced.
MANY_PAIRS = 200


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
        cls,
        outputs: Path,
        features: str | Conf | None,
        matcher: str | Conf | None,
        retrieval: str,
        mask_dir: Path | None = None,
        log_name: str = "stages.json",
        resize_max: int | None = None,
    ) -> Run:
        """Look the configurations up, ours or HLOC's, and create the output folder.

        Args:
            outputs: folder of all results.
            features, matcher, retrieval: names of configurations, or (the first two) such. Without
                `matcher` features are matched by ratio test, and without both the semi-dense matcher of
                :data:`~hloc_ext.confs.DEFAULT_MATCHER` runs.
            mask_dir: folder of masks, or None.
            log_name: file in `outputs` that keeps the costs: another for each of several runs there.
            resize_max: longest side of the images that are matched, pixels; None: as configured.

        Raises:
            InputError: an unknown configuration.
            MissingInputError: there is no folder of masks.
            UnwritableError: the output folder cannot be made.
        """
        matcher = matcher or (DEFAULT_MATCHER if features is None else SPARSE_MATCHER)
        features = features or SPARSE_FEATURES
        matcher_conf = find_matcher(matcher) if isinstance(matcher, str) else matcher
        feature_conf, retrieval_conf = get_conf("extractors", features), get_conf("extractors", retrieval)
        if resize_max is not None and "max_error" in matcher_conf:
            matcher_conf = resized(matcher_conf, resize_max)
        elif resize_max is not None:
            feature_conf = resized(feature_conf, resize_max)
        if mask_dir is not None and not mask_dir.is_dir():
            raise MissingInputError(f"`--mask_dir` {mask_dir} is no folder.")
        remove_leftovers(make_dir(outputs))
        log = StageLog(outputs / log_name)
        return cls(outputs, feature_conf, matcher_conf, retrieval_conf, log, mask_dir)

    @classmethod
    def of(cls, args: argparse.Namespace) -> Run:
        """Start the run of a command line with :func:`add_common_arguments`; errors as of :meth:`start`."""
        names = ("outputs", "features", "matcher", "retrieval", "mask_dir", "resize_max")
        return cls.start(**{name: getattr(args, name) for name in names})

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

    @property
    def method(self) -> str:
        """:attr:`name` and the retrieval: all that results depend on."""
        return f"{self.name}_{self.retrieval_conf['output']}"

    def extract(
        self, image_dir: Path, names: Sequence[str], label: str, skip_unreadable: bool = True
    ) -> list[str]:
        """Extract global descriptors and, unless the matcher is semi-dense, local features.

        Args:
            image_dir: folder of the images.
            names: images.
            label: what they are, in the names of the stages.
            skip_unreadable: warn about unreadable images instead of raising after all others are done.

        Returns:
            Those of `names` that could be read.

        Raises:
            MissingInputError: an image does not exist.
            CorruptFileError: images, or all of them, cannot be read.
            InputError: images have changed since their features were extracted.
        """
        self._check_unchanged(image_dir, names)
        if self.mask_dir is not None and not any(map(self._mask_size, names)):
            expected = self.mask_dir / f"{names[0]}.png"
            logger.warning("No image (%s) has a mask: expected for instance %s.", label, expected)
        stages: list[tuple[str, Conf, Path, Path | None]] = [
            ("global descriptors", self.retrieval_conf, self.global_descriptors, None)
        ]
        if not self.is_dense:
            stages.append(("local features", self.feature_conf, self.features, self.mask_dir))
        readable = list(names)
        for what, conf, path, mask_dir in stages:
            with self.log.stage(f"{what}, {label}", count=len(readable), outputs=[path]):
                extract_features.main(
                    conf,
                    image_dir,
                    image_list=readable,
                    feature_path=path,
                    mask_dir=mask_dir,
                    skip_unreadable=skip_unreadable,
                )
            stored = _stored(path)
            readable = [name for name in readable if record_key(name) in stored]
            if not readable:
                raise CorruptFileError(
                    f"None of the {len(names)} images ({label}) in {image_dir} can be read."
                )
        return readable

    def _check_unchanged(self, image_dir: Path, names: Sequence[str]) -> None:
        """Refuse to go on with features of images that have been replaced, or of other masks."""
        path = self.outputs / "images.json"
        known = _read_object(path) if path.exists() else {}
        sizes = {name: [_size(image_dir / name), self._mask_size(name)] for name in names}
        stored = _stored(self.global_descriptors)
        changed = [
            name
            for name in names
            if record_key(name) in stored and known.get(name, sizes[name]) != sizes[name]
        ]
        if changed:
            name = changed[0]
            raise InputError(
                f"{self.outputs} holds features of {len(changed)} image(s) that have changed since, for"
                f" instance '{name}' in {image_dir}: the bytes of the image and of its mask were"
                f" {known[name]} and are {sizes[name]}. Choose another output folder, or delete this one."
            )
        if known | sizes != known:
            write_text(path, json.dumps(known | sizes, ensure_ascii=False, indent=0) + "\n")

    def _mask_size(self, name: str) -> int:
        return 0 if self.mask_dir is None else _size(self.mask_dir / f"{name}.png")

    def match(self, image_dir: Path, pairs: Path, label: str, localization: bool = False) -> Path:
        """Match the pairs of a list; returns the match file."""
        matches = self.outputs / f"{self.name}_{pairs.stem}.h5"
        count = len(read_pairs(pairs))
        if self.is_dense and count > MANY_PAIRS and not torch.cuda.is_available():
            logger.info(
                "%d pairs by a semi-dense matcher without a GPU take minutes; `--resize_max 640` and"
                " `--features sift` are quicker.",
                count,
            )
        with self.log.stage(f"matches, {label}", count=count, outputs=[matches]):
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
        with (
            self.log.stage("retrieval", count=len(queries), outputs=[output]),
            kept_if_same(output) as written,
        ):
            pairs_from_retrieval.main(
                self.global_descriptors,
                written,
                num_loc,
                query_list=queries,
                db_list=map_names,
                min_score=None,
                **options,
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
        with (
            self.log.stage(name, count=count, outputs=[sfm_dir / "points3D.bin"]) as stage,
            unless_done(sfm_dir / "inputs.json", inputs, lambda: bool(model_files(sfm_dir))) as done,
        ):
            if done:
                logger.info("The model in %s is up to date.", sfm_dir)
            else:
                remove_leftovers(sfm_dir)
                build()
            model = read_model(sfm_dir)
            stage.note = f"{model.num_reg_images()} images, {model.num_points3D()} points"
        return model

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
        """Localize the queries and write the results, unless they are there, made from the same inputs."""
        log = Path(f"{results}_logs.jsonl")
        settings = asdict(conf)
        inputs = {
            "model": sfm_dir,
            "queries": [[name, format_camera(camera)] for name, camera in queries],
            "retrieval": read_pairs(retrieval),
            "matches": matches,
            "estimator": conf.describe(),
            "options": options,
        }
        done_path = results.with_suffix(".inputs.json")
        with (
            self.log.stage("localization", count=len(queries), outputs=[results, log]) as stage,
            unless_done(done_path, inputs, lambda: results.exists() and log.exists()) as done,
        ):
            if done:
                logger.info("The results in %s are up to date.", results)
                outcomes = read_log(log)
            else:
                outcomes = localize_sfm.main(
                    LocalizationMap.load(sfm_dir),
                    queries,
                    retrieval,
                    self.features,
                    matches,
                    results,
                    config=settings.pop("options"),
                    **settings,
                    **options,
                )
            stage.note = f"{sum(o.status is Status.LOCALIZED for o in outcomes)} localized"
        return outcomes

    def describe_map(self, sfm_dir: Path, image_dir: Path, num_loc: int, conf: EstimatorConf) -> None:
        """Write ``map.json``, with which :class:`~hloc_ext.localizer.Localizer` opens the map."""
        MapDescription(
            sfm=sfm_dir.relative_to(self.outputs).as_posix(),
            features=self.features.name,
            feature_conf=self.feature_conf,
            matcher_conf=self.matcher_conf,
            global_descriptors=self.global_descriptors.name,
            retrieval_conf=self.retrieval_conf,
            num_loc=num_loc,
            estimator=asdict(conf),
            images=os.path.relpath(image_dir, self.outputs),
        ).write(self.outputs)


def _stored(path: Path) -> set[str]:
    """Names of the records of a feature file, with those that an interrupted run left beside it."""
    recover(path)
    return set(list_names(path)) if path.exists() else set()


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).items())
    except (ValueError, AttributeError) as error:
        raise CorruptFileError(f"{path} is damaged ({error}): delete it.") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and models that a killed run left in its folder."""
    for pattern in (".*.*.tmp", ".model-*"):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


@contextlib.contextmanager
def kept_if_same(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it replaces `path`, unless both have the same content.

    The time of `path` then tells when its content changed.
    """
    written = path.with_name(f".{path.name}.new")
    try:
        yield written
        with explaining(path):
            if not (path.exists() and path.read_bytes() == written.read_bytes()):
                written.replace(path)
    finally:
        written.unlink(missing_ok=True)


@contextlib.contextmanager
def unless_done(stamp_path: Path, inputs: Mapping[str, Any], exists: Callable[[], bool]) -> Iterator[bool]:
    """Tell whether outputs exist that were made from the same inputs; note the inputs of new ones.

    Args:
        stamp_path: file in which the inputs are noted, removed while the outputs are made.
        inputs: JSON values, and paths of files or COLMAP models, which are compared by size and time.
        exists: whether all outputs exist.

    Yields:
        Whether there is nothing to do.
    """
    stamp = json.dumps({key: _fingerprint(value) for key, value in inputs.items()}, indent=1)
    if stamp_path.exists() and stamp_path.read_text(encoding="utf-8") == stamp and exists():
        yield True
        return
    with explaining(stamp_path):
        stamp_path.unlink(missing_ok=True)
    yield False
    write_text(stamp_path, stamp)


def _fingerprint(value: Any) -> Any:
    if isinstance(value, Path):
        files = model_files(value) if value.is_dir() else [value]
        stats = [file.stat() for file in files]
        return [value.name, [[s.st_size, s.st_mtime_ns] for s in stats]]
    if isinstance(value, (list, tuple)) and len(value) > 20:
        return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()
    return value


def resized(conf: Conf, longest: int) -> Conf:
    """The configuration for images with a longest side of at most so many pixels, with files of its own."""
    preprocessing = {**conf["preprocessing"], "resize_max": longest}
    return {**conf, "output": f"{conf['output']}-{longest}", "preprocessing": preprocessing}


def find_matcher(name: str) -> Conf:
    """Configuration of a sparse or semi-dense matcher, ours or HLOC's.

    Raises:
        InputError: no such configuration of either kind.
    """
    errors = []
    for kind in ("matchers", "dense_matchers"):
        try:
            return get_conf(kind, name)
        except InputError as error:
            errors.append(str(error))
    raise InputError("\n".join(errors))


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that all pipelines share."""
    parser.add_argument("--outputs", type=Path, required=True, help="folder of all results")
    parser.add_argument("--features", help="local features, ours or HLOC's; none: a semi-dense matcher")
    parser.add_argument(
        "--matcher",
        help=f"sparse or semi-dense matcher, ours or HLOC's (default: {DEFAULT_MATCHER}; {SPARSE_MATCHER} for"
        " `--features`)",
    )
    parser.add_argument("--retrieval", default=DEFAULT_RETRIEVAL, help="global descriptor, ours or HLOC's")
    parser.add_argument(
        "--resize_max", type=positive, metavar="PIXELS", help="longest side of the images that are matched"
    )
    parser.add_argument("--mask_dir", type=Path, help="masks NAME.png; black pixels are ignored")
    parser.add_argument("--ground_truth", type=Path, help="COLMAP model with the true poses of the queries")
    parser.add_argument(
        "--thresholds",
        type=parse_threshold,
        nargs="+",
        default=list(BENCHMARK_THRESHOLDS),
        metavar="POSITION,DEGREES",
        help="recall columns, position in map units (default: 0.25,2 0.5,5 5,10)",
    )
    localize_sfm.add_estimator_arguments(parser)
    parser.set_defaults(min_inlier_cells=None)


def positive(text: str) -> int:
    """Parse a whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above zero")
    return int(text)


def estimator_conf(args: argparse.Namespace, is_dense: bool) -> EstimatorConf:
    """Estimator options from the command line.

    Args:
        args: parsed options of :func:`add_common_arguments`.
        is_dense: whether the matcher is semi-dense, for the default of ``min_inlier_cells``.
    """
    names = {field.name for field in fields(EstimatorConf)} & vars(args).keys()
    values = {name: getattr(args, name) for name in names}
    if values["min_inlier_cells"] is None:
        values["min_inlier_cells"] = DENSE_MIN_INLIER_CELLS if is_dense else EstimatorConf.min_inlier_cells
    return EstimatorConf(**values)


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
