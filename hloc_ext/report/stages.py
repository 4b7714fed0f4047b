"""What each stage of a run cost: seconds, peak memory, counts; kept over interrupted and resumed runs."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .. import logger
from ..errors import InputError
from ..formats.atomic import write_text
from .memory import MEBIBYTE, PeakMemory

#: Seconds between two writes of the log while a stage runs, so that a killed run leaves its time.
SAVE_INTERVAL = 10.0


@dataclass
class StageRecord:
    """Cost and outcome of one stage.

    Attributes:
        name: stage, for instance ``extract_features``.
        seconds: wall-clock time; with earlier, interrupted runs of the same stage added.
        peak_mib: largest resident memory of the process and its children, MiB; None if unknown.
        count: what the stage worked on (images, pairs, queries), or None.
        note: remark for the reader.
        state: ``completed``; ``resumed`` (figures of an earlier run, or of several); ``running`` in the
            file of a killed run; ``failed``.
        outputs: names of the files or folders that the stage writes.
    """

    name: str
    seconds: float = 0.0
    peak_mib: float | None = None
    count: int | None = None
    note: str = ""
    state: str = "completed"
    outputs: list[str] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the stage came to its end."""
        return self.state in ("completed", "resumed")


class Stage:
    """The running stage: set :attr:`count` and :attr:`note`, or call :meth:`skip`."""

    def __init__(self, count: int | None, note: str) -> None:
        self.count = count
        self.note = note
        self.skipped = False

    def skip(self) -> None:
        """Say that the stage found all its results in place and computed nothing."""
        self.skipped = True


def _signature(outputs: list[Path]) -> list[tuple[str, int, int]] | None:
    """Name, time and size of every file of the outputs; None when one does not exist."""
    files: list[Path] = []
    for output in outputs:
        if not output.exists():
            return None
        files.extend(sorted(f for f in output.rglob("*") if f.is_file()) if output.is_dir() else [output])
    return [(str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files]


class StageLog:
    """Record of the stages of a run.

    Example:
        >>> log = StageLog(outputs / "stages.json")
        >>> with log.stage("extract_features", count=25, outputs=[features]):
        ...     extract_features.main(...)
        >>> log.print()

    Args:
        path: JSON file to keep the records in, or None. Records of an earlier run are read from it: a
            stage that computes nothing now keeps the figures of the run that did.

    Raises:
        InputError: `path` holds something else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._earlier = {} if self.path is None else _read(self.path)
        self._records: dict[str, StageRecord] = {}
        self._lock = threading.Lock()

    @property
    def records(self) -> list[StageRecord]:
        """Stages entered in this run, in order."""
        return list(self._records.values())

    @contextlib.contextmanager
    def stage(
        self, name: str, count: int | None = None, note: str = "", outputs: Iterable[Path] = ()
    ) -> Iterator[Stage]:
        """Measure the block.

        Args:
            name: stage; the same name in a later run is the same stage.
            count: number of items.
            note: remark.
            outputs: files or folders that the stage writes. When none of them changes, the stage has
                found its results in place, and the figures of the earlier run are kept.

        Yields:
            The running stage.

        Raises:
            InputError: `name` was used in this run already.
        """
        if name in self._records:
            raise InputError(f"Stage '{name}' was recorded already in this run: give it another name.")
        paths = [Path(output) for output in outputs]
        earlier = self._matching(name, paths)
        before = _signature(paths)
        stage = Stage(count, note)
        watch = _Watch(self, name, stage, paths, earlier)
        state = "failed"
        try:
            with watch:
                yield stage
            state = "completed"
        finally:
            in_place = bool(paths) and before is not None and before == _signature(paths)
            stage.skipped = state == "completed" and (stage.skipped or in_place)
            self._finish(watch.record(state), stage.skipped, earlier)

    def _matching(self, name: str, outputs: list[Path]) -> StageRecord | None:
        earlier = self._earlier.get(name)
        return earlier if earlier and earlier.outputs == [output.name for output in outputs] else None

    def _finish(self, record: StageRecord, skipped: bool, earlier: StageRecord | None) -> None:
        if skipped and earlier is not None and earlier.finished:
            record = replace(earlier, state="resumed", count=record.count, note=record.note or earlier.note)
        elif record.finished and (skipped or (earlier is not None and not earlier.finished)):
            record.state = "resumed"
        try:
            self.save(record)
        except OSError as error:
            # The error that ended the stage matters more than the one of its bookkeeping.
            if record.state != "failed":
                raise
            logger.warning("The cost of stage '%s' was not kept: %s", record.name, error)

    def save(self, record: StageRecord) -> None:
        """Set the record of a stage and write the file."""
        with self._lock:
            self._records[record.name] = record
            if self.path is not None:
                stages = [asdict(r) for r in {**self._earlier, **self._records}.values()]
                write_text(self.path, json.dumps({"stages": stages}, ensure_ascii=False, indent=1) + "\n")

    def table(self) -> str:
        """The stages of this run as a text table, with the sum of the seconds."""
        return format_stages(self.records)

    def print(self) -> None:
        """Log :meth:`table`."""
        logger.info("Stages:\n%s", self.table())


class _Watch:
    """Time and memory of a running stage; saves it from time to time."""

    def __init__(
        self, log: StageLog, name: str, stage: Stage, outputs: list[Path], earlier: StageRecord | None
    ) -> None:
        self._log, self._name, self._stage = log, name, stage
        self._outputs = [output.name for output in outputs]
        # Figures of a finished run stay in the file until this run has its own.
        self._keep = earlier is not None and earlier.finished
        self._earlier = None if self._keep else earlier
        self._memory = PeakMemory(on_sample=self._save_running)
        self._start = self._saved = time.perf_counter()

    def __enter__(self) -> None:
        if not self._keep:
            self._log.save(self.record("running"))
        self._memory.__enter__()

    def __exit__(self, *error: object) -> None:
        self._memory.__exit__(None, None, None)

    def record(self, state: str) -> StageRecord:
        """Figures until now, with those of unfinished earlier runs."""
        seconds = time.perf_counter() - self._start
        peak = None if self._memory.peak is None else self._memory.peak / MEBIBYTE
        if self._earlier is not None:
            seconds += self._earlier.seconds
            peaks = [value for value in (peak, self._earlier.peak_mib) if value is not None]
            peak = max(peaks, default=None)
        peak = None if peak is None else round(peak, 1)
        return StageRecord(
            self._name, round(seconds, 3), peak, self._stage.count, self._stage.note, state, self._outputs
        )

    def _save_running(self) -> None:
        if self._keep or time.perf_counter() - self._saved < SAVE_INTERVAL:
            return
        self._saved = time.perf_counter()
        try:
            self._log.save(self.record("running"))
        except OSError as error:
            # Raised again, and shown, by the stage itself or by the save at its end.
            logger.warning("The cost of stage '%s' is not kept: %s", self._name, error)


def _read(path: Path) -> dict[str, StageRecord]:
    if not path.exists():
        return {}
    try:
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        return {stage["name"]: StageRecord(**stage) for stage in stages}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a record of stages ({error}): remove it; only the times of earlier runs are lost."
        ) from error


def format_stages(records: Iterable[StageRecord]) -> str:
    """Records as a text table with a total of the seconds."""
    records = list(records)
    rows = [["stage", "seconds", "peak MiB", "count", "state", "note"]]
    rows += [
        [
            record.name,
            f"{record.seconds:.2f}",
            "-" if record.peak_mib is None else f"{record.peak_mib:.0f}",
            "-" if record.count is None else str(record.count),
            record.state,
            record.note,
        ]
        for record in records
    ]
    rows.append(["total", f"{sum(record.seconds for record in records):.2f}", "", "", "", ""])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    numeric = (1, 2, 3)
    return "\n".join(
        "  ".join(
            cell.rjust(widths[i]) if i in numeric else cell.ljust(widths[i]) for i, cell in enumerate(row)
        ).rstrip()
        for row in rows
    )
